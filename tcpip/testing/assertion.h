// How the kit's assertions fail a test, for helpers of your own that shall do
// the same.
//
//   int position(tcpip::Client& client, Caller caller = Caller::here()) {
//     client.write_str("position");
//     const std::string reply = client.read_str(1s);
//     if (reply.empty()) fail_test("no position in the reply", caller);
//     return std::stoi(reply);
//   }
//
// Threads: fail_test() is for the thread that runs the test.
#ifndef TCPIP_TESTING_ASSERTION_H_
#define TCPIP_TESTING_ASSERTION_H_

#include "tcpip/version.h"

#include <string>

namespace tcpip_testing {

// A place in a source file. As the default of a last parameter, here() is where
// the function is called.
struct TCPIP_EXPORT Caller {
  const char* file;  // as the compiler was given it
  int line;          // from 1

  // The place where it is called.
  static constexpr Caller here(const char* file = __builtin_FILE(),
                               int line = __builtin_LINE()) noexcept {
    return {file, line};
  }
};

// Reports a fatal failure at `caller`, then ends the test by throwing
// testing::AssertionException, which GoogleTest takes for a failure that has
// been reported. Unlike FAIL() and ASSERT_..., which return from the function
// they stand in and no further, it ends the test from any depth of calls, and
// serves in functions that return something. TearDown() runs as usual. A
// `catch` of std::exception in between stops the exception, but the test has
// failed all the same.
[[noreturn]] TCPIP_EXPORT void fail_test(const std::string& message,
                                         Caller caller = Caller::here());

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_ASSERTION_H_
