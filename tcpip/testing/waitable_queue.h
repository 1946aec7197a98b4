// A queue that threads put into and the test takes out of.
//
// Threads: every member may be called from any thread.
#ifndef TCPIP_TESTING_WAITABLE_QUEUE_H_
#define TCPIP_TESTING_WAITABLE_QUEUE_H_

#include <cstddef>
#include <deque>
#include <string_view>
#include <utility>
#include <vector>

#include "tcpip/base/mutex.h"
#include "tcpip/error.h"
#include "tcpip/wait.h"

namespace tcpip_testing::internal {

template <class T>
class WaitableQueue {
 public:
  void push(T value) {
    const tcpip::internal::MutexLock lock(mutex_);
    values_.push_back(std::move(value));
    changed_.notify_all();
  }

  // The oldest. Throws TimeoutError; CancelledError, also if the queue is
  // closed and empty.
  T pop(std::string_view operation, const tcpip::Wait& wait) {
    using tcpip::internal::WaitResult;
    const tcpip::internal::MutexLock lock(mutex_);
    const WaitResult result =
        changed_.wait(mutex_, wait, [this]() TCPIP_REQUIRES(mutex_) {
          return closed_ || !values_.empty();
        });
    if (result == WaitResult::kTimeout) throw tcpip::TimeoutError(operation);
    if (result == WaitResult::kStopped || values_.empty()) {
      throw tcpip::CancelledError(operation);
    }
    T value = std::move(values_.front());
    values_.pop_front();
    return value;
  }

  // True once that many are there; false if they are not at the deadline.
  // Throws CancelledError at the stop.
  bool wait_for(std::size_t count, std::string_view operation,
                const tcpip::Wait& wait) const {
    using tcpip::internal::WaitResult;
    const tcpip::internal::MutexLock lock(mutex_);
    const WaitResult result =
        changed_.wait(mutex_, wait, [this, count]() TCPIP_REQUIRES(mutex_) {
          return values_.size() >= count;
        });
    if (result == WaitResult::kStopped) throw tcpip::CancelledError(operation);
    return result != WaitResult::kTimeout;
  }

  // Nobody waits any more; what is there can still be taken out.
  void close() {
    const tcpip::internal::MutexLock lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  std::size_t size() const {
    const tcpip::internal::MutexLock lock(mutex_);
    return values_.size();
  }

  // Copies of those that are there; takes none out.
  std::vector<T> values() const {
    const tcpip::internal::MutexLock lock(mutex_);
    return {values_.begin(), values_.end()};
  }

  void clear() {
    const tcpip::internal::MutexLock lock(mutex_);
    values_.clear();
  }

 private:
  mutable tcpip::internal::Mutex mutex_;
  mutable tcpip::internal::CondVar changed_;
  std::deque<T> values_ TCPIP_GUARDED_BY(mutex_);
  bool closed_ TCPIP_GUARDED_BY(mutex_) = false;
};

}  // namespace tcpip_testing::internal

#endif  // TCPIP_TESTING_WAITABLE_QUEUE_H_
