// Plain POSIX sockets for growth and tails: nothing of the library's is in
// here, so that it may stand beside the library in a comparison.
//
// Threads: an object belongs to one thread at a time; shut_down() and the
// functions may be called in any.
#ifndef BENCHMARKS_RAW_SOCKETS_H_
#define BENCHMARKS_RAW_SOCKETS_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

namespace benchmarks {

// Closes a descriptor.
class Fd {
 public:
  explicit Fd(int fd = -1) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept {
    if (fd_ >= 0) ::close(release());
  }

 private:
  int fd_;
};

[[noreturn]] inline void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// 127.0.0.1, if no other host in 127.0.0.0/8 is named.
inline sockaddr_in loopback(int port, std::uint32_t host = 1) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(0x7f000000U + host);
  return address;
}

inline void set_no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// A socket that is connected to the port; none if that fails. `from` picks one
// of several local addresses, so that many connections one after the other do
// not use up the local ports of one. `receive_buffer`: 0 for the kernel's own.
inline Fd try_connect(int port, std::uint32_t from = 0,
                      int receive_buffer = 0) noexcept {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  if (receive_buffer > 0) {
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer,
                 sizeof receive_buffer);
  }
  const sockaddr_in local = loopback(0, 0x101U + from % 50);
  const sockaddr_in address = loopback(port);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&local),
             sizeof local) != 0 ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof address) != 0) {
    return Fd();
  }
  set_no_delay(fd.get());
  return fd;
}

inline Fd connect_to(int port, std::uint32_t from = 0) {
  Fd fd = try_connect(port, from);
  if (!fd) fail("connect");
  return fd;
}

class Listener {
 public:
  Listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(fd_.get(), any, size) != 0) fail("bind");
    if (::listen(fd_.get(), 128) != 0) fail("listen");
    ::getsockname(fd_.get(), any, &size);
    port_ = ntohs(address.sin_port);
  }

  int port() const { return port_; }
  // None after shut_down().
  Fd accept() const {
    Fd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd) set_no_delay(fd.get());
    return fd;
  }
  void shut_down() const { ::shutdown(fd_.get(), SHUT_RDWR); }

 private:
  Fd fd_;
  int port_ = 0;
};

struct Ends {
  Fd client;
  Fd server;
};

inline Ends connected_ends() {
  const Listener listener;
  Fd client = connect_to(listener.port());
  return {std::move(client), listener.accept()};
}

inline void send_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (n < 0) fail("send");
    data.remove_prefix(static_cast<std::size_t>(n));
  }
}

inline void receive_all(int fd, char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = ::recv(fd, data, size, 0);
    if (n < 0) fail("recv");
    if (n == 0) throw std::runtime_error("recv: end of the stream");
    data += n;
    size -= static_cast<std::size_t>(n);
  }
}

}  // namespace benchmarks

#endif  // BENCHMARKS_RAW_SOCKETS_H_
