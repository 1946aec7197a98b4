// A client that calls a read handler again and again on a thread of its own,
// the client reader, as a OneClientReadLoopServer does.
//
//   tcpip::ReadLoopClient client(
//       {.host = "127.0.0.1", .port = 4000},
//       [](tcpip::Connection& server, std::stop_token stop) {
//         obey(server.read_str(stop));
//       });
//   client.start(5s);
//   client.write_str("hello", 1s);
//
// Threads: as Client, and one more: the client reader, which runs the read
// handler. It ends with the client.
#ifndef TCPIP_READ_LOOP_CLIENT_H_
#define TCPIP_READ_LOOP_CLIENT_H_

#include "tcpip/version.h"

#include <functional>
#include <stop_token>

#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/options.h"

namespace tcpip {

class TCPIP_EXPORT ReadLoopClient final : public internal::OneConnectionClient {
 public:
  using Options = ClientOptions;
  // As OneClientReadLoopServer::ReadHandler: reads one message from `server`
  // and acts on it; called again and again while connected. The connection ends
  // when its last message has been handled: what came before the server's FIN
  // reaches the handler, and the disconnected event comes after that.
  using ReadHandler =
      std::function<void(Connection& server, std::stop_token stop)>;

  // Does not connect yet. Throws as Client's constructor, and
  // std::invalid_argument for an empty handler.
  ReadLoopClient(ClientOptions options, ReadHandler handler);
  // close(). Safe inside the client's own callback and the read handler.
  ~ReadLoopClient();
};

}  // namespace tcpip

#endif  // TCPIP_READ_LOOP_CLIENT_H_
