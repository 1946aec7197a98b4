// Decides when to send a heartbeat, and when the peer's heartbeats have stopped
// for too long. Has no socket, no lock and no clock.
//
// Threads: a value; EndpointCore guards that of each connection.
#ifndef TCPIP_ENDPOINT_HEARTBEATS_H_
#define TCPIP_ENDPOINT_HEARTBEATS_H_

#include <chrono>
#include <cstdint>
#include <limits>
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
      : options_(options),
        next_beat_(connected),
        heard_(connected),
        arrived_at_(connected) {}

  static constexpr std::uint64_t kJustCome =
      std::numeric_limits<std::uint64_t>::max();

  struct Verdict {
    bool send = false;         // send a heartbeat now
    bool lost = false;         // the peer's heartbeats have stopped
    Deadline look_again = {};  // when to call look() again
  };
  // Numbers of bytes, in all: those that have `arrived`, and those of them that
  // the program has read.
  //
  // read_writer.h has the rule. A heartbeat that came in time but is not read
  // yet must count: if the program reads slowly, or was stopped for a while,
  // that is not the peer's fault.
  Verdict look(TimePoint now, std::uint64_t arrived, std::uint64_t read);

  // To be called when a heartbeat of the peer's was read, which ended at the
  // byte with this number; kJustCome if that is not known. It counts from when
  // it came, not from now, as far as look() knows that: a peer that hangs shall
  // not live on what it has sent before.
  void heard(TimePoint now, std::uint64_t position) noexcept;

 private:
  // Set while a heartbeat is overdue but may be among the unread bytes.
  struct Doubt {
    TimePoint since;        // when it began
    std::uint64_t suspect;  // a heartbeat may be before this position
  };

  bool is_lost(TimePoint now, std::uint64_t read, Deadline& look_again);

  HeartbeatOptions options_;
  TimePoint next_beat_;  // when to send the next heartbeat
  TimePoint heard_;      // when the peer's last one came, or the connection
  std::optional<Doubt> doubt_;
  // How many bytes had arrived at the last look, and when a look has found the
  // last of them.
  std::uint64_t arrived_ = 0;
  TimePoint arrived_at_;
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_HEARTBEATS_H_
