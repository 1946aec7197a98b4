// The command line of tcpip-monitor.
//
// Threads: for main(), before the first thread starts: getopt_long() keeps
// state of its own.
#ifndef TOOLS_MONITOR_OPTIONS_H_
#define TOOLS_MONITOR_OPTIONS_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/constants.h"
#include "tools/monitor/struct_format.h"

namespace tcpip_monitor {

using Seconds = std::chrono::duration<double>;

// What the exit status says; the help names them.
enum ExitStatus : int {
  kExitAsAsked = 0,
  kExitConnection = 1,  // not made, or lost
  kExitUsage = 2,
  kExitReplay = 3,  // the peer has said something else than in the recording
  kExitFile = 4     // a recording or a pcapng file is not complete
};

// A command line that makes no sense.
class UsageError final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Where to listen or to connect.
struct Place {
  std::string host;
  int port = 0;
  bool operator==(const Place&) const = default;
};

enum class Show { kLines, kJson, kHex, kStructs };
enum class ShowHeartbeats { kFold, kAll, kNone };
enum class TimeStyle { kClock, kDate, kElapsed, kNone };
enum class Color { kAuto, kAlways, kNever };

// How messages look; see view.h.
struct ViewOptions {
  Show show = Show::kLines;
  std::string terminator = std::string(tcpip::kDefaultTerminator);
  // A line may also end in "\n" alone: no --terminator was given.
  bool takes_newline = true;
  std::string encoding = std::string(tcpip::kDefaultEncoding);
  int indent = 0;  // of JSON; 0: one line
  // One without an id, or one for each id.
  std::vector<StructSpec> structs = {};
  std::optional<StructFormat> header = {};
  // The places in the header of the id and of the body's length, from 0.
  std::optional<std::size_t> id_field = {};
  std::optional<std::size_t> length_field = {};
  ShowHeartbeats heartbeats = ShowHeartbeats::kFold;
  TimeStyle time = TimeStyle::kClock;
};

struct Options {
  bool help = false;
  bool version = false;
  std::optional<Place> connect = {};
  std::optional<Place> listen = {};
  tcpip::AddressFamily family = tcpip::AddressFamily::kAny;
  bool reconnect = false;
  Seconds timeout{5};  // of connecting

  ViewOptions view = {};
  Color color = Color::kAuto;
  std::optional<Seconds> status = {};
  std::optional<Seconds> send_heartbeats = {};
  std::optional<Seconds> linger = {};
  std::string history = {};  // a file; empty: none

  std::string record = {};
  std::string replay = {};
  bool at_once = false;
  std::string pcapng = {};

  bool is_proxy() const { return connect && listen; }
};

// `arguments` without the program's name. Throws UsageError.
Options parse_options(std::vector<std::string> arguments);

std::string_view help_text();

// "\r\n" for R"(\r\n)": the escapes of C that the library writes: \r \n \t \0
// \\ \xNN. Throws UsageError for any other.
std::string unescape(std::string_view text);

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_OPTIONS_H_
