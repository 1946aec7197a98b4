#include "tools/monitor/json_text.h"

#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

namespace tcpip_monitor {
namespace {

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// The size of the string that begins at the front, with its quotes.
std::size_t string_size(std::string_view text) {
  std::size_t size = 1;
  while (text[size] != '"') size += text[size] == '\\' ? 2 : 1;
  return size + 1;
}

}  // namespace

// A value of nlohmann-json would round numbers: so the library only says
// whether the text is JSON, and the text is what is shown.
std::optional<std::string> format_json(std::string_view text, int indent,
                                       std::string_view key_color,
                                       std::string_view plain) {
  if (!nlohmann::json::accept(text)) return std::nullopt;
  std::string result;
  struct Level {
    bool is_object;
    bool is_empty;
  };
  std::vector<Level> levels;
  bool is_key = false;
  const auto new_line = [&] {
    if (indent == 0) return;
    result += '\n';
    result.append(static_cast<std::size_t>(indent) * levels.size(), ' ');
  };
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (is_blank(c)) continue;
    const bool closes = c == '}' || c == ']';
    if (!levels.empty() && levels.back().is_empty && !closes) {
      levels.back().is_empty = false;
      new_line();
    }
    if (c == '{' || c == '[') {
      result += c;
      levels.push_back({c == '{', true});
      is_key = c == '{';
    } else if (closes) {
      const bool was_empty = levels.back().is_empty;
      levels.pop_back();
      if (!was_empty) new_line();
      result += c;
    } else if (c == ',') {
      result += indent == 0 ? ", " : ",";
      new_line();
      is_key = levels.back().is_object;
    } else if (c == ':') {
      result += ": ";
      is_key = false;
    } else if (c == '"') {
      const std::size_t size = string_size(text.substr(at));
      if (is_key) result += key_color;
      result += text.substr(at, size);
      if (is_key) result += plain;
      at += size - 1;
    } else {
      result += c;  // of a number, true, false, null
    }
  }
  return result;
}

}  // namespace tcpip_monitor
