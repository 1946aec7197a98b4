#include "tcpip/address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/unique_fd.h"
#include "tests/support/private_network.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;
using tcpip_testing::kPatience;

Address ipv4(const char* host, std::uint16_t port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  EXPECT_EQ(::inet_pton(AF_INET, host, &in.sin_addr), 1);
  return Address(&in, sizeof in);
}

Address ipv6(const char* host, std::uint16_t port, std::uint32_t scope = 0) {
  sockaddr_in6 in{};
  in.sin6_family = AF_INET6;
  in.sin6_port = htons(port);
  in.sin6_scope_id = scope;
  EXPECT_EQ(::inet_pton(AF_INET6, host, &in.sin6_addr), 1);
  return Address(&in, sizeof in);
}

Address unix_domain(std::string_view path, bool with_end) {
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  std::memcpy(un.sun_path, path.data(), path.size());
  return Address(
      &un, offsetof(sockaddr_un, sun_path) + path.size() + (with_end ? 1 : 0));
}

TEST(Address, OfNothingIsEmpty) {
  const Address address;
  EXPECT_TRUE(address.empty());
  EXPECT_EQ(address.host(), "");
  EXPECT_EQ(address.port(), 0);
  EXPECT_EQ(address.to_string(), "");
  EXPECT_EQ(address.family(), AddressFamily::kAny);
  EXPECT_EQ(address, Address());
}

TEST(Address, ShowsIpv4) {
  const Address address = ipv4("192.0.2.7", 4000);
  EXPECT_FALSE(address.empty());
  EXPECT_EQ(address.host(), "192.0.2.7");
  EXPECT_EQ(address.port(), 4000);
  EXPECT_EQ(address.family(), AddressFamily::kIpv4);
  EXPECT_EQ(address.to_string(), "192.0.2.7:4000");
}

TEST(Address, ShowsIpv6InBrackets) {
  const Address address = ipv6("2001:db8::1", 65535);
  EXPECT_EQ(address.host(), "2001:db8::1");
  EXPECT_EQ(address.port(), 65535);
  EXPECT_EQ(address.family(), AddressFamily::kIpv6);
  EXPECT_EQ(address.to_string(), "[2001:db8::1]:65535");
}

TEST(Address, ShowsTheScopeOfALinkLocalAddress) {
  EXPECT_EQ(ipv6("fe80::1", 1, 999'999).host(), "fe80::1%999999");
  const unsigned loopback = ::if_nametoindex("lo");
  if (loopback == 0) GTEST_SKIP() << "no loopback interface";
  EXPECT_EQ(ipv6("fe80::1", 1, loopback).to_string(), "[fe80::1%lo]:1");
}

TEST(Address, ShowsThePathOfAUnixSocket) {
  EXPECT_EQ(unix_domain("/run/a.sock", true).to_string(), "/run/a.sock");
  EXPECT_EQ(unix_domain("/run/a.sock", false).to_string(), "/run/a.sock");
  const std::string longest(sizeof(sockaddr_un{}.sun_path), 'p');
  EXPECT_EQ(unix_domain(longest, false).host(), longest);
  EXPECT_EQ(unix_domain("", false).to_string(), "unix socket");
  EXPECT_EQ(unix_domain("/run/a.sock", true).family(), AddressFamily::kUnix);
  EXPECT_EQ(unix_domain("/run/a.sock", true).port(), 0);
}

TEST(Resolve, GivesTheAddressOfAUnixSocket) {
  EXPECT_EQ(resolve("unix:/run/a.sock", 0),
            std::vector{unix_domain("/run/a.sock", true)});
  EXPECT_EQ(resolve("unix:@dome", 0, Wait::none(), AddressFamily::kUnix),
            std::vector{unix_domain(std::string_view("\0dome", 5), false)});
  const std::string longest(sizeof(sockaddr_un{}.sun_path), 'p');
  EXPECT_EQ(resolve("unix:" + longest, 0).front().host(), longest);
  try {
    resolve("unix:" + longest + "p", 0);
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_EQ(std::string(e.what()),
              "resolve: unix:" + longest +
                  "p is too long: 109 bytes behind \"unix:\" instead of 108 at "
                  "most");
  }
  EXPECT_EQ(host_and_port("unix:/run/a.sock", 0), "unix:/run/a.sock");
}

// As getsockname() gives the address of a socket that is bound to a path of 108
// bytes: with a size that counts a NUL behind it.
TEST(Address, ReadsNoFurtherThanThePathOfAUnixSocket) {
  const std::string longest(sizeof(sockaddr_un{}.sun_path), 'p');
  std::array<char, 128> bytes{};
  bytes.fill('x');
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  std::memcpy(un.sun_path, longest.data(), longest.size());
  std::memcpy(bytes.data(), &un, sizeof un);
  EXPECT_EQ(Address(bytes.data(), sizeof un + 1).host(), longest);
  EXPECT_EQ(Address(bytes.data(), bytes.size()).host(), longest);
}

TEST(Address, ShowsTheAbstractNameOfAUnixSocket) {
  const auto show = [](std::string_view name) {
    return unix_domain(name, false).to_string();
  };
  EXPECT_EQ(show(std::string_view("\0tmp", 4)), "@tmp");
  EXPECT_EQ(show(std::string_view("\0a\0b\0", 5)), "@a@b@");
  const std::string longest(sizeof(sockaddr_un{}.sun_path) - 1, 'n');
  EXPECT_EQ(show('\0' + longest), "@" + longest);
  EXPECT_EQ(show(std::string_view("\0", 1)), "unix socket");
}

TEST(Address, TakesAnySockaddrThereIs) {
  const std::array<std::byte, 129> bytes{};
  EXPECT_NO_THROW(Address(bytes.data(), 128));
  EXPECT_THROW(Address(bytes.data(), 129), std::invalid_argument);
  EXPECT_TRUE(Address(nullptr, 0).empty());
  const Address cut_short(bytes.data(), 1);
  EXPECT_EQ(cut_short.host(), "");
  EXPECT_EQ(cut_short.port(), 0);
}

TEST(Address, SetsThePortAlone) {
  Address four = ipv4("192.0.2.7", 1);
  four.set_port(4000);
  EXPECT_EQ(four, ipv4("192.0.2.7", 4000));
  Address six = ipv6("2001:db8::1", 1);
  six.set_port(4000);
  EXPECT_EQ(six, ipv6("2001:db8::1", 4000));
  Address other = unix_domain("/run/a.sock", true);
  other.set_port(4000);
  EXPECT_EQ(other, unix_domain("/run/a.sock", true));
}

TEST(Address, ComparesHostAndPort) {
  EXPECT_EQ(ipv4("127.0.0.1", 1), ipv4("127.0.0.1", 1));
  EXPECT_NE(ipv4("127.0.0.1", 1), ipv4("127.0.0.1", 2));
  EXPECT_NE(ipv4("127.0.0.1", 1), ipv4("127.0.0.2", 1));
  EXPECT_NE(ipv4("127.0.0.1", 1), ipv6("::1", 1));
  EXPECT_NE(ipv4("127.0.0.1", 1), Address());
}

TEST(HostAndPort, PutsColonsInBrackets) {
  EXPECT_EQ(host_and_port("localhost", 4000), "localhost:4000");
  EXPECT_EQ(host_and_port("::1", 4000), "[::1]:4000");
  EXPECT_EQ(host_and_port("", 0), ":0");
}

using Addresses = std::vector<Address>;

TEST(Resolve, TakesNumericHosts) {
  EXPECT_EQ(resolve("127.0.0.1", 4000), Addresses{ipv4("127.0.0.1", 4000)});
  EXPECT_EQ(resolve("2001:db8::1", 0), Addresses{ipv6("2001:db8::1", 0)});
  EXPECT_EQ(resolve("0.0.0.0", 65535), Addresses{ipv4("0.0.0.0", 65535)});
}

TEST(Resolve, NeedsNoTimeForNumericHosts) {
  std::stop_source source;
  source.request_stop();
  EXPECT_EQ(resolve("127.0.0.1", 1, Wait::none()).size(), 1u);
  EXPECT_EQ(resolve("127.0.0.1", 1, source.get_token()).size(), 1u);
}

TEST(Resolve, RefusesTheOtherFamily) {
  EXPECT_THROW(resolve("127.0.0.1", 1, {}, AddressFamily::kIpv6), ResolveError);
  EXPECT_THROW(resolve("::1", 1, {}, AddressFamily::kIpv4), ResolveError);
  EXPECT_EQ(resolve("127.0.0.1", 1, {}, AddressFamily::kIpv4).size(), 1u);
  EXPECT_EQ(resolve("::1", 1, {}, AddressFamily::kIpv6).size(), 1u);
}

TEST(Resolve, TakesAnEmptyHostForLoopback) {
  const Addresses four = resolve("", 5, {}, AddressFamily::kIpv4);
  EXPECT_EQ(four, Addresses{ipv4("127.0.0.1", 5)});
  const Addresses six = resolve("", 5, {}, AddressFamily::kIpv6);
  EXPECT_EQ(six, Addresses{ipv6("::1", 5)});
}

TEST(Resolve, TakesAnEmptyHostForAllInterfacesIfAsked) {
  EXPECT_EQ(resolve("", 5, {}, AddressFamily::kIpv4, EmptyHost::kAllInterfaces),
            Addresses{ipv4("0.0.0.0", 5)});
  EXPECT_EQ(resolve("", 5, {}, AddressFamily::kIpv6, EmptyHost::kAllInterfaces),
            Addresses{ipv6("::", 5)});
}

TEST(Resolve, FindsEachAddressOfLocalhostOnce) {
  const Addresses found = resolve("localhost", 80, kPatience);
  ASSERT_FALSE(found.empty());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].port(), 80);
    for (std::size_t j = 0; j < i; ++j) EXPECT_NE(found[i], found[j]);
  }
}

TEST(Resolve, RefusesBadArguments) {
  EXPECT_THROW(resolve("127.0.0.1", -1), std::invalid_argument);
  EXPECT_THROW(resolve("127.0.0.1", 65536), std::invalid_argument);
  EXPECT_THROW(resolve(std::string_view("local\0host", 10), 1),
               std::invalid_argument);
}

TEST(Resolve, StartsNothingOnceStopped) {
  std::stop_source source;
  source.request_stop();
  EXPECT_THROW(resolve("localhost", 1, source.get_token()), CancelledError);
}

// A name server of our own on port 53 of the private network, known through a
// resolv.conf that only this process sees.
class NameServer {
 public:
  // False if that is not permitted.
  bool start() {
    std::string path = testing::TempDir() + "resolv.conf.XXXXXX";
    const UniqueFd file(::mkstemp(path.data()));
    constexpr std::string_view kText =
        "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n";
    if (::write(file.get(), kText.data(), kText.size()) !=
        static_cast<ssize_t>(kText.size())) {
      return false;
    }
    const bool mounted =
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        ::mount(path.c_str(), "/etc/resolv.conf", nullptr, MS_BIND, nullptr) ==
            0;
    ::unlink(path.c_str());
    if (!mounted) return false;
    socket_ = UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const Address address = ipv4("127.0.0.1", 53);
    return ::bind(socket_.get(), static_cast<const sockaddr*>(address.data()),
                  static_cast<socklen_t>(address.size())) == 0;
  }

  // Answers queries for names that begin with `known` with 192.0.2.7 and
  // 192.0.2.8, all others with "no such name".
  void answer(std::string_view known) {
    thread_ = std::jthread([this, known](std::stop_token stop) {
      while (!stop.stop_requested()) {
        pollfd fd{socket_.get(), POLLIN, 0};
        if (::poll(&fd, 1, 10) <= 0) continue;
        std::array<char, 512> buffer;
        sockaddr_storage peer{};
        socklen_t peer_size = sizeof peer;
        const ssize_t size =
            ::recvfrom(socket_.get(), buffer.data(), buffer.size(), 0,
                       reinterpret_cast<sockaddr*>(&peer), &peer_size);
        if (size < 17) continue;
        const std::string reply = reply_to(
            std::string_view(buffer.data(), static_cast<std::size_t>(size)),
            known);
        ::sendto(socket_.get(), reply.data(), reply.size(), 0,
                 reinterpret_cast<const sockaddr*>(&peer), peer_size);
      }
    });
  }

 private:
  static std::string reply_to(std::string_view query, std::string_view known) {
    const std::size_t name_end = query.find('\0', 12);
    std::string question(query.substr(12, name_end + 5 - 12));
    const bool is_known = question.substr(1, known.size()) == known;
    const bool asks_ipv4 = question[question.size() - 3] == 1;
    std::string reply(query.substr(0, 2));
    reply += is_known ? std::string("\x81\x80", 2) : std::string("\x81\x83", 2);
    const char answers = is_known && asks_ipv4 ? 2 : 0;
    reply += std::string("\0\1\0", 3) + answers + std::string(4, '\0');
    reply += question;
    for (char i = 0; i < answers; ++i) {
      reply += std::string("\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2", 15);
      reply += static_cast<char>(7 + i);
    }
    return reply;
  }

  UniqueFd socket_;
  std::jthread thread_;
};

TEST(Resolve, AsksTheNameServer) {
  TEST_IN_PRIVATE_NETWORK([] {
    NameServer server;
    if (!server.start()) tcpip_tests::leave_as_not_permitted();
    server.answer("mount");
    const Addresses found = resolve("mount.example.org.", 4000, kPatience);
    EXPECT_EQ(found,
              (Addresses{ipv4("192.0.2.7", 4000), ipv4("192.0.2.8", 4000)}));
  });
}

TEST(Resolve, TellsThatThereIsNoSuchName) {
  TEST_IN_PRIVATE_NETWORK([] {
    NameServer server;
    if (!server.start()) tcpip_tests::leave_as_not_permitted();
    server.answer("mount");
    try {
      resolve("rotator.example.org.", 4000, kPatience);
      FAIL();
    } catch (const ResolveError& e) {
      EXPECT_EQ(e.code().category(), resolve_category());
      EXPECT_STREQ(e.what(),
                   "resolve [rotator.example.org.:4000]: "
                   "Name or service not known");
    }
  });
}

TEST(Resolve, KeepsItsDeadlineWhileTheNameServerIsSilent) {
  TEST_IN_PRIVATE_NETWORK([] {
    NameServer server;
    if (!server.start()) tcpip_tests::leave_as_not_permitted();
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THROW(resolve("mount.example.org.", 4000, 50ms), TimeoutError);
    const auto took = std::chrono::steady_clock::now() - start;
    EXPECT_GE(took, 50ms);
    EXPECT_LT(took, 10s);
    EXPECT_THROW(resolve("mount.example.org.", 4000, Wait::none()),
                 TimeoutError);
  });
}

TEST(Resolve, StopsWhileTheNameServerIsSilent) {
  TEST_IN_PRIVATE_NETWORK([] {
    NameServer server;
    if (!server.start()) tcpip_tests::leave_as_not_permitted();
    std::stop_source source;
    std::jthread thread([&] { source.request_stop(); });
    EXPECT_THROW(resolve("mount.example.org.", 4000, source.get_token()),
                 CancelledError);
  });
}

}  // namespace
}  // namespace tcpip
