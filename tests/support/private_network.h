// A child process with a network of its own, for what a test must not do to the
// machine's: a loopback interface and nothing else.
#ifndef TESTS_SUPPORT_PRIVATE_NETWORK_H_
#define TESTS_SUPPORT_PRIVATE_NETWORK_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <string>

namespace tcpip_tests {

enum class PrivateNetwork { kPassed, kFailed, kNotPermitted };

inline constexpr int kNotPermittedStatus = 77;

// For a body that finds that it may not do what it needs.
[[noreturn]] inline void leave_as_not_permitted() {
  ::_exit(kNotPermittedStatus);
}

// False if the kernel has no such setting, or it is not ours to write.
inline bool write_setting(const std::string& path, const std::string& value) {
  std::ofstream file(path);
  file << value << std::flush;
  return file.good();
}

// Gives the loopback interface of a private network one more IPv4 address.
inline void add_address(const char* text) {
  const int any = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strcpy(request.ifr_name, "lo:1");
  sockaddr_in in{};
  in.sin_family = AF_INET;
  ::inet_pton(AF_INET, text, &in.sin_addr);
  std::memcpy(&request.ifr_addr, &in, sizeof in);
  EXPECT_EQ(::ioctl(any, SIOCSIFADDR, &request), 0) << std::strerror(errno);
  ::close(any);
}

// Runs `body` there. Its EXPECTs and ASSERTs print as usual and make it
// kFailed. The caller must have no other thread.
template <class Body>
PrivateNetwork in_private_network(Body body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return PrivateNetwork::kFailed;
  if (child == 0) {
    ::alarm(60);
    if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0 &&
        ::unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) != 0) {
      leave_as_not_permitted();
    }
    const int any = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    if (::ioctl(any, SIOCSIFFLAGS, &request) != 0) leave_as_not_permitted();
    ::close(any);
    try {
      body();
    } catch (const std::exception& e) {
      ADD_FAILURE() << "threw " << e.what();
    }
    std::fflush(nullptr);
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNotPermittedStatus) {
    return PrivateNetwork::kNotPermitted;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0
             ? PrivateNetwork::kPassed
             : PrivateNetwork::kFailed;
}

}  // namespace tcpip_tests

// The body of a test that runs there.
#define TEST_IN_PRIVATE_NETWORK(body)                         \
  switch (tcpip_tests::in_private_network(body)) {            \
    case tcpip_tests::PrivateNetwork::kPassed:                \
      break;                                                  \
    case tcpip_tests::PrivateNetwork::kFailed:                \
      FAIL() << "in the private network";                     \
    case tcpip_tests::PrivateNetwork::kNotPermitted:          \
      GTEST_SKIP() << "a private network needs root or user " \
                      "namespaces";                           \
  }                                                           \
  static_assert(true, "")

#endif  // TESTS_SUPPORT_PRIVATE_NETWORK_H_
