// Writes recordings (tcpip/testing/recording.h) while the bytes pass: what has
// passed is in the file also if the monitor is killed.
//
// Each connection has a file of its own: FILE, FILE.2, FILE.3, ... If a file
// cannot be written, it says so once and does nothing more; the file then ends
// with a whole line.
//
// Threads: one at a time; the caller sees to that.
#ifndef TOOLS_MONITOR_RECORDER_H_
#define TOOLS_MONITOR_RECORDER_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "tcpip/testing/direction.h"
#include "tcpip/unique_fd.h"

namespace tcpip_monitor {

class Recorder {
 public:
  using TimePoint = std::chrono::system_clock::time_point;
  using Report = std::function<void(const std::string& what)>;

  // Makes the first file. Throws std::system_error if it cannot, if there is
  // such a file with something in it or that another recorder has open, and for
  // a FIFO that nobody reads.
  Recorder(std::string path, Report report);

  void begin(TimePoint time);
  void add(tcpip_testing::Direction direction, TimePoint time,
           std::string_view bytes);
  // That side has ended; once.
  void add_end(tcpip_testing::Direction direction, TimePoint time);
  // The recording has a gap, so it is of no use.
  void give_up(const std::string& why);

 private:
  void open(const std::string& path);
  void write(std::string_view text);

  const std::string path_;
  const Report report_;
  std::string current_path_;
  tcpip::UniqueFd file_;  // none: nothing is written any more
  std::uint64_t connections_ = 0;
  TimePoint began_ = {};
  std::chrono::microseconds last_{0};
  std::array<bool, 2> ended_{};
};

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_RECORDER_H_
