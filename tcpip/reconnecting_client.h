// A client that stays connected: it connects, and connects anew whenever the
// connection has ended, until it is closed.
//
//   tcpip::ReconnectingClient client(
//       {.host = "dome", .port = 4000,
//        .connect_callback = [](const tcpip::ConnectionEvent& event) {...}},
//       {.silence_timeout = 5s});
//   client.start();
//   if (client.wait_connected(10s)) client.write_str("hello", 1s);
//
// Each try looks the name up anew and makes a fresh connection, with a number
// of its own; nothing that was meant for one connection reaches another.
// connection() and the members for reading and writing are those of the moment:
// while there is no connection, they throw ConnectionError.
//
// Connection events alternate, as elsewhere; between a disconnected and the
// next connected event, or before the first one, there may be one more, which
// tells that a try has failed (DisconnectReason::kConnectFailed), once for each
// outage. To connect anew, close() the Connection.
//
// Threads: as Client, but the monitor thread also connects. With a read handler
// there is one more, the client reader, which runs it for connection after
// connection.
#ifndef TCPIP_RECONNECTING_CLIENT_H_
#define TCPIP_RECONNECTING_CLIENT_H_

#include "tcpip/version.h"

#include <functional>
#include <stop_token>

#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/options.h"

namespace tcpip {

class TCPIP_EXPORT ReconnectingClient final : public internal::ClientBase {
 public:
  using Options = ClientOptions;
  // See ReadLoopClient. An exception ends the connection, and the client
  // connects anew. `begin` of the options is called first on each connection,
  // for what a server wants to hear or to say at the beginning.
  using ReadHandler =
      std::function<void(Connection& server, std::stop_token stop)>;

  // Does not connect yet. Throws as Client's constructor, and
  // std::invalid_argument for what ReconnectOptions does not allow.
  explicit ReconnectingClient(ClientOptions options,
                              ReconnectOptions reconnect = {});
  // The same with a read handler; std::invalid_argument if it is empty.
  ReconnectingClient(ClientOptions options, ReadHandler handler,
                     ReconnectOptions reconnect = {});
  // close(). Safe inside the client's own callback and the read handler.
  ~ReconnectingClient();

  // Begins to connect and returns at once; wait_connected() waits. What a try
  // says is logged, once for each outage. May be called once. With an empty
  // host it does nothing.
  //
  // Throws std::logic_error the second time and after close(); ConnectionError
  // if close() is called meanwhile; Error if there can be no thread. After a
  // failure the client is closed.
  void start();

 private:
  const ReconnectOptions reconnect_;
};

}  // namespace tcpip

#endif  // TCPIP_RECONNECTING_CLIENT_H_
