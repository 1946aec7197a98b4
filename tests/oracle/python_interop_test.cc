// Our servers and clients against stock asyncio streams. What Python does, and
// what it checks, is in python_peer.py, in a function of the name that is given
// to Peer.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <future>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "tcpip/base_client_or_server.h"
#include "tcpip/client.h"
#include "tcpip/connection_event.h"
#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/json.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/log_recorder.h"
#include "tcpip/wait.h"
#include "tcpip/wire_struct.h"
#include "tcpip/wire_type.h"
#include "tests/support/loopback.h"
#include "tests/support/oracle.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/subprocess.h"
#include "tests/support/told.h"

namespace tcpip_tests {

// What ctypes has by default: gaps before what must be aligned.
struct Padded {
  std::uint8_t kind;
  double value;
  std::array<std::int16_t, 3> counts;
};

}  // namespace tcpip_tests

template <>
inline constexpr bool tcpip::allow_padding<tcpip_tests::Padded> = true;

namespace tcpip_tests {
namespace {

using tcpip::BaseClientOrServer;
using tcpip::BigEndian;
using tcpip::Client;
using tcpip::ConnectionError;
using tcpip::ConnectionResetError;
using tcpip::DisconnectReason;
using tcpip::IncompleteReadError;
using tcpip::LittleEndian;
using tcpip::OneClientReadLoopServer;
using tcpip::OneClientServer;
using tcpip::Streams;
using tcpip::Wait;
using tcpip_testing::ConnectionEvents;
using tcpip_testing::LogRecorder;

constexpr std::size_t kMiB = 1024 * 1024;

// A Python process that runs one function of python_peer.py.
class Peer {
 public:
  explicit Peer(const std::string& name, int port = -1)
      : process_(command(name, port)) {}

  // Of a function that serves.
  int port() { return std::stoi(process_.read_line_after("port ")); }
  std::string hear() { return process_.read_line(); }
  void tell(std::string_view line) { process_.write_line(line); }
  // Its exit status: 0 if all was as it should be.
  int end() {
    process_.close_input();
    return process_.wait();
  }

 private:
  static std::vector<std::string> command(const std::string& name, int port) {
    std::vector<std::string> result = {"python3", "-X", "utf8",
                                       find_file("tests/oracle/python_peer.py"),
                                       name};
    if (port >= 0) result.push_back(std::to_string(port));
    return result;
  }

  Subprocess process_;
};

// --- Our servers, Python clients ---

using Handler = OneClientReadLoopServer::ReadHandler;

// Does for the server that has no reading thread what the other one does:
// calls a handler again and again while a client is connected.
void serve(OneClientServer& server, const Handler& handler,
           std::stop_token stop) {
  try {
    while (auto client = server.wait_client(stop)) {
      try {
        while (client->connected()) handler(*client, stop);
      } catch (const ConnectionError&) {
        // On to the next one.
      }
    }
  } catch (const tcpip::CancelledError&) {
  } catch (const std::exception& e) {
    ADD_FAILURE() << "the handler threw " << e.what();
  }
}

template <class Server>
class ServerTest : public testing::Test {
 protected:
  using Options = tcpip::ServerOptions;

  // While the handler may still use server_.
  void TearDown() override {
    if (server_) server_->close();
  }

  void start(Handler handler, Options options = {}) {
    options.host = "127.0.0.1";
    options.log = log_.log(tcpip::LogLevel::kWarning);
    options.connect_callback = events_.callback();
    if constexpr (std::is_same_v<Server, OneClientReadLoopServer>) {
      server_.emplace(std::move(options), std::move(handler));
      server_->start();
    } else {
      server_.emplace(std::move(options));
      server_->start();
      thread_ = std::jthread(
          [this, handler = std::move(handler)](std::stop_token stop) {
            serve(*server_, handler, stop);
          });
    }
  }

  // Runs a Python client against the server, to its end.
  void run(const std::string& name) {
    Peer peer(name, server_->port());
    EXPECT_EQ(peer.end(), 0) << log_.text();
  }

  // How the only connection there was has ended.
  tcpip::ConnectionEvent end_of_connection() {
    EXPECT_TRUE(events_.wait_for(2));
    EXPECT_EQ(events_.size(), 2u) << events_.text();
    return events_.values().back();
  }

  HangGuard guard_;
  ConnectionEvents events_;
  LogRecorder log_;
  std::optional<Server> server_;
  std::jthread thread_;
};

using Servers = testing::Types<OneClientServer, OneClientReadLoopServer>;

struct ServerNames {
  template <class T>
  static std::string GetName(int) {
    return std::is_same_v<T, OneClientServer> ? "OneClientServer"
                                              : "OneClientReadLoopServer";
  }
};
TYPED_TEST_SUITE(ServerTest, Servers, ServerNames);

void echo_line(const tcpip::ReadWriter& peer, std::stop_token stop) {
  peer.write(peer.read_until("\r\n", stop), {kPatience, stop});
}

TYPED_TEST(ServerTest, EchoesLinesOfAllSizes) {
  this->start(echo_line, {.limit = 2 * kMiB});
  this->run("lines");
  EXPECT_EQ(this->end_of_connection().reason, DisconnectReason::kPeerClosed);
}

TYPED_TEST(ServerTest, GetsPastLinesThatAreTooLong) {
  this->start([](tcpip::Connection& client, std::stop_token stop) {
    try {
      echo_line(client, stop);
    } catch (const tcpip::LimitOverrunError&) {
      client.discard_until("\r\n", stop);
      client.write_str("too long", {kPatience, stop});
    }
  });
  this->run("too_long");
}

TYPED_TEST(ServerTest, FindsTheSameTextInTheSameBytes) {
  this->start([](tcpip::Connection& client, std::stop_token stop) {
    try {
      client.write_str(client.read_str(stop), {kPatience, stop});
    } catch (const tcpip::DecodeError& e) {
      client.write_str("bad at " + std::to_string(e.position()),
                       {kPatience, stop});
    }
  });
  this->run("text");
}

// In Python: "bBhHiIqQfd?".
template <template <class> class Order>
struct Numbers {
  Order<std::int8_t> i8;
  Order<std::uint8_t> u8;
  Order<std::int16_t> i16;
  Order<std::uint16_t> u16;
  Order<std::int32_t> i32;
  Order<std::uint32_t> u32;
  Order<std::int64_t> i64;
  Order<std::uint64_t> u64;
  Order<float> f;
  Order<double> d;
  Order<bool> flag;
};
static_assert(sizeof(Numbers<BigEndian>) == 43);

Numbers<LittleEndian> reordered(const Numbers<BigEndian>& n) {
  return {.i8 = n.i8.value(),
          .u8 = n.u8.value(),
          .i16 = n.i16.value(),
          .u16 = n.u16.value(),
          .i32 = n.i32.value(),
          .u32 = n.u32.value(),
          .i64 = n.i64.value(),
          .u64 = n.u64.value(),
          .f = n.f.value(),
          .d = n.d.value(),
          .flag = n.flag.value()};
}

std::string in_words(const Numbers<BigEndian>& n) {
  std::array<char, 80> floats{};
  std::snprintf(floats.data(), floats.size(), "%.17g %.17g",
                static_cast<double>(n.f.value()), n.d.value());
  std::string result;
  for (const std::int64_t value :
       {std::int64_t{n.i8.value()}, std::int64_t{n.u8.value()},
        std::int64_t{n.i16.value()}, std::int64_t{n.u16.value()},
        std::int64_t{n.i32.value()}, std::int64_t{n.u32.value()},
        n.i64.value()}) {
    result += std::to_string(value) + " ";
  }
  return result + std::to_string(n.u64.value()) + " " + floats.data() +
         (n.flag ? " 1" : " 0");
}

TYPED_TEST(ServerTest, ExchangesNumbersOfEveryWidth) {
  this->start([](tcpip::Connection& client, std::stop_token stop) {
    Numbers<BigEndian> numbers;
    client.read_into(numbers, stop);
    client.write_from(reordered(numbers), Wait(kPatience, stop));
    client.write_str(in_words(numbers), {kPatience, stop});
  });
  this->run("numbers");
}

#pragma pack(push, 1)
struct Packed {
  std::uint8_t kind;
  double value;
  std::array<std::int16_t, 3> counts;
};
#pragma pack(pop)

struct Reply {
  BigEndian<std::uint16_t> size;
  BigEndian<double> value;
};

TYPED_TEST(ServerTest, ExchangesCtypesStructs) {
  this->start([](tcpip::Connection& client, std::stop_token stop) {
    Padded padded;
    Packed packed;
    client.read_into(padded, stop);
    client.read_into(packed, stop);
    EXPECT_EQ(padded.kind, 1);
    EXPECT_EQ(padded.value, 2.5);
    EXPECT_EQ(padded.counts, (std::array<std::int16_t, 3>{1, -2, 3}));
    EXPECT_EQ(packed.kind, 2);
    EXPECT_EQ(static_cast<double>(packed.value), -2.5);
    client.write_from(Reply{.size = sizeof(Padded), .value = 0.25}, padded,
                      packed, Wait(kPatience, stop));
  });
  this->run("ctypes_structs");
}

// What a handler reads, to be looked at when the connection is over.
struct Received {
  SharedList<std::string> lines;
  SharedList<std::string> ending;

  void read_line(const tcpip::ReadWriter& peer, std::stop_token stop) const {
    try {
      lines.add(peer.read_str(stop));
    } catch (const IncompleteReadError& e) {
      ending.add("incomplete: " + e.partial());
      throw;
    } catch (const ConnectionResetError&) {
      ending.add("reset");
      throw;
    }
  }
};

const std::vector<std::string> kThreeLines = {"one", "two", "three"};

TYPED_TEST(ServerTest, ReadsAllThatCameBeforeAHalfClose) {
  const Received received;
  this->start([received](tcpip::Connection& client, std::stop_token stop) {
    received.read_line(client, stop);
  });
  this->run("half_close");
  ASSERT_TRUE(received.ending.wait_for(1));
  EXPECT_EQ(received.lines.values(), kThreeLines);
  EXPECT_EQ(received.ending.values(),
            std::vector<std::string>{"incomplete: par"});
  EXPECT_EQ(this->end_of_connection().reason, DisconnectReason::kPeerClosed);
}

// asyncio itself would lose the lines.
TYPED_TEST(ServerTest, ReadsAllThatCameBeforeAReset) {
  const Received received;
  std::promise<void> promise;
  const std::shared_future<void> aborted = promise.get_future().share();
  this->start([=](tcpip::Connection& client, std::stop_token stop) {
    aborted.wait();
    received.read_line(client, stop);
  });
  Peer peer("reset", this->server_->port());
  EXPECT_EQ(peer.hear(), "aborted");
  promise.set_value();
  ASSERT_TRUE(received.ending.wait_for(1));
  EXPECT_EQ(received.lines.values(), kThreeLines);
  EXPECT_EQ(received.ending.values(), std::vector<std::string>{"reset"});
  EXPECT_EQ(this->end_of_connection().reason, DisconnectReason::kReset);
  EXPECT_EQ(this->end_of_connection().error.value(), ECONNRESET);
  EXPECT_EQ(peer.end(), 0);
}

TYPED_TEST(ServerTest, TurnsOthersAway) {
  this->start(echo_line);
  this->run("second");
  ASSERT_TRUE(this->events_.wait_for(4));
  EXPECT_EQ(this->events_.text(),
            "connected 1, peer closed 1, connected 2, peer closed 2");
  this->server_->close();  // it tells of what was held back
  EXPECT_EQ(tcpip_tests::told(this->log_, "a client is already connected"), 20u)
      << this->log_.text();
}

TYPED_TEST(ServerTest, ServesOneClientAfterTheOther) {
  this->start(echo_line);
  this->run("reconnect");
  ASSERT_TRUE(this->events_.wait_for(200));
  const auto events = this->events_.values();
  ASSERT_EQ(events.size(), 200u);
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].connected, i % 2 == 0);
    EXPECT_EQ(events[i].connection.number(), i / 2 + 1);
    EXPECT_NE(events[i].reason, DisconnectReason::kClosedHere);
  }
}

TYPED_TEST(ServerTest, SaysLastWordsToAClientThatKeepsSending) {
  this->start([](tcpip::Connection& client, std::stop_token stop) {
    client.read_exactly(kMiB, stop);
    client.write_str("last words", {kPatience, stop});
    client.close();
  });
  this->run("closed_while_sending");
  EXPECT_EQ(this->end_of_connection().reason, DisconnectReason::kClosedHere);
}

TYPED_TEST(ServerTest, ClosesAtOnceWhileTheClientSends) {
  SharedList<std::string> begun;
  this->start([=](tcpip::Connection& client, std::stop_token stop) {
    begun.add(client.read_exactly(1, stop));
  });
  Peer peer("server_closed_while_sending", this->server_->port());
  ASSERT_TRUE(begun.wait_for(1));
  EXPECT_LT(seconds_of([&] { this->server_->close(); }), kPrompt);
  EXPECT_EQ(peer.end(), 0);
  EXPECT_EQ(this->end_of_connection().reason, DisconnectReason::kClosedHere);
}

TYPED_TEST(ServerTest, EchoesWhatIsLarge) {
  this->start([](tcpip::Connection& client, std::stop_token stop) {
    client.write(client.read(256 * 1024, stop), {kPatience, stop});
  });
  this->run("large");
}

// --- Messages, and heartbeats, either way ---

// Does as exchange_messages() in python_peer.py says.
class MessageAnswerer {
 public:
  template <class Endpoint>
  void operator()(Endpoint& endpoint, std::stop_token stop) {
    const Wait wait(kPatience, std::move(stop));
    if (left_ == 0) {
      obey(endpoint, wait);
      return;
    }
    if (is_json_) {
      tcpip::write_json(endpoint, tcpip::read_json(endpoint, wait), wait);
    } else {
      endpoint.write_str(endpoint.read_str(wait), wait);
    }
    if (--left_ == 0) set_format(endpoint, "utf-8", "\r\n");
  }

 private:
  static void set_format(BaseClientOrServer& endpoint, std::string encoding,
                         std::string terminator) {
    endpoint.set_encoding(std::move(encoding));
    endpoint.set_terminator(std::move(terminator));
  }

  void obey(BaseClientOrServer& endpoint, const Wait& wait) {
    std::istringstream command(endpoint.read_str(wait));
    std::string what;
    std::string encoding;
    std::string terminator;
    std::string argument;
    command >> what >> encoding >> terminator >> argument;
    if (what == "refuse") {
      set_format(endpoint, encoding, bytes_of(terminator));
      bool refused = false;
      try {
        endpoint.write_str(bytes_of(argument.substr(1)), wait);
      } catch (const std::invalid_argument&) {
        refused = true;
      }
      set_format(endpoint, "utf-8", "\r\n");
      endpoint.write_str(refused ? "refused" : "sent", wait);
      return;
    }
    endpoint.write_str("go", wait);
    left_ = std::stoi(argument);
    if (left_ == 0) return;
    is_json_ = what == "json";
    set_format(endpoint, encoding, bytes_of(terminator));
  }

  int left_ = 0;
  bool is_json_ = false;
};

TYPED_TEST(ServerTest, ExchangesTextAndJsonInEveryEncodingAndTerminator) {
  // By way of the server, whose format changes from message to message.
  this->start([this, answer = MessageAnswerer()](tcpip::Connection&,
                                                 std::stop_token stop) mutable {
    answer(*this->server_, std::move(stop));
  });
  this->run("messages");
}

TEST(ClientWithPython, ExchangesTextAndJsonInEveryEncodingAndTerminator) {
  const HangGuard guard;
  Peer peer("messages_server");
  {
    Client client({.host = "127.0.0.1", .port = peer.port()});
    client.start(kPatience);
    MessageAnswerer answer;
    EXPECT_THROW(
        for (;;) { answer(client, {}); }, ConnectionError);
  }
  EXPECT_EQ(peer.end(), 0);
}

constexpr std::chrono::milliseconds kBeatInterval{50};
constexpr std::chrono::milliseconds kMaxBeatInterval{1500};

TYPED_TEST(ServerTest, ExchangesHeartbeats) {
  this->start(
      [](tcpip::Connection& client, std::stop_token stop) {
        client.write_str(client.read_str(stop), {kPatience, stop});
      },
      {.heartbeats = {.send = true,
                      .interval = kBeatInterval,
                      .expect = true,
                      .max_interval = kMaxBeatInterval}});
  this->run("heartbeats");
  EXPECT_EQ(this->end_of_connection().reason, DisconnectReason::kHeartbeatLost);
  EXPECT_TRUE(this->server_->should_be_connected());
}

TEST(ClientWithPython, ExchangesHeartbeats) {
  const HangGuard guard;
  Peer peer("heartbeats_server");
  ConnectionEvents events;
  {
    Client client({.host = "127.0.0.1",
                   .port = peer.port(),
                   .connect_callback = events.callback(),
                   .heartbeats = {.send = true,
                                  .interval = kBeatInterval,
                                  .expect = true,
                                  .max_interval = kMaxBeatInterval}});
    client.start(kPatience);
    EXPECT_THROW(
        for (;;) { client.write_str(client.read_str(kPatience), kPatience); },
        ConnectionError);
    ASSERT_TRUE(events.wait_for(2));
    EXPECT_EQ(events.text(), "connected 1, heartbeat lost 1");
    EXPECT_TRUE(client.should_be_connected());
  }
  EXPECT_EQ(peer.end(), 0);
}

// A program that was suspended does not take that for its peer's silence.
TYPED_TEST(ServerTest, LosesNoHeartbeatWhileItIsSuspended) {
  this->start(
      [](tcpip::Connection& client, std::stop_token stop) {
        client.write_str(client.read_str(stop), {kPatience, stop});
      },
      {.heartbeats = {.expect = true,
                      .max_interval = std::chrono::milliseconds(1000)}});
  this->run("stop_the_other_end");
  EXPECT_EQ(this->end_of_connection().reason, DisconnectReason::kPeerClosed);
}

TYPED_TEST(ServerTest, WeathersAStormOfClients) {
  this->start(echo_line);
  this->run("storm");
  this->server_->close();
  bool connected = false;
  std::uint64_t generation = 0;
  const auto events = this->events_.values();
  for (const tcpip::ConnectionEvent& event : events) {
    ASSERT_NE(event.connected, connected) << this->events_.text();
    connected = event.connected;
    if (connected) ++generation;
    ASSERT_EQ(event.connection.number(), generation);
  }
  EXPECT_FALSE(connected);
  EXPECT_GE(generation, 50u);
}

// --- Python servers, our clients ---

// A Client, and what open_connection() gives, under one interface.
class ByClient {
 public:
  explicit ByClient(int port, std::size_t limit = tcpip::kDefaultLimit)
      : client_({.host = "127.0.0.1",
                 .port = port,
                 .connect_callback = events.callback(),
                 .limit = limit}) {
    client_.start(kPatience);
  }
  void write(std::string_view data) { client_.write(data, kPatience); }
  std::string read_until(std::string_view separator) {
    return client_.read_until(separator, kPatience);
  }
  std::string read_exactly(std::size_t n) {
    return client_.read_exactly(n, kPatience);
  }
  template <class T>
  void read_into(T& data) {
    client_.read_into(data, kPatience);
  }
  template <class T>
  void write_from(const T& data) {
    client_.write_from(data, kPatience);
  }
  Client& client() { return client_; }

  ConnectionEvents events;

 private:
  Client client_;
};

class ByStreams {
 public:
  explicit ByStreams(int port, std::size_t limit = tcpip::kDefaultLimit)
      : connection_(tcpip::open_connection("127.0.0.1", port, {.limit = limit},
                                           kPatience)) {}
  void write(std::string_view data) {
    connection_.writer.write(data);
    connection_.writer.drain(kPatience);
  }
  std::string read_until(std::string_view separator) {
    return connection_.reader.read_until(separator, kPatience);
  }
  std::string read_exactly(std::size_t n) {
    return connection_.reader.read_exactly(n, kPatience);
  }
  template <class T>
  void read_into(T& data) {
    tcpip::read_into(connection_.reader, data, kPatience);
  }
  template <class T>
  void write_from(const T& data) {
    tcpip::write_from(connection_.writer, data, kPatience);
  }

 private:
  Streams connection_;
};

template <class Caller>
class ClientTest : public testing::Test {
 protected:
  HangGuard guard_;
};

using Callers = testing::Types<ByClient, ByStreams>;

struct CallerNames {
  template <class T>
  static std::string GetName(int) {
    return std::is_same_v<T, ByClient> ? "Client" : "OpenConnection";
  }
};
TYPED_TEST_SUITE(ClientTest, Callers, CallerNames);

TYPED_TEST(ClientTest, ExchangesLinesOfAllSizes) {
  Peer peer("echo_server");
  const int port = peer.port();
  {
    TypeParam caller(port, 2 * kMiB);
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, std::size_t{4096}, std::size_t{65535},
          std::size_t{65536}, std::size_t{65537}, kMiB, 2 * kMiB}) {
      const std::string line = std::string(size, 'x') + "\r\n";
      caller.write(line);
      EXPECT_EQ(caller.read_until("\r\n"), line);
    }
  }
  EXPECT_EQ(peer.end(), 0);
}

TYPED_TEST(ClientTest, ExchangesNumbersOfEveryWidth) {
  Peer peer("numbers_server");
  const int port = peer.port();
  {
    TypeParam caller(port);
    BigEndian<std::uint16_t> count;
    caller.read_into(count);
    EXPECT_EQ(count, 6);
    for (int i = 0; i < count; ++i) {
      Numbers<BigEndian> numbers;
      caller.read_into(numbers);
      caller.write_from(reordered(numbers));
    }
    EXPECT_EQ(caller.read_until("\r\n"), "all right\r\n");
  }
  EXPECT_EQ(peer.end(), 0);
}

TYPED_TEST(ClientTest, ReadsAllThatCameBeforeAReset) {
  Peer peer("reset_server");
  TypeParam caller(peer.port());
  caller.write("go\n");
  EXPECT_EQ(peer.hear(), "aborted");
  EXPECT_EQ(caller.read_until("\r\n"), "one\r\n");
  EXPECT_EQ(caller.read_exactly(5), "two\r\n");
  EXPECT_EQ(caller.read_until("\r\n"), "three\r\n");
  EXPECT_THROW(caller.read_until("\r\n"), ConnectionResetError);
  if constexpr (std::is_same_v<TypeParam, ByClient>) {
    ASSERT_TRUE(caller.events.wait_for(2));
    EXPECT_EQ(caller.events.text(), "connected 1, reset 1");
  }
  EXPECT_EQ(peer.end(), 0);
}

TYPED_TEST(ClientTest, ConnectsAgainAndAgain) {
  Peer peer("echo_server");
  const int port = peer.port();
  for (int i = 0; i < 100; ++i) {
    TypeParam caller(port);
    const std::string line = std::to_string(i) + "\r\n";
    caller.write(line);
    EXPECT_EQ(caller.read_until("\r\n"), line);
  }
  EXPECT_EQ(peer.end(), 0);
}

TYPED_TEST(ClientTest, ExchangesWhatIsLarge) {
  Peer peer("echo_server");
  const int port = peer.port();
  {
    TypeParam caller(port);
    std::string data(16 * kMiB, '\0');
    std::uint32_t state = 1;
    for (char& byte : data) {
      state = state * 1664525 + 1013904223;
      byte = static_cast<char>(state >> 24);
    }
    // One thread writes while the other reads.
    std::jthread writing([&] { caller.write(data); });
    EXPECT_TRUE(caller.read_exactly(data.size()) == data);
  }
  EXPECT_EQ(peer.end(), 0);
}

TEST(ClientWithPython, ExchangesText) {
  const HangGuard guard;
  Peer peer("text_server");
  const int port = peer.port();
  {
    ByClient caller(port);
    for (const auto& [text, reply] :
         std::vector<std::pair<std::string, std::string>>{
             {"", ""},
             {"hello", "HELLO"},
             {"grüß dich", "GRÜSS DICH"},
             {"ψυχή", "ΨΥΧΉ"},
             {"日本 😀", "日本 😀"}}) {
      caller.client().write_str(text, kPatience);
      EXPECT_EQ(caller.client().read_str(kPatience), reply);
    }
    EXPECT_THROW(caller.client().write_str("\xff", kPatience),
                 std::invalid_argument);
    EXPECT_THROW(caller.client().write_str("a\r\nb", kPatience),
                 std::invalid_argument);
  }
  EXPECT_EQ(peer.end(), 0);
}

TEST(ClientWithPython, IsTurnedAway) {
  const HangGuard guard;
  Peer peer("busy_server");
  ByClient caller(peer.port());
  EXPECT_THROW(caller.read_until("\r\n"), ConnectionError);
  ASSERT_TRUE(caller.events.wait_for(2));
  EXPECT_EQ(caller.events.text(), "connected 1, peer closed 1");
  EXPECT_TRUE(caller.client().should_be_connected());
  EXPECT_EQ(peer.end(), 0);
}

TEST(ClientWithPython, ClosesAtOnceWhileTheServerSends) {
  const HangGuard guard;
  Peer peer("flood_server");
  ByClient caller(peer.port());
  caller.client().write_str("last words", kPatience);
  EXPECT_EQ(peer.hear(), "last words");
  EXPECT_LT(seconds_of([&] { caller.client().close(); }), kPrompt);
  EXPECT_EQ(caller.events.text(), "connected 1, closed here 1");
  EXPECT_EQ(peer.hear(), "ended");
  EXPECT_EQ(peer.end(), 0);
}

TEST(OpenConnectionWithPython, ReadsTheAnswerAfterItsHalfClose) {
  const HangGuard guard;
  Peer peer("half_close_server");
  auto [reader, writer] =
      tcpip::open_connection("127.0.0.1", peer.port(), kPatience);
  writer.write("you first\r\nabc");
  writer.write_eof();
  EXPECT_EQ(reader.read_all(kPatience), "cba");
  EXPECT_TRUE(reader.at_eof());
  EXPECT_EQ(peer.end(), 0);
}

TEST(OpenConnectionWithPython, WritesAfterTheOthersHalfClose) {
  const HangGuard guard;
  Peer peer("half_close_server");
  auto [reader, writer] =
      tcpip::open_connection("127.0.0.1", peer.port(), kPatience);
  writer.write("me first\r\n");
  EXPECT_EQ(reader.read_all(kPatience), "that was all of mine\r\n");
  EXPECT_TRUE(reader.at_eof());
  for (int i = 0; i < 64; ++i) {
    writer.write(std::string(65536, 'x'));
    writer.drain(kPatience);
  }
  writer.write_eof();
  EXPECT_EQ(peer.hear().substr(0, 12), "got 4194304 ");
  EXPECT_EQ(peer.end(), 0);
}

}  // namespace
}  // namespace tcpip_tests
