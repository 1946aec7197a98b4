#include "tcpip/endpoint/heartbeats.h"

#include <algorithm>
#include <stdexcept>

namespace tcpip::internal {
namespace {

// The clock can add this, and nobody needs a longer interval.
constexpr std::chrono::hours kLongestInterval{100 * 365 * 24};

// The shortest and the longest pause until the next look for a heartbeat that
// is overdue.
constexpr std::chrono::milliseconds kShortestDoubt{20};
constexpr std::chrono::milliseconds kLongestDoubt{1000};

}  // namespace

HeartbeatOptions checked(HeartbeatOptions options) {
  if (std::min(options.interval, options.max_interval).count() <= 0) {
    throw std::invalid_argument("a heartbeat interval must be positive");
  }
  const auto bound = [](std::chrono::milliseconds& interval) {
    interval = std::min<std::chrono::milliseconds>(interval, kLongestInterval);
  };
  bound(options.interval);
  bound(options.max_interval);
  return options;
}

Heartbeats::Verdict Heartbeats::look(TimePoint now, std::uint64_t arrived,
                                     std::uint64_t read) {
  Verdict verdict;
  if (arrived > arrived_) {
    arrived_ = arrived;
    arrived_at_ = now;
  }
  if (options_.send) {
    if (now >= next_beat_) {
      verdict.send = true;
      // Heartbeats are due at fixed times, however late this call is. Those
      // that were missed are not sent later.
      next_beat_ += options_.interval;
      if (next_beat_ <= now) next_beat_ = now + options_.interval;
    }
    verdict.look_again = Deadline(next_beat_);
  }
  if (options_.expect) {
    verdict.lost = is_lost(now, read, verdict.look_again);
  }
  return verdict;
}

void Heartbeats::heard(TimePoint now, std::uint64_t position) noexcept {
  heard_ = std::max(heard_, position <= arrived_ ? arrived_at_ : now);
}

bool Heartbeats::is_lost(TimePoint now, std::uint64_t read,
                         Deadline& look_again) {
  const std::chrono::milliseconds most = options_.max_interval;
  if (now < heard_ + most) {
    doubt_.reset();
    look_again = std::min(look_again, Deadline(heard_ + most));
    return false;
  }
  if (!doubt_) {
    doubt_ = {now, arrived_};
  } else {
    const bool all_read = read >= doubt_->suspect;
    if (all_read || now - std::max(doubt_->since, arrived_at_) >= most) {
      return true;
    }
  }
  const auto pause = std::clamp<std::chrono::milliseconds>(
      most / 20, kShortestDoubt, kLongestDoubt);
  look_again = std::min(look_again, Deadline(now + pause));
  return false;
}

}  // namespace tcpip::internal
