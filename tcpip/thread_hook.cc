#include "tcpip/thread_hook.h"

#include <stdexcept>
#include <utility>

#include "tcpip/base/workers.h"

namespace tcpip {

std::string_view to_string(ThreadRole role) noexcept {
  switch (role) {
    case ThreadRole::kAccept:
      return "accept";
    case ThreadRole::kReader:
      return "reader";
    case ThreadRole::kMonitor:
      return "monitor";
    case ThreadRole::kDispatch:
      return "dispatch";
    case ThreadRole::kSend:
      return "send";
    case ThreadRole::kPeriodic:
      return "periodic";
    case ThreadRole::kTap:
      return "tap";
    case ThreadRole::kResolve:
      return "resolve";
  }
  return "?";
}

ThreadStartHook required(ThreadStartHook hook) {
  if (!hook) throw std::invalid_argument("required: the hook is empty");
  return internal::RequiredHook{std::move(hook)};
}

}  // namespace tcpip
