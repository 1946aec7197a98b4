// What is counted of a client or server, over all its connections. stats.h says
// what each number means.
//
// Threads: every member may be used from any thread. The numbers are relaxed:
// each is right by itself, and no order between two of them is promised.
#ifndef TCPIP_STREAM_COUNTERS_H_
#define TCPIP_STREAM_COUNTERS_H_

#include <time.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace tcpip::internal {

class Counter {
 public:
  void add(std::uint64_t n = 1) noexcept {
    value_.fetch_add(n, std::memory_order_relaxed);
  }
  std::uint64_t value() const noexcept {
    return value_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// When something happened last.
class Moment {
 public:
  using Clock = std::chrono::steady_clock;

  // The coarse clock costs a few nanoseconds, and is a few milliseconds late.
  void note_now() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    const auto since = std::chrono::seconds(now.tv_sec) +
                       std::chrono::nanoseconds(now.tv_nsec);
    time_.store(since.count(), std::memory_order_relaxed);
  }
  // False if it never has.
  bool is_set() const noexcept {
    return time_.load(std::memory_order_relaxed) != 0;
  }
  Clock::time_point time() const noexcept {
    return Clock::time_point(
        std::chrono::nanoseconds(time_.load(std::memory_order_relaxed)));
  }

 private:
  std::atomic<std::int64_t> time_{0};
};

struct Counters {
  // A thread that reads and one that writes shall not share a cache line.
  static constexpr std::size_t kLine = 64;

  // Of the reading thread.
  alignas(kLine) Counter bytes_received;
  Counter messages_received;
  Counter read_timeouts;
  Counter overruns;
  Counter decode_errors;
  Moment last_receive;

  // Of those that write.
  alignas(kLine) Counter bytes_sent;
  Counter messages_sent;
  Counter write_timeouts;
  Moment last_send;

  // Of the rest.
  alignas(kLine) Counter failed_connects;
  Counter rejected;
  Counter not_allowed;
  Counter callback_errors;
  Counter dropped_bytes;
  Counter unsent_bytes;
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_COUNTERS_H_
