// A server that serves one client at a time.
//
//   tcpip::OneClientServer server({.host = "127.0.0.1", .port = 4000});
//   server.start();
//   while (auto client = server.wait_client()) echo(*client);
//
// While a client is connected, others are turned away: they read the end of the
// stream, and the server's log says so. A client that has gone does not block
// the next one, even if bytes of it are still unread. A client that has sent
// FIN (`nc -N`) counts as gone once what it sent is read, as in lsst.ts.tcpip:
// a reply does not reach it.
//
// Threads: as BaseClientOrServer. start() makes one thread, which accepts and
// which notices that the client has gone; and one more that runs
// connect_callback if there is one and no queue was given.
#ifndef TCPIP_ONE_CLIENT_SERVER_H_
#define TCPIP_ONE_CLIENT_SERVER_H_

#include <functional>
#include <memory>
#include <optional>
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
class ServerBase : public BaseClientOrServer {
 public:
  // Binds, listens and starts the threads; port() is known when it returns.
  // The wait is for resolving the host. May be called once. Throws
  // std::logic_error the second time and after close(); what Listener's
  // constructor throws (Error with the address, if it is in use); Error if a
  // thread or descriptor cannot be had. After a failure the server is closed
  // and nothing of it is left.
  void start(const Wait& wait = {});

  // Ends the connection of the moment, if there is one, and goes on serving.
  // Wakes every blocked call, sends what the kernel takes at once, then FIN;
  // never waits. The client reads our last bytes and the end of the stream,
  // even if it is still sending (for up to a second; and unless a read without
  // a stop token had to be woken: then it may meet a reset behind our last
  // bytes).
  void close_client();
  // The same but leaves should_be_connected() as it is.
  void basic_close_client();
  // Stops serving, for good. When it returns no thread, callback or descriptor
  // of the server is left, and its port is free. Takes no longer than a
  // callback or handler that is running, and 0.1 s if the client does not take
  // our last bytes. Idempotent, from any thread; in the server's own callback
  // it does not wait for that one, and that one is the last; in the read
  // handler it returns at once, and what it does is complete when the handler
  // has returned. Nor does it wait for a thread that waits for the calling one,
  // as when the callbacks of two objects close each other: that one's work is
  // complete when its function has returned.
  //
  // The disconnected event comes before it returns if connect_callback has a
  // thread of its own, or if the calling thread is the one that drains the
  // queue; else it is dropped.
  void close();

  const std::optional<std::string>& host() const noexcept { return host_; }
  // The port, once started; before that the one that was asked for. It is the
  // same on all sockets.
  int port() const;
  // The address of each listening socket; empty before start().
  std::vector<Address> addresses() const;

 protected:
  using Worker = std::function<void(EndpointCore&)>;
  // `client_reader`, if not empty, runs on a thread of its own.
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
};

}  // namespace internal

class OneClientServer final : public internal::ServerBase {
 public:
  using Options = ServerOptions;

  // Does not listen yet. Throws std::invalid_argument for a port outside
  // 0...65535, an empty terminator, an unknown encoding, a limit of 0, an
  // option for read-loop servers only.
  explicit OneClientServer(ServerOptions options);
  // close(). Safe inside the server's own callback.
  ~OneClientServer();

  // The next client: waits for one that connected after all those that this
  // call has returned. Nothing when the server is closed, and at the deadline;
  // CancelledError at the stop. A client that has come and gone meanwhile,
  // leaving nothing to read, is passed over. While a client stays connected no
  // other comes: close() its Connection when you are through with it.
  std::optional<Connection> wait_client(const Wait& wait = {});
};

}  // namespace tcpip

#endif  // TCPIP_ONE_CLIENT_SERVER_H_
