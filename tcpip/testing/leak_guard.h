// Fails a test that leaves a descriptor or a thread behind, or that closes a
// descriptor which is not its own.
//
// All tests of a program: link //tcpip/testing:main in place of GoogleTest's
// main(), or append a LeakGuard to the listeners of your own.
//
// A part of a test, or a fixture:
//
//   ScopedLeakGuard guard;              // reports when it goes out of scope
//
//   const LeakSnapshot before;
//   ...
//   EXPECT_TRUE(before.is_restored());  // reports where you ask
//
// A descriptor or thread that something made for the whole of the process when
// it was first used (a logger, a sanitizer) counts as well: use that thing once
// before.
//
// Threads: for the thread that runs the test. What other threads of the process
// open and start meanwhile counts too.
#ifndef TCPIP_TESTING_LEAK_GUARD_H_
#define TCPIP_TESTING_LEAK_GUARD_H_

#include "tcpip/version.h"

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "tcpip/testing/assertion.h"

namespace tcpip_testing {

// The open descriptors of this process with what they are ("socket:[1234]").
// Needs no free descriptor.
TCPIP_EXPORT std::map<int, std::string> open_descriptors();
// The threads of this process, by their ids, with their names, and how many
// there are. Need a free descriptor: throw std::system_error (EMFILE) if there
// is none.
TCPIP_EXPORT std::map<pid_t, std::string> running_threads();
TCPIP_EXPORT int count_threads();

// What threads and descriptors on their way out get: one that was joined may be
// listed for a moment.
inline constexpr std::chrono::seconds kLeakPatience{5};

// What was open and running when it was made.
class TCPIP_EXPORT LeakSnapshot {
 public:
  LeakSnapshot();

  // True if no descriptor and no thread has come since, and no descriptor has
  // gone. Waits for that. The message has a line for each that has. A file that
  // was renamed or deleted is still the same. If no descriptor is free, the
  // threads cannot be looked at, and the message says so.
  testing::AssertionResult is_restored(
      std::chrono::milliseconds patience = kLeakPatience) const;

 private:
  // What an open descriptor stands for.
  struct Descriptor {
    std::string what;
    dev_t device = 0;
    ino_t inode = 0;
    bool is(const Descriptor& other) const;
  };
  static std::map<int, Descriptor> descriptors();
  std::string differences() const;

  const std::map<int, Descriptor> descriptors_;
  std::map<pid_t, std::string> threads_;
  // Why the threads are not known, or "".
  std::string threads_error_;
};

// From here to the end of the scope. A failure is not fatal and is reported at
// the line where this object was made.
class TCPIP_EXPORT ScopedLeakGuard {
 public:
  // `patience` is how long threads and descriptors may take to go.
  explicit ScopedLeakGuard(std::chrono::milliseconds patience = kLeakPatience,
                           Caller caller = Caller::here())
      : patience_(patience), caller_(caller) {}
  ~ScopedLeakGuard();
  ScopedLeakGuard(const ScopedLeakGuard&) = delete;
  ScopedLeakGuard& operator=(const ScopedLeakGuard&) = delete;

 private:
  const std::chrono::milliseconds patience_;
  const Caller caller_;
  const LeakSnapshot before_;
};

// From the start of each test to its end, fixture and all:
//   testing::UnitTest::GetInstance()->listeners().Append(new LeakGuard);
class TCPIP_EXPORT LeakGuard : public testing::EmptyTestEventListener {
 public:
  // As ScopedLeakGuard's.
  explicit LeakGuard(std::chrono::milliseconds patience = kLeakPatience)
      : patience_(patience) {}
  // For GoogleTest.
  void OnTestStart(const testing::TestInfo& info) override;
  void OnTestEnd(const testing::TestInfo& info) override;

 private:
  const std::chrono::milliseconds patience_;
  std::optional<LeakSnapshot> before_;
};

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_LEAK_GUARD_H_
