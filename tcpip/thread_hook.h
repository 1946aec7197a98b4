// Lets a program set up the threads that the library starts.
//
// Threads: the hook is called in the new thread, before the thread's work, with
// the thread's name set and its signals blocked, but for those that a thread
// causes itself (SIGSEGV and its kin, SIGABRT). It may call any member of its
// client or server, close() too, but must not destroy that: start() is at work.
#ifndef TCPIP_THREAD_HOOK_H_
#define TCPIP_THREAD_HOOK_H_

#include "tcpip/version.h"

#include <functional>
#include <string_view>

#include "tcpip/error.h"

namespace tcpip {

// What a thread of the library does.
enum class ThreadRole {
  kAccept,    // accept thread of a server: accepts, and watches the client
  kReader,    // client reader of a read-loop server: runs the read handler
  kMonitor,   // monitor thread of a client: watches the server
  kDispatch,  // dispatcher: runs callbacks if the program gave no queue; also
              // the thread of a CallbackThread
  kSend,      // writer thread of a SendQueue
  kPeriodic,  // thread of a PeriodicSender: calls its function
  kTap,       // thread of a Tap: calls its sink
  kResolve    // looks up one host name; never passed to a hook
};

// "accept", "reader" and the like.
TCPIP_EXPORT std::string_view to_string(ThreadRole role) noexcept;

// For setting priority, affinity (realtime.h does that) or another name
// (pthread_self() is the new thread). An exception from the hook is logged, and
// the thread goes on; unless the hook is a required() one.
using ThreadStartHook = std::function<void(ThreadRole role)>;

// Thrown by a required() hook: the thread must not do its work.
class TCPIP_EXPORT ThreadStartError final : public Error {
 public:
  using Error::Error;
};

// The same hook, but start(), or the constructor of a CallbackThread, waits
// until it has returned in each thread, and throws its ThreadStartError, with
// everything closed and no thread left, as after any error of start(). So the
// hook must not wait for the thread that calls start(). (A close() in it is
// fine: of two objects that wait for each other one does not wait. If that is
// start(), a ThreadStartError is logged as any other exception.)
//
// Throws std::invalid_argument for an empty hook.
[[nodiscard]] TCPIP_EXPORT ThreadStartHook required(ThreadStartHook hook);

}  // namespace tcpip

#endif  // TCPIP_THREAD_HOOK_H_
