// From the public options of a client or server to its core.
//
// Threads: runs in the constructor.
#ifndef TCPIP_INTERNAL_MAKE_CORE_H_
#define TCPIP_INTERNAL_MAKE_CORE_H_

#include <memory>
#include <utility>

#include "tcpip/internal/endpoint_core.h"
#include "tcpip/internal/text.h"
#include "tcpip/socket.h"

namespace tcpip::internal {

// Throws as the public constructors do. `owner` is only remembered.
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
                     .interval = options.heartbeat_interval,
                     .expect = options.expect_heartbeats,
                     .max_interval = options.max_heartbeat_interval},
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
          options.terminator),
      owner);
}

}  // namespace tcpip::internal

#endif  // TCPIP_INTERNAL_MAKE_CORE_H_
