#include "tcpip/connection.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/testing/leak_guard.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/stage.h"

namespace {

// The bytes of this program that are allocated and not freed.
std::atomic<std::int64_t> live_bytes{0};

}  // namespace

void* operator new(std::size_t size) {
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  live_bytes += static_cast<std::int64_t>(::malloc_usable_size(memory));
  return memory;
}
void operator delete(void* memory) noexcept {
  if (memory == nullptr) return;
  live_bytes -= static_cast<std::int64_t>(::malloc_usable_size(memory));
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  operator delete(memory);
}
// The sanitizers have their own of these.
void* operator new[](std::size_t size) { return operator new(size); }
void operator delete[](void* memory) noexcept { operator delete(memory); }
void operator delete[](void* memory, std::size_t) noexcept {
  operator delete(memory);
}

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_tests::BlockedCall;
using tcpip_tests::ClientStage;
using tcpip_tests::eventually;
using tcpip_tests::kPatience;
using tcpip_tests::Queued;
using tcpip_tests::ReadLoopStage;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::send_all;
using tcpip_tests::ServedStage;
using tcpip_tests::ServerStage;
using tcpip_tests::SharedList;

// What holds of one that is over, and of none.
void expect_over(const Connection& connection) {
  EXPECT_FALSE(connection.connected());
  // The thread that ends the connection requests the stop right after.
  EXPECT_TRUE(
      eventually([&] { return connection.stop_token().stop_requested(); }));
  EXPECT_EQ(connection.reader(), nullptr);
  EXPECT_EQ(connection.writer(), nullptr);
  EXPECT_EQ(connection.native_handle(), -1);
  EXPECT_EQ(connection.unsent(), 0u);
  EXPECT_THROW(connection.read_str(), ConnectionError);
  EXPECT_THROW(connection.try_read(1), ConnectionError);
  EXPECT_THROW(connection.write_str("a"), ConnectionError);
  EXPECT_THROW(connection.drain(), ConnectionError);
  connection.close();
  EXPECT_FALSE(connection.connected());
}

// --- A handle ---

static_assert(std::is_nothrow_default_constructible_v<Connection>);
static_assert(std::is_nothrow_copy_constructible_v<Connection>);
static_assert(std::is_nothrow_copy_assignable_v<Connection>);

TEST(ConnectionTest, NoneIsAsOneThatIsOverWithTheNumber0) {
  const Connection none;
  expect_over(none);
  EXPECT_FALSE(none.should_be_connected());
  EXPECT_EQ(none.number(), 0u);
  EXPECT_TRUE(none.peer_address().empty());
  EXPECT_TRUE(none.local_address().empty());
  EXPECT_FALSE(none.post([] {}));
  EXPECT_THROW(none.post_wait([] {}), CancelledError);
  EXPECT_TRUE(none == Connection());
}

TEST(ConnectionTest, AnEndpointWithoutOneGivesNone) {
  ServerStage<> server;
  EXPECT_TRUE(server->connection() == Connection());
  const UniqueFd peer = server.connect();
  EXPECT_FALSE(server->connection() == Connection());
  server->close_client();
  EXPECT_TRUE(server->connection() == Connection());
}

TEST(ConnectionTest, CopiesSpeakOfTheSameConnection) {
  ServedStage server;
  const Connection first = server->connection();
  const Connection second = server->connection();
  const Connection copy = first;
  Connection assigned;
  assigned = first;
  for (const Connection& other : {second, copy, assigned}) {
    EXPECT_TRUE(other == first);
    EXPECT_TRUE(other.connected());
  }
  copy.close();
  for (const Connection& other : {first, second, copy, assigned}) {
    expect_over(other);
  }
  assigned = Connection();
  EXPECT_EQ(first.number(), 1u) << "assigning to a copy changes that copy only";
}

TEST(ConnectionTest, AreEqualIfTheySpeakOfTheSameConnection) {
  ServedStage server;
  ServedStage other_server;
  const Connection first = server->connection();
  EXPECT_FALSE(first == other_server->connection()) << "both have the number 1";
  server.reconnect_after_close();
  const Connection second = server->connection();
  EXPECT_FALSE(first == second);
  EXPECT_FALSE(first == Connection());
  ASSERT_TRUE(server.events.wait_for(3));
  const auto events = server.events.values();
  EXPECT_TRUE(events[0].connection == first);
  EXPECT_TRUE(events[1].connection == first);
  EXPECT_TRUE(events[2].connection == second);
}

TEST(ConnectionTest, NumbersCountTheConnectionsOfTheirEndpoint) {
  ServedStage server;
  for (std::uint64_t i = 1; i <= 3; ++i) {
    EXPECT_EQ(server->connection().number(), i);
    EXPECT_EQ(server->connection_count(), i);
    server.reconnect_after_close();
  }
  const ClientStage client;
  EXPECT_EQ(client.client->connection().number(), 1u);
}

TEST(ConnectionTest, AddressesAreKnownAlsoWhenItIsOver) {
  ServedStage server;
  const Connection connection = server->connection();
  for (const bool over : {false, true}) {
    if (over) server->close();
    EXPECT_EQ(connection.peer_address().port(),
              tcpip_tests::local_port(server.peer.get()));
    EXPECT_EQ(connection.local_address().port(), server->port());
    EXPECT_EQ(connection.local_address().host(), "127.0.0.1");
  }
}

TEST(ConnectionTest, ReadsAndWritesAsTheEndpointDoes) {
  ServedStage server;
  const Connection connection = server->connection();
  send_all(server.peer, "one\r\ntwo\r\n");
  EXPECT_EQ(connection.read_str(kPatience), "one");
  EXPECT_EQ(server->read_str(kPatience), "two") << "the same bytes";
  connection.write_str("a", kPatience);
  server->write_str("b", kPatience);
  EXPECT_EQ(recv_exact(server.peer, 6), "a\r\nb\r\n");
}

TEST(ConnectionTest, UsesTheTextFormatOfItsEndpoint) {
  ServedStage server;
  const Connection connection = server->connection();
  server->set_terminator(";");
  send_all(server.peer, "one;");
  EXPECT_EQ(connection.read_str(kPatience), "one");
  // Also that of this moment, whatever the last call has used.
  server->set_terminator("|");
  send_all(server.peer, "two;|");
  EXPECT_EQ(connection.read_str(kPatience), "two;");
  connection.write_str("three", kPatience);
  EXPECT_EQ(recv_exact(server.peer, 6), "three|");
  server->set_terminator("!");
  connection.write_str("four", kPatience);
  EXPECT_EQ(recv_exact(server.peer, 5), "four!");
}

TEST(ConnectionTest, ACopyInALambdaCanDoEverything) {
  ServedStage server;
  // Not mutable: what it captures is const.
  const auto answer = [client = server->connection()] {
    client.write_str("you said " + client.read_str(kPatience), kPatience);
    client.close();
  };
  send_all(server.peer, "hello\r\n");
  answer();
  EXPECT_EQ(recv_until_eof(server.peer), "you said hello\r\n");
}

// --- Kept for ever ---

TEST(KeptConnectionTest, IsOverWhenThePeerHasGoneAndItsBytesAreRead) {
  ServedStage server;
  const Connection connection = server->connection();
  send_all(server.peer, "last\r\n");
  server.peer.reset();
  EXPECT_EQ(connection.read_str(kPatience), "last");
  EXPECT_TRUE(eventually([&] { return !connection.connected(); }));
  EXPECT_TRUE(connection.should_be_connected()) << "an unexpected loss";
  ASSERT_TRUE(server.events.wait_for(2));
  expect_over(connection);
}

TEST(KeptConnectionTest, IsOverWhenItsServerIsGone) {
  std::optional<ServedStage> server(std::in_place);
  const Connection connection = (*server)->connection();
  send_all(server->peer, "unread\r\n");
  server->server.reset();
  expect_over(connection);
  EXPECT_FALSE(connection.should_be_connected());
  EXPECT_EQ(connection.number(), 1u);
  EXPECT_FALSE(connection.post([] {}));
  EXPECT_THROW(connection.post_wait([] {}), CancelledError);
}

TEST(KeptConnectionTest, IsOverWhenItsClientIsGone) {
  ClientStage client;
  const Connection connection = client->connection();
  client.client.reset();
  expect_over(connection);
}

TEST(KeptConnectionTest, KeepsNoDescriptorWhileTheServerLives) {
  std::vector<Connection> kept;
  ServerStage<> server;
  const tcpip_testing::LeakSnapshot before;
  for (int i = 0; i < 20; ++i) {
    const UniqueFd peer = server.connect();
    kept.push_back(server->connection());
    send_all(peer, "unread");
    if (i % 2 == 0) server->close_client();
  }
  kept.back().close();
  EXPECT_TRUE(before.is_restored());
  for (const Connection& connection : kept) expect_over(connection);
}

TEST(KeptConnectionTest, KeepsNeitherDescriptorNorThreadOfItsServer) {
  const tcpip_testing::LeakSnapshot before;
  std::vector<Connection> kept;
  for (int i = 0; i < 5; ++i) {
    ReadLoopStage server(
        [](Connection& client, std::stop_token stop) { client.read_str(stop); },
        {.connect_callback = [&](const ConnectionEvent& event) {
          if (event.connected) kept.push_back(event.connection);
        }});
    const UniqueFd peer = server.connect();
    ASSERT_TRUE(server.events.wait_for(1));
    server->close();
  }
  EXPECT_EQ(kept.size(), 5u);
  EXPECT_TRUE(before.is_restored());
}

// Leaves 256 KiB in the reader's buffer and keeps the connection.
void fill_and_keep(std::vector<Connection>& kept) {
  constexpr std::size_t kBytes = 256 * 1024;
  ServedStage server({.limit = 2 * kBytes});
  for (int i = 0; i < 4; ++i) {
    const Connection connection = server->connection();
    BlockedCall<void> sending(
        [&] { send_all(server.peer, std::string(kBytes, 'x')); });
    EXPECT_THROW(connection.read_all(kBytes - 1, kPatience), LimitOverrunError);
    sending.get();
    kept.push_back(connection);
    server.reconnect_after_close();
  }
}

TEST(KeptConnectionTest, KeepsNoBuffer) {
  std::vector<Connection> kept;
  kept.reserve(1000);
  fill_and_keep(kept);  // what is made once for the process is made
  const std::size_t count = kept.size();
  const std::int64_t before = live_bytes;
  for (int i = 0; i < 5; ++i) fill_and_keep(kept);
  const std::int64_t each =
      (live_bytes - before) / static_cast<std::int64_t>(kept.size() - count);
  EXPECT_GT(each, 0) << "it counts";
  EXPECT_LE(each, 1024);
}

// Above what a buffer of the library may keep.
constexpr std::int64_t kMuch = 600'000;

TEST(WriteBufferTest, OfALargeMessageIsFreedBeforeTheNextOne) {
  auto pair =
      tcpip_tests::loopback_pair(tcpip_tests::Transport::kIpv4, kDefaultLimit,
                                 tcpip_tests::Buffers::kFixed);
  const std::string large(8'000'000, 'x');
  const std::int64_t before = live_bytes;
  pair.writer.write(large);
  EXPECT_GT(live_bytes - before, kMuch) << "it is not all sent";
  for (std::size_t read = 0; read < large.size();) {
    read += tcpip_tests::recv_some(pair.peer).size();
    pair.writer.try_write_lines(
        std::span<const std::string_view>());  // sends what is unsent
  }
  pair.writer.write_lines({"a", "b"});
  EXPECT_EQ(recv_exact(pair.peer, 2), "ab");
  EXPECT_LT(live_bytes - before, kMuch);
}

TEST(WriteBufferTest, DoesNotGrowWhileThePeerKeepsReading) {
  auto pair =
      tcpip_tests::loopback_pair(tcpip_tests::Transport::kIpv4, kDefaultLimit,
                                 tcpip_tests::Buffers::kFixed);
  const std::string large(8'000'000, 'x');
  const std::string_view part = std::string_view(large).substr(0, 1'000'000);
  pair.writer.write(large);
  const std::int64_t before = live_bytes;
  for (int i = 0; i < 40; ++i) {
    // Reads as much as is written: there is always something unsent.
    std::size_t read = 0;
    while (read < part.size()) {
      read += tcpip_tests::recv_some(pair.peer, part.size() - read).size();
      pair.writer.try_write_lines(
          std::span<const std::string_view>());  // sends what is unsent
    }
    pair.writer.write(part);
    ASSERT_GT(pair.writer.unsent(), 0u);
  }
  EXPECT_LT(live_bytes - before, 2 * std::ssize(large));
}

// --- close() and the stop token ---

TEST(ConnectionCloseTest, EndsThisOneAndTheServerGoesOn) {
  ServedStage server;
  const Connection connection = server->connection();
  connection.write_str("bye", kPatience);
  connection.close();
  expect_over(connection);
  EXPECT_FALSE(connection.should_be_connected());
  EXPECT_EQ(recv_until_eof(server.peer), "bye\r\n");
  server.reconnect();
  ASSERT_TRUE(server.events.wait_for(3));
  EXPECT_EQ(server.events.text(), "connected 1, closed here 1, connected 2");
}

TEST(ConnectionCloseTest, EndsNoOtherOneHoweverLateItComes) {
  ServedStage server;
  const Connection first = server->connection();
  server.peer.reset();
  ASSERT_TRUE(server.events.wait_for(2));
  server.reconnect();
  std::jthread late([first] { first.close(); });
  late.join();
  EXPECT_TRUE(first.should_be_connected()) << "the peer had ended it";
  EXPECT_TRUE(server->connected());
  send_all(server.peer, "still here\r\n");
  EXPECT_EQ(server->read_str(kPatience), "still here");
  EXPECT_EQ(server->connection().number(), 2u);
}

TEST(ConnectionCloseTest, WakesABlockedRead) {
  ServedStage server;
  const Connection connection = server->connection();
  BlockedCall call([&] { return connection.read_str(); });
  ASSERT_TRUE(call.await_blocked());
  connection.close();
  EXPECT_THROW(call.get(), ConnectionError);
}

TEST(ConnectionCloseTest, OfAClientLeavesTheClientToBeClosed) {
  ClientStage client;
  const Connection connection = client->connection();
  connection.close();
  expect_over(connection);
  EXPECT_FALSE(client->connected());
  EXPECT_FALSE(client->wait_done(Wait::none()));
  EXPECT_EQ(recv_until_eof(client.peer), "");
  client->close();
  EXPECT_TRUE(client->wait_done(Wait::none()));
  EXPECT_EQ(client.events.text(), "connected 1, closed here 1");
}

TEST(ConnectionStopTest, IsRequestedHoweverTheConnectionEnds) {
  const std::function<void(ServedStage&)> kEnds[] = {
      [](auto& server) { server.peer.reset(); },
      [](auto& server) { tcpip_tests::reset(std::move(server.peer)); },
      [](auto& server) { server->close_client(); },
      [](auto& server) { server->connection().close(); },
      [](auto& server) { server->close(); },
      [](auto& server) { server.server.reset(); },
  };
  for (const auto& end : kEnds) {
    ServedStage server;
    const std::stop_token stop = server->connection().stop_token();
    EXPECT_FALSE(stop.stop_requested());
    end(server);
    EXPECT_TRUE(eventually([&] { return stop.stop_requested(); }));
  }
}

TEST(ConnectionStopTest, CloseInAStopCallbackLeavesTheEventsQueued) {
  ServedStage server{Queued()};
  const Connection connection = server->connection();
  const std::stop_callback on_stop(connection.stop_token(),
                                   [&] { server->close(); });
  server->close_client();
  EXPECT_EQ(server.drained_text(), "connected 1, closed here 1");
}

// The handler wakes only when the stop callback before it has returned.
TEST(ConnectionStopTest, AStopCallbackMayCloseTheServer) {
  for (const bool by_connection : {true, false}) {
    std::mutex mutex;
    std::condition_variable_any never;
    std::atomic<pid_t> id{0};
    ReadLoopStage server([&](Connection&, std::stop_token stop) {
      std::unique_lock lock(mutex);
      id = tcpip_tests::this_thread_id();
      never.wait(lock, stop, [] { return false; });
    });
    const UniqueFd peer = server.connect();
    ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
    const Connection client = server->connection();
    std::atomic<bool> called{false};
    const std::stop_callback on_end(client.stop_token(), [&] {
      server->close();
      called = true;
    });
    if (by_connection) {
      client.close();
    } else {
      server->close();
    }
    EXPECT_TRUE(called);
    server->close();
    EXPECT_TRUE(server->wait_done(Wait::none()));
  }
}

// The callback wakes only when the stop callback before it has returned.
TEST(ConnectionStopTest, AStopCallbackMayDestroyTheServer) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::atomic<pid_t> id{0};
  std::atomic<bool> over{false};
  std::optional<OneClientServer> server(
      std::in_place,
      ServerOptions{.host = "127.0.0.1",
                    .connect_callback = [&](const ConnectionEvent& event) {
                      if (!event.connected) return;
                      std::unique_lock lock(mutex);
                      id = tcpip_tests::this_thread_id();
                      never.wait(lock, event.connection.stop_token(),
                                 [] { return false; });
                      over = true;
                    }});
  server->start();
  const UniqueFd peer = tcpip_tests::connect_to(server->port());
  ASSERT_TRUE(server->wait_connected(kPatience));
  ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  const Connection client = server->connection();
  const std::stop_callback on_end(client.stop_token(), [&] { server.reset(); });
  client.close();
  EXPECT_FALSE(server.has_value());
  EXPECT_TRUE(eventually([&] { return over.load(); }));
}

TEST(ConnectionStopTest, AStopCallbackMayCloseTheClient) {
  ClientStage client;
  const Connection connection = client->connection();
  const int port = tcpip_tests::local_port(client.peer.get());
  const std::stop_callback on_end(connection.stop_token(),
                                  [&] { client->close(); });
  connection.close();
  EXPECT_TRUE(client->wait_done(kPatience));
  EXPECT_FALSE(tcpip_tests::socket_connected_to(port).has_value());
}

TEST(ConnectionStopTest, EachConnectionHasItsOwn) {
  ServedStage server;
  const std::stop_token first = server->connection().stop_token();
  server.reconnect_after_close();
  const std::stop_token second = server->connection().stop_token();
  EXPECT_TRUE(eventually([&] { return first.stop_requested(); }));
  EXPECT_FALSE(second.stop_requested());
  EXPECT_EQ(second, server->connection().stop_token());
}

// --- post() and post_wait() ---

TEST(ConnectionPostTest, RunsBehindItsConnectedEvent) {
  std::vector<std::string> ran;
  ServerStage<> server(Queued(),
                       {.connect_callback = [&](const ConnectionEvent& event) {
                         ran.push_back(tcpip_testing::summary(event));
                       }});
  UniqueFd peer = server.connect();
  const Connection connection = server->connection();
  EXPECT_TRUE(connection.post([&] { ran.push_back("posted"); }));
  connection.post_wait([&] { ran.push_back("posted and waited"); });
  EXPECT_TRUE(ran.empty()) << "it runs where the queue is drained";
  EXPECT_EQ(server.queue.run_pending(), 3u);
  EXPECT_EQ(ran, (std::vector<std::string>{"connected 1", "posted",
                                           "posted and waited"}));
}

TEST(ConnectionPostTest, MayRunWhenItsConnectionIsOver) {
  int ran = 0;
  ServedStage server{Queued()};
  const Connection connection = server->connection();
  connection.close();
  EXPECT_TRUE(connection.post([&] { ran += !connection.connected(); }));
  EXPECT_EQ(server.queue.run_pending(), 3u);
  EXPECT_EQ(ran, 1);
}

TEST(ConnectionPostTest, WithoutAQueueRunsOnTheThreadOfTheCallback) {
  SharedList<std::thread::id> where;
  ServedStage server({.connect_callback = [&](const ConnectionEvent& event) {
    if (event.connected) where.add(std::this_thread::get_id());
  }});
  EXPECT_TRUE(server->connection().post(
      [&] { where.add(std::this_thread::get_id()); }));
  ASSERT_TRUE(where.wait_for(2));
  EXPECT_EQ(where.values()[0], where.values()[1]);
  EXPECT_NE(where.values()[0], std::this_thread::get_id());
}

TEST(ConnectionPostTest, IsRefusedOnceTheServerIsClosed) {
  ServedStage server{Queued()};
  const Connection connection = server->connection();
  server->close();
  EXPECT_FALSE(connection.post([] { ADD_FAILURE() << "ran after close()"; }));
  EXPECT_THROW(
      connection.post_wait([] { ADD_FAILURE() << "ran after close()"; }),
      CancelledError);
  EXPECT_EQ(server.queue.run_pending(), 0u);
}

TEST(ConnectionPostTest, IsALogicErrorWithoutAPlaceToRun) {
  const tcpip_tests::HangGuard guard;
  OneClientServer server({.host = "127.0.0.1"});
  server.start();
  const UniqueFd peer = tcpip_tests::connect_to(server.port());
  ASSERT_TRUE(server.wait_connected(kPatience));
  const Connection connection = server.connection();
  EXPECT_THROW(connection.post([] {}), std::logic_error);
  EXPECT_THROW(connection.post_wait([] {}), std::logic_error);
}

TEST(ConnectionPostTest, RefusesAnEmptyCallback) {
  ServedStage server{Queued()};
  const Connection connection = server->connection();
  EXPECT_THROW(connection.post({}), std::invalid_argument);
  EXPECT_THROW(connection.post_wait({}), std::invalid_argument);
  EXPECT_EQ(server.queue.run_pending(), 1u) << "the event and nothing else";
}

TEST(ConnectionPostTest, WaitsForRoomInTheQueue) {
  CallbackQueue queue(1);
  int ran = 0;
  ServedStage server({.callbacks = &queue});
  const Connection connection = server->connection();
  EXPECT_TRUE(connection.post([&] { ++ran; }));
  EXPECT_FALSE(connection.post([&] { ADD_FAILURE() << "there was no room"; }));
  EXPECT_THROW(connection.post_wait([] {}, Wait::none()), TimeoutError);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(connection.post_wait([] {}, stop.get_token()), CancelledError);
  BlockedCall<void> waiting([&] { connection.post_wait([&] { ++ran; }); });
  ASSERT_TRUE(waiting.await_blocked());
  EXPECT_EQ(queue.run_pending(), 2u);  // the event and the first
  waiting.get();
  EXPECT_EQ(queue.run_pending(), 1u);
  EXPECT_EQ(ran, 2);
}

TEST(ConnectionPostTest, CloseOfTheServerEndsTheWaitForRoom) {
  CallbackQueue queue(1);
  ServedStage server({.callbacks = &queue});
  const Connection connection = server->connection();
  EXPECT_TRUE(connection.post([] {}));
  BlockedCall<void> waiting([&] { connection.post_wait([] {}); });
  ASSERT_TRUE(waiting.await_blocked());
  std::jthread([&] { server->close(); }).join();
  EXPECT_THROW(waiting.get(), CancelledError);
}

// --- reader(), writer(), native_handle() ---

TEST(ConnectionStreamsTest, ReadFromAndWriteToTheConnection) {
  ServedStage server;
  const Connection connection = server->connection();
  const std::shared_ptr<StreamReader> reader = connection.reader();
  const std::shared_ptr<StreamWriter> writer = connection.writer();
  ASSERT_NE(reader, nullptr);
  ASSERT_NE(writer, nullptr);
  send_all(server.peer, "one\ntwo\nthree\n");
  EXPECT_EQ(reader->read_line(kPatience), "one\n");
  EXPECT_EQ(connection.read_line(kPatience), "two\n");
  EXPECT_EQ(reader->read_line(kPatience), "three\n");
  writer->write("a");
  writer->drain(kPatience);
  connection.write("b", kPatience);
  EXPECT_EQ(recv_exact(server.peer, 2), "ab");
}

TEST(ConnectionStreamsTest, AReadThatFindsTheEndEndsTheConnection) {
  ServedStage server{Queued()};
  const Connection connection = server->connection();
  const std::shared_ptr<StreamReader> reader = connection.reader();
  send_all(server.peer, "last");
  server.peer.reset();
  EXPECT_EQ(reader->read_all(kPatience), "last");
  // As after any other read: before it returns.
  EXPECT_FALSE(connection.connected());
  EXPECT_EQ(server.drained_text(), "connected 1, peer closed 1");
  EXPECT_EQ(connection.reader(), nullptr);
}

TEST(ConnectionStreamsTest, AWriterThatIsClosedEndsTheConnectionFromThisSide) {
  ServedStage server{Queued()};
  const Connection connection = server->connection();
  connection.writer()->close();
  EXPECT_EQ(recv_until_eof(server.peer), "");
  server.peer.reset();
  EXPECT_TRUE(eventually([&] { return !server->connected(); }));
  EXPECT_EQ(server.drained_text(), "connected 1, closed here 1");
}

// The peer need not answer with a FIN of its own.
TEST(ConnectionStreamsTest,
     AHeartbeatThatAClosedWriterRefusesEndsTheConnection) {
  ServedStage server(Queued(),
                     {.heartbeats = {.send = true, .interval = 20ms}});
  const Connection connection = server->connection();
  connection.writer()->close();
  EXPECT_TRUE(eventually([&] { return !server->connected(); }));
  EXPECT_EQ(server.drained_text(), "connected 1, closed here 1");
}

TEST(ConnectionStreamsTest, AReadThatFindsAResetEndsTheConnection) {
  ServedStage server{Queued()};
  const Connection connection = server->connection();
  const std::shared_ptr<StreamReader> reader = connection.reader();
  send_all(server.peer, "unread");
  tcpip_tests::reset(std::move(server.peer));
  EXPECT_EQ(reader->read_exactly(6, kPatience), "unread");
  EXPECT_THROW(reader->read_exactly(1, kPatience), ConnectionError);
  EXPECT_FALSE(connection.connected());
  EXPECT_EQ(server.drained_text(), "connected 1, reset 1");
}

TEST(ConnectionStreamsTest, ASecondReaderIsRefusedWhicheverWayItComes) {
  ServedStage server;
  const Connection connection = server->connection();
  const std::shared_ptr<StreamReader> reader = connection.reader();
  {
    BlockedCall call([&] { return reader->read_line(); });
    ASSERT_TRUE(call.await_blocked());
    EXPECT_THROW(connection.read_str(kPatience), std::logic_error);
    EXPECT_THROW(server->read_str(kPatience), std::logic_error);
    send_all(server.peer, "one\n");
    EXPECT_EQ(call.get(), "one\n");
  }
  BlockedCall call([&] { return connection.read_line(); });
  ASSERT_TRUE(call.await_blocked());
  EXPECT_THROW(reader->read_line(kPatience), std::logic_error);
  send_all(server.peer, "two\n");
  EXPECT_EQ(call.get(), "two\n");
}

TEST(ConnectionStreamsTest, OnesThatAreKeptFailOnceItIsOver) {
  ServedStage server;
  const Connection connection = server->connection();
  const std::shared_ptr<StreamReader> reader = connection.reader();
  const std::shared_ptr<StreamWriter> writer = connection.writer();
  connection.close();
  EXPECT_THROW(reader->read_exactly(1, kPatience), ConnectionError);
  EXPECT_THROW(
      {
        writer->write("a");
        writer->drain(kPatience);
      },
      ConnectionError);
  server.reconnect();
  server->write("b", kPatience);
  EXPECT_EQ(recv_exact(server.peer, 1), "b") << "nothing of the first one's";
}

TEST(ConnectionStreamsTest, AWriterThatIsKeptIsClosedBeforeTheEventOfTheEnd) {
  constexpr int kRounds = 200;
  std::shared_ptr<StreamWriter> writer;  // of the dispatcher
  std::atomic<int> began{0};
  std::atomic<int> ended{0};
  std::atomic<int> open{0};
  OneClientServer server(
      {.host = "127.0.0.1",
       .connect_callback = [&](const ConnectionEvent& event) {
         if (event.connected) {
           writer = event.connection.writer();
           ++began;
           return;
         }
         if (!writer->is_closing()) ++open;
         ++ended;
       }});
  server.start();
  for (int i = 1; i <= kRounds; ++i) {
    const UniqueFd client = tcpip_tests::connect_to(server.port());
    ASSERT_TRUE(eventually([&] { return began == i; }));
    tcpip_tests::half_close(client);
    EXPECT_EQ(recv_until_eof(client), "");
    ASSERT_TRUE(eventually([&] { return ended == i; }));
  }
  EXPECT_EQ(open, 0) << "of " << kRounds;
}

// As a write that the end of the connection finds blocked.
TEST(ConnectionStreamsTest, AReaderThatIsKeptTellsWhatHasEndedTheConnection) {
  ServedStage server;
  const std::shared_ptr<StreamReader> reader = server->connection().reader();
  tcpip_tests::reset(std::move(server.peer));
  EXPECT_TRUE(eventually([&] { return !server->connected(); }));
  EXPECT_THROW(reader->read(1), ConnectionResetError);
}

TEST(ConnectionStreamsTest, AWriterThatIsKeptTellsWhatHasEndedTheConnection) {
  ServedStage server;
  const std::shared_ptr<StreamWriter> first = server->connection().writer();
  tcpip_tests::reset(std::move(server.peer));
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  EXPECT_THROW(first->write("a"), ConnectionResetError);
  server.reconnect();
  const std::shared_ptr<StreamWriter> second = server->connection().writer();
  server.peer.reset();
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  EXPECT_THROW(second->write("a"), BrokenPipeError);
  server.reconnect();
  const std::shared_ptr<StreamWriter> third = server->connection().writer();
  server->close_client();
  EXPECT_THROW(third->write("a"), ConnectionAbortedError);
}

TEST(ConnectionStreamsTest, KeepTheDescriptorForAsLongAsTheyAreKept) {
  ServerStage<> server;
  const UniqueFd peer = server.connect();
  const int fd = server->connection().native_handle();
  std::shared_ptr<StreamReader> reader = server->connection().reader();
  server->close();
  EXPECT_EQ(tcpip_testing::open_descriptors().count(fd), 1u);
  reader.reset();
  EXPECT_EQ(tcpip_testing::open_descriptors().count(fd), 0u);
}

TEST(ConnectionStreamsTest, MovingThemOutLeavesTheConnectionAsItIs) {
  ServedStage server;
  const Connection client = server->connection();
  {
    const StreamReader reader = std::move(*client.reader());
    const StreamWriter writer = std::move(*client.writer());
    EXPECT_FALSE(writer.is_closing());
  }
  send_all(server.peer, "hello");
  EXPECT_EQ(client.read(5, kPatience), "hello");
  client.write("answer", kPatience);
  EXPECT_EQ(recv_exact(server.peer, 6), "answer");
  EXPECT_TRUE(client.connected());
}

// What a connect_callback holds may hold the reader.
TEST(ConnectionStreamsTest, KeepNothingOfTheProgramsAlive) {
  struct Session {
    std::shared_ptr<StreamReader> reader;
    std::shared_ptr<StreamWriter> writer;
  };
  std::weak_ptr<Session> watched;
  {
    auto session = std::make_shared<Session>();
    watched = session;
    ServerStage<> server(
        ServerOptions{.connect_callback = [session = std::move(session)](
                                              const ConnectionEvent& event) {
          if (!event.connected) return;
          session->reader = event.connection.reader();
          session->writer = event.connection.writer();
        }});
    const UniqueFd peer = server.connect();
    ASSERT_TRUE(server.events.wait_for(1));
    server->close();
  }
  EXPECT_TRUE(watched.expired());
}

TEST(ConnectionStreamsTest, AReadThatOutlivesTheServerEnds) {
  std::shared_ptr<StreamReader> reader;
  std::optional<tcpip_tests::BlockedCall<std::string>> call;
  {
    ServedStage server;
    reader = server->connection().reader();
    call.emplace([&] { return reader->read(1); });
    ASSERT_TRUE(call->await_blocked());
  }
  EXPECT_EQ(call->get(), "");
}

// The peer may still send, and so it has not gone.
TEST(ConnectionStreamsTest, AWriteAfterWriteEofIsRefusedAndTheConnectionLives) {
  ServedStage server;
  const Connection client = server->connection();
  client.writer()->write_eof();
  EXPECT_THROW(client.write("more"), BrokenPipeError);
  EXPECT_THROW(client.try_write("more"), BrokenPipeError);
  send_all(server.peer, "still here\n");
  EXPECT_EQ(client.read_line(kPatience), "still here\n");
  EXPECT_TRUE(client.connected());
}

TEST(ConnectionStreamsTest, NativeHandleIsTheSockets) {
  ServedStage server;
  const Connection connection = server->connection();
  const int fd = connection.native_handle();
  EXPECT_EQ(tcpip_tests::socket_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(tcpip_tests::local_port(fd), server->port());
  connection.close();
  EXPECT_EQ(connection.native_handle(), -1);
}

}  // namespace
}  // namespace tcpip
