#include "tcpip/read_loop_client.h"

#include <stdexcept>
#include <utility>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/read_loop.h"

namespace tcpip {

ReadLoopClient::ReadLoopClient(ClientOptions options, ReadHandler handler)
    : OneConnectionClient(
          options, "ReadLoopClient",
          [loop = internal::ReadLoop{options.begin, handler,
                                     options.read_after_callback}](
              internal::EndpointCore& core) {
            internal::read_connections(core, loop);
          }) {
  if (!handler) {
    throw std::invalid_argument("ReadLoopClient: the read handler is empty");
  }
}

ReadLoopClient::~ReadLoopClient() { release(); }

}  // namespace tcpip
