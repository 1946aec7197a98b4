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
// Threads: every member may be called from any thread at any time, also from
// inside a callback. Callbacks run one after the other in the order in which
// they were posted if one thread drains the queue. No lock is held while a
// callback runs or is destroyed; what it holds is destroyed right after it ran,
// in the same thread, and until then it counts as running.
#ifndef TCPIP_CALLBACK_QUEUE_H_
#define TCPIP_CALLBACK_QUEUE_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "tcpip/constants.h"
#include "tcpip/log.h"
#include "tcpip/thread_hook.h"
#include "tcpip/wait.h"

namespace tcpip {

class CallbackThread;

namespace internal {
class CallbackOwner;
}

class CallbackQueue {
 public:
  using Callback = std::function<void()>;

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

  // Queues a callback; never blocks. False, and the callback dropped, if the
  // queue is full, or `owner` or the queue's CallbackThread is closed. `owner`
  // is whatever cancel() will be called with; a server's read handler passes
  // the server's address, so that nothing of it runs after server.close().
  // Throws std::invalid_argument if `callback` is empty.
  bool post(Callback callback, const void* owner = nullptr);
  // The same, but waits for room. Throws TimeoutError; CancelledError, also
  // when `owner` is cancelled meanwhile, or it or the queue's CallbackThread is
  // closed. Do not call it without a deadline or stop from the thread that
  // drains the queue.
  void post_wait(Callback callback, const void* owner, const Wait& wait = {});

  // Runs the callbacks that are queued at the time of the call, not those that
  // they post; never blocks. Returns how many ran. If one throws, the exception
  // reaches the caller and the callbacks behind it stay queued. (Connection
  // callbacks do not throw: their exceptions are logged.)
  std::size_t run_pending();
  // Waits for a callback and runs it. False at the deadline, or if the queue's
  // CallbackThread is closed and nothing is left; CancelledError at the stop.
  // What the callback throws reaches the caller.
  bool run_one(const Wait& wait = {});
  // Runs callbacks until `stop` is requested; then returns at once, leaving
  // what is queued. What a callback throws reaches the caller.
  void run(std::stop_token stop);

  // Drops what `owner` has queued and waits until none of its callbacks runs,
  // except those that the calling thread itself is inside of. After it returns
  // nothing of that owner runs unless it posts again. Two threads that cancel,
  // each from inside a callback, what the other is inside of wait for each
  // other forever; with one draining thread that cannot happen. Throws
  // std::invalid_argument if `owner` is null: callbacks without an owner belong
  // to nobody who could cancel them.
  void cancel(const void* owner);

  // What is queued, connection events included.
  std::size_t size() const;
  bool empty() const { return size() == 0; }

  // A descriptor that is readable while the queue is not empty, for a program
  // with a poll loop of its own; the queue's, do not read, write or close it.
  // Made by the first call, which throws Error if there can be none.
  int wait_fd();

 private:
  friend class internal::CallbackOwner;
  friend class CallbackThread;
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

// A queue with a thread that drains it, for programs that have no loop. What a
// callback throws is logged.
class CallbackThread {
 public:
  struct Options {
    std::string name = "tcpip-callback";
    std::size_t max_size = kDefaultQueueSize;
    Log log = {};
    ThreadStartHook thread_start_hook = {};
  };

  CallbackThread() : CallbackThread(Options{}) {}
  // Starts the thread; throws Error if there can be none.
  explicit CallbackThread(Options options);
  ~CallbackThread();  // close(); safe inside a callback of this thread
  CallbackThread(const CallbackThread&) = delete;
  CallbackThread& operator=(const CallbackThread&) = delete;

  CallbackQueue& queue() noexcept;

  // Refuses further posts, runs what is queued, then ends and joins the thread.
  // Idempotent, from any thread; returns when the thread has ended. Called from
  // inside one of the thread's own callbacks, it drops what is queued, returns
  // at once, and that callback is the last. Servers and clients that were given
  // the queue are to be closed before: their events are dropped from now on.
  void close();
  // True in the thread that drains the queue.
  bool is_current_thread() const noexcept;

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

namespace internal {

// What a server or client needs of a queue beyond posting. `owner` is not null.
// All members may be called from any thread.
class CallbackOwner {
 public:
  CallbackOwner(CallbackQueue& queue, const void* owner) noexcept
      : queue_(queue), owner_(owner) {}

  bool post(CallbackQueue::Callback callback) {
    return queue_.post(std::move(callback), owner_);
  }
  void post_wait(CallbackQueue::Callback callback, const Wait& wait) {
    queue_.post_wait(std::move(callback), owner_, wait);
  }
  // Queues a connection event: never refused, not counted.
  void post_event(CallbackQueue::Callback callback);
  // From now on post() returns false and post_wait() throws CancelledError, at
  // once even if it waits. post_event() still works.
  void refuse_posts();
  // The end of it: if the calling thread is the one that drains the queue (the
  // last that did) and is not inside one of this owner's callbacks, runs what
  // the owner has queued at the time of the call; drops the rest. Then waits as
  // cancel() does, and lets a later owner with the same address post again.
  // What a callback throws does not stop it: the first such exception reaches
  // the caller at the end.
  void retire();

 private:
  CallbackQueue& queue_;
  const void* const owner_;
};

}  // namespace internal
}  // namespace tcpip

#endif  // TCPIP_CALLBACK_QUEUE_H_
