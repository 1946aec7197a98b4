// The place that blocks on file descriptors. (The one other is the plain recv
// of Socket::receive, when a call has neither deadline nor stop.)
//
// Threads: a Waker may be signalled from any thread; all else belongs to the
// thread that waits.
#ifndef TCPIP_BASE_POLLER_H_
#define TCPIP_BASE_POLLER_H_

#include <poll.h>

#include <atomic>
#include <span>

#include "tcpip/base/mutex.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

// An eventfd that ends a poll. It is made by the first open(), so that a
// connection that never waits with a deadline or a stop does not pay for it.
class Waker {
 public:
  Waker() noexcept = default;
  ~Waker();
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;

  // Returns the descriptor. Throws Error if there can be none (EMFILE).
  int open();
  // Makes every poll on it return, now and later, until clear(). Does nothing
  // while there is no descriptor: the waiter must look at the state that it
  // waits for after open() and before it polls.
  void signal() noexcept;
  void clear() noexcept;

 private:
  std::atomic<int> fd_{-1};
};

// ppoll() until something is ready or the deadline has passed; EINTR is
// invisible. Returns the number of entries with revents, 0 at the deadline.
// Throws Error if the kernel refuses (ENOMEM).
int poll_until(std::span<pollfd> fds, Deadline deadline);

// Waits until `fd` has one of `events` (or is hung up, or failed), or `waker`
// was signalled: both are kReady, and the caller looks at its own state. A stop
// requested of `wait` signals `waker` for the time of the call.
WaitResult wait_ready(int fd, short events, const Wait& wait, Waker& waker);

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_POLLER_H_
