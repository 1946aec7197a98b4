#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "tcpip/testing/wait_until.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using Clock = std::chrono::steady_clock;

TEST(TestingWaitUntilTest, ReturnsWhenAnotherThreadHasMadeItTrue) {
  std::atomic<bool> done{false};
  std::jthread thread([&] { done = true; });
  EXPECT_TRUE(wait_until([&] { return done.load(); }));
}

TEST(TestingWaitUntilTest, GivesUpAtTheLimit) {
  const auto start = Clock::now();
  EXPECT_FALSE(wait_until([] { return false; }, 20ms));
  EXPECT_GE(Clock::now() - start, 20ms);
}

TEST(TestingWaitUntilTest, LooksOnceWithoutALimit) {
  int looks = 0;
  EXPECT_TRUE(wait_until([&] { return ++looks == 1; }, 0ms));
  EXPECT_EQ(looks, 1);
  EXPECT_FALSE(wait_until([] { return false; }, -1s));
}

TEST(TestingWaitUntilTest, WaitsForTheLongestLimit) {
  for (const auto limit :
       {std::chrono::milliseconds::max(),
        std::chrono::milliseconds(std::chrono::hours(24 * 365 * 300))}) {
    int looks = 0;
    EXPECT_TRUE(wait_until([&] { return ++looks == 3; }, limit));
  }
  EXPECT_FALSE(
      wait_until([] { return false; }, std::chrono::milliseconds::min()));
}

TEST(TestingWaitUntilTest, PassesOnWhatThePredicateThrows) {
  EXPECT_THROW(
      (void)wait_until([]() -> bool { throw std::runtime_error("no"); }),
      std::runtime_error);
}

}  // namespace
}  // namespace tcpip_testing
