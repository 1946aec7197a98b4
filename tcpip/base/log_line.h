// Log lines that are formatted only if somebody gets them, and never throw: for
// threads and destructors that must go on when there is no memory.
//
// Threads: may be called from any thread, but not under a lock.
#ifndef TCPIP_BASE_LOG_LINE_H_
#define TCPIP_BASE_LOG_LINE_H_

#include <exception>

#include "tcpip/log.h"

namespace tcpip::internal {

// Writes the line that make() returns. If that fails for lack of memory, writes
// `without_memory` instead.
template <class Make>
void log_line(const Log& log, LogLevel level, const char* without_memory,
              Make make) noexcept {
  if (!log.is_enabled(level)) return;
  try {
    log.write(level, make());
  } catch (const std::exception&) {
    log.write(level, without_memory);
  }
}

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_LOG_LINE_H_
