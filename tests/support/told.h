// How many events log lines tell of: the library writes one line for many, if a
// peer causes them often.
#ifndef TESTS_SUPPORT_TOLD_H_
#define TESTS_SUPPORT_TOLD_H_

#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tcpip/testing/log_recorder.h"

namespace tcpip_tests {

// The events of the lines that have `part` in their message.
inline std::size_t told(const tcpip_testing::LogRecorder& lines,
                        std::string_view part) {
  std::size_t result = 0;
  for (const tcpip_testing::LogLine& line : lines.values()) {
    if (line.message.find(part) == std::string::npos) continue;
    const std::size_t open = line.message.rfind(" (");
    const bool many =
        line.message.ends_with(" times since the last such line)");
    result += many ? std::strtoull(&line.message[open + 2], nullptr, 10) : 1;
  }
  return result;
}

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_TOLD_H_
