// Buffered reading from a connection; asyncio's StreamReader, blocking.
//
// What every read has in common:
//  * The Wait covers the whole call. The call throws TimeoutError at the
//    deadline and CancelledError at a stop; all bytes that came stay in the
//    reader, and calling again resumes.
//  * Bytes that came before the connection was lost are delivered first. A read
//    that needs more throws IncompleteReadError at the end of the stream
//    (unless it says otherwise), and ConnectionResetError or another
//    ConnectionError if the connection broke. After close() by this side, reads
//    find the end of the stream.
//  * A read that throws std::bad_alloc has taken nothing: the bytes stay.
//  * A size above PTRDIFF_MAX (usually a negative number) or an empty separator
//    throws std::invalid_argument.
//
// Threads: one thread at a time reads. A second read throws std::logic_error
// (RuntimeError in asyncio) while another is under way. The StreamWriter of the
// same connection may be used, and closed, from other threads at any time.
// pthread_cancel() must not end a thread that is in a call
// of this library, since the call would end the process: request a stop
// instead, or disable cancellation around the call.
#ifndef TCPIP_STREAM_READER_H_
#define TCPIP_STREAM_READER_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/wait.h"

namespace tcpip {

class Socket;
namespace internal {
class Receiver;
struct StreamAccess;
}  // namespace internal

class TCPIP_EXPORT StreamReader {
 public:
  // Several separators, as {"\r\n", "\n"}. The one that ends first counts; if
  // two end at the same byte, the shorter.
  using Separators = std::initializer_list<std::string_view>;

  static constexpr std::size_t kDefaultLimit = tcpip::kDefaultLimit;

  // Without a connection: every read throws ConnectionError.
  StreamReader() noexcept;
  // `limit` is the longest message in bytes, separator not counted, that
  // read_line and read_until accept. Throws std::invalid_argument if it is 0.
  explicit StreamReader(std::shared_ptr<Socket> socket,
                        std::size_t limit = kDefaultLimit);
  StreamReader(StreamReader&& other) noexcept;
  StreamReader& operator=(StreamReader&& other) noexcept;
  ~StreamReader();

  // At least one byte and at most n, as soon as any are there. Empty only at
  // the end of the stream or if n is 0.
  std::string read(std::size_t n, const Wait& wait = {});
  // Everything until the end of the stream: asyncio's read(-1). Throws
  // LimitOverrunError if more than `max` bytes come; all bytes are kept.
  std::string read_all(const Wait& wait = {});
  std::string read_all(std::size_t max, const Wait& wait = {});
  // A line with its "\n". At the end of the stream the rest without "\n", maybe
  // empty: only the missing "\n" shows that the line is cut short. Use
  // read_until() to get an exception then.
  // A line over the limit throws LimitOverrunError once and is dropped whole.
  // What is still to come of it is dropped by the next read_line(); asyncio
  // would take it for a line.
  std::string read_line(const Wait& wait = {});
  // A message with its separator. A message over the limit throws
  // LimitOverrunError, and its bytes are kept: the next call throws again,
  // until skip() or discard_until() has dropped them. At the end of the stream
  // the bytes that came move into IncompleteReadError::partial().
  std::string read_until(std::string_view separator = "\n",
                         const Wait& wait = {});
  std::string read_until(Separators separators, const Wait& wait = {});
  std::string read_until(std::span<const std::string_view> separators,
                         const Wait& wait = {});
  // n bytes, whatever the limit. At the end of the stream the bytes that came
  // move into IncompleteReadError::partial().
  std::string read_exactly(std::size_t n, const Wait& wait = {});
  // The same into the caller's memory, which is untouched after any failure.
  void read_exactly(std::span<std::byte> out, const Wait& wait = {});
  // A message that ends by silence, for an instrument without a terminator: all
  // bytes until none has come for `silence`. Also ends, at once, when `max`
  // bytes have come: then the result has `max` bytes, and the message may go
  // on. At the end of the stream it returns what came, which is empty if that
  // is nothing. The Wait covers the silence too: at its deadline all stays in
  // the reader.
  //
  // `silence` is counted from when the last byte came, not from when it was
  // read (but for Unix-domain sockets). So a message that came a while ago is
  // returned at once, also by try_. The time is known to some 10 ms: if this
  // thread is late, the silence may be taken for so much shorter than it is,
  // never for longer.
  //
  // Two messages that have both come before the reader has taken the first
  // cannot be told apart. If it has taken the first, they can if the second
  // came as one segment. So a loop that uses try_ looks again within `silence`.
  //
  // Throws std::invalid_argument for a `silence` or `max` that is not above 0.
  std::string read_until_silence(std::chrono::microseconds silence,
                                 std::size_t max, const Wait& wait = {});

  // The same without a copy: the view points into the reader's buffer and is
  // valid until the next call of a non-const member.
  std::string_view read_view(std::size_t n, const Wait& wait = {});
  std::string_view read_line_view(const Wait& wait = {});
  std::string_view read_until_view(std::string_view separator = "\n",
                                   const Wait& wait = {});
  std::string_view read_until_view(Separators separators,
                                   const Wait& wait = {});
  std::string_view read_exactly_view(std::size_t n, const Wait& wait = {});

  // The same without waiting: std::nullopt if not all of it has come yet. At
  // the end of the stream and after an error as the call without try_.
  std::optional<std::string> try_read(std::size_t n);
  std::optional<std::string> try_read_line();
  std::optional<std::string> try_read_until(std::string_view separator = "\n");
  std::optional<std::string> try_read_until(Separators separators);
  std::optional<std::string> try_read_exactly(std::size_t n);
  std::optional<std::string> try_read_until_silence(
      std::chrono::microseconds silence, std::size_t max);

  // Waits until a read would find bytes, the end of the stream or an error.
  // False at the deadline.
  bool wait_readable(const Wait& wait = {});

  // Drops n bytes, or all that are buffered if there are fewer; returns how
  // many. Never waits.
  std::size_t skip(std::size_t n);
  // Drops all bytes that have come and were not read, for example replies that
  // nobody waits for any more; returns how many. Never waits.
  std::size_t discard();
  // Drops everything through the next separator, whatever the limit; returns
  // how many bytes. After an interruption, what was dropped stays dropped, and
  // calling again resumes. Throws IncompleteReadError at the end of the stream.
  std::size_t discard_until(std::string_view separator = "\n",
                            const Wait& wait = {});

  // True if the end of the stream has come and everything before it was read.
  // Asks the kernel, without waiting. Only from the reading thread.
  bool at_eof() const noexcept;
  // True if a read has met the end of the stream or an error, even if bytes
  // before it are still buffered. Does not ask the kernel. From any thread.
  bool has_ended() const noexcept;
  // What broke the connection, if a read has met it; else no error. From any
  // thread.
  std::error_code error() const noexcept;
  // How many bytes have come from the kernel so far. From any thread.
  std::uint64_t received() const noexcept;
  // How many bytes have come and were not read yet. Only from the reading
  // thread.
  std::size_t buffered() const noexcept;

  // How many bytes a message may have, as given to the constructor.
  std::size_t limit() const noexcept;

  // How long a read tries again and again, yielding to other threads in
  // between, before it blocks. Deadline, stop and close() end that too. If each
  // end has a core of its own, 20 to 50 us make a round trip several times
  // faster. It costs CPU time: up to so much for each read that finds nothing,
  // so a reader that always spins uses its core all the time. 0, the default: a
  // read tries once.
  void set_spin(std::chrono::microseconds spin) noexcept;

 private:
  friend struct internal::StreamAccess;

  internal::Receiver& connected(const char* operation, const Wait& wait) const {
    if (receiver_ == nullptr) throw_not_connected(operation, wait);
    return *receiver_;
  }
  [[noreturn]] static void throw_not_connected(const char* operation,
                                               const Wait& wait);

  // Null without a connection. Shared with a client's or server's connection,
  // if the reader is of one.
  std::shared_ptr<internal::Receiver> receiver_;
};

}  // namespace tcpip

#endif  // TCPIP_STREAM_READER_H_
