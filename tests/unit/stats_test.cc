// What is counted of clients, servers and queues, and the two texts that are
// made of it.
#include "tcpip/stats.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <regex>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/byte_order.h"
#include "tcpip/callback_queue.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/open_metrics.h"
#include "tcpip/periodic_sender.h"
#include "tcpip/reconnecting_client.h"
#include "tcpip/send_queue.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"
#include "tests/support/subprocess.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using std::chrono::steady_clock;
using tcpip_tests::await_receivable;
using tcpip_tests::ClientStage;
using tcpip_tests::connect_to;
using tcpip_tests::eventually;
using tcpip_tests::kPatience;
using tcpip_tests::Queued;
using tcpip_tests::ReadLoopStage;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::refusing_port;
using tcpip_tests::send_all;
using tcpip_tests::ServedStage;
using tcpip_tests::ServerStage;
using tcpip_tests::Subprocess;

// More than the kernel takes for a peer that does not read.
constexpr std::size_t kMuch = 16u << 20;

TEST(EndpointStatsTest, AreZeroBeforeAConnection) {
  ServerStage<> server;
  const EndpointStats stats = server->stats();
  EXPECT_FALSE(stats.connected);
  EXPECT_EQ(stats.connections, 0u);
  EXPECT_EQ(stats.bytes_received, 0u);
  EXPECT_EQ(stats.messages_sent, 0u);
  EXPECT_EQ(stats.last_receive, std::nullopt);
  EXPECT_EQ(stats.last_send, std::nullopt);
}

TEST(EndpointStatsTest, CountConnectionsAndWhatWasTurnedAway) {
  ServedStage server;
  EXPECT_TRUE(server->stats().connected);
  EXPECT_EQ(recv_until_eof(connect_to(server->port())), "");
  EXPECT_EQ(recv_until_eof(connect_to(server->port())), "");
  server.reconnect_after_close();
  server->close_client();
  const EndpointStats stats = server->stats();
  EXPECT_FALSE(stats.connected);
  EXPECT_EQ(stats.connections, 2u);
  EXPECT_EQ(stats.rejected, 2u);
  EXPECT_EQ(stats.not_allowed, 0u);
}

TEST(EndpointStatsTest, CountEveryKindOfRead) {
  ServedStage server;
  const Connection client = server->connection();
  send_all(server.peer, "text\r\nline\nend;exact1234567");
  EXPECT_EQ(client.read_str(kPatience), "text");
  EXPECT_EQ(client.read_line(kPatience), "line\n");
  EXPECT_EQ(client.read_until(";", kPatience), "end;");
  EXPECT_EQ(client.read_exactly(5, kPatience), "exact");
  BigEndian<std::uint16_t> number;
  client.read_into(number, kPatience);
  EXPECT_EQ(client.reader()->read_exactly(1, kPatience), "3");
  EXPECT_EQ(client.try_read(2), "45");
  EXPECT_EQ(client.skip(1), 1u);  // no message
  EXPECT_EQ(client.read_exactly(1, kPatience), "7");
  const EndpointStats stats = server->stats();
  EXPECT_EQ(stats.messages_received, 8u);
  EXPECT_EQ(stats.bytes_received, 27u);
}

// Those go straight into the caller's memory.
TEST(EndpointStatsTest, CountAReadOfManyBytesOnce) {
  ServedStage server;
  std::vector<std::byte> out(100'000);
  std::thread sender(
      [&] { send_all(server.peer, std::string(out.size(), 'x')); });
  server->read_exactly(std::span(out), kPatience);
  sender.join();
  EXPECT_EQ(server->stats().bytes_received, out.size());
  EXPECT_EQ(server->stats().messages_received, 1u);
}

TEST(EndpointStatsTest, CountEveryKindOfWrite) {
  ServedStage server;
  const Connection client = server->connection();
  client.write("bytes", kPatience);
  client.write_str("text", kPatience);
  client.write_lines({"a", "b"}, kPatience);
  client.write_from(BigEndian<std::uint16_t>{0x4142}, std::uint8_t{'C'});
  EXPECT_EQ(client.send("sent"), SendResult::kSent);
  EXPECT_TRUE(client.try_write("tried"));
  client.write("", kPatience);  // nothing
  client.writer()->write("stream");
  EXPECT_EQ(recv_exact(server.peer, 31).size(), 31u);
  const EndpointStats stats = server->stats();
  EXPECT_EQ(stats.messages_sent, 7u);
  EXPECT_EQ(stats.bytes_sent, 31u);
}

TEST(EndpointStatsTest, DoNotCountAWriteThatFails) {
  ServedStage server;
  const Connection client = server->connection();
  tcpip_tests::reset(std::move(server.peer));
  EXPECT_THROW(
      {
        for (;;) client.write("x", kPatience);
      },
      ConnectionError);
  const EndpointStats stats = server->stats();
  EXPECT_EQ(stats.messages_sent, stats.bytes_sent);
}

TEST(EndpointStatsTest, GoOnOverAllConnections) {
  ServedStage server;
  send_all(server.peer, "one\r\n");
  EXPECT_EQ(server->read_str(kPatience), "one");
  server.reconnect_after_close();
  send_all(server.peer, "two\r\n");
  EXPECT_EQ(server->read_str(kPatience), "two");
  EXPECT_EQ(server->stats().messages_received, 2u);
  EXPECT_EQ(server->stats().bytes_received, 10u);
}

TEST(EndpointStatsTest, TellWhenSomethingPassedLast) {
  ServedStage server;
  const auto begin = steady_clock::now();
  server->write("x", kPatience);
  send_all(server.peer, "y");
  EXPECT_EQ(server->read_exactly(1, kPatience), "y");
  const EndpointStats stats = server->stats();
  ASSERT_TRUE(stats.last_send && stats.last_receive);
  // The coarse clock is up to ten milliseconds late.
  EXPECT_GE(*stats.last_send, begin - 20ms);
  EXPECT_GE(*stats.last_receive, begin - 20ms);
  EXPECT_LE(*stats.last_send, steady_clock::now());
  EXPECT_LE(*stats.last_receive, steady_clock::now());
}

TEST(EndpointStatsTest, CountReadsAndWritesThatTimeOut) {
  ServedStage server;
  EXPECT_THROW(server->read_str(1ms), TimeoutError);
  EXPECT_THROW(server->read_exactly(1, 0ms), TimeoutError);
  EXPECT_EQ(server->try_read_str(), std::nullopt);  // not one
  EXPECT_THROW(server->write(std::string(kMuch, 'x'), 1ms), TimeoutError);
  EXPECT_THROW(server->drain(1ms), TimeoutError);
  EXPECT_EQ(server->stats().timeouts, 4u);
}

// It looks every 20 ms whether the queue is full.
TEST(EndpointStatsTest, DoNotCountTheLooksOfASendQueueThatWaits) {
  ServedStage server;
  SendQueue queue(*server, {.slots = 2, .when_full = WhenFull::kClose});
  ASSERT_EQ(server->send(std::string(kMuch, 'x')), SendResult::kQueued);
  ASSERT_EQ(queue.post("waits"), SendResult::kQueued);
  ASSERT_TRUE(eventually([&] { return queue.size() == 0; }));
  while (queue.post("more") == SendResult::kQueued) {
  }
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  EXPECT_EQ(server->stats().timeouts, 0u);
}

TEST(EndpointStatsTest, CountTimeOutsOfReadsThatOnlyMeetHeartbeats) {
  ServedStage server({.heartbeats = {.expect = true, .max_interval = 1min}});
  send_all(server.peer, "heartbeat\r\n");
  EXPECT_THROW(server->read_str(50ms), TimeoutError);
  send_all(server.peer, "heartbeat\r\n");
  EXPECT_THROW(server->read_line(50ms), TimeoutError);
  EXPECT_EQ(server->stats().timeouts, 2u);
  EXPECT_EQ(server->stats().messages_received, 2u);
}

TEST(EndpointStatsTest, CountMessagesThatAreTooLong) {
  ServedStage server({.limit = 8});
  send_all(server.peer, "0123456789\r\n");
  EXPECT_THROW(server->read_str(kPatience), LimitOverrunError);
  server->skip(100);
  send_all(server.peer, "0123456789");
  EXPECT_THROW(server->read_all(4, kPatience), LimitOverrunError);
  EXPECT_EQ(server->stats().overruns, 2u);
}

TEST(EndpointStatsTest, CountWhatIsNotText) {
  ServedStage server;
  send_all(server.peer, "\xff\r\nright\r\n");
  EXPECT_THROW(server->read_str(kPatience), DecodeError);
  EXPECT_EQ(server->read_str(kPatience), "right");
  EXPECT_EQ(server->stats().decode_errors, 1u);
  EXPECT_EQ(server->stats().messages_received, 2u);
}

TEST(EndpointStatsTest, CountCallbacksAndHandlersThatThrow) {
  ReadLoopStage server(
      Queued(),
      [](Connection& client, const std::stop_token& stop) {
        client.read_str(stop);
        throw std::runtime_error("handler");
      },
      {.connect_callback =
           [](const ConnectionEvent& event) {
             if (event.connected) throw std::runtime_error("callback");
           },
       .admission = {.may_connect = [first = true](const Address&) mutable {
         if (!std::exchange(first, false)) return true;
         throw std::runtime_error("may_connect");
       }}});
  EXPECT_EQ(recv_until_eof(connect_to(server->port())), "");
  EXPECT_EQ(server->stats().callback_errors, 1u);
  const UniqueFd peer = server.connect();
  EXPECT_EQ(server.drained_text(), "connected 1");
  EXPECT_EQ(server->stats().callback_errors, 2u);
  EXPECT_TRUE(server->post([] { throw std::runtime_error("posted"); }));
  EXPECT_THROW(server.queue.run_pending(), std::runtime_error);
  EXPECT_EQ(server->stats().callback_errors, 3u);
  send_all(peer, "x\r\n");
  EXPECT_EQ(recv_until_eof(peer), "");
  EXPECT_EQ(server->stats().callback_errors, 4u);
  EXPECT_EQ(server->stats().not_allowed, 1u);
}

TEST(EndpointStatsTest, CountWhatTheEndOfAConnectionCosts) {
  ServedStage server;
  send_all(server.peer, "unread");
  await_receivable(server->connection().native_handle(), 6);
  ASSERT_EQ(server->send(std::string(kMuch, 'x')), SendResult::kQueued);
  server->close_client();
  const EndpointStats stats = server->stats();
  EXPECT_EQ(stats.dropped_bytes, 6u);
  EXPECT_GT(stats.unsent_bytes, 0u);
  EXPECT_EQ(stats.unsent_bytes + stats.bytes_sent, kMuch);
}

TEST(EndpointStatsTest, CountEachTryToConnectThatFails) {
  ReconnectingClient client({.host = "127.0.0.1", .port = refusing_port()},
                            {.first = 1ms, .longest = 1ms, .tries = 3});
  client.start();
  EXPECT_TRUE(client.wait_done(kPatience));
  EXPECT_EQ(client.stats().failed_connects, 3u);
  EXPECT_EQ(client.stats().connections, 0u);
}

TEST(EndpointStatsTest, OfAClientCountTheOtherWayRound) {
  ClientStage client;
  client->write_str("question", kPatience);
  EXPECT_EQ(recv_exact(client.peer, 10), "question\r\n");
  send_all(client.peer, "answer\r\n");
  EXPECT_EQ(client->read_str(kPatience), "answer");
  const EndpointStats stats = client->stats();
  EXPECT_EQ(stats.connections, 1u);
  EXPECT_EQ(stats.bytes_sent, 10u);
  EXPECT_EQ(stats.bytes_received, 8u);
}

TEST(EndpointStatsTest, AStreamThatOutlivesTheClientKeepsItsCountersAlive) {
  std::shared_ptr<StreamReader> reader;
  tcpip::UniqueFd peer;
  {
    ClientStage client;
    send_all(client.peer, "x");
    client->wait_readable(kPatience);
    reader = client->connection().reader();
    peer = std::move(client.peer);
  }
  EXPECT_NO_THROW(reader->read(10, kPatience));
}

TEST(EndpointStatsTest, TextIsOneLineWithTheTroublesThatThereWere) {
  const EndpointStats quiet{.connected = true,
                            .connections = 1,
                            .bytes_received = 1,
                            .messages_received = 1};
  EXPECT_EQ(to_string(quiet),
            "connected, 1 connection, received 1 byte in 1 message, sent 0 "
            "bytes in 0 messages");
  const EndpointStats loud{.failed_connects = 1,
                           .rejected = 2,
                           .not_allowed = 3,
                           .last_send = steady_clock::now() - 1h,
                           .timeouts = 4,
                           .overruns = 5,
                           .decode_errors = 6,
                           .callback_errors = 7,
                           .dropped_bytes = 8,
                           .unsent_bytes = 9};
  EXPECT_TRUE(std::regex_match(
      to_string(loud),
      std::regex("idle, 0 connections, received 0 bytes in 0 messages, sent 0 "
                 "bytes in 0 messages \\(the last 3600\\.. s ago\\), 1 failed "
                 "to connect, 2 rejected, 3 not allowed, 4 timed out, 5 too "
                 "long, 6 not decoded, 7 callbacks failed, 8 bytes dropped "
                 "unread, 9 bytes not sent")))
      << to_string(loud);
  EXPECT_TRUE(to_string(EndpointStats{.callback_errors = 1,
                                      .dropped_bytes = 1,
                                      .unsent_bytes = 1})
                  .ends_with(", 1 callback failed, 1 byte dropped unread, 1 "
                             "byte not sent"));
}

// --- Queues ---

TEST(CallbackQueueStatsTest, TellWhatBecameOfEachCallback) {
  CallbackQueue queue(3);
  CallbackQueue::Owner owner(queue);
  EXPECT_TRUE(queue.post([] {}));
  EXPECT_TRUE(owner.post([] {}));
  EXPECT_TRUE(queue.post([] { throw std::runtime_error("x"); }));
  EXPECT_FALSE(queue.post([] {}));
  EXPECT_THROW(queue.post_wait([] {}, 1ms), TimeoutError);
  owner.cancel();
  EXPECT_FALSE(owner.post([] {}));
  EXPECT_THROW(queue.run_pending(), std::runtime_error);
  EXPECT_TRUE(queue.post([] {}));
  const CallbackQueueStats stats = queue.stats();
  EXPECT_EQ(stats.posted, 4u);
  EXPECT_EQ(stats.run, 2u);
  EXPECT_EQ(stats.dropped, 1u);
  EXPECT_EQ(stats.refused, 3u);
  EXPECT_EQ(stats.waiting, 1u);
  EXPECT_EQ(stats.most_waiting, 3u);
  EXPECT_EQ(to_string(stats),
            "4 posted, 2 run, 1 dropped, 3 refused, 1 waiting, 3 at most");
}

TEST(CallbackQueueStatsTest, CountTheEventsOfServersAndWhatTheirEndDrops) {
  CallbackQueue queue;
  {
    ServedStage server({.callbacks = &queue});
    EXPECT_TRUE(server->post([] {}));
    EXPECT_EQ(queue.stats().posted, 2u);
    EXPECT_EQ(queue.run_pending(), 2u);
    server.server.reset();  // runs the disconnected event: this thread drains
    EXPECT_EQ(queue.stats().run, 3u);
  }
  EXPECT_EQ(queue.stats().posted, 3u);
  EXPECT_EQ(queue.stats().dropped, 0u);
}

TEST(SendQueueStatsTest, TellHowManyWait) {
  ServedStage server;
  SendQueue queue(*server);
  ASSERT_EQ(server->send(std::string(kMuch, 'x')), SendResult::kQueued);
  ASSERT_EQ(queue.post("taken by the writer"), SendResult::kQueued);
  ASSERT_TRUE(eventually([&] { return queue.size() == 0; }));
  ASSERT_EQ(queue.post("waits"), SendResult::kQueued);
  EXPECT_EQ(queue.stats().waiting, 1u);
  EXPECT_EQ(to_string(queue.stats()),
            "2 posted, 0 sent, 0 dropped for lack of room, 0 dropped with "
            "their connection, 1 waiting");
}

// --- OpenMetrics ---

TEST(OpenMetricsTest, PageOfNothingIsItsEnd) {
  EXPECT_EQ(OpenMetrics().text(), "# EOF\n");
}

TEST(OpenMetricsTest, HasAFamilyOnceWithASampleForEachName) {
  OpenMetrics metrics;
  metrics.add("dome", EndpointStats{.connections = 3});
  metrics.add("a \"b\" \\ \n", EndpointStats{.connected = true});
  const std::string text = metrics.text();
  EXPECT_NE(text.find("# TYPE tcpip_connections counter\n"
                      "# HELP tcpip_connections Connections that were made.\n"
                      "tcpip_connections_total{name=\"a \\\"b\\\" \\\\ \\n\"} "
                      "0\n"
                      "tcpip_connections_total{name=\"dome\"} 3\n#"),
            text.npos)
      << text;
  EXPECT_NE(text.find("# UNIT tcpip_sent_bytes bytes\n"), text.npos);
  EXPECT_NE(text.find("tcpip_connected{name=\"dome\"} 0\n"), text.npos);
  EXPECT_EQ(text.find("tcpip_send_queue"), text.npos);
}

TEST(OpenMetricsTest, NameMayBeUsedOnceForEachKind) {
  OpenMetrics metrics;
  metrics.add("dome", EndpointStats());
  metrics.add("dome", SendQueueStats());
  metrics.add("dome", PeriodicSenderStats());
  metrics.add("dome", CallbackQueueStats());
  EXPECT_THROW(metrics.add("dome", EndpointStats()), std::invalid_argument);
  EXPECT_THROW(metrics.add("dome", SendQueueStats()), std::invalid_argument);
  EXPECT_THROW(metrics.add("dome", PeriodicSenderStats()),
               std::invalid_argument);
  EXPECT_THROW(metrics.add("dome", CallbackQueueStats()),
               std::invalid_argument);
}

// What Prometheus's own library for Python makes of a page.
TEST(OpenMetricsTest, ParserOfPrometheusReadsThePage) {
  if (Subprocess({"python3", "-c", "import prometheus_client"},
                 Subprocess::Errors::kWithOutput)
          .wait() != 0) {
    GTEST_SKIP() << "python3-prometheus-client is not installed";
  }
  ServedStage server;
  server->write("x", kPatience);
  SendQueue queue(*server);
  CallbackQueue callbacks;
  OpenMetrics metrics;
  metrics.add("dome \"1\"\n", server->stats());
  metrics.add("telemetry", queue.stats());
  metrics.add("periodic", PeriodicSenderStats{.sent = 5});
  metrics.add("loop", callbacks.stats());
  const std::string path = testing::TempDir() + "/page.txt";
  std::ofstream(path) << metrics.text();
  Subprocess parser(
      {"python3", "-c",
       "import sys\n"
       "from prometheus_client.openmetrics.parser import *\n"
       "text = open(sys.argv[1]).read()\n"
       "families = list(text_string_to_metric_families(text))\n"
       "print(len(families))\n"
       "for family in families:\n"
       "    for s in family.samples:\n"
       "        print(s.name, repr(s.labels['name']), float(s.value))\n"
       "print('end')\n",
       path});
  const int families = std::stoi(parser.read_line());
  EXPECT_EQ(families, 32);
  EXPECT_EQ(parser.read_line_after("tcpip_connections_total "),
            "'dome \"1\"\\n' 1.0");
  EXPECT_EQ(parser.read_line_after("tcpip_sent_bytes_total "),
            "'dome \"1\"\\n' 1.0");
  const double sent =
      std::stod(parser.read_line_after("tcpip_last_send_timestamp_seconds "
                                       "'dome \"1\"\\n' "));
  EXPECT_NEAR(sent,
              std::chrono::duration<double>(
                  std::chrono::system_clock::now().time_since_epoch())
                  .count(),
              60);
  EXPECT_EQ(parser.read_line_after("tcpip_send_queue_waiting "),
            "'telemetry' 0.0");
  EXPECT_EQ(parser.read_line_after("tcpip_periodic_sent_total "),
            "'periodic' 5.0");
  parser.read_line_after("end");
  EXPECT_EQ(parser.wait(), 0);
}

}  // namespace
}  // namespace tcpip
