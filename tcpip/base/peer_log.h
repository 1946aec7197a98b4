// Log lines that a peer can cause, at a bounded rate: a peer that reconnects in
// a loop must neither fill a disk nor slow down the program through its log.
//
// Of each kind the first line is written at once (or the first ten, where each
// tells of a client that was served); then at most one a second, with the text
// of the last event, how long ago that was, and the number of events that it
// stands for, all in one line:
//
//   rejecting the connection from 10.0.0.7:40123: a client is already
//   connected, 0.9 s ago (7311 times since the last such line)
//
// Threads: every member may be called from any thread. The sink runs in the
// calling thread, never under a lock.
#ifndef TCPIP_BASE_PEER_LOG_H_
#define TCPIP_BASE_PEER_LOG_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "tcpip/base/log_line.h"
#include "tcpip/base/mutex.h"
#include "tcpip/base/rate_limit.h"
#include "tcpip/log.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

// Each kind has a rate of its own.
enum class PeerLine {
  kConnected,
  kEnded,
  kTurnedAway,
  kNotAllowed,
  kUnreadDropped,
  kEventsWaiting,
  kHeartbeatLost,
  kSilent,
  kConnectFailed,
  kHandlerFailed,
  kCallbackFailed,
  kSendQueueClosed,
  kPeriodicFailed,
  kUnknownFrame,
  kWrongLength,
  kAcceptFailed  // the last
};
inline constexpr std::size_t kPeerLines =
    static_cast<std::size_t>(PeerLine::kAcceptFailed) + 1;

class PeerLog {
 public:
  // One line of a kind in this time, in the long run.
  static constexpr std::chrono::seconds kInterval{1};

  explicit PeerLog(Log log);

  // Writes the line that make() returns, or holds it back and counts it.
  template <class Make>
  void write(PeerLine kind, LogLevel level, Make make) noexcept
      TCPIP_EXCLUDES(mutex_) {
    write_line(log_, level, [&] { write_text(kind, level, make()); });
  }
  // Writes for each kind what was held back, if it is time. Returns when to
  // call it again.
  Deadline write_due() TCPIP_EXCLUDES(mutex_);
  // The same whatever the time: for the end.
  void write_rest() TCPIP_EXCLUDES(mutex_);

 private:
  void write_text(PeerLine kind, LogLevel level, std::string text)
      TCPIP_EXCLUDES(mutex_);

  struct Kind {
    RateLimit limit{kInterval};
    LogLevel level = LogLevel::kInfo;
    // Of the last event that is held back.
    std::string text = {};
    RateLimit::TimePoint at{};
  };

  // `take` says of a limit how many events may be told of now.
  template <class Take>
  Deadline write_held(Take take) TCPIP_EXCLUDES(mutex_);
  void write_counted(LogLevel level, std::string text,
                     std::uint64_t count) const;

  const Log log_;
  Mutex mutex_;
  std::array<Kind, kPeerLines> kinds_ TCPIP_GUARDED_BY(mutex_);
};

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_PEER_LOG_H_
