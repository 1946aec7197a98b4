// The works of raw.cc with standalone Asio's blocking calls. Lines are read
// with read_until() into a streambuf; "plain" makes a std::string of each,
// "view" looks at it in the buffer. benchmarks/harness.h says what the
// arguments are.
#include <asio.hpp>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "benchmarks/harness.h"

namespace {

using asio::ip::tcp;
using benchmarks::Arguments;

asio::io_context& context() {
  static asio::io_context one(1);
  return one;
}

tcp::acceptor listen_and_print_port() {
  tcp::acceptor acceptor(context(),
                         tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  benchmarks::print_port(acceptor.local_endpoint().port());
  return acceptor;
}

tcp::socket accept_one(tcp::acceptor& acceptor) {
  tcp::socket socket = acceptor.accept();
  socket.set_option(tcp::no_delay(true));
  return socket;
}

tcp::socket serve_one() {
  tcp::acceptor acceptor = listen_and_print_port();
  return accept_one(acceptor);
}

tcp::socket connect_to(int port) {
  tcp::socket socket(context());
  socket.connect(tcp::endpoint(asio::ip::address_v4::loopback(),
                               static_cast<asio::ip::port_type>(port)));
  socket.set_option(tcp::no_delay(true));
  return socket;
}

class Lines {
 public:
  explicit Lines(tcp::socket& socket) : socket_(socket) {}

  std::string next() {
    const std::size_t size = asio::read_until(socket_, buffer_, '\n');
    const char* begin = static_cast<const char*>(buffer_.data().data());
    std::string line(begin, size);
    buffer_.consume(size);
    return line;
  }
  // Valid until the next call.
  std::string_view next_view() {
    buffer_.consume(used_);
    used_ = 0;
    used_ = asio::read_until(socket_, buffer_, '\n');
    return {static_cast<const char*>(buffer_.data().data()), used_};
  }

 private:
  tcp::socket& socket_;
  asio::streambuf buffer_;
  std::size_t used_ = 0;
};

template <class Serve>
void until_gone(Serve serve) {
  try {
    for (;;) serve();
  } catch (const std::system_error&) {
  }
}

void serve_lines(const Arguments&) {
  tcp::socket socket = serve_one();
  Lines lines(socket);
  until_gone([&] { asio::write(socket, asio::buffer(lines.next())); });
}

void ask_lines(const Arguments& arguments) {
  tcp::socket socket = connect_to(arguments.port());
  const std::string line = benchmarks::line_of(arguments.size());
  Lines lines(socket);
  benchmarks::time_turns(arguments, [&] {
    asio::write(socket, asio::buffer(line));
    lines.next();
  });
}

void serve_structs(const Arguments& arguments) {
  tcp::socket socket = serve_one();
  std::vector<char> data(arguments.size());
  until_gone([&] {
    asio::read(socket, asio::buffer(data));
    asio::write(socket, asio::buffer(data));
  });
}

void ask_structs(const Arguments& arguments) {
  tcp::socket socket = connect_to(arguments.port());
  std::vector<char> data(arguments.size());
  benchmarks::time_turns(arguments, [&] {
    asio::write(socket, asio::buffer(data));
    asio::read(socket, asio::buffer(data));
  });
}

void read_lines(const Arguments& arguments) {
  tcp::socket socket = connect_to(arguments.port());
  Lines lines(socket);
  const std::int64_t batch = benchmarks::batch_of(arguments.size());
  const bool view = arguments.way == "view";
  benchmarks::time_batches(arguments, batch, [&] {
    for (std::int64_t i = 0; i < batch; ++i) {
      if (view) {
        lines.next_view();
      } else {
        lines.next();
      }
    }
  });
}

void read_blocks(const Arguments& arguments) {
  tcp::socket socket = connect_to(arguments.port());
  std::vector<char> data(arguments.size());
  benchmarks::time_batches(arguments, 1,
                           [&] { asio::read(socket, asio::buffer(data)); });
}

void write_batches(const Arguments& arguments) {
  tcp::socket socket = connect_to(arguments.port());
  const std::string line = benchmarks::line_of(arguments.size());
  const std::vector<asio::const_buffer> lines(
      static_cast<std::size_t>(benchmarks::batch_of(line.size())),
      asio::buffer(line));
  benchmarks::time_batches(arguments, static_cast<std::int64_t>(lines.size()),
                           [&] { asio::write(socket, lines); });
}

void write_each(const Arguments& arguments) {
  tcp::socket socket = connect_to(arguments.port());
  const std::string line = benchmarks::line_of(arguments.size());
  constexpr std::int64_t kBatch = 100;
  benchmarks::time_batches(arguments, kBatch, [&] {
    for (std::int64_t i = 0; i < kBatch; ++i) {
      asio::write(socket, asio::buffer(line));
    }
  });
}

void serve_connects(const Arguments&) {
  tcp::acceptor acceptor = listen_and_print_port();
  for (;;) accept_one(acceptor);
}

void serve_turn_away(const Arguments&) {
  tcp::acceptor acceptor = listen_and_print_port();
  const tcp::socket first = accept_one(acceptor);
  for (;;) accept_one(acceptor);
}

void serve_notice(const Arguments& arguments) {
  tcp::acceptor acceptor = listen_and_print_port();
  std::vector<std::int64_t> times;
  for (std::size_t i = 0; i < arguments.count(); ++i) {
    tcp::socket socket = accept_one(acceptor);
    char byte = 'x';
    asio::write(socket, asio::buffer(&byte, 1));
    std::error_code error;
    asio::read(socket, asio::buffer(&byte, 1), error);
    times.push_back(benchmarks::now_ns());
  }
  benchmarks::print_result(static_cast<std::int64_t>(times.size()), 0, 0,
                           times);
}

void unblock(const Arguments& arguments) {
  tcp::acceptor acceptor(context(),
                         tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const int port = acceptor.local_endpoint().port();
  tcp::socket here(context());
  tcp::socket there(context());
  benchmarks::time_wakes(
      arguments,
      [&] {
        char byte = 0;
        std::error_code error;
        asio::read(here, asio::buffer(&byte, 1), error);
      },
      [&] { here.shutdown(tcp::socket::shutdown_both); },
      [&] {
        here = connect_to(port);
        there = accept_one(acceptor);
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
