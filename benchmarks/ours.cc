// The works of raw.cc done with this library, through the class that the way
// names, as a program would call it:
//
//   streams, streams_view, streams_string   StreamReader and StreamWriter
//   client        Client; the other end, where it is ours too, OneClientServer
//   read_loop     Client; the other end OneClientReadLoopServer
//
// A suffix says what is passed to each call, or set: _deadline, _stop, _both,
// _spin. harness.h says what the arguments are.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "benchmarks/harness.h"
#include "tcpip/callback_queue.h"
#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/wait.h"

namespace {

using benchmarks::Arguments;
using namespace std::chrono_literals;

constexpr auto kSpin = 20us;
// Long enough never to pass.
constexpr auto kPatience = 30s;

// The way, taken apart.
struct Way {
  explicit Way(const std::string& text) : name(text.substr(0, text.find('_'))) {
    if (text == "read_loop") name = text;
    const std::string rest =
        text.size() > name.size() ? text.substr(name.size() + 1) : "";
    if (rest == "deadline" || rest == "both") has_deadline = true;
    if (rest == "stop" || rest == "both") stop = source.get_token();
    if (rest == "spin") spin = kSpin;
    if (rest == "view" || rest == "string" || rest == "close") how = rest;
    if (!rest.empty() && !has_deadline && !stop.stop_possible() &&
        spin == 0us && how.empty()) {
      throw std::invalid_argument("no such way: " + text);
    }
  }

  // For one call.
  tcpip::Wait wait() const {
    if (has_deadline) return {2s, stop};
    return stop;
  }
  template <class Options>
  Options with_spin(Options options) const {
    options.spin = spin;
    return options;
  }
  [[noreturn]] void refuse() const {
    throw std::invalid_argument("no such way: " + name);
  }

  std::string name;
  std::string how;
  bool has_deadline = false;
  std::chrono::microseconds spin = 0us;
  std::stop_source source;
  std::stop_token stop;
};

// --- The two ends ---

tcpip::Streams serve_streams(const Way& way) {
  tcpip::Listener listener("127.0.0.1", 0);
  benchmarks::print_port(listener.addresses().front().port());
  tcpip::UniqueFd fd = std::move(listener.accept(kPatience).fd);
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  tcpip::Streams streams = tcpip::open_connection(std::move(fd));
  streams.reader.set_spin(way.spin);
  return streams;
}

tcpip::Streams connect_streams(const Arguments& arguments, const Way& way) {
  tcpip::Streams streams =
      tcpip::open_connection("127.0.0.1", arguments.port(), kPatience);
  streams.reader.set_spin(way.spin);
  return streams;
}

// A server and its first client.
struct Served {
  explicit Served(const Way& way)
      : server(way.with_spin(tcpip::ServerOptions{.host = "127.0.0.1"})) {
    server.start(kPatience);
    benchmarks::print_port(server.port());
    client = server.wait_client(kPatience).value();
  }
  tcpip::OneClientServer server;
  tcpip::Connection client;
};

struct Connected {
  Connected(const Arguments& arguments, const Way& way)
      : client(way.with_spin(tcpip::ClientOptions{.host = "127.0.0.1",
                                                  .port = arguments.port()})) {
    client.start(kPatience);
  }
  tcpip::Client client;
};

// Calls what serves until the peer has gone.
template <class Serve>
void until_gone(Serve serve) {
  try {
    for (;;) serve();
  } catch (const tcpip::ConnectionError&) {
  }
}

// The client reader serves one client, until that has gone.
template <class Read>
void run_read_loop(const Way& way, Read read) {
  std::promise<void> gone;
  tcpip::OneClientReadLoopServer server(
      way.with_spin(
          tcpip::ServerOptions{.host = "127.0.0.1",
                               .connect_callback =
                                   [&](const tcpip::ConnectionEvent& event) {
                                     if (!event.connected) gone.set_value();
                                   }}),
      read);
  server.start(kPatience);
  benchmarks::print_port(server.port());
  gone.get_future().wait();
}

// --- Ping-pong ---

void serve_lines(const Arguments& arguments) {
  const Way way(arguments.way);
  if (way.name == "streams") {
    auto streams = serve_streams(way);
    until_gone([&] {
      streams.writer.write(streams.reader.read_until_view("\n", way.wait()));
      streams.writer.drain(way.wait());
    });
  } else if (way.name == "read_loop") {
    run_read_loop(way, [](tcpip::Connection& client, std::stop_token stop) {
      client.write_str(client.read_str(stop), stop);
    });
  } else {
    Served served(way);
    until_gone([&] {
      served.client.write_str(served.client.read_str(way.wait()), way.wait());
    });
  }
}

void ask_lines(const Arguments& arguments) {
  const Way way(arguments.way);
  const std::string line = benchmarks::line_of(arguments.size());
  if (way.name == "streams") {
    auto streams = connect_streams(arguments, way);
    benchmarks::time_turns(arguments, [&] {
      streams.writer.write(line);
      streams.writer.drain(way.wait());
      streams.reader.read_until_view("\n", way.wait());
    });
  } else {
    Connected connected(arguments, way);
    const std::string text = line.substr(0, line.size() - 2);
    benchmarks::time_turns(arguments, [&] {
      connected.client.write_str(text, way.wait());
      connected.client.read_str(way.wait());
    });
  }
}

template <std::size_t kSize>
struct Message {
  std::array<std::uint8_t, kSize> bytes{};
};

template <class Function>
void with_message(const Arguments& arguments, Function function) {
  switch (arguments.size()) {
    case 64:
      return function(Message<64>());
    case 512:
      return function(Message<512>());
    case 4096:
      return function(Message<4096>());
    default:
      throw std::invalid_argument("size");
  }
}

void serve_structs(const Arguments& arguments) {
  const Way way(arguments.way);
  if (way.name == "streams") {
    auto streams = serve_streams(way);
    std::string data(arguments.size(), 'x');
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span(data));
    until_gone([&] {
      streams.reader.read_exactly(bytes);
      streams.writer.write(data);
      streams.writer.drain();
    });
  } else {
    Served served(way);
    with_message(arguments, [&](auto message) {
      until_gone([&] {
        served.client.read_into(message);
        served.client.write_from(message);
      });
    });
  }
}

void ask_structs(const Arguments& arguments) {
  const Way way(arguments.way);
  if (way.name == "streams") {
    auto streams = connect_streams(arguments, way);
    std::string data(arguments.size(), 'x');
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span(data));
    benchmarks::time_turns(arguments, [&] {
      streams.writer.write(data);
      streams.writer.drain();
      streams.reader.read_exactly(bytes);
    });
  } else {
    Connected connected(arguments, way);
    with_message(arguments, [&](auto message) {
      benchmarks::time_turns(arguments, [&] {
        connected.client.write_from(message);
        connected.client.read_into(message);
      });
    });
  }
}

// --- One direction ---

void read_lines(const Arguments& arguments) {
  const Way way(arguments.way);
  const std::int64_t batch = benchmarks::batch_of(arguments.size());
  const auto time_reads = [&](auto read) {
    benchmarks::time_batches(arguments, batch, [&] {
      for (std::int64_t i = 0; i < batch; ++i) read();
    });
  };
  if (way.name == "client") {
    Connected connected(arguments, way);
    time_reads([&] { connected.client.read_str(); });
    return;
  }
  auto streams = connect_streams(arguments, way);
  if (way.how == "string") {
    time_reads([&] { streams.reader.read_until("\n"); });
  } else {
    time_reads([&] { streams.reader.read_until_view("\n"); });
  }
}

void read_blocks(const Arguments& arguments) {
  const Way way(arguments.way);
  std::vector<std::byte> data(arguments.size());
  if (way.name == "client") {
    Connected connected(arguments, way);
    benchmarks::time_batches(arguments, 1,
                             [&] { connected.client.read_exactly(data); });
  } else {
    auto streams = connect_streams(arguments, way);
    benchmarks::time_batches(arguments, 1,
                             [&] { streams.reader.read_exactly(data); });
  }
}

std::vector<std::string_view> batch_of(const std::string& line) {
  return std::vector<std::string_view>(
      static_cast<std::size_t>(benchmarks::batch_of(line.size())), line);
}

void feed_batches(const Arguments& arguments) {
  const Way way(arguments.way);
  const std::string line = benchmarks::line_of(arguments.size());
  const std::vector<std::string_view> lines = batch_of(line);
  if (way.name == "client") {
    Served served(way);
    until_gone([&] { served.client.write_lines(lines); });
  } else {
    auto streams = serve_streams(way);
    until_gone([&] {
      streams.writer.write_lines(lines);
      streams.writer.drain();
    });
  }
}

void write_batches(const Arguments& arguments) {
  const Way way(arguments.way);
  const std::string line = benchmarks::line_of(arguments.size());
  const std::vector<std::string_view> lines = batch_of(line);
  const auto count = static_cast<std::int64_t>(lines.size());
  if (way.name == "client") {
    Connected connected(arguments, way);
    benchmarks::time_batches(arguments, count,
                             [&] { connected.client.write_lines(lines); });
  } else {
    auto streams = connect_streams(arguments, way);
    benchmarks::time_batches(arguments, count, [&] {
      streams.writer.write_lines(lines);
      streams.writer.drain();
    });
  }
}

void write_each(const Arguments& arguments) {
  const Way way(arguments.way);
  const std::string line = benchmarks::line_of(arguments.size());
  constexpr std::int64_t kBatch = 100;
  const auto time_writes = [&](auto write) {
    benchmarks::time_batches(arguments, kBatch, [&] {
      for (std::int64_t i = 0; i < kBatch; ++i) write();
    });
  };
  if (way.name == "client") {
    Connected connected(arguments, way);
    const std::string text = line.substr(0, line.size() - 2);
    time_writes([&] { connected.client.write_str(text); });
  } else {
    auto streams = connect_streams(arguments, way);
    time_writes([&] {
      streams.writer.write(line);
      streams.writer.drain();
    });
  }
}

// --- Connections ---

// Calls `changed` for each event: in the dispatcher, or in the queue that this
// thread drains, until `is_done` says true.
template <class Changed, class IsDone>
void serve_events(const Arguments& arguments, Changed changed, IsDone is_done) {
  const Way way(arguments.way);
  tcpip::CallbackQueue queue;
  std::promise<void> done;
  tcpip::ServerOptions options{
      .host = "127.0.0.1",
      .connect_callback = [&](const tcpip::ConnectionEvent& event) {
        changed(event);
        if (is_done()) done.set_value();
      }};
  if (way.name == "queue") options.callbacks = &queue;
  const auto serve = [&](auto& server) {
    server.start(kPatience);
    benchmarks::print_port(server.port());
    if (way.name == "queue") {
      while (!is_done()) queue.run_one(kPatience);
    } else {
      done.get_future().wait();
    }
  };
  if (way.name == "reading") {
    tcpip::OneClientReadLoopServer server(
        options, [](tcpip::Connection& client, std::stop_token stop) {
          client.read_str(stop);
        });
    serve(server);
  } else if (way.name == "queue" || way.name == "callback") {
    tcpip::OneClientServer server(options);
    serve(server);
  } else {
    way.refuse();
  }
}

// The server announces each client to the callback, which ends the connection.
void serve_connects(const Arguments& arguments) {
  serve_events(
      arguments,
      [](const tcpip::ConnectionEvent& event) {
        if (event.connected) event.connection.close();
      },
      [] { return false; });
}

void serve_turn_away(const Arguments& arguments) {
  const Served served{Way(arguments.way)};
  served.client.read(1);  // until the runner ends the program
}

// --- How soon the end of a connection is noticed ---

void serve_notice(const Arguments& arguments) {
  std::vector<std::int64_t> times;
  serve_events(
      arguments,
      [&](const tcpip::ConnectionEvent& event) {
        if (event.connected) {
          event.connection.write("x");
        } else {
          times.push_back(benchmarks::now_ns());
        }
      },
      [&] { return times.size() == arguments.count(); });
  benchmarks::print_result(static_cast<std::int64_t>(times.size()), 0, 0,
                           times);
}

// --- How soon a blocked read returns ---

template <class Read>
void read_to_the_end(Read read) {
  try {
    read();
  } catch (const tcpip::CancelledError&) {
  } catch (const tcpip::ConnectionError&) {
  }
}

void unblock_streams(const Arguments& arguments, const Way& way) {
  tcpip::Listener listener("127.0.0.1", 0);
  const int port = listener.addresses().front().port();
  std::optional<tcpip::Streams> streams;
  tcpip::UniqueFd other;
  std::stop_source source;
  if (way.how == "close") {
    benchmarks::time_wakes(
        arguments,
        [&] { read_to_the_end([&] { streams->reader.read_line(); }); },
        [&] { streams->writer.close(); },
        [&] {
          streams.emplace(tcpip::open_connection("127.0.0.1", port));
          other = std::move(listener.accept(kPatience).fd);
        });
  } else {
    streams.emplace(tcpip::open_connection("127.0.0.1", port));
    other = std::move(listener.accept(kPatience).fd);
    benchmarks::time_wakes(
        arguments,
        [&] {
          read_to_the_end(
              [&] { streams->reader.read_line(source.get_token()); });
        },
        [&] { source.request_stop(); }, [&] { source = std::stop_source(); });
  }
}

void unblock_client(const Arguments& arguments, const Way& way) {
  tcpip::OneClientServer server({.host = "127.0.0.1"});
  server.start(kPatience);
  std::optional<tcpip::Client> client;
  std::stop_source source;
  const auto connect = [&] {
    client.emplace(
        tcpip::ClientOptions{.host = "127.0.0.1", .port = server.port()});
    client->start(kPatience);
    server.wait_client(kPatience);
  };
  if (way.how == "close") {
    benchmarks::time_wakes(
        arguments, [&] { read_to_the_end([&] { client->read_str(); }); },
        [&] { client->close(); }, connect);
  } else {
    connect();
    benchmarks::time_wakes(
        arguments,
        [&] { read_to_the_end([&] { client->read_str(source.get_token()); }); },
        [&] { source.request_stop(); }, [&] { source = std::stop_source(); });
  }
}

void unblock(const Arguments& arguments) {
  const Way way(arguments.way);
  if (way.name == "client") {
    unblock_client(arguments, way);
  } else {
    unblock_streams(arguments, way);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return benchmarks::run_role(argc, argv,
                              {{"server ping_pong", serve_lines},
                               {"client ping_pong", ask_lines},
                               {"server struct", serve_structs},
                               {"client struct", ask_structs},
                               {"server feed_batches", feed_batches},
                               {"client read", read_lines},
                               {"client bulk", read_blocks},
                               {"client write_batches", write_batches},
                               {"client write_each", write_each},
                               {"server connect", serve_connects},
                               {"server turn_away", serve_turn_away},
                               {"server notice", serve_notice},
                               {"local unblock", unblock}});
}
