#include "tcpip/pending_replies.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_tests::BlockedCall;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::recv_exact;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using tcpip_tests::ServedStage;
using Replies = PendingReplies<int, std::string>;

class PendingRepliesTest : public testing::Test {
 protected:
  ServedStage stage;
  const Connection connection = stage->connection();
  Replies replies;
};

TEST_F(PendingRepliesTest, EachReplyReachesWhoExpectsIt) {
  auto one = replies.expect(connection, 1);
  auto two = replies.expect(connection, 2);
  EXPECT_EQ(replies.size(), 2u);
  EXPECT_TRUE(replies.fulfil(connection, 2, "two"));
  EXPECT_TRUE(replies.fulfil(connection, 1, "one"));
  EXPECT_EQ(replies.size(), 0u);
  EXPECT_EQ(one.wait(Wait::none()), "one");
  EXPECT_EQ(two.wait(Wait::none()), "two");
}

TEST_F(PendingRepliesTest, AReplyWakesTheThreadThatWaits) {
  auto ticket = replies.expect(connection, 1);
  BlockedCall call([&] { return ticket.wait(kPatience); });
  EXPECT_TRUE(call.await_blocked());
  EXPECT_TRUE(replies.fulfil(connection, 1, "one"));
  EXPECT_EQ(call.get(), "one");
}

TEST_F(PendingRepliesTest, WhatNobodyExpectsIsNobodys) {
  EXPECT_FALSE(replies.fulfil(connection, 1, "early"));
  {
    auto ticket = replies.expect(connection, 1);
    EXPECT_FALSE(replies.fulfil(connection, 2, "another key"));
    EXPECT_FALSE(replies.fulfil(Connection(), 1, "another connection"));
    EXPECT_TRUE(replies.fulfil(connection, 1, "reply"));
    EXPECT_FALSE(replies.fulfil(connection, 1, "twice"));
    EXPECT_EQ(ticket.wait(Wait::none()), "reply");
  }
  { const auto given_up = replies.expect(connection, 1); }
  EXPECT_FALSE(replies.fulfil(connection, 1, "late"));
  EXPECT_EQ(replies.size(), 0u);
}

// Runs a function when it is stored.
struct StoredReply {
  StoredReply(std::string reply, std::function<void()> function)
      : text(std::move(reply)), when_stored(std::move(function)) {}
  StoredReply(StoredReply&& other)
      : text(std::move(other.text)),
        when_stored(std::exchange(other.when_stored, nullptr)) {
    if (when_stored) when_stored();
  }
  StoredReply& operator=(StoredReply&&) = delete;

  std::string text;
  std::function<void()> when_stored;
};

TEST_F(PendingRepliesTest, ASecondReplyWhileTheFirstIsStoredIsNobodys) {
  PendingReplies<int, StoredReply> stored;
  auto ticket = stored.expect(connection, 1);
  std::vector<bool> seconds;
  EXPECT_TRUE(stored.fulfil(connection, 1, StoredReply("first", [&] {
                              seconds.push_back(stored.fulfil(
                                  connection, 1, StoredReply("second", {})));
                            })));
  ASSERT_FALSE(seconds.empty());
  EXPECT_FALSE(seconds.front());
  EXPECT_EQ(ticket.wait(Wait::none()).text, "first");
}

TEST_F(PendingRepliesTest, AKeyIsExpectedOnceAtATime) {
  auto first = replies.expect(connection, 1);
  EXPECT_THROW((void)replies.expect(connection, 1), std::invalid_argument);
  EXPECT_TRUE(replies.fulfil(connection, 1, "first"));
  auto second = replies.expect(connection, 1);
  EXPECT_TRUE(replies.fulfil(connection, 1, "second"));
  EXPECT_EQ(second.wait(Wait::none()), "second");
  EXPECT_EQ(first.wait(Wait::none()), "first");
}

TEST_F(PendingRepliesTest, AWaitMayBeRepeatedUntilTheReplyWasReturned) {
  auto ticket = replies.expect(connection, 1);
  EXPECT_THROW(ticket.wait(Wait::none()), TimeoutError);
  EXPECT_THROW(ticket.wait(1ms), TimeoutError);
  std::stop_source stop;
  BlockedCall call(
      [&] { EXPECT_THROW(ticket.wait(stop.get_token()), CancelledError); });
  EXPECT_TRUE(call.await_blocked());
  stop.request_stop();
  call.get();
  EXPECT_TRUE(replies.fulfil(connection, 1, "one"));
  EXPECT_EQ(ticket.wait(kPatience), "one");
  EXPECT_THROW(ticket.wait(kPatience), std::logic_error);
}

TEST_F(PendingRepliesTest, ErrorsNameThePeer) {
  auto ticket = replies.expect(connection, 1);
  try {
    ticket.wait(Wait::none());
    ADD_FAILURE();
  } catch (const TimeoutError& e) {
    EXPECT_EQ(e.operation(), "wait");
    EXPECT_EQ(e.peer(), connection.peer_address().to_string());
  }
}

// --- The end ---

TEST_F(PendingRepliesTest, FailAllEndsAllWaitsAtOnce) {
  auto one = replies.expect(connection, 1);
  auto two = replies.expect(connection, 2);
  BlockedCall call([&] { EXPECT_THROW(one.wait(), ConnectionError); });
  EXPECT_TRUE(call.await_blocked());
  EXPECT_EQ(replies.fail_all(Connection()), 0u);
  EXPECT_EQ(replies.fail_all(connection), 2u);
  call.get();
  EXPECT_THROW(two.wait(), ConnectionError);
  EXPECT_FALSE(replies.fulfil(connection, 1, "late"));
  EXPECT_EQ(replies.fail_all(), 0u);
}

TEST_F(PendingRepliesTest, OurCloseEndsTheWaitsAtOnce) {
  auto ticket = replies.expect(connection, 1);
  BlockedCall call([&] { EXPECT_THROW(ticket.wait(), ConnectionError); });
  EXPECT_TRUE(call.await_blocked());
  connection.close();
  EXPECT_LE(seconds_of([&] { call.get(); }), kPrompt);
  EXPECT_THROW(replies.expect(connection, 2).wait(), ConnectionError);
  EXPECT_THROW(replies.expect(Connection(), 2).wait(), ConnectionError);
}

TEST_F(PendingRepliesTest, LossOfTheConnectionEndsTheWaits) {
  auto ticket = replies.expect(connection, 1);
  BlockedCall call([&] { EXPECT_THROW(ticket.wait(), ConnectionError); });
  EXPECT_TRUE(call.await_blocked());
  stage.peer.reset();
  EXPECT_LE(seconds_of([&] { call.get(); }), 100ms + kPrompt);
}

// The read ends the connection before it returns the last message.
TEST_F(PendingRepliesTest, AReplyThatComesTogetherWithTheEndCounts) {
  for (int i = 0; i < 50; ++i) {
    const Connection now = stage->connection();
    auto ticket = replies.expect(now, 1);
    BlockedCall call([&] { return ticket.wait(kPatience); });
    send_all(stage.peer, "reply\n");
    stage.peer.reset();
    EXPECT_TRUE(replies.fulfil(now, 1, now.read_line(kPatience)));
    EXPECT_EQ(call.get(), "reply\n");
    stage.reconnect();
  }
}

TEST_F(PendingRepliesTest, TheDeadlineOfAWaitHoldsBehindTheEndToo) {
  auto ticket = replies.expect(connection, 1);
  stage.peer.reset();
  ASSERT_TRUE(tcpip_tests::eventually([&] { return !connection.connected(); }));
  EXPECT_ANY_THROW(ticket.wait(Wait::none()));
}

TEST_F(PendingRepliesTest, ATicketMayOutliveTheReplies) {
  auto own = std::make_unique<Replies>();
  auto ticket = own->expect(connection, 1);
  BlockedCall call([&] { EXPECT_THROW(ticket.wait(), ConnectionError); });
  EXPECT_TRUE(call.await_blocked());
  own.reset();
  call.get();
}

TEST_F(PendingRepliesTest, AReplyThatCannotBeStoredEndsItsWait) {
  struct Bad {
    Bad() = default;
    Bad(Bad&&) { throw std::runtime_error("no"); }
  };
  PendingReplies<int, Bad> bad;
  auto ticket = bad.expect(connection, 1);
  EXPECT_THROW(bad.fulfil(connection, 1, Bad()), std::runtime_error);
  EXPECT_THROW(ticket.wait(kPatience), ConnectionError);
}

// --- Several threads ---

TEST_F(PendingRepliesTest, ManyThreadsEachGetTheirOwn) {
  constexpr int kThreads = 8;
  constexpr int kRequests = 300;
  std::jthread reader([&] {
    for (;;) {
      std::string line;
      try {
        line = connection.read_line();
      } catch (const ConnectionError&) {
      }
      if (line.empty()) return;  // the end of the test
      const int key = std::stoi(line);
      EXPECT_TRUE(replies.fulfil(connection, key, std::move(line)));
    }
  });
  std::jthread instrument([&] {
    for (;;) {
      const std::string some = tcpip_tests::recv_some(stage.peer);
      if (some.empty()) return;
      send_all(stage.peer, some);
    }
  });
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kRequests; ++i) {
          const int key = t * kRequests + i;
          auto ticket = replies.expect(connection, key);
          connection.write(std::to_string(key) + "\n", kPatience);
          ASSERT_EQ(ticket.wait(kPatience), std::to_string(key) + "\n");
        }
      });
    }
  }
  EXPECT_EQ(replies.size(), 0u);
  stage->close_client();
}

}  // namespace
}  // namespace tcpip
