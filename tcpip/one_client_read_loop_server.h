// A server that serves one client at a time and reads from it on a thread of
// its own, calling a handler again and again.
//
//   tcpip::OneClientReadLoopServer server(
//       {.host = "127.0.0.1", .port = 4000},
//       [](auto& self, std::stop_token stop) {
//         self.write_str(self.read_str(stop), stop);
//       });
//   server.start();
//
// Threads: as OneClientServer, and one more: the client reader, which runs the
// handler. It lives as long as the server and serves client after client.
#ifndef TCPIP_ONE_CLIENT_READ_LOOP_SERVER_H_
#define TCPIP_ONE_CLIENT_READ_LOOP_SERVER_H_

#include <functional>
#include <stop_token>

#include "tcpip/one_client_server.h"

namespace tcpip {

class OneClientReadLoopServer;
using OneClientReadLoopServerOptions =
    BasicServerOptions<OneClientReadLoopServer>;

class OneClientReadLoopServer final : public internal::ServerBase {
 public:
  // Reads one message and does what it says. Called for as long as the client
  // is connected. `stop` is requested when the connection is over, for whatever
  // reason: pass it to everything that blocks. An exception ends the
  // connection; unless it says no more than that the connection or the server
  // is coming to its end, it is logged.
  //
  // To have messages dealt with by the control thread, post them to the queue
  // that the connection events go through:
  //   server.post_wait(server.bound([line] { ... }));
  // They keep their order, and come behind their connection's connected event.
  // Do not pass `stop` there if a message that has come shall be dealt with
  // even though its client has gone since; close() ends the wait anyway.
  // bound() sees to it that an answer does not go to the next client.
  using ReadHandler =
      std::function<void(OneClientReadLoopServer&, std::stop_token stop)>;

  // Does not listen yet. Throws as OneClientServer's does, and
  // std::invalid_argument for an empty handler.
  OneClientReadLoopServer(OneClientReadLoopServerOptions options,
                          ReadHandler handler);
  // close(). Safe inside the server's own callback and the read handler.
  ~OneClientReadLoopServer();
};

}  // namespace tcpip

#endif  // TCPIP_ONE_CLIENT_READ_LOOP_SERVER_H_
