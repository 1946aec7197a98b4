// asyncio's rules of reading, case by case. Each case is fed whole, one byte
// at a time, and split at every position; what the reader holds afterwards
// matters as much as what it returned.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/stream_reader.h"
#include "tests/support/loopback.h"

namespace tcpip {
namespace {

using tcpip_tests::await_hang_up;
using tcpip_tests::half_close;
using tcpip_tests::kPatience;
using tcpip_tests::loopback_pair;
using tcpip_tests::LoopbackPair;
using tcpip_tests::send_all;
using tcpip_tests::Transport;
using Strings = std::vector<std::string>;

std::string text(std::size_t n) { return std::string(n, 'x'); }

std::string bytes(std::string_view literal) { return std::string(literal); }

// --- Ways of feeding ---

struct Feeding {
  std::string name;
  Strings chunks;
  // Move what has come into the reader's buffer before each call, without
  // reading it; else the call itself finds it in the kernel.
  bool buffered_first = false;
  bool fin_first = false;  // read nothing before the end of the stream is there
};

std::vector<Feeding> feedings_of(const std::string& input) {
  std::vector<Feeding> feedings;
  for (const bool buffered_first : {false, true}) {
    const std::string suffix = buffered_first ? ", buffered first" : "";
    feedings.push_back({"whole" + suffix, {input}, buffered_first});
    Strings single;
    for (const char c : input) single.emplace_back(1, c);
    feedings.push_back({"byte by byte" + suffix, single, buffered_first});
    for (std::size_t i = 1; i < input.size(); ++i) {
      // Of long inputs each position in one of the two ways only.
      if (input.size() > 64 && (i % 2 == 0) == buffered_first) continue;
      feedings.push_back({"split at " + std::to_string(i) + suffix,
                          {input.substr(0, i), input.substr(i)},
                          buffered_first});
    }
  }
  return feedings;
}

// An endless read that fails for want of bytes leaves them in the buffer.
void buffer_all_that_came(StreamReader& reader) {
  EXPECT_EQ(reader.try_read_exactly(PTRDIFF_MAX), std::nullopt);
}

std::string rest_of(LoopbackPair& pair) {
  half_close(pair.peer);
  return pair.reader.read_all(kPatience);
}

// --- read_until ---

enum class Api { kTry, kRead, kView };

std::optional<std::string> try_until(StreamReader& reader,
                                     const Strings& separators) {
  switch (separators.size()) {
    case 1:
      return reader.try_read_until(separators[0]);
    case 2:
      return reader.try_read_until({separators[0], separators[1]});
    case 3:
      return reader.try_read_until(
          {separators[0], separators[1], separators[2]});
  }
  throw std::logic_error("a case with too many separators");
}

std::string view_until(StreamReader& reader, const Strings& separators) {
  const Wait wait = Wait::none();
  switch (separators.size()) {
    case 1:
      return std::string(reader.read_until_view(separators[0], wait));
    case 2:
      return std::string(
          reader.read_until_view({separators[0], separators[1]}, wait));
    case 3:
      return std::string(reader.read_until_view(
          {separators[0], separators[1], separators[2]}, wait));
  }
  throw std::logic_error("a case with too many separators");
}

// All three without waiting: nothing if the message is not there yet.
std::optional<std::string> until(StreamReader& reader,
                                 const Strings& separators, Api api) {
  try {
    switch (api) {
      case Api::kTry:
        return try_until(reader, separators);
      case Api::kRead: {
        const std::vector<std::string_view> views(separators.begin(),
                                                  separators.end());
        return reader.read_until(std::span(views), Wait::none());
      }
      case Api::kView:
        return view_until(reader, separators);
    }
  } catch (const TimeoutError&) {
  }
  return std::nullopt;
}

enum class End {
  kWaits,       // for more
  kIncomplete,  // the end of the stream
  kFound,       // "separator is found, but chunk is longer than limit"
  kNotFound,    // "separator is not found, and chunk exceeds the limit"
};

std::ostream& operator<<(std::ostream& out, End end) {
  constexpr const char* kNames[] = {"waits", "incomplete", "found too far",
                                    "not found in limit"};
  return out << kNames[static_cast<std::size_t>(end)];
}

struct UntilCase {
  std::string name;
  Strings separators;
  std::string input;
  bool fin = false;       // the input ends with the end of the stream
  Strings messages = {};  // what is read from it,
  End end = End::kWaits;  // and what the read after that comes to
  // Where `end` is kIncomplete: the error's partial(). Else: what the reader
  // still has.
  std::string rest = {};
  std::size_t limit = 64;
  // Where `end` is an overrun and all of the input was buffered.
  std::size_t consumed = 0;
};

struct UntilResult {
  Strings messages;
  End end = End::kWaits;
  std::string rest;
  std::size_t consumed = 0;
  std::size_t buffered = 0;  // after the failure
};

// One read; false if it ended the case.
bool step(StreamReader& reader, const UntilCase& c, Api api,
          UntilResult& result) {
  try {
    const std::optional<std::string> message = until(reader, c.separators, api);
    if (!message) return false;
    result.messages.push_back(*message);
    return true;
  } catch (const IncompleteReadError& e) {
    result.end = End::kIncomplete;
    result.rest = e.partial();
    EXPECT_EQ(e.expected(), std::nullopt);
  } catch (const LimitOverrunError& e) {
    const std::string_view what = e.what();
    result.end =
        what.find("is found") != what.npos ? End::kFound : End::kNotFound;
    EXPECT_EQ(result.end == End::kNotFound,
              what.find("is not found") != what.npos)
        << what;
    result.consumed = e.consumed();
  }
  result.buffered = reader.buffered();
  return false;
}

// Reads until nothing more comes of it.
void steps(StreamReader& reader, const UntilCase& c, Api api,
           UntilResult& result) {
  while (step(reader, c, api, result)) {
  }
  if (result.end != End::kFound && result.end != End::kNotFound) return;
  // The bytes are kept, so it happens again.
  UntilResult again;
  EXPECT_FALSE(step(reader, c, api, again));
  EXPECT_EQ(again.end, result.end);
  EXPECT_EQ(again.consumed, result.consumed);
  EXPECT_EQ(again.buffered, result.buffered);
}

UntilResult run(const UntilCase& c, const Feeding& feeding, Api api) {
  LoopbackPair pair = loopback_pair(Transport::kUnix, c.limit);
  UntilResult result;
  for (const std::string& chunk : feeding.chunks) {
    send_all(pair.peer, chunk);
    if (result.end != End::kWaits || feeding.fin_first) continue;
    if (feeding.buffered_first) buffer_all_that_came(pair.reader);
    steps(pair.reader, c, api, result);
  }
  if (c.fin) {
    half_close(pair.peer);
    if (result.end == End::kWaits) steps(pair.reader, c, api, result);
  }
  if (result.end == End::kIncomplete) {
    EXPECT_EQ(result.buffered, 0u);
    EXPECT_TRUE(pair.reader.at_eof());
    // Again at the end: there is nothing left.
    UntilResult again;
    EXPECT_FALSE(step(pair.reader, c, api, again));
    EXPECT_EQ(again.end, End::kIncomplete);
    EXPECT_EQ(again.rest, "");
    return result;
  }
  result.rest = rest_of(pair);
  return result;
}

void check(const UntilCase& c, const Feeding& feeding, Api api) {
  SCOPED_TRACE(c.name + " fed " + feeding.name + ", by way " +
               std::to_string(static_cast<int>(api)));
  const UntilResult result = run(c, feeding, api);
  EXPECT_EQ(result.messages, c.messages);
  EXPECT_EQ(result.rest, c.rest);
  if (c.end != End::kFound && c.end != End::kNotFound) {
    EXPECT_EQ(result.end, c.end);
    return;
  }
  std::size_t longest = 0;
  for (const std::string& separator : c.separators) {
    longest = std::max(longest, separator.size());
  }
  if (feeding.buffered_first && feeding.chunks.size() == 1) {
    EXPECT_EQ(result.end, c.end);
    EXPECT_EQ(result.consumed, c.consumed);
    EXPECT_EQ(result.buffered, c.rest.size());
  } else if (result.end == End::kNotFound) {
    // The separator had not come yet: how far it looked depends on the chunks.
    EXPECT_EQ(result.consumed, result.buffered + 1 - longest);
    EXPECT_GT(result.consumed, c.limit);
  } else {
    EXPECT_EQ(result.end, End::kFound);
    EXPECT_EQ(result.consumed, c.consumed);
  }
}

void check_all_feedings(const UntilCase& c) {
  for (const Feeding& feeding : feedings_of(c.input)) {
    check(c, feeding, Api::kTry);
    if (::testing::Test::HasFailure()) return;  // the first says enough
  }
  for (const Api api : {Api::kTry, Api::kRead, Api::kView}) {
    for (const bool buffered_first : {false, true}) {
      check(c, {"whole", {c.input}, buffered_first}, api);
    }
    if (c.fin) check(c, {"with the end", {c.input}, false, true}, api);
  }
}

class UntilTable : public testing::TestWithParam<UntilCase> {};

TEST_P(UntilTable, IsReadAsInAsyncio) { check_all_feedings(GetParam()); }

std::string case_name(const testing::TestParamInfo<UntilCase>& info) {
  return info.param.name;
}
void PrintTo(const UntilCase& c, std::ostream* out) { *out << c.name; }

INSTANTIATE_TEST_SUITE_P(
    Separators, UntilTable,
    testing::Values(
        UntilCase{"EmptyLine", {"\r\n"}, "\r\n", false, {"\r\n"}},
        UntilCase{
            "TwoEmptyLines", {"\r\n"}, "\r\n\r\n", false, {"\r\n", "\r\n"}},
        UntilCase{
            "LoneCarriageReturn", {"\r\n"}, "\r", false, {}, End::kWaits, "\r"},
        UntilCase{"CarriageReturnTwice", {"\r\n"}, "\r\r\n", false, {"\r\r\n"}},
        UntilCase{"ReversedPairIsNone",
                  {"\r\n"},
                  "a\n\rb",
                  false,
                  {},
                  End::kWaits,
                  "a\n\rb"},
        UntilCase{"CarriageReturnInside",
                  {"\r\n"},
                  "a\rb\r\nc",
                  false,
                  {"a\rb\r\n"},
                  End::kWaits,
                  "c"},
        UntilCase{"NewlineThenReturn",
                  {"\n\r"},
                  "a\nb\n\n\rc",
                  false,
                  {"a\nb\n\n\r"},
                  End::kWaits,
                  "c"},
        UntilCase{"OneByte", {"\n"}, "a\n\nb\n", false, {"a\n", "\n", "b\n"}},
        UntilCase{"Word",
                  {"XYZZY"},
                  "oneXYZZYXYZZtwoXYZZYXY",
                  false,
                  {"oneXYZZY", "XYZZtwoXYZZY"},
                  End::kWaits,
                  "XY"},
        UntilCase{"PrefixRepeated", {"aaa"}, "QaaXaaa", false, {"QaaXaaa"}},
        UntilCase{"EarliestOfOverlapping",
                  {"aaa"},
                  "aaaaab",
                  false,
                  {"aaa"},
                  End::kWaits,
                  "aab"},
        UntilCase{"SelfOverlapping",
                  {"abab"},
                  "ababXabaabab",
                  false,
                  {"abab", "Xabaabab"}},
        UntilCase{"DoesNotReachBackIntoTheLastMessage",
                  {"abab"},
                  "xababab",
                  false,
                  {"xabab"},
                  End::kWaits,
                  "ab"},
        UntilCase{"ChunkedAsInCpythonsTest",
                  {"aaa"},
                  "QWEaaXYaaaaa",
                  false,
                  {"QWEaaXYaaa"},
                  End::kWaits,
                  "aa"},
        UntilCase{"NulByte",
                  {std::string(1, '\0')},
                  bytes({"a\0\0b\0c", 6}),
                  false,
                  {bytes({"a\0", 2}), bytes({"\0", 1}), bytes({"b\0", 2})},
                  End::kWaits,
                  "c"},
        UntilCase{"NulBytesInside",
                  {"\n"},
                  bytes({"\0a\0\n\0", 5}),
                  false,
                  {bytes({"\0a\0\n", 4})},
                  End::kWaits,
                  bytes({"\0", 1})},
        UntilCase{"HighBytes",
                  {"\xff\xff"},
                  "\xff_\xff\xff\xff\xfe\xff\xff",
                  false,
                  {"\xff_\xff\xff", "\xff\xfe\xff\xff"}},
        UntilCase{"ManyInOne",
                  {"\r\n"},
                  "a\r\nb\r\nc\r\nd\r\n",
                  false,
                  {"a\r\n", "b\r\n", "c\r\n", "d\r\n"}}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    EndOfStream, UntilTable,
    testing::Values(
        UntilCase{"AtOnce", {"\n"}, "", true, {}, End::kIncomplete, ""},
        UntilCase{"Partial", {"\n"}, "abc", true, {}, End::kIncomplete, "abc"},
        UntilCase{"PartOfTheSeparator",
                  {"AAA"},
                  "xAA",
                  true,
                  {},
                  End::kIncomplete,
                  "xAA"},
        UntilCase{
            "AfterMessage", {"\n"}, "abc\n", true, {"abc\n"}, End::kIncomplete},
        UntilCase{"PartialAfterMessages",
                  {"\r\n"},
                  "a\r\nb\r\nc\r",
                  true,
                  {"a\r\n", "b\r\n"},
                  End::kIncomplete,
                  "c\r"},
        UntilCase{"NoSeparatorOfSeveral",
                  {"\r\n", "\n"},
                  "abc\r",
                  true,
                  {},
                  End::kIncomplete,
                  "abc\r"}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Limits, UntilTable,
    testing::Values(UntilCase{"SixteenBytesOfSixteen",
                              {"\n"},
                              text(16) + "\n",
                              false,
                              {text(16) + "\n"},
                              End::kWaits,
                              "",
                              16},
                    UntilCase{"SeventeenBytesOfSixteen",
                              {"\n"},
                              text(17) + "\n",
                              false,
                              {},
                              End::kFound,
                              text(17) + "\n",
                              16,
                              17},
                    UntilCase{"SixteenWithoutSeparatorWait",
                              {"\n"},
                              text(16),
                              false,
                              {},
                              End::kWaits,
                              text(16),
                              16},
                    UntilCase{"SeventeenWithoutSeparator",
                              {"\n"},
                              text(17),
                              false,
                              {},
                              End::kNotFound,
                              text(17),
                              16,
                              17},
                    UntilCase{"TwoByteSeparatorSeventeenWait",
                              {"\r\n"},
                              text(17),
                              false,
                              {},
                              End::kWaits,
                              text(17),
                              16},
                    UntilCase{"TwoByteSeparatorEighteenDoNot",
                              {"\r\n"},
                              text(18),
                              false,
                              {},
                              End::kNotFound,
                              text(18),
                              16,
                              17},
                    UntilCase{"SeparatorStraddlesTheLimit",
                              {"abcd"},
                              "xxabcd",
                              false,
                              {"xxabcd"},
                              End::kWaits,
                              "",
                              3},
                    UntilCase{"PrefixOfSeparatorBeyondTheLimit",
                              {"abcd"},
                              "xxxabcX",
                              false,
                              {},
                              End::kNotFound,
                              "xxxabcX",
                              3,
                              4},
                    UntilCase{"GoodMessagesBeforeABadOne",
                              {"\n"},
                              "abc\n\nabcd\nab\n",
                              false,
                              {"abc\n", "\n"},
                              End::kFound,
                              "abcd\nab\n",
                              3,
                              4},
                    UntilCase{"LimitWinsOverEndOfStream",
                              {"\n"},
                              "abcd",
                              true,
                              {},
                              End::kNotFound,
                              "abcd",
                              3,
                              4},
                    UntilCase{"EndOfStreamWithinTheLimit",
                              {"\n"},
                              "abc",
                              true,
                              {},
                              End::kIncomplete,
                              "abc",
                              3}),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    SeveralSeparators, UntilTable,
    testing::Values(
        UntilCase{"EitherLineEnd",
                  {"\r\n", "\n"},
                  "a\nb\r\nc\n",
                  false,
                  {"a\n", "b\r\n", "c\n"}},
        UntilCase{"OrderDoesNotMatter",
                  {"\n", "\r\n"},
                  "a\nb\r\nc\n",
                  false,
                  {"a\n", "b\r\n", "c\n"}},
        UntilCase{"EarliestEndNotEarliestBegin",
                  {"abcdX", "cd"},
                  "abcdX",
                  false,
                  {"abcd"},
                  End::kWaits,
                  "X"},
        UntilCase{"Three",
                  {";", "END", "\n"},
                  "a;bEND\n;EN",
                  false,
                  {"a;", "bEND", "\n", ";"},
                  End::kWaits,
                  "EN"},
        // Of two that end at the same byte the shortest, whose message is the
        // longest, counts against the limit.
        UntilCase{"ShortestCountsForTheLimit",
                  {"\r\n", "\n"},
                  "abc\r\n",
                  false,
                  {},
                  End::kFound,
                  "abc\r\n",
                  3,
                  4},
        UntilCase{"LongestCountsWhenNoneIsFound",
                  {"END", "\n"},
                  "abcde",
                  false,
                  {},
                  End::kWaits,
                  "abcde",
                  3},
        UntilCase{"LongestCountsWhenNoneIsFoundAndOneMore",
                  {"END", "\n"},
                  "abcdef",
                  false,
                  {},
                  End::kNotFound,
                  "abcdef",
                  3,
                  4},
        UntilCase{"LongerThanAllThatCame",
                  {"averylongseparator", "\n"},
                  "ab\n",
                  false,
                  {"ab\n"},
                  End::kWaits,
                  "",
                  3},
        UntilCase{
            "TheSameTwice", {"\n", "\n"}, "a\nb\n", false, {"a\n", "b\n"}}),
    case_name);

TEST(UntilTable, SeparatorOfFourKibibytes) {
  std::string separator(4096, '-');
  separator.back() = '!';
  const UntilCase c{"Long",
                    {separator},
                    "a-" + separator + "b",
                    false,
                    {"a-" + separator},
                    End::kWaits,
                    "b",
                    7};
  for (const std::size_t i : {1u, 2u, 3u, 2048u, 4096u, 4097u, 4098u}) {
    for (const bool buffered_first : {false, true}) {
      check(c,
            {"split at " + std::to_string(i),
             {c.input.substr(0, i), c.input.substr(i)},
             buffered_first},
            Api::kTry);
    }
  }
}

TEST(UntilTable, LimitEdges) {
  for (const std::size_t limit : {1u, 3u, 7u, 16u, 65536u}) {
    for (const std::string separator : {"\n", "\r\n", "XYZZY"}) {
      for (const int more : {-1, 0, 1}) {
        const std::string body =
            text(limit + static_cast<std::size_t>(more + 1) - 1);
        const std::string message = body + separator;
        UntilCase c{std::to_string(limit) + (more < 0 ? "" : "+") +
                        std::to_string(more) + " and " +
                        std::to_string(separator.size()),
                    {separator},
                    message + "ab",
                    false,
                    {},
                    End::kWaits,
                    "",
                    limit};
        if (more <= 0) {
          c.messages = {message};
          c.rest = "ab";
          // A limit below two makes an overrun of the two bytes that follow.
          if (limit + separator.size() <= 2) {
            c.end = End::kNotFound;
            c.consumed = 2;
          }
        } else {
          c.rest = c.input;
          c.end = End::kFound;
          c.consumed = limit + 1;
        }
        // Whole, the separator already buffered or not; and cut around it.
        for (const bool buffered_first : {false, true}) {
          check(c, {"whole", {c.input}, buffered_first}, Api::kTry);
          for (std::size_t i =
                   body.size() - std::min<std::size_t>(body.size(), 2);
               i <= message.size(); ++i) {
            check(c,
                  {"split at " + std::to_string(i),
                   {c.input.substr(0, i), c.input.substr(i)},
                   buffered_first},
                  Api::kTry);
          }
        }
        // Without the separator: as many bytes more as could be part of it.
        UntilCase without{c.name + " without", {separator}, body, false, {},
                          End::kWaits,         body,        limit};
        if (body.size() + 1 > limit + separator.size()) {
          without.end = End::kNotFound;
          without.consumed = body.size() + 1 - separator.size();
        }
        check(without, {"whole", {body}, false}, Api::kTry);
        check(without, {"whole", {body}, true}, Api::kTry);
        without.input = without.rest = body + text(separator.size());
        without.end = body.size() + 1 > limit ? End::kNotFound : End::kWaits;
        without.consumed = body.size() + 1;
        check(without, {"whole", {without.input}, true}, Api::kTry);
      }
    }
  }
}

TEST(UntilTable, GoesOnBehindAMessageOverTheLimit) {
  // Not found yet: skipping what was searched loses no separator.
  LoopbackPair pair = loopback_pair(Transport::kUnix, 3);
  send_all(pair.peer, "abcdef\r");
  std::size_t consumed = 0;
  try {
    pair.reader.read_until("\r\n", kPatience);
    ADD_FAILURE();
  } catch (const LimitOverrunError& e) {
    consumed = e.consumed();
  }
  EXPECT_EQ(consumed, 6u);
  EXPECT_EQ(pair.reader.skip(consumed), 6u);
  EXPECT_EQ(pair.reader.buffered(), 1u);
  send_all(pair.peer, "\nok\r\n");
  EXPECT_EQ(pair.reader.read_until("\r\n", kPatience), "\r\n");
  EXPECT_EQ(pair.reader.read_until("\r\n", kPatience), "ok\r\n");
}

// --- read_until against a naive reading of the same rules ---

struct Naive {
  std::size_t start = 0;
  std::size_t end = 0;
};

// The earliest end; there the shortest separator.
std::optional<Naive> naive_find(std::string_view data,
                                const Strings& separators) {
  for (std::size_t end = 1; end <= data.size(); ++end) {
    std::optional<Naive> best;
    for (const std::string& separator : separators) {
      if (!data.substr(0, end).ends_with(separator)) continue;
      const std::size_t start = end - separator.size();
      if (!best || start > best->start) best = Naive{start, end};
    }
    if (best) return best;
  }
  return std::nullopt;
}

TEST(UntilTable, RandomBytesInRandomChunks) {
  const std::vector<Strings> kSeparators = {
      {"a"},          {"aa"},      {"aba"},
      {"abab"},       {"\r\n"},    {"\n"},
      {"\r\n", "\n"}, {"a", "ba"}, {"ab", "ba", "aab"},
      {"aabb", "b"}};
  constexpr std::string_view kAlphabet = "ab\r\n";
  std::mt19937 random(20240917);
  const auto below = [&random](std::size_t n) {
    return static_cast<std::size_t>(random()) % n;
  };
  int messages = 0;
  int overruns = 0;
  for (int i = 0; i < 1500; ++i) {
    const Strings& separators = kSeparators[below(kSeparators.size())];
    const std::size_t limit = 1 + below(8);
    SCOPED_TRACE("random case " + std::to_string(i));
    LoopbackPair pair = loopback_pair(Transport::kUnix, limit);
    std::size_t longest = 0;
    for (const std::string& s : separators)
      longest = std::max(longest, s.size());
    std::string model;  // what was sent and not read
    for (std::size_t chunks = 1 + below(6); chunks > 0; --chunks) {
      std::string chunk;
      for (std::size_t n = 1 + below(9); n > 0; --n) {
        chunk += kAlphabet[below(kAlphabet.size())];
      }
      send_all(pair.peer, chunk);
      model += chunk;
      if (below(2) == 0) buffer_all_that_came(pair.reader);
      for (;;) {
        const std::optional<Naive> match = naive_find(model, separators);
        const bool overrun =
            match ? match->start > limit : model.size() + 1 > limit + longest;
        try {
          const std::optional<std::string> message =
              try_until(pair.reader, separators);
          ASSERT_FALSE(overrun) << "of " << testing::PrintToString(model);
          ASSERT_EQ(message.has_value(), match.has_value())
              << "of " << testing::PrintToString(model);
          if (!message) break;
          ASSERT_EQ(*message, model.substr(0, match->end));
          model.erase(0, match->end);
          ++messages;
        } catch (const LimitOverrunError& e) {
          ASSERT_TRUE(overrun) << "of " << testing::PrintToString(model);
          const std::size_t seen = pair.reader.buffered();
          ASSERT_GT(e.consumed(), limit);
          ASSERT_EQ(e.consumed(), match && match->end <= seen
                                      ? match->start
                                      : seen + 1 - longest);
          ASSERT_EQ(pair.reader.skip(e.consumed()), e.consumed());
          model.erase(0, e.consumed());
          ++overruns;
        }
      }
      ASSERT_EQ(pair.reader.buffered(), model.size());
    }
    ASSERT_EQ(rest_of(pair), model);
  }
  // Both kinds of outcome were exercised.
  EXPECT_GT(messages, 500);
  EXPECT_GT(overruns, 500);
}

// --- read_line ---

struct LineCase {
  std::string name;
  std::string input;
  Strings lines;          // until the end of the stream, which gives ""
  bool overrun = false;   // the read after `lines` is over the limit,
  std::string rest = {};  // and leaves this; all that had come was buffered
  std::size_t limit = 64;
};

void PrintTo(const LineCase& c, std::ostream* out) { *out << c.name; }

class LineTable : public testing::TestWithParam<LineCase> {};

TEST_P(LineTable, IsReadAsInAsyncio) {
  const LineCase& c = GetParam();
  for (const Feeding& feeding : feedings_of(c.input)) {
    // What an over-long line drops depends on what has come of it.
    if (c.overrun && !(feeding.buffered_first && feeding.chunks.size() == 1)) {
      continue;
    }
    SCOPED_TRACE(feeding.name);
    LoopbackPair pair = loopback_pair(Transport::kUnix, c.limit);
    Strings lines;
    for (const std::string& chunk : feeding.chunks) {
      send_all(pair.peer, chunk);
      if (feeding.buffered_first) buffer_all_that_came(pair.reader);
      try {
        while (const auto line = pair.reader.try_read_line()) {
          lines.push_back(*line);
        }
        EXPECT_FALSE(c.overrun);
      } catch (const LimitOverrunError&) {
        EXPECT_TRUE(c.overrun);
      }
    }
    if (c.overrun) {
      EXPECT_EQ(lines, c.lines);
      EXPECT_EQ(rest_of(pair), c.rest);
      continue;
    }
    half_close(pair.peer);
    for (int i = 0; i < 100; ++i) {
      lines.push_back(i % 2 == 0
                          ? pair.reader.read_line(kPatience)
                          : std::string(pair.reader.read_line_view(kPatience)));
      if (lines.back().empty()) break;
    }
    Strings expected = c.lines;
    expected.emplace_back();
    EXPECT_EQ(lines, expected);
    EXPECT_TRUE(pair.reader.at_eof());
    EXPECT_EQ(pair.reader.try_read_line(), "");  // and again
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, LineTable,
    testing::Values(
        LineCase{"EndAtOnce", "", {}},
        LineCase{"EmptyLines", "\n\n", {"\n", "\n"}},
        LineCase{"Lines", "abc\ndef\r\n", {"abc\n", "def\r\n"}},
        LineCase{"UnterminatedRest", "abc\nde", {"abc\n", "de"}},
        LineCase{"NothingButARest", "abc", {"abc"}},
        LineCase{"LoneCarriageReturnIsNoEnd", "a\rb\n", {"a\rb\n"}},
        LineCase{"NulBytes",
                 bytes({"a\0b\n\0", 5}),
                 {bytes({"a\0b\n", 4}), bytes({"\0", 1})}},
        LineCase{"AtTheLimit", "abc\nabc\n", {"abc\n", "abc\n"}, false, "", 3},
        LineCase{"RestAtTheLimit", "abc", {"abc"}, false, "", 3},
        // Its end has come: the whole line goes, and no more.
        LineCase{"OverTheLimit", "abcd\nef\n", {}, true, "ef\n", 3},
        LineCase{"FarOverTheLimit",
                 "ab\n" + text(40) + "\n\nef",
                 {"ab\n"},
                 true,
                 "\nef",
                 3},
        // Its end has not come: all that has goes.
        LineCase{
            "OverTheLimitAndNotEnded", "ab\nabcdef", {"ab\n"}, true, "", 3}),
    [](const auto& tested) { return tested.param.name; });

// Unlike in asyncio, for which the end of the line is a line of its own.
TEST(LineTable, EndOfADroppedLineIsDroppedToo) {
  LoopbackPair pair = loopback_pair(Transport::kUnix, 3);
  send_all(pair.peer, "abcdef");
  try {
    pair.reader.read_line(kPatience);
    ADD_FAILURE();
  } catch (const LimitOverrunError& e) {
    EXPECT_EQ(e.consumed(), 6u);
  }
  EXPECT_EQ(pair.reader.buffered(), 0u);
  send_all(pair.peer, "g\nok\n");
  EXPECT_EQ(pair.reader.read_line(kPatience), "ok\n");
}

// --- read_exactly ---

enum class Exactly { kTry, kString, kView, kSpan };

std::optional<std::string> exactly(StreamReader& reader, std::size_t n,
                                   Exactly api) {
  try {
    switch (api) {
      case Exactly::kTry:
        return reader.try_read_exactly(n);
      case Exactly::kString:
        return reader.read_exactly(n, Wait::none());
      case Exactly::kView:
        return std::string(reader.read_exactly_view(n, Wait::none()));
      case Exactly::kSpan: {
        std::string out(n, '?');
        try {
          reader.read_exactly(std::as_writable_bytes(std::span(out)),
                              Wait::none());
        } catch (...) {
          EXPECT_EQ(out, std::string(n, '?')) << "touched on failure";
          throw;
        }
        return out;
      }
    }
  } catch (const TimeoutError&) {
  }
  return std::nullopt;
}

TEST(ExactlyTable, TakesThatManyWhateverTheLimitAndTheChunks) {
  constexpr std::size_t kLimit = 4;
  for (const Exactly api :
       {Exactly::kTry, Exactly::kString, Exactly::kView, Exactly::kSpan}) {
    for (const std::size_t n : {0u, 1u, 2u, 4u, 5u, 40u}) {
      std::string message(n, '\0');
      for (std::size_t i = 0; i < n; ++i) message[i] = static_cast<char>(i);
      for (const std::string extra : {"", "\n", "more"}) {
        for (const Feeding& feeding : feedings_of(message + extra)) {
          SCOPED_TRACE(std::to_string(n) + "+" + std::to_string(extra.size()) +
                       " fed " + feeding.name);
          LoopbackPair pair = loopback_pair(Transport::kUnix, kLimit);
          std::size_t sent = 0;
          bool done = false;
          for (const std::string& chunk : feeding.chunks) {
            send_all(pair.peer, chunk);
            sent += chunk.size();
            if (feeding.buffered_first) buffer_all_that_came(pair.reader);
            if (done) continue;
            const std::optional<std::string> got = exactly(pair.reader, n, api);
            ASSERT_EQ(got.has_value(), sent >= n);
            if (!got) {
              ASSERT_EQ(pair.reader.buffered(), sent);
              continue;
            }
            ASSERT_EQ(*got, message);
            done = true;
          }
          ASSERT_EQ(done, n > 0 || !feeding.chunks.empty());
          ASSERT_EQ(rest_of(pair), extra);
        }
      }
    }
  }
}

TEST(ExactlyTable, EndOfStreamTakesWhatThereIsIntoTheError) {
  for (const Exactly api :
       {Exactly::kTry, Exactly::kString, Exactly::kView, Exactly::kSpan}) {
    for (const std::size_t n : {1u, 2u, 5u, 40u}) {
      for (std::size_t k = 0; k < n; ++k) {
        LoopbackPair pair = loopback_pair(Transport::kUnix, 4);
        send_all(pair.peer, text(k));
        half_close(pair.peer);
        for (const std::size_t partial : {k, std::size_t{0}}) {
          try {
            exactly(pair.reader, n, api);
            ADD_FAILURE() << k << " of " << n;
          } catch (const IncompleteReadError& e) {
            EXPECT_EQ(e.partial(), text(partial));
            EXPECT_EQ(e.expected(), n);
          }
          EXPECT_EQ(pair.reader.buffered(), 0u);
        }
        EXPECT_TRUE(pair.reader.at_eof());
        EXPECT_EQ(exactly(pair.reader, 0, api), "");  // even now
      }
    }
  }
}

TEST(ExactlyTable, TakesWhatReadUntilLeft) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "head\n12345tail");
  EXPECT_EQ(pair.reader.read_until("\n", kPatience), "head\n");
  EXPECT_EQ(pair.reader.read_exactly(5, kPatience), "12345");
  EXPECT_EQ(rest_of(pair), "tail");
}

// --- read and read_all ---

TEST(ReadTable, TakesWhatThereIsUpToThatMany) {
  for (const bool buffered_first : {false, true}) {
    LoopbackPair pair = loopback_pair(Transport::kUnix, 1);
    EXPECT_EQ(pair.reader.try_read(3), std::nullopt);
    EXPECT_EQ(pair.reader.try_read(0), "");
    EXPECT_EQ(pair.reader.read(0), "");  // at once: nothing has come
    send_all(pair.peer, "abcde");
    if (buffered_first) buffer_all_that_came(pair.reader);
    EXPECT_EQ(pair.reader.read(3, kPatience), "abc");
    EXPECT_EQ(pair.reader.read_view(3, kPatience), "de");
    EXPECT_EQ(pair.reader.try_read(3), std::nullopt);
    half_close(pair.peer);
    EXPECT_EQ(pair.reader.read(3, kPatience), "");
    EXPECT_EQ(pair.reader.read_view(3, kPatience), "");
    EXPECT_EQ(pair.reader.try_read(3), "");
    EXPECT_EQ(pair.reader.read(0, kPatience), "");
  }
}

TEST(ReadTable, ReadAllIsEverythingUntilTheEnd) {
  for (const std::string input : {"", "a", "abc\ndef"}) {
    for (const Feeding& feeding : feedings_of(input)) {
      SCOPED_TRACE(feeding.name);
      LoopbackPair pair = loopback_pair(Transport::kUnix, 1);
      for (const std::string& chunk : feeding.chunks) {
        send_all(pair.peer, chunk);
        if (feeding.buffered_first) buffer_all_that_came(pair.reader);
        EXPECT_THROW(pair.reader.read_all(Wait::none()), TimeoutError);
      }
      half_close(pair.peer);
      // All is there, so it need not wait.
      EXPECT_EQ(pair.reader.read_all(Wait::none()), input);
      EXPECT_EQ(pair.reader.read_all(kPatience), "");
    }
  }
}

TEST(ReadTable, ReadAllOfWhatCameWithItsEnd) {
  for (const Transport transport : tcpip_tests::kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    send_all(pair.peer, "abc\ndef");
    half_close(pair.peer);
    await_hang_up(pair.writer.native_handle());
    EXPECT_EQ(pair.reader.read_all(Wait::none()), "abc\ndef");
  }
}

TEST(ReadTable, ReadAllKeepsEverythingWhenThereIsTooMuch) {
  for (const std::size_t max : {0u, 2u, 6u, 7u, 8u}) {
    for (const bool buffered_first : {false, true}) {
      LoopbackPair pair = loopback_pair(Transport::kUnix);
      send_all(pair.peer, "abcdefg");
      if (buffered_first) buffer_all_that_came(pair.reader);
      half_close(pair.peer);
      if (max >= 7) {
        EXPECT_EQ(pair.reader.read_all(max, kPatience), "abcdefg");
        continue;
      }
      try {
        pair.reader.read_all(max, kPatience);
        ADD_FAILURE() << max;
      } catch (const LimitOverrunError& e) {
        EXPECT_EQ(e.consumed(), pair.reader.buffered());
      }
      EXPECT_EQ(pair.reader.read_all(kPatience), "abcdefg");
    }
  }
}

// --- at_eof ---

TEST(AtEofTable, IsTrueOnceTheEndHasComeAndAllBeforeItWasRead) {
  for (const Transport transport : tcpip_tests::kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    EXPECT_FALSE(pair.reader.at_eof());
    send_all(pair.peer, "abcd");
    EXPECT_FALSE(pair.reader.at_eof());
    half_close(pair.peer);
    await_hang_up(pair.writer.native_handle());
    EXPECT_FALSE(pair.reader.at_eof());  // unread, in the kernel
    EXPECT_EQ(pair.reader.read(1, kPatience), "a");
    EXPECT_FALSE(pair.reader.at_eof());  // unread, in the reader
    EXPECT_EQ(pair.reader.read_exactly(3, kPatience), "bcd");
    EXPECT_TRUE(pair.reader.at_eof());  // though no read has met the end
    EXPECT_FALSE(pair.reader.has_ended());
    EXPECT_EQ(pair.reader.read(1, kPatience), "");
    EXPECT_TRUE(pair.reader.at_eof());
    EXPECT_TRUE(pair.reader.has_ended());
  }
}

TEST(AtEofTable, IsTrueWithoutAnyRead) {
  for (const Transport transport : tcpip_tests::kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    half_close(pair.peer);
    await_hang_up(pair.writer.native_handle());
    EXPECT_TRUE(pair.reader.at_eof());
  }
}

// --- The end and a reset after each byte ---

struct Broken {
  Strings read;         // whole results
  std::string partial;  // of the IncompleteReadError, if there was one
  bool incomplete = false;
  bool reset = false;
  std::size_t buffered = 0;  // after the error
};

// Reads with `read` until it fails, or gives nothing.
template <class Read>
Broken read_until_broken(StreamReader& reader, Read read) {
  Broken broken;
  try {
    for (;;) {
      const std::string result = read();
      if (result.empty()) break;
      broken.read.push_back(result);
    }
  } catch (const IncompleteReadError& e) {
    broken.incomplete = true;
    broken.partial = e.partial();
  } catch (const ConnectionResetError&) {
    broken.reset = true;
  }
  broken.buffered = reader.buffered();
  return broken;
}

constexpr std::string_view kTwoMessages = "abc\r\nde\r\n";  // 5 and 4 bytes

Strings whole_messages(std::size_t k) {
  Strings result;
  if (k >= 5) result.emplace_back("abc\r\n");
  if (k >= 9) result.emplace_back("de\r\n");
  return result;
}

std::size_t whole_size(std::size_t k) { return k >= 9 ? 9 : k >= 5 ? 5 : 0; }

TEST(BrokenTable, EndAfterEachByte) {
  for (std::size_t k = 0; k <= kTwoMessages.size(); ++k) {
    SCOPED_TRACE(k);
    const std::string sent(kTwoMessages.substr(0, k));
    const auto with_pair = [&sent](auto test) {
      LoopbackPair pair = loopback_pair(Transport::kIpv4);
      send_all(pair.peer, sent);
      half_close(pair.peer);
      test(pair.reader);
    };
    with_pair([&](StreamReader& r) {
      const Broken b = read_until_broken(
          r, [&r] { return r.read_until("\r\n", kPatience); });
      EXPECT_EQ(b.read, whole_messages(k));
      EXPECT_TRUE(b.incomplete);
      EXPECT_EQ(b.partial, sent.substr(whole_size(k)));
      EXPECT_EQ(b.buffered, 0u);
    });
    with_pair([&](StreamReader& r) {
      const Broken b =
          read_until_broken(r, [&r] { return r.read_exactly(5, kPatience); });
      EXPECT_EQ(b.read.size(), k / 5);
      EXPECT_TRUE(b.incomplete);
      EXPECT_EQ(b.partial, sent.substr(k / 5 * 5));
    });
    with_pair([&](StreamReader& r) {
      const Broken b =
          read_until_broken(r, [&r] { return r.read_line(kPatience); });
      EXPECT_FALSE(b.incomplete || b.reset);
      std::string all;
      for (const std::string& line : b.read) all += line;
      EXPECT_EQ(all, sent);
    });
    with_pair([&](StreamReader& r) { EXPECT_EQ(r.read_all(kPatience), sent); });
    with_pair([&](StreamReader& r) {
      const Broken b =
          read_until_broken(r, [&r] { return r.read(2, kPatience); });
      EXPECT_FALSE(b.incomplete || b.reset);
      EXPECT_EQ(b.read.size(), (k + 1) / 2);
    });
    with_pair([&](StreamReader& r) {
      const Broken b = read_until_broken(
          r, [&r] { return text(r.discard_until("\r\n", kPatience)); });
      EXPECT_EQ(b.read.size(), whole_messages(k).size());
      EXPECT_TRUE(b.incomplete);
      EXPECT_EQ(b.buffered, 0u);
    });
  }
}

TEST(BrokenTable, ResetAfterEachByteDeliversThemFirst) {
  for (std::size_t k = 0; k <= kTwoMessages.size(); ++k) {
    SCOPED_TRACE(k);
    const std::string sent(kTwoMessages.substr(0, k));
    const auto with_pair = [&sent](auto test) {
      LoopbackPair pair = loopback_pair(Transport::kIpv4);
      send_all(pair.peer, sent);
      tcpip_tests::reset(std::move(pair.peer));
      await_hang_up(pair.writer.native_handle());
      test(pair.reader);
      EXPECT_EQ(pair.reader.error(), std::errc::connection_reset);
      EXPECT_TRUE(pair.reader.has_ended());
      EXPECT_FALSE(pair.reader.at_eof());
      // It stays so: the kernel tells it only once, the reader each time.
      pair.reader.discard();
      EXPECT_THROW(pair.reader.read(1), ConnectionResetError);
      EXPECT_THROW(pair.reader.read_line(), ConnectionResetError);
    };
    // What is not a whole message stays in the reader.
    with_pair([&](StreamReader& r) {
      const Broken b = read_until_broken(
          r, [&r] { return r.read_until("\r\n", kPatience); });
      EXPECT_EQ(b.read, whole_messages(k));
      EXPECT_TRUE(b.reset);
      EXPECT_EQ(b.buffered, k - whole_size(k));
      if (b.buffered > 0) {
        EXPECT_EQ(r.read(100), sent.substr(whole_size(k)));
      }
    });
    with_pair([&](StreamReader& r) {
      const Broken b =
          read_until_broken(r, [&r] { return r.read_exactly(5, kPatience); });
      EXPECT_EQ(b.read.size(), k / 5);
      EXPECT_TRUE(b.reset);
      EXPECT_EQ(b.buffered, k % 5);
    });
    with_pair([&](StreamReader& r) {
      std::string out(5, '?');
      const Broken b = read_until_broken(r, [&r, &out] {
        out.assign(5, '?');
        r.read_exactly(std::as_writable_bytes(std::span(out)), kPatience);
        return out;
      });
      EXPECT_EQ(out, "?????");
      EXPECT_TRUE(b.reset);
      EXPECT_EQ(b.buffered, k % 5);
    });
    with_pair([&](StreamReader& r) {
      const Broken b =
          read_until_broken(r, [&r] { return r.read_all(kPatience); });
      EXPECT_TRUE(b.reset);
      EXPECT_EQ(b.buffered, k);
    });
    with_pair([&](StreamReader& r) {
      const Broken b =
          read_until_broken(r, [&r] { return r.read(2, kPatience); });
      EXPECT_TRUE(b.reset);
      EXPECT_EQ(b.read.size(), (k + 1) / 2);
    });
    // A line cut short by a reset is not one.
    with_pair([&](StreamReader& r) {
      const Broken b =
          read_until_broken(r, [&r] { return r.read_line(kPatience); });
      EXPECT_EQ(b.read, whole_messages(k));
      EXPECT_TRUE(b.reset);
      EXPECT_EQ(b.buffered, k - whole_size(k));
    });
  }
}

}  // namespace
}  // namespace tcpip
