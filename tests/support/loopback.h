// Connected pairs of sockets for tests: one end for the library, the other a
// bare descriptor that plays the peer. The kit's connection_pair() has the
// library at both ends, and so cannot show what the library gets wrong there.
//
//   LoopbackPair pair = loopback_pair(Transport::kIpv4);
//   send_all(pair.peer, "hello\n");
//   EXPECT_EQ(pair.reader.read_line(5s), "hello\n");
//
// What the helpers wait for has a deadline of its own: they throw
// std::system_error (ETIMEDOUT) and so fail a test instead of hanging it.
#ifndef TESTS_SUPPORT_LOOPBACK_H_
#define TESTS_SUPPORT_LOOPBACK_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tcpip/constants.h"
#include "tcpip/open_connection.h"
#include "tcpip/socket.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/testing/loopback.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/unique_fd.h"

namespace tcpip_tests {

using tcpip_testing::kPatience;
using tcpip_testing::name_of;
using tcpip_testing::Transport;
inline constexpr Transport kTransports[] = {Transport::kUnix, Transport::kIpv4,
                                            Transport::kIpv6};
inline constexpr Transport kTcpTransports[] = {Transport::kIpv4,
                                               Transport::kIpv6};

// Of the sockets at both ends. Left alone, the kernel lets them grow to some
// ten megabytes, little by little.
enum class Buffers {
  kDefault,
  kFixed,  // well below a megabyte, all in all
  kSmall,  // a few KiB, to make transfers block and split
};

// Both ends, in blocking mode.
struct FdPair {
  tcpip::UniqueFd ours;
  tcpip::UniqueFd peer;
};
FdPair fd_pair(Transport transport, Buffers buffers = Buffers::kDefault);

struct SocketPair {
  std::shared_ptr<tcpip::Socket> socket;
  tcpip::UniqueFd peer;
};
SocketPair socket_pair(Transport transport,
                       Buffers buffers = Buffers::kDefault);

// Reader and writer own the socket together, and nobody else does.
struct LoopbackPair {
  tcpip::StreamReader reader;
  tcpip::StreamWriter writer;
  tcpip::UniqueFd peer;
};
LoopbackPair loopback_pair(Transport transport,
                           std::size_t limit = tcpip::kDefaultLimit,
                           Buffers buffers = Buffers::kDefault);

// A listening socket of the test's own on the loopback address of a family,
// for tests of what connects. `backlog` as for listen(2).
struct PlainListener {
  tcpip::UniqueFd fd;
  std::uint16_t port = 0;
};
PlainListener plain_listener(Transport transport, int backlog = 16);
tcpip::UniqueFd accept_one(const PlainListener& listener);
tcpip::UniqueFd connect_plain(Transport transport, std::uint16_t port);

// --- The peer's side ---

void send_all(const tcpip::UniqueFd& fd, std::string_view bytes);
// At least one byte, or empty at the end of the stream.
std::string recv_some(const tcpip::UniqueFd& fd, std::size_t max = 65536);
// n bytes, or what came before the end of the stream. A reset throws
// std::system_error (ECONNRESET).
std::string recv_exact(const tcpip::UniqueFd& fd, std::size_t n);
std::string recv_until_eof(const tcpip::UniqueFd& fd);
// FIN: nothing more to send, still receiving.
void half_close(const tcpip::UniqueFd& fd);
// TCP only: closes so that the other end is reset.
void reset(tcpip::UniqueFd fd);

// --- Either side ---

// Until that many bytes can be received on the descriptor.
void await_receivable(int fd, std::size_t n);
// Until the other end's FIN or reset has arrived, be it behind unread bytes.
void await_hang_up(int fd);

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_LOOPBACK_H_
