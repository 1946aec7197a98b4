// Makes text of what passes: divides the bytes of both directions into
// messages, and shows each message in a line (or in some, for JSON with
// indentation and for hexadecimal).
//
// Whatever the peer sends, the text has no control characters but line ends
// and, if asked for, colours.
//
// Threads: one at a time.
#ifndef TOOLS_MONITOR_VIEW_H_
#define TOOLS_MONITOR_VIEW_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tcpip/endpoint/text.h"
#include "tools/monitor/options.h"

namespace tcpip_monitor {

enum class Way {
  kIn,  // "<"
  kOut  // ">"
};

using TimePoint = std::chrono::system_clock::time_point;

// A piece of the stream of one direction.
struct Passed {
  Way way = Way::kIn;
  TimePoint time = {};
  std::string bytes = {};
  // How many bytes have passed before; and how many of those, right before
  // these, are missing.
  std::uint64_t position = 0;
  std::uint64_t skipped = 0;
};

class View {
 public:
  // Of all connections together.
  struct Counts {
    std::uint64_t messages = 0;  // heartbeats not among them
    std::uint64_t heartbeats = 0;
  };

  // Throws std::invalid_argument for an unknown encoding.
  View(ViewOptions options, bool has_color);

  // A connection has begun: both streams start anew.
  void begin(TimePoint time);
  void show(const Passed& passed);
  // The connection has ended: shows what is not complete.
  void end(TimePoint time);
  // What the monitor has to say itself. A fault stands out.
  void remark(TimePoint time, std::string_view text);
  void fault(TimePoint time, std::string_view text);

  // Shows what waits for its time: an unfinished line that does not go on, and
  // heartbeats. To be called at next_tick().
  void tick(TimePoint now);
  std::optional<TimePoint> next_tick() const;

  const Counts& counts(Way way) const { return stream(way).counts; }

  // The text that was made since the last call.
  std::string take();

 private:
  struct Stream {
    std::string buffer = {};     // not shown yet
    std::size_t searched = 0;    // no terminator ends before this
    std::uint64_t position = 0;  // of the buffer's first byte
    TimePoint time = {};         // when the last bytes came
    bool is_lost = false;        // where a frame begins is no longer known
    Counts counts = {};
    // Heartbeats that are not shown yet.
    std::uint64_t folded = 0;
    TimePoint last_heartbeat = {};
    std::optional<TimePoint> show_heartbeats = {};
  };

  Stream& stream(Way way) { return streams_[static_cast<std::size_t>(way)]; }
  const Stream& stream(Way way) const {
    return streams_[static_cast<std::size_t>(way)];
  }

  void skip(Way way, const Passed& passed);
  void take_lines(Way way);
  void take_frames(Way way);
  // What is left of the buffer, with `remark` behind it.
  void take_rest(Way way, std::string_view remark);
  void show_line(Way way, std::string_view message, std::string_view remark);
  void show_heartbeat(Way way, std::string_view message);
  void show_folded(Way way, TimePoint time);
  void show_hex(Way way, std::string_view bytes, std::string_view remark);
  // Whether there was a whole frame in the buffer.
  bool take_frame(Way way);
  void drop(Stream& stream, std::size_t count);

  void add(TimePoint time, std::string_view color, std::string_view sign,
           std::string_view text);
  void add_message(Way way, std::string_view text, std::string_view remark);
  std::string time_text(TimePoint time) const;
  std::string_view paint(std::string_view color) const {
    return has_color_ ? color : std::string_view();
  }

  const ViewOptions options_;
  const tcpip::internal::TextCodec codec_;
  const bool takes_newline_;
  const bool has_color_;
  std::array<Stream, 2> streams_;
  TimePoint began_ = {};
  std::string text_;
};

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_VIEW_H_
