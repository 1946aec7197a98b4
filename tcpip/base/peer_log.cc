#include "tcpip/base/peer_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
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
  Deadline next;
  for (std::size_t i = 0; i < kPeerLines; ++i) {
    std::uint64_t count = 0;
    LogLevel level{};
    std::string text;
    {
      const MutexLock lock(mutex_);
      Kind& kind = kinds_[i];
      count = take(kind.limit);
      if (count > 0) {
        level = kind.level;
        text.swap(kind.text);
      }
      next = std::min(next, kind.limit.due());
    }
    if (count > 0) write_counted(level, text, count);
  }
  return next;
}

Deadline PeerLog::write_due() {
  return write_held([](RateLimit& limit) { return limit.take_held(now()); });
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
