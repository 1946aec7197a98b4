#include "tcpip/connection_event.h"

#include <gtest/gtest.h>

#include <iterator>
#include <set>
#include <string_view>

#include "tcpip/connection.h"

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

}  // namespace
}  // namespace tcpip
