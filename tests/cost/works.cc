#include "tests/cost/works.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

#include "tcpip/byte_order.h"
#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/send_queue.h"
#include "tcpip/send_result.h"
#include "tcpip/wait.h"
#include "tcpip/wire_struct.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"

namespace tcpip_tests {
namespace {

using namespace std::chrono_literals;
using tcpip::Client;
using tcpip::OneClientServer;
using tcpip::ReadWriter;
using tcpip::SendResult;
using tcpip::UniqueFd;
using tcpip::Wait;

constexpr std::string_view kText = "thirty characters and no more!";
constexpr std::string_view kLine = "thirty characters and no more!\r\n";
static_assert(kLine.size() == 32);

struct Sample {
  tcpip::BigEndian<std::uint32_t> number{};
  tcpip::BigEndian<std::uint32_t> status{};
  std::array<tcpip::BigEndian<double>, 7> values{};
};
static_assert(sizeof(Sample) == 64);

void check(bool is_right) {
  if (!is_right) throw std::logic_error("a work does not what it is to do");
}

// The four kinds of Wait. A deadline is so far away that it is not met.
enum class Kind { kForever, kDeadline, kStop, kBoth };

const std::stop_source& stop_source() {
  static const std::stop_source source;
  return source;
}

Wait wait_of(Kind kind) {
  switch (kind) {
    case Kind::kForever:
      return {};
    case Kind::kDeadline:
      return Wait(kPatience);
    case Kind::kStop:
      return Wait(stop_source().get_token());
    case Kind::kBoth:
      return Wait(kPatience, stop_source().get_token());
  }
  return {};
}

// --- Each with a bare peer ---

// The peer of a work sends `request`, or nothing, and gets `reply_size` bytes.
template <class Stage, class Turn>
Work with_peer(std::string_view request, std::size_t reply_size, Turn turn) {
  const auto stage = std::make_shared<Stage>();
  return {.before = [=] { send_all(stage->peer, request); },
          .counted = [=] { turn(*stage); },
          .after = [=] { recv_exact(stage->peer, reply_size); }};
}
template <class Stage, class Turn>
Work with_echo(Turn turn) {
  return with_peer<Stage>(kLine, kLine.size(), turn);
}

struct StreamStage : LoopbackPair {
  StreamStage() : LoopbackPair(loopback_pair(Transport::kIpv4)) {}
};

struct ClientOnly {
  ClientOnly() : client({.host = "127.0.0.1", .port = listener.port}) {
    client.start(kPatience);
    peer = accept_one(listener);
  }
  const PlainListener listener = plain_listener(Transport::kIpv4);
  Client client;
  UniqueFd peer;
};

struct ServerOnly {
  ServerOnly() : server({.host = "127.0.0.1"}) {
    server.start(kPatience);
    peer = connect_to(server.port());
    check(server.wait_connected(kPatience));
  }
  OneClientServer server;
  UniqueFd peer;
};

template <Kind kKind>
Work streams_views() {
  return with_echo<StreamStage>([](StreamStage& stage) {
    const Wait wait = wait_of(kKind);
    check(stage.reader.read_line_view(wait).size() == kLine.size());
    stage.writer.write(kLine);
    stage.writer.drain(wait);
  });
}

Work streams_strings() {
  return with_echo<StreamStage>([](StreamStage& stage) {
    check(stage.reader.read_line().size() == kLine.size());
    stage.writer.write(kLine);
  });
}

Work streams_spans() {
  return with_echo<StreamStage>([](StreamStage& stage) {
    std::array<std::byte, kLine.size()> bytes;
    stage.reader.read_exactly(std::span(bytes));
    const std::array<std::string_view, 2> parts{kText, "\r\n"};
    stage.writer.write_and_drain(parts, 0);
  });
}

Work streams_structs() {
  static const std::string request(sizeof(Sample), '\1');
  return with_peer<StreamStage>(request, sizeof(Sample),
                                [](StreamStage& stage) {
                                  Sample sample;
                                  tcpip::read_into(stage.reader, sample);
                                  tcpip::write_from(stage.writer, sample);
                                });
}

template <Kind kKind>
Work client_text() {
  return with_echo<ClientOnly>([](ClientOnly& stage) {
    const Wait wait = wait_of(kKind);
    check(stage.client.read_str(wait).size() == kText.size());
    stage.client.write_str(kText, wait);
  });
}

Work client_short_text() {
  return with_peer<ClientOnly>("short\r\n", 7, [](ClientOnly& stage) {
    check(stage.client.read_str() == "short");
    stage.client.write_str("short");
  });
}

Work client_structs() {
  static const std::string request(sizeof(Sample), '\1');
  return with_peer<ClientOnly>(request, sizeof(Sample), [](ClientOnly& stage) {
    Sample sample;
    stage.client.read_into(sample);
    stage.client.write_from(sample);
  });
}

Work client_bytes() {
  return with_peer<ClientOnly>(
      {}, kLine.size(), [](ClientOnly& stage) { stage.client.write(kLine); });
}

Work client_send() {
  return with_peer<ClientOnly>({}, kLine.size(), [](ClientOnly& stage) {
    check(stage.client.send_str(kText) == SendResult::kSent);
  });
}

Work client_try_send() {
  return with_peer<ClientOnly>({}, kLine.size(), [](ClientOnly& stage) {
    check(stage.client.try_send_str(kText) == SendResult::kSent);
  });
}

Work client_try_read_nothing() {
  return with_peer<ClientOnly>(
      {}, 0, [](ClientOnly& stage) { check(!stage.client.try_read_str()); });
}

// As a read handler does it.
Work connection_text() {
  struct ConnectionOnly : ServerOnly {
    const tcpip::Connection connection = server.connection();
    const std::stop_token stop = connection.stop_token();
  };
  return with_echo<ConnectionOnly>([](ConnectionOnly& stage) {
    check(stage.connection.read_str(stage.stop).size() == kText.size());
    stage.connection.write_str(kText, stage.stop);
  });
}

template <Kind kKind>
Work server_text() {
  return with_echo<ServerOnly>([](ServerOnly& stage) {
    const Wait wait = wait_of(kKind);
    check(stage.server.read_str(wait).size() == kText.size());
    stage.server.write_str(kText, wait);
  });
}

// --- Without a bare peer ---

Work round_trip() {
  struct Stage {
    Stage() : server({.host = "127.0.0.1"}) {
      server.start(kPatience);
      client.emplace(
          tcpip::ClientOptions{.host = "127.0.0.1", .port = server.port()});
      client->start(kPatience);
      check(server.wait_connected(kPatience));
    }
    OneClientServer server;
    std::optional<Client> client;
  };
  const auto stage = std::make_shared<Stage>();
  return {.counted = [=] {
    stage->client->write_str(kText);
    stage->server.write_str(stage->server.read_str());
    check(stage->client->read_str().size() == kText.size());
  }};
}

Work post() {
  struct Stage : ServerOnly {
    Stage() : queue(server, {.when_full = tcpip::WhenFull::kDropOldest}) {
      // From here on, the writer thread waits for the peer, which does not
      // read.
      check(server.connection().send(std::string(16u << 20, 'x')) ==
            SendResult::kQueued);
      check(queue.post("first") == SendResult::kQueued);
      check(eventually([&] { return queue.size() == 0; }));
    }
    tcpip::SendQueue queue;
  };
  const auto stage = std::make_shared<Stage>();
  return {.counted = [=] {
    check(stage->queue.post(kLine) == SendResult::kQueued);
  }};
}

Work connect() {
  struct Stage {
    const PlainListener listener = plain_listener(Transport::kIpv4);
    std::optional<tcpip::Streams> streams;
  };
  const auto stage = std::make_shared<Stage>();
  return {.counted =
              [=] {
                stage->streams =
                    tcpip::open_connection("127.0.0.1", stage->listener.port);
              },
          .after =
              [=] {
                stage->streams.reset();
                accept_one(stage->listener);
              }};
}

constexpr NamedWork kWorks[] = {
    {"streams: read_line_view, write, drain", streams_views<Kind::kForever>},
    {"streams: the same with a deadline", streams_views<Kind::kDeadline>},
    {"streams: the same with a stop", streams_views<Kind::kStop>},
    {"streams: the same with both", streams_views<Kind::kBoth>},
    {"streams: read_line, write", streams_strings},
    {"streams: read_exactly of a span, write_and_drain", streams_spans},
    {"streams: read_into, write_from", streams_structs},
    {"Client: read_str, write_str", client_text<Kind::kForever>},
    {"Client: read_str, write_str with a deadline",
     client_text<Kind::kDeadline>},
    {"Client: read_str, write_str with a stop", client_text<Kind::kStop>},
    {"Client: read_str, write_str with both", client_text<Kind::kBoth>},
    {"Client: read_str, write_str of a short text", client_short_text},
    {"Client: read_into, write_from", client_structs},
    {"Client: write", client_bytes},
    {"Client: send_str", client_send},
    {"Client: try_send_str", client_try_send},
    {"Client: try_read_str of nothing", client_try_read_nothing},
    {"Connection: read_str, write_str with a stop", connection_text},
    {"OneClientServer: read_str, write_str", server_text<Kind::kForever>},
    {"OneClientServer: read_str, write_str with both",
     server_text<Kind::kBoth>},
    {"Client and OneClientServer: a round trip", round_trip},
    {"SendQueue: post to a writer that is awake", post},
    {"open_connection", connect},
};

}  // namespace

std::span<const NamedWork> works() { return kWorks; }

void run_read_loop(int messages, const std::function<void()>& begin,
                   const std::function<void()>& end) {
  int calls = 0;
  tcpip::OneClientReadLoopServer server(
      {.host = "127.0.0.1"},
      [&](tcpip::Connection& client, std::stop_token stop) {
        ++calls;
        if (calls == kWarmUp) begin();
        if (calls == kWarmUp + messages) end();
        client.write_str(client.read_str(stop), stop);
      });
  server.start(kPatience);
  const UniqueFd peer = connect_to(server.port());
  for (int i = 0; i < kWarmUp + messages; ++i) {
    send_all(peer, kLine);
    recv_exact(peer, kLine.size());
  }
}

}  // namespace tcpip_tests
