// What a connect_callback is told.
//
// Threads: a value, a snapshot of the change. `connection` alone is not a
// snapshot: it is a handle, and tells how the connection is now.
#ifndef TCPIP_CONNECTION_EVENT_H_
#define TCPIP_CONNECTION_EVENT_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>

#include "tcpip/connection.h"
#include "tcpip/error.h"

namespace tcpip {

// Why a connection ended.
enum class DisconnectReason {
  kNone,           // it has not ended: a connected event
  kPeerClosed,     // the peer closed it
  kReset,          // the peer, or the kernel, reset it
  kTimedOut,       // the peer no longer answers (keepalive, user timeout)
  kHeartbeatLost,  // the peer's heartbeats stopped
  kClosedHere,     // close(), close_client()
  // A new client came: the old one had gone and left unread bytes, or the
  // server lets the new one take its place (AdmissionOptions).
  kReplaced,
  kSilent,         // nothing came from the peer within silence_timeout
  kHandlerFailed,  // the read handler, or `begin`, has thrown
  // The peer does not read, and a SendQueue has closed the connection for that:
  // WhenFull::kClose, write_timeout.
  kNotReading,
  // Not an end: a ReconnectingClient could not connect. Told once for each
  // outage, with the error of the first try that failed.
  kConnectFailed,
  kGaveUp  // the same, and it was the last try: the client is closed
};

// "peer closed", "reset", "closed here", ... Not for printf: a std::string_view
// has no NUL at its end.
TCPIP_EXPORT std::string_view to_string(DisconnectReason reason) noexcept;

struct TCPIP_EXPORT ConnectionEvent {
  bool connected = false;                             // began, or ended
  DisconnectReason reason = DisconnectReason::kNone;  // why it ended
  // The error that ended the connection, if one did. Ask `if (event.error)`
  // before you show its message(): that of no error is "Success".
  std::error_code error = {};
  // How many bytes had come from the peer that no read had taken when the
  // connection ended. They are dropped, but for those that a read which was
  // under way then still returns.
  std::size_t dropped = 0;
  // The connection that began or ended; none (number 0) if none could be made.
  Connection connection = {};
  // When the change happened; the callback may run later.
  std::chrono::steady_clock::time_point time = {};

  // True if the connection ended and the program has not asked for that.
  bool is_unexpected() const noexcept {
    return !connected && reason != DisconnectReason::kClosedHere;
  }
};

// One line for a log: "connected: 10.0.0.7:50123", "reset: 10.0.0.7:50123
// (Connection reset by peer), 12 bytes dropped", "connect failed (Connection
// refused)".
TCPIP_EXPORT std::string to_string(const ConnectionEvent& event);

}  // namespace tcpip

#endif  // TCPIP_CONNECTION_EVENT_H_
