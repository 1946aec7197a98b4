// Buffered reading from a connection; asyncio's StreamReader, blocking.
//
// What every read has in common:
//  * It takes a Wait for the whole of it. At the deadline it throws
//    TimeoutError, at a stop CancelledError; all bytes that came stay in the
//    reader, and calling again resumes.
//  * Bytes that came before the connection was lost are delivered first. Only a
//    read that needs more fails: with IncompleteReadError at the end of the
//    stream (unless it says otherwise), with ConnectionResetError or another
//    ConnectionError if the connection broke. After close() by this side
//    reads find the end of the stream.
//  * Sizes above PTRDIFF_MAX (a negative number, mostly) and empty separators
//    throw std::invalid_argument.
//
// Threads: one thread at a time reads. A second read while another waits throws
// std::logic_error, as asyncio's RuntimeError; so it does while another is
// under way, short of two that start in the same instant. A StreamWriter of the
// same connection may be used, and closed, from other threads at any time.
#ifndef TCPIP_STREAM_READER_H_
#define TCPIP_STREAM_READER_H_

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
#include "tcpip/wait.h"

namespace tcpip {

class Socket;
namespace internal {
class Receiver;
struct StreamAccess;
}  // namespace internal

class StreamReader {
 public:
  // One separator, or several of which the earliest end counts and, where two
  // end at the same byte, the shortest: {"\r\n", "\n"}.
  using Separators = std::initializer_list<std::string_view>;

  static constexpr std::size_t kDefaultLimit = tcpip::kDefaultLimit;

  // Without a connection: every read throws ConnectionError.
  StreamReader() noexcept;
  // `limit` is the longest message, separator not counted, that read_until and
  // its kin accept. Throws std::invalid_argument if it is 0.
  explicit StreamReader(std::shared_ptr<Socket> socket,
                        std::size_t limit = kDefaultLimit);
  StreamReader(StreamReader&& other) noexcept;
  StreamReader& operator=(StreamReader&& other) noexcept;
  ~StreamReader();

  // At least one byte and at most n, as soon as there are any. Empty only at
  // the end of the stream or if n is 0.
  std::string read(std::size_t n, const Wait& wait = {});
  // Everything until the end of the stream: asyncio's read(-1). Throws
  // LimitOverrunError, all bytes kept, when there are more than `max`.
  std::string read_all(const Wait& wait = {});
  std::string read_all(std::size_t max, const Wait& wait = {});
  // Through "\n". At the end of the stream the unterminated rest, maybe empty:
  // a line cut short by a lost connection looks like a whole one but for its
  // missing "\n". Where that matters use read_until.
  // A line over the limit throws LimitOverrunError and, as in asyncio, is
  // dropped: whole if its end has come, else as far as it has come.
  std::string read_line(const Wait& wait = {});
  // Through the separator. A message over the limit throws LimitOverrunError
  // with the bytes kept: the next call throws again, until skip() or
  // discard_until() has got past them. At the end of the stream what is there
  // is taken out, into IncompleteReadError::partial().
  std::string read_until(std::string_view separator = "\n",
                         const Wait& wait = {});
  std::string read_until(Separators separators, const Wait& wait = {});
  std::string read_until(std::span<const std::string_view> separators,
                         const Wait& wait = {});
  // n bytes; the limit does not matter. At the end of the stream what is there
  // is taken out, into IncompleteReadError::partial().
  std::string read_exactly(std::size_t n, const Wait& wait = {});
  // The same into the caller's memory, which is left untouched on any failure.
  void read_exactly(std::span<std::byte> out, const Wait& wait = {});

  // The same without a copy: the view is into the reader's buffer and valid
  // until the next call of a non-const member.
  std::string_view read_view(std::size_t n, const Wait& wait = {});
  std::string_view read_line_view(const Wait& wait = {});
  std::string_view read_until_view(std::string_view separator = "\n",
                                   const Wait& wait = {});
  std::string_view read_until_view(Separators separators,
                                   const Wait& wait = {});
  std::string_view read_exactly_view(std::size_t n, const Wait& wait = {});

  // The same without waiting: nothing if it is not all there yet. The end of
  // the stream and errors are as with the call of that name.
  std::optional<std::string> try_read(std::size_t n);
  std::optional<std::string> try_read_line();
  std::optional<std::string> try_read_until(std::string_view separator = "\n");
  std::optional<std::string> try_read_until(Separators separators);
  std::optional<std::string> try_read_exactly(std::size_t n);

  // Waits until a read would find something: bytes, the end of the stream, or
  // an error. False at the deadline.
  bool wait_readable(const Wait& wait = {});

  // Drops n bytes, or as many as are buffered; returns how many. Never waits.
  std::size_t skip(std::size_t n);
  // Drops what has come so far and was not read; returns how many bytes. To be
  // rid of replies that nobody waits for any more. Never waits.
  std::size_t discard();
  // Drops everything through the next separator, however far it is; returns
  // how many bytes. What is dropped stays dropped if the call is interrupted;
  // calling again goes on. IncompleteReadError at the end of the stream.
  std::size_t discard_until(std::string_view separator = "\n",
                            const Wait& wait = {});

  // True if the end of the stream has come and everything before it was read.
  // Looks, without waiting, whether it has come. From the reading thread.
  bool at_eof() const noexcept;
  // True if a read has met the end of the stream or an error, be it behind
  // bytes that are still buffered. Does not look.
  bool has_ended() const noexcept;
  // What broke the connection, as far as a read has met it; else no error.
  std::error_code error() const noexcept;
  // How many bytes have come from the kernel so far. From any thread.
  std::uint64_t received() const noexcept;
  // The bytes that came and were not read yet.
  std::size_t buffered() const noexcept;
  std::size_t limit() const noexcept;

  // For up to this long a read tries again and again, giving way to other
  // threads in between, before it blocks. Where each end has a core of its own,
  // 20 to 50 us make a round trip several times faster, at the price of CPU
  // time. 0, the default, never tries twice.
  void set_spin(std::chrono::microseconds spin) noexcept;

 private:
  friend struct internal::StreamAccess;

  internal::Receiver& connected(const char* operation, const Wait& wait) const {
    if (receiver_ == nullptr) throw_not_connected(operation, wait);
    return *receiver_;
  }
  [[noreturn]] static void throw_not_connected(const char* operation,
                                               const Wait& wait);

  std::unique_ptr<internal::Receiver> receiver_;  // null without a connection
};

}  // namespace tcpip

#endif  // TCPIP_STREAM_READER_H_
