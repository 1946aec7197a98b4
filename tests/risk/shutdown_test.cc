// Promise 3: shutdown is bounded and safe from anywhere.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/testing/connection_events.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::ConnectionEvents;
using tcpip_tests::BlockedCall;
using tcpip_tests::connect_to;
using tcpip_tests::eventually;
using tcpip_tests::HangGuard;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::kWithSanitizer;
using tcpip_tests::recv_until_eof;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using tcpip_tests::SharedList;
using Seconds = std::chrono::duration<double>;

// A write of a few MiB blocks if the peer does not read.
ServerOptions local_host() {
  return {.host = "127.0.0.1", .socket = {.send_buffer = 256 * 1024}};
}

// --- T6: close() wakes what blocks ---

// Runs `blocker` in a thread, waits until it is blocked, and measures how long
// `close` and the end of the thread take.
Seconds time_to_close(const std::function<void()>& blocker,
                      const std::function<void()>& close) {
  std::atomic<pid_t> id{0};
  std::future<void> blocked = std::async(std::launch::async, [&] {
    id = tcpip_tests::this_thread_id();
    blocker();
  });
  EXPECT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  return seconds_of([&] {
    close();
    blocked.get();
  });
}

class WakeTest : public testing::Test {
 protected:
  static constexpr int kRounds = kWithSanitizer ? 5 : 11;

  // Prints the median, and holds every round against the bound.
  static void expect_prompt(const char* what, std::vector<Seconds> times) {
    std::sort(times.begin(), times.end());
    const double p50 = times[times.size() / 2].count() * 1e3;
    const double worst = times.back().count() * 1e3;
    std::printf("close() while blocked in %s: p50 %.2f ms, max %.2f ms\n", what,
                p50, worst);
    RecordProperty("p50_us", static_cast<int>(p50 * 1e3));
    EXPECT_LE(times.back(), kPrompt) << what;
  }

  // `call` blocks in a server with a client, and ends by a ConnectionError.
  template <class Call>
  static void expect_prompt_in_server(const char* what, Call call,
                                      std::string_view sent_before = {}) {
    std::vector<Seconds> times;
    for (int i = 0; i < kRounds; ++i) {
      OneClientServer server(local_host());
      server.start();
      const UniqueFd peer = connect_to(server.port());
      ASSERT_TRUE(server.wait_connected(kPatience));
      send_all(peer, sent_before);
      times.push_back(
          time_to_close([&] { EXPECT_THROW(call(server), ConnectionError); },
                        [&] { server.close(); }));
    }
    expect_prompt(what, std::move(times));
  }

 private:
  HangGuard guard_;
};

TEST_F(WakeTest, CloseWakesAccept) {
  std::vector<Seconds> times;
  for (int i = 0; i < kRounds; ++i) {
    OneClientServer server(local_host());
    server.start();
    times.push_back(
        time_to_close([&] { EXPECT_FALSE(server.wait_connected()); },
                      [&] { server.close(); }));
  }
  expect_prompt("accept", std::move(times));
}

TEST_F(WakeTest, CloseWakesAReadOfNothing) {
  expect_prompt_in_server("read", [](auto& s) { s.read_str(); });
}

TEST_F(WakeTest, CloseWakesAReadWithADeadline) {
  expect_prompt_in_server("read with a deadline",
                          [](auto& s) { s.read_str(kPatience); });
}

TEST_F(WakeTest, CloseWakesAReadWithAStop) {
  const std::stop_source stop;
  expect_prompt_in_server("read with a stop",
                          [&](auto& s) { s.read_str(stop.get_token()); });
}

TEST_F(WakeTest, CloseWakesAReadOfPartOfAMessage) {
  expect_prompt_in_server(
      "read, half a message", [](auto& s) { s.read_str(); }, "half");
}

TEST_F(WakeTest, CloseWakesAWaitForReadableBytes) {
  std::vector<Seconds> times;
  for (int i = 0; i < kRounds; ++i) {
    OneClientServer server(local_host());
    server.start();
    const UniqueFd peer = connect_to(server.port());
    ASSERT_TRUE(server.wait_connected(kPatience));
    times.push_back(time_to_close([&] { server.wait_readable(); },
                                  [&] { server.close(); }));
  }
  expect_prompt("wait_readable", std::move(times));
}

TEST_F(WakeTest, CloseWakesAWrite) {
  const std::string large(8 * 1024 * 1024, 'a');
  expect_prompt_in_server("write", [&](auto& s) { s.write(large); });
}

TEST_F(WakeTest, CloseWakesSeveralWriters) {
  const std::string large(8 * 1024 * 1024, 'a');
  OneClientServer server(local_host());
  server.start();
  const UniqueFd peer = connect_to(server.port());
  ASSERT_TRUE(server.wait_connected(kPatience));
  std::vector<std::future<void>> writers;
  std::array<std::atomic<pid_t>, 3> ids{};
  for (std::atomic<pid_t>& id : ids) {
    writers.push_back(std::async(std::launch::async, [&] {
      id = tcpip_tests::this_thread_id();
      EXPECT_THROW(server.write(large), ConnectionError);
    }));
  }
  for (std::atomic<pid_t>& id : ids) {
    ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
  }
  EXPECT_LE(seconds_of([&] {
              server.close();
              for (auto& writer : writers) writer.get();
            }),
            kPrompt);
}

TEST_F(WakeTest, CloseWakesConnect) {
  const tcpip_tests::SilentPort silent;
  std::vector<Seconds> times;
  for (int i = 0; i < kRounds; ++i) {
    Client client({.host = "127.0.0.1", .port = silent.listener.port});
    times.push_back(
        time_to_close([&] { EXPECT_THROW(client.start(), ConnectionError); },
                      [&] { client.close(); }));
  }
  expect_prompt("connect", std::move(times));
}

TEST_F(WakeTest, CloseWakesACallbackThatReads) {
  std::vector<Seconds> times;
  for (int i = 0; i < kRounds; ++i) {
    std::atomic<pid_t> id{0};
    OneClientServer server({.host = "127.0.0.1",
                            .connect_callback = [&](const ConnectionEvent& e) {
                              if (!e.connected) return;
                              id = tcpip_tests::this_thread_id();
                              EXPECT_THROW(e.connection.read_str(),
                                           ConnectionError);
                            }});
    server.start();
    const UniqueFd peer = connect_to(server.port());
    ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
    times.push_back(seconds_of([&] { server.close(); }));
  }
  expect_prompt("a callback", std::move(times));
}

TEST_F(WakeTest, CloseWakesTheReadHandler) {
  std::vector<Seconds> times;
  for (int i = 0; i < kRounds; ++i) {
    std::atomic<pid_t> id{0};
    OneClientReadLoopServer server(
        {.host = "127.0.0.1"}, [&](Connection& s, const std::stop_token& stop) {
          id = tcpip_tests::this_thread_id();
          s.read_str(stop);
        });
    server.start();
    const UniqueFd peer = connect_to(server.port());
    ASSERT_TRUE(eventually([&] { return tcpip_tests::is_blocked(id); }));
    times.push_back(seconds_of([&] { server.close(); }));
  }
  expect_prompt("the read handler", std::move(times));
}

TEST_F(WakeTest, CloseWithUnsentBytesAndAPeerThatDoesNotReadIsBounded) {
  std::vector<Seconds> times;
  for (int i = 0; i < 5; ++i) {
    OneClientServer server(local_host());
    server.start();
    const UniqueFd peer = connect_to(server.port());
    ASSERT_TRUE(server.wait_connected(kPatience));
    EXPECT_THROW(server.write(std::string(8 * 1024 * 1024, 'a'), 10ms),
                 TimeoutError);
    times.push_back(seconds_of([&] { server.close(); }));
  }
  expect_prompt("nothing, with unsent bytes", std::move(times));
}

// --- close() more than once ---

TEST(CloseTest, TwiceAndFromManyThreadsAtOnce) {
  const HangGuard guard;
  for (int i = 0; i < 50; ++i) {
    const ConnectionEvents events;
    OneClientServer server(
        {.host = "127.0.0.1", .connect_callback = events.callback()});
    server.start();
    const UniqueFd peer = connect_to(server.port());
    ASSERT_TRUE(server.wait_connected(kPatience));
    {
      std::vector<std::jthread> closers;
      for (int k = 0; k < 3; ++k) {
        closers.emplace_back([&] {
          server.close();
          // Whichever of them did it: it is done.
          EXPECT_TRUE(server.wait_done(kPatience));
          EXPECT_EQ(events.size(), 2u);
        });
      }
    }
    server.close();
    EXPECT_EQ(events.text(), "connected 1, closed here 1");
  }
}

TEST(CloseTest, OfAClientTwiceAndFromManyThreadsAtOnce) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4, 100);
  for (int i = 0; i < 50; ++i) {
    const ConnectionEvents events;
    Client client({.host = "127.0.0.1",
                   .port = listener.port,
                   .connect_callback = events.callback()});
    client.start(kPatience);
    {
      std::vector<std::jthread> closers;
      for (int k = 0; k < 3; ++k) {
        closers.emplace_back([&] {
          client.close();
          EXPECT_EQ(events.size(), 2u);
        });
      }
    }
    EXPECT_EQ(events.text(), "connected 1, closed here 1");
  }
}

TEST(CloseTest, DuringStartOfAServerIsCleanWhicheverComesFirst) {
  const HangGuard guard;
  for (int i = 0; i < 100; ++i) {
    OneClientServer server({.host = "127.0.0.1",
                            .connect_callback = ConnectionEvents().callback()});
    std::jthread closer([&] { server.close(); });
    try {
      server.start();
    } catch (const ConnectionError&) {
      // Closed in the middle of it,
    } catch (const std::logic_error&) {
      // ... or before.
    }
    closer.join();
    EXPECT_TRUE(server.wait_done(Wait::none()));
  }
}

// close() in one thread waits for the callback that runs in another.
TEST(CloseTest, WaitsForARunningCallbackAndNoneRunsAfterwards) {
  const HangGuard guard;
  for (int i = 0; i < 30; ++i) {
    std::atomic<bool> closed{false};
    std::atomic<bool> late{false};
    std::atomic<int> running{0};
    OneClientServer server(
        {.host = "127.0.0.1", .connect_callback = [&](const ConnectionEvent&) {
           ++running;
           if (closed) late = true;
           std::this_thread::yield();
           if (closed) late = true;
           --running;
         }});
    server.start();
    UniqueFd peer = connect_to(server.port());
    if (i % 2 == 0) {
      ASSERT_TRUE(server.wait_connected(kPatience));
    }
    server.close();
    EXPECT_EQ(running, 0);
    closed = true;
    peer.reset();
    EXPECT_FALSE(late);
  }
}

// --- T7: everything at once ---

TEST(ChaosTest, CloseClientReadAndWriteAtRandomFromFourThreads) {
  const HangGuard guard;
  const auto end = std::chrono::steady_clock::now() + 2s;
  std::mt19937 seeds(7);
  std::uint64_t servers = 0;
  std::uint64_t connections = 0;
  while (std::chrono::steady_clock::now() < end) {
    const ConnectionEvents events;
    OneClientServer server(
        {.host = "127.0.0.1", .connect_callback = events.callback()});
    server.start();
    const int port = server.port();
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < 4; ++t) {
        threads.emplace_back(
            [&, t, seed = seeds()](const std::stop_token& stop) {
              std::mt19937 random(seed);
              while (!stop.stop_requested()) {
                try {
                  switch (random() % 5) {
                    case 0:
                      server.close_client();
                      break;
                    case 1:
                      server.read(10, 2ms);
                      break;
                    case 2:
                      server.write("hello\r\n", 2ms);
                      break;
                    case 3:
                      server.read_str({1ms, stop});
                      break;
                    default:
                      if (t == 0 && random() % 20 == 0) server.close();
                      server.wait_connected({1ms, stop});
                  }
                } catch (const Error&) {
                  // Not connected, lost, timed out: all in the game.
                } catch (const CancelledError&) {
                } catch (const std::logic_error&) {
                  // Another thread is reading.
                }
              }
            });
      }
      const auto stop_at = std::chrono::steady_clock::now() + 150ms;
      while (std::chrono::steady_clock::now() < stop_at) {
        try {
          UniqueFd peer = connect_to(port);
          send_all(peer, "abc\r\ndef");
          if (seeds() % 2 == 0) tcpip_tests::reset(std::move(peer));
        } catch (const std::system_error&) {
          // Closed by now, or reset.
        }
        ::poll(nullptr, 0, 1);  // no faster than they can be accepted
      }
    }
    server.close();
    const auto log = events.values();
    for (std::size_t i = 0; i < log.size(); ++i) {
      ASSERT_EQ(log[i].connected, i % 2 == 0) << events.text();
    }
    EXPECT_EQ(log.size() % 2, 0u);
    ++servers;
    connections += server.connection_count();
  }
  std::printf("%llu servers, %llu connections\n",
              static_cast<unsigned long long>(servers),
              static_cast<unsigned long long>(connections));
  EXPECT_GT(connections, servers);
}

// --- T8: the events of 500 connections that end at random ---

TEST(ChaosTest, EventsAlternateAndNoneComesAfterClose) {
  const HangGuard guard;
  struct Entry {
    std::uint64_t sequence;
    ConnectionEvent event;
  };
  std::atomic<std::uint64_t> sequence{0};
  std::mt19937 random(8);
  constexpr int kConnections = kWithSanitizer ? 200 : 500;
  for (int done = 0; done < kConnections;) {
    const SharedList<Entry> log;
    OneClientServer server(
        {.host = "127.0.0.1",
         .connect_callback = [&](const ConnectionEvent& event) {
           log.add({++sequence, event});
         }});
    server.start();
    const int connections = 1 + static_cast<int>(random() % 20);
    for (int i = 0; i < connections; ++i, ++done) {
      const std::uint64_t before = server.connection_count();
      UniqueFd peer = connect_to(server.port());
      if (random() % 2 == 0) send_all(peer, "unread");
      ASSERT_TRUE(
          eventually([&] { return server.connection_count() > before; }));
      switch (random() % 4) {
        case 0:
          server.close_client();
          break;
        case 1:
          tcpip_tests::reset(std::move(peer));
          break;
        case 2:
          peer.reset();
          break;
        default:
          // Left to be ended by close(), or by the one that comes next.
          tcpip_tests::half_close(peer);
      }
    }
    server.close();
    const std::uint64_t closed_at = ++sequence;
    const auto entries = log.values();
    ASSERT_EQ(entries.size(), 2u * static_cast<unsigned>(connections));
    for (std::size_t i = 0; i < entries.size(); ++i) {
      ASSERT_LT(entries[i].sequence, closed_at) << "after close()";
      ASSERT_EQ(entries[i].event.connected, i % 2 == 0);
      ASSERT_EQ(entries[i].event.connection.number(), i / 2 + 1);
      if (i > 0) {
        ASSERT_GT(entries[i].sequence, entries[i - 1].sequence);
      }
    }
  }
}

// --- T9: in a callback ---

enum class Where { kDispatcher, kQueue };

// A server whose callback does something drastic at one of its events, on the
// server's own thread or where the test drains a queue.
class CallbackCase {
 public:
  using Action = std::function<void(CallbackCase&)>;

  CallbackCase(Where where, bool at_connect, Action action) {
    ServerOptions options = local_host();
    if (where == Where::kQueue) options.callbacks = &queue;
    options.connect_callback = [this, at_connect, action = std::move(action)](
                                   const ConnectionEvent& event) {
      events.add(event);
      if (event.connected == at_connect) {
        eventually([this] { return ready.load(); });
        action(*this);
        acted = true;
      }
    };
    server = std::make_unique<OneClientServer>(std::move(options));
    server->start();
    peer = connect_to(server->port());
    if (!at_connect) peer.reset();
    ready = true;  // from here on `server` is the callback's to destroy
  }

  // True once the action is done.
  bool run() {
    return eventually([this] {
      queue.run_pending();
      return acted.load();
    });
  }

  CallbackQueue queue;
  UniqueFd peer;
  ConnectionEvents events;
  std::atomic<bool> ready{false};
  std::atomic<bool> acted{false};
  std::unique_ptr<OneClientServer> server;  // last: it uses what is above
};

class InCallbackTest
    : public testing::TestWithParam<std::tuple<Where, bool /*at_connect*/>> {
 protected:
  void expect_prompt(const CallbackCase::Action& action,
                     const std::function<void(CallbackCase&)>& check) {
    const HangGuard guard;
    const auto [where, at_connect] = GetParam();
    for (int i = 0; i < (kWithSanitizer ? 10 : 30); ++i) {
      CallbackCase c(where, at_connect, action);
      const Seconds took = seconds_of([&] { ASSERT_TRUE(c.run()); });
      ASSERT_LE(took, kPrompt);
      check(c);
    }
  }
};

TEST_P(InCallbackTest, CloseReturnsAndThatCallbackIsTheLast) {
  expect_prompt([](CallbackCase& c) { c.server->close(); },
                [](CallbackCase& c) {
                  EXPECT_TRUE(c.server->wait_done(kPatience));
                  const std::size_t count = c.events.size();
                  c.queue.run_pending();
                  c.server->close();
                  EXPECT_EQ(c.events.size(), count);
                  EXPECT_FALSE(c.server->connected());
                });
}

TEST_P(InCallbackTest, CloseClientReturnsAndTheServerGoesOn) {
  expect_prompt([](CallbackCase& c) { c.server->close_client(); },
                [](CallbackCase& c) {
                  c.peer = connect_to(c.server->port());
                  EXPECT_TRUE(eventually(
                      [&] { return c.server->connection_count() == 2; }));
                });
}

TEST_P(InCallbackTest, WriteToAPeerThatHasGoneFailsOrIsLost) {
  expect_prompt(
      [](CallbackCase& c) {
        c.peer.reset();
        for (int i = 0; i < 1000; ++i) {
          try {
            c.server->write("x", 1s);
          } catch (const ConnectionError&) {
            return;
          }
          ::poll(nullptr, 0, 1);
        }
        ADD_FAILURE() << "no write has failed";
      },
      [](CallbackCase& c) {
        EXPECT_TRUE(eventually([&] { return !c.server->connected(); }));
      });
}

TEST_P(InCallbackTest, DestroyingTheServerIsSafe) {
  expect_prompt([](CallbackCase& c) { c.server.reset(); },
                [](CallbackCase& c) {
                  const std::size_t count = c.events.size();
                  c.queue.run_pending();
                  EXPECT_EQ(c.events.size(), count);
                });
}

TEST_P(InCallbackTest, CloseThereAndElsewhereAtOnce) {
  std::jthread other;
  expect_prompt(
      [&](CallbackCase& c) {
        other = std::jthread([&] { c.server->close(); });
        c.server->close();
      },
      [&](CallbackCase& c) {
        other.join();
        EXPECT_TRUE(c.server->wait_done(kPatience));
      });
}

INSTANTIATE_TEST_SUITE_P(
    Everywhere, InCallbackTest,
    testing::Combine(testing::Values(Where::kDispatcher, Where::kQueue),
                     testing::Bool()),
    [](const auto& test) {
      return std::string(std::get<0>(test.param) == Where::kDispatcher
                             ? "OnItsOwnThread"
                             : "OnTheQueue") +
             (std::get<1>(test.param) ? "AtConnect" : "AtDisconnect");
    });

// The same with a Client.
TEST(InClientCallbackTest, CloseAndDestructionAreSafe) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4, 100);
  for (const bool at_connect : {true, false}) {
    for (const bool destroy : {true, false}) {
      for (int i = 0; i < (kWithSanitizer ? 5 : 20); ++i) {
        std::atomic<bool> acted{false};
        std::promise<void> made;  // the callback may come before start() ends
        std::shared_future<void> ready(made.get_future());
        std::unique_ptr<Client> client;
        client = std::make_unique<Client>(ClientOptions{
            .host = "127.0.0.1",
            .port = listener.port,
            .connect_callback = [&](const ConnectionEvent& event) {
              if (event.connected != at_connect) return;
              ready.wait_for(kPatience);
              if (destroy) {
                client.reset();
              } else {
                client->close();
              }
              acted = true;
            }});
        client->start(kPatience);
        tcpip_tests::accept_one(listener).reset();  // the server goes at once
        made.set_value();
        ASSERT_TRUE(eventually([&] { return acted.load(); }));
      }
    }
  }
}

// --- T9: in the read handler ---

TEST(InHandlerTest, DestroyingTheServerIsSafe) {
  const HangGuard guard;
  for (int i = 0; i < (kWithSanitizer ? 20 : 100); ++i) {
    std::atomic<bool> acted{false};
    std::unique_ptr<OneClientReadLoopServer> server;
    server = std::make_unique<OneClientReadLoopServer>(
        ServerOptions{.host = "127.0.0.1",
                      .connect_callback = ConnectionEvents().callback()},
        [&](Connection& s, const std::stop_token& stop) {
          s.read_str(stop);
          server.reset();
          acted = true;
        });
    server->start();
    const int port = server->port();
    const UniqueFd peer = connect_to(port);
    send_all(peer, "quit\r\n");
    ASSERT_TRUE(eventually([&] { return acted.load(); }));
    EXPECT_EQ(recv_until_eof(peer), "");
    EXPECT_THROW(connect_to(port), std::system_error);
  }
}

// A callback may be using the server at that moment.
TEST(InHandlerTest, DestructionWaitsForTheCallbackThatIsRunning) {
  const HangGuard guard;
  for (int i = 0; i < (kWithSanitizer ? 20 : 100); ++i) {
    std::atomic<bool> acted{false};
    std::atomic<bool> in_callback{false};
    std::atomic<bool> ending{false};
    std::unique_ptr<OneClientReadLoopServer> server;
    server = std::make_unique<OneClientReadLoopServer>(
        ServerOptions{.host = "127.0.0.1",
                      .connect_callback =
                          [&](const ConnectionEvent& event) {
                            if (!event.connected) return;
                            OneClientReadLoopServer& used = *server;
                            in_callback = true;
                            eventually([&] { return ending.load(); });
                            for (int k = 0; k < 100; ++k) {
                              EXPECT_GT(used.port(), 0);
                              EXPECT_EQ(used.addresses().size(), 1u);
                            }
                          }},
        [&](Connection&, const std::stop_token&) {
          eventually([&] { return in_callback.load(); });
          ending = true;
          server.reset();
          acted = true;
        });
    server->start();
    const UniqueFd peer = connect_to(server->port());
    ASSERT_TRUE(eventually([&] { return acted.load(); }));
  }
}

TEST(InHandlerTest, CloseInItAndElsewhereAtOnce) {
  const HangGuard guard;
  for (int i = 0; i < (kWithSanitizer ? 20 : 100); ++i) {
    const ConnectionEvents events;
    std::atomic<bool> inside{false};
    OneClientReadLoopServer server(
        {.host = "127.0.0.1", .connect_callback = events.callback()},
        [&](Connection&, const std::stop_token&) {
          inside = true;
          server.close();
        });
    server.start();
    const UniqueFd peer = connect_to(server.port());
    ASSERT_TRUE(eventually([&] { return inside.load(); }));
    const Seconds took = seconds_of([&] { server.close(); });
    EXPECT_LE(took, kPrompt);
    EXPECT_EQ(events.text(), "connected 1, closed here 1");
  }
}

TEST(InHandlerTest, CloseInItThenDestructionElsewhere) {
  const HangGuard guard;
  for (int i = 0; i < (kWithSanitizer ? 20 : 100); ++i) {
    std::atomic<bool> inside{false};
    {
      OneClientReadLoopServer server(
          {.host = "127.0.0.1",
           .connect_callback = ConnectionEvents().callback()},
          [&](Connection&, const std::stop_token&) {
            server.close();
            inside = true;
          });
      server.start();
      const UniqueFd peer = connect_to(server.port());
      ASSERT_TRUE(eventually([&] { return inside.load(); }));
    }
  }
}

// With a queue of the program's, on whose thread nothing runs any more.
TEST(InHandlerTest, CloseInItWithAQueueLeavesTheLastEventToBeRun) {
  const HangGuard guard;
  CallbackQueue queue;
  const ConnectionEvents events;
  OneClientReadLoopServer server(
      {.host = "127.0.0.1",
       .callbacks = &queue,
       .connect_callback = events.callback()},
      [&](Connection&, const std::stop_token&) { server.close(); });
  server.start();
  const UniqueFd peer = connect_to(server.port());
  ASSERT_TRUE(server.wait_done(kPatience));
  queue.run_pending();
  EXPECT_EQ(events.text(), "connected 1, closed here 1");
}

// The hook runs before the thread's work does, and counts as a part of it.
TEST(InHookTest, CloseInAThreadsStartHookEndsTheServer) {
  const HangGuard guard;
  for (const ThreadRole role :
       {ThreadRole::kReader, ThreadRole::kAccept, ThreadRole::kDispatch}) {
    OneClientReadLoopServer* self = nullptr;
    OneClientReadLoopServer server(
        {.host = "127.0.0.1",
         .connect_callback = ConnectionEvents().callback(),
         .thread_start_hook =
             [&](ThreadRole r) {
               if (r == role) self->close();
             }},
        [](Connection& s, std::stop_token stop) { s.read_str(stop); });
    self = &server;
    try {
      server.start();
    } catch (const ConnectionError&) {
      // It was closed before it had all its threads.
    }
    EXPECT_TRUE(server.wait_done(kPatience));
    server.close();
  }
}

TEST(InHookTest, CloseInAThreadsStartHookEndsTheClient) {
  const HangGuard guard;
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4, 100);
  for (const ThreadRole role : {ThreadRole::kMonitor, ThreadRole::kDispatch}) {
    Client* self = nullptr;
    Client client({.host = "127.0.0.1",
                   .port = listener.port,
                   .connect_callback = ConnectionEvents().callback(),
                   .thread_start_hook = [&](ThreadRole r) {
                     if (r == role) self->close();
                   }});
    self = &client;
    try {
      client.start(kPatience);
    } catch (const ConnectionError&) {
      // It was closed before it was connected.
    }
    EXPECT_TRUE(client.wait_done(kPatience));
    client.close();
  }
}

// --- Objects that end each other ---

enum class Runs { kDispatchers, kQueues };
enum class Ends { kClose, kDestroy };

// Where the callbacks of several objects run: on threads of their own, or each
// on a queue of the program's with a thread that drains it.
class Places {
 public:
  Places(Runs runs, std::size_t count) {
    if (runs == Runs::kDispatchers) return;
    for (std::size_t i = 0; i < count; ++i) {
      queues_.push_back(std::make_unique<CallbackQueue>());
      threads_.emplace_back([queue = queues_.back().get()](
                                std::stop_token stop) { queue->run(stop); });
    }
  }

  CallbackQueue* queue(std::size_t i) {
    return queues_.empty() ? nullptr : queues_[i].get();
  }

 private:
  std::vector<std::unique_ptr<CallbackQueue>> queues_;
  std::vector<std::jthread> threads_;
};

// Each waits until all are there; then they act at once.
class Meeting {
 public:
  explicit Meeting(int count) : count_(count) {}

  template <class Action>
  void act(Action action) {
    ++there_;
    EXPECT_TRUE(eventually([this] { return there_ == count_; }));
    action();
    ++done_;
  }
  bool wait_done() {
    return eventually([this] { return done_ == count_; });
  }

 private:
  const int count_;
  std::atomic<int> there_{0};
  std::atomic<int> done_{0};
};

template <class Object>
void end(Ends ends, std::unique_ptr<Object>& object) {
  if (ends == Ends::kDestroy) {
    object.reset();
  } else {
    object->close();
  }
}

// Also after an end that did not wait for a callback of its own.
template <class Object>
void expect_ended(Ends ends, const std::unique_ptr<Object>& object) {
  if (ends == Ends::kDestroy) {
    EXPECT_EQ(object, nullptr);
  } else {
    EXPECT_TRUE(object->wait_done(kPatience));
  }
}

class EachOtherTest : public testing::TestWithParam<std::tuple<Runs, Ends>> {
 protected:
  static constexpr int kRounds = kWithSanitizer ? 10 : 30;

  const Runs runs_ = std::get<0>(GetParam());
  const Ends ends_ = std::get<1>(GetParam());

 private:
  HangGuard guard_;
};

// A gateway that gives up the one side when the other is lost, and both are.
TEST_P(EachOtherTest, ServerAndClient) {
  const auto device =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4, 100);
  for (int i = 0; i < kRounds; ++i) {
    Places places(runs_, 2);
    Meeting meeting(2);
    std::unique_ptr<OneClientServer> server;
    std::unique_ptr<Client> client;
    server = std::make_unique<OneClientServer>(
        ServerOptions{.host = "127.0.0.1",
                      .callbacks = places.queue(0),
                      .connect_callback = [&](const ConnectionEvent& event) {
                        if (event.connected) return;
                        meeting.act([&] { end(ends_, client); });
                      }});
    client = std::make_unique<Client>(
        ClientOptions{.host = "127.0.0.1",
                      .port = device.port,
                      .callbacks = places.queue(1),
                      .connect_callback = [&](const ConnectionEvent& event) {
                        if (event.connected) return;
                        meeting.act([&] { end(ends_, server); });
                      }});
    server->start();
    client->start(kPatience);
    UniqueFd user = connect_to(server->port());
    ASSERT_TRUE(server->wait_connected(kPatience));
    tcpip_tests::accept_one(device).reset();
    user.reset();
    ASSERT_TRUE(meeting.wait_done());
    expect_ended(ends_, server);
    expect_ended(ends_, client);
  }
}

TEST_P(EachOtherTest, RingOfThreeServers) {
  constexpr std::size_t kServers = 3;
  for (int i = 0; i < kRounds; ++i) {
    Places places(runs_, kServers);
    Meeting meeting(kServers);
    std::array<std::unique_ptr<OneClientServer>, kServers> servers;
    for (std::size_t k = 0; k < kServers; ++k) {
      servers[k] = std::make_unique<OneClientServer>(ServerOptions{
          .host = "127.0.0.1",
          .callbacks = places.queue(k),
          .connect_callback = [&, k](const ConnectionEvent& event) {
            if (event.connected) return;
            meeting.act([&] { end(ends_, servers[(k + 1) % kServers]); });
          }});
      servers[k]->start();
    }
    std::array<UniqueFd, kServers> users;
    for (std::size_t k = 0; k < kServers; ++k) {
      users[k] = connect_to(servers[k]->port());
      ASSERT_TRUE(servers[k]->wait_connected(kPatience));
    }
    for (UniqueFd& user : users) user.reset();
    ASSERT_TRUE(meeting.wait_done());
    for (const auto& server : servers) expect_ended(ends_, server);
  }
}

TEST_P(EachOtherTest, TwoReadHandlers) {
  for (int i = 0; i < kRounds; ++i) {
    Places places(runs_, 2);
    Meeting meeting(2);
    std::array<std::unique_ptr<OneClientReadLoopServer>, 2> servers;
    for (std::size_t k = 0; k < 2; ++k) {
      servers[k] = std::make_unique<OneClientReadLoopServer>(
          ServerOptions{.host = "127.0.0.1",
                        .callbacks = places.queue(k),
                        .connect_callback = ConnectionEvents().callback()},
          [&, k](auto& self, const std::stop_token& stop) {
            self.read_str(stop);
            meeting.act([&] { end(ends_, servers[1 - k]); });
          });
      servers[k]->start();
    }
    std::array<UniqueFd, 2> users;
    for (std::size_t k = 0; k < 2; ++k) {
      users[k] = connect_to(servers[k]->port());
      send_all(users[k], "quit\r\n");
    }
    ASSERT_TRUE(meeting.wait_done());
    for (const auto& server : servers) expect_ended(ends_, server);
  }
}

TEST_P(EachOtherTest, ReadHandlerAndCallback) {
  for (int i = 0; i < kRounds; ++i) {
    Places places(runs_, 2);
    Meeting meeting(2);
    std::unique_ptr<OneClientServer> plain;
    std::unique_ptr<OneClientReadLoopServer> reading;
    plain = std::make_unique<OneClientServer>(
        ServerOptions{.host = "127.0.0.1",
                      .callbacks = places.queue(0),
                      .connect_callback = [&](const ConnectionEvent& event) {
                        if (event.connected) return;
                        meeting.act([&] { end(ends_, reading); });
                      }});
    reading = std::make_unique<OneClientReadLoopServer>(
        ServerOptions{.host = "127.0.0.1",
                      .callbacks = places.queue(1),
                      .connect_callback = ConnectionEvents().callback()},
        [&](auto& self, const std::stop_token& stop) {
          self.read_str(stop);
          meeting.act([&] { end(ends_, plain); });
        });
    plain->start();
    reading->start();
    UniqueFd first = connect_to(plain->port());
    ASSERT_TRUE(plain->wait_connected(kPatience));
    const UniqueFd second = connect_to(reading->port());
    send_all(second, "quit\r\n");
    first.reset();
    ASSERT_TRUE(meeting.wait_done());
    expect_ended(ends_, plain);
    expect_ended(ends_, reading);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, EachOtherTest,
    testing::Combine(testing::Values(Runs::kDispatchers, Runs::kQueues),
                     testing::Values(Ends::kClose, Ends::kDestroy)),
    [](const auto& test) {
      return std::string(std::get<0>(test.param) == Runs::kDispatchers
                             ? "OnTheirThreads"
                             : "OnQueues") +
             (std::get<1>(test.param) == Ends::kClose ? "Close" : "Destroy");
    });

// Where nothing goes in a circle, close() waits.
TEST(CloseTest, InAnotherObjectsCallbackWaitsForARunningCallback) {
  const HangGuard guard;
  for (const Runs runs : {Runs::kDispatchers, Runs::kQueues}) {
    Places places(runs, 2);
    std::atomic<bool> inside{false};
    std::atomic<bool> open{false};
    std::atomic<bool> over{false};
    std::atomic<pid_t> closer{0};
    std::atomic<bool> closed{false};
    OneClientServer busy(
        {.host = "127.0.0.1",
         .callbacks = places.queue(0),
         .connect_callback = [&](const ConnectionEvent& event) {
           if (!event.connected) return;
           inside = true;
           EXPECT_TRUE(eventually([&] { return open.load(); }));
           over = true;
         }});
    OneClientServer other(
        {.host = "127.0.0.1",
         .callbacks = places.queue(1),
         .connect_callback = [&](const ConnectionEvent& event) {
           if (!event.connected) return;
           closer = tcpip_tests::this_thread_id();
           busy.close();
           EXPECT_TRUE(over);
           closed = true;
         }});
    busy.start();
    other.start();
    const UniqueFd first = connect_to(busy.port());
    ASSERT_TRUE(eventually([&] { return inside.load(); }));
    const UniqueFd second = connect_to(other.port());
    ASSERT_TRUE(eventually([&] {
      return closer != 0 && tcpip_tests::is_blocked_in(closer, {SYS_futex});
    }));
    open = true;
    EXPECT_TRUE(eventually([&] { return closed.load(); }));
  }
}

// --- When all has ended ---

TEST(CloseTest, EachCloseWaitsForTheReadHandler) {
  const HangGuard guard;
  std::atomic<bool> inside{false};
  std::atomic<bool> open{false};
  std::atomic<bool> over{false};
  OneClientReadLoopServer server(
      {.host = "127.0.0.1"}, [&](auto&, const std::stop_token&) {
        inside = true;
        EXPECT_TRUE(eventually([&] { return open.load(); }));
        over = true;
      });
  server.start();
  const UniqueFd peer = connect_to(server.port());
  ASSERT_TRUE(eventually([&] { return inside.load(); }));
  const auto close = [&] {
    server.close();
    return over.load();
  };
  BlockedCall first(close);
  ASSERT_TRUE(first.await_blocked());
  BlockedCall second(close);
  EXPECT_TRUE(second.await_blocked());
  open = true;
  EXPECT_TRUE(first.get());
  EXPECT_TRUE(second.get());
}

TEST(CloseTest, IsNotDoneWhileTheCallbackThatClosedStillRuns) {
  const HangGuard guard;
  for (const Runs runs : {Runs::kDispatchers, Runs::kQueues}) {
    Places places(runs, 1);
    std::atomic<bool> closed{false};
    std::atomic<bool> open{false};
    OneClientServer server(
        {.host = "127.0.0.1",
         .callbacks = places.queue(0),
         .connect_callback = [&](const ConnectionEvent& event) {
           if (!event.connected) return;
           server.close();
           closed = true;
           EXPECT_TRUE(eventually([&] { return open.load(); }));
         }});
    server.start();
    const UniqueFd peer = connect_to(server.port());
    ASSERT_TRUE(eventually([&] { return closed.load(); }));
    EXPECT_FALSE(server.wait_done(Wait::none()));
    BlockedCall waiting([&] { return server.wait_done(kPatience); });
    EXPECT_TRUE(waiting.await_blocked());
    open = true;
    EXPECT_TRUE(waiting.get());
  }
}

TEST(CloseTest, IsNotDoneWhileAPostedCallbackThatClosedStillRuns) {
  const HangGuard guard;
  Places places(Runs::kQueues, 1);
  std::atomic<bool> closed{false};
  std::atomic<bool> open{false};
  OneClientServer server({.host = "127.0.0.1", .callbacks = places.queue(0)});
  server.start();
  EXPECT_TRUE(server.post([&] {
    server.close();
    closed = true;
    EXPECT_TRUE(eventually([&] { return open.load(); }));
  }));
  ASSERT_TRUE(eventually([&] { return closed.load(); }));
  EXPECT_FALSE(server.wait_done(Wait::none()));
  open = true;
  EXPECT_TRUE(server.wait_done(kPatience));
}

// While the accept thread is busy with others, and so may be the first to see
// that the server is closing.
TEST(CloseTest, InTheReadHandlerLeavesNoDescriptorWhenAllIsDone) {
  const HangGuard guard;
  for (int i = 0; i < (kWithSanitizer ? 5 : 20); ++i) {
    OneClientReadLoopServer server(
        {.host = "127.0.0.1"}, [&](Connection& client, std::stop_token stop) {
          client.read(1, stop);
          server.close();
        });
    server.start();
    const UniqueFd peer = connect_to(server.port());
    const int port = tcpip_tests::local_port(peer.get());
    ASSERT_TRUE(server.wait_connected(kPatience));
    std::jthread knocking([&](std::stop_token stop) {
      try {
        while (!stop.stop_requested()) connect_to(server.port()).reset();
      } catch (const std::system_error&) {
        // It no longer listens.
      }
    });
    send_all(peer, "x");
    ASSERT_TRUE(server.wait_done(kPatience));
    EXPECT_FALSE(tcpip_tests::socket_connected_to(port).has_value());
  }
}

// Here the other one is inside a stop callback of the program's.
TEST(CloseTest, IsDoneWhenOneCloseHasReturnedThoughAnotherHasNot) {
  const HangGuard guard;
  std::atomic<bool> inside{false};
  std::atomic<bool> open{false};
  std::promise<std::stop_token> token;
  OneClientReadLoopServer server({.host = "127.0.0.1"},
                                 [&](auto& self, const std::stop_token& stop) {
                                   token.set_value(stop);
                                   self.read_str(stop);
                                 });
  server.start();
  const UniqueFd peer = connect_to(server.port());
  const std::stop_callback on_stop(token.get_future().get(), [&] {
    inside = true;
    EXPECT_TRUE(eventually([&] { return open.load(); }));
  });
  BlockedCall slow([&] { server.close(); });
  ASSERT_TRUE(eventually([&] { return inside.load(); }));
  server.close();
  EXPECT_TRUE(server.wait_done(Wait::none()));
  EXPECT_FALSE(slow.is_done());
  open = true;
  slow.get();
}

// The last event runs inside close(), which then goes on without the server.
TEST(CloseTest, LastEventOnTheDrainingThreadMayDestroyTheServer) {
  const HangGuard guard;
  CallbackQueue queue;
  const ConnectionEvents events;
  std::unique_ptr<OneClientServer> server;
  server = std::make_unique<OneClientServer>(
      ServerOptions{.host = "127.0.0.1",
                    .callbacks = &queue,
                    .connect_callback = [&](const ConnectionEvent& event) {
                      events.add(event);
                      if (!event.connected) server.reset();
                    }});
  server->start();
  const UniqueFd peer = connect_to(server->port());
  ASSERT_TRUE(server->wait_connected(kPatience));
  queue.run_pending();
  server->close();
  EXPECT_EQ(server, nullptr);
  EXPECT_EQ(events.text(), "connected 1, closed here 1");
}

// What a program has posted for the server goes; its events do not.
TEST(CloseTest, PostsAreDroppedAndRefusedOnceClosed) {
  const HangGuard guard;
  CallbackQueue queue;
  OneClientServer server({.host = "127.0.0.1", .callbacks = &queue});
  EXPECT_FALSE(server.post([] {}));  // not started
  server.start();
  EXPECT_TRUE(server.post([] { ADD_FAILURE() << "ran after close()"; }));
  server.close();
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(server.post([] {}));
  EXPECT_THROW(server.post_wait([] {}), CancelledError);
  EXPECT_THROW(server.post(nullptr), std::invalid_argument);
}

// Copies of a hook are the program's code: no lock is held meanwhile.
TEST(InHookTest, CopyOfTheHookMayAskTheServer) {
  const HangGuard guard;
  struct Hook {
    explicit Hook(std::atomic<OneClientServer*>& s) : server(&s) {}
    Hook(const Hook& other) : server(other.server) {
      OneClientServer* const asked = *server;
      if (asked != nullptr) {
        EXPECT_FALSE(asked->connected());
      }
    }
    void operator()(ThreadRole) const {}
    std::atomic<OneClientServer*>* server;
  };
  std::atomic<OneClientServer*> asked{nullptr};
  OneClientServer server(
      {.host = "127.0.0.1", .thread_start_hook = Hook(asked)});
  asked = &server;
  server.start();
  server.close();
}

}  // namespace
}  // namespace tcpip
