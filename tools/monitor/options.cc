#include "tools/monitor/options.h"

#include <fmt/format.h>
#include <getopt.h>

#include <charconv>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <utility>

#include "tools/monitor/counted.h"

namespace tcpip_monitor {
namespace {

constexpr std::string_view kHelp =
    R"(tcpip-monitor shows what passes over a TCP connection while it passes.

  tcpip-monitor dome:4000
      Connects to port 4000 of the host dome. Shows each line that the server
      sends. What you type is sent, line by line. Ctrl-D ends.
  tcpip-monitor --listen 4000
      Plays a server on this machine. Serves one client after the other.
  tcpip-monitor --listen 4001 --connect dome:4000
      Stands between the two: point your client at port 4001.
  tcpip-monitor dome:4000 --json --indent 2
      Messages are JSON. Shows them with indentation.
  tcpip-monitor dome:4000 --struct '<Ihd:counter,state,angle'
      Messages are structs, described as in Python's module struct.
  tcpip-monitor dome:4000 --header '<HI' --id 1 --length 2 \
      --struct '1=<dd:angle,rate' --struct '2=<I'
      Each struct has a header. Its first value is the id of the struct, its
      second value is the struct's length in bytes.
  tcpip-monitor dome:4000 --record open.txt
      Also writes a recording. Then, without the dome:
  tcpip-monitor --listen 4000 --replay open.txt
      plays the server's part of the recording to a client; and
  tcpip-monitor --replay open.txt --hex
      only shows the recording.
  tcpip-monitor --listen 4001 --connect dome:4000 --pcapng dome.pcapng
      Also writes a file for Wireshark.
  echo status | tcpip-monitor dome:4000 --linger 1 | grep mode
      In a pipe: plain text, no prompt. Goes on for a second after the input's
      end.

Each line has the time, an arrow, and the message. "<" was received, ">" was
sent. Between a client and a server, ">" is what the client sends. "--" is a
remark of the monitor.

Where
  HOST:PORT, --connect HOST:PORT
                       connect. A port alone means this machine. Also
                       [::1]:4000, unix:/run/dome.sock, unix:@name
  --listen PORT        listen, on this machine only. HOST:PORT for another
                       interface, *:PORT for all, unix:/path for a socket file
  -4, -6               IPv4 only, IPv6 only
  --timeout SECONDS    how long connecting may take (5)
  --reconnect          connect again when the connection has ended

What to show
  --lines              messages are lines (this is the default)
  --json               messages are lines with JSON in them
  --indent N           of JSON; without it a message takes one line
  --hex                bytes as they come
  --struct [ID=]FORMAT[:NAME,...]
                       messages are structs; may be given once for each ID
  --header FORMAT      each struct has this header before it
  --id N               the Nth value of the header is the struct's id
  --length N           the Nth value of the header is the struct's length
  --terminator TEXT    the end of a line, sent and received. Knows the escapes
                       \r \n \t \0 \\ \xNN. Without this option \r\n is sent,
                       and \n alone ends a line too; it is then shown
  --encoding NAME      of text (utf-8); also latin-1, ascii, utf-16-le, ...
  --heartbeats WHICH   fold: one line a minute with a count (the default); all;
                       none
  --time STYLE         clock (the default), date, elapsed, none
  --color WHEN         auto (the default), always, never. auto: on a terminal,
                       unless the environment has NO_COLOR
  --status SECONDS     show rates so often. /status shows them once

What to send
  With --lines and --json you type text, and the terminator is added. With --hex
  and --struct you type bytes in hexadecimal: 01 02 ff. On a terminal a line
  that begins with / is a command: /status /close /help /quit. A second / sends
  the line with one. From a pipe every line is sent. A proxy sends nothing.
  --send-heartbeats SECONDS
                       send the line "heartbeat" so often
  --linger SECONDS     go on for so long after the end of piped input; without
                       it, until the connection ends
  --history FILE       keep what was typed for the next time

Files
  --record FILE        write a recording. The second connection's is FILE.2.
                       No file is overwritten
  --replay FILE        play one side of a recording to the peer and check what
                       the peer sends; then end
  --at-once            replay without the pauses of the recording
  --pcapng FILE        append to a file for Wireshark

Of the program
  --help, --version    print this text, or the version, and end

Exit status
  0  ended as asked: Ctrl-C, Ctrl-D, /quit, the peer has closed, replay done
  1  the connection could not be made, or was lost
  2  the command line makes no sense
  3  replay: the peer has sent something else than in the recording
  4  a file could not be written (the exchange went on), or out of memory
)";

// What getopt_long() returns for the long options.
enum Long : int {
  kHelpOption = 1000,
  kVersionOption,
  kConnect,
  kListen,
  kTimeout,
  kReconnect,
  kLines,
  kJson,
  kIndent,
  kHex,
  kStruct,
  kHeader,
  kId,
  kLength,
  kTerminator,
  kEncoding,
  kHeartbeats,
  kTime,
  kColor,
  kStatus,
  kSendHeartbeats,
  kLinger,
  kHistory,
  kRecord,
  kReplay,
  kAtOnce,
  kPcapng
};

constexpr option kOptions[] = {
    {"help", no_argument, nullptr, kHelpOption},
    {"version", no_argument, nullptr, kVersionOption},
    {"connect", required_argument, nullptr, kConnect},
    {"listen", required_argument, nullptr, kListen},
    {"timeout", required_argument, nullptr, kTimeout},
    {"reconnect", no_argument, nullptr, kReconnect},
    {"lines", no_argument, nullptr, kLines},
    {"json", no_argument, nullptr, kJson},
    {"indent", required_argument, nullptr, kIndent},
    {"hex", no_argument, nullptr, kHex},
    {"struct", required_argument, nullptr, kStruct},
    {"header", required_argument, nullptr, kHeader},
    {"id", required_argument, nullptr, kId},
    {"length", required_argument, nullptr, kLength},
    {"terminator", required_argument, nullptr, kTerminator},
    {"encoding", required_argument, nullptr, kEncoding},
    {"heartbeats", required_argument, nullptr, kHeartbeats},
    {"time", required_argument, nullptr, kTime},
    {"color", required_argument, nullptr, kColor},
    {"status", required_argument, nullptr, kStatus},
    {"send-heartbeats", required_argument, nullptr, kSendHeartbeats},
    {"linger", required_argument, nullptr, kLinger},
    {"history", required_argument, nullptr, kHistory},
    {"record", required_argument, nullptr, kRecord},
    {"replay", required_argument, nullptr, kReplay},
    {"at-once", no_argument, nullptr, kAtOnce},
    {"pcapng", required_argument, nullptr, kPcapng},
    {}};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

int parse_int(const char* option, std::string_view text, int least, int most) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end || value < least ||
      value > most) {
    fail("{}: \"{}\" is no number from {} to {}", option, text, least, most);
  }
  return value;
}

Seconds parse_seconds(const char* option, std::string_view text,
                      double least = 0.001) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  constexpr double kMost = 1e6;
  if (parsed.ec != std::errc() || parsed.ptr != end ||
      !(value >= least && value <= kMost)) {
    fail("{}: \"{}\" is no number of seconds from {} to {}", option, text,
         least, kMost);
  }
  return Seconds(value);
}

template <class T>
struct Choice {
  std::string_view name;
  T value;
};

template <class T>
T parse_choice(const char* option, std::string_view text,
               std::initializer_list<Choice<T>> choices) {
  std::string names;
  for (const Choice<T>& choice : choices) {
    if (text == choice.name) return choice.value;
    names += names.empty() ? "" : ", ";
    names += choice.name;
  }
  fail("{}: \"{}\" is none of {}", option, text, names);
}

// "4000", "dome:4000", "[::1]:4000", "*:4000", "unix:/path".
Place parse_place(const char* option, std::string_view text) {
  if (text.starts_with("unix:")) {
    if (text == "unix:") fail("{}: \"unix:\" has no path", option);
    return {std::string(text), 0};
  }
  const std::size_t colon = text.rfind(':');
  std::string_view host =
      colon == text.npos ? std::string_view() : text.substr(0, colon);
  const std::string_view port =
      colon == text.npos ? text : text.substr(colon + 1);
  if (colon != text.npos && host.empty()) {
    fail("{}: \"{}\" has no host; a port alone means this machine", option,
         text);
  }
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != host.npos) {
    fail("{}: write [ADDRESS]:PORT for an IPv6 address", option);
  }
  const bool listens = std::string_view(option) == "--listen";
  int number = 0;
  const char* end = port.data() + port.size();
  const auto parsed = std::from_chars(port.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end || number > 65535 ||
      number < (listens ? 0 : 1)) {
    fail("{}: \"{}\" is no HOST:PORT", option, text);
  }
  if (host.empty()) host = tcpip::kDefaultLocalhost;
  if (host == "*") {
    if (!listens) fail("{}: \"*\" is no host to connect to", option);
    host = "";
  }
  return {std::string(host), number};
}

template <class Parse>
auto parse_struct(const char* option, Parse parse) {
  try {
    return parse();
  } catch (const std::invalid_argument& e) {
    fail("{}: {}", option, e.what());
  }
}

// Reads getopt_long()'s options into `options`; returns the other arguments.
class Reader {
 public:
  explicit Reader(Options& options) : options_(options) {}

  void set(int code, const std::string& text);
  bool has_format() const { return has_format_; }

 private:
  void set_format(Show show) {
    if (has_format_ && options_.view.show != show) {
      fail("--lines, --json, --hex and --struct exclude each other");
    }
    has_format_ = true;
    options_.view.show = show;
  }

  Options& options_;
  bool has_format_ = false;
};

void Reader::set(int code, const std::string& text) {
  ViewOptions& view = options_.view;
  switch (code) {
    case kHelpOption:
      options_.help = true;
      break;
    case kVersionOption:
      options_.version = true;
      break;
    case '4':
      options_.family = tcpip::AddressFamily::kIpv4;
      break;
    case '6':
      options_.family = tcpip::AddressFamily::kIpv6;
      break;
    case kConnect:
      options_.connect = parse_place("--connect", text);
      break;
    case kListen:
      options_.listen = parse_place("--listen", text);
      break;
    case kTimeout:
      options_.timeout = parse_seconds("--timeout", text);
      break;
    case kReconnect:
      options_.reconnect = true;
      break;
    case kLines:
      set_format(Show::kLines);
      break;
    case kJson:
      set_format(Show::kJson);
      break;
    case kIndent:
      view.indent = parse_int("--indent", text, 0, 16);
      break;
    case kHex:
      set_format(Show::kHex);
      break;
    case kStruct:
      set_format(Show::kStructs);
      view.structs.push_back(
          parse_struct("--struct", [&] { return StructSpec::parse(text); }));
      break;
    case kHeader:
      set_format(Show::kStructs);
      view.header =
          parse_struct("--header", [&] { return StructFormat(text); });
      break;
    case kId:
      view.id_field = parse_int("--id", text, 1, 1000) - 1;
      break;
    case kLength:
      view.length_field = parse_int("--length", text, 1, 1000) - 1;
      break;
    case kTerminator:
      view.terminator = unescape(text);
      if (view.terminator.empty()) fail("--terminator: is empty");
      view.takes_newline = false;
      break;
    case kEncoding:
      view.encoding = text;  // the session refuses what it does not know
      break;
    case kHeartbeats:
      view.heartbeats =
          parse_choice<ShowHeartbeats>("--heartbeats", text,
                                       {{"fold", ShowHeartbeats::kFold},
                                        {"all", ShowHeartbeats::kAll},
                                        {"none", ShowHeartbeats::kNone}});
      break;
    case kTime:
      view.time = parse_choice<TimeStyle>("--time", text,
                                          {{"clock", TimeStyle::kClock},
                                           {"date", TimeStyle::kDate},
                                           {"elapsed", TimeStyle::kElapsed},
                                           {"none", TimeStyle::kNone}});
      break;
    case kColor:
      options_.color = parse_choice<Color>("--color", text,
                                           {{"auto", Color::kAuto},
                                            {"always", Color::kAlways},
                                            {"never", Color::kNever}});
      break;
    case kStatus:
      options_.status = parse_seconds("--status", text);
      break;
    case kSendHeartbeats:
      options_.send_heartbeats = parse_seconds("--send-heartbeats", text);
      break;
    case kLinger:
      options_.linger = parse_seconds("--linger", text, 0);
      break;
    case kHistory:
      options_.history = text;
      break;
    case kRecord:
      options_.record = text;
      break;
    case kReplay:
      options_.replay = text;
      break;
    case kAtOnce:
      options_.at_once = true;
      break;
    case kPcapng:
      options_.pcapng = text;
      break;
    default:
      break;
  }
}

void check_structs(const ViewOptions& view) {
  const bool has_header = view.header.has_value();
  const std::size_t values = has_header ? view.header->count() : 0;
  if (!has_header && (view.id_field || view.length_field)) {
    fail("--id and --length need a --header");
  }
  if (view.id_field.value_or(0) >= values && view.id_field) {
    fail("--id: the header has {}", counted(values, "value"));
  }
  if (view.length_field.value_or(0) >= values && view.length_field) {
    fail("--length: the header has {}", counted(values, "value"));
  }
  if (view.structs.empty() && has_header && !view.length_field) {
    fail("--header needs a --struct or a --length");
  }
  for (std::size_t i = 0; i < view.structs.size(); ++i) {
    const StructSpec& spec = view.structs[i];
    if (spec.id && !view.id_field) {
      fail("--struct: an id needs a --header and --id");
    }
    if (!spec.id && view.structs.size() > 1) {
      fail("--struct: more than one, so each needs an id: 7=FORMAT");
    }
    for (std::size_t k = 0; k < i; ++k) {
      if (view.structs[k].id == spec.id) {
        fail("--struct: the id {} is there twice", spec.id.value_or(0));
      }
    }
  }
}

void check(const Options& options) {
  if (!options.connect && !options.listen && options.replay.empty()) {
    fail("say where: HOST:PORT to connect, or --listen PORT");
  }
  if (options.is_proxy() && !options.replay.empty()) {
    fail("--replay takes the place of one side; it does not go with a proxy");
  }
  if (options.is_proxy() && options.send_heartbeats) {
    fail("--send-heartbeats: a proxy sends nothing of its own");
  }
  if (options.reconnect && (!options.connect || options.listen)) {
    fail("--reconnect is for --connect alone");
  }
  if (options.reconnect && !options.replay.empty()) {
    fail("--reconnect does not go with --replay");
  }
  if (options.at_once && options.replay.empty()) {
    fail("--at-once is for --replay");
  }
  if (!options.connect && !options.listen &&
      (!options.record.empty() || !options.pcapng.empty())) {
    fail("--record and --pcapng need a connection");
  }
  if (options.view.indent > 0 && options.view.show != Show::kJson) {
    fail("--indent is for --json");
  }
  check_structs(options.view);
}

}  // namespace

std::string_view help_text() { return kHelp; }

std::string unescape(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      result += text[i];
      continue;
    }
    const char c = i + 1 < text.size() ? text[++i] : '\0';
    unsigned value = 0;
    const char* const digits = text.data() + i + 1;
    if (c == 'r') {
      result += '\r';
    } else if (c == 'n') {
      result += '\n';
    } else if (c == 't') {
      result += '\t';
    } else if (c == '0') {
      result += '\0';
    } else if (c == '\\') {
      result += '\\';
    } else if (c == 'x' && i + 2 < text.size() &&
               std::from_chars(digits, digits + 2, value, 16).ptr ==
                   digits + 2) {
      result += static_cast<char>(value);
      i += 2;
    } else {
      fail("\"{}\": known escapes are \\r \\n \\t \\0 \\\\ \\xNN", text);
    }
  }
  return result;
}

Options parse_options(std::vector<std::string> arguments) {
  Options options;
  Reader reader(options);
  arguments.insert(arguments.begin(), "tcpip-monitor");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const int argc = static_cast<int>(arguments.size());
  ::optind = 0;  // begin anew
  ::opterr = 0;  // the messages are ours
  for (int code; (code = ::getopt_long(argc, argv.data(), ":46h", kOptions,
                                       nullptr)) != -1;) {
    // getopt_long() has gone past it, unless it stands in a group such as -4x.
    const std::string_view seen = argv[static_cast<std::size_t>(optind - 1)];
    if (code == ':') fail("{}: needs a value", seen);
    if (code == '?') fail("{}: no such option, or not all of its name", seen);
    reader.set(code == 'h' ? kHelpOption : code,
               ::optarg != nullptr ? ::optarg : "");
  }
  for (int i = ::optind; i < argc; ++i) {
    const std::string_view text = argv[static_cast<std::size_t>(i)];
    if (options.connect)
      fail("\"{}\": one place to connect to is enough", text);
    options.connect = parse_place("HOST:PORT", text);
  }
  if (!options.help && !options.version) check(options);
  return options;
}

}  // namespace tcpip_monitor
