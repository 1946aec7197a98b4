// The exceptions that this library throws.
//
// Every failure is an Error: a std::system_error whose code() is the cause (an
// errno if the kernel gave one) and whose what() names operation, peer and
// cause. The names are those of asyncio and PEP 3151.
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
//   |-- UnexpectedHeartbeatError a heartbeat came, but heartbeats are not
//   |                            expected; the connection lives
//   |-- JsonDecodeError (json.h) the message is not JSON; the connection lives
//   |-- ThreadStartError (thread_hook.h) a start hook has refused a thread
//   `-- ResolveError             the host name has no address
//   CancelledError               a stop was requested; not an Error, so that an
//                                orderly stop is not handled as a fault
//
// Misuse throws the standard classes: std::invalid_argument for a bad argument
// (nothing was sent or received), std::logic_error for a call that the program
// must not make (two readers at once, start() twice).
//
// Threads: exceptions are values; nothing here is shared.
#ifndef TCPIP_ERROR_H_
#define TCPIP_ERROR_H_

#include "tcpip/version.h"

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
  kDecode = 3,               // bytes that are not text in the encoding
  kSelfConnect = 4,          // the connection's two ends are the same socket
  kUnexpectedHeartbeat = 5,  // a heartbeat, but heartbeats are not expected
  kJson = 6                  // a text that is not JSON
};

// The category of Errc.
TCPIP_EXPORT const std::error_category& tcpip_category() noexcept;
// The category of getaddrinfo's error numbers.
TCPIP_EXPORT const std::error_category& resolve_category() noexcept;
// In the category of Errc.
TCPIP_EXPORT std::error_code make_error_code(Errc code) noexcept;

// Any failure. Its code() is the cause.
class TCPIP_EXPORT Error : public std::system_error {
 public:
  // `operation` names what was tried ("read_until", "bind"). `peer` is the
  // other end, or the address that was used; empty if there is none. If
  // `detail` is not empty, what() has it instead of the code's own message.
  Error(std::error_code code, std::string_view operation,
        std::string_view peer = {}, std::string_view detail = {});

  // Copied, never moved, like every class here: what() of a moved-from
  // exception would be empty.
  Error(const Error&) = default;
  Error& operator=(const Error&) = default;
  ~Error() override = default;

  // "read_until [10.0.0.7:4000]: timed out": operation, peer and cause.
  const char* what() const noexcept override;
  const std::string& operation() const noexcept;  // the call that has failed
  const std::string& peer() const noexcept;       // may be empty

 private:
  struct Text;
  std::shared_ptr<const Text> text_;  // shared: copying must not throw
};

// The connection is lost, or there is none.
class TCPIP_EXPORT ConnectionError : public Error {
 public:
  using Error::Error;
};
// The peer, or the kernel, has reset the connection.
class TCPIP_EXPORT ConnectionResetError final : public ConnectionError {
 public:
  using ConnectionError::ConnectionError;
};
// Nobody listens there.
class TCPIP_EXPORT ConnectionRefusedError final : public ConnectionError {
 public:
  using ConnectionError::ConnectionError;
};
// This machine has given the connection up.
class TCPIP_EXPORT ConnectionAbortedError final : public ConnectionError {
 public:
  using ConnectionError::ConnectionError;
};
// A write to a connection that can take no more.
class TCPIP_EXPORT BrokenPipeError final : public ConnectionError {
 public:
  using ConnectionError::ConnectionError;
};

// The stream ended before the message was complete. The bytes that came are
// in partial() and no longer in the reader, as in asyncio.
class TCPIP_EXPORT IncompleteReadError final : public ConnectionError {
 public:
  // `expected` is empty if nobody knows how long the message is.
  IncompleteReadError(std::string_view operation, std::string_view peer,
                      std::string partial, std::optional<std::size_t> expected);
  IncompleteReadError(const IncompleteReadError&) = default;
  IncompleteReadError& operator=(const IncompleteReadError&) = default;
  ~IncompleteReadError() override = default;

  // What came of the message.
  const std::string& partial() const noexcept { return *partial_; }
  // The number of bytes asked for; std::nullopt if that is unknown
  // (read_until).
  std::optional<std::size_t> expected() const noexcept { return expected_; }

 private:
  std::shared_ptr<const std::string> partial_;
  std::optional<std::size_t> expected_;
};

// The deadline passed, or the kernel gave up trying to connect.
//
// After a read, all bytes that came stay in the reader: call again to resume.
// After a write, queued() says what happened to the message.
class TCPIP_EXPORT TimeoutError final : public Error {
 public:
  // If `detail` is not empty, what() has it behind "timed out".
  TimeoutError(std::string_view operation, std::string_view peer = {},
               bool queued = false, std::string_view detail = {});
  // True if the writer has queued the message: drain() sends the rest of it,
  // and writing it again would send it twice. False if the writer has taken
  // nothing of the message. False for all other operations.
  bool queued() const noexcept { return queued_; }

 private:
  bool queued_;
};

// No separator within the limit. The bytes stay in the reader, except after
// read_line (see there): drop them with skip(consumed()) or discard_until().
class TCPIP_EXPORT LimitOverrunError final : public Error {
 public:
  // `detail` says which limit; for `consumed` see below.
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
class TCPIP_EXPORT DecodeError final : public Error {
 public:
  // `data` is the message, `position` the index in it of the first wrong byte.
  DecodeError(std::string_view operation, std::string_view peer,
              std::string data, std::size_t position);
  DecodeError(const DecodeError&) = default;
  DecodeError& operator=(const DecodeError&) = default;
  ~DecodeError() override = default;

  // The message; and the index in it of the first byte that is wrong.
  const std::string& data() const noexcept { return *data_; }
  std::size_t position() const noexcept { return position_; }

 private:
  std::shared_ptr<const std::string> data_;
  std::size_t position_;
};

// The peer has sent a heartbeat, but HeartbeatOptions::expect is false. Exactly
// the heartbeat was consumed; the next read starts at the next message.
class TCPIP_EXPORT UnexpectedHeartbeatError final : public Error {
 public:
  // As Error's.
  explicit UnexpectedHeartbeatError(std::string_view operation,
                                    std::string_view peer = {});
};

// getaddrinfo() knows no address for the host.
class TCPIP_EXPORT ResolveError final : public Error {
 public:
  using Error::Error;
};

// The stop of the call was requested. Reader and writer are left as after
// TimeoutError.
class TCPIP_EXPORT CancelledError final : public std::exception {
 public:
  // As TimeoutError's.
  explicit CancelledError(std::string_view operation,
                          std::string_view peer = {}, bool queued = false);
  CancelledError(const CancelledError&) = default;
  CancelledError& operator=(const CancelledError&) = default;
  ~CancelledError() override = default;

  // As Error::what().
  const char* what() const noexcept override { return text_->c_str(); }
  // As TimeoutError::queued().
  bool queued() const noexcept { return queued_; }

 private:
  std::shared_ptr<const std::string> text_;
  bool queued_;
};

// Throws the class that fits `error_number`, an errno of an operation on a
// connection: ConnectionResetError for ECONNRESET, BrokenPipeError for EPIPE,
// and so on; ConnectionError if the peer is unreachable (ETIMEDOUT from
// keepalive, EHOSTUNREACH, ENETDOWN...); Error if this machine lacks memory or
// descriptors.
[[noreturn]] TCPIP_EXPORT void throw_connection_error(
    int error_number, std::string_view operation, std::string_view peer);

// Throws for an errno of an operation without a connection, or of connecting:
// ConnectionRefusedError and its siblings, or TimeoutError, if the errno says
// so; else Error.
[[noreturn]] TCPIP_EXPORT void throw_os_error(int error_number,
                                              std::string_view operation,
                                              std::string_view peer = {},
                                              std::string_view detail = {});

}  // namespace tcpip

template <>
struct std::is_error_code_enum<tcpip::Errc> : std::true_type {};

#endif  // TCPIP_ERROR_H_
