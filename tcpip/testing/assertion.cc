#include "tcpip/testing/assertion.h"

#include <gtest/gtest.h>

namespace tcpip_testing {

void fail_test(const std::string& message, Caller caller) {
  // GTEST_FAIL_AT returns from the function that it stands in.
  [&] { GTEST_FAIL_AT(caller.file, caller.line) << message; }();
  throw testing::AssertionException(
      testing::TestPartResult(testing::TestPartResult::kFatalFailure,
                              caller.file, caller.line, message.c_str()));
}

}  // namespace tcpip_testing
