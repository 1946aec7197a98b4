#include "tcpip/testing/faulty_proxy.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <utility>

#include "tcpip/testing/forwarder.h"

namespace tcpip_testing {
namespace {

internal::ForwarderOptions forwarder_options(FaultyProxyOptions options) {
  check_script(options.to_server);
  check_script(options.to_client);
  if (options.random &&
      !(options.to_server.empty() && options.to_client.empty())) {
    throw std::invalid_argument(
        "FaultyProxy: give either scripts or .random, not both");
  }
  internal::ForwarderOptions result{
      .name = "FaultyProxy",
      .thread_name = "tcpip-proxy",
      .server_host = std::move(options.server_host),
      .server_port = options.server_port,
      .log = std::move(options.log)};
  if (options.random) {
    result.script = [random = *options.random](std::uint64_t connection,
                                               Direction direction) {
      return random_script(random, connection, direction);
    };
  } else {
    result.script = [to_server = std::move(options.to_server),
                     to_client = std::move(options.to_client)](
                        std::uint64_t /*connection*/, Direction direction) {
      return direction == Direction::kToServer ? to_server : to_client;
    };
  }
  return result;
}

}  // namespace

FaultyProxy::FaultyProxy(Options options)
    : random_(options.random),
      forwarder_(std::make_shared<internal::Forwarder>(
          forwarder_options(std::move(options)))) {}

FaultyProxy::~FaultyProxy() {
  close();
  if (random_ &&
      (testing::Test::HasFailure() || std::uncaught_exceptions() > 0)) {
    std::fprintf(stderr,
                 "FaultyProxy: the faults were .random = {.seed = %llu, .ends "
                 "= %s}\n",
                 static_cast<unsigned long long>(random_->seed),
                 random_->ends ? "true" : "false");
  }
}

void FaultyProxy::start(const tcpip::Wait& wait) { forwarder_->start(wait); }
int FaultyProxy::port() const { return forwarder_->port(); }
void FaultyProxy::close() { forwarder_->close(); }

void FaultyProxy::stall(Direction direction) { forwarder_->stall(direction); }
void FaultyProxy::stall() {
  stall(Direction::kToServer);
  stall(Direction::kToClient);
}
void FaultyProxy::resume(Direction direction) { forwarder_->resume(direction); }
void FaultyProxy::resume() {
  resume(Direction::kToServer);
  resume(Direction::kToClient);
}
void FaultyProxy::cut(Direction direction) { forwarder_->cut(direction); }
void FaultyProxy::reset() { forwarder_->reset(); }
void FaultyProxy::drop() { forwarder_->drop(); }
void FaultyProxy::refuse_connections() { forwarder_->refuse_connections(); }
void FaultyProxy::accept_connections() { forwarder_->accept_connections(); }

std::uint64_t FaultyProxy::bytes_passed(Direction direction) const {
  return forwarder_->bytes_passed(direction);
}
std::uint64_t FaultyProxy::connection_count() const {
  return forwarder_->connection_count();
}
std::size_t FaultyProxy::open_connections() const {
  return forwarder_->open_connections();
}

}  // namespace tcpip_testing
