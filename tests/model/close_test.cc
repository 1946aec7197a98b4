// Spin verifies close.pml, the model of the closing protocol, hang_up.pml, that
// of how a connection ends once its peer has gone, and link_cache.pml, that of
// who clears the caches of a LinkSource, and finds what is wrong once a
// protection is taken out of them.
//
// TCPIP_MODEL_BUDGET=2 lets callbacks and handlers close two objects in each
// run, where one does by default: some minutes and gigabytes more.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

struct Outcome {
  int status = -1;
  std::string output;
};

// Not a Subprocess: a verification may take longer than the kit's patience.
Outcome run(const std::string& command) {
  Outcome outcome;
  std::FILE* const pipe = ::popen((command + " 2>&1").c_str(), "re");
  if (pipe == nullptr) return outcome;
  char line[4096];
  while (std::fgets(line, sizeof line, pipe) != nullptr) outcome.output += line;
  const int status = ::pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

class CloseModelTest : public testing::Test {
 protected:
  explicit CloseModelTest(std::string model = "close.pml")
      : model_(std::move(model)) {}

  void SetUp() override {
    if (run("command -v spin gcc").status != 0) {
      GTEST_SKIP() << "spin (Debian's package of that name) or gcc is not "
                      "installed";
    }
  }

  // What the verifier prints with these macros. It stops at the first error.
  std::string verify(const std::string& macros) {
    const std::filesystem::path folder =
        testing::TempDir() + "close_model_" +
        testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder);
    const std::string model =
        std::filesystem::absolute(find_file("tests/model/" + model_)).string();
    // -w22: a hash table of 32 MB; -m: the depth of the search.
    const Outcome outcome =
        run("cd '" + folder.string() + "' && cp '" + model +
            "' m.pml && spin " + macros +
            " -a m.pml && gcc -O0 -w -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 "
            "-o pan pan.c && ./pan -n -m100000 -w22");
    std::filesystem::remove_all(folder);
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    return outcome.output;
  }
  void expect_good(const std::string& macros) {
    const char* const budget = std::getenv("TCPIP_MODEL_BUDGET");
    const std::string output =
        verify(macros + " -DBUDGET=" + (budget != nullptr ? budget : "1"));
    EXPECT_NE(output.find("errors: 0"), std::string::npos) << output;
    EXPECT_EQ(output.find("Search not completed"), std::string::npos) << output;
    EXPECT_EQ(output.find("max search depth too small"), std::string::npos);
  }
  void expect_bad(const std::string& macros, const std::string& error) {
    const std::string output = verify(macros);
    EXPECT_NE(output.find("errors: 1"), std::string::npos) << output;
    EXPECT_NE(output.find(error), std::string::npos) << output;
  }

 private:
  const std::string model_;
};

class HangUpModelTest : public CloseModelTest {
 protected:
  HangUpModelTest() : CloseModelTest("hang_up.pml") {}
};

class LinkCacheModelTest : public CloseModelTest {
 protected:
  LinkCacheModelTest() : CloseModelTest("link_cache.pml") {}
};

TEST_F(CloseModelTest, TwoObjectsWithDispatchersHold) { expect_good(""); }

TEST_F(CloseModelTest, TwoObjectsOnTheProgramsQueueHold) {
  expect_good("-DDRAINED");
}

TEST_F(CloseModelTest, OneObjectOfEachKindHolds) { expect_good("-DMIXED"); }

TEST_F(CloseModelTest, TheLifeOfOneObjectHolds) {
  // The states are many without a call from callbacks.
  const std::string output = verify("-DLIFE -DBUDGET=0");
  EXPECT_NE(output.find("errors: 0"), std::string::npos) << output;
}

TEST_F(CloseModelTest, WithoutTheTableThreadsWaitForEachOther) {
  expect_bad("-DBAD_NO_TABLE", "invalid end state");
}

TEST_F(CloseModelTest, WithoutTheEndOfAWaitAThreadGoesOnTooEarly) {
  expect_bad("-DDRAINED -DBAD_NO_END", "assertion violated ((wait_item[");
}

TEST_F(CloseModelTest, WithoutTheDropACallbackRunsAfterClose) {
  expect_bad("-DBAD_NO_DROP", "assertion violated  !(closed[");
}

TEST_F(CloseModelTest, WithoutTheWaitACallbackStillRunsAfterClose) {
  expect_bad("-DDRAINED -DBAD_NO_WAIT_FOR_CALLBACK",
             "assertion violated  !(running[");
}

TEST_F(CloseModelTest, ClosingADescriptorAtOnceIsFound) {
  expect_bad("-DBAD_CLOSE_AT_ONCE", "assertion violated (closes[");
}

TEST_F(CloseModelTest, AdmittingWhileClosingLeavesAConnection) {
  expect_bad("-DLIFE -DBAD_ADMIT_WHILE_CLOSING", "assertion violated");
}

TEST_F(CloseModelTest, QueueingAnEventLaterBreaksTheOrder) {
  expect_bad("-DLIFE -DBAD_POST_LATER", "assertion violated (kind==");
}

TEST_F(HangUpModelTest, TheLastOfTheTwoThreadsEndsTheConnection) {
  expect_good("");
}

TEST_F(HangUpModelTest, AReadThatLooksTooEarlyMissesTheHangUp) {
  expect_bad("-DBAD_LOOK_FIRST", "assertion violated  !(current)");
}

TEST_F(HangUpModelTest, AWatcherThatSpeaksTooLateMissesTheRead) {
  expect_bad("-DBAD_EXPECT_LAST", "assertion violated  !(current)");
}

TEST_F(LinkCacheModelTest, NoCacheKeepsAConnectionThatHasEnded) {
  expect_good("");
}

TEST_F(LinkCacheModelTest, ACallThatLooksBeforeItLetsGoKeepsTheConnection) {
  expect_bad("-DBAD_LOOK_FIRST", "assertion violated  !(kept)");
}

TEST_F(LinkCacheModelTest, AnEndThatClearsTooEarlyLeavesTheConnection) {
  expect_bad("-DBAD_CLEAR_FIRST", "assertion violated  !(kept)");
}

TEST_F(LinkCacheModelTest, ACallThatReadsTheVersionTooLateKeepsTheConnection) {
  expect_bad("-DBAD_KEEP_ALL", "assertion violated  !(kept)");
}

}  // namespace
}  // namespace tcpip_tests
