#include "tcpip/endpoint/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <span>
#include <stdexcept>
#include <system_error>
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

constexpr std::endian kOtherOrder = std::endian::native == std::endian::little
                                        ? std::endian::big
                                        : std::endian::little;

// U+FEFF in code units of two or four bytes, in this machine's byte order.
std::string byte_order_mark(std::size_t unit) {
  std::string mark(unit, '\0');
  mark[0] = '\xff';
  mark[1] = '\xfe';
  if (std::endian::native == std::endian::big) {
    std::reverse(mark.begin(), mark.end());
  }
  return mark;
}

// iconv's name for the encoding; `order` counts for utf-16 and utf-32.
const char* iconv_name(Encoding encoding, std::endian order) {
  const bool little = order == std::endian::little;
  switch (encoding) {
    case Encoding::kUtf16:
      return little ? "UTF-16LE" : "UTF-16BE";
    case Encoding::kUtf16Le:
      return "UTF-16LE";
    case Encoding::kUtf16Be:
      return "UTF-16BE";
    case Encoding::kUtf32:
      return little ? "UTF-32LE" : "UTF-32BE";
    case Encoding::kUtf32Le:
      return "UTF-32LE";
    case Encoding::kUtf32Be:
      return "UTF-32BE";
    case Encoding::kLatin1:
      return "ISO-8859-1";
    case Encoding::kAscii:  // its bytes are UTF-8
    case Encoding::kUtf8:
      break;
  }
  return "UTF-8";
}

// The index of the first byte above `most`.
std::optional<std::size_t> find_above(std::string_view text,
                                      unsigned char most) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (static_cast<unsigned char>(text[i]) > most) return i;
  }
  return std::nullopt;
}

std::optional<std::size_t> find_non_ascii(std::string_view text) noexcept {
  return find_above(text, 0x7f);
}

// The index of the first character of `text`, which is valid UTF-8, that the
// encoding lacks. iconv() cannot tell: glibc's silently drops some characters.
std::optional<std::size_t> find_unencodable(std::string_view text,
                                            Encoding encoding) noexcept {
  if (encoding == Encoding::kAscii) return find_non_ascii(text);
  // A byte above 0xc3 begins a character above U+00FF.
  if (encoding == Encoding::kLatin1) return find_above(text, 0xc3);
  return std::nullopt;
}

// True if `end` occurs in `text` + `end` before its place at the end.
bool ends_early(std::string_view text, std::string_view end) {
  if (text.find(end) != std::string_view::npos) return true;
  // It may also begin in the text and end in the terminator.
  for (std::size_t n = 1; n < end.size(); ++n) {
    if (text.ends_with(end.substr(0, n)) && end.starts_with(end.substr(n))) {
      return true;
    }
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
      ++i;
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

// --- Converter ---

Converter::Converter(const char* to, const char* from)
    : handle_(::iconv_open(to, from)) {
  if (handle_ == reinterpret_cast<::iconv_t>(-1)) {
    const std::error_code error(errno, std::generic_category());
    throw Error(error, "iconv_open", {},
                fmt::format("this system cannot convert {} to {}: {}", from, to,
                            error.message()));
  }
}

Converter::~Converter() { ::iconv_close(handle_); }

std::optional<std::size_t> Converter::convert(std::string_view in,
                                              std::string& out,
                                              std::size_t room) {
  const std::size_t start = out.size();
  out.resize(start + room);
  // iconv() does not write to its input, whatever its type says.
  char* from = const_cast<char*>(in.data());
  std::size_t from_left = in.size();
  char* to = out.data() + start;
  std::size_t to_left = room;
  std::size_t replaced = 0;
  {
    const MutexLock lock(mutex_);
    ::iconv(handle_, nullptr, nullptr, nullptr, nullptr);  // resets the state
    replaced = ::iconv(handle_, &from, &from_left, &to, &to_left);
  }
  out.resize(start + room - to_left);
  // Some iconvs replace a character that they lack, and count such characters.
  if (replaced == 0) return std::nullopt;
  return in.size() - from_left;
}

// --- TextCodec ---

TextCodec::TextCodec(std::string name) : name_(std::move(name)) {
  const std::optional<Encoding> found = find_encoding(name_);
  if (!found) {
    throw std::invalid_argument(fmt::format("unknown encoding \"{}\"", name_));
  }
  encoding_ = *found;
  unit_ = unit_of(encoding_);
  if (encoding_ == Encoding::kUtf8 || encoding_ == Encoding::kAscii) return;
  const char* const native = iconv_name(encoding_, std::endian::native);
  decoder_ = std::make_unique<Converter>("UTF-8", native);
  encoder_ = std::make_unique<Converter>(native, "UTF-8");
  if (encoding_ == Encoding::kUtf16 || encoding_ == Encoding::kUtf32) {
    mark_ = byte_order_mark(unit_);
    other_mark_.assign(mark_.rbegin(), mark_.rend());
    other_decoder_ = std::make_unique<Converter>(
        "UTF-8", iconv_name(encoding_, kOtherOrder));
  }
}

TextCodec::~TextCodec() = default;

std::optional<std::size_t> TextCodec::decode(std::string_view bytes,
                                             std::string& text) const {
  if (!decoder_) {
    const auto wrong = encoding_ == Encoding::kUtf8 ? find_invalid_utf8(bytes)
                                                    : find_non_ascii(bytes);
    if (!wrong) text += bytes;
    return wrong;
  }
  Converter* decoder = decoder_.get();
  std::size_t skipped = 0;
  if (!mark_.empty() && bytes.starts_with(mark_)) {
    skipped = unit_;
  } else if (!mark_.empty() && bytes.starts_with(other_mark_)) {
    skipped = unit_;
    decoder = other_decoder_.get();
  }
  bytes.remove_prefix(skipped);
  // One byte of Latin-1 becomes at most two; two bytes of UTF-16 at most three.
  const auto wrong = decoder->convert(bytes, text, 2 * bytes.size());
  if (!wrong) return std::nullopt;
  return skipped + *wrong;
}

std::string_view TextCodec::encode(std::string_view text, std::string& storage,
                                   const char* operation) const {
  if (find_invalid_utf8(text)) {
    throw std::invalid_argument(
        fmt::format("{}: the text is not valid UTF-8", operation));
  }
  std::optional<std::size_t> wrong = find_unencodable(text, encoding_);
  if (!wrong) {
    if (!encoder_) return text;
    storage = mark_;
    // One byte of UTF-8 becomes at most one code unit.
    wrong = encoder_->convert(text, storage, unit_ * text.size());
    if (!wrong) return storage;
  }
  throw std::invalid_argument(
      fmt::format("{}: the character at byte {} of the text is not in {}",
                  operation, *wrong, name_));
}

// --- TextFormat ---

TextFormat::TextFormat(std::shared_ptr<const TextCodec> codec,
                       std::string terminator)
    : codec_(std::move(codec)), terminator_(std::move(terminator)) {
  if (terminator_.empty()) {
    throw std::invalid_argument("the terminator must have at least one byte");
  }
}

bool TextFormat::is_heartbeat(std::string_view message) const noexcept {
  return message.size() == kHeartbeat.size() + terminator_.size() &&
         message.starts_with(kHeartbeat) && message.ends_with(terminator_);
}

std::string TextFormat::decode(std::string_view message, const char* operation,
                               const Address& peer) const {
  message.remove_suffix(terminator_.size());
  std::string text;
  if (const auto position = codec_->decode(message, text)) {
    throw DecodeError(operation, peer.to_string(), std::string(message),
                      *position);
  }
  return text;
}

std::string_view TextFormat::encode(std::string_view text, std::string& storage,
                                    const char* operation) const {
  const std::string_view bytes = codec_->encode(text, storage, operation);
  if (ends_early(bytes, terminator_)) {
    throw std::invalid_argument(
        fmt::format("{}: the text contains the terminator", operation));
  }
  return bytes;
}

}  // namespace tcpip::internal
