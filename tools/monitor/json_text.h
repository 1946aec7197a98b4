// JSON as it came, but with uniform blanks.
//
// Threads: functions of their arguments.
#ifndef TOOLS_MONITOR_JSON_TEXT_H_
#define TOOLS_MONITOR_JSON_TEXT_H_

#include <optional>
#include <string>
#include <string_view>

namespace tcpip_monitor {

// The same JSON in one line, or with `indent` blanks for each level if that is
// not 0. Numbers and strings stay as they came, digit by digit, and keys keep
// their order. `key_color` and `plain` go around each key. std::nullopt if
// `text` is not JSON.
std::optional<std::string> format_json(std::string_view text, int indent,
                                       std::string_view key_color = {},
                                       std::string_view plain = {});

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_JSON_TEXT_H_
