// A shared object that uses the library, for plugins.cc.
#include <chrono>
#include <stop_token>

#include "tcpip/client.h"
#include "tcpip/one_client_read_loop_server.h"

extern "C" {

// Throws tcpip::ConnectionRefusedError.
void plugin_fail() {
  tcpip::Client client({.host = "127.0.0.1", .port = 1});
  client.start(std::chrono::seconds(20));
}

// Has a server and a client talk to each other `times` times.
bool plugin_talk(int times) {
  tcpip::OneClientReadLoopServer server(
      {.host = "127.0.0.1"},
      [](tcpip::Connection& client, const std::stop_token& stop) {
        client.write_str(client.read_str(stop), stop);
      });
  server.start();
  tcpip::Client client({.host = "127.0.0.1", .port = server.port()});
  client.start(std::chrono::seconds(20));
  for (int i = 0; i < times; ++i) {
    client.write_str("hello", std::chrono::seconds(20));
    if (client.read_str(std::chrono::seconds(20)) != "hello") return false;
  }
  return true;
}

}  // extern "C"
