// What Socket, connect_socket() and Listener share of the socket system calls.
//
// Threads: the functions may be called from any thread.
#ifndef TCPIP_NET_SOCKET_CALLS_H_
#define TCPIP_NET_SOCKET_CALLS_H_

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <system_error>

#include "tcpip/address.h"

namespace tcpip::internal {

const sockaddr* raw(const Address& address) noexcept;
socklen_t raw_size(const Address& address) noexcept;

// What a call has written there; `size` as the call has left it, which may be
// more than there was room for.
Address address_from(const sockaddr_storage& storage, socklen_t size) noexcept;

// The addresses of a socket; empty if it has none.
Address local_address_of(int fd) noexcept;
Address peer_address_of(int fd) noexcept;

// setsockopt() of an int.
std::error_code set_option(int fd, int level, int name, int value) noexcept;

// How many bytes have come over a TCP connection, as the kernel counts them;
// nothing for other sockets and on old kernels.
std::optional<std::uint64_t> bytes_arrived(int fd) noexcept;

// The last segment with data that has come over a TCP connection; before the
// first one, its age is that of the connection. Nothing for other sockets and on
// old kernels.
struct LastSegment {
  // In ticks of the kernel's clock: up to kTick too much or too little.
  static constexpr std::chrono::milliseconds kTick{10};
  std::chrono::milliseconds age;
  std::uint32_t number;  // 1, 2, 3, ... modulo 2^32
};
std::optional<LastSegment> last_segment(int fd) noexcept;

// An errno as a value.
std::error_code system_error(int error_number) noexcept;

// True for EAGAIN and EWOULDBLOCK: the call would have to wait.
bool would_block(int error_number) noexcept;
// True for an errno that means a lack of descriptors or memory on this machine,
// and says nothing about the connection.
bool is_shortage(int error_number) noexcept;

}  // namespace tcpip::internal

#endif  // TCPIP_NET_SOCKET_CALLS_H_
