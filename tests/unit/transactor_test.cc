#include "tcpip/transactor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
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
using tcpip_tests::await_receivable;
using tcpip_tests::BlockedCall;
using tcpip_tests::eventually;
using tcpip_tests::kPatience;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::send_all;
using tcpip_tests::ServedStage;

// The library's side asks, and the test's bare socket is the instrument.
class TransactorTest : public testing::Test {
 protected:
  Connection connection() { return stage->connection(); }
  // Until the library's side has received so much more.
  void await(std::size_t size) {
    await_receivable(connection().native_handle(), size);
  }

  ServedStage stage;
  Transactor device{{.end = ">"}};
  Transactor patient{
      {.end = ">", .after_timeout = AfterTimeout::kDropLateReply}};
};

TEST_F(TransactorTest, SendsTheRequestAndReturnsTheReplyWithoutItsEnd) {
  BlockedCall call(
      [&] { return device.transact(connection(), "pos\r", kPatience); });
  EXPECT_EQ(recv_exact(stage.peer, 4), "pos\r");
  send_all(stage.peer, "12.5\r\n>");
  EXPECT_EQ(call.get(), "12.5\r\n");
}

TEST_F(TransactorTest, RefusesAnEmptyEnd) {
  EXPECT_THROW(Transactor({.end = ""}), std::invalid_argument);
}

// Nothing was sent, and so nothing is out of step.
TEST_F(TransactorTest, RefusesAConnectionThatSomebodyReadsAndLeavesItAsItIs) {
  const Connection shared = connection();
  BlockedCall reading([&] { return shared.read_str(kPatience); });
  EXPECT_TRUE(reading.await_blocked());
  EXPECT_THROW(device.transact(shared, "a", kPatience), std::logic_error);
  send_all(stage.peer, "for the reader\r\n");
  EXPECT_EQ(reading.get(), "for the reader");
  EXPECT_TRUE(shared.connected());
}

TEST_F(TransactorTest, DropsAndCountsWhatCameBeforeTheRequest) {
  send_all(stage.peer, "welcome>and mo");
  await(14);
  BlockedCall call(
      [&] { return device.transact(connection(), "a", kPatience); });
  EXPECT_EQ(recv_exact(stage.peer, 1), "a");
  send_all(stage.peer, "reply>");
  EXPECT_EQ(call.get(), "reply");
  EXPECT_EQ(device.stale_bytes(), 14u);
  EXPECT_EQ(device.late_replies(), 0u);
}

// --- What ends a request without its reply ---

TEST_F(TransactorTest, ATimeOutClosesTheConnection) {
  const Connection old = connection();
  EXPECT_THROW(device.transact(old, "a", 20ms), TimeoutError);
  EXPECT_FALSE(old.connected());
  EXPECT_EQ(recv_until_eof(stage.peer), "a");
  EXPECT_THROW(device.transact(old, "b", 20ms), ConnectionError);
}

TEST_F(TransactorTest, AStopClosesTheConnection) {
  const Connection old = connection();
  std::stop_source stop;
  BlockedCall call([&] {
    EXPECT_THROW(device.transact(old, "a", stop.get_token()), CancelledError);
  });
  EXPECT_EQ(recv_exact(stage.peer, 1), "a");
  stop.request_stop();
  call.get();
  EXPECT_FALSE(old.connected());
}

TEST_F(TransactorTest, AStopBeforeTheRequestLeavesTheConnectionAsItIs) {
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(device.transact(connection(), "a", stop.get_token()),
               CancelledError);
  EXPECT_TRUE(connection().connected());
}

// The request waits for room behind what the peer does not read.
TEST_F(TransactorTest, WhatEndsTheWaitForRoomLeavesTheConnectionAsItIs) {
  // More than the kernel ever takes.
  ASSERT_TRUE(connection().try_write(std::string(32 << 20, 'x')));
  std::stop_source stop;
  BlockedCall call([&] {
    EXPECT_THROW(device.transact(connection(), "a", stop.get_token()),
                 CancelledError);
  });
  EXPECT_TRUE(call.await_blocked());
  stop.request_stop();
  call.get();
  EXPECT_TRUE(connection().connected());
  EXPECT_THROW(device.transact(connection(), "a", 20ms), TimeoutError);
  EXPECT_TRUE(connection().connected());
}

TEST_F(TransactorTest, ALateReplyIsDroppedWheneverItComes) {
  for (const std::size_t before : {0u, 2u, 5u}) {
    SCOPED_TRACE(before);
    const std::string late = "late>";
    const std::uint64_t count = patient.late_replies();
    EXPECT_THROW(patient.transact(connection(), "a", 20ms), TimeoutError);
    EXPECT_EQ(recv_exact(stage.peer, 1), "a");
    send_all(stage.peer, late.substr(0, before));
    await(before);
    BlockedCall call(
        [&] { return patient.transact(connection(), "b", kPatience); });
    EXPECT_EQ(recv_exact(stage.peer, 1), "b");
    send_all(stage.peer, late.substr(before) + "reply>");
    EXPECT_EQ(call.get(), "reply");
    EXPECT_EQ(patient.late_replies(), count + 1);
  }
  EXPECT_EQ(patient.stale_bytes(), 0u);
}

TEST_F(TransactorTest, SeveralLateRepliesAreDropped) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_THROW(patient.transact(connection(), "a", 1ms), TimeoutError);
  }
  EXPECT_EQ(recv_exact(stage.peer, 3), "aaa");
  send_all(stage.peer, "1>2>");
  await(4);
  BlockedCall call(
      [&] { return patient.transact(connection(), "b", kPatience); });
  EXPECT_EQ(recv_exact(stage.peer, 1), "b");
  send_all(stage.peer, "3>reply>");
  EXPECT_EQ(call.get(), "reply");
  EXPECT_EQ(patient.late_replies(), 3u);
}

TEST_F(TransactorTest, ANewConnectionBeginsWithoutLateReplies) {
  EXPECT_THROW(patient.transact(connection(), "a", 1ms), TimeoutError);
  stage->close_client();
  stage.reconnect();
  BlockedCall call(
      [&] { return patient.transact(connection(), "b", kPatience); });
  EXPECT_EQ(recv_exact(stage.peer, 1), "b");
  send_all(stage.peer, "reply>");
  EXPECT_EQ(call.get(), "reply");
}

TEST_F(TransactorTest, AnEndInsteadOfTheReplyIsAnError) {
  BlockedCall call([&] {
    EXPECT_THROW(device.transact(connection(), "a", kPatience),
                 IncompleteReadError);
  });
  EXPECT_EQ(recv_exact(stage.peer, 1), "a");
  send_all(stage.peer, "rep");
  stage.peer.reset();
  call.get();
}

TEST_F(TransactorTest, WithoutAConnectionIsAnError) {
  EXPECT_THROW(device.transact(Connection(), "a", kPatience), ConnectionError);
  EXPECT_EQ(device.stale_bytes(), 0u);
}

TEST(TransactorLimitTest, AReplyOverTheLimitClosesTheConnection) {
  ServedStage stage({.limit = 8});
  Transactor device({.end = ">"});
  const Connection old = stage->connection();
  BlockedCall call([&] {
    EXPECT_THROW(device.transact(old, "a", kPatience), LimitOverrunError);
  });
  EXPECT_EQ(recv_exact(stage.peer, 1), "a");
  send_all(stage.peer, "more than eight>");
  call.get();
  EXPECT_FALSE(old.connected());
}

TEST_F(TransactorTest, ErrorsNameTheCallAndThePeer) {
  const std::string peer = connection().peer_address().to_string();
  try {
    device.transact(connection(), "a", 1ms);
    ADD_FAILURE();
  } catch (const TimeoutError& e) {
    EXPECT_EQ(e.operation(), "transact");
    EXPECT_EQ(e.peer(), peer);
  }
  try {
    device.transact(connection(), "a", 1ms);
    ADD_FAILURE();
  } catch (const ConnectionError& e) {
    EXPECT_EQ(e.operation(), "transact");
  }
}

// --- Several threads ---

TEST_F(TransactorTest, EachThreadGetsItsOwnReply) {
  constexpr int kRequests = 300;
  std::jthread instrument([&] {
    for (;;) {
      std::string request;
      while (!request.ends_with('.')) {
        const std::string byte = recv_exact(stage.peer, 1);
        if (byte.empty()) return;  // the end of the test
        request += byte;
      }
      send_all(stage.peer, "re " + request + ">");
    }
  });
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kRequests; ++i) {
          const std::string request =
              std::to_string(t) + "/" + std::to_string(i) + ".";
          ASSERT_EQ(device.transact(connection(), request, kPatience),
                    "re " + request);
        }
      });
    }
  }
  EXPECT_EQ(device.stale_bytes(), 0u);
  stage->close_client();
}

TEST_F(TransactorTest, WaitingForItsTurnEndsAtTheDeadlineAndAtAStop) {
  BlockedCall first(
      [&] { return device.transact(connection(), "a", kPatience); });
  EXPECT_EQ(recv_exact(stage.peer, 1), "a");
  EXPECT_THROW(device.transact(connection(), "b", 20ms), TimeoutError);
  EXPECT_THROW(device.transact(connection(), "b", Wait::none()), TimeoutError);
  std::stop_source stop;
  BlockedCall second([&] {
    EXPECT_THROW(device.transact(connection(), "b", stop.get_token()),
                 CancelledError);
  });
  EXPECT_TRUE(second.await_blocked());
  stop.request_stop();
  second.get();
  // Nothing of these was sent, and the connection lives.
  send_all(stage.peer, "reply>");
  EXPECT_EQ(first.get(), "reply");
  EXPECT_TRUE(connection().connected());
}

}  // namespace
}  // namespace tcpip
