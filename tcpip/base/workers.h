// How this library starts threads, and who joins them.
//
// Every thread has all signals blocked from its first instruction on and a
// name, runs the program's hook, then its work. Workers owns the threads of one
// object: it tells them to stop, and joins them. The object calls join() when
// it is closed, from whatever thread that is; it returns when the threads have
// ended, but never waits for the calling thread itself, nor for one that waits
// for the calling thread (see thread_number.h).
//
// Threads: all members of Workers may be called from any thread at any time,
// also from the hook and the work of one of its threads. No lock is held while
// anything of the program's (hook, work, log sink, stop callbacks, and their
// copies and destructors) runs.
#ifndef TCPIP_BASE_WORKERS_H_
#define TCPIP_BASE_WORKERS_H_

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "tcpip/log.h"
#include "tcpip/thread_hook.h"

namespace tcpip::internal {

struct ThreadOptions {
  ThreadRole role = ThreadRole::kAccept;
  std::string name;  // the kernel keeps the first 15 bytes
  ThreadStartHook hook = {};
  Log log = {};
};

// What a thread does. It gets the token by which it is told to stop.
using ThreadWork = std::function<void(std::stop_token)>;

// Starts a thread that runs `work` and destroys it. Throws Error if there can
// be none; then nothing of `work` has run. What `work` throws is logged.
std::jthread start_thread(const ThreadOptions& options, ThreadWork work);

class Workers {
 public:
  // `on_end` is called in each thread after its work has returned or thrown and
  // no longer counts in all_ended(). What the work holds lives until after it.
  explicit Workers(std::function<void()> on_end = {});
  // request_stop(), join(). A thread that cannot be joined then (the calling
  // one, or one that waits for it) is let go: it must own all that it uses.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Starts a thread. False, and nothing has run, after request_stop(). Throws
  // Error if there can be no thread; then nothing of `work` has run either.
  bool start(const ThreadOptions& options, ThreadWork work);
  // Requests the stop of all threads; none can be started from now on.
  void request_stop() noexcept;
  // Waits until the threads have ended: all but the calling one and those that
  // wait for it. Returns all_ended(). If several threads call it at once, one
  // of them joins a thread and the others wait until it has ended.
  bool join() noexcept;

  // True in one of the threads, from its hook to the end of its work; with
  // `role`, in one that was started with it.
  bool is_current_thread() const;
  bool is_current_thread(ThreadRole role) const;
  // True if the work of every thread has returned.
  bool all_ended() const;

 private:
  class State;
  // The threads share it, since they may outlive this object.
  const std::shared_ptr<State> state_;
};

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_WORKERS_H_
