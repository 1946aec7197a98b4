#include "tcpip/connection.h"

#include <stdexcept>
#include <string>
#include <utility>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/link.h"
#include "tcpip/stream/stream_access.h"

namespace tcpip {
namespace {

// The queue refuses an empty callback too; but without a queue nobody would.
void check_callback(const std::function<void()>& callback,
                    const char* operation) {
  if (callback) return;
  throw std::invalid_argument(std::string(operation) +
                              ": the callback is empty");
}

}  // namespace

Connection::Connection() noexcept = default;
Connection::Connection(const Connection&) noexcept = default;
Connection& Connection::operator=(const Connection&) noexcept = default;
Connection::~Connection() = default;

Connection::Connection(
    std::shared_ptr<const internal::ConnectionRecord> record) noexcept
    : ReadWriter(std::move(record)) {}

const internal::ConnectionRecord* Connection::record() const noexcept {
  return static_cast<const internal::ConnectionRecord*>(source().get());
}

bool Connection::connected() const noexcept {
  return record() != nullptr && !record()->over;
}
bool Connection::should_be_connected() const noexcept {
  return record() != nullptr && record()->should_be_connected;
}
std::uint64_t Connection::number() const noexcept {
  return record() == nullptr ? 0 : record()->number;
}
Address Connection::peer_address() const {
  return record() == nullptr ? Address() : record()->peer;
}
Address Connection::local_address() const {
  return record() == nullptr ? Address() : record()->local;
}

std::stop_token Connection::stop_token() const {
  if (record() != nullptr) return record()->stop.get_token();
  // No connection is like one that has ended.
  std::stop_source over;
  over.request_stop();
  return over.get_token();
}

bool Connection::post(std::function<void()> callback) const {
  check_callback(callback, "post");
  const auto core = record() ? record()->endpoint.lock() : nullptr;
  return core && core->post(std::move(callback));
}

void Connection::post_wait(std::function<void()> callback,
                           const Wait& wait) const {
  check_callback(callback, "post_wait");
  const auto core = record() ? record()->endpoint.lock() : nullptr;
  if (!core) throw CancelledError("post_wait", internal::subject_of(*this));
  core->post_wait(std::move(callback), wait);
}

void Connection::close() const {
  if (record() == nullptr) return;
  if (const auto link = record()->link()) link->core->close_link(*link);
}

std::shared_ptr<StreamReader> Connection::reader() const {
  const auto link = record() ? record()->link() : nullptr;
  return link ? internal::StreamAccess::reader_of(link->receiver) : nullptr;
}
std::shared_ptr<StreamWriter> Connection::writer() const {
  const auto link = record() ? record()->link() : nullptr;
  return link ? internal::StreamAccess::writer_of(link->sender) : nullptr;
}
int Connection::native_handle() const {
  const auto link = record() ? record()->link() : nullptr;
  return link ? link->socket->native_handle() : -1;
}

}  // namespace tcpip
