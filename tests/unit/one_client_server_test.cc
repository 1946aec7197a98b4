#include "tcpip/one_client_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/stage.h"
#include "tests/support/told.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::ConnectionEvents;
using tcpip_testing::LogRecorder;
using tcpip_tests::connect_to;
using tcpip_tests::Ending;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::recv_ending;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_some;
using tcpip_tests::recv_until_eof;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using tcpip_tests::ServerStage;

using Server = ServerStage<>;

// --- Options and start() ---

TEST(ServerOptionsTest, BadOptionsAreRefusedByTheConstructor) {
  EXPECT_THROW(OneClientServer({.port = -1}), std::invalid_argument);
  EXPECT_THROW(OneClientServer({.port = 65536}), std::invalid_argument);
  EXPECT_THROW(OneClientServer({.limit = 0}), std::invalid_argument);
  EXPECT_NO_THROW(OneClientServer({.port = 65535}));
}

// Upstream accepts it, and then every read_str fails.
TEST(UpstreamDefect7, EmptyTerminatorIsRefusedByTheConstructor) {
  EXPECT_THROW(OneClientServer({.terminator = ""}), std::invalid_argument);
}

TEST(ServerStartTest, PortIsKnownWhenItReturns) {
  OneClientServer server({.host = "127.0.0.1"});
  EXPECT_EQ(server.port(), 0);
  EXPECT_TRUE(server.addresses().empty());
  server.start();
  EXPECT_GT(server.port(), 0);
  ASSERT_EQ(server.addresses().size(), 1u);
  EXPECT_EQ(server.addresses()[0].host(), "127.0.0.1");
  EXPECT_EQ(server.addresses()[0].port(), server.port());
  EXPECT_EQ(server.host(), "127.0.0.1");
  const UniqueFd peer = connect_to(server.port());
  EXPECT_TRUE(server.wait_connected(kPatience));
}

TEST(ServerStartTest, PortAskedForIsUsedAndFreeAfterClose) {
  int port = 0;
  {
    OneClientServer first({.host = "127.0.0.1"});
    first.start();
    port = first.port();
    // A connection that this side closes first leaves a TIME_WAIT.
    const UniqueFd peer = connect_to(port);
    ASSERT_TRUE(first.wait_connected(kPatience));
    first.close();
    EXPECT_EQ(recv_until_eof(peer), "");
  }
  OneClientServer second({.host = "127.0.0.1", .port = port});
  EXPECT_EQ(second.port(), port);
  second.start();
  EXPECT_EQ(second.port(), port);
}

// A server whose start() failed is closed, with nothing left of it.
void expect_closed(OneClientServer& server) {
  EXPECT_TRUE(server.wait_done(Wait::none()));
  EXPECT_FALSE(server.connected());
  EXPECT_FALSE(server.wait_connected(kPatience));
  EXPECT_THROW(server.start(), std::logic_error);
  EXPECT_THROW(server.read(1), ConnectionError);
  server.close_client();
  server.close();
}

TEST(ServerStartTest, PortInUseIsAnErrorWithTheAddress) {
  Server first;
  const int port = first->port();
  const ConnectionEvents events;
  OneClientServer second({.host = "127.0.0.1",
                          .port = port,
                          .connect_callback = events.callback()});
  try {
    second.start();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_in_use);
    EXPECT_NE(std::string(e.what()).find("127.0.0.1:" + std::to_string(port)),
              std::string::npos)
        << e.what();
  }
  expect_closed(second);
  EXPECT_EQ(events.text(), "");
}

TEST(ServerStartTest, AddressThatIsNotOursIsAnError) {
  OneClientServer server({.host = "192.0.2.1"});
  try {
    server.start();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_not_available);
  }
  expect_closed(server);
}

TEST(ServerStartTest, UnknownHostIsAResolveError) {
  OneClientServer server({.host = "no such host.invalid"});
  EXPECT_THROW(server.start(kPatience), ResolveError);
  expect_closed(server);
}

TEST(ServerStartTest, BadBacklogIsAnInvalidArgument) {
  OneClientServer server({.host = "127.0.0.1", .listen = {.backlog = 0}});
  EXPECT_THROW(server.start(), std::invalid_argument);
  expect_closed(server);
}

TEST(ServerStartTest, SecondStartIsALogicErrorAndTheFirstGoesOn) {
  Server server;
  EXPECT_THROW(server->start(), std::logic_error);
  const UniqueFd peer = server.connect();
}

TEST(ServerStartTest, StartAfterCloseIsALogicError) {
  OneClientServer server({});
  server.close();
  EXPECT_THROW(server.start(), std::logic_error);
  EXPECT_TRUE(server.wait_done(Wait::none()));
}

TEST(ServerStartTest, ListensOnIpv6) {
  const HangGuard guard;
  OneClientServer server({.host = "::1"});
  server.start();
  const UniqueFd peer = tcpip_tests::connect_plain(
      tcpip_tests::Transport::kIpv6, static_cast<std::uint16_t>(server.port()));
  ASSERT_TRUE(server.wait_connected(kPatience));
  EXPECT_EQ(server.peer_address().host(), "::1");
}

// Upstream's sockets get different ports, and `port` stays 0.
TEST(ServerStartTest, WithoutHostListensOnAllFamiliesWithOnePort) {
  const HangGuard guard;
  for (const std::optional<std::string>& host :
       {std::optional<std::string>(), std::optional<std::string>("")}) {
    OneClientServer server({.host = host});
    server.start();
    ASSERT_EQ(server.addresses().size(), 2u);
    for (const Address& address : server.addresses()) {
      EXPECT_EQ(address.port(), server.port());
    }
    std::uint64_t count = 0;
    for (const auto transport : tcpip_tests::kTcpTransports) {
      const UniqueFd peer = tcpip_tests::connect_plain(
          transport, static_cast<std::uint16_t>(server.port()));
      ++count;
      EXPECT_TRUE(
          eventually([&] { return server.connection_count() == count; }));
      server.close_client();
    }
  }
}

TEST(ServerStartTest, FamilyCanBeChosen) {
  OneClientServer server({.listen = {.family = AddressFamily::kIpv4}});
  server.start();
  ASSERT_EQ(server.addresses().size(), 1u);
  EXPECT_EQ(server.addresses()[0].host(), "0.0.0.0");
}

// --- One client ---

TEST(OneClientServerTest, ServesAClient) {
  Server server;
  const UniqueFd peer = server.connect();
  EXPECT_TRUE(server->connected());
  EXPECT_TRUE(server->should_be_connected());
  send_all(peer, "ping\r\n");
  EXPECT_EQ(server->read_str(kPatience), "ping");
  server->write_str("pong");
  EXPECT_EQ(recv_exact(peer, 6), "pong\r\n");
}

TEST(OneClientServerTest, SetsTheSocketOptions) {
  Server server;
  const UniqueFd peer = server.connect();
  const auto fd =
      tcpip_tests::socket_connected_to(tcpip_tests::local_port(peer.get()));
  ASSERT_TRUE(fd.has_value());
  using tcpip_tests::socket_option;
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(socket_option(*fd, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_KEEPINTVL), 15);
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_KEEPCNT), 4);
  EXPECT_EQ(socket_option(*fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 120'000);
}

TEST(OneClientServerTest, ClientThatLeavesIsSeenAtOnceAndTheNextIsServed) {
  Server server;
  for (std::uint64_t i = 1; i <= 3; ++i) {
    UniqueFd peer = server.connect();
    peer.reset();
    ASSERT_TRUE(server.events.wait_for(2 * i));
    EXPECT_FALSE(server->connected());
    EXPECT_TRUE(server->should_be_connected());
  }
  EXPECT_EQ(server.events.text(),
            "connected 1, peer closed 1, connected 2, peer closed 2, "
            "connected 3, peer closed 3");
}

TEST(OneClientServerTest, EventsTellReasonErrorPeerAndGeneration) {
  Server server;
  UniqueFd peer = server.connect();
  const int port = tcpip_tests::local_port(peer.get());
  tcpip_tests::reset(std::move(peer));
  ASSERT_TRUE(server.events.wait_for(2));
  const UniqueFd second = server.connect();
  server->close_client();
  ASSERT_TRUE(server.events.wait_for(4));
  EXPECT_EQ(server.events.text(),
            "connected 1, reset 1, connected 2, closed here 2");
  const auto events = server.events.values();
  EXPECT_EQ(events[0].connection.peer_address().port(), port);
  EXPECT_EQ(events[1].connection.peer_address().port(), port);
  EXPECT_EQ(events[1].error, std::errc::connection_reset);
  EXPECT_TRUE(events[1].is_unexpected());
  EXPECT_EQ(events[2].connection.peer_address().port(),
            tcpip_tests::local_port(second.get()));
  EXPECT_FALSE(events[3].error);
  EXPECT_FALSE(events[3].is_unexpected());
  for (std::size_t i = 1; i < events.size(); ++i) {
    EXPECT_LE(events[i - 1].time, events[i].time);
  }
}

// T15: the rule is that it is announced and then ended.
TEST(OneClientServerTest, ClientResetBeforeItIsAcceptedIsConnectedThenReset) {
  for (int i = 0; i < 20; ++i) {
    Server server;
    tcpip_tests::reset(connect_to(server->port()));
    ASSERT_TRUE(server.events.wait_for(2));
    EXPECT_EQ(server.events.text(), "connected 1, reset 1");
    EXPECT_EQ(server.lines.count("EINVAL"), 0u);
    const UniqueFd peer = server.connect();
  }
}

TEST(OneClientServerTest, CloseClientEndsTheConnectionAndGoesOnServing) {
  Server server;
  const UniqueFd first = server.connect();
  server->close_client();
  EXPECT_FALSE(server->connected());
  EXPECT_FALSE(server->should_be_connected());
  EXPECT_FALSE(server->wait_done(Wait::none()));
  EXPECT_EQ(recv_until_eof(first), "");
  server->close_client();
  const UniqueFd second = server.connect();
  EXPECT_TRUE(server->should_be_connected());
  ASSERT_TRUE(server.events.wait_for(3));
  EXPECT_EQ(server.events.text(), "connected 1, closed here 1, connected 2");
}

TEST(OneClientServerTest, BasicCloseClientLeavesShouldBeConnected) {
  Server server;
  const UniqueFd peer = server.connect();
  server->basic_close_client();
  EXPECT_FALSE(server->connected());
  EXPECT_TRUE(server->should_be_connected());
  server->close_client();
  EXPECT_FALSE(server->should_be_connected());
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.text(), "connected 1, closed here 1");
}

TEST(OneClientServerTest, CloseClientWakesABlockedRead) {
  for (const bool with_deadline : {false, true}) {
    Server server;
    const UniqueFd peer = server.connect();
    std::atomic<pid_t> id{0};
    std::future<std::string> reading = std::async(std::launch::async, [&] {
      id = tcpip_tests::this_thread_id();
      return server->read_str(with_deadline ? Wait(kPatience) : Wait());
    });
    ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
    EXPECT_LE(seconds_of([&] {
                server->close_client();
                EXPECT_THROW(reading.get(), ConnectionError);
              }),
              kPrompt);
  }
}

TEST(OneClientServerTest, CloseClientNeverWaitsForAPeerThatDoesNotRead) {
  Server server({.socket = {.send_buffer = 256 * 1024}});
  const UniqueFd peer = server.connect();
  EXPECT_THROW(server->write(std::string(8 * 1024 * 1024, 'a'), 20ms),
               TimeoutError);
  EXPECT_LE(seconds_of([&] { server->close_client(); }), kPrompt);
  const UniqueFd next = server.connect();
}

// T17: what came is read, then it counts as disconnected; no reply.
TEST(OneClientServerTest, HalfClosedClientIsGoneOnceItsBytesAreRead) {
  Server server;
  const UniqueFd peer = server.connect();
  send_all(peer, "one\r\ntwo\r\n");
  tcpip_tests::half_close(peer);
  EXPECT_EQ(server->read_str(kPatience), "one");
  server->write_str("reply");  // still connected
  EXPECT_EQ(server->read_str(kPatience), "two");
  EXPECT_TRUE(eventually([&] { return !server->connected(); }));
  EXPECT_THROW(server->write_str("late"), ConnectionError);
  EXPECT_EQ(recv_until_eof(peer), "reply\r\n");
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.text(), "connected 1, peer closed 1");
}

// T16, P19. Upstream rejects B for as long as nobody reads.
TEST(OneClientServerTest, ClientThatLeftBytesUnreadDoesNotBlockTheNext) {
  for (const auto delay : {0ms, 10ms, 150ms}) {
    Server server;
    UniqueFd a = server.connect();
    send_all(a, "hello\r\n");
    a.reset();
    std::this_thread::sleep_for(delay);  // when B comes is the test's subject
    const UniqueFd b = server.connect();
    ASSERT_TRUE(server.events.wait_for(3));
    EXPECT_EQ(server.events.text(), "connected 1, replaced 1, connected 2");
    EXPECT_EQ(server.lines.count("7 unread bytes"), 1u) << server.lines.text();
    EXPECT_TRUE(server.events.values()[1].is_unexpected());
    // Nothing of A's is read as B's.
    send_all(b, "b\r\n");
    EXPECT_EQ(server->read_str(kPatience), "b");
  }
}

TEST(OneClientServerTest, ReplacedWithBytesInTheReadersBuffer) {
  Server server;
  UniqueFd a = server.connect();
  send_all(a, "one\r\ntwo\r\n");
  EXPECT_EQ(server->read_str(kPatience), "one");
  a.reset();
  const UniqueFd b = server.connect();
  ASSERT_TRUE(server.events.wait_for(3));
  EXPECT_EQ(server.events.text(), "connected 1, replaced 1, connected 2");
  send_all(b, "b\r\n");
  EXPECT_EQ(server->read_str(kPatience), "b");
}

// A read that is blocked belongs to its connection: it does not go on with the
// next client's bytes.
TEST(OneClientServerTest, ReadThatBeganWithOneClientNeverSeesTheNextOnes) {
  for (int i = 0; i < 20; ++i) {
    Server server;
    UniqueFd a = server.connect();
    std::future<std::string> reading =
        std::async(std::launch::async, [&] { return server->read_until(";"); });
    send_all(a, "half");
    a.reset();
    const UniqueFd b = server.connect();
    send_all(b, "b;");
    try {
      EXPECT_EQ(reading.get(), "b;") << "it may have begun after B came";
    } catch (const ConnectionError&) {
      EXPECT_EQ(server->read_until(";", kPatience), "b;");
    }
  }
}

// --- Turning others away ---

TEST(RejectTest, SecondClientReadsTheEndAndTheFirstGoesOn) {
  Server server;
  const UniqueFd first = server.connect();
  const UniqueFd second = connect_to(server->port());
  const Ending ending = recv_ending(second);
  EXPECT_EQ(ending.error, 0);
  EXPECT_EQ(ending.data, "");
  EXPECT_TRUE(eventually([&] { return server.lines.count("rejecting") == 1; }));
  send_all(first, "a\r\n");
  EXPECT_EQ(server->read_str(kPatience), "a");
  EXPECT_TRUE(server.events.wait_for(1));
  EXPECT_EQ(server.events.text(), "connected 1");
  EXPECT_EQ(server->connection_count(), 1u);
}

// T13: whatever it does, the one that is rejected reads a clean end.
TEST(RejectTest, RejectedClientNeverReadsAReset) {
  Server server;
  const UniqueFd first = server.connect();
  struct Behaviour {
    const char* name;
    std::size_t bytes;
    std::chrono::milliseconds delay;
    bool half_closes;
  };
  const Behaviour kBehaviours[] = {
      {"silent", 0, 0ms, false},
      {"20 B", 20, 0ms, false},
      {"100 kB", 100'000, 0ms, false},
      {"5 ms later", 20, 5ms, false},
      {"half-closes", 20, 0ms, true},
      {"late and large", 100'000, 5ms, true},
      {"only half-closes", 0, 0ms, true},
  };
  for (const Behaviour& b : kBehaviours) {
    for (int i = 0; i < 20; ++i) {
      const UniqueFd peer = connect_to(server->port());
      std::this_thread::sleep_for(b.delay);  // the behaviour under test
      send_all(peer, std::string(b.bytes, 'x'));
      if (b.half_closes) tcpip_tests::half_close(peer);
      const Ending ending = recv_ending(peer);
      ASSERT_EQ(ending.error, 0) << b.name;
      ASSERT_EQ(ending.data, "");
    }
  }
  EXPECT_TRUE(server->connected());
}

// Finding 6 the other way round: it is not kept for ever.
TEST(RejectTest, RejectedClientThatNeverClosesIsDroppedAfterASecond) {
  Server server;
  const UniqueFd first = server.connect();
  const auto before = tcpip_testing::open_descriptors().size();
  const auto start = std::chrono::steady_clock::now();
  const UniqueFd peer = connect_to(server->port());
  EXPECT_EQ(recv_ending(peer).error, 0);
  EXPECT_TRUE(eventually(
      [&] { return tcpip_testing::open_descriptors().size() == before + 1; }));
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(took, 900ms);
  EXPECT_LE(took, 1s + kPrompt);
}

// Though nothing else happens that would wake the accept thread.
TEST(RejectTest, LineThatIsHeldBackIsWrittenASecondLater) {
  Server server;
  const UniqueFd first = server.connect();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(recv_until_eof(connect_to(server->port())), "");
  }
  EXPECT_TRUE(server.lines.wait_for("(2 times since the last such line)"));
}

// P16: stuck rejects neither delay others nor pile up.
TEST(RejectTest, ManyStuckRejectsDelayNobody) {
  Server server;
  const UniqueFd first = server.connect();
  const std::size_t before = tcpip_testing::open_descriptors().size();
  std::vector<UniqueFd> stuck;
  for (int i = 0; i < 100; ++i) {
    stuck.push_back(connect_to(server->port()));
    send_all(stuck.back(), "x");
  }
  std::vector<std::chrono::duration<double>> times;
  for (int i = 0; i < 50; ++i) {
    times.push_back(seconds_of(
        [&] { EXPECT_EQ(recv_ending(connect_to(server->port())).error, 0); }));
  }
  std::sort(times.begin(), times.end());
  EXPECT_LE(times.back(), kPrompt);
  // The clients' ends, those that linger, and the one that is just turned away.
  EXPECT_LE(tcpip_testing::open_descriptors().size(), before + 100 + 32 + 1);
}

TEST(RejectTest, ClientThatReplacesAnotherHasTheOptionsToo) {
  Server server({.socket = {.keepalive_time = 77s}});
  {
    const UniqueFd first = server.connect();
    send_all(first, "unread");
  }
  const UniqueFd second = server.connect();
  EXPECT_EQ(tcpip_tests::socket_option(server->connection().native_handle(),
                                       IPPROTO_TCP, TCP_KEEPIDLE),
            77);
}

// T12, P13.
void expect_one_kept(int clients, int rounds) {
  // Room for all: a connect that finds none is tried again after a second.
  Server server({.listen = {.backlog = 512}});
  for (int round = 0; round < rounds; ++round) {
    std::atomic<int> kept{0};
    std::atomic<int> turned_away{0};
    std::latch together(clients);
    std::latch decided(clients);
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < clients; ++i) {
        threads.emplace_back([&] {
          together.arrive_and_wait();
          const UniqueFd peer = connect_to(server->port());
          // The server greets the one that it keeps; the others read the end.
          const std::string greeting = recv_some(peer);
          ++(greeting.empty() ? turned_away : kept);
          decided.arrive_and_wait();
        });
      }
      // Not before all have been looked at: else one would come after the
      // kept one has left.
      ASSERT_TRUE(server->wait_connected(kPatience));
      ASSERT_TRUE(eventually([&] { return turned_away == clients - 1; }))
          << turned_away << " of " << clients - 1;
      server->write("x");
    }
    EXPECT_EQ(kept, 1);
    EXPECT_TRUE(eventually([&] { return !server->connected(); }));
    EXPECT_EQ(server->connection_count(),
              static_cast<std::uint64_t>(round) + 1);
  }
  const auto all = 2 * static_cast<std::size_t>(rounds);
  EXPECT_TRUE(server.events.wait_for(all));
  server->close();  // no other can come
  EXPECT_EQ(server.events.size(), all);
  EXPECT_EQ(tcpip_tests::told(server.lines, "rejecting"),
            static_cast<std::size_t>((clients - 1) * rounds));
}

TEST(RejectTest, OneOfFiveSimultaneousClientsIsKept) { expect_one_kept(5, 50); }

TEST(RejectTest, OneOfTwoHundredSimultaneousClientsIsKept) {
  expect_one_kept(200, tcpip_tests::kWithSanitizer ? 2 : 5);
}

// Upstream awaits between the test and the set.
TEST(UpstreamDefect11, OneOfTwoSimultaneousReconnectsIsKept) {
  Server server;
  for (int round = 0; round < 50; ++round) {
    UniqueFd old = server.connect();
    send_all(old, "unread");
    const std::uint64_t before = server->connection_count();
    old.reset();
    std::future<UniqueFd> one = std::async(
        std::launch::async, [&] { return connect_to(server->port()); });
    const UniqueFd two = connect_to(server->port());
    const UniqueFd other = one.get();
    // The one that is turned away reads the end of the stream.
    std::array<pollfd, 2> ends{pollfd{two.get(), POLLRDHUP, 0},
                               pollfd{other.get(), POLLRDHUP, 0}};
    ASSERT_EQ(::poll(ends.data(), ends.size(), 30'000), 1);
    EXPECT_EQ(server->connection_count(), before + 1);
    server->close_client();
  }
  server->close();
  EXPECT_EQ(tcpip_tests::told(server.lines, "rejecting"), 50u);
}

// T11, P12.
TEST(RejectTest, BlockedCallbackDoesNotHoldUpTheAcceptThread) {
  std::promise<void> let_go;
  std::shared_future<void> gate(let_go.get_future());
  Server server({.connect_callback = [gate](const ConnectionEvent&) {
    gate.wait_for(kPatience);
  }});
  const UniqueFd first = server.connect();
  for (int i = 0; i < 50; ++i) {
    EXPECT_LE(seconds_of([&] {
                EXPECT_EQ(recv_ending(connect_to(server->port())).error, 0);
              }),
              kPrompt);
  }
  let_go.set_value();
}

// --- The last bytes ---

// T13, P30: 200 kB and a client that has sent what nobody read.
TEST(LastReplyTest, IsDeliveredWholeBeforeCloseClient) {
  const std::string reply(200'000, 'a');
  Server server;
  for (int i = 0; i < 50; ++i) {
    const UniqueFd peer = server.connect();
    send_all(peer, std::string(1000, 'x'));
    server->write(reply, kPatience);
    server->close_client();
    const Ending ending = recv_ending(peer);
    ASSERT_EQ(ending.error, 0) << "round " << i;
    ASSERT_TRUE(ending.data == reply) << ending.data.size();
  }
}

TEST(LastReplyTest, IsDeliveredWholeBeforeClose) {
  const std::string reply(200'000, 'a');
  for (int i = 0; i < 10; ++i) {
    Server server;
    const UniqueFd peer = server.connect();
    send_all(peer, std::string(1000, 'x'));
    server->write(reply, kPatience);
    std::future<Ending> reading =
        std::async(std::launch::async, [&] { return recv_ending(peer); });
    server->close();
    const Ending ending = reading.get();
    ASSERT_EQ(ending.error, 0) << "round " << i;
    ASSERT_TRUE(ending.data == reply) << ending.data.size();
  }
}

// close() must not cut short what close_client() has begun.
TEST(LastReplyTest, IsDeliveredWholeBeforeCloseClientAndSoonClose) {
  const std::string reply(400'000, 'a');
  for (int i = 0; i < 10; ++i) {
    Server server;
    const UniqueFd peer = server.connect();
    server->write(reply, kPatience);
    server->close_client();
    // The accept thread shall have begun to see it off: the next one is let in.
    UniqueFd next = server.connect();
    next.reset();
    std::future<Ending> reading = std::async(std::launch::async, [&] {
      // Sends while it reads: a socket that was closed answers by a reset.
      Ending ending;
      try {
        for (;;) {
          const std::string more = recv_some(peer, 16 * 1024);
          if (more.empty()) break;
          ending.data += more;
          // All of the reply may be here by now, and the server gone.
          ::send(peer.get(), "x", 1, MSG_NOSIGNAL);
        }
      } catch (const std::system_error& e) {
        ending.error = e.code().value();
      }
      return ending;
    });
    server->close();
    const Ending ending = reading.get();
    ASSERT_TRUE(ending.data == reply)
        << "round " << i << ": " << ending.data.size() << " bytes, error "
        << ending.error;
  }
}

// Only a shutdown for receiving wakes a read that has neither deadline nor
// stop. It comes when the client has the reply.
TEST(LastReplyTest, IsDeliveredWholeThoughAThreadIsBlockedInARead) {
  const std::string reply(600'000, 'a');
  Server server;
  for (int i = 0; i < 20; ++i) {
    const UniqueFd peer = server.connect();
    const Connection client = server->connection();
    tcpip_tests::BlockedCall reading([&] {
      try {
        while (true) client.read_until("\n");
      } catch (const ConnectionError&) {
      }
    });
    std::future<std::string> got = std::async(std::launch::async, [&] {
      // Sends while it reads.
      std::string all;
      for (;;) {
        const std::string more = recv_some(peer, 16 * 1024);
        if (more.empty()) return all;
        all += more;
        ::send(peer.get(), "status\n", 7, MSG_NOSIGNAL);
      }
    });
    client.write(reply, kPatience);
    server->close_client();
    EXPECT_TRUE(got.get() == reply) << "round " << i;
    EXPECT_LE(seconds_of([&] { reading.get(); }), kPrompt);
  }
}

TEST(LastReplyTest, BlockedReadIsWokenThoughTheClientAcknowledgesNothing) {
  Server server({.socket = {.send_buffer = 256 * 1024}});
  const UniqueFd peer = server.connect();
  const Connection client = server->connection();
  tcpip_tests::BlockedCall reading(
      [&] { EXPECT_THROW(client.read_until("\n"), ConnectionError); });
  EXPECT_TRUE(reading.await_blocked());
  EXPECT_TRUE(client.try_write(std::string(8 * 1024 * 1024, 'a')));
  server->close_client();
  // Not only when the server has lingered for a second.
  EXPECT_LE(seconds_of([&] { reading.get(); }),
            tcpip_tests::kWithSanitizer ? 900ms : 600ms);
}

TEST(LastReplyTest, ClientThatStillSendsReadsItWhole) {
  const std::string reply(200'000, 'a');
  Server server;
  for (int i = 0; i < 10; ++i) {
    const UniqueFd peer = server.connect();
    server->write(reply, kPatience);
    server->close_client();
    for (int k = 0; k < 20; ++k) send_all(peer, std::string(1000, 'x'));
    const Ending ending = recv_ending(peer);
    ASSERT_EQ(ending.error, 0) << "round " << i;
    ASSERT_TRUE(ending.data == reply) << ending.data.size();
  }
}

// --- Close ---

// Upstream logs a TimeoutError after 5 s and leaves the listener open.
TEST(UpstreamDefect3, CloseWithAPeerThatDoesNotReadIsBoundedAndFreesThePort) {
  Server server({.socket = {.send_buffer = 256 * 1024}});
  const int port = server->port();
  const UniqueFd peer = server.connect();
  EXPECT_THROW(server->write(std::string(8 * 1024 * 1024, 'a'), 20ms),
               TimeoutError);
  EXPECT_LE(seconds_of([&] { server->close(); }), kPrompt);
  EXPECT_TRUE(server->wait_done(Wait::none()));
  EXPECT_THROW(connect_to(port), std::system_error);
  OneClientServer next({.host = "127.0.0.1", .port = port});
  EXPECT_NO_THROW(next.start());
}

// Upstream keeps a half-open client for two minutes; here the program chooses.
TEST(UpstreamDefect9, ClientThatVanishedIsNoticedByKeepalive) {
  Server server({.socket = {.keepalive_time = 1s,
                            .keepalive_interval = 1s,
                            .keepalive_probes = 1}});
  UniqueFd peer = server.connect();
  const int on = 1;
  // As if its machine had lost power: neither FIN nor reset.
  if (::setsockopt(peer.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) != 0) {
    GTEST_SKIP() << "TCP_REPAIR needs CAP_NET_ADMIN";
  }
  peer.reset();
  EXPECT_TRUE(server->connected());
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_FALSE(server->connected());
  EXPECT_TRUE(server.events.values()[1].is_unexpected());
  EXPECT_TRUE(server.events.values()[1].error);
}

// --- Callbacks ---

TEST(ServerCallbackTest, MayThrowAnythingAndTheNextClientIsServed) {
  for (const bool standard : {true, false}) {
    ConnectionEvents events;
    Server server({.connect_callback = [&](const ConnectionEvent& e) {
      events.add(e);
      if (standard) throw std::runtime_error("broken callback");
      throw 7;  // NOLINT(hicpp-exception-baseclass)
    }});
    for (std::size_t i = 0; i < 2; ++i) {
      const UniqueFd peer = server.connect();
      server->close_client();
      ASSERT_TRUE(events.wait_for(2 * (i + 1)));
    }
    server->close();
    EXPECT_EQ(events.text(),
              "connected 1, closed here 1, connected 2, closed here 2");
    EXPECT_EQ(server.lines.count("connect_callback failed"), 4u);
  }
}

TEST(ServerCallbackTest, MayThrowAfterItHasDestroyedTheServer) {
  const HangGuard guard;
  std::unique_ptr<OneClientServer> server;
  std::promise<void> destroyed;
  const LogRecorder lines;
  server = std::make_unique<OneClientServer>(
      ServerOptions{.host = "127.0.0.1",
                    .log = lines.log(),
                    .connect_callback = [&](const ConnectionEvent&) {
                      server.reset();
                      destroyed.set_value();
                      throw std::runtime_error("after the end");
                    }});
  server->start();
  const UniqueFd peer = connect_to(server->port());
  ASSERT_EQ(destroyed.get_future().wait_for(kPatience),
            std::future_status::ready);
  EXPECT_EQ(recv_until_eof(peer), "");
  EXPECT_TRUE(eventually([&] { return lines.count("after the end") == 1; }));
}

TEST(ServerCallbackTest, MayCallEveryMember) {
  std::atomic<int> calls{0};
  OneClientServer* self = nullptr;
  Server server({.connect_callback = [&](const ConnectionEvent& event) {
    OneClientServer& s = *self;
    s.connected();
    s.should_be_connected();
    s.connection_count();
    s.peer_address();
    s.connection();
    event.connection.local_address();
    event.connection.native_handle();
    event.connection.stop_token();
    s.port();
    s.addresses();
    s.unsent();
    s.wait_done(Wait::none());
    if (event.connected) {
      s.write_str("hello", kPatience);
      s.close_client();
    }
    ++calls;
  }});
  self = &*server.server;
  const UniqueFd peer = server.connect();
  EXPECT_EQ(recv_until_eof(peer), "hello\r\n");
  EXPECT_TRUE(eventually([&] { return calls == 2; }));
}

// In a callback that runs late the event's connection is the one that the event
// tells of, not the one that has come since.
TEST(ServerCallbackTest, EventSpeaksOfItsOwnConnection) {
  CallbackQueue queue;
  int first = 0;
  Server server({.callbacks = &queue,
                 .connect_callback = [&](const ConnectionEvent& event) {
                   const Connection& client = event.connection;
                   if (client.number() == 2) {
                     EXPECT_EQ(client.connected(), event.connected);
                     if (!event.connected) return;  // the test has ended
                     client.write("for the second");
                     return;
                   }
                   ++first;
                   EXPECT_EQ(client.number(), 1u);
                   EXPECT_FALSE(client.connected());
                   EXPECT_FALSE(client.peer_address().empty());
                   EXPECT_THROW(client.write("for the first"), ConnectionError);
                   EXPECT_THROW(client.read(1), ConnectionError);
                   client.close();
                 }});
  server.connect().reset();
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  const UniqueFd second = server.connect();
  EXPECT_EQ(queue.run_pending(), 3u);
  EXPECT_EQ(first, 2);
  EXPECT_TRUE(server->connected());
  EXPECT_EQ(recv_exact(second, 14), "for the second");
}

// semantics.md section 3: should_be_connected during callback(false).
TEST(ServerCallbackTest, ShouldBeConnectedIsTrueDuringTheEventOfALoss) {
  tcpip_tests::SharedList<bool> should;
  Server server({.connect_callback = [&](const ConnectionEvent& event) {
    should.add(event.connection.should_be_connected());
  }});
  UniqueFd peer = server.connect();
  ASSERT_TRUE(should.wait_for(1));
  peer.reset();
  ASSERT_TRUE(should.wait_for(2));
  EXPECT_EQ(should.values(), (std::vector{true, true}));
}

TEST(ServerCallbackTest, QueueThatNobodyDrainsLosesNoEvent) {
  constexpr std::uint64_t kClients = 100;
  CallbackQueue queue(1);  // events are not counted
  Server server({.callbacks = &queue});
  for (std::uint64_t i = 0; i < kClients; ++i) {
    UniqueFd peer = server.connect();
    peer.reset();
    ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  }
  EXPECT_EQ(queue.size(), 2 * kClients);
  EXPECT_EQ(server.events.size(), 0u);
  EXPECT_EQ(queue.run_pending(), 2 * kClients);
  const auto events = server.events.values();
  ASSERT_EQ(events.size(), 2 * kClients);
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].connected, i % 2 == 0);
    EXPECT_EQ(events[i].connection.number(), i / 2 + 1);
  }
}

TEST(ServerCallbackTest, QueueRunsThemInTheDrainingThread) {
  CallbackQueue queue;
  std::thread::id where;
  Server server(
      {.callbacks = &queue, .connect_callback = [&](const ConnectionEvent&) {
         where = std::this_thread::get_id();
       }});
  const UniqueFd peer = server.connect();
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_EQ(where, std::this_thread::get_id());
}

TEST(ServerCallbackTest, WithoutQueueTheyRunInOneThreadOfTheServers) {
  tcpip_tests::SharedList<std::thread::id> where;
  Server server({.connect_callback = [&](const ConnectionEvent&) {
    where.add(std::this_thread::get_id());
  }});
  for (std::size_t i = 0; i < 3; ++i) {
    const UniqueFd peer = server.connect();
    server->close_client();
    ASSERT_TRUE(where.wait_for(2 * i + 2));
  }
  for (const std::thread::id id : where.values()) {
    EXPECT_EQ(id, where.values()[0]);
    EXPECT_NE(id, std::this_thread::get_id());
  }
}

TEST(ServerCallbackTest, WaitFdOfAQueueIsReadableWhileThereAreEvents) {
  CallbackQueue queue;
  Server server({.callbacks = &queue});
  const int fd = queue.wait_fd();
  pollfd entry{fd, POLLIN, 0};
  constexpr int kPatienceMs = std::chrono::milliseconds(kPatience).count();
  EXPECT_EQ(::poll(&entry, 1, 0), 0);
  const UniqueFd peer = connect_to(server->port());
  ASSERT_EQ(::poll(&entry, 1, kPatienceMs), 1);
  queue.run_pending();
  EXPECT_EQ(server.events.text(), "connected 1");
  EXPECT_EQ(::poll(&entry, 1, 0), 0);
}

TEST(ServerCallbackTest, CloseInTheDrainingThreadRunsTheLastEvent) {
  CallbackQueue queue;
  Server server({.callbacks = &queue});
  const UniqueFd peer = server.connect();
  queue.run_pending();
  server->close();
  EXPECT_EQ(server.events.text(), "connected 1, closed here 1");
  EXPECT_TRUE(queue.empty());
}

TEST(ServerCallbackTest, CloseInAnotherThreadDropsTheLastEvent) {
  CallbackQueue queue;
  Server server({.callbacks = &queue});
  const UniqueFd peer = server.connect();
  queue.run_pending();
  std::async(std::launch::async, [&] { server->close(); }).get();
  queue.run_pending();
  EXPECT_EQ(server.events.text(), "connected 1");
}

// --- Threads ---

TEST(ServerThreadTest, HookIsCalledForEachRole) {
  tcpip_tests::SharedList<ThreadRole> roles;
  Server server(
      {.thread_start_hook = [&](ThreadRole role) { roles.add(role); }});
  ASSERT_TRUE(roles.wait_for(2));
  const auto values = roles.values();
  EXPECT_EQ(values.size(), 2u);
  EXPECT_EQ(std::count(values.begin(), values.end(), ThreadRole::kAccept), 1);
  EXPECT_EQ(std::count(values.begin(), values.end(), ThreadRole::kDispatch), 1);
}

TEST(ServerThreadTest, ThrowingLogSinkDoesNoHarm) {
  const HangGuard guard;
  const ConnectionEvents events;
  OneClientServer server(
      {.host = "127.0.0.1",
       .log = Log([](LogLevel, std::string_view,
                     std::string_view) { throw std::runtime_error("no disk"); },
                  LogLevel::kDebug),
       .connect_callback = events.callback()});
  server.start();
  const UniqueFd first = connect_to(server.port());
  ASSERT_TRUE(server.wait_connected(kPatience));
  EXPECT_EQ(recv_ending(connect_to(server.port())).error, 0);
  server.close_client();
  ASSERT_TRUE(events.wait_for(2));
  server.close();
}

// --- Too few descriptors ---

// T14, R6: in a process of its own, whose limit is lowered for a while.
int run_out_of_descriptors() {
  const LogRecorder lines;
  OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
  server.start();
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 10; ++i) {
    clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  // No descriptor is left for accept(). The soft limit only.
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = 3;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  rusage start{};
  ::getrusage(RUSAGE_SELF, &start);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(server.port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (const UniqueFd& client : clients) {
    if (::connect(client.get(), reinterpret_cast<sockaddr*>(&address),
                  sizeof address) != 0) {
      return 2;
    }
  }
  if (server.wait_connected(2s)) return 3;
  rusage end{};
  ::getrusage(RUSAGE_SELF, &end);
  const auto microseconds = [](const rusage& u) {
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1'000'000 +
           u.ru_utime.tv_usec + u.ru_stime.tv_usec;
  };
  const auto used = microseconds(end) - microseconds(start);
  // 5 % of two seconds; a sanitizer has threads of its own.
  if (used > (tcpip_tests::kWithSanitizer ? 400'000 : 100'000)) return 4;
  if (lines.size() > 10 || lines.count("accept:") != 1) {
    std::fputs(lines.text().c_str(), stderr);
    return 5;
  }
  limit.rlim_cur = before;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  const bool connected = server.wait_connected(1100ms + kPrompt);
  server.close();
  return connected ? 0 : 6;
}

using ServerDeathTest = testing::Test;

TEST(ServerDeathTest, SurvivesWithoutDescriptorsAndAcceptsAfterwards) {
  if (tcpip_tests::kNeedsDescriptors) GTEST_SKIP() << "UBSan needs one";
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(std::_Exit(run_out_of_descriptors()), testing::ExitedWithCode(0),
              "");
}

int start_without_descriptors() {
  OneClientServer first({.host = "127.0.0.1"});
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const int next = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::close(next);
  // Every number of descriptors that is too small, until it suffices.
  for (int spare = 0; spare < 10; ++spare) {
    OneClientServer server({.host = "127.0.0.1"});
    rlimit lower = limit;
    lower.rlim_cur = static_cast<rlim_t>(next + spare);
    ::setrlimit(RLIMIT_NOFILE, &lower);
    try {
      server.start();
      return spare > 0 ? 0 : 2;
    } catch (const Error& e) {
      ::setrlimit(RLIMIT_NOFILE, &limit);
      if (e.code() != std::errc::too_many_files_open) return 3;
      if (!server.wait_done(Wait::none())) return 4;
      const int now = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
      ::close(now);
      if (now != next) return 5;  // one was left open
    }
  }
  return 6;
}

TEST(ServerDeathTest, StartWithoutDescriptorsFailsAndLeavesNothing) {
  if (tcpip_tests::kNeedsDescriptors) GTEST_SKIP() << "UBSan needs one";
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(std::_Exit(start_without_descriptors()),
              testing::ExitedWithCode(0), "");
}

// --- wait_client() ---

TEST(WaitClientTest, GivesOneClientAfterTheOther) {
  Server server;
  for (std::uint64_t i = 1; i <= 3; ++i) {
    UniqueFd peer = server.connect();
    const std::optional<Connection> client = server->wait_client(kPatience);
    ASSERT_TRUE(client.has_value());
    EXPECT_EQ(client->number(), i);
    EXPECT_TRUE(*client == server->connection());
    send_all(peer, "hello\r\n");
    client->write_str("you said " + client->read_str(kPatience), kPatience);
    EXPECT_EQ(recv_exact(peer, 16), "you said hello\r\n");
    peer.reset();
    EXPECT_THROW(client->read_str(kPatience), ConnectionError);
    EXPECT_FALSE(client->connected());
  }
}

TEST(WaitClientTest, GivesEachClientOnce) {
  Server server;
  const UniqueFd peer = server.connect();
  EXPECT_TRUE(server->wait_client(kPatience).has_value());
  EXPECT_FALSE(server->wait_client(Wait::none()).has_value());
  EXPECT_TRUE(server->connected());
}

TEST(WaitClientTest, GivesNothingAtTheDeadlineAndOnceClosed) {
  Server server;
  EXPECT_FALSE(server->wait_client(1ms).has_value());
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(server->wait_client(stop.get_token()), CancelledError);
  auto waiting =
      std::async(std::launch::async, [&] { return server->wait_client(); });
  server->close();
  EXPECT_FALSE(waiting.get().has_value());
}

TEST(WaitClientTest, PassesOverAClientThatHasComeAndGone) {
  Server server;
  server.connect().reset();
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  const UniqueFd second = server.connect();
  const std::optional<Connection> client = server->wait_client(kPatience);
  ASSERT_TRUE(client.has_value());
  EXPECT_EQ(client->number(), 2u);
}

// --- Life ---

TEST(ServerLifeTest, NeverStartedOrNeverClosedIsFine) {
  { const OneClientServer server({}); }
  {
    OneClientServer server({.host = "127.0.0.1"});
    server.start();
  }
  ConnectionEvents events;
  UniqueFd peer;
  {
    Server server;
    events = server.events;
    peer = server.connect();
  }
  EXPECT_EQ(events.text(), "connected 1, closed here 1");
  EXPECT_EQ(recv_until_eof(peer), "");
}

TEST(ServerLifeTest, StartAndStopOftenLeavesNothing) {
  const HangGuard guard;
  for (int i = 0; i < (tcpip_tests::kWithSanitizer ? 50 : 200); ++i) {
    OneClientServer server({.host = "127.0.0.1",
                            .connect_callback = ConnectionEvents().callback()});
    server.start();
  }
}

}  // namespace
}  // namespace tcpip
