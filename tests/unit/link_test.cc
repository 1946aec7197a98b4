// What is left of a connection when it is over. connection_test.cc has what a
// program sees of it.
#include "tcpip/endpoint/link.h"

#include <gtest/gtest.h>

#include <memory>

#include "tcpip/address.h"

namespace tcpip::internal {
namespace {

Address peer_address() { return resolve("127.0.0.1", 4000).front(); }

TEST(ConnectionRecordTest, WithoutALinkThereIsNothingToReadFrom) {
  const ConnectionRecord record({}, peer_address(), {});
  EXPECT_EQ(record.link(), nullptr);
  EXPECT_FALSE(record.over) << "that is for the endpoint to say";
}

TEST(ConnectionRecordTest, WithoutAnEndpointThereIsNoTextFormat) {
  const ConnectionRecord record({}, peer_address(), {});
  EXPECT_EQ(record.text_link().format, nullptr);
}

TEST(ConnectionRecordTest, StandsForItsPeerInErrors) {
  const ConnectionRecord record({}, peer_address(), {});
  EXPECT_EQ(record.subject(), "127.0.0.1:4000");
}

TEST(ConnectionRecordTest, BeginsWithoutAStopAndWithoutANumber) {
  const ConnectionRecord record({}, peer_address(), {});
  EXPECT_FALSE(record.stop.stop_requested());
  EXPECT_TRUE(record.should_be_connected);
  EXPECT_EQ(record.number, 0u);
}

}  // namespace
}  // namespace tcpip::internal
