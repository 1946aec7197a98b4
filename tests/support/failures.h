// What a piece of a test reports, without failing the test that looks at it.
//
//   const Failures failures = failures_of([&] { events.assert_none(); });
//   EXPECT_EQ(failures.fatal, 1);
#ifndef TESTS_SUPPORT_FAILURES_H_
#define TESTS_SUPPORT_FAILURES_H_

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <string>

namespace tcpip_tests {

struct Failures {
  int fatal = 0;
  int nonfatal = 0;
  bool ended_test = false;  // by AssertionException
  std::string text;         // of all of them
  int line = 0;             // of the last
};

// EXPECT_FATAL_FAILURE, for a body that uses the test's variables.
template <class Body>
Failures failures_of(Body body) {
  testing::TestPartResultArray results;
  Failures failures;
  {
    const testing::ScopedFakeTestPartResultReporter reporter(
        testing::ScopedFakeTestPartResultReporter::
            INTERCEPT_ONLY_CURRENT_THREAD,
        &results);
    try {
      body();
    } catch (const testing::AssertionException&) {
      failures.ended_test = true;
    }
  }
  for (int i = 0; i < results.size(); ++i) {
    const testing::TestPartResult& result = results.GetTestPartResult(i);
    failures.fatal += result.fatally_failed();
    failures.nonfatal += result.nonfatally_failed();
    failures.text += std::string(result.message()) + "\n";
    failures.line = result.line_number();
  }
  return failures;
}

// One failure, fatal, that says so and ends the test.
inline testing::AssertionResult is_one_fatal(const Failures& failures,
                                             const std::string& text) {
  if (failures.fatal == 1 && failures.nonfatal == 0 && failures.ended_test &&
      failures.text.find(text) != std::string::npos) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure()
         << failures.fatal << " fatal and " << failures.nonfatal
         << " other failures, the test " << (failures.ended_test ? "" : "not ")
         << "ended, and no \"" << text << "\": " << failures.text;
}

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_FAILURES_H_
