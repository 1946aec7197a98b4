// How this library starts threads, and who joins them.
//
// Every thread has a name, and from its first instruction on all signals
// blocked but those that it causes itself; it keeps the shared object that this
// code lies in loaded while it lives; it runs the program's hook, then its
// work. Workers owns the threads of one object: it tells them to stop and joins
// them. The object calls join() when it is closed, from any thread. join()
// returns when the threads have ended; but it never waits for the calling
// thread itself, nor for a thread that waits for the calling thread (see
// thread_number.h).
//
// Threads: all members of Workers may be called from any thread at any time,
// also from the hook and the work of one of its threads. No lock is held while
// anything of the program's (hook, work, log sink, stop callbacks, and their
// copies and destructors) runs.
#ifndef TCPIP_BASE_WORKERS_H_
#define TCPIP_BASE_WORKERS_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "tcpip/base/process.h"
#include "tcpip/log.h"
#include "tcpip/thread_hook.h"

namespace tcpip::internal {

struct ThreadOptions {
  ThreadRole role = ThreadRole::kAccept;
  std::string name;  // the kernel keeps the first 15 bytes
  ThreadStartHook hook = {};
  Log log = {};
};

// What required() makes.
struct RequiredHook {
  void operator()(ThreadRole role) const { hook(role); }

  ThreadStartHook hook;
};

// What a thread does.
using ThreadWork = std::function<void()>;

// Starts a thread that runs `work` and then destroys it. What the hook and
// `work` throw is logged. Throws Error if there can be no thread; then `work`
// has not run.
std::jthread start_thread(const ThreadOptions& options, ThreadWork work);

class Workers {
 public:
  // `on_end` is called in each thread once its work has returned or thrown,
  // when all_ended() already counts the thread as ended. What the work holds is
  // destroyed after that.
  explicit Workers(std::function<void()> on_end = {});
  // refuse(), join(). Detaches a thread that join() does not wait for;
  // such a thread must own everything that it uses. In a child that fork() has
  // made it does nothing: the threads do not exist there.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Starts a thread. False, and `work` has not run, after refuse().
  // Throws Error if there can be no thread; then `work` has not run either.
  //
  // Waits for a required() hook, and throws its ThreadStartError; then there is
  // no thread, and `work` has not run. If the hook waits for the calling
  // thread, start() does not wait, and what the hook then throws is logged.
  bool start(const ThreadOptions& options, ThreadWork work);
  // From now on no thread can be started. To tell those that run is up to their
  // object.
  void refuse() noexcept;
  // Waits until the threads have ended, except the calling thread and threads
  // that wait for the calling thread. Returns all_ended(). If several threads
  // call it at once, one of them joins a thread, and the others wait until that
  // thread is joined.
  bool join() noexcept;

  // True if the calling thread is one of the threads (one with this role), from
  // the beginning of its hook to the end of its work.
  bool is_current_thread() const;
  bool is_current_thread(ThreadRole role) const;
  // True if the work of every thread has returned or thrown.
  bool all_ended() const;

 private:
  class State;
  // Shared with the threads, since they may outlive this object.
  const std::shared_ptr<State> state_;
  const ProcessMark process_;
};

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_WORKERS_H_
