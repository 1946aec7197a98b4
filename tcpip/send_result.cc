#include "tcpip/send_result.h"

namespace tcpip {

std::string_view to_string(SendResult result) noexcept {
  switch (result) {
    case SendResult::kSent:
      return "sent";
    case SendResult::kQueued:
      return "queued";
    case SendResult::kBusy:
      return "busy";
    case SendResult::kNotConnected:
      return "not connected";
  }
  return "?";
}

}  // namespace tcpip
