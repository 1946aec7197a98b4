#include "tcpip/base/thread_number.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/support/blocked_call.h"
#include "tests/support/wait_until.h"

namespace tcpip::internal {
namespace {

using tcpip_tests::BlockedCall;
using tcpip_tests::wait_until;

TEST(ThreadNumber, IsTheThreadsOwnAndNeverUsedAgain) {
  const ThreadNumber here = this_thread_number();
  EXPECT_NE(here, 0u);
  EXPECT_EQ(this_thread_number(), here);
  ThreadNumber first = 0;
  ThreadNumber second = 0;
  std::thread([&] { first = this_thread_number(); }).join();
  std::thread([&] { second = this_thread_number(); }).join();
  EXPECT_NE(first, here);
  EXPECT_NE(second, here);
  EXPECT_NE(second, first);
}

TEST(ThreadNumber, IsTheOneThatTheThreadAdopts) {
  const ThreadNumber number = next_thread_number();
  ThreadNumber seen = 0;
  std::thread([&] {
    adopt_thread_number(number);
    seen = this_thread_number();
  }).join();
  EXPECT_EQ(seen, number);
}

// Holds a wait of its own thread until it is told to end.
class Waiting {
 public:
  Waiting(ThreadNumber number, ThreadNumber other, const void* what = nullptr)
      : call_([this, number, other, what] {
          adopt_thread_number(number);
          const ThreadWait wait(other, what);
          const bool allowed = wait.is_allowed();
          entered_ = true;
          EXPECT_TRUE(wait_until([this] { return end_.load(); }));
          return allowed;
        }) {
    EXPECT_TRUE(wait_until([this] { return entered_.load(); }));
  }
  ~Waiting() { end_ = true; }
  bool end() {
    end_ = true;
    return call_.get();
  }

 private:
  std::atomic<bool> entered_{false};
  std::atomic<bool> end_{false};
  BlockedCall<bool> call_;
};

TEST(ThreadWait, IsNotAllowedForTheThreadItself) {
  EXPECT_FALSE(ThreadWait(this_thread_number()).is_allowed());
}

TEST(ThreadWait, IsNotAllowedForAThreadThatWaitsForThisOne) {
  const ThreadNumber other = next_thread_number();
  EXPECT_TRUE(ThreadWait(other).is_allowed());
  Waiting waiting(other, this_thread_number());
  EXPECT_FALSE(ThreadWait(other).is_allowed());
  EXPECT_TRUE(waiting.end());
  EXPECT_TRUE(ThreadWait(other).is_allowed());
}

TEST(ThreadWait, IsNotAllowedForAThreadThatWaitsForThisOneOverOthers) {
  const ThreadNumber first = next_thread_number();
  const ThreadNumber second = next_thread_number();
  const ThreadNumber third = next_thread_number();
  Waiting a(first, second);
  Waiting b(third, this_thread_number());
  EXPECT_TRUE(ThreadWait(first).is_allowed());
  Waiting c(second, third);
  EXPECT_FALSE(ThreadWait(first).is_allowed());
  EXPECT_FALSE(ThreadWait(second).is_allowed());
  EXPECT_TRUE(b.end());
  EXPECT_TRUE(ThreadWait(first).is_allowed());
}

TEST(ThreadWait, TheRefusedOneDoesNotCount) {
  const ThreadNumber other = next_thread_number();
  Waiting waiting(other, this_thread_number());
  const ThreadWait refused(other);
  ASSERT_FALSE(refused.is_allowed());
  // This thread waits for nobody, so others may wait for it.
  Waiting third(next_thread_number(), this_thread_number());
  EXPECT_TRUE(third.end());
}

TEST(ThreadWait, EndsWithTheWorkThatItIsFor) {
  const ThreadNumber other = next_thread_number();
  const int work = 0;
  const int different = 0;
  Waiting waiting(other, this_thread_number(), &work);
  ThreadWait::end(&different);
  EXPECT_FALSE(ThreadWait(other).is_allowed());
  ThreadWait::end(&work);
  EXPECT_TRUE(ThreadWait(other).is_allowed());
}

}  // namespace
}  // namespace tcpip::internal
