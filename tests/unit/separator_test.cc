#include "tcpip/stream/separator.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tcpip::internal {
namespace {

using Separators = std::vector<std::string_view>;

// Byte by byte, as the definition says it.
std::optional<Match> plainly(std::string_view data,
                             const Separators& separators, std::size_t from) {
  for (std::size_t end = from + 1; end <= data.size(); ++end) {
    std::optional<Match> best;
    for (const std::string_view separator : separators) {
      if (!data.substr(0, end).ends_with(separator)) continue;
      const std::size_t start = end - separator.size();
      if (!best || start > best->start) best = Match{start, end};
    }
    if (best) return best;
  }
  return std::nullopt;
}

TEST(Separator, ListMustHaveOneAndNoneMayBeEmpty) {
  EXPECT_THROW(check_separators({}, "op"), std::invalid_argument);
  for (const Separators& bad :
       {Separators{""}, Separators{"\n", ""}, Separators{"", "\n"}}) {
    try {
      check_separators(bad, "read_somehow");
      ADD_FAILURE();
    } catch (const std::invalid_argument& e) {
      EXPECT_TRUE(std::string_view(e.what()).starts_with("read_somehow: "));
    }
  }
  EXPECT_NO_THROW(check_separators(Separators{"\r\n", "\n"}, "op"));
}

TEST(Separator, FindsTheFirstThatEndsFromThereOn) {
  EXPECT_EQ(find_one("a\r\nb\r\n", "\r\n", 0), (Match{1, 3}));
  // It ends at byte 2, so a search from there finds it, one from 3 does not.
  EXPECT_EQ(find_one("a\r\nb\r\n", "\r\n", 2), (Match{1, 3}));
  EXPECT_EQ(find_one("a\r\nb\r\n", "\r\n", 3), (Match{4, 6}));
  EXPECT_EQ(find_one("a\r\nb\r\n", "\r\n", 6), std::nullopt);
  EXPECT_EQ(find_one("", "\n", 0), std::nullopt);
  EXPECT_EQ(find_one("\n", "\r\n", 0), std::nullopt);
  EXPECT_EQ(find_one("aaab", "aab", 0), (Match{1, 4}));
  EXPECT_EQ(find_one(std::string_view("a\0b", 3), std::string_view("\0", 1), 0),
            (Match{1, 2}));
}

TEST(Separator, OfSeveralTheEarliestEndCountsAndThenTheShortest) {
  const Separators lines = {"\r\n", "\n"};
  EXPECT_EQ(find_any("a\r\nb", lines, 0), (Match{2, 3}));
  EXPECT_EQ(find_any("a\nb\r\n", lines, 0), (Match{1, 2}));
  EXPECT_EQ(find_any("abcd", Separators{"abcd", "bc"}, 0), (Match{1, 3}));
  EXPECT_EQ(find_any("abcd", Separators{"x", "y"}, 0), std::nullopt);
}

TEST(Separator, FindsWhatAPlainSearchFindsInEveryShortText) {
  const std::vector<Separators> lists = {
      {"a"},       {"ab"},      {"aa"},       {"aba"},           {"b", "a"},
      {"ab", "b"}, {"b", "ab"}, {"aab", "a"}, {"bb", "ba", "aa"}};
  for (unsigned bits = 0; bits < 1u << 8; ++bits) {
    std::string text;
    for (unsigned i = 0; i < 8; ++i) text += (bits >> i & 1) != 0 ? 'a' : 'b';
    for (const Separators& separators : lists) {
      for (std::size_t from = 0; from <= text.size(); ++from) {
        ASSERT_EQ(find_any(text, separators, from),
                  plainly(text, separators, from))
            << text << " from " << from << ", first " << separators.front();
      }
    }
  }
}

TEST(SearchMemory, IsForTheSameSeparatorsAlone) {
  SearchMemory memory;
  EXPECT_TRUE(memory.empty());
  EXPECT_EQ(memory.recall(Separators{"\n"}), 0u);
  memory.keep(Separators{"\r\n", "\n"}, 7);
  EXPECT_FALSE(memory.empty());
  EXPECT_EQ(memory.recall(Separators{"\r\n", "\n"}), 7u);
  EXPECT_EQ(memory.recall(Separators{"\n", "\r\n"}), 0u);
  EXPECT_EQ(memory.recall(Separators{"\r\n"}), 0u);
  EXPECT_EQ(memory.recall(Separators{"\r\n\n"}), 0u);
  memory.keep(Separators{"\n"}, 3);
  EXPECT_EQ(memory.recall(Separators{"\r\n", "\n"}), 0u);
  EXPECT_EQ(memory.recall(Separators{"\n"}), 3u);
}

TEST(SearchMemory, TellsListsApartThatAreTheSameWhenJoined) {
  SearchMemory memory;
  memory.keep(Separators{"a", "bc"}, 5);
  EXPECT_EQ(memory.recall(Separators{"ab", "c"}), 0u);
  memory.keep(Separators{"1:a"}, 5);
  EXPECT_EQ(memory.recall(Separators{"1", "a"}), 0u);
}

TEST(SearchMemory, ForgetsWhenBytesAreTaken) {
  SearchMemory memory;
  memory.keep(Separators{"\n"}, 7);
  memory.forget();
  EXPECT_TRUE(memory.empty());
  EXPECT_EQ(memory.recall(Separators{"\n"}), 0u);
}

}  // namespace
}  // namespace tcpip::internal
