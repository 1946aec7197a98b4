// tcpip-monitor: shows what passes over a TCP connection. `--help` says how.
#include "tcpip/version.h"

#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "tools/monitor/monitor.h"
#include "tools/monitor/options.h"

namespace {

int print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) == 0) return tcpip_monitor::kExitAsAsked;
  std::perror("tcpip-monitor: the standard output");
  return tcpip_monitor::kExitFile;
}

}  // namespace

int main(int argc, char** argv) try {
  const tcpip_monitor::Options options =
      tcpip_monitor::parse_options({argv + 1, argv + argc});
  if (options.help) return print(tcpip_monitor::help_text());
  if (options.version) {
    return print("tcpip-monitor " + std::string(tcpip::kVersion) + "\n");
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
