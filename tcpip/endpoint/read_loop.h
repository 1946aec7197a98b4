// What the client reader does: calls the read handler again and again, for
// connection after connection.
//
// Threads: read_connections() runs in the client reader. The ReadLoop does not
// change after the server's constructor.
#ifndef TCPIP_ENDPOINT_READ_LOOP_H_
#define TCPIP_ENDPOINT_READ_LOOP_H_

#include <functional>
#include <stop_token>

#include "tcpip/connection.h"
#include "tcpip/endpoint/endpoint_core.h"

namespace tcpip::internal {

struct ReadLoop {
  using Handler = std::function<void(Connection&, std::stop_token)>;

  Handler begin;    // called once for each connection, first; or empty
  Handler handler;  // reads one message and acts on it
  bool read_after_callback = false;
};

// Returns when the core is closing.
void read_connections(EndpointCore& core, const ReadLoop& loop);

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_READ_LOOP_H_
