#include "tcpip/read_loop_client.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <latch>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/testing/leak_guard.h"
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
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::send_all;
using tcpip_tests::SharedList;
using tcpip_tests::Transport;
using Strings = std::vector<std::string>;

void echo(Connection& server, const std::stop_token& stop) {
  server.write_str(server.read_str(stop), stop);
}

// A connected client and the server's end.
class Stage : public tcpip_tests::StageBase {
 public:
  explicit Stage(ReadLoopClient::ReadHandler handler,
                 ClientOptions options = {}) {
    options.port = listener.port;
    client.emplace(recorded(std::move(options)), std::move(handler));
    client->start(kPatience);
    peer = accept_one(listener);
  }
  ReadLoopClient* operator->() { return &*client; }

  const tcpip_tests::PlainListener listener =
      tcpip_tests::plain_listener(Transport::kIpv4);
  std::optional<ReadLoopClient> client;
  UniqueFd peer;
};

TEST(ReadLoopClientOptionsTest, BadOptionsAreRefusedByTheConstructor) {
  EXPECT_THROW(ReadLoopClient({.host = "h"}, nullptr), std::invalid_argument);
  EXPECT_THROW(ReadLoopClient({.host = "h", .port = -1}, echo),
               std::invalid_argument);
  EXPECT_THROW(Client({.host = "h", .begin = echo}), std::invalid_argument);
  EXPECT_THROW(Client({.host = "h", .read_after_callback = true}),
               std::invalid_argument);
  EXPECT_NO_THROW(ReadLoopClient({.host = "h", .begin = echo}, echo));
}

TEST(ReadLoopClientTest, CallsTheHandlerAgainAndAgain) {
  Stage stage(echo);
  for (const char* text : {"one\r\n", "two\r\n", "three\r\n"}) {
    send_all(stage.peer, text);
    EXPECT_EQ(recv_exact(stage.peer, std::string(text).size()), text);
  }
}

TEST(ReadLoopClientTest, WritesFromOtherThreadsToo) {
  Stage stage(echo);
  stage->write_str("hello", kPatience);
  EXPECT_EQ(recv_exact(stage.peer, 7), "hello\r\n");
}

TEST(ReadLoopClientTest, BeginComesFirst) {
  Stage stage(echo, {.begin = [](Connection& server, const std::stop_token&) {
                server.write_str("I am here");
              }});
  EXPECT_EQ(recv_exact(stage.peer, 11), "I am here\r\n");
  send_all(stage.peer, "a\r\n");
  EXPECT_EQ(recv_exact(stage.peer, 3), "a\r\n");
}

TEST(ReadLoopClientTest, EverythingBeforeTheFinIsHandledThenItIsOver) {
  SharedList<std::string> handled;
  std::latch go_on(1);
  Stage stage([&](Connection& server, const std::stop_token& stop) {
    const std::string text = server.read_str(stop);
    go_on.wait();
    handled.add(text);
    server.write_str("done " + text, stop);
  });
  send_all(stage.peer, "one\r\ntwo\r\n");
  half_close(stage.peer);
  go_on.count_down();
  EXPECT_EQ(recv_until_eof(stage.peer), "done one\r\ndone two\r\n");
  EXPECT_EQ(handled.values(), (Strings{"one", "two"}));
  ASSERT_TRUE(stage.events.wait_for(2));
  EXPECT_EQ(stage.events.text(), "connected 1, peer closed 1");
}

TEST(ReadLoopClientTest, ALossRequestsTheStopAndIsNoFailure) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::latch inside(1);
  Stage stage([&](Connection&, const std::stop_token& stop) {
    inside.count_down();
    std::unique_lock lock(mutex);
    never.wait(lock, stop, [] { return false; });
  });
  inside.wait();
  tcpip_tests::reset(std::move(stage.peer));
  ASSERT_TRUE(stage.events.wait_for(2));
  EXPECT_EQ(stage.events.text(), "connected 1, reset 1");
  stage->close();
  EXPECT_EQ(stage.lines.count("read handler failed"), 0u);
}

TEST(ReadLoopClientTest, AnExceptionIsLoggedAndEndsTheConnection) {
  Stage stage([](Connection& server, const std::stop_token& stop) {
    server.read_str(stop);
    throw std::runtime_error("no such command");
  });
  send_all(stage.peer, "a\r\n");
  EXPECT_EQ(recv_until_eof(stage.peer), "");
  EXPECT_TRUE(stage.lines.wait_for("read handler failed: no such command"));
  ASSERT_TRUE(stage.events.wait_for(2));
  EXPECT_EQ(stage.events.text(), "connected 1, handler failed 1");
}

TEST(ReadLoopClientTest, ReadAfterCallbackWaitsForTheCallback) {
  CallbackQueue queue;
  std::atomic<bool> told{false};
  SharedList<bool> told_at;
  Stage stage(
      [&](Connection& server, const std::stop_token& stop) {
        told_at.add(told);
        server.read_str(stop);
      },
      {.callbacks = &queue,
       .connect_callback = [&](const ConnectionEvent&) { told = true; },
       .read_after_callback = true});
  EXPECT_FALSE(told_at.wait_for(1, 20ms));
  queue.run_pending();
  ASSERT_TRUE(told_at.wait_for(1));
  EXPECT_TRUE(told_at.values()[0]);
  stage->close();
}

// --- The end ---

TEST(ReadLoopClientCloseTest, EndsTheReader) {
  const HangGuard guard;
  const tcpip_testing::LeakSnapshot before;
  {
    Stage stage(echo);
    stage->close();
    EXPECT_TRUE(stage->wait_done(Wait::none()));
  }
  EXPECT_TRUE(before.is_restored());
}

TEST(ReadLoopClientCloseTest, InTheHandlerIsCompleteWhenThatHasReturned) {
  std::optional<Stage> stage;
  stage.emplace([&](Connection& server, const std::stop_token& stop) {
    server.read_str(stop);
    (*stage)->close();
  });
  send_all(stage->peer, "a\r\n");
  EXPECT_TRUE((*stage)->wait_done(kPatience));
  EXPECT_EQ(recv_until_eof(stage->peer), "");
}

TEST(ReadLoopClientCloseTest, TheHandlerMayDestroyTheClient) {
  const HangGuard guard;
  const tcpip_tests::PlainListener listener =
      tcpip_tests::plain_listener(Transport::kIpv4);
  std::optional<ReadLoopClient> client;
  std::latch destroyed(1);
  client.emplace(ClientOptions{.host = "127.0.0.1", .port = listener.port},
                 [&](Connection& server, const std::stop_token& stop) {
                   server.read_str(stop);
                   client.reset();
                   destroyed.count_down();
                 });
  client->start(kPatience);
  const UniqueFd peer = accept_one(listener);
  send_all(peer, "a\r\n");
  destroyed.wait();
  EXPECT_EQ(recv_until_eof(peer), "");
}

TEST(ReadLoopClientCloseTest, AFailedStartLeavesNoReader) {
  const HangGuard guard;
  const tcpip_testing::LeakSnapshot before;
  const int threads = tcpip_testing::count_threads();
  {
    ReadLoopClient client(
        {.host = "127.0.0.1", .port = tcpip_tests::refusing_port()}, echo);
    EXPECT_THROW(client.start(kPatience), ConnectionRefusedError);
    EXPECT_TRUE(client.wait_done(Wait::none()));
    EXPECT_EQ(tcpip_testing::count_threads(), threads);
  }
  EXPECT_TRUE(before.is_restored());
}

}  // namespace
}  // namespace tcpip
