// No test waits for ever: a test program that hangs prints the stacks of all
// its threads and aborts.
//
// Every program is guarded as a whole, for four fifths of the time that Bazel
// gives it (TEST_TIMEOUT): printing takes a while. A test may be guarded for
// less:
//
//   const HangGuard guard(10);
//
// It is SIGALRM that ends the program, so there is no thread that the leak
// guard or a fork would see. The other threads print their own stacks, one
// after the other, in a handler of SIGTRAP. Of a thread that blocks SIGTRAP
// only the system call is printed that it is inside of.
//
// Threads: guards are made and destroyed by one thread, the innermost first.
#ifndef TESTS_SUPPORT_HANG_GUARD_H_
#define TESTS_SUPPORT_HANG_GUARD_H_

#include <chrono>
#include <optional>

#include "tests/support/sanitizers.h"

namespace tcpip_tests {

class HangGuard {
 public:
  // Never longer than a guard that is around this one.
  explicit HangGuard(unsigned seconds = kWithSanitizer ? 120 : 60);
  ~HangGuard();
  HangGuard(const HangGuard&) = delete;
  HangGuard& operator=(const HangGuard&) = delete;

 private:
  using Clock = std::chrono::steady_clock;

  // When the outer guard was to end the program.
  std::optional<Clock::time_point> outer_;
};

// Prints to stderr what every thread is doing. For a signal handler of a
// program that is lost anyway, or a debugger.
void print_all_stacks() noexcept;

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_HANG_GUARD_H_
