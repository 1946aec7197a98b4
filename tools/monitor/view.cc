#include "tools/monitor/view.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "tcpip/constants.h"
#include "tools/monitor/counted.h"
#include "tools/monitor/json_text.h"

namespace tcpip_monitor {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kPlain = "\x1b[0m";
constexpr std::string_view kDim = "\x1b[2m";
constexpr std::string_view kBold = "\x1b[1m";
constexpr std::string_view kRed = "\x1b[1;31m";
constexpr std::string_view kInColor = "\x1b[36m";
constexpr std::string_view kOutColor = "\x1b[33m";

// A line that has no end is shown when it has not gone on for so long: a
// prompt, or the peer has another terminator.
constexpr auto kUnfinished = 300ms;
constexpr auto kHeartbeatPause = 60s;
constexpr std::size_t kLongestLine = 1024 * 1024;
constexpr std::uint64_t kLongestFrame = 16 * 1024 * 1024;

const std::string kNewline = "\n";
// Behind a line that ends in "\n", not in "\r\n".
constexpr std::string_view kBareNewline = "\\n";

constexpr Way kWays[] = {Way::kIn, Way::kOut};

// Whether a character of ASCII is one byte, so that a "\n" is what it seems.
bool has_bytes(const std::string& encoding) {
  using tcpip::internal::Encoding;
  const auto found = tcpip::internal::find_encoding(encoding);
  return found == Encoding::kUtf8 || found == Encoding::kAscii ||
         found == Encoding::kLatin1;
}

std::string_view sign_of(Way way) { return way == Way::kIn ? "<" : ">"; }
std::string_view color_of(Way way) {
  return way == Way::kIn ? kInColor : kOutColor;
}

// Ends bold, goes on in the colour.
std::string_view color_after_key(Way way) {
  return way == Way::kIn ? "\x1b[0;36m" : "\x1b[0;33m";
}

void append_byte(std::string& to, char c) {
  to += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
}

// `bytes` in the form that the library's recordings and taps have.
std::string escaped_bytes(std::string_view bytes) {
  std::string result;
  for (const char c : bytes) {
    if (c == '\r') {
      result += "\\r";
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (c == '\\') {
      result += "\\\\";
    } else if (c >= ' ' && c <= '~') {
      result += c;
    } else {
      append_byte(result, c);
    }
  }
  return result;
}

// The size of the code point at the front of valid UTF-8.
std::size_t code_point_size(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

// Whether a terminal might obey the code point, or show it in another order:
// C1 controls, line separators, changes of direction.
bool is_control(std::string_view code_point) {
  return (code_point >= "\xc2\x80" && code_point <= "\xc2\x9f") ||
         (code_point >= "\xe2\x80\xa8" && code_point <= "\xe2\x80\xae") ||
         (code_point >= "\xe2\x81\xa6" && code_point <= "\xe2\x81\xa9");
}

// Valid UTF-8 as it is, but for the backslash and what is not to be seen.
std::string printable(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t size = code_point_size(text);
    const std::string_view code_point = text.substr(0, size);
    text.remove_prefix(size);
    if (size == 1) {
      result += escaped_bytes(code_point);
    } else if (is_control(code_point)) {
      for (const char c : code_point) append_byte(result, c);
    } else {
      result += code_point;
    }
  }
  return result;
}

// The same JSON, if it is JSON. Its escapes stand for what is not to be seen;
// other control characters are not allowed in its strings.
std::string printable_json(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t size = code_point_size(text);
    const std::string_view code_point = text.substr(0, size);
    text.remove_prefix(size);
    if (code_point == "\x7f") {
      result += "\\u007f";
    } else if (size > 1 && is_control(code_point)) {
      unsigned value = static_cast<unsigned char>(code_point[0]) &
                       (size == 2 ? 0x1fU : 0x0fU);
      for (const char c : code_point.substr(1)) {
        value = value << 6 | (static_cast<unsigned char>(c) & 0x3fU);
      }
      result += fmt::format("\\u{:04x}", value);
    } else {
      result += code_point;
    }
  }
  return result;
}

std::tm local_time(std::time_t time) {
  std::tm parts{};
  ::localtime_r(&time, &parts);
  return parts;
}

std::tm utc(std::time_t time) {
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  return parts;
}

}  // namespace

View::View(ViewOptions options, bool has_color)
    : options_(std::move(options)),
      codec_(options_.encoding),
      takes_newline_(options_.takes_newline && has_bytes(options_.encoding)),
      has_color_(has_color) {}

void View::begin(TimePoint time) {
  for (Stream& of : streams_) {
    const Counts counts = of.counts;
    of = {};
    of.counts = counts;
  }
  began_ = time;
}

void View::show(const Passed& passed) {
  Stream& to = stream(passed.way);
  if (passed.skipped > 0) skip(passed.way, passed);
  if (to.buffer.empty()) to.position = passed.position;
  to.buffer += passed.bytes;
  to.time = passed.time;
  switch (options_.show) {
    case Show::kLines:
    case Show::kJson:
      take_lines(passed.way);
      break;
    case Show::kHex:
      take_rest(passed.way, {});
      break;
    case Show::kStructs:
      take_frames(passed.way);
      break;
  }
}

// Bytes are missing between the buffer and `passed`.
void View::skip(Way way, const Passed& passed) {
  Stream& of = stream(way);
  take_rest(way, "(unfinished)");
  add(passed.time, kRed, sign_of(way),
      fmt::format("({} not shown)", counted(passed.skipped, "byte")));
  if (options_.show != Show::kStructs) return;
  // Frames of one size: the next one begins at a multiple of it. `show()`
  // cannot tell where others begin.
  if (options_.header || options_.structs.size() != 1) of.is_lost = true;
}

void View::take_lines(Way way) {
  Stream& from = stream(way);
  const std::string& end = takes_newline_ ? kNewline : options_.terminator;
  for (;;) {
    const std::size_t found = from.buffer.find(end, from.searched);
    if (found == from.buffer.npos) break;
    std::string_view line = std::string_view(from.buffer).substr(0, found);
    std::string_view remark;
    if (takes_newline_) {
      if (line.ends_with('\r')) {
        line.remove_suffix(1);
      } else {
        remark = kBareNewline;
      }
    }
    show_line(way, line, remark);
    drop(from, found + end.size());
  }
  // The terminator may have begun.
  from.searched =
      from.buffer.size() - std::min(from.buffer.size(), end.size() - 1);
  if (from.buffer.size() > kLongestLine) take_rest(way, "(no end so far)");
}

void View::show_line(Way way, std::string_view message,
                     std::string_view remark) {
  const bool is_whole = remark.empty() || remark == kBareNewline;
  if (message == tcpip::kHeartbeat && is_whole &&
      options_.heartbeats != ShowHeartbeats::kAll) {
    show_heartbeat(way, message);
    return;
  }
  ++stream(way).counts.messages;
  std::string text;
  if (codec_.decode(message, text)) {
    add_message(way, escaped_bytes(message),
                is_whole ? fmt::format("(not {})", codec_.name())
                         : std::string(remark));
    return;
  }
  if (options_.show != Show::kJson || !is_whole) {
    add_message(way, printable(text), remark);
  } else if (const auto json =
                 format_json(printable_json(text), options_.indent,
                             paint(kBold), paint(color_after_key(way)))) {
    add_message(way, *json, remark);
  } else {
    add_message(way, printable(text), "(not JSON)");
  }
}

// The first is shown at once, the others once a minute, with their number.
void View::show_heartbeat(Way way, std::string_view message) {
  Stream& of = stream(way);
  ++of.counts.heartbeats;
  of.last_heartbeat = of.time;
  if (options_.heartbeats == ShowHeartbeats::kNone) return;
  if (of.show_heartbeats) {
    ++of.folded;
    return;
  }
  of.show_heartbeats = of.time + kHeartbeatPause;
  add_message(way, message, {});
}

void View::show_folded(Way way, TimePoint time) {
  Stream& of = stream(way);
  if (of.folded == 0) return;
  add(time, color_of(way), sign_of(way),
      fmt::format("{} ({} more, the last at {})", tcpip::kHeartbeat, of.folded,
                  time_text(of.last_heartbeat)));
  of.folded = 0;
}

void View::take_frames(Way way) {
  Stream& from = stream(way);
  if (!from.is_lost && !options_.header && options_.structs.size() == 1) {
    const std::size_t size = options_.structs[0].format.size();
    // Not 0 behind bytes that are missing only.
    const std::size_t past = from.position % size;
    if (past != 0) {
      const std::size_t rest = size - past;
      if (from.buffer.size() < rest) return;
      show_hex(way, std::string_view(from.buffer).substr(0, rest),
               "(the rest of a struct)");
      drop(from, rest);
    }
  }
  while (!from.is_lost && take_frame(way)) {
  }
  if (from.is_lost) take_rest(way, "(where a struct begins is not known)");
}

bool View::take_frame(Way way) {
  Stream& from = stream(way);
  const std::string_view bytes = from.buffer;
  if (!options_.header) {
    const StructSpec& spec = options_.structs[0];
    if (bytes.size() < spec.format.size()) return false;
    ++from.counts.messages;
    add_message(way, spec.show(bytes.substr(0, spec.format.size())), {});
    drop(from, spec.format.size());
    return true;
  }
  const std::size_t head = options_.header->size();
  if (bytes.size() < head) return false;
  const std::vector<StructValue> values =
      options_.header->unpack(bytes.substr(0, head));
  const StructSpec* spec = nullptr;
  for (const StructSpec& candidate : options_.structs) {
    if (!options_.id_field ||
        candidate.id == values[*options_.id_field].number) {
      spec = &candidate;
    }
  }
  std::uint64_t length = kLongestFrame + 1;
  if (options_.length_field) {
    length = values[*options_.length_field].number.value_or(length);
  } else if (spec != nullptr) {
    length = spec->format.size();
  }
  if (length > kLongestFrame) {
    add(from.time, kRed, sign_of(way),
        options_.length_field ? "the length in the header makes no sense"
                              : "no --struct has the id in the header");
    from.is_lost = true;
    return false;
  }
  if (bytes.size() - head < length) return false;
  const std::string_view body = bytes.substr(head, length);
  std::string text = "[";
  for (const StructValue& value : values) {
    if (text.size() > 1) text += ' ';
    text += value.text;
  }
  text += ']';
  ++from.counts.messages;
  if (spec != nullptr && spec->format.size() == length) {
    add_message(way, text + ' ' + spec->show(body), {});
  } else {
    add_message(way, text,
                spec == nullptr ? "(unknown)" : "(of another length)");
    from.position += head;
    if (length > 0) show_hex(way, body, {});
    from.position -= head;
  }
  drop(from, head + length);
  return true;
}

void View::take_rest(Way way, std::string_view remark) {
  Stream& from = stream(way);
  if (from.buffer.empty()) return;
  if (options_.show == Show::kHex || options_.show == Show::kStructs) {
    if (options_.show == Show::kHex) ++from.counts.messages;
    show_hex(way, from.buffer, remark);
  } else {
    show_line(way, from.buffer, remark);
  }
  drop(from, from.buffer.size());
}

void View::show_hex(Way way, std::string_view bytes, std::string_view remark) {
  constexpr std::size_t kRow = 16;
  const Stream& from = stream(way);
  add_message(way, counted(bytes.size(), "byte"), remark);
  const auto out = std::back_inserter(text_);
  for (std::size_t at = 0; at < bytes.size(); at += kRow) {
    const std::string_view row = bytes.substr(at, kRow);
    fmt::format_to(out, "{:08x} ", from.position + at);
    for (std::size_t i = 0; i < kRow; ++i) {
      if (i < row.size()) {
        fmt::format_to(out, " {:02x}", static_cast<unsigned char>(row[i]));
      } else {
        text_ += "   ";
      }
    }
    text_ += "  |";
    for (const char c : row) text_ += c >= ' ' && c <= '~' ? c : '.';
    text_ += "|\n";
  }
}

void View::drop(Stream& from, std::size_t count) {
  from.buffer.erase(0, count);
  from.position += count;
  from.searched = 0;
}

void View::end(TimePoint time) {
  for (const Way way : kWays) {
    take_rest(way, "(unfinished)");
    show_folded(way, time);
    stream(way).show_heartbeats.reset();
  }
}

void View::tick(TimePoint now) {
  for (const Way way : kWays) {
    Stream& of = stream(way);
    if (options_.show != Show::kStructs && now >= of.time + kUnfinished) {
      take_rest(way, "(no end so far)");
    }
    if (of.show_heartbeats && now >= *of.show_heartbeats) {
      const bool came = of.folded > 0;
      show_folded(way, now);
      of.show_heartbeats.reset();
      if (came) of.show_heartbeats = now + kHeartbeatPause;
    }
  }
}

std::optional<TimePoint> View::next_tick() const {
  std::optional<TimePoint> next;
  const auto add_time = [&next](TimePoint time) {
    next = next ? std::min(*next, time) : time;
  };
  for (const Stream& of : streams_) {
    if (!of.buffer.empty() && options_.show != Show::kStructs) {
      add_time(of.time + kUnfinished);
    }
    if (of.show_heartbeats) add_time(*of.show_heartbeats);
  }
  return next;
}

void View::remark(TimePoint time, std::string_view text) {
  add(time, kDim, "--", text);
}

void View::fault(TimePoint time, std::string_view text) {
  add(time, kRed, "--", text);
}

void View::add_message(Way way, std::string_view text,
                       std::string_view remark) {
  std::string line(text);
  if (!remark.empty()) {
    line.append(line.empty() ? "" : " ").append(paint(kDim)).append(remark);
  }
  add(stream(way).time, color_of(way), sign_of(way), line);
}

void View::add(TimePoint time, std::string_view color, std::string_view sign,
               std::string_view text) {
  if (options_.time != TimeStyle::kNone) {
    text_.append(paint(kDim)).append(time_text(time));
    text_.append(paint(kPlain)).append(" ");
  }
  text_.append(paint(color)).append(sign);
  if (!text.empty()) text_.append(" ").append(text);
  text_.append(paint(kPlain)).append("\n");
}

std::string View::time_text(TimePoint time) const {
  const auto micros = std::chrono::floor<std::chrono::microseconds>(time);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(micros);
  const std::time_t whole = std::chrono::system_clock::to_time_t(seconds);
  const auto fraction = (micros - seconds).count();
  if (options_.time == TimeStyle::kDate) {
    const std::tm t = utc(whole);
    return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}Z",
                       t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour,
                       t.tm_min, t.tm_sec, fraction);
  }
  if (options_.time == TimeStyle::kElapsed) {
    const std::chrono::duration<double> passed = time - began_;
    return fmt::format("{:.6f}", passed.count());
  }
  const std::tm t = local_time(whole);
  return fmt::format("{:02}:{:02}:{:02}.{:03}", t.tm_hour, t.tm_min, t.tm_sec,
                     fraction / 1000);
}

std::string View::take() { return std::exchange(text_, {}); }

}  // namespace tcpip_monitor
