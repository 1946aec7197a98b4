#include "tcpip/network.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>

#include "tcpip/address.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)

Address at(const char* host) { return resolve(host, 4000).front(); }

TEST(NetworkTest, ContainsTheAddressesWithTheSameFirstBits) {
  const Network ten("10.0.0.0/8");
  EXPECT_TRUE(ten.contains(at("10.0.0.0")));
  EXPECT_TRUE(ten.contains(at("10.255.255.255")));
  EXPECT_FALSE(ten.contains(at("11.0.0.0")));
  EXPECT_FALSE(ten.contains(at("9.255.255.255")));
  const Network odd("192.168.40.0/21");
  EXPECT_TRUE(odd.contains(at("192.168.47.255")));
  EXPECT_FALSE(odd.contains(at("192.168.48.0")));
  EXPECT_FALSE(odd.contains(at("192.168.39.255")));
  const Network unique("fd00::/8");
  EXPECT_TRUE(unique.contains(at("fdff:1::2")));
  EXPECT_FALSE(unique.contains(at("fe00::1")));
  EXPECT_FALSE(unique.contains(at("10.0.0.1")));
}

TEST(NetworkTest, IsOneAddressWithoutASlash) {
  EXPECT_TRUE(Network("127.0.0.1").contains(at("127.0.0.1")));
  EXPECT_FALSE(Network("127.0.0.1").contains(at("127.0.0.2")));
  EXPECT_TRUE(Network("::1").contains(at("::1")));
  EXPECT_FALSE(Network("::1").contains(at("::2")));
}

TEST(NetworkTest, OfNoBitsIsAllOfItsFamily) {
  EXPECT_TRUE(Network("0.0.0.0/0").contains(at("1.2.3.4")));
  EXPECT_FALSE(Network("0.0.0.0/0").contains(at("fe80::1")));
  EXPECT_TRUE(Network("::/0").contains(at("fe80::1")));
  EXPECT_FALSE(Network("::/0").contains(at("1.2.3.4")));
}

// How a listener of both families reports an IPv4 client.
TEST(NetworkTest, KnowsAnIpv4AddressThatIsWrittenAsAnIpv6One) {
  EXPECT_TRUE(Network("10.0.0.0/8").contains(at("::ffff:10.1.2.3")));
  EXPECT_FALSE(Network("10.0.0.0/8").contains(at("::ffff:11.1.2.3")));
  EXPECT_TRUE(Network("::ffff:10.0.0.0/104").contains(at("10.1.2.3")));
  EXPECT_FALSE(Network("::/0").contains(at("::ffff:10.1.2.3")));
}

TEST(NetworkTest, DoesNotContainWhatIsNoInternetAddress) {
  EXPECT_FALSE(Network("0.0.0.0/0").contains(Address()));
  EXPECT_FALSE(Network("::/0").contains(Address()));
}

TEST(NetworkTest, RefusesWhatIsNoNetwork) {
  for (const std::string_view text :
       {""sv, "/8"sv, "localhost"sv, "10.0.0.0/"sv, "10.0.0.0/33"sv,
        "10.0.0.0/-1"sv, "10.0.0.0/+8"sv, "10.0.0.0/8x"sv, "10.0.0.0/8/8"sv,
        " 10.0.0.0/8"sv, "10.0.0.0 /8"sv, "10.0.0/8"sv, "10.0.0.1/8"sv,
        "fd00::1/64"sv, "fd00::/129"sv, "fe80::1%lo"sv, "[::1]"sv,
        "10.0.0.0/99999999999999999999"sv, "10.0.0.1\0/32"sv}) {
    EXPECT_THROW(Network{text}, std::invalid_argument) << text;
  }
}

TEST(NetworkTest, SaysWhatItIs) {
  EXPECT_EQ(Network("10.0.0.0/8").to_string(), "10.0.0.0/8");
  EXPECT_EQ(Network("127.0.0.1").to_string(), "127.0.0.1/32");
  EXPECT_EQ(Network("FD00:0::/8").to_string(), "fd00::/8");
  EXPECT_EQ(Network("::ffff:10.0.0.0/104"), Network("10.0.0.0/8"));
  EXPECT_EQ(Network("::/0").to_string(), "::/0");
}

}  // namespace
}  // namespace tcpip
