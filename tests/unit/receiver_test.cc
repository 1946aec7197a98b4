#include "tcpip/stream/receiver.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/base/mutex.h"
#include "tcpip/error.h"
#include "tcpip/socket.h"
#include "tcpip/unique_fd.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"

namespace tcpip::internal {
namespace {

using namespace std::chrono_literals;
using tcpip_tests::await_hang_up;
using tcpip_tests::await_receivable;
using tcpip_tests::BlockedCall;
using tcpip_tests::half_close;
using tcpip_tests::kPatience;
using tcpip_tests::send_all;
using tcpip_tests::Transport;

constexpr const char* kName = "the_call_of_the_user";
constexpr std::size_t kNegative = static_cast<std::size_t>(-1);

// Every operation, with arguments that are in order.
struct Read {
  const char* name;
  std::function<void(Receiver&, const Wait&)> call;
  bool waits = true;
};

const std::vector<Read>& all_reads() {
  static const std::string_view kEnds[] = {"\r\n", "\n"};
  static const std::vector<Read> kReads = {
      {"read_view",
       [](auto& r, auto& w) {
         r.read_view({kName, w}, 1);
       }},
      {"read_all",
       [](auto& r, auto& w) {
         r.read_all({kName, w}, 100);
       }},
      {"read_line_view",
       [](auto& r, auto& w) {
         r.read_line_view({kName, w});
       }},
      {"read_until_view",
       [](auto& r, auto& w) {
         r.read_until_view({kName, w}, "\n");
       }},
      {"read_until_view list",
       [](auto& r, auto& w) {
         r.read_until_view({kName, w}, SeparatorSpan(kEnds));
       }},
      {"read_exactly_view",
       [](auto& r, auto& w) {
         r.read_exactly_view({kName, w}, 3);
       }},
      {"read_exactly",
       [](auto& r, auto& w) {
         std::array<std::byte, 3> out;
         r.read_exactly({kName, w}, std::span<std::byte>(out));
       }},
      {"read_exactly large",
       [](auto& r, auto& w) {
         std::vector<std::byte> out(100'000);
         r.read_exactly({kName, w}, std::span(out));
       }},
      {"read_until_silence",
       [](auto& r, auto& w) {
         r.read_until_silence({kName, w}, 1ms, 3);
       }},
      {"discard_until",
       [](auto& r, auto& w) {
         r.discard_until({kName, w}, "\n");
       }},
      {"wait_readable",
       [](auto& r, auto& w) {
         r.wait_readable({kName, w});
       }},
      {"try_read", [](auto& r, auto&) { r.try_read(kName, 1); }, false},
      {"try_read_line", [](auto& r, auto&) { r.try_read_line(kName); }, false},
      {"try_read_until", [](auto& r, auto&) { r.try_read_until(kName, "\n"); },
       false},
      {"try_read_until list",
       [](auto& r, auto&) { r.try_read_until(kName, SeparatorSpan(kEnds)); },
       false},
      {"try_read_exactly",
       [](auto& r, auto&) { r.try_read_exactly(kName, std::size_t{3}); },
       false},
      {"try_read_exactly into memory",
       [](auto& r, auto&) {
         std::array<std::byte, 3> out;
         r.try_read_exactly(kName, std::span<std::byte>(out));
       },
       false},
      {"try_read_until_silence",
       [](auto& r, auto&) { r.try_read_until_silence(kName, 1ms, 3); }, false},
      {"skip", [](auto& r, auto&) { r.skip(kName, 1); }, false},
      {"discard", [](auto& r, auto&) { r.discard(kName); }, false},
  };
  return kReads;
}

// Records each end, and what another thread would see at that moment.
class Recorder final : public ReadObserver {
 public:
  explicit Recorder(Receiver& receiver) : receiver_(receiver) {
    receiver.set_observer(self_);
  }

  void read_ended(bool lost) noexcept override {
    ++calls_;
    if (lost) ++lost_;
    EXPECT_FALSE(receiver_.is_reading());
    if (!lost) {
      EXPECT_EQ(receiver_.buffered(), 0u);
      EXPECT_EQ(receiver_.unread(), 0u);
    }
  }

  // "" if there was no call since the last time, "lost" or "not lost" if there
  // was one.
  std::string take() {
    const int calls = calls_.exchange(0);
    const int lost = lost_.exchange(0);
    if (calls > 1) return "several";
    return calls == 0 ? "" : lost == 1 ? "lost" : "not lost";
  }

 private:
  Receiver& receiver_;
  const std::shared_ptr<ReadObserver> self_{this, [](ReadObserver*) {}};
  std::atomic<int> calls_{0};
  std::atomic<int> lost_{0};
};

// A Receiver, its observer, and the other end.
struct Stage {
  explicit Stage(Transport transport = Transport::kUnix,
                 std::size_t limit = kDefaultLimit)
      : Stage(tcpip_tests::socket_pair(transport), limit) {}
  Stage(tcpip_tests::SocketPair pair, std::size_t limit)
      : socket(pair.socket),
        peer(std::move(pair.peer)),
        receiver(socket, limit),
        observer(receiver) {}

  // Into the receiver's buffer, whatever the operations are to do with it.
  void buffer(std::string_view bytes) {
    send_all(peer, bytes);
    await_receivable(socket->native_handle(), bytes.size());
    EXPECT_FALSE(receiver.try_read_exactly(kName, std::size_t{PTRDIFF_MAX}));
    EXPECT_EQ(receiver.buffered(), bytes.size());
    observer.take();
  }

  const std::shared_ptr<Socket> socket;
  UniqueFd peer;
  Receiver receiver;
  Recorder observer;
};

// --- Names ---

void expect_named(const std::exception& e, const char* read) {
  EXPECT_TRUE(std::string_view(e.what()).starts_with(kName))
      << read << ": " << e.what();
}

TEST(Receiver, EveryErrorSaysTheNameOfTheCall) {
  for (const Read& read : all_reads()) {
    Stage stage(Transport::kIpv4);
    if (read.waits) {
      std::stop_source stop;
      stop.request_stop();
      try {
        read.call(stage.receiver, stop.get_token());
        ADD_FAILURE() << read.name;
      } catch (const CancelledError& e) {
        expect_named(e, read.name);
      }
      try {
        read.call(stage.receiver, Wait::none());
      } catch (const TimeoutError& e) {
        expect_named(e, read.name);
      }
    }
    {
      BlockedCall first([&] {
        return std::string(stage.receiver.read_view({"first", Wait()}, 1));
      });
      ASSERT_TRUE(first.await_blocked());
      try {
        read.call(stage.receiver, Wait());
        ADD_FAILURE() << read.name;
      } catch (const std::logic_error& e) {
        expect_named(e, read.name);
      }
      send_all(stage.peer, "x");
      EXPECT_EQ(first.get(), "x");
    }
    half_close(stage.peer);
    await_hang_up(stage.socket->native_handle());
    try {
      read.call(stage.receiver, kPatience);
    } catch (const IncompleteReadError& e) {
      expect_named(e, read.name);
      EXPECT_EQ(e.operation(), kName);
    }
  }
}

TEST(Receiver, ResetIsThrownUnderTheNameOfEachCall) {
  Stage stage(Transport::kIpv4);
  tcpip_tests::reset(std::move(stage.peer));
  await_hang_up(stage.socket->native_handle());
  for (const Read& read : all_reads()) {
    const std::string_view name = read.name;
    if (name == "wait_readable" || name == "skip" || name == "discard") {
      EXPECT_NO_THROW(read.call(stage.receiver, kPatience)) << read.name;
      EXPECT_EQ(stage.observer.take(), "not lost") << read.name;
      continue;
    }
    try {
      read.call(stage.receiver, kPatience);
      ADD_FAILURE() << read.name;
    } catch (const ConnectionResetError& e) {
      EXPECT_EQ(e.operation(), kName) << read.name;
    }
    EXPECT_EQ(stage.observer.take(), "lost") << read.name;
  }
  EXPECT_TRUE(stage.receiver.has_ended());
  EXPECT_EQ(stage.receiver.error(), std::errc::connection_reset);
}

TEST(Receiver, BadArgumentsAreRefusedUnderTheNameOfTheCall) {
  Stage stage;
  stage.buffer("abc\n");
  Receiver& r = stage.receiver;
  const Wait wait = kPatience;
  const Call call{kName, wait};
  const std::vector<std::function<void()>> calls = {
      [&] { r.read_view(call, kNegative); },
      [&] { r.try_read(kName, kNegative); },
      [&] { r.read_exactly_view(call, kNegative); },
      [&] { r.try_read_exactly(kName, kNegative); },
      [&] { r.read_until_view(call, ""); },
      [&] { r.read_until_view(call, SeparatorSpan()); },
      [&] { r.try_read_until(kName, ""); },
      [&] { r.try_read_until(kName, SeparatorSpan()); },
      [&] { r.discard_until(call, ""); },
  };
  for (std::size_t i = 0; i < calls.size(); ++i) {
    try {
      calls[i]();
      ADD_FAILURE() << i;
    } catch (const std::invalid_argument& e) {
      expect_named(e, "bad argument");
    }
    EXPECT_EQ(stage.observer.take(), "") << i;
    EXPECT_FALSE(r.is_reading()) << i;
  }
  EXPECT_EQ(r.read_line_view(call), "abc\n");
}

TEST(Receiver, RequestedStopWinsOverABadSize) {
  Stage stage;
  std::stop_source stop;
  stop.request_stop();
  const Wait wait = stop.get_token();
  EXPECT_THROW(stage.receiver.read_view({kName, wait}, kNegative),
               CancelledError);
  EXPECT_THROW(stage.receiver.read_exactly_view({kName, wait}, kNegative),
               CancelledError);
}

// --- The observer ---

TEST(Receiver, WorksWithoutAnObserver) {
  tcpip_tests::SocketPair pair = tcpip_tests::socket_pair(Transport::kUnix);
  Receiver receiver(pair.socket, 10);
  send_all(pair.peer, "a\n");
  half_close(pair.peer);
  const Wait wait = kPatience;
  EXPECT_EQ(receiver.read_line_view({kName, wait}), "a\n");
  EXPECT_EQ(receiver.read_line_view({kName, wait}), "");
}

TEST(Receiver, ObserverIsNotCalledWhileBytesAreBuffered) {
  for (const Read& read : all_reads()) {
    Stage stage;
    const std::string_view name = read.name;
    // Those take all that there is.
    if (name == "read_all" || name == "discard") continue;
    stage.receiver.expect_end();
    stage.buffer("a\nb\nc\nd");
    try {
      read.call(stage.receiver, Wait::none());
    } catch (const TimeoutError&) {
      EXPECT_EQ(name, "read_exactly large");
    }
    EXPECT_GT(stage.receiver.buffered(), 0u) << read.name;
    EXPECT_EQ(stage.observer.take(), "") << read.name;
  }
}

TEST(Receiver, BufferedMessageEndsWithAllOfItsSeparator) {
  Stage stage;
  stage.buffer("a\nb\r\nc\r\n");
  const Wait wait = kPatience;
  EXPECT_EQ(stage.receiver.read_until_view({kName, wait}, "\r\n"), "a\nb\r\n");
  EXPECT_EQ(stage.receiver.read_until_view({kName, wait}, "\r\n"), "c\r\n");
}

TEST(Receiver, RequestedStopWinsOverBufferedMessages) {
  std::stop_source stop;
  stop.request_stop();
  for (const Read& read : all_reads()) {
    if (!read.waits) continue;
    Stage stage;
    stage.buffer("abc\nd\r\ne");
    EXPECT_THROW(read.call(stage.receiver, stop.get_token()), CancelledError)
        << read.name;
    EXPECT_EQ(stage.receiver.buffered(), 8u) << read.name;
  }
}

TEST(Receiver, ObserverIsNotCalledUntilTheEndIsExpected) {
  for (const Read& read : all_reads()) {
    Stage stage;
    try {
      read.call(stage.receiver, Wait::none());
    } catch (const TimeoutError&) {
    }
    EXPECT_EQ(stage.receiver.buffered(), 0u) << read.name;
    EXPECT_EQ(stage.observer.take(), "") << read.name;
  }
}

TEST(Receiver, ObserverIsCalledOnceNothingIsBufferedIfTheEndIsExpected) {
  for (const Read& read : all_reads()) {
    Stage stage;
    stage.receiver.expect_end();
    const std::string_view name = read.name;
    // The last bytes for each of them.
    if (name.ends_with("read_view") || name == "try_read" || name == "skip") {
      stage.buffer("a");
    } else if (name.find("until") != name.npos ||
               name.find("line") != name.npos || name == "discard") {
      stage.buffer("ab\n");
    } else if (name.find("exactly") != name.npos &&
               name != "read_exactly large") {
      stage.buffer("abc");
    }
    try {
      read.call(stage.receiver, Wait::none());
    } catch (const TimeoutError&) {
      EXPECT_TRUE(name == "read_all" || name == "read_exactly large") << name;
    }
    EXPECT_EQ(stage.receiver.buffered(), 0u) << read.name;
    EXPECT_EQ(stage.observer.take(), "not lost") << read.name;
  }
}

TEST(Receiver, ObserverIsToldOfTimeoutAndStopWithNothingBuffered) {
  for (const Read& read : all_reads()) {
    if (!read.waits) continue;
    Stage stage;
    stage.receiver.expect_end();
    try {
      read.call(stage.receiver, 1ms);
    } catch (const TimeoutError&) {
    }
    EXPECT_EQ(stage.observer.take(), "not lost") << read.name;
    std::stop_source stop;
    BlockedCall call([&] {
      try {
        read.call(stage.receiver, stop.get_token());
      } catch (const CancelledError&) {
        return true;
      }
      return false;
    });
    ASSERT_TRUE(call.await_blocked()) << read.name;
    stop.request_stop();
    EXPECT_TRUE(call.get()) << read.name;
    EXPECT_EQ(stage.observer.take(), "not lost") << read.name;
  }
}

TEST(Receiver, InterruptedMidMessageIsNoEnd) {
  Stage stage;
  stage.receiver.expect_end();
  send_all(stage.peer, "ab");
  const Wait none = Wait::none();
  EXPECT_THROW(stage.receiver.read_until_view({kName, none}, "\n"),
               TimeoutError);
  EXPECT_EQ(stage.receiver.buffered(), 2u);
  EXPECT_EQ(stage.observer.take(), "");
}

TEST(Receiver, EndOfStreamThatIsAValueIsNotLost) {
  const Wait wait = kPatience;
  {
    Stage stage;
    send_all(stage.peer, "rest");
    half_close(stage.peer);
    EXPECT_EQ(stage.receiver.read_line_view({kName, wait}), "rest");
    EXPECT_EQ(stage.observer.take(), "not lost");
    EXPECT_TRUE(stage.receiver.has_ended());
    EXPECT_FALSE(stage.receiver.error());
    EXPECT_EQ(stage.receiver.read_view({kName, wait}, 1), "");
    EXPECT_EQ(stage.observer.take(), "not lost");
    EXPECT_TRUE(stage.receiver.wait_readable({kName, wait}));
    EXPECT_EQ(stage.observer.take(), "not lost");
  }
  Stage stage;
  send_all(stage.peer, "all");
  half_close(stage.peer);
  EXPECT_EQ(stage.receiver.read_all({kName, wait}, 100), "all");
  EXPECT_EQ(stage.observer.take(), "not lost");
}

TEST(Receiver, EndOfStreamThatIsThrownIsLost) {
  for (const Read& read : all_reads()) {
    Stage stage;
    send_all(stage.peer, "ab");
    half_close(stage.peer);
    await_hang_up(stage.socket->native_handle());
    bool thrown = false;
    // Some take bytes first.
    for (int i = 0; i < 4 && !thrown; ++i) {
      stage.observer.take();
      try {
        read.call(stage.receiver, kPatience);
      } catch (const IncompleteReadError&) {
        thrown = true;
      }
    }
    if (thrown) {
      EXPECT_EQ(stage.receiver.buffered(), 0u) << read.name;
      EXPECT_EQ(stage.observer.take(), "lost") << read.name;
    }
  }
}

TEST(Receiver, ResetIsLostEvenBehindBufferedBytes) {
  Stage stage(Transport::kIpv4);
  stage.buffer("abc");
  tcpip_tests::reset(std::move(stage.peer));
  const Wait wait = kPatience;
  EXPECT_THROW(stage.receiver.read_until_view({kName, wait}, "\n"),
               ConnectionResetError);
  EXPECT_EQ(stage.receiver.buffered(), 3u);
  EXPECT_EQ(stage.observer.take(), "lost");
  EXPECT_EQ(stage.receiver.read_exactly_view({kName, wait}, 2), "ab");
  EXPECT_EQ(stage.observer.take(), "");
  EXPECT_EQ(stage.receiver.read_exactly_view({kName, wait}, 1), "c");
  EXPECT_EQ(stage.observer.take(), "not lost");
}

TEST(Receiver, LimitOverrunIsAnEndOnlyIfItDropsTheBytes) {
  Stage stage(Transport::kUnix, 3);
  stage.receiver.expect_end();
  const Wait wait = kPatience;
  send_all(stage.peer, "too long\n");
  EXPECT_THROW(stage.receiver.read_until_view({kName, wait}, "\n"),
               LimitOverrunError);
  EXPECT_EQ(stage.observer.take(), "");
  EXPECT_THROW(stage.receiver.read_line_view({kName, wait}), LimitOverrunError);
  EXPECT_EQ(stage.observer.take(), "not lost");
}

TEST(Receiver, SecondReaderIsNotObservedAndLeavesTheFirstUnderWay) {
  for (const Read& read : all_reads()) {
    Stage stage;
    stage.receiver.expect_end();
    BlockedCall first([&] {
      return std::string(stage.receiver.read_line_view({kName, Wait()}));
    });
    ASSERT_TRUE(first.await_blocked());
    EXPECT_TRUE(stage.receiver.is_reading());
    EXPECT_THROW(read.call(stage.receiver, Wait()), std::logic_error)
        << read.name;
    EXPECT_TRUE(stage.receiver.is_reading()) << read.name;
    EXPECT_EQ(stage.observer.take(), "") << read.name;
    send_all(stage.peer, "line\n");
    EXPECT_EQ(first.get(), "line\n");
    EXPECT_FALSE(stage.receiver.is_reading());
    EXPECT_EQ(stage.observer.take(), "not lost");
  }
}

// Notes whether it was told.
class Told final : public ReadObserver {
 public:
  void read_ended(bool) noexcept override { told_ = true; }
  bool take() { return told_.exchange(false); }
  const std::shared_ptr<ReadObserver>& self() const { return self_; }

 private:
  const std::shared_ptr<ReadObserver> self_{this, [](ReadObserver*) {}};
  std::atomic<bool> told_{false};
};

TEST(Receiver, WatcherSeesTheReadEndedOrTheObserverIsTold) {
  constexpr int kRounds = 3000;
  // A loaded machine makes each round slow, and the moments differ anyway.
  const Deadline enough = Deadline::after(3s);
  tcpip_tests::SocketPair pair = tcpip_tests::socket_pair(Transport::kUnix);
  std::optional<Receiver> receiver;
  Told observer;
  std::barrier together(2);
  bool over = false;  // written while the reader waits for a round
  std::jthread reader([&] {
    for (;;) {
      together.arrive_and_wait();
      if (over) return;
      EXPECT_FALSE(receiver->try_read(kName, 1));
      together.arrive_and_wait();
    }
  });
  for (int i = 0; i < kRounds && !enough.has_passed(); ++i) {
    receiver.emplace(pair.socket, kDefaultLimit);
    receiver->set_observer(observer.self());
    together.arrive_and_wait();
    // At a different moment of the read each time.
    for (int delay = i % 300; delay > 0; --delay) {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    receiver->expect_end();
    const bool was_reading = receiver->is_reading();
    together.arrive_and_wait();
    EXPECT_TRUE(!was_reading || observer.take()) << i;
    observer.take();
  }
  over = true;
  together.arrive_and_wait();
}

// --- Counters ---

// A consumer that throws what the test wants.
template <class Exception>
class Failing final : public Receiver::Consumer {
 public:
  void consume(std::string_view /*message*/) override { throw Exception(); }
};

struct BadMessage {};

TEST(Receiver, MessageStaysIfThereIsNoMemoryForItAndElseIsTaken) {
  const tcpip_tests::SocketPair pair =
      tcpip_tests::socket_pair(Transport::kIpv4);
  Receiver receiver(pair.socket, 100);
  Failing<std::bad_alloc> without_memory;
  Failing<BadMessage> bad;
  const Wait patience = kPatience;
  send_all(pair.peer, "one\ntwo\n");
  await_receivable(pair.socket->native_handle(), 8);
  for (int i = 0; i < 2; ++i) {  // from the kernel, then from the buffer
    EXPECT_THROW(receiver.read_until({kName, patience}, "\n", without_memory),
                 std::bad_alloc);
    EXPECT_EQ(receiver.buffered(), 8u);
  }
  EXPECT_THROW(receiver.read_until({kName, patience}, "\n", bad), BadMessage);
  EXPECT_EQ(receiver.buffered(), 4u);
  EXPECT_EQ(receiver.read_until({kName, patience}, "\n"), "two\n");
}

TEST(Receiver, CountsWhatHasComeAndWhatWasTaken) {
  Stage stage;
  const Receiver& r = stage.receiver;
  EXPECT_EQ(r.received(), 0u);
  stage.buffer("abcdef\nrest");
  EXPECT_EQ(r.received(), 11u);
  EXPECT_EQ(r.consumed(), 0u);
  EXPECT_EQ(r.unread(), 11u);
  EXPECT_EQ(stage.receiver.skip(kName, 2), 2u);
  EXPECT_EQ(r.consumed(), 2u);
  EXPECT_EQ(stage.receiver.try_read_line(kName), "cdef\n");
  EXPECT_EQ(r.consumed(), 7u);
  EXPECT_EQ(r.unread(), 4u);
  EXPECT_EQ(stage.receiver.discard(kName), 4u);
  EXPECT_EQ(r.consumed(), 11u);
  send_all(stage.peer, "ab");
  half_close(stage.peer);
  const Wait wait = kPatience;
  EXPECT_THROW(stage.receiver.read_until_view({kName, wait}, "\n"),
               IncompleteReadError);
  EXPECT_EQ(r.received(), 13u);
  EXPECT_EQ(r.unread(), 0u);
}

TEST(Receiver, CountsBytesThatGoStraightToTheCaller) {
  Stage stage;
  const std::string data(100'000, 'x');
  BlockedCall sender([&] { send_all(stage.peer, data); });
  await_receivable(stage.socket->native_handle(), data.size());
  sender.get();
  std::vector<std::byte> out(data.size());
  EXPECT_TRUE(stage.receiver.try_read_exactly(kName, std::span(out)));
  EXPECT_EQ(stage.receiver.received(), data.size());
  EXPECT_EQ(stage.receiver.consumed(), data.size());
}

TEST(Receiver, AnotherThreadNeverSeesMoreConsumedThanReceived) {
  constexpr std::uint64_t kTotal = 2'000'000;
  Stage stage;
  BlockedCall sender([&] { send_all(stage.peer, std::string(kTotal, 'x')); });
  std::atomic<bool> done{false};
  std::jthread watcher([&] {
    std::uint64_t received = 0;
    std::uint64_t consumed = 0;
    while (!done) {
      EXPECT_LE(stage.receiver.unread(), kTotal);  // it has not wrapped round
      const std::uint64_t now_consumed = stage.receiver.consumed();
      const std::uint64_t now_received = stage.receiver.received();
      EXPECT_GE(now_consumed, consumed);
      EXPECT_GE(now_received, received);
      EXPECT_GE(now_received, now_consumed);
      consumed = now_consumed;
      received = now_received;
      EXPECT_FALSE(stage.receiver.has_ended());
    }
  });
  const Wait wait = kPatience;
  for (std::uint64_t got = 0; got < kTotal;) {
    got += stage.receiver.read_view({kName, wait}, 999).size();
    EXPECT_EQ(stage.receiver.consumed(), got);
  }
  done = true;
  sender.get();
}

}  // namespace
}  // namespace tcpip::internal
