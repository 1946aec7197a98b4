#include "tcpip/wait.h"

#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <stop_token>
#include <thread>
#include <type_traits>

#include "tcpip/base/mutex.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;
using Clock = Deadline::Clock;
using internal::WaitResult;

TEST(Deadline, NeverPassesByDefault) {
  const Deadline never;
  EXPECT_TRUE(never.is_never());
  EXPECT_FALSE(never.has_passed());
  EXPECT_EQ(never.remaining(), Clock::duration::max());
}

TEST(Deadline, PassesAtItsTime) {
  const Clock::time_point now = Clock::now();
  EXPECT_TRUE(Deadline(now).has_passed());
  EXPECT_EQ(Deadline(now - 1s).remaining(), 0s);
  const Deadline later(now + 1h);
  EXPECT_FALSE(later.has_passed());
  EXPECT_FALSE(later.is_never());
  EXPECT_GT(later.remaining(), 59min);
  EXPECT_LE(later.remaining(), 1h);
}

TEST(Deadline, AfterADurationIsNoEarlier) {
  const Clock::time_point before = Clock::now();
  const Deadline deadline = Deadline::after(30ms);
  EXPECT_GE(deadline.when(), before + 30ms);
  EXPECT_LE(deadline.when(), Clock::now() + 30ms);
}

TEST(Deadline, RoundsFractionsOfATickUp) {
  const Clock::time_point before = Clock::now();
  using Nanoseconds = std::chrono::duration<double, std::nano>;
  EXPECT_GE(Deadline::after(Nanoseconds(0.25)).when(), before + 1ns);
  using Picoseconds = std::chrono::duration<long long, std::pico>;
  EXPECT_GE(Deadline::after(Picoseconds(1001)).when(), before + 2ns);
}

TEST(Deadline, HasPassedAfterNothingOrLess) {
  using Seconds = std::chrono::duration<double>;
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const Deadline deadline :
       {Deadline::after(0s), Deadline::after(-1ns), Deadline::after(-1h),
        Deadline::after(std::chrono::hours::min()),
        Deadline::after(std::chrono::nanoseconds::min()),
        Deadline::after(Seconds(kNan)), Deadline::after(Seconds(-kInfinity)),
        Deadline::after(Seconds(-0.0))}) {
    EXPECT_TRUE(deadline.has_passed());
    EXPECT_FALSE(deadline.is_never());
    EXPECT_EQ(deadline.remaining(), 0s);
  }
}

TEST(Deadline, NeverPassesAfterMoreThanTheClockHolds) {
  using Seconds = std::chrono::duration<double>;
  for (const Deadline deadline :
       {Deadline::after(std::chrono::nanoseconds::max()),
        Deadline::after(std::chrono::seconds::max()),
        Deadline::after(std::chrono::hours::max()),
        Deadline::after(Seconds(1e300)),
        Deadline::after(Seconds(std::numeric_limits<double>::infinity()))}) {
    EXPECT_TRUE(deadline.is_never());
    EXPECT_FALSE(deadline.has_passed());
  }
}

TEST(Deadline, TakesDurationsOfEveryType) {
  using Byte = std::chrono::duration<signed char>;
  using Years = std::chrono::duration<float, std::ratio<31'556'952>>;
  EXPECT_GT(Deadline::after(Byte(100)).remaining(), 99s);
  EXPECT_GT(Deadline::after(Years(1.0f)).remaining(), 8765h);
  EXPECT_LT(Deadline::after(Years(1.0f)).remaining(), 8767h);
}

TEST(Deadline, RemainingDoesNotOverflow) {
  EXPECT_EQ(Deadline(Clock::time_point::min()).remaining(), 0s);
  EXPECT_EQ(Deadline(Clock::time_point::min() + 1ns).remaining(), 0s);
  EXPECT_GT(Deadline(Clock::time_point::max() - 1ns).remaining(), 0s);
}

TEST(Deadline, Compares) {
  const Clock::time_point now = Clock::now();
  EXPECT_LT(Deadline(now), Deadline(now + 1s));
  EXPECT_LT(Deadline(now + 1h), Deadline());
  EXPECT_EQ(Deadline(), Deadline());
  static_assert(Deadline().is_never());
}

bool is_forever(const Wait& wait = {}) { return wait.is_forever(); }

TEST(Wait, IsForeverByDefault) {
  EXPECT_TRUE(is_forever());
  EXPECT_TRUE(is_forever({}));
  EXPECT_TRUE(is_forever(std::stop_token()));  // of nobody: never requested
  EXPECT_TRUE(is_forever(Deadline()));
  EXPECT_TRUE(is_forever(std::chrono::hours::max()));
}

TEST(Wait, IsMadeOfADurationADeadlineAStopOrBoth) {
  const std::stop_source source;
  const std::stop_token stop = source.get_token();
  const Deadline deadline = Deadline::after(1h);
  EXPECT_FALSE(is_forever(2s));
  EXPECT_FALSE(is_forever(1.5s));
  EXPECT_FALSE(is_forever(deadline));
  EXPECT_FALSE(is_forever(stop));
  EXPECT_FALSE(is_forever({2s, stop}));
  EXPECT_FALSE(is_forever({deadline, stop}));
  const Wait both(2s, stop);
  EXPECT_EQ(both.stop, stop);
  EXPECT_LE(both.deadline.remaining(), 2s);
  EXPECT_EQ(Wait(deadline, stop).deadline, deadline);
  static_assert(!std::is_convertible_v<int, Wait>, "2 what?");
  static_assert(!std::is_convertible_v<double, Wait>);
}

TEST(Wait, NoneHasPassed) {
  EXPECT_TRUE(Wait::none().deadline.has_passed());
  EXPECT_FALSE(Wait::none().is_forever());
  EXPECT_FALSE(Wait::none().stop.stop_possible());
}

TEST(Wait, OfNoTimeHasPassed) {
  EXPECT_TRUE(Wait(0s).deadline.has_passed());
  EXPECT_TRUE(Wait(-5s).deadline.has_passed());
}

// internal::CondVar, which waits for threads as the poller does for sockets --

struct Guarded {
  internal::Mutex mutex;
  internal::CondVar changed;
  bool done TCPIP_GUARDED_BY(mutex) = false;

  WaitResult wait(const Wait& wait) TCPIP_EXCLUDES(mutex) {
    const internal::MutexLock lock(mutex);
    return changed.wait(mutex, wait,
                        [this]() TCPIP_REQUIRES(mutex) { return done; });
  }
  void finish() TCPIP_EXCLUDES(mutex) {
    const internal::MutexLock lock(mutex);
    done = true;
    changed.notify_all();
  }
};

TEST(CondVar, ReturnsAtOnceWhatIsDone) {
  std::stop_source source;
  Guarded guarded;
  guarded.finish();
  EXPECT_EQ(guarded.wait({}), WaitResult::kReady);
  EXPECT_EQ(guarded.wait(Wait::none()), WaitResult::kReady);
  EXPECT_EQ(guarded.wait(source.get_token()), WaitResult::kReady);
  source.request_stop();
  EXPECT_EQ(guarded.wait(source.get_token()), WaitResult::kStopped)
      << "a requested stop wins";
}

TEST(CondVar, WaitsForEveryKindOfWait) {
  const std::stop_source source;
  const std::stop_token stop = source.get_token();
  for (const Wait& wait : {Wait(), Wait(1h), Wait(stop), Wait(1h, stop)}) {
    Guarded guarded;
    std::jthread thread([&] { guarded.finish(); });
    EXPECT_EQ(guarded.wait(wait), WaitResult::kReady);
  }
}

TEST(CondVar, EndsAtTheDeadline) {
  const std::stop_source source;
  Guarded guarded;
  EXPECT_EQ(guarded.wait(Wait::none()), WaitResult::kTimeout);
  for (const std::stop_token& stop : {std::stop_token(), source.get_token()}) {
    const Deadline deadline = Deadline::after(20ms);
    EXPECT_EQ(guarded.wait({deadline, stop}), WaitResult::kTimeout);
    EXPECT_TRUE(deadline.has_passed());
  }
}

TEST(CondVar, EndsAtAStop) {
  for (const Deadline deadline : {Deadline(), Deadline::after(1h)}) {
    std::stop_source source;
    Guarded guarded;
    WaitResult result{};
    {
      std::jthread thread([&] {
        result = guarded.wait({deadline, source.get_token()});
      });
      source.request_stop();
    }
    EXPECT_EQ(result, WaitResult::kStopped);
    EXPECT_EQ(guarded.wait(source.get_token()), WaitResult::kStopped);
  }
}

TEST(WaitUntil, TellsWhetherItCame) {
  int looks = 0;
  EXPECT_TRUE(tcpip_tests::wait_until([&] { return ++looks == 3; }));
  EXPECT_FALSE(tcpip_tests::wait_until([] { return false; }, 5ms));
}

}  // namespace
}  // namespace tcpip
