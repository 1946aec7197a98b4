// Statistics in the text form of OpenMetrics 1.0, which Prometheus reads: for a
// program that has a page for it, or writes a file for node_exporter.
//
//   tcpip::OpenMetrics metrics;
//   metrics.add("dome", server.stats());
//   metrics.add("telemetry", telemetry.stats());
//   write_file("tcpip.prom", metrics.text());
//
// gives
//
//   # TYPE tcpip_connections counter
//   # HELP tcpip_connections Connections that were made.
//   tcpip_connections_total{name="dome"} 3
//   ...
//   # EOF
//
// Threads: a value, for one thread at a time.
#ifndef TCPIP_OPEN_METRICS_H_
#define TCPIP_OPEN_METRICS_H_

#include "tcpip/version.h"

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "tcpip/callback_queue.h"
#include "tcpip/error.h"
#include "tcpip/periodic_sender.h"
#include "tcpip/send_queue.h"
#include "tcpip/stats.h"

namespace tcpip {

class TCPIP_EXPORT OpenMetrics {
 public:
  // `name` becomes the label; UTF-8. Each name is for one client or server,
  // one object of each other kind: a second of the same kind throws
  // std::invalid_argument, since the page would be invalid.
  void add(std::string_view name, const EndpointStats& stats);
  void add(std::string_view name, const SendQueueStats& stats);
  void add(std::string_view name, const PeriodicSenderStats& stats);
  void add(std::string_view name, const CallbackQueueStats& stats);

  // The whole page, its last line included. To be served as
  // kContentType.
  std::string text() const;

  // The media type of the page, for the HTTP server.
  static constexpr std::string_view kContentType =
      "application/openmetrics-text; version=1.0.0; charset=utf-8";

 private:
  std::map<std::string, EndpointStats, std::less<>> endpoints_;
  std::map<std::string, SendQueueStats, std::less<>> send_queues_;
  std::map<std::string, PeriodicSenderStats, std::less<>> periodic_senders_;
  std::map<std::string, CallbackQueueStats, std::less<>> callback_queues_;
};

}  // namespace tcpip

#endif  // TCPIP_OPEN_METRICS_H_
