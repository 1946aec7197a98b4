// What the tests of clients and servers need of a bare peer beyond loopback.h.
#ifndef TESTS_SUPPORT_RAW_CLIENT_H_
#define TESTS_SUPPORT_RAW_CLIENT_H_

#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "tcpip/testing/leak_guard.h"
#include "tcpip/unique_fd.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/sanitizers.h"
#include "tests/support/wait_until.h"

namespace tcpip_tests {

// What has to happen at once happens within this.
inline constexpr std::chrono::seconds kPrompt{kWithSanitizer ? 4 : 1};

// wait_until(), but the result may be dropped.
template <class Predicate>
bool eventually(Predicate predicate) {
  return wait_until(std::move(predicate));
}

template <class Function>
std::chrono::duration<double> seconds_of(Function function) {
  const auto start = std::chrono::steady_clock::now();
  function();
  return std::chrono::steady_clock::now() - start;
}

inline tcpip::UniqueFd connect_to(int port) {
  return connect_plain(Transport::kIpv4, static_cast<std::uint16_t>(port));
}

// A port that does not answer: its queue of connections is full.
struct SilentPort {
  PlainListener listener = plain_listener(Transport::kIpv4, 0);
  tcpip::UniqueFd filler = connect_plain(Transport::kIpv4, listener.port);
};

// A port that refuses.
inline int refusing_port() { return plain_listener(Transport::kIpv4).port; }

// Everything until the end of the stream, and how it ended: 0 is a clean end,
// else the errno.
struct Ending {
  std::string data;
  int error = 0;
};
inline Ending recv_ending(const tcpip::UniqueFd& fd) {
  Ending ending;
  try {
    for (;;) {
      const std::string more = recv_some(fd);
      if (more.empty()) return ending;
      ending.data += more;
    }
  } catch (const std::system_error& e) {
    ending.error = e.code().value();
    return ending;
  }
}

inline int local_port(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

// The descriptor in this process of the socket whose other end has this local
// port: the one that a server has accepted from it.
inline std::optional<int> socket_connected_to(int port) {
  for (const auto& [fd, what] : tcpip_testing::open_descriptors()) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
        address.sin_family == AF_INET && ntohs(address.sin_port) == port) {
      return fd;
    }
  }
  return std::nullopt;
}

inline int socket_option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  ::getsockopt(fd, level, name, &value, &size);
  return value;
}

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_RAW_CLIENT_H_
