// Log lines, collected as they come.
//
//   LogRecorder lines;
//   tcpip::OneClientServer server({..., .log = lines.log()});
//   ...
//   ASSERT_TRUE(lines.wait_for("rejecting"));
//   EXPECT_EQ(lines.count("failed"), 0u) << lines.text();
//
// Threads: every member may be called from any thread.
#ifndef TCPIP_TESTING_LOG_RECORDER_H_
#define TCPIP_TESTING_LOG_RECORDER_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/log.h"
#include "tcpip/testing/wait_until.h"

namespace tcpip_testing {

namespace internal {
template <class T>
class WaitableQueue;
}

struct TCPIP_EXPORT LogLine {
  tcpip::LogLevel level;  // of the message
  std::string name;       // the log's
  std::string message;    // without the end of the line
};

// Copies share the lines.
class TCPIP_EXPORT LogRecorder {
 public:
  LogRecorder();

  // A log that records the lines of that level and above. It may outlive this
  // object.
  tcpip::Log log(tcpip::LogLevel level = tcpip::LogLevel::kDebug) const;

  // How many lines there are.
  std::size_t size() const;
  // The oldest first.
  std::vector<LogLine> values() const;
  // How many lines have `part` in their message.
  std::size_t count(std::string_view part) const;
  // True once there are that many such lines; false if there are not in time.
  [[nodiscard]] bool wait_for(
      std::string_view part, std::size_t count = 1,
      std::chrono::milliseconds patience = kPatience) const;
  // All messages, one a line; for the message of a failing test.
  std::string text() const;

 private:
  std::shared_ptr<internal::WaitableQueue<LogLine>> lines_;
};

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_LOG_RECORDER_H_
