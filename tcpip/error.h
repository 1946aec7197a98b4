// The exceptions that this library throws.
//
// Everything that goes wrong on the way is an Error, a std::system_error whose
// code() keeps the cause (an errno where the kernel gave one) and whose what()
// says operation, peer and cause. Names follow asyncio and PEP 3151.
//
//   Error                        any failure: address in use, too many files...
//   |-- ConnectionError          the connection is lost, or there is none
//   |   |-- ConnectionResetError
//   |   |-- ConnectionRefusedError
//   |   |-- ConnectionAbortedError
//   |   |-- BrokenPipeError
//   |   `-- IncompleteReadError  the peer closed in the middle of a message
//   |-- TimeoutError             the deadline passed; the connection lives
//   |-- LimitOverrunError        the message is too long; the connection lives
//   |-- DecodeError              the message is not text; the connection lives
//   |-- UnexpectedHeartbeatError a heartbeat, where none are expected; likewise
//   |-- JsonDecodeError (json.h) the message is not JSON; likewise
//   `-- ResolveError             the host name has no address
//   CancelledError               a stop was requested; not an Error, so that an
//                                orderly stop is not handled as a fault
//
// Misuse is reported by the standard classes: std::invalid_argument for a bad
// argument (nothing was sent or received), std::logic_error for a call that
// the program should not have made (two readers at once, start() twice).
//
// Threads: exceptions are values; nothing here is shared.
#ifndef TCPIP_ERROR_H_
#define TCPIP_ERROR_H_

#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace tcpip {

// Causes for which the kernel has no errno.
enum class Errc {
  kIncompleteRead = 1,       // end of stream in the middle of a message
  kLimitOverrun = 2,         // no separator within the reader's limit
  kDecode = 3,               // bytes that are no text in the encoding
  kSelfConnect = 4,          // the connection's two ends are the same socket
  kUnexpectedHeartbeat = 5,  // a heartbeat where none are expected
  kJson = 6                  // a text that is not JSON
};

// The category of Errc.
const std::error_category& tcpip_category() noexcept;
// The category of getaddrinfo's error numbers.
const std::error_category& resolve_category() noexcept;
std::error_code make_error_code(Errc code) noexcept;

class Error : public std::system_error {
 public:
  // `operation` names what was tried ("read_until", "bind"), `peer` the other
  // end or the address concerned; empty where there is none. `detail`, if
  // given, stands in what() in place of the code's own message.
  Error(std::error_code code, std::string_view operation,
        std::string_view peer = {}, std::string_view detail = {});

  // Copied, never moved from: what() of a moved-from exception would have
  // nothing to say. So it is in the whole family.
  Error(const Error&) = default;
  Error& operator=(const Error&) = default;
  ~Error() override = default;

  const char* what() const noexcept override;
  const std::string& operation() const noexcept;
  const std::string& peer() const noexcept;

 private:
  struct Text;
  std::shared_ptr<const Text> text_;  // shared: copying must not throw
};

class ConnectionError : public Error {
 public:
  using Error::Error;
};
class ConnectionResetError final : public ConnectionError {
 public:
  using ConnectionError::ConnectionError;
};
class ConnectionRefusedError final : public ConnectionError {
 public:
  using ConnectionError::ConnectionError;
};
class ConnectionAbortedError final : public ConnectionError {
 public:
  using ConnectionError::ConnectionError;
};
class BrokenPipeError final : public ConnectionError {
 public:
  using ConnectionError::ConnectionError;
};

// The end of the stream came before the message was complete. The bytes that
// did come were taken from the reader and are in partial(), as in asyncio.
class IncompleteReadError final : public ConnectionError {
 public:
  IncompleteReadError(std::string_view operation, std::string_view peer,
                      std::string partial, std::optional<std::size_t> expected);
  IncompleteReadError(const IncompleteReadError&) = default;
  IncompleteReadError& operator=(const IncompleteReadError&) = default;
  ~IncompleteReadError() override = default;

  const std::string& partial() const noexcept { return *partial_; }
  // The number of bytes asked for; nothing if that is unknown (read_until).
  std::optional<std::size_t> expected() const noexcept { return expected_; }

 private:
  std::shared_ptr<const std::string> partial_;
  std::optional<std::size_t> expected_;
};

// The deadline passed, or the kernel gave up trying to connect.
//
// After a read, all bytes that came stay in the reader: call again to resume.
// After a write, see queued().
class TimeoutError final : public Error {
 public:
  TimeoutError(std::string_view operation, std::string_view peer = {},
               bool queued = false);
  // True if this was a write whose bytes are kept by the writer: drain() sends
  // the rest of them, and writing them again would send them twice. False if
  // nothing of the message was taken.
  bool queued() const noexcept { return queued_; }

 private:
  bool queued_;
};

// No separator within the limit. The bytes stay in the reader, except after
// read_line (see there); skip(consumed()) or discard_until() gets past them.
class LimitOverrunError final : public Error {
 public:
  LimitOverrunError(std::string_view operation, std::string_view peer,
                    std::string_view detail, std::size_t consumed);
  // The number of bytes that can be dropped without losing a separator, as in
  // asyncio: the separator's index if it was found, else the bytes searched.
  std::size_t consumed() const noexcept { return consumed_; }

 private:
  std::size_t consumed_;
};

// A message that is not text in the connection's encoding. Exactly that message
// was consumed; the next read starts at the next one.
class DecodeError final : public Error {
 public:
  // `position` is the index in `data` of the first byte that is wrong.
  DecodeError(std::string_view operation, std::string_view peer,
              std::string data, std::size_t position);
  DecodeError(const DecodeError&) = default;
  DecodeError& operator=(const DecodeError&) = default;
  ~DecodeError() override = default;

  const std::string& data() const noexcept { return *data_; }
  std::size_t position() const noexcept { return position_; }

 private:
  std::shared_ptr<const std::string> data_;
  std::size_t position_;
};

// The peer sends heartbeats and this side was not told to expect them. That
// line was consumed; the next read starts at the next message.
class UnexpectedHeartbeatError final : public Error {
 public:
  explicit UnexpectedHeartbeatError(std::string_view operation,
                                    std::string_view peer = {});
};

// getaddrinfo() knows no address for the host.
class ResolveError final : public Error {
 public:
  using Error::Error;
};

// The stop_token of the call was triggered. Nothing is lost: what TimeoutError
// says of the reader and the writer holds here too.
class CancelledError final : public std::exception {
 public:
  explicit CancelledError(std::string_view operation,
                          std::string_view peer = {}, bool queued = false);
  CancelledError(const CancelledError&) = default;
  CancelledError& operator=(const CancelledError&) = default;
  ~CancelledError() override = default;

  const char* what() const noexcept override { return text_->c_str(); }
  bool queued() const noexcept { return queued_; }

 private:
  std::shared_ptr<const std::string> text_;
  bool queued_;
};

// Throws the class of this family that fits `error_number`, an errno of an
// operation on a connection: ECONNRESET gives ConnectionResetError, EPIPE
// BrokenPipeError, and so on. What says that the peer is no longer there
// (ETIMEDOUT from keepalive, EHOSTUNREACH, ENETDOWN...) gives ConnectionError.
[[noreturn]] void throw_connection_error(int error_number,
                                         std::string_view operation,
                                         std::string_view peer);

// Throws for an errno of something that is not (yet) a connection: an Error,
// but ConnectionRefusedError and its siblings, and TimeoutError, where those
// are what happened.
[[noreturn]] void throw_os_error(int error_number, std::string_view operation,
                                 std::string_view peer = {},
                                 std::string_view detail = {});

}  // namespace tcpip

template <>
struct std::is_error_code_enum<tcpip::Errc> : std::true_type {};

#endif  // TCPIP_ERROR_H_
