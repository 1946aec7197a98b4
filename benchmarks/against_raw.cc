// Times the library against plain POSIX calls that do the same work: for each
// kind of work the two run by turns, and the ratio of their medians is printed.
//
//   bazel run --config=opt //benchmarks:against_raw -- [--rounds N] [--split]
//
// Both ends of a ping-pong share one CPU unless --split gives each its own.
// Only ratios from one run mean anything: machines, and the moments of one
// machine, differ.
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

bool split = false;

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

struct Pair {
  tcpip::UniqueFd a;
  tcpip::UniqueFd b;
};

Pair connected_pair() {
  tcpip::Listener listener("127.0.0.1", 0);
  const tcpip::Address address = listener.addresses().front();
  tcpip::UniqueFd a(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(a.get(), static_cast<const sockaddr*>(address.data()),
                static_cast<socklen_t>(address.size())) != 0) {
    throw std::runtime_error("connect");
  }
  tcpip::UniqueFd b = listener.accept(5s).fd;
  const int on = 1;
  for (const int fd : {a.get(), b.get()}) {
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  return {std::move(a), std::move(b)};
}

void send_all(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t sent = ::send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0) throw std::runtime_error("send");
    data += sent;
    size -= static_cast<std::size_t>(sent);
  }
}

// The hand-written loop: one recv into a large buffer, memchr.
class RawLines {
 public:
  explicit RawLines(int fd) : fd_(fd), buffer_(64 * 1024) {}
  bool next(std::string_view& line) {
    for (;;) {
      const auto* end = static_cast<const char*>(
          std::memchr(buffer_.data() + head_, '\n', tail_ - head_));
      if (end != nullptr) {
        const char* begin = buffer_.data() + head_;
        line = {begin, static_cast<std::size_t>(end - begin) + 1};
        head_ += line.size();
        return true;
      }
      std::memmove(buffer_.data(), buffer_.data() + head_, tail_ - head_);
      tail_ -= head_;
      head_ = 0;
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

// One way of doing the work; returns seconds for each message.
using Run = std::function<double()>;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double thread_cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Peer {
  const char* name;
  Run run;
};

void compare(const char* work, int rounds, const Run& raw,
             const std::vector<Peer>& peers) {
  std::vector<double> raw_times;
  std::vector<std::vector<double>> times(peers.size());
  for (int i = 0; i < rounds; ++i) {
    for (std::size_t p = 0; p < peers.size(); ++p) {
      raw_times.push_back(raw());
      times[p].push_back(peers[p].run());
    }
  }
  const double base = median(raw_times);
  fmt::print("{:<34} raw {:9.1f} ns\n", work, base * 1e9);
  for (std::size_t p = 0; p < peers.size(); ++p) {
    const double time = median(times[p]);
    fmt::print("  {:<32} {:13.1f} ns   time x {:.2f}   rate x {:.2f}\n",
               peers[p].name, time * 1e9, time / base, base / time);
  }
  std::fflush(stdout);
}

constexpr int kTurns = 20000;
const std::string kMessage = std::string(31, 'x') + "\n";

// `echo` runs in a thread until its input ends; `turn` is one round trip.
double ping_pong(const std::function<void()>& echo,
                 const std::function<void()>& turn,
                 const std::function<void()>& end) {
  std::jthread other([&] {
    pin(split ? 1 : 0);
    echo();
  });
  pin(0);
  for (int i = 0; i < 100; ++i) turn();
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < kTurns; ++i) turn();
  const double time = seconds_since(start) / kTurns;
  end();
  return time;
}

double raw_ping_pong() {
  const Pair pair = connected_pair();
  RawLines here(pair.a.get());
  std::string_view line;
  return ping_pong(
      [&] {
        RawLines there(pair.b.get());
        std::string_view got;
        while (there.next(got)) send_all(pair.b.get(), got.data(), got.size());
      },
      [&] {
        send_all(pair.a.get(), kMessage.data(), kMessage.size());
        here.next(line);
      },
      [&] { ::shutdown(pair.a.get(), SHUT_WR); });
}

double stream_ping_pong(const std::function<tcpip::Wait()>& wait,
                        std::chrono::microseconds spin = 0us) {
  Pair pair = connected_pair();
  auto here = tcpip::open_connection(std::move(pair.a));
  auto there = tcpip::open_connection(std::move(pair.b));
  here.reader.set_spin(spin);
  there.reader.set_spin(spin);
  return ping_pong(
      [&] {
        try {
          for (;;) {
            there.writer.write(there.reader.read_until_view("\n", wait()));
            there.writer.drain();
          }
        } catch (const tcpip::IncompleteReadError&) {
        }
      },
      [&] {
        here.writer.write(kMessage);
        here.writer.drain();
        here.reader.read_until_view("\n", wait());
      },
      [&] { here.writer.close(); });
}

double endpoint_ping_pong() {
  tcpip::OneClientServer server({.host = "127.0.0.1"});
  server.start();
  tcpip::Client client({.host = "127.0.0.1", .port = server.port()});
  client.start(5s);
  server.wait_connected(5s);
  const std::string text(30, 'x');
  return ping_pong(
      [&] {
        try {
          for (;;) server.write_str(server.read_str());
        } catch (const tcpip::ConnectionError&) {
        }
      },
      [&] {
        client.write_str(text);
        client.read_str();
      },
      [&] { client.close(); });
}

// CPU time of the reading thread for each line, fed by another thread.
double read_lines(std::size_t length,
                  const std::function<std::size_t(tcpip::UniqueFd)>& reader) {
  Pair pair = connected_pair();
  constexpr std::size_t kTotal = 100 * 1024 * 1024;
  std::jthread feeder([&] {
    pin(1);
    std::string block;
    while (block.size() + length <= 64 * 1024) {
      block += std::string(length - 1, 'x') + "\n";
    }
    for (std::size_t sent = 0; sent < kTotal; sent += block.size()) {
      send_all(pair.a.get(), block.data(), block.size());
    }
    pair.a.reset();
  });
  pin(0);
  const double start = thread_cpu_seconds();
  const std::size_t lines = reader(std::move(pair.b));
  return (thread_cpu_seconds() - start) / static_cast<double>(lines);
}

std::size_t raw_read(tcpip::UniqueFd fd) {
  RawLines lines(fd.get());
  std::string_view line;
  std::size_t count = 0;
  while (lines.next(line)) ++count;
  return count;
}

template <class Read>
std::size_t stream_read(tcpip::UniqueFd fd, Read read) {
  auto [reader, writer] = tcpip::open_connection(std::move(fd));
  std::size_t count = 0;
  try {
    for (;; ++count) read(reader);
  } catch (const tcpip::IncompleteReadError&) {
  }
  return count;
}

double connect_and_close(const tcpip::Address& address, int count,
                         const std::function<void(int)>& served) {
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < count; ++i) {
    tcpip::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), static_cast<const sockaddr*>(address.data()),
                  static_cast<socklen_t>(address.size())) != 0) {
      throw std::runtime_error("connect");
    }
    served(fd.get());
  }
  return seconds_since(start) / count;
}

// Connects while a client is being served, and reads the end of the stream.
double turn_away(bool raw) {
  constexpr int kCount = 2000;
  const auto read_end = [](int fd) {
    char byte = 0;
    if (::recv(fd, &byte, 1, 0) != 0) throw std::runtime_error("no clean EOF");
  };
  if (raw) {
    tcpip::Listener listener("127.0.0.1", 0);
    std::jthread server([&] {
      for (int i = 0; i < kCount; ++i) listener.accept();
    });
    return connect_and_close(listener.addresses().front(), kCount, read_end);
  }
  tcpip::OneClientServer server({.host = "127.0.0.1"});
  server.start();
  tcpip::Client first({.host = "127.0.0.1", .port = server.port()});
  first.start(5s);
  server.wait_connected(5s);
  return connect_and_close(server.addresses().front(), kCount, read_end);
}

}  // namespace

int main(int argc, char** argv) {
  int rounds = 5;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--split") split = true;
    if (argument == "--rounds" && i + 1 < argc) rounds = std::stoi(argv[++i]);
  }
  std::stop_source source;
  const std::stop_token stop = source.get_token();
  compare(
      split ? "line ping-pong 32 B, two CPUs" : "line ping-pong 32 B, one CPU",
      rounds, raw_ping_pong,
      {{"streams",
        [] { return stream_ping_pong([] { return tcpip::Wait(); }); }},
       {"streams, deadline",
        [] { return stream_ping_pong([] { return tcpip::Wait(2s); }); }},
       {"streams, stop",
        [&] { return stream_ping_pong([&] { return tcpip::Wait(stop); }); }},
       {"streams, deadline and stop",
        [&] {
          return stream_ping_pong([&] { return tcpip::Wait(2s, stop); });
        }},
       {"streams, spin 50 us",
        [] { return stream_ping_pong([] { return tcpip::Wait(); }, 50us); }},
       {"Client and OneClientServer", endpoint_ping_pong}});
  for (const std::size_t length : {40u, 200u, 2000u}) {
    compare(fmt::format("lines of {} B, reader's CPU", length).c_str(), rounds,
            [&] { return read_lines(length, raw_read); },
            {{"read_until_view",
              [&] {
                return read_lines(length, [](tcpip::UniqueFd fd) {
                  return stream_read(std::move(fd), [](auto& reader) {
                    reader.read_until_view("\n");
                  });
                });
              }},
             {"read_until", [&] {
                return read_lines(length, [](tcpip::UniqueFd fd) {
                  return stream_read(std::move(fd), [](auto& reader) {
                    reader.read_until("\n");
                  });
                });
              }}});
  }
  compare("turning a second client away", rounds,
          [] { return turn_away(true); },
          {{"OneClientServer", [] { return turn_away(false); }}});
  return 0;
}
