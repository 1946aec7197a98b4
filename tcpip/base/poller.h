// The functions that block on file descriptors. (Socket::receive may block in
// recv() instead; its comment says when.) Nothing here throws: errors are
// values.
//
// Threads: open(), fd() and signal() of a Waker may be called from any thread;
// clear() only from the thread that waits. The functions may be called from any
// thread.
#ifndef TCPIP_BASE_POLLER_H_
#define TCPIP_BASE_POLLER_H_

#include <poll.h>

#include <atomic>
#include <span>
#include <system_error>

#include "tcpip/io_result.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

// An eventfd that ends a poll. The first open() makes it, so that a connection
// that never polls does not need one.
class Waker {
 public:
  Waker() noexcept = default;
  ~Waker();
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;

  // Makes the descriptor, unless there is one already. Returns an error
  // (EMFILE, ENFILE, ENOMEM) if it cannot be made.
  std::error_code open() noexcept;
  // The descriptor, for poll(), or -1 before open(). Owned by the Waker.
  int fd() const noexcept { return fd_.load(); }
  // Makes every poll on the descriptor return at once, until clear(). Does
  // nothing before open(). So the waiter must call open(), then look at the
  // state that it waits for, then poll: otherwise it could miss a signal.
  void signal() noexcept;
  void clear() noexcept;

 private:
  std::atomic<int> fd_{-1};
};

// Polls until a descriptor is ready or the deadline has passed; goes on after
// EINTR. kOk with the number of entries that have revents, kTimeout at the
// deadline, kError if the kernel refuses (ENOMEM). However long the wait, it is
// late by a few milliseconds only.
IoResult poll_until(std::span<pollfd> fds, Deadline deadline) noexcept;

// Sleeps until the deadline, or until a signal: for a thread that can do
// nothing else, since poll() fails. Only for a few milliseconds.
void sleep_until(Deadline deadline) noexcept;

// Waits until `fd` has one of `events` (or POLLHUP or POLLERR), or until
// `waker` is signalled. Both give kOk; the caller then looks at its own state.
// kStopped when the stop of `wait` is requested, kTimeout at the deadline,
// kError if the wait is not possible (EMFILE for the waker's descriptor,
// ENOMEM).
IoResult wait_ready(int fd, short events, const Wait& wait,
                    Waker& waker) noexcept;

// The same for several descriptors. The last entry is for the waker's: this
// function fills it in.
IoResult wait_any_ready(std::span<pollfd> fds, const Wait& wait,
                        Waker& waker) noexcept;

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_POLLER_H_
