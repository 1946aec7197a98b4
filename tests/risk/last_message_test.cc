// What a client has sent before it hung up is handled, and answered if it still
// reads; the next client waits for that, but not for ever.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <latch>
#include <mutex>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/unique_fd.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/stage.h"

namespace tcpip_tests {
namespace {

using namespace std::chrono_literals;
using tcpip::Connection;
using tcpip::ConnectionEvent;
using tcpip::DisconnectReason;
using tcpip::UniqueFd;
using Strings = std::vector<std::string>;

constexpr int kClients = 200;

// A handler that records each message once it is handled, and may be held up
// before that.
struct Recorded {
  ReadLoopStage::Handler handler() {
    return [this](Connection& client, std::stop_token stop) {
      const std::string message = client.read_str(stop);
      if (message == "wait") {
        waiting.count_down();
        go_on.wait();
      }
      handled.add(message);
      client.write_str("done " + message, stop);
    };
  }

  SharedList<std::string> handled;
  std::latch waiting{1};
  std::latch go_on{1};
};

// In any order: when the kernel's queue of new connections is full, it lets
// later ones in first.
void expect_same(Strings some, Strings others) {
  std::sort(some.begin(), some.end());
  std::sort(others.begin(), others.end());
  EXPECT_EQ(some, others);
}

// --- Clients that come, send and go ---

TEST(LastMessage, EveryCommandOfOneShotClientsIsHandled) {
  SharedList<std::string> handled;
  ReadLoopStage server([&](Connection& client, std::stop_token stop) {
    handled.add(client.read_str(stop));
  });
  Strings sent;
  for (int i = 0; i < kClients; ++i) {
    sent.push_back("command " + std::to_string(i));
    send_all(connect_to(server->port()), sent.back() + "\r\n");
  }
  ASSERT_TRUE(server.events.wait_for(2 * kClients));
  expect_same(handled.values(), sent);
  for (const ConnectionEvent& event : server.events.values()) {
    if (event.connected) continue;
    EXPECT_EQ(event.reason, DisconnectReason::kPeerClosed);
    EXPECT_EQ(event.dropped, 0u);
  }
}

// Each reply meets a socket that is closed, and then a reset.
TEST(LastMessage, EveryCommandIsHandledThoughNobodyReadsTheReplies) {
  SharedList<std::string> handled;
  ReadLoopStage server([&](Connection& client, std::stop_token stop) {
    const std::string message = client.read_str(stop);
    handled.add(message);
    client.write_str("done " + message);
  });
  Strings sent;
  for (int i = 0; i < kClients; ++i) {
    std::string text;
    for (const char* const part : {" a", " b", " c", " d"}) {
      sent.push_back(std::to_string(i) + part);
      text += sent.back() + "\r\n";
    }
    send_all(connect_to(server->port()), text);
  }
  ASSERT_TRUE(server.events.wait_for(2 * kClients));
  expect_same(handled.values(), sent);
}

TEST(LastMessage, HalfClosedClientsGetTheirReplies) {
  std::atomic<int> handled{0};
  SharedList<int> handled_before_the_end;
  ReadLoopStage server(
      [&](Connection& client, std::stop_token stop) {
        const std::string message = client.read_str(stop);
        client.write_str("done " + message, stop);
        ++handled;
      },
      {.connect_callback = [&](const ConnectionEvent& event) {
        if (!event.connected) handled_before_the_end.add(handled);
      }});
  for (int i = 1; i <= kClients; ++i) {
    const UniqueFd peer = connect_to(server->port());
    send_all(peer, "status\r\nmore\r\n");
    half_close(peer);
    EXPECT_EQ(recv_until_eof(peer), "done status\r\ndone more\r\n") << i;
    ASSERT_TRUE(handled_before_the_end.wait_for(static_cast<std::size_t>(i)));
    EXPECT_EQ(handled_before_the_end.values().back(), 2 * i);
  }
}

// As `echo -n status | nc -N` sends it.
TEST(LastMessage, UnterminatedLastLineIsAnswered) {
  ReadLoopStage server([&](Connection& client, std::stop_token stop) {
    const std::string line = client.read_line(stop);
    client.write("<" + line + ">", stop);
  });
  const UniqueFd peer = server.connect();
  send_all(peer, "status");
  half_close(peer);
  EXPECT_EQ(recv_until_eof(peer), "<status>");
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.text(), "connected 1, peer closed 1");
}

TEST(LastMessage, HalfClosedClientThatSendsNothingIsGreeted) {
  ReadLoopStage server(
      [](Connection& client, std::stop_token stop) { client.read_str(stop); },
      {.begin = [](Connection& client, std::stop_token stop) {
        client.write_str("welcome", stop);
      }});
  for (int i = 0; i < kClients; ++i) {
    const UniqueFd peer = connect_to(server->port());
    half_close(peer);
    EXPECT_EQ(recv_until_eof(peer), "welcome\r\n") << i;
  }
}

// --- While the last message is handled ---

TEST(LastMessage, ConnectionLastsUntilTheHandlerHasReturned) {
  Recorded recorded;
  ReadLoopStage server(Queued(), recorded.handler());
  const UniqueFd peer = server.connect();
  send_all(peer, "wait\r\n");
  half_close(peer);
  recorded.waiting.wait();
  await_hang_up(server->connection().native_handle());
  EXPECT_TRUE(server->connected());
  EXPECT_FALSE(server->connection().stop_token().stop_requested());
  EXPECT_EQ(server.drained_text(), "connected 1");
  recorded.go_on.count_down();
  EXPECT_EQ(recv_until_eof(peer), "done wait\r\n");
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  EXPECT_EQ(server.drained_text(), "connected 1, peer closed 1");
  EXPECT_TRUE(server->should_be_connected());
  EXPECT_EQ(server.lines.text().find("failed"), std::string::npos);
}

// No reply reaches a peer that has sent a reset, and it may not have meant to
// leave.
TEST(LastMessage, ResetStopsTheHandlerAtOnce) {
  Recorded recorded;
  ReadLoopStage server(recorded.handler());
  UniqueFd peer = server.connect();
  send_all(peer, "wait\r\n");
  recorded.waiting.wait();
  reset(std::move(peer));
  EXPECT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.text(), "connected 1, reset 1");
  recorded.go_on.count_down();
}

// A peer that has closed answers our reply with a reset.
TEST(LastMessage, ResetBehindAFinDoesNotStopTheHandler) {
  std::latch waiting(1);
  std::latch go_on(1);
  std::atomic<bool> stopped{true};
  ReadLoopStage server([&](Connection& client, const std::stop_token& stop) {
    client.read_str(stop);
    client.write_str("nobody reads this");
    waiting.count_down();
    go_on.wait();
    EXPECT_THROW(while (true) client.write_str("nor this"),
                 tcpip::ConnectionError);
    stopped = stop.stop_requested();
  });
  UniqueFd peer = server.connect();
  send_all(peer, "wait\r\n");
  half_close(peer);
  waiting.wait();
  const Connection client = server->connection();
  reset(std::move(peer));
  await_hang_up(client.native_handle());
  EXPECT_TRUE(client.connected());
  go_on.count_down();
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.text(), "connected 1, peer closed 1");
  EXPECT_FALSE(stopped);
}

// What it has not read stays, and it would be called for ever.
TEST(LastMessage, HandlerThatOnlyWritesToAPeerThatHasGoneIsCalledNoMore) {
  std::latch waiting(1);
  std::latch go_on(1);
  ReadLoopStage server([&](Connection& client, const std::stop_token&) {
    waiting.count_down();
    go_on.wait();
    while (true) client.write_str("nobody reads this");
  });
  UniqueFd peer = server.connect();
  send_all(peer, "unread\r\n");
  half_close(peer);
  waiting.wait();
  reset(std::move(peer));
  go_on.count_down();
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.values()[1].dropped, 8u);
}

// With a greeting too: that is over when the handler is called.
TEST(LastMessage, HandlerThatHasTakenNoMessageIsStoppedAtOnce) {
  for (const bool greets : {false, true}) {
    SCOPED_TRACE(greets);
    std::atomic<bool> stopped{false};
    std::latch inside(1);
    tcpip::ServerOptions options;
    if (greets) options.begin = [](Connection&, const std::stop_token&) {};
    ReadLoopStage server(
        [&, calls = 0](Connection& client,
                       const std::stop_token& stop) mutable {
          if (calls++ == 0) {
            client.read_str(stop);  // handled, and in hand no more
            return;
          }
          inside.count_down();
          stopped = eventually([&] { return stop.stop_requested(); });
        },
        options);
    UniqueFd peer = server.connect();
    send_all(peer, "hello\r\n");
    inside.wait();
    peer.reset();
    EXPECT_TRUE(server.events.wait_for(2));
    EXPECT_TRUE(eventually([&] { return stopped.load(); }));
  }
}

TEST(LastMessage, CloseEndsTheConnectionAtOnce) {
  Recorded recorded;
  ReadLoopStage server(recorded.handler());
  const UniqueFd peer = server.connect();
  send_all(peer, "wait\r\nnever\r\n");
  half_close(peer);
  recorded.waiting.wait();
  server->close_client();
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.text(), "connected 1, closed here 1");
  EXPECT_EQ(server.events.values()[1].dropped, 7u);
  recorded.go_on.count_down();
  server->close();
  EXPECT_EQ(recorded.handled.values(), Strings{"wait"});
}

TEST(LastMessage, FailingHandlerEndsTheConnectionAndTellsWhatIsDropped) {
  std::latch all_sent(1);
  ReadLoopStage server([&](Connection& client, std::stop_token stop) {
    client.read_str(stop);
    all_sent.wait();
    throw std::runtime_error("no such command");
  });
  const UniqueFd peer = server.connect();
  send_all(peer, "one\r\ntwo\r\n");
  half_close(peer);
  await_hang_up(server->connection().native_handle());
  all_sent.count_down();
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.text(), "connected 1, handler failed 1");
  EXPECT_EQ(server.events.values()[1].dropped, 5u);
}

// --- The next client ---

TEST(LastMessage, NextClientWaitsForTheHandler) {
  Recorded recorded;
  ReadLoopStage server(recorded.handler(), {.finish_time = kPatience});
  UniqueFd first = server.connect();
  send_all(first, "wait\r\nlast\r\n");
  half_close(first);
  recorded.waiting.wait();
  const UniqueFd second = connect_to(server->port());
  send_all(second, "second\r\n");
  // What is behind it waits too, and is then turned away or served.
  const UniqueFd third = connect_to(server->port());
  recorded.go_on.count_down();
  EXPECT_EQ(recv_until_eof(first), "done wait\r\ndone last\r\n");
  EXPECT_EQ(recv_exact(second, 13), "done second\r\n");
  EXPECT_EQ(recv_until_eof(third), "");
  EXPECT_EQ(recorded.handled.values(), (Strings{"wait", "last", "second"}));
  ASSERT_TRUE(server.events.wait_for(3));
  EXPECT_EQ(server.events.text(), "connected 1, peer closed 1, connected 2");
}

TEST(LastMessage, NextClientIsLetInAfterTheFinishTime) {
  for (const std::string rest : {"", "un", "unread\r\nmore\r\n"}) {
    SCOPED_TRACE(rest);
    Recorded recorded;
    ReadLoopStage server(recorded.handler(), {.finish_time = 200ms});
    UniqueFd first = server.connect();
    send_all(first, "wait\r\n" + rest);
    recorded.waiting.wait();
    first.reset();
    const auto begin = std::chrono::steady_clock::now();
    const UniqueFd second = connect_to(server->port());
    ASSERT_TRUE(server.events.wait_for(3));
    const auto waited = std::chrono::steady_clock::now() - begin;
    EXPECT_GE(waited, 190ms);
    EXPECT_LT(waited, 200ms + kPrompt);
    const ConnectionEvent ended = server.events.values()[1];
    EXPECT_EQ(ended.reason, rest.empty() ? DisconnectReason::kPeerClosed
                                         : DisconnectReason::kReplaced);
    EXPECT_EQ(ended.dropped, rest.size());
    EXPECT_TRUE(ended.connection.stop_token().stop_requested());
    recorded.go_on.count_down();
    send_all(second, "second\r\n");
    EXPECT_EQ(recv_exact(second, 13), "done second\r\n");
    EXPECT_EQ(recorded.handled.values(), (Strings{"wait", "second"}));
  }
}

// The stop of the old connection is requested before the next client is
// admitted.
TEST(LastMessage, StopCallbackThatClosesTheServerAdmitsNobody) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::latch waiting(1);
  ReadLoopStage server(
      [&](Connection& client, std::stop_token stop) {
        const std::stop_callback close(stop, [&] { server->close(); });
        client.read_str(stop);
        waiting.count_down();
        std::unique_lock lock(mutex);
        never.wait(lock, stop, [] { return false; });
      },
      {.finish_time = 50ms});
  UniqueFd first = server.connect();
  send_all(first, "wait\r\n");
  waiting.wait();
  first.reset();
  const UniqueFd second = connect_to(server->port());
  EXPECT_EQ(recv_until_eof(second), "");
  server->close();
  EXPECT_EQ(server->connection_count(), 1u);
}

// What counts is when it was admitted, not when it was accepted.
TEST(LastMessage, NextClientHasTheWholeTimeForItsFirstHeartbeat) {
  Recorded recorded;
  ReadLoopStage server(recorded.handler(),
                       {.heartbeats = {.expect = true, .max_interval = 300ms},
                        .finish_time = 600ms});
  UniqueFd first = server.connect();
  send_all(first, "wait\r\n");
  recorded.waiting.wait();
  first.reset();
  const UniqueFd second = connect_to(server->port());
  ASSERT_TRUE(server.events.wait_for(3));
  recorded.go_on.count_down();
  ASSERT_TRUE(server.events.wait_for(4));
  const auto events = server.events.values();
  EXPECT_EQ(events[3].reason, DisconnectReason::kHeartbeatLost);
  EXPECT_GE(events[3].time - events[2].time, 300ms);
}

// Nor does what is in the kernel's queue behind the next client.
TEST(LastMessage, WaitOfTheNextClientTakesNoProcessor) {
  Recorded recorded;
  ReadLoopStage server(recorded.handler(), {.finish_time = 1s});
  const UniqueFd first = server.connect();
  send_all(first, "wait\r\n");
  half_close(first);
  recorded.waiting.wait();
  const UniqueFd second = connect_to(server->port());
  const UniqueFd third = connect_to(server->port());
  const std::clock_t before = std::clock();
  ASSERT_TRUE(server.events.wait_for(3));
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 2);
  recorded.go_on.count_down();
}

// Nor does a connection that is over in both directions while its message is in
// hand.
TEST(LastMessage, WaitOfTheHandlerBehindAResetTakesNoProcessor) {
  Recorded recorded;
  ReadLoopStage server(recorded.handler(), {.finish_time = 500ms});
  UniqueFd first = server.connect();
  send_all(first, "wait\r\n");
  half_close(first);
  recorded.waiting.wait();
  const int fd = server->connection().native_handle();
  reset(std::move(first));
  await_hang_up(fd);
  const UniqueFd second = connect_to(server->port());
  const std::clock_t before = std::clock();
  ASSERT_TRUE(server.events.wait_for(3));
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 4);
  recorded.go_on.count_down();
}

TEST(LastMessage, HeartbeatsAreNotExpectedBehindAFin) {
  Recorded recorded;
  ReadLoopStage server(recorded.handler(),
                       {.heartbeats = {.expect = true, .max_interval = 50ms},
                        .finish_time = 300ms});
  UniqueFd first = server.connect();
  send_all(first, "wait\r\n");
  half_close(first);
  recorded.waiting.wait();
  const UniqueFd second = connect_to(server->port());
  ASSERT_TRUE(server.events.wait_for(3));  // after the finish time
  recorded.go_on.count_down();
  EXPECT_EQ(server.events.values()[1].reason, DisconnectReason::kPeerClosed);
}

TEST(LastMessage, FinishTimeOfZeroLetsTheNextClientInAtOnce) {
  Recorded recorded;
  ReadLoopStage server(recorded.handler(), {.finish_time = 0ms});
  UniqueFd first = server.connect();
  send_all(first, "wait\r\nunread\r\n");
  recorded.waiting.wait();
  first.reset();
  const UniqueFd second = connect_to(server->port());
  ASSERT_TRUE(server.events.wait_for(3));
  EXPECT_EQ(server.events.text(), "connected 1, replaced 1, connected 2");
  EXPECT_EQ(server.events.values()[1].dropped, 8u);
  recorded.go_on.count_down();
}

TEST(LastMessage, NegativeFinishTimeIsRefused) {
  EXPECT_THROW(tcpip::OneClientReadLoopServer({.finish_time = -1ms},
                                              [](Connection&, auto) {}),
               std::invalid_argument);
}

TEST(LastMessage, CloseEndsTheWaitOfTheNextClient) {
  Recorded recorded;
  ReadLoopStage server(recorded.handler(), {.finish_time = 1h});
  const UniqueFd first = server.connect();
  send_all(first, "wait\r\n");
  half_close(first);
  recorded.waiting.wait();
  const UniqueFd second = connect_to(server->port());
  // Or it would still be in the kernel's queue.
  ASSERT_TRUE(eventually([&] {
    return socket_connected_to(local_port(second.get())).has_value();
  }));
  std::jthread closer([&] { server->close(); });
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  recorded.go_on.count_down();
  closer.join();
  EXPECT_EQ(recv_until_eof(second), "");
  EXPECT_EQ(server->connection_count(), 1u);
}

// --- A server without a read handler ---

// What the program reads and what the event says is dropped are all that came;
// or more, since a read that is under way when the connection ends may still
// return something.
TEST(LastMessage, NewcomerDuringAReadLosesNothingUntold) {
  constexpr std::size_t kLines = 50;
  ServerStage<> server(Queued(), {});
  for (std::uint64_t round = 1; round <= 100; ++round) {
    SCOPED_TRACE(round);
    UniqueFd first = server.connect();
    const Connection client = server->connection();
    ASSERT_EQ(client.number(), 2 * round - 1);
    std::size_t read = 0;
    std::jthread reader([&] {
      try {
        for (;;) read += client.read_until("\n", kPatience).size();
      } catch (const tcpip::ConnectionError&) {
      }
    });
    std::string text;
    for (std::size_t i = 0; i < kLines; ++i) text += "12345\n";
    send_all(first, text);
    first.reset();
    UniqueFd second = server.connect();
    reader.join();
    server->close_client();
    server.queue.run_pending();
    const auto events = server.events.values();
    ASSERT_EQ(events.size(), 4u);
    EXPECT_EQ(events[1].reason, events[1].dropped == 0
                                    ? DisconnectReason::kPeerClosed
                                    : DisconnectReason::kReplaced);
    EXPECT_GE(read + events[1].dropped, text.size());
    server.events.clear();
  }
}

// --- A queue that nobody drains ---

TEST(WaitingEvents, NoClientIsAdmittedWhileTooManyWait) {
  ServerStage<> server(Queued(), {});
  constexpr std::size_t kMost = tcpip::kMaxWaitingEvents + 2;
  std::vector<UniqueFd> waiting;
  while (server.queue.size() < tcpip::kMaxWaitingEvents + 1) {
    server.connect().reset();
    ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  }
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(connect_to(server->port()));
    send_all(waiting.back(), "hello\n");
  }
  ASSERT_TRUE(server.lines.wait_for("no client is admitted"));
  EXPECT_FALSE(server->connected());
  EXPECT_LE(server.queue.size(), kMost);
  // It was in the queue all the time, and is served now.
  server.queue.run_pending();
  EXPECT_EQ(server->wait_client(kPatience)->read_until("\n", kPatience),
            "hello\n");
  EXPECT_EQ(server.lines.count("no client is admitted"), 1u);
}

// With no line that is held back, and would wake the accept thread.
TEST(WaitingEvents, WaitingClientIsAdmittedAsSoonAsTheyHaveRun) {
  const HangGuard guard;
  tcpip_testing::LogRecorder lines;
  tcpip::Log warnings = lines.log();
  warnings.set_level(tcpip::LogLevel::kWarning);
  tcpip::CallbackQueue queue;
  tcpip::OneClientServer server({.host = "127.0.0.1",
                                 .log = warnings,
                                 .callbacks = &queue,
                                 .connect_callback = [](auto&) {}});
  server.start();
  while (queue.size() < tcpip::kMaxWaitingEvents + 1) {
    UniqueFd peer = connect_to(server.port());
    ASSERT_TRUE(server.wait_connected(kPatience));
    peer.reset();
    ASSERT_TRUE(eventually([&] { return !server.connected(); }));
  }
  const UniqueFd waiting = connect_to(server.port());
  ASSERT_TRUE(lines.wait_for("no client is admitted"));
  const std::uint64_t before = server.connection_count();
  queue.run_pending();
  EXPECT_TRUE(eventually([&] { return server.connection_count() > before; }));
}

// As with every line that a peer can cause: a program that is about as fast as
// a peer that reconnects does not get a line for each turn.
TEST(WaitingEvents, TheLineOfManyTurnsIsWrittenAtABoundedRate) {
  ServerStage<> server(Queued(), {});
  const auto start = std::chrono::steady_clock::now();
  for (int turn = 0; turn < 5; ++turn) {
    while (server.queue.size() < tcpip::kMaxWaitingEvents + 1) {
      server.connect().reset();
      ASSERT_TRUE(eventually([&] { return !server->connected(); }));
    }
    const UniqueFd waiting = connect_to(server->port());
    send_all(waiting, "hello\n");
    // The next events make room for this client.
    const std::uint64_t before = server->connection_count();
    const std::size_t size = server.queue.size();
    for (std::size_t i = tcpip::kMaxWaitingEvents; i < size; ++i) {
      ASSERT_TRUE(server.queue.run_one(kPatience));
    }
    ASSERT_TRUE(
        eventually([&] { return server->connection_count() > before; }));
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::steady_clock::now() - start);
  EXPECT_LE(server.lines.count("no client is admitted"),
            2u + static_cast<std::size_t>(seconds.count()));
}

TEST(WaitingEvents, CloseEndsTheWait) {
  ServerStage<> server(Queued(), {});
  while (server.queue.size() < tcpip::kMaxWaitingEvents + 1) {
    server.connect().reset();
    ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  }
  const UniqueFd waiting = connect_to(server->port());
  ASSERT_TRUE(server.lines.wait_for("no client is admitted"));
  server->close();
  EXPECT_EQ(recv_until_eof(waiting), "");
}

}  // namespace
}  // namespace tcpip_tests
