#include <gtest/gtest.h>

#include <string>

#include "tcpip/testing/assertion.h"
#include "tests/support/failures.h"
#include "tests/support/subprocess.h"

namespace tcpip_testing {
namespace {

using tcpip_tests::Failures;
using tcpip_tests::failures_of;
using tcpip_tests::is_one_fatal;

int helper(Caller caller = Caller::here()) { fail_test("not right", caller); }

TEST(TestingAssertionTest, FailsFatallyAndEndsTheTest) {
  EXPECT_TRUE(is_one_fatal(failures_of([] { fail_test("broken"); }), "broken"));
}

TEST(TestingAssertionTest, ReportsWhereTheHelperIsCalled) {
  int line = 0;
  const Failures failures = failures_of([&] {
    line = __LINE__ + 1;
    helper();
  });
  EXPECT_TRUE(is_one_fatal(failures, "not right"));
  EXPECT_EQ(failures.line, line);
}

TEST(TestingAssertionTest, ExceptionThatIsCaughtLeavesTheFailure) {
  const Failures failures = failures_of([] {
    try {
      helper();
    } catch (const std::exception& e) {
      EXPECT_NE(std::string(e.what()).find("not right"), std::string::npos);
    }
  });
  EXPECT_EQ(failures.fatal, 1);
  EXPECT_EQ(failures.nonfatal, 0);
  EXPECT_FALSE(failures.ended_test);
}

TEST(TestingAssertionTest, GoogleTestCountsOneFailureAndTearsDown) {
  tcpip_tests::Subprocess child(
      {tcpip_tests::find_file("tests/unit/failing_tests"),
       "--gtest_filter=*FailsInAHelper", "--gtest_output="},
      tcpip_tests::Subprocess::Errors::kWithOutput);
  const std::string output = child.read_all();
  EXPECT_EQ(child.wait(), 1) << output;
  const auto has = [&](const std::string& text) {
    return output.find(text) != std::string::npos;
  };
  EXPECT_TRUE(has("not right")) << output;
  EXPECT_TRUE(has("torn down")) << output;
  EXPECT_FALSE(has("went on")) << output;
  EXPECT_FALSE(has("C++ exception")) << output;
}

}  // namespace
}  // namespace tcpip_testing
