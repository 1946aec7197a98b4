// The floors of ARCHITECTURE.md hold: no include goes up, or past a target's
// deps, or from a public header into a private folder. layering.py looks; what
// it must notice is shown on small trees that are made up here.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/raw_client.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

struct Outcome {
  int status;
  std::string output;
};

Outcome look(const std::string& root) {
  Subprocess process(
      {"python3", "-X", "utf8", find_file("tests/documents/layering.py"), root},
      Subprocess::Errors::kWithOutput);
  process.close_input();
  std::string output = process.read_all();
  return {process.wait(), std::move(output)};
}

TEST(LayeringTest, FloorsHold) {
  const std::string document = find_file("ARCHITECTURE.md");
  ASSERT_NE(document, "");
  const auto root = std::filesystem::absolute(document).parent_path();
  const Outcome outcome = look(root.string());
  EXPECT_EQ(outcome.output, "");
  EXPECT_EQ(outcome.status, 0);
}

// A tree with three floors, a private folder, a face and a testing kit, which
// keeps all rules. A test changes it.
class MadeUpTreeTest : public testing::Test {
 protected:
  using Files = std::map<std::string, std::string>;

  static Files good() {
    return {
        {"ARCHITECTURE.md",
         "# A house\n\n## Floors\n\n"
         "| floor | target | holds |\n|---|---|---|\n"
         "| 0 | `:base` | `error.h` |\n"
         "| 1 | `:net` | `socket.h` |\n"
         "| 2 | `:stream` | `reader.h` |\n"
         "| 3 | `//tcpip/testing`, `//tcpip/testing:main` | the kit |\n"
         "\n## Other\n\n| 9 | `:no_such` | another table |\n"},
        {"tcpip/BUILD.bazel",
         "package(default_visibility = [\"//tcpip:__subpackages__\"])\n"
         "cc_library(name = \"base\",\n"
         "    srcs = [\"error.cc\"],\n"
         "    hdrs = [\"base/poller.h\", \"error.h\"],\n"
         "    deps = [\"@fmt\"])\n"
         "cc_library(name = \"net\",\n"
         "    srcs = [\"socket.cc\", \"net/calls.h\"],\n"
         "    hdrs = [\"socket.h\"],\n"
         "    deps = [\":base\"])\n"
         "cc_library(name = \"stream\",\n"
         "    hdrs = [\"reader.h\"],\n"
         "    deps = [\":net\"])\n"
         "cc_library(name = \"tcpip\",\n"
         "    hdrs = [\"error.h\", \"reader.h\", \"socket.h\"],\n"
         "    visibility = [\"//visibility:public\"],\n"
         "    deps = [\":base\", \":net\", \":stream\"])\n"
         "filegroup(name = \"files\", srcs = glob([\"**\"]))\n"},
        {"tcpip/error.h",
         "// #include \"tcpip/socket.h\"\n#include <string>\n"},
        {"tcpip/error.cc", "#include \"tcpip/error.h\"\n"},
        {"tcpip/base/poller.h", "#include \"tcpip/error.h\"\n"},
        {"tcpip/socket.h", "#include \"tcpip/error.h\"\n"},
        {"tcpip/socket.cc",
         "#include \"tcpip/socket.h\"\n\n#include <sys/socket.h>\n\n"
         "#include \"tcpip/base/poller.h\"\n#include \"tcpip/net/calls.h\"\n"},
        {"tcpip/net/calls.h", "#include \"tcpip/socket.h\"\n"},
        {"tcpip/reader.h", "#include \"tcpip/socket.h\"\n"},
        {"tcpip/testing/BUILD.bazel",
         "package(default_visibility = [\"//visibility:public\"])\n"
         "cc_library(name = \"testing\",\n"
         "    hdrs = [\"kit.h\"],\n"
         "    deps = [\"//tcpip:stream\"])\n"
         "cc_library(name = \"main\",\n"
         "    srcs = [\"main.cc\"],\n"
         "    deps = [\":testing\"])\n"},
        {"tcpip/testing/kit.h", "#include \"tcpip/reader.h\"\n"},
        {"tcpip/testing/main.cc", "#include \"tcpip/testing/kit.h\"\n"},
    };
  }

  Outcome look_at(const Files& files) {
    std::string folder = testing::TempDir() + "/layering.XXXXXX";
    EXPECT_NE(::mkdtemp(folder.data()), nullptr);
    for (const auto& [name, text] : files) {
      const std::filesystem::path path = folder + "/" + name;
      std::filesystem::create_directories(path.parent_path());
      std::ofstream(path) << text;
    }
    Outcome outcome = look(folder);
    std::filesystem::remove_all(folder);
    return outcome;
  }

  // What is printed once `part` of a file is `other`.
  std::string complaint(const std::string& file, const std::string& part,
                        const std::string& other) {
    Files files = good();
    std::string& text = files[file];
    const auto at = text.find(part);
    EXPECT_NE(at, text.npos) << file << " has no " << part;
    if (at != text.npos) text.replace(at, part.size(), other);
    const Outcome outcome = look_at(files);
    EXPECT_EQ(outcome.status, outcome.output.empty() ? 0 : 1);
    return outcome.output;
  }
  // Once a line is added at its end.
  std::string complaint(const std::string& file, const std::string& line) {
    Files files = good();
    files[file] += line + "\n";
    const Outcome outcome = look_at(files);
    EXPECT_EQ(outcome.status, outcome.output.empty() ? 0 : 1);
    return outcome.output;
  }

 private:
  HangGuard guard_;
};

TEST_F(MadeUpTreeTest, PassesIfItKeepsTheRules) {
  const Outcome outcome = look_at(good());
  EXPECT_EQ(outcome.output, "");
  EXPECT_EQ(outcome.status, 0);
}

TEST_F(MadeUpTreeTest, NoticesAnIncludeThatGoesUp) {
  // With the target in deps too, which Bazel would refuse only as a cycle.
  EXPECT_EQ(complaint("tcpip/error.cc", "#include \"tcpip/socket.h\""),
            "tcpip/error.cc:2: floor 0 includes tcpip/socket.h of floor 1\n"
            "tcpip/error.cc:2: //tcpip:base includes tcpip/socket.h, but does "
            "not list //tcpip:net in deps\n");
  EXPECT_EQ(complaint("tcpip/reader.h", "#  include <tcpip/testing/kit.h>"),
            "tcpip/reader.h:2: floor 2 includes tcpip/testing/kit.h of floor "
            "3\n"
            "tcpip/reader.h:2: //tcpip:stream includes tcpip/testing/kit.h, "
            "but does not list //tcpip/testing:testing in deps\n");
}

TEST_F(MadeUpTreeTest, NoticesAnIncludePastTheDeps) {
  // stream has it by way of net alone.
  EXPECT_EQ(complaint("tcpip/reader.h", "#include \"tcpip/error.h\""),
            "tcpip/reader.h:2: //tcpip:stream includes tcpip/error.h, but does "
            "not list //tcpip:base in deps\n");
  EXPECT_EQ(complaint("tcpip/testing/main.cc", "#include \"tcpip/error.h\""),
            "tcpip/testing/main.cc:2: //tcpip/testing:main includes "
            "tcpip/error.h, but does not list //tcpip:base in deps\n");
  // Nor is the face a floor.
  EXPECT_EQ(complaint("tcpip/BUILD.bazel", "deps = [\":net\"])",
                      "deps = [\":tcpip\"])"),
            "tcpip/reader.h:1: //tcpip:stream includes tcpip/socket.h, but "
            "does not list //tcpip:net in deps\n");
}

TEST_F(MadeUpTreeTest, NoticesAPublicHeaderThatIncludesAPrivateOne) {
  EXPECT_EQ(complaint("tcpip/error.h", "#include \"tcpip/base/poller.h\""),
            "tcpip/error.h:3: a public header includes tcpip/base/poller.h, "
            "which is private\n");
  EXPECT_EQ(complaint("tcpip/error.h", "#include \"base/poller.h\""),
            "tcpip/error.h:3: a public header includes tcpip/base/poller.h, "
            "which is private\n")
      << "relative to the header's own folder";
}

TEST_F(MadeUpTreeTest, NoticesAFileThatAnotherTargetKeepsToItself) {
  EXPECT_EQ(complaint("tcpip/testing/BUILD.bazel", "hdrs = [\"kit.h\"]",
                      "srcs = [\"kit.h\"]"),
            "tcpip/testing/main.cc:1: tcpip/testing/kit.h is not among the "
            "hdrs of //tcpip/testing:testing\n");
}

TEST_F(MadeUpTreeTest, NoticesAFileThatBelongsToNoTarget) {
  EXPECT_EQ(complaint("tcpip/base/new.h", ""),
            "tcpip/base/new.h:1: belongs to no target\n");
  EXPECT_EQ(complaint("tcpip/error.cc", "#include \"tcpip/new.h\""),
            "tcpip/error.cc:2: tcpip/new.h belongs to no target\n");
  EXPECT_EQ(complaint("tcpip/BUILD.bazel", "\"error.cc\"", "\"eror.cc\""),
            "tcpip/BUILD.bazel:3: there is no file tcpip/eror.cc\n"
            "tcpip/error.cc:1: belongs to no target\n");
  EXPECT_EQ(complaint("tcpip/BUILD.bazel", "\"socket.cc\"",
                      "\"socket.cc\", \"error.cc\""),
            "tcpip/BUILD.bazel:7: tcpip/error.cc belongs to //tcpip:base "
            "already\n");
}

TEST_F(MadeUpTreeTest, NoticesAFaceThatIsWrong) {
  EXPECT_EQ(complaint("tcpip/BUILD.bazel", "\"error.h\", \"reader.h\"",
                      "\"reader.h\""),
            "tcpip/error.h:1: is public, and no face lists it\n");
  EXPECT_EQ(complaint("tcpip/BUILD.bazel", "\"error.h\", \"reader.h\"",
                      "\"error.h\", \"base/poller.h\", \"reader.h\""),
            "tcpip/BUILD.bazel:14: tcpip/base/poller.h is private, "
            "//tcpip:tcpip is a face\n");
}

TEST_F(MadeUpTreeTest, NoticesFloorsInAnotherOrder) {
  // The includes of the floors that have changed places are faults as well.
  const std::string swapped = complaint(
      "ARCHITECTURE.md", "| 1 | `:net` | `socket.h` |\n| 2 | `:stream` |",
      "| 1 | `:stream` | `socket.h` |\n| 2 | `:net` |");
  EXPECT_TRUE(swapped.starts_with(
      "tcpip/BUILD.bazel:6: //tcpip:net stands where ARCHITECTURE.md has "
      "//tcpip:stream\n"
      "tcpip/reader.h:1: floor 1 includes tcpip/socket.h of floor 2\n"))
      << swapped;
  const std::string renumbered =
      complaint("ARCHITECTURE.md", "| 2 | `:stream`", "| 0 | `:stream`");
  EXPECT_TRUE(renumbered.starts_with(
      "ARCHITECTURE.md:9: //tcpip:stream on floor 0 stands behind floor 1\n"))
      << renumbered;
}

TEST_F(MadeUpTreeTest, NoticesATargetThatOnlyOneOfTheTwoKnows) {
  EXPECT_EQ(complaint("ARCHITECTURE.md", "| 3 | `//tcpip/testing`",
                      "| 2 | `:other` | |\n| 3 | `//tcpip/testing`"),
            "ARCHITECTURE.md:10: there is no target //tcpip:other\n");
  EXPECT_EQ(complaint("tcpip/BUILD.bazel",
                      "cc_library(name = \"other\", srcs = [\"other.cc\"])"),
            "tcpip/BUILD.bazel:18: //tcpip:other is not in the table of floors "
            "in ARCHITECTURE.md\n");
  EXPECT_EQ(complaint("ARCHITECTURE.md", "## Floors", "## Storeys"),
            "ARCHITECTURE.md:1: no table of floors\n");
}

TEST_F(MadeUpTreeTest, RefusesABuildFileThatItCannotRead) {
  EXPECT_EQ(complaint("tcpip/BUILD.bazel", "srcs = [\"error.cc\"]",
                      "srcs = glob([\"*.cc\"])"),
            "tcpip/BUILD.bazel:3: not a plain list of names\n");
  EXPECT_TRUE(complaint("tcpip/BUILD.bazel", "cc_library(name = ")
                  .starts_with("tcpip/BUILD.bazel:1"));
  Files files = good();
  files.erase("tcpip/testing/BUILD.bazel");
  EXPECT_EQ(look_at(files).output,
            "tcpip/testing/BUILD.bazel:1: No such file or directory\n");
}

}  // namespace
}  // namespace tcpip_tests
