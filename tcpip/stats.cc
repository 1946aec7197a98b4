#include "tcpip/stats.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>

namespace tcpip {
namespace {

using TimePoint = EndpointStats::TimePoint;

std::string plural(std::uint64_t n, std::string_view what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

std::string passed(std::string_view verb, std::uint64_t bytes,
                   std::uint64_t messages,
                   const std::optional<TimePoint>& last) {
  std::string text = fmt::format("{} {} in {}", verb, plural(bytes, "byte"),
                                 plural(messages, "message"));
  if (last) {
    const std::chrono::duration<double> age =
        std::chrono::steady_clock::now() - *last;
    text += fmt::format(" (the last {:.1f} s ago)", age.count());
  }
  return text;
}

}  // namespace

std::string to_string(const EndpointStats& stats) {
  std::string text = fmt::format(
      "{}, {}, {}, {}", stats.connected ? "connected" : "idle",
      plural(stats.connections, "connection"),
      passed("received", stats.bytes_received, stats.messages_received,
             stats.last_receive),
      passed("sent", stats.bytes_sent, stats.messages_sent, stats.last_send));
  const auto add_trouble = [&text](std::uint64_t n, std::string_view what) {
    if (n > 0) fmt::format_to(std::back_inserter(text), ", {} {}", n, what);
  };
  add_trouble(stats.failed_connects, "failed to connect");
  add_trouble(stats.rejected, "rejected");
  add_trouble(stats.not_allowed, "not allowed");
  add_trouble(stats.timeouts, "timed out");
  add_trouble(stats.overruns, "too long");
  add_trouble(stats.decode_errors, "not decoded");
  const auto add_loss = [&text](std::uint64_t n, std::string_view what,
                                std::string_view how) {
    if (n > 0) text += fmt::format(", {} {}", plural(n, what), how);
  };
  add_loss(stats.callback_errors, "callback", "failed");
  add_loss(stats.dropped_bytes, "byte", "dropped unread");
  add_loss(stats.unsent_bytes, "byte", "not sent");
  return text;
}

}  // namespace tcpip
