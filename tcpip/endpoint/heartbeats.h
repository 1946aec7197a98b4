// When to send a heartbeat, and when the peer's have failed to come for too
// long. Decides only: it has no socket, no lock and no clock of its own.
//
// Threads: a value; EndpointCore guards the one of each connection.
#ifndef TCPIP_ENDPOINT_HEARTBEATS_H_
#define TCPIP_ENDPOINT_HEARTBEATS_H_

#include <chrono>
#include <cstdint>
#include <optional>

#include "tcpip/options.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

// Throws std::invalid_argument for an interval that is not positive. Bounds
// intervals by what the clock can add.
HeartbeatOptions checked(HeartbeatOptions options);

class Heartbeats {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `connected` is when the connection was made. `options` are checked().
  Heartbeats(const HeartbeatOptions& options, TimePoint connected) noexcept
      : options_(options), next_beat_(connected), heard_(connected) {}

  struct Verdict {
    bool send = false;         // send one now
    bool lost = false;         // the peer's have failed to come: end it
    Deadline look_again = {};  // when to call look() again
  };
  // The counts are of bytes: `received` by the reader so far, `unread` of
  // those, and `receivable` that the kernel still holds. A heartbeat that came
  // in time but that nobody has read yet counts: a slow reader, or a program
  // that was stopped for a while, is not the peer's fault. So once a heartbeat
  // is overdue, the bytes that have arrived by then are given time to be read,
  // for as long as more bytes keep coming.
  Verdict look(TimePoint now, std::uint64_t received, std::uint64_t unread,
               std::uint64_t receivable);

  // The peer has sent one.
  void heard(TimePoint now) noexcept { heard_ = now; }

 private:
  // Set while a heartbeat is overdue but may be among bytes nobody has read.
  struct Doubt {
    TimePoint since;        // when bytes arrived last
    std::uint64_t arrived;  // how many bytes had arrived then
    std::uint64_t suspect;  // a heartbeat may be before this byte
  };

  bool is_lost(TimePoint now, std::uint64_t received, std::uint64_t unread,
               std::uint64_t receivable, Deadline& look_again);

  HeartbeatOptions options_;
  TimePoint next_beat_;  // when to send one
  TimePoint heard_;      // when the last one came, or the connection was made
  std::optional<Doubt> doubt_;
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_HEARTBEATS_H_
