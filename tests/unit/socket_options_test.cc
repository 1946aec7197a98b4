#include "tcpip/net/socket_options.h"

#include <gtest/gtest.h>

#include <chrono>
#include <climits>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/connect.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tests/support/loopback.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kLongestUserTimeout{INT_MAX};

TEST(SocketOptions, RangesAreThoseOfTheKernel) {
  const auto message = [](const SocketOptions& options) -> std::string {
    try {
      internal::check(options, "Client");
      return "";
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
  };
  EXPECT_EQ(message({}), "");
  EXPECT_EQ(message({.keepalive_time = 32'767s,
                     .keepalive_interval = 32'767s,
                     .keepalive_probes = 127,
                     .user_timeout = kLongestUserTimeout,
                     .send_buffer = INT_MAX,
                     .receive_buffer = INT_MAX}),
            "");
  EXPECT_EQ(message({.keepalive_time = 0s,
                     .keepalive_interval = 0s,
                     .keepalive_probes = 0,
                     .user_timeout = 0ms}),
            "");
  EXPECT_EQ(message({.keepalive_time = 40'000s}),
            "Client: keepalive_time of 40000 s is not in 0...32767");
  EXPECT_EQ(message({.keepalive_interval = -1s}),
            "Client: keepalive_interval of -1 s is not in 0...32767");
  EXPECT_EQ(message({.keepalive_probes = 128}),
            "Client: keepalive_probes of 128 probes is not in 0...127");
  EXPECT_EQ(message({.user_timeout = kLongestUserTimeout + 1ms}),
            "Client: user_timeout of 2147483648 ms is not in 0...2147483647");
  EXPECT_EQ(message({.send_buffer = -1}),
            "Client: send_buffer of -1 bytes is not in 0...2147483647");
  EXPECT_EQ(message({.receive_buffer = -1}),
            "Client: receive_buffer of -1 bytes is not in 0...2147483647");
}

// A12, C14: also what would be in range once it is cut to 32 bits.
TEST(SocketOptions, EveryDoorRefusesWhatTheKernelCannotTake) {
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  for (const SocketOptions& options :
       {SocketOptions{.keepalive_time = 40'000s},
        SocketOptions{.keepalive_time = std::chrono::seconds((1LL << 32) + 60)},
        SocketOptions{.user_timeout = std::chrono::hours(50 * 24)},
        // Also if keepalive is off, and on a connection without TCP.
        SocketOptions{.keepalive = false, .keepalive_probes = 1000}}) {
    EXPECT_THROW(Client({.host = "127.0.0.1", .socket = options}),
                 std::invalid_argument);
    EXPECT_THROW(OneClientServer({.host = "127.0.0.1", .socket = options}),
                 std::invalid_argument);
    EXPECT_THROW(
        OneClientReadLoopServer({.host = "127.0.0.1", .socket = options},
                                [](Connection&, const std::stop_token&) {}),
        std::invalid_argument);
    EXPECT_THROW(open_connection("127.0.0.1", listener.port,
                                 {.socket = options}, Wait::none()),
                 std::invalid_argument);
    const Address address = resolve("127.0.0.1", listener.port).front();
    EXPECT_THROW(
        connect_socket({&address, 1}, {}, options, Wait::none(), "peer"),
        std::invalid_argument);
  }
}

TEST(EndpointOptions, ConstructorsRefuseBadPorts) {
  for (const int port : {-1, 65'536}) {
    EXPECT_THROW(Client({.host = "127.0.0.1", .connect = {.local_port = port}}),
                 std::invalid_argument);
    EXPECT_THROW(Client({.host = "127.0.0.1", .port = port}),
                 std::invalid_argument);
    EXPECT_THROW(OneClientServer({.host = "127.0.0.1", .port = port}),
                 std::invalid_argument);
  }
}

}  // namespace
}  // namespace tcpip
