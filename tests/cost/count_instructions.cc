// Runs each work for callgrind, which instructions_test.cc starts. Prints the
// names of the works, one a line, in their order.
#include <unistd.h>

#include <cstdio>
#include <functional>

#include "tests/cost/bounds.h"
#include "tests/cost/works.h"

// Callgrind knows these functions by their names: it counts from the one to the
// other what is inside count_here().
extern "C" {
[[gnu::noinline]] void begin_count() { asm volatile(""); }
[[gnu::noinline]] void end_count() { asm volatile(""); }
[[gnu::noinline]] void count_here(const std::function<void()>& function) {
  function();
}
}

int main() {
  using tcpip_tests::kCountedMessages;
  using tcpip_tests::kWarmUp;
  for (const tcpip_tests::NamedWork& named : tcpip_tests::works()) {
    const tcpip_tests::Work work = named.make();
    for (int i = 0; i < kWarmUp + kCountedMessages; ++i) {
      if (i == kWarmUp) begin_count();
      work.before();
      // Two marks in the trace of the system calls.
      if (i >= kWarmUp) (void)::getppid();
      count_here(work.counted);
      if (i >= kWarmUp) (void)::getppid();
      work.after();
    }
    end_count();
    std::printf("%.*s\n", static_cast<int>(named.name.size()),
                named.name.data());
  }
  return 0;
}
