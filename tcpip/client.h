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

#include "tcpip/version.h"

#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "tcpip/base_client_or_server.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/options.h"
#include "tcpip/wait.h"

namespace tcpip {

namespace internal {

struct Target;

// What all client classes have.
class TCPIP_EXPORT ClientBase : public BaseClientOrServer {
 public:
  // Ends the connection and the client. Sends what the kernel takes at once,
  // then FIN; wakes every blocked call; ends the threads. When it returns, no
  // thread, callback or socket of the client is left. It waits for a
  // callback or read handler that is running, and up to 0.1 s if the server
  // does not take our last bytes. Idempotent, from any thread.
  //
  // Called in one of the client's own callbacks, it does not wait for that
  // callback, which is then the last. In the read handler it returns at once,
  // and the rest ends when the handler has returned. Nor does it wait for a
  // thread that waits for the calling thread, as when the callbacks of two
  // objects close each other. In a stop callback of a connection see
  // Connection::stop_token(). Not to be called in a signal handler.
  //
  // The disconnected event runs before close() returns if the client has a
  // dispatcher, or if the calling thread is the one that drains the queue; but
  // not in a callback. Otherwise the event is dropped.
  void close();
  // The same, but leaves should_be_connected() as it is.
  void basic_close();

  // Host and port of the options.
  const std::optional<std::string>& host() const noexcept {
    return options_.host;
  }
  int port() const noexcept { return options_.port; }

 protected:
  using Worker = std::function<void(EndpointCore&)>;
  // `what` is the class's name, for messages. `client_reader`, if not empty, is
  // the work of the client reader, a thread of its own.
  ClientBase(ClientOptions options, const char* what, Worker client_reader);
  ~ClientBase();
  // For the destructors of the classes that the program uses.
  void release();

  bool has_no_host() const noexcept {
    return options_.host && options_.host->empty();
  }
  Target target() const;
  // Requested by close(): ends what connects.
  const std::stop_source& connecting() const noexcept { return connecting_; }
  // Starts the client reader, if there is one.
  void start_reader();

 private:
  void stop_connecting();

  const ClientOptions options_;
  const Worker client_reader_;
  std::stop_source connecting_;
};

// What those have that connect once.
class TCPIP_EXPORT OneConnectionClient : public ClientBase {
 public:
  // Connects. May be called once: the client has one connection in its life.
  // With an empty host it does nothing. A server that turns the client away
  // does so after connecting: the first read or write finds out.
  //
  // Throws what open_connection() throws; std::logic_error the second time and
  // after close(); ConnectionError if close() is called meanwhile; Error if
  // there can be no thread. After a failure the client is closed.
  void start(const Wait& wait = {});

 protected:
  OneConnectionClient(ClientOptions options, const char* what,
                      Worker client_reader);
  ~OneConnectionClient();
};

}  // namespace internal

class TCPIP_EXPORT Client final : public internal::OneConnectionClient {
 public:
  using Options = ClientOptions;

  // Does not connect yet. Throws std::invalid_argument for a port outside
  // 0...65535, an empty terminator, an unknown encoding, a heartbeat interval
  // that is not positive, a limit of 0, or an option that is for a read handler
  // only.
  explicit Client(ClientOptions options);
  // close(). Safe inside the client's own callback.
  ~Client();
};

}  // namespace tcpip

#endif  // TCPIP_CLIENT_H_
