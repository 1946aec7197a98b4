// The example programs that have a peer in Python, examples/NAME_peer.py, which
// plays the other end and says what is wrong.
#include <gtest/gtest.h>

#include <iostream>
#include <string>

#include "tests/support/hang_guard.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

class ExamplePeers : public testing::TestWithParam<const char*> {
 private:
  HangGuard guard_;
};

TEST_P(ExamplePeers, FindNothingWrong) {
  const std::string program = std::string("examples/") + GetParam();
  Subprocess peer({"python3", "-B", "-u", "-X", "utf8",
                   find_file(program + "_peer.py"), find_file(program)},
                  Subprocess::Errors::kWithOutput);
  std::string line;
  do {
    line = peer.read_line();
    std::cout << line << std::endl;
  } while (line != "python: all of it was right");
  EXPECT_EQ(peer.wait(), 0);
}

INSTANTIATE_TEST_SUITE_P(Of, ExamplePeers,
                         testing::Values("command_telemetry_server",
                                         "reconnecting_client",
                                         "telemetry_client"),
                         [](const auto& test) {
                           return std::string(test.param);
                         });

}  // namespace
}  // namespace tcpip_tests
