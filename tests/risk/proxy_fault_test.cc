// The proxy, recorder and replay server of the testing kit while system calls
// fail, are short or are interrupted: they lose no byte, and what cannot go on
// is told. The test's own calls work.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "tcpip/error.h"
#include "tcpip/testing/direction.h"
#include "tcpip/testing/faulty_proxy.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/testing/log_recorder.h"
#include "tcpip/testing/recorder.h"
#include "tcpip/testing/recording.h"
#include "tcpip/testing/replay_server.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/unique_fd.h"
#include "tests/support/faults.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip::UniqueFd;
using tcpip_tests::accept_one;
using tcpip_tests::connect_to;
using tcpip_tests::half_close;
using tcpip_tests::plain_listener;
using tcpip_tests::recv_ending;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::send_all;
using tcpip_tests::faults::always;
using tcpip_tests::faults::Exempt;
using tcpip_tests::faults::from_nth;
using tcpip_tests::faults::interruptible;
using tcpip_tests::faults::nth;
using tcpip_tests::faults::Plan;
using tcpip_tests::faults::sometimes;

// So that a piece that is lost, or passed twice, is noticed.
std::string numbered(std::size_t size) {
  std::string bytes;
  for (int i = 0; bytes.size() < size; ++i) bytes += std::to_string(i) + " ";
  return bytes;
}

void expect_transfer(const UniqueFd& from, const UniqueFd& to,
                     const std::string& bytes) {
  std::jthread sending([&] {
    const Exempt mine;
    send_all(from, bytes);
    half_close(from);
  });
  const Exempt mine;
  EXPECT_TRUE(recv_until_eof(to) == bytes);
}

class ProxyFaultTest : public testing::Test {
 protected:
  FaultyProxyOptions options() {
    return {.server_port = listener_.port, .log = lines_.log()};
  }

  const tcpip_tests::HangGuard guard_;
  const LogRecorder lines_;
  const tcpip_tests::PlainListener listener_ = plain_listener(Transport::kIpv4);
};

TEST_F(ProxyFaultTest, ShortAndInterruptedCallsLoseNothing) {
  Recorder recorder({.server_port = listener_.port});
  recorder.start();
  const std::string bytes = numbered(50'000);
  Plan plan("recv", always().at_most(131));
  for (const char* call : {"send", "sendmsg"}) {
    plan.add(call, always().at_most(97));
  }
  for (const std::string_view name : interruptible()) {
    plan.add(name, sometimes(0.2, 3).error(EINTR));
  }
  {
    const Exempt mine;
    const UniqueFd client = connect_to(recorder.port());
    const UniqueFd server = accept_one(listener_);
    std::jthread other([&] { expect_transfer(server, client, bytes); });
    expect_transfer(client, server, bytes);
  }
  EXPECT_GT(plan.injected(), 100);
  plan.lift();
  EXPECT_TRUE(recorder.recording().bytes(Direction::kToServer) == bytes);
  EXPECT_TRUE(recorder.recording().bytes(Direction::kToClient) == bytes);
}

TEST_F(ProxyFaultTest, ShortageOfMemoryLosesNothing) {
  FaultyProxy proxy(options());
  proxy.start();
  Plan plan("recv", sometimes(0.2, 1).error(ENOMEM));
  for (const char* call : {"send", "sendmsg"}) {
    plan.add(call, sometimes(0.2, 2).error(ENOBUFS));
  }
  plan.add("ppoll", sometimes(0.1, 3).error(ENOMEM));
  const Exempt mine;
  const UniqueFd client = connect_to(proxy.port());
  const UniqueFd server = accept_one(listener_);
  expect_transfer(client, server, numbered(300'000));
  EXPECT_GT(plan.injected(), 3);
}

TEST_F(ProxyFaultTest, ClientIsAcceptedWhenThereAreDescriptorsAgain) {
  FaultyProxy proxy(options());
  proxy.start();
  Plan plan("accept4", always().error(EMFILE));
  const Exempt mine;
  const UniqueFd client = connect_to(proxy.port());
  ASSERT_TRUE(wait_until([&] { return plan.injected() >= 3; }));
  EXPECT_EQ(proxy.connection_count(), 0u);
  EXPECT_EQ(lines_.count("cannot accept"), 1u) << "once, however long";
  plan.lift();
  const UniqueFd server = accept_one(listener_);
  send_all(client, "hello");
  EXPECT_EQ(recv_exact(server, 5), "hello");
}

TEST_F(ProxyFaultTest, ClientIsResetIfThereIsNoSocketForTheServer) {
  FaultyProxy proxy(options());
  proxy.start();
  for (const char* call : {"socket", "connect"}) {
    const Plan plan(call, always().error(EMFILE));
    const Exempt mine;
    const UniqueFd client = connect_to(proxy.port());
    EXPECT_EQ(recv_ending(client).error, ECONNRESET) << call;
  }
  EXPECT_TRUE(lines_.wait_for("Too many open files", 2));
}

TEST_F(ProxyFaultTest, FailedStartThrowsAndLeavesNothing) {
  const LeakSnapshot before;
  for (const char* call : {"socket", "bind", "listen", "eventfd", "thread"}) {
    const Plan plan(call, nth(1).error(EMFILE));
    FaultyProxy proxy(options());
    EXPECT_THROW(proxy.start(), tcpip::Error) << call;
    EXPECT_THROW(proxy.start(), std::logic_error) << call;
    ReplayServer replay({});
    const Plan another(call, nth(1).error(EMFILE));
    EXPECT_THROW(replay.start(), tcpip::Error) << call;
  }
  EXPECT_TRUE(before.is_restored());
}

TEST_F(ProxyFaultTest, ReplayLosesNothingByShortAndFailingCalls) {
  const std::string bytes = numbered(20'000);
  ReplayServer replay({.recording = {{{Direction::kToClient, 0us, bytes},
                                      {Direction::kToServer, 1us, bytes},
                                      {Direction::kToClient, 2us, bytes},
                                      {Direction::kToServer, 3us, ""},
                                      {Direction::kToClient, 4us, ""}}}});
  replay.start();
  Plan plan("recv", always().at_most(131));
  plan.add("recv", sometimes(0.02, 4).error(ENOMEM));
  for (const char* call : {"send", "sendmsg"}) {
    plan.add(call, always().at_most(97));
  }
  for (const char* call : {"send", "sendmsg"}) {
    plan.add(call, sometimes(0.02, 5).error(ENOBUFS));
  }
  for (const std::string_view name : interruptible()) {
    plan.add(name, sometimes(0.2, 3).error(EINTR));
  }
  const Exempt mine;
  const UniqueFd client = connect_to(replay.port());
  std::jthread sending([&] {
    const Exempt ours;
    send_all(client, bytes);
    half_close(client);
  });
  EXPECT_TRUE(recv_until_eof(client) == bytes + bytes);
  replay.wait_done();
  EXPECT_GT(plan.injected(), 50);
}

TEST_F(ProxyFaultTest, ReplayTellsIfItsClientCannotBeAccepted) {
  ReplayServer replay({});
  replay.start();
  const Plan plan("accept4", from_nth(1).error(EMFILE));
  const Exempt mine;
  const UniqueFd client = connect_to(replay.port());
  EXPECT_THROW(replay.wait_done(), tcpip::Error);
  EXPECT_THROW(replay.check(), tcpip::Error);
}

}  // namespace
}  // namespace tcpip_testing
