// A server that serves one client at a time, and calls a read handler again and
// again on a thread of its own, the client reader.
//
//   tcpip::OneClientReadLoopServer server(
//       {.port = 4000},
//       [](tcpip::Connection& client, std::stop_token stop) {
//         client.write_str("you said: " + client.read_str(stop), stop);
//       });
//   server.start();
//
// Threads: as OneClientServer, and one more: the client reader, which runs the
// read handler. It lives as long as the server and serves client after client.
#ifndef TCPIP_ONE_CLIENT_READ_LOOP_SERVER_H_
#define TCPIP_ONE_CLIENT_READ_LOOP_SERVER_H_

#include "tcpip/version.h"

#include <functional>
#include <stop_token>

#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"

namespace tcpip {

class TCPIP_EXPORT OneClientReadLoopServer final : public internal::ServerBase {
 public:
  using Options = ServerOptions;
  // Reads one message from `client` and acts on it. Called again and again
  // while that client is connected. `stop` is requested when the connection
  // ends, for whatever reason: pass it to everything that blocks. An exception
  // ends the connection. The exception is logged, unless it only says that the
  // connection or the server has ended.
  //
  // To let the control loop act on the messages, post them to the queue that
  // has the connection events:
  //   client.post_wait([=] { obey(client, line); });
  // They keep their order, and run after their client's connected event.
  // Without `stop`, as here, a message is posted even if its client has gone
  // meanwhile; close() of the server ends the wait in any case.
  using ReadHandler =
      std::function<void(Connection& client, std::stop_token stop)>;

  // Does not listen yet. Throws as Client's constructor, and
  // std::invalid_argument for an empty handler.
  OneClientReadLoopServer(ServerOptions options, ReadHandler handler);
  // close(). Safe inside the server's own callback and the read handler.
  ~OneClientReadLoopServer();
};

}  // namespace tcpip

#endif  // TCPIP_ONE_CLIENT_READ_LOOP_SERVER_H_
