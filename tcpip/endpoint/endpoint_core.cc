#include "tcpip/endpoint/endpoint_core.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <stdexcept>
#include <utility>

#include "tcpip/constants.h"

namespace tcpip::internal {
namespace {

// How soon, and how late, to look again for a heartbeat that is overdue.
constexpr std::chrono::milliseconds kShortestDoubt{20};
constexpr std::chrono::milliseconds kLongestDoubt{1000};

// What broke the connection; no error if the peer closed it.
std::error_code lost_error(const Link& link) noexcept {
  const int lost = link.socket->lost_error();
  if (lost == 0) return {};
  return {lost, std::generic_category()};
}

}  // namespace

void check_port(int port, const char* what) {
  if (port >= 0 && port <= 65535) return;
  throw std::invalid_argument(
      fmt::format("{}: port {} is not in 0...65535", what, port));
}

struct EndpointCore::Ended {
  explicit Ended(EndpointCore& c) noexcept : core(c) {}
  // Runs after the lock is released: sends what can be sent, says goodbye,
  // wakes whoever is blocked, and then everybody who waits for a change.
  ~Ended() {
    if (!link) return;
    link->writer.close();
    link->stop.request_stop();
    core.changed_.notify_all();
    core.waker_.signal();
    if (unread > 0) {
      core.log().warning(fmt::format("{} unread bytes from {} are dropped",
                                     unread, link->peer.to_string()));
    }
    core.log().info(fmt::format("connection to {} ended: {}",
                                link->peer.to_string(), to_string(reason)));
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
    : config_(std::move(config)), format_(std::move(format)), workers_([this] {
        const MutexLock lock(mutex_);  // so that wait_done() does not miss it
        changed_.notify_all();
      }) {
  if (config_.limit == 0) {
    throw std::invalid_argument("the limit must be positive");
  }
  const HeartbeatConfig& heartbeats = config_.heartbeats;
  if (std::min(heartbeats.interval, heartbeats.max_interval).count() <= 0) {
    throw std::invalid_argument("a heartbeat interval must be positive");
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
  const MutexLock lock(mutex_);
  if (closing_) throw std::logic_error("start() called after close()");
  if (started_) throw std::logic_error("start() called twice");
  started_ = true;
}

void EndpointCore::start_dispatcher() {
  // An owner is made even without a connect_callback: a read handler may post.
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
  start_worker(ThreadRole::kDispatch, "tcpip-callback",
               [own](EndpointCore& core, const std::stop_token&) {
                 QueueThread::drain(*own, core.log());
               });
}

void EndpointCore::start_worker(
    ThreadRole role, const char* name,
    std::function<void(EndpointCore&, std::stop_token)> work) {
  waker_.open();
  const bool started =
      workers_.start({.role = role,
                      .name = name,
                      .hook = config_.thread_start_hook,
                      .log = config_.log},
                     [self = shared_from_this(),
                      work = std::move(work)](std::stop_token stop) mutable {
                       // What it holds of the program's goes before the thread
                       // counts as ended.
                       const auto once = std::exchange(work, nullptr);
                       once(*self, std::move(stop));
                     });
  if (!started) throw_connection_error(ENOTCONN, "start", config_.name);
}

bool EndpointCore::is_closing() const {
  const MutexLock lock(mutex_);
  return closing_;
}

// Two calls at once, in whatever order their steps come, do together what one
// does: each step is done again to no effect.
void EndpointCore::tell_all_to_end(bool keep_should_be_connected, bool waits) {
  std::shared_ptr<EventOwner> callbacks;
  CallbackQueue* own_queue = nullptr;
  {
    const MutexLock lock(mutex_);
    closing_ = true;
    // From here on, or wait_done() could think that all is over.
    if (waits) ending_ = true;
    callbacks = callbacks_;
    own_queue = own_queue_.get();
  }
  // A handler that waits for room in the queue must wake up.
  if (callbacks) callbacks->refuse_posts();
  end_for_good(keep_should_be_connected);
  // Behind the last event: our own dispatcher runs it, then ends by itself.
  if (own_queue != nullptr) QueueThread::close(*own_queue);
  workers_.request_stop();
  waker_.signal();
  changed_.notify_all();
}

void EndpointCore::wait_until_ended() {
  workers_.join();
  // A client has no accept thread that would have done it.
  const Deadline deadline = Deadline::after(kCloseLingerTime);
  for (const std::shared_ptr<Socket>& socket : take_ended()) {
    socket->linger(deadline);
  }
  retire_callbacks();
  const MutexLock lock(mutex_);
  ended_for_good_ = true;
  changed_.notify_all();
}

// Our own queue is empty by now, unless its thread could not be joined: that
// one is inside a callback which this thread is inside of, or which waits for
// this thread, and what is behind it must not run after close().
void EndpointCore::retire_callbacks() {
  const std::shared_ptr<EventOwner> owner = callbacks();
  if (!owner) return;
  // What the program has posted for this object may throw; closing goes on.
  try {
    owner->retire();
  } catch (const std::exception& e) {
    log().error(fmt::format("callback failed: {}", e.what()));
  } catch (...) {
    log().error("callback failed with an unknown exception");
  }
}

void EndpointCore::close(bool keep_should_be_connected) {
  // A callback that closes, or that runs in here, may also destroy the object.
  const std::shared_ptr<EndpointCore> self = shared_from_this();
  const bool waits = !workers_.is_current_thread() ||
                     workers_.is_current_thread(ThreadRole::kDispatch);
  tell_all_to_end(keep_should_be_connected, waits);
  if (waits) wait_until_ended();
}

void EndpointCore::release() {
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
    // What it holds goes before it counts as ended.
    const auto once = std::exchange(callback, nullptr);
    once();
  };
}

std::shared_ptr<EventOwner> EndpointCore::callbacks() const {
  const MutexLock lock(mutex_);
  return callbacks_;
}

bool EndpointCore::post(CallbackQueue::Callback callback) {
  if (!callback) throw std::invalid_argument("post: the callback is empty");
  const std::shared_ptr<EventOwner> owner = callbacks();
  return owner && owner->post(counted(std::move(callback)));
}

void EndpointCore::post_wait(CallbackQueue::Callback callback,
                             const Wait& wait) {
  if (!callback) throw std::invalid_argument("post: the callback is empty");
  const std::shared_ptr<EventOwner> owner = callbacks();
  if (!owner) throw CancelledError("post_wait", config_.name);
  owner->post_wait(counted(std::move(callback)), wait);
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

bool EndpointCore::has_link_here() const {
  const std::uint64_t bound = bound_generation();
  return current_ && (bound == 0 || bound == current_->generation);
}

const EndpointCore::Bound* EndpointCore::bound() const {
  for (auto bound = bound_.rbegin(); bound != bound_.rend(); ++bound) {
    if (bound->thread == std::this_thread::get_id()) return &*bound;
  }
  return nullptr;
}

std::uint64_t EndpointCore::bound_generation() const {
  const Bound* const here = bound();
  return here == nullptr ? 0 : here->generation;
}

EndpointCore::Binding::Binding(EndpointCore& core, std::uint64_t generation,
                               std::optional<bool> should_be)
    : core_(core) {
  const MutexLock lock(core_.mutex_);
  core_.bound_.push_back({std::this_thread::get_id(), generation, should_be});
}

EndpointCore::Binding::~Binding() {
  const MutexLock lock(core_.mutex_);
  for (auto bound = core_.bound_.end(); bound != core_.bound_.begin();) {
    --bound;
    if (bound->thread == std::this_thread::get_id()) {
      core_.bound_.erase(bound);
      return;
    }
  }
}

bool EndpointCore::connected() const {
  const MutexLock lock(mutex_);
  return has_link_here();
}

bool EndpointCore::should_be_connected() const {
  const MutexLock lock(mutex_);
  const Bound* const here = bound();
  // Else a connection that this side has ended would seem to be lost, as soon
  // as the next one is there.
  if (here != nullptr && here->generation != generation_) {
    return here->should_be.value_or(should_have_been_connected_);
  }
  return should_be_connected_;
}

std::uint64_t EndpointCore::generation() const {
  const MutexLock lock(mutex_);
  const std::uint64_t bound = bound_generation();
  return bound == 0 ? generation_ : bound;
}

Address EndpointCore::peer_address() const {
  const MutexLock lock(mutex_);
  return has_link_here() ? current_->peer : Address();
}

std::shared_ptr<Link> EndpointCore::current() const {
  const MutexLock lock(mutex_);
  return has_link_here() ? current_ : nullptr;
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

std::shared_ptr<Link> EndpointCore::wait_for_link(std::uint64_t generation) {
  const MutexLock lock(mutex_);
  changed_.wait(mutex_, {}, [this, generation]() TCPIP_REQUIRES(mutex_) {
    return closing_ || (current_ && current_->generation > generation);
  });
  return closing_ ? nullptr : current_;
}

void EndpointCore::wait_until_told(const Link& link) {
  const MutexLock lock(mutex_);
  changed_.wait(mutex_, {}, [this, &link]() TCPIP_REQUIRES(mutex_) {
    return current_.get() != &link || !config_.on_event ||
           told_generation_ >= link.generation;
  });
}

EndpointCore::Admission EndpointCore::admit(std::shared_ptr<Link> link) {
  {
    // The old connection's stop is requested, as this block ends, before the
    // new one's event is queued: so nothing that was posted for the old one,
    // with its stop token, comes behind that event.
    Ended ended(*this);
    const MutexLock lock(mutex_);
    if (closing_) return Admission::kClosing;
    if (current_) {
      // Of a peer that has gone we may not have heard yet, or it left bytes
      // that nobody has read: neither is a reason to turn its successor away.
      if (!current_->hung_up && !current_->socket->peer_hung_up()) {
        return Admission::kRefused;
      }
      // A thread that is inside a read has its own view of the buffer; then the
      // kernel's has to do.
      const bool drained = current_->reading ? current_->socket->at_end()
                                             : is_drained(*current_);
      if (!drained) {
        ended.unread = current_->socket->receivable() +
                       (current_->reading ? 0 : current_->reader.buffered());
      }
      const std::error_code error = lost_error(*current_);
      end_link(std::shared_ptr<Link>(current_),
               drained ? reason_for(error) : DisconnectReason::kReplaced, error,
               ended);
    }
  }
  const MutexLock lock(mutex_);
  if (closing_) return Admission::kClosing;
  link->generation = ++generation_;
  link->heard = std::chrono::steady_clock::now();
  should_be_connected_ = true;
  current_ = std::move(link);
  post_event({.connected = true,
              .peer = current_->peer,
              .generation = generation_,
              .time = current_->heard});
  changed_.notify_all();
  return Admission::kAccepted;
}

void EndpointCore::end_link(const std::shared_ptr<Link>& link,
                            DisconnectReason reason, std::error_code error,
                            Ended& ended) {
  if (!link || current_ != link) return;
  ended.link = link;
  ended.reason = reason;
  ended_.push_back(link->socket);
  should_have_been_connected_ = should_be_connected_;
  post_event({.connected = false,
              .reason = reason,
              .error = error,
              .peer = link->peer,
              .generation = link->generation,
              .time = std::chrono::steady_clock::now()});
  current_ = nullptr;  // last: `link` may be a reference to it
}

bool EndpointCore::is_drained(const Link& link) const {
  return link.reader.buffered() == 0 &&
         (link.reader.has_ended() || link.socket->at_end());
}

void EndpointCore::lose(const std::shared_ptr<Link>& link,
                        DisconnectReason reason, std::error_code error) {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  end_link(link, reason, error, ended);
}

void EndpointCore::note_hang_up(const std::shared_ptr<Link>& link) {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  if (current_ != link) return;
  link->hung_up = true;
  // A read that is under way looks for itself when it ends.
  if (link->reading || !is_drained(*link)) return;
  const std::error_code error = lost_error(*link);
  end_link(link, reason_for(error), error, ended);
}

// --- Heartbeats ---

Deadline EndpointCore::tend_heartbeats(const std::shared_ptr<Link>& link) {
  const HeartbeatConfig& heartbeats = config_.heartbeats;
  Deadline look_again;
  if (!heartbeats.send && !heartbeats.expect) return look_again;
  // Who has hung up hears no heartbeat, and is waited for no longer.
  if (link->hung_up) return look_again;
  const Link::TimePoint now = std::chrono::steady_clock::now();
  if (heartbeats.send) {
    if (now >= link->next_beat) {
      send_heartbeat(link);
      // By the clock, not by when this thread got to it; but none in a bunch.
      link->next_beat += heartbeats.interval;
      if (link->next_beat <= now) link->next_beat = now + heartbeats.interval;
    }
    look_again = Deadline(link->next_beat);
  }
  if (heartbeats.expect && is_overdue(*link, now, look_again)) {
    log().warning(fmt::format("no heartbeat from {} within {} ms",
                              link->peer.to_string(),
                              heartbeats.max_interval.count()));
    lose(link, DisconnectReason::kHeartbeatLost);
  }
  return look_again;
}

// Never waits. Behind a message that is not wholly sent it is queued, like any
// message; unless the peer reads nothing at all.
void EndpointCore::send_heartbeat(const std::shared_ptr<Link>& link) {
  const std::shared_ptr<const TextFormat> text = format();
  try {
    if (link->writer.unsent() > config_.write_limit) return;
    link->writer.write_lines({kHeartbeat, text->terminator()});
  } catch (const ConnectionError&) {
    note_hang_up(link);  // what has come can still be read
  }
}

// A heartbeat that came in time, but that nobody has read yet, counts: a slow
// reader, or a program that was stopped for a while, is not the peer's fault.
// So once one is overdue, what has come by then is given time to be read, and
// for as long as more keeps coming.
bool EndpointCore::is_overdue(Link& link, Link::TimePoint now,
                              Deadline& look_again) {
  const auto most = config_.heartbeats.max_interval;
  Link::TimePoint heard;
  std::uint64_t unread = 0;
  const std::uint64_t received = link.reader.received();
  {
    const MutexLock lock(mutex_);
    if (current_.get() != &link) return false;
    heard = link.heard;
    // A thread inside a read has seen all that was received.
    if (!link.reading) unread = link.reader.buffered();
  }
  if (now < heard + most) {
    link.doubt.reset();
    look_again = std::min(look_again, Deadline(heard + most));
    return false;
  }
  const std::uint64_t arrived = received + link.socket->receivable();
  if (!link.doubt) {
    link.doubt = {now, arrived, arrived};
  } else {
    if (arrived > link.doubt->arrived) {
      link.doubt->arrived = arrived;
      link.doubt->since = now;
    }
    if (received - unread >= link.doubt->suspect ||
        now - link.doubt->since >= most) {
      return true;
    }
  }
  const auto pause = std::clamp<std::chrono::milliseconds>(
      most / 20, kShortestDoubt, kLongestDoubt);
  look_again = std::min(look_again, Deadline(now + pause));
  return false;
}

void EndpointCore::note_heartbeat(Link& link, const char* operation) {
  if (!expects_heartbeats()) {
    throw UnexpectedHeartbeatError(operation, link.peer.to_string());
  }
  const MutexLock lock(mutex_);
  link.heard = std::chrono::steady_clock::now();
}

void EndpointCore::handle_received_heartbeat() {
  constexpr const char* kOperation = "handle_received_heartbeat";
  note_heartbeat(*link_of_this_thread(kOperation), kOperation);
}

void EndpointCore::end_here(bool keep_should_be_connected, Ended& ended) {
  if (!keep_should_be_connected) should_be_connected_ = false;
  end_link(std::shared_ptr<Link>(current_), DisconnectReason::kClosedHere, {},
           ended);
}

void EndpointCore::close_link(bool keep_should_be_connected) {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  // Not the business of a thread whose own connection is over.
  if (bound_generation() != 0 && !has_link_here()) return;
  end_here(keep_should_be_connected, ended);
}

void EndpointCore::end_for_good(bool keep_should_be_connected) {
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

std::shared_ptr<Link> EndpointCore::link_of_this_thread(
    const char* operation) const {
  std::shared_ptr<Link> link = current();
  if (!link) throw_connection_error(ENOTCONN, operation, config_.name);
  return link;
}

// --- Transfers ---

std::shared_ptr<Link> EndpointCore::begin_read(const char* operation) {
  bool taken = false;
  {
    const MutexLock lock(mutex_);
    if (has_link_here()) {
      taken = current_->reading;
      if (!taken) {
        current_->reading = true;
        return current_;
      }
    }
  }
  if (!taken) throw_connection_error(ENOTCONN, operation, config_.name);
  throw std::logic_error(fmt::format(
      "{}: another thread is already reading this connection", operation));
}

void EndpointCore::end_read(const std::shared_ptr<Link>& link,
                            const ConnectionError* failure) {
  Ended ended(*this);
  const MutexLock lock(mutex_);
  link->reading = false;
  if (current_ != link) return;
  if (failure != nullptr) {
    end_link(link, reason_for(failure->code()),
             failure->code() == Errc::kIncompleteRead ? std::error_code()
                                                      : failure->code(),
             ended);
  } else if ((link->hung_up || link->reader.has_ended()) && is_drained(*link)) {
    const std::error_code error = lost_error(*link);
    end_link(link, reason_for(error), error, ended);
  }
}

void EndpointCore::post_event(ConnectionEvent event) {
  if (!callbacks_ || !config_.on_event) return;
  callbacks_->post_event(
      [self = shared_from_this(), event, should_be = should_be_connected_] {
        self->run_event(event, should_be);
      });
}

void EndpointCore::run_event(const ConnectionEvent& event,
                             bool should_be_connected) {
  const CallbackRun run(*this);
  const Binding binding(*this, event.generation, should_be_connected);
  try {
    config_.on_event(event);
  } catch (const std::exception& e) {
    log().error(fmt::format("connect_callback failed: {}", e.what()));
  } catch (...) {
    log().error("connect_callback failed with an unknown exception");
  }
  const MutexLock lock(mutex_);
  if (event.connected) told_generation_ = event.generation;
  changed_.notify_all();
}

}  // namespace tcpip::internal
