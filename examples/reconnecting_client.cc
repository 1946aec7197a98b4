// A client that stays connected to a controller, which may be restarted, hang,
// or lose its network: asks it for its position again and again, and shows what
// it says.
//
//   reconnecting_client [--host HOST] --port PORT
//                       [--period SECONDS] [--silence SECONDS]
//
// The two exchange JSON, one message a line (in Python: json.dumps(message) +
// "\r\n"). Each command has an id, and so has its answer; what has no id is the
// status, which the controller sends when it likes.
//
//   client:      {"id": 7, "command": "position"}
//   controller:  {"id": 7, "position": 12.5}
//   controller:  {"status": "tracking"}
//
// The client asks every PERIOD (1 s), and connects anew when nothing has come
// for SILENCE (5 s). Ends at Ctrl-C or SIGTERM.
#include "tcpip/reconnecting_client.h"

#include <chrono>
#include <exception>
#include <iostream>
#include <stop_token>
#include <string>

#include "examples/program.h"
#include "tcpip/callback_queue.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/json.h"
#include "tcpip/log.h"
#include "tcpip/pending_replies.h"
#include "tcpip/wait.h"

namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using Seconds = std::chrono::duration<double>;

// How long a command and its answer may take.
constexpr std::chrono::milliseconds kPatience = 1s;
// Python's json module writes NaN for a sensor that is broken.
constexpr tcpip::JsonOptions kJson{.allow_nan = true};

// Everything but read_one() runs in the main thread, callbacks too: no locks.
class DomeClient {
 public:
  DomeClient(const std::string& host, int port, Seconds silence)
      : client_(
            {.host = host,
             .port = port,
             .name = "dome",
             .log = tcpip::Log(tcpip::stderr_sink(), tcpip::LogLevel::kError),
             .callbacks = &queue_,
             .connect_callback =
                 [this](const tcpip::ConnectionEvent& event) {
                   on_change(event);
                 }},
            [this](tcpip::Connection& server, std::stop_token stop) {
              read_one(server, stop);
            },
            {.silence_timeout =
                 std::chrono::duration_cast<std::chrono::milliseconds>(silence),
             .longest = 2s}) {}

  // Until the stop.
  void run(Seconds period, std::stop_token stop) {
    client_.start();
    while (!stop.stop_requested()) {
      queue_.run_until({period, stop});  // shows what comes meanwhile
      if (server_.connected()) ask("position", stop);
    }
    client_.close();
  }

 private:
  void ask(const std::string& command, std::stop_token stop) {
    const tcpip::Wait wait(kPatience, stop);
    const int id = ++last_id_;
    std::cout << "#" << id << " " << command << ": ";
    try {
      auto answer = replies_.expect(server_, id);
      tcpip::write_json(server_, {{"id", id}, {"command", command}}, wait);
      std::cout << answer.wait(wait) << std::endl;
    } catch (const tcpip::Error& e) {
      // No answer in time, or the connection is lost. The command may have been
      // obeyed all the same: a command that moves something is not repeated
      // without asking where things are.
      std::cout << e.what() << std::endl;
    } catch (const tcpip::CancelledError&) {
      std::cout << "interrupted" << std::endl;
    }
  }

  // Called again and again in a thread of the client. What it throws, because
  // the controller talks nonsense, ends the connection; the next one is made.
  void read_one(const tcpip::Connection& server, std::stop_token stop) {
    const json message = tcpip::read_json(server, kJson, stop);
    const bool is_answer = message.contains("id");
    if (is_answer && replies_.fulfil(server, message.at("id"), message)) return;
    server.post_wait([message, is_answer] {
      std::cout << (is_answer ? "too late: " : "status: ") << message
                << std::endl;
    });
  }

  void on_change(const tcpip::ConnectionEvent& event) {
    server_ = event.connection;
    if (event.connected) {
      std::cout << "connected to "
                << event.connection.peer_address().to_string() << std::endl;
    } else {
      std::cout << to_string(event.reason);
      if (event.error) std::cout << ": " << event.error.message();
      std::cout << std::endl;
    }
  }

  int last_id_ = 0;
  tcpip::Connection server_;  // that of the last event
  tcpip::PendingReplies<int, json> replies_;
  // Last, and in this order: as long as the client lives it uses the queue, and
  // its handler and callback use the rest.
  tcpip::CallbackQueue queue_;
  tcpip::ReconnectingClient client_;
};

}  // namespace

int main(int argc, char** argv) try {
  std::string host = "127.0.0.1";
  int port = 0;
  double period = 1;
  double silence = 5;
  examples::parse_options(argc, argv,
                          {{"host", host},
                           {"port", port},
                           {"period", period},
                           {"silence", silence}});
  const examples::SignalStop signals;
  DomeClient client(host, port, Seconds(silence));
  client.run(Seconds(period), signals.token());
  return 0;
} catch (const std::exception& e) {
  std::cerr << "reconnecting_client: " << e.what() << std::endl;
  return 1;
}
