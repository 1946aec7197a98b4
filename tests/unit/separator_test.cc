#include "tcpip/stream/separator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
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

// Gives a search the text little by little, and compares it with a plain one.
void expect_found_in_chunks(const std::string& text,
                            const Separators& separators, std::size_t chunk) {
  SeparatorSearch search;
  std::size_t taken = 0;
  std::size_t come = 0;
  while (come < text.size()) {
    come = std::min(text.size(), come + chunk);
    for (;;) {
      const std::string_view unread =
          std::string_view(text).substr(taken, come - taken);
      const std::optional<Match> match = search.find(unread, separators);
      ASSERT_EQ(match, plainly(unread, separators, 0))
          << text << " from " << taken << ", " << chunk << " at a time";
      // A byte at a time, at times, as skip() and read() do.
      const std::size_t n = match ? match->end : unread.size() > 3 ? 1 : 0;
      if (!search.empty()) search.took(n);
      taken += n;
      if (!match) break;
    }
  }
}

TEST(SeparatorSearch, FindsWhatAPlainSearchFindsInChunks) {
  const std::string a32(32, 'a');
  const std::string a40(40, 'a');
  const std::string ab40 = [] {
    std::string result;
    for (int i = 0; i < 20; ++i) result += "ab";
    return result;
  }();
  const std::string a40b = a40 + "b";
  const std::string ba40 = "b" + a40;
  const std::string ab40a = ab40 + "a";
  const std::string aab40 = "a" + ab40;
  const std::vector<Separators> lists = {{"\r\n"},     {"\r\n", "\n"},
                                         {a32},        {a40},
                                         {a40, "b"},   {"b", a40},
                                         {a40b},       {ba40},
                                         {ab40},       {ab40a},
                                         {ab40, "bb"}, {a40, a32},
                                         {a32, a40},   {a40, a40b, "bbb"},
                                         {aab40, ab40}};
  std::vector<std::string> texts = {
      a40 + a40 + "b" + a40,
      "b" + a40 + "a" + "b" + a32 + "b" + ab40 + ab40,
      ab40 + "b" + ab40 + "a" + ab40,
      "\r\n\n\r\r\n",
      "x\r\ny\nz\r",
      std::string(200, '\n'),
      std::string(200, 'a'),
      std::string(200, 'b')};
  for (const std::string& text : texts) {
    for (const Separators& separators : lists) {
      for (const std::size_t chunk : {1u, 2u, 7u, 33u, 1000u}) {
        expect_found_in_chunks(text, separators, chunk);
      }
    }
  }
}

TEST(SeparatorSearch, BeginsAnewForOtherSeparators) {
  SeparatorSearch search;
  EXPECT_TRUE(search.empty());
  EXPECT_FALSE(search.find("a\nbcd", Separators{"cde", "x"}));
  EXPECT_FALSE(search.empty());
  EXPECT_EQ(search.find("a\nbcd", Separators{"\n"}), (Match{1, 2}));
  EXPECT_EQ(search.find("a\nbcd", Separators{"\n"}), (Match{1, 2}));
  EXPECT_FALSE(search.find("a\nbcd", Separators{"\r\n"}));
  EXPECT_EQ(search.find("a\nbcd", Separators{"\r\n", "\n"}), (Match{1, 2}));
  EXPECT_FALSE(search.find("a\nbcd", Separators{"x", "cde"}));
}

TEST(SeparatorSearch, TellsListsApartThatAreTheSameWhenJoined) {
  SeparatorSearch search;
  EXPECT_FALSE(search.find("ab", Separators{"a ", "bc"}));
  EXPECT_EQ(search.find("ab c", Separators{"a", " bc"}), (Match{0, 1}));
}

TEST(SeparatorSearch, KeepsItsPlaceWhenBytesAreTaken) {
  SeparatorSearch search;
  const Separators end = {"end"};
  EXPECT_FALSE(search.find("0123en", end));
  search.took(2);
  EXPECT_EQ(search.find("23end", end), (Match{2, 5}));
  search.took(1);
  EXPECT_EQ(search.find("3end", end), (Match{1, 4}));
  search.took(2);  // the separator's own first byte
  EXPECT_TRUE(search.empty());
  EXPECT_EQ(search.find("ndend", end), (Match{2, 5}));
}

// The time of `search` in the worst of these cases, as a multiple of the time
// that the same bytes take without any separator among them.
TEST(SeparatorSearch, TakesTimeInProportionToTheBytes) {
  const std::string newlines(64 * 1024, '\n');
  const std::string letters(64 * 1024, 'a');
  const std::string half(2048, 'a');
  struct Case {
    const std::string& text;
    Separators separators;
  };
  const std::string never = half + "b" + half;
  const std::string first = "b" + half + half;
  const std::string last = half + half + "b";
  const std::vector<Case> cases = {{newlines, {"\r\n", "\n"}},
                                   {newlines, {"\n", "\r\n"}},
                                   {newlines, {"x", "\n"}},
                                   {newlines, {"\n\n\n\r", "\n"}},
                                   {letters, {never}},
                                   {letters, {first, "\n"}},
                                   {letters, {last}},
                                   {letters, {never, "a"}},
                                   {letters, {first, "aaa", last}}};
  for (const Case& one : cases) {
    // All at once, and then a byte at a time with a call for each.
    const auto begin = std::chrono::steady_clock::now();
    for (const bool bytewise : {false, true}) {
      SeparatorSearch search;
      std::string_view unread = one.text;
      std::size_t come = bytewise ? 0 : unread.size();
      while (come < unread.size() || !unread.empty()) {
        const auto match = search.find(unread.substr(0, come), one.separators);
        if (!match) {
          if (come == unread.size()) break;
          ++come;
          continue;
        }
        search.took(match->end);
        unread.remove_prefix(match->end);
        come = bytewise ? 0 : unread.size();
      }
    }
    const std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - begin;
    // Some 50 ns a byte, under a sanitizer ten times that. A search that reads
    // the bytes again and again needs minutes.
    EXPECT_LT(took.count(), 5) << one.separators.front().substr(0, 8);
  }
}

}  // namespace
}  // namespace tcpip::internal
