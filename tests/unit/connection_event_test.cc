#include "tcpip/connection_event.h"

#include <gtest/gtest.h>

#include <iterator>
#include <set>
#include <string_view>
#include <system_error>

#include "tcpip/address.h"
#include "tcpip/connection.h"
#include "tests/support/fake_connection.h"

namespace tcpip {
namespace {

constexpr DisconnectReason kReasons[] = {
    DisconnectReason::kNone,          DisconnectReason::kPeerClosed,
    DisconnectReason::kReset,         DisconnectReason::kTimedOut,
    DisconnectReason::kHeartbeatLost, DisconnectReason::kClosedHere,
    DisconnectReason::kReplaced,      DisconnectReason::kSilent,
    DisconnectReason::kHandlerFailed, DisconnectReason::kNotReading,
    DisconnectReason::kConnectFailed, DisconnectReason::kGaveUp};

TEST(ConnectionEventTest, EachReasonHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (const DisconnectReason reason : kReasons) {
    EXPECT_FALSE(to_string(reason).empty());
    names.insert(to_string(reason));
  }
  EXPECT_EQ(names.size(), std::size(kReasons));
  EXPECT_EQ(to_string(DisconnectReason::kPeerClosed), "peer closed");
}

TEST(ConnectionEventTest, IsOfNoConnectionUnlessItSays) {
  const ConnectionEvent event;
  EXPECT_FALSE(event.connected);
  EXPECT_EQ(event.reason, DisconnectReason::kNone);
  EXPECT_FALSE(event.error);
  EXPECT_TRUE(event.connection == Connection());
}

TEST(ConnectionEventTest, AnEndIsUnexpectedUnlessThisSideMadeIt) {
  EXPECT_FALSE(ConnectionEvent{.connected = true}.is_unexpected());
  for (const DisconnectReason reason : kReasons) {
    EXPECT_EQ(ConnectionEvent{.reason = reason}.is_unexpected(),
              reason != DisconnectReason::kClosedHere)
        << to_string(reason);
  }
}

TEST(ConnectionEventTest, TextIsOneLineWithAllThatThereIs) {
  EXPECT_EQ(to_string(ConnectionEvent{.connected = true}), "connected");
  EXPECT_EQ(to_string(ConnectionEvent{
                .reason = DisconnectReason::kConnectFailed,
                .error = std::make_error_code(std::errc::connection_refused)}),
            "connect failed (Connection refused)");
  EXPECT_EQ(to_string(ConnectionEvent{
                .reason = DisconnectReason::kReset,
                .error = std::make_error_code(std::errc::connection_reset),
                .dropped = 12,
                .connection = tcpip_tests::fake_connection(
                    1, resolve("10.0.0.7", 50123).front())}),
            "reset: 10.0.0.7:50123 (Connection reset by peer), 12 bytes "
            "dropped");
  EXPECT_EQ(to_string(ConnectionEvent{.reason = DisconnectReason::kReplaced,
                                      .dropped = 1}),
            "replaced, 1 byte dropped");
  // The end of the stream is no error, whose message would be "Success".
  EXPECT_EQ(to_string(ConnectionEvent{.reason = DisconnectReason::kPeerClosed}),
            "peer closed");
}

}  // namespace
}  // namespace tcpip
