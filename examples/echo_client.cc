// Sends lines of text and a struct to an echo_server and checks what it sends
// back.
//
//   echo_client [--host HOST] --port PORT [TEXT...]
//
// The exit status is 0 if all came back as it should, 3 if the server turned
// us away because it serves somebody else, 1 for anything else.
#include <chrono>
#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <vector>

#include "examples/program.h"
#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/wait.h"
#include "tcpip/wire_struct.h"

namespace {

using namespace std::chrono_literals;

// What echo_server takes after the line "struct".
struct Sample {
  tcpip::BigEndian<std::uint32_t> sequence{};
  tcpip::BigEndian<double> value{};
};

void exchange_text(tcpip::Client& client, const std::string& text,
                   const tcpip::Wait& wait) {
  client.write_str(text, wait);
  const std::string reply = client.read_str(wait);
  if (reply != text) throw std::runtime_error("got other text: " + reply);
  std::cout << "text: " << reply << std::endl;
}

void exchange_struct(tcpip::Client& client, const Sample& sample,
                     const tcpip::Wait& wait) {
  client.write_str("struct", wait);
  client.write_from(sample, wait);
  Sample reply;
  client.read_into(reply, wait);
  if (reply.sequence != sample.sequence + 1 || reply.value != sample.value) {
    throw std::runtime_error("got another struct");
  }
  std::cout << "struct: sequence " << reply.sequence << ", value "
            << reply.value << std::endl;
}

int talk(const std::string& host, int port,
         const std::vector<std::string>& texts, std::stop_token stop) {
  tcpip::Client client(
      {.host = host,
       .port = port,
       .name = "echo",
       .log = tcpip::Log(tcpip::stderr_sink(), tcpip::LogLevel::kWarning)});
  client.start({5s, stop});
  bool served = false;
  try {
    for (const std::string& text : texts) {
      exchange_text(client, text, {5s, stop});
      served = true;
    }
    exchange_struct(client, {.sequence = 41, .value = -1.5}, {5s, stop});
  } catch (const tcpip::ConnectionError&) {
    // A server that is busy accepts the connection and ends it at once.
    if (served) throw;
    std::cout << "turned away" << std::endl;
    return 3;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  std::string host = "127.0.0.1";
  int port = 0;
  std::vector<std::string> texts =
      examples::parse_options(argc, argv, {{"host", host}, {"port", port}});
  if (texts.empty()) texts.push_back("hello");

  const examples::SignalStop signals;
  return talk(host, port, texts, signals.token());
} catch (const tcpip::CancelledError&) {
  std::cerr << "echo_client: interrupted" << std::endl;
  return 1;
} catch (const std::exception& e) {
  std::cerr << "echo_client: " << e.what() << std::endl;
  return 1;
}
