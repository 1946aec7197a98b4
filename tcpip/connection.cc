#include "tcpip/connection.h"

#include <utility>

#include "tcpip/callback_queue.h"
#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/link.h"
#include "tcpip/stream/stream_access.h"

namespace tcpip {
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

bool internal::is_of(const Connection& connection,
                     const std::weak_ptr<EndpointCore>& core) noexcept {
  const ConnectionRecord* const record = connection.record();
  return record != nullptr && !record->endpoint.owner_before(core) &&
         !core.owner_before(record->endpoint);
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
  // The queue checks this too, but without a client or server there is none.
  internal::check_callback(callback, "post");
  const auto core = record() ? record()->endpoint.lock() : nullptr;
  return core && core->post(std::move(callback));
}

void Connection::post_wait(std::function<void()> callback,
                           const Wait& wait) const {
  internal::check_callback(callback, "post_wait");
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
