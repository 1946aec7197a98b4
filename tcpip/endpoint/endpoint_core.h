// What a client and a server share: at most one connection at a time, its
// state, its events, and the threads that serve it, with their shutdown.
//
// Threads: every member may be called from any thread, unless it says
// otherwise. `mutex_` guards all state; the program's code (callbacks,
// handlers, stop callbacks, log sink) never runs under it. Lock order:
// EndpointCore, then a StreamWriter's or a CallbackQueue's.
//
// Ownership: the public object (Client, OneClientServer...) holds a shared_ptr,
// and so does every worker thread and every queued event, so that the object
// may be destroyed inside any of them.
#ifndef TCPIP_ENDPOINT_ENDPOINT_CORE_H_
#define TCPIP_ENDPOINT_ENDPOINT_CORE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "tcpip/base/mutex.h"
#include "tcpip/base/poller.h"
#include "tcpip/base/workers.h"
#include "tcpip/callback_queue.h"
#include "tcpip/connection_event.h"
#include "tcpip/endpoint/text.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/socket.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/thread_hook.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

// Throws std::invalid_argument if it is not in 0...65535.
void check_port(int port, const char* what);

struct HeartbeatConfig {
  bool send = false;
  std::chrono::milliseconds interval{};
  bool expect = false;
  std::chrono::milliseconds max_interval{};
};

struct EndpointConfig {
  std::string name;
  Log log;
  CallbackQueue* callbacks = nullptr;
  // Empty if the program gave no connect_callback.
  std::function<void(const ConnectionEvent&)> on_event;
  ThreadStartHook thread_start_hook;
  HeartbeatConfig heartbeats;
  std::size_t limit = 0;
  std::size_t write_limit = 0;
  SocketOptions socket;
};

// One connection with what belongs to it. The streams may be used by whoever
// holds a reference; what else changes is guarded by EndpointCore's mutex, or
// is the watching thread's: the one of ours that notices the hang-up. (It sets
// hung_up, so it may read that one without the mutex.)
struct Link {
  using TimePoint = std::chrono::steady_clock::time_point;

  Link(std::shared_ptr<Socket> s, Address p, std::size_t limit)
      : socket(std::move(s)), reader(socket, limit), writer(socket), peer(p) {}

  const std::shared_ptr<Socket> socket;
  StreamReader reader;
  StreamWriter writer;
  const Address peer;
  std::uint64_t generation = 0;
  std::stop_source stop;  // requested when the connection is over
  bool reading = false;   // a thread is inside a read
  bool hung_up = false;   // the peer's end was seen, maybe behind unread bytes
  TimePoint heard;        // when the last heartbeat came, or the connection

  // The watching thread's:
  TimePoint next_beat;  // when to send one
  // Set while a heartbeat is overdue, but may be among bytes nobody has read.
  struct Doubt {
    TimePoint since;        // when something came last
    std::uint64_t arrived;  // how many bytes had come then
    std::uint64_t suspect;  // up to which byte there may be a heartbeat
  };
  std::optional<Doubt> doubt;
};

class EndpointCore : public std::enable_shared_from_this<EndpointCore> {
 public:
  // Throws std::invalid_argument for a limit of 0 and for a heartbeat interval
  // that is not positive.
  EndpointCore(EndpointConfig config, std::shared_ptr<const TextFormat> format);

  const EndpointConfig& config() const noexcept { return config_; }
  const Log& log() const noexcept { return config_.log; }

  // --- Life ---

  // Marks the start. Throws std::logic_error the second time, or once closed.
  void begin_start();
  // Ties this object to the program's queue; without one, makes a queue and
  // starts the thread that runs its callbacks, if there are events to tell.
  // Throws as start_worker().
  void start_dispatcher();
  // Starts a worker thread. It runs until its function returns, which must be
  // soon after the stop token or is_closing() says so; waker() is signalled.
  // Throws Error if there can be no thread; ConnectionError once closing.
  void start_worker(ThreadRole role, const char* name,
                    std::function<void(EndpointCore&, std::stop_token)> work);
  // See the public classes. From a worker thread, other than the dispatcher's,
  // it returns once everything is told to end; else once everything has ended,
  // except what the calling thread is inside of, and threads that wait for the
  // calling thread.
  void close(bool keep_should_be_connected = false);
  // For the public destructor: close(), and the same wait from every thread.
  void release();
  bool is_closing() const;
  // True once close() was called, every thread has ended, no callback runs and,
  // unless close() was called in a worker thread only, none is left queued.
  bool wait_done(const Wait& wait);
  // As CallbackQueue::Owner's: the callback is dropped once this closes.
  // Refused before start(), and where there is neither a queue nor a
  // connect_callback. Throw std::invalid_argument if it is empty.
  bool post(CallbackQueue::Callback callback);
  void post_wait(CallbackQueue::Callback callback, const Wait& wait);
  // Waits until then, or until the core is closing. For a worker that lacks
  // what it needs to wait for anything else.
  void pause(Deadline deadline);
  // Signalled when a worker has something to look at.
  Waker& waker() noexcept { return waker_; }

  // How text messages look, for those that begin from now on.
  std::shared_ptr<const TextFormat> format() const;
  // Throw as TextCodec and TextFormat; then nothing has changed.
  void set_encoding(std::string encoding);
  void set_terminator(std::string terminator);

  // --- The connection ---

  bool connected() const;
  bool should_be_connected() const;
  std::uint64_t generation() const;
  Address peer_address() const;
  bool wait_connected(const Wait& wait);
  // The connection, or nothing.
  std::shared_ptr<Link> current() const;
  // The next one, newer than `generation`; nothing when closing.
  std::shared_ptr<Link> wait_for_link(std::uint64_t generation);
  bool is_current(const Link& link) const;
  // Waits until the program has been told of the connection, or it is over.
  void wait_until_told(const Link& link);

  // Makes a new connection current. If there is one already whose peer is
  // gone, that one ends first; if its peer is alive, the new one is refused.
  enum class Admission { kAccepted, kRefused, kClosing };
  Admission admit(std::shared_ptr<Link> link);
  // Ends the connection, if `link` still is it.
  void lose(const std::shared_ptr<Link>& link, DisconnectReason reason,
            std::error_code error = {});
  // The peer's FIN or reset was seen: ends the connection, unless bytes are
  // still to be read; then the read that takes the last of them will.
  void note_hang_up(const std::shared_ptr<Link>& link);
  // Sends a heartbeat if it is time to, and ends the connection if the peer's
  // have failed to come for too long. Returns when to look again. Called by the
  // watching thread before it waits.
  Deadline tend_heartbeats(const std::shared_ptr<Link>& link);
  bool expects_heartbeats() const noexcept { return config_.heartbeats.expect; }
  // The peer has sent one. Throws UnexpectedHeartbeatError if none are
  // expected.
  void note_heartbeat(Link& link, const char* operation);
  // The same, for whoever has recognised one himself.
  void handle_received_heartbeat();
  // Ends the connection because this side wants to: in a thread that is bound
  // to one, only if it is that one.
  void close_link(bool keep_should_be_connected = false);
  // The sockets of ended connections, whose peers may still need our last
  // bytes. The caller lingers for them.
  std::vector<std::shared_ptr<Socket>> take_ended();

  // While it lives the calling thread is bound to the connection of that
  // number: its reads and writes go there or fail, be there a newer connection
  // or not, and the state that it asks for is that one's. Bindings nest. Once a
  // newer connection has come, should_be_connected() is what `should_be` says,
  // or else what it was when that connection ended.
  class Binding {
   public:
    Binding(EndpointCore& core, std::uint64_t generation,
            std::optional<bool> should_be = {});
    ~Binding();
    Binding(const Binding&) = delete;
    Binding& operator=(const Binding&) = delete;

   private:
    EndpointCore& core_;
  };

  // --- Transfers ---

  // Runs function(Link&), which reads, on the connection. What says that it is
  // lost ends it, before the exception or the result reaches the caller.
  template <class Function>
  auto read(const char* operation, Function function) {
    const std::shared_ptr<Link> link = begin_read(operation);
    try {
      auto result = function(*link);
      end_read(link, nullptr);
      return result;
    } catch (const ConnectionError& e) {
      end_read(link, &e);
      throw;
    } catch (...) {
      end_read(link, nullptr);
      throw;
    }
  }

  // Runs function(StreamWriter&) likewise.
  template <class Function>
  void write(const char* operation, Function function) {
    const std::shared_ptr<Link> link = link_of_this_thread(operation);
    try {
      function(link->writer);
    } catch (const ConnectionError& e) {
      lose(link, reason_for(e.code()), e.code());
      throw;
    }
  }

  static DisconnectReason reason_for(std::error_code error) noexcept;

 private:
  // What is to be done once the lock is released.
  struct Ended;
  struct Bound {
    std::thread::id thread;
    std::uint64_t generation;
    std::optional<bool> should_be;
  };

  // What the calling thread is bound to, or null.
  const Bound* bound() const TCPIP_REQUIRES(mutex_);
  // The number of that connection; 0 if it is bound to none.
  std::uint64_t bound_generation() const TCPIP_REQUIRES(mutex_);
  // True if there is a connection and the calling thread may use it.
  bool has_link_here() const TCPIP_REQUIRES(mutex_);
  std::shared_ptr<Link> link_of_this_thread(const char* operation) const;
  std::shared_ptr<Link> begin_read(const char* operation);
  void end_read(const std::shared_ptr<Link>& link,
                const ConnectionError* failure);
  void end_link(const std::shared_ptr<Link>& link, DisconnectReason reason,
                std::error_code error, Ended& ended) TCPIP_REQUIRES(mutex_);
  bool is_drained(const Link& link) const TCPIP_REQUIRES(mutex_);
  void end_here(bool keep_should_be_connected, Ended& ended)
      TCPIP_REQUIRES(mutex_);
  void end_for_good(bool keep_should_be_connected);
  void send_heartbeat(const std::shared_ptr<Link>& link);
  bool is_overdue(Link& link, Link::TimePoint now, Deadline& look_again);
  void post_event(ConnectionEvent event) TCPIP_REQUIRES(mutex_);
  void run_event(const ConnectionEvent& event, bool should_be_connected);
  // Counts a callback as running, for wait_done().
  class CallbackRun;

  CallbackQueue::Callback counted(CallbackQueue::Callback callback);
  std::shared_ptr<EventOwner> callbacks() const;
  // `waits`: wait_until_ended() follows.
  void tell_all_to_end(bool keep_should_be_connected, bool waits);
  void wait_until_ended();
  void retire_callbacks();

  const EndpointConfig config_;
  Waker waker_;

  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::shared_ptr<const TextFormat> format_ TCPIP_GUARDED_BY(mutex_);
  bool started_ TCPIP_GUARDED_BY(mutex_) = false;
  bool closing_ TCPIP_GUARDED_BY(mutex_) = false;
  bool should_be_connected_ TCPIP_GUARDED_BY(mutex_) = false;
  // What it was when the last connection that ended did.
  bool should_have_been_connected_ TCPIP_GUARDED_BY(mutex_) = true;
  std::uint64_t generation_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::uint64_t told_generation_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<Link> current_ TCPIP_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Socket>> ended_ TCPIP_GUARDED_BY(mutex_);
  std::vector<Bound> bound_ TCPIP_GUARDED_BY(mutex_);  // the newest last
  bool ending_ TCPIP_GUARDED_BY(mutex_) = false;  // a close() waits for all
  bool ended_for_good_ TCPIP_GUARDED_BY(mutex_) = false;  // one has done so
  int running_callbacks_ TCPIP_GUARDED_BY(mutex_) = 0;
  // Drained by a worker, unless the program has a queue.
  std::unique_ptr<CallbackQueue> own_queue_ TCPIP_GUARDED_BY(mutex_);
  std::shared_ptr<EventOwner> callbacks_ TCPIP_GUARDED_BY(mutex_);
  Workers workers_;  // last: destroyed first
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_ENDPOINT_CORE_H_
