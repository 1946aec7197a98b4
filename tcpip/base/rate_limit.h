// How often something may happen: a few times at once, then at a bounded rate.
// Counts what is held back.
//
//   RateLimit limit(1s);
//   if (const std::uint64_t n = limit.take(now)) say(n);  // n happened so far
//   else say nothing;                                     // counted for later
//
// Threads: a value; the caller guards it. It has no clock: the caller says what
// the time is.
#ifndef TCPIP_BASE_RATE_LIMIT_H_
#define TCPIP_BASE_RATE_LIMIT_H_

#include <chrono>
#include <cstdint>
#include <utility>

#include "tcpip/wait.h"

namespace tcpip::internal {

class RateLimit {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  // Passes one event every `interval`, and up to `burst` at once after a quiet
  // time.
  explicit RateLimit(Duration interval, int burst = 1) noexcept
      : interval_(interval), burst_(burst) {}

  // Counts an event. Passes it and those held back before: returns their
  // number. Or holds it back: returns 0.
  std::uint64_t take(TimePoint now) noexcept {
    ++held_;
    return pass(now);
  }
  // Passes what is held back, if it may pass by now; returns the number.
  std::uint64_t take_held(TimePoint now) noexcept {
    return held_ == 0 ? 0 : pass(now);
  }
  // Passes what is held back, whatever the time.
  std::uint64_t take_all_held() noexcept { return std::exchange(held_, 0); }
  // When take_held() will pass something; never, if nothing is held back.
  Deadline due() const noexcept {
    return held_ == 0 ? Deadline() : Deadline(free_at_ - slack());
  }

 private:
  std::uint64_t pass(TimePoint now) noexcept {
    if (now < free_at_ - slack()) return 0;
    if (free_at_ < now) free_at_ = now;
    free_at_ += interval_;
    return std::exchange(held_, 0);
  }
  // An event may come so long before its time.
  Duration slack() const noexcept { return (burst_ - 1) * interval_; }

  Duration interval_;
  int burst_;
  // The earliest time of the next event if all came at the bounded rate. The
  // epoch lies further back than any slack.
  TimePoint free_at_{};
  std::uint64_t held_ = 0;
};

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_RATE_LIMIT_H_
