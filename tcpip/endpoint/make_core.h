// From the public options of a client or server to its core.
//
// Threads: runs in the constructor.
#ifndef TCPIP_ENDPOINT_MAKE_CORE_H_
#define TCPIP_ENDPOINT_MAKE_CORE_H_

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/text.h"
#include "tcpip/socket.h"

namespace tcpip::internal {

// So that the clock can add it: an interval beyond is as good as this one.
inline constexpr std::chrono::hours kLongestInterval{100 * 365 * 24};

inline std::chrono::milliseconds bounded(std::chrono::milliseconds interval) {
  return std::min<std::chrono::milliseconds>(interval, kLongestInterval);
}

// Throws as the public constructors do. `owner` is what callbacks get.
template <class Options, class Owner>
std::shared_ptr<EndpointCore> make_core(const Options& options, Owner* owner,
                                        const SocketOptions& socket,
                                        const char* what) {
  check_port(options.port, what);
  EndpointConfig config{
      .name = options.name,
      .log = options.log.child(options.name),
      .callbacks = options.callbacks,
      .on_event = {},
      .thread_start_hook = options.thread_start_hook,
      .heartbeats = {.send = options.send_heartbeats,
                     .interval = bounded(options.heartbeat_interval),
                     .expect = options.expect_heartbeats,
                     .max_interval = bounded(options.max_heartbeat_interval)},
      .limit = options.limit,
      .write_limit = options.write_limit,
      .socket = socket,
  };
  if (options.connect_callback) {
    config.on_event = [owner, callback = options.connect_callback](
                          const ConnectionEvent& event) {
      callback(*owner, event);
    };
  }
  return std::make_shared<EndpointCore>(
      std::move(config),
      std::make_shared<const TextFormat>(
          std::make_shared<const TextCodec>(options.encoding),
          options.terminator));
}

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_MAKE_CORE_H_
