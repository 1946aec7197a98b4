#include "tcpip/stream/sole_reader.h"

#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

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

// Two calls have begun in the same instant, and one of them has ended.
TEST(SoleReader, RefusesOthersWhileOneOfTwoThatMissedEachOtherReceives) {
  SoleReader reader;
  reader.begin("first");
  std::optional<SoleReader::Receiving> receiving(std::in_place, reader,
                                                 "first");
  reader.end();
  EXPECT_TRUE(reader.is_reading());
  EXPECT_THROW(reader.begin("third"), SecondReaderError);
  receiving.reset();
  EXPECT_FALSE(reader.is_reading());
  reader.begin("fourth");
}

}  // namespace
}  // namespace tcpip::internal
