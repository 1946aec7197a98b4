#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/log.h"
#include "tcpip/testing/log_recorder.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip::Log;
using tcpip::LogLevel;

TEST(TestingLogRecorderTest, KeepsLevelNameAndMessageOfEachLine) {
  const LogRecorder lines;
  const Log log = lines.log().child("dome");
  log.debug("one");
  log.error("two");
  const std::vector<LogLine> values = lines.values();
  ASSERT_EQ(lines.size(), 2u);
  ASSERT_EQ(values.size(), 2u);
  EXPECT_EQ(values[0].level, LogLevel::kDebug);
  EXPECT_EQ(values[0].name, "dome");
  EXPECT_EQ(values[0].message, "one");
  EXPECT_EQ(values[1].level, LogLevel::kError);
  EXPECT_EQ(values[1].message, "two");
  EXPECT_EQ(lines.text(), "one\ntwo\n");
}

TEST(TestingLogRecorderTest, RecordsFromTheLevelOnThatItIsAskedFor) {
  const LogRecorder lines;
  const Log log = lines.log(LogLevel::kWarning);
  log.info("one");
  log.warning("two");
  EXPECT_EQ(lines.text(), "two\n");
}

TEST(TestingLogRecorderTest, CountsTheLinesThatHaveAPart) {
  const LogRecorder lines;
  const Log log = lines.log();
  EXPECT_EQ(lines.count("rejecting"), 0u);
  log.info("rejecting 127.0.0.1:1: rejecting");
  log.info("rejecting 127.0.0.1:2");
  log.info("closed");
  EXPECT_EQ(lines.count("rejecting"), 2u);
  EXPECT_EQ(lines.count(""), 3u);
}

TEST(TestingLogRecorderTest, WaitForIsTrueOnceThereAreThatMany) {
  const LogRecorder lines;
  EXPECT_FALSE(lines.wait_for("closed", 1, 1ms));
  std::jthread thread([log = lines.log()] {
    log.info("closed 1");
    log.info("other");
    log.info("closed 2");
  });
  EXPECT_TRUE(lines.wait_for("closed"));
  EXPECT_TRUE(lines.wait_for("closed", 2));
  EXPECT_FALSE(lines.wait_for("closed", 3, 1ms));
}

TEST(TestingLogRecorderTest, CopiesShareThemAndTheLogMayOutliveAll) {
  std::optional<LogRecorder> lines(std::in_place);
  std::optional<LogRecorder> copy = *lines;
  const Log log = lines->log();
  lines.reset();
  log.info("one");
  EXPECT_EQ(copy->size(), 1u);
  copy.reset();
  log.info("two");
}

}  // namespace
}  // namespace tcpip_testing
