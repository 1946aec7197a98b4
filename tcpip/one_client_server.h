// A server that serves one client at a time.
//
//   tcpip::OneClientServer server({.host = "127.0.0.1", .port = 4000});
//   server.start();
//   while (auto client = server.wait_client()) echo(*client);
//
// While a client is connected, others are turned away: they read the end of the
// stream, and the server logs it; or they take its place, if AdmissionOptions
// says so. A client that has gone does not block the
// next one, even if some of its bytes are still unread. A client that has sent
// FIN (`nc -N`) counts as gone once everything that it sent is read, as in
// lsst.ts.tcpip: no reply reaches it.
//
// Threads: as BaseClientOrServer. start() starts the accept thread, which
// accepts clients and notices that a client has gone; and, if there is a
// connect_callback and no queue, the dispatcher, which runs it.
#ifndef TCPIP_ONE_CLIENT_SERVER_H_
#define TCPIP_ONE_CLIENT_SERVER_H_

#include "tcpip/version.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/base_client_or_server.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/options.h"
#include "tcpip/wait.h"

namespace tcpip {

namespace internal {

// The server part of both server classes.
class TCPIP_EXPORT ServerBase : public BaseClientOrServer {
 public:
  // Binds, listens and starts the threads; port() is known when it returns.
  // The wait is for resolving the host, and for
  // options.listen.wait_for_address. Logs a warning for each address of the
  // host that this machine does not have while it has another. May be called
  // once. Throws what Listener's constructor throws; std::logic_error the
  // second time and after close(); ConnectionError if close() is called
  // meanwhile; Error if there can be no thread or descriptor. After a failure
  // the server is closed.
  void start(const Wait& wait = {});

  // Ends the current connection, if there is one, and goes on serving. Sends
  // what the kernel takes at once, then FIN; wakes every blocked call; never
  // waits. The client reads our last bytes and the end of the stream, even if
  // it goes on sending for up to a second. (If a read without a stop token had
  // to be woken, such a client may meet a reset behind our last bytes; see
  // Socket::close.)
  void close_client();
  // The same, but leaves should_be_connected() as it is.
  void basic_close_client();
  // Ends the current connection and the server. When it returns, no thread,
  // callback or socket of the server is left, and its port is free. It
  // waits for a callback or read handler that is running, and up to 0.1 s if
  // the client does not take our last bytes. Idempotent, from any thread.
  //
  // Called in one of the server's own callbacks, it does not wait for that
  // callback, which is then the last. In the read handler it returns at once,
  // and the rest ends when the handler has returned. Nor does it wait for a
  // thread that waits for the calling thread, as when the callbacks of two
  // objects close each other; that thread ends when its function has returned.
  // In a stop callback of a connection see Connection::stop_token(). Not to be
  // called in a signal handler.
  //
  // The disconnected event runs before close() returns if the server has a
  // dispatcher, or if the calling thread is the one that drains the queue; but
  // not in a callback. Otherwise the event is dropped.
  void close();

  // The host of the options.
  const std::optional<std::string>& host() const noexcept { return host_; }
  // The port, the same on all sockets; before start() the one of the options.
  int port() const;
  // The address of each listening socket; empty before start().
  std::vector<Address> addresses() const;

 protected:
  using Worker = std::function<void(EndpointCore&)>;
  // `what` is the class's name, for messages. `client_reader`, if not empty, is
  // the work of the client reader, a thread of its own.
  ServerBase(const ServerOptions& options, const char* what,
             std::optional<std::string> host, Worker client_reader);
  ~ServerBase();

 private:
  const std::optional<std::string> host_;
  const int asked_port_;
  const ListenOptions listen_;
  const Worker client_reader_;
  struct Listening;
  const std::unique_ptr<Listening> listening_;
  std::stop_source starting_;  // stops start() when close() is called
};

}  // namespace internal

class TCPIP_EXPORT OneClientServer final : public internal::ServerBase {
 public:
  using Options = ServerOptions;

  // Does not listen yet. Throws as Client's constructor, and
  // std::invalid_argument for an option that is for read-loop servers only.
  explicit OneClientServer(ServerOptions options);
  // close(). Safe inside the server's own callback.
  ~OneClientServer();

  // Waits for the next client: one that has connected after those that earlier
  // calls returned. std::nullopt when the server is closed and at the deadline;
  // throws CancelledError at the stop. Skips a client that has come and gone
  // meanwhile and left nothing to read. No client is accepted while another is
  // connected: close() its Connection when you have served it.
  std::optional<Connection> wait_client(const Wait& wait = {});
};

}  // namespace tcpip

#endif  // TCPIP_ONE_CLIENT_SERVER_H_
