#include "tcpip/listener.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <vector>

#include "tcpip/error.h"
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
using tcpip_tests::contains;
using tcpip_tests::failure;
using tcpip_tests::is_close_on_exec;
using tcpip_tests::kEnd;
using tcpip_tests::NoMoreDescriptors;
using tcpip_tests::option_of;
using tcpip_tests::receive;
using tcpip_tests::RefusingAddress;
using tcpip_tests::SignalStorm;
using tcpip_tests::use_ports;
using tcpip_tests::wait_until;
using tcpip_tests::write_setting;

TEST(Listener, TakesOneFreePortForAllItsSockets) {
  const Listener listener(std::nullopt, 0);
  ASSERT_FALSE(listener.addresses().empty());
  EXPECT_EQ(listener.addresses().size(), listener.sockets().size());
  EXPECT_NE(listener.port(), 0);
  std::set<AddressFamily> families;
  for (const Address& address : listener.addresses()) {
    EXPECT_EQ(address.port(), listener.port());
    families.insert(address.family());
  }
  EXPECT_EQ(families.size(), listener.addresses().size());
  EXPECT_TRUE(families.contains(AddressFamily::kIpv4));
}

TEST(Listener, TakesAnEmptyHostForAllInterfaces) {
  const Listener listener("", 0, {.family = AddressFamily::kIpv4});
  EXPECT_EQ(listener.addresses().front().host(), "0.0.0.0");
}

TEST(Listener, AcceptsOnEverySocket) {
  Listener listener(std::nullopt, 0);
  for (const Address& address : listener.addresses()) {
    const bool six = address.family() == AddressFamily::kIpv6;
    const auto client =
        connect_to(resolve(six ? "::1" : "127.0.0.1", listener.port()).front());
    EXPECT_EQ(listener.accept(kPatience).peer, client->local_address());
  }
}

TEST(Listener, KeepsToOneFamilyIfAsked) {
  const Listener listener(std::nullopt, 0, {.family = AddressFamily::kIpv4});
  ASSERT_EQ(listener.addresses().size(), 1u);
  EXPECT_EQ(listener.addresses().front().family(), AddressFamily::kIpv4);
}

TEST(Listener, ListensOnTheGivenPort) {
  std::uint16_t port = 0;
  {
    const RefusingAddress free_port;
    port = free_port.address().port();
  }
  const Listener listener("127.0.0.1", port);
  EXPECT_EQ(listener.port(), port);
}

TEST(Listener, NamesTheAddressThatIsInUse) {
  const Listener listener("127.0.0.1", 0);
  try {
    const Listener second("127.0.0.1", listener.port());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_in_use);
    EXPECT_EQ(std::string(e.what()),
              "listen [127.0.0.1:" + std::to_string(listener.port()) +
                  "]: Address already in use");
  }
}

TEST(Listener, NamesTheAddressThatIsNotOurs) {
  try {
    const Listener listener("192.0.2.1", 4000);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_not_available);
    EXPECT_TRUE(contains(e.what(), "192.0.2.1:4000")) << e.what();
  }
}

TEST(Listener, RefusesBadArguments) {
  EXPECT_THROW(Listener("127.0.0.1", -1), std::invalid_argument);
  EXPECT_THROW(Listener("127.0.0.1", 65536), std::invalid_argument);
  EXPECT_THROW(Listener("127.0.0.1", 0, {.backlog = 0}), std::invalid_argument);
  EXPECT_THROW(Listener("127.0.0.1", 0, {.backlog = -1}),
               std::invalid_argument);
  EXPECT_THROW(Listener("127.0.0.1", 0, {.family = AddressFamily::kIpv6}),
               ResolveError);
}

TEST(Listener, TakesAPortOfAnEndedConnection) {
  std::uint16_t port = 0;
  {
    Listener listener("127.0.0.1", 0);
    port = listener.port();
    const auto client = connect_to(address_of(listener));
    // The side that closes first is the one that stays in TIME_WAIT.
    listener.accept(kPatience).fd.reset();
    EXPECT_EQ(receive(*client), kEnd);
  }
  EXPECT_TRUE(wait_until([&] {
    try {
      const Listener listener("127.0.0.1", port);
      return true;
    } catch (const Error&) {
      return false;  // the client's FIN is still under way
    }
  }));
  EXPECT_THROW(Listener("127.0.0.1", port, {.reuse_address = false}), Error);
}

TEST(Listener, SharesAPortOnlyIfAsked) {
  const Listener first("127.0.0.1", 0, {.reuse_port = true});
  EXPECT_NO_THROW(Listener("127.0.0.1", first.port(), {.reuse_port = true}));
  EXPECT_THROW(Listener("127.0.0.1", first.port()), Error);
}

TEST(Listener, AcceptsWhatWaits) {
  const std::stop_source source;
  Listener listener("127.0.0.1", 0);
  for (const Wait& wait :
       {Wait(), Wait(kPatience), Wait(source.get_token()), Wait::none()}) {
    const auto client = connect_to(address_of(listener));
    const Listener::Accepted accepted = listener.accept(wait);
    EXPECT_EQ(accepted.peer, client->local_address());
    EXPECT_TRUE(is_close_on_exec(accepted.fd.get()));
    EXPECT_EQ(::fcntl(accepted.fd.get(), F_GETFL) & O_NONBLOCK, 0);
  }
  for (const UniqueFd& fd : listener.sockets()) {
    EXPECT_TRUE(is_close_on_exec(fd.get()));
  }
}

TEST(Listener, AcceptsInTheOrderOfArrival) {
  Listener listener("127.0.0.1", 0);
  std::vector<std::shared_ptr<Socket>> clients;
  for (int i = 0; i < 20; ++i)
    clients.push_back(connect_to(address_of(listener)));
  for (const auto& client : clients) {
    EXPECT_EQ(listener.accept(kPatience).peer, client->local_address());
  }
}

Call<std::string> accept_call(Listener& listener, const Wait& wait) {
  return Call<std::string>([&listener, wait]() -> std::string {
    try {
      return listener.accept(wait).peer.host();
    } catch (const CancelledError&) {
      return "CancelledError";
    } catch (const ConnectionAbortedError&) {
      return "ConnectionAbortedError";
    }
  });
}

TEST(Listener, AcceptWaitsForAConnection) {
  const std::stop_source source;
  Listener listener("127.0.0.1", 0);
  for (const Wait& wait : {Wait(), Wait(1h), Wait(source.get_token())}) {
    Call<std::string> call = accept_call(listener, wait);
    EXPECT_TRUE(call.blocks());
    const auto client = connect_to(address_of(listener));
    EXPECT_EQ(call.result(), "127.0.0.1");
  }
}

TEST(Listener, AcceptEndsAtItsDeadline) {
  Listener listener("127.0.0.1", 0);
  const Deadline deadline = Deadline::after(20ms);
  EXPECT_THROW(listener.accept(deadline), TimeoutError);
  EXPECT_TRUE(deadline.has_passed());
  EXPECT_THROW(listener.accept(Wait::none()), TimeoutError);
}

TEST(Listener, AcceptIsWokenByAStop) {
  Listener listener(std::nullopt, 0);
  for (const Deadline deadline : {Deadline(), Deadline::after(1h)}) {
    std::stop_source source;
    Call<std::string> call =
        accept_call(listener, {deadline, source.get_token()});
    EXPECT_TRUE(call.blocks());
    source.request_stop();
    EXPECT_EQ(call.result(), "CancelledError");
  }
  EXPECT_THROW(listener.accept(1ms), TimeoutError) << "the stop is over";
}

TEST(Listener, AcceptIsWokenByClose) {
  for (const Wait& wait : {Wait(), Wait(1h)}) {
    Listener listener("127.0.0.1", 0);
    Call<std::string> call = accept_call(listener, wait);
    EXPECT_TRUE(call.blocks());
    listener.close();
    EXPECT_EQ(call.result(), "ConnectionAbortedError");
  }
}

TEST(Listener, NeverMissesACloseThatComesAtTheSameTime) {
  for (int i = 0; i < 100; ++i) {
    std::stop_source source;
    Listener listener("127.0.0.1", 0);
    Call<std::string> call = accept_call(listener, source.get_token());
    // Both at once: one of them is seen, neither is lost.
    source.request_stop();
    listener.close();
    call.result();
    ASSERT_THROW(listener.accept(), ConnectionAbortedError);
  }
}

TEST(Listener, RefusesAndResetsAfterClose) {
  Listener listener("127.0.0.1", 0);
  const Address address = address_of(listener);
  const auto waiting = connect_to(address);
  listener.close();
  listener.close();
  EXPECT_THROW(listener.accept(), ConnectionAbortedError);
  EXPECT_THROW(listener.accept(Wait::none()), ConnectionAbortedError);
  EXPECT_THROW(connect_to(address), ConnectionRefusedError);
  EXPECT_EQ(receive(*waiting), failure(ECONNRESET));
}

TEST(Listener, TryAcceptDoesNotWait) {
  Listener listener("127.0.0.1", 0);
  const Listener::Attempt nobody = listener.try_accept(0);
  EXPECT_EQ(nobody.status, IoStatus::kTimeout);
  EXPECT_FALSE(nobody.error);
  const auto client = connect_to(address_of(listener));
  const Listener::Attempt attempt = listener.try_accept(0);
  EXPECT_EQ(attempt.status, IoStatus::kOk);
  EXPECT_FALSE(attempt.error);
  EXPECT_TRUE(attempt.accepted.fd);
  EXPECT_EQ(attempt.accepted.peer, client->local_address());
}

TEST(Listener, ALackOfDescriptorsLosesNoConnection) {
  Listener listener("127.0.0.1", 0);
  const auto client = connect_to(address_of(listener));
  {
    const NoMoreDescriptors none;
    try {
      listener.accept(kPatience);
      FAIL();
    } catch (const ConnectionError& e) {
      FAIL() << "no connection is lost: " << e.what();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), std::errc::too_many_files_open);
    }
    const Listener::Attempt attempt = listener.try_accept(0);
    EXPECT_EQ(attempt.status, IoStatus::kError);
    EXPECT_EQ(attempt.error, std::errc::too_many_files_open);
    EXPECT_FALSE(attempt.accepted.fd);
  }
  EXPECT_EQ(listener.accept(kPatience).peer, client->local_address());
}

TEST(Listener, KeepsItsDeadlineUnderASignalStorm) {
  Listener listener("127.0.0.1", 0);
  const SignalStorm storm(::pthread_self());
  const Deadline deadline = Deadline::after(50ms);
  EXPECT_THROW(listener.accept(deadline), TimeoutError);
  EXPECT_TRUE(deadline.has_passed());
  EXPECT_LT(Clock::now(), deadline.when() + 5s);
}

TEST(Listener, DoesWithoutIpv6WhereThereIsNone) {
  TEST_IN_PRIVATE_NETWORK([] {
    if (!write_setting("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")) return;
    Listener listener(std::nullopt, 0);
    const auto client = connect_to(address_of(listener));
    EXPECT_EQ(listener.accept(kPatience).peer, client->local_address());
    try {
      const Listener six("::1", 0);
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), std::errc::address_not_available);
      EXPECT_TRUE(contains(e.what(), "[::1]:0")) << e.what();
    }
    EXPECT_NE(connect_to_first_of({resolve("::1", listener.port()).front(),
                                   address_of(listener)}),
              nullptr);
  });
}

TEST(Listener, ListensOnAnAddressThatIsNotOursIfAsked) {
  TEST_IN_PRIVATE_NETWORK([] {
    for (const char* host : {"192.0.2.1", "2001:db8::1"}) {
      EXPECT_THROW(Listener(host, 0), Error);
      const Listener listener(host, 0, {.free_bind = true});
      EXPECT_EQ(listener.addresses().front().host(), host);
    }
  });
}

TEST(Listener, WaitsForAnAddressUntilItIsThere) {
  TEST_IN_PRIVATE_NETWORK([] {
    Call<std::string> call([] {
      const Listener listener("192.0.2.1", 0, {.wait_for_address = true},
                              kPatience);
      return listener.addresses().front().host();
    });
    EXPECT_TRUE(call.blocks());
    tcpip_tests::add_address("192.0.2.1");
    EXPECT_EQ(call.result(), "192.0.2.1");
  });
}

TEST(Listener, WaitsForAnAddressAsLongAsItMay) {
  TEST_IN_PRIVATE_NETWORK([] {
    const ListenOptions waiting{.wait_for_address = true};
    const Deadline deadline = Deadline::after(150ms);
    try {
      const Listener listener("192.0.2.1", 4000, waiting, deadline);
      ADD_FAILURE();
    } catch (const TimeoutError& e) {
      EXPECT_STREQ(e.what(),
                   "listen [192.0.2.1:4000]: timed out; Cannot assign "
                   "requested address");
    }
    EXPECT_TRUE(deadline.has_passed());
    EXPECT_LT(Clock::now(), deadline.when() + 5s);
    std::stop_source source;
    Call<std::string> call([&]() -> std::string {
      try {
        const Listener listener("192.0.2.1", 4000, waiting, source.get_token());
        return "listens";
      } catch (const CancelledError&) {
        return "CancelledError";
      }
    });
    EXPECT_TRUE(call.blocks());
    source.request_stop();
    EXPECT_EQ(call.result(), "CancelledError");
    // An address that is in use is there.
    const Listener first("127.0.0.1", 0);
    EXPECT_THROW(Listener("127.0.0.1", first.port(), waiting), Error);
  });
}

TEST(Listener, PreparesEachSocketBeforeItIsBound) {
  std::vector<bool> was_bound;
  const Listener listener(
      std::nullopt, 0, {.prepare = [&](int fd) {
        sockaddr_storage address{};
        socklen_t size = sizeof address;
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
        was_bound.push_back(
            reinterpret_cast<const sockaddr_in&>(address).sin_port != 0);
        const int priority = 3;
        ::setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority);
      }});
  EXPECT_EQ(was_bound, std::vector<bool>(listener.sockets().size(), false));
  for (const UniqueFd& fd : listener.sockets()) {
    EXPECT_EQ(option_of<int>(fd.get(), SOL_SOCKET, SO_PRIORITY), 3);
  }
}

TEST(Listener, LetsOutWhatPreparingThrows) {
  int calls = 0;
  const ListenOptions options{.prepare = [&](int) {
    if (++calls == 2) throw std::runtime_error("no");
  }};
  EXPECT_THROW(Listener(std::nullopt, 0, options), std::runtime_error);
}

// --- Options that connections inherit ---

constexpr SocketOptions kInherited{.no_delay = true,
                                   .keepalive = true,
                                   .keepalive_time = 11s,
                                   .keepalive_interval = 12s,
                                   .keepalive_probes = 13,
                                   .user_timeout = 14'015ms,
                                   .send_buffer = 20'000,
                                   .receive_buffer = 30'000};

TEST(ListenerWithOptions, HandsEachOfThemOnToTheConnectionsOfEverySocket) {
  Listener listener(std::nullopt, 0, {}, {}, kInherited);
  for (std::size_t i = 0; i < listener.addresses().size(); ++i) {
    EXPECT_TRUE(listener.hands_options_on(i));
    const bool six = listener.addresses()[i].family() == AddressFamily::kIpv6;
    const auto client =
        connect_to(resolve(six ? "::1" : "127.0.0.1", listener.port()).front());
    const UniqueFd accepted = listener.accept(kPatience).fd;
    const int fd = accepted.get();
    EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    EXPECT_EQ(option_of<int>(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPIDLE), 11);
    EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPINTVL), 12);
    EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPCNT), 13);
    EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 14'015);
    EXPECT_EQ(option_of<int>(fd, SOL_SOCKET, SO_SNDBUF), 40'000);
    EXPECT_EQ(option_of<int>(fd, SOL_SOCKET, SO_RCVBUF), 60'000);
  }
}

TEST(ListenerWithOptions, HandsOnThatTheyAreOff) {
  Listener listener("127.0.0.1", 0, {}, {},
                    {.no_delay = false, .keepalive = false});
  EXPECT_TRUE(listener.hands_options_on(0));
  const auto client = connect_to(address_of(listener));
  const UniqueFd accepted = listener.accept(kPatience).fd;
  EXPECT_EQ(option_of<int>(accepted.get(), IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_EQ(option_of<int>(accepted.get(), SOL_SOCKET, SO_KEEPALIVE), 0);
}

TEST(ListenerWithOptions, SaysThatItHandsThemNotOnIfOneWasRefused) {
  const Listener listener("127.0.0.1", 0, {}, {}, {.keepalive_probes = 1000});
  EXPECT_FALSE(listener.hands_options_on(0));
}

TEST(ListenerWithOptions, WithoutAnyItHandsNoneOn) {
  const Listener listener("127.0.0.1", 0);
  EXPECT_FALSE(listener.hands_options_on(0));
}

// --- Descriptors of others ---

UniqueFd listening_socket() {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(::listen(fd.get(), 8), 0);
  return fd;
}

TEST(ListenerOfDescriptors, AcceptsOnAllOfThem) {
  const UniqueFd first = listening_socket();
  const UniqueFd second = listening_socket();
  Listener listener("ignored", 99'999,
                    {.descriptors = {first.get(), second.get()}});
  ASSERT_EQ(listener.addresses().size(), 2u);
  for (const Address& address : listener.addresses()) {
    const auto client =
        connect_to(resolve("127.0.0.1", address.port()).front());
    EXPECT_EQ(listener.accept(kPatience).peer, client->local_address());
  }
  EXPECT_THROW(listener.accept(Wait::none()), TimeoutError);
  for (const UniqueFd& fd : listener.sockets()) {
    EXPECT_TRUE(is_close_on_exec(fd.get()));
    EXPECT_NE(fd.get(), first.get());
    EXPECT_NE(fd.get(), second.get());
  }
}

// They are another program's, and that may share them.
TEST(ListenerOfDescriptors, LeavesTheirOptionsAsTheyAre) {
  const UniqueFd fd = listening_socket();
  const Listener listener(std::nullopt, 0, {.descriptors = {fd.get()}}, {},
                          kInherited);
  EXPECT_FALSE(listener.hands_options_on(0));
  EXPECT_EQ(option_of<int>(fd.get(), IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_EQ(option_of<int>(fd.get(), SOL_SOCKET, SO_KEEPALIVE), 0);
}

TEST(ListenerOfDescriptors, LeavesThemListening) {
  const UniqueFd fd = listening_socket();
  std::uint16_t port = 0;
  {
    Listener listener(std::nullopt, 0, {.descriptors = {fd.get()}});
    port = listener.port();
    Call<std::string> call = accept_call(listener, {});
    EXPECT_TRUE(call.blocks());
    listener.close();
    EXPECT_EQ(call.result(), "ConnectionAbortedError");
    EXPECT_THROW(listener.accept(kPatience), ConnectionAbortedError);
  }
  EXPECT_NE(connect_to(resolve("127.0.0.1", port).front()), nullptr);
  const UniqueFd accepted(::accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(accepted);
}

TEST(ListenerOfDescriptors, StopsListeningIfNobodyElseHasThem) {
  UniqueFd fd = listening_socket();
  Address address;
  {
    const Listener listener(std::nullopt, 0, {.descriptors = {fd.get()}});
    fd.reset();
    address = address_of(listener);
    EXPECT_NE(connect_to(address), nullptr);
  }
  EXPECT_THROW(connect_to(address), ConnectionRefusedError);
}

TEST(ListenerOfDescriptors, RefusesWhatDoesNotListen) {
  const UniqueFd good = listening_socket();
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const UniqueFd datagrams(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const UniqueFd silent(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const struct {
    int fd;
    int error;
    const char* text;
  } bad[] = {{file.get(), ENOTSOCK, "not a socket"},
             {9999, EBADF, "Bad file descriptor"},
             {-1, EBADF, "Bad file descriptor"},
             {datagrams.get(), EPROTOTYPE, "not a stream socket"},
             {silent.get(), EINVAL, "does not listen"}};
  for (const auto& [fd, error, text] : bad) {
    try {
      const Listener listener(std::nullopt, 0,
                              {.descriptors = {good.get(), fd}});
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code().value(), error);
      EXPECT_TRUE(contains(e.what(), "descriptor " + std::to_string(fd)))
          << e.what();
      EXPECT_TRUE(contains(e.what(), text) || error == ENOTSOCK) << e.what();
    }
  }
  for (const UniqueFd* fd : {&good, &file, &datagrams, &silent}) {
    EXPECT_GE(::fcntl(fd->get(), F_GETFD), 0);
  }
}

TEST(Listener, TakesAPortThatIsFreeOnEveryAddress) {
  TEST_IN_PRIVATE_NETWORK([] {
    // Of these the kernel gives the odd ones of the lower half, one in two of
    // which is taken on IPv6.
    use_ports("7000 7063");
    std::vector<std::unique_ptr<Listener>> taken;
    try {
      for (int port = 7001; port < 7032; port += 4) {
        taken.push_back(std::make_unique<Listener>("::", port));
      }
    } catch (const Error&) {
      return;  // no IPv6
    }
    for (int i = 0; i < 10; ++i) {
      const Listener listener(std::nullopt, 0);
      EXPECT_EQ(listener.addresses().size(), 2u);
      for (const auto& other : taken) EXPECT_NE(listener.port(), other->port());
    }
  });
}

}  // namespace
}  // namespace tcpip
