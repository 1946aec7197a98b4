// A thread that runs callbacks, for programs that have no loop of their own:
//
//   tcpip::CallbackThread thread;
//   ... options.callbacks = &thread.queue() ...
//
// Threads: every member may be called from any thread at any time, also from
// inside a callback. In a child that fork() has made, close() and
// the destructor do nothing.
#ifndef TCPIP_CALLBACK_THREAD_H_
#define TCPIP_CALLBACK_THREAD_H_

#include "tcpip/version.h"

#include <cstddef>
#include <memory>
#include <string>

#include "tcpip/callback_queue.h"
#include "tcpip/constants.h"
#include "tcpip/log.h"
#include "tcpip/thread_hook.h"

namespace tcpip {

// A queue with a thread that drains it. What a callback throws is logged.
class TCPIP_EXPORT CallbackThread {
 public:
  struct Options {
    std::string name = "tcpip-callback";
    std::size_t max_size = kDefaultQueueSize;
    Log log = {};
    ThreadStartHook thread_start_hook = {};
  };

  CallbackThread() : CallbackThread(Options{}) {}
  // Starts the thread. Throws Error if there can be none,
  // std::invalid_argument if max_size is 0.
  explicit CallbackThread(Options options);
  ~CallbackThread();  // close(); safe inside a callback of this thread
  CallbackThread(const CallbackThread&) = delete;
  CallbackThread& operator=(const CallbackThread&) = delete;

  // What the thread drains: for the option `callbacks`, and to post to.
  CallbackQueue& queue() noexcept;

  // Refuses further posts, runs what is queued, then ends and joins the thread.
  // Returns when the thread has ended. Idempotent, from any thread. Close the
  // servers and clients that were given the queue first: the queue drops their
  // events from now on.
  //
  // Called inside one of the thread's own callbacks, or in its start hook, it
  // drops what is queued and returns at once, and that callback is the last.
  // The same if such a callback waits for the calling thread, as when two
  // CallbackThreads close each other.
  void close();
  // True in the thread that drains the queue.
  bool is_current_thread() const noexcept;

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace tcpip

#endif  // TCPIP_CALLBACK_THREAD_H_
