// One end of a connection.
//
// Threads: one thread at a time receives, one at a time sends; everything else
// may be called from any thread at any time. close() marks the socket, sends
// FIN and wakes the threads that are blocked. The destructor closes the
// descriptor, once the last owner has gone: otherwise the kernel could give the
// number to another connection while a thread still uses it. In a child that
// fork() has made, every call ends as if the socket were closed, and nothing
// but the child's descriptor is.
#ifndef TCPIP_SOCKET_H_
#define TCPIP_SOCKET_H_

#include "tcpip/version.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <system_error>

#include "tcpip/address.h"
#include "tcpip/error.h"
#include "tcpip/io_result.h"
#include "tcpip/options.h"
#include "tcpip/process_mark.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"

namespace tcpip {

namespace internal {
class Waker;

// A descriptor that this library has made, of which it knows that it is a
// connected stream socket, and the addresses. Those of the socket are asked for
// no more; an empty one stays empty.
struct ConnectedFd {
  UniqueFd fd;
  Address local;
  Address peer;
};
}  // namespace internal

// A socket option that the kernel has refused.
struct TCPIP_EXPORT RefusedOption {
  std::error_code error = {};  // why
  const char* name = "";       // "TCP_NODELAY"

  // "TCP_NODELAY cannot be set: Operation not permitted", for messages.
  std::string text() const;
};

// The options that the kernel has refused; empty if all were set. A range:
// for (const RefusedOption& option : refused) ...
class TCPIP_EXPORT RefusedOptions {
 public:
  // As those of a std::vector.
  bool empty() const noexcept { return count_ == 0; }
  std::size_t size() const noexcept { return count_; }
  const RefusedOption* begin() const noexcept { return options_.data(); }
  const RefusedOption* end() const noexcept { return begin() + count_; }
  // One more; dropped if there are more than all options.
  void add(RefusedOption option) noexcept {
    if (count_ < options_.size()) options_[count_++] = option;
  }

 private:
  std::array<RefusedOption, 8> options_;  // as many as there are
  std::size_t count_ = 0;
};

class TCPIP_EXPORT Socket {
 public:
  // Takes over a connected stream socket (TCP or Unix-domain), in blocking or
  // non-blocking mode. SO_RCVTIMEO must not be set, since receive() uses it;
  // all other options stay as they are, but for SO_OOBINLINE of a Unix-domain
  // socket: an out-of-band byte then stays among the others. (In TCP such a
  // byte is not part of the stream, and is skipped.) Throws Error if `fd` is
  // not a stream socket, is a listening one, or is not connected; `fd` is then
  // closed.
  explicit Socket(UniqueFd fd);
  // The same without a question to the kernel.
  explicit Socket(internal::ConnectedFd connected);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // Nothing below throws; the result says how the call ended.

  // Receives at least one byte, at most `size`. kOk with a count of 0 is the
  // end of the stream. kError with the errno of lost_error() if the connection
  // is lost. kError with another errno if the call was not possible (ENOMEM):
  // nothing was received, and the connection lives.
  //
  // This and the waits below use an eventfd, so that stop and close() wake them
  // at once; it is made at the first wait. While none can be made (EMFILE), or
  // poll() fails, they look for stop, close() and bytes every 10 ms instead. So
  // a connection has at most three descriptors, and works with one.
  //
  // This is the one call of the library that may block in recv() instead of
  // poll(): if `wait` has no stop token, and either no deadline or one that is
  // at least 50 ms away. A plain recv() with SO_RCVTIMEO makes a local round
  // trip an eighth faster.
  IoResult receive(void* data, std::size_t size, const Wait& wait) noexcept;
  // The same without waiting, also after close(): kTimeout if there is nothing
  // to receive.
  IoResult receive_now(void* data, std::size_t size) noexcept;
  // Bytes that are to be sent.
  struct Piece {
    const void* data;  // where they are
    std::size_t size;  // how many they are
  };
  // Sends what the kernel takes without blocking; kTimeout if it takes nothing.
  // After kError with EPIPE, lost_error() says what has broken the connection,
  // if that is known: the kernel reports a reset to one call only.
  IoResult send_now(const Piece& piece) noexcept;
  IoResult send_now(std::span<const Piece> pieces) noexcept;
  // kOk when send_now() will probably not report kTimeout, or when it will
  // report an error. Never kError.
  IoResult wait_sendable(const Wait& wait) noexcept;
  // kOk when receive() will return at once, with bytes, the end of the stream
  // or an error. Never kError.
  IoResult wait_receivable(const Wait& wait) noexcept;

  // Sends FIN behind what was sent; receiving goes on.
  std::error_code shutdown_send() noexcept;
  // Marks the socket closed, sends FIN, wakes every blocked call, which then
  // returns kClosed. Idempotent. If a receive() is blocked in recv(), only a
  // shutdown for receiving too can wake that call; a peer that goes on sending
  // is then reset, and loses those of our last bytes that it does not have yet.
  // Otherwise linger() prevents the reset. For kWhenAcknowledged linger() or
  // linger_step() must follow: these wake such a call, once the peer has
  // acknowledged our last bytes, or after 0.1 s.
  enum class Wake { kNow, kWhenAcknowledged };
  void close(Wake wake = Wake::kNow) noexcept;
  // True after close(), and in a child that fork() has made.
  bool is_closed() const noexcept {
    return closed_.load() || !process_.is_here();
  }
  // For a child that fork() has made: closes the child's copy of the
  // descriptor, at once.
  void close_descriptor() noexcept { fd_.reset(); }

  // After close(): reads and drops what the peer still sends, until the peer
  // has acknowledged all our bytes or has closed too, or the deadline passes.
  // Without it, bytes that arrive after the descriptor is closed would make
  // the kernel reset the connection, and the peer would lose our last bytes.
  void linger(Deadline deadline) noexcept;
  // What a step of lingering has found.
  enum class LingerStep {
    kOver,     // the peer has closed too
    kNothing,  // nothing had come
    kDropped,  // something had
    kWaiting   // a receive() is still blocked: see close()
  };
  // Reads and drops what has come, without blocking.
  LingerStep linger_step() noexcept;
  // Wakes a receive() that close() has left blocked: for who lingers no longer.
  void wake_receive() noexcept;

  // How many bytes have come from the peer in all, `received` of which
  // receive() has returned before this call.
  std::uint64_t arrived(std::uint64_t received) const noexcept;
  // How long ago the last bytes came from the peer, or the connection was made.
  // Nothing where the kernel does not tell, as of a Unix-domain socket.
  std::optional<std::chrono::milliseconds> silent_for() const noexcept;
  // How many bytes receive() would find now.
  std::size_t receivable() const noexcept;
  // How many sent bytes the peer has not acknowledged.
  std::size_t unacknowledged() const noexcept;
  // True if the peer has sent FIN or a reset, even behind unread bytes.
  bool peer_hung_up() const noexcept;
  // True if the next receive() will find the end of the stream or an error, or
  // after close(). The error is kept for receive().
  bool at_end() noexcept;
  // The errno that ended the connection, if a call has met it; else 0.
  int lost_error() const noexcept { return lost_error_.load(); }

  // Sets the options, except those that are 0. Goes on behind an option that
  // the kernel refuses; the result has all of these. On a connection that is
  // already lost the kernel refuses every option.
  RefusedOptions set_options(const SocketOptions& options) noexcept;

  // The two ends of the connection.
  const Address& local_address() const noexcept { return local_; }
  const Address& peer_address() const noexcept { return peer_; }
  // For setsockopt() and the like. Owned by the Socket; do not close it.
  int native_handle() const noexcept { return fd_.get(); }

 private:
  IoResult receive_plain(void* data, std::size_t size,
                         std::chrono::microseconds timeout) noexcept;
  bool set_receive_timeout(std::chrono::microseconds timeout) noexcept;
  IoResult receive_waiting(void* data, std::size_t size,
                           const Wait& wait) noexcept;
  template <class Send>
  IoResult send_with(Send send) noexcept;
  IoResult pause(int refused, const Wait& wait,
                 internal::Waker& waker) noexcept;
  bool was_connected() noexcept;
  bool has_something_to_receive() noexcept;
  int error_of_another_call() const noexcept;
  void await_error_of_another_call() const noexcept;
  IoResult ended() const noexcept;
  IoResult failed(int error_number) noexcept;
  IoResult wait_for(short events, const Wait& wait,
                    internal::Waker& waker) noexcept;

  const internal::ProcessMark process_;
  UniqueFd fd_;
  Address local_;
  Address peer_;
  std::atomic<bool> closed_{false};
  // True while a thread is in recv() without a poll: only SHUT_RD wakes it.
  std::atomic<bool> in_plain_receive_{false};
  // close() has left a receive() blocked, and until when. The second is set
  // before the first, and does not change after that.
  std::atomic<bool> wake_pending_{false};
  Deadline wake_at_;
  // The value of SO_RCVTIMEO. Only the receiving thread uses it.
  std::chrono::microseconds receive_timeout_{0};
  // The kernel reports a reset once, to whichever call comes first. This keeps
  // it for the calls in the other direction. While a call may have been given
  // the error and has not stored it yet, may_have_error_ counts it.
  std::atomic<int> lost_error_{0};
  mutable std::atomic<int> may_have_error_{0};
  // Two, so that one wait does not clear the other's signal.
  const std::unique_ptr<internal::Waker> receive_waker_;
  const std::unique_ptr<internal::Waker> send_waker_;
};

}  // namespace tcpip

#endif  // TCPIP_SOCKET_H_
