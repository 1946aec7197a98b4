// What Client and the servers have in common, tried on a OneClientServer, and
// on a Client where that might differ.
#include "tcpip/base_client_or_server.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <optional>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/log_recorder.h"
#include "tcpip/wire_struct.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::ConnectionEvents;
using tcpip_tests::connect_to;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;

// Its events wait in a queue until a test looks at them.
class Served : public tcpip_tests::ServedStage {
 public:
  explicit Served(ServerOptions options = {})
      : ServedStage(tcpip_tests::Queued(), named(std::move(options))) {}

 private:
  static ServerOptions named(ServerOptions options) {
    options.name = "Commands";
    return options;
  }
};

struct Call {
  const char* name;
  std::function<void(BaseClientOrServer&)> run;
};

struct Point {
  std::int32_t x;
  std::int32_t y;
};

std::vector<Call> transfers() {
  static std::array<std::byte, 4> out;
  static Point point{};
  return {
      {"read", [](auto& e) { e.read(1); }},
      {"read 0", [](auto& e) { e.read(0); }},
      {"read_all", [](auto& e) { e.read_all(); }},
      {"read_all of at most", [](auto& e) { e.read_all(1); }},
      {"read_exactly", [](auto& e) { e.read_exactly(4); }},
      {"read_exactly span", [](auto& e) { e.read_exactly(std::span(out)); }},
      {"read_line", [](auto& e) { e.read_line(); }},
      {"read_until", [](auto& e) { e.read_until(";"); }},
      {"read_until several",
       [](auto& e) {
         e.read_until({";", ","});
       }},
      {"read_str", [](auto& e) { e.read_str(); }},
      {"read_into", [](auto& e) { e.read_into(point); }},
      {"try_read", [](auto& e) { e.try_read(1); }},
      {"try_read_line", [](auto& e) { e.try_read_line(); }},
      {"try_read_until", [](auto& e) { e.try_read_until(";"); }},
      {"try_read_exactly", [](auto& e) { e.try_read_exactly(1); }},
      {"try_read_str", [](auto& e) { e.try_read_str(); }},
      {"wait_readable", [](auto& e) { e.wait_readable(); }},
      {"skip", [](auto& e) { e.skip(1); }},
      {"discard", [](auto& e) { e.discard(); }},
      {"discard_until", [](auto& e) { e.discard_until(";"); }},
      {"write", [](auto& e) { e.write("a"); }},
      {"write_lines",
       [](auto& e) {
         e.write_lines({"a", "b"});
       }},
      {"write_str", [](auto& e) { e.write_str("a"); }},
      {"write_from", [](auto& e) { e.write_from(point); }},
      {"drain", [](auto& e) { e.drain(); }},
  };
}

void expect_not_connected(BaseClientOrServer& endpoint) {
  for (const Call& call : transfers()) {
    try {
      call.run(endpoint);
      ADD_FAILURE() << call.name << " did not throw";
    } catch (const ConnectionError& e) {
      EXPECT_NE(std::string_view(e.what()).find("Not connected"),
                std::string_view::npos)
          << call.name << ": " << e.what();
      EXPECT_EQ(e.code(), std::errc::not_connected) << call.name;
    } catch (const std::exception& e) {
      ADD_FAILURE() << call.name << " threw another class: " << e.what();
    }
  }
  EXPECT_FALSE(endpoint.connected());
  EXPECT_TRUE(endpoint.peer_address().empty());
  EXPECT_EQ(endpoint.unsent(), 0u);
}

TEST(WithoutConnectionTest, EveryCallOfAServerSaysNotConnected) {
  const HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  expect_not_connected(server);
  server.start();
  expect_not_connected(server);
  server.close();
  expect_not_connected(server);
}

TEST(WithoutConnectionTest, EveryCallOfAClientSaysNotConnected) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  Client client({.host = "127.0.0.1", .port = listener.port});
  expect_not_connected(client);
  client.start(kPatience);
  client.close();
  expect_not_connected(client);
}

TEST(WithoutConnectionTest, EveryCallAfterCloseClientSaysNotConnected) {
  Served served;
  served.server->close_client();
  expect_not_connected(*served.server);
}

TEST(WithoutConnectionTest, BadTextIsRefusedFirst) {
  OneClientServer server({});
  EXPECT_THROW(server.write_str("\xff"), std::invalid_argument);
}

TEST(StateTest, NamesAndTextOptionsAreThoseGiven) {
  Client client({.name = "Dome", .log = {}, .terminator = ";"});
  EXPECT_EQ(client.name(), "Dome");
  EXPECT_EQ(client.terminator(), ";");
  EXPECT_EQ(client.encoding(), "utf-8");
  EXPECT_EQ(client.log().name(), "Dome");
  OneClientServer server({});
  EXPECT_EQ(server.name(), "");
  EXPECT_EQ(server.terminator(), "\r\n");
}

TEST(StateTest, LogIsAChildOfTheOneGiven) {
  const tcpip_testing::LogRecorder lines;
  OneClientServer server(
      {.name = "Dome", .log = Log(lines.log()).child("main")});
  EXPECT_EQ(server.log().name(), "main.Dome");
  server.log().info("hello");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines.values()[0].name, "main.Dome");
}

TEST(StateTest, PeerAddressIsTheOtherEnds) {
  Served served;
  EXPECT_EQ(served.server->peer_address().host(), "127.0.0.1");
  EXPECT_EQ(served.server->peer_address().port(),
            tcpip_tests::local_port(served.peer.get()));
  EXPECT_EQ(served.server->connection_count(), 1u);
}

TEST(StateTest, ErrorsNameTheEndpointOrThePeer) {
  Served served;
  const std::string peer = served.server->peer_address().to_string();
  try {
    served.server->read_str(0s);
    FAIL();
  } catch (const TimeoutError& e) {
    EXPECT_EQ(e.peer(), peer);
  }
  served.server->close_client();
  try {
    served.server->read_str(0s);
    FAIL();
  } catch (const ConnectionError& e) {
    EXPECT_EQ(e.peer(), "Commands");
    EXPECT_EQ(e.operation(), "read_str");
  }
}

TEST(StateTest, ConnectedUntilAllThatCameBeforeTheEndIsRead) {
  Served served;
  OneClientServer& server = *served.server;
  send_all(served.peer, "one\r\ntwo\r\n");
  tcpip_tests::half_close(served.peer);
  EXPECT_EQ(server.read_str(kPatience), "one");
  EXPECT_TRUE(server.connected());
  EXPECT_EQ(server.read_str(kPatience), "two");
  // The end may reach this machine's other socket a moment later.
  EXPECT_TRUE(eventually([&] { return !server.connected(); }));
  EXPECT_EQ(served.drained_text(), "connected 1, peer closed 1");
}

TEST(WaitConnectedTest, TrueOnceConnectedAndAtOnceIfSo) {
  tcpip_tests::ServerStage<> server;
  std::future<bool> waiting = std::async(
      std::launch::async, [&] { return server->wait_connected(kPatience); });
  const UniqueFd peer = connect_to(server->port());
  EXPECT_TRUE(waiting.get());
  EXPECT_TRUE(server->wait_connected(Wait::none()));
}

TEST(WaitConnectedTest, FalseAtTheDeadline) {
  tcpip_tests::ServerStage<> server;
  EXPECT_FALSE(server->wait_connected(10ms));
  EXPECT_FALSE(server->wait_connected(Wait::none()));
}

TEST(WaitConnectedTest, FalseIfClosedMeanwhile) {
  tcpip_tests::ServerStage<> server;
  std::atomic<pid_t> id{0};
  std::future<bool> waiting = std::async(std::launch::async, [&] {
    id = tcpip_tests::this_thread_id();
    return server->wait_connected();
  });
  ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  server->close();
  EXPECT_FALSE(waiting.get());
}

TEST(WaitConnectedTest, CancelledAtTheStop) {
  tcpip_tests::ServerStage<> server;
  std::stop_source stop;
  std::future<bool> waiting = std::async(std::launch::async, [&] {
    return server->wait_connected(stop.get_token());
  });
  stop.request_stop();
  EXPECT_THROW(waiting.get(), CancelledError);
}

// A program that faults when it "should be connected and is not" must not do so
// because the next client was quick.
TEST(ShouldBeConnectedTest, OfAnEventsConnectionIsFalseOnceThisSideEndedIt) {
  const HangGuard guard;
  CallbackQueue queue;
  std::vector<std::string> told;
  OneClientServer server(
      {.host = "127.0.0.1",
       .callbacks = &queue,
       .connect_callback = [&](const ConnectionEvent& e) {
         told.push_back(tcpip_testing::summary(e) +
                        (e.connection.should_be_connected() ? " should" : "") +
                        (e.connection.connected() ? " is" : ""));
       }});
  server.start();
  for (int i = 1; i <= 3; ++i) {
    const UniqueFd peer = connect_to(server.port());
    ASSERT_TRUE(eventually([&] { return server.connected(); }));
    if (i == 1) server.close_client();
    if (i == 2) server.basic_close_client();
    ASSERT_TRUE(eventually([&] { return i == 3 || !server.connected(); }));
  }
  ASSERT_TRUE(eventually([&] { return !server.connected(); }));
  queue.run_pending();
  EXPECT_EQ(told, (std::vector<std::string>{
                      "connected 1", "closed here 1", "connected 2 should",
                      "closed here 2 should", "connected 3 should",
                      "peer closed 3 should"}));
  server.close_client();
  EXPECT_FALSE(server.should_be_connected());
}

// Upstream's connected_task stays done after the peer is lost.
TEST(UpstreamDefect4, WaitConnectedIsNotSatisfiedByALostConnection) {
  Served served;
  EXPECT_TRUE(served.server->wait_connected(Wait::none()));
  served.peer.reset();
  EXPECT_TRUE(eventually([&] { return !served.server->connected(); }));
  EXPECT_FALSE(served.server->wait_connected(10ms));
  served.reconnect();
  EXPECT_TRUE(served.server->wait_connected(kPatience));
  EXPECT_EQ(served.server->connection_count(), 2u);
}

TEST(WaitDoneTest, FalseBeforeCloseTrueAfter) {
  Served served;
  EXPECT_FALSE(served.server->wait_done(10ms));
  served.peer.reset();  // a lost connection is not the end
  EXPECT_TRUE(eventually([&] { return !served.server->connected(); }));
  EXPECT_FALSE(served.server->wait_done(10ms));
  std::future<bool> waiting = std::async(
      std::launch::async, [&] { return served.server->wait_done(kPatience); });
  served.server->close();
  EXPECT_TRUE(waiting.get());
  EXPECT_TRUE(served.server->wait_done(Wait::none()));
}

TEST(WaitDoneTest, CancelledAtTheStop) {
  OneClientServer server({});
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(server.wait_done(stop.get_token()), CancelledError);
}

// The end of a Client's only thread is not the end of close().
TEST(WaitDoneTest, FalseWhileCloseIsStillAtWork) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  Client* looked_at = nullptr;
  std::atomic<bool> done_too_early{false};
  std::atomic<bool> asked{false};
  {
    const int threads = tcpip_testing::count_threads();
    Client client(
        {.host = "127.0.0.1",
         .port = listener.port,
         .log = Log([&](LogLevel, std::string_view, std::string_view message) {
           // Inside close(), with the monitor thread gone.
           if (message.find("ended") == std::string_view::npos) return;
           eventually(
               [&] { return tcpip_testing::count_threads() <= threads; });
           done_too_early = looked_at->wait_done(Wait::none());
           asked = true;
         })});
    looked_at = &client;
    client.start(kPatience);
    client.close();
    EXPECT_TRUE(client.wait_done(Wait::none()));
  }
  EXPECT_TRUE(asked);
  EXPECT_FALSE(done_too_early);
}

TEST(ReadingTest, EachReadReturnsWhatItsNameSays) {
  Served served;
  OneClientServer& server = *served.server;
  send_all(served.peer, "abcdefghline\nuntil;x,y\r\nstruct!!");
  EXPECT_EQ(server.read_exactly(3, kPatience), "abc");
  std::array<std::byte, 3> out{};
  server.read_exactly(std::span(out), kPatience);
  EXPECT_EQ(out[2], std::byte{'f'});
  EXPECT_EQ(server.read(2, kPatience), "gh");
  EXPECT_EQ(server.read(0, kPatience), "");
  EXPECT_EQ(server.read_line(kPatience), "line\n");
  EXPECT_EQ(server.read_until(";", kPatience), "until;");
  EXPECT_EQ(server.read_until({";", ","}, kPatience), "x,");
  EXPECT_EQ(server.read_str(kPatience), "y");
  std::array<char, 8> data{};
  server.read_into(data, kPatience);
  EXPECT_EQ(std::string(data.begin(), data.end()), "struct!!");
  EXPECT_EQ(served.drained_text(), "connected 1");
}

TEST(ReadingTest, ReadUntilGoesToTheEndOfTheLineUnlessTold) {
  Served served;
  send_all(served.peer, "one\ntwo\n");
  EXPECT_EQ(served.server->read_until(), "one\n");
  EXPECT_EQ(served.server->try_read_until(), "two\n");
}

TEST(ReadingTest, ReadAllGivesEverythingUpToTheEndAndEndsTheConnection) {
  Served served;
  OneClientServer& server = *served.server;
  send_all(served.peer, "one\ntwo");
  EXPECT_THROW(server.read_all(10ms), TimeoutError);
  EXPECT_THROW(server.read_all(4, kPatience), LimitOverrunError);
  served.peer.reset();
  EXPECT_EQ(server.read_all(kPatience), "one\ntwo");
  EXPECT_EQ(served.drained_text(), "connected 1, peer closed 1");
}

TEST(ReadingTest, TryReadsReturnNothingUntilAllIsThere) {
  Served served;
  OneClientServer& server = *served.server;
  EXPECT_EQ(server.try_read(10), std::nullopt);
  EXPECT_EQ(server.try_read_exactly(2), std::nullopt);
  send_all(served.peer, "ab");
  ASSERT_TRUE(server.wait_readable(kPatience));
  EXPECT_EQ(server.try_read_line(), std::nullopt);
  EXPECT_EQ(server.try_read_str(), std::nullopt);
  EXPECT_EQ(server.try_read_until(";"), std::nullopt);
  EXPECT_EQ(server.try_read_exactly(3), std::nullopt);
  EXPECT_EQ(server.try_read_exactly(2), "ab");
  send_all(served.peer, "l\nu; s \r\nr");
  EXPECT_TRUE(eventually([&, line = std::string()]() mutable {
    const auto got = server.try_read_line();
    if (got) line = *got;
    return line == "l\n";
  }));
  EXPECT_EQ(server.try_read_until(";"), "u;");
  EXPECT_EQ(server.try_read_str(), " s ");
  EXPECT_EQ(server.try_read(10), "r");
  EXPECT_EQ(served.drained_text(), "connected 1");
}

TEST(ReadingTest, WaitReadableIsFalseAtTheDeadline) {
  Served served;
  EXPECT_FALSE(served.server->wait_readable(10ms));
  send_all(served.peer, "a");
  EXPECT_TRUE(served.server->wait_readable(kPatience));
}

TEST(ReadingTest, SkipAndDiscardDropBytes) {
  Served served;
  OneClientServer& server = *served.server;
  send_all(served.peer, "a;bcdef");
  EXPECT_EQ(server.read_until(";", kPatience), "a;");
  EXPECT_EQ(server.read_exactly(1, kPatience), "b");
  EXPECT_EQ(server.skip(2), 2u);
  EXPECT_EQ(server.discard(), 2u);
  EXPECT_EQ(server.discard(), 0u);
  send_all(served.peer, "stale;fresh;");
  EXPECT_EQ(server.discard_until(";", kPatience), 6u);
  EXPECT_EQ(server.read_until(";", kPatience), "fresh;");
}

TEST(ReadingTest, TimeoutLosesNothing) {
  Served served;
  send_all(served.peer, "ab");
  EXPECT_THROW(served.server->read_str(20ms), TimeoutError);
  EXPECT_TRUE(served.server->connected());
  send_all(served.peer, "c\r\n");
  EXPECT_EQ(served.server->read_str(kPatience), "abc");
}

// A stop in the middle of a message, too.
TEST(ReadingTest, CancellationLosesNothing) {
  Served served;
  std::stop_source stop;
  std::atomic<pid_t> id{0};
  send_all(served.peer, "ab");
  std::future<std::string> reading = std::async(std::launch::async, [&] {
    id = tcpip_tests::this_thread_id();
    return served.server->read_str(stop.get_token());
  });
  ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  stop.request_stop();
  EXPECT_THROW(reading.get(), CancelledError);
  send_all(served.peer, "c\r\n");
  EXPECT_EQ(served.server->read_str(kPatience), "abc");
}

TEST(ReadingTest, RequestedStopWinsOverWhatIsBuffered) {
  Served served;
  send_all(served.peer, "a\r\nb\r\n");
  EXPECT_EQ(served.server->read_str(kPatience), "a");
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(served.server->read_str(stop.get_token()), CancelledError);
  EXPECT_EQ(served.server->read_str(kPatience), "b");
}

TEST(ReadingTest, PassedDeadlineStillTakesWhatIsThere) {
  Served served;
  send_all(served.peer, "a\r\n");
  ASSERT_TRUE(served.server->wait_readable(kPatience));
  EXPECT_EQ(served.server->try_read_str(), "a");
  send_all(served.peer, "c\r\n");
  ASSERT_TRUE(served.server->wait_readable(kPatience));
  EXPECT_EQ(served.server->read_str(-1s), "c");
  EXPECT_THROW(served.server->read_str(-1s), TimeoutError);
}

// The deadline is the message's, not each byte's.
TEST(ReadingTest, DrippingPeerDoesNotExtendTheDeadline) {
  Served served;
  std::jthread dripping([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      send_all(served.peer, "x");
      std::this_thread::sleep_for(20ms);  // the drip is the test's subject
    }
  });
  const auto took = seconds_of(
      [&] { EXPECT_THROW(served.server->read_str(200ms), TimeoutError); });
  EXPECT_GE(took, 200ms);
  EXPECT_LE(took, 200ms + tcpip_tests::kPrompt);
}

TEST(ReadingTest, SecondReaderIsRefusedAndTheFirstGoesOn) {
  Served served;
  std::atomic<pid_t> id{0};
  std::future<std::string> first = std::async(std::launch::async, [&] {
    id = tcpip_tests::this_thread_id();
    return served.server->read_str();
  });
  ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  for (const Call& call : transfers()) {
    const std::string_view name = call.name;
    if (name.starts_with("write") || name == "drain") continue;
    EXPECT_THROW(call.run(*served.server), std::logic_error) << call.name;
  }
  send_all(served.peer, "a\r\n");
  EXPECT_EQ(first.get(), "a");
  send_all(served.peer, "b\r\n");
  EXPECT_EQ(served.server->read_str(kPatience), "b");
}

TEST(ReadingTest, BadArgumentsAreRefusedAndTheConnectionLives) {
  Served served;
  OneClientServer& server = *served.server;
  EXPECT_THROW(server.read(static_cast<std::size_t>(-1)),
               std::invalid_argument);
  EXPECT_THROW(server.read_exactly(static_cast<std::size_t>(-1)),
               std::invalid_argument);
  EXPECT_THROW(server.read_until(""), std::invalid_argument);
  EXPECT_THROW(server.read_until({"a", ""}), std::invalid_argument);
  EXPECT_THROW(server.discard_until(""), std::invalid_argument);
  EXPECT_THROW(server.try_read_until(""), std::invalid_argument);
  send_all(served.peer, "a\r\n");
  EXPECT_EQ(server.read_str(kPatience), "a");
  EXPECT_EQ(served.drained_text(), "connected 1");
}

TEST(ReadStrTest, TakesOffTheTerminatorAndNothingElse) {
  Served served;
  send_all(served.peer, " \ta b\v\f\n\r\n\r\n  \r\na\r\r\n");
  EXPECT_EQ(served.server->read_str(kPatience), " \ta b\v\f\n");
  EXPECT_EQ(served.server->read_str(kPatience), "");
  EXPECT_EQ(served.server->read_str(kPatience), "  ");
  EXPECT_EQ(served.server->read_str(kPatience), "a\r");
}

TEST(ReadStrTest, DecodesWhatTheEncodingSays) {
  Served served({.encoding = "UTF 16"});
  send_all(served.peer, "\xfe\xff\0a\r\nb\0\r\n"s);
  EXPECT_EQ(served.server->read_str(kPatience), "a");
  EXPECT_EQ(served.server->read_str(kPatience), "b");
  served.server->write_str("\u20ac");
  EXPECT_EQ(recv_exact(served.peer, 6), "\xff\xfe\xac\x20\r\n");
}

TEST(TextFormatTest, EncodingAndTerminatorCanChangeOnALiveConnection) {
  Served served;
  OneClientServer& server = *served.server;
  send_all(served.peer, "one\r\n\xe9;two;");
  EXPECT_EQ(server.read_str(kPatience), "one");
  server.set_encoding("latin-1");
  server.set_terminator(";");
  EXPECT_EQ(server.encoding(), "latin-1");
  EXPECT_EQ(server.terminator(), ";");
  EXPECT_EQ(server.read_str(kPatience), "\u00e9");
  server.write_str("\u00e9");
  EXPECT_EQ(recv_exact(served.peer, 2), "\xe9;");
  EXPECT_THROW(server.set_encoding("latin-3"), std::invalid_argument);
  EXPECT_THROW(server.set_terminator(""), std::invalid_argument);
  EXPECT_EQ(server.encoding(), "latin-1");
  EXPECT_EQ(server.terminator(), ";");
  EXPECT_EQ(server.read_str(kPatience), "two");
  EXPECT_EQ(served.drained_text(), "connected 1");
}

// Upstream finds the terminator inside a code unit and hands over the text cut
// short; and a heartbeat, which is not encoded, is no text to it.
TEST(UpstreamDefect6, TextThatWouldBeCutShortIsNotSent) {
  Served served({.encoding = "utf-16", .terminator = "\n"});
  EXPECT_THROW(served.server->write_str("a\u010a"), std::invalid_argument);
  EXPECT_THROW(served.server->try_write_str("a\u010a"), std::invalid_argument);
  served.server->write_str("b");
  EXPECT_EQ(recv_exact(served.peer, 5),
            "\xff\xfe"
            "b\0\n"s);
}

TEST(UpstreamDefect6, HeartbeatAmongWideTextIsAHeartbeat) {
  Served served({.encoding = "utf-16", .heartbeats = {.expect = true}});
  send_all(served.peer, "heartbeat\r\na\0\r\nheartbeat\r\nb\0\r\n"s);
  EXPECT_EQ(served.server->read_str(kPatience), "a");
  EXPECT_EQ(served.server->read_str(kPatience), "b");
  EXPECT_EQ(served.drained_text(), "connected 1");
}

TEST(ReadStrTest, UsesTheTerminatorGiven) {
  Served served({.terminator = "END"});
  send_all(served.peer, "oneENtwo\r\nENDthreeEND");
  EXPECT_EQ(served.server->read_str(kPatience), "oneENtwo\r\n");
  EXPECT_EQ(served.server->try_read_str(), "three");
  served.server->write_str("four");
  EXPECT_EQ(recv_exact(served.peer, 7), "fourEND");
}

TEST(ReadStrTest, BadTextTakesThatMessageAndKeepsTheConnection) {
  Served served;
  OneClientServer& server = *served.server;
  send_all(served.peer, " ok\xff.\r\nnext\r\n\xed\xa0\x80\r\nlast\r\n");
  try {
    server.read_str(kPatience);
    FAIL();
  } catch (const DecodeError& e) {
    EXPECT_TRUE(e.peer().starts_with("127.0.0.1:")) << e.what();
    EXPECT_EQ(e.data(), " ok\xff.");
    EXPECT_EQ(e.position(), 3u);
    EXPECT_EQ(e.code(), Errc::kDecode);
  }
  EXPECT_EQ(server.read_str(kPatience), "next");
  EXPECT_THROW(server.try_read_str(), DecodeError);
  EXPECT_EQ(server.try_read_str(), "last");
  EXPECT_EQ(served.drained_text(), "connected 1");
}

TEST(ReadStrTest, KeepsNulsAndEveryCharacter) {
  Served served;
  const std::string text = "a\0b\xc3\xa9\xf0\x9f\x98\x80"s;
  send_all(served.peer, text + "\r\n");
  EXPECT_EQ(served.server->read_str(kPatience), text);
}

TEST(ReadStrTest, TooLongKeepsTheBytesAndTheConnection) {
  Served served({.limit = 16});
  OneClientServer& server = *served.server;
  send_all(served.peer, std::string(16, 'a') + "\r\n");
  EXPECT_EQ(server.read_str(kPatience), std::string(16, 'a'));
  send_all(served.peer, std::string(40, 'b') + "\r\nnext\r\n");
  EXPECT_THROW(server.read_str(kPatience), LimitOverrunError);
  EXPECT_THROW(server.read_str(kPatience), LimitOverrunError);
  EXPECT_EQ(server.discard_until("\r\n", kPatience), 42u);
  EXPECT_EQ(server.read_str(kPatience), "next");
  EXPECT_EQ(served.drained_text(), "connected 1");
}

TEST(LossTest, EventIsQueuedBeforeTheReadReturns) {
  const struct {
    const char* name;
    std::function<void(OneClientServer&)> read;
    bool throws;
  } kCases[] = {
      {"read", [](auto& s) { EXPECT_EQ(s.read(10), ""); }, false},
      {"read_line", [](auto& s) { EXPECT_EQ(s.read_line(), ""); }, false},
      {"read_str", [](auto& s) { s.read_str(); }, true},
      {"read_exactly", [](auto& s) { s.read_exactly(1); }, true},
  };
  for (const auto& c : kCases) {
    Served served;
    // The reader is to find out, not the accept thread: it is kept from it by
    // a byte that has still to be read.
    send_all(served.peer, "x");
    tcpip_tests::half_close(served.peer);
    EXPECT_EQ(served.server->read_exactly(1, kPatience), "x");
    try {
      c.read(*served.server);
      EXPECT_FALSE(c.throws) << c.name;
    } catch (const ConnectionError&) {
      // Or that first read has already found the end.
    }
    EXPECT_EQ(served.queue.size(), 2u) << c.name;
    EXPECT_FALSE(served.server->connected());
    EXPECT_EQ(served.drained_text(), "connected 1, peer closed 1");
  }
}

TEST(LossTest, MessageCutShortIsAnIncompleteReadAndEndsTheConnection) {
  Served served;
  send_all(served.peer, "whole\r\nhal");
  tcpip_tests::half_close(served.peer);
  EXPECT_EQ(served.server->read_str(kPatience), "whole");
  try {
    served.server->read_str(kPatience);
    FAIL();
  } catch (const IncompleteReadError& e) {
    EXPECT_EQ(e.partial(), "hal");
  }
  EXPECT_EQ(served.queue.size(), 2u);
  EXPECT_FALSE(served.server->connected());
  EXPECT_TRUE(served.server->should_be_connected());
}

// Upstream hands "hal" to the dispatcher as a command; read_str does not.
TEST(UpstreamDefect5, TruncatedLastMessageIsNoMessage) {
  Served served;
  send_all(served.peer, "hal");
  served.peer.reset();
  EXPECT_THROW(served.server->read_str(kPatience), IncompleteReadError);
}

// Upstream loses whole lines that came before a reset.
TEST(UpstreamDefect10, LinesBeforeAResetAreDeliveredThenTheError) {
  for (const bool noticed : {false, true}) {
    Served served;
    OneClientServer& server = *served.server;
    send_all(served.peer, "one\r\ntwo\r\nthr");
    const int port = tcpip_tests::local_port(served.peer.get());
    tcpip_tests::reset(std::move(served.peer));
    if (noticed) {
      const std::optional<int> fd = tcpip_tests::socket_connected_to(port);
      if (fd) tcpip_tests::await_hang_up(*fd);
    }
    EXPECT_TRUE(server.connected());
    EXPECT_EQ(server.read_str(kPatience), "one");
    EXPECT_EQ(server.read_str(kPatience), "two");
    EXPECT_THROW(server.read_str(kPatience), ConnectionError);
    EXPECT_EQ(served.queue.size(), 2u);
    EXPECT_FALSE(server.connected());
    EXPECT_EQ(served.drained_text(), "connected 1, reset 1");
    EXPECT_EQ(served.events.values()[1].error, std::errc::connection_reset);
  }
}

// Upstream's failing write neither closes nor calls back.
TEST(UpstreamDefect8, FailedWriteEndsTheConnectionAndSaysSo) {
  Served served;
  OneClientServer& server = *served.server;
  send_all(served.peer, "x");  // unread: nobody but the write can notice
  const int port = tcpip_tests::local_port(served.peer.get());
  tcpip_tests::reset(std::move(served.peer));
  if (const auto fd = tcpip_tests::socket_connected_to(port)) {
    tcpip_tests::await_hang_up(*fd);
  }
  EXPECT_THROW(server.write("a", kPatience), ConnectionError);
  EXPECT_EQ(served.queue.size(), 2u);
  EXPECT_FALSE(server.connected());
  EXPECT_TRUE(server.should_be_connected());
  EXPECT_EQ(served.drained_text(), "connected 1, reset 1");
}

TEST(WritingTest, EachWriteSendsWhatItsNameSays) {
  Served served;
  OneClientServer& server = *served.server;
  server.write("a");
  server.write("");
  server.write_lines({"b", "", "c"});
  const std::vector<std::string_view> parts{"d", "e"};
  server.write_lines(parts);
  server.write_lines(std::vector<std::string>{"x", "y"}, kPatience);
  EXPECT_TRUE(server.try_write_lines(std::vector<std::string>{"z"}));
  server.write_str("f \xc3\xa9");
  server.write_from(Point{0x01010101, 0x02020202}, kPatience);
  server.write_lines({});
  server.drain();
  EXPECT_EQ(recv_exact(served.peer, 22),
            "abcdexyzf \xc3\xa9\r\n\1\1\1\1\2\2\2\2"s);
}

TEST(WriteStrTest, RefusesTheTerminatorInsideAndSendsNothing) {
  Served served;
  for (const char* text : {"\r\n", "a\r\nb", "\r\na", "a\r\n"}) {
    EXPECT_THROW(served.server->write_str(text), std::invalid_argument) << text;
  }
  // Half of it is not the terminator.
  served.server->write_str("a\rb\nc\r");
  EXPECT_EQ(recv_exact(served.peer, 8), "a\rb\nc\r\r\n");
}

// "a" and "aa" together would be found to end after "aa".
TEST(WriteStrTest, RefusesAnEndThatMakesTheTerminatorComeEarlier) {
  struct Case {
    const char* terminator;
    const char* text;
    bool ok;
  };
  const Case kCases[] = {
      {"aa", "xa", false},   {"aa", "xay", true},   {"abab", "xab", false},
      {"abab", "xa", true},  {"aba", "xab", false}, {"aba", "xa", true},
      {"aaa", "xaa", false}, {"\n", "x", true},
  };
  for (const Case& c : kCases) {
    Served served({.terminator = c.terminator});
    if (c.ok) {
      served.server->write_str(c.text);
    } else {
      EXPECT_THROW(served.server->write_str(c.text), std::invalid_argument)
          << c.text << " before " << c.terminator;
    }
    served.server->close_client();
    EXPECT_EQ(recv_until_eof(served.peer),
              c.ok ? std::string(c.text) + c.terminator : std::string());
  }
}

TEST(WriteStrTest, RefusesWhatIsNoTextAndSendsNothing) {
  Served served;
  for (const char* text : {"\xff", "a\xc3", "\xed\xa0\x80"}) {
    EXPECT_THROW(served.server->write_str(text), std::invalid_argument);
  }
  served.server->write_str("ok");
  EXPECT_EQ(recv_exact(served.peer, 4), "ok\r\n");
}

TEST(WritingTest, TimeoutKeepsTheRestAndLaterWritesComeAfterIt) {
  Served served({.socket = {.send_buffer = 256 * 1024}});
  OneClientServer& server = *served.server;
  const std::string large(8 * 1024 * 1024, 'a');
  try {
    server.write(large, 100ms);
    FAIL() << "the peer does not read";
  } catch (const TimeoutError& e) {
    EXPECT_TRUE(e.queued());
  }
  EXPECT_TRUE(server.connected());
  EXPECT_GT(server.unsent(), kDefaultWriteLimit);
  try {
    server.write("b", 10ms);
    FAIL() << "too much is unsent";
  } catch (const TimeoutError& e) {
    EXPECT_FALSE(e.queued()) << "b would be sent twice";
  }
  std::stop_source stop;
  stop.request_stop();
  try {
    server.write("b", stop.get_token());
    FAIL();
  } catch (const CancelledError& e) {
    EXPECT_FALSE(e.queued());
  }
  std::future<std::string> reading = std::async(std::launch::async, [&] {
    return recv_exact(served.peer, large.size() + 1);
  });
  server.drain(kPatience);
  EXPECT_EQ(server.unsent(), 0u);
  server.write("c", kPatience);
  EXPECT_TRUE(reading.get() == large + "c");
}

TEST(WritingTest, NothingUnsentGoesToALaterConnection) {
  Served served({.socket = {.send_buffer = 256 * 1024}});
  OneClientServer& server = *served.server;
  EXPECT_THROW(server.write(std::string(8 * 1024 * 1024, 'a'), 50ms),
               TimeoutError);
  server.close_client();
  EXPECT_EQ(server.unsent(), 0u);
  served.reconnect();
  server.write("b", kPatience);
  server.close_client();
  EXPECT_EQ(recv_until_eof(served.peer), "b");
}

TEST(WritingTest, BytesOfOneMessageAreNeverMixedWithAnothers) {
  constexpr int kWriters = 4;
  constexpr int kMessages = 2000;
  Served served({.socket = {.send_buffer = 4096}});
  std::future<std::string> reading = std::async(
      std::launch::async, [&] { return recv_until_eof(served.peer); });
  {
    std::vector<std::jthread> writers;
    for (int w = 0; w < kWriters; ++w) {
      writers.emplace_back([&served, w] {
        const std::string text(static_cast<std::size_t>(20 + 30 * w),
                               static_cast<char>('a' + w));
        for (int i = 0; i < kMessages; ++i) {
          served.server->write_str(text, kPatience);
        }
      });
    }
  }
  served.server->close_client();
  const std::string all = reading.get();
  std::array<int, kWriters> count{};
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = all.find("\r\n", at);
    ASSERT_NE(end, std::string::npos);
    const std::string_view line(all.data() + at, end - at);
    ASSERT_FALSE(line.empty());
    const int w = line[0] - 'a';
    ASSERT_TRUE(w >= 0 && w < kWriters);
    ASSERT_EQ(line, std::string(static_cast<std::size_t>(20 + 30 * w),
                                static_cast<char>('a' + w)));
    ++count[static_cast<std::size_t>(w)];
    at = end + 2;
  }
  EXPECT_EQ(count, (std::array{kMessages, kMessages, kMessages, kMessages}));
}

TEST(WritingTest, ReadingAndWritingAtOnceIsFine) {
  Served served;
  std::atomic<pid_t> id{0};
  std::future<std::string> reading = std::async(std::launch::async, [&] {
    id = tcpip_tests::this_thread_id();
    return served.server->read_str();
  });
  ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  served.server->write_str("ping");
  EXPECT_EQ(recv_exact(served.peer, 6), "ping\r\n");
  send_all(served.peer, "pong\r\n");
  EXPECT_EQ(reading.get(), "pong");
}

TEST(TryWriteTest, TakesNothingWhileAnEarlierMessageIsUnsent) {
  Served served({.socket = {.send_buffer = 256 * 1024}});
  OneClientServer& server = *served.server;
  EXPECT_TRUE(server.try_write("a"));
  EXPECT_TRUE(server.try_write_str("b"));
  const std::vector<std::string_view> parts{"c", "d"};
  EXPECT_TRUE(server.try_write_lines(parts));
  EXPECT_TRUE(server.try_write_from(Point{0x01010101, 0x02020202}));
  EXPECT_EQ(recv_exact(served.peer, 14), "ab\r\ncd\1\1\1\1\2\2\2\2"s);

  const std::string large(8 * 1024 * 1024, 'x');
  EXPECT_TRUE(server.try_write(large)) << "as far as the kernel takes it";
  EXPECT_GT(server.unsent(), 0u);
  EXPECT_FALSE(server.try_write("e"));
  EXPECT_FALSE(server.try_write_str("f"));
  std::future<std::string> reading = std::async(std::launch::async, [&] {
    return recv_exact(served.peer, large.size() + 1);
  });
  server.drain(kPatience);
  EXPECT_TRUE(server.try_write("g"));
  EXPECT_TRUE(reading.get() == large + "g");
}

TEST(TryWriteTest, FirstSendsWhatIsUnsent) {
  Served served({.socket = {.send_buffer = 256 * 1024}});
  OneClientServer& server = *served.server;
  const std::string large(8 * 1024 * 1024, 'x');
  EXPECT_TRUE(server.try_write(large));
  EXPECT_GT(server.unsent(), 0u);
  std::future<std::string> reading = std::async(std::launch::async, [&] {
    return recv_exact(served.peer, large.size() + 1);
  });
  EXPECT_TRUE(eventually([&] { return server.try_write("g"); }));
  EXPECT_TRUE(reading.get() == large + "g");
}

TEST(TryWriteTest, RefusesBadTextAndSaysNotConnected) {
  Served served;
  EXPECT_THROW(served.server->try_write_str("a\r\nb"), std::invalid_argument);
  EXPECT_THROW(served.server->try_write_str("\xff"), std::invalid_argument);
  served.server->close_client();
  EXPECT_EQ(recv_until_eof(served.peer), "");
  EXPECT_THROW(served.server->try_write("a"), ConnectionError);
  EXPECT_THROW(served.server->try_write_str("a"), ConnectionError);
}

// --- Spinning ---

// A read of a client or server in a thread of its own.
class ReadingThread {
 public:
  explicit ReadingThread(BaseClientOrServer& reader)
      : thread_([&reader, this] { text_ = reader.read_str(kPatience); }) {}
  ~ReadingThread() { text(); }

  // How much of a processor the thread has used so far.
  std::chrono::nanoseconds used() {
    clockid_t clock{};
    timespec time{};
    if (::pthread_getcpuclockid(thread_.native_handle(), &clock) != 0 ||
        ::clock_gettime(clock, &time) != 0) {
      return {};
    }
    return std::chrono::seconds(time.tv_sec) +
           std::chrono::nanoseconds(time.tv_nsec);
  }
  const std::string& text() {
    if (thread_.joinable()) thread_.join();
    return text_;
  }

 private:
  std::string text_;
  std::thread thread_;
};

TEST(SpinTest, ReadsOfAClientAndAServerLookAgainAndAgain) {
  OneClientServer server({.host = "127.0.0.1", .spin = 1h});
  server.start();
  Client client({.host = "127.0.0.1", .port = server.port(), .spin = 1h});
  client.start(kPatience);
  ASSERT_TRUE(server.wait_connected(kPatience));
  for (BaseClientOrServer* const reader :
       {static_cast<BaseClientOrServer*>(&server),
        static_cast<BaseClientOrServer*>(&client)}) {
    ReadingThread reading(*reader);
    // One that is blocked would use none.
    EXPECT_TRUE(eventually([&] { return reading.used() > 20ms; }));
    (reader == &server ? static_cast<BaseClientOrServer&>(client) : server)
        .write_str("found");
    EXPECT_EQ(reading.text(), "found");
  }
}

TEST(SpinTest, DeadlineStopAndCloseEndIt) {
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  Client client({.host = "127.0.0.1", .port = server.port(), .spin = 1h});
  client.start(kPatience);
  const auto start = Deadline::Clock::now();
  EXPECT_THROW(client.read_str(10ms), TimeoutError);
  EXPECT_GE(Deadline::Clock::now() - start, 10ms);
  std::stop_source stop;
  auto stopped = std::async(std::launch::async, [&] {
    EXPECT_THROW(client.read_str(stop.get_token()), CancelledError);
  });
  stop.request_stop();
  stopped.get();
  auto closed = std::async(std::launch::async, [&] {
    EXPECT_THROW(client.read_str(), ConnectionError);
  });
  client.close();
  closed.get();
}

TEST(SpinTest, NegativeTimeIsRefused) {
  EXPECT_THROW(Client({.host = "127.0.0.1", .spin = -1us}),
               std::invalid_argument);
  EXPECT_THROW(OneClientServer({.host = "127.0.0.1", .spin = -1us}),
               std::invalid_argument);
}

TEST(SendTest, SaysWhatHasBecomeOfTheMessage) {
  Served served(
      {.write_limit = 8 * 1024 * 1024, .socket = {.send_buffer = 256 * 1024}});
  OneClientServer& server = *served.server;
  const std::vector<std::string_view> parts{"c", "d"};
  EXPECT_EQ(server.send("a"), SendResult::kSent);
  EXPECT_EQ(server.send_str("b"), SendResult::kSent);
  EXPECT_EQ(server.send_lines(parts), SendResult::kSent);
  EXPECT_EQ(server.send_lines(std::vector<std::string>{"e"}),
            SendResult::kSent);
  EXPECT_EQ(server.send_from(Point{0x01010101, 0x02020202}), SendResult::kSent);
  EXPECT_EQ(server.try_send("a"), SendResult::kSent);
  EXPECT_EQ(server.try_send_str("b"), SendResult::kSent);
  EXPECT_EQ(server.try_send_lines(parts), SendResult::kSent);
  EXPECT_EQ(server.try_send_lines(std::vector<std::string>{"e"}),
            SendResult::kSent);
  EXPECT_EQ(server.try_send_from(Point{0x01010101, 0x02020202}),
            SendResult::kSent);
  const std::string all = "ab\r\ncde\1\1\1\1\2\2\2\2"s;
  EXPECT_EQ(recv_exact(served.peer, 2 * all.size()), all + all);

  const std::string large(8 * 1024 * 1024, 'x');
  EXPECT_EQ(server.send(large), SendResult::kQueued);
  EXPECT_EQ(server.try_send("no"), SendResult::kBusy);
  EXPECT_EQ(server.try_send_str("no"), SendResult::kBusy);
  EXPECT_EQ(server.try_send_lines(parts), SendResult::kBusy);
  EXPECT_EQ(server.try_send_from(Point{}), SendResult::kBusy);
  EXPECT_EQ(server.send(large), SendResult::kQueued) << "behind the other";
  EXPECT_EQ(server.send("no"), SendResult::kBusy) << "over the write_limit";
  EXPECT_EQ(server.send_str("no"), SendResult::kBusy);
  EXPECT_EQ(server.send_lines(parts), SendResult::kBusy);
  EXPECT_EQ(server.send_from(Point{}), SendResult::kBusy);
  std::future<std::string> reading = std::async(std::launch::async, [&] {
    return recv_exact(served.peer, 2 * large.size() + 1);
  });
  EXPECT_TRUE(
      eventually([&] { return server.try_send("y") == SendResult::kSent; }));
  EXPECT_TRUE(reading.get() == large + large + "y");
}

TEST(SendTest, NoConnectionIsAResult) {
  OneClientServer server({.host = "127.0.0.1"});
  for (const ReadWriter* none : {static_cast<const ReadWriter*>(&server),
                                 static_cast<const ReadWriter*>(nullptr)}) {
    const Connection nobody;
    const ReadWriter& connection = none != nullptr ? *none : nobody;
    EXPECT_EQ(connection.send("a"), SendResult::kNotConnected);
    EXPECT_EQ(connection.send_str("a"), SendResult::kNotConnected);
    EXPECT_EQ(connection.send_from(Point{}), SendResult::kNotConnected);
    EXPECT_EQ(connection.try_send("a"), SendResult::kNotConnected);
    EXPECT_EQ(connection.try_send_str("a"), SendResult::kNotConnected);
    EXPECT_EQ(connection.try_send_from(Point{}), SendResult::kNotConnected);
  }
}

// As after a write that throws: before the result reaches the caller.
TEST(SendTest, LossThatItMeetsHasEndedTheConnection) {
  for (const bool tries : {false, true}) {
    tcpip_tests::ServedStage served{tcpip_tests::Queued()};
    const Connection client = served->connection();
    tcpip_tests::reset(std::move(served.peer));
    SendResult result = SendResult::kSent;
    while (result != SendResult::kNotConnected) {
      result = tries ? client.try_send("x") : client.send("x");
    }
    EXPECT_FALSE(client.connected());
    EXPECT_EQ(served.drained_text(), "connected 1, reset 1");
  }
}

TEST(SendTest, WhatTheCallerDoesWrongThrows) {
  Served served;
  const OneClientServer& server = *served.server;
  EXPECT_THROW(server.send_str("a\r\nb"), std::invalid_argument);
  EXPECT_THROW(server.send_str("\xff"), std::invalid_argument);
  EXPECT_THROW(server.try_send_str("a\r\nb"), std::invalid_argument);
  EXPECT_THROW(server.try_send_str("\xff"), std::invalid_argument);
  // Also if there is no connection, so that a test finds it.
  served.server->close_client();
  EXPECT_EQ(recv_until_eof(served.peer), "");
  EXPECT_THROW(server.send_str("a\r\nb"), std::invalid_argument);
}

TEST(SendTest, SendsNothingBehindWriteEofAndTheConnectionLives) {
  Served served;
  const Connection client = served.server->connection();
  client.writer()->write_eof();
  EXPECT_EQ(client.send("a"), SendResult::kNotConnected);
  EXPECT_EQ(client.try_send("a"), SendResult::kNotConnected);
  EXPECT_EQ(recv_until_eof(served.peer), "");
  send_all(served.peer, "b");
  EXPECT_EQ(client.read_exactly(1, kPatience), "b");
  EXPECT_TRUE(client.connected());
}

TEST(SendTest, ResultsHaveNames) {
  EXPECT_EQ(to_string(SendResult::kSent), "sent");
  EXPECT_EQ(to_string(SendResult::kQueued), "queued");
  EXPECT_EQ(to_string(SendResult::kBusy), "busy");
  EXPECT_EQ(to_string(SendResult::kNotConnected), "not connected");
}

// Structs left alone on failure, half of one kept for the next call.
TEST(ReadIntoTest, LeavesTheStructAloneOnFailureAndResumes) {
  Served served;
  Point point{7, 8};
  send_all(served.peer, std::string("\1\1\1\1\2\2", 6));
  EXPECT_THROW(served.server->read_into(point, 20ms), TimeoutError);
  EXPECT_EQ(point.x, 7);
  send_all(served.peer, std::string("\2\2", 2));
  served.server->read_into(point, kPatience);
  EXPECT_EQ(point.x, 0x01010101);
  EXPECT_EQ(point.y, 0x02020202);
}

}  // namespace
}  // namespace tcpip
