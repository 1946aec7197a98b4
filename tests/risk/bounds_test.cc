// Memory and CPU time stay bounded, whatever the peer sends and however it
// comes and goes. Reconnects as many as a few seconds allow, unless told
// otherwise:
//
//   bazel test --test_arg=--reconnects=1000000 ...
//
// CPU time is that of the thread or the process, the least of several tries,
// and is compared with what a bare loop of system calls takes in the same test.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <latch>
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

#include "tcpip/callback_queue.h"
#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"
#include "tcpip/options.h"
#include "tcpip/stream_reader.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wire_struct.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/sanitizers.h"
#include "tests/support/sockets.h"
#include "tests/support/stage.h"

namespace tcpip_tests {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using tcpip::CallbackQueue;
using tcpip::Connection;
using tcpip::LimitOverrunError;
using tcpip::OneClientServer;
using tcpip::ServerOptions;
using tcpip::StreamReader;
using tcpip::TimeoutError;
using tcpip::UniqueFd;
using tcpip::Wait;
using Views = std::vector<std::string_view>;

std::optional<std::uint64_t> flag(std::string_view name) {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string prefix = "--" + std::string(name) + "=";
  for (std::string argument; std::getline(file, argument, '\0');) {
    if (argument.starts_with(prefix)) {
      return std::stoull(argument.substr(prefix.size()));
    }
  }
  return std::nullopt;
}

constexpr auto case_name = [](const auto& parameter) {
  return std::string(parameter.param.name);
};

// --- Memory ---

// The resident memory of this process, in bytes.
std::size_t resident() {
  ::malloc_trim(0);
  std::size_t size = 0;
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> size >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

constexpr std::size_t kMiB = 1024 * 1024;
constexpr std::size_t kFlood = kWithSanitizer ? 20 * kMiB : 100 * kMiB;

// How much memory use() takes that it did not take when it ran before, with
// less. `use` is called with a number of bytes, or of rounds.
void expect_flat(std::size_t before, std::size_t all,
                 const std::function<void(std::size_t)>& use) {
  use(before);
  const std::size_t start = resident();
  use(all);
  const std::size_t end = resident();
  std::printf("%zu KiB more after %zu\n",
              end > start ? (end - start) / 1024 : 0, all);
  if (kWithSanitizer) {
    std::printf("not compared: a sanitizer keeps memory that is freed\n");
    return;
  }
  EXPECT_LE(end, start + 2 * kMiB);
}

// Sends without an end, in a thread of its own, until it has sent so much or
// the connection breaks.
class Flood {
 public:
  Flood(const UniqueFd& peer, std::size_t size)
      : thread_([this, fd = peer.get(), size] {
          const std::string block(64 * 1024, 'x');
          while (sent_ < size) {
            const ssize_t count =
                ::send(fd, block.data(), std::min(block.size(), size - sent_),
                       MSG_NOSIGNAL);
            if (count <= 0) break;
            sent_ += static_cast<std::size_t>(count);
          }
          ::shutdown(fd, SHUT_WR);
        }) {}
  std::size_t sent() {
    thread_.join();
    return sent_;
  }

 private:
  std::atomic<std::size_t> sent_{0};
  std::jthread thread_;
};

// Reads until the end of the stream with read(), which returns how many bytes
// it took.
using ReadSome = std::function<std::size_t(StreamReader&)>;

void flood_reader(std::size_t size, const ReadSome& read) {
  LoopbackPair pair = loopback_pair(Transport::kUnix);
  Flood flood(pair.peer, size);
  std::size_t taken = 0;
  std::size_t most = 0;
  try {
    while (const std::size_t count = read(pair.reader)) {
      taken += count;
      most = std::max(most, pair.reader.buffered());
    }
  } catch (const tcpip::IncompleteReadError& e) {
    taken += e.partial().size();
  }
  EXPECT_EQ(flood.sent(), size);
  EXPECT_EQ(taken, size);
  // Twice the limit, and one receive.
  EXPECT_LE(most, 4 * tcpip::kDefaultLimit + 64 * 1024);
}

struct FloodCase {
  const char* name;
  ReadSome read;
};
void PrintTo(const FloodCase& c, std::ostream* out) { *out << c.name; }
class ReaderFlood : public testing::TestWithParam<FloodCase> {};

TEST_P(ReaderFlood, TakesNoMoreMemory) {
  const HangGuard guard;
  expect_flat(4 * kMiB, kFlood,
              [](std::size_t size) { flood_reader(size, GetParam().read); });
}

std::size_t skip_overrun(StreamReader& reader,
                         const std::function<void()>& read) {
  try {
    read();
  } catch (const LimitOverrunError& e) {
    EXPECT_GT(e.consumed(), tcpip::kDefaultLimit);
    return reader.skip(e.consumed());
  }
  return 0;
}

INSTANTIATE_TEST_SUITE_P(
    Calls, ReaderFlood,
    testing::Values(
        FloodCase{"Read",
                  [](StreamReader& reader) {
                    return reader.read(100'000, kPatience).size();
                  }},
        FloodCase{"ReadUntilAndSkip",
                  [](StreamReader& reader) {
                    return skip_overrun(
                        reader, [&] { reader.read_until("\n", kPatience); });
                  }},
        FloodCase{"ReadUntilAnyAndSkip",
                  [](StreamReader& reader) {
                    return skip_overrun(reader, [&] {
                      reader.read_until({"\r\n", "\n", "xxxy"}, kPatience);
                    });
                  }},
        FloodCase{"DiscardUntil",
                  [](StreamReader& reader) {
                    const std::uint64_t before = reader.received();
                    try {
                      reader.discard_until("xy", kPatience);
                      ADD_FAILURE() << "there is no separator";
                    } catch (const tcpip::IncompleteReadError& e) {
                      EXPECT_EQ(e.partial(),
                                reader.received() > before ? "x" : "");
                    }
                    return reader.received() - before;
                  }},
        FloodCase{"ReadLine",
                  [](StreamReader& reader) {
                    const std::uint64_t before = reader.received();
                    if (reader.has_ended()) return std::uint64_t{0};
                    EXPECT_THROW(reader.read_line(kPatience),
                                 LimitOverrunError);
                    // The rest of that line is no line.
                    EXPECT_EQ(reader.read_line(kPatience), "");
                    return reader.received() - before;
                  }},
        FloodCase{"ReadExactly",
                  [](StreamReader& reader) {
                    return reader.read_exactly(10'000, kPatience).size();
                  }}),
    case_name);

TEST(Flood, ReadLoopThatFailsTakesNoMoreMemory) {
  std::atomic<int> overruns{0};
  ReadLoopStage server([&](Connection& client, const std::stop_token& stop) {
    try {
      client.read_str(stop);
    } catch (const LimitOverrunError&) {
      ++overruns;
      throw;
    }
  });
  // The connection ends at the limit; the peer comes again.
  expect_flat(4 * kMiB, kFlood, [&](std::size_t size) {
    for (std::size_t sent = 0; sent < size;) {
      const UniqueFd peer = server.connect();
      sent += Flood(peer, size - sent).sent();
    }
  });
  EXPECT_GT(overruns, 0);
}

TEST(Flood, ReadLoopThatRecoversTakesNoMoreMemory) {
  std::atomic<std::size_t> dropped{0};
  std::atomic<int> good{0};
  ReadLoopStage server([&](Connection& client, const std::stop_token& stop) {
    try {
      if (client.read_str(stop) == "good") ++good;
    } catch (const LimitOverrunError&) {
      dropped += client.discard_until("\r\n", stop);
    }
  });
  std::size_t sent = 0;
  int floods = 0;
  expect_flat(4 * kMiB, kFlood, [&](std::size_t size) {
    const UniqueFd peer = server.connect();
    for (std::size_t left = size; left > 0;) {
      const std::string block(std::min<std::size_t>(left, 100'000), 'x');
      send_all(peer, block);
      left -= block.size();
    }
    send_all(peer, "\r\ngood\r\n");
    sent += size + 2;
    ++floods;
    EXPECT_TRUE(eventually([&] { return good == floods; }));
  });
  EXPECT_EQ(dropped, sent);
}

TEST(Flood, ClientTakesNoMoreMemory) {
  ClientStage client;
  std::size_t taken = 0;
  std::size_t sent = 0;
  expect_flat(4 * kMiB, kFlood, [&](std::size_t size) {
    std::jthread sending([&] {
      const std::string block(64 * 1024, 'x');
      for (std::size_t i = 0; i < size; i += block.size()) {
        send_all(client.peer, block);
      }
    });
    for (sent += size; taken < sent;) {
      try {
        client->read_str(kPatience);
      } catch (const LimitOverrunError& e) {
        taken += client->skip(e.consumed());
      }
      // As many, without a terminator of two bytes, are no overrun yet.
      if (sent - taken <= tcpip::kDefaultLimit + 1) {
        taken += client->read_exactly(sent - taken, kPatience).size();
      }
    }
  });
  EXPECT_TRUE(client->connected());
}

// The kernel makes the peer wait.
TEST(Flood, ServerThatNobodyReadsTakesNoMoreMemory) {
  ServedStage server;
  const std::size_t start = resident();
  const std::string block(64 * 1024, 'x');
  ::fcntl(server.peer.get(), F_SETFL, O_NONBLOCK);
  for (std::size_t sent = 0; sent < kFlood;) {
    const ssize_t count =
        ::send(server.peer.get(), block.data(), block.size(), MSG_NOSIGNAL);
    if (count > 0) {
      sent += static_cast<std::size_t>(count);
      continue;
    }
    EXPECT_EQ(errno, EAGAIN);
    pollfd writable{server.peer.get(), POLLOUT, 0};
    if (::poll(&writable, 1, 200) == 0) break;
  }
  if (!kWithSanitizer) {
    EXPECT_LE(resident(), start + 2 * kMiB);
  }
  EXPECT_TRUE(server->connected());
}

// --- The limit ---

struct Edge {
  std::optional<std::string> message;  // nothing: waits for more
  std::size_t consumed = 0;            // of an overrun
  bool operator==(const Edge&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Edge& edge) {
    if (edge.consumed > 0) return out << "overrun of " << edge.consumed;
    if (!edge.message) return out << "nothing";
    return out << edge.message->size() << " bytes";
  }
};

Edge edge_of(StreamReader& reader, std::string_view separator) {
  try {
    return {reader.try_read_until(separator)};
  } catch (const LimitOverrunError& e) {
    return {std::nullopt, e.consumed()};
  }
}

TEST(Limit, HoldsToTheByteForEverySeparatorAndEverySplit) {
  const HangGuard guard;
  for (const std::size_t limit :
       {std::size_t{1}, std::size_t{16}, tcpip::kDefaultLimit}) {
    for (const std::string& separator :
         {std::string("\n"), std::string("\r\n"), std::string(32, 's'),
          std::string(33, 's'), std::string(4095, 's') + "t"}) {
      SCOPED_TRACE("limit " + std::to_string(limit) + ", separator of " +
                   std::to_string(separator.size()));
      const std::size_t step = 1 + separator.size() / 8;
      for (std::size_t size = limit - 1; size <= limit + 1; ++size) {
        const std::string text(size, 'x');
        for (std::size_t cut = 0; cut <= separator.size(); cut += step) {
          // The separator comes in two pieces.
          LoopbackPair pair = loopback_pair(Transport::kUnix, limit);
          send_all(pair.peer, text + separator.substr(0, cut));
          const Edge first = edge_of(pair.reader, separator);
          if (cut < separator.size()) {
            // All but a whole separator may wait for more.
            const std::size_t most = limit + separator.size() - 1;
            EXPECT_EQ(first, size + cut > most
                                 ? (Edge{{}, size + cut + 1 - separator.size()})
                                 : Edge{});
            send_all(pair.peer, separator.substr(cut));
          }
          const Edge last =
              cut < separator.size() ? edge_of(pair.reader, separator) : first;
          EXPECT_EQ(last,
                    size > limit ? (Edge{{}, size}) : (Edge{text + separator}));
          if (testing::Test::HasFailure()) return;
        }
      }
      // Without a separator.
      for (std::size_t more = 0; more <= 2; ++more) {
        const std::size_t size = limit + separator.size() + more - 2;
        LoopbackPair pair = loopback_pair(Transport::kUnix, limit);
        send_all(pair.peer, std::string(size, 'x'));
        EXPECT_EQ(edge_of(pair.reader, separator),
                  more == 2 ? (Edge{{}, limit + 1}) : Edge{});
      }
    }
  }
}

TEST(Limit, LineHoldsToTheByte) {
  const HangGuard guard;
  for (const std::size_t limit :
       {std::size_t{1}, std::size_t{16}, tcpip::kDefaultLimit}) {
    for (std::size_t size = limit - 1; size <= limit + 1; ++size) {
      for (const bool split : {false, true}) {
        LoopbackPair pair = loopback_pair(Transport::kUnix, limit);
        const std::string text(size, 'x');
        send_all(pair.peer, text + (split ? "" : "\nnext\n"));
        if (split) {
          if (size > limit) {
            EXPECT_THROW(pair.reader.try_read_line(), LimitOverrunError);
          } else {
            EXPECT_EQ(pair.reader.try_read_line(), std::nullopt);
          }
          send_all(pair.peer, "\nnext\n");
        }
        if (size <= limit) {
          EXPECT_EQ(pair.reader.try_read_line(), text + "\n");
        } else if (!split) {
          EXPECT_THROW(pair.reader.try_read_line(), LimitOverrunError);
        }
        if (limit >= 4) {
          EXPECT_EQ(pair.reader.try_read_line(), "next\n");
        }
      }
    }
  }
}

// --- CPU time of reads ---

nanoseconds cpu_time(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + nanoseconds(time.tv_nsec);
}

// The least of several tries, of the calling thread.
nanoseconds least_cpu_time(const std::function<void()>& work) {
  nanoseconds least = nanoseconds::max();
  for (int i = 0; i < 3; ++i) {
    const nanoseconds start = cpu_time(CLOCK_THREAD_CPUTIME_ID);
    work();
    least = std::min(least, cpu_time(CLOCK_THREAD_CPUTIME_ID) - start);
  }
  return least;
}

// What is left of a factor when the library is slowed down but not the kernel.
constexpr int kSlower = kWithSanitizer ? 10 : 1;
constexpr std::size_t kLong = kWithSanitizer ? 32 * 1024 : 128 * 1024;

// A byte is sent, and what has come is received, without waiting. The same
// system calls as of a read that does not wait.
void bare_loop(std::size_t size) {
  const FdPair pair = fd_pair(Transport::kUnix);
  std::string buffer(65536, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    send_all(pair.peer, "a");
    for (int k = 0; k < 2; ++k) {
      static_cast<void>(
          ::recv(pair.ours.get(), buffer.data(), buffer.size(), MSG_DONTWAIT));
    }
  }
}

using TryRead = std::function<bool(StreamReader&)>;

// A message comes byte by byte, and is looked for after each.
void byte_by_byte(std::string_view message, const TryRead& read) {
  LoopbackPair pair = loopback_pair(Transport::kUnix, 2 * message.size());
  for (std::size_t i = 0; i < message.size(); ++i) {
    send_all(pair.peer, message.substr(i, 1));
    if (read(pair.reader) != (i + 1 == message.size())) {
      ADD_FAILURE() << "after " << i + 1 << " bytes";
      return;
    }
  }
}

// The whole message is in the kernel, or comes as fast as it is read.
void in_large_chunks(std::string_view message, const TryRead& read) {
  LoopbackPair pair = loopback_pair(Transport::kUnix, 2 * message.size());
  for (std::size_t i = 0; i < message.size(); i += 16384) {
    send_all(pair.peer, message.substr(i, 16384));
    if (read(pair.reader) != (i + 16384 >= message.size())) {
      ADD_FAILURE() << "after " << i << " bytes";
      return;
    }
  }
}

struct ReadCase {
  const char* name;
  TryRead read;
};
void PrintTo(const ReadCase& c, std::ostream* out) { *out << c.name; }
class ByteByByte : public testing::TestWithParam<ReadCase> {};

TEST_P(ByteByByte, CostsNoMoreThanThreeTimesABareLoop) {
  const HangGuard guard;
  const std::string message = std::string(kLong - 1, 'a') + "\n";
  const nanoseconds bare = least_cpu_time([&] { bare_loop(kLong); });
  const nanoseconds ours =
      least_cpu_time([&] { byte_by_byte(message, GetParam().read); });
  std::printf(
      "%.2f times a bare loop\n",
      static_cast<double>(ours.count()) / static_cast<double>(bare.count()));
  EXPECT_LE(ours, 3 * kSlower * bare);
}

INSTANTIATE_TEST_SUITE_P(
    Calls, ByteByByte,
    testing::Values(
        ReadCase{"ReadLine",
                 [](StreamReader& reader) {
                   return reader.try_read_line().has_value();
                 }},
        ReadCase{"ReadUntil",
                 [](StreamReader& reader) {
                   return reader.try_read_until("\n").has_value();
                 }},
        ReadCase{"ReadUntilTwoBytes",
                 [](StreamReader& reader) {
                   return reader.try_read_until("a\n").has_value();
                 }},
        ReadCase{"ReadUntilAny",
                 [](StreamReader& reader) {
                   return reader.try_read_until({"\n", "b", "ab"}).has_value();
                 }},
        ReadCase{"ReadExactly",
                 [](StreamReader& reader) {
                   return reader.try_read_exactly(kLong).has_value();
                 }},
        ReadCase{"ReadInto",
                 [](StreamReader& reader) {
                   static std::array<std::uint8_t, kLong> memory;
                   return tcpip::try_read_into(reader, memory);
                 }}),
    case_name);

// Whatever the separators, and although the bytes are the worst for them.
struct SeparatorCase {
  const char* name;
  std::vector<std::string> separators;
  // How many compares a byte may cost.
  std::size_t compares = 1;
};
void PrintTo(const SeparatorCase& c, std::ostream* out) { *out << c.name; }
class Separators : public testing::TestWithParam<SeparatorCase> {};

std::vector<std::string> many_separators(std::size_t size) {
  std::vector<std::string> result;
  for (int i = 0; i < 200; ++i) {
    result.push_back(std::string(size, 'a') + static_cast<char>('b' + i % 20) +
                     std::to_string(i));
  }
  result.push_back("\n");
  return result;
}

TEST_P(Separators, CostNoMoreThanTheirNumber) {
  const HangGuard guard;
  const SeparatorCase& c = GetParam();
  const std::string message =
      std::string(kLong - c.separators.back().size(), 'a') +
      c.separators.back();
  const Views views(c.separators.begin(), c.separators.end());
  const TryRead read = [&](StreamReader& reader) {
    try {
      reader.read_until(std::span(views), Wait::none());
      return true;
    } catch (const TimeoutError&) {
      return false;
    }
  };
  // What a byte may cost: measured here, in this build, on this machine.
  const nanoseconds one_pass = least_cpu_time([&] {
    std::size_t count = 0;
    for (const char& each : message) {
      asm volatile("" : : "r"(&each) : "memory");
      count += each == 'a' ? 1 : 0;
    }
    EXPECT_GT(count, 0u);
  });
  const nanoseconds chunks =
      least_cpu_time([&] { in_large_chunks(message, read); });
  std::printf("in chunks: %.1f passes over the bytes\n",
              static_cast<double>(chunks.count()) /
                  static_cast<double>(one_pass.count()));
  EXPECT_LE(chunks, 20ms + 10 * c.compares * kSlower * one_pass);
  // Byte by byte a search begins and stops for each, and so does an exception.
  // With a sanitizer that takes too long for long separators.
  if (kWithSanitizer && c.separators.back().size() > 512) return;
  const std::string end =
      message.substr(message.size() - (kWithSanitizer ? 512 : 8192));
  const nanoseconds bare = least_cpu_time([&] { bare_loop(end.size()); });
  const nanoseconds bytes = least_cpu_time([&] { byte_by_byte(end, read); });
  std::printf(
      "byte by byte: %.1f times a bare loop\n",
      static_cast<double>(bytes.count()) / static_cast<double>(bare.count()));
  EXPECT_LE(bytes, (12 + c.compares) * kSlower * bare);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, Separators,
    testing::Values(
        SeparatorCase{"OneByte", {"\n"}},
        SeparatorCase{"LastByteOften", {"ba"}},
        SeparatorCase{"ShortOfOneKind", {std::string(31, 'a') + "b"}, 4},
        SeparatorCase{"JustLong", {std::string(32, 'a') + "b"}, 4},
        SeparatorCase{"FourKiB", {std::string(4095, 'a') + "b"}, 4},
        SeparatorCase{"FourKiBWithTheDifferenceInFront",
                      {"b" + std::string(4095, 'a')},
                      4},
        SeparatorCase{"FourKiBWithTheDifferenceInTheMiddle",
                      {std::string(2048, 'a') + "b" + std::string(2047, 'a')},
                      4},
        SeparatorCase{"TwoHundredShort", many_separators(1), 201},
        SeparatorCase{"TwoHundredLong", many_separators(100), 400},
        SeparatorCase{"PrefixesOfEachOther",
                      {"aaaaaaaab", "aaaaaab", "aaaab", "aab", "b"},
                      8}),
    case_name);

// --- What nobody drains ---

TEST(Bounds, QueueThatNobodyDrainsTakesNoMoreMemory) {
  CallbackQueue queue;
  std::size_t taken = 0;
  expect_flat(2000, 1'000'000, [&](std::size_t posts) {
    for (std::size_t i = 0; i < posts; ++i) {
      // A callback that needs memory of its own.
      taken += queue.post([text = std::string(100, 'x')] {}) ? 1 : 0;
    }
  });
  EXPECT_EQ(taken, tcpip::kDefaultQueueSize);
  EXPECT_EQ(queue.size(), tcpip::kDefaultQueueSize);
}

// As connect_to(), and at the end it leaves nothing in the kernel.
void come_and_go(int port) { reset(connect_to(port)); }

// As often as --reconnects says.
std::size_t reconnects(std::size_t otherwise) {
  return flag("reconnects").value_or(otherwise);
}

TEST(Bounds, EventsThatNobodyDrainsAreBoundedHoweverManyClientsCome) {
  ServerStage<> server(Queued{}, {});
  const int port = server->port();
  // As many as are let in; then the next ones wait in the kernel.
  while (server.queue.size() < tcpip::kMaxWaitingEvents + 1) {
    const std::size_t before = server.queue.size();
    come_and_go(port);
    ASSERT_TRUE(eventually([&] { return server.queue.size() > before; }));
  }
  std::size_t tries = 0;
  expect_flat(500, reconnects(10'000), [&](std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      UniqueFd fd(
          ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(static_cast<std::uint16_t>(port));
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      static_cast<void>(::connect(fd.get(),
                                  reinterpret_cast<const sockaddr*>(&address),
                                  sizeof address));
      reset(std::move(fd));
      ++tries;
    }
    EXPECT_LE(server.queue.size(), tcpip::kMaxWaitingEvents + 2);
  });
  EXPECT_GT(tries, 0u);
}

TEST(Bounds, ReconnectsTakeNoMoreMemory) {
  std::atomic<std::uint64_t> events{0};
  const HangGuard guard(60 + static_cast<unsigned>(reconnects(0) / 500));
  OneClientServer server(ServerOptions{
      .host = "127.0.0.1",
      .connect_callback = [&](const tcpip::ConnectionEvent&) { ++events; }});
  server.start(kPatience);
  const std::size_t count = reconnects(kWithSanitizer ? 1000 : 10'000);
  expect_flat(500, count, [&](std::size_t rounds) {
    for (std::size_t i = 0; i < rounds; ++i) {
      UniqueFd peer = connect_to(server.port());
      ASSERT_TRUE(server.wait_client(kPatience).has_value());
      reset(std::move(peer));
    }
  });
  EXPECT_TRUE(eventually([&] { return events == 2 * (count + 500); }));
}

// --- No busy loop ---

nanoseconds process_cpu_time() { return cpu_time(CLOCK_PROCESS_CPUTIME_ID); }

// At most `most` of CPU time in this process while nothing happens: the least
// of several times 2 s. The rule is 10 ms in 10 s; a busy loop takes 2 s.
void expect_idle(nanoseconds most = 2ms) {
  // ThreadSanitizer has a thread that wakes up ten times a second.
  if (kWithSanitizer) most += 100ms;
  nanoseconds least = nanoseconds::max();
  for (int i = 0; i < 3 && least > most; ++i) {
    const nanoseconds start = process_cpu_time();
    ::poll(nullptr, 0, 2000);  // how much in that time is the question
    least = std::min(least, process_cpu_time() - start);
  }
  std::printf("%.2f ms in 2 s\n", static_cast<double>(least.count()) / 1e6);
  EXPECT_LE(least, most);
}

// The accept thread was woken for that.
TEST(Idle, ServerThatHasClosedItsClientTakesNoTime) {
  ServerStage<> server;
  {
    const UniqueFd peer = server.connect();
    server->close_client();
    EXPECT_EQ(recv_until_eof(peer), "");
  }
  expect_idle();
}

TEST(Idle, ServerWithoutAndWithAClientTakesNoTime) {
  ServerStage<> server;
  expect_idle();
  const UniqueFd peer = server.connect();
  expect_idle();
}

TEST(Idle, ReadLoopServerAndClientTakeNoTime) {
  ReadLoopStage server([](Connection& client, const std::stop_token& stop) {
    client.read_str(stop);
  });
  tcpip::Client client({.host = "127.0.0.1", .port = server->port()});
  client.start(kPatience);
  EXPECT_TRUE(server->wait_connected(kPatience));
  expect_idle();
}

TEST(Idle, HeartbeatsEverySecondTakeNoTime) {
  ReadLoopStage server(
      [](Connection& client, const std::stop_token& stop) {
        client.read_str(stop);
      },
      {.heartbeats = {.send = true, .expect = true}});
  tcpip::Client client({.host = "127.0.0.1",
                        .port = server->port(),
                        .heartbeats = {.send = true, .expect = true}});
  client.start(kPatience);
  std::jthread reading([&](const std::stop_token& stop) {
    try {
      client.read_str(stop);
    } catch (const tcpip::CancelledError&) {
    }
  });
  EXPECT_TRUE(server->wait_connected(kPatience));
  expect_idle();
  EXPECT_TRUE(client.connected());
}

// The next client waits for a handler that is busy with the last one.
TEST(Idle, ClientThatWaitsForABusyHandlerTakesNoTime) {
  std::latch busy(1);
  std::latch go_on(1);
  ReadLoopStage server(
      [&](Connection& client, const std::stop_token& stop) {
        client.read_str(stop);
        busy.count_down();
        go_on.wait();
      },
      {.heartbeats = {.send = true}, .finish_time = 1h});
  const UniqueFd peer = server.connect();
  send_all(peer, "work\r\nmore\r\n");
  half_close(peer);
  busy.wait();
  expect_idle();
  const UniqueFd next = connect_to(server->port());
  expect_idle();
  EXPECT_EQ(server->connection_count(), 1u);
  go_on.count_down();
}

TEST(Idle, FullQueueOfEventsTakesNoTime) {
  ServerStage<> server(Queued{}, {});
  while (server.queue.size() < tcpip::kMaxWaitingEvents + 1) {
    const std::size_t before = server.queue.size();
    come_and_go(server->port());
    ASSERT_TRUE(eventually([&] { return server.queue.size() > before; }));
  }
  const UniqueFd waiting = connect_to(server->port());
  const UniqueFd next = connect_to(server->port());
  expect_idle();
}

// A peer that does not close, and one whose reset nobody has read.
TEST(Idle, PeerThatHasHungUpWithUnreadBytesTakesNoTime) {
  {
    ServedStage server;
    send_all(server.peer, "unread\r\n");
    half_close(server.peer);
    expect_idle();
  }
  {
    ClientStage client;
    send_all(client.peer, "unread\r\n");
    client.peer.reset();
    expect_idle();
  }
}

TEST(Idle, WriteThatWaitsForAPeerThatDoesNotReadTakesNoTime) {
  ServedStage server;
  const std::string large(32 * kMiB, 'x');
  std::jthread writing([&](const std::stop_token& stop) {
    EXPECT_THROW(server->write(large, stop), tcpip::CancelledError);
  });
  ASSERT_TRUE(eventually([&] { return server->unsent() > 0; }));
  // Until the kernel takes no more.
  std::size_t unsent = 0;
  ASSERT_TRUE(eventually([&] {
    const std::size_t before = std::exchange(unsent, server->unsent());
    ::poll(nullptr, 0, 50);
    return before == unsent;
  }));
  expect_idle();
}

// A byte ten times a second costs that many reads, and no more.
TEST(Idle, PeerThatDripsTakesNoTime) {
  ReadLoopStage server([](Connection& client, const std::stop_token& stop) {
    client.read_str(stop);
  });
  const UniqueFd peer = server.connect();
  std::jthread dripping([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      send_all(peer, "x");
      ::poll(nullptr, 0, 100);
    }
  });
  expect_idle(10ms);
  EXPECT_TRUE(server->connected());
}

// R6: descriptors run out while clients come.
TEST(Idle, ServerWithoutDescriptorsTakesLittleTimeAndAcceptsAfterwards) {
  if (kNeedsDescriptors) GTEST_SKIP() << "UBSan needs one";
  ServerStage<> server;
  std::vector<UniqueFd> peers;
  for (int i = 0; i < 20; ++i) {
    peers.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(server->port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  {
    const NoMoreDescriptors none;
    for (const UniqueFd& peer : peers) {
      ASSERT_EQ(
          ::connect(peer.get(), reinterpret_cast<const sockaddr*>(&address),
                    sizeof address),
          0);
    }
    expect_idle(100ms);  // 5 %
    EXPECT_EQ(server->connection_count(), 0u);
  }
  EXPECT_TRUE(server->wait_connected(kPatience));
  EXPECT_LE(server.lines.size(), 10u) << server.lines.text();
}

}  // namespace
}  // namespace tcpip_tests
