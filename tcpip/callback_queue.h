// Hands callbacks to the thread in which the program wants them to run: a FIFO
// under a mutex. Any thread posts; the program decides which thread drains it.
//
//   tcpip::CallbackQueue queue;
//   ... options.callbacks = &queue ...
//   while (running) {
//     queue.run_pending();   // callbacks run here, in the control loop
//     ...
//   }
//
// An Owner posts callbacks that must not run after the Owner is destroyed.
//
// Threads: every member may be called from any thread at any time, also from
// inside a callback. If one thread drains the queue, callbacks run one after
// the other in the order in which they were posted. A callback is destroyed
// right after it ran, in the same thread; until then it counts as running. No
// lock is held while a callback runs or is destroyed. In a child that fork()
// has made, every member but the destructors throws std::logic_error.
#ifndef TCPIP_CALLBACK_QUEUE_H_
#define TCPIP_CALLBACK_QUEUE_H_

#include "tcpip/version.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/wait.h"

namespace tcpip {

namespace internal {
class EventOwner;
class PreparedEvent;
class QueueThread;
}  // namespace internal

// Counted since the queue was made, connection events included. Once no
// callback is being run: posted == run + dropped + waiting.
struct TCPIP_EXPORT CallbackQueueStats {
  // Callbacks that were taken.
  std::uint64_t posted = 0;
  std::uint64_t run = 0;      // also those that have thrown
  std::uint64_t dropped = 0;  // of an owner that was cancelled, for example
  // Posts that were not taken: the queue was full, or closed.
  std::uint64_t refused = 0;
  // How many are queued; and the most that were queued at once.
  std::size_t waiting = 0;
  std::size_t most_waiting = 0;
};

// One line: "12 posted, 11 run, 0 dropped, 0 refused, 1 waiting, 3 at most".
TCPIP_EXPORT std::string to_string(const CallbackQueueStats& stats);

class TCPIP_EXPORT CallbackQueue {
 public:
  // What is queued and run.
  using Callback = std::function<void()>;
  using Stats = CallbackQueueStats;
  class Owner;

  // Holds at most `max_size` posted callbacks. Connection events of servers and
  // clients do not count and are never refused for lack of room.
  // Throws std::invalid_argument if max_size is 0.
  explicit CallbackQueue(std::size_t max_size = kDefaultQueueSize);
  // Drops what is queued. Every server or client that was given this queue must
  // be closed before, and no other thread may be inside a member. A callback
  // of this queue may destroy the queue; that callback is then the last.
  ~CallbackQueue();
  CallbackQueue(const CallbackQueue&) = delete;
  CallbackQueue& operator=(const CallbackQueue&) = delete;

  // Queues a callback without an owner; never blocks. False, and the callback
  // is dropped, if the queue is full or its CallbackThread is closed. Throws
  // std::invalid_argument if `callback` is empty.
  bool post(Callback callback);
  // The same, but waits for room. Throws TimeoutError; CancelledError at the
  // stop, and as soon as the queue's CallbackThread is closed. In the thread
  // that drains the queue, call it with a deadline or stop only: otherwise it
  // may wait forever.
  void post_wait(Callback callback, const Wait& wait = {});

  // The four run members have in common: what a callback throws reaches the
  // caller, and the callbacks behind it stay queued. (A connect_callback does
  // not throw here: its exceptions are logged.) The three that wait also return
  // when the queue's CallbackThread is closed and the queue is empty.

  // Runs the callbacks that are queued at the time of the call, not those that
  // they post; never blocks. Returns how many ran.
  std::size_t run_pending();
  // Waits for a callback and runs it. False if none has run: at the deadline,
  // for example. Throws CancelledError at the stop.
  bool run_one(const Wait& wait = {});
  // Runs callbacks as they come until the deadline or the stop, for a loop that
  // gives the queue the rest of its period. Returns how many ran. Callbacks
  // that were queued at the time of the call run even after the deadline, so
  // that a late loop still makes progress; later ones do not. At the stop it
  // returns at once and leaves what is queued.
  std::size_t run_until(const Wait& wait);
  // Runs callbacks until `stop` is requested; then returns at once and leaves
  // what is queued.
  void run(std::stop_token stop);

  // How many callbacks are queued, connection events included.
  std::size_t size() const;
  bool empty() const { return size() == 0; }
  // What there was so far.
  Stats stats() const;

  // A descriptor that is readable while the queue is not empty, for a program
  // with a poll loop of its own. Owned by the queue: do not read, write or
  // close it. The first call makes it, and throws Error if that fails.
  int wait_fd();

 private:
  friend class internal::EventOwner;
  friend class internal::PreparedEvent;
  friend class internal::QueueThread;
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

// Posts callbacks, and cancels them when it is destroyed: they never run after
// that. A class whose callbacks use the object itself has an Owner as its last
// member:
//
//   class Dome {
//     explicit Dome(CallbackQueue& queue) : owner_(queue) {}
//     void note() { owner_.post([this] { ... }); }
//     CallbackQueue::Owner owner_;  // last: destroyed first
//   };
//
// An Owner may outlive the queue; it is then as a cancelled one.
class CallbackQueue::Owner {
 public:
  // Posts to that queue.
  explicit Owner(CallbackQueue& queue);
  ~Owner();  // cancel()
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  // As CallbackQueue's members of these names. As soon as the owner is
  // cancelled, post() returns false and post_wait() throws CancelledError, also
  // one that is waiting.
  bool post(Callback callback);
  void post_wait(Callback callback, const Wait& wait = {});

  // Drops what the owner has queued, refuses what it posts from now on, and
  // waits for those of its callbacks that are running. Does not wait for a
  // callback that the calling thread is inside of; nor for one whose thread
  // waits for the calling thread (in a cancel(), or in a close() or destructor
  // of a server, client or CallbackThread), since the two would wait for each
  // other forever. Idempotent, from any thread.
  void cancel();

 private:
  friend class internal::EventOwner;
  const std::shared_ptr<Impl> impl_;
  const std::uint64_t number_;  // never used again
};

namespace internal {

// Throws std::invalid_argument, naming the operation, if it is empty.
void check_callback(const CallbackQueue::Callback& callback,
                    const char* operation);

// The callback of a connection event, with all the memory that queueing it
// takes. Threads: one at a time.
class PreparedEvent {
 public:
  PreparedEvent() noexcept;  // none
  explicit PreparedEvent(CallbackQueue::Callback callback);
  PreparedEvent(PreparedEvent&& other) noexcept;
  PreparedEvent& operator=(PreparedEvent&& other) noexcept;
  ~PreparedEvent();

 private:
  friend class EventOwner;
  struct Data;
  std::unique_ptr<Data> data_;
};

// The Owner of a server or client, which also posts connection events. Threads:
// every member may be called from any thread.
class EventOwner : public CallbackQueue::Owner {
 public:
  using CallbackQueue::Owner::Owner;

  // Queues a connection event: not counted, never refused for lack of room, and
  // taken even after refuse_posts(). Needs no memory, so that an event cannot
  // be lost for lack of it. False, and `event` is as before, if the owner is
  // cancelled or the queue's CallbackThread closed.
  // It wakes no thread that waits for a callback: call wake() after it, without
  // a lock that the callback needs. Otherwise that thread would wake and wait
  // again.
  bool post_event(PreparedEvent& event) noexcept;
  void wake() noexcept;
  // From now on post() returns false and post_wait() throws CancelledError,
  // also one that is waiting.
  void refuse_posts() noexcept;
  // cancel(). But first, if the calling thread was the last to drain the queue
  // and is not inside one of this owner's callbacks, runs the callbacks that
  // the owner has queued at the time of the call. All of them run, even if one
  // throws; the first exception then reaches the caller.
  void retire();
  // cancel(), but does not wait for callbacks that run in other threads.
  void drop();
};

// What a dispatcher or a CallbackThread does with its queue. Threads: every
// member may be called from any thread.
class QueueThread {
 public:
  // Runs callbacks until the queue is closed and empty, or until one of them
  // destroys the queue. What a callback throws is logged.
  static void drain(CallbackQueue& queue, const Log& log) noexcept;
  // From now on nothing can be posted, and drain() returns when the queue is
  // empty.
  static void close(CallbackQueue& queue) noexcept;
  // Drops everything that is queued.
  static void drop_all(CallbackQueue& queue);
};

}  // namespace internal
}  // namespace tcpip

#endif  // TCPIP_CALLBACK_QUEUE_H_
