// Sets the socket options that every new connection gets, and says which values
// the kernel takes.
//
// Threads: the functions may be called from any thread.
#ifndef TCPIP_NET_SOCKET_OPTIONS_H_
#define TCPIP_NET_SOCKET_OPTIONS_H_

#include "tcpip/options.h"
#include "tcpip/socket.h"

namespace tcpip::internal {

// Throws std::invalid_argument, naming `what` and the option, for a value that
// options.h does not allow.
void check(const SocketOptions& options, const char* what);

// Sets all options but those that are 0; goes on behind one that the kernel
// refuses. A value that check() would not let pass counts as refused (EINVAL).
// `tcp`: the socket has the options of TCP too.
RefusedOptions set_options(int fd, bool tcp,
                           const SocketOptions& options) noexcept;

}  // namespace tcpip::internal

#endif  // TCPIP_NET_SOCKET_OPTIONS_H_
