// What FaultyProxy and Recorder have in common: listens on a free port of
// 127.0.0.1, connects to a server for each client that comes, and passes on
// what both send.
//
// One thread does it all, without blocking, under one mutex. What a member
// changes holds when that member returns.
//
// A direction holds at most 64 KiB back; then its sender has to wait, as behind
// a slow network. FIN is passed on as FIN, behind the bytes before it, and a
// reset as a reset, behind those that the receiver's kernel takes.
//
// Threads: every member may be called from any thread at any time. start()
// makes the thread, close() and the destructor join it.
#ifndef TCPIP_TESTING_FORWARDER_H_
#define TCPIP_TESTING_FORWARDER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/base/mutex.h"
#include "tcpip/base/poller.h"
#include "tcpip/base/workers.h"
#include "tcpip/listener.h"
#include "tcpip/log.h"
#include "tcpip/process_mark.h"
#include "tcpip/testing/direction.h"
#include "tcpip/testing/fault.h"
#include "tcpip/testing/recording.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"

namespace tcpip_testing::internal {

struct ForwarderOptions {
  std::string name;  // in errors
  std::string thread_name;
  std::string server_host;
  int server_port = 0;
  tcpip::Log log = {};
  bool records = false;
  // The script of the nth connection, from 1. Of the kit's own: it is called
  // under the lock.
  std::function<std::vector<Fault>(std::uint64_t connection, Direction)>
      script = {};
};

// Shared with its thread, which may outlive the last owner if that is a log
// sink of the program's.
class Forwarder final : public std::enable_shared_from_this<Forwarder> {
 public:
  // Throws std::invalid_argument for a port outside 1...65535.
  explicit Forwarder(ForwarderOptions options);
  ~Forwarder();
  Forwarder(const Forwarder&) = delete;
  Forwarder& operator=(const Forwarder&) = delete;

  // Once. Throws what resolve() and Listener do; Error if there can be no
  // thread; std::logic_error if it was called before, or close() was;
  // CancelledError if close() is called meanwhile. Closes after a failure.
  void start(const tcpip::Wait& wait);
  int port() const;
  void close();

  void stall(Direction direction);
  void resume(Direction direction);
  void cut(Direction direction);
  void reset();
  void drop();
  void refuse_connections();
  void accept_connections();

  std::uint64_t bytes_passed(Direction direction) const;
  std::uint64_t connection_count() const;
  std::size_t open_connections() const;
  // Throws std::out_of_range if there was no such connection.
  Recording recording(std::uint64_t connection) const;

 private:
  class Relay;
  struct Polled;

  void run();
  bool advance(Polled& polled, std::vector<std::string>& lines)
      TCPIP_EXCLUDES(mutex_);
  void accept_clients(Polled& polled, std::vector<std::string>& lines)
      TCPIP_REQUIRES(mutex_);
  void listen(int port) TCPIP_REQUIRES(mutex_);
  void end() TCPIP_EXCLUDES(mutex_);
  void check_here(const char* operation) const { process_.check(operation); }

  const tcpip::internal::ProcessMark process_;
  const ForwarderOptions options_;
  tcpip::internal::Waker waker_;
  mutable tcpip::internal::Mutex mutex_;
  bool started_ TCPIP_GUARDED_BY(mutex_) = false;
  bool closing_ TCPIP_GUARDED_BY(mutex_) = false;
  std::vector<tcpip::Address> servers_ TCPIP_GUARDED_BY(mutex_);
  // Bound to the port and not listening: keeps the port while connections are
  // refused.
  tcpip::UniqueFd reserved_ TCPIP_GUARDED_BY(mutex_);
  int port_ TCPIP_GUARDED_BY(mutex_) = 0;
  // Null while connections are refused.
  std::shared_ptr<tcpip::Listener> listener_ TCPIP_GUARDED_BY(mutex_);
  // Accepting has failed: not before this, and it was logged.
  tcpip::Deadline::Clock::time_point accept_again_ TCPIP_GUARDED_BY(mutex_) =
      tcpip::Deadline::Clock::time_point::min();
  bool accept_fails_ TCPIP_GUARDED_BY(mutex_) = false;
  std::array<bool, 2> stalled_ TCPIP_GUARDED_BY(mutex_){};
  std::list<std::unique_ptr<Relay>> relays_ TCPIP_GUARDED_BY(mutex_);
  std::uint64_t connection_count_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::array<std::uint64_t, 2> bytes_passed_ TCPIP_GUARDED_BY(mutex_){};
  // A deque: references to its elements stay valid.
  std::deque<Recording> recordings_ TCPIP_GUARDED_BY(mutex_);
  // Last: its thread uses the others.
  tcpip::internal::Workers workers_;
};

}  // namespace tcpip_testing::internal

#endif  // TCPIP_TESTING_FORWARDER_H_
