// Rounds of chance: several threads close, destroy, read, write, post and
// cancel at once, callbacks close other objects, and the system calls take
// their time. In every round
//
//  * nothing hangs, and nothing is left behind;
//  * connection events alternate, and none comes of a connection before its
//    predecessor has ended;
//  * no callback runs once a close() outside of all callbacks has returned.
//
// 10,000 rounds in all, unless told otherwise:
//
//   bazel test --test_arg=--rounds=1000000 --test_arg=--seed=5
//       --test_timeout=36000 //tests/risk:chaos_test
//
// The seed is printed. It gives the same rounds; what the threads make of them
// differs.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
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
#include "tcpip/tap.h"
#include "tcpip/testing/leak_guard.h"
#include "tcpip/unique_fd.h"
#include "tests/support/faults.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
namespace faults = tcpip_tests::faults;
using tcpip_testing::LeakSnapshot;
using tcpip_tests::HangGuard;

// --- The command line ---

// The value of --name=value.
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

std::uint64_t rounds() {
  static const std::uint64_t kRounds = flag("rounds").value_or(10'000);
  return kRounds;
}

std::uint64_t seed() {
  static const std::uint64_t kSeed =
      flag("seed").value_or(std::random_device()());
  return kSeed;
}

// --- Chance ---

class Random {
 public:
  explicit Random(std::uint64_t value) : engine_(value) {}
  int below(int limit) {
    return std::uniform_int_distribution<int>(0, limit - 1)(engine_);
  }
  bool one_in(int n) { return below(n) == 0; }
  Random fork() { return Random(engine_()); }

 private:
  std::mt19937_64 engine_;
};

// --- Witnesses ---

// How many callbacks and handlers the calling thread is inside of.
thread_local int inside = 0;
class Inside {
 public:
  Inside() { ++inside; }
  ~Inside() { --inside; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
};

// What all objects of a round have complained about.
class Complaints {
 public:
  void add(const std::string& text) {
    const std::lock_guard lock(mutex_);
    text_ += text + "\n";
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;
};

// Watches the callbacks of one object.
class Witness {
 public:
  explicit Witness(std::shared_ptr<Complaints> complaints)
      : complaints_(std::move(complaints)) {}
  void see(const ConnectionEvent& event) {
    const std::lock_guard lock(mutex_);
    check_open("an event");
    const std::uint64_t number = event.connection.number();
    const bool fits = event.connected ? !connected_ && number == last_ + 1
                                      : connected_ && number == last_;
    if (!fits) {
      complaints_->add("event " + std::to_string(number) +
                       (event.connected ? " connected" : " disconnected") +
                       " behind " + std::to_string(last_));
    }
    if (event.connected != (event.reason == DisconnectReason::kNone)) {
      complaints_->add("an event with the wrong kind of reason");
    }
    connected_ = event.connected;
    last_ = number;
  }
  void see_callback() {
    const std::lock_guard lock(mutex_);
    check_open("a callback");
  }
  // After close() or the destructor has returned. Of one inside a callback or
  // handler it is not required.
  void see_closed() {
    if (inside > 0) return;
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }

 private:
  void check_open(const char* what) {
    if (closed_) complaints_->add(what + " after close()"s);
  }

  const std::shared_ptr<Complaints> complaints_;
  std::mutex mutex_;
  bool connected_ = false;
  bool closed_ = false;
  std::uint64_t last_ = 0;
};

// --- Objects that share themselves with their callbacks and threads ---

// Whoever lets go of the last reference destroys it: a thread of the test's, a
// callback, a read handler.
template <class T>
class Shared {
 public:
  void set(std::shared_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    object_ = std::move(object);
  }
  std::shared_ptr<T> get() const {
    const std::lock_guard lock(mutex_);
    return object_;
  }
  void let_go() {
    std::shared_ptr<T> gone;
    const std::lock_guard lock(mutex_);
    gone.swap(object_);
  }
  std::shared_ptr<T> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(object_, nullptr);
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<T> object_;
};

// What an operation may throw in the middle of all that.
template <class Operation>
void try_to(Complaints& complaints, Operation operation) {
  try {
    operation();
  } catch (const Error&) {
  } catch (const CancelledError&) {
  } catch (const std::logic_error& e) {
    // A second reader, or a start() after close().
    const std::string what = e.what();
    if (what.find("read") == std::string::npos &&
        what.find("start") == std::string::npos &&
        what.find("wait") == std::string::npos) {
      complaints.add("logic_error: " + what);
    }
  } catch (const std::exception& e) {
    complaints.add("not an error of the library's: "s + e.what());
  }
}

// Bare clients. Connecting never waits: the kernel does it.
class Peers {
 public:
  void connect(int port, std::string_view bytes) {
    try {
      UniqueFd fd = tcpip_tests::connect_to(port);
      if (!bytes.empty()) tcpip_tests::send_all(fd, bytes);
      const std::lock_guard lock(mutex_);
      fds_.push_back(std::move(fd));
    } catch (const std::system_error&) {
      // The server is closed already, or closes just now.
    }
  }
  void drop(Random& random) {
    UniqueFd fd;
    {
      const std::lock_guard lock(mutex_);
      if (fds_.empty()) return;
      const auto at =
          static_cast<std::size_t>(random.below(static_cast<int>(fds_.size())));
      std::swap(fds_[at], fds_.back());
      fd = std::move(fds_.back());
      fds_.pop_back();
    }
    switch (random.below(3)) {
      case 0:
        return tcpip_tests::reset(std::move(fd));
      case 1:
        ::shutdown(fd.get(), SHUT_WR);
        break;
      default:
        break;
    }
  }
  void drop_all() {
    const std::lock_guard lock(mutex_);
    fds_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<UniqueFd> fds_;
};

constexpr std::string_view kGreeting = "hello\r\nhow are you\r\nhalf";

// Pauses around the system calls, in half of the rounds.
class Pauses {
 public:
  explicit Pauses(Random& random) {
    if (random.one_in(2)) return;
    const int most = random.one_in(2) ? 50 : 300;
    for (const std::string_view call :
         {"accept4", "close", "connect", "ppoll", "read", "recv", "send",
          "sendmsg", "shutdown", "thread", "write"}) {
      plan_.add(call, faults::sometimes(0.2, static_cast<std::uint64_t>(
                                                 random.below(1'000'000)))
                          .pause(most));
    }
  }

 private:
  faults::Plan plan_;
};

// --- One server, many hands ---

// What the threads, callbacks and handlers of a round share. They own it, and
// the one that lets go of the server last destroys it.
template <class Server>
struct Storm {
  Storm(Random chance, std::shared_ptr<Complaints> all)
      : complaints(std::move(all)), random(chance) {}

  int choose(int limit) {
    const std::lock_guard lock(mutex);
    return random.below(limit);
  }
  void close(Server& closing) {
    closing.close();
    witness.see_closed();
  }
  // What a callback or handler does beside its work.
  void act_inside();
  // What a thread of the test's does; one of them drains the queue.
  void act_outside(Random& chance, bool drains);

  const std::shared_ptr<Complaints> complaints;
  Witness witness{complaints};
  CallbackQueue queue{100};
  Peers peers;
  std::array<std::stop_source, 4> stops;
  int port = 0;
  Shared<Server> place;

 private:
  std::mutex mutex;
  Random random;
};

template <class Server>
void Storm<Server>::act_inside() {
  const int what = choose(24);
  const std::shared_ptr<Server> server = place.get();
  if (!server) return;
  try_to(*complaints, [&] {
    switch (what) {
      case 0:
        return server->close();
      case 1:
        return server->close_client();
      case 2:
        return place.let_go();
      case 3:
        return server->connection().close();
      case 4:
        return server->write_str("from inside", 1ms);
      case 5:
        return std::this_thread::yield();
      case 6:
        return server->request_close();
      default:
        return;
    }
  });
}

template <class Server>
void Storm<Server>::act_outside(Random& chance, bool drains) {
  const std::shared_ptr<Server> server = place.get();
  if (!server) return;
  const std::stop_source& stop =
      stops[static_cast<std::size_t>(chance.below(4))];
  try_to(*complaints, [&] {
    switch (chance.below(16)) {
      case 0:
      case 1:
      case 2:
        return peers.connect(port, chance.one_in(3) ? "" : kGreeting);
      case 3:
      case 4:
        return peers.drop(chance);
      case 5:
        return server->close_client();
      case 6:
        return server->connection().close();
      case 7:
        server->read_str({2ms, stop.get_token()});
        return;
      case 8:
        server->wait_readable({1ms, stop.get_token()});
        return;
      case 9:
        return server->write_str("from outside", {2ms, stop.get_token()});
      case 10:
        // This lives as long as the callbacks of the server do.
        server->post([this] {
          const Inside in;
          witness.see_callback();
          act_inside();
        });
        return;
      case 11:
        if (chance.one_in(2))
          const_cast<std::stop_source&>(stop).request_stop();
        return;
      case 12:
        if (chance.one_in(3)) close(*server);
        if (chance.one_in(6)) server->request_close();
        return;
      case 13:
        if (chance.one_in(3)) place.let_go();
        return;
      default:
        if (drains) queue.run_pending();
        server->stats();
        return;
    }
  });
}

template <class Server, class... Handler>
void storm_round(Random& random, const std::shared_ptr<Complaints>& complaints,
                 Handler... handler) {
  auto storm = std::make_shared<Storm<Server>>(random.fork(), complaints);
  {
    ServerOptions options{
        .host = "127.0.0.1",
        .callbacks = random.one_in(2) ? &storm->queue : nullptr,
        .connect_callback = [storm](const ConnectionEvent& event) {
          const Inside in;
          storm->witness.see(event);
          storm->act_inside();
        }};
    if constexpr (sizeof...(Handler) > 0) {
      options.read_after_callback = random.one_in(4);
    }
    if (random.one_in(2)) {
      options.tap = std::make_shared<Tap>(
          [](const TapRecord&) { std::this_thread::yield(); });
    }
    std::shared_ptr<Server> server(
        new Server(std::move(options), handler(storm)...),
        [storm](Server* old) {
          delete old;
          storm->witness.see_closed();
        });
    server->start(tcpip_tests::kPatience);
    storm->port = server->port();
    storm->place.set(std::move(server));
  }
  storm->peers.connect(storm->port, kGreeting);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&storm, i, chance = random.fork()]() mutable {
      for (int n = 0; n < 6; ++n) storm->act_outside(chance, i == 0);
    });
  }
  threads.clear();
  if (const auto server = storm->place.get(); server && random.one_in(2)) {
    storm->close(*server);
  }
  storm->place.let_go();
  storm->queue.run_pending();
}

void storm_of_readers(Random& random,
                      const std::shared_ptr<Complaints>& complaints) {
  storm_round<OneClientServer>(random, complaints);
}

void storm_of_read_loops(Random& random,
                         const std::shared_ptr<Complaints>& complaints) {
  using Server = OneClientReadLoopServer;
  storm_round<Server>(
      random, complaints, [](const std::shared_ptr<Storm<Server>>& storm) {
        return [storm](Connection& client, const std::stop_token& stop) {
          const Inside in;
          const std::string text = client.read_str(stop);
          storm->act_inside();
          if (storm->choose(20) == 0) throw std::runtime_error("by chance");
          client.write_str(text, {20ms, stop});
        };
      });
}

// --- Objects that close each other ---

// Members of a ring: what happens to one closes the next.
struct Ring {
  struct Member {
    explicit Member(const std::shared_ptr<Complaints>& complaints)
        : witness(complaints) {}
    Witness witness;
    Shared<OneClientReadLoopServer> server;
    Shared<Client> client;
    int port = 0;
    UniqueFd peer;
  };

  void close(std::size_t number) {
    Member& member = *members[number % members.size()];
    // One that was let go may be about to be destroyed by another thread.
    if (const auto server = member.server.get()) {
      server->close();
      member.witness.see_closed();
    }
    if (const auto client = member.client.get()) {
      client->close();
      member.witness.see_closed();
    }
  }
  void let_go(std::size_t number) {
    Member& member = *members[number % members.size()];
    member.server.let_go();
    member.client.let_go();
  }
  // What happens to one member reaches the next.
  void hand_on(std::size_t number) {
    const Inside in;
    if (destroys) let_go(number + 1);
    close(number + 1);
  }

  std::vector<std::unique_ptr<Member>> members;
  bool destroys = false;
};

void add_server(const std::shared_ptr<Ring>& ring, std::size_t number) {
  Ring::Member& member = *ring->members[number];
  auto server = std::make_shared<OneClientReadLoopServer>(
      ServerOptions{.host = "127.0.0.1",
                    .connect_callback =
                        [ring, number](const ConnectionEvent& event) {
                          const Inside in;
                          ring->members[number]->witness.see(event);
                          if (!event.connected) ring->hand_on(number);
                        }},
      [ring, number](Connection& peer, const std::stop_token& stop) {
        const Inside in;
        peer.read_str(stop);
        ring->hand_on(number);
      });
  server->start(tcpip_tests::kPatience);
  member.port = server->port();
  member.peer = tcpip_tests::connect_to(member.port);
  member.server.set(std::move(server));
}

void add_client(const std::shared_ptr<Ring>& ring, std::size_t number) {
  Ring::Member& member = *ring->members[number];
  const auto listener =
      tcpip_tests::plain_listener(tcpip_tests::Transport::kIpv4);
  auto client = std::make_shared<Client>(ClientOptions{
      .host = "127.0.0.1",
      .port = listener.port,
      .connect_callback = [ring, number](const ConnectionEvent& event) {
        const Inside in;
        ring->members[number]->witness.see(event);
        if (!event.connected) ring->hand_on(number);
      }});
  client->start(tcpip_tests::kPatience);
  member.peer = tcpip_tests::accept_one(listener);
  member.client.set(std::move(client));
}

void ring_round(Random& random, const std::shared_ptr<Complaints>& complaints) {
  const auto ring = std::make_shared<Ring>();
  const auto size = static_cast<std::size_t>(2 + random.below(2));
  ring->destroys = random.one_in(4);
  for (std::size_t i = 0; i < size; ++i) {
    ring->members.push_back(std::make_unique<Ring::Member>(complaints));
  }
  for (std::size_t i = 0; i < size; ++i) {
    if (random.one_in(3)) {
      add_client(ring, i);
    } else {
      add_server(ring, i);
    }
  }
  // To all of them at once.
  std::atomic<std::size_t> ready{0};
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < size; ++i) {
    threads.emplace_back([&, i, what = random.below(6)] {
      Ring::Member& member = *ring->members[i];
      ++ready;
      while (ready < size) std::this_thread::yield();
      switch (what) {
        case 0:
          return ring->close(i);
        case 1:
          return ring->let_go(i);
        case 2:
          try {
            return tcpip_tests::send_all(member.peer, "close\r\n");
          } catch (const std::system_error&) {
            return;  // another member has closed it
          }
        case 3:
          return tcpip_tests::reset(std::move(member.peer));
        default:
          member.peer.reset();
          return;
      }
    });
  }
  threads.clear();
  for (std::size_t i = 0; i < size; ++i) {
    ring->close(i);
    ring->let_go(i);
  }
}

// --- Twenty servers on one queue ---

struct Crowd {
  explicit Crowd(const std::shared_ptr<Complaints>& complaints) {
    for (auto& witness : witnesses) {
      witness = std::make_unique<Witness>(complaints);
    }
  }
  void close(int number) {
    const auto at = static_cast<std::size_t>(number);
    if (const auto server = servers[at].get()) server->close();
    witnesses[at]->see_closed();
  }

  static constexpr int kSize = 20;
  CallbackQueue queue;
  std::array<Shared<OneClientServer>, kSize> servers;
  std::array<std::unique_ptr<Witness>, kSize> witnesses;
  std::array<int, kSize> ports{};
};

void crowd_round(Random& random,
                 const std::shared_ptr<Complaints>& complaints) {
  Crowd crowd(complaints);
  for (int i = 0; i < Crowd::kSize; ++i) {
    const auto at = static_cast<std::size_t>(i);
    auto server = std::make_shared<OneClientServer>(ServerOptions{
        .host = "127.0.0.1",
        .callbacks = &crowd.queue,
        .connect_callback = [&crowd, at,
                             victim = random.below(4 * Crowd::kSize)](
                                const ConnectionEvent& event) {
          const Inside in;
          crowd.witnesses[at]->see(event);
          if (victim < Crowd::kSize) crowd.close(victim);
        }});
    server->start(tcpip_tests::kPatience);
    crowd.ports[at] = server->port();
    crowd.servers[at].set(std::move(server));
  }
  {
    const std::jthread draining(
        [&](const std::stop_token& stop) { crowd.queue.run(stop); });
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&, chance = random.fork()]() mutable {
        Peers peers;
        for (int n = 0; n < 40; ++n) {
          const int number = chance.below(Crowd::kSize);
          const auto at = static_cast<std::size_t>(number);
          switch (chance.below(8)) {
            case 0:
              if (chance.one_in(4)) crowd.close(number);
              break;
            case 1:
              if (const auto server = crowd.servers[at].get()) {
                server->close_client();
              }
              break;
            case 2:
            case 3:
              peers.drop(chance);
              break;
            default:
              peers.connect(crowd.ports[at], kGreeting);
              break;
          }
        }
      });
    }
    threads.clear();
    for (int i = 0; i < Crowd::kSize / 2; ++i) crowd.close(i);
  }
  for (int i = 0; i < Crowd::kSize; ++i) crowd.close(i);
  for (auto& server : crowd.servers) server.let_go();
}

// --- Threads that are blocked ---

// Every call that waits, without a deadline: close() ends all of them.
void blocked_round(Random& random,
                   const std::shared_ptr<Complaints>& complaints) {
  CallbackQueue queue(1);
  Witness witness(complaints);
  OneClientServer server({.host = "127.0.0.1",
                          .callbacks = &queue,
                          .connect_callback =
                              [&](const ConnectionEvent& event) {
                                const Inside in;
                                witness.see(event);
                              },
                          .socket = {.send_buffer = 5000}});
  server.start(tcpip_tests::kPatience);
  Client client({.host = "127.0.0.1",
                 .port = server.port(),
                 .socket = {.receive_buffer = 5000}});
  client.start(tcpip_tests::kPatience);
  std::vector<std::function<void()>> calls{
      [&] { server.wait_done(); },
      [&] { client.wait_done(); },
      [&] { client.read_str(); },
      [&] { client.read_exactly(10'000'000); },
      [&] {
        while (server.wait_client()) {
        }
      },
      [&] { server.read_line(); },
      [&] { server.write(std::string(3'000'000, 'a')); },
      [&] { server.drain(); },
      [&] {
        for (;;) server.post_wait([] {});
      },
      [&] { client.close(); },
      [&] { client.connection().close(); },
      [&] { server.close_client(); },
      [&] {
        server.close();
        witness.see_closed();
      }};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      const auto at = static_cast<std::size_t>(
          random.below(static_cast<int>(calls.size())));
      threads.emplace_back(
          [&, call = calls[at]] { try_to(*complaints, call); });
    }
    // One thread drains, so that the events have an order.
    if (random.one_in(2)) queue.run_pending();
    if (random.one_in(2)) {
      server.close();
      client.close();
    } else {
      client.close();
      server.close();
    }
    witness.see_closed();
  }
  queue.run_pending();
}

// --- The rounds ---

struct Scenario {
  const char* name;
  void (*run)(Random& random, const std::shared_ptr<Complaints>& complaints);
  double share;  // of all rounds
  friend std::ostream& operator<<(std::ostream& out, const Scenario& scenario) {
    return out << scenario.name;
  }
};
constexpr std::array kScenarios{
    Scenario{"Readers", storm_of_readers, 0.25},
    Scenario{"ReadLoops", storm_of_read_loops, 0.25},
    Scenario{"Rings", ring_round, 0.25},
    Scenario{"Blocked", blocked_round, 0.23},
    Scenario{"TwentyServers", crowd_round, 0.02}};
constexpr int kParts = 4;  // of each, for the shards

class ChaosTest : public testing::TestWithParam<std::tuple<Scenario, int>> {};

TEST_P(ChaosTest, NothingHangsAndCallbacksKeepTheirOrder) {
  const auto& [scenario, part] = GetParam();
  const auto count = static_cast<std::uint64_t>(static_cast<double>(rounds()) *
                                                scenario.share / kParts);
  std::printf("%llu rounds, --seed=%llu\n",
              static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(seed()));
  std::fflush(stdout);
  std::seed_seq mixed{seed(), static_cast<std::uint64_t>(part),
                      static_cast<std::uint64_t>(scenario.name[0])};
  std::array<std::uint32_t, 2> values{};
  mixed.generate(values.begin(), values.end());
  Random random(std::uint64_t{values[0]} << 32 | values[1]);
  const auto complaints = std::make_shared<Complaints>();
  const LeakSnapshot before;
  for (std::uint64_t round = 0; round < count; ++round) {
    {
      const HangGuard guard(tcpip_tests::kWithSanitizer ? 40 : 20);
      const Pauses pauses(random);
      scenario.run(random, complaints);
    }
    if (round % 25 == 0 || round + 1 == count) {
      EXPECT_TRUE(before.is_restored(5s));
    }
    ASSERT_EQ(complaints->text(), "")
        << "round " << round << " of " << scenario.name << " " << part
        << ", --seed=" << seed();
    ASSERT_FALSE(HasFailure()) << "in round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ChaosTest,
                         testing::Combine(testing::ValuesIn(kScenarios),
                                          testing::Range(0, kParts)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) +
                                  std::to_string(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace tcpip
