// Numbers for threads, and a table of which thread waits for which: so that
// objects which close each other do not wait for each other forever.
//
// A thread that is about to wait for another thread enters that first:
//
//   const ThreadWait wait(other);
//   if (wait.is_allowed()) ... block until `other` has done it ...
//
// The wait is not allowed if the other thread already waits for this one,
// directly or through further threads. This thread then goes on and returns to
// its caller, after which the other thread can go on too. The process has one
// table for all waits; it also works while the program exits.
//
// Threads: every function may be called from any thread. A ThreadWait belongs
// to the thread that made it. The table has a lock of its own, under which
// nothing else is locked or called.
#ifndef TCPIP_BASE_THREAD_NUMBER_H_
#define TCPIP_BASE_THREAD_NUMBER_H_

#include <cstdint>

namespace tcpip::internal {

// Identifies a thread. Unlike a std::thread::id, a number is never used again,
// so that it can be compared after the thread has ended. No thread has 0.
using ThreadNumber = std::uint64_t;

// The number of the calling thread.
ThreadNumber this_thread_number() noexcept;
// A number for a thread that will be started. The new thread must adopt it
// before it does anything else.
ThreadNumber next_thread_number() noexcept;
void adopt_thread_number(ThreadNumber number) noexcept;

// While this object lives, the table says that the calling thread waits for
// `other`, if the wait is allowed. A thread has at most one such object at a
// time, and runs no code of the program's meanwhile.
class ThreadWait {
 public:
  // `what` identifies the work that is waited for, if the other thread goes on
  // after that work; see end(). Null: the wait is for the end of the thread.
  explicit ThreadWait(ThreadNumber other, const void* what = nullptr) noexcept;
  ~ThreadWait();
  ThreadWait(const ThreadWait&) = delete;
  ThreadWait& operator=(const ThreadWait&) = delete;

  // False if `other` is the calling thread or waits for it.
  bool is_allowed() const noexcept { return allowed_; }

  // Says that the work `what` is done, so that nobody waits for it any more.
  // The thread that has done the work calls this at once: threads that wait for
  // the work may not have woken up yet, and would otherwise seem to wait for
  // whatever that thread does next.
  static void end(const void* what) noexcept;

 private:
  const ThreadNumber waiter_;
  ThreadNumber other_;
  const void* const what_;
  bool allowed_ = false;
  ThreadWait* next_ = nullptr;  // in the table
};

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_THREAD_NUMBER_H_
