// The values of this library's defaults and fixed limits. Those that
// lsst.ts.tcpip has too have its names and values.
//
// Threads: constants.
#ifndef TCPIP_CONSTANTS_H_
#define TCPIP_CONSTANTS_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstddef>
#include <string_view>

namespace tcpip {

// This machine.
inline constexpr std::string_view kLocalhostIpv4 = "127.0.0.1";
inline constexpr std::string_view kLocalhostIpv6 = "::1";
inline constexpr std::string_view kDefaultLocalhost = kLocalhostIpv4;

// What ends a text message, and how its text is encoded, unless an option says
// otherwise.
inline constexpr std::string_view kDefaultTerminator = "\r\n";
inline constexpr std::string_view kDefaultEncoding = "utf-8";

// The bytes of a heartbeat, before the terminator. They are never encoded.
inline constexpr std::string_view kHeartbeat = "heartbeat";
// How often a heartbeat is sent; and after how long without one the connection
// counts as lost. See HeartbeatOptions.
inline constexpr std::chrono::seconds kDefaultHeartbeatInterval{1};
inline constexpr std::chrono::seconds kDefaultMaxHeartbeatInterval{10};

// The longest message, in bytes, that read_line, read_until and read_str accept
// (as in asyncio).
inline constexpr std::size_t kDefaultLimit = 64 * 1024;

// Keepalive: the kernel sends the first probe after this much silence, then one
// every interval. After that many probes without an answer the connection is
// lost.
inline constexpr std::chrono::seconds kKeepaliveTime{60};
inline constexpr std::chrono::seconds kKeepaliveInterval{15};
inline constexpr int kKeepaliveProbes = 4;

// TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged. Keepalive does
// not notice a dead peer while bytes are in flight; this does. The value is
// time + interval * probes: a smaller one would end the connection before the
// last probe.
inline constexpr std::chrono::seconds kUserTimeout{120};

// How long close_stream_writer() tries to send what is buffered.
inline constexpr std::chrono::seconds kCloseWait{5};
// How long a server that goes on lingers for a connection that it has closed:
// its accept thread reads and drops what the peer still sends, so that the peer
// reads our last bytes and the end of the stream, not a reset.
inline constexpr std::chrono::milliseconds kLingerTime{1000};
// How long close() itself lingers.
inline constexpr std::chrono::milliseconds kCloseLingerTime{100};
// For how many connections a server lingers at the same time.
inline constexpr std::size_t kMaxLingering = 32;

// How long a new client waits for what the one before it, which has hung up,
// has left to do. See ServerOptions::finish_time.
inline constexpr std::chrono::milliseconds kFinishTime{1000};
// See ReconnectOptions.
inline constexpr std::chrono::milliseconds kConnectTimeout{5000};
inline constexpr std::chrono::milliseconds kFirstReconnectPause{100};
inline constexpr std::chrono::milliseconds kLongestReconnectPause{10'000};
// A server admits no client, and a ReconnectingClient does not connect, while
// more connection events than this wait for the program to run them.
inline constexpr std::size_t kMaxWaitingEvents = 1000;

// How many connections the kernel keeps until the server accepts them.
inline constexpr int kDefaultBacklog = 128;
// How many posted callbacks a CallbackQueue holds.
inline constexpr std::size_t kDefaultQueueSize = 1024;
// Unsent bytes above which a Client or server takes no further message until
// the peer has read some.
inline constexpr std::size_t kDefaultWriteLimit = 1024 * 1024;

}  // namespace tcpip

#endif  // TCPIP_CONSTANTS_H_
