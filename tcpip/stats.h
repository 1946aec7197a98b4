// What a client or server has done so far: its connections, what went over
// them, and what went wrong.
//
//   log.info(to_string(server.stats()));
//
// open_metrics.h writes them for Prometheus.
//
// Threads: a value, a snapshot. Each number is right by itself; two of them may
// differ by what happens while the snapshot is taken.
#ifndef TCPIP_STATS_H_
#define TCPIP_STATS_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace tcpip {

// Counted since the client or server was made, over all its connections; also
// what their StreamReader and StreamWriter do.
struct TCPIP_EXPORT EndpointStats {
  // A point on the steady clock.
  using TimePoint = std::chrono::steady_clock::time_point;

  // Whether there is a connection now.
  bool connected = false;
  std::uint64_t connections = 0;  // made so far
  // Tries of a client to connect that failed, each of them.
  std::uint64_t failed_connects = 0;
  // Clients that were turned away since another one was connected; and those
  // that AdmissionOptions do not let in.
  std::uint64_t rejected = 0;
  std::uint64_t not_allowed = 0;

  // Bytes that were taken from the kernel and given to it. A message is what
  // one read returns, or one write or send takes; heartbeats count too, and a
  // frame of a FrameDispatcher as two, header and body. Posts of a SendQueue
  // count when its thread writes them.
  std::uint64_t bytes_received = 0;
  std::uint64_t messages_received = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t messages_sent = 0;
  // Nothing if no byte has passed yet. Some milliseconds late, for speed.
  std::optional<TimePoint> last_receive = {};
  std::optional<TimePoint> last_send = {};

  std::uint64_t timeouts = 0;       // TimeoutErrors of reads and writes
  std::uint64_t overruns = 0;       // LimitOverrunErrors
  std::uint64_t decode_errors = 0;  // DecodeErrors and JsonDecodeErrors
  // How often connect_callback, posted callbacks, the read handler, `begin` and
  // may_connect have thrown. Of handler and `begin` not what the end of their
  // connection explains.
  std::uint64_t callback_errors = 0;

  // What the ends of connections have cost: bytes that had come and that no
  // read had taken; bytes that writes had taken and the kernel had not.
  std::uint64_t dropped_bytes = 0;
  std::uint64_t unsent_bytes = 0;
};

// One line: "connected, 3 connections, received 1200 bytes in 40 messages (the
// last 0.3 s ago), sent ...". Numbers of things that went wrong stand in it if
// they are not 0.
TCPIP_EXPORT std::string to_string(const EndpointStats& stats);

}  // namespace tcpip

#endif  // TCPIP_STATS_H_
