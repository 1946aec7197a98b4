#include "tcpip/testing/log_recorder.h"

#include "tcpip/testing/waitable_queue.h"

namespace tcpip_testing {

LogRecorder::LogRecorder()
    : lines_(std::make_shared<internal::WaitableQueue<LogLine>>()) {}

tcpip::Log LogRecorder::log(tcpip::LogLevel level) const {
  return tcpip::Log(
      [lines = lines_](tcpip::LogLevel at, std::string_view name,
                       std::string_view message) {
        lines->push({at, std::string(name), std::string(message)});
      },
      level);
}

std::size_t LogRecorder::size() const { return lines_->size(); }

std::vector<LogLine> LogRecorder::values() const { return lines_->values(); }

std::size_t LogRecorder::count(std::string_view part) const {
  std::size_t result = 0;
  for (const LogLine& line : values()) {
    if (line.message.find(part) != std::string::npos) ++result;
  }
  return result;
}

bool LogRecorder::wait_for(std::string_view part, std::size_t count,
                           std::chrono::milliseconds patience) const {
  return wait_until([&] { return this->count(part) >= count; }, patience);
}

std::string LogRecorder::text() const {
  std::string result;
  for (const LogLine& line : values()) result += line.message + "\n";
  return result;
}

}  // namespace tcpip_testing
