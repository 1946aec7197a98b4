// What a connection's Receiver and Sender report of what passes: to the
// counters of its client or server and to its tap. A stream that belongs to no
// client or server has neither.
//
// Threads: as Counters and TapLine.
#ifndef TCPIP_STREAM_METER_H_
#define TCPIP_STREAM_METER_H_

#include <cstddef>
#include <memory>
#include <string_view>

#include "tcpip/stream/counters.h"
#include "tcpip/stream/tap_line.h"

namespace tcpip::internal {

struct Meter {
  void received(std::string_view bytes) const noexcept {
    if (counters) {
      counters->bytes_received.add(bytes.size());
      counters->last_receive.note_now();
    }
    if (tap) tap->received(bytes);
  }
  void sent(TapLine::Pieces pieces, std::size_t count) const noexcept {
    if (count == 0) return;
    if (counters) {
      counters->bytes_sent.add(count);
      counters->last_send.note_now();
    }
    if (tap) tap->sent(pieces, count);
  }
  void count(Counter Counters::*counter) const noexcept {
    if (counters) ((*counters).*counter).add();
  }

  std::shared_ptr<Counters> counters = {};
  std::shared_ptr<TapLine> tap = {};
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_METER_H_
