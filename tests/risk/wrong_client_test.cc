// What was meant for one client never reaches, and never ends, the next one;
// and what a read handler posts comes to an end with its server.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/unique_fd.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/stage.h"

namespace tcpip_tests {
namespace {

using namespace std::chrono_literals;
using tcpip::CallbackQueue;
using tcpip::Connection;
using tcpip::OneClientReadLoopServer;

// A server whose handler, for its first client, waits until a second one has
// connected, and then does `late`.
template <class Late>
void run_with_late_handler(Late late) {
  std::latch second_is_there(1);
  std::latch late_is_done(1);
  std::atomic<int> served = 0;
  ReadLoopStage server([&](Connection& s, std::stop_token stop) {
    const std::string line = s.read_str(stop);
    if (served++ == 0) {
      second_is_there.wait();
      late(s);
      late_is_done.count_down();
    } else {
      s.write_str("answer to " + line, stop);
    }
  });
  tcpip::UniqueFd first = server.connect();
  send_all(first, "first\r\n");
  ASSERT_TRUE(eventually([&] { return served == 1; }));
  // A FIN would leave the connection to the handler.
  reset(std::move(first));
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  const tcpip::UniqueFd second = server.connect();
  second_is_there.count_down();
  late_is_done.wait();
  // It is served as if nothing had been: the first bytes are its own answer.
  send_all(second, "second\r\n");
  EXPECT_EQ(recv_exact(second, 18), "answer to second\r\n");
}

TEST(WrongClient, AHandlersLateReplyFails) {
  run_with_late_handler([](const Connection& client) {
    EXPECT_THROW(client.write_str("late"), tcpip::ConnectionError);
    EXPECT_THROW(client.try_write_str("late"), tcpip::ConnectionError);
  });
}

TEST(WrongClient, AHandlersLateReadFails) {
  run_with_late_handler([](const Connection& client) {
    EXPECT_THROW(client.read_str(1s), tcpip::ConnectionError);
  });
}

TEST(WrongClient, AHandlersLateCloseDoesNothing) {
  run_with_late_handler([](const Connection& client) {
    client.close();
    // It was lost before: this side has not ended it.
    EXPECT_TRUE(client.should_be_connected());
  });
}

TEST(WrongClient, AHandlerIsToldOfItsOwnConnection) {
  run_with_late_handler([](const Connection& client) {
    EXPECT_FALSE(client.connected());
    EXPECT_EQ(client.number(), 1u);
    EXPECT_FALSE(client.peer_address().empty());
  });
}

TEST(WrongClient, APostedCallbackAnswersItsOwnClientOrNobody) {
  int refused = 0;
  ReadLoopStage server(Queued(), [&](Connection& s, std::stop_token stop) {
    const std::string line = s.read_str(stop);
    s.post_wait(
        [&, s, line] {
          try {
            s.write_str("answer to " + line, 1s);
          } catch (const tcpip::ConnectionError&) {
            ++refused;
          }
        },
        stop);
  });
  const CallbackQueue& queue = server.queue;
  {
    const tcpip::UniqueFd first = server.connect();
    send_all(first, "first\r\n");
    // Its event and its message.
    ASSERT_TRUE(eventually([&] { return queue.size() == 2; }));
  }
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  const tcpip::UniqueFd second = server.connect();
  send_all(second, "second\r\n");
  ASSERT_TRUE(eventually([&] { return queue.size() == 5; }));
  EXPECT_EQ(server.queue.run_pending(), 5u);
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(recv_exact(second, 18), "answer to second\r\n");
}

TEST(WrongClient, ACallbackThatRunsLateSpeaksOfItsEventsConnection) {
  std::vector<std::pair<std::uint64_t, bool>> seen;
  ServerStage<> server(
      Queued(), {.connect_callback = [&](const tcpip::ConnectionEvent& event) {
        const Connection& client = event.connection;
        seen.emplace_back(client.number(), client.connected());
        if (client.number() == 1) client.close();
      }});
  server.connect().reset();
  ASSERT_TRUE(eventually([&] { return server.queue.size() == 2; }));
  const tcpip::UniqueFd second = server.connect();
  server.queue.run_pending();
  EXPECT_EQ(seen, (std::vector<std::pair<std::uint64_t, bool>>{
                      {1, false}, {1, false}, {2, true}}));
  EXPECT_TRUE(server->connected());
}

TEST(WrongClient, NothingPostedForAClientComesBehindTheNextOnesEvent) {
  constexpr int kClients = 200;
  std::uint64_t told = 0;
  int late = 0;
  CallbackQueue queue(100000);
  ReadLoopStage server(
      [&](Connection& s, std::stop_token stop) {
        s.read_until("\n", stop);
        s.post_wait([&, client = s.number()] { late += client < told; }, stop);
      },
      {.callbacks = &queue,
       .connect_callback = [&](const tcpip::ConnectionEvent& event) {
         if (event.connected) told = event.connection.number();
       }});
  for (int i = 0; i < kClients; ++i) {
    const tcpip::UniqueFd client = connect_to(server->port());
    send_all(client, "a\nb\nc\nd\ne\nf\ng\nh\n");
  }
  ASSERT_TRUE(eventually([&] {
    queue.run_pending();
    return told >= kClients / 2;
  }));
  EXPECT_EQ(late, 0);
}

TEST(WrongClient, ClosingEndsAHandlerThatWaitsForRoomInTheQueue) {
  const HangGuard guard;
  tcpip::CallbackQueue queue(1);
  std::atomic<int> posting = 0;
  // No connect_callback: the queue is the handler's business alone.
  OneClientReadLoopServer server(
      {.host = "127.0.0.1", .callbacks = &queue},
      [&](Connection& s, std::stop_token stop) {
        s.read_str(stop);
        ++posting;
        s.post_wait([] { ADD_FAILURE() << "ran after close()"; });
      });
  server.start();
  const tcpip::UniqueFd client = connect_to(server.port());
  send_all(client, "one\r\ntwo\r\n");
  ASSERT_TRUE(eventually([&] { return posting == 2; }));
  server.close();
  EXPECT_EQ(queue.run_pending(), 0u);
}

// --- Programs that answer late, 200 times ---

constexpr int kRounds = 200;

// Ends the peer's side in one of the ways there are.
void leave(tcpip::UniqueFd& peer, int way) {
  switch (way % 3) {
    case 0:
      peer.reset();
      break;
    case 1:
      reset(std::move(peer));
      break;
    default:
      send_all(peer, "unread\r\n");
      peer.reset();
  }
}

// True if it is refused. Else it must have been for a connection that lived.
bool is_refused(const Connection& client, const std::string& text) {
  try {
    client.write_str(text, kPatience);
    return false;
  } catch (const tcpip::ConnectionError&) {
    return true;
  }
}

void expect_line(const tcpip::UniqueFd& peer, const std::string& line) {
  EXPECT_EQ(recv_exact(peer, line.size() + 2), line + "\r\n");
}

// It reads through the server, and keeps the connection of the last event.
TEST(WrongClient, AControlLoopThatKeepsTheConnectionAnswersItsOwnOrNobody) {
  Connection client;
  ServerStage<> server(
      Queued(), {.connect_callback = [&](const tcpip::ConnectionEvent& event) {
        if (event.connected) client = event.connection;
      }});
  tcpip::UniqueFd peer = server.connect();
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    server.queue.run_pending();
    const Connection asker = client;
    send_all(peer, "question\r\n");
    EXPECT_EQ(server->read_str(kPatience), "question");
    leave(peer, round);
    peer = server.connect();
    EXPECT_TRUE(is_refused(asker, "answer to the one that has left"));
    server.queue.run_pending();
    EXPECT_FALSE(is_refused(client, "hello"));
    expect_line(peer, "hello");
  }
}

// The same with clients that come and go while the loop is at work.
TEST(WrongClient, AControlLoopAnswersWhoAskedWhileClientsComeAndGo) {
  Connection client;
  ServerStage<> server(
      Queued(), {.connect_callback = [&](const tcpip::ConnectionEvent& event) {
        if (event.connected) client = event.connection;
      }});
  std::atomic<bool> done{false};
  std::atomic<int> answered{0};
  std::jthread clients([&] {
    for (int i = 0; i < kRounds; ++i) {
      const tcpip::UniqueFd peer = connect_to(server->port());
      const std::string name = "client " + std::to_string(i);
      try {
        send_all(peer, name + "\r\n");
        if (i % 2 == 0) continue;  // leaves without the answer
        const std::string got = recv_exact(peer, name.size() + 2);
        if (got.empty()) continue;  // turned away
        EXPECT_EQ(got, name + "\r\n");
        ++answered;
      } catch (const std::system_error&) {
        // Turned away.
      }
    }
    done = true;
  });
  while (!done) {
    server.queue.run_pending();
    const Connection asker = client;
    try {
      const std::string name = asker.read_str(1ms);
      is_refused(asker, name);
    } catch (const tcpip::TimeoutError&) {
    } catch (const tcpip::ConnectionError&) {
    }
  }
  EXPECT_GT(answered, 0);
}

TEST(WrongClient, AThreadThatAnswersForTheHandlerAnswersItsOwnOrNobody) {
  SharedList<std::pair<Connection, std::string>> asked;
  ReadLoopStage server([&](Connection& client, std::stop_token stop) {
    asked.add({client, client.read_str(stop)});
  });
  tcpip::UniqueFd peer = server.connect();
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    const auto before = static_cast<std::size_t>(2 * round);
    send_all(peer, "first " + std::to_string(round) + "\r\n");
    ASSERT_TRUE(asked.wait_for(before + 1));
    // No more to read, or the handler would take it.
    leave(peer, round % 2);
    peer = server.connect();
    send_all(peer, "second " + std::to_string(round) + "\r\n");
    ASSERT_TRUE(asked.wait_for(before + 2));
    bool first_refused = false;
    bool second_refused = true;
    std::jthread([&] {
      const auto both = asked.values();
      first_refused = is_refused(both[before].first, both[before].second);
      second_refused =
          is_refused(both[before + 1].first, both[before + 1].second);
    }).join();
    EXPECT_TRUE(first_refused);
    EXPECT_FALSE(second_refused);
    expect_line(peer, "second " + std::to_string(round));
  }
}

TEST(WrongClient, ACallbackThatAnswersLateAnswersItsOwnOrNobody) {
  std::latch second_is_there(1);
  SharedList<bool> refused;
  ServerStage<> server(
      {.connect_callback = [&](const tcpip::ConnectionEvent& event) {
        if (!event.connected) return;
        const std::string number = std::to_string(event.connection.number());
        if (number == "1") second_is_there.wait();
        refused.add(is_refused(event.connection, "you are number " + number));
      }});
  tcpip::UniqueFd first = server.connect();
  first.reset();
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  const tcpip::UniqueFd second = server.connect();
  second_is_there.count_down();
  expect_line(second, "you are number 2");
  ASSERT_TRUE(refused.wait_for(2));
  EXPECT_EQ(refused.values(), (std::vector<bool>{true, false}));
}

TEST(WrongClient, AWriteThatIsBlockedSendsNothingToTheNextOne) {
  for (int round = 0; round < 20; ++round) {
    SCOPED_TRACE(round);
    ServerStage<> server({.socket = {.send_buffer = 4096}});
    tcpip::UniqueFd first = server.connect();
    const Connection client = server->connection();
    // Through the server, too: it means the client of when it began.
    BlockedCall<void> writing([&] {
      const std::string large(16 * 1024 * 1024, 'x');
      if (round % 2 == 0) {
        client.write(large);
      } else {
        server->write(large);
      }
    });
    ASSERT_TRUE(writing.await_blocked());
    // A peer that only shuts down counts as gone, and resets nothing.
    if (round % 4 < 2) {
      half_close(first);
    } else {
      first.reset();
    }
    const tcpip::UniqueFd second = server.connect();
    EXPECT_THROW(writing.get(), tcpip::ConnectionError);
    EXPECT_EQ(server->unsent(), 0u);
    server->write_str("hello", kPatience);
    expect_line(second, "hello");
  }
}

TEST(WrongClient, PostedCallbacksAnswerTheirOwnAfterTwoReplacements) {
  std::vector<std::string> refused;
  ServerStage<> server(Queued(), {});
  tcpip::UniqueFd peer;
  for (int i = 1; i <= 3; ++i) {
    if (i > 1) leave(peer, i);
    peer = server.connect();
    const Connection client = server->connection();
    EXPECT_EQ(client.number(), static_cast<std::uint64_t>(i));
    EXPECT_TRUE(client.post([&refused, client] {
      const std::string text = "for " + std::to_string(client.number());
      if (is_refused(client, text)) refused.push_back(text);
      if (client.number() == 2) client.close();
    }));
  }
  // Three connected, two that ended, and what was posted.
  EXPECT_EQ(server.queue.run_pending(), 8u);
  EXPECT_EQ(refused, (std::vector<std::string>{"for 1", "for 2"}));
  expect_line(peer, "for 3");
  EXPECT_TRUE(server->connected());
}

TEST(TryWrite, TakesNothingWhileAnEarlierMessageIsUnsent) {
  ServerStage<> server({.socket = {.send_buffer = 4096}});
  const tcpip::UniqueFd client = server.connect();
  std::string expected;
  char letter = 'a';
  // Until one of them stays queued in part: the next is not taken.
  for (bool taken = true; taken;) {
    const std::string message(60000, letter++);
    taken = server->try_write(message);
    if (taken) expected += message;
  }
  EXPECT_GT(server->unsent(), 0u);
  std::jthread drainer([&] { server->drain(kPatience); });
  EXPECT_EQ(recv_exact(client, expected.size()), expected);
  drainer.join();
  EXPECT_TRUE(server->try_write_str("next"));
  EXPECT_EQ(recv_exact(client, 6), "next\r\n");
}

}  // namespace
}  // namespace tcpip_tests
