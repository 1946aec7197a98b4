#include "tcpip/realtime.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/callback_thread.h"
#include "tcpip/client.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/leak_guard.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/waiting_thread.h"

namespace tcpip {
namespace {

using tcpip_testing::ConnectionEvents;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;

// One that no machine of these tests has.
constexpr int kNoCpu = CPU_SETSIZE - 1;

struct Scheduling {
  int policy = -1;
  int priority = -1;
  std::vector<int> cpus = {};
  bool operator==(const Scheduling&) const = default;
};

Scheduling scheduling() {
  Scheduling result;
  result.policy = ::sched_getscheduler(0);
  sched_param parameters{};
  ::sched_getparam(0, &parameters);
  result.priority = parameters.sched_priority;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  ::sched_getaffinity(0, sizeof cpus, &cpus);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &cpus)) {
      result.cpus.push_back(cpu);
    }
  }
  return result;
}

// What the thread of a CallbackThread with that hook finds.
Scheduling with_hook(ThreadStartHook hook) {
  CallbackThread thread({.thread_start_hook = std::move(hook)});
  std::promise<Scheduling> found;
  thread.queue().post([&] { found.set_value(scheduling()); });
  return tcpip_tests::get(found.get_future());
}

bool may_be_real_time() {
  bool may = false;
  std::jthread([&] {
    sched_param parameters{};
    parameters.sched_priority = 3;
    may = ::sched_setscheduler(0, SCHED_FIFO, &parameters) == 0;
  }).join();
  return may;
}

// --- What realtime() refuses ---

TEST(RealtimeTest, RefusesAPriorityThatThePolicyDoesNotHave) {
  using enum SchedulingPolicy;
  for (const int priority : {-1, 0, 100}) {
    EXPECT_THROW((void)realtime({.priority = priority}), std::invalid_argument);
    EXPECT_THROW((void)realtime({.priority = priority, .policy = kRoundRobin}),
                 std::invalid_argument);
  }
  EXPECT_THROW((void)realtime({.priority = 1, .policy = kOther}),
               std::invalid_argument);
  EXPECT_THROW((void)realtime({.policy = static_cast<SchedulingPolicy>(9)}),
               std::invalid_argument);
  for (const int priority : {1, 99}) {
    EXPECT_NO_THROW((void)realtime({.priority = priority}));
  }
}

TEST(RealtimeTest, RefusesACpuThatThereCannotBe) {
  for (const int cpu : {-1, CPU_SETSIZE}) {
    EXPECT_THROW((void)realtime({.cpus = {0, cpu}}), std::invalid_argument);
  }
  EXPECT_NO_THROW((void)realtime({.cpus = {0, kNoCpu}}));
}

// --- What it sets ---

TEST(RealtimeTest, SetsTheCpus) {
  const std::vector<int> all = scheduling().cpus;
  for (const int cpu : all) {
    const Scheduling found = with_hook(
        realtime({.policy = SchedulingPolicy::kOther, .cpus = {cpu}}));
    EXPECT_EQ(found, (Scheduling{SCHED_OTHER, 0, {cpu}}));
  }
  EXPECT_EQ(scheduling().cpus, all) << "of this thread";
}

TEST(RealtimeTest, SetsPolicyAndPriority) {
  if (!may_be_real_time()) {
    GTEST_SKIP() << "this process may not have real-time threads";
  }
  const Scheduling mine = scheduling();
  EXPECT_EQ(with_hook(realtime({.priority = 5})),
            (Scheduling{SCHED_FIFO, 5, mine.cpus}));
  EXPECT_EQ(with_hook(realtime({})), (Scheduling{SCHED_FIFO, 1, mine.cpus}));
  EXPECT_EQ(with_hook(realtime({.priority = 2,
                                .policy = SchedulingPolicy::kRoundRobin,
                                .cpus = {mine.cpus.back()}})),
            (Scheduling{SCHED_RR, 2, {mine.cpus.back()}}));
  EXPECT_EQ(scheduling(), mine);
}

TEST(RealtimeTest, AThreadOfARealTimeThreadCanBeAnOrdinaryOne) {
  if (!may_be_real_time()) {
    GTEST_SKIP() << "this process may not have real-time threads";
  }
  std::jthread([] {
    sched_param parameters{};
    parameters.sched_priority = 3;
    ASSERT_EQ(::sched_setscheduler(0, SCHED_RR, &parameters), 0);
    EXPECT_EQ(with_hook({}).policy, SCHED_RR) << "inherited";
    const Scheduling found =
        with_hook(realtime({.policy = SchedulingPolicy::kOther}));
    EXPECT_EQ(found.policy, SCHED_OTHER);
    EXPECT_EQ(found.priority, 0);
  }).join();
}

TEST(RealtimeTest, LeavesThreadsOfOtherRolesAlone) {
  const Scheduling mine = scheduling();
  const ThreadStartHook hook =
      realtime({.policy = SchedulingPolicy::kOther,
                .cpus = {mine.cpus.back()},
                .roles = {ThreadRole::kReader, ThreadRole::kMonitor}});
  std::jthread([&] {
    hook(ThreadRole::kAccept);
    hook(ThreadRole::kDispatch);
    EXPECT_EQ(scheduling(), mine);
    hook(ThreadRole::kMonitor);
    EXPECT_EQ(scheduling().cpus, std::vector<int>{mine.cpus.back()});
  }).join();
}

// --- What the kernel refuses ---

// start() of a server with all the threads that there are.
void start_server(ThreadStartHook hook, int* port = nullptr) {
  const ConnectionEvents events;
  OneClientReadLoopServer server(
      {.connect_callback = events.callback(),
       .thread_start_hook = std::move(hook)},
      [](Connection& client, std::stop_token stop) { client.read_str(stop); });
  try {
    server.start(kPatience);
  } catch (...) {
    if (port != nullptr) *port = server.port();
    EXPECT_TRUE(server.wait_done(Wait::none())) << "it is closed";
    EXPECT_THROW(server.start(), std::logic_error);
    throw;
  }
}

TEST(RealtimeRefusalTest, StartOfAServerThrowsItAndLeavesNothing) {
  const HangGuard guard;
  const int before = tcpip_testing::count_threads();
  for (const ThreadRole role :
       {ThreadRole::kDispatch, ThreadRole::kReader, ThreadRole::kAccept}) {
    int port = 0;
    try {
      start_server(realtime({.cpus = {kNoCpu}, .roles = {role}}), &port);
      ADD_FAILURE() << to_string(role);
    } catch (const ThreadStartError& e) {
      EXPECT_EQ(e.code(), std::errc::invalid_argument);
      EXPECT_EQ(e.operation(), "sched_setaffinity");
      EXPECT_NE(std::string_view(e.what()).find(to_string(role)),
                std::string_view::npos)
          << e.what();
    }
    EXPECT_THROW(tcpip_tests::connect_to(port), std::system_error)
        << "nobody listens";
    // A joined thread may be listed for a moment.
    EXPECT_TRUE(tcpip_tests::eventually(
        [&] { return tcpip_testing::count_threads() == before; }));
  }
}

TEST(RealtimeRefusalTest, StartOfAClientThrowsItAndEndsTheConnection) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  for (const ThreadRole role : {ThreadRole::kDispatch, ThreadRole::kMonitor}) {
    const ConnectionEvents events;
    Client client(
        {.host = "127.0.0.1",
         .port = listener.port,
         .connect_callback = events.callback(),
         .thread_start_hook = realtime({.cpus = {kNoCpu}, .roles = {role}})});
    EXPECT_THROW(client.start(kPatience), ThreadStartError) << to_string(role);
    EXPECT_TRUE(client.wait_done(Wait::none()));
    EXPECT_FALSE(client.connected());
    const UniqueFd peer = tcpip_tests::accept_one(listener);
    EXPECT_EQ(tcpip_tests::recv_until_eof(peer), "");
    EXPECT_EQ(events.size(), 0u) << events.text();
  }
}

TEST(RealtimeRefusalTest, ACallbackThreadIsNotMade) {
  EXPECT_THROW(
      CallbackThread({.thread_start_hook = realtime({.cpus = {kNoCpu}})}),
      ThreadStartError);
}

// The kernel leaves out the CPU that there is not, and says nothing.
TEST(RealtimeRefusalTest, SomeOfTheCpusAreNotEnough) {
  EXPECT_THROW(
      start_server(realtime({.policy = SchedulingPolicy::kOther,
                             .cpus = {scheduling().cpus.front(), kNoCpu}})),
      ThreadStartError);
}

// Ends the process: with 0 if all is as it should be.
[[noreturn]] void start_without_privileges() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_RTPRIO, &none);
  if (may_be_real_time() && ::setuid(65534) != 0) std::_Exit(2);
  if (may_be_real_time()) std::_Exit(3);
  try {
    start_server(realtime({.priority = 80}));
  } catch (const ThreadStartError& e) {
    std::fprintf(stderr, "%s\n", e.what());
    std::_Exit(e.code() == std::errc::operation_not_permitted &&
                       e.operation() == "sched_setscheduler"
                   ? 0
                   : 4);
  }
  std::_Exit(5);
}

TEST(RealtimeRefusalTest, APriorityWithoutPrivilegesIsRefusedWithAHint) {
  EXPECT_EXIT(start_without_privileges(), testing::ExitedWithCode(0),
              "sched_setscheduler.*SCHED_FIFO with priority 80 for the .* "
              "thread.*CAP_SYS_NICE.*RLIMIT_RTPRIO of 80");
}

}  // namespace
}  // namespace tcpip
