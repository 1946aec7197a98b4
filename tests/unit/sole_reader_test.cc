#include "tcpip/stream/sole_reader.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

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

TEST(SoleReader, LetsOneThreadAtATimeReceive) {
  SoleReader reader;
  for (int i = 0; i < 2; ++i) {
    const SoleReader::Receiving receiving(reader, "first");
    EXPECT_THROW(SoleReader::Receiving(reader, "second"), SecondReaderError);
    EXPECT_THROW(SoleReader::Receiving(reader, "third"), SecondReaderError);
  }
}

}  // namespace
}  // namespace tcpip::internal
