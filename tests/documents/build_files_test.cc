// What stands in several build files is the same in all of them, and the public
// headers say first which C++ they need. build_files.py looks; what it must
// notice is shown on copies of the real files.
#include "tcpip/version.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/hang_guard.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

namespace fs = std::filesystem;

struct Outcome {
  int status;
  std::string output;
};

Outcome run(std::vector<std::string> arguments) {
  Subprocess process(std::move(arguments), Subprocess::Errors::kWithOutput);
  process.close_input();
  std::string output = process.read_all();
  return {process.wait(), std::move(output)};
}

fs::path root() {
  return fs::absolute(find_file("CMakeLists.txt")).parent_path();
}

Outcome look(const fs::path& at) {
  return run({"python3", "-B", "-X", "utf8",
              find_file("tests/documents/build_files.py"), at.string()});
}

class BuildFilesTest : public testing::Test {
 protected:
  BuildFilesTest() {
    std::string name = testing::TempDir() + "/build_files.XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    copy_ = name;
  }
  ~BuildFilesTest() override { fs::remove_all(copy_); }

  // What is printed once `part` of a file is `other`.
  std::string complaint(const std::string& file, const std::string& part,
                        const std::string& other) {
    fs::remove_all(copy_);
    fs::create_directories(copy_ / "tcpip");
    for (const char* name : {"CMakeLists.txt", "MODULE.bazel", "CHANGELOG.md",
                             "README.md", "bazel", "tcpip"}) {
      fs::copy(
          root() / name, copy_ / name,
          fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    }
    std::ostringstream text;
    text << std::ifstream(copy_ / file).rdbuf();
    std::string changed = text.str();
    const auto at = changed.find(part);
    EXPECT_NE(at, changed.npos) << file << " has no " << part;
    if (at != changed.npos) changed.replace(at, part.size(), other);
    fs::remove(copy_ / file);
    std::ofstream(copy_ / file) << changed;
    const Outcome outcome = look(copy_);
    EXPECT_EQ(outcome.status, outcome.output.empty() ? 0 : 1);
    return outcome.output;
  }

  fs::path copy_;

 private:
  HangGuard guard_;
};

TEST_F(BuildFilesTest, AreInAgreement) {
  const Outcome outcome = look(root());
  EXPECT_EQ(outcome.output, "");
  EXPECT_EQ(outcome.status, 0);
}

TEST_F(BuildFilesTest, AnotherVersionIsNoticed) {
  const std::string number(tcpip::kVersion);
  const std::string fault = ": version 9.8.7, not " + number + "\n";
  for (const char* file :
       {"MODULE.bazel", "bazel/version.bzl", "CHANGELOG.md"}) {
    EXPECT_EQ(complaint(file, number, "9.8.7"), file + fault);
  }
}

TEST_F(BuildFilesTest, AFileThatOneOfTheTwoLacksIsNoticed) {
  EXPECT_EQ(complaint("CMakeLists.txt", "  tcpip/tap.cc\n", ""),
            "CMakeLists.txt: TCPIP_SOURCES lacks tcpip/tap.cc\n");
  EXPECT_EQ(complaint("CMakeLists.txt", "tcpip/tap.h\n", "tcpip/tip.h\n"),
            "CMakeLists.txt: TCPIP_HEADERS lacks tcpip/tap.h\n"
            "CMakeLists.txt: TCPIP_HEADERS has tcpip/tip.h, Bazel has not\n");
  EXPECT_EQ(complaint("CMakeLists.txt", "  tcpip/testing/fault.cc\n", ""),
            "CMakeLists.txt: TCPIP_TESTING_SOURCES lacks "
            "tcpip/testing/fault.cc\n");
}

TEST_F(BuildFilesTest, APublicHeaderThatBringsTooLittleIsNoticed) {
  EXPECT_EQ(complaint("tcpip/stats.h", "#include \"tcpip/version.h\"", ""),
            "tcpip/stats.h: the first #include is not tcpip/version.h\n");
  EXPECT_EQ(complaint("tcpip/stream_reader.h", "#include \"tcpip/error.h\"",
                      "#include <new>"),
            "tcpip/stream_reader.h: has no error.h\n");
  EXPECT_EQ(complaint("tcpip/tcpip.h", "#include \"tcpip/tap.h\"", ""),
            "tcpip/tcpip.h: lacks tcpip/tap.h\n");
}

TEST_F(BuildFilesTest, AnUnmarkedPublicNameIsNoticed) {
  const std::pair<const char*, const char*> names[] = {
      {"tcpip/tap.h", "class Tap final"},
      {"tcpip/log.h", "std::string_view to_string(LogLevel level)"},
      {"tcpip/frame_dispatcher.h", "struct NoBody"},
      {"tcpip/testing/fault.h", "class Fault"}};
  for (const auto& [file, name] : names) {
    std::string marked = name;
    const auto at = marked.starts_with("std::") ? 0 : marked.find(' ') + 1;
    marked.insert(at, "TCPIP_EXPORT ");
    const std::string output = complaint(file, marked, name);
    EXPECT_EQ(output.find(std::string(file) + ":"), 0U) << output;
    EXPECT_NE(output.find(std::string(": not TCPIP_EXPORT: ")), output.npos)
        << output;
    EXPECT_EQ(output.find('\n'), output.size() - 1) << output;
  }
}

TEST(PublicHeaderTest, SaysFirstThatItNeedsCpp20) {
  for (const char* header : {"client.h", "tcpip.h"}) {
    const Outcome outcome =
        run({"g++", "-std=c++17", "-fsyntax-only", "-x", "c++", "-I",
             root().string(), (root() / "tcpip" / header).string()});
    EXPECT_NE(outcome.status, 0);
    const auto first = outcome.output.find("error: ");
    ASSERT_NE(first, outcome.output.npos) << outcome.output;
    EXPECT_EQ(outcome.output.find("error: #error \"tcpip needs C++20"), first)
        << outcome.output.substr(0, 400);
  }
}

TEST(VersionTest, IsTheSameAsTextAndAsMacros) {
  EXPECT_EQ(tcpip::kVersion, std::to_string(TCPIP_VERSION_MAJOR) + "." +
                                 std::to_string(TCPIP_VERSION_MINOR) + "." +
                                 std::to_string(TCPIP_VERSION_PATCH));
  EXPECT_EQ(TCPIP_VERSION, TCPIP_VERSION_MAJOR * 10000 +
                               TCPIP_VERSION_MINOR * 100 + TCPIP_VERSION_PATCH);
}

}  // namespace
}  // namespace tcpip_tests
