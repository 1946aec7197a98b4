// The controller of a rotator, with a TCP port for commands and telemetry
// (rotator.h). Its control loop runs in the main thread, a hundred times a
// second and at exact points in time. Whatever clients do, it never waits for
// one.
//
//   command_telemetry_server [--host HOST] [--port PORT]
//
// One client at a time is in command. When it is lost, or silent for three
// seconds, the rotator stands still until the next client enables it. A client
// that has been silent for a second has to make way if another one comes. Ends
// at Ctrl-C or SIGTERM.
//
// Try it with telemetry_client.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <stop_token>
#include <string>
#include <thread>

#include "examples/program.h"
#include "examples/rotator.h"
#include "tcpip/callback_queue.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/log.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/send_queue.h"
#include "tcpip/send_result.h"

namespace {

using namespace std::chrono_literals;
using namespace examples;
using Clock = std::chrono::steady_clock;

constexpr Clock::duration kPeriod = 10ms;
constexpr int kPeriodsPerTelemetry = 5;
// Commands that wait for the loop. When there are more, the reading thread
// waits for room, and TCP slows the client down.
constexpr std::size_t kMaxCommands = 16;
const Config kConfig;

// Everything here runs in the loop's thread, callbacks too: no locks.
class Rotator {
 public:
  Rotator(const std::string& host, int port)
      : server_(
            {.host = host,
             .port = port,
             .name = "rotator",
             // The loop writes a line only if it closes a connection.
             .log = tcpip::Log(tcpip::stderr_sink(), tcpip::LogLevel::kInfo),
             .callbacks = &queue_,
             .connect_callback =
                 [this](const tcpip::ConnectionEvent& event) {
                   on_change(event);
                 },
             .heartbeats = {.expect = true, .max_interval = 3s},
             .admission = {.when_busy = tcpip::WhenBusy::kTakeOverIfSilent,
                           .silent_for = 1s}},
            // The one thing that runs in another thread, the server's.
            [this](tcpip::Connection& client, std::stop_token stop) {
              Command command;
              client.read_into(command, stop);
              client.handle_received_heartbeat();  // every command is one
              if (command.id == CommandId::kAlive) return;
              client.post_wait([=, this] { on_command(client, command); });
            }),
        // A message is for the client of the moment. One that takes none for
        // two seconds has to go.
        telemetry_(server_, {.slots = 20,
                             .max_size = sizeof(Header) + sizeof(Telemetry),
                             .when_full = tcpip::WhenFull::kDropOldest,
                             .write_timeout = 2s}) {}

  void start() {
    server_.start();
    std::cout << "listening on " << server_.addresses().front().to_string()
              << std::endl;
  }

  // One period's work.
  void step() {
    queue_.run_pending();
    const double most =
        kConfig.speed * std::chrono::duration<double>(kPeriod).count();
    angle_ += std::clamp(demand_ - angle_, -most, most);
    if (++periods_ % kPeriodsPerTelemetry == 0 && client_.connected()) {
      telemetry_.post_from(
          header<Telemetry>(FrameId::kTelemetry, ++sent_),
          Telemetry{.state = state_, .angle = angle_, .demand = demand_});
    }
  }

 private:
  void on_change(const tcpip::ConnectionEvent& event) {
    // Nobody is in command, or somebody new.
    state_ = State::kSafe;
    demand_ = angle_;
    client_ = event.connection;
    if (event.connected) {
      answer(client_, header<Config>(FrameId::kConfig, 1), kConfig);
    }
  }

  void on_command(const tcpip::Connection& client, const Command& command) {
    // This client has gone, and on_change() is told soon or was told already.
    if (!client.connected()) return;
    const Ack ack{.counter = command.counter, .result = obey(command)};
    answer(client, header<Ack>(FrameId::kAck, ++acks_), ack);
  }

  Result obey(const Command& command) {
    switch (command.id.value()) {
      case CommandId::kEnable:
        state_ = State::kEnabled;
        return Result::kDone;
      case CommandId::kMove:
        if (state_ != State::kEnabled) return Result::kNotEnabled;
        // Written so that NaN is out of range too.
        if (!(command.value >= kConfig.lowest &&
              command.value <= kConfig.highest)) {
          return Result::kOutOfRange;
        }
        demand_ = command.value;
        return Result::kDone;
      case CommandId::kStop:
        demand_ = angle_;
        return Result::kDone;
      case CommandId::kAlive:
        break;
    }
    return Result::kUnknown;
  }

  // Through the connection of the client that is meant, and without waiting.
  template <class Body>
  static void answer(const tcpip::Connection& client, const Header& header,
                     const Body& body) {
    if (client.send_from(header, body) == tcpip::SendResult::kBusy) {
      client.close();  // it does not read, and would miss an answer
    }
  }

  template <class Body>
  static Header header(FrameId id, std::uint32_t counter) {
    using std::chrono::nanoseconds;
    const auto now = std::chrono::duration_cast<nanoseconds>(
        std::chrono::system_clock::now().time_since_epoch());
    return {.id = id,
            .size = sizeof(Body),
            .counter = counter,
            .seconds = now / 1s,
            .nanoseconds = static_cast<std::uint32_t>((now % 1s).count())};
  }

  State state_ = State::kSafe;
  double angle_ = 0;
  double demand_ = 0;
  std::uint64_t periods_ = 0;
  std::uint32_t sent_ = 0;
  std::uint32_t acks_ = 0;
  tcpip::Connection client_;  // that of the last event
  // Last, and in this order: each uses those before it.
  tcpip::CallbackQueue queue_{kMaxCommands};
  tcpip::OneClientReadLoopServer server_;
  tcpip::SendQueue telemetry_;
};

}  // namespace

int main(int argc, char** argv) try {
  std::string host = "127.0.0.1";
  int port = 0;
  parse_options(argc, argv, {{"host", host}, {"port", port}});
  const SignalStop signals;
  const std::stop_token stop = signals.token();
  Rotator rotator(host, port);
  rotator.start();
  // The schedule is absolute: a late period does not make the next one late.
  // Periods that lie wholly in the past are left out.
  Clock::time_point due = Clock::now();
  while (!stop.stop_requested()) {
    due += kPeriod;
    std::this_thread::sleep_until(due);
    due += (Clock::now() - due) / kPeriod * kPeriod;
    rotator.step();
  }
  return 0;
} catch (const std::exception& e) {
  std::cerr << "command_telemetry_server: " << e.what() << std::endl;
  return 1;
}
