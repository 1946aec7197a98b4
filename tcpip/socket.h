// One end of a connection.
//
// Threads: one thread at a time receives, one at a time sends; everything else
// may be called from any thread at any time. close() only marks the socket,
// says goodbye to the peer and wakes whoever is blocked. The descriptor is
// closed by the destructor, when the last owner has let go: its number can
// never come to mean another connection under a thread that still uses it.
#ifndef TCPIP_SOCKET_H_
#define TCPIP_SOCKET_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <system_error>

#include "tcpip/address.h"
#include "tcpip/io_result.h"
#include "tcpip/options.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"

namespace tcpip {

namespace internal {
class Waker;
}

// An option that the kernel refuses, or none.
struct RefusedOption {
  std::error_code error = {};  // none: all options were set
  const char* name = "";       // "TCP_NODELAY", for messages
};

class Socket {
 public:
  // Takes over a connected stream socket (TCP or Unix-domain), in blocking or
  // non-blocking mode, and leaves its options as they are, but for SO_RCVTIMEO,
  // which must not be set. Throws Error if it is none; the descriptor is then
  // closed.
  explicit Socket(UniqueFd fd);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // Nothing below throws: what the system says is in the result.

  // Receives at least one byte, at most `size`; kOk with a count of 0 is the
  // end of the stream. kError with the errno of lost_error() if the connection
  // is lost; with another one if only the wait or the call was not possible
  // (EMFILE for its eventfd, ENOMEM): nothing was received, the connection
  // lives.
  //
  // This is the one call of the library that may block in recv() and not in
  // poll(): when `wait` has no stop token, and no deadline or one that is at
  // least 50 ms away. A plain recv(), with a time-out that the kernel keeps,
  // costs an eighth of a local round trip less.
  IoResult receive(void* data, std::size_t size, const Wait& wait) noexcept;
  // The same without waiting, also after close(): kTimeout if there is nothing.
  IoResult receive_now(void* data, std::size_t size) noexcept;
  // Sends what the kernel takes without blocking: kTimeout if nothing.
  struct Piece {
    const void* data;
    std::size_t size;
  };
  IoResult send_now(std::span<const Piece> pieces) noexcept;
  // kOk when send_now() will not report kTimeout at once, or when it will
  // report an error. kError as of receive(): the wait is not possible.
  IoResult wait_sendable(const Wait& wait) noexcept;
  // kOk when receive() would return at once, with bytes, end or error. kError
  // likewise.
  IoResult wait_receivable(const Wait& wait) noexcept;

  // Sends FIN after what was sent; receiving goes on.
  std::error_code shutdown_send() noexcept;
  // Marks the socket closed, sends FIN, wakes every blocked call, which then
  // returns kClosed. Idempotent. A peer that goes on sending meets a reset
  // behind our last bytes if a receive() was blocked in recv(), as that one
  // cannot be woken otherwise; else see linger().
  void close() noexcept;
  bool is_closed() const noexcept { return closed_.load(); }

  // After close(): reads and drops what the peer still sends, for as long as
  // the peer lacks some of our bytes and the deadline has not passed. Closing
  // the descriptor while bytes arrive would reset the connection, and the peer
  // would lose our last ones.
  void linger(Deadline deadline) noexcept;
  // One step of that without blocking: false when the peer is done as well.
  bool linger_step() noexcept;

  // The bytes that receive() would find now; and those not yet acknowledged.
  std::size_t receivable() const noexcept;
  std::size_t unacknowledged() const noexcept;
  // True if the peer has sent its FIN or a reset, even behind unread bytes.
  bool peer_hung_up() const noexcept;
  // True if the peer's end of stream is the next thing to receive. An error
  // found on the way is kept for receive().
  bool at_end() noexcept;
  // The errno that ended the connection, as far as a call has met it; or 0.
  int lost_error() const noexcept { return lost_error_.load(); }

  // Stops at the first option that is refused.
  RefusedOption set_options(const SocketOptions& options) noexcept;

  const Address& local_address() const noexcept { return local_; }
  const Address& peer_address() const noexcept { return peer_; }
  // For setsockopt() and the like. Owned by the Socket; do not close it.
  int native_handle() const noexcept { return fd_.get(); }

 private:
  IoResult receive_plain(void* data, std::size_t size,
                         std::chrono::microseconds timeout) noexcept;
  IoResult ended() const noexcept;
  IoResult failed(int error_number) noexcept;
  IoResult wait_for(short events, const Wait& wait,
                    internal::Waker& waker) noexcept;

  const UniqueFd fd_;
  Address local_;
  Address peer_;
  std::atomic<bool> closed_{false};
  // True while a thread is in recv() without a poll: only SHUT_RD wakes it.
  std::atomic<bool> in_plain_receive_{false};
  // SO_RCVTIMEO, as it is set; the receiving thread's.
  std::chrono::microseconds receive_timeout_{0};
  // The kernel reports a reset once, to whichever call comes first; the other
  // direction must hear of it too. A call that may have been given the error
  // and has not stored it yet is counted in may_have_error_.
  std::atomic<int> lost_error_{0};
  mutable std::atomic<int> may_have_error_{0};
  // Separate, so that one wait does not take the other's signal.
  const std::unique_ptr<internal::Waker> receive_waker_;
  const std::unique_ptr<internal::Waker> send_waker_;
};

}  // namespace tcpip

#endif  // TCPIP_SOCKET_H_
