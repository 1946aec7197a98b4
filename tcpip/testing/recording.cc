#include "tcpip/testing/recording.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace tcpip_testing {
namespace {

using std::chrono::microseconds;
using Piece = Recording::Piece;

constexpr std::string_view kFirstLine = "tcpip recording 1";
constexpr std::string_view kSecondLine =
    "# seconds, > from the client or < from the server, bytes";
constexpr std::string_view kDigits = "0123456789abcdef";
constexpr std::string_view kEnd = "end";
constexpr std::int64_t kMicrosecondsInSecond = 1'000'000;
// Of a time in a file: some 30 years.
constexpr std::size_t kMostDigits = 9;

// What the pieces before one require of it.
class Order {
 public:
  // Why `piece` cannot be the next one, or "".
  std::string add(const Piece& piece) {
    if (piece.time < time_) {
      return time_ == microseconds(0) ? "the time is negative"
                                      : "the time is less than the one before";
    }
    bool& ended = ended_[static_cast<std::size_t>(piece.direction)];
    if (ended) return "that side has ended before";
    ended = piece.bytes.empty();
    time_ = piece.time;
    return {};
  }

 private:
  microseconds time_{0};
  std::array<bool, 2> ended_{};
};

std::string text_of(microseconds time) {
  std::string fraction = std::to_string(time.count() % kMicrosecondsInSecond);
  fraction.insert(0, 6 - fraction.size(), '0');
  return std::to_string(time.count() / kMicrosecondsInSecond) + "." + fraction;
}

// A text that is not as it must be; parse() adds which line.
struct Malformed {
  std::string why;
};

// One line, taken from the front.
class Line {
 public:
  explicit Line(std::string_view text) : rest_(text) {}

  void skip_blanks() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t')) {
      rest_.remove_prefix(1);
    }
  }
  bool is_empty() const { return rest_.empty(); }
  bool is_comment() const { return rest_.starts_with('#'); }

  microseconds take_time() {
    const std::string_view seconds = take_digits();
    const bool has_point = !seconds.empty() && take('.');
    std::string fraction(has_point ? take_digits() : std::string_view());
    if (seconds.empty() || (has_point && fraction.empty())) {
      throw Malformed{"expected a time in seconds, not " + shown()};
    }
    if (seconds.size() > kMostDigits || fraction.size() > 6) {
      throw Malformed{
          "a time has at most 9 digits before the point and 6 behind it"};
    }
    fraction.append(6 - fraction.size(), '0');
    return microseconds(std::stoll(std::string(seconds)) *
                            kMicrosecondsInSecond +
                        std::stoll(fraction));
  }

  Direction take_direction() {
    if (take('>')) return Direction::kToServer;
    if (take('<')) return Direction::kToClient;
    throw Malformed{"expected > or <, not " + shown()};
  }

  // Empty for the end.
  std::string take_bytes() {
    if (rest_.starts_with(kEnd)) {
      rest_.remove_prefix(kEnd.size());
      return {};
    }
    if (!take('"')) {
      throw Malformed{"expected \"bytes\" or end, not " + shown()};
    }
    std::string bytes;
    while (!take('"')) {
      if (rest_.empty()) throw Malformed{"the bytes have no closing \""};
      bytes += take_byte();
    }
    if (bytes.empty()) throw Malformed{"there are no bytes between the quotes"};
    return bytes;
  }

  void expect_end() {
    skip_blanks();
    if (!rest_.empty()) {
      throw Malformed{"expected the end of the line, not " + shown()};
    }
  }

 private:
  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  std::string_view take_digits() {
    const std::size_t count =
        std::min(rest_.find_first_not_of("0123456789"), rest_.size());
    const std::string_view digits = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return digits;
  }

  char take_byte() {
    const char c = rest_.front();
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      throw Malformed{"a control character must be written as \\x" + hex_of(c)};
    }
    rest_.remove_prefix(1);
    if (c != '\\') return c;
    if (take('r')) return '\r';
    if (take('n')) return '\n';
    if (take('t')) return '\t';
    if (take('\\')) return '\\';
    if (take('"')) return '"';
    if (rest_.size() >= 3 && rest_.front() == 'x') {
      const std::size_t high = digit_at(1);
      const std::size_t low = digit_at(2);
      if (high < 16 && low < 16) {
        rest_.remove_prefix(3);
        return static_cast<char>(high << 4 | low);
      }
    }
    throw Malformed{"unknown escape \\" + escaped(rest_.substr(0, 3)) +
                    " (known are \\r \\n \\t \\\\ \\\" \\xb0)"};
  }

  static std::string hex_of(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return {kDigits[byte >> 4], kDigits[byte & 15]};
  }

  // 16 or more if it is no hexadecimal digit.
  std::size_t digit_at(std::size_t index) const {
    const char c = rest_[index];
    return kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a')
                                             : c);
  }

  std::string shown() const {
    if (rest_.empty()) return "the end of the line";
    constexpr std::size_t kShown = 20;
    const bool is_long = rest_.size() > kShown;
    return "\"" + escaped(rest_.substr(0, kShown)) + (is_long ? "..." : "") +
           "\"";
  }

  std::string_view rest_;
};

std::optional<Piece> parse_line(std::string_view text) {
  Line line(text);
  line.skip_blanks();
  if (line.is_empty() || line.is_comment()) return std::nullopt;
  Piece piece;
  piece.time = line.take_time();
  line.skip_blanks();
  piece.direction = line.take_direction();
  line.skip_blanks();
  piece.bytes = line.take_bytes();
  line.expect_end();
  return piece;
}

// Takes a line from the front, without its "\n" or "\r\n".
std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

[[noreturn]] void fail_file(const std::string& what, const std::string& path) {
  throw std::system_error(errno != 0 ? errno : EIO, std::generic_category(),
                          what + " " + path);
}

}  // namespace

std::string escaped(std::string_view bytes) {
  std::string result;
  for (const char c : bytes) {
    switch (c) {
      case '\r':
        result += "\\r";
        continue;
      case '\n':
        result += "\\n";
        continue;
      case '\t':
        result += "\\t";
        continue;
      case '\\':
        result += "\\\\";
        continue;
      case '"':
        result += "\\\"";
        continue;
      default:
        break;
    }
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      result += c;
    } else {
      result += "\\x";
      result += kDigits[byte >> 4];
      result += kDigits[byte & 15];
    }
  }
  return result;
}

std::string Recording::text() const {
  check();
  std::string result;
  result.append(kFirstLine).append("\n").append(kSecondLine).append("\n");
  for (const Piece& piece : pieces) {
    result += text_of(piece.time);
    result += piece.direction == Direction::kToServer ? " > " : " < ";
    result += piece.bytes.empty() ? std::string(kEnd)
                                  : "\"" + escaped(piece.bytes) + "\"";
    result += '\n';
  }
  return result;
}

Recording Recording::parse(std::string_view text, std::string_view name) {
  Recording recording;
  Order order;
  std::size_t number = 1;
  try {
    if (take_line(text) != kFirstLine) {
      throw Malformed{"a recording begins with the line \"" +
                      std::string(kFirstLine) + "\""};
    }
    while (!text.empty()) {
      ++number;
      std::optional<Piece> piece = parse_line(take_line(text));
      if (!piece) continue;
      if (std::string why = order.add(*piece); !why.empty()) {
        throw Malformed{std::move(why)};
      }
      recording.pieces.push_back(std::move(*piece));
    }
  } catch (const Malformed& malformed) {
    throw std::invalid_argument(std::string(name) + ", line " +
                                std::to_string(number) + ": " + malformed.why);
  }
  return recording;
}

void Recording::save(const std::string& path) const {
  const std::string content = text();
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  if (!file) fail_file("cannot write", path);
}

Recording Recording::load(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_file("cannot open", path);
  std::string content;
  std::array<char, 4096> piece{};
  while (file.read(piece.data(), piece.size()), file.gcount() > 0) {
    content.append(piece.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (file.bad()) fail_file("cannot read", path);
  return parse(content, path);
}

void Recording::check() const {
  Order order;
  std::size_t number = 0;
  for (const Piece& piece : pieces) {
    ++number;
    if (const std::string why = order.add(piece); !why.empty()) {
      throw std::invalid_argument("recording, piece " + std::to_string(number) +
                                  ": " + why);
    }
  }
}

std::string Recording::bytes(Direction direction) const {
  std::string result;
  for (const Piece& piece : pieces) {
    if (piece.direction == direction) result += piece.bytes;
  }
  return result;
}

}  // namespace tcpip_testing
