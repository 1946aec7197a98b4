// A mutex and a condition variable that clang's thread-safety analysis knows.
//
// Every Mutex of this library names the data it guards (TCPIP_GUARDED_BY), and
// no code of the program's (callback, handler, log sink, hook) runs under one.
//
// Threads: every member may be called from any thread.
#ifndef TCPIP_BASE_MUTEX_H_
#define TCPIP_BASE_MUTEX_H_

#include <condition_variable>
#include <mutex>
#include <utility>

#include "tcpip/wait.h"

#if defined(__clang__)
#define TCPIP_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define TCPIP_THREAD_ANNOTATION(x)
#endif

#define TCPIP_CAPABILITY(x) TCPIP_THREAD_ANNOTATION(capability(x))
#define TCPIP_SCOPED_CAPABILITY TCPIP_THREAD_ANNOTATION(scoped_lockable)
#define TCPIP_GUARDED_BY(x) TCPIP_THREAD_ANNOTATION(guarded_by(x))
#define TCPIP_PT_GUARDED_BY(x) TCPIP_THREAD_ANNOTATION(pt_guarded_by(x))
#define TCPIP_REQUIRES(...) \
  TCPIP_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define TCPIP_EXCLUDES(...) TCPIP_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define TCPIP_ACQUIRE(...) \
  TCPIP_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define TCPIP_RELEASE(...) \
  TCPIP_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define TCPIP_NO_THREAD_SAFETY_ANALYSIS \
  TCPIP_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace tcpip::internal {

// How a wait ended. A requested stop wins over a passed deadline.
enum class WaitResult { kReady, kTimeout, kStopped };

class TCPIP_CAPABILITY("mutex") Mutex {
 public:
  void lock() TCPIP_ACQUIRE() { mutex_.lock(); }
  void unlock() TCPIP_RELEASE() { mutex_.unlock(); }
  bool try_lock() TCPIP_THREAD_ANNOTATION(try_acquire_capability(true)) {
    return mutex_.try_lock();
  }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class TCPIP_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) TCPIP_ACQUIRE(mutex) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() TCPIP_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class CondVar {
 public:
  // Better without the mutex: a thread that wakes while the mutex is held waits
  // once more.
  void notify_all() noexcept {
    plain_.notify_all();
    condition_.notify_all();
  }

  // Waits until done() is true. `mutex` is held on entry, on return and in
  // done(), and released while the thread waits.
  template <class Predicate>
  WaitResult wait(Mutex& mutex, const Wait& wait, Predicate done)
      TCPIP_REQUIRES(mutex) TCPIP_NO_THREAD_SAFETY_ANALYSIS {
    if (wait.stop.stop_requested()) return WaitResult::kStopped;
    if (done()) return WaitResult::kReady;
    if (wait.deadline.has_passed()) return WaitResult::kTimeout;
    bool ready = false;
    if (wait.deadline.is_never()) {
      if (wait.stop.stop_possible()) {
        ready = condition_.wait(mutex, wait.stop, std::move(done));
      } else {
        std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
        plain_.wait(lock, std::move(done));
        lock.release();  // it stays locked
        ready = true;
      }
    } else if (wait.stop.stop_possible()) {
      ready = condition_.wait_until(mutex, wait.stop, wait.deadline.when(),
                                    std::move(done));
    } else {
      ready =
          condition_.wait_until(mutex, wait.deadline.when(), std::move(done));
    }
    // A stop also wins over done() that became true while this thread woke up.
    if (wait.stop.stop_requested()) return WaitResult::kStopped;
    return ready ? WaitResult::kReady : WaitResult::kTimeout;
  }

 private:
  // For waits without deadline and stop. The other one has a mutex of its own,
  // which its notify_all() holds: a thread that wakes at once meets it.
  std::condition_variable plain_;
  std::condition_variable_any condition_;
};

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_MUTEX_H_
