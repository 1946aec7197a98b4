// request_close(): what a signal handler may call, whatever the thread that it
// interrupts is inside of.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>

#include "tcpip/base_client_or_server.h"
#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"
#include "tcpip/read_loop_client.h"
#include "tcpip/reconnecting_client.h"
#include "tcpip/testing/leak_guard.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_tests::BlockedCall;
using tcpip_tests::ClientStage;
using tcpip_tests::ConnectionEvents;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::plain_listener;
using tcpip_tests::PlainListener;
using tcpip_tests::Queued;
using tcpip_tests::ReadLoopStage;
using tcpip_tests::recv_until_eof;
using tcpip_tests::refusing_port;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using tcpip_tests::ServedStage;
using tcpip_tests::Transport;

// Calls request_close() in a signal handler.
class Handler {
 public:
  explicit Handler(BaseClientOrServer& target) {
    object() = &target;
    struct sigaction action {};
    action.sa_handler = [](int) {
      const int saved = errno;
      errno = 0;
      object().load()->request_close();
      wrong_errno() = wrong_errno() || errno != 0;
      errno = saved;
    };
    ::sigaction(SIGUSR1, &action, &saved_);
  }
  ~Handler() {
    ::sigaction(SIGUSR1, &saved_, nullptr);
    EXPECT_FALSE(wrong_errno());
  }
  Handler(const Handler&) = delete;
  Handler& operator=(const Handler&) = delete;

 private:
  static std::atomic<BaseClientOrServer*>& object() {
    static std::atomic<BaseClientOrServer*> object;
    return object;
  }
  static std::atomic<bool>& wrong_errno() {
    static std::atomic<bool> wrong;
    return wrong;
  }

  struct sigaction saved_ {};
};

TEST(RequestCloseTest, EndsAServerAndItsClientAsCloseDoes) {
  ServedStage server;
  const Handler handler(*server);
  server->write("last words", kPatience);
  ::raise(SIGUSR1);
  EXPECT_TRUE(server->wait_done(kPatience));
  EXPECT_EQ(recv_until_eof(server.peer), "last words");
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.text(), "connected 1, closed here 1");
  EXPECT_FALSE(server->should_be_connected());
}

TEST(RequestCloseTest, WakesTheThreadThatItInterrupts) {
  ServedStage server;
  const Handler handler(*server);
  const pthread_t self = ::pthread_self();
  std::jthread other([&] { ::pthread_kill(self, SIGUSR1); });
  EXPECT_THROW(server->read_str(), ConnectionError);
  EXPECT_TRUE(server->wait_done(kPatience));
}

TEST(RequestCloseTest, EndsAReadHandler) {
  ReadLoopStage server([](Connection& client, const std::stop_token& stop) {
    client.read_str(stop);
  });
  const UniqueFd peer = server.connect();
  const Handler handler(*server);
  ::raise(SIGUSR1);
  EXPECT_TRUE(server->wait_done(kPatience));
  EXPECT_EQ(server.events.text(), "connected 1, closed here 1");
}

TEST(RequestCloseTest, EndsAClient) {
  ClientStage client;
  const Handler handler(*client);
  ::raise(SIGUSR1);
  EXPECT_TRUE(client->wait_done(kPatience));
  EXPECT_EQ(recv_until_eof(client.peer), "");
  EXPECT_EQ(client.events.text(), "connected 1, closed here 1");
}

TEST(RequestCloseTest, EndsAClientWhoseServerHasGone) {
  ClientStage client;
  const Handler handler(*client);
  client.peer.reset();
  ASSERT_TRUE(eventually([&] { return !client->connected(); }));
  EXPECT_FALSE(client->wait_done(Wait::none()));
  ::raise(SIGUSR1);
  EXPECT_TRUE(client->wait_done(kPatience));
  EXPECT_EQ(client.events.text(), "connected 1, peer closed 1");
}

// A listener whose queue is full answers no further client.
struct SilentServer {
  SilentServer() { EXPECT_EQ(::listen(listener.fd.get(), 0), 0); }

  const PlainListener listener = plain_listener(Transport::kIpv4);
  const UniqueFd fills = tcpip_tests::connect_to(listener.port);
};

TEST(RequestCloseTest, EndsAClientThatConnects) {
  const HangGuard guard;
  const SilentServer silent;
  Client client({.host = "127.0.0.1", .port = silent.listener.port});
  const Handler handler(client);
  BlockedCall starting(
      [&] { EXPECT_THROW(client.start(), ConnectionAbortedError); });
  EXPECT_TRUE(starting.await_blocked());
  ::raise(SIGUSR1);
  EXPECT_LE(seconds_of([&] { starting.get(); }), kPrompt);
  EXPECT_TRUE(client.wait_done(Wait::none()));
}

TEST(RequestCloseTest, EndsATryOfAReconnectingClient) {
  const HangGuard guard;
  const SilentServer silent;
  ReconnectingClient client({.host = "127.0.0.1", .port = silent.listener.port},
                            {.connect_timeout = 1h});
  const Handler handler(client);
  client.start();
  EXPECT_FALSE(client.wait_connected(50ms));
  ::raise(SIGUSR1);
  EXPECT_TRUE(client.wait_done(kPrompt));
  EXPECT_EQ(client.stats().failed_connects, 0u);
}

TEST(RequestCloseTest, EndsThePauseOfAReconnectingClient) {
  const HangGuard guard;
  const ConnectionEvents events;
  ReconnectingClient client({.host = "127.0.0.1",
                             .port = refusing_port(),
                             .connect_callback = events.callback()},
                            {.first = 1h, .longest = 1h});
  const Handler handler(client);
  client.start();
  ASSERT_TRUE(events.wait_for(1));
  ::raise(SIGUSR1);
  EXPECT_TRUE(client.wait_done(kPrompt));
}

// What has come is still to be read: it is dropped, as by close().
TEST(RequestCloseTest, EndsAReconnectingClientWhoseServerHasGone) {
  const HangGuard guard;
  const PlainListener listener = plain_listener(Transport::kIpv4);
  const ConnectionEvents events;
  ReconnectingClient client({.host = "127.0.0.1",
                             .port = listener.port,
                             .connect_callback = events.callback()},
                            {.finish_time = 1h});
  const Handler handler(client);
  client.start();
  UniqueFd peer = tcpip_tests::accept_one(listener);
  send_all(peer, "unread");
  peer.reset();
  ASSERT_TRUE(client.wait_connected(kPatience));
  tcpip_tests::await_hang_up(client.connection().native_handle());
  ::raise(SIGUSR1);
  EXPECT_TRUE(client.wait_done(kPrompt));
  EXPECT_EQ(events.text(), "connected 1, closed here 1");
}

TEST(RequestCloseTest, EndsAConnectedReconnectingClient) {
  const HangGuard guard;
  const PlainListener listener = plain_listener(Transport::kIpv4);
  ReconnectingClient client({.host = "127.0.0.1", .port = listener.port});
  const Handler handler(client);
  client.start();
  ASSERT_TRUE(client.wait_connected(kPatience));
  ::raise(SIGUSR1);
  EXPECT_TRUE(client.wait_done(kPrompt));
}

TEST(RequestCloseTest, BeforeStartMakesThatThrow) {
  OneClientServer server({.host = "127.0.0.1"});
  server.request_close();
  EXPECT_THROW(server.start(), std::logic_error);
  EXPECT_TRUE(server.wait_done(Wait::none()));
  ReconnectingClient client({.host = "127.0.0.1", .port = 1});
  client.request_close();
  EXPECT_THROW(client.start(), std::logic_error);
}

TEST(RequestCloseTest, MayBeFollowedByCloseAndComeAfterIt) {
  ServedStage server;
  server->request_close();
  server->close();
  EXPECT_TRUE(server->wait_done(Wait::none()));
  server->request_close();
}

// The event waits in the program's queue, whoever runs it.
TEST(RequestCloseTest, QueuesTheDisconnectedEvent) {
  ServedStage server{Queued()};
  const Handler handler(*server);
  ::raise(SIGUSR1);
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  EXPECT_EQ(server.drained_text(), "connected 1, closed here 1");
}

// The signal comes while the thread holds any of the library's locks.
TEST(RequestCloseTest, IsSafeWhateverItInterrupts) {
  const tcpip_testing::LeakSnapshot before;
  for (int round = 0; round < 300; ++round) {
    const HangGuard guard;
    OneClientServer server({.host = "127.0.0.1"});
    server.start();
    const UniqueFd peer = tcpip_tests::connect_to(server.port());
    ASSERT_TRUE(server.wait_connected(kPatience));
    const Handler handler(server);
    std::atomic<bool> go = false;
    std::jthread user([&] {
      go = true;
      while (!server.wait_done(Wait::none())) {
        server.connected();
        server.send("x");
        server.set_terminator("\n");
        try {
          server.connection().try_read(1);
        } catch (const ConnectionError&) {
        }
      }
    });
    while (!go) std::this_thread::yield();
    // A moment that differs from round to round.
    for (int i = 0; i < round * 20; ++i) go = true;
    ::pthread_kill(user.native_handle(), SIGUSR1);
    EXPECT_TRUE(server.wait_done(kPatience));
  }
  EXPECT_TRUE(before.is_restored());
}

}  // namespace
}  // namespace tcpip
