#include "tcpip/endpoint/endpoint_core.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "tcpip/base/log_line.h"
#include "tcpip/constants.h"
#include "tcpip/stream/receiver.h"
#include "tcpip/stream/sender.h"

namespace tcpip::internal {
namespace {

// How many bytes have come and are not read.
std::size_t unread_bytes(const Link& link) noexcept {
  const std::size_t receivable = link.socket->receivable();
  return receivable + static_cast<std::size_t>(link.receiver->unread());
}

bool has_hung_up(const Link& link) noexcept {
  return link.hung_up || link.socket->peer_hung_up();
}

// True if everything that the peer sent before its end has been read, and no
// read is under way. Looks at the socket, then at is_reading(), then at
// unread(): in another order, bytes that a read takes from the socket in
// between would be missed. See Receiver::is_reading().
bool is_drained(const Link& link) noexcept {
  return (link.receiver->has_ended() || link.socket->at_end()) &&
         !link.receiver->is_reading() && link.receiver->unread() == 0;
}

// The error that broke the connection; no error if the peer closed it.
std::error_code lost_error(const Link& link) noexcept {
  const int lost = link.socket->lost_error();
  if (lost == 0) return {};
  return {lost, std::generic_category()};
}

// What a blocked write is to report if the connection ends for this reason: an
// errno, or 0 if this side has ended it.
int error_for_writes(DisconnectReason reason, std::error_code error) noexcept {
  if (error && error.category() == std::generic_category()) {
    return error.value();
  }
  return reason == DisconnectReason::kPeerClosed ? EPIPE : 0;
}

// How many stop callbacks of connections the calling thread is inside of.
thread_local int stop_callbacks = 0;

// Runs the program's stop callbacks, and those that wake waiting threads, one
// after the other. A thread that waits for this stop may thus wake only when a
// callback of the program's has returned. So close() in one does not wait.
void request_stop(std::stop_source& stop) noexcept {
  ++stop_callbacks;
  stop.request_stop();
  --stop_callbacks;
}

}  // namespace

Link::Link(std::shared_ptr<EndpointCore> endpoint_core,
           std::shared_ptr<Socket> connected_socket, const Address& peer,
           std::size_t limit, const HeartbeatOptions& heartbeat_options,
           Heartbeats::TimePoint connected, Meter link_meter)
    : core(std::move(endpoint_core)),
      socket(std::move(connected_socket)),
      record(std::make_shared<ConnectionRecord>(core, peer,
                                                socket->local_address())),
      meter(std::move(link_meter)),
      receiver(std::make_shared<Receiver>(socket, limit, meter)),
      sender(std::make_shared<Sender>(socket, meter)),
      heartbeats(heartbeat_options, connected) {}

// For a Link that was never admitted; EndpointCore has closed the others.
Link::~Link() { sender->close(); }

TextLink ConnectionRecord::text_link() const {
  TextLink result{link(), nullptr};
  const auto core = result.link ? result.link->core : endpoint.lock();
  if (core) result.format = core->format();
  return result;
}

void Link::read_ended(bool lost) noexcept { core->read_ended(*this, lost); }

// What is queued for a connection event.
class QueuedEvent {
 public:
  explicit QueuedEvent(std::shared_ptr<EndpointCore> core)
      : core_(std::move(core)) {}
  ~QueuedEvent() {
    if (is_counted) core_->event_is_gone();
  }
  QueuedEvent(const QueuedEvent&) = delete;
  QueuedEvent& operator=(const QueuedEvent&) = delete;

  void run() const noexcept { core_->run_event(event); }

  ConnectionEvent event;
  bool is_counted = false;  // among the core's waiting events

 private:
  const std::shared_ptr<EndpointCore> core_;
};

// Wakes the thread that runs callbacks, when the lock is released: that thread
// needs the lock for what it does next.
struct EndpointCore::EventWake {
  EventWake() noexcept = default;
  ~EventWake() {
    if (callbacks) callbacks->wake();
  }
  EventWake(const EventWake&) = delete;
  EventWake& operator=(const EventWake&) = delete;

  std::shared_ptr<EventOwner> callbacks;  // empty: no event was queued
};

struct EndpointCore::Ended {
  explicit Ended(EndpointCore& c, Caller by = Caller::kAnyThread) noexcept
      : core(c), caller(by) {}
  // Runs after the lock is released, since it runs stop callbacks and the log
  // sink. Wakes all threads that wait for a change.
  ~Ended() {
    if (!link) return;
    link->record->forget();
    core.forget();
    if (event.callbacks) std::exchange(event.callbacks, nullptr)->wake();
    request_stop(link->record->stop);
    core.changed_.notify_all();
    if (caller != Caller::kWatchingThread) core.waker_.signal();
    const Address& peer = link->record->peer;
    if (unread > 0) {
      core.peer_log().write(PeerLine::kUnreadDropped, LogLevel::kWarning, [&] {
        return fmt::format("{} unread bytes from {} are dropped", unread,
                           peer.to_string());
      });
    }
    core.peer_log().write(PeerLine::kEnded, LogLevel::kInfo, [&] {
      return fmt::format("connection to {} ended: {}", peer.to_string(),
                         to_string(reason));
    });
  }
  Ended(const Ended&) = delete;
  Ended& operator=(const Ended&) = delete;

  EndpointCore& core;
  const Caller caller;
  EventWake event;
  std::shared_ptr<Link> link;
  DisconnectReason reason = DisconnectReason::kNone;
  std::size_t unread = 0;
};

EndpointCore::EndpointCore(EndpointConfig config,
                           std::shared_ptr<const TextFormat> format)
    : config_(std::move(config)),
      peer_log_(config_.log),
      format_(std::move(format)),
      workers_([this] {
        // Without the lock, wait_done() could miss this between its look at the
        // workers and its wait.
        const MutexLock lock(mutex_);
        changed_.notify_all();
      }) {
  if (config_.limit == 0) {
    throw std::invalid_argument("the limit must be positive");
  }
}

DisconnectReason EndpointCore::reason_for(std::error_code error) noexcept {
  if (!error || error == Errc::kIncompleteRead) {
    return DisconnectReason::kPeerClosed;
  }
  switch (error.value()) {
    case EPIPE:
      return DisconnectReason::kPeerClosed;
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
      return DisconnectReason::kTimedOut;
    default:
      return DisconnectReason::kReset;
  }
}

// --- Life ---

void EndpointCore::begin_start() {
  process_.check("start");
  if (close_requested_) close();
  const MutexLock lock(mutex_);
  if (closing_) throw std::logic_error("start() called after close()");
  if (started_) throw std::logic_error("start() called twice");
  started_ = true;
}

void EndpointCore::start_dispatcher() {
  // With the program's queue, make an owner even without a connect_callback: a
  // read handler may post.
  std::unique_ptr<CallbackQueue> own_queue;
  if (config_.callbacks == nullptr) {
    if (!config_.on_event) return;
    own_queue = std::make_unique<CallbackQueue>();
  }
  CallbackQueue* const own = own_queue.get();
  auto callbacks =
      std::make_shared<EventOwner>(own != nullptr ? *own : *config_.callbacks);
  {
    const MutexLock lock(mutex_);
    if (closing_) return;
    own_queue_ = std::move(own_queue);
    callbacks_ = std::move(callbacks);
  }
  if (own == nullptr) return;
  start_worker(
      ThreadRole::kDispatch, "tcpip-callback",
      [own](EndpointCore& core) { QueueThread::drain(*own, core.log()); });
}

void EndpointCore::start_worker(ThreadRole role, const char* name,
                                std::function<void(EndpointCore&)> work) {
  if (const std::error_code error = waker_.open()) {
    throw_os_error(error.value(), "eventfd");
  }
  const bool started = workers_.start(
      {.role = role,
       .name = name,
       .hook = config_.thread_start_hook,
       .log = config_.log},
      [self = shared_from_this(), work = std::move(work)]() mutable {
        // Destroy what the work holds of the program's before
        // the thread counts as ended.
        const auto once = std::exchange(work, nullptr);
        once(*self);
      });
  if (!started) throw_connection_error(ENOTCONN, "start", config_.name);
}

bool EndpointCore::is_closing() const {
  const MutexLock lock(mutex_);
  return closing_;
}

void EndpointCore::request_close() noexcept {
  if (!process_.is_here()) return;
  const int saved = errno;
  close_requested_ = true;
  waker_.signal();
  errno = saved;
}

// Each step has no effect the second time. So calls at the same time, with
// their steps in any order, do together what one call does.
void EndpointCore::tell_all_to_end(bool keep_should_be_connected, bool waits) {
  std::optional<Ended> ended(std::in_place, *this);
  std::shared_ptr<EventOwner> callbacks;
  CallbackQueue* own_queue = nullptr;
  {
    // The end of the connection comes with `closing_`: an accept thread that
    // sees the one finds the socket of the other in take_ended().
    const MutexLock lock(mutex_);
    end_here(keep_should_be_connected, *ended);
    closing_ = true;
    // Set together with closing_: otherwise wait_done() could return true
    // before the wait has begun.
    if (waits) ending_ = true;
    callbacks = callbacks_;
    own_queue = own_queue_.get();
  }
  // Wakes a read handler that waits for room in the queue.
  if (callbacks) callbacks->refuse_posts();
  ended.reset();
  // After the last event is queued: the dispatcher runs that event, then ends.
  if (own_queue != nullptr) QueueThread::close(*own_queue);
  workers_.refuse();
  waker_.signal();
  changed_.notify_all();
}

void EndpointCore::wait_until_ended() {
  // A thread of ours may wait for a stop whose callbacks run in this thread; it
  // is let go.
  if (stop_callbacks == 0) workers_.join();
  linger_for_ended();
  retire_callbacks();
  const MutexLock lock(mutex_);
  ended_for_good_ = true;
  changed_.notify_all();
}

// The core's own queue is empty now, unless the dispatcher was not joined: it
// is the calling thread, or waits for the calling thread, or may do so. The
// callbacks that are still queued must not run after close().
void EndpointCore::retire_callbacks() {
  const std::shared_ptr<EventOwner> owner = callbacks();
  if (!owner) return;
  // A callback that the program has posted may throw; closing goes on.
  try {
    // A running callback may wait for the stop that this thread requests.
    if (stop_callbacks > 0) {
      owner->drop();
    } else {
      owner->retire();
    }
  } catch (const std::exception& e) {
    log_line(log(), LogLevel::kError,
             [&] { return fmt::format("callback failed: {}", what_of(e)); });
  } catch (...) {
    log().error("callback failed with an unknown exception");
  }
}

void EndpointCore::close(bool keep_should_be_connected) {
  if (!process_.is_here()) {
    close_descriptors_in_child();
    return;
  }
  // A callback that calls close(), or that runs in close(), may destroy the
  // public object.
  const std::shared_ptr<EndpointCore> self = shared_from_this();
  const bool waits = stop_callbacks == 0 &&
                     (!workers_.is_current_thread() ||
                      workers_.is_current_thread(ThreadRole::kDispatch));
  tell_all_to_end(keep_should_be_connected, waits);
  if (waits) wait_until_ended();
}

// Without the mutex if a thread of the parent held it at the fork(): then the
// descriptors stay open until this process ends.
void EndpointCore::close_descriptors_in_child() noexcept {
  if (!mutex_.try_lock()) return;
  if (current_) current_->socket->close_descriptor();
  for (const EndedSocket& ended : ended_) ended.socket->close_descriptor();
  mutex_.unlock();
}

void EndpointCore::release() {
  if (!process_.is_here()) {
    close_descriptors_in_child();
    keep_for_ever(shared_from_this());
    return;
  }
  const std::shared_ptr<EndpointCore> self = shared_from_this();
  tell_all_to_end(/*keep_should_be_connected=*/false, /*waits=*/true);
  wait_until_ended();
}

void EndpointCore::pause(Deadline deadline) {
  const MutexLock lock(mutex_);
  changed_.wait(mutex_, deadline,
                [this]() TCPIP_REQUIRES(mutex_) { return closing_; });
}

bool EndpointCore::wait_done(const Wait& wait) {
  process_.check("wait_done");
  const MutexLock lock(mutex_);
  const WaitResult result =
      changed_.wait(mutex_, wait, [this]() TCPIP_REQUIRES(mutex_) {
        return closing_ && (ended_for_good_ || !ending_) &&
               running_callbacks_ == 0 && workers_.all_ended();
      });
  if (result == WaitResult::kStopped) {
    throw CancelledError("wait_done", config_.name);
  }
  return result == WaitResult::kReady;
}

std::shared_ptr<const TextFormat> EndpointCore::format() const {
  process_.check("text format");
  const MutexLock lock(mutex_);
  return format_;
}

void EndpointCore::set_encoding(std::string encoding) {
  process_.check("set_encoding");
  auto codec = std::make_shared<const TextCodec>(std::move(encoding));
  const MutexLock lock(mutex_);
  set_format(std::make_shared<const TextFormat>(std::move(codec),
                                                format_->terminator()));
}

void EndpointCore::set_terminator(std::string terminator) {
  process_.check("set_terminator");
  const MutexLock lock(mutex_);
  auto format = std::make_shared<const TextFormat>(format_->codec(),
                                                   std::move(terminator));
  if (config_.heartbeats.are_used()) format->check_heartbeats();
  set_format(std::move(format));
}

void EndpointCore::set_format(
    std::shared_ptr<const TextFormat> format) noexcept {
  format_ = std::move(format);
  note_change();
  if (current_) current_->record->note_change();
}

// --- The connection ---

bool EndpointCore::connected() const {
  process_.check("connected");
  const MutexLock lock(mutex_);
  return current_ != nullptr;
}

bool EndpointCore::should_be_connected() const {
  process_.check("should_be_connected");
  const MutexLock lock(mutex_);
  return should_be_connected_;
}

std::uint64_t EndpointCore::connection_count() const {
  process_.check("connection_count");
  const MutexLock lock(mutex_);
  return count_;
}

EndpointStats EndpointCore::stats() const {
  process_.check("stats");
  const auto time_of = [](const Moment& moment) {
    return moment.is_set() ? std::optional(moment.time()) : std::nullopt;
  };
  const Counters& c = *counters_;
  EndpointStats stats{
      .failed_connects = c.failed_connects.value(),
      .rejected = c.rejected.value(),
      .not_allowed = c.not_allowed.value(),
      .bytes_received = c.bytes_received.value(),
      .messages_received = c.messages_received.value(),
      .bytes_sent = c.bytes_sent.value(),
      .messages_sent = c.messages_sent.value(),
      .last_receive = time_of(c.last_receive),
      .last_send = time_of(c.last_send),
      .timeouts = c.read_timeouts.value() + c.write_timeouts.value(),
      .overruns = c.overruns.value(),
      .decode_errors = c.decode_errors.value(),
      .callback_errors = c.callback_errors.value(),
      .dropped_bytes = c.dropped_bytes.value(),
      .unsent_bytes = c.unsent_bytes.value(),
  };
  const MutexLock lock(mutex_);
  stats.connected = current_ != nullptr;
  stats.connections = count_;
  return stats;
}

std::shared_ptr<Link> EndpointCore::link() const {
  process_.check("connection");
  const MutexLock lock(mutex_);
  return current_;
}

TextLink EndpointCore::text_link() const {
  process_.check("text format");
  const MutexLock lock(mutex_);
  return {current_, format_};
}

bool EndpointCore::is_current(const Link& link) const {
  const MutexLock lock(mutex_);
  return current_.get() == &link;
}

bool EndpointCore::wait_connected(const Wait& wait) {
  process_.check("wait_connected");
  const MutexLock lock(mutex_);
  const WaitResult result =
      changed_.wait(mutex_, wait, [this]() TCPIP_REQUIRES(mutex_) {
        return current_ != nullptr || closing_;
      });
  if (result == WaitResult::kStopped) {
    throw CancelledError("wait_connected", config_.name);
  }
  return current_ != nullptr;
}

std::shared_ptr<Link> EndpointCore::wait_for_link(std::uint64_t after,
                                                  const Wait& wait) {
  const MutexLock lock(mutex_);
  return wait_for_newer(after, wait);
}

std::shared_ptr<Link> EndpointCore::wait_for_greeted_link(std::uint64_t after,
                                                          const Wait& wait) {
  const MutexLock lock(mutex_);
  return wait_for_newer(after, wait, Greeted::kOnly);
}

std::shared_ptr<Link> EndpointCore::hand_out_link(const Wait& wait) {
  process_.check("wait_client");
  const MutexLock lock(mutex_);
  std::shared_ptr<Link> link = wait_for_newer(handed_out_, wait);
  if (link) handed_out_ = link->record->number;
  return link;
}

std::shared_ptr<Link> EndpointCore::wait_for_newer(const std::uint64_t& after,
                                                   const Wait& wait,
                                                   Greeted greeted) {
  const auto is_there = [&]() TCPIP_REQUIRES(mutex_) {
    return current_ && current_->record->number > after &&
           (greeted == Greeted::kOrNot || !current_->greeting);
  };
  const WaitResult result = changed_.wait(
      mutex_, wait,
      [&]() TCPIP_REQUIRES(mutex_) { return closing_ || is_there(); });
  if (result == WaitResult::kStopped) {
    throw CancelledError("wait_client", config_.name);
  }
  return !closing_ && is_there() ? current_ : nullptr;
}

void EndpointCore::wait_until_told(const Link& link) {
  const MutexLock lock(mutex_);
  changed_.wait(mutex_, {}, [this, &link]() TCPIP_REQUIRES(mutex_) {
    return current_.get() != &link || !config_.on_event ||
           told_ >= link.record->number;
  });
}

std::shared_ptr<Link> EndpointCore::make_link(std::shared_ptr<Socket> socket,
                                              const Address& peer) {
  // Not make_shared: the record's weak_ptr would keep the memory of the Link as
  // long as the program keeps a Connection.
  Meter meter = make_meter(*socket, peer);
  std::shared_ptr<Link> link(new Link(
      shared_from_this(), std::move(socket), peer, config_.limit,
      config_.heartbeats, std::chrono::steady_clock::now(), std::move(meter)));
  link->record->live = link;
  link->greeting = config_.reader.greets;
  link->ended.emplace_back(link->socket);
  link->receiver->set_observer(link);
  link->receiver->set_spin(config_.spin);
  return link;
}

Meter EndpointCore::make_meter(const Socket& socket,
                               const Address& peer) const {
  if (!config_.tap) return {counters_, nullptr};
  return {counters_, std::make_shared<TapLine>(*config_.tap, config_.name,
                                               socket.local_address(), peer)};
}

// If this throws, nothing has changed.
void EndpointCore::prepare_events(Link& link) {
  if (!config_.on_event) return;
  for (LinkEvent* const event : {&link.began, &link.over}) {
    if (!event->event) *event = make_event(Connection(link.record));
  }
}

LinkEvent EndpointCore::make_event(const Connection& connection) {
  const auto queued = std::make_shared<QueuedEvent>(shared_from_this());
  queued->event.connection = connection;
  return {queued.get(), PreparedEvent([queued] { queued->run(); })};
}

bool EndpointCore::may_be_replaced(const Link& link) const noexcept {
  switch (config_.admission.when_busy) {
    case WhenBusy::kReject:
      return false;
    case WhenBusy::kTakeOver:
      return true;
    case WhenBusy::kTakeOverIfSilent: {
      const auto silent_for = link.socket->silent_for();
      return silent_for && *silent_for >= config_.admission.silent_for;
    }
  }
  return false;
}

// Why no new client can be admitted now, if it cannot.
std::optional<EndpointCore::Admission> EndpointCore::may_not_admit(
    bool force) const noexcept {
  if (closing_) return Admission::kClosing;
  // The old peer may be gone without our having noticed, or may have left
  // unread bytes. Neither justifies rejecting the new one.
  const bool is_live = current_ && !has_hung_up(*current_);
  if (is_live && !may_be_replaced(*current_)) return Admission::kRefused;
  if (waiting_events_ > kMaxWaitingEvents) return Admission::kEventsWaiting;
  if (!current_ || is_live || force) return std::nullopt;
  if (config_.reader.exists) {
    const bool is_done = is_drained(*current_) && !is_in_hand(*current_);
    if (!is_done) return Admission::kHandlerBusy;
    return std::nullopt;
  }
  // What that read takes is not lost, and it may be the last that has come.
  if (current_->receiver->is_reading()) return Admission::kReadUnderWay;
  return std::nullopt;
}

bool EndpointCore::would_refuse() const {
  const MutexLock lock(mutex_);
  return may_not_admit(/*force=*/false) == Admission::kRefused;
}

EndpointCore::Admission EndpointCore::admit(const std::shared_ptr<Link>& link,
                                            bool force) {
  {
    const MutexLock lock(mutex_);
    if (const auto refusal = may_not_admit(force)) return *refusal;
  }
  prepare_events(*link);
  {
    // The end of this block requests the stop of the old connection, before the
    // event of the new one is queued. So what the old one's read handler posts
    // with its stop token never stands behind that event.
    Ended ended(*this, Caller::kWatchingThread);
    const MutexLock lock(mutex_);
    if (const auto refusal = may_not_admit(force)) return *refusal;
    if (current_) {
      set_over();
      current_->socket->at_end();  // notes an error, if there is one
      // One count for the reason and for the event that tells it.
      const std::size_t unread = unread_bytes(*current_);
      if (unread == 0 && has_hung_up(*current_)) {
        end_drained_link(ended);
      } else {
        end_link(DisconnectReason::kReplaced, lost_error(*current_), ended,
                 unread);
      }
    }
  }
  EventWake wake;
  const MutexLock lock(mutex_);
  if (closing_) return Admission::kClosing;
  link->record->number = count_ + 1;
  const Heartbeats::TimePoint now = std::chrono::steady_clock::now();
  link->heartbeats = Heartbeats(config_.heartbeats, now);
  if (link->began.event) {
    link->began.event->event.connected = true;
    link->began.event->event.time = now;
  }
  if (link->meter.tap) {
    link->meter.tap->began(config_.begins, link->record->number);
  }
  // Before the event: what its callback posts to a SendQueue is for this one.
  if (!link->greeting) *current_number_ = link->record->number;
  post_event(link->began, wake);
  ++count_;
  should_be_connected_ = true;
  current_ = link;
  note_change();
  changed_.notify_all();
  return Admission::kAccepted;
}

// From now on no further read of the current connection begins: who asks for it
// waits for the lock.
void EndpointCore::set_over() noexcept {
  current_->record->set_over();
  note_change();
}

// Ends the current connection. Needs no memory: the Link has it.
void EndpointCore::end_link(DisconnectReason reason, std::error_code error,
                            Ended& ended,
                            std::optional<std::size_t> unread) noexcept {
  set_over();
  *current_number_ = 0;
  ended.unread = unread ? *unread : unread_bytes(*current_);
  if (current_->over.event) {
    ConnectionEvent& event = current_->over.event->event;
    event.reason = reason;
    event.error = error;
    event.dropped = ended.unread;
    event.time = std::chrono::steady_clock::now();
  }
  post_event(current_->over, ended.event);
  // Before the callback can run, which needs the lock: what it writes to a
  // stream that the program has kept is refused. And before others find the
  // socket in ended_: who lingers for it expects that our last bytes and FIN
  // are on their way.
  counters_->unsent_bytes.add(current_->sender->close(
      error_for_writes(reason, error), Socket::Wake::kWhenAcknowledged));
  counters_->dropped_bytes.add(ended.unread);
  if (current_->meter.tap) current_->meter.tap->ended();
  ended_.splice(ended_.end(), current_->ended);
  ended.reason = reason;
  ended.link = std::move(current_);
  current_ = nullptr;
}

// Ends the current connection because it is lost.
void EndpointCore::end_lost_link(DisconnectReason reason, std::error_code error,
                                 Ended& ended,
                                 std::optional<std::size_t> unread) noexcept {
  // The program may have closed the socket itself, through
  // Connection::writer(): then this side has ended the connection.
  if (current_->socket->is_closed()) {
    end_here(/*keep_should_be_connected=*/false, ended);
  } else {
    end_link(reason, error, ended, unread);
  }
}

void EndpointCore::end_drained_link(
    Ended& ended, std::optional<std::size_t> unread) noexcept {
  const std::error_code error = lost_error(*current_);
  end_lost_link(reason_for(error), error, ended, unread);
}

void EndpointCore::lose(const Link& link, DisconnectReason reason,
                        std::error_code error) noexcept {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() == &link) end_lost_link(reason, error, ended);
}

void EndpointCore::write_failed(const Link& link,
                                std::error_code error) noexcept {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() != &link) return;
  // A peer that has sent its commands and closed, without waiting for replies:
  // the commands count, though the replies fail.
  if (config_.reader.exists && !link.socket->is_closed() &&
      link.socket->peer_hung_up() &&
      (!is_drained(link) || is_to_be_answered(link))) {
    return;
  }
  end_lost_link(reason_for(error), error, ended);
}

// True if the client reader has a message in hand, or a greeting. If the peer
// has gone, go_on() then ends the connection.
bool EndpointCore::is_in_hand(const Link& link) const noexcept {
  return config_.reader.exists && !link.socket->is_closed() &&
         (link.greeting || link.receiver->consumed() > link.consumed_before);
}

// The same for a peer that has sent FIN, not a reset, and so may still read the
// reply. A reset behind the FIN counts as FIN: it comes when our reply meets a
// peer that has closed.
bool EndpointCore::is_to_be_answered(const Link& link) const noexcept {
  return is_in_hand(link) && link.socket->lost_error() == 0;
}

// This and read_ended() end the connection once its peer has gone and its last
// byte is read, whichever comes last. They cannot miss each other: this calls
// expect_end(), then looks at is_reading(); a read first makes is_reading()
// false, then looks whether expect_end() was called. See Receiver.
void EndpointCore::note_hang_up(Link& link, bool broken) noexcept {
  Ended ended(*this, Caller::kWatchingThread);
  const MutexLock lock(mutex_);
  if (current_.get() != &link) return;
  link.hung_up = true;
  link.broken = broken;
  link.receiver->expect_end();
  // If a read is under way, its read_ended() ends the connection.
  if (!is_drained(link) || is_to_be_answered(link)) return;
  end_drained_link(ended, /*unread=*/0);
}

void EndpointCore::finish_hung_up(const Link& link) noexcept {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() != &link) return;
  link.socket->at_end();  // notes an error, if there is one
  end_drained_link(ended);
}

void EndpointCore::read_ended(const Link& link, bool lost) noexcept {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() != &link) return;
  if (lost) {
    if (!is_to_be_answered(link)) end_drained_link(ended);
    return;
  }
  if (!link.hung_up && !link.receiver->has_ended()) return;
  // What this read has taken came before the reset, if there was one.
  if (is_drained(link) && !is_in_hand(link)) end_drained_link(ended);
}

// --- The client reader ---

bool EndpointCore::go_on(Link& link) {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() != &link) return false;
  if (link.greeting) {
    link.greeting = false;
    *current_number_ = link.record->number;
    changed_.notify_all();
  }
  link.consumed_before = link.receiver->consumed();
  if (!link.hung_up && !link.receiver->has_ended()) return true;
  if (!is_drained(link)) return true;
  end_drained_link(ended);
  return false;
}

void EndpointCore::finish_serving(const Link& link, bool failed) noexcept {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() != &link) return;
  if ((link.hung_up || link.receiver->has_ended()) && is_drained(link)) {
    end_drained_link(ended);
  } else if (!failed) {
    link.socket->at_end();  // notes an error, if there is one
    const std::error_code error = lost_error(link);
    end_lost_link(reason_for(error), error, ended);
  } else {
    end_here(/*keep_should_be_connected=*/false, ended,
             DisconnectReason::kHandlerFailed);
  }
}

bool EndpointCore::has_lost_peer(const Link& link) const {
  const MutexLock lock(mutex_);
  return link.hung_up || link.receiver->has_ended() ||
         link.socket->lost_error() != 0 || link.socket->peer_hung_up();
}

// --- Heartbeats ---

Deadline EndpointCore::tend_heartbeats(Link& link) {
  const HeartbeatOptions& options = config_.heartbeats;
  if (!options.are_used()) return {};
  // A peer that has sent FIN is neither sent heartbeats nor expected to send
  // any.
  if (link.hung_up) return {};
  // consumed() first, for the reason given in Receiver::unread().
  const std::uint64_t consumed = link.receiver->consumed();
  const std::uint64_t arrived = link.socket->arrived(link.receiver->received());
  Heartbeats::Verdict verdict;
  {
    const MutexLock lock(mutex_);
    if (current_.get() != &link) return {};
    verdict = link.heartbeats.look(std::chrono::steady_clock::now(), arrived,
                                   consumed);
  }
  if (verdict.send) send_heartbeat(link);
  if (verdict.lost) {
    peer_log_.write(PeerLine::kHeartbeatLost, LogLevel::kWarning, [&] {
      return fmt::format("no heartbeat from {} within {} ms",
                         link.record->peer.to_string(),
                         options.max_interval.count());
    });
    lose(link, DisconnectReason::kHeartbeatLost);
  }
  return verdict.look_again;
}

// Never waits. Behind a message that is not completely sent, the heartbeat is
// queued like any message. Above the write limit it is left out, or heartbeats
// would pile up if the peer does not read.
void EndpointCore::send_heartbeat(Link& link) {
  const std::shared_ptr<const TextFormat> text = format();
  try {
    if (link.sender->unsent() > config_.write_limit) return;
    const std::array<std::string_view, 2> parts{kHeartbeat, text->terminator()};
    link.sender->write("heartbeat", parts);
  } catch (const ConnectionError&) {
    // Not lose(): what has come can still be read. And nothing if the program
    // itself sends no more, after write_eof().
    if (!link.sender->is_closing()) return;
    note_hang_up(link, /*broken=*/false);
    // The caller polls next.
    waker_.signal();
  }
}

void EndpointCore::note_heartbeat(Link& link, const char* operation,
                                  std::uint64_t position) {
  if (!expects_heartbeats()) {
    throw UnexpectedHeartbeatError(operation, link.record->peer.to_string());
  }
  const MutexLock lock(mutex_);
  link.heartbeats.heard(std::chrono::steady_clock::now(), position);
}

// --- Ending the connection from this side ---

void EndpointCore::end_here(bool keep_should_be_connected, Ended& ended,
                            DisconnectReason reason) noexcept {
  if (!keep_should_be_connected) should_be_connected_ = false;
  if (!current_) return;
  if (!keep_should_be_connected) current_->record->should_be_connected = false;
  end_link(reason, {}, ended);
}

void EndpointCore::close_link(const Link& link,
                              DisconnectReason reason) noexcept {
  if (!process_.is_here()) return;
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() == &link) {
    end_here(/*keep_should_be_connected=*/false, ended, reason);
  }
}

void EndpointCore::close_current_link(bool keep_should_be_connected) noexcept {
  if (!process_.is_here()) return;
  Ended ended(*this);
  const MutexLock lock(mutex_);
  end_here(keep_should_be_connected, ended);
}

void EndpointCore::linger_for_ended() {
  const Deadline deadline = Deadline::after(kCloseLingerTime);
  for (const EndedSocket& ended : take_ended()) {
    ended.socket->linger(deadline);
  }
}

EndedSockets EndpointCore::take_ended() noexcept {
  EndedSockets result;
  const MutexLock lock(mutex_);
  result.swap(ended_);
  return result;
}

// --- Callbacks ---

class EndpointCore::CallbackRun {
 public:
  explicit CallbackRun(EndpointCore& core) : core_(core) {
    const MutexLock lock(core_.mutex_);
    ++core_.running_callbacks_;
  }
  ~CallbackRun() {
    const MutexLock lock(core_.mutex_);
    --core_.running_callbacks_;
    core_.changed_.notify_all();
  }
  CallbackRun(const CallbackRun&) = delete;
  CallbackRun& operator=(const CallbackRun&) = delete;

 private:
  EndpointCore& core_;
};

CallbackQueue::Callback EndpointCore::counted(
    CallbackQueue::Callback callback) {
  return [self = shared_from_this(), callback = std::move(callback)]() mutable {
    const CallbackRun run(*self);
    // Destroy what the callback holds before it counts as ended.
    const auto once = std::exchange(callback, nullptr);
    try {
      once();
    } catch (...) {
      self->counters().callback_errors.add();
      throw;
    }
  };
}

void EndpointCore::post_event(LinkEvent& link_event, EventWake& wake) noexcept {
  // Not a reference of its own: if it were the last one, the event would be
  // destroyed here, under the lock that its destructor takes.
  QueuedEvent* const event = std::exchange(link_event.event, nullptr);
  if (!callbacks_ || event == nullptr) return;
  // First: another thread may run and destroy the event at once.
  event->is_counted = true;
  ++waiting_events_;
  if (callbacks_->post_event(link_event.callback)) {
    wake.callbacks = callbacks_;
    return;
  }
  event->is_counted = false;
  --waiting_events_;
}

void EndpointCore::tell_failure(DisconnectReason reason,
                                std::error_code error) {
  if (!config_.on_event) return;
  LinkEvent failure = make_event(Connection());
  failure.event->event.reason = reason;
  failure.event->event.error = error;
  failure.event->event.time = std::chrono::steady_clock::now();
  EventWake wake;
  const MutexLock lock(mutex_);
  if (!closing_) post_event(failure, wake);
}

bool EndpointCore::has_room_for_events() const {
  const MutexLock lock(mutex_);
  return waiting_events_ <= kMaxWaitingEvents;
}

void EndpointCore::event_is_gone() noexcept {
  const MutexLock lock(mutex_);
  if (waiting_events_-- != kMaxWaitingEvents + 1) return;
  // The accept thread or the connect loop may wait for it.
  waker_.signal();
}

void EndpointCore::run_event(const ConnectionEvent& event) noexcept {
  const CallbackRun run(*this);
  try {
    config_.on_event(event);
  } catch (const std::exception& e) {
    counters_->callback_errors.add();
    peer_log_.write(PeerLine::kCallbackFailed, LogLevel::kError, [&] {
      return fmt::format("connect_callback failed: {}", what_of(e));
    });
  } catch (...) {
    counters_->callback_errors.add();
    peer_log_.write(PeerLine::kCallbackFailed, LogLevel::kError, [] {
      return "connect_callback failed with an unknown exception";
    });
  }
  const MutexLock lock(mutex_);
  if (event.connected) told_ = std::max(told_, event.connection.number());
  changed_.notify_all();
}

std::shared_ptr<EventOwner> EndpointCore::callbacks() const {
  const MutexLock lock(mutex_);
  return callbacks_;
}

std::shared_ptr<EventOwner> EndpointCore::callbacks_to_post(
    const char* operation, const CallbackQueue::Callback& callback) const {
  check_callback(callback, operation);
  if (config_.callbacks == nullptr && !config_.on_event) {
    throw std::logic_error(fmt::format(
        "{}: there is neither a queue nor a connect_callback, and so nothing "
        "that runs callbacks",
        operation));
  }
  return callbacks();
}

bool EndpointCore::post(CallbackQueue::Callback callback) {
  process_.check("post");
  const std::shared_ptr<EventOwner> owner = callbacks_to_post("post", callback);
  return owner && owner->post(counted(std::move(callback)));
}

void EndpointCore::post_wait(CallbackQueue::Callback callback,
                             const Wait& wait) {
  process_.check("post_wait");
  const std::shared_ptr<EventOwner> owner =
      callbacks_to_post("post_wait", callback);
  if (!owner) throw CancelledError("post_wait", config_.name);
  owner->post_wait(counted(std::move(callback)), wait);
}

}  // namespace tcpip::internal
