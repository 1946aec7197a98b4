#include "tcpip/base/descriptor.h"

#include <fcntl.h>
#include <unistd.h>

namespace tcpip::internal {

UniqueFd adopt_descriptor(int made) noexcept {
  UniqueFd fd(made);
  if (!fd || made > STDERR_FILENO) return fd;
  // UniqueFd closes the low number and keeps errno.
  return UniqueFd(::fcntl(made, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

}  // namespace tcpip::internal
