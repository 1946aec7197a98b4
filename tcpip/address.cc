#include "tcpip/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/net/lookup.h"

namespace tcpip {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";

template <class Sockaddr>
Sockaddr as(const Address& address) noexcept {
  Sockaddr result{};
  std::memcpy(&result, address.data(), std::min(sizeof result, address.size()));
  return result;
}

int raw_family(const Address& address) noexcept {
  return address.empty() ? AF_UNSPEC
                         : static_cast<int>(as<sockaddr>(address).sa_family);
}

// The address that "unix:..." stands for.
Address unix_address(std::string_view host, int port) {
  const std::string_view name = host.substr(kUnixPrefix.size());
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  constexpr std::size_t kRoom = sizeof un.sun_path;
  if (port != 0) {
    throw std::invalid_argument(
        fmt::format("resolve: port {} for {}, which has no port", port, host));
  }
  if (name.empty() || name == "@") {
    throw std::invalid_argument(
        fmt::format("resolve: {} without a path or a name", host));
  }
  if (name.size() > kRoom) {
    throw std::invalid_argument(fmt::format(
        "resolve: {} is too long: {} bytes behind \"unix:\" instead "
        "of {} at most",
        host, name.size(), kRoom));
  }
  std::memcpy(un.sun_path, name.data(), name.size());
  std::size_t used = name.size();
  if (name.front() == '@') {
    un.sun_path[0] = '\0';
  } else if (used < kRoom) {
    ++used;  // the NUL
  }
  return Address(&un, offsetof(sockaddr_un, sun_path) + used);
}

}  // namespace

Address::Address(const void* sockaddr, std::size_t size) : size_(size) {
  if (size > storage_.size()) {
    throw std::invalid_argument("Address: a sockaddr of more than 128 bytes");
  }
  if (size > 0) std::memcpy(storage_.data(), sockaddr, size);
}

std::string Address::host() const {
  char text[INET6_ADDRSTRLEN] = "";
  switch (raw_family(*this)) {
    case AF_INET: {
      const auto in = as<sockaddr_in>(*this);
      ::inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
      return text;
    }
    case AF_INET6: {
      const auto in = as<sockaddr_in6>(*this);
      ::inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
      std::string result = text;
      if (in.sin6_scope_id != 0) {
        char name[IF_NAMESIZE] = "";
        result += '%';
        result += ::if_indextoname(in.sin6_scope_id, name) != nullptr
                      ? std::string(name)
                      : std::to_string(in.sin6_scope_id);
      }
      return result;
    }
    case AF_UNIX: {
      const auto un = as<sockaddr_un>(*this);
      const std::size_t start = offsetof(sockaddr_un, sun_path);
      if (size_ <= start) return {};
      // For a path that fills sun_path the kernel counts a NUL behind it.
      const std::size_t room = std::min(size_ - start, sizeof un.sun_path);
      if (un.sun_path[0] != '\0') {
        return std::string(un.sun_path, ::strnlen(un.sun_path, room));
      }
      // In an abstract name every byte counts. A sockaddr_un that is all NUL
      // is none.
      std::string name(un.sun_path, room);
      if (name.find_first_not_of('\0') == std::string::npos) return {};
      std::replace(name.begin(), name.end(), '\0', '@');
      return name;
    }
    default:
      return {};
  }
}

std::uint16_t Address::port() const noexcept {
  switch (raw_family(*this)) {
    case AF_INET:
      return ntohs(as<sockaddr_in>(*this).sin_port);
    case AF_INET6:
      return ntohs(as<sockaddr_in6>(*this).sin6_port);
    default:
      return 0;
  }
}

void Address::set_port(std::uint16_t port) noexcept {
  const auto put = [this](auto in, auto member, std::uint16_t value) {
    in.*member = htons(value);
    std::memcpy(storage_.data(), &in, sizeof in);
  };
  if (raw_family(*this) == AF_INET) {
    put(as<sockaddr_in>(*this), &sockaddr_in::sin_port, port);
  } else if (raw_family(*this) == AF_INET6) {
    put(as<sockaddr_in6>(*this), &sockaddr_in6::sin6_port, port);
  }
}

AddressFamily Address::family() const noexcept {
  switch (raw_family(*this)) {
    case AF_INET:
      return AddressFamily::kIpv4;
    case AF_INET6:
      return AddressFamily::kIpv6;
    case AF_UNIX:
      return AddressFamily::kUnix;
    default:
      return AddressFamily::kAny;
  }
}

std::string Address::to_string() const {
  if (empty()) return {};
  if (family() != AddressFamily::kUnix) return host_and_port(host(), port());
  const std::string path = host();
  return path.empty() ? "unix socket" : path;
}

bool Address::operator==(const Address& other) const noexcept {
  return size_ == other.size_ && std::memcmp(data(), other.data(), size_) == 0;
}

std::vector<Address> resolve(std::string_view host, int port, const Wait& wait,
                             AddressFamily family, EmptyHost empty_host) {
  if (port < 0 || port > 65535) {
    throw std::invalid_argument(
        fmt::format("resolve: port {} is not in 0...65535", port));
  }
  if (host.find('\0') != std::string_view::npos) {
    throw std::invalid_argument("resolve: host name with a NUL byte");
  }
  const bool is_unix = host.starts_with(kUnixPrefix);
  if (family != AddressFamily::kAny &&
      is_unix != (family == AddressFamily::kUnix)) {
    throw std::invalid_argument(
        fmt::format("resolve: \"{}\" is {}a Unix-domain socket, and the family "
                    "excludes that",
                    host, is_unix ? "" : "not "));
  }
  if (is_unix) return {unix_address(host, port)};
  const std::string peer = host_and_port(host, port);
  internal::LookupRequest request{
      .host = std::string(host),
      .family = family == AddressFamily::kIpv4   ? AF_INET
                : family == AddressFamily::kIpv6 ? AF_INET6
                                                 : AF_UNSPEC,
      .flags = AI_NUMERICHOST};
  if (empty_host == EmptyHost::kAllInterfaces) request.flags |= AI_PASSIVE;
  internal::LookupAnswer answer = internal::ask(request);
  if (answer.status == EAI_NONAME && !host.empty()) {
    request.flags &= ~AI_NUMERICHOST;
    answer = internal::look_up(request, wait, peer);
  }
  if (answer.status == EAI_SYSTEM) {
    throw_os_error(answer.error_number, "resolve", peer);
  }
  if (answer.status != 0) {
    throw ResolveError(std::error_code(answer.status, resolve_category()),
                       "resolve", peer);
  }
  for (Address& address : answer.addresses) {
    address.set_port(static_cast<std::uint16_t>(port));
  }
  return std::move(answer.addresses);
}

std::string host_and_port(std::string_view host, int port) {
  if (host.starts_with(kUnixPrefix)) return std::string(host);
  return host.find(':') == std::string_view::npos
             ? fmt::format("{}:{}", host, port)
             : fmt::format("[{}]:{}", host, port);
}

}  // namespace tcpip
