// main() of every test: GoogleTest's, with the leak guard.
#include <gtest/gtest.h>

#include <thread>

#include "tests/support/leak_guard.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(
      new tcpip_tests::LeakGuard);
  // ThreadSanitizer starts a thread of its own beside the first; it is not the
  // first test's.
  std::thread([] {}).join();
  return RUN_ALL_TESTS();
}
