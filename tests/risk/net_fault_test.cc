// System calls of the net floor that fail for good, or that report what is not
// so, for as long as the test wants: what the library then does is bounded, and
// it goes on when they work again.
//
// The calls are caught at link time (-Wl,--wrap=..., see BUILD.bazel).
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/wait_until.h"

namespace {

// With what accept4() fails, and how often: -1 is for good.
std::atomic<int> accept_error{0};
std::atomic<int> accept_failures{0};
std::atomic<int> accept_calls{0};
// With what connect() fails for good, without doing anything.
std::atomic<int> connect_error{0};
std::atomic<int> connect_calls{0};
// The option of IPPROTO_TCP that does not exist here.
std::atomic<int> unknown_option{0};
std::atomic<int> option_calls{0};
// The calls of the test's own sockets work.
thread_local bool is_exempt = false;

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" {

int __real_accept4(int fd, sockaddr* address, socklen_t* size, int flags);
int __wrap_accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  ++accept_calls;
  if (accept_failures != 0) {
    if (accept_failures > 0) --accept_failures;
    return errno = accept_error, -1;
  }
  return __real_accept4(fd, address, size, flags);
}

int __real_connect(int fd, const sockaddr* address, socklen_t size);
int __wrap_connect(int fd, const sockaddr* address, socklen_t size) {
  ++connect_calls;
  if (connect_error != 0) return errno = connect_error, -1;
  return __real_connect(fd, address, size);
}

int __real_setsockopt(int fd, int level, int name, const void* value,
                      socklen_t size);
int __wrap_setsockopt(int fd, int level, int name, const void* value,
                      socklen_t size) {
  if (!is_exempt && level == IPPROTO_TCP && name == unknown_option) {
    ++option_calls;
    return errno = ENOPROTOOPT, -1;
  }
  return __real_setsockopt(fd, level, name, value, size);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::LogRecorder;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::seconds_of;
using tcpip_tests::socket_option;

// While it lives, accept4() fails; the first `times` calls only, if given.
class AcceptFails {
 public:
  explicit AcceptFails(int error, int times = -1) {
    accept_calls = 0;
    accept_error = error;
    accept_failures = times;
  }
  ~AcceptFails() { accept_failures = 0; }
  AcceptFails(const AcceptFails&) = delete;
  AcceptFails& operator=(const AcceptFails&) = delete;
};

UniqueFd connect_to(int port) {
  is_exempt = true;
  UniqueFd peer = tcpip_tests::connect_to(port);
  is_exempt = false;
  return peer;
}

std::chrono::microseconds cpu_time() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::chrono::seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         std::chrono::microseconds(usage.ru_utime.tv_usec +
                                   usage.ru_stime.tv_usec);
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
    const AcceptFails fails(GetParam());
    peer = connect_to(server.port());
    ASSERT_TRUE(lines.wait_for("accept: "));
    const auto before = cpu_time();
    // How often in that time is the question.
    EXPECT_FALSE(server.wait_connected(300ms));
    // 5, 10, 20, 40, 80, 160 ms: seven rounds, of 64 calls each if the errno is
    // of one connection; with EAGAIN a hundred before the first.
    EXPECT_LE(accept_calls, 64 * 7 + 100);
    if (!kWithSanitizer) {
      EXPECT_LE(cpu_time() - before, 30ms);
    }
    EXPECT_EQ(lines.count("accept: "), 1u) << lines.text();
  }
  EXPECT_TRUE(server.wait_connected(1100ms + kPrompt));
}

TEST_P(AcceptFailsForGoodTest, CloseDoesNotWaitForTheBackOff) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  const AcceptFails fails(GetParam());
  const UniqueFd peer = connect_to(server.port());
  ASSERT_TRUE(eventually([] { return accept_calls > 4; }));
  EXPECT_LE(seconds_of([&] { server.close(); }), 250ms + kPrompt / 4);
}

TEST_P(AcceptFailsForGoodTest, AcceptThrowsOrKeepsItsDeadline) {
  const HangGuard guard;
  Listener listener("127.0.0.1", 0);
  const UniqueFd peer = connect_to(listener.port());
  {
    const AcceptFails fails(GetParam());
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
    EXPECT_LE(accept_calls, 200);
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
    const AcceptFails fails(error, 10);
    const UniqueFd peer = connect_to(server.port());
    EXPECT_TRUE(server.wait_connected(kPatience));
    EXPECT_EQ(accept_failures, 0);
    EXPECT_EQ(lines.count("accept"), 0u) << lines.text();
  }
}

// --- connect() ---

// Finding 10, for good: poll says that the socket is writable, and it is not
// connected.
TEST(ConnectTest, EndsIfEveryCallIsInterrupted) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  for (const Wait& wait : {Wait(), Wait(100ms), Wait::none()}) {
    connect_calls = 0;
    connect_error = EINTR;
    const auto took = seconds_of([&] {
      EXPECT_THROW(open_connection("127.0.0.1", listener.port, wait), Error);
    });
    connect_error = 0;
    EXPECT_LE(took, 100ms + kPrompt);
    EXPECT_LE(connect_calls, 50);
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

class UnknownOption {
 public:
  explicit UnknownOption(int option) {
    option_calls = 0;
    unknown_option = option;
  }
  ~UnknownOption() { unknown_option = 0; }
  UnknownOption(const UnknownOption&) = delete;
  UnknownOption& operator=(const UnknownOption&) = delete;
};

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
    const UnknownOption unknown(option);
    Client client({.host = "127.0.0.1",
                   .port = listener.port,
                   .log = lines.log(LogLevel::kWarning)});
    client.start(kPatience);
    EXPECT_EQ(lines.text(),
              std::string(name) + " cannot be set: Protocol not available\n");
    is_exempt = true;
    const UniqueFd peer = tcpip_tests::accept_one(listener);
    is_exempt = false;
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
    server.start();
    const UnknownOption unknown(option);
    for (std::uint64_t i = 1; i <= 5; ++i) {
      const UniqueFd peer = connect_to(server.port());
      ASSERT_TRUE(eventually([&] { return server.connection_count() == i; }));
      const auto fd =
          tcpip_tests::socket_connected_to(tcpip_tests::local_port(peer.get()));
      ASSERT_TRUE(fd.has_value());
      expect_all_but(option, *fd);
      server.close_client();
    }
    EXPECT_EQ(option_calls, 5);
    EXPECT_EQ(lines.text(),
              std::string(name) + " cannot be set: Protocol not available\n");
  }
}

TEST(OptionTest, WhatIsZeroIsNotSet) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  for (const int option :
       {TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT}) {
    const LogRecorder lines;
    const UnknownOption unknown(option);
    Client client({.host = "127.0.0.1",
                   .port = listener.port,
                   .log = lines.log(LogLevel::kWarning),
                   .socket = {.keepalive_time = 0s,
                              .keepalive_interval = 0s,
                              .keepalive_probes = 0,
                              .user_timeout = 0ms}});
    client.start(kPatience);
    EXPECT_EQ(option_calls, 0);
    EXPECT_EQ(lines.text(), "");
  }
}

}  // namespace
}  // namespace tcpip
