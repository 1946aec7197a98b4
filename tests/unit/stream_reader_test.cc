#include "tcpip/stream_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/net/socket_calls.h"
#include "tcpip/open_connection.h"
#include "tcpip/stream_writer.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"

// Every allocation of this program is counted, but for those sanitizers that
// bring operators of their own.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer) || \
    __has_feature(memory_sanitizer)
#define TCPIP_TESTS_NOT_COUNTING
#endif
#endif

namespace {
std::atomic<std::size_t> g_allocations{0};
std::atomic<std::size_t> g_largest{0};

#ifdef TCPIP_TESTS_NOT_COUNTING
constexpr bool kCounting = false;
#else
constexpr bool kCounting = true;

void* allocate(std::size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  if (size > g_largest.load(std::memory_order_relaxed)) {
    g_largest.store(size, std::memory_order_relaxed);
  }
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
#endif
}  // namespace

#ifndef TCPIP_TESTS_NOT_COUNTING
void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}
#endif

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_tests::await_hang_up;
using tcpip_tests::await_receivable;
using tcpip_tests::BlockedCall;
using tcpip_tests::half_close;
using tcpip_tests::kPatience;
using tcpip_tests::kTcpTransports;
using tcpip_tests::kTransports;
using tcpip_tests::loopback_pair;
using tcpip_tests::LoopbackPair;
using tcpip_tests::send_all;
using tcpip_tests::Transport;

constexpr std::size_t kNegative = static_cast<std::size_t>(-1);
constexpr std::size_t kTooLarge = static_cast<std::size_t>(PTRDIFF_MAX) + 1;

std::span<std::byte> bytes_of(std::string& text) {
  return std::as_writable_bytes(std::span(text));
}

// Bytes that differ from their neighbours near and far.
std::string pattern(std::size_t n) {
  std::string result(n, '\0');
  std::uint32_t x = 1;
  for (char& c : result) {
    x = x * 1664525 + 1013904223;
    c = static_cast<char>(x >> 24);
  }
  return result;
}

void buffer_all_that_came(StreamReader& reader) {
  EXPECT_EQ(reader.try_read_exactly(PTRDIFF_MAX), std::nullopt);
}

// Every member that reads or takes out bytes, with arguments that are in order.
struct Read {
  const char* name;
  std::function<void(StreamReader&, const Wait&)> call;
  bool waits = true;
};

const std::vector<Read>& all_reads() {
  static const std::string_view kEnds[] = {"\r\n", "\n"};
  static const std::vector<Read> kReads = {
      {"read", [](auto& r, auto& w) { r.read(1, w); }},
      {"read_view", [](auto& r, auto& w) { r.read_view(1, w); }},
      {"read_all", [](auto& r, auto& w) { r.read_all(w); }},
      {"read_all max", [](auto& r, auto& w) { r.read_all(100, w); }},
      {"read_line", [](auto& r, auto& w) { r.read_line(w); }},
      {"read_line_view", [](auto& r, auto& w) { r.read_line_view(w); }},
      {"read_until", [](auto& r, auto& w) { r.read_until("\n", w); }},
      {"read_until list",
       [](auto& r, auto& w) {
         r.read_until({"\r\n", "\n"}, w);
       }},
      {"read_until span",
       [](auto& r, auto& w) { r.read_until(std::span(kEnds), w); }},
      {"read_until_view", [](auto& r, auto& w) { r.read_until_view("\n", w); }},
      {"read_until_view list",
       [](auto& r, auto& w) {
         r.read_until_view({"\r\n", "\n"}, w);
       }},
      {"read_exactly", [](auto& r, auto& w) { r.read_exactly(3, w); }},
      {"read_exactly_view",
       [](auto& r, auto& w) { r.read_exactly_view(3, w); }},
      {"read_exactly span",
       [](auto& r, auto& w) {
         std::array<std::byte, 3> out;
         r.read_exactly(std::span<std::byte>(out), w);
       }},
      {"read_exactly large span",
       [](auto& r, auto& w) {
         std::vector<std::byte> out(100'000);
         r.read_exactly(std::span(out), w);
       }},
      {"read_until_silence",
       [](auto& r, auto& w) { r.read_until_silence(1ms, 100, w); }},
      {"discard_until", [](auto& r, auto& w) { r.discard_until("\n", w); }},
      {"wait_readable", [](auto& r, auto& w) { r.wait_readable(w); }},
      {"try_read", [](auto& r, auto&) { r.try_read(1); }, false},
      {"try_read_line", [](auto& r, auto&) { r.try_read_line(); }, false},
      {"try_read_until", [](auto& r, auto&) { r.try_read_until("\n"); }, false},
      {"try_read_until list",
       [](auto& r, auto&) {
         r.try_read_until({"\r\n", "\n"});
       },
       false},
      {"try_read_exactly", [](auto& r, auto&) { r.try_read_exactly(3); },
       false},
      {"try_read_until_silence",
       [](auto& r, auto&) { r.try_read_until_silence(1ms, 100); }, false},
  };
  return kReads;
}

// --- Objects without a connection ---

void expect_of_no_connection(StreamReader& reader) {
  for (const Read& read : all_reads()) {
    EXPECT_THROW(read.call(reader, Wait()), ConnectionError) << read.name;
  }
  EXPECT_TRUE(reader.at_eof());
  EXPECT_FALSE(reader.has_ended());
  EXPECT_FALSE(reader.error());
  EXPECT_EQ(reader.buffered(), 0u);
  EXPECT_EQ(reader.skip(1), 0u);
  EXPECT_EQ(reader.discard(), 0u);
}

TEST(StreamReader, OfNoConnectionThrowsConnectionError) {
  StreamReader reader;
  expect_of_no_connection(reader);
  EXPECT_EQ(reader.limit(), kDefaultLimit);
  EXPECT_EQ(StreamReader::kDefaultLimit, 65536u);
}

TEST(StreamReader, LimitMustBePositive) {
  tcpip_tests::SocketPair pair = tcpip_tests::socket_pair(Transport::kUnix);
  EXPECT_THROW(StreamReader(pair.socket, 0), std::invalid_argument);
  EXPECT_THROW(StreamReader(nullptr, 0), std::invalid_argument);
  EXPECT_EQ(StreamReader(pair.socket).limit(), kDefaultLimit);
  EXPECT_EQ(StreamReader(pair.socket, 1).limit(), 1u);
  EXPECT_EQ(StreamReader(pair.socket, kNegative).limit(), kNegative);
}

TEST(StreamReader, LimitOfAllThereIsDoesNotOverflow) {
  for (const std::size_t limit : {kNegative, kNegative - 1, kTooLarge}) {
    LoopbackPair pair = loopback_pair(Transport::kUnix, limit);
    send_all(pair.peer, "abc");
    EXPECT_EQ(pair.reader.try_read_until("\r\n"), std::nullopt);
    send_all(pair.peer, "\r\n");
    EXPECT_EQ(pair.reader.try_read_until("\r\n"), "abc\r\n");
  }
}

TEST(StreamReader, MovesWithAllThatItHolds) {
  LoopbackPair pair = loopback_pair(Transport::kUnix, 5);
  send_all(pair.peer, "ab\r");
  EXPECT_EQ(pair.reader.try_read_until("\r\n"), std::nullopt);
  StreamReader moved(std::move(pair.reader));
  expect_of_no_connection(pair.reader);
  EXPECT_EQ(moved.buffered(), 3u);
  EXPECT_EQ(moved.limit(), 5u);
  send_all(pair.peer, "\ncd");
  EXPECT_EQ(moved.try_read_until("\r\n"), "ab\r\n");

  StreamReader assigned;
  assigned = std::move(moved);
  expect_of_no_connection(moved);
  EXPECT_EQ(assigned.limit(), 5u);
  EXPECT_EQ(assigned.read_exactly(2, kPatience), "cd");
  half_close(pair.peer);
  EXPECT_EQ(assigned.read(1, kPatience), "");
  EXPECT_TRUE(assigned.has_ended());

  moved = std::move(assigned);
  EXPECT_TRUE(moved.has_ended());
  expect_of_no_connection(assigned);
  StreamReader& itself = moved;
  moved = std::move(itself);
  EXPECT_TRUE(moved.has_ended());
  EXPECT_EQ(moved.read(1), "");
}

TEST(StreamReader, MoveAssignmentForgetsTheOldConnection) {
  LoopbackPair one = loopback_pair(Transport::kUnix);
  LoopbackPair two = loopback_pair(Transport::kUnix);
  send_all(one.peer, "one");
  send_all(two.peer, "two");
  buffer_all_that_came(one.reader);
  buffer_all_that_came(two.reader);
  one.reader = std::move(two.reader);
  EXPECT_EQ(one.reader.read(10, kPatience), "two");
  EXPECT_EQ(one.reader.try_read(10), std::nullopt);
}

// --- Bad arguments ---

TEST(StreamReader, EmptySeparatorsAreRefusedAndNothingIsRead) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "ab\n");
  StreamReader& r = pair.reader;
  EXPECT_THROW(r.read_until(""), std::invalid_argument);
  EXPECT_THROW(r.read_until(StreamReader::Separators{}), std::invalid_argument);
  EXPECT_THROW(r.read_until({"\n", ""}), std::invalid_argument);
  EXPECT_THROW(r.read_until(std::span<const std::string_view>()),
               std::invalid_argument);
  EXPECT_THROW(r.read_until_view(""), std::invalid_argument);
  EXPECT_THROW(r.read_until_view({"", "\n"}), std::invalid_argument);
  EXPECT_THROW(r.try_read_until(""), std::invalid_argument);
  EXPECT_THROW(r.try_read_until({"\n", ""}), std::invalid_argument);
  EXPECT_THROW(r.try_read_until(StreamReader::Separators{}),
               std::invalid_argument);
  EXPECT_THROW(r.discard_until(""), std::invalid_argument);
  EXPECT_EQ(r.buffered(), 0u);
  EXPECT_EQ(r.read_until("\n", kPatience), "ab\n");
}

TEST(StreamReader, NegativeSizesAreRefusedAndNothingIsRead) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "abc");
  StreamReader& r = pair.reader;
  for (const std::size_t n : {kNegative, kTooLarge}) {
    EXPECT_THROW(r.read(n), std::invalid_argument);
    EXPECT_THROW(r.read_view(n), std::invalid_argument);
    EXPECT_THROW(r.try_read(n), std::invalid_argument);
    EXPECT_THROW(r.read_exactly(n), std::invalid_argument);
    EXPECT_THROW(r.read_exactly_view(n), std::invalid_argument);
    EXPECT_THROW(r.try_read_exactly(n), std::invalid_argument);
  }
  EXPECT_EQ(r.buffered(), 0u);
  EXPECT_EQ(r.read(3, kPatience), "abc");
}

TEST(StreamReader, HugeSizesAllocateOnlyForWhatComes) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "abc");
  g_largest = 0;
  EXPECT_THROW(pair.reader.read_exactly(PTRDIFF_MAX, 1ms), TimeoutError);
  EXPECT_EQ(pair.reader.try_read_exactly(PTRDIFF_MAX), std::nullopt);
  EXPECT_EQ(pair.reader.read(PTRDIFF_MAX, kPatience), "abc");
  half_close(pair.peer);
  EXPECT_THROW(pair.reader.read_exactly(PTRDIFF_MAX), IncompleteReadError);
  EXPECT_LE(g_largest, 64u * 1024);
}

// --- Views ---

TEST(StreamReader, ViewsAreOfTheBufferUntilTheNextRead) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "line\none,two;exactsome");
  half_close(pair.peer);
  StreamReader& r = pair.reader;
  const std::string_view line = r.read_line_view(kPatience);
  EXPECT_EQ(line, "line\n");
  // All came in one: the next view begins where the last one ends.
  const char* const end = line.data() + line.size();
  const std::string_view one = r.read_until_view(",", kPatience);
  EXPECT_EQ(one, "one,");
  EXPECT_EQ(one.data(), end);
  EXPECT_EQ(r.read_until_view({",", ";"}, kPatience), "two;");
  EXPECT_EQ(r.read_exactly_view(5, kPatience), "exact");
  EXPECT_EQ(r.read_view(100, kPatience), "some");
  EXPECT_EQ(r.read_view(100, kPatience), "");
  EXPECT_EQ(r.read_line_view(kPatience), "");
}

TEST(StreamReader, ConstMembersLeaveAViewAsItIs) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "abc\nrest");
  const std::string_view view = pair.reader.read_line_view(kPatience);
  send_all(pair.peer, "more");
  EXPECT_FALSE(pair.reader.at_eof());
  EXPECT_EQ(pair.reader.buffered(), 4u);
  EXPECT_EQ(view, "abc\n");
}

TEST(StreamReader, UnterminatedLastLineIsAViewToo) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "abc\nre");
  EXPECT_EQ(pair.reader.read_line_view(kPatience), "abc\n");
  EXPECT_THROW(pair.reader.read_line_view(Wait::none()), TimeoutError);
  send_all(pair.peer, "st");
  half_close(pair.peer);
  EXPECT_EQ(pair.reader.read_line_view(kPatience), "rest");
}

// --- Two readers ---

TEST(StreamReader, SecondReaderIsRefusedAndTheFirstGetsItsBytes) {
  for (const bool forever : {true, false}) {
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    BlockedCall first([&] {
      return forever ? pair.reader.read_line()
                     : pair.reader.read_line(kPatience);
    });
    ASSERT_TRUE(first.await_blocked());
    for (const Read& read : all_reads()) {
      EXPECT_THROW(read.call(pair.reader, Wait()), std::logic_error)
          << read.name;
    }
    EXPECT_THROW(pair.reader.skip(1), std::logic_error);
    EXPECT_THROW(pair.reader.discard(), std::logic_error);
    send_all(pair.peer, "line\nnext\n");
    EXPECT_EQ(first.get(), "line\n");
    EXPECT_EQ(pair.reader.read_line(kPatience), "next\n");
  }
}

TEST(StreamReader, ThreadsMayReadByTurns) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  for (int i = 0; i < 20; ++i) {
    BlockedCall call([&] { return pair.reader.read_line(kPatience); });
    send_all(pair.peer, "a line\n");
    EXPECT_EQ(call.get(), "a line\n");
  }
}

// --- Interrupted reads resume ---

TEST(StreamReader, TimeoutKeepsWhatCameAndTheNextCallGoesOn) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    StreamReader& r = pair.reader;
    const std::string_view kEnds[] = {";;"};
    std::string out(5, '?');
    send_all(pair.peer, "ab");
    EXPECT_THROW(r.read_line(5ms), TimeoutError);
    EXPECT_EQ(r.buffered(), 2u);
    EXPECT_THROW(r.read_until(std::span(kEnds), 5ms), TimeoutError);
    EXPECT_THROW(r.read_exactly(5, 5ms), TimeoutError);
    EXPECT_THROW(r.read_exactly(bytes_of(out), 5ms), TimeoutError);
    EXPECT_EQ(out, "?????");
    EXPECT_THROW(r.read_all(5ms), TimeoutError);
    EXPECT_EQ(r.try_read_exactly(3), std::nullopt);
    EXPECT_EQ(r.buffered(), 2u);
    send_all(pair.peer, "\n;");
    EXPECT_EQ(r.read_line(kPatience), "ab\n");
    EXPECT_THROW(r.read_until(";;", 5ms), TimeoutError);
    send_all(pair.peer, ";12345");
    EXPECT_EQ(r.read_until(";;", kPatience), ";;");
    r.read_exactly(bytes_of(out), kPatience);
    EXPECT_EQ(out, "12345");
  }
}

TEST(StreamReader, InterruptedSearchDoesNotHideAnotherSeparator) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "one;two\nthree");
  StreamReader& r = pair.reader;
  EXPECT_EQ(r.try_read_until("\r\n"), std::nullopt);
  EXPECT_EQ(r.try_read_until(";"), "one;");
  EXPECT_EQ(r.try_read_until({"\r\n", "!"}), std::nullopt);
  EXPECT_EQ(r.try_read_until({"!", "\n"}), "two\n");
  EXPECT_EQ(r.try_read_until("e!"), std::nullopt);
  // "e" ends where the search for "e!" has been.
  EXPECT_EQ(r.try_read_until("e"), "thre");
}

TEST(StreamReader, SkipDuringAnInterruptedSearchKeepsItsPlace) {
  for (const std::size_t skipped : {1u, 2u, 3u}) {
    LoopbackPair pair = loopback_pair(Transport::kUnix);
    send_all(pair.peer, "ab\r");
    EXPECT_EQ(pair.reader.try_read_until("\r\n"), std::nullopt);
    EXPECT_EQ(pair.reader.skip(skipped), skipped);
    send_all(pair.peer, "\ncd\r\n");
    EXPECT_EQ(pair.reader.try_read_until("\r\n"), skipped == 3   ? "\ncd\r\n"
                                                  : skipped == 2 ? "\r\n"
                                                                 : "b\r\n");
  }
}

TEST(StreamReader, StopKeepsWhatCame) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  std::stop_source stop;
  BlockedCall call([&] { return pair.reader.read_line(stop.get_token()); });
  send_all(pair.peer, "ab");
  ASSERT_TRUE(call.await_blocked());
  stop.request_stop();
  EXPECT_THROW(call.get(), CancelledError);
  send_all(pair.peer, "c\n");
  EXPECT_EQ(pair.reader.read_line(kPatience), "abc\n");
}

TEST(StreamReader, LargeReadIntoMemoryResumesAndLeavesItUntouched) {
  const std::string data = pattern(300'000);
  for (const std::size_t before : {0u, 1u, 5'000u}) {
    for (const Transport transport : kTransports) {
      LoopbackPair pair = loopback_pair(transport);
      std::string out(data.size() - before, '?');
      // With bytes of it in the reader already, and more each time.
      send_all(pair.peer, data.substr(0, before + 20'000));
      EXPECT_EQ(pair.reader.read_exactly(before, kPatience),
                data.substr(0, before));
      EXPECT_THROW(pair.reader.read_exactly(bytes_of(out), 1ms), TimeoutError);
      EXPECT_THROW(pair.reader.read_exactly(bytes_of(out), Wait::none()),
                   TimeoutError);
      send_all(pair.peer, data.substr(before + 20'000, 70'000));
      EXPECT_THROW(pair.reader.read_exactly(bytes_of(out), 1ms), TimeoutError);
      EXPECT_EQ(out, std::string(out.size(), '?'));
      BlockedCall sender(
          [&] { send_all(pair.peer, data.substr(before + 90'000) + "rest"); });
      pair.reader.read_exactly(bytes_of(out), kPatience);
      EXPECT_EQ(out, data.substr(before));
      EXPECT_EQ(pair.reader.read_exactly(4, kPatience), "rest");
      sender.get();
    }
  }
}

TEST(StreamReader, LargeReadIntoMemoryTakesAllThatTheKernelHolds) {
  const std::string data = pattern(60'000);
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    send_all(pair.peer, "head\n" + data + "tail");
    EXPECT_EQ(pair.reader.read_line(kPatience), "head\n");
    await_receivable(pair.writer.native_handle(), 5 + data.size() + 4 - 8192);
    std::string out(data.size(), '?');
    pair.reader.read_exactly(bytes_of(out), Wait::none());
    EXPECT_EQ(out, data);
    EXPECT_EQ(pair.reader.read_exactly(4, kPatience), "tail");
  }
}

TEST(StreamReader, LargeReadIntoMemoryFailsWithAllThatCame) {
  const std::string data = pattern(50'000);
  for (const bool by_reset : {false, true}) {
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    send_all(pair.peer, data);
    if (by_reset) {
      tcpip_tests::reset(std::move(pair.peer));
    } else {
      half_close(pair.peer);
    }
    await_hang_up(pair.writer.native_handle());
    std::string out(data.size() + 1, '?');
    try {
      pair.reader.read_exactly(bytes_of(out), kPatience);
      ADD_FAILURE();
    } catch (const IncompleteReadError& e) {
      EXPECT_FALSE(by_reset);
      EXPECT_TRUE(e.partial() == data);
      EXPECT_EQ(e.expected(), data.size() + 1);
    } catch (const ConnectionResetError&) {
      EXPECT_TRUE(by_reset);
      EXPECT_TRUE(pair.reader.read_exactly(data.size()) == data);
    }
    EXPECT_EQ(out, std::string(out.size(), '?'));
  }
}

// --- What a passed deadline still takes ---

TEST(StreamReader, PassedDeadlineTakesWholeMessagesAndTheEnd) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    // More than one receive's worth.
    const std::string message = pattern(30'000);
    send_all(pair.peer, message + "rest");
    half_close(pair.peer);
    await_hang_up(pair.writer.native_handle());
    EXPECT_TRUE(pair.reader.read_exactly(30'000, Wait::none()) == message);
    EXPECT_EQ(pair.reader.read_line(Wait::none()), "rest");
    EXPECT_EQ(pair.reader.read_line(Wait::none()), "");
  }
}

TEST(StreamReader, TryMeetsTheEndTogetherWithTheLastBytes) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "abc");
  half_close(pair.peer);
  await_hang_up(pair.writer.native_handle());
  EXPECT_THROW(pair.reader.try_read_until("\n"), IncompleteReadError);
}

TEST(StreamReader, TryMeetsTheResetTogetherWithTheLastBytes) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "abc");
  tcpip_tests::reset(std::move(pair.peer));
  await_hang_up(pair.writer.native_handle());
  EXPECT_THROW(pair.reader.try_read_until("\n"), ConnectionResetError);
  EXPECT_EQ(pair.reader.read(10), "abc");
}

TEST(StreamReader, FloodDoesNotHoldACallWhoseDeadlineHasPassed) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4, std::size_t{1} << 30);
  std::atomic<bool> done{false};
  BlockedCall flood([&] {
    const std::string chunk(65536, 'x');
    while (!done) {
      ::send(pair.peer.get(), chunk.data(), chunk.size(),
             MSG_NOSIGNAL | MSG_DONTWAIT);
    }
  });
  BlockedCall reading([&] {
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(pair.reader.try_read_until("\n"), std::nullopt);
      EXPECT_THROW(pair.reader.read_all(Wait::none()), TimeoutError);
      pair.reader.discard();
    }
  });
  const bool in_time =
      tcpip_tests::wait_until([&] { return reading.is_done(); }, kPatience);
  done = true;
  EXPECT_TRUE(in_time);
  flood.get();
  if (!in_time) half_close(pair.peer);
  reading.get();
}

// --- Messages that end by silence ---

using Clock = std::chrono::steady_clock;

// Until the last segment came so long ago.
void await_age(const LoopbackPair& pair, std::chrono::milliseconds age) {
  ASSERT_TRUE(tcpip_tests::wait_until([&] {
    const auto last = internal::last_segment(pair.writer.native_handle());
    return last && last->age >= age;
  }));
}

TEST(ReadUntilSilence, ReturnsWhatCameOnceNothingMoreHasComeForThatTime) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    const auto start = Clock::now();
    send_all(pair.peer, "12.5 V");
    EXPECT_EQ(pair.reader.read_until_silence(50ms, 100, kPatience), "12.5 V");
    EXPECT_GE(Clock::now() - start, 50ms);
    EXPECT_EQ(pair.reader.buffered(), 0u);
  }
}

TEST(ReadUntilSilence, PiecesWithinTheSilenceAreOneMessage) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    BlockedCall read([&] {
      return pair.reader.read_until_silence(kPatience, 100, kPatience);
    });
    std::uint64_t sent = 0;
    for (const std::string_view piece : {"1", "2.", "5 V"}) {
      send_all(pair.peer, piece);
      sent += piece.size();
      EXPECT_TRUE(tcpip_tests::wait_until(
          [&] { return pair.reader.received() == sent; }));
    }
    half_close(pair.peer);
    EXPECT_EQ(read.get(), "12.5 V");
    EXPECT_EQ(pair.reader.read_until_silence(1h, 100, kPatience), "");
  }
}

TEST(ReadUntilSilence, EndsAtOnceWhenTheMostHasCome) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "abcdef");
  await_receivable(pair.writer.native_handle(), 6);
  EXPECT_EQ(pair.reader.read_until_silence(1h, 4, Wait::none()), "abcd");
  EXPECT_EQ(pair.reader.try_read_until_silence(1h, 2), "ef");
  EXPECT_EQ(pair.reader.try_read_until_silence(1h, 2), std::nullopt);
  const std::string large = pattern(300'000);
  BlockedCall sending([&] { send_all(pair.peer, large); });
  EXPECT_EQ(pair.reader.read_until_silence(1h, large.size(), kPatience), large);
}

TEST(ReadUntilSilence, DeadlineAndStopLeaveAllInTheReader) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  EXPECT_THROW(pair.reader.read_until_silence(1ms, 100, 5ms), TimeoutError)
      << "nothing has come";
  send_all(pair.peer, "12");
  EXPECT_THROW(pair.reader.read_until_silence(1h, 100, 5ms), TimeoutError);
  send_all(pair.peer, ".5");
  std::stop_source stop;
  BlockedCall stopped([&] {
    EXPECT_THROW(pair.reader.read_until_silence(1h, 100, stop.get_token()),
                 CancelledError);
  });
  EXPECT_TRUE(tcpip_tests::wait_until(
      [&] { return pair.reader.received() == 4 && !stopped.is_done(); }));
  stop.request_stop();
  stopped.get();
  EXPECT_THROW(pair.reader.read_until_silence(1ms, 100, stop.get_token()),
               CancelledError);
  EXPECT_EQ(pair.reader.buffered(), 4u);
  EXPECT_EQ(pair.reader.read_until_silence(20ms, 100, kPatience), "12.5");
}

// Counted from when the bytes came, not from when they are read.
TEST(ReadUntilSilence, WhatCameAWhileAgoIsReturnedWithoutWaiting) {
  const std::string large = pattern(100'000);
  for (const std::string& message : {"12.5 V"s, large}) {
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    send_all(pair.peer, message);
    await_receivable(pair.writer.native_handle(), message.size());
    await_age(pair, 200ms);
    EXPECT_EQ(pair.reader.try_read_until_silence(1h, 1'000'000), std::nullopt);
    EXPECT_EQ(pair.reader.read_until_silence(100ms, 1'000'000, Wait::none()),
              message);
  }
}

TEST(ReadUntilSilence, ALoopFindsTheMessageWithoutWaiting) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    EXPECT_EQ(pair.reader.try_read_until_silence(20ms, 100), std::nullopt);
    send_all(pair.peer, "12.5 V");
    std::optional<std::string> message;
    EXPECT_TRUE(tcpip_tests::wait_until([&] {
      message = pair.reader.try_read_until_silence(20ms, 100);
      return message.has_value();
    }));
    EXPECT_EQ(message, "12.5 V");
  }
}

// A reader that has taken a message, and is then late, finds the next one.
TEST(ReadUntilSilence, ALateReaderDoesNotTakeTwoMessagesForOne) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  bool late = false;
  for (int tries = 0; tries < 100 && !late; ++tries) {
    send_all(pair.peer, "first");
    await_receivable(pair.writer.native_handle(), 5);
    // On a busy machine the silence may be over here.
    late = !pair.reader.try_read_until_silence(100ms, 100);
    if (!late) continue;
    await_age(pair, 200ms);
    send_all(pair.peer, "second");
    await_receivable(pair.writer.native_handle(), 6);
    EXPECT_EQ(pair.reader.read_until_silence(100ms, 100, kPatience), "first");
    EXPECT_EQ(pair.reader.read_until_silence(100ms, 100, kPatience), "second");
  }
  EXPECT_TRUE(late);
}

// Bytes that came in time are never torn off, however late the reader is.
TEST(ReadUntilSilence, ALateReaderDoesNotTearAMessage) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "12");
  await_receivable(pair.writer.native_handle(), 2);
  EXPECT_EQ(pair.reader.try_read_until_silence(1h, 100), std::nullopt);
  for (const std::string_view piece : {".", "5", " V"}) {
    await_age(pair, 50ms);
    send_all(pair.peer, piece);
  }
  await_receivable(pair.writer.native_handle(), 4);
  EXPECT_EQ(pair.reader.read_until_silence(80ms, 100, kPatience), "12.5 V");
}

TEST(ReadUntilSilence, TakesWhatAnotherReadHasLeft) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    send_all(pair.peer, "OK\n12.");
    EXPECT_EQ(pair.reader.read_line(kPatience), "OK\n");
    EXPECT_EQ(pair.reader.try_read_until_silence(1h, 100), std::nullopt)
        << "it has just come";
    send_all(pair.peer, "5 V");
    await_receivable(pair.writer.native_handle(), 3);
    EXPECT_EQ(pair.reader.read_until_silence(30ms, 100, kPatience), "12.5 V");
  }
}

TEST(ReadUntilSilence, WhatCameBeforeALossIsReturnedFirst) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "12.5");
  EXPECT_EQ(pair.reader.try_read_until_silence(1h, 100), std::nullopt);
  tcpip_tests::reset(std::move(pair.peer));
  EXPECT_EQ(pair.reader.read_until_silence(1h, 100, kPatience), "12.5");
  EXPECT_THROW(pair.reader.read_until_silence(1h, 100, kPatience),
               ConnectionResetError);
}

TEST(ReadUntilSilence, RefusesWhatIsNotPositive) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "x");
  StreamReader& reader = pair.reader;
  EXPECT_THROW(reader.read_until_silence(0ms, 100), std::invalid_argument);
  EXPECT_THROW(reader.read_until_silence(-1ms, 100), std::invalid_argument);
  EXPECT_THROW(reader.read_until_silence(1ms, 0), std::invalid_argument);
  EXPECT_THROW(reader.read_until_silence(1ms, kNegative),
               std::invalid_argument);
  EXPECT_THROW(reader.try_read_until_silence(0ms, 1), std::invalid_argument);
  EXPECT_THROW(reader.try_read_until_silence(1ms, kTooLarge),
               std::invalid_argument);
  EXPECT_EQ(
      reader.read_until_silence(std::chrono::microseconds::max(), 1, kPatience),
      "x");
}

TEST(ReadUntilSilence, FloodDoesNotHoldACallWhoseDeadlineHasPassed) {
  for (const Transport transport : {Transport::kIpv4, Transport::kUnix}) {
    LoopbackPair pair = loopback_pair(transport);
    std::atomic<bool> done{false};
    BlockedCall flood([&] {
      const std::string chunk(65536, 'x');
      while (!done) {
        ::send(pair.peer.get(), chunk.data(), chunk.size(),
               MSG_NOSIGNAL | MSG_DONTWAIT);
      }
    });
    BlockedCall reading([&] {
      // More than comes while a test is patient.
      constexpr std::size_t kMost = std::size_t{1} << 28;
      for (int i = 0; i < 20; ++i) {
        pair.reader.try_read_until_silence(1us, kMost);
        EXPECT_EQ(pair.reader.try_read_until_silence(1h, kMost), std::nullopt);
        pair.reader.discard();
      }
    });
    const bool in_time =
        tcpip_tests::wait_until([&] { return reading.is_done(); }, kPatience);
    done = true;
    EXPECT_TRUE(in_time);
    flood.get();
    if (!in_time) half_close(pair.peer);
    reading.get();
  }
}

// --- The end, errors and closing ---

TEST(StreamReader, ErrorsTellOperationAndPeer) {
  LoopbackPair pair = loopback_pair(Transport::kIpv6, 3);
  const std::string peer = pair.writer.peer_address().to_string();
  StreamReader& r = pair.reader;
  const auto expect = [&peer](const Error& e, const std::string& operation) {
    EXPECT_EQ(e.operation(), operation);
    EXPECT_EQ(e.peer(), peer);
    const std::string what = e.what();
    EXPECT_NE(what.find(operation), what.npos) << what;
    EXPECT_NE(what.find(peer), what.npos) << what;
  };
  try {
    r.read_exactly(1, Wait::none());
    ADD_FAILURE();
  } catch (const TimeoutError& e) {
    expect(e, "read_exactly");
    EXPECT_FALSE(e.queued());
  }
  send_all(pair.peer, "abcd");
  try {
    r.read_until("\n", kPatience);
    ADD_FAILURE();
  } catch (const LimitOverrunError& e) {
    expect(e, "read_until");
  }
  half_close(pair.peer);
  try {
    r.read_exactly(5, kPatience);
    ADD_FAILURE();
  } catch (const IncompleteReadError& e) {
    expect(e, "read_exactly");
    EXPECT_EQ(e.partial(), "abcd");
  }
  std::stop_source stop;
  stop.request_stop();
  try {
    r.read_line(stop.get_token());
    ADD_FAILURE();
  } catch (const CancelledError& e) {
    EXPECT_NE(std::string(e.what()).find("read_line"), std::string::npos);
  }
}

TEST(StreamReader, ErrorsSayTheNameOfTheCall) {
  StreamReader none;
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  tcpip_tests::reset(std::move(pair.peer));
  await_hang_up(pair.writer.native_handle());
  for (const Read& read : all_reads()) {
    // The test's names may have a word more, for the overload.
    const std::string name(std::string_view(read.name).substr(
        0, std::string_view(read.name).find(' ')));
    for (StreamReader* const reader : {&none, &pair.reader}) {
      if (reader != &none && name == "wait_readable") continue;
      try {
        read.call(*reader, kPatience);
        ADD_FAILURE() << read.name;
      } catch (const ConnectionError& e) {
        EXPECT_EQ(e.operation(), name) << read.name;
      }
    }
  }
}

TEST(StreamReader, ResetThatAtEofHasSeenIsStillThrown) {
  for (const Transport transport : kTcpTransports) {
    LoopbackPair pair = loopback_pair(transport);
    tcpip_tests::reset(std::move(pair.peer));
    await_hang_up(pair.writer.native_handle());
    // A reset is no end of stream.
    EXPECT_FALSE(pair.reader.at_eof());
    EXPECT_FALSE(pair.reader.at_eof());
    EXPECT_THROW(pair.reader.read(1), ConnectionResetError);
    EXPECT_FALSE(pair.reader.at_eof());
    EXPECT_EQ(pair.reader.error(), std::errc::connection_reset);
  }
}

TEST(StreamReader, ResetThatAWriteHasMetIsStillThrown) {
  for (const bool forever : {true, false}) {
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    send_all(pair.peer, "abc");
    tcpip_tests::reset(std::move(pair.peer));
    await_hang_up(pair.writer.native_handle());
    EXPECT_THROW(pair.writer.write("x"), ConnectionError);
    const Wait wait = forever ? Wait() : Wait(kPatience);
    EXPECT_EQ(pair.reader.read(10, wait), "abc");
    EXPECT_FALSE(pair.reader.at_eof());
    EXPECT_THROW(pair.reader.read(10, wait), ConnectionResetError);
    EXPECT_THROW(pair.reader.read_line(wait), ConnectionResetError);
  }
}

TEST(StreamReader, ResetWakesABlockedRead) {
  for (const bool forever : {true, false}) {
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    BlockedCall call([&] {
      return pair.reader.read_line(forever ? Wait() : Wait(kPatience));
    });
    send_all(pair.peer, "ab");
    ASSERT_TRUE(call.await_blocked());
    tcpip_tests::reset(std::move(pair.peer));
    EXPECT_THROW(call.get(), ConnectionResetError);
    EXPECT_EQ(pair.reader.read(10), "ab");
  }
}

TEST(StreamReader, AfterCloseWhatIsBufferedComesBeforeTheEnd) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  StreamReader& r = pair.reader;
  send_all(pair.peer, "one\ntwo\nrest");
  await_receivable(pair.writer.native_handle(), 12);
  EXPECT_EQ(r.read_line(kPatience), "one\n");
  pair.writer.close();
  EXPECT_FALSE(r.at_eof());
  EXPECT_EQ(r.read_until("\n"), "two\n");
  EXPECT_TRUE(r.wait_readable());
  try {
    r.read_exactly(5);
    ADD_FAILURE();
  } catch (const IncompleteReadError& e) {
    EXPECT_EQ(e.partial(), "rest");
  }
  EXPECT_TRUE(r.at_eof());
  EXPECT_EQ(r.read(1), "");
  EXPECT_EQ(r.read_line(), "");
  EXPECT_EQ(r.read_all(), "");
  EXPECT_EQ(r.try_read(1), "");
  EXPECT_TRUE(r.wait_readable());
  EXPECT_THROW(r.read_until(), IncompleteReadError);
  std::vector<std::byte> large(100'000);
  EXPECT_THROW(r.read_exactly(std::span(large)), IncompleteReadError);
}

TEST(StreamReader, IsAtEofAtOnceAfterClose) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  pair.writer.close();
  EXPECT_TRUE(pair.reader.at_eof());
  EXPECT_FALSE(pair.reader.has_ended());
  EXPECT_EQ(pair.reader.read(1), "");
  EXPECT_TRUE(pair.reader.has_ended());
  EXPECT_FALSE(pair.reader.error());
}

TEST(StreamReader, WaitsWithoutADescriptorForItsWaitAndLosesNothing) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "ab");
  rlimit saved{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &saved), 0);
  const rlimit none{0, saved.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const std::stop_source stop;
  EXPECT_THROW(pair.reader.read_line(Wait(20ms, stop.get_token())),
               TimeoutError);
  send_all(pair.peer, "c\n");
  EXPECT_EQ(pair.reader.read_line(Wait(kPatience, stop.get_token())), "abc\n");
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &saved), 0);
}

TEST(StreamReader, WaitsOnADescriptorThatTheProgramMadeNonBlocking) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  const int fd = pair.writer.native_handle();
  ASSERT_EQ(::fcntl(fd, F_SETFL, O_NONBLOCK), 0);
  BlockedCall call([&] { return pair.reader.read_line(); });
  ASSERT_TRUE(call.await_blocked());
  send_all(pair.peer, "line\n");
  EXPECT_EQ(call.get(), "line\n");
}

// --- wait_readable, skip, discard ---

TEST(StreamReader, WaitReadableTellsOfBytesEndAndError) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    StreamReader& r = pair.reader;
    EXPECT_FALSE(r.wait_readable(Wait::none()));
    EXPECT_FALSE(r.wait_readable(2ms));
    send_all(pair.peer, "ab");
    EXPECT_TRUE(r.wait_readable(kPatience));
    EXPECT_EQ(r.buffered(), 0u);  // it takes nothing
    EXPECT_EQ(r.read(1, kPatience), "a");
    EXPECT_TRUE(r.wait_readable(Wait::none()));  // buffered
    EXPECT_EQ(r.read(1, kPatience), "b");
    EXPECT_FALSE(r.wait_readable(Wait::none()));
    half_close(pair.peer);
    EXPECT_TRUE(r.wait_readable(kPatience));
    EXPECT_EQ(r.read(1, kPatience), "");
    EXPECT_TRUE(r.wait_readable());
  }
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  tcpip_tests::reset(std::move(pair.peer));
  EXPECT_TRUE(pair.reader.wait_readable(kPatience));
  EXPECT_THROW(pair.reader.read(1, kPatience), ConnectionResetError);
  EXPECT_TRUE(pair.reader.wait_readable());
}

TEST(StreamReader, SkipDropsWhatIsBufferedAndNoMore) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "abcdef");
  EXPECT_EQ(pair.reader.skip(3), 0u);  // still in the kernel
  buffer_all_that_came(pair.reader);
  EXPECT_EQ(pair.reader.skip(0), 0u);
  EXPECT_EQ(pair.reader.skip(2), 2u);
  EXPECT_EQ(pair.reader.read(1, kPatience), "c");
  EXPECT_EQ(pair.reader.skip(kNegative), 3u);
  EXPECT_EQ(pair.reader.buffered(), 0u);
}

TEST(StreamReader, DiscardDropsAllThatHasComeHoweverManyReceivesThatTakes) {
  LoopbackPair pair = loopback_pair(Transport::kUnix, 16);
  send_all(pair.peer, pattern(50'000));
  EXPECT_EQ(pair.reader.discard(), 50'000u);
}

TEST(StreamReader, DiscardDropsAllThatHasCome) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    EXPECT_EQ(pair.reader.discard(), 0u);
    send_all(pair.peer, pattern(50'000));
    await_receivable(pair.writer.native_handle(), 50'000);
    EXPECT_EQ(pair.reader.read(10, kPatience).size(), 10u);
    EXPECT_EQ(pair.reader.discard(), 49'990u);
    EXPECT_EQ(pair.reader.buffered(), 0u);
    EXPECT_EQ(pair.reader.try_read(1), std::nullopt);
    send_all(pair.peer, "stale\n");
    half_close(pair.peer);
    await_hang_up(pair.writer.native_handle());
    EXPECT_EQ(pair.reader.discard(), 6u);
    EXPECT_EQ(pair.reader.discard(), 0u);
    EXPECT_EQ(pair.reader.read(1), "");
  }
}

TEST(StreamReader, DiscardLeavesTheErrorToTheNextRead) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "abc");
  tcpip_tests::reset(std::move(pair.peer));
  await_hang_up(pair.writer.native_handle());
  EXPECT_EQ(pair.reader.discard(), 3u);
  EXPECT_EQ(pair.reader.discard(), 0u);
  EXPECT_THROW(pair.reader.read(1), ConnectionResetError);
}

TEST(StreamReader, DiscardUntilGoesThroughTheNextSeparator) {
  const std::string input = "abcd\r\r\n\r\naaab";
  for (std::size_t i = 0; i <= input.size(); ++i) {
    LoopbackPair pair = loopback_pair(Transport::kUnix, 1);
    send_all(pair.peer, input.substr(0, i));
    std::size_t dropped = 0;
    if (i < 7) {
      // What is dropped stays dropped; its count is lost with the exception.
      EXPECT_THROW(pair.reader.discard_until("\r\n", Wait::none()),
                   TimeoutError);
      EXPECT_LE(pair.reader.buffered(), 1u);
      dropped = i - pair.reader.buffered();
    }
    send_all(pair.peer, input.substr(i));
    EXPECT_EQ(pair.reader.discard_until("\r\n", kPatience), 7 - dropped);
    EXPECT_EQ(pair.reader.discard_until("\r\n", kPatience), 2u);
    EXPECT_EQ(pair.reader.discard_until("aa", kPatience), 2u);
    EXPECT_EQ(pair.reader.read(10, kPatience), "ab");
  }
}

TEST(StreamReader, DiscardUntilAtTheEndHasWhatMayBeginASeparator) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, "abcAA");
  half_close(pair.peer);
  try {
    pair.reader.discard_until("AAA", kPatience);
    ADD_FAILURE();
  } catch (const IncompleteReadError& e) {
    EXPECT_EQ(e.partial(), "AA");
    EXPECT_EQ(e.expected(), std::nullopt);
  }
  EXPECT_EQ(pair.reader.buffered(), 0u);
}

// The end of a line that was too long may look like a command.
TEST(StreamReader, NothingOfALineOverTheLimitIsEverReadAsALine) {
  for (const std::size_t limit : {16u, 1000u, 4095u, 5000u}) {
    for (const std::size_t chunk : {1u, 7u, 100u, 4096u, 100'000u}) {
      LoopbackPair pair = loopback_pair(Transport::kUnix, limit);
      const std::string text = std::string(8192, 'x') + "STOP\nnext\n";
      BlockedCall peer([&] {
        for (std::size_t i = 0; i < text.size(); i += chunk) {
          send_all(pair.peer, text.substr(i, chunk));
        }
        half_close(pair.peer);
      });
      EXPECT_THROW(pair.reader.read_line(kPatience), LimitOverrunError);
      EXPECT_EQ(pair.reader.read_line(kPatience), "next\n")
          << limit << " " << chunk;
      EXPECT_EQ(pair.reader.read_line(kPatience), "");
      peer.get();
    }
  }
}

TEST(StreamReader, RestOfADroppedLineIsDroppedWhenItComes) {
  LoopbackPair pair = loopback_pair(Transport::kUnix, 3);
  StreamReader& r = pair.reader;
  const auto send = [&](std::string_view bytes) {
    send_all(pair.peer, bytes);
    await_receivable(pair.writer.native_handle(), bytes.size());
  };
  send("long, ");
  EXPECT_THROW(r.read_line(kPatience), LimitOverrunError);
  EXPECT_THROW(r.read_line(Wait::none()), TimeoutError);
  send("longer");
  EXPECT_EQ(r.try_read_line(), std::nullopt);
  send("\na\n");
  EXPECT_EQ(r.try_read_line(), "a\n");

  // Whoever reads past its end ends it.
  send("long, ");
  EXPECT_THROW(r.read_line(kPatience), LimitOverrunError);
  send("STOP\nb\nc");
  EXPECT_EQ(r.read_exactly(2, kPatience), "ST");
  EXPECT_EQ(r.read_line(kPatience), "b\n");
  send("\n");
  EXPECT_EQ(r.read_line(kPatience), "c\n");

  const std::vector<std::function<std::size_t()>> ways = {
      [&] { return r.discard_until("\n", kPatience); },
      [&] { return r.discard(); },
      [&] { return r.read_until("\n", kPatience).size(); }};
  for (const auto& way : ways) {
    send("long, ");
    EXPECT_THROW(r.read_line(kPatience), LimitOverrunError);
    send("EOF\n");
    EXPECT_EQ(way(), 4u);
    send("d\n");
    EXPECT_EQ(r.read_line(kPatience), "d\n");
  }

  // At the end of the stream there is no rest.
  send("long, ");
  EXPECT_THROW(r.read_line(kPatience), LimitOverrunError);
  send("STOP");
  half_close(pair.peer);
  EXPECT_EQ(r.read_line(kPatience), "");
}

TEST(StreamReader, ReadTakesWhatIsBufferedAndWhatTheKernelHolds) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "ab");
  await_receivable(pair.writer.native_handle(), 2);
  EXPECT_EQ(pair.reader.read(1, kPatience), "a");
  send_all(pair.peer, "cd");
  await_receivable(pair.writer.native_handle(), 2);
  EXPECT_EQ(pair.reader.read(10, kPatience), "bcd");
}

TEST(StreamReader, ReadTakesWhatIsBufferedBeforeTheError) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "abc");
  await_receivable(pair.writer.native_handle(), 3);
  EXPECT_EQ(pair.reader.read(1, kPatience), "a");
  tcpip_tests::reset(std::move(pair.peer));
  await_hang_up(pair.writer.native_handle());
  EXPECT_EQ(pair.reader.read(10, kPatience), "bc");
  EXPECT_THROW(pair.reader.read(10, kPatience), ConnectionResetError);
}

// As a small one.
TEST(StreamReader, LargeReadOfAClosedConnectionTakesNothingFromTheKernel) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  send_all(pair.peer, pattern(100'000));
  pair.writer.close();
  std::vector<std::byte> out(50'000);
  EXPECT_THROW(pair.reader.read_exactly(out, kPatience), IncompleteReadError);
}

TEST(StreamReader, MessageOverTheLimitIsRefusedAlsoIfItIsBufferedWhole) {
  for (const bool line : {true, false}) {
    LoopbackPair pair = loopback_pair(Transport::kUnix, 4);
    const auto read = [&] {
      return line ? pair.reader.read_line(kPatience)
                  : pair.reader.read_until("\n", kPatience);
    };
    send_all(pair.peer, "a\n12345\n");
    EXPECT_EQ(read(), "a\n");
    ASSERT_EQ(pair.reader.buffered(), 6u);
    EXPECT_THROW(read(), LimitOverrunError);
  }
}

TEST(StreamReader, DiscardUntilGetsPastAMessageOverTheLimit) {
  LoopbackPair pair = loopback_pair(Transport::kUnix, 4);
  send_all(pair.peer, "much too long\r\nok\r\n");
  EXPECT_THROW(pair.reader.read_until("\r\n", kPatience), LimitOverrunError);
  EXPECT_THROW(pair.reader.read_until("\r\n", kPatience), LimitOverrunError);
  EXPECT_EQ(pair.reader.discard_until("\r\n", kPatience), 15u);
  EXPECT_EQ(pair.reader.read_until("\r\n", kPatience), "ok\r\n");
}

TEST(StreamReader, HundredMegabytesWithoutSeparatorTakeLittleMemory) {
  constexpr std::size_t kTotal = 100'000'000;
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  BlockedCall flood([&] {
    const std::string chunk(100'000, 'x');
    for (std::size_t i = 0; i < kTotal; i += chunk.size()) {
      send_all(pair.peer, chunk);
    }
    send_all(pair.peer, "\r\ngood\r\n");
  });
  g_largest = 0;
  std::size_t dropped = 0;
  for (int i = 0; i < 10; ++i) {
    try {
      pair.reader.read_until("\r\n", kPatience);
      ADD_FAILURE();
    } catch (const LimitOverrunError& e) {
      EXPECT_GT(e.consumed(), kDefaultLimit);
      dropped += pair.reader.skip(e.consumed());
    }
  }
  EXPECT_EQ(pair.reader.discard_until("\r\n", kPatience), kTotal + 2 - dropped);
  EXPECT_EQ(pair.reader.read_until("\r\n", kPatience), "good\r\n");
  // The limit and one receive's worth; the flood's own chunk is smaller.
  EXPECT_LE(g_largest, 256u * 1024);
  flood.get();
}

// --- Large transfers ---

TEST(StreamReader, ReadAllOfHundredMegabytes) {
  constexpr std::size_t kTotal = 100'000'000;
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  const std::string chunk = pattern(1'000'000);
  BlockedCall sender([&] {
    for (std::size_t i = 0; i < kTotal; i += chunk.size()) {
      send_all(pair.peer, chunk);
    }
    half_close(pair.peer);
  });
  EXPECT_THROW(pair.reader.read_all(10'000'000, kPatience), LimitOverrunError);
  EXPECT_GT(pair.reader.buffered(), 10'000'000u);
  const std::string all = pair.reader.read_all(kPatience);
  sender.get();
  ASSERT_EQ(all.size(), kTotal);
  for (std::size_t i = 0; i < kTotal; i += chunk.size()) {
    ASSERT_TRUE(std::string_view(all).substr(i, chunk.size()) == chunk) << i;
  }
}

TEST(StreamReader, TenThousandMessagesOfAllSizesInOneGo) {
  for (const Transport transport : kTransports) {
    LoopbackPair pair = loopback_pair(transport);
    BlockedCall sender([&] {
      std::string all;
      for (std::size_t i = 0; i < 10'000; ++i) {
        all.append(i * 7 % 301, static_cast<char>('a' + i % 26)) += "\r\n";
      }
      send_all(pair.peer, all);
    });
    for (std::size_t i = 0; i < 10'000; ++i) {
      const std::string_view message =
          pair.reader.read_until_view("\r\n", kPatience);
      ASSERT_EQ(message.size(), i * 7 % 301 + 2);
      ASSERT_EQ(message.find_first_not_of(static_cast<char>('a' + i % 26)),
                message.size() - 2);
    }
    sender.get();
  }
}

TEST(StreamReader, MixedReadsThroughSmallSocketBuffersAreByteExact) {
  const std::string data = pattern(400'000);
  for (const Transport transport : kTransports) {
    LoopbackPair pair =
        loopback_pair(transport, 1'000'000, tcpip_tests::Buffers::kSmall);
    BlockedCall sender([&] {
      send_all(pair.peer, data);
      half_close(pair.peer);
    });
    std::string got;
    for (std::size_t turn = 0; got.size() < data.size(); ++turn) {
      const std::size_t left = data.size() - got.size();
      const std::size_t n = std::min(left, 1 + turn * turn * 37 % 40'000);
      switch (turn % 5) {
        case 0:
          got += pair.reader.read(n, kPatience);
          break;
        case 1:
          got += pair.reader.read_exactly(n, kPatience);
          break;
        case 2: {
          std::string out(n, '?');
          pair.reader.read_exactly(bytes_of(out), kPatience);
          got += out;
          break;
        }
        case 3:
          got += pair.reader.read_line(kPatience);
          break;
        case 4:
          got += pair.reader.try_read(n).value_or("");
          break;
      }
    }
    EXPECT_TRUE(got == data);
    EXPECT_EQ(pair.reader.read(1, kPatience), "");
    sender.get();
  }
}

// --- Spinning ---

TEST(StreamReader, SpinningReadFindsWhatAnyReadFinds) {
  for (const auto spin : {1us, 200us, 100'000us}) {
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    pair.reader.set_spin(spin);
    send_all(pair.peer, "one\n");
    EXPECT_EQ(pair.reader.read_line(), "one\n");
    EXPECT_THROW(pair.reader.read_line(Wait::none()), TimeoutError);
    BlockedCall call([&] { return pair.reader.read_line(); });
    send_all(pair.peer, "two\n");
    EXPECT_EQ(call.get(), "two\n");
    half_close(pair.peer);
    EXPECT_EQ(pair.reader.read_line(kPatience), "");
  }
}

TEST(StreamReader, SpinningReadEndsAtDeadlineStopAndClose) {
  constexpr auto kSpin = std::chrono::microseconds(std::chrono::hours(1));
  const auto start = Deadline::Clock::now();
  {
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    pair.reader.set_spin(kSpin);
    EXPECT_THROW(pair.reader.read_line(10ms), TimeoutError);
    EXPECT_GE(Deadline::Clock::now() - start, 10ms);
    std::stop_source stop;
    BlockedCall stopped(
        [&] { return pair.reader.read_line(stop.get_token()); });
    stop.request_stop();
    EXPECT_THROW(stopped.get(), CancelledError);
    BlockedCall closed([&] { return pair.reader.read_line(); });
    pair.writer.close();
    EXPECT_EQ(closed.get(), "");
  }
  EXPECT_LT(Deadline::Clock::now() - start, 10s);
}

// --- What it costs ---

TEST(StreamReader, ViewsAndSpansAllocateNothingOnceWarm) {
  if (!kCounting) GTEST_SKIP() << "allocations are not counted here";
  for (const Transport transport : {Transport::kUnix, Transport::kIpv4}) {
    LoopbackPair pair = loopback_pair(transport);
    StreamReader& r = pair.reader;
    std::array<std::byte, 8> out;
    const std::stop_source stop;
    const Wait waits[] = {Wait(), Wait(kPatience), Wait(stop.get_token()),
                          Wait(kPatience, stop.get_token())};
    const auto once = [&](const Wait& wait) {
      send_all(pair.peer, "a line\nuntil\r\nexactly!a struct");
      r.read_line_view(wait);
      r.read_until_view({"\r\n", "\n"}, wait);
      r.read_exactly_view(8, wait);
      r.read_exactly(std::span(out), wait);
      send_all(pair.peer, "some\r\n");
      r.read_until_view("\r\n", wait);
      send_all(pair.peer, "some");
      r.wait_readable(wait);
      r.read_view(100, wait);
    };
    for (const Wait& wait : waits) once(wait);
    const std::size_t before = g_allocations;
    for (int i = 0; i < 1000; ++i) once(waits[i % 4]);
    EXPECT_EQ(g_allocations - before, 0u) << transport;
  }
}

TEST(StreamReader, SmallWritesAllocateNothingOnceWarm) {
  if (!kCounting) GTEST_SKIP() << "allocations are not counted here";
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  std::array<char, 64> received;
  const auto once = [&] {
    pair.writer.write("a message\r\n");
    pair.writer.write_lines({"some ", "parts", "\r\n"});
    const std::string_view parts[] = {"and", "more"};
    pair.writer.write_and_drain(parts, 0, kPatience);
    pair.writer.drain(kPatience);
    while (::recv(pair.peer.get(), received.data(), received.size(),
                  MSG_DONTWAIT) > 0) {
    }
  };
  once();
  const std::size_t before = g_allocations;
  for (int i = 0; i < 1000; ++i) once();
  EXPECT_EQ(g_allocations - before, 0u);
}

std::chrono::nanoseconds cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) +
         std::chrono::nanoseconds(now.tv_nsec);
}

TEST(StreamReader, ByteByByteCostsTheSameHoweverMuchIsBuffered) {
  // CPU time of this thread per 1000 bytes, each followed by a search.
  const auto cost = [](std::size_t buffered, bool several) {
    LoopbackPair pair = loopback_pair(Transport::kUnix, std::size_t{16} << 20);
    BlockedCall sender(
        [&] { send_all(pair.peer, std::string(buffered, '\r')); });
    while (pair.reader.buffered() < buffered) {
      EXPECT_EQ(pair.reader.try_read_until("\r\n"), std::nullopt);
    }
    sender.get();
    auto best = std::chrono::nanoseconds::max();
    for (int run = 0; run < 5; ++run) {
      const auto start = cpu_time();
      for (int i = 0; i < 200; ++i) {
        send_all(pair.peer, "\r");
        const auto found = several ? pair.reader.try_read_until({"\r\n", "!"})
                                   : pair.reader.try_read_until("\r\n");
        EXPECT_EQ(found, std::nullopt);
      }
      best = std::min(best, cpu_time() - start);
    }
    return best;
  };
  // Searching the 8 MiB again for each byte would make it a thousand times.
  for (const bool several : {false, true}) {
    const auto few = cost(0, several);
    const auto many = cost(std::size_t{8} << 20, several);
    EXPECT_LT(many, 10 * few + 10ms)
        << many.count() << " ns, not " << few.count();
  }
}

// The peer chooses the bytes, and may choose those that cost most.
TEST(StreamReader, CostsTheSameForEveryByteWhateverTheSeparators) {
  const std::string half(2048, 'a');
  const std::string never = half + "b" + half;  // nearly there, all the time
  const std::string newlines(64 * 1024, '\n');
  const std::string letters(64 * 1024, 'a');
  using List = std::vector<std::string_view>;
  struct Case {
    const std::string& text;
    List separators;
  };
  for (const Case& one :
       {Case{newlines, List{"\r\n", "\n"}}, Case{newlines, List{"\n", "\r\n"}},
        Case{newlines, List{never, "\n"}}, Case{letters, List{never, "a"}},
        Case{letters, List{never}}, Case{letters, List{never, "b", "\n"}}}) {
    LoopbackPair pair = loopback_pair(Transport::kUnix, 1'000'000);
    const auto begin = std::chrono::steady_clock::now();
    BlockedCall peer([&] {
      send_all(pair.peer, one.text);
      half_close(pair.peer);
    });
    std::size_t got = 0;
    try {
      for (;;) {
        got +=
            pair.reader.read_until(std::span(one.separators), kPatience).size();
      }
    } catch (const IncompleteReadError& e) {
      got += e.partial().size();
    }
    EXPECT_EQ(got, one.text.size());
    // Some 10 ms. If each call reads all that is buffered: 20 s.
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 4s)
        << one.separators.front().substr(0, 5);
  }
}

// --- What may be in a message ---

TEST(StreamReaderTest, EveryByteValueIsJustAByte) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  for (int i = 0; i < 256; ++i) {
    LoopbackPair pair = loopback_pair(Transport::kUnix);
    send_all(pair.peer, all + all);
    const std::string separator(1, static_cast<char>(i));
    EXPECT_EQ(pair.reader.read_until(separator, kPatience),
              all.substr(0, static_cast<std::size_t>(i) + 1));
    EXPECT_EQ(pair.reader.read_until(separator, kPatience),
              all.substr(static_cast<std::size_t>(i) + 1) +
                  all.substr(0, static_cast<std::size_t>(i) + 1));
  }
}

// TCP's urgent data is no part of the stream, as for any socket that does not
// ask for it.
TEST(StreamReaderTest, AnUrgentByteIsSkipped) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "ab");
  ASSERT_EQ(::send(pair.peer.get(), "!", 1, MSG_OOB | MSG_NOSIGNAL), 1);
  send_all(pair.peer, "cd\n");
  EXPECT_EQ(pair.reader.read_until("\n", kPatience), "abcd\n");
}

TEST(StreamReaderTest, LargeReadIntoMemoryGetsAllBytesAroundAnOutOfBandOne) {
  for (const Transport transport : {Transport::kUnix, Transport::kIpv4}) {
    LoopbackPair pair = loopback_pair(transport);
    const std::string part(20'000, 'x');
    send_all(pair.peer, part);
    ASSERT_EQ(::send(pair.peer.get(), "!", 1, MSG_OOB | MSG_NOSIGNAL), 1);
    send_all(pair.peer, part + "end");
    const std::string expected =
        part + (transport == Transport::kUnix ? "!" : "") + part + "end";
    await_receivable(pair.writer.native_handle(), part.size());
    std::string got(expected.size(), '\0');
    pair.reader.read_exactly(std::as_writable_bytes(std::span(got)), kPatience);
    EXPECT_TRUE(got == expected) << name_of(transport);
  }
}

}  // namespace
}  // namespace tcpip
