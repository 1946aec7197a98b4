// The life of a client's or server's connection, at most one at a time: who may
// begin and end it, the events that tell of that, and the threads that serve
// it, with their shutdown.
//
// The connection is in one of these states; all changes happen under `mutex_`,
// and queue their event there too:
//
//   state     means                        changed by
//   --------  ---------------------------  ------------------------------------
//   none      link() is null               admit() -> current
//   current   reads and writes go there    note_hang_up() -> hung up, or ended
//                                            if nothing is left to read;
//                                          read_ended(), lose(), close_link(),
//                                            close_current_link(), close(),
//                                            tend_heartbeats() -> ended
//   hung up   the peer's FIN or reset has  read_ended() of the read that takes
//             come, bytes before it are      the last byte -> ended;
//             unread                       admit() of a newcomer, and as above
//                                            -> ended
//   ended     record.over; its Link lives  nothing; for the endpoint the state
//             until the last call in it      is "none" again
//             returns
//
// Events: "connected" is queued by admit(), "disconnected" by end_link(), so
// they alternate by construction.
//
// Threads: every member may be called from any thread, unless it says
// otherwise. `mutex_` guards all state; the program's code (callbacks,
// handlers, stop callbacks, log sink) never runs under it. Under it the core
// takes a CallbackQueue's mutex, to queue an event, and that of Workers, to
// look whether all have ended.
//
// Ownership: the public object (Client, OneClientServer...) holds a shared_ptr,
// and so does every worker thread, every queued event and the current Link, so
// that the object may be destroyed inside any of them.
#ifndef TCPIP_ENDPOINT_ENDPOINT_CORE_H_
#define TCPIP_ENDPOINT_ENDPOINT_CORE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <system_error>
#include <vector>

#include "tcpip/base/mutex.h"
#include "tcpip/base/poller.h"
#include "tcpip/base/workers.h"
#include "tcpip/callback_queue.h"
#include "tcpip/connection_event.h"
#include "tcpip/endpoint/link.h"
#include "tcpip/endpoint/text.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/options.h"
#include "tcpip/socket.h"
#include "tcpip/thread_hook.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

struct EndpointConfig {
  std::string name;
  Log log;
  CallbackQueue* callbacks = nullptr;
  // Empty if the program gave no connect_callback.
  std::function<void(const ConnectionEvent&)> on_event;
  ThreadStartHook thread_start_hook;
  HeartbeatOptions heartbeats;
  std::size_t limit = 0;
  std::size_t write_limit = 0;
  SocketOptions socket;
};

class EndpointCore final : public LinkSource,
                           public std::enable_shared_from_this<EndpointCore> {
 public:
  // Throws std::invalid_argument for a limit of 0.
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
  // See the public classes. In a worker thread other than the dispatcher's it
  // returns once everything is told to end; else once everything has ended but
  // what the calling thread is inside of, and threads that wait for the calling
  // thread.
  void close(bool keep_should_be_connected = false);
  // For the public destructor: close(), and the same wait from every thread.
  void release();
  bool is_closing() const;
  // True once close() was called, every thread has ended, no callback runs and,
  // unless close() was called in a worker thread only, none is left queued.
  bool wait_done(const Wait& wait);
  // See Connection's members of these names. Refused before start().
  bool post(CallbackQueue::Callback callback);
  void post_wait(CallbackQueue::Callback callback, const Wait& wait);
  // Waits until then, or until the core is closing. For a worker that lacks
  // what it needs to wait for anything else.
  void pause(Deadline deadline);
  // Signalled when a worker has something to look at.
  Waker& waker() noexcept { return waker_; }

  // How text messages look, for those that begin from now on.
  std::shared_ptr<const TextFormat> format() const override;
  // Throw as TextCodec and TextFormat; then nothing has changed.
  void set_encoding(std::string encoding);
  void set_terminator(std::string terminator);

  // --- The connection ---

  bool connected() const;
  bool should_be_connected() const;
  // How many connections there have been.
  std::uint64_t connection_count() const;
  bool wait_connected(const Wait& wait);
  std::shared_ptr<Link> link() const override;
  std::string subject() const override { return config_.name; }
  // The next connection, newer than number `after`. Nothing when closing and
  // at the deadline; throws CancelledError at the stop.
  std::shared_ptr<Link> wait_for_link(std::uint64_t after, const Wait& wait);
  // The same for wait_client(): newer than all that it has handed out.
  std::shared_ptr<Link> hand_out_link(const Wait& wait);
  bool is_current(const Link& link) const;
  // Waits until the program has been told of the connection, or it is over.
  void wait_until_told(const Link& link);

  // A Link that is not the connection yet.
  std::shared_ptr<Link> make_link(std::shared_ptr<Socket> socket,
                                  const Address& peer);
  // Makes it the connection. If there is one already whose peer is gone, that
  // one ends first; if its peer is alive, the new one is refused.
  enum class Admission { kAccepted, kRefused, kClosing };
  Admission admit(const std::shared_ptr<Link>& link);
  // Ends the connection, if `link` still is it, because it is lost.
  void lose(const Link& link, DisconnectReason reason,
            std::error_code error = {});
  // The peer's FIN or reset was seen: ends the connection, unless bytes are
  // still to be read; then the read that takes the last of them will.
  void note_hang_up(Link& link);
  // A read has ended: see ReadObserver.
  void read_ended(const Link& link, bool lost);
  // Ends the connection because this side wants to: `link`, if it still is it;
  // or whichever there is.
  void close_link(const Link& link);
  void close_current_link(bool keep_should_be_connected = false);
  // Sends a heartbeat if it is time to, and ends the connection if the peer's
  // have failed to come for too long. Returns when to look again. Called by the
  // watching thread before it waits.
  Deadline tend_heartbeats(Link& link);
  bool expects_heartbeats() const noexcept { return config_.heartbeats.expect; }
  // The peer has sent one. Throws UnexpectedHeartbeatError if none are
  // expected.
  void note_heartbeat(Link& link, const char* operation);
  // The sockets of ended connections, whose peers may still need our last
  // bytes. The caller lingers for them.
  std::vector<std::shared_ptr<Socket>> take_ended();

  static DisconnectReason reason_for(std::error_code error) noexcept;

 private:
  // What is left to do for a connection that was ended, without the lock.
  struct Ended;

  std::shared_ptr<Link> wait_for_newer(const std::uint64_t& after,
                                       const Wait& wait) TCPIP_REQUIRES(mutex_);
  void end_link(DisconnectReason reason, std::error_code error, Ended& ended)
      TCPIP_REQUIRES(mutex_);
  void end_lost_link(DisconnectReason reason, std::error_code error,
                     Ended& ended) TCPIP_REQUIRES(mutex_);
  void end_drained_link(Ended& ended) TCPIP_REQUIRES(mutex_);
  void end_here(bool keep_should_be_connected, Ended& ended)
      TCPIP_REQUIRES(mutex_);
  void send_heartbeat(Link& link);
  void post_event(ConnectionEvent event) TCPIP_REQUIRES(mutex_);
  void run_event(const ConnectionEvent& event);
  // Counts a callback as running, for wait_done().
  class CallbackRun;

  CallbackQueue::Callback counted(CallbackQueue::Callback callback);
  std::shared_ptr<EventOwner> callbacks() const;
  std::shared_ptr<EventOwner> callbacks_to_post(
      const char* operation, const CallbackQueue::Callback& callback) const;
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
  std::uint64_t count_ TCPIP_GUARDED_BY(mutex_) = 0;  // of connections so far
  // The newest connection of which the program was told, and the newest that
  // wait_client() has handed out.
  std::uint64_t told_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::uint64_t handed_out_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<Link> current_ TCPIP_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Socket>> ended_ TCPIP_GUARDED_BY(mutex_);
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
