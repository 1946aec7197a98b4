#include "tcpip/wait.h"

namespace tcpip {

bool Deadline::has_passed() const noexcept {
  return !is_never() &&
         (when_ == Clock::time_point::min() || Clock::now() >= when_);
}

Deadline::Clock::duration Deadline::remaining() const noexcept {
  if (is_never()) return Clock::duration::max();
  // min() minus any time point overflows.
  if (when_ == Clock::time_point::min()) return Clock::duration::zero();
  const Clock::time_point now = Clock::now();
  return now >= when_ ? Clock::duration::zero() : when_ - now;
}

}  // namespace tcpip
