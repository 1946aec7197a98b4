// Ending a connection so that the peer is reset.
//
// Threads: the function may be called from any thread.
#ifndef TCPIP_TESTING_CLOSE_WITH_RESET_H_
#define TCPIP_TESTING_CLOSE_WITH_RESET_H_

#include <sys/socket.h>

#include <memory>

#include "tcpip/socket.h"

namespace tcpip_testing::internal {

// Lets go of the socket. The peer is reset when the last owner has done so.
// Does nothing without a socket.
inline void close_with_reset(std::shared_ptr<tcpip::Socket>& socket) noexcept {
  if (!socket) return;
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(socket->native_handle(), SOL_SOCKET, SO_LINGER, &now,
               sizeof now);
  socket.reset();
}

}  // namespace tcpip_testing::internal

#endif  // TCPIP_TESTING_CLOSE_WITH_RESET_H_
