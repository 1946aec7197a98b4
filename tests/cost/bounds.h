// What each work may cost. Who makes a work cheaper lowers its bound: the test
// says so, and prints the new line. Who raises one says why in the commit.
//
// Threads: constants.
#ifndef TESTS_COST_BOUNDS_H_
#define TESTS_COST_BOUNDS_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace tcpip_tests {

struct Bound {
  std::string_view work;  // as in works.cc
  // The calls of one message, or one connection, by name: system calls, and
  // what catch.cc names. There are no others. The test fails if there are
  // fewer, too, since the bound is then out of date.
  std::string_view calls;
  // A ceiling, some 15 % above what callgrind counted; 0: none. Callgrind
  // counts the library's code and that of libc and libstdc++, not the kernel's.
  std::uint64_t instructions = 0;
};

// The ceilings of instructions are for the flags of the g++ lane and this
// version of g++, on x86-64. So are allocations, if more than one: the standard
// library's are among them.
inline constexpr int kCompiler = 12;
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && \
    defined(_GLIBCXX_ASSERTIONS)
inline constexpr bool kHasBoundsOfTheCompiler = __GNUC__ == kCompiler;
#else
inline constexpr bool kHasBoundsOfTheCompiler = false;
#endif

// So many messages are counted, and as many warm up before.
inline constexpr int kCountedMessages = 100;

inline constexpr Bound kBounds[] = {
    {"streams: read_line_view, write, drain", "lock 1, recv 1, send 1", 1480},
    {"streams: the same with a deadline", "clock 2, lock 1, recv 1, send 1",
     2230},
    {"streams: the same with a stop", "lock 1, ppoll 1, recv 1, send 1", 2140},
    {"streams: the same with both", "clock 2, lock 1, ppoll 1, recv 1, send 1",
     2810},
    {"streams: read_line, write", "lock 1, malloc 1, recv 1, send 1", 1830},
    {"streams: read_exactly of a span, write_and_drain",
     "lock 1, recv 1, send 1", 1910},
    {"streams: read_into, write_from", "lock 1, recv 1, send 1", 2090},
    {"Client: read_str, write_str", "clock 2, lock 1, malloc 1, recv 1, send 1",
     2930},
    {"Client: read_str, write_str with a deadline",
     "clock 4, lock 1, malloc 1, recv 1, send 1", 3680},
    {"Client: read_str, write_str with a stop",
     "clock 2, lock 1, malloc 1, ppoll 1, recv 1, send 1", 3640},
    {"Client: read_str, write_str with both",
     "clock 4, lock 1, malloc 1, ppoll 1, recv 1, send 1", 4310},
    {"Client: read_str, write_str of a short text",
     "clock 2, lock 1, recv 1, send 1", 3050},
    {"Client: read_into, write_from", "clock 2, lock 1, recv 1, send 1", 2450},
    {"Client: write", "clock 1, lock 1, send 1", 920},
    {"Client: send_str", "clock 1, lock 1, send 1", 1200},
    {"Client: try_send_str", "clock 1, lock 1, send 1", 1200},
    {"Client: try_read_str of nothing", "recv 1", 1060},
    {"Connection: read_str, write_str with a stop",
     "clock 2, lock 1, malloc 1, ppoll 1, recv 1, send 1", 3890},
    {"OneClientServer: read_str, write_str",
     "clock 2, lock 1, malloc 1, recv 1, send 1", 2930},
    {"OneClientServer: read_str, write_str with both",
     "clock 4, lock 1, malloc 1, ppoll 1, recv 1, send 1", 4310},
    {"Client and OneClientServer: a round trip",
     "clock 4, lock 2, malloc 2, recv 2, send 2", 6100},
    {"SendQueue: post to a writer that is awake", "", 560},
    {"open_connection",
     "clock 1, close 1, connect 1, eventfd 1, fcntl 1, getaddrinfo 1, "
     "getpeername 1, getsockname 1, getsockopt 1, malloc 12, ppoll 1, "
     "setsockopt 6, socket 1",
     9330},
    {"OneClientReadLoopServer: read_str, write_str",
     "clock 2, lock 2, malloc 1, ppoll 1, recv 1, send 1"},
    {"accept thread: a client connects",
     "accept4 1, clock 3, getsockname 1, lock 13, malloc 19, ppoll 1"},
    {"accept thread: a client closes",
     "clock 2, close 1, lock 14, ppoll 1, recv 2, shutdown 1"},
    {"accept thread: a client is turned away",
     "accept4 1, clock 4, close 1, ioctl 1, lock 7, malloc 4, poll 1, ppoll 1, "
     "recv 2, shutdown 1"},
};

// Null if there is none.
inline const Bound* find_bound(std::string_view work) {
  const Bound* const bound =
      std::ranges::find(kBounds, work, [](const Bound& b) { return b.work; });
  return bound == std::end(kBounds) ? nullptr : bound;
}

}  // namespace tcpip_tests

#endif  // TESTS_COST_BOUNDS_H_
