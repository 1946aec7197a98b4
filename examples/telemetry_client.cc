// A client of binary telemetry: shows the frames that a rotator sends
// (rotator.h), and stays connected to it.
//
//   telemetry_client [--host HOST] --port PORT
//
// Frames that it does not know, and known ones of another length, are skipped
// and counted: the rotator may be newer than its client. Twice a second it says
// that it is there. Ends at Ctrl-C or SIGTERM.
//
// Try it with command_telemetry_server.
#include <chrono>
#include <cstdint>
#include <exception>
#include <iomanip>
#include <iostream>
#include <stop_token>
#include <string>

#include "examples/program.h"
#include "examples/rotator.h"
#include "tcpip/callback_queue.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/frame_dispatcher.h"
#include "tcpip/log.h"
#include "tcpip/periodic_sender.h"
#include "tcpip/reconnecting_client.h"

namespace {

using namespace std::chrono_literals;
using namespace examples;

// The client's thread reads the frames; everything else runs in the main
// thread, in the order in which it happened: no locks.
class TelemetryClient {
 public:
  TelemetryClient(const std::string& host, int port)
      : frames_({.id = &Header::id, .body_length = &Header::size, .log = log_}),
        client_({.host = host,
                 .port = port,
                 .name = "rotator",
                 .log = log_,
                 .callbacks = &queue_,
                 .connect_callback =
                     [this](const tcpip::ConnectionEvent& event) {
                       on_change(event);
                     }},
                [this](tcpip::Connection& server, std::stop_token stop) {
                  frames_.read_one(server, stop);
                },
                {.silence_timeout = 3s, .longest = 2s}),
        alive_(client_, {.period = 500ms}, [](const tcpip::Connection& server) {
          return server.try_send_from(Command{.id = CommandId::kAlive});
        }) {
    handle<Config>(FrameId::kConfig);
    handle<Telemetry>(FrameId::kTelemetry);
  }

  // Until the stop.
  void run(std::stop_token stop) {
    client_.start();
    queue_.run(stop);
    client_.close();
  }

 private:
  template <class Body>
  void handle(FrameId id) {
    frames_.on<Body>(id, [this](const tcpip::Connection& server,
                                const Header& header, const Body& body) {
      server.post_wait([=, this] { show(header, body); });
    });
  }

  void on_change(const tcpip::ConnectionEvent& event) {
    if (event.connected) {
      next_counter_ = 0;
      std::cout << "connected to "
                << event.connection.peer_address().to_string() << std::endl;
      return;
    }
    std::cout << to_string(event.reason);
    if (event.error) std::cout << ": " << event.error.message();
    const tcpip::FrameCounts counts = frames_.counts();
    std::cout << " (frames " << counts.frames << ", unknown " << counts.unknown
              << ", of a wrong length " << counts.wrong_length << ")"
              << std::endl;
  }

  void show(const Header& header, const Config& config) {
    std::cout << "config " << header.counter << ": " << config.lowest << " to "
              << config.highest << " at " << config.speed << std::endl;
  }

  void show(const Header& header, const Telemetry& telemetry) {
    // The rotator drops telemetry when a client is slow.
    if (next_counter_ != 0 && header.counter != next_counter_) {
      std::cout << "missed " << header.counter - next_counter_ << std::endl;
    }
    next_counter_ = header.counter + 1;
    std::cout << "telemetry " << header.counter << " at " << header.seconds
              << "." << std::setfill('0') << std::setw(9)
              << header.nanoseconds.value() << ": "
              << name_of(telemetry.state.value()) << ", at " << telemetry.angle
              << " of " << telemetry.demand << std::endl;
  }

  static std::string name_of(State state) {
    switch (state) {
      case State::kSafe:
        return "safe";
      case State::kEnabled:
        return "enabled";
    }
    // Any number may come.
    return "state " + std::to_string(static_cast<int>(state));
  }

  const tcpip::Log log_{tcpip::stderr_sink(), tcpip::LogLevel::kError};
  std::uint32_t next_counter_ = 0;  // 0: any
  tcpip::FrameDispatcher<Header> frames_;
  // Last, and in this order: each uses those before it.
  tcpip::CallbackQueue queue_;
  tcpip::ReconnectingClient client_;
  tcpip::PeriodicSender alive_;
};

}  // namespace

int main(int argc, char** argv) try {
  std::string host = "127.0.0.1";
  int port = 0;
  parse_options(argc, argv, {{"host", host}, {"port", port}});
  const SignalStop signals;
  TelemetryClient client(host, port);
  client.run(signals.token());
  return 0;
} catch (const std::exception& e) {
  std::cerr << "telemetry_client: " << e.what() << std::endl;
  return 1;
}
