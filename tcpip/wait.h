// How long a blocking call may take, and what may interrupt it.
//
// Every call of this library that can block takes a Wait as its last parameter;
// the default is to wait forever. The Wait covers the whole operation, not one
// system call:
//
//   reader.read_line();                 // forever
//   reader.read_line(2s);               // TimeoutError after two seconds
//   reader.read_line(deadline);         // ... at that point in time
//   reader.read_line(stop);             // CancelledError when it is requested
//   reader.read_line({2s, stop});       // both
//   reader.read_line(Wait::none());     // what is there now, else TimeoutError
//
// A requested stop wins over everything else. A call whose deadline has passed
// still takes what is there without waiting.
//
// Threads: Deadline and Wait are values.
#ifndef TCPIP_WAIT_H_
#define TCPIP_WAIT_H_

#include "tcpip/version.h"

#include <chrono>
#include <compare>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace tcpip {

// A point on the steady clock, or never.
class TCPIP_EXPORT Deadline {
 public:
  // The clock of all time limits.
  using Clock = std::chrono::steady_clock;

  constexpr Deadline() noexcept = default;  // never passes
  // At that time.
  constexpr explicit Deadline(Clock::time_point when) noexcept : when_(when) {}

  // That long from now. A duration that is too long for the clock gives a
  // deadline that never passes; a negative one, or NaN, gives a deadline that
  // has passed.
  template <class Rep, class Period>
  static Deadline after(std::chrono::duration<Rep, Period> duration) noexcept {
    using Seconds = std::chrono::duration<double>;
    const Seconds seconds = std::chrono::duration_cast<Seconds>(duration);
    // Not `seconds <= zero`: that is false for NaN.
    if (!(seconds > Seconds::zero())) return Deadline(Clock::time_point::min());
    if (seconds >= kLongest) return Deadline();
    return Deadline(Clock::now() +
                    std::chrono::ceil<Clock::duration>(duration));
  }

  // True if it never passes.
  constexpr bool is_never() const noexcept {
    return when_ == Clock::time_point::max();
  }
  // True from that time on.
  bool has_passed() const noexcept;
  // Zero once passed; Clock::duration::max() if never.
  Clock::duration remaining() const noexcept;
  // That time; Clock::time_point::max() if never.
  constexpr Clock::time_point when() const noexcept { return when_; }

  auto operator<=>(const Deadline&) const = default;

 private:
  // A hundred years: longer than anybody waits, and the clock can add it.
  static constexpr std::chrono::duration<double> kLongest{100.0 * 365 * 86400};

  Clock::time_point when_ = Clock::time_point::max();
};

struct TCPIP_EXPORT Wait {
  Deadline deadline;     // when the call gives up
  std::stop_token stop;  // what ends the call, if it is requested

  Wait() noexcept = default;  // forever
  // Until a deadline, for so long, until a stop, or until the first of two.
  Wait(Deadline d) noexcept : deadline(d) {}
  Wait(std::stop_token s) noexcept : stop(std::move(s)) {}
  Wait(Deadline d, std::stop_token s) noexcept
      : deadline(d), stop(std::move(s)) {}
  template <class Rep, class Period>
  Wait(std::chrono::duration<Rep, Period> d) noexcept
      : deadline(Deadline::after(d)) {}
  template <class Rep, class Period>
  Wait(std::chrono::duration<Rep, Period> d, std::stop_token s) noexcept
      : deadline(Deadline::after(d)), stop(std::move(s)) {}

  // Try once: what is ready is returned, else TimeoutError.
  static Wait none() noexcept {
    return Wait(Deadline(Deadline::Clock::time_point::min()));
  }

  // True for none(), though a stop may have been added.
  bool is_none() const noexcept {
    return deadline.when() == Deadline::Clock::time_point::min();
  }
  // Neither deadline nor stop: only the connection can end the call.
  bool is_forever() const noexcept {
    return deadline.is_never() && !stop.stop_possible();
  }
};

}  // namespace tcpip

#endif  // TCPIP_WAIT_H_
