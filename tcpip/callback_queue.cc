#include "tcpip/callback_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <list>
#include <map>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "tcpip/base/log_line.h"
#include "tcpip/base/mutex.h"
#include "tcpip/base/poller.h"
#include "tcpip/base/process.h"
#include "tcpip/base/thread_number.h"
#include "tcpip/error.h"

namespace tcpip {

using internal::CondVar;
using internal::Mutex;
using internal::MutexLock;
using internal::this_thread_number;
using internal::ThreadNumber;
using internal::ThreadWait;
using internal::WaitResult;

// Outlives the CallbackQueue as long as there are Owners, and while a callback
// that destroys the CallbackQueue runs inside one of its members.
class CallbackQueue::Impl {
 public:
  using OwnerNumber = std::uint64_t;
  static constexpr OwnerNumber kNobody = 0;
  static constexpr OwnerNumber kEverybody = ~OwnerNumber{0};  // in running_

  explicit Impl(std::size_t max_size) : max_size_(max_size) {}

  OwnerNumber add_owner() TCPIP_EXCLUDES(mutex_);

  bool post(Callback callback, OwnerNumber owner) TCPIP_EXCLUDES(mutex_);
  void post_wait(Callback callback, OwnerNumber owner, const Wait& wait)
      TCPIP_EXCLUDES(mutex_);
  std::size_t run_pending() TCPIP_EXCLUDES(mutex_);
  bool run_one(const Wait& wait) TCPIP_EXCLUDES(mutex_);
  std::size_t run_until(const Wait& wait) TCPIP_EXCLUDES(mutex_);
  void run(const std::stop_token& stop) TCPIP_EXCLUDES(mutex_);

  void cancel(OwnerNumber owner) TCPIP_EXCLUDES(mutex_);
  // Drops what the owner has queued, refuses its posts and ends those that
  // wait.
  void drop(OwnerNumber owner) TCPIP_EXCLUDES(mutex_);
  void refuse_posts(OwnerNumber owner) noexcept TCPIP_EXCLUDES(mutex_);
  void retire(OwnerNumber owner) TCPIP_EXCLUDES(mutex_);
  // See QueueThread::close().
  void close() noexcept TCPIP_EXCLUDES(mutex_);
  void drop_all() TCPIP_EXCLUDES(mutex_);

  std::size_t size() const TCPIP_EXCLUDES(mutex_);
  Stats stats() const TCPIP_EXCLUDES(mutex_);
  int wait_fd() TCPIP_EXCLUDES(mutex_);

  const internal::ProcessMark process;

  struct Item {
    Callback callback;  // only one thread at a time uses it, without the lock
    OwnerNumber owner = kNobody;
    bool is_event = false;
    std::uint64_t ticket = 0;  // ascending in queue_
    ThreadNumber thread = 0;   // in running_: the thread that runs it
    // In queue_: how many of its owner's are there. Null without an owner.
    std::size_t* of_owner = nullptr;
  };
  // A list: a node is allocated before the lock is taken and freed after it is
  // released, and moving a node from list to list cannot fail.
  using Items = std::list<Item>;

  static Items make_item(Callback callback);
  bool post_event(Items& event, OwnerNumber owner) noexcept
      TCPIP_EXCLUDES(mutex_);
  void wake() noexcept { changed_.notify_all(); }

 private:
  // A thread inside post_wait().
  struct Waiter {
    OwnerNumber owner;
    bool cancelled;
  };

  static constexpr std::uint64_t kNoTicket = ~std::uint64_t{0};

  enum class Next { kRan, kNothing, kStopped };

  struct OwnerState {
    bool may_post = true;
    std::size_t queued = 0;  // how many items of queue_ are this owner's
    // What retire() has taken out of queue_ and not run yet.
    Items retiring = {};
  };

  // Waits for a callback and runs it. After the deadline, runs only callbacks
  // with tickets up to `last`.
  Next run_next(const Wait& wait, std::uint64_t last = kNoTicket)
      TCPIP_EXCLUDES(mutex_);
  void run_item(Items::iterator item) TCPIP_EXCLUDES(mutex_);
  void wait_for_running(OwnerNumber owner) TCPIP_EXCLUDES(mutex_);
  void finish(Items::iterator item) noexcept TCPIP_EXCLUDES(mutex_);
  void destroy(Items::iterator first, Items& others) TCPIP_EXCLUDES(mutex_);

  void wait_until_finished(std::uint64_t ticket) TCPIP_REQUIRES(mutex_);
  void enqueue(Items& item, OwnerNumber owner) TCPIP_REQUIRES(mutex_);
  void show_whether_readable() TCPIP_REQUIRES(mutex_);
  void take_all_of(OwnerNumber owner, std::size_t queued, Items& to)
      TCPIP_REQUIRES(mutex_);
  Items::iterator start(Items::iterator queued) TCPIP_REQUIRES(mutex_);
  Items::iterator mark_running(Items& items, Items::iterator item)
      TCPIP_REQUIRES(mutex_);
  Items::iterator mark_dropping(Items& items) TCPIP_REQUIRES(mutex_);
  void unlink(Items::iterator queued, Items& to, Items::iterator place)
      TCPIP_REQUIRES(mutex_);
  void changed() TCPIP_REQUIRES(mutex_);
  void cancel_waiters(OwnerNumber owner) TCPIP_REQUIRES(mutex_);
  bool may_post(OwnerNumber owner) const TCPIP_REQUIRES(mutex_);

  const std::size_t max_size_;

  mutable Mutex mutex_;
  // Notified of every change of what mutex_ guards; of an event by wake().
  CondVar changed_;
  Items queue_ TCPIP_GUARDED_BY(mutex_);
  // How many items of queue_ are not events.
  std::size_t posted_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::uint64_t last_ticket_ TCPIP_GUARDED_BY(mutex_) = 0;
  // See CallbackQueueStats; last_ticket_ is how many were posted.
  std::uint64_t run_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::uint64_t dropped_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::uint64_t refused_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::size_t most_waiting_ TCPIP_GUARDED_BY(mutex_) = 0;
  // The callbacks that threads run or destroy now. A thread has several if a
  // callback drains the queue.
  Items running_ TCPIP_GUARDED_BY(mutex_);
  // The thread that has drained the queue last.
  ThreadNumber drainer_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::vector<Waiter*> waiters_ TCPIP_GUARDED_BY(mutex_);
  // The owners that are not cancelled.
  std::map<OwnerNumber, OwnerState> owners_ TCPIP_GUARDED_BY(mutex_);
  OwnerNumber last_owner_ TCPIP_GUARDED_BY(mutex_) = kNobody;
  // How many threads are in wait_for_running().
  int cancelling_ TCPIP_GUARDED_BY(mutex_) = 0;
  bool closed_ TCPIP_GUARDED_BY(mutex_) = false;
  // For wait_fd(). Signalled exactly while readable_, which is !queue_.empty().
  internal::Waker waker_ TCPIP_GUARDED_BY(mutex_);
  bool readable_ TCPIP_GUARDED_BY(mutex_) = false;
};

CallbackQueue::Impl::Items CallbackQueue::Impl::make_item(Callback callback) {
  internal::check_callback(callback, "post");
  Items items;
  items.push_back({std::move(callback)});
  return items;
}

CallbackQueue::Impl::OwnerNumber CallbackQueue::Impl::add_owner() {
  const MutexLock lock(mutex_);
  owners_.try_emplace(last_owner_ + 1);
  return ++last_owner_;
}

// The two posts declare the item before the lock, so that a refused callback is
// destroyed after the lock is released.

bool CallbackQueue::Impl::post(Callback callback, OwnerNumber owner) {
  Items item = make_item(std::move(callback));
  const MutexLock lock(mutex_);
  if (!may_post(owner) || posted_ >= max_size_) {
    ++refused_;
    return false;
  }
  enqueue(item, owner);
  changed_.notify_all();
  return true;
}

void CallbackQueue::Impl::post_wait(Callback callback, OwnerNumber owner,
                                    const Wait& wait) {
  Items item = make_item(std::move(callback));
  WaitResult result = WaitResult::kReady;
  {
    const MutexLock lock(mutex_);
    Waiter waiter{owner, !may_post(owner)};
    waiters_.push_back(&waiter);
    result = changed_.wait(mutex_, wait, [&]() TCPIP_REQUIRES(mutex_) {
      return waiter.cancelled || posted_ < max_size_;
    });
    std::erase(waiters_, &waiter);
    if (result == WaitResult::kReady && !waiter.cancelled) {
      enqueue(item, owner);
      changed_.notify_all();
      return;
    }
    ++refused_;
  }
  if (result == WaitResult::kTimeout) throw TimeoutError("post_wait");
  throw CancelledError("post_wait");
}

bool CallbackQueue::Impl::post_event(Items& event, OwnerNumber owner) noexcept {
  event.front().is_event = true;
  const MutexLock lock(mutex_);
  if (closed_ || !owners_.contains(owner)) return false;
  enqueue(event, owner);
  return true;
}

std::size_t CallbackQueue::Impl::run_pending() {
  std::uint64_t last = 0;
  {
    const MutexLock lock(mutex_);
    drainer_ = this_thread_number();
    last = last_ticket_;
  }
  for (std::size_t count = 0;; ++count) {
    Items::iterator item;
    {
      const MutexLock lock(mutex_);
      if (queue_.empty() || queue_.front().ticket > last) return count;
      item = start(queue_.begin());
    }
    run_item(item);
  }
}

bool CallbackQueue::Impl::run_one(const Wait& wait) {
  const Next next = run_next(wait);
  if (next == Next::kStopped) throw CancelledError("run_one");
  return next == Next::kRan;
}

std::size_t CallbackQueue::Impl::run_until(const Wait& wait) {
  std::uint64_t last = 0;
  {
    const MutexLock lock(mutex_);
    last = last_ticket_;
  }
  std::size_t count = 0;
  while (run_next(wait, last) == Next::kRan) ++count;
  return count;
}

void CallbackQueue::Impl::run(const std::stop_token& stop) {
  while (run_next(stop) == Next::kRan) {
  }
}

// kNothing: the deadline has passed, or the queue is closed and empty.
CallbackQueue::Impl::Next CallbackQueue::Impl::run_next(const Wait& wait,
                                                        std::uint64_t last) {
  Items::iterator item;
  {
    const MutexLock lock(mutex_);
    drainer_ = this_thread_number();
    const WaitResult result = changed_.wait(
        mutex_, wait,
        [this]() TCPIP_REQUIRES(mutex_) { return !queue_.empty() || closed_; });
    if (result == WaitResult::kStopped) return Next::kStopped;
    if (queue_.empty()) return Next::kNothing;
    if (queue_.front().ticket > last && wait.deadline.has_passed()) {
      return Next::kNothing;
    }
    // Again: another thread may have drained during the wait.
    drainer_ = this_thread_number();
    item = start(queue_.begin());
  }
  run_item(item);
  return Next::kRan;
}

void CallbackQueue::Impl::run_item(Items::iterator item) {
  try {
    item->callback();
  } catch (...) {
    finish(item);
    throw;
  }
  finish(item);
}

void CallbackQueue::Impl::finish(Items::iterator item) noexcept {
  // Destroy what the callback holds while the callback still counts as running:
  // cancel() promises that nothing of the owner's runs after it.
  item->callback = nullptr;
  const MutexLock lock(mutex_);
  if (cancelling_ > 0) ThreadWait::end(&*item);
  running_.erase(item);
  changed();
}

void CallbackQueue::Impl::cancel(OwnerNumber owner) {
  drop(owner);
  wait_for_running(owner);
}

void CallbackQueue::Impl::wait_until_finished(std::uint64_t ticket) {
  changed_.wait(mutex_, {}, [&]() TCPIP_REQUIRES(mutex_) {
    return std::none_of(running_.begin(), running_.end(),
                        [&](const Item& i) { return i.ticket == ticket; });
  });
}

// Waits for one callback at a time: a ThreadWait names one thread, and then the
// table finds threads that would wait for each other.
void CallbackQueue::Impl::wait_for_running(OwnerNumber owner) {
  const MutexLock lock(mutex_);
  ++cancelling_;
  for (auto item = running_.begin(); item != running_.end();) {
    if (item->owner == owner || item->owner == kEverybody) {
      const ThreadWait wait(item->thread, &*item);
      if (wait.is_allowed()) {
        wait_until_finished(item->ticket);
        item = running_.begin();
        continue;
      }
    }
    ++item;
  }
  --cancelling_;
}

// Takes all of the owner's callbacks out at once, so that no thread runs one
// whose predecessor was dropped.
void CallbackQueue::Impl::drop(OwnerNumber owner) {
  Items dropped;
  Items::iterator first;
  {
    const MutexLock lock(mutex_);
    // Before the waiters see the room that this makes.
    cancel_waiters(owner);
    const auto place = owners_.find(owner);
    if (place == owners_.end()) return;
    dropped.swap(place->second.retiring);
    take_all_of(owner, place->second.queued, dropped);
    owners_.erase(place);
    if (dropped.empty()) return;
    dropped_ += dropped.size();
    first = mark_dropping(dropped);
  }
  destroy(first, dropped);
}

// The first of the items counts as running, for all of them: a cancel() in
// another thread must wait until they are destroyed.
CallbackQueue::Impl::Items::iterator CallbackQueue::Impl::mark_dropping(
    Items& items) {
  changed();
  return mark_running(items, items.begin());
}

void CallbackQueue::Impl::destroy(Items::iterator first, Items& others) {
  first->callback = nullptr;
  others.clear();
  finish(first);
}

void CallbackQueue::Impl::refuse_posts(OwnerNumber owner) noexcept {
  const MutexLock lock(mutex_);
  const auto place = owners_.find(owner);
  if (place != owners_.end()) place->second.may_post = false;
  cancel_waiters(owner);
}

void CallbackQueue::Impl::retire(OwnerNumber owner) {
  refuse_posts(owner);
  bool may_run = false;
  {
    const MutexLock lock(mutex_);
    const ThreadNumber self = this_thread_number();
    may_run =
        drainer_ == self &&
        std::none_of(running_.begin(), running_.end(), [&](const Item& i) {
          return i.owner == owner && i.thread == self;
        });
    // All at once: a search for each of them would take quadratic time. They
    // wait where a cancel() by one of them finds the others.
    const auto place = owners_.find(owner);
    if (may_run && place != owners_.end()) {
      take_all_of(owner, place->second.queued, place->second.retiring);
      changed();
    }
  }
  std::exception_ptr failure;
  while (may_run) {
    Items::iterator item;
    {
      const MutexLock lock(mutex_);
      const auto place = owners_.find(owner);
      if (place == owners_.end() || place->second.retiring.empty()) break;
      Items& items = place->second.retiring;
      ++run_;
      item = mark_running(items, items.begin());
    }
    try {
      run_item(item);
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  }
  cancel(owner);
  if (failure) std::rethrow_exception(failure);
}

void CallbackQueue::Impl::close() noexcept {
  const MutexLock lock(mutex_);
  closed_ = true;
  for (Waiter* const waiter : waiters_) waiter->cancelled = true;
  changed();
}

void CallbackQueue::Impl::drop_all() {
  Items dropped;
  Items::iterator first;
  {
    const MutexLock lock(mutex_);
    if (queue_.empty()) return;
    dropped.swap(queue_);
    dropped_ += dropped.size();
    posted_ = 0;
    for (auto& [number, state] : owners_) state.queued = 0;
    dropped.front().owner = kEverybody;
    first = mark_dropping(dropped);
  }
  destroy(first, dropped);
}

std::size_t CallbackQueue::Impl::size() const {
  const MutexLock lock(mutex_);
  return queue_.size();
}

CallbackQueue::Stats CallbackQueue::Impl::stats() const {
  const MutexLock lock(mutex_);
  return {.posted = last_ticket_,
          .run = run_,
          .dropped = dropped_,
          .refused = refused_,
          .waiting = queue_.size(),
          .most_waiting = most_waiting_};
}

int CallbackQueue::Impl::wait_fd() {
  const MutexLock lock(mutex_);
  if (const std::error_code error = waker_.open()) {
    throw_os_error(error.value(), "eventfd");
  }
  if (readable_) waker_.signal();
  return waker_.fd();
}

void CallbackQueue::Impl::enqueue(Items& item, OwnerNumber owner) {
  item.front().owner = owner;
  item.front().ticket = ++last_ticket_;
  if (!item.front().is_event) ++posted_;
  const auto place = owners_.find(owner);
  if (place != owners_.end()) {
    item.front().of_owner = &place->second.queued;
    ++place->second.queued;
  }
  queue_.splice(queue_.end(), item);
  most_waiting_ = std::max(most_waiting_, queue_.size());
  show_whether_readable();
}

// Takes an item out of the queue to run it.
CallbackQueue::Impl::Items::iterator CallbackQueue::Impl::start(
    Items::iterator queued) {
  Items taken;
  ++run_;
  unlink(queued, taken, taken.end());
  changed();
  return mark_running(taken, queued);
}

CallbackQueue::Impl::Items::iterator CallbackQueue::Impl::mark_running(
    Items& items, Items::iterator item) {
  item->thread = this_thread_number();
  running_.splice(running_.end(), items, item);
  return item;
}

// Takes the owner's items out of the queue. `queued` says how many there are,
// so that an object which is closed does not search a long queue in vain; and
// from the back, since what such an object has queued last is its last event.
void CallbackQueue::Impl::take_all_of(OwnerNumber owner, std::size_t queued,
                                      Items& to) {
  Items taken;
  auto item = queue_.end();
  for (std::size_t left = queued; left > 0;) {
    --item;
    if (item->owner != owner) continue;
    --left;
    const auto found = item++;
    unlink(found, taken, taken.begin());
  }
  to.splice(to.end(), taken);
}

void CallbackQueue::Impl::unlink(Items::iterator queued, Items& to,
                                 Items::iterator place) {
  if (!queued->is_event) --posted_;
  if (queued->of_owner != nullptr) --*queued->of_owner;
  to.splice(place, queue_, queued);
}

void CallbackQueue::Impl::changed() {
  show_whether_readable();
  changed_.notify_all();
}

void CallbackQueue::Impl::show_whether_readable() {
  if (readable_ == queue_.empty()) {
    readable_ = !readable_;
    if (readable_) {
      waker_.signal();
    } else {
      waker_.clear();
    }
  }
}

void CallbackQueue::Impl::cancel_waiters(OwnerNumber owner) {
  for (Waiter* const waiter : waiters_) {
    if (waiter->owner == owner) waiter->cancelled = true;
  }
  changed_.notify_all();
}

bool CallbackQueue::Impl::may_post(OwnerNumber owner) const {
  if (closed_) return false;
  if (owner == kNobody) return true;
  const auto place = owners_.find(owner);
  return place != owners_.end() && place->second.may_post;
}

CallbackQueue::CallbackQueue(std::size_t max_size)
    : impl_(max_size > 0 ? std::make_shared<Impl>(max_size)
                         : throw std::invalid_argument(
                               "CallbackQueue: max_size must not be 0")) {}

CallbackQueue::~CallbackQueue() {
  if (!impl_->process.is_here()) {
    internal::keep_for_ever(impl_);
    return;
  }
  impl_->close();
  impl_->drop_all();
}

bool CallbackQueue::post(Callback callback) {
  impl_->process.check("post");
  return impl_->post(std::move(callback), Impl::kNobody);
}

void CallbackQueue::post_wait(Callback callback, const Wait& wait) {
  impl_->process.check("post_wait");
  impl_->post_wait(std::move(callback), Impl::kNobody, wait);
}

// The members that run or destroy callbacks hold a reference to the Impl: a
// callback may destroy the CallbackQueue.

std::size_t CallbackQueue::run_pending() {
  const std::shared_ptr<Impl> impl = impl_;
  impl->process.check("run_pending");
  return impl->run_pending();
}

bool CallbackQueue::run_one(const Wait& wait) {
  const std::shared_ptr<Impl> impl = impl_;
  impl->process.check("run_one");
  return impl->run_one(wait);
}

std::size_t CallbackQueue::run_until(const Wait& wait) {
  const std::shared_ptr<Impl> impl = impl_;
  impl->process.check("run_until");
  return impl->run_until(wait);
}

void CallbackQueue::run(std::stop_token stop) {
  const std::shared_ptr<Impl> impl = impl_;
  impl->process.check("run");
  impl->run(stop);
}

std::size_t CallbackQueue::size() const {
  impl_->process.check("size");
  return impl_->size();
}

CallbackQueue::Stats CallbackQueue::stats() const {
  impl_->process.check("stats");
  return impl_->stats();
}

std::string to_string(const CallbackQueueStats& stats) {
  return fmt::format(
      "{} posted, {} run, {} dropped, {} refused, {} waiting, {} at most",
      stats.posted, stats.run, stats.dropped, stats.refused, stats.waiting,
      stats.most_waiting);
}

int CallbackQueue::wait_fd() {
  impl_->process.check("wait_fd");
  return impl_->wait_fd();
}

CallbackQueue::Owner::Owner(CallbackQueue& queue)
    : impl_((queue.impl_->process.check("Owner"), queue.impl_)),
      number_(impl_->add_owner()) {}

CallbackQueue::Owner::~Owner() {
  if (impl_->process.is_here()) {
    impl_->cancel(number_);
  } else {
    internal::keep_for_ever(impl_);
  }
}

bool CallbackQueue::Owner::post(Callback callback) {
  impl_->process.check("post");
  return impl_->post(std::move(callback), number_);
}

void CallbackQueue::Owner::post_wait(Callback callback, const Wait& wait) {
  // Another thread's ~Owner() may end as soon as it has cancelled this call.
  const std::shared_ptr<Impl> impl = impl_;
  impl->process.check("post_wait");
  impl->post_wait(std::move(callback), number_, wait);
}

void CallbackQueue::Owner::cancel() {
  // A callback that is destroyed here may hold this Owner.
  const std::shared_ptr<Impl> impl = impl_;
  impl->process.check("cancel");
  impl->cancel(number_);
}

namespace internal {

void check_callback(const CallbackQueue::Callback& callback,
                    const char* operation) {
  if (callback) return;
  throw std::invalid_argument(
      fmt::format("{}: the callback is empty", operation));
}
namespace {

void log_failure(const Log& log, std::string_view cause) noexcept {
  log_line(log, LogLevel::kError,
           [&] { return fmt::format("callback failed: {}", cause); });
}

}  // namespace

struct PreparedEvent::Data {
  CallbackQueue::Impl::Items items;
};

PreparedEvent::PreparedEvent() noexcept = default;
PreparedEvent::PreparedEvent(CallbackQueue::Callback callback)
    : data_(std::make_unique<Data>(
          Data{CallbackQueue::Impl::make_item(std::move(callback))})) {}
PreparedEvent::PreparedEvent(PreparedEvent&&) noexcept = default;
PreparedEvent& PreparedEvent::operator=(PreparedEvent&&) noexcept = default;
PreparedEvent::~PreparedEvent() = default;

bool EventOwner::post_event(PreparedEvent& event) noexcept {
  return impl_->post_event(event.data_->items, number_);
}

void EventOwner::wake() noexcept { impl_->wake(); }

void EventOwner::refuse_posts() noexcept { impl_->refuse_posts(number_); }

void EventOwner::retire() {
  // A callback may destroy this object and the queue.
  const std::shared_ptr<CallbackQueue::Impl> impl = impl_;
  impl->retire(number_);
}

void EventOwner::drop() {
  const std::shared_ptr<CallbackQueue::Impl> impl = impl_;
  impl->drop(number_);
}

void QueueThread::close(CallbackQueue& queue) noexcept { queue.impl_->close(); }

void QueueThread::drop_all(CallbackQueue& queue) {
  const std::shared_ptr<CallbackQueue::Impl> impl = queue.impl_;
  impl->drop_all();
}

void QueueThread::drain(CallbackQueue& queue, const Log& log) noexcept {
  const std::shared_ptr<CallbackQueue::Impl> impl = queue.impl_;
  for (;;) {
    try {
      impl->run({});
      return;  // closed and empty
    } catch (const std::exception& e) {
      log_failure(log, internal::what_of(e));
    } catch (...) {
      log_failure(log, "unknown exception");
    }
  }
}

}  // namespace internal
}  // namespace tcpip
