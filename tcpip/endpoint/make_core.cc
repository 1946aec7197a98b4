#include "tcpip/endpoint/make_core.h"

#include <fmt/format.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

#include "tcpip/endpoint/text.h"
#include "tcpip/net/socket_options.h"

namespace tcpip::internal {
namespace {

void check_port(int port, const char* what, const char* option) {
  if (port >= 0 && port <= 65535) return;
  throw std::invalid_argument(
      fmt::format("{}: {} {} is not in 0...65535", what, option, port));
}

// Uses only the options that clients and servers both have.
template <class Options>
std::shared_ptr<EndpointCore> make_core_of(const Options& options,
                                           const char* what,
                                           const ReaderConfig& reader,
                                           TapEvent begins,
                                           AdmissionOptions admission = {}) {
  check_port(options.port, what, "port");
  check(options.socket, what);
  if (options.spin < std::chrono::microseconds::zero()) {
    throw std::invalid_argument(fmt::format("{}: spin is negative", what));
  }
  EndpointConfig config{
      .name = options.name,
      .log = options.log.child(options.name),
      .callbacks = options.callbacks,
      .on_event = options.connect_callback,
      .thread_start_hook = options.thread_start_hook,
      .heartbeats = checked(options.heartbeats),
      .limit = options.limit,
      .write_limit = options.write_limit,
      .spin = options.spin,
      .socket = options.socket,
      .reader = reader,
      .admission = std::move(admission),
      .allowed = {},
      .tap = options.tap,
      .begins = begins,
  };
  for (const std::string& network : config.admission.allow) {
    config.allowed.emplace_back(network);
  }
  auto format = std::make_shared<const TextFormat>(
      std::make_shared<const TextCodec>(options.encoding), options.terminator);
  if (options.heartbeats.are_used()) format->check_heartbeats();
  // Not make_shared: the weak_ptr in a ConnectionRecord would keep the memory
  // of the core as long as the program keeps a Connection.
  return std::shared_ptr<EndpointCore>(
      new EndpointCore(std::move(config), std::move(format)));
}

}  // namespace

std::shared_ptr<EndpointCore> make_core(const ClientOptions& options,
                                        const char* what, bool has_reader) {
  check_port(options.connect.local_port, what, "local_port");
  return make_core_of(
      options, what, {.exists = has_reader, .greets = options.begin != nullptr},
      TapEvent::kConnected);
}

std::shared_ptr<EndpointCore> make_core(const ServerOptions& options,
                                        const char* what, bool has_reader) {
  if (options.finish_time < std::chrono::milliseconds::zero()) {
    throw std::invalid_argument(
        fmt::format("{}: finish_time is negative", what));
  }
  if (options.admission.silent_for < std::chrono::milliseconds::zero()) {
    throw std::invalid_argument(
        fmt::format("{}: silent_for is negative", what));
  }
  return make_core_of(options, what,
                      {.exists = has_reader,
                       .greets = options.begin != nullptr,
                       .finish_time = options.finish_time},
                      TapEvent::kAccepted, options.admission);
}

}  // namespace tcpip::internal
