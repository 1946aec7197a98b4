// The faults of tests/support/faults.h do what they say: a sweep over calls
// that never fail would prove nothing.
#include "tests/support/faults.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <iconv.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "tcpip/unique_fd.h"
#include "tests/support/loopback.h"
#include "tests/support/socket_files.h"

namespace tcpip_tests::faults {
namespace {

using tcpip::UniqueFd;

// Each call once, in a way that succeeds without a fault. Returns the errno, or
// 0.
const std::map<std::string_view, std::function<int()>>& calls() {
  const auto error_of = [](auto result) {
    return result == decltype(result)(-1) ? errno : 0;
  };
  static const std::map<std::string_view, std::function<int()>> kCalls{
      {"accept4",
       [=] {
         const PlainListener listener = plain_listener(Transport::kIpv4);
         const UniqueFd peer = connect_plain(Transport::kIpv4, listener.port);
         const int fd =
             ::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC);
         const int error = error_of(fd);
         const UniqueFd closing(fd);
         return error;
       }},
      {"bind",
       [=] {
         const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
         sockaddr_in address{};
         address.sin_family = AF_INET;
         return error_of(::bind(fd.get(),
                                reinterpret_cast<const sockaddr*>(&address),
                                sizeof address));
       }},
      {"chmod",
       [=] {
         const TemporaryFolder folder;
         return error_of(::chmod(folder.path().c_str(), 0700));
       }},
      {"close",
       [=] {
         const int fd = ::dup(0);
         const int error = error_of(::close(fd));
         // Closed in any case.
         return ::fcntl(fd, F_GETFD) == -1 ? error : -1;
       }},
      {"connect",
       [=] {
         const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
         sockaddr_in address{};
         address.sin_family = AF_INET;
         address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
         address.sin_port = htons(9);
         return error_of(::connect(fd.get(),
                                   reinterpret_cast<const sockaddr*>(&address),
                                   sizeof address));
       }},
      {"eventfd",
       [=] {
         const int fd = ::eventfd(0, EFD_CLOEXEC);
         const int error = error_of(fd);
         const UniqueFd closing(fd);
         return error;
       }},
      {"fcntl", [=] { return error_of(::fcntl(0, F_GETFD)); }},
      {"getaddrinfo",
       [] {
         addrinfo* list = nullptr;
         const int result = ::getaddrinfo("127.0.0.1", nullptr, nullptr, &list);
         if (result == 0) ::freeaddrinfo(list);
         return result == EAI_SYSTEM ? errno : result;
       }},
      {"getpeername",
       [=] {
         const FdPair pair = fd_pair(Transport::kUnix);
         sockaddr_storage address{};
         socklen_t size = sizeof address;
         return error_of(::getpeername(
             pair.ours.get(), reinterpret_cast<sockaddr*>(&address), &size));
       }},
      {"getsockname",
       [=] {
         const FdPair pair = fd_pair(Transport::kUnix);
         sockaddr_storage address{};
         socklen_t size = sizeof address;
         return error_of(::getsockname(
             pair.ours.get(), reinterpret_cast<sockaddr*>(&address), &size));
       }},
      {"getsockopt",
       [=] {
         const FdPair pair = fd_pair(Transport::kUnix);
         int value = 0;
         socklen_t size = sizeof value;
         return error_of(
             ::getsockopt(pair.ours.get(), SOL_SOCKET, SO_TYPE, &value, &size));
       }},
      {"iconv_open",
       [=] {
         const iconv_t handle = ::iconv_open("UTF-8", "UTF-16LE");
         if (handle == reinterpret_cast<iconv_t>(-1)) return errno;
         ::iconv_close(handle);
         return 0;
       }},
      {"ioctl",
       [=] {
         const FdPair pair = fd_pair(Transport::kUnix);
         int count = -1;
         const int error = error_of(::ioctl(pair.ours.get(), FIONREAD, &count));
         return error != 0 || count == 0 ? error : -1;
       }},
      {"listen",
       [=] {
         const PlainListener listener = plain_listener(Transport::kIpv4);
         return error_of(::listen(listener.fd.get(), 5));
       }},
      {"lstat",
       [=] {
         struct stat status {};
         return error_of(::lstat("/", &status));
       }},
      {"new",
       [] {
         try {
           // Inside libstdc++.so, as far as there is such a thing.
           const std::string text(1000, 'a');
           return text.empty() ? -1 : 0;
         } catch (const std::bad_alloc&) {
           return ENOMEM;
         }
       }},
      {"poll", [=] { return error_of(::poll(nullptr, 0, 0)); }},
      {"ppoll",
       [=] {
         const timespec none{};
         return error_of(::ppoll(nullptr, 0, &none, nullptr));
       }},
      {"read",
       [=] {
         const UniqueFd fd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
         std::uint64_t value = 0;
         return error_of(::read(fd.get(), &value, sizeof value));
       }},
      {"recv",
       [=] {
         const FdPair pair = fd_pair(Transport::kUnix);
         send_all(pair.peer, "a");
         char byte = 0;
         return error_of(::recv(pair.ours.get(), &byte, 1, MSG_DONTWAIT));
       }},
      {"sched_getaffinity",
       [=] {
         cpu_set_t cpus;
         return error_of(::sched_getaffinity(0, sizeof cpus, &cpus));
       }},
      {"sched_setaffinity",
       [=] {
         cpu_set_t cpus;
         ::sched_getaffinity(0, sizeof cpus, &cpus);
         return error_of(::sched_setaffinity(0, sizeof cpus, &cpus));
       }},
      {"sched_setscheduler",
       [=] {
         const sched_param parameters{};
         return error_of(::sched_setscheduler(0, SCHED_OTHER, &parameters));
       }},
      {"send",
       [=] {
         const FdPair pair = fd_pair(Transport::kUnix);
         return error_of(::send(pair.ours.get(), "a", 1, MSG_NOSIGNAL));
       }},
      {"sendmsg",
       [=] {
         const FdPair pair = fd_pair(Transport::kUnix);
         char byte = 'a';
         iovec piece{&byte, 1};
         msghdr message{};
         message.msg_iov = &piece;
         message.msg_iovlen = 1;
         return error_of(::sendmsg(pair.ours.get(), &message, MSG_NOSIGNAL));
       }},
      {"setsockopt",
       [=] {
         const FdPair pair = fd_pair(Transport::kUnix);
         const int size = 10'000;
         return error_of(::setsockopt(pair.ours.get(), SOL_SOCKET, SO_SNDBUF,
                                      &size, sizeof size));
       }},
      {"shutdown",
       [=] {
         const FdPair pair = fd_pair(Transport::kUnix);
         return error_of(::shutdown(pair.ours.get(), SHUT_WR));
       }},
      {"socketpair",
       [=] {
         std::array<int, 2> fds{-1, -1};
         const int error = error_of(
             ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()));
         const UniqueFd here(fds[0]);
         const UniqueFd there(fds[1]);
         return error;
       }},
      {"unlink",
       [=] {
         const TemporaryFolder folder;
         const std::string path = folder.path() + "/socket";
         leave_socket_file(path);
         return error_of(::unlink(path.c_str()));
       }},
      {"socket",
       [=] {
         const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
         const int error = error_of(fd);
         const UniqueFd closing(fd);
         return error;
       }},
      {"thread",
       [] {
         try {
           std::jthread([] {}).join();
           return 0;
         } catch (const std::system_error& e) {
           return e.code().value();
         }
       }},
      {"write",
       [=] {
         const UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
         const std::uint64_t one = 1;
         return error_of(::write(fd.get(), &one, sizeof one));
       }},
  };
  return kCalls;
}

TEST(FaultsTest, EveryNameIsACallThatFailsWhenItIsAsked) {
  EXPECT_EQ(calls().size(), names().size());
  for (const std::string_view name : names()) {
    ASSERT_TRUE(calls().contains(name)) << name;
    const auto& call = calls().at(name);
    EXPECT_EQ(call(), 0) << name << " without a fault";
    {
      // Not the helpers' calls of the same name: those come first.
      const Plan counting(name, always().error(0));
      EXPECT_EQ(call(), 0) << name;
      const int last = counting.calls();
      EXPECT_GE(last, 1) << name << " is not caught";
      const Plan plan(name, nth(last).error(ENOMEM));
      EXPECT_EQ(call(), ENOMEM) << name;
      EXPECT_EQ(plan.injected(), 1) << name;
      EXPECT_EQ(call(), 0) << name << " the next time";
    }
    EXPECT_EQ(call(), 0) << name << " afterwards";
  }
  EXPECT_THROW(Plan("no such call", always()), std::invalid_argument);
}

TEST(FaultsTest, OnlyTheCallsThatAreMeantFail) {
  const auto fails = [] { return ::poll(nullptr, 0, 0) < 0; };
  const auto pattern = [&](const Plan& plan) {
    std::string result;
    for (int i = 0; i < 5; ++i) result += fails() ? 'x' : '.';
    EXPECT_EQ(plan.calls(), 5);
    return result;
  };
  EXPECT_EQ(pattern(Plan("poll", nth(2).error(EINTR))), ".x...");
  EXPECT_EQ(pattern(Plan("poll", from_nth(4).error(EINTR))), "...xx");
  EXPECT_EQ(pattern(Plan("poll", nth(2).times(3).error(EINTR))), ".xxx.");
  EXPECT_EQ(pattern(Plan("poll", always().error(EINTR))), "xxxxx");
  EXPECT_EQ(pattern(Plan(interruptible(), always().error(EINTR))), "xxxxx");
  const Plan here("poll", always().here().error(EINTR));
  std::jthread([&] { EXPECT_FALSE(fails()); }).join();
  {
    const Exempt mine;
    EXPECT_FALSE(fails());
    std::jthread([&] { EXPECT_FALSE(fails()); }).join();
  }
  EXPECT_TRUE(fails());
  EXPECT_EQ(here.calls(), 1);
  Plan gone("poll", always().error(EBADF));
  gone.lift();
  EXPECT_TRUE(fails());
  EXPECT_EQ(gone.calls(), 0);
  const FdPair pair = fd_pair(Transport::kUnix);
  const FdPair other = fd_pair(Transport::kUnix);
  const Plan one("ioctl", always().on(pair.ours.get()).error(EBADF));
  int count = 0;
  EXPECT_NE(::ioctl(pair.ours.get(), FIONREAD, &count), 0);
  EXPECT_EQ(::ioctl(other.ours.get(), FIONREAD, &count), 0);
}

TEST(FaultsTest, TheSameSeedGivesTheSameFaults) {
  const auto pattern = [](std::uint64_t seed) {
    const Plan plan("poll", sometimes(0.3, seed).error(EINTR));
    std::string result;
    for (int i = 0; i < 1000; ++i) {
      result += ::poll(nullptr, 0, 0) < 0 ? 'x' : '.';
    }
    EXPECT_GT(plan.injected(), 230);
    EXPECT_LT(plan.injected(), 370);
    return result;
  };
  EXPECT_EQ(pattern(1), pattern(1));
  EXPECT_NE(pattern(1), pattern(2));
}

TEST(FaultsTest, ShortCallsMoveTheFirstBytesOnly) {
  const FdPair pair = fd_pair(Transport::kUnix);
  std::array<char, 100> buffer{};
  std::string text = "abcdefgh";
  Plan plan("send", always().at_most(3));
  plan.add("recv", always().at_most(2));
  plan.add("sendmsg", always().at_most(5));
  EXPECT_EQ(::send(pair.ours.get(), text.data(), text.size(), MSG_NOSIGNAL), 3);
  // Dropping is left alone.
  EXPECT_EQ(::recv(pair.peer.get(), buffer.data(), 100,
                   MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC),
            3);
  EXPECT_EQ(::recv(pair.peer.get(), buffer.data(), 100, MSG_DONTWAIT), 2);
  EXPECT_EQ(::recv(pair.peer.get(), buffer.data(), 100, MSG_DONTWAIT), 1);
  std::vector<iovec> pieces;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    pieces.push_back({&text[i], 2});
  }
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  EXPECT_EQ(::sendmsg(pair.ours.get(), &message, MSG_NOSIGNAL), 5);
  plan.lift();
  EXPECT_EQ(recv_exact(pair.peer, 5), "abcde");
}

TEST(FaultsTest, OneOptionOfTcpMayFailAlone) {
  const FdPair pair = fd_pair(Transport::kIpv4);
  const Plan plan("setsockopt", always().of_tcp(TCP_KEEPCNT).error(EPERM));
  const int value = 1;
  const auto set = [&](int level, int name) {
    return ::setsockopt(pair.ours.get(), level, name, &value, sizeof value);
  };
  EXPECT_EQ(set(IPPROTO_TCP, TCP_KEEPCNT), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(set(IPPROTO_TCP, TCP_NODELAY), 0);
  static_assert(int{SO_BROADCAST} == int{TCP_KEEPCNT});
  EXPECT_EQ(set(SOL_SOCKET, SO_BROADCAST), 0);  // the same number
  EXPECT_EQ(plan.calls(), 1);
}

TEST(FaultsTest, SpuriousReadinessNamesWhatIsWaitedForButNoHangUp) {
  const FdPair pair = fd_pair(Transport::kUnix);
  const Plan plan("ppoll", nth(1).times(2).ready());
  std::array<pollfd, 2> fds{
      pollfd{pair.ours.get(), POLLIN | POLLRDHUP, 0},
      pollfd{pair.peer.get(), POLLIN, 0},
  };
  const timespec none{};
  EXPECT_EQ(::ppoll(fds.data(), 2, &none, nullptr), 2);
  EXPECT_EQ(fds[0].revents, POLLIN);
  EXPECT_EQ(fds[1].revents, POLLIN);
  fds[0].events = POLLRDHUP;
  EXPECT_EQ(::ppoll(fds.data(), 1, &none, nullptr), 0);
  EXPECT_EQ(::ppoll(fds.data(), 2, &none, nullptr), 0);
}

TEST(FaultsTest, PausesTakeTimeAndKeepErrno) {
  using Clock = std::chrono::steady_clock;
  const Plan plan("ioctl", always().pause(2000));
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < 100; ++i) {
    errno = 0;
    EXPECT_EQ(::ioctl(-1, FIONREAD, nullptr), -1);
    EXPECT_EQ(errno, EBADF);
  }
  EXPECT_EQ(plan.injected(), 100);
  EXPECT_GT(Clock::now() - start, std::chrono::milliseconds(10));
}

// For ThreadSanitizer: plans come and go while other threads are in the calls.
TEST(FaultsTest, PlansComeAndGoWhileOtherThreadsMakeCalls) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        try {
          ::poll(nullptr, 0, 0);
          std::make_unique<int>(1);
          std::this_thread::yield();
        } catch (const std::bad_alloc&) {
        }
      }
    });
  }
  int injected = 0;
  for (int i = 0; i < 100; ++i) {
    const Exempt mine;
    Plan plan("poll", sometimes(0.5).error(EINTR));
    plan.add("new", sometimes(0.5).error(ENOMEM));
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    while (plan.injected() < 10 && std::chrono::steady_clock::now() < limit) {
      std::this_thread::yield();
    }
    injected += plan.injected();
  }
  EXPECT_GE(injected, 1000);
}

}  // namespace
}  // namespace tcpip_tests::faults
