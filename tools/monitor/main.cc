// tcpip-monitor: shows what passes over a TCP connection. `--help` says how.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "tools/monitor/monitor.h"
#include "tools/monitor/options.h"

int main(int argc, char** argv) try {
  const tcpip_monitor::Options options =
      tcpip_monitor::parse_options({argv + 1, argv + argc});
  if (options.help) {
    const std::string text(tcpip_monitor::help_text());
    return std::fputs(text.c_str(), stdout) < 0 ? 1 : 0;
  }
  return tcpip_monitor::run_monitor(options);
} catch (const tcpip_monitor::UsageError& e) {
  std::fprintf(stderr, "tcpip-monitor: %s\nTry tcpip-monitor --help\n",
               e.what());
  return tcpip_monitor::kExitUsage;
} catch (const std::exception& e) {
  std::fprintf(stderr, "tcpip-monitor: %s\n", e.what());
  return tcpip_monitor::kExitConnection;
}
