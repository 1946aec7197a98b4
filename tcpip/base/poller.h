// The place that blocks on file descriptors. The only other one is the recv()
// of Socket::receive, which says when. What the system refuses is a value here;
// nothing throws.
//
// Threads: a Waker may be signalled from any thread; all else belongs to the
// thread that waits.
#ifndef TCPIP_BASE_POLLER_H_
#define TCPIP_BASE_POLLER_H_

#include <poll.h>

#include <atomic>
#include <span>
#include <system_error>

#include "tcpip/io_result.h"
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

  // Makes the descriptor, unless there is one already. The error (EMFILE,
  // ENFILE, ENOMEM) says that there can be none.
  std::error_code open() noexcept;
  // The descriptor, for poll(), or -1. Not yours to close.
  int fd() const noexcept { return fd_.load(); }
  // Makes every poll on it return, now and later, until clear(). Does nothing
  // while there is no descriptor: the waiter must look at the state that it
  // waits for after open() and before it polls.
  void signal() noexcept;
  void clear() noexcept;

 private:
  std::atomic<int> fd_{-1};
};

// ppoll() until something is ready or the deadline has passed; EINTR is
// invisible. kOk with the number of entries that have revents, kTimeout at the
// deadline, kError if the kernel refuses (ENOMEM).
IoResult poll_until(std::span<pollfd> fds, Deadline deadline) noexcept;

// Waits until `fd` has one of `events` (or is hung up, or failed), or `waker`
// was signalled: both are kOk, and the caller looks at its own state. A stop
// requested of `wait` signals `waker` for the time of the call: kStopped.
// kTimeout at the deadline; kError if the wait is not possible (EMFILE for the
// waker's descriptor, ENOMEM).
IoResult wait_ready(int fd, short events, const Wait& wait,
                    Waker& waker) noexcept;

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_POLLER_H_
