#include "tcpip/unique_fd.h"

#include <unistd.h>

#include <cerrno>

namespace tcpip {

void UniqueFd::reset(int fd) noexcept {
  const int old = std::exchange(fd_, fd);
  if (old < 0) return;
  // No retry: Linux frees the number even if a signal interrupts close(). Keep
  // errno, since a destructor may run between a failed call and the look at it.
  const int saved = errno;
  ::close(old);
  errno = saved;
}

}  // namespace tcpip
