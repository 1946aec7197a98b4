#include "tcpip/callback_queue.h"

#include <gtest/gtest.h>
#include <poll.h>
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
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/testing/wait_until.h"
#include "tests/support/post_event.h"
#include "tests/support/raw_client.h"
#include "tests/support/waiting_thread.h"

namespace tcpip {
namespace {

using internal::EventOwner;
using tcpip_testing::kPatience;
using tcpip_tests::append;
using tcpip_tests::Gate;
using tcpip_tests::get;
using tcpip_tests::Ints;
using tcpip_tests::kPrompt;
using tcpip_tests::on_destruction;
using tcpip_tests::post_event;
using tcpip_tests::seconds_of;
using tcpip_tests::soon;
using tcpip_tests::WaitingThread;

bool is_readable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
}

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
  CallbackQueue::Owner owner(queue);
  EXPECT_THROW(queue.post(nullptr), std::invalid_argument);
  EXPECT_THROW(owner.post_wait(nullptr), std::invalid_argument);
  EXPECT_THROW(internal::PreparedEvent(nullptr), std::invalid_argument);
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
  EventOwner owner(queue);
  Ints ran;
  post_event(owner, append(ran, 1));
  EXPECT_TRUE(owner.post(append(ran, 2)));
  post_event(owner, append(ran, 3));
  EXPECT_FALSE(owner.post(append(ran, 4)));
  EXPECT_EQ(queue.size(), 3u);
  EXPECT_EQ(queue.run_pending(), 3u);
  EXPECT_EQ(ran, (Ints{1, 2, 3}));
}

TEST(CallbackQueueTest, PostWaitWaitsForRoom) {
  CallbackQueue queue(1);
  Ints ran;
  queue.post(append(ran, 1));
  WaitingThread poster([&] { queue.post_wait(append(ran, 2)); });
  ASSERT_TRUE(poster.is_blocked());
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(queue.run_pending(), 1u);
  poster.join();
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_EQ(ran, (Ints{1, 2}));
}

TEST(CallbackQueueTest, PostWaitTimesOutAndPostsNothing) {
  CallbackQueue queue(1);
  queue.post_wait([] {}, Wait::none());
  EXPECT_THROW(queue.post_wait([] {}, Wait::none()), TimeoutError);
  EXPECT_THROW(queue.post_wait([] {}, std::chrono::milliseconds(1)),
               TimeoutError);
  EXPECT_EQ(queue.size(), 1u);
}

TEST(CallbackQueueTest, PostWaitIsInterruptedByAStop) {
  CallbackQueue queue(1);
  queue.post([] {});
  std::stop_source stop;
  WaitingThread poster([&] { queue.post_wait([] {}, stop.get_token()); });
  ASSERT_TRUE(poster.is_blocked());
  stop.request_stop();
  EXPECT_THROW(poster.join(), CancelledError);
  // A stop wins also where there is room.
  queue.run_pending();
  EXPECT_THROW(queue.post_wait([] {}, stop.get_token()), CancelledError);
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, RefusePostsRefusesThatOwnerOnly) {
  CallbackQueue queue;
  std::array<EventOwner, 2> servers{EventOwner(queue), EventOwner(queue)};
  servers[0].refuse_posts();
  EXPECT_FALSE(servers[0].post([] {}));
  EXPECT_THROW(servers[0].post_wait([] {}), CancelledError);
  EXPECT_TRUE(queue.empty());
  post_event(servers[0], [] {});
  EXPECT_TRUE(servers[1].post([] {}));
  EXPECT_TRUE(queue.post([] {}));
  EXPECT_EQ(queue.size(), 3u);
}

TEST(CallbackQueueTest, RefusePostsEndsAPostWaitThatWaits) {
  CallbackQueue queue(1);
  EventOwner owner(queue);
  queue.post([] {});
  WaitingThread poster([&] { owner.post_wait([] {}); });
  ASSERT_TRUE(poster.is_blocked());
  owner.refuse_posts();
  EXPECT_THROW(poster.join(), CancelledError);
}

TEST(CallbackQueueTest, CancelEndsNoPostWaitOfAnotherOwner) {
  CallbackQueue queue(1);
  CallbackQueue::Owner owner(queue);
  CallbackQueue::Owner other(queue);
  Ints ran;
  queue.post(append(ran, 1));
  WaitingThread poster([&] { owner.post_wait(append(ran, 2)); });
  ASSERT_TRUE(poster.is_blocked());
  other.cancel();
  EXPECT_EQ(queue.run_pending(), 1u);
  poster.join();
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_EQ(ran, (Ints{1, 2}));
}

TEST(CallbackQueueTest, RetireEndsAPostWaitThatWaits) {
  CallbackQueue queue(1);
  EventOwner owner(queue);
  queue.post([] {});
  WaitingThread poster([&] { owner.post_wait([] {}); });
  ASSERT_TRUE(poster.is_blocked());
  owner.retire();
  EXPECT_THROW(poster.join(), CancelledError);
}

TEST(CallbackQueueTest, CancelEndsAPostWaitEvenIfItMakesRoom) {
  for (int round = 0; round < 100; ++round) {
    CallbackQueue queue(1);
    CallbackQueue::Owner owner(queue);
    owner.post([] {});
    WaitingThread poster([&] { owner.post_wait([] {}); });
    ASSERT_TRUE(poster.is_blocked());
    owner.cancel();
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
  CallbackQueue::Owner owner(queue);
  bool destroyed = false;
  owner.post([keep = on_destruction([&] { destroyed = true; })] {
    throw std::runtime_error("no");
  });
  EXPECT_THROW(queue.run_one(), std::runtime_error);
  EXPECT_TRUE(destroyed);
  WaitingThread([&] { owner.cancel(); }).join();
}

TEST(CallbackQueueTest, EachCallbackRunsOnceIfSeveralThreadsDrain) {
  CallbackQueue queue(1000);
  std::atomic<int> ran{0};
  for (int i = 0; i < 1000; ++i) queue.post([&] { ++ran; });
  std::atomic<std::size_t> counted{0};
  {
    WaitingThread first([&] { counted += queue.run_pending(); });
    WaitingThread second([&] { counted += queue.run_pending(); });
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
  WaitingThread drainer([&] { EXPECT_TRUE(queue.run_one(kPatience)); });
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
  WaitingThread drainer([&] { queue.run_one(stop.get_token()); });
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
  WaitingThread drainer([&] { queue.run(stop.get_token()); });
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
    WaitingThread drainer([&] { queue.run(stop.get_token()); });
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

TEST(CallbackQueueTest, RunUntilRunsWhatComesUntilTheDeadline) {
  CallbackQueue queue;
  Ints ran;
  queue.post(append(ran, 1));
  std::promise<void> first;
  queue.post([&] { first.set_value(); });
  WaitingThread poster([&] {
    get(first.get_future());
    queue.post(append(ran, 2));
  });
  const Deadline deadline = Deadline::after(std::chrono::milliseconds(200));
  const std::size_t count = queue.run_until(deadline);
  EXPECT_TRUE(deadline.has_passed());
  poster.join();
  queue.run_pending();  // the poster may have been that slow
  EXPECT_EQ(ran, (Ints{1, 2}));
  EXPECT_GE(count, 2u);
  EXPECT_LE(count, 3u);
}

TEST(CallbackQueueTest, RunUntilRunsAtADeadlineThatHasPassedWhatWasQueued) {
  CallbackQueue queue;
  int ran = 0;
  std::function<void()> again = [&] {
    ++ran;
    queue.post(again);
  };
  queue.post(again);
  queue.post(again);
  EXPECT_EQ(queue.run_until(Wait::none()), 2u);
  EXPECT_EQ(ran, 2);
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(CallbackQueue().run_until(Wait::none()), 0u);
}

TEST(CallbackQueueTest, RunUntilIsBoundedThoughCallbacksKeepComing) {
  CallbackQueue queue;
  std::function<void()> again = [&] { queue.post(again); };
  queue.post(again);
  EXPECT_GT(queue.run_until(std::chrono::milliseconds(20)), 0u);
  EXPECT_EQ(queue.size(), 1u);
}

TEST(CallbackQueueTest, RunUntilReturnsAtTheStopAndLeavesTheRest) {
  CallbackQueue queue;
  std::stop_source stop;
  std::size_t count = 0;
  WaitingThread drainer([&] {
    count = queue.run_until({kPatience, stop.get_token()});
  });
  ASSERT_TRUE(drainer.is_blocked());
  queue.post([] {});
  queue.post([&] {
    queue.post([] { FAIL() << "ran after the stop"; });
    stop.request_stop();
  });
  drainer.join();
  EXPECT_EQ(count, 2u);
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(queue.run_until({kPatience, stop.get_token()}), 0u);
}

TEST(CallbackQueueTest, RunUntilLetsExceptionsThrough) {
  CallbackQueue queue;
  queue.post([] { throw 7; });
  queue.post([] {});
  EXPECT_THROW(queue.run_until(Wait::none()), int);
  EXPECT_EQ(queue.size(), 1u);
}

// ---- Cancelling

TEST(CallbackQueueTest, CancelDropsTheOwnersCallbacksOnly) {
  CallbackQueue queue(4);
  std::array<EventOwner, 2> owners{EventOwner(queue), EventOwner(queue)};
  Ints ran;
  int dropped = 0;
  const auto count_drop = [&] {
    ++dropped;
    EXPECT_EQ(queue.size(), 2u);  // no lock is held
  };
  owners[0].post([keep = on_destruction(count_drop)] { FAIL(); });
  owners[1].post(append(ran, 1));
  owners[0].post([keep = on_destruction(count_drop)] { FAIL(); });
  queue.post(append(ran, 2));
  owners[0].cancel();
  EXPECT_EQ(dropped, 2);
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_TRUE(owners[1].post(append(ran, 3)));  // there is room again
  EXPECT_TRUE(owners[1].post(append(ran, 4)));
  EXPECT_FALSE(owners[1].post(append(ran, 5)));
  EXPECT_EQ(queue.run_pending(), 4u);
  EXPECT_EQ(ran, (Ints{1, 2, 3, 4}));
}

TEST(CallbackQueueTest, CancelledOwnerPostsNoMore) {
  CallbackQueue queue;
  EventOwner owner(queue);
  owner.cancel();
  EXPECT_FALSE(owner.post([] {}));
  EXPECT_THROW(owner.post_wait([] {}), CancelledError);
  post_event(owner, [] { FAIL() << "an event of a cancelled owner"; });
  EXPECT_TRUE(queue.empty());
  owner.cancel();
  owner.retire();
  EXPECT_FALSE(owner.post([] {}));
}

TEST(CallbackQueueTest, DestroyedOwnersCallbacksDoNotRun) {
  CallbackQueue queue;
  bool destroyed = false;
  {
    CallbackQueue::Owner owner(queue);
    owner.post([keep = on_destruction([&] { destroyed = true; })] { FAIL(); });
  }
  EXPECT_TRUE(destroyed);
  EXPECT_EQ(queue.run_pending(), 0u);
}

TEST(CallbackQueueTest, OwnerInTheOldOnesPlaceIsAnotherOne) {
  // The address is the same; what the first one has queued is not its own.
  CallbackQueue queue;
  std::optional<CallbackQueue::Owner> owner(queue);
  owner->cancel();
  owner.emplace(queue);
  Ints ran;
  EXPECT_TRUE(owner->post(append(ran, 1)));
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_EQ(ran, (Ints{1}));
}

TEST(CallbackQueueTest, OwnerMayOutliveTheQueue) {
  auto queue = std::make_unique<CallbackQueue>();
  EventOwner owner(*queue);
  bool destroyed = false;
  owner.post([keep = on_destruction([&] { destroyed = true; })] { FAIL(); });
  queue.reset();
  EXPECT_TRUE(destroyed);
  EXPECT_FALSE(owner.post([] {}));
  EXPECT_THROW(owner.post_wait([] {}), CancelledError);
  post_event(owner, [] { FAIL(); });
  owner.retire();
  owner.cancel();
}

TEST(CallbackQueueTest, OwnerMayBeDestroyedInsideItsOwnCallback) {
  CallbackQueue queue;
  auto owner = std::make_shared<CallbackQueue::Owner>(queue);
  bool ran = false;
  CallbackQueue::Owner& posts = *owner;
  posts.post([&ran, held = std::move(owner)]() mutable {
    held.reset();
    ran = true;
  });
  posts.post([] { FAIL() << "ran after the destructor"; });
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_TRUE(ran);
}

TEST(CallbackQueueTest, OwnerDestroyedWithWhatItsCallbackHolds) {
  CallbackQueue queue;
  auto owner = std::make_shared<CallbackQueue::Owner>(queue);
  CallbackQueue::Owner& posts = *owner;
  posts.post([held = std::move(owner)] {});
  posts.post([] { FAIL() << "ran after the destructor"; });
  EXPECT_EQ(queue.run_pending(), 1u);
}

TEST(CallbackQueueTest, CancelWaitsForTheRunningCallback) {
  CallbackQueue queue;
  CallbackQueue::Owner owner(queue);
  Gate gate;
  owner.post(gate.callback());
  WaitingThread drainer([&] { queue.run_pending(); });
  gate.wait_begun();
  WaitingThread canceller([&] { owner.cancel(); });
  EXPECT_TRUE(canceller.is_blocked());
  gate.open();
  canceller.join();
  drainer.join();
}

TEST(CallbackQueueTest, CancelWaitsUntilTheCallbackIsDestroyed) {
  CallbackQueue queue;
  CallbackQueue::Owner owner(queue);
  Gate gate;
  owner.post([keep = on_destruction(gate.callback())] {});
  WaitingThread drainer([&] { queue.run_pending(); });
  gate.wait_begun();
  WaitingThread canceller([&] { owner.cancel(); });
  EXPECT_TRUE(canceller.is_blocked());
  gate.open();
  canceller.join();
  drainer.join();
}

TEST(CallbackQueueTest, CancelWaitsUntilAnotherCancelHasDestroyedCallbacks) {
  CallbackQueue queue;
  CallbackQueue::Owner owner(queue);
  Gate gate;
  owner.post([] {});
  owner.post([keep = on_destruction(gate.callback())] {});
  WaitingThread first([&] { owner.cancel(); });
  gate.wait_begun();
  WaitingThread second([&] { owner.cancel(); });
  EXPECT_TRUE(second.is_blocked());
  gate.open();
  first.join();
  second.join();
}

TEST(CallbackQueueTest, CancelDropsWhatIsQueuedBeforeItWaits) {
  CallbackQueue queue;
  CallbackQueue::Owner owner(queue);
  Gate gate;
  owner.post(gate.callback());
  owner.post([] { FAIL() << "ran after cancel()"; });
  WaitingThread drainer([&] { queue.run_pending(); });
  gate.wait_begun();
  WaitingThread canceller([&] { owner.cancel(); });
  EXPECT_TRUE(canceller.is_blocked());
  EXPECT_EQ(queue.size(), 0u);
  gate.open();
  canceller.join();
  drainer.join();
}

TEST(CallbackQueueTest, CancelWaitsForAllCallbacksThatRun) {
  CallbackQueue queue;
  CallbackQueue::Owner owner(queue);
  std::array<Gate, 2> gates;
  std::list<WaitingThread> drainers;
  for (Gate& gate : gates) {
    owner.post(gate.callback());
    drainers.emplace_back([&] { queue.run_one(); });
    gate.wait_begun();
  }
  std::atomic<bool> cancelled = false;
  WaitingThread canceller([&] {
    owner.cancel();
    cancelled = true;
  });
  EXPECT_TRUE(canceller.is_blocked());
  gates[0].open();
  drainers.front().join();
  EXPECT_TRUE(canceller.is_blocked());
  EXPECT_FALSE(cancelled);
  gates[1].open();
  drainers.back().join();
  canceller.join();
}

TEST(CallbackQueueTest, CancelWaitsUntilAllThatWasQueuedIsDestroyed) {
  CallbackQueue queue;
  CallbackQueue::Owner owner(queue);
  Gate gate;
  queue.post([] {});  // nobody's, and dropped together with the owner's
  owner.post([keep = on_destruction(gate.callback())] {});
  WaitingThread dropper([&] { internal::QueueThread::drop_all(queue); });
  gate.wait_begun();
  WaitingThread canceller([&] { owner.cancel(); });
  EXPECT_TRUE(canceller.is_blocked());
  gate.open();
  dropper.join();
  canceller.join();
}

TEST(CallbackQueueTest, CancelDoesNotWaitForOtherOwners) {
  CallbackQueue queue;
  std::array<EventOwner, 2> owners{EventOwner(queue), EventOwner(queue)};
  Gate gate;
  owners[0].post(gate.callback());
  WaitingThread drainer([&] { queue.run_pending(); });
  gate.wait_begun();
  WaitingThread([&] { owners[1].cancel(); }).join();
  gate.open();
  drainer.join();
}

TEST(CallbackQueueTest, CancelInsideTheOwnersCallbackDoesNotWaitForItself) {
  CallbackQueue queue;
  CallbackQueue::Owner owner(queue);
  Ints ran;
  WaitingThread([&] {
    owner.post([&] {
      owner.post(append(ran, 3));
      queue.run_one();  // nested: two entries of this thread
      owner.cancel();
      ran.push_back(2);
    });
    owner.post([&] {
      owner.cancel();
      ran.push_back(1);
    });
    owner.post(append(ran, 9));
    EXPECT_EQ(queue.run_pending(), 1u);
  }).join();
  EXPECT_EQ(ran, (Ints{1, 2}));
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, CancelInsideACallbackWaitsForOtherThreads) {
  CallbackQueue queue;
  CallbackQueue::Owner owner(queue);
  Gate gate;
  owner.post(gate.callback());
  owner.post([&] { owner.cancel(); });
  WaitingThread first([&] { queue.run_one(); });
  gate.wait_begun();
  WaitingThread second([&] { queue.run_one(); });
  EXPECT_TRUE(second.is_blocked());
  gate.open();
  first.join();
  second.join();
}

// Two threads that cancel, each inside a callback, what the other is inside of.
TEST(CallbackQueueTest, CancelsThatWouldWaitForEachOtherReturn) {
  for (int round = 0; round < 100; ++round) {
    CallbackQueue left_queue;
    CallbackQueue right_queue;
    CallbackQueue::Owner left(left_queue);
    CallbackQueue::Owner right(right_queue);
    std::atomic<int> inside{0};
    const auto cancel = [&](CallbackQueue::Owner& other) {
      return [&] {
        ++inside;
        EXPECT_TRUE(soon([&] { return inside == 2; }));
        other.cancel();
      };
    };
    left.post(cancel(right));
    right.post(cancel(left));
    WaitingThread left_thread([&] { left_queue.run_pending(); });
    WaitingThread right_thread([&] { right_queue.run_pending(); });
    left_thread.join();
    right_thread.join();
  }
}

TEST(CallbackQueueTest, CancelsThatWouldWaitInARingOfThreeReturn) {
  for (int round = 0; round < 100; ++round) {
    std::array<CallbackQueue, 3> queues;
    std::vector<std::unique_ptr<CallbackQueue::Owner>> owners;
    for (CallbackQueue& queue : queues) {
      owners.push_back(std::make_unique<CallbackQueue::Owner>(queue));
    }
    std::atomic<int> inside{0};
    std::vector<std::unique_ptr<WaitingThread>> threads;
    for (std::size_t i = 0; i < 3; ++i) {
      owners[i]->post([&, i] {
        ++inside;
        EXPECT_TRUE(soon([&] { return inside == 3; }));
        owners[(i + 1) % 3]->cancel();
      });
    }
    for (CallbackQueue& queue : queues) {
      threads.push_back(
          std::make_unique<WaitingThread>([&queue] { queue.run_pending(); }));
    }
    for (const auto& thread : threads) thread->join();
  }
}

// The callback that was waited for is over, so its thread waits as usual.
TEST(CallbackQueueTest, CancelWaitsForAThreadWhoseOwnWaitIsJustOver) {
  for (int round = 0; round < 300; ++round) {
    CallbackQueue queue;
    CallbackQueue::Owner first(queue);
    CallbackQueue second_queue;
    CallbackQueue::Owner second(second_queue);
    std::atomic<bool> over{false};
    Gate gate;
    first.post(gate.callback());
    queue.post([&] {  // in the same thread, right after the other
      second.cancel();
      EXPECT_TRUE(over);
    });
    WaitingThread drainer([&] { queue.run_pending(); });
    gate.wait_begun();
    second.post([&] {
      first.cancel();
      over = true;
    });
    WaitingThread other([&] { second_queue.run_pending(); });
    ASSERT_TRUE(other.is_blocked());
    gate.open();
    drainer.join();
    other.join();
  }
}

// What a server is to its callbacks: memory that goes right after cancel().
struct Server {
  explicit Server(CallbackQueue& queue) : owner(queue) {}

  std::uint64_t ran = 0;               // plain: the drainer's alone
  std::atomic<std::uint64_t> seen{0};  // the same, for the test to wait for
  std::atomic<std::uint64_t> made{0};
  std::atomic<std::uint64_t> destroyed{0};
  EventOwner owner;

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
  Server others(queue);
  WaitingThread drainer([&] { queue.run(stop.get_token()); });
  WaitingThread poster([&] {
    while (!stop.stop_requested()) {
      {
        const std::lock_guard lock(mutex);
        if (server != nullptr) server->owner.post(server->callback());
      }
      others.owner.post(others.callback());
      std::this_thread::yield();  // std::mutex is not fair
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    auto owned = std::make_unique<Server>(queue);
    {
      const std::lock_guard lock(mutex);
      server = owned.get();
    }
    EXPECT_TRUE(soon([&] { return owned->seen > 0; }));
    {
      const std::lock_guard lock(mutex);
      server = nullptr;
    }
    owned->owner.cancel();
    EXPECT_EQ(owned->destroyed, owned->made);
    owned.reset();
  }
  stop.request_stop();
  drainer.join();
  poster.join();
  others.owner.cancel();
  EXPECT_GT(others.ran, 0u);
}

TEST(CallbackQueueTest, NothingOfAnOwnerIsTouchedAfterRetire) {
  // The way of a read-loop server: its reader waits for room until refused.
  constexpr int kRounds = 500;
  CallbackQueue queue(4);
  std::stop_source stop;
  WaitingThread drainer([&] { queue.run(stop.get_token()); });
  for (int round = 0; round < kRounds; ++round) {
    auto server = std::make_unique<Server>(queue);
    EventOwner& owner = server->owner;
    post_event(owner, server->callback());
    WaitingThread reader([server = server.get()] {
      for (;;) server->owner.post_wait(server->callback());
    });
    EXPECT_TRUE(soon([&] { return server->seen > 8; }));
    owner.refuse_posts();
    EXPECT_THROW(reader.join(), CancelledError);
    post_event(owner, server->callback());
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
  std::array<EventOwner, 2> servers{EventOwner(queue), EventOwner(queue)};
  EventOwner& owner = servers[0];
  Ints ran;
  queue.run_pending();
  post_event(owner, append(ran, 1));
  servers[1].post(append(ran, 9));
  servers[0].post(append(ran, 2));
  owner.refuse_posts();
  owner.retire();
  EXPECT_EQ(ran, (Ints{1, 2}));
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_FALSE(owner.post([] {}));
}

TEST(CallbackQueueTest, RetireOnTheDrainingThreadDropsWhatIsPostedMeanwhile) {
  CallbackQueue queue;
  EventOwner owner(queue);
  int ran = 0;
  std::function<void()> again = [&] {
    ++ran;
    post_event(owner, again);
    EXPECT_FALSE(owner.post([] { FAIL() << "ran after retire()"; }));
  };
  queue.run_pending();
  post_event(owner, again);
  owner.retire();
  EXPECT_EQ(ran, 1);
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, RetireOnTheDrainingThreadRunsAllThenThrows) {
  CallbackQueue queue;
  EventOwner owner(queue);
  Ints ran;
  queue.run_pending();
  owner.post([] { throw std::runtime_error("first"); });
  owner.post([] { throw 7; });
  post_event(owner, append(ran, 1));
  owner.refuse_posts();
  EXPECT_THROW(owner.retire(), std::runtime_error);
  EXPECT_EQ(ran, (Ints{1}));
  EXPECT_FALSE(owner.post([] {}));
}

TEST(CallbackQueueTest, RetireOnAThreadThatHasFoundNothingRunsTheRest) {
  CallbackQueue queue;
  EventOwner owner(queue);
  Ints ran;
  WaitingThread([&] { queue.run_pending(); }).join();
  // Now this thread is the last to drain, though it ran nothing.
  EXPECT_FALSE(queue.run_one(Wait::none()));
  post_event(owner, append(ran, 1));
  owner.retire();
  EXPECT_EQ(ran, (Ints{1}));
}

TEST(CallbackQueueTest, RetireOnAThreadThatWasPassedAndThenRanRunsTheRest) {
  CallbackQueue queue;
  EventOwner owner(queue);
  Ints ran;
  WaitingThread drainer([&] {
    EXPECT_TRUE(queue.run_one());
    post_event(owner, append(ran, 2));
    owner.retire();
  });
  ASSERT_TRUE(drainer.is_blocked());
  queue.run_pending();  // by this thread, while the other waits
  post_event(owner, append(ran, 1));
  drainer.join();
  EXPECT_EQ(ran, (Ints{1, 2}));
}

TEST(CallbackQueueTest, RetireOnAnotherThreadDrops) {
  CallbackQueue queue;
  EventOwner owner(queue);
  queue.run_pending();
  post_event(owner, [] { FAIL() << "ran on a thread that does not drain"; });
  owner.refuse_posts();
  WaitingThread([&] { owner.retire(); }).join();
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(owner.post([] {}));
}

TEST(CallbackQueueTest, RetireOnAThreadThatFollowsTheDrainingOneDrops) {
  // The second thread usually gets the std::thread::id of the first.
  CallbackQueue queue;
  EventOwner owner(queue);
  std::thread([&] { queue.run_pending(); }).join();
  post_event(owner, [] { FAIL() << "ran on a thread that does not drain"; });
  std::thread([&] { owner.retire(); }).join();
  EXPECT_TRUE(queue.empty());
}

// A search for each callback, or for each owner, would take minutes.
TEST(CallbackQueueTest, EndingTakesLinearTime) {
  constexpr int kOthers = 200000;
  constexpr int kOwn = 10000;
  auto queue = std::make_unique<CallbackQueue>(kOthers + 2 * kOwn);
  EventOwner owner(*queue);
  int ran = 0;
  queue->run_pending();  // this thread drains
  for (int i = 0; i < kOthers; ++i) queue->post([] {});
  for (int i = 0; i < kOwn; ++i) owner.post([&] { ++ran; });
  std::list<EventOwner> others;
  for (int i = 0; i < kOwn; ++i) {
    others.emplace_back(*queue).post([] { FAIL() << "was dropped"; });
  }
  EXPECT_LT(seconds_of([&] { owner.retire(); }), 5 * kPrompt);
  EXPECT_EQ(ran, kOwn);
  EXPECT_EQ(queue->size(), static_cast<std::size_t>(kOthers + kOwn));
  EXPECT_LT(seconds_of([&] { queue.reset(); }), 5 * kPrompt);
}

// As when a program closes its servers, of which each has its last event behind
// a long queue. A search of all of the queue for each would take a minute.
TEST(CallbackQueueTest, ManyOwnersOfALongQueueAreCancelledInAShortTime) {
  constexpr int kOthers = 200000;
  constexpr int kOwners = 10000;
  CallbackQueue queue(kOthers + kOwners);
  for (int i = 0; i < kOthers; ++i) queue.post([] {});
  std::list<EventOwner> owners;
  for (int i = 0; i < kOwners; ++i) owners.emplace_back(queue);
  // Some have a callback there, some never had one.
  bool posts = false;
  for (EventOwner& owner : owners) {
    posts = !posts;
    if (posts) owner.post([] { FAIL() << "was dropped"; });
  }
  EXPECT_LT(seconds_of([&] { owners.clear(); }), 5 * kPrompt);
  EXPECT_EQ(queue.run_pending(), static_cast<std::size_t>(kOthers));
}

// A callback that cancels the owner drops those that retire() would run next.
TEST(CallbackQueueTest, CallbackMayCancelARetiringOwner) {
  CallbackQueue queue;
  EventOwner owner(queue);
  queue.run_pending();
  owner.post([&] { owner.cancel(); });
  owner.post([keep = on_destruction([&] {
                EXPECT_TRUE(queue.empty());  // no lock is held
              })] { FAIL() << "ran after cancel()"; });
  owner.retire();
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, RetireInsideTheOwnersCallbackDrops) {
  CallbackQueue queue;
  EventOwner owner(queue);
  post_event(owner, [&] { owner.retire(); });
  post_event(owner, [] { FAIL() << "ran after retire()"; });
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_TRUE(queue.empty());
}

TEST(CallbackQueueTest, RetireInsideAnotherOwnersCallbackRunsTheRest) {
  CallbackQueue queue;
  EventOwner owner(queue);
  Ints ran;
  queue.post([&] {
    owner.retire();
    ran.push_back(2);
  });
  post_event(owner, append(ran, 1));
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_EQ(ran, (Ints{1, 2}));
}

TEST(CallbackQueueTest, RetireWaitsForTheRunningCallback) {
  CallbackQueue queue;
  EventOwner owner(queue);
  Gate gate;
  owner.post(gate.callback());
  WaitingThread drainer([&] { queue.run_pending(); });
  gate.wait_begun();
  WaitingThread closer([&] { owner.retire(); });
  EXPECT_TRUE(closer.is_blocked());
  gate.open();
  closer.join();
  drainer.join();
}

// ---- Descriptor and destruction

TEST(CallbackQueueTest, WaitFdIsReadableExactlyWhileNotEmpty) {
  CallbackQueue queue;
  CallbackQueue::Owner owner(queue);
  const int fd = queue.wait_fd();
  EXPECT_FALSE(is_readable(fd));
  queue.post([] {});
  EXPECT_TRUE(is_readable(fd));
  owner.post(
      [keep = on_destruction([&] { EXPECT_FALSE(is_readable(fd)); })] {});
  queue.run_one();
  EXPECT_TRUE(is_readable(fd));
  owner.cancel();
  EXPECT_FALSE(is_readable(fd));
  queue.post([&] { EXPECT_FALSE(is_readable(fd)); });
  EXPECT_EQ(queue.wait_fd(), fd);
  EXPECT_TRUE(is_readable(fd));
  queue.run_pending();
  EXPECT_FALSE(is_readable(fd));
  EventOwner events(queue);
  post_event(events, [] {});
  EXPECT_TRUE(is_readable(fd));
  events.retire();
  EXPECT_FALSE(is_readable(fd));
}

TEST(CallbackQueueTest, WaitFdIsNotReadableInACallbackThatRetireRuns) {
  CallbackQueue queue;
  EventOwner owner(queue);
  const int fd = queue.wait_fd();
  queue.run_pending();
  bool readable = true;
  post_event(owner, [&] { readable = is_readable(fd); });
  EXPECT_TRUE(is_readable(fd));
  owner.retire();
  EXPECT_FALSE(readable);
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
  WaitingThread poster([&] {
    for (int i = 0; i < kCount; ++i) queue.post_wait([] {});
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
  int dropped = 0;
  std::unique_ptr<CallbackQueue::Owner> owner;  // outlives the queue
  {
    CallbackQueue queue;
    owner = std::make_unique<CallbackQueue::Owner>(queue);
    CallbackQueue::Owner other(queue);
    const auto drop = [&] {
      ++dropped;
      queue.size();  // no lock is held
    };
    owner->post([keep = on_destruction(drop)] { FAIL(); });
    other.post([keep = on_destruction(drop)] { FAIL(); });
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
    WaitingThread([&] { drain(q); }).join();
    EXPECT_TRUE(ran);
  };
  destroy_in([](CallbackQueue& queue) { queue.run_pending(); });
  destroy_in([](CallbackQueue& queue) { queue.run_one(); });
  destroy_in([](CallbackQueue& queue) { queue.run({}); });
}

}  // namespace
}  // namespace tcpip
