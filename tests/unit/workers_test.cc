#include "tcpip/base/workers.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/log.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/blocked_call.h"
#include "tests/support/wait_until.h"
#include "tests/support/waiting_thread.h"

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
  start_thread({.name = "tcpip-accept"}, [&] {
    name = this_thread_name();
  }).join();
  EXPECT_EQ(name, "tcpip-accept");
}

TEST(StartThread, CutsALongName) {
  std::string name;
  start_thread({.name = "a-name-that-is-too-long"}, [&] {
    name = this_thread_name();
  }).join();
  EXPECT_EQ(name, "a-name-that-is-");
}

// A signal that a thread causes itself would else end the process without its
// crash handler.
TEST(StartThread, BlocksTheSignalsThatOthersSendThereButNotHere) {
  const std::vector<int> caused{SIGILL, SIGTRAP, SIGABRT, SIGBUS,
                                SIGFPE, SIGSEGV, SIGSYS};
  const std::vector<int> before = unblocked_signals();
  std::vector<int> in_hook{-1};
  std::vector<int> in_work{-1};
  start_thread(
      {.name = {}, .hook = [&](ThreadRole) { in_hook = unblocked_signals(); }},
      [&] { in_work = unblocked_signals(); })
      .join();
  EXPECT_EQ(in_hook, caused);
  EXPECT_EQ(in_work, caused);
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
               [&] {
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
               [&] { worked = true; })
      .join();
  EXPECT_TRUE(worked);
  EXPECT_EQ(lines,
            std::vector<std::string>{"ERROR thread start hook failed: no RT"});
}

TEST(StartThread, LogsAnExceptionOfTheWork) {
  std::vector<std::string> lines;
  const Log log = collecting_log(lines);
  start_thread({.name = {}, .hook = {}, .log = log}, [] {
    throw std::runtime_error("bad");
  }).join();
  start_thread({.name = {}, .hook = {}, .log = log}, [] { throw 42; }).join();
  EXPECT_EQ(lines, (std::vector<std::string>{
                       "ERROR thread failed: bad",
                       "ERROR thread failed with an unknown exception"}));
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
  std::jthread thread =
      start_thread({}, [owned = std::move(owned), &worked_in] {
        worked_in = std::this_thread::get_id();
      });
  thread.join();
  EXPECT_EQ(destroyed_in, worked_in);
}

// --- Workers ---

using tcpip_testing::LogRecorder;
using tcpip_tests::BlockedCall;

// A place where a thread waits until the test lets it go on.
class Gate {
 public:
  void pass() {
    ++arrived_;
    EXPECT_TRUE(tcpip_tests::wait_until([this] { return open_.load(); }));
  }
  bool await(int threads = 1) {
    return tcpip_tests::wait_until([&] { return arrived_ == threads; });
  }
  void open() { open_ = true; }

 private:
  std::atomic<int> arrived_{0};
  std::atomic<bool> open_{false};
};

TEST(Workers, JoinWaitsForAllThreads) {
  Workers workers;
  std::atomic<int> ended{0};
  Gate gate;
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(workers.start({}, [&] {
      gate.pass();
      ++ended;
    }));
  }
  EXPECT_FALSE(workers.all_ended());
  ASSERT_TRUE(gate.await(3));
  BlockedCall joiner([&] { return workers.join(); });
  EXPECT_TRUE(joiner.await_blocked());
  gate.open();
  EXPECT_TRUE(joiner.get());
  EXPECT_EQ(ended, 3);
  EXPECT_TRUE(workers.all_ended());
}

TEST(Workers, JoinOfNoThreadsReturns) {
  Workers workers;
  EXPECT_TRUE(workers.join());
  EXPECT_TRUE(workers.all_ended());
}

TEST(Workers, EveryoneWhoJoinsWaitsUntilTheThreadHasEnded) {
  Workers workers;
  std::atomic<bool> ended{false};
  Gate gate;
  workers.start({}, [&] {
    gate.pass();
    ended = true;
  });
  const auto join = [&] {
    workers.join();
    return ended.load();
  };
  BlockedCall first(join);
  ASSERT_TRUE(first.await_blocked());
  BlockedCall second(join);
  EXPECT_TRUE(second.await_blocked());
  gate.open();
  EXPECT_TRUE(first.get());
  EXPECT_TRUE(second.get());
}

TEST(Workers, RefusesMoreThreads) {
  Workers workers;
  workers.start({}, [] {});
  workers.refuse();
  EXPECT_TRUE(workers.join());
  EXPECT_FALSE(workers.start({}, [] { ADD_FAILURE() << "after refuse()"; }));
  workers.refuse();
  EXPECT_TRUE(workers.join());
}

TEST(Workers, DestructorJoins) {
  std::atomic<bool> ended{false};
  Gate gate;
  std::optional<Workers> workers(std::in_place);
  workers->start({}, [&] {
    gate.pass();
    ended = true;
  });
  BlockedCall destructor([&] {
    workers.reset();
    return ended.load();
  });
  EXPECT_TRUE(destructor.await_blocked());
  gate.open();
  EXPECT_TRUE(destructor.get());
}

TEST(Workers, KnowsItsThreadsFromTheHookOn) {
  Workers workers;
  Workers others;
  EXPECT_FALSE(workers.is_current_thread());
  workers.start(
      {.role = ThreadRole::kReader,
       .name = {},
       .hook =
           [&](ThreadRole) {
             EXPECT_TRUE(workers.is_current_thread());
             EXPECT_TRUE(workers.is_current_thread(ThreadRole::kReader));
           }},
      [&] {
        EXPECT_TRUE(workers.is_current_thread());
        EXPECT_TRUE(workers.is_current_thread(ThreadRole::kReader));
        EXPECT_FALSE(workers.is_current_thread(ThreadRole::kDispatch));
        EXPECT_FALSE(others.is_current_thread());
      });
  EXPECT_TRUE(workers.join());
}

TEST(Workers, ThreadWhoseWorkHasReturnedIsNoWorkerAnyMore) {
  std::atomic<bool> asked{false};
  Workers workers;
  workers.start({}, [keep = tcpip_tests::on_destruction([&] {
                       EXPECT_FALSE(workers.is_current_thread());
                       asked = true;
                     })] {});
  workers.join();
  EXPECT_TRUE(asked);
}

TEST(Workers, JoinInOneOfTheThreadsWaitsForTheOthersOnly) {
  Workers workers;
  Gate gate;
  std::atomic<bool> other_ended{false};
  workers.start({}, [&] {
    gate.pass();
    other_ended = true;
  });
  workers.start({}, [&] {
    gate.open();
    EXPECT_FALSE(workers.join());
    EXPECT_TRUE(other_ended);
  });
  EXPECT_TRUE(workers.join());
}

TEST(Workers, JoinInAHookReturns) {
  for (int round = 0; round < 100; ++round) {
    Workers workers;
    workers.start(
        {.name = {}, .hook = [&](ThreadRole) { EXPECT_FALSE(workers.join()); }},
        [] {});
    EXPECT_TRUE(workers.join());
  }
}

TEST(Workers, ThreadsThatJoinEachOtherEnd) {
  for (int round = 0; round < 200; ++round) {
    std::array<Workers, 3> objects;
    std::atomic<int> begun{0};
    for (std::size_t i = 0; i < 3; ++i) {
      objects[i].start({}, [&, i] {
        ++begun;
        EXPECT_TRUE(tcpip_tests::wait_until([&] { return begun == 3; }));
        objects[(i + 1) % 3].join();
      });
    }
    for (Workers& workers : objects) EXPECT_TRUE(workers.join());
  }
}

// The second one waits for the thread too, not for the first, and the thread
// waits for neither.
TEST(Workers, ThreadThatJoinsBothOfItsJoinersEnds) {
  for (int round = 0; round < 50; ++round) {
    Workers object;
    Workers joiners;
    Gate gate;
    std::array<std::atomic<pid_t>, 2> ids{};
    object.start({}, [&] {
      gate.pass();
      EXPECT_FALSE(joiners.join());
    });
    ASSERT_TRUE(gate.await());
    for (std::atomic<pid_t>& id : ids) {
      joiners.start({}, [&] {
        id = tcpip_tests::this_thread_id();
        EXPECT_TRUE(object.join());
      });
    }
    for (const std::atomic<pid_t>& id : ids) {
      ASSERT_TRUE(tcpip_tests::wait_until([&] {
        return id != 0 && tcpip_tests::is_blocked_in(id, {SYS_futex});
      }));
    }
    gate.open();
    EXPECT_TRUE(joiners.join());
  }
}

TEST(Workers, DestroyedInOneOfTheThreadsLetsItGo) {
  auto workers = std::make_unique<Workers>();
  Gate gate;
  std::atomic<bool> other_ended{false};
  std::atomic<bool> gone{false};
  auto token = std::make_shared<int>(0);
  const std::weak_ptr<int> held = token;
  workers->start({}, [&] {
    gate.pass();
    other_ended = true;
  });
  workers->start({}, [&, token = std::move(token)] {
    gate.pass();
    workers.reset();
    EXPECT_TRUE(other_ended);
    gone = true;
  });
  gate.open();
  EXPECT_TRUE(tcpip_tests::wait_until([&] { return gone.load(); }));
  EXPECT_TRUE(tcpip_tests::wait_until([&] { return held.expired(); }));
  EXPECT_EQ(workers, nullptr);
}

TEST(Workers, CallsOnEndOnceTheThreadHasEnded) {
  struct Told {
    std::atomic<int> count{0};
    std::atomic<bool> all_ended{false};
  } told;
  Workers* self = nullptr;
  Workers workers([&] {
    ++told.count;
    told.all_ended = self->all_ended();
  });
  self = &workers;
  const LogRecorder lines;
  workers.start({.name = {}, .hook = {}, .log = lines.log()},
                [] { throw std::runtime_error("bad"); });
  EXPECT_TRUE(workers.join());
  EXPECT_EQ(told.count, 1);
  EXPECT_TRUE(told.all_ended);
  EXPECT_EQ(lines.count("thread failed: bad"), 1u) << lines.text();
}

// Copies of the hook are the program's code: they may ask the object.
TEST(Workers, HoldsNoLockWhileTheHookIsCopied) {
  struct Hook {
    explicit Hook(Workers& w) : workers(&w) {}
    Hook(const Hook& other) : workers(other.workers) {
      workers->all_ended();
      workers->join();
    }
    void operator()(ThreadRole) const {}
    Workers* workers;
  };
  Workers workers;
  const ThreadOptions options{.name = {}, .hook = Hook(workers)};
  EXPECT_TRUE(workers.start(options, [] {}));
  EXPECT_TRUE(workers.join());
}

TEST(Workers, StartWaitsForARequiredHook) {
  Workers workers;
  for (int round = 0; round < 100; ++round) {
    std::atomic<bool> returned{false};
    const auto hook = [&](ThreadRole) {
      std::this_thread::yield();
      returned = true;
    };
    EXPECT_TRUE(workers.start({.name = {}, .hook = required(hook)}, [] {}));
    EXPECT_TRUE(returned);
    EXPECT_TRUE(workers.join());
  }
}

ThreadStartError refusal() {
  return {std::make_error_code(std::errc::operation_not_permitted), "hook"};
}

TEST(Workers, ARequiredHookMayRefuseItsThread) {
  const LogRecorder lines;
  std::atomic<int> ends{0};
  std::atomic<bool> worked{false};
  Workers workers([&] { ++ends; });
  EXPECT_TRUE(workers.start({}, [] {}));
  try {
    workers.start({.name = {},
                   .hook = required([](ThreadRole) { throw refusal(); }),
                   .log = lines.log()},
                  [&] { worked = true; });
    ADD_FAILURE();
  } catch (const ThreadStartError& e) {
    EXPECT_EQ(e.operation(), "hook");
    EXPECT_EQ(e.code(), std::errc::operation_not_permitted);
  }
  EXPECT_TRUE(workers.join());
  EXPECT_TRUE(workers.all_ended());
  EXPECT_FALSE(worked);
  EXPECT_EQ(ends, 2);
  EXPECT_EQ(lines.size(), 0u) << lines.text();
}

// The thread of the refused work has ended when start() throws.
TEST(Workers, NothingOfARefusedThreadIsLeft) {
  Workers workers;
  std::atomic<bool> destroyed{false};
  EXPECT_THROW(
      workers.start(
          {.name = {}, .hook = required([](ThreadRole) { throw refusal(); })},
          [keep = tcpip_tests::on_destruction([&] { destroyed = true; })] {}),
      ThreadStartError);
  EXPECT_TRUE(destroyed);
}

// Its other exceptions are logged, as those of every hook; and so is a refusal
// that nobody waits for.
TEST(Workers, OtherRefusalsAreLoggedAndTheThreadGoesOn) {
  const LogRecorder lines;
  std::atomic<int> worked{0};
  Workers workers;
  EXPECT_TRUE(workers.start({.name = {},
                             .hook = [](ThreadRole) { throw refusal(); },
                             .log = lines.log()},
                            [&] { ++worked; }));
  EXPECT_TRUE(workers.start(
      {.name = {},
       .hook = required([](ThreadRole) { throw std::runtime_error("no"); }),
       .log = lines.log()},
      [&] { ++worked; }));
  EXPECT_TRUE(workers.join());
  start_thread({.name = {},
                .hook = required([](ThreadRole) { throw refusal(); }),
                .log = lines.log()},
               [&] { ++worked; })
      .join();
  EXPECT_EQ(worked, 3);
  EXPECT_EQ(lines.count("thread start hook failed"), 3u) << lines.text();
}

TEST(Workers, AnEmptyHookCannotBeRequired) {
  EXPECT_THROW((void)required({}), std::invalid_argument);
}

// start() waits for the hook, which waits for the thread that is in start().
// Whoever is the second does not wait.
TEST(Workers, ARequiredHookThatWaitsForTheStartingThreadEnds) {
  const LogRecorder lines;
  int refused = 0;
  int logged = 0;
  for (int round = 0; round < 200; ++round) {
    std::atomic<bool> worked{false};
    std::atomic<bool> thrown{false};
    {
      Workers inner;
      Workers outer;
      outer.start({}, [&] {
        try {
          inner.start({.name = {},
                       .hook = required([&](ThreadRole) {
                         outer.join();
                         throw refusal();
                       }),
                       .log = lines.log()},
                      [&] { worked = true; });
        } catch (const ThreadStartError&) {
          thrown = true;
        }
      });
      outer.join();
      inner.join();
    }
    EXPECT_NE(worked, thrown);
    ++(thrown ? refused : logged);
  }
  EXPECT_EQ(lines.count("thread start hook failed"),
            static_cast<std::size_t>(logged));
  RecordProperty("refused", refused);
}

// A thread that has returned from its hook is not waited for any more: it may
// wait for the one that has started it.
TEST(Workers, AThreadMayWaitForTheOneThatHasStartedIt) {
  for (int round = 0; round < 200; ++round) {
    std::atomic<bool> ended{false};
    std::atomic<bool> waited{false};
    Workers inner;
    Workers outer;
    outer.start({}, [&] {
      inner.start({.name = {}, .hook = required([](ThreadRole) {})}, [&] {
        outer.join();
        waited = ended.load();
      });
      ended = true;
    });
    EXPECT_TRUE(outer.join());
    EXPECT_TRUE(inner.join());
    EXPECT_TRUE(waited);
  }
}

TEST(ThreadRole, HasNames) {
  EXPECT_EQ(to_string(ThreadRole::kAccept), "accept");
  EXPECT_EQ(to_string(ThreadRole::kReader), "reader");
  EXPECT_EQ(to_string(ThreadRole::kMonitor), "monitor");
  EXPECT_EQ(to_string(ThreadRole::kDispatch), "dispatch");
  EXPECT_EQ(to_string(ThreadRole::kSend), "send");
  EXPECT_EQ(to_string(ThreadRole::kPeriodic), "periodic");
  EXPECT_EQ(to_string(ThreadRole::kResolve), "resolve");
}

}  // namespace
}  // namespace tcpip::internal
