// The works of raw.cc with libuv: an event loop, callbacks, and separators that
// are searched by hand, since libuv knows no lines. benchmarks/harness.h says
// what the arguments are.
#include <netinet/in.h>
#include <uv.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "benchmarks/harness.h"

namespace {

using benchmarks::Arguments;

uv_loop_t* loop() { return uv_default_loop(); }

void check(int status) {
  if (status < 0) throw std::runtime_error(uv_strerror(status));
}

// A connection: gives what comes to `take`, an empty view at the end.
class Link {
 public:
  using Take = std::function<void(std::string_view data)>;

  Link() : buffer_(64 * 1024) {
    check(uv_tcp_init(loop(), &tcp_));
    tcp_.data = this;
  }
  uv_tcp_t* tcp() { return &tcp_; }
  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&tcp_); }

  void start(Take take) {
    uv_tcp_nodelay(&tcp_, 1);
    take_ = std::move(take);
    uv_read_start(
        stream(),
        [](uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
          Link& link = *static_cast<Link*>(handle->data);
          *buffer = uv_buf_init(link.buffer_.data(),
                                static_cast<unsigned>(link.buffer_.size()));
        },
        [](uv_stream_t* stream, ssize_t size, const uv_buf_t* buffer) {
          Link& link = *static_cast<Link*>(stream->data);
          if (size < 0) {
            link.take_({});
          } else if (size > 0) {
            link.take_({buffer->base, static_cast<std::size_t>(size)});
          }
        });
  }
  // `data` stays where it is until `written` is called.
  void write(std::string_view data, std::function<void()> written = {}) {
    written_ = std::move(written);
    uv_buf_t buffer = uv_buf_init(const_cast<char*>(data.data()),
                                  static_cast<unsigned>(data.size()));
    request_.data = this;
    uv_write(&request_, stream(), &buffer, 1, [](uv_write_t* request, int) {
      Link& link = *static_cast<Link*>(request->data);
      const std::function<void()> written = std::exchange(link.written_, {});
      if (written) written();
    });
  }
  // Closes it and deletes this, which must have come from new.
  void close() {
    uv_close(reinterpret_cast<uv_handle_t*>(&tcp_), [](uv_handle_t* handle) {
      delete static_cast<Link*>(handle->data);
    });
  }

 private:
  uv_tcp_t tcp_{};
  uv_write_t request_{};
  std::vector<char> buffer_;
  Take take_;
  std::function<void()> written_;
};

// Calls `accepted` with each connection, a new Link.
struct Server {
  explicit Server(std::function<void(Link*)> function)
      : accepted(std::move(function)) {
    check(uv_tcp_init(loop(), &tcp));
    tcp.data = this;
    sockaddr_in address{};
    check(uv_ip4_addr("127.0.0.1", 0, &address));
    check(uv_tcp_bind(&tcp, reinterpret_cast<sockaddr*>(&address), 0));
    check(uv_listen(reinterpret_cast<uv_stream_t*>(&tcp), 128,
                    [](uv_stream_t* stream, int) {
                      auto* link = new Link;
                      uv_accept(stream, link->stream());
                      static_cast<Server*>(stream->data)->accepted(link);
                    }));
    int size = sizeof address;
    uv_tcp_getsockname(&tcp, reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
  }
  uv_tcp_t tcp{};
  int port = 0;
  std::function<void(Link*)> accepted;
};

void serve(std::function<void(Link*)> accepted) {
  Server server(std::move(accepted));
  benchmarks::print_port(server.port);
  uv_run(loop(), UV_RUN_DEFAULT);
}

void connect_and_run(int port, std::function<void(Link&)> connected) {
  Link link;
  sockaddr_in address{};
  check(uv_ip4_addr("127.0.0.1", port, &address));
  struct Request {
    uv_connect_t uv;
    Link* link;
    std::function<void(Link&)> connected;
  } request{{}, &link, std::move(connected)};
  request.uv.data = &request;
  check(uv_tcp_connect(&request.uv, link.tcp(),
                       reinterpret_cast<const sockaddr*>(&address),
                       [](uv_connect_t* uv, int status) {
                         if (status < 0) return;
                         auto& made = *static_cast<Request*>(uv->data);
                         made.connected(*made.link);
                       }));
  uv_run(loop(), UV_RUN_DEFAULT);
}

// Cuts what comes into messages, at '\n' or, if `size` is not 0, after so many
// bytes; keeps the beginning of the next one.
class Messages {
 public:
  explicit Messages(std::size_t size = 0) : size_(size) {}

  template <class Use>
  void take(std::string_view data, Use use) {
    if (!rest_.empty()) {
      const std::size_t end = find_end(data, rest_.size());
      rest_.append(data.substr(0, end));
      if (end == std::string_view::npos) return;
      data.remove_prefix(end);
      use(std::string_view(rest_));
      rest_.clear();
    }
    std::size_t end = 0;
    while ((end = find_end(data, 0)) != std::string_view::npos) {
      use(data.substr(0, end));
      data.remove_prefix(end);
    }
    rest_.assign(data);
  }

 private:
  std::size_t find_end(std::string_view data, std::size_t before) const {
    if (size_ > 0) {
      return before + data.size() >= size_ ? size_ - before
                                           : std::string_view::npos;
    }
    const void* end =
        data.empty() ? nullptr : std::memchr(data.data(), '\n', data.size());
    if (end == nullptr) return std::string_view::npos;
    return static_cast<std::size_t>(static_cast<const char*>(end) -
                                    data.data()) +
           1;
  }

  std::size_t size_;
  std::string rest_;
};

std::size_t fixed_size(const Arguments& arguments) {
  return arguments.work == "ping_pong" || arguments.work == "read"
             ? 0
             : arguments.size();
}

void serve_messages(const Arguments& arguments) {
  Messages messages(fixed_size(arguments));
  std::string answer;
  serve([&](Link* link) {
    link->start([&, link](std::string_view data) {
      if (data.empty()) return uv_stop(loop());
      messages.take(data, [&](std::string_view message) {
        answer.assign(message);
        link->write(answer);
      });
    });
  });
}

void ask_messages(const Arguments& arguments) {
  Messages messages(fixed_size(arguments));
  const std::string message = benchmarks::line_of(arguments.size());
  int warm_up = 100;
  std::vector<std::int64_t> times;
  times.reserve(100'000);
  std::optional<benchmarks::Timer> timer;
  std::int64_t before = 0;
  connect_and_run(arguments.port(), [&](Link& link) {
    link.start([&](std::string_view data) {
      messages.take(data, [&](std::string_view) {
        if (warm_up > 0) {
          if (--warm_up == 0) {
            timer.emplace(arguments.seconds());
            before = timer->start();
          }
        } else {
          const std::int64_t now = benchmarks::now_ns();
          times.push_back(now - before);
          before = now;
          if (timer->is_over(now)) return uv_stop(loop());
        }
        link.write(message);
      });
    });
    link.write(message);
  });
  timer->report(static_cast<std::int64_t>(times.size()), times);
}

void read_messages(const Arguments& arguments) {
  Messages messages(fixed_size(arguments));
  std::int64_t count = 0;
  std::optional<benchmarks::Timer> timer;
  connect_and_run(arguments.port(), [&](Link& link) {
    timer.emplace(arguments.seconds());
    link.start([&](std::string_view data) {
      messages.take(data, [&](std::string_view) { ++count; });
      if (timer->is_over()) uv_stop(loop());
    });
  });
  timer->report(count);
}

void write_batches(const Arguments& arguments) {
  const std::string line = benchmarks::line_of(arguments.size());
  const std::int64_t batch = benchmarks::batch_of(line.size());
  std::vector<uv_buf_t> lines(static_cast<std::size_t>(batch),
                              uv_buf_init(const_cast<char*>(line.data()),
                                          static_cast<unsigned>(line.size())));
  struct State {
    Link* link = nullptr;
    uv_write_t request{};
    std::vector<uv_buf_t>* lines = nullptr;
    std::int64_t count = 0;
    std::optional<benchmarks::Timer> timer;
    void write() {
      request.data = this;
      uv_write(&request, link->stream(), lines->data(),
               static_cast<unsigned>(lines->size()), [](uv_write_t* done, int) {
                 State& state = *static_cast<State*>(done->data);
                 state.count += static_cast<std::int64_t>(state.lines->size());
                 if (state.timer->is_over()) return uv_stop(loop());
                 state.write();
               });
    }
  } state;
  connect_and_run(arguments.port(), [&](Link& link) {
    link.start([](std::string_view) {});
    state.link = &link;
    state.lines = &lines;
    state.timer.emplace(arguments.seconds());
    state.write();
  });
  state.timer->report(state.count);
}

void write_each(const Arguments& arguments) {
  const std::string line = benchmarks::line_of(arguments.size());
  std::int64_t count = 0;
  std::optional<benchmarks::Timer> timer;
  Link* link = nullptr;
  // While the kernel takes it; then one that waits for room.
  const std::function<void()> write = [&] {
    const uv_buf_t buffer = uv_buf_init(const_cast<char*>(line.data()),
                                        static_cast<unsigned>(line.size()));
    for (;;) {
      const int sent = uv_try_write(link->stream(), &buffer, 1);
      ++count;
      if (sent != static_cast<int>(line.size())) {
        const std::size_t taken = sent > 0 ? static_cast<std::size_t>(sent) : 0;
        return link->write(std::string_view(line).substr(taken), [&] {
          if (timer->is_over()) return uv_stop(loop());
          write();
        });
      }
      if (count % 100 == 0 && timer->is_over()) return uv_stop(loop());
    }
  };
  connect_and_run(arguments.port(), [&](Link& made) {
    link = &made;
    made.start([](std::string_view) {});
    timer.emplace(arguments.seconds());
    write();
  });
  timer->report(count);
}

void serve_connects(const Arguments&) {
  serve([](Link* link) { link->close(); });
}

void serve_turn_away(const Arguments&) {
  bool first = true;
  serve([&](Link* link) {
    if (!first) link->close();
    first = false;
  });
}

void serve_notice(const Arguments& arguments) {
  std::vector<std::int64_t> times;
  const std::string greeting = "x";
  serve([&](Link* link) {
    link->start([&, link](std::string_view data) {
      if (!data.empty()) return;
      times.push_back(benchmarks::now_ns());
      link->close();
      if (times.size() == arguments.count()) uv_stop(loop());
    });
    link->write(greeting);
  });
  benchmarks::print_result(static_cast<std::int64_t>(times.size()), 0, 0,
                           times);
}

// A thread runs the loop, which waits; another asks it to stop.
void unblock(const Arguments& arguments) {
  uv_async_t async;
  check(uv_async_init(loop(), &async, [](uv_async_t*) { uv_stop(loop()); }));
  benchmarks::time_wakes(
      arguments, [] { uv_run(loop(), UV_RUN_DEFAULT); },
      [&] { uv_async_send(&async); }, [] {});
}

}  // namespace

int main(int argc, char** argv) {
  return benchmarks::run_role(argc, argv,
                              {{"server ping_pong", serve_messages},
                               {"client ping_pong", ask_messages},
                               {"server struct", serve_messages},
                               {"client struct", ask_messages},
                               {"client read", read_messages},
                               {"client bulk", read_messages},
                               {"client write_batches", write_batches},
                               {"client write_each", write_each},
                               {"server connect", serve_connects},
                               {"server turn_away", serve_turn_away},
                               {"server notice", serve_notice},
                               {"local unblock", unblock}});
}
