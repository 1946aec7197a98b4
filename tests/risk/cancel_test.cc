// Every call of the library that can block, against a deadline, a stop, and
// close() from another thread: one table, one set of rules.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/callback_queue.h"
#include "tcpip/client.h"
#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/signal_storm.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;
using tcpip_tests::BlockedCall;
using tcpip_tests::Buffers;
using tcpip_tests::connect_plain;
using tcpip_tests::kPatience;
using tcpip_tests::loopback_pair;
using tcpip_tests::LoopbackPair;
using tcpip_tests::plain_listener;
using tcpip_tests::PlainListener;
using tcpip_tests::send_all;
using tcpip_tests::SignalStorm;
using tcpip_tests::Transport;
using tcpip_tests::wait_until;
using Clock = Deadline::Clock;

// How late an interruption may be on a machine that is busy. Idle, it is less
// than a millisecond.
constexpr auto kLate = 2s;

// --- What a call may come to ---

enum class Outcome { kDone, kFalse, kTimeout, kCancelled, kLost, kNever };

std::ostream& operator<<(std::ostream& out, Outcome outcome) {
  constexpr const char* kNames[] = {
      "done",           "false",           "TimeoutError",
      "CancelledError", "ConnectionError", "never"};
  return out << kNames[static_cast<std::size_t>(outcome)];
}

// A blocking call with all that it needs, and the means to end it.
class Scene {
 public:
  virtual ~Scene() = default;
  // The call. Nothing if it returned false.
  virtual std::optional<std::string> call(const Wait& wait) = 0;
  // From now on the call succeeds without waiting.
  virtual void make_ready() = 0;
  virtual void close() {}
  // Before each call, where an object allows no second one.
  virtual void renew() {}
};

struct Call {
  const char* name;
  std::function<std::unique_ptr<Scene>()> make;
  std::string result = {};  // of the call that succeeds
  Outcome at_deadline = Outcome::kTimeout;
  Outcome on_close = Outcome::kLost;  // kNever if there is nothing to close
  Outcome after_close = on_close;
  bool queued = false;  // as TimeoutError and CancelledError say
};

struct Result {
  Outcome outcome = Outcome::kDone;
  std::string text = {};
  bool queued = false;
};

Result attempt(Scene& scene, const Wait& wait) {
  try {
    const std::optional<std::string> text = scene.call(wait);
    if (!text) return {Outcome::kFalse};
    return {Outcome::kDone, *text};
  } catch (const TimeoutError& e) {
    return {Outcome::kTimeout, {}, e.queued()};
  } catch (const CancelledError& e) {
    return {Outcome::kCancelled, {}, e.queued()};
  } catch (const ConnectionError& e) {
    return {Outcome::kLost, e.what()};
  }
}

// --- Readers ---

using Reading = std::string (*)(StreamReader&, const Wait&);

// `before` has come, `ready` is still to come.
class ReaderScene final : public Scene {
 public:
  ReaderScene(Transport transport, std::string before, std::string ready,
              Reading reading, bool fin = false)
      : pair_(loopback_pair(transport)),
        ready_(std::move(ready)),
        reading_(reading),
        fin_(fin) {
    send_all(pair_.peer, before);
  }
  std::optional<std::string> call(const Wait& wait) override {
    return reading_(pair_.reader, wait);
  }
  void make_ready() override {
    send_all(pair_.peer, ready_);
    if (fin_) tcpip_tests::half_close(pair_.peer);
  }
  void close() override { pair_.writer.close(); }

 private:
  LoopbackPair pair_;
  const std::string ready_;
  const Reading reading_;
  const bool fin_;
};

Call reader_call(const char* name, std::string before, std::string ready,
                 Reading reading, Outcome on_close,
                 Transport transport = Transport::kIpv4, bool fin = false) {
  const std::string all = before + ready;
  return {name,
          [=] {
            return std::make_unique<ReaderScene>(transport, before, ready,
                                                 reading, fin);
          },
          all, Outcome::kTimeout, on_close};
}

class WaitReadableScene final : public Scene {
 public:
  std::optional<std::string> call(const Wait& wait) override {
    if (!pair_.reader.wait_readable(wait)) return std::nullopt;
    return "";
  }
  void make_ready() override { send_all(pair_.peer, "x"); }
  void close() override { pair_.writer.close(); }

 private:
  LoopbackPair pair_ = loopback_pair(Transport::kIpv4);
};

std::string read_large_span(StreamReader& reader, const Wait& wait) {
  std::string out(100'000, '?');
  try {
    reader.read_exactly(std::as_writable_bytes(std::span(out)), wait);
  } catch (...) {
    EXPECT_EQ(out, std::string(out.size(), '?'));
    throw;
  }
  return out;
}

// --- Writers ---

// More than the kernel takes of a connection whose peer does not read.
constexpr std::size_t kFill = 3'000'000;

// The peer takes all that was written: `unsent` tells how much waits in the
// writer, and `drain` tries once to send it.
template <class Unsent, class Drain>
void take_everything(const UniqueFd& peer, Unsent unsent, Drain drain) {
  std::string buffer(100'000, '\0');
  const auto take = [&] {
    bool any = false;
    while (::recv(peer.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) > 0) {
      any = true;
    }
    return any;
  };
  ASSERT_TRUE(wait_until(
      [&] {
        while (take() && unsent() > 0) {
          try {
            drain();
          } catch (const TimeoutError&) {
          }
        }
        return unsent() == 0;
      },
      kPatience));
  // What is still on its way.
  while (take()) {
  }
}

class WriterScene final : public Scene {
 public:
  // With `max_unsent` write_and_drain(), else drain().
  explicit WriterScene(Transport transport,
                       std::optional<std::size_t> max_unsent = std::nullopt)
      : pair_(loopback_pair(transport, kDefaultLimit, Buffers::kFixed)),
        max_unsent_(max_unsent) {
    pair_.writer.write(std::string(kFill, 'x'));
    EXPECT_GT(pair_.writer.unsent(), kFill / 2);
  }
  std::optional<std::string> call(const Wait& wait) override {
    if (max_unsent_) {
      const std::string_view message = "message";
      pair_.writer.write_and_drain({&message, 1}, *max_unsent_, wait);
    } else {
      pair_.writer.drain(wait);
    }
    return "";
  }
  void make_ready() override {
    take_everything(
        pair_.peer, [this] { return pair_.writer.unsent(); },
        [this] { pair_.writer.drain(Wait::none()); });
  }
  void close() override { pair_.writer.close(); }

 private:
  LoopbackPair pair_;
  const std::optional<std::size_t> max_unsent_;
};

// Two drains of one writer: the one that is tested waits for the other, which
// waits for the socket.
class SecondDrainScene final : public Scene {
 public:
  SecondDrainScene() { EXPECT_TRUE(first_.await_blocked()); }
  ~SecondDrainScene() override {
    stop_.request_stop();
    try {
      first_.get();
    } catch (...) {
      // However it ended.
    }
  }
  std::optional<std::string> call(const Wait& wait) override {
    return scene_.call(wait);
  }
  void make_ready() override { scene_.make_ready(); }
  void close() override { scene_.close(); }

 private:
  WriterScene scene_{Transport::kUnix};
  std::stop_source stop_;
  BlockedCall<void> first_{[this] { scene_.call(stop_.get_token()); }};
};

// --- Connecting and accepting ---

// A listener whose queue is full: what else wants to connect is not answered.
struct FullListener {
  PlainListener listener = plain_listener(Transport::kIpv4, 0);
  UniqueFd queued = connect_plain(Transport::kIpv4, listener.port);
  UniqueFd accepted = {};

  void make_room() { accepted = tcpip_tests::accept_one(listener); }
};

class OpenConnectionScene final : public Scene {
 public:
  std::optional<std::string> call(const Wait& wait) override {
    open_connection("127.0.0.1", full_.listener.port, wait);
    return "";
  }
  void make_ready() override { full_.make_room(); }

 private:
  FullListener full_;
};

class ClientStartScene final : public Scene {
 public:
  std::optional<std::string> call(const Wait& wait) override {
    client_->start(wait);
    return "";
  }
  void make_ready() override { full_.make_room(); }
  void close() override { client_->close(); }
  void renew() override {
    client_ = std::make_unique<Client>(
        ClientOptions{.host = "127.0.0.1", .port = full_.listener.port});
  }

 private:
  FullListener full_;
  std::unique_ptr<Client> client_;
};

class AcceptScene final : public Scene {
 public:
  std::optional<std::string> call(const Wait& wait) override {
    listener_.accept(wait);
    return "";
  }
  void make_ready() override {
    peer_ = connect_plain(Transport::kIpv4, listener_.port());
  }
  void close() override { listener_.close(); }

 private:
  Listener listener_{"127.0.0.1", 0};
  UniqueFd peer_;
};

// --- Clients and servers ---

// A client or a server with a bare peer.
class ClientEnd {
 public:
  explicit ClientEnd(std::size_t write_limit)
      : listener_(plain_listener(Transport::kIpv4)),
        client_({.host = "127.0.0.1",
                 .port = listener_.port,
                 .write_limit = write_limit,
                 .socket = {.send_buffer = 100'000}}) {
    client_.start(kPatience);
    peer_ = tcpip_tests::accept_one(listener_);
  }
  Client& end() { return client_; }
  const UniqueFd& peer() const { return peer_; }

 private:
  PlainListener listener_;
  Client client_;
  UniqueFd peer_;
};

class ServerEnd {
 public:
  explicit ServerEnd(std::size_t write_limit)
      : server_({.host = "127.0.0.1",
                 .write_limit = write_limit,
                 .socket = {.send_buffer = 100'000}}) {
    server_.start();
    peer_ = connect_plain(Transport::kIpv4,
                          static_cast<std::uint16_t>(server_.port()));
    EXPECT_TRUE(server_.wait_connected(kPatience));
  }
  OneClientServer& end() { return server_; }
  const UniqueFd& peer() const { return peer_; }

 private:
  OneClientServer server_;
  UniqueFd peer_;
};

using EndReading = std::string (*)(BaseClientOrServer&, const Wait&);

template <class End>
class EndReadScene final : public Scene {
 public:
  EndReadScene(std::string before, std::string ready, EndReading reading)
      : ready_(std::move(ready)), reading_(reading) {
    send_all(end_.peer(), before);
  }
  std::optional<std::string> call(const Wait& wait) override {
    return reading_(end_.end(), wait);
  }
  void make_ready() override { send_all(end_.peer(), ready_); }
  void close() override { end_.end().close(); }

 private:
  End end_{kDefaultWriteLimit};
  const std::string ready_;
  const EndReading reading_;
};

template <class End>
class EndWaitReadableScene final : public Scene {
 public:
  std::optional<std::string> call(const Wait& wait) override {
    if (!end_.end().wait_readable(wait)) return std::nullopt;
    return "";
  }
  void make_ready() override { send_all(end_.peer(), "x"); }
  void close() override { end_.end().close(); }

 private:
  End end_{kDefaultWriteLimit};
};

template <class End>
class EndWriteScene final : public Scene {
 public:
  EndWriteScene(bool drain, std::size_t write_limit)
      : end_(write_limit), drain_(drain) {
    // As Buffers::kFixed; the sending side has its option.
    const int size = 100'000;
    ::setsockopt(end_.peer().get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    try {
      end_.end().write(std::string(kFill, 'x'), Wait::none());
      ADD_FAILURE() << "the kernel took all of it";
    } catch (const TimeoutError& e) {
      EXPECT_TRUE(e.queued());
    }
  }
  std::optional<std::string> call(const Wait& wait) override {
    if (drain_) {
      end_.end().drain(wait);
    } else {
      end_.end().write("message", wait);
    }
    return "";
  }
  void make_ready() override {
    take_everything(
        end_.peer(), [this] { return end_.end().unsent(); },
        [this] { end_.end().drain(Wait::none()); });
  }
  void close() override { end_.end().close(); }

 private:
  End end_;
  const bool drain_;
};

class WaitConnectedScene final : public Scene {
 public:
  WaitConnectedScene() { server_.start(); }
  std::optional<std::string> call(const Wait& wait) override {
    if (!server_.wait_connected(wait)) return std::nullopt;
    return "";
  }
  void make_ready() override {
    peer_ = connect_plain(Transport::kIpv4,
                          static_cast<std::uint16_t>(server_.port()));
    EXPECT_TRUE(wait_until([this] { return server_.connected(); }));
  }
  void close() override { server_.close(); }

 private:
  OneClientServer server_{{.host = "127.0.0.1"}};
  UniqueFd peer_;
};

class WaitDoneScene final : public Scene {
 public:
  WaitDoneScene() { server_.start(); }
  std::optional<std::string> call(const Wait& wait) override {
    if (!server_.wait_done(wait)) return std::nullopt;
    return "";
  }
  void make_ready() override { server_.close(); }
  void close() override { server_.close(); }

 private:
  OneClientServer server_{{.host = "127.0.0.1"}};
};

// --- Callback queues ---

class RunOneScene final : public Scene {
 public:
  std::optional<std::string> call(const Wait& wait) override {
    if (!queue_.run_one(wait)) return std::nullopt;
    return "";
  }
  void make_ready() override {
    EXPECT_TRUE(queue_.post([] {}));
  }

 private:
  CallbackQueue queue_;
};

class PostWaitScene final : public Scene {
 public:
  PostWaitScene() {
    EXPECT_TRUE(queue_.post([] {}));
  }
  std::optional<std::string> call(const Wait& wait) override {
    owner_.post_wait([] {}, wait);
    return "";
  }
  void make_ready() override { EXPECT_EQ(queue_.run_pending(), 1u); }
  void close() override { owner_.cancel(); }

 private:
  CallbackQueue queue_{1};
  CallbackQueue::Owner owner_{queue_};
};

// --- The table ---

template <class SceneType, class... Args>
std::function<std::unique_ptr<Scene>()> scene(Args... args) {
  return [=] { return std::make_unique<SceneType>(args...); };
}

template <class End>
void add_end_calls(std::vector<Call>& calls, const char* const (&names)[11],
                   std::size_t write_limit) {
  const auto add = [&](std::size_t i, std::string before, std::string ready,
                       EndReading reading, std::string result,
                       Outcome on_close = Outcome::kLost) {
    calls.push_back({names[i], scene<EndReadScene<End>>(before, ready, reading),
                     result, Outcome::kTimeout, on_close, Outcome::kLost});
  };
  add(
      0, "", "abc", [](auto& e, auto& w) { return e.read(3, w); }, "abc",
      Outcome::kDone);
  add(
      1, "ab", "c", [](auto& e, auto& w) { return e.read_exactly(3, w); },
      "abc");
  add(
      2, "ab", "c",
      [](auto& e, auto& w) {
        std::string out(3, '?');
        e.read_exactly(std::as_writable_bytes(std::span(out)), w);
        return out;
      },
      "abc");
  add(
      3, "ab", "c\n", [](auto& e, auto& w) { return e.read_line(w); }, "abc\n",
      Outcome::kDone);
  add(
      4, "ab;", ";", [](auto& e, auto& w) { return e.read_until(";;", w); },
      "ab;;");
  add(
      5, "ab", "c\n",
      [](auto& e, auto& w) {
        return e.read_until({"\r\n", "\n"}, w);
      },
      "abc\n");
  add(
      6, "ab\r", "\n", [](auto& e, auto& w) { return e.read_str(w); }, "ab");
  add(
      7, "ab", "c\n",
      [](auto& e, auto& w) {
        e.discard_until("\n", w);
        return std::string();
      },
      "");
  calls.push_back({names[8], scene<EndWaitReadableScene<End>>(), "",
                   Outcome::kFalse, Outcome::kDone, Outcome::kLost});
  // A message is taken while no more than the write limit is unsent.
  Call write{names[9], scene<EndWriteScene<End>>(false, write_limit)};
  write.queued = write_limit > 1;
  calls.push_back(write);
  Call drain{names[10], scene<EndWriteScene<End>>(true, write_limit)};
  drain.queued = true;
  calls.push_back(drain);
}

std::vector<Call> all_calls() {
  std::vector<Call> calls = {
      reader_call(
          "Read", "", "abc", [](auto& r, auto& w) { return r.read(3, w); },
          Outcome::kDone),
      reader_call(
          "ReadView", "", "abc",
          [](auto& r, auto& w) { return std::string(r.read_view(3, w)); },
          Outcome::kDone, Transport::kUnix),
      reader_call(
          "ReadAll", "ab", "c", [](auto& r, auto& w) { return r.read_all(w); },
          Outcome::kDone, Transport::kIpv4, true),
      reader_call(
          "ReadAllMax", "ab", "c",
          [](auto& r, auto& w) { return r.read_all(3, w); }, Outcome::kDone,
          Transport::kUnix, true),
      reader_call(
          "ReadLine", "ab", "c\n",
          [](auto& r, auto& w) { return r.read_line(w); }, Outcome::kDone),
      reader_call(
          "ReadLineView", "ab", "c\n",
          [](auto& r, auto& w) { return std::string(r.read_line_view(w)); },
          Outcome::kDone, Transport::kUnix),
      reader_call(
          "ReadUntil", "ab\r", "\n",
          [](auto& r, auto& w) { return r.read_until("\r\n", w); },
          Outcome::kLost),
      reader_call(
          "ReadUntilList", "ab", "c\n",
          [](auto& r, auto& w) {
            return r.read_until({"\r\n", "\n"}, w);
          },
          Outcome::kLost, Transport::kIpv6),
      reader_call(
          "ReadUntilSpan", "ab", "c;",
          [](auto& r, auto& w) {
            static constexpr std::string_view kEnds[] = {";", "!"};
            return r.read_until(std::span(kEnds), w);
          },
          Outcome::kLost, Transport::kUnix),
      reader_call(
          "ReadUntilView", "ab", "c\n",
          [](auto& r, auto& w) {
            return std::string(r.read_until_view("\n", w));
          },
          Outcome::kLost),
      reader_call(
          "ReadExactly", "ab", "cde",
          [](auto& r, auto& w) { return r.read_exactly(5, w); },
          Outcome::kLost),
      reader_call(
          "ReadExactlyView", "ab", "cde",
          [](auto& r, auto& w) {
            return std::string(r.read_exactly_view(5, w));
          },
          Outcome::kLost, Transport::kIpv6),
      reader_call(
          "ReadExactlySpan", "ab", "cde",
          [](auto& r, auto& w) {
            std::string out(5, '?');
            r.read_exactly(std::as_writable_bytes(std::span(out)), w);
            return out;
          },
          Outcome::kLost),
      reader_call("ReadExactlyLargeSpan", std::string(60'000, 'a'),
                  std::string(40'000, 'b'), read_large_span, Outcome::kLost),
      {"WaitReadable", scene<WaitReadableScene>(), "", Outcome::kFalse,
       Outcome::kDone},
      {"Accept", scene<AcceptScene>()},
      {"OpenConnection", scene<OpenConnectionScene>(), "", Outcome::kTimeout,
       Outcome::kNever},
      // A client that was closed is started in error: that is no outcome.
      {"ClientStart", scene<ClientStartScene>(), "", Outcome::kTimeout,
       Outcome::kLost, Outcome::kNever},
      {"WaitConnected", scene<WaitConnectedScene>(), "", Outcome::kFalse,
       Outcome::kFalse},
      {"WaitDone", scene<WaitDoneScene>(), "", Outcome::kFalse, Outcome::kDone},
      {"RunOne", scene<RunOneScene>(), "", Outcome::kFalse, Outcome::kNever},
      {"PostWait", scene<PostWaitScene>(), "", Outcome::kTimeout,
       Outcome::kCancelled, Outcome::kNever},
  };
  Call discard_until = reader_call(
      "DiscardUntil", "ab\r", "\n",
      [](auto& r, auto& w) {
        r.discard_until("\r\n", w);
        return std::string();
      },
      Outcome::kLost);
  discard_until.result = "";
  calls.push_back(discard_until);
  Call drain{"Drain", scene<WriterScene>(Transport::kIpv4)};
  drain.queued = true;
  calls.push_back(drain);
  Call drain_unix{"DrainUnix", scene<WriterScene>(Transport::kUnix)};
  drain_unix.queued = true;
  calls.push_back(drain_unix);
  Call second{"DrainBehindAnother", scene<SecondDrainScene>()};
  second.queued = true;
  calls.push_back(second);
  calls.push_back(
      {"WriteAndDrainNotTaken",
       scene<WriterScene>(Transport::kIpv4, std::optional<std::size_t>(0))});
  Call taken{"WriteAndDrainTaken",
             scene<WriterScene>(Transport::kUnix,
                                std::optional<std::size_t>(SIZE_MAX))};
  taken.queued = true;
  calls.push_back(taken);
  add_end_calls<ClientEnd>(
      calls,
      {"ClientRead", "ClientReadExactly", "ClientReadExactlySpan",
       "ClientReadLine", "ClientReadUntil", "ClientReadUntilList",
       "ClientReadStr", "ClientDiscardUntil", "ClientWaitReadable",
       "ClientWrite", "ClientDrain"},
      2 * kFill);
  add_end_calls<ServerEnd>(
      calls,
      {"ServerRead", "ServerReadExactly", "ServerReadExactlySpan",
       "ServerReadLine", "ServerReadUntil", "ServerReadUntilList",
       "ServerReadStr", "ServerDiscardUntil", "ServerWaitReadable",
       "ServerWrite", "ServerDrain"},
      1);
  return calls;
}

void PrintTo(const Call& call, std::ostream* out) { *out << call.name; }

class EveryBlockingCall : public testing::TestWithParam<Call> {
 protected:
  // In this thread.
  Result run(Scene& scene, const Wait& wait) {
    scene.renew();
    return attempt(scene, wait);
  }
  // In another, which is blocked when this returns.
  std::unique_ptr<BlockedCall<Result>> block(Scene& scene, const Wait& wait) {
    scene.renew();
    auto call = std::make_unique<BlockedCall<Result>>(
        [&scene, wait] { return attempt(scene, wait); });
    EXPECT_TRUE(call->await_blocked());
    return call;
  }
  void expect_done(Scene& scene, const Wait& wait) {
    const Result result = run(scene, wait);
    EXPECT_EQ(result.outcome, Outcome::kDone) << result.text;
    EXPECT_EQ(result.text, call_.result);
  }
  void expect_at_deadline(const Result& result) {
    EXPECT_EQ(result.outcome, call_.at_deadline) << result.text;
    if (result.outcome == Outcome::kTimeout) {
      EXPECT_EQ(result.queued, call_.queued);
    }
  }
  void expect_cancelled(const Result& result, bool queued) {
    EXPECT_EQ(result.outcome, Outcome::kCancelled) << result.text;
    EXPECT_EQ(result.queued, queued);
  }
  bool is_drain() const {
    return std::string_view(call_.name).find("Drain") != std::string::npos &&
           std::string_view(call_.name).find("Write") == std::string::npos;
  }

  const Call& call_ = GetParam();
};

TEST_P(EveryBlockingCall, EndsAtItsDeadlineAndResumes) {
  const auto scene = call_.make();
  std::stop_source never;
  // Near and far deadlines are kept in different ways.
  for (const auto& [after, stop] :
       {std::pair(60ms, std::stop_token()), std::pair(5ms, std::stop_token()),
        std::pair(5ms, never.get_token())}) {
    scene->renew();
    const auto start = Clock::now();
    expect_at_deadline(attempt(*scene, Wait(after, stop)));
    const auto took = Clock::now() - start;
    EXPECT_GE(took, after);
    EXPECT_LT(took, after + kLate);
  }
  scene->make_ready();
  expect_done(*scene, kPatience);
}

TEST_P(EveryBlockingCall, DoesNotWaitForADeadlineThatHasPassed) {
  const auto scene = call_.make();
  std::stop_source never;
  for (const Wait& wait :
       {Wait(-1h), Wait(-1s), Wait(0s), Wait(1ns), Wait::none(),
        Wait(Deadline(Clock::time_point())), Wait(0s, never.get_token())}) {
    const auto start = Clock::now();
    expect_at_deadline(run(*scene, wait));
    EXPECT_LT(Clock::now() - start, kLate);
  }
  scene->make_ready();
  expect_done(*scene, kPatience);
}

TEST_P(EveryBlockingCall, TakesWhatIsReadyAlsoAfterTheDeadline) {
  std::stop_source never;
  for (const Wait& wait :
       {Wait::none(), Wait(-1h), Wait(0s, never.get_token())}) {
    const auto scene = call_.make();
    scene->make_ready();
    expect_done(*scene, wait);
  }
}

TEST_P(EveryBlockingCall, StopRequestedBeforeWinsOverWhatIsReady) {
  const auto scene = call_.make();
  std::stop_source stop;
  stop.request_stop();
  scene->make_ready();
  for (const Wait& wait :
       {Wait(stop.get_token()), Wait(kPatience, stop.get_token()),
        Wait(0s, stop.get_token())}) {
    // A drain's bytes are always the writer's; another message was not taken.
    expect_cancelled(run(*scene, wait), is_drain());
  }
  expect_done(*scene, kPatience);
}

TEST_P(EveryBlockingCall, StopEndsItWhileBlockedAndItResumes) {
  const auto scene = call_.make();
  for (const bool with_deadline : {false, true}) {
    std::stop_source stop;
    const Wait wait = with_deadline ? Wait(kPatience, stop.get_token())
                                    : Wait(stop.get_token());
    const auto call = block(*scene, wait);
    const auto start = Clock::now();
    stop.request_stop();
    expect_cancelled(call->get(), call_.queued);
    EXPECT_LT(Clock::now() - start, kLate);
  }
  scene->make_ready();
  expect_done(*scene, kPatience);
}

// Forever, and with what may end it but does not.
std::vector<Wait> patient_waits(const std::stop_source& never) {
  return {Wait(), Wait(kPatience), Wait(never.get_token()),
          Wait(kPatience, never.get_token())};
}

TEST_P(EveryBlockingCall, EndsWhenItsObjectIsClosedMeanwhile) {
  if (call_.on_close == Outcome::kNever) return;
  std::stop_source never;
  for (const Wait& wait : patient_waits(never)) {
    const auto scene = call_.make();
    const auto call = block(*scene, wait);
    const auto start = Clock::now();
    scene->close();
    const Result result = call->get();
    EXPECT_EQ(result.outcome, call_.on_close) << result.text;
    EXPECT_LT(Clock::now() - start, kLate);
  }
}

TEST_P(EveryBlockingCall, DoesNotBlockOnAClosedObject) {
  if (call_.after_close == Outcome::kNever) return;
  const auto scene = call_.make();
  scene->close();
  for (int i = 0; i < 2; ++i) {
    const auto start = Clock::now();
    const Result result = run(*scene, Wait());
    EXPECT_EQ(result.outcome, call_.after_close) << result.text;
    EXPECT_LT(Clock::now() - start, kLate);
  }
}

TEST_P(EveryBlockingCall, GoesOnWhenWhatItWaitsForComes) {
  // An unanswered connect is repeated by the kernel after a second only, and
  // the test with the signals has waited for that.
  const std::string_view name = call_.name;
  if (name == "OpenConnection" || name == "ClientStart") return;
  std::stop_source never;
  for (const Wait& wait : patient_waits(never)) {
    const auto scene = call_.make();
    const auto call = block(*scene, wait);
    scene->make_ready();
    const Result result = call->get();
    EXPECT_EQ(result.outcome, Outcome::kDone) << result.text;
    EXPECT_EQ(result.text, call_.result);
  }
}

TEST_P(EveryBlockingCall, SignalsNeitherEndNorProlongIt) {
  const auto scene = call_.make();
  // A busy machine may be slow to begin the storm: then the call has to last
  // longer, until enough have met it.
  int met = 0;
  for (auto time = 25ms; met <= 5; time *= 4) {
    ASSERT_LT(time, 10s) << "only " << met << " signals came";
    scene->renew();
    const auto start = Clock::now();
    BlockedCall call([&] { return attempt(*scene, Wait(time)); });
    {
      const SignalStorm storm(call.native_handle());
      EXPECT_TRUE(wait_until([&] { return call.is_done(); }));
      met = storm.count();
    }
    expect_at_deadline(call.get());
    EXPECT_GE(Clock::now() - start, time);
    EXPECT_LT(Clock::now() - start, time + kLate);
  }
  const auto call = block(*scene, Wait());
  {
    const SignalStorm storm(call->native_handle());
    EXPECT_TRUE(wait_until([&] { return storm.count() > 5; }));
    EXPECT_FALSE(call->is_done());
    scene->make_ready();
    EXPECT_TRUE(wait_until([&] { return call->is_done(); }));
  }
  const Result result = call->get();
  EXPECT_EQ(result.outcome, Outcome::kDone) << result.text;
  EXPECT_EQ(result.text, call_.result);
}

INSTANTIATE_TEST_SUITE_P(Table, EveryBlockingCall,
                         testing::ValuesIn(all_calls()),
                         [](const auto& tested) { return tested.param.name; });

// --- A deadline is for the whole call ---

// Feeds the peer's side a little every few milliseconds, for ever.
class Drip {
 public:
  explicit Drip(std::function<void()> drop)
      : thread_([drop = std::move(drop)](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            drop();
            ::poll(nullptr, 0, 5);
          }
        }) {}

 private:
  std::jthread thread_;
};

TEST(DeadlineOfTheWholeCall, HoldsHoweverSlowlyTheBytesCome) {
  std::stop_source never;
  const std::function<void(StreamReader&, const Wait&)> reads[] = {
      [](auto& r, auto& w) { r.read_exactly(1'000'000, w); },
      [](auto& r, auto& w) { r.read_until("\n", w); },
      [](auto& r, auto& w) { r.read_line(w); },
      [](auto& r, auto& w) { r.read_all(w); },
      [](auto& r, auto& w) { r.discard_until("\n", w); },
      [](auto& r, auto& w) { read_large_span(r, w); }};
  for (const auto& read : reads) {
    for (const std::stop_token& stop : {std::stop_token(), never.get_token()}) {
      LoopbackPair pair = loopback_pair(Transport::kIpv4);
      const Drip drip([&pair] { send_all(pair.peer, "x"); });
      const auto start = Clock::now();
      EXPECT_THROW(read(pair.reader, Wait(60ms, stop)), TimeoutError);
      EXPECT_GE(Clock::now() - start, 60ms);
      EXPECT_LT(Clock::now() - start, 60ms + kLate);
    }
  }
}

TEST(DeadlineOfTheWholeCall, HoldsHoweverSlowlyThePeerReads) {
  LoopbackPair pair =
      loopback_pair(Transport::kUnix, kDefaultLimit, Buffers::kSmall);
  const std::string data(8'000'000, 'x');
  pair.writer.write(data);
  const Drip drip([&pair] { tcpip_tests::recv_some(pair.peer, 500); });
  const auto start = Clock::now();
  EXPECT_THROW(pair.writer.drain(100ms), TimeoutError);
  EXPECT_GE(Clock::now() - start, 100ms);
  EXPECT_LT(Clock::now() - start, 100ms + kLate);
}

// --- Signals and bytes ---

TEST(Signals, TransfersAreByteExact) {
  std::string data(3'000'000, '\0');
  std::uint32_t x = 1;
  for (char& c : data) {
    x = x * 1664525 + 1013904223;
    c = static_cast<char>(x >> 24);
  }
  for (const bool forever : {true, false}) {
    const Wait wait = forever ? Wait() : Wait(kPatience);
    LoopbackPair pair =
        loopback_pair(Transport::kIpv4, kDefaultLimit, Buffers::kSmall);
    Streams peer = open_connection(std::move(pair.peer));
    BlockedCall writing([&] {
      for (std::size_t i = 0; i < data.size(); i += 10'000) {
        pair.writer.write(std::string_view(data).substr(i, 10'000));
        pair.writer.drain(wait);
      }
      pair.writer.write_eof();
    });
    BlockedCall reading([&] { return peer.reader.read_all(wait); });
    {
      const SignalStorm one(writing.native_handle());
      const SignalStorm two(reading.native_handle());
      EXPECT_TRUE(wait_until([&] { return reading.is_done(); }));
    }
    writing.get();
    EXPECT_TRUE(reading.get() == data);
  }
}

// --- A name server that does not answer ---

constexpr int kNotPossible = 77;
constexpr const char* kHost = "dome.example";

bool write_file(const char* path, std::string_view text) {
  const UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) ==
                   static_cast<ssize_t>(text.size());
}

// In a child process: a network and a mount table of its own, in which the
// only name server is a socket that nobody reads.
bool enter_silence() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) != 0) {
      return false;
    }
    if (!write_file("/proc/self/setgroups", "deny") ||
        !write_file("/proc/self/uid_map", "0 " + std::to_string(uid) + " 1") ||
        !write_file("/proc/self/gid_map", "0 " + std::to_string(gid) + " 1")) {
      return false;
    }
  }
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return false;
  }
  const int fd = ::socket(AF_INET, SOCK_DGRAM, 0);  // for the child's life
  ifreq request{};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP;
  if (::ioctl(fd, SIOCSIFFLAGS, &request) != 0) return false;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(53);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return false;
  }
  // It gives up after a second, so that what is left behind ends soon.
  char resolv[] = "/tmp/silent-resolv-XXXXXX";
  const int file = ::mkstemp(resolv);
  constexpr std::string_view kText =
      "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
  const bool mounted =
      file >= 0 &&
      ::write(file, kText.data(), kText.size()) ==
          static_cast<ssize_t>(kText.size()) &&
      ::mount(resolv, "/etc/resolv.conf", nullptr, MS_BIND, nullptr) == 0;
  if (file >= 0) {
    ::close(file);
    ::unlink(resolv);
  }
  return mounted;
}

TEST(SilentNameServer, DoesNotHoldUpResolving) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // The program begins anew, in there.
    if (!enter_silence()) ::_exit(kNotPossible);
    // Where a build tool looks for the parent's results.
    for (const char* name : {"XML_OUTPUT_FILE", "TEST_PREMATURE_EXIT_FILE",
                             "TEST_TOTAL_SHARDS", "GTEST_OUTPUT"}) {
      ::unsetenv(name);
    }
    ::execl("/proc/self/exe", "cancel_test",
            "--gtest_filter=SilentNameServer.DISABLED_InTheChild",
            "--gtest_also_run_disabled_tests", nullptr);
    ::_exit(1);
  }
  int status = 0;
  ASSERT_TRUE(wait_until(
      [&] { return ::waitpid(child, &status, WNOHANG) == child; }, 50s));
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kNotPossible) {
    GTEST_SKIP() << "no private network and mount table here";
  }
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(SilentNameServer, DISABLED_InTheChild) {
  // Without a deadline it is the name server's time-outs that end it.
  auto start = Clock::now();
  EXPECT_THROW(resolve(kHost, 80), ResolveError);
  EXPECT_GE(Clock::now() - start, 900ms);

  const std::function<void(const Wait&)> calls[] = {
      [](const Wait& wait) { resolve(kHost, 80, wait); },
      [](const Wait& wait) { open_connection(kHost, 80, wait); },
      [](const Wait& wait) { Listener(kHost, 0, {}, wait); },
      [](const Wait& wait) { Client({.host = kHost, .port = 80}).start(wait); },
      [](const Wait& wait) { OneClientServer({.host = kHost}).start(wait); }};
  for (const auto& call : calls) {
    start = Clock::now();
    EXPECT_THROW(call(30ms), TimeoutError);
    EXPECT_GE(Clock::now() - start, 30ms);
    EXPECT_THROW(call(Wait::none()), TimeoutError);
    std::stop_source stop;
    BlockedCall<void> blocked([&] { call(stop.get_token()); });
    ASSERT_TRUE(blocked.await_blocked());
    stop.request_stop();
    EXPECT_THROW(blocked.get(), CancelledError);
    EXPECT_THROW(call(stop.get_token()), CancelledError);
    // All of it before the name server's time-out.
    EXPECT_LT(Clock::now() - start, 900ms);
  }

  Client client({.host = kHost, .port = 80});
  BlockedCall<void> starting([&] { client.start(); });
  ASSERT_TRUE(starting.await_blocked());
  start = Clock::now();
  client.close();
  EXPECT_THROW(starting.get(), ConnectionError);
  EXPECT_LT(Clock::now() - start, 900ms);
}

}  // namespace
}  // namespace tcpip
