#include "tcpip/testing/recorder.h"

#include <utility>

#include "tcpip/testing/forwarder.h"

namespace tcpip_testing {

Recorder::Recorder(Options options)
    : forwarder_(
          std::make_shared<internal::Forwarder>(internal::ForwarderOptions{
              .name = "Recorder",
              .thread_name = "tcpip-recorder",
              .server_host = std::move(options.server_host),
              .server_port = options.server_port,
              .log = std::move(options.log),
              .records = true})) {}

Recorder::~Recorder() { close(); }

void Recorder::start(const tcpip::Wait& wait) { forwarder_->start(wait); }
int Recorder::port() const { return forwarder_->port(); }
void Recorder::close() { forwarder_->close(); }
std::uint64_t Recorder::connection_count() const {
  return forwarder_->connection_count();
}

Recording Recorder::recording(std::uint64_t connection) const {
  return forwarder_->recording(connection);
}

}  // namespace tcpip_testing
