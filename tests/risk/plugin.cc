// A plugin that has this library inside, for process_manners_test.cc, which
// loads and unloads it.
#include <netdb.h>
#include <unistd.h>

#include <chrono>
#include <exception>
#include <memory>
#include <stop_token>
#include <string>

#include "tcpip/address.h"
#include "tcpip/client.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"

namespace {

using namespace std::chrono_literals;

constexpr std::chrono::seconds kPatience{30};

// The name server is silent until something comes from here.
int silence = -1;

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming)
extern "C" {

int __real_getaddrinfo(const char* host, const char* port,
                       const addrinfo* hints, addrinfo** result);
int __wrap_getaddrinfo(const char* host, const char* port,
                       const addrinfo* hints, addrinfo** result) {
  if ((hints->ai_flags & AI_NUMERICHOST) != 0) {
    return __real_getaddrinfo(host, port, hints, result);
  }
  char byte = 0;
  while (::read(silence, &byte, 1) < 0) {
  }
  return EAI_NONAME;
}

// Leaves a look-up behind, which ends when something comes from `fd`. True if
// the call timed out.
bool plugin_look_up(int fd) {
  silence = fd;
  try {
    tcpip::resolve("telescope", 4000, tcpip::Wait::none());
  } catch (const tcpip::TimeoutError&) {
    return true;
  }
  return false;
}

// Has a server and a client talk to each other, and closes them.
bool plugin_talk() {
  try {
    tcpip::OneClientReadLoopServer server(
        {.host = "127.0.0.1",
         .connect_callback = [](const tcpip::ConnectionEvent&) {}},
        [](tcpip::Connection& client, const std::stop_token& stop) {
          client.write_str(client.read_str(stop), stop);
        });
    server.start();
    tcpip::Client client(
        {.host = "127.0.0.1",
         .port = server.port(),
         .connect_callback = [](const tcpip::ConnectionEvent&) {}});
    client.start(kPatience);
    client.write_str("hello", kPatience);
    return client.read_str(kPatience) == "hello";
  } catch (const std::exception&) {
    return false;
  }
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)
