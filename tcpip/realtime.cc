#include "tcpip/realtime.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace tcpip {
namespace {

struct Policy {
  int value;
  const char* name;
};

Policy policy_of(SchedulingPolicy policy) {
  switch (policy) {
    case SchedulingPolicy::kFifo:
      return {SCHED_FIFO, "SCHED_FIFO"};
    case SchedulingPolicy::kRoundRobin:
      return {SCHED_RR, "SCHED_RR"};
    case SchedulingPolicy::kOther:
      return {SCHED_OTHER, "SCHED_OTHER"};
  }
  throw std::invalid_argument("realtime: there is no such policy");
}

[[noreturn]] void refuse(int error_number, const char* operation,
                         std::string_view detail) {
  throw ThreadStartError(
      std::error_code(error_number, std::generic_category()), operation, {},
      fmt::format("{}: {}", std::generic_category().message(error_number),
                  detail));
}

// The hook, all of it checked. Acts on the calling thread.
class SetScheduling {
 public:
  explicit SetScheduling(RealtimeOptions options)
      : options_(std::move(options)), policy_(policy_of(options_.policy)) {
    const int lowest = ::sched_get_priority_min(policy_.value);
    const int highest = ::sched_get_priority_max(policy_.value);
    priority_ = options_.priority.value_or(lowest);
    if (priority_ < lowest || priority_ > highest) {
      throw std::invalid_argument(
          fmt::format("realtime: priority {} is not in {}...{} ({})", priority_,
                      lowest, highest, policy_.name));
    }
    CPU_ZERO(&cpus_);
    for (const int cpu : options_.cpus) {
      if (cpu < 0 || cpu >= CPU_SETSIZE) {
        throw std::invalid_argument(fmt::format(
            "realtime: CPU {} is not in 0...{}", cpu, CPU_SETSIZE - 1));
      }
      CPU_SET(static_cast<std::size_t>(cpu), &cpus_);
    }
  }

  void operator()(ThreadRole role) const {
    const std::vector<ThreadRole>& roles = options_.roles;
    if (!roles.empty() &&
        std::find(roles.begin(), roles.end(), role) == roles.end()) {
      return;
    }
    if (!options_.cpus.empty()) set_affinity(role);
    set_scheduler(role);
  }

 private:
  void set_affinity(ThreadRole role) const {
    const auto detail = [&] {
      return fmt::format("CPUs {} for the {} thread",
                         fmt::join(options_.cpus, ", "), to_string(role));
    };
    if (::sched_setaffinity(0, sizeof cpus_, &cpus_) != 0) {
      refuse(errno, "sched_setaffinity", detail());
    }
    // The kernel leaves out CPUs that the process may not use.
    cpu_set_t got;
    if (::sched_getaffinity(0, sizeof got, &got) != 0) {
      refuse(errno, "sched_getaffinity", detail());
    }
    if (!CPU_EQUAL(&got, &cpus_)) {
      refuse(EINVAL, "sched_setaffinity", detail());
    }
  }

  void set_scheduler(ThreadRole role) const {
    sched_param parameters{};
    parameters.sched_priority = priority_;
    if (::sched_setscheduler(0, policy_.value, &parameters) == 0) return;
    const int error_number = errno;
    std::string detail = fmt::format("{} with priority {} for the {} thread",
                                     policy_.name, priority_, to_string(role));
    if (error_number == EPERM) {
      detail += fmt::format(
          "; the process needs CAP_SYS_NICE, or RLIMIT_RTPRIO of {} or more",
          priority_);
    }
    refuse(error_number, "sched_setscheduler", detail);
  }

  RealtimeOptions options_;
  Policy policy_;
  int priority_ = 0;
  cpu_set_t cpus_;
};

}  // namespace

ThreadStartHook realtime(RealtimeOptions options) {
  return required(SetScheduling(std::move(options)));
}

}  // namespace tcpip
