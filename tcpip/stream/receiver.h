// What a StreamReader does. StreamReader is the public face of a Receiver;
// ReadWriter uses the Receiver directly, so that errors name the member that
// the program has called.
//
// stream_reader.h says what each operation does. Each operation takes its name
// in errors.
//
// Threads: one thread at a time calls the operations; a second one throws
// std::logic_error, as sole_reader.h says. received(), consumed(), unread(),
// is_reading(), has_ended() and error() may be called from any thread.
#ifndef TCPIP_STREAM_RECEIVER_H_
#define TCPIP_STREAM_RECEIVER_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "tcpip/process_mark.h"
#include "tcpip/socket.h"
#include "tcpip/stream/call.h"
#include "tcpip/stream/meter.h"
#include "tcpip/stream/receive_buffer.h"
#include "tcpip/stream/separator.h"
#include "tcpip/stream/sole_reader.h"

namespace tcpip::internal {

// Told when an operation has ended that may have been the last one on its
// connection.
class ReadObserver {
 public:
  // Called in the reading thread at the end of an operation, also of one that
  // is about to throw, in two cases:
  //  * lost: the operation throws a ConnectionError (IncompleteReadError is
  //    one).
  //  * not lost: nothing is buffered any more, and the end of the stream is to
  //    be expected: a read has met it, or expect_end() was called.
  // Not called if the operation was refused (a second reader, a bad argument).
  //
  // When it is called, is_reading() is already false, and a thread that sees
  // this sees everything that the operation did.
  virtual void read_ended(bool lost) noexcept = 0;

 protected:
  ~ReadObserver() = default;
};

class Receiver {
 public:
  // The socket is not null, the limit not 0.
  Receiver(std::shared_ptr<Socket> socket, std::size_t limit, Meter meter = {});
  ~Receiver();
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  // To be called before the first operation. The observer is told as long as
  // it lives.
  void set_observer(std::weak_ptr<ReadObserver> observer) noexcept {
    observer_ = std::move(observer);
    has_observer_ = true;
  }

  // --- Operations ---

  // Views are valid until the next operation. An operation that throws
  // std::bad_alloc has taken nothing.
  std::string_view read_view(const Call& call, std::size_t n);
  std::string_view read_line_view(const Call& call);
  std::string_view read_until_view(const Call& call,
                                   std::string_view separator);
  std::string_view read_until_view(const Call& call, SeparatorSpan separators);
  std::string_view read_exactly_view(const Call& call, std::size_t n);

  std::string read(const Call& call, std::size_t n);
  std::string read_all(const Call& call, std::size_t max);
  std::string read_line(const Call& call);
  std::string read_until(const Call& call, std::string_view separator);
  std::string read_until(const Call& call, SeparatorSpan separators);
  std::string read_exactly(const Call& call, std::size_t n);
  void read_exactly(const Call& call, std::span<std::byte> out);
  std::string read_until_silence(const Call& call,
                                 std::chrono::microseconds silence,
                                 std::size_t max);

  std::optional<std::string> try_read(const char* operation, std::size_t n);
  std::optional<std::string> try_read_line(const char* operation);
  std::optional<std::string> try_read_until(const char* operation,
                                            std::string_view separator);
  std::optional<std::string> try_read_until(const char* operation,
                                            SeparatorSpan separators);
  std::optional<std::string> try_read_exactly(const char* operation,
                                              std::size_t n);
  // False, with `out` untouched, if not all bytes have come yet.
  bool try_read_exactly(const char* operation, std::span<std::byte> out);
  std::optional<std::string> try_read_until_silence(
      const char* operation, std::chrono::microseconds silence,
      std::size_t max);

  // What becomes of a message, if it is not handed out as it is.
  class Consumer {
   public:
    // Called with a message before it is taken. If this throws std::bad_alloc,
    // the message stays; if it throws anything else, the message is taken all
    // the same. Must not call the Receiver.
    virtual void consume(std::string_view message) = 0;

   protected:
    ~Consumer() = default;
  };
  void read_until(const Call& call, std::string_view separator,
                  Consumer& consumer);
  // False if not all of the message has come yet.
  bool try_read_until(const char* operation, std::string_view separator,
                      Consumer& consumer);

  bool wait_readable(const Call& call);
  std::size_t skip(const char* operation, std::size_t n);
  std::size_t discard(const char* operation);
  std::size_t discard_until(const Call& call, std::string_view separator);

  // --- From the reading thread ---

  bool at_eof() const noexcept;
  std::size_t buffered() const noexcept { return buffer_.size(); }
  std::size_t limit() const noexcept { return limit_; }
  void set_spin(std::chrono::microseconds spin) noexcept { spin_ = spin; }

  // --- From any thread ---

  // How many bytes have come from the kernel, and how many of them operations
  // have taken. Bytes count as consumed when an operation returns them, even as
  // a view. Both numbers only grow.
  std::uint64_t received() const noexcept { return buffer_.received(); }
  std::uint64_t consumed() const noexcept { return buffer_.consumed(); }
  // The difference at some moment during the call.
  std::uint64_t unread() const noexcept {
    // consumed() first: in the other order, bytes that come and are taken in
    // between would make the difference negative.
    const std::uint64_t consumed = this->consumed();
    return received() - consumed;
  }
  // True while an operation is under way. An operation sets this before it
  // takes bytes from the kernel. So a thread that looks at the socket first,
  // then at is_reading(), then at unread(), misses no byte.
  bool is_reading() const noexcept { return sole_reader_.is_reading(); }
  // The peer has gone: from now on the observer is told of each operation that
  // leaves nothing buffered. A thread that calls this, then looks at
  // is_reading(), misses no operation: either it sees false, and all that the
  // operation did; or the observer is told.
  void expect_end() noexcept {
    end_is_expected_.store(true, std::memory_order_seq_cst);
  }
  // True if a read has met the end of the stream or an error.
  bool has_ended() const noexcept {
    return eof_.load(std::memory_order_relaxed) || error_number() != 0;
  }
  // What broke the connection, if a read has met it; else no error.
  std::error_code error() const noexcept {
    return {error_number(), std::generic_category()};
  }

 private:
  class Operation;
  struct Attempt;
  enum class Fill { kData, kEof, kTimeout };
  enum class AtEnd { kThrow, kTakeRest };

  int error_number() const noexcept {
    return error_.load(std::memory_order_relaxed);
  }
  std::string peer() const;
  void tell_observer(bool lost) noexcept;
  void check_stop(const Call& call) const;
  std::size_t value(std::optional<std::size_t> result, const Call& call) {
    if (!result) throw_timeout(call);
    return *result;
  }
  [[noreturn]] void throw_cancelled(const Call& call) const;
  [[noreturn]] void throw_timeout(const Call& call) const;
  std::string_view take(std::size_t n) noexcept;
  std::string_view take_message(std::size_t n) noexcept;
  std::size_t buffered_message(const Call& call,
                               std::string_view separator) const noexcept;
  template <class Consume>
  auto hand_out(std::size_t n, Consume consume);
  Fill fill(Attempt& attempt);
  std::optional<Fill> before_fill(Attempt& attempt);
  Fill nothing_came(const IoResult& result, const Call& call);
  IoResult receive(std::span<char> room, const Attempt& attempt);
  IoResult spin_and_receive(std::span<char> room, const Attempt& attempt);
  bool top_up(const char* operation);

  // These wait until a message is buffered, and return its size; nothing at the
  // deadline. hand_out() then takes it.
  std::optional<std::size_t> some(std::size_t n, Attempt& attempt);
  std::optional<std::size_t> until(SeparatorSpan separators, AtEnd at_end,
                                   Attempt& attempt);
  std::optional<std::size_t> line(Attempt& attempt);
  std::optional<std::size_t> exactly(std::size_t n, Attempt& attempt);
  std::optional<std::size_t> until_silence(std::chrono::microseconds silence,
                                           std::size_t max, const Call& call);

  // The operations, over what they do with a message.
  template <class Consume>
  auto read_with(const Call& call, std::size_t n, Consume consume);
  template <class Consume>
  auto read_line_with(const Call& call, Consume consume);
  template <class Consume>
  auto read_until_with(const Call& call, std::string_view separator,
                       Consume consume);
  template <class Consume>
  auto read_until_with(const Call& call, SeparatorSpan separators,
                       Consume consume);
  std::size_t wait_until(Operation& operation, const Call& call,
                         SeparatorSpan separators);
  template <class Consume>
  auto read_exactly_with(const Call& call, std::size_t n, Consume consume);
  template <class Find, class Consume>
  auto try_with(const char* name, Find find, Consume consume);

  Fill fill_at_end(const Call& call);
  void note_arrival();
  bool is_next_message(Deadline end) const;
  bool drop_rest_of_line(Attempt& attempt);
  std::optional<Match> find(SeparatorSpan separators);
  bool exactly(std::span<std::byte> out, Attempt& attempt);
  bool exactly_direct(std::span<std::byte> out);
  void keep(std::span<const std::byte> bytes);
  [[noreturn]] void throw_incomplete(const Attempt& attempt,
                                     std::optional<std::size_t> expected);
  [[noreturn]] void throw_error(int error_number, const Call& call) const;

  const ProcessMark process_;
  const std::shared_ptr<Socket> socket_;
  const std::size_t limit_;
  const Meter meter_;
  std::weak_ptr<ReadObserver> observer_;
  bool has_observer_ = false;
  std::atomic<bool> end_is_expected_{false};
  std::chrono::microseconds spin_{0};
  SoleReader sole_reader_;

  // Only the reading thread writes these; any thread may read the atomics.
  ReceiveBuffer buffer_;
  SeparatorSearch search_;
  // The next byte is one of a line that read_line() has dropped the beginning
  // of, because the line was too long.
  bool in_dropped_line_ = false;
  // What until_silence() knows of the last byte that was received when
  // buffer_.received() was `position`: the latest time at which it can have
  // come, and which segment brought it.
  struct Arrival {
    std::uint64_t position = 0;
    Deadline::Clock::time_point time = {};
    std::optional<std::uint32_t> segment = {};
  };
  Arrival arrival_;
  std::atomic<bool> eof_{false};
  std::atomic<int> error_{0};
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_RECEIVER_H_
