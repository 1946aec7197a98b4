#include "tcpip/endpoint/endpoint_core.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "tcpip/base/named_thread.h"
#include "tcpip/constants.h"
#include "tcpip/stream/stream_access.h"

namespace tcpip::internal {
namespace {

// Bytes that have come and that nobody has read.
std::size_t unread_bytes(const Link& link) noexcept {
  const std::size_t receivable = link.socket->receivable();
  return receivable + static_cast<std::size_t>(link.receiver.unread());
}

// True if everything that the peer sent before its end has been read, and no
// read is under way. In this order: see Receiver::is_reading().
bool is_drained(const Link& link) noexcept {
  return (link.receiver.has_ended() || link.socket->at_end()) &&
         !link.receiver.is_reading() && link.receiver.unread() == 0;
}

// What broke the connection; no error if the peer closed it.
std::error_code lost_error(const Link& link) noexcept {
  const int lost = link.socket->lost_error();
  if (lost == 0) return {};
  return {lost, std::generic_category()};
}

}  // namespace

Link::Link(std::shared_ptr<EndpointCore> endpoint_core,
           std::shared_ptr<Socket> connected_socket, const Address& peer,
           std::size_t limit, const HeartbeatOptions& heartbeat_options,
           Heartbeats::TimePoint connected)
    : core(std::move(endpoint_core)),
      socket(std::move(connected_socket)),
      record(std::make_shared<ConnectionRecord>(core, peer,
                                                socket->local_address())),
      reader(socket, limit),
      writer(socket),
      receiver(*StreamAccess::receiver(reader)),
      sender(*StreamAccess::sender(writer)),
      heartbeats(heartbeat_options, connected) {
  receiver.set_observer(this);
}

void Link::read_ended(bool lost) noexcept {
  try {
    core->read_ended(*this, lost);
  } catch (const std::exception& e) {
    // No memory for the event. The connection is still current, so the next
    // read that fails, or the watching thread, tries again.
    core->log().error(e.what());
  }
}

struct EndpointCore::Ended {
  explicit Ended(EndpointCore& c) noexcept : core(c) {}
  // Runs after the lock is released: sends what can be sent, says goodbye,
  // wakes whoever is blocked, and then everybody who waits for a change.
  ~Ended() {
    if (!link) return;
    link->writer.close();
    link->record->stop.request_stop();
    core.changed_.notify_all();
    core.waker_.signal();
    const std::string peer = link->record->peer.to_string();
    if (unread > 0) {
      core.log().warning(
          fmt::format("{} unread bytes from {} are dropped", unread, peer));
    }
    core.log().info(
        fmt::format("connection to {} ended: {}", peer, to_string(reason)));
  }
  Ended(const Ended&) = delete;
  Ended& operator=(const Ended&) = delete;

  EndpointCore& core;
  std::shared_ptr<Link> link;
  DisconnectReason reason = DisconnectReason::kNone;
  std::size_t unread = 0;
};

EndpointCore::EndpointCore(EndpointConfig config,
                           std::shared_ptr<const TextFormat> format)
    : config_(std::move(config)), owner_(this), format_(std::move(format)) {
  if (config_.limit == 0) {
    throw std::invalid_argument("the limit must be positive");
  }
}

EndpointCore::~EndpointCore() {
  // Normally there are none left. If the last reference went in one of them,
  // that one cannot be joined.
  std::vector<std::jthread> workers;
  {
    const MutexLock lock(mutex_);
    workers.swap(workers_);
  }
  for (std::jthread& worker : workers) join_or_detach(worker);
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
  const MutexLock lock(mutex_);
  if (closing_) throw std::logic_error("start() called after close()");
  if (started_) throw std::logic_error("start() called twice");
  started_ = true;
}

void EndpointCore::start_dispatcher() {
  std::shared_ptr<CallbackThread> dispatcher;
  // A queue is tied to this object even without a connect_callback: a read
  // handler may post to it.
  if (config_.callbacks == nullptr) {
    if (!config_.on_event) return;
    dispatcher = std::make_shared<CallbackThread>(CallbackThread::Options{
        .name = "tcpip-callback",
        .log = config_.log,
        .thread_start_hook = config_.thread_start_hook});
  }
  auto callbacks = std::make_shared<CallbackOwner>(
      dispatcher ? dispatcher->queue() : *config_.callbacks, owner_);
  const MutexLock lock(mutex_);
  if (closing_) return;  // `dispatcher` ends here
  dispatcher_ = std::move(dispatcher);
  callbacks_ = std::move(callbacks);
}

void EndpointCore::start_worker(
    ThreadRole role, const char* name,
    std::function<void(EndpointCore&, std::stop_token)> work) {
  if (const std::error_code error = waker_.open()) {
    throw_os_error(error.value(), "eventfd");
  }
  auto body = [self = shared_from_this(),
               work = std::move(work)](std::stop_token stop) {
    struct End {
      EndpointCore& core;
      ~End() { core.worker_ended(); }
    } const end{*self};
    work(*self, std::move(stop));
  };
  const MutexLock lock(mutex_);
  if (closing_) throw_connection_error(ENOTCONN, "start", config_.name);
  // Reserved first: a thread that was started must not be lost.
  workers_.reserve(workers_.size() + 1);
  worker_ids_.reserve(worker_ids_.size() + 1);
  workers_.push_back(start_thread({.role = role,
                                   .name = name,
                                   .hook = config_.thread_start_hook,
                                   .log = config_.log},
                                  std::move(body)));
  // Here, not in the thread: its hook may call close() before its work begins.
  worker_ids_.push_back(workers_.back().get_id());
  ++live_workers_;
}

void EndpointCore::worker_ended() {
  const MutexLock lock(mutex_);
  std::erase(worker_ids_, std::this_thread::get_id());
  --live_workers_;
  changed_.notify_all();
}

bool EndpointCore::is_worker_thread() const {
  for (const std::thread::id id : worker_ids_) {
    if (id == std::this_thread::get_id()) return true;
  }
  return false;
}

bool EndpointCore::is_closing() const {
  const MutexLock lock(mutex_);
  return closing_;
}

bool EndpointCore::tell_all_to_end(bool keep_should_be_connected) {
  std::vector<std::stop_source> stops;
  std::shared_ptr<CallbackOwner> callbacks;
  bool is_worker = false;
  {
    const MutexLock lock(mutex_);
    closing_ = true;
    is_worker = is_worker_thread();
    // Counted from here on, or wait_done() could think that all is over.
    if (!is_worker) ++closers_;
    callbacks = callbacks_;
    for (std::jthread& worker : workers_) {
      stops.push_back(worker.get_stop_source());
    }
  }
  if (callbacks) callbacks->refuse_posts();
  close_current_link(keep_should_be_connected);
  for (std::stop_source& stop : stops) stop.request_stop();
  waker_.signal();
  changed_.notify_all();
  return !is_worker;
}

void EndpointCore::join_workers() {
  std::vector<std::jthread> workers;
  {
    const MutexLock lock(mutex_);
    // One caller joins, the others wait for it.
    while (joining_) {
      changed_.wait(mutex_, {},
                    [this]() TCPIP_REQUIRES(mutex_) { return !joining_; });
    }
    if (workers_.empty()) return;
    workers.swap(workers_);
    joining_ = true;
  }
  for (std::jthread& worker : workers) worker.join();
  const MutexLock lock(mutex_);
  joining_ = false;
  changed_.notify_all();
}

void EndpointCore::end_callbacks() {
  std::shared_ptr<CallbackThread> dispatcher;
  std::shared_ptr<CallbackOwner> callbacks;
  {
    const MutexLock lock(mutex_);
    dispatcher = dispatcher_;
    callbacks = callbacks_;
  }
  if (dispatcher) {
    dispatcher->close();
  } else if (callbacks) {
    // What the program has posted for this object may throw; closing goes on.
    try {
      callbacks->retire();
    } catch (const std::exception& e) {
      log().error(fmt::format("callback failed: {}", e.what()));
    } catch (...) {
      log().error("callback failed with an unknown exception");
    }
  }
}

void EndpointCore::close(bool keep_should_be_connected) {
  // A callback that closes may also destroy the object.
  const std::shared_ptr<EndpointCore> self = shared_from_this();
  if (!tell_all_to_end(keep_should_be_connected)) {
    end_dispatcher_later();
    return;
  }
  join_workers();
  // A client has no accept thread that would have done it.
  const Deadline deadline = Deadline::after(kCloseLingerTime);
  for (const std::shared_ptr<Socket>& socket : take_ended()) {
    socket->linger(deadline);
  }
  end_callbacks();
  closer_ended();
}

// For a close() in a worker thread, which must not wait: the dispatcher ends by
// itself, behind the last event, be there another close() to join it or not.
void EndpointCore::end_dispatcher_later() {
  std::shared_ptr<CallbackThread> dispatcher;
  std::shared_ptr<CallbackOwner> callbacks;
  {
    const MutexLock lock(mutex_);
    if (!dispatcher_) return;
    dispatcher = dispatcher_;
    callbacks = callbacks_;
    ++closers_;
  }
  // Also if the callback is dropped, because somebody else closes.
  std::shared_ptr<void> end(
      nullptr, [self = shared_from_this()](void*) { self->closer_ended(); });
  callbacks->post_event([dispatcher = std::move(dispatcher),
                         end = std::move(end)] { dispatcher->close(); });
}

void EndpointCore::closer_ended() {
  const MutexLock lock(mutex_);
  --closers_;
  changed_.notify_all();
}

void EndpointCore::release() {
  const std::shared_ptr<EndpointCore> self = shared_from_this();
  close();
  std::vector<std::jthread> workers;
  {
    const MutexLock lock(mutex_);
    if (!is_worker_thread()) return;
    workers.swap(workers_);
  }
  // The object is destroyed in a worker thread, which goes on to the end of its
  // function with a reference of its own to this core.
  for (std::jthread& worker : workers) join_or_detach(worker);
  end_callbacks();
}

void EndpointCore::pause(Deadline deadline) {
  const MutexLock lock(mutex_);
  changed_.wait(mutex_, deadline,
                [this]() TCPIP_REQUIRES(mutex_) { return closing_; });
}

bool EndpointCore::wait_done(const Wait& wait) {
  const MutexLock lock(mutex_);
  const WaitResult result =
      changed_.wait(mutex_, wait, [this]() TCPIP_REQUIRES(mutex_) {
        return closing_ && live_workers_ == 0 && closers_ == 0;
      });
  if (result == WaitResult::kStopped) {
    throw CancelledError("wait_done", config_.name);
  }
  return result == WaitResult::kReady;
}

std::shared_ptr<const TextFormat> EndpointCore::format() const {
  const MutexLock lock(mutex_);
  return format_;
}

void EndpointCore::set_encoding(std::string encoding) {
  auto codec = std::make_shared<const TextCodec>(std::move(encoding));
  const MutexLock lock(mutex_);
  format_ = std::make_shared<const TextFormat>(std::move(codec),
                                               format_->terminator());
}

void EndpointCore::set_terminator(std::string terminator) {
  const MutexLock lock(mutex_);
  format_ = std::make_shared<const TextFormat>(format_->codec(),
                                               std::move(terminator));
}

// --- The connection ---

bool EndpointCore::connected() const {
  const MutexLock lock(mutex_);
  return current_ != nullptr;
}

bool EndpointCore::should_be_connected() const {
  const MutexLock lock(mutex_);
  return should_be_connected_;
}

std::uint64_t EndpointCore::connection_count() const {
  const MutexLock lock(mutex_);
  return count_;
}

std::shared_ptr<Link> EndpointCore::link() const {
  const MutexLock lock(mutex_);
  return current_;
}

bool EndpointCore::is_current(const Link& link) const {
  const MutexLock lock(mutex_);
  return current_.get() == &link;
}

bool EndpointCore::wait_connected(const Wait& wait) {
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

std::shared_ptr<Link> EndpointCore::hand_out_link(const Wait& wait) {
  const MutexLock lock(mutex_);
  std::shared_ptr<Link> link = wait_for_newer(handed_out_, wait);
  if (link) handed_out_ = link->record->number;
  return link;
}

std::shared_ptr<Link> EndpointCore::wait_for_newer(const std::uint64_t& after,
                                                   const Wait& wait) {
  const auto is_there = [&]() TCPIP_REQUIRES(mutex_) {
    return current_ && current_->record->number > after;
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
  // Not make_shared: a record refers to the Link for as long as the program
  // keeps a Connection, and would keep the memory.
  std::shared_ptr<Link> link(new Link(shared_from_this(), std::move(socket),
                                      peer, config_.limit, config_.heartbeats,
                                      std::chrono::steady_clock::now()));
  link->record->live = link;
  return link;
}

EndpointCore::Admission EndpointCore::admit(const std::shared_ptr<Link>& link) {
  {
    // The old connection's stop is requested, as this block ends, before the
    // new one's event is queued: so nothing that was posted for the old one,
    // with its stop token, comes behind that event.
    Ended ended(*this);
    const MutexLock lock(mutex_);
    if (closing_) return Admission::kClosing;
    if (current_) {
      // The old peer may be gone without our having noticed, or may have left
      // unread bytes. Neither justifies rejecting the new one.
      if (!current_->hung_up && !current_->socket->peer_hung_up()) {
        return Admission::kRefused;
      }
      const bool at_end = current_->socket->at_end();
      ended.unread = unread_bytes(*current_);
      if (at_end && ended.unread == 0) {
        end_drained_link(ended);
      } else {
        end_link(DisconnectReason::kReplaced, lost_error(*current_), ended);
      }
    }
  }
  const MutexLock lock(mutex_);
  if (closing_) return Admission::kClosing;
  link->record->number = count_ + 1;
  const Heartbeats::TimePoint now = std::chrono::steady_clock::now();
  link->heartbeats = Heartbeats(config_.heartbeats, now);
  post_event(
      {.connected = true, .connection = Connection(link->record), .time = now});
  ++count_;
  should_be_connected_ = true;
  current_ = link;
  changed_.notify_all();
  return Admission::kAccepted;
}

// Ends the current connection.
void EndpointCore::end_link(DisconnectReason reason, std::error_code error,
                            Ended& ended) {
  // First what may fail for want of memory; then nothing has changed.
  ended_.reserve(ended_.size() + 1);
  post_event({.connected = false,
              .reason = reason,
              .error = error,
              .connection = Connection(current_->record),
              .time = std::chrono::steady_clock::now()});
  ended_.push_back(current_->socket);
  current_->record->over = true;
  ended.reason = reason;
  ended.link = std::move(current_);
  current_ = nullptr;
}

// The same for one of which we were told by the kernel or by a read.
void EndpointCore::end_lost_link(DisconnectReason reason, std::error_code error,
                                 Ended& ended) {
  // The program may have closed it itself, through Connection::writer().
  if (current_->socket->is_closed()) {
    end_here(/*keep_should_be_connected=*/false, ended);
  } else {
    end_link(reason, error, ended);
  }
}

void EndpointCore::end_drained_link(Ended& ended) {
  const std::error_code error = lost_error(*current_);
  end_lost_link(reason_for(error), error, ended);
}

void EndpointCore::lose(const Link& link, DisconnectReason reason,
                        std::error_code error) {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() == &link) end_lost_link(reason, error, ended);
}

// This and read_ended() make sure that the connection ends when its peer has
// gone and its last byte is read, whichever comes last. Here hung_up is set
// before the look at is_reading(); a read is counted out before read_ended()
// looks at hung_up, under the same mutex: one of the two sees the other.
void EndpointCore::note_hang_up(Link& link) {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() != &link) return;
  link.hung_up = true;
  // A read that is under way finds out itself what has happened.
  if (is_drained(link)) end_drained_link(ended);
}

void EndpointCore::read_ended(const Link& link, bool lost) {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() != &link) return;
  if (!lost && !link.hung_up && !link.receiver.has_ended()) return;
  if (!lost && !is_drained(link)) return;
  end_drained_link(ended);
}

// --- Heartbeats ---

Deadline EndpointCore::tend_heartbeats(Link& link) {
  const HeartbeatOptions& options = config_.heartbeats;
  if (!options.send && !options.expect) return {};
  // A peer that has sent FIN is neither sent heartbeats nor expected to send
  // any.
  if (link.hung_up) return {};
  const std::uint64_t received = link.receiver.received();
  const std::uint64_t unread = received - link.receiver.consumed();
  Heartbeats::Verdict verdict;
  {
    const MutexLock lock(mutex_);
    if (current_.get() != &link) return {};
    verdict = link.heartbeats.look(std::chrono::steady_clock::now(), received,
                                   unread, link.socket->receivable());
  }
  if (verdict.send) send_heartbeat(link);
  if (verdict.lost) {
    log().warning(fmt::format("no heartbeat from {} within {} ms",
                              link.record->peer.to_string(),
                              options.max_interval.count()));
    lose(link, DisconnectReason::kHeartbeatLost);
  }
  return verdict.look_again;
}

// Never waits. Behind a message that is not wholly sent the heartbeat is
// queued, like any message; but not if the peer reads nothing at all.
void EndpointCore::send_heartbeat(Link& link) {
  const std::shared_ptr<const TextFormat> text = format();
  try {
    if (link.writer.unsent() > config_.write_limit) return;
    link.writer.write_lines({kHeartbeat, text->terminator()});
  } catch (const ConnectionError&) {
    note_hang_up(link);  // what has come can still be read
  }
}

void EndpointCore::note_heartbeat(Link& link, const char* operation) {
  if (!expects_heartbeats()) {
    throw UnexpectedHeartbeatError(operation, link.record->peer.to_string());
  }
  const MutexLock lock(mutex_);
  link.heartbeats.heard(std::chrono::steady_clock::now());
}

// --- Ending it from this side ---

void EndpointCore::end_here(bool keep_should_be_connected, Ended& ended) {
  if (!keep_should_be_connected) should_be_connected_ = false;
  if (!current_) return;
  if (!keep_should_be_connected) current_->record->should_be_connected = false;
  end_link(DisconnectReason::kClosedHere, {}, ended);
}

void EndpointCore::close_link(const Link& link) {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_.get() == &link) {
    end_here(/*keep_should_be_connected=*/false, ended);
  }
}

void EndpointCore::close_current_link(bool keep_should_be_connected) {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  end_here(keep_should_be_connected, ended);
}

std::vector<std::shared_ptr<Socket>> EndpointCore::take_ended() {
  std::vector<std::shared_ptr<Socket>> result;
  const MutexLock lock(mutex_);
  result.swap(ended_);
  return result;
}

// --- Callbacks ---

void EndpointCore::post_event(ConnectionEvent event) {
  if (!callbacks_ || !config_.on_event) return;
  callbacks_->post_event([self = shared_from_this(), event = std::move(event)] {
    self->run_event(event);
  });
}

void EndpointCore::run_event(const ConnectionEvent& event) {
  try {
    config_.on_event(event);
  } catch (const std::exception& e) {
    log().error(fmt::format("connect_callback failed: {}", e.what()));
  } catch (...) {
    log().error("connect_callback failed with an unknown exception");
  }
  const MutexLock lock(mutex_);
  if (event.connected) told_ = event.connection.number();
  changed_.notify_all();
}

std::shared_ptr<CallbackOwner> EndpointCore::callbacks(
    const char* operation) const {
  if (config_.callbacks == nullptr && !config_.on_event) {
    throw std::logic_error(fmt::format(
        "{}: there is neither a queue nor a connect_callback, and so nothing "
        "that runs callbacks",
        operation));
  }
  const MutexLock lock(mutex_);
  return callbacks_;
}

bool EndpointCore::post(std::function<void()> callback) {
  const auto owner = callbacks("post");
  return owner->post(std::move(callback));
}

void EndpointCore::post_wait(std::function<void()> callback, const Wait& wait) {
  const auto owner = callbacks("post_wait");
  owner->post_wait(std::move(callback), wait);
}

}  // namespace tcpip::internal
