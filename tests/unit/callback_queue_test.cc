#include "tcpip/callback_queue.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"

namespace tcpip {
namespace {

using internal::CallbackOwner;
using Ints = std::vector<int>;

// Far beyond what anything here takes on a machine that is busy.
constexpr std::chrono::seconds kLong{60};

template <class Predicate>
[[nodiscard]] bool eventually(Predicate predicate) {
  const Deadline deadline = Deadline::after(kLong);
  while (!predicate()) {
    if (deadline.has_passed()) return false;
    std::this_thread::yield();
  }
  return true;
}

template <class Result>
Result get(std::future<Result> future) {
  if (future.wait_for(kLong) != std::future_status::ready) {
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

bool is_readable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
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

class LogLines {
 public:
  Log log() {
    return Log([this](LogLevel level, std::string_view, std::string_view text) {
      const std::lock_guard lock(mutex_);
      lines_.push_back(std::string(to_string(level)) + ": " +
                       std::string(text));
    });
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

// ---- Posting

TEST(CallbackQueueTest, RunsCallbacksInTheOrderOfPosting) {
  CallbackQueue queue;
  Ints ran;
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(queue.post(append(ran, i)));
  EXPECT_EQ(queue.size(), 5u);
  EXPECT_TRUE(ran.empty());
  EXPECT_EQ(queue.run_pending(), 5u);
  EXPECT_EQ(ran, (Ints{0, 1, 2, 3, 4}));
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.run_pending(), 0u);
}

TEST(CallbackQueueTest, RefusesSizeZero) {
  EXPECT_THROW(CallbackQueue(0), std::invalid_argument);
}

TEST(CallbackQueueTest, RefusesEmptyCallbacks) {
  CallbackQueue queue;
  const int owner = 0;
  EXPECT_THROW(queue.post(nullptr), std::invalid_argument);
  EXPECT_THROW(queue.post_wait(nullptr, &owner), std::invalid_argument);
  EXPECT_THROW(CallbackOwner(queue, &owner).post_event(nullptr),
               std::invalid_argument);
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, PostIsFalseAndDropsTheCallbackWhenFull) {
  CallbackQueue queue(2);
  Ints ran;
  EXPECT_TRUE(queue.post(append(ran, 1)));
  EXPECT_TRUE(queue.post(append(ran, 2)));
  bool dropped = false;
  EXPECT_FALSE(queue.post([keep = on_destruction([&] {
                             dropped = true;
                             EXPECT_EQ(queue.size(), 2u);  // no lock is held
                           })] {}));
  EXPECT_TRUE(dropped);
  EXPECT_EQ(queue.run_pending(), 2u);
  EXPECT_EQ(ran, (Ints{1, 2}));
  EXPECT_TRUE(queue.post(append(ran, 3)));
}

TEST(CallbackQueueTest, EventsAreTakenWhenFullAndDoNotCount) {
  CallbackQueue queue(1);
  const int server = 0;
  CallbackOwner owner(queue, &server);
  Ints ran;
  owner.post_event(append(ran, 1));
  EXPECT_TRUE(queue.post(append(ran, 2), &server));
  owner.post_event(append(ran, 3));
  EXPECT_FALSE(queue.post(append(ran, 4), &server));
  EXPECT_EQ(queue.size(), 3u);
  EXPECT_EQ(queue.run_pending(), 3u);
  EXPECT_EQ(ran, (Ints{1, 2, 3}));
}

TEST(CallbackQueueTest, PostWaitWaitsForRoom) {
  CallbackQueue queue(1);
  Ints ran;
  queue.post(append(ran, 1));
  Worker poster([&] { queue.post_wait(append(ran, 2), nullptr); });
  ASSERT_TRUE(poster.is_blocked());
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(queue.run_pending(), 1u);
  poster.join();
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_EQ(ran, (Ints{1, 2}));
}

TEST(CallbackQueueTest, PostWaitTimesOutAndPostsNothing) {
  CallbackQueue queue(1);
  queue.post_wait([] {}, nullptr, Wait::none());
  EXPECT_THROW(queue.post_wait([] {}, nullptr, Wait::none()), TimeoutError);
  EXPECT_THROW(queue.post_wait([] {}, nullptr, std::chrono::milliseconds(1)),
               TimeoutError);
  EXPECT_EQ(queue.size(), 1u);
}

TEST(CallbackQueueTest, PostWaitIsInterruptedByAStop) {
  CallbackQueue queue(1);
  queue.post([] {});
  std::stop_source stop;
  Worker poster([&] { queue.post_wait([] {}, nullptr, stop.get_token()); });
  ASSERT_TRUE(poster.is_blocked());
  stop.request_stop();
  EXPECT_THROW(poster.join(), CancelledError);
  // A stop wins also where there is room.
  queue.run_pending();
  EXPECT_THROW(queue.post_wait([] {}, nullptr, stop.get_token()),
               CancelledError);
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, RefusePostsRefusesThatOwnerOnly) {
  CallbackQueue queue;
  const std::array<int, 2> servers{};
  CallbackOwner owner(queue, &servers[0]);
  owner.refuse_posts();
  EXPECT_FALSE(queue.post([] {}, &servers[0]));
  EXPECT_THROW(queue.post_wait([] {}, &servers[0]), CancelledError);
  EXPECT_TRUE(queue.empty());
  owner.post_event([] {});
  EXPECT_TRUE(queue.post([] {}, &servers[1]));
  EXPECT_TRUE(queue.post([] {}));
  EXPECT_EQ(queue.size(), 3u);
}

TEST(CallbackQueueTest, RefusePostsEndsAPostWaitThatWaits) {
  CallbackQueue queue(1);
  const int server = 0;
  CallbackOwner owner(queue, &server);
  queue.post([] {});
  Worker poster([&] { queue.post_wait([] {}, &server); });
  ASSERT_TRUE(poster.is_blocked());
  owner.refuse_posts();
  EXPECT_THROW(poster.join(), CancelledError);
}

TEST(CallbackQueueTest, RetireEndsAPostWaitThatWaits) {
  // Though by the time that the poster wakes the address may post again.
  CallbackQueue queue(1);
  const int server = 0;
  queue.post([] {});
  Worker poster([&] { queue.post_wait([] {}, &server); });
  ASSERT_TRUE(poster.is_blocked());
  CallbackOwner(queue, &server).refuse_posts();
  CallbackOwner(queue, &server).retire();
  EXPECT_THROW(poster.join(), CancelledError);
}

TEST(CallbackQueueTest, CancelEndsAPostWaitEvenIfItMakesRoom) {
  for (int round = 0; round < 100; ++round) {
    CallbackQueue queue(1);
    const int server = 0;
    queue.post([] {}, &server);
    Worker poster([&] { queue.post_wait([] {}, &server); });
    ASSERT_TRUE(poster.is_blocked());
    queue.cancel(&server);
    EXPECT_THROW(poster.join(), CancelledError);
    EXPECT_TRUE(queue.empty());
  }
}

// ---- Draining

TEST(CallbackQueueTest, RunPendingRunsOnlyWhatWasQueuedAtEntry) {
  CallbackQueue queue;
  Ints ran;
  std::function<void()> again = [&] {
    ran.push_back(static_cast<int>(ran.size()));
    queue.post(again);
  };
  queue.post(again);
  queue.post(again);
  EXPECT_EQ(queue.run_pending(), 2u);
  EXPECT_EQ(ran, (Ints{0, 1}));
  EXPECT_EQ(queue.size(), 2u);
}

TEST(CallbackQueueTest, RunPendingInsideACallbackRunsTheRest) {
  CallbackQueue queue;
  Ints ran;
  queue.post([&] {
    ran.push_back(1);
    EXPECT_EQ(queue.run_pending(), 2u);
    ran.push_back(4);
  });
  queue.post(append(ran, 2));
  queue.post(append(ran, 3));
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_EQ(ran, (Ints{1, 2, 3, 4}));
}

TEST(CallbackQueueTest, ExceptionLeavesTheRestInOrder) {
  CallbackQueue queue;
  Ints ran;
  queue.post(append(ran, 1));
  queue.post([] { throw std::runtime_error("no"); });
  queue.post(append(ran, 2));
  queue.post(append(ran, 3));
  EXPECT_THROW(queue.run_pending(), std::runtime_error);
  EXPECT_EQ(ran, (Ints{1}));
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(queue.run_pending(), 2u);
  EXPECT_EQ(ran, (Ints{1, 2, 3}));
}

TEST(CallbackQueueTest, CallbackThatThrewNoLongerCountsAsRunning) {
  CallbackQueue queue;
  const int owner = 0;
  bool destroyed = false;
  queue.post([keep = on_destruction([&] {
                destroyed = true;
              })] { throw std::runtime_error("no"); },
             &owner);
  EXPECT_THROW(queue.run_one(), std::runtime_error);
  EXPECT_TRUE(destroyed);
  Worker([&] { queue.cancel(&owner); }).join();
}

TEST(CallbackQueueTest, EachCallbackRunsOnceIfSeveralThreadsDrain) {
  CallbackQueue queue(1000);
  std::atomic<int> ran{0};
  for (int i = 0; i < 1000; ++i) queue.post([&] { ++ran; });
  std::atomic<std::size_t> counted{0};
  {
    Worker first([&] { counted += queue.run_pending(); });
    Worker second([&] { counted += queue.run_pending(); });
    first.join();
    second.join();
  }
  EXPECT_EQ(ran, 1000);
  EXPECT_EQ(counted, 1000u);
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, RunOneRunsOne) {
  CallbackQueue queue;
  Ints ran;
  queue.post(append(ran, 1));
  queue.post(append(ran, 2));
  EXPECT_TRUE(queue.run_one());
  EXPECT_EQ(ran, (Ints{1}));
  EXPECT_TRUE(queue.run_one(Wait::none()));
  EXPECT_EQ(ran, (Ints{1, 2}));
}

TEST(CallbackQueueTest, RunOneWaitsForACallback) {
  CallbackQueue queue;
  bool ran = false;
  Worker drainer([&] { EXPECT_TRUE(queue.run_one(kLong)); });
  ASSERT_TRUE(drainer.is_blocked());
  queue.post([&] { ran = true; });
  drainer.join();
  EXPECT_TRUE(ran);
}

TEST(CallbackQueueTest, RunOneIsFalseAtTheDeadline) {
  CallbackQueue queue;
  EXPECT_FALSE(queue.run_one(Wait::none()));
  const Deadline deadline = Deadline::after(std::chrono::milliseconds(10));
  EXPECT_FALSE(queue.run_one(deadline));
  EXPECT_TRUE(deadline.has_passed());
}

TEST(CallbackQueueTest, RunOneIsInterruptedByAStop) {
  CallbackQueue queue;
  std::stop_source stop;
  Worker drainer([&] { queue.run_one(stop.get_token()); });
  ASSERT_TRUE(drainer.is_blocked());
  stop.request_stop();
  EXPECT_THROW(drainer.join(), CancelledError);
  queue.post([] { FAIL() << "ran after the stop"; });
  EXPECT_THROW(queue.run_one(stop.get_token()), CancelledError);
}

TEST(CallbackQueueTest, RunRunsUntilTheStopAndLeavesTheRest) {
  CallbackQueue queue;
  Ints ran;
  std::stop_source stop;
  Worker drainer([&] { queue.run(stop.get_token()); });
  ASSERT_TRUE(drainer.is_blocked());
  queue.post(append(ran, 1));
  queue.post([&] {
    queue.post(append(ran, 3));
    ran.push_back(2);
    stop.request_stop();
  });
  drainer.join();
  EXPECT_EQ(ran, (Ints{1, 2}));
  EXPECT_EQ(queue.size(), 1u);
}

TEST(CallbackQueueTest, RunWokenByAStopRunsNothingPostedAfterIt) {
  for (int round = 0; round < 200; ++round) {
    CallbackQueue queue;
    std::stop_source stop;
    Worker drainer([&] { queue.run(stop.get_token()); });
    ASSERT_TRUE(drainer.is_blocked());
    stop.request_stop();
    queue.post([] { ADD_FAILURE() << "ran after the stop"; });
    drainer.join();
    EXPECT_EQ(queue.size(), 1u);
  }
}

TEST(CallbackQueueTest, RunLetsExceptionsThrough) {
  CallbackQueue queue;
  queue.post([] { throw 7; });
  EXPECT_THROW(queue.run({}), int);
}

// ---- Cancelling

TEST(CallbackQueueTest, CancelDropsTheOwnersCallbacksOnly) {
  CallbackQueue queue(4);
  const std::array<int, 2> owners{};
  Ints ran;
  int dropped = 0;
  const auto count_drop = [&] {
    ++dropped;
    EXPECT_EQ(queue.size(), 2u);  // no lock is held
  };
  queue.post([keep = on_destruction(count_drop)] { FAIL(); }, &owners[0]);
  queue.post(append(ran, 1), &owners[1]);
  queue.post([keep = on_destruction(count_drop)] { FAIL(); }, &owners[0]);
  queue.post(append(ran, 2));
  queue.cancel(&owners[0]);
  EXPECT_EQ(dropped, 2);
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_TRUE(queue.post(append(ran, 3), &owners[0]));  // there is room again
  EXPECT_TRUE(queue.post(append(ran, 4), &owners[0]));
  EXPECT_FALSE(queue.post(append(ran, 5), &owners[0]));
  EXPECT_EQ(queue.run_pending(), 4u);
  EXPECT_EQ(ran, (Ints{1, 2, 3, 4}));
}

TEST(CallbackQueueTest, CancelRefusesNoOwner) {
  CallbackQueue queue;
  queue.post([] {});
  EXPECT_THROW(queue.cancel(nullptr), std::invalid_argument);
  EXPECT_EQ(queue.size(), 1u);
}

TEST(CallbackQueueTest, CancelWaitsForTheRunningCallback) {
  CallbackQueue queue;
  const int owner = 0;
  Gate gate;
  queue.post(gate.callback(), &owner);
  Worker drainer([&] { queue.run_pending(); });
  gate.wait_begun();
  Worker canceller([&] { queue.cancel(&owner); });
  EXPECT_TRUE(canceller.is_blocked());
  gate.open();
  canceller.join();
  drainer.join();
}

TEST(CallbackQueueTest, CancelWaitsUntilTheCallbackIsDestroyed) {
  CallbackQueue queue;
  const int owner = 0;
  Gate gate;
  queue.post([keep = on_destruction(gate.callback())] {}, &owner);
  Worker drainer([&] { queue.run_pending(); });
  gate.wait_begun();
  Worker canceller([&] { queue.cancel(&owner); });
  EXPECT_TRUE(canceller.is_blocked());
  gate.open();
  canceller.join();
  drainer.join();
}

TEST(CallbackQueueTest, CancelWaitsUntilAnotherCancelHasDestroyedCallbacks) {
  CallbackQueue queue;
  const int owner = 0;
  Gate gate;
  queue.post([] {}, &owner);
  queue.post([keep = on_destruction(gate.callback())] {}, &owner);
  Worker first([&] { queue.cancel(&owner); });
  gate.wait_begun();
  Worker second([&] { queue.cancel(&owner); });
  EXPECT_TRUE(second.is_blocked());
  gate.open();
  first.join();
  second.join();
}

TEST(CallbackQueueTest, CancelDoesNotWaitForOtherOwners) {
  CallbackQueue queue;
  const std::array<int, 2> owners{};
  Gate gate;
  queue.post(gate.callback(), &owners[0]);
  Worker drainer([&] { queue.run_pending(); });
  gate.wait_begun();
  Worker([&] { queue.cancel(&owners[1]); }).join();
  gate.open();
  drainer.join();
}

TEST(CallbackQueueTest, CancelInsideTheOwnersCallbackDoesNotWaitForItself) {
  CallbackQueue queue;
  const int owner = 0;
  Ints ran;
  Worker([&] {
    queue.post(
        [&] {
          queue.post(append(ran, 3), &owner);
          queue.run_one();  // nested: two entries of this thread
          queue.cancel(&owner);
          ran.push_back(2);
        },
        &owner);
    queue.post(
        [&] {
          queue.cancel(&owner);
          ran.push_back(1);
        },
        &owner);
    queue.post(append(ran, 9), &owner);
    EXPECT_EQ(queue.run_pending(), 1u);
  }).join();
  EXPECT_EQ(ran, (Ints{1, 2}));
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, CancelInsideACallbackWaitsForOtherThreads) {
  CallbackQueue queue;
  const int owner = 0;
  Gate gate;
  queue.post(gate.callback(), &owner);
  queue.post([&] { queue.cancel(&owner); }, &owner);
  Worker first([&] { queue.run_one(); });
  gate.wait_begun();
  Worker second([&] { queue.run_one(); });
  EXPECT_TRUE(second.is_blocked());
  gate.open();
  first.join();
  second.join();
}

// What a server is to its callbacks: memory that goes right after cancel().
struct Server {
  std::uint64_t ran = 0;               // plain: the drainer's alone
  std::atomic<std::uint64_t> seen{0};  // the same, for the test to wait for
  std::atomic<std::uint64_t> made{0};
  std::atomic<std::uint64_t> destroyed{0};

  std::function<void()> callback() {
    ++made;
    return [this, keep = on_destruction([this] { ++destroyed; })] {
      ++seen;
      std::this_thread::yield();  // to the one that waits to cancel this
      ++ran;
    };
  }
};

TEST(CallbackQueueTest, NothingOfAnOwnerIsTouchedAfterCancel) {
  constexpr int kRounds = 2000;
  CallbackQueue queue(16);
  std::stop_source stop;
  std::mutex mutex;
  Server* server = nullptr;  // guarded by mutex
  Server others;
  Worker drainer([&] { queue.run(stop.get_token()); });
  Worker poster([&] {
    while (!stop.stop_requested()) {
      {
        const std::lock_guard lock(mutex);
        if (server != nullptr) queue.post(server->callback(), server);
      }
      queue.post(others.callback(), &others);
      std::this_thread::yield();  // std::mutex is not fair
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    auto owned = std::make_unique<Server>();
    {
      const std::lock_guard lock(mutex);
      server = owned.get();
    }
    EXPECT_TRUE(eventually([&] { return owned->seen > 0; }));
    {
      const std::lock_guard lock(mutex);
      server = nullptr;
    }
    queue.cancel(owned.get());
    EXPECT_EQ(owned->destroyed, owned->made);
    owned.reset();
  }
  stop.request_stop();
  drainer.join();
  poster.join();
  queue.cancel(&others);
  EXPECT_GT(others.ran, 0u);
}

TEST(CallbackQueueTest, NothingOfAnOwnerIsTouchedAfterRetire) {
  // The way of a read-loop server: its reader waits for room until refused.
  constexpr int kRounds = 500;
  CallbackQueue queue(4);
  std::stop_source stop;
  Worker drainer([&] { queue.run(stop.get_token()); });
  for (int round = 0; round < kRounds; ++round) {
    auto server = std::make_unique<Server>();
    CallbackOwner owner(queue, server.get());
    owner.post_event(server->callback());
    Worker reader([&queue, server = server.get()] {
      for (;;) queue.post_wait(server->callback(), server);
    });
    EXPECT_TRUE(eventually([&] { return server->seen > 8; }));
    owner.refuse_posts();
    EXPECT_THROW(reader.join(), CancelledError);
    owner.post_event(server->callback());
    owner.retire();
    EXPECT_EQ(server->destroyed, server->made);
    server.reset();
  }
  stop.request_stop();
  drainer.join();
  EXPECT_TRUE(queue.empty());
}

// ---- Retiring

TEST(CallbackQueueTest, RetireOnTheDrainingThreadRunsTheRest) {
  CallbackQueue queue;
  const std::array<int, 2> servers{};
  CallbackOwner owner(queue, &servers[0]);
  Ints ran;
  queue.run_pending();
  owner.post_event(append(ran, 1));
  queue.post(append(ran, 9), &servers[1]);
  queue.post(append(ran, 2), &servers[0]);
  owner.refuse_posts();
  owner.retire();
  EXPECT_EQ(ran, (Ints{1, 2}));
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_TRUE(queue.post([] {}, &servers[0]));  // a later owner
}

TEST(CallbackQueueTest, RetireOnTheDrainingThreadDropsWhatIsPostedMeanwhile) {
  CallbackQueue queue;
  const int server = 0;
  CallbackOwner owner(queue, &server);
  int ran = 0;
  std::function<void()> again = [&] {
    ++ran;
    owner.post_event(again);
  };
  queue.run_pending();
  owner.post_event(again);
  owner.retire();
  EXPECT_EQ(ran, 1);
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, RetireOnTheDrainingThreadRunsAllThenThrows) {
  CallbackQueue queue;
  const int server = 0;
  CallbackOwner owner(queue, &server);
  Ints ran;
  queue.run_pending();
  queue.post([] { throw std::runtime_error("first"); }, &server);
  queue.post([] { throw 7; }, &server);
  owner.post_event(append(ran, 1));
  owner.refuse_posts();
  EXPECT_THROW(owner.retire(), std::runtime_error);
  EXPECT_EQ(ran, (Ints{1}));
  EXPECT_TRUE(queue.post([] {}, &server));
}

TEST(CallbackQueueTest, RetireOnAnotherThreadDrops) {
  CallbackQueue queue;
  const int server = 0;
  CallbackOwner owner(queue, &server);
  queue.run_pending();
  owner.post_event([] { FAIL() << "ran on a thread that does not drain"; });
  owner.refuse_posts();
  Worker([&] { owner.retire(); }).join();
  EXPECT_TRUE(queue.empty());
  EXPECT_TRUE(queue.post([] {}, &server));
}

TEST(CallbackQueueTest, RetireOnAThreadThatFollowsTheDrainingOneDrops) {
  // The second thread usually gets the std::thread::id of the first.
  CallbackQueue queue;
  const int server = 0;
  CallbackOwner owner(queue, &server);
  std::thread([&] { queue.run_pending(); }).join();
  owner.post_event([] { FAIL() << "ran on a thread that does not drain"; });
  std::thread([&] { owner.retire(); }).join();
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, RetireInsideTheOwnersCallbackDrops) {
  CallbackQueue queue;
  const int server = 0;
  CallbackOwner owner(queue, &server);
  owner.post_event([&] { owner.retire(); });
  owner.post_event([] { FAIL() << "ran after retire()"; });
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, RetireInsideAnotherOwnersCallbackRunsTheRest) {
  CallbackQueue queue;
  const int server = 0;
  CallbackOwner owner(queue, &server);
  Ints ran;
  queue.post([&] {
    owner.retire();
    ran.push_back(2);
  });
  owner.post_event(append(ran, 1));
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_EQ(ran, (Ints{1, 2}));
}

TEST(CallbackQueueTest, RetireWaitsForTheRunningCallback) {
  CallbackQueue queue;
  const int server = 0;
  Gate gate;
  queue.post(gate.callback(), &server);
  Worker drainer([&] { queue.run_pending(); });
  gate.wait_begun();
  Worker closer([&] { CallbackOwner(queue, &server).retire(); });
  EXPECT_TRUE(closer.is_blocked());
  gate.open();
  closer.join();
  drainer.join();
}

// ---- Descriptor and destruction

TEST(CallbackQueueTest, WaitFdIsReadableExactlyWhileNotEmpty) {
  CallbackQueue queue;
  const int owner = 0;
  const int fd = queue.wait_fd();
  EXPECT_FALSE(is_readable(fd));
  queue.post([] {});
  EXPECT_TRUE(is_readable(fd));
  queue.post([keep = on_destruction([&] { EXPECT_FALSE(is_readable(fd)); })] {},
             &owner);
  queue.run_one();
  EXPECT_TRUE(is_readable(fd));
  queue.cancel(&owner);
  EXPECT_FALSE(is_readable(fd));
  queue.post([&] { EXPECT_FALSE(is_readable(fd)); });
  EXPECT_EQ(queue.wait_fd(), fd);
  EXPECT_TRUE(is_readable(fd));
  queue.run_pending();
  EXPECT_FALSE(is_readable(fd));
  CallbackOwner(queue, &owner).post_event([] {});
  EXPECT_TRUE(is_readable(fd));
  CallbackOwner(queue, &owner).retire();
  EXPECT_FALSE(is_readable(fd));
}

TEST(CallbackQueueTest, WaitFdMadeLateIsReadableIfNotEmpty) {
  CallbackQueue queue;
  queue.post([] {});
  const int fd = queue.wait_fd();
  EXPECT_TRUE(is_readable(fd));
  queue.run_pending();
  EXPECT_FALSE(is_readable(fd));
}

TEST(CallbackQueueTest, WaitFdStaysExactWithConcurrentPosts) {
  CallbackQueue queue(8);
  const int fd = queue.wait_fd();
  constexpr int kCount = 5000;
  Worker poster([&] {
    for (int i = 0; i < kCount; ++i) queue.post_wait([] {}, nullptr);
  });
  // A lost wake-up would end this by the poll's time-out.
  std::size_t ran = 0;
  while (ran < kCount) {
    pollfd entry{fd, POLLIN, 0};
    ASSERT_EQ(::poll(&entry, 1, 60'000), 1);
    const std::size_t count = queue.run_pending();
    ASSERT_GT(count, 0u);
    ran += count;
  }
  poster.join();
  EXPECT_FALSE(is_readable(fd));
}

TEST(CallbackQueueTest, DestructorDropsWhatIsQueued) {
  const std::array<int, 2> owners{};
  int dropped = 0;
  {
    CallbackQueue queue;
    const auto drop = [&] {
      ++dropped;
      queue.size();  // no lock is held
    };
    queue.post([keep = on_destruction(drop)] { FAIL(); }, &owners[0]);
    queue.post([keep = on_destruction(drop)] { FAIL(); }, &owners[1]);
    queue.post([keep = on_destruction(drop)] { FAIL(); });
  }
  EXPECT_EQ(dropped, 3);
}

TEST(CallbackQueueTest, MayBeDestroyedInsideItsOwnCallback) {
  const auto destroy_in = [](auto drain) {
    auto queue = std::make_unique<CallbackQueue>();
    CallbackQueue& q = *queue;
    bool ran = false;
    q.post([&] {
      queue.reset();
      ran = true;
    });
    q.post([] { FAIL() << "ran after the destructor"; });
    Worker([&] { drain(q); }).join();
    EXPECT_TRUE(ran);
  };
  destroy_in([](CallbackQueue& queue) { queue.run_pending(); });
  destroy_in([](CallbackQueue& queue) { queue.run_one(); });
  destroy_in([](CallbackQueue& queue) { queue.run({}); });
}

// ---- CallbackThread

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
  const int server = 0;
  CallbackOwner owner(thread.queue(), &server);
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
  EXPECT_THROW(thread.queue().post_wait([] {}, nullptr), CancelledError);
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
  Worker poster([&] { thread.queue().post_wait([] {}, nullptr); });
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
  LogLines log;
  CallbackThread thread({.log = log.log()});
  bool ran = false;
  thread.queue().post([] { throw std::runtime_error("broken"); });
  thread.queue().post([] { throw 7; });
  thread.queue().post([&] { ran = true; });
  thread.close();
  EXPECT_TRUE(ran);
  EXPECT_EQ(log.lines(), (std::vector<std::string>{
                             "ERROR: callback failed: broken",
                             "ERROR: callback failed: unknown exception"}));
}

TEST(CallbackThreadTest, ExceptionAfterTheDestructorIsLogged) {
  LogLines log;
  auto thread = std::make_unique<CallbackThread>(
      CallbackThread::Options{.log = log.log()});
  thread->queue().post([&] {
    thread.reset();
    throw std::runtime_error("late");
  });
  EXPECT_TRUE(eventually([&] { return log.lines().size() == 1; }));
}

TEST(CallbackThreadTest, ServerRetiredInACallbackOfTheThreadRunsTheRest) {
  const int server = 0;
  Ints ran;
  Gate gate;
  std::promise<void> retired;
  CallbackThread thread;
  CallbackOwner owner(thread.queue(), &server);
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

}  // namespace
}  // namespace tcpip
