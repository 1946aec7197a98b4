#include "tcpip/one_client_read_loop_server.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/stage.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::ConnectionEvents;
using tcpip_testing::LogRecorder;
using tcpip_tests::connect_to;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using tcpip_tests::SharedList;

using Handler = OneClientReadLoopServer::ReadHandler;

using Server = tcpip_tests::ReadLoopStage;

void echo(Connection& server, const std::stop_token& stop) {
  server.write_str(server.read_str(stop), stop);
}

TEST(ReadLoopOptionsTest, BadOptionsAreRefusedByTheConstructor) {
  const auto construct = [](const ServerOptions& options,
                            const Handler& handler) {
    const OneClientReadLoopServer server(options, handler);
  };
  EXPECT_THROW(construct({}, Handler()), std::invalid_argument);
  EXPECT_THROW(construct({.port = 65536}, echo), std::invalid_argument);
  EXPECT_THROW(construct({.port = -1}, echo), std::invalid_argument);
  EXPECT_THROW(construct({.encoding = "utf-23"}, echo), std::invalid_argument);
  EXPECT_THROW(construct({.terminator = ""}, echo), std::invalid_argument);
  EXPECT_THROW(construct({.limit = 0}, echo), std::invalid_argument);
}

TEST(ReadLoopTest, CallsTheHandlerAgainAndAgainForClientAfterClient) {
  Server server(echo);
  for (int client = 0; client < 3; ++client) {
    const UniqueFd peer = server.connect();
    for (const char* text : {"one\r\n", "two\r\n", "three\r\n"}) {
      send_all(peer, text);
      EXPECT_EQ(recv_exact(peer, std::string(text).size()), text);
    }
    server->close_client();
    EXPECT_EQ(recv_until_eof(peer), "");
  }
  server->close();
  EXPECT_EQ(server.events.text(),
            "connected 1, closed here 1, connected 2, closed here 2, "
            "connected 3, closed here 3");
  EXPECT_EQ(server.lines.count("failed"), 0u) << server.lines.text();
}

TEST(ReadLoopTest, OneReaderThreadLivesAsLongAsTheServer) {
  SharedList<std::thread::id> where;
  Server server([&](Connection& s, const std::stop_token& stop) {
    where.add(std::this_thread::get_id());
    s.read_str(stop);
  });
  for (std::size_t i = 1; i <= 3; ++i) {
    const UniqueFd peer = server.connect();
    ASSERT_TRUE(where.wait_for(i));
    server->close_client();
  }
  for (const std::thread::id id : where.values()) {
    EXPECT_EQ(id, where.values()[0]);
  }
}

TEST(ReadLoopTest, HookIsCalledForTheReaderToo) {
  SharedList<ThreadRole> roles;
  Server server(
      echo, {.thread_start_hook = [&](ThreadRole role) { roles.add(role); }});
  ASSERT_TRUE(roles.wait_for(3));
  auto values = roles.values();
  EXPECT_EQ(std::count(values.begin(), values.end(), ThreadRole::kReader), 1);
  EXPECT_EQ(values.size(), 3u);
}

// --- What ends a connection ---

TEST(ReadLoopFailureTest, AnyExceptionIsLoggedAndEndsTheConnection) {
  struct Case {
    const char* name;
    std::function<void()> thrower;
    std::string logged;
  };
  const Case kCases[] = {
      {"std", [] { throw std::runtime_error("parse error"); }, "parse error"},
      {"int", [] { throw 7; }, "unknown exception"},  // NOLINT
      {"timeout", [] { throw TimeoutError("mine"); }, "mine"},
      {"logic", [] { throw std::logic_error("bug"); }, "bug"},
      // Also those, while the connection is fine.
      {"cancelled", [] { throw CancelledError("mine"); }, "mine"},
      {"connection",
       [] { throw_connection_error(ECONNREFUSED, "another", "host:1"); },
       "host:1"},
  };
  for (const Case& c : kCases) {
    bool first = true;
    Server server([&](Connection& s, const std::stop_token& stop) {
      const std::string text = s.read_str(stop);
      if (std::exchange(first, false)) c.thrower();
      s.write_str(text);
    });
    const UniqueFd peer = server.connect();
    send_all(peer, "a\r\n");
    EXPECT_EQ(recv_until_eof(peer), "") << c.name;
    EXPECT_FALSE(server->should_be_connected()) << c.name;
    EXPECT_EQ(server.lines.count("read handler failed"), 1u) << c.name;
    EXPECT_EQ(server.lines.count(c.logged), 1u) << server.lines.text();
    const UniqueFd next = server.connect();
    send_all(next, "b\r\n");
    EXPECT_EQ(recv_exact(next, 3), "b\r\n") << "the next client is served";
    server->close();
    EXPECT_EQ(server.events.text(),
              "connected 1, handler failed 1, connected 2, closed here 2");
    EXPECT_TRUE(server.events.values()[1].is_unexpected());
  }
}

TEST(ReadLoopFailureTest, EndOfTheConnectionIsNoFailure) {
  struct Case {
    const char* name;
    std::function<void(Server&, UniqueFd&)> end;
    std::string event;
  };
  const Case kCases[] = {
      {"peer closes", [](auto&, auto& peer) { peer.reset(); }, "peer closed 1"},
      {"peer closes in a message",
       [](auto&, auto& peer) {
         send_all(peer, "hal");
         peer.reset();
       },
       "peer closed 1"},
      {"peer resets",
       [](auto&, auto& peer) { tcpip_tests::reset(std::move(peer)); },
       "reset 1"},
      {"close_client", [](auto& server, auto&) { server->close_client(); },
       "closed here 1"},
      {"close", [](auto& server, auto&) { server->close(); }, "closed here 1"},
  };
  for (const Case& c : kCases) {
    for (const bool with_stop : {true, false}) {
      std::atomic<pid_t> id{0};
      Server server([&](Connection& s, const std::stop_token& stop) {
        id = tcpip_tests::this_thread_id();
        s.read_str(with_stop ? Wait(stop) : Wait());
      });
      UniqueFd peer = server.connect();
      ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
      c.end(server, peer);
      ASSERT_TRUE(server.events.wait_for(2)) << c.name;
      server->close();
      EXPECT_EQ(server.events.text(), "connected 1, " + c.event) << c.name;
      const std::string lines = server.lines.text();
      EXPECT_EQ(server.lines.count("failed"), 0u) << c.name << "\n" << lines;
      const bool has_rest = std::string_view(c.name).ends_with("in a message");
      EXPECT_EQ(lines.find("unfinished message") != lines.npos, has_rest)
          << c.name << "\n"
          << lines;
    }
  }
}

// Upstream's loop ends and callback(false) never comes.
TEST(UpstreamDefect1, LossMetByReadOrReadLineIsReported) {
  for (const bool line : {true, false}) {
    SharedList<std::string> messages;
    Server server([&](Connection& s, const std::stop_token& stop) {
      messages.add(line ? s.read_line(stop) : s.read(100, stop));
    });
    UniqueFd peer = server.connect();
    send_all(peer, "whole\nhal");
    peer.reset();
    ASSERT_TRUE(server.events.wait_for(2));
    EXPECT_EQ(server.events.text(), "connected 1, peer closed 1");
    const UniqueFd next = server.connect();
    EXPECT_TRUE(server.events.wait_for(3));
    // The loss is told before the read that meets it returns its bytes.
    ASSERT_TRUE(messages.wait_for(1));
    EXPECT_TRUE(messages.values()[0].starts_with("whole\n"));
  }
}

// Upstream has it false after the loss, even inside callback(false).
TEST(UpstreamDefect2, ShouldBeConnectedStaysTrueOverALoss) {
  SharedList<bool> should;
  Server server(echo, {.connect_callback = [&](const ConnectionEvent& event) {
                  should.add(event.connection.should_be_connected());
                }});
  UniqueFd peer = server.connect();
  ASSERT_TRUE(should.wait_for(1));
  peer.reset();
  ASSERT_TRUE(should.wait_for(2));
  EXPECT_EQ(should.values(), (std::vector{true, true}));
  // Also once the reader thread is through with it.
  const UniqueFd next = server.connect();
  send_all(next, "a\r\n");
  EXPECT_EQ(recv_exact(next, 3), "a\r\n");
  EXPECT_TRUE(server->should_be_connected());
}

// A command cut short by the end of the connection is not carried out.
TEST(UpstreamDefect5, TruncatedCommandIsNotDispatched) {
  SharedList<std::string> commands;
  Server server([&](Connection& s, const std::stop_token& stop) {
    commands.add(s.read_str(stop));
  });
  UniqueFd peer = server.connect();
  send_all(peer, "move 1\r\nmove 20");
  peer.reset();
  ASSERT_TRUE(server.events.wait_for(2));
  server->close();
  EXPECT_EQ(commands.values(), std::vector<std::string>{"move 1"});
  // Who sends LF for CR LF finds out why nothing happens.
  EXPECT_EQ(server.lines.count("; bytes of it that came: 7"), 1u)
      << server.lines.text();
}

// Upstream drops lines that came before a reset.
TEST(UpstreamDefect10, LinesBeforeAResetAreHandled) {
  SharedList<std::string> commands;
  std::promise<void> let_go;
  std::shared_future<void> gate(let_go.get_future());
  Server server([&](Connection& s, const std::stop_token& stop) {
    gate.wait_for(kPatience);  // until all of it and the reset have come
    commands.add(s.read_str(stop));
  });
  UniqueFd peer = server.connect();
  const int port = tcpip_tests::local_port(peer.get());
  send_all(peer, "one\r\ntwo\r\n");
  tcpip_tests::reset(std::move(peer));
  const auto fd = tcpip_tests::socket_connected_to(port);
  if (fd) tcpip_tests::await_hang_up(*fd);
  let_go.set_value();
  ASSERT_TRUE(server.events.wait_for(2));
  server->close();
  EXPECT_EQ(commands.values(), (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(server.events.text(), "connected 1, reset 1");
}

// --- The stop token ---

TEST(ReadLoopStopTest, StopIsRequestedHoweverTheConnectionEnds) {
  const std::function<void(Server&, UniqueFd&)> kEnds[] = {
      [](auto&, auto& peer) { peer.reset(); },
      [](auto&, auto& peer) { tcpip_tests::reset(std::move(peer)); },
      [](auto& server, auto&) { server->close_client(); },
      [](auto& server, auto&) { server->close(); },
  };
  for (const auto& end : kEnds) {
    std::atomic<bool> inside{false};
    std::atomic<bool> stopped{false};
    // A handler that is busy with something else than the connection.
    Server server([&](Connection&, const std::stop_token& stop) {
      inside = true;
      stopped = eventually([&] { return stop.stop_requested(); });
    });
    UniqueFd peer = server.connect();
    ASSERT_TRUE(eventually([&] { return inside.load(); }));
    end(server, peer);
    EXPECT_TRUE(eventually([&] { return stopped.load(); }));
  }
}

TEST(ReadLoopStopTest, NextClientHasATokenOfItsOwn) {
  SharedList<bool> requested;
  Server server([&](Connection& s, const std::stop_token& stop) {
    requested.add(stop.stop_requested());
    s.read_str(stop);
  });
  for (std::size_t i = 1; i <= 3; ++i) {
    const UniqueFd peer = server.connect();
    ASSERT_TRUE(requested.wait_for(i));
    server->close_client();
  }
  for (const bool value : requested.values()) EXPECT_FALSE(value);
}

// --- A handler's calls belong to its connection ---

TEST(ReadLoopBindingTest, LateReplyDoesNotReachTheNextClient) {
  SharedList<std::string> outcomes;
  std::promise<void> let_go;
  std::shared_future<void> gate(let_go.get_future());
  std::atomic<bool> first{true};
  std::atomic<bool> inside{false};
  Server server([&](Connection& s, const std::stop_token& stop) {
    const std::string text = s.read_str(stop);
    if (!first.exchange(false)) {
      s.write_str("reply to " + text);
      return;
    }
    inside = true;
    gate.wait_for(kPatience);  // meanwhile another client connects
    try {
      s.write_str("reply to " + text);
      outcomes.add("sent");
    } catch (const ConnectionError&) {
      outcomes.add("not sent");
    }
    try {
      outcomes.add(s.read_str(1s));
    } catch (const ConnectionError&) {
      outcomes.add("not read");
    }
  });
  UniqueFd a = server.connect();
  send_all(a, "A\r\n");
  ASSERT_TRUE(eventually([&] { return inside.load(); }));
  a.reset();
  const UniqueFd b = server.connect();
  send_all(b, "B\r\n");
  // The server speaks to the client that is connected.
  server->write_str("from elsewhere");
  let_go.set_value();
  const std::string expected = "from elsewhere\r\nreply to B\r\n";
  EXPECT_EQ(recv_exact(b, expected.size()), expected);
  EXPECT_EQ(outcomes.values(),
            (std::vector<std::string>{"not sent", "not read"}));
}

// What a handler posts may run when its client has long gone.
TEST(ReadLoopBindingTest, PostedCallbackSpeaksOfItsHandlersConnection) {
  CallbackQueue queue;
  std::vector<std::string> outcomes;
  Server server(
      [&](Connection& s, const std::stop_token& stop) {
        const std::string text = s.read_str(stop);
        s.post_wait([&, s, text] {
          try {
            s.write_str("reply to " + text);
            outcomes.push_back("sent to " + text);
          } catch (const ConnectionError&) {
            outcomes.push_back("not sent to " + text);
            EXPECT_FALSE(s.connected());
            s.close();  // not the other's
          }
        });
      },
      {.callbacks = &queue, .connect_callback = [](const auto&) {}});
  UniqueFd a = server.connect();
  send_all(a, "A\r\n");
  ASSERT_TRUE(eventually([&] { return queue.size() == 2; }));
  a.reset();
  ASSERT_TRUE(eventually([&] { return !server->connected(); }));
  const UniqueFd b = server.connect();
  send_all(b, "B\r\n");
  ASSERT_TRUE(eventually([&] { return queue.size() == 5; }));
  queue.run_pending();
  EXPECT_EQ(outcomes, (std::vector<std::string>{"not sent to A", "sent to B"}));
  EXPECT_EQ(recv_exact(b, 12), "reply to B\r\n");
  EXPECT_TRUE(server->connected());
}

TEST(ReadLoopBindingTest, AnotherReaderIsRefusedWhileTheHandlerReads) {
  std::atomic<pid_t> id{0};
  Server server([&](Connection& s, const std::stop_token& stop) {
    id = tcpip_tests::this_thread_id();
    s.write_str(s.read_str(stop));
  });
  const UniqueFd peer = server.connect();
  ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  EXPECT_THROW(server->read_str(1s), std::logic_error);
  send_all(peer, "a\r\n");
  EXPECT_EQ(recv_exact(peer, 3), "a\r\n");
}

TEST(ReadLoopBindingTest, CloseInTheHandlerEndsThatConnection) {
  Server server([](Connection& s, const std::stop_token& stop) {
    if (s.read_str(stop) == "quit") s.close();
  });
  for (int i = 0; i < 3; ++i) {
    const UniqueFd peer = server.connect();
    send_all(peer, "work\r\nquit\r\nnever read\r\n");
    const tcpip_tests::Ending ending = tcpip_tests::recv_ending(peer);
    EXPECT_EQ(ending.error, 0);
  }
  server->close();  // no line can come later
  EXPECT_EQ(server.lines.count("failed"), 0u);
}

// --- With the callbacks ---

// The last message too, of a client that leaves at once. Posted without the
// stop, which that client's end may have requested by then.
TEST(ReadLoopQueueTest, MessagesAndEventsGoThroughOneQueueAndNoneIsLost) {
  CallbackQueue queue;
  std::vector<std::string> messages;
  std::vector<std::string> all;
  Server server(
      [&](Connection& s, const std::stop_token& stop) {
        s.post_wait([&, text = s.read_str(stop)] {
          messages.push_back(text);
          all.push_back(text);
        });
      },
      {.callbacks = &queue,
       .connect_callback = [&](const ConnectionEvent& event) {
         all.push_back(tcpip_testing::summary(event));
       }});
  constexpr std::size_t kClients = 50;
  std::vector<std::string> expected;
  for (std::size_t i = 0; i < kClients; ++i) {
    UniqueFd peer = server.connect();
    send_all(peer, "one\r\ntwo\r\n");
    peer.reset();
    ASSERT_TRUE(eventually([&] { return queue.size() == 4 * (i + 1); }))
        << queue.size();
    expected.insert(expected.end(), {"one", "two"});
  }
  queue.run_pending();
  EXPECT_EQ(messages, expected);
  for (std::size_t i = 0; i < all.size(); i += 4) {
    EXPECT_EQ(all[i], "connected " + std::to_string(i / 4 + 1));
    EXPECT_EQ(all[i + 1], "one");
  }
}

// The handler writes before it reads, and takes nothing: a prompt.
TEST(ReadLoopQueueTest, APeerThatHasGoneIsTheReasonThoughTheHandlerMetIt) {
  Server server([](Connection& client, const std::stop_token& stop) {
    client.write_str("prompt", {kPatience, stop});
    if (client.number() == 1) client.read_exactly(1, stop);
    client.write_str(std::string(1u << 20, 'x'), {kPatience, stop});
  });
  UniqueFd peer = server.connect();
  EXPECT_EQ(recv_exact(peer, 8), "prompt\r\n");
  send_all(peer, "1234567890");
  tcpip_tests::reset(std::move(peer));
  ASSERT_TRUE(server.events.wait_for(2));
  const ConnectionEvent event = server.events.values()[1];
  EXPECT_TRUE(event.reason == DisconnectReason::kReset ||
              event.reason == DisconnectReason::kPeerClosed)
      << to_string(event.reason);
}

// Backpressure: the reader waits for room, and the connection's end frees it.
TEST(ReadLoopQueueTest, FullQueueHoldsTheReaderUpButNotClose) {
  CallbackQueue queue(1);
  std::atomic<int> read{0};
  Server server(
      [&](Connection& s, const std::stop_token& stop) {
        const std::string text = s.read_str(stop);
        ++read;
        s.post_wait([] {}, stop);
      },
      {.callbacks = &queue});
  const UniqueFd peer = server.connect();
  send_all(peer, "1\r\n2\r\n3\r\n4\r\n");
  ASSERT_TRUE(eventually([&] { return read == 2; }));
  EXPECT_LE(seconds_of([&] { server->close(); }), kPrompt);
  EXPECT_EQ(read, 2);
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(server.lines.count("failed")) << server.lines.text();
}

TEST(ReadLoopQueueTest, CloseEndsAPostWaitThatWatchesNoStop) {
  CallbackQueue queue(1);
  queue.post([] {});  // the queue is full
  std::atomic<bool> posting = false;
  Server server(
      [&](Connection& s, const std::stop_token&) {
        s.read_str();
        posting = true;
        s.post_wait([] {});
      },
      {.callbacks = &queue});
  const UniqueFd peer = server.connect();
  send_all(peer, "1\r\n");
  ASSERT_TRUE(eventually([&] { return posting.load(); }));
  EXPECT_LE(seconds_of([&] { server->close(); }), kPrompt);
}

TEST(ReadLoopQueueTest, ReadsWithoutWaitingForTheCallback) {
  CallbackQueue queue;  // nobody drains it
  Server server(echo, {.callbacks = &queue});
  const UniqueFd peer = server.connect();
  send_all(peer, "a\r\n");
  EXPECT_EQ(recv_exact(peer, 3), "a\r\n");
}

TEST(ReadLoopQueueTest, ReadAfterCallbackWaitsForIt) {
  CallbackQueue queue;
  std::atomic<bool> told{false};
  SharedList<bool> told_at;
  Server server(
      [&](Connection& s, const std::stop_token& stop) {
        told_at.add(told);
        s.read_str(stop);
      },
      {.callbacks = &queue,
       .connect_callback =
           [&](const ConnectionEvent& event) {
             if (event.connected) told = true;
           },
       .read_after_callback = true});
  for (std::size_t i = 1; i <= 3; ++i) {
    told = false;
    const UniqueFd peer = server.connect();
    send_all(peer, "a\r\n");
    EXPECT_FALSE(told_at.wait_for(2 * i - 1, 20ms)) << "nobody has been told";
    queue.run_pending();
    ASSERT_TRUE(told_at.wait_for(2 * i));  // with the message, and for more
    server->close_client();
    queue.run_pending();
  }
  for (const bool value : told_at.values()) EXPECT_TRUE(value);
}

TEST(ReadLoopFailureTest, ExceptionWithoutATextIsLogged) {
  struct Silent : std::exception {
    const char* what() const noexcept override { return nullptr; }
  };
  Server server(
      [](Connection&, const std::stop_token&) { throw Silent(); },
      {.connect_callback = [](const ConnectionEvent&) { throw Silent(); }});
  const UniqueFd peer = server.connect();
  EXPECT_EQ(recv_until_eof(peer), "");
  EXPECT_TRUE(server.lines.wait_for(
      "read handler failed: an exception without a text"));
  EXPECT_TRUE(server.lines.wait_for(
      "connect_callback failed: an exception without a text"));
}

// The callbacks of two connections may run at the same time, and end in either
// order.
TEST(ReadLoopQueueTest, ReadAfterCallbackReadsEachClientWithTwoThatDrain) {
  CallbackQueue queue;
  Server server(echo, {.callbacks = &queue, .read_after_callback = true});
  const auto drain = [&](const std::stop_token& stop) {
    try {
      queue.run(stop);
    } catch (const CancelledError&) {
    }
  };
  const std::jthread first(drain);
  const std::jthread second(drain);
  for (int i = 0; i < 40; ++i) {
    const UniqueFd peer = server.connect();
    send_all(peer, "a\r\n");
    EXPECT_EQ(recv_exact(peer, 3), "a\r\n") << "client " << i;
  }
}

TEST(ReadLoopQueueTest, ReadAfterCallbackLetsGoWhenTheConnectionEnds) {
  CallbackQueue queue;
  Server server(echo, {.callbacks = &queue, .read_after_callback = true});
  const UniqueFd first = server.connect();
  server->close_client();  // nobody was told of it
  const UniqueFd second = server.connect();
  EXPECT_LE(seconds_of([&] { server->close(); }), kPrompt);
}

// The reader that waits for the callback keeps the connection's descriptor.
TEST(ReadLoopQueueTest, ReadAfterCallbackKeepsNoDescriptorOfAnEndedConnection) {
  CallbackQueue queue;
  Server server(echo, {.callbacks = &queue, .read_after_callback = true});
  UniqueFd peer = server.connect();
  const int fd = server->connection().native_handle();
  peer.reset();
  EXPECT_TRUE(eventually([&] {
    return tcpip_testing::open_descriptors().count(fd) == 0;
  })) << "though no callback has run";
}

TEST(ReadLoopQueueTest, ReadAfterCallbackWithoutCallbackReadsAtOnce) {
  const HangGuard guard;
  OneClientReadLoopServer server(
      {.host = "127.0.0.1", .read_after_callback = true}, echo);
  server.start();
  const UniqueFd peer = connect_to(server.port());
  send_all(peer, "a\r\n");
  EXPECT_EQ(recv_exact(peer, 3), "a\r\n");
}

// --- The host ---

TEST(ReadLoopHostTest, IsThisMachineUnlessOneIsGiven) {
  OneClientReadLoopServer server({}, echo);
  EXPECT_EQ(server.host(), "127.0.0.1");
  server.start();
  ASSERT_EQ(server.addresses().size(), 1u);
  EXPECT_EQ(server.addresses()[0].host(), "127.0.0.1");
}

TEST(ReadLoopHostTest, EmptyIsAllInterfaces) {
  OneClientReadLoopServer server({.host = ""}, echo);
  server.start();
  ASSERT_EQ(server.addresses().size(), 2u);
  for (const Address& address : server.addresses()) {
    EXPECT_TRUE(address.host() == "0.0.0.0" || address.host() == "::")
        << address.host();
    EXPECT_EQ(address.port(), server.port());
  }
}

// --- begin ---

TEST(ReadLoopBeginTest, RunsOncePerClientBeforeTheHandlerOnItsThread) {
  SharedList<std::string> calls;
  SharedList<std::thread::id> where;
  Server server(
      [&](Connection& client, const std::stop_token& stop) {
        where.add(std::this_thread::get_id());
        calls.add("read " + client.read_str(stop));
      },
      {.begin = [&](Connection& client, const std::stop_token& stop) {
        EXPECT_FALSE(stop.stop_requested());
        where.add(std::this_thread::get_id());
        calls.add("begin " + std::to_string(client.number()));
        client.write_str("Main Box", stop);
      }});
  for (std::size_t i = 1; i <= 2; ++i) {
    const UniqueFd peer = server.connect();
    EXPECT_EQ(recv_exact(peer, 10), "Main Box\r\n") << "it is greeted first";
    send_all(peer, "a\r\nb\r\n");
    ASSERT_TRUE(calls.wait_for(3 * i));
    server->close_client();
  }
  server->close();
  EXPECT_EQ(calls.values(),
            (std::vector<std::string>{"begin 1", "read a", "read b", "begin 2",
                                      "read a", "read b"}));
  for (const std::thread::id id : where.values()) {
    EXPECT_EQ(id, where.values()[0]);
    EXPECT_NE(id, std::this_thread::get_id());
  }
}

TEST(ReadLoopBeginTest, AnExceptionIsLoggedAndEndsTheConnection) {
  std::atomic<int> reads{0};
  std::atomic<bool> fails{true};
  Server server(
      [&](Connection& client, const std::stop_token& stop) {
        ++reads;
        client.write_str(client.read_str(stop), stop);
      },
      {.begin = [&](Connection&, const std::stop_token&) {
        if (fails.exchange(false)) throw std::runtime_error("no greeting");
      }});
  const UniqueFd peer = server.connect();
  EXPECT_EQ(recv_until_eof(peer), "");
  ASSERT_TRUE(server.events.wait_for(2));
  EXPECT_EQ(server.events.text(), "connected 1, handler failed 1");
  EXPECT_EQ(server.lines.count("no greeting"), 1u) << server.lines.text();
  EXPECT_EQ(reads, 0);
  const UniqueFd next = server.connect();
  send_all(next, "a\r\n");
  EXPECT_EQ(recv_exact(next, 3), "a\r\n") << "the next client is served";
}

TEST(ReadLoopBeginTest, TheEndOfTheConnectionIsNoFailure) {
  std::atomic<pid_t> id{0};
  std::atomic<int> reads{0};
  Server server([&](Connection&, const std::stop_token&) { ++reads; },
                {.begin = [&](Connection& client, const std::stop_token& stop) {
                  id = tcpip_tests::this_thread_id();
                  client.read_str(stop);
                }});
  const UniqueFd peer = server.connect();
  ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  server->close();
  EXPECT_EQ(server.events.text(), "connected 1, closed here 1");
  EXPECT_EQ(server.lines.count("failed"), 0u) << server.lines.text();
  EXPECT_EQ(reads, 0);
}

TEST(ReadLoopBeginTest, WithReadAfterCallbackComesBehindTheCallback) {
  CallbackQueue queue;
  std::atomic<bool> told{false};
  SharedList<bool> told_at;
  Server server(
      echo,
      {.callbacks = &queue,
       .connect_callback =
           [&](const ConnectionEvent& event) { told = event.connected; },
       .begin = [&](Connection&, const std::stop_token&) { told_at.add(told); },
       .read_after_callback = true});
  const UniqueFd peer = server.connect();
  EXPECT_FALSE(told_at.wait_for(1, 20ms)) << "nobody has been told";
  queue.run_pending();
  ASSERT_TRUE(told_at.wait_for(1));
  EXPECT_EQ(told_at.values(), std::vector<bool>{true});
}

TEST(ReadLoopBeginTest, IsForReadLoopServersOnly) {
  const auto begin = [](Connection&, const std::stop_token&) {};
  EXPECT_THROW(OneClientServer({.begin = begin}), std::invalid_argument);
  EXPECT_THROW(OneClientServer({.read_after_callback = true}),
               std::invalid_argument);
}

// --- Close from inside ---

TEST(ReadLoopCloseTest, CloseInTheHandlerIsCompleteWhenItHasReturned) {
  const HangGuard guard;
  const ConnectionEvents events;
  const int before = tcpip_testing::count_threads();
  OneClientReadLoopServer server(
      {.host = "127.0.0.1", .connect_callback = events.callback()},
      [&server](Connection& s, const std::stop_token& stop) {
        s.read_str(stop);
        server.close();
        server.close();
      });
  server.start();
  const int port = server.port();
  const UniqueFd peer = connect_to(port);
  send_all(peer, "quit\r\n");
  EXPECT_EQ(recv_until_eof(peer), "");
  EXPECT_TRUE(server.wait_done(kPatience));
  EXPECT_THROW(connect_to(port), std::system_error);
  EXPECT_THROW(server.start(), std::logic_error);
  // No thread is left, although the server has not been destroyed.
  EXPECT_TRUE(eventually([&] {
    return tcpip_testing::count_threads() == before;
  })) << tcpip_testing::count_threads() - before
      << " threads are left";
  EXPECT_EQ(events.text(), "connected 1, closed here 1");
}

}  // namespace
}  // namespace tcpip
