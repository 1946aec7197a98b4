#include "tcpip/read_loop_client.h"

#include <utility>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/read_loop.h"

namespace tcpip {

ReadLoopClient::ReadLoopClient(ClientOptions options, ReadHandler handler)
    : OneConnectionClient(options, "ReadLoopClient",
                          internal::client_reader("ReadLoopClient", options,
                                                  std::move(handler))) {}

ReadLoopClient::~ReadLoopClient() { release(); }

}  // namespace tcpip
