// Socket addresses, and the look-up of host names.
//
// Threads: Address is a value. The functions may be called from any thread.
#ifndef TCPIP_ADDRESS_H_
#define TCPIP_ADDRESS_H_

#include "tcpip/version.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/wait.h"

namespace tcpip {

// What kind of address, or which kinds are wanted.
enum class AddressFamily { kAny, kIpv4, kIpv6, kUnix };

// The address of one end of a connection: IPv4, IPv6 or Unix-domain.
class TCPIP_EXPORT Address {
 public:
  Address() noexcept = default;  // empty
  // Copies a sockaddr of `size` bytes. Throws std::invalid_argument for more
  // than 128 bytes, which no sockaddr has.
  Address(const void* sockaddr, std::size_t size);

  bool empty() const noexcept { return size_ == 0; }  // without an address
  // "127.0.0.1", "::1", "fe80::1%eth0", the path of a Unix-domain socket or its
  // abstract name as "@name" (with "@" for each NUL), or "".
  std::string host() const;
  // 0 if it is not an internet address; set_port() then does nothing.
  std::uint16_t port() const noexcept;
  void set_port(std::uint16_t port) noexcept;
  AddressFamily family() const noexcept;  // kAny if empty or of another kind
  // "127.0.0.1:4000", "[::1]:4000", a path; "" if empty.
  std::string to_string() const;

  // The sockaddr and its size in bytes, for system calls.
  const void* data() const noexcept { return storage_.data(); }
  std::size_t size() const noexcept { return size_; }

  // The same kind, address and port.
  bool operator==(const Address& other) const noexcept;

 private:
  alignas(8) std::array<std::byte, 128> storage_{};
  std::size_t size_ = 0;
};

// Which addresses resolve() gives for an empty host.
enum class EmptyHost { kLoopback, kAllInterfaces };

// All addresses of `host`, in the order in which to try them; at least one.
//
// "unix:/run/dome.sock" is the Unix-domain socket with that path, "unix:@dome"
// the one with the abstract name "dome", which has no file. A path has at most
// 108 bytes, a name 107. The port must be 0. A relative path is meant from the
// working directory of the process.
//
// A numeric host needs no name server. A name is looked up in a thread of its
// own, because getaddrinfo() cannot be interrupted. At the deadline or stop
// this function returns, and that thread goes on until getaddrinfo() gives up
// (after some ten seconds); it holds nothing of the caller's. Calls for one
// name share one such thread. A process has at most 16 of them: a call for a
// 17th name waits until one has ended, and its TimeoutError says so.
//
// Throws std::invalid_argument if port is not in 0...65535, host contains a
// NUL, a "unix:" host is empty or too long or has a port, or `family` excludes
// the host's kind; ResolveError; TimeoutError; CancelledError; Error if there
// can be no thread.
TCPIP_EXPORT std::vector<Address> resolve(
    std::string_view host, int port, const Wait& wait = {},
    AddressFamily family = AddressFamily::kAny,
    EmptyHost empty_host = EmptyHost::kLoopback);

// "host:port" for messages, with brackets around a host that has colons; a
// "unix:" host as it is.
TCPIP_EXPORT std::string host_and_port(std::string_view host, int port);

}  // namespace tcpip

#endif  // TCPIP_ADDRESS_H_
