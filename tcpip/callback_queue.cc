#include "tcpip/callback_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <iterator>
#include <list>
#include <set>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/base/mutex.h"
#include "tcpip/base/named_thread.h"
#include "tcpip/base/poller.h"
#include "tcpip/error.h"

namespace tcpip {

using internal::CondVar;
using internal::Mutex;
using internal::MutexLock;
using internal::WaitResult;

namespace {

using ThreadNumber = std::uint64_t;

// The calling thread's number. Unlike a std::thread::id it is never used again,
// so that it may be compared with that of a thread which has long ended.
ThreadNumber this_thread() noexcept {
  static std::atomic<ThreadNumber> last{0};
  thread_local const ThreadNumber number = ++last;
  return number;
}

}  // namespace

// Outlives the queue while one of the queue's members is inside a callback that
// destroys it.
class CallbackQueue::Impl {
 public:
  explicit Impl(std::size_t max_size) : max_size_(max_size) {}

  bool post(Callback callback, const void* owner) TCPIP_EXCLUDES(mutex_);
  void post_wait(Callback callback, const void* owner, const Wait& wait)
      TCPIP_EXCLUDES(mutex_);
  void post_event(Callback callback, const void* owner) TCPIP_EXCLUDES(mutex_);

  std::size_t run_pending() TCPIP_EXCLUDES(mutex_);
  bool run_one(const Wait& wait) TCPIP_EXCLUDES(mutex_);
  void run(const std::stop_token& stop) TCPIP_EXCLUDES(mutex_);

  void cancel(const void* owner) TCPIP_EXCLUDES(mutex_);
  void refuse_posts(const void* owner) TCPIP_EXCLUDES(mutex_);
  void retire(const void* owner) TCPIP_EXCLUDES(mutex_);
  // From now on nothing can be posted, and what drains the queue returns when
  // it is empty.
  void close() TCPIP_EXCLUDES(mutex_);
  void drop_all() TCPIP_EXCLUDES(mutex_);

  std::size_t size() const TCPIP_EXCLUDES(mutex_);
  int wait_fd() TCPIP_EXCLUDES(mutex_);

 private:
  struct Item {
    Callback callback;  // what it is and holds is touched by one thread only
    const void* owner;
    bool is_event;
    std::uint64_t ticket = 0;  // ascending in queue_
    ThreadNumber thread = 0;   // in running_: which thread has it
  };
  // A list, since its nodes are made before the lock is taken and destroyed
  // after it is released, and since moving one from list to list cannot fail.
  using Items = std::list<Item>;

  // A thread inside post_wait().
  struct Waiter {
    const void* owner;
    bool cancelled;
  };

  enum class Next { kRan, kNothing, kStopped };

  static Items make_item(Callback callback, const void* owner, bool is_event);

  // What runs user code runs it without the lock.
  Next run_next(const Wait& wait) TCPIP_EXCLUDES(mutex_);
  void run_item(Items::iterator item) TCPIP_EXCLUDES(mutex_);
  void drop(const void* owner) TCPIP_EXCLUDES(mutex_);  // also its waiters
  void finish(Items::iterator item) noexcept TCPIP_EXCLUDES(mutex_);

  void enqueue(Items& item) TCPIP_REQUIRES(mutex_);
  Items::iterator start(Items::iterator queued) TCPIP_REQUIRES(mutex_);
  Items::iterator mark_running(Items& items, Items::iterator item)
      TCPIP_REQUIRES(mutex_);
  void unlink(Items& to, Items::iterator queued) TCPIP_REQUIRES(mutex_);
  void changed() TCPIP_REQUIRES(mutex_);
  void cancel_waiters(const void* owner) TCPIP_REQUIRES(mutex_);
  bool is_refused(const void* owner) const TCPIP_REQUIRES(mutex_);

  const std::size_t max_size_;

  mutable Mutex mutex_;
  CondVar changed_;  // notified of every change of what mutex_ guards
  Items queue_ TCPIP_GUARDED_BY(mutex_);
  std::size_t posted_ TCPIP_GUARDED_BY(mutex_) = 0;  // in queue_, but no events
  std::uint64_t last_ticket_ TCPIP_GUARDED_BY(mutex_) = 0;
  // Callbacks that some thread is inside of, to run or to destroy them; one
  // entry for each nesting.
  Items running_ TCPIP_GUARDED_BY(mutex_);
  ThreadNumber drainer_ TCPIP_GUARDED_BY(mutex_) = 0;  // the last that drained
  std::vector<Waiter*> waiters_ TCPIP_GUARDED_BY(mutex_);
  std::set<const void*> refused_ TCPIP_GUARDED_BY(mutex_);
  bool closed_ TCPIP_GUARDED_BY(mutex_) = false;
  // wait_fd(): signalled if and only if readable_, that is !queue_.empty().
  internal::Waker waker_ TCPIP_GUARDED_BY(mutex_);
  bool readable_ TCPIP_GUARDED_BY(mutex_) = false;
};

CallbackQueue::Impl::Items CallbackQueue::Impl::make_item(Callback callback,
                                                          const void* owner,
                                                          bool is_event) {
  if (!callback) throw std::invalid_argument("post: the callback is empty");
  Items items;
  items.push_back({std::move(callback), owner, is_event});
  return items;
}

// In the three posts the item is declared before the lock: one that is refused
// is destroyed after the lock is released.

bool CallbackQueue::Impl::post(Callback callback, const void* owner) {
  Items item = make_item(std::move(callback), owner, /*is_event=*/false);
  const MutexLock lock(mutex_);
  if (is_refused(owner) || posted_ >= max_size_) return false;
  enqueue(item);
  return true;
}

void CallbackQueue::Impl::post_wait(Callback callback, const void* owner,
                                    const Wait& wait) {
  Items item = make_item(std::move(callback), owner, /*is_event=*/false);
  WaitResult result = WaitResult::kReady;
  {
    const MutexLock lock(mutex_);
    // A flag of its own, since a refusal may have come and gone (retire) by the
    // time that this thread wakes.
    Waiter waiter{owner, is_refused(owner)};
    waiters_.push_back(&waiter);
    result = changed_.wait(mutex_, wait, [&]() TCPIP_REQUIRES(mutex_) {
      return waiter.cancelled || posted_ < max_size_;
    });
    std::erase(waiters_, &waiter);
    if (result == WaitResult::kReady && !waiter.cancelled) {
      enqueue(item);
      return;
    }
  }
  if (result == WaitResult::kTimeout) throw TimeoutError("post_wait");
  throw CancelledError("post_wait");
}

void CallbackQueue::Impl::post_event(Callback callback, const void* owner) {
  Items item = make_item(std::move(callback), owner, /*is_event=*/true);
  const MutexLock lock(mutex_);
  if (!closed_) enqueue(item);
}

std::size_t CallbackQueue::Impl::run_pending() {
  std::uint64_t last = 0;
  {
    const MutexLock lock(mutex_);
    drainer_ = this_thread();
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

void CallbackQueue::Impl::run(const std::stop_token& stop) {
  while (run_next(stop) == Next::kRan) {
  }
}

// kNothing: at the deadline, or closed and empty.
CallbackQueue::Impl::Next CallbackQueue::Impl::run_next(const Wait& wait) {
  Items::iterator item;
  {
    const MutexLock lock(mutex_);
    drainer_ = this_thread();
    const WaitResult result = changed_.wait(
        mutex_, wait,
        [this]() TCPIP_REQUIRES(mutex_) { return !queue_.empty() || closed_; });
    if (result == WaitResult::kStopped) return Next::kStopped;
    if (queue_.empty()) return Next::kNothing;
    drainer_ = this_thread();  // another may have drained meanwhile
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
  // What the callback holds is the owner's too: it goes before cancel() may
  // think that nothing of the owner is left.
  item->callback = nullptr;
  const MutexLock lock(mutex_);
  running_.erase(item);
  changed();
}

void CallbackQueue::Impl::cancel(const void* owner) {
  drop(owner);
  const MutexLock lock(mutex_);
  const ThreadNumber self = this_thread();
  const std::uint64_t last = last_ticket_;
  changed_.wait(mutex_, {}, [&]() TCPIP_REQUIRES(mutex_) {
    return std::none_of(running_.begin(), running_.end(), [&](const Item& i) {
      return i.owner == owner && i.ticket <= last && i.thread != self;
    });
  });
}

// All of the owner's at once, so that no other thread runs one whose
// predecessor was dropped.
void CallbackQueue::Impl::drop(const void* owner) {
  Items dropped;
  Items::iterator first;
  {
    const MutexLock lock(mutex_);
    cancel_waiters(owner);  // before they see the room that this makes
    for (auto item = queue_.begin(); item != queue_.end();) {
      const auto next = std::next(item);
      if (item->owner == owner) unlink(dropped, item);
      item = next;
    }
    if (dropped.empty()) return;
    // The first stands for all: another thread's cancel() must wait until they
    // are destroyed.
    first = mark_running(dropped, dropped.begin());
    changed();
  }
  first->callback = nullptr;
  dropped.clear();
  finish(first);
}

void CallbackQueue::Impl::refuse_posts(const void* owner) {
  const MutexLock lock(mutex_);
  refused_.insert(owner);
  cancel_waiters(owner);
}

void CallbackQueue::Impl::retire(const void* owner) {
  bool may_run = false;
  std::uint64_t last = 0;
  {
    const MutexLock lock(mutex_);
    cancel_waiters(owner);
    const ThreadNumber self = this_thread();
    may_run =
        drainer_ == self &&
        std::none_of(running_.begin(), running_.end(), [&](const Item& i) {
          return i.owner == owner && i.thread == self;
        });
    last = last_ticket_;
  }
  std::exception_ptr failure;
  while (may_run) {
    Items::iterator item;
    {
      const MutexLock lock(mutex_);
      item = std::find_if(queue_.begin(), queue_.end(),
                          [&](const Item& i) { return i.owner == owner; });
      if (item == queue_.end() || item->ticket > last) break;
      item = start(item);
    }
    try {
      run_item(item);
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  }
  cancel(owner);
  {
    const MutexLock lock(mutex_);
    refused_.erase(owner);
  }
  if (failure) std::rethrow_exception(failure);
}

void CallbackQueue::Impl::close() {
  const MutexLock lock(mutex_);
  closed_ = true;
  for (Waiter* const waiter : waiters_) waiter->cancelled = true;
  changed();
}

void CallbackQueue::Impl::drop_all() {
  for (;;) {
    const void* owner = nullptr;
    {
      const MutexLock lock(mutex_);
      if (queue_.empty()) return;
      owner = queue_.front().owner;
    }
    drop(owner);
  }
}

std::size_t CallbackQueue::Impl::size() const {
  const MutexLock lock(mutex_);
  return queue_.size();
}

int CallbackQueue::Impl::wait_fd() {
  const MutexLock lock(mutex_);
  if (const std::error_code error = waker_.open()) {
    throw_os_error(error.value(), "eventfd");
  }
  if (readable_) waker_.signal();
  return waker_.fd();
}

void CallbackQueue::Impl::enqueue(Items& item) {
  item.front().ticket = ++last_ticket_;
  if (!item.front().is_event) ++posted_;
  queue_.splice(queue_.end(), item);
  changed();
}

// Takes an item out of the queue to run it.
CallbackQueue::Impl::Items::iterator CallbackQueue::Impl::start(
    Items::iterator queued) {
  Items taken;
  unlink(taken, queued);
  changed();
  return mark_running(taken, queued);
}

CallbackQueue::Impl::Items::iterator CallbackQueue::Impl::mark_running(
    Items& items, Items::iterator item) {
  item->thread = this_thread();
  running_.splice(running_.end(), items, item);
  return item;
}

void CallbackQueue::Impl::unlink(Items& to, Items::iterator queued) {
  if (!queued->is_event) --posted_;
  to.splice(to.end(), queue_, queued);
}

void CallbackQueue::Impl::changed() {
  if (readable_ == queue_.empty()) {
    readable_ = !readable_;
    if (readable_) {
      waker_.signal();
    } else {
      waker_.clear();
    }
  }
  changed_.notify_all();
}

void CallbackQueue::Impl::cancel_waiters(const void* owner) {
  for (Waiter* const waiter : waiters_) {
    if (waiter->owner == owner) waiter->cancelled = true;
  }
  changed_.notify_all();
}

bool CallbackQueue::Impl::is_refused(const void* owner) const {
  return closed_ || refused_.contains(owner);
}

CallbackQueue::CallbackQueue(std::size_t max_size)
    : impl_(max_size > 0 ? std::make_shared<Impl>(max_size)
                         : throw std::invalid_argument(
                               "CallbackQueue: max_size must not be 0")) {}

CallbackQueue::~CallbackQueue() {
  impl_->close();
  impl_->drop_all();
}

bool CallbackQueue::post(Callback callback, const void* owner) {
  return impl_->post(std::move(callback), owner);
}

void CallbackQueue::post_wait(Callback callback, const void* owner,
                              const Wait& wait) {
  impl_->post_wait(std::move(callback), owner, wait);
}

// The members that run or destroy callbacks keep a reference of their own.

std::size_t CallbackQueue::run_pending() {
  const std::shared_ptr<Impl> impl = impl_;
  return impl->run_pending();
}

bool CallbackQueue::run_one(const Wait& wait) {
  const std::shared_ptr<Impl> impl = impl_;
  return impl->run_one(wait);
}

void CallbackQueue::run(std::stop_token stop) {
  const std::shared_ptr<Impl> impl = impl_;
  impl->run(stop);
}

void CallbackQueue::cancel(const void* owner) {
  if (owner == nullptr) throw std::invalid_argument("cancel: no owner");
  const std::shared_ptr<Impl> impl = impl_;
  impl->cancel(owner);
}

std::size_t CallbackQueue::size() const { return impl_->size(); }

int CallbackQueue::wait_fd() { return impl_->wait_fd(); }

// The thread holds a reference, and so outlives a CallbackThread that is
// destroyed inside a callback.
class CallbackThread::Impl {
 public:
  Impl(std::size_t max_size, Log log) : queue(max_size), log_(std::move(log)) {}

  void start(std::shared_ptr<Impl> self, const internal::ThreadOptions& options)
      TCPIP_EXCLUDES(mutex_);
  void close() TCPIP_EXCLUDES(mutex_);
  // Closes and lets go of the thread; for the destructor.
  void abandon() noexcept TCPIP_EXCLUDES(mutex_);
  bool is_current_thread() const noexcept { return number_ == this_thread(); }

  CallbackQueue queue;

 private:
  void run() noexcept;
  void log_failure(std::string_view cause) noexcept;

  const Log log_;
  std::atomic<ThreadNumber> number_{0};  // the thread's, set by itself
  Mutex mutex_;
  CondVar changed_;
  std::jthread thread_ TCPIP_GUARDED_BY(mutex_);  // empty once someone joins it
  bool ended_ TCPIP_GUARDED_BY(mutex_) = false;   // joined
};

void CallbackThread::Impl::start(std::shared_ptr<Impl> self,
                                 const internal::ThreadOptions& options) {
  std::jthread thread = internal::start_thread(
      options,
      [self = std::move(self)](const std::stop_token&) { self->run(); });
  const MutexLock lock(mutex_);
  thread_ = std::move(thread);
}

void CallbackThread::Impl::run() noexcept {
  number_ = this_thread();
  for (;;) {
    try {
      queue.run({});
      return;  // closed, and nothing left
    } catch (const std::exception& e) {
      log_failure(e.what());
    } catch (...) {
      log_failure("unknown exception");
    }
  }
}

void CallbackThread::Impl::log_failure(std::string_view cause) noexcept {
  if (!log_.is_enabled(LogLevel::kError)) return;
  try {
    log_.error(fmt::format("callback failed: {}", cause));
  } catch (const std::exception&) {
    log_.error("callback failed");  // no memory for more
  }
}

void CallbackThread::Impl::close() {
  queue.impl_->close();
  if (is_current_thread()) {
    queue.impl_->drop_all();
    return;
  }
  // Whoever finds the thread joins it, without the lock; the others wait.
  std::jthread thread;
  {
    const MutexLock lock(mutex_);
    thread = std::move(thread_);
  }
  if (thread.joinable()) {
    thread.join();
    const MutexLock lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  } else {
    const MutexLock lock(mutex_);
    changed_.wait(mutex_, {},
                  [this]() TCPIP_REQUIRES(mutex_) { return ended_; });
  }
}

void CallbackThread::Impl::abandon() noexcept {
  close();
  std::jthread thread;
  {
    const MutexLock lock(mutex_);
    thread = std::move(thread_);
  }
  internal::join_or_detach(thread);
}

CallbackThread::CallbackThread(Options options)
    : impl_(std::make_shared<Impl>(options.max_size, options.log)) {
  impl_->start(impl_, {.role = ThreadRole::kDispatch,
                       .name = std::move(options.name),
                       .hook = std::move(options.thread_start_hook),
                       .log = std::move(options.log)});
}

CallbackThread::~CallbackThread() { impl_->abandon(); }

CallbackQueue& CallbackThread::queue() noexcept { return impl_->queue; }

void CallbackThread::close() {
  // A callback may destroy this object meanwhile.
  const std::shared_ptr<Impl> impl = impl_;
  impl->close();
}

bool CallbackThread::is_current_thread() const noexcept {
  return impl_->is_current_thread();
}

namespace internal {

void CallbackOwner::post_event(CallbackQueue::Callback callback) {
  queue_.impl_->post_event(std::move(callback), owner_);
}

void CallbackOwner::refuse_posts() { queue_.impl_->refuse_posts(owner_); }

void CallbackOwner::retire() {
  // A callback may destroy this object and the queue.
  const std::shared_ptr<CallbackQueue::Impl> impl = queue_.impl_;
  impl->retire(owner_);
}

}  // namespace internal
}  // namespace tcpip
