// The life of a client's or server's connection, at most one at a time: who may
// begin and end it, the connection events, and the shutdown of the threads.
//
// The connection is in one of these states. All changes happen under `mutex_`,
// and the event of a change is queued under it too:
//
//   state     means                        changed by
//   --------  ---------------------------  ------------------------------------
//   none      link() is null               admit() -> current
//   current   reads and writes go there    note_hang_up() -> hung up, or ended
//                                            if nothing is left to do;
//                                          read_ended(), go_on(), lose(),
//                                            finish_serving(), close_link(),
//                                            close_current_link(), close(),
//                                            tend_heartbeats() -> ended;
//                                          admit() of a new client that comes
//                                            before the hang-up was noted
//                                            -> ended
//   hung up   the peer's FIN or reset has  read_ended() of the read that takes
//             come; bytes before it are      the last byte, or, if a read
//             unread, or the read handler    handler is at work, go_on() after
//             is at work on them             it has returned -> ended;
//                                          admit() of a new client -> ended;
//                                          lose(), finish_serving(),
//                                            close_link(),
//                                            close_current_link(), close()
//                                            -> ended
//   ended     record.over is set; the      nothing; for the endpoint the state
//             Link lives until the last      is "none" again
//             call in it returns
//
// admit() queues the connected event, end_link() the disconnected event, so
// events alternate by construction.
//
// Threads: every member may be called from any thread, unless it says
// otherwise. The watching thread is the accept thread of a server or the
// monitor thread of a client: it polls the connection for its hang-up.
// `mutex_` guards all state; the program's code (callbacks, handlers, stop
// callbacks, log sink) never runs under it. Under `mutex_` the core takes the
// mutex of a CallbackQueue, to queue an event; that of Workers, to ask whether
// all threads have ended; and that of a Sender, to close it.
//
// Ownership: the public object (Client, OneClientServer...) holds a shared_ptr
// to the core. So does every worker thread, every queued callback and every
// Link, so that the public object may be destroyed inside any of them.
#ifndef TCPIP_ENDPOINT_ENDPOINT_CORE_H_
#define TCPIP_ENDPOINT_ENDPOINT_CORE_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/base/mutex.h"
#include "tcpip/base/peer_log.h"
#include "tcpip/base/poller.h"
#include "tcpip/base/process.h"
#include "tcpip/base/workers.h"
#include "tcpip/callback_queue.h"
#include "tcpip/connection_event.h"
#include "tcpip/constants.h"
#include "tcpip/endpoint/link.h"
#include "tcpip/endpoint/text.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/network.h"
#include "tcpip/options.h"
#include "tcpip/socket.h"
#include "tcpip/stats.h"
#include "tcpip/stream/counters.h"
#include "tcpip/stream/meter.h"
#include "tcpip/tap.h"
#include "tcpip/thread_hook.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

// The client reader of a read-loop server.
struct ReaderConfig {
  bool exists = false;
  bool greets = false;  // calls `begin` first
  std::chrono::milliseconds finish_time = kFinishTime;
};

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
  std::chrono::microseconds spin{0};
  SocketOptions socket;
  ReaderConfig reader;
  // Of a server; what a client has refuses a second connection.
  AdmissionOptions admission;
  std::vector<Network> allowed;  // admission.allow
  std::shared_ptr<Tap> tap;      // or null
  TapEvent begins = TapEvent::kAccepted;
};

class EndpointCore final : public LinkSource,
                           public std::enable_shared_from_this<EndpointCore> {
 public:
  // Throws std::invalid_argument for a limit of 0.
  EndpointCore(EndpointConfig config, std::shared_ptr<const TextFormat> format);

  const EndpointConfig& config() const noexcept { return config_; }
  const Log& log() const noexcept { return config_.log; }
  const ProcessMark& process() const noexcept { return process_; }
  // For the lines that a peer can cause as often as it likes.
  PeerLog& peer_log() noexcept { return peer_log_; }

  // --- Life ---

  // Begins start(). Throws std::logic_error the second time and after close().
  void begin_start();
  // Prepares the queue for events and posted callbacks: the program's, or else
  // one of the core's own with a dispatcher, if there is a connect_callback.
  // Throws as start_worker().
  void start_dispatcher();
  // Starts a worker thread. `work` must return soon after is_closing() is true;
  // waker() is signalled then. Throws Error
  // if there can be no thread; ConnectionError once closing.
  void start_worker(ThreadRole role, const char* name,
                    std::function<void(EndpointCore&)> work);
  // See the public classes. In a worker thread other than the dispatcher, and
  // in a stop callback of a connection, it tells everything to end and returns.
  // Otherwise it also waits until
  // everything has ended, except what the calling thread is inside of and
  // threads that wait for the calling thread.
  void close(bool keep_should_be_connected = false);
  // For the public destructor: as close(), but waits in a worker thread too.
  // Nothing that is queued runs after it. In a child that fork() has made, this
  // and close() only close the descriptors of the connections; the other
  // members that the program can reach throw std::logic_error there.
  void release();
  bool is_closing() const;
  // Asks the watching thread, or the one that connects, for close(). May be
  // called in a signal handler.
  void request_close() noexcept;
  const std::atomic<bool>& close_requested() const noexcept {
    return close_requested_;
  }
  // True once close() was called, every thread has ended and no callback runs.
  // No callback is left queued either, unless close() was called in worker
  // threads and stop callbacks only. False at the deadline; throws
  // CancelledError at the stop.
  bool wait_done(const Wait& wait);
  // See Connection's members of these names. Refused before start().
  bool post(CallbackQueue::Callback callback);
  void post_wait(CallbackQueue::Callback callback, const Wait& wait);
  // Waits until the deadline, or until the core is closing. For a worker that
  // cannot poll.
  void pause(Deadline deadline);
  // Signalled when the connection has ended, the core is closing, or that is
  // requested.
  Waker& waker() noexcept { return waker_; }

  // The format of text messages, for calls that begin now.
  std::shared_ptr<const TextFormat> format() const;
  TextLink text_link() const override;
  // Throw as TextCodec and TextFormat; then nothing has changed.
  void set_encoding(std::string encoding);
  void set_terminator(std::string terminator);

  // --- The connection ---

  bool connected() const;
  bool should_be_connected() const;
  // How many connections there have been.
  std::uint64_t connection_count() const;
  // The number of the current connection, 0 without one and until its `begin`
  // has returned, for threads that must take no lock. Keeps nothing of the core
  // alive. Is 0 before the disconnected event is queued. Without a `begin`, has
  // the new number before the connected event is queued.
  std::shared_ptr<const std::atomic<std::uint64_t>> current_number()
      const noexcept {
    return current_number_;
  }
  bool wait_connected(const Wait& wait);
  std::shared_ptr<Link> link() const override;
  std::string subject() const override { return config_.name; }
  // Waits for a connection with a number above `after`. Null when closing and
  // at the deadline; throws CancelledError at the stop.
  std::shared_ptr<Link> wait_for_link(std::uint64_t after, const Wait& wait);
  // The same, but also until its `begin` has returned.
  std::shared_ptr<Link> wait_for_greeted_link(std::uint64_t after,
                                              const Wait& wait);
  // The same for wait_client(): a connection that it has not returned yet.
  std::shared_ptr<Link> hand_out_link(const Wait& wait);
  bool is_current(const Link& link) const;
  // Waits until connect_callback has returned for the connection, or until the
  // connection has ended.
  void wait_until_told(const Link& link);

  // Makes a Link; admit() makes it current.
  std::shared_ptr<Link> make_link(std::shared_ptr<Socket> socket,
                                  const Address& peer);
  // Makes `link` the current connection. If there is one already, ends that one
  // first if its peer has gone, and else refuses `link`. But `link` has to
  // wait, and is to be admitted again later:
  //  * kHandlerBusy: until the read handler has handled what the old peer has
  //    sent; waker() is signalled then;
  //  * kReadUnderWay: until a read has ended that takes what the old peer has
  //    sent. Nobody is told; it will not take long;
  //  * kEventsWaiting: until the program has run some of its connection events;
  //    waker() is signalled then.
  // `force`: not for the first two reasons. A client that is connected is ended
  // at once if the options let `link` take its place.
  // Throws std::bad_alloc; then nothing has changed.
  enum class Admission {
    kAccepted,
    kRefused,
    kClosing,
    kHandlerBusy,
    kReadUnderWay,
    kEventsWaiting
  };
  Admission admit(const std::shared_ptr<Link>& link, bool force = false);
  // True if admit() would refuse a client now.
  bool would_refuse() const;
  Counters& counters() const noexcept { return *counters_; }
  EndpointStats stats() const;
  // Ends `link`, if it is still current, because the connection is lost.
  void lose(const Link& link, DisconnectReason reason,
            std::error_code error = {}) noexcept;
  // Called when a write has found the connection lost. As lose(), unless a read
  // handler has still to handle what the peer has sent.
  void write_failed(const Link& link, std::error_code error) noexcept;
  // Called when the peer's FIN or reset was seen. `broken`: the connection is
  // over in both directions. Ends the connection if nothing is left to read,
  // and no reply to write; else who reads or calls the handler ends it. Only in
  // the watching thread.
  void note_hang_up(Link& link, bool broken) noexcept;
  // Ends `link`, if it is still current, because its peer has gone. What is not
  // read is dropped.
  void finish_hung_up(const Link& link) noexcept;
  // Called when a read has ended: see ReadObserver.
  void read_ended(const Link& link, bool lost) noexcept;
  // Ends `link`, if it is still current, because this side wants to.
  void close_link(const Link& link, DisconnectReason reason =
                                        DisconnectReason::kClosedHere) noexcept;

  // For the client reader: called after `begin`, and after each call of the
  // handler. If that was for the last message of a peer that has gone, ends the
  // connection. False if the connection has ended.
  bool go_on(Link& link);
  // Ends the connection, since the handler has thrown; not `failed`: because
  // the peer has gone.
  void finish_serving(const Link& link, bool failed) noexcept;
  // True if the peer has gone, though the connection may still be current.
  bool has_lost_peer(const Link& link) const;
  // Ends the current connection, if there is one, because this side wants to.
  void close_current_link(bool keep_should_be_connected = false) noexcept;
  // Sends a heartbeat if one is due, and ends the connection if the peer's
  // heartbeats have stopped. Returns when to call it again. Only in the
  // watching thread, before it polls.
  Deadline tend_heartbeats(Link& link);
  bool expects_heartbeats() const noexcept { return config_.heartbeats.expect; }
  // Called when the peer has sent a heartbeat. Throws UnexpectedHeartbeatError
  // if heartbeats are not expected.
  // `position`: see Heartbeats::heard().
  void note_heartbeat(Link& link, const char* operation,
                      std::uint64_t position);
  // Queues an event that tells of a connection that could not be made. Throws
  // std::bad_alloc; then nothing has changed.
  void tell_failure(DisconnectReason reason, std::error_code error);
  // False if no further connection may be admitted now: see kEventsWaiting.
  bool has_room_for_events() const;
  // Hands over the sockets of ended connections. Their peers may still need our
  // last bytes, so the caller lingers for them.
  EndedSockets take_ended() noexcept;
  // Does that for kCloseLingerTime at most, where there is no accept thread.
  void linger_for_ended();

  static DisconnectReason reason_for(std::error_code error) noexcept;

 private:
  // Does what is left to do for an ended connection, after the lock is
  // released.
  struct Ended;
  struct EventWake;
  // The watching thread looks at everything again before it polls: it need not
  // be woken of what it does itself.
  enum class Caller { kAnyThread, kWatchingThread };

  enum class Greeted { kOrNot, kOnly };
  std::shared_ptr<Link> wait_for_newer(const std::uint64_t& after,
                                       const Wait& wait,
                                       Greeted greeted = Greeted::kOrNot)
      TCPIP_REQUIRES(mutex_);
  void set_format(std::shared_ptr<const TextFormat> format) noexcept
      TCPIP_REQUIRES(mutex_);
  void set_over() noexcept TCPIP_REQUIRES(mutex_);
  // `unread`: what the event says is dropped; counted if it is not given.
  void end_link(DisconnectReason reason, std::error_code error, Ended& ended,
                std::optional<std::size_t> unread = {}) noexcept
      TCPIP_REQUIRES(mutex_);
  void end_lost_link(DisconnectReason reason, std::error_code error,
                     Ended& ended,
                     std::optional<std::size_t> unread = {}) noexcept
      TCPIP_REQUIRES(mutex_);
  void end_drained_link(Ended& ended,
                        std::optional<std::size_t> unread = {}) noexcept
      TCPIP_REQUIRES(mutex_);
  void end_here(
      bool keep_should_be_connected, Ended& ended,
      DisconnectReason reason = DisconnectReason::kClosedHere) noexcept
      TCPIP_REQUIRES(mutex_);
  bool is_in_hand(const Link& link) const noexcept TCPIP_REQUIRES(mutex_);
  bool is_to_be_answered(const Link& link) const noexcept
      TCPIP_REQUIRES(mutex_);
  // True if a new client takes the place of this one, which has not hung up.
  bool may_be_replaced(const Link& link) const noexcept;
  std::optional<Admission> may_not_admit(bool force) const noexcept
      TCPIP_REQUIRES(mutex_);
  Meter make_meter(const Socket& socket, const Address& peer) const;
  void send_heartbeat(Link& link);
  LinkEvent make_event(const Connection& connection);
  void prepare_events(Link& link);
  void post_event(LinkEvent& event, EventWake& wake) noexcept
      TCPIP_REQUIRES(mutex_);
  friend class QueuedEvent;
  void run_event(const ConnectionEvent& event) noexcept;
  void event_is_gone() noexcept;
  // While it lives, a callback counts as running, for wait_done().
  class CallbackRun;

  CallbackQueue::Callback counted(CallbackQueue::Callback callback);
  std::shared_ptr<EventOwner> callbacks() const;
  std::shared_ptr<EventOwner> callbacks_to_post(
      const char* operation, const CallbackQueue::Callback& callback) const;
  // `waits`: the caller calls wait_until_ended() next.
  void close_descriptors_in_child() noexcept;
  void tell_all_to_end(bool keep_should_be_connected, bool waits);
  void wait_until_ended();
  void retire_callbacks();

  const EndpointConfig config_;
  PeerLog peer_log_;
  Waker waker_;
  std::atomic<bool> close_requested_{false};
  // Shared with streams that outlive the core.
  const std::shared_ptr<Counters> counters_ = std::make_shared<Counters>();

  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::shared_ptr<const TextFormat> format_ TCPIP_GUARDED_BY(mutex_);
  bool started_ TCPIP_GUARDED_BY(mutex_) = false;
  bool closing_ TCPIP_GUARDED_BY(mutex_) = false;
  bool should_be_connected_ TCPIP_GUARDED_BY(mutex_) = false;
  std::uint64_t count_ TCPIP_GUARDED_BY(mutex_) = 0;  // of connections so far
  // The numbers of the newest connection for which connect_callback has
  // returned, and of the newest that wait_client() has returned.
  std::uint64_t told_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::uint64_t handed_out_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<Link> current_ TCPIP_GUARDED_BY(mutex_);
  // Changes under mutex_, together with current_.
  const std::shared_ptr<std::atomic<std::uint64_t>> current_number_ =
      std::make_shared<std::atomic<std::uint64_t>>(0);
  EndedSockets ended_ TCPIP_GUARDED_BY(mutex_);
  // How many connection events are queued or running.
  std::size_t waiting_events_ TCPIP_GUARDED_BY(mutex_) = 0;
  // A close() waits until everything has ended; and: one has waited for that.
  bool ending_ TCPIP_GUARDED_BY(mutex_) = false;
  bool ended_for_good_ TCPIP_GUARDED_BY(mutex_) = false;
  int running_callbacks_ TCPIP_GUARDED_BY(mutex_) = 0;
  // The dispatcher's queue; null if the program gave one.
  std::unique_ptr<CallbackQueue> own_queue_ TCPIP_GUARDED_BY(mutex_);
  std::shared_ptr<EventOwner> callbacks_ TCPIP_GUARDED_BY(mutex_);
  Workers workers_;  // last: destroyed first
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_ENDPOINT_CORE_H_
