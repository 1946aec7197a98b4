#include "tcpip/connect.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <vector>

#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/testing/wait_until.h"
#include "tests/support/private_network.h"
#include "tests/support/signal_storm.h"
#include "tests/support/sockets.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using tcpip_testing::kPatience;
using tcpip_tests::address_of;
using tcpip_tests::Call;
using tcpip_tests::connect_to;
using tcpip_tests::connect_to_first_of;
using tcpip_tests::connected;
using tcpip_tests::contains;
using tcpip_tests::Ends;
using tcpip_tests::is_close_on_exec;
using tcpip_tests::Kind;
using tcpip_tests::NoMoreDescriptors;
using tcpip_tests::option_of;
using tcpip_tests::RefusingAddress;
using tcpip_tests::SignalStorm;
using tcpip_tests::use_ports;
using tcpip_tests::wait_until;

// An address that drops every SYN, as a host does that is switched off: its
// queue of connections is full.
class SilentAddress : public RefusingAddress {
 public:
  SilentAddress() {
    EXPECT_EQ(::listen(fd(), 0), 0);
    for (int i = 0; i < 10; ++i) {
      waiting_.emplace_back(
          ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      ::connect(waiting_.back().get(),
                static_cast<const sockaddr*>(address().data()),
                static_cast<socklen_t>(address().size()));
      pollfd fd{waiting_.back().get(), POLLOUT, 0};
      if (::poll(&fd, 1, 20) == 0) return;
    }
    ADD_FAILURE() << "the queue is never full";
  }

  // Makes room in the queue.
  void answer() {
    for (std::size_t i = 1; i < waiting_.size(); ++i) {
      const UniqueFd accepted(::accept4(fd(), nullptr, nullptr, SOCK_CLOEXEC));
      EXPECT_TRUE(accepted);
    }
    waiting_.clear();
  }

 private:
  std::vector<UniqueFd> waiting_;
};

TEST(ConnectSocket, ConnectsUnderEveryWait) {
  const std::stop_source source;
  Listener listener("127.0.0.1", 0);
  for (const Wait& wait : {Wait(), Wait(kPatience), Wait(source.get_token()),
                           Wait(kPatience, source.get_token())}) {
    const auto socket = connect_to(address_of(listener), wait);
    EXPECT_EQ(socket->peer_address(), address_of(listener));
    EXPECT_EQ(listener.accept(kPatience).peer, socket->local_address());
  }
}

TEST(ConnectSocket, SetsTheOptionsByDefault) {
  const Ends ends = connected(Kind::kTcp);
  const int fd = ends.here->native_handle();
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(option_of<int>(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPIDLE),
            kKeepaliveTime.count());
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
            std::chrono::milliseconds(kUserTimeout).count());
  EXPECT_TRUE(is_close_on_exec(fd));
  EXPECT_EQ(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
}

TEST(ConnectSocket, SetsTheOptionsOfTheCaller) {
  Listener listener("127.0.0.1", 0);
  const auto socket = connect_to(address_of(listener), kPatience, {},
                                 {.no_delay = false, .user_timeout = 12'345ms});
  const int fd = socket->native_handle();
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 12'345);
}

TEST(ConnectSocket, RefusesOptionsThatTheKernelCannotTake) {
  Listener listener("127.0.0.1", 0);
  for (const SocketOptions& options :
       {SocketOptions{.keepalive_time = 32'768s},
        SocketOptions{.keepalive_time = -1s},
        SocketOptions{.keepalive_interval = 32'768s},
        SocketOptions{.keepalive_interval =
                          std::chrono::seconds((1LL << 32) + 60)},
        SocketOptions{.keepalive_probes = 128},
        SocketOptions{.keepalive_probes = -1},
        SocketOptions{.user_timeout = std::chrono::hours(50 * 24)},
        SocketOptions{.user_timeout = -1ms}, SocketOptions{.send_buffer = -1},
        SocketOptions{.receive_buffer = -1}}) {
    EXPECT_THROW(connect_to(address_of(listener), kPatience, {}, options),
                 std::invalid_argument);
  }
  EXPECT_THROW(listener.accept(Wait::none()), TimeoutError)
      << "nobody has connected";
  for (const SocketOptions& options :
       {SocketOptions{.keepalive_time = 32'767s,
       .keepalive_interval = 32'767s,
       .keepalive_probes = 127,
       .user_timeout = std::chrono::milliseconds(INT_MAX)},
        SocketOptions{.keepalive_time = 0s,
        .keepalive_interval = 0s,
        .keepalive_probes = 0,
        .user_timeout = 0ms}}) {
    RefusedOptions refused;
    const Address address = address_of(listener);
    EXPECT_NE(
        connect_socket({&address, 1}, {}, options, kPatience, "peer", &refused),
        nullptr);
    EXPECT_TRUE(refused.empty());
  }
}

TEST(ConnectSocket, ReportsARefusal) {
  const RefusingAddress refusing;
  try {
    connect_to_first_of({refusing.address()});
    FAIL();
  } catch (const ConnectionRefusedError& e) {
    EXPECT_EQ(e.code(), std::errc::connection_refused);
    EXPECT_EQ(e.operation(), "connect");
    EXPECT_EQ(e.peer(), "telescope:4000");
  }
}

TEST(ConnectSocket, GoesOnToTheNextAddress) {
  const RefusingAddress refusing;
  const RefusingAddress refusing_too;
  Listener listener("127.0.0.1", 0);
  const auto socket =
      connect_to_first_of({refusing.address(), refusing_too.address(),
                           address_of(listener), refusing.address()});
  EXPECT_EQ(socket->peer_address(), address_of(listener));
}

TEST(ConnectSocket, DeadAddressCostsAQuarterOfASecond) {
  const SilentAddress silent;
  Listener listener("127.0.0.1", 0);
  for (const Wait& wait : {Wait(), Wait(kPatience)}) {
    const Clock::time_point start = Clock::now();
    const auto socket =
        connect_to_first_of({silent.address(), address_of(listener)}, wait);
    EXPECT_EQ(socket->peer_address(), address_of(listener));
    EXPECT_GE(Clock::now() - start, 250ms);
    EXPECT_LT(Clock::now() - start, 900ms);
    listener.accept(kPatience);
  }
}

TEST(ConnectSocket, AddressThatRefusesCostsNothing) {
  const RefusingAddress refusing;
  Listener listener("127.0.0.1", 0);
  std::vector<Address> addresses(12, refusing.address());
  addresses.push_back(address_of(listener));
  const Clock::time_point start = Clock::now();
  EXPECT_NE(connect_to_first_of(addresses), nullptr);
  EXPECT_LT(Clock::now() - start, 12 * 250ms);
}

TEST(ConnectSocket, AddressThatFailsBehindADeadOneCostsNothing) {
  const SilentAddress silent;
  const RefusingAddress refusing;
  Listener listener("127.0.0.1", 0);
  std::vector<Address> addresses{silent.address()};
  addresses.insert(addresses.end(), 12, refusing.address());
  addresses.push_back(address_of(listener));
  const Clock::time_point start = Clock::now();
  EXPECT_NE(connect_to_first_of(addresses), nullptr);
  EXPECT_LT(Clock::now() - start, 12 * 250ms);
}

TEST(ConnectSocket, GoesOnWithTheFirstWhileItTriesTheOthers) {
  SilentAddress slow;
  const SilentAddress silent;
  const auto before = tcpip_testing::open_descriptors().size();
  Call<Address> call([&] {
    return connect_to_first_of({slow.address(), silent.address()})
        ->peer_address();
  });
  // A socket for each, and what wakes the thread.
  EXPECT_TRUE(wait_until(
      [&] { return tcpip_testing::open_descriptors().size() == before + 3; }));
  slow.answer();
  EXPECT_EQ(call.result(), slow.address());
}

TEST(ConnectSocket, TriesEveryAddressBeforeTheDeadline) {
  const SilentAddress silent;
  Listener listener("127.0.0.1", 0);
  std::vector<Address> addresses(20, silent.address());
  addresses.push_back(address_of(listener));
  EXPECT_NE(connect_to_first_of(addresses, 1s), nullptr);
  EXPECT_NE(connect_to_first_of(addresses, Wait::none()), nullptr);
  // With time to spare for the last one: 740 ms are less than three delays.
  addresses.erase(addresses.begin(), addresses.end() - 4);
  const Deadline deadline = Deadline::after(740ms);
  EXPECT_NE(connect_to_first_of(addresses, deadline), nullptr);
  EXPECT_FALSE(deadline.has_passed());
}

TEST(ConnectSocket, TriesTheFamiliesByTurns) {
  TEST_IN_PRIVATE_NETWORK([] {
    const RefusingAddress refusing;
    const RefusingAddress refusing_too;
    const Address six = resolve("2001:db8::1", 4000).front();
    const Address six_too = resolve("2001:db8::2", 4000).front();
    const std::string refused = ": Connection refused";
    const std::string unreachable = ": Network is unreachable";
    try {
      connect_to_first_of(
          {refusing.address(), refusing_too.address(), six, six_too});
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()),
                "connect [telescope:4000]: " + refusing.address().to_string() +
                    refused + "; " + six.to_string() + unreachable + "; " +
                    refusing_too.address().to_string() + refused + "; " +
                    six_too.to_string() + unreachable);
    }
  });
}

TEST(ConnectSocket, KeepsTimeForTheNextAddress) {
  const SilentAddress silent;
  Listener listener("127.0.0.1", 0);
  const Clock::time_point start = Clock::now();
  const auto socket =
      connect_to_first_of({silent.address(), address_of(listener)}, 600ms);
  EXPECT_EQ(socket->peer_address(), address_of(listener));
  EXPECT_GE(Clock::now() - start, 250ms) << "the first had its share";
}

TEST(ConnectSocket, NamesEveryAddressThatFailedInItsOwnWay) {
  const SilentAddress silent;
  const RefusingAddress refusing;
  try {
    connect_to_first_of({silent.address(), refusing.address()}, 60ms);
    FAIL();
  } catch (const ConnectionRefusedError& e) {
    EXPECT_TRUE(contains(e.what(), silent.address().to_string())) << e.what();
    EXPECT_TRUE(contains(e.what(), refusing.address().to_string()));
    EXPECT_TRUE(contains(e.what(), "timed out"));
    EXPECT_TRUE(contains(e.what(), "refused"));
  }
}

TEST(ConnectSocket, SaysWhatEachAddressSaidWhenTheTimeIsUp) {
  const RefusingAddress refusing;
  const SilentAddress silent;
  const SilentAddress silent_too;
  try {
    connect_to_first_of(
        {refusing.address(), silent.address(), silent_too.address()}, 60ms);
    FAIL();
  } catch (const TimeoutError& e) {
    EXPECT_EQ(std::string(e.what()),
              "connect [telescope:4000]: timed out; " +
                  refusing.address().to_string() + ": Connection refused; " +
                  silent.address().to_string() + ": no answer (timed out); " +
                  silent_too.address().to_string() + ": no answer (timed out)");
  }
}

TEST(ConnectSocket, EndsAtItsDeadline) {
  const SilentAddress silent;
  const std::stop_source source;
  for (const std::stop_token& stop : {std::stop_token(), source.get_token()}) {
    const Deadline deadline = Deadline::after(40ms);
    EXPECT_THROW(connect_to_first_of({silent.address()}, {deadline, stop}),
                 TimeoutError);
    EXPECT_TRUE(deadline.has_passed());
    EXPECT_LT(Clock::now(), deadline.when() + 10s);
  }
  EXPECT_THROW(connect_to_first_of({silent.address(), silent.address()}, 20ms),
               TimeoutError);
  EXPECT_THROW(connect_to_first_of({silent.address()}, Wait::none()),
               TimeoutError);
}

TEST(ConnectSocket, IsWokenByAStop) {
  const SilentAddress silent;
  for (const Deadline deadline : {Deadline(), Deadline::after(1h)}) {
    std::stop_source source;
    Call<std::string> call([&]() -> std::string {
      try {
        connect_to_first_of({silent.address(), silent.address()},
                            {deadline, source.get_token()});
        return "connected";
      } catch (const CancelledError& e) {
        return e.what();
      }
    });
    EXPECT_TRUE(call.blocks());
    source.request_stop();
    EXPECT_EQ(call.result(), "connect [telescope:4000]: stop requested");
  }
}

TEST(ConnectSocket, DoesNotConnectOnceStopped) {
  Listener listener("127.0.0.1", 0);
  std::stop_source source;
  source.request_stop();
  EXPECT_THROW(connect_to(address_of(listener), source.get_token()),
               CancelledError);
}

TEST(ConnectSocket, KeepsItsDeadlineUnderASignalStorm) {
  const SilentAddress silent;
  const SignalStorm storm(::pthread_self());
  const Deadline deadline = Deadline::after(50ms);
  EXPECT_THROW(connect_to_first_of({silent.address()}, deadline), TimeoutError);
  EXPECT_TRUE(deadline.has_passed());
  EXPECT_LT(Clock::now(), deadline.when() + 5s);
}

TEST(ConnectSocket, ConnectsUnderASignalStorm) {
  Listener listener("127.0.0.1", 0);
  const SignalStorm storm(::pthread_self());
  for (int i = 0; i < 50; ++i) {
    EXPECT_NE(connect_to(address_of(listener)), nullptr);
    listener.accept(kPatience);
  }
}

TEST(ConnectSocket, BindsToALocalAddress) {
  Listener listener("127.0.0.1", 0);
  std::uint16_t port = 0;
  {
    const RefusingAddress free_port;
    port = free_port.address().port();
  }
  const auto socket =
      connect_to(address_of(listener), kPatience,
                 {.local_host = "127.0.0.2", .local_port = port});
  EXPECT_EQ(socket->local_address().to_string(),
            host_and_port("127.0.0.2", port));
  EXPECT_EQ(listener.accept(kPatience).peer, socket->local_address());
}

TEST(ConnectSocket, BindsEachAddressToALocalOneOfItsFamily) {
  Listener listener("127.0.0.1", 0);
  const Address six = resolve("::1", listener.port()).front();
  const std::vector<Address> addresses{six, address_of(listener)};
  const auto socket =
      connect_socket(addresses, {.local_host = "127.0.0.2"}, {}, kPatience, "");
  EXPECT_EQ(socket->peer_address(), address_of(listener));
  EXPECT_EQ(socket->local_address().host(), "127.0.0.2");
}

TEST(ConnectSocket, TriesAllAddressesFromOneLocalPort) {
  const SilentAddress silent;
  Listener listener("127.0.0.1", 0);
  std::uint16_t port = 0;
  {
    const RefusingAddress free_port;
    port = free_port.address().port();
  }
  const std::vector<Address> addresses{silent.address(), address_of(listener)};
  const auto socket =
      connect_socket(addresses, {.local_port = port}, {}, kPatience, "");
  EXPECT_EQ(socket->local_address().port(), port);
}

TEST(ConnectSocket, PreparesEachSocketBeforeItConnects) {
  const RefusingAddress refusing;
  Listener listener("127.0.0.1", 0);
  std::vector<Address> addresses{refusing.address(), address_of(listener)};
  int calls = 0;
  const auto socket = connect_socket(
      addresses,
      {.prepare =
           [&](int fd) {
             ++calls;
             const int priority = 3;
             ::setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority,
                          sizeof priority);
             sockaddr_storage peer{};
             socklen_t size = sizeof peer;
             EXPECT_LT(
                 ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size),
                 0);
           }},
      {}, kPatience, "");
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(option_of<int>(socket->native_handle(), SOL_SOCKET, SO_PRIORITY),
            3);
}

TEST(ConnectSocket, LetsOutWhatPreparingThrows) {
  const SilentAddress silent;
  Listener listener("127.0.0.1", 0);
  const std::vector<Address> addresses{silent.address(), address_of(listener)};
  int calls = 0;
  const ConnectOptions options{.prepare = [&](int) {
    if (++calls == 2) throw std::runtime_error("no");
  }};
  EXPECT_THROW(connect_socket(addresses, options, {}, kPatience, ""),
               std::runtime_error);
  EXPECT_THROW(listener.accept(Wait::none()), TimeoutError);
}

TEST(ConnectSocket, BindsToALocalPortAlone) {
  Listener listener("127.0.0.1", 0);
  std::uint16_t port = 0;
  {
    const RefusingAddress free_port;
    port = free_port.address().port();
  }
  const auto socket =
      connect_to(address_of(listener), kPatience, {.local_port = port});
  EXPECT_EQ(socket->local_address().port(), port);
}

TEST(ConnectSocket, BindsToALocalPortInTheFamilyOfThePeer) {
  TEST_IN_PRIVATE_NETWORK([] {
    for (const char* host : {"127.0.0.1", "::1"}) {
      const Listener listener(host, 0);
      const auto socket = connect_to(resolve(host, listener.port()).front(),
                                     kPatience, {.local_port = 4001});
      EXPECT_EQ(socket->local_address().port(), 4001);
    }
  });
}

TEST(ConnectSocket, ReportsALocalAddressThatIsNotOurs) {
  Listener listener("127.0.0.1", 0);
  try {
    connect_to(address_of(listener), kPatience, {.local_host = "192.0.2.1"});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_not_available);
  }
}

TEST(ConnectSocket, ReportsALocalAddressOfTheOtherFamily) {
  Listener listener("127.0.0.1", 0);
  try {
    connect_to(address_of(listener), kPatience, {.local_host = "::1"});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_family_not_supported);
  }
}

TEST(ConnectSocket, ReportsALackOfDescriptors) {
  Listener listener("127.0.0.1", 0);
  const Address address = address_of(listener);
  const NoMoreDescriptors none;
  try {
    connect_to(address);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::too_many_files_open);
  }
}

TEST(ConnectSocket, ReportsAnUnreachableNetwork) {
  TEST_IN_PRIVATE_NETWORK([] {
    try {
      connect_to(resolve("192.0.2.1", 4000).front());
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), std::errc::network_unreachable);
      EXPECT_STREQ(e.what(),
                   "connect [192.0.2.1:4000]: Network is unreachable");
    }
    Listener listener("127.0.0.1", 0);
    const auto socket = connect_to_first_of(
        {resolve("192.0.2.1", 4000).front(), address_of(listener)});
    EXPECT_EQ(socket->peer_address(), address_of(listener));
  });
}

TEST(ConnectSocket, NeverConnectsToItself) {
  TEST_IN_PRIVATE_NETWORK([] {
    // The only port that the kernel can choose is that of the address itself.
    use_ports("7000 7000");
    try {
      connect_to(resolve("127.0.0.1", 7000).front());
      ADD_FAILURE() << "connected";
    } catch (const Error& e) {
      // The second, if the first try has left the port in TIME_WAIT.
      EXPECT_TRUE(e.code() == Errc::kSelfConnect ||
                  e.code() == std::errc::address_not_available)
          << e.what();
    }
  });
}

TEST(ConnectSocket, TriesAnotherPortRatherThanConnectToItself) {
  TEST_IN_PRIVATE_NETWORK([] {
    // Two even ports, which the kernel prefers; one is the address itself:
    // every other attempt or so would meet itself.
    use_ports("7000 7003");
    // In one of eight all three tries do; one of two if there were no retry.
    int self_connects = 0;
    for (int i = 0; i < 200; ++i) {
      try {
        connect_to(resolve("127.0.0.1", 7000).front());
        ADD_FAILURE() << "connected";
      } catch (const ConnectionRefusedError& e) {
        if (e.code() == Errc::kSelfConnect) ++self_connects;
      }
    }
    EXPECT_LT(self_connects, 60);
  });
}

}  // namespace
}  // namespace tcpip
