// The inner loops in memory, with Google Benchmark: what a line costs once its
// bytes have come. Beside them, what memchr and a std::string cost.
//
//   ./benchmarks/run micro
//
// Through the public classes: the bytes of a block are sent through a socket
// pair, or from a server to its client, untimed; what is timed reads them
// again. One read of the timed ones fetches the block from the kernel.
#include <benchmark/benchmark.h>
#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBlock = 32 * 1024;

// As many whole lines as fit into a block.
struct Block {
  explicit Block(const std::string& line)
      : lines(static_cast<std::int64_t>(kBlock / line.size())) {
    for (std::int64_t i = 0; i < lines; ++i) bytes += line;
  }
  std::int64_t lines;
  std::string bytes;
};

std::string line_of(std::size_t size, std::string_view separator) {
  return std::string(size - separator.size(), 'x') + std::string(separator);
}

// Calls send_block() untimed, then read_line() for each of its lines.
template <class Send, class Read>
void time_lines(benchmark::State& state, const Block& block, Send send_block,
                Read read_line) {
  for (auto _ : state) {
    state.PauseTiming();
    send_block();
    state.ResumeTiming();
    for (std::int64_t i = 0; i < block.lines; ++i) read_line();
  }
  state.SetItemsProcessed(state.iterations() * block.lines);
}

// --- Without the library ---

void memchr_only(benchmark::State& state) {
  const Block block(line_of(static_cast<std::size_t>(state.range(0)), "\n"));
  for (auto _ : state) {
    const char* at = block.bytes.data();
    const char* end = at + block.bytes.size();
    while (at != end) {
      at = static_cast<const char*>(
               std::memchr(at, '\n', static_cast<std::size_t>(end - at))) +
           1;
      benchmark::DoNotOptimize(at);
    }
  }
  state.SetItemsProcessed(state.iterations() * block.lines);
}

void memchr_and_string(benchmark::State& state) {
  const Block block(line_of(static_cast<std::size_t>(state.range(0)), "\n"));
  for (auto _ : state) {
    const char* at = block.bytes.data();
    const char* end = at + block.bytes.size();
    while (at != end) {
      const char* next = static_cast<const char*>(std::memchr(
                             at, '\n', static_cast<std::size_t>(end - at))) +
                         1;
      std::string line(at, next);
      benchmark::DoNotOptimize(line.data());
      at = next;
    }
  }
  state.SetItemsProcessed(state.iterations() * block.lines);
}

// --- Reading lines that have come ---

// read(reader) reads a line that ends in `separator`.
template <class Read>
void time_stream(benchmark::State& state, std::string_view separator,
                 Read read) {
  const Block block(
      line_of(static_cast<std::size_t>(state.range(0)), separator));
  auto ends = tcpip::connected_pair();
  time_lines(
      state, block,
      [&] {
        ends.first.writer.write(block.bytes);
        ends.first.writer.drain();
      },
      [&] { benchmark::DoNotOptimize(read(ends.second.reader).data()); });
}

void read_line_view(benchmark::State& state) {
  time_stream(state, "\n",
              [](auto& reader) { return reader.read_line_view(); });
}

void read_until_view_2_bytes(benchmark::State& state) {
  time_stream(state, "\r\n",
              [](auto& reader) { return reader.read_until_view("\r\n"); });
}

void read_until_view_5_bytes(benchmark::State& state) {
  time_stream(state, "END\r\n",
              [](auto& reader) { return reader.read_until_view("END\r\n"); });
}

void read_until_view_several(benchmark::State& state) {
  time_stream(state, "\r\n", [](auto& reader) {
    return reader.read_until_view({"\r\n", "\n"});
  });
}

void read_until_string(benchmark::State& state) {
  time_stream(state, "\n",
              [](auto& reader) { return reader.read_until("\n"); });
}

void read_exactly_view(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  time_stream(state, "\n",
              [&](auto& reader) { return reader.read_exactly_view(size); });
}

// --- Text: found, checked, converted ---

// `character` is how one character looks in the encoding.
void time_text(benchmark::State& state, const std::string& encoding,
               std::string_view character) {
  const std::string terminator = "\r\n";
  std::string line;
  while (line.size() + character.size() + terminator.size() <=
         static_cast<std::size_t>(state.range(0))) {
    line += character;
  }
  const Block block(line + terminator);
  tcpip::OneClientServer server({.host = "127.0.0.1", .encoding = encoding});
  server.start(5s);
  tcpip::Client client(
      {.host = "127.0.0.1", .port = server.port(), .encoding = encoding});
  client.start(5s);
  server.wait_connected(5s);
  time_lines(
      state, block,
      [&] {
        server.write(block.bytes);
        client.wait_readable(5s);
      },
      [&] { benchmark::DoNotOptimize(client.read_str(5s).data()); });
}

void read_str_ascii_text(benchmark::State& state) {
  time_text(state, "utf-8", "x");
}

void read_str_greek_text(benchmark::State& state) {
  time_text(state, "utf-8", "\xce\xb1");
}

void read_str_latin_1(benchmark::State& state) {
  time_text(state, "latin-1", "\xe9");
}

// --- Writing, with the other end drained in between ---

template <class Write>
void time_writes(benchmark::State& state, std::int64_t lines, Write write) {
  auto ends = tcpip::connected_pair();
  const int other = ends.second.writer.native_handle();
  std::vector<char> drained(2 * kBlock);
  for (auto _ : state) {
    write(ends.first.writer);
    state.PauseTiming();
    while (::recv(other, drained.data(), drained.size(), MSG_DONTWAIT) > 0) {
    }
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * lines);
}

void write_each(benchmark::State& state) {
  const std::string line =
      line_of(static_cast<std::size_t>(state.range(0)), "\n");
  constexpr std::int64_t kLines = 16;
  time_writes(state, kLines, [&](auto& writer) {
    for (std::int64_t i = 0; i < kLines; ++i) {
      writer.write(line);
      writer.drain();
    }
  });
}

void write_lines(benchmark::State& state) {
  const std::string line =
      line_of(static_cast<std::size_t>(state.range(0)), "\n");
  const std::vector<std::string_view> lines(kBlock / line.size(), line);
  time_writes(state, static_cast<std::int64_t>(lines.size()),
              [&](auto& writer) {
                writer.write_lines(lines);
                writer.drain();
              });
}

BENCHMARK(memchr_only)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(memchr_and_string)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(read_line_view)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(read_until_view_2_bytes)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(read_until_view_5_bytes)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(read_until_view_several)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(read_until_string)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(read_exactly_view)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(read_str_ascii_text)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(read_str_greek_text)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(read_str_latin_1)->Arg(40)->Arg(200)->Arg(2000);
BENCHMARK(write_each)->Arg(40)->Arg(2000);
BENCHMARK(write_lines)->Arg(40)->Arg(200)->Arg(2000);

}  // namespace

BENCHMARK_MAIN();
