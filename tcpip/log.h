// Where the library's messages go: nowhere, until the program gives a sink.
//
// Threads: Log is a value; a const Log may be used and copied from any thread.
// The sink must be thread-safe: any thread may call it, several at once, but
// never under a lock of the library. What the sink throws is dropped.
#ifndef TCPIP_LOG_H_
#define TCPIP_LOG_H_

#include "tcpip/version.h"

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace tcpip {

// How grave a message is; the least first.
enum class LogLevel { kDebug, kInfo, kWarning, kError };

// "DEBUG" and the like.
TCPIP_EXPORT std::string_view to_string(LogLevel level) noexcept;

class TCPIP_EXPORT Log {
 public:
  // `name` and `message` are valid during the call only; `message` is one line
  // without its end.
  using Sink = std::function<void(LogLevel level, std::string_view name,
                                  std::string_view message)>;

  Log() noexcept = default;  // drops everything
  // Gives the sink all messages of that level and above, under that name.
  explicit Log(Sink sink, LogLevel level = LogLevel::kInfo,
               std::string name = {});

  // The same sink and level under "name.child"; as in Python's getChild.
  Log child(std::string_view name) const;

  // Name and level; a message below the level is dropped.
  const std::string& name() const noexcept { return name_; }
  LogLevel level() const noexcept { return level_; }
  // Concerns this object, not its copies and children.
  void set_level(LogLevel level) noexcept { level_ = level; }
  // Whether a message of that level reaches the sink.
  bool is_enabled(LogLevel level) const noexcept {
    return sink_ != nullptr && level >= level_;
  }

  // Gives the sink a message, if the level is enabled. What the sink throws is
  // dropped.
  void write(LogLevel level, std::string_view message) const noexcept;
  void debug(std::string_view m) const noexcept { write(LogLevel::kDebug, m); }
  void info(std::string_view m) const noexcept { write(LogLevel::kInfo, m); }
  void warning(std::string_view m) const noexcept {
    write(LogLevel::kWarning, m);
  }
  void error(std::string_view m) const noexcept { write(LogLevel::kError, m); }

 private:
  std::shared_ptr<const Sink> sink_;
  LogLevel level_ = LogLevel::kInfo;
  std::string name_;
};

// A sink that writes each message to stderr, as one line by one system call.
TCPIP_EXPORT Log::Sink stderr_sink();

}  // namespace tcpip

#endif  // TCPIP_LOG_H_
