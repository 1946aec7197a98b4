// Catches the calls that tests/support/faults.cc does not, because no test lets
// them fail, and counts them in the thread's Tally:
//
//   "lock"    pthread_mutex_lock() and its like, whether it waits or not
//   "malloc"  malloc() and its like; so operator new too
//   "clock"   clock_gettime(): no system call where the kernel has a vDSO
//   "futex", "syscall"  what goes through syscall(), as std::atomic::wait()
//   does
//
// The names are those of the C library, so the calls of libstdc++.so count too.
// Only for the programs of this folder: a sanitizer needs these names itself.
#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <cstdarg>
#include <cstddef>

#include "tests/support/tally.h"

namespace {

using tcpip_tests::Tally;

// A function of the C library.
template <class Function>
class Original {
 public:
  explicit constexpr Original(const char* name) noexcept : name_(name) {}
  // Not in the constructor: functions are called before globals are made.
  template <class... Arguments>
  auto operator()(Arguments... arguments) noexcept {
    Function* function = function_.load(std::memory_order_relaxed);
    if (function == nullptr) {
      function = reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name_));
      function_.store(function, std::memory_order_relaxed);
    }
    return function(arguments...);
  }

 private:
  const char* const name_;
  std::atomic<Function*> function_{nullptr};
};

using MutexCall = int(pthread_mutex_t*);
using RwlockCall = int(pthread_rwlock_t*);
constinit Original<MutexCall> mutex_lock{"pthread_mutex_lock"};
constinit Original<MutexCall> mutex_trylock{"pthread_mutex_trylock"};
constinit Original<RwlockCall> rwlock_rdlock{"pthread_rwlock_rdlock"};
constinit Original<RwlockCall> rwlock_wrlock{"pthread_rwlock_wrlock"};
constinit Original<int(clockid_t, timespec*)> read_clock{"clock_gettime"};
constinit Original<long(long, long, long, long, long, long, long)> call_kernel{
    "syscall"};

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" {

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  Tally::note("lock");
  return mutex_lock(mutex);
}
int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  Tally::note("lock");
  return mutex_trylock(mutex);
}
int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  Tally::note("lock");
  return rwlock_rdlock(lock);
}
int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  Tally::note("lock");
  return rwlock_wrlock(lock);
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  Tally::note("clock");
  return read_clock(clock, time);
}

long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  // Registers that the caller has not set are ignored by the kernel.
  long a[6];
  for (long& argument : a) argument = va_arg(list, long);
  va_end(list);
  Tally::note(number == SYS_futex ? "futex" : "syscall");
  return call_kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// glibc's own, under the names that it has for this purpose: dlsym() itself
// allocates.
void* __libc_malloc(std::size_t size) noexcept;
void* __libc_calloc(std::size_t count, std::size_t size) noexcept;
void* __libc_realloc(void* memory, std::size_t size) noexcept;
void* __libc_memalign(std::size_t alignment, std::size_t size) noexcept;

void* malloc(std::size_t size) noexcept {
  Tally::note("malloc");
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) noexcept {
  Tally::note("malloc");
  return __libc_calloc(count, size);
}
void* realloc(void* memory, std::size_t size) noexcept {
  Tally::note("malloc");
  return __libc_realloc(memory, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  Tally::note("malloc");
  return __libc_memalign(alignment, size);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)
