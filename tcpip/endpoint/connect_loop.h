// What a client's monitor thread does: notices that the server has gone, and
// tends the heartbeats; for a ReconnectingClient, it also makes connection
// after connection.
//
// Threads: connect_to() may be called from any thread; watch() and the
// ConnectLoop are for the monitor thread alone. Of the program's code they run
// the log sink, and stop callbacks of a connection that they end.
#ifndef TCPIP_ENDPOINT_CONNECT_LOOP_H_
#define TCPIP_ENDPOINT_CONNECT_LOOP_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <random>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/options.h"
#include "tcpip/socket.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

// Where a client connects to.
struct Target {
  std::string host;  // empty: this machine
  int port = 0;
  ConnectOptions connect;

  // For messages.
  std::string name() const;
};

// Looks the name up and connects. Throws what open_connection() throws;
// CancelledError also if close() is requested.
std::shared_ptr<Socket> connect_to(EndpointCore& core, const Target& target,
                                   const Wait& wait, RefusedOptions& refused);

// Notices that nothing has come from the peer for `limit`; never if that is 0.
class Silence {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  Silence(std::chrono::milliseconds limit, TimePoint now)
      : limit_(std::min(limit, kLongest)), since_(now) {}

  // `arrived`: see Socket::arrived(). True if the connection is to end.
  bool is_too_long(TimePoint now, std::uint64_t arrived) noexcept;
  // When to look again. What comes is noticed at a look only, so the connection
  // may end later than the limit says, by an eighth of it.
  Deadline look_again() const noexcept;

 private:
  // A hundred years, which the clock can add.
  static constexpr std::chrono::milliseconds kLongest{std::chrono::years(100)};

  const std::chrono::milliseconds limit_;
  TimePoint since_;
  std::uint64_t arrived_ = 0;
};

// Returns when the connection has ended, its peer has hung up, or close() is
// requested.
void watch(EndpointCore& core, Link& link,
           std::chrono::milliseconds silence_timeout = {});

// For the monitor thread of a client that connects once, after watch(): lingers
// for its connection when that has ended, and closes the client when that is
// requested. Returns when the core is closing.
void linger_until_closed(EndpointCore& core);

class ConnectLoop {
 public:
  // `closing` is requested before the core is closing, so that no try keeps
  // close() waiting.
  ConnectLoop(EndpointCore& core, Target target, ReconnectOptions options,
              std::stop_token closing);

  // Returns when the core is closing.
  void run();

 private:
  std::shared_ptr<Link> try_once();
  void serve(Link& link);
  void note_failure(const std::exception& failure) noexcept;
  Deadline next_try();

  EndpointCore& core_;
  const Target target_;
  const ReconnectOptions options_;
  const std::stop_token closing_;
  std::minstd_rand random_;
  std::chrono::milliseconds pause_{0};  // the last one; 0: begin anew
  // Since the last connection: how many tries have failed, and whether the
  // program was told of it.
  int failed_ = 0;
  bool told_ = false;
  std::set<std::string_view> refused_options_;  // those that were logged
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_CONNECT_LOOP_H_
