// What a client and a server tell of a connection whose network, host or peer
// fails: for which reason it ends, with which error, and how soon. Real
// kernels' networks, with real cuts (tests/support/two_hosts.h).
//
// Each fault hits four connections at once: of a client and of a server, over
// IPv4 and IPv6.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"
#include "tcpip/options.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/leak_guard.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"
#include "tests/support/thrown.h"
#include "tests/support/two_hosts.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using tcpip_testing::ConnectionEvents;
using tcpip_tests::accept_one;
using tcpip_tests::BlockedCall;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::kTcpTransports;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::PlainListener;
using tcpip_tests::recv_exact;
using tcpip_tests::send_all;
using tcpip_tests::Thrown;
using tcpip_tests::thrown_by;
using tcpip_tests::TwoHosts;

// The kernel's timers decide when; a busy machine comes later, not earlier.
constexpr Seconds kLate = kWithSanitizer ? 10s : 5s;

// Finds an idle dead peer in 4 s, one that owes an acknowledgement in 3 s.
constexpr SocketOptions kWatchful{.keepalive_time = 1s,
                                  .keepalive_interval = 1s,
                                  .keepalive_probes = 3,
                                  .user_timeout = 3000ms};
SocketOptions watchful_while_idle() {
  SocketOptions options = kWatchful;
  options.user_timeout = 4000ms;
  return options;
}

// A connection of a client or server of the library, which is here, with a bare
// socket, which is there. A thread of the program is blocked in a read.
class Connected {
 public:
  Connected(const TwoHosts& hosts, bool is_client,
            tcpip_tests::Transport transport, const SocketOptions& socket)
      : transport_(transport),
        name_(std::string(is_client ? "client" : "server") + " over " +
              tcpip_tests::name_of(transport)) {
    if (is_client) {
      const PlainListener listener = hosts.listen_there(transport);
      client_.emplace(ClientOptions{.host = TwoHosts::there(transport),
                                    .port = listener.port,
                                    .connect_callback = events.callback(),
                                    .socket = socket});
      client_->start(kPatience);
      peer = accept_one(listener);
    } else {
      server_.emplace(ServerOptions{.host = TwoHosts::here(transport),
                                    .connect_callback = events.callback(),
                                    .socket = socket});
      server_->start(kPatience);
      peer = hosts.connect_from_there(transport, server_->port());
      EXPECT_TRUE(server_->wait_connected(kPatience));
    }
    events.assert_next_connected(true);
    // What the peer sends comes, and the other way: neighbours are known.
    send_all(peer, "there\r\n");
    EXPECT_EQ(endpoint().read_str(kPatience), "there");
    endpoint().write_str("here", kPatience);
    EXPECT_EQ(recv_exact(peer, 6), "here\r\n");
    read_.emplace(
        [this] { return thrown_by([&] { endpoint().read_str(kPatience); }); });
    EXPECT_TRUE(read_->await_blocked());
  }

  // Ends the blocked read.
  ~Connected() {
    if (client_) client_->close();
    if (server_) server_->close();
  }
  Connected(const Connected&) = delete;
  Connected& operator=(const Connected&) = delete;

  const std::string& name() const { return name_; }
  tcpip_tests::Transport transport() const { return transport_; }
  BaseClientOrServer& endpoint() {
    if (client_) return *client_;
    return *server_;
  }
  OneClientServer* server() { return server_ ? &*server_ : nullptr; }
  // How the blocked read ended.
  Thrown read() {
    const Thrown thrown = read_->get();
    read_.reset();
    return thrown;
  }

  const ConnectionEvents events;
  tcpip::UniqueFd peer;

 private:
  const tcpip_tests::Transport transport_;
  const std::string name_;
  std::optional<Client> client_;
  std::optional<OneClientServer> server_;
  std::optional<BlockedCall<Thrown>> read_;
};

// The descriptor in this process of the socket that `fd` is connected to.
int other_end_of(int fd) {
  const auto address = [](int of, auto get) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    if (get(of, reinterpret_cast<sockaddr*>(&storage), &size) != 0) {
      return Address();
    }
    return Address(&storage, size);
  };
  const Address local = address(fd, ::getsockname);
  const Address peer = address(fd, ::getpeername);
  for (const auto& [other, what] : tcpip_testing::open_descriptors()) {
    if (address(other, ::getpeername) == local &&
        address(other, ::getsockname) == peer) {
      return other;
    }
  }
  return -1;
}

class NetworkFaultTest : public tcpip_tests::TwoHostsTest {
 protected:
  void connect_all(const SocketOptions& socket) {
    for (const tcpip_tests::Transport transport : kTcpTransports) {
      for (const bool is_client : {true, false}) {
        connections.push_back(
            std::make_unique<Connected>(hosts(), is_client, transport, socket));
      }
    }
  }
  void write_from_all(std::string_view text) {
    for (const auto& connection : connections) {
      connection->endpoint().write_str(text, kPatience);
    }
  }

  // Every connection ends for that reason, not before `earliest` and not later
  // than `latest`, from `since` on; its event has one of the errors, and so has
  // the exception that the blocked read throws.
  void expect_all_end(DisconnectReason reason,
                      std::initializer_list<int> errors,
                      std::string_view exception, Clock::time_point since,
                      Seconds earliest, Seconds latest) {
    for (const auto& connection : connections) {
      SCOPED_TRACE(connection->name());
      const ConnectionEvent event = connection->events.next(Deadline(
          since + std::chrono::duration_cast<Clock::duration>(latest + kLate)));
      const Seconds took = event.time - since;
      std::printf("%s: %s, %s, %.2f s\n", connection->name().c_str(),
                  std::string(to_string(event.reason)).c_str(),
                  event.error.message().c_str(), took.count());
      EXPECT_FALSE(event.connected);
      EXPECT_TRUE(event.is_unexpected());
      EXPECT_EQ(event.reason, reason) << to_string(event.reason);
      EXPECT_NE(std::find(errors.begin(), errors.end(), event.error.value()),
                errors.end())
          << event.error.message();
      EXPECT_GE(took, earliest);
      EXPECT_LE(took, latest);
      const Thrown thrown = connection->read();
      EXPECT_EQ(thrown.kind, exception);
      EXPECT_EQ(thrown.error, event.error.value());
      EXPECT_FALSE(connection->endpoint().connected());
      EXPECT_TRUE(connection->endpoint().should_be_connected());
      connection->events.assert_none();
    }
  }

  std::vector<std::unique_ptr<Connected>> connections;
};

// --- The network fails ---

TEST_F(NetworkFaultTest, IdleConnectionEndsWhenKeepaliveFindsTheCableCut) {
  connect_all(watchful_while_idle());
  const auto cut = Clock::now();
  hosts().cut();
  expect_all_end(DisconnectReason::kTimedOut, {ETIMEDOUT}, "ConnectionError",
                 cut, 2s, 4.1s + kLate);
}

TEST_F(NetworkFaultTest, UserTimeoutEndsAConnectionThatHasBytesInFlight) {
  connect_all(kWatchful);
  hosts().cut();
  const auto cut = Clock::now();
  write_from_all("nobody gets this");
  expect_all_end(DisconnectReason::kTimedOut, {ETIMEDOUT}, "ConnectionError",
                 cut, 2.9s, 3.4s + kLate);
}

// Finding 3: without it the kernel tries for a quarter of an hour.
TEST_F(NetworkFaultTest, WithoutUserTimeoutKeepaliveDoesNotEndIt) {
  SocketOptions options = kWatchful;
  options.user_timeout = 0ms;
  connect_all(options);
  hosts().cut();
  write_from_all("nobody gets this");
  // The kernel's timers are the question: there is nothing else to wait for.
  for (const auto& connection : connections) {
    connection->events.assert_none(
        connection == connections.front() ? Wait(5s) : Wait::none());
    EXPECT_TRUE(connection->endpoint().connected());
  }
  hosts().restore();
  for (const auto& connection : connections) {
    EXPECT_EQ(recv_exact(connection->peer, 18), "nobody gets this\r\n");
  }
}

// The peer's address becomes unknown, since it does not answer; then the kernel
// gives "No route to host" as the cause.
TEST_F(NetworkFaultTest, NeighbourThatIsGoneIsATimeOutToo) {
  SocketOptions options = kWatchful;
  options.user_timeout = 5000ms;
  for (const bool is_client : {true, false}) {
    connections.push_back(std::make_unique<Connected>(
        hosts(), is_client, tcpip_tests::Transport::kIpv4, options));
  }
  hosts().cut();
  hosts().forget_neighbour();
  const auto cut = Clock::now();
  write_from_all("nobody gets this");
  expect_all_end(DisconnectReason::kTimedOut, {EHOSTUNREACH}, "ConnectionError",
                 cut, 2.9s, 6s + kLate);
}

TEST_F(NetworkFaultTest, DeviceThatGoesDownEndsTheConnectionAtUserTimeout) {
  connect_all(kWatchful);
  hosts().take_device_down();
  const auto down = Clock::now();
  write_from_all("nobody gets this");
  for (const tcpip_tests::Transport transport : kTcpTransports) {
    const Thrown thrown = thrown_by([&] {
      Client({.host = TwoHosts::there(transport), .port = 4000})
          .start(kPatience);
    });
    EXPECT_EQ(thrown.kind, "Error");
    EXPECT_TRUE(thrown.error == ENETUNREACH || thrown.error == EHOSTUNREACH)
        << thrown.error;
  }
  expect_all_end(DisconnectReason::kTimedOut,
                 {ETIMEDOUT, ENETUNREACH, EHOSTUNREACH}, "ConnectionError",
                 down, 2.9s, 3.4s + kLate);
}

// A path that drops large packets without saying so.
TEST_F(NetworkFaultTest,
       ShortMessagesPassAnMtuHoleAndALongOneEndsAtUserTimeout) {
  connect_all(kWatchful);
  hosts().set({.longest_packet = 600});
  for (int i = 0; i < 3; ++i) {
    write_from_all("short");
    for (const auto& connection : connections) {
      EXPECT_EQ(recv_exact(connection->peer, 7), "short\r\n");
    }
  }
  const auto sent = Clock::now();
  write_from_all(std::string(5000, 'x'));
  expect_all_end(DisconnectReason::kTimedOut, {ETIMEDOUT}, "ConnectionError",
                 sent, 2.9s, 3.4s + kLate);
  EXPECT_GT(hosts().hits(), 0);
}

// T19.
TEST_F(NetworkFaultTest, CutOfTwoSecondsLosesNothing) {
  connect_all({});
  hosts().cut();
  const auto sent = Clock::now();
  for (int i = 0; i < 10; ++i) write_from_all("line " + std::to_string(i));
  for (const auto& connection : connections) send_all(connection->peer, "back");
  // The length of the cut.
  connections.front()->events.assert_none(2s);
  hosts().restore();
  const std::string expected =
      "line 0\r\nline 1\r\nline 2\r\nline 3\r\nline 4\r\n"
      "line 5\r\nline 6\r\nline 7\r\nline 8\r\nline 9\r\n";
  for (const auto& connection : connections) {
    SCOPED_TRACE(connection->name());
    EXPECT_EQ(recv_exact(connection->peer, expected.size()), expected);
    EXPECT_LE(Clock::now() - sent, 3.5s + kLate);
    EXPECT_TRUE(connection->endpoint().connected());
    send_all(connection->peer, "\r\n");
    connection->events.assert_none();
  }
  for (const auto& connection : connections) {
    EXPECT_EQ(connection->read(), Thrown{});
  }
}

// --- The peer fails ---

TEST_F(NetworkFaultTest, HostThatLostPowerAndCameBackResets) {
  connect_all(kWatchful);
  hosts().cut();
  write_from_all("nobody gets this");
  for (const auto& connection : connections) {
    if (!tcpip_tests::vanish(std::move(connection->peer))) {
      GTEST_SKIP() << "TCP_REPAIR needs CAP_NET_ADMIN";
    }
  }
  hosts().restore();
  // The next retransmission meets a host that knows nothing of it.
  expect_all_end(DisconnectReason::kReset, {ECONNRESET}, "ConnectionResetError",
                 Clock::now(), 0s, 0.8s + kLate);
}

TEST_F(NetworkFaultTest, NextMessageFindsAPeerThatVanished) {
  connect_all(kWatchful);
  for (const auto& connection : connections) {
    if (!tcpip_tests::vanish(std::move(connection->peer))) {
      GTEST_SKIP() << "TCP_REPAIR needs CAP_NET_ADMIN";
    }
    EXPECT_TRUE(connection->endpoint().connected());
    connection->events.assert_none();
  }
  const auto sent = Clock::now();
  write_from_all("nobody gets this");
  expect_all_end(DisconnectReason::kReset, {ECONNRESET}, "ConnectionResetError",
                 sent, 0s, kPrompt);
}

TEST_F(NetworkFaultTest, KeepaliveFindsAPeerWhoseEndWasNotHeard) {
  connect_all(watchful_while_idle());
  hosts().set({}, {.lose_fin_and_rst = true});
  const auto closed = Clock::now();
  for (const auto& connection : connections)
    tcpip_tests::reset(std::move(connection->peer));
  expect_all_end(DisconnectReason::kTimedOut, {ETIMEDOUT}, "ConnectionError",
                 closed, 2s, 4.1s + kLate);
  EXPECT_GT(hosts().hits(), 0);
}

// The peer has closed, but its FIN is lost, and so is its answer to our bytes.
TEST_F(NetworkFaultTest, UserTimeoutFindsAPeerWhoseEndWasNotHeard) {
  connect_all(kWatchful);
  hosts().set({}, {.lose_fin_and_rst = true});
  for (const auto& connection : connections) connection->peer.reset();
  const auto sent = Clock::now();
  write_from_all("nobody gets this");
  expect_all_end(DisconnectReason::kTimedOut, {ETIMEDOUT}, "ConnectionError",
                 sent, 2.9s, 4.1s + kLate);
  EXPECT_GT(hosts().hits(), 0);
}

// It tries again and again, as controllers do. The old connection, of which
// nothing is left at the other end, must not keep it out.
TEST_F(NetworkFaultTest, HostThatRestartedGetsInWhenKeepaliveMeetsIt) {
  for (const tcpip_tests::Transport transport : kTcpTransports) {
    Connected connection(hosts(), false, transport, watchful_while_idle());
    const auto gone = Clock::now();
    if (!tcpip_tests::vanish(std::move(connection.peer))) {
      GTEST_SKIP() << "TCP_REPAIR needs CAP_NET_ADMIN";
    }
    OneClientServer& server = *connection.server();
    UniqueFd peer;
    EXPECT_TRUE(tcpip_tests::eventually([&] {
      peer = hosts().connect_from_there(transport, server.port());
      // Those that are turned away read the end of the stream.
      pollfd turned_away{peer.get(), POLLIN, 0};
      while (server.connection_count() == 1) {
        if (::poll(&turned_away, 1, 1) != 0) return false;
      }
      return true;
    }));
    EXPECT_LE(Clock::now() - gone, 1.1s + kLate);
    connection.events.assert_next_disconnected(DisconnectReason::kReset);
    const ConnectionEvent event = connection.events.assert_next_connected(true);
    std::printf("in after %.2f s\n", Seconds(event.time - gone).count());
    EXPECT_EQ(connection.read(), (Thrown{"ConnectionResetError", ECONNRESET}));
    send_all(peer, "back\r\n");
    EXPECT_EQ(server.read_str(kPatience), "back");
  }
}

// --- The connection is ended from outside ---

TEST_F(NetworkFaultTest, FirewallThatResetsEndsTheConnectionAtOnce) {
  connect_all(kWatchful);
  hosts().set({}, {.reset_data = true});
  const auto sent = Clock::now();
  for (const auto& connection : connections) {
    send_all(connection->peer, "half a message");
  }
  expect_all_end(DisconnectReason::kReset, {ECONNRESET}, "ConnectionResetError",
                 sent, 0s, kPrompt);
  EXPECT_GT(hosts().hits(), 0);
}

// What `ss -K` does.
TEST_F(NetworkFaultTest, ConnectionThatTheAdministratorKillsIsAborted) {
  connect_all(kWatchful);
  const auto killed = Clock::now();
  for (const auto& connection : connections) {
    const int error =
        tcpip_tests::destroy_connection(other_end_of(connection->peer.get()));
    if (error == EOPNOTSUPP) {
      GTEST_SKIP() << "this kernel has no SOCK_DESTROY "
                      "(CONFIG_INET_DIAG_DESTROY)";
    }
    ASSERT_EQ(error, 0) << connection->name();
  }
  expect_all_end(DisconnectReason::kReset, {ECONNABORTED},
                 "ConnectionAbortedError", killed, 0s, kPrompt);
  for (const auto& connection : connections) {
    EXPECT_EQ(tcpip_tests::recv_ending(connection->peer).error, ECONNRESET);
  }
}

// --- The peer hangs ---

// A process that accepts two connections, makes two, and sends heartbeats on
// all of them.
class HeartbeatProcess {
 public:
  explicit HeartbeatProcess(const PlainListener& listener) {
    std::array<int, 2> pipe{};
    EXPECT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    ports_ = UniqueFd(pipe[1]);
    pid_ = ::fork();
    if (pid_ == 0) run(listener.fd.get(), pipe[0]);
    ::close(pipe[0]);
  }
  ~HeartbeatProcess() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  HeartbeatProcess(const HeartbeatProcess&) = delete;
  HeartbeatProcess& operator=(const HeartbeatProcess&) = delete;

  void connect_to(int port) {
    EXPECT_EQ(::write(ports_.get(), &port, sizeof port),
              static_cast<ssize_t>(sizeof port));
  }
  void hang() {
    ::kill(pid_, SIGSTOP);
    int status = 0;
    ::waitpid(pid_, &status, WUNTRACED);
    EXPECT_TRUE(WIFSTOPPED(status));
  }
  void go_on() { ::kill(pid_, SIGCONT); }

 private:
  // Only what a child of a program with threads may do.
  [[noreturn]] static void run(int listener, int ports) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::array<int, 4> fds{};
    fds[0] = ::accept(listener, nullptr, nullptr);
    fds[1] = ::accept(listener, nullptr, nullptr);
    for (std::size_t i = 2; i < fds.size(); ++i) {
      int port = 0;
      if (::read(ports, &port, sizeof port) != sizeof port) ::_exit(1);
      sockaddr_in in{};
      in.sin_family = AF_INET;
      in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      in.sin_port = htons(static_cast<std::uint16_t>(port));
      fds[i] = ::socket(AF_INET, SOCK_STREAM, 0);
      ::connect(fds[i], reinterpret_cast<const sockaddr*>(&in), sizeof in);
    }
    for (;;) {
      for (const int fd : fds) {
        ::send(fd, "heartbeat\r\n", 11, MSG_NOSIGNAL | MSG_DONTWAIT);
      }
      ::poll(nullptr, 0, 100);
    }
  }

  UniqueFd ports_;
  pid_t pid_ = -1;
};

// Finding 5: the kernel of a process that hangs goes on answering.
TEST(HungPeerTest, OnlyHeartbeatsFindIt) {
  const HangGuard guard;
  const PlainListener listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  HeartbeatProcess peer(listener);
  const HeartbeatOptions heartbeats{.expect = true, .max_interval = 2000ms};
  const SocketOptions keepalive{.keepalive_time = 1s,
                                .keepalive_interval = 1s,
                                .keepalive_probes = 1,
                                .user_timeout = 0ms};
  const std::array<ConnectionEvents, 4> events;
  Client with({.host = "127.0.0.1",
               .port = listener.port,
               .connect_callback = events[0].callback(),
               .heartbeats = heartbeats});
  Client without({.host = "127.0.0.1",
                  .port = listener.port,
                  .connect_callback = events[1].callback(),
                  .socket = keepalive});
  OneClientServer server_with({.host = "127.0.0.1",
                               .connect_callback = events[2].callback(),
                               .heartbeats = heartbeats});
  OneClientServer server_without({.host = "127.0.0.1",
                                  .connect_callback = events[3].callback(),
                                  .socket = keepalive});
  with.start(kPatience);
  without.start(kPatience);
  server_with.start(kPatience);
  server_without.start(kPatience);
  peer.connect_to(server_with.port());
  peer.connect_to(server_without.port());
  for (const ConnectionEvents& of : events) of.assert_next_connected(true);
  EXPECT_EQ(without.read_line(kPatience), "heartbeat\r\n");
  EXPECT_EQ(server_without.read_line(kPatience), "heartbeat\r\n");

  BlockedCall reading(
      [&] { return thrown_by([&] { with.read_str(kPatience); }); });
  EXPECT_TRUE(reading.await_blocked());
  peer.hang();
  const auto hung = Clock::now();
  // The client's heartbeats are read, the server's are not: then it takes
  // max_interval twice.
  ConnectionEvent event =
      events[0].assert_next_disconnected(DisconnectReason::kHeartbeatLost);
  EXPECT_GE(event.time - hung, 1500ms);
  EXPECT_LE(event.time - hung, 2s + kPrompt);
  EXPECT_EQ(reading.get().kind, "IncompleteReadError");
  event = events[2].assert_next_disconnected(DisconnectReason::kHeartbeatLost);
  EXPECT_GE(event.time - hung, 1500ms);
  EXPECT_LE(event.time - hung, 4s + kPrompt);
  // Keepalive alone would have ended these after two seconds.
  EXPECT_TRUE(without.connected());
  EXPECT_TRUE(server_without.connected());
  without.discard();
  server_without.discard();
  peer.go_on();
  EXPECT_EQ(without.read_line(kPatience), "heartbeat\r\n");
  EXPECT_EQ(server_without.read_line(kPatience), "heartbeat\r\n");
  events[1].assert_none();
  events[3].assert_none();
}

}  // namespace
}  // namespace tcpip
