// Callbacks, handed from the threads that have news to the thread that wants
// them: a FIFO under a mutex, drained where the program says.
//
//   tcpip::CallbackQueue queue;
//   ... options.callbacks = &queue ...
//   while (running) {
//     queue.run_pending();   // callbacks run here, in the control loop
//     ...
//   }
//
// An Owner posts callbacks that must not run after it is gone.
//
// Threads: every member may be called from any thread at any time, also from
// inside a callback. Callbacks run one after the other in the order in which
// they were posted if one thread drains the queue. No lock is held while a
// callback runs or is destroyed; what it holds is destroyed right after it ran,
// in the same thread, and until then it counts as running.
#ifndef TCPIP_CALLBACK_QUEUE_H_
#define TCPIP_CALLBACK_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>

#include "tcpip/constants.h"
#include "tcpip/log.h"
#include "tcpip/wait.h"

namespace tcpip {

namespace internal {
class EventOwner;
class QueueThread;
}  // namespace internal

class CallbackQueue {
 public:
  using Callback = std::function<void()>;
  class Owner;

  // Holds `max_size` posted callbacks at the most; connection events of servers
  // and clients come on top and are never refused for want of room.
  // Throws std::invalid_argument if max_size is 0.
  explicit CallbackQueue(std::size_t max_size = kDefaultQueueSize);
  // Drops what is queued. Every server or client that was given this queue must
  // be closed, and no thread may be inside a member; but the one that destroys
  // it may be inside a callback that this queue runs, which is then the last.
  ~CallbackQueue();
  CallbackQueue(const CallbackQueue&) = delete;
  CallbackQueue& operator=(const CallbackQueue&) = delete;

  // Queues a callback that nobody owns; never blocks. False, and the callback
  // dropped, if the queue is full or its CallbackThread is closed. Throws
  // std::invalid_argument if `callback` is empty.
  bool post(Callback callback);
  // The same, but waits for room. Throws TimeoutError; CancelledError at the
  // stop and if the queue's CallbackThread is closed, at once. Do not call it
  // without a deadline or stop from the thread that drains the queue.
  void post_wait(Callback callback, const Wait& wait = {});

  // Runs the callbacks that are queued at the time of the call, not those that
  // they post; never blocks. Returns how many ran. If one throws, the exception
  // reaches the caller and the callbacks behind it stay queued. (Connection
  // callbacks do not throw: their exceptions are logged.)
  std::size_t run_pending();
  // Waits for a callback and runs it. False at the deadline, or if the queue's
  // CallbackThread is closed and nothing is left; CancelledError at the stop.
  // What the callback throws reaches the caller.
  bool run_one(const Wait& wait = {});
  // Runs callbacks as they come until the deadline or the stop, for a loop that
  // gives the queue the rest of its period. Returns how many ran. At the
  // deadline those that were queued at the time of the call still run, so that
  // a loop that is late starves nobody; none that came after it begins. At the
  // stop it returns at once and leaves what is queued. It also returns if the
  // queue's CallbackThread is closed and nothing is left. What a callback
  // throws reaches the caller.
  std::size_t run_until(const Wait& wait);
  // Runs callbacks until `stop` is requested; then returns at once, leaving
  // what is queued. What a callback throws reaches the caller.
  void run(std::stop_token stop);

  // What is queued, connection events included.
  std::size_t size() const;
  bool empty() const { return size() == 0; }

  // A descriptor that is readable while the queue is not empty, for a program
  // with a poll loop of its own; the queue's, do not read, write or close it.
  // Made by the first call, which throws Error if there can be none.
  int wait_fd();

 private:
  friend class internal::EventOwner;
  friend class internal::QueueThread;
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

// Whose callbacks they are: when the owner is cancelled or destroyed, none of
// its callbacks runs any more. A class that posts callbacks which use it has
// one as its last member:
//
//   class Dome {
//     explicit Dome(CallbackQueue& queue) : owner_(queue) {}
//     void note() { owner_.post([this] { ... }); }
//     CallbackQueue::Owner owner_;  // last: destroyed first
//   };
//
// It may outlive the queue; then it is as if it were cancelled.
class CallbackQueue::Owner {
 public:
  explicit Owner(CallbackQueue& queue);
  ~Owner();  // cancel()
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  // As CallbackQueue's. Once the owner is cancelled, post() returns false, and
  // post_wait() throws CancelledError, at once even if it waits.
  bool post(Callback callback);
  void post_wait(Callback callback, const Wait& wait = {});

  // For good: drops what the owner has queued, refuses what it posts from now
  // on, and waits until none of its callbacks runs, except those that the
  // calling thread is inside of, and those in a thread that waits for the
  // calling one: in a cancel(), or in a close() or destructor of a server,
  // client or CallbackThread. (That thread goes on when this one returns to it;
  // to wait for it here would be for ever.) Idempotent, from any thread.
  void cancel();

 private:
  friend class internal::EventOwner;
  const std::shared_ptr<Impl> impl_;
  const std::uint64_t number_;  // never used again
};

namespace internal {

// What a server or client needs of a queue beyond posting. Programs cannot
// reach it, so nobody drops their events. Threads: any.
class EventOwner : public CallbackQueue::Owner {
 public:
  using CallbackQueue::Owner::Owner;

  // Queues a connection event: never refused for want of room, not counted, and
  // taken also after refuse_posts(). Dropped after cancel().
  void post_event(CallbackQueue::Callback callback);
  // From now on post() returns false and post_wait() throws CancelledError, at
  // once even if it waits.
  void refuse_posts() noexcept;
  // cancel(); but first, if the calling thread is the one that drains the queue
  // (the last that did) and is not inside one of this owner's callbacks, runs
  // what the owner has queued at the time of the call. What a callback throws
  // does not stop it: the first such exception reaches the caller at the end.
  void retire();
};

// For whoever drains a queue in a thread of its own. Threads: any.
class QueueThread {
 public:
  // Runs callbacks until the queue is closed and empty, or destroyed by one of
  // them. What a callback throws is logged.
  static void drain(CallbackQueue& queue, const Log& log) noexcept;
  // From now on nothing can be posted, and what drains the queue returns when
  // it is empty.
  static void close(CallbackQueue& queue) noexcept;
  static void drop_all(CallbackQueue& queue);
};

}  // namespace internal
}  // namespace tcpip

#endif  // TCPIP_CALLBACK_QUEUE_H_
