#include "tcpip/testing/recorder.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/testing/direction.h"
#include "tcpip/testing/recording.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/unique_fd.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_tests::half_close;
using tcpip_tests::recv_until_eof;
using tcpip_tests::send_all;

constexpr Direction kToServer = Direction::kToServer;
constexpr Direction kToClient = Direction::kToClient;

// ">pos <12.5 >end <end": what was said, in its order, without the times.
std::string summary(const Recording& recording) {
  std::string text;
  for (const Recording::Piece& piece : recording.pieces) {
    if (!text.empty()) text += ' ';
    text += piece.direction == kToServer ? '>' : '<';
    text += piece.bytes.empty() ? "end" : escaped(piece.bytes);
  }
  return text;
}

class RecorderTest : public testing::Test {
 protected:
  const tcpip_tests::HangGuard guard_;
};

TEST_F(RecorderTest, RecordsAnExchangeInItsOrder) {
  tcpip::OneClientReadLoopServer server(
      {.begin =
           [](tcpip::Connection& client, std::stop_token stop) {
             client.write("Main Box\r\n>", {kPatience, stop});
           }},
      [](tcpip::Connection& client, std::stop_token stop) {
        client.write_str("at " + client.read_str(stop), {kPatience, stop});
      });
  server.start();
  Recorder recorder({.server_port = server.port()});
  recorder.start();
  {
    tcpip::Client client({.host = "127.0.0.1", .port = recorder.port()});
    client.start(kPatience);
    EXPECT_EQ(client.read_until(">", kPatience), "Main Box\r\n>");
    client.write_str("12", kPatience);
    EXPECT_EQ(client.read_str(kPatience), "at 12");
    EXPECT_THROW(client.read_str(30ms), tcpip::TimeoutError);
    client.write_str("13", kPatience);
    EXPECT_EQ(client.read_str(kPatience), "at 13");
  }
  EXPECT_EQ(recorder.connection_count(), 1u);
  ASSERT_TRUE(wait_until(
      [&] { return summary(recorder.recording()).ends_with("<end"); }));
  recorder.close();
  const Recording recording = recorder.recording();
  EXPECT_EQ(summary(recording),
            "<Main Box\\r\\n> >12\\r\\n <at 12\\r\\n >13\\r\\n <at 13\\r\\n "
            ">end <end");
  EXPECT_NO_THROW(recording.check());
  EXPECT_GE(recording.pieces[3].time - recording.pieces[2].time, 29ms);
}

TEST_F(RecorderTest, RecordsEachConnectionForItself) {
  const auto listener = tcpip_tests::plain_listener(Transport::kIpv4);
  Recorder recorder({.server_port = listener.port});
  recorder.start();
  EXPECT_THROW(recorder.recording(), std::out_of_range);
  for (const std::string text : {"first", "second"}) {
    const tcpip::UniqueFd client = tcpip_tests::connect_to(recorder.port());
    const tcpip::UniqueFd server = tcpip_tests::accept_one(listener);
    send_all(client, text);
    EXPECT_EQ(tcpip_tests::recv_exact(server, text.size()), text);
  }
  EXPECT_EQ(recorder.connection_count(), 2u);
  EXPECT_TRUE(summary(recorder.recording()).starts_with(">first"));
  EXPECT_TRUE(summary(recorder.recording(2)).starts_with(">second"));
  EXPECT_THROW(recorder.recording(0), std::out_of_range);
  EXPECT_THROW(recorder.recording(3), std::out_of_range);
}

TEST_F(RecorderTest, RecordsAResetAsAnEnd) {
  const auto listener = tcpip_tests::plain_listener(Transport::kIpv4);
  Recorder recorder({.server_port = listener.port});
  recorder.start();
  tcpip::UniqueFd client = tcpip_tests::connect_to(recorder.port());
  const tcpip::UniqueFd server = tcpip_tests::accept_one(listener);
  send_all(server, "hello");
  EXPECT_EQ(tcpip_tests::recv_exact(client, 5), "hello");
  tcpip_tests::reset(std::move(client));
  EXPECT_NE(tcpip_tests::recv_ending(server).error, 0);
  EXPECT_EQ(summary(recorder.recording()), "<hello >end");
}

TEST_F(RecorderTest, RecordsEveryByteOfARandomTransfer) {
  const auto listener = tcpip_tests::plain_listener(Transport::kIpv4);
  Recorder recorder({.server_port = listener.port});
  recorder.start();
  const tcpip::UniqueFd client = tcpip_tests::connect_to(recorder.port());
  const tcpip::UniqueFd server = tcpip_tests::accept_one(listener);
  std::mt19937_64 engine(3);
  std::string up(700'000, '\0');
  std::string down(600'000, '\0');
  for (char& byte : up) byte = static_cast<char>(engine());
  for (char& byte : down) byte = static_cast<char>(engine());
  {
    const auto send = [](const tcpip::UniqueFd& fd, const std::string& bytes) {
      send_all(fd, bytes);
      half_close(fd);
    };
    std::jthread sending([&] { send(client, up); });
    std::jthread answering([&] { send(server, down); });
    std::jthread reading([&] { EXPECT_TRUE(recv_until_eof(client) == down); });
    EXPECT_TRUE(recv_until_eof(server) == up);
  }
  const Recording recording = recorder.recording();
  EXPECT_TRUE(recording.bytes(kToServer) == up);
  EXPECT_TRUE(recording.bytes(kToClient) == down);
  EXPECT_TRUE(Recording::parse(recording.text()) == recording);
}

TEST_F(RecorderTest, RefusesBadPorts) {
  EXPECT_THROW(Recorder({.server_port = 0}), std::invalid_argument);
  EXPECT_THROW(Recorder({.server_port = 65536}), std::invalid_argument);
}

}  // namespace
}  // namespace tcpip_testing
