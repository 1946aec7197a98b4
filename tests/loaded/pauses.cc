// Makes any program that is run with LD_PRELOAD=this pause now and then: around
// the calls in which threads meet, one time in a hundred, for up to a
// millisecond. It changes no result. A test that relies on which of two threads
// comes first fails with it.
//
// TCPIP_PAUSES in the environment is the seed; the process number is added to
// it, so that each test has a sequence of its own.
//
// Threads: called from every thread of the program. Each draws its own numbers.
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>

namespace {

constexpr std::uint64_t kOneIn = 100;
constexpr std::uint64_t kMaxNanoseconds = 1'000'000;

std::uint64_t first_number() {
  static std::atomic<std::uint64_t> threads{0};
  const char* const seed = std::getenv("TCPIP_PAUSES");
  return (seed == nullptr ? 1 : std::strtoull(seed, nullptr, 10)) * 1'000'003 +
         static_cast<std::uint64_t>(::getpid()) * 7919 + ++threads;
}

// splitmix64: any first number will do.
std::uint64_t next_number() {
  static thread_local std::uint64_t state = first_number();
  std::uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

void maybe_pause() {
  if (next_number() % kOneIn != 0) return;
  const int error = errno;
  const timespec time{0, static_cast<long>(next_number() % kMaxNanoseconds)};
  ::nanosleep(&time, nullptr);
  errno = error;
}

// Of the function that this library's one stands before.
template <class Function>
Function* find(const char* name) {
  void* const function = ::dlsym(RTLD_NEXT, name);
  if (function == nullptr) std::abort();
  return reinterpret_cast<Function*>(function);
}

template <class Function, class... Args>
auto call(Function* function, Args... args) {
  maybe_pause();
  const auto result = function(args...);
  maybe_pause();
  return result;
}

}  // namespace

extern "C" {

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  static auto* const real = find<int(pthread_mutex_t*)>("pthread_mutex_lock");
  maybe_pause();
  return real(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  static auto* const real = find<int(pthread_mutex_t*)>("pthread_mutex_unlock");
  const int result = real(mutex);
  maybe_pause();
  return result;
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                   void* (*start)(void*), void* argument) noexcept {
  static auto* const real =
      find<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>(
          "pthread_create");
  return call(real, thread, attributes, start, argument);
}

int poll(pollfd* fds, nfds_t n, int timeout) {
  static auto* const real = find<int(pollfd*, nfds_t, int)>("poll");
  return call(real, fds, n, timeout);
}

int ppoll(pollfd* fds, nfds_t n, const timespec* timeout,
          const sigset_t* signals) {
  static auto* const real =
      find<int(pollfd*, nfds_t, const timespec*, const sigset_t*)>("ppoll");
  return call(real, fds, n, timeout, signals);
}

ssize_t recv(int fd, void* data, size_t n, int flags) {
  static auto* const real = find<ssize_t(int, void*, size_t, int)>("recv");
  return call(real, fd, data, n, flags);
}

ssize_t send(int fd, const void* data, size_t n, int flags) {
  static auto* const real =
      find<ssize_t(int, const void*, size_t, int)>("send");
  return call(real, fd, data, n, flags);
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  static auto* const real = find<ssize_t(int, const msghdr*, int)>("sendmsg");
  return call(real, fd, message, flags);
}

int accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  static auto* const real =
      find<int(int, sockaddr*, socklen_t*, int)>("accept4");
  return call(real, fd, address, size, flags);
}

int shutdown(int fd, int how) noexcept {
  static auto* const real = find<int(int, int)>("shutdown");
  return call(real, fd, how);
}

int close(int fd) {
  static auto* const real = find<int(int)>("close");
  return call(real, fd);
}

}  // extern "C"
