// What a connect_callback is told.
//
// Threads: a value; a snapshot that does not change after it was made. Its
// `connection` is a handle, which speaks of the connection as it is now.
#ifndef TCPIP_CONNECTION_EVENT_H_
#define TCPIP_CONNECTION_EVENT_H_

#include <chrono>
#include <string_view>
#include <system_error>

#include "tcpip/connection.h"

namespace tcpip {

// Why a connection ended.
enum class DisconnectReason {
  kNone,           // it has not: the event says connected
  kPeerClosed,     // the peer closed it
  kReset,          // the peer, or the kernel, reset it
  kTimedOut,       // the peer no longer answers (keepalive, user timeout)
  kHeartbeatLost,  // the peer's heartbeats stopped
  kClosedHere,     // close(), close_client(), or a failed read handler
  kReplaced        // the peer had gone, with bytes unread; a new client came
};

std::string_view to_string(DisconnectReason reason) noexcept;

struct ConnectionEvent {
  bool connected = false;
  DisconnectReason reason = DisconnectReason::kNone;
  // What the system said, where the connection ended with an error.
  std::error_code error = {};
  // The connection that began or ended: number(), peer_address(), and, in the
  // event that begins it, all reads and writes.
  Connection connection = {};
  std::chrono::steady_clock::time_point time = {};

  // True if the connection ended although this side meant to keep it.
  bool is_unexpected() const noexcept {
    return !connected && reason != DisconnectReason::kClosedHere;
  }
};

}  // namespace tcpip

#endif  // TCPIP_CONNECTION_EVENT_H_
