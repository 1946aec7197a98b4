// What the tests of Socket, connect_socket() and Listener share: pairs of
// sockets, calls on threads of their own, addresses that refuse or do not
// answer.
#ifndef TESTS_SUPPORT_SOCKETS_H_
#define TESTS_SUPPORT_SOCKETS_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/connect.h"
#include "tcpip/listener.h"
#include "tcpip/options.h"
#include "tcpip/socket.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"
#include "tests/support/private_network.h"
#include "tests/support/wait_until.h"

namespace tcpip {

// For GoogleTest's messages.
inline void PrintTo(IoStatus status, std::ostream* out) {
  constexpr std::array kNames{"kOk", "kTimeout", "kStopped", "kClosed",
                              "kError"};
  *out << kNames[static_cast<std::size_t>(status)];
}

}  // namespace tcpip

namespace tcpip_tests {

using tcpip::Address;
using tcpip::ConnectOptions;
using tcpip::IoResult;
using tcpip::IoStatus;
using tcpip::Listener;
using tcpip::Socket;
using tcpip::SocketOptions;
using tcpip::UniqueFd;
using tcpip::Wait;
using tcpip_testing::kPatience;

enum class Kind { kUnix, kTcp };

struct Ends {
  std::shared_ptr<Socket> here;
  std::shared_ptr<Socket> there;
};

inline Address address_of(const Listener& listener) {
  return tcpip::resolve("127.0.0.1", listener.port()).front();
}

inline std::shared_ptr<Socket> connect_to(const Address& address,
                                          const Wait& wait = kPatience,
                                          const ConnectOptions& connect = {},
                                          const SocketOptions& socket = {}) {
  return tcpip::connect_socket({&address, 1}, connect, socket, wait,
                               address.to_string());
}

inline Ends connected(Kind kind) {
  if (kind == Kind::kUnix) {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()),
              0);
    return {std::make_shared<Socket>(UniqueFd(fds[0])),
            std::make_shared<Socket>(UniqueFd(fds[1]))};
  }
  Listener listener("127.0.0.1", 0);
  auto here = connect_to(address_of(listener));
  auto there = std::make_shared<Socket>(listener.accept(kPatience).fd);
  return {std::move(here), std::move(there)};
}

// What receive() came to, in one comparable value.
struct Got {
  IoStatus status = IoStatus::kOk;
  std::string data;
  int error_number = 0;
  bool operator==(const Got&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Got& got) {
    PrintTo(got.status, &out);
    return out << " '" << got.data << "' " << got.error_number;
  }
};

inline const Got kEnd{};
inline Got bytes(std::string data) {
  return {IoStatus::kOk, std::move(data), 0};
}
inline Got failure(int error_number) {
  return {IoStatus::kError, "", error_number};
}
inline Got ended(IoStatus status) { return {status, "", 0}; }

inline Got receive(Socket& socket, const Wait& wait = {},
                   std::size_t size = 1000) {
  std::string buffer(size, '\0');
  const IoResult result = socket.receive(buffer.data(), size, wait);
  buffer.resize(result.count);
  return {result.status, std::move(buffer), result.error_number};
}

// Closes the connection with a reset.
inline void reset(std::shared_ptr<Socket>& socket) {
  const linger option{1, 0};
  ::setsockopt(socket->native_handle(), SOL_SOCKET, SO_LINGER, &option,
               sizeof option);
  socket.reset();
}

// Runs a call in a thread of its own.
template <class Result>
class Call {
 public:
  explicit Call(std::function<Result()> function)
      : thread_([this, function = std::move(function)] {
          thread_id_ = this_thread_id();
          result_ = function();
          done_ = true;
        }) {}

  // True once it is blocked in the kernel, be it in recv() or in ppoll(); see
  // Socket::receive.
  bool blocks() {
    return wait_until([this] {
      return thread_id_ != 0 && (is_blocked_in_receive(thread_id_) ||
                                 is_blocked_in_poll(thread_id_));
    });
  }
  bool done() const { return done_; }
  Result result() {
    thread_.join();
    return *result_;
  }

 private:
  std::atomic<pid_t> thread_id_{0};
  std::atomic<bool> done_{false};
  std::optional<Result> result_;
  std::jthread thread_;
};

template <class T>
T option_of(int fd, int level, int name) {
  T value{};
  socklen_t size = sizeof value;
  EXPECT_EQ(::getsockopt(fd, level, name, &value, &size), 0);
  return value;
}

inline bool is_close_on_exec(int fd) {
  return ::fcntl(fd, F_GETFD) == FD_CLOEXEC;
}

// While it lives, this process can open no descriptor.
class NoMoreDescriptors {
 public:
  NoMoreDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &saved_);
    const UniqueFd first_free(::dup(0));
    rlimit limit = saved_;
    limit.rlim_cur = static_cast<rlim_t>(first_free.get());
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  ~NoMoreDescriptors() { ::setrlimit(RLIMIT_NOFILE, &saved_); }
  NoMoreDescriptors(const NoMoreDescriptors&) = delete;
  NoMoreDescriptors& operator=(const NoMoreDescriptors&) = delete;

 private:
  rlimit saved_{};
};

// An address that nobody listens on and nobody else can take.
class RefusingAddress {
 public:
  RefusingAddress() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(
        ::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&in), sizeof in),
        0);
    socklen_t size = sizeof in;
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&in), &size);
    address_ = Address(&in, size);
  }
  const Address& address() const { return address_; }

 protected:
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  Address address_;
};

inline std::shared_ptr<Socket> connect_to_first_of(
    const std::vector<Address>& addresses, const Wait& wait = kPatience) {
  return tcpip::connect_socket(addresses, {}, {}, wait, "telescope:4000");
}

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// The ports that the kernel may choose from, in a private network.
inline void use_ports(const std::string& range) {
  if (!write_setting("/proc/sys/net/ipv4/ip_local_port_range", range)) {
    tcpip_tests::leave_as_not_permitted();
  }
}

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_SOCKETS_H_
