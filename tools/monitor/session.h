// The connection, or one connection after the other, that the monitor shows: as
// a client, as a server, or between the two.
//
// A tap of the library shows what passes. Its thread writes the recording and
// the pcapng file, and hands the bytes on to the main thread; so neither a slow
// terminal nor a full disk holds the exchange up. What the main thread cannot
// take is not shown, and counted.
//
// Threads: the members are for the main thread, which drains the queue; there
// the events run. Of the library's threads, those that read do nothing but read
// (and, between a client and a server, write what they have read).
#ifndef TOOLS_MONITOR_SESSION_H_
#define TOOLS_MONITOR_SESSION_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tcpip/callback_queue.h"
#include "tcpip/connection_event.h"
#include "tcpip/send_result.h"
#include "tcpip/stats.h"
#include "tcpip/testing/recording.h"
#include "tcpip/wait.h"
#include "tools/monitor/options.h"
#include "tools/monitor/view.h"

namespace tcpip_monitor {

// What the session tells the main thread.
struct SessionEvents {
  // A connection has begun; `text` says with whom.
  std::function<void(TimePoint time, const std::string& text)> begun;
  std::function<void(const Passed& passed)> passed;
  // The connection has ended, or could not be made; behind all that has passed.
  std::function<void(const tcpip::ConnectionEvent& event)> ended;
  // A file is not complete.
  std::function<void(const std::string& text)> file_fault;
  // What else is to be said.
  std::function<void(const std::string& text)> remark;
  // The replay is over. `text` says what was wrong, or is empty.
  std::function<void(const std::string& text)> replayed;
};

class Session {
 public:
  // Opens the files to write. Throws what that throws, and
  // std::invalid_argument for options that the library refuses. `replay` is the
  // recording that Options::replay names. The queue must outlive the session.
  Session(const Options& options, tcpip::CallbackQueue& queue,
          SessionEvents events,
          std::optional<tcpip_testing::Recording> replay = {});
  ~Session();  // close()
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Listens, or begins to connect; then returns where it listens, else "".
  // Throws Error.
  std::string start();

  // As ReadWriter's send_str() and send().
  tcpip::SendResult send_text(std::string_view text);
  tcpip::SendResult send_bytes(std::string_view bytes);
  // How many bytes are still to be sent; true once they are.
  std::size_t unsent() const;
  bool drain(const tcpip::Wait& wait);

  tcpip::EndpointStats stats() const;
  // Ends the connection, but not the session.
  void close_connection();
  // Ends all. What has passed before is in the queue, or has run.
  void close();

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_SESSION_H_
