// That each member's errors name that member, for all of them, and what
// try_read_into() does. What the members read and write is tried in
// base_client_or_server_test.cc.
#include "tcpip/read_writer.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "tcpip/byte_order.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/stage.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_tests::kPatience;
using tcpip_tests::send_all;
using tcpip_tests::ServedStage;

struct Point {
  BigEndian<std::uint16_t> x{};
  BigEndian<std::uint16_t> y{};
};

struct Member {
  const char* name;
  std::function<void(const ReadWriter&, const Wait&)> call;
};

// Those that read a message and wait for the rest of it. They find "ha".
std::vector<Member> whole_reads() {
  static std::array<std::byte, 4> out;
  static Point point;
  return {
      {"read_exactly", [](auto& c, auto& wait) { c.read_exactly(4, wait); }},
      {"read_exactly",
       [](auto& c, auto& wait) { c.read_exactly(std::span(out), wait); }},
      {"read_until", [](auto& c, auto& wait) { c.read_until(";", wait); }},
      {"read_until",
       [](auto& c, auto& wait) {
         c.read_until({";", ","}, wait);
       }},
      {"read_str", [](auto& c, auto& wait) { c.read_str(wait); }},
      {"read_into", [](auto& c, auto& wait) { c.read_into(point, wait); }},
  };
}

// The other reads that wait.
std::vector<Member> other_reads() {
  return {
      {"read", [](auto& c, auto& wait) { c.read(1, wait); }},
      {"read_all", [](auto& c, auto& wait) { c.read_all(wait); }},
      {"read_all", [](auto& c, auto& wait) { c.read_all(100, wait); }},
      {"read_line", [](auto& c, auto& wait) { c.read_line(wait); }},
      {"read_until_silence",
       [](auto& c, auto& wait) { c.read_until_silence(1h, 100, wait); }},
      {"discard_until",
       [](auto& c, auto& wait) { c.discard_until(";", wait); }},
  };
}

// Those that do not wait, and read a message that may be cut short.
std::vector<Member> whole_tries() {
  static Point point;
  return {
      {"try_read_exactly", [](auto& c, auto&) { c.try_read_exactly(4); }},
      {"try_read_until", [](auto& c, auto&) { c.try_read_until(";"); }},
      {"try_read_str", [](auto& c, auto&) { c.try_read_str(); }},
      {"try_read_into", [](auto& c, auto&) { (void)c.try_read_into(point); }},
  };
}

std::vector<Member> writes() {
  static constexpr Point kPoint;
  static const std::vector<std::string_view> parts{"a", "b"};
  return {
      {"write", [](auto& c, auto& wait) { c.write("a", wait); }},
      {"write_lines", [](auto& c, auto& wait) { c.write_lines(parts, wait); }},
      {"write_lines",
       [](auto& c, auto& wait) {
         c.write_lines({"a", "b"}, wait);
       }},
      {"write_str", [](auto& c, auto& wait) { c.write_str("a", wait); }},
      {"write_from", [](auto& c, auto& wait) { c.write_from(kPoint, wait); }},
      {"drain", [](auto& c, auto& wait) { c.drain(wait); }},
  };
}

// What neither waits nor can be cut short.
std::vector<Member> others() {
  static constexpr Point kPoint;
  static const std::vector<std::string_view> parts{"a", "b"};
  return {
      {"try_read", [](auto& c, auto&) { c.try_read(1); }},
      {"try_read_line", [](auto& c, auto&) { c.try_read_line(); }},
      {"try_read_until_silence",
       [](auto& c, auto&) { c.try_read_until_silence(1h, 100); }},
      {"wait_readable", [](auto& c, auto& wait) { c.wait_readable(wait); }},
      {"skip", [](auto& c, auto&) { c.skip(1); }},
      {"discard", [](auto& c, auto&) { c.discard(); }},
      {"handle_received_heartbeat",
       [](auto& c, auto&) { c.handle_received_heartbeat(); }},
      {"try_write", [](auto& c, auto&) { (void)c.try_write("a"); }},
      {"try_write_lines",
       [](auto& c, auto&) { (void)c.try_write_lines(parts); }},
      {"try_write_str", [](auto& c, auto&) { (void)c.try_write_str("a"); }},
      {"try_write_from",
       [](auto& c, auto&) { (void)c.try_write_from(kPoint); }},
  };
}

std::vector<Member> all_members() {
  std::vector<Member> all;
  for (const auto& some :
       {whole_reads(), other_reads(), whole_tries(), writes(), others()}) {
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

// Calls a member, which shall throw an ErrorClass of that name and peer.
template <class ErrorClass>
void expect_named(const Member& member, const ReadWriter& read_writer,
                  const Wait& wait, const std::string& peer,
                  std::string_view says) {
  SCOPED_TRACE(member.name);
  try {
    member.call(read_writer, wait);
    ADD_FAILURE() << "it throws nothing";
  } catch (const ErrorClass& e) {
    const std::string what = e.what();
    const std::string start =
        member.name + (peer.empty() ? ""s : " [" + peer + "]") + ": ";
    EXPECT_TRUE(what.starts_with(start)) << what;
    EXPECT_NE(what.find(says), std::string::npos) << what;
    if constexpr (std::is_base_of_v<Error, ErrorClass>) {
      EXPECT_EQ(e.operation(), member.name);
      EXPECT_EQ(e.peer(), peer);
    }
  } catch (const std::exception& e) {
    ADD_FAILURE() << "another class: " << e.what();
  }
}

TEST(ReadWriterErrorTest, NotConnectedNamesTheMemberAndThePeerThatWas) {
  ServedStage server({.name = "Commands"});
  const Connection connection = server->connection();
  const std::string peer = connection.peer_address().to_string();
  server->close_client();
  for (const Member& member : all_members()) {
    expect_named<ConnectionError>(member, connection, kPatience, peer,
                                  "Not connected");
    expect_named<ConnectionError>(member, *server, kPatience, "Commands",
                                  "Not connected");
    expect_named<ConnectionError>(member, Connection(), kPatience, "",
                                  "Not connected");
  }
}

TEST(ReadWriterErrorTest, ATimeOutOfAReadNamesTheMember) {
  ServedStage server;
  const Connection connection = server->connection();
  send_all(server.peer, "ha");
  ASSERT_TRUE(connection.wait_readable(kPatience));
  const std::string peer = connection.peer_address().to_string();
  for (const Member& member : whole_reads()) {
    expect_named<TimeoutError>(member, connection, Wait::none(), peer,
                               "timed out");
  }
  EXPECT_EQ(connection.read_exactly(2, kPatience), "ha") << "nothing is lost";
  for (const Member& member : other_reads()) {
    expect_named<TimeoutError>(member, connection, Wait::none(), peer,
                               "timed out");
  }
  EXPECT_TRUE(connection.connected());
}

TEST(ReadWriterErrorTest, ATimeOutOfAWriteNamesTheMember) {
  ServedStage server({.write_limit = 1000, .socket = {.send_buffer = 4096}});
  const Connection connection = server->connection();
  const std::string peer = connection.peer_address().to_string();
  // Much more than the kernel takes: the peer does not read.
  EXPECT_THROW(connection.write(std::string(16 * 1024 * 1024, 'x'), 1ms),
               TimeoutError);
  for (const Member& member : writes()) {
    expect_named<TimeoutError>(member, connection, Wait::none(), peer,
                               "timed out");
  }
  EXPECT_TRUE(connection.connected());
}

TEST(ReadWriterErrorTest, AMessageCutShortNamesTheMember) {
  std::vector<Member> members = whole_reads();
  for (const Member& member : whole_tries()) members.push_back(member);
  for (const Member& member : members) {
    ServedStage server;
    const Connection connection = server->connection();
    const std::string peer = connection.peer_address().to_string();
    send_all(server.peer, "ha");
    tcpip_tests::half_close(server.peer);
    tcpip_tests::await_hang_up(connection.native_handle());
    expect_named<IncompleteReadError>(member, connection, kPatience, peer, "2");
    EXPECT_FALSE(connection.connected());
  }
}

TEST(ReadWriterErrorTest, AReadThatIsStoppedNamesTheMember) {
  ServedStage server;
  const Connection connection = server->connection();
  std::stop_source stop;
  stop.request_stop();
  for (const auto& some : {whole_reads(), other_reads()}) {
    for (const Member& member : some) {
      expect_named<CancelledError>(member, connection, stop.get_token(),
                                   connection.peer_address().to_string(),
                                   "stop requested");
    }
  }
}

TEST(TryReadIntoTest, IsFalseAndLeavesItAloneUntilAllIsThere) {
  ServedStage server;
  const Connection connection = server->connection();
  Point point{.x = 7, .y = 8};
  EXPECT_FALSE(connection.try_read_into(point));
  send_all(server.peer, "\0\1\0"s);
  tcpip_tests::await_receivable(connection.native_handle(), 3);
  EXPECT_FALSE(connection.try_read_into(point));
  EXPECT_EQ(point.x, 7);
  EXPECT_EQ(point.y, 8);
  send_all(server.peer, "\2rest"s);
  EXPECT_TRUE(
      tcpip_tests::eventually([&] { return connection.try_read_into(point); }));
  EXPECT_EQ(point.x, 1);
  EXPECT_EQ(point.y, 2);
  EXPECT_EQ(connection.read_exactly(4, kPatience), "rest");
}

TEST(TryReadIntoTest, LeavesItAloneWhenItFails) {
  ServedStage server;
  const Connection connection = server->connection();
  Point point{.x = 7, .y = 8};
  send_all(server.peer, "\0\1\0"s);
  server.peer.reset();
  tcpip_tests::await_hang_up(connection.native_handle());
  EXPECT_THROW((void)connection.try_read_into(point), IncompleteReadError);
  EXPECT_EQ(point.x, 7);
  EXPECT_EQ(point.y, 8);
}

}  // namespace
}  // namespace tcpip
