#include "tcpip/json.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"

namespace tcpip_tests {

// json_settings.cc, compiled with different macros.
bool links_with_the_same_settings();
bool links_without_implicit_conversions();
bool links_with_diagnostics();
bool links_with_diagnostic_positions();
bool links_without_exceptions();
bool links_with_other_exceptions();

namespace {

using nlohmann::json;
using tcpip::format_json;
using tcpip::JsonDecodeError;
using tcpip::OneClientServer;
using tcpip::parse_json;
using tcpip::read_json;
using tcpip::try_read_json;
using tcpip::try_write_json;
using tcpip::UniqueFd;
using tcpip::write_json;

using Served = tcpip_tests::ServedStage;

// Gives the error that a text makes.
JsonDecodeError error_of(std::string_view text) {
  try {
    parse_json(text);
  } catch (const JsonDecodeError& e) {
    return e;
  }
  throw std::logic_error("no error: " + std::string(text));
}

json nested(std::size_t depth) {
  json result = json::array();
  for (std::size_t i = 1; i < depth; ++i) result = json::array({result});
  return result;
}

TEST(JsonMessageTest, IsReadAndWritten) {
  Served served;
  send_all(served.peer,
           " {\"id\": 1, \"x\": [1.5, null, \"\xc3\xa9\"]}\r\n7\r\n");
  const json command = read_json(*served.server, kPatience);
  EXPECT_EQ(command.at("id"), 1);
  EXPECT_EQ(command.at("x"), json({1.5, nullptr, "\u00e9"}));
  EXPECT_EQ(read_json(*served.server, kPatience), 7);
  write_json(*served.server, {{"ok", true}, {"text", "\u00e9\n"}}, kPatience);
  const std::string expected = "{\"ok\":true,\"text\":\"\\u00e9\\n\"}\r\n";
  EXPECT_EQ(recv_exact(served.peer, expected.size()), expected);
}

TEST(JsonMessageTest, IsTriedForWithoutWaiting) {
  Served served;
  EXPECT_EQ(try_read_json(*served.server), std::nullopt);
  EXPECT_TRUE(try_write_json(*served.server, nullptr));
  EXPECT_EQ(recv_exact(served.peer, 6), "null\r\n");
  send_all(served.peer, "[]\r\nx\r\n");
  std::optional<json> got;
  EXPECT_TRUE(eventually([&] {
    got = try_read_json(*served.server);
    return got.has_value();
  }));
  EXPECT_EQ(*got, json::array());
  try {
    eventually([&] { return try_read_json(*served.server).has_value(); });
    FAIL();
  } catch (const JsonDecodeError& e) {
    EXPECT_EQ(e.operation(), "try_read_json");
  }
}

TEST(JsonMessageTest, ObeysDeadlineAndResumes) {
  Served served;
  send_all(served.peer, "{\"a\":");
  EXPECT_THROW(read_json(*served.server, std::chrono::milliseconds(5)),
               tcpip::TimeoutError);
  send_all(served.peer, "1}\r\n");
  EXPECT_EQ(read_json(*served.server, kPatience), json({{"a", 1}}));
}

TEST(JsonMessageTest, ThatIsNoneTakesItAloneAndKeepsTheConnection) {
  Served served;
  OneClientServer& server = *served.server;
  send_all(served.peer, "{bad}\r\n\r\n1\r\n[\xff]\r\nheartbeat\r\n2\r\n");
  try {
    read_json(server, kPatience);
    FAIL();
  } catch (const JsonDecodeError& e) {
    EXPECT_EQ(e.operation(), "read_json");
    EXPECT_EQ(e.peer(), server.peer_address().to_string());
    EXPECT_EQ(e.code(), tcpip::Errc::kJson);
    EXPECT_EQ(e.position(), 1u);
    EXPECT_EQ(e.text(), "{bad}");
    EXPECT_NE(std::string_view(e.what()).find("{bad}"), std::string::npos);
  }
  EXPECT_THROW(read_json(server, kPatience), JsonDecodeError);
  EXPECT_EQ(read_json(server, kPatience), 1);
  EXPECT_THROW(read_json(server, kPatience), tcpip::DecodeError);
  EXPECT_THROW(read_json(server, kPatience), tcpip::UnexpectedHeartbeatError);
  EXPECT_EQ(read_json(server, kPatience), 2);
  EXPECT_TRUE(server.connected());
}

TEST(JsonMessageTest, GoesPastHeartbeats) {
  Served served({.heartbeats = {.expect = true}});
  send_all(served.peer, "heartbeat\r\n1\r\nheartbeat\r\n");
  EXPECT_EQ(read_json(*served.server, kPatience), 1);
  EXPECT_EQ(try_read_json(*served.server), std::nullopt);
}

TEST(JsonMessageTest, IsTextInEveryEncoding) {
  const json value = {{"\u00e9", {"\u20ac", 1, "\U0001f600"}}};
  for (const char* encoding :
       {"utf-8", "ascii", "latin-1", "utf-16", "utf-16-be", "utf-32-le"}) {
    Served served({.encoding = encoding});
    tcpip::OneClientServer& server = *served.server;
    write_json(server, value);
    // Sent back as it came.
    send_all(served.peer, recv_exact(served.peer, 4));
    while (true) {
      const std::string more = recv_some(served.peer);
      send_all(served.peer, more);
      if (more.ends_with("\r\n")) break;
    }
    EXPECT_EQ(read_json(server, kPatience), value) << encoding;
  }
}

TEST(JsonMessageTest, IncompleteIsALostConnection) {
  Served served;
  send_all(served.peer, "{\"a\"");
  served.peer.reset();
  EXPECT_THROW(read_json(*served.server, kPatience),
               tcpip::IncompleteReadError);
  EXPECT_FALSE(served.server->connected());
}

TEST(JsonMessageTest, TooLongIsALimitOverrun) {
  Served served({.limit = 16});
  send_all(served.peer, "\"0123456789012345678901234567890123456789\"\r\n");
  EXPECT_THROW(read_json(*served.server, kPatience), tcpip::LimitOverrunError);
}

TEST(JsonWriteTest, WhatIsNoJsonIsRefusedAndNothingIsSent) {
  Served served;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<json> bad = {
      nan,
      json::array({1, -infinity}),
      {{"a", {{"b", infinity}}}},
      "\xff",
      {{"\xed\xa0\x80", 1}},
      json::binary({1, 2}),
      json(json::value_t::discarded),
      nested(257),
  };
  for (const json& data : bad) {
    EXPECT_THROW(write_json(*served.server, data), std::invalid_argument);
    EXPECT_THROW(try_write_json(*served.server, data), std::invalid_argument);
  }
  write_json(*served.server, 1);
  EXPECT_EQ(recv_exact(served.peer, 3), "1\r\n");
}

TEST(JsonMessageTest, OfPythonsHasNanAndInfinityIfAllowed) {
  Served served;
  OneClientServer& server = *served.server;
  send_all(served.peer, "{\"t\": NaN}\r\n-Infinity\r\nNaN\r\n");
  const json reading = read_json(server, {.allow_nan = true}, kPatience);
  EXPECT_TRUE(std::isnan(reading.at("t").get<double>()));
  std::optional<json> got;
  EXPECT_TRUE(eventually([&] {
    got = try_read_json(server, {.allow_nan = true});
    return got.has_value();
  }));
  EXPECT_EQ(*got, -std::numeric_limits<double>::infinity());
  EXPECT_THROW(read_json(server, kPatience), JsonDecodeError);
  EXPECT_TRUE(server.connected());

  write_json(server, reading, {.allow_nan = true}, kPatience);
  EXPECT_TRUE(try_write_json(server, *got, {.allow_nan = true}));
  const std::string expected = "{\"t\":NaN}\r\n-Infinity\r\n";
  EXPECT_EQ(recv_exact(served.peer, expected.size()), expected);
}

TEST(JsonWriteTest, TextThatHoldsTheTerminatorIsRefused) {
  Served served({.terminator = ","});
  EXPECT_THROW(write_json(*served.server, {1, 2}), std::invalid_argument);
  write_json(*served.server, 1);
  EXPECT_EQ(recv_exact(served.peer, 2), "1,");
}

TEST(JsonTest, DepthIsLimitedBothWays) {
  EXPECT_EQ(parse_json(format_json(nested(256))), nested(256));
  EXPECT_THROW(format_json(nested(257)), std::invalid_argument);
  const std::string deep(1'000'000, '[');
  const JsonDecodeError error = error_of(deep);
  EXPECT_EQ(error.position(), 256u);
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_EQ(error_of(objects).position(), 256u * 5);
}

TEST(JsonTest, ErrorSaysWhere) {
  const std::pair<std::string_view, std::size_t> cases[] = {
      {"", 0},
      {"  ", 2},
      {"{\"a\":}", 5},
      {"[1 2]", 3},
      {"{} x", 3},
      {"[1,", 3},
      {"NaN", 0},
      {"[1, 1e400]", 4},
      {"[18446744073709551616]", 1},
      {"18446744073709551616", 0},
      {"\xef\xbb\xbf{}", 0},
      {std::string_view("1\0002", 3), 1},
      {"\"\xc3\xa9\t\"", 3},
      // The first byte of a token, also of one that is fine elsewhere.
      {" [ 1  \"x\" ] ", 6},
      {"[1, nul]", 4},
      {"[true falsehood]", 6},
      {"nullx", 4},
      {"{\"a\" \"b\"}", 5},
      {"{\"a\":1, \"b\" }", 12},
      {"{\"a\":1,}", 7},
      {"[1,]", 3},
      {"[1}", 2},
      {"{1:2}", 1},
      {"[1 -12]", 3},
      {"-", 0},
      {"[-x]", 1},
      {"01", 1},
      {"1.", 1},
      {"1.5e+", 3},
      // Strings.
      {"[\"abc", 1},
      {"\"a\\", 0},
      {"\"a\\x\"", 2},
      {"\"\\u12x4\"", 2},
      {"\"\\u1234", 2},
      {"\"\\ud800x\"", 2},
      {"\"\\ud800\\u0041\"", 2},
      {"\"\\ud800\\u00x1\"", 8},
      {"\"\\ud83d\\ude00\\udc00\"", 14},
      {"[\"ab\xff\"]", 4},
      {"[1, \"\xed\xa0\x80\"]", 5},
  };
  for (const auto& [text, position] : cases) {
    EXPECT_EQ(error_of(text).position(), position) << text;
  }
}

// However long the text before it and behind it is.
TEST(JsonTest, ErrorShowsThePlace) {
  const std::string blanks(1000, ' ');
  const JsonDecodeError error =
      error_of("[" + blanks + "1 wrong" + blanks + "]");
  EXPECT_EQ(error.position(), 1003u);
  EXPECT_NE(error.text().find("1 wrong "), std::string::npos);
}

// What a peer sends must not be able to forge a log, nor to fill it.
TEST(JsonTest, ErrorShowsTheTextEscapedAndCapped) {
  const JsonDecodeError odd = error_of("x\r\n\x1b[31m\"\\\xff\u202e");
  EXPECT_EQ(odd.text(), "x\\x0d\\x0a\\x1b[31m\\\"\\\\\\xff\\xe2\\x80\\xae");
  const JsonDecodeError longer = error_of("[" + std::string(100'000, 'x'));
  EXPECT_LT(std::string(longer.what()).size(), 1000u);
  EXPECT_TRUE(longer.text().starts_with("[xxx"));
  EXPECT_TRUE(longer.text().ends_with("x..."));
  const JsonDecodeError late = error_of("\"" + std::string(100'000, '\t'));
  EXPECT_LT(std::string(late.what()).size(), 1500u);
  const JsonDecodeError end =
      error_of("[\"" + std::string(10'000, 'x') + "\", here]");
  EXPECT_TRUE(end.text().starts_with("...xxx"));
  EXPECT_TRUE(end.text().ends_with("x\\\", here]"));
  for (const char c : std::string(odd.what()) + late.what()) {
    EXPECT_TRUE(c >= ' ' && c <= '~') << static_cast<int>(c);
  }
}

TEST(JsonTest, NumbersArriveAsTheyWereSent) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    const double back = parse_json(format_json(value)).get<double>();
    ASSERT_EQ(std::bit_cast<std::uint64_t>(back),
              std::bit_cast<std::uint64_t>(value));
  }
  for (const double value :
       {0.0, -0.0, std::numeric_limits<double>::denorm_min(),
        std::numeric_limits<double>::max(),
        std::numeric_limits<double>::lowest()}) {
    EXPECT_EQ(std::bit_cast<std::uint64_t>(
                  parse_json(format_json(value)).get<double>()),
              std::bit_cast<std::uint64_t>(value));
  }
  constexpr auto kLargest = std::numeric_limits<std::uint64_t>::max();
  constexpr auto kSmallest = std::numeric_limits<std::int64_t>::min();
  EXPECT_EQ(parse_json(format_json(kLargest)).get<std::uint64_t>(), kLargest);
  EXPECT_EQ(parse_json(format_json(kSmallest)).get<std::int64_t>(), kSmallest);
}

TEST(JsonTest, ManyKeysAndLongStringsTakeLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 100'000; ++i) {
    text += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":0";
  }
  EXPECT_EQ(parse_json(text + "}").size(), 100'000u);
  std::string escapes = "\"";
  for (int i = 0; i < 200'000; ++i) escapes += "\\u0041";
  EXPECT_EQ(parse_json(escapes + "\"").get<std::string>().size(), 200'000u);
}

TEST(JsonTest, TheLastOfEqualKeysCounts) {
  EXPECT_EQ(parse_json("{\"a\":[1],\"a\":2}"), json({{"a", 2}}));
  EXPECT_EQ(parse_json("{\"a\":1,\"a\":{\"b\":[]}}").at("a").at("b"),
            json::array());
}

// A program whose nlohmann::json has another layout, or other inline functions,
// would crash in read_json() if it linked.
TEST(JsonSettingsTest, AnotherLayoutOrOtherExceptionsDoNotLink) {
  EXPECT_TRUE(links_with_the_same_settings());
  EXPECT_TRUE(links_without_implicit_conversions());
  EXPECT_FALSE(links_with_diagnostics());
  EXPECT_FALSE(links_with_diagnostic_positions());
  EXPECT_FALSE(links_without_exceptions());
  EXPECT_FALSE(links_with_other_exceptions());
}

constexpr tcpip::JsonOptions kAllowNan{.allow_nan = true};

TEST(JsonNanTest, TakesExactlyPythonsSpellingsWhereAValueMayStand) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(std::isnan(parse_json("NaN", kAllowNan).get<double>()));
  EXPECT_EQ(parse_json(" Infinity\n", kAllowNan), infinity);
  EXPECT_EQ(parse_json("-Infinity", kAllowNan), -infinity);
  EXPECT_EQ(
      parse_json("[0e0,Infinity,0.000000,-Infinity ,-0.000000,1]", kAllowNan),
      json({0.0, infinity, 0.0, -infinity, -0.0, 1}));
  EXPECT_EQ(
      parse_json(R"({"a":Infinity,"NaN":"NaN, \"Infinity","b" : [ )"
                 "-Infinity]}",
                 kAllowNan),
      json({{"a", infinity}, {"NaN", "NaN, \"Infinity"}, {"b", {-infinity}}}));
}

TEST(JsonNanTest, RefusesEveryOtherPlaceAndSpellingAndSaysWhere) {
  const std::pair<std::string_view, std::size_t> cases[] = {
      {"NaNNaN", 3},       {"1NaN", 1},
      {"-NaN", 0},         {"nan", 0},
      {"+Infinity", 0},    {"+NaN", 0},
      {"--Infinity", 0},   {"Infinity5", 8},
      {"NaN5", 3},         {"NaN.5", 3},
      {"Infinitye5", 8},   {"Infinit", 0},
      {"-Infinit", 0},     {"inf", 0},
      {"INFINITY", 0},     {"[NaN NaN]", 5},
      {"NaNx", 3},         {"[NaN,]", 5},
      {"{NaN:1}", 1},      {"{\"a\":1,NaN:1}", 7},
      {"[Infinity:1]", 9}, {"NaN NaN", 4},
      {"[1,NaN}", 6},      {"[NaN, 1e400]", 6},
      {"{\"a\" NaN}", 5},  {"[-Infinity,NaN,x]", 15},
  };
  for (const auto& [text, position] : cases) {
    try {
      ADD_FAILURE() << text << " is " << parse_json(text, kAllowNan);
    } catch (const JsonDecodeError& e) {
      EXPECT_EQ(e.position(), position) << e.what();
      // The text as it came, not as the parser was given it.
      EXPECT_NE(e.text().find(text.substr(text.size() - 1)), std::string::npos);
      EXPECT_EQ(e.text().find("0e0"), std::string::npos);
    }
  }
}

TEST(JsonNanTest, WritesWhatPythonWrites) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(format_json(nan, kAllowNan), "NaN");
  EXPECT_EQ(format_json(-nan, kAllowNan), "NaN");
  EXPECT_EQ(format_json(infinity, kAllowNan), "Infinity");
  EXPECT_EQ(format_json({{"b", {-infinity, 1.5, json::array(), "\n\u00e9"}},
                         {"\u00e9\"", json::object()},
                         {"a", {{"c", nan}, {"d", nullptr}}}},
                        kAllowNan),
            R"({"a":{"c":NaN,"d":null},"b":[-Infinity,1.5,[],"\n\u00e9"],)"
            R"("\u00e9\"":{}})");
  // The rest of what is no JSON is no JSON beside a NaN either.
  EXPECT_THROW(format_json({nan, "\xff"}, kAllowNan), std::invalid_argument);
  EXPECT_THROW(format_json({{"\xff", nan}}, kAllowNan), std::invalid_argument);
  EXPECT_THROW(format_json({nan, nested(256)}, kAllowNan),
               std::invalid_argument);
  EXPECT_THROW(format_json({nan, json::binary({1})}, kAllowNan),
               std::invalid_argument);
}

TEST(JsonNanTest, ManyTakeLinearTime) {
  std::string text = "[";
  for (int i = 0; i < 50'000; ++i) text += i == 0 ? "NaN" : ",NaN";
  const json data = parse_json(text + "]", kAllowNan);
  EXPECT_EQ(data.size(), 50'000u);
  EXPECT_EQ(format_json(data, kAllowNan), text + "]");
  const std::string deep = std::string(1'000'000, '[') + "NaN";
  EXPECT_THROW(parse_json(deep, kAllowNan), JsonDecodeError);
}

}  // namespace
}  // namespace tcpip_tests
