// tcpip-monitor: shows what passes over a TCP connection. `--help` says how.
#include "tcpip/version.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>
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

// Else a socket or a recording would become the standard output.
void open_standard_descriptors() {
  for (int fd = 0; fd <= STDERR_FILENO && fd >= 0;) {
    fd = ::open("/dev/null", O_RDWR);
    if (fd > STDERR_FILENO) ::close(fd);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  open_standard_descriptors();
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
} catch (const std::bad_alloc&) {
  std::fputs("tcpip-monitor: out of memory\n", stderr);
  return tcpip_monitor::kExitFile;
} catch (const std::exception& e) {
  std::fprintf(stderr, "tcpip-monitor: %s\n", e.what());
  return tcpip_monitor::kExitConnection;
}
