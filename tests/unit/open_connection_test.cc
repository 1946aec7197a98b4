#include "tcpip/open_connection.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/connect.h"
#include "tcpip/error.h"
#include "tcpip/testing/leak_guard.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;
using tcpip_tests::accept_one;
using tcpip_tests::BlockedCall;
using tcpip_tests::connect_plain;
using tcpip_tests::kPatience;
using tcpip_tests::kTcpTransports;
using tcpip_tests::plain_listener;
using tcpip_tests::PlainListener;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::send_all;
using tcpip_tests::Transport;

const char* host_of(Transport transport) {
  return transport == Transport::kIpv4 ? "127.0.0.1" : "::1";
}

int option_of(const StreamWriter& writer, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  ::getsockopt(writer.native_handle(), level, name, &value, &size);
  return value;
}

// A port that refuses: bound, so that nobody else gets it, but not listening.
struct RefusingPort {
  UniqueFd fd;
  int port = 0;

  explicit RefusingPort(Transport transport) {
    PlainListener listener = plain_listener(transport);
    port = listener.port;
    // Leaves the listening state, keeps the port.
    ::shutdown(listener.fd.get(), SHUT_RDWR);
    fd = std::move(listener.fd);
  }
};

// Runs `test` on a thread that has a network of its own, in which nothing but
// the loopback device exists. False if that is not permitted here.
bool in_private_network(const std::function<void()>& test) {
  BlockedCall call([&] {
    if (::unshare(CLONE_NEWNET) != 0) return false;
    const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    request.ifr_name[0] = 'l';
    request.ifr_name[1] = 'o';
    request.ifr_flags = IFF_UP;
    if (::ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0) return false;
    test();
    return true;
  });
  return call.get();
}

// --- Connecting ---

TEST(OpenConnection, ConnectsAndTalksBothWays) {
  for (const Transport transport : kTcpTransports) {
    const PlainListener listener = plain_listener(transport);
    auto [reader, writer] =
        open_connection(host_of(transport), listener.port, kPatience);
    const UniqueFd peer = accept_one(listener);
    EXPECT_EQ(writer.peer_address().to_string(),
              host_and_port(host_of(transport), listener.port));
    EXPECT_EQ(reader.limit(), kDefaultLimit);
    writer.write("to the peer");
    EXPECT_EQ(recv_exact(peer, 11), "to the peer");
    send_all(peer, "and back\n");
    EXPECT_EQ(reader.read_line(kPatience), "and back\n");
    writer.close();
    EXPECT_EQ(recv_until_eof(peer), "");
  }
}

TEST(OpenConnection, WaitsForeverByDefault) {
  const PlainListener listener = plain_listener(Transport::kIpv4);
  const Streams connection = open_connection("127.0.0.1", listener.port);
  EXPECT_FALSE(connection.writer.is_closing());
}

TEST(OpenConnection, EmptyHostIsThisMachine) {
  const PlainListener listener = plain_listener(Transport::kIpv4);
  const Streams connection = open_connection("", listener.port, kPatience);
  const UniqueFd peer = accept_one(listener);
  EXPECT_EQ(connection.writer.peer_address().host(), "127.0.0.1");
}

TEST(OpenConnection, ResolvesNames) {
  const PlainListener listener = plain_listener(Transport::kIpv4);
  OpenConnectionOptions options;
  options.connect.family = AddressFamily::kIpv4;
  const Streams connection =
      open_connection("localhost", listener.port, options, kPatience);
  EXPECT_EQ(connection.writer.peer_address().host(), "127.0.0.1");
}

TEST(OpenConnection, DescriptorIsCloexecAndBlocking) {
  const PlainListener listener = plain_listener(Transport::kIpv4);
  const Streams connection =
      open_connection("127.0.0.1", listener.port, kPatience);
  const int fd = connection.writer.native_handle();
  EXPECT_EQ(::fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
}

TEST(OpenConnection, SetsItsSocketOptions) {
  for (const Transport transport : kTcpTransports) {
    const PlainListener listener = plain_listener(transport);
    const StreamWriter writer =
        open_connection(host_of(transport), listener.port, kPatience).writer;
    EXPECT_EQ(option_of(writer, IPPROTO_TCP, TCP_NODELAY), 1);
    EXPECT_EQ(option_of(writer, SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(option_of(writer, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    EXPECT_EQ(option_of(writer, IPPROTO_TCP, TCP_KEEPINTVL), 15);
    EXPECT_EQ(option_of(writer, IPPROTO_TCP, TCP_KEEPCNT), 4);
    EXPECT_EQ(option_of(writer, IPPROTO_TCP, TCP_USER_TIMEOUT), 120'000);
  }
}

TEST(OpenConnection, SetsTheOptionsAskedFor) {
  const PlainListener listener = plain_listener(Transport::kIpv4);
  OpenConnectionOptions options;
  options.limit = 7;
  options.socket = {.no_delay = false,
                    .keepalive = true,
                    .keepalive_time = 3s,
                    .keepalive_interval = 2s,
                    .keepalive_probes = 1,
                    .user_timeout = 1500ms,
                    .send_buffer = 30'000,
                    .receive_buffer = 40'000};
  const Streams connection =
      open_connection("127.0.0.1", listener.port, options, kPatience);
  const StreamWriter& writer = connection.writer;
  EXPECT_EQ(connection.reader.limit(), 7u);
  EXPECT_EQ(option_of(writer, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_EQ(option_of(writer, IPPROTO_TCP, TCP_KEEPIDLE), 3);
  EXPECT_EQ(option_of(writer, IPPROTO_TCP, TCP_KEEPINTVL), 2);
  EXPECT_EQ(option_of(writer, IPPROTO_TCP, TCP_KEEPCNT), 1);
  EXPECT_EQ(option_of(writer, IPPROTO_TCP, TCP_USER_TIMEOUT), 1500);
  // The kernel doubles what it is given.
  EXPECT_EQ(option_of(writer, SOL_SOCKET, SO_SNDBUF), 60'000);
  EXPECT_EQ(option_of(writer, SOL_SOCKET, SO_RCVBUF), 80'000);
  options.socket.keepalive = false;
  const Streams other =
      open_connection("127.0.0.1", listener.port, options, kPatience);
  EXPECT_EQ(option_of(other.writer, SOL_SOCKET, SO_KEEPALIVE), 0);
}

TEST(OpenConnection, BindsToALocalAddressFirst) {
  const PlainListener listener = plain_listener(Transport::kIpv4);
  OpenConnectionOptions options;
  options.connect.local_host = "127.0.0.2";
  const Streams one =
      open_connection("127.0.0.1", listener.port, options, kPatience);
  EXPECT_EQ(one.writer.local_address().host(), "127.0.0.2");

  // A port that was just free.
  options.connect.local_host.clear();
  options.connect.local_port = RefusingPort(Transport::kIpv4).port;
  const Streams two =
      open_connection("127.0.0.1", listener.port, options, kPatience);
  EXPECT_EQ(two.writer.local_address().port(), options.connect.local_port);
}

// --- Bad arguments ---

TEST(OpenConnection, RefusesBadArgumentsWithoutConnecting) {
  const PlainListener listener = plain_listener(Transport::kIpv4);
  for (const int port : {-1, 65536, INT_MAX, INT_MIN}) {
    EXPECT_THROW(open_connection("127.0.0.1", port, kPatience),
                 std::invalid_argument);
  }
  OpenConnectionOptions options;
  options.limit = 0;
  EXPECT_THROW(open_connection("127.0.0.1", listener.port, options, kPatience),
               std::invalid_argument);
  EXPECT_THROW(open_connection(std::string_view("127.0.0.1\0x", 11),
                               listener.port, kPatience),
               std::invalid_argument);
  EXPECT_LT(::fcntl(listener.fd.get(), F_SETFL, O_NONBLOCK), 1);
  EXPECT_LT(::accept(listener.fd.get(), nullptr, nullptr), 0);
  EXPECT_EQ(errno, EAGAIN);
}

// --- Failures ---

TEST(OpenConnection, RefusedNamesTheAddress) {
  for (const Transport transport : kTcpTransports) {
    const RefusingPort refusing(transport);
    try {
      open_connection(host_of(transport), refusing.port, kPatience);
      ADD_FAILURE();
    } catch (const ConnectionRefusedError& e) {
      EXPECT_EQ(e.code(), std::errc::connection_refused);
      EXPECT_EQ(e.peer(), host_and_port(host_of(transport), refusing.port));
      EXPECT_NE(std::string(e.what()).find(e.peer()), std::string::npos);
    }
  }
}

TEST(OpenConnection, HostWithoutAnAddressIsAResolveError) {
  OpenConnectionOptions options;
  options.connect.family = AddressFamily::kIpv4;
  try {
    open_connection("::1", 4000, options, kPatience);
    ADD_FAILURE();
  } catch (const ResolveError& e) {
    EXPECT_EQ(e.peer(), "[::1]:4000");
    EXPECT_EQ(e.code().category(), resolve_category());
  }
}

TEST(OpenConnection, LocalAddressThatIsNotOurs) {
  const PlainListener listener = plain_listener(Transport::kIpv4);
  OpenConnectionOptions options;
  options.connect.local_host = "192.0.2.1";
  try {
    open_connection("127.0.0.1", listener.port, options, kPatience);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_not_available);
  }
  options.connect.local_host = "::1";  // of the wrong family
  try {
    open_connection("127.0.0.1", listener.port, options, kPatience);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_family_not_supported);
  }
}

TEST(OpenConnection, LocalPortInUse) {
  const PlainListener listener = plain_listener(Transport::kIpv4);
  const PlainListener used = plain_listener(Transport::kIpv4);
  OpenConnectionOptions options;
  options.connect.local_host = "127.0.0.1";
  options.connect.local_port = used.port;
  try {
    open_connection("127.0.0.1", listener.port, options, kPatience);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_in_use);
  }
}

TEST(OpenConnection, UnreachableNetwork) {
  std::error_code code;
  const bool permitted = in_private_network([&code] {
    try {
      open_connection("192.0.2.1", 4000, kPatience);
    } catch (const Error& e) {
      code = e.code();
    }
  });
  if (!permitted) GTEST_SKIP() << "no private network here";
  EXPECT_EQ(code, std::errc::network_unreachable);
}

TEST(OpenConnection, NeverConnectsToItself) {
  // Where the port asked for is the only one that the kernel may give to the
  // connecting end, TCP would make a connection of that one socket.
  int refused = 0;
  const bool permitted = in_private_network([&refused] {
    std::ofstream range("/proc/sys/net/ipv4/ip_local_port_range");
    range << "7000 7000" << std::flush;
    ASSERT_TRUE(range.good());
    for (int i = 0; i < 20; ++i) {
      try {
        open_connection("127.0.0.1", 7000, kPatience);
      } catch (const ConnectionRefusedError& e) {
        // Not merely refused: it did happen, and was undone. The port is free
        // at once, or this would be another error.
        EXPECT_EQ(e.code(), Errc::kSelfConnect) << e.what();
        ++refused;
      }
    }
  });
  if (!permitted) GTEST_SKIP() << "no private network here";
  EXPECT_EQ(refused, 20);
}

TEST(OpenConnection, BlackHoleTakesTheDeadlineAndNoMore) {
  // A listener whose queue is full drops what else wants to connect.
  const PlainListener listener = plain_listener(Transport::kIpv4, 0);
  const UniqueFd queued = connect_plain(Transport::kIpv4, listener.port);
  const auto start = Deadline::Clock::now();
  EXPECT_THROW(open_connection("127.0.0.1", listener.port, 50ms), TimeoutError);
  const auto took = Deadline::Clock::now() - start;
  EXPECT_GE(took, 50ms);
  EXPECT_LT(took, 900ms);  // before the kernel tries again
}

TEST(OpenConnection, NothingIsLeftOpenAfterAFailure) {
  const RefusingPort refusing(Transport::kIpv4);
  const PlainListener full = plain_listener(Transport::kIpv4, 0);
  const UniqueFd queued = connect_plain(Transport::kIpv4, full.port);
  OpenConnectionOptions bad_local;
  bad_local.connect.local_host = "192.0.2.1";
  std::stop_source stop;
  stop.request_stop();
  const auto before = tcpip_testing::open_descriptors();
  for (int i = 0; i < 50; ++i) {
    EXPECT_THROW(open_connection("127.0.0.1", refusing.port, kPatience),
                 ConnectionRefusedError);
    EXPECT_THROW(open_connection("127.0.0.1", full.port, 1ms), TimeoutError);
    EXPECT_THROW(open_connection("127.0.0.1", full.port, stop.get_token()),
                 CancelledError);
    EXPECT_THROW(open_connection("127.0.0.1", full.port, bad_local, kPatience),
                 Error);
  }
  EXPECT_EQ(tcpip_testing::open_descriptors(), before);
}

// --- Several addresses ---

std::vector<Address> addresses(
    const std::vector<std::pair<const char*, int>>& list) {
  std::vector<Address> result;
  for (const auto& [host, port] : list) {
    result.push_back(resolve(host, port).front());
  }
  return result;
}

TEST(ConnectSocket, TakesTheFirstAddressThatAnswers) {
  const RefusingPort refusing(Transport::kIpv6);
  const PlainListener one = plain_listener(Transport::kIpv4);
  const PlainListener two = plain_listener(Transport::kIpv4);
  const auto socket = connect_socket(addresses({{"::1", refusing.port},
                                                {"127.0.0.1", one.port},
                                                {"127.0.0.1", two.port}}),
                                     {}, {}, kPatience, "a host");
  EXPECT_EQ(socket->peer_address().port(), one.port);
}

TEST(ConnectSocket, BlackHoleTakesAQuarterOfASecond) {
  const PlainListener full = plain_listener(Transport::kIpv4, 0);
  const UniqueFd queued = connect_plain(Transport::kIpv4, full.port);
  const PlainListener good = plain_listener(Transport::kIpv4);
  const auto start = Deadline::Clock::now();
  const auto socket = connect_socket(
      addresses({{"127.0.0.1", full.port}, {"127.0.0.1", good.port}}), {}, {},
      800ms, "a host");
  EXPECT_EQ(socket->peer_address().port(), good.port);
  EXPECT_GE(Deadline::Clock::now() - start, 250ms);
  EXPECT_LT(Deadline::Clock::now() - start, 700ms);
}

TEST(ConnectSocket, NamesEveryAddressIfTheyFailDifferently) {
  const RefusingPort refusing(Transport::kIpv4);
  const PlainListener full = plain_listener(Transport::kIpv4, 0);
  const UniqueFd queued = connect_plain(Transport::kIpv4, full.port);
  try {
    connect_socket(
        addresses({{"127.0.0.1", full.port}, {"127.0.0.1", refusing.port}}), {},
        {}, 20ms, "a host");
    ADD_FAILURE();
  } catch (const Error& e) {
    const std::string what = e.what();
    EXPECT_NE(what.find("a host"), what.npos) << what;
    for (const int port : {int{full.port}, refusing.port}) {
      EXPECT_NE(what.find(host_and_port("127.0.0.1", port)), what.npos) << what;
    }
  }
}

// --- Sockets of the program's own making ---

TEST(OpenConnectionOfDescriptor, TakesASocketPair) {
  for (const bool non_blocking : {false, true}) {
    tcpip_tests::FdPair fds = tcpip_tests::fd_pair(Transport::kUnix);
    const int fd = fds.ours.get();
    if (non_blocking) {
      ASSERT_EQ(::fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    }
    {
      Streams connection = open_connection(std::move(fds.ours), 3);
      EXPECT_EQ(connection.writer.native_handle(), fd);
      EXPECT_EQ(connection.reader.limit(), 3u);
      // Its options are left as they are.
      EXPECT_EQ((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, non_blocking);
      send_all(fds.peer, "in\n");
      EXPECT_EQ(connection.reader.read_line(), "in\n");
      connection.writer.write("out");
      EXPECT_EQ(recv_exact(fds.peer, 3), "out");
    }
    EXPECT_LT(::fcntl(fd, F_GETFD), 0);
  }
}

TEST(OpenConnectionOfDescriptor, LeavesTcpOptionsAsTheyAre) {
  tcpip_tests::FdPair fds = tcpip_tests::fd_pair(Transport::kIpv4);
  const Streams connection = open_connection(std::move(fds.ours));
  EXPECT_EQ(option_of(connection.writer, SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_EQ(option_of(connection.writer, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
}

TEST(OpenConnectionOfDescriptor, ThrowsForWhatIsNoStreamSocketAndClosesIt) {
  struct Case {
    const char* name;
    UniqueFd fd;
    std::errc error;
  };
  int pipe_fds[2] = {-1, -1};
  ASSERT_EQ(::pipe2(pipe_fds, O_CLOEXEC), 0);
  const UniqueFd pipe_end(pipe_fds[1]);
  std::vector<Case> cases;
  cases.push_back({"none", UniqueFd(), std::errc::bad_file_descriptor});
  cases.push_back({"pipe", UniqueFd(pipe_fds[0]), std::errc::not_a_socket});
  cases.push_back({"datagram",
                   UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
                   std::errc::wrong_protocol_type});
  cases.push_back({"listener", plain_listener(Transport::kIpv4).fd,
                   std::errc::invalid_argument});
  for (Case& c : cases) {
    const int fd = c.fd.get();
    try {
      open_connection(std::move(c.fd));
      ADD_FAILURE() << c.name;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), c.error) << c.name << ": " << e.what();
    }
    EXPECT_LT(::fcntl(fd, F_GETFD), 0) << c.name;
  }
}

TEST(OpenConnectionOfDescriptor, LimitOfZeroIsRefusedAndClosesIt) {
  tcpip_tests::FdPair fds = tcpip_tests::fd_pair(Transport::kUnix);
  EXPECT_THROW(open_connection(std::move(fds.ours), 0), std::invalid_argument);
  EXPECT_EQ(recv_until_eof(fds.peer), "");
}

TEST(OpenConnectionOfDescriptor, TakesAConnectionThatWasReset) {
  // As a server may get it from accept().
  tcpip_tests::FdPair fds = tcpip_tests::fd_pair(Transport::kIpv4);
  tcpip_tests::reset(std::move(fds.peer));
  tcpip_tests::await_hang_up(fds.ours.get());
  Streams connection = open_connection(std::move(fds.ours));
  EXPECT_THROW(connection.reader.read(1), ConnectionResetError);
}

TEST(ConnectedPair, CarriesBytesBothWaysAndEnds) {
  auto [here, there] = connected_pair();
  here.writer.write("one\n");
  here.writer.drain(kPatience);
  EXPECT_EQ(there.reader.read_line(kPatience), "one\n");
  there.writer.write("two\n");
  there.writer.drain(kPatience);
  EXPECT_EQ(here.reader.read_line(kPatience), "two\n");
  here.writer.close();
  EXPECT_EQ(there.reader.read_line(kPatience), "");
}

TEST(ConnectedPair, HasTheLimitThatIsGiven) {
  auto [here, there] = connected_pair(4);
  here.writer.write("longer than that\n");
  here.writer.drain(kPatience);
  EXPECT_THROW(there.reader.read_line(kPatience), LimitOverrunError);
  EXPECT_THROW(connected_pair(0), std::invalid_argument);
}

}  // namespace
}  // namespace tcpip
