#include "tcpip/testing/replay_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/testing/direction.h"
#include "tcpip/testing/recorder.h"
#include "tcpip/testing/recording.h"
#include "tcpip/testing/test_one_client_read_loop_server.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/unique_fd.h"
#include "tests/support/blocked_call.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/subprocess.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip::UniqueFd;
using tcpip_tests::connect_to;
using tcpip_tests::Ending;
using tcpip_tests::half_close;
using tcpip_tests::kPrompt;
using tcpip_tests::recv_ending;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using Clock = std::chrono::steady_clock;

constexpr Direction kToServer = Direction::kToServer;
constexpr Direction kToClient = Direction::kToClient;

// A dome with a prompt.
const char* const kDome = R"(tcpip recording 1
0.000 < "Main Box\r\n>"
0.100 > "pos\r\n"
0.110 < "12.5\r\n"
0.120 < ">"
0.500 > "stop\r\n"
0.540 < "ok\r\n>"
)";
constexpr const char* kEnds = "0.600 > end\n0.610 < end\n";

class ReplayServerTest : public testing::Test {
 protected:
  void start(const std::string& text, ReplayTiming timing = {}) {
    replay_.emplace(ReplayServerOptions{Recording::parse(text), timing});
    replay_->start();
  }
  UniqueFd connect() { return connect_to(replay_->port()); }
  // The mismatch that wait_done() reports.
  ReplayMismatch mismatch() {
    try {
      replay_->wait_done();
      ADD_FAILURE() << "no mismatch";
    } catch (const ReplayMismatch& e) {
      return e;
    }
    return {0, "", "", ""};
  }

  const tcpip_tests::HangGuard guard_;
  std::optional<ReplayServer> replay_;
};

TEST_F(ReplayServerTest, PlaysAnInstrumentToAClient) {
  start(kDome + std::string(kEnds));
  tcpip::Client client({.host = "127.0.0.1", .port = replay_->port()});
  client.start(kPatience);
  EXPECT_EQ(client.read_until(">", kPatience), "Main Box\r\n>");
  replay_->check();
  client.write_str("pos", kPatience);
  EXPECT_EQ(client.read_until(">", kPatience), "12.5\r\n>");
  client.write_str("stop", kPatience);
  EXPECT_EQ(client.read_until(">", kPatience), "ok\r\n>");
  EXPECT_THROW(replay_->wait_done(tcpip::Wait::none()), tcpip::TimeoutError)
      << "the client has not closed";
  client.close();
  replay_->wait_done();
  replay_->check();
}

TEST_F(ReplayServerTest, PlaysAnInstrumentToAStockPythonClient) {
  start(kDome + std::string(kEnds));
  tcpip_tests::Subprocess python({"python3", "-c", R"(
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20) as s:
    f = s.makefile("rb")
    def prompt():
        text = b""
        while not text.endswith(b">"):
            text += f.read(1)
        return text
    assert prompt() == b"Main Box\r\n>"
    s.sendall(b"po")
    s.sendall(b"s\r\n")
    assert prompt() == b"12.5\r\n>"
    s.sendall(b"stop\r\n")
    assert prompt() == b"ok\r\n>"
    s.shutdown(socket.SHUT_WR)
    assert f.read() == b""
print("all right")
)",
                                  std::to_string(replay_->port())});
  EXPECT_EQ(python.read_line(), "all right");
  replay_->wait_done();
  EXPECT_EQ(python.wait(), 0);
}

TEST_F(ReplayServerTest, TellsOfAPythonClientThatSaysSomethingElse) {
  start(kDome);
  tcpip_tests::Subprocess python({"python3", "-c", R"(
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20) as s:
    assert s.recv(100).startswith(b"Main")
    s.sendall(b"position\r\n")
    try:
        while s.recv(100):
            pass
    except ConnectionResetError:
        print("reset")
)",
                                  std::to_string(replay_->port())});
  EXPECT_EQ(python.read_line(), "reset");
  EXPECT_EQ(python.wait(), 0);
  const ReplayMismatch found = mismatch();
  EXPECT_EQ(found.offset(), 3u);
  EXPECT_EQ(found.expected(), "\r\nstop\r\n");
  EXPECT_EQ(found.got(), "ition\r\n");
}

TEST_F(ReplayServerTest, PlaysWhatWasRecorded) {
  Recording recording;
  const auto converse = [](int port) {
    tcpip::Client client({.host = "127.0.0.1", .port = port});
    client.start(kPatience);
    for (const std::string text : {"one", "", "grüß dich"}) {
      client.write_str(text, kPatience);
      EXPECT_EQ(client.read_str(kPatience), text);
    }
  };
  {
    TestOneClientReadLoopServer server(
        {}, TestOneClientReadLoopServer::Reply::kEcho);
    server.start();
    Recorder recorder({.server_port = server.port()});
    recorder.start();
    converse(recorder.port());
    ASSERT_TRUE(wait_until([&] {
      const Recording sofar = recorder.recording();
      return !sofar.pieces.empty() && sofar.pieces.back().bytes.empty() &&
             sofar.pieces.back().direction == kToClient;
    }));
    recording = recorder.recording();
  }
  for (const ReplayTiming timing :
       {ReplayTiming::kAtOnce, ReplayTiming::kRecorded}) {
    ReplayServer replay({recording, timing});
    replay.start();
    converse(replay.port());
    replay.wait_done();
  }
}

TEST_F(ReplayServerTest, DivisionOfTheClientsWritesDoesNotMatter) {
  for (const std::size_t size : {1u, 2u, 5u, 100u}) {
    start(kDome);
    const UniqueFd client = connect();
    std::string_view rest = "pos\r\nstop\r\n";
    while (!rest.empty()) {
      send_all(client, rest.substr(0, size));
      rest.remove_prefix(std::min(size, rest.size()));
    }
    replay_->wait_done();
    half_close(client);
    EXPECT_EQ(recv_until_eof(client), "Main Box\r\n>12.5\r\n>ok\r\n>");
  }
}

// An answer waits for the whole request.
TEST_F(ReplayServerTest, AnswersNotBeforeTheRequest) {
  start(kDome);
  const UniqueFd client = connect();
  EXPECT_EQ(recv_exact(client, 11), "Main Box\r\n>");
  send_all(client, "pos\r");
  EXPECT_THROW(replay_->wait_done(30ms), tcpip::TimeoutError);
  char byte = 0;
  EXPECT_EQ(::recv(client.get(), &byte, 1, MSG_DONTWAIT), -1);
  send_all(client, "\n");
  EXPECT_EQ(recv_exact(client, 7), "12.5\r\n>");
}

TEST_F(ReplayServerTest, SaysAtWhichByteTheClientDiffers) {
  start(kDome);
  const UniqueFd client = connect();
  send_all(client, "pos\r\nstup\r\n");
  const ReplayMismatch found = mismatch();
  EXPECT_EQ(found.offset(), 7u);
  EXPECT_EQ(found.expected(), "op\r\n");
  EXPECT_EQ(found.got(), "up\r\n");
  EXPECT_EQ(found.what(),
            "the client differs from the recording at byte 7: expected "
            "\"op\\r\\n\", got \"up\\r\\n\", behind \"pos\\r\\nst\""s);
  EXPECT_THROW(replay_->check(), ReplayMismatch) << "again";
  EXPECT_THROW(replay_->wait_done(), ReplayMismatch);
  // What was right is answered, then the client is reset.
  const Ending ending = recv_ending(client);
  EXPECT_EQ(ending.data, "Main Box\r\n>12.5\r\n>");
  EXPECT_EQ(ending.error, ECONNRESET);
}

TEST_F(ReplayServerTest, MismatchShowsSomeBytesOnly) {
  start("tcpip recording 1\n0 > \"" + std::string(500, 'a') + "\"\n");
  const UniqueFd client = connect();
  send_all(client, std::string(200, 'a') + std::string(300, 'b'));
  const ReplayMismatch found = mismatch();
  EXPECT_EQ(found.offset(), 200u);
  EXPECT_EQ(found.expected(), std::string(32, 'a'));
  EXPECT_EQ(found.got(), std::string(32, 'b'));
  EXPECT_LT(std::string(found.what()).size(), 300u);
}

TEST_F(ReplayServerTest, ClientThatClosesTooEarlyIsAMismatch) {
  start(kDome);
  const UniqueFd client = connect();
  send_all(client, "pos\r\nst");
  half_close(client);
  const ReplayMismatch found = mismatch();
  EXPECT_EQ(found.offset(), 7u);
  EXPECT_EQ(found.expected(), "op\r\n");
  EXPECT_EQ(found.got(), "");
  EXPECT_NE(std::string(found.what()).find("got the end"), std::string::npos)
      << found.what();
}

TEST_F(ReplayServerTest, ClientThatIsResetTooEarlyIsAMismatch) {
  start(kDome);
  UniqueFd client = connect();
  EXPECT_EQ(recv_exact(client, 11), "Main Box\r\n>");
  tcpip_tests::reset(std::move(client));
  const ReplayMismatch found = mismatch();
  EXPECT_EQ(found.offset(), 0u);
  EXPECT_NE(std::string(found.what()).find("got a reset"), std::string::npos)
      << found.what();
}

TEST_F(ReplayServerTest, ClientThatSaysMoreIsAMismatch) {
  start(kDome);
  const UniqueFd client = connect();
  send_all(client, "pos\r\nstop\r\n");
  replay_->wait_done();
  replay_->check();
  send_all(client, "more");
  EXPECT_EQ(recv_ending(client).error, ECONNRESET);
  const ReplayMismatch found = mismatch();
  EXPECT_EQ(found.offset(), 11u);
  EXPECT_EQ(found.expected(), "");
  EXPECT_EQ(found.got(), "more");
  EXPECT_NE(std::string(found.what()).find("expected nothing more"),
            std::string::npos)
      << found.what();
}

TEST_F(ReplayServerTest, ClientThatGoesBeforeAllWasSentIsAnError) {
  start("tcpip recording 1\n0 > \"go\"\n0 < \"" + std::string(1 << 20, 'x') +
        "\"\n1 < \"" + std::string(8 << 20, 'y') + "\"\n");
  UniqueFd client = connect();
  send_all(client, "go");
  EXPECT_EQ(recv_exact(client, 3), "xxx");
  tcpip_tests::reset(std::move(client));
  EXPECT_THROW(replay_->wait_done(), tcpip::ConnectionError);
}

TEST_F(ReplayServerTest, EndOfTheServerIsPlayedInItsPlace) {
  start("tcpip recording 1\n0 < \"bye\"\n0 < end\n1 > \"bye\"\n");
  const UniqueFd client = connect();
  EXPECT_EQ(recv_until_eof(client), "bye");
  EXPECT_THROW(replay_->wait_done(tcpip::Wait::none()), tcpip::TimeoutError);
  send_all(client, "bye");
  replay_->wait_done();
}

TEST_F(ReplayServerTest, HalfClosedClientGetsTheRest) {
  start("tcpip recording 1\n0 > \"all\"\n0 > end\n0.03 < \"yours\"\n0.06 < end",
        ReplayTiming::kRecorded);
  const UniqueFd client = connect();
  send_all(client, "all");
  half_close(client);
  EXPECT_EQ(recv_until_eof(client), "yours");
  replay_->wait_done();
}

TEST_F(ReplayServerTest, KeepsTheRecordedTimes) {
  start(
      "tcpip recording 1\n0.05 < \"a\"\n9 > \"b\"\n9.05 < \"c\"\n9.1 < \"d\"\n",
      ReplayTiming::kRecorded);
  const auto begin = Clock::now();
  const UniqueFd client = connect();
  EXPECT_EQ(recv_exact(client, 1), "a");
  EXPECT_GE(Clock::now() - begin, 50ms);
  const auto asked = Clock::now();
  send_all(client, "b");
  EXPECT_EQ(recv_exact(client, 1), "c");
  EXPECT_GE(Clock::now() - asked, 50ms);
  EXPECT_EQ(recv_exact(client, 1), "d");
  EXPECT_GE(Clock::now() - asked, 100ms);
  replay_->wait_done();
}

TEST_F(ReplayServerTest, PlaysAtOnceUnlessToldOtherwise) {
  start("tcpip recording 1\n86400 < \"a\"\n");
  const UniqueFd client = connect();
  EXPECT_EQ(recv_exact(client, 1), "a");
}

TEST_F(ReplayServerTest, ServesTheFirstClientAlone) {
  start(kDome);
  const UniqueFd client = connect();
  EXPECT_EQ(recv_exact(client, 11), "Main Box\r\n>");
  tcpip::Client second({.host = "127.0.0.1", .port = replay_->port()});
  EXPECT_THROW(second.start(kPatience), tcpip::ConnectionRefusedError);
  send_all(client, "pos\r\nstop\r\n");
  replay_->wait_done();
}

TEST_F(ReplayServerTest, WaitDoneSaysHowFarItHasCome) {
  start(kDome);
  const UniqueFd client = connect();
  send_all(client, "pos\r\ns");
  EXPECT_EQ(recv_exact(client, 18), "Main Box\r\n>12.5\r\n>");
  const auto text = [&] {
    try {
      replay_->wait_done(tcpip::Wait::none());
      return ""s;
    } catch (const tcpip::TimeoutError& e) {
      return std::string(e.what());
    }
  };
  EXPECT_TRUE(wait_until([&] {
    return text().find(
               "4 of 6 pieces have happened, 6 of 11 bytes have come") !=
           std::string::npos;
  })) << text();
}

TEST_F(ReplayServerTest, WaitDoneEndsByStopAndByClose) {
  start(kDome);
  const UniqueFd client = connect();
  std::stop_source stop;
  tcpip_tests::BlockedCall stopped([&] {
    try {
      replay_->wait_done(stop.get_token());
      return false;
    } catch (const tcpip::CancelledError&) {
      return true;
    }
  });
  ASSERT_TRUE(stopped.await_blocked());
  stop.request_stop();
  EXPECT_TRUE(stopped.get());
  tcpip_tests::BlockedCall closed([&] {
    try {
      replay_->wait_done(tcpip::Wait());
      return false;
    } catch (const tcpip::CancelledError&) {
      return true;
    }
  });
  ASSERT_TRUE(closed.await_blocked());
  EXPECT_LT(seconds_of([&] { replay_->close(); }), kPrompt);
  EXPECT_TRUE(closed.get());
  replay_->close();
}

TEST_F(ReplayServerTest, CloseWithoutAClientEndsAtOnce) {
  start(kDome);
  EXPECT_LT(seconds_of([&] { replay_->close(); }), kPrompt);
  EXPECT_THROW(replay_->wait_done(), tcpip::CancelledError);
  ReplayServer never_started({});
  never_started.close();
  EXPECT_THROW(never_started.start(), std::logic_error);
}

TEST_F(ReplayServerTest, WhatIsDoneStaysDone) {
  start(kDome + std::string(kEnds));
  {
    const UniqueFd client = connect();
    send_all(client, "pos\r\nstop\r\n");
    half_close(client);
    recv_until_eof(client);
  }
  replay_->wait_done();
  replay_->close();
  replay_->wait_done();
}

TEST_F(ReplayServerTest, StartsOnce) {
  start(kDome);
  EXPECT_THROW(replay_->start(), std::logic_error);
}

TEST_F(ReplayServerTest, RefusesWhatNoExchangeCanBe) {
  EXPECT_THROW(
      ReplayServer({Recording{{{kToServer, 0us, ""}, {kToServer, 0us, "a"}}}}),
      std::invalid_argument);
}

// --- Random exchanges ---

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::size_t below(std::size_t end) {
    return static_cast<std::size_t>(engine_() % end);
  }
  std::string bytes(std::size_t size) {
    std::string result(size, '\0');
    for (char& byte : result) byte = static_cast<char>(engine_());
    return result;
  }
  Recording recording() {
    Recording result;
    std::chrono::microseconds time{0};
    for (std::size_t n = 1 + below(12); n > 0; --n) {
      time += std::chrono::microseconds(below(1000));
      result.pieces.push_back({below(2) == 0 ? kToServer : kToClient, time,
                               bytes(1 + below(below(4) == 0 ? 5000 : 20))});
    }
    return result;
  }

 private:
  std::mt19937_64 engine_;
};

void send_in_pieces(const UniqueFd& fd, std::string_view bytes,
                    Random& random) {
  while (!bytes.empty()) {
    const std::size_t size = 1 + random.below(random.below(2) == 0 ? 4 : 3000);
    // It may have found a mismatch already.
    if (::send(fd.get(), bytes.data(), std::min(size, bytes.size()),
               MSG_NOSIGNAL) < 0) {
      return;
    }
    bytes.remove_prefix(std::min(size, bytes.size()));
  }
}

TEST_F(ReplayServerTest, PlaysRandomExchangesHoweverTheyAreDivided) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Recording recording = Recording::parse(random.recording().text());
    ReplayServer replay({recording, random.below(2) == 0
                                        ? ReplayTiming::kAtOnce
                                        : ReplayTiming::kRecorded});
    replay.start();
    const UniqueFd client = connect_to(replay.port());
    send_in_pieces(client, recording.bytes(kToServer), random);
    replay.wait_done();
    half_close(client);
    EXPECT_TRUE(recv_until_eof(client) == recording.bytes(kToClient));
    replay.check();
  }
}

TEST_F(ReplayServerTest, ReportsRandomCorruptionAtTheRightByte) {
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Recording recording = random.recording();
    const std::string right = recording.bytes(kToServer);
    std::string wrong = right;
    std::size_t at = random.below(right.size() + 1);
    const std::size_t kind = random.below(3);
    if (kind == 0 && at < right.size()) {  // changed
      wrong[at] = static_cast<char>(static_cast<unsigned char>(wrong[at]) ^
                                    (1 + random.below(255)));
    } else if (kind == 1 && at < right.size()) {  // cut short
      wrong.resize(at);
    } else {  // too long
      at = right.size();
      wrong += random.bytes(1 + random.below(9));
    }
    ReplayServer replay({std::move(recording)});
    replay.start();
    const UniqueFd client = connect_to(replay.port());
    send_in_pieces(client, wrong, random);
    ::shutdown(client.get(), SHUT_WR);
    recv_ending(client);
    try {
      replay.check();
      ADD_FAILURE() << "no mismatch";
    } catch (const ReplayMismatch& e) {
      EXPECT_EQ(e.offset(), at) << e.what();
      if (at < right.size()) {
        EXPECT_EQ(e.expected(), right.substr(at, 32));
      } else {
        EXPECT_EQ(e.expected(), "");
      }
      EXPECT_TRUE(
          wrong.substr(std::min(at, wrong.size())).starts_with(e.got()));
      EXPECT_EQ(e.got().empty(), at >= wrong.size());
    }
  }
}

}  // namespace
}  // namespace tcpip_testing
