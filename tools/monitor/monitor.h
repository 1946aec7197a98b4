// The monitor as a whole: waits for what passes, for what is typed, for signals
// and for the time, and acts on it.
//
// Threads: for the main thread; see session.h for the others.
#ifndef TOOLS_MONITOR_MONITOR_H_
#define TOOLS_MONITOR_MONITOR_H_

#include "tools/monitor/options.h"

namespace tcpip_monitor {

// Returns the exit status. Writes to the standard output; what keeps it from
// beginning goes to the standard error.
int run_monitor(const Options& options);

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_MONITOR_H_
