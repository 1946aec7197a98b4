// Sends lines of text and a struct to an echo_server and checks what it sends
// back.
//
//   echo_client [--host HOST] --port PORT [TEXT...]
//
// The exit status is 0 if all came back as it should, 3 if the server turned
// us away because it serves somebody else, 1 for anything else.
#include <getopt.h>
#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

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

// Turns Ctrl-C and SIGTERM into a stop request, for a program whose main thread
// is busy. To be made before any other thread is, so that all block them.
class SignalStop {
 public:
  SignalStop() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::jthread([this] {
      int signal = 0;
      ::sigwait(&signals_, &signal);
      stop_.request_stop();
    });
  }
  // Ends the thread with a signal of its own.
  ~SignalStop() { ::pthread_kill(thread_.native_handle(), SIGTERM); }

  std::stop_token token() const { return stop_.get_token(); }

 private:
  sigset_t signals_;
  std::stop_source stop_;
  std::jthread thread_;
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
  const option kOptions[] = {{"host", required_argument, nullptr, 'h'},
                             {"port", required_argument, nullptr, 'p'},
                             {}};
  for (int c; (c = ::getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    if (c == 'h') {
      host = optarg;
    } else if (c == 'p') {
      port = std::stoi(optarg);
    } else {
      return 2;
    }
  }
  std::vector<std::string> texts(argv + optind, argv + argc);
  if (texts.empty()) texts.push_back("hello");

  const SignalStop signals;
  return talk(host, port, texts, signals.token());
} catch (const tcpip::CancelledError&) {
  std::cerr << "echo_client: interrupted" << std::endl;
  return 1;
} catch (const std::exception& e) {
  std::cerr << "echo_client: " << e.what() << std::endl;
  return 1;
}
