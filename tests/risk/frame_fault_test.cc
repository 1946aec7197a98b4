// Frames, and messages that end by silence, while system calls move one byte,
// are interrupted or find nothing, and while there is no memory: no frame is
// torn, lost or handled twice.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <ostream>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/frame_dispatcher.h"
#include "tests/support/faults.h"
#include "tests/support/loopback.h"
#include "tests/support/stage.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;
namespace faults = tcpip_tests::faults;
using tcpip_tests::kPatience;
using tcpip_tests::loopback_pair;
using tcpip_tests::LoopbackPair;
using tcpip_tests::send_all;
using tcpip_tests::ServedStage;
using tcpip_tests::Transport;

struct Header {
  BigEndian<std::uint16_t> id{};
  BigEndian<std::uint32_t> length{};
};
struct Body {
  BigEndian<std::uint32_t> number{};
  std::array<char, 9> text{};
};

struct Disturbance {
  const char* name;
  void (*begin)(faults::Plan& plan);
  friend std::ostream& operator<<(std::ostream& out, const Disturbance& d) {
    return out << d.name;
  }
};

// Each lets a recv() have a few bytes only, so that there are many of them.
constexpr std::array kDisturbances{
    Disturbance{"Short",
                [](faults::Plan& plan) {
                  plan.add("recv", faults::always().at_most(1));
                }},
    Disturbance{"Uneven",
                [](faults::Plan& plan) {
                  plan.add("recv", faults::always().at_most(7));
                  plan.add("recv", faults::sometimes(0.5, 1).at_most(3));
                }},
    Disturbance{"Interrupted",
                [](faults::Plan& plan) {
                  plan.add("recv", faults::always().at_most(7));
                  for (const char* const call : {"recv", "poll", "ppoll"}) {
                    plan.add(call, faults::sometimes(0.3, 2).error(EINTR));
                  }
                }},
    Disturbance{"Spurious",
                [](faults::Plan& plan) {
                  plan.add("recv", faults::always().at_most(7));
                  plan.add("ppoll", faults::sometimes(0.3, 3).ready());
                  plan.add("recv", faults::sometimes(0.2, 4).error(EAGAIN));
                }},
    Disturbance{
        "NoMemory",
        [](faults::Plan& plan) {
          plan.add("recv", faults::always().at_most(7).here());
          plan.add("new", faults::sometimes(0.2, 5).error(ENOMEM).here());
          plan.add("recv", faults::sometimes(0.2, 6).error(ENOMEM).here());
        }},
};

class FrameFaultTest : public testing::TestWithParam<Disturbance> {};
INSTANTIATE_TEST_SUITE_P(All, FrameFaultTest, testing::ValuesIn(kDisturbances),
                         [](const auto& test) {
                           return std::string(test.param.name);
                         });

// Calls it again while memory is what it lacks.
template <class Call>
auto with_patience(Call call) {
  for (int tries = 0;; ++tries) {
    try {
      return call();
    } catch (const std::bad_alloc&) {
      if (tries == 1000) throw;
    } catch (const ConnectionError&) {
      throw;
    } catch (const Error& e) {
      if (e.code() != std::errc::not_enough_memory || tries == 1000) throw;
    }
  }
}

TEST_P(FrameFaultTest, EachFrameIsHandledOnceAndInOrder) {
  constexpr std::uint32_t kFrames = 300;
  ServedStage stage;
  FrameDispatcher<Header> frames(
      {.id = &Header::id, .body_length = &Header::length});
  std::vector<std::uint32_t> got;
  got.reserve(kFrames);
  frames.on<Body>(7, [&](const Connection&, const Header&, const Body& body) {
    EXPECT_EQ(body.text[8], 'x');
    got.push_back(body.number);
  });
  std::jthread sending([&] {
    for (std::uint32_t i = 0; i < kFrames; ++i) {
      const Body body{.number = i,
                      .text = {'1', '2', '3', '4', '5', '6', '7', '8', 'x'}};
      const std::string frame =
          pack(Header{.id = std::uint16_t{7}, .length = std::uint32_t{13}}) +
          pack(body);
      const std::string unknown =
          pack(Header{.id = std::uint16_t{8}, .length = i % 50}) +
          std::string(i % 50, '\7');
      const std::string wrong =
          pack(Header{.id = std::uint16_t{7}, .length = std::uint32_t{3}}) +
          "\7\7\7";
      send_all(stage.peer,
               frame + (i % 3 == 0 ? unknown : "") + (i % 5 == 0 ? wrong : ""));
    }
  });
  const Connection connection = stage->connection();
  {
    faults::Plan plan;
    GetParam().begin(plan);
    while (got.size() < kFrames) {
      with_patience([&] { return frames.read_one(connection, kPatience); });
    }
    EXPECT_GT(plan.injected(), 0);
  }
  for (std::uint32_t i = 0; i < kFrames; ++i) EXPECT_EQ(got[i], i);
  // What comes behind the last one.
  EXPECT_LE(frames.counts().unknown, kFrames / 3);
  EXPECT_GE(frames.counts().unknown, kFrames / 3 - 1);
  EXPECT_GE(frames.counts().wrong_length, kFrames / 5 - 1);
}

TEST_P(FrameFaultTest, MessagesThatEndBySilenceAreWhole) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  const std::stop_source stop;
  faults::Plan plan;
  GetParam().begin(plan);
  for (int i = 0; i < 8; ++i) {
    // The next is sent when this one has been read: they cannot be mixed up.
    const std::string message = "value " + std::to_string(i);
    {
      const faults::Exempt mine;
      send_all(pair.peer, message);
      tcpip_tests::await_receivable(pair.writer.native_handle(),
                                    message.size());
    }
    const Wait wait =
        i % 2 == 0 ? Wait(kPatience) : Wait(kPatience, stop.get_token());
    const std::string got = with_patience(
        [&] { return pair.reader.read_until_silence(20ms, 1000, wait); });
    EXPECT_EQ(got, message);
  }
  EXPECT_GT(plan.injected(), 0);
}

}  // namespace
}  // namespace tcpip
