// What a tap shows of connections, and the files that its sinks write.
#include "tcpip/tap.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <iterator>
#include <memory>
#include <optional>
#include <regex>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/one_client_server.h"
#include "tcpip/socket.h"
#include "tcpip/stream/tap_line.h"
#include "tcpip/stream_reader.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/shared_list.h"
#include "tests/support/stage.h"
#include "tests/support/subprocess.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::LogRecorder;
using tcpip_tests::BlockedCall;
using tcpip_tests::ClientStage;
using tcpip_tests::connect_to;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::seconds_of;
using tcpip_tests::send_all;
using tcpip_tests::ServedStage;
using tcpip_tests::ServerStage;
using tcpip_tests::SharedList;
using tcpip_tests::Subprocess;
using tcpip_tests::Transport;

// A record that outlives the call of the sink.
struct Kept {
  explicit Kept(const TapRecord& r) : record(r), name(r.name), bytes(r.bytes) {}

  TapRecord record;
  std::string name;
  std::string bytes;
};

// A tap that keeps what it is shown.
struct KeepingTap {
  explicit KeepingTap(TapOptions options = {})
      : tap(std::make_shared<Tap>(
            [this](const TapRecord& record) { records.add(Kept(record)); },
            std::move(options))) {}

  SharedList<Kept> records;
  const std::shared_ptr<Tap> tap;

  // Everything so far: "accepted dome#1, <question, >answer, ended dome#1".
  std::string text() {
    tap->flush(kPatience);
    std::string text;
    for (const Kept& kept : records.values()) {
      if (!text.empty()) text += ", ";
      const std::string who =
          kept.name + "#" + std::to_string(kept.record.connection);
      switch (kept.record.event) {
        case TapEvent::kAccepted:
          text += "accepted " + who;
          break;
        case TapEvent::kConnected:
          text += "connected " + who;
          break;
        case TapEvent::kEnded:
          text += "ended " + who;
          break;
        case TapEvent::kReceived:
          text += "<" + kept.bytes;
          break;
        case TapEvent::kSent:
          text += ">" + kept.bytes;
          break;
      }
    }
    return text;
  }
};

// A sink that waits in its first call until it is released.
class SlowSink {
 public:
  void operator()(const TapRecord& record) {
    if (!std::exchange(is_first_, false)) {
      later.add(Kept(record));
      return;
    }
    called.set_value();
    released_.wait();
  }
  void release() { release_.set_value(); }

  std::promise<void> called;
  SharedList<Kept> later;  // the records behind the first

 private:
  bool is_first_ = true;
  std::promise<void> release_;
  std::future<void> released_ = release_.get_future();
};

// --- What is shown ---

TEST(TapTest, ShowsWhatPassesOverAServersConnections) {
  KeepingTap tap;
  ServedStage server({.name = "dome", .tap = tap.tap});
  send_all(server.peer, "question\r\n");
  EXPECT_EQ(server->read_str(kPatience), "question");
  server->write_str("answer", kPatience);
  server.reconnect_after_close();
  server->write("x", kPatience);
  EXPECT_EQ(tap.text(),
            "accepted dome#1, <question\r\n, >answer\r\n, ended dome#1, "
            "accepted dome#2, >x");
  const std::vector<Kept> records = tap.records.values();
  EXPECT_EQ(records[1].record.local.port(), server->port());
  EXPECT_EQ(records[5].record.peer, server->peer_address());
  EXPECT_NE(records[0].record.id, records[4].record.id);
  for (const Kept& kept : records) {
    const auto age = std::chrono::system_clock::now() - kept.record.time;
    EXPECT_LT(std::chrono::abs(age), kPatience);
    EXPECT_EQ(kept.record.skipped, 0u);
  }
}

TEST(TapTest, ShowsWhatPassesOverAClientsConnection) {
  KeepingTap tap;
  ClientStage client({.name = "me", .tap = tap.tap});
  client->write("ab", kPatience);
  client->write("cd", kPatience);
  send_all(client.peer, "12");
  EXPECT_EQ(client->read_exactly(2, kPatience), "12");
  client->close();
  EXPECT_EQ(tap.text(), "connected me#1, >ab, >cd, <12, ended me#1");
  EXPECT_EQ(tap.records.values()[1].record.position, 0u);
  EXPECT_EQ(tap.records.values()[2].record.position, 2u);
  EXPECT_EQ(tap.records.values()[3].record.position, 0u);
}

TEST(TapTest, ShowsHeartbeatsAndWhatIsNotText) {
  KeepingTap tap;
  ServedStage server(
      {.heartbeats = {.expect = true, .max_interval = 1min}, .tap = tap.tap});
  send_all(server.peer, "heartbeat\r\n\xff\r\n");
  EXPECT_THROW(server->read_str(kPatience), DecodeError);
  EXPECT_EQ(tap.text(), "accepted #1, <heartbeat\r\n\xff\r\n");
}

// In pieces, gathered, in the caller's memory, through streams of the
// connection: whatever way the bytes take, each is shown once.
TEST(TapTest, ShowsEveryByteOnceWhateverWayItTakes) {
  KeepingTap tap({.buffer = 64u << 20});
  ServedStage server({.tap = tap.tap});
  const Connection client = server->connection();
  std::string sent;
  std::string received;
  for (const std::size_t size : {1u, 5000u, 100'000u, 3'000'000u}) {
    const std::string part(size, static_cast<char>('a' + sent.size() % 26));
    std::string got;
    std::thread peer([&] {
      got = recv_exact(server.peer, 3 * size + 1);
      send_all(server.peer, got);
    });
    client.write_lines({part, "-", part}, kPatience);
    client.write(part, kPatience);
    std::vector<std::byte> out(size);
    client.read_exactly(std::span(out), kPatience);
    const std::string rest =
        client.reader()->read_exactly(2 * size + 1, kPatience);
    peer.join();
    sent += got;
    received += std::string(reinterpret_cast<const char*>(out.data()), size);
    received += rest;
  }
  tap.tap->flush(kPatience);
  std::string shown_sent;
  std::string shown_received;
  for (const Kept& kept : tap.records.values()) {
    std::string* const shown =
        kept.record.event == TapEvent::kSent       ? &shown_sent
        : kept.record.event == TapEvent::kReceived ? &shown_received
                                                   : nullptr;
    if (shown == nullptr) continue;
    EXPECT_EQ(kept.record.position, shown->size());
    EXPECT_EQ(kept.record.skipped, 0u);
    shown->append(kept.bytes);
  }
  EXPECT_EQ(received, sent);
  EXPECT_TRUE(shown_sent == sent) << shown_sent.size();
  EXPECT_TRUE(shown_received == received) << shown_received.size();
}

// Another thread reads the answer before the writing thread has noted what it
// has just sent.
TEST(TapTest, ShowsNoAnswerBeforeItsQuestion) {
  KeepingTap keeping;
  internal::TapLine line(*keeping.tap, "dome", {}, {});
  line.begin_send();
  BlockedCall reading([&line] { line.received("answer"); });
  EXPECT_TRUE(reading.await_blocked());
  const Socket::Piece question{"question", 8};
  line.sent({&question, 1}, question.size);
  line.end_send();
  reading.get();
  EXPECT_EQ(keeping.text(), ">question, <answer");
}

TEST(TapTest, IsSharedByClientsAndServers) {
  KeepingTap tap;
  ServedStage first({.name = "a", .tap = tap.tap});
  ServedStage second({.name = "b", .tap = tap.tap});
  second->write("x", kPatience);
  EXPECT_EQ(tap.text(), "accepted a#1, accepted b#1, >x");
  EXPECT_NE(tap.records.values()[0].record.id,
            tap.records.values()[1].record.id);
}

TEST(TapTest, ShowsNothingOfClientsThatAreTurnedAway) {
  KeepingTap tap;
  ServedStage server({.tap = tap.tap});
  EXPECT_EQ(recv_until_eof(connect_to(server->port())), "");
  EXPECT_EQ(tap.text(), "accepted #1");
}

// --- A sink that blocks or fails ---

TEST(TapTest, SinkThatBlocksHoldsUpNobodyAndWhatIsNotShownIsCounted) {
  SlowSink sink;
  auto tap = std::make_shared<Tap>(std::ref(sink), TapOptions{.buffer = 2048});
  ServedStage server({.tap = tap});
  sink.called.get_future().wait();  // with "accepted"
  // Of the second, a part has room.
  const std::string part(900, 'x');
  EXPECT_LT(seconds_of([&] {
              for (int i = 0; i < 10; ++i) server->write(part, kPatience);
            }),
            kPrompt);
  EXPECT_EQ(recv_exact(server.peer, 9000).size(), 9000u);
  const std::uint64_t skipped = tap->skipped_bytes();
  EXPECT_GT(skipped, 0u);
  sink.release();
  tap->flush(kPatience);
  for (const char* const text : {"end", "."}) {
    server->write(text, kPatience);
    tap->flush(kPatience);
  }
  std::size_t shown = 0;
  std::uint64_t gaps = 0;
  for (const Kept& kept : sink.later.values()) {
    shown += kept.bytes.size();
    gaps += kept.record.skipped;
    EXPECT_EQ(kept.record.position + kept.bytes.size(), shown + gaps);
  }
  EXPECT_EQ(gaps, skipped);
  EXPECT_EQ(shown + skipped, 9004u);
}

// There is room for them beside the bytes.
TEST(TapTest, BeginningsAndEndsAreShownThoughTheMemoryIsFull) {
  SlowSink sink;
  auto tap = std::make_shared<Tap>(std::ref(sink), TapOptions{.buffer = 1024});
  ServedStage server({.tap = tap});
  sink.called.get_future().wait();
  server->write(std::string(5000, 'x'), kPatience);
  server.reconnect_after_close();
  sink.release();
  tap->flush(kPatience);
  std::vector<TapEvent> events;
  for (const Kept& kept : sink.later.values()) {
    events.push_back(kept.record.event);
  }
  EXPECT_EQ(events, (std::vector{TapEvent::kSent, TapEvent::kEnded,
                                 TapEvent::kAccepted}));
}

TEST(TapTest, WhatTheSinkThrowsIsCountedAndLoggedOnce) {
  const LogRecorder lines;
  std::atomic<int> calls = 0;
  auto tap = std::make_shared<Tap>(
      [&](const TapRecord&) {
        if (++calls == 2) throw 2;
        throw std::runtime_error("disk full");
      },
      TapOptions{.log = lines.log()});
  ServedStage server({.tap = tap});
  for (int i = 0; i < 3; ++i) server->write("x", kPatience);
  tap->flush(kPatience);
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(tap->sink_errors(), 4u);
  EXPECT_EQ(lines.count("the sink of a tap failed: disk full"), 1u)
      << lines.text();
  EXPECT_EQ(lines.count("failed"), 1u) << lines.text();
}

// --- flush() and close() ---

TEST(TapTest, FlushWaitsForTheSinkWithinItsWait) {
  SlowSink sink;
  auto tap = std::make_shared<Tap>(std::ref(sink));
  ServedStage server({.tap = tap});
  EXPECT_THROW(tap->flush(10ms), TimeoutError);
  std::stop_source stop;
  BlockedCall flushing(
      [&] { EXPECT_THROW(tap->flush(stop.get_token()), CancelledError); });
  EXPECT_TRUE(flushing.await_blocked());
  stop.request_stop();
  flushing.get();
  sink.release();
  tap->flush(kPatience);
}

TEST(TapTest, CloseShowsWhatHasPassedAndNothingLater) {
  KeepingTap tap;
  ServedStage server({.tap = tap.tap});
  server->write("before", kPatience);
  tap.tap->close();
  EXPECT_EQ(tap.records.values().size(), 2u);
  server->write("after", kPatience);
  tap.tap->close();
  tap.tap->flush(kPatience);
  EXPECT_EQ(tap.text(), "accepted #1, >before");
  EXPECT_EQ(recv_exact(server.peer, 11), "beforeafter");
}

TEST(TapTest, CloseDestroysTheSinkThoughAConnectionLives) {
  auto held = std::make_shared<int>(0);
  std::weak_ptr<int> sink = held;
  auto tap =
      std::make_shared<Tap>([held = std::move(held)](const TapRecord&) {});
  ServedStage server({.tap = tap});
  EXPECT_FALSE(sink.expired());
  tap->close();
  EXPECT_TRUE(sink.expired());
}

TEST(TapTest, SinkMayCloseTheTapAndIsNotCalledAgain) {
  std::atomic<int> calls = 0;
  std::promise<void> go;
  std::future<void> gone = go.get_future();
  std::promise<void> closed;
  std::shared_ptr<Tap> tap;
  tap = std::make_shared<Tap>([&](const TapRecord&) {
    ++calls;
    gone.wait();
    tap->close();
    closed.set_value();
  });
  ServedStage server({.tap = tap});
  server->write("x", kPatience);
  go.set_value();
  closed.get_future().wait();
  tap->close();
  EXPECT_EQ(calls, 1);
}

// The server's options hold the last reference.
TEST(TapTest, SinkMayDestroyTheServerAndWithItTheTap) {
  std::optional<OneClientServer> server;
  std::promise<void> go;
  std::future<void> gone = go.get_future();
  std::promise<void> destroyed;
  server.emplace(ServerOptions{
      .host = "127.0.0.1", .tap = std::make_shared<Tap>([&](const TapRecord&) {
                             gone.wait();
                             server.reset();
                             destroyed.set_value();
                           })});
  server->start();
  const UniqueFd peer = connect_to(server->port());
  EXPECT_TRUE(server->wait_connected(kPatience));
  go.set_value();
  destroyed.get_future().wait();
  EXPECT_EQ(recv_until_eof(peer), "");
}

TEST(TapTest, BadOptionsAreRefused) {
  EXPECT_THROW(Tap{Tap::Sink{}}, std::invalid_argument);
  const auto sink = [](const TapRecord&) {};
  EXPECT_THROW(Tap(sink, {.buffer = 1023}), std::invalid_argument);
  EXPECT_THROW(Tap(sink, {.buffer = (1u << 30) + 1}), std::invalid_argument);
}

TEST(TapTest, StartHookRunsInItsThread) {
  std::promise<ThreadRole> role;
  const Tap tap(
      [](const TapRecord&) {},
      {.thread_start_hook = [&](ThreadRole r) { role.set_value(r); }});
  EXPECT_EQ(role.get_future().get(), ThreadRole::kTap);
  EXPECT_EQ(to_string(ThreadRole::kTap), "tap");
}

// --- Files ---

class TapFileTest : public testing::Test {
 protected:
  ~TapFileTest() override { ::unlink(path_.c_str()); }

  std::string content() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // An exchange over a server with a tap that has this sink.
  static void exchange(Tap::Sink sink, ServerOptions options = {}) {
    options.name = "dome";
    options.tap = std::make_shared<Tap>(std::move(sink));
    const Transport transport =
        options.host == "::1" ? Transport::kIpv6 : Transport::kIpv4;
    ServerStage<> server(options);
    const UniqueFd peer = tcpip_tests::connect_plain(
        transport, static_cast<std::uint16_t>(server->port()));
    ASSERT_TRUE(server->wait_connected(kPatience));
    send_all(peer, "move 120\r\nstatus\r\n");
    EXPECT_EQ(server->read_str(kPatience), "move 120");
    server->write("\x01 ok\\\t\xc3\xa4\n", kPatience);
    server->close_client();
    options.tap->flush(kPatience);
  }

  const std::string path_ =
      testing::TempDir() + "/" +
      testing::UnitTest::GetInstance()->current_test_info()->name();
};

constexpr const char* kTime = "[0-9-]{10} [0-9:]{8}\\.[0-9]{6}Z dome#1 ";

TEST_F(TapFileTest, TextHasALineForEachLine) {
  exchange(text_sink(path_));
  const std::string time = kTime;
  EXPECT_TRUE(std::regex_match(
      content(),
      std::regex(time + "accepted 127\\.0\\.0\\.1:[0-9]+\n" +  //
                 time + "< move 120\\\\r\\\\n\n" +             //
                 time + "< status\\\\r\\\\n\n" +               //
                 time + "> \\\\x01 ok\\\\\\\\\\\\t\\\\xc3\\\\xa4\\\\n\n" +
                 time + "ended\n")))
      << content();
}

TEST_F(TapFileTest, HexHasTheBytesAndTheirPositions) {
  exchange(hex_sink(path_));
  const std::string time = kTime;
  EXPECT_TRUE(std::regex_match(
      content(),
      std::regex(time + "accepted 127\\.0\\.0\\.1:[0-9]+\n" +  //
                 time + "< 18 bytes\n" +
                 "00000000  6d 6f 76 65 20 31 32 30 0d 0a 73 74 61 74 75 73  "
                 "\\|move 120\\.\\.status\\|\n"
                 "00000010  0d 0a {44}\\|\\.\\.\\|\n" +
                 time + "> 9 bytes\n" +
                 "00000000  01 20 6f 6b 5c 09 c3 a4 0a {23}"
                 "\\|\\. ok\\\\\\.\\.\\.\\.\\|\n" +
                 time + "ended\n")))
      << content();
}

TEST_F(TapFileTest, TextSaysWhatIsNotShown) {
  const Tap::Sink text = text_sink(path_);
  text({.event = TapEvent::kSent, .bytes = "x", .skipped = 7});
  EXPECT_NE(content().find(" > (7 bytes are not shown)\n"), std::string::npos)
      << content();
}

TEST_F(TapFileTest, IsAppendedToAndNeverOverwritten) {
  std::ofstream(path_) << "before\n";
  exchange(text_sink(path_));
  EXPECT_TRUE(content().starts_with("before\n2"));
}

TEST_F(TapFileTest, ThatCannotBeOpenedThrows) {
  const std::string nowhere = path_ + "/nowhere/file";
  EXPECT_THROW(text_sink(nowhere), Error);
  EXPECT_THROW(hex_sink(nowhere), Error);
  EXPECT_THROW(pcapng_sink(nowhere), Error);
}

TEST_F(TapFileTest, AFifoNeedsAReader) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  for (const auto sink : {text_sink, hex_sink, pcapng_sink}) {
    try {
      sink(path_);
      FAIL() << "no error";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), std::errc::no_such_device_or_address);
      EXPECT_NE(std::string(e.what()).find("nobody reads it"),
                std::string::npos)
          << e.what();
    }
  }
  const UniqueFd reader(
      ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  ASSERT_TRUE(reader);
  const Tap::Sink text = text_sink(path_);
  text({.name = "dome", .connection = 1, .bytes = "x\n"});
  std::string line(100, '\0');
  line.resize(static_cast<std::size_t>(
      std::max<::ssize_t>(::read(reader.get(), line.data(), line.size()), 0)));
  EXPECT_TRUE(line.ends_with(" dome#1 < x\\n\n")) << line;
}

TEST_F(TapFileTest, ThatCannotBeWrittenIsAnErrorOfTheSink) {
  const Tap::Sink text = text_sink("/dev/full");
  try {
    text({.bytes = "x"});
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::no_space_on_device);
    EXPECT_NE(std::string(e.what()).find("/dev/full"), std::string::npos);
  }
}

// --- pcapng ---

// What an independent reader makes of the file: checksums, lengths, and the
// streams, put together again from sequence numbers.
std::string read_pcapng(const std::string& path) {
  Subprocess reader(
      {"python3", tcpip_tests::find_file("tests/unit/read_pcapng.py"), path});
  const std::string text = reader.read_all();
  EXPECT_EQ(reader.wait(), 0);
  return text;
}

// What Wireshark's parser makes of it: the value of `field` in each packet.
std::optional<std::string> tshark(const std::string& path,
                                  const std::string& field,
                                  const std::string& filter = "tcp") {
  try {
    Subprocess program(
        {"tshark", "-r", path, "-o", "tcp.check_checksum:TRUE", "-o",
         "ip.check_checksum:TRUE", "-Y", filter, "-T", "fields", "-e", field},
        Subprocess::Errors::kInherited);
    const std::string text = program.read_all();
    EXPECT_EQ(program.wait(), 0);
    return text;
  } catch (const std::system_error&) {
    return std::nullopt;  // not installed
  }
}

// The comment on the first packet, without port numbers.
std::string without_ports(std::string text) {
  return std::regex_replace(text, std::regex(":[0-9]{4,5}\\b"), "");
}

constexpr const char* kExchange =
    "A SYN\nB SYN ACK\nA ACK\n"
    "A 'move 120\\r\\nstatus\\r\\n'\n"
    "B '\\x01 ok\\\\\\t\xc3\x83\xc2\xa4\\n'\n"
    "B FIN ACK\nA FIN ACK\n";

TEST_F(TapFileTest, PcapngHasTheStreamsAsTcp) {
  exchange(pcapng_sink(path_));
  EXPECT_EQ(without_ports(read_pcapng(path_)),
            "section\n"
            "comment dome#1: 127.0.0.1 - 127.0.0.1\n"
            "stream 127.0.0.1 - 127.0.0.1\n" +
                std::string(kExchange));
}

TEST_F(TapFileTest, PcapngOfIpv6) {
  exchange(pcapng_sink(path_), {.host = "::1"});
  EXPECT_EQ(without_ports(read_pcapng(path_)),
            "section\n"
            "comment dome#1: [::1] - [::1]\n"
            "stream ::1 - ::1\n" +
                std::string(kExchange));
}

TEST_F(TapFileTest, PcapngOfAUnixDomainSocketHasMadeUpAddresses) {
  const std::string name = "@tap-" + std::to_string(::getpid());
  const std::string host = "unix:" + name;
  ServerOptions options{.host = host, .name = "dome"};
  options.tap = std::make_shared<Tap>(pcapng_sink(path_));
  OneClientServer server(options);
  server.start(kPatience);
  Client client({.host = host});
  client.start(kPatience);
  client.write("x", kPatience);
  ASSERT_TRUE(server.wait_connected(kPatience));
  EXPECT_EQ(server.read_exactly(1, kPatience), "x");
  options.tap->flush(kPatience);
  EXPECT_EQ(read_pcapng(path_),
            "section\n"
            "comment dome#1: " +
                name +
                " - unix socket\n"
                "stream 127.0.0.2 - 127.0.0.1\n"
                "A SYN\nB SYN ACK\nA ACK\nA 'x'\n");
}

TEST_F(TapFileTest, PcapngOfAClientBeginsOnItsSide) {
  ClientOptions options{.name = "me"};
  options.tap = std::make_shared<Tap>(pcapng_sink(path_));
  ClientStage client(options);
  client->write("question", kPatience);
  send_all(client.peer, "answer");
  EXPECT_EQ(client->read_exactly(6, kPatience), "answer");
  options.tap->flush(kPatience);
  EXPECT_TRUE(read_pcapng(path_).ends_with("A 'question'\nB 'answer'\n"))
      << read_pcapng(path_);
}

TEST_F(TapFileTest, PcapngCutsWhatIsTooLongForAPacketAndKeepsGaps) {
  const Tap::Sink sink = pcapng_sink(path_);
  const Address local = resolve("127.0.0.1", 1000).front();
  const Address peer = resolve("127.0.0.1", 2000).front();
  TapRecord record{.event = TapEvent::kConnected,
                   .time = std::chrono::system_clock::now(),
                   .id = 1,
                   .local = local,
                   .peer = peer};
  sink(record);
  const std::string large(150'000, 'x');
  record.event = TapEvent::kSent;
  record.bytes = large;
  sink(record);
  record.bytes = "y";
  record.position = 150'007;
  record.skipped = 7;
  sink(record);
  record.event = TapEvent::kReceived;
  record.bytes = "z";
  record.position = 3;
  record.skipped = 3;
  sink(record);
  EXPECT_TRUE(read_pcapng(path_).ends_with(
      "A 65000 bytes\nA 65000 bytes\nA 20000 bytes\nA GAP 7 'y'\n"
      "B GAP 3 'z'\n"))
      << read_pcapng(path_);
}

// Without a stream number of its own the second would be a retransmission.
TEST_F(TapFileTest, PcapngTellsConnectionsWithTheSamePortsApart) {
  const Tap::Sink sink = pcapng_sink(path_);
  for (const std::uint64_t id : {1u, 2u}) {
    TapRecord record{.event = TapEvent::kConnected,
                     .time = std::chrono::system_clock::now(),
                     .id = id,
                     .local = resolve("127.0.0.1", 1000).front(),
                     .peer = resolve("127.0.0.1", 2000).front()};
    sink(record);
    record.event = TapEvent::kSent;
    record.bytes = id == 1 ? "first" : "second";
    sink(record);
    record.event = TapEvent::kEnded;
    record.bytes = {};
    sink(record);
  }
  const auto streams = tshark(path_, "tcp.stream", "tcp.len > 0");
  if (!streams) GTEST_SKIP() << "tshark is not installed";
  EXPECT_EQ(*streams, "0\n1\n");
}

// What a restart of the program leaves: Wireshark reads both parts.
TEST_F(TapFileTest, PcapngFileMayHaveSeveralSections) {
  exchange(pcapng_sink(path_));
  exchange(pcapng_sink(path_));
  const std::string text = read_pcapng(path_);
  EXPECT_NE(text.find("FIN ACK\nsection\ncomment"), text.npos) << text;
}

TEST_F(TapFileTest, PcapngIsRightForTshark) {
  exchange(pcapng_sink(path_));
  const auto payload = tshark(path_, "tcp.payload", "tcp.len > 0");
  if (!payload) GTEST_SKIP() << "tshark is not installed";
  EXPECT_EQ(*payload,
            "6d6f7665203132300d0a7374617475730d0a\n"
            "01206f6b5c09c3a40a\n");
  // Nothing to warn of: retransmissions, gaps, bad checksums, cut packets.
  EXPECT_EQ(*tshark(path_, "frame.number", "_ws.expert.severity >= warning"),
            "");
  EXPECT_EQ(*tshark(path_, "tcp.flags.str"),
            "··········S·\n·······A··S·\n·······A····\n·······AP···\n"
            "·······AP···\n·······A···F\n·······A···F\n");
  EXPECT_EQ(*tshark(path_, "frame.number", "tcp.analysis.flags"), "");
}

}  // namespace
}  // namespace tcpip
