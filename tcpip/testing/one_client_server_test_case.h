// A GoogleTest fixture for tests of servers: makes servers and clients on free
// ports and collects their connection events; the counterpart of
// lsst.ts.tcpip's class of that name.
//
//   using DomeTest = tcpip_testing::BaseOneClientServerTestCase<Dome>;
//
//   TEST_F(DomeTest, ClosesItsShutterWhenTheClientHasGone) {
//     Dome& dome = create_server();
//     tcpip::Client& client = create_client(dome);
//     assert_next_connected(true);
//     client.write_str("open");
//     EXPECT_EQ(client.read_str(5s), "ok");
//     client.close();
//     assert_next_connected(false);
//     EXPECT_FALSE(dome.is_open());
//   }
//
// `Server` is tcpip::OneClientServer, tcpip::OneClientReadLoopServer,
// TestOneClientReadLoopServer, or a class of yours: see TestableServer and
// TestableServerOptions for what it must have. `Options` is Server::Options
// where there is such a type, else tcpip::ServerOptions.
//
// What the callbacks and handlers of servers and clients refer to must outlive
// the body of the test, because they do: make it a member of your fixture; or
// call close_all() at the end of the body.
//
// The assertions report a fatal failure at the caller's line and end the test
// from any depth of calls (see assertion.h); so does create_client().
//
// Threads: for the thread that runs the test.
#ifndef TCPIP_TESTING_ONE_CLIENT_SERVER_TEST_CASE_H_
#define TCPIP_TESTING_ONE_CLIENT_SERVER_TEST_CASE_H_

#include "tcpip/version.h"

#include <gtest/gtest.h>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/connection_event.h"
#include "tcpip/constants.h"
#include "tcpip/one_client_server.h"
#include "tcpip/options.h"
#include "tcpip/testing/assertion.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/wait.h"

namespace tcpip_testing {

// What the fixture calls. port() is the one to connect to once start() has
// returned; start() is given a tcpip::Wait if it takes one. connected() is true
// while a client is. A connection_count(), if there is one, is
// OneClientServer's. The destructor closes too.
template <class Server>
concept TestableServer = requires(Server& server) {
  server.start();
  { server.port() } -> std::convertible_to<int>;
  { server.connected() } -> std::convertible_to<bool>;
  server.close();
};

// What the fixture fills in: `host` is a std::string or an optional one,
// `connect_callback` a std::function whose last parameter is a
// const tcpip::ConnectionEvent&, which the server is to call for each change.
template <class Options>
concept TestableServerOptions = requires(Options& options) {
  options.host = tcpip::kDefaultLocalhost;
  options.port = 0;
  static_cast<bool>(options.connect_callback);
};

namespace internal {

template <class Server>
struct OptionsOf {
  using Type = tcpip::ServerOptions;
};
template <class Server>
requires requires { typename Server::Options; }
struct OptionsOf<Server> {
  using Type = typename Server::Options;
};

inline std::string host_given(const std::string& host) { return host; }
inline std::string host_given(const std::optional<std::string>& host) {
  return host.value_or("");
}

}  // namespace internal

template <class Server,
          class Options = typename internal::OptionsOf<Server>::Type>
class TCPIP_EXPORT BaseOneClientServerTestCase : public ::testing::Test {
  static_assert(TestableServer<Server>,
                "The server needs start(), port(), connected() and close(); "
                "see TestableServer.");
  static_assert(TestableServerOptions<Options>,
                "The server's options need host, port and connect_callback; "
                "see TestableServerOptions.");

 protected:
  // --- Servers ---

  // Makes a server from the options and whatever further arguments its
  // constructor takes, and starts it: on 127.0.0.1 unless a host is given, on a
  // free port whatever port is given. Its events are recorded; then the
  // connect_callback given is called, if there is one. If the options say that
  // a program's queue runs callbacks, events are recorded when it does.
  //
  // The server lives until the end of the test or close_all(). Throws what its
  // constructor and start() do.
  template <class... Arguments>
  Server& create_server(Options options = {}, Arguments&&... arguments) {
    static_assert(std::constructible_from<Server, Options, Arguments...>,
                  "The server is not constructible from its options and these "
                  "arguments.");
    ServerEntry entry;
    entry.host = internal::host_given(options.host);
    if (is_absent(options.host)) options.host = tcpip::kDefaultLocalhost;
    if (entry.host.empty()) entry.host = tcpip::kDefaultLocalhost;
    options.port = 0;
    options.connect_callback =
        entry.events.callback(std::move(options.connect_callback));
    entry.server = std::make_unique<Server>(
        std::move(options), std::forward<Arguments>(arguments)...);
    if constexpr (requires { entry.server->start(tcpip::Wait(kPatience)); }) {
      entry.server->start(tcpip::Wait(kPatience));
    } else {
      entry.server->start();
    }
    servers_.push_back(std::move(entry));
    return *servers_.back().server;
  }

  // --- Clients ---

  // Makes a client and connects it to the server; to another host or port if
  // the options say so. Waits until the server has taken it, unless told not
  // to: without, a server that turns it away is no failure here. (A class of
  // yours without connection_count(): until it is connected().)
  //
  // The client lives until the end of the test or close_all(). Throws what
  // Client's constructor and start() do.
  tcpip::Client& create_client(Server& server,
                               tcpip::ClientOptions options = {},
                               bool wait_connected = true,
                               std::chrono::milliseconds patience = kPatience,
                               Caller caller = Caller::here()) {
    if (!options.host) options.host = entry_of(server).host;
    if (options.port == 0) options.port = server.port();
    const std::uint64_t before = count_of(server);
    tcpip::Client& client = add_client(std::move(options), patience);
    const auto has_taken_it = [&] {
      return has_connection_count() ? count_of(server) > before
                                    : static_cast<bool>(server.connected());
    };
    if (wait_connected && !wait_until(has_taken_it, patience)) {
      fail_test("the server does not take the client; does it serve another?",
                caller);
    }
    return client;
  }
  // The same to whatever listens on that port.
  tcpip::Client& create_client(int port, tcpip::ClientOptions options = {},
                               std::chrono::milliseconds patience = kPatience) {
    if (!options.host) options.host = tcpip::kDefaultLocalhost;
    options.port = port;
    return add_client(std::move(options), patience);
  }

  // --- Connection events ---
  //
  // Those of the server that was created last; see connection_events.h for what
  // each does and when it fails the test. Throw std::logic_error if there is no
  // server.

  tcpip::ConnectionEvent assert_next_connected(
      bool connected, const tcpip::Wait& wait = kPatience,
      Caller caller = Caller::here()) {
    return events().assert_next_connected(connected, wait, caller);
  }
  tcpip::ConnectionEvent assert_next_disconnected(
      tcpip::DisconnectReason reason, const tcpip::Wait& wait = kPatience,
      Caller caller = Caller::here()) {
    return events().assert_next_disconnected(reason, wait, caller);
  }
  void assert_no_event(const tcpip::Wait& wait = tcpip::Wait::none(),
                       Caller caller = Caller::here()) {
    events().assert_none(wait, caller);
  }
  tcpip::ConnectionEvent next_event(const tcpip::Wait& wait = kPatience) {
    return events().next(wait);
  }

  // Those of one of several servers, and of a client:
  //   events_of(client).assert_next_connected(true);
  // Throw std::logic_error if it is none of this fixture's.
  ConnectionEvents events_of(const Server& server) const {
    return entry_of(server).events;
  }
  ConnectionEvents events_of(const tcpip::Client& client) const {
    for (const ClientEntry& entry : clients_) {
      if (entry.client.get() == &client) return entry.events;
    }
    throw std::logic_error("the client was not made by create_client()");
  }

  // --- The end ---

  // Closes and destroys the clients, then the servers, the last one first. The
  // references that create_... returned are no longer valid.
  void close_all() {
    while (!clients_.empty()) {
      clients_.back().client->close();
      clients_.pop_back();
    }
    while (!servers_.empty()) {
      servers_.back().server->close();
      servers_.pop_back();
    }
  }

  // close_all(). If you override it, call it: when the destructor does its
  // work, members of your fixture that callbacks refer to are gone.
  void TearDown() override { close_all(); }

 private:
  struct ServerEntry {
    ConnectionEvents events;
    std::string host;  // for clients
    std::unique_ptr<Server> server;
  };
  struct ClientEntry {
    ConnectionEvents events;
    std::unique_ptr<tcpip::Client> client;
  };

  template <class Host>
  static bool is_absent(const Host& host) {
    if constexpr (requires { host.has_value(); }) {
      return !host.has_value();
    } else {
      return host.empty();
    }
  }

  static constexpr bool has_connection_count() {
    return requires(Server & server) { server.connection_count(); };
  }
  static std::uint64_t count_of(Server& server) {
    if constexpr (has_connection_count()) {
      return server.connection_count();
    } else {
      return 0;
    }
  }

  const ServerEntry& entry_of(const Server& server) const {
    for (const ServerEntry& entry : servers_) {
      if (entry.server.get() == &server) return entry;
    }
    throw std::logic_error("the server was not made by create_server()");
  }

  ConnectionEvents events() const {
    if (servers_.empty()) {
      throw std::logic_error("there is no server; call create_server() first");
    }
    return servers_.back().events;
  }

  tcpip::Client& add_client(tcpip::ClientOptions options,
                            std::chrono::milliseconds patience) {
    ClientEntry entry;
    options.connect_callback =
        entry.events.callback(std::move(options.connect_callback));
    entry.client = std::make_unique<tcpip::Client>(std::move(options));
    entry.client->start(patience);
    clients_.push_back(std::move(entry));
    return *clients_.back().client;
  }

  // In this order: the clients are destroyed first.
  std::vector<ServerEntry> servers_;
  std::vector<ClientEntry> clients_;
};

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_ONE_CLIENT_SERVER_TEST_CASE_H_
