// The descriptors that a service manager has handed to this process, as systemd
// does for a socket unit (LISTEN_FDS; see sd_listen_fds(3)).
//
//   std::vector<int> sockets;
//   for (const auto& inherited : tcpip::inherited_descriptors()) {
//     if (inherited.name == "commands") sockets.push_back(inherited.fd);
//   }
//   tcpip::OneClientServer server({.listen = {.descriptors = sockets}});
//
// Threads: the function may be called from any thread, as long as none changes
// the environment.
#ifndef TCPIP_INHERITED_DESCRIPTORS_H_
#define TCPIP_INHERITED_DESCRIPTORS_H_

#include "tcpip/version.h"

#include <string>
#include <vector>

namespace tcpip {

struct TCPIP_EXPORT InheritedDescriptor {
  int fd = -1;            // the program's: it is open and stays so
  std::string name = {};  // of LISTEN_FDNAMES; "unknown" without that
};

// In their order, beginning with descriptor 3. Empty if the environment has
// none, or has them for another process (LISTEN_PID). Sets FD_CLOEXEC on each,
// and leaves the environment as it is.
//
// Throws Error, naming the variable, if LISTEN_FDS or LISTEN_PID is not a
// number or LISTEN_FDNAMES has another number of names (EINVAL); or with the
// errno (EBADF), naming the descriptor, if one of them is not open.
TCPIP_EXPORT std::vector<InheritedDescriptor> inherited_descriptors();

}  // namespace tcpip

#endif  // TCPIP_INHERITED_DESCRIPTORS_H_
