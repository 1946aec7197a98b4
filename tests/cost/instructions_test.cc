// The instructions that each message costs in the program, against bounds.h,
// as callgrind counts them: a busy machine changes nothing.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/cost/bounds.h"
#include "tests/support/sanitizers.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && \
    defined(_GLIBCXX_ASSERTIONS)
constexpr bool kIsOfTheBounds = !kWithSanitizer && __GNUC__ == kCompiler;
#else
constexpr bool kIsOfTheBounds = false;
#endif

struct Count {
  std::string work;
  std::uint64_t instructions = 0;
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

// Of each message.
std::vector<Count> count_instructions() {
  const std::filesystem::path folder =
      testing::TempDir() + "cost_" + std::to_string(::getpid());
  std::filesystem::create_directories(folder);
  const std::string file = folder / "profile";
  Subprocess program(
      {"valgrind", "--tool=callgrind", "-q", "--toggle-collect=count_here",
       "--zero-before=begin_count", "--dump-before=end_count",
       "--callgrind-out-file=" + file,
       find_file("tests/cost/count_instructions")},
      Subprocess::Errors::kWithOutput);
  std::istringstream output(program.read_all());
  EXPECT_EQ(program.wait(), 0) << output.str();
  std::vector<Count> counts;
  for (std::string work; std::getline(output, work);) {
    counts.push_back(
        {work, read_profile(file + "." + std::to_string(counts.size() + 1)) /
                   kCountedMessages});
  }
  std::filesystem::remove_all(folder);
  return counts;
}

TEST(InstructionsTest, AreNotMoreThanTheTableAllows) {
  if (!kIsOfTheBounds) {
    GTEST_SKIP() << "the bounds are for g++ " << kCompiler
                 << " on x86-64, without --config=opt";
  }
  if (!has_valgrind()) {
    GTEST_SKIP() << "valgrind (Debian's package of that name) is not installed";
  }
  const std::vector<Count> counts = count_instructions();
  EXPECT_FALSE(counts.empty());
  for (const Count& count : counts) {
    const Bound* const bound = find_bound(count.work);
    if (bound == nullptr) {
      ADD_FAILURE() << count.work << ": bounds.h has no bound for it; "
                    << count.instructions << " instructions";
      continue;
    }
    EXPECT_GT(count.instructions, 0u) << count.work;
    EXPECT_LE(count.instructions, bound->instructions)
        << count.work << ": instructions for each message";
    if (count.instructions * 4 < bound->instructions * 3) {
      std::cout << count.work << ": " << count.instructions
                << " instructions, far below the bound: lower it\n";
    }
  }
}

}  // namespace
}  // namespace tcpip_tests
