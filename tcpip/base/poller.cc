#include "tcpip/base/poller.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <stop_token>

#include "tcpip/error.h"

namespace tcpip::internal {

Waker::~Waker() {
  const int fd = fd_.load();
  if (fd >= 0) ::close(fd);
}

int Waker::open() {
  int fd = fd_.load();
  if (fd >= 0) return fd;
  const int made = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (made < 0) throw_os_error(errno, "eventfd");
  if (fd_.compare_exchange_strong(fd, made)) return made;
  ::close(made);  // another thread was first
  return fd;
}

void Waker::signal() noexcept {
  const int fd = fd_.load();
  if (fd < 0) return;
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then it is readable anyway.
  while (::write(fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void Waker::clear() noexcept {
  const int fd = fd_.load();
  if (fd < 0) return;
  std::uint64_t count = 0;
  while (::read(fd, &count, sizeof count) < 0 && errno == EINTR) {
  }
}

int poll_until(std::span<pollfd> fds, Deadline deadline) {
  using std::chrono::nanoseconds;
  using std::chrono::seconds;
  for (;;) {
    timespec timeout{};
    timespec* limit = nullptr;
    if (!deadline.is_never()) {
      const nanoseconds left = deadline.remaining();
      const auto whole = std::chrono::duration_cast<seconds>(left);
      timeout.tv_sec = static_cast<std::time_t>(whole.count());
      timeout.tv_nsec = static_cast<long>((left - whole).count());
      limit = &timeout;
    }
    const int ready =
        ::ppoll(fds.data(), static_cast<nfds_t>(fds.size()), limit, nullptr);
    if (ready >= 0) return ready;
    if (errno != EINTR) throw_os_error(errno, "poll");
  }
}

WaitResult wait_ready(int fd, short events, const Wait& wait, Waker& waker) {
  if (wait.stop.stop_requested()) return WaitResult::kStopped;
  std::array<pollfd, 2> fds{pollfd{fd, events, 0},
                            pollfd{waker.open(), POLLIN, 0}};
  int ready = 0;
  if (wait.stop.stop_possible()) {
    {
      const std::stop_callback on_stop(wait.stop,
                                       [&waker]() noexcept { waker.signal(); });
      ready = poll_until(fds, wait.deadline);
    }
    // The callback is gone, so whatever it signalled can be taken back. A
    // signal of somebody else's is lost too: the state behind it is set first.
    if (wait.stop.stop_requested()) {
      waker.clear();
      return WaitResult::kStopped;
    }
  } else {
    ready = poll_until(fds, wait.deadline);
  }
  return ready == 0 ? WaitResult::kTimeout : WaitResult::kReady;
}

}  // namespace tcpip::internal
