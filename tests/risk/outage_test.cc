// Outages of a network that two hosts share, as programs meet them: a client
// that stays connected comes back after each; a host that was restarted gets
// its place back; the tap and the statistics tell what happened. Network
// namespaces, see tests/support/two_hosts.h.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/one_client_server.h"
#include "tcpip/options.h"
#include "tcpip/periodic_sender.h"
#include "tcpip/reconnecting_client.h"
#include "tcpip/send_result.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/leak_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/two_hosts.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::ConnectionEvents;
using tcpip_testing::kPatience;
using tcpip_tests::eventually;
using tcpip_tests::kTcpTransports;
using tcpip_tests::Transport;
using tcpip_tests::TwoHosts;

// On the other host: a server that sends telemetry, and lets a client that
// comes back take the place of what is left of it.
class TelemetryServer {
 public:
  TelemetryServer(const TwoHosts& hosts, Transport transport) {
    hosts.on_other_host([&] {
      server_.emplace(
          ServerOptions{.host = TwoHosts::there(transport),
                        .admission = {.when_busy = WhenBusy::kTakeOver}});
      server_->start(kPatience);
      telemetry_.emplace(
          *server_, PeriodicSenderOptions{.period = 20ms},
          [](const Connection& client) { return client.send("tick\r\n"); });
    });
  }

  OneClientServer& operator*() { return *server_; }
  OneClientServer* operator->() { return &*server_; }

 private:
  std::optional<OneClientServer> server_;
  std::optional<PeriodicSender> telemetry_;
};

// A client that stays connected, and counts what comes.
class Listener {
 public:
  explicit Listener(Transport transport, int port)
      : client_({.host = TwoHosts::there(transport),
                 .port = port,
                 .connect_callback = events.callback()},
                [this](Connection& server, const std::stop_token& stop) {
                  server.read_str(stop);
                  ++ticks;
                },
                {.connect_timeout = 500ms,
                 .silence_timeout = 1s,
                 .first = 20ms,
                 .longest = 100ms}) {
    client_.start();
  }

  bool hears() {
    const int before = ticks;
    return eventually([&] { return ticks > before + 3; });
  }
  ReconnectingClient* operator->() { return &client_; }

  const ConnectionEvents events;
  std::atomic<int> ticks = 0;

 private:
  ReconnectingClient client_;
};

class OutageTest : public tcpip_tests::TwoHostsTest {};

TEST_F(OutageTest, AClientThatStaysConnectedComesBackAfterEach) {
  for (const Transport transport : kTcpTransports) {
    const tcpip_testing::LeakSnapshot before;
    {
      TelemetryServer server(hosts(), transport);
      Listener client(transport, server->port());
      for (int outage = 1; outage <= 3; ++outage) {
        EXPECT_TRUE(client.hears()) << outage;
        hosts().cut();
        EXPECT_TRUE(eventually([&] { return !client->connected(); }));
        hosts().restore();
      }
      EXPECT_TRUE(client.hears());
      client->close();
      std::vector<std::string> ends;
      for (const ConnectionEvent& event : client.events.values()) {
        // A try may have failed before the cable was whole again.
        if (event.reason == DisconnectReason::kConnectFailed) continue;
        if (!event.connected) ends.emplace_back(to_string(event.reason));
      }
      EXPECT_EQ(ends, (std::vector<std::string>{"silent", "silent", "silent",
                                                "closed here"}));
      EXPECT_EQ(client->stats().connections, 4u);
      EXPECT_EQ(server->stats().rejected, 0u);
    }
    EXPECT_TRUE(before.is_restored());
  }
}

// Nothing gets through for longer than a try takes: told once.
TEST_F(OutageTest, ALongOneIsToldOnceHoweverManyTriesFail) {
  TelemetryServer server(hosts(), Transport::kIpv4);
  Listener client(Transport::kIpv4, server->port());
  EXPECT_TRUE(client.hears());
  hosts().cut();
  EXPECT_TRUE(eventually([&] { return client->stats().failed_connects >= 3; }));
  hosts().restore();
  EXPECT_TRUE(client.hears());
  ASSERT_TRUE(client.events.wait_for(4));
  EXPECT_EQ(client.events.text(),
            "connected 1, silent 1, connect failed 0, connected 2");
}

// Each server has its client back, and nobody else's.
TEST_F(OutageTest, AStormOfClientsComesBack) {
  constexpr int kPairs = 8;
  const tcpip_testing::LeakSnapshot before;
  {
    std::list<TelemetryServer> servers;
    std::list<Listener> clients;
    for (int i = 0; i < kPairs; ++i) {
      servers.emplace_back(hosts(), Transport::kIpv4);
      clients.emplace_back(Transport::kIpv4, servers.back()->port());
    }
    for (Listener& client : clients) EXPECT_TRUE(client.hears());
    hosts().cut();
    for (Listener& client : clients) {
      EXPECT_TRUE(eventually([&] { return !client->connected(); }));
    }
    hosts().restore();
    for (Listener& client : clients) EXPECT_TRUE(client.hears());
    for (TelemetryServer& server : servers) {
      EXPECT_EQ(server->stats().connections, 2u);
    }
  }
  EXPECT_TRUE(before.is_restored());
}

// A host that was restarted: of its old connection nothing is left there, and
// keepalive would need two minutes to find that.
TEST_F(OutageTest, ASilentClientMakesWayForTheRestartedOne) {
  for (const Transport transport : kTcpTransports) {
    const ConnectionEvents events;
    OneClientServer server(
        {.host = TwoHosts::here(transport),
         .connect_callback = events.callback(),
         .admission = {.when_busy = WhenBusy::kTakeOverIfSilent,
                       .silent_for = 300ms}});
    server.start(kPatience);
    UniqueFd old = hosts().connect_from_there(transport, server.port());
    events.assert_next_connected(true);
    if (!tcpip_tests::vanish(std::move(old))) {
      GTEST_SKIP() << "TCP_REPAIR needs CAP_NET_ADMIN";
    }
    UniqueFd again;
    EXPECT_TRUE(eventually([&] {
      const std::uint64_t rejected = server.stats().rejected;
      again = hosts().connect_from_there(transport, server.port());
      EXPECT_TRUE(eventually([&] {
        return server.connection_count() == 2 ||
               server.stats().rejected > rejected;
      }));
      return server.connection_count() == 2;
    }));
    events.assert_next_disconnected(DisconnectReason::kReplaced);
    events.assert_next_connected(true);
    tcpip_tests::send_all(again, "back\r\n");
    EXPECT_EQ(server.read_str(kPatience), "back");
  }
}

}  // namespace
}  // namespace tcpip
