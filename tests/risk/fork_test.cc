// A child that fork() has made may destroy what it has of its parent's, or just
// exit: the parent's connections do not notice. It may not use them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/callback_thread.h"
#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/listener.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/periodic_sender.h"
#include "tcpip/send_queue.h"
#include "tcpip/socket.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/testing/wait_until.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"

namespace tcpip_tests {
namespace {

using namespace std::chrono_literals;
using tcpip::CallbackQueue;
using tcpip::CallbackThread;
using tcpip::Client;
using tcpip::Connection;
using tcpip::Listener;
using tcpip::OneClientReadLoopServer;

// One object of each kind, all at work.
struct World {
  World() {
    server = std::make_unique<OneClientReadLoopServer>(
        tcpip::ServerOptions{.host = "127.0.0.1",
                             .callbacks = &thread->queue(),
                             .connect_callback = [](auto&) {}},
        [](Connection& peer, std::stop_token stop) {
          peer.write_str(peer.read_str(stop), stop);
        });
    server->start(kPatience);
    client = std::make_unique<Client>(
        tcpip::ClientOptions{.host = "127.0.0.1",
                             .port = server->port(),
                             .connect_callback = [](auto&) {}});
    client->start(kPatience);
    connection = client->connection();
    listener = std::make_unique<Listener>("127.0.0.1", 0);
    streams = tcpip::open_connection("127.0.0.1", listener->port(), kPatience);
    accepted = std::move(listener->accept(kPatience).fd);
    owner = std::make_unique<CallbackQueue::Owner>(*queue);
    sends = std::make_unique<tcpip::SendQueue>(*client);
    periodic = std::make_unique<tcpip::PeriodicSender>(
        *client, tcpip::PeriodicSenderOptions{.period = 1ms},
        [](const Connection&) { return tcpip::SendResult::kSent; });
  }

  std::string echo(const std::string& text) {
    client->write_str(text, kPatience);
    return client->read_str(kPatience);
  }
  // Everything still works.
  void check() {
    EXPECT_EQ(echo("hello"), "hello");
    EXPECT_TRUE(client->connected());
    EXPECT_TRUE(server->connected());
    streams.writer.write("to the peer");
    EXPECT_EQ(recv_exact(accepted, 11), "to the peer");
    send_all(accepted, "from the peer\n");
    EXPECT_EQ(streams.reader.read_line(kPatience), "from the peer\n");
    const tcpip::UniqueFd next = connect_to(listener->port());
    EXPECT_TRUE(listener->accept(kPatience).fd);
    // The port of the server still takes clients, and turns this one away.
    EXPECT_EQ(recv_until_eof(connect_to(server->port())), "");
    std::atomic<bool> ran{false};
    EXPECT_TRUE(thread->queue().post([&] { ran = true; }));
    EXPECT_TRUE(eventually([&] { return ran.load(); }));
  }
  void destroy() {
    streams.reader = tcpip::StreamReader();
    streams.writer = tcpip::StreamWriter();
    periodic.reset();
    sends.reset();
    listener.reset();
    client.reset();
    server.reset();
    owner.reset();
    queue.reset();
    thread.reset();
  }

  const HangGuard guard;
  std::unique_ptr<CallbackThread> thread = std::make_unique<CallbackThread>();
  std::unique_ptr<CallbackQueue> queue = std::make_unique<CallbackQueue>();
  std::unique_ptr<CallbackQueue::Owner> owner;
  std::unique_ptr<OneClientReadLoopServer> server;
  std::unique_ptr<Client> client;
  Connection connection;
  std::unique_ptr<Listener> listener;
  tcpip::Streams streams;
  tcpip::UniqueFd accepted;
  std::unique_ptr<tcpip::SendQueue> sends;
  std::unique_ptr<tcpip::PeriodicSender> periodic;
};

// The exit status of a child that runs `work`, or minus the signal that has
// ended it.
int in_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    int status = 1;
    try {
      status = work();
    } catch (...) {
      status = 99;
    }
    std::_Exit(status);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(ForkTest, ChildThatDestroysEverythingLeavesTheParentAlone) {
  World world;
  EXPECT_EQ(in_child([&] {
              world.destroy();
              return 0;
            }),
            0);
  world.check();
}

// As a program does that ends everything in an orderly way.
// Nor does it take what has come for the parent.
TEST(ForkTest, ChildThatClosesEverythingLeavesTheParentAlone) {
  World world;
  send_all(world.accepted, "for the parent\n");
  EXPECT_EQ(in_child([&] {
              tcpip::close_stream_writer(world.streams.writer);
              world.connection.close();
              world.server->close_client();
              world.client->close();
              world.server->close();
              world.listener->close();
              world.thread->close();
              world.destroy();
              return 0;
            }),
            0);
  EXPECT_EQ(world.streams.reader.read_line(kPatience), "for the parent\n");
  world.check();
}

TEST(ForkTest, ChildThatUsesASocketLeavesTheParentAlone) {
  SocketPair pair = socket_pair(Transport::kIpv4);
  tcpip::Socket& socket = *pair.socket;
  send_all(pair.peer, "for the parent");
  EXPECT_EQ(
      in_child([&] {
        char byte = 0;
        const bool refused =
            socket.receive_now(&byte, 1).status == tcpip::IoStatus::kClosed &&
            socket.receive(&byte, 1, 1s).status == tcpip::IoStatus::kClosed &&
            socket.send_now(std::array{tcpip::Socket::Piece{"x", 1}}).status ==
                tcpip::IoStatus::kClosed &&
            socket.shutdown_send() &&
            socket.linger_step() == tcpip::Socket::LingerStep::kOver;
        socket.linger(tcpip::Deadline::after(1s));
        socket.close();
        return refused ? 0 : 1;
      }),
      0);
  std::array<char, 20> data{};
  EXPECT_EQ(socket.receive(data.data(), data.size(), kPatience).count, 14u);
  EXPECT_EQ(socket.send_now(std::array{tcpip::Socket::Piece{"y", 1}}).count,
            1u);
  socket.close();
  EXPECT_EQ(recv_until_eof(pair.peer), "y");
}

// The descriptors of the child are closed: when the parent closes the listening
// port, nobody listens there any more.
TEST(ForkTest, ChildThatDestroysClosesItsDescriptors) {
  World world;
  const int port = world.server->port();
  int ready[2];
  int go_on[2];
  ASSERT_EQ(::pipe(ready), 0);
  ASSERT_EQ(::pipe(go_on), 0);
  std::thread child([&] {
    EXPECT_EQ(in_child([&] {
                world.destroy();
                char byte = 0;
                [[maybe_unused]] auto written = ::write(ready[1], "r", 1);
                return ::read(go_on[0], &byte, 1) == 1 ? 0 : 2;
              }),
              0);
  });
  char byte = 0;
  EXPECT_EQ(::read(ready[0], &byte, 1), 1);
  world.check();
  world.server->close();
  EXPECT_THROW(connect_to(port), std::system_error);
  EXPECT_EQ(::write(go_on[1], "g", 1), 1);
  child.join();
  for (const int fd : {ready[0], ready[1], go_on[0], go_on[1]}) ::close(fd);
}

TEST(ForkTest, ChildThatClosesClosesTheDescriptorsOfItsConnections) {
  World world;
  world.check();  // the server has its connection
  const int of_client = world.client->connection().native_handle();
  const int of_server = world.server->connection().native_handle();
  const auto is_open = [](int fd) { return ::fcntl(fd, F_GETFD) >= 0; };
  EXPECT_EQ(in_child([&] {
              world.client->close();
              world.server->close();
              return is_open(of_client) || is_open(of_server) ? 1 : 0;
            }),
            0);
  world.check();
}

TEST(ForkTest, ChildThatUsesAnythingGetsAnError) {
  World world;
  // What the calls keep for the next ones must not hide the fork().
  EXPECT_EQ(world.echo("hello"), "hello");
  world.connection.write("hello\r\n");
  EXPECT_EQ(world.connection.read_str(kPatience), "hello");
  const std::vector<std::function<void()>> uses{
      [&] { world.client->read_str(1s); },
      [&] { world.client->write_str("from the child"); },
      [&] { world.client->try_write("from the child"); },
      [&] { world.client->send("from the child"); },
      [&] { world.client->try_send("from the child"); },
      [&] { (void)world.client->unsent(); },
      [&] { world.client->handle_received_heartbeat(); },
      [&] { (void)world.connection.unsent(); },
      [&] { world.connection.handle_received_heartbeat(); },
      [&] { (void)world.client->connected(); },
      [&] { world.client->start(); },
      [&] { (void)world.client->connection(); },
      [&] { world.client->set_terminator("\n"); },
      [&] { (void)world.client->wait_done(1s); },
      [&] { (void)world.server->port(); },
      [&] { (void)world.server->addresses(); },
      [&] { world.server->post([] {}); },
      [&] { world.server->post_wait([] {}, 1s); },
      [&] { world.connection.read_exactly(1, 1s); },
      [&] { (void)world.connection.try_read(1); },
      [&] { world.connection.write("from the child"); },
      [&] { world.streams.reader.read(1, 1s); },
      [&] { world.streams.writer.write("from the child"); },
      [&] { world.streams.writer.drain(1s); },
      [&] { world.streams.writer.write_eof(); },
      [&] { world.queue->post([] {}); },
      [&] { world.queue->run_pending(); },
      [&] { world.queue->run_one(1s); },
      [&] { (void)world.queue->wait_fd(); },
      [&] { world.owner->post([] {}); },
      [&] { world.owner->cancel(); },
      [&] { world.listener->accept(1s); },
      [&] { world.sends->post("x"); },
      [&] { world.sends->flush(1s); },
  };
  for (std::size_t i = 0; i < uses.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(in_child([&] {
                try {
                  uses[i]();
                } catch (const std::logic_error& e) {
                  return std::string(e.what()).find("fork()") !=
                                 std::string::npos
                             ? 0
                             : 3;
                }
                return 2;
              }),
              0);
  }
  world.check();
}

// In whatever the parent's threads are at the fork().
TEST(ForkTest, ChildDoesNotHangWhateverTheThreadsOfTheParentDo) {
  World world;
  std::atomic<bool> done{false};
  std::vector<std::jthread> threads;
  threads.emplace_back([&] {
    while (!done) EXPECT_EQ(world.echo("hello"), "hello");
  });
  threads.emplace_back([&] {
    while (!done) {
      try {
        connect_to(world.server->port());
      } catch (const std::system_error&) {
      }
    }
  });
  threads.emplace_back([&] {
    while (!done) world.queue->post([] {});
  });
  threads.emplace_back([&] {
    while (!done) world.queue->run_pending();
  });
  threads.emplace_back([&] {
    while (!done) world.thread->queue().post([] {});
  });
  for (int i = 0; i < 60; ++i) {
    SCOPED_TRACE(i);
    ASSERT_EQ(in_child([&] {
                // A new life of its own is allowed.
                if (i % 3 == 0) {
                  tcpip::OneClientServer own({.host = "127.0.0.1"});
                }
                world.destroy();
                return 0;
              }),
              0);
  }
  done = true;
  threads.clear();
  world.check();
}

// With all destructors of static objects.
TEST(ForkTest, ChildMayExit) {
  static std::unique_ptr<World> world;
  world = std::make_unique<World>();
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    world->destroy();
    std::exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_FALSE(WIFSIGNALED(status)) << WTERMSIG(status);
  world->check();
  world.reset();
}

}  // namespace
}  // namespace tcpip_tests
