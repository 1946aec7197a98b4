// Shows the rare long times: of a ping-pong at 100 Hz and 1 kHz beside plain
// POSIX, and of a control loop at 1 kHz whose clients misbehave beside a loop
// that only sleeps.
//
//   bazel run --config=opt //benchmarks:tails -- [--quick] [--json FILE]
//       [--fifo] [ping_pong] [control_loop]
//
// Without names it runs both parts. Every case runs in a process of its own. In
// a ping-pong our turns and those of plain POSIX alternate within the same
// seconds, and the load is the same for both. The loop that only sleeps runs
// beside the control loop, half a period later. Nothing is pinned to a CPU.
// --fifo gives both loops real-time priority, as a program for a machine that
// moves would.
//
// Threads: the one of main(), and those that a case starts.
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "benchmarks/raw_sockets.h"
#include "benchmarks/result_file.h"
#include "tcpip/callback_queue.h"
#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"

namespace {

using namespace std::chrono_literals;
using benchmarks::connect_to;
using benchmarks::Fd;
using benchmarks::receive_all;
using benchmarks::send_all;
using benchmarks::try_connect;
using Nanoseconds = std::int64_t;

bool quick = false;
bool fifo = false;

constexpr Nanoseconds kMillisecond = 1'000'000;
constexpr Nanoseconds kSecond = 1'000 * kMillisecond;
constexpr std::string_view kLine = "position of axis 3, please: now\r\n";

// --- Time ---

Nanoseconds now() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return kSecond * t.tv_sec + t.tv_nsec;
}

void sleep_until(Nanoseconds when) {
  const timespec t{static_cast<std::time_t>(when / kSecond),
                   static_cast<long>(when % kSecond)};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr) != 0) {
  }
}

void take_priority() {
  if (!fifo) return;
  const sched_param priority{.sched_priority = 50};
  if (::sched_setscheduler(0, SCHED_FIFO, &priority) != 0) {
    benchmarks::fail("--fifo: sched_setscheduler");
  }
}

// --- Distributions ---

constexpr std::array<double, 5> kShares{0, 0.5, 0.99, 0.999, 1};

// Microseconds at each of kShares.
using Quantiles = std::array<double, kShares.size()>;

Quantiles quantiles_of(std::vector<Nanoseconds> times) {
  if (times.empty()) throw std::runtime_error("nothing was measured");
  std::sort(times.begin(), times.end());
  Quantiles result{};
  for (std::size_t i = 0; i < kShares.size(); ++i) {
    const auto place = static_cast<std::size_t>(
        std::ceil(kShares[i] * static_cast<double>(times.size() - 1)));
    result[i] = static_cast<double>(times[place]) / 1e3;
  }
  return result;
}

// Several distributions, in an order that the case defines.
using Result = std::vector<Quantiles>;

// --- Processes ---

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0) benchmarks::fail("write to a pipe");
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) benchmarks::fail("pipe");
    from = Fd(ends[0]);
    to = Fd(ends[1]);
  }
  Fd from;
  Fd to;
};

// A process that runs the function until this object is destroyed. Make it
// while the process has one thread.
class Helper {
 public:
  explicit Helper(const std::function<void()>& run) : child_(::fork()) {
    if (child_ < 0) benchmarks::fail("fork");
    if (child_ > 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
      run();
    } catch (const std::exception& e) {
      fmt::print(stderr, "helper: {}\n", e.what());
    }
    ::_exit(0);
  }
  ~Helper() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

 private:
  const pid_t child_;
};

Result in_child(const std::function<Result()>& run) {
  Pipe pipe;
  const pid_t child = ::fork();
  if (child < 0) benchmarks::fail("fork");
  if (child == 0) {
    pipe.from.reset();
    ::alarm(300);  // a case that fails may hang in a thread of its own
    int status = EXIT_SUCCESS;
    try {
      for (const Quantiles& quantiles : run()) {
        write_all(pipe.to.get(),
                  fmt::format("{}\n", fmt::join(quantiles, " ")));
      }
    } catch (const std::exception& e) {
      fmt::print(stderr, "{}\n", e.what());
      status = EXIT_FAILURE;
    }
    ::_exit(status);
  }
  pipe.to.reset();
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t n = 0;
       (n = ::read(pipe.from.get(), part.data(), part.size())) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(n));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) throw std::runtime_error("a case has failed");
  Result result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    for (double& value : result.emplace_back()) numbers >> value;
  }
  return result;
}

// --- Load ---

enum class Load { kNone, kBusy, kMemory };

constexpr std::array<std::pair<Load, const char*>, 3> kLoads{
    {{Load::kNone, "idle machine"},
     {Load::kBusy, "a busy loop on each CPU"},
     {Load::kMemory, "a copying loop on each CPU"}}};

void be_busy() {
  for (volatile unsigned turns = 0;;) turns = turns + 1;
}

// Writes through more memory than caches hold.
void copy_memory() {
  std::vector<char> from(std::size_t{64} << 20, 'f');
  std::vector<char> to(from.size());
  for (;;) {
    std::copy(from.begin(), from.end(), to.begin());
    asm volatile("" : : "r"(to.data()) : "memory");  // it is needed
  }
}

class Loads {
 public:
  explicit Loads(Load load) {
    if (load == Load::kNone) return;
    for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
      helpers_.push_back(std::make_unique<Helper>(
          load == Load::kBusy ? be_busy : copy_memory));
    }
  }

 private:
  std::vector<std::unique_ptr<Helper>> helpers_;
};

// --- Ping-pong ---

// {ours, raw}
Result measure_ping_pong(Load load, Nanoseconds period, Nanoseconds length) {
  const Loads loads(load);
  tcpip::OneClientServer server({.host = "127.0.0.1"});
  server.start();
  tcpip::Client client({.host = "127.0.0.1", .port = server.port()});
  client.start();
  server.wait_connected();
  benchmarks::Ends raw = benchmarks::connected_ends();
  std::jthread echo([&] {
    try {
      for (;;) server.write_str(server.read_str(10s), 10s);
    } catch (const tcpip::ConnectionError&) {
      // The client has closed.
    }
  });
  std::jthread raw_echo([fd = std::move(raw.server)] {
    std::array<char, kLine.size()> line{};
    while (::recv(fd.get(), line.data(), line.size(), MSG_WAITALL) > 0) {
      send_all(fd.get(), {line.data(), line.size()});
    }
  });
  const std::string text(kLine.substr(0, kLine.size() - 2));
  std::array<char, kLine.size()> reply{};
  const auto ours = [&] {
    client.write_str(text, 10s);
    client.read_str(10s);
  };
  const auto plain = [&] {
    send_all(raw.client.get(), kLine);
    receive_all(raw.client.get(), reply.data(), reply.size());
  };
  std::array<std::vector<Nanoseconds>, 2> times;
  const auto count = static_cast<std::size_t>(length / period);
  for (auto& list : times) list.reserve(count);
  take_priority();
  // Half a period after each turn of the one comes a turn of the other.
  Nanoseconds tick = now();
  for (std::size_t i = 0; i < 2 * count; ++i) {
    tick += period / 2;
    sleep_until(tick);
    const Nanoseconds begin = now();
    if (i % 2 == 0) {
      ours();
    } else {
      plain();
    }
    times[i % 2].push_back(now() - begin);
    tick = std::max(tick, now() - period);  // a late loop does not catch up
  }
  client.close();
  raw.client.reset();
  return {quantiles_of(times[0]), quantiles_of(times[1])};
}

// --- Clients of the control loop ---
//
// Each runs in a process of its own, until it is killed.

void read_what_there_is(int fd) {
  std::array<char, 64 * 1024> data;
  while (::recv(fd, data.data(), data.size(), MSG_DONTWAIT) > 0) {
  }
}

// Commands at 100 Hz, as a client should send them.
void behave(int port) {
  for (;;) {
    const Fd fd = try_connect(port);
    while (fd &&
           ::send(fd.get(), kLine.data(), kLine.size(), MSG_NOSIGNAL) > 0) {
      std::this_thread::sleep_for(10ms);
      read_what_there_is(fd.get());
    }
    std::this_thread::sleep_for(10ms);
  }
}

void stay_away(int) {
  for (;;) ::pause();
}

void reset(Fd& fd) {
  const linger at_once{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  fd.reset();
}

// Connects again and again, as fast as it can, beside a client that behaves.
void storm(int port) {
  const Helper other([port] { behave(port); });
  for (std::uint32_t i = 0;; ++i) try_connect(port, i / 1000);
}

// Sends commands and reads no reply.
void never_read(int port) {
  const Fd fd = try_connect(port, 0, 4096);
  while (::send(fd.get(), kLine.data(), kLine.size(), MSG_NOSIGNAL) > 0) {
    std::this_thread::sleep_for(10ms);
  }
  stay_away(port);
}

// Sends commands as fast as the kernel takes them.
void flood(int port) {
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += kLine;
  for (;;) {
    const Fd fd = try_connect(port);
    while (fd &&
           ::send(fd.get(), lines.data(), lines.size(), MSG_NOSIGNAL) > 0) {
      read_what_there_is(fd.get());
    }
    std::this_thread::sleep_for(1ms);
  }
}

// Sends what never ends, so that the server has to close the connection.
void flood_without_end(int port) {
  const std::string part(4096, 'x');
  for (;;) {
    const Fd fd = try_connect(port);
    while (fd && ::send(fd.get(), part.data(), part.size(), MSG_NOSIGNAL) > 0) {
    }
    std::this_thread::sleep_for(1ms);
  }
}

// Sends a command and resets the connection, as fast as it can.
void send_and_reset(int port) {
  for (std::uint32_t i = 0;; ++i) {
    Fd fd = try_connect(port, i / 1000);
    if (!fd) continue;
    ::send(fd.get(), kLine.data(), kLine.size(), MSG_NOSIGNAL);
    reset(fd);
  }
}

// Sends half a command, waits, and leaves.
void send_half(int port) {
  for (std::uint32_t i = 0;; ++i) {
    const Fd fd = try_connect(port, i / 1000);
    ::send(fd.get(), kLine.data(), kLine.size() / 2, MSG_NOSIGNAL);
    std::this_thread::sleep_for(3ms);
  }
}

using Misbehave = void (*)(int port);

constexpr std::array<std::pair<Misbehave, const char*>, 8> kClients{
    {{stay_away, "no client"},
     {behave, "a client that behaves"},
     {storm, "and a storm of connections"},
     {never_read, "a client that does not read"},
     {flood, "a flood of commands"},
     {flood_without_end, "a flood without a terminator"},
     {send_and_reset, "a storm of commands and resets"},
     {send_half, "half commands"}}};

// --- The control loop ---

// How late a loop at 1 kHz that only sleeps is, until the stop.
std::vector<Nanoseconds> only_sleep(const std::atomic<Nanoseconds>& begin,
                                    std::stop_token stop) {
  take_priority();
  std::vector<Nanoseconds> late;
  late.reserve(100'000);
  for (Nanoseconds tick = begin; !stop.stop_requested();) {
    tick += kMillisecond;
    sleep_until(tick);
    const Nanoseconds woken = now();
    late.push_back(woken - tick);
    if (woken - tick > kMillisecond) tick = woken;
  }
  return late;
}

// {lateness of the loop that sleeps; lateness of the control loop; from its
// tick to the end of its work; its work alone}
Result measure_control_loop(Misbehave misbehave, Nanoseconds length) {
  Pipe port;
  const Helper client([&] {
    int number = 0;
    if (::read(port.from.get(), &number, sizeof number) == sizeof number) {
      misbehave(number);
    }
  });
  tcpip::CallbackQueue queue;
  tcpip::Connection connection;
  tcpip::OneClientServer server(
      {.host = "127.0.0.1",
       .callbacks = &queue,
       .connect_callback = [&](const tcpip::ConnectionEvent& event) {
         connection = event.connection;
       }});
  server.start();
  const int number = server.port();
  write_all(port.to.get(),
            {reinterpret_cast<const char*>(&number), sizeof number});
  // Large enough that a client that does not read is soon felt.
  const std::string telemetry(2000, 't');
  const auto work = [&] {
    queue.run_pending();
    try {
      if (!connection.connected()) return;
      if (const auto command = connection.try_read_str()) {
        connection.send_str("ok");
      }
      connection.send_str(telemetry);
    } catch (const tcpip::Error&) {
      connection.close();
    }
  };

  const auto count = static_cast<std::size_t>(length / kMillisecond);
  std::vector<Nanoseconds> slept;
  std::vector<Nanoseconds> late;
  std::vector<Nanoseconds> done;
  std::vector<Nanoseconds> worked;
  for (auto* const list : {&late, &done, &worked}) list->reserve(count);
  std::atomic<Nanoseconds> begin{now() + kMillisecond / 2};
  std::jthread sleeper([&](std::stop_token stop) {
    slept = only_sleep(begin, std::move(stop));
  });
  take_priority();
  Nanoseconds tick = begin + kMillisecond / 2;
  for (std::size_t i = 0; i < count; ++i) {
    tick += kMillisecond;
    sleep_until(tick);
    const Nanoseconds woken = now();
    work();
    const Nanoseconds end = now();
    late.push_back(woken - tick);
    done.push_back(end - tick);
    worked.push_back(end - woken);
    if (end - tick > kMillisecond) tick = end;
  }
  sleeper.request_stop();
  sleeper.join();
  server.close();
  return {quantiles_of(slept), quantiles_of(late), quantiles_of(done),
          quantiles_of(worked)};
}

// --- The parts ---

using Figures = std::vector<benchmarks::Figure>;

std::string shown(double us) {
  return fmt::format("{:.{}f}", us, us < 10 ? 2 : us < 1000 ? 1 : 0);
}

void print_header(std::string_view title) {
  fmt::print("\n{:<60}{:>10}{:>10}{:>10}{:>10}  us\n", title, "p50", "p99",
             "p99.9", "max");
}

void print_line(std::string_view what, const Quantiles& quantiles) {
  fmt::print("  {:<58}", what);
  for (std::size_t i = 1; i < quantiles.size(); ++i) {
    fmt::print("{:>10}", shown(quantiles[i]));
  }
  fmt::print("\n");
  std::fflush(stdout);
}

using Pairs = std::vector<std::pair<double, double>>;

Pairs pairs(const Quantiles& quantiles) {
  Pairs result;
  for (std::size_t i = 0; i < quantiles.size(); ++i) {
    result.emplace_back(kShares[i], quantiles[i]);
  }
  return result;
}

benchmarks::Figure figure_of(std::string work, std::string way,
                             std::string measure, const Quantiles& ours,
                             const Quantiles& raw) {
  return {.suite = "tails",
          .work = std::move(work),
          .way = std::move(way),
          .placement = "one process",
          .measure = std::move(measure),
          .unit = "us",
          .value = ours[1],
          .raw = raw[1],
          .quantiles = pairs(ours),
          .raw_quantiles = raw[1] > 0 ? pairs(raw) : Pairs()};
}

void run_ping_pong(Figures& figures) {
  for (const auto& [period, rate] : {std::pair{10 * kMillisecond, "100 Hz"},
                                     std::pair{kMillisecond, "1 kHz"}}) {
    print_header(fmt::format("ping-pong of 33 B at {}", rate));
    for (const auto& [load, name] : kLoads) {
      const Nanoseconds length = (quick ? 1 : 15) * kSecond;
      const Result result = in_child([&, load = load, period = period] {
        return measure_ping_pong(load, period, length);
      });
      print_line(fmt::format("{}: raw", name), result[1]);
      print_line(fmt::format("{}: Client and OneClientServer", name),
                 result[0]);
      figures.push_back(
          figure_of(fmt::format("ping-pong at {}, {}", rate, name), "Client",
                    "time", result[0], result[1]));
    }
  }
}

void run_control_loop(Figures& figures) {
  for (const auto& [misbehave, name] : kClients) {
    const Nanoseconds length = (quick ? 1 : 10) * kSecond;
    const Result result = in_child([&, misbehave = misbehave] {
      return measure_control_loop(misbehave, length);
    });
    print_header(fmt::format("loop at 1 kHz, {}", name));
    const std::string work = fmt::format("control loop at 1 kHz, {}", name);
    print_line("a loop that only sleeps: how late it wakes", result[0]);
    const std::array<std::pair<const char*, const char*>, 3> measures{
        {{"lateness", "the control loop: how late it wakes"},
         {"end of work", "the control loop: when its work is done"},
         {"work", "the control loop: its work alone"}}};
    for (std::size_t i = 0; i < measures.size(); ++i) {
      const auto& [measure, what] = measures[i];
      print_line(what, result[i + 1]);
      figures.push_back(figure_of(work, "OneClientServer", measure,
                                  result[i + 1],
                                  // Nothing is like its work alone.
                                  i < 2 ? result[0] : Quantiles{}));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  std::string json;
  bool ping_pong = false;
  bool control_loop = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--quick") {
      quick = true;
    } else if (argument == "--fifo") {
      fifo = true;
    } else if (argument == "--json" && i + 1 < arguments.size()) {
      json = arguments[++i];
    } else if (argument == "ping_pong") {
      ping_pong = true;
    } else if (argument == "control_loop") {
      control_loop = true;
    } else {
      fmt::print(stderr, "unknown argument {}\n", argument);
      return EXIT_FAILURE;
    }
  }
  const bool all = !ping_pong && !control_loop;
  Figures figures;
  if (all || ping_pong) run_ping_pong(figures);
  if (all || control_loop) run_control_loop(figures);
  if (!json.empty()) {
    benchmarks::write_result_file(json, "tails", arguments, figures);
  }
  return EXIT_SUCCESS;
}
