// System calls of the net floor that fail for good, or that report what is not
// so, for as long as the test wants: what the library then does is bounded, and
// it goes on when they work again.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/client.h"
#include "tcpip/connect.h"
#include "tcpip/error.h"
#include "tcpip/io_result.h"
#include "tcpip/listener.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/faults.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::LogRecorder;
using tcpip_tests::accept_one;
using tcpip_tests::connect_to;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using tcpip_tests::socket_option;
using tcpip_tests::faults::always;
using tcpip_tests::faults::Exempt;
using tcpip_tests::faults::nth;
using tcpip_tests::faults::Plan;
using tcpip_tests::faults::Rule;

// The calls of the test's own sockets work.
template <class Function>
auto exempt(Function function) {
  const Exempt mine;
  return function();
}

// --- accept4() ---

// C10, P17.
class AcceptFailsForGoodTest : public testing::TestWithParam<int> {};

TEST_P(AcceptFailsForGoodTest, ServerBacksOffSaysSoOnceAndGoesOnAfterwards) {
  const HangGuard guard;
  const LogRecorder lines;
  OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
  server.start();
  UniqueFd peer;
  {
    const Plan accepts("accept4", always().error(GetParam()));
    peer = exempt([&] { return connect_to(server.port()); });
    ASSERT_TRUE(lines.wait_for("accept: "));
    // Counts, and fails none.
    const Plan polls("ppoll", nth(1'000'000'000).error(EINTR));
    // How often in that time is the question.
    EXPECT_FALSE(server.wait_connected(300ms));
    // 5, 10, 20, 40, 80, 160 ms: seven rounds, of 64 calls each if the errno is
    // of one connection; with EAGAIN a hundred before the first.
    EXPECT_LE(accepts.calls(), 64 * 7 + 100);
    EXPECT_LE(polls.calls(), 200);
    EXPECT_EQ(lines.count("accept: "), 1u) << lines.text();
  }
  EXPECT_TRUE(server.wait_connected(1100ms + kPrompt));
}

// It begins with a short pause again, and with a line.
TEST(AcceptTest, TroubleAfterASuccessIsANewOne) {
  const HangGuard guard;
  const LogRecorder lines;
  OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
  server.start();
  for (int trouble = 1; trouble <= 2; ++trouble) {
    UniqueFd peer;
    {
      const Plan accepts("accept4", always().error(EMFILE));
      peer = exempt([&] { return connect_to(server.port()); });
      ASSERT_TRUE(eventually([&] { return accepts.calls() > 2; }));
    }
    ASSERT_TRUE(server.wait_connected(kPatience));
    peer.reset();
    ASSERT_TRUE(eventually([&] { return !server.connected(); }));
    // The second one comes a second after the first.
    EXPECT_TRUE(eventually([&] {
      return lines.count("accept: ") == static_cast<std::size_t>(trouble);
    }));
  }
}

TEST_P(AcceptFailsForGoodTest, CloseDoesNotWaitForTheBackOff) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  const Plan accepts("accept4", always().error(GetParam()));
  const UniqueFd peer = exempt([&] { return connect_to(server.port()); });
  ASSERT_TRUE(eventually([&] { return accepts.calls() > 4; }));
  EXPECT_LE(seconds_of([&] { server.close(); }), 250ms + kPrompt / 4);
}

TEST_P(AcceptFailsForGoodTest, AcceptThrowsOrKeepsItsDeadline) {
  const HangGuard guard;
  Listener listener("127.0.0.1", 0);
  const UniqueFd peer = exempt([&] { return connect_to(listener.port()); });
  {
    const Plan accepts("accept4", always().error(GetParam()));
    const auto took = seconds_of([&] {
      try {
        listener.accept(200ms);
        ADD_FAILURE();
      } catch (const TimeoutError&) {
        EXPECT_EQ(GetParam(), EAGAIN);
      } catch (const ConnectionError& e) {
        ADD_FAILURE() << "the listener is not closed: " << e.what();
      } catch (const Error& e) {
        EXPECT_EQ(e.code().value(), GetParam());
      }
    });
    EXPECT_LE(took, 200ms + kPrompt);
    EXPECT_LE(accepts.calls(), 200);
  }
  EXPECT_TRUE(listener.accept(kPatience).fd);
}

INSTANTIATE_TEST_SUITE_P(Errors, AcceptFailsForGoodTest,
                         testing::Values(EPERM, EACCES, ENETDOWN, EPROTO,
                                         ECONNABORTED, EBADF, ENOTSOCK, EINVAL,
                                         EOPNOTSUPP, EFAULT, ENOSYS,
                                         EHOSTUNREACH, EMFILE, ENFILE, ENOBUFS,
                                         ENOMEM, EINTR, EAGAIN),
                         [](const auto& test) {
                           return std::string(::strerrorname_np(test.param));
                         });

TEST(AcceptTest, ConnectionThatDiedInTheQueueDelaysNobody) {
  const HangGuard guard;
  for (const int error : {ECONNABORTED, EPROTO, EPERM, ENETDOWN}) {
    const LogRecorder lines;
    OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
    server.start();
    const Plan accepts("accept4", nth(1).times(10).error(error));
    const UniqueFd peer = exempt([&] { return connect_to(server.port()); });
    EXPECT_TRUE(server.wait_connected(kPatience));
    EXPECT_EQ(accepts.injected(), 10);
    EXPECT_EQ(lines.count("accept"), 0u) << lines.text();
  }
}

// --- connect() ---

// Finding 10, for good: poll says that the socket is writable, and it is not
// connected.
TEST(ListenTest, KernelWithoutAFamilyServesTheOther) {
  const HangGuard guard;
  OneClientServer server({});
  {
    const Plan sockets("socket", nth(1).error(EAFNOSUPPORT));
    server.start();
    EXPECT_EQ(sockets.injected(), 1);
  }
  EXPECT_EQ(server.addresses().size(), 1u);
}

// Each is a trouble of its own, however many there have been.
TEST(PollTest, FailuresNowAndThenDoNotMakeTheServerDeaf) {
  const HangGuard guard;
  const LogRecorder lines;
  OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
  server.start();
  for (int i = 0; i < 12; ++i) {
    UniqueFd peer;
    {
      const Plan polls("ppoll", nth(1).error(ENOMEM));
      peer = exempt([&] { return connect_to(server.port()); });
      ASSERT_TRUE(eventually([&] { return polls.injected() > 0; }));
    }
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(server.wait_connected(kPatience));
    // 5 ms each; 5 ms, 10 ms, ... 1 s if they added up.
    EXPECT_LT(std::chrono::steady_clock::now() - start, 500ms);
    peer.reset();
    ASSERT_TRUE(eventually([&] { return !server.connected(); }));
  }
}

// What lingers may be what makes poll() fail: too many descriptors.
TEST(PollTest, WhatLingersIsLetGoThoughPollFails) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  const UniqueFd first = connect_to(server.port());
  ASSERT_TRUE(server.wait_connected(kPatience));
  const auto before = tcpip_testing::open_descriptors().size();
  const UniqueFd stays = connect_to(server.port());
  ASSERT_TRUE(eventually(
      [&] { return tcpip_testing::open_descriptors().size() == before + 2; }));
  const Plan polls("ppoll", always().error(EINVAL));
  server.close_client();  // so that the accept thread polls
  EXPECT_TRUE(eventually(
      [&] { return tcpip_testing::open_descriptors().size() <= before + 1; }));
}

// The accept thread lingers for a client that it has turned away, for a second.
TEST(AcceptTest, LingeringIsNoBusyLoopIfReceivingIsRefused) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  const UniqueFd first = connect_to(server.port());
  ASSERT_TRUE(server.wait_connected(kPatience));
  const auto before = tcpip_testing::open_descriptors().size();
  const Plan receives("recv", always().error(EAGAIN));
  const UniqueFd stays = connect_to(server.port());
  exempt([&] { send_all(stays, "not read"); });
  ASSERT_TRUE(eventually([&] { return receives.calls() > 4; }));
  EXPECT_TRUE(eventually(
      [&] { return tcpip_testing::open_descriptors().size() == before + 1; }));
  EXPECT_LE(receives.calls(), 2000);  // one each millisecond
}

TEST(ConnectTest, EndsIfEveryCallIsInterrupted) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  for (const Wait& wait : {Wait(), Wait(100ms), Wait::none()}) {
    Plan connects("connect", always().error(EINTR));
    const auto took = seconds_of([&] {
      EXPECT_THROW(open_connection("127.0.0.1", listener.port, wait), Error);
    });
    connects.lift();
    EXPECT_LE(took, 100ms + kPrompt);
    EXPECT_LE(connects.calls(), 50);
  }
}

// Whatever fails for one address, the others are tried, and nothing is left
// open: the leak guard looks.
TEST(ConnectTest, FaultThatMeetsOneAddressLeavesTheOthers) {
  const HangGuard guard;
  Listener listener("127.0.0.1", 0);
  const Address address = resolve("127.0.0.1", listener.port()).front();
  const std::vector<Address> addresses(4, address);
  const struct {
    const char* call;
    int error;
  } faulty[] = {{"socket", EMFILE},        {"socket", EAFNOSUPPORT},
                {"connect", EHOSTUNREACH}, {"connect", EINTR},
                {"eventfd", EMFILE},       {"ppoll", ENOMEM},
                {"ppoll", EINTR},          {"getsockopt", ENOBUFS},
                {"getpeername", ENOTCONN}, {"getsockname", ENOBUFS},
                {"fcntl", EPERM}};
  for (const auto& [call, error] : faulty) {
    for (int count = 1; count <= 3; ++count) {
      SCOPED_TRACE(std::string(call) + " " + ::strerrorname_np(error));
      const Plan plan(call, nth(1).times(count).error(error).here());
      const auto took = seconds_of([&] {
        EXPECT_NE(connect_socket(addresses, {}, {}, kPatience, "peer"),
                  nullptr);
      });
      EXPECT_LE(took, kPrompt);
      EXPECT_GT(plan.injected(), 0);
    }
    while (listener.try_accept(0).status == IoStatus::kOk) {
    }
  }
}

TEST(ConnectTest, FaultThatLastsIsAnError) {
  const HangGuard guard;
  Listener listener("127.0.0.1", 0);
  const Address address = resolve("127.0.0.1", listener.port()).front();
  const std::vector<Address> addresses(4, address);
  for (const char* call : {"socket", "connect", "eventfd", "ppoll",
                           "getsockopt", "getpeername", "fcntl"}) {
    SCOPED_TRACE(call);
    const Plan plan(call, always().error(ENOMEM).here());
    EXPECT_THROW(connect_socket(addresses, {}, {}, kPatience, "peer"), Error);
  }
}

// --- setsockopt() ---

struct OptionOfTcp {
  int option;
  const char* name;
};
constexpr OptionOfTcp kOptionsOfTcp[] = {
    {TCP_NODELAY, "TCP_NODELAY"},
    {TCP_KEEPIDLE, "TCP_KEEPIDLE"},
    {TCP_KEEPINTVL, "TCP_KEEPINTVL"},
    {TCP_KEEPCNT, "TCP_KEEPCNT"},
    {TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"}};

// While the plan lives, the kernel does not have the option.
Rule unknown(int option) { return always().of_tcp(option).error(ENOPROTOOPT); }

void expect_all_but(int unknown, int fd) {
  const struct {
    int option;
    int value;
  } all[] = {{TCP_NODELAY, 1},
             {TCP_KEEPIDLE, 60},
             {TCP_KEEPINTVL, 15},
             {TCP_KEEPCNT, 4},
             {TCP_USER_TIMEOUT, 120'000}};
  for (const auto& [option, value] : all) {
    if (option == unknown) continue;
    EXPECT_EQ(socket_option(fd, IPPROTO_TCP, option), value) << option;
  }
}

// B3.
TEST(OptionTest, ClientConnectsWithoutOneThatTheKernelLacksAndWarns) {
  const HangGuard guard;
  for (const auto& [option, name] : kOptionsOfTcp) {
    const auto listener =
        tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
    const LogRecorder lines;
    const Plan options("setsockopt", unknown(option));
    Client client({.host = "127.0.0.1",
                   .port = listener.port,
                   .log = lines.log(LogLevel::kWarning)});
    client.start(kPatience);
    EXPECT_EQ(lines.text(),
              std::string(name) + " cannot be set: Protocol not available\n");
    const UniqueFd peer = exempt([&] { return accept_one(listener); });
    const auto fd = tcpip_tests::socket_connected_to(listener.port);
    ASSERT_TRUE(fd.has_value());
    expect_all_but(option, *fd);
    auto [reader, writer] =
        open_connection("127.0.0.1", listener.port, kPatience);
    expect_all_but(option, writer.native_handle());
  }
}

TEST(OptionTest, ServerWarnsOnceForAllItsClients) {
  const HangGuard guard;
  for (const auto& [option, name] : kOptionsOfTcp) {
    const LogRecorder lines;
    OneClientServer server(
        {.host = "127.0.0.1", .log = lines.log(LogLevel::kWarning)});
    const Plan options("setsockopt", unknown(option));
    server.start();
    for (std::uint64_t i = 1; i <= 5; ++i) {
      const UniqueFd peer = exempt([&] { return connect_to(server.port()); });
      ASSERT_TRUE(eventually([&] { return server.connection_count() == i; }));
      const auto fd =
          tcpip_tests::socket_connected_to(tcpip_tests::local_port(peer.get()));
      ASSERT_TRUE(fd.has_value());
      expect_all_but(option, *fd);
      server.close_client();
    }
    // Once on the listening socket, whose connections would inherit it.
    EXPECT_EQ(options.calls(), 1 + 5);
    EXPECT_EQ(lines.text(),
              std::string(name) + " cannot be set: Protocol not available\n");
  }
}

TEST(OptionTest, ConnectionsOfAServerInheritTheOptionsOfItsListeningSocket) {
  const HangGuard guard;
  const LogRecorder lines;
  OneClientServer server(
      {.host = "127.0.0.1", .log = lines.log(LogLevel::kWarning)});
  server.start();
  // Counts, and fails none.
  const Plan options("setsockopt", nth(1'000'000'000).error(EINVAL));
  const UniqueFd peer = exempt([&] { return connect_to(server.port()); });
  ASSERT_TRUE(server.wait_connected(kPatience));
  expect_all_but(0, server.connection().native_handle());
  EXPECT_EQ(options.calls(), 0);
  EXPECT_EQ(lines.text(), "");
}

TEST(OptionTest, ConnectionsOfADescriptorThatWasHandedOverHaveThemToo) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  OneClientServer server({.listen = {.descriptors = {listener.fd.get()}}});
  server.start();
  const UniqueFd peer = connect_to(listener.port);
  ASSERT_TRUE(server.wait_connected(kPatience));
  expect_all_but(0, server.connection().native_handle());
}

TEST(OptionTest, WhatIsZeroIsNotSet) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  for (const int option :
       {TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT}) {
    const LogRecorder lines;
    const Plan options("setsockopt", unknown(option));
    Client client({.host = "127.0.0.1",
                   .port = listener.port,
                   .log = lines.log(LogLevel::kWarning),
                   .socket = {.keepalive_time = 0s,
                              .keepalive_interval = 0s,
                              .keepalive_probes = 0,
                              .user_timeout = 0ms}});
    client.start(kPatience);
    EXPECT_EQ(options.calls(), 0);
    EXPECT_EQ(lines.text(), "");
  }
}

}  // namespace
}  // namespace tcpip
