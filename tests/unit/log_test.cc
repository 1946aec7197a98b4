#include "tcpip/log.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tcpip {
namespace {

struct Lines {
  std::vector<std::string> all;

  Log::Sink sink() {
    return [this](LogLevel level, std::string_view name,
                  std::string_view message) {
      all.push_back(std::string(to_string(level)) + "|" + std::string(name) +
                    "|" + std::string(message));
    };
  }
};

TEST(Log, DropsEverythingByDefault) {
  const Log log;
  EXPECT_FALSE(log.is_enabled(LogLevel::kError));
  log.error("nobody hears");
}

TEST(Log, DropsEverythingWithAnEmptySink) {
  const Log log{Log::Sink()};
  EXPECT_FALSE(log.is_enabled(LogLevel::kError));
  log.error("nobody hears");
}

TEST(Log, PassesLevelNameAndMessage) {
  Lines lines;
  const Log log(lines.sink(), LogLevel::kDebug, "server");
  log.debug("a");
  log.info("b");
  log.warning("c");
  log.error("d");
  EXPECT_EQ(lines.all,
            (std::vector<std::string>{"DEBUG|server|a", "INFO|server|b",
                                      "WARNING|server|c", "ERROR|server|d"}));
}

TEST(Log, DropsWhatIsBelowItsLevel) {
  Lines lines;
  Log log(lines.sink());
  EXPECT_EQ(log.level(), LogLevel::kInfo);
  log.debug("not this");
  log.info("this");
  log.set_level(LogLevel::kError);
  EXPECT_FALSE(log.is_enabled(LogLevel::kWarning));
  log.warning("not this");
  log.error("and this");
  EXPECT_EQ(lines.all,
            (std::vector<std::string>{"INFO||this", "ERROR||and this"}));
}

TEST(Log, ChildAddsItsNameAndKeepsSinkAndLevel) {
  Lines lines;
  const Log root(lines.sink(), LogLevel::kDebug, "mount");
  const Log child = root.child("server").child("reader");
  EXPECT_EQ(child.name(), "mount.server.reader");
  EXPECT_EQ(child.level(), LogLevel::kDebug);
  EXPECT_EQ(root.child("").name(), "mount");
  EXPECT_EQ(Log(lines.sink()).child("server").name(), "server");
  child.debug("x");
  EXPECT_EQ(lines.all,
            (std::vector<std::string>{"DEBUG|mount.server.reader|x"}));
}

TEST(Log, CopiesHaveLevelsOfTheirOwn) {
  Lines lines;
  const Log loud(lines.sink(), LogLevel::kDebug);
  Log quiet = loud;
  quiet.set_level(LogLevel::kError);
  EXPECT_TRUE(loud.is_enabled(LogLevel::kDebug));
  EXPECT_FALSE(quiet.is_enabled(LogLevel::kWarning));
}

TEST(Log, DropsWhatItsSinkThrows) {
  const Log log([](LogLevel, std::string_view, std::string_view) {
    throw std::runtime_error("disk full");
  });
  EXPECT_NO_THROW(log.error("x"));
  const Log other(
      [](LogLevel, std::string_view, std::string_view) { throw 42; });
  EXPECT_NO_THROW(other.error("x"));
}

TEST(StderrSink, WritesALine) {
  const Log log(stderr_sink(), LogLevel::kInfo, "server");
  testing::internal::CaptureStderr();
  log.info("listening");
  Log(stderr_sink()).error("no name");
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "INFO server: listening\nERROR: no name\n");
}

}  // namespace
}  // namespace tcpip
