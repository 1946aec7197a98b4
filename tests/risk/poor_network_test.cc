// What a client and a server exchange over a network that loses, delays and
// reorders, or that is slow, arrives whole and in order, within a bound: large
// data and many messages, both ways at once.
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <ostream>
#include <stop_token>
#include <string>
#include <thread>
#include <tuple>

#include "tcpip/client.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/options.h"
#include "tcpip/testing/connection_events.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/sanitizers.h"
#include "tests/support/thrown.h"
#include "tests/support/two_hosts.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using Seconds = std::chrono::duration<double>;
using tcpip_testing::ConnectionEvents;
using tcpip_tests::CableFaults;
using tcpip_tests::kPatience;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::seconds_of;
using tcpip_tests::Thrown;
using tcpip_tests::thrown_by;
using tcpip_tests::Transport;
using tcpip_tests::TwoHosts;

// Some ten times what the lossy one takes as a rule. Its worst is luck.
constexpr auto kBound = kWithSanitizer ? 100s : 45s;
constexpr int kMessages = 200;

// So many bytes, different at every place.
std::string blob(std::size_t size, unsigned seed) {
  std::string result(size, '\0');
  for (char& byte : result) {
    seed = seed * 1664525 + 1013904223;
    byte = static_cast<char>(seed >> 24);
  }
  return result;
}

// Text of different lengths, some longer than a packet.
std::string message(int i) {
  return "{\"number\": " + std::to_string(i) + ", \"text\": \"" +
         std::string(static_cast<std::size_t>(i * 37 % 2000), 'm') + "\"}";
}

struct Network {
  const char* name;
  CableFaults faults;
  std::size_t blob_size;
};
void PrintTo(const Network& network, std::ostream* out) {
  *out << network.name;
}

class PoorNetworkTest
    : public tcpip_tests::TwoHostsTest,
      public testing::WithParamInterface<std::tuple<Network, Transport>> {};

// T37.
TEST_P(PoorNetworkTest, EverythingArrivesWholeAndInOrder) {
  const auto& [network, transport] = GetParam();
  // Copies: lambdas take no structured bindings.
  const std::size_t size = network.blob_size;
  const std::string host = TwoHosts::there(transport);
  hosts().set(network.faults);
  const ConnectionEvents events;
  // Takes a blob, says what it is, and sends one; then answers messages.
  OneClientReadLoopServer server(
      {.host = host,
       .connect_callback = events.callback(),
       .begin =
           [&](Connection& client, const std::stop_token& stop) {
             const bool same = client.read_exactly(size, stop) == blob(size, 1);
             client.write_str(same ? "same" : "different", stop);
             client.write(blob(size, 2), stop);
           }},
      [](Connection& client, const std::stop_token& stop) {
        client.write_str("you said " + client.read_str(stop), stop);
      });
  hosts().on_other_host([&] { server.start(kPatience); });
  const auto took = seconds_of([&] {
    Client client({.host = host, .port = server.port()});
    client.start(kBound);
    client.write(blob(size, 1), kBound);
    EXPECT_EQ(client.read_str(kBound), "same");
    EXPECT_TRUE(client.read_exactly(size, kBound) == blob(size, 2));
    const std::jthread writer([&] {
      const Thrown thrown = thrown_by([&] {
        for (int i = 0; i < kMessages; ++i) {
          client.write_str(message(i), kBound);
        }
      });
      EXPECT_EQ(thrown, Thrown());
    });
    for (int i = 0; i < kMessages; ++i) {
      ASSERT_EQ(client.read_str(kBound), "you said " + message(i));
    }
  });
  std::printf("%s, %s: %.2f s, %d lost\n", network.name,
              tcpip_tests::name_of(transport), took.count(), hosts().hits());
  EXPECT_LE(took, kBound);
  events.assert_next_connected(true);
  events.assert_next_disconnected(DisconnectReason::kPeerClosed);
  server.close();
  events.assert_none();
  EXPECT_TRUE(hosts().hits() > 0 || network.faults.loss == 0);
}

INSTANTIATE_TEST_SUITE_P(
    Networks, PoorNetworkTest,
    testing::Combine(testing::Values(Network{"Loses", {.loss = 0.2}, 1 << 20},
                                     Network{"DelaysAndReorders",
                                             {.delay = 20ms, .jitter = 20ms},
                                             1 << 20},
                                     Network{"IsSlow",
                                             {.bytes_per_second = 125'000},
                                             1 << 18}),
                     testing::ValuesIn(tcpip_tests::kTcpTransports)),
    [](const auto& test) {
      return std::get<0>(test.param).name +
             std::string(tcpip_tests::name_of(std::get<1>(test.param)));
    });

}  // namespace
}  // namespace tcpip
