// Whole lives of servers, clients and streams, in which the nth system call,
// start of a thread or operator new fails: once, and from then on; for n = 1,
// 2, ... until a life passes without meeting it. Whatever fails,
//
//  * the life ends in success, or in an error of the library's or bad_alloc;
//  * it ends at once, and leaves no descriptor and no thread;
//  * a server that has started serves the next client once the fault is over;
//  * connection events alternate, and each has a reason that fits;
//  * no message is torn, and no bytes are wrong.
#include <gtest/gtest.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <ostream>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/realtime.h"
#include "tcpip/tap.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/unique_fd.h"
#include "tests/support/faults.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/socket_files.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
namespace faults = tcpip_tests::faults;
using faults::Exempt;
using tcpip_testing::ConnectionEvents;
using tcpip_testing::LeakSnapshot;
using tcpip_tests::HangGuard;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::PlainListener;
using tcpip_tests::Transport;
using Clock = std::chrono::steady_clock;

// The most that a life may take: one that nothing disturbs takes some
// milliseconds.
constexpr std::chrono::seconds kLife{kWithSanitizer ? 8 : 2};

struct Sample {
  std::int64_t number = 0;
  double value = 0;
  bool operator==(const Sample&) const = default;
};
constexpr Sample kSample{.number = -5, .value = 0.1};

// What a terminating program was at.
constinit std::array<char, 200> at{};

// --- One trial of a life ---

class Trial {
 public:
  Trial(std::string_view call, const faults::Rule& rule, int error,
        std::chrono::milliseconds limit)
      : limit_(limit), call_(call), rule_(rule), error_(error) {}

  // The fault may happen from here to lift(). The first call counts.
  void begin() {
    if (plan_ || over_) return;
    plan_.emplace(call_, rule_);
  }
  void lift() {
    over_ = true;
    if (!plan_) return;
    plan_->lift();
    calls_ = plan_->calls();
    injected_ = plan_->injected();
  }

  // The part of a life that may meet the fault.
  template <class Body>
  void attempt(Body body) {
    try {
      body();
    } catch (const Error& e) {
      fail_with(e.what());
    } catch (const std::bad_alloc&) {
      fail_with("bad_alloc");
    } catch (const std::exception& e) {
      fail_with(e.what());
      complain("not an error of the library's: " + error_text_);
    }
  }

  // What must not be, whatever fails.
  void complain(const std::string& what) {
    const Exempt mine;
    complaints_ += "  " + what + "\n";
  }
  template <class T>
  void expect_equal(const T& got, const T& expected, const char* what) {
    if (got != expected) complain(what);
  }

  // For each call that waits.
  std::chrono::milliseconds limit() const { return limit_; }
  int error() const { return error_; }
  bool injects() const { return plan_ && !over_; }
  int calls() const { return calls_; }
  int injected() const { return injected_; }
  bool has_failed() const { return failed_; }
  const std::string& error_text() const { return error_text_; }
  const std::string& complaints() const { return complaints_; }

 private:
  void fail_with(const char* text) {
    const Exempt mine;
    if (failed_) return;
    failed_ = true;
    error_text_ = text;
  }

  const std::chrono::milliseconds limit_;
  const std::string_view call_;
  const faults::Rule rule_;
  const int error_;
  std::optional<faults::Plan> plan_;
  bool over_ = false;
  int calls_ = 0;
  int injected_ = 0;
  bool failed_ = false;
  std::string error_text_;
  std::string complaints_;
};

// --- Events ---

// The test's own recording is not to fail.
std::function<void(const ConnectionEvent&)> recording(
    const ConnectionEvents& events) {
  return [&events](const ConnectionEvent& event) {
    const Exempt mine;
    events.add(event);
  };
}

// Whether an event tells the truth, as far as that does not depend on who was
// first.
const char* wrong_reason(const ConnectionEvent& event, int injected) {
  const int error = event.error.value();
  if (event.connected) {
    return event.reason == DisconnectReason::kNone && !event.error
               ? nullptr
               : "a connected event with a reason";
  }
  switch (event.reason) {
    case DisconnectReason::kNone:
      return "disconnected without a reason";
    case DisconnectReason::kHeartbeatLost:
      return "lost heartbeats, where there are none";
    case DisconnectReason::kSilent:
    case DisconnectReason::kConnectFailed:
    case DisconnectReason::kGaveUp:
      return "a reason of a ReconnectingClient's, where there is none";
    case DisconnectReason::kNotReading:
      return "a reason of a SendQueue's, where there is none";
    case DisconnectReason::kClosedHere:
    case DisconnectReason::kHandlerFailed:
      return event.error ? "closed here with an error" : nullptr;
    case DisconnectReason::kPeerClosed:
    case DisconnectReason::kReplaced:
      return nullptr;
    case DisconnectReason::kReset:
      // A shortage is no reset.
      return error == ECONNRESET || error == ECONNABORTED ||
                     (error == injected && error != ENOMEM &&
                      error != ENOBUFS && error != EMFILE && error != ENFILE)
                 ? nullptr
                 : "reset by an error that is none";
    case DisconnectReason::kTimedOut:
      return error != 0 && error == injected ? nullptr
                                             : "timed out, but nothing did";
  }
  return "an unknown reason";
}

void check_events(Trial& trial, const ConnectionEvents& events,
                  const char* whose) {
  const std::vector<ConnectionEvent> values = events.values();
  const auto complain = [&](const std::string& what) {
    trial.complain(std::string(whose) + ": " + what + ": " + events.text());
  };
  if (values.size() % 2 != 0) complain("the last event is missing");
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i].connected != (i % 2 == 0))
      return complain("do not alternate");
    if (values[i].connection.number() != i / 2 + 1) {
      return complain("of the wrong connection");
    }
    if (const char* what = wrong_reason(values[i], trial.error())) {
      complain(what);
    }
  }
}

// --- The lives ---

// A text is echoed; "struct" announces one, which is sent back.
void serve(const Connection& client, const std::stop_token& stop) {
  const std::string text = client.read_str(stop);
  if (text != "struct") {
    client.write_str(text, stop);
    return;
  }
  Sample sample;
  client.read_into(sample, stop);
  client.write_from(sample, stop);
}

// True if a bare client gets an answer.
bool is_served(int port) {
  const tcpip::UniqueFd peer = tcpip_tests::connect_to(port);
  tcpip_tests::send_all(peer, "again\r\n");
  std::string got;
  while (got.size() < 7) {
    pollfd fd{peer.get(), POLLIN, 0};
    if (::poll(&fd, 1, 500) != 1) return false;
    std::array<char, 16> buffer;
    const ssize_t size =
        ::recv(peer.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size <= 0) return false;
    got.append(buffer.data(), static_cast<std::size_t>(size));
  }
  return got == "again\r\n";
}

void expect_serves(Trial& trial, int port) {
  const Exempt mine;
  // A pause after a shortage may last a second.
  const Clock::time_point end = Clock::now() + kLife;
  try {
    while (Clock::now() < end) {
      if (is_served(port)) return;
      std::this_thread::yield();
    }
    trial.complain("the server is deaf");
  } catch (const std::system_error& e) {
    trial.complain(std::string("the server does not listen: ") + e.what());
  }
}

// A client that comes while another is connected. With some faults it waits.
void turn_away(const Trial& trial, int port) {
  const Exempt mine;
  const UniqueFd second = tcpip_tests::connect_to(port);
  pollfd fd{second.get(), POLLIN, 0};
  ::poll(&fd, 1, static_cast<int>(trial.limit().count()));
}

enum class When { kWhileItServes, kWhileItCloses };
enum class Callbacks { kQueue, kDispatcher };

// Asks the kernel for what the threads have anyway.
ThreadStartHook as_ordinary_threads() {
  const Exempt mine;
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) cpus.push_back(cpu);
  }
  return realtime({.policy = SchedulingPolicy::kOther, .cpus = cpus});
}

// start, connect, echo, struct, reply, close.
void server_life(Trial& trial, Callbacks callbacks, When when) {
  const ConnectionEvents server_events;
  const ConnectionEvents client_events;
  CallbackQueue queue;
  queue.run_pending();  // this is the thread that drains it
  {
    std::optional<OneClientReadLoopServer> server;
    std::optional<Client> client;
    bool started = false;
    if (when == When::kWhileItServes) trial.begin();
    trial.attempt([&] {
      server.emplace(
          ServerOptions{
              .host = "127.0.0.1",
              .log = Log([](LogLevel, std::string_view, std::string_view) {}),
              .callbacks = callbacks == Callbacks::kQueue ? &queue : nullptr,
              .connect_callback = recording(server_events),
              .thread_start_hook = as_ordinary_threads(),
              .tap = std::make_shared<Tap>([](const TapRecord&) {})},
          serve);
      server->start(trial.limit());
      started = true;
      client.emplace(
          ClientOptions{.host = "127.0.0.1",
                        .port = server->port(),
                        .connect_callback = recording(client_events)});
      client->start(trial.limit());
      client->write_str("hello", trial.limit());
      trial.expect_equal(client->read_str(trial.limit()), "hello"s,
                         "wrong echo");
      turn_away(trial, server->port());
      client->write_lines({"struct", "\r\n"}, trial.limit());
      client->write_from(kSample, trial.limit());
      Sample sample;
      client->read_into(sample, trial.limit());
      trial.expect_equal(sample, kSample, "wrong struct");
      if (callbacks == Callbacks::kQueue) queue.run_one(trial.limit());
      if (when == When::kWhileItServes) {
        client->close();
        client.reset();
      }
    });
    if (when == When::kWhileItServes) {
      trial.lift();
      client.reset();
      if (started) expect_serves(trial, server->port());
    } else {
      trial.begin();
      trial.attempt([&] {
        server->close_client();
        server->close();
        client->close();
      });
      server.reset();
      client.reset();
      trial.lift();
    }
  }
  check_events(trial, server_events, "server");
  check_events(trial, client_events, "client");
}

// open_connection() and Client, by a numeric host and by name.
void connect_life(Trial& trial) {
  const ConnectionEvents events;
  const PlainListener listener = tcpip_tests::plain_listener(Transport::kIpv4);
  const auto accept = [&] {
    const Exempt mine;
    return tcpip_tests::accept_one(listener);
  };
  // Of a connection that was made and then failed.
  const auto drop_accepted = [&] {
    const Exempt mine;
    for (;;) {
      pollfd waiting{listener.fd.get(), POLLIN, 0};
      if (::poll(&waiting, 1, 0) <= 0) break;
      const UniqueFd closing = tcpip_tests::accept_one(listener);
    }
  };
  for (const char* const host : {"127.0.0.1", "localhost"}) {
    trial.begin();
    drop_accepted();
    trial.attempt([&] {
      auto [reader, writer] =
          open_connection(host, listener.port, trial.limit());
      const UniqueFd peer = accept();
      writer.write("ping\n");
      writer.drain(trial.limit());
      {
        const Exempt mine;
        trial.expect_equal(tcpip_tests::recv_exact(peer, 5), "ping\n"s,
                           "wrong bytes");
        tcpip_tests::send_all(peer, "pong\n");
      }
      trial.expect_equal(reader.read_line(trial.limit()), "pong\n"s,
                         "wrong line");
      close_stream_writer(writer, trial.limit());
    });
    drop_accepted();
    trial.attempt([&] {
      // utf-16-be: a codec that has to be opened.
      Client client({.host = host,
                     .port = listener.port,
                     .connect_callback = recording(events),
                     .encoding = "utf-16-be",
                     .terminator = "END"});
      client.start(trial.limit());
      UniqueFd peer = accept();
      client.write_str("a", trial.limit());
      {
        const Exempt mine;
        trial.expect_equal(tcpip_tests::recv_exact(peer, 5), "\0aEND"s,
                           "wrong bytes");
        tcpip_tests::send_all(peer, "\0bEND"sv);
      }
      trial.expect_equal(client.read_str(trial.limit()), "b"s, "wrong text");
      peer.reset();
      {
        // With some faults it takes longer.
        const Exempt mine;
        std::ignore = tcpip_tests::wait_until(
            [&] { return !client.connected(); }, trial.limit());
      }
      client.close();
    });
  }
  trial.lift();
  // The events of two clients, each of which has a first connection.
  std::vector<ConnectionEvents> clients(1);
  for (const ConnectionEvent& event : events.values()) {
    if (event.connected && clients.back().size() > 0) clients.emplace_back();
    clients.back().add(event);
  }
  for (const ConnectionEvents& client : clients) {
    check_events(trial, client, "client");
  }
}

// A server and a client on a Unix-domain socket, where a server that was killed
// has left its file.
void unix_life(Trial& trial) {
  const tcpip_tests::TemporaryFolder folder;
  const std::string path = folder.path() + "/socket";
  tcpip_tests::leave_socket_file(path);
  const ConnectionEvents events;
  trial.begin();
  trial.attempt([&] {
    OneClientServer server({.host = "unix:" + path,
                            .connect_callback = recording(events),
                            .listen = {.mode = 0600}});
    server.start(trial.limit());
    Client client({.host = "unix:" + path});
    client.start(trial.limit());
    client.write_str("ping", trial.limit());
    const auto accepted = server.wait_client(trial.limit());
    if (!accepted) throw TimeoutError("wait_client");
    trial.expect_equal(accepted->read_str(trial.limit()), "ping"s,
                       "wrong text");
    accepted->write_str("pong", trial.limit());
    trial.expect_equal(client.read_str(trial.limit()), "pong"s, "wrong text");
    client.close();
    server.close();
  });
  trial.attempt([&] {
    auto [here, there] = connected_pair();
    here.writer.write("ping\n");
    here.writer.drain(trial.limit());
    trial.expect_equal(there.reader.read_line(trial.limit()), "ping\n"s,
                       "wrong line");
  });
  trial.lift();
  check_events(trial, events, "server");
  // What has failed leaves at most a file that the next server replaces.
  try {
    const Listener next("unix:" + path, 0);
  } catch (const Error& e) {
    trial.complain(std::string("the next server: ") + e.what());
  }
}

// Reads again what was not read for lack of memory or descriptors: nothing is
// lost.
template <class Read, class Expected>
void expect_read(Trial& trial, Read read, const Expected& expected,
                 const char* what) {
  const auto is_right = [&](const auto& got) {
    if (std::string_view(got) != std::string_view(expected)) {
      trial.complain(std::string("wrong bytes: ") + what);
    }
  };
  try {
    is_right(read());
  } catch (const ConnectionError&) {
    throw;
  } catch (const std::exception&) {
    if (!trial.injects()) throw;
    trial.lift();
    is_right(read());
    throw;
  }
}

// A StreamReader and a StreamWriter, with a peer that reads and writes.
void stream_life(Trial& trial) {
  tcpip_tests::FdPair pair =
      tcpip_tests::fd_pair(Transport::kIpv4, tcpip_tests::Buffers::kSmall);
  // More than the kernel takes.
  const std::string large(60'000, 'l');
  std::string received;
  std::jthread reading([&] {
    const Exempt mine;
    try {
      received = tcpip_tests::recv_until_eof(pair.peer);
    } catch (const std::system_error&) {
      // A reset: what came before it is not known.
    }
  });
  std::vector<std::string> lines;
  for (char letter = 'a'; letter < 'a' + 20; ++letter) {
    lines.emplace_back(letter == 'c' ? large : std::string(100, letter));
  }
  std::vector<bool> is_sent(lines.size(), false);
  StreamReader reader;
  StreamWriter writer;
  tcpip_tests::send_all(pair.peer,
                        "first\nsecond|third;1234567890abcdefghrest");
  bool lost = false;
  trial.begin();
  trial.attempt([&] {
    Streams streams = open_connection(std::move(pair.ours));
    reader = std::move(streams.reader);
    writer = std::move(streams.writer);
    expect_read(
        trial, [&] { return reader.read_line(trial.limit()); }, "first\n",
        "read_line");
    expect_read(
        trial, [&] { return reader.read_until("|", trial.limit()); }, "second|",
        "read_until");
    expect_read(
        trial,
        [&] {
          return reader.read_until({",", ";"}, trial.limit());
        },
        "third;", "read_until two");
    expect_read(
        trial, [&] { return reader.read_exactly(10, trial.limit()); },
        "1234567890", "read_exactly");
    std::array<char, 8> bytes{};
    expect_read(
        trial,
        [&] {
          reader.read_exactly(std::as_writable_bytes(std::span(bytes)),
                              trial.limit());
          return std::string_view(bytes.data(), bytes.size());
        },
        "abcdefgh", "read_exactly(span)");
    expect_read(
        trial, [&] { return reader.read(4, trial.limit()); }, "rest", "read");
  });
  // Each message on its own, whatever happened to the one before. A fault that
  // lasts must not cost each of them the whole limit.
  const auto limit = [&trial] {
    return trial.has_failed() ? 2ms : trial.limit() / 4;
  };
  for (std::size_t i = 0; i < lines.size(); ++i) {
    trial.attempt([&] {
      try {
        if (i % 5 == 4) {
          const std::array<std::string_view, 3> parts{
              std::string_view(lines[i]).substr(0, 50),
              std::string_view(lines[i]).substr(50), "\n"};
          writer.write_and_drain(parts, kDefaultWriteLimit, limit());
        } else {
          writer.write_lines({lines[i], "\n"});
          writer.drain(limit());
        }
        is_sent[i] = true;
      } catch (const ConnectionError&) {
        lost = true;
        throw;
      }
    });
  }
  trial.attempt([&] { close_stream_writer(writer, limit()); });
  trial.lift();
  // What a failed drain() has left is sent behind the fault.
  if (!writer.is_closing() && !lost) {
    try {
      writer.drain(5s);
    } catch (const Error& e) {
      trial.complain(std::string("drain: ") + e.what());
    }
  }
  writer = StreamWriter();
  reader = StreamReader();
  reading.join();
  // Whole messages, in their order; the last may be torn by the end of the
  // connection.
  std::size_t next = 0;
  std::string_view rest = received;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    if (end == std::string_view::npos) {
      if (!lost && !trial.has_failed()) trial.complain("the end is torn");
      break;
    }
    rest.remove_prefix(end + 1);
    const std::size_t before = next;
    while (next < lines.size() && lines[next] != line) ++next;
    if (next == lines.size()) {
      return trial.complain("torn: a line of " + std::to_string(line.size()) +
                            " bytes behind message " + std::to_string(before));
    }
    ++next;
  }
  if (trial.has_failed()) return;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (is_sent[i] && next < lines.size())
      trial.complain("a message is missing");
  }
}

struct Life {
  const char* name;
  void (*live)(Trial& trial);
};
constexpr std::array kLives{
    Life{"Queue",
         [](Trial& trial) {
           server_life(trial, Callbacks::kQueue, When::kWhileItServes);
         }},
    Life{"Dispatcher",
         [](Trial& trial) {
           server_life(trial, Callbacks::kDispatcher, When::kWhileItServes);
         }},
    Life{"QueueCloses",
         [](Trial& trial) {
           server_life(trial, Callbacks::kQueue, When::kWhileItCloses);
         }},
    Life{"DispatcherCloses",
         [](Trial& trial) {
           server_life(trial, Callbacks::kDispatcher, When::kWhileItCloses);
         }},
    Life{"Connect", connect_life},
    Life{"Unix", unix_life},
    Life{"Streams", stream_life}};

// --- The sweep ---

// The errors that the call may meet: for a moment, and for as long as a
// shortage, a filter or a broken network lasts.
struct Faulty {
  const char* call;
  std::vector<int> once;
  std::vector<int> from_then_on;
};
const std::vector<Faulty>& faulty() {
  static const std::vector<Faulty> kFaulty{
      {"accept4",
       {EINTR, EAGAIN, ECONNABORTED, EPROTO, EPERM, ENETDOWN, EMFILE, ENFILE,
        ENOBUFS, ENOMEM},
       {ECONNABORTED, EPERM, ENETDOWN, EMFILE}},
      {"bind",
       {EADDRINUSE, EADDRNOTAVAIL, EACCES, ENOMEM},
       {EADDRINUSE, EACCES}},
      {"chmod", {EPERM}, {EPERM}},
      {"close", {EINTR, EIO}, {EIO}},
      {"connect",
       {EINTR, ECONNREFUSED, ENETUNREACH, EADDRNOTAVAIL, ETIMEDOUT, EPERM,
        ENOBUFS},
       {ECONNREFUSED, ENETUNREACH, ENETDOWN}},
      {"eventfd", {EMFILE, ENFILE, ENOMEM}, {EMFILE}},
      {"fcntl", {EINTR, EPERM}, {EPERM}},
      {"getaddrinfo",
       {EAI_AGAIN, EAI_FAIL, EAI_NONAME, EAI_MEMORY, EMFILE},
       {EAI_AGAIN, EMFILE}},
      {"getpeername", {ENOTCONN, ENOBUFS}, {ENOTCONN}},
      {"getsockname", {ENOBUFS}, {ENOBUFS}},
      {"getsockopt", {ENOBUFS, ENOMEM}, {ENOBUFS}},
      {"iconv_open", {EMFILE, ENOMEM, EINVAL}, {EMFILE, EINVAL}},
      {"ioctl", {EINVAL}, {EINVAL}},
      {"listen", {EADDRINUSE, ENOBUFS}, {EADDRINUSE}},
      {"lstat", {EACCES}, {EACCES}},
      {"new", {ENOMEM}, {ENOMEM}},
      {"poll", {EINTR, ENOMEM}, {ENOMEM}},
      {"ppoll", {EINTR, ENOMEM}, {ENOMEM}},
      {"read", {EINTR, EAGAIN}, {}},
      {"recv",
       {EINTR, EAGAIN, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM},
       {ECONNRESET, EHOSTUNREACH, ENOMEM, EAGAIN}},
      {"sched_getaffinity", {EINVAL}, {EINVAL}},
      {"sched_setaffinity", {EINVAL, EPERM}, {EINVAL}},
      {"sched_setscheduler", {EPERM}, {EPERM}},
      {"send",
       {EINTR, EAGAIN, EPIPE, ECONNRESET, ENOBUFS, ENOMEM, ENETDOWN, EPERM},
       {EPIPE, ECONNRESET, ENOBUFS, EAGAIN}},
      {"sendmsg",
       {EINTR, EAGAIN, EPIPE, ECONNRESET, ENOBUFS, ENOMEM, ENETDOWN, EPERM},
       {EPIPE, ECONNRESET, ENOBUFS, EAGAIN}},
      {"setsockopt",
       {ENOPROTOOPT, EINVAL, ENOBUFS, EDOM},
       {ENOPROTOOPT, ENOMEM}},
      {"shutdown", {ENOTCONN}, {ENOTCONN}},
      {"socket",
       {EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES, EAFNOSUPPORT},
       {EMFILE, EAFNOSUPPORT}},
      {"socketpair", {EMFILE, ENOBUFS}, {EMFILE}},
      {"thread", {EAGAIN}, {EAGAIN}},
      {"unlink", {EACCES}, {EACCES}},
      {"write", {EINTR}, {}}};
  return kFaulty;
}

struct Sweep {
  const Life* life;
  const Faulty* faulty;
  bool from_then_on;
  friend std::ostream& operator<<(std::ostream& out, const Sweep& sweep) {
    return out << sweep.faulty->call;
  }
};

std::vector<Sweep> sweeps() {
  std::vector<Sweep> all;
  for (const Life& life : kLives) {
    for (const Faulty& f : faulty()) {
      all.push_back({&life, &f, false});
      if (!f.from_then_on.empty()) all.push_back({&life, &f, true});
    }
  }
  return all;
}

std::string name_of_error(std::string_view call, int error) {
  if (call == "getaddrinfo" && error < 0) return ::gai_strerror(error);
  return ::strerrorname_np(error);
}

class FailNthTest : public testing::TestWithParam<Sweep> {};

// What a trial came to, in words; "" if all is well.
std::string live(const Sweep& sweep, int nth, int error,
                 std::chrono::milliseconds limit, Trial& trial) {
  const LeakSnapshot before;
  const HangGuard guard(static_cast<unsigned>(5 * kLife.count()));
  const Clock::time_point start = Clock::now();
  sweep.life->live(trial);
  const std::chrono::duration<double> took = Clock::now() - start;
  std::string complaints = trial.complaints();
  if (took > kLife + limit) {
    complaints += "  took " + std::to_string(took.count()) + " s\n";
  }
  if (const auto restored = before.is_restored(5s); !restored) {
    complaints += std::string("  ") + restored.message();
  }
  if (complaints.empty()) return "";
  return std::string(sweep.life->name) + ", " + sweep.faulty->call + " " +
         name_of_error(sweep.faulty->call, error) + " at call " +
         std::to_string(nth) +
         (sweep.from_then_on ? " and all behind it" : "") + " (" +
         (trial.has_failed() ? trial.error_text() : "success") + "):\n" +
         complaints;
}

TEST_P(FailNthTest, EndsInSuccessOrACleanError) {
  const Sweep& sweep = GetParam();
  const Faulty& f = *sweep.faulty;
  int runs = 0;
  int errors = 0;
  int wrong = 0;
  for (const int error : sweep.from_then_on ? f.from_then_on : f.once) {
    // A trial that waits for what cannot come any more waits that long.
    std::chrono::milliseconds limit = kWithSanitizer ? 800ms : 400ms;
    for (int nth = 1;; ++nth) {
      ASSERT_LT(nth, 3000) << "there is no end of them";
      std::snprintf(at.data(), at.size(), "%s, %s %s at call %d%s",
                    sweep.life->name, f.call,
                    name_of_error(f.call, error).c_str(), nth,
                    sweep.from_then_on ? " and all behind it" : "");
      const faults::Rule rule =
          (sweep.from_then_on ? faults::from_nth(nth) : faults::nth(nth))
              .error(error);
      Trial trial(f.call, rule, error, limit);
      const std::string complaint = live(sweep, nth, error, limit, trial);
      EXPECT_EQ(complaint, "");
      if (!complaint.empty() && ++wrong == 5) FAIL() << "and so on";
      if (trial.injected() == 0) {
        // On a busy machine a life without a fault may be late.
        if (trial.has_failed() && limit < 5s) {
          limit = 5s;
          --nth;
          continue;
        }
        EXPECT_FALSE(trial.has_failed())
            << "without a fault: " << trial.error_text();
        break;
      }
      ++runs;
      if (trial.has_failed()) ++errors;
    }
  }
  RecordProperty("lives", runs);
  RecordProperty("errors", errors);
  std::printf("%d lives with a fault, %d of them ended in an error\n", runs,
              errors);
}

INSTANTIATE_TEST_SUITE_P(All, FailNthTest, testing::ValuesIn(sweeps()),
                         [](const auto& test) {
                           return std::string(test.param.life->name) + "_" +
                                  test.param.faulty->call +
                                  (test.param.from_then_on ? "_FromThenOn"
                                                           : "_Once");
                         });

// A call that no life makes would prove nothing.
TEST(FailNthTableTest, EveryCallIsInTheTableAndMadeByALife) {
  const HangGuard guard;
  std::vector<std::string_view> in_table;
  for (const Faulty& f : faulty()) {
    in_table.push_back(f.call);
    int calls = 0;
    for (const Life& life : kLives) {
      Trial trial(f.call, faults::nth(1'000'000'000).error(EINTR), EINTR, 20s);
      life.live(trial);
      EXPECT_EQ(trial.complaints(), "") << life.name;
      EXPECT_FALSE(trial.has_failed()) << life.name << trial.error_text();
      calls += trial.calls();
    }
    // Not every encoding needs the C library's tables.
    EXPECT_TRUE(calls > 0 || f.call == "iconv_open"sv) << f.call;
  }
  std::ranges::sort(in_table);
  EXPECT_TRUE(std::ranges::equal(in_table, faults::names()));
}

// Says which life it was that ended the program.
[[maybe_unused]] const auto previous_handler = std::set_terminate([] {
  std::fprintf(stderr, "terminate: %s\n", at.data());
  tcpip_tests::print_all_stacks();
  std::abort();
});

}  // namespace
}  // namespace tcpip
