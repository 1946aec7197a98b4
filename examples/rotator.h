// What a rotator and its clients say to each other: command_telemetry_server is
// the rotator, telemetry_client one of the clients.
//
// All numbers are little-endian. Such members have alignment 1, so the bytes on
// the wire are these and nothing in between. Python's format stands beside each
// struct.
//
// Threads: values.
#ifndef EXAMPLES_ROTATOR_H_
#define EXAMPLES_ROTATOR_H_

#include <cstdint>

#include "tcpip/byte_order.h"

namespace examples {

using tcpip::LittleEndian;

// --- The rotator sends frames: a Header and the body that it names ---

enum class FrameId : std::uint16_t { kConfig = 1, kTelemetry = 2, kAck = 3 };

struct Header {  // "<HHIqI"
  LittleEndian<FrameId> id{};
  LittleEndian<std::uint16_t> size{};     // of the body, in bytes
  LittleEndian<std::uint32_t> counter{};  // of the frames with this id
  LittleEndian<std::int64_t> seconds{};   // UTC, since 1970
  LittleEndian<std::uint32_t> nanoseconds{};
};
static_assert(sizeof(Header) == 20);

// The first frame on each connection.
struct Config {                       // "<ddd"
  LittleEndian<double> lowest = -90;  // degrees
  LittleEndian<double> highest = 90;
  LittleEndian<double> speed = 5;  // degrees a second
};
static_assert(sizeof(Config) == 24);

enum class State : std::uint16_t {
  kSafe = 0,    // stands still and obeys nothing but kEnable
  kEnabled = 1  // moves
};

// Twenty times a second.
struct Telemetry {  // "<Hdd"
  LittleEndian<State> state{};
  LittleEndian<double> angle{};  // degrees
  LittleEndian<double> demand{};
};
static_assert(sizeof(Telemetry) == 18);

enum class Result : std::uint16_t {
  kDone = 0,
  kNotEnabled = 1,
  kOutOfRange = 2,
  kUnknown = 3
};

// The answer to a command.
struct Ack {                              // "<IH"
  LittleEndian<std::uint32_t> counter{};  // that of the command
  LittleEndian<Result> result{};
};
static_assert(sizeof(Ack) == 6);

// --- A client sends commands ---

enum class CommandId : std::uint16_t {
  kAlive = 0,   // the client is there; has no answer
  kEnable = 1,  // after this the rotator moves
  kMove = 2,    // to `value`, in degrees
  kStop = 3     // stands still where it is
};

struct Command {  // "<IHd"
  LittleEndian<std::uint32_t> counter{};
  LittleEndian<CommandId> id{};
  LittleEndian<double> value{};
};
static_assert(sizeof(Command) == 14);

}  // namespace examples

#endif  // EXAMPLES_ROTATOR_H_
