// PORTING.md against the headers, against Python, and against the tests that it
// names; and the reader of headers and tables that this takes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/cpp_names.h"
#include "tests/support/porting_table.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

using Path = std::filesystem::path;
using Strings = std::vector<std::string>;
using Names = std::map<std::string, Strings>;  // by heading

std::string contents(const Path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

// The workspace, as far as this test has it for data.
Path top() { return Path(find_file("PORTING.md")).parent_path(); }

// By their path in the workspace.
std::map<std::string, std::string> files(const std::string& directory,
                                         const std::string& ending) {
  std::map<std::string, std::string> result;
  for (const auto& entry :
       std::filesystem::directory_iterator(top() / directory)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(ending)) {
      result[directory + "/" + name] = contents(entry.path());
    }
  }
  return result;
}

std::map<std::string, std::string> headers() {
  auto result = files("tcpip", ".h");
  result.merge(files("tcpip/testing", ".h"));
  return result;
}

CppNames names_of(const std::map<std::string, std::string>& texts) {
  CppNames result;
  for (const auto& [path, text] : texts) result.add_header(text);
  return result;
}

std::set<std::string> paths_of(
    const std::map<std::string, std::string>& texts) {
  std::set<std::string> result;
  for (const auto& [path, text] : texts) result.insert(path);
  return result;
}

PortingTable porting() { return PortingTable(contents(top() / "PORTING.md")); }

// "heading: name" for each that the document lacks.
Strings missing(const PortingTable& table, const Names& wanted) {
  Strings result;
  for (const auto& [heading, names] : wanted) {
    const std::set<std::string> found = table.python_names(heading);
    for (const std::string& name : names) {
      if (!found.contains(name)) result.push_back(heading + ": " + name);
    }
  }
  return result;
}

// --- The document ---

TEST(PortingTest, EveryCppNameIsDeclared) {
  const auto texts = headers();
  ASSERT_GT(texts.size(), 15u);
  EXPECT_EQ(porting().undeclared(names_of(texts), paths_of(texts)), Strings());
}

TEST(PortingTest, EveryRowSaysWhatBecomesOfTheNameOrWhyNothingDoes) {
  EXPECT_EQ(porting().unexplained(), Strings());
}

// What the machine's Python has; the parameters of what the functions pass
// their keywords on to among them.
constexpr char kAsyncioNames[] = R"(
import asyncio, inspect

def show(heading, names):
    for name in names:
        print(heading, name)

def parameters(function):
    left_out = ("self", "protocol_factory", "kwds")
    return [p for p in inspect.signature(function).parameters
            if p not in left_out]

for kind in (asyncio.StreamReader, asyncio.StreamWriter, asyncio.Server,
             asyncio.StreamReaderProtocol):
    show(kind.__name__, [n for n in dir(kind) if not n.startswith("_")])
for kind in (asyncio.StreamReader, asyncio.StreamWriter):
    show(kind.__name__, parameters(kind.__init__))
show("StreamReader", ["__aiter__", "__anext__"])
loop = asyncio.BaseEventLoop
for function, further in ((asyncio.open_connection, loop.create_connection),
                          (asyncio.start_server, loop.create_server)):
    show(function.__name__, parameters(function) + parameters(further))
show("any", asyncio.streams.__all__)
show("Exceptions", asyncio.exceptions.__all__)
)";

TEST(PortingTest, HasEveryNameOfThisPythonsStreams) {
  Subprocess python({"python3", "-c", kAsyncioNames});
  std::istringstream output(python.read_all());
  ASSERT_EQ(python.wait(), 0);
  Names wanted;
  std::size_t count = 0;
  for (std::string heading, name; output >> heading >> name; ++count) {
    wanted[heading == "any" ? "" : heading].push_back(name);
  }
  EXPECT_GT(count, 70u);
  EXPECT_EQ(missing(porting(), wanted), Strings());
}

TEST(PortingTest, HasTheNamesThatOtherPythonsAdd) {
  const Names kWanted = {
      {"Server", {"close_clients", "abort_clients"}},  // 3.13
      {"open_connection", {"all_errors"}},             // 3.12
      {"start_server", {"keep_alive"}},                // 3.13
      {"Exceptions",
       {"partial", "expected", "consumed", "OSError", "ConnectionError",
        "ConnectionResetError", "ConnectionRefusedError",
        "ConnectionAbortedError", "BrokenPipeError", "gaierror"}},
  };
  EXPECT_EQ(missing(porting(), kWanted), Strings());
}

TEST(PortingTest, HasEveryNameOfLsstTsTcpip) {
  const Names kWanted = {
      {"Constants",
       {"DEFAULT_ENCODING", "DEFAULT_TERMINATOR",
        "DEFAULT_MONITOR_CONNECTION_INTERVAL", "HEARTBEAT", "LOCALHOST_IPV4",
        "LOCALHOST_IPV6", "DEFAULT_LOCALHOST", "LOCAL_HOST", "TERMINATOR",
        "KEEPALIVE_TIME", "KEEPALIVE_PROBES", "KEEPALIVE_INTERVAL",
        "DEFAULT_MAX_HEARTBEAT_INTERVAL", "HEARTBEAT_MONITOR_INTERVAL",
        "CLOSE_WAIT_TIME", "STD_TIMEOUT"}},
      {"Functions",
       {"close_stream_writer", "read_into", "set_socket_options", "write_from",
        "ConnectCallbackType"}},
      {"BaseClientOrServer",
       {"log",
        "connect_callback",
        "monitor_connection_interval",
        "name",
        "do_start",
        "encoding",
        "terminator",
        "kwargs",
        "should_be_connected",
        "done_task",
        "start_task",
        "connected",
        "call_connect_callback",
        "close",
        "read",
        "readexactly",
        "readline",
        "readuntil",
        "read_into",
        "read_str",
        "read_json",
        "write",
        "writelines",
        "write_from",
        "write_str",
        "write_json",
        "start",
        "with"}},
      {"Client",
       {"Client", "host", "port", "log", "connect_callback",
        "monitor_connection_interval", "name", "encoding", "terminator",
        "run_heartbeat_send_task", "heartbeat_send_sleep",
        "heartbeat_send_task", "basic_close", "close", "start"}},
      {"OneClientServer",
       {"OneClientServer", "host", "port", "log", "connect_callback",
        "monitor_connection_interval", "name", "encoding", "terminator",
        "connected_task", "start", "basic_close_client", "close_client",
        "close"}},
      {"OneClientReadLoopServer",
       {"OneClientReadLoopServer",
        "port",
        "host",
        "log",
        "connect_callback",
        "name",
        "encoding",
        "terminator",
        "run_heartbeat_monitor_task",
        "max_heartbeat_interval",
        "read_loop_task",
        "heartbeat_received_tai",
        "monitor_heartbeats_task",
        "monitor_heartbeats_task_start",
        "call_connect_callback",
        "read_loop",
        "read_and_dispatch",
        "handle_received_heartbeat",
        "monitor_received_heartbeats",
        "close_client",
        "cancel_read_loop_task"}},
      {"BaseOneClientServerTestCase",
       {"BaseOneClientServerTestCase", "server_class", "run",
        "assert_next_connected", "connected", "timeout", "connect_callback",
        "create_server", "create_client", "wait_connected"}},
      {"TestOneClientReadLoopServer",
       {"TestOneClientReadLoopServer", "fail_next_read", "read_and_dispatch",
        "get_next_data"}},
  };
  EXPECT_EQ(missing(porting(), kWanted), Strings());
}

// "Suite.Name" of all, and "Suite".
std::set<std::string> tests_there_are() {
  static const std::set<std::string> kMacros = {"TEST", "TEST_F", "TEST_P",
                                                "TYPED_TEST"};
  std::set<std::string> result;
  std::map<std::string, std::string> tests;
  for (const char* const kind : {"unit", "risk", "oracle", "documents"}) {
    tests.merge(files(std::string("tests/") + kind, "_test.cc"));
  }
  for (const auto& [path, text] : tests) {
    const std::vector<CppToken> tokens = cpp_tokens(text);
    for (std::size_t i = 0; i + 4 < tokens.size(); ++i) {
      if (!kMacros.contains(tokens[i].text) || !tokens[i + 1].is("(")) continue;
      result.insert(tokens[i + 2].text);
      result.insert(tokens[i + 2].text + "." + tokens[i + 4].text);
    }
  }
  return result;
}

TEST(PortingTest, EveryTestThatItNamesExists) {
  const std::set<std::string> named = porting().tests();
  const std::set<std::string> existing = tests_there_are();
  EXPECT_GE(named.size(), 11u);
  for (const std::string& name : named) {
    EXPECT_TRUE(existing.contains(name)) << name;
  }
}

TEST(PortingTest, NamesEveryTestOfADefectOfUpstreams) {
  const std::set<std::string> named = porting().tests();
  for (const std::string& name : tests_there_are()) {
    if (name.starts_with("UpstreamDefect") && name.find('.') != name.npos) {
      EXPECT_TRUE(named.contains(name)) << name;
    }
  }
}

// A name that goes from the headers is noticed, whatever it names.
TEST(PortingTest, NoticesEachKindOfNameThatGoes) {
  const Names kGone = {
      {"tcpip/base_client_or_server.h",
       {"should_be_connected", "wait_done", "set_terminator", "read_into"}},
      {"tcpip/callback_queue.h", {"run_pending"}},
      {"tcpip/client.h", {"heartbeat_interval", "terminator"}},
      {"tcpip/connection_event.h", {"kHeartbeatLost", "generation"}},
      {"tcpip/constants.h", {"kKeepaliveProbes"}},
      {"tcpip/error.h", {"ResolveError", "queued"}},
      {"tcpip/json.h", {"read_json", "kMaxJsonDepth"}},
      {"tcpip/one_client_read_loop_server.h", {"ReadHandler"}},
      {"tcpip/one_client_server.h", {"expect_heartbeats", "addresses"}},
      {"tcpip/options.h", {"local_host", "reuse_port"}},
      {"tcpip/stream_reader.h", {"read_exactly", "at_eof"}},
      {"tcpip/stream_writer.h", {"is_closing", "close_stream_writer"}},
      {"tcpip/wire_type.h", {"allow_padding"}},
  };
  const PortingTable table = porting();
  const auto texts = headers();
  for (const auto& [header, names] : kGone) {
    for (const std::string& name : names) {
      auto changed = texts;
      for (auto& [path, text] : changed) {
        if (path != header) continue;
        for (std::size_t at = 0; (at = text.find(name, at)) != text.npos;) {
          text.replace(at, name.size(), "renamed");
        }
      }
      const Strings found =
          table.undeclared(names_of(changed), paths_of(changed));
      EXPECT_TRUE(std::any_of(found.begin(), found.end(),
                              [&](const std::string& fault) {
                                return fault.find(name) != fault.npos;
                              }))
          << name;
    }
  }
}

// --- The reader of tables ---

constexpr char kHeader[] = R"(
namespace tcpip {
enum class Colour { kRed, kGreen };
class Base {
 public:
  void inherited();
};
class Reader : public Base {
 public:
  int read(int count);
};
struct ReaderOptions {
  int limit = 0;
};
void open_reader(int host);
}
)";

// What is wrong with a table of that one cell, in the column C++ under the
// heading `Reader`.
Strings faults(const std::string& cpp, const std::string& other = "why") {
  CppNames names;
  names.add_header(kHeader);
  return PortingTable(
             "## `Reader`\n\n| Python | C++ | why |\n|---|---|---|\n"
             "| `python()` | " +
             cpp + " | " + other + " |\n")
      .undeclared(names, {"tcpip/reader.h"});
}

TEST(PortingTableTest, NamesThatAreDeclaredAreRight) {
  for (const char* span :
       {"`read(count)`", "`inherited()`", "`Reader::read`", "`tcpip::Reader`",
        "`Reader::inherited`", "`Colour::kRed`", "`.limit`", "`options.limit`",
        "`Reader({.limit = 1})`", "`open_reader`", "`open_reader(reader)`",
        "`std::string`", "`read({a, b})`", "`tcpip/reader.h`", "none",
        "`//tcpip:reader`", "read it yourself", "`read`, `open_reader`"}) {
    EXPECT_EQ(faults(span), Strings()) << span;
  }
}

TEST(PortingTableTest, InventedNamesAreReportedWithTheirLine) {
  const std::pair<const char*, const char*> kCases[] = {
      {"`invented()`", "invented"},
      {"`invented`", "invented"},
      {"`read(count)`, `invented(count)`", "invented"},
      {"`read(invented)`", "invented"},
      {"`Reader::invented`", "Reader::invented"},
      {"`Invented::read`", "Invented::read"},
      {"`Colour::kBlue`", "Colour::kBlue"},
      {"`kInvented`", "kInvented"},
      {"`.invented`", ".invented"},
      {"`.limit.invented`", ".invented"},
      {"`.read`", ".read"},
      {"`options.invented`", ".invented"},
      {"`Reader({.invented = 1})`", ".invented"},
      {"`invented.read()`", "invented"},
      {"`read(count).invented()`", "invented"},
      {"`tcpip/invented.h`", "no header tcpip/invented.h"},
      {"`kRed`", "kRed"},
      {"`count`", "count"},
      {"`tcpip::`", "tcpip"},
      {"`open_reader(host)`", "open_reader"},  // no member, and not its object
  };
  for (const auto& [span, name] : kCases) {
    const Strings found = faults(span);
    ASSERT_EQ(found.size(), 1u) << span;
    EXPECT_TRUE(found[0].starts_with("line 5: ")) << found[0];
    EXPECT_NE(found[0].find(name), std::string::npos) << found[0];
  }
}

TEST(PortingTableTest, ElsewhereOnlyWhatIsNotPythonIsLookedAt) {
  for (const char* span :
       {"`read_until`", "`a.b`", "`python()`", "`read()`", "`Reader::read`",
        "`except OSError`", "`.limit`", "`x = [1].append`"}) {
    EXPECT_EQ(faults("none", span), Strings()) << span;
  }
  for (const char* span :
       {"`invented()`", "`Reader::invented`", "`.invented`", "`kInvented`"}) {
    EXPECT_EQ(faults("none", span).size(), 1u) << span;
  }
}

TEST(PortingTableTest, OptionsAreThoseOfTheSection) {
  CppNames names;
  names.add_header(
      "struct ClientOptions { int a; int b; };"
      "struct BasicServerOptions { int b; int c; };");
  const auto right = [&](const std::string& heading,
                         const std::string& option) {
    return PortingTable("## " + heading +
                        "\n\n| Python | C++ |\n|---|---|\n| x | `." + option +
                        "` |\n")
        .undeclared(names, {})
        .empty();
  };
  EXPECT_TRUE(right("`Client`", "a"));
  EXPECT_FALSE(right("`Client`", "c"));
  EXPECT_FALSE(right("`OneClientServer`", "a"));
  EXPECT_TRUE(right("`OneClientServer`", "c"));
  EXPECT_TRUE(right("Text", "b"));
  EXPECT_FALSE(right("Text", "a"));
  EXPECT_TRUE(right("Anything", "a"));
  EXPECT_FALSE(right("Anything", "d"));
}

TEST(PortingTableTest, CodeBlocksAndPlainWordsAreNotLookedAt) {
  const PortingTable table(
      "text `invented()`\n\n"
      "```cpp\n| `invented()` |\n```\n\n"
      "    indented `invented()`\n");
  EXPECT_EQ(table.undeclared(CppNames(), {}).size(), 1u);
}

TEST(PortingTableTest, RowsThatExplainNothingAreReported) {
  const PortingTable table(
      "| Python | C++ | why |\n|---|---|---|\n| `a` | none | no use |\n"
      "| `b` | none | |\n| `c` | | x |\n| `d` | `d` | |\n");
  EXPECT_EQ(table.unexplained(), (Strings{"line 4: `b`", "line 5: `c`"}));
}

TEST(PortingTableTest, PythonNamesAreThoseOfTheHeading) {
  const PortingTable table(
      "## One\n\n| Python | C++ |\n|---|---|\n| `a(b=1)`, `c.d` | `e` |\n\n"
      "## `Two`\n\n| C++ | Python |\n|---|---|\n| `f` | `\"g\"` `h` i |\n");
  EXPECT_EQ(table.python_names("One"),
            (std::set<std::string>{"a", "b", "c", "d"}));
  EXPECT_EQ(table.python_names("Two"), std::set<std::string>{"h"});
  EXPECT_EQ(table.python_names("").size(), 5u);
}

TEST(PortingTableTest, TestsAreFoundInCodeSpans) {
  const PortingTable table(
      "| test |\n|---|\n| `UpstreamDefect3`, `UpstreamDefect4.Is`, "
      "`ReaderTest.Reads`, `Reader.read`, UpstreamDefect5 |\n");
  EXPECT_EQ(table.tests(),
            (std::set<std::string>{"UpstreamDefect3", "UpstreamDefect4.Is",
                                   "ReaderTest.Reads"}));
}

// --- The reader of headers ---

TEST(CppNamesTest, FindsWhatNamespacesAndClassesDeclare) {
  CppNames names;
  names.add_header(R"(
#define NOT_A_NAME { (
namespace tcpip {
// A comment's { and " do no harm.
inline constexpr std::size_t kLimit = 64 * 1'000;
inline constexpr std::chrono::seconds kTime{60};
template <class T, bool = (sizeof(T) > 4)>
concept Small = requires(T& t) { t.small(); };
enum class Level { kLow = 1, kHigh };
using Callback = std::function<void(int, const char*)>;
[[nodiscard]] bool look(std::string_view text = "}", char c = '"');
template <class Server>
struct BasicOptions {
  std::function<void(Server&, const Event&)> on_change = {};
  std::optional<std::string> host{};
};
class Reader final : public Base<int>, private internal::Hidden {
 public:
  explicit Reader(int fd) noexcept : fd_{fd}, other_(fd) {}
  explicit operator bool() const { return true; }
  bool operator()(int) const;
  auto operator<=>(const Reader&) const = default;
  std::map<int, std::vector<int>> table() const noexcept { return {}; }
  template <class... Args>
  void write(const Args&... args) {
    if (sizeof...(args) < 3) { inside(); }
  }
  struct Part {
    int piece;
  };

 protected:
  ~Reader();
  int shared() const;
  int array[3];
};
using Options = BasicOptions<Reader>;
}
)");
  for (const char* name : {"kLimit", "kTime", "Small", "Level", "Callback",
                           "look", "BasicOptions", "Reader", "Options"}) {
    EXPECT_TRUE(names.has_name(name)) << name;
  }
  for (const char* name : {"NOT_A_NAME", "t", "text", "kLow", "host", "inside",
                           "tcpip", "table", "small", "void"}) {
    EXPECT_FALSE(names.has_name(name)) << name;
  }
  for (const char* name :
       {"table", "write", "Part", "shared", "array", "Reader"}) {
    EXPECT_TRUE(names.has_member("Reader", name)) << name;
  }
  EXPECT_FALSE(names.has_member("Reader", "piece"));
  EXPECT_FALSE(names.has_member("Reader", "inside"));
  EXPECT_FALSE(names.has_member("Reader", "args"));
  EXPECT_TRUE(names.has_member("Part", "piece"));
  EXPECT_TRUE(names.has_member("Level", "kHigh"));
  EXPECT_TRUE(names.has_type("Options"));
  EXPECT_TRUE(names.has_member("Options", "on_change"));
  EXPECT_FALSE(names.has_member("Options", "table"));
  EXPECT_TRUE(names.has_option("host"));
  EXPECT_FALSE(names.has_option("table"));
}

TEST(CppNamesTest, MembersOfBasesAreMembers) {
  CppNames names;
  names.add_header(
      "namespace a { namespace internal { class Middle : public Top<int> "
      "{ public: void middle(); }; } }");
  names.add_header("template <class T> class Top { public: void top(); };");
  names.add_header("class Bottom final : public internal::Middle {};");
  EXPECT_TRUE(names.has_member("Bottom", "middle"));
  EXPECT_TRUE(names.has_member("Bottom", "top"));
  EXPECT_FALSE(names.has_member("Top", "middle"));
}

TEST(CppNamesTest, WhatAUserCannotNameDoesNotCount) {
  CppNames names;
  names.add_header(R"(
namespace tcpip {
class Announced;
namespace internal {
class Hidden {};
void hidden();
}
/* void removed(); */
class Reader {
  void by_default();
 public:
  friend class Friend;
  void read();
  void deleted() = delete;
  // void commented();
  using Base::brought_in;
 private:
  class Inner { public: int deep; };
  void secret();
};
}
)");
  for (const char* name :
       {"Announced", "Hidden", "hidden", "removed", "Friend"}) {
    EXPECT_FALSE(names.has_name(name)) << name;
  }
  EXPECT_FALSE(names.has_type("Hidden"));
  EXPECT_FALSE(names.has_type("Announced"));
  EXPECT_FALSE(names.has_type("Inner"));
  EXPECT_TRUE(names.has_member("Reader", "read"));
  for (const char* name : {"by_default", "deleted", "commented", "secret",
                           "Inner", "deep", "brought_in"}) {
    EXPECT_FALSE(names.has_member("Reader", name)) << name;
  }
}

TEST(CppNamesTest, BrokenTextComesToAnEnd) {
  for (const char* text : {"class A {", "}}}", "void f(", "template <", "\"",
                           "/*", "#", "using", "enum {", "operator", ""}) {
    CppNames names;
    names.add_header(text);
    EXPECT_FALSE(names.has_member("A", "a")) << text;
  }
}

}  // namespace
}  // namespace tcpip_tests
