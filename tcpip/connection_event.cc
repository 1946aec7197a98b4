#include "tcpip/connection_event.h"

namespace tcpip {

std::string_view to_string(DisconnectReason reason) noexcept {
  switch (reason) {
    case DisconnectReason::kNone:
      return "none";
    case DisconnectReason::kPeerClosed:
      return "peer closed";
    case DisconnectReason::kReset:
      return "reset";
    case DisconnectReason::kTimedOut:
      return "timed out";
    case DisconnectReason::kHeartbeatLost:
      return "heartbeat lost";
    case DisconnectReason::kClosedHere:
      return "closed here";
    case DisconnectReason::kReplaced:
      return "replaced";
    case DisconnectReason::kSilent:
      return "silent";
    case DisconnectReason::kHandlerFailed:
      return "handler failed";
    case DisconnectReason::kNotReading:
      return "not reading";
    case DisconnectReason::kConnectFailed:
      return "connect failed";
    case DisconnectReason::kGaveUp:
      return "gave up";
  }
  return "?";
}

}  // namespace tcpip
