#include "tcpip/base/poller.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <optional>
#include <set>
#include <stop_token>
#include <system_error>
#include <thread>
#include <vector>

#include "tcpip/unique_fd.h"
#include "tests/support/signal_storm.h"
#include "tests/support/sockets.h"
#include "tests/support/wait_until.h"

namespace tcpip::internal {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using tcpip_tests::is_blocked_in_poll;
using tcpip_tests::NoMoreDescriptors;
using tcpip_tests::SignalStorm;
using tcpip_tests::this_thread_id;
using tcpip_tests::wait_until;

struct Pair {
  Pair() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()),
              0);
    here.reset(fds[0]);
    there.reset(fds[1]);
  }
  void send() const { EXPECT_EQ(::write(there.get(), "x", 1), 1); }

  UniqueFd here;
  UniqueFd there;
};

bool is_readable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 0) == 1;
}

// kOk or kTimeout, as the descriptor is readable or not.
IoStatus poll_one(int fd, Deadline deadline) {
  pollfd entry{fd, POLLIN, 0};
  const IoResult result = poll_until({&entry, 1}, deadline);
  EXPECT_EQ(result.count, result.status == IoStatus::kOk ? 1u : 0u);
  EXPECT_EQ(result.error_number, 0);
  return result.status;
}

IoStatus wait_one(int fd, short events, const Wait& wait, Waker& waker) {
  return wait_ready(fd, events, wait, waker).status;
}

TEST(Waker, MakesItsDescriptorWhenOpened) {
  Waker waker;
  waker.signal();  // into the void
  waker.clear();
  EXPECT_EQ(waker.fd(), -1);
  EXPECT_FALSE(waker.open());
  const int fd = waker.fd();
  EXPECT_GE(fd, 0);
  EXPECT_FALSE(waker.open());
  EXPECT_EQ(waker.fd(), fd);
  EXPECT_EQ(::fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_FALSE(is_readable(fd));
}

TEST(Waker, IsReadableFromSignalToClear) {
  Waker waker;
  ASSERT_FALSE(waker.open());
  const int fd = waker.fd();
  waker.signal();
  waker.signal();
  EXPECT_TRUE(is_readable(fd));
  EXPECT_TRUE(is_readable(fd));
  waker.clear();
  EXPECT_FALSE(is_readable(fd));
  waker.clear();  // must not block
  waker.signal();
  EXPECT_TRUE(is_readable(fd));
}

TEST(WaitAnyReady, TellsWhichDescriptorIsReady) {
  const Pair quiet;
  const Pair ready;
  ready.send();
  Waker waker;
  std::array<pollfd, 3> fds{pollfd{quiet.here.get(), POLLIN, 0},
                            pollfd{ready.here.get(), POLLIN, 0}};
  EXPECT_EQ(wait_any_ready(fds, {}, waker).status, IoStatus::kOk);
  EXPECT_EQ(fds[0].revents, 0);
  EXPECT_EQ(fds[1].revents, POLLIN);
  EXPECT_EQ(fds[2].fd, waker.fd());
  EXPECT_EQ(fds[2].revents, 0);
}

TEST(Waker, ClosesItsDescriptor) {
  int fd = -1;
  {
    Waker waker;
    ASSERT_FALSE(waker.open());
    fd = waker.fd();
  }
  EXPECT_LT(::fcntl(fd, F_GETFD), 0);
}

TEST(Waker, OpensOneDescriptorForManyThreads) {
  for (int round = 0; round < 50; ++round) {
    Waker waker;
    std::array<int, 4> fds{};
    std::atomic<int> ready{0};
    {
      std::vector<std::jthread> threads;
      for (int& fd : fds) {
        threads.emplace_back([&] {
          for (++ready; ready < 4;) std::this_thread::yield();
          EXPECT_FALSE(waker.open());
          fd = waker.fd();
          waker.signal();
        });
      }
    }
    EXPECT_EQ(std::set(fds.begin(), fds.end()).size(), 1u);
    EXPECT_TRUE(is_readable(fds[0]));
  }
}

TEST(Waker, ReportsALackOfDescriptors) {
  Waker waker;
  std::error_code error;
  {
    const NoMoreDescriptors none;
    error = waker.open();
  }
  // Compared out here: UBSan needs a descriptor to look at a category.
  EXPECT_EQ(error, std::errc::too_many_files_open);
  EXPECT_EQ(waker.fd(), -1);
  EXPECT_FALSE(waker.open());
  EXPECT_GE(waker.fd(), 0);
}

TEST(PollUntil, ReturnsWhatIsReady) {
  const Pair pair;
  pair.send();
  std::array<pollfd, 2> fds{pollfd{pair.here.get(), POLLIN, 0},
                            pollfd{pair.there.get(), POLLIN, 0}};
  const IoResult result = poll_until(fds, Deadline());
  EXPECT_EQ(result.status, IoStatus::kOk);
  EXPECT_EQ(result.count, 1u);
  EXPECT_EQ(fds[0].revents, POLLIN);
  EXPECT_EQ(fds[1].revents, 0);
}

TEST(PollUntil, LooksOnceAfterTheDeadline) {
  const Pair pair;
  const Deadline passed(Clock::time_point::min());
  EXPECT_EQ(poll_one(pair.here.get(), passed), IoStatus::kTimeout);
  EXPECT_EQ(poll_one(pair.here.get(), Deadline(Clock::now() - 1h)),
            IoStatus::kTimeout);
  pair.send();
  EXPECT_EQ(poll_one(pair.here.get(), passed), IoStatus::kOk);
}

TEST(PollUntil, WaitsForADeadlineAtTheEndOfTime) {
  const Pair pair;
  pair.send();
  EXPECT_EQ(poll_one(pair.here.get(), Deadline(Clock::time_point::max() - 1ns)),
            IoStatus::kOk);
}

TEST(PollUntil, KeepsItsDeadlineToAFewMilliseconds) {
  const Pair pair;
  auto best = Clock::duration::max();  // of a machine that has other work too
  for (int i = 0; i < 20; ++i) {
    const Deadline deadline = Deadline::after(3ms);
    EXPECT_EQ(poll_one(pair.here.get(), deadline), IoStatus::kTimeout);
    const auto late = Clock::now() - deadline.when();
    EXPECT_GE(late, 0ns) << "returned early";
    best = std::min(best, late);
  }
  EXPECT_LT(best, 5ms);
}

// The kernel may end a long poll a thousandth too late.
TEST(PollUntil, KeepsALongDeadlineToAFewMilliseconds) {
  auto best = Clock::duration::max();  // of a machine that has other work
  for (int i = 0; i < 2; ++i) {
    const Pair pair;
    const Deadline deadline = Deadline::after(1200ms);
    EXPECT_EQ(poll_one(pair.here.get(), deadline), IoStatus::kTimeout);
    EXPECT_TRUE(deadline.has_passed());
    best = std::min(best, Clock::now() - deadline.when());
  }
  EXPECT_LT(best, 5ms);
}

TEST(PollUntil, KeepsItsDeadlineUnderASignalStorm) {
  const Pair pair;
  const SignalStorm storm(::pthread_self());
  const Deadline deadline = Deadline::after(60ms);
  EXPECT_EQ(poll_one(pair.here.get(), deadline), IoStatus::kTimeout);
  EXPECT_TRUE(deadline.has_passed());
  EXPECT_LT(Clock::now(), deadline.when() + 5s);
  EXPECT_GT(storm.count(), 3);
}

TEST(PollUntil, WaitsOnUnderASignalStorm) {
  const Pair pair;
  const SignalStorm storm(::pthread_self());
  std::jthread sender([&] {
    EXPECT_TRUE(wait_until([&] { return storm.count() > 20; }));
    pair.send();
  });
  EXPECT_EQ(poll_one(pair.here.get(), Deadline()), IoStatus::kOk);
  EXPECT_GT(storm.count(), 20);
}

TEST(PollUntil, ReportsWhatTheKernelRefuses) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit few{16, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  std::array<pollfd, 17> too_many{};
  for (pollfd& entry : too_many) entry.fd = -1;
  const IoResult result = poll_until(too_many, Deadline());
  ::setrlimit(RLIMIT_NOFILE, &limit);
  EXPECT_EQ(result.status, IoStatus::kError);
  EXPECT_EQ(result.error_number, EINVAL);
}

TEST(WaitReady, ReportsThatItCannotBeWoken) {
  const std::stop_source source;
  Waker waker;
  const Pair pair;
  pair.send();
  const NoMoreDescriptors none;
  for (const Wait& wait : {Wait(), Wait(1h), Wait(source.get_token())}) {
    const IoResult result = wait_ready(pair.here.get(), POLLIN, wait, waker);
    EXPECT_EQ(result.status, IoStatus::kError);
    EXPECT_EQ(result.error_number, EMFILE);
  }
}

TEST(WaitReady, IsReadyWhenTheDescriptorIs) {
  const std::stop_source source;
  Waker waker;
  const Pair pair;
  pair.send();
  for (const Wait& wait :
       {Wait(), Wait(1h), Wait::none(), Wait(source.get_token()),
        Wait(1h, source.get_token())}) {
    EXPECT_EQ(wait_one(pair.here.get(), POLLIN, wait, waker), IoStatus::kOk);
  }
  EXPECT_EQ(wait_one(pair.here.get(), POLLOUT, {}, waker), IoStatus::kOk);
}

TEST(WaitReady, IsReadyWhenThePeerHasGone) {
  Waker waker;
  Pair pair;
  pair.there.reset();
  EXPECT_EQ(wait_one(pair.here.get(), POLLIN, {}, waker), IoStatus::kOk);
}

TEST(WaitReady, IsReadyOnceTheWakerWasSignalled) {
  const std::stop_source source;
  Waker waker;
  const Pair pair;
  ASSERT_FALSE(waker.open());
  waker.signal();
  for (const Wait& wait : {Wait(), Wait(1h), Wait(source.get_token())}) {
    EXPECT_EQ(wait_one(pair.here.get(), POLLIN, wait, waker), IoStatus::kOk)
        << "the waker stays signalled until it is cleared";
  }
}

TEST(WaitReady, EndsAtTheDeadline) {
  const std::stop_source source;
  Waker waker;
  const Pair pair;
  EXPECT_EQ(wait_one(pair.here.get(), POLLIN, Wait::none(), waker),
            IoStatus::kTimeout);
  const Deadline deadline = Deadline::after(10ms);
  EXPECT_EQ(
      wait_one(pair.here.get(), POLLIN, {deadline, source.get_token()}, waker),
      IoStatus::kTimeout);
  EXPECT_TRUE(deadline.has_passed());
}

TEST(WaitReady, LetsARequestedStopWinOverAll) {
  std::stop_source source;
  source.request_stop();
  Waker waker;
  ASSERT_FALSE(waker.open());
  waker.signal();
  const Pair pair;
  pair.send();
  EXPECT_EQ(wait_one(pair.here.get(), POLLIN, source.get_token(), waker),
            IoStatus::kStopped);
  EXPECT_EQ(wait_one(pair.here.get(), POLLIN, {0s, source.get_token()}, waker),
            IoStatus::kStopped);
}

// Calls wait_ready() in a thread, which is blocked in the kernel when the
// constructor returns.
class Waiting {
 public:
  Waiting(int fd, Wait wait, Waker& waker)
      : thread_([this, fd, wait = std::move(wait), &waker] {
          thread_id_ = this_thread_id();
          result_ = wait_one(fd, POLLIN, wait, waker);
        }) {
    EXPECT_TRUE(wait_until(
        [&] { return thread_id_ != 0 && is_blocked_in_poll(thread_id_); }));
  }
  IoStatus result() {
    thread_.join();
    return *result_;
  }

 private:
  std::atomic<pid_t> thread_id_{0};
  std::optional<IoStatus> result_;
  std::jthread thread_;
};

TEST(WaitReady, IsWokenByAStop) {
  for (const Deadline deadline : {Deadline(), Deadline::after(1h)}) {
    std::stop_source source;
    Waker waker;
    const Pair pair;
    Waiting waiting(pair.here.get(), {deadline, source.get_token()}, waker);
    source.request_stop();
    EXPECT_EQ(waiting.result(), IoStatus::kStopped);
    EXPECT_FALSE(is_readable(waker.fd())) << "the stop's signal is its own";
  }
}

TEST(WaitReady, IsWokenByTheWaker) {
  const std::stop_source source;
  for (const Wait& wait : {Wait(), Wait(1h), Wait(source.get_token())}) {
    Waker waker;
    const Pair pair;
    Waiting waiting(pair.here.get(), wait, waker);
    waker.signal();
    EXPECT_EQ(waiting.result(), IoStatus::kOk);
    EXPECT_TRUE(is_readable(waker.fd()));
  }
}

TEST(WaitReady, IsWokenByTheDescriptor) {
  const std::stop_source source;
  Waker waker;
  const Pair pair;
  Waiting waiting(pair.here.get(), source.get_token(), waker);
  pair.send();
  EXPECT_EQ(waiting.result(), IoStatus::kOk);
}

TEST(WaitReady, IsNotWokenByTheNextWaitsStop) {
  Waker waker;
  const Pair pair;
  std::stop_source first;
  {
    Waiting waiting(pair.here.get(), first.get_token(), waker);
    pair.send();
    EXPECT_EQ(waiting.result(), IoStatus::kOk);
  }
  first.request_stop();  // of a call that is over
  char byte = 0;
  ASSERT_EQ(::read(pair.here.get(), &byte, 1), 1);
  EXPECT_EQ(wait_one(pair.here.get(), POLLIN, 1ms, waker), IoStatus::kTimeout);
}

TEST(WaitReady, NeverMissesAStopThatComesAtTheSameTime) {
  Waker waker;
  const Pair pair;
  for (int i = 0; i < 300; ++i) {
    std::stop_source source;
    std::atomic<bool> go{false};
    std::jthread stopper([&] {
      while (!go) {
      }
      source.request_stop();
    });
    go = true;
    ASSERT_EQ(wait_one(pair.here.get(), POLLIN, source.get_token(), waker),
              IoStatus::kStopped);
    ASSERT_FALSE(is_readable(waker.fd()));
  }
}

TEST(WaitReady, KeepsItsDeadlineUnderASignalStorm) {
  const std::stop_source source;
  Waker waker;
  const Pair pair;
  const SignalStorm storm(::pthread_self());
  const Deadline deadline = Deadline::after(60ms);
  EXPECT_EQ(
      wait_one(pair.here.get(), POLLIN, {deadline, source.get_token()}, waker),
      IoStatus::kTimeout);
  EXPECT_TRUE(deadline.has_passed());
  EXPECT_LT(Clock::now(), deadline.when() + 5s);
}

}  // namespace
}  // namespace tcpip::internal
