#include "tcpip/callback_thread.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/error.h"
#include "tcpip/testing/log_recorder.h"
#include "tcpip/testing/wait_until.h"
#include "tests/support/post_event.h"
#include "tests/support/wait_until.h"
#include "tests/support/waiting_thread.h"

namespace tcpip {
namespace {

using internal::EventOwner;
using tcpip_testing::kPatience;
using tcpip_testing::LogRecorder;
using tcpip_tests::append;
using tcpip_tests::Gate;
using tcpip_tests::get;
using tcpip_tests::Ints;
using tcpip_tests::on_destruction;
using tcpip_tests::post_event;
using tcpip_tests::soon;
using tcpip_tests::WaitingThread;

TEST(CallbackThreadTest, RunsCallbacksInOrderInItsThread) {
  Ints ran;
  std::promise<bool> is_current;
  CallbackThread thread;
  EXPECT_FALSE(thread.is_current_thread());
  thread.queue().post(append(ran, 1));
  thread.queue().post(append(ran, 2));
  thread.queue().post(
      [&] { is_current.set_value(thread.is_current_thread()); });
  EXPECT_TRUE(get(is_current.get_future()));
  EXPECT_EQ(ran, (Ints{1, 2}));
}

TEST(CallbackThreadTest, RefusesSizeZero) {
  EXPECT_THROW(CallbackThread({.max_size = 0}), std::invalid_argument);
}

TEST(CallbackThreadTest, HasNameAndBlocksSignalsAndCallsTheHookFirst) {
  struct Seen {
    std::string name;
    std::vector<int> unblocked;
    std::thread::id id;
  };
  const auto look = [] {
    Seen seen;
    std::array<char, 16> name{};
    ::pthread_getname_np(::pthread_self(), name.data(), name.size());
    seen.name = name.data();
    sigset_t blocked;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGUSR1, SIGUSR2,
                             SIGCHLD, SIGPIPE, SIGRTMAX}) {
      if (::sigismember(&blocked, number) != 1) {
        seen.unblocked.push_back(number);
      }
    }
    seen.id = std::this_thread::get_id();
    return seen;
  };
  std::optional<ThreadRole> role;
  Seen in_hook;
  std::promise<Seen> in_callback;
  CallbackThread thread(
      {.name = "tcpip-test", .thread_start_hook = [&](auto r) {
         role = r;
         in_hook = look();
       }});
  thread.queue().post([&] { in_callback.set_value(look()); });
  const Seen seen = get(in_callback.get_future());
  EXPECT_EQ(seen.name, "tcpip-test");
  EXPECT_EQ(seen.unblocked, Ints{});
  ASSERT_EQ(role, ThreadRole::kDispatch);
  EXPECT_EQ(in_hook.name, "tcpip-test");
  EXPECT_EQ(in_hook.unblocked, Ints{});
  EXPECT_EQ(in_hook.id, seen.id);
}

TEST(CallbackThreadTest, CloseRunsWhatIsQueuedAndRefusesMore) {
  CallbackThread thread;
  EventOwner owner(thread.queue());
  Ints ran;
  Gate gate;
  thread.queue().post(gate.callback());
  thread.queue().post(append(ran, 1));
  post_event(owner, append(ran, 2));
  gate.wait_begun();
  WaitingThread closer([&] { thread.close(); });
  EXPECT_TRUE(closer.is_blocked());
  EXPECT_FALSE(thread.queue().post([] { FAIL() << "posted after close()"; }));
  gate.open();
  closer.join();
  EXPECT_EQ(ran, (Ints{1, 2}));
  EXPECT_FALSE(thread.queue().post([] {}));
  EXPECT_THROW(thread.queue().post_wait([] {}), CancelledError);
  bool dropped = false;
  post_event(owner, [keep = on_destruction([&] { dropped = true; })] {});
  EXPECT_TRUE(dropped);
  EXPECT_FALSE(thread.queue().run_one());
  EXPECT_FALSE(thread.is_current_thread());
  thread.close();
}

TEST(CallbackThreadTest, CloseEndsAPostWaitThatWaits) {
  CallbackThread thread({.max_size = 1});
  Gate gate;
  thread.queue().post(gate.callback());
  gate.wait_begun();
  thread.queue().post([] {});
  WaitingThread poster([&] { thread.queue().post_wait([] {}); });
  ASSERT_TRUE(poster.is_blocked());
  WaitingThread closer([&] { thread.close(); });
  EXPECT_THROW(poster.join(), CancelledError);
  gate.open();
  closer.join();
}

TEST(CallbackThreadTest, CloseFromSeveralThreadsReturnsAfterTheEnd) {
  CallbackThread thread;
  Gate gate;
  thread.queue().post(gate.callback());
  gate.wait_begun();
  WaitingThread first([&] { thread.close(); });
  WaitingThread second([&] { thread.close(); });
  EXPECT_TRUE(first.is_blocked());
  EXPECT_TRUE(second.is_blocked());
  gate.open();
  first.join();
  second.join();
}

TEST(CallbackThreadTest, CloseInsideACallbackDropsTheRest) {
  CallbackThread thread;
  std::atomic<bool> ran{false};
  Gate gate;
  thread.queue().post(gate.callback());
  gate.wait_begun();
  thread.queue().post([&] {
    thread.close();
    thread.close();
    EXPECT_TRUE(thread.queue().empty());
    EXPECT_FALSE(thread.queue().post([] {}));
    ran = true;
  });
  thread.queue().post([] { FAIL() << "ran after close()"; });
  gate.open();
  ASSERT_TRUE(soon([&] { return ran.load(); }));
  thread.close();  // joins
}

TEST(CallbackThreadTest, CloseInsideACallbackWhileAnotherThreadCloses) {
  CallbackThread thread;
  Gate gate;
  thread.queue().post(gate.callback());
  thread.queue().post([&] { thread.close(); });
  thread.queue().post([] { FAIL() << "ran after close()"; });
  gate.wait_begun();
  WaitingThread other([&] { thread.close(); });
  EXPECT_TRUE(other.is_blocked());
  gate.open();
  other.join();
}

TEST(CallbackThreadTest, MayBeDestroyedInsideItsOwnCallback) {
  for (int round = 0; round < 300; ++round) {
    // Held by the sink: gone when the thread has let go of everything.
    auto token = std::make_shared<int>(0);
    const std::weak_ptr<int> held = token;
    auto thread = std::make_shared<CallbackThread>(CallbackThread::Options{
        .log = Log([token](LogLevel, std::string_view, std::string_view) {})});
    token = nullptr;
    Gate gate;
    std::promise<void> ran;
    CallbackQueue& queue = thread->queue();
    queue.post(gate.callback());
    gate.wait_begun();
    queue.post([&] {
      thread.reset();
      EXPECT_TRUE(queue.empty());  // lives until this callback returns
      ran.set_value();
    });
    queue.post([] { FAIL() << "ran after the destructor"; });
    gate.open();
    get(ran.get_future());
    ASSERT_TRUE(soon([&] { return held.expired(); }));
  }
}

TEST(CallbackThreadTest, MayBeDestroyedWithWhatACallbackHolds) {
  auto token = std::make_shared<int>(0);
  const std::weak_ptr<int> held = token;
  auto thread = std::make_shared<CallbackThread>(CallbackThread::Options{
      .log = Log([token](LogLevel, std::string_view, std::string_view) {})});
  token = nullptr;
  Gate gate;
  CallbackQueue& queue = thread->queue();
  queue.post(gate.callback());
  gate.wait_begun();
  queue.post([thread] {});
  thread.reset();
  gate.open();
  EXPECT_TRUE(soon([&] { return held.expired(); }));
}

TEST(CallbackThreadTest, ExceptionsOfCallbacksAreLoggedAndTheThreadGoesOn) {
  const LogRecorder lines;
  CallbackThread thread({.log = lines.log()});
  bool ran = false;
  thread.queue().post([] { throw std::runtime_error("broken"); });
  thread.queue().post([] { throw 7; });
  thread.queue().post([&] { ran = true; });
  thread.close();
  EXPECT_TRUE(ran);
  EXPECT_EQ(lines.text(),
            "callback failed: broken\ncallback failed: unknown exception\n");
  for (const tcpip_testing::LogLine& line : lines.values()) {
    EXPECT_EQ(line.level, LogLevel::kError);
  }
}

TEST(CallbackThreadTest, ExceptionAfterTheDestructorIsLogged) {
  const LogRecorder lines;
  auto thread = std::make_unique<CallbackThread>(
      CallbackThread::Options{.log = lines.log()});
  thread->queue().post([&] {
    thread.reset();
    throw std::runtime_error("late");
  });
  EXPECT_TRUE(lines.wait_for("late"));
}

TEST(CallbackThreadTest, ServerRetiredInACallbackOfTheThreadRunsTheRest) {
  Ints ran;
  Gate gate;
  std::promise<void> retired;
  CallbackThread thread;
  EventOwner owner(thread.queue());
  thread.queue().post(gate.callback());
  gate.wait_begun();
  thread.queue().post([&] {
    owner.retire();
    retired.set_value();
  });
  post_event(owner, append(ran, 1));
  gate.open();
  get(retired.get_future());
  EXPECT_EQ(ran, (Ints{1}));
}

// ---- Closing from strange places

TEST(CallbackThreadTest, StartHookMayCloseIt) {
  std::atomic<CallbackThread*> self{nullptr};
  std::promise<void> closed;
  CallbackThread thread({.thread_start_hook = [&](ThreadRole) {
    EXPECT_TRUE(soon([&] { return self != nullptr; }));
    EXPECT_TRUE(self.load()->is_current_thread());
    self.load()->close();
    closed.set_value();
  }});
  thread.queue().post([] { FAIL() << "ran after close()"; });
  self = &thread;
  get(closed.get_future());
  thread.close();
  EXPECT_TRUE(thread.queue().empty());
}

TEST(CallbackThreadTest, TwoThatCloseEachOtherEnd) {
  for (int round = 0; round < 100; ++round) {
    CallbackThread left;
    CallbackThread right;
    std::atomic<int> inside{0};
    std::atomic<int> returned{0};
    const auto close = [&](CallbackThread& other) {
      return [&] {
        ++inside;
        EXPECT_TRUE(soon([&] { return inside == 2; }));
        other.close();
        ++returned;
      };
    };
    left.queue().post(close(right));
    right.queue().post(close(left));
    ASSERT_TRUE(soon([&] { return returned == 2; }));
  }
}

TEST(CallbackThreadTest, TwoThatDestroyEachOtherEnd) {
  for (int round = 0; round < 100; ++round) {
    // Held by the sinks: gone when both threads have let go of everything.
    auto token = std::make_shared<int>(0);
    const std::weak_ptr<int> held = token;
    const auto make = [&] {
      return std::make_unique<CallbackThread>(CallbackThread::Options{
          .log =
              Log([token](LogLevel, std::string_view, std::string_view) {})});
    };
    auto left = make();
    auto right = make();
    token = nullptr;
    std::atomic<int> inside{0};
    std::atomic<int> returned{0};
    const auto destroy = [&](std::unique_ptr<CallbackThread>& other) {
      return [&] {
        ++inside;
        EXPECT_TRUE(soon([&] { return inside == 2; }));
        other.reset();
        ++returned;
      };
    };
    // Either may be destroyed as soon as both have begun.
    CallbackQueue& left_queue = left->queue();
    CallbackQueue& right_queue = right->queue();
    left_queue.post(destroy(right));
    right_queue.post(destroy(left));
    ASSERT_TRUE(soon([&] { return returned == 2; }));
    ASSERT_TRUE(soon([&] { return held.expired(); }));
  }
}

TEST(CallbackThreadTest, NothingRunsAfterACloseThatMayNotWait) {
  // `left` waits for `right`, whose callback closes `left`.
  CallbackThread left;
  CallbackThread right;
  std::atomic<pid_t> left_id{0};
  std::promise<void> done;
  right.queue().post([&] {
    EXPECT_TRUE(soon([&] {
      return left_id != 0 && tcpip_tests::is_blocked_in(left_id, {SYS_futex});
    }));
    left.close();
    EXPECT_TRUE(left.queue().empty());
    done.set_value();
  });
  left.queue().post([&] {
    left_id = tcpip_tests::this_thread_id();
    right.close();
  });
  left.queue().post([] { FAIL() << "ran after close()"; });
  get(done.get_future());
  left.close();
}

}  // namespace
}  // namespace tcpip
