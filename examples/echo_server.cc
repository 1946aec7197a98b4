// Sends back every line it gets, to one client at a time.
//
//   echo_server [--host HOST] [--port PORT]
//
// Without --port it takes any that is free; the first line it prints ends in
// "HOST:PORT". Try it with `nc 127.0.0.1 PORT`.
//
// The line "struct" announces a binary message, a Sample. It comes back with
// its sequence number one higher.
//
// Ends at Ctrl-C or SIGTERM.
#include <chrono>
#include <cstdint>
#include <exception>
#include <iostream>
#include <stop_token>
#include <string>

#include "examples/program.h"
#include "tcpip/connection.h"
#include "tcpip/log.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/wait.h"
#include "tcpip/wire_struct.h"

namespace {

using namespace std::chrono_literals;

// In Python: struct.Struct(">Id").
struct Sample {
  tcpip::BigEndian<std::uint32_t> sequence{};
  tcpip::BigEndian<double> value{};
};

// Deals with one message. The server calls it again and again, on a thread of
// its own, for as long as the client is connected. `stop` is requested when the
// connection ends: a call that blocks then throws. Nothing has to be caught
// here: an exception ends the connection, and the server goes on to the next
// client.
void echo(tcpip::Connection& client, std::stop_token stop) {
  // With read_str() the client would have to end its lines in "\r\n", which
  // netcat does not.
  const std::string line = client.read_until("\n", stop);
  // So that a client which stops reading, or sends half a struct, does not keep
  // others out for ever.
  const tcpip::Wait wait(5s, stop);
  if (line == "struct\n" || line == "struct\r\n") {
    Sample sample;
    client.read_into(sample, wait);
    ++sample.sequence;
    client.write_from(sample, wait);
  } else {
    client.write(line, wait);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  std::string host = "127.0.0.1";
  int port = 0;
  examples::parse_options(argc, argv, {{"host", host}, {"port", port}});

  const examples::SignalStop signals;
  tcpip::OneClientReadLoopServer server(
      {.host = host,
       .port = port,
       .name = "echo",
       .log = tcpip::Log(tcpip::stderr_sink(), tcpip::LogLevel::kWarning)},
      echo);
  server.start();
  std::cout << "listening on " << server.addresses().front().to_string()
            << std::endl;

  const std::stop_callback end(signals.token(),
                               [&server] { server.request_close(); });
  server.wait_done();
  return 0;
} catch (const std::exception& e) {
  std::cerr << "echo_server: " << e.what() << std::endl;
  return 1;
}
