// What connecting says of a network that does not let it, and how soon: each
// error's class and errno, for open_connection() and for a Client. And where a
// server listens on a system that has only half of IPv6, or none.
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/net/lookup.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/options.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/testing/log_recorder.h"
#include "tcpip/wait.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/private_network.h"
#include "tests/support/raw_client.h"
#include "tests/support/thrown.h"
#include "tests/support/two_hosts.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using Seconds = std::chrono::duration<double>;
using tcpip_tests::accept_one;
using tcpip_tests::BlockedCall;
using tcpip_tests::FileInstead;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::kTcpTransports;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::NotPermitted;
using tcpip_tests::PlainListener;
using tcpip_tests::seconds_of;
using tcpip_tests::Thrown;
using tcpip_tests::thrown_by;
using tcpip_tests::Transport;
using tcpip_tests::TwoHosts;
using tcpip_tests::write_setting;

constexpr Seconds kLate = kWithSanitizer ? 10s : 5s;
// Nobody listens there.
constexpr int kPort = 4000;

// The two ways to connect.
Thrown open_at(const std::string& host, int port, const Wait& wait,
               const ConnectOptions& connect = {}) {
  return thrown_by(
      [&] { open_connection(host, port, {.connect = connect}, wait); });
}
Thrown start_at(const std::string& host, int port, const Wait& wait,
                const ConnectOptions& connect = {}) {
  Client client({.host = host, .port = port, .connect = connect});
  const Thrown thrown = thrown_by([&] { client.start(wait); });
  EXPECT_FALSE(client.connected());
  return thrown;
}

struct Outcome {
  Thrown thrown;
  Seconds took;
};

class ConnectFaultTest : public tcpip_tests::TwoHostsTest {
 protected:
  // Tries all hosts in both ways at the same time.
  static void expect_all(const std::vector<std::string>& hosts,
                         const Thrown& expected, Seconds earliest,
                         Seconds latest, Wait wait = kPatience,
                         const ConnectOptions& connect = {}) {
    std::vector<std::unique_ptr<BlockedCall<Outcome>>> calls;
    for (const std::string& host : hosts) {
      for (const auto& way : {open_at, start_at}) {
        calls.push_back(std::make_unique<BlockedCall<Outcome>>([=] {
          Outcome outcome;
          outcome.took = seconds_of(
              [&] { outcome.thrown = way(host, kPort, wait, connect); });
          return outcome;
        }));
      }
    }
    for (std::size_t i = 0; i < calls.size(); ++i) {
      SCOPED_TRACE(hosts[i / 2] + (i % 2 == 0 ? ", stream" : ", client"));
      const Outcome outcome = calls[i]->get();
      std::printf("%s %d, %.2f s\n", outcome.thrown.kind.c_str(),
                  outcome.thrown.error, outcome.took.count());
      EXPECT_EQ(outcome.thrown, expected);
      EXPECT_GE(outcome.took, earliest);
      EXPECT_LE(outcome.took, latest);
    }
  }

  // The other host, or one beside it that does not exist.
  static std::vector<std::string> other_host() {
    return {TwoHosts::there(Transport::kIpv4),
            TwoHosts::there(Transport::kIpv6)};
  }
  static std::vector<std::string> missing_host() {
    return {"10.77.0.99", "2001:db8:77::99"};
  }
};

// --- T26 ---

TEST_F(ConnectFaultTest, PortWithoutServerRefusesAtOnce) {
  expect_all(other_host(), {"ConnectionRefusedError", ECONNREFUSED}, 0s,
             kPrompt);
}

TEST_F(ConnectFaultTest, FirewallThatIsSilentTakesTheDeadlineAndNoMore) {
  hosts().set({.lose_syn = true});
  expect_all(other_host(), {"TimeoutError", ETIMEDOUT}, 1900ms, 2s + kPrompt,
             2s);
  EXPECT_GT(hosts().hits(), 0);
}

TEST_F(ConnectFaultTest, CloseEndsAConnectThatNobodyAnswers) {
  hosts().set({.lose_syn = true});
  for (const std::string& host : other_host()) {
    Client client({.host = host, .port = kPort});
    BlockedCall start([&] { return thrown_by([&] { client.start(); }); });
    ASSERT_TRUE(start.await_blocked());
    EXPECT_LE(seconds_of([&] { client.close(); }), kPrompt);
    EXPECT_EQ(start.get(), (Thrown{"ConnectionAbortedError", ECONNABORTED}));
  }
}

// Nobody answers the question who has the address.
TEST_F(ConnectFaultTest, HostThatIsOffIsUnreachable) {
  expect_all(missing_host(), {"Error", EHOSTUNREACH}, 1s, 3.1s + kLate);
}

TEST_F(ConnectFaultTest, NetworkWithoutRouteIsUnreachableAtOnce) {
  expect_all({"192.0.2.1", "2001:db8:99::1"}, {"Error", ENETUNREACH}, 0s,
             kPrompt);
}

TEST_F(ConnectFaultTest, LocalAddressThatIsNotOursIsNotAvailable) {
  expect_all({TwoHosts::there(Transport::kIpv4)}, {"Error", EADDRNOTAVAIL}, 0s,
             kPrompt, kPatience, {.local_host = "10.77.0.50"});
  expect_all({TwoHosts::there(Transport::kIpv6)}, {"Error", EADDRNOTAVAIL}, 0s,
             kPrompt, kPatience, {.local_host = "2001:db8:77::50"});
}

// P33.
TEST_F(ConnectFaultTest, DeadIpv6CostsAQuarterOfASecond) {
  std::optional<FileInstead> names;
  try {
    names.emplace("/etc/hosts", TwoHosts::there(Transport::kIpv6) + " dome\n" +
                                    TwoHosts::there(Transport::kIpv4) +
                                    " dome\n");
  } catch (const NotPermitted& e) {
    GTEST_SKIP() << e.what();
  }
  // Else this would prove nothing.
  ASSERT_EQ(resolve("dome", kPort, kPatience).front().family(),
            AddressFamily::kIpv6);
  const PlainListener listener = hosts().listen_there(Transport::kIpv4);
  hosts().set({.lose_ipv6_tcp = true});
  const auto took = seconds_of([&] {
    Client client({.host = "dome", .port = listener.port});
    client.start(10s);
    EXPECT_EQ(client.peer_address().family(), AddressFamily::kIpv4);
  });
  EXPECT_GE(took, 250ms);
  EXPECT_LE(took, 250ms + kPrompt);
  EXPECT_GT(hosts().hits(), 0);
}

TEST_F(ConnectFaultTest, ServerNamesAnAddressOfItsHostThatIsNotThere) {
  std::optional<FileInstead> names;
  try {
    names.emplace("/etc/hosts",
                  "192.0.2.1 dome\n127.0.0.1 dome\n192.0.2.2 shutter\n");
  } catch (const NotPermitted& e) {
    GTEST_SKIP() << e.what();
  }
  const tcpip_testing::LogRecorder lines;
  OneClientServer server({.host = "dome", .log = lines.log()});
  server.start(kPatience);
  ASSERT_EQ(server.addresses().size(), 1u);
  EXPECT_EQ(server.addresses().front().host(), "127.0.0.1");
  EXPECT_TRUE(lines.wait_for(
      "not listening on 192.0.2.1: this machine does not have that address"));
  OneClientServer none({.host = "shutter", .log = lines.log()});
  EXPECT_EQ(thrown_by([&] { none.start(kPatience); }),
            (Thrown{"Error", EADDRNOTAVAIL}));
}

TEST_F(ConnectFaultTest, CloseEndsAStartThatWaitsForAnAddress) {
  OneClientServer server(
      {.host = "192.0.2.1", .listen = {.wait_for_address = true}});
  BlockedCall start([&] { return thrown_by([&] { server.start(); }); });
  ASSERT_TRUE(start.await_blocked());
  EXPECT_LE(seconds_of([&] { server.close(); }), kPrompt);
  EXPECT_EQ(start.get(), (Thrown{"ConnectionAbortedError", ECONNABORTED}));
}

// --- Names ---

class NameFaultTest : public ConnectFaultTest {
 protected:
  void SetUp() override {
    ConnectFaultTest::SetUp();
    if (IsSkipped()) return;
    try {
      // The look-ups that a deadline leaves behind end soon, all the same.
      resolver_.emplace("/etc/resolv.conf",
                        "nameserver " + TwoHosts::there(Transport::kIpv4) +
                            "\noptions timeout:2 attempts:1\n");
    } catch (const NotPermitted& e) {
      GTEST_SKIP() << e.what();
    }
  }

 private:
  std::optional<FileInstead> resolver_;
};

TEST_F(NameFaultTest, SilentNameServerTakesTheDeadlineAndNoMore) {
  hosts().set({.lose_udp = true});
  expect_all({"dome.example.org."}, {"TimeoutError", ETIMEDOUT}, 400ms,
             500ms + kPrompt, 500ms);
  EXPECT_GT(hosts().hits(), 0);
}

TEST_F(NameFaultTest, CloseDoesNotWaitForTheNameServer) {
  hosts().set({.lose_udp = true});
  Client client({.host = "dome.example.org.", .port = kPort});
  BlockedCall start([&] { return thrown_by([&] { client.start(); }); });
  ASSERT_TRUE(start.await_blocked());
  EXPECT_LE(seconds_of([&] { client.close(); }), kPrompt);
  EXPECT_EQ(start.get(), (Thrown{"ConnectionAbortedError", ECONNABORTED}));
}

TEST_F(NameFaultTest, LookUpsThatAreLeftBehindAreBounded) {
  hosts().set({.lose_udp = true});
  const int before = tcpip_testing::count_threads();
  for (int i = 0; i < 3 * internal::kMaxLookups; ++i) {
    EXPECT_EQ(open_at("dome" + std::to_string(i) + ".example.org.", kPort, 5ms),
              (Thrown{"TimeoutError", ETIMEDOUT}));
    EXPECT_LE(tcpip_testing::count_threads(), before + internal::kMaxLookups);
  }
}

TEST_F(NameFaultTest, HostWithoutNameServerIsAnErrorOfResolvingAtOnce) {
  for (const auto& way : {open_at, start_at}) {
    const auto took = seconds_of([&] {
      EXPECT_EQ(way("dome.example.org.", kPort, kPatience, {}).kind,
                "ResolveError");
    });
    EXPECT_LE(took, kPrompt);
  }
}

// --- T27: ports ---

TEST_F(ConnectFaultTest, PortsThatRanOutAreAnErrorThatSaysSo) {
  if (!write_setting("/proc/sys/net/ipv4/ip_local_port_range", "7000 7003")) {
    GTEST_SKIP() << "/proc/sys/net cannot be written";
  }
  const PlainListener listener = hosts().listen_there(Transport::kIpv4);
  const std::string host = TwoHosts::there(Transport::kIpv4);
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<UniqueFd> peers;
  const auto connect = [&] {
    clients.push_back(std::make_unique<Client>(
        ClientOptions{.host = host, .port = listener.port}));
    clients.back()->start(kPatience);
    peers.push_back(accept_one(listener));
  };
  for (int i = 0; i < 4; ++i) connect();
  EXPECT_EQ(thrown_by(connect), (Thrown{"Error", EADDRNOTAVAIL}));
  EXPECT_EQ(open_at(host, listener.port, kPatience),
            (Thrown{"Error", EADDRNOTAVAIL}));
  // When one is free again, it is used.
  tcpip_tests::reset(std::move(peers.front()));
  ASSERT_TRUE(
      tcpip_tests::eventually([&] { return !clients.front()->connected(); }));
  clients.front()->close();
  connect();
  EXPECT_TRUE(clients.back()->connected());
}

TEST_F(ConnectFaultTest, ClientNeverConnectsToItself) {
  if (!write_setting("/proc/sys/net/ipv4/ip_local_port_range", "7000 7000")) {
    GTEST_SKIP() << "/proc/sys/net cannot be written";
  }
  const Thrown self{"ConnectionRefusedError",
                    static_cast<int>(Errc::kSelfConnect)};
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(start_at("127.0.0.1", 7000, kPatience), self);
    EXPECT_EQ(start_at("::1", 7000, kPatience), self);
  }
}

// --- T28: systems with another idea of IPv6 ---

// Through which addresses of this machine a client gets in.
std::string families_served(const OneClientServer& server) {
  std::string result;
  for (const Transport transport : kTcpTransports) {
    const std::string host =
        transport == Transport::kIpv4 ? "127.0.0.1" : "::1";
    const Thrown thrown = open_at(host, server.port(), kPatience);
    if (thrown.kind.empty()) result += tcpip_tests::name_of(transport) + " "s;
  }
  return result;
}

TEST_F(ConnectFaultTest, ServerDoesWithoutIpv6WhereThereIsNone) {
  if (!write_setting("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")) {
    GTEST_SKIP() << "IPv6 cannot be disabled here";
  }
  OneClientServer server({});
  server.start(kPatience);
  // The kernel lets a server listen on [::] all the same, as asyncio's does;
  // nobody can reach that.
  EXPECT_EQ(families_served(server), "Ipv4 ");
  EXPECT_EQ(open_at("::1", server.port(), kPatience),
            (Thrown{"Error", EADDRNOTAVAIL}));
  OneClientServer six({.host = "::1"});
  EXPECT_EQ(thrown_by([&] { six.start(kPatience); }),
            (Thrown{"Error", EADDRNOTAVAIL}));
}

TEST_F(ConnectFaultTest, BindV6OnlyOfTheSystemChangesNothing) {
  for (const char* value : {"0", "1"}) {
    SCOPED_TRACE(value);
    if (!write_setting("/proc/sys/net/ipv6/bindv6only", value)) {
      GTEST_SKIP() << "/proc/sys/net cannot be written";
    }
    OneClientServer all({});
    all.start(kPatience);
    EXPECT_EQ(all.addresses().size(), 2u);
    EXPECT_EQ(families_served(all), "Ipv4 Ipv6 ");
    OneClientServer six({.host = "::"});
    six.start(kPatience);
    EXPECT_EQ(families_served(six), "Ipv6 ");
    OneClientServer four({.host = "0.0.0.0"});
    four.start(kPatience);
    EXPECT_EQ(families_served(four), "Ipv4 ");
  }
}

}  // namespace
}  // namespace tcpip
