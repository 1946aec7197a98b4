#include "tcpip/network.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <system_error>

namespace tcpip {
namespace {

using Bytes = std::array<std::uint8_t, 16>;

constexpr Bytes kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr int kMappedBits = 96;

bool is_mapped(const Bytes& bytes) noexcept {
  return std::equal(kMapped.begin(), kMapped.begin() + kMappedBits / 8,
                    bytes.begin());
}

Bytes mapped(const in_addr& address) noexcept {
  Bytes bytes = kMapped;
  std::memcpy(bytes.data() + kMappedBits / 8, &address, sizeof address);
  return bytes;
}

std::optional<Bytes> bytes_of(const Address& address) noexcept {
  const auto* const raw = static_cast<const std::byte*>(address.data());
  if (address.family() == AddressFamily::kIpv4) {
    in_addr ip{};
    std::memcpy(&ip, raw + offsetof(sockaddr_in, sin_addr), sizeof ip);
    return mapped(ip);
  }
  if (address.family() == AddressFamily::kIpv6) {
    Bytes bytes{};
    std::memcpy(bytes.data(), raw + offsetof(sockaddr_in6, sin6_addr),
                bytes.size());
    return bytes;
  }
  return std::nullopt;
}

// True if the first `bits` bits are the same.
bool agree(const Bytes& a, const Bytes& b, int bits) noexcept {
  const auto whole = static_cast<std::size_t>(bits / 8);
  if (!std::equal(a.begin(), a.begin() + bits / 8, b.begin())) return false;
  const int rest = bits % 8;
  return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

Bytes without_last_bits(Bytes bytes, int bits) noexcept {
  for (int i = bits; i < 128; ++i) {
    bytes[static_cast<std::size_t>(i / 8)] &=
        static_cast<std::uint8_t>(~(0x80 >> (i % 8)));
  }
  return bytes;
}

[[noreturn]] void refuse(std::string_view text, const char* why) {
  throw std::invalid_argument(fmt::format("network {}: {}", text, why));
}

}  // namespace

Network::Network(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::string host(text.substr(0, slash));
  in_addr ipv4{};
  const bool is_ipv4 = ::inet_pton(AF_INET, host.c_str(), &ipv4) == 1;
  if (is_ipv4) {
    bytes_ = mapped(ipv4);
  } else if (::inet_pton(AF_INET6, host.c_str(), bytes_.data()) != 1) {
    refuse(text, "not a numeric address");
  }
  if (host.find('\0') != std::string::npos) refuse(text, "it contains a NUL");
  const int most = is_ipv4 ? 32 : 128;
  int bits = most;
  if (slash != std::string_view::npos) {
    const std::string_view number = text.substr(slash + 1);
    const char* const end = number.data() + number.size();
    const auto [parsed, error] = std::from_chars(number.data(), end, bits);
    if (error != std::errc() || parsed != end || bits < 0 || bits > most) {
      refuse(text, is_ipv4 ? "the number of bits is not in 0...32"
                           : "the number of bits is not in 0...128");
    }
  }
  bits_ = is_ipv4 ? bits + kMappedBits : bits;
  if (without_last_bits(bytes_, bits_) != bytes_) {
    refuse(text, "bits are set behind those that count");
  }
}

bool Network::contains(const Address& address) const noexcept {
  const std::optional<Bytes> bytes = bytes_of(address);
  if (!bytes) return false;
  // "::/0" is all of IPv6, and not all of IPv4 too.
  const bool is_ipv4 = bits_ >= kMappedBits && is_mapped(bytes_);
  return is_mapped(*bytes) == is_ipv4 && agree(*bytes, bytes_, bits_);
}

std::string Network::to_string() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool is_ipv4 = bits_ >= kMappedBits && is_mapped(bytes_);
  const std::uint8_t* const from =
      is_ipv4 ? bytes_.data() + kMappedBits / 8 : bytes_.data();
  ::inet_ntop(is_ipv4 ? AF_INET : AF_INET6, from, text.data(), text.size());
  return fmt::format("{}/{}", text.data(),
                     is_ipv4 ? bits_ - kMappedBits : bits_);
}

}  // namespace tcpip
