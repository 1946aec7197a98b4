// Lets a program set up the threads that the library starts.
//
// Threads: the hook is called in the new thread, before the thread's work, with
// the thread's name set and its signals blocked, but for those that a thread
// causes itself (SIGSEGV and its kin, SIGABRT). It may call any member of its
// client or server, close() too, but must not destroy that: start() is at work.
#ifndef TCPIP_THREAD_HOOK_H_
#define TCPIP_THREAD_HOOK_H_

#include <functional>
#include <string_view>

#include "tcpip/error.h"

namespace tcpip {

enum class ThreadRole {
  kAccept,    // accept thread of a server: accepts, and watches the client
  kReader,    // client reader of a read-loop server: runs the read handler
  kMonitor,   // monitor thread of a client: watches the server
  kDispatch,  // dispatcher: runs callbacks if the program gave no queue; also
              // the thread of a CallbackThread
  kResolve    // looks up one host name; never passed to a hook
};

std::string_view to_string(ThreadRole role) noexcept;

// For setting priority, affinity (realtime.h does that) or another name
// (pthread_self() is the new thread).
//
// start(), or the constructor of a CallbackThread, returns when the hook has
// returned in each thread. So the hook must not wait for the thread that calls
// start().
//
// A ThreadStartError from the hook makes start() fail. Any other exception is
// logged, and the thread goes on.
using ThreadStartHook = std::function<void(ThreadRole role)>;

// Thrown by a hook: the thread must not do its work. start() throws it, with
// everything closed and no thread left, as after any error of start(). If the
// hook waits for the thread that called start() (by a close(), say), it is
// logged instead.
class ThreadStartError final : public Error {
 public:
  using Error::Error;
};

}  // namespace tcpip

#endif  // TCPIP_THREAD_HOOK_H_
