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
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using internal::EventOwner;
using tcpip_testing::kPatience;
using tcpip_testing::LogRecorder;
using Ints = std::vector<int>;

template <class Predicate>
[[nodiscard]] bool eventually(Predicate predicate) {
  const Deadline deadline = Deadline::after(kPatience);
  while (!predicate()) {
    if (deadline.has_passed()) return false;
    std::this_thread::yield();
  }
  return true;
}

template <class Result>
Result get(std::future<Result> future) {
  if (future.wait_for(kPatience) != std::future_status::ready) {
    // Its thread hangs, and joining it would hang this one too.
    std::fputs("a thread of the test hangs\n", stderr);
    std::abort();
  }
  return future.get();
}

// A thread that the test can see waiting.
class Worker {
 public:
  explicit Worker(std::function<void()> work) {
    std::packaged_task<void()> task(std::move(work));
    result_ = task.get_future();
    thread_ = std::jthread([this, task = std::move(task)]() mutable {
      id_ = ::gettid();
      task();
    });
  }

  // Waits until the thread sleeps in the kernel. False if it ended instead.
  [[nodiscard]] bool is_blocked() {
    bool blocked = false;
    EXPECT_TRUE(eventually([&] { return id_ != 0; }));
    EXPECT_TRUE(eventually([&] {
      blocked = state() == 'S';
      return blocked || result_.wait_for(std::chrono::seconds(0)) ==
                            std::future_status::ready;
    }));
    return blocked;
  }

  // Waits for the end of the work; throws what it threw.
  void join() { get(std::move(result_)); }

 private:
  char state() const {
    std::ifstream stat("/proc/self/task/" + std::to_string(id_) + "/stat");
    std::string text;
    std::getline(stat, text);
    const std::size_t name_end = text.rfind(") ");
    return name_end == std::string::npos ? '?' : text[name_end + 2];
  }

  std::atomic<pid_t> id_{0};
  std::future<void> result_;
  std::jthread thread_;
};

// Calls a function when the last copy of it goes, as the destructor of what a
// callback captured would.
std::shared_ptr<void> on_destruction(std::function<void()> function) {
  return {nullptr, [function = std::move(function)](void*) { function(); }};
}

std::function<void()> append(Ints& to, int value) {
  return [&to, value] { to.push_back(value); };
}

// A callback that waits, once it has begun, until the test lets it end.
class Gate {
 public:
  std::function<void()> callback() {
    return [this] {
      begun_.set_value();
      get(open_.get_future());
    };
  }
  void wait_begun() { get(begun_.get_future()); }
  void open() { open_.set_value(); }

 private:
  std::promise<void> begun_;
  std::promise<void> open_;
};

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
  owner.post_event(append(ran, 2));
  gate.wait_begun();
  Worker closer([&] { thread.close(); });
  EXPECT_TRUE(closer.is_blocked());
  EXPECT_FALSE(thread.queue().post([] { FAIL() << "posted after close()"; }));
  gate.open();
  closer.join();
  EXPECT_EQ(ran, (Ints{1, 2}));
  EXPECT_FALSE(thread.queue().post([] {}));
  EXPECT_THROW(thread.queue().post_wait([] {}), CancelledError);
  bool dropped = false;
  owner.post_event([keep = on_destruction([&] { dropped = true; })] {});
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
  Worker poster([&] { thread.queue().post_wait([] {}); });
  ASSERT_TRUE(poster.is_blocked());
  Worker closer([&] { thread.close(); });
  EXPECT_THROW(poster.join(), CancelledError);
  gate.open();
  closer.join();
}

TEST(CallbackThreadTest, CloseFromSeveralThreadsReturnsAfterTheEnd) {
  CallbackThread thread;
  Gate gate;
  thread.queue().post(gate.callback());
  gate.wait_begun();
  Worker first([&] { thread.close(); });
  Worker second([&] { thread.close(); });
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
  ASSERT_TRUE(eventually([&] { return ran.load(); }));
  thread.close();  // joins
}

TEST(CallbackThreadTest, CloseInsideACallbackWhileAnotherThreadCloses) {
  CallbackThread thread;
  Gate gate;
  thread.queue().post(gate.callback());
  thread.queue().post([&] { thread.close(); });
  thread.queue().post([] { FAIL() << "ran after close()"; });
  gate.wait_begun();
  Worker other([&] { thread.close(); });
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
    ASSERT_TRUE(eventually([&] { return held.expired(); }));
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
  EXPECT_TRUE(eventually([&] { return held.expired(); }));
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
  owner.post_event(append(ran, 1));
  gate.open();
  get(retired.get_future());
  EXPECT_EQ(ran, (Ints{1}));
}

// ---- Closing from strange places

TEST(CallbackThreadTest, StartHookMayCloseIt) {
  std::atomic<CallbackThread*> self{nullptr};
  std::promise<void> closed;
  CallbackThread thread({.thread_start_hook = [&](ThreadRole) {
    EXPECT_TRUE(eventually([&] { return self != nullptr; }));
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
        EXPECT_TRUE(eventually([&] { return inside == 2; }));
        other.close();
        ++returned;
      };
    };
    left.queue().post(close(right));
    right.queue().post(close(left));
    ASSERT_TRUE(eventually([&] { return returned == 2; }));
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
        EXPECT_TRUE(eventually([&] { return inside == 2; }));
        other.reset();
        ++returned;
      };
    };
    // Either may be destroyed as soon as both have begun.
    CallbackQueue& left_queue = left->queue();
    CallbackQueue& right_queue = right->queue();
    left_queue.post(destroy(right));
    right_queue.post(destroy(left));
    ASSERT_TRUE(eventually([&] { return returned == 2; }));
    ASSERT_TRUE(eventually([&] { return held.expired(); }));
  }
}

TEST(CallbackThreadTest, NothingRunsAfterACloseThatMayNotWait) {
  // `left` waits for `right`, whose callback closes `left`.
  CallbackThread left;
  CallbackThread right;
  std::atomic<pid_t> left_id{0};
  std::promise<void> done;
  right.queue().post([&] {
    EXPECT_TRUE(eventually([&] {
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
