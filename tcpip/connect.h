// Connecting a socket to the first of several addresses.
//
// Threads: the function may be called from any thread.
#ifndef TCPIP_CONNECT_H_
#define TCPIP_CONNECT_H_

#include "tcpip/version.h"

#include <atomic>
#include <memory>
#include <span>
#include <string_view>

#include "tcpip/address.h"
#include "tcpip/error.h"
#include "tcpip/options.h"
#include "tcpip/socket.h"
#include "tcpip/wait.h"

namespace tcpip {

// Connects to the first of `addresses` that answers, as RFC 8305 ("happy
// eyeballs") says. IPv4 and IPv6 addresses take turns, beginning with the
// family of the first. Each address is tried 250 ms after the one before, or as
// soon as one has failed; all go on until one connects or the deadline passes,
// and the others are closed. If the deadline is near, the 250 ms are shortened,
// so that every address is tried. The wait covers all of that. Never returns a
// socket that is connected to itself. `peer` is for messages. A socket option
// that the kernel refuses is left out; `refused`, if given, gets those.
//
// Throws for the last address that was tried: ConnectionRefusedError, or Error
// with the errno (EHOSTUNREACH, EADDRNOTAVAIL...); TimeoutError. what() has
// what each address said, if there are several and they differ, or did not
// answer. CancelledError; std::invalid_argument if there is no address, or for
// a socket option that options.h does not allow, or a Unix-domain local_host.
// What connect.prepare throws. Nothing is left open after a failure.
TCPIP_EXPORT std::shared_ptr<Socket> connect_socket(
    std::span<const Address> addresses, const ConnectOptions& connect,
    const SocketOptions& socket, const Wait& wait, std::string_view peer,
    RefusedOptions* refused = nullptr);

namespace internal {

class Waker;

// Ends a connect as a stop does, but may be requested in a signal handler:
// `requested` is set, then `waker` signalled. Only the thread that connects
// waits for the waker, and it clears it.
struct Interrupt {
  Waker& waker;
  const std::atomic<bool>& requested;
};

std::shared_ptr<Socket> connect_socket(std::span<const Address> addresses,
                                       const ConnectOptions& connect,
                                       const SocketOptions& socket,
                                       const Wait& wait, std::string_view peer,
                                       RefusedOptions* refused,
                                       const Interrupt& interrupt);

}  // namespace internal
}  // namespace tcpip

#endif  // TCPIP_CONNECT_H_
