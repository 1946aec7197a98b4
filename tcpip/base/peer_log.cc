#include "tcpip/base/peer_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <utility>

namespace tcpip::internal {
namespace {

RateLimit::TimePoint now() { return std::chrono::steady_clock::now(); }

// Whose time stamp is right, to the reader of a log.
constexpr std::chrono::milliseconds kJustNow{100};

// A client that is served, and what comes of it, is worth a line of its own.
constexpr int kServedBurst = 10;

RateLimit limit_of(PeerLine kind) {
  switch (kind) {
    case PeerLine::kTurnedAway:
    case PeerLine::kUnreadDropped:
    case PeerLine::kEventsWaiting:
    case PeerLine::kUnknownFrame:
    case PeerLine::kWrongLength:
    case PeerLine::kAcceptFailed:
      return RateLimit(PeerLog::kInterval);
    default:
      return RateLimit(PeerLog::kInterval, kServedBurst);
  }
}

}  // namespace

PeerLog::PeerLog(Log log) : log_(std::move(log)) {
  const MutexLock lock(mutex_);
  for (std::size_t i = 0; i < kPeerLines; ++i) {
    kinds_[i].limit = limit_of(static_cast<PeerLine>(i));
  }
}

void PeerLog::write_text(PeerLine kind, LogLevel level, std::string text) {
  std::uint64_t count = 0;
  {
    const MutexLock lock(mutex_);
    Kind& its = kinds_[static_cast<std::size_t>(kind)];
    const RateLimit::TimePoint at = now();
    count = its.limit.take(at);
    if (count == 0) {
      its.level = level;
      its.text.swap(text);
      its.at = at;
    }
  }
  if (count > 0) write_counted(level, std::move(text), count);
}

template <class Take>
Deadline PeerLog::write_held(Take take) {
  struct Due {
    std::uint64_t count = 0;
    LogLevel level{};
    std::string text = {};
    RateLimit::TimePoint at{};
  };
  std::array<Due, kPeerLines> all;
  Deadline next;
  {
    const MutexLock lock(mutex_);
    for (std::size_t i = 0; i < kPeerLines; ++i) {
      Kind& kind = kinds_[i];
      all[i].count = take(kind.limit);
      if (all[i].count > 0) {
        all[i].level = kind.level;
        all[i].text.swap(kind.text);
        all[i].at = kind.at;
      }
      next = std::min(next, kind.limit.due());
    }
  }
  for (Due& due : all) {
    if (due.count == 0) continue;
    // Other lines may have come between: it must not seem to follow them.
    const std::chrono::duration<double> age = now() - due.at;
    if (age >= kJustNow) due.text += fmt::format(", {:.1f} s ago", age.count());
    write_counted(due.level, std::move(due.text), due.count);
  }
  return next;
}

Deadline PeerLog::write_due() {
  return write_held(
      [at = now()](RateLimit& limit) { return limit.take_held(at); });
}

void PeerLog::write_rest() {
  write_held([](RateLimit& limit) { return limit.take_all_held(); });
}

void PeerLog::write_counted(LogLevel level, std::string text,
                            std::uint64_t count) const {
  if (count > 1) {
    text += fmt::format(" ({} times since the last such line)", count);
  }
  log_.write(level, text);
}

}  // namespace tcpip::internal
