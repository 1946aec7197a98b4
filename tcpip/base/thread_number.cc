#include "tcpip/base/thread_number.h"

#include <atomic>
#include <type_traits>

#include "tcpip/base/mutex.h"
#include "tcpip/base/process.h"

namespace tcpip::internal {
namespace {

thread_local ThreadNumber own_number = 0;

// The waits of all threads, as a linked list of objects on the threads' stacks:
// entering a wait allocates nothing and cannot fail.
struct Waits {
  Mutex mutex;
  ThreadWait* first TCPIP_GUARDED_BY(mutex) = nullptr;
};

// Never destroyed: threads may wait for each other while the program exits.
constinit Waits waits;
static_assert(std::is_trivially_destructible_v<Waits>);

}  // namespace

ThreadNumber next_thread_number() noexcept {
  static std::atomic<ThreadNumber> last{0};
  return ++last;
}

void adopt_thread_number(ThreadNumber number) noexcept { own_number = number; }

ThreadNumber this_thread_number() noexcept {
  if (own_number == 0) own_number = next_thread_number();
  return own_number;
}

ThreadWait::ThreadWait(ThreadNumber other, const void* what) noexcept
    : waiter_(this_thread_number()), other_(other), what_(what) {
  renew_in_children<waits>();
  const MutexLock lock(waits.mutex);
  // Each thread waits for at most one other, so there is one chain to follow.
  // The chain ends: a wait that would make it a circle is never entered.
  for (ThreadNumber at = other; at != 0;) {
    if (at == waiter_) return;
    ThreadNumber next = 0;
    for (const ThreadWait* wait = waits.first; wait != nullptr;
         wait = wait->next_) {
      if (wait->waiter_ == at) next = wait->other_;
    }
    at = next;
  }
  allowed_ = true;
  next_ = waits.first;
  waits.first = this;
}

ThreadWait::~ThreadWait() {
  if (!allowed_) return;
  const MutexLock lock(waits.mutex);
  ThreadWait** link = &waits.first;
  while (*link != this) link = &(*link)->next_;
  *link = next_;
}

void ThreadWait::end(const void* what) noexcept {
  const MutexLock lock(waits.mutex);
  for (ThreadWait* wait = waits.first; wait != nullptr; wait = wait->next_) {
    if (wait->what_ == what) wait->other_ = 0;
  }
}

}  // namespace tcpip::internal
