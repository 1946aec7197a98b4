#include "tcpip/base/rate_limit.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>

#include "tcpip/wait.h"

namespace tcpip::internal {
namespace {

using namespace std::chrono_literals;

constexpr RateLimit::TimePoint kStart{1h};

TEST(RateLimit, PassesTheFirstAtOnce) {
  RateLimit limit(1s);
  EXPECT_EQ(limit.take(kStart), 1u);
  EXPECT_TRUE(limit.due().is_never());
}

TEST(RateLimit, PassesTheFirstAtTheBeginningOfTime) {
  RateLimit limit(1s, 3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limit.take({}), 1u);
  EXPECT_EQ(limit.take({}), 0u);
}

TEST(RateLimit, HoldsBackWhatComesTooEarlyAndCountsIt) {
  RateLimit limit(1s);
  limit.take(kStart);
  EXPECT_EQ(limit.take(kStart), 0u);
  EXPECT_EQ(limit.take(kStart + 999ms), 0u);
  EXPECT_EQ(limit.due(), Deadline(kStart + 1s));
  EXPECT_EQ(limit.take(kStart + 1s), 3u);
  EXPECT_TRUE(limit.due().is_never());
}

TEST(RateLimit, TellsOfTheRestWithoutANewEvent) {
  RateLimit limit(1s);
  EXPECT_EQ(limit.take_held(kStart), 0u) << "there is nothing";
  limit.take(kStart);
  EXPECT_EQ(limit.take_held(kStart + 5s), 0u) << "there is nothing";
  limit.take(kStart + 5s);
  limit.take(kStart + 5s);
  limit.take(kStart + 5s);
  EXPECT_EQ(limit.take_held(kStart + 5999ms), 0u);
  EXPECT_EQ(limit.take_held(kStart + 6s), 2u);
  EXPECT_EQ(limit.take_held(kStart + 60s), 0u);
}

TEST(RateLimit, TakesAllThatIsHeldAtOnceAtTheEnd) {
  RateLimit limit(1s);
  for (int i = 0; i < 5; ++i) limit.take(kStart);
  EXPECT_EQ(limit.take_all_held(), 4u);
  EXPECT_EQ(limit.take_all_held(), 0u);
}

TEST(RateLimit, PassesABurstAfterAQuietTime) {
  RateLimit limit(1s, 10);
  const auto passed = [&limit](RateLimit::TimePoint now) {
    int result = 0;
    while (limit.take(now) > 0) ++result;
    return result;
  };
  EXPECT_EQ(passed(kStart), 10);
  EXPECT_EQ(passed(kStart + 1s), 1);
  EXPECT_EQ(passed(kStart + 4s), 3);
  EXPECT_EQ(passed(kStart + 1h), 10);
}

TEST(RateLimit, LosesNoEventAndKeepsItsRateInAStorm) {
  RateLimit limit(1s, 10);
  std::uint64_t told = 0;
  int lines = 0;
  for (auto now = kStart; now < kStart + 60s; now += 1ms) {
    const std::uint64_t count = limit.take(now);
    told += count;
    lines += count > 0;
  }
  EXPECT_EQ(told + limit.take_all_held(), 60'000u);
  EXPECT_LE(lines, 10 + 60);
  EXPECT_GE(lines, 60);
}

}  // namespace
}  // namespace tcpip::internal
