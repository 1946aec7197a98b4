#include "tcpip/send_queue.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/byte_order.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/periodic_sender.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::ConnectionEvents;
using tcpip_tests::BlockedCall;
using tcpip_tests::ClientStage;
using tcpip_tests::eventually;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_some;
using tcpip_tests::recv_until_eof;
using tcpip_tests::seconds_of;
using tcpip_tests::ServedStage;
using tcpip_tests::ServerStage;

// More than the kernel takes for a peer that does not read.
constexpr std::size_t kMuch = 16u << 20;

// Makes the peer's side one that does not read, and waits until the writer
// thread is in the middle of `message`, so that the queue is empty.
void block(ServedStage& stage, SendQueue& queue, std::string_view message) {
  ASSERT_EQ(stage->connection().send(std::string(kMuch, 'x')),
            SendResult::kQueued);
  ASSERT_EQ(queue.post(message), SendResult::kQueued);
  ASSERT_TRUE(eventually([&] { return queue.size() == 0; }));
}

void expect_counts_agree(const SendQueue& queue) {
  const SendQueueStats stats = queue.stats();
  EXPECT_EQ(stats.posted,
            stats.sent + stats.dropped_full + stats.dropped_stale);
}

struct Sample {
  BigEndian<std::uint16_t> number{};
  BigEndian<std::int16_t> value{};
};

// --- For whom ---

TEST(SendQueueToTest, SendsToTheConnectionThatIsNamed) {
  ServedStage stage;
  SendQueue queue(*stage);
  const Connection first = stage->connection();
  EXPECT_EQ(queue.post(first, "bytes,"), SendResult::kQueued);
  EXPECT_EQ(queue.post_str(first, "text"), SendResult::kQueued);
  EXPECT_EQ(queue.post_from(first, std::uint8_t{'!'}), SendResult::kQueued);
  EXPECT_EQ(recv_exact(stage.peer, 13), "bytes,text\r\n!");
}

TEST(SendQueueToTest, RefusesWhatIsMeantForAnEarlierConnection) {
  ServedStage stage;
  SendQueue queue(*stage);
  const Connection first = stage->connection();
  stage.reconnect_after_close();
  EXPECT_EQ(queue.post(first, "x"), SendResult::kNotConnected);
  EXPECT_EQ(queue.post_str(first, "x"), SendResult::kNotConnected);
  EXPECT_EQ(queue.post_from(first, std::uint8_t{'x'}),
            SendResult::kNotConnected);
  EXPECT_EQ(queue.post(Connection(), "x"), SendResult::kNotConnected);
  EXPECT_EQ(queue.post(stage->connection(), "y"), SendResult::kQueued);
  EXPECT_EQ(recv_exact(stage.peer, 1), "y");
  EXPECT_EQ(queue.stats().posted, 1u);
}

// Its number may be the same.
TEST(SendQueueToTest, RefusesAConnectionOfAnotherServer) {
  ServedStage stage;
  ServedStage other;
  SendQueue queue(*stage);
  ASSERT_EQ(other->connection().number(), stage->connection().number());
  EXPECT_THROW(queue.post(other->connection(), "x"), std::invalid_argument);
}

TEST(SendQueueToTest, NothingIsSentBeforeTheGreeting) {
  std::promise<void> go;
  std::future<void> gone = go.get_future();
  tcpip_tests::ReadLoopStage stage(
      [](Connection& client, const std::stop_token& stop) {
        client.read_str(stop);
      },
      {.begin = [&](Connection& client, const std::stop_token&) {
        gone.wait();
        client.write("hello,", kPatience);
      }});
  SendQueue queue(*stage);
  PeriodicSender periodic(*stage, {.period = 1h}, [](const Connection& c) {
    return c.send("periodic,");
  });
  const UniqueFd peer = stage.connect();
  EXPECT_EQ(queue.post("too early"), SendResult::kNotConnected);
  EXPECT_EQ(queue.post(stage->connection(), "too early"),
            SendResult::kNotConnected);
  go.set_value();
  EXPECT_EQ(recv_exact(peer, 15), "hello,periodic,");
  EXPECT_EQ(queue.post("posted"), SendResult::kQueued);
  EXPECT_EQ(recv_exact(peer, 6), "posted");
}

// --- Sending ---

TEST(SendQueueTest, SendsBytesTextAndStructsInOrder) {
  ServedStage stage;
  SendQueue queue(*stage);
  EXPECT_EQ(queue.post("bytes,"), SendResult::kQueued);
  EXPECT_EQ(queue.post_str("text"), SendResult::kQueued);
  EXPECT_EQ(queue.post_from(Sample{.number = 0x4142, .value = 0x4344},
                            std::uint8_t{'!'}),
            SendResult::kQueued);
  EXPECT_EQ(queue.post(""), SendResult::kQueued);
  EXPECT_EQ(recv_exact(stage.peer, 17), "bytes,text\r\nABCD!");
  queue.flush(kPatience);
  EXPECT_EQ(queue.stats().posted, 4u);
  EXPECT_EQ(queue.stats().sent, 4u);
}

TEST(SendQueueTest, ServesAClientToo) {
  ClientStage stage;
  SendQueue queue(*stage);
  EXPECT_EQ(queue.post("hello"), SendResult::kQueued);
  EXPECT_EQ(recv_exact(stage.peer, 5), "hello");
}

TEST(SendQueueTest, SendsTextInTheFormatOfItsMaking) {
  ServedStage stage({.encoding = "latin-1", .terminator = ";"});
  SendQueue queue(*stage);
  stage->set_encoding("utf-8");
  stage->set_terminator("!");
  EXPECT_EQ(queue.post_str("\u00e9"), SendResult::kQueued);
  EXPECT_EQ(recv_exact(stage.peer, 2), "\xe9;");
}

TEST(SendQueueTest, RefusesWrongMessagesBeforeAnythingChanges) {
  ServedStage stage;
  SendQueue queue(*stage, {.max_size = 8});
  EXPECT_THROW(queue.post("123456789"), std::length_error);
  EXPECT_THROW(queue.post_str("1234567"), std::length_error);
  EXPECT_THROW(queue.post_from(std::uint64_t{}, 'x'), std::length_error);
  EXPECT_THROW(queue.post_str("\xff"), std::invalid_argument);
  EXPECT_THROW(queue.post_str("a\r\nb"), std::invalid_argument);
  EXPECT_EQ(queue.stats().posted, 0u);
  EXPECT_EQ(queue.post("12345678"), SendResult::kQueued);
  EXPECT_EQ(recv_exact(stage.peer, 8), "12345678");
}

TEST(SendQueueTest, RefusesOptionsOutOfRange) {
  ServerStage<> stage;
  for (const SendQueueOptions& options :
       std::initializer_list<SendQueueOptions>{{.slots = 0},
                                               {.slots = (1u << 20) + 1},
                                               {.max_size = 0},
                                               {.max_size = (1u << 30) + 1},
                                               {.write_timeout = -1ms}}) {
    EXPECT_THROW(SendQueue(*stage, options), std::invalid_argument);
  }
}

TEST(SendQueueTest, WithoutAConnectionTakesNothing) {
  ServerStage<> stage;
  SendQueue queue(*stage);
  EXPECT_EQ(queue.post("too early"), SendResult::kNotConnected);
  {
    const UniqueFd peer = stage.connect();
    EXPECT_EQ(queue.post("now"), SendResult::kQueued);
    EXPECT_EQ(recv_exact(peer, 3), "now");
    stage->close_client();
    EXPECT_EQ(queue.post("too late"), SendResult::kNotConnected);
  }
  queue.flush(kPatience);
  EXPECT_EQ(queue.stats().posted, 1u);
}

TEST(SendQueueTest, AConnectedCallbackMayPost) {
  std::optional<SendQueue> queue;
  std::atomic<int> taken{0};
  std::atomic<int> lost{0};
  ServerStage<> stage({.connect_callback = [&](const ConnectionEvent& event) {
    const SendResult result = queue->post("hello");
    if (event.connected && result == SendResult::kQueued) ++taken;
    if (!event.connected && result == SendResult::kNotConnected) ++lost;
  }});
  queue.emplace(*stage);
  for (int i = 1; i <= 20; ++i) {
    const UniqueFd peer = stage.connect();
    EXPECT_EQ(recv_exact(peer, 5), "hello");
    stage->close_client();
    ASSERT_TRUE(eventually([&] { return lost == i; }));
  }
  EXPECT_EQ(taken, 20);
  stage.server.reset();
}

// --- A peer that does not read ---

TEST(SendQueueTest, DropsTheNewestWhenFull) {
  ServedStage stage;
  SendQueue queue(*stage, {.slots = 3, .max_size = 16});
  block(stage, queue, "first ");
  for (const char* const text : {"a", "b", "c"}) {
    EXPECT_EQ(queue.post(text), SendResult::kQueued);
  }
  EXPECT_EQ(queue.size(), 3u);
  EXPECT_EQ(queue.post("d"), SendResult::kBusy);
  EXPECT_EQ(queue.post("e"), SendResult::kBusy);
  EXPECT_EQ(queue.stats().dropped_full, 2u);
  EXPECT_EQ(recv_exact(stage.peer, kMuch + 9).substr(kMuch), "first abc");
  queue.flush(kPatience);
  EXPECT_EQ(queue.post("f"), SendResult::kQueued);
  EXPECT_EQ(recv_exact(stage.peer, 1), "f");
  queue.flush(kPatience);
  EXPECT_EQ(queue.stats().sent, 5u);
  expect_counts_agree(queue);
}

TEST(SendQueueTest, DropsTheOldestWhenFullIfAskedTo) {
  ServedStage stage;
  SendQueue queue(
      *stage, {.slots = 3, .max_size = 16, .when_full = WhenFull::kDropOldest});
  block(stage, queue, "first ");
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(queue.post(std::to_string(i)), SendResult::kQueued);
  }
  EXPECT_EQ(queue.stats().dropped_full, 7u);
  EXPECT_EQ(recv_exact(stage.peer, kMuch + 9).substr(kMuch), "first 789");
  queue.flush(kPatience);
  EXPECT_EQ(queue.stats().sent, 4u);
  expect_counts_agree(queue);
}

TEST(SendQueueTest, ClosesTheConnectionWhenFullIfAskedTo) {
  ServedStage stage;
  SendQueue queue(*stage,
                  {.slots = 2, .max_size = 16, .when_full = WhenFull::kClose});
  const Connection connection = stage->connection();
  block(stage, queue, "first");
  EXPECT_EQ(queue.post("a"), SendResult::kQueued);
  EXPECT_EQ(queue.post("b"), SendResult::kQueued);
  EXPECT_TRUE(connection.connected());
  EXPECT_EQ(queue.post("c"), SendResult::kBusy);
  EXPECT_TRUE(eventually([&] { return !connection.connected(); }));
  EXPECT_FALSE(connection.should_be_connected());
  ASSERT_TRUE(stage.events.wait_for(2));
  EXPECT_EQ(stage.events.text(), "connected 1, not reading 1");
  EXPECT_TRUE(stage.events.values()[1].is_unexpected());
  queue.flush(kPatience);
  EXPECT_EQ(queue.stats().dropped_full, 1u);
  EXPECT_EQ(queue.stats().dropped_stale, 3u);
  EXPECT_EQ(queue.stats().sent, 0u);
  EXPECT_EQ(stage.lines.count("the send queue is full"), 1u)
      << stage.lines.text();
  // Not the next connection.
  stage.reconnect();
  EXPECT_EQ(queue.post("hello"), SendResult::kQueued);
  EXPECT_EQ(recv_exact(stage.peer, 5), "hello");
}

// The writer looks at its queue again and again while it waits for the peer.
TEST(SendQueueTest, AMessageThatTakesLongIsSentOnce) {
  ServedStage stage;
  SendQueue queue(
      *stage, {.slots = 1, .max_size = kMuch, .when_full = WhenFull::kClose});
  const std::string large(kMuch, 'l');
  ASSERT_EQ(queue.post(large), SendResult::kQueued);
  ASSERT_TRUE(eventually([&] { return queue.size() == 0; }));
  queue.post("next");
  EXPECT_THROW(queue.flush(100ms), TimeoutError);
  EXPECT_EQ(recv_exact(stage.peer, kMuch + 4), large + "next");
  queue.flush(kPatience);
  stage->close_client();
  EXPECT_EQ(recv_until_eof(stage.peer), "");
}

// The peer reads again just when the queue was found full: what is posted then
// must not be sent behind the gap.
TEST(SendQueueTest, NothingIsSentBehindAMessageThatWasNotTaken) {
  ServedStage stage;
  SendQueue queue(*stage,
                  {.slots = 1, .max_size = 16, .when_full = WhenFull::kClose});
  block(stage, queue, "first");
  EXPECT_EQ(queue.post("a"), SendResult::kQueued);
  EXPECT_EQ(queue.post("gap"), SendResult::kBusy);
  std::atomic<bool> done{false};
  std::jthread poster([&] {
    while (!done) {
      if (queue.post("behind") == SendResult::kNotConnected) break;
    }
  });
  std::string got;
  try {
    got = recv_until_eof(stage.peer);
  } catch (const std::system_error&) {  // a reset
  }
  done = true;
  EXPECT_EQ(got.find("behind"), std::string::npos);
}

TEST(SendQueueTest, ClosesAConnectionThatTakesNoMessageInTime) {
  ServedStage stage;
  SendQueue queue(*stage, {.write_timeout = 30ms});
  const Connection connection = stage->connection();
  const double seconds =
      seconds_of([&] {
        ASSERT_EQ(stage->connection().send(std::string(kMuch, 'x')),
                  SendResult::kQueued);
        ASSERT_EQ(queue.post("a"), SendResult::kQueued);
        EXPECT_TRUE(eventually([&] { return !connection.connected(); }));
      }).count();
  EXPECT_GE(seconds, 0.03);
  queue.flush(kPatience);
  EXPECT_EQ(queue.stats().dropped_stale, 1u);
  EXPECT_EQ(stage.lines.count("a message was not sent in time"), 1u)
      << stage.lines.text();
}

// --- One connection after another ---

TEST(SendQueueTest, NothingOfTheLastConnectionReachesTheNext) {
  for (const WhenFull when_full :
       {WhenFull::kDropNewest, WhenFull::kDropOldest, WhenFull::kClose}) {
    ServedStage stage;
    SendQueue queue(*stage, {.slots = 8, .when_full = when_full});
    block(stage, queue, "old");
    for (int i = 0; i < 8; ++i) queue.post("old");
    stage.reconnect_after_close();
    EXPECT_EQ(queue.post("new"), SendResult::kQueued);
    EXPECT_EQ(recv_exact(stage.peer, 3), "new");
    queue.flush(kPatience);
    stage->close_client();
    EXPECT_EQ(recv_until_eof(stage.peer), "");
    EXPECT_EQ(queue.stats().dropped_stale, 9u);
    EXPECT_EQ(queue.stats().sent, 1u);
    expect_counts_agree(queue);
  }
}

// The writer thread looks for the connection only when another is there.
TEST(SendQueueTest,
     WhatAnEndedConnectionWasToGetIsNotSentToTheNextByALateWriter) {
  ServedStage stage;
  std::atomic<bool> next_is_there{false};
  SendQueue queue(*stage, {.thread_start_hook = [&](ThreadRole) {
    EXPECT_TRUE(eventually([&] { return next_is_there.load(); }));
  }});
  EXPECT_EQ(queue.post("old"), SendResult::kQueued);
  stage.reconnect_after_close();
  EXPECT_EQ(queue.post("new"), SendResult::kQueued);
  next_is_there = true;
  EXPECT_EQ(recv_exact(stage.peer, 3), "new");
  queue.flush(kPatience);
  EXPECT_EQ(queue.stats().dropped_stale, 1u);
  EXPECT_EQ(queue.stats().sent, 1u);
}

// Each message says between which two connections it was posted. It must not
// come out on another one, however fast they follow each other.
TEST(SendQueueTest, EachMessageReachesTheConnectionOfItsPostOrNone) {
  constexpr int kConnections = 150;
  ServerStage<> stage;
  SendQueue queue(*stage, {.slots = 16, .max_size = 32});
  std::vector<std::uint64_t> after;  // the newest connection after each post
  std::atomic<bool> done{false};
  std::map<std::size_t, std::uint64_t> received;  // message: connection
  std::size_t same = 0;
  std::vector<std::uint64_t> before;
  {
    std::jthread poster([&] {
      while (!done) {
        before.push_back(stage->connection_count());
        queue.post("m" + std::to_string(after.size()) + "\n");
        after.push_back(stage->connection_count());
        if (after.size() % 16 == 0) std::this_thread::yield();
      }
    });
    for (std::uint64_t number = 1; number <= kConnections; ++number) {
      std::string got;
      {
        const UniqueFd peer = stage.connect();
        got = recv_some(peer);
        // No pause between the end of one connection and the next.
        stage->close_client();
        try {
          got += recv_until_eof(peer);
        } catch (const std::system_error&) {
        }
      }
      while (got.find('\n') != std::string::npos) {
        const std::size_t end = got.find('\n');
        ASSERT_EQ(got.at(0), 'm') << got.substr(0, end);
        const std::size_t message = std::stoul(got.substr(1, end - 1));
        ASSERT_FALSE(received.contains(message));
        received[message] = number;
        got.erase(0, end + 1);
      }
    }
    done = true;
  }
  for (const auto& [message, number] : received) {
    EXPECT_LE(before.at(message), number) << message;
    EXPECT_GE(after.at(message), number) << message;
    if (before.at(message) == after.at(message)) ++same;
  }
  EXPECT_GT(same, received.size() / 2);
  queue.flush(kPatience);
  expect_counts_agree(queue);
  EXPECT_LE(received.size(), queue.stats().sent);
}

TEST(SendQueueTest, ALostConnectionDropsWhatWaits) {
  ServedStage stage;
  SendQueue queue(*stage, {.slots = 8});
  block(stage, queue, "a");
  for (int i = 0; i < 5; ++i) queue.post("b");
  stage.peer.reset();
  EXPECT_TRUE(eventually(
      [&] { return queue.post("late") == SendResult::kNotConnected; }));
  queue.flush(kPatience);
  EXPECT_EQ(queue.stats().sent, 0u);
  expect_counts_agree(queue);
}

// --- flush() ---

TEST(SendQueueTest, FlushWaitsForWhatWasPostedBefore) {
  ServedStage stage;
  SendQueue queue(*stage);
  queue.flush(Wait::none());
  block(stage, queue, "a");
  queue.post("b");
  EXPECT_THROW(queue.flush(Wait::none()), TimeoutError);
  EXPECT_THROW(queue.flush(10ms), TimeoutError);
  std::stop_source stop;
  BlockedCall stopped(
      [&] { EXPECT_THROW(queue.flush(stop.get_token()), CancelledError); });
  EXPECT_TRUE(stopped.await_blocked());
  stop.request_stop();
  stopped.get();
  BlockedCall flush([&] { queue.flush(kPatience); });
  EXPECT_TRUE(flush.await_blocked());
  EXPECT_EQ(recv_exact(stage.peer, kMuch + 2).substr(kMuch), "ab");
  flush.get();
  EXPECT_EQ(queue.stats().sent, 2u);
}

TEST(SendQueueTest, CloseEndsAFlush) {
  ServedStage stage;
  SendQueue queue(*stage);
  block(stage, queue, "a");
  queue.post("b");
  BlockedCall flush([&] { EXPECT_THROW(queue.flush(), CancelledError); });
  EXPECT_TRUE(flush.await_blocked());
  queue.close();
  flush.get();
  EXPECT_THROW(queue.flush(), CancelledError);
}

// --- The end ---

TEST(SendQueueTest, CloseWaitsForNoPeerAndTearsNoMessage) {
  ServedStage stage({.write_limit = 2 * kMuch});
  SendQueue queue(*stage, {.slots = 1, .max_size = kMuch});
  const std::string large(kMuch, 'l');
  ASSERT_EQ(queue.post(large), SendResult::kQueued);
  ASSERT_TRUE(eventually([&] { return queue.size() == 0; }));
  EXPECT_EQ(recv_exact(stage.peer, 1), "l");  // a part of it is on its way
  queue.post("dropped");
  EXPECT_LT(seconds_of([&] { queue.close(); }), kPrompt);
  EXPECT_EQ(queue.post("late"), SendResult::kNotConnected);
  queue.close();
  EXPECT_EQ(queue.stats().dropped_stale, 1u);
  expect_counts_agree(queue);
  // The connection sends the rest before what it is given next.
  EXPECT_EQ(stage->connection().send("next"), SendResult::kQueued);
  BlockedCall drain([&] { stage->connection().drain(kPatience); });
  EXPECT_EQ(recv_exact(stage.peer, kMuch - 1 + 4), large.substr(1) + "next");
  drain.get();
}

TEST(SendQueueTest, OutlivesItsServerAndKeepsNothingOfItAlive) {
  const auto held = std::make_shared<int>();
  const std::weak_ptr<int> watched = held;
  std::optional<ServedStage> stage;
  stage.emplace(ServerOptions{
      .connect_callback = [held = held](const ConnectionEvent&) {}});
  SendQueue queue(**stage);
  queue.post("hello");
  EXPECT_EQ(recv_exact(stage->peer, 5), "hello");
  queue.flush(kPatience);
  stage.reset();
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(queue.post("late"), SendResult::kNotConnected);
  queue.flush(kPatience);
}

TEST(SendQueueTest, ServerMayCloseWhileItsPeerDoesNotRead) {
  ServedStage stage;
  SendQueue queue(*stage);
  block(stage, queue, "a");
  queue.post("b");
  EXPECT_LT(seconds_of([&] { stage.server.reset(); }), kPrompt);
  queue.flush(kPatience);
  EXPECT_EQ(queue.stats().dropped_stale, 2u);
}

TEST(SendQueueTest, MayBeDestroyedByAStopCallbackOfTheConnection) {
  ServedStage stage;
  auto queue = std::make_unique<SendQueue>(
      *stage, SendQueueOptions{.write_timeout = 10ms});
  std::atomic<bool> posted{false};
  std::atomic<bool> destroyed{false};
  // The writer closes the connection, and so runs this.
  const std::stop_callback on_end(stage->connection().stop_token(), [&] {
    EXPECT_TRUE(eventually([&] { return posted.load(); }));
    queue.reset();
    destroyed = true;
  });
  ASSERT_EQ(stage->connection().send(std::string(kMuch, 'x')),
            SendResult::kQueued);
  ASSERT_EQ(queue->post("a"), SendResult::kQueued);
  posted = true;
  EXPECT_TRUE(eventually([&] { return destroyed.load(); }));
}

TEST(SendQueueTest, ThreadHasANameAndCallsTheHook) {
  ServedStage stage;
  std::string name;
  std::optional<ThreadRole> role;
  {
    SendQueue queue(*stage, {.thread_start_hook = [&](ThreadRole r) {
      std::array<char, 16> bytes{};
      ::pthread_getname_np(::pthread_self(), bytes.data(), bytes.size());
      name = bytes.data();
      role = r;
    }});
  }
  EXPECT_EQ(name, "tcpip-send");
  EXPECT_EQ(role, ThreadRole::kSend);
}

// --- Several threads ---

// Every message is sent or counted, whole and in order, while threads post
// faster than the peer reads.
void post_from_threads(WhenFull when_full) {
  constexpr int kThreads = 4;
  constexpr int kMessages = 3000;
  ServedStage stage({.socket = {.send_buffer = 4096}});
  SendQueue queue(*stage,
                  {.slots = 8, .max_size = 128, .when_full = when_full});
  const auto message = [](int thread, int number) {
    return std::to_string(thread) + " " + std::to_string(number) + " " +
           std::string(static_cast<std::size_t>(number % 90),
                       static_cast<char>('a' + thread)) +
           "\n";
  };
  std::string got;
  {
    BlockedCall receive([&] { got = recv_until_eof(stage.peer); });
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
          for (int i = 0; i < kMessages; ++i) queue.post(message(t, i));
        });
      }
    }
    queue.flush(kPatience);
    stage->close_client();
    receive.get();
  }
  std::array<int, kThreads> last{-1, -1, -1, -1};
  std::uint64_t received = 0;
  for (std::size_t at = 0; at < got.size();) {
    const std::size_t end = got.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    const std::string line = got.substr(at, end + 1 - at);
    std::size_t next = 0;
    const int thread = std::stoi(line, &next);
    const int number = std::stoi(line.substr(next));
    ASSERT_EQ(line, message(thread, number));
    ASSERT_LT(last.at(static_cast<std::size_t>(thread)), number);
    last.at(static_cast<std::size_t>(thread)) = number;
    ++received;
    at = end + 1;
  }
  const SendQueueStats stats = queue.stats();
  EXPECT_EQ(stats.posted, kThreads * kMessages);
  EXPECT_EQ(stats.sent, received);
  EXPECT_EQ(stats.dropped_stale, 0u);
  expect_counts_agree(queue);
}

TEST(SendQueueTest, ManyThreadsPostWithNothingLostUncounted) {
  post_from_threads(WhenFull::kDropNewest);
}

TEST(SendQueueTest, ManyThreadsPostWhileTheOldestAreDropped) {
  post_from_threads(WhenFull::kDropOldest);
}

TEST(SendQueueTest, EveryPostWakesTheWriter) {
  ServedStage stage;
  SendQueue queue(*stage);
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(queue.post("x"), SendResult::kQueued);
    ASSERT_EQ(recv_exact(stage.peer, 1), "x");
  }
}

TEST(SendQueueTest, PostsFlushesAndCloseMayComeTogether) {
  for (int i = 0; i < 30; ++i) {
    ServedStage stage;
    SendQueue queue(*stage, {.slots = 4, .when_full = WhenFull::kDropOldest});
    std::atomic<bool> closed{false};
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&] {
        while (queue.post("x") != SendResult::kNotConnected) {
        }
      });
      threads.emplace_back([&] {
        try {
          while (!closed) queue.flush(kPatience);
        } catch (const CancelledError&) {
        }
      });
    }
    recv_exact(stage.peer, 10);
    std::jthread other([&] { queue.close(); });
    queue.close();
    closed = true;
  }
}

}  // namespace
}  // namespace tcpip
