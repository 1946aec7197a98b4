#include "tcpip/net/lookup.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <type_traits>
#include <utility>

#include "tcpip/base/mutex.h"
#include "tcpip/base/process.h"
#include "tcpip/base/workers.h"
#include "tcpip/error.h"
#include "tcpip/thread_hook.h"

namespace tcpip::internal {
namespace {

struct Lookup;

// A caller who waits until fewer look-ups run, on its own stack.
struct Waiting {
  CondVar changed;
  Waiting* next = nullptr;
};

// The look-ups of the process.
struct Lookups {
  Mutex mutex;
  // Each is owned by its thread, which takes it out when it is done.
  std::array<Lookup*, kMaxLookups> running TCPIP_GUARDED_BY(mutex) = {};
  Waiting* first_waiting TCPIP_GUARDED_BY(mutex) = nullptr;
};

// Never destroyed: a thread that was left behind may end while the program
// exits.
constinit Lookups lookups;
static_assert(std::is_trivially_destructible_v<Lookups>);

// One look-up, shared by its thread and the callers who wait for it.
struct Lookup : std::enable_shared_from_this<Lookup> {
  explicit Lookup(LookupRequest r) : request(std::move(r)) {}

  const LookupRequest request;
  CondVar changed;
  bool begun TCPIP_GUARDED_BY(lookups.mutex) = false;
  bool done TCPIP_GUARDED_BY(lookups.mutex) = false;
  LookupAnswer answer TCPIP_GUARDED_BY(lookups.mutex);
};

std::shared_ptr<Lookup> find(const LookupRequest& request)
    TCPIP_REQUIRES(lookups.mutex) {
  for (Lookup* lookup : lookups.running) {
    if (lookup != nullptr && lookup->request == request) {
      return lookup->shared_from_this();
    }
  }
  return nullptr;
}

Lookup** find_place() TCPIP_REQUIRES(lookups.mutex) {
  const auto place =
      std::find(lookups.running.begin(), lookups.running.end(), nullptr);
  return place == lookups.running.end() ? nullptr : &*place;
}

// The work of the thread.
void run(Lookup& lookup) {
  {
    // start_thread() has pinned the module by now: the caller may go.
    const MutexLock lock(lookups.mutex);
    lookup.begun = true;
    lookup.changed.notify_all();
  }
  LookupAnswer answer;
  try {
    answer = ask(lookup.request);
  } catch (...) {
    answer.status = EAI_MEMORY;  // wakes the callers in any case
  }
  const MutexLock lock(lookups.mutex);
  lookup.answer = std::move(answer);
  lookup.done = true;
  lookup.changed.notify_all();
  std::replace(lookups.running.begin(), lookups.running.end(), &lookup,
               static_cast<Lookup*>(nullptr));
  for (Waiting* i = lookups.first_waiting; i != nullptr; i = i->next) {
    i->changed.notify_all();
  }
}

void check(WaitResult result, std::string_view peer, std::string_view detail) {
  switch (result) {
    case WaitResult::kStopped:
      throw CancelledError("resolve", peer);
    case WaitResult::kTimeout:
      throw TimeoutError("resolve", peer, /*queued=*/false, detail);
    case WaitResult::kReady:
      break;
  }
}

// Waits until the request can be joined or started.
void wait_for_place(const LookupRequest& request, const Wait& wait,
                    std::string_view peer) TCPIP_REQUIRES(lookups.mutex) {
  Waiting waiting;
  waiting.next = std::exchange(lookups.first_waiting, &waiting);
  const WaitResult result = waiting.changed.wait(
      lookups.mutex, wait, [&]() TCPIP_REQUIRES(lookups.mutex) {
        return find_place() != nullptr || find(request) != nullptr;
      });
  Waiting** link = &lookups.first_waiting;
  while (*link != &waiting) link = &(*link)->next;
  *link = waiting.next;
  check(result, peer,
        fmt::format("{} look-ups of other names still wait for a name server",
                    kMaxLookups));
}

// The look-up for the request: one that runs, or a new one.
std::shared_ptr<Lookup> join_or_start(const LookupRequest& request,
                                      const Wait& wait, std::string_view peer)
    TCPIP_REQUIRES(lookups.mutex) {
  if (auto running = find(request)) return running;
  if (find_place() == nullptr) {
    wait_for_place(request, wait, peer);
    if (auto running = find(request)) return running;
  }
  auto lookup = std::make_shared<Lookup>(request);
  start_thread({.role = ThreadRole::kResolve, .name = "tcpip-resolve"},
               [lookup] { run(*lookup); })
      .detach();
  *find_place() = lookup.get();
  return lookup;
}

}  // namespace

LookupAnswer ask(const LookupRequest& request) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_family = request.family;
  hints.ai_flags = request.flags;
  // Without a host getaddrinfo() wants a port.
  const bool here = request.host.empty();
  if (here) hints.ai_flags |= AI_NUMERICSERV;
  addrinfo* list = nullptr;
  LookupAnswer answer;
  answer.status = ::getaddrinfo(here ? nullptr : request.host.c_str(),
                                here ? "0" : nullptr, &hints, &list);
  answer.error_number = errno;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(
      list, &::freeaddrinfo);
  if (answer.status != 0) return answer;
  for (const addrinfo* i = list; i != nullptr; i = i->ai_next) {
    const Address address(i->ai_addr, i->ai_addrlen);
    const auto& known = answer.addresses;
    if (std::find(known.begin(), known.end(), address) == known.end()) {
      answer.addresses.push_back(address);
    }
  }
  if (answer.addresses.empty()) answer.status = EAI_NONAME;
  return answer;
}

LookupAnswer look_up(const LookupRequest& request, const Wait& wait,
                     std::string_view peer) {
  if (wait.stop.stop_requested()) throw CancelledError("resolve", peer);
  renew_in_children<lookups>();
  std::shared_ptr<Lookup> lookup;  // outlives the lock
  const MutexLock lock(lookups.mutex);
  lookup = join_or_start(request, wait, peer);
  const WaitResult result = lookup->changed.wait(
      lookups.mutex, wait,
      [&]() TCPIP_REQUIRES(lookups.mutex) { return lookup->done; });
  // A thread that has not begun does not keep this code loaded yet. It begins
  // as soon as the kernel lets it.
  lookup->changed.wait(lookups.mutex, {}, [&]() TCPIP_REQUIRES(lookups.mutex) {
    return lookup->begun;
  });
  check(result, peer, {});
  return lookup->answer;
}

}  // namespace tcpip::internal
