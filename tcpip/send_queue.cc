#include "tcpip/send_queue.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <new>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>

#include "tcpip/base/mutex.h"
#include "tcpip/base/peer_log.h"
#include "tcpip/base/poller.h"
#include "tcpip/base/process.h"
#include "tcpip/base/slot_ring.h"
#include "tcpip/base/workers.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/link.h"
#include "tcpip/endpoint/text.h"
#include "tcpip/error.h"

namespace tcpip {
namespace {

using internal::EndpointCore;
using internal::Mutex;
using internal::MutexLock;
using internal::SlotRing;
using internal::WaitResult;
using Parts = std::span<const std::string_view>;

constexpr const char* kPost = "post";

// How often a writer that waits for the peer looks whether a post has found the
// queue full. A post that woke it from there would have to take a lock.
constexpr std::chrono::milliseconds kLookForOverflow{20};
// How long it waits where memory or poll() is refused.
constexpr std::chrono::milliseconds kRefusedPause{10};

constexpr std::size_t kMostSlots = std::size_t{1} << 20;
constexpr std::size_t kMostSize = std::size_t{1} << 30;

SendQueueOptions checked(SendQueueOptions options) {
  const auto check = [](bool is_right, const char* what) {
    if (!is_right) {
      throw std::invalid_argument(
          fmt::format("SendQueue: {} out of range", what));
    }
  };
  check(options.slots >= 1 && options.slots <= kMostSlots, "slots");
  check(options.max_size >= 1 && options.max_size <= kMostSize, "max_size");
  check(options.write_timeout.count() >= 0, "write_timeout");
  return options;
}

}  // namespace

// The thread holds a reference, since what it runs (the start hook, and stop
// callbacks of a connection that it closes) may destroy the SendQueue.
class SendQueue::Impl {
 public:
  Impl(const std::shared_ptr<EndpointCore>& core, Options options)
      : options_(checked(std::move(options))),
        name_(core->config().name),
        core_(core),
        current_(core->current_number()),
        format_(core->format()),
        ring_(options_.slots, options_.max_size),
        buffer_(std::make_unique<char[]>(options_.max_size)) {}

  static void start(const std::shared_ptr<Impl>& self, const Log& log);

  SendResult post(Parts parts, const Connection* to);
  SendResult post_str(std::string_view text, const Connection* to);
  void flush(const Wait& wait) TCPIP_EXCLUDES(mutex_);
  Stats stats() const noexcept;
  std::size_t size() const noexcept { return ring_.size(); }
  void close();

  const internal::ProcessMark process;

 private:
  void run();
  void sleep() noexcept;
  bool send(const SlotRing::Message& message);
  bool write(std::string_view data);
  bool has_overflowed() const noexcept { return overflowed_ == to_.number(); }
  void close_connection(std::string_view why);
  void drop_rest() noexcept;
  void note_done(std::uint64_t position) TCPIP_EXCLUDES(mutex_);

  const Options options_;
  const std::string name_;
  // Weak: the queue keeps nothing of its client or server alive.
  const std::weak_ptr<EndpointCore> core_;
  const std::shared_ptr<const std::atomic<std::uint64_t>> current_;
  const std::shared_ptr<const internal::TextFormat> format_;
  SlotRing ring_;
  std::stop_source stop_;
  internal::Waker waker_;
  // The writer waits for the waker, or is about to. See sleep().
  std::atomic<bool> sleeps_{false};
  // The newest connection for which a post has found the queue full, with
  // kClose.
  std::atomic<std::uint64_t> overflowed_{0};

  std::atomic<std::uint64_t> posted_{0};
  std::atomic<std::uint64_t> sent_{0};
  std::atomic<std::uint64_t> dropped_full_{0};
  std::atomic<std::uint64_t> dropped_stale_{0};

  // Of the writer thread.
  const std::unique_ptr<char[]> buffer_;
  Connection to_;  // the one that it wrote to last

  Mutex mutex_;
  internal::CondVar changed_;
  // Every message before this position is sent or dropped.
  std::uint64_t done_ TCPIP_GUARDED_BY(mutex_) = 0;
  bool ended_ TCPIP_GUARDED_BY(mutex_) = false;  // the writer writes no more

  internal::Workers workers_;  // last: destroyed first
};

void SendQueue::Impl::start(const std::shared_ptr<Impl>& self, const Log& log) {
  if (const std::error_code error = self->waker_.open()) {
    throw_os_error(error.value(), "eventfd");
  }
  self->workers_.start({.role = ThreadRole::kSend,
                        .name = "tcpip-send",
                        .hook = self->options_.thread_start_hook,
                        .log = log},
                       [self] { self->run(); });
}

// --- Posting ---

SendResult SendQueue::Impl::post(Parts parts, const Connection* to) {
  process.check(kPost);
  std::size_t size = 0;
  for (const std::string_view part : parts) size += part.size();
  if (size > options_.max_size) {
    throw std::length_error(
        fmt::format("SendQueue: a message of {} bytes; max_size is {}", size,
                    options_.max_size));
  }
  const std::uint64_t tag = *current_;
  if (to != nullptr && to->number() != 0 && !internal::is_of(*to, core_)) {
    throw std::invalid_argument(
        "SendQueue: the connection belongs to another client or server");
  }
  const bool is_it = to == nullptr || to->number() == tag;
  if (tag == 0 || !is_it || stop_.stop_requested()) {
    return SendResult::kNotConnected;
  }
  posted_.fetch_add(1, std::memory_order_relaxed);
  const SlotRing::Pushed pushed =
      ring_.push(tag, parts,
                 options_.when_full == WhenFull::kDropOldest
                     ? SlotRing::WhenFull::kDropOldest
                     : SlotRing::WhenFull::kRefuse);
  if (pushed.outdated > 0) {
    dropped_stale_.fetch_add(pushed.outdated, std::memory_order_relaxed);
  }
  const std::uint64_t dropped = pushed.oldest + (pushed.taken ? 0 : 1);
  if (dropped > 0) dropped_full_.fetch_add(dropped, std::memory_order_relaxed);
  if (!pushed.taken) {
    if (options_.when_full == WhenFull::kClose) {
      // Before any later message of this thread is in the queue: the writer
      // sees it before it writes that one.
      std::uint64_t newest = overflowed_;
      while (newest < tag && !overflowed_.compare_exchange_weak(newest, tag)) {
      }
    }
    return SendResult::kBusy;
  }
  if (sleeps_ && sleeps_.exchange(false)) waker_.signal();
  return SendResult::kQueued;
}

SendResult SendQueue::Impl::post_str(std::string_view text,
                                     const Connection* to) {
  std::string storage;  // stays empty, unless the text is converted
  const std::array<std::string_view, 2> parts{
      format_->encode(text, storage, "post_str"), format_->terminator()};
  return post(parts, to);
}

void SendQueue::Impl::flush(const Wait& wait) {
  process.check("flush");
  const std::uint64_t target = ring_.tail();
  const MutexLock lock(mutex_);
  switch (changed_.wait(mutex_, wait, [&]() TCPIP_REQUIRES(mutex_) {
    return done_ >= target || ended_;
  })) {
    case WaitResult::kReady:
      break;
    case WaitResult::kTimeout:
      throw TimeoutError("flush", name_);
    case WaitResult::kStopped:
      throw CancelledError("flush", name_);
  }
  if (done_ < target) throw CancelledError("flush", name_);
}

SendQueue::Stats SendQueue::Impl::stats() const noexcept {
  return {.posted = posted_,
          .sent = sent_,
          .dropped_full = dropped_full_,
          .dropped_stale = dropped_stale_,
          .waiting = size()};
}

void SendQueue::Impl::close() {
  stop_.request_stop();
  waker_.signal();
  workers_.refuse();
  workers_.join();
}

// --- The writer thread ---

void SendQueue::Impl::run() {
  while (!stop_.stop_requested()) {
    if (const auto message = ring_.pop(buffer_.get())) {
      ++(send(*message) ? sent_ : dropped_stale_);
      note_done(message->position + 1);
    } else {
      note_done(ring_.head());
      sleep();
    }
  }
  drop_rest();
  const MutexLock lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

// Until there is a message or the stop is requested. A post first makes its
// message known, then looks at sleeps_; this first sets sleeps_, then looks for
// a message: at least one of the two sees what the other has done.
void SendQueue::Impl::sleep() noexcept {
  waker_.clear();
  sleeps_ = true;
  if (!ring_.has_next() && !stop_.stop_requested()) {
    pollfd poll{waker_.fd(), POLLIN, 0};
    const IoResult result = internal::poll_until({&poll, 1}, Deadline());
    if (result.status == IoStatus::kError) {
      internal::sleep_until(Deadline::after(kRefusedPause));
    }
  }
  sleeps_ = false;
}

// True if the message's own connection has taken it.
bool SendQueue::Impl::send(const SlotRing::Message& message) {
  if (to_.number() != message.tag) {
    const std::shared_ptr<EndpointCore> core = core_.lock();
    const auto link = core ? core->link() : nullptr;
    to_ = link ? Connection(link->record) : Connection();
  }
  if (to_.number() != message.tag || !to_.connected()) return false;
  if (has_overflowed()) {
    close_connection("the send queue is full");
    return false;
  }
  return write({buffer_.get(), message.size});
}

bool SendQueue::Impl::write(std::string_view data) {
  const Deadline deadline = options_.write_timeout.count() > 0
                                ? Deadline::after(options_.write_timeout)
                                : Deadline();
  for (bool queued = false;;) {
    Wait wait(deadline, stop_.get_token());
    if (options_.when_full == WhenFull::kClose) {
      wait.deadline = std::min(deadline, Deadline::after(kLookForOverflow));
    }
    try {
      if (queued) {
        internal::drain_piece(to_, kPost, wait);
      } else {
        internal::write_piece(to_, kPost, data, wait);
      }
      return true;
    } catch (const TimeoutError& e) {
      queued = queued || e.queued();
      if (has_overflowed()) {
        close_connection("the send queue is full");
        return false;
      }
      if (deadline.has_passed()) {
        close_connection("a message was not sent in time");
        return false;
      }
    } catch (const CancelledError& e) {
      return queued || e.queued();
    } catch (const ConnectionError&) {
      return false;
    } catch (const std::bad_alloc&) {
      // The connection has not taken the message, or has ended.
      const MutexLock lock(mutex_);
      changed_.wait(mutex_,
                    Wait(Deadline::after(kRefusedPause), stop_.get_token()),
                    [] { return false; });
    }
  }
}

void SendQueue::Impl::close_connection(std::string_view why) {
  if (const std::shared_ptr<EndpointCore> core = core_.lock()) {
    core->peer_log().write(
        internal::PeerLine::kSendQueueClosed, LogLevel::kWarning, [&] {
          return fmt::format("closing the connection to {}: {}",
                             to_.peer_address().to_string(), why);
        });
    const auto link = core->link();
    if (link && link->record->number == to_.number()) {
      core->close_link(*link, DisconnectReason::kNotReading);
    }
  }
}

void SendQueue::Impl::drop_rest() noexcept {
  while (ring_.pop(buffer_.get())) ++dropped_stale_;
}

void SendQueue::Impl::note_done(std::uint64_t position) {
  const MutexLock lock(mutex_);
  if (position == done_) return;
  done_ = position;
  changed_.notify_all();
}

std::string to_string(const SendQueueStats& stats) {
  return fmt::format(
      "{} posted, {} sent, {} dropped for lack of room, {} dropped with their "
      "connection, {} waiting",
      stats.posted, stats.sent, stats.dropped_full, stats.dropped_stale,
      stats.waiting);
}

// --- The face ---

// These members hold a reference to the Impl where the program's code may
// destroy the SendQueue meanwhile.

SendQueue::SendQueue(const BaseClientOrServer& endpoint, Options options)
    : impl_(std::make_shared<Impl>(internal::core_of(endpoint),
                                   std::move(options))) {
  Impl::start(impl_, endpoint.log());
}

SendQueue::~SendQueue() {
  const std::shared_ptr<Impl> impl = impl_;
  if (impl->process.is_here()) {
    impl->close();
  } else {
    internal::keep_for_ever(impl);
  }
}

SendResult SendQueue::post_str(std::string_view text) {
  return impl_->post_str(text, nullptr);
}
SendResult SendQueue::post_str(const Connection& to, std::string_view text) {
  return impl_->post_str(text, &to);
}
SendResult SendQueue::post_parts(std::span<const std::string_view> parts,
                                 const Connection* to) {
  return impl_->post(parts, to);
}
void SendQueue::flush(const Wait& wait) { impl_->flush(wait); }
SendQueue::Stats SendQueue::stats() const noexcept { return impl_->stats(); }
std::size_t SendQueue::size() const noexcept { return impl_->size(); }
void SendQueue::close() {
  const std::shared_ptr<Impl> impl = impl_;
  if (impl->process.is_here()) impl->close();
}

}  // namespace tcpip
