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

#include "tcpip/base/mutex.h"
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
  // Lives while bytes are given to the kernel, and counted by sent().
  class Sending {
   public:
    explicit Sending(const Meter& meter) noexcept
        TCPIP_NO_THREAD_SAFETY_ANALYSIS  // locked if there is a tap
        : meter_(meter) {
      if (meter_.tap) meter_.tap->begin_send();
    }
    ~Sending() TCPIP_NO_THREAD_SAFETY_ANALYSIS {
      if (meter_.tap) meter_.tap->end_send();
    }
    Sending(const Sending&) = delete;
    Sending& operator=(const Sending&) = delete;

    void sent(TapLine::Pieces pieces, std::size_t count) const noexcept
        TCPIP_NO_THREAD_SAFETY_ANALYSIS {
      if (count == 0) return;
      if (meter_.counters) {
        meter_.counters->bytes_sent.add(count);
        meter_.counters->last_send.note_now();
      }
      if (meter_.tap) meter_.tap->sent(pieces, count);
    }

   private:
    const Meter& meter_;
  };
  void count(Counter Counters::*counter) const noexcept {
    if (counters) ((*counters).*counter).add();
  }

  std::shared_ptr<Counters> counters = {};
  std::shared_ptr<TapLine> tap = {};
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_METER_H_
