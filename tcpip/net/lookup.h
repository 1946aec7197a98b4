// Looks up host names in threads that a deadline or a stop leaves behind.
//
// getaddrinfo() cannot be woken, and waits some ten seconds for a name server
// that is silent. So each runs in a thread of its own, which nobody joins. What
// bounds these threads: callers who ask the same share one thread, and there
// are at most kMaxLookups in the process. They need no descriptor of ours. A
// thread holds nothing of the callers', and keeps the shared object that this
// code lies in loaded.
//
// Threads: the functions may be called from any thread.
#ifndef TCPIP_NET_LOOKUP_H_
#define TCPIP_NET_LOOKUP_H_

#include <string>
#include <string_view>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

inline constexpr int kMaxLookups = 16;

// What getaddrinfo() is asked.
struct LookupRequest {
  std::string host;  // empty: this machine, or all its interfaces
  int family = 0;
  int flags = 0;
  bool operator==(const LookupRequest&) const = default;
};

// What it answers.
struct LookupAnswer {
  int status = 0;                       // of getaddrinfo()
  int error_number = 0;                 // the errno, if status is EAI_SYSTEM
  std::vector<Address> addresses = {};  // at least one if status is 0; port 0
};

// Asks in the calling thread. Blocks, unless the flags have AI_NUMERICHOST.
LookupAnswer ask(const LookupRequest& request);

// Asks in another thread, or waits for one that has asked the same already. If
// kMaxLookups run, waits for the end of one first. Throws TimeoutError;
// CancelledError; Error if there can be no thread. `peer` is for messages.
LookupAnswer look_up(const LookupRequest& request, const Wait& wait,
                     std::string_view peer);

}  // namespace tcpip::internal

#endif  // TCPIP_NET_LOOKUP_H_
