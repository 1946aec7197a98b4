// The options of clients and servers, as plain structs for designated
// initialisers, which read like Python's keyword arguments:
//
//   tcpip::Client client({.host = "127.0.0.1",
//                         .port = 4000,
//                         .heartbeats = {.expect = true, .max_interval = 5s}});
//
// Threads: values.
#ifndef TCPIP_OPTIONS_H_
#define TCPIP_OPTIONS_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>

#include "tcpip/address.h"
#include "tcpip/constants.h"
#include "tcpip/log.h"
#include "tcpip/thread_hook.h"

namespace tcpip {

class CallbackQueue;
class Connection;
struct ConnectionEvent;

// --- Groups ---

// Set on every connection when it is made.
struct SocketOptions {
  bool no_delay = true;  // TCP_NODELAY: do not hold small writes back
  bool keepalive = true;
  std::chrono::seconds keepalive_time = kKeepaliveTime;
  std::chrono::seconds keepalive_interval = kKeepaliveInterval;
  int keepalive_probes = kKeepaliveProbes;
  // TCP_USER_TIMEOUT; zero leaves it to the kernel (some 15 minutes). It also
  // ends a connection whose peer is alive but has not read for so long.
  std::chrono::milliseconds user_timeout = kUserTimeout;
  int send_buffer = 0;     // SO_SNDBUF in bytes; 0 leaves it to the kernel
  int receive_buffer = 0;  // SO_RCVBUF, likewise
};

// How to connect.
struct ConnectOptions {
  AddressFamily family = AddressFamily::kAny;
  std::string local_host = {};  // bind to this address first, if not empty
  int local_port = 0;           // and to this port, if not 0
};

// How to listen.
struct ListenOptions {
  AddressFamily family = AddressFamily::kAny;
  int backlog = kDefaultBacklog;
  bool reuse_address = true;
  bool reuse_port = false;
};

struct HeartbeatOptions {
  // Sends kHeartbeat and the terminator, at once and then every `interval`, as
  // long as a peer is connected.
  bool send = false;
  std::chrono::milliseconds interval = kDefaultHeartbeatInterval;
  // Expects the same of the peer: one within `max_interval` of the connection
  // and of the one before, or the connection ends
  // (DisconnectReason::kHeartbeatLost). They are taken out of what is read; see
  // read_writer.h.
  bool expect = false;
  std::chrono::milliseconds max_interval = kDefaultMaxHeartbeatInterval;
};

// --- Of a client, of a server ---
//
// What both have:
//
//   name               Appears in error messages and, as a child of `log`, in
//                      log lines.
//   callbacks          Where connect_callback and Connection::post()'s
//                      callbacks run; must outlive the client or server. Null:
//                      on a thread of its own, if there is a connect_callback.
//   connect_callback   Called once for each change, connected and disconnected
//                      by turns. What it throws is logged. It may call any
//                      member, close() and the destructor too.
//   encoding           Of text messages; one of Python's names or aliases:
//                      utf-8 (strict), utf-16, utf-32 (both with a byte-order
//                      mark), utf-16-le, utf-16-be, utf-32-le, utf-32-be,
//                      latin-1, ascii.
//   terminator         Of text messages: any bytes but none; sent as it is, not
//                      encoded.
//   limit              The longest message, in bytes, for read_until and its
//                      kin.
//   write_limit        No further message is taken while more bytes than this
//                      are unsent.
//   thread_start_hook  See thread_hook.h.

struct ClientOptions {
  // A name or a numeric address. Absent: this machine, as host=None in Python.
  // Empty: a client that is closed already.
  std::optional<std::string> host = {};
  int port = 0;
  std::string name = {};
  Log log = {};
  CallbackQueue* callbacks = nullptr;
  std::function<void(const ConnectionEvent&)> connect_callback = {};
  std::string encoding = std::string(kDefaultEncoding);
  std::string terminator = std::string(kDefaultTerminator);
  HeartbeatOptions heartbeats = {};
  std::size_t limit = kDefaultLimit;
  std::size_t write_limit = kDefaultWriteLimit;
  ConnectOptions connect = {};
  SocketOptions socket = {};
  ThreadStartHook thread_start_hook = {};
};

struct ServerOptions {
  // A name or a numeric address to listen on. Empty: all interfaces. Absent:
  // all interfaces for a OneClientServer, 127.0.0.1 for read-loop servers, as
  // in lsst.ts.tcpip.
  std::optional<std::string> host = {};
  int port = 0;  // 0: any that is free, see the server's port()
  std::string name = {};
  Log log = {};
  CallbackQueue* callbacks = nullptr;
  std::function<void(const ConnectionEvent&)> connect_callback = {};
  std::string encoding = std::string(kDefaultEncoding);
  std::string terminator = std::string(kDefaultTerminator);
  HeartbeatOptions heartbeats = {};
  std::size_t limit = kDefaultLimit;
  std::size_t write_limit = kDefaultWriteLimit;
  ListenOptions listen = {};
  SocketOptions socket = {};
  ThreadStartHook thread_start_hook = {};

  // Read-loop servers only; others refuse them.
  //
  // Runs once for each client, on the reader's thread, before the read handler
  // is called for the first time: for protocols in which the server greets.
  // Exceptions and `stop` are as the read handler's.
  std::function<void(Connection& client, std::stop_token stop)> begin = {};
  // Does not read from a client before connect_callback has returned for it,
  // as in lsst.ts.tcpip; `begin` waits for that too. Without, a slow callback,
  // or a queue that is not drained, does not hold up reading.
  bool read_after_callback = false;
};

}  // namespace tcpip

#endif  // TCPIP_OPTIONS_H_
