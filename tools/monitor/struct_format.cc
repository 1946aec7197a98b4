#include "tools/monitor/struct_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "tools/monitor/counted.h"

namespace tcpip_monitor {
namespace {

// A frame is held in memory until it is complete.
constexpr std::size_t kMostBytes = 16 * 1024 * 1024;

struct Code {
  char code;
  std::size_t standard;   // size with < > ! =; 0: there is none
  std::size_t native;     // size with @
  std::size_t alignment;  // with @
};

constexpr Code kCodes[] = {
    {'x', 1, 1, 1},
    {'c', 1, 1, 1},
    {'b', 1, 1, 1},
    {'B', 1, 1, 1},
    {'?', 1, sizeof(bool), alignof(bool)},
    {'h', 2, sizeof(short), alignof(short)},
    {'H', 2, sizeof(short), alignof(short)},
    {'i', 4, sizeof(int), alignof(int)},
    {'I', 4, sizeof(int), alignof(int)},
    {'l', 4, sizeof(long), alignof(long)},
    {'L', 4, sizeof(long), alignof(long)},
    {'q', 8, sizeof(long long), alignof(long long)},
    {'Q', 8, sizeof(long long), alignof(long long)},
    {'n', 0, sizeof(std::ptrdiff_t), alignof(std::ptrdiff_t)},
    {'N', 0, sizeof(std::size_t), alignof(std::size_t)},
    {'e', 2, 2, 2},
    {'f', 4, sizeof(float), alignof(float)},
    {'d', 8, sizeof(double), alignof(double)},
    {'s', 1, 1, 1},
    {'p', 1, 1, 1},
    {'P', 0, sizeof(void*), alignof(void*)},
};

bool is_signed(char code) {
  return std::string_view("bhilqn").find(code) != std::string_view::npos;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::uint64_t number_of(std::string_view bytes, bool is_little) {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::size_t at = is_little ? bytes.size() - 1 - i : i;
    number = number << 8 | static_cast<unsigned char>(bytes[at]);
  }
  return number;
}

std::int64_t sign_extended(std::uint64_t number, std::size_t size) {
  const int unused = static_cast<int>(64 - 8 * size);
  return static_cast<std::int64_t>(number << unused) >> unused;
}

// IEEE 754's half precision.
float half_of(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1f;
  const auto fraction = static_cast<float>(bits & 0x3ff);
  float value = 0;
  if (exponent == 0x1f) {
    value = fraction == 0 ? std::numeric_limits<float>::infinity()
                          : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(fraction, -24);
  } else {
    value = std::ldexp(fraction + 1024, exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -value : value;
}

// As Python's repr(): with ".0" where it would look like an integer.
template <class Float>
std::string text_of(Float value) {
  if (std::isnan(value)) return "nan";
  std::string text = fmt::format("{}", value);
  if (std::isfinite(value) && text.find_first_of(".e") == text.npos) {
    text += ".0";
  }
  return text;
}

std::string text_of_bytes(std::string_view bytes) {
  std::string text = "b'";
  for (const char c : bytes) {
    if (c == '\'' || c == '\\') {
      text += '\\';
      text += c;
    } else if (c >= ' ' && c <= '~') {
      text += c;
    } else {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return text += '\'';
}

StructValue value_of(char code, std::string_view bytes, bool is_little) {
  switch (code) {
    case 'c':
    case 's':
      return {text_of_bytes(bytes)};
    case 'p': {  // a Pascal string: its length stands in the first byte
      if (bytes.empty()) return {"b''"};
      const std::size_t length = static_cast<unsigned char>(bytes[0]);
      return {text_of_bytes(bytes.substr(1, length))};
    }
    default:
      break;
  }
  const std::uint64_t number = number_of(bytes, is_little);
  switch (code) {
    case '?':
      return {number != 0 ? "True" : "False", number != 0 ? 1 : 0};
    case 'e':
      return {text_of(half_of(static_cast<std::uint16_t>(number)))};
    case 'f':
      return {
          text_of(std::bit_cast<float>(static_cast<std::uint32_t>(number)))};
    case 'd':
      return {text_of(std::bit_cast<double>(number))};
    default:
      break;
  }
  if (!is_signed(code)) return {std::to_string(number), number};
  const std::int64_t value = sign_extended(number, bytes.size());
  StructValue result{std::to_string(value)};
  if (value >= 0) result.number = static_cast<std::uint64_t>(value);
  return result;
}

}  // namespace

StructFormat::StructFormat(std::string_view format)
    : is_little_(std::endian::native == std::endian::little) {
  bool is_native = true;
  std::string_view rest = format;
  if (!rest.empty() && std::string_view("@=<>!").find(rest[0]) != rest.npos) {
    is_native = rest[0] == '@';
    if (rest[0] == '<') is_little_ = true;
    if (rest[0] == '>' || rest[0] == '!') is_little_ = false;
    rest.remove_prefix(1);
  }
  const auto fail = [&](const std::string& why) {
    throw std::invalid_argument(
        fmt::format("struct format \"{}\": {}", format, why));
  };
  while (!rest.empty()) {
    if (std::string_view(" \t\n").find(rest[0]) != rest.npos) {
      rest.remove_prefix(1);
      continue;
    }
    std::size_t repeat = 1;
    if (is_digit(rest[0])) {
      const char* end = rest.data() + rest.size();
      const auto parsed = std::from_chars(rest.data(), end, repeat);
      if (parsed.ec != std::errc() || repeat > kMostBytes) {
        fail("the count is too large");
      }
      rest.remove_prefix(static_cast<std::size_t>(parsed.ptr - rest.data()));
      if (rest.empty()) fail("a count without a format character");
    }
    const auto* const code =
        std::find_if(std::begin(kCodes), std::end(kCodes),
                     [&](const Code& c) { return c.code == rest[0]; });
    if (code == std::end(kCodes)) {
      fail(fmt::format("'{}' is no format character", rest[0]));
    }
    if (!is_native && code->standard == 0) {
      fail(fmt::format("'{}' needs the native byte order (@)", rest[0]));
    }
    rest.remove_prefix(1);
    const bool is_string = code->code == 's' || code->code == 'p';
    const std::size_t size = is_native ? code->native : code->standard;
    if (is_native) {
      size_ += (code->alignment - size_ % code->alignment) % code->alignment;
    }
    if (is_string) {
      items_.push_back({code->code, repeat, 1, size_});
      ++count_;
    } else if (code->code != 'x') {
      items_.push_back({code->code, size, repeat, size_});
      count_ += repeat;
    }
    size_ += size * repeat;
    if (size_ > kMostBytes) fail("the struct is too large");
  }
  if (size_ == 0) fail("the struct has no bytes");
}

std::vector<StructValue> StructFormat::unpack(std::string_view bytes) const {
  std::vector<StructValue> values;
  values.reserve(count_);
  for (const Item& item : items_) {
    for (std::size_t i = 0; i < item.repeat; ++i) {
      values.push_back(value_of(
          item.code, bytes.substr(item.offset + i * item.size, item.size),
          is_little_));
    }
  }
  return values;
}

StructSpec StructSpec::parse(std::string_view text) {
  std::optional<std::uint64_t> id;
  // An id is a number with "=" behind it; a format has a letter there.
  const std::size_t equals = text.find('=');
  if (equals != text.npos && equals > 0 && is_digit(text[0])) {
    std::string_view digits = text.substr(0, equals);
    int base = 10;
    if (digits.starts_with("0x")) {
      digits.remove_prefix(2);
      base = 16;
    }
    std::uint64_t number = 0;
    const char* end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, number, base);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      throw std::invalid_argument(
          fmt::format("struct \"{}\": the id is no number", text));
    }
    id = number;
    text.remove_prefix(equals + 1);
  }
  const std::size_t colon = std::min(text.find(':'), text.size());
  StructSpec spec{StructFormat(text.substr(0, colon)), id, {}};
  if (colon < text.size()) {
    for (std::string_view rest = text.substr(colon + 1);;) {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      spec.names.emplace_back(rest.substr(0, comma));
      if (comma == rest.size()) break;
      rest.remove_prefix(comma + 1);
    }
    if (spec.names.size() != spec.format.count()) {
      throw std::invalid_argument(fmt::format(
          "struct \"{}\": {} for {}", text, counted(spec.names.size(), "name"),
          counted(spec.format.count(), "value")));
    }
  }
  return spec;
}

std::string StructSpec::show(std::string_view bytes) const {
  const std::vector<StructValue> values = format.unpack(bytes);
  std::string text;
  if (names.empty()) {
    text = "(";
    for (const StructValue& value : values) {
      if (text.size() > 1) text += ", ";
      text += value.text;
    }
    // Python's way to tell a tuple of one from a number in parentheses.
    return text += values.size() == 1 ? ",)" : ")";
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    text += fmt::format("{}{}={}", i > 0 ? " " : "", names[i], values[i].text);
  }
  return text;
}

}  // namespace tcpip_monitor
