#include "tcpip/one_client_read_loop_server.h"

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
                 internal::client_reader("OneClientReadLoopServer", options,
                                         std::move(handler))) {}

OneClientReadLoopServer::~OneClientReadLoopServer() { core().release(); }

}  // namespace tcpip
