#include "tcpip/endpoint/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <utility>

#include "tcpip/constants.h"
#include "tcpip/error.h"

namespace tcpip::internal {
namespace {

struct Name {
  std::string_view name;
  Encoding encoding;
};

// Python's names for its codecs, and their aliases.
constexpr Name kNames[] = {
    {"utf_8", Encoding::kUtf8},        {"ascii", Encoding::kAscii},
    {"latin_1", Encoding::kLatin1},    {"utf_16", Encoding::kUtf16},
    {"utf_16_le", Encoding::kUtf16Le}, {"utf_16_be", Encoding::kUtf16Be},
    {"utf_32", Encoding::kUtf32},      {"utf_32_le", Encoding::kUtf32Le},
    {"utf_32_be", Encoding::kUtf32Be},
};
constexpr Name kAliases[] = {
    {"utf8", Encoding::kUtf8},
    {"utf", Encoding::kUtf8},
    {"u8", Encoding::kUtf8},
    {"utf8_ucs2", Encoding::kUtf8},
    {"utf8_ucs4", Encoding::kUtf8},
    {"cp65001", Encoding::kUtf8},
    {"us_ascii", Encoding::kAscii},
    {"us", Encoding::kAscii},
    {"646", Encoding::kAscii},
    {"ansi_x3.4_1968", Encoding::kAscii},
    {"ansi_x3_4_1968", Encoding::kAscii},
    {"ansi_x3.4_1986", Encoding::kAscii},
    {"cp367", Encoding::kAscii},
    {"csascii", Encoding::kAscii},
    {"ibm367", Encoding::kAscii},
    {"iso646_us", Encoding::kAscii},
    {"iso_646.irv_1991", Encoding::kAscii},
    {"iso_ir_6", Encoding::kAscii},
    {"latin1", Encoding::kLatin1},
    {"latin", Encoding::kLatin1},
    {"l1", Encoding::kLatin1},
    {"8859", Encoding::kLatin1},
    {"cp819", Encoding::kLatin1},
    {"csisolatin1", Encoding::kLatin1},
    {"ibm819", Encoding::kLatin1},
    {"iso8859", Encoding::kLatin1},
    {"iso8859_1", Encoding::kLatin1},
    {"iso_8859_1", Encoding::kLatin1},
    {"iso_8859_1_1987", Encoding::kLatin1},
    {"iso_ir_100", Encoding::kLatin1},
    {"utf16", Encoding::kUtf16},
    {"u16", Encoding::kUtf16},
    {"utf_16le", Encoding::kUtf16Le},
    {"unicodelittleunmarked", Encoding::kUtf16Le},
    {"utf_16be", Encoding::kUtf16Be},
    {"unicodebigunmarked", Encoding::kUtf16Be},
    {"utf32", Encoding::kUtf32},
    {"u32", Encoding::kUtf32},
    {"utf_32le", Encoding::kUtf32Le},
    {"utf_32be", Encoding::kUtf32Be},
};

std::optional<Encoding> look_up(std::span<const Name> names,
                                std::string_view wanted) {
  for (const Name& each : names) {
    if (each.name == wanted) return each.encoding;
  }
  return std::nullopt;
}

constexpr std::size_t unit_of(Encoding encoding) {
  switch (encoding) {
    case Encoding::kUtf16:
    case Encoding::kUtf16Le:
    case Encoding::kUtf16Be:
      return 2;
    case Encoding::kUtf32:
    case Encoding::kUtf32Le:
    case Encoding::kUtf32Be:
      return 4;
    default:
      return 1;
  }
}

constexpr std::endian order_of(Encoding encoding) {
  switch (encoding) {
    case Encoding::kUtf16Le:
    case Encoding::kUtf32Le:
      return std::endian::little;
    case Encoding::kUtf16Be:
    case Encoding::kUtf32Be:
      return std::endian::big;
    default:
      return std::endian::native;
  }
}

constexpr std::endian other(std::endian order) {
  return order == std::endian::little ? std::endian::big : std::endian::little;
}

constexpr char32_t kMark = 0xfeff;

char to_char(char32_t value) { return static_cast<char>(value & 0xff); }

// The code unit of `size` bytes at `from`.
char32_t load(const char* from, std::size_t size, std::endian order) {
  char32_t unit = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t k = order == std::endian::big ? i : size - 1 - i;
    unit = (unit << 8) | static_cast<unsigned char>(from[k]);
  }
  return unit;
}

void append_unit(char32_t unit, std::size_t size, std::endian order,
                 std::string& to) {
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t k = order == std::endian::big ? size - 1 - i : i;
    to += to_char(unit >> (8 * k));
  }
}

void append_utf8(char32_t c, std::string& to) {
  if (c < 0x80) {
    to += to_char(c);
    return;
  }
  if (c < 0x800) {
    to += to_char(0xc0 | (c >> 6));
  } else {
    if (c < 0x10000) {
      to += to_char(0xe0 | (c >> 12));
    } else {
      to += to_char(0xf0 | (c >> 18));
      to += to_char(0x80 | ((c >> 12) & 0x3f));
    }
    to += to_char(0x80 | ((c >> 6) & 0x3f));
  }
  to += to_char(0x80 | (c & 0x3f));
}

constexpr bool is_high_surrogate(char32_t c) {
  return c >= 0xd800 && c <= 0xdbff;
}
constexpr bool is_low_surrogate(char32_t c) {
  return c >= 0xdc00 && c <= 0xdfff;
}

// A character and how many bytes it has; no bytes if it is not valid.
struct Character {
  char32_t value = 0;
  std::size_t size = 0;
};

// The first character of `bytes`, which are not empty, in code units of that
// size. Code units of one byte are Latin-1.
Character first_in_units(std::string_view bytes, std::size_t unit,
                         std::endian order) {
  if (bytes.size() < unit) return {};
  const char32_t c = load(bytes.data(), unit, order);
  if (c > 0x10ffff || is_low_surrogate(c)) return {};
  if (!is_high_surrogate(c)) return {c, unit};
  if (unit != 2 || bytes.size() < 4) return {};
  const char32_t low = load(bytes.data() + 2, unit, order);
  if (!is_low_surrogate(low)) return {};
  return {0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00), 4};
}

// The first character of `text`, which is valid UTF-8 and not empty.
Character first_in_utf8(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1};
  const std::size_t size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  char32_t value = lead & (0xffu >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    value = (value << 6) | (static_cast<unsigned char>(text[i]) & 0x3fu);
  }
  return {value, size};
}

// The index of the first byte, at or behind `i`, that is not ASCII; or the end.
// Looks at many bytes at a time.
[[gnu::hot]] std::size_t skip_ascii(std::string_view text,
                                    std::size_t i) noexcept {
  constexpr std::size_t kWord = sizeof(std::uint64_t);
  const auto word = [text](std::size_t at) {
    std::uint64_t result = 0;
    std::memcpy(&result, text.data() + at, kWord);
    return result;
  };
  const auto is_ascii = [](std::uint64_t words) {
    return (words & 0x8080808080808080) == 0;
  };
  while (text.size() - i >= 4 * kWord &&
         is_ascii(word(i) | word(i + kWord) | word(i + 2 * kWord) |
                  word(i + 3 * kWord))) {
    i += 4 * kWord;
  }
  while (text.size() - i >= kWord && is_ascii(word(i))) i += kWord;
  // The last eight bytes overlap those before.
  if (text.size() - i < kWord && text.size() >= kWord &&
      is_ascii(word(text.size() - kWord))) {
    return text.size();
  }
  while (i < text.size() && static_cast<unsigned char>(text[i]) < 0x80) ++i;
  return i;
}

std::optional<std::size_t> find_non_ascii(std::string_view text) noexcept {
  const std::size_t i = skip_ascii(text, 0);
  return i < text.size() ? std::optional(i) : std::nullopt;
}

// True if what ends `end` behind its first n bytes also begins it: a text that
// ends with those n bytes, and `end` behind it, have `end` twice.
bool can_overlap(std::string_view end, std::size_t n) {
  return end.starts_with(end.substr(n));
}
bool can_overlap(std::string_view end) {
  for (std::size_t n = 1; n < end.size(); ++n) {
    if (can_overlap(end, n)) return true;
  }
  return false;
}

}  // namespace

std::optional<Encoding> find_encoding(std::string_view name) {
  // As Python's encodings.normalize_encoding(), in lower case.
  std::string normal;
  bool gap = false;
  for (const char c : name) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.') {
      if (gap && !normal.empty()) normal += '_';
      normal += upper ? static_cast<char>(c - 'A' + 'a') : c;
      gap = false;
    } else if (c <= '\0') {
      return std::nullopt;  // NUL, or not ASCII
    } else {
      gap = true;
    }
  }
  if (const auto alias = look_up(kAliases, normal)) return alias;
  std::string dotless = normal;
  std::replace(dotless.begin(), dotless.end(), '.', '_');
  if (const auto alias = look_up(kAliases, dotless)) return alias;
  return look_up(kNames, normal);
}

std::optional<std::size_t> find_invalid_utf8(std::string_view text) noexcept {
  const auto byte = [text](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  std::size_t i = 0;
  while (i < text.size()) {
    const unsigned lead = byte(i);
    if (lead < 0x80) {
      i = skip_ascii(text, i);
      continue;
    }
    // The range of the second byte excludes overlong forms, surrogates and
    // characters above U+10FFFF (RFC 3629, section 4).
    std::size_t length = 0;
    unsigned low = 0x80;
    unsigned high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
      length = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      length = 3;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      length = 4;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    } else {
      return i;
    }
    if (byte(i + 1) < low || byte(i + 1) > high) return i;
    for (std::size_t k = 2; k < length; ++k) {
      if (byte(i + k) < 0x80 || byte(i + k) > 0xbf) return i;
    }
    i += length;
  }
  return std::nullopt;
}

// --- TextCodec ---

TextCodec::TextCodec(std::string name) : name_(std::move(name)) {
  const std::optional<Encoding> found = find_encoding(name_);
  if (!found) {
    throw std::invalid_argument(fmt::format("unknown encoding \"{}\"", name_));
  }
  encoding_ = *found;
  unit_ = unit_of(encoding_);
  order_ = order_of(encoding_);
  if (encoding_ == Encoding::kUtf16 || encoding_ == Encoding::kUtf32) {
    append_unit(kMark, unit_, order_, mark_);
    append_unit(kMark, unit_, other(order_), other_mark_);
  }
}

inline bool TextCodec::is_plain(std::string_view bytes) const noexcept {
  return unit_ == 1 && skip_ascii(bytes, 0) == bytes.size();
}

std::optional<std::size_t> TextCodec::decode(std::string_view bytes,
                                             std::string& text) const {
  if (encoding_ == Encoding::kUtf8 || encoding_ == Encoding::kAscii) {
    const auto wrong = encoding_ == Encoding::kUtf8 ? find_invalid_utf8(bytes)
                                                    : find_non_ascii(bytes);
    if (!wrong) text += bytes;
    return wrong;
  }
  std::endian order = order_;
  std::size_t at = 0;
  if (!mark_.empty() && bytes.starts_with(mark_)) {
    at = unit_;
  } else if (!mark_.empty() && bytes.starts_with(other_mark_)) {
    at = unit_;
    order = other(order_);
  }
  text.reserve(text.size() + bytes.size() / unit_);
  while (at < bytes.size()) {
    if (unit_ == 1) {
      const std::size_t end = skip_ascii(bytes, at);
      text += bytes.substr(at, end - at);
      at = end;
      if (at == bytes.size()) break;
    }
    const Character c = first_in_units(bytes.substr(at), unit_, order);
    if (c.size == 0) return at;
    append_utf8(c.value, text);
    at += c.size;
  }
  return std::nullopt;
}

[[gnu::hot]] std::string_view TextCodec::encode(std::string_view text,
                                                std::string& storage,
                                                const char* operation) const {
  if (is_plain(text)) [[likely]] {
    return text;
  }
  if (find_invalid_utf8(text)) {
    throw std::invalid_argument(
        fmt::format("{}: the text is not valid UTF-8", operation));
  }
  const auto refuse = [&](std::size_t at) {
    throw std::invalid_argument(
        fmt::format("{}: the character at byte {} of the text is not in {}",
                    operation, at, name_));
  };
  if (encoding_ == Encoding::kUtf8) return text;
  if (encoding_ == Encoding::kAscii) {
    if (const auto wrong = find_non_ascii(text)) refuse(*wrong);
    return text;
  }
  storage = mark_;
  // A byte of UTF-8 becomes at most one code unit.
  storage.reserve(mark_.size() + unit_ * text.size());
  for (std::size_t at = 0; at < text.size();) {
    if (unit_ == 1) {
      const std::size_t end = skip_ascii(text, at);
      storage += text.substr(at, end - at);
      at = end;
      if (at == text.size()) break;
    }
    const Character c = first_in_utf8(text.substr(at));
    if (unit_ == 1 && c.value > 0xff) refuse(at);
    if (unit_ == 2 && c.value > 0xffff) {
      const char32_t rest = c.value - 0x10000;
      append_unit(0xd800 + (rest >> 10), unit_, order_, storage);
      append_unit(0xdc00 + (rest & 0x3ff), unit_, order_, storage);
    } else {
      append_unit(c.value, unit_, order_, storage);
    }
    at += c.size;
  }
  return storage;
}

// --- TextFormat ---

TextFormat::TextFormat(std::shared_ptr<const TextCodec> codec,
                       std::string terminator)
    : codec_(std::move(codec)),
      terminator_(std::move(terminator)),
      can_overlap_(can_overlap(terminator_)) {
  if (terminator_.empty()) {
    throw std::invalid_argument("the terminator must have at least one byte");
  }
}

[[gnu::hot]] bool TextFormat::is_heartbeat(
    std::string_view message) const noexcept {
  return message.size() == kHeartbeat.size() + terminator_.size() &&
         message.starts_with(kHeartbeat) && message.ends_with(terminator_);
}

// True if the terminator occurs in `bytes` and the terminator before its place
// at the end.
inline bool TextFormat::ends_early(std::string_view bytes) const noexcept {
  if (bytes.find(terminator_) != std::string_view::npos) return true;
  if (!can_overlap_) return false;
  const std::string_view end = terminator_;
  for (std::size_t n = 1; n < end.size(); ++n) {
    if (bytes.ends_with(end.substr(0, n)) && can_overlap(end, n)) return true;
  }
  return false;
}

void TextFormat::check_heartbeats() const {
  if (ends_early(kHeartbeat)) {
    throw std::invalid_argument(fmt::format(
        "the terminator occurs in \"{}\", which heartbeats consist of",
        kHeartbeat));
  }
}

[[gnu::hot]] void TextFormat::decode(std::string_view message,
                                     std::string& text, const char* operation,
                                     const Address& peer) const {
  message.remove_suffix(terminator_.size());
  if (codec_->is_plain(message)) [[likely]] {
    text = std::string(message);
    return;
  }
  text.clear();
  if (const auto position = codec_->decode(message, text)) {
    throw DecodeError(operation, peer.to_string(), std::string(message),
                      *position);
  }
}

[[gnu::hot]] std::string_view TextFormat::encode(std::string_view text,
                                                 std::string& storage,
                                                 const char* operation) const {
  const std::string_view bytes = codec_->encode(text, storage, operation);
  if (ends_early(bytes)) {
    throw std::invalid_argument(
        fmt::format("{}: the text contains the terminator", operation));
  }
  return bytes;
}

}  // namespace tcpip::internal
