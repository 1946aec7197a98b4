// Buffered writing to a connection; asyncio's StreamWriter, blocking.
//
// Threads: every member may be called from any thread. The bytes of one call of
// write(), write_lines() or write_from() are contiguous on the wire, in the
// order of the calls.
#ifndef TCPIP_STREAM_WRITER_H_
#define TCPIP_STREAM_WRITER_H_

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tcpip/address.h"
#include "tcpip/constants.h"
#include "tcpip/wait.h"

namespace tcpip {

class Socket;
namespace internal {
class Sender;
struct StreamAccess;
}  // namespace internal

class StreamWriter {
 public:
  // Without a connection: every write throws ConnectionError.
  StreamWriter() noexcept;
  explicit StreamWriter(std::shared_ptr<Socket> socket);
  StreamWriter(StreamWriter&& other) noexcept;
  StreamWriter& operator=(StreamWriter&& other) noexcept;
  // close(). What was not sent by then is dropped: drain() first.
  ~StreamWriter();

  // Sends what the kernel takes at once and keeps the rest for drain(). Never
  // blocks, however much it is. Throws ConnectionError after write_eof() or
  // close(), or if the connection is lost (and then keeps nothing). The first
  // write after the peer has closed still succeeds, as with any TCP socket;
  // only reading tells for sure.
  void write(std::string_view data);
  // All parts, one after the other, as one write; no separators are added.
  void write_lines(std::span<const std::string_view> parts);
  void write_lines(std::initializer_list<std::string_view> parts) {
    write_lines(std::span(parts.begin(), parts.size()));
  }
  // Returns when everything written so far has been handed to the kernel: more
  // than asyncio, which waits for a low-water mark. Throws ConnectionError if
  // the connection is lost or closed with bytes unsent; TimeoutError or
  // CancelledError with the unsent bytes kept: drain() again resumes.
  void drain(const Wait& wait = {});

  // write() and drain() for a program that keeps writing against its deadline:
  // takes the message only when no more than `max_unsent` bytes of earlier ones
  // are unsent, and waits for that first. TimeoutError::queued() and
  // CancelledError::queued() tell whether it was taken.
  void write_and_drain(std::span<const std::string_view> parts,
                       std::size_t max_unsent, const Wait& wait = {});

  // As write_lines(), unless earlier bytes are still unsent: then false, and
  // nothing is taken. For a loop that has a newer message next time.
  bool try_write_lines(std::span<const std::string_view> parts);

  // Half-close: sends FIN once everything written is sent. What is unsent goes
  // with the next drain(). Reading goes on. Idempotent.
  void write_eof();
  bool can_write_eof() const noexcept { return true; }

  // Closes the connection: sends what the kernel takes at once, then FIN, and
  // wakes every thread that is blocked in this writer or its reader. Never
  // blocks. Idempotent. The descriptor is closed when the reader is gone too.
  void close() noexcept;
  // After close(): waits until the peer's kernel has all bytes that were sent,
  // or is done itself, but not beyond the deadline. No reader may be in use.
  void linger(Deadline deadline) noexcept;
  // True after close(), and once the connection is known to be lost.
  bool is_closing() const noexcept;

  // The bytes that drain() would have to send.
  std::size_t unsent() const noexcept;
  Address local_address() const noexcept;
  Address peer_address() const noexcept;
  // The socket's descriptor, for getsockopt() and the like, or -1. Not yours.
  int native_handle() const noexcept;

 private:
  friend struct internal::StreamAccess;

  internal::Sender& connected(const char* operation) const;

  std::shared_ptr<internal::Sender> sender_;  // null without a connection
};

// drain(), close(), and a short wait until the peer's kernel has all of it; the
// counterpart of closing and awaiting wait_closed(). Loss of the connection and
// a deadline are no errors here: the connection is closed either way. Throws
// CancelledError if stopped, and then too it is closed.
void close_stream_writer(StreamWriter& writer, const Wait& wait = kCloseWait);

}  // namespace tcpip

#endif  // TCPIP_STREAM_WRITER_H_
