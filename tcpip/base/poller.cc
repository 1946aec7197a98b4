#include "tcpip/base/poller.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <stop_token>

#include "tcpip/base/descriptor.h"
#include "tcpip/unique_fd.h"

namespace tcpip::internal {

namespace {

using std::chrono::nanoseconds;

timespec timespec_of(nanoseconds duration) noexcept {
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(duration);
  return {static_cast<std::time_t>(whole.count()),
          static_cast<long>((duration - whole).count())};
}

// Longer polls are made of such pieces. The kernel ends one up to a thousandth
// of its length too late (for a nice process, a two-hundredth). And when it
// goes on with one during which the process was stopped, it does so with the
// time that was left then: a deadline would be late by as long as the stop.
constexpr std::chrono::seconds kLongestPoll{1};

}  // namespace

Waker::~Waker() {
  const int fd = fd_.load();
  if (fd >= 0) ::close(fd);
}

std::error_code Waker::open() noexcept {
  int none = fd_.load();
  if (none >= 0) return {};
  UniqueFd made = adopt_descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!made) return {errno, std::generic_category()};
  // Another thread may have opened it meanwhile.
  if (fd_.compare_exchange_strong(none, made.get())) made.release();
  return {};
}

void Waker::signal() noexcept {
  const int fd = fd_.load();
  if (fd < 0) return;
  const std::uint64_t one = 1;
  // The write fails only if the counter is full; then the fd is readable too.
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

IoResult poll_until(std::span<pollfd> fds, Deadline deadline) noexcept {
  for (;;) {
    timespec timeout{};
    timespec* limit = nullptr;
    bool is_last = true;
    if (!deadline.is_never()) {
      const nanoseconds left = deadline.remaining();
      is_last = left <= kLongestPoll;
      timeout = timespec_of(std::min<nanoseconds>(left, kLongestPoll));
      limit = &timeout;
    }
    const int ready =
        ::ppoll(fds.data(), static_cast<nfds_t>(fds.size()), limit, nullptr);
    if (ready > 0) return {IoStatus::kOk, static_cast<std::size_t>(ready)};
    if (ready == 0) {
      if (is_last) return {IoStatus::kTimeout};
    } else if (errno != EINTR) {
      return {IoStatus::kError, 0, errno};
    }
  }
}

void sleep_until(Deadline deadline) noexcept {
  const timespec timeout = timespec_of(deadline.remaining());
  // Ending early does no harm: the caller looks at its state again.
  ::nanosleep(&timeout, nullptr);
}

IoResult wait_ready(int fd, short events, const Wait& wait,
                    Waker& waker) noexcept {
  std::array<pollfd, 2> fds{pollfd{fd, events, 0}};
  return wait_any_ready(fds, wait, waker);
}

IoResult wait_any_ready(std::span<pollfd> fds, const Wait& wait,
                        Waker& waker) noexcept {
  if (wait.stop.stop_requested()) return {IoStatus::kStopped};
  if (const std::error_code error = waker.open()) {
    return {IoStatus::kError, 0, error.value()};
  }
  fds.back() = {waker.fd(), POLLIN, 0};
  if (!wait.stop.stop_possible()) return poll_until(fds, wait.deadline);
  IoResult result;
  {
    const std::stop_callback on_stop(wait.stop,
                                     [&waker]() noexcept { waker.signal(); });
    result = poll_until(fds, wait.deadline);
  }
  // on_stop is destroyed, so it signals no more: clear what it has signalled,
  // or the next wait would end at once. This may clear another thread's signal
  // too. That loses nothing: that thread has changed the state first, and the
  // next wait looks at the state before it polls.
  if (wait.stop.stop_requested()) {
    waker.clear();
    return {IoStatus::kStopped};
  }
  return result;
}

}  // namespace tcpip::internal
