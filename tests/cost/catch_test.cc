// What the counts of calls_test.cc rest on: a Tally misses no call that is
// caught, and counts no other thread's.
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/support/faults.h"
#include "tests/support/loopback.h"
#include "tests/support/tally.h"

namespace tcpip_tests {
namespace {

// Keeps the compiler from leaving out an allocation.
void* volatile kept = nullptr;

std::string counted(const std::function<void()>& work) {
  Tally tally;
  tally.attach();
  work();
  Tally::detach();
  return to_string(tally.counts());
}

TEST(TallyTest, CountsSystemCalls) {
  FdPair pair = fd_pair(Transport::kUnix);
  char byte = 'x';
  EXPECT_EQ(counted([&] {
              ::send(pair.peer.get(), &byte, 1, 0);
              ::send(pair.peer.get(), &byte, 1, 0);
              ::recv(pair.ours.get(), &byte, 1, 0);
            }),
            "recv 1, send 2");
}

TEST(TallyTest, CountsLocks) {
  std::mutex mutex;
  pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
  EXPECT_EQ(counted([&] {
              mutex.lock();
              mutex.unlock();
              if (mutex.try_lock()) mutex.unlock();
              ::pthread_rwlock_rdlock(&rwlock);
              ::pthread_rwlock_unlock(&rwlock);
              ::pthread_rwlock_wrlock(&rwlock);
              ::pthread_rwlock_unlock(&rwlock);
            }),
            "lock 4");
}

TEST(TallyTest, CountsAllocations) {
  EXPECT_EQ(counted([] {
              kept = std::malloc(10);
              kept = std::realloc(kept, 100);
              std::free(kept);
              kept = std::calloc(10, 10);
              std::free(kept);
              kept = std::aligned_alloc(64, 64);
              std::free(kept);
            }),
            "malloc 4");
  // "new" is the shim's name for it.
  EXPECT_EQ(counted([] {
              kept = ::operator new(10);
              ::operator delete(kept);
            }),
            "malloc 1, new 1");
  // Inside libstdc++.so.
  EXPECT_EQ(counted([] { std::string().reserve(1000); }), "malloc 1, new 1");
}

TEST(TallyTest, CountsLooksAtTheClock) {
  EXPECT_EQ(counted([] {
              (void)std::chrono::steady_clock::now();
              (void)std::chrono::system_clock::now();
            }),
            "clock 2");
}

TEST(TallyTest, CountsWhatGoesThroughSyscall) {
  int word = 0;
  EXPECT_EQ(counted([&] {
              ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr,
                        nullptr, 0);
              EXPECT_EQ(::syscall(SYS_getpid), ::getpid());
            }),
            "futex 1, syscall 1");
}

TEST(TallyTest, CountsNoOtherThreadsCalls) {
  std::mutex mutex;
  Tally tally;
  tally.attach();
  mutex.lock();
  mutex.unlock();
  std::thread thread([&] {
    for (int i = 0; i < 1000; ++i) {
      mutex.lock();
      mutex.unlock();
    }
  });
  thread.join();
  Tally::detach();
  mutex.lock();
  mutex.unlock();
  const Counts counts = tally.counts();
  EXPECT_EQ(counts.at("lock"), 1u) << to_string(counts);
  EXPECT_EQ(counts.at("thread"), 1u) << to_string(counts);
}

TEST(TallyTest, CountsNothingThatIsExempt) {
  FdPair pair = fd_pair(Transport::kUnix);
  EXPECT_EQ(counted([&] {
              const faults::Exempt exempt;
              ::send(pair.peer.get(), "x", 1, 0);
            }),
            "");
}

TEST(TallyTest, IsReadAsItIsWritten) {
  const std::string text = "lock 12, ppoll 1, recv 2";
  EXPECT_EQ(to_string(parse_counts(text)), text);
  EXPECT_TRUE(parse_counts("").empty());
  EXPECT_THROW(parse_counts("recv"), std::invalid_argument);
}

}  // namespace
}  // namespace tcpip_tests
