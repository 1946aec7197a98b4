// Buffered writing to a connection; asyncio's StreamWriter, blocking.
//
// Threads: every member may be called from any thread. The bytes of one call of
// write(), write_lines() or write_from() are contiguous on the wire, in the
// order of the calls. pthread_cancel() must not end a thread that is in a call:
// see stream_reader.h.
#ifndef TCPIP_STREAM_WRITER_H_
#define TCPIP_STREAM_WRITER_H_

#include "tcpip/version.h"

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/wait.h"

namespace tcpip {

class Socket;
namespace internal {
class Sender;
struct StreamAccess;
}  // namespace internal

class TCPIP_EXPORT StreamWriter {
 public:
  // Without a connection: every write throws ConnectionError.
  StreamWriter() noexcept;
  explicit StreamWriter(std::shared_ptr<Socket> socket);
  StreamWriter(StreamWriter&& other) noexcept;
  StreamWriter& operator=(StreamWriter&& other) noexcept;
  // close(), which drops what the kernel does not take at once: drain() first.
  // A writer that Connection::writer() gave does not close the connection.
  ~StreamWriter();

  // Sends what the kernel takes at once and queues the rest. Never blocks,
  // whatever the size. Throws ConnectionError after write_eof() or close(), or
  // if the connection is lost; then nothing stays queued. The first write after
  // the peer has closed still succeeds, as with any TCP socket; only a read
  // finds out.
  void write(std::string_view data);
  // Writes all parts as one message; adds no separators.
  void write_lines(std::span<const std::string_view> parts);
  void write_lines(std::initializer_list<std::string_view> parts) {
    write_lines(std::span(parts.begin(), parts.size()));
  }
  void write_lines(std::span<const std::string> parts) {
    write_lines(std::vector<std::string_view>(parts.begin(), parts.end()));
  }
  // Waits until the kernel has all bytes that were written before this call
  // (asyncio waits for a low-water mark only), whatever other threads write
  // meanwhile. Throws ConnectionError if the connection is lost or
  // closed with bytes unsent. After TimeoutError and CancelledError the unsent
  // bytes stay queued: drain() again resumes.
  void drain(const Wait& wait = {});

  // write() and drain() in one: waits for this message and those before it, not
  // for what other threads write meanwhile. First waits until no more than
  // `max_unsent` bytes of the messages before it are unsent, so that a program
  // that goes on after time-outs does not pile up messages.
  // TimeoutError::queued() and CancelledError::queued() tell whether this
  // message is queued. After any other exception it is not: either nothing of
  // it was sent, or the connection is over (std::bad_alloc ends it if the
  // message was queued by then).
  void write_and_drain(std::span<const std::string_view> parts,
                       std::size_t max_unsent, const Wait& wait = {});

  // As write_lines(); but if earlier bytes are still unsent, returns false and
  // takes nothing. For a loop that will have a newer message next time.
  bool try_write_lines(std::span<const std::string_view> parts);
  bool try_write_lines(std::span<const std::string> parts) {
    return try_write_lines(
        std::vector<std::string_view>(parts.begin(), parts.end()));
  }

  // Half-close: sends FIN once everything written is sent, if need be in the
  // next drain(). Reading goes on. A second call does nothing. Throws
  // ConnectionError if close() came first.
  void write_eof();
  bool can_write_eof() const noexcept { return true; }

  // Closes the connection: sends what the kernel takes at once, then FIN, and
  // wakes every thread that is blocked in this writer or its reader. Never
  // blocks. Idempotent. The descriptor is closed when the reader is destroyed
  // too. Returns how many bytes that were written were dropped unsent, here or
  // when the connection was lost: 0 after a drain() that returned.
  std::size_t close() noexcept;
  // After close(): waits until the peer's kernel has acknowledged all sent
  // bytes, the peer has closed too, or the deadline passes. Drops what the peer
  // still sends, so no thread may read meanwhile.
  void linger(Deadline deadline) noexcept;
  // True after close(), and once the connection is known to be lost.
  bool is_closing() const noexcept;

  // How many bytes are queued: drain() would send them.
  std::size_t unsent() const noexcept;

  // Empty without a connection.
  Address local_address() const noexcept;
  Address peer_address() const noexcept;
  // The socket's descriptor, for getsockopt() and the like; -1 without a
  // connection. Owned by the socket; do not close it.
  int native_handle() const noexcept;

 private:
  friend struct internal::StreamAccess;

  internal::Sender& connected(const char* operation) const;

  void let_go() noexcept;

  std::shared_ptr<internal::Sender> sender_;  // null without a connection
  // False for one of several: the connection is a client's or server's.
  bool closes_ = true;
};

// drain(), close() and linger() for kCloseLingerTime at most: the counterpart
// of close() and wait_closed() in asyncio. The connection is closed in every
// case. A lost connection or a passed deadline is not an error here; throws
// CancelledError at a stop. Returns how many bytes were dropped unsent, as
// StreamWriter::close() does.
TCPIP_EXPORT std::size_t close_stream_writer(StreamWriter& writer,
                                             const Wait& wait = kCloseWait);

}  // namespace tcpip

#endif  // TCPIP_STREAM_WRITER_H_
