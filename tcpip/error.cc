#include "tcpip/error.h"

#include <fmt/format.h>
#include <netdb.h>

#include <cerrno>
#include <utility>

namespace tcpip {
namespace {

class TcpipCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "tcpip"; }
  std::string message(int value) const override {
    switch (static_cast<Errc>(value)) {
      case Errc::kIncompleteRead:
        return "end of stream in the middle of a message";
      case Errc::kLimitOverrun:
        return "no separator within the limit";
      case Errc::kDecode:
        return "bytes that are not text in this encoding";
      case Errc::kSelfConnect:
        return "connected to itself";
      case Errc::kUnexpectedHeartbeat:
        return "a heartbeat, but heartbeats are not expected";
      case Errc::kJson:
        return "a text that is not JSON";
    }
    return fmt::format("unknown error {}", value);
  }
};

class ResolveCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "getaddrinfo"; }
  std::string message(int value) const override {
    return ::gai_strerror(value);
  }
};

// What an operator reads when the connection ends in the middle of a message.
std::string describe_incomplete(std::size_t count,
                                std::optional<std::size_t> expected) {
  if (expected) {
    return fmt::format("the connection was closed after {} of {} bytes", count,
                       *expected);
  }
  if (count == 0) return "the connection was closed before a message came";
  return fmt::format(
      "the connection was closed in the middle of a message, after {} byte{}",
      count, count == 1 ? "" : "s");
}

std::string describe(std::string_view operation, std::string_view peer,
                     std::string_view cause) {
  if (peer.empty()) return fmt::format("{}: {}", operation, cause);
  return fmt::format("{} [{}]: {}", operation, peer, cause);
}

}  // namespace

const std::error_category& tcpip_category() noexcept {
  static const TcpipCategory category;
  return category;
}

const std::error_category& resolve_category() noexcept {
  static const ResolveCategory category;
  return category;
}

std::error_code make_error_code(Errc code) noexcept {
  return {static_cast<int>(code), tcpip_category()};
}

struct Error::Text {
  std::string operation;
  std::string peer;
  std::string what;
};

Error::Error(std::error_code code, std::string_view operation,
             std::string_view peer, std::string_view detail)
    : std::system_error(code),
      text_(std::make_shared<const Text>(Text{
          std::string(operation), std::string(peer),
          describe(operation, peer,
                   detail.empty() ? code.message() : std::string(detail))})) {}

const char* Error::what() const noexcept { return text_->what.c_str(); }
const std::string& Error::operation() const noexcept {
  return text_->operation;
}
const std::string& Error::peer() const noexcept { return text_->peer; }

IncompleteReadError::IncompleteReadError(std::string_view operation,
                                         std::string_view peer,
                                         std::string partial,
                                         std::optional<std::size_t> expected)
    : ConnectionError(Errc::kIncompleteRead, operation, peer,
                      describe_incomplete(partial.size(), expected)),
      partial_(std::make_shared<const std::string>(std::move(partial))),
      expected_(expected) {}

TimeoutError::TimeoutError(std::string_view operation, std::string_view peer,
                           bool queued, std::string_view detail)
    : Error(std::make_error_code(std::errc::timed_out), operation, peer,
            fmt::format("timed out{}{}{}",
                        queued ? "; the unsent rest stays queued" : "",
                        detail.empty() ? "" : "; ", detail)),
      queued_(queued) {}

LimitOverrunError::LimitOverrunError(std::string_view operation,
                                     std::string_view peer,
                                     std::string_view detail,
                                     std::size_t consumed)
    : Error(Errc::kLimitOverrun, operation, peer, detail),
      consumed_(consumed) {}

DecodeError::DecodeError(std::string_view operation, std::string_view peer,
                         std::string data, std::size_t position)
    : Error(Errc::kDecode, operation, peer,
            fmt::format("byte 0x{:02x} at position {} of {} cannot be decoded",
                        position < data.size()
                            ? static_cast<unsigned char>(data[position])
                            : 0u,
                        position, data.size())),
      data_(std::make_shared<const std::string>(std::move(data))),
      position_(position) {}

UnexpectedHeartbeatError::UnexpectedHeartbeatError(std::string_view operation,
                                                   std::string_view peer)
    : Error(Errc::kUnexpectedHeartbeat, operation, peer) {}

CancelledError::CancelledError(std::string_view operation,
                               std::string_view peer, bool queued)
    : text_(std::make_shared<const std::string>(
          describe(operation, peer,
                   queued ? "stop requested; the unsent rest stays queued"
                          : "stop requested"))),
      queued_(queued) {}

namespace {

// Throws the classes that throw_connection_error() and throw_os_error() share;
// returns for other errors.
void throw_if_connection_lost(std::error_code code, std::string_view operation,
                              std::string_view peer, std::string_view detail) {
  switch (code.value()) {
    case ECONNRESET:
      throw ConnectionResetError(code, operation, peer, detail);
    case ECONNREFUSED:
      throw ConnectionRefusedError(code, operation, peer, detail);
    case ECONNABORTED:
      throw ConnectionAbortedError(code, operation, peer, detail);
    case EPIPE:
      throw BrokenPipeError(code, operation, peer, detail);
    case ENOTCONN:
      throw ConnectionError(code, operation, peer,
                            detail.empty() ? "Not connected" : detail);
    default:
      break;
  }
}

}  // namespace

void throw_connection_error(int error_number, std::string_view operation,
                            std::string_view peer) {
  const std::error_code code(error_number, std::generic_category());
  throw_if_connection_lost(code, operation, peer, {});
  switch (error_number) {
    case ENOMEM:
    case ENOBUFS:
    case EMFILE:
    case ENFILE:
      throw Error(code, operation, peer);  // the connection lives
    default:
      throw ConnectionError(code, operation, peer);
  }
}

void throw_os_error(int error_number, std::string_view operation,
                    std::string_view peer, std::string_view detail) {
  const std::error_code code(error_number, std::generic_category());
  throw_if_connection_lost(code, operation, peer, detail);
  if (error_number == ETIMEDOUT) {
    throw TimeoutError(operation, peer, /*queued=*/false, detail);
  }
  throw Error(code, operation, peer, detail);
}

}  // namespace tcpip
