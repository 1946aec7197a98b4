// Connecting a socket to the first of several addresses.
//
// Threads: the function may be called from any thread.
#ifndef TCPIP_CONNECT_H_
#define TCPIP_CONNECT_H_

#include <memory>
#include <span>
#include <string_view>

#include "tcpip/address.h"
#include "tcpip/options.h"
#include "tcpip/socket.h"
#include "tcpip/wait.h"

namespace tcpip {

// Connects to the first of `addresses` that answers. The wait covers all of
// them: an address that does not answer gets an equal share of the time that is
// left. Never returns a socket that is connected to itself. `peer` is for
// messages. A socket option that the kernel refuses is left out; `refused`, if
// given, gets those.
//
// Throws ConnectionRefusedError, or Error with the errno (EHOSTUNREACH,
// EADDRNOTAVAIL...); TimeoutError. what() has what each address said, if there
// are several and they differ. CancelledError; std::invalid_argument if there
// is no address, or for a socket option that options.h does not allow.
std::shared_ptr<Socket> connect_socket(std::span<const Address> addresses,
                                       const ConnectOptions& connect,
                                       const SocketOptions& socket,
                                       const Wait& wait, std::string_view peer,
                                       RefusedOptions* refused = nullptr);

}  // namespace tcpip

#endif  // TCPIP_CONNECT_H_
