// Fuzzes text messages: every encoding against a decoder and an encoder that
// are written after the standards alone, and streams of messages over a
// connection. A message that is not text, or too long, is reported, and the
// next one is right.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/endpoint/text.h"
#include "tcpip/error.h"
#include "tcpip/testing/wait_until.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/servers.h"

namespace tcpip_fuzz {
namespace {

using tcpip::internal::TextCodec;
using tcpip::internal::TextFormat;
using tcpip_testing::kPatience;
using Characters = std::vector<char32_t>;

struct Encoding {
  const char* name;
  std::size_t unit;
  bool big = false;
  bool marked = false;
  char32_t most = 0x10ffff;
};
constexpr std::array<Encoding, 9> kEncodings = {
    {{"utf-8", 1},
     {"ascii", 1, false, false, 0x7f},
     {"latin-1", 1, false, false, 0xff},
     {"utf-16", 2, false, true},
     {"utf-16-le", 2},
     {"utf-16-be", 2, true},
     {"utf-32", 4, false, true},
     {"utf-32-le", 4},
     {"utf-32-be", 4, true}}};

constexpr std::array<std::string_view, 7> kTerminators = {
    "\r\n", "\n", {"\0", 1}, "abab", ";", {"\r\0\n\0", 4}, "\xff"};

bool is_utf8(const Encoding& encoding) {
  return std::string_view(encoding.name) == "utf-8";
}
bool is_surrogate(char32_t c) { return c >= 0xd800 && c < 0xe000; }

// --- The model ---

void put(std::string& to, char32_t value, std::size_t size, bool big) {
  for (std::size_t i = 0; i < size; ++i) {
    to += static_cast<char>(value >> 8 * (big ? size - 1 - i : i));
  }
}

std::string utf8_of(char32_t c) {
  std::string result;
  const auto six = [&](int shift) {
    result += static_cast<char>(0x80 + (c >> shift) % 64);
  };
  if (c < 0x80) {
    result += static_cast<char>(c);
  } else if (c < 0x800) {
    result += static_cast<char>(0xc0 + c / 64);
    six(0);
  } else if (c < 0x10000) {
    result += static_cast<char>(0xe0 + c / 4096);
    six(6);
    six(0);
  } else {
    result += static_cast<char>(0xf0 + c / 262144);
    six(12);
    six(6);
    six(0);
  }
  return result;
}

std::string utf8_of(const Characters& text) {
  std::string result;
  for (const char32_t c : text) result += utf8_of(c);
  return result;
}

// The bytes of a text; nothing if a character is not in the encoding.
std::optional<std::string> naive_encode(const Encoding& encoding,
                                        const Characters& text) {
  if (is_utf8(encoding)) return utf8_of(text);
  std::string result;
  if (encoding.marked) put(result, 0xfeff, encoding.unit, false);
  for (const char32_t c : text) {
    if (c > encoding.most) return std::nullopt;
    if (encoding.unit == 2 && c > 0xffff) {
      put(result, 0xd800 + (c - 0x10000) / 1024, 2, encoding.big);
      put(result, 0xdc00 + (c - 0x10000) % 1024, 2, encoding.big);
    } else {
      put(result, c, encoding.unit, encoding.big);
    }
  }
  return result;
}

struct Decoded {
  Characters text;
  std::optional<std::size_t> wrong;  // the index of the first wrong byte
};

// One character is right if its own encoding is what stands there.
Decoded naive_decode_utf8(std::string_view bytes) {
  Decoded result;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto lead = static_cast<unsigned char>(bytes[at]);
    const std::size_t size = lead < 0x80   ? 1
                             : lead < 0xe0 ? 2
                             : lead < 0xf0 ? 3
                                           : 4;
    char32_t c = size == 1 ? lead
                           : lead % (size == 2   ? 32
                                     : size == 3 ? 16
                                                 : 8);
    for (std::size_t i = 1; i < size && at + i < bytes.size(); ++i) {
      c = c * 64 + static_cast<unsigned char>(bytes[at + i]) % 64;
    }
    if (c > 0x10ffff || is_surrogate(c) ||
        bytes.substr(at, size) != utf8_of(c)) {
      result.wrong = at;
      return result;
    }
    result.text.push_back(c);
    at += size;
  }
  return result;
}

Decoded naive_decode(const Encoding& encoding, std::string_view bytes) {
  if (is_utf8(encoding)) return naive_decode_utf8(bytes);
  const std::size_t unit = encoding.unit;
  bool big = encoding.big;
  const auto unit_at = [&](std::size_t at) {
    char32_t value = 0;
    for (std::size_t i = 0; i < unit; ++i) {
      const std::size_t k = at + (big ? i : unit - 1 - i);
      value = value * 256 + static_cast<unsigned char>(bytes[k]);
    }
    return value;
  };
  Decoded result;
  std::size_t at = 0;
  if (encoding.marked && bytes.size() >= unit) {
    if (unit_at(0) == 0xfeff) {
      at = unit;
    } else {
      big = true;
      if (unit_at(0) == 0xfeff) {
        at = unit;
      } else {
        big = false;
      }
    }
  }
  while (at < bytes.size()) {
    result.wrong = at;
    if (at + unit > bytes.size()) return result;
    char32_t c = unit_at(at);
    std::size_t size = unit;
    if (unit == 2 && c >= 0xd800 && c < 0xdc00) {
      if (at + 4 > bytes.size()) return result;
      const char32_t low = unit_at(at + 2);
      if (low < 0xdc00 || low > 0xdfff) return result;
      c = 0x10000 + (c - 0xd800) * 1024 + (low - 0xdc00);
      size = 4;
    } else if (is_surrogate(c)) {
      return result;
    }
    if (c > encoding.most) return result;
    result.text.push_back(c);
    at += size;
  }
  result.wrong.reset();
  return result;
}

// --- The codec alone ---

void check_decode(const Encoding& encoding, std::string_view bytes) {
  const TextCodec codec(encoding.name);
  std::string text = "before";
  const std::optional<std::size_t> wrong = codec.decode(bytes, text);
  const Decoded wanted = naive_decode(encoding, bytes);
  require(wrong == wanted.wrong, "the first wrong byte");
  if (wrong) return;
  require_same(text, "before" + utf8_of(wanted.text), "decode()");
  // A text that was decoded can be encoded, and means the same again.
  std::string storage;
  const std::string again(codec.encode(text.substr(6), storage, "encode"));
  require(naive_encode(encoding, wanted.text) == again, "encode()");
  std::string twice;
  // U+FEFF at the front of a text becomes a mark without another one.
  require(!codec.decode(again, twice), "decode() of what encode() made");
  require_same(twice, text.substr(6), "decode() of what encode() made");
}

void check_encode(const Encoding& encoding, std::string_view text,
                  std::string_view terminator) {
  const Decoded characters = naive_decode_utf8(text);
  std::optional<std::string> wanted;
  if (!characters.wrong) wanted = naive_encode(encoding, characters.text);
  // A peer must find the terminator at the end of the message, not before.
  if (wanted &&
      (*wanted + std::string(terminator)).find(terminator) != wanted->size()) {
    wanted.reset();
  }
  const TextFormat format(std::make_shared<TextCodec>(encoding.name),
                          std::string(terminator));
  std::string storage;
  try {
    const std::string_view bytes = format.encode(text, storage, "encode");
    require(wanted.has_value(), "a text was encoded that must be refused");
    require_same(bytes, *wanted, "a text encoded");
  } catch (const std::invalid_argument&) {
    require(!wanted.has_value(), "a text was refused");
  }
}

// --- Messages over a connection ---

constexpr std::size_t kLimit = 64;

class Messages {
 public:
  Messages(std::size_t encoding, std::size_t terminator)
      : encoding_(kEncodings[encoding]),
        terminator_(kTerminators[terminator]),
        served_(server_for("text " + std::to_string(encoding) + " " +
                               std::to_string(terminator),
                           {.host = "127.0.0.1",
                            .encoding = encoding_.name,
                            .terminator = std::string(terminator_),
                            .limit = kLimit})) {}

  void run(Input& input) {
    while (!input.empty()) {
      const std::string_view piece = input.piece(1 + input.below(100));
      served_.send(piece);
      unread_ += piece;
      read_all_messages();
      // What is there is no message yet, whether it has arrived or not.
      if (unread_.size() <= kLimit) {
        require(!served_.connection().try_read_str(), "a text out of nothing");
      }
    }
    served_.send(terminator_);
    unread_ += terminator_;
    read_all_messages();
    served_.half_close();
    finish();
  }

 private:
  void read_all_messages() {
    for (;;) {
      const std::size_t end = unread_.find(terminator_);
      if (end == unread_.npos) return;
      read_message(unread_.substr(0, end));
      unread_.erase(0, end + terminator_.size());
    }
  }

  void read_message(const std::string& message) {
    tcpip::Connection& connection = served_.connection();
    const Decoded wanted = naive_decode(encoding_, message);
    try {
      const std::string text = connection.read_str(kPatience);
      require(message.size() <= kLimit, "a message beyond the limit");
      require(!wanted.wrong, "bytes that are not text");
      require(message != "heartbeat", "a heartbeat");
      require_same(text, utf8_of(wanted.text), "a message");
    } catch (const tcpip::DecodeError& e) {
      require(wanted.wrong.has_value(), "a text was refused");
    } catch (const tcpip::UnexpectedHeartbeatError&) {
      require_same(message, "heartbeat", "a heartbeat");
    } catch (const tcpip::LimitOverrunError&) {
      require(message.size() > kLimit, "a message within the limit");
      require_same_size(connection.discard_until(terminator_, kPatience),
                        message.size() + terminator_.size(), "discard_until()");
    }
  }

  // The rest, which has no terminator, is in the error.
  void finish() {
    try {
      served_.connection().read_str(kPatience);
      throw Finding{"a text out of nothing at the end"};
    } catch (const tcpip::LimitOverrunError&) {
      require(unread_.size() > kLimit, "the rest is within the limit");
    } catch (const tcpip::IncompleteReadError& e) {
      require_same(e.partial(), unread_, "the rest");
    } catch (const tcpip::ConnectionError&) {
      require(unread_.empty(), "the rest is lost");
    }
  }

  const Encoding& encoding_;
  const std::string_view terminator_;
  Served served_;
  std::string unread_;
};

}  // namespace

void fuzz_one(std::string_view bytes) {
  Input input(bytes);
  const std::size_t how = input.byte();
  const std::size_t encoding = input.below(kEncodings.size());
  const std::size_t terminator = input.below(kTerminators.size());
  if (how % 8 == 1) {
    Messages(encoding, terminator).run(input);
  } else if (how % 2 == 0) {
    check_decode(kEncodings[encoding], input.rest());
  } else {
    check_encode(kEncodings[encoding], input.rest(), kTerminators[terminator]);
  }
}

}  // namespace tcpip_fuzz
