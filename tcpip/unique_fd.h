// An owned file descriptor, closed by the destructor.
//
// Threads: a value with one owner; like std::unique_ptr.
#ifndef TCPIP_UNIQUE_FD_H_
#define TCPIP_UNIQUE_FD_H_

#include "tcpip/version.h"

#include <utility>

namespace tcpip {

class TCPIP_EXPORT UniqueFd {
 public:
  UniqueFd() noexcept = default;  // holds none
  // Takes over a descriptor; -1 is none.
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  // Take over the other's.
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  // The descriptor, or -1; and whether there is one.
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  // Gives the descriptor to the caller, who closes it.
  int release() noexcept { return std::exchange(fd_, -1); }
  // Closes the descriptor that is held, if there is one, and takes `fd`.
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

}  // namespace tcpip

#endif  // TCPIP_UNIQUE_FD_H_
