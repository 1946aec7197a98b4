#include "tcpip/stream_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/open_connection.h"
#include "tcpip/stream/sender.h"
#include "tcpip/stream_reader.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;
using tcpip_tests::await_hang_up;
using tcpip_tests::await_receivable;
using tcpip_tests::BlockedCall;
using tcpip_tests::Buffers;
using tcpip_tests::half_close;
using tcpip_tests::kPatience;
using tcpip_tests::kTcpTransports;
using tcpip_tests::kTransports;
using tcpip_tests::loopback_pair;
using tcpip_tests::LoopbackPair;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::send_all;
using tcpip_tests::Transport;
using tcpip_tests::wait_until;
using Parts = std::vector<std::string_view>;

// More than any socket buffer holds.
constexpr std::size_t kLarge = 64 * 1024 * 1024;

// Bytes that differ from their neighbours near and far.
std::string pattern(std::size_t n, std::uint32_t seed = 1) {
  std::string result(n, '\0');
  std::uint32_t x = seed;
  for (char& c : result) {
    x = x * 1664525 + 1013904223;
    c = static_cast<char>(x >> 24);
  }
  return result;
}

LoopbackPair fixed_pair(Transport transport) {
  return loopback_pair(transport, kDefaultLimit, Buffers::kFixed);
}

// Writes more than the kernel takes of a fixed_pair(); returns it.
std::string fill_up(StreamWriter& writer) {
  std::string written = pattern(3'000'000, 7);
  writer.write(written);
  EXPECT_GT(writer.unsent(), written.size() / 2);
  return written;
}

void write_and_drain(StreamWriter& writer, std::string_view data,
                     std::size_t max_unsent, const Wait& wait = {}) {
  writer.write_and_drain({&data, 1}, max_unsent, wait);
}

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

// --- Objects without a connection ---

void expect_of_no_connection(StreamWriter& writer) {
  EXPECT_THROW(writer.write("x"), ConnectionError);
  EXPECT_THROW(writer.write(""), ConnectionError);
  EXPECT_THROW(writer.write_lines({"x", "y"}), ConnectionError);
  EXPECT_THROW(write_and_drain(writer, "x", 0), ConnectionError);
  EXPECT_THROW(writer.drain(), ConnectionError);
  EXPECT_THROW(writer.write_eof(), ConnectionError);
  EXPECT_TRUE(writer.is_closing());
  EXPECT_EQ(writer.unsent(), 0u);
  EXPECT_TRUE(writer.local_address().empty());
  EXPECT_TRUE(writer.peer_address().empty());
  EXPECT_EQ(writer.native_handle(), -1);
  writer.linger(Deadline::after(kPatience));
  writer.close();
  close_stream_writer(writer);
}

TEST(StreamWriter, OfNoConnectionThrowsConnectionError) {
  StreamWriter writer;
  expect_of_no_connection(writer);
}

// Every member that writes, with the name that its errors say.
struct Write {
  const char* name;
  std::function<void(StreamWriter&, const Wait&)> call;
  bool waits = false;
};

const std::vector<Write>& all_writes() {
  static const std::vector<Write> kWrites = {
      {"write", [](auto& w, auto&) { w.write("x"); }},
      {"write_lines",
       [](auto& w, auto&) {
         w.write_lines({"x", "y"});
       }},
      {"try_write_lines",
       [](auto& w, auto&) {
         w.try_write_lines(Parts{"x", "y"});
       }},
      {"write_and_drain",
       [](auto& w, auto& wait) { write_and_drain(w, "x", 0, wait); }, true},
      {"drain", [](auto& w, auto& wait) { w.drain(wait); }, true},
      {"write_eof", [](auto& w, auto&) { w.write_eof(); }},
  };
  return kWrites;
}

TEST(StreamWriter, ErrorsSayTheNameOfTheCall) {
  for (const Write& write : all_writes()) {
    StreamWriter none;
    try {
      write.call(none, kPatience);
      ADD_FAILURE() << write.name;
    } catch (const ConnectionError& e) {
      EXPECT_EQ(e.operation(), write.name);
    }

    LoopbackPair pair = fixed_pair(Transport::kUnix);
    fill_up(pair.writer);
    if (write.waits) {
      try {
        write.call(pair.writer, Wait::none());
        ADD_FAILURE() << write.name;
      } catch (const TimeoutError& e) {
        EXPECT_EQ(e.operation(), write.name);
      }
      std::stop_source stop;
      stop.request_stop();
      try {
        write.call(pair.writer, stop.get_token());
        ADD_FAILURE() << write.name;
      } catch (const CancelledError& e) {
        EXPECT_TRUE(std::string_view(e.what()).starts_with(
            std::string(write.name) + " ["))
            << e.what();
      }
    }
    pair.writer.close();
    try {
      write.call(pair.writer, kPatience);
      ADD_FAILURE() << write.name;
    } catch (const ConnectionAbortedError& e) {
      EXPECT_EQ(e.operation(), write.name);
    }
  }
}

TEST(StreamWriter, OfANullSocketIsOfNoConnection) {
  StreamWriter writer(nullptr);
  expect_of_no_connection(writer);
  StreamWriter of_shared(std::shared_ptr<Socket>{});
  expect_of_no_connection(of_shared);
}

TEST(StreamWriter, MovesWithItsConnection) {
  LoopbackPair pair = fixed_pair(Transport::kIpv4);
  std::string all = fill_up(pair.writer);
  const std::size_t unsent = pair.writer.unsent();
  StreamWriter moved(std::move(pair.writer));
  expect_of_no_connection(pair.writer);
  EXPECT_EQ(moved.unsent(), unsent);
  StreamWriter assigned;
  assigned = std::move(moved);
  expect_of_no_connection(moved);
  StreamWriter& itself = assigned;
  assigned = std::move(itself);
  EXPECT_FALSE(assigned.is_closing());
  BlockedCall peer([&] { return recv_until_eof(pair.peer); });
  assigned.write("end");
  assigned.drain(kPatience);
  assigned.close();
  EXPECT_TRUE(peer.get() == all + "end");
}

TEST(StreamWriter, MoveAssignmentClosesTheOldConnection) {
  LoopbackPair one = loopback_pair(Transport::kIpv4);
  LoopbackPair two = loopback_pair(Transport::kIpv4);
  one.writer = std::move(two.writer);
  EXPECT_EQ(recv_until_eof(one.peer), "");
  one.writer.write("two");
  EXPECT_EQ(recv_exact(two.peer, 3), "two");
}

TEST(StreamWriter, DestructorCloses) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  { const StreamWriter writer = std::move(pair.writer); }
  EXPECT_EQ(recv_until_eof(pair.peer), "");
  EXPECT_EQ(pair.reader.read(1), "");
}

TEST(StreamWriter, DescriptorLivesAsLongAsReaderAndWriter) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  const int fd = pair.writer.native_handle();
  EXPECT_TRUE(is_open(fd));
  pair.writer.close();
  EXPECT_EQ(pair.writer.native_handle(), fd);
  EXPECT_TRUE(is_open(fd));
  pair.writer = StreamWriter();
  EXPECT_TRUE(is_open(fd));
  pair.reader = StreamReader();
  EXPECT_FALSE(is_open(fd));
}

// --- write and drain ---

TEST(StreamWriter, WriteSendsAtOnceWhatFits) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    pair.writer.write("hello");
    EXPECT_EQ(pair.writer.unsent(), 0u);
    EXPECT_EQ(recv_exact(pair.peer, 5), "hello");
    pair.writer.write("");
    pair.writer.write(std::string_view("a\0b", 3));
    EXPECT_EQ(recv_exact(pair.peer, 3), std::string_view("a\0b", 3));
    pair.writer.drain(Wait::none());  // there is nothing to wait for
  }
}

TEST(StreamWriter, DrainTimesOutThenResumesByteExact) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    // A socket pair fills up much sooner.
    const std::string data =
        pattern(transport == Transport::kUnix ? 5'000'000 : kLarge);
    // Never blocks, however much it is.
    pair.writer.write(data);
    EXPECT_GT(pair.writer.unsent(), 0u);
    EXPECT_LT(pair.writer.unsent(), data.size());
    try {
      pair.writer.drain(20ms);
      ADD_FAILURE();
    } catch (const TimeoutError& e) {
      EXPECT_TRUE(e.queued());
      EXPECT_EQ(e.operation(), "drain");
      EXPECT_EQ(e.peer(), pair.writer.peer_address().to_string());
    }
    EXPECT_THROW(pair.writer.drain(Wait::none()), TimeoutError);
    EXPECT_GT(pair.writer.unsent(), 0u);
    EXPECT_FALSE(pair.writer.is_closing());
    // What is written now goes behind.
    pair.writer.write("tail 1,");
    pair.writer.write_lines({"tail", " 2"});
    BlockedCall drain([&] { pair.writer.drain(kPatience); });
    const std::string got = recv_exact(pair.peer, data.size() + 13);
    drain.get();
    EXPECT_EQ(pair.writer.unsent(), 0u);
    EXPECT_EQ(got.substr(data.size()), "tail 1,tail 2");
    EXPECT_TRUE(std::string_view(got).substr(0, data.size()) == data);
  }
}

TEST(StreamWriter, DrainWaitsForWhatAnotherThreadIsWriting) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  const std::string data = pattern(5'000'000);
  BlockedCall writing(
      [&] { write_and_drain(pair.writer, data, 0, kPatience); });
  ASSERT_TRUE(writing.await_blocked());
  EXPECT_THROW(pair.writer.drain(10ms), TimeoutError);
  EXPECT_TRUE(recv_exact(pair.peer, data.size()) == data);
  writing.get();
  pair.writer.drain(kPatience);
}

TEST(StreamWriter, DrainStoppedKeepsWhatIsUnsent) {
  LoopbackPair pair = fixed_pair(Transport::kUnix);
  const std::string data = fill_up(pair.writer);
  std::stop_source stop;
  BlockedCall drain([&] { pair.writer.drain(stop.get_token()); });
  ASSERT_TRUE(drain.await_blocked());
  stop.request_stop();
  try {
    drain.get();
    ADD_FAILURE();
  } catch (const CancelledError& e) {
    EXPECT_TRUE(e.queued());
  }
  EXPECT_THROW(pair.writer.drain(stop.get_token()), CancelledError);
  BlockedCall peer([&] { return recv_exact(pair.peer, data.size()); });
  pair.writer.drain(kPatience);
  EXPECT_TRUE(peer.get() == data);
}

TEST(StreamWriter, PassedDeadlineStillSendsWhatTheKernelTakes) {
  LoopbackPair pair = fixed_pair(Transport::kUnix);
  std::string expected = fill_up(pair.writer);
  std::string got;
  while (pair.writer.unsent() > 0) {
    got += tcpip_tests::recv_some(pair.peer);
    try {
      pair.writer.drain(Wait::none());
    } catch (const TimeoutError&) {
    }
  }
  half_close(pair.peer);
  pair.writer.close();
  EXPECT_TRUE(got + recv_until_eof(pair.peer) == expected);
}

// --- write_lines ---

struct Lines {
  std::size_t count;
  std::size_t size;
};

TEST(StreamWriter, WriteLinesJoinsAllPartsAndAddsNothing) {
  // Around the sizes and counts at which the way of sending changes.
  constexpr Lines kShapes[] = {
      {0, 0},    {1, 0},     {1, 1},       {2, 0},      {3, 5},
      {2, 1023}, {2, 1024},  {16, 1024},   {17, 1024},  {17, 1000},
      {63, 300}, {64, 3000}, {65, 3000},   {1024, 20},  {1025, 20},
      {3000, 1}, {3000, 0},  {1030, 1100}, {2, 200'000}};
  for (const Transport transport : kTransports) {
    for (const Buffers buffers : {Buffers::kDefault, Buffers::kSmall}) {
      for (const Lines shape : kShapes) {
        LoopbackPair pair = loopback_pair(transport, kDefaultLimit, buffers);
        std::vector<std::string> parts(shape.count);
        std::string all;
        for (std::size_t i = 0; i < parts.size(); ++i) {
          // Every fifth is empty; sizes differ.
          if (i % 5 != 4) {
            parts[i] =
                pattern(shape.size + i % 3, static_cast<std::uint32_t>(i));
          }
          all += parts[i];
        }
        const Parts views(parts.begin(), parts.end());
        BlockedCall peer([&] { return recv_until_eof(pair.peer); });
        pair.writer.write_lines(views);
        pair.writer.write_lines(views);  // now, maybe, behind unsent bytes
        pair.writer.drain(kPatience);
        pair.writer.close();
        EXPECT_TRUE(peer.get() == all + all)
            << shape.count << " of " << shape.size << " over " << transport;
      }
    }
  }
}

TEST(StreamWriter, WriteLinesTakesStringsOfEveryKind) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  std::vector<std::string> strings{"a", "", "b"};
  const std::array<std::string, 1> array{"c"};
  const std::string plain[] = {"d", "e"};
  pair.writer.write_lines(strings);
  pair.writer.write_lines(std::as_const(strings));
  pair.writer.write_lines(array);
  pair.writer.write_lines(plain);
  pair.writer.write_lines(std::vector<std::string>{"f"});
  pair.writer.write_lines({strings[0], strings[2]});
  pair.writer.write_lines(std::span(strings));
  pair.writer.write_lines(std::vector<std::string>());
  pair.writer.write_lines({});
  pair.writer.write_lines({"g"});
  pair.writer.write_lines({"h", "i"});
  pair.writer.write_lines(Parts{"j"});
  EXPECT_TRUE(pair.writer.try_write_lines(strings));
  pair.writer.close();
  EXPECT_EQ(recv_until_eof(pair.peer), "ababcdefababghijab");
}

TEST(StreamWriter, WriteLinesOfOneLargePartAmongSmallOnes) {
  for (const std::size_t where : {0u, 1u, 2u}) {
    LoopbackPair pair =
        loopback_pair(Transport::kIpv4, kDefaultLimit, Buffers::kSmall);
    std::array<std::string, 3> parts{"head", "middle", "tail"};
    parts[where] = pattern(500'000);
    BlockedCall peer([&] { return recv_until_eof(pair.peer); });
    pair.writer.write_lines({parts[0], parts[1], parts[2]});
    pair.writer.drain(kPatience);
    pair.writer.write_eof();
    EXPECT_TRUE(peer.get() == parts[0] + parts[1] + parts[2]);
  }
}

// --- write_and_drain ---

TEST(StreamWriter, WriteAndDrainReturnsWhenAllIsSent) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  const std::string data = pattern(5'000'000);
  const Parts parts{data, "end"};
  BlockedCall peer([&] { return recv_exact(pair.peer, data.size() + 3); });
  pair.writer.write_and_drain(parts, 0, kPatience);
  EXPECT_EQ(pair.writer.unsent(), 0u);
  EXPECT_TRUE(peer.get() == data + "end");
}

template <class Exception>
std::optional<bool> queued_of(StreamWriter& writer, std::string_view data,
                              std::size_t max_unsent, const Wait& wait) {
  try {
    write_and_drain(writer, data, max_unsent, wait);
  } catch (const Exception& e) {
    return e.queued();
  }
  return std::nullopt;
}

TEST(StreamWriter, WriteAndDrainTellsWhetherTheMessageWasTaken) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = fixed_pair(transport);
    std::string expected = fill_up(pair.writer);
    // TCP may still find room for a little more, now and then.
    const std::size_t slack = transport == Transport::kUnix ? 0 : 1'000'000;
    const std::size_t unsent = pair.writer.unsent();
    // One byte too much is unsent: not taken.
    const std::size_t too_little = unsent - 1 - slack;
    EXPECT_EQ(queued_of<TimeoutError>(pair.writer, "no", too_little, 5ms),
              false);
    EXPECT_EQ(queued_of<TimeoutError>(pair.writer, "no", 0, Wait::none()),
              false);
    // Just as much as may be: taken, and kept.
    EXPECT_EQ(queued_of<TimeoutError>(pair.writer, "yes", unsent, 5ms), true);
    EXPECT_EQ(
        queued_of<TimeoutError>(pair.writer, "too", SIZE_MAX, Wait::none()),
        true);
    // An empty message only drains.
    EXPECT_EQ(queued_of<TimeoutError>(pair.writer, "", SIZE_MAX, 5ms), true);
    if (slack == 0) {
      EXPECT_EQ(pair.writer.unsent(), unsent + 6);
    }
    expected += "yestoo";

    BlockedCall peer([&] { return recv_until_eof(pair.peer); });
    write_and_drain(pair.writer, "end", 0, kPatience);
    pair.writer.close();
    EXPECT_TRUE(peer.get() == expected + "end");
  }
}

TEST(StreamWriter, WriteAndDrainStoppedTellsWhetherTheMessageWasTaken) {
  for (const bool taken : {false, true}) {
    LoopbackPair pair = fixed_pair(Transport::kUnix);
    std::string expected = fill_up(pair.writer);
    std::stop_source stop;
    BlockedCall call([&] {
      return queued_of<CancelledError>(pair.writer, "x", taken ? SIZE_MAX : 0,
                                       stop.get_token());
    });
    ASSERT_TRUE(call.await_blocked());
    stop.request_stop();
    EXPECT_EQ(call.get(), taken);
    if (taken) expected += "x";
    // Requested before: nothing is taken.
    EXPECT_EQ(
        queued_of<CancelledError>(pair.writer, "y", SIZE_MAX, stop.get_token()),
        false);
    BlockedCall peer([&] { return recv_until_eof(pair.peer); });
    pair.writer.drain(kPatience);
    pair.writer.close();
    EXPECT_TRUE(peer.get() == expected);
  }
}

TEST(StreamWriter, StopRequestedBeforeSendsNothing) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(queued_of<CancelledError>(pair.writer, "no", 0,
                                      Wait(kPatience, stop.get_token())),
            false);
  pair.writer.close();
  EXPECT_EQ(recv_until_eof(pair.peer), "");
}

// --- The peer has gone ---

TEST(StreamWriter, SecondWriteAfterThePeerClosedFails) {
  for (const Transport transport : kTcpTransports) {
    LoopbackPair pair = loopback_pair(transport);
    pair.peer = {};
    await_hang_up(pair.writer.native_handle());
    EXPECT_FALSE(pair.writer.is_closing());
    pair.writer.write("the first still succeeds");
    // And gets the reset that makes the others fail.
    EXPECT_TRUE(wait_until([&] {
      try {
        pair.writer.write("x");
        pair.writer.drain(kPatience);
        return false;
      } catch (const ConnectionError&) {
        return true;
      }
    }));
    EXPECT_TRUE(pair.writer.is_closing());
    EXPECT_EQ(pair.writer.unsent(), 0u);
    EXPECT_THROW(pair.writer.write("x"), ConnectionError);
    EXPECT_THROW(pair.writer.drain(), ConnectionError);
    EXPECT_THROW(write_and_drain(pair.writer, "x", 0), ConnectionError);
    pair.writer.close();
    close_stream_writer(pair.writer);
  }
}

TEST(StreamWriter, BrokenPipeOfASocketPair) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  pair.peer = {};
  // SIGPIPE at its default would end this program here.
  EXPECT_THROW(pair.writer.write("x"), BrokenPipeError);
  EXPECT_TRUE(pair.writer.is_closing());
}

TEST(StreamWriter, ResetWakesDrainAndDropsWhatIsUnsent) {
  LoopbackPair pair = fixed_pair(Transport::kIpv4);
  fill_up(pair.writer);
  BlockedCall drain([&] { pair.writer.drain(); });
  ASSERT_TRUE(drain.await_blocked());
  tcpip_tests::reset(std::move(pair.peer));
  EXPECT_THROW(drain.get(), ConnectionResetError);
  EXPECT_TRUE(pair.writer.is_closing());
  EXPECT_EQ(pair.writer.unsent(), 0u);
  EXPECT_THROW(pair.writer.write("x"), ConnectionError);
}

TEST(StreamWriter, IsClosingOnceAReadHasMetTheReset) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  tcpip_tests::reset(std::move(pair.peer));
  EXPECT_THROW(pair.reader.read(1, kPatience), ConnectionResetError);
  EXPECT_TRUE(pair.writer.is_closing());
  EXPECT_THROW(pair.writer.write("x"), ConnectionError);
}

// --- write_eof ---

TEST(StreamWriter, WriteEofEndsTheStreamAndReadingGoesOn) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    EXPECT_TRUE(pair.writer.can_write_eof());
    pair.writer.write("question");
    pair.writer.write_eof();
    pair.writer.write_eof();
    EXPECT_EQ(recv_until_eof(pair.peer), "question");
    EXPECT_FALSE(pair.writer.is_closing());
    EXPECT_THROW(pair.writer.write("x"), ConnectionError);
    EXPECT_THROW(pair.writer.write(""), ConnectionError);
    EXPECT_THROW(pair.writer.write_lines({"x", "y"}), ConnectionError);
    EXPECT_THROW(write_and_drain(pair.writer, "x", 0), ConnectionError);
    pair.writer.drain(kPatience);
    send_all(pair.peer, "answer");
    half_close(pair.peer);
    EXPECT_EQ(pair.reader.read_all(kPatience), "answer");
  }
}

TEST(StreamWriter, WriteEofWaitsForWhatIsUnsent) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = fixed_pair(transport);
    const std::string data = fill_up(pair.writer);
    pair.writer.write_eof();
    EXPECT_GT(pair.writer.unsent(), 0u);
    EXPECT_THROW(pair.writer.write("x"), ConnectionError);
    EXPECT_THROW(pair.writer.drain(2ms), TimeoutError);
    BlockedCall peer([&] { return recv_until_eof(pair.peer); });
    pair.writer.drain(kPatience);
    EXPECT_TRUE(peer.get() == data);
  }
}

TEST(StreamWriter, WriteEofAfterCloseThrows) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  pair.writer.close();
  EXPECT_THROW(pair.writer.write_eof(), ConnectionError);
}

// As a read does that meets the loss, in another thread.
TEST(StreamWriter, SaysWhatHasBrokenTheSocketThatIsClosed) {
  tcpip_tests::SocketPair pair = tcpip_tests::socket_pair(Transport::kIpv4);
  internal::Sender sender(pair.socket);
  tcpip_tests::reset(std::move(pair.peer));
  char byte = 0;
  EXPECT_EQ(pair.socket->receive(&byte, 1, kPatience).error_number, ECONNRESET);
  pair.socket->close();
  EXPECT_THROW(sender.write("write", Parts{"x"}), ConnectionResetError);
}

// --- close ---

TEST(StreamWriter, CloseSendsWhatTheKernelTakesThenTheEnd) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    EXPECT_FALSE(pair.writer.is_closing());
    pair.writer.write("last words");
    pair.writer.close();
    EXPECT_TRUE(pair.writer.is_closing());
    pair.writer.close();
    EXPECT_EQ(recv_until_eof(pair.peer), "last words");
    EXPECT_THROW(pair.writer.write("x"), ConnectionError);
    EXPECT_THROW(pair.writer.write_lines({"x", "y"}), ConnectionError);
    EXPECT_THROW(write_and_drain(pair.writer, "x", 0), ConnectionError);
    pair.writer.drain();  // nothing was left unsent
    EXPECT_FALSE(pair.writer.local_address().empty());
  }
}

TEST(StreamWriter, CloseSendsWhatTheKernelHasRoomForByNow) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = fixed_pair(transport);
    const std::string data = fill_up(pair.writer);
    const std::size_t sent = data.size() - pair.writer.unsent();
    recv_exact(pair.peer, sent);
    const std::size_t dropped = pair.writer.close();
    EXPECT_LT(sent + dropped, data.size());
    EXPECT_EQ(recv_until_eof(pair.peer).size(), data.size() - sent - dropped);
  }
}

TEST(StreamWriter, CloseGivesUpWhatAPeerDoesNotTake) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = fixed_pair(transport);
    const std::string data = pattern(5'000'000);
    pair.writer.write(data);
    const auto start = Deadline::Clock::now();
    pair.writer.close();
    EXPECT_LT(Deadline::Clock::now() - start, 5s);
    EXPECT_THROW(pair.writer.drain(), ConnectionError);
    EXPECT_THROW(pair.writer.drain(), ConnectionError);
    // What was sent is the beginning of it, and then the end comes.
    const std::string got = recv_until_eof(pair.peer);
    EXPECT_LT(got.size(), data.size());
    EXPECT_TRUE(data.starts_with(got));
  }
}

TEST(StreamWriter, CloseWakesBlockedReaderAndDrainers) {
  for (const Transport transport : kTransports) {
    for (const bool forever : {true, false}) {
      LoopbackPair pair = fixed_pair(transport);
      const Wait wait = forever ? Wait() : Wait(kPatience);
      fill_up(pair.writer);
      BlockedCall reader([&] { return pair.reader.read_line(wait); });
      BlockedCall one([&] { pair.writer.drain(wait); });
      BlockedCall two([&] { pair.writer.drain(wait); });
      BlockedCall three([&] { write_and_drain(pair.writer, "x", 0, wait); });
      ASSERT_TRUE(reader.await_blocked() && one.await_blocked() &&
                  two.await_blocked() && three.await_blocked());
      pair.writer.close();
      EXPECT_EQ(reader.get(), "");
      EXPECT_THROW(one.get(), ConnectionAbortedError);
      EXPECT_THROW(two.get(), ConnectionAbortedError);
      EXPECT_THROW(three.get(), ConnectionAbortedError);
    }
  }
}

TEST(StreamWriter, ManyThreadsMayCloseAtOnce) {
  for (int i = 0; i < 20; ++i) {
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    BlockedCall reader([&] { return pair.reader.read_line(); });
    BlockedCall one([&] { pair.writer.close(); });
    BlockedCall two([&] { pair.writer.close(); });
    pair.writer.close();
    EXPECT_TRUE(pair.writer.is_closing());
    EXPECT_EQ(reader.get(), "");
    one.get();
    two.get();
    EXPECT_EQ(recv_until_eof(pair.peer), "");
  }
}

// --- Several threads ---

TEST(StreamWriter, ConcurrentWritersLinesStayIntactAndInOrder) {
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kLines = 10'000;
  for (const Buffers buffers : {Buffers::kDefault, Buffers::kSmall}) {
    // Small buffers make each call wait; fewer lines will do.
    const std::size_t lines = buffers == Buffers::kSmall ? kLines / 20 : kLines;
    LoopbackPair pair = loopback_pair(Transport::kIpv4, kDefaultLimit, buffers);
    Streams peer = open_connection(std::move(pair.peer));
    const auto line_of = [](std::size_t thread, std::size_t i) {
      std::string line = std::to_string(thread) + " " + std::to_string(i) + " ";
      line.append((i * 31 + thread) % 97, static_cast<char>('a' + thread));
      return line + "\r\n";
    };
    std::vector<std::unique_ptr<BlockedCall<void>>> threads;
    for (std::size_t thread = 0; thread < kThreads; ++thread) {
      threads.push_back(std::make_unique<BlockedCall<void>>([&, thread] {
        for (std::size_t i = 0; i < lines; ++i) {
          const std::string line = line_of(thread, i);
          const std::size_t middle = line.size() / 2;
          const Parts parts{std::string_view(line).substr(0, middle),
                            std::string_view(line).substr(middle)};
          switch ((i + thread) % 4) {
            case 0:
              pair.writer.write(line);
              break;
            case 1:
              pair.writer.write_lines(parts);
              break;
            case 2:
              pair.writer.write_and_drain(parts, 10'000, kPatience);
              break;
            case 3:
              pair.writer.write(line);
              pair.writer.drain(kPatience);
              break;
          }
        }
        pair.writer.drain(kPatience);
      }));
    }
    std::array<std::size_t, kThreads> next{};
    for (std::size_t n = 0; n < kThreads * lines; ++n) {
      const std::string line = peer.reader.read_until("\r\n", kPatience);
      const std::size_t thread = static_cast<std::size_t>(line[0] - '0');
      ASSERT_LT(thread, kThreads);
      ASSERT_EQ(line, line_of(thread, next[thread]));
      ++next[thread];
    }
    for (const auto& thread : threads) thread->get();
    EXPECT_EQ(peer.reader.discard(), 0u);
  }
}

TEST(StreamWriter, OthersMayWriteWhileOneIsBlockedInDrain) {
  LoopbackPair pair = fixed_pair(Transport::kUnix);
  std::string expected = fill_up(pair.writer);
  BlockedCall drain([&] { pair.writer.drain(); });
  ASSERT_TRUE(drain.await_blocked());
  const std::size_t unsent = pair.writer.unsent();
  const auto write_a_thousand = [&](char c) {
    for (int i = 0; i < 1000; ++i) {
      pair.writer.write(std::string(1, c) + std::to_string(i) + ";");
    }
  };
  {
    BlockedCall one([&] { write_a_thousand('a'); });
    BlockedCall two([&] { write_a_thousand('b'); });
    one.get();
    two.get();
  }
  EXPECT_FALSE(drain.is_done());
  const std::size_t more = pair.writer.unsent() - unsent;
  const std::string got = recv_exact(pair.peer, expected.size() + more);
  drain.get();
  EXPECT_EQ(pair.writer.unsent(), 0u);
  EXPECT_TRUE(got.starts_with(expected));
  // Each thread's messages are whole and in its order.
  std::array<int, 2> next{};
  std::string_view rest = std::string_view(got).substr(expected.size());
  while (!rest.empty()) {
    const std::size_t thread = rest[0] == 'a' ? 0 : 1;
    const std::string message =
        (thread == 0 ? "a" : "b") + std::to_string(next[thread]++) + ";";
    ASSERT_TRUE(rest.starts_with(message)) << rest.substr(0, 20);
    rest.remove_prefix(message.size());
  }
  EXPECT_EQ(next[0], 1000);
  EXPECT_EQ(next[1], 1000);
}

TEST(StreamWriter, SeveralMayDrainAndOnesDeadlineDoesNotEndAnothers) {
  LoopbackPair pair = fixed_pair(Transport::kUnix);
  const std::string data = fill_up(pair.writer);
  // The first waits for the socket, the second for the first; then the other
  // way round.
  std::stop_source stop;
  BlockedCall first([&] { pair.writer.drain(stop.get_token()); });
  ASSERT_TRUE(first.await_blocked());
  EXPECT_THROW(pair.writer.drain(5ms), TimeoutError);
  EXPECT_FALSE(first.is_done());
  BlockedCall second([&] { pair.writer.drain(kPatience); });
  ASSERT_TRUE(second.await_blocked());
  stop.request_stop();
  EXPECT_THROW(first.get(), CancelledError);
  EXPECT_FALSE(second.is_done());
  EXPECT_TRUE(recv_exact(pair.peer, data.size()) == data);
  second.get();
}

// What the peer reads, at most `rate` bytes a millisecond.
std::string recv_slowly(const tcpip::UniqueFd& fd, std::size_t rate,
                        const std::atomic<bool>& go_on) {
  std::string result;
  while (go_on) {
    result += tcpip_tests::recv_some(fd, rate);
    std::this_thread::sleep_for(1ms);
  }
  return result;
}

// Others go on writing, so that something is unsent all the time.
TEST(StreamWriter, WaitsForItsOwnBytesAndNotForThoseThatOthersWriteLater) {
  for (const Transport transport : {Transport::kUnix, Transport::kIpv4}) {
    LoopbackPair pair =
        loopback_pair(transport, kDefaultLimit, Buffers::kSmall);
    std::atomic<bool> reads{true};
    std::atomic<bool> writes{true};
    BlockedCall peer(
        [&] { return recv_slowly(pair.peer, 4096, reads).size(); });
    std::jthread other([&] {
      const std::string message(2000, 'o');
      while (writes) {
        // Never less than 100 kB queued.
        if (pair.writer.unsent() < 100'000) pair.writer.write(message);
      }
    });
    EXPECT_TRUE(wait_until([&] { return pair.writer.unsent() >= 100'000; }));
    for (int i = 0; i < 5; ++i) {
      write_and_drain(pair.writer, "mine", SIZE_MAX, kPatience);
      pair.writer.drain(kPatience);
      // For those before it only, too.
      write_and_drain(pair.writer, "mine", 50'000, kPatience);
    }
    EXPECT_TRUE(wait_until([&] { return pair.writer.unsent() >= 90'000; }))
        << "it could have waited for all";
    writes = false;
    other.join();
    reads = false;
    // So that the peer is not left waiting for a byte.
    try {
      pair.writer.write("x");
    } catch (const ConnectionError&) {
    }
    EXPECT_GT(peer.get(), 0u);
  }
}

// What eight threads get that write with a deadline over a slow connection.
TEST(StreamWriter, TimesOutOnlyIfItsOwnMessageIsNotSent) {
  LoopbackPair pair =
      loopback_pair(Transport::kUnix, kDefaultLimit, Buffers::kSmall);
  constexpr int kThreads = 8;
  constexpr int kMessages = 20;
  const std::string message(3000, 'm');
  BlockedCall peer([&] {
    std::size_t total = 0;
    while (total < kThreads * kMessages * message.size()) {
      total += tcpip_tests::recv_some(pair.peer, 12'000).size();
      std::this_thread::sleep_for(5ms);
    }
    return total;
  });
  std::atomic<int> late{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < kMessages; ++n) {
          // At most eight messages, some 10 ms, are before it.
          const auto begin = std::chrono::steady_clock::now();
          write_and_drain(pair.writer, message, SIZE_MAX, kPatience);
          if (std::chrono::steady_clock::now() - begin > 500ms) ++late;
        }
      });
    }
  }
  EXPECT_EQ(peer.get(), kThreads * kMessages * message.size());
  EXPECT_LE(late.load(), kThreads);  // the machine may be busy once
}

TEST(StreamWriter, ResetThatAnotherCallMetIsToldToABlockedWrite) {
  for (int i = 0; i < 6; ++i) {
    LoopbackPair pair = fixed_pair(Transport::kIpv4);
    fill_up(pair.writer);
    BlockedCall call([&]() -> std::error_code {
      try {
        write_and_drain(pair.writer, "x", SIZE_MAX, kPatience);
      } catch (const ConnectionError& e) {
        return e.code();
      }
      return {};
    });
    ASSERT_TRUE(call.await_blocked());
    // Reads, in a recv() or in a poll, at the same time.
    std::stop_source stop;
    BlockedCall reading([&]() -> std::error_code {
      try {
        pair.reader.read(1, i % 2 == 0 ? Wait() : Wait(stop.get_token()));
      } catch (const ConnectionError& e) {
        return e.code();
      }
      return {};
    });
    ASSERT_TRUE(reading.await_blocked());
    tcpip_tests::reset(std::move(pair.peer));
    EXPECT_EQ(call.get(), std::errc::connection_reset);
    EXPECT_EQ(reading.get(), std::errc::connection_reset);
    EXPECT_THROW(pair.writer.drain(), ConnectionResetError);
    pair.writer.close();
    EXPECT_THROW(pair.writer.drain(), ConnectionAbortedError);
  }
}

TEST(StreamWriter, CloseTellsHowManyBytesItDrops) {
  {
    LoopbackPair pair = fixed_pair(Transport::kUnix);
    EXPECT_EQ(pair.writer.close(), 0u);
  }
  {
    LoopbackPair pair = fixed_pair(Transport::kUnix);
    const std::size_t written = fill_up(pair.writer).size();
    const std::size_t unsent = pair.writer.unsent();
    EXPECT_EQ(pair.writer.close(), unsent);
    EXPECT_EQ(pair.writer.close(), unsent);
    EXPECT_EQ(recv_until_eof(pair.peer).size(), written - unsent);
  }
  {
    LoopbackPair pair = fixed_pair(Transport::kUnix);
    fill_up(pair.writer);
    const std::size_t unsent = pair.writer.unsent();
    EXPECT_EQ(close_stream_writer(pair.writer, Wait(20ms)), unsent);
  }
  LoopbackPair pair = fixed_pair(Transport::kIpv4);
  fill_up(pair.writer);
  tcpip_tests::reset(std::move(pair.peer));
  EXPECT_THROW(pair.writer.drain(kPatience), ConnectionError);
  EXPECT_EQ(pair.writer.unsent(), 0u);
  EXPECT_GT(close_stream_writer(pair.writer), 0u);
}

// The message that waits may be long; many short ones queue up behind it.
TEST(StreamWriter, ManySmallMessagesCostTheSameHoweverMuchIsUnsent) {
  LoopbackPair pair = fixed_pair(Transport::kUnix);
  const auto time_of = [&] {
    auto best = std::chrono::steady_clock::duration::max();
    for (int round = 0; round < 3; ++round) {
      const auto begin = std::chrono::steady_clock::now();
      for (int i = 0; i < 2000; ++i) pair.writer.write("a small message");
      best = std::min(best, std::chrono::steady_clock::now() - begin);
    }
    return best;
  };
  fill_up(pair.writer);
  const auto before = time_of();
  pair.writer.write(std::string(kLarge, 'x'));
  EXPECT_LT(time_of(), 5 * before + 20ms);
}

// --- close_stream_writer and linger ---

TEST(CloseStreamWriter, DeliversTheLastBytesThoughThePeerHasSentUnreadOnes) {
  const std::string reply = pattern(200'000);
  for (int i = 0; i < 50; ++i) {
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    // Nobody reads it: closing the descriptor now would reset the connection.
    send_all(pair.peer, "not read by anybody\n");
    BlockedCall peer([&] {
      std::string got = recv_exact(pair.peer, 1000);
      send_all(pair.peer, "nor is this\n");
      return got + recv_until_eof(pair.peer);
    });
    pair.writer.write(reply);
    close_stream_writer(pair.writer);
    pair.reader = StreamReader();
    pair.writer = StreamWriter();
    ASSERT_TRUE(peer.get() == reply) << "round " << i;
  }
}

TEST(CloseStreamWriter, SendsWhatWasUnsent) {
  LoopbackPair pair = fixed_pair(Transport::kIpv4);
  const std::string data = fill_up(pair.writer);
  BlockedCall peer([&] { return recv_until_eof(pair.peer); });
  close_stream_writer(pair.writer, kPatience);
  EXPECT_TRUE(pair.writer.is_closing());
  EXPECT_TRUE(peer.get() == data);
  close_stream_writer(pair.writer);  // twice does no harm
}

TEST(CloseStreamWriter, DeadlineIsNoErrorAndClosesAllTheSame) {
  for (const Wait& wait : {Wait(20ms), Wait::none()}) {
    LoopbackPair pair = fixed_pair(Transport::kIpv4);
    fill_up(pair.writer);
    const auto start = Deadline::Clock::now();
    close_stream_writer(pair.writer, wait);
    EXPECT_LT(Deadline::Clock::now() - start, 3s);
    EXPECT_TRUE(pair.writer.is_closing());
    EXPECT_EQ(pair.reader.read(1), "");
  }
}

TEST(CloseStreamWriter, LossIsNoError) {
  LoopbackPair pair = fixed_pair(Transport::kIpv4);
  fill_up(pair.writer);
  tcpip_tests::reset(std::move(pair.peer));
  await_hang_up(pair.writer.native_handle());
  close_stream_writer(pair.writer, kPatience);
  EXPECT_TRUE(pair.writer.is_closing());
}

TEST(CloseStreamWriter, StopThrowsAndClosesAllTheSame) {
  for (const bool before : {true, false}) {
    LoopbackPair pair = fixed_pair(Transport::kIpv4);
    fill_up(pair.writer);
    std::stop_source stop;
    if (before) stop.request_stop();
    BlockedCall call(
        [&] { close_stream_writer(pair.writer, stop.get_token()); });
    if (!before) {
      ASSERT_TRUE(call.await_blocked());
      stop.request_stop();
    }
    EXPECT_THROW(call.get(), CancelledError);
    EXPECT_TRUE(pair.writer.is_closing());
    EXPECT_EQ(pair.reader.read(1), "");
  }
}

TEST(CloseStreamWriter, PeerThatNeverStopsSendingDoesNotHoldIt) {
  LoopbackPair pair = fixed_pair(Transport::kIpv4);
  fill_up(pair.writer);
  std::atomic<bool> done{false};
  BlockedCall flood([&] {
    const std::string chunk(65536, 'x');
    while (!done) {
      ::send(pair.peer.get(), chunk.data(), chunk.size(),
             MSG_NOSIGNAL | MSG_DONTWAIT);
    }
  });
  const auto start = Deadline::Clock::now();
  close_stream_writer(pair.writer, 50ms);
  pair.writer.linger(Deadline::after(50ms));
  const auto took = Deadline::Clock::now() - start;
  done = true;
  flood.get();
  EXPECT_LT(took, 5s);
}

TEST(StreamWriter, LingerWaitsUntilThePeersKernelHasAll) {
  // A peer that has all of it, or has gone, is not waited for.
  LoopbackPair pair = fixed_pair(Transport::kIpv4);
  pair.writer.write("last words");
  pair.writer.close();
  const auto start = Deadline::Clock::now();
  pair.writer.linger(Deadline::after(kPatience));
  EXPECT_LT(Deadline::Clock::now() - start, 10s);
  EXPECT_EQ(recv_until_eof(pair.peer), "last words");
  // One that does not take it, only until the deadline.
  LoopbackPair full = fixed_pair(Transport::kIpv4);
  fill_up(full.writer);
  full.writer.close();
  const auto again = Deadline::Clock::now();
  full.writer.linger(Deadline::after(20ms));
  EXPECT_GE(Deadline::Clock::now() - again, 20ms);
  EXPECT_LT(Deadline::Clock::now() - again, 5s);
}

// --- Addresses ---

TEST(StreamWriter, KnowsBothAddresses) {
  for (const Transport transport : kTcpTransports) {
    LoopbackPair pair = loopback_pair(transport);
    Streams peer = open_connection(std::move(pair.peer));
    EXPECT_EQ(pair.writer.local_address(), peer.writer.peer_address());
    EXPECT_EQ(pair.writer.peer_address(), peer.writer.local_address());
    EXPECT_EQ(pair.writer.peer_address().host(),
              transport == Transport::kIpv4 ? "127.0.0.1" : "::1");
    EXPECT_NE(pair.writer.peer_address().port(), 0);
    // They outlive the connection.
    peer.writer.close();
    pair.writer.close();
    EXPECT_EQ(pair.writer.local_address(), peer.writer.peer_address());
  }
}

}  // namespace
}  // namespace tcpip
