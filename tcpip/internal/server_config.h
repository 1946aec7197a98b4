// From a server's public options to the core that both server classes share.
//
// Threads: runs in the server's constructor.
#ifndef TCPIP_INTERNAL_SERVER_CONFIG_H_
#define TCPIP_INTERNAL_SERVER_CONFIG_H_

#include <memory>
#include <utility>

#include "tcpip/internal/endpoint_core.h"
#include "tcpip/one_client_server.h"

namespace tcpip::internal {

template <class Server>
std::shared_ptr<EndpointCore> make_server_core(
    const BasicServerOptions<Server>& options, Server* server) {
  check_port(options.port, "server");
  EndpointConfig config{
      .name = options.name,
      .log = options.log.child(options.name),
      .callbacks = options.callbacks,
      .on_event = {},
      .thread_start_hook = options.thread_start_hook,
      .encoding = options.encoding,
      .terminator = options.terminator,
      .limit = options.limit,
      .write_limit = options.write_limit,
      .socket = options.socket,
  };
  if (options.connect_callback) {
    config.on_event = [server, callback = options.connect_callback](
                          const ConnectionEvent& event) {
      callback(*server, event);
    };
  }
  return std::make_shared<EndpointCore>(std::move(config), server);
}

}  // namespace tcpip::internal

#endif  // TCPIP_INTERNAL_SERVER_CONFIG_H_
