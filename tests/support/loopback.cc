#include "tests/support/loopback.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "tcpip/wait.h"

namespace tcpip_tests {
namespace {

using tcpip::Deadline;
using tcpip::UniqueFd;

constexpr int kSmallBuffer = 4096;
constexpr int kFixedBuffer = 100'000;

[[noreturn]] void fail(int error_number, const char* what) {
  throw std::system_error(error_number, std::generic_category(), what);
}

void check(int result, const char* what) {
  if (result < 0) fail(errno, what);
}

void await(int fd, short events, Deadline deadline, const char* what) {
  for (;;) {
    // Every deadline here is patience(): its milliseconds fit into an int.
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline.remaining());
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(left.count()));
    if (ready > 0) return;
    if (ready == 0) fail(ETIMEDOUT, what);
    if (errno != EINTR) fail(errno, what);
  }
}

Deadline patience() { return Deadline::after(kPatience); }

struct LoopbackAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  LoopbackAddress(Transport transport, std::uint16_t port) {
    if (transport == Transport::kIpv4) {
      auto& in = reinterpret_cast<sockaddr_in&>(storage);
      in.sin_family = AF_INET;
      in.sin_port = htons(port);
      in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      size = sizeof in;
    } else {
      auto& in6 = reinterpret_cast<sockaddr_in6&>(storage);
      in6.sin6_family = AF_INET6;
      in6.sin6_port = htons(port);
      in6.sin6_addr = in6addr_loopback;
      size = sizeof in6;
    }
  }
  sockaddr* raw() { return reinterpret_cast<sockaddr*>(&storage); }
};

UniqueFd stream_socket(Transport transport) {
  UniqueFd fd(::socket(transport == Transport::kIpv4 ? AF_INET : AF_INET6,
                       SOCK_STREAM | SOCK_CLOEXEC, 0));
  check(fd.get(), "socket");
  return fd;
}

// Small writes shall arrive when they are made.
void set_no_delay(const UniqueFd& fd) {
  const int on = 1;
  check(::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on),
        "TCP_NODELAY");
}

void set_buffers(const UniqueFd& fd, Buffers buffers) {
  if (buffers == Buffers::kDefault) return;
  const int size = buffers == Buffers::kSmall ? kSmallBuffer : kFixedBuffer;
  for (const int name : {SO_SNDBUF, SO_RCVBUF}) {
    check(::setsockopt(fd.get(), SOL_SOCKET, name, &size, sizeof size),
          "setsockopt");
  }
}

PlainListener listen_with(Transport transport, int backlog, Buffers buffers) {
  PlainListener listener{stream_socket(transport), 0};
  set_buffers(listener.fd, buffers);  // what it accepts inherits them
  LoopbackAddress address(transport, 0);
  check(::bind(listener.fd.get(), address.raw(), address.size), "bind");
  check(::listen(listener.fd.get(), backlog), "listen");
  check(::getsockname(listener.fd.get(), address.raw(), &address.size),
        "getsockname");
  listener.port =
      ntohs(transport == Transport::kIpv4
                ? reinterpret_cast<sockaddr_in&>(address.storage).sin_port
                : reinterpret_cast<sockaddr_in6&>(address.storage).sin6_port);
  return listener;
}

void connect_to(const UniqueFd& fd, Transport transport, std::uint16_t port) {
  LoopbackAddress address(transport, port);
  check(::connect(fd.get(), address.raw(), address.size), "connect");
  set_no_delay(fd);
}

}  // namespace

FdPair fd_pair(Transport transport, Buffers buffers) {
  FdPair pair;
  if (transport == Transport::kUnix) {
    int fds[2] = {-1, -1};
    check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds),
          "socketpair");
    pair = {UniqueFd(fds[0]), UniqueFd(fds[1])};
    set_buffers(pair.ours, buffers);
    set_buffers(pair.peer, buffers);
    return pair;
  }
  const PlainListener listener = listen_with(transport, 1, buffers);
  pair.ours = stream_socket(transport);
  set_buffers(pair.ours, buffers);
  connect_to(pair.ours, transport, listener.port);
  pair.peer = accept_one(listener);
  return pair;
}

SocketPair socket_pair(Transport transport, Buffers buffers) {
  FdPair pair = fd_pair(transport, buffers);
  return {std::make_shared<tcpip::Socket>(std::move(pair.ours)),
          std::move(pair.peer)};
}

LoopbackPair loopback_pair(Transport transport, std::size_t limit,
                           Buffers buffers) {
  FdPair pair = fd_pair(transport, buffers);
  tcpip::Streams connection =
      tcpip::open_connection(std::move(pair.ours), limit);
  return {std::move(connection.reader), std::move(connection.writer),
          std::move(pair.peer)};
}

PlainListener plain_listener(Transport transport, int backlog) {
  return listen_with(transport, backlog, Buffers::kDefault);
}

UniqueFd accept_one(const PlainListener& listener) {
  await(listener.fd.get(), POLLIN, patience(), "accept");
  UniqueFd fd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  check(fd.get(), "accept");
  set_no_delay(fd);
  return fd;
}

UniqueFd connect_plain(Transport transport, std::uint16_t port) {
  UniqueFd fd = stream_socket(transport);
  connect_to(fd, transport, port);
  return fd;
}

void send_all(const UniqueFd& fd, std::string_view bytes) {
  const Deadline deadline = patience();
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd.get(), bytes.data(), bytes.size(),
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      await(fd.get(), POLLOUT, deadline, "send_all");
    } else if (errno != EINTR) {
      fail(errno, "send_all");
    }
  }
}

std::string recv_some(const UniqueFd& fd, std::size_t max) {
  const Deadline deadline = patience();
  std::string bytes(max, '\0');
  for (;;) {
    await(fd.get(), POLLIN, deadline, "recv");
    const ssize_t got = ::recv(fd.get(), bytes.data(), max, MSG_DONTWAIT);
    if (got >= 0) {
      bytes.resize(static_cast<std::size_t>(got));
      return bytes;
    }
    if (errno != EINTR && errno != EAGAIN) fail(errno, "recv");
  }
}

std::string recv_exact(const UniqueFd& fd, std::size_t n) {
  std::string bytes;
  while (bytes.size() < n) {
    const std::string more =
        recv_some(fd, std::min<std::size_t>(n - bytes.size(), 65536));
    if (more.empty()) break;
    bytes += more;
  }
  return bytes;
}

std::string recv_until_eof(const UniqueFd& fd) {
  std::string bytes;
  for (;;) {
    const std::string more = recv_some(fd);
    if (more.empty()) return bytes;
    bytes += more;
  }
}

void half_close(const UniqueFd& fd) {
  check(::shutdown(fd.get(), SHUT_WR), "shutdown");
}

void reset(UniqueFd fd) {
  const linger at_once{1, 0};
  check(::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once),
        "SO_LINGER");
}

void await_receivable(int fd, std::size_t n) {
  const Deadline deadline = patience();
  for (;;) {
    int count = 0;
    check(::ioctl(fd, FIONREAD, &count), "FIONREAD");
    if (count >= 0 && static_cast<std::size_t>(count) >= n) return;
    if (deadline.has_passed()) fail(ETIMEDOUT, "await_receivable");
    ::poll(nullptr, 0, 1);
  }
}

void await_hang_up(int fd) {
  await(fd, POLLRDHUP, patience(), "await_hang_up");
}

}  // namespace tcpip_tests
