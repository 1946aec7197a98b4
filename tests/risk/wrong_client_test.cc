// What was meant for one client never reaches, and never ends, the next one;
// and what a read handler posts comes to an end with its server.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <latch>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tests/support/raw_client.h"

namespace tcpip_tests {
namespace {

using namespace std::chrono_literals;
using tcpip::OneClientReadLoopServer;
using tcpip::OneClientServer;

// A server whose handler, for its first client, waits until a second one has
// connected, and then does `late`.
template <class Late>
void run_with_late_handler(Late late) {
  const HangGuard guard;
  std::latch second_is_there(1);
  std::latch late_is_done(1);
  std::atomic<int> served = 0;
  OneClientReadLoopServer server(
      {.host = "127.0.0.1"},
      [&](OneClientReadLoopServer& s, std::stop_token stop) {
        const std::string line = s.read_str(stop);
        if (served++ == 0) {
          second_is_there.wait();
          late(s);
          late_is_done.count_down();
        } else {
          s.write_str("answer to " + line, stop);
        }
      });
  server.start();
  tcpip::UniqueFd first = connect_to(server.port());
  send_all(first, "first\r\n");
  ASSERT_TRUE(eventually([&] { return served == 1; }));
  first.reset();
  ASSERT_TRUE(eventually([&] { return !server.connected(); }));
  const tcpip::UniqueFd second = connect_to(server.port());
  ASSERT_TRUE(server.wait_connected(kPatience));
  second_is_there.count_down();
  late_is_done.wait();
  // It is served as if nothing had been: the first bytes are its own answer.
  send_all(second, "second\r\n");
  EXPECT_EQ(recv_exact(second, 18), "answer to second\r\n");
}

TEST(WrongClient, AHandlersLateReplyFails) {
  run_with_late_handler([](OneClientReadLoopServer& server) {
    EXPECT_THROW(server.write_str("late"), tcpip::ConnectionError);
    EXPECT_THROW(server.try_write_str("late"), tcpip::ConnectionError);
  });
}

TEST(WrongClient, AHandlersLateReadFails) {
  run_with_late_handler([](OneClientReadLoopServer& server) {
    EXPECT_THROW(server.read_str(1s), tcpip::ConnectionError);
  });
}

TEST(WrongClient, AHandlersLateCloseClientDoesNothing) {
  run_with_late_handler([](OneClientReadLoopServer& server) {
    server.close_client();
    EXPECT_TRUE(server.should_be_connected());
  });
}

TEST(WrongClient, AHandlerIsToldOfItsOwnConnection) {
  run_with_late_handler([](OneClientReadLoopServer& server) {
    EXPECT_FALSE(server.connected());
    EXPECT_EQ(server.generation(), 1u);
    EXPECT_TRUE(server.peer_address().empty());
  });
}

TEST(WrongClient, ABoundCallbackAnswersItsOwnClientOrNobody) {
  const HangGuard guard;
  tcpip::CallbackQueue queue;
  int refused = 0;
  OneClientReadLoopServer server(
      {.host = "127.0.0.1", .callbacks = &queue},
      [&](OneClientReadLoopServer& s, std::stop_token stop) {
        const std::string line = s.read_str(stop);
        s.post_wait(s.bound([&, line] {
          try {
            s.write_str("answer to " + line, 1s);
          } catch (const tcpip::ConnectionError&) {
            ++refused;
          }
        }),
                    stop);
      });
  server.start();
  {
    const tcpip::UniqueFd first = connect_to(server.port());
    send_all(first, "first\r\n");
    ASSERT_TRUE(eventually([&] { return queue.size() == 1; }));
  }
  ASSERT_TRUE(eventually([&] { return !server.connected(); }));
  const tcpip::UniqueFd second = connect_to(server.port());
  send_all(second, "second\r\n");
  ASSERT_TRUE(eventually([&] { return queue.size() == 2; }));
  EXPECT_EQ(queue.run_pending(), 2u);
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(recv_exact(second, 18), "answer to second\r\n");
}

TEST(WrongClient, ACallbackThatRunsLateSpeaksOfItsEventsConnection) {
  const HangGuard guard;
  tcpip::CallbackQueue queue;
  std::vector<std::pair<std::uint64_t, bool>> seen;
  OneClientServer server(
      {.host = "127.0.0.1",
       .callbacks = &queue,
       .connect_callback = [&](OneClientServer& s,
                               const tcpip::ConnectionEvent&) {
         seen.emplace_back(s.generation(), s.connected());
         if (s.generation() == 1) s.close_client();
       }});
  server.start();
  connect_to(server.port()).reset();
  ASSERT_TRUE(eventually([&] { return queue.size() == 2; }));
  const tcpip::UniqueFd second = connect_to(server.port());
  ASSERT_TRUE(eventually([&] { return queue.size() == 3; }));
  queue.run_pending();
  EXPECT_EQ(seen, (std::vector<std::pair<std::uint64_t, bool>>{
                      {1, false}, {1, false}, {2, true}}));
  EXPECT_TRUE(server.connected());
}

TEST(WrongClient, NothingPostedForAClientComesBehindTheNextOnesEvent) {
  const HangGuard guard;
  constexpr int kClients = 200;
  tcpip::CallbackQueue queue(100000);
  std::uint64_t told = 0;
  int late = 0;
  OneClientReadLoopServer server(
      {.host = "127.0.0.1",
       .callbacks = &queue,
       .connect_callback =
           [&](OneClientReadLoopServer&, const tcpip::ConnectionEvent& event) {
             if (event.connected) told = event.generation;
           }},
      [&](OneClientReadLoopServer& s, std::stop_token stop) {
        s.read_until("\n", stop);
        const std::uint64_t client = s.generation();
        s.post_wait([&, client] { late += client < told; }, stop);
      });
  server.start();
  for (int i = 0; i < kClients; ++i) {
    const tcpip::UniqueFd client = connect_to(server.port());
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
      [&](OneClientReadLoopServer& s, std::stop_token stop) {
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

TEST(TryWrite, TakesNothingWhileAnEarlierMessageIsUnsent) {
  const HangGuard guard;
  OneClientServer server(
      {.host = "127.0.0.1", .socket = {.send_buffer = 4096}});
  server.start();
  const tcpip::UniqueFd client = connect_to(server.port());
  ASSERT_TRUE(server.wait_connected(kPatience));
  std::string expected;
  char letter = 'a';
  // Until one of them stays queued in part: the next is not taken.
  for (bool taken = true; taken;) {
    const std::string message(60000, letter++);
    taken = server.try_write(message);
    if (taken) expected += message;
  }
  EXPECT_GT(server.unsent(), 0u);
  std::jthread drainer([&] { server.drain(kPatience); });
  EXPECT_EQ(recv_exact(client, expected.size()), expected);
  drainer.join();
  EXPECT_TRUE(server.try_write_str("next"));
  EXPECT_EQ(recv_exact(client, 6), "next\r\n");
}

}  // namespace
}  // namespace tcpip_tests
