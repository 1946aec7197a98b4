// Streams whose system calls and allocations fail: deadlines hold, the CPU is
// not used up, and no byte is lost, sent twice or torn off.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <functional>
#include <new>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"
#include "tests/support/blocked_call.h"
#include "tests/support/faults.h"
#include "tests/support/loopback.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;
namespace faults = tcpip_tests::faults;
using Clock = std::chrono::steady_clock;
using tcpip_tests::await_receivable;
using tcpip_tests::BlockedCall;
using tcpip_tests::Buffers;
using tcpip_tests::half_close;
using tcpip_tests::kPatience;
using tcpip_tests::loopback_pair;
using tcpip_tests::LoopbackPair;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::send_all;
using tcpip_tests::Transport;

// CPU time of the calling thread.
std::chrono::microseconds cpu_time() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  const auto of = [](const timeval& time) {
    return std::chrono::seconds(time.tv_sec) +
           std::chrono::microseconds(time.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

// Runs a call that ends at a deadline, with TimeoutError, at little cost.
void expect_timeout(std::string_view what, const std::function<void()>& call,
                    Deadline deadline) {
  const auto before = cpu_time();
  EXPECT_THROW(call(), TimeoutError) << what;
  EXPECT_TRUE(deadline.has_passed()) << what;
  EXPECT_LT(Clock::now(), deadline.when() + 2s) << what;
  EXPECT_LT(cpu_time() - before, 60ms) << what;
}

// --- The kernel refuses what poll() has promised ---

TEST(RefusedCall, DeadlineHoldsWithoutABusyLoop) {
  const std::stop_source stop;
  for (const bool stoppable : {false, true}) {
    const auto wait_for = [&](Deadline deadline) {
      return stoppable ? Wait(deadline, stop.get_token()) : Wait(deadline);
    };
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    send_all(pair.peer, "line\n");
    {
      const faults::Plan plan("recv", faults::always().error(EAGAIN).here());
      const Deadline deadline = Deadline::after(300ms);
      expect_timeout(
          "recv", [&] { pair.reader.read_line(wait_for(deadline)); }, deadline);
    }
    EXPECT_EQ(pair.reader.read_line(kPatience), "line\n");
    for (const int error : {EAGAIN, ENOBUFS, ENOMEM}) {
      const faults::Plan plan("send", faults::always().error(error).here());
      pair.writer.write("x");
      const Deadline deadline = Deadline::after(300ms);
      expect_timeout(
          "send", [&] { pair.writer.drain(wait_for(deadline)); }, deadline);
    }
    pair.writer.drain(kPatience);
    EXPECT_EQ(recv_exact(pair.peer, 3), "xxx");
  }
}

TEST(RefusedCall, StopAndCloseEndIt) {
  for (const bool stops : {true, false}) {
    LoopbackPair pair = loopback_pair(Transport::kIpv4);
    std::stop_source stop;
    send_all(pair.peer, "x");
    const faults::Plan receiving(
        "recv", faults::always().error(EAGAIN).on(pair.writer.native_handle()));
    const faults::Plan sending("send", faults::always().error(ENOBUFS).on(
                                           pair.writer.native_handle()));
    pair.writer.write("x");
    BlockedCall read([&] {
      try {
        return pair.reader.read(1, stop.get_token());
      } catch (const CancelledError&) {
        return std::string("stopped");
      }
    });
    BlockedCall drain([&] {
      try {
        pair.writer.drain(stop.get_token());
      } catch (const CancelledError&) {
        return std::string("stopped");
      } catch (const ConnectionAbortedError&) {
        return std::string("closed");
      }
      return std::string("sent");
    });
    EXPECT_TRUE(read.await_blocked());
    EXPECT_TRUE(drain.await_blocked());
    if (stops) {
      stop.request_stop();
    } else {
      pair.writer.close();
    }
    EXPECT_EQ(read.get(), stops ? "stopped" : "");
    EXPECT_EQ(drain.get(), stops ? "stopped" : "closed");
  }
}

TEST(RefusedCall, WaitThatCannotPollIsNoBusyLoop) {
  const std::stop_source stop;
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  const faults::Plan plan("ppoll", faults::always().error(ENOMEM).here());
  const Deadline deadline = Deadline::after(300ms);
  expect_timeout(
      "ppoll", [&] { pair.reader.read_line(Wait(deadline, stop.get_token())); },
      deadline);
  EXPECT_GT(plan.injected(), 1);
}

TEST(RefusedCall, LackOfMemoryIsNoEnd) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  {
    const faults::Plan plan("recv", faults::always().error(ENOMEM).here());
    EXPECT_FALSE(pair.reader.at_eof());
    EXPECT_GT(plan.injected(), 0);
  }
  send_all(pair.peer, "line\n");
  EXPECT_EQ(pair.reader.read_line(kPatience), "line\n");
}

// The separator, which is in the kernel still, is looked for first: consumed()
// is its place, as in asyncio.
TEST(ShortReceive, SeparatorBehindTheLimitIsFound) {
  LoopbackPair pair = loopback_pair(Transport::kUnix, 4);
  send_all(pair.peer, "123456\n");
  const faults::Plan plan("recv", faults::always().at_most(5).here());
  try {
    pair.reader.read_until("\n", kPatience);
    ADD_FAILURE();
  } catch (const LimitOverrunError& e) {
    EXPECT_EQ(e.consumed(), 6u);
  }
}

TEST(RefusedCall, LackOfMemoryOfTheKernelPasses) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  send_all(pair.peer, "line\n");
  {
    const faults::Plan plan("recv", faults::always().error(ENOMEM).here());
    EXPECT_THROW(pair.reader.read_line(kPatience), Error);
  }
  EXPECT_EQ(pair.reader.read_line(kPatience), "line\n");
}

// The peer is so much faster than the reader that the kernel's buffer stays
// full.
TEST(Flood, DoesNotKeepACallPastItsDeadline) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  BlockedCall flood([&] {
    const std::string data(1 << 16, 'x');
    const Deadline end = Deadline::after(10s);
    try {
      while (!end.has_passed()) send_all(pair.peer, data);
    } catch (const std::system_error&) {
    }
  });
  const faults::Plan plan("recv", faults::always().pause(5000).here());
  const Deadline deadline = Deadline::after(100ms);
  EXPECT_THROW(pair.reader.discard_until("never", deadline), TimeoutError);
  EXPECT_LT(Clock::now(), deadline.when() + 5s);
  pair.writer.close();
  pair.reader = StreamReader();
  pair.writer = StreamWriter();
  flood.get();
}

TEST(RefusedCall, LingerIsNoBusyLoop) {
  auto pair = tcpip_tests::socket_pair(Transport::kIpv4, Buffers::kSmall);
  const std::string data(1 << 20, 'x');
  const Socket::Piece piece{data.data(), data.size()};
  while (pair.socket->send_now(piece).status == IoStatus::kOk) {
  }
  pair.socket->close();
  send_all(pair.peer, "not read");
  const faults::Plan plan("recv", faults::always().error(EAGAIN).here());
  const Deadline deadline = Deadline::after(300ms);
  pair.socket->linger(deadline);
  EXPECT_TRUE(deadline.has_passed());
  EXPECT_GT(plan.injected(), 10);
  EXPECT_LT(plan.injected(), 500);  // one every 2 ms
}

TEST(RefusedCall, GoesOnOnceItIsNoLongerRefused) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  const std::stop_source stop;
  send_all(pair.peer, "x");
  const faults::Plan receiving("recv",
                               faults::always().times(5).error(EAGAIN).here());
  const faults::Plan sending("send",
                             faults::always().times(5).error(ENOBUFS).here());
  EXPECT_EQ(pair.reader.read(1, {kPatience, stop.get_token()}), "x");
  const std::string_view data = "y";
  pair.writer.write_and_drain({&data, 1}, 0, kPatience);
  {
    const faults::Exempt mine;
    EXPECT_EQ(recv_exact(pair.peer, 1), "y");
  }
}

// A sandbox may forbid to set it.
TEST(RefusedCall, ReadsWithoutReceiveTimeout) {
  LoopbackPair pair = loopback_pair(Transport::kIpv4);
  const faults::Plan plan("setsockopt", faults::always().error(EPERM).here());
  EXPECT_THROW(pair.reader.read(1, 60ms), TimeoutError);
  send_all(pair.peer, "x");
  EXPECT_EQ(pair.reader.read(1, kPatience), "x");
}

// --- No memory ---

// Calls read(reader) with the nth allocation failing, for each n, until it no
// longer fails; the message must be there each time.
void expect_kept(std::string_view what, LoopbackPair& pair,
                 std::string_view message,
                 const std::function<std::string(StreamReader&)>& read) {
  int failures = 0;
  for (int n = 1; n < 100; ++n) {
    send_all(pair.peer, message);
    await_receivable(pair.writer.native_handle(), message.size());
    for (int again = 0;; ++again) {
      bool failed = false;
      {
        const faults::Plan plan("new", faults::nth(n).error(ENOMEM).here());
        try {
          EXPECT_EQ(read(pair.reader), message) << what << " " << n;
          // Nothing failed any more: the end.
          if (plan.injected() == 0 && again == 0) {
            EXPECT_GT(failures, 0) << what;
            return;
          }
        } catch (const std::bad_alloc&) {
          failed = true;
        }
      }
      if (!failed) break;
      ++failures;
      ASSERT_LT(again, 100) << what;
      // Once more, with memory.
      EXPECT_EQ(read(pair.reader), message) << what << " " << n;
      break;
    }
  }
  FAIL() << what << ": it never ends";
}

TEST(NoMemory, MessageStaysInTheReader) {
  const std::string line = "a line that is not short enough to need none\n";
  const std::size_t size = line.size();
  const Wait wait = kPatience;
  using Read = std::function<std::string(StreamReader&)>;
  const std::vector<std::pair<const char*, Read>> reads = {
      {"read", [&](StreamReader& r) { return r.read(size, wait); }},
      {"read_line", [&](StreamReader& r) { return r.read_line(wait); }},
      {"read_until", [&](StreamReader& r) { return r.read_until("\n", wait); }},
      {"read_until list",
       [&](StreamReader& r) {
         return r.read_until({"\r\n", "\n"}, wait);
       }},
      {"read_exactly",
       [&](StreamReader& r) { return r.read_exactly(size, wait); }},
      {"try_read", [&](StreamReader& r) { return r.try_read(size).value(); }},
      {"try_read_line",
       [&](StreamReader& r) { return r.try_read_line().value(); }},
      {"try_read_until",
       [&](StreamReader& r) { return r.try_read_until("\n").value(); }},
      {"try_read_exactly",
       [&](StreamReader& r) { return r.try_read_exactly(size).value(); }}};
  for (const auto& [name, read] : reads) {
    LoopbackPair pair = loopback_pair(Transport::kUnix);
    expect_kept(name, pair, line, read);
  }
}

TEST(NoMemory, LastBytesStayForTheErrorOfTheEnd) {
  for (int n = 1; n < 100; ++n) {
    LoopbackPair pair = loopback_pair(Transport::kUnix);
    const std::string part = "not all of a message that is long enough";
    send_all(pair.peer, part);
    half_close(pair.peer);
    bool failed = false;
    {
      const faults::Plan plan("new", faults::nth(n).error(ENOMEM).here());
      try {
        pair.reader.read_until("\n", kPatience);
        ADD_FAILURE();
      } catch (const IncompleteReadError& e) {
        EXPECT_EQ(e.partial(), part) << n;
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      if (plan.injected() == 0) return;
    }
    if (!failed) continue;
    try {
      pair.reader.read_until("\n", kPatience);
      ADD_FAILURE() << n;
    } catch (const IncompleteReadError& e) {
      EXPECT_EQ(e.partial(), part) << n;
    }
  }
  FAIL() << "it never ends";
}

TEST(NoMemory, TextStaysInTheReader) {
  for (const char* encoding : {"utf-8", "latin-1", "utf-16"}) {
    OneClientServer server({.host = "127.0.0.1", .encoding = encoding});
    server.start();
    Client client(
        {.host = "127.0.0.1", .port = server.port(), .encoding = encoding});
    client.start(kPatience);
    ASSERT_TRUE(server.wait_connected(kPatience));
    const std::string text = "a text that is long enough to need memory";
    int failures = 0;
    bool ended = false;
    for (int n = 1; n < 100 && !ended; ++n) {
      client.write_str(text, kPatience);
      bool failed = false;
      {
        const faults::Plan plan("new", faults::nth(n).error(ENOMEM).here());
        try {
          EXPECT_EQ(server.read_str(kPatience), text) << encoding << n;
        } catch (const std::bad_alloc&) {
          failed = true;
          ++failures;
        }
        ended = plan.injected() == 0;
      }
      if (failed) {
        EXPECT_EQ(server.read_str(kPatience), text) << encoding << n;
      }
    }
    EXPECT_TRUE(ended);
    EXPECT_GT(failures, 0) << encoding;
  }
}

// Whatever fails, the peer finds whole messages, and none twice that write()
// was said to have failed for and that was written once more.
TEST(NoMemory, NoMessageIsTornOrSentTwice) {
  for (const bool gathered : {false, true}) {
    int failures = 0;
    bool ended = false;
    for (int n = 1; n < 100 && !ended; ++n) {
      LoopbackPair pair =
          loopback_pair(Transport::kUnix, kDefaultLimit, Buffers::kSmall);
      const std::string large = std::string(200'000, 'l') + "\n";
      // A few parts, so that it is sent without being copied together.
      const std::vector<std::string_view> parts(
          gathered ? 40 : 1, gathered ? std::string_view(large).substr(190'000)
                                      : std::string_view(large));
      bool queued = false;
      std::string whole;
      for (const std::string_view part : parts) whole += part;
      {
        const faults::Plan plan("new", faults::nth(n).error(ENOMEM).here());
        try {
          pair.writer.write_and_drain(parts, 0, 10ms);
          ADD_FAILURE() << "the peer does not read";
        } catch (const TimeoutError& e) {
          EXPECT_TRUE(e.queued()) << n;
          queued = true;
        } catch (const std::bad_alloc&) {
          ++failures;
        }
        ended = plan.injected() == 0;
      }
      BlockedCall peer([&] { return recv_until_eof(pair.peer); });
      std::string expected = queued ? whole : "";
      bool alive = true;
      try {
        const std::string_view next = "next\n";
        pair.writer.write_and_drain({&next, 1}, 0, kPatience);
        expected += next;
      } catch (const ConnectionError&) {
        alive = false;
      }
      pair.writer.close();
      const std::string got = peer.get();
      if (alive) {
        EXPECT_TRUE(got == expected) << n << ": " << got.size();
      } else {
        EXPECT_TRUE(whole.starts_with(got)) << n << ": " << got.size();
        EXPECT_LT(got.size(), whole.size());
      }
    }
    EXPECT_TRUE(ended);
    EXPECT_GT(failures, 0);
  }
}

// --- A blocked write and the end of its connection ---

TEST(BlockedWrite, TellsOfTheResetAsTheEventDoes) {
  const std::string large(32 * 1024 * 1024, 'x');  // more than the kernel takes
  for (int i = 0; i < 20; ++i) {
    OneClientServer server({.host = "127.0.0.1"});
    server.start();
    tcpip::UniqueFd peer = tcpip_tests::connect_plain(
        Transport::kIpv4, static_cast<std::uint16_t>(server.port()));
    ASSERT_TRUE(server.wait_connected(kPatience));
    BlockedCall write([&]() -> std::string {
      try {
        server.write(large, kPatience);
      } catch (const ConnectionResetError&) {
        return "reset";
      } catch (const std::exception& e) {
        return e.what();
      }
      return "sent";
    });
    ASSERT_TRUE(write.await_blocked());
    tcpip_tests::reset(std::move(peer));
    EXPECT_EQ(write.get(), "reset") << i;
  }
}

}  // namespace
}  // namespace tcpip
