// The bytes that wait to be sent. stream_writer_test.cc has what a program sees
// of them.
#include "tcpip/stream/send_buffer.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace tcpip::internal {
namespace {

void append(SendBuffer& buffer, std::string_view bytes) {
  buffer.make_room(bytes.size());
  buffer.append(bytes);
}

TEST(SendBufferTest, IsEmptyAtFirst) {
  const SendBuffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.size(), 0u);
  EXPECT_EQ(buffer.unsent(), "");
}

TEST(SendBufferTest, TakesNothing) {
  SendBuffer buffer;
  append(buffer, "");
  EXPECT_TRUE(buffer.empty());
}

TEST(SendBufferTest, HandsOutInOrderWhatIsNotDropped) {
  SendBuffer buffer;
  append(buffer, "one ");
  append(buffer, "two");
  EXPECT_EQ(buffer.unsent(), "one two");
  buffer.drop(4);
  EXPECT_EQ(buffer.unsent(), "two");
  append(buffer, " three");
  EXPECT_EQ(buffer.unsent(), "two three");
  EXPECT_EQ(buffer.size(), 9u);
  buffer.drop(9);
  EXPECT_TRUE(buffer.empty());
}

TEST(SendBufferTest, KeepsTheUnsentBytesWhenItGrows) {
  SendBuffer buffer;
  std::string expected;
  for (int i = 0; i < 2000; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    append(buffer, line);
    expected += line;
  }
  EXPECT_EQ(buffer.unsent(), expected);
}

TEST(SendBufferTest, KeepsTheUnsentBytesWhenTheSentOnesMakeRoom) {
  SendBuffer buffer;
  append(buffer, std::string(500, 'a') + "still unsent");
  buffer.drop(500);
  // These do not fit behind the others, but fit once the sent ones are gone.
  append(buffer, std::string(400, 'b'));
  EXPECT_EQ(buffer.unsent(), "still unsent" + std::string(400, 'b'));
}

// The memory of what has passed is used again: a queue that never gets empty
// does not grow.
TEST(SendBufferTest, StaysSmallWhileItNeverGetsEmpty) {
  SendBuffer buffer;
  const std::string line(100, 'x');
  append(buffer, line);
  const char* lowest = buffer.unsent().data();
  const char* highest = lowest;
  append(buffer, line);
  for (int i = 0; i < 1000; ++i) {
    append(buffer, line);
    buffer.drop(line.size());
    const char* const begin = buffer.unsent().data();
    if (begin < lowest) lowest = begin;
    if (begin > highest) highest = begin;
  }
  EXPECT_LT(highest - lowest, 1024);
}

TEST(SendBufferTest, FreesLargeMemoryOnceItIsEmpty) {
  SendBuffer buffer;
  append(buffer, std::string(SendBuffer::kKeep + 1, 'x'));
  buffer.free_if_large();
  EXPECT_EQ(buffer.size(), SendBuffer::kKeep + 1) << "it is not empty";
  buffer.drop(buffer.size());
  EXPECT_NE(buffer.unsent().data(), nullptr);
  buffer.free_if_large();
  EXPECT_EQ(buffer.unsent().data(), nullptr);
}

TEST(SendBufferTest, FreesLargeMemoryBeforeTheNextMessage) {
  SendBuffer buffer;
  append(buffer, std::string(SendBuffer::kKeep + 1, 'x'));
  const char* const large = buffer.unsent().data();
  buffer.drop(buffer.size());
  append(buffer, "small");
  EXPECT_EQ(buffer.unsent(), "small");
  EXPECT_NE(buffer.unsent().data(), large);
}

TEST(SendBufferTest, KeepsSmallMemory) {
  SendBuffer buffer;
  append(buffer, "first");
  const char* const memory = buffer.unsent().data();
  buffer.drop(5);
  buffer.free_if_large();
  append(buffer, "second");
  EXPECT_EQ(buffer.unsent().data(), memory);
}

TEST(SendBufferTest, IsEmptyAfterFree) {
  SendBuffer buffer;
  append(buffer, "bytes");
  buffer.free();
  EXPECT_TRUE(buffer.empty());
  append(buffer, "more");
  EXPECT_EQ(buffer.unsent(), "more");
}

}  // namespace
}  // namespace tcpip::internal
