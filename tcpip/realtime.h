// A start hook that gives the library's threads a scheduling policy, a priority
// and CPUs.
//
//   tcpip::OneClientReadLoopServer server(
//       {.port = 4000,
//        .thread_start_hook = tcpip::realtime({.priority = 80, .cpus = {2}})},
//       handler);
//   server.start();  // throws if the kernel refuses it
//
// Threads: realtime() may be called from any thread, and what it returns too.
#ifndef TCPIP_REALTIME_H_
#define TCPIP_REALTIME_H_

#include "tcpip/version.h"

#include <optional>
#include <vector>

#include "tcpip/thread_hook.h"

namespace tcpip {

// How the kernel schedules a thread.
enum class SchedulingPolicy {
  kFifo,        // SCHED_FIFO: runs until it waits
  kRoundRobin,  // SCHED_RR: takes turns with others of its priority
  kOther  // SCHED_OTHER: an ordinary thread, also if the thread that calls
          // start() is a real-time one
};

struct TCPIP_EXPORT RealtimeOptions {
  // From 1 to 99 for kFifo and kRoundRobin, 0 for kOther. Absent: the lowest.
  std::optional<int> priority = {};
  // The policy of the threads.
  SchedulingPolicy policy = SchedulingPolicy::kFifo;
  // The CPUs that the thread may run on, from 0. Empty: those of the thread
  // that calls start().
  std::vector<int> cpus = {};
  // The threads that this is for. Empty: all. The others are left alone.
  std::vector<ThreadRole> roles = {};
};

// Returns a required() hook (thread_hook.h), for the option thread_start_hook.
// It may also be called in a thread of the program's, to set up that one.
//
// Throws std::invalid_argument for a priority that the policy does not have,
// and for a CPU that is not in 0...1023.
//
// What the kernel refuses, the hook throws as a ThreadStartError, and so does
// start(). Its code() is the errno; its operation() is
// "sched_setscheduler" (EPERM: the process needs CAP_SYS_NICE, or RLIMIT_RTPRIO
// of at least the priority) or "sched_setaffinity" (EINVAL: the process may not
// use one of the CPUs, or there is no such CPU).
[[nodiscard]] TCPIP_EXPORT ThreadStartHook realtime(RealtimeOptions options);

}  // namespace tcpip

#endif  // TCPIP_REALTIME_H_
