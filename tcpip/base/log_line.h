// Log lines that are formatted only if somebody gets them, and never throw: for
// threads and destructors that must go on when there is no memory.
//
// Threads: may be called from any thread, but not under a lock.
#ifndef TCPIP_BASE_LOG_LINE_H_
#define TCPIP_BASE_LOG_LINE_H_

#include <exception>

#include "tcpip/log.h"

namespace tcpip::internal {

// The text of an exception of the program's, whose what() may be null.
inline const char* what_of(const std::exception& e) noexcept {
  const char* const what = e.what();
  return what == nullptr ? "an exception without a text" : what;
}

// Calls write(), which writes a line. If that throws for lack of memory, the
// log says so instead.
template <class Write>
void write_line(const Log& log, LogLevel level, Write write) noexcept {
  if (!log.is_enabled(level)) return;
  try {
    write();
  } catch (const std::exception&) {
    log.write(level, "there was no memory for a line of this log");
  }
}

// Writes the line that make() returns.
template <class Make>
void log_line(const Log& log, LogLevel level, Make make) noexcept {
  write_line(log, level, [&] { log.write(level, make()); });
}

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_LOG_LINE_H_
