// The list of mutants fits the library: each changes exactly one place, and is
// named once. `run --check` looks; what it must notice is shown on a small tree
// that is made up here. The mutants themselves are run by `run`, not here.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

namespace fs = std::filesystem;

struct Outcome {
  int status;
  std::string output;
};

Outcome run(const std::string& script, std::vector<std::string> arguments) {
  std::vector<std::string> command{"python3", "-X", "utf8", script};
  command.insert(command.end(), arguments.begin(), arguments.end());
  Subprocess process(std::move(command), Subprocess::Errors::kWithOutput);
  process.close_input();
  std::string output = process.read_all();
  return {process.wait(), std::move(output)};
}

std::string script() { return find_file("tests/mutation/run"); }

TEST(MutantsTest, EachChangesOnePlaceOfTheLibrary) {
  const Outcome outcome = run(script(), {"--check"});
  EXPECT_EQ(outcome.output, "");
  EXPECT_EQ(outcome.status, 0);
}

TEST(MutantsTest, ListNamesThoseOfAPattern) {
  const Outcome outcome = run(script(), {"--list", "sender/eof_"});
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("sender/eof_twice"), std::string::npos);
  EXPECT_EQ(outcome.output.find("receiver/"), std::string::npos);
}

// A tree with one source, one test and one mutant. A test changes it.
class MadeUpTreeTest : public testing::Test {
 protected:
  void SetUp() override {
    write("tcpip/base/door.cc", "lock();\nopen();\nclose();\nopen();\n");
    write("tests/unit/door_test.cc", "");
    fs::create_directories(root_ / "tests/mutation");
    fs::copy_file(script(), root_ / "tests/mutation/run");
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  // What `run --check` says of a list with this mutant.
  Outcome check(const std::string& mutants) const {
    // The namedtuple and the functions of the list itself.
    std::ifstream list(find_file("tests/mutation/mutants.py"));
    std::string text((std::istreambuf_iterator<char>(list)), {});
    text = text.substr(0, text.find("# --- The queue of callbacks ---"));
    write("tests/mutation/mutants.py", text + mutants);
    return run((root_ / "tests/mutation/run").string(), {"--check"});
  }

  const fs::path root_ =
      fs::path(testing::TempDir()) / "made_up_tree_for_mutants";
};

TEST_F(MadeUpTreeTest, GoodListIsAccepted) {
  const Outcome outcome = check(
      "source('base/door.cc', 'door_test')\n"
      "mutant('left_open', 'close();', '', 'the door is closed')\n"
      "mutant('later', 'open();', '', 'it opens again', at='close();')\n");
  EXPECT_EQ(outcome.output, "");
  EXPECT_EQ(outcome.status, 0);
}

TEST_F(MadeUpTreeTest, FaultsOfTheListAreNoticed) {
  const std::string head = "source('base/door.cc', 'door_test')\n";
  const std::vector<std::pair<std::string, std::string>> cases{
      {"mutant('m', 'open();', '', 'w')\n", "2 places are 'open();'"},
      {"mutant('m', 'knock();', '', 'w')\n", "0 places are 'knock();'"},
      {"mutant('m', 'lock();', '', 'w', at='close();')\n",
       "no 'lock();' behind 'close();'"},
      {"mutant('m', 'lock();', 'lock();', 'w')\n", "it changes nothing"},
      {"mutant('m', 'lock();', '', '')\n", "it has no words"},
      {"mutant('m', 'lock();', '', 'w', same='')\n", "it has no words"},
      {"mutant('m', 'lock();', '', 'w', tests=['gate_test'])\n",
       "0 tests are called gate_test"},
      {"mutant('m', 'lock();', '', 'w')\nmutant('m', 'close();', '', 'w')\n",
       "there is another of this name"},
  };
  for (const auto& [mutants, fault] : cases) {
    const Outcome outcome = check(head + mutants);
    EXPECT_EQ(outcome.output, "door/m: " + fault + "\n") << mutants;
    EXPECT_EQ(outcome.status, 1) << mutants;
  }
}

TEST_F(MadeUpTreeTest, MutantWithoutTestIsNoticed) {
  const Outcome outcome = check(
      "source('base/door.cc')\n"
      "mutant('m', 'lock();', '', 'w')\n");
  EXPECT_EQ(outcome.output, "door/m: no test concerns it\n");
}

}  // namespace
}  // namespace tcpip_tests
