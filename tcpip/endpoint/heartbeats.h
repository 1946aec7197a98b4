// Decides when to send a heartbeat, and when the peer's heartbeats have stopped
// for too long. Has no socket, no lock and no clock.
//
// Threads: a value; EndpointCore guards that of each connection.
#ifndef TCPIP_ENDPOINT_HEARTBEATS_H_
#define TCPIP_ENDPOINT_HEARTBEATS_H_

#include <chrono>
#include <cstdint>
#include <optional>

#include "tcpip/options.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

// Throws std::invalid_argument for an interval that is not positive. Shortens
// intervals that are too long for the clock.
HeartbeatOptions checked(HeartbeatOptions options);

class Heartbeats {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `options` come from checked(); `connected` is when the connection was made.
  Heartbeats(const HeartbeatOptions& options, TimePoint connected) noexcept
      : options_(options), next_beat_(connected), heard_(connected) {}

  struct Verdict {
    bool send = false;         // send a heartbeat now
    bool lost = false;         // the peer's heartbeats have stopped
    Deadline look_again = {};  // when to call look() again
  };
  // Numbers of bytes: `received` by the reader so far, `unread` of those, and
  // `receivable` in the kernel.
  //
  // read_writer.h has the rule. A heartbeat that came in time but is not read
  // yet must count: if the program reads slowly, or was stopped for a while,
  // that is not the peer's fault.
  Verdict look(TimePoint now, std::uint64_t received, std::uint64_t unread,
               std::uint64_t receivable);

  // To be called when the peer has sent a heartbeat.
  void heard(TimePoint now) noexcept { heard_ = now; }

 private:
  // Set while a heartbeat is overdue but may be among the unread bytes.
  struct Doubt {
    TimePoint since;        // when bytes arrived last
    std::uint64_t arrived;  // how many bytes had arrived then
    std::uint64_t suspect;  // a heartbeat may be before this position
  };

  bool is_lost(TimePoint now, std::uint64_t received, std::uint64_t unread,
               std::uint64_t receivable, Deadline& look_again);

  HeartbeatOptions options_;
  TimePoint next_beat_;  // when to send the next heartbeat
  TimePoint heard_;      // when the peer's last one came, or the connection
  std::optional<Doubt> doubt_;
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_HEARTBEATS_H_
