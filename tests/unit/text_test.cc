#include "tcpip/endpoint/text.h"

#include <gtest/gtest.h>
#include <iconv.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"

namespace {

int iconv_calls = 0;

}  // namespace

// In place of the C library's, for the whole program.
extern "C" ::iconv_t iconv_open(const char* /*to*/, const char* /*from*/) {
  ++iconv_calls;
  errno = EINVAL;
  return reinterpret_cast<::iconv_t>(-1);
}

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

std::string encoded(const char* encoding, std::string_view text) {
  std::string storage;
  return std::string(TextCodec(encoding).encode(text, storage, "encode"));
}

// Gives the text, or "bad at" the byte that is wrong.
std::string decoded(const char* encoding, std::string_view bytes) {
  std::string text;
  const auto wrong = TextCodec(encoding).decode(bytes, text);
  return wrong ? "bad at " + std::to_string(*wrong) : text;
}

TEST(TextCodecTest, UnknownNamesAreRefused) {
  for (const char* name : {"", "utf", "utf-8-sig", "utf-7", "cp1252", "utf.8",
                           "UTF16LE", "utf-8\xc3\xa4"}) {
    if (std::string_view(name) == "utf") {
      EXPECT_NO_THROW(TextCodec{name});  // one of Python's aliases
    } else {
      EXPECT_THROW(TextCodec{name}, std::invalid_argument) << name;
    }
  }
}

TEST(TextCodecTest, NameIsTheOneGiven) {
  EXPECT_EQ(TextCodec("Latin 1").name(), "Latin 1");
}

TEST(TextCodecTest, MarksAreWrittenAndTakenOffByTheEncodingsThatHaveThem) {
  EXPECT_EQ(encoded("utf-16", "a"),
            "\xff\xfe"
            "a\0"s);
  EXPECT_EQ(encoded("utf-32", "a"), "\xff\xfe\0\0a\0\0\0"s);
  EXPECT_EQ(encoded("utf-16", ""), "\xff\xfe"s);
  EXPECT_EQ(encoded("utf-16-le", "a"), "a\0"s);
  EXPECT_EQ(encoded("utf-16-be", "a"), "\0a"s);
  EXPECT_EQ(decoded("utf-16",
                    "\xff\xfe"
                    "a\0"s),
            "a");
  EXPECT_EQ(decoded("utf-16", "\xfe\xff\0a"s), "a");
  EXPECT_EQ(decoded("utf-16", "a\0"s), "a");
  EXPECT_EQ(decoded("utf-32", "\0\0\xfe\xff\0\0\0a"s), "a");
  // Only one, and only there.
  EXPECT_EQ(decoded("utf-16", "\xff\xfe\xff\xfe"s), "\ufeff");
  EXPECT_EQ(decoded("utf-16-le", "\xff\xfe"s), "\ufeff");
  EXPECT_EQ(decoded("utf-8", "\xef\xbb\xbf"s), "\ufeff");
}

TEST(TextCodecTest, WhatTheEncodingLacksIsRefused) {
  for (const auto& [encoding, text] :
       {std::pair("ascii", "\u00e9"), std::pair("latin-1", "\u0100"),
        // A converter of the system may leave this one out.
        std::pair("latin-1", "\U000e0041"), std::pair("utf-16", "\xff"),
        std::pair("utf-8", "\xed\xa0\x80")}) {
    EXPECT_THROW(encoded(encoding, text), std::invalid_argument) << encoding;
  }
  EXPECT_EQ(encoded("latin-1", "\u00e9\u00ff"), "\xe9\xff");
}

TEST(TextCodecTest, DecodesManyAtOnce) {
  const TextCodec codec("utf-16");
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&codec, i] {
      const std::string text = "thread " + std::to_string(i);
      for (int k = 0; k < 1000; ++k) {
        std::string storage;
        std::string back;
        const std::string_view bytes = codec.encode(text, storage, "encode");
        ASSERT_EQ(codec.decode(bytes, back), std::nullopt);
        ASSERT_EQ(back, text);
      }
    });
  }
}

constexpr const char* kEncodings[] = {"utf-8",  "ascii",     "latin-1",
                                      "utf-16", "utf-16-le", "utf-16-be",
                                      "utf-32", "utf-32-le", "utf-32-be"};

// iconv_open() of this program fails, as in an image without gconv modules.
TEST(TextCodecTest, ConvertsWithoutTheSystemsConverters) {
  ASSERT_EQ(::iconv_open("UTF-8", "ISO-8859-1"),
            reinterpret_cast<::iconv_t>(-1));
  const int before = iconv_calls;
  for (const std::string encoding : kEncodings) {
    const TextCodec codec(encoding);
    const std::string text = encoding == "ascii"     ? "a\x7f"
                             : encoding == "latin-1" ? "a\u0080\u00ff"
                                                     : "a\u20ac\U0010ffff";
    std::string storage;
    std::string back;
    EXPECT_EQ(codec.decode(codec.encode(text, storage, "encode"), back),
              std::nullopt)
        << encoding;
    EXPECT_EQ(back, text) << encoding;
  }
  EXPECT_EQ(iconv_calls, before);
}

TEST(TextCodecTest, EveryCharacterComesBackAndEverySurrogateIsRefused) {
  for (const char* encoding :
       {"utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "latin-1"}) {
    const TextCodec codec(encoding);
    std::string storage;
    std::string back;
    for (char32_t c = 0; c <= 0x10ffff; ++c) {
      const std::string text = encode(c);
      const bool exists = std::string_view(encoding) == "latin-1"
                              ? c <= 0xff
                              : !(c >= 0xd800 && c <= 0xdfff);
      if (!exists) {
        // A throw is slow: not for each of a million.
        if (c % 977 == 0) {
          EXPECT_THROW(codec.encode(text, storage, "encode"),
                       std::invalid_argument);
        }
        continue;
      }
      back.clear();
      ASSERT_EQ(codec.decode(codec.encode(text, storage, "encode"), back),
                std::nullopt);
      ASSERT_EQ(back, text) << encoding << " " << static_cast<unsigned>(c);
    }
  }
}

TEST(TextCodecTest, ErrorIsAtTheFirstByteOfTheWrongCharacter) {
  EXPECT_EQ(decoded("utf-16-be", "\0a\xd8\0\0b"s), "bad at 2");
  EXPECT_EQ(decoded("utf-16-be", "\0a\xdc\0\xd8\0"s), "bad at 2");
  EXPECT_EQ(decoded("utf-16-be", "\0a\xd8\0\xdc"s), "bad at 2");
  EXPECT_EQ(decoded("utf-16-be", "\0a\0"s), "bad at 2");
  EXPECT_EQ(decoded("utf-16", "\xfe\xff\0"s), "bad at 2");
  EXPECT_EQ(decoded("utf-32-le", "a\0\0\0\0\xd8\0\0"s), "bad at 4");
  EXPECT_EQ(decoded("utf-32-le", "a\0\0\0\0\0\x11\0"s), "bad at 4");
  EXPECT_EQ(decoded("utf-32-le", "a\0\0\0a\0\0"s), "bad at 4");
  EXPECT_EQ(decoded("utf-32-be", "\x80\0\0\0"s), "bad at 0");
  try {
    encoded("latin-1", "\u00e9\u20ac");
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string_view(e.what()).find("byte 2"), std::string::npos);
  }
}

// A server that has run out of descriptors must still understand its client.
TEST(TextCodecTest, ConvertsWithNoDescriptorToSpare) {
  const TextCodec codec("utf-32-be");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  std::string storage;
  std::string back;
  const std::string bytes(codec.encode("\u20ac", storage, "encode"));
  const auto wrong = codec.decode(bytes, back);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(bytes, "\0\0\x20\xac"s);
  EXPECT_EQ(wrong, std::nullopt);
  EXPECT_EQ(back, "\u20ac");
}

TextFormat format(const char* encoding, std::string terminator) {
  return {std::make_shared<const TextCodec>(encoding), std::move(terminator)};
}

TEST(TextFormatTest, EmptyTerminatorIsRefused) {
  EXPECT_THROW(format("utf-8", ""), std::invalid_argument);
}

TEST(TextFormatTest, HeartbeatIsTheWordAndTheTerminatorAndNothingElse) {
  for (const char* encoding : {"utf-8", "utf-16", "utf-32-be"}) {
    const TextFormat text = format(encoding, "\r\n");
    EXPECT_TRUE(text.is_heartbeat("heartbeat\r\n"));
    for (const char* other :
         {"heartbeat", "heartbeat\n", "heartbeat\n\r", "Heartbeat\r\n",
          " heartbeat\r\n", "heartbeat \r\n", "xheartbeaty\r\n", "\r\n", "",
          "heartbeatheartbeat\r\n", "{\"cmd\":\"heartbeat\"}\r\n"}) {
      EXPECT_FALSE(text.is_heartbeat(other)) << other;
    }
    std::string storage;
    if (std::string_view(encoding) != "utf-8") {
      EXPECT_FALSE(text.is_heartbeat(
          std::string(text.encode("heartbeat", storage, "encode")) + "\r\n"));
    }
  }
}

// The other end looks for bytes, wherever code units begin.
TEST(TextFormatTest, TextWhoseBytesHoldTheTerminatorIsRefused) {
  struct Case {
    const char* encoding;
    const char* terminator;
    const char* text;
    bool ok;
  };
  const Case cases[] = {
      {"utf-8", "\r\n", "a\r\nb", false},
      // Here there is a zero byte between the two.
      {"utf-16", "\r\n", "a\r\nb", true},
      {"utf-16", "\n", "a\nb", false},
      {"utf-16-le", "\r\n", "\u0a0d", false},
      {"utf-16-be", "\r\n", "\u0d0a", false},
      {"utf-16-le", "\r\n", "\u0d0a", true},
      // In the middle of two code units.
      {"utf-16-le", "\r\n", "\u0d05\u010a hi", false},
      {"utf-32-le", "\n", "\u010a", false},
      {"utf-32-le", "\n", "\u010b", true},
      {"latin-1", "\xe9", "\u00e9", false},
      {"utf-8", "\xe9", "\u00e9", true},
      // The mark is part of the message.
      {"utf-16", "\xfe", "a", false},
      // Its first byte would end the message too early.
      {"utf-16-be", "aa", "a", false},
  };
  for (const Case& c : cases) {
    const TextFormat text = format(c.encoding, c.terminator);
    std::string storage;
    if (c.ok) {
      EXPECT_NO_THROW(text.encode(c.text, storage, "encode")) << c.text;
    } else {
      EXPECT_THROW(text.encode(c.text, storage, "encode"),
                   std::invalid_argument)
          << c.encoding << " " << c.text;
    }
  }
}

TEST(TextFormatTest, BytesThatAreNoTextAreInTheErrorWithTheirPlace) {
  try {
    std::string text;
    format("utf-16", "\r\n")
        .decode("\xff\xfe\0\xd8\r\n"s, text, "read_str", {});
    FAIL();
  } catch (const DecodeError& e) {
    EXPECT_EQ(e.data(), "\xff\xfe\0\xd8"s);
    EXPECT_EQ(e.position(), 2u);
    EXPECT_EQ(e.operation(), "read_str");
  }
}

}  // namespace
}  // namespace tcpip::internal
