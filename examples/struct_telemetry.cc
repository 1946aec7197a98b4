// Binary telemetry: each message is a header, which says what follows and how
// long it is, and a body; all of it big-endian.
//
//   struct_telemetry [--host HOST] [--port PORT] [--count N]
//
// serves: sends N messages (10000 unless told otherwise), 100 a second, to
// whoever is connected.
//
//   struct_telemetry --connect [--host HOST] --port PORT [--count N]
//
// receives N messages (10 unless told otherwise) and checks them. Its exit
// status is 0 if all were right.
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>

#include "examples/program.h"
#include "tcpip/client.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/one_client_server.h"
#include "tcpip/wait.h"
#include "tcpip/wire_struct.h"

namespace {

using namespace std::chrono_literals;
using tcpip::BigEndian;

// --- The messages ---
//
// BigEndian members have alignment 1, so the bytes on the wire are these and
// nothing in between. In Python: struct.Struct(">HHIQ"), (">3d"), (">Bfh").

enum class Kind : std::uint16_t { kPosition = 1, kWeather = 2 };

struct Header {
  BigEndian<Kind> kind{};
  BigEndian<std::uint16_t> size{};  // of the body
  BigEndian<std::uint32_t> sequence{};
  BigEndian<std::uint64_t> time_ns{};  // since 1970
};

struct Position {
  std::array<BigEndian<double>, 3> axes{};
};

struct Weather {
  BigEndian<bool> raining{};
  BigEndian<float> temperature{};
  BigEndian<std::int16_t> wind_direction{};
};

// What a peer relies on.
static_assert(sizeof(Header) == 16);
static_assert(sizeof(Position) == 24);
static_assert(sizeof(Weather) == 7);

// --- The server ---

template <class Body>
void send(const tcpip::Connection& client, Kind kind, std::uint32_t sequence,
          const Body& body, const tcpip::Wait& wait) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const Header header{
      .kind = kind,
      .size = sizeof(Body),
      .sequence = sequence,
      .time_ns = static_cast<std::uint64_t>(
          std::chrono::duration_cast<std::chrono::nanoseconds>(now).count())};
  // One message: no other thread's comes between header and body.
  client.write_from(header, body, wait);
}

void send_one(const tcpip::Connection& client, std::uint32_t sequence,
              const tcpip::Wait& wait) {
  if (sequence % 10 == 9) {
    send(client, Kind::kWeather, sequence,
         Weather{.raining = sequence % 20 == 9,
                 .temperature = -3.25f,
                 .wind_direction = -90},
         wait);
  } else {
    const double x = sequence;
    send(client, Kind::kPosition, sequence, Position{{x, -x, x / 4}}, wait);
  }
}

void serve(const std::string& host, int port, std::uint32_t count,
           std::stop_token stop) {
  tcpip::OneClientServer server(
      {.host = host,
       .port = port,
       .name = "telemetry",
       .log = tcpip::Log(tcpip::stderr_sink(), tcpip::LogLevel::kWarning)});
  server.start();
  std::cout << "listening on " << server.addresses().front().to_string()
            << std::endl;
  tcpip::Connection client;
  auto due = tcpip::Deadline::Clock::now();
  for (std::uint32_t sequence = 0; sequence < count; ++sequence) {
    if (!client.connected()) {
      client = server.wait_client(stop).value();
      due = tcpip::Deadline::Clock::now();
    }
    try {
      send_one(client, sequence, {1s, stop});
    } catch (const tcpip::TimeoutError&) {
      client.close();
      server.log().warning("the client took no telemetry, it has to go");
    } catch (const tcpip::ConnectionError&) {
      // This client has gone. There will be another.
    }
    std::this_thread::sleep_until(due += 10ms);
  }
  std::cout << "sent all" << std::endl;
}

// --- The client ---

void check(bool is_right, const char* what) {
  if (!is_right) throw std::runtime_error(what);
}

void receive_one(tcpip::Client& client, const Header& header,
                 const tcpip::Wait& wait) {
  switch (header.kind.value()) {
    case Kind::kPosition: {
      Position position;
      check(header.size == sizeof(position), "a position of another size");
      client.read_into(position, wait);
      const double x = header.sequence.value();
      check(position.axes[0] == x && position.axes[1] == -x &&
                position.axes[2] == x / 4,
            "a wrong position");
      std::cout << header.sequence << " position " << position.axes[0] << " "
                << position.axes[1] << " " << position.axes[2] << std::endl;
      return;
    }
    case Kind::kWeather: {
      Weather weather;
      check(header.size == sizeof(weather), "a weather of another size");
      client.read_into(weather, wait);
      check(weather.raining == (header.sequence % 20 == 9) &&
                weather.temperature == -3.25f && weather.wind_direction == -90,
            "a wrong weather");
      std::cout << header.sequence << " weather " << weather.temperature
                << (weather.raining ? " rain" : " dry") << std::endl;
      return;
    }
  }
  // From a server newer than this client: the header says how much to pass by.
  client.read_exactly(header.size, wait);
}

void receive(const std::string& host, int port, std::uint32_t count,
             std::stop_token stop) {
  tcpip::Client client(
      {.host = host,
       .port = port,
       .name = "telemetry",
       .log = tcpip::Log(tcpip::stderr_sink(), tcpip::LogLevel::kWarning)});
  client.start({5s, stop});
  std::uint32_t next = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    Header header;
    client.read_into(header, {5s, stop});
    check(i == 0 || header.sequence == next, "a message is missing");
    receive_one(client, header, {5s, stop});
    next = header.sequence + 1;
  }
  std::cout << "received " << count << " messages, all right" << std::endl;
}

}  // namespace

int main(int argc, char** argv) try {
  std::string host = "127.0.0.1";
  int port = 0;
  bool connect = false;
  std::uint32_t count = 0;
  examples::parse_options(
      argc, argv,
      {{"host", host}, {"port", port}, {"count", count}, {"connect", connect}});

  const examples::SignalStop signals;
  try {
    if (connect) {
      receive(host, port, count > 0 ? count : 10, signals.token());
    } else {
      serve(host, port, count > 0 ? count : 10000, signals.token());
    }
  } catch (const tcpip::CancelledError&) {
    // Ctrl-C is the way to end the server, and no way for a client to succeed.
    return connect ? 1 : 0;
  }
  return 0;
} catch (const std::exception& e) {
  std::cerr << "struct_telemetry: " << e.what() << std::endl;
  return 1;
}
