#include "tcpip/base_client_or_server.h"

#include <array>
#include <optional>
#include <stdexcept>
#include <utility>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/text.h"
#include "tcpip/error.h"

namespace tcpip {
namespace {

// Once the deadline has passed, so many heartbeats are still taken out: a flood
// of them cannot keep a call.
constexpr int kMostHeartbeats = 1000;

// Calls `read`, which gives a message or nothing, until it is no heartbeat, or
// nothing. Where heartbeats are not expected, one throws.
template <class Read>
auto read_past_heartbeats(internal::EndpointCore& core, internal::Link& link,
                          const internal::TextFormat& format,
                          const char* operation, const Wait& wait, Read read) {
  for (int left = kMostHeartbeats;;) {
    decltype(read()) message = read();
    if (!message || !format.is_heartbeat(*message)) return message;
    core.note_heartbeat(link, operation);
    if (wait.deadline.has_passed() && --left == 0) {
      return decltype(read())();
    }
  }
}

// The reads of lines that are handed over as they came: heartbeats are among
// them, unless they are expected.
template <class Read>
std::optional<std::string> try_read_bytes(internal::EndpointCore& core,
                                          const char* operation, Read read) {
  return core.read(operation, [&](internal::Link& link) {
    if (!core.expects_heartbeats()) return read(link.reader);
    return read_past_heartbeats(core, link, *core.format(), operation,
                                Wait::none(),
                                [&] { return read(link.reader); });
  });
}

template <class Read>
std::string read_bytes(internal::EndpointCore& core, const char* operation,
                       const Wait& wait, Read read) {
  return core.read(operation, [&](internal::Link& link) {
    if (!core.expects_heartbeats()) return read(link.reader);
    auto line =
        read_past_heartbeats(core, link, *core.format(), operation, wait,
                             [&] { return std::optional(read(link.reader)); });
    if (!line) throw TimeoutError(operation, link.peer.to_string());
    return *std::move(line);
  });
}

}  // namespace

BaseClientOrServer::BaseClientOrServer(
    std::shared_ptr<internal::EndpointCore> core)
    : core_(std::move(core)) {}

// The final classes have released the core, while they were still whole.
BaseClientOrServer::~BaseClientOrServer() = default;

bool BaseClientOrServer::connected() const { return core_->connected(); }
bool BaseClientOrServer::should_be_connected() const {
  return core_->should_be_connected();
}
std::uint64_t BaseClientOrServer::generation() const {
  return core_->generation();
}
Address BaseClientOrServer::peer_address() const {
  return core_->peer_address();
}
bool BaseClientOrServer::wait_connected(const Wait& wait) {
  return core_->wait_connected(wait);
}
bool BaseClientOrServer::wait_done(const Wait& wait) {
  return core_->wait_done(wait);
}
std::function<void()> BaseClientOrServer::bound(
    std::function<void()> callback) const {
  if (!callback) throw std::invalid_argument("bound: the callback is empty");
  return [core = core_, generation = core_->generation(),
          callback = std::move(callback)] {
    const internal::EndpointCore::Binding binding(*core, generation);
    callback();
  };
}
bool BaseClientOrServer::post(std::function<void()> callback) {
  return core_->post(std::move(callback));
}
void BaseClientOrServer::post_wait(std::function<void()> callback,
                                   const Wait& wait) {
  core_->post_wait(std::move(callback), wait);
}
const std::string& BaseClientOrServer::name() const noexcept {
  return core_->config().name;
}
const Log& BaseClientOrServer::log() const noexcept { return core_->log(); }
std::string BaseClientOrServer::terminator() const {
  return core_->format()->terminator();
}
std::string BaseClientOrServer::encoding() const {
  return core_->format()->codec()->name();
}
void BaseClientOrServer::set_terminator(std::string terminator) {
  core_->set_terminator(std::move(terminator));
}
void BaseClientOrServer::set_encoding(std::string encoding) {
  core_->set_encoding(std::move(encoding));
}
void BaseClientOrServer::handle_received_heartbeat() {
  core_->handle_received_heartbeat();
}

std::string BaseClientOrServer::read(std::size_t n, const Wait& wait) {
  return core_->read(
      "read", [&](internal::Link& link) { return link.reader.read(n, wait); });
}

std::string BaseClientOrServer::read_all(const Wait& wait) {
  return core_->read("read_all", [&](internal::Link& link) {
    return link.reader.read_all(wait);
  });
}

std::string BaseClientOrServer::read_all(std::size_t max, const Wait& wait) {
  return core_->read("read_all", [&](internal::Link& link) {
    return link.reader.read_all(max, wait);
  });
}

std::string BaseClientOrServer::read_exactly(std::size_t n, const Wait& wait) {
  return core_->read("read_exactly", [&](internal::Link& link) {
    return link.reader.read_exactly(n, wait);
  });
}

void BaseClientOrServer::read_exactly(std::span<std::byte> out,
                                      const Wait& wait) {
  core_->read("read_exactly", [&](internal::Link& link) {
    link.reader.read_exactly(out, wait);
    return true;
  });
}

std::string BaseClientOrServer::read_line(const Wait& wait) {
  return read_bytes(*core_, "read_line", wait, [&](StreamReader& reader) {
    return reader.read_line(wait);
  });
}

std::string BaseClientOrServer::read_until(std::string_view separator,
                                           const Wait& wait) {
  return read_bytes(*core_, "read_until", wait, [&](StreamReader& reader) {
    return reader.read_until(separator, wait);
  });
}

std::string BaseClientOrServer::read_until(Separators separators,
                                           const Wait& wait) {
  return read_bytes(*core_, "read_until", wait, [&](StreamReader& reader) {
    return reader.read_until(separators, wait);
  });
}

std::string BaseClientOrServer::read_str(const Wait& wait) {
  constexpr const char* kOperation = "read_str";
  const auto format = core_->format();
  return core_->read(kOperation, [&](internal::Link& link) {
    const auto message =
        read_past_heartbeats(*core_, link, *format, kOperation, wait, [&] {
          return std::optional(
              link.reader.read_until_view(format->terminator(), wait));
        });
    if (!message) throw TimeoutError(kOperation, link.peer.to_string());
    return format->decode(*message, kOperation, link.peer);
  });
}

std::optional<std::string> BaseClientOrServer::try_read(std::size_t n) {
  return core_->read("try_read", [&](internal::Link& link) {
    return link.reader.try_read(n);
  });
}

std::optional<std::string> BaseClientOrServer::try_read_line() {
  return try_read_bytes(*core_, "try_read_line", [](StreamReader& reader) {
    return reader.try_read_line();
  });
}

std::optional<std::string> BaseClientOrServer::try_read_until(
    std::string_view separator) {
  return try_read_bytes(*core_, "try_read_until", [&](StreamReader& reader) {
    return reader.try_read_until(separator);
  });
}

std::optional<std::string> BaseClientOrServer::try_read_exactly(std::size_t n) {
  return core_->read("try_read_exactly", [&](internal::Link& link) {
    return link.reader.try_read_exactly(n);
  });
}

std::optional<std::string> BaseClientOrServer::try_read_str() {
  constexpr const char* kOperation = "try_read_str";
  const auto format = core_->format();
  return core_->read(
      kOperation, [&](internal::Link& link) -> std::optional<std::string> {
        const auto message = read_past_heartbeats(
            *core_, link, *format, kOperation, Wait::none(),
            [&] { return link.reader.try_read_until(format->terminator()); });
        if (!message) return std::nullopt;
        return format->decode(*message, kOperation, link.peer);
      });
}

bool BaseClientOrServer::wait_readable(const Wait& wait) {
  return core_->read("wait_readable", [&](internal::Link& link) {
    return link.reader.wait_readable(wait);
  });
}

std::size_t BaseClientOrServer::skip(std::size_t n) {
  return core_->read("skip",
                     [&](internal::Link& link) { return link.reader.skip(n); });
}

std::size_t BaseClientOrServer::discard() {
  return core_->read(
      "discard", [&](internal::Link& link) { return link.reader.discard(); });
}

std::size_t BaseClientOrServer::discard_until(std::string_view separator,
                                              const Wait& wait) {
  return core_->read("discard_until", [&](internal::Link& link) {
    return link.reader.discard_until(separator, wait);
  });
}

void BaseClientOrServer::write(std::string_view data, const Wait& wait) {
  write_lines({&data, 1}, wait);
}

void BaseClientOrServer::write_lines(std::span<const std::string_view> parts,
                                     const Wait& wait) {
  core_->write("write", [&](StreamWriter& writer) {
    writer.write_and_drain(parts, core_->config().write_limit, wait);
  });
}

void BaseClientOrServer::write_lines(
    std::initializer_list<std::string_view> parts, const Wait& wait) {
  write_lines(std::span(parts.begin(), parts.size()), wait);
}

void BaseClientOrServer::write_str(std::string_view text, const Wait& wait) {
  const auto format = core_->format();
  std::string storage;
  write_lines(
      {format->encode(text, storage, "write_str"), format->terminator()}, wait);
}

bool BaseClientOrServer::try_write(std::string_view data) {
  return try_write_lines({&data, 1});
}

bool BaseClientOrServer::try_write_str(std::string_view text) {
  const auto format = core_->format();
  std::string storage;
  const std::array<std::string_view, 2> parts{
      format->encode(text, storage, "try_write_str"), format->terminator()};
  return try_write_lines(parts);
}

bool BaseClientOrServer::try_write_lines(
    std::span<const std::string_view> parts) {
  bool taken = false;
  core_->write("write", [&](StreamWriter& writer) {
    taken = writer.try_write_lines(parts);
  });
  return taken;
}

void BaseClientOrServer::drain(const Wait& wait) {
  core_->write("drain", [&](StreamWriter& writer) { writer.drain(wait); });
}

std::size_t BaseClientOrServer::unsent() const {
  const auto link = core_->current();
  return link ? link->writer.unsent() : 0;
}

}  // namespace tcpip
