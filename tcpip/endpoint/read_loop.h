// What the client reader does: calls the read handler again and again, for
// connection after connection.
//
// Threads: client_reader() is called by the constructors; what it returns runs
// in the client reader. The ReadLoop does not change after the constructor.
#ifndef TCPIP_ENDPOINT_READ_LOOP_H_
#define TCPIP_ENDPOINT_READ_LOOP_H_

#include <functional>
#include <stop_token>
#include <utility>

#include "tcpip/connection.h"
#include "tcpip/endpoint/endpoint_core.h"

namespace tcpip::internal {

struct ReadLoop {
  using Handler = std::function<void(Connection&, std::stop_token)>;

  Handler begin;    // called once for each connection, first; or empty
  Handler handler;  // reads one message and acts on it
  bool read_after_callback = false;
};

// The work of the client reader of a client or server, `what`, with these
// options; it returns when the core is closing. Throws std::invalid_argument if
// the handler is empty.
std::function<void(EndpointCore&)> client_reader(const char* what,
                                                 ReadLoop loop);
template <class Options>
std::function<void(EndpointCore&)> client_reader(const char* what,
                                                 const Options& options,
                                                 ReadLoop::Handler handler) {
  return client_reader(
      what, {options.begin, std::move(handler), options.read_after_callback});
}

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_READ_LOOP_H_
