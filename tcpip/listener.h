// A set of listening sockets, one for each address of a host.
//
// Threads: one thread at a time accepts; everything else may be called from any
// thread at any time. The destructor closes the descriptors, not close(), for
// the reason given in socket.h.
#ifndef TCPIP_LISTENER_H_
#define TCPIP_LISTENER_H_

#include "tcpip/version.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/error.h"
#include "tcpip/io_result.h"
#include "tcpip/options.h"
#include "tcpip/process_mark.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"

namespace tcpip {

namespace internal {
class SocketFile;
class Waker;
}  // namespace internal

// One listening socket for each address of a host.
class TCPIP_EXPORT Listener {
 public:
  // Binds and listens. An absent or empty host means all interfaces: one socket
  // for IPv4 and one for IPv6 (IPV6_V6ONLY). Port 0 takes a free port, the same
  // on every socket. On a machine without IPv6 there is the IPv4 socket alone.
  // Addresses that this machine does not have are left out, as long as there is
  // another one; absent() has them. The wait is for resolving the host, and for
  // options.wait_for_address.
  //
  // With a "unix:" host (see address.h) there is one socket. A file at its path
  // is replaced if it is a socket that no process has bound, as a server leaves
  // it that was killed. A file that another server listens on, or that is not a
  // socket, is an error (EADDRINUSE) and stays as it is. close() or the
  // destructor removes the file, if it is still the one that was made here; a
  // child that fork() has made never does.
  //
  // With options.descriptors it uses duplicates of these, and host and port
  // have no meaning. Throws Error, naming the descriptor: EBADF, ENOTSOCK,
  // EPROTOTYPE for a socket that is not a stream, EINVAL for one that does not
  // listen.
  //
  // Throws std::invalid_argument for a port outside 0...65535, a backlog below
  // 1, or a mode outside 0...0777; what resolve() throws; Error, naming the
  // address, if the address is in use or does not belong to this machine;
  // TimeoutError and CancelledError if no address was there in time; what
  // options.prepare throws. Nothing is left open after a failure.
  Listener(const std::optional<std::string>& host, int port,
           const ListenOptions& options = {}, const Wait& wait = {});
  // The same. Sets `inherited` on each socket that it makes, before that
  // listens: Linux then gives the options to each connection. A Unix-domain
  // connection inherits none, and sockets of options.descriptors stay as they
  // are: see hands_options_on().
  Listener(const std::optional<std::string>& host, int port,
           const ListenOptions& options, const Wait& wait,
           const SocketOptions& inherited);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // A connection that was accepted.
  struct Accepted {
    UniqueFd fd;   // its socket
    Address peer;  // the other end
  };
  // Waits for the next connection. Throws TimeoutError; CancelledError;
  // ConnectionError once close() was called; Error for a lack of descriptors or
  // memory, after which the connection still waits to be accepted, and if the
  // kernel goes on refusing (EPERM, ENETDOWN...): pause before the next call.
  Accepted accept(const Wait& wait = {});
  // kOk with a connection, kTimeout if none waits, kError with `error` as
  // accept().
  struct Attempt {
    IoStatus status = IoStatus::kOk;  // how it went
    std::error_code error = {};       // of kError
    Accepted accepted = {};           // of kOk
  };
  // Accepts without waiting, from sockets()[index].
  Attempt try_accept(std::size_t index) noexcept;

  // Stops listening and wakes accept(). Connections that were not accepted are
  // reset. Of options.descriptors it leaves the sockets as they are; the
  // destructor closes the duplicates. Idempotent. In a child that fork() has
  // made, it closes the child's descriptors and nothing else.
  void close() noexcept;

  // 0 for a Unix-domain socket.
  std::uint16_t port() const noexcept { return addresses_.front().port(); }
  // The address of each socket.
  const std::vector<Address>& addresses() const noexcept { return addresses_; }
  // The host's other addresses: this machine does not have them.
  const std::vector<Address>& absent() const noexcept { return absent_; }
  // The sockets that listen, one for each address. They stay the Listener's.
  std::span<const UniqueFd> sockets() const noexcept { return sockets_; }
  // True if a connection from sockets()[index] has all of `inherited` already:
  // the kernel has refused none of these options.
  bool hands_options_on(std::size_t index) const noexcept {
    return hand_options_on_[index];
  }

 private:
  Listener(const std::optional<std::string>& host, int port,
           const ListenOptions& options, const Wait& wait,
           const SocketOptions* inherited);
  void wait_for_address(const std::string& address, const Wait& wait);
  void open(const std::optional<std::string>& host, int port,
            const ListenOptions& options, const Wait& wait,
            const SocketOptions* inherited);
  void adopt(const std::vector<int>& descriptors);
  Attempt wait_and_accept(const Wait& wait);

  const internal::ProcessMark process_;
  std::vector<UniqueFd> sockets_;
  std::vector<bool> hand_options_on_;  // of each of these
  std::vector<Address> addresses_;
  std::vector<Address> absent_;
  bool is_adopted_ = false;
  std::unique_ptr<internal::SocketFile> file_;  // of a Unix-domain socket
  std::string name_;
  std::atomic<bool> closed_{false};
  const std::unique_ptr<internal::Waker> waker_;
};

}  // namespace tcpip

#endif  // TCPIP_LISTENER_H_
