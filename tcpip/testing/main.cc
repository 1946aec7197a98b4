// main() of a test program: GoogleTest's and GoogleMock's, with the leak guard.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tcpip/testing/leak_guard.h"

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);  // and GoogleTest
  testing::UnitTest::GetInstance()->listeners().Append(
      new tcpip_testing::LeakGuard);
  // ThreadSanitizer starts a thread of its own beside the first; it is not the
  // first test's.
  std::thread([] {}).join();
  return RUN_ALL_TESTS();
}
