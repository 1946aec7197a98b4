#include "tcpip/stream/receive_buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace tcpip::internal {
namespace {

// Receives as much of `bytes` as there is room for; returns how much.
std::size_t receive(ReceiveBuffer& buffer, std::string_view bytes) {
  const std::span<char> room = buffer.make_room();
  const std::size_t n = std::min(room.size(), bytes.size());
  std::memcpy(room.data(), bytes.data(), n);
  buffer.add(n);
  return n;
}

void receive_all(ReceiveBuffer& buffer, std::string_view bytes) {
  while (!bytes.empty()) bytes.remove_prefix(receive(buffer, bytes));
}

TEST(ReceiveBuffer, HasNoMemoryBeforeTheFirstReceive) {
  ReceiveBuffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.size(), 0u);
  EXPECT_EQ(buffer.unread(), "");
  EXPECT_EQ(buffer.take(1), "");
  EXPECT_EQ(buffer.capacity(), 0u);
  EXPECT_EQ(buffer.make_room().size(), ReceiveBuffer::kFirst);
}

TEST(ReceiveBuffer, GivesOutBytesInTheOrderInWhichTheyCame) {
  ReceiveBuffer buffer;
  receive(buffer, "one,");
  receive(buffer, "two,");
  EXPECT_EQ(buffer.unread(), "one,two,");
  EXPECT_EQ(buffer.take(4), "one,");
  EXPECT_EQ(buffer.size(), 4u);
  receive(buffer, "three");
  EXPECT_EQ(buffer.take(100), "two,three");
  EXPECT_TRUE(buffer.empty());
}

TEST(ReceiveBuffer, KeepsATakenViewUntilThereIsToBeRoom) {
  ReceiveBuffer buffer;
  receive(buffer, "all of it");
  const std::string_view first = buffer.take(4);
  const std::string_view rest = buffer.take(5);
  EXPECT_EQ(buffer.take(1), "");
  EXPECT_EQ(first, "all ");
  EXPECT_EQ(rest, "of it");
}

TEST(ReceiveBuffer, ReceiveThatTookLessThanTheRoomChangesNoCapacity) {
  ReceiveBuffer buffer;
  for (int i = 0; i < 10'000; ++i) {
    receive(buffer, "a line\n");
    EXPECT_EQ(buffer.take(7), "a line\n");
  }
  EXPECT_EQ(buffer.capacity(), ReceiveBuffer::kFirst);
}

TEST(ReceiveBuffer, GrowsOnceAReceiveHasFilledIt) {
  ReceiveBuffer buffer;
  receive(buffer, std::string(ReceiveBuffer::kFirst, 'x'));
  buffer.take(ReceiveBuffer::kFirst);
  EXPECT_EQ(buffer.make_room().size(), ReceiveBuffer::kUsual);
  // But not beyond the usual size unless a message needs it.
  receive(buffer, std::string(ReceiveBuffer::kUsual, 'x'));
  buffer.take(ReceiveBuffer::kUsual);
  EXPECT_EQ(buffer.make_room().size(), ReceiveBuffer::kUsual);
}

TEST(ReceiveBuffer, DoublesForAMessageThatNeedsIt) {
  ReceiveBuffer buffer;
  std::string message;
  for (int i = 0; message.size() < 1'000'000; ++i) {
    message += std::to_string(i) + ' ';
  }
  receive_all(buffer, message);
  EXPECT_TRUE(buffer.unread() == message);
  EXPECT_EQ(buffer.capacity(), std::size_t{1024 * 1024});
}

TEST(ReceiveBuffer, AlwaysHasRoomAndLosesNoByte) {
  ReceiveBuffer buffer;
  std::uint32_t x = 1;
  const auto random = [&x](std::size_t n) {
    x = x * 1664525 + 1013904223;
    return (x >> 8) % n;
  };
  unsigned char sent = 0;
  unsigned char taken = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::span<char> room = buffer.make_room();
    ASSERT_GT(room.size(), 0u);
    const std::size_t n = random(std::min<std::size_t>(room.size(), 300) + 1);
    for (char& c : room.first(n)) c = static_cast<char>(sent++);
    buffer.add(n);
    for (const char c : buffer.take(random(320))) {
      ASSERT_EQ(static_cast<unsigned char>(c), taken++);
    }
  }
  for (const char c : buffer.take(buffer.size())) {
    ASSERT_EQ(static_cast<unsigned char>(c), taken++);
  }
  EXPECT_EQ(sent, taken);
}

TEST(ReceiveBuffer, CountsWhatWasReceivedAndConsumed) {
  ReceiveBuffer buffer;
  EXPECT_EQ(buffer.received(), 0u);
  EXPECT_EQ(buffer.consumed(), 0u);
  receive_all(buffer, std::string(100'000, 'x'));
  EXPECT_EQ(buffer.received(), 100'000u);
  buffer.take(60'000);
  EXPECT_EQ(buffer.consumed(), 60'000u);
  buffer.make_room();
  EXPECT_EQ(buffer.received(), 100'000u);
  EXPECT_EQ(buffer.consumed(), 60'000u);
  buffer.take(100'000);
  EXPECT_EQ(buffer.consumed(), 100'000u);
}

TEST(ReceiveBuffer, CountsBytesThatDidNotPassThrough) {
  ReceiveBuffer buffer;
  buffer.count_past(10);
  EXPECT_EQ(buffer.received(), 10u);
  EXPECT_EQ(buffer.consumed(), 10u);
  EXPECT_TRUE(buffer.empty());
  receive(buffer, "abc");
  buffer.take(3);
  buffer.count_past(1'000'000);
  EXPECT_EQ(buffer.unread(), "");
  receive(buffer, "def");
  EXPECT_EQ(buffer.unread(), "def");
  EXPECT_EQ(buffer.received(), 1'000'016u);
  EXPECT_EQ(buffer.consumed(), 1'000'013u);
}

TEST(ReceiveBuffer, GivesALargeMemoryBackOnceItIsEmpty) {
  ReceiveBuffer buffer;
  receive_all(buffer, std::string(ReceiveBuffer::kKeep + 1, 'x'));
  EXPECT_GT(buffer.capacity(), ReceiveBuffer::kKeep);
  buffer.take(ReceiveBuffer::kKeep);
  buffer.make_room();
  EXPECT_GT(buffer.capacity(), ReceiveBuffer::kKeep);
  buffer.take(1);
  buffer.make_room();
  EXPECT_LE(buffer.capacity(), ReceiveBuffer::kUsual);
}

}  // namespace
}  // namespace tcpip::internal
