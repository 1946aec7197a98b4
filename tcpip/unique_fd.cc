#include "tcpip/unique_fd.h"

#include <unistd.h>

#include <cerrno>

namespace tcpip {

void UniqueFd::reset(int fd) noexcept {
  const int old = std::exchange(fd_, fd);
  if (old < 0) return;
  // Linux releases the number even when close() is interrupted: no retry. The
  // caller's errno must survive a clean-up on the way out.
  const int saved = errno;
  ::close(old);
  errno = saved;
}

}  // namespace tcpip
