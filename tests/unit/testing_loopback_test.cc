#include <gtest/gtest.h>

#include <chrono>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/testing/loopback.h"
#include "tcpip/testing/wait_until.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)

class TestingLoopbackTest : public testing::TestWithParam<Transport> {};

INSTANTIATE_TEST_SUITE_P(, TestingLoopbackTest,
                         testing::Values(Transport::kUnix, Transport::kIpv4,
                                         Transport::kIpv6),
                         [](const auto& param_info) {
                           return name_of(param_info.param);
                         });

TEST_P(TestingLoopbackTest, CarriesBothWays) {
  auto [first, second] = connection_pair(GetParam());
  first.writer.write("there\n");
  second.writer.write("back\n");
  EXPECT_EQ(second.reader.read_line(kPatience), "there\n");
  EXPECT_EQ(first.reader.read_line(kPatience), "back\n");
}

TEST_P(TestingLoopbackTest, HalfCloseIsTheEndOfTheStream) {
  auto [first, second] = connection_pair(GetParam());
  first.writer.write("cut");
  first.writer.write_eof();
  EXPECT_EQ(second.reader.read_all(kPatience), "cut");
  second.writer.write("still\n");
  EXPECT_EQ(first.reader.read_line(kPatience), "still\n");
}

TEST_P(TestingLoopbackTest, EndThatIsDestroyedIsGone) {
  ConnectionPair pair = connection_pair(GetParam());
  { const tcpip::Streams gone = std::move(pair.first); }
  EXPECT_THROW(pair.second.reader.read_exactly(1, kPatience),
               tcpip::IncompleteReadError);
}

TEST_P(TestingLoopbackTest, LimitIsThatOfBothReaders) {
  auto [first, second] = connection_pair(GetParam(), 3);
  EXPECT_EQ(first.reader.limit(), 3u);
  EXPECT_EQ(second.reader.limit(), 3u);
  first.writer.write("1234\n");
  EXPECT_THROW(second.reader.read_until("\n", kPatience),
               tcpip::LimitOverrunError);
  EXPECT_THROW(connection_pair(GetParam(), 0), std::invalid_argument);
}

TEST(TestingLoopbackTransportTest, IsIpv4UnlessToldOtherwise) {
  const ConnectionPair pair = connection_pair();
  EXPECT_EQ(pair.first.writer.peer_address().host(), "127.0.0.1");
  EXPECT_EQ(pair.first.writer.peer_address(),
            pair.second.writer.local_address());
  EXPECT_EQ(pair.second.writer.peer_address(),
            pair.first.writer.local_address());
}

TEST(TestingLoopbackTransportTest, HasANameForTests) {
  std::ostringstream out;
  out << Transport::kIpv6;
  EXPECT_EQ(out.str(), "Ipv6");
}

}  // namespace
}  // namespace tcpip_testing
