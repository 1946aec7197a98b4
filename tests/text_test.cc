#include "tcpip/internal/text.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace tcpip::internal {
namespace {

using std::string_literals::operator""s;

// What RFC 3629 makes of a number, were every number a character.
std::string encode(char32_t c) {
  const auto byte = [](char32_t value) { return static_cast<char>(value); };
  const auto tail = [&](int shift, char32_t value) {
    return byte(0x80 | ((value >> shift) & 0x3f));
  };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xc0 | (c >> 6)), tail(0, c)};
  if (c < 0x10000) return {byte(0xe0 | (c >> 12)), tail(6, c), tail(0, c)};
  return {byte(0xf0 | (c >> 18)), tail(12, c), tail(6, c), tail(0, c)};
}

TEST(FindInvalidUtf8Test, EveryCharacterIsValidButSurrogates) {
  for (char32_t c = 0; c <= 0x10ffff; ++c) {
    const bool surrogate = c >= 0xd800 && c <= 0xdfff;
    const std::string text = encode(c);
    ASSERT_EQ(find_invalid_utf8(text),
              surrogate ? std::optional<std::size_t>(0) : std::nullopt)
        << "U+" << std::hex << static_cast<unsigned>(c);
  }
}

TEST(FindInvalidUtf8Test, NothingBeyondTheLastCharacterIsValid) {
  for (char32_t c = 0x110000; c < 0x200000; c += 0x1001) {
    ASSERT_EQ(find_invalid_utf8(encode(c)), 0u);
  }
}

TEST(FindInvalidUtf8Test, EveryCharacterCutShortIsInvalid) {
  for (const char32_t c : {U'\u0080', U'\u07ff', U'\u0800', U'\uffff',
                           U'\U00010000', U'\U0010ffff'}) {
    const std::string whole = encode(c);
    for (std::size_t n = 1; n < whole.size(); ++n) {
      EXPECT_EQ(find_invalid_utf8("ab" + whole.substr(0, n)), 2u);
      EXPECT_EQ(find_invalid_utf8("ab" + whole.substr(0, n) + "c"), 2u);
    }
  }
}

TEST(FindInvalidUtf8Test, GivesTheFirstByteThatIsWrong) {
  struct Case {
    std::string text;
    std::size_t position;
  };
  const Case cases[] = {
      {"\xff", 0},
      {"\xfe", 0},
      {"\x80", 0},  // a tail without a head
      {"abc\xff", 3},
      {"\xc3\xa9\xc0\xaf", 2},  // overlong "/"
      {"\xc1\xbf", 0},          // overlong, two bytes
      {"\xe0\x80\xaf", 0},      // overlong, three
      {"\xe0\x9f\xbf", 0},
      {"\xf0\x80\x80\xaf", 0},  // overlong, four
      {"\xf0\x8f\xbf\xbf", 0},
      {"\xed\xa0\x80", 0},  // a surrogate
      {"\xed\xbf\xbf", 0},
      {"\xf4\x90\x80\x80", 0},  // U+110000
      {"\xf5\x80\x80\x80", 0},
      {"\xf8\x88\x80\x80\x80", 0},  // five bytes
      {"x\xe2\x82", 1},
      {"\xe2\x28\xa1", 0},
      {"\xe2\x82\x28", 0},
      {"\xf0\x90\x28\xbc", 0},
      {"\xf0\x9f\x98\x28", 0},
      {"\0\0\x80"s, 2},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(find_invalid_utf8(c.text), c.position)
        << testing::PrintToString(c.text);
  }
}

TEST(FindInvalidUtf8Test, TakesTextWithNulsAndNoTextAtAll) {
  EXPECT_EQ(find_invalid_utf8(""), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("a\0b"s), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("\xef\xbb\xbf"), std::nullopt);  // a BOM is one
}

TEST(StripTest, TakesWhiteSpaceOffBothEndsOnly) {
  struct Case {
    std::string_view text;
    std::string_view stripped;
  };
  const Case cases[] = {
      {"", ""},
      {"a", "a"},
      {" ", ""},
      {" \t\n\r\v\f", ""},
      {"  a b\t c \r\n", "a b\t c"},
      {"\v\fa\v\f", "a"},
      {"\xc2\xa0"
       "a",
       "\xc2\xa0"
       "a"},  // bytes.strip() knows ASCII only
      {"\x1f"
       "a\x1f",
       "\x1f"
       "a\x1f"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(strip(c.text), c.stripped) << testing::PrintToString(c.text);
  }
}

TEST(StripTest, KeepsNuls) {
  const std::string text = " \0a\0 "s;
  EXPECT_EQ(strip(text), "\0a\0"s);
}

}  // namespace
}  // namespace tcpip::internal
