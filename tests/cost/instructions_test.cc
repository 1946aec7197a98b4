// The instructions that each message costs in the program, against bounds.h,
// as callgrind counts them: a busy machine changes nothing. And
// valgrind sees every system call, so that calls_test.cc misses none.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/cost/bounds.h"
#include "tests/support/sanitizers.h"
#include "tests/support/subprocess.h"
#include "tests/support/tally.h"

namespace tcpip_tests {
namespace {

struct Count {
  std::string work;
  std::uint64_t instructions = 0;  // of each message
  Counts system_calls = {};        // of all counted messages
};

bool has_valgrind() {
  try {
    return Subprocess({"valgrind", "--version"}).read_all().starts_with("val");
  } catch (const std::exception&) {
    return false;
  }
}

// What callgrind has written: "totals: 5".
std::uint64_t read_profile(const std::string& file) {
  std::uint64_t instructions = 0;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with("events:")) {
      EXPECT_EQ(line, "events: Ir");
    }
    if (line.starts_with("totals:")) {
      std::istringstream(line.substr(7)) >> instructions;
    }
  }
  return instructions;
}

// The system calls of the main thread between the marks of
// count_instructions.cc, work after work. A line "SYSCALL[77,1](45)
// sys_recvfrom ( ..." is one; those of other threads have no 1.
std::vector<Counts> read_trace(const std::string& file) {
  std::vector<Counts> works;
  int marks = 0;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    const std::size_t begin = line.find(") sys_");
    if (!line.starts_with("SYSCALL[") || begin == std::string::npos ||
        line.find(",1](") > begin) {
      continue;
    }
    const std::string name =
        line.substr(begin + 6, line.find_first_of("( ", begin + 6) - begin - 6);
    if (name == "getppid") {
      if (marks++ % (2 * kCountedMessages) == 0) works.emplace_back();
    } else if (marks % 2 == 1) {
      ++works.back()[name];
    }
  }
  return works;
}

// Of a work's calls, those that are system calls for valgrind. It has no vDSO:
// so a look at the clock is one.
std::uint64_t system_calls(std::string_view calls) {
  std::uint64_t sum = 0;
  for (const auto& [name, count] : parse_counts(calls)) {
    if (name != "lock" && name != "malloc" && name != "getaddrinfo") {
      sum += count;
    }
  }
  return sum;
}

std::uint64_t sum_of(const Counts& counts) {
  std::uint64_t sum = 0;
  for (const auto& [name, count] : counts) sum += count;
  return sum;
}

// Runs all works under callgrind.
std::vector<Count> count_all() {
  const std::filesystem::path folder =
      testing::TempDir() + "cost_" + std::to_string(::getpid());
  std::filesystem::create_directories(folder);
  const std::string profile = folder / "profile";
  const std::string trace = folder / "trace";
  // Without what tests/loaded preloads: that would count.
  Subprocess program({"env", "-u", "LD_PRELOAD", "valgrind", "--tool=callgrind",
                      "--toggle-collect=count_here",
                      "--zero-before=begin_count", "--dump-before=end_count",
                      "--callgrind-out-file=" + profile, "--trace-syscalls=yes",
                      "--log-file=" + trace,
                      find_file("tests/cost/count_instructions")});
  std::istringstream output(program.read_all());
  EXPECT_EQ(program.wait(), 0);
  std::vector<Count> counts;
  for (std::string work; std::getline(output, work);) {
    const std::string file = profile + "." + std::to_string(counts.size() + 1);
    counts.push_back({work, read_profile(file) / kCountedMessages});
  }
  const std::vector<Counts> calls = read_trace(trace);
  EXPECT_EQ(calls.size(), counts.size());
  for (std::size_t i = 0; i < std::min(calls.size(), counts.size()); ++i) {
    counts[i].system_calls = calls[i];
  }
  std::filesystem::remove_all(folder);
  return counts;
}

class CallgrindTest : public testing::Test {
 protected:
  void SetUp() override {
    if (kWithSanitizer || !has_valgrind()) {
      GTEST_SKIP() << "valgrind (Debian's package of that name) is not "
                      "installed, or this is a sanitizer's program";
    }
    static const std::vector<Count> all = count_all();
    EXPECT_FALSE(all.empty());
    for (const Count& count : all) {
      const Bound* const bound = find_bound(count.work);
      EXPECT_NE(bound, nullptr) << count.work << " has no bound";
      if (bound != nullptr) counts_.emplace_back(count, *bound);
    }
  }

  std::vector<std::pair<Count, Bound>> counts_;
};

TEST_F(CallgrindTest, CountsNoMoreInstructionsThanTheTableAllows) {
  if (!kHasBoundsOfTheCompiler) {
    GTEST_SKIP() << "the bounds are for g++ " << kCompiler
                 << " on x86-64, without --config=opt";
  }
  for (const auto& [count, bound] : counts_) {
    EXPECT_GT(count.instructions, 0u) << count.work;
    EXPECT_LE(count.instructions, bound.instructions)
        << count.work << ": instructions of each message";
    // For who changes the bounds: --test_output=all shows it.
    std::cout << count.work << ": " << count.instructions << " of "
              << bound.instructions
              << (count.instructions * 4 < bound.instructions * 3
                      ? ", far below: lower the bound\n"
                      : "\n");
  }
}

TEST_F(CallgrindTest, SeesNoOtherSystemCallsThanTheTableHas) {
  for (const auto& [count, bound] : counts_) {
    EXPECT_EQ(sum_of(count.system_calls),
              system_calls(bound.calls) * kCountedMessages)
        << count.work << ": for " << kCountedMessages
        << " messages valgrind sees " << to_string(count.system_calls)
        << "; bounds.h has for each " << bound.calls;
  }
}

}  // namespace
}  // namespace tcpip_tests
