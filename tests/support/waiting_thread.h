// Threads that a test can see waiting, and callbacks to post.
#ifndef TESTS_SUPPORT_WAITING_THREAD_H_
#define TESTS_SUPPORT_WAITING_THREAD_H_

#include <gtest/gtest.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/testing/wait_until.h"
#include "tcpip/wait.h"
#include "tests/support/wait_until.h"

namespace tcpip_tests {

using Ints = std::vector<int>;

template <class Predicate>
[[nodiscard]] bool soon(Predicate predicate) {
  const tcpip::Deadline deadline =
      tcpip::Deadline::after(tcpip_testing::kPatience);
  while (!predicate()) {
    if (deadline.has_passed()) return false;
    std::this_thread::yield();
  }
  return true;
}

template <class Result>
Result get(std::future<Result> future) {
  if (future.wait_for(tcpip_testing::kPatience) != std::future_status::ready) {
    // Its thread hangs, and joining it would hang this one too.
    std::fputs("a thread of the test hangs\n", stderr);
    std::abort();
  }
  return future.get();
}

// A thread that the test can see waiting.
class WaitingThread {
 public:
  explicit WaitingThread(std::function<void()> work) {
    std::packaged_task<void()> task(std::move(work));
    result_ = task.get_future();
    thread_ = std::jthread([this, task = std::move(task)]() mutable {
      id_ = ::gettid();
      task();
    });
  }

  // Waits until the thread waits for another one, or for a descriptor. False if
  // it ended instead.
  [[nodiscard]] bool is_blocked() {
    bool blocked = false;
    EXPECT_TRUE(soon([&] {
      blocked = tcpip_tests::is_blocked(id_);
      return blocked || result_.wait_for(std::chrono::seconds(0)) ==
                            std::future_status::ready;
    }));
    return blocked;
  }

  // Waits for the end of the work; throws what it threw.
  void join() { get(std::move(result_)); }

 private:
  std::atomic<pid_t> id_{0};
  std::future<void> result_;
  std::jthread thread_;
};

// Calls a function when the last copy of it goes, as the destructor of what a
// callback captured would.
inline std::shared_ptr<void> on_destruction(std::function<void()> function) {
  return {nullptr, [function = std::move(function)](void*) { function(); }};
}

inline std::function<void()> append(Ints& to, int value) {
  return [&to, value] { to.push_back(value); };
}

// A callback that waits, once it has begun, until the test lets it end.
class Gate {
 public:
  std::function<void()> callback() {
    return [this] {
      begun_.set_value();
      get(open_.get_future());
    };
  }
  void wait_begun() { get(begun_.get_future()); }
  void open() { open_.set_value(); }

 private:
  std::promise<void> begun_;
  std::promise<void> open_;
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_WAITING_THREAD_H_
