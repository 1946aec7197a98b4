#include "tcpip/reconnecting_client.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/constants.h"
#include "tcpip/endpoint/connect_loop.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"
#include "tcpip/testing/leak_guard.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/stage.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_tests::accept_one;
using tcpip_tests::eventually;
using tcpip_tests::half_close;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::refusing_port;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using tcpip_tests::SharedList;
using tcpip_tests::Transport;
using Clock = std::chrono::steady_clock;
using Strings = std::vector<std::string>;

// As good as at once.
constexpr ReconnectOptions kQuick{.first = 1ms, .longest = 5ms};
// Only the first try comes in the time of a test.
constexpr ReconnectOptions kOnce{.first = 1h, .longest = 1h};

// A started client, and a bare socket that it connects to.
class Stage : public tcpip_tests::StageBase {
 public:
  explicit Stage(ReconnectOptions reconnect = kQuick,
                 ClientOptions options = {}) {
    client.emplace(recorded(at_listener(std::move(options))), reconnect);
    client->start();
  }
  Stage(ReconnectingClient::ReadHandler handler, ClientOptions options,
        ReconnectOptions reconnect = kQuick) {
    client.emplace(recorded(at_listener(std::move(options))),
                   std::move(handler), reconnect);
    client->start();
  }
  ReconnectingClient* operator->() { return &*client; }

  // The server's end of the next connection, once the client knows of it.
  UniqueFd accept() {
    const std::uint64_t before = accepted_++;
    UniqueFd peer = accept_one(listener);
    EXPECT_TRUE(
        eventually([&] { return client->connection_count() > before; }));
    return peer;
  }

  const tcpip_tests::PlainListener listener =
      tcpip_tests::plain_listener(Transport::kIpv4);
  std::optional<ReconnectingClient> client;

 private:
  ClientOptions at_listener(ClientOptions options) const {
    options.port = listener.port;
    return options;
  }

  std::uint64_t accepted_ = 0;
};

// --- Options ---

TEST(ReconnectingClientOptionsTest, BadOnesAreRefusedByTheConstructor) {
  const ClientOptions options{.host = "h"};
  for (const ReconnectOptions& bad :
       {ReconnectOptions{.connect_timeout = 0ms},
        ReconnectOptions{.silence_timeout = -1ms},
        ReconnectOptions{.first = 0ms},
        ReconnectOptions{.first = 2s, .longest = 1s},
        ReconnectOptions{.tries = -1}, ReconnectOptions{.finish_time = -1ms}}) {
    EXPECT_THROW(ReconnectingClient(options, bad), std::invalid_argument);
  }
  EXPECT_THROW(ReconnectingClient({.host = "h", .port = 65536}),
               std::invalid_argument);
  EXPECT_THROW(ReconnectingClient({.host = "h", .read_after_callback = true}),
               std::invalid_argument);
  EXPECT_THROW(ReconnectingClient(options, nullptr), std::invalid_argument);
  EXPECT_NO_THROW(ReconnectingClient{options});
}

TEST(ReconnectingClientOptionsTest, TheLongestTimesThatThereAreDoNotOverflow) {
  constexpr auto kMost = std::chrono::milliseconds::max();
  Stage stage(ReconnectOptions{.connect_timeout = kMost,
                               .silence_timeout = kMost,
                               .longest = kMost,
                               .finish_time = kMost});
  const UniqueFd peer = stage.accept();
  stage->write_str("a");
  EXPECT_EQ(recv_exact(peer, 3), "a\r\n");
}

TEST(ReconnectingClientOptionsTest, WithoutAHostItIsClosedFromTheBeginning) {
  ReconnectingClient client({.host = ""});
  client.start();
  EXPECT_FALSE(client.wait_connected());
  EXPECT_TRUE(client.wait_done(Wait::none()));
}

// --- Connections ---

TEST(ReconnectingClientTest, HasTheConnectionOfTheMoment) {
  Stage stage;
  for (std::uint64_t i = 1; i <= 3; ++i) {
    const UniqueFd peer = stage.accept();
    ASSERT_TRUE(stage->wait_connected(kPatience));
    EXPECT_EQ(stage->connection().number(), i);
    stage->write_str("hello", kPatience);
    EXPECT_EQ(recv_exact(peer, 7), "hello\r\n");
    send_all(peer, "welcome\r\n");
    EXPECT_EQ(stage->read_str(kPatience), "welcome");
  }
  ASSERT_TRUE(stage.events.wait_for(5));
  EXPECT_EQ(stage.events.text().find("connected 1, peer closed 1, connected 2, "
                                     "peer closed 2, connected 3"),
            0u)
      << stage.events.text();
}

TEST(ReconnectingClientTest, WithoutAConnectionItsMembersThrow) {
  ReconnectingClient client({.host = "127.0.0.1", .port = refusing_port()},
                            kOnce);
  client.start();
  EXPECT_FALSE(client.connection().connected());
  EXPECT_THROW(client.write_str("a"), ConnectionError);
  EXPECT_THROW(client.read_str(), ConnectionError);
  EXPECT_EQ(client.send_str("a"), SendResult::kNotConnected);
  EXPECT_FALSE(client.wait_connected(1ms));
}

TEST(ReconnectingClientTest, WhatWasMeantForOneServerNeverReachesTheNext) {
  Stage stage;
  const UniqueFd first = stage.accept();
  const Connection old = stage->connection();
  tcpip_tests::reset(UniqueFd(::dup(first.get())));
  old.close();
  const UniqueFd second = stage.accept();
  EXPECT_THROW(old.write_str("for the first"), ConnectionError);
  stage->write_str("for the second");
  EXPECT_EQ(recv_exact(second, 16), "for the second\r\n");
}

TEST(ReconnectingClientTest, ClosingTheConnectionMakesANewOne) {
  Stage stage;
  const UniqueFd first = stage.accept();
  stage->connection().close();
  EXPECT_EQ(recv_until_eof(first), "");
  const UniqueFd second = stage.accept();
  ASSERT_TRUE(stage.events.wait_for(3));
  EXPECT_EQ(stage.events.text(), "connected 1, closed here 1, connected 2");
}

TEST(ReconnectingClientTest, StartsOnce) {
  Stage stage;
  EXPECT_THROW(stage->start(), std::logic_error);
  stage->close();
  EXPECT_THROW(stage->start(), std::logic_error);
}

// What the server sent before it went can be read, and then it is over.
TEST(ReconnectingClientTest, LastMessagesCanBeRead) {
  Stage stage(
      ReconnectOptions{.first = 1ms, .longest = 5ms, .finish_time = kPatience});
  {
    const UniqueFd peer = stage.accept();
    send_all(peer, "one\r\ntwo\r\n");
  }
  const Connection first = stage->connection();
  EXPECT_EQ(first.read_str(kPatience), "one");
  EXPECT_EQ(first.read_str(kPatience), "two");
  EXPECT_TRUE(eventually([&] { return !first.connected(); }));
  const UniqueFd second = stage.accept();
}

// A program that only writes must not be kept from a new connection.
TEST(ReconnectingClientTest, WhatIsNotReadInTheFinishTimeIsDroppedAndCounted) {
  Stage stage(
      ReconnectOptions{.first = 1ms, .longest = 5ms, .finish_time = 50ms});
  {
    const UniqueFd peer = stage.accept();
    send_all(peer, "never read");
  }
  const UniqueFd second = stage.accept();
  ASSERT_TRUE(stage.events.wait_for(3));
  EXPECT_EQ(stage.events.text(), "connected 1, peer closed 1, connected 2");
  EXPECT_EQ(stage.events.values()[1].dropped, 10u);
}

// --- Tries that fail ---

TEST(ReconnectingClientFailureTest,
     IsToldOncePerOutageAndThenTheClientGivesUp) {
  class Quiet : public tcpip_tests::StageBase {
   public:
    using StageBase::recorded;
  } stage;
  ReconnectOptions reconnect = kQuick;
  reconnect.tries = 5;
  ReconnectingClient client(
      stage.recorded(ClientOptions{.port = refusing_port()}), reconnect);
  client.start();
  EXPECT_FALSE(client.wait_connected(kPatience));
  EXPECT_TRUE(client.wait_done(kPatience));
  ASSERT_TRUE(stage.events.wait_for(2));
  EXPECT_EQ(stage.events.text(), "connect failed 0, gave up 0");
  for (const ConnectionEvent& event : stage.events.values()) {
    EXPECT_EQ(event.error, std::errc::connection_refused);
    EXPECT_TRUE(event.is_unexpected());
  }
  EXPECT_EQ(stage.lines.count("trying again until it works"), 1u);
  EXPECT_TRUE(stage.lines.wait_for("giving up"));
  EXPECT_THROW(client.write_str("a"), ConnectionError);
}

TEST(ReconnectingClientFailureTest, ConnectsOnceTheServerIsThere) {
  const int port = refusing_port();
  const tcpip_tests::ConnectionEvents events;
  ReconnectingClient client({.host = "127.0.0.1",
                             .port = port,
                             .connect_callback = events.callback()},
                            kQuick);
  client.start();
  const auto outages = [&] {
    const std::vector<ConnectionEvent> all = events.values();
    return std::count_if(
        all.begin(), all.end(), [](const ConnectionEvent& event) {
          return event.reason == DisconnectReason::kConnectFailed;
        });
  };
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(eventually([&] { return outages() == i; }));
    OneClientServer server({.host = "127.0.0.1", .port = port});
    server.start();
    ASSERT_TRUE(server.wait_connected(kPatience));
    server.close();
  }
  ASSERT_TRUE(eventually([&] { return outages() == 4; }));
  client.close();
  EXPECT_EQ(events.text().find("failed 0, connect failed 0"), std::string::npos)
      << events.text();
}

// Ends a connection after the other, and sends `greeting` before: the pauses
// grow to 64 ms at least.
void turn_away(const Stage& stage, std::string_view greeting) {
  const auto turn_away_once = [&] {
    const UniqueFd peer = accept_one(stage.listener);
    send_all(peer, greeting);
  };
  turn_away_once();
  std::chrono::milliseconds pause{4};
  for (int i = 0; i < 6; ++i, pause *= 2) {
    const auto last = Clock::now();
    turn_away_once();
    if (i > 0) {
      EXPECT_GE(Clock::now() - last, pause / 2 - 1ms) << i;
    }
  }
}

const ReconnectingClient::ReadHandler kReadOne =
    [](Connection& server, const std::stop_token& stop) {
      server.read_exactly(1, stop);
    };

TEST(ReconnectingClientFailureTest, PausesGrowWhileTheServerTurnsItAway) {
  Stage stage(kReadOne, {}, {.first = 4ms, .longest = 1h});
  turn_away(stage, "");
}

// As one that says why.
TEST(ReconnectingClientFailureTest, PausesGrowWhileTheServerGreetsAndEnds) {
  Stage stage(kReadOne, {}, {.first = 4ms, .longest = 1h});
  turn_away(stage, "no\r\n");
}

TEST(ReconnectingClientFailureTest, PausesBeginAnewAfterAConnectionThatServed) {
  Stage stage(kReadOne, {}, {.first = 4ms, .longest = 1h});
  turn_away(stage, "");
  auto least = Clock::duration::max();
  auto last = Clock::now();
  for (int i = 0; i < 4; ++i) {
    UniqueFd peer = accept_one(stage.listener);
    if (i > 0) least = std::min(least, Clock::now() - last);
    send_all(peer, "x");
    // Longer than the pause before, 256 ms at most.
    ::poll(nullptr, 0, 300);
    last = Clock::now();
    peer.reset();
  }
  EXPECT_LT(least, 64ms);
}

// --- Silence ---

TEST(SilenceTest, EndsAfterTheLimitUnlessSomethingComes) {
  const auto start = Clock::now();
  internal::Silence silence(80ms, start);
  EXPECT_FALSE(silence.is_too_long(start + 79ms, 0));
  EXPECT_TRUE(silence.is_too_long(start + 80ms, 0));
  EXPECT_FALSE(silence.is_too_long(start + 81ms, 1));  // it came just now
  EXPECT_FALSE(silence.is_too_long(start + 160ms, 1));
  EXPECT_TRUE(silence.is_too_long(start + 161ms, 1));
  EXPECT_LE(silence.look_again().remaining(), 10ms);
}

TEST(SilenceTest, WithoutALimitItNeverEnds) {
  const auto start = Clock::now();
  internal::Silence silence(0ms, start);
  EXPECT_FALSE(silence.is_too_long(start + 1000h, 0));
  EXPECT_TRUE(silence.look_again().is_never());
}

TEST(ReconnectingClientSilenceTest, EndsTheConnectionAndConnectsAnew) {
  Stage stage(
      ReconnectOptions{.silence_timeout = 40ms, .first = 1ms, .longest = 5ms});
  const UniqueFd first = stage.accept();
  EXPECT_EQ(recv_until_eof(first), "");
  const UniqueFd second = stage.accept();
  ASSERT_TRUE(stage.events.wait_for(3));
  EXPECT_EQ(stage.events.text().find("connected 1, silent 1, connected 2"), 0u)
      << stage.events.text();
  EXPECT_TRUE(stage.lines.wait_for("nothing came from"));
}

// Bytes count when they come, not when they are read.
TEST(ReconnectingClientSilenceTest, WhatComesAndIsNotReadIsNoSilence) {
  constexpr auto kLimit = tcpip_tests::kWithSanitizer ? 2s : 1s;
  Stage stage(ReconnectOptions{
      .silence_timeout = kLimit, .first = 1ms, .longest = 5ms});
  const UniqueFd peer = stage.accept();
  const auto start = Clock::now();
  // What comes in the second half of the limit counts.
  for (int i = 1; i <= 4; ++i) {
    std::this_thread::sleep_until(start + i * kLimit / 3);  // the subject
    send_all(peer, "x");
  }
  EXPECT_EQ(stage->connection_count(), 1u);
  EXPECT_TRUE(stage->connected());
}

// --- With a read handler ---

TEST(ReconnectingClientReadTest, GreetsAndReadsOnEachConnection) {
  SharedList<std::string> got;
  Stage stage(
      [&](Connection& server, const std::stop_token& stop) {
        got.add(std::to_string(server.number()) + server.read_str(stop));
      },
      {.begin = [](Connection& server, const std::stop_token& stop) {
        server.write_str("subscribe", stop);
      }});
  for (const char* text : {"a\r\n", "b\r\n"}) {
    const UniqueFd peer = stage.accept();
    EXPECT_EQ(recv_exact(peer, 11), "subscribe\r\n");
    send_all(peer, text);
  }
  ASSERT_TRUE(got.wait_for(2));
  EXPECT_EQ(got.values(), (Strings{"1a", "2b"}));
}

TEST(ReconnectingClientReadTest, EverythingBeforeTheFinIsHandledFirst) {
  SharedList<std::string> got;
  Stage stage(
      [&](Connection& server, const std::stop_token& stop) {
        got.add(server.read_str(stop));
        server.write_str("done", stop);
      },
      {}, {.first = 1ms, .longest = 5ms, .finish_time = kPatience});
  const UniqueFd peer = stage.accept();
  send_all(peer, "one\r\ntwo\r\n");
  half_close(peer);
  EXPECT_EQ(recv_until_eof(peer), "done\r\ndone\r\n");
  EXPECT_EQ(got.values(), (Strings{"one", "two"}));
  const UniqueFd next = stage.accept();
}

TEST(ReconnectingClientReadTest, AnExceptionEndsThatConnectionOnly) {
  Stage stage(
      [](Connection& server, const std::stop_token& stop) {
        if (server.read_str(stop) == "bad") throw std::runtime_error("no");
        server.write_str("good", stop);
      },
      {});
  const UniqueFd first = stage.accept();
  send_all(first, "bad\r\n");
  EXPECT_EQ(recv_until_eof(first), "");
  const UniqueFd second = stage.accept();
  send_all(second, "x\r\n");
  EXPECT_EQ(recv_exact(second, 6), "good\r\n");
  EXPECT_EQ(stage.lines.count("read handler failed: no"), 1u);
}

// --- The end ---

TEST(ReconnectingClientCloseTest, EndsThePauseAndEveryWait) {
  const HangGuard guard;
  const tcpip_testing::LeakSnapshot before;
  {
    const tcpip_tests::ConnectionEvents events;
    ReconnectingClient client({.host = "127.0.0.1",
                               .port = refusing_port(),
                               .connect_callback = events.callback()},
                              kOnce);
    client.start();
    ASSERT_TRUE(events.wait_for(1));
    tcpip_tests::BlockedCall waiting([&] { return client.wait_connected(); });
    EXPECT_TRUE(waiting.await_blocked());
    EXPECT_LE(seconds_of([&] { client.close(); }), kPrompt);
    EXPECT_FALSE(waiting.get());
    EXPECT_TRUE(client.wait_done(Wait::none()));
  }
  EXPECT_TRUE(before.is_restored());
}

// A listener whose queue is full answers no further client.
TEST(ReconnectingClientCloseTest, EndsATryThatIsUnderWay) {
  const HangGuard guard;
  const tcpip_tests::PlainListener listener =
      tcpip_tests::plain_listener(Transport::kIpv4);
  ASSERT_EQ(::listen(listener.fd.get(), 0), 0);
  const UniqueFd fills = tcpip_tests::connect_to(listener.port);
  const tcpip_tests::LogRecorder lines;
  ReconnectingClient client(
      {.host = "127.0.0.1", .port = listener.port, .log = lines.log()},
      {.connect_timeout = 1h});
  client.start();
  EXPECT_FALSE(client.wait_connected(50ms));
  EXPECT_LE(seconds_of([&] { client.close(); }), kPrompt);
  EXPECT_EQ(lines.count("trying again"), 0u);
}

TEST(ReconnectingClientCloseTest, ATryThatTakesTooLongIsOver) {
  const HangGuard guard;
  const tcpip_tests::PlainListener listener =
      tcpip_tests::plain_listener(Transport::kIpv4);
  ASSERT_EQ(::listen(listener.fd.get(), 0), 0);
  const UniqueFd fills = tcpip_tests::connect_to(listener.port);
  const tcpip_tests::ConnectionEvents events;
  ReconnectingClient client({.host = "127.0.0.1",
                             .port = listener.port,
                             .connect_callback = events.callback()},
                            {.connect_timeout = 50ms});
  client.start();
  ASSERT_TRUE(events.wait_for(1));
  EXPECT_EQ(events.text(), "connect failed 0");
  EXPECT_EQ(events.values()[0].error, std::errc::timed_out);
}

TEST(ReconnectingClientCloseTest, MayBeCalledInEachCallback) {
  for (const bool destroy : {false, true}) {
    const HangGuard guard;
    std::latch done(1);
    std::optional<ReconnectingClient> client;
    client.emplace(ClientOptions{.host = "127.0.0.1",
                                 .port = refusing_port(),
                                 .connect_callback =
                                     [&](const ConnectionEvent&) {
                                       if (destroy) {
                                         client.reset();
                                       } else {
                                         client->close();
                                       }
                                       done.count_down();
                                     }},
                   kQuick);
    client->start();
    done.wait();
    if (!destroy) {
      EXPECT_TRUE(client->wait_done(kPatience));
    }
  }
}

// --- What does not pile up ---

TEST(ReconnectingClientStormTest, LeavesNothingBehind) {
  const HangGuard guard;
  const tcpip_testing::LeakSnapshot before;
  {
    Stage stage(ReconnectOptions{.first = 1ms, .longest = 1ms});
    for (int i = 0; i < 200; ++i) {
      tcpip_tests::reset(accept_one(stage.listener));
    }
    EXPECT_LE(tcpip_testing::count_threads(), 5);
    EXPECT_LE(tcpip_testing::open_descriptors().size(), 40u);
  }
  EXPECT_TRUE(before.is_restored());
}

// As a server admits nobody then.
TEST(ReconnectingClientStormTest, WaitsUntilTheProgramHasRunItsEvents) {
  class Queued : public tcpip_tests::StageBase {
   public:
    using StageBase::recorded;
  } stage;
  const tcpip_tests::PlainListener listener =
      tcpip_tests::plain_listener(Transport::kIpv4);
  ReconnectingClient client(
      stage.recorded(tcpip_tests::Queued(),
                     ClientOptions{.port = listener.port}),
      {.first = 1ms, .longest = 1ms});
  client.start();
  constexpr std::uint64_t kMost = kMaxWaitingEvents / 2 + 1;
  for (std::uint64_t i = 1; i <= kMost; ++i) accept_one(listener).reset();
  ASSERT_TRUE(eventually([&] {
    return client.connection_count() == kMost && !client.connected();
  }));
  EXPECT_FALSE(client.wait_connected(50ms));
  EXPECT_EQ(client.connection_count(), kMost);
  stage.queue.run_pending();
  EXPECT_TRUE(client.wait_connected(kPatience));
  EXPECT_EQ(client.connection_count(), kMost + 1);
  client.close();
}

}  // namespace
}  // namespace tcpip
