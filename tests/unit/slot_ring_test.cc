#include "tcpip/base/slot_ring.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace tcpip::internal {
namespace {

using WhenFull = SlotRing::WhenFull;

SlotRing::Pushed push(SlotRing& ring, std::string_view text,
                      WhenFull when_full = WhenFull::kRefuse,
                      std::uint64_t tag = 1) {
  return ring.push(tag, {&text, 1}, when_full);
}

// The next message's bytes, or "-".
std::string pop(SlotRing& ring) {
  std::string bytes(ring.max_size(), '?');
  const auto message = ring.pop(bytes.data());
  return message ? bytes.substr(0, message->size) : "-";
}

TEST(SlotRingTest, PopsWhatWasPushedInOrder) {
  SlotRing ring(3, 8);
  EXPECT_EQ(pop(ring), "-");
  EXPECT_FALSE(ring.has_next());
  EXPECT_TRUE(push(ring, "one").taken);
  EXPECT_TRUE(push(ring, "").taken);
  EXPECT_TRUE(push(ring, "the last").taken);
  EXPECT_EQ(ring.size(), 3u);
  EXPECT_TRUE(ring.has_next());
  EXPECT_EQ(pop(ring), "one");
  EXPECT_EQ(pop(ring), "");
  EXPECT_EQ(pop(ring), "the last");
  EXPECT_EQ(pop(ring), "-");
  EXPECT_EQ(ring.size(), 0u);
}

TEST(SlotRingTest, JoinsThePartsOfAMessageAndTellsItsTagAndPosition) {
  SlotRing ring(2, 8);
  push(ring, "x");
  const std::array<std::string_view, 3> parts{"he", "", "llo"};
  EXPECT_TRUE(ring.push(7, parts, WhenFull::kRefuse).taken);
  EXPECT_EQ(pop(ring), "x");
  EXPECT_EQ(ring.head(), 1u);
  EXPECT_EQ(ring.tail(), 2u);
  std::string bytes(8, '?');
  const auto message = ring.pop(bytes.data());
  ASSERT_TRUE(message);
  EXPECT_EQ(message->position, 1u);
  EXPECT_EQ(message->tag, 7u);
  EXPECT_EQ(bytes.substr(0, message->size), "hello");
}

TEST(SlotRingTest, HoldsExactlySoManyMessagesLapAfterLap) {
  for (const std::size_t limit : {1u, 2u, 3u, 5u, 8u}) {
    SCOPED_TRACE(limit);
    SlotRing ring(limit, 4);
    int in = 0;
    int out = 0;
    for (int lap = 0; lap < 20; ++lap) {
      for (std::size_t i = 0; i < limit; ++i) {
        ASSERT_TRUE(push(ring, std::to_string(in++)).taken);
      }
      const SlotRing::Pushed refused = push(ring, "no");
      ASSERT_FALSE(refused.taken);
      ASSERT_EQ(refused.oldest + refused.outdated, 0u);
      for (std::size_t i = 0; i < limit; ++i) {
        ASSERT_EQ(pop(ring), std::to_string(out++));
      }
      ASSERT_EQ(pop(ring), "-");
    }
  }
}

TEST(SlotRingTest, DropsTheOldestForTheNewest) {
  SlotRing ring(2, 4);
  for (int i = 0; i < 10; ++i) {
    const auto pushed = push(ring, std::to_string(i), WhenFull::kDropOldest);
    EXPECT_TRUE(pushed.taken);
    EXPECT_EQ(pushed.oldest, i < 2 ? 0u : 1u);
    EXPECT_EQ(pushed.outdated, 0u);
  }
  EXPECT_EQ(pop(ring), "8");
  EXPECT_EQ(pop(ring), "9");
  EXPECT_EQ(pop(ring), "-");
}

TEST(SlotRingTest, DropsAnOutdatedMessageWhateverItDoesWhenFull) {
  for (const WhenFull when_full : {WhenFull::kRefuse, WhenFull::kDropOldest}) {
    SlotRing ring(2, 4);
    push(ring, "old1", when_full, 1);
    push(ring, "old2", when_full, 1);
    for (const char* const text : {"new1", "new2"}) {
      const auto pushed = push(ring, text, when_full, 2);
      EXPECT_TRUE(pushed.taken);
      EXPECT_EQ(pushed.outdated, 1u);
      EXPECT_EQ(pushed.oldest, 0u);
    }
    EXPECT_EQ(push(ring, "new3", when_full, 2).taken,
              when_full == WhenFull::kDropOldest);
  }
}

TEST(SlotRingTest, RefusesWhatMemoryCannotHold) {
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  EXPECT_THROW(SlotRing(kMost, 1), std::bad_alloc);
  EXPECT_THROW(SlotRing(1, kMost), std::bad_alloc);
  EXPECT_THROW(SlotRing(kMost / 8, 8), std::bad_alloc);
  // Twice as many bytes, but for an overflow, would be four.
  EXPECT_THROW(SlotRing(1, kMost / 2 + 3), std::bad_alloc);
}

// --- Several threads ---

// "producer number ", then one letter again and again: a torn message shows.
std::string frame(int producer, int number) {
  const auto size = static_cast<std::size_t>((producer + number) % 40);
  return std::to_string(producer) + " " + std::to_string(number) + " " +
         std::string(size, static_cast<char>('a' + number % 26));
}

struct Frame {
  int producer = 0;
  int number = 0;
};
Frame parse(const std::string& text) {
  Frame result;
  std::size_t end = 0;
  result.producer = std::stoi(text, &end);
  result.number = std::stoi(text.substr(end));
  return result;
}

// Every message comes out once or is counted as dropped, whole and in order.
void stress(WhenFull when_full, std::size_t limit) {
  constexpr int kProducers = 3;
  constexpr int kMessages = 20000;
  SlotRing ring(limit, 64);
  std::atomic<int> producing{kProducers};
  std::atomic<std::uint64_t> refused{0};
  std::atomic<std::uint64_t> dropped{0};
  std::uint64_t popped = 0;
  std::array<int, kProducers> last{-1, -1, -1};
  {
    std::vector<std::jthread> producers;
    for (int p = 0; p < kProducers; ++p) {
      producers.emplace_back([&, p] {
        for (int i = 0; i < kMessages; ++i) {
          const auto pushed = push(ring, frame(p, i), when_full);
          dropped += pushed.oldest;
          if (!pushed.taken) ++refused;
          ASSERT_EQ(pushed.outdated, 0u);
          if (i % 64 == 0) std::this_thread::yield();
        }
        --producing;
      });
    }
    for (;;) {
      const bool was_last = producing == 0;
      const std::string text = pop(ring);
      if (text == "-") {
        if (was_last) break;
        std::this_thread::yield();
        continue;
      }
      const auto [producer, number] = parse(text);
      ASSERT_EQ(text, frame(producer, number));
      ASSERT_LT(last.at(static_cast<std::size_t>(producer)), number);
      last.at(static_cast<std::size_t>(producer)) = number;
      ++popped;
    }
  }
  EXPECT_EQ(popped + refused + dropped, kProducers * kMessages);
  EXPECT_GT(popped, 0u);
  EXPECT_EQ(ring.tail(), popped + dropped);
  EXPECT_EQ(ring.head(), ring.tail());
  EXPECT_TRUE(dropped == 0 || when_full == WhenFull::kDropOldest);
}

TEST(SlotRingTest, LosesNothingUncountedWhenItRefuses) {
  for (const std::size_t limit : {1u, 3u, 16u}) {
    stress(WhenFull::kRefuse, limit);
  }
}

TEST(SlotRingTest, LosesNothingUncountedWhenItDropsTheOldest) {
  for (const std::size_t limit : {1u, 3u, 16u}) {
    stress(WhenFull::kDropOldest, limit);
  }
}

}  // namespace
}  // namespace tcpip::internal
