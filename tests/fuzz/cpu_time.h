// How much CPU time the calling thread spends inside the library, and whether
// that is too much for what it did. Unlike time on a clock this does not depend
// on what else the machine does.
//
// Threads: for one thread each.
#ifndef TESTS_FUZZ_CPU_TIME_H_
#define TESTS_FUZZ_CPU_TIME_H_

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>

namespace tcpip_fuzz {

inline std::chrono::nanoseconds thread_cpu_time() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) +
         std::chrono::nanoseconds(time.tv_nsec);
}

class CpuTime {
 public:
  // Calls function(), and counts the time that it takes, also if it throws.
  template <class Function>
  auto of(Function function) {
    const Span span(*this);
    return function();
  }
  std::chrono::nanoseconds spent() const { return spent_; }

 private:
  class Span {
   public:
    explicit Span(CpuTime& owner) : owner_(owner), start_(thread_cpu_time()) {}
    ~Span() { owner_.spent_ += thread_cpu_time() - start_; }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

   private:
    CpuTime& owner_;
    const std::chrono::nanoseconds start_;
  };

  std::chrono::nanoseconds spent_{0};
};

// The time to write and read one byte of memory here and now, in this build: a
// sanitizer and a slow machine make it longer. The shortest of several tries.
inline std::chrono::nanoseconds time_for_bytes(std::size_t count) {
  static const std::chrono::nanoseconds kForMany = [] {
    constexpr std::size_t kMany = 100'000;
    std::string bytes(kMany, 'a');
    auto best = std::chrono::nanoseconds::max();
    for (int i = 0; i < 10; ++i) {
      const std::chrono::nanoseconds start = thread_cpu_time();
      for (char& c : bytes) {
        c = static_cast<char>(c ^ 1);
        // Each byte counts: no vector instructions.
        asm volatile("" : : "r"(&c) : "memory");
      }
      best = std::min(best, thread_cpu_time() - start);
    }
    return std::max<std::chrono::nanoseconds>(best,
                                              std::chrono::microseconds(50));
  }();
  return kForMany * count / 100'000;
}

}  // namespace tcpip_fuzz

#endif  // TESTS_FUZZ_CPU_TIME_H_
