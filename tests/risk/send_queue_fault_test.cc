// A SendQueue whose system calls and allocations are counted, or fail: a post
// is cheap, and no message is lost, sent twice or torn.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <limits>
#include <new>
#include <string>
#include <string_view>

#include "tcpip/byte_order.h"
#include "tcpip/error.h"
#include "tcpip/periodic_sender.h"
#include "tcpip/send_queue.h"
#include "tests/support/faults.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"

namespace tcpip_tests {
namespace {

using namespace std::chrono_literals;
using faults::always;
using faults::nth;
using faults::Plan;
using faults::sometimes;
using tcpip::PeriodicSender;
using tcpip::SendQueue;
using tcpip::SendQueueOptions;
using tcpip::SendResult;
using tcpip::WhenFull;

constexpr std::size_t kMuch = 16u << 20;

struct Sample {
  tcpip::BigEndian<std::uint32_t> number{};
  tcpip::BigEndian<double> value{};
};

// Counts the calling thread's calls of that name, and changes none.
faults::Rule counting() {
  return faults::from_nth(std::numeric_limits<int>::max() / 2)
      .error(EIO)
      .here();
}

// One post of each kind.
void post_all(SendQueue& queue) {
  EXPECT_EQ(queue.post("bytes"), SendResult::kQueued);
  EXPECT_EQ(queue.post_str("text"), SendResult::kQueued);
  EXPECT_EQ(queue.post_from(Sample{.number = 1, .value = 2.5}),
            SendResult::kQueued);
}

TEST(SendQueueFaultTest, PostMakesNoCallWhileTheWriterIsAtWork) {
  for (const WhenFull when_full :
       {WhenFull::kDropNewest, WhenFull::kDropOldest, WhenFull::kClose}) {
    ServedStage stage;
    SendQueue queue(*stage, {.slots = 3, .when_full = when_full});
    ASSERT_EQ(stage->connection().send(std::string(kMuch, 'x')),
              SendResult::kQueued);
    ASSERT_EQ(queue.post("first"), SendResult::kQueued);
    ASSERT_TRUE(eventually([&] { return queue.size() == 0; }));
    // The writer waits for the peer now, with or without the next message.
    const Plan plan(faults::names(), counting());
    post_all(queue);
    const SendResult result = queue.post("one too many");
    EXPECT_EQ(plan.calls(), 0);
    EXPECT_EQ(result, when_full == WhenFull::kDropOldest ? SendResult::kQueued
                                                         : SendResult::kBusy);
  }
}

TEST(SendQueueFaultTest, PostMakesOneWriteAtMostIfTheWriterSleeps) {
  ServedStage stage;
  SendQueue queue(*stage);
  int writes = 0;
  for (int i = 0; i < 200; ++i) {
    queue.flush(kPatience);
    int all = 0;
    int these = 0;
    {
      const Plan plan(faults::names(), counting());
      const Plan write("write", counting());
      post_all(queue);
      all = plan.calls();
      these = write.calls();
    }
    EXPECT_EQ(all, these);
    EXPECT_LE(these, 3);
    writes += these;
    EXPECT_EQ(recv_exact(stage.peer, 5 + 6 + 12).substr(0, 11),
              "bytestext\r\n");
  }
  EXPECT_GT(writes, 0);
}

TEST(SendQueueFaultTest, AFailedConstructorLeavesNothingBehind) {
  ServedStage stage;
  {
    const Plan plan("eventfd", always().error(EMFILE));
    EXPECT_THROW(SendQueue queue(*stage), tcpip::Error);
    EXPECT_GT(plan.injected(), 0);
  }
  {
    const Plan plan("thread", always().error(EAGAIN));
    EXPECT_THROW(SendQueue queue(*stage), tcpip::Error);
    EXPECT_THROW(PeriodicSender(*stage, {.period = 1s},
                                [](const tcpip::Connection&) {
                                  return SendResult::kSent;
                                }),
                 tcpip::Error);
    EXPECT_EQ(plan.injected(), 2);
  }
  for (int n = 1;; ++n) {
    Plan plan("new", nth(n).error(ENOMEM).here());
    try {
      SendQueue queue(*stage);
      plan.lift();
      EXPECT_EQ(queue.post("x"), SendResult::kQueued);
      EXPECT_EQ(recv_exact(stage.peer, 1), "x");
    } catch (const std::bad_alloc&) {
    }
    plan.lift();
    if (plan.injected() == 0) break;
    ASSERT_LT(n, 1000);
  }
}

// Messages of all sizes arrive whole, once and in order.
void expect_all_arrive(ServedStage& stage, SendQueue& queue) {
  constexpr int kMessages = 300;
  std::string expected;
  {
    const faults::Exempt exempt;
    for (int i = 0; i < kMessages; ++i) {
      const std::string message =
          std::to_string(i) +
          std::string(static_cast<std::size_t>(i * 7 % 900), 'm') + "\n";
      ASSERT_TRUE(eventually(
          [&] { return queue.post(message) == SendResult::kQueued; }));
      expected += message;
    }
    EXPECT_EQ(recv_exact(stage.peer, expected.size()), expected);
    EXPECT_TRUE(eventually([&] { return queue.stats().sent == kMessages; }));
  }
  EXPECT_EQ(queue.stats().dropped_stale, 0u);
}

TEST(SendQueueFaultTest, NoMessageIsTornBySendsThatFallShort) {
  ServedStage stage;
  SendQueue queue(*stage, {.slots = 16});
  constexpr std::array<std::string_view, 2> kSends{"send", "sendmsg"};
  Plan plan(kSends, sometimes(0.7, 3).at_most(5));
  plan.add("send", sometimes(0.3, 4).error(EAGAIN));
  plan.add("sendmsg", sometimes(0.3, 5).error(ENOBUFS));
  expect_all_arrive(stage, queue);
  EXPECT_GT(plan.injected(), 0);
}

TEST(SendQueueFaultTest, NoMessageIsLostWhileMemoryIsRefused) {
  ServedStage stage;
  SendQueue queue(*stage, {.slots = 16});
  Plan plan("new", sometimes(0.7, 6).error(ENOMEM));
  plan.add("send", sometimes(0.5, 7).at_most(5));
  expect_all_arrive(stage, queue);
  EXPECT_GT(plan.injected(), 0);
}

TEST(SendQueueFaultTest, NoMessageStaysBehindWhilePollIsRefused) {
  ServedStage stage;
  SendQueue queue(*stage, {.slots = 16});
  Plan plan("ppoll", always().error(ENOMEM));
  // Ends the poll that has begun, so that the writer meets the next one.
  EXPECT_EQ(queue.post("x"), SendResult::kQueued);
  EXPECT_TRUE(eventually([&] { return plan.injected() > 0; }));
  EXPECT_EQ(queue.post("y"), SendResult::kQueued);
  EXPECT_EQ(recv_exact(stage.peer, 2), "xy");
}

}  // namespace
}  // namespace tcpip_tests
