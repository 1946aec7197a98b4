// main() of every test: GoogleTest's, with the leak guard.
#include <gtest/gtest.h>

#include "tests/support/leak_guard.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(
      new tcpip_tests::LeakGuard);
  return RUN_ALL_TESTS();
}
