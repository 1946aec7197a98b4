// Shows how cost grows: with the number of servers in a process, the size of a
// message, the length of a queue, and the number of connections that a server
// or client has had. What grows faster than its number is marked.
//
//   bazel run --config=opt //benchmarks:growth -- [--quick] [--json FILE]
//       [servers] [messages] [kept] [queue] [send_queue] [connections]
//
// Without names it runs all parts. Every case runs in a process of its own, on
// one CPU, so that the memory, threads and descriptors counted are those of the
// case. "raw" is plain POSIX doing the same work, by turns with ours. Memory is
// what the process has written to and shares with nobody (Private_Dirty),
// stacks included.
//
// Threads: one, but for those that a case starts.
#include <fmt/format.h>
#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "benchmarks/raw_sockets.h"
#include "benchmarks/result_file.h"
#include "tcpip/callback_queue.h"
#include "tcpip/callback_thread.h"
#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/reconnecting_client.h"
#include "tcpip/send_queue.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/unique_fd.h"

template <std::size_t kSize>
struct Block {
  std::array<char, kSize> bytes;
};

// It has neither padding nor pointers. The compiler would need gigabytes to find
// that out of the largest ones.
template <std::size_t kSize>
inline constexpr bool tcpip::allow_opaque<Block<kSize>> = true;

namespace {

using namespace std::chrono_literals;
using benchmarks::connect_to;
using benchmarks::connected_ends;
using benchmarks::Ends;
using benchmarks::fail;
using benchmarks::Fd;
using benchmarks::Listener;
using benchmarks::receive_all;
using benchmarks::send_all;
using Clock = std::chrono::steady_clock;

bool quick = false;

// --- What a case tells ---

// One figure of a case.
struct Value {
  std::string measure;
  std::string unit;
  double value = 0;
  double raw = 0;  // of plain POSIX, if that does the same work
};

// --- Cases run in children ---

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0) throw std::runtime_error("write to the pipe");
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string read_to_end(int fd) {
  std::string text;
  std::array<char, 4096> part{};
  ssize_t n = 0;
  while ((n = ::read(fd, part.data(), part.size())) > 0) {
    text.append(part.data(), static_cast<std::size_t>(n));
  }
  return text;
}

void pin_to_one_cpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

// Runs the case in a child, since what one case leaves in the heap would count
// for the next one.
std::vector<Value> in_child(const std::function<std::vector<Value>()>& run) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) throw std::runtime_error("pipe");
  Fd from(ends[0]);
  Fd to(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork");
  if (child == 0) {
    from.reset();
    int status = EXIT_SUCCESS;
    try {
      ::alarm(600);  // a case that fails may hang in a thread of its own
      pin_to_one_cpu();
      for (const Value& v : run()) {
        write_all(to.get(), fmt::format("{}\t{}\t{} {}\n", v.measure, v.unit,
                                        v.value, v.raw));
      }
    } catch (const std::exception& e) {
      fmt::print(stderr, "{}\n", e.what());
      status = EXIT_FAILURE;
    }
    ::_exit(status);
  }
  to.reset();
  const std::string text = read_to_end(from.get());
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) throw std::runtime_error("a case has failed");
  std::vector<Value> values;
  std::istringstream lines(text);
  for (Value v; std::getline(lines, v.measure, '\t');) {
    std::getline(lines, v.unit, '\t');
    lines >> v.value >> v.raw >> std::ws;
    values.push_back(std::move(v));
  }
  return values;
}

// --- What is counted ---

// KiB.
double private_memory() {
  std::ifstream rollup("/proc/self/smaps_rollup");
  constexpr std::string_view kName = "Private_Dirty:";
  for (std::string line; std::getline(rollup, line);) {
    if (line.starts_with(kName)) return std::stod(line.substr(kName.size()));
  }
  throw std::runtime_error("no Private_Dirty in smaps_rollup");
}

double entries_in(const char* folder) {
  double count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

double threads() { return entries_in("/proc/self/task"); }
double descriptors() { return entries_in("/proc/self/fd"); }

double milliseconds(Clock::duration d) {
  return std::chrono::duration<double, std::milli>(d).count();
}
double microseconds(Clock::duration d) { return 1e3 * milliseconds(d); }
double nanoseconds(Clock::duration d) { return 1e6 * milliseconds(d); }

template <class Work>
Clock::duration time_of(Work work) {
  const Clock::time_point begin = Clock::now();
  work();
  return Clock::now() - begin;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.at(values.size() / 2);
}

struct Idle {
  double cpu_ms_per_s = 0;
  double wakes_per_s = 0;
};

rusage usage() {
  rusage result{};
  ::getrusage(RUSAGE_SELF, &result);
  return result;
}

double cpu_milliseconds(const rusage& used) {
  const auto ms = [](const timeval& t) {
    return 1e3 * static_cast<double>(t.tv_sec) +
           1e-3 * static_cast<double>(t.tv_usec);
  };
  return ms(used.ru_utime) + ms(used.ru_stime);
}

Idle measure_idle(Clock::duration length) {
  const rusage before = usage();
  std::this_thread::sleep_for(length);
  const rusage after = usage();
  const double seconds = milliseconds(length) / 1e3;
  return {
      (cpu_milliseconds(after) - cpu_milliseconds(before)) / seconds,
      // The sleep is one.
      (static_cast<double>(after.ru_nvcsw - before.ru_nvcsw) - 1) / seconds};
}

// --- Raw POSIX ---

// The hand-written loop over lines: a recv into a large buffer, memchr.
class RawLines {
 public:
  RawLines(int fd, std::size_t longest)
      : fd_(fd), buffer_(longest + 64 * 1024) {}
  std::string_view next() {
    for (std::size_t searched = head_;;) {
      const char* const begin = buffer_.data() + head_;
      const void* const end =
          std::memchr(buffer_.data() + searched, '\n', tail_ - searched);
      if (end != nullptr) {
        const std::string_view line(
            begin,
            static_cast<std::size_t>(static_cast<const char*>(end) - begin) +
                1);
        head_ += line.size();
        return line;
      }
      searched = tail_;
      if (head_ == tail_ || buffer_.size() - tail_ < 64) {
        std::memmove(buffer_.data(), begin, tail_ - head_);
        tail_ -= head_;
        searched -= head_;
        head_ = 0;
      }
      const ssize_t n =
          ::recv(fd_, buffer_.data() + tail_,
                 std::min<std::size_t>(buffer_.size() - tail_, 64 * 1024), 0);
      if (n <= 0) fail("recv");
      tail_ += static_cast<std::size_t>(n);
    }
  }

 private:
  int fd_;
  std::vector<char> buffer_;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
};

// --- Servers ---

constexpr std::string_view kLine = "status, please: axis 3\r\n";

enum class Callback { kNone, kDispatcher, kQueue };

template <class Server>
constexpr bool kReadsItself =
    std::is_same_v<Server, tcpip::OneClientReadLoopServer>;

template <class Server>
std::unique_ptr<Server> make_server(tcpip::ServerOptions options) {
  options.host = "127.0.0.1";
  if constexpr (kReadsItself<Server>) {
    return std::make_unique<Server>(
        std::move(options), [](tcpip::Connection& client, std::stop_token) {
          client.write_str(client.read_str());
        });
  } else {
    return std::make_unique<Server>(std::move(options));
  }
}

// One message there and back. Where the server does not read by itself, this
// thread does it.
template <class Server>
void round_trip(const Server& server, int client) {
  std::array<char, kLine.size()> reply{};
  send_all(client, kLine);
  if constexpr (!kReadsItself<Server>) server.write_str(server.read_str());
  receive_all(client, reply.data(), reply.size());
}

template <class Server>
std::vector<Value> measure_servers(std::size_t count, Callback callback) {
  std::atomic<std::uint64_t> events{0};
  tcpip::CallbackQueue queue;
  tcpip::ServerOptions options;
  if (callback == Callback::kQueue) options.callbacks = &queue;
  if (callback != Callback::kNone) {
    options.connect_callback = [&events](const tcpip::ConnectionEvent&) {
      ++events;
    };
  }
  // What every process has once, such as the code of the first server.
  {
    const auto first = make_server<Server>(options);
    first->start();
    Fd client = connect_to(first->port());
    first->wait_connected();
    round_trip(*first, client.get());
  }
  queue.run_pending();
  std::vector<std::unique_ptr<Server>> servers(count);
  std::vector<Fd> clients(count);
  const double memory = private_memory();
  const double own_threads = threads();
  const double own_descriptors = descriptors();
  const auto each = [count](double value) {
    return value / static_cast<double>(count);
  };
  // Idle CPU takes time to measure, and few servers show nothing.
  const Clock::duration idle_time =
      quick ? (count >= 100 ? 300ms : 20ms) : (count >= 500 ? 1700ms : 100ms);

  const auto start = time_of([&] {
    for (auto& server : servers) {
      server = make_server<Server>(options);
      server->start();
    }
  });
  const Idle idle = measure_idle(idle_time);
  const double idle_memory = private_memory() - memory;
  const double idle_threads = threads() - own_threads;
  const double idle_descriptors = descriptors() - own_descriptors;

  const auto connect = time_of([&] {
    for (std::size_t i = 0; i < count; ++i) {
      clients[i] = connect_to(servers[i]->port());
      servers[i]->wait_connected();
    }
  });
  queue.run_pending();
  const Idle served = measure_idle(idle_time);
  const double served_memory = private_memory() - memory;
  const double served_descriptors =
      descriptors() - own_descriptors - static_cast<double>(count);

  const int rounds = quick ? 500 : 5000;
  std::vector<double> trips;
  for (int repeat = 0; repeat < 5; ++repeat) {
    trips.push_back(microseconds(time_of([&] {
                      for (int i = 0; i < rounds; ++i) {
                        round_trip(*servers.back(), clients.back().get());
                      }
                    })) /
                    rounds);
  }
  // All in turn: what a busy process pays for its caches.
  const std::size_t turns =
      std::max<std::size_t>(1, static_cast<std::size_t>(rounds) / count);
  const auto in_turn = time_of([&] {
    for (std::size_t turn = 0; turn < turns; ++turn) {
      for (std::size_t i = 0; i < count; ++i) {
        round_trip(*servers[i], clients[i].get());
      }
    }
  });
  const double used_memory = private_memory() - memory;

  // close() waits until the client's kernel has acknowledged the last reply,
  // which that may put off for 40 ms: not a cost of closing.
  std::this_thread::sleep_for(100ms);
  const auto close = time_of([&] {
    for (auto& server : servers) server->close();
  });
  queue.run_pending();
  servers.clear();
  if (callback != Callback::kNone && events < 2 * count) {
    // The last event of a server with a queue of the program's runs in close().
    throw std::logic_error("a connection event is missing");
  }
  return {{"private memory", "KiB", each(idle_memory)},
          {"private memory with a client", "KiB", each(served_memory)},
          {"private memory after use", "KiB", each(used_memory)},
          {"threads", "", each(idle_threads)},
          {"descriptors", "", each(idle_descriptors)},
          {"descriptors with a client", "", each(served_descriptors)},
          {"idle CPU of all", "ms/s", idle.cpu_ms_per_s},
          {"idle CPU of all with clients", "ms/s", served.cpu_ms_per_s},
          {"wake-ups of all with clients", "1/s", served.wakes_per_s},
          {"start", "us", each(microseconds(start))},
          {"connect", "us", each(microseconds(connect))},
          {"close", "us", each(microseconds(close))},
          {"round trip through one", "us", median(trips)},
          {"round trip through all in turn", "us",
           microseconds(in_turn) / static_cast<double>(turns * count)}};
}

// --- Messages ---

constexpr std::size_t kLongest = std::size_t{16} << 20;

// A client and a server that are connected to each other.
struct Served {
  Served() {
    server.start();
    client = std::make_unique<tcpip::Client>(tcpip::ClientOptions{
        .host = "127.0.0.1", .port = server.port(), .limit = 2 * kLongest});
    client->start();
    server.wait_connected();
  }
  tcpip::OneClientServer server{{.host = "127.0.0.1", .limit = 2 * kLongest}};
  std::unique_ptr<tcpip::Client> client;
};

using Step = std::function<void()>;

// ns for each message: `send` in another thread, `receive` in this one.
double time_messages(std::size_t count, const Step& send, const Step& receive) {
  std::jthread sender([&] {
    for (std::size_t i = 0; i < count; ++i) send();
  });
  const auto time = time_of([&] {
    for (std::size_t i = 0; i < count; ++i) receive();
  });
  return nanoseconds(time) / static_cast<double>(count);
}

// How many messages make a measurement of a fitting length.
std::size_t fitting_count(std::size_t size) {
  const std::size_t bytes = (quick ? 16U : 64U) << 20;
  return std::clamp<std::size_t>(bytes / size, 3, quick ? 2000 : 8000);
}

std::vector<Value> compare_messages(std::size_t size, const Step& raw_send_one,
                                    const Step& raw_receive_one,
                                    const Step& send_one,
                                    const Step& receive_one) {
  const std::size_t count = fitting_count(size);
  std::vector<double> raw;
  std::vector<double> ours;
  time_messages(2, raw_send_one, raw_receive_one);
  time_messages(2, send_one, receive_one);
  for (int round = 0; round < (quick ? 3 : 5); ++round) {
    raw.push_back(time_messages(count, raw_send_one, raw_receive_one));
    ours.push_back(time_messages(count, send_one, receive_one));
  }
  const double bytes = static_cast<double>(size);
  return {{"time", "ns", median(ours), median(raw)},
          {"time per byte", "ns", median(ours) / bytes}};
}

std::vector<Value> measure_text(std::size_t size) {
  const std::string text(size, 't');
  const std::string line = text + "\r\n";
  const Ends ends = connected_ends();
  RawLines lines(ends.server.get(), 2 * line.size());
  const Served served;
  return compare_messages(
      size, [&] { send_all(ends.client.get(), line); },
      [&] {
        const std::string copy(lines.next());
        if (copy.size() != line.size()) throw std::logic_error("size");
      },
      [&] { served.client->write_str(text); },
      [&] {
        if (served.server.read_str().size() != size) {
          throw std::logic_error("size");
        }
      });
}

std::vector<Value> measure_views(std::size_t size) {
  const std::string line = std::string(size, 't') + "\n";
  const Ends ends = connected_ends();
  RawLines lines(ends.server.get(), 2 * line.size());
  Ends ours = connected_ends();
  tcpip::Streams sender =
      tcpip::open_connection(tcpip::UniqueFd(ours.client.release()));
  tcpip::Streams receiver = tcpip::open_connection(
      tcpip::UniqueFd(ours.server.release()), 2 * kLongest);
  return compare_messages(
      size, [&] { send_all(ends.client.get(), line); },
      [&] {
        if (lines.next().size() != line.size()) throw std::logic_error("size");
      },
      [&] {
        sender.writer.write(line);
        sender.writer.drain();
      },
      [&] {
        if (receiver.reader.read_until_view("\n").size() != line.size()) {
          throw std::logic_error("size");
        }
      });
}

std::vector<Value> measure_span(std::size_t size) {
  const std::string data(size, 'd');
  std::vector<char> to(size);
  const Ends ends = connected_ends();
  const Served served;
  return compare_messages(
      size, [&] { send_all(ends.client.get(), data); },
      [&] { receive_all(ends.server.get(), to.data(), to.size()); },
      [&] { served.client->write(data); },
      [&] {
        served.server.read_exactly(std::as_writable_bytes(std::span(to)));
      });
}

template <std::size_t kSize>
std::vector<Value> measure_struct(std::size_t size) {
  if constexpr (kSize < kLongest) {
    if (size > kSize) return measure_struct<4 * kSize>(size);
  }
  const auto from = std::make_unique<Block<kSize>>();
  const auto to = std::make_unique<Block<kSize>>();
  const Ends ends = connected_ends();
  const Served served;
  return compare_messages(
      kSize,
      [&] {
        send_all(ends.client.get(), {from->bytes.data(), kSize});
      },
      [&] { receive_all(ends.server.get(), to->bytes.data(), kSize); },
      [&] { served.client->write_from(*from); },
      [&] { served.server.read_into(*to); });
}

// What a connection keeps after one large message each way, when small ones
// have followed.
std::vector<Value> measure_kept(std::size_t size) {
  const std::string text(size, 't');
  const Served served;
  const auto pass = [&](std::string_view message) {
    std::jthread sender([&] { served.client->write_str(message); });
    served.server.read_str();
  };
  const auto pass_queued = [&](std::string_view message) {
    // The client does not read yet: what the kernel does not take is queued.
    served.server.send_str(message);
    std::jthread drainer([&] { served.server.drain(); });
    served.client->read_str();
  };
  const auto memory = [] {
    ::malloc_trim(0);
    return private_memory();
  };
  for (int i = 0; i < 3; ++i) pass("small");
  for (int i = 0; i < 3; ++i) pass_queued("small");
  const double before = memory();
  pass(text);
  pass("small");
  pass("small");
  const double read = memory();
  pass_queued(text);
  pass_queued("small");
  pass_queued("small");
  const double queued = memory();
  return {{"kept after write_str and read_str", "KiB", read - before},
          {"kept after send_str, drain, read_str", "KiB", queued - read}};
}

// --- Callback queue ---

// What a program would write: the same promises as to order and threads, none
// about owners, statistics, a descriptor or room.
class RawQueue {
 public:
  void post(std::function<void()> callback) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(callback));
    changed_.notify_all();
  }
  void run_pending() {
    for (;;) {
      std::function<void()> callback;
      {
        const std::lock_guard lock(mutex_);
        if (queue_.empty()) return;
        callback = std::move(queue_.front());
        queue_.pop_front();
      }
      callback();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::function<void()>> queue_;
};

std::vector<Value> measure_queue(std::size_t count) {
  const std::size_t repeats =
      std::max<std::size_t>(3, (quick ? 30'000 : 300'000) / count);
  const double total = static_cast<double>(count);
  std::size_t ran = 0;
  std::vector<double> raw_post;
  std::vector<double> raw_run;
  std::vector<double> post;
  std::vector<double> run;
  std::vector<double> drop;
  std::vector<double> cancel;
  double memory = 0;
  for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
    RawQueue raw;
    tcpip::CallbackQueue queue(count);
    ::malloc_trim(0);
    const double before = private_memory();
    post.push_back(nanoseconds(time_of([&] {
      for (std::size_t i = 0; i < count; ++i) {
        queue.post([&ran, i] { ran += i % 2; });
      }
    })));
    memory = private_memory() - before;
    {
      // Each object that is closed looks for its callbacks in the queue.
      tcpip::CallbackQueue::Owner other(queue);
      cancel.push_back(nanoseconds(time_of([&] { other.cancel(); })));
    }
    run.push_back(nanoseconds(time_of([&] { queue.run_pending(); })));
    raw_post.push_back(nanoseconds(time_of([&] {
      for (std::size_t i = 0; i < count; ++i) {
        raw.post([&ran, i] { ran += i % 2; });
      }
    })));
    raw_run.push_back(nanoseconds(time_of([&] { raw.run_pending(); })));
    auto dropped = std::make_unique<tcpip::CallbackQueue>(count);
    for (std::size_t i = 0; i < count; ++i) {
      dropped->post([&ran, i] { ran += i % 2; });
    }
    drop.push_back(nanoseconds(time_of([&] { dropped.reset(); })));
  }
  // Posted while the thread of the queue runs them.
  std::vector<double> thread;
  for (std::size_t repeat = 0; repeat < std::min<std::size_t>(5, repeats);
       ++repeat) {
    tcpip::CallbackThread runner({.max_size = count});
    thread.push_back(nanoseconds(time_of([&] {
      for (std::size_t i = 0; i < count; ++i) {
        runner.queue().post_wait([&ran, i] { ran += i % 2; });
      }
      runner.close();
    })));
  }
  if (ran == 0 && count > 1) throw std::logic_error("nothing has run");
  std::vector<Value> values{
      {"post", "ns", median(post) / total, median(raw_post) / total},
      {"run", "ns", median(run) / total, median(raw_run) / total},
      {"post and run in its thread", "ns", median(thread) / total},
      {"drop", "ns", median(drop) / total},
      {"cancel of another owner", "us", median(cancel) / 1e3}};
  // Of a few callbacks it cannot be seen.
  if (count >= 10'000) {
    values.push_back({"private memory", "B", memory * 1024 / total});
  }
  return values;
}

// Servers that share a queue in which the program has callbacks of its own.
std::vector<Value> measure_shared_queue(std::size_t queued) {
  constexpr std::size_t count = 100;
  tcpip::CallbackQueue queue(queued + 1);
  std::vector<std::unique_ptr<tcpip::OneClientServer>> servers(count);
  for (auto& server : servers) {
    server = make_server<tcpip::OneClientServer>({.callbacks = &queue});
    server->start();
  }
  for (std::size_t i = 0; i < queued; ++i) queue.post([] {});
  const auto close = time_of([&] {
    for (auto& server : servers) server->close();
  });
  return {{"close of each", "us",
           microseconds(close) / static_cast<double>(count)}};
}

// --- Send queue ---

std::vector<Value> measure_send_queue(std::size_t slots) {
  constexpr std::size_t kSize = 64;
  const std::string message(kSize, 'm');
  const auto server = make_server<tcpip::OneClientServer>({});
  server->start();
  const Fd client = connect_to(server->port());
  server->wait_connected();
  std::jthread reader([&] {
    std::vector<char> data(64 * 1024);
    while (::recv(client.get(), data.data(), data.size(), 0) > 0) {
    }
  });
  const double before = private_memory();
  std::unique_ptr<tcpip::SendQueue> queue;
  const auto make = time_of([&] {
    queue = std::make_unique<tcpip::SendQueue>(
        *server, tcpip::SendQueueOptions{.slots = slots, .max_size = kSize});
  });
  const double memory = private_memory() - before;
  // Posts that find room, as many as there are slots, in a thread that the
  // writer cannot interrupt for long: the median of one post each.
  std::vector<double> bursts;
  const std::size_t burst = std::min<std::size_t>(slots, 100'000);
  for (int i = 0; i < (quick ? 3 : 9); ++i) {
    queue->flush();
    bursts.push_back(nanoseconds(time_of([&] {
                       for (std::size_t n = 0; n < burst; ++n) {
                         queue->post(message);
                       }
                     })) /
                     static_cast<double>(burst));
  }
  queue->flush();
  const std::size_t count = quick ? 20'000 : 100'000;
  const auto through = time_of([&] {
    for (std::size_t i = 0; i < count; ++i) {
      while (queue->post(message) == tcpip::SendResult::kBusy) {
        std::this_thread::yield();
      }
    }
    queue->flush();
  });
  const auto close = time_of([&] { queue.reset(); });
  server->close();
  ::shutdown(client.get(), SHUT_RDWR);
  return {{"construct", "us", microseconds(make)},
          {"private memory of a slot", "B",
           memory * 1024 / static_cast<double>(slots)},
          {"post", "ns", median(bursts)},
          {"through", "ns", nanoseconds(through) / static_cast<double>(count)},
          {"close", "us", microseconds(close)}};
}

// --- Connections ---

// Rates of the first and the last thousand, and what has grown in between.
class Growth {
 public:
  explicit Growth(std::size_t count) : count_(count) {}

  void operator()(const std::function<void(std::size_t)>& connect) {
    // The first connections take memory that is kept.
    std::size_t i = 0;
    for (; i < kThousand; ++i) connect(i);
    const double memory = private_memory();
    const double own_threads = threads();
    const double own_descriptors = descriptors();
    const auto thousand = [&] {
      return static_cast<double>(kThousand) * 1e3 / milliseconds(time_of([&] {
               for (const std::size_t end = i + kThousand; i < end; ++i) {
                 connect(i);
               }
             }));
    };
    std::vector<double> rates;
    // CPU time in microseconds, of both ends: unlike a rate, it does not depend
    // on what else the machine does.
    std::vector<double> cpu;
    while (i < count_) {
      const double before = cpu_milliseconds(usage());
      rates.push_back(thousand());
      cpu.push_back((cpu_milliseconds(usage()) - before) * 1e3 / kThousand);
    }
    const auto tenth = static_cast<std::ptrdiff_t>((cpu.size() + 9) / 10);
    values = {{"first thousand", "1/s", rates.front()},
              {"median thousand", "1/s", median(rates)},
              {"slowest thousand", "1/s",
               *std::min_element(rates.begin(), rates.end())},
              {"last thousand", "1/s", rates.back()},
              {"CPU of each, first tenth", "us",
               median({cpu.begin(), cpu.begin() + tenth})},
              {"CPU of each, last tenth", "us",
               median({cpu.end() - tenth, cpu.end()})},
              {"private memory grown", "KiB", private_memory() - memory},
              {"threads grown", "", threads() - own_threads},
              {"descriptors grown", "", descriptors() - own_descriptors}};
  }

  std::vector<Value> values;

 private:
  static constexpr std::size_t kThousand = 1000;
  const std::size_t count_;
};

void ask(int port, std::size_t i) {
  const Fd fd = connect_to(port, static_cast<std::uint32_t>(i / 1000));
  std::array<char, kLine.size()> reply{};
  send_all(fd.get(), kLine);
  receive_all(fd.get(), reply.data(), reply.size());
}

std::vector<Value> measure_raw_connections(std::size_t count) {
  const Listener listener;
  std::jthread server([&] {
    std::array<char, kLine.size()> line{};
    while (const Fd fd = listener.accept()) {
      receive_all(fd.get(), line.data(), line.size());
      send_all(fd.get(), {line.data(), line.size()});
      char end = 0;
      ::recv(fd.get(), &end, 1, 0);
    }
  });
  Growth growth(count);
  growth([&](std::size_t i) { ask(listener.port(), i); });
  listener.shut_down();
  return growth.values;
}

std::vector<Value> measure_read_loop_connections(std::size_t count) {
  std::atomic<std::size_t> events{0};
  const auto server = make_server<tcpip::OneClientReadLoopServer>(
      {.connect_callback = [&](const tcpip::ConnectionEvent&) { ++events; }});
  server->start();
  Growth growth(count);
  growth([&](std::size_t i) { ask(server->port(), i); });
  server->close();
  if (events != 2 * server->connection_count()) {
    throw std::logic_error("a connection event is missing");
  }
  return growth.values;
}

std::vector<Value> measure_server_connections(std::size_t count) {
  const auto server = make_server<tcpip::OneClientServer>({});
  server->start();
  std::jthread serving([&] {
    while (const auto client = server->wait_client()) {
      try {
        client->write_str(client->read_str());
        client->read(1);  // its end
      } catch (const tcpip::ConnectionError&) {
      }
    }
  });
  Growth growth(count);
  growth([&](std::size_t i) { ask(server->port(), i); });
  server->close();
  return growth.values;
}

std::vector<Value> measure_reconnecting(std::size_t count) {
  const Listener listener;
  std::atomic<std::size_t> lines{0};
  tcpip::ReconnectingClient client(
      {.host = "127.0.0.1", .port = listener.port()},
      [&](tcpip::Connection& server, std::stop_token) {
        server.read_str();
        ++lines;
      },
      {.first = 1ms, .longest = 1ms});
  client.start();
  Growth growth(count);
  growth([&](std::size_t) {
    const Fd fd = listener.accept();
    send_all(fd.get(), kLine);
    ::shutdown(fd.get(), SHUT_WR);
    char end = 0;
    ::recv(fd.get(), &end, 1, 0);
  });
  client.close();
  if (lines < count) throw std::logic_error("a line is missing");
  return growth.values;
}

// --- The parts ---

// A series of cases that differ in one number.
struct Series {
  std::string suite;
  std::string work;
  std::string way;
  std::string x_name;
  // What must not be more than kStep times as much as in the case before, for
  // each of what the number counts; of what has a raw figure, the ratio.
  std::vector<std::string> watched = {};
  std::size_t watched_from = 0;  // not in cases of fewer
  // What must not be more than this, in every case: target 17.
  std::map<std::string, double> bounds = {};
  int repeats = 1;  // of each case; the medians count
};

constexpr double kStep = 1.5;

std::string shown(double value) {
  if (value == std::round(value)) return fmt::format("{:.0f}", value);
  return fmt::format("{:.{}f}", value, value < 10 ? 3 : value < 1000 ? 1 : 0);
}

double watched_value(const Value& v) {
  return v.raw > 0 ? v.value / v.raw : v.value;
}

class Report {
 public:
  using Measure = std::function<std::vector<Value>(std::size_t)>;

  // Prints one line for each measure, with a column for each number.
  void run(const Series& series, const std::vector<std::size_t>& numbers,
           const Measure& measure) {
    std::vector<std::vector<Value>> cases;
    for (const std::size_t number : numbers) {
      cases.push_back(medians(series.repeats, number, measure));
      for (const Value& v : cases.back()) add(series, number, v);
    }
    fmt::print("\n{:<40}", series.way + ", " + series.work);
    for (const std::size_t number : numbers) fmt::print("{:>10}", number);
    fmt::print(" {}\n", series.x_name);
    for (const Value& v : cases.back()) print_line(series, numbers, cases, v);
    std::fflush(stdout);
  }

  const std::vector<benchmarks::Figure>& figures() const { return figures_; }

 private:
  static std::vector<Value> medians(int repeats, std::size_t number,
                                    const Measure& measure) {
    std::vector<std::vector<Value>> runs;
    for (int i = 0; i < repeats; ++i) {
      runs.push_back(in_child([&] { return measure(number); }));
    }
    std::vector<Value> result = runs.front();
    for (std::size_t place = 0; place < result.size(); ++place) {
      std::vector<double> values;
      std::vector<double> raw;
      for (const auto& run : runs) {
        values.push_back(run[place].value);
        raw.push_back(run[place].raw);
      }
      result[place].value = median(std::move(values));
      result[place].raw = median(std::move(raw));
    }
    return result;
  }

  void add(const Series& series, std::size_t number, const Value& v) {
    benchmarks::Figure figure{.suite = series.suite,
                              .work = series.work,
                              .way = series.way,
                              .placement = "one process",
                              .x_name = series.x_name,
                              .x = static_cast<double>(number),
                              .measure = v.measure,
                              .unit = v.unit,
                              .value = v.value,
                              .raw = v.raw};
    const auto bound = series.bounds.find(v.measure);
    if (bound != series.bounds.end()) {
      figure.target = bound->second;
      figure.target_number = 17;
      figure.is_pass = v.value <= bound->second;
    }
    figures_.push_back(std::move(figure));
  }

  static void print_line(const Series& series,
                         const std::vector<std::size_t>& numbers,
                         const std::vector<std::vector<Value>>& cases,
                         const Value& like) {
    std::string line = fmt::format(
        "  {:<38}", like.measure + (like.unit.empty() ? "" : ", ") + like.unit);
    std::string ratios = fmt::format("  {:<38}", "  ratio to raw");
    std::string notes;
    const bool is_watched =
        std::find(series.watched.begin(), series.watched.end(), like.measure) !=
        series.watched.end();
    const auto bound = series.bounds.find(like.measure);
    const Value* before = nullptr;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const std::vector<Value>& values = cases[i];
      const auto v = std::find_if(
          values.begin(), values.end(),
          [&](const Value& other) { return other.measure == like.measure; });
      if (v == values.end()) {
        line += fmt::format("{:>10}", "-");
        continue;
      }
      line += fmt::format("{:>10}", shown(v->value));
      ratios += fmt::format("{:>10.2f}", v->raw > 0 ? v->value / v->raw : 0);
      if (is_watched && before != nullptr) {
        const double step = watched_value(*v) / watched_value(*before);
        if (step > kStep) notes += fmt::format("  step x {:.1f}", step);
      }
      if (bound != series.bounds.end() && v->value > bound->second) {
        notes += fmt::format("  over {}", bound->second);
      }
      if (numbers[i] >= series.watched_from) before = &*v;
    }
    fmt::print("{}{}\n", line, like.raw > 0 ? "" : notes);
    if (like.raw > 0) fmt::print("{}{}\n", ratios, notes);
  }

  std::vector<benchmarks::Figure> figures_;
};

template <class Server>
void run_servers(Report& report, const char* name) {
  const std::array<std::pair<Callback, const char*>, 3> callbacks{
      {{Callback::kNone, "no callback"},
       {Callback::kDispatcher, "callback, dispatcher"},
       {Callback::kQueue, "callback, program's queue"}}};
  for (const auto& [callback, how] : callbacks) {
    // One more while a queue of the library's own dispatches.
    const int own_threads = (kReadsItself<Server> ? 2 : 1) +
                            (callback == Callback::kDispatcher ? 1 : 0);
    report.run({.suite = "servers",
                .work = how,
                .way = name,
                .x_name = "servers",
                .watched = {"private memory after use", "start", "connect",
                            "close", "round trip through one"},
                .watched_from = 10,
                .bounds = {{"private memory", 256}, {"threads", own_threads}},
                .repeats = quick ? 1 : 3},
               {1, 10, 100, 500}, [&, &callback = callback](std::size_t count) {
                 return measure_servers<Server>(count, callback);
               });
  }
}

void run_servers(Report& report) {
  run_servers<tcpip::OneClientServer>(report, "OneClientServer");
  run_servers<tcpip::OneClientReadLoopServer>(report,
                                              "OneClientReadLoopServer");
}

std::vector<std::size_t> sizes_from(std::size_t first) {
  std::vector<std::size_t> result;
  for (std::size_t size = first; size <= kLongest; size *= 4) {
    result.push_back(size);
  }
  return result;
}

void run_messages(Report& report) {
  const auto series = [&](const char* way, const char* work,
                          const Report::Measure& measure) {
    report.run({.suite = "messages",
                .work = work,
                .way = way,
                .x_name = "bytes",
                .watched = {"time"}},
               sizes_from(16), measure);
  };
  series("Client", "write_str, read_str", measure_text);
  series("Client", "write_from, read_into", measure_struct<16>);
  series("Client", "read_exactly into a span", measure_span);
  series("streams", "read_until_view", measure_views);
}

void run_kept(Report& report) {
  report.run({.suite = "kept",
              .work = "after a long message",
              .way = "Client",
              .x_name = "bytes"},
             sizes_from(4096), measure_kept);
}

void run_queue(Report& report) {
  std::vector<std::size_t> counts{1, 10, 100, 1000, 10'000, 100'000};
  if (!quick) counts.push_back(1'000'000);
  report.run({.suite = "queue",
              .work = "one callback",
              .way = "CallbackQueue",
              .x_name = "queued",
              .watched = {"post", "run", "drop", "post and run in its thread"},
              .watched_from = 10},
             counts, measure_queue);
  report.run({.suite = "queue",
              .work = "100 servers of one queue",
              .way = "OneClientServer",
              .x_name = "queued"},
             {counts.begin() + 3, counts.end()}, measure_shared_queue);
}

void run_send_queue(Report& report) {
  report.run({.suite = "send_queue",
              .work = "64 B",
              .way = "SendQueue",
              .x_name = "slots",
              .watched = {"post", "through"},
              .watched_from = 16},
             {1, 16, 256, 4096, 65536, std::size_t{1} << 20},
             measure_send_queue);
}

void run_connections(Report& report) {
  const auto series = [&](const char* way, const char* work,
                          const Report::Measure& measure) {
    report.run({.suite = "connections",
                .work = work,
                .way = way,
                .x_name = "connections"},
               {quick ? 4000U : 100'000U}, measure);
  };
  series("raw", "one after the other", measure_raw_connections);
  series("OneClientReadLoopServer", "one after the other",
         measure_read_loop_connections);
  series("OneClientServer", "one after the other", measure_server_connections);
  // Between two connections the client pauses for 0 or 1 ms.
  series("ReconnectingClient", "one after the other", measure_reconnecting);
}

}  // namespace

int main(int argc, char** argv) {
  const std::array<std::pair<std::string_view, void (*)(Report&)>, 6> parts{
      {{"servers", run_servers},
       {"messages", run_messages},
       {"kept", run_kept},
       {"queue", run_queue},
       {"send_queue", run_send_queue},
       {"connections", run_connections}}};
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  std::vector<std::string> chosen;
  std::string json;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--quick") {
      quick = true;
    } else if (argument == "--json" && i + 1 < arguments.size()) {
      json = arguments[++i];
    } else if (std::any_of(parts.begin(), parts.end(), [&](const auto& part) {
                 return part.first == argument;
               })) {
      chosen.push_back(argument);
    } else {
      fmt::print(stderr, "unknown argument {}\n", argument);
      return EXIT_FAILURE;
    }
  }
  Report report;
  for (const auto& [name, run] : parts) {
    const bool is_chosen =
        std::find(chosen.begin(), chosen.end(), name) != chosen.end();
    if (chosen.empty() || is_chosen) run(report);
  }
  if (!json.empty()) {
    benchmarks::write_result_file(json, "growth", arguments, report.figures());
  }
  return EXIT_SUCCESS;
}
