#include "tests/support/faults.h"

#include <fcntl.h>
#include <iconv.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <ctime>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "tests/support/tally.h"

namespace tcpip_tests::faults {

// One rule that holds. Its fields change only while it is not active and no
// call looks at it: a call counts itself in `readers` before it looks at
// `active`, and whoever ends the rule clears `active` before it looks at
// `readers`.
struct Slot {
  bool matches(int fd, int tcp_option) const;
  bool wants(int number) const;

  std::atomic<bool> taken{false};
  std::atomic<bool> active{false};
  std::atomic<int> readers{0};
  std::atomic<int> calls{0};
  std::atomic<int> injected{0};
  int call = 0;
  std::uint64_t order = 0;
  Rule rule;

  // Of Rule, for the functions below.
  static bool is_error(const Rule& r) {
    return r.action_ == Rule::Action::kError;
  }
  static bool is_short(const Rule& r) {
    return r.action_ == Rule::Action::kShort;
  }
  static bool is_ready(const Rule& r) {
    return r.action_ == Rule::Action::kReady;
  }
  static int value(const Rule& r) { return r.value_; }
  static void restrict_to_thread(Rule& r, int thread) { r.thread_ = thread; }
};

namespace {

enum Call {
  kAccept4,
  kBind,
  kChmod,
  kClose,
  kConnect,
  kEventfd,
  kFcntl,
  kGetaddrinfo,
  kGetpeername,
  kGetsockname,
  kGetsockopt,
  kIconvOpen,
  kIoctl,
  kListen,
  kLstat,
  kNew,
  kPoll,
  kPpoll,
  kRead,
  kRecv,
  kSchedGetaffinity,
  kSchedSetaffinity,
  kSchedSetscheduler,
  kSend,
  kSendmsg,
  kSetsockopt,
  kShutdown,
  kSocket,
  kSocketpair,
  kThread,
  kUnlink,
  kWrite,
  kCalls
};

// In the order of Call.
constexpr std::array<std::string_view, kCalls> kNames{"accept4",
                                                      "bind",
                                                      "chmod",
                                                      "close",
                                                      "connect",
                                                      "eventfd",
                                                      "fcntl",
                                                      "getaddrinfo",
                                                      "getpeername",
                                                      "getsockname",
                                                      "getsockopt",
                                                      "iconv_open",
                                                      "ioctl",
                                                      "listen",
                                                      "lstat",
                                                      "new",
                                                      "poll",
                                                      "ppoll",
                                                      "read",
                                                      "recv",
                                                      "sched_getaffinity",
                                                      "sched_setaffinity",
                                                      "sched_setscheduler",
                                                      "send",
                                                      "sendmsg",
                                                      "setsockopt",
                                                      "shutdown",
                                                      "socket",
                                                      "socketpair",
                                                      "thread",
                                                      "unlink",
                                                      "write"};
constexpr std::array<std::string_view, 9> kInterruptible{
    "accept4", "close", "connect", "poll",   "ppoll",
    "read",    "recv",  "send",    "sendmsg"};

// constinit: operator new is called before any constructor of a global runs.
constinit std::array<Slot, 64> slots;
constinit std::array<std::atomic<int>, kCalls> rules_of;  // active ones
constinit std::atomic<std::uint64_t> last_order{0};
constinit thread_local int exempt = 0;

struct Counters {
  std::atomic<int> sends{0};
  std::atomic<int> sends_that_may_signal{0};
  std::atomic<int> made{0};
  std::atomic<int> made_without_cloexec{0};
  std::atomic<int> writes_to_sockets{0};
};
constinit Counters counters;

int thread_id() { return static_cast<int>(::syscall(SYS_gettid)); }

std::uint64_t mix(std::uint64_t value) {  // splitmix64
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

double share(std::uint64_t seed, int number) {  // in [0, 1)
  return static_cast<double>(
             mix(seed ^ mix(static_cast<std::uint64_t>(number))) >> 11) *
         0x1.0p-53;
}

void rest(int microseconds, std::uint64_t random) {
  if (microseconds <= 0 || random % 2 == 0) return;
  if (random % 4 == 1) {
    ::sched_yield();
    return;
  }
  const auto most = static_cast<std::uint64_t>(microseconds) * 1000;
  const std::uint64_t time = (random >> 8) % most;
  timespec left{static_cast<std::time_t>(time / 1'000'000'000),
                static_cast<long>(time % 1'000'000'000)};
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

// What is to happen to a call. Made before it, destroyed after it.
class Verdict {
 public:
  Verdict(Call call, int fd, int tcp_option = -1) noexcept {
    if (exempt == 0) Tally::note(kNames[call]);
    if (rules_of[call].load(std::memory_order_relaxed) == 0 || exempt > 0) {
      return;
    }
    // The call, or what is done in its place, may see the caller's errno.
    const int saved = errno;
    std::uint64_t order_of_error = 0;
    for (Slot& slot : slots) {
      if (!slot.active.load(std::memory_order_relaxed)) continue;
      ++slot.readers;
      if (slot.active && slot.call == call && slot.matches(fd, tcp_option)) {
        const int number = ++slot.calls;
        if (slot.wants(number)) take(slot, number, order_of_error);
      }
      --slot.readers;
    }
    rest(pause, random_);
    errno = saved;
  }
  ~Verdict() {
    if (pause == 0) return;
    const int saved = errno;
    rest(pause, mix(random_));
    errno = saved;
  }
  Verdict(const Verdict&) = delete;
  Verdict& operator=(const Verdict&) = delete;

  // Sets errno, if the call is to fail.
  bool fails() const noexcept {
    if (error != 0) errno = error;
    return error != 0;
  }
  std::size_t shortened(std::size_t size) const noexcept {
    return std::min(size, at_most);
  }

  int error = 0;
  std::size_t at_most = std::numeric_limits<std::size_t>::max();
  bool ready = false;
  int pause = 0;

 private:
  void take(Slot& slot, int number, std::uint64_t& order_of_error) noexcept {
    const Rule& rule = slot.rule;
    const int value = Slot::value(rule);
    if (Slot::is_error(rule)) {
      if (error != 0 && order_of_error < slot.order) return;
      error = value;
      order_of_error = slot.order;
    } else if (Slot::is_short(rule)) {
      at_most = std::min(at_most, static_cast<std::size_t>(value));
    } else if (Slot::is_ready(rule)) {
      ready = true;
    } else {
      pause = std::max(pause, value);
      random_ =
          mix(random_ ^ slot.order ^ mix(static_cast<std::uint64_t>(number)));
    }
    ++slot.injected;
  }

  std::uint64_t random_ = 0;
};

void note_made(bool cloexec) {
  if (exempt > 0) return;
  ++counters.made;
  if (!cloexec) ++counters.made_without_cloexec;
}

void note_send(int flags) {
  if (exempt > 0) return;
  ++counters.sends;
  if ((flags & MSG_NOSIGNAL) == 0) ++counters.sends_that_may_signal;
}

// How many of the descriptors seem ready; their revents say so.
int make_ready(pollfd* fds, nfds_t count) {
  int ready = 0;
  for (nfds_t i = 0; i < count; ++i) {
    fds[i].revents = static_cast<short>(fds[i].events & (POLLIN | POLLOUT));
    if (fds[i].revents != 0) ++ready;
  }
  return ready;
}

}  // namespace

bool Slot::matches(int fd, int tcp_option) const {
  return (rule.fd_ < 0 || rule.fd_ == fd) &&
         (rule.tcp_option_ < 0 || rule.tcp_option_ == tcp_option) &&
         (rule.thread_ == 0 || rule.thread_ == thread_id());
}

bool Slot::wants(int number) const {
  return number >= rule.first_ && number <= rule.last_ &&
         (rule.probability_ > 1 ||
          share(rule.seed_, number) < rule.probability_);
}

Rule Rule::here() const {
  Rule rule = *this;
  Slot::restrict_to_thread(rule, thread_id());
  return rule;
}

Rule from_nth(int n) {
  Rule rule;
  rule.first_ = n;
  return rule;
}

Rule sometimes(double probability, std::uint64_t seed) {
  Rule rule;
  rule.probability_ = probability;
  rule.seed_ = seed;
  return rule;
}

std::span<const std::string_view> names() { return kNames; }
std::span<const std::string_view> interruptible() { return kInterruptible; }

void Plan::add(std::string_view name, const Rule& rule) {
  const auto place = std::find(kNames.begin(), kNames.end(), name);
  if (place == kNames.end()) {
    throw std::invalid_argument("faults: no call " + std::string(name));
  }
  for (std::size_t i = 0; i < slots.size() && count_ < kMaxRules; ++i) {
    Slot& slot = slots[i];
    if (slot.taken.exchange(true)) continue;
    slot.call = static_cast<int>(place - kNames.begin());
    slot.rule = rule;
    slot.order = ++last_order;
    slot.calls = 0;
    slot.injected = 0;
    slots_[count_++] = static_cast<int>(i);
    slot.active = true;
    ++rules_of[static_cast<std::size_t>(slot.call)];
    return;
  }
  throw std::length_error("faults: too many rules");
}

void Plan::lift() {
  if (lifted_) return;
  lifted_ = true;
  for (std::size_t i = 0; i < count_; ++i) {
    Slot& slot = slots[static_cast<std::size_t>(slots_[i])];
    --rules_of[static_cast<std::size_t>(slot.call)];
    slot.active = false;
    while (slot.readers != 0) ::sched_yield();
    calls_ += slot.calls;
    injected_ += slot.injected;
    slot.taken = false;
  }
}

Plan::~Plan() { lift(); }

int Plan::calls() const {
  int sum = calls_;
  for (std::size_t i = 0; !lifted_ && i < count_; ++i) {
    sum += slots[static_cast<std::size_t>(slots_[i])].calls;
  }
  return sum;
}

int Plan::injected() const {
  int sum = injected_;
  for (std::size_t i = 0; !lifted_ && i < count_; ++i) {
    sum += slots[static_cast<std::size_t>(slots_[i])].injected;
  }
  return sum;
}

Exempt::Exempt() noexcept { ++exempt; }
Exempt::~Exempt() { --exempt; }

void reset_audit() {
  counters.sends = 0;
  counters.sends_that_may_signal = 0;
  counters.made = 0;
  counters.made_without_cloexec = 0;
  counters.writes_to_sockets = 0;
}

Audit audit() {
  return {.sends = counters.sends,
          .sends_that_may_signal = counters.sends_that_may_signal,
          .made = counters.made,
          .made_without_cloexec = counters.made_without_cloexec,
          .writes_to_sockets = counters.writes_to_sockets};
}

}  // namespace tcpip_tests::faults

// --- The calls, as BUILD.bazel has them wrapped ---

using namespace tcpip_tests::faults;  // NOLINT(google-build-using-namespace)

// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" {

int __real_accept4(int fd, sockaddr* address, socklen_t* size, int flags);
int __wrap_accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  const Verdict verdict(kAccept4, fd);
  if (verdict.fails()) return -1;
  const int made = __real_accept4(fd, address, size, flags);
  if (made >= 0) note_made((flags & SOCK_CLOEXEC) != 0);
  return made;
}

int __real_bind(int fd, const sockaddr* address, socklen_t size);
int __wrap_bind(int fd, const sockaddr* address, socklen_t size) {
  const Verdict verdict(kBind, fd);
  return verdict.fails() ? -1 : __real_bind(fd, address, size);
}

int __real_chmod(const char* path, mode_t mode);
int __wrap_chmod(const char* path, mode_t mode) {
  const Verdict verdict(kChmod, -1);
  return verdict.fails() ? -1 : __real_chmod(path, mode);
}

int __real_close(int fd);
int __wrap_close(int fd) {
  const Verdict verdict(kClose, fd);
  const int result = __real_close(fd);
  return verdict.fails() ? -1 : result;
}

int __real_connect(int fd, const sockaddr* address, socklen_t size);
int __wrap_connect(int fd, const sockaddr* address, socklen_t size) {
  const Verdict verdict(kConnect, fd);
  return verdict.fails() ? -1 : __real_connect(fd, address, size);
}

int __real_eventfd(unsigned value, int flags);
int __wrap_eventfd(unsigned value, int flags) {
  const Verdict verdict(kEventfd, -1);
  if (verdict.fails()) return -1;
  note_made((flags & EFD_CLOEXEC) != 0);
  return __real_eventfd(value, flags);
}

// Where there is no third argument, some register's value is passed on, which
// the kernel does not look at.
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  const Verdict verdict(kFcntl, fd);
  return verdict.fails() ? -1 : __real_fcntl(fd, command, argument);
}

int __real_getaddrinfo(const char* node, const char* service,
                       const addrinfo* hints, addrinfo** result);
int __wrap_getaddrinfo(const char* node, const char* service,
                       const addrinfo* hints, addrinfo** result) {
  const Verdict verdict(kGetaddrinfo, -1);
  // The EAI_ constants are negative.
  if (verdict.fails()) return verdict.error < 0 ? verdict.error : EAI_SYSTEM;
  return __real_getaddrinfo(node, service, hints, result);
}

int __real_getpeername(int fd, sockaddr* address, socklen_t* size);
int __wrap_getpeername(int fd, sockaddr* address, socklen_t* size) {
  const Verdict verdict(kGetpeername, fd);
  return verdict.fails() ? -1 : __real_getpeername(fd, address, size);
}

int __real_getsockname(int fd, sockaddr* address, socklen_t* size);
int __wrap_getsockname(int fd, sockaddr* address, socklen_t* size) {
  const Verdict verdict(kGetsockname, fd);
  return verdict.fails() ? -1 : __real_getsockname(fd, address, size);
}

int __real_getsockopt(int fd, int level, int name, void* value,
                      socklen_t* size);
int __wrap_getsockopt(int fd, int level, int name, void* value,
                      socklen_t* size) {
  const Verdict verdict(kGetsockopt, fd, level == IPPROTO_TCP ? name : -1);
  return verdict.fails() ? -1 : __real_getsockopt(fd, level, name, value, size);
}

iconv_t __real_iconv_open(const char* to, const char* from);
iconv_t __wrap_iconv_open(const char* to, const char* from) {
  const Verdict verdict(kIconvOpen, -1);
  return verdict.fails() ? reinterpret_cast<iconv_t>(-1)
                         : __real_iconv_open(to, from);
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  const Verdict verdict(kIoctl, fd);
  return verdict.fails() ? -1 : __real_ioctl(fd, request, argument);
}

int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog) {
  const Verdict verdict(kListen, fd);
  return verdict.fails() ? -1 : __real_listen(fd, backlog);
}

int __real_lstat(const char* path, struct stat* status);
int __wrap_lstat(const char* path, struct stat* status) {
  const Verdict verdict(kLstat, -1);
  return verdict.fails() ? -1 : __real_lstat(path, status);
}

int __real_poll(pollfd* fds, nfds_t count, int timeout);
int __wrap_poll(pollfd* fds, nfds_t count, int timeout) {
  const Verdict verdict(kPoll, count == 0 ? -1 : fds->fd);
  if (verdict.fails()) return -1;
  if (verdict.ready) {
    if (const int ready = make_ready(fds, count)) return ready;
  }
  return __real_poll(fds, count, timeout);
}

int __real_ppoll(pollfd* fds, nfds_t count, const timespec* timeout,
                 const sigset_t* mask);
int __wrap_ppoll(pollfd* fds, nfds_t count, const timespec* timeout,
                 const sigset_t* mask) {
  const Verdict verdict(kPpoll, count == 0 ? -1 : fds->fd);
  if (verdict.fails()) return -1;
  if (verdict.ready) {
    if (const int ready = make_ready(fds, count)) return ready;
  }
  return __real_ppoll(fds, count, timeout, mask);
}

ssize_t __real_read(int fd, void* data, size_t size);
ssize_t __wrap_read(int fd, void* data, size_t size) {
  const Verdict verdict(kRead, fd);
  return verdict.fails() ? -1 : __real_read(fd, data, size);
}

ssize_t __real_recv(int fd, void* data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void* data, size_t size, int flags) {
  const Verdict verdict(kRecv, fd);
  if (verdict.fails()) return -1;
  if ((flags & MSG_TRUNC) == 0) size = verdict.shortened(size);
  return __real_recv(fd, data, size, flags);
}

int __real_sched_getaffinity(pid_t thread, std::size_t size, cpu_set_t* cpus);
int __wrap_sched_getaffinity(pid_t thread, std::size_t size, cpu_set_t* cpus) {
  const Verdict verdict(kSchedGetaffinity, -1);
  return verdict.fails() ? -1 : __real_sched_getaffinity(thread, size, cpus);
}

int __real_sched_setaffinity(pid_t thread, std::size_t size,
                             const cpu_set_t* cpus);
int __wrap_sched_setaffinity(pid_t thread, std::size_t size,
                             const cpu_set_t* cpus) {
  const Verdict verdict(kSchedSetaffinity, -1);
  return verdict.fails() ? -1 : __real_sched_setaffinity(thread, size, cpus);
}

int __real_sched_setscheduler(pid_t thread, int policy,
                              const sched_param* parameters);
int __wrap_sched_setscheduler(pid_t thread, int policy,
                              const sched_param* parameters) {
  const Verdict verdict(kSchedSetscheduler, -1);
  return verdict.fails()
             ? -1
             : __real_sched_setscheduler(thread, policy, parameters);
}

ssize_t __real_send(int fd, const void* data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void* data, size_t size, int flags) {
  const Verdict verdict(kSend, fd);
  note_send(flags);
  return verdict.fails()
             ? -1
             : __real_send(fd, data, verdict.shortened(size), flags);
}

ssize_t __real_sendmsg(int fd, const msghdr* message, int flags);
ssize_t __wrap_sendmsg(int fd, const msghdr* message, int flags) {
  const Verdict verdict(kSendmsg, fd);
  note_send(flags);
  if (verdict.fails()) return -1;
  size_t left = verdict.at_most;
  if (left == std::numeric_limits<size_t>::max()) {
    return __real_sendmsg(fd, message, flags);
  }
  // The first pieces, and of the last of them the beginning.
  std::array<iovec, 16> pieces;
  msghdr less = *message;
  less.msg_iov = pieces.data();
  less.msg_iovlen = 0;
  for (size_t i = 0; i < message->msg_iovlen && i < pieces.size() && left > 0;
       ++i) {
    pieces[i] = message->msg_iov[i];
    pieces[i].iov_len = std::min(pieces[i].iov_len, left);
    left -= pieces[i].iov_len;
    ++less.msg_iovlen;
  }
  return __real_sendmsg(fd, &less, flags);
}

int __real_setsockopt(int fd, int level, int name, const void* value,
                      socklen_t size);
int __wrap_setsockopt(int fd, int level, int name, const void* value,
                      socklen_t size) {
  const Verdict verdict(kSetsockopt, fd, level == IPPROTO_TCP ? name : -1);
  return verdict.fails() ? -1 : __real_setsockopt(fd, level, name, value, size);
}

int __real_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how) {
  const Verdict verdict(kShutdown, fd);
  const int result = __real_shutdown(fd, how);
  return verdict.fails() ? -1 : result;
}

int __real_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol) {
  const Verdict verdict(kSocket, -1);
  if (verdict.fails()) return -1;
  note_made((type & SOCK_CLOEXEC) != 0);
  return __real_socket(family, type, protocol);
}

int __real_socketpair(int family, int type, int protocol, int* fds);
int __wrap_socketpair(int family, int type, int protocol, int* fds) {
  const Verdict verdict(kSocketpair, -1);
  if (verdict.fails()) return -1;
  note_made((type & SOCK_CLOEXEC) != 0);
  return __real_socketpair(family, type, protocol, fds);
}

int __real_unlink(const char* path);
int __wrap_unlink(const char* path) {
  const Verdict verdict(kUnlink, -1);
  return verdict.fails() ? -1 : __real_unlink(path);
}

ssize_t __real_write(int fd, const void* data, size_t size);
ssize_t __wrap_write(int fd, const void* data, size_t size) {
  const Verdict verdict(kWrite, fd);
  if (verdict.fails()) return -1;
  struct stat status {};
  if (exempt == 0 && ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode)) {
    ++counters.writes_to_sockets;
  }
  return __real_write(fd, data, size);
}

// std::thread's constructor calls pthread_create from inside libstdc++.so, out
// of the linker's reach. This is what it calls to get there:
// std::thread::_M_start_thread(unique_ptr<_State>, void (*)()).
void real_start_thread(void* self, void* state, void (*depend)()) __asm__(
    "__real__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14"
    "default_deleteIS1_EEPFvvE");
void wrap_start_thread(void* self, void* state, void (*depend)()) __asm__(
    "__wrap__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14"
    "default_deleteIS1_EEPFvvE");
void wrap_start_thread(void* self, void* state, void (*depend)()) {
  const Verdict verdict(kThread, -1);
  if (verdict.error != 0) {
    throw std::system_error(verdict.error, std::generic_category());
  }
  real_start_thread(self, state, depend);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

// operator new and delete are replaced as the standard allows, not wrapped:
// libstdc++.so calls them as well, in std::string for example.
namespace {

void* allocate(std::size_t size, std::size_t alignment) noexcept {
  const Verdict verdict(kNew, -1);
  if (verdict.error != 0) return nullptr;
  if (size == 0) size = 1;
  if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return std::malloc(size);
  // aligned_alloc wants a multiple.
  return std::aligned_alloc(alignment,
                            (size + alignment - 1) / alignment * alignment);
}

void* allocate_or_throw(std::size_t size, std::size_t alignment = 1) {
  void* const memory = allocate(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return allocate_or_throw(size); }
void* operator new[](std::size_t size) { return allocate_or_throw(size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return allocate(size, 1);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return allocate(size, 1);
}
void* operator new(std::size_t size, std::align_val_t alignment,
                   const std::nothrow_t&) noexcept {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment,
                     const std::nothrow_t&) noexcept {
  return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t,
                     const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::align_val_t,
                       const std::nothrow_t&) noexcept {
  std::free(memory);
}
