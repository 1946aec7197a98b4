// Calls a function every so often while a client or server is connected, on a
// thread of its own: for telemetry.
//
//   tcpip::PeriodicSender telemetry(
//       server, {.period = 50ms}, [&](const tcpip::Connection& client) {
//         return client.try_send_from(dome.state());
//       });
//
// The function gets the connection of the moment, sends with whatever member of
// the send family fits (read_writer.h), and returns that member's result. What
// it sends through that Connection never reaches the next peer. It may also
// post to a SendQueue.
//
// The schedule: the first call comes as soon as there is a new connection,
// maybe before its connected event has been run, the others every period after
// that by the steady clock. It does not drift. Times that have passed when the
// function returns are left out and counted: a slow function, or a machine
// that was stopped, makes no burst.
//
// Threads: every member may be called from any thread at any time, also from
// inside the function. The function is called by one thread at a time. The
// PeriodicSender and its client or server may be destroyed in either order. In
// a child that fork() has made, close() and the destructor do nothing.
#ifndef TCPIP_PERIODIC_SENDER_H_
#define TCPIP_PERIODIC_SENDER_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "tcpip/base_client_or_server.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/send_result.h"
#include "tcpip/thread_hook.h"

namespace tcpip {

struct TCPIP_EXPORT PeriodicSenderOptions {
  std::chrono::microseconds period{0};     // positive, at most a day
  ThreadStartHook thread_start_hook = {};  // see thread_hook.h
};

// Counted since the PeriodicSender was made.
struct TCPIP_EXPORT PeriodicSenderStats {
  std::uint64_t sent = 0;    // the function returned kSent or kQueued
  std::uint64_t busy = 0;    // it returned kBusy
  std::uint64_t failed = 0;  // it threw
  std::uint64_t missed = 0;  // times at which it was not called
};

// One line.
TCPIP_EXPORT std::string to_string(const PeriodicSenderStats& stats);

class TCPIP_EXPORT PeriodicSender final {
 public:
  using Options = PeriodicSenderOptions;
  using Stats = PeriodicSenderStats;
  // What it throws is counted and, at a bounded rate, logged in the log of the
  // client or server; the schedule goes on.
  using Function = std::function<SendResult(const Connection& connection)>;

  // Starts the thread, "tcpip-periodic". Throws std::invalid_argument for a
  // period out of range and for an empty function; Error if there can be no
  // thread. The thread ends with close(), and when the client or server is
  // closed.
  PeriodicSender(const BaseClientOrServer& endpoint, Options options,
                 Function function);
  ~PeriodicSender();  // close()
  PeriodicSender(const PeriodicSender&) = delete;
  PeriodicSender& operator=(const PeriodicSender&) = delete;

  // What there was so far.
  Stats stats() const noexcept;

  // Ends and joins the thread: no call begins afterwards, and a call that runs
  // is waited for. Idempotent. Inside the function, and in the start hook, it
  // returns at once, and that call is the last.
  void close();

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace tcpip

#endif  // TCPIP_PERIODIC_SENDER_H_
