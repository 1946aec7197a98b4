#include "tcpip/socket.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "tcpip/base/poller.h"
#include "tcpip/error.h"
#include "tcpip/net/socket_calls.h"
#include "tcpip/net/socket_options.h"

namespace tcpip {
namespace {

using internal::is_shortage;
using internal::would_block;

// receive() uses recv() with SO_RCVTIMEO if at least this time is left; else it
// polls.
constexpr std::chrono::milliseconds kCoarse{50};

// How long a thread sleeps at most before it looks again, if nothing can wake
// it (there is no descriptor for the waker) or poll() is of no use.
constexpr std::chrono::milliseconds kLookAgain{10};
// For how long close() may leave a receive() blocked; see Wake.
constexpr std::chrono::milliseconds kAcknowledgeTime{100};

// The longest time that a recv() with this SO_RCVTIMEO may take. The kernel
// rounds it up, by up to an eighth and a few ticks of its clock, 10 ms each at
// the most.
std::chrono::microseconds longest(std::chrono::microseconds timeout) noexcept {
  return timeout + timeout / 7 + std::chrono::milliseconds(20);
}

// Why a descriptor cannot be taken over; error_number is 0 if it can.
struct Refusal {
  int error_number = 0;
  const char* detail = "";
};

Refusal refusal_of(int fd) noexcept {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return {errno};
  if (type != SOCK_STREAM) return {EPROTOTYPE, "not a stream socket"};
  // Not getpeername(): that fails on a connection that was reset.
  int listens = 0;
  size = sizeof listens;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 &&
      listens != 0) {
    return {EINVAL, "a listening socket"};
  }
  return {};
}

bool is_internet(const Address& address) noexcept {
  return address.family() == AddressFamily::kIpv4 ||
         address.family() == AddressFamily::kIpv6;
}

// A Unix-domain socket that meets an out-of-band byte would count it among the
// bytes to come, and not deliver it.
void keep_out_of_band_bytes(int fd) noexcept {
  internal::set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
}

// Counts a call for as long as it lives.
class Counted {
 public:
  explicit Counted(std::atomic<int>& count) noexcept : count_(count) {
    ++count_;
  }
  ~Counted() { --count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  std::atomic<int>& count_;
};

}  // namespace

std::string RefusedOption::text() const {
  return std::string(name) + " cannot be set: " + error.message();
}

Socket::Socket(UniqueFd fd)
    : fd_(std::move(fd)),
      receive_waker_(std::make_unique<internal::Waker>()),
      send_waker_(std::make_unique<internal::Waker>()) {
  const Refusal refusal = refusal_of(fd_.get());
  if (refusal.error_number != 0) {
    throw_os_error(refusal.error_number, "adopt socket", {}, refusal.detail);
  }
  local_ = internal::local_address_of(fd_.get());
  peer_ = internal::peer_address_of(fd_.get());
  if (peer_.empty() && !was_connected()) {
    throw_os_error(ENOTCONN, "adopt socket");
  }
  if (!is_internet(local_)) keep_out_of_band_bytes(fd_.get());
}

Socket::Socket(internal::ConnectedFd connected)
    : fd_(std::move(connected.fd)),
      local_(connected.local),
      peer_(connected.peer),
      receive_waker_(std::make_unique<internal::Waker>()),
      send_waker_(std::make_unique<internal::Waker>()) {
  if (local_.family() == AddressFamily::kUnix) {
    keep_out_of_band_bytes(fd_.get());
  }
}

Socket::~Socket() = default;

// For a socket without a peer's address: false if it was never connected, or is
// connecting. True for a Unix-domain connection, and for one that was reset.
bool Socket::was_connected() noexcept {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(fd_.get(), reinterpret_cast<sockaddr*>(&peer), &size) ==
      0) {
    return true;
  }
  char byte = 0;
  if (::recv(fd_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0) return true;
  if (errno == ENOTCONN || errno == EINVAL || would_block(errno)) return false;
  failed(errno);  // recv() has it no more
  return true;
}

RefusedOptions Socket::set_options(const SocketOptions& options) noexcept {
  if (!process_.is_here()) return {};
  return internal::set_options(fd_.get(), is_internet(local_), options);
}

[[gnu::hot]] IoResult Socket::receive(void* data, std::size_t size,
                                      const Wait& wait) noexcept {
  using std::chrono::microseconds;
  if (wait.is_forever()) {
    const IoResult result = receive_plain(data, size, microseconds(0));
    if (result.status != IoStatus::kTimeout) [[likely]] {
      return result;
    }
  }
  return receive_waiting(data, size, wait);
}

IoResult Socket::receive_waiting(void* data, std::size_t size,
                                 const Wait& wait) noexcept {
  if (wait.stop.stop_requested()) return {IoStatus::kStopped};
  if (is_closed()) return {IoStatus::kClosed};
  using std::chrono::microseconds;
  if (wait.is_none()) {
    return receive_now(data, size);
  }
  if (!wait.stop.stop_possible() && !wait.deadline.is_never()) {
    const Deadline::Clock::duration left = wait.deadline.remaining();
    if (left == Deadline::Clock::duration::zero()) {
      return receive_now(data, size);
    }
    // recv() with SO_RCVTIMEO saves the poll. Changing SO_RCVTIMEO costs a
    // call, and the kernel keeps it coarsely. So keep its value if it is at
    // least half of the time that is left and cannot end after it; else set one
    // that will do for the next such call too. After that, poll for the rest of
    // the time.
    if (left >= kCoarse) {
      microseconds timeout = receive_timeout_;
      const auto limit = std::chrono::duration_cast<microseconds>(left);
      if (timeout < limit / 2 || longest(timeout) > limit) {
        timeout = (limit - std::chrono::milliseconds(16)) * 3 / 4;
      }
      const IoResult result = receive_plain(data, size, timeout);
      if (result.status != IoStatus::kTimeout) return result;
    }
  }
  // Nothing looks at the clock before the poll does: its first look at a
  // deadline that has passed takes what is there.
  for (int refused = 0;; ++refused) {
    // Poll before recv(): with request and reply, nine times in ten the bytes
    // have not come yet, and a recv() that fails costs more than the poll.
    IoResult result = wait_for(POLLIN, wait, *receive_waker_);
    if (result.status != IoStatus::kOk) return result;
    result = receive_now(data, size);
    if (result.status != IoStatus::kTimeout) return result;
    result = pause(refused, wait, *receive_waker_);
    if (result.status != IoStatus::kOk) return result;
  }
}

// The error that another thread's call may have been given a moment ago, or 0.
int Socket::error_of_another_call() const noexcept {
  // What is counted never blocks.
  while (may_have_error_ > 0 && lost_error() == 0) {
    internal::sleep_until(Deadline::after(std::chrono::microseconds(20)));
  }
  return lost_error();
}

// The result of a recv() that returned 0: the end of the stream, unless a send
// has met an error; the kernel has then reported it there and not here.
IoResult Socket::ended() const noexcept {
  const int lost = error_of_another_call();
  return lost == 0 ? IoResult{} : IoResult{IoStatus::kError, 0, lost};
}

// For a send that was given EPIPE. If the kernel has reported a reset to
// another call, lost_error() tells of it when this returns.
void Socket::await_error_of_another_call() const noexcept {
  if (error_of_another_call() != 0) return;
  // A thread in a plain recv() is not counted. The reset has woken it, if there
  // was one; if not, it may stay there.
  const Deadline patience = Deadline::after(2 * kLookAgain);
  while (in_plain_receive_.load() && lost_error() == 0 &&
         !patience.has_passed()) {
    internal::sleep_until(Deadline::after(std::chrono::microseconds(100)));
  }
}

IoResult Socket::failed(int error_number) noexcept {
  if (!is_shortage(error_number)) lost_error_ = error_number;
  return {IoStatus::kError, 0, error_number};
}

IoResult Socket::receive_now(void* data, std::size_t size) noexcept {
  if (!process_.is_here()) return {IoStatus::kClosed};
  for (;;) {
    ssize_t got = 0;
    int error_number = 0;
    {
      const Counted counted(may_have_error_);
      got = ::recv(fd_.get(), data, size, MSG_DONTWAIT);
      error_number = errno;
      if (got < 0 && error_number != EINTR && !would_block(error_number)) {
        return failed(error_number);
      }
    }
    if (got > 0) return {IoStatus::kOk, static_cast<std::size_t>(got)};
    if (got == 0) return ended();
    if (error_number != EINTR) return {IoStatus::kTimeout};
  }
}

// One recv() without a poll, for at most `timeout`, or forever if that is 0.
// kTimeout, too, if the kernel does not take the time-out: then poll.
[[gnu::hot]] inline IoResult Socket::receive_plain(
    void* data, std::size_t size, std::chrono::microseconds timeout) noexcept {
  if (timeout != receive_timeout_ && !set_receive_timeout(timeout)) {
    return {IoStatus::kTimeout};
  }
  for (int refused = 0;; ++refused) {
    // Set the flag, then look at closed_; close() sets closed_, then looks at
    // the flag. So either close() wakes the recv(), or this returns here. In
    // another order the recv() could block forever.
    in_plain_receive_.store(true);
    if (is_closed()) {
      in_plain_receive_.store(false);
      return {IoStatus::kClosed};
    }
    const ssize_t got = ::recv(fd_.get(), data, size, 0);
    if (got > 0) [[likely]] {
      in_plain_receive_.store(false, std::memory_order_release);
      return {IoStatus::kOk, static_cast<std::size_t>(got)};
    }
    const int error_number = errno;
    const bool closed = is_closed();
    const bool lost = got < 0 && !closed && error_number != EINTR &&
                      !would_block(error_number);
    // Before the flag changes: see await_error_of_another_call().
    const IoResult failure = lost ? failed(error_number) : IoResult{};
    in_plain_receive_.store(false, std::memory_order_release);
    if (closed) return {IoStatus::kClosed};
    if (got == 0) return ended();
    if (lost) return failure;
    // The kernel's time-out begins anew with each recv(): do not repeat it
    // after a signal, or signals would stretch the deadline.
    if (timeout.count() > 0) return {IoStatus::kTimeout};
    if (error_number == EINTR) continue;
    // The program has put the descriptor into non-blocking mode.
    IoResult result = wait_for(POLLIN, {}, *receive_waker_);
    if (result.status != IoStatus::kOk) return result;
    if (refused > 0) result = pause(refused, {}, *receive_waker_);
    if (result.status != IoStatus::kOk) return result;
  }
}

// False if the kernel does not take the time-out, or after close().
bool Socket::set_receive_timeout(std::chrono::microseconds timeout) noexcept {
  // A child that fork() has made shares the socket with its parent.
  if (is_closed()) return false;
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const timeval value{static_cast<time_t>(whole.count()),
                      static_cast<suseconds_t>((timeout - whole).count())};
  if (::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value) !=
      0) {
    return false;
  }
  receive_timeout_ = timeout;
  return true;
}

// Needs neither a descriptor nor memory: without them, it looks again and
// again.
IoResult Socket::wait_for(short events, const Wait& wait,
                          internal::Waker& waker) noexcept {
  for (;;) {
    // Open the waker before the look at closed_: see Waker::signal().
    const bool can_be_woken = !waker.open();
    if (is_closed()) return {IoStatus::kClosed};
    if (wait.stop.stop_requested()) return {IoStatus::kStopped};
    const auto look_again = [&wait] {
      return std::min(wait.deadline, Deadline::after(kLookAgain));
    };
    IoResult result;
    if (can_be_woken) {
      result = internal::wait_ready(fd_.get(), events, wait, waker);
    } else {
      pollfd fd{fd_.get(), events, 0};
      result = internal::poll_until({&fd, 1}, look_again());
    }
    result.count = 0;  // it counts descriptors, not bytes
    if (result.status == IoStatus::kError) {
      internal::sleep_until(look_again());
      const bool ready = events != POLLIN || has_something_to_receive();
      result = {ready ? IoStatus::kOk : IoStatus::kTimeout};
    }
    if (result.status == IoStatus::kStopped) return result;
    if (is_closed()) return {IoStatus::kClosed};
    if (wait.stop.stop_requested()) return {IoStatus::kStopped};
    if (result.status == IoStatus::kOk || wait.deadline.has_passed()) {
      return result;
    }
  }
}

// After a call was refused (EAGAIN) although poll() has said that it would not
// be: keeps a loop of the two from using all the CPU. `refused` is how often
// that has happened before. kOk when the call may be tried again.
IoResult Socket::pause(int refused, const Wait& wait,
                       internal::Waker& waker) noexcept {
  if (wait.deadline.has_passed()) return {IoStatus::kTimeout};
  // Now and then poll() is wrong, and that is all.
  if (refused == 0) return {};
  const auto length = std::min(
      kLookAgain, std::chrono::milliseconds(1) * (1 << std::min(refused, 4)));
  const Deadline until = std::min(wait.deadline, Deadline::after(length));
  // Waits for the waker alone.
  const IoResult result =
      internal::wait_ready(-1, 0, {until, wait.stop}, waker);
  if (result.status == IoStatus::kError) internal::sleep_until(until);
  if (is_closed()) return {IoStatus::kClosed};
  return {result.status == IoStatus::kStopped ? IoStatus::kStopped
                                              : IoStatus::kOk};
}

bool Socket::has_something_to_receive() noexcept {
  return receivable() > 0 || at_end();
}

IoResult Socket::wait_sendable(const Wait& wait) noexcept {
  return wait_for(POLLOUT, wait, *send_waker_);
}

IoResult Socket::wait_receivable(const Wait& wait) noexcept {
  return wait_for(POLLIN, wait, *receive_waker_);
}

// Calls send() until that is not interrupted by a signal.
template <class Send>
IoResult Socket::send_with(Send send) noexcept {
  for (;;) {
    if (is_closed()) return {IoStatus::kClosed};
    {
      const Counted counted(may_have_error_);
      const ssize_t sent = send();
      if (sent >= 0) return {IoStatus::kOk, static_cast<std::size_t>(sent)};
      const int error_number = errno;
      if (error_number == EINTR) continue;
      if (would_block(error_number)) return {IoStatus::kTimeout};
      if (is_closed()) return {IoStatus::kClosed};
      if (error_number != EPIPE) return failed(error_number);
    }
    await_error_of_another_call();
    return {IoStatus::kError, 0, EPIPE};
  }
}

[[gnu::hot]] IoResult Socket::send_now(const Piece& piece) noexcept {
  return send_with([&] {
    return ::send(fd_.get(), piece.data, piece.size,
                  MSG_NOSIGNAL | MSG_DONTWAIT);
  });
}

IoResult Socket::send_now(std::span<const Piece> pieces) noexcept {
  // The most that the kernel takes in one call; the caller sends the rest.
  constexpr std::size_t kMaxPieces = 1024;
  std::array<iovec, 16> few;
  std::vector<iovec> many;
  const std::size_t count = std::min(pieces.size(), kMaxPieces);
  iovec* vector = few.data();
  std::size_t used = std::min(count, few.size());
  if (count > few.size()) {
    try {
      many.resize(count);
      vector = many.data();
      used = count;
    } catch (const std::bad_alloc&) {
      // Send the first few; the caller sends the rest.
    }
  }
  for (std::size_t i = 0; i < used; ++i) {
    vector[i].iov_base = const_cast<void*>(pieces[i].data);
    vector[i].iov_len = pieces[i].size;
  }
  msghdr message{};
  message.msg_iov = vector;
  message.msg_iovlen = used;
  return send_with([&] {
    return ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  });
}

std::error_code Socket::shutdown_send() noexcept {
  if (!process_.is_here()) return internal::system_error(EBADF);
  return ::shutdown(fd_.get(), SHUT_WR) == 0 ? std::error_code()
                                             : internal::system_error(errno);
}

void Socket::close(Wake wake) noexcept {
  if (closed_.exchange(true) || !process_.is_here()) return;
  // Our own reader before FIN, which wakes the peer: on the same machine it
  // would run first.
  receive_waker_->signal();
  const bool is_plain = in_plain_receive_.load();
  if (is_plain) {
    wake_at_ = Deadline::after(kAcknowledgeTime);
    wake_pending_ = true;
    if (wake == Wake::kNow || unacknowledged() == 0) wake_receive();
  }
  // Only the sending direction: after a shutdown of the other one too, the
  // kernel answers what the peer still sends with a reset, and the peer loses
  // our last bytes.
  ::shutdown(fd_.get(), SHUT_WR);
  send_waker_->signal();
  // FIN counts as one.
  if (wake_pending_ && unacknowledged() <= 1) wake_receive();
}

void Socket::wake_receive() noexcept {
  // A child that fork() has made shares the socket with its parent.
  if (!process_.is_here()) return;
  if (wake_pending_.exchange(false)) ::shutdown(fd_.get(), SHUT_RD);
}

Socket::LingerStep Socket::linger_step() noexcept {
  if (!process_.is_here()) return LingerStep::kOver;
  if (wake_pending_.load() && in_plain_receive_.load()) {
    if (unacknowledged() > 1 && !wake_at_.has_passed()) {
      return LingerStep::kWaiting;
    }
    wake_receive();
  }
  LingerStep step = LingerStep::kNothing;
  // Bounded, so that a peer that floods cannot keep the caller here.
  for (int i = 0; i < 16; ++i) {
    // With MSG_TRUNC, TCP drops the bytes without copying them.
    std::array<char, 64 * 1024> dropped;
    const ssize_t got = ::recv(fd_.get(), dropped.data(), dropped.size(),
                               MSG_DONTWAIT | MSG_TRUNC);
    if (got > 0) step = LingerStep::kDropped;
    if (got > 0 || (got < 0 && errno == EINTR)) continue;
    return got < 0 && would_block(errno) ? step : LingerStep::kOver;
  }
  return step;
}

void Socket::linger(Deadline deadline) noexcept {
  // The kernel does not signal that the last byte is acknowledged, so look
  // again and again. The FIN counts as one byte and need not be acknowledged.
  constexpr std::chrono::milliseconds kLook{2};
  bool ready = false;
  for (;;) {
    const LingerStep step = linger_step();
    if (step == LingerStep::kOver || unacknowledged() <= 1 ||
        deadline.has_passed()) {
      break;
    }
    const Deadline look_again = std::min(deadline, Deadline::after(kLook));
    // What comes is the other receive()'s; or poll() has said that there is
    // something to receive, and there was not.
    if (step == LingerStep::kWaiting ||
        (ready && step == LingerStep::kNothing)) {
      internal::sleep_until(look_again);
      ready = false;
      continue;
    }
    pollfd fd{fd_.get(), POLLIN, 0};
    const IoStatus status = internal::poll_until({&fd, 1}, look_again).status;
    if (status == IoStatus::kError) break;
    ready = status == IoStatus::kOk;
  }
  wake_receive();
}

std::optional<std::chrono::milliseconds> Socket::silent_for() const noexcept {
  const auto last = internal::last_segment(fd_.get());
  return last ? std::optional(last->age) : std::nullopt;
}

std::uint64_t Socket::arrived(std::uint64_t received) const noexcept {
  // The kernel's own count has those too that a receive() is just taking.
  if (const auto count = internal::bytes_arrived(fd_.get())) return *count;
  return received + receivable();
}

std::size_t Socket::receivable() const noexcept {
  int count = 0;
  return ::ioctl(fd_.get(), FIONREAD, &count) == 0 && count > 0
             ? static_cast<std::size_t>(count)
             : 0;
}

std::size_t Socket::unacknowledged() const noexcept {
  int count = 0;
  return ::ioctl(fd_.get(), SIOCOUTQ, &count) == 0 && count > 0
             ? static_cast<std::size_t>(count)
             : 0;
}

bool Socket::peer_hung_up() const noexcept {
  // While another thread is inside a call on this socket, the kernel puts a FIN
  // that arrives aside until that call ends. poll() does not wait for it;
  // FIONREAD does.
  receivable();
  pollfd fd{fd_.get(), POLLRDHUP, 0};
  int ready = 0;
  do {
    ready = ::poll(&fd, 1, 0);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

bool Socket::at_end() noexcept {
  if (is_closed()) return true;
  const Counted counted(may_have_error_);
  char byte = 0;
  ssize_t got = 0;
  do {
    got = ::recv(fd_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got >= 0) return got == 0;
  if (would_block(errno) || is_shortage(errno)) return false;
  failed(errno);
  return true;
}

}  // namespace tcpip
