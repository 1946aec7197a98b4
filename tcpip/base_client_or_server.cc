#include "tcpip/base_client_or_server.h"

#include <array>
#include <stdexcept>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/internal/endpoint_core.h"
#include "tcpip/internal/text.h"

namespace tcpip {
namespace {

// What read_str() makes of the bytes of one message.
std::string decode(std::string_view message,
                   const internal::EndpointCore& core) {
  message.remove_suffix(core.config().terminator.size());
  message = internal::strip(message);
  if (const auto position = internal::find_invalid_utf8(message)) {
    throw DecodeError("read_str", core.peer_address().to_string(),
                      std::string(message), *position);
  }
  return std::string(message);
}

// True if the peer would find `end` in `text` + `end` before the end of it.
bool ends_early(std::string_view text, std::string_view end) {
  if (text.find(end) != std::string_view::npos) return true;
  // Also where the text's last bytes and the terminator's first make one.
  for (std::size_t n = 1; n < end.size(); ++n) {
    if (text.ends_with(end.substr(0, n)) && end.starts_with(end.substr(n))) {
      return true;
    }
  }
  return false;
}

// Throws if the peer could not read the text as one message.
void check_text(std::string_view text, std::string_view end) {
  if (internal::find_invalid_utf8(text)) {
    throw std::invalid_argument("write_str: the text is not valid UTF-8");
  }
  if (ends_early(text, end)) {
    throw std::invalid_argument("write_str: the text contains the terminator");
  }
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
const std::string& BaseClientOrServer::name() const noexcept {
  return core_->config().name;
}
const Log& BaseClientOrServer::log() const noexcept { return core_->log(); }
const std::string& BaseClientOrServer::terminator() const noexcept {
  return core_->config().terminator;
}
const std::string& BaseClientOrServer::encoding() const noexcept {
  return core_->config().encoding;
}

std::string BaseClientOrServer::read(std::size_t n, const Wait& wait) {
  return core_->read(
      "read", [&](StreamReader& reader) { return reader.read(n, wait); });
}

std::string BaseClientOrServer::read_exactly(std::size_t n, const Wait& wait) {
  return core_->read("read_exactly", [&](StreamReader& reader) {
    return reader.read_exactly(n, wait);
  });
}

void BaseClientOrServer::read_exactly(std::span<std::byte> out,
                                      const Wait& wait) {
  core_->read("read_exactly", [&](StreamReader& reader) {
    reader.read_exactly(out, wait);
    return true;
  });
}

std::string BaseClientOrServer::read_line(const Wait& wait) {
  return core_->read("read_line", [&](StreamReader& reader) {
    return reader.read_line(wait);
  });
}

std::string BaseClientOrServer::read_until(std::string_view separator,
                                           const Wait& wait) {
  return core_->read("read_until", [&](StreamReader& reader) {
    return reader.read_until(separator, wait);
  });
}

std::string BaseClientOrServer::read_until(Separators separators,
                                           const Wait& wait) {
  return core_->read("read_until", [&](StreamReader& reader) {
    return reader.read_until(separators, wait);
  });
}

std::string BaseClientOrServer::read_str(const Wait& wait) {
  return core_->read("read_str", [&](StreamReader& reader) {
    return decode(reader.read_until_view(terminator(), wait), *core_);
  });
}

std::optional<std::string> BaseClientOrServer::try_read(std::size_t n) {
  return core_->read("try_read",
                     [&](StreamReader& reader) { return reader.try_read(n); });
}

std::optional<std::string> BaseClientOrServer::try_read_line() {
  return core_->read("try_read_line", [&](StreamReader& reader) {
    return reader.try_read_line();
  });
}

std::optional<std::string> BaseClientOrServer::try_read_until(
    std::string_view separator) {
  return core_->read("try_read_until", [&](StreamReader& reader) {
    return reader.try_read_until(separator);
  });
}

std::optional<std::string> BaseClientOrServer::try_read_exactly(std::size_t n) {
  return core_->read("try_read_exactly", [&](StreamReader& reader) {
    return reader.try_read_exactly(n);
  });
}

std::optional<std::string> BaseClientOrServer::try_read_str() {
  return core_->read("try_read_str",
                     [&](StreamReader& reader) -> std::optional<std::string> {
                       const auto message = reader.try_read_until(terminator());
                       if (!message) return std::nullopt;
                       return decode(*message, *core_);
                     });
}

bool BaseClientOrServer::wait_readable(const Wait& wait) {
  return core_->read("wait_readable", [&](StreamReader& reader) {
    return reader.wait_readable(wait);
  });
}

std::size_t BaseClientOrServer::skip(std::size_t n) {
  return core_->read("skip",
                     [&](StreamReader& reader) { return reader.skip(n); });
}

std::size_t BaseClientOrServer::discard() {
  return core_->read("discard",
                     [&](StreamReader& reader) { return reader.discard(); });
}

std::size_t BaseClientOrServer::discard_until(std::string_view separator,
                                              const Wait& wait) {
  return core_->read("discard_until", [&](StreamReader& reader) {
    return reader.discard_until(separator, wait);
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
  check_text(text, terminator());
  write_lines({text, terminator()}, wait);
}

bool BaseClientOrServer::try_write(std::string_view data) {
  return try_write_lines({&data, 1});
}

bool BaseClientOrServer::try_write_str(std::string_view text) {
  check_text(text, terminator());
  const std::array<std::string_view, 2> parts{text, terminator()};
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
