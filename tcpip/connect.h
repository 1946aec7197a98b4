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

// Connects to the first of `addresses` that answers, all under one wait: an
// address that does not answer takes no more than its share of the time. Never
// returns a socket that is connected to itself. `peer` is for messages.
//
// Throws Error, by its class or code() (ConnectionRefusedError, EHOSTUNREACH,
// EADDRNOTAVAIL...), naming every address if they failed differently;
// TimeoutError; CancelledError.
std::shared_ptr<Socket> connect_socket(std::span<const Address> addresses,
                                       const ConnectOptions& connect,
                                       const SocketOptions& socket,
                                       const Wait& wait, std::string_view peer);

}  // namespace tcpip

#endif  // TCPIP_CONNECT_H_
