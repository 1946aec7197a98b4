#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/testing/connection_events.h"
#include "tests/support/failures.h"
#include "tests/support/fake_connection.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip::ConnectionEvent;
using tcpip::DisconnectReason;
using tcpip_tests::Failures;
using tcpip_tests::failures_of;
using tcpip_tests::fake_connection;
using tcpip_tests::is_one_fatal;

ConnectionEvent connected(std::uint64_t number = 1) {
  return {.connected = true, .connection = fake_connection(number)};
}
ConnectionEvent disconnected(DisconnectReason reason,
                             std::uint64_t number = 1) {
  return {.reason = reason, .connection = fake_connection(number)};
}

TEST(TestingConnectionEventsTest, AreTakenOutInTheirOrder) {
  const ConnectionEvents events;
  events.add(connected(1));
  events.add(disconnected(DisconnectReason::kReset, 1));
  events.add(connected(2));
  EXPECT_EQ(events.size(), 3u);
  EXPECT_EQ(events.next().connection.number(), 1u);
  EXPECT_EQ(events.next().reason, DisconnectReason::kReset);
  EXPECT_EQ(events.next().connection.number(), 2u);
  EXPECT_EQ(events.size(), 0u);
}

TEST(TestingConnectionEventsTest, NextWaitsForOne) {
  const ConnectionEvents events;
  std::jthread thread([&] { events.add(connected(7)); });
  EXPECT_EQ(events.next().connection.number(), 7u);
}

TEST(TestingConnectionEventsTest, NextThrowsAsTheLibraryDoes) {
  const ConnectionEvents events;
  EXPECT_THROW(events.next(tcpip::Wait::none()), tcpip::TimeoutError);
  EXPECT_THROW(events.next(1ms), tcpip::TimeoutError);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(events.next(stop.get_token()), tcpip::CancelledError);
  EXPECT_THROW(events.assert_next_connected(true, stop.get_token()),
               tcpip::CancelledError);
}

TEST(TestingConnectionEventsTest, ClearForgetsThem) {
  const ConnectionEvents events;
  events.add(connected());
  events.clear();
  events.assert_none();
}

TEST(TestingConnectionEventsTest, WaitForIsTrueOnceThatManyAreThere) {
  const ConnectionEvents events;
  EXPECT_TRUE(events.wait_for(0, tcpip::Wait::none()));
  EXPECT_FALSE(events.wait_for(1, tcpip::Wait::none()));
  EXPECT_FALSE(events.wait_for(1, 1ms));
  events.add(connected(1));
  std::jthread thread([&] { events.add(connected(2)); });
  EXPECT_TRUE(events.wait_for(2));
  EXPECT_EQ(events.size(), 2u) << "it takes none out";
  events.next();
  EXPECT_FALSE(events.wait_for(2, tcpip::Wait::none())) << "one is taken out";
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW((void)events.wait_for(1, stop.get_token()),
               tcpip::CancelledError);
}

TEST(TestingConnectionEventsTest, ValuesAndTextTellThoseThatAreThere) {
  const ConnectionEvents events;
  EXPECT_TRUE(events.values().empty());
  EXPECT_EQ(events.text(), "");
  events.add(connected(1));
  events.add(disconnected(DisconnectReason::kPeerClosed, 1));
  events.add(connected(2));
  ASSERT_EQ(events.values().size(), 3u);
  EXPECT_EQ(events.values()[1].reason, DisconnectReason::kPeerClosed);
  EXPECT_EQ(events.text(), "connected 1, peer closed 1, connected 2");
  events.next();
  ASSERT_EQ(events.values().size(), 2u);
  EXPECT_EQ(events.text(), "peer closed 1, connected 2");
}

TEST(TestingConnectionEventsTest, CopiesShareThem) {
  std::optional<ConnectionEvents> events(std::in_place);
  const ConnectionEvents copy = *events;
  const auto callback = events->callback();
  events.reset();
  callback(connected(3));
  EXPECT_EQ(copy.next().connection.number(), 3u);
}

// --- Callbacks ---

struct Endpoint {
  int calls = 0;
};

TEST(TestingConnectionEventsTest, CallbackTakesAnyEndpointOrNone) {
  const ConnectionEvents events;
  const std::function<void(Endpoint&, const ConnectionEvent&)> with =
      events.callback();
  const std::function<void(const ConnectionEvent&)> without = events.callback();
  const std::function<void(Endpoint, ConnectionEvent)> by_value =
      events.callback();
  Endpoint endpoint;
  with(endpoint, connected(1));
  without(connected(2));
  by_value(endpoint, connected(3));
  for (const std::uint64_t i : {1u, 2u, 3u}) {
    EXPECT_EQ(events.next().connection.number(), i);
  }
}

TEST(TestingConnectionEventsTest, CallbackRecordsThenCallsTheNext) {
  const ConnectionEvents events;
  using Callback = std::function<void(Endpoint&, const ConnectionEvent&)>;
  const Callback callback = events.callback(
      Callback([&](Endpoint& endpoint, const ConnectionEvent& event) {
        ++endpoint.calls;
        EXPECT_EQ(event.connection.number(), 5u);
        EXPECT_EQ(events.size(), 1u);
      }));
  Endpoint endpoint;
  callback(endpoint, connected(5));
  EXPECT_EQ(endpoint.calls, 1);

  const Callback with_empty = events.callback(Callback());
  with_empty(endpoint, connected(6));
  EXPECT_EQ(events.size(), 2u);
}

// --- Assertions ---

TEST(TestingConnectionEventsTest, AssertionsPassAndReturnTheEvent) {
  const ConnectionEvents events;
  events.assert_none();
  events.add(connected(4));
  EXPECT_EQ(events.assert_next_connected(true).connection.number(), 4u);
  events.add(disconnected(DisconnectReason::kPeerClosed));
  EXPECT_FALSE(events.assert_next_connected(false).connected);
  events.add(disconnected(DisconnectReason::kReset, 9));
  EXPECT_EQ(events.assert_next_disconnected(DisconnectReason::kReset)
                .connection.number(),
            9u);
  events.assert_none(1ms);
}

TEST(TestingConnectionEventsTest, AssertNextConnectedFailsAtTheOtherKind) {
  const ConnectionEvents events;
  events.add(disconnected(DisconnectReason::kPeerClosed));
  EXPECT_TRUE(is_one_fatal(
      failures_of([&] { events.assert_next_connected(true); }),
      "the next connection event is: disconnected (peer closed), connection 1; "
      "expected: connected"));
  events.add(connected(2));
  EXPECT_TRUE(
      is_one_fatal(failures_of([&] { events.assert_next_connected(false); }),
                   "the next connection event is: connected, connection 2; "
                   "expected: disconnected"));
  events.assert_none();  // both were taken out
}

TEST(TestingConnectionEventsTest, AssertNextConnectedFailsIfNoneComesInTime) {
  const ConnectionEvents events;
  EXPECT_TRUE(is_one_fatal(
      failures_of([&] { events.assert_next_connected(true, 1ms); }),
      "no connection event in time; expected: connected"));
  EXPECT_TRUE(is_one_fatal(
      failures_of([&] { events.assert_next_connected(false, 1ms); }),
      "no connection event in time; expected: disconnected"));
}

TEST(TestingConnectionEventsTest, AssertNextDisconnectedFails) {
  const ConnectionEvents events;
  const auto assert_reset = [&] {
    events.assert_next_disconnected(DisconnectReason::kReset, 1ms);
  };
  EXPECT_TRUE(is_one_fatal(failures_of(assert_reset), "in time"));
  events.add(disconnected(DisconnectReason::kClosedHere));
  EXPECT_TRUE(is_one_fatal(failures_of(assert_reset),
                           "; expected: disconnected (reset)"));
  events.add(connected());
  EXPECT_TRUE(is_one_fatal(failures_of(assert_reset), "is: connected"));
}

TEST(TestingConnectionEventsTest, AssertNoneFails) {
  const ConnectionEvents events;
  events.add(connected());
  EXPECT_TRUE(is_one_fatal(failures_of([&] { events.assert_none(); }),
                           "there is: connected, connection 1"));
  events.assert_none();

  std::jthread thread([&] { events.add(connected(2)); });
  EXPECT_TRUE(is_one_fatal(failures_of([&] { events.assert_none(kPatience); }),
                           "there is: connected, connection 2"));
}

TEST(TestingConnectionEventsTest, FailuresAreReportedAtTheCallersLine) {
  const ConnectionEvents events;
  int line = 0;
  const Failures failures = failures_of([&] {
    line = __LINE__ + 1;
    events.assert_next_connected(true, 1ms);
  });
  EXPECT_EQ(failures.line, line);
}

TEST(TestingConnectionEventsTest, DescribeTellsAll) {
  ConnectionEvent event = disconnected(DisconnectReason::kReset, 12);
  event.error = std::error_code(ECONNRESET, std::generic_category());
  EXPECT_EQ(describe(event),
            "disconnected (reset), connection 12: Connection reset by peer");
  EXPECT_EQ(describe(connected(1)), "connected, connection 1");
}

TEST(TestingConnectionEventsTest, SummaryIsTheReasonAndTheNumber) {
  EXPECT_EQ(summary(connected(3)), "connected 3");
  EXPECT_EQ(summary(disconnected(DisconnectReason::kClosedHere, 3)),
            "closed here 3");
}

}  // namespace
}  // namespace tcpip_testing
