// Signals as something to poll: SIGINT, SIGTERM, SIGHUP and SIGWINCH, and
// SIGTSTP if asked for. Ignores SIGPIPE.
//
// Threads: to be made before the first thread starts, so that all threads block
// the signals.
#ifndef TOOLS_MONITOR_SIGNALS_H_
#define TOOLS_MONITOR_SIGNALS_H_

#include <optional>

#include "tcpip/unique_fd.h"

namespace tcpip_monitor {

class Signals {
 public:
  // Throws std::system_error.
  explicit Signals(bool with_stop);

  int fd() const { return fd_.get(); }
  // The number of the next one, without waiting.
  std::optional<int> take();

 private:
  tcpip::UniqueFd fd_;
};

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_SIGNALS_H_
