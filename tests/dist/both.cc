// A program that uses fmt itself. It is linked with a static fmt of its own and
// with the library, both whole.
#include <fmt/format.h>

#include <cstdio>

#include "tcpip/tcpip.h"

int main() {
  // An error's text is made with the library's own fmt.
  try {
    tcpip::Client client({.host = "127.0.0.1", .port = 1});
    client.start(std::chrono::seconds(5));
  } catch (const tcpip::ConnectionError& error) {
    std::puts(fmt::format("{:>5}: {}", 42, error.what()).c_str());
    return 0;
  }
  return 1;
}
