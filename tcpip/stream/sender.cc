#include "tcpip/stream/sender.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "tcpip/error.h"

namespace tcpip::internal {
namespace {

// A message of at most kCopyAll bytes, or of parts that are all smaller than
// kCopyPiece, is copied together for one send. For others, copying costs more
// than the kernel needs for further pieces. Measured on loopback.
constexpr std::size_t kCopyAll = 16 * 1024;
constexpr std::size_t kCopyPiece = 1024;
// An empty buffer of at most this size is kept for the next message.
constexpr std::size_t kKeepBuffer = 256 * 1024;

}  // namespace

Sender::Sender(std::shared_ptr<Socket> socket) : socket_(std::move(socket)) {}
Sender::~Sender() = default;

void Sender::write(const char* operation, Parts parts) {
  const MutexLock lock(mutex_);
  append(operation, parts);
}

void Sender::write_and_drain(const Call& call, Parts parts,
                             std::size_t max_unsent) {
  if (call.wait.stop.stop_requested()) {
    throw CancelledError(call.operation, peer());
  }
  const MutexLock lock(mutex_);
  check_writable(call.operation);
  send_until(max_unsent, call, false);
  append(call.operation, parts);
  send_until(0, call, true);
}

bool Sender::try_write(const char* operation, Parts parts) {
  const MutexLock lock(mutex_);
  check_writable(operation);
  send_now();
  if (pending() > 0) return false;
  // This throws too if send_now() has found the connection lost.
  append(operation, parts);
  return true;
}

void Sender::drain(const Call& call) {
  if (call.wait.stop.stop_requested()) {
    throw CancelledError(call.operation, peer(), true);
  }
  const MutexLock lock(mutex_);
  send_until(0, call, true);
}

void Sender::write_eof(const char* operation) {
  const MutexLock lock(mutex_);
  if (eof_wanted_) return;
  if (socket_->is_closed()) throw_closed(operation);
  eof_wanted_ = true;
  send_eof();
}

void Sender::close() noexcept {
  {
    const MutexLock lock(mutex_);
    if (!socket_->is_closed() && error_ == 0) send_now();
  }
  socket_->close();
  changed_.notify_all();
}

bool Sender::is_closing() const noexcept {
  const MutexLock lock(mutex_);
  return socket_->is_closed() || error_ != 0 || socket_->lost_error() != 0;
}

std::size_t Sender::unsent() const noexcept {
  const MutexLock lock(mutex_);
  return pending();
}

std::string Sender::peer() const { return socket_->peer_address().to_string(); }

void Sender::throw_closed(const char* operation) const {
  throw ConnectionAbortedError(
      std::make_error_code(std::errc::connection_aborted), operation, peer(),
      "the connection was closed by this side");
}

void Sender::check_writable(const char* operation) {
  if (socket_->is_closed()) throw_closed(operation);
  if (error_ != 0) throw_connection_error(error_, operation, peer());
  if (eof_wanted_) {
    throw BrokenPipeError(std::make_error_code(std::errc::broken_pipe),
                          operation, peer(), "written to after write_eof()");
  }
}

// Takes all parts or none: sends what the kernel takes, queues the rest.
void Sender::append(const char* operation, Parts parts) {
  check_writable(operation);
  std::size_t total = 0;
  bool large = false;
  for (const std::string_view part : parts) {
    total += part.size();
    large = large || part.size() >= kCopyPiece;
  }
  if (total == 0) return;
  const bool copying = parts.size() > 1 && (total <= kCopyAll || !large);
  if (pending() > 0 || copying) {
    copy(parts, total, 0);
    send_now();
  } else {
    gather(parts, total);
  }
  if (error_ != 0) throw_connection_error(error_, operation, peer());
}

// Appends the parts to the buffer, without their first `skip` bytes.
void Sender::copy(Parts parts, std::size_t total, std::size_t skip) {
  if (pending() == 0) {
    buffer_.clear();
    head_ = 0;
    if (buffer_.capacity() > kKeepBuffer) buffer_ = {};
  } else if (head_ >= buffer_.size() / 2) {
    buffer_.erase(0, head_);
    head_ = 0;
  }
  const std::size_t needed = buffer_.size() + total - skip;
  if (needed > buffer_.capacity()) {
    buffer_.reserve(std::max(needed, 2 * buffer_.capacity()));
  }
  for (std::string_view part : parts) {
    const std::size_t skipped = std::min(skip, part.size());
    skip -= skipped;
    buffer_.append(part.substr(skipped));
  }
}

// Sends straight from the parts; copies only what the kernel did not take.
void Sender::gather(Parts parts, std::size_t total) {
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
    const IoResult result = socket_->send_now(std::span(pieces).first(count));
    if (!note(result)) return;
    sent += result.count;
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
  if (sent < total) copy(parts, total, sent);
}

// Records how a send ended; false if the connection is lost.
bool Sender::note(const IoResult& result) {
  if (result.status == IoStatus::kClosed) {
    error_ = ECONNABORTED;
  } else if (result.status == IoStatus::kError &&
             result.error_number != ENOBUFS && result.error_number != ENOMEM) {
    error_ = result.error_number;
  }
  if (error_ == 0) return true;
  buffer_ = {};  // it will never be sent: free it now
  head_ = 0;
  return false;
}

void Sender::send_now() noexcept {
  while (pending() > 0) {
    const Socket::Piece piece{buffer_.data() + head_, pending()};
    const IoResult result = socket_->send_now({&piece, 1});
    if (!note(result) || result.count == 0) return;
    head_ += result.count;
  }
}

void Sender::send_eof() {
  if (!eof_wanted_ || eof_sent_ || pending() > 0 || error_ != 0) return;
  eof_sent_ = true;
  socket_->shutdown_send();
}

// Sends until no more than `rest` bytes are unsent. While a thread waits, the
// mutex is released, so that others may append. One thread at a time waits for
// the socket; the others wait for that thread. `queued` is for exceptions.
void Sender::send_until(std::size_t rest, const Call& call, bool queued) {
  const char* const operation = call.operation;
  const Wait& wait = call.wait;
  for (;;) {
    if (wait.stop.stop_requested() && pending() > rest) {
      throw CancelledError(operation, peer(), queued);
    }
    if (!waiting_ && error_ == 0) send_now();
    if (error_ != 0) {
      if (socket_->is_closed()) throw_closed(operation);
      throw_connection_error(error_, operation, peer());
    }
    if (pending() <= rest) break;
    if (socket_->is_closed()) throw_closed(operation);
    if (waiting_) {
      switch (changed_.wait(mutex_, wait, [this]() TCPIP_REQUIRES(mutex_) {
        return !waiting_ || socket_->is_closed();
      })) {
        case WaitResult::kReady:
          continue;
        case WaitResult::kTimeout:
          throw TimeoutError(operation, peer(), queued);
        case WaitResult::kStopped:
          throw CancelledError(operation, peer(), queued);
      }
    }
    waiting_ = true;
    mutex_.unlock();
    const IoResult ready = socket_->wait_sendable(wait);
    mutex_.lock();
    waiting_ = false;
    changed_.notify_all();
    if (ready.status == IoStatus::kTimeout) {
      throw TimeoutError(operation, peer(), queued);
    }
    if (ready.status == IoStatus::kStopped) {
      throw CancelledError(operation, peer(), queued);
    }
    // The wait was not possible; the connection lives, and the bytes are kept.
    if (ready.status == IoStatus::kError) {
      throw_connection_error(ready.error_number, operation, peer());
    }
  }
  send_eof();
}

}  // namespace tcpip::internal
