// Connected pairs of streams, to test without a server what reads from and
// writes to a connection.
//
//   auto [mine, theirs] = connection_pair();
//   theirs.writer.write("position 12.5\r\n");
//   EXPECT_EQ(read_position(mine.reader), 12.5);
//   theirs.writer.write_eof();                      // FIN
//   EXPECT_THROW(read_position(mine.reader), tcpip::IncompleteReadError);
//
// Threads: may be called from any thread.
#ifndef TCPIP_TESTING_LOOPBACK_H_
#define TCPIP_TESTING_LOOPBACK_H_

#include "tcpip/version.h"

#include <cstddef>
#include <ostream>

#include "tcpip/constants.h"
#include "tcpip/open_connection.h"

namespace tcpip_testing {

// How the two ends are connected.
enum class Transport {
  kUnix,  // a socketpair
  kIpv4,  // TCP over 127.0.0.1
  kIpv6   // TCP over ::1
};
// "Unix", "IPv4", "IPv6".
TCPIP_EXPORT const char* name_of(Transport transport);
TCPIP_EXPORT std::ostream& operator<<(std::ostream& out, Transport transport);

// The two ends of one connection.
struct TCPIP_EXPORT ConnectionPair {
  tcpip::Streams first;   // one end
  tcpip::Streams second;  // the other
};

// Both ends have the socket options of the library's own connections. `limit`
// is that of both readers. Throws std::invalid_argument if it is 0;
// tcpip::Error if there can be no such pair (EADDRNOTAVAIL on a machine without
// IPv6).
TCPIP_EXPORT ConnectionPair
connection_pair(Transport transport = Transport::kIpv4,
                std::size_t limit = tcpip::kDefaultLimit);

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_LOOPBACK_H_
