// The numbers and strings that this library's defaults are made of. Those that
// lsst.ts.tcpip has too carry its names and values.
#ifndef TCPIP_CONSTANTS_H_
#define TCPIP_CONSTANTS_H_

#include <chrono>
#include <cstddef>
#include <string_view>

namespace tcpip {

inline constexpr std::string_view kLocalhostIpv4 = "127.0.0.1";
inline constexpr std::string_view kLocalhostIpv6 = "::1";
inline constexpr std::string_view kDefaultLocalhost = kLocalhostIpv4;

inline constexpr std::string_view kDefaultTerminator = "\r\n";
inline constexpr std::string_view kDefaultEncoding = "utf-8";

// What a heartbeat is, not encoded, before the terminator.
inline constexpr std::string_view kHeartbeat = "heartbeat";
// How often one is sent, where they are; and how long without one the
// connection counts as lost, where they are expected.
inline constexpr std::chrono::seconds kDefaultHeartbeatInterval{1};
inline constexpr std::chrono::seconds kDefaultMaxHeartbeatInterval{10};

// The longest message, in bytes, that read_until and its kin accept (asyncio).
inline constexpr std::size_t kDefaultLimit = 64 * 1024;

// Keepalive: first probe after this much silence, then one every interval;
// after so many without an answer the connection is dead.
inline constexpr std::chrono::seconds kKeepaliveTime{60};
inline constexpr std::chrono::seconds kKeepaliveInterval{15};
inline constexpr int kKeepaliveProbes = 4;

// TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged. Keepalive does
// not see a dead peer while bytes are in flight; this does. It equals
// time + interval * probes, since a smaller value would cut the probes short.
inline constexpr std::chrono::seconds kUserTimeout{120};

// How long close_stream_writer() tries to send what is buffered.
inline constexpr std::chrono::seconds kCloseWait{5};
// How long a closed connection is kept to read what its peer still sends, so
// that the peer reads our last bytes and an end of stream, not a reset. The
// accept thread does it for clients of a server that goes on.
inline constexpr std::chrono::milliseconds kLingerTime{1000};
// The same when close() waits for it.
inline constexpr std::chrono::milliseconds kCloseLingerTime{100};
inline constexpr std::size_t kMaxLingering = 32;

// Connections that the kernel keeps for a server that has not accepted them.
inline constexpr int kDefaultBacklog = 128;
// Messages that a CallbackQueue holds unless told otherwise.
inline constexpr std::size_t kDefaultQueueSize = 1024;
// Unsent bytes above which a Client or server takes no further message until
// the peer has read some.
inline constexpr std::size_t kDefaultWriteLimit = 1024 * 1024;

}  // namespace tcpip

#endif  // TCPIP_CONSTANTS_H_
