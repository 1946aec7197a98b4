// Numbers for threads, and who waits for whom: so that objects which close each
// other come to an end.
//
// A thread that is about to wait for another one's work says so first:
//
//   const ThreadWait wait(other);
//   if (wait.is_allowed()) ... block until `other` has done it ...
//
// If the other thread waits for this one already, itself or over others, this
// one is not allowed to, and goes on: what it returns to lets the other go on.
// One process-wide table holds all these waits; it works during exit, too.
//
// Threads: every function may be called from any thread. A ThreadWait belongs
// to the thread that made it. The table has a lock of its own, under which
// nothing else is locked or called.
#ifndef TCPIP_BASE_THREAD_NUMBER_H_
#define TCPIP_BASE_THREAD_NUMBER_H_

#include <cstdint>

namespace tcpip::internal {

// Unlike a std::thread::id it is never used again, so that it may be compared
// with that of a thread which has long ended. 0 is no thread's.
using ThreadNumber = std::uint64_t;

// The calling thread's.
ThreadNumber this_thread_number() noexcept;
// One for a thread that will be started, which adopts it as the first thing
// that it does.
ThreadNumber next_thread_number() noexcept;
void adopt_thread_number(ThreadNumber number) noexcept;

// While it lives, the calling thread waits for `other`, if it is allowed to.
// A thread has one of them at a time, and runs nothing of the program's
// meanwhile.
class ThreadWait {
 public:
  // `what`: the work that is waited for, if the other thread can go on to
  // something else after it; see end().
  explicit ThreadWait(ThreadNumber other, const void* what = nullptr) noexcept;
  ~ThreadWait();
  ThreadWait(const ThreadWait&) = delete;
  ThreadWait& operator=(const ThreadWait&) = delete;

  // False if `other` is the calling thread or waits for it.
  bool is_allowed() const noexcept { return allowed_; }

  // Nobody waits for that work any more. The thread that has done it calls this
  // before it does anything else: threads that have not woken up yet would
  // otherwise seem to wait for it.
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
