#include "tcpip/one_client_read_loop_server.h"

#include <stdexcept>
#include <string>
#include <utility>

#include "tcpip/constants.h"
#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/read_loop.h"

namespace tcpip {

OneClientReadLoopServer::OneClientReadLoopServer(ServerOptions options,
                                                 ReadHandler handler)
    : ServerBase(options, "OneClientReadLoopServer",
                 options.host.value_or(std::string(kDefaultLocalhost)),
                 [loop = internal::ReadLoop{options.begin, handler,
                                            options.read_after_callback}](
                     internal::EndpointCore& core) {
                   internal::read_connections(core, loop);
                 }) {
  if (!handler) {
    throw std::invalid_argument(
        "OneClientReadLoopServer: the read handler is empty");
  }
}

OneClientReadLoopServer::~OneClientReadLoopServer() { core().release(); }

}  // namespace tcpip
