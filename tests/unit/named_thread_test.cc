#include "tcpip/base/named_thread.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/log.h"
#include "tests/support/wait_until.h"

namespace tcpip::internal {
namespace {

std::string this_thread_name() {
  std::array<char, 16> name{};
  ::pthread_getname_np(::pthread_self(), name.data(), name.size());
  return name.data();
}

// The signals of 1...64 that this thread does not block, of those that can be.
std::vector<int> unblocked_signals() {
  sigset_t mask;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  std::vector<int> result;
  for (int number = 1; number <= SIGRTMAX; ++number) {
    const bool reserved = number == SIGKILL || number == SIGSTOP ||
                          (number >= 32 && number < SIGRTMIN);
    if (!reserved && ::sigismember(&mask, number) == 0) {
      result.push_back(number);
    }
  }
  return result;
}

Log collecting_log(std::vector<std::string>& lines) {
  return Log([&lines](LogLevel level, std::string_view,
                      std::string_view message) {
    lines.push_back(std::string(to_string(level)) + " " + std::string(message));
  });
}

TEST(StartThread, GivesTheThreadItsName) {
  std::string name;
  start_thread({.name = "tcpip-accept"}, [&](const std::stop_token&) {
    name = this_thread_name();
  }).join();
  EXPECT_EQ(name, "tcpip-accept");
}

TEST(StartThread, CutsALongName) {
  std::string name;
  start_thread({.name = "a-name-that-is-too-long"},
               [&](const std::stop_token&) { name = this_thread_name(); })
      .join();
  EXPECT_EQ(name, "a-name-that-is-");
}

TEST(StartThread, BlocksAllSignalsThereButNotHere) {
  const std::vector<int> before = unblocked_signals();
  std::vector<int> in_hook{-1};
  std::vector<int> in_work{-1};
  start_thread(
      {.name = {}, .hook = [&](ThreadRole) { in_hook = unblocked_signals(); }},
      [&](const std::stop_token&) { in_work = unblocked_signals(); })
      .join();
  EXPECT_EQ(in_hook, std::vector<int>());
  EXPECT_EQ(in_work, std::vector<int>());
  EXPECT_EQ(unblocked_signals(), before);
  EXPECT_FALSE(before.empty());
}

TEST(StartThread, RunsTheHookFirstInThatThread) {
  std::vector<std::string> calls;
  std::thread::id hook_thread;
  std::thread::id work_thread;
  start_thread({.role = ThreadRole::kReader,
                .name = "reader",
                .hook =
                    [&](ThreadRole role) {
                      calls.push_back("hook " + std::string(to_string(role)) +
                                      " " + this_thread_name());
                      hook_thread = std::this_thread::get_id();
                    }},
               [&](const std::stop_token&) {
                 calls.push_back("work");
                 work_thread = std::this_thread::get_id();
               })
      .join();
  EXPECT_EQ(calls, (std::vector<std::string>{"hook reader reader", "work"}));
  EXPECT_EQ(hook_thread, work_thread);
  EXPECT_NE(work_thread, std::this_thread::get_id());
}

TEST(StartThread, LogsAnExceptionOfTheHookAndGoesOn) {
  std::vector<std::string> lines;
  bool worked = false;
  start_thread({.name = {},
                .hook = [](ThreadRole) { throw std::runtime_error("no RT"); },
                .log = collecting_log(lines)},
               [&](const std::stop_token&) { worked = true; })
      .join();
  EXPECT_TRUE(worked);
  EXPECT_EQ(lines,
            std::vector<std::string>{"ERROR thread start hook failed: no RT"});
}

TEST(StartThread, LogsAnExceptionOfTheWork) {
  std::vector<std::string> lines;
  const Log log = collecting_log(lines);
  start_thread({.name = {}, .hook = {}, .log = log},
               [](const std::stop_token&) { throw std::runtime_error("bad"); })
      .join();
  start_thread({.name = {}, .hook = {}, .log = log},
               [](const std::stop_token&) { throw 42; })
      .join();
  EXPECT_EQ(lines, (std::vector<std::string>{
                       "ERROR thread failed: bad",
                       "ERROR thread failed with an unknown exception"}));
}

TEST(StartThread, PassesTheThreadsStopToken) {
  std::atomic<bool> stopped{false};
  {
    const std::jthread thread = start_thread({}, [&](std::stop_token stop) {
      stopped = tcpip_tests::wait_until([&] { return stop.stop_requested(); });
    });
  }
  EXPECT_TRUE(stopped);
}

TEST(StartThread, DestroysTheWorkInItsThread) {
  struct Owned {
    explicit Owned(std::thread::id& t) : thread(t) {}
    ~Owned() { thread = std::this_thread::get_id(); }
    std::thread::id& thread;
  };
  std::thread::id destroyed_in;
  std::thread::id worked_in;
  auto owned = std::make_shared<Owned>(destroyed_in);
  std::jthread thread = start_thread(
      {}, [owned = std::move(owned), &worked_in](const std::stop_token&) {
        worked_in = std::this_thread::get_id();
      });
  thread.join();
  EXPECT_EQ(destroyed_in, worked_in);
}

TEST(JoinOrDetach, JoinsAnotherThread) {
  std::atomic<bool> done{false};
  std::jthread thread = start_thread({}, [&](std::stop_token stop) {
    (void)tcpip_tests::wait_until([&] { return stop.stop_requested(); });
    done = true;
  });
  thread.request_stop();
  join_or_detach(thread);
  EXPECT_TRUE(done);
  EXPECT_FALSE(thread.joinable());
}

TEST(JoinOrDetach, IgnoresWhatIsNoThread) {
  std::jthread none;
  join_or_detach(none);
  EXPECT_FALSE(none.joinable());
}

TEST(JoinOrDetach, LetsItsOwnThreadGo) {
  // An object that is destroyed by the thread which it owns.
  struct Owner {
    ~Owner() { join_or_detach(thread); }
    std::jthread thread;
  };
  auto owner = std::make_unique<Owner>();
  std::atomic<bool> handed_over{false};
  std::atomic<bool> gone{false};
  owner->thread = start_thread({}, [&](const std::stop_token&) {
    EXPECT_TRUE(tcpip_tests::wait_until([&] { return handed_over.load(); }));
    owner.reset();
    gone = true;
  });
  handed_over = true;
  EXPECT_TRUE(tcpip_tests::wait_until([&] { return gone.load(); }));
  EXPECT_EQ(owner, nullptr);
}

TEST(ThreadRole, HasNames) {
  EXPECT_EQ(to_string(ThreadRole::kAccept), "accept");
  EXPECT_EQ(to_string(ThreadRole::kReader), "reader");
  EXPECT_EQ(to_string(ThreadRole::kMonitor), "monitor");
  EXPECT_EQ(to_string(ThreadRole::kDispatch), "dispatch");
  EXPECT_EQ(to_string(ThreadRole::kResolve), "resolve");
}

}  // namespace
}  // namespace tcpip::internal
