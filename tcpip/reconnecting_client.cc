#include "tcpip/reconnecting_client.h"

#include <fmt/format.h>

#include <chrono>
#include <stdexcept>
#include <utility>

#include "tcpip/endpoint/connect_loop.h"
#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/read_loop.h"

namespace tcpip {
namespace {

constexpr const char* kReconnectingClient = "ReconnectingClient";

void check(bool is_right, const char* what) {
  if (is_right) return;
  throw std::invalid_argument(fmt::format("{}: {}", kReconnectingClient, what));
}

ReconnectOptions checked(const ReconnectOptions& options) {
  constexpr std::chrono::milliseconds kNone{0};
  check(options.connect_timeout > kNone, "connect_timeout is not positive");
  check(options.silence_timeout >= kNone, "silence_timeout is negative");
  check(options.first > kNone, "first is not positive");
  check(options.longest >= options.first, "longest is less than first");
  check(options.tries >= 0, "tries is negative");
  check(options.finish_time >= kNone, "finish_time is negative");
  return options;
}

}  // namespace

ReconnectingClient::ReconnectingClient(ClientOptions options,
                                       ReconnectOptions reconnect)
    : ClientBase(options, kReconnectingClient, {}),
      reconnect_(checked(reconnect)) {
  check(!options.begin && !options.read_after_callback,
        "begin and read_after_callback are for a read handler");
}

ReconnectingClient::ReconnectingClient(ClientOptions options,
                                       ReadHandler handler,
                                       ReconnectOptions reconnect)
    : ClientBase(options, kReconnectingClient,
                 internal::client_reader(kReconnectingClient, options,
                                         std::move(handler))),
      reconnect_(checked(reconnect)) {}

ReconnectingClient::~ReconnectingClient() { release(); }

void ReconnectingClient::start() {
  if (has_no_host()) return;
  core().begin_start();
  try {
    core().start_dispatcher();
    start_reader();
    core().start_worker(
        ThreadRole::kMonitor, "tcpip-monitor",
        [target = target(), reconnect = reconnect_,
         closing = connecting().get_token()](internal::EndpointCore& core) {
          internal::ConnectLoop(core, target, reconnect, closing).run();
        });
  } catch (...) {
    close();
    throw;
  }
}

}  // namespace tcpip
