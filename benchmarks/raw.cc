// The measure of all things here: each work done with plain POSIX calls, as one
// would write it by hand for speed. Nothing of the library is in it.
//
// It also is the other end where only one end is measured: `feed` sends,
// `drain` reads, and the clients of `connect`, `turn_away` and `notice`
// connect. harness.h says what the arguments are.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "benchmarks/harness.h"

namespace {

using benchmarks::Arguments;
using namespace std::chrono_literals;

constexpr std::size_t kBuffer = 64 * 1024;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void set_no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

int listen_and_print_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) {
    fail("bind");
  }
  if (::listen(fd, 128) != 0) fail("listen");
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  benchmarks::print_port(ntohs(address.sin_port));
  return fd;
}

int accept_one(int listener) {
  const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) fail("accept");
  set_no_delay(fd);
  return fd;
}

int serve_one() {
  const int listener = listen_and_print_port();
  const int fd = accept_one(listener);
  ::close(listener);
  return fd;
}

int connect_to(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address),
                sizeof address) != 0) {
    fail("connect");
  }
  set_no_delay(fd);
  return fd;
}

// False if the peer has gone.
bool send_all(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t sent = ::send(fd, data, size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data += sent;
    size -= static_cast<std::size_t>(sent);
  }
  return true;
}

bool receive_exactly(int fd, char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t got = ::recv(fd, data, size, 0);
    if (got <= 0) return false;
    data += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

// One recv into a large buffer, memchr.
class Lines {
 public:
  explicit Lines(int fd) : fd_(fd), buffer_(kBuffer) {}
  // False at the end of the stream.
  bool next(std::string_view& line) {
    std::size_t searched = head_;
    for (;;) {
      const auto* end = static_cast<const char*>(
          std::memchr(buffer_.data() + searched, '\n', tail_ - searched));
      if (end != nullptr) {
        const char* begin = buffer_.data() + head_;
        line = {begin, static_cast<std::size_t>(end - begin) + 1};
        head_ += line.size();
        if (head_ == tail_) head_ = tail_ = 0;
        return true;
      }
      if (tail_ == buffer_.size()) {
        std::memmove(buffer_.data(), buffer_.data() + head_, tail_ - head_);
        tail_ -= head_;
        head_ = 0;
      }
      searched = tail_;
      const ssize_t got =
          ::recv(fd_, buffer_.data() + tail_, buffer_.size() - tail_, 0);
      if (got <= 0) return false;
      tail_ += static_cast<std::size_t>(got);
    }
  }

 private:
  int fd_;
  std::vector<char> buffer_;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
};

// --- Ping-pong ---

void serve_lines(const Arguments&) {
  const int fd = serve_one();
  Lines lines(fd);
  std::string_view line;
  while (lines.next(line) && send_all(fd, line.data(), line.size())) {
  }
}

void ask_lines(const Arguments& arguments) {
  const int fd = connect_to(arguments.port());
  const std::string message = benchmarks::line_of(arguments.size());
  Lines lines(fd);
  std::string_view line;
  benchmarks::time_turns(arguments, [&] {
    if (!send_all(fd, message.data(), message.size()) || !lines.next(line)) {
      throw std::runtime_error("the server has gone");
    }
  });
}

void serve_structs(const Arguments& arguments) {
  const int fd = serve_one();
  std::vector<char> data(arguments.size());
  while (receive_exactly(fd, data.data(), data.size()) &&
         send_all(fd, data.data(), data.size())) {
  }
}

void ask_structs(const Arguments& arguments) {
  const int fd = connect_to(arguments.port());
  std::vector<char> data(arguments.size());
  benchmarks::time_turns(arguments, [&] {
    if (!send_all(fd, data.data(), data.size()) ||
        !receive_exactly(fd, data.data(), data.size())) {
      throw std::runtime_error("the server has gone");
    }
  });
}

// --- One direction ---

// Sends lines that are ready in a block, until the reader leaves.
void feed(const Arguments& arguments) {
  const int fd = serve_one();
  const std::string line = benchmarks::line_of(arguments.size());
  std::string block = line;
  while (block.size() + line.size() <= kBuffer) block += line;
  while (send_all(fd, block.data(), block.size())) {
  }
}

// Puts lines together in a buffer, one after the other, and sends that.
class BatchWriter {
 public:
  explicit BatchWriter(int fd) : fd_(fd), buffer_(kBuffer) {}
  bool write(const std::vector<std::string_view>& lines) {
    std::size_t used = 0;
    for (const std::string_view line : lines) {
      std::memcpy(buffer_.data() + used, line.data(), line.size());
      used += line.size();
    }
    return send_all(fd_, buffer_.data(), used);
  }

 private:
  int fd_;
  std::vector<char> buffer_;
};

std::vector<std::string_view> batch_of(const std::string& line) {
  return std::vector<std::string_view>(
      static_cast<std::size_t>(benchmarks::batch_of(line.size())), line);
}

void feed_batches(const Arguments& arguments) {
  const std::string line = benchmarks::line_of(arguments.size());
  const std::vector<std::string_view> lines = batch_of(line);
  BatchWriter writer(serve_one());
  while (writer.write(lines)) {
  }
}

void read_lines(const Arguments& arguments) {
  Lines lines(connect_to(arguments.port()));
  std::string_view line;
  const std::int64_t batch = benchmarks::batch_of(arguments.size());
  benchmarks::time_batches(arguments, batch, [&] {
    for (std::int64_t i = 0; i < batch; ++i) lines.next(line);
  });
}

void read_blocks(const Arguments& arguments) {
  const int fd = connect_to(arguments.port());
  std::vector<char> data(arguments.size());
  benchmarks::time_batches(
      arguments, 1, [&] { receive_exactly(fd, data.data(), data.size()); });
}

void drain(const Arguments&) {
  const int fd = serve_one();
  std::vector<char> data(kBuffer);
  while (::recv(fd, data.data(), data.size(), 0) > 0) {
  }
}

void write_batches(const Arguments& arguments) {
  const std::string line = benchmarks::line_of(arguments.size());
  const std::vector<std::string_view> lines = batch_of(line);
  BatchWriter writer(connect_to(arguments.port()));
  benchmarks::time_batches(arguments, static_cast<std::int64_t>(lines.size()),
                           [&] { writer.write(lines); });
}

void write_each(const Arguments& arguments) {
  const int fd = connect_to(arguments.port());
  const std::string line = benchmarks::line_of(arguments.size());
  constexpr std::int64_t kBatch = 100;
  benchmarks::time_batches(arguments, kBatch, [&] {
    for (std::int64_t i = 0; i < kBatch; ++i) {
      send_all(fd, line.data(), line.size());
    }
  });
}

// --- Connections ---

// The server ends each connection at once.
void serve_connects(const Arguments&) {
  const int listener = listen_and_print_port();
  for (;;) ::close(accept_one(listener));
}

// The first client stays; all others are sent away.
void serve_turn_away(const Arguments&) {
  const int listener = listen_and_print_port();
  accept_one(listener);
  for (;;) ::close(accept_one(listener));
}

void read_end(int fd) {
  char byte = 0;
  if (::recv(fd, &byte, 1, 0) != 0) {
    throw std::runtime_error("no clean end of the stream");
  }
  ::close(fd);
}

void connect_again_and_again(const Arguments& arguments) {
  benchmarks::time_batches(arguments, 1,
                           [&] { read_end(connect_to(arguments.port())); });
}

void be_turned_away(const Arguments& arguments) {
  const int first = connect_to(arguments.port());  // and accepted first
  connect_again_and_again(arguments);
  ::close(first);
}

// --- How soon the end of a connection is noticed ---

// Greets each client with a byte and notes when it has gone.
void serve_notice(const Arguments& arguments) {
  const int listener = listen_and_print_port();
  std::vector<std::int64_t> times;
  for (std::size_t i = 0; i < arguments.count(); ++i) {
    const int fd = accept_one(listener);
    char byte = 'x';
    send_all(fd, &byte, 1);
    ::recv(fd, &byte, 1, 0);
    times.push_back(benchmarks::now_ns());
    ::close(fd);
  }
  benchmarks::print_result(static_cast<std::int64_t>(times.size()), 0, 0,
                           times);
}

// Notes when it closes.
void leave(const Arguments& arguments) {
  std::vector<std::int64_t> times;
  for (std::size_t i = 0; i < arguments.count(); ++i) {
    const int fd = connect_to(arguments.port());
    char byte = 0;
    if (!receive_exactly(fd, &byte, 1)) {
      throw std::runtime_error("no greeting");
    }
    // The server's threads go to sleep.
    std::this_thread::sleep_for(300us);
    times.push_back(benchmarks::now_ns());
    ::close(fd);
  }
  benchmarks::print_result(static_cast<std::int64_t>(times.size()), 0, 0,
                           times);
}

// --- How soon a blocked read returns ---

void unblock(const Arguments& arguments) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ::listen(listener, 1);
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  int here = -1;
  int there = -1;
  benchmarks::time_wakes(
      arguments,
      [&] {
        char byte = 0;
        ::recv(here, &byte, 1, 0);
      },
      [&] { ::shutdown(here, SHUT_RDWR); },
      [&] {
        ::close(here);
        ::close(there);
        here = connect_to(ntohs(address.sin_port));
        there = accept_one(listener);
      });
}

}  // namespace

int main(int argc, char** argv) {
  return benchmarks::run_role(argc, argv,
                              {{"server ping_pong", serve_lines},
                               {"client ping_pong", ask_lines},
                               {"server struct", serve_structs},
                               {"client struct", ask_structs},
                               {"server feed", feed},
                               {"server feed_batches", feed_batches},
                               {"client read", read_lines},
                               {"client bulk", read_blocks},
                               {"server drain", drain},
                               {"client write_batches", write_batches},
                               {"client write_each", write_each},
                               {"server connect", serve_connects},
                               {"client connect", connect_again_and_again},
                               {"server turn_away", serve_turn_away},
                               {"client turn_away", be_turned_away},
                               {"server notice", serve_notice},
                               {"client notice", leave},
                               {"local unblock", unblock}});
}
