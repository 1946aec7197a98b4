// Makes the core of a client or server from its public options.
//
// Threads: called by the constructors; the functions may be called from any
// thread.
#ifndef TCPIP_ENDPOINT_MAKE_CORE_H_
#define TCPIP_ENDPOINT_MAKE_CORE_H_

#include <memory>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/options.h"

namespace tcpip::internal {

// Throw as the public constructors do; `what` is the class's name. has_reader:
// the client or server has a client reader.
std::shared_ptr<EndpointCore> make_core(const ClientOptions& options,
                                        const char* what, bool has_reader);
std::shared_ptr<EndpointCore> make_core(const ServerOptions& options,
                                        const char* what, bool has_reader);

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_MAKE_CORE_H_
