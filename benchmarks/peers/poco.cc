// The works of raw.cc with Poco's StreamSocket; lines with its SocketStream, a
// std::iostream. benchmarks/harness.h says what the arguments are.
#include <Poco/Net/ServerSocket.h>
#include <Poco/Net/SocketAddress.h>
#include <Poco/Net/SocketStream.h>
#include <Poco/Net/StreamSocket.h>

#include <cstddef>
#include <cstdint>
#include <istream>
#include <stdexcept>
#include <string>
#include <vector>

#include "benchmarks/harness.h"

namespace {

using benchmarks::Arguments;
using Poco::Net::ServerSocket;
using Poco::Net::SocketAddress;
using Poco::Net::SocketStream;
using Poco::Net::StreamSocket;

ServerSocket listen_and_print_port() {
  ServerSocket listener(SocketAddress("127.0.0.1", 0));
  benchmarks::print_port(listener.address().port());
  return listener;
}

StreamSocket accept_one(ServerSocket& listener) {
  StreamSocket socket = listener.acceptConnection();
  socket.setNoDelay(true);
  return socket;
}

StreamSocket serve_one() {
  ServerSocket listener = listen_and_print_port();
  return accept_one(listener);
}

StreamSocket connect_to(int port) {
  StreamSocket socket(
      SocketAddress("127.0.0.1", static_cast<Poco::UInt16>(port)));
  socket.setNoDelay(true);
  return socket;
}

bool receive_exactly(StreamSocket& socket, std::vector<char>& data) {
  std::size_t got = 0;
  while (got < data.size()) {
    const int more = socket.receiveBytes(data.data() + got,
                                         static_cast<int>(data.size() - got));
    if (more <= 0) return false;
    got += static_cast<std::size_t>(more);
  }
  return true;
}

void send_all(StreamSocket& socket, const char* data, std::size_t size) {
  while (size > 0) {
    const int sent = socket.sendBytes(data, static_cast<int>(size));
    if (sent <= 0) throw std::runtime_error("sendBytes");
    data += sent;
    size -= static_cast<std::size_t>(sent);
  }
}

void serve_lines(const Arguments&) {
  SocketStream stream(serve_one());
  std::string line;
  while (std::getline(stream, line)) stream << line << '\n' << std::flush;
}

void ask_lines(const Arguments& arguments) {
  SocketStream stream(connect_to(arguments.port()));
  const std::string text = benchmarks::line_of(arguments.size());
  std::string line;
  benchmarks::time_turns(arguments, [&] {
    stream << text << std::flush;
    std::getline(stream, line);
  });
}

void serve_structs(const Arguments& arguments) {
  StreamSocket socket = serve_one();
  std::vector<char> data(arguments.size());
  while (receive_exactly(socket, data)) {
    send_all(socket, data.data(), data.size());
  }
}

void ask_structs(const Arguments& arguments) {
  StreamSocket socket = connect_to(arguments.port());
  std::vector<char> data(arguments.size());
  benchmarks::time_turns(arguments, [&] {
    send_all(socket, data.data(), data.size());
    receive_exactly(socket, data);
  });
}

void read_lines(const Arguments& arguments) {
  SocketStream stream(connect_to(arguments.port()));
  std::string line;
  const std::int64_t batch = benchmarks::batch_of(arguments.size());
  benchmarks::time_batches(arguments, batch, [&] {
    for (std::int64_t i = 0; i < batch; ++i) std::getline(stream, line);
  });
}

void read_blocks(const Arguments& arguments) {
  StreamSocket socket = connect_to(arguments.port());
  std::vector<char> data(arguments.size());
  benchmarks::time_batches(arguments, 1,
                           [&] { receive_exactly(socket, data); });
}

void write_batches(const Arguments& arguments) {
  SocketStream stream(connect_to(arguments.port()));
  const std::string line = benchmarks::line_of(arguments.size());
  const std::int64_t batch = benchmarks::batch_of(arguments.size());
  benchmarks::time_batches(arguments, batch, [&] {
    for (std::int64_t i = 0; i < batch; ++i) stream << line;
    stream.flush();
  });
}

void write_each(const Arguments& arguments) {
  StreamSocket socket = connect_to(arguments.port());
  const std::string line = benchmarks::line_of(arguments.size());
  constexpr std::int64_t kBatch = 100;
  benchmarks::time_batches(arguments, kBatch, [&] {
    for (std::int64_t i = 0; i < kBatch; ++i) {
      send_all(socket, line.data(), line.size());
    }
  });
}

void serve_connects(const Arguments&) {
  ServerSocket listener = listen_and_print_port();
  for (;;) accept_one(listener).close();
}

void serve_turn_away(const Arguments&) {
  ServerSocket listener = listen_and_print_port();
  const StreamSocket first = accept_one(listener);
  for (;;) accept_one(listener).close();
}

void serve_notice(const Arguments& arguments) {
  ServerSocket listener = listen_and_print_port();
  std::vector<std::int64_t> times;
  for (std::size_t i = 0; i < arguments.count(); ++i) {
    StreamSocket socket = accept_one(listener);
    std::vector<char> byte(1, 'x');
    send_all(socket, byte.data(), 1);
    receive_exactly(socket, byte);
    times.push_back(benchmarks::now_ns());
  }
  benchmarks::print_result(static_cast<std::int64_t>(times.size()), 0, 0,
                           times);
}

void unblock(const Arguments& arguments) {
  ServerSocket listener(SocketAddress("127.0.0.1", 0));
  const int port = listener.address().port();
  StreamSocket here;
  StreamSocket there;
  benchmarks::time_wakes(
      arguments,
      [&] {
        std::vector<char> byte(1);
        receive_exactly(here, byte);
      },
      [&] { here.shutdown(); },
      [&] {
        here = connect_to(port);
        there = accept_one(listener);
      });
}

}  // namespace

int main(int argc, char** argv) {
  return benchmarks::run_role(argc, argv,
                              {{"server ping_pong", serve_lines},
                               {"client ping_pong", ask_lines},
                               {"server struct", serve_structs},
                               {"client struct", ask_structs},
                               {"client read", read_lines},
                               {"client bulk", read_blocks},
                               {"client write_batches", write_batches},
                               {"client write_each", write_each},
                               {"server connect", serve_connects},
                               {"server turn_away", serve_turn_away},
                               {"server notice", serve_notice},
                               {"local unblock", unblock}});
}
