// A client: connects once, says when the connection is made and lost.
//
//   tcpip::Client client({.host = "127.0.0.1", .port = 4000});
//   client.start(5s);
//   client.write_str("hello", 1s);
//   std::string reply = client.read_str(1s);
//
// Threads: as BaseClientOrServer. start() makes one thread, which notices that
// the server has gone, and one more that runs connect_callback if there is one
// and no queue was given.
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
  // 0...65535, an empty terminator, an unknown encoding, a limit of 0.
  explicit Client(ClientOptions options);
  // close(). Safe inside the client's own callback.
  ~Client();

  // Connects. May be called once: a Client has one connection in its life.
  // Throws std::logic_error the second time and after close(); what
  // open_connection() throws if it cannot connect, and ConnectionError if
  // close() was called meanwhile. A client with an empty host does nothing. A
  // server that turns the client away does so after connecting: the first read
  // or write tells.
  void start(const Wait& wait = {});

  // Ends the connection. Sends what the kernel takes at once, then FIN; wakes
  // every blocked call; ends the threads. When it returns no thread, callback
  // or descriptor of the client is left. Takes no longer than a callback that
  // is running, and 0.1 s if the server does not take our last bytes. Called in
  // one of the client's own callbacks it does not wait for that one, and that
  // one is the last; nor does it wait for a thread that waits for the calling
  // one, as when the callbacks of two objects close each other. Idempotent.
  //
  // The disconnected event comes before it returns if connect_callback has a
  // thread of its own, or if the calling thread is the one that drains the
  // queue; else it is dropped.
  void close();
  // The same but leaves should_be_connected() as it is.
  void basic_close();

  const std::optional<std::string>& host() const noexcept {
    return options_.host;
  }
  int port() const noexcept { return options_.port; }

 private:
  bool has_no_host() const noexcept {
    return options_.host && options_.host->empty();
  }

  const ClientOptions options_;
  std::stop_source connecting_;  // stops start() when close() is called
};

}  // namespace tcpip

#endif  // TCPIP_CLIENT_H_
