// Tests that fail, as they should: run, one at a time, by the tests of
// //tcpip/testing.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "tcpip/testing/assertion.h"
#include "tcpip/testing/faulty_proxy.h"

namespace {

class FailingTest : public testing::Test {
 protected:
  void TearDown() override { std::puts("torn down"); }
};

int helper() { tcpip_testing::fail_test("not right"); }

TEST_F(FailingTest, FailsInAHelper) {
  helper();
  std::puts("went on");
}

TEST_F(FailingTest, LeavesADescriptor) {
  EXPECT_GE(::open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
}

TEST_F(FailingTest, FailsBehindAProxy) {
  const tcpip_testing::FaultyProxy proxy(
      {.server_port = 1, .random = tcpip_testing::RandomFaults{.seed = 4711}});
  FAIL();
}

}  // namespace
