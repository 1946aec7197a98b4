#include "tcpip/testing/faulty_proxy.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/direction.h"
#include "tcpip/testing/fault.h"
#include "tcpip/testing/log_recorder.h"
#include "tcpip/testing/test_one_client_read_loop_server.h"
#include "tcpip/unique_fd.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/subprocess.h"
#include "tests/support/thrown.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip::UniqueFd;
using tcpip_tests::accept_one;
using tcpip_tests::connect_to;
using tcpip_tests::half_close;
using tcpip_tests::kPrompt;
using tcpip_tests::plain_listener;
using tcpip_tests::PlainListener;
using tcpip_tests::recv_ending;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using tcpip_tests::Thrown;
using tcpip_tests::thrown_by;
using Clock = std::chrono::steady_clock;

constexpr Direction kToServer = Direction::kToServer;
constexpr Direction kToClient = Direction::kToClient;
// What makes a fault hold for the rest of a test.
constexpr auto kForever = 24h;

std::string random_bytes(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(engine());
  return bytes;
}

// --- Bare peers ---

class FaultyProxyTest : public testing::Test {
 protected:
  struct Ends {
    UniqueFd client;
    UniqueFd server;
  };

  void start(FaultyProxyOptions options = {}) {
    options.server_port = listener_.port;
    options.log = lines_.log();
    proxy_.emplace(std::move(options));
    proxy_->start();
  }
  // The scripts of the proxy, first what the client sends.
  void start(std::vector<Fault> to_server, std::vector<Fault> to_client = {}) {
    start(FaultyProxyOptions{.to_server = std::move(to_server),
                             .to_client = std::move(to_client)});
  }
  Ends connect() {
    Ends ends;
    ends.client = connect_to(proxy_->port());
    ends.server = accept_one(listener_);
    return ends;
  }
  bool await_over() {
    return wait_until([&] { return proxy_->open_connections() == 0; });
  }

  const tcpip_tests::HangGuard guard_;
  const LogRecorder lines_;
  const PlainListener listener_ = plain_listener(Transport::kIpv4);
  std::optional<FaultyProxy> proxy_;
};

TEST_F(FaultyProxyTest, PassesOnWhatBothSayAndCountsIt) {
  start();
  const Ends ends = connect();
  send_all(ends.server, "greeting");
  EXPECT_EQ(recv_exact(ends.client, 8), "greeting");
  send_all(ends.client, "who?");
  EXPECT_EQ(recv_exact(ends.server, 4), "who?");
  EXPECT_EQ(proxy_->bytes_passed(kToServer), 4u);
  EXPECT_EQ(proxy_->bytes_passed(kToClient), 8u);
  EXPECT_EQ(proxy_->connection_count(), 1u);
  EXPECT_EQ(proxy_->open_connections(), 1u);
  const Ends second = connect();
  send_all(second.client, "me too");
  EXPECT_EQ(recv_exact(second.server, 6), "me too");
  EXPECT_EQ(proxy_->bytes_passed(kToServer), 10u) << "of all connections";
  EXPECT_EQ(proxy_->connection_count(), 2u);
}

// Sends with writes of random sizes from one end, and receives at the other.
void expect_transfer(const UniqueFd& from, const UniqueFd& to,
                     const std::string& bytes, std::uint64_t seed) {
  std::jthread sending([&] {
    std::mt19937_64 engine(seed);
    std::string_view rest = bytes;
    while (!rest.empty()) {
      const std::size_t size = 1 + engine() % (engine() % 2 != 0 ? 100 : 30000);
      send_all(from, rest.substr(0, size));
      rest.remove_prefix(std::min(size, rest.size()));
    }
    half_close(from);
  });
  const std::string got = recv_until_eof(to);
  EXPECT_EQ(got.size(), bytes.size());
  EXPECT_TRUE(got == bytes);
}

TEST_F(FaultyProxyTest, LosesAndReordersNothingWithoutAFault) {
  start();
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    const Ends ends = connect();
    const std::string up = random_bytes(500'000 + seed, seed);
    const std::string down = random_bytes(400'000 + seed, seed + 10);
    std::jthread other(
        [&] { expect_transfer(ends.server, ends.client, down, seed); });
    expect_transfer(ends.client, ends.server, up, seed + 1);
  }
  EXPECT_TRUE(await_over());
}

TEST_F(FaultyProxyTest, RandomFaultsThatDoNotEndLoseAndReorderNothing) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    start({.random = RandomFaults{.seed = seed, .ends = false}});
    const Ends ends = connect();
    const std::string up = random_bytes(60'000, seed);
    const std::string down = random_bytes(50'000, seed + 10);
    std::jthread other(
        [&] { expect_transfer(ends.server, ends.client, down, seed); });
    expect_transfer(ends.client, ends.server, up, seed + 1);
  }
}

// What arrives is a beginning of what was sent, whatever the end.
TEST_F(FaultyProxyTest, RandomFaultsThatEndTearNothing) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    start({.random = RandomFaults{.seed = seed}});
    const Ends ends = connect();
    const std::string up = random_bytes(6'000, seed);
    const std::string down = random_bytes(6'000, seed + 10);
    for (const auto& [fd, bytes] :
         {std::pair(ends.client.get(), &up), {ends.server.get(), &down}}) {
      // Either may have been reset by now.
      ::send(fd, bytes->data(), bytes->size(), MSG_NOSIGNAL);
      ::shutdown(fd, SHUT_WR);
    }
    EXPECT_TRUE(up.starts_with(recv_ending(ends.server).data));
    EXPECT_TRUE(down.starts_with(recv_ending(ends.client).data));
  }
}

TEST_F(FaultyProxyTest, PassesAHalfCloseOnAsAHalfClose) {
  start();
  const Ends ends = connect();
  send_all(ends.client, "last words");
  half_close(ends.client);
  EXPECT_EQ(recv_until_eof(ends.server), "last words");
  send_all(ends.server, "still here");
  EXPECT_EQ(recv_exact(ends.client, 10), "still here");
  EXPECT_EQ(proxy_->open_connections(), 1u);
  half_close(ends.server);
  EXPECT_EQ(recv_until_eof(ends.client), "");
  EXPECT_TRUE(await_over());
}

TEST_F(FaultyProxyTest, PassesAResetOnBehindTheBytesBeforeIt) {
  start();
  for (const bool by_client : {true, false}) {
    SCOPED_TRACE(by_client);
    Ends ends = connect();
    UniqueFd& from = by_client ? ends.client : ends.server;
    const UniqueFd& to = by_client ? ends.server : ends.client;
    send_all(from, "last words");
    // Else the kernel drops them with the reset.
    ASSERT_EQ(recv_exact(to, 4), "last");
    tcpip_tests::reset(std::move(from));
    const tcpip_tests::Ending ending = recv_ending(to);
    EXPECT_EQ(ending.data, " words");
    EXPECT_EQ(ending.error, ECONNRESET);
    EXPECT_TRUE(await_over());
  }
}

TEST_F(FaultyProxyTest, PassesAResetOnAfterAHalfCloseToo) {
  start();
  Ends ends = connect();
  half_close(ends.client);
  ASSERT_EQ(recv_until_eof(ends.server), "");
  tcpip_tests::reset(std::move(ends.client));
  EXPECT_TRUE(await_over());
  // The end of the stream came before; a write meets the reset.
  EXPECT_LT(::send(ends.server.get(), "x", 1, MSG_NOSIGNAL), 0);
}

// A peer that has closed resets who goes on sending to it.
TEST_F(FaultyProxyTest, SenderToAClosedPeerIsReset) {
  start();
  Ends ends = connect();
  ends.client.reset();
  ASSERT_EQ(recv_until_eof(ends.server), "");
  send_all(ends.server, "too late");
  EXPECT_TRUE(await_over());
  EXPECT_TRUE(wait_until(
      [&] { return ::send(ends.server.get(), "x", 1, MSG_NOSIGNAL) < 0; }));
}

TEST_F(FaultyProxyTest, DelayIsOfEachByte) {
  start({Fault::delay(80ms)});
  const Ends ends = connect();
  const auto begin = Clock::now();
  send_all(ends.client, "hello");
  EXPECT_EQ(recv_exact(ends.server, 5), "hello");
  EXPECT_GE(Clock::now() - begin, 80ms);
  half_close(ends.client);
  const auto end = Clock::now();
  EXPECT_EQ(recv_until_eof(ends.server), "");
  EXPECT_GE(Clock::now() - end, 75ms) << "of the end too";
}

TEST_F(FaultyProxyTest, SplitPassesOnePieceAtATime) {
  start({Fault::split(3, kForever)}, {Fault::split(2, 5ms)});
  const Ends ends = connect();
  send_all(ends.client, "abcdefgh");
  EXPECT_EQ(recv_exact(ends.server, 3), "abc");
  EXPECT_EQ(proxy_->bytes_passed(kToServer), 3u);
  const auto begin = Clock::now();
  send_all(ends.server, "0123456789");
  EXPECT_EQ(recv_exact(ends.client, 10), "0123456789");
  EXPECT_GE(Clock::now() - begin, 20ms) << "four gaps between five pieces";
}

TEST_F(FaultyProxyTest, DripPassesNoMoreThanItsRate) {
  start({Fault::drip(1000)}, {Fault::drip(1'000'000)});
  const Ends ends = connect();
  auto begin = Clock::now();
  send_all(ends.client, std::string(100, 'x'));
  EXPECT_EQ(recv_exact(ends.server, 100), std::string(100, 'x'));
  EXPECT_GE(Clock::now() - begin, 99ms);
  begin = Clock::now();
  send_all(ends.server, std::string(100'000, 'y'));
  EXPECT_EQ(recv_exact(ends.client, 100'000), std::string(100'000, 'y'));
  EXPECT_GE(Clock::now() - begin, 99ms);
}

TEST_F(FaultyProxyTest, PassEndsDelaySplitAndDrip) {
  start({Fault::delay(kForever), Fault::pass()},
        {Fault::split(1, kForever), Fault::pass().after_bytes(1)});
  const Ends ends = connect();
  send_all(ends.client, "hello");
  EXPECT_EQ(recv_exact(ends.server, 5), "hello");
  send_all(ends.server, "hello");
  EXPECT_EQ(recv_exact(ends.client, 5), "hello");
}

TEST_F(FaultyProxyTest, StallsBehindExactlySoManyBytesUntilResume) {
  start({Fault::stall().after_bytes(4)});
  const Ends ends = connect();
  send_all(ends.client, "0123456789");
  half_close(ends.client);
  EXPECT_EQ(recv_exact(ends.server, 4), "0123");
  EXPECT_EQ(proxy_->bytes_passed(kToServer), 4u);
  send_all(ends.server, "the other way");
  EXPECT_EQ(recv_exact(ends.client, 13), "the other way");
  EXPECT_EQ(proxy_->bytes_passed(kToServer), 4u);
  proxy_->resume(kToServer);
  EXPECT_EQ(recv_until_eof(ends.server), "456789");
}

TEST_F(FaultyProxyTest, StallForATimeEndsByItself) {
  start({Fault::stall(60ms).after_bytes(2)});
  const Ends ends = connect();
  const auto begin = Clock::now();
  send_all(ends.client, "0123");
  EXPECT_EQ(recv_exact(ends.server, 4), "0123");
  EXPECT_GE(Clock::now() - begin, 60ms);
}

TEST_F(FaultyProxyTest, StallOfNoTimeIsNone) {
  start({Fault::stall(0ms), Fault::stall(0ms).after_bytes(2)});
  const Ends ends = connect();
  send_all(ends.client, "01");
  EXPECT_EQ(recv_exact(ends.server, 2), "01");
  send_all(ends.client, "23");
  EXPECT_EQ(recv_exact(ends.server, 2), "23");
}

TEST_F(FaultyProxyTest, StallHoldsOnLaterConnectionsToo) {
  start();
  const Ends before = connect();
  proxy_->stall(kToServer);
  const Ends ends = connect();
  for (const Ends* e : {&before, &ends}) {
    send_all(e->client, "held");
    send_all(e->server, "passes");
    EXPECT_EQ(recv_exact(e->client, 6), "passes");
  }
  EXPECT_EQ(proxy_->bytes_passed(kToServer), 0u);
  proxy_->stall();
  proxy_->resume();
  EXPECT_EQ(recv_exact(before.server, 4), "held");
  EXPECT_EQ(recv_exact(ends.server, 4), "held");
}

// Sends until the kernel takes no more; returns how much it has taken.
std::size_t send_until_blocked(const UniqueFd& fd, std::string_view bytes) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t count =
        ::send(fd.get(), bytes.data() + sent,
               std::min<std::size_t>(65536, bytes.size() - sent),
               MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0) break;
    sent += static_cast<std::size_t>(count);
  }
  EXPECT_LT(sent, bytes.size()) << "the kernel has taken all";
  return sent;
}

// As behind a network that is slow: the sender waits, and nothing is lost.
TEST_F(FaultyProxyTest, StalledSenderMustWaitAndLosesNothing) {
  start();
  const Ends ends = connect();
  proxy_->stall();
  std::string bytes;
  for (const std::string piece = random_bytes(999'983, 7);
       bytes.size() < 32 << 20;) {
    bytes += piece;
  }
  const std::size_t sent = send_until_blocked(ends.client, bytes);
  half_close(ends.client);
  proxy_->resume();
  EXPECT_TRUE(recv_until_eof(ends.server) == bytes.substr(0, sent));
}

TEST_F(FaultyProxyTest, DelayedSenderMustWaitToo) {
  start({Fault::delay(kForever)});
  const Ends ends = connect();
  const std::string bytes(64 << 20, 'x');
  send_until_blocked(ends.client, bytes);
  EXPECT_EQ(proxy_->bytes_passed(kToServer), 0u);
}

TEST_F(FaultyProxyTest, CutEndsOneDirectionBehindExactlySoManyBytes) {
  start({Fault::cut().after_bytes(3)});
  const Ends ends = connect();
  send_all(ends.client, "0123456789");
  EXPECT_EQ(recv_until_eof(ends.server), "012");
  send_all(ends.server, "still here");
  EXPECT_EQ(recv_exact(ends.client, 10), "still here");
  send_all(ends.client, "dropped");
  half_close(ends.client);
  half_close(ends.server);
  EXPECT_EQ(recv_until_eof(ends.client), "");
  EXPECT_TRUE(await_over());
  EXPECT_EQ(proxy_->bytes_passed(kToServer), 3u);
}

TEST_F(FaultyProxyTest, ResetResetsBothBehindExactlySoManyBytes) {
  start({}, {Fault::reset().after_bytes(3)});
  const Ends ends = connect();
  send_all(ends.server, "012");
  EXPECT_TRUE(await_over());
  const tcpip_tests::Ending at_client = recv_ending(ends.client);
  EXPECT_EQ(at_client.data, "012");
  EXPECT_EQ(at_client.error, ECONNRESET);
  EXPECT_EQ(recv_ending(ends.server).error, ECONNRESET);
}

TEST_F(FaultyProxyTest, DropEndsBothBehindExactlySoManyBytes) {
  start({}, {Fault::drop().after_bytes(3)});
  const Ends ends = connect();
  send_all(ends.server, "0123456789");
  send_all(ends.client, "unread");
  const tcpip_tests::Ending at_client = recv_ending(ends.client);
  EXPECT_EQ(at_client.data, "012");
  EXPECT_EQ(at_client.error, 0);
  EXPECT_EQ(recv_ending(ends.server).error, 0);
  // Nobody has closed, but the proxy has.
  EXPECT_TRUE(await_over());
}

TEST_F(FaultyProxyTest, StepMayWaitForATime) {
  start({Fault::reset().after(60ms)});
  const auto begin = Clock::now();
  const Ends ends = connect();
  EXPECT_EQ(recv_ending(ends.client).error, ECONNRESET);
  EXPECT_GE(Clock::now() - begin, 60ms);
}

TEST_F(FaultyProxyTest, StepMayWaitForBothBytesAndTime) {
  start({Fault::reset().after_bytes(2).after(60ms)});
  const auto begin = Clock::now();
  const Ends ends = connect();
  send_all(ends.client, "012345");
  EXPECT_EQ(recv_exact(ends.server, 6), "012345") << "the time has not come";
  EXPECT_EQ(recv_ending(ends.client).error, ECONNRESET);
  EXPECT_GE(Clock::now() - begin, 60ms);
}

TEST_F(FaultyProxyTest, StepsWaitWhileTheirDirectionIsStalled) {
  start({Fault::stall(), Fault::cut()});
  const Ends ends = connect();
  send_all(ends.server, "held by nothing");
  EXPECT_EQ(recv_exact(ends.client, 15), "held by nothing");
  char byte = 0;
  EXPECT_EQ(::recv(ends.server.get(), &byte, 1, MSG_DONTWAIT), -1)
      << "not cut yet";
  proxy_->resume();
  EXPECT_EQ(recv_until_eof(ends.server), "");
}

TEST_F(FaultyProxyTest, EachConnectionBeginsTheScriptAnew) {
  start({Fault::cut().after_bytes(3)});
  for (int i = 0; i < 3; ++i) {
    const Ends ends = connect();
    send_all(ends.client, "0123456789");
    EXPECT_EQ(recv_until_eof(ends.server), "012");
  }
}

TEST_F(FaultyProxyTest, CutResetAndDropAtOnceEndWhatThereIs) {
  start();
  {
    const Ends ends = connect();
    proxy_->cut(kToClient);
    EXPECT_EQ(recv_until_eof(ends.client), "");
    send_all(ends.client, "goes on");
    EXPECT_EQ(recv_exact(ends.server, 7), "goes on");
  }
  ASSERT_TRUE(await_over());
  {
    const Ends first = connect();
    const Ends second = connect();
    proxy_->reset();
    for (const UniqueFd* fd :
         {&first.client, &first.server, &second.client, &second.server}) {
      EXPECT_EQ(recv_ending(*fd).error, ECONNRESET);
    }
    EXPECT_EQ(proxy_->open_connections(), 0u);
  }
  {
    const Ends ends = connect();
    proxy_->drop();
    EXPECT_EQ(recv_ending(ends.client).error, 0);
    EXPECT_EQ(recv_ending(ends.server).error, 0);
  }
  const Ends ends = connect();
  send_all(ends.client, "and the next?");
  EXPECT_EQ(recv_exact(ends.server, 13), "and the next?");
}

TEST_F(FaultyProxyTest, RefusesConnectionsAndAcceptsAgainOnTheSamePort) {
  start();
  const int port = proxy_->port();
  const Ends before = connect();
  for (int i = 0; i < 3; ++i) {
    proxy_->refuse_connections();
    proxy_->refuse_connections();
    tcpip::Client client({.host = "127.0.0.1", .port = port});
    EXPECT_EQ(thrown_by([&] { client.start(kPatience); }),
              (Thrown{"ConnectionRefusedError", ECONNREFUSED}));
    send_all(before.client, "goes on");
    EXPECT_EQ(recv_exact(before.server, 7), "goes on");
    proxy_->accept_connections();
    proxy_->accept_connections();
    ASSERT_EQ(proxy_->port(), port);
    const Ends ends = connect();
    send_all(ends.client, "hello");
    EXPECT_EQ(recv_exact(ends.server, 5), "hello");
  }
}

TEST_F(FaultyProxyTest, ClientIsResetIfTheServerCannotBeReached) {
  FaultyProxy proxy(
      {.server_port = tcpip_tests::refusing_port(), .log = lines_.log()});
  proxy.start();
  const UniqueFd client = connect_to(proxy.port());
  EXPECT_EQ(recv_ending(client).error, ECONNRESET);
  EXPECT_TRUE(lines_.wait_for("Connection refused"));
  EXPECT_TRUE(lines_.wait_for("cannot connect to 127.0.0.1:"));
  EXPECT_EQ(proxy.connection_count(), 1u);
}

TEST_F(FaultyProxyTest, TriesEachAddressOfTheServer) {
  FaultyProxy proxy(
      {.server_host = "localhost", .server_port = listener_.port});
  proxy.start();
  const UniqueFd client = connect_to(proxy.port());
  const UniqueFd server = accept_one(listener_);
  send_all(client, "hello");
  EXPECT_EQ(recv_exact(server, 5), "hello");
}

TEST_F(FaultyProxyTest, ServerThatDoesNotAnswerHoldsNobodyUp) {
  const tcpip_tests::SilentPort silent;
  FaultyProxy proxy({.server_port = silent.listener.port});
  proxy.start();
  const UniqueFd client = connect_to(proxy.port());
  ASSERT_TRUE(wait_until([&] { return proxy.connection_count() == 1; }));
  EXPECT_LT(seconds_of([&] { proxy.close(); }), kPrompt);
}

TEST_F(FaultyProxyTest, CloseEndsAtOnceAlsoWhileStalled) {
  start({Fault::delay(kForever)}, {Fault::stall()});
  const Ends ends = connect();
  send_all(ends.client, "held");
  send_all(ends.server, "held");
  EXPECT_LT(seconds_of([&] { proxy_->close(); }), kPrompt);
  EXPECT_EQ(recv_ending(ends.client).data, "")
      << "what was held back is dropped";
  EXPECT_LT(seconds_of([&] { proxy_->close(); }), kPrompt);
  EXPECT_EQ(proxy_->open_connections(), 0u);
  proxy_->resume();
  proxy_->accept_connections();
  tcpip::Client client({.host = "127.0.0.1", .port = proxy_->port()});
  EXPECT_EQ(thrown_by([&] { client.start(kPatience); }).error, ECONNREFUSED);
}

TEST_F(FaultyProxyTest, MayBeClosedByManyThreadsAndByItsLog) {
  const tcpip_tests::HangGuard guard;
  FaultyProxy* here = nullptr;
  FaultyProxy proxy(
      {.server_port = tcpip_tests::refusing_port(),
       .log = tcpip::Log([&](tcpip::LogLevel, std::string_view,
                             std::string_view) { here->close(); })});
  here = &proxy;
  proxy.start();
  const UniqueFd client = connect_to(proxy.port());
  EXPECT_EQ(recv_ending(client).error, ECONNRESET);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { proxy.close(); });
}

TEST_F(FaultyProxyTest, MembersMayBeCalledWhileBytesPass) {
  start();
  const Ends ends = connect();
  const std::string bytes = random_bytes(1'000'000, 5);
  std::jthread meddling([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      proxy_->stall();
      proxy_->refuse_connections();
      EXPECT_LE(proxy_->bytes_passed(kToServer), bytes.size());
      proxy_->accept_connections();
      proxy_->resume();
      EXPECT_EQ(proxy_->connection_count(), 1u);
    }
  });
  expect_transfer(ends.client, ends.server, bytes, 1);
}

TEST_F(FaultyProxyTest, ChildOfForkMayDestroyItAndNotUseIt) {
  start();
  const Ends ends = connect();
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 1;
    try {
      proxy_->stall();
    } catch (const std::logic_error&) {
      proxy_.reset();
      status = 0;
    } catch (...) {
    }
    std::_Exit(status);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  send_all(ends.client, "hello");
  EXPECT_EQ(recv_exact(ends.server, 5), "hello");
  half_close(ends.server);
  EXPECT_EQ(recv_until_eof(ends.client), "");
}

TEST_F(FaultyProxyTest, StartsOnce) {
  start();
  EXPECT_THROW(proxy_->start(), std::logic_error);
  FaultyProxy closed({.server_port = 1});
  EXPECT_EQ(closed.port(), 0);
  closed.close();
  EXPECT_THROW(closed.start(), std::logic_error);
}

TEST_F(FaultyProxyTest, FailedStartLeavesNothingOpen) {
  FaultyProxy proxy({.server_host = "no.such.host.invalid", .server_port = 1});
  EXPECT_THROW(proxy.start(), tcpip::Error);
  EXPECT_THROW(proxy.start(), std::logic_error);
}

TEST_F(FaultyProxyTest, RefusesBadOptions) {
  for (const int port : {0, -1, 65536}) {
    EXPECT_THROW(FaultyProxy({.server_port = port}), std::invalid_argument);
  }
  const std::vector<Fault> bad{Fault::reset(), Fault::cut()};
  EXPECT_THROW(FaultyProxy({.server_port = 1, .to_server = bad}),
               std::invalid_argument);
  EXPECT_THROW(FaultyProxy({.server_port = 1, .to_client = bad}),
               std::invalid_argument);
  EXPECT_THROW(FaultyProxy({.server_port = 1,
                            .to_server = {Fault::cut()},
                            .random = RandomFaults{}}),
               std::invalid_argument);
}

TEST(FaultyProxySeedTest, IsPrintedIfTheTestFails) {
  tcpip_tests::Subprocess child(
      {tcpip_tests::find_file("tests/unit/failing_tests"),
       "--gtest_filter=*FailsBehindAProxy", "--gtest_output="},
      tcpip_tests::Subprocess::Errors::kWithOutput);
  const std::string output = child.read_all();
  EXPECT_EQ(child.wait(), 1) << output;
  EXPECT_NE(output.find(".random = {.seed = 4711, .ends = true}"),
            std::string::npos)
      << output;
}

// --- Faults ---

TEST(FaultTest, RefusesBadValues) {
  EXPECT_THROW(Fault::delay(-1ms), std::invalid_argument);
  EXPECT_THROW(Fault::delay(25h), std::invalid_argument);
  EXPECT_THROW(Fault::split(0), std::invalid_argument);
  EXPECT_THROW(Fault::split(1, -1ms), std::invalid_argument);
  EXPECT_THROW(Fault::drip(0), std::invalid_argument);
  EXPECT_THROW(Fault::stall(-1ms), std::invalid_argument);
  EXPECT_THROW(Fault::cut().after(-1ms), std::invalid_argument);
  EXPECT_THROW(Fault::cut().after(25h), std::invalid_argument);
}

TEST(FaultTest, RefusesScriptsOfWhichAStepIsNeverTaken) {
  const auto refused = [](std::vector<Fault> script) {
    try {
      check_script(script);
      return ""s;
    } catch (const std::invalid_argument& e) {
      return std::string(e.what());
    }
  };
  EXPECT_EQ(refused({}), "");
  EXPECT_EQ(refused({Fault::stall().after_bytes(10), Fault::pass(),
                     Fault::cut().after_bytes(10).after(1s),
                     Fault::reset().after(1s)}),
            "");
  EXPECT_EQ(refused({Fault::reset(), Fault::pass()}),
            "script: \"pass\" is never taken behind \"reset\"");
  EXPECT_EQ(refused({Fault::drop(), Fault::pass()}),
            "script: \"pass\" is never taken behind \"drop\"");
  EXPECT_NE(refused({Fault::pass().after_bytes(2), Fault::stall(),
                     Fault::cut().after_bytes(1)}),
            "");
  EXPECT_NE(refused({Fault::pass().after(2ms), Fault::cut().after(1ms)}), "");
}

TEST(FaultTest, HasAText) {
  EXPECT_EQ(to_string(Fault::stall(1s).after_bytes(100)),
            "after 100 bytes: stall for 1000 ms");
  EXPECT_EQ(to_string(Fault::stall()), "stall until resume()");
  EXPECT_EQ(to_string(Fault::delay(1500us).after(2s)),
            "after 2000 ms: delay of 1500 us");
  EXPECT_EQ(to_string(Fault::split(3).after_bytes(1).after(1ms)),
            "after 1 bytes and 1 ms: pieces of 3 bytes, 1 ms apart");
  EXPECT_EQ(to_string(Fault::drip(9)), "9 bytes a second");
}

TEST(FaultTest, RandomScriptsAreTheSameForOneSeedAndElseDiffer) {
  int ends = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const RandomFaults random{.seed = seed};
    const std::vector<Fault> script = random_script(random, 1, kToServer);
    EXPECT_EQ(script, random_script(random, 1, kToServer));
    EXPECT_NE(script, random_script(random, 1, kToClient));
    EXPECT_NE(script, random_script(random, 2, kToServer));
    EXPECT_NE(script,
              random_script(RandomFaults{.seed = seed + 1}, 1, kToServer));
    EXPECT_NO_THROW(check_script(script));
    const auto is_end = [](const Fault& fault) {
      return fault.kind() == Fault::Kind::kCut ||
             fault.kind() == Fault::Kind::kReset ||
             fault.kind() == Fault::Kind::kDrop;
    };
    if (is_end(script.back())) ++ends;
    for (const Fault& fault :
         random_script({.seed = seed, .ends = false}, 1, kToServer)) {
      EXPECT_FALSE(is_end(fault));
    }
  }
  EXPECT_GT(ends, 50);
  EXPECT_LT(ends, 150);
}

// --- What a client of the library sees ---

struct Sight {
  const char* name;
  Fault fault;
  Thrown thrown;
  const char* events;
};
void PrintTo(const Sight& sight, std::ostream* out) { *out << sight.name; }

class ProxiedClientTest : public testing::Test {
 protected:
  void SetUp() override { server_.start(); }
  void start(std::vector<Fault> to_client) {
    proxy_.emplace(FaultyProxyOptions{.server_port = server_.port(),
                                      .to_client = std::move(to_client)});
    proxy_->start();
  }
  tcpip::Client& connect(tcpip::ClientOptions options = {}) {
    options.host = "127.0.0.1";
    options.port = proxy_->port();
    options.connect_callback = events_.callback();
    client_.emplace(std::move(options));
    client_->start(kPatience);
    return *client_;
  }

  const tcpip_tests::HangGuard guard_;
  TestOneClientReadLoopServer server_{
      {}, TestOneClientReadLoopServer::Reply::kEcho};
  std::optional<FaultyProxy> proxy_;
  ConnectionEvents events_;
  std::optional<tcpip::Client> client_;
};

class EndedClientTest : public ProxiedClientTest,
                        public testing::WithParamInterface<Sight> {};

TEST_P(EndedClientTest, SeesWhatHasHappened) {
  start({GetParam().fault.after_bytes(8)});
  tcpip::Client& client = connect();
  client.write_str("hello", kPatience);
  EXPECT_EQ(client.read_str(kPatience), "hello");
  EXPECT_EQ(thrown_by([&] {
              client.write_str("hello", kPatience);
              client.read_str(kPatience);
            }),
            GetParam().thrown);
  ASSERT_TRUE(events_.wait_for(2));
  EXPECT_EQ(events_.text(), GetParam().events);
  EXPECT_TRUE(client.should_be_connected());
}

INSTANTIATE_TEST_SUITE_P(
    , EndedClientTest,
    testing::Values(Sight{"Cut", Fault::cut(), Thrown{"IncompleteReadError", 1},
                          "connected 1, peer closed 1"},
                    Sight{"Reset", Fault::reset(),
                          Thrown{"ConnectionResetError", ECONNRESET},
                          "connected 1, reset 1"},
                    Sight{"Drop", Fault::drop(),
                          Thrown{"IncompleteReadError", 1},
                          "connected 1, peer closed 1"}),
    [](const auto& one) { return std::string(one.param.name); });

class SlowedClientTest : public ProxiedClientTest,
                         public testing::WithParamInterface<Fault> {};

TEST_P(SlowedClientTest, GetsEveryMessageWhole) {
  start({GetParam()});
  tcpip::Client& client = connect();
  for (const std::string text : {"one", "", "grüß dich", "four"}) {
    client.write_str(text, kPatience);
    EXPECT_EQ(client.read_str(kPatience), text);
  }
  client.close();
  ASSERT_TRUE(events_.wait_for(2));
  EXPECT_EQ(events_.text(), "connected 1, closed here 1");
}

INSTANTIATE_TEST_SUITE_P(, SlowedClientTest,
                         testing::Values(Fault::pass(), Fault::delay(20ms),
                                         Fault::split(1), Fault::drip(500),
                                         Fault::stall(50ms)));

TEST_F(ProxiedClientTest, LosesNothingByATimeoutWhileStalled) {
  start({Fault::stall().after_bytes(3)});
  tcpip::Client& client = connect();
  client.write_str("hello", kPatience);
  ASSERT_TRUE(wait_until([&] { return proxy_->bytes_passed(kToClient) == 3; }));
  EXPECT_THROW(client.read_str(30ms), tcpip::TimeoutError);
  EXPECT_TRUE(client.connected());
  proxy_->resume();
  EXPECT_EQ(client.read_str(kPatience), "hello");
}

TEST_F(ProxiedClientTest, MissesTheHeartbeatsOfAStalledServer) {
  start({});
  server_.close();
  TestOneClientReadLoopServer server(
      {.heartbeats = {.send = true, .interval = 20ms}});
  server.start();
  FaultyProxy proxy({.server_port = server.port()});
  proxy.start();
  tcpip::Client client({.host = "127.0.0.1",
                        .port = proxy.port(),
                        .connect_callback = events_.callback(),
                        .heartbeats = {.expect = true, .max_interval = 300ms}});
  client.start(kPatience);
  events_.assert_next_connected(true);
  EXPECT_TRUE(wait_until([&] { return proxy.bytes_passed(kToClient) > 50; }));
  proxy.stall(kToClient);
  events_.assert_next_disconnected(tcpip::DisconnectReason::kHeartbeatLost);
}

}  // namespace
}  // namespace tcpip_testing
