// Times one send of a loop at 1 kHz in four ways: SendQueue::post, try_write
// and try_send of a connection, and plain send(MSG_DONTWAIT). In turn, with a
// peer that reads and with one that does not.
//
//   bazel run --config=opt //benchmarks:post_latency -- [--seconds N]
//       [--size BYTES]
//
// What is timed is the call alone, in the loop's thread. With a peer that does
// not read, the loop goes on after the kernel's buffers are full; the calls of
// before count too, as they do in a program. Only figures of one run are to be
// compared: machines, and the moments of one machine, differ.
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/one_client_server.h"
#include "tcpip/send_queue.h"
#include "tcpip/unique_fd.h"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

struct Options {
  int seconds = 10;
  std::size_t size = 256;
};

tcpip::UniqueFd connect_to(const tcpip::Address& address) {
  tcpip::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // A small window, so that a peer that does not read is soon felt.
  const int size = 16 * 1024;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  if (::connect(fd.get(), static_cast<const sockaddr*>(address.data()),
                static_cast<socklen_t>(address.size())) != 0) {
    throw std::runtime_error("connect");
  }
  return fd;
}

// Reads until the end, or until told to stop.
class Peer {
 public:
  Peer(tcpip::UniqueFd fd, bool reads) : fd_(std::move(fd)) {
    if (!reads) return;
    thread_ = std::jthread([this] {
      std::vector<char> buffer(64 * 1024);
      while (::recv(fd_.get(), buffer.data(), buffer.size(), 0) > 0) {
      }
    });
  }
  ~Peer() { ::shutdown(fd_.get(), SHUT_RDWR); }

 private:
  tcpip::UniqueFd fd_;
  std::jthread thread_;
};

// Calls send() at 1 kHz and prints its latency.
void measure(const Options& options, const char* name,
             const std::function<bool(std::string_view)>& send) {
  const std::string message(options.size, 'm');
  std::vector<double> times;
  times.reserve(static_cast<std::size_t>(options.seconds) * 1000);
  std::size_t taken = 0;
  Clock::time_point tick = Clock::now();
  for (int i = 0; i < options.seconds * 1000; ++i) {
    tick += 1ms;
    std::this_thread::sleep_until(tick);
    const Clock::time_point begin = Clock::now();
    const bool is_taken = send(message);
    const Clock::time_point end = Clock::now();
    times.push_back(
        std::chrono::duration<double, std::micro>(end - begin).count());
    if (is_taken) ++taken;
  }
  std::sort(times.begin(), times.end());
  const auto at = [&](double share) {
    return times.at(static_cast<std::size_t>(
        share * static_cast<double>(times.size() - 1)));
  };
  fmt::print(
      "  {:<22} median {:7.2f}  p99 {:7.2f}  p99.9 {:7.2f}  max {:8.2f} us"
      "   taken {}\n",
      name, at(0.5), at(0.99), at(0.999), times.back(), taken);
  std::fflush(stdout);
}

// A server with one client.
struct Served {
  explicit Served(bool reads) {
    server.start();
    peer.emplace(connect_to(server.addresses().front()), reads);
    server.wait_connected(5s);
    connection = server.connection();
  }
  tcpip::OneClientServer server{
      {.host = "127.0.0.1", .socket = {.send_buffer = 64 * 1024}}};
  tcpip::Connection connection;
  std::optional<Peer> peer;
};

void measure_raw(const Options& options, bool reads) {
  tcpip::Listener listener("127.0.0.1", 0);
  const Peer peer(connect_to(listener.addresses().front()), reads);
  const tcpip::UniqueFd fd = std::move(listener.accept(5s).fd);
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const int size = 64 * 1024;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
  measure(options, "send(MSG_DONTWAIT)", [&](std::string_view message) {
    return ::send(fd.get(), message.data(), message.size(),
                  MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
  });
}

void measure_post(const Options& options, bool reads, const char* name,
                  tcpip::WhenFull when_full) {
  Served served(reads);
  tcpip::SendQueue queue(
      served.server,
      {.slots = 64, .max_size = options.size, .when_full = when_full});
  measure(options, name, [&](std::string_view message) {
    return queue.post(message) == tcpip::SendResult::kQueued;
  });
}

void measure_all(const Options& options, bool reads) {
  fmt::print("{} bytes at 1 kHz, a peer that {}\n", options.size,
             reads ? "reads" : "does not read");
  measure_post(options, reads, "post, drop newest",
               tcpip::WhenFull::kDropNewest);
  measure_post(options, reads, "post, drop oldest",
               tcpip::WhenFull::kDropOldest);
  {
    Served served(reads);
    measure(options, "try_write", [&](std::string_view message) {
      return served.connection.try_write(message);
    });
  }
  {
    Served served(reads);
    measure(options, "try_send", [&](std::string_view message) {
      return served.connection.try_send(message) != tcpip::SendResult::kBusy;
    });
  }
  measure_raw(options, reads);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--seconds") options.seconds = std::stoi(argv[++i]);
    if (argument == "--size") options.size = std::stoul(argv[++i]);
  }
  measure_all(options, /*reads=*/true);
  measure_all(options, /*reads=*/false);
  return 0;
}
