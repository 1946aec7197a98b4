#include "tcpip/base/peer_log.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "tcpip/testing/log_recorder.h"
#include "tests/support/told.h"
#include "tests/support/wait_until.h"

namespace tcpip::internal {
namespace {

using tcpip_testing::LogRecorder;
using tcpip_tests::told;
using tcpip_tests::wait_until;

void turn_away(PeerLog& log, int client) {
  log.write(PeerLine::kTurnedAway, LogLevel::kWarning,
            [&] { return "rejecting " + std::to_string(client); });
}

TEST(PeerLog, WritesTheFirstLineAsItIs) {
  const LogRecorder lines;
  PeerLog log(lines.log());
  turn_away(log, 1);
  EXPECT_EQ(lines.text(), "rejecting 1\n");
}

TEST(PeerLog, TellsHowManyWereHeldBackWithTheTextOfTheLast) {
  const LogRecorder lines;
  PeerLog log(lines.log());
  for (int i = 1; i <= 1000; ++i) turn_away(log, i);
  EXPECT_LT(lines.size(), 10u);
  log.write_rest();
  EXPECT_EQ(told(lines, "rejecting"), 1000u) << lines.text();
  const std::string last = lines.values().back().message;
  EXPECT_TRUE(last.starts_with("rejecting 1000")) << last;
  EXPECT_EQ(lines.values().back().level, LogLevel::kWarning);
}

TEST(PeerLog, WritesWhatWasHeldBackWhenItIsDue) {
  const LogRecorder lines;
  PeerLog log(lines.log());
  turn_away(log, 1);
  EXPECT_TRUE(log.write_due().is_never());
  turn_away(log, 2);
  EXPECT_FALSE(log.write_due().is_never());
  EXPECT_TRUE(wait_until([&] { return log.write_due().is_never(); }));
  // What is logged in between does not seem to come before it.
  const std::string text = lines.text();
  EXPECT_TRUE(text.starts_with("rejecting 1\nrejecting 2, ")) << text;
  EXPECT_TRUE(text.ends_with(" s ago\n")) << text;
}

TEST(PeerLog, SaysOfALineThatWasHeldBackHowLongAgoItWas) {
  const LogRecorder lines;
  PeerLog log(lines.log());
  turn_away(log, 1);
  turn_away(log, 2);
  const auto held_at = std::chrono::steady_clock::now();
  turn_away(log, 3);
  EXPECT_TRUE(wait_until([&] { return log.write_due().is_never(); }));
  const std::chrono::duration<double> at_most =
      std::chrono::steady_clock::now() - held_at;
  const std::string last = lines.values().back().message;
  double age = 0;
  int count = 0;
  ASSERT_EQ(std::sscanf(last.c_str(), "rejecting 3, %lf s ago (%d times", &age,
                        &count),
            2)
      << last;
  EXPECT_EQ(count, 2);
  EXPECT_GT(age, 0.5);
  EXPECT_LE(age, at_most.count() + 0.1);
}

TEST(PeerLog, CountsEachKindForItself) {
  const LogRecorder lines;
  PeerLog log(lines.log());
  turn_away(log, 1);
  turn_away(log, 2);
  log.write(PeerLine::kUnreadDropped, LogLevel::kWarning,
            [] { return "unread"; });
  EXPECT_EQ(lines.text(), "rejecting 1\nunread\n");
}

TEST(PeerLog, GivesEachOfTheFirstClientsALineOfItsOwn) {
  const LogRecorder lines;
  PeerLog log(lines.log());
  for (int i = 0; i < 10; ++i) {
    log.write(PeerLine::kConnected, LogLevel::kInfo,
              [] { return "connected"; });
  }
  EXPECT_EQ(lines.count("connected"), 10u);
  for (int i = 0; i < 1000; ++i) {
    log.write(PeerLine::kConnected, LogLevel::kInfo,
              [] { return "connected"; });
  }
  EXPECT_LT(lines.count("connected"), 30u);
}

TEST(PeerLog, CountsNothingThatItsLogDoesNotTake) {
  const LogRecorder lines;
  PeerLog log(lines.log(LogLevel::kError));
  for (int i = 0; i < 10; ++i) turn_away(log, i);
  EXPECT_TRUE(log.write_due().is_never());
  EXPECT_EQ(lines.size(), 0u);
}

TEST(PeerLog, LosesNothingAmongThreads) {
  const LogRecorder lines;
  PeerLog log(lines.log());
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&log] {
        for (int n = 0; n < 1000; ++n) {
          turn_away(log, n);
          log.write_due();
        }
      });
    }
  }
  log.write_rest();
  EXPECT_EQ(told(lines, "rejecting"), 4000u);
}

}  // namespace
}  // namespace tcpip::internal
