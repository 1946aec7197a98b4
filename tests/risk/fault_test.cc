// System calls that fail, one after the other: whatever goes wrong inside a
// life of start, connect, echo and close, it ends in success or in an error of
// the library's, at once, with nothing left behind.
//
// The calls are caught at link time (-Wl,--wrap=..., see BUILD.bazel), so that
// this works under every sanitizer.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <future>
#include <optional>
#include <random>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/wait_until.h"

namespace {

enum Kind {
  kRecv,
  kSend,
  kPoll,
  kAccept,
  kEventfd,
  kSocket,
  kConnect,
  kSetsockopt,
  kThread,
  kKinds,
  kNone = kKinds
};

// What the wrapped calls do. Changed only while no other thread is in one.
struct Faults {
  // The nth call of this kind fails so, and `times` more behind it.
  std::atomic<int> kind{kNone};
  std::atomic<int> nth{0};
  std::atomic<int> times{0};
  std::atomic<int> error{0};
  std::atomic<int> calls{0};
  std::atomic<int> injected{0};
  // One byte at a time, and calls that are interrupted or come too early.
  std::atomic<bool> storm{false};
  std::atomic<int> stormed{0};
  // What an audit asks for.
  std::atomic<int> sends{0};
  std::atomic<int> sends_that_may_signal{0};
  std::atomic<int> made{0};
  std::atomic<int> made_without_cloexec{0};
  std::atomic<int> writes_to_sockets{0};
};
Faults faults;

// The test's own calls are left alone.
thread_local int exempt = 0;
class Exempt {
 public:
  Exempt() { ++exempt; }
  ~Exempt() { --exempt; }
  Exempt(const Exempt&) = delete;
  Exempt& operator=(const Exempt&) = delete;
};

// The errno with which this call is to fail, or 0.
int fault(Kind kind) {
  if (exempt > 0 || faults.kind != kind) return 0;
  const int call = ++faults.calls;
  if (call < faults.nth || call > faults.nth + faults.times) return 0;
  ++faults.injected;
  return faults.error;
}

// True with this probability, if there is a storm.
bool storm(double probability) {
  if (exempt > 0 || !faults.storm) return false;
  thread_local std::mt19937 random(static_cast<unsigned>(::gettid()));
  if (std::bernoulli_distribution(probability)(random)) {
    ++faults.stormed;
    return true;
  }
  return false;
}

template <class Result>
bool fail(Kind kind, Result& result) {
  if (const int error = fault(kind)) {
    errno = error;
    result = -1;
    return true;
  }
  return false;
}

void note_made(bool cloexec) {
  ++faults.made;
  if (!cloexec) ++faults.made_without_cloexec;
}

void note_send(int flags) {
  ++faults.sends;
  if ((flags & MSG_NOSIGNAL) == 0) ++faults.sends_that_may_signal;
}

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" {

ssize_t __real_recv(int fd, void* data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void* data, size_t size, int flags) {
  ssize_t result = 0;
  if (fail(kRecv, result)) return result;
  if (storm(0.3)) return errno = EINTR, -1;
  if ((flags & MSG_DONTWAIT) != 0 && storm(0.2)) return errno = EAGAIN, -1;
  if (faults.storm && exempt == 0 && (flags & MSG_TRUNC) == 0) {
    size = std::min<size_t>(size, 1);
  }
  return __real_recv(fd, data, size, flags);
}

ssize_t __real_send(int fd, const void* data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void* data, size_t size, int flags) {
  note_send(flags);
  ssize_t result = 0;
  if (fail(kSend, result)) return result;
  if (storm(0.3)) return errno = EINTR, -1;
  if (storm(0.2)) return errno = EAGAIN, -1;
  if (faults.storm && exempt == 0) size = std::min<size_t>(size, 1);
  return __real_send(fd, data, size, flags);
}

ssize_t __real_sendmsg(int fd, const msghdr* message, int flags);
ssize_t __wrap_sendmsg(int fd, const msghdr* message, int flags) {
  note_send(flags);
  ssize_t result = 0;
  if (fail(kSend, result)) return result;
  if (storm(0.3)) return errno = EINTR, -1;
  if (faults.storm && exempt == 0) {
    iovec first = message->msg_iov[0];
    first.iov_len = std::min<size_t>(first.iov_len, 1);
    msghdr less = *message;
    less.msg_iov = &first;
    less.msg_iovlen = 1;
    return __real_sendmsg(fd, &less, flags);
  }
  return __real_sendmsg(fd, message, flags);
}

int __real_poll(pollfd* fds, nfds_t count, int timeout);
int __wrap_poll(pollfd* fds, nfds_t count, int timeout) {
  int result = 0;
  if (fail(kPoll, result)) return result;
  if (storm(0.3)) return errno = EINTR, -1;
  return __real_poll(fds, count, timeout);
}

int __real_ppoll(pollfd* fds, nfds_t count, const timespec* timeout,
                 const sigset_t* mask);
int __wrap_ppoll(pollfd* fds, nfds_t count, const timespec* timeout,
                 const sigset_t* mask) {
  int result = 0;
  if (fail(kPoll, result)) return result;
  if (storm(0.3)) return errno = EINTR, -1;
  return __real_ppoll(fds, count, timeout, mask);
}

int __real_accept4(int fd, sockaddr* address, socklen_t* size, int flags);
int __wrap_accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  int result = 0;
  if (fail(kAccept, result)) return result;
  if (storm(0.3)) return errno = EINTR, -1;
  if (storm(0.3)) return errno = ECONNABORTED, -1;
  result = __real_accept4(fd, address, size, flags);
  if (result >= 0) note_made((flags & SOCK_CLOEXEC) != 0);
  return result;
}

int __real_eventfd(unsigned value, int flags);
int __wrap_eventfd(unsigned value, int flags) {
  int result = 0;
  if (fail(kEventfd, result)) return result;
  note_made((flags & EFD_CLOEXEC) != 0);
  return __real_eventfd(value, flags);
}

int __real_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol) {
  int result = 0;
  if (fail(kSocket, result)) return result;
  note_made((type & SOCK_CLOEXEC) != 0);
  return __real_socket(family, type, protocol);
}

int __real_connect(int fd, const sockaddr* address, socklen_t size);
int __wrap_connect(int fd, const sockaddr* address, socklen_t size) {
  int result = 0;
  if (fail(kConnect, result)) return result;
  return __real_connect(fd, address, size);
}

int __real_setsockopt(int fd, int level, int name, const void* value,
                      socklen_t size);
int __wrap_setsockopt(int fd, int level, int name, const void* value,
                      socklen_t size) {
  int result = 0;
  if (fail(kSetsockopt, result)) return result;
  return __real_setsockopt(fd, level, name, value, size);
}

ssize_t __real_write(int fd, const void* data, size_t size);
ssize_t __wrap_write(int fd, const void* data, size_t size) {
  struct stat status {};
  if (exempt == 0 && ::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode)) {
    ++faults.writes_to_sockets;
  }
  return __real_write(fd, data, size);
}

// std::thread's constructor calls pthread_create from inside libstdc++.so, out
// of the linker's reach. This is what it calls to get there:
// std::thread::_M_start_thread(unique_ptr<_State>, void (*)()).
void real_start_thread(void* self, void* state, void (*depend)()) __asm__(
    "__real__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14"
    "default_deleteIS1_EEPFvvE");
void wrap_start_thread(void* self, void* state, void (*depend)()) __asm__(
    "__wrap__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14"
    "default_deleteIS1_EEPFvvE");
void wrap_start_thread(void* self, void* state, void (*depend)()) {
  if (const int error = fault(kThread)) {
    throw std::system_error(error, std::generic_category());
  }
  real_start_thread(self, state, depend);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::ConnectionEvents;
using tcpip_testing::count_threads;
using tcpip_testing::LogRecorder;
using tcpip_testing::open_descriptors;
using tcpip_tests::connect_to;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::seconds_of;

// The faults of one test, and none afterwards.
class Injection {
 public:
  Injection(Kind kind, int nth, int error, int times = 0) {
    faults.calls = 0;
    faults.injected = 0;
    faults.nth = nth;
    faults.times = times;
    faults.error = error;
    faults.kind = kind;
  }
  ~Injection() { faults.kind = kNone; }
  Injection(const Injection&) = delete;
  Injection& operator=(const Injection&) = delete;
};

class Storm {
 public:
  Storm() {
    faults.stormed = 0;
    faults.storm = true;
  }
  ~Storm() { faults.storm = false; }
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;
};

void echo(Connection& server, const std::stop_token& stop) {
  server.write_str(server.read_str(stop), stop);
}

// Far beyond a life without faults, and the most that one with may take.
constexpr std::chrono::seconds kLife{kWithSanitizer ? 4 : 2};

// start, connect, echo, close. "" if all went well, else what() of the error.
std::string live(const ConnectionEvents& server_events,
                 const ConnectionEvents& client_events) {
  try {
    OneClientReadLoopServer server(
        {.host = "127.0.0.1", .connect_callback = server_events.callback()},
        echo);
    server.start(kLife);
    Client client({.host = "127.0.0.1",
                   .port = server.port(),
                   .connect_callback = client_events.callback()});
    client.start(kLife);
    client.write_str("hello", kLife);
    if (client.read_str(kLife) != "hello") return "WRONG ECHO";
    client.close();
    server.close();
    return "";
  } catch (const Error& e) {
    return e.what();
  }  // anything else fails the test
}

void expect_alternating(const ConnectionEvents& events,
                        const std::string& what) {
  const auto values = events.values();
  EXPECT_EQ(values.size() % 2, 0u) << what << ": " << events.text();
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(values[i].connected, i % 2 == 0) << what << events.text();
  }
}

struct Sweep {
  const char* name;
  Kind kind;
  std::vector<int> errors;
};

class FaultSweepTest : public testing::TestWithParam<Sweep> {};

// T5.
TEST_P(FaultSweepTest, EachCallFailingEndsInSuccessOrACleanError) {
  const HangGuard guard;
  const Sweep& sweep = GetParam();
  const auto descriptors = open_descriptors();
  const int threads = count_threads();
  int runs = 0;
  int errors = 0;
  for (const int error : sweep.errors) {
    // Until a life passes without meeting the nth.
    for (int nth = 1;; ++nth, ++runs) {
      ASSERT_LT(nth, 200) << "there is no end of them";
      const std::string what = std::string(sweep.name) + " " +
                               ::strerrorname_np(error) + " at call " +
                               std::to_string(nth);
      const ConnectionEvents server_events;
      const ConnectionEvents client_events;
      std::string outcome;
      bool met = false;
      const auto took = seconds_of([&] {
        const Injection injection(sweep.kind, nth, error);
        outcome = live(server_events, client_events);
        met = faults.injected > 0;
      });
      EXPECT_LT(took, kLife) << what << ": " << outcome;
      EXPECT_NE(outcome, "WRONG ECHO") << what;
      expect_alternating(server_events, what);
      expect_alternating(client_events, what);
      // A thread that has been joined may be listed for a moment.
      EXPECT_TRUE(eventually([&] { return count_threads() == threads; }))
          << what << " leaves a thread";
      EXPECT_EQ(open_descriptors(), descriptors) << what;
      if (HasFailure()) return;
      if (!met) {
        EXPECT_EQ(outcome, "") << what << " without a fault";
        ASSERT_GT(nth, 1) << "no call of this kind was caught";
        break;
      }
      if (!outcome.empty()) ++errors;
    }
  }
  std::printf("%s: %d lives with a fault, %d ended in an error\n", sweep.name,
              runs, errors);
}

INSTANTIATE_TEST_SUITE_P(
    Calls, FaultSweepTest,
    testing::Values(
        Sweep{"recv", kRecv, {EINTR, EAGAIN, ECONNRESET, ETIMEDOUT, ENOMEM}},
        Sweep{
            "send", kSend, {EINTR, EAGAIN, EPIPE, ECONNRESET, ENOBUFS, ENOMEM}},
        Sweep{"poll", kPoll, {EINTR, ENOMEM}},
        Sweep{"accept",
              kAccept,
              {EINTR, EAGAIN, ECONNABORTED, EPROTO, EPERM, ENETDOWN, EMFILE,
               ENFILE, ENOBUFS, ENOMEM}},
        Sweep{"eventfd", kEventfd, {EMFILE, ENFILE, ENOMEM}},
        Sweep{"socket", kSocket, {EMFILE, ENFILE, ENOBUFS, EAFNOSUPPORT}},
        Sweep{"connect",
              kConnect,
              {EINTR, ECONNREFUSED, ENETUNREACH, EADDRNOTAVAIL, ETIMEDOUT}},
        Sweep{"setsockopt", kSetsockopt, {ENOPROTOOPT, EINVAL, ENOBUFS}},
        Sweep{"thread", kThread, {EAGAIN}}),
    [](const auto& test) { return std::string(test.param.name); });

// The same for the class of the error, where there is one to expect.
TEST(FaultTest, ErrorsThatStartMeetsAreOfTheirClassAndKeepTheErrno) {
  struct Case {
    Kind kind;
    int nth;
    int error;
  };
  for (const Case& c : {Case{kEventfd, 1, EMFILE}, Case{kSocket, 1, ENFILE},
                        Case{kThread, 1, EAGAIN}, Case{kThread, 2, EAGAIN},
                        Case{kSetsockopt, 1, ENOPROTOOPT}}) {
    const ConnectionEvents events;
    OneClientServer server(
        {.host = "127.0.0.1", .connect_callback = events.callback()});
    const Injection injection(c.kind, c.nth, c.error);
    try {
      server.start();
      ADD_FAILURE() << "kind " << c.kind << " does not matter";
    } catch (const Error& e) {
      EXPECT_EQ(e.code().value(), c.error) << e.what();
    }
    EXPECT_TRUE(server.wait_done(Wait::none()));
    EXPECT_THROW(server.start(), std::logic_error);
    EXPECT_EQ(events.text(), "");
  }
}

// Finding 10: interrupted before it began, and poll says that it is done.
TEST(FaultTest, InterruptedConnectConnectsAllTheSame) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  Client client({.host = "127.0.0.1", .port = server.port()});
  {
    const Injection injection(kConnect, 1, EINTR);
    client.start(kPatience);
    EXPECT_EQ(faults.injected, 1);
  }
  client.write("a");
  EXPECT_EQ(server.wait_connected(kPatience), true);
  EXPECT_EQ(server.read_exactly(1, kPatience), "a");
}

// T2, T3: the same bytes, whatever the system calls do.
TEST(StormTest, ShortInterruptedAndSpuriousCallsChangeNoByte) {
  const HangGuard guard;
  std::string text(3000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>('a' + i * 7 % 26);
  }
  const Storm storm;
  for (const bool with_stop : {true, false}) {
    OneClientReadLoopServer server(
        {.host = "127.0.0.1"}, [&](Connection& s, const std::stop_token& stop) {
          const std::string message =
              s.read_str(with_stop ? Wait(stop) : Wait());
          s.write_lines({message, "\r", "\n"}, stop);
        });
    server.start();
    Client client({.host = "127.0.0.1", .port = server.port()});
    client.start(kPatience);
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{100}, text.size()}) {
      client.write_str(text.substr(0, size), kPatience);
      EXPECT_TRUE(client.read_str(kPatience) == text.substr(0, size));
    }
    // And not one more.
    EXPECT_EQ(client.try_read(1), std::nullopt);
  }
  EXPECT_GT(faults.stormed, 1000);
}

TEST(StormTest, DeadlineIsNotStretched) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  std::optional<UniqueFd> peer;
  {
    const Exempt mine;
    peer = connect_to(server.port());
  }
  ASSERT_TRUE(server.wait_connected(kPatience));
  const Storm storm;
  for (const auto deadline : {0ms, 10ms, 200ms}) {
    const auto took = seconds_of(
        [&] { EXPECT_THROW(server.read_str(deadline), TimeoutError); });
    EXPECT_GE(took, deadline);
    EXPECT_LE(took, deadline + kPrompt);
  }
}

TEST(StormTest, AcceptSurvivesConnectionsThatDieInTheQueue) {
  const HangGuard guard;
  const Storm storm;
  const LogRecorder lines;
  OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
  server.start();
  for (std::uint64_t i = 1; i <= 20; ++i) {
    std::optional<UniqueFd> peer;
    {
      const Exempt mine;
      peer = connect_to(server.port());
    }
    ASSERT_TRUE(eventually([&] { return server.connection_count() == i; }));
    server.close_client();
  }
  EXPECT_EQ(lines.count("accept"), 0u) << lines.text();
}

// P17: shortages of some duration.
TEST(FaultTest, AcceptSurvivesAShortageAndSaysSoOnce) {
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
    const HangGuard guard;
    const LogRecorder lines;
    OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
    server.start();
    const Injection injection(kAccept, 1, error, 4);  // 5+10+20+40+80 ms
    const Exempt mine;
    const UniqueFd peer = connect_to(server.port());
    EXPECT_TRUE(server.wait_connected(155ms + kPrompt));
    EXPECT_EQ(faults.injected, 5);
    EXPECT_EQ(lines.count("accept:"), 1u) << lines.text();
    // The next shortage is news again.
    const UniqueFd other = connect_to(server.port());
    EXPECT_EQ(tcpip_tests::recv_ending(other).error, 0);
  }
}

TEST(FaultTest, CloseDoesNotWaitForABackOff) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  const Injection injection(kAccept, 1, EMFILE, 1000);
  const Exempt mine;
  const UniqueFd peer = connect_to(server.port());
  ASSERT_TRUE(eventually([] { return faults.injected >= 6; }));  // 320 ms now
  EXPECT_LE(seconds_of([&] { server.close(); }), 250ms + kPrompt / 4);
}

// A poll that fails for a while must neither spin nor end the accept thread.
TEST(FaultTest, AcceptLoopSurvivesAPollThatFailsWithoutSpinning) {
  const HangGuard guard;
  const LogRecorder lines;
  OneClientServer server({.host = "127.0.0.1", .log = lines.log()});
  server.start();
  const Exempt mine;
  {
    const Injection injection(kPoll, 1, ENOMEM, 1'000'000);
    const UniqueFd wakes_it = connect_to(server.port());
    ASSERT_TRUE(eventually([] { return faults.injected >= 1; }));
    ::poll(nullptr, 0, 500);  // how often in that time is the question
    EXPECT_LE(faults.injected, 20);
    EXPECT_LE(lines.size(), 20u);
  }
  const UniqueFd peer = connect_to(server.port());
  EXPECT_TRUE(server.wait_connected(1s + kPrompt)) << lines.text();
}

// The thread that watches a client's connection outlives a failing poll.
TEST(FaultTest, ClientNoticesALossAfterAPollThatFailed) {
  const HangGuard guard;
  const ConnectionEvents events;
  std::optional<UniqueFd> peer;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  Client client({.host = "127.0.0.1",
                 .port = listener.port,
                 .connect_callback = events.callback()});
  // The first is connect's own.
  const Injection injection(kPoll, 2, ENOMEM);
  client.start(kPatience);
  const Exempt mine;
  peer = tcpip_tests::accept_one(listener);
  ASSERT_TRUE(eventually([] { return faults.injected == 1; }));
  EXPECT_TRUE(client.connected());
  peer.reset();
  EXPECT_TRUE(events.wait_for(2, 5s));
  EXPECT_EQ(events.text(), "connected 1, peer closed 1");
}

// P39: a read that cannot have its eventfd says so, loses nothing, and the
// connection lives.
TEST(FaultTest, ReadWithoutDescriptorForItsWaitLosesNothing) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  std::optional<UniqueFd> peer;
  {
    const Exempt mine;
    peer = connect_to(server.port());
  }
  ASSERT_TRUE(server.wait_connected(kPatience));
  const std::stop_source stop;
  {
    const Injection injection(kEventfd, 1, EMFILE);
    try {
      server.read_str(stop.get_token());
      FAIL();
    } catch (const ConnectionError& e) {
      FAIL() << "the connection is not lost: " << e.what();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), std::errc::too_many_files_open);
    }
  }
  EXPECT_TRUE(server.connected());
  {
    const Exempt mine;
    tcpip_tests::send_all(*peer, "a\r\n");
  }
  EXPECT_EQ(server.read_str(stop.get_token()), "a");
}

// The same for a write: what it could not send yet is still there.
TEST(FaultTest, WriteWithoutDescriptorForItsWaitLosesNothing) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  Client client({.host = "127.0.0.1", .port = server.port()});
  client.start(kPatience);
  ASSERT_TRUE(server.wait_connected(kPatience));
  const std::string large(32 * 1024 * 1024, 'a');  // more than the kernel takes
  {
    const Injection injection(kEventfd, 1, EMFILE);
    try {
      client.write(large, kPatience);
      FAIL();
    } catch (const ConnectionError& e) {
      FAIL() << "the connection is not lost: " << e.what();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), std::errc::too_many_files_open);
    }
  }
  EXPECT_TRUE(client.connected());
  std::jthread draining([&] { client.drain(kPatience); });
  EXPECT_TRUE(server.read_exactly(large.size(), kPatience) == large);
}

TEST(FaultTest, ConnectWithoutDescriptorForItsWaitSaysSo) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  for (const auto& [kind, error] :
       {std::pair{kEventfd, EMFILE}, std::pair{kPoll, ENOMEM}}) {
    Client client({.host = "127.0.0.1", .port = listener.port});
    const Injection injection(kind, 1, error);
    try {
      client.start(kPatience);
      FAIL();
    } catch (const ConnectionError& e) {
      FAIL() << "no connection is lost: " << e.what();
    } catch (const Error& e) {
      EXPECT_EQ(e.code().value(), error) << e.what();
    }
  }
}

// A heartbeat may be the first to find out that the peer has gone; what the
// peer said before can still be read.
TEST(FaultTest, HeartbeatThatCannotBeSentLosesNothingOfWhatCame) {
  const HangGuard guard;
  OneClientServer server(
      {.host = "127.0.0.1", .heartbeats = {.send = true, .interval = 1ms}});
  server.start();
  const Exempt mine;
  UniqueFd peer = connect_to(server.port());
  ASSERT_TRUE(server.wait_connected(kPatience));
  tcpip_tests::send_all(peer, "one\r\n");
  const std::optional<int> accepted =
      tcpip_tests::socket_connected_to(tcpip_tests::local_port(peer.get()));
  ASSERT_TRUE(accepted.has_value());
  tcpip_tests::await_receivable(*accepted, 5);
  {
    const Injection injection(kSend, 1, EPIPE);
    ASSERT_TRUE(eventually([] { return faults.injected == 1; }));
  }
  EXPECT_EQ(server.read_str(kPatience), "one");
  peer.reset();
  EXPECT_THROW(server.read_str(kPatience), ConnectionError);
  EXPECT_FALSE(server.connected());
}

// R9, without strace.
TEST(AuditTest, EverySendIsWithoutSignalAndEveryDescriptorIsBornCloexec) {
  const HangGuard guard;
  faults.sends = 0;
  faults.sends_that_may_signal = 0;
  faults.made = 0;
  faults.made_without_cloexec = 0;
  faults.writes_to_sockets = 0;
  EXPECT_EQ(live(ConnectionEvents(), ConnectionEvents()), "");
  // Large ones, in pieces, to a peer that has gone.
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  Client client({.host = "127.0.0.1", .port = server.port()});
  client.start(kPatience);
  const std::string large(100'000, 'a');
  client.write_lines({large, large}, kPatience);
  client.write(large, kPatience);
  ASSERT_TRUE(server.wait_connected(kPatience));
  EXPECT_EQ(server.read_exactly(300'000, kPatience).size(), 300'000u);
  EXPECT_GE(faults.sends, 4);
  EXPECT_EQ(faults.sends_that_may_signal, 0);
  EXPECT_GE(faults.made, 8);
  EXPECT_EQ(faults.made_without_cloexec, 0);
  EXPECT_EQ(faults.writes_to_sockets, 0);
}

}  // namespace
}  // namespace tcpip
