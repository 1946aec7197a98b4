// Numbers of things in the monitor's texts: "1 byte", "2 bytes".
//
// Threads: a function.
#ifndef TOOLS_MONITOR_COUNTED_H_
#define TOOLS_MONITOR_COUNTED_H_

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace tcpip_monitor {

// `thing` is the word for one; its plural ends in "s".
inline std::string counted(std::uint64_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_COUNTED_H_
