#include "tcpip/net/lookup.h"

#include <gtest/gtest.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/testing/leak_guard.h"
#include "tests/support/raw_client.h"
#include "tests/support/wait_until.h"
#include "tests/support/waiting_thread.h"

namespace {

// The name server: it answers when the test lets it. A name that begins with
// "no" has no address, one that begins with "empty" an answer without
// addresses; all others have 192.0.2.7, those that begin with "twice" have it
// twice.
class NameServer {
 public:
  // In the thread of a look-up. False: no such name.
  bool answer(const std::string& name) {
    std::unique_lock lock(mutex_);
    ++calls_[name];
    changed_.wait(lock, [&] { return open_ || answered_.contains(name); });
    return !name.starts_with("no");
  }

  void begin() {
    const std::lock_guard lock(mutex_);
    open_ = false;
    calls_.clear();
    answered_.clear();
  }
  void answer_all() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void answer_now(const std::string& name) {
    const std::lock_guard lock(mutex_);
    answered_.insert(name);
    changed_.notify_all();
  }
  int calls(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return calls_[name];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  std::map<std::string, int> calls_;
  std::set<std::string> answered_;
};

NameServer name_server;

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" {

int __real_getaddrinfo(const char* host, const char* port,
                       const addrinfo* hints, addrinfo** result);
int __wrap_getaddrinfo(const char* host, const char* port,
                       const addrinfo* hints, addrinfo** result) {
  if ((hints->ai_flags & AI_NUMERICHOST) != 0) {
    return __real_getaddrinfo(host, port, hints, result);
  }
  if (!name_server.answer(host)) return EAI_NONAME;
  addrinfo numeric = *hints;
  numeric.ai_flags |= AI_NUMERICHOST;
  const std::string_view name = host;
  *result = nullptr;
  if (name.starts_with("empty")) return 0;
  const int status = __real_getaddrinfo("192.0.2.7", port, &numeric, result);
  if (status != 0 || !name.starts_with("twice")) return status;
  return __real_getaddrinfo("192.0.2.7", port, &numeric, &(*result)->ai_next);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::count_threads;
using tcpip_testing::open_descriptors;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::WaitingThread;

class LookupTest : public testing::Test {
 protected:
  LookupTest() : threads_(count_threads()) { name_server.begin(); }
  ~LookupTest() override {
    name_server.answer_all();
    EXPECT_TRUE(eventually([this] { return running() == 0; }));
  }

  int running() const { return count_threads() - threads_; }
  // Leaves a look-up of that name behind.
  static void leave_behind(const std::string& name) {
    EXPECT_THROW(resolve(name, 1, Wait::none()), TimeoutError);
  }
  static void leave_as_many_behind_as_there_can_be() {
    for (int i = 0; i < internal::kMaxLookups; ++i) {
      leave_behind("host" + std::to_string(i));
    }
  }

 private:
  const HangGuard guard_;
  const int threads_;
};

// A7: a client that tries again and again while the name server is silent.
TEST_F(LookupTest, AddressThatComesTwiceIsOne) {
  name_server.answer_all();
  EXPECT_EQ(resolve("twice.example", 80, kPatience).size(), 1u);
}

TEST_F(LookupTest, AnswerWithoutAddressesIsAnError) {
  name_server.answer_all();
  EXPECT_THROW(resolve("empty.example", 80, kPatience), ResolveError);
}

TEST_F(LookupTest, TriesThatTimeOutShareOneThreadAndNeedNoDescriptor) {
  const auto descriptors = open_descriptors();
  for (int i = 0; i < 100; ++i) {
    EXPECT_THROW(resolve("telescope", 4000 + i, 1ms), TimeoutError);
    EXPECT_EQ(running(), 1);
    EXPECT_EQ(open_descriptors(), descriptors);
  }
  EXPECT_TRUE(eventually([] { return name_server.calls("telescope") == 1; }));
}

TEST_F(LookupTest, EveryCallerOfANameGetsTheAnswerWithItsOwnPort) {
  std::atomic<int> right{0};
  std::vector<std::jthread> callers;
  for (int port = 1; port <= 20; ++port) {
    callers.emplace_back([port, &right] {
      const auto found = resolve("telescope", port, kPatience);
      right += found.size() == 1 &&
               found[0].to_string() == "192.0.2.7:" + std::to_string(port);
    });
  }
  EXPECT_TRUE(eventually([&] { return running() == 21; }));
  name_server.answer_all();
  callers.clear();
  EXPECT_EQ(right, 20);
}

TEST_F(LookupTest, EveryCallerOfANameIsToldThatThereIsNone) {
  std::atomic<int> told{0};
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < 5; ++i) {
      callers.emplace_back([&told] {
        try {
          resolve("nobody", 1, kPatience);
        } catch (const ResolveError&) {
          ++told;
        }
      });
    }
    EXPECT_TRUE(eventually([] { return name_server.calls("nobody") > 0; }));
    name_server.answer_all();
  }
  EXPECT_EQ(told, 5);
}

TEST_F(LookupTest, AsksAgainOnceThereWasAnAnswer) {
  name_server.answer_all();
  for (int i = 1; i <= 3; ++i) {
    resolve("telescope", 1, kPatience);
    EXPECT_EQ(name_server.calls("telescope"), i);
  }
}

TEST_F(LookupTest, AsksForEachFamilyByItself) {
  leave_behind("telescope");
  EXPECT_THROW(resolve("telescope", 1, Wait::none(), AddressFamily::kIpv4),
               TimeoutError);
  EXPECT_EQ(running(), 2);
}

TEST_F(LookupTest, IsNotHeldUpByOtherNames) {
  leave_behind("silent");
  name_server.answer_now("telescope");
  EXPECT_EQ(resolve("telescope", 1, kPatience).size(), 1u);
}

TEST_F(LookupTest, TimeoutErrorSaysThatTooManyNamesAreWaitedFor) {
  leave_as_many_behind_as_there_can_be();
  for (const Wait& wait : {Wait::none(), Wait(20ms)}) {
    try {
      resolve("telescope", 4000, wait);
      FAIL();
    } catch (const TimeoutError& e) {
      EXPECT_STREQ(e.what(),
                   "resolve [telescope:4000]: timed out; 16 look-ups of other "
                   "names still wait for a name server");
    }
  }
  EXPECT_EQ(running(), internal::kMaxLookups);
  EXPECT_EQ(name_server.calls("telescope"), 0);
  // A name that is being looked up needs no further thread.
  EXPECT_THROW(resolve("host3", 1, 20ms), TimeoutError);
  name_server.answer_now("host3");
  EXPECT_TRUE(
      eventually([this] { return running() == internal::kMaxLookups - 1; }));
}

TEST_F(LookupTest, WaitsForAnotherLookUpToEndIfThereAreTooMany) {
  leave_as_many_behind_as_there_can_be();
  name_server.answer_now("telescope");
  WaitingThread caller(
      [] { EXPECT_EQ(resolve("telescope", 1, kPatience).size(), 1u); });
  EXPECT_TRUE(caller.is_blocked());
  name_server.answer_now("host7");
  caller.join();
}

TEST_F(LookupTest, CallersThatWaitForAPlaceShareItIfTheirNameIsTheSame) {
  leave_as_many_behind_as_there_can_be();
  std::atomic<int> answered{0};
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < 5; ++i) {
      callers.emplace_back([&answered] {
        answered += resolve("telescope", 1, kPatience).size() == 1;
      });
    }
    EXPECT_TRUE(
        eventually([this] { return running() == internal::kMaxLookups + 5; }));
    name_server.answer_now("host0");
    EXPECT_TRUE(eventually([] { return name_server.calls("telescope") == 1; }));
    name_server.answer_now("telescope");
  }
  EXPECT_EQ(answered, 5);
}

TEST_F(LookupTest, StopEndsTheWaitForAPlace) {
  leave_as_many_behind_as_there_can_be();
  std::stop_source stop;
  WaitingThread caller([&stop] {
    EXPECT_THROW(resolve("telescope", 1, stop.get_token()), CancelledError);
  });
  EXPECT_TRUE(caller.is_blocked());
  stop.request_stop();
  caller.join();
}

TEST_F(LookupTest, CloseEndsTheStartOfAClientThatWaitsForAPlace) {
  leave_as_many_behind_as_there_can_be();
  Client client({.host = "telescope", .port = 1});
  WaitingThread caller(
      [&client] { EXPECT_THROW(client.start(), ConnectionAbortedError); });
  EXPECT_TRUE(caller.is_blocked());
  client.close();
  caller.join();
}

// A child has a copy of the table, but none of the threads.
TEST_F(LookupTest, ForkedChildLooksUpByItself) {
  if (tcpip_tests::kWithSanitizer) {
    GTEST_SKIP() << "a child of a program with threads may start none";
  }
  leave_as_many_behind_as_there_can_be();
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    // A new one, which answers: what waits on a condition variable does not
    // exist here, and notifying it may wait for that.
    new (&name_server) NameServer;
    const bool found = resolve("host3", 1, kPatience).size() == 1 &&
                       resolve("telescope", 1, kPatience).size() == 1;
    ::_exit(found ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace tcpip
