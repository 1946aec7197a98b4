#include "tcpip/stream/sole_reader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

namespace tcpip::internal {
namespace {

TEST(SoleReader, RefusesASecondCallUntilTheFirstHasEnded) {
  SoleReader reader;
  EXPECT_FALSE(reader.is_reading());
  reader.begin("first");
  EXPECT_TRUE(reader.is_reading());
  try {
    reader.begin("second");
    ADD_FAILURE();
  } catch (const std::logic_error& e) {
    EXPECT_TRUE(std::string(e.what()).starts_with("second: ")) << e.what();
  }
  EXPECT_TRUE(reader.is_reading());
  reader.end();
  EXPECT_FALSE(reader.is_reading());
  reader.begin("third");
  EXPECT_TRUE(reader.is_reading());
}

TEST(SoleReader, LetsOneOfThoseInWhoBeginInTheSameInstant) {
  constexpr int kRounds = 2000;
  SoleReader reader;
  std::atomic<int> inside{0};
  std::atomic<int> let_in{0};
  const auto read = [&] {
    for (int i = 0; i < kRounds; ++i) {
      try {
        reader.begin("read");
      } catch (const std::logic_error&) {
        continue;
      }
      EXPECT_EQ(++inside, 1);
      ++let_in;
      --inside;
      reader.end();
    }
  };
  {
    const std::jthread first(read);
    const std::jthread second(read);
  }
  EXPECT_GT(let_in, 0);
  EXPECT_FALSE(reader.is_reading());
}

}  // namespace
}  // namespace tcpip::internal
