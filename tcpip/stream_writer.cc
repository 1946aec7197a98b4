#include "tcpip/stream_writer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "tcpip/base/mutex.h"
#include "tcpip/error.h"

namespace tcpip {
namespace {

// Pieces below this are copied into one send; above, copying costs more than
// the kernel's work for one more piece. Measured on loopback.
constexpr std::size_t kCopyAll = 16 * 1024;
constexpr std::size_t kCopyPiece = 1024;
// What is kept of an empty buffer for the next message.
constexpr std::size_t kKeepBuffer = 256 * 1024;

}  // namespace

class StreamWriter::Impl {
 public:
  explicit Impl(std::shared_ptr<Socket> socket) : socket_(std::move(socket)) {}

  void write(std::span<const std::string_view> parts) TCPIP_EXCLUDES(mutex_) {
    const internal::MutexLock lock(mutex_);
    append(parts);
  }

  void write_and_drain(std::span<const std::string_view> parts,
                       std::size_t max_unsent, const Wait& wait)
      TCPIP_EXCLUDES(mutex_) {
    if (wait.stop.stop_requested()) throw CancelledError("write", peer());
    const internal::MutexLock lock(mutex_);
    check_writable();
    send_until(max_unsent, "write", wait, false);
    append(parts);
    send_until(0, "write", wait, true);
  }

  bool try_write(std::span<const std::string_view> parts)
      TCPIP_EXCLUDES(mutex_) {
    const internal::MutexLock lock(mutex_);
    check_writable();
    send_now();
    // Throws too if that has found the connection lost.
    if (pending() > 0) return false;
    append(parts);
    return true;
  }

  void drain(const Wait& wait) TCPIP_EXCLUDES(mutex_) {
    if (wait.stop.stop_requested()) throw CancelledError("drain", peer(), true);
    const internal::MutexLock lock(mutex_);
    send_until(0, "drain", wait, true);
  }

  void write_eof() TCPIP_EXCLUDES(mutex_) {
    const internal::MutexLock lock(mutex_);
    if (eof_wanted_) return;
    if (socket_->is_closed()) throw_closed("write_eof");
    eof_wanted_ = true;
    send_eof();
  }

  void close() noexcept TCPIP_EXCLUDES(mutex_) {
    {
      const internal::MutexLock lock(mutex_);
      if (!socket_->is_closed() && error_ == 0) send_now();
    }
    socket_->close();
    changed_.notify_all();
  }

  bool is_closing() const noexcept TCPIP_EXCLUDES(mutex_) {
    const internal::MutexLock lock(mutex_);
    return socket_->is_closed() || error_ != 0 || socket_->lost_error() != 0;
  }

  std::size_t unsent() const noexcept TCPIP_EXCLUDES(mutex_) {
    const internal::MutexLock lock(mutex_);
    return pending();
  }

  Socket& socket() const noexcept { return *socket_; }

 private:
  std::string peer() const { return socket_->peer_address().to_string(); }

  [[noreturn]] void throw_closed(const char* operation) const {
    throw ConnectionAbortedError(
        std::make_error_code(std::errc::connection_aborted), operation, peer(),
        "the connection was closed by this side");
  }

  std::size_t pending() const noexcept TCPIP_REQUIRES(mutex_) {
    return buffer_.size() - head_;
  }

  void check_writable() TCPIP_REQUIRES(mutex_) {
    if (socket_->is_closed()) throw_closed("write");
    if (error_ != 0) throw_connection_error(error_, "write", peer());
    if (eof_wanted_) {
      throw BrokenPipeError(std::make_error_code(std::errc::broken_pipe),
                            "write", peer(), "written to after write_eof()");
    }
  }

  // Sends what the kernel takes, keeps the rest; all or nothing of it.
  void append(std::span<const std::string_view> parts) TCPIP_REQUIRES(mutex_) {
    check_writable();
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
    if (error_ != 0) throw_connection_error(error_, "write", peer());
  }

  // Appends the parts but for their first `skip` bytes.
  void copy(std::span<const std::string_view> parts, std::size_t total,
            std::size_t skip) TCPIP_REQUIRES(mutex_) {
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
  void gather(std::span<const std::string_view> parts, std::size_t total)
      TCPIP_REQUIRES(mutex_) {
    std::array<Socket::Piece, 64> pieces;
    std::size_t sent = 0;
    std::size_t next = 0;       // the first part that is not wholly sent
    std::size_t next_sent = 0;  // and how much of it is
    while (next < parts.size()) {
      std::size_t count = 0;
      std::size_t size = 0;
      for (std::size_t i = next; i < parts.size() && count < pieces.size();
           ++i) {
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
  bool note(const IoResult& result) TCPIP_REQUIRES(mutex_) {
    if (result.status == IoStatus::kClosed) {
      error_ = ECONNABORTED;
    } else if (result.status == IoStatus::kError &&
               result.error_number != ENOBUFS &&
               result.error_number != ENOMEM) {
      error_ = result.error_number;
    }
    if (error_ == 0) return true;
    buffer_ = {};  // nothing of it will ever be sent
    head_ = 0;
    return false;
  }

  void send_now() noexcept TCPIP_REQUIRES(mutex_) {
    while (pending() > 0) {
      const Socket::Piece piece{buffer_.data() + head_, pending()};
      const IoResult result = socket_->send_now({&piece, 1});
      if (!note(result) || result.count == 0) return;
      head_ += result.count;
    }
  }

  void send_eof() TCPIP_REQUIRES(mutex_) {
    if (!eof_wanted_ || eof_sent_ || pending() > 0 || error_ != 0) return;
    eof_sent_ = true;
    socket_->shutdown_send();
  }

  // Sends until no more than `rest` bytes are unsent. The lock is released
  // while it waits, so that others may append; one thread at a time waits for
  // the socket, the others for that one.
  void send_until(std::size_t rest, const char* operation, const Wait& wait,
                  bool queued) TCPIP_REQUIRES(mutex_) {
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
          case internal::WaitResult::kReady:
            continue;
          case internal::WaitResult::kTimeout:
            throw TimeoutError(operation, peer(), queued);
          case internal::WaitResult::kStopped:
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
      // The wait was not possible; the connection and the bytes are still here.
      if (ready.status == IoStatus::kError) {
        throw_connection_error(ready.error_number, operation, peer());
      }
    }
    send_eof();
  }

  const std::shared_ptr<Socket> socket_;
  mutable internal::Mutex mutex_;
  internal::CondVar changed_;
  std::string buffer_ TCPIP_GUARDED_BY(mutex_);
  std::size_t head_ TCPIP_GUARDED_BY(mutex_) = 0;  // what of it is sent
  bool waiting_ TCPIP_GUARDED_BY(mutex_) = false;  // a thread polls the socket
  bool eof_wanted_ TCPIP_GUARDED_BY(mutex_) = false;
  bool eof_sent_ TCPIP_GUARDED_BY(mutex_) = false;
  int error_ TCPIP_GUARDED_BY(mutex_) = 0;  // what ended the sending, an errno
};

StreamWriter::StreamWriter() noexcept = default;
StreamWriter::StreamWriter(std::shared_ptr<Socket> socket)
    : impl_(std::make_shared<Impl>(std::move(socket))) {}
StreamWriter::StreamWriter(StreamWriter&& other) noexcept = default;

StreamWriter& StreamWriter::operator=(StreamWriter&& other) noexcept {
  if (this == &other) return *this;
  close();
  impl_ = std::move(other.impl_);
  return *this;
}

StreamWriter::~StreamWriter() { close(); }

namespace {

template <class Impl>
Impl& connected(const std::shared_ptr<Impl>& impl, const char* operation) {
  if (!impl) throw_connection_error(ENOTCONN, operation, {});
  return *impl;
}

}  // namespace

void StreamWriter::write(std::string_view data) {
  connected(impl_, "write").write({&data, 1});
}
void StreamWriter::write_lines(std::span<const std::string_view> parts) {
  connected(impl_, "write").write(parts);
}
void StreamWriter::write_and_drain(std::span<const std::string_view> parts,
                                   std::size_t max_unsent, const Wait& wait) {
  connected(impl_, "write").write_and_drain(parts, max_unsent, wait);
}
bool StreamWriter::try_write_lines(std::span<const std::string_view> parts) {
  return connected(impl_, "write").try_write(parts);
}
void StreamWriter::drain(const Wait& wait) {
  connected(impl_, "drain").drain(wait);
}
void StreamWriter::write_eof() { connected(impl_, "write_eof").write_eof(); }
void StreamWriter::close() noexcept {
  if (impl_) impl_->close();
}
void StreamWriter::linger(Deadline deadline) noexcept {
  if (impl_) impl_->socket().linger(deadline);
}
bool StreamWriter::is_closing() const noexcept {
  return !impl_ || impl_->is_closing();
}
std::size_t StreamWriter::unsent() const noexcept {
  return impl_ ? impl_->unsent() : 0;
}
Address StreamWriter::local_address() const noexcept {
  return impl_ ? impl_->socket().local_address() : Address();
}
Address StreamWriter::peer_address() const noexcept {
  return impl_ ? impl_->socket().peer_address() : Address();
}
int StreamWriter::native_handle() const noexcept {
  return impl_ ? impl_->socket().native_handle() : -1;
}

void close_stream_writer(StreamWriter& writer, const Wait& wait) {
  try {
    if (!writer.is_closing()) writer.drain(wait);
  } catch (const Error&) {
    // Lost or out of time: closing is all that is left to do.
  } catch (...) {
    writer.close();
    throw;
  }
  writer.close();
  writer.linger(std::min(wait.deadline, Deadline::after(kCloseLingerTime)));
}

}  // namespace tcpip
