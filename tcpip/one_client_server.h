// A server that serves one client at a time.
//
//   tcpip::OneClientServer server({.host = "127.0.0.1", .port = 4000});
//   server.start();
//   if (server.wait_connected(10s)) server.write_str(server.read_str(2s));
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

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/base_client_or_server.h"
#include "tcpip/callback_queue.h"
#include "tcpip/connection_event.h"
#include "tcpip/constants.h"
#include "tcpip/log.h"
#include "tcpip/socket.h"
#include "tcpip/thread_hook.h"
#include "tcpip/wait.h"

namespace tcpip {

// Options of a server of class Server.
template <class Server>
struct BasicServerOptions {
  // A name or a numeric address to listen on. Absent or empty: all interfaces.
  std::optional<std::string> host = {};
  int port = 0;  // 0: any that is free, see port()
  // Appears in error messages and, as a child of `log`, in log lines.
  std::string name = {};
  Log log = {};
  // Where connect_callback runs; must outlive the server. Null: on a thread
  // of the server's own.
  CallbackQueue* callbacks = nullptr;
  // Called once for each change, connected and disconnected by turns. What it
  // throws is logged. It may call any member, close() and the destructor too.
  std::function<void(Server&, const ConnectionEvent&)> connect_callback = {};
  // Of text messages. The encoding by one of Python's names or aliases:
  // utf-8 (strict), utf-16, utf-32 (both with a byte-order mark), utf-16-le,
  // utf-16-be, utf-32-le, utf-32-be, latin-1, ascii. The terminator is any
  // bytes but none; it is sent as it is, not encoded.
  std::string encoding = std::string(kDefaultEncoding);
  std::string terminator = std::string(kDefaultTerminator);
  // Sends kHeartbeat and the terminator, at once and then every
  // heartbeat_interval, as long as a peer is connected.
  bool send_heartbeats = false;
  std::chrono::milliseconds heartbeat_interval = kDefaultHeartbeatInterval;
  // Expects the same of the peer: one within max_heartbeat_interval of the
  // connection and of the one before, or the connection ends
  // (DisconnectReason::kHeartbeatLost). They are taken out of what is read; see
  // BaseClientOrServer.
  bool expect_heartbeats = false;
  std::chrono::milliseconds max_heartbeat_interval =
      kDefaultMaxHeartbeatInterval;
  std::size_t limit = kDefaultLimit;  // the longest message for read_until
  // No further message is taken while more than this is unsent.
  std::size_t write_limit = kDefaultWriteLimit;
  // Address family, backlog, address reuse.
  ListenOptions listen = {};
  SocketOptions socket = {};
  // Read-loop servers only: do not read from a client before connect_callback
  // has returned for it, as in lsst.ts.tcpip. Without, a slow callback, or a
  // queue that is not drained, does not hold up reading.
  bool read_after_callback = false;
  ThreadStartHook thread_start_hook = {};
};

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

  // Ends the connection, if there is one, and goes on serving. Wakes every
  // blocked call, sends what the kernel takes at once, then FIN; never waits.
  // The client reads our last bytes and the end of the stream, even if it is
  // still sending (for up to a second; and unless a read without a stop token
  // had to be woken: then it may meet a reset behind our last bytes).
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
  ServerBase(std::shared_ptr<EndpointCore> core,
             std::optional<std::string> host, int port, ListenOptions listen,
             Worker client_reader);
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

class OneClientServer;
using OneClientServerOptions = BasicServerOptions<OneClientServer>;

class OneClientServer final : public internal::ServerBase {
 public:
  // Does not listen yet. Throws std::invalid_argument for a port outside
  // 0...65535, an empty terminator, an unknown encoding, a limit of 0.
  explicit OneClientServer(OneClientServerOptions options);
  // close(). Safe inside the server's own callback.
  ~OneClientServer();
};

}  // namespace tcpip

#endif  // TCPIP_ONE_CLIENT_SERVER_H_
