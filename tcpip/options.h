// The options of clients and servers, as plain structs for designated
// initialisers, which read like Python's keyword arguments, but come in the
// order in which the members stand here:
//
//   tcpip::Client client({.host = "127.0.0.1",
//                         .port = 4000,
//                         .heartbeats = {.expect = true, .max_interval = 5s}});
//
// Threads: values.
#ifndef TCPIP_OPTIONS_H_
#define TCPIP_OPTIONS_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/constants.h"
#include "tcpip/log.h"
#include "tcpip/thread_hook.h"

namespace tcpip {

class CallbackQueue;
class Connection;
class Tap;
struct ConnectionEvent;

// --- Groups ---

// The socket options that are set on every new connection. A number that is 0
// is not set: the kernel's own value stays. Whatever takes these options throws
// std::invalid_argument for a number that is negative or above what is named
// here. An option that the kernel refuses all the same (an old kernel, a
// sandbox) is left out, and a client or server logs a warning, once.
struct TCPIP_EXPORT SocketOptions {
  bool no_delay = true;   // TCP_NODELAY: do not hold small writes back
  bool keepalive = true;  // SO_KEEPALIVE, as follows
  // At most 32767 s, as the interval.
  std::chrono::seconds keepalive_time = kKeepaliveTime;
  std::chrono::seconds keepalive_interval = kKeepaliveInterval;
  int keepalive_probes = kKeepaliveProbes;  // at most 127
  // TCP_USER_TIMEOUT, at most 2^31 - 1 ms (24 days). The kernel's own is some
  // 15 minutes. It also ends a connection whose peer is alive but has not read
  // for so long.
  std::chrono::milliseconds user_timeout = kUserTimeout;
  int send_buffer = 0;     // SO_SNDBUF in bytes
  int receive_buffer = 0;  // SO_RCVBUF in bytes
};

// How to connect.
struct TCPIP_EXPORT ConnectOptions {
  // Which addresses of the host are tried.
  AddressFamily family = AddressFamily::kAny;
  std::string local_host = {};  // bind to this address first, if not empty
  int local_port = 0;           // and to this port, if not 0
  // Called with each new socket before it is bound or connected, for options
  // that this library does not have (SO_MARK, SO_BINDTODEVICE, IP_TOS). A host
  // with several addresses has a socket for each that is tried. What it throws
  // leaves the call that connects, and nothing stays open.
  std::function<void(int fd)> prepare = {};
};

// How to listen.
struct TCPIP_EXPORT ListenOptions {
  AddressFamily family = AddressFamily::kAny;  // on which addresses of the host
  int backlog = kDefaultBacklog;  // how many clients the kernel lets wait
  bool reuse_address = true;      // SO_REUSEADDR: at once after a restart
  bool reuse_port = false;        // SO_REUSEPORT
  // The permissions of a Unix-domain socket's file, 0660 for instance; who may
  // write to it may connect. 0: what the process's umask leaves.
  int mode = 0;
  // IP_FREEBIND: listens on an address that this machine does not have yet.
  bool free_bind = false;
  // While this machine has no address of the host, as at boot, start() tries
  // again and again instead of throwing, for as long as its Wait allows.
  bool wait_for_address = false;
  // Sockets that listen already, in place of the host and port, as a service
  // manager hands them over; see inherited_descriptors(). The server makes
  // duplicates and puts the sockets into non-blocking mode. The descriptors
  // stay the program's: close them after start() if the sockets are to stop
  // listening when the server is closed, else clients go on waiting there for
  // the next server. `free_bind`, `prepare` and the like do not concern them.
  std::vector<int> descriptors = {};
  // Called with each new socket before it is bound; else as
  // ConnectOptions::prepare.
  std::function<void(int fd)> prepare = {};
};

// What a server does with a client that comes while another one is connected.
enum class WhenBusy {
  kReject,    // closes it at once
  kTakeOver,  // lets it in; the other's connection ends (kReplaced)
  // The same if nothing has come from the other one for AdmissionOptions::
  // silent_for, else kReject. For a controller that was rebooted: its old
  // connection would keep it out until the kernel notices, two minutes later.
  kTakeOverIfSilent
};

// Whom a server lets in.
struct TCPIP_EXPORT AdmissionOptions {
  // What becomes of a client that comes while another one is connected.
  WhenBusy when_busy = WhenBusy::kReject;
  // For kTakeOverIfSilent. Not negative.
  std::chrono::milliseconds silent_for{10'000};
  // Networks, such as "10.0.0.0/8", "fd00::/8" or "127.0.0.1" (see network.h),
  // from which clients may come. Empty: from everywhere. Those that may not are
  // closed before a byte is read, counted, and logged.
  std::vector<std::string> allow = {};
  // Asked of each client that `allow` lets in, on the accept thread, which
  // serves nobody meanwhile. False, or an exception, closes the client as
  // above. It must not call close() of its server.
  std::function<bool(const Address& peer)> may_connect = {};
};

struct TCPIP_EXPORT HeartbeatOptions {
  // Sends kHeartbeat and the terminator, at once and then every `interval`,
  // while connected. A peer that has sent FIN gets no more.
  bool send = false;
  std::chrono::milliseconds interval = kDefaultHeartbeatInterval;
  // Expects the peer to do the same. The connection ends
  // (DisconnectReason::kHeartbeatLost) if no heartbeat comes within
  // `max_interval` of the connection or of the last heartbeat. read_writer.h
  // says which reads take heartbeats out, and what counts as in time.
  bool expect = false;
  std::chrono::milliseconds max_interval = kDefaultMaxHeartbeatInterval;

  // Whether heartbeats are sent or expected.
  bool are_used() const noexcept { return send || expect; }
};

// --- Options of a client or server ---

// The options of a client. What a server has too:
//
//   name               Appears in error messages and, as a child of `log`, in
//                      log lines.
//   callbacks          The queue in which connect_callback and posted callbacks
//                      run; must outlive the client or server. Null: they run
//                      on a thread of the client's or server's own, the
//                      dispatcher, if there is a connect_callback.
//   connect_callback   Called once for each change: connected, disconnected,
//                      connected, ... What it throws is logged. It may call any
//                      member, close() and the destructor too.
//   encoding           The encoding of text messages; one of Python's names or
//                      aliases for utf-8 (strict), utf-16, utf-32 (both with a
//                      byte-order mark), utf-16-le, utf-16-be, utf-32-le,
//                      utf-32-be, latin-1, ascii.
//   terminator         The bytes that end a text message: at least one. Sent as
//                      they are, not encoded. With heartbeats, not a part of
//                      kHeartbeat.
//   limit              The longest message, in bytes, that read_line,
//                      read_until and read_str accept. Not 0.
//   write_limit        A write takes no further message while more bytes than
//                      this are unsent.
//   spin               How long a read looks for bytes again and again before
//                      it blocks; see StreamReader::set_spin() for what that
//                      costs. 0: it does not. Not negative.
//   thread_start_hook  See thread_hook.h.
//   tap                Shows what passes over the connections; see tap.h.
struct TCPIP_EXPORT ClientOptions {
  // A name, a numeric address, or "unix:/path" or "unix:@name" (see address.h;
  // the port is then 0). Absent: this machine, as host=None in Python.
  // Empty: the client never connects and is closed from the beginning.
  std::optional<std::string> host = {};
  int port = 0;  // of the server
  // See the table above.
  std::string name = {};
  Log log = {};
  CallbackQueue* callbacks = nullptr;
  std::function<void(const ConnectionEvent&)> connect_callback = {};
  std::string encoding = std::string(kDefaultEncoding);
  std::string terminator = std::string(kDefaultTerminator);
  HeartbeatOptions heartbeats = {};  // off
  std::size_t limit = kDefaultLimit;
  std::size_t write_limit = kDefaultWriteLimit;
  std::chrono::microseconds spin{0};
  ConnectOptions connect = {};  // how to connect
  SocketOptions socket = {};    // of each connection
  ThreadStartHook thread_start_hook = {};
  std::shared_ptr<Tap> tap = {};

  // For a read handler only, as in ServerOptions; Client refuses them.
  std::function<void(Connection& server, std::stop_token stop)> begin = {};
  bool read_after_callback = false;
};

// How a ReconnectingClient stays connected.
struct TCPIP_EXPORT ReconnectOptions {
  // A try takes no longer than this, with the look-up of the name. Positive.
  std::chrono::milliseconds connect_timeout = kConnectTimeout;
  // The connection ends (DisconnectReason::kSilent) if no byte has come from
  // the server for so long; an eighth later at most. 0: never. Not negative.
  std::chrono::milliseconds silence_timeout{0};
  // The pause before a try: `first`, and with each further try twice as long,
  // `longest` at most. It begins anew after a connection that has lasted for
  // `longest`, or on which something came and that has lasted for longer than
  // the pause before it: a server that greets its clients and ends them is no
  // server that works. Of a pause, a random part between one half and all of it
  // passes, so that the clients of a server that restarts do not come all at
  // once. first is positive, longest not less than first.
  std::chrono::milliseconds first = kFirstReconnectPause;
  std::chrono::milliseconds longest = kLongestReconnectPause;
  // How many tries in a row may fail; then the client closes itself
  // (DisconnectReason::kGaveUp). 0: no limit. Not negative.
  int tries = 0;
  // When the server has gone, how long what it has sent before can be read. The
  // rest is dropped, and counted in the event. Not negative.
  std::chrono::milliseconds finish_time = kFinishTime;
};

// The options of a server. ClientOptions explains what both have.
struct TCPIP_EXPORT ServerOptions {
  // A name or a numeric address to listen on, or "unix:/path" or "unix:@name"
  // (see listener.h; the port is then 0). Empty: all interfaces. Absent:
  // all interfaces for a OneClientServer, 127.0.0.1 for read-loop servers, as
  // in lsst.ts.tcpip.
  std::optional<std::string> host = {};
  int port = 0;  // 0: a free port, which the server's port() tells
  // As in ClientOptions.
  std::string name = {};
  Log log = {};
  CallbackQueue* callbacks = nullptr;
  std::function<void(const ConnectionEvent&)> connect_callback = {};
  std::string encoding = std::string(kDefaultEncoding);
  std::string terminator = std::string(kDefaultTerminator);
  HeartbeatOptions heartbeats = {};  // off
  std::size_t limit = kDefaultLimit;
  std::size_t write_limit = kDefaultWriteLimit;
  std::chrono::microseconds spin{0};
  ListenOptions listen = {};  // how to listen
  SocketOptions socket = {};  // of each connection
  ThreadStartHook thread_start_hook = {};
  std::shared_ptr<Tap> tap = {};
  AdmissionOptions admission = {};  // whom to let in

  // For read-loop servers only; OneClientServer refuses them.
  //
  // Called once for each client, on the client reader, before the first call of
  // the read handler: for protocols in which the server speaks first. What
  // ReadHandler says of exceptions and `stop` holds here too.
  std::function<void(Connection& client, std::stop_token stop)> begin = {};
  // Calls `begin` and the read handler for a client only after connect_callback
  // has returned for that client, as in lsst.ts.tcpip. If false, a slow
  // callback, or a queue that is not drained, does not delay reading.
  bool read_after_callback = false;
  // How long a new client waits, after its predecessor has hung up, until the
  // read handler has handled every message of that one. Then the new client is
  // let in, the other's connection ends, and its unread bytes are dropped
  // (DisconnectReason::kReplaced). Not negative.
  std::chrono::milliseconds finish_time = kFinishTime;
};

}  // namespace tcpip

#endif  // TCPIP_OPTIONS_H_
