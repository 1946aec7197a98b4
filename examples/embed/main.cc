// A server and its client in one program. Each folder beside this file builds
// it in another way, as a project of its own would.
#include <chrono>
#include <iostream>
#include <stop_token>

#include "tcpip/tcpip.h"

int main() {
  using namespace std::chrono_literals;
  try {
    tcpip::OneClientReadLoopServer server(
        {.port = 0}, [](tcpip::Connection& client, std::stop_token stop) {
          client.write_str("you said: " + client.read_str(stop), stop);
        });
    server.start();
    tcpip::Client client({.host = "127.0.0.1", .port = server.port()});
    client.start(5s);
    client.write_str("hello", 5s);
    std::cout << client.read_str(5s) << ", with tcpip " << tcpip::kVersion
              << '\n';
  } catch (const tcpip::ConnectionError& error) {
    std::cerr << "lost: " << error.what() << '\n';
    return 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
