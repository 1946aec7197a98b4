#include "tcpip/open_metrics.h"

#include <fmt/format.h>

#include <chrono>
#include <iterator>
#include <optional>
#include <stdexcept>

namespace tcpip {
namespace {

template <class Stats>
void insert(std::map<std::string, Stats, std::less<>>& all,
            std::string_view name, const Stats& stats) {
  if (!all.emplace(name, stats).second) {
    throw std::invalid_argument(
        fmt::format("OpenMetrics: a second \"{}\" of the same kind", name));
  }
}

std::string escaped(std::string_view name) {
  std::string result;
  for (const char c : name) {
    if (c == '\n') {
      result += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

// One kind of what is counted: its families, one after the other, each with a
// sample for each name.
template <class Stats>
class Page {
 public:
  Page(std::string& text, const std::map<std::string, Stats, std::less<>>& all)
      : text_(text), all_(all) {}

  Page& counter(std::string_view name, std::string_view help,
                std::uint64_t Stats::*member) {
    family(name, "counter", help);
    for (const auto& [label, stats] : all_) {
      sample(name, "_total", label, fmt::to_string(stats.*member));
    }
    return *this;
  }
  // `value` returns a number, or nothing if there is no sample.
  template <class Value>
  Page& gauge(std::string_view name, std::string_view help, Value value) {
    family(name, "gauge", help);
    for (const auto& [label, stats] : all_) {
      if (const std::optional<std::string> number = value(stats)) {
        sample(name, "", label, *number);
      }
    }
    return *this;
  }

 private:
  void family(std::string_view name, std::string_view type,
              std::string_view help) {
    if (all_.empty()) return;
    const auto out = std::back_inserter(text_);
    fmt::format_to(out, "# TYPE {} {}\n", name, type);
    for (const std::string_view unit : {"bytes", "seconds"}) {
      if (name.ends_with(unit)) {
        fmt::format_to(out, "# UNIT {} {}\n", name, unit);
      }
    }
    fmt::format_to(out, "# HELP {} {}\n", name, help);
  }
  void sample(std::string_view name, std::string_view suffix,
              std::string_view label, std::string_view value) {
    fmt::format_to(std::back_inserter(text_), "{}{}{{name=\"{}\"}} {}\n", name,
                   suffix, escaped(label), value);
  }

  std::string& text_;
  const std::map<std::string, Stats, std::less<>>& all_;
};

// In seconds since 1970.
auto time_of(std::optional<EndpointStats::TimePoint> EndpointStats::*member) {
  return [member](const EndpointStats& stats) -> std::optional<std::string> {
    if (!(stats.*member)) return std::nullopt;
    const auto age = std::chrono::steady_clock::now() - *(stats.*member);
    const std::chrono::duration<double> time =
        (std::chrono::system_clock::now() - age).time_since_epoch();
    return fmt::format("{:.3f}", time.count());
  };
}

template <class Stats, class Number>
auto number_of(Number Stats::*member) {
  return [member](const Stats& stats) {
    return std::optional(fmt::format("{:d}", stats.*member));
  };
}

}  // namespace

void OpenMetrics::add(std::string_view name, const EndpointStats& stats) {
  insert(endpoints_, name, stats);
}
void OpenMetrics::add(std::string_view name, const SendQueueStats& stats) {
  insert(send_queues_, name, stats);
}
void OpenMetrics::add(std::string_view name, const PeriodicSenderStats& stats) {
  insert(periodic_senders_, name, stats);
}
void OpenMetrics::add(std::string_view name, const CallbackQueueStats& stats) {
  insert(callback_queues_, name, stats);
}

std::string OpenMetrics::text() const {
  std::string text;
  using E = EndpointStats;
  Page(text, endpoints_)
      .gauge("tcpip_connected", "1 if there is a connection now.",
             number_of(&E::connected))
      .counter("tcpip_connections", "Connections that were made.",
               &E::connections)
      .counter("tcpip_failed_connects", "Tries to connect that failed.",
               &E::failed_connects)
      .counter("tcpip_rejected",
               "Clients turned away since another one was connected.",
               &E::rejected)
      .counter("tcpip_not_allowed", "Clients that are not allowed.",
               &E::not_allowed)
      .counter("tcpip_received_bytes", "Bytes taken from the kernel.",
               &E::bytes_received)
      .counter("tcpip_received_messages", "Messages that reads have returned.",
               &E::messages_received)
      .counter("tcpip_sent_bytes", "Bytes given to the kernel.", &E::bytes_sent)
      .counter("tcpip_sent_messages", "Messages that writes have taken.",
               &E::messages_sent)
      .gauge("tcpip_last_receive_timestamp_seconds",
             "When bytes were received last.", time_of(&E::last_receive))
      .gauge("tcpip_last_send_timestamp_seconds", "When bytes were sent last.",
             time_of(&E::last_send))
      .counter("tcpip_timeouts", "Reads and writes that timed out.",
               &E::timeouts)
      .counter("tcpip_overruns", "Messages longer than the limit.",
               &E::overruns)
      .counter("tcpip_decode_errors", "Messages that could not be decoded.",
               &E::decode_errors)
      .counter("tcpip_callback_errors",
               "Callbacks and read handlers that have thrown.",
               &E::callback_errors)
      .counter("tcpip_dropped_bytes",
               "Bytes that no read had taken when their connection ended.",
               &E::dropped_bytes)
      .counter("tcpip_unsent_bytes",
               "Bytes that were not sent when their connection ended.",
               &E::unsent_bytes);
  using S = SendQueueStats;
  Page(text, send_queues_)
      .counter("tcpip_send_queue_posted", "Messages that were posted.",
               &S::posted)
      .counter("tcpip_send_queue_sent", "Messages that were sent.", &S::sent)
      .counter("tcpip_send_queue_dropped_full",
               "Messages dropped for lack of room.", &S::dropped_full)
      .counter("tcpip_send_queue_dropped_stale",
               "Messages dropped since their connection had ended.",
               &S::dropped_stale)
      .gauge("tcpip_send_queue_waiting", "Messages that wait.",
             number_of(&S::waiting));
  using P = PeriodicSenderStats;
  Page(text, periodic_senders_)
      .counter("tcpip_periodic_sent", "Calls that have sent.", &P::sent)
      .counter("tcpip_periodic_busy", "Calls that found the connection busy.",
               &P::busy)
      .counter("tcpip_periodic_failed", "Calls that have thrown.", &P::failed)
      .counter("tcpip_periodic_missed", "Times at which there was no call.",
               &P::missed);
  using C = CallbackQueueStats;
  Page(text, callback_queues_)
      .counter("tcpip_callback_queue_posted", "Callbacks that were posted.",
               &C::posted)
      .counter("tcpip_callback_queue_run", "Callbacks that were run.", &C::run)
      .counter("tcpip_callback_queue_dropped", "Callbacks that were dropped.",
               &C::dropped)
      .counter("tcpip_callback_queue_refused",
               "Callbacks that the queue did not take.", &C::refused)
      .gauge("tcpip_callback_queue_waiting", "Callbacks that wait.",
             number_of(&C::waiting))
      .gauge("tcpip_callback_queue_most_waiting",
             "The most callbacks that have waited at once.",
             number_of(&C::most_waiting));
  return text + "# EOF\n";
}

}  // namespace tcpip
