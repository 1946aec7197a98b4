#include "tcpip/read_writer.h"

#include <array>
#include <cerrno>
#include <utility>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/link.h"
#include "tcpip/endpoint/text.h"
#include "tcpip/error.h"
#include "tcpip/stream/call.h"
#include "tcpip/stream/receiver.h"
#include "tcpip/stream/sender.h"

namespace tcpip {
namespace {

using internal::Call;
using internal::Counters;
using internal::Heartbeats;
using internal::Link;
using internal::LinkSource;
using internal::LinkUse;
using internal::Receiver;
using internal::Sender;
using internal::TextFormat;
using Source = std::shared_ptr<const LinkSource>;
using Parts = std::span<const std::string_view>;

// How many heartbeats a read still takes out after its deadline: a flood of
// heartbeats must not keep the read from returning.
constexpr int kMostHeartbeats = 1000;

[[noreturn]] void throw_not_connected(const Source& source,
                                      const char* operation) {
  throw_connection_error(ENOTCONN, operation,
                         source ? source->subject() : std::string());
}

// The connection that a call uses. `kUse` says what for.
template <LinkUse::For kUse>
class Found {
 public:
  // Throws ConnectionError without a connection.
  Found(const Source& source, const char* operation)
      : use_(source.get(), kUse, operation) {
    if (use_.link() == nullptr) throw_not_connected(source, operation);
  }

  Link& operator*() const { return *use_.link(); }
  Link* operator->() const { return use_.link(); }
  const TextFormat& format() const { return *use_.format(); }

 private:
  const LinkUse use_;
};
using ToRead = Found<LinkUse::For::kRead>;
using ToWrite = Found<LinkUse::For::kWrite>;

// Calls `read`, which returns an optional message, until the message is not a
// heartbeat. Throws for a heartbeat if heartbeats are not expected.
template <class Read>
auto read_past_heartbeats(Link& link, const TextFormat& format, Call call,
                          Read read) {
  for (int left = kMostHeartbeats;;) {
    auto message = read();
    if (!message || !format.is_heartbeat(*message)) return message;
    link.core->note_heartbeat(link, call.operation, link.receiver->consumed());
    if (call.wait.deadline.has_passed() && --left == 0) {
      return decltype(read())();
    }
  }
}

// For reads that return a message's bytes: takes heartbeats out only if they
// are expected. `read` returns an optional string.
template <class Read>
std::optional<std::string> read_bytes(Link& link, Call call, Read read) {
  if (!link.core->expects_heartbeats()) return read();
  return read_past_heartbeats(link, *link.core->format(), call, read);
}

// The deadline passed while only heartbeats came.
[[noreturn]] void throw_timeout(const Link& link, Call call) {
  link.meter.count(&Counters::read_timeouts);
  throw TimeoutError(call.operation, link.record->peer.to_string());
}

// For a read that waits.
std::string value_or_time_out(std::optional<std::string> message,
                              const Link& link, Call call) {
  if (!message) throw_timeout(link, call);
  return *std::move(message);
}

// Decodes a message and calls `use`, while the message is still in the reader:
// if there is no memory for that, it stays there. A heartbeat is left alone.
class Decoder final : public Receiver::Consumer {
 public:
  Decoder(const Link& link, const TextFormat& format, const char* operation,
          std::string& text, const internal::UseText& use)
      : link_(link),
        format_(format),
        operation_(operation),
        text_(text),
        use_(use) {}

  [[gnu::hot]] void consume(std::string_view message) override {
    is_heartbeat_ = format_.is_heartbeat(message);
    if (is_heartbeat_) return;
    try {
      format_.decode(message, text_, operation_, link_.record->peer);
      if (use_) use_();
    } catch (const Error&) {
      link_.meter.count(&Counters::decode_errors);
      throw;
    }
  }
  bool is_heartbeat() const { return is_heartbeat_; }

 private:
  const Link& link_;
  const TextFormat& format_;
  const char* const operation_;
  std::string& text_;
  const internal::UseText& use_;
  bool is_heartbeat_ = false;
};

// False if there is no message; never if it waits.
[[gnu::hot]] bool read_message(const Source& source, Call call, bool waits,
                               std::string& text,
                               const internal::UseText& use) {
  const ToRead link(source, call.operation);
  const TextFormat& format = link.format();
  Receiver& receiver = *link->receiver;
  for (int left = kMostHeartbeats;;) {
    Decoder decoder(*link, format, call.operation, text, use);
    if (waits) {
      receiver.read_until(call, format.terminator(), decoder);
    } else if (!receiver.try_read_until(call.operation, format.terminator(),
                                        decoder)) {
      return false;
    }
    if (!decoder.is_heartbeat()) return true;
    link->core->note_heartbeat(*link, call.operation, receiver.consumed());
    if (!call.wait.deadline.has_passed() || --left > 0) continue;
    if (waits) throw_timeout(*link, call);
    return false;
  }
}

// For a write that has thrown: ends the connection if that is lost.
void note_failure(Link& link, const ConnectionError& e) {
  // Not for a write after write_eof(), which the sender refuses: the peer may
  // still send.
  if (link.sender->is_closing()) link.core->write_failed(link, e.code());
}

// Calls write(sender). If that finds the connection lost, ends the connection
// before the exception reaches the caller.
template <class Write>
auto write_to(Link& link, Write write) {
  try {
    return write(*link.sender);
  } catch (const ConnectionError& e) {
    note_failure(link, e);
    throw;
  }
}

void write_parts(Link& link, Call call, Parts parts) {
  write_to(link, [&](Sender& sender) {
    sender.write_and_drain(call, parts, link.core->config().write_limit);
  });
}

bool try_write_parts(Link& link, const char* operation, Parts parts) {
  return write_to(link, [&](Sender& sender) {
    return sender.send(operation, parts, 0) != SendResult::kBusy;
  });
}

// Whether a message is also taken behind others that are not sent yet.
enum class Behind { kOthers, kNone };

// A connection that is missing or lost is a result.
SendResult send_parts(Link* link, const char* operation, Parts parts,
                      Behind behind) {
  if (link == nullptr) return SendResult::kNotConnected;
  const std::size_t max_unsent =
      behind == Behind::kOthers ? link->core->config().write_limit : 0;
  try {
    return link->sender->send(operation, parts, max_unsent);
  } catch (const ConnectionError& e) {
    note_failure(*link, e);
    return SendResult::kNotConnected;
  }
}

SendResult send_to(const Source& source, const char* operation, Parts parts,
                   Behind behind) {
  const LinkUse use(source.get(), LinkUse::For::kWrite, operation);
  return send_parts(use.link(), operation, parts, behind);
}

// A text message, and the connection that it is for.
class TextMessage {
 public:
  // Throws std::invalid_argument for a text that cannot be sent, also without a
  // connection.
  TextMessage(const Source& source, const char* operation,
              std::string_view text)
      : source_(source),
        operation_(operation),
        target_(source.get(), LinkUse::For::kWrite, operation) {
    if (target_.format() == nullptr) return;
    parts_ = {target_.format()->encode(text, storage_, operation),
              target_.format()->terminator()};
  }

  Link* link_or_null() const { return target_.link(); }
  Link& link() const {
    if (target_.link() == nullptr) throw_not_connected(source_, operation_);
    return *target_.link();
  }
  Parts parts() const { return parts_; }

 private:
  const Source& source_;
  const char* const operation_;
  const LinkUse target_;
  std::string storage_;
  std::array<std::string_view, 2> parts_;
};

// `separators` is a std::string_view or a SeparatorSpan.
template <class Separators>
std::string read_until_any(const Source& source, Call call,
                           const Separators& separators) {
  const ToRead link(source, call.operation);
  const auto read = [&] {
    return std::optional(link->receiver->read_until(call, separators));
  };
  return value_or_time_out(read_bytes(*link, call, read), *link, call);
}

}  // namespace

namespace internal {

[[gnu::hot]] void read_text(const ReadWriter& from, const char* operation,
                            const Wait& wait, std::string& text,
                            const UseText& use) {
  read_message(from.source_, {operation, wait}, true, text, use);
}

bool try_read_text(const ReadWriter& from, const char* operation,
                   std::string& text, const UseText& use) {
  const Wait wait = Wait::none();
  return read_message(from.source_, {operation, wait}, false, text, use);
}

[[gnu::hot]] void write_text(const ReadWriter& to, const char* operation,
                             std::string_view text, const Wait& wait) {
  const TextMessage message(to.source_, operation, text);
  write_parts(message.link(), {operation, wait}, message.parts());
}

bool try_write_text(const ReadWriter& to, const char* operation,
                    std::string_view text) {
  const TextMessage message(to.source_, operation, text);
  return try_write_parts(message.link(), operation, message.parts());
}

SendResult send_text(const ReadWriter& to, const char* operation,
                     std::string_view text) {
  const TextMessage message(to.source_, operation, text);
  return send_parts(message.link_or_null(), operation, message.parts(),
                    Behind::kOthers);
}

SendResult try_send_text(const ReadWriter& to, const char* operation,
                         std::string_view text) {
  const TextMessage message(to.source_, operation, text);
  return send_parts(message.link_or_null(), operation, message.parts(),
                    Behind::kNone);
}

std::string read_bytes_until(const ReadWriter& from, const char* operation,
                             std::string_view separator, const Wait& wait) {
  return read_until_any(from.source_, {operation, wait}, separator);
}

std::optional<std::string> try_read_bytes_until(const ReadWriter& from,
                                                const char* operation,
                                                std::string_view separator) {
  const Wait wait = Wait::none();
  const Call call{operation, wait};
  const ToRead link(from.source_, operation);
  return read_bytes(*link, call, [&] {
    return link->receiver->try_read_until(operation, separator);
  });
}

void write_bytes(const ReadWriter& to, const char* operation,
                 std::string_view data, const Wait& wait) {
  write_parts(*ToWrite(to.source_, operation), {operation, wait}, {&data, 1});
}

void write_piece(const ReadWriter& to, const char* operation,
                 std::string_view data, const Wait& wait) {
  write_parts(*ToWrite(to.source_, operation), {operation, wait, true},
              {&data, 1});
}

void drain_piece(const ReadWriter& to, const char* operation,
                 const Wait& wait) {
  const ToWrite link(to.source_, operation);
  write_to(*link, [&](Sender& sender) {
    sender.drain({operation, wait, true});
  });
}

std::size_t discard_bytes(const ReadWriter& from, const char* operation) {
  return ToRead(from.source_, operation)->receiver->discard(operation);
}

std::shared_ptr<Receiver> receiver_of(const ReadWriter& read_writer,
                                      const char* operation) {
  return ToRead(read_writer.source_, operation)->receiver;
}

std::string subject_of(const ReadWriter& read_writer) {
  if (!read_writer.source_) return {};
  const std::shared_ptr<Link> link = read_writer.source_->link();
  return link ? link->record->subject() : read_writer.source_->subject();
}

}  // namespace internal

ReadWriter::ReadWriter() noexcept = default;
ReadWriter::ReadWriter(Source source) noexcept : source_(std::move(source)) {}
ReadWriter::ReadWriter(const ReadWriter&) noexcept = default;
ReadWriter& ReadWriter::operator=(const ReadWriter&) noexcept = default;
ReadWriter::~ReadWriter() = default;

// --- Reading ---

std::string ReadWriter::read(std::size_t n, const Wait& wait) const {
  const ToRead link(source_, "read");
  return link->receiver->read({"read", wait}, n);
}

std::string ReadWriter::read_all(const Wait& wait) const {
  return read_all(static_cast<std::size_t>(-1), wait);
}

std::string ReadWriter::read_all(std::size_t max, const Wait& wait) const {
  const ToRead link(source_, "read_all");
  return link->receiver->read_all({"read_all", wait}, max);
}

std::string ReadWriter::read_exactly(std::size_t n, const Wait& wait) const {
  const ToRead link(source_, "read_exactly");
  return link->receiver->read_exactly({"read_exactly", wait}, n);
}

void ReadWriter::read_exactly(std::span<std::byte> out,
                              const Wait& wait) const {
  const ToRead link(source_, "read_exactly");
  link->receiver->read_exactly({"read_exactly", wait}, out);
}

void ReadWriter::read_struct(std::span<std::byte> out, const Wait& wait) const {
  const ToRead link(source_, "read_into");
  link->receiver->read_exactly({"read_into", wait}, out);
}

std::string ReadWriter::read_until_silence(std::chrono::microseconds silence,
                                           std::size_t max,
                                           const Wait& wait) const {
  const Call call{"read_until_silence", wait};
  const ToRead link(source_, call.operation);
  return link->receiver->read_until_silence(call, silence, max);
}

std::string ReadWriter::read_line(const Wait& wait) const {
  const Call call{"read_line", wait};
  const ToRead link(source_, call.operation);
  const auto read = [&] {
    return std::optional(link->receiver->read_line(call));
  };
  return value_or_time_out(read_bytes(*link, call, read), *link, call);
}

std::string ReadWriter::read_until(std::string_view separator,
                                   const Wait& wait) const {
  return read_until_any(source_, {"read_until", wait}, separator);
}

std::string ReadWriter::read_until(Separators separators,
                                   const Wait& wait) const {
  return read_until_any(source_, {"read_until", wait},
                        Parts(separators.begin(), separators.size()));
}

[[gnu::hot]] std::string ReadWriter::read_str(const Wait& wait) const {
  std::string text;
  internal::read_text(*this, "read_str", wait, text);
  return text;
}

std::optional<std::string> ReadWriter::try_read(std::size_t n) const {
  const ToRead link(source_, "try_read");
  return link->receiver->try_read("try_read", n);
}

std::optional<std::string> ReadWriter::try_read_line() const {
  const Wait wait = Wait::none();
  const Call call{"try_read_line", wait};
  const ToRead link(source_, call.operation);
  return read_bytes(*link, call, [&] {
    return link->receiver->try_read_line(call.operation);
  });
}

std::optional<std::string> ReadWriter::try_read_until(
    std::string_view separator) const {
  return internal::try_read_bytes_until(*this, "try_read_until", separator);
}

std::optional<std::string> ReadWriter::try_read_exactly(std::size_t n) const {
  const ToRead link(source_, "try_read_exactly");
  return link->receiver->try_read_exactly("try_read_exactly", n);
}

std::optional<std::string> ReadWriter::try_read_until_silence(
    std::chrono::microseconds silence, std::size_t max) const {
  constexpr const char* kOperation = "try_read_until_silence";
  const ToRead link(source_, kOperation);
  return link->receiver->try_read_until_silence(kOperation, silence, max);
}

std::optional<std::string> ReadWriter::try_read_str() const {
  std::optional<std::string> text(std::in_place);
  if (!internal::try_read_text(*this, "try_read_str", *text)) text.reset();
  return text;
}

bool ReadWriter::try_read_struct(std::span<std::byte> out) const {
  const ToRead link(source_, "try_read_into");
  return link->receiver->try_read_exactly("try_read_into", out);
}

void ReadWriter::handle_received_heartbeat() const {
  constexpr const char* kOperation = "handle_received_heartbeat";
  const ToWrite link(source_, kOperation);
  link->core->note_heartbeat(*link, kOperation, Heartbeats::kJustCome);
}

bool ReadWriter::wait_readable(const Wait& wait) const {
  const ToRead link(source_, "wait_readable");
  return link->receiver->wait_readable({"wait_readable", wait});
}

std::size_t ReadWriter::skip(std::size_t n) const {
  return ToRead(source_, "skip")->receiver->skip("skip", n);
}

std::size_t ReadWriter::discard() const {
  return internal::discard_bytes(*this, "discard");
}

std::size_t ReadWriter::discard_until(std::string_view separator,
                                      const Wait& wait) const {
  const ToRead link(source_, "discard_until");
  return link->receiver->discard_until({"discard_until", wait}, separator);
}

// --- Writing ---

void ReadWriter::write(std::string_view data, const Wait& wait) const {
  write_parts(*ToWrite(source_, "write"), {"write", wait}, {&data, 1});
}

void ReadWriter::write_lines(std::span<const std::string_view> parts,
                             const Wait& wait) const {
  write_parts(*ToWrite(source_, "write_lines"), {"write_lines", wait}, parts);
}

void ReadWriter::write_lines(std::initializer_list<std::string_view> parts,
                             const Wait& wait) const {
  write_lines(Parts(parts.begin(), parts.size()), wait);
}

void ReadWriter::write_structs(std::span<const std::string_view> parts,
                               const Wait& wait) const {
  write_parts(*ToWrite(source_, "write_from"), {"write_from", wait}, parts);
}

void ReadWriter::write_str(std::string_view text, const Wait& wait) const {
  internal::write_text(*this, "write_str", text, wait);
}

bool ReadWriter::try_write(std::string_view data) const {
  return try_write_parts(*ToWrite(source_, "try_write"), "try_write",
                         {&data, 1});
}

bool ReadWriter::try_write_lines(
    std::span<const std::string_view> parts) const {
  return try_write_parts(*ToWrite(source_, "try_write_lines"),
                         "try_write_lines", parts);
}

bool ReadWriter::try_write_structs(
    std::span<const std::string_view> parts) const {
  return try_write_parts(*ToWrite(source_, "try_write_from"), "try_write_from",
                         parts);
}

bool ReadWriter::try_write_str(std::string_view text) const {
  return internal::try_write_text(*this, "try_write_str", text);
}

SendResult ReadWriter::send(std::string_view data) const {
  return send_to(source_, "send", {&data, 1}, Behind::kOthers);
}

SendResult ReadWriter::send_lines(
    std::span<const std::string_view> parts) const {
  return send_to(source_, "send_lines", parts, Behind::kOthers);
}

SendResult ReadWriter::send_structs(
    std::span<const std::string_view> parts) const {
  return send_to(source_, "send_from", parts, Behind::kOthers);
}

SendResult ReadWriter::send_str(std::string_view text) const {
  return internal::send_text(*this, "send_str", text);
}

SendResult ReadWriter::try_send(std::string_view data) const {
  return send_to(source_, "try_send", {&data, 1}, Behind::kNone);
}

SendResult ReadWriter::try_send_lines(
    std::span<const std::string_view> parts) const {
  return send_to(source_, "try_send_lines", parts, Behind::kNone);
}

SendResult ReadWriter::try_send_structs(
    std::span<const std::string_view> parts) const {
  return send_to(source_, "try_send_from", parts, Behind::kNone);
}

SendResult ReadWriter::try_send_str(std::string_view text) const {
  return internal::try_send_text(*this, "try_send_str", text);
}

void ReadWriter::drain(const Wait& wait) const {
  const ToWrite link(source_, "drain");
  write_to(*link, [&](Sender& sender) { sender.drain({"drain", wait}); });
}

std::size_t ReadWriter::unsent() const {
  const LinkUse use(source_.get(), LinkUse::For::kWrite, "unsent");
  return use.link() ? use.link()->sender->unsent() : 0;
}

}  // namespace tcpip
