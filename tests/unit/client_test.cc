#include "tcpip/client.h"

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/stage.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::ConnectionEvents;
using tcpip_testing::LogRecorder;
using tcpip_tests::accept_one;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::plain_listener;
using tcpip_tests::PlainListener;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using tcpip_tests::Transport;

using Connected = tcpip_tests::ClientStage;

TEST(ClientOptionsTest, BadOptionsAreRefusedByTheConstructor) {
  EXPECT_THROW(Client({.host = "h", .port = -1}), std::invalid_argument);
  EXPECT_THROW(Client({.host = "h", .port = 65536}), std::invalid_argument);
  EXPECT_THROW(Client({.host = "h", .terminator = ""}), std::invalid_argument);
  EXPECT_THROW(Client({.host = "h", .encoding = ""}), std::invalid_argument);
  EXPECT_THROW(Client({.host = "h", .encoding = "utf-17"}),
               std::invalid_argument);
  EXPECT_THROW(Client({.host = "h",
                       .heartbeats = {.interval = std::chrono::seconds(0)}}),
               std::invalid_argument);
  EXPECT_THROW(
      Client({.host = "h",
              .heartbeats = {.max_interval = std::chrono::seconds(-1)}}),
      std::invalid_argument);
  EXPECT_THROW(Client({.host = "h", .limit = 0}), std::invalid_argument);
  EXPECT_NO_THROW(Client({.host = "h", .port = 65535}));
}

TEST(ClientOptionsTest, HostAndPortAreThoseGiven) {
  Client client({.host = "h", .port = 7});
  EXPECT_EQ(client.host(), "h");
  EXPECT_EQ(client.port(), 7);
}

TEST(ClientTest, ConnectsAndTalks) {
  Connected c;
  EXPECT_TRUE(c.client->connected());
  EXPECT_TRUE(c.client->should_be_connected());
  EXPECT_TRUE(c.client->wait_connected(Wait::none()));
  EXPECT_EQ(c.client->connection_count(), 1u);
  EXPECT_EQ(c.client->peer_address().port(), c.listener.port);
  c.client->write_str("ping");
  EXPECT_EQ(recv_exact(c.peer, 6), "ping\r\n");
  send_all(c.peer, "pong\r\n");
  EXPECT_EQ(c.client->read_str(kPatience), "pong");
}

TEST(ClientTest, ConnectsOverIpv6) {
  const HangGuard guard;
  const PlainListener listener = plain_listener(Transport::kIpv6);
  Client client({.host = "::1", .port = listener.port});
  client.start(kPatience);
  const UniqueFd peer = accept_one(listener);
  EXPECT_EQ(client.peer_address().host(), "::1");
  client.write("a");
  EXPECT_EQ(recv_exact(peer, 1), "a");
}

TEST(ClientTest, ConnectsToANameAndFromALocalAddress) {
  const HangGuard guard;
  const PlainListener listener = plain_listener(Transport::kIpv4);
  Client client(
      {.host = "localhost",
       .port = listener.port,
       .connect = {.family = AddressFamily::kIpv4, .local_host = "127.0.0.2"}});
  client.start(kPatience);
  const UniqueFd peer = accept_one(listener);
  sockaddr_in from{};
  socklen_t size = sizeof from;
  ASSERT_EQ(
      ::getpeername(peer.get(), reinterpret_cast<sockaddr*>(&from), &size), 0);
  EXPECT_EQ(Address(&from, size).host(), "127.0.0.2");
}

TEST(ClientTest, SetsTheSocketOptions) {
  Connected c;
  const auto fd = tcpip_tests::socket_connected_to(c.listener.port);
  ASSERT_TRUE(fd.has_value());
  using tcpip_tests::socket_option;
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(socket_option(*fd, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_KEEPINTVL), 15);
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_KEEPCNT), 4);
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 120'000);
}

TEST(ClientTest, SetsTheOptionsGiven) {
  Connected c(
      {.socket = {
           .no_delay = false, .keepalive_time = 7s, .user_timeout = 9s}});
  const auto fd = tcpip_tests::socket_connected_to(c.listener.port);
  ASSERT_TRUE(fd.has_value());
  using tcpip_tests::socket_option;
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_KEEPIDLE), 7);
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 9'000);
}

// --- start() that does not succeed ---

TEST(ClientStartTest, SecondStartIsALogicError) {
  Connected c;
  EXPECT_THROW(c.client->start(kPatience), std::logic_error);
  EXPECT_TRUE(c.client->connected()) << "the first goes on";
}

TEST(ClientStartTest, StartAfterCloseIsALogicError) {
  Client client({.host = "127.0.0.1", .port = 1});
  client.close();
  EXPECT_THROW(client.start(kPatience), std::logic_error);
}

// What is left after a start that failed: nothing.
void expect_closed(Client& client, const ConnectionEvents& events) {
  EXPECT_FALSE(client.connected());
  EXPECT_FALSE(client.should_be_connected());
  EXPECT_FALSE(client.wait_connected(kPatience));
  EXPECT_TRUE(client.wait_done(Wait::none()));
  EXPECT_EQ(client.connection_count(), 0u);
  EXPECT_THROW(client.read(1), ConnectionError);
  EXPECT_THROW(client.start(), std::logic_error);
  client.close();
  EXPECT_EQ(events.text(), "");
}

TEST(ClientStartTest, RefusedIsAnErrorOfItsOwn) {
  const HangGuard guard;
  const ConnectionEvents events;
  Client client({.host = "127.0.0.1",
                 .port = tcpip_tests::refusing_port(),
                 .connect_callback = events.callback()});
  EXPECT_THROW(client.start(kPatience), ConnectionRefusedError);
  expect_closed(client, events);
}

TEST(ClientStartTest, UnknownHostIsAResolveError) {
  const HangGuard guard;
  const ConnectionEvents events;
  Client client({.host = "no such host.invalid",
                 .port = 1,
                 .connect_callback = events.callback()});
  EXPECT_THROW(client.start(kPatience), ResolveError);
  expect_closed(client, events);
}

TEST(ClientStartTest, DeadlineIsATimeoutError) {
  const HangGuard guard;
  const tcpip_tests::SilentPort silent;
  const ConnectionEvents events;
  Client client({.host = "127.0.0.1",
                 .port = silent.listener.port,
                 .connect_callback = events.callback()});
  const auto took =
      seconds_of([&] { EXPECT_THROW(client.start(100ms), TimeoutError); });
  EXPECT_GE(took, 100ms);
  EXPECT_LE(took, 100ms + kPrompt);
  expect_closed(client, events);
}

TEST(ClientStartTest, StopIsCancelledError) {
  const HangGuard guard;
  const tcpip_tests::SilentPort silent;
  const ConnectionEvents events;
  Client client({.host = "127.0.0.1",
                 .port = silent.listener.port,
                 .connect_callback = events.callback()});
  std::stop_source stop;
  std::atomic<pid_t> id{0};
  std::future<void> starting = std::async(std::launch::async, [&] {
    id = tcpip_tests::this_thread_id();
    client.start(stop.get_token());
  });
  ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  stop.request_stop();
  EXPECT_THROW(starting.get(), CancelledError);
  expect_closed(client, events);
}

TEST(ClientStartTest, CloseMeanwhileIsAConnectionErrorAndPrompt) {
  const HangGuard guard;
  const tcpip_tests::SilentPort silent;
  const ConnectionEvents events;
  Client client({.host = "127.0.0.1",
                 .port = silent.listener.port,
                 .connect_callback = events.callback()});
  std::atomic<pid_t> id{0};
  std::future<void> starting = std::async(std::launch::async, [&] {
    id = tcpip_tests::this_thread_id();
    client.start();
  });
  ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  EXPECT_LE(seconds_of([&] {
              client.close();
              EXPECT_THROW(starting.get(), ConnectionAbortedError);
            }),
            kPrompt);
  expect_closed(client, events);
}

TEST(ClientStartTest, NoHostIsThisMachine) {
  const HangGuard guard;
  const PlainListener listener = plain_listener(Transport::kIpv4);
  Client client({.port = listener.port});
  client.start(kPatience);
  EXPECT_TRUE(client.connected());
  EXPECT_EQ(client.peer_address().host(), "127.0.0.1");
  EXPECT_FALSE(client.host().has_value());
}

TEST(ClientStartTest, EmptyHostIsAClientThatIsClosedAlready) {
  const HangGuard guard;
  const ConnectionEvents events;
  Client client({.host = "", .connect_callback = events.callback()});
  EXPECT_TRUE(client.wait_done(Wait::none()));
  client.start();
  client.start();
  EXPECT_FALSE(client.connected());
  EXPECT_FALSE(client.should_be_connected());
  EXPECT_FALSE(client.wait_connected());
  EXPECT_THROW(client.read(1), ConnectionError);
  EXPECT_THROW(client.write("a"), ConnectionError);
  client.close();
  client.close();
  EXPECT_EQ(events.text(), "");
}

// --- Events ---

TEST(ClientEventTest, PeerClosedIsSeenAtOnce) {
  Connected c;
  c.peer.reset();
  ASSERT_TRUE(c.events.wait_for(2));
  EXPECT_EQ(c.events.text(), "connected 1, peer closed 1");
  EXPECT_FALSE(c.client->connected());
  EXPECT_TRUE(c.client->should_be_connected());
  EXPECT_FALSE(c.client->wait_done(Wait::none())) << "not closed, only lost";
  const auto events = c.events.values();
  EXPECT_FALSE(events[0].is_unexpected());
  EXPECT_TRUE(events[1].is_unexpected());
  EXPECT_EQ(events[0].reason, DisconnectReason::kNone);
  EXPECT_FALSE(events[0].error);
  EXPECT_FALSE(events[1].error);
  EXPECT_EQ(events[0].connection.peer_address().port(), c.listener.port);
  EXPECT_EQ(events[1].connection.peer_address(),
            events[0].connection.peer_address());
  EXPECT_LE(events[0].time, events[1].time);
}

TEST(ClientEventTest, ResetIsSeenAtOnceWithItsError) {
  Connected c;
  tcpip_tests::reset(std::move(c.peer));
  ASSERT_TRUE(c.events.wait_for(2));
  EXPECT_EQ(c.events.text(), "connected 1, reset 1");
  EXPECT_EQ(c.events.values()[1].error, std::errc::connection_reset);
  c.client->close();
  EXPECT_FALSE(c.client->should_be_connected());
  EXPECT_EQ(c.events.size(), 2u) << "close() after the loss adds nothing";
}

TEST(ClientEventTest, CloseHereComesBeforeCloseReturns) {
  Connected c;
  c.client->close();
  EXPECT_EQ(c.events.text(), "connected 1, closed here 1");
  EXPECT_FALSE(c.events.values()[1].is_unexpected());
  EXPECT_FALSE(c.client->should_be_connected());
  EXPECT_TRUE(c.client->wait_done(Wait::none()));
  EXPECT_EQ(recv_until_eof(c.peer), "");
  c.client->close();
  EXPECT_EQ(c.events.size(), 2u);
}

TEST(ClientEventTest, LossBehindUnreadBytesWaitsUntilTheyAreRead) {
  Connected c;
  send_all(c.peer, "last\r\n");
  c.peer.reset();
  const auto fd = tcpip_tests::socket_connected_to(c.listener.port);
  ASSERT_TRUE(fd.has_value());
  tcpip_tests::await_hang_up(*fd);
  EXPECT_TRUE(c.client->connected());
  EXPECT_EQ(c.client->read_str(kPatience), "last");
  ASSERT_TRUE(c.events.wait_for(2));
  EXPECT_EQ(c.events.text(), "connected 1, peer closed 1");
}

TEST(ClientEventTest, BasicCloseLeavesShouldBeConnected) {
  Connected c;
  c.client->basic_close();
  EXPECT_TRUE(c.client->should_be_connected());
  EXPECT_FALSE(c.client->connected());
  EXPECT_TRUE(c.client->wait_done(Wait::none()));
  EXPECT_EQ(c.events.text(), "connected 1, closed here 1");
  c.client->close();
  EXPECT_FALSE(c.client->should_be_connected());
}

TEST(ClientEventTest, CallbackMayThrowAnything) {
  for (const bool standard : {true, false}) {
    const LogRecorder lines;
    const ConnectionEvents events;
    {
      Connected c({.log = lines.log(),
                   .connect_callback = [&](const ConnectionEvent& e) {
                     events.add(e);
                     if (standard) throw std::runtime_error("broken callback");
                     throw 7;  // NOLINT(hicpp-exception-baseclass)
                   }});
      ASSERT_TRUE(events.wait_for(1));
      c.client->write("a");
      EXPECT_EQ(recv_exact(c.peer, 1), "a");
      c.client.reset();
    }
    EXPECT_EQ(events.text(), "connected 1, closed here 1");
    EXPECT_EQ(lines.count("connect_callback failed"), 2u) << lines.text();
    EXPECT_EQ(lines.count("broken callback"), standard ? 2u : 0u);
  }
}

TEST(ClientEventTest, LogSinkMayThrowAnything) {
  Connected c({.log = Log(
                   [](LogLevel, std::string_view, std::string_view) {
                     throw 7;  // NOLINT(hicpp-exception-baseclass)
                   },
                   LogLevel::kDebug)});
  c.peer.reset();
  ASSERT_TRUE(c.events.wait_for(2));
  c.client->close();
  EXPECT_EQ(c.events.text(), "connected 1, peer closed 1");
}

TEST(ClientEventTest, WithAQueueCallbacksRunWhereItIsDrained) {
  const HangGuard guard;
  CallbackQueue queue;
  const ConnectionEvents events;
  std::thread::id where;
  const PlainListener listener = plain_listener(Transport::kIpv4);
  Client client({.host = "127.0.0.1",
                 .port = listener.port,
                 .callbacks = &queue,
                 .connect_callback = [&](const ConnectionEvent& e) {
                   where = std::this_thread::get_id();
                   events.add(e);
                 }});
  client.start(kPatience);
  EXPECT_EQ(events.text(), "");
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_EQ(where, std::this_thread::get_id());
  client.close();  // in the thread that drains: the last event comes too
  EXPECT_EQ(events.text(), "connected 1, closed here 1");
  EXPECT_TRUE(queue.empty());
}

TEST(ClientEventTest, CloseElsewhereDropsWhatTheQueueHolds) {
  const HangGuard guard;
  CallbackQueue queue;
  const ConnectionEvents events;
  const PlainListener listener = plain_listener(Transport::kIpv4);
  Client client({.host = "127.0.0.1",
                 .port = listener.port,
                 .callbacks = &queue,
                 .connect_callback = events.callback()});
  client.start(kPatience);
  queue.run_pending();
  std::async(std::launch::async, [&] { client.close(); }).get();
  EXPECT_TRUE(queue.empty());
  queue.run_pending();
  EXPECT_EQ(events.text(), "connected 1");
}

// What the program itself has posted for the client may throw, in close() and
// in the destructor.
TEST(ClientEventTest, CallbackPostedForTheClientMayThrowDuringClose) {
  const HangGuard guard;
  CallbackQueue queue;
  const LogRecorder lines;
  const PlainListener listener = plain_listener(Transport::kIpv4);
  const ConnectionEvents events;
  {
    Client client({.host = "127.0.0.1",
                   .port = listener.port,
                   .log = lines.log(),
                   .callbacks = &queue,
                   .connect_callback = events.callback()});
    client.start(kPatience);
    queue.run_pending();
    client.post([] { throw std::runtime_error("posted"); });
  }
  EXPECT_EQ(lines.count("posted"), 1u) << lines.text();
  EXPECT_EQ(events.text(), "connected 1, closed here 1");
}

// --- Threads ---

TEST(ClientThreadTest, HookIsCalledForEachRoleInANamedThreadWithoutSignals) {
  struct Seen {
    ThreadRole role;
    std::string name;
    bool all_blocked;
  };
  const tcpip_tests::SharedList<Seen> seen;
  {
    const Connected c({.thread_start_hook = [&](ThreadRole role) {
      std::array<char, 16> name{};
      ::pthread_getname_np(::pthread_self(), name.data(), name.size());
      sigset_t mask;
      ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      bool all = true;
      for (const int signal : {SIGINT, SIGTERM, SIGPIPE, SIGUSR1, SIGALRM}) {
        all = all && ::sigismember(&mask, signal) == 1;
      }
      seen.add({role, name.data(), all});
    }});
    ASSERT_TRUE(seen.wait_for(2));
  }
  ASSERT_EQ(seen.size(), 2u);
  bool monitor = false;
  bool dispatch = false;
  for (const Seen& thread : seen.values()) {
    EXPECT_TRUE(thread.all_blocked) << thread.name;
    EXPECT_TRUE(thread.name.starts_with("tcpip-")) << thread.name;
    monitor = monitor || thread.role == ThreadRole::kMonitor;
    dispatch = dispatch || thread.role == ThreadRole::kDispatch;
  }
  EXPECT_TRUE(monitor && dispatch);
}

TEST(ClientThreadTest, ThrowingHookIsLoggedAndTheThreadGoesOn) {
  const LogRecorder lines;
  Connected c({.log = lines.log(), .thread_start_hook = [](ThreadRole) {
                 throw std::runtime_error("no priority for you");
               }});
  c.peer.reset();
  ASSERT_TRUE(c.events.wait_for(2));
  EXPECT_EQ(lines.count("no priority for you"), 2u);
}

TEST(ClientThreadTest, OneThreadWithoutCallbackTwoWith) {
  const HangGuard guard;
  const PlainListener listener = plain_listener(Transport::kIpv4);
  const int before = tcpip_testing::count_threads();
  Client quiet({.host = "127.0.0.1", .port = listener.port});
  quiet.start(kPatience);
  EXPECT_EQ(tcpip_testing::count_threads() - before, 1);
  quiet.close();
  // A joined thread may be listed for a moment.
  EXPECT_TRUE(
      eventually([&] { return tcpip_testing::count_threads() == before; }));
  const Connected c;
  EXPECT_TRUE(
      eventually([&] { return tcpip_testing::count_threads() == before + 2; }));
}

// --- Life ---

TEST(ClientLifeTest, NeverStartedOrNeverClosedIsFine) {
  { const Client client({.host = "127.0.0.1", .port = 1}); }
  { const Connected c; }
  auto c = std::make_unique<Connected>();
  const ConnectionEvents events = c->events;
  UniqueFd peer = std::move(c->peer);
  c.reset();
  EXPECT_EQ(events.text(), "connected 1, closed here 1");
  EXPECT_EQ(recv_until_eof(peer), "");
}

// The monitor thread has seen the FIN and is gone; what has come is unread. The
// descriptor would stay open, and at last reset the peer behind our reply.
TEST(ClientLifeTest, CloseBehindAFinClosesTheDescriptorAndTheReplyArrives) {
  Connected c;
  send_all(c.peer, std::string(1000, 'x'));
  tcpip_tests::half_close(c.peer);
  const int fd = c->connection().native_handle();
  tcpip_tests::await_hang_up(fd);
  EXPECT_TRUE(c->connected());
  c->write_str("reply");
  c->close();
  EXPECT_EQ(tcpip_testing::open_descriptors().count(fd), 0u);
  EXPECT_EQ(recv_until_eof(c.peer), "reply\r\n");
}

TEST(ClientLifeTest, CloseSendsWhatTheKernelTakesThenFin) {
  Connected c;
  send_all(c.peer, std::string(1000, 'x'));  // unread: must not cause a reset
  const std::string last(200'000, 'a');
  c.client->write(last, kPatience);
  const auto took = seconds_of([&] { c.client->close(); });
  EXPECT_LE(took, kPrompt);
  const tcpip_tests::Ending ending = tcpip_tests::recv_ending(c.peer);
  EXPECT_EQ(ending.error, 0);
  EXPECT_TRUE(ending.data == last);
}

}  // namespace
}  // namespace tcpip
