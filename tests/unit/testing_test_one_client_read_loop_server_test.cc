#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>

#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/log_recorder.h"
#include "tcpip/testing/test_one_client_read_loop_server.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/thread_hook.h"
#include "tests/support/blocked_call.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip::Client;
using tcpip::DisconnectReason;
using Reply = TestOneClientReadLoopServer::Reply;

class TestingReadLoopServerTest : public testing::Test {
 protected:
  void start(Reply reply = Reply::kNone) {
    server.emplace(TestOneClientReadLoopServer::Options{.host = "127.0.0.1",
                                                        .name = "test",
                                                        .log = lines.log(),
                                                        .connect_callback =
                                                            events.callback()},
                   reply);
    server->start();
  }
  std::unique_ptr<Client> connect() {
    const std::uint64_t before = server->connection_count();
    auto client = std::make_unique<Client>(
        tcpip::ClientOptions{.host = "127.0.0.1", .port = server->port()});
    client->start(kPatience);
    EXPECT_TRUE(
        wait_until([&] { return server->connection_count() > before; }));
    return client;
  }

  tcpip_testing::LogRecorder lines;
  ConnectionEvents events;
  std::optional<TestOneClientReadLoopServer> server;
};

TEST_F(TestingReadLoopServerTest, KeepsMessagesInTheirOrder) {
  start();
  const auto client = connect();
  for (const std::string text : {"one", "", "grüß dich"}) {
    client->write_str(text, kPatience);
  }
  EXPECT_EQ(server->get_next_data(), "one");
  EXPECT_EQ(server->get_next_data(), "");
  EXPECT_EQ(server->get_next_data(), "grüß dich");
  EXPECT_EQ(server->data_count(), 0u);
}

TEST_F(TestingReadLoopServerTest, SendsNothingUnlessAskedTo) {
  start();
  const auto client = connect();
  client->write_str("hello", kPatience);
  EXPECT_EQ(server->get_next_data(), "hello");
  server->server().write_str("from the test", kPatience);
  EXPECT_EQ(client->read_str(kPatience), "from the test");
}

TEST_F(TestingReadLoopServerTest, EchoesWhenAskedTo) {
  start(Reply::kEcho);
  const auto client = connect();
  client->write_str("hello", kPatience);
  EXPECT_EQ(client->read_str(kPatience), "hello");
  EXPECT_EQ(server->get_next_data(), "hello");
}

TEST_F(TestingReadLoopServerTest, GetNextDataWaits) {
  start();
  const auto client = connect();
  tcpip_tests::BlockedCall call([&] { return server->get_next_data(); });
  ASSERT_TRUE(call.await_blocked());
  client->write_str("late", kPatience);
  EXPECT_EQ(call.get(), "late");
}

TEST_F(TestingReadLoopServerTest, GetNextDataThrowsAsTheLibraryDoes) {
  start();
  EXPECT_THROW(server->get_next_data(tcpip::Wait::none()), tcpip::TimeoutError);
  EXPECT_THROW(server->get_next_data(1ms), tcpip::TimeoutError);
  std::stop_source stop;
  tcpip_tests::BlockedCall call(
      [&] { return server->get_next_data(stop.get_token()); });
  ASSERT_TRUE(call.await_blocked());
  stop.request_stop();
  EXPECT_THROW(call.get(), tcpip::CancelledError);
}

TEST_F(TestingReadLoopServerTest, CloseWakesGetNextDataAndKeepsWhatIsThere) {
  start();
  const auto client = connect();
  client->write_str("last", kPatience);
  ASSERT_TRUE(wait_until([&] { return server->data_count() == 1; }));
  server->close();
  EXPECT_EQ(server->get_next_data(), "last");
  EXPECT_THROW(server->get_next_data(), tcpip::CancelledError);

  start();
  tcpip_tests::BlockedCall call(
      [&] { return server->get_next_data(tcpip::Wait()); });
  ASSERT_TRUE(call.await_blocked());
  server->close();
  EXPECT_THROW(call.get(), tcpip::CancelledError);
}

TEST_F(TestingReadLoopServerTest, FailNextReadIsLoggedAndDropsTheClient) {
  start(Reply::kEcho);
  auto client = connect();
  events.assert_next_connected(true);
  client->write_str("good", kPatience);
  EXPECT_EQ(client->read_str(kPatience), "good");
  // The handler is waiting for the next message by now, or soon.
  server->fail_next_read();
  client->write_str("bad", kPatience);
  events.assert_next_disconnected(DisconnectReason::kHandlerFailed);
  EXPECT_THROW(client->read_str(kPatience), tcpip::ConnectionError);
  EXPECT_EQ(lines.count("read handler failed: fail_next_read()"), 1u)
      << lines.text();

  // Once only, and the server goes on.
  client = connect();
  events.assert_next_connected(true);
  client->write_str("good again", kPatience);
  EXPECT_EQ(client->read_str(kPatience), "good again");
  EXPECT_EQ(server->get_next_data(), "good");
  EXPECT_EQ(server->get_next_data(), "bad") << "delivered, as in Python";
  EXPECT_EQ(server->get_next_data(), "good again");
}

TEST_F(TestingReadLoopServerTest, CallbackIsToldOfItsClients) {
  TestOneClientReadLoopServer other(
      {.host = "127.0.0.1", .connect_callback = events.callback()});
  other.start();
  Client client({.host = "127.0.0.1", .port = other.port()});
  client.start(kPatience);
  EXPECT_TRUE(other.wait_connected());
  EXPECT_TRUE(other.connected());
  EXPECT_TRUE(events.assert_next_connected(true).connection ==
              other.connection());
  other.close_client();
  events.assert_next_disconnected(DisconnectReason::kClosedHere);
  EXPECT_FALSE(other.connected());
}

TEST_F(TestingReadLoopServerTest, OptionsReachTheServer) {
  std::atomic<int> threads{0};
  TestOneClientReadLoopServer other(
      {.host = "127.0.0.1",
       .name = "Commands",
       .terminator = ";",
       .limit = 5,
       .thread_start_hook = [&](tcpip::ThreadRole) { ++threads; }});
  other.start();
  EXPECT_EQ(other.server().host(), "127.0.0.1");
  EXPECT_EQ(other.server().name(), "Commands");
  EXPECT_EQ(other.server().terminator(), ";");
  Client client({.host = "127.0.0.1", .port = other.port()});
  client.start(kPatience);
  client.write("a;b;123456;", kPatience);
  EXPECT_EQ(other.get_next_data(), "a");
  EXPECT_EQ(other.get_next_data(), "b");
  EXPECT_THROW(client.read_exactly(1, kPatience), tcpip::ConnectionError);
  other.close();
  EXPECT_GT(threads, 0);
  EXPECT_THROW(TestOneClientReadLoopServer({.port = -1}),
               std::invalid_argument);
}

}  // namespace
}  // namespace tcpip_testing
