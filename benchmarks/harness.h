// What the C++ programs of the benchmarks share: arguments, clocks, pinning,
// and the line of JSON that tells the result. It measures and moves no bytes.
//
//   PROGRAM server WORK WAY [KEY=VALUE...]   prints "port N", then serves
//   PROGRAM client WORK WAY port=N ...       does the work, prints the result
//   PROGRAM local WORK WAY ...               both ends in one process
//
// The result is one JSON object in one line: `ops`, `ns` (how long they took),
// `cpu_ns` (of this process meanwhile), `times` (single operations in ns, or
// points in time). The runner, `run`, does all statistics.
//
// Threads: a Timer belongs to one thread; the functions may be called in any.
#ifndef BENCHMARKS_HARNESS_H_
#define BENCHMARKS_HARNESS_H_

#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace benchmarks {

// The exit status of a program that knows no such role, work or way.
constexpr int kUnknown = 3;

struct Arguments {
  std::string role, work, way;
  std::map<std::string, std::string> values;

  Arguments(int argc, char** argv) {
    if (argc < 4) throw std::runtime_error("PROGRAM ROLE WORK WAY [KEY=VALUE]");
    role = argv[1];
    work = argv[2];
    way = argv[3];
    for (int i = 4; i < argc; ++i) {
      const std::string argument = argv[i];
      const std::size_t equals = argument.find('=');
      if (equals == std::string::npos) throw std::runtime_error(argument);
      values[argument.substr(0, equals)] = argument.substr(equals + 1);
    }
  }

  double number(const std::string& key, double otherwise) const {
    const auto found = values.find(key);
    return found == values.end() ? otherwise : std::stod(found->second);
  }
  int port() const { return static_cast<int>(number("port", 0)); }
  // Of one message, with its terminator.
  std::size_t size() const {
    return static_cast<std::size_t>(number("size", 32));
  }
  // How many operations, for works that count them.
  std::size_t count() const {
    return static_cast<std::size_t>(number("count", 300));
  }
  // How long to work.
  double seconds() const { return number("seconds", 0.25); }
};

// The same clock in every process of a machine.
inline std::int64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

inline std::int64_t cpu_ns() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto ns = [](const timeval& t) {
    return (std::int64_t{t.tv_sec} * 1'000'000 + t.tv_usec) * 1000;
  };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

inline void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

inline void print_port(int port) {
  std::printf("port %d\n", port);
  std::fflush(stdout);
}

inline void print_result(std::int64_t ops, std::int64_t ns, std::int64_t cpu,
                         const std::vector<std::int64_t>& times = {}) {
  std::printf("{\"ops\": %lld, \"ns\": %lld, \"cpu_ns\": %lld, \"times\": [",
              static_cast<long long>(ops), static_cast<long long>(ns),
              static_cast<long long>(cpu));
  for (std::size_t i = 0; i < times.size(); ++i) {
    std::printf("%s%lld", i == 0 ? "" : ",", static_cast<long long>(times[i]));
  }
  std::printf("]}\n");
  std::fflush(stdout);
}

// From its construction on, for the seconds that it is told.
class Timer {
 public:
  explicit Timer(double seconds)
      : cpu_start_(cpu_ns()),
        start_(now_ns()),
        end_(start_ + static_cast<std::int64_t>(seconds * 1e9)) {}

  std::int64_t start() const { return start_; }
  bool is_over(std::int64_t now) const { return now >= end_; }
  // Looks at the clock.
  bool is_over() const { return is_over(now_ns()); }
  void report(std::int64_t ops,
              const std::vector<std::int64_t>& times = {}) const {
    const std::int64_t ns = now_ns() - start_;
    print_result(ops, ns, cpu_ns() - cpu_start_, times);
  }

 private:
  std::int64_t cpu_start_;
  std::int64_t start_;
  std::int64_t end_;
};

// Calls turn() for the time, after a hundred times for warming up, and reports
// how long each took.
template <class Turn>
void time_turns(const Arguments& arguments, Turn turn) {
  for (int i = 0; i < 100; ++i) turn();
  std::vector<std::int64_t> times;
  times.reserve(100'000);
  const Timer timer(arguments.seconds());
  std::int64_t before = timer.start();
  while (!timer.is_over(before)) {
    turn();
    const std::int64_t now = now_ns();
    times.push_back(now - before);
    before = now;
  }
  timer.report(static_cast<std::int64_t>(times.size()), times);
}

// Calls some(), which does `ops` operations, for the time.
template <class Some>
void time_batches(const Arguments& arguments, std::int64_t ops, Some some) {
  some();
  std::int64_t done = 0;
  const Timer timer(arguments.seconds());
  do {
    some();
    done += ops;
  } while (!timer.is_over());
  timer.report(done);
}

// How many messages of a size to handle between two looks at the clock.
inline std::int64_t batch_of(std::size_t size) {
  return static_cast<std::int64_t>(size >= 64 * 1024 ? 1 : 64 * 1024 / size);
}

// A line as the library sends it by default, for all.
inline std::string line_of(std::size_t size) {
  return std::string(size - 2, 'x') + "\r\n";
}

// The wake-up of a blocked call. block() blocks until wake() is called by
// another thread, which has a CPU of its own, then returns; renew() makes all
// ready for the next time.
template <class Block, class Wake, class Renew>
void time_wakes(const Arguments& arguments, Block block, Wake wake,
                Renew renew) {
  using namespace std::chrono_literals;
  const int here = static_cast<int>(arguments.number("cpu", 0));
  const int there = static_cast<int>(arguments.number("other_cpu", 1));
  std::vector<std::int64_t> times;
  const Timer timer(0);
  for (std::size_t i = 0; i < arguments.count(); ++i) {
    renew();
    std::int64_t woken = 0;
    std::thread blocked([&] {
      pin(there);
      block();
      woken = now_ns();
    });
    pin(here);
    // Long enough for the thread to block. One that has not is only faster.
    std::this_thread::sleep_for(300us);
    const std::int64_t start = now_ns();
    wake();
    blocked.join();
    times.push_back(woken - start);
  }
  timer.report(static_cast<std::int64_t>(times.size()), times);
}

using Role = std::function<void(const Arguments&)>;
// "server ping_pong" and the like.
using Roles = std::map<std::string, Role>;

inline int run_role(int argc, char** argv, const Roles& roles) {
  try {
    const Arguments arguments(argc, argv);
    const auto role = roles.find(arguments.role + " " + arguments.work);
    if (role == roles.end()) return kUnknown;
    role->second(arguments);
    return 0;
  } catch (const std::invalid_argument& error) {  // no such way
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return kUnknown;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
}

}  // namespace benchmarks

#endif  // BENCHMARKS_HARNESS_H_
