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

namespace tcpip {

enum class ThreadRole {
  kAccept,    // accept thread of a server: accepts, and watches the client
  kReader,    // client reader of a read-loop server: runs the read handler
  kMonitor,   // monitor thread of a client: watches the server
  kDispatch,  // dispatcher: runs callbacks if the program gave no queue; also
              // the thread of a CallbackThread
  kSend,      // writer thread of a SendQueue
  kPeriodic,  // thread of a PeriodicSender: calls its function
  kResolve    // looks up one host name; never passed to a hook
};

std::string_view to_string(ThreadRole role) noexcept;

// For setting priority, affinity or another name (pthread_self() is the new
// thread). An exception from the hook is logged, and the thread goes on.
using ThreadStartHook = std::function<void(ThreadRole role)>;

}  // namespace tcpip

#endif  // TCPIP_THREAD_HOOK_H_
