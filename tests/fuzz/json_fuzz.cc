// Fuzzes JSON: any text is read as what nlohmann-json makes of it, but for the
// texts that json.h refuses, or it is refused with a position within the text.
// What was read is written and read again. The CPU time is bounded.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/json.h"
#include "tcpip/testing/wait_until.h"
#include "tests/fuzz/cpu_time.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/servers.h"

namespace tcpip_fuzz {
namespace {

using nlohmann::json;
using tcpip_testing::kPatience;

// What the parser of nlohmann-json tells of a text, without making a value.
struct Probe final : nlohmann::json_sax<json> {
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t& token) override {
    if (token.find_first_of(".eE") == token.npos) has_long_integer = true;
    return true;
  }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return open(); }
  bool start_array(std::size_t) override { return open(); }
  bool key(string_t&) override { return true; }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception&) override {
    return false;
  }
  bool open() {
    deepest = std::max(deepest, ++depth);
    return true;
  }
  bool close() {
    --depth;
    return true;
  }

  bool has_long_integer = false;
  std::size_t depth = 0;
  std::size_t deepest = 0;
};

// The value, if strict JSON of our kind.
std::optional<json> naive_parse(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) return std::nullopt;
  if (text.find('\0') != text.npos) return std::nullopt;
  Probe probe;
  if (!json::sax_parse(text.begin(), text.end(), &probe)) return std::nullopt;
  if (probe.has_long_integer || probe.deepest > tcpip::kMaxJsonDepth) {
    return std::nullopt;
  }
  return json::parse(text.begin(), text.end());
}

// Python's NaN, Infinity and -Infinity as numbers that no text is likely to
// have, outside of strings; std::nullopt if one of them stands where the number
// would become part of another token.
constexpr std::string_view kNan = "1.2345678901e+101";
constexpr std::string_view kInfinity = "1.2345678901e+102";
constexpr std::string_view kMinusInfinity = "-1.2345678901e+102";

std::optional<std::string> with_numbers(std::string_view text) {
  std::string result;
  const auto is_apart = [](char c) {
    return std::string_view(" \t\r\n[]{}:,").find(c) != std::string_view::npos;
  };
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '"') {
      const std::size_t begin = i;
      for (++i; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] == '\\') ++i;
      }
      i = std::min(i + 1, text.size());
      result += text.substr(begin, i - begin);
      continue;
    }
    std::string_view word;
    std::string_view number;
    if (text.substr(i).starts_with("NaN")) {
      word = "NaN";
      number = kNan;
    } else if (text.substr(i).starts_with("Infinity")) {
      word = "Infinity";
      number = kInfinity;
    } else if (text.substr(i).starts_with("-Infinity")) {
      word = "-Infinity";
      number = kMinusInfinity;
    } else {
      result += text[i++];
      continue;
    }
    const std::size_t end = i + word.size();
    if ((i > 0 && !is_apart(text[i - 1])) ||
        (end < text.size() && !is_apart(text[end]))) {
      return std::nullopt;
    }
    result += number;
    i = end;
  }
  return result;
}

// Equal, and NaN and the infinities are those numbers.
bool is_same(const json& ours, const json& theirs) {
  if (ours.type() != theirs.type()) return false;
  if (ours.is_array() || ours.is_object()) {
    if (ours.size() != theirs.size()) return false;
    for (const auto& [key, value] : theirs.items()) {
      if (ours.is_object() && !ours.contains(key)) return false;
    }
    auto other = theirs.begin();
    for (const json& each : ours) {
      if (!is_same(each, *other++)) return false;
    }
    return true;
  }
  if (ours.is_number_float()) {
    const double number = ours.get<double>();
    const std::string text = json(number).dump();
    if (text != "null") return ours == theirs;
    const double wanted = theirs.get<double>();
    if (number != number) return wanted == 1.2345678901e+101;
    return wanted == (number > 0 ? 1.2345678901e+102 : -1.2345678901e+102);
  }
  return ours == theirs;
}

void check_error(const tcpip::JsonDecodeError& e, std::string_view text) {
  require(e.position() <= text.size(), "the position is beyond the text");
  // 200 bytes, each as \xNN at most, and "..." at both ends.
  require(e.text().size() <= 4 * 200 + 6, "the excerpt is too long");
  const std::string_view what = e.what();
  require(std::all_of(what.begin(), what.end(),
                      [](char c) { return c >= ' ' && c <= '~'; }),
          "what() is not printable");
}

void check_written(const json& value, const tcpip::JsonOptions& options) {
  const std::string written = tcpip::format_json(value, options);
  require(std::all_of(written.begin(), written.end(),
                      [](char c) { return c >= ' ' && c <= '~'; }),
          "what is written is not printable");
  const json again = tcpip::parse_json(written, options);
  require_same(tcpip::format_json(again, options), written,
               "what is written, read and written again");
}

void check_strict(std::string_view text) {
  const std::optional<json> wanted = naive_parse(text);
  try {
    const json value = tcpip::parse_json(text);
    require(wanted.has_value(), "a text was read that is not JSON");
    require(value == *wanted, "a text was read as another value");
    check_written(value, {});
  } catch (const tcpip::JsonDecodeError& e) {
    require(!wanted.has_value(), "JSON was refused");
    check_error(e, text);
  }
}

void check_nan(std::string_view text) {
  const tcpip::JsonOptions options{.allow_nan = true};
  const std::optional<std::string> numbers = with_numbers(text);
  std::optional<json> wanted;
  if (numbers) wanted = naive_parse(*numbers);
  try {
    const json value = tcpip::parse_json(text, options);
    require(wanted.has_value(), "with NaN: a text was read that is not JSON");
    require(is_same(value, *wanted), "with NaN: another value");
    check_written(value, options);
  } catch (const tcpip::JsonDecodeError& e) {
    require(!wanted.has_value(), "with NaN: JSON was refused");
    check_error(e, text);
  }
}

// Over a connection: each message alone is consumed, whatever it is.
void check_messages(std::string_view text) {
  Served served(server_for("json", {.host = "127.0.0.1"}));
  tcpip::Connection& connection = served.connection();
  served.send(text);
  served.send("\r\n[\"last\"]\r\n");
  for (bool more = true; more;) {
    const std::string_view message = text.substr(0, text.find("\r\n"));
    more = message.size() < text.size();
    if (more) text.remove_prefix(message.size() + 2);
    const std::optional<json> wanted = naive_parse(message);
    try {
      const json value = tcpip::read_json(connection, kPatience);
      require(wanted && *wanted == value, "a message is another value");
    } catch (const tcpip::JsonDecodeError& e) {
      require(!wanted, "a message was refused");
      check_error(e, message);
    } catch (const tcpip::DecodeError&) {
      require(!wanted, "a message was not text");
    } catch (const tcpip::UnexpectedHeartbeatError&) {
      require(message == "heartbeat", "this is no heartbeat");
    }
  }
  require(tcpip::read_json(connection, kPatience) == json{"last"},
          "the last message");
  require(connection.connected(), "the connection has ended");
}

}  // namespace

void fuzz_one(std::string_view input) {
  // 0: as it is; 1: over a connection; else: its beginning repeated, for depth.
  Input bytes(input);
  const std::size_t how = bytes.byte();
  std::string text;
  if (how % 16 == 2) {
    const std::size_t times = bytes.below(20'000);
    const std::string part(bytes.piece(1 + bytes.below(8)));
    while (text.size() < times && !part.empty()) text += part;
  }
  text += bytes.rest();
  if (how % 16 == 1 && text.size() < 60'000) return check_messages(text);
  for (int tries = 0;; ++tries) {
    CpuTime cpu;
    cpu.of([&] {
      check_strict(text);
      check_nan(text);
    });
    const auto allowed =
        std::chrono::milliseconds(20) + time_for_bytes(text.size() * 3000);
    if (cpu.spent() <= allowed) return;
    require(tries < 4, "the parser takes too long");
  }
}

}  // namespace tcpip_fuzz
