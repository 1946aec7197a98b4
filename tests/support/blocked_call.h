// A call on a thread of its own, that the test can see blocking.
//
//   BlockedCall call([&] { return reader.read_line(); });
//   ASSERT_TRUE(call.await_blocked());
//   writer.close();
//   EXPECT_EQ(call.get(), "");
#ifndef TESTS_SUPPORT_BLOCKED_CALL_H_
#define TESTS_SUPPORT_BLOCKED_CALL_H_

#include <sys/types.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <thread>
#include <type_traits>
#include <utility>

#include "tests/support/wait_until.h"

namespace tcpip_tests {

template <class Result>
class BlockedCall {
 public:
  template <class Function>
  explicit BlockedCall(Function function)
      : task_(std::move(function)), result_(task_.get_future()) {
    thread_ = std::thread([this] {
      thread_id_ = this_thread_id();
      task_();
      done_ = true;
    });
  }
  ~BlockedCall() { join(); }
  BlockedCall(const BlockedCall&) = delete;
  BlockedCall& operator=(const BlockedCall&) = delete;

  // False if it has returned, or does not block within the limit.
  [[nodiscard]] bool await_blocked() {
    return wait_until([&] { return done_ || is_blocked(thread_id_); }) &&
           !done_;
  }
  bool is_done() const { return done_; }
  pthread_t native_handle() { return thread_.native_handle(); }

  // Once. Rethrows what the call has thrown.
  Result get() {
    join();
    return result_.get();
  }

 private:
  void join() {
    if (!thread_.joinable()) return;
    if (!wait_until([this] { return done_.load(); })) {
      // Joining it would hang this thread as well.
      std::fputs("a call of the test hangs\n", stderr);
      std::abort();
    }
    thread_.join();
  }

  std::packaged_task<Result()> task_;
  std::future<Result> result_;
  std::atomic<pid_t> thread_id_{0};
  std::atomic<bool> done_{false};
  std::thread thread_;
};

template <class Function>
BlockedCall(Function) -> BlockedCall<std::invoke_result_t<Function>>;

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_BLOCKED_CALL_H_
