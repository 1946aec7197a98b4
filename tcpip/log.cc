#include "tcpip/log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

namespace tcpip {

std::string_view to_string(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::kDebug:
      return "DEBUG";
    case LogLevel::kInfo:
      return "INFO";
    case LogLevel::kWarning:
      return "WARNING";
    case LogLevel::kError:
      return "ERROR";
  }
  return "?";
}

Log::Log(Sink sink, LogLevel level, std::string name)
    : sink_(sink ? std::make_shared<const Sink>(std::move(sink)) : nullptr),
      level_(level),
      name_(std::move(name)) {}

Log Log::child(std::string_view name) const {
  Log result = *this;
  if (!result.name_.empty() && !name.empty()) result.name_ += '.';
  result.name_ += name;
  return result;
}

void Log::write(LogLevel level, std::string_view message) const noexcept {
  if (!is_enabled(level)) return;
  try {
    (*sink_)(level, name_, message);
  } catch (...) {
    // A log that cannot be written must not end the thread that wrote it.
  }
}

Log::Sink stderr_sink() {
  return [](LogLevel level, std::string_view name, std::string_view message) {
    const std::string line =
        name.empty()
            ? fmt::format("{}: {}\n", to_string(level), message)
            : fmt::format("{} {}: {}\n", to_string(level), name, message);
    [[maybe_unused]] const auto written =
        ::write(STDERR_FILENO, line.data(), line.size());
  };
}

}  // namespace tcpip
