#include "tcpip/net/socket_calls.h"

#include <linux/tcp.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

namespace tcpip::internal {
namespace {

template <class Call>  // getsockname or getpeername
Address ask_address(int fd, Call call) noexcept {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (call(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  return address_from(storage, size);
}

// TCP_INFO, if this kernel tells at least its first `needed` bytes.
std::optional<tcp_info> info_of(int fd, std::size_t needed) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
      size < needed) {
    return std::nullopt;
  }
  return info;
}

}  // namespace

Address address_from(const sockaddr_storage& storage, socklen_t size) noexcept {
  return Address(&storage, std::min<std::size_t>(size, sizeof storage));
}

const sockaddr* raw(const Address& address) noexcept {
  return static_cast<const sockaddr*>(address.data());
}

socklen_t raw_size(const Address& address) noexcept {
  return static_cast<socklen_t>(address.size());
}

Address local_address_of(int fd) noexcept {
  return ask_address(fd, ::getsockname);
}

Address peer_address_of(int fd) noexcept {
  return ask_address(fd, ::getpeername);
}

std::error_code set_option(int fd, int level, int name, int value) noexcept {
  return ::setsockopt(fd, level, name, &value, sizeof value) == 0
             ? std::error_code()
             : system_error(errno);
}

std::optional<std::uint64_t> bytes_arrived(int fd) noexcept {
  constexpr std::size_t kNeeded =
      offsetof(tcp_info, tcpi_bytes_received) + sizeof(std::uint64_t);
  const auto info = info_of(fd, kNeeded);
  return info ? std::optional<std::uint64_t>(info->tcpi_bytes_received)
              : std::nullopt;
}

std::optional<LastSegment> last_segment(int fd) noexcept {
  constexpr std::size_t kNeeded =
      offsetof(tcp_info, tcpi_data_segs_in) + sizeof(std::uint32_t);
  const auto info = info_of(fd, kNeeded);
  if (!info) return std::nullopt;
  return LastSegment{std::chrono::milliseconds(info->tcpi_last_data_recv),
                     info->tcpi_data_segs_in};
}

std::error_code system_error(int error_number) noexcept {
  return {error_number, std::generic_category()};
}

bool would_block(int error_number) noexcept {
  return error_number == EAGAIN || error_number == EWOULDBLOCK;
}

bool is_shortage(int error_number) noexcept {
  return error_number == EMFILE || error_number == ENFILE ||
         error_number == ENOBUFS || error_number == ENOMEM;
}

}  // namespace tcpip::internal
