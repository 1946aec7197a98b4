#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>

#include "tcpip/testing/leak_guard.h"
#include "tcpip/unique_fd.h"
#include "tests/support/failures.h"
#include "tests/support/sanitizers.h"
#include "tests/support/sockets.h"
#include "tests/support/subprocess.h"
#include "tests/support/wait_until.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip::UniqueFd;
using tcpip_tests::Failures;
using tcpip_tests::failures_of;

UniqueFd open_null() { return UniqueFd(::open("/dev/null", O_CLOEXEC)); }

// A thread with a name, that runs until it is destroyed.
std::jthread idle_thread() {
  std::atomic<bool> runs{false};
  std::jthread thread([&runs](std::stop_token stop) {
    ::pthread_setname_np(::pthread_self(), "idler");
    runs = true;
    (void)wait_until([&] { return stop.stop_requested(); }, 1min);
  });
  EXPECT_TRUE(wait_until([&] { return runs.load(); }));
  return thread;
}

TEST(TestingLeakGuardTest, ListsDescriptorsAndThreads) {
  const UniqueFd fd = open_null();
  const auto descriptors = open_descriptors();
  ASSERT_TRUE(descriptors.contains(fd.get()));
  EXPECT_EQ(descriptors.at(fd.get()), "/dev/null");

  const int before = count_threads();
  EXPECT_TRUE(running_threads().contains(tcpip_tests::this_thread_id()));
  const std::jthread thread = idle_thread();
  EXPECT_EQ(count_threads(), before + 1);
  int idlers = 0;
  for (const auto& [id, name] : running_threads()) idlers += name == "idler";
  EXPECT_EQ(idlers, 1);
}

TEST(TestingLeakGuardTest, SnapshotIsRestoredWhenAllIsGone) {
  const LeakSnapshot before;
  EXPECT_TRUE(before.is_restored(0ms));
  {
    const UniqueFd fd = open_null();
    const std::jthread thread = idle_thread();
    EXPECT_FALSE(before.is_restored(0ms));
  }
  EXPECT_TRUE(before.is_restored());
}

TEST(TestingLeakGuardTest, SnapshotWaitsForWhatIsOnItsWayOut) {
  const LeakSnapshot before;
  std::jthread thread = idle_thread();
  thread.request_stop();
  EXPECT_TRUE(before.is_restored());
}

TEST(TestingLeakGuardTest, SnapshotNamesALeftDescriptor) {
  const LeakSnapshot before;
  const UniqueFd fd = open_null();
  const testing::AssertionResult result = before.is_restored(1ms);
  EXPECT_FALSE(result);
  EXPECT_EQ(result.message(), "descriptor " + std::to_string(fd.get()) +
                                  " was left behind: /dev/null\n");
}

TEST(TestingLeakGuardTest, SnapshotNamesALeftThread) {
  const LeakSnapshot before;
  const std::jthread thread = idle_thread();
  const testing::AssertionResult result = before.is_restored(1ms);
  EXPECT_FALSE(result);
  EXPECT_NE(std::string(result.message()).find(" was left behind: idler\n"),
            std::string::npos)
      << result.message();
}

TEST(TestingLeakGuardTest, SnapshotNamesADescriptorThatIsNoLongerThere) {
  UniqueFd fd = open_null();
  const int number = fd.get();
  const LeakSnapshot before;
  fd = {};
  const testing::AssertionResult closed = before.is_restored(1ms);
  EXPECT_FALSE(closed);
  EXPECT_NE(std::string(closed.message()).find("was closed, but belongs to "),
            std::string::npos)
      << closed.message();
  // Nor is another one of the same number the same.
  const UniqueFd other(::eventfd(0, EFD_CLOEXEC));
  ASSERT_EQ(other.get(), number);
  const testing::AssertionResult reused = before.is_restored(1ms);
  EXPECT_FALSE(reused);
  EXPECT_NE(std::string(reused.message()).find("left behind: anon_inode"),
            std::string::npos)
      << reused.message();
}

TEST(TestingLeakGuardTest, AFileThatIsRenamedOrDeletedIsTheSame) {
  const std::string path = testing::TempDir() + "leak_guard_test_file";
  const UniqueFd fd(
      ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR));
  ASSERT_GE(fd.get(), 0);
  const LeakSnapshot before;
  const std::string renamed = path + "_renamed";
  ASSERT_EQ(::rename(path.c_str(), renamed.c_str()), 0);
  EXPECT_TRUE(before.is_restored(0ms));
  ASSERT_EQ(::unlink(renamed.c_str()), 0);
  EXPECT_TRUE(before.is_restored(0ms));
}

TEST(TestingLeakGuardTest, AnotherFileOfTheSameNumberIsNotTheSame) {
  UniqueFd fd = open_null();
  const int number = fd.get();
  const LeakSnapshot before;
  fd = {};
  const UniqueFd other(::open("/dev/zero", O_CLOEXEC));
  ASSERT_EQ(other.get(), number);
  const testing::AssertionResult result = before.is_restored(1ms);
  EXPECT_FALSE(result);
  EXPECT_NE(std::string(result.message()).find("left behind: /dev/zero"),
            std::string::npos)
      << result.message();
}

// A test that leaks until nothing is left needs the message most.
TEST(TestingLeakGuardTest, NamesALeakThatTookTheLastDescriptor) {
  if (tcpip_tests::kNeedsDescriptors) GTEST_SKIP() << "UBSan needs one";
  const LeakSnapshot before;
  UniqueFd leaked;
  std::string message;
  bool restored = true;
  {
    leaked = open_null();
    const tcpip_tests::NoMoreDescriptors none;
    const testing::AssertionResult result = before.is_restored(1ms);
    restored = result;
    message = result.message();
  }
  EXPECT_FALSE(restored);
  EXPECT_EQ(message.find("descriptor " + std::to_string(leaked.get()) +
                         " was left behind: /dev/null\n"),
            0u)
      << message;
  EXPECT_EQ(message.find("was closed"), std::string::npos) << message;
  EXPECT_NE(message.find("threads cannot be looked at: "), std::string::npos)
      << message;
}

TEST(TestingLeakGuardTest, ASnapshotWithoutADescriptorToSpareSaysSo) {
  if (tcpip_tests::kNeedsDescriptors) GTEST_SKIP() << "UBSan needs one";
  std::optional<LeakSnapshot> before;
  {
    const tcpip_tests::NoMoreDescriptors none;
    before.emplace();
    EXPECT_THROW(count_threads(), std::system_error);
  }
  const UniqueFd fd = open_null();
  const testing::AssertionResult result = before->is_restored(1ms);
  EXPECT_FALSE(result);
  const std::string message = result.message();
  EXPECT_EQ(message.find("descriptor " + std::to_string(fd.get()) +
                         " was left behind: /dev/null\n"),
            0u)
      << message;
  EXPECT_NE(message.find("threads were not looked at: "), std::string::npos)
      << message;
  EXPECT_EQ(message.find("thread "), std::string::npos) << message;
}

TEST(TestingLeakGuardTest, ScopedGuardIsSilentIfNothingIsLeft) {
  const ScopedLeakGuard guard;
  const UniqueFd fd = open_null();
}

TEST(TestingLeakGuardTest, ScopedGuardFailsAtTheLineItWasMade) {
  UniqueFd fd;
  int line = 0;
  const Failures failures = failures_of([&] {
    line = __LINE__ + 1;
    const ScopedLeakGuard guard(1ms);
    fd = open_null();
  });
  EXPECT_EQ(failures.nonfatal, 1);
  EXPECT_EQ(failures.fatal, 0);
  EXPECT_EQ(failures.line, line);
  EXPECT_NE(failures.text.find("left behind: /dev/null"), std::string::npos)
      << failures.text;
}

// --- The listener, and main(), which has one ---

// What it reports of a test with that body.
template <class Body>
Failures failures_of_listener(Body body) {
  LeakGuard guard(1ms);
  const testing::TestInfo& info =
      *testing::UnitTest::GetInstance()->current_test_info();
  guard.OnTestStart(info);
  body();
  return failures_of([&] { guard.OnTestEnd(info); });
}

TEST(TestingLeakGuardTest, ListenerPassesATestThatLeavesNothing) {
  const Failures failures = failures_of_listener([] { open_null(); });
  EXPECT_EQ(failures.nonfatal + failures.fatal, 0) << failures.text;
}

TEST(TestingLeakGuardTest, ListenerFailsATestThatLeavesSomething) {
  UniqueFd fd;
  std::jthread thread;
  const Failures failures = failures_of_listener([&] {
    fd = open_null();
    thread = idle_thread();
  });
  EXPECT_EQ(failures.nonfatal, 1);
  EXPECT_NE(failures.text.find("left behind: /dev/null"), std::string::npos)
      << failures.text;
  EXPECT_NE(failures.text.find("left behind: idler"), std::string::npos)
      << failures.text;
}

TEST(TestingLeakGuardTest, ListenerFailsATestThatClosesAnothersDescriptor) {
  UniqueFd fd = open_null();
  const Failures failures = failures_of_listener([&] { fd = {}; });
  EXPECT_EQ(failures.nonfatal, 1);
  EXPECT_NE(failures.text.find("belongs to somebody else: /dev/null"),
            std::string::npos)
      << failures.text;
}

TEST(TestingLeakGuardTest, MainFailsATestThatLeavesADescriptor) {
  tcpip_tests::Subprocess child(
      {tcpip_tests::find_file("tests/unit/failing_tests"),
       "--gtest_filter=*LeavesADescriptor", "--gtest_output="},
      tcpip_tests::Subprocess::Errors::kWithOutput);
  const std::string output = child.read_all();
  EXPECT_EQ(child.wait(), 1) << output;
  EXPECT_NE(output.find("was left behind: /dev/null"), std::string::npos)
      << output;
}

}  // namespace
}  // namespace tcpip_testing
