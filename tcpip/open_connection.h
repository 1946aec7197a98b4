// Connecting, as asyncio.open_connection does: a reader and a writer.
//
// Threads: the functions may be called from any thread.
#ifndef TCPIP_OPEN_CONNECTION_H_
#define TCPIP_OPEN_CONNECTION_H_

#include "tcpip/version.h"

#include <cstddef>
#include <string_view>
#include <utility>

#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/options.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"

namespace tcpip {

// auto [reader, writer] = tcpip::open_connection("127.0.0.1", 4000);
struct TCPIP_EXPORT Streams {
  StreamReader reader;  // what the peer sends
  StreamWriter writer;  // what the peer is to get
};

// How open_connection() makes a connection.
struct TCPIP_EXPORT OpenConnectionOptions {
  std::size_t limit = kDefaultLimit;  // of the reader
  ConnectOptions connect = {};        // address family, local address
  SocketOptions socket = {};          // what is set on the socket
};

// Resolves the host and connects to the first of its addresses that answers; a
// dead one costs a quarter of a second (see connect.h). The wait covers all of
// that. An empty host means this machine, as None does in asyncio.
//
// Throws std::invalid_argument for a port outside 0...65535, a limit of 0, or a
// socket option that options.h does not allow;
// ResolveError; ConnectionRefusedError, or Error with the errno (EHOSTUNREACH,
// ENETUNREACH, EADDRNOTAVAIL...); TimeoutError; CancelledError. Nothing is left
// open after a failure.
TCPIP_EXPORT Streams open_connection(std::string_view host, int port,
                                     const OpenConnectionOptions& options,
                                     const Wait& wait = {});
TCPIP_EXPORT Streams open_connection(std::string_view host, int port,
                                     const Wait& wait = {});

// Takes over a connected stream socket that the program has made itself (a
// Unix-domain socket, one end of a socketpair) and returns its streams. Throws
// as Socket's constructor; std::invalid_argument for a limit of 0. After a
// failure `fd` is closed.
TCPIP_EXPORT Streams open_connection(UniqueFd fd,
                                     std::size_t limit = kDefaultLimit);

// Two ends that are connected to each other within this process, for tests and
// for threads that talk to each other: a Unix-domain socketpair(). Throws
// std::invalid_argument for a limit of 0; Error if there can be no descriptor.
TCPIP_EXPORT std::pair<Streams, Streams> connected_pair(
    std::size_t limit = kDefaultLimit);

}  // namespace tcpip

#endif  // TCPIP_OPEN_CONNECTION_H_
