// Lets a program set up the threads that the library starts.
//
// Threads: the hook is called in the new thread, before anything else runs
// there, with all signals blocked and the thread's name already set.
#ifndef TCPIP_THREAD_HOOK_H_
#define TCPIP_THREAD_HOOK_H_

#include <functional>
#include <string_view>

namespace tcpip {

enum class ThreadRole {
  kAccept,    // a server's accept loop; also notices that its client has gone
  kReader,    // a read-loop server's client reader: runs the read handler
  kMonitor,   // a client's: notices that the server has gone
  kDispatch,  // runs callbacks, where the program gave no queue
  kResolve    // looks up one host name; never passed to a hook
};

std::string_view to_string(ThreadRole role) noexcept;

// To set priority, affinity or another name (pthread_self() is the thread). An
// exception from it is logged and the thread runs on without.
using ThreadStartHook = std::function<void(ThreadRole role)>;

}  // namespace tcpip

#endif  // TCPIP_THREAD_HOOK_H_
