// The stage of tests of servers and clients: a started server or client of the
// library, bare sockets for peers, and what it has told, in the recorders of
// the public kit.
//
//   ServerStage<> server;
//   const UniqueFd peer = server.connect();
//   server->close_client();
//   ASSERT_TRUE(server.events.wait_for(2));
//   EXPECT_EQ(server.events.text(), "connected 1, closed here 1");
//
// The kit's fixture has clients of the library and one server a test; this has
// peers that do what no client of the library does, and as many servers as a
// test wants, one after the other. If the options have a connect_callback, it
// is called after the event has been recorded.
//
// Threads: for the thread that runs the test. What the callbacks and handlers
// use must outlive the stage.
#ifndef TESTS_SUPPORT_STAGE_H_
#define TESTS_SUPPORT_STAGE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "tcpip/callback_queue.h"
#include "tcpip/client.h"
#include "tcpip/log.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/options.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/log_recorder.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/unique_fd.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"

namespace tcpip_tests {

using tcpip_testing::ConnectionEvents;
using tcpip_testing::LogRecorder;

// Says that callbacks run when the test drains `queue`. An event is queued
// together with the change that it tells of: so drained_text() after a change
// of connected() has it, and nothing has to be waited for. That is connected()
// of the client or server; a Connection may say so a moment earlier.
struct Queued {};

// What every stage has. It outlives the server or client.
class StageBase {
 public:
  // Runs what is queued; then the summary of all events.
  std::string drained_text() {
    queue.run_pending();
    return events.text();
  }

  const HangGuard guard;
  const LogRecorder lines;
  const ConnectionEvents events;
  tcpip::CallbackQueue queue;  // used with Queued only

 protected:
  // On this machine and with the log recorded, unless they say otherwise.
  template <class Options>
  Options recorded(Options options) const {
    if (!options.host) options.host = "127.0.0.1";
    if (!options.log.is_enabled(tcpip::LogLevel::kError)) {
      options.log = lines.log();  // there is none
    }
    options.connect_callback =
        events.callback(std::move(options.connect_callback));
    return options;
  }
  template <class Options>
  Options recorded(Queued, Options options) {
    options.callbacks = &queue;
    return recorded(std::move(options));
  }
};

// A started server.
template <class ServerClass = tcpip::OneClientServer>
class ServerStage : public StageBase {
 public:
  ServerStage() : ServerStage(tcpip::ServerOptions()) {}
  // `arguments` are what the class's constructor takes beside the options.
  template <class... Arguments>
  explicit ServerStage(tcpip::ServerOptions options, Arguments&&... arguments)
      : server(std::in_place, recorded(std::move(options)),
               std::forward<Arguments>(arguments)...) {
    server->start(kPatience);
  }
  template <class... Arguments>
  explicit ServerStage(Queued, tcpip::ServerOptions options,
                       Arguments&&... arguments)
      : server(std::in_place, recorded(Queued(), std::move(options)),
               std::forward<Arguments>(arguments)...) {
    server->start(kPatience);
  }

  ServerClass& operator*() { return *server; }
  ServerClass* operator->() { return &*server; }

  // A client that the server has accepted, not rejected.
  [[nodiscard]] tcpip::UniqueFd connect() {
    const std::uint64_t before = server->connection_count();
    tcpip::UniqueFd peer = connect_to(server->port());
    EXPECT_TRUE(eventually([&] { return server->connection_count() > before; }))
        << "not accepted\n"
        << lines.text();
    return peer;
  }

  std::optional<ServerClass> server;
};

// A started read-loop server.
class ReadLoopStage : public ServerStage<tcpip::OneClientReadLoopServer> {
 public:
  using Handler = tcpip::OneClientReadLoopServer::ReadHandler;

  explicit ReadLoopStage(Handler handler, tcpip::ServerOptions options = {})
      : ServerStage(std::move(options), std::move(handler)) {}
  ReadLoopStage(Queued, Handler handler, tcpip::ServerOptions options = {})
      : ServerStage(Queued(), std::move(options), std::move(handler)) {}
};

// A started server and the client that it serves.
class ServedStage : public ServerStage<tcpip::OneClientServer> {
 public:
  explicit ServedStage(tcpip::ServerOptions options = {})
      : ServerStage(std::move(options)) {
    reconnect();
  }
  explicit ServedStage(Queued, tcpip::ServerOptions options = {})
      : ServerStage(Queued(), std::move(options)) {
    reconnect();
  }

  // The next client, when the server has let go of the last one.
  void reconnect() { peer = connect(); }
  void reconnect_after_close() {
    server->close_client();
    reconnect();
  }

  tcpip::UniqueFd peer;
};

// A started client and the server's end of its connection.
class ClientStage : public StageBase {
 public:
  explicit ClientStage(tcpip::ClientOptions options = {})
      : client(std::in_place, recorded(at_listener(std::move(options)))) {
    client->start(kPatience);
    peer = accept_one(listener);
  }

  tcpip::Client& operator*() { return *client; }
  tcpip::Client* operator->() { return &*client; }

  const PlainListener listener = plain_listener(Transport::kIpv4);
  std::optional<tcpip::Client> client;
  tcpip::UniqueFd peer;

 private:
  tcpip::ClientOptions at_listener(tcpip::ClientOptions options) const {
    options.port = listener.port;
    return options;
  }
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_STAGE_H_
