// A few seconds of the soak, so that it is always right.
#include "tests/endurance/soak.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

using namespace std::chrono_literals;

TEST(SoakTest, NothingIsWrongInFiveSeconds) {
  const std::string program = find_file("tests/endurance/soak");
  ASSERT_NE(program, "");
  EXPECT_EQ(
      run_soak(
          {.time = 5s, .seed = std::random_device()(), .program = program}),
      0);
}

}  // namespace
}  // namespace tcpip_tests
