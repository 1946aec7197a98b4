// Promise 7: the library does nothing to the process that it lives in.
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/log.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/options.h"
#include "tcpip/periodic_sender.h"
#include "tcpip/reconnecting_client.h"
#include "tcpip/send_queue.h"
#include "tcpip/send_result.h"
#include "tcpip/tap.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/subprocess.h"
#include "tests/support/told.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::ConnectionEvents;
using tcpip_testing::LogRecorder;
using tcpip_testing::open_descriptors;
using tcpip_tests::connect_to;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::recv_exact;
using tcpip_tests::send_all;

void echo(Connection& server, const std::stop_token& stop) {
  server.write_str(server.read_str(stop), stop);
}

// Everything that the library has at once: servers, clients, a queue with its
// descriptor, a SendQueue, a PeriodicSender, a tap, a thread that reads with a
// stop.
class Everything {
 public:
  Everything()
      : reading_server({.host = "127.0.0.1",
                        .connect_callback = ConnectionEvents().callback()},
                       echo),
        server({.host = "127.0.0.1",
                .callbacks = &queue,
                .connect_callback = ConnectionEvents().callback()}) {
    queue.wait_fd();
    reading_server.start();
    server.start();
    client.emplace(
        ClientOptions{.host = "127.0.0.1",
                      .port = server.port(),
                      .connect_callback = ConnectionEvents().callback(),
                      .tap = std::make_shared<Tap>([](const TapRecord&) {})});
    client->start(kPatience);
    reconnecting.emplace(ClientOptions{.host = "127.0.0.1",
                                       .port = tcpip_tests::refusing_port()},
                         ReconnectOptions{.first = 1h, .longest = 1h});
    reconnecting->start();
    send_queue.emplace(server);
    periodic.emplace(server, PeriodicSenderOptions{.period = 1h},
                     [](const Connection&) { return SendResult::kSent; });
    EXPECT_TRUE(server.wait_connected(kPatience));
    peer = connect_to(reading_server.port());
    EXPECT_TRUE(reading_server.wait_connected(kPatience));
    rejected = connect_to(reading_server.port());  // lingers for a while
    reader = std::jthread([this](const std::stop_token& stop) {
      reader_id = tcpip_tests::this_thread_id();
      try {
        for (;;) server.read_str(stop);
      } catch (const CancelledError&) {
      } catch (const ConnectionError&) {
        // The client has closed.
      }
    });
    EXPECT_TRUE(
        eventually([this] { return tcpip_tests::is_blocked(reader_id); }));
  }

  HangGuard guard;
  CallbackQueue queue;
  OneClientReadLoopServer reading_server;
  OneClientServer server;
  std::optional<Client> client;
  std::optional<ReconnectingClient> reconnecting;
  std::optional<SendQueue> send_queue;
  std::optional<PeriodicSender> periodic;
  UniqueFd peer;
  UniqueFd rejected;
  std::atomic<pid_t> reader_id{0};
  std::jthread reader;
};

// A life with all that can go wrong in it.
void live() {
  Everything everything;
  send_all(everything.peer, "a\r\n");
  EXPECT_EQ(recv_exact(everything.peer, 3), "a\r\n");
  everything.client->write_str("\xc3\xa9");
  EXPECT_THROW(everything.client->write_str("\xff"), std::invalid_argument);
  EXPECT_THROW(everything.client->read_str(1ms), TimeoutError);
  everything.queue.run_pending();
  // A handler and a callback that throw.
  OneClientReadLoopServer failing(
      {.host = "127.0.0.1",
       .connect_callback =
           [](const ConnectionEvent&) {
             throw std::runtime_error("callback");
           }},
      [](Connection& s, const std::stop_token& stop) {
        s.read_str(stop);
        throw std::runtime_error("handler");
      });
  failing.start();
  const UniqueFd peer = connect_to(failing.port());
  send_all(peer, "a\r\n");
  EXPECT_EQ(tcpip_tests::recv_until_eof(peer), "");
  Client refused({.host = "127.0.0.1", .port = tcpip_tests::refusing_port()});
  EXPECT_THROW(refused.start(kPatience), ConnectionRefusedError);
  OneClientServer in_use(
      {.host = "127.0.0.1", .port = everything.server.port()});
  EXPECT_THROW(in_use.start(), Error);
  tcpip_tests::reset(std::move(everything.peer));
  everything.client->close();
}

// --- Signals ---

// T1: with SIGPIPE at its default the process would die of it.
int write_to_a_closed_peer() {
  if (::signal(SIGPIPE, SIG_DFL) == SIG_ERR) return 2;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  UniqueFd peer = connect_to(server.port());
  if (!server.wait_connected(kPatience)) return 3;
  // Unread bytes keep the server from noticing by itself that it has gone.
  send_all(peer, "unread");
  peer.reset();
  for (int i = 0; i < 1000; ++i) {
    try {
      server.write("a");
      server.write_lines({"b", "c"});
      ::poll(nullptr, 0, 1);
    } catch (const ConnectionError&) {
      return 0;
    }
  }
  return 4;
}

using ProcessDeathTest = testing::Test;

TEST(ProcessDeathTest, WritingToAClosedPeerIsAnErrorNotASignal) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(std::_Exit(write_to_a_closed_peer()), testing::ExitedWithCode(0),
              "");
}

TEST(SignalsTest, NeitherDispositionsNorTheCallersMaskChange) {
  struct Disposition {
    void (*handler)(int);
    int flags;
    bool operator==(const Disposition&) const = default;
  };
  const auto dispositions = [] {
    std::vector<Disposition> result;
    for (int signal = 1; signal < NSIG; ++signal) {
      struct sigaction action {};
      ::sigaction(signal, nullptr, &action);
      result.push_back({action.sa_handler, action.sa_flags});
    }
    return result;
  };
  const auto mask = [] {
    sigset_t set;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &set);
    std::vector<int> result;
    for (int signal = 1; signal < NSIG; ++signal) {
      result.push_back(::sigismember(&set, signal));
    }
    return result;
  };
  const auto dispositions_before = dispositions();
  const auto mask_before = mask();
  live();
  EXPECT_EQ(dispositions(), dispositions_before);
  EXPECT_EQ(mask(), mask_before);
}

// Linux goes on with a poll after that, and not with the time that is left.
TEST(SignalsTest, DeadlineHoldsThoughTheProcessIsStopped) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(30);
    const std::stop_source stop;
    auto pair = tcpip_tests::loopback_pair(tcpip_tests::Transport::kIpv4);
    const Deadline deadline = Deadline::after(4s);
    try {
      pair.reader.read_line({deadline, stop.get_token()});
    } catch (const TimeoutError&) {
    }
    const bool late = Deadline::Clock::now() > deadline.when() + 2s;
    std::_Exit(late || !deadline.has_passed() ? 1 : 0);
  }
  const std::string file = "/proc/" + std::to_string(child) + "/syscall";
  EXPECT_TRUE(eventually([&] {
    std::string first;
    std::ifstream(file) >> first;
    return first == std::to_string(SYS_ppoll);
  }));
  ::kill(child, SIGSTOP);
  ::poll(nullptr, 0, 3500);  // it is stopped for so long
  ::kill(child, SIGCONT);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "it was late";
}

// --- Threads ---

struct ThreadStatus {
  std::string name;
  unsigned long long blocked = 0;
};

std::map<int, ThreadStatus> threads() {
  std::map<int, ThreadStatus> result;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream status(task.path() / "status");
    ThreadStatus& thread = result[std::stoi(task.path().filename())];
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("Name:\t")) thread.name = line.substr(6);
      if (line.starts_with("SigBlk:\t")) {
        thread.blocked = std::stoull(line.substr(8), nullptr, 16);
      }
    }
  }
  return result;
}

TEST(ThreadsTest, OursHaveNamesAndBlockTheSignalsThatOthersSend) {
  const auto before = threads();
  Everything everything;
  std::multiset<std::string> names;
  // A new thread names itself, a moment after start() has returned.
  EXPECT_TRUE(eventually([&] {
    names.clear();
    for (const auto& [id, thread] : threads()) {
      if (before.contains(id) || id == everything.reader_id) continue;
      names.insert(thread.name);
    }
    return names == std::multiset<std::string>{
                        "tcpip-accept",   "tcpip-accept",  "tcpip-callback",
                        "tcpip-callback", "tcpip-monitor", "tcpip-monitor",
                        "tcpip-reader",   "tcpip-send",    "tcpip-periodic",
                        "tcpip-tap"};
  })) << testing::PrintToString(names);
  for (const auto& [id, thread] : threads()) {
    if (before.contains(id) || id == everything.reader_id) continue;
    for (int signal = 1; signal < 32; ++signal) {
      if (signal == SIGKILL || signal == SIGSTOP) continue;
      const bool caused =
          std::set{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}
              .contains(signal);
      EXPECT_EQ(thread.blocked >> (signal - 1) & 1, caused ? 0u : 1u)
          << thread.name << ", signal " << signal;
    }
  }
}

// In a thread of ours, as in any other: the crash handler of the program runs.
TEST(ProcessDeathTest, CrashInAHandlerCallsTheProgramsCrashHandler) {
  const auto crash_in_a_handler = [] {
    ::signal(SIGSEGV, [](int) { std::_Exit(42); });
    void* const forbidden =
        ::mmap(nullptr, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    OneClientReadLoopServer server(
        {.host = "127.0.0.1"}, [&](Connection&, const std::stop_token&) {
          [[maybe_unused]] const char crash =
              *static_cast<volatile char*>(forbidden);
        });
    server.start();
    const UniqueFd peer = connect_to(server.port());
    send_all(peer, "crash");
    server.wait_done(kPatience);
  };
  EXPECT_EXIT(crash_in_a_handler(), testing::ExitedWithCode(42), "");
}

// --- Output ---

// stdout and stderr go to a file in memory while it lives.
class Captured {
 public:
  Captured() {
    std::fflush(nullptr);
    for (const int fd : {1, 2}) {
      ::dup2(file_.get(), fd);
    }
  }
  ~Captured() { restore(); }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;

  // What was written, by whatever means.
  std::string restore() {
    std::fflush(nullptr);
    ::dup2(saved_[0].get(), 1);
    ::dup2(saved_[1].get(), 2);
    struct stat status {};
    ::fstat(file_.get(), &status);
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    if (::pread(file_.get(), text.data(), text.size(), 0) < 0) return "?";
    return text;
  }

 private:
  const UniqueFd file_{::memfd_create("output", MFD_CLOEXEC)};
  const std::array<UniqueFd, 2> saved_{
      UniqueFd(::fcntl(1, F_DUPFD_CLOEXEC, 3)),
      UniqueFd(::fcntl(2, F_DUPFD_CLOEXEC, 3))};
};

TEST(OutputTest, NothingIsWrittenToStdoutOrStderr) {
  std::string text;
  {
    Captured captured;
    live();
    text = captured.restore();
  }
  EXPECT_EQ(text, "");
}

TEST(OutputTest, CaptureSeesWhatIsWritten) {
  Captured captured;
  std::puts("out");
  EXPECT_EQ(::write(2, "err", 3), 3);
  EXPECT_EQ(captured.restore().size(), 7u);
}

// --- Descriptors ---

TEST(DescriptorsTest, AllAreCloexec) {
  const auto before = open_descriptors();
  const Everything everything;
  int sockets = 0;
  int others = 0;
  for (const auto& [fd, what] : open_descriptors()) {
    if (before.contains(fd)) continue;
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0) continue;  // the rejected one's, closed meanwhile
    EXPECT_TRUE(flags & FD_CLOEXEC) << fd << " " << what;
    ++(what.starts_with("socket:") ? sockets : others);
  }
  // Two listeners, four ends of connections, and the wakers' eventfds at least.
  EXPECT_GE(sockets, 6);
  EXPECT_GE(others, 4);
}

// T29. /bin/ls lists what it has inherited.
std::string descriptors_of_a_child() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return "no pipe";
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, out.get(), 1);
  char name[] = "ls";
  char option[] = "-l";
  char path[] = "/proc/self/fd";
  char* const arguments[] = {name, option, path, nullptr};
  pid_t child = 0;
  const int failed =
      ::posix_spawnp(&child, name, &actions, nullptr, arguments, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return "no ls";
  out.reset();
  std::string listing;
  std::array<char, 4096> buffer{};
  for (ssize_t got = 0;
       (got = ::read(in.get(), buffer.data(), buffer.size())) > 0;) {
    listing.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::waitpid(child, nullptr, 0);
  return listing;
}

TEST(DescriptorsTest, ChildThatExecsInheritsNoneWhileConnectsRace) {
  const HangGuard guard;
  // The runner's own, if it has some, are not ours to judge.
  const std::string before = descriptors_of_a_child();
  if (before.find("0 ->") == std::string::npos) {
    GTEST_SKIP() << "no ls: " << before;
  }
  const auto count = [](const std::string& text, std::string_view what) {
    std::size_t result = 0;
    for (std::size_t at = text.find(what); at != std::string::npos;
         at = text.find(what, at + 1)) {
      ++result;
    }
    return result;
  };
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  std::atomic<int> connects{0};
  std::jthread racing([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      Client client({.host = "127.0.0.1", .port = server.port()});
      client.start(kPatience);
      ++connects;
    }
  });
  for (int i = 0; i < 20 || connects < 50; ++i) {
    const std::string listing = descriptors_of_a_child();
    ASSERT_EQ(count(listing, "socket:"), count(before, "socket:")) << listing;
    ASSERT_EQ(count(listing, "eventfd"), count(before, "eventfd")) << listing;
  }
}

TEST(DescriptorsTest, NoneIsLeftAndNoThreadAfterALifeWithAllSortsOfErrors) {
  const auto before = open_descriptors();
  const int threads_before = tcpip_testing::count_threads();
  for (int i = 0; i < 3; ++i) live();
  EXPECT_TRUE(eventually(
      [&] { return tcpip_testing::count_threads() == threads_before; }));
  EXPECT_EQ(open_descriptors(), before);
}

// --- Idle ---

// T36.
TEST(IdleTest, UsesNoProcessorTime) {
  if (kWithSanitizer) GTEST_SKIP() << "it has a thread that is never idle";
  const Everything everything;
  const auto cpu_time = [] {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return std::chrono::seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           std::chrono::microseconds(usage.ru_utime.tv_usec +
                                     usage.ru_stime.tv_usec);
  };
  // The rejected client is let go of after a second.
  ASSERT_EQ(tcpip_tests::recv_until_eof(everything.rejected), "");
  ::poll(nullptr, 0, 1200);
  // The least of several times: the machine below may charge us with its own.
  auto least = std::chrono::microseconds::max();
  for (int i = 0; i < 3 && least > 3ms; ++i) {
    const auto before = cpu_time();
    ::poll(nullptr, 0, 3000);  // being idle is what is measured
    least = std::min(least, cpu_time() - before);
  }
  EXPECT_LE(least, 3ms);
}

// --- The end of the process ---

// T35. Each in a process of its own, which must end by itself, with 0.
void exit_with_a_static_server() {
  ::alarm(20);
  static OneClientReadLoopServer server(
      {.host = "127.0.0.1", .connect_callback = ConnectionEvents().callback()},
      echo);
  server.start();
  static UniqueFd peer = connect_to(server.port());
  send_all(peer, "a\r\n");
  if (recv_exact(peer, 3) != "a\r\n") std::_Exit(2);
  std::exit(0);
}

void exit_with_a_live_server() {
  ::alarm(20);
  auto* const server = new OneClientReadLoopServer(
      {.host = "127.0.0.1", .connect_callback = ConnectionEvents().callback()},
      echo);
  server->start();
  const UniqueFd peer = connect_to(server->port());
  send_all(peer, "a\r\n");
  if (recv_exact(peer, 3) != "a\r\n") std::_Exit(2);
  std::exit(0);  // never destroyed, its threads run to the end
}

void exit_in_a_callback() {
  ::alarm(20);
  auto* const server = new OneClientServer(
      {.host = "127.0.0.1",
       .connect_callback = [](const ConnectionEvent&) { std::exit(0); }});
  server->start();
  const UniqueFd peer = connect_to(server->port());
  tcpip_tests::recv_until_eof(peer);
  ::pause();
}

TEST(ProcessDeathTest, StaticServerIsDestroyedAtExit) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(exit_with_a_static_server(), testing::ExitedWithCode(0), "");
}

TEST(ProcessDeathTest, ExitWithALiveServer) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(exit_with_a_live_server(), testing::ExitedWithCode(0), "");
}

TEST(ProcessDeathTest, ExitInACallback) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(exit_in_a_callback(), testing::ExitedWithCode(0), "");
}

// A child of fork() without exec may destroy what it has of its parent's: the
// parent's connection lives on.
TEST(ProcessDeathTest, ForkedChildMayJustExit) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        ::alarm(20);
        int result = 0;
        {
          OneClientServer server({.host = "127.0.0.1"});
          server.start();
          const UniqueFd peer = connect_to(server.port());
          if (!server.wait_connected(kPatience)) std::_Exit(2);
          const pid_t child = ::fork();
          if (child == 0) std::_Exit(0);
          ::waitpid(child, nullptr, 0);
          server.write("a");
          result = recv_exact(peer, 1) == "a" ? 0 : 3;
        }
        std::_Exit(result);
      },
      testing::ExitedWithCode(0), "");
}

// B2. What the program writes to stderr must never go to a peer.
int live_without_standard_streams() {
  ::alarm(30);
  const auto is_taken = [] {
    for (const int fd : {0, 1, 2}) {
      if (::fcntl(fd, F_GETFD) >= 0) return true;
    }
    return false;
  };
  CallbackQueue queue;
  for (const int fd : {0, 1, 2}) ::close(fd);
  queue.wait_fd();
  if (is_taken()) return 2;
  OneClientServer server({.host = "127.0.0.1", .callbacks = &queue});
  server.start();
  if (is_taken()) return 3;
  Client client({.host = "127.0.0.1", .port = server.port()});
  client.start(kPatience);
  if (is_taken()) return 4;
  if (!server.wait_connected(kPatience)) return 5;
  client.write_str("hello", kPatience);
  const std::stop_source stop;
  if (server.read_str({kPatience, stop.get_token()}) != "hello") return 6;
  if (is_taken()) return 7;
  Listener listener("127.0.0.1", 0);
  const Streams streams =
      open_connection("127.0.0.1", listener.port(), kPatience);
  const Listener::Accepted accepted = listener.accept(kPatience);
  return is_taken() ? 8 : 0;
}

TEST(ProcessDeathTest, NoDescriptorTakesThePlaceOfAStandardStream) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(std::_Exit(live_without_standard_streams()),
              testing::ExitedWithCode(0), "");
}

// --- The log ---

// B4. A client that is turned away again and again.
TEST(LogTest, ClientThatReconnectsInALoopCausesFewLines) {
  const HangGuard guard;
  const LogRecorder lines;
  OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
  server.start();
  const UniqueFd served = connect_to(server.port());
  ASSERT_TRUE(server.wait_connected(kPatience));
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 500; ++i) {
    EXPECT_EQ(tcpip_tests::recv_until_eof(connect_to(server.port())), "");
  }
  const auto took = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::steady_clock::now() - start);
  EXPECT_LE(lines.count("rejecting"),
            2 + static_cast<std::size_t>(took.count()));
  // The rest is told of without another client.
  EXPECT_TRUE(eventually([&] {
    return tcpip_tests::told(lines, "rejecting") == 500;
  })) << lines.text();
}

// The same for clients that are served, and gone at once.
TEST(LogTest, ClientsThatAreServedInALoopCauseFewLines) {
  const HangGuard guard;
  const LogRecorder lines;
  OneClientReadLoopServer server(
      {.host = "127.0.0.1",
       .log = lines.log(),
       .connect_callback =
           [](const ConnectionEvent&) { throw std::runtime_error("bad"); }},
      echo);
  server.start();
  const auto start = std::chrono::steady_clock::now();
  constexpr std::uint64_t kClients = 300;
  for (std::uint64_t i = 1; i <= kClients; ++i) {
    const UniqueFd peer = connect_to(server.port());
    ASSERT_TRUE(eventually([&] { return server.connection_count() == i; }));
    send_all(peer, "\xff\r\nunread");  // not text: the handler fails
    EXPECT_EQ(tcpip_tests::recv_ending(peer).data, "");
    ASSERT_TRUE(eventually([&] { return !server.connected(); }));
  }
  const auto took = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::steady_clock::now() - start);
  // Of each of five kinds.
  EXPECT_LE(lines.size(), 5 * (12 + static_cast<std::size_t>(took.count())));
  for (const char* kind : {" connected", "ended", "read handler failed"}) {
    EXPECT_TRUE(eventually([&] {
      return tcpip_tests::told(lines, kind) == kClients;
    })) << kind
        << "\n"
        << lines.text();
  }
  server.close();
}

// --- A plugin that is unloaded ---

// B5. The functions of plugin.cc, while it is loaded.
class Plugin {
 public:
  Plugin()
      : path_(tcpip_tests::find_file("tests/risk/plugin.so")),
        handle_(::dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) std::fputs(::dlerror(), stderr);
  }
  ~Plugin() { unload(); }
  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  template <class... Arguments>
  bool call(const char* function, Arguments... arguments) {
    using Function = bool (*)(Arguments...);
    const auto found = reinterpret_cast<Function>(::dlsym(handle_, function));
    return found != nullptr && found(arguments...);
  }
  void unload() {
    if (handle_ != nullptr) ::dlclose(std::exchange(handle_, nullptr));
  }
  // Whether it is still in memory.
  bool is_loaded() const {
    void* const found = ::dlopen(path_.c_str(), RTLD_NOW | RTLD_NOLOAD);
    if (found == nullptr) return false;
    ::dlclose(found);
    return true;
  }

 private:
  const std::string path_;
  void* handle_;
};

int unload_behind_a_close() {
  ::alarm(30);
  Plugin plugin;
  if (!plugin.call("plugin_talk")) return 2;
  plugin.unload();
  return plugin.is_loaded() ? 3 : 0;
}

int unload_while_a_look_up_is_left_behind() {
  ::alarm(30);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return 2;
  // Both stay open: TSan does not see that the thread no longer reads.
  const auto [silence, answer] = ends;
  const int threads = tcpip_testing::count_threads();
  Plugin plugin;
  if (!plugin.call("plugin_look_up", silence)) return 3;
  plugin.unload();
  if (tcpip_testing::count_threads() != threads + 1) return 4;
  if (::write(answer, "", 1) != 1) return 5;
  if (!eventually([&] { return tcpip_testing::count_threads() == threads; })) {
    return 6;
  }
  // Nothing keeps it any longer. The loader sees that at the next dlclose(),
  // which is in here.
  plugin.is_loaded();
  return plugin.is_loaded() ? 7 : 0;
}

TEST(ProcessDeathTest, PluginIsUnloadedOnceItsObjectsAreClosed) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(std::_Exit(unload_behind_a_close()), testing::ExitedWithCode(0),
              "");
}

TEST(ProcessDeathTest, PluginMayBeUnloadedWhileALookUpIsLeftBehind) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(std::_Exit(unload_while_a_look_up_is_left_behind()),
              testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tcpip
