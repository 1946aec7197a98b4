// A JSON message for which there is no memory stays where it is.
#include <gtest/gtest.h>

#include <cerrno>
#include <new>
#include <optional>
#include <string>

#include "tcpip/json.h"
#include "tests/support/faults.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"

namespace tcpip_tests {
namespace {

using faults::nth;
using faults::Plan;

const std::string kText =
    R"({"name": "a name that does not fit into a string",)"
    R"( "values": [1, 2.5, null, [true, {}]]})";

// Makes each allocation of read() fail in turn. Returns how many have failed.
template <class Read>
int read_with_failing_memory(const tcpip::UniqueFd& peer, Read read) {
  for (int n = 1;; ++n) {
    send_all(peer, kText + "\r\n");
    Plan plan("new", nth(n).error(ENOMEM).here());
    std::optional<nlohmann::json> got;
    try {
      got = read();
    } catch (const std::bad_alloc&) {
    }
    // Before anything of nlohmann's is destroyed, which takes memory.
    plan.lift();
    if (!got) got = read();
    EXPECT_EQ(*got, nlohmann::json::parse(kText)) << n;
    if (plan.injected() == 0) return n - 1;
  }
}

TEST(JsonFaultTest, MessageStaysIfThereIsNoMemoryForIt) {
  ServedStage server;
  EXPECT_GT(
      read_with_failing_memory(
          server.peer, [&] { return tcpip::read_json(*server, kPatience); }),
      10);
  EXPECT_GT(read_with_failing_memory(server.peer,
                                     [&]() -> nlohmann::json {
                                       server->wait_readable(kPatience);
                                       return *tcpip::try_read_json(*server);
                                     }),
            10);
}

}  // namespace
}  // namespace tcpip_tests
