#include "tests/endurance/soak.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/callback_thread.h"
#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/testing/leak_guard.h"
#include "tests/endurance/exchange.h"
#include "tests/support/faults.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/sanitizers.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip::CallbackQueue;
using tcpip::CallbackThread;
using tcpip::CancelledError;
using tcpip::Client;
using tcpip::Connection;
using tcpip::ConnectionEvent;
using tcpip::DisconnectReason;
using tcpip::OneClientReadLoopServer;
using tcpip::OneClientServer;
using tcpip::UniqueFd;
using tcpip_testing::LeakSnapshot;
using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;

// --- Bounds ---

constexpr int kSlowness = kWithSanitizer ? 5 : 1;
// Accepting pauses for at most a second after a lack of something; the rest is
// for a machine that is busy.
constexpr auto kServeBound = 3s * kSlowness;
constexpr auto kCloseBound = 1s * kSlowness;
constexpr auto kReplyBound = 10s * kSlowness;
constexpr auto kHeartbeatLimit = 600ms * kSlowness;
constexpr auto kGeneration = 3s;
constexpr auto kIdle = 300ms;
// Of one processor, while nothing happens.
constexpr double kIdleBound = kWithSanitizer ? 0.6 : 0.2;
// Shorter runs tell the slope of memory, but cannot judge it.
constexpr auto kJudgedFrom = 30min;
constexpr double kMostGrowth = 1024;  // KiB an hour

// --- Chance ---

class Random {
 public:
  explicit Random(std::uint64_t value) : engine_(value) {}
  std::uint64_t next() { return engine_(); }
  int below(int limit) {
    return std::uniform_int_distribution<int>(0, limit - 1)(engine_);
  }
  bool one_in(int n) { return below(n) == 0; }
  std::chrono::milliseconds milliseconds(int from, int to) {
    return std::chrono::milliseconds(from + below(to - from));
  }
  Random fork() { return Random(engine_()); }

 private:
  std::mt19937_64 engine_;
};

// --- What is counted ---

enum class Fault : std::size_t {
  // Made by the clients of a server.
  kNone,
  kHalfClose,
  kReset,
  kCloseUnread,
  kSilent,
  kFlood,
  kDrip,
  kStorm,
  kTurnedAway,
  kStopped,
  kLibraryClient,
  kShortWaits,
  kStops,
  kRestart,
  kCloseClient,
  kFork,
  // Made by the system, for all servers at once.
  kInterrupted,
  kShortIo,
  kSpurious,
  kNoDescriptors,
  kDescriptorLimit,
  kNoBuffers,
  kAborted,
  kNoThreads,
  kPauses,
  kNoMemory,
  kCount
};
constexpr std::size_t kClientFaults =
    static_cast<std::size_t>(Fault::kInterrupted);
constexpr std::size_t kFaults = static_cast<std::size_t>(Fault::kCount);
constexpr std::array<std::string_view, kFaults> kNames{
    "orderly client",
    "half-close",
    "reset",
    "close with unread bytes",
    "silent client",
    "flood of garbage",
    "slow drip",
    "storm of connects",
    "client turned away",
    "SIGSTOPped process",
    "client of library",
    "client with short waits",
    "client with stops",
    "restart on the port",
    "close_client at once",
    "fork",
    "EINTR",
    "short I/O",
    "spurious readiness",
    "EMFILE, ENFILE",
    "limit of descriptors",
    "ENOBUFS, ENOMEM",
    "accept fails",
    "no thread",
    "pauses in calls",
    "bad_alloc"};

class Tally {
 public:
  void count(Fault fault) {
    const std::lock_guard lock(mutex_);
    ++at(fault).count;
  }
  // A server served a new client so long after this fault.
  void served(Fault fault, Milliseconds after) {
    const std::lock_guard lock(mutex_);
    Row& row = at(fault);
    ++row.served;
    row.worst = std::max(row.worst, after);
    row.sum += after;
  }
  std::uint64_t total() const {
    const std::lock_guard lock(mutex_);
    std::uint64_t total = 0;
    for (const Row& row : rows_) total += row.count;
    return total;
  }
  void print_counts() const {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < kFaults; ++i) {
      if (rows_[i].count == 0) continue;
      std::printf(" %s %llu,", std::string(kNames[i]).c_str(), number(i));
    }
    std::printf("\n");
  }
  void print_summary() const {
    const std::lock_guard lock(mutex_);
    std::printf("%-24s %10s %14s %14s\n", "fault", "count", "served after",
                "worst");
    for (std::size_t i = 0; i < kFaults; ++i) {
      const Row& row = rows_[i];
      if (row.count == 0) continue;
      const double mean =
          row.served == 0 ? 0
                          : row.sum.count() / static_cast<double>(row.served);
      std::printf("%-24s %10llu %11.1f ms %11.1f ms\n",
                  std::string(kNames[i]).c_str(), number(i), mean,
                  row.worst.count());
    }
  }

 private:
  struct Row {
    std::uint64_t count = 0;
    std::uint64_t served = 0;
    Milliseconds worst{0};
    Milliseconds sum{0};
  };
  Row& at(Fault fault) { return rows_[static_cast<std::size_t>(fault)]; }
  unsigned long long number(std::size_t i) const { return rows_[i].count; }

  mutable std::mutex mutex_;
  std::array<Row, kFaults> rows_;
};

// What was wrong. Prints each at once, but no more than some.
class Complaints {
 public:
  void add(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (++count_ > 50) return;
    std::fprintf(stderr, "WRONG: %s\n", text.c_str());
    std::fflush(stderr);
  }
  std::uint64_t count() const {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  mutable std::mutex mutex_;
  std::uint64_t count_ = 0;
};

// The longest of many times.
class Longest {
 public:
  void add(Milliseconds time) {
    const std::lock_guard lock(mutex_);
    longest_ = std::max(longest_, time);
  }
  Milliseconds get() const {
    const std::lock_guard lock(mutex_);
    return longest_;
  }

 private:
  mutable std::mutex mutex_;
  Milliseconds longest_{0};
};

// What all generations share.
struct Record {
  explicit Record(const SoakOptions& given) : options(given) {}
  bool guarantees() const { return !options.without_memory; }

  const SoakOptions options;
  Complaints complaints;
  Tally tally;
  Longest closing;
  std::atomic<std::uint64_t> messages{0};
  std::atomic<std::uint64_t> events{0};
  std::atomic<std::uint64_t> lives{0};
};

// How many callbacks and handlers the calling thread is inside of.
thread_local int inside = 0;
class Inside {
 public:
  // Counts in `calls` too, for whoever waits for the end of such calls.
  explicit Inside(std::atomic<int>& calls) : calls_(calls) {
    ++inside;
    ++calls_;
  }
  ~Inside() {
    --inside;
    --calls_;
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  std::atomic<int>& calls_;
};

// Watches the events of one object.
class Witness {
 public:
  explicit Witness(Record& record) : record_(record) {}
  void see(const ConnectionEvent& event) {
    ++record_.events;
    const std::lock_guard lock(mutex_);
    const faults::Exempt exempt;
    if (closed_) record_.complaints.add("an event after close()");
    const std::uint64_t number = event.connection.number();
    const bool fits = event.connected ? !connected_ && number == last_ + 1
                                      : connected_ && number == last_;
    if (!fits || event.connected != (event.reason == DisconnectReason::kNone)) {
      record_.complaints.add(
          "event " + std::to_string(number) +
          (event.connected ? " connected" : " disconnected") + " behind " +
          std::to_string(last_) + (connected_ ? " connected" : ""));
    }
    connected_ = event.connected;
    last_ = number;
    if (!event.connected) {
      end_ = std::string(to_string(event.reason));
      if (event.error) end_ += ", " + event.error.message();
    }
  }
  // How the last connection ended.
  std::string last_end() const {
    const std::lock_guard lock(mutex_);
    return end_;
  }
  // After close() or the destructor has returned. Of one inside a callback or
  // handler it is not required.
  void see_closed() {
    if (inside > 0) return;
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }

 private:
  Record& record_;
  mutable std::mutex mutex_;
  std::string end_ = "nothing has ended";
  bool connected_ = false;
  bool closed_ = false;
  std::uint64_t last_ = 0;
};

// The requests of one connection, as its server sees them.
class Requests {
 public:
  void check(Record& record, const Connection& client, const Message& message) {
    ++record.messages;
    if (client != connection_) {
      connection_ = client;
      nonce_ = message.nonce;
      last_ = 0;
    }
    if (message.nonce == nonce_ && message.number == last_ + 1) {
      last_ = message.number;
      return;
    }
    const faults::Exempt exempt;
    record.complaints.add("a server read request " +
                          std::to_string(message.number) + " behind " +
                          std::to_string(last_) +
                          (message.nonce == nonce_ ? "" : " of another peer"));
  }

 private:
  Connection connection_;
  std::uint64_t nonce_ = 0;
  std::uint64_t last_ = 0;
};

// T for a process that is stopped, and so on.
std::string state_of(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string number;
  std::string name;
  std::string state;
  file >> number >> name >> state;
  return state;
}

void pause(std::chrono::milliseconds time) {
  const faults::Exempt exempt;
  ::poll(nullptr, 0, static_cast<int>(time.count()));
}

// --- A bare peer ---

class Bare {
 public:
  enum class End { kOpen, kEof, kReset };

  // Throws std::system_error if it cannot connect.
  Bare(Record& record, int port, Format format, std::uint64_t nonce,
       bool sends_heartbeats)
      : record_(record),
        format_(format),
        sends_heartbeats_(sends_heartbeats),
        nonce_(nonce),
        splitter_(format) {
    const faults::Exempt exempt;
    fd_ = connect_to(port);
  }

  // What the next request looks like.
  std::string request() {
    const faults::Exempt exempt;
    const std::string bytes =
        on_the_wire(format_, message_of(format_, nonce_, ++sent_));
    return sends_heartbeats_ ? "heartbeat\r\n" + bytes : bytes;
  }
  // Sends, and receives meanwhile. False if the connection has ended.
  bool send(std::string_view bytes) {
    const faults::Exempt exempt;
    const auto deadline = Clock::now() + kReplyBound;
    while (!bytes.empty() && end_ == End::kOpen) {
      const short ready = wait(POLLIN | POLLOUT, deadline, "cannot send");
      if (ready & POLLIN) receive();
      if (!(ready & POLLOUT)) continue;
      const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(),
                                   MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(count));
      } else if (errno != EAGAIN && errno != EINTR) {
        // What came before the reset can still be received.
        while (end_ == End::kOpen) receive();
      }
    }
    return end_ == End::kOpen;
  }
  bool send_request() { return send(request()); }
  // Waits for the next reply and checks it; false at the end.
  bool reply() {
    const faults::Exempt exempt;
    const auto deadline = Clock::now() + kReplyBound;
    for (;;) {
      if (take_reply()) return true;
      if (end_ != End::kOpen) return false;
      wait(POLLIN, deadline, "no reply");
      if (end_ == End::kOpen) receive();
    }
  }
  bool talk() { return send_request() && reply(); }
  // Everything up to the end; how many replies there were in all.
  std::uint64_t replies_until_the_end() {
    while (reply()) {
    }
    return got_;
  }
  // Sends without receiving, until the server stops it or all is sent.
  void flood(std::string_view bytes) {
    const faults::Exempt exempt;
    const auto deadline = Clock::now() + kServeBound;
    while (!bytes.empty() && Clock::now() < deadline) {
      const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(),
                                   MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(count));
      } else if (errno == EAGAIN) {
        ::poll(nullptr, 0, 1);
      } else if (errno != EINTR) {
        return;
      }
    }
  }
  void half_close() { ::shutdown(fd_.get(), SHUT_WR); }
  void close() { fd_.reset(); }
  void reset() {
    const faults::Exempt exempt;
    tcpip_tests::reset(std::move(fd_));
  }

  End end() const { return end_; }
  std::uint64_t sent() const { return sent_; }
  std::uint64_t got() const { return got_; }

 private:
  short wait(short events, Clock::time_point deadline, const char* what) {
    pollfd fd{fd_.get(), events, 0};
    while (::poll(&fd, 1, 100) <= 0) {
      if (Clock::now() < deadline) continue;
      record_.complaints.add(std::string(what) + " in time, after " +
                             std::to_string(got_) + " of " +
                             std::to_string(sent_) + " replies");
      end_ = End::kReset;
      return 0;
    }
    return fd.revents & (POLLERR | POLLHUP)
               ? static_cast<short>(fd.revents | POLLIN)
               : fd.revents;
  }
  void receive() {
    std::array<char, 65536> bytes;
    const ssize_t count =
        ::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count > 0) {
      splitter_.add({bytes.data(), static_cast<std::size_t>(count)});
    } else if (count == 0) {
      end_ = End::kEof;
    } else if (errno != EAGAIN && errno != EINTR) {
      end_ = End::kReset;
    }
  }
  bool take_reply() {
    try {
      const std::optional<Message> message = splitter_.next();
      if (!message) return false;
      if (message->nonce != nonce_) {
        record_.complaints.add("a reply to another client");
      } else if (message->number != got_ + 1) {
        record_.complaints.add("reply " + std::to_string(message->number) +
                               " behind " + std::to_string(got_));
      }
      ++got_;
      return true;
    } catch (const std::exception& e) {
      record_.complaints.add("a bare client read: "s + e.what());
      end_ = End::kReset;
      return false;
    }
  }

  Record& record_;
  const Format format_;
  const bool sends_heartbeats_;
  const std::uint64_t nonce_;
  MessageSplitter splitter_;
  UniqueFd fd_;
  End end_ = End::kOpen;
  std::uint64_t sent_ = 0;
  std::uint64_t got_ = 0;
};

// --- Servers ---

enum class Kind {
  kControlLoop,     // OneClientServer; a loop of the program's reads and drains
  kStreams,         // OneClientServer; a thread takes client after client
  kDispatcher,      // read loop; callbacks on a thread of its own
  kHeartbeats,      // the same, and both sides send heartbeats
  kCallbackThread,  // read loop; callbacks on a CallbackThread
  kPosting,         // read loop; posts each message to the program's loop
};
struct Profile {
  const char* name;
  Kind kind;
  Format format;
};
constexpr std::array kProfiles{
    Profile{"control loop, text", Kind::kControlLoop, Format::kText},
    Profile{"control loop, structs", Kind::kControlLoop, Format::kStruct},
    Profile{"streams", Kind::kStreams, Format::kText},
    Profile{"read loop, text", Kind::kDispatcher, Format::kText},
    Profile{"read loop, structs", Kind::kDispatcher, Format::kStruct},
    Profile{"heartbeats, text", Kind::kHeartbeats, Format::kText},
    Profile{"callback thread, JSON", Kind::kCallbackThread, Format::kJson},
    Profile{"posting, text", Kind::kPosting, Format::kText},
};

// What the servers of a generation share.
struct World {
  World(Record& all, Random chance)
      : record(all),
        random(chance),
        queue(static_cast<std::size_t>(1 + random.below(20))),
        loop([this](const std::stop_token& stop) { run_loop(stop); }) {}

  // A control loop: callbacks, then what the servers without a handler have.
  void run_loop(const std::stop_token& stop);

  Record& record;
  Random random;
  std::atomic<bool> over{false};
  // The last fault of the system, and when it ended.
  std::mutex weather_mutex;
  std::uint64_t weathers = 0;
  Fault weather = Fault::kNone;
  Clock::time_point weather_ended;
  // A child that fork() has made has all descriptors for a moment: nobody
  // begins to listen meanwhile.
  std::mutex listening;
  CallbackQueue queue;
  CallbackThread thread;
  std::mutex ticks_mutex;
  std::vector<std::function<void()>> ticks;
  std::jthread loop;  // last: joined first
};

void World::run_loop(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    try {
      queue.run_until({5ms, stop});
      const std::lock_guard lock(ticks_mutex);
      for (const auto& tick : ticks) tick();
    } catch (const std::bad_alloc&) {
    } catch (const std::exception& e) {
      const faults::Exempt exempt;
      record.complaints.add("the control loop met: "s + e.what());
    }
  }
}

// One server object with what belongs to it.
struct Life {
  explicit Life(Record& record) : witness(std::make_shared<Witness>(record)) {}
  ~Life() {
    if (plain) plain->close();
    if (serving.joinable()) serving.join();
    plain.reset();
    loop.reset();
    witness->see_closed();
  }
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;
  tcpip::internal::ServerBase& server() {
    if (plain) return *plain;
    return *loop;
  }

  const std::shared_ptr<Witness> witness;
  std::optional<OneClientServer> plain;
  std::optional<OneClientReadLoopServer> loop;
  std::thread serving;
};

// A place where a server stands: one server object after the other, on the
// same port. One thread drives it; everything else that ends connections is
// started by that thread.
class Station {
 public:
  Station(World& world, const Profile& profile, Random random);
  ~Station();
  // Faults until the world is over.
  void drive();
  // A client that has been served, or null if there is none in time.
  std::unique_ptr<Bare> served_client();
  // In whatever way chance says. Counts how long it takes.
  void end();

 private:
  enum class Wish { kNone, kClose, kDestroy };

  bool sends_heartbeats() const { return profile_.kind == Kind::kHeartbeats; }
  bool replies_in_handler() const {
    return profile_.kind == Kind::kDispatcher ||
           profile_.kind == Kind::kCallbackThread;
  }
  // False if the server may end a connection that is in order: one that sends
  // its heartbeats late, or, since a control loop does not wait, one that does
  // not take a reply at once.
  bool keeps_its_client() const {
    return record_.guarantees() && !sends_heartbeats() &&
           profile_.kind != Kind::kControlLoop &&
           profile_.kind != Kind::kPosting;
  }
  std::string named(const std::string& what) const {
    return std::string(profile_.name) + ": " + what;
  }
  void complain(const std::string& what) {
    const faults::Exempt exempt;
    const auto own = life();
    record_.complaints.add(named(what) + "; last: " +
                           (own ? own->witness->last_end() : "no server") +
                           "; error: " + last_error());
  }

  // What has ended a connection from this side.
  void note_error(const std::exception& e) {
    const faults::Exempt exempt;
    const std::lock_guard lock(mutex_);
    error_ = e.what();
  }
  std::string last_error() const {
    const std::lock_guard lock(mutex_);
    return error_;
  }

  std::shared_ptr<Life> make_life();
  void open();
  std::shared_ptr<Life> life() const {
    const std::lock_guard lock(mutex_);
    return life_;
  }
  std::shared_ptr<Life> take_life() {
    const std::lock_guard lock(mutex_);
    return std::exchange(life_, nullptr);
  }
  void close(Life& life);
  // What a callback or handler does beside its work.
  void act_inside();
  OneClientReadLoopServer::ReadHandler handler();
  void serve_streams(OneClientServer& server);
  void tick();

  Bare connect() {
    return {record_, port_, profile_.format, random_.next(),
            sends_heartbeats()};
  }
  void do_fault(Fault fault);
  void probe(Fault fault);
  void half_close();
  void silent();
  void drip();
  void storm();
  void turned_away();
  void stopped_process();
  void library_client(Fault fault);
  void talk(Client& client, Fault fault);
  Message reply_in_pieces(Client& client, Fault fault);
  void restart();
  void close_client();
  void fork_a_child();

  World& world_;
  Record& record_;
  const Profile profile_;
  Random random_;
  const bool small_buffers_;
  int port_ = 0;
  std::uint64_t weathers_seen_ = 0;
  mutable std::mutex mutex_;
  std::shared_ptr<Life> life_;
  std::string error_ = "none";
  std::atomic<Wish> wish_{Wish::kNone};
  std::atomic<int> calls_{0};  // of callbacks and handlers that run
  // For the thread of the control loop.
  Connection client_;
  Requests requests_;
};

Station::Station(World& world, const Profile& profile, Random random)
    : world_(world),
      record_(world.record),
      profile_(profile),
      random_(random),
      small_buffers_(random_.one_in(4)) {
  open();
  if (profile_.kind == Kind::kControlLoop) {
    const std::lock_guard lock(world_.ticks_mutex);
    world_.ticks.emplace_back([this] { tick(); });
  }
}

Station::~Station() {
  take_life();
  // A handler or callback that has destroyed its server goes on.
  while (calls_ > 0) pause(1ms);
}

std::shared_ptr<Life> Station::make_life() {
  auto life = std::make_shared<Life>(record_);
  tcpip::ServerOptions options{.host = "127.0.0.1", .port = port_};
  options.name = profile_.name;
  options.connect_callback =
      [this, witness = life->witness](const ConnectionEvent& event) {
        const Inside in(calls_);
        witness->see(event);
        if (profile_.kind == Kind::kControlLoop && event.connected) {
          client_ = event.connection;
        }
        act_inside();
      };
  if (small_buffers_) options.socket.send_buffer = 4608;
  switch (profile_.kind) {
    case Kind::kControlLoop:
    case Kind::kPosting:
      options.callbacks = &world_.queue;
      break;
    case Kind::kCallbackThread:
      options.callbacks = &world_.thread.queue();
      break;
    case Kind::kHeartbeats:
      options.heartbeats = {.send = true,
                            .interval = 50ms,
                            .expect = true,
                            .max_interval = kHeartbeatLimit};
      break;
    case Kind::kStreams:
    case Kind::kDispatcher:
      break;
  }
  if (profile_.kind == Kind::kControlLoop || profile_.kind == Kind::kStreams) {
    life->plain.emplace(std::move(options));
  } else {
    options.finish_time = 500ms;
    life->loop.emplace(std::move(options), handler());
  }
  life->server().start(kPatience);
  if (profile_.kind == Kind::kStreams) {
    life->serving =
        std::thread([this, server = &*life->plain] { serve_streams(*server); });
  }
  return life;
}

// Until it works: threads, descriptors and memory may be lacking, and a server
// that was destroyed inside a callback frees its port a little later.
void Station::open() {
  const auto deadline = Clock::now() + kServeBound;
  for (;;) {
    try {
      std::shared_ptr<Life> made = make_life();
      port_ = made->server().port();
      ++record_.lives;
      const std::lock_guard lock(mutex_);
      life_ = std::move(made);
      return;
    } catch (const std::exception& e) {
      if (Clock::now() > deadline) {
        complain("cannot start: "s + e.what());
        std::abort();  // nothing could be tested from here on
      }
    }
    pause(2ms);
  }
}

void Station::close(Life& life) {
  const auto start = Clock::now();
  life.server().close();
  const Milliseconds time = Clock::now() - start;
  life.witness->see_closed();
  record_.closing.add(time);
  if (time > kCloseBound) {
    complain("close() took " + std::to_string(time.count()) + " ms");
  }
}

void Station::act_inside() {
  switch (wish_.exchange(Wish::kNone)) {
    case Wish::kNone:
      return;
    case Wish::kClose:
      if (const auto own = life()) close(*own);
      return;
    case Wish::kDestroy:
      take_life();
      return;
  }
}

OneClientReadLoopServer::ReadHandler Station::handler() {
  return [this, requests = std::make_shared<Requests>()](
             Connection& client, const std::stop_token& stop) {
    const Inside in(calls_);
    const Message message = [&] {
      try {
        return read_message(client, profile_.format, stop);
      } catch (const CorruptError& e) {
        complain("a server read: "s + e.what());
        throw;
      } catch (const std::exception& e) {
        note_error(e);
        throw;
      }
    }();
    requests->check(record_, client, message);
    act_inside();
    if (profile_.kind != Kind::kPosting) {
      try {
        write_message(client, profile_.format, message, {5s, stop});
      } catch (const std::exception& e) {
        note_error(e);
        throw;
      }
      return;
    }
    client.post_wait([this, client, message] {
      const Inside in_the_loop(calls_);
      try {
        write_message(client, profile_.format, message, tcpip::Wait::none());
      } catch (const std::exception& e) {
        note_error(e);
        client.close();  // it has gone, or does not read
      }
    });
  };
}

void Station::serve_streams(OneClientServer& server) {
  Requests requests;
  for (;;) {
    std::optional<Connection> client;
    try {
      client = server.wait_client();
      if (!client) return;
      const auto reader = client->reader();
      const auto writer = client->writer();
      while (reader && writer) {
        std::string line = reader->read_until("\r\n");
        line.resize(line.size() - 2);
        const Message message = text_message(line);
        requests.check(record_, *client, message);
        writer->write(on_the_wire(Format::kText, message));
        writer->drain(5s);
      }
    } catch (const CorruptError& e) {
      complain("streams read: "s + e.what());
    } catch (const std::exception& e) {
      // It has gone, talks nonsense or does not read; or there is no memory.
      note_error(e);
    }
    if (client) client->close();
  }
}

void Station::tick() {
  try {
    for (int i = 0; i < 8 && client_.connected(); ++i) {
      const auto message = try_read_message(client_, profile_.format);
      if (!message) return;
      requests_.check(record_, client_, *message);
      write_message(client_, profile_.format, *message, tcpip::Wait::none());
    }
  } catch (const CorruptError& e) {
    complain("a control loop read: "s + e.what());
  } catch (const tcpip::ConnectionError&) {
  } catch (const std::exception& e) {
    note_error(e);
    client_.close();
  }
}

// --- What clients do ---

void Station::drive() {
  while (!world_.over) {
    const auto fault =
        static_cast<Fault>(random_.below(static_cast<int>(kClientFaults)));
    do_fault(fault);
    probe(fault);
  }
}

void Station::do_fault(Fault fault) {
  try {
    switch (fault) {
      case Fault::kNone: {
        Bare peer = connect();
        for (int i = random_.below(20); i > 0 && peer.talk(); --i) {
        }
        break;
      }
      case Fault::kHalfClose:
        half_close();
        break;
      case Fault::kReset: {
        Bare peer = connect();
        for (int i = random_.below(3); i > 0 && peer.talk(); --i) {
        }
        const std::string request = peer.request();
        peer.send(request.substr(0, request.size() / 2));
        peer.reset();
        break;
      }
      case Fault::kCloseUnread: {
        Bare peer = connect();
        std::string requests;
        for (int i = random_.below(30); i >= 0; --i) requests += peer.request();
        peer.flood(requests);
        break;
      }
      case Fault::kSilent:
        silent();
        break;
      case Fault::kFlood: {
        Bare peer = connect();
        peer.flood(
            garbage(profile_.format,
                    static_cast<std::size_t>(1 + random_.below(4)) << 20));
        break;
      }
      case Fault::kDrip:
        drip();
        break;
      case Fault::kStorm:
        storm();
        break;
      case Fault::kTurnedAway:
        turned_away();
        break;
      case Fault::kStopped:
        if (record_.options.program.empty() || !sends_heartbeats()) return;
        stopped_process();
        break;
      case Fault::kLibraryClient:
      case Fault::kShortWaits:
      case Fault::kStops:
        library_client(fault);
        break;
      case Fault::kRestart:
        restart();
        break;
      case Fault::kCloseClient:
        close_client();
        break;
      case Fault::kFork:
        fork_a_child();
        break;
      default:
        return;
    }
    record_.tally.count(fault);
  } catch (const std::system_error&) {
    // No descriptor, or nobody listened just then.
  } catch (const std::bad_alloc&) {
  }
}

std::unique_ptr<Bare> Station::served_client() {
  const auto deadline = Clock::now() + kServeBound;
  while (Clock::now() < deadline) {
    try {
      auto peer = std::make_unique<Bare>(record_, port_, profile_.format,
                                         random_.next(), sends_heartbeats());
      if (peer->talk()) return peer;
    } catch (const std::system_error&) {
    } catch (const std::bad_alloc&) {
    }
    pause(1ms);
  }
  complain("no new client is served");
  static std::once_flag once;
  std::call_once(once, print_all_stacks);
  return nullptr;
}

// A server is never deaf.
void Station::probe(Fault fault) {
  const auto start = Clock::now();
  if (!served_client()) return;
  const auto end = Clock::now();
  record_.tally.served(fault, end - start);
  const std::lock_guard lock(world_.weather_mutex);
  if (std::exchange(weathers_seen_, world_.weathers) != world_.weathers) {
    record_.tally.served(world_.weather,
                         end - std::max(start, world_.weather_ended));
  }
}

// A client that has sent FIN gets all replies of a read handler.
void Station::half_close() {
  const auto peer = served_client();
  if (!peer) return;
  for (int i = random_.below(20); i > 0; --i) {
    if (!peer->send_request()) break;
  }
  peer->half_close();
  const std::uint64_t replies = peer->replies_until_the_end();
  if (!replies_in_handler() || !record_.guarantees()) return;
  if (replies != peer->sent() || peer->end() != Bare::End::kEof) {
    complain("a half-closed client got " + std::to_string(replies) + " of " +
             std::to_string(peer->sent()) + " replies");
  }
}

void Station::silent() {
  Bare peer = connect();
  if (!sends_heartbeats()) return pause(random_.milliseconds(1, 100));
  // The heartbeats that it does not send are missed.
  const auto start = Clock::now();
  peer.reply();
  if (Clock::now() - start > kHeartbeatLimit + kServeBound) {
    complain("a silent client was not ended");
  }
}

void Station::drip() {
  const auto peer = served_client();
  if (!peer) return;
  const std::string request = peer->request();
  const std::size_t slow = std::min<std::size_t>(request.size(), 60);
  bool open = true;
  for (std::size_t i = 0; open && i < slow; ++i) {
    open = peer->send(request.substr(i, 1));
    pause(1ms);
  }
  open = open && peer->send(request.substr(slow)) && peer->reply();
  if (!open && keeps_its_client()) complain("a slow client was lost");
}

void Station::storm() {
  for (int i = 0; i < 30; ++i) {
    Bare peer = connect();
    switch (random_.below(4)) {
      case 0:
        break;
      case 1:
        peer.flood(peer.request());
        break;
      case 2:
        peer.half_close();
        break;
      default:
        peer.reset();
        break;
    }
  }
}

void Station::turned_away() {
  const auto first = served_client();
  if (!first) return;
  Bare second = connect();
  second.flood(second.request());
  const bool replied = second.reply();
  if (!keeps_its_client()) return;
  if (replied) return complain("a second client was served");
  if (second.end() != Bare::End::kEof) complain("a second client was reset");
  if (!first->talk()) complain("a second client ended the first");
}

// A process that is stopped keeps its connection, and sends no heartbeats.
void Station::stopped_process() {
  std::optional<Subprocess> process;
  {
    const std::lock_guard lock(world_.listening);
    const faults::Exempt exempt;
    process.emplace(std::vector<std::string>{record_.options.program, "--peer",
                                             std::to_string(port_)});
  }
  const faults::Exempt exempt;
  try {
    const std::string pid = process->read_line_after("talking ");
    process->send_signal(SIGSTOP);
    if (!served_client()) {
      complain("process " + pid + ", which is stopped (" + state_of(pid) +
               "), blocks the server; it serves " +
               life()->server().connection().peer_address().to_string());
    }
    if (random_.one_in(2)) process->send_signal(SIGCONT);
  } catch (const std::runtime_error&) {
    // It was turned away.
  }
}

void Station::library_client(Fault fault) {
  const auto witness = std::make_shared<Witness>(record_);
  tcpip::ClientOptions options{.host = "127.0.0.1", .port = port_};
  if (random_.one_in(3)) options.callbacks = &world_.queue;
  options.connect_callback = [this, witness](const ConnectionEvent& event) {
    const Inside in(calls_);
    witness->see(event);
  };
  if (sends_heartbeats()) {
    options.heartbeats = {.send = true,
                          .interval = 50ms,
                          .expect = true,
                          .max_interval = kHeartbeatLimit};
  }
  if (random_.one_in(2)) {
    options.socket.send_buffer = options.socket.receive_buffer = 4608;
  }
  auto client = std::make_unique<Client>(std::move(options));
  try {
    client->start(kPatience);
    talk(*client, fault);
  } catch (const CorruptError& e) {
    complain("a client read: "s + e.what());
  } catch (const tcpip::Error&) {
    // Turned away, or something lacks.
  } catch (const std::bad_alloc&) {
  }
  if (random_.one_in(3)) client->connection().close();
  const auto start = Clock::now();
  if (random_.one_in(2)) client->close();
  client.reset();
  const Milliseconds time = Clock::now() - start;
  witness->see_closed();
  record_.closing.add(time);
  if (time > kCloseBound) {
    complain("a client's end took " + std::to_string(time.count()) + " ms");
  }
}

void Station::talk(Client& client, Fault fault) {
  const std::uint64_t nonce = random_.next();
  const auto many = static_cast<std::uint64_t>(random_.below(20));
  for (std::uint64_t number = 1; number <= many; ++number) {
    const Message message = message_of(profile_.format, nonce, number);
    const bool in_pieces = fault == Fault::kShortWaits;
    for (;;) {
      try {
        write_message(client, profile_.format, message,
                      in_pieces ? tcpip::Wait(1ms) : tcpip::Wait(kReplyBound));
        break;
      } catch (const tcpip::TimeoutError& e) {
        if (!e.queued()) continue;
        client.drain(kReplyBound);
        break;
      }
    }
    const Message reply = reply_in_pieces(client, fault);
    ++record_.messages;
    if (reply != message) {
      complain("a client got reply " + std::to_string(reply.number) +
               " for request " + std::to_string(number) +
               (reply.nonce == nonce ? "" : " of another client"));
    }
  }
}

// The same message, however often the read is interrupted.
Message Station::reply_in_pieces(Client& client, Fault fault) {
  const auto deadline = Clock::now() + kReplyBound;
  for (;;) {
    std::stop_source stop;
    std::thread stopper;
    if (fault == Fault::kStops && random_.one_in(2)) {
      const faults::Exempt exempt;
      stopper = std::thread([&] { stop.request_stop(); });
    }
    std::optional<Message> reply;
    std::exception_ptr error;
    bool again = false;
    try {
      const auto wait = fault == Fault::kShortWaits
                            ? std::chrono::milliseconds(1)
                            : std::chrono::milliseconds(kReplyBound);
      reply = read_message(client, profile_.format, {wait, stop.get_token()});
    } catch (const CancelledError&) {
      again = true;
    } catch (const tcpip::TimeoutError&) {
      again = Clock::now() < deadline;
      if (!again) complain("a client got no reply in time");
      error = std::current_exception();
    } catch (...) {
      error = std::current_exception();
    }
    if (stopper.joinable()) stopper.join();
    if (reply) return *reply;
    if (!again) std::rethrow_exception(error);
  }
}

// --- What ends servers and connections ---

void Station::end() {
  const int how = random_.below(5);
  if (how >= 3) {
    // In a callback or handler, which a new client causes.
    wish_ = how == 3 ? Wish::kClose : Wish::kDestroy;
    const auto deadline = Clock::now() + 200ms;
    try {
      Bare peer = connect();
      peer.flood(peer.request());
      while (wish_ != Wish::kNone && Clock::now() < deadline) pause(1ms);
    } catch (const std::system_error&) {
    }
    wish_ = Wish::kNone;
  }
  const std::shared_ptr<Life> own = life();
  if (!own) return;
  if (how == 1) {
    const faults::Exempt exempt;
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([&] { close(*own); });
  } else if (how != 2) {
    close(*own);
  }
  take_life();
}

void Station::restart() {
  const std::lock_guard lock(world_.listening);
  end();
  open();
}

void Station::close_client() {
  const auto peer = served_client();
  const auto own = life();
  if (!peer || !own) return;
  peer->send_request();
  {
    std::vector<std::jthread> threads;
    const faults::Exempt exempt;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&, what = random_.below(2)] {
        if (what == 0) {
          own->server().close_client();
        } else {
          own->server().connection().close();
        }
      });
    }
  }
  peer->replies_until_the_end();
}

// A child that closes, destroys and exits leaves the connection alone.
void Station::fork_a_child() {
  const auto peer = served_client();
  if (!peer) return;
  {
    const std::lock_guard lock(world_.listening);
    const faults::Exempt exempt;
    const auto own = life();
    const bool closes = random_.one_in(2);
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);
      if (closes) own->server().close();
      if (closes) {
        own->plain.reset();
        own->loop.reset();
      }
      std::_Exit(0);
    }
    int status = 0;
    if (child < 0) return;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (status != 0) {
      complain("a forked child ended with " + std::to_string(status));
    }
  }
  if (!keeps_its_client()) return;
  if (!peer->talk()) complain("a child of fork() ended a connection");
}

// --- What the system does ---

class Weather {
 public:
  Weather(World& world, Random random) : world_(world), random_(random) {}

  void drive() {
    const faults::Exempt exempt;
    const int first = static_cast<int>(Fault::kInterrupted);
    const int last = static_cast<int>(Fault::kNoMemory);
    while (!world_.over) {
      const Fault fault =
          world_.record.options.without_memory
              ? Fault::kNoMemory
              : static_cast<Fault>(first + random_.below(last - first));
      if (!blow(fault)) continue;
      world_.record.tally.count(fault);
      {
        const std::lock_guard lock(world_.weather_mutex);
        ++world_.weathers;
        world_.weather = fault;
        world_.weather_ended = Clock::now();
      }
      pause(random_.milliseconds(20, 200));
    }
  }

 private:
  faults::Rule chance(double probability) {
    return faults::sometimes(probability, random_.next());
  }
  // False if that cannot be done here.
  bool blow(Fault fault) {
    faults::Plan plan;
    switch (fault) {
      case Fault::kInterrupted:
        for (const std::string_view call : faults::interruptible()) {
          plan.add(call, chance(0.2).error(EINTR));
        }
        break;
      case Fault::kShortIo:
        plan.add("recv", chance(0.7).at_most(1 + random_.below(7)));
        plan.add("send", chance(0.7).at_most(1 + random_.below(7)));
        plan.add("sendmsg", chance(0.7).at_most(1 + random_.below(7)));
        break;
      case Fault::kSpurious:
        plan.add("ppoll", chance(0.3).ready());
        plan.add("poll", chance(0.3).ready());
        break;
      case Fault::kNoDescriptors: {
        const int error = random_.one_in(2) ? EMFILE : ENFILE;
        for (const char* const call : {"accept4", "socket", "eventfd"}) {
          plan.add(call, chance(0.8).error(error));
        }
        break;
      }
      case Fault::kDescriptorLimit:
        return lower_the_limit();
      case Fault::kNoBuffers:
        plan.add("send", chance(0.3).error(ENOBUFS));
        plan.add("sendmsg", chance(0.3).error(ENOMEM));
        plan.add("ppoll", chance(0.1).error(ENOMEM));
        // A recv() that fails with ENOMEM is an error that the program gets.
        plan.add("recv", chance(0.1).error(EAGAIN));
        break;
      case Fault::kAborted: {
        constexpr std::array kErrors{ECONNABORTED, EPERM,  EPROTO,
                                     ENETDOWN,     ENOMEM, ENOBUFS};
        plan.add("accept4", chance(0.8).error(kErrors[static_cast<std::size_t>(
                                random_.below(kErrors.size()))]));
        break;
      }
      case Fault::kNoThreads:
        plan.add("thread", chance(0.5).error(EAGAIN));
        break;
      case Fault::kPauses:
        for (const char* const call : {"accept4", "close", "ppoll", "recv",
                                       "send", "sendmsg", "shutdown"}) {
          plan.add(call, chance(0.2).pause(300));
        }
        break;
      case Fault::kNoMemory:
        plan.add("new", chance(0.003).error(ENOMEM));
        break;
      default:
        return false;
    }
    pause(random_.milliseconds(50, 200));
    return true;
  }
  bool lower_the_limit() {
    if (kNeedsDescriptors) return false;
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    rlimit less = before;
    less.rlim_cur = static_cast<rlim_t>(
        tcpip_testing::open_descriptors().rbegin()->first + 3);
    ::setrlimit(RLIMIT_NOFILE, &less);
    pause(random_.milliseconds(50, 150));
    ::setrlimit(RLIMIT_NOFILE, &before);
    return true;
  }

  World& world_;
  Random random_;
};

// --- Generations ---

Milliseconds processor_time() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return Milliseconds(static_cast<double>(time.tv_sec) * 1e3 +
                        static_cast<double>(time.tv_usec) / 1e3);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

double resident_kib() {
  ::malloc_trim(0);
  std::ifstream file("/proc/self/statm");
  double size = 0;
  double resident = 0;
  file >> size >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1024;
}

// The straight line through what was measured, by least squares.
class Slope {
 public:
  explicit Slope(std::chrono::milliseconds time) : warm_up_(time / 5) {}
  void add(std::chrono::duration<double> at, double value) {
    last_ = value;
    if (at < warm_up_) return;
    if (count_ == 0) first_at_ = at.count();
    last_at_ = at.count();
    ++count_;
    x_ += at.count();
    y_ += value;
    xx_ += at.count() * at.count();
    xy_ += at.count() * value;
  }
  double last() const { return last_; }
  std::chrono::duration<double> over() const {
    return std::chrono::duration<double>(last_at_ - first_at_);
  }
  double an_hour() const {
    const double spread = count_ * xx_ - x_ * x_;
    return spread > 0 ? 3600 * (count_ * xy_ - x_ * y_) / spread : 0;
  }

 private:
  const std::chrono::duration<double> warm_up_;
  double count_ = 0, x_ = 0, y_ = 0, xx_ = 0, xy_ = 0;
  double first_at_ = 0, last_at_ = 0, last_ = 0;
};

// Servers of every kind, for some seconds. Returns the share of a processor
// that it took while nothing happened.
double run_generation(Record& record, Random random,
                      std::chrono::milliseconds time) {
  double idle = 0;
  World world(record, random.fork());
  std::vector<std::unique_ptr<Station>> stations;
  for (const Profile& profile : kProfiles) {
    // The destructor of nlohmann::json allocates, and ends the process if it
    // cannot.
    if (record.options.without_memory && profile.format == Format::kJson) {
      continue;
    }
    stations.push_back(
        std::make_unique<Station>(world, profile, random.fork()));
  }
  {
    std::vector<std::jthread> drivers;
    for (const auto& station : stations) {
      drivers.emplace_back([&station = *station] { station.drive(); });
    }
    drivers.emplace_back([weather = Weather(world, random.fork())]() mutable {
      weather.drive();
    });
    pause(time);
    world.over = true;
  }
  {
    std::vector<std::unique_ptr<Bare>> clients;
    for (const auto& station : stations) {
      clients.push_back(station->served_client());
    }
    const auto start = Clock::now();
    const Milliseconds before = processor_time();
    pause(kIdle);
    idle = (processor_time() - before) / Milliseconds(Clock::now() - start);
  }
  if (idle > kIdleBound) {
    record.complaints.add("it took " + std::to_string(100 * idle) +
                          " % of a processor while nothing happened");
  }
  {
    std::vector<std::jthread> threads;
    for (const auto& station : stations) {
      threads.emplace_back([&station = *station] { station.end(); });
    }
  }
  {
    const std::lock_guard lock(world.ticks_mutex);
    world.ticks.clear();
  }
  // The loop may run a callback of a station.
  world.loop.request_stop();
  world.loop.join();
  world.thread.close();
  return idle;
}

// The same in a process of its own in which allocations fail.
void run_without_memory(Record& record, std::uint64_t seed) {
  try {
    Subprocess process({record.options.program, "--without-memory", "--seconds",
                        "1", "--seed", std::to_string(seed)},
                       Subprocess::Errors::kWithOutput);
    const std::string output = process.read_all();
    const int status = process.wait();
    record.tally.count(Fault::kNoMemory);
    if (status != 0) {
      record.complaints.add("without memory: status " + std::to_string(status) +
                            ", --seed " + std::to_string(seed) + "\n" + output);
    }
  } catch (const std::exception& e) {
    record.complaints.add("without memory: "s + e.what() + ", --seed " +
                          std::to_string(seed));
  }
}

void print_progress(const Record& record, int generation, double seconds,
                    double resident) {
  std::printf(
      "%6.0f s  generation %d, %llu servers, %llu messages, "
      "%llu events, %llu faults, %.1f MiB, %llu wrong:",
      seconds, generation, static_cast<unsigned long long>(record.lives),
      static_cast<unsigned long long>(record.messages),
      static_cast<unsigned long long>(record.events),
      static_cast<unsigned long long>(record.tally.total()), resident / 1024,
      static_cast<unsigned long long>(record.complaints.count()));
  record.tally.print_counts();
  std::fflush(stdout);
}

}  // namespace

int run_soak(const SoakOptions& options) {
  // So that memory which is given back leaves the process: the floods' buffers
  // would else stay in the arenas.
  ::mallopt(M_ARENA_MAX, 2);
  ::mallopt(M_MMAP_THRESHOLD, 128 * 1024);
  Record record(options);
  Random random(options.seed);
  if (!options.quiet) {
    std::printf("soak for %.1f s, --seed %llu\n",
                std::chrono::duration<double>(options.time).count(),
                static_cast<unsigned long long>(options.seed));
    std::fflush(stdout);
  }
  const auto start = Clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(Clock::now() - start);
  };
  Slope memory(options.time);
  double idle_worst = 0;
  double idle_sum = 0;
  int generations = 0;
  auto reported = start;
  // What the process makes once and keeps, it makes in the first.
  std::optional<LeakSnapshot> before;
  while (generations == 0 || Clock::now() - start < options.time) {
    const HangGuard guard(60 * kSlowness);
    const auto time = std::min<std::chrono::milliseconds>(
        kGeneration, generations == 0 ? options.time / 4 : options.time / 2);
    const double idle = run_generation(record, random.fork(), time);
    idle_worst = std::max(idle_worst, idle);
    idle_sum += idle;
    ++generations;
    if (!before) {
      before.emplace();
    } else if (const auto restored = before->is_restored(5s); !restored) {
      record.complaints.add("generation " + std::to_string(generations) +
                            " left something behind: " + restored.message());
    }
    if (!options.program.empty() && generations % 4 == 2) {
      run_without_memory(record, random.next());
    }
    memory.add(seconds(), resident_kib());
    if (!options.quiet && Clock::now() - reported >= 10s) {
      reported = Clock::now();
      print_progress(record, generations, seconds().count(), memory.last());
    }
  }
  if (!kWithSanitizer && memory.over() >= kJudgedFrom &&
      memory.an_hour() > kMostGrowth) {
    record.complaints.add("memory grows");
  }
  if (!options.quiet) {
    print_progress(record, generations, seconds().count(), memory.last());
    record.tally.print_summary();
    std::printf(
        "longest close() %.1f ms; idle: %.2f %% of a processor, at most "
        "%.2f %%; memory %.1f MiB, %+.2f MiB an hour over %.0f s\n",
        record.closing.get().count(), 100 * idle_sum / generations,
        100 * idle_worst, memory.last() / 1024, memory.an_hour() / 1024,
        memory.over().count());
    std::printf("%llu wrong, --seed %llu\n",
                static_cast<unsigned long long>(record.complaints.count()),
                static_cast<unsigned long long>(options.seed));
    std::fflush(stdout);
  }
  return record.complaints.count() == 0 ? 0 : 1;
}

int run_peer(int port) {
  Record record({});
  Bare peer(record, port, Format::kText, static_cast<std::uint64_t>(::getpid()),
            /*sends_heartbeats=*/true);
  bool told = false;
  while (peer.talk()) {
    if (!std::exchange(told, true)) {
      std::printf("talking %d\n", static_cast<int>(::getpid()));
      std::fflush(stdout);
    }
    pause(5ms);
  }
  return record.complaints.count() == 0 ? 0 : 1;
}

}  // namespace tcpip_tests
