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
    count = its.limit.take(now());
    if (count == 0) {
      its.level = level;
      its.text.swap(text);
    }
  }
  if (count > 0) write_counted(level, text, count);
}

template <class Take>
Deadline PeerLog::write_held(Take take) {
  struct Due {
    std::uint64_t count = 0;
    LogLevel level{};
    std::string text = {};
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
      }
      next = std::min(next, kind.limit.due());
    }
  }
  for (const Due& due : all) {
    if (due.count > 0) write_counted(due.level, due.text, due.count);
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

void PeerLog::write_counted(LogLevel level, const std::string& text,
                            std::uint64_t count) const {
  if (count == 1) {
    log_.write(level, text);
  } else {
    log_.write(level, fmt::format("{} ({} times since the last such line)",
                                  text, count));
  }
}

}  // namespace tcpip::internal
