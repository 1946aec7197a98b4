#include "tcpip/periodic_sender.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/wait.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using Clock = std::chrono::steady_clock;
using tcpip_tests::ClientStage;
using tcpip_tests::eventually;
using tcpip_tests::kPrompt;
using tcpip_tests::recv_exact;
using tcpip_tests::seconds_of;
using tcpip_tests::ServedStage;
using tcpip_tests::ServerStage;

SendResult nothing(const Connection&) { return SendResult::kSent; }

std::uint64_t calls(const PeriodicSender& sender) {
  const PeriodicSenderStats stats = sender.stats();
  return stats.sent + stats.busy + stats.failed;
}

TEST(PeriodicSenderTest, SendsAgainAndAgain) {
  ServedStage stage;
  int count = 0;
  PeriodicSender sender(*stage, {.period = 1ms}, [&](const Connection& client) {
    return client.send_str(std::to_string(++count));
  });
  EXPECT_EQ(recv_exact(stage.peer, 12), "1\r\n2\r\n3\r\n4\r\n");
}

TEST(PeriodicSenderTest, ServesAClientToo) {
  ClientStage stage;
  PeriodicSender sender(*stage, {.period = 1h}, [](const Connection& server) {
    return server.send("hello");
  });
  EXPECT_EQ(recv_exact(stage.peer, 5), "hello");
}

TEST(PeriodicSenderTest, RefusesWrongArguments) {
  ServerStage<> stage;
  for (const std::chrono::microseconds period :
       std::initializer_list<std::chrono::microseconds>{
           0us, -1us, 24h + 1us, std::chrono::microseconds::max()}) {
    EXPECT_THROW(PeriodicSender(*stage, {.period = period}, nothing),
                 std::invalid_argument);
  }
  EXPECT_THROW(PeriodicSender(*stage, {.period = 1s}, nullptr),
               std::invalid_argument);
}

// --- The schedule ---

// The calls, with those that are left out, are as many as there are periods:
// no more and no less, although the function takes its time.
void expect_schedule(std::chrono::microseconds period,
                     std::chrono::microseconds work, std::uint64_t wanted) {
  ServerStage<> stage;
  std::optional<Clock::time_point> first;
  Clock::time_point last_return;
  PeriodicSender sender(*stage, {.period = period}, [&](const Connection&) {
    const Clock::time_point begin = Clock::now();
    if (!first) first = begin;
    while (Clock::now() < begin + work) {
    }
    last_return = Clock::now();
    return SendResult::kSent;
  });
  const Clock::time_point before = Clock::now();
  const UniqueFd peer = stage.connect();
  EXPECT_TRUE(eventually([&] { return calls(sender) >= wanted; }));
  sender.close();
  const Clock::time_point after = Clock::now();
  const auto periods =
      static_cast<std::int64_t>(calls(sender) + sender.stats().missed);
  EXPECT_LE((periods - 1) * period, after - before);
  EXPECT_GT(periods * period, last_return - *first);
}

TEST(PeriodicSenderTest, DoesNotDrift) { expect_schedule(2ms, 1ms, 50); }

TEST(PeriodicSenderTest, LeavesOutWhatASlowFunctionMisses) {
  expect_schedule(2ms, 3ms, 20);
}

TEST(PeriodicSenderTest, CountsMissedTimesAndMakesNoBurst) {
  constexpr auto kPeriod = 5ms;
  ServedStage stage;
  std::atomic<int> count{0};
  std::atomic<std::uint64_t> missed_at_second{0};
  std::optional<PeriodicSender> sender;
  std::atomic<bool> ready{false};
  sender.emplace(
      *stage, PeriodicSenderOptions{.period = kPeriod}, [&](const Connection&) {
        if (++count == 1) {
          const auto end = Clock::now() + 20 * kPeriod;
          EXPECT_TRUE(eventually([&] { return ready && Clock::now() >= end; }));
        } else if (count == 2) {
          missed_at_second = sender->stats().missed;
        }
        return SendResult::kSent;
      });
  ready = true;
  EXPECT_TRUE(eventually([&] { return count >= 2; }));
  sender->close();
  EXPECT_GE(missed_at_second, 20u);
}

// The period is an hour: whatever is sent is sent at once.
TEST(PeriodicSenderTest, ANewConnectionGetsItsFirstMessageAtOnce) {
  ServerStage<> stage;
  PeriodicSender sender(*stage, {.period = 1h}, [](const Connection& client) {
    return client.send(std::to_string(client.number()));
  });
  for (int i = 1; i <= 5; ++i) {
    const UniqueFd peer = stage.connect();
    EXPECT_EQ(recv_exact(peer, 1), std::to_string(i));
    stage->close_client();
    EXPECT_EQ(tcpip_tests::recv_until_eof(peer), "");
  }
  EXPECT_EQ(sender.stats().missed, 0u);
}

TEST(PeriodicSenderTest, CallsNothingWithoutAConnection) {
  ServerStage<> stage;
  std::atomic<std::uint64_t> count{0};
  std::atomic<std::uint64_t> unconnected{0};
  PeriodicSender sender(*stage, {.period = 1ms}, [&](const Connection& client) {
    ++count;
    const SendResult result = client.send("x");
    if (result == SendResult::kNotConnected) ++unconnected;
    return result;
  });
  for (int i = 0; i < 10; ++i) {
    const UniqueFd peer = stage.connect();
    EXPECT_EQ(recv_exact(peer, 3), "xxx");
    stage->close_client();
  }
  const Deadline many_periods = Deadline::after(30ms);
  EXPECT_TRUE(eventually([&] { return many_periods.has_passed(); }));
  sender.close();
  // A connection may end when its call has begun: once each.
  EXPECT_LE(unconnected, 10u);
  EXPECT_EQ(sender.stats().sent + unconnected, count);
}

TEST(PeriodicSenderTest, CountsWhatThePeerDoesNotTake) {
  ServedStage stage;
  ASSERT_EQ(stage->connection().send(std::string(16u << 20, 'x')),
            SendResult::kQueued);
  PeriodicSender sender(*stage, {.period = 1ms}, [](const Connection& client) {
    return client.try_send("x");
  });
  EXPECT_TRUE(eventually([&] { return sender.stats().busy >= 3; }));
  EXPECT_EQ(sender.stats().sent, 0u);
}

// --- A function that throws ---

TEST(PeriodicSenderTest, GoesOnAfterAnExceptionAndLogsIt) {
  ServedStage stage;
  int count = 0;
  PeriodicSender sender(*stage, {.period = 1ms}, [&](const Connection& client) {
    switch (++count) {
      case 1:
        throw std::runtime_error("no telemetry");
      case 2:
        throw 42;
      default:
        return client.send("x");
    }
  });
  EXPECT_EQ(recv_exact(stage.peer, 1), "x");
  EXPECT_EQ(sender.stats().failed, 2u);
  EXPECT_EQ(stage.lines.count("periodic send: no telemetry"), 1u)
      << stage.lines.text();
  EXPECT_EQ(stage.lines.count("periodic send: an unknown exception"), 1u)
      << stage.lines.text();
}

TEST(PeriodicSenderTest, LogsFailuresAtABoundedRate) {
  ServedStage stage;
  const Clock::time_point begin = Clock::now();
  PeriodicSender sender(*stage, {.period = 500us},
                        [](const Connection&) -> SendResult {
                          throw std::runtime_error("no telemetry");
                        });
  EXPECT_TRUE(eventually([&] { return sender.stats().failed >= 200; }));
  sender.close();
  const auto seconds =
      std::chrono::ceil<std::chrono::seconds>(Clock::now() - begin).count();
  EXPECT_LE(stage.lines.count("periodic send"),
            static_cast<std::size_t>(11 + seconds));
}

// --- The end ---

TEST(PeriodicSenderTest, CloseWakesItAtOnce) {
  for (const bool connected : {false, true}) {
    ServerStage<> stage;
    PeriodicSender sender(*stage, {.period = 1h}, nothing);
    UniqueFd peer;
    if (connected) {
      peer = stage.connect();
      EXPECT_TRUE(eventually([&] { return sender.stats().sent == 1; }));
    }
    EXPECT_LT(seconds_of([&] { sender.close(); }), kPrompt);
    sender.close();
  }
}

TEST(PeriodicSenderTest, NoCallBeginsAfterClose) {
  ServedStage stage;
  std::atomic<bool> closed{false};
  std::atomic<int> count{0};
  PeriodicSender sender(*stage, {.period = 100us}, [&](const Connection&) {
    EXPECT_FALSE(closed);
    ++count;
    return SendResult::kSent;
  });
  EXPECT_TRUE(eventually([&] { return count >= 10; }));
  sender.close();
  closed = true;
  const int before = count;
  stage.reconnect_after_close();
  EXPECT_EQ(count, before);
}

TEST(PeriodicSenderTest, MayBeClosedOrDestroyedInItsFunction) {
  for (const bool destroys : {false, true}) {
    ServerStage<> stage;
    std::atomic<int> count{0};
    std::unique_ptr<PeriodicSender> sender;
    sender = std::make_unique<PeriodicSender>(
        *stage, PeriodicSenderOptions{.period = 100us}, [&](const Connection&) {
          if (destroys) {
            sender.reset();
          } else {
            sender->close();
          }
          ++count;
          return SendResult::kSent;
        });
    const UniqueFd peer = stage.connect();
    EXPECT_TRUE(eventually([&] { return count == 1; }));
    stage->close_client();
    const UniqueFd next = stage.connect();
    EXPECT_EQ(count, 1);
  }
}

TEST(PeriodicSenderTest, FunctionMayCloseTheServer) {
  ServedStage stage;
  PeriodicSender sender(*stage, {.period = 1ms}, [&](const Connection&) {
    stage->close();
    return SendResult::kSent;
  });
  EXPECT_TRUE(eventually([&] { return sender.stats().sent == 1; }));
  EXPECT_TRUE(stage->wait_done(tcpip_tests::kPatience));
}

TEST(PeriodicSenderTest, OutlivesItsServer) {
  std::optional<ServedStage> stage;
  stage.emplace();
  PeriodicSender sender(**stage, {.period = 1ms}, nothing);
  EXPECT_TRUE(eventually([&] { return sender.stats().sent >= 3; }));
  stage.reset();
  const std::uint64_t sent = sender.stats().sent;
  sender.close();
  EXPECT_LE(sender.stats().sent, sent + 1);
}

TEST(PeriodicSenderTest, ThreadHasANameAndCallsTheHook) {
  ServerStage<> stage;
  std::string name;
  std::optional<ThreadRole> role;
  {
    PeriodicSender sender(*stage,
                          {.period = 1h,
                           .thread_start_hook =
                               [&](ThreadRole r) {
                                 std::array<char, 16> bytes{};
                                 ::pthread_getname_np(::pthread_self(),
                                                      bytes.data(),
                                                      bytes.size());
                                 name = bytes.data();
                                 role = r;
                               }},
                          nothing);
  }
  EXPECT_EQ(name, "tcpip-periodic");
  EXPECT_EQ(role, ThreadRole::kPeriodic);
}

}  // namespace
}  // namespace tcpip
