// A client: connects once, and tells when the connection is made and lost.
//
//   tcpip::Client client({.host = "127.0.0.1", .port = 4000});
//   client.start(5s);
//   client.write_str("hello", 1s);
//   std::string reply = client.read_str(1s);
//
// Threads: as BaseClientOrServer. start() starts the monitor thread, which
// notices that the server has gone; and, if there is a connect_callback and no
// queue, the dispatcher, which runs it.
#ifndef TCPIP_CLIENT_H_
#define TCPIP_CLIENT_H_

#include <optional>
#include <stop_token>
#include <string>

#include "tcpip/base_client_or_server.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/options.h"
#include "tcpip/wait.h"

namespace tcpip {

class Client final : public BaseClientOrServer {
 public:
  // Does not connect yet. Throws std::invalid_argument for a port outside
  // 0...65535, an empty terminator, an unknown encoding, a heartbeat interval
  // that is not positive, or a limit of 0.
  explicit Client(ClientOptions options);
  // close(). Safe inside the client's own callback.
  ~Client();

  // Connects. May be called once: a Client has one connection in its life.
  // With an empty host it does nothing. A server that turns the client away
  // does so after connecting: the first read or write finds out.
  //
  // Throws what open_connection() throws; std::logic_error the second time and
  // after close(); ConnectionError if close() is called meanwhile; Error if
  // there can be no thread. After a failure the client is closed.
  void start(const Wait& wait = {});

  // Ends the connection and the client. Sends what the kernel takes at once,
  // then FIN; wakes every blocked call; ends the threads. When it returns, no
  // thread, callback or descriptor of the client is left. It waits for a
  // callback that is running, and up to 0.1 s if the server does not take our
  // last bytes. Idempotent, from any thread.
  //
  // Called in one of the client's own callbacks, it does not wait for that
  // callback, which is then the last. Nor does it wait for a thread that waits
  // for the calling thread, as when the callbacks of two objects close each
  // other. In a stop callback of a connection see Connection::stop_token(). Not
  // to be called in a signal handler.
  //
  // The disconnected event runs before close() returns if the client has a
  // dispatcher, or if the calling thread is the one that drains the queue.
  // Otherwise the event is dropped.
  void close();
  // The same, but leaves should_be_connected() as it is.
  void basic_close();

  const std::optional<std::string>& host() const noexcept {
    return options_.host;
  }
  int port() const noexcept { return options_.port; }

 private:
  void stop_connecting();
  bool has_no_host() const noexcept {
    return options_.host && options_.host->empty();
  }

  const ClientOptions options_;
  std::stop_source connecting_;  // stops start() when close() is called
};

}  // namespace tcpip

#endif  // TCPIP_CLIENT_H_
