// Heartbeats of clients and servers: what is sent, what is taken out of what is
// read, and when the lack of them ends a connection.
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/base_client_or_server.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"

namespace tcpip_tests {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using tcpip::BaseClientOrServer;
using tcpip::ConnectionEvent;
using tcpip::DisconnectReason;
using tcpip::OneClientServer;
using tcpip::UniqueFd;

constexpr std::string_view kBeat = "heartbeat\r\n";

// Long enough for a busy machine to do in it what takes microseconds.
constexpr milliseconds kLimit{kWithSanitizer ? 600 : 300};

// An endpoint of either kind with its peer, a bare socket, connected.
struct Pair {
  Pair(const tcpip_tests::StageBase& stage, UniqueFd& the_peer)
      : events(stage.events), lines(stage.lines), peer(the_peer) {}
  virtual ~Pair() = default;
  virtual BaseClientOrServer& endpoint() = 0;

  const ConnectionEvents events;
  const LogRecorder lines;
  UniqueFd& peer;
};

struct Options {
  bool send = false;
  milliseconds interval{1000};
  bool expect = false;
  milliseconds max_interval{10000};
};

template <class EndpointOptions>
EndpointOptions with(const Options& options) {
  EndpointOptions result;
  result.heartbeats.send = options.send;
  result.heartbeats.interval = options.interval;
  result.heartbeats.expect = options.expect;
  result.heartbeats.max_interval = options.max_interval;
  return result;
}

class ServerPair final : public Pair {
 public:
  explicit ServerPair(const Options& options)
      : ServerPair(std::make_unique<ServedStage>(
            with<tcpip::ServerOptions>(options))) {}
  void reconnect() { stage_->reconnect(); }
  BaseClientOrServer& endpoint() override { return **stage_; }

 private:
  explicit ServerPair(std::unique_ptr<ServedStage> stage)
      : Pair(*stage, stage->peer), stage_(std::move(stage)) {}

  const std::unique_ptr<ServedStage> stage_;
};

class ClientPair final : public Pair {
 public:
  explicit ClientPair(const Options& options)
      : ClientPair(std::make_unique<ClientStage>(
            with<tcpip::ClientOptions>(options))) {}
  BaseClientOrServer& endpoint() override { return **stage_; }

 private:
  explicit ClientPair(std::unique_ptr<ClientStage> stage)
      : Pair(*stage, stage->peer), stage_(std::move(stage)) {}

  const std::unique_ptr<ClientStage> stage_;
};

// Both kinds must behave alike.
class HeartbeatTest : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Pair> make(const Options& options) {
    if (std::string_view(GetParam()) == "Server") {
      return std::make_unique<ServerPair>(options);
    }
    return std::make_unique<ClientPair>(options);
  }
};

INSTANTIATE_TEST_SUITE_P(Both, HeartbeatTest,
                         testing::Values("Server", "Client"),
                         [](const auto& kind) { return kind.param; });

// Time is what these tests are about: that nothing comes for so long, or that
// something does not happen in it.
void let_pass(milliseconds time) {
  ::poll(nullptr, 0, static_cast<int>(time.count()));
}

// That is what it has told, and it has nothing else to tell.
testing::AssertionResult only_connected(Pair& pair) {
  if (pair.events.wait_for(1) && pair.events.text() == "connected 1" &&
      pair.endpoint().connected()) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << pair.events.text();
}

// Sends heartbeats to the pair's endpoint until it is destroyed.
class Beating {
 public:
  Beating(const UniqueFd& peer, milliseconds interval)
      : thread_([&peer, interval](const std::stop_token& stop) {
          try {
            while (!stop.stop_requested()) {
              send_all(peer, kBeat);
              let_pass(interval);
            }
          } catch (const std::system_error& e) {
            ADD_FAILURE() << "the connection was ended: " << e.what();
          }
        }) {}

 private:
  std::jthread thread_;
};

// --- Sending ---

TEST_P(HeartbeatTest, NoneAreSentUnlessAskedFor) {
  const auto pair = make({.interval = milliseconds(1)});
  pair->endpoint().write_str("first");
  let_pass(milliseconds(20));
  pair->endpoint().write_str("second");
  EXPECT_EQ(recv_exact(pair->peer, 15), "first\r\nsecond\r\n");
}

TEST_P(HeartbeatTest, TheFirstIsSentAtOnceAndTheNextAfterAnInterval) {
  const auto pair = make({.send = true, .interval = kLimit});
  const auto start = steady_clock::now();
  EXPECT_EQ(recv_exact(pair->peer, kBeat.size()), kBeat);
  const auto first = steady_clock::now();
  EXPECT_LT(first - start, kLimit) << "it waited for the interval";
  EXPECT_EQ(recv_exact(pair->peer, kBeat.size()), kBeat);
  EXPECT_EQ(recv_exact(pair->peer, kBeat.size()), kBeat);
  // Some time may pass between the sending and the receiving of the first.
  EXPECT_GT(steady_clock::now() - start, 2 * kLimit - kLimit / 10);
}

TEST_P(HeartbeatTest, HasTheTerminatorOfTheMomentAndIsNotEncoded) {
  const auto pair = make({.send = true, .interval = milliseconds(20)});
  pair->endpoint().set_encoding("utf-32");
  pair->endpoint().set_terminator("END");
  std::string got;
  ASSERT_TRUE(eventually([&] {
    got += recv_some(pair->peer);
    return got.find("heartbeatEND") != std::string::npos;
  })) << got;
  while (got.starts_with(kBeat)) got.erase(0, kBeat.size());
  EXPECT_TRUE(got.starts_with("heartbeatEND")) << got;
}

// A peer that does not read for a while gets whole messages all the same.
TEST_P(HeartbeatTest, NeverInterruptsAMessage) {
  const auto pair = make({.send = true, .interval = milliseconds(1)});
  constexpr int kLines = 2000;
  std::vector<std::jthread> writers;
  for (int writer = 0; writer < 4; ++writer) {
    writers.emplace_back([&pair, writer] {
      const std::string line(500, static_cast<char>('a' + writer));
      for (int i = 0; i < kLines; ++i) {
        pair->endpoint().write_str(line, kPatience);
      }
    });
  }
  std::string got;
  int lines = 0;
  int beats = 0;
  while (lines < 4 * kLines) {
    got += recv_some(pair->peer);
    std::size_t start = 0;
    for (std::size_t end = 0; (end = got.find("\r\n", start)) != got.npos;
         start = end + 2) {
      const std::string_view line =
          std::string_view(got).substr(start, end - start);
      if (line == "heartbeat") {
        ++beats;
        continue;
      }
      ASSERT_EQ(line.size(), 500u);
      ASSERT_EQ(line.find_first_not_of(line[0]), line.npos);
      ++lines;
    }
    got.erase(0, start);
  }
  EXPECT_GT(beats, 0);
}

// A full window blocks neither close() nor anybody else.
TEST_P(HeartbeatTest, PeerThatDoesNotReadHoldsUpNothing) {
  const auto pair = make({.send = true, .interval = milliseconds(1)});
  EXPECT_THROW(
      pair->endpoint().write(std::string(64 * 1024 * 1024, 'x'), kLimit),
      tcpip::TimeoutError);
  const auto before = pair->endpoint().unsent();
  let_pass(milliseconds(50));
  EXPECT_TRUE(pair->endpoint().connected());
  EXPECT_LE(pair->endpoint().unsent(), before)
      << "heartbeats piled up behind a message";
}

TEST_P(HeartbeatTest, GoesToEachConnectionAnew) {
  if (std::string_view(GetParam()) == "Client") {
    GTEST_SKIP() << "a client has one connection";
  }
  ServerPair pair({.send = true, .interval = kPatience});
  EXPECT_EQ(recv_exact(pair.peer, kBeat.size()), kBeat);
  for (int i = 0; i < 3; ++i) {
    pair.peer.reset();
    pair.reconnect();
    EXPECT_EQ(recv_exact(pair.peer, kBeat.size()), kBeat);
  }
}

// What the peer sent before it left can still be read, even if a heartbeat is
// the first to find out that it has.
TEST_P(HeartbeatTest, SendingThemToAPeerThatLeavesLosesNothing) {
  const auto pair = make({.send = true, .interval = milliseconds(1)});
  send_all(pair->peer, "one\r\ntwo\r\n");
  // It has not read ours, so this resets the connection.
  pair->peer.reset();
  EXPECT_EQ(pair->endpoint().read_str(kPatience), "one");
  EXPECT_EQ(pair->endpoint().read_str(kPatience), "two");
  EXPECT_TRUE(eventually([&] { return !pair->endpoint().connected(); }));
}

// This side sends no more; that says nothing about the peer.
TEST_P(HeartbeatTest, AfterWriteEofNoneAreSentAndThePeerIsStillThere) {
  const auto pair = make({.send = true, .interval = milliseconds(1)});
  const tcpip::Connection connection = pair->endpoint().connection();
  connection.writer()->write_eof();
  const std::string sent = tcpip_tests::recv_until_eof(pair->peer);
  EXPECT_EQ(sent.size() % kBeat.size(), 0u);
  let_pass(milliseconds(50));
  send_all(pair->peer, "still here\n");
  EXPECT_EQ(connection.read_line(kPatience), "still here\n");
  EXPECT_TRUE(connection.connected());
  // And its end is seen, though nobody reads.
  pair->peer.reset();
  EXPECT_TRUE(eventually([&] { return !connection.connected(); }));
}

TEST_P(HeartbeatTest, IntervalsMayBeAsLongAsTheyLike) {
  const auto pair = make({.send = true,
                          .interval = milliseconds::max(),
                          .expect = true,
                          .max_interval = milliseconds::max()});
  EXPECT_EQ(recv_exact(pair->peer, kBeat.size()), kBeat);
  send_all(pair->peer, "text\r\n");
  EXPECT_EQ(pair->endpoint().read_str(kPatience), "text");
  EXPECT_TRUE(only_connected(*pair));
}

// --- Taking them out ---

TEST_P(HeartbeatTest, IsTakenOutOfWhatIsReadByMessage) {
  const auto pair = make({.expect = true});
  BaseClientOrServer& endpoint = pair->endpoint();
  const std::string beats = std::string(kBeat) + std::string(kBeat);
  send_all(pair->peer, beats + "a\r\n" + beats + "b\r\n" + beats + "c\r\n" +
                           beats + "d\r\n" + beats);
  EXPECT_EQ(endpoint.read_str(kPatience), "a");
  EXPECT_EQ(endpoint.read_line(kPatience), "b\r\n");
  EXPECT_EQ(endpoint.read_until("\r\n", kPatience), "c\r\n");
  EXPECT_EQ(endpoint.read_until({"\r\n", ";"}, kPatience), "d\r\n");
  EXPECT_THROW(endpoint.read_str(milliseconds(1)), tcpip::TimeoutError);
  send_all(pair->peer, beats + "a\r\n" + beats + "b\r\n" + beats + "c\r\n");
  std::string got;
  const auto add = [&](const std::optional<std::string>& more) {
    if (more) got += *more;
  };
  ASSERT_TRUE(eventually([&] {
    add(endpoint.try_read_str());
    return !got.empty();
  }));
  add(endpoint.try_read_line());
  add(endpoint.try_read_until("\r\n"));
  EXPECT_EQ(got, "ab\r\nc\r\n");
  EXPECT_EQ(endpoint.try_read_str(), std::nullopt);
  EXPECT_TRUE(endpoint.connected());
}

TEST_P(HeartbeatTest, IsLeftToWhoCountsBytes) {
  const auto pair = make({.expect = true});
  send_all(pair->peer, kBeat);
  EXPECT_EQ(pair->endpoint().read_exactly(4, kPatience), "hear");
  EXPECT_EQ(pair->endpoint().read(100, kPatience), "tbeat\r\n");
}

TEST_P(HeartbeatTest, WhatOnlyLooksLikeOneIsLeftIn) {
  const auto pair = make({.expect = true});
  for (const char* text :
       {"xheartbeaty", "Heartbeat", " heartbeat", "heartbeat ", "heartbeat\r",
        "heartbea", "heartbeatheartbeat", "heart\r beat",
        "{\"cmd\":\"heartbeat\"}", ""}) {
    send_all(pair->peer, std::string(text) + "\r\n");
    EXPECT_EQ(pair->endpoint().read_str(kPatience), text);
  }
}

TEST_P(HeartbeatTest, ComesInPiecesToo) {
  const auto pair = make({.expect = true});
  const std::string both = std::string(kBeat) + "text\r\n";
  for (const char c : both) {
    send_all(pair->peer, std::string(1, c));
    if (c == '\n') break;
    let_pass(milliseconds(2));
    ASSERT_EQ(pair->endpoint().try_read_str(), std::nullopt);
  }
  send_all(pair->peer, "text\r\n");
  EXPECT_EQ(pair->endpoint().read_str(kPatience), "text");
}

// The sender's fault; seen as a bad message, not swallowed.
TEST_P(HeartbeatTest, BetweenTwoHalvesOfAMessageIsPartOfIt) {
  const auto pair = make({.expect = true});
  send_all(pair->peer, "{\"a\"" + std::string(kBeat) + ":1}\r\n");
  EXPECT_EQ(pair->endpoint().read_str(kPatience), "{\"a\"heartbeat");
  EXPECT_EQ(pair->endpoint().read_str(kPatience), ":1}");
}

TEST_P(HeartbeatTest, AMillionInARowAreTakenOut) {
  const auto pair = make({.expect = true});
  constexpr int kBeats = kWithSanitizer ? 100'000 : 1'000'000;
  const std::jthread sender([&pair] {
    std::string many;
    for (int i = 0; i < 1000; ++i) many += kBeat;
    for (int i = 0; i < kBeats / 1000; ++i) send_all(pair->peer, many);
    send_all(pair->peer, "text\r\n");
  });
  // It is work, not waiting: a third of a core may take 20 s for it.
  EXPECT_EQ(pair->endpoint().read_str(std::chrono::seconds(50)), "text");
}

TEST(HeartbeatOptionsTest, TerminatorThatOccursInAHeartbeatIsRefused) {
  for (const char* terminator : {"t", "tt", "b", "heart", "heartbeat", "th"}) {
    SCOPED_TRACE(terminator);
    const bool occurs = std::string(terminator) != "th";
    for (const tcpip::HeartbeatOptions& heartbeats :
         {tcpip::HeartbeatOptions{.send = true},
          tcpip::HeartbeatOptions{.expect = true}}) {
      const auto make = [&] {
        tcpip::Client client(
            {.terminator = terminator, .heartbeats = heartbeats});
      };
      tcpip::Client client({.heartbeats = heartbeats});
      if (occurs) {
        EXPECT_THROW(make(), std::invalid_argument);
        EXPECT_THROW(client.set_terminator(terminator), std::invalid_argument);
        EXPECT_EQ(client.terminator(), "\r\n");
      } else {
        EXPECT_NO_THROW(make());
        EXPECT_NO_THROW(client.set_terminator(terminator));
      }
    }
    EXPECT_NO_THROW(tcpip::Client({.terminator = terminator}));
  }
}

// A peer that floods us with them cannot keep a call beyond its deadline.
TEST_P(HeartbeatTest, AFloodOfThemHoldsUpNoDeadline) {
  const auto pair = make({.expect = true});
  std::atomic<bool> done{false};
  std::atomic<bool> ended{false};
  const std::jthread sender([&] {
    std::string many;
    for (int i = 0; i < 10000; ++i) many += kBeat;
    while (!done) send_all(pair->peer, many);
    ended = true;
  });
  for (int i = 0; i < 10; ++i) {
    const auto took = seconds_of([&] {
      EXPECT_THROW(pair->endpoint().read_str(milliseconds(5)),
                   tcpip::TimeoutError);
      EXPECT_EQ(pair->endpoint().try_read_str(), std::nullopt);
    });
    EXPECT_LT(took, kPrompt);
  }
  done = true;
  EXPECT_TRUE(eventually([&] {
    pair->endpoint().discard();  // so that the sender can send the rest
    return ended.load();
  }));
}

// --- One where none are expected ---

TEST_P(HeartbeatTest, UnexpectedIsAnErrorThatTakesThatMessageAlone) {
  const auto pair = make({});
  BaseClientOrServer& endpoint = pair->endpoint();
  send_all(pair->peer, "one\r\nheartbeat\r\ntwo\r\nheartbeat\r\nthree\r\n");
  EXPECT_EQ(endpoint.read_str(kPatience), "one");
  try {
    endpoint.read_str(kPatience);
    FAIL();
  } catch (const tcpip::UnexpectedHeartbeatError& e) {
    EXPECT_EQ(e.code(), tcpip::Errc::kUnexpectedHeartbeat);
    EXPECT_EQ(e.operation(), "read_str");
    EXPECT_EQ(e.peer(), endpoint.peer_address().to_string());
  }
  EXPECT_EQ(endpoint.read_str(kPatience), "two");
  EXPECT_THROW(endpoint.try_read_str(), tcpip::UnexpectedHeartbeatError);
  EXPECT_EQ(endpoint.try_read_str(), "three");
  EXPECT_TRUE(endpoint.connected());
}

TEST_P(HeartbeatTest, UnexpectedIsHandedOverByReadsThatKnowNoText) {
  const auto pair = make({});
  send_all(pair->peer, std::string(kBeat) + std::string(kBeat));
  EXPECT_EQ(pair->endpoint().read_line(kPatience), kBeat);
  EXPECT_EQ(pair->endpoint().read_until("\r\n", kPatience), kBeat);
}

// As upstream does.
TEST(ReadLoopHeartbeatTest, UnexpectedEndsTheConnectionAndIsLogged) {
  ReadLoopStage server([](tcpip::Connection& s, std::stop_token stop) {
    s.write_str(s.read_str(stop));
  });
  const UniqueFd peer = server.connect();
  send_all(peer, "one\r\nheartbeat\r\ntwo\r\n");
  EXPECT_EQ(recv_until_eof(peer), "one\r\n");
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.text(), "connected 1, handler failed 1");
  EXPECT_EQ(server.lines.count("heartbeats are not expected"), 1u)
      << server.lines.text();
}

TEST_P(HeartbeatTest, OneRecognisedByTheProgramCounts) {
  const auto pair = make({.expect = true, .max_interval = kLimit});
  const auto end = steady_clock::now() + 3 * kLimit;
  while (steady_clock::now() < end) {
    pair->endpoint().handle_received_heartbeat();
    let_pass(kLimit / 10);
  }
  EXPECT_TRUE(only_connected(*pair));
}

TEST_P(HeartbeatTest, OneRecognisedByTheProgramIsRefusedWhereNoneAreExpected) {
  const auto pair = make({});
  EXPECT_THROW(pair->endpoint().handle_received_heartbeat(),
               tcpip::UnexpectedHeartbeatError);
  OneClientServer server({.heartbeats = {.expect = true}});
  EXPECT_THROW(server.handle_received_heartbeat(), tcpip::ConnectionError);
}

// --- Losing them ---

// Waits for the end of the connection; returns when it was.
ConnectionEvent end_of(const Pair& pair) {
  EXPECT_TRUE(pair.events.wait_for(2));
  return pair.events.values().back();
}

TEST_P(HeartbeatTest, WithoutAnyTheConnectionEndsAfterTheLimit) {
  const auto pair = make({.expect = true, .max_interval = kLimit});
  const ConnectionEvent end = end_of(*pair);
  EXPECT_EQ(end.reason, DisconnectReason::kHeartbeatLost);
  EXPECT_TRUE(end.is_unexpected());
  const auto lived = end.time - pair->events.values().front().time;
  EXPECT_GE(lived, kLimit);
  EXPECT_LT(lived, 2 * kLimit);
  EXPECT_FALSE(pair->endpoint().connected());
  EXPECT_TRUE(pair->endpoint().should_be_connected());
  EXPECT_EQ(pair->lines.count("no heartbeat from"), 1u) << pair->lines.text();
  EXPECT_EQ(recv_until_eof(pair->peer), "");
}

TEST_P(HeartbeatTest, NoneAreMissedUnlessTheyAreExpected) {
  const auto pair = make({.max_interval = milliseconds(1)});
  let_pass(milliseconds(100));
  EXPECT_TRUE(only_connected(*pair));
}

TEST_P(HeartbeatTest, EachGrantsTheWholeLimitAgain) {
  const auto pair = make({.expect = true, .max_interval = kLimit});
  steady_clock::time_point last;
  std::jthread reader([&] {
    try {
      pair->endpoint().read_str();
      ADD_FAILURE() << "there is nothing to read";
    } catch (const tcpip::ConnectionError&) {
    }
  });
  for (int i = 0; i < 5; ++i) {
    let_pass(kLimit * 6 / 10);
    last = steady_clock::now();
    send_all(pair->peer, kBeat);
  }
  const ConnectionEvent end = end_of(*pair);
  EXPECT_EQ(end.reason, DisconnectReason::kHeartbeatLost);
  EXPECT_GE(end.time - last, kLimit);
}

TEST_P(HeartbeatTest, DataAloneIsNoHeartbeat) {
  const auto pair = make({.expect = true, .max_interval = kLimit});
  const std::jthread talker([&](const std::stop_token& stop) {
    try {
      while (!stop.stop_requested()) {
        send_all(pair->peer, "still here\r\n");
        let_pass(milliseconds(2));
      }
    } catch (const std::system_error&) {
      // Dropped, as it should be.
    }
  });
  EXPECT_THROW(
      for (;;) { pair->endpoint().read_str(kPatience); },
      tcpip::ConnectionError);
  const ConnectionEvent end = end_of(*pair);
  EXPECT_EQ(end.reason, DisconnectReason::kHeartbeatLost);
  EXPECT_LT(end.time - pair->events.values().front().time, 3 * kLimit);
}

// A loop that looks at its messages now and then must not lose its peer.
TEST_P(HeartbeatTest, ThoseThatNobodyHasReadYetCount) {
  const auto pair = make({.expect = true, .max_interval = kLimit});
  {
    const Beating beating(pair->peer, kLimit / 10);
    let_pass(4 * kLimit);
    EXPECT_TRUE(only_connected(*pair));
  }
  // And when they stop, it ends.
  EXPECT_EQ(end_of(*pair).reason, DisconnectReason::kHeartbeatLost);
}

TEST(ReadLoopHeartbeatTest, SlowHandlerDoesNotLoseItsClient) {
  std::atomic<int> handled{0};
  ReadLoopStage server(
      [&](tcpip::Connection& s, std::stop_token stop) {
        s.read_str(stop);
        let_pass(2 * kLimit);
        ++handled;
      },
      {.heartbeats = {.expect = true, .max_interval = kLimit}});
  const UniqueFd peer = server.connect();
  send_all(peer, "slow\r\nslow\r\n");
  {
    const Beating beating(peer, kLimit / 10);
    EXPECT_TRUE(eventually([&] { return handled == 2; }));
    EXPECT_TRUE(server.events.wait_for(1));
    EXPECT_EQ(server.events.text(), "connected 1");
    EXPECT_TRUE(server->connected());
  }
}

TEST(ReadLoopHeartbeatTest, LossReachesTheCallbackWithTheReason) {
  std::atomic<int> should_be{-1};
  std::atomic<int> is{-1};
  std::atomic<int> told{0};
  ReadLoopStage server(
      [](tcpip::Connection& s, std::stop_token stop) { s.read_str(stop); },
      {.connect_callback =
           [&](const ConnectionEvent& event) {
             if (!event.connected) {
               should_be = event.connection.should_be_connected();
               is = event.connection.connected();
             }
             ++told;
           },
       .heartbeats = {.expect = true, .max_interval = kLimit}});
  const UniqueFd peer = server.connect();
  ASSERT_TRUE(eventually([&] { return told >= 2; }));
  EXPECT_EQ(server.events.text(), "connected 1, heartbeat lost 1");
  EXPECT_EQ(should_be, 1);
  EXPECT_EQ(is, 0);
  EXPECT_TRUE(server->should_be_connected());
  // And the next one is served.
  const UniqueFd next = server.connect();
  ASSERT_TRUE(server.events.wait_for(3));
  server->close();  // no line can come later
  EXPECT_EQ(server.lines.count("read handler failed"), 0u)
      << server.lines.text();
}

// Upstream's second client inherits the first one's time.
TEST(ServerHeartbeatTest, StateStartsAnewWithEachClient) {
  ServerPair pair({.expect = true, .max_interval = kLimit});
  let_pass(kLimit * 8 / 10);
  pair.peer.reset();
  ASSERT_TRUE(pair.events.wait_for(2));
  pair.reconnect();
  ASSERT_TRUE(pair.events.wait_for(4));
  EXPECT_EQ(pair.events.text(),
            "connected 1, peer closed 1, connected 2, heartbeat lost 2");
  const auto events = pair.events.values();
  EXPECT_GE(events[3].time - events[2].time, kLimit);
}

TEST_P(HeartbeatTest, BothWaysAtOnceKeepAConnection) {
  const auto pair = make({.send = true,
                          .interval = kLimit / 10,
                          .expect = true,
                          .max_interval = kLimit});
  const Beating beating(pair->peer, kLimit / 10);
  const auto end = steady_clock::now() + 3 * kLimit;
  std::size_t received = 0;
  while (steady_clock::now() < end) {
    received += recv_some(pair->peer).size();
    EXPECT_EQ(pair->endpoint().try_read_str(), std::nullopt);
  }
  EXPECT_GE(received, 10 * kBeat.size());
  EXPECT_TRUE(only_connected(*pair));
}

}  // namespace
}  // namespace tcpip_tests
