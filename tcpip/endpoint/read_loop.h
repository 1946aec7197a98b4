// What a client reader's thread does: calls the read handler again and again,
// for connection after connection.
//
// Threads: read_connections() is the client reader's thread.
#ifndef TCPIP_ENDPOINT_READ_LOOP_H_
#define TCPIP_ENDPOINT_READ_LOOP_H_

#include <functional>
#include <stop_token>

#include "tcpip/connection.h"
#include "tcpip/endpoint/endpoint_core.h"

namespace tcpip::internal {

struct ReadLoop {
  using Handler = std::function<void(Connection&, std::stop_token)>;

  Handler begin;    // once for each connection, before the first read; or empty
  Handler handler;  // reads one message and does what it says
  bool read_after_callback = false;
};

// Until the core is closing.
void read_connections(EndpointCore& core, const ReadLoop& loop);

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_READ_LOOP_H_
