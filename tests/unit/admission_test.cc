// Whom a server lets in: AdmissionOptions.
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <utility>

#include "tcpip/address.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/options.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/stage.h"
#include "tests/support/told.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_tests::await_receivable;
using tcpip_tests::BlockedCall;
using tcpip_tests::connect_to;
using tcpip_tests::eventually;
using tcpip_tests::kPatience;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::ReadLoopStage;
using tcpip_tests::recv_ending;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::send_all;
using tcpip_tests::ServerStage;
using tcpip_tests::SharedList;
using tcpip_tests::told;

const AdmissionOptions kTakeOver{.when_busy = WhenBusy::kTakeOver};

bool has_hung_up(const UniqueFd& fd) {
  pollfd poll{fd.get(), POLLRDHUP, 0};
  return ::poll(&poll, 1, 0) == 1;
}

// --- Options ---

TEST(AdmissionOptionsTest, BadOnesAreRefusedByTheConstructor) {
  EXPECT_THROW(OneClientServer({.admission = {.silent_for = -1ms}}),
               std::invalid_argument);
  EXPECT_THROW(OneClientServer({.admission = {.allow = {"localhost"}}}),
               std::invalid_argument);
  EXPECT_THROW(OneClientServer({.admission = {.allow = {"::1", "10.0.0.1/8"}}}),
               std::invalid_argument);
}

// --- Who takes over ---

TEST(TakeOverTest, NewClientTakesThePlaceAndTheOldOneReadsACleanEnd) {
  ServerStage<> server({.admission = kTakeOver});
  const UniqueFd first = server.connect();
  server->write("last words", kPatience);
  const UniqueFd second = server.connect();
  const auto ending = recv_ending(first);
  EXPECT_EQ(ending.data, "last words");
  EXPECT_EQ(ending.error, 0);
  server->write("hello", kPatience);
  EXPECT_EQ(recv_exact(second, 5), "hello");
  ASSERT_TRUE(server.events.wait_for(3));
  EXPECT_EQ(server.events.text(), "connected 1, replaced 1, connected 2");
  const ConnectionEvent event = server.events.values()[1];
  EXPECT_EQ(event.error, std::error_code());
  EXPECT_EQ(event.dropped, 0u);
  EXPECT_TRUE(event.is_unexpected());
}

TEST(TakeOverTest, WhatTheOldOneSentAndNobodyReadIsDroppedAndCounted) {
  ServerStage<> server({.admission = kTakeOver});
  const UniqueFd first = server.connect();
  send_all(first, "unread");
  await_receivable(server->connection().native_handle(), 6);
  const UniqueFd second = server.connect();
  EXPECT_EQ(recv_until_eof(first), "");
  send_all(second, "x");
  EXPECT_EQ(server->read_exactly(1, kPatience), "x");
  ASSERT_TRUE(server.events.wait_for(3));
  EXPECT_EQ(server.events.values()[1].dropped, 6u);
}

TEST(TakeOverTest, EndsABlockedReadAndWriteOfTheOldConnection) {
  ServerStage<> server({.admission = kTakeOver});
  const UniqueFd first = server.connect();
  const Connection old = server->connection();
  BlockedCall reading(
      [&] { EXPECT_THROW(old.read_until("\n"), ConnectionError); });
  EXPECT_TRUE(reading.await_blocked());
  EXPECT_TRUE(old.try_write(std::string(32 << 20, 'a')));
  BlockedCall writing([&] { EXPECT_THROW(old.write("b"), ConnectionError); });
  EXPECT_TRUE(writing.await_blocked());
  const UniqueFd second = server.connect();
  reading.get();
  writing.get();
  EXPECT_FALSE(old.connected());
}

TEST(TakeOverTest, ReadHandlerServesTheNewClient) {
  SharedList<std::string> got;
  ReadLoopStage server(
      [&](Connection& client, const std::stop_token& stop) {
        got.add(std::to_string(client.number()) + client.read_str(stop));
      },
      {.admission = kTakeOver});
  const UniqueFd first = server.connect();
  send_all(first, "a\r\n");
  ASSERT_TRUE(got.wait_for(1));
  const UniqueFd second = server.connect();
  EXPECT_EQ(recv_until_eof(first), "");
  send_all(second, "b\r\n");
  ASSERT_TRUE(got.wait_for(2));
  EXPECT_EQ(got.values()[1], "2b");
  EXPECT_EQ(server.lines.count("read handler failed"), 0u);
}

TEST(TakeOverTest, AStormOfThemKeepsTheOrderOfTheEvents) {
  ServerStage<> server({.admission = kTakeOver});
  constexpr int kClients = 100;
  UniqueFd last;
  for (int i = 0; i < kClients; ++i) last = connect_to(server->port());
  ASSERT_TRUE(
      eventually([&] { return server->connection_count() == kClients; }));
  ASSERT_TRUE(server.events.wait_for(2 * kClients - 1));
  bool connected = false;
  for (const ConnectionEvent& event : server.events.values()) {
    EXPECT_NE(event.connected, connected);
    connected = event.connected;
  }
  server->write("x", kPatience);
  EXPECT_EQ(recv_exact(last, 1), "x");
}

TEST(TakeOverTest, TheDescriptorOfTheOldOneIsClosedOnceItsPeerHasClosed) {
  ServerStage<> server({.admission = kTakeOver});
  UniqueFd first = server.connect();
  const int port = tcpip_tests::local_port(first.get());
  const UniqueFd second = server.connect();
  EXPECT_EQ(recv_until_eof(first), "");
  first.reset();
  EXPECT_TRUE(
      eventually([&] { return !tcpip_tests::socket_connected_to(port); }));
}

TEST(TakeOverTest, OtherwiseTheNewClientIsTurnedAway) {
  ServerStage<> server;
  const UniqueFd first = server.connect();
  EXPECT_EQ(recv_until_eof(connect_to(server->port())), "");
  EXPECT_TRUE(server->connected());
  EXPECT_EQ(server->connection_count(), 1u);
}

TEST(TakeOverIfSilentTest, OnlyFromOneThatHasBeenSilentForSoLong) {
  constexpr auto kSilent = kWithSanitizer ? 1500ms : 700ms;
  ServerStage<> server({.admission = {.when_busy = WhenBusy::kTakeOverIfSilent,
                                      .silent_for = kSilent}});
  // The silence begins with the handshake, before connect() returns here.
  const auto start = std::chrono::steady_clock::now();
  const UniqueFd first = server.connect();
  EXPECT_EQ(recv_until_eof(connect_to(server->port())), "");
  EXPECT_EQ(server->connection_count(), 1u);
  // A rebooted controller tries again and again.
  UniqueFd second;
  ASSERT_TRUE(eventually([&] {
    second = connect_to(server->port());
    return eventually([&] {
             return server->connection_count() == 2 || has_hung_up(second);
           }) &&
           server->connection_count() == 2;
  }));
  EXPECT_GE(std::chrono::steady_clock::now() - start, kSilent - 20ms);
  EXPECT_EQ(recv_until_eof(first), "");
}

TEST(TakeOverIfSilentTest, NotFromOneThatGoesOnSending) {
  constexpr auto kSilent = kWithSanitizer ? 1500ms : 700ms;
  ServerStage<> server({.admission = {.when_busy = WhenBusy::kTakeOverIfSilent,
                                      .silent_for = kSilent}});
  const auto start = std::chrono::steady_clock::now();
  const UniqueFd first = server.connect();
  // It need not be read.
  while (std::chrono::steady_clock::now() - start < 2 * kSilent) {
    send_all(first, "x");
    EXPECT_EQ(recv_until_eof(connect_to(server->port())), "");
  }
  EXPECT_EQ(server->connection_count(), 1u);
  EXPECT_TRUE(server->connected());
}

// --- Who may connect ---

TEST(AllowTest, OnlyClientsOfTheseNetworksAreLetIn) {
  ServerStage<> closed({.admission = {.allow = {"10.0.0.0/8", "::1"}}});
  const UniqueFd peer = connect_to(closed->port());
  EXPECT_EQ(recv_until_eof(peer), "");
  EXPECT_FALSE(closed->connected());
  EXPECT_EQ(closed->stats().not_allowed, 1u);
  EXPECT_TRUE(closed.lines.wait_for("it is not allowed"));
  ServerStage<> open({.admission = {.allow = {"10.0.0.0/8", "127.0.0.0/8"}}});
  const UniqueFd client = open.connect();
  EXPECT_EQ(open->stats().not_allowed, 0u);
  ASSERT_TRUE(open.events.wait_for(1));
  EXPECT_EQ(open.events.text(), "connected 1");
}

TEST(AllowTest, TheProgramMayDecide) {
  std::atomic<bool> open{false};
  SharedList<std::string> asked;
  ServerStage<> server({.admission = {.allow = {"127.0.0.1"},
                                      .may_connect = [&](const Address& peer) {
                                        asked.add(peer.to_string());
                                        return open.load();
                                      }}});
  const UniqueFd first = connect_to(server->port());
  EXPECT_EQ(recv_until_eof(first), "");
  EXPECT_EQ(
      asked.values().front(),
      "127.0.0.1:" + std::to_string(tcpip_tests::local_port(first.get())));
  open = true;
  const UniqueFd second = server.connect();
  EXPECT_EQ(server->stats().not_allowed, 1u);
}

TEST(AllowTest, WhatTheProgramThrowsIsLoggedAndIsANo) {
  ServerStage<> server(
      {.admission = {.may_connect = [](const Address&) -> bool {
         throw std::runtime_error("no list");
       }}});
  EXPECT_EQ(recv_until_eof(connect_to(server->port())), "");
  EXPECT_TRUE(server.lines.wait_for("may_connect failed: no list"));
  EXPECT_EQ(server->stats().not_allowed, 1u);
}

TEST(AllowTest, TheConnectedClientIsNotDisturbed) {
  std::atomic<bool> open{true};
  ServerStage<> server({.admission = {.when_busy = WhenBusy::kTakeOver,
                                      .may_connect = [&](const Address&) {
                                        return open.load();
                                      }}});
  const UniqueFd first = server.connect();
  open = false;
  constexpr int kClients = 200;
  for (int i = 0; i < kClients; ++i) {
    const UniqueFd other = connect_to(server->port());
    send_all(other, "never read");
    EXPECT_EQ(recv_ending(other).data, "");
  }
  EXPECT_EQ(server->stats().not_allowed, kClients);
  server->write("x", kPatience);
  EXPECT_EQ(recv_exact(first, 1), "x");
  server->close();
  // At a bounded rate: few lines, which tell of all of them.
  EXPECT_EQ(told(server.lines, "it is not allowed"), kClients);
  EXPECT_LE(server.lines.count("it is not allowed"), 20u);
}

}  // namespace
}  // namespace tcpip
