#include "tcpip/connection_event.h"

#include <fmt/format.h>

namespace tcpip {

std::string to_string(const ConnectionEvent& event) {
  std::string text(event.connected ? "connected" : to_string(event.reason));
  const std::string peer = event.connection.peer_address().to_string();
  if (!peer.empty()) text += ": " + peer;
  if (event.error) text += " (" + event.error.message() + ")";
  if (event.dropped > 0) {
    text += fmt::format(", {} byte{} dropped", event.dropped,
                        event.dropped == 1 ? "" : "s");
  }
  return text;
}

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
