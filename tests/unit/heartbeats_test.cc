// When heartbeats are sent, and when the lack of them is a loss: a table of
// made-up times, without clock or socket. heartbeat_test.cc has the whole.
#include "tcpip/endpoint/heartbeats.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "tcpip/options.h"
#include "tcpip/wait.h"

namespace tcpip::internal {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using TimePoint = Heartbeats::TimePoint;

// When the connection is made. All times count from here.
const TimePoint kStart = TimePoint() + 1000h;

// The counts that look() is given; nothing has come unless it says so.
struct Bytes {
  std::uint64_t received = 0;
  std::uint64_t unread = 0;
  std::uint64_t receivable = 0;
};

struct Step {
  milliseconds at;
  Bytes bytes = {};
  bool heard = false;  // one has come, right before
  // What look() says.
  bool send = false;
  bool lost = false;
  milliseconds again = -1ms;  // never
};

void expect_steps(const HeartbeatOptions& options,
                  const std::vector<Step>& steps) {
  Heartbeats heartbeats(checked(options), kStart);
  for (const Step& step : steps) {
    SCOPED_TRACE("at " + std::to_string(step.at.count()) + " ms");
    const TimePoint now = kStart + step.at;
    const std::uint64_t read = step.bytes.received - step.bytes.unread;
    if (step.heard) heartbeats.heard(now, read);
    const Heartbeats::Verdict verdict =
        heartbeats.look(now, step.bytes.received + step.bytes.receivable, read);
    EXPECT_EQ(verdict.send, step.send);
    EXPECT_EQ(verdict.lost, step.lost);
    if (step.lost) continue;
    ASSERT_EQ(verdict.look_again.is_never(), step.again < 0ms);
    if (step.again >= 0ms) {
      EXPECT_EQ(verdict.look_again.when() - kStart, step.again);
    }
  }
}

constexpr HeartbeatOptions kSend{.send = true, .interval = 100ms};
constexpr HeartbeatOptions kExpect{.expect = true, .max_interval = 1000ms};

TEST(HeartbeatsTest, IntervalsThatAreNotPositiveAreRefused) {
  EXPECT_THROW(checked({.interval = 0ms}), std::invalid_argument);
  EXPECT_THROW(checked({.max_interval = 0ms}), std::invalid_argument);
  EXPECT_THROW(checked({.interval = -1ms}), std::invalid_argument);
  EXPECT_NO_THROW(checked({.interval = 1ms, .max_interval = 1ms}));
}

TEST(HeartbeatsTest, TheClockCanAddTheLongestInterval) {
  const HeartbeatOptions options = checked(
      {.interval = milliseconds::max(), .max_interval = milliseconds::max()});
  const auto now = std::chrono::steady_clock::now();
  EXPECT_GT(now + options.interval, now);
  EXPECT_GT(now + options.max_interval, now);
}

TEST(HeartbeatsTest, NeitherSentNorExpectedThereIsNothingToDo) {
  expect_steps({}, {{.at = 0ms}, {.at = 1000h}});
}

TEST(HeartbeatsTest, TheFirstIsSentAtOnceAndThenOneEachInterval) {
  expect_steps(kSend, {{.at = 0ms, .send = true, .again = 100ms},
                       {.at = 50ms, .again = 100ms},
                       {.at = 99ms, .again = 100ms},
                       {.at = 100ms, .send = true, .again = 200ms},
                       {.at = 200ms, .send = true, .again = 300ms}});
}

TEST(HeartbeatsTest, OneThatIsLateDoesNotMakeTheNextOneLate) {
  expect_steps(kSend, {{.at = 0ms, .send = true, .again = 100ms},
                       {.at = 150ms, .send = true, .again = 200ms},
                       {.at = 200ms, .send = true, .again = 300ms}});
}

TEST(HeartbeatsTest, ThoseThatWereMissedAreNotSentInABunch) {
  expect_steps(kSend, {{.at = 0ms, .send = true, .again = 100ms},
                       {.at = 1050ms, .send = true, .again = 1150ms},
                       {.at = 1051ms, .again = 1150ms}});
}

TEST(HeartbeatsTest, SilenceIsOneMaxIntervalAndAPause) {
  // The pause is for a heartbeat that comes at this moment.
  expect_steps(kExpect, {{.at = 0ms, .again = 1000ms},
                         {.at = 999ms, .again = 1000ms},
                         {.at = 1000ms, .again = 1050ms},
                         {.at = 1050ms, .lost = true}});
}

TEST(HeartbeatsTest, EachOneBeginsANewMaxInterval) {
  const Bytes one{.received = 11};
  const Bytes two{.received = 22};
  expect_steps(kExpect,
               {{.at = 900ms, .bytes = one, .heard = true, .again = 1900ms},
                {.at = 1500ms, .bytes = one, .again = 1900ms},
                {.at = 1800ms, .bytes = two, .heard = true, .again = 2800ms},
                {.at = 2800ms, .bytes = two, .again = 2850ms},
                {.at = 2850ms, .bytes = two, .lost = true}});
}

// The peer hangs from 100 ms on. The program takes its time with what has come.
TEST(HeartbeatsTest, OneThatIsReadLateCountsFromWhenItHadCome) {
  expect_steps(
      kExpect,
      {{.at = 100ms, .bytes = {.receivable = 400}, .again = 1000ms},
       {.at = 500ms,
        .bytes = {.received = 400, .unread = 300},
        .heard = true,
        .again = 1100ms},
       {.at = 900ms,
        .bytes = {.received = 400, .unread = 200},
        .heard = true,
        .again = 1100ms},
       {.at = 1100ms,
        .bytes = {.received = 400, .unread = 200},
        .again = 1150ms},
       {.at = 1300ms,
        .bytes = {.received = 400, .unread = 100},
        .heard = true,
        .again = 1350ms},
       {.at = 2100ms, .bytes = {.received = 400, .unread = 50}, .lost = true}});
}

TEST(HeartbeatsTest, OneThatIsReadLateEndsTheDoubt) {
  expect_steps(kExpect,
               {{.at = 1000ms, .bytes = {.receivable = 11}, .again = 1050ms},
                {.at = 1050ms, .bytes = {.receivable = 11}, .again = 1100ms},
                {.at = 1060ms,
                 .bytes = {.received = 11},
                 .heard = true,
                 .again = 2000ms},
                // A new silence is doubted anew.
                {.at = 2000ms, .bytes = {.received = 11}, .again = 2050ms},
                {.at = 2050ms, .bytes = {.received = 11}, .lost = true}});
}

TEST(HeartbeatsTest, BytesThatAreReadAndHoldNoneEndIt) {
  expect_steps(
      kExpect,
      {{.at = 1000ms, .bytes = {.receivable = 30}, .again = 1050ms},
       {.at = 1050ms, .bytes = {.received = 30, .unread = 10}, .again = 1100ms},
       {.at = 1100ms, .bytes = {.received = 30}, .lost = true}});
}

TEST(HeartbeatsTest, BytesInTheReadersBufferAreUnreadToo) {
  expect_steps(
      kExpect,
      {{.at = 1000ms, .bytes = {.received = 30, .unread = 30}, .again = 1050ms},
       {.at = 1999ms, .bytes = {.received = 30, .unread = 30}, .again = 2049ms},
       {.at = 2000ms, .bytes = {.received = 30, .unread = 30}, .lost = true}});
}

TEST(HeartbeatsTest, WhatComesAfterTheLimitNeedNotBeRead) {
  // 10 bytes are suspected; the 20 that came later are not.
  expect_steps(kExpect,
               {{.at = 1000ms, .bytes = {.receivable = 10}, .again = 1050ms},
                {.at = 1050ms,
                 .bytes = {.received = 10, .receivable = 20},
                 .lost = true}});
}

TEST(HeartbeatsTest, UnreadBytesGrantTimeForAsLongAsMoreKeepComing) {
  std::vector<Step> steps;
  std::uint64_t arrived = 10;
  milliseconds at = 1000ms;
  for (int i = 0; i < 10; ++i, at += 900ms, arrived += 10) {
    steps.push_back(
        {.at = at, .bytes = {.receivable = arrived}, .again = at + 50ms});
  }
  // The last came at 9100 ms.
  const Bytes same{.receivable = arrived - 10};
  steps.push_back({.at = 10099ms, .bytes = same, .again = 10149ms});
  steps.push_back({.at = 10100ms, .bytes = same, .lost = true});
  expect_steps(kExpect, steps);
}

TEST(HeartbeatsTest, ThePauseOfADoubtIsAtLeast20MillisecondsAndAtMostASecond) {
  expect_steps({.expect = true, .max_interval = 10ms},
               {{.at = 10ms, .again = 30ms}, {.at = 30ms, .lost = true}});
  expect_steps(
      {.expect = true, .max_interval = 60'000ms},
      {{.at = 60'000ms, .again = 61'000ms}, {.at = 61'000ms, .lost = true}});
}

TEST(HeartbeatsTest, BothWaysTheEarlierTimeCounts) {
  expect_steps(
      {.send = true, .interval = 700ms, .expect = true, .max_interval = 1000ms},
      {{.at = 0ms, .send = true, .again = 700ms},
       {.at = 700ms, .send = true, .again = 1000ms},
       {.at = 800ms, .bytes = {.received = 11}, .heard = true, .again = 1400ms},
       {.at = 1400ms, .bytes = {.received = 11}, .send = true, .again = 1800ms},
       {.at = 1800ms, .bytes = {.received = 11}, .again = 1850ms},
       {.at = 1850ms, .bytes = {.received = 11}, .lost = true}});
}

}  // namespace
}  // namespace tcpip::internal
