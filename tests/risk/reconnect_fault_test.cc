// A ReconnectingClient whose system calls, allocations and look-ups fail:
// whatever fails, it is connected again soon after the trouble has passed, its
// events have an order, close() ends it, and nothing is left behind.
#include <gtest/gtest.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/log.h"
#include "tcpip/reconnecting_client.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/testing/log_recorder.h"
#include "tcpip/unique_fd.h"
#include "tests/support/faults.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
namespace faults = tcpip_tests::faults;
using faults::Exempt;
using faults::Plan;
using tcpip_testing::ConnectionEvents;
using tcpip_testing::LeakSnapshot;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::seconds_of;

constexpr ReconnectOptions kQuick{
    .first = 1ms, .longest = 2ms, .finish_time = 10ms};

// Accepts whoever comes, and sends each a line. No fault meets it.
class Server {
 public:
  Server() {
    accepting_ = std::jthread([this](const std::stop_token& stop) {
      const Exempt mine;
      try {
        for (;;) {
          UniqueFd fd = listener_.accept(stop).fd;
          // The client may have gone already.
          ::send(fd.get(), "x\r\n", 3, MSG_NOSIGNAL);
          const std::lock_guard lock(mutex_);
          peers_.push_back(std::move(fd));
        }
      } catch (const CancelledError&) {
      }
    });
  }
  int port() const { return listener_.port(); }
  void drop_all() {
    const std::lock_guard lock(mutex_);
    peers_.clear();
  }

 private:
  Listener listener_{"127.0.0.1", 0};
  std::mutex mutex_;
  std::vector<UniqueFd> peers_;
  std::jthread accepting_;
};

// "" if the events are in an order that there can be.
std::string complaint(const std::vector<ConnectionEvent>& events) {
  bool connected = false;
  bool told = false;  // of this outage
  std::uint64_t number = 0;
  for (const ConnectionEvent& event : events) {
    const bool failed = event.reason == DisconnectReason::kConnectFailed;
    const std::uint64_t its = event.connection.number();
    if (event.connected) {
      if (connected || its != number + 1) return "connected out of turn";
      number = its;
      connected = true;
      told = false;
    } else if (failed) {
      if (connected || told || its != 0) return "failure out of turn";
      if (!event.error) return "failure without an error";
      told = true;
    } else {
      if (!connected || its != number) return "disconnected out of turn";
      connected = false;
    }
  }
  return "";
}

// A life with two connections. Says how often the fault was met.
int live(std::string_view call, const faults::Rule& rule, bool has_handler) {
  std::optional<Exempt> mine(std::in_place);
  const LeakSnapshot before;
  int injected = 0;
  {
    Server server;
    const ConnectionEvents events;
    const auto record = [&events](const ConnectionEvent& event) {
      const Exempt test;
      events.callback()(event);
    };
    const ReconnectingClient::ReadHandler read =
        [](Connection& peer, const std::stop_token& stop) {
          peer.read_str(stop);
        };
    Plan plan(call, rule);
    mine.reset();
    const ClientOptions options{
        .host = "127.0.0.1", .port = server.port(), .connect_callback = record};
    std::optional<ReconnectingClient> client;
    try {
      if (has_handler) {
        client.emplace(options, read, kQuick);
      } else {
        client.emplace(options, kQuick);
      }
      client->start();
    } catch (const Error&) {
      client.reset();
    } catch (const std::bad_alloc&) {
      client.reset();
    }
    mine.emplace();
    for (std::uint64_t i = 1; client && i <= 2; ++i) {
      EXPECT_TRUE(eventually([&] {
        if (i == 2 && client->connection_count() == 1) server.drop_all();
        return client->connection_count() >= i && client->connected();
      })) << call
          << ": " << events.text();
    }
    EXPECT_LE(seconds_of([&] { client.reset(); }), kPrompt) << call;
    plan.lift();
    injected = plan.injected();
    EXPECT_EQ(complaint(events.values()), "") << call << ": " << events.text();
  }
  EXPECT_TRUE(before.is_restored()) << call;
  return injected;
}

struct Fault {
  const char* call;
  int error;
};

class ReconnectFaultTest : public testing::TestWithParam<Fault> {};

// The nth call fails, for n = 1, 2, ... until a life does not meet it.
TEST_P(ReconnectFaultTest, IsConnectedAgainWhicheverCallFails) {
  const HangGuard guard(kWithSanitizer ? 300 : 100);
  const auto [call, error] = GetParam();
  for (const bool has_handler : {false, true}) {
    int n = 1;
    while (n < 400 && !HasFailure() &&
           live(call, faults::nth(n).error(error), has_handler) > 0) {
      ++n;
    }
    EXPECT_GT(n, 1) << "no life meets it";
    EXPECT_LT(n, 400);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Calls, ReconnectFaultTest,
    testing::Values(Fault{"socket", EMFILE}, Fault{"connect", ENETUNREACH},
                    Fault{"eventfd", EMFILE}, Fault{"setsockopt", ENOPROTOOPT},
                    Fault{"thread", EAGAIN}, Fault{"new", ENOMEM}),
    [](const auto& test) { return std::string(test.param.call); });

TEST(ReconnectPollTest, PollThatFailsNowAndThenDelaysNothingForLong) {
  const HangGuard guard;
  for (const int n : {1, 2, 3, 5, 8}) {
    live("ppoll", faults::nth(n).error(ENOMEM), /*has_handler=*/false);
  }
}

TEST(ReconnectTriesTest, OnlyThoseThatFailInARowCount) {
  const HangGuard guard;
  Server server;
  ReconnectOptions reconnect = kQuick;
  reconnect.tries = 3;
  ReconnectingClient client({.host = "127.0.0.1", .port = server.port()},
                            reconnect);
  for (std::uint64_t i = 1; i <= 2; ++i) {
    const Plan fails("connect", faults::nth(1).times(2).error(ECONNREFUSED));
    if (i == 1) client.start();
    ASSERT_TRUE(eventually([&] {
      if (i == 2 && client.connection_count() == 1) server.drop_all();
      return client.connection_count() == i && client.connected();
    }));
    EXPECT_EQ(fails.injected(), 2);
  }
}

TEST(ReconnectOptionTest, OneThatTheKernelRefusesIsLoggedOnce) {
  const HangGuard guard;
  Server server;
  const tcpip_testing::LogRecorder lines;
  const Plan options(
      "setsockopt",
      faults::always().of_tcp(TCP_USER_TIMEOUT).error(ENOPROTOOPT));
  ReconnectingClient client({.host = "127.0.0.1",
                             .port = server.port(),
                             .log = lines.log(LogLevel::kWarning)},
                            kQuick);
  client.start();
  ASSERT_TRUE(eventually([&] {
    server.drop_all();
    return client.connection_count() >= 4;
  }));
  client.close();
  EXPECT_EQ(lines.count("TCP_USER_TIMEOUT cannot be set"), 1u);
}

// A name server that comes and goes. Each try asks it anew.
TEST(ReconnectLookUpTest, ConnectsWhenTheNameIsKnownAgain) {
  const HangGuard guard;
  Server server;
  const ConnectionEvents events;
  ReconnectingClient client({.host = "localhost",
                             .port = server.port(),
                             .connect_callback = events.callback(),
                             .connect = {.family = AddressFamily::kIpv4}},
                            kQuick);
  for (std::uint64_t i = 1; i <= 2; ++i) {
    Plan look_ups("getaddrinfo", faults::always().error(EAI_AGAIN));
    if (i == 1) client.start();
    ASSERT_TRUE(eventually([&] {
      server.drop_all();
      return look_ups.calls() >= 5;
    }));
    EXPECT_FALSE(client.connected());
    look_ups.lift();
    ASSERT_TRUE(eventually(
        [&] { return client.connection_count() == i && client.connected(); }));
  }
  ASSERT_TRUE(events.wait_for(5));
  EXPECT_EQ(events.text(),
            "connect failed 0, connected 1, peer closed 1, "
            "connect failed 0, connected 2");
}

}  // namespace
}  // namespace tcpip
