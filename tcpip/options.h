// The options of connections and listening sockets, as plain structs for
// designated initialisers. Each default stands here once.
//
// Threads: the structs are values.
#ifndef TCPIP_OPTIONS_H_
#define TCPIP_OPTIONS_H_

#include <chrono>
#include <string>

#include "tcpip/address.h"
#include "tcpip/constants.h"

namespace tcpip {

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

}  // namespace tcpip

#endif  // TCPIP_OPTIONS_H_
