// Bad and odd input, message by message, each item in six ways of arriving:
// whole, byte by byte, split at every place, with FIN and with a reset after
// every byte, and followed at once by a good message, which must be read.
//
// stream_table_test.cc has the same for the reader's own calls.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/json.h"
#include "tcpip/one_client_server.h"
#include "tcpip/wait.h"
#include "tcpip/wire_type.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"

namespace tcpip_tests {
namespace {

using std::string_literals::operator""s;
using tcpip::OneClientServer;
using tcpip::ServerOptions;
using tcpip::UniqueFd;

// One message as it is sent, and what reading it gives; empty if it is not to
// be seen, as a heartbeat.
struct Message {
  std::string wire;
  std::string result;
};

struct Item {
  const char* name;
  std::vector<Message> messages;
  const char* encoding = "utf-8";
  std::string terminator = "\r\n";
  bool expect_heartbeats = false;
  bool is_cut = true;  // also arrives in pieces
};

// How the messages of a table are read: without waiting, so that they can be
// read between two bytes. Nothing if none is complete.
using Read = std::function<std::optional<std::string>(OneClientServer&)>;

// What became of a read, in a word or two.
std::optional<std::string> outcome(const Read& read, OneClientServer& server) {
  try {
    return read(server);
  } catch (const tcpip::DecodeError& e) {
    return "bad text at " + std::to_string(e.position());
  } catch (const tcpip::JsonDecodeError& e) {
    return "no JSON";
  } catch (const tcpip::UnexpectedHeartbeatError& e) {
    return "unexpected heartbeat";
  } catch (const tcpip::LimitOverrunError& e) {
    server.discard_until(server.terminator(), kPatience);
    return "too long";
  }
}

class Corpus {
 public:
  // `good` makes a message that an item is to be followed by.
  Corpus(Read read, std::function<Message(const Item&)> good)
      : read_(std::move(read)), good_(std::move(good)) {}

  void run(const Item& item) {
    SCOPED_TRACE(item.name);
    start(item);
    wire_.clear();
    for (const Message& message : item.messages) wire_ += message.wire;
    std::vector<Message> all = item.messages;
    all.push_back(good_(item));

    connect();
    send_all(peer_, wire_);
    expect_all(item.messages);
    // Both in one segment.
    send_all(peer_, wire_ + all.back().wire);
    expect_all(all);

    if (!item.is_cut) return;
    // Byte by byte; nothing is read before it is complete.
    for (const Message& message : all) {
      const std::size_t most = message.wire.size() <= 1000 ? 1 : step();
      for (std::size_t i = 0; i < message.wire.size(); i += most) {
        feed(message.wire.substr(i, most));
        if (i + most < message.wire.size()) {
          ASSERT_EQ(outcome(read_, **stage_), std::nullopt)
              << "after " << i + most << " of " << message.wire.size();
        }
      }
      expect_all({message});
    }

    for (std::size_t cut = 1; cut < wire_.size(); cut += step()) {
      SCOPED_TRACE("cut at " + std::to_string(cut));
      feed(wire_.substr(0, cut));
      std::vector<std::string> got;
      take(got);
      send_all(peer_, wire_.substr(cut) + all.back().wire);
      expect_all(all, got);
    }
    for (std::size_t cut = 0; cut <= wire_.size(); cut += step()) {
      SCOPED_TRACE("end after " + std::to_string(cut));
      end_after(item, cut, false);
      end_after(item, cut, true);
      if (testing::Test::HasFailure()) return;
    }
  }

 private:
  // Long items come in larger pieces, and are not cut everywhere.
  std::size_t step() const { return 1 + wire_.size() / 60; }

  void start(const Item& item) {
    stage_.emplace(
        ServerOptions{.encoding = item.encoding,
                      .terminator = item.terminator,
                      .heartbeats = {.expect = item.expect_heartbeats}});
  }

  void connect() {
    peer_.reset();  // there may be only one
    peer_ = stage_->connect();
    accepted_ = socket_connected_to(local_port(peer_.get()));
    ASSERT_TRUE(accepted_.has_value());
  }

  // Sends a piece, which has arrived when this returns.
  void feed(const std::string& piece) {
    send_all(peer_, piece);
    await_receivable(*accepted_, piece.size());
  }

  void take(std::vector<std::string>& got) {
    while (const auto result = outcome(read_, **stage_)) {
      got.push_back(*result);
    }
  }

  static std::vector<std::string> results(const std::vector<Message>& some) {
    std::vector<std::string> result;
    for (const Message& message : some) {
      if (!message.result.empty()) result.push_back(message.result);
    }
    return result;
  }

  void expect_all(const std::vector<Message>& messages,
                  std::vector<std::string> got = {}) {
    const std::vector<std::string> wanted = results(messages);
    EXPECT_TRUE(eventually([&] {
      take(got);
      return got.size() >= wanted.size();
    }));
    EXPECT_EQ(got, wanted);
  }

  // The messages that are complete are read, whatever comes behind them; then
  // the rest is in the error, or the reset is.
  void end_after(const Item& item, std::size_t cut, bool reset_it) {
    connect();
    send_all(peer_, wire_.substr(0, cut));
    std::vector<Message> complete;
    std::size_t end = 0;
    for (const Message& message : item.messages) {
      if (end + message.wire.size() > cut) break;
      end += message.wire.size();
      complete.push_back(message);
    }
    if (reset_it) {
      // Not before it has arrived: a reset may overtake what is on its way.
      if (cut > 0) await_receivable(*accepted_, cut);
      reset(std::move(peer_));
    } else {
      peer_.reset();
    }
    std::vector<std::string> got;
    std::string error;
    while (error.empty()) {
      try {
        if (const auto result = outcome(read_, **stage_)) {
          got.push_back(*result);
        }
      } catch (const tcpip::IncompleteReadError& e) {
        EXPECT_EQ(e.partial(), wire_.substr(end, cut - end));
        error = "end";
      } catch (const tcpip::ConnectionResetError&) {
        error = "reset";
      } catch (const tcpip::ConnectionError& e) {
        // All had been read when the end was noticed.
        EXPECT_EQ(e.code(), std::errc::not_connected) << e.what();
        EXPECT_EQ(end, cut);
        error = reset_it ? "reset" : "end";
      }
    }
    EXPECT_EQ(error, reset_it ? "reset" : "end");
    EXPECT_EQ(got, results(complete));
    EXPECT_FALSE((*stage_)->connected());
  }

  const Read read_;
  const std::function<Message(const Item&)> good_;
  std::string wire_;
  std::optional<ServerStage<>> stage_;
  UniqueFd peer_;
  std::optional<int> accepted_;
};

// --- Text ---

std::optional<std::string> read_text(OneClientServer& server) {
  const std::optional<std::string> text = server.try_read_str();
  return text ? std::optional("\"" + *text + "\"") : std::nullopt;
}

std::string wide(std::u16string_view text) {
  std::string result;
  for (const char16_t c : text) {
    result += static_cast<char>(c & 0xff);
    result += static_cast<char>(c >> 8);
  }
  return result;
}

Message good_text(const Item& item) {
  const std::string_view encoding = item.encoding;
  std::string wire = "good";
  if (encoding == "utf-16" || encoding == "utf-16-le") wire = wide(u"good");
  if (encoding == "utf-16-be") wire = "\0g\0o\0o\0d"s;
  if (encoding == "utf-32") wire = "g\0\0\0o\0\0\0o\0\0\0d\0\0\0"s;
  return {wire + item.terminator, "\"good\""};
}

TEST(CorpusTest, TextMessages) {
  const std::string long_line(65536, 'x');
  const std::vector<Item> items = {
      {"empty", {{"\r\n", "\"\""}}},
      {"two empty", {{"\r\n", "\"\""}, {"\r\n", "\"\""}}},
      {"CR CR LF", {{"\r\r\n", "\"\r\""}}},
      {"LF CR", {{"\n\r\r\n", "\"\n\r\""}}},
      {"lone CR inside", {{"a\rb\r\n", "\"a\rb\""}}},
      {"lone LF inside", {{"a\nb\r\n", "\"a\nb\""}}},
      {"blanks", {{" \t a \v\f\r\n", "\" \t a \v\f\""}}},
      {"NUL", {{"a\0b\r\n"s, "\"a\0b\""s}}},
      {"two in one", {{"one\r\n", "\"one\""}, {"two\r\n", "\"two\""}}},
      {"ports' scanners",
       {{"GET / HTTP/1.0\r\n", "\"GET / HTTP/1.0\""},
        {"\xff\xfb\x1f\xff\xfb\r\n", "bad text at 0"},
        {"\x16\x03\x01\x02\r\n", "\"\x16\x03\x01\x02\""}}},
      {"separators of one kind",
       {{"aaa", "\"\""}, {"baaa", "\"b\""}},
       "utf-8",
       "aaa"},
      {"separator's beginning repeated",
       {{"abaX|abab", "\"abaX|\""}, {"aabab", "\"a\""}},
       "utf-8",
       "abab"},
      {"NUL as terminator",
       {{"a\n\0"s, "\"a\n\""}, {"\0"s, "\"\""}},
       "utf-8",
       "\0"s},
      {"at the limit", {{long_line + "\r\n", "\"" + long_line + "\""}}},
      // What is too long is refused before its end has come.
      {"beyond the limit",
       {{long_line + "x\r\n", "too long"}},
       "utf-8",
       "\r\n",
       false,
       false},
      {"far beyond the limit",
       {{std::string(300'000, 'x') + "\r\n", "too long"}},
       "utf-8",
       "\r\n",
       false,
       false},
      // Encodings.
      {"invalid UTF-8", {{"\xff\xfe\r\n", "bad text at 0"}}},
      {"overlong", {{"a\xc0\xaf\r\n", "bad text at 1"}}},
      {"surrogate", {{"\xed\xa0\x80\r\n", "bad text at 0"}}},
      {"above U+10FFFF", {{"\xf4\x90\x80\x80\r\n", "bad text at 0"}}},
      {"cut after 1 of 2", {{"a\xc3\r\n", "bad text at 1"}}},
      {"cut after 2 of 3", {{"a\xe2\x82\r\n", "bad text at 1"}}},
      {"cut after 3 of 4", {{"a\xf0\x9f\x98\r\n", "bad text at 1"}}},
      {"four bytes", {{"\xf0\x9f\x98\x80\r\n", "\"\xf0\x9f\x98\x80\""}}},
      {"UTF-8 mark stays", {{"\xef\xbb\xbfx\r\n", "\"\xef\xbb\xbfx\""}}},
      {"not ASCII", {{"a\x80\r\n", "bad text at 1"}}, "ascii"},
      {"Latin-1", {{"\xe9\xff\r\n", "\"\u00e9\u00ff\""}}, "latin1"},
      {"odd length", {{"a\0b\r\n"s, "bad text at 2"}}, "utf-16-le"},
      {"UTF-8 for UTF-16", {{"hello\r\n", "bad text at 4"}}, "utf-16"},
      {"marks of both orders and none",
       {{"\xff\xfe" + wide(u"a") + "\r\n", "\"a\""},
        {"\xfe\xff\0a\r\n"s, "\"a\""},
        {wide(u"a") + "\r\n", "\"a\""},
        {"\xff\xfe\r\n", "\"\""}},
       "utf-16"},
      {"mark stays", {{wide(u"\ufeffa") + "\r\n", "\"\ufeffa\""}}, "utf-16-le"},
      {"lone surrogates",
       {{"\0\xd8\r\n"s, "bad text at 0"},
        {"a\0\0\xdc\r\n"s, "bad text at 2"},
        {"\0\xd8"
         "a\0\r\n"s,
         "bad text at 0"}},
       "utf-16-le"},
      {"pair", {{"\x3d\xd8\0\xde\r\n"s, "\"\U0001f600\""}}, "utf-16-le"},
      // The terminator's bytes across two code units: as upstream reads it.
      {"false terminator",
       {{"\x05\r\n", "bad text at 0"},
        {"\x01" + wide(u" hi") + "\r\n", "bad text at 6"}},
       "utf-16-le"},
      {"big", {{"\0a\r\n"s, "\"a\""}}, "utf-16-be"},
      {"UTF-32",
       {{"\xff\xfe\0\0a\0\0\0\r\n"s, "\"a\""},
        {"\0\0\xfe\xff\0\0\0a\r\n"s, "\"a\""},
        {"a\0\0\0\r\n"s, "\"a\""},
        {"\0\0\x11\0\r\n"s, "bad text at 0"},
        {"\0\xd8\0\0\r\n"s, "bad text at 0"},
        {"a\0\0\0b\0\0\r\n"s, "bad text at 4"}},
       "utf-32"},
  };
  Corpus corpus(read_text, good_text);
  for (const Item& item : items) corpus.run(item);
}

// --- JSON ---

std::optional<std::string> read_value(OneClientServer& server) {
  const std::optional<nlohmann::json> value = tcpip::try_read_json(server);
  return value ? std::optional(value->dump()) : std::nullopt;
}

TEST(CorpusTest, JsonMessages) {
  std::vector<Item> items = {
      {"scalars",
       {{"1\r\n", "1"}, {"\"a\"\r\n", "\"a\""}, {"null\r\n", "null"}}},
      {"blanks", {{" [1] \r\n", "[1]"}}},
      {"negative zero", {{"-0\r\n", "0"}}},
      {"64 bits",
       {{"9223372036854775808\r\n", "9223372036854775808"},
        {"18446744073709551616\r\n", "no JSON"},
        {"-9223372036854775809\r\n", "no JSON"},
        {"9007199254740993\r\n", "9007199254740993"}}},
      {"equal keys", {{"{\"a\":1,\"a\":2}\r\n", "{\"a\":2}"}}},
      {"NUL in key and value",
       {{"{\"\\u0000\":\"\\u0000\"}\r\n", "{\"\\u0000\":\"\\u0000\"}"}}},
      {"mark", {{"\xef\xbb\xbf{}\r\n", "no JSON"}}},
      {"invalid UTF-8", {{"\"\xff\"\r\n", "bad text at 1"}}},
      {"UTF-16",
       {{"\xff\xfe" + wide(u"[1]") + "\r\n", "[1]"},
        {"\xff\xfe" + wide(u"[1") + "\r\n", "no JSON"}},
       "utf-16"},
      {"deep",
       {{std::string(257, '[') + std::string(257, ']') + "\r\n", "no JSON"}}},
      {"deeper", {{std::string(30'000, '[') + "\r\n", "no JSON"}}},
      {"long number", {{std::string(5'000, '9') + "\r\n", "no JSON"}}},
  };
  for (const char* text :
       {"",         "NaN",      "Infinity",    "-Infinity",
        "1e400",    "01",       "+1",          ".5",
        "1.",       "0x1",      "1e",          "--1",
        "[",        "{\"a\":",  "\"\\ud800\"", "\"\\udc00\\ud800\"",
        "\"a\tb\"", "\"a\rb\"", "{} x",        "{}{}",
        "[1,]",     "'a'",      "tru",         "nul",
        "/**/1",    "1 //",     "\"a",         "]",
        "{1:2}",    "{\"a\" 1}"}) {
    items.push_back({text, {{std::string(text) + "\r\n", "no JSON"}}});
  }
  Corpus corpus(read_value, [](const Item& item) {
    return Message{std::string_view(item.encoding) == "utf-16"
                       ? wide(u"\"good\"") + "\r\n"
                       : "\"good\"\r\n",
                   "\"good\""};
  });
  for (const Item& item : items) corpus.run(item);
}

// --- Heartbeats ---

TEST(CorpusTest, HeartbeatLines) {
  const Message beat{"heartbeat\r\n", ""};
  const Message bad{"heartbeat\r\n", "unexpected heartbeat"};
  const Message text{"text\r\n", "\"text\""};
  const std::vector<Item> items = {
      {"expected", {beat, text, beat, beat, text}, "utf-8", "\r\n", true},
      {"unexpected", {bad, text, bad, bad, text}},
      {"without its terminator",
       {{"heartbeatheartbeat\r\n", "\"heartbeatheartbeat\""}},
       "utf-8",
       "\r\n",
       true},
      {"what looks like one",
       {{"xheartbeaty\r\n", "\"xheartbeaty\""},
        {"Heartbeat\r\n", "\"Heartbeat\""},
        {" heartbeat\r\n", "\" heartbeat\""},
        {"{\"cmd\":\"heartbeat\"}\r\n", "\"{\"cmd\":\"heartbeat\"}\""}},
       "utf-8",
       "\r\n",
       true},
      {"between two halves",
       {{"{\"a\"heartbeat\r\n", "\"{\"a\"heartbeat\""}, {":1}\r\n", "\":1}\""}},
       "utf-8",
       "\r\n",
       true},
      {"among wide text",
       {beat, {wide(u"heartbeat") + "\r\n", "\"heartbeat\""}, beat},
       "utf-16",
       "\r\n",
       true},
      {"unexpected among wide text", {bad}, "utf-32", "\r\n"},
      {"other terminator",
       {{"heartbeat;", ""}, {"heartbeat\r\n;", "\"heartbeat\r\n\""}},
       "utf-8",
       ";",
       true},
  };
  Corpus corpus(read_text, good_text);
  for (const Item& item : items) corpus.run(item);
}

// --- Structs ---

struct Packed {
  tcpip::LittleEndian<std::uint8_t> kind;
  tcpip::LittleEndian<double> value;
  tcpip::BigEndian<std::int16_t> count;
  tcpip::LittleEndian<bool> flag;
};
static_assert(sizeof(Packed) == 12);

// Any bytes are a struct; what is read has the same ones, bit for bit.
std::optional<std::string> read_packed(OneClientServer& server) {
  const std::string before(sizeof(Packed), 'x');
  Packed packed;
  std::memcpy(&packed, before.data(), sizeof packed);
  try {
    server.read_into(packed, tcpip::Wait::none());
  } catch (const tcpip::TimeoutError&) {
    EXPECT_EQ(std::memcmp(&packed, before.data(), sizeof packed), 0);
    return std::nullopt;
  }
  // Values of all kinds can be looked at.
  const bool flag = packed.flag.value();
  const double value = packed.value.value();
  std::string again(sizeof packed, '\0');
  packed.value = value;
  std::memcpy(again.data(), &packed, sizeof packed);
  return again + (flag ? "+" : "-");
}

TEST(CorpusTest, Structs) {
  const std::string nan = "\x01\1\2\3\4\5\6\xf8\x7f\x12\x34\1"s;
  const std::string odd_bool = "\xff\0\0\0\0\0\0\0\x80\0\1\xff"s;
  const std::string denormal = "\0\1\0\0\0\0\0\0\0\x80\0\0"s;
  const std::string infinite = "\r\n\0\0\0\0\0\xf0\xff\r\n\2"s;
  const std::vector<Item> items = {
      {"NaN with a payload", {{nan, nan + "+"}}},
      {"bool of 255, negative zero", {{odd_bool, odd_bool + "+"}}},
      {"denormal", {{denormal, denormal + "-"}}},
      {"three in a row",
       {{infinite, infinite + "+"}, {nan, nan + "+"}, {nan, nan + "+"}}},
  };
  Corpus corpus(read_packed, [](const Item&) {
    const std::string good(sizeof(Packed), '\1');
    return Message{good, good + "+"};
  });
  for (const Item& item : items) corpus.run(item);
}

}  // namespace
}  // namespace tcpip_tests
