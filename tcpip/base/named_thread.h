// How this library starts a thread: all signals blocked from its first
// instruction on, a name, then the program's hook, then the work.
//
// Threads: NamedThread has one owner. The owner joins it, or, where it finds
// itself running in that very thread, lets it go (see join_or_detach).
#ifndef TCPIP_BASE_NAMED_THREAD_H_
#define TCPIP_BASE_NAMED_THREAD_H_

#include <functional>
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

// Starts a thread that runs `work`. Throws Error if there can be none; then
// nothing of `work` has run. What `work` throws is logged.
std::jthread start_thread(const ThreadOptions& options,
                          std::function<void(std::stop_token)> work);

// Joins the thread, unless it is the calling one: that one cannot be joined, so
// it is let go to finish by itself. Only for a destructor that runs in a thread
// which the object owns; such a thread must own all that it still uses.
void join_or_detach(std::jthread& thread) noexcept;

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_NAMED_THREAD_H_
