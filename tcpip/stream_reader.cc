#include "tcpip/stream_reader.h"

#include <cerrno>
#include <limits>
#include <stdexcept>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/stream/receiver.h"

namespace tcpip {
namespace {

using internal::Receiver;
using internal::SeparatorSpan;

SeparatorSpan span_of(StreamReader::Separators separators) {
  return {separators.begin(), separators.size()};
}

}  // namespace

StreamReader::StreamReader() noexcept = default;
StreamReader::StreamReader(std::shared_ptr<Socket> socket, std::size_t limit) {
  if (limit == 0) {
    throw std::invalid_argument("StreamReader: the limit must be positive");
  }
  if (socket) receiver_ = std::make_shared<Receiver>(std::move(socket), limit);
}
StreamReader::StreamReader(StreamReader&& other) noexcept = default;
StreamReader& StreamReader::operator=(StreamReader&& other) noexcept = default;
StreamReader::~StreamReader() = default;

void StreamReader::throw_not_connected(const char* operation,
                                       const Wait& wait) {
  // A requested stop wins over everything else.
  if (wait.stop.stop_requested()) throw CancelledError(operation);
  throw_connection_error(ENOTCONN, operation, {});
}

std::string StreamReader::read(std::size_t n, const Wait& wait) {
  return connected("read", wait).read({"read", wait}, n);
}

std::string_view StreamReader::read_view(std::size_t n, const Wait& wait) {
  return connected("read_view", wait).read_view({"read_view", wait}, n);
}

std::optional<std::string> StreamReader::try_read(std::size_t n) {
  return connected("try_read", {}).try_read("try_read", n);
}

std::string StreamReader::read_all(const Wait& wait) {
  return connected("read_all", wait)
      .read_all({"read_all", wait}, std::numeric_limits<std::size_t>::max());
}

std::string StreamReader::read_all(std::size_t max, const Wait& wait) {
  return connected("read_all", wait).read_all({"read_all", wait}, max);
}

std::string StreamReader::read_line(const Wait& wait) {
  return connected("read_line", wait).read_line({"read_line", wait});
}

std::string_view StreamReader::read_line_view(const Wait& wait) {
  return connected("read_line_view", wait)
      .read_line_view({"read_line_view", wait});
}

std::optional<std::string> StreamReader::try_read_line() {
  return connected("try_read_line", {}).try_read_line("try_read_line");
}

std::string StreamReader::read_until(std::string_view separator,
                                     const Wait& wait) {
  return connected("read_until", wait)
      .read_until({"read_until", wait}, separator);
}

std::string StreamReader::read_until(Separators separators, const Wait& wait) {
  return connected("read_until", wait)
      .read_until({"read_until", wait}, span_of(separators));
}

std::string StreamReader::read_until(
    std::span<const std::string_view> separators, const Wait& wait) {
  return connected("read_until", wait)
      .read_until({"read_until", wait}, separators);
}

std::string_view StreamReader::read_until_view(std::string_view separator,
                                               const Wait& wait) {
  return connected("read_until_view", wait)
      .read_until_view({"read_until_view", wait}, separator);
}

std::string_view StreamReader::read_until_view(Separators separators,
                                               const Wait& wait) {
  return connected("read_until_view", wait)
      .read_until_view({"read_until_view", wait}, span_of(separators));
}

std::optional<std::string> StreamReader::try_read_until(
    std::string_view separator) {
  return connected("try_read_until", {})
      .try_read_until("try_read_until", separator);
}

std::optional<std::string> StreamReader::try_read_until(Separators separators) {
  return connected("try_read_until", {})
      .try_read_until("try_read_until", span_of(separators));
}

std::string StreamReader::read_exactly(std::size_t n, const Wait& wait) {
  return connected("read_exactly", wait)
      .read_exactly({"read_exactly", wait}, n);
}

std::string_view StreamReader::read_exactly_view(std::size_t n,
                                                 const Wait& wait) {
  return connected("read_exactly_view", wait)
      .read_exactly_view({"read_exactly_view", wait}, n);
}

void StreamReader::read_exactly(std::span<std::byte> out, const Wait& wait) {
  return connected("read_exactly", wait)
      .read_exactly({"read_exactly", wait}, out);
}

std::optional<std::string> StreamReader::try_read_exactly(std::size_t n) {
  return connected("try_read_exactly", {})
      .try_read_exactly("try_read_exactly", n);
}

std::string StreamReader::read_until_silence(std::chrono::microseconds silence,
                                             std::size_t max,
                                             const Wait& wait) {
  return connected("read_until_silence", wait)
      .read_until_silence({"read_until_silence", wait}, silence, max);
}

std::optional<std::string> StreamReader::try_read_until_silence(
    std::chrono::microseconds silence, std::size_t max) {
  return connected("try_read_until_silence", {})
      .try_read_until_silence("try_read_until_silence", silence, max);
}

bool StreamReader::wait_readable(const Wait& wait) {
  return connected("wait_readable", wait)
      .wait_readable({"wait_readable", wait});
}

std::size_t StreamReader::skip(std::size_t n) {
  return receiver_ ? receiver_->skip("skip", n) : 0;
}

std::size_t StreamReader::discard() {
  return receiver_ ? receiver_->discard("discard") : 0;
}

std::size_t StreamReader::discard_until(std::string_view separator,
                                        const Wait& wait) {
  return connected("discard_until", wait)
      .discard_until({"discard_until", wait}, separator);
}

bool StreamReader::at_eof() const noexcept {
  return !receiver_ || receiver_->at_eof();
}
bool StreamReader::has_ended() const noexcept {
  return receiver_ && receiver_->has_ended();
}
std::error_code StreamReader::error() const noexcept {
  return receiver_ ? receiver_->error()
                   : std::error_code(0, std::generic_category());
}
std::uint64_t StreamReader::received() const noexcept {
  return receiver_ ? receiver_->received() : 0;
}
std::size_t StreamReader::buffered() const noexcept {
  return receiver_ ? receiver_->buffered() : 0;
}
std::size_t StreamReader::limit() const noexcept {
  return receiver_ ? receiver_->limit() : kDefaultLimit;
}
void StreamReader::set_spin(std::chrono::microseconds spin) noexcept {
  if (receiver_) receiver_->set_spin(spin);
}

}  // namespace tcpip
