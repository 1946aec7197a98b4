// A test that hangs says where.
#include "tests/support/hang_guard.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tcpip/one_client_server.h"
#include "tests/support/wait_until.h"

namespace tcpip_tests {

// Not in the anonymous namespace: the names are looked for.
__attribute__((noinline)) void hang_in_a_thread(std::atomic<bool>& hangs) {
  hangs = true;
  for (;;) ::pause();
}

__attribute__((noinline)) void hang_in_main() {
  const HangGuard outer(50);
  const HangGuard guard(1);
  const HangGuard inner(50);  // does not put it off
  std::atomic<bool> hangs{false};
  std::jthread thread([&] {
    ::pthread_setname_np(::pthread_self(), "the other one");
    hang_in_a_thread(hangs);
  });
  if (!wait_until([&] { return hangs.load(); })) return;
  thread.join();
}

namespace {

TEST(HangGuardDeathTest, PrintsTheStacksOfAllThreads) {
  EXPECT_DEATH(hang_in_main(), "The program hangs");
  EXPECT_DEATH(hang_in_main(), "hang_in_main");
  EXPECT_DEATH(hang_in_main(),
               "\\(the other one\\), system call(.|\n)*hang_in_a_thread");
}

// One of the library's threads, whether or not it may be asked for its stack.
TEST(HangGuardDeathTest, NamesTheThreadsOfTheLibrary) {
  EXPECT_DEATH(
      {
        tcpip::OneClientServer server({.host = "127.0.0.1"});
        server.start();
        const HangGuard guard(1);
        server.wait_done();
      },
      "accept.*system call");
}

TEST(HangGuardTest, GivesTheOuterGuardItsTimeBack) {
  const unsigned program = ::alarm(0);
  ::alarm(1000);
  { const HangGuard guard(500); }
  const unsigned left = ::alarm(0);
  EXPECT_LE(left, 1000u);
  EXPECT_GE(left, 990u);
  { const HangGuard guard(500); }
  EXPECT_EQ(::alarm(program), 0u);
}

}  // namespace
}  // namespace tcpip_tests
