// Socket addresses, and how names become them.
//
// Threads: Address is a value.
#ifndef TCPIP_ADDRESS_H_
#define TCPIP_ADDRESS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/wait.h"

namespace tcpip {

enum class AddressFamily { kAny, kIpv4, kIpv6 };

// The address of one end of a connection: IPv4, IPv6 or Unix-domain.
class Address {
 public:
  Address() noexcept = default;  // of nothing
  // From a sockaddr of that many bytes; throws std::invalid_argument if it is
  // longer than any there is.
  Address(const void* sockaddr, std::size_t size);

  bool empty() const noexcept { return size_ == 0; }
  // "127.0.0.1", "::1", "fe80::1%eth0", a path, or "".
  std::string host() const;
  std::uint16_t port() const noexcept;  // 0 where there is none
  void set_port(std::uint16_t port) noexcept;
  AddressFamily family() const noexcept;  // kAny if not an internet address
  // "127.0.0.1:4000", "[::1]:4000".
  std::string to_string() const;

  // The sockaddr, for system calls.
  const void* data() const noexcept { return storage_.data(); }
  std::size_t size() const noexcept { return size_; }

  bool operator==(const Address& other) const noexcept;

 private:
  alignas(8) std::array<std::byte, 128> storage_{};
  std::size_t size_ = 0;
};

// What resolve() shall do with an empty host.
enum class EmptyHost { kLoopback, kAllInterfaces };

// All addresses of `host`, in the order in which to try them. At least one.
//
// A numeric host never asks a name server. A name is looked up in a thread of
// its own, because getaddrinfo() cannot be interrupted: at the deadline or stop
// that thread is left behind, holding nothing of the caller's, until the name
// server's own time-outs end it (some ten seconds).
//
// Throws std::invalid_argument if port is not in 0...65535 or host holds a NUL;
// ResolveError, TimeoutError, CancelledError.
std::vector<Address> resolve(std::string_view host, int port,
                             const Wait& wait = {},
                             AddressFamily family = AddressFamily::kAny,
                             EmptyHost empty_host = EmptyHost::kLoopback);

// "host:port" for messages, with brackets where the host has colons.
std::string host_and_port(std::string_view host, int port);

}  // namespace tcpip

#endif  // TCPIP_ADDRESS_H_
