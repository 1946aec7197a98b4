// A control loop with a TCP port: 100 times a second, in the main thread and at
// exact points in time, it takes commands, moves a (simulated) axis and sends
// telemetry. Whatever clients do, it never waits for one.
//
//   control_loop [--host HOST] [--port PORT] [--seconds N]
//
// Try it with `nc 127.0.0.1 PORT`. Commands are lines of text:
//
//   move POSITION
//   stop
//
// Each is answered by "ok" or "error ..."; in between come lines such as
// "position 1.25 demand 2.00". Ends after N seconds, at Ctrl-C or SIGTERM, and
// tells how late the loop ever was.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <limits>
#include <sstream>
#include <stop_token>
#include <string>
#include <thread>

#include "examples/program.h"
#include "tcpip/callback_queue.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/wait.h"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr Clock::duration kPeriod = 10ms;
// Commands that wait for the loop. When there are more, the reading thread
// waits for room and TCP slows the client down, so that a flood of commands
// costs a period no more time than this many.
constexpr std::size_t kMaxCommands = 16;
// A client that takes no telemetry for so long has to make way for another.
constexpr Clock::duration kMaxStall = 2s;

// Everything here runs in the loop's thread, callbacks too: no locks.
class Controller {
 public:
  Controller(const std::string& host, int port)
      : server_(
            {.host = host,
             .port = port,
             .name = "control",
             .log = tcpip::Log(tcpip::stderr_sink(), tcpip::LogLevel::kWarning),
             .callbacks = &queue_,
             .connect_callback =
                 [this](const tcpip::ConnectionEvent& event) {
                   on_change(event);
                 },
             // A "\r" before it is one more blank to on_command().
             .terminator = "\n",
             // A command longer than this ends the connection.
             .limit = 1024,
             // A small buffer, so that old telemetry does not pile up in it.
             .socket = {.send_buffer = 8 * 1024}},
            [this](tcpip::Connection& client, std::stop_token stop) {
              // The one thing that runs in another thread, the server's.
              const std::string line = client.read_str(stop);
              client.post_wait([=, this] { on_command(client, line); });
            }) {}

  void start() {
    server_.start();
    std::cout << "listening on " << server_.addresses().front().to_string()
              << std::endl;
  }

  // One period's work.
  void step() {
    queue_.run_pending();
    const double way = demand_ - position_;
    position_ += std::clamp(way, -kStep, kStep);
    std::ostringstream text;
    text << "position " << position_ << " demand " << demand_;
    send_telemetry(text.str());
  }

  std::uint64_t clients() const { return server_.connection_count(); }

 private:
  static constexpr double kStep = 0.05;

  void on_change(const tcpip::ConnectionEvent& event) {
    if (event.connected) {
      client_ = event.connection;
      last_sent_ = Clock::now();
    } else {
      // What to do when nobody is in command; here: stand still.
      demand_ = position_;
    }
  }

  void on_command(const tcpip::Connection& client, const std::string& line) {
    // on_change() may have been told already that this client has gone.
    if (!client.connected()) return;
    std::istringstream words(line);
    std::string verb;
    double position = 0;
    words >> verb;
    if (verb == "stop") {
      demand_ = position_;
      answer(client, "ok");
    } else if (verb == "move" && words >> position) {
      demand_ = position;
      answer(client, "ok");
    } else {
      answer(client, "error unknown command: " + verb);
    }
  }

  // Never waits: what the client's side does not take is sent later.
  static void answer(const tcpip::Connection& client, const std::string& text) {
    // If it says kBusy, the client has not read its answers for a while; if it
    // says kNotConnected, on_change() is told.
    client.send_str(text);
  }

  // Never waits either, but drops what would be out of date.
  void send_telemetry(const std::string& text) {
    if (client_.try_send_str(text) != tcpip::SendResult::kBusy) {
      last_sent_ = Clock::now();
    } else if (Clock::now() - last_sent_ > kMaxStall) {
      client_.close();
      server_.log().warning("the client took no telemetry, it has to go");
    }
  }

  tcpip::Connection client_;  // that of the last connected event
  Clock::time_point last_sent_;
  double position_ = 0;
  double demand_ = 0;
  // Last, and in this order: as long as the server lives it uses the queue, and
  // the callbacks use the rest.
  tcpip::CallbackQueue queue_{kMaxCommands};
  tcpip::OneClientReadLoopServer server_;
};

}  // namespace

int main(int argc, char** argv) try {
  std::string host = "127.0.0.1";
  int port = 0;
  double seconds = std::numeric_limits<double>::infinity();
  examples::parse_options(
      argc, argv, {{"host", host}, {"port", port}, {"seconds", seconds}});

  const examples::SignalStop signals;
  const std::stop_token stop = signals.token();
  Controller controller(host, port);
  controller.start();

  // The schedule is absolute: a late period does not make the next one late.
  const tcpip::Deadline end =
      tcpip::Deadline::after(std::chrono::duration<double>(seconds));
  long periods = 0;
  long missed = 0;
  Clock::duration worst{};
  Clock::time_point due = Clock::now();
  while (!end.has_passed() && !stop.stop_requested()) {
    due += kPeriod;
    std::this_thread::sleep_until(due);
    const Clock::duration late = Clock::now() - due;
    worst = std::max(worst, late);
    ++periods;
    // Those that lie wholly in the past are left out, not made up for in haste.
    const auto lost = late / kPeriod;
    missed += lost;
    due += lost * kPeriod;
    controller.step();
  }
  std::cout << "periods " << periods << " missed " << missed << " clients "
            << controller.clients() << " worst lateness "
            << std::chrono::duration<double, std::milli>(worst).count() << " ms"
            << std::endl;
  return 0;
} catch (const std::exception& e) {
  std::cerr << "control_loop: " << e.what() << std::endl;
  return 1;
}
