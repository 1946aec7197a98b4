#include "tcpip/stream/sender.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <new>
#include <thread>
#include <utility>

#include "tcpip/error.h"

namespace tcpip::internal {
namespace {

// A message of at most kCopyAll bytes, or of parts that are all smaller than
// kCopyPiece, is copied together for one send. For others, copying costs more
// than the kernel needs for further pieces. Measured on loopback.
constexpr std::size_t kCopyAll = 16 * 1024;
constexpr std::size_t kCopyPiece = 1024;
// After so many sends in a row a call looks at its deadline and stop, and lets
// others have the mutex: a peer that reads fast must not keep it for long.
constexpr int kMaxSends = 64;

// What error_ says if nothing is wrong but that close() was called.
constexpr int kClosedHere = ECONNABORTED;

}  // namespace

// Holds the mutex. At the end it notes whether drain() has nothing to do: what
// gives drain() something to do has set is_drained_ to false.
class TCPIP_SCOPED_CAPABILITY Sender::Lock {
 public:
  explicit Lock(Sender& sender) TCPIP_ACQUIRE(sender.mutex_) : sender_(sender) {
    sender_.mutex_.lock();
  }
  ~Lock() TCPIP_RELEASE() {
    sender_.is_drained_.store(sender_.pending() == 0 && sender_.error_ == 0 &&
                                  sender_.eof_wanted_ == sender_.eof_sent_,
                              std::memory_order_release);
    sender_.mutex_.unlock();
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  Sender& sender_;
};

Sender::Sender(std::shared_ptr<Socket> socket, Meter meter)
    : socket_(std::move(socket)), meter_(std::move(meter)) {}
Sender::~Sender() = default;

[[gnu::hot]] void Sender::write(const char* operation, Parts parts) {
  process_.check(operation);
  const Lock lock(*this);
  append(operation, parts);
}

[[gnu::hot]] void Sender::write_and_drain(const Call& call, Parts parts,
                                          std::size_t max_unsent) {
  process_.check(call.operation);
  if (call.wait.stop.stop_requested()) {
    throw CancelledError(call.operation, peer());
  }
  const Lock lock(*this);
  if (pending() > 0) {
    check_writable(call.operation);
    if (pending() > max_unsent) {
      send_until(taken() - max_unsent, call, false);
    } else if (!waiting_) {
      send_now();  // the message may then go straight to the kernel
    }
  }
  append(call.operation, parts);
  if (pending() == 0) return;
  try {
    send_until(taken(), call, true);
  } catch (const std::bad_alloc&) {
    // There is no memory for the exception that would tell that the message is
    // queued. The caller takes this one for "not written", and so may write the
    // message once more. It must not arrive twice.
    if (pending() > 0) {
      give_up(kClosedHere);
      closed_here_ = true;
      socket_->close();
      changed_.notify_all();
    }
    throw;
  }
}

SendResult Sender::send(const char* operation, Parts parts,
                        std::size_t max_unsent) {
  process_.check(operation);
  const Lock lock(*this);
  check_writable(operation);
  if (!waiting_) send_now();
  if (pending() > max_unsent) return SendResult::kBusy;
  // This throws too if send_now() has found the connection lost.
  append(operation, parts);
  return pending() > 0 ? SendResult::kQueued : SendResult::kSent;
}

[[gnu::hot]] void Sender::drain(const Call& call) {
  process_.check(call.operation);
  if (call.wait.stop.stop_requested()) {
    throw CancelledError(call.operation, peer(), true);
  }
  if (is_drained_.load(std::memory_order_acquire)) return;
  const Lock lock(*this);
  send_until(taken(), call, true);
}

void Sender::write_eof(const char* operation) {
  process_.check(operation);
  const Lock lock(*this);
  if (eof_wanted_) return;
  if (socket_->is_closed()) throw_ended(operation);
  is_drained_.store(false, std::memory_order_relaxed);
  eof_wanted_ = true;
  send_eof();
}

std::size_t Sender::close(int lost, Socket::Wake wake) noexcept {
  if (!process_.is_here()) return 0;
  std::size_t dropped = 0;
  {
    const Lock lock(*this);
    if (!socket_->is_closed()) {
      while (error_ == 0 && !is_stuck_ && pending() > 0) send_now();
      if (lost == 0) {
        closed_here_ = true;
      } else if (error_ == 0) {
        give_up(lost);
      }
    }
    dropped = dropped_ + pending();
  }
  socket_->close(wake);
  changed_.notify_all();
  return dropped;
}

bool Sender::is_closing() const noexcept {
  if (!process_.is_here()) return true;
  const MutexLock lock(mutex_);
  return socket_->is_closed() || error_ != 0 || socket_->lost_error() != 0;
}

std::size_t Sender::unsent() const noexcept {
  if (!process_.is_here()) return 0;
  const MutexLock lock(mutex_);
  return pending();
}

std::string Sender::peer() const { return socket_->peer_address().to_string(); }

// For a call that finds sending ended: throws what has ended it. Whoever closes
// the connection because it is lost says so, and the loss counts.
void Sender::throw_ended(const char* operation) const {
  if (!closed_here_) {
    int lost = error_ == kClosedHere ? 0 : error_;
    if (lost == 0) lost = socket_->lost_error();
    if (lost != 0) throw_connection_error(lost, operation, peer());
  }
  throw ConnectionAbortedError(
      std::make_error_code(std::errc::connection_aborted), operation, peer(),
      "the connection was closed by this side");
}

void Sender::throw_timeout(const Call& call, bool queued) const {
  if (!call.is_piece) meter_.count(&Counters::write_timeouts);
  throw TimeoutError(call.operation, peer(), queued);
}

inline void Sender::check_writable(const char* operation) const {
  if (socket_->is_closed() || error_ != 0 || eof_wanted_) [[unlikely]] {
    throw_not_writable(operation);
  }
}

void Sender::throw_not_writable(const char* operation) const {
  if (socket_->is_closed() || error_ != 0) throw_ended(operation);
  throw BrokenPipeError(std::make_error_code(std::errc::broken_pipe), operation,
                        peer(), "written to after write_eof()");
}

// Takes all parts or none: sends what the kernel takes, queues the rest. While
// a thread waits for the socket, that thread does the sending: it would not
// notice that another one has sent the bytes that it waits for.
[[gnu::hot]] void Sender::append(const char* operation, Parts parts) {
  check_writable(operation);
  std::size_t total = 0;
  bool large = false;
  for (const std::string_view part : parts) {
    total += part.size();
    large = large || part.size() >= kCopyPiece;
  }
  if (total == 0) return;
  is_drained_.store(false, std::memory_order_relaxed);
  // All memory that the message may need, before its first byte is sent: half a
  // message must not be followed by another.
  buffer_.make_room(total);
  const bool copying = parts.size() > 1 && (total <= kCopyAll || !large);
  if (pending() > 0 || waiting_ || copying) {
    copy(parts, 0);
    if (!waiting_) send_now();
  } else if (parts.size() == 1) {
    send_one(parts.front());
  } else {
    gather(parts, total);
  }
  if (error_ != 0) throw_ended(operation);
  meter_.count(&Counters::messages_sent);
}

// Appends the parts to the buffer, without their first `skip` bytes. There is
// room for them.
inline void Sender::copy(Parts parts, std::size_t skip) noexcept {
  for (std::string_view part : parts) {
    if (skip > 0) [[unlikely]] {
      const std::size_t skipped = std::min(skip, part.size());
      skip -= skipped;
      part.remove_prefix(skipped);
    }
    buffer_.append(part);
  }
}

// Sends straight from the part; copies only what the kernel did not take.
inline void Sender::send_one(std::string_view part) noexcept {
  const Socket::Piece piece{part.data(), part.size()};
  const Meter::Sending sending(meter_);
  const IoResult result = socket_->send_now(piece);
  if (!note(result)) return;
  sending.sent({&piece, 1}, result.count);
  sent_ += result.count;
  keep_rest({&part, 1}, part.size(), result.count);
}

// The same for several parts.
void Sender::gather(Parts parts, std::size_t total) noexcept {
  std::array<Socket::Piece, 64> pieces;
  std::size_t sent = 0;
  std::size_t next = 0;       // the first part that is not completely sent
  std::size_t next_sent = 0;  // how much of that part is sent
  while (next < parts.size()) {
    std::size_t count = 0;
    std::size_t size = 0;
    for (std::size_t i = next; i < parts.size() && count < pieces.size(); ++i) {
      const std::string_view part =
          i == next ? parts[i].substr(next_sent) : parts[i];
      if (part.empty()) continue;
      pieces[count++] = {part.data(), part.size()};
      size += part.size();
    }
    if (count == 0) return;
    const Meter::Sending sending(meter_);
    const IoResult result = socket_->send_now(std::span(pieces).first(count));
    if (!note(result)) return;
    sending.sent(std::span(pieces).first(count), result.count);
    sent += result.count;
    sent_ += result.count;
    for (std::size_t left = result.count; next < parts.size();) {
      const std::size_t step = std::min(left, parts[next].size() - next_sent);
      next_sent += step;
      left -= step;
      if (next_sent < parts[next].size()) break;
      ++next;
      next_sent = 0;
    }
    if (result.count < size) break;
  }
  keep_rest(parts, total, sent);
}

// Queues what the kernel has not taken of the parts, `total` bytes in all.
inline void Sender::keep_rest(Parts parts, std::size_t total,
                              std::size_t sent) noexcept {
  if (sent < total) [[unlikely]] {
    copy(parts, sent);
  } else {
    buffer_.free_if_large();
  }
}

// Records how a send ended; false if the connection is lost.
inline bool Sender::note(const IoResult& result) noexcept {
  if (result.status != IoStatus::kOk) [[unlikely]] {
    note_failure(result);
  }
  return error_ == 0;
}

void Sender::note_failure(const IoResult& result) noexcept {
  if (result.status == IoStatus::kClosed) {
    give_up(kClosedHere);
  } else if (result.status == IoStatus::kError &&
             result.error_number != ENOBUFS && result.error_number != ENOMEM) {
    // For bytes that were queued when a reset came, EPIPE only means that the
    // kernel has told another call of the reset.
    const int lost = is_stuck_ ? socket_->lost_error() : 0;
    give_up(lost != 0 ? lost : result.error_number);
  }
}

// Ends sending. What is unsent will never be sent: frees it now.
void Sender::give_up(int error_number) noexcept {
  is_drained_.store(false, std::memory_order_relaxed);
  error_ = error_number;
  dropped_ += pending();
  buffer_.free();
}

[[gnu::hot]] void Sender::send_now() noexcept {
  for (int sends = 0; pending() > 0 && sends < kMaxSends; ++sends) {
    const std::string_view unsent = buffer_.unsent();
    const Socket::Piece piece{unsent.data(), unsent.size()};
    const Meter::Sending sending(meter_);
    const IoResult result = socket_->send_now(piece);
    if (!note(result)) return;
    if (result.count == 0) {
      is_stuck_ = true;
      return;
    }
    is_stuck_ = false;
    sending.sent({&piece, 1}, result.count);
    buffer_.drop(result.count);
    sent_ += result.count;
  }
}

void Sender::send_eof() {
  if (!eof_wanted_ || eof_sent_ || pending() > 0 || error_ != 0) return;
  eof_sent_ = true;
  socket_->shutdown_send();
}

// Sends until `target` bytes of all that were ever taken are sent. While a
// thread waits, the mutex is released, so that others may append. One thread at
// a time waits for the socket and sends; the others wait for that thread, until
// it has sent what they want or waits no more. `queued` is for exceptions.
void Sender::send_until(std::uint64_t target, const Call& call, bool queued) {
  const char* const operation = call.operation;
  const Wait& wait = call.wait;
  int refused = 0;  // how often the socket took nothing, ready though it was
  for (;;) {
    if (wait.stop.stop_requested() && sent_ < target) {
      throw CancelledError(operation, peer(), queued);
    }
    const std::uint64_t sent_before = sent_;
    if (!waiting_ && error_ == 0) send_now();
    if (sent_ != sent_before) refused = 0;
    if (error_ != 0) throw_ended(operation);
    if (sent_ >= target) break;
    if (socket_->is_closed()) throw_ended(operation);
    if (refused > 0 && wait.deadline.has_passed()) {
      throw_timeout(call, queued);
    }
    if (!waiting_ && !is_stuck_) {
      if (wait.deadline.has_passed()) {
        throw_timeout(call, queued);
      }
      mutex_.unlock();
      std::this_thread::yield();
      mutex_.lock();
      continue;
    }
    IoStatus status = IoStatus::kOk;
    if (waiting_) {
      status = wait_while(wait, [this, target]() TCPIP_REQUIRES(mutex_) {
        return waiting_ && sent_ < target && error_ == 0;
      });
    } else {
      waiting_ = true;
      if (refused < 2) {
        mutex_.unlock();
        status = socket_->wait_sendable(wait).status;
        mutex_.lock();
      } else {
        // The kernel lacks memory, perhaps. Look again soon, but not at once.
        const auto length = std::chrono::milliseconds(std::min(refused, 10));
        const Deadline until = std::min(wait.deadline, Deadline::after(length));
        status = wait_while({until, wait.stop}, [] { return true; });
        if (status == IoStatus::kTimeout) status = IoStatus::kOk;
      }
      waiting_ = false;
      ++refused;
      changed_.notify_all();
    }
    // What this call waits for may have been sent meanwhile.
    if (sent_ >= target) continue;
    if (status == IoStatus::kTimeout) {
      throw_timeout(call, queued);
    }
    if (status == IoStatus::kStopped) {
      throw CancelledError(operation, peer(), queued);
    }
  }
  send_eof();
}

// Waits for changed_, as long as go_on() is true and the socket is open.
template <class GoOn>
IoStatus Sender::wait_while(const Wait& wait, GoOn go_on) {
  const auto done = [this, &go_on]() TCPIP_REQUIRES(mutex_) {
    return !go_on() || socket_->is_closed();
  };
  switch (changed_.wait(mutex_, wait, done)) {
    case WaitResult::kTimeout:
      return IoStatus::kTimeout;
    case WaitResult::kStopped:
      return IoStatus::kStopped;
    case WaitResult::kReady:
      break;
  }
  return IoStatus::kOk;
}

}  // namespace tcpip::internal
