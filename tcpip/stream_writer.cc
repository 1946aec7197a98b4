#include "tcpip/stream_writer.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/socket.h"
#include "tcpip/stream/sender.h"

namespace tcpip {

StreamWriter::StreamWriter() noexcept = default;
StreamWriter::StreamWriter(std::shared_ptr<Socket> socket)
    : sender_(socket ? std::make_shared<internal::Sender>(std::move(socket))
                     : nullptr) {}
StreamWriter::StreamWriter(StreamWriter&& other) noexcept = default;

StreamWriter& StreamWriter::operator=(StreamWriter&& other) noexcept {
  if (this == &other) return *this;
  let_go();
  sender_ = std::move(other.sender_);
  closes_ = other.closes_;
  return *this;
}

StreamWriter::~StreamWriter() { let_go(); }

void StreamWriter::let_go() noexcept {
  if (closes_) close();
}

internal::Sender& StreamWriter::connected(const char* operation) const {
  if (!sender_) throw_connection_error(ENOTCONN, operation, {});
  return *sender_;
}

void StreamWriter::write(std::string_view data) {
  connected("write").write("write", {&data, 1});
}
void StreamWriter::write_lines(std::span<const std::string_view> parts) {
  connected("write_lines").write("write_lines", parts);
}
void StreamWriter::write_and_drain(std::span<const std::string_view> parts,
                                   std::size_t max_unsent, const Wait& wait) {
  connected("write_and_drain")
      .write_and_drain({"write_and_drain", wait}, parts, max_unsent);
}
bool StreamWriter::try_write_lines(std::span<const std::string_view> parts) {
  return connected("try_write_lines").send("try_write_lines", parts, 0) !=
         SendResult::kBusy;
}
void StreamWriter::drain(const Wait& wait) {
  connected("drain").drain({"drain", wait});
}
void StreamWriter::write_eof() {
  connected("write_eof").write_eof("write_eof");
}
std::size_t StreamWriter::close() noexcept {
  return sender_ ? sender_->close() : 0;
}
void StreamWriter::linger(Deadline deadline) noexcept {
  if (sender_) sender_->socket().linger(deadline);
}
bool StreamWriter::is_closing() const noexcept {
  return !sender_ || sender_->is_closing();
}
std::size_t StreamWriter::unsent() const noexcept {
  return sender_ ? sender_->unsent() : 0;
}
Address StreamWriter::local_address() const noexcept {
  return sender_ ? sender_->socket().local_address() : Address();
}
Address StreamWriter::peer_address() const noexcept {
  return sender_ ? sender_->socket().peer_address() : Address();
}
int StreamWriter::native_handle() const noexcept {
  return sender_ ? sender_->socket().native_handle() : -1;
}

std::size_t close_stream_writer(StreamWriter& writer, const Wait& wait) {
  try {
    if (!writer.is_closing()) writer.drain(wait);
  } catch (const Error&) {
    // The connection is lost or the deadline passed: just close.
  } catch (...) {
    writer.close();
    throw;
  }
  const std::size_t dropped = writer.close();
  writer.linger(std::min(wait.deadline, Deadline::after(kCloseLingerTime)));
  return dropped;
}

}  // namespace tcpip
