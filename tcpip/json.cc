#include "tcpip/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tcpip/endpoint/text.h"

namespace tcpip {
inline namespace TCPIP_JSON_NAMESPACE {
namespace {

using nlohmann::json;

// How many bytes of a text an error shows on either side of the position.
constexpr std::size_t kExcerpt = 100;

// An excerpt fit for a log: printable ASCII, on one line, of bounded length.
std::string excerpt_of(std::string_view text, std::size_t position) {
  const std::size_t begin =
      position > kExcerpt ? std::min(position, text.size()) - kExcerpt : 0;
  const std::string_view shown = text.substr(begin, 2 * kExcerpt);
  std::string result = begin > 0 ? "..." : "";
  for (const char c : shown) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c >= ' ' && c <= '~') {
      result += c;
    } else {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (begin + shown.size() < text.size()) result += "...";
  return result;
}

// Why a text is not JSON, and where, if that is known.
struct Fault {
  std::optional<std::size_t> position;
  std::string reason;
};

// Counts the bytes that the parser has taken, since the parser gives the
// position of a few of its errors only.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, std::size_t* count) noexcept
      : at_(at), count_(count) {}
  reference operator*() const noexcept { return *at_; }
  CountingIterator& operator++() noexcept {
    ++at_;
    ++*count_;
    return *this;
  }
  CountingIterator operator++(int) noexcept {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const noexcept {
    return at_ == other.at_;
  }

 private:
  const char* at_;
  std::size_t* count_;
};

// A NaN, Infinity or -Infinity in a text, where a value may stand.
struct NotFinite {
  std::size_t position;
  double value;
};

// The parser does not know these three spellings. It is given a stand-in of the
// same length, so that positions stay right.
struct Spelling {
  std::string_view text;
  std::string_view stand_in;
  double value;
};
constexpr std::array<Spelling, 3> kSpellings = {
    {{"NaN", "0e0", std::numeric_limits<double>::quiet_NaN()},
     {"Infinity", "0.000000", std::numeric_limits<double>::infinity()},
     {"-Infinity", "-0.000000", -std::numeric_limits<double>::infinity()}}};

constexpr std::string_view kContinuesNumber = "0123456789eE";

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// Puts the stand-ins into `text` and returns their positions. Behind the first
// error in the text the result may be wrong; the parser does not get there.
std::vector<NotFinite> replace_not_finite(std::string& text) {
  std::vector<NotFinite> result;
  std::string open;   // the brackets that are open here
  char before = '[';  // the last byte that is not blank; first: expect a value
  const auto may_begin_value = [&] {
    if (before == ',') return open.ends_with('[');
    return before == '[' || before == ':';
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_blank(c)) continue;
    if (c == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] == '\\') ++i;
      }
    } else if (c == '[' || c == '{') {
      open += c;
    } else if (c == ']' || c == '}') {
      if (!open.empty()) open.pop_back();
    } else if ((c == 'N' || c == 'I' || c == '-') && may_begin_value()) {
      const std::string_view rest = std::string_view(text).substr(i);
      for (const Spelling& each : kSpellings) {
        if (!rest.starts_with(each.text)) continue;
        // Not before a digit: "Infinity5" would become 0.0000005, a number.
        const std::string_view after = rest.substr(each.text.size());
        if (!after.empty() && kContinuesNumber.find(after[0]) != after.npos) {
          continue;
        }
        text.replace(i, each.text.size(), each.stand_in);
        result.push_back({i, each.value});
        i += each.text.size() - 1;
        break;
      }
    }
    before = c;
  }
  return result;
}

// Finds what is wrong with a text that the parser has refused for its syntax.
// The parser tells where it stopped: somewhere behind the first byte that is
// wrong. The rules are those of Python's json.
class FaultFinder {
 public:
  FaultFinder(std::string_view text, bool allow_nan) noexcept
      : text_(text),
        allow_nan_(allow_nan),
        invalid_utf8_(internal::find_invalid_utf8(text).value_or(text.size())) {
  }

  // The index of the fault's first byte. Call it once.
  std::size_t find() {
    std::string open;  // the brackets that are open here
    for (;;) {
      // Here a value must begin.
      if (take('[')) {
        open += '[';
        if (!is_next(']')) continue;
      } else if (take('{')) {
        open += '{';
        if (!is_next('}')) {
          if (!take_key()) return at_;
          continue;
        }
      } else if (!take_scalar()) {
        return at_;
      }
      // Here a value has ended, or a container is empty.
      while (!open.empty() && take(open.back() == '[' ? ']' : '}')) {
        open.pop_back();
      }
      if (open.empty()) {
        skip_blanks();
        return at_;  // one value is enough
      }
      if (!take(',') || (open.back() == '{' && !take_key())) return at_;
    }
  }

 private:
  // Each take_...() moves on if the thing is there; if not, at_ is then where
  // the fault is.
  bool take(char c) {
    if (!is_next(c)) return false;
    ++at_;
    return true;
  }
  bool is_next(char c) {
    skip_blanks();
    return is_at(at_, c);
  }
  void skip_blanks() {
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
  }
  bool is_at(std::size_t i, char c) const {
    return i < text_.size() && text_[i] == c;
  }
  bool is_digit(std::size_t i) const {
    return i < text_.size() && text_[i] >= '0' && text_[i] <= '9';
  }

  bool take_key() { return is_next('"') && take_string() && take(':'); }

  bool take_scalar() {
    skip_blanks();
    if (is_at(at_, '"')) return take_string();
    for (const std::string_view word : {"null", "true", "false"}) {
      if (take_word(word)) return true;
    }
    if (allow_nan_) {
      for (const Spelling& each : kSpellings) {
        if (take_word(each.text)) return true;
      }
    }
    return take_number();
  }
  bool take_word(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }
  // Takes no more than what is a number: "1.x" is 1 and a fault behind it.
  bool take_number() {
    std::size_t end = is_at(at_, '-') ? at_ + 1 : at_;
    if (!is_digit(end)) return false;
    end = is_at(end, '0') ? end + 1 : end_of_digits(end);
    if (is_at(end, '.') && is_digit(end + 1)) end = end_of_digits(end + 1);
    if (is_at(end, 'e') || is_at(end, 'E')) {
      const bool sign = is_at(end + 1, '-') || is_at(end + 1, '+');
      const std::size_t digits = end + (sign ? 2 : 1);
      if (is_digit(digits)) end = end_of_digits(digits);
    }
    at_ = end;
    return true;
  }
  std::size_t end_of_digits(std::size_t i) const {
    while (is_digit(i)) ++i;
    return i;
  }

  bool take_string() {
    std::size_t i = at_ + 1;
    while (i < text_.size()) {
      const char c = text_[i];
      if (c == '"') {
        at_ = i + 1;
        return true;
      }
      if (i == invalid_utf8_ || (c >= '\0' && c < ' ')) return fault_at(i);
      if (c != '\\') {
        ++i;
      } else if (is_at(i + 1, 'u')) {
        const std::size_t end = end_of_escape(i);
        if (end == 0) return false;
        i = end;
      } else if (i + 1 == text_.size()) {
        break;
      } else if (kEscaped.find(text_[i + 1]) == kEscaped.npos) {
        return fault_at(i);
      } else {
        i += 2;
      }
    }
    return false;  // no end: the fault is the opening quote
  }
  bool fault_at(std::size_t i) {
    at_ = i;
    return false;
  }
  // The end of the \u escape at i, or of two that are one character. 0 if it
  // is wrong; at_ is then where the fault is.
  std::size_t end_of_escape(std::size_t i) {
    const auto unit = hex_unit(i + 2);
    if (unit && (*unit < 0xd800 || *unit > 0xdfff)) return i + 6;
    if (unit && *unit < 0xdc00 && is_at(i + 6, '\\') && is_at(i + 7, 'u')) {
      const auto low = hex_unit(i + 8);
      if (low && *low >= 0xdc00 && *low <= 0xdfff) return i + 12;
      if (!low) i += 6;  // the second of the two is wrong
    }
    at_ = i + 1;
    return 0;
  }
  // The four hexadecimal digits at i, which must not end the text: a string has
  // a quote behind them.
  std::optional<unsigned> hex_unit(std::size_t i) const {
    if (i + 4 >= text_.size()) return std::nullopt;
    unsigned value = 0;
    for (const char c : text_.substr(i, 4)) {
      const std::size_t digit = kHexDigits.find(c);
      if (digit == kHexDigits.npos) return std::nullopt;
      value =
          16 * value + static_cast<unsigned>(digit < 16 ? digit : digit - 6);
    }
    return value;
  }

  static constexpr std::string_view kEscaped = "\"\\/bfnrt";
  static constexpr std::string_view kHexDigits = "0123456789abcdefABCDEF";

  const std::string_view text_;
  const bool allow_nan_;
  const std::size_t invalid_utf8_;  // its index, or the text's length
  std::size_t at_ = 0;
};

// Builds a value from what the parser finds. Refuses numbers that the parser
// would round, and values that are nested too deep.
class Builder final : public nlohmann::json_sax<json> {
 public:
  // `not_finite` has the numbers that have a stand-in in `text`.
  Builder(std::string_view text, std::vector<NotFinite> not_finite,
          const std::size_t& taken) noexcept
      : text_(text), not_finite_(std::move(not_finite)), taken_(taken) {}

  json take() { return std::move(root_); }
  Fault fault() const { return fault_; }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& token) override {
    if (token.find_first_not_of("-0123456789") == std::string::npos) {
      return fail(start_of(token), "an integer of more than 64 bits");
    }
    if (next_not_finite_ < not_finite_.size() &&
        not_finite_[next_not_finite_].position == start_of(token)) {
      return add(not_finite_[next_not_finite_++].value);
    }
    return add(value);
  }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::move(value)); }
  bool start_object(std::size_t /*size*/) override {
    return open(json::object());
  }
  bool start_array(std::size_t /*size*/) override {
    return open(json::array());
  }
  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t /*position*/, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    if (error.id == 406) {
      return fail(start_of(token), "a number beyond the range of double");
    }
    fault_.reason = reason_in(error.what());  // and parse() finds the position
    return false;
  }

 private:
  bool add(json value) {
    place(std::move(value));
    return true;
  }
  json* place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    json& member = parent[key_];
    member = std::move(value);
    return &member;
  }
  bool open(json container) {
    if (open_.size() == kMaxJsonDepth) {
      return fail(taken_ - 1,
                  fmt::format("nested deeper than {}", open_.size()));
    }
    open_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  bool fail(std::size_t position, std::string reason) {
    fault_ = {position, std::move(reason)};
    return false;
  }
  // Where `token` begins, a number that the parser has just read. The parser
  // has taken one byte behind the number, if there is one.
  std::size_t start_of(const std::string& token) const {
    const std::size_t end =
        text_.substr(0, taken_).ends_with(token) ? taken_ : taken_ - 1;
    return end - std::min(end, token.size());
  }
  // "[json.exception...] parse error at line 1, column 2: syntax error while
  // parsing value - invalid literal; last read: '...'; expected ...": returns
  // the part from "syntax error" to "; last read". JsonDecodeError shows the
  // text itself, as a harmless excerpt.
  static std::string reason_in(std::string_view what) {
    if (const auto colon = what.find(": "); colon != what.npos) {
      what.remove_prefix(colon + 2);
    }
    return std::string(what.substr(0, what.find("; last read")));
  }

  const std::string_view text_;
  const std::vector<NotFinite> not_finite_;  // in the order of the text
  std::size_t next_not_finite_ = 0;
  const std::size_t& taken_;  // how many bytes the parser has taken
  json root_;
  std::vector<json*> open_;  // the arrays and objects that are not complete
  string_t key_;
  Fault fault_;
};

// Throws JsonDecodeError with `operation` and the peer of `connection`, which
// may be null.
json parse(std::string_view text, const JsonOptions& options,
           const char* operation, const ReadWriter* connection) {
  std::string replaced;
  std::vector<NotFinite> not_finite;
  if (options.allow_nan &&
      (text.find("NaN") != text.npos || text.find("Infinity") != text.npos)) {
    replaced = text;
    not_finite = replace_not_finite(replaced);
  }
  const std::string_view parsed = not_finite.empty() ? text : replaced;
  std::size_t taken = 0;
  Builder builder(parsed, std::move(not_finite), taken);
  // The parser does not refuse two faults: it skips a byte-order mark, and
  // takes a NUL for the end of the text.
  Fault fault{0, "a byte-order mark"};
  if (!text.starts_with("\xef\xbb\xbf")) {
    const bool ok = json::sax_parse(
        CountingIterator(parsed.data(), &taken),
        CountingIterator(parsed.data() + parsed.size(), &taken), &builder);
    const std::size_t nul = text.find('\0');
    if (ok && nul == text.npos) return builder.take();
    fault = ok ? Fault{nul, "a NUL"} : builder.fault();
  }
  const std::size_t position =
      fault.position ? *fault.position
                     : FaultFinder(text, options.allow_nan).find();
  throw JsonDecodeError(operation,
                        connection ? internal::subject_of(*connection) : "",
                        text, position, fault.reason);
}

[[noreturn]] void refuse(const char* operation, std::string_view what) {
  throw std::invalid_argument(fmt::format("{}: {}", operation, what));
}

// Throws if `data` cannot be written as JSON; `depth` containers are around it.
// Sets not_finite if it contains a NaN or an infinity.
void check(const json& data, const JsonOptions& options, std::size_t depth,
           const char* operation, bool& not_finite) {
  if (data.is_structured()) {
    if (depth == kMaxJsonDepth) {
      refuse(operation, fmt::format("nested deeper than {}", kMaxJsonDepth));
    }
    for (const json& each : data) {
      check(each, options, depth + 1, operation, not_finite);
    }
  } else if (data.is_number_float()) {
    if (std::isfinite(data.get<double>())) return;
    if (!options.allow_nan) {
      refuse(operation,
             "NaN and infinities are not JSON; see JsonOptions::allow_nan");
    }
    not_finite = true;
  } else if (data.is_binary() || data.is_discarded()) {
    refuse(operation, "a binary or discarded value is not JSON");
  }
}

std::string dump(const json& data) { return data.dump(-1, ' ', true); }

// As json::dump(), but writes NaN and infinities, where dump() writes null.
void append(const json& data, std::string& result) {
  if (data.is_array()) {
    char separator = '[';
    for (const json& each : data) {
      result += separator;
      append(each, result);
      separator = ',';
    }
    result += data.empty() ? "[]" : "]";
  } else if (data.is_object()) {
    char separator = '{';
    for (const auto& [key, each] : data.items()) {
      result += separator;
      result += dump(key);
      result += ':';
      append(each, result);
      separator = ',';
    }
    result += data.empty() ? "{}" : "}";
  } else if (data.is_number_float() && std::isnan(data.get<double>())) {
    result += "NaN";
  } else if (data.is_number_float() && std::isinf(data.get<double>())) {
    result += data.get<double>() > 0 ? "Infinity" : "-Infinity";
  } else {
    result += dump(data);
  }
}

std::string format(const json& data, const JsonOptions& options,
                   const char* operation) {
  bool not_finite = false;
  check(data, options, 0, operation, not_finite);
  try {
    if (!not_finite) return dump(data);
    std::string result;
    append(data, result);
    return result;
  } catch (const json::exception&) {
    refuse(operation, "a string is not valid UTF-8");
  }
}

}  // namespace

JsonDecodeError::JsonDecodeError(std::string_view operation,
                                 std::string_view peer, std::string_view text,
                                 std::size_t position, std::string_view reason)
    : Error(Errc::kJson, operation, peer,
            fmt::format("not JSON at byte {} of {}: {}: \"{}\"", position,
                        text.size(), reason, excerpt_of(text, position))),
      text_(std::make_shared<const std::string>(excerpt_of(text, position))),
      position_(position) {}

json read_json(const ReadWriter& connection, const Wait& wait) {
  return read_json(connection, JsonOptions(), wait);
}

json read_json(const ReadWriter& connection, const JsonOptions& options,
               const Wait& wait) {
  json data;
  std::string text;
  internal::read_text(connection, "read_json", wait, text, [&] {
    data = parse(text, options, "read_json", &connection);
  });
  return data;
}

std::optional<json> try_read_json(const ReadWriter& connection,
                                  const JsonOptions& options) {
  std::optional<json> data;
  std::string text;
  internal::try_read_text(connection, "try_read_json", text, [&] {
    data = parse(text, options, "try_read_json", &connection);
  });
  return data;
}

void write_json(const ReadWriter& connection, const json& data,
                const Wait& wait) {
  write_json(connection, data, JsonOptions(), wait);
}

void write_json(const ReadWriter& connection, const json& data,
                const JsonOptions& options, const Wait& wait) {
  internal::write_text(connection, "write_json",
                       format(data, options, "write_json"), wait);
}

bool try_write_json(const ReadWriter& connection, const json& data,
                    const JsonOptions& options) {
  return internal::try_write_text(connection, "try_write_json",
                                  format(data, options, "try_write_json"));
}

SendResult send_json(const ReadWriter& connection, const json& data,
                     const JsonOptions& options) {
  return internal::send_text(connection, "send_json",
                             format(data, options, "send_json"));
}

SendResult try_send_json(const ReadWriter& connection, const json& data,
                         const JsonOptions& options) {
  return internal::try_send_text(connection, "try_send_json",
                                 format(data, options, "try_send_json"));
}

json parse_json(std::string_view text, const JsonOptions& options) {
  return parse(text, options, "parse_json", nullptr);
}

std::string format_json(const json& data, const JsonOptions& options) {
  return format(data, options, "format_json");
}

}  // namespace TCPIP_JSON_NAMESPACE
}  // namespace tcpip
