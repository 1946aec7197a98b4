#include "tcpip/base_client_or_server.h"

#include <utility>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/link.h"
#include "tcpip/endpoint/text.h"

namespace tcpip {

std::shared_ptr<internal::EndpointCore> internal::core_of(
    const BaseClientOrServer& endpoint) {
  return endpoint.core_;
}

BaseClientOrServer::BaseClientOrServer(
    std::shared_ptr<internal::EndpointCore> core)
    : ReadWriter(core), core_(std::move(core)) {}

// The destructors of the final classes have released the core already, while
// the whole object still existed.
BaseClientOrServer::~BaseClientOrServer() = default;

Connection BaseClientOrServer::connection() const {
  const auto link = core_->link();
  return link ? Connection(link->record) : Connection();
}
bool BaseClientOrServer::connected() const { return core_->connected(); }
Address BaseClientOrServer::peer_address() const {
  return connection().peer_address();
}
bool BaseClientOrServer::should_be_connected() const {
  return core_->should_be_connected();
}
std::uint64_t BaseClientOrServer::connection_count() const {
  return core_->connection_count();
}
EndpointStats BaseClientOrServer::stats() const { return core_->stats(); }
bool BaseClientOrServer::wait_connected(const Wait& wait) {
  return core_->wait_connected(wait);
}
bool BaseClientOrServer::wait_done(const Wait& wait) {
  return core_->wait_done(wait);
}
void BaseClientOrServer::request_close() noexcept { core_->request_close(); }
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

}  // namespace tcpip
