#include "tests/support/hang_guard.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>

// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" {
// In the runtime of the sanitizers.
__attribute__((weak)) void __sanitizer_print_stack_trace();
// ThreadSanitizer allocates when it prints a stack, and would end the program
// for having done so in a signal handler.
const char* __tsan_default_options() { return "report_signal_unsafe=0"; }
}
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

namespace tcpip_tests {
namespace {

// Not SIGSYS: ThreadSanitizer's own thread leaves that one unblocked, but has
// no stack to show.
constexpr int kStackSignal = SIGTRAP;

// The handlers allocate nothing: a thread may hang inside malloc().
class Text {
 public:
  Text& operator<<(std::string_view text) {
    const std::size_t count = std::min(text.size(), data_.size() - size_ - 1);
    std::memcpy(data_.data() + size_, text.data(), count);
    size_ += count;
    data_[size_] = '\0';
    return *this;
  }
  Text& operator<<(std::int64_t value) { return number(value, 10); }
  Text& hex(std::int64_t value) {
    *this << "0x";
    return number(value, 16);
  }
  std::string_view view() const { return {data_.data(), size_}; }
  const char* c_str() const { return data_.data(); }
  void print() const {
    std::string_view left = view();
    while (!left.empty()) {
      const ssize_t written = ::write(STDERR_FILENO, left.data(), left.size());
      if (written < 0 && errno != EINTR) return;
      if (written > 0) left.remove_prefix(static_cast<std::size_t>(written));
    }
  }

 private:
  Text& number(std::int64_t value, int base) {
    std::array<char, 24> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(),
                                   value, base);
    return *this << std::string_view(
               digits.data(), static_cast<std::size_t>(end.ptr - &digits[0]));
  }

  std::array<char, 1024> data_{};
  std::size_t size_ = 0;
};

Text task_path(pid_t thread, std::string_view file) {
  Text path;
  path << "/proc/self/task/" << thread << "/" << file;
  return path;
}

// The file's beginning, without the end of the line behind it.
Text read_task_file(pid_t thread, std::string_view file) {
  Text text;
  const int fd = ::open(task_path(thread, file).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  std::array<char, 1000> buffer;
  const ssize_t size = ::read(fd, buffer.data(), buffer.size());
  ::close(fd);
  if (size <= 0) return text;
  std::string_view view(buffer.data(), static_cast<std::size_t>(size));
  while (view.ends_with('\n')) view.remove_suffix(1);
  return text << view;
}

Text path_of_program() {
  std::array<char, 900> path;
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  Text text;
  if (size > 0) {
    text << std::string_view(path.data(), static_cast<std::size_t>(size));
  }
  return text;
}

// False if there is no addr2line.
bool print_with_addr2line(std::int64_t offset) {
  const Text program = path_of_program();
  Text address;
  address.hex(offset);
  const pid_t child = ::_Fork();
  if (child < 0) return false;
  if (child == 0) {
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    ::execlp("addr2line", "addr2line", "-Cfpe", program.c_str(),
             address.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status == 0;
}

void print_frame(void* address) {
  (Text() << "  ").print();
  Dl_info info{};
  Dl_info own{};
  if (::dladdr(address, &info) == 0) {
    (Text().hex(reinterpret_cast<std::intptr_t>(address)) << "\n").print();
    return;
  }
  // A return address: the call is before it.
  const std::int64_t offset =
      static_cast<char*>(address) - static_cast<char*>(info.dli_fbase) - 1;
  ::dladdr(reinterpret_cast<void*>(&print_all_stacks), &own);
  if (info.dli_fbase == own.dli_fbase && print_with_addr2line(offset)) return;
  Text text;
  text << (info.dli_sname != nullptr ? info.dli_sname : "?") << " in "
       << info.dli_fname << " at ";
  (text.hex(offset) << "\n").print();
}

// Which thread is to print, and whether it has.
std::atomic<pid_t> asked{0};

void print_own_stack() {
  if (__sanitizer_print_stack_trace != nullptr) {
    __sanitizer_print_stack_trace();
    return;
  }
  std::array<void*, 64> frames;
  const int count = ::backtrace(frames.data(), static_cast<int>(frames.size()));
  for (int i = 0; i < count; ++i) {
    print_frame(frames[static_cast<std::size_t>(i)]);
  }
}

pid_t own_id() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

void on_stack_signal(int /*signal*/) {
  if (asked != own_id()) return;
  const int saved = errno;
  print_own_stack();
  asked = 0;
  errno = saved;
}

bool blocks_stack_signal(pid_t thread) {
  const Text status = read_task_file(thread, "status");
  constexpr std::string_view kLabel = "SigBlk:\t";
  const std::size_t place = status.view().find(kLabel);
  if (place == std::string_view::npos) return true;
  const std::string_view digits =
      status.view().substr(place + kLabel.size(), 16);
  std::uint64_t mask = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), mask, 16);
  return (mask >> (kStackSignal - 1) & 1) != 0;
}

void print_thread(pid_t thread) {
  Text header;
  header << "--- thread " << thread << " (";
  header << read_task_file(thread, "comm").view() << ")";
  if (thread == own_id()) {
    (header << "\n").print();
    print_own_stack();
    return;
  }
  header << ", system call ";
  (header << read_task_file(thread, "syscall").view() << "\n").print();
  if (blocks_stack_signal(thread)) {
    (Text() << "  it blocks the signal that would show its stack\n").print();
    return;
  }
  asked = thread;
  ::syscall(SYS_tgkill, ::getpid(), thread, kStackSignal);
  for (int i = 0; i < 1000 && asked == thread; ++i) {
    const timespec millisecond{0, 1'000'000};
    ::nanosleep(&millisecond, nullptr);
  }
  if (asked.exchange(0) == thread) {
    (Text() << "  it does not answer\n").print();
  }
}

void on_alarm(int /*signal*/) {
  (Text() << "\nThe program hangs. What its threads are doing:\n").print();
  print_all_stacks();
  ::signal(SIGABRT, SIG_DFL);
  std::abort();
}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  // Not seen by the other calls of the thread, should it go on.
  action.sa_flags = SA_RESTART;
  ::sigaction(signal, &action, nullptr);
}

// Guards the program. Made before main().
[[maybe_unused]] const bool guarded = [] {
  // The first call loads a library.
  std::array<void*, 1> frame;
  ::backtrace(frame.data(), 1);
  handle(SIGALRM, on_alarm);
  handle(kStackSignal, on_stack_signal);
  const char* const limit = std::getenv("TEST_TIMEOUT");
  const int seconds = limit == nullptr ? 0 : std::atoi(limit);
  if (seconds > 1) {
    ::alarm(static_cast<unsigned>(seconds - std::max(1, seconds / 5)));
  }
  return true;
}();

}  // namespace

void print_all_stacks() noexcept {
  const int tasks =
      ::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (tasks < 0) return;
  // linux_dirent64: inode (8), offset (8), length (2), type (1), name.
  alignas(8) std::array<char, 4096> entries;
  for (;;) {
    const long size =
        ::syscall(SYS_getdents64, tasks, entries.data(), entries.size());
    if (size <= 0) break;
    for (long at = 0; at < size;) {
      const char* const entry = entries.data() + at;
      std::uint16_t length = 0;
      std::memcpy(&length, entry + 16, sizeof length);
      const int thread = std::atoi(entry + 19);
      if (thread > 0) print_thread(thread);
      at += length;
    }
  }
  ::close(tasks);
}

HangGuard::HangGuard(unsigned seconds) {
  const unsigned left = ::alarm(seconds);
  if (left == 0) return;
  outer_ = Clock::now() + std::chrono::seconds(left);
  if (left < seconds) ::alarm(left);
}

HangGuard::~HangGuard() {
  ::alarm(0);
  if (!outer_) return;
  const auto left =
      std::chrono::ceil<std::chrono::seconds>(*outer_ - Clock::now()).count();
  ::alarm(static_cast<unsigned>(std::max<decltype(left)>(1, left)));
}

}  // namespace tcpip_tests
