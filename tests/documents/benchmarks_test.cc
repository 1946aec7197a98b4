// The benchmarks: the runner's arithmetic is right, and each work runs in each
// of our own ways and as plain POSIX. No time is judged here. benchmarks.py
// knows the suites.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/hang_guard.h"
#include "tests/support/raw_client.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

using Strings = std::vector<std::string>;

struct Outcome {
  int status;
  std::string output;
};

Outcome python(const std::string& script, Strings arguments) {
  const Strings start = {"python3", "-X", "utf8", find_file(script)};
  arguments.insert(arguments.begin(), start.begin(), start.end());
  Subprocess process(std::move(arguments), Subprocess::Errors::kWithOutput);
  process.close_input();
  std::string output = process.read_all();
  return {process.wait(), std::move(output)};
}

// Measures as briefly as can be, with the programs of this build.
Outcome measure(Strings arguments) {
  const std::string raw = find_file("benchmarks/raw");
  const Strings more = {
      "--programs", std::filesystem::path(raw).parent_path().string(),
      "--ways",     "ours",
      "--ways",     "raw",
      "--rounds",   "1",
      "--seconds",  "0.005",
      "--count",    "3"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return python("benchmarks/run", std::move(arguments));
}

class BenchmarksTest : public testing::Test {
 private:
  HangGuard guard_;
};

TEST_F(BenchmarksTest, ArithmeticIsRight) {
  const Outcome outcome =
      python("tests/documents/benchmarks.py", {"arithmetic"});
  EXPECT_EQ(outcome.status, 0) << outcome.output;
}

TEST_F(BenchmarksTest, ListNamesTheSuites) {
  const Outcome outcome = python("benchmarks/run", {"--list"});
  EXPECT_EQ(outcome.status, 0);
  for (const char* suite :
       {"ping_pong", "struct", "read", "batched", "write_batches", "write_each",
        "bulk", "connect", "turn_away", "notice", "unblock"}) {
    EXPECT_NE(outcome.output.find(suite), std::string::npos) << suite;
  }
}

TEST_F(BenchmarksTest, AnUnknownSuiteIsRefused) {
  const Outcome outcome = measure({"ping_pong", "no_such"});
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.output.find("no such suite: no_such"), std::string::npos)
      << outcome.output;
}

TEST_F(BenchmarksTest, EveryWorkRunsInEachOfOurWays) {
  const std::string result = testing::TempDir() + "/result.json";
  const Outcome outcome = measure({"--json", result});
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  const Outcome lacking =
      python("tests/documents/benchmarks.py", {"complete", result});
  EXPECT_EQ(lacking.output, "") << outcome.output;
  EXPECT_EQ(lacking.status, 0);
}

// A work that fails is broken; a figure that is short of its target is not.
TEST_F(BenchmarksTest, ABrokenProgramIsAFailure) {
  const std::string folder = testing::TempDir() + "/broken";
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file("/bin/false", folder + "/ours");
  std::filesystem::copy_file(find_file("benchmarks/raw"), folder + "/raw");
  const Outcome outcome =
      python("benchmarks/run",
             {"unblock", "--programs", folder, "--rounds", "1", "--count", "3",
              "--json", testing::TempDir() + "/broken.json"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("BROKEN"), std::string::npos) << outcome.output;
}

}  // namespace
}  // namespace tcpip_tests
