#include "tcpip/frame_dispatcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/stage.h"
#include "tests/support/thrown.h"
#include "tests/support/told.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::LogRecorder;
using tcpip_tests::await_receivable;
using tcpip_tests::BlockedCall;
using tcpip_tests::eventually;
using tcpip_tests::half_close;
using tcpip_tests::kPatience;
using tcpip_tests::send_all;
using tcpip_tests::ServedStage;
using tcpip_tests::Thrown;
using tcpip_tests::thrown_by;

enum class Id : std::int16_t { kPosition = 1, kStatus = 2, kStop = -3 };

struct Header {
  BigEndian<Id> id{};
  BigEndian<std::uint32_t> length{};
};
struct Position {
  BigEndian<double> altitude{};
  BigEndian<std::uint32_t> sequence{};
};
struct Status {
  std::uint8_t value = 0;
};

Header header(Id id, std::size_t length) {
  return {.id = id, .length = static_cast<std::uint32_t>(length)};
}
std::string position_frame(double altitude, std::uint32_t sequence = 0) {
  return pack(header(Id::kPosition, sizeof(Position))) +
         pack(Position{.altitude = altitude, .sequence = sequence});
}
std::string status_frame(std::uint8_t value) {
  return pack(header(Id::kStatus, 1)) + pack(Status{value});
}
std::string frame(Id id, std::string_view body) {
  return pack(header(id, body.size())) + std::string(body);
}

// Frames whose headers tell the length of the body. Records what the handlers
// are called with.
class FrameDispatcherTest : public testing::Test {
 protected:
  FrameDispatcherTest() { handle(frames); }

  void handle(FrameDispatcher<Header>& dispatcher) {
    dispatcher.on<Position>(
        Id::kPosition,
        [this](const Connection& from, const Header& h, const Position& p) {
          EXPECT_EQ(from, connection());
          EXPECT_EQ(h.id.value(), Id::kPosition);
          got.push_back("position " +
                        std::to_string(static_cast<int>(p.altitude.value())));
        });
    dispatcher.on<Status>(
        Id::kStatus, [this](const Connection&, const Header&, const Status& s) {
          got.push_back("status " + std::to_string(s.value));
        });
    dispatcher.on(Id::kStop, [this](const Connection&, const Header& h) {
      EXPECT_EQ(h.id.value(), Id::kStop);
      got.push_back("stop");
    });
  }
  Connection connection() { return stage->connection(); }
  // Sends bytes and waits until they are there.
  void send(std::string_view bytes) {
    send_all(stage.peer, bytes);
    await_receivable(connection().native_handle(), bytes.size());
  }
  std::string take() {
    std::string result;
    for (const std::string& text : got) result += text + ";";
    got.clear();
    return result;
  }

  ServedStage stage;
  const LogRecorder log;
  std::vector<std::string> got;
  FrameDispatcher<Header> frames{{.id = &Header::id,
                                  .body_length = &Header::length,
                                  .max_body = 100,
                                  .log = log.log()}};
};

TEST_F(FrameDispatcherTest, CallsTheHandlerOfEachFrameInOrder) {
  send_all(stage.peer, position_frame(12) + frame(Id::kStop, "") +
                           status_frame(7) + position_frame(13));
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(frames.read_one(connection(), kPatience));
  }
  EXPECT_EQ(take(), "position 12;stop;status 7;position 13;");
  EXPECT_EQ(frames.counts(), (FrameCounts{.frames = 4}));
}

TEST_F(FrameDispatcherTest, ReadsTheCurrentConnectionOfAClientOrServer) {
  send_all(stage.peer, position_frame(1));
  EXPECT_TRUE(frames.read_one(*stage, kPatience));
  EXPECT_EQ(take(), "position 1;");
  stage->close_client();
  EXPECT_THROW(frames.read_one(*stage, kPatience), ConnectionError);
  EXPECT_THROW(frames.read_one(Connection(), kPatience), ConnectionError);
}

TEST_F(FrameDispatcherTest, TakesANumberByAFunctionToo) {
  FrameDispatcher<Header> other(
      {.id = [](const Header& h) { return h.id.value(); },
       .frame_length =
           [](const Header& h) { return h.length.value() + sizeof(Header); }});
  handle(other);
  send_all(stage.peer,
           position_frame(5) + frame(Id{9}, "what") + frame(Id::kStop, ""));
  EXPECT_TRUE(other.read_one(connection(), kPatience));
  EXPECT_FALSE(other.read_one(connection(), kPatience));
  EXPECT_TRUE(other.read_one(connection(), kPatience));
  EXPECT_EQ(take(), "position 5;stop;");
}

TEST_F(FrameDispatcherTest, RefusesWrongOptionsAndASecondHandler) {
  EXPECT_THROW(FrameDispatcher<Header>(FrameOptions<Header>{.id = {}}),
               std::invalid_argument);
  EXPECT_THROW(FrameDispatcher<Header>({.id = &Header::id,
                                        .body_length = &Header::length,
                                        .frame_length = &Header::length}),
               std::invalid_argument);
  EXPECT_THROW(frames.on(Id::kStop, [](const Connection&, const Header&) {}),
               std::invalid_argument);
  EXPECT_THROW(frames.on(-3, [](const Connection&, const Header&) {}),
               std::invalid_argument)
      << "it is the same number";
}

// --- Frames that no handler gets ---

TEST_F(FrameDispatcherTest, WhatIsSkippedIsToldOnceItIsSkipped) {
  std::vector<std::pair<int, std::uint32_t>> skipped;
  frames.otherwise([&](const Connection& from, const Header& h) {
    EXPECT_EQ(from, connection());
    skipped.emplace_back(static_cast<int>(h.id.value()), h.length);
  });
  EXPECT_THROW(frames.otherwise([](const Connection&, const Header&) {}),
               std::invalid_argument);
  const std::string unknown = frame(Id{77}, "12345");
  send(unknown.substr(0, unknown.size() - 1));
  EXPECT_THROW(frames.read_one(connection(), 1ms), TimeoutError);
  EXPECT_TRUE(skipped.empty());
  send(unknown.substr(unknown.size() - 1));
  EXPECT_FALSE(frames.read_one(connection(), kPatience));
  send(frame(Id::kStatus, "12") + status_frame(3));
  EXPECT_FALSE(frames.read_one(connection(), kPatience));
  EXPECT_TRUE(frames.read_one(connection(), kPatience));
  EXPECT_EQ(skipped, (std::vector<std::pair<int, std::uint32_t>>{
                         {77, 5}, {static_cast<int>(Id::kStatus), 2}}));
  EXPECT_EQ(take(), "status 3;");
}

TEST_F(FrameDispatcherTest, SkipsAnUnknownFrameByItsLength) {
  send_all(stage.peer, frame(Id{9}, "what") + frame(Id{8}, "") +
                           frame(Id{7}, std::string(100, 'x')) +
                           status_frame(1));
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(frames.read_one(connection(), kPatience));
  }
  EXPECT_TRUE(frames.read_one(connection(), kPatience));
  EXPECT_EQ(take(), "status 1;");
  EXPECT_EQ(frames.counts(), (FrameCounts{.frames = 1, .unknown = 3}));
}

TEST_F(FrameDispatcherTest, SkipsAKnownFrameOfAnotherLengthThanItsStruct) {
  send_all(stage.peer, frame(Id::kPosition, "short") +
                           frame(Id::kPosition, "longer than the struct is") +
                           frame(Id::kStop, "not empty") + status_frame(1));
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(frames.read_one(connection(), kPatience));
  }
  EXPECT_TRUE(frames.read_one(connection(), kPatience));
  EXPECT_EQ(take(), "status 1;");
  EXPECT_EQ(frames.counts(), (FrameCounts{.frames = 1, .wrong_length = 3}));
}

TEST_F(FrameDispatcherTest, LogsWhatItSkipsAtABoundedRate) {
  {
    FrameDispatcher<Header> other(
        {.id = &Header::id, .body_length = &Header::length, .log = log.log()});
    handle(other);
    for (int i = 0; i < 1000; ++i) {
      send_all(stage.peer, frame(Id{9}, "what") + frame(Id::kStatus, ""));
      EXPECT_FALSE(other.read_one(connection(), kPatience));
      EXPECT_FALSE(other.read_one(connection(), kPatience));
    }
    EXPECT_LT(log.size(), 100u);
  }
  EXPECT_EQ(tcpip_tests::told(log, "is unknown"), 1000u);
  EXPECT_EQ(tcpip_tests::told(log, "has a body of 0 bytes, not of 1"), 1000u);
}

TEST_F(FrameDispatcherTest,
       ABodyBeyondTheLimitIsAnErrorUntilTheConnectionEnds) {
  send_all(stage.peer, frame(Id{9}, std::string(101, 'x')) + status_frame(1));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(thrown_by([&] { frames.read_one(connection(), kPatience); }),
              (Thrown{"Error", EBADMSG}));
  }
  EXPECT_TRUE(connection().connected()) << "who calls decides";
  EXPECT_EQ(frames.counts(), FrameCounts());
  stage.reconnect_after_close();
  send_all(stage.peer, status_frame(2));
  EXPECT_TRUE(frames.read_one(connection(), kPatience));
  EXPECT_EQ(take(), "status 2;");
}

TEST_F(FrameDispatcherTest, TheErrorNamesCallPeerFrameAndLength) {
  send_all(stage.peer, pack(header(Id{9}, 0xffffffff)));
  try {
    frames.read_one(connection(), kPatience);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.operation(), "read_one");
    EXPECT_EQ(e.peer(), connection().peer_address().to_string());
    EXPECT_NE(std::string_view(e.what()).find(
                  "frame 9 tells a body of 4294967295 bytes"),
              std::string_view::npos)
        << e.what();
  }
}

TEST_F(FrameDispatcherTest, AFrameShorterThanItsHeaderIsAnError) {
  FrameDispatcher<Header> other(
      {.id = &Header::id, .frame_length = &Header::length});
  handle(other);
  send_all(stage.peer, pack(header(Id::kStop, sizeof(Header) - 1)));
  EXPECT_EQ(thrown_by([&] { other.read_one(connection(), kPatience); }),
            (Thrown{"Error", EBADMSG}));
  EXPECT_EQ(take(), "");
}

TEST_F(FrameDispatcherTest, WithoutALengthDropsAllThatHasCome) {
  FrameDispatcher<Header> other({.id = &Header::id, .log = log.log()});
  handle(other);
  // Without a length a body is as long as its struct.
  send(pack(header(Id::kStatus, 99)) + "\1" + pack(header(Id{9}, 0)) + "what" +
       status_frame(2));
  EXPECT_TRUE(other.read_one(connection(), kPatience));
  EXPECT_FALSE(other.read_one(connection(), kPatience));
  send(status_frame(3));
  EXPECT_TRUE(other.read_one(connection(), kPatience));
  EXPECT_EQ(take(), "status 1;status 3;");
  EXPECT_EQ(other.counts(),
            (FrameCounts{.frames = 2,
                         .unknown = 1,
                         .flushed_bytes = 4 + status_frame(2).size()}));
  EXPECT_EQ(log.count("what has come is dropped"), 1u) << log.text();
}

// --- Interrupted calls ---

TEST_F(FrameDispatcherTest, InterruptedAfterEachByteItGoesOn) {
  const std::string all = position_frame(1) + frame(Id{9}, "what") +
                          frame(Id::kStatus, "wrong") + frame(Id::kStop, "") +
                          status_frame(2);
  int ended = 0;
  std::stop_source stop;
  stop.request_stop();
  for (const char byte : all) {
    send(std::string_view(&byte, 1));
    try {
      frames.read_one(connection(), Wait::none());
      ++ended;
    } catch (const TimeoutError&) {
    }
    EXPECT_THROW(frames.read_one(connection(), stop.get_token()),
                 CancelledError);
  }
  EXPECT_EQ(ended, 5);
  EXPECT_EQ(take(), "position 1;stop;status 2;");
  EXPECT_EQ(frames.counts(),
            (FrameCounts{.frames = 3, .unknown = 1, .wrong_length = 1}));
}

TEST_F(FrameDispatcherTest, ANewConnectionBeginsWithAHeader) {
  const std::string first = position_frame(1);
  for (const std::size_t size : {sizeof(Header), sizeof(Header) + 3}) {
    send(first.substr(0, size));
    EXPECT_THROW(frames.read_one(connection(), Wait::none()), TimeoutError);
    stage.reconnect_after_close();
    send_all(stage.peer, status_frame(3));
    EXPECT_TRUE(frames.read_one(connection(), kPatience));
    EXPECT_EQ(take(), "status 3;");
  }
  // Also in the middle of a frame that is skipped.
  send(frame(Id{9}, "what").substr(0, sizeof(Header) + 2));
  EXPECT_THROW(frames.read_one(connection(), Wait::none()), TimeoutError);
  stage.reconnect_after_close();
  send_all(stage.peer, status_frame(4));
  EXPECT_TRUE(frames.read_one(connection(), kPatience));
  EXPECT_EQ(take(), "status 4;");
}

TEST_F(FrameDispatcherTest, TheEndInAFrameIsAnIncompleteRead) {
  for (const std::string& part :
       {position_frame(1).substr(0, 4), position_frame(1).substr(0, 12),
        frame(Id{9}, "what").substr(0, 8)}) {
    send_all(stage.peer, part);
    half_close(stage.peer);
    try {
      frames.read_one(connection(), kPatience);
      ADD_FAILURE();
    } catch (const IncompleteReadError& e) {
      EXPECT_EQ(e.operation(), "read_one");
    }
    stage.reconnect();
  }
  EXPECT_EQ(take(), "");
}

TEST_F(FrameDispatcherTest, AHeaderWithoutABodyMayBeTheLastThatComes) {
  send_all(stage.peer, frame(Id::kStop, ""));
  half_close(stage.peer);
  tcpip_tests::await_hang_up(connection().native_handle());
  EXPECT_TRUE(frames.read_one(connection(), kPatience));
  EXPECT_EQ(take(), "stop;");
}

// --- Handlers ---

TEST_F(FrameDispatcherTest, WhatAHandlerThrowsComesOutAndTheNextFrameIsRead) {
  frames.on<Status>(5, [](const Connection&, const Header&, const Status&) {
    throw std::runtime_error("no");
  });
  send_all(stage.peer, frame(Id{5}, "x") + status_frame(2));
  EXPECT_THROW(frames.read_one(connection(), kPatience), std::runtime_error);
  EXPECT_TRUE(frames.read_one(connection(), kPatience));
  EXPECT_EQ(take(), "status 2;");
}

TEST_F(FrameDispatcherTest, AHandlerMustNotReadAndMayAddHandlers) {
  frames.on(5, [&](const Connection& from, const Header&) {
    EXPECT_THROW(frames.read_one(from, kPatience), std::logic_error);
    frames.on(
        6, [&](const Connection&, const Header&) { got.emplace_back("six"); });
  });
  send_all(stage.peer, frame(Id{5}, "") + frame(Id{6}, ""));
  EXPECT_TRUE(frames.read_one(connection(), kPatience));
  EXPECT_TRUE(frames.read_one(connection(), kPatience));
  EXPECT_EQ(take(), "six;");
}

TEST_F(FrameDispatcherTest, ASecondReaderIsRefusedAndTheFirstGoesOn) {
  BlockedCall first([&] { return frames.read_one(connection(), kPatience); });
  ASSERT_TRUE(first.await_blocked());
  EXPECT_THROW(frames.read_one(connection(), kPatience), std::logic_error);
  EXPECT_EQ(frames.counts(), FrameCounts()) << "from any thread";
  send_all(stage.peer, status_frame(2));
  EXPECT_TRUE(first.get());
}

TEST_F(FrameDispatcherTest, AHandlerMayHoldWhatCannotBeCopied) {
  frames.on(5, [text = std::make_unique<std::string>("own"), this](
                   const Connection&, const Header&) { got.push_back(*text); });
  send_all(stage.peer, frame(Id{5}, ""));
  EXPECT_TRUE(frames.read_one(connection(), kPatience));
  EXPECT_EQ(take(), "own;");
}

TEST(FrameDispatcherServerTest, IsTheReadHandlerOfAServer) {
  tcpip_tests::SharedList<int> got;
  FrameDispatcher<Header> frames(
      {.id = &Header::id, .body_length = &Header::length});
  frames.on<Status>(
      Id::kStatus, [&](const Connection& from, const Header&, const Status& s) {
        got.add(s.value);
        from.write_from(header(Id::kStop, 0), kPatience);
      });
  tcpip_tests::ReadLoopStage stage(
      [&](Connection& client, std::stop_token stop) {
        frames.read_one(client, stop);
      });
  for (std::uint8_t i = 1; i <= 2; ++i) {
    const UniqueFd peer = stage.connect();
    send_all(peer, status_frame(i) + frame(Id{9}, "what") + status_frame(i));
    EXPECT_EQ(tcpip_tests::recv_exact(peer, 2 * sizeof(Header)),
              frame(Id::kStop, "") + frame(Id::kStop, ""));
    // The beginning of a frame, which is not the next client's.
    send_all(peer, status_frame(9).substr(0, sizeof(Header)));
    half_close(peer);
    EXPECT_EQ(tcpip_tests::recv_until_eof(peer), "");
  }
  EXPECT_EQ(got.values(), (std::vector<int>{1, 1, 2, 2}));
}

// --- Against a naive parser ---

// What is read of a stream of frames, whatever pieces it comes in and however
// often the calls are interrupted.
TEST_F(FrameDispatcherTest, RandomStreamsGiveWhatANaiveParserFinds) {
  std::mt19937 random(7);
  const auto below = [&](std::size_t end) { return random() % end; };
  FrameCounts counts;
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(round);
    std::string stream;
    std::vector<std::string> expected;
    const std::size_t count = 1 + below(12);
    for (std::size_t i = 0; i < count; ++i) {
      const auto id = static_cast<Id>(static_cast<int>(below(7)) - 3);
      std::string body(below(4) == 0         ? below(101)
                       : id == Id::kPosition ? sizeof(Position)
                       : id == Id::kStatus   ? 1
                       : id == Id::kStop     ? 0
                                             : below(20),
                       '\0');
      for (char& c : body) c = static_cast<char>(random());
      stream += frame(id, body);
    }
    // The naive parser: all of the stream is there.
    for (std::size_t at = 0; at < stream.size();) {
      const auto number = [&](std::size_t from, std::size_t size) {
        std::uint32_t value = 0;
        for (std::size_t k = 0; k < size; ++k) {
          value = value << 8 | static_cast<unsigned char>(stream[from + k]);
        }
        return value;
      };
      const std::uint32_t id = number(at, 2);
      const std::uint32_t length = number(at + 2, 4);
      const bool known = id == 1 || id == 2 || id == 0xfffd;
      const std::uint32_t own = id == 1 ? 12 : id == 2 ? 1 : 0;
      if (!known) {
        ++counts.unknown;
      } else if (length != own) {
        ++counts.wrong_length;
      } else {
        ++counts.frames;
        expected.push_back(std::to_string(id) + stream.substr(at + 6, length));
      }
      at += 6 + length;
    }
    std::vector<std::string> read;
    FrameDispatcher<Header> one(
        {.id = &Header::id, .body_length = &Header::length, .max_body = 100});
    one.on<Position>(Id::kPosition,
                     [&](const Connection&, const Header&, const Position& p) {
                       read.push_back("1" + pack(p));
                     });
    one.on<Status>(Id::kStatus,
                   [&](const Connection&, const Header&, const Status& s) {
                     read.push_back("2" + pack(s));
                   });
    one.on(Id::kStop, [&](const Connection&, const Header&) {
      read.emplace_back("65533");
    });
    std::size_t ended = 0;
    for (std::string_view rest = stream; !rest.empty();) {
      const std::string_view piece = rest.substr(0, 1 + below(40));
      rest.remove_prefix(piece.size());
      send_all(stage.peer, piece);
      for (std::size_t tries = below(3); tries > 0; --tries) {
        try {
          one.read_one(connection(), Wait::none());
          ++ended;
        } catch (const TimeoutError&) {
        }
      }
    }
    for (; ended < count; ++ended) one.read_one(connection(), kPatience);
    EXPECT_EQ(read, expected);
    EXPECT_THROW(one.read_one(connection(), Wait::none()), TimeoutError);
    const FrameCounts now = one.counts();
    counts.frames -= now.frames;
    counts.unknown -= now.unknown;
    counts.wrong_length -= now.wrong_length;
    EXPECT_EQ(counts, FrameCounts());
  }
}

}  // namespace
}  // namespace tcpip
