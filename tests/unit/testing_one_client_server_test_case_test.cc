#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>

#include "tcpip/callback_queue.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/testing/one_client_server_test_case.h"
#include "tcpip/testing/test_one_client_read_loop_server.h"
#include "tests/support/failures.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip::Client;
using tcpip::ConnectionEvent;
using tcpip::DisconnectReason;
using tcpip::OneClientReadLoopServer;
using tcpip::OneClientServer;
using tcpip_tests::Failures;
using tcpip_tests::failures_of;
using tcpip_tests::is_one_fatal;

// --- With OneClientServer ---

using TestCaseTest = BaseOneClientServerTestCase<OneClientServer>;

TEST_F(TestCaseTest, MakesAStartedServerOnAFreePort) {
  OneClientServer& server = create_server();
  EXPECT_GT(server.port(), 0);
  EXPECT_EQ(server.host(), "127.0.0.1");
  EXPECT_FALSE(server.connected());
  assert_no_event();
}

TEST_F(TestCaseTest, ClientIsConnectedAtBothEnds) {
  OneClientServer& server = create_server({.name = "server"});
  Client& client = create_client(server, {.name = "client"});
  EXPECT_TRUE(server.connected());
  EXPECT_TRUE(client.connected());
  EXPECT_EQ(server.name(), "server");
  EXPECT_EQ(client.name(), "client");
  client.write_str("hello", kPatience);
  EXPECT_EQ(server.read_str(kPatience), "hello");
}

TEST_F(TestCaseTest, TellsWhatTheServerWasTold) {
  OneClientServer& server = create_server();
  Client& client = create_client(server);
  EXPECT_EQ(assert_next_connected(true).connection.number(), 1u);
  client.close();
  assert_next_connected(false);
  create_client(server);
  EXPECT_EQ(next_event().connection.number(), 2u);
  server.close_client();
  assert_next_disconnected(DisconnectReason::kClosedHere);
  assert_no_event();
}

TEST_F(TestCaseTest, TellsWhatEachClientWasTold) {
  OneClientServer& server = create_server();
  Client& first = create_client(server);
  events_of(first).assert_next_connected(true);
  server.close_client();
  events_of(first).assert_next_disconnected(DisconnectReason::kPeerClosed);
  Client& second = create_client(server);
  events_of(second).assert_next_connected(true);
  events_of(first).assert_none();
}

TEST_F(TestCaseTest, AssertNextConnectedFailsAtAMismatch) {
  create_client(create_server());
  int line = 0;
  const Failures failures = failures_of([&] {
    line = __LINE__ + 1;
    assert_next_connected(false);
  });
  EXPECT_TRUE(
      is_one_fatal(failures, "event is: connected, connection 1 with "));
  EXPECT_EQ(failures.line, line);
}

TEST_F(TestCaseTest, AssertNextConnectedFailsIfNoneComesInTime) {
  create_server();
  EXPECT_TRUE(
      is_one_fatal(failures_of([&] { assert_next_connected(true, 1ms); }),
                   "no connection event in time; expected: connected"));
}

TEST_F(TestCaseTest, OtherAssertionsFailToo) {
  create_client(create_server());
  EXPECT_TRUE(is_one_fatal(failures_of([&] { assert_no_event(kPatience); }),
                           "expected no connection event"));
  EXPECT_TRUE(is_one_fatal(failures_of([&] {
                             assert_next_disconnected(DisconnectReason::kReset,
                                                      1ms);
                           }),
                           "no connection event in time"));
  EXPECT_THROW(next_event(1ms), tcpip::TimeoutError);
}

TEST_F(TestCaseTest, AssertionsWithoutAServerAreMisuse) {
  EXPECT_THROW(assert_next_connected(true), std::logic_error);
  EXPECT_THROW(assert_no_event(), std::logic_error);
  EXPECT_THROW(next_event(), std::logic_error);
  OneClientServer server({.host = "127.0.0.1"});
  EXPECT_THROW(events_of(server), std::logic_error);
  Client client({});
  EXPECT_THROW(events_of(client), std::logic_error);
}

TEST_F(TestCaseTest, ClientThatIsTurnedAway) {
  OneClientServer& server = create_server();
  create_client(server);
  Client& second = create_client(server, {}, false);
  events_of(second).assert_next_connected(true);
  events_of(second).assert_next_disconnected(DisconnectReason::kPeerClosed);
  assert_next_connected(true);
  assert_no_event();
}

TEST_F(TestCaseTest, CreateClientFailsIfTheServerServesAnother) {
  OneClientServer& server = create_server();
  Client& first = create_client(server);
  int line = 0;
  const Failures failures = failures_of([&] {
    line = __LINE__ + 1;
    create_client(server, {}, true, 5ms);
  });
  EXPECT_TRUE(is_one_fatal(failures, "the server does not take the client"));
  EXPECT_EQ(failures.line, line);
  EXPECT_TRUE(first.connected());
}

TEST_F(TestCaseTest, ClientOfAPort) {
  OneClientServer& server = create_server();
  Client& client = create_client(server.port());
  assert_next_connected(true);
  EXPECT_TRUE(client.connected());
  const int port = server.port();
  server.close();
  EXPECT_THROW(create_client(port), tcpip::ConnectionRefusedError);
}

// What outlives the test's body is a member of the fixture.
class TestCaseMembersTest : public TestCaseTest {
 protected:
  std::atomic<int> server_calls_{0};
  std::atomic<int> client_calls_{0};
  tcpip::CallbackQueue queue_;
};

TEST_F(TestCaseMembersTest, CallsTheCallbacksGivenAfterRecording) {
  OneClientServer& server =
      create_server({.connect_callback = [this](const ConnectionEvent&) {
        ++server_calls_;
      }});
  Client& client = create_client(
      server, {.connect_callback = [this](const ConnectionEvent&) {
        ++client_calls_;
      }});
  client.close();
  assert_next_connected(true);
  assert_next_connected(false);
  EXPECT_EQ(events_of(client).size(), 2u);
  EXPECT_EQ(client_calls_, 2);
  server.close();
  EXPECT_EQ(server_calls_, 2);
}

TEST_F(TestCaseMembersTest, QueueOfTheProgramsRecordsWhenItRuns) {
  create_client(create_server({.callbacks = &queue_}));
  assert_no_event();
  EXPECT_TRUE(queue_.run_one(kPatience));
  assert_next_connected(true);
}

TEST_F(TestCaseTest, HostThatIsGivenIsKeptAndPortIsNot) {
  OneClientServer& other = create_server();
  OneClientServer& server =
      create_server({.host = "::1", .port = other.port()});
  EXPECT_EQ(server.host(), "::1");
  EXPECT_NE(server.port(), 0);
  EXPECT_EQ(create_client(server).host(), "::1");

  OneClientServer& everywhere = create_server({.host = ""});
  EXPECT_EQ(everywhere.host(), "");
  EXPECT_EQ(create_client(everywhere).host(), "127.0.0.1");
}

TEST_F(TestCaseTest, SeveralServersHaveTheirOwnEvents) {
  OneClientServer& first = create_server();
  create_client(first);
  OneClientServer& second = create_server();
  EXPECT_NE(first.port(), second.port());
  assert_no_event();  // of the one made last
  create_client(second);
  assert_next_connected(true);
  first.close_client();
  events_of(first).assert_next_connected(true);
  events_of(first).assert_next_connected(false);
  assert_no_event();
}

TEST_F(TestCaseTest, CloseAllLeavesNothing) {
  OneClientServer& server = create_server();
  const int port = server.port();
  create_client(server);
  ConnectionEvents events = events_of(server);
  close_all();
  events.assert_next_connected(true);
  events.assert_next_connected(false);
  EXPECT_THROW(create_client(port), tcpip::ConnectionRefusedError);
  close_all();
  create_client(create_server());  // goes on from there
  assert_next_connected(true);
}

TEST_F(TestCaseTest, WhatCannotBeMadeThrowsAndLeavesNothing) {
  EXPECT_THROW(create_server({.limit = 0}), std::invalid_argument);
  EXPECT_THROW(create_server({.host = "192.0.2.1"}), tcpip::Error);
  EXPECT_THROW(assert_no_event(), std::logic_error);
  OneClientServer& server = create_server();
  EXPECT_THROW(create_client(server, {.limit = 0}), std::invalid_argument);
}

// --- The order at the end ---

class TestCaseEndTest : public TestCaseTest {
 protected:
  void TearDown() override {
    TestCaseTest::TearDown();
    // All have ended by now.
    EXPECT_EQ(server_events_->next(0ms).reason, DisconnectReason::kPeerClosed)
        << "the client is closed first";
  }
  std::optional<ConnectionEvents> server_events_;
};

TEST_F(TestCaseEndTest, ClosesClientsBeforeServers) {
  OneClientServer& server = create_server();
  server_events_ = events_of(server);
  // Its close() does not return before the server has noticed that it left.
  create_client(server, {.connect_callback = [events = *server_events_](
                                                 const ConnectionEvent& event) {
                  EXPECT_TRUE(event.connected || events.wait_for(1));
                }});
  assert_next_connected(true);
}

// --- With a read handler ---

using TestCaseReadLoopTest =
    BaseOneClientServerTestCase<OneClientReadLoopServer>;

TEST_F(TestCaseReadLoopTest, TakesTheHandlerAsAFurtherArgument) {
  OneClientReadLoopServer& server = create_server(
      {.name = "echo"}, [](tcpip::Connection& at, std::stop_token stop) {
        at.write_str(at.read_str(stop), stop);
      });
  Client& client = create_client(server);
  client.write_str("hello", kPatience);
  EXPECT_EQ(client.read_str(kPatience), "hello");
  assert_next_connected(true);
}

using TestCaseTestServerTest =
    BaseOneClientServerTestCase<TestOneClientReadLoopServer>;

TEST_F(TestCaseTestServerTest, ServesTheTestServer) {
  TestOneClientReadLoopServer& server =
      create_server({}, TestOneClientReadLoopServer::Reply::kEcho);
  Client& client = create_client(server);
  assert_next_connected(true);
  client.write_str("hello", kPatience);
  EXPECT_EQ(server.get_next_data(), "hello");
  EXPECT_EQ(client.read_str(kPatience), "hello");
  server.fail_next_read();
  client.write_str("again", kPatience);
  assert_next_connected(false);
}

// --- With a class of the user's ---

// As little as will do: no connection_count(), a callback without the server, a
// host that is a plain string.
class Lamp {
 public:
  struct Options {
    std::string host;
    int port = 4000;
    std::function<void(const ConnectionEvent&)> connect_callback;
  };
  Lamp(const Options& options, std::unique_ptr<int> watts)
      : watts_(std::move(watts)),
        server_({.host = options.host,
                 .port = options.port,
                 .connect_callback = [callback = options.connect_callback](
                                         const ConnectionEvent& event) {
                   callback(event);
                 }}) {}
  void start() { server_.start(); }
  int port() const { return server_.port(); }
  bool connected() const { return server_.connected(); }
  void close() { server_.close(); }
  int watts() const { return *watts_; }

 private:
  const std::unique_ptr<int> watts_;
  OneClientServer server_;
};

using TestCaseOwnServerTest = BaseOneClientServerTestCase<Lamp>;

TEST_F(TestCaseOwnServerTest, ServesAClassOfTheUsers) {
  Lamp& lamp = create_server({}, std::make_unique<int>(60));
  EXPECT_EQ(lamp.watts(), 60);
  Client& client = create_client(lamp);
  EXPECT_TRUE(lamp.connected());
  assert_next_connected(true);
  client.close();
  assert_next_connected(false);
}

struct OtherOptions : Lamp::Options {};
using TestCaseOtherOptionsTest =
    BaseOneClientServerTestCase<Lamp, OtherOptions>;

TEST_F(TestCaseOtherOptionsTest, TakesTheOptionsItIsToldTo) {
  create_client(create_server(OtherOptions(), std::make_unique<int>(1)));
  assert_next_connected(true);
}

// A server that never takes anybody.
class Deaf : public Lamp {
 public:
  explicit Deaf(const Options& options)
      : Lamp(options, std::make_unique<int>(0)) {}
  bool connected() const { return false; }
};

class TestCaseDeafTest : public BaseOneClientServerTestCase<Deaf> {};

TEST_F(TestCaseDeafTest, CreateClientFailsIfTheServerDoesNotTakeIt) {
  Deaf& deaf = create_server();
  EXPECT_TRUE(
      is_one_fatal(failures_of([&] { create_client(deaf, {}, true, 5ms); }),
                   "the server does not take the client"));
  EXPECT_TRUE(create_client(create_server(), {}, false).connected());
}

// --- What is not a server ---

struct NoPort {
  void start();
  bool connected();
  void close();
};
struct NoHost {
  int port;
  std::function<void(const ConnectionEvent&)> connect_callback;
};
static_assert(TestableServer<OneClientServer>);
static_assert(TestableServer<Lamp>);
static_assert(!TestableServer<NoPort>);
static_assert(TestableServerOptions<Lamp::Options>);
static_assert(TestableServerOptions<tcpip::ServerOptions>);
static_assert(!TestableServerOptions<NoHost>);

}  // namespace
}  // namespace tcpip_testing
