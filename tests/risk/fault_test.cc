// System calls that fail: what exactly comes of it, where that needs a closer
// look than fail_nth_test has, which makes each call of a whole life fail.
#include <gtest/gtest.h>
#include <poll.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/faults.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
namespace faults = tcpip_tests::faults;
using faults::Exempt;
using faults::Plan;
using tcpip_testing::ConnectionEvents;
using tcpip_testing::LogRecorder;
using tcpip_tests::connect_to;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::seconds_of;

// One byte at a time, and calls that are interrupted or come too early.
class Storm {
 public:
  Storm() {
    using faults::sometimes;
    plan_.add("accept4", sometimes(0.3, 1).error(EINTR));
    plan_.add("accept4", sometimes(0.3, 2).error(ECONNABORTED));
    plan_.add("poll", sometimes(0.3, 3).error(EINTR));
    plan_.add("ppoll", sometimes(0.3, 4).error(EINTR));
    for (const char* const name : {"recv", "send", "sendmsg"}) {
      plan_.add(name, sometimes(0.3, 5).error(EINTR));
      plan_.add(name, sometimes(0.2, 6).error(EAGAIN));
      plan_.add(name, faults::always().at_most(1));
    }
  }
  int injected() const { return plan_.injected(); }

 private:
  Plan plan_;
};

void echo(Connection& server, const std::stop_token& stop) {
  server.write_str(server.read_str(stop), stop);
}

// Far beyond a life without faults, and the most that one with may take.
constexpr std::chrono::seconds kLife{kWithSanitizer ? 4 : 2};

// start, connect, echo, close. "" if all went well, else what() of the error.
std::string live(const ConnectionEvents& server_events,
                 const ConnectionEvents& client_events) {
  try {
    OneClientReadLoopServer server(
        {.host = "127.0.0.1", .connect_callback = server_events.callback()},
        echo);
    server.start(kLife);
    Client client({.host = "127.0.0.1",
                   .port = server.port(),
                   .connect_callback = client_events.callback()});
    client.start(kLife);
    client.write_str("hello", kLife);
    if (client.read_str(kLife) != "hello") return "WRONG ECHO";
    client.close();
    server.close();
    return "";
  } catch (const Error& e) {
    return e.what();
  }  // anything else fails the test
}

TEST(FaultTest, ErrorsThatStartMeetsAreOfTheirClassAndKeepTheErrno) {
  struct Case {
    const char* call;
    int nth;
    int error;
  };
  for (const Case& c : {Case{"eventfd", 1, EMFILE}, Case{"socket", 1, ENFILE},
                        Case{"thread", 1, EAGAIN}, Case{"thread", 2, EAGAIN},
                        Case{"setsockopt", 1, ENOPROTOOPT}}) {
    const ConnectionEvents events;
    OneClientServer server(
        {.host = "127.0.0.1", .connect_callback = events.callback()});
    const Plan plan(c.call, faults::nth(c.nth).error(c.error));
    try {
      server.start();
      ADD_FAILURE() << c.call << " does not matter";
    } catch (const Error& e) {
      EXPECT_EQ(e.code().value(), c.error) << e.what();
    }
    EXPECT_TRUE(server.wait_done(Wait::none()));
    EXPECT_THROW(server.start(), std::logic_error);
    EXPECT_EQ(events.text(), "");
  }
}

// Finding 10: interrupted before it began, and poll says that it is done.
TEST(FaultTest, InterruptedConnectConnectsAllTheSame) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  Client client({.host = "127.0.0.1", .port = server.port()});
  {
    const Plan plan("connect", faults::nth(1).error(EINTR));
    client.start(kPatience);
    EXPECT_EQ(plan.injected(), 1);
  }
  client.write("a");
  EXPECT_EQ(server.wait_connected(kPatience), true);
  EXPECT_EQ(server.read_exactly(1, kPatience), "a");
}

// T2, T3: the same bytes, whatever the system calls do.
TEST(StormTest, ShortInterruptedAndSpuriousCallsChangeNoByte) {
  const HangGuard guard;
  std::string text(3000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>('a' + i * 7 % 26);
  }
  const Storm storm;
  for (const bool with_stop : {true, false}) {
    OneClientReadLoopServer server(
        {.host = "127.0.0.1"}, [&](Connection& s, const std::stop_token& stop) {
          const std::string message =
              s.read_str(with_stop ? Wait(stop) : Wait());
          s.write_lines({message, "\r", "\n"}, stop);
        });
    server.start();
    Client client({.host = "127.0.0.1", .port = server.port()});
    client.start(kPatience);
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{100}, text.size()}) {
      client.write_str(text.substr(0, size), kPatience);
      EXPECT_TRUE(client.read_str(kPatience) == text.substr(0, size));
    }
    // And not one more.
    EXPECT_EQ(client.try_read(1), std::nullopt);
  }
  EXPECT_GT(storm.injected(), 1000);
}

TEST(StormTest, DeadlineIsNotStretched) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  std::optional<UniqueFd> peer;
  {
    const Exempt mine;
    peer = connect_to(server.port());
  }
  ASSERT_TRUE(server.wait_connected(kPatience));
  const Storm storm;
  for (const auto deadline : {0ms, 10ms, 200ms}) {
    const auto took = seconds_of(
        [&] { EXPECT_THROW(server.read_str(deadline), TimeoutError); });
    EXPECT_GE(took, deadline);
    EXPECT_LE(took, deadline + kPrompt);
  }
}

TEST(StormTest, AcceptSurvivesConnectionsThatDieInTheQueue) {
  const HangGuard guard;
  const Storm storm;
  const LogRecorder lines;
  OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
  server.start();
  for (std::uint64_t i = 1; i <= 20; ++i) {
    std::optional<UniqueFd> peer;
    {
      const Exempt mine;
      peer = connect_to(server.port());
    }
    ASSERT_TRUE(eventually([&] { return server.connection_count() == i; }));
    server.close_client();
  }
  EXPECT_EQ(lines.count("accept"), 0u) << lines.text();
}

// P17: shortages of some duration.
TEST(FaultTest, AcceptSurvivesAShortageAndSaysSoOnce) {
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
    const HangGuard guard;
    const LogRecorder lines;
    OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
    server.start();
    const Plan plan("accept4", faults::from_nth(1).times(5).error(
                                   error));  // 5+10+20+40+80 ms
    const Exempt mine;
    const UniqueFd peer = connect_to(server.port());
    EXPECT_TRUE(server.wait_connected(155ms + kPrompt));
    EXPECT_EQ(plan.injected(), 5);
    EXPECT_EQ(lines.count("accept:"), 1u) << lines.text();
    // The next shortage is news again.
    const UniqueFd other = connect_to(server.port());
    EXPECT_EQ(tcpip_tests::recv_ending(other).error, 0);
  }
}

TEST(FaultTest, CloseDoesNotWaitForABackOff) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  const Plan plan("accept4", faults::from_nth(1).error(EMFILE));
  const Exempt mine;
  const UniqueFd peer = connect_to(server.port());
  ASSERT_TRUE(eventually([&] { return plan.injected() >= 6; }));  // 320 ms now
  EXPECT_LE(seconds_of([&] { server.close(); }), 250ms + kPrompt / 4);
}

// A poll that fails for a while must neither spin nor end the accept thread.
TEST(FaultTest, AcceptLoopSurvivesAPollThatFailsWithoutSpinning) {
  const HangGuard guard;
  const LogRecorder lines;
  OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
  server.start();
  const Exempt mine;
  {
    const Plan plan("ppoll", faults::from_nth(1).error(ENOMEM));
    const UniqueFd wakes_it = connect_to(server.port());
    ASSERT_TRUE(eventually([&] { return plan.injected() >= 1; }));
    ::poll(nullptr, 0, 500);  // how often in that time is the question
    EXPECT_LE(plan.injected(), 20);
    EXPECT_LE(lines.size(), 20u);
  }
  const UniqueFd peer = connect_to(server.port());
  EXPECT_TRUE(server.wait_connected(1s + kPrompt)) << lines.text();
}

// The thread that watches a client's connection outlives a failing poll.
TEST(FaultTest, ClientNoticesALossAfterAPollThatFailed) {
  const HangGuard guard;
  const ConnectionEvents events;
  std::optional<UniqueFd> peer;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  Client client({.host = "127.0.0.1",
                 .port = listener.port,
                 .connect_callback = events.callback()});
  // The first is connect's own.
  const Plan plan("ppoll", faults::nth(2).error(ENOMEM));
  client.start(kPatience);
  const Exempt mine;
  peer = tcpip_tests::accept_one(listener);
  ASSERT_TRUE(eventually([&] { return plan.injected() == 1; }));
  EXPECT_TRUE(client.connected());
  peer.reset();
  EXPECT_TRUE(events.wait_for(2, 5s));
  EXPECT_EQ(events.text(), "connected 1, peer closed 1");
}

// Once it exists, a connection needs no further descriptor: a read that cannot
// have its eventfd works all the same, and ends at deadline and stop.
TEST(FaultTest, ReadWithoutDescriptorForItsWaitReads) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  std::optional<UniqueFd> peer;
  {
    const Exempt mine;
    peer = connect_to(server.port());
  }
  ASSERT_TRUE(server.wait_connected(kPatience));
  std::stop_source stop;
  const Plan plan("eventfd", faults::always().error(EMFILE));
  EXPECT_THROW(server.read_str({20ms, stop.get_token()}), TimeoutError);
  EXPECT_TRUE(server.connected());
  {
    std::jthread sending([&] {
      const Exempt mine;
      tcpip_tests::send_all(*peer, "a\r\n");
    });
    EXPECT_EQ(server.read_str(stop.get_token()), "a");
  }
  std::jthread stopping([&] { stop.request_stop(); });
  EXPECT_THROW(server.read_str(stop.get_token()), CancelledError);
  EXPECT_GT(plan.injected(), 2);
}

// The same for a write. What it could not send yet is still there, and it says
// so.
TEST(FaultTest, WriteWithoutDescriptorForItsWaitWrites) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  Client client({.host = "127.0.0.1", .port = server.port()});
  client.start(kPatience);
  ASSERT_TRUE(server.wait_connected(kPatience));
  const std::string large(32 * 1024 * 1024, 'a');  // more than the kernel takes
  const Plan plan("eventfd", faults::always().error(EMFILE));
  try {
    client.write(large, 20ms);
    FAIL();
  } catch (const TimeoutError& e) {
    EXPECT_TRUE(e.queued());
  }
  EXPECT_TRUE(client.connected());
  std::jthread draining([&] { client.drain(kPatience); });
  EXPECT_TRUE(server.read_exactly(large.size(), kPatience) == large);
  EXPECT_GT(plan.injected(), 0);
}

TEST(FaultTest, ConnectWithoutDescriptorForItsWaitSaysSo) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  for (const auto& [call, error] :
       {std::pair{"eventfd", EMFILE}, std::pair{"ppoll", ENOMEM}}) {
    Client client({.host = "127.0.0.1", .port = listener.port});
    const Plan plan(call, faults::nth(1).error(error));
    try {
      client.start(kPatience);
      FAIL();
    } catch (const ConnectionError& e) {
      FAIL() << "no connection is lost: " << e.what();
    } catch (const Error& e) {
      EXPECT_EQ(e.code().value(), error) << e.what();
    }
  }
}

// A heartbeat may be the first to find out that the peer has gone; what the
// peer said before can still be read.
TEST(FaultTest, HeartbeatThatCannotBeSentLosesNothingOfWhatCame) {
  const HangGuard guard;
  OneClientServer server(
      {.host = "127.0.0.1", .heartbeats = {.send = true, .interval = 1ms}});
  server.start();
  const Exempt mine;
  UniqueFd peer = connect_to(server.port());
  ASSERT_TRUE(server.wait_connected(kPatience));
  tcpip_tests::send_all(peer, "one\r\n");
  const std::optional<int> accepted =
      tcpip_tests::socket_connected_to(tcpip_tests::local_port(peer.get()));
  ASSERT_TRUE(accepted.has_value());
  tcpip_tests::await_receivable(*accepted, 5);
  {
    const Plan plan("send", faults::nth(1).error(EPIPE));
    ASSERT_TRUE(eventually([&] { return plan.injected() == 1; }));
  }
  EXPECT_EQ(server.read_str(kPatience), "one");
  peer.reset();
  EXPECT_THROW(server.read_str(kPatience), ConnectionError);
  EXPECT_FALSE(server.connected());
}

// R9, without strace.
TEST(AuditTest, EverySendIsWithoutSignalAndEveryDescriptorIsBornCloexec) {
  const HangGuard guard;
  faults::reset_audit();
  EXPECT_EQ(live(ConnectionEvents(), ConnectionEvents()), "");
  // Large ones, in pieces, to a peer that has gone.
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  Client client({.host = "127.0.0.1", .port = server.port()});
  client.start(kPatience);
  const std::string large(100'000, 'a');
  client.write_lines({large, large}, kPatience);
  client.write(large, kPatience);
  ASSERT_TRUE(server.wait_connected(kPatience));
  EXPECT_EQ(server.read_exactly(300'000, kPatience).size(), 300'000u);
  const faults::Audit audit = faults::audit();
  EXPECT_GE(audit.sends, 4);
  EXPECT_EQ(audit.sends_that_may_signal, 0);
  EXPECT_GE(audit.made, 8);
  EXPECT_EQ(audit.made_without_cloexec, 0);
  EXPECT_EQ(audit.writes_to_sockets, 0);
}

}  // namespace
}  // namespace tcpip
