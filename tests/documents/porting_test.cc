// PORTING.md against Python and against the tests that it names; and the reader
// of tables that this takes. That its C++ names exist is for the compiler to
// say: this program needs :porting_names, which porting.py makes of the
// document and which has nothing in it to run.
#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

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
        "CLOSE_WAIT_TIME", "STD_TIMEOUT", "__version__"}},
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
        "with",
        "reader",
        "writer"}},
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
        "cancel_read_loop_task",
        "should_be_connected"}},
      {"Subclasses",
       {"start", "close", "close_client", "read_loop", "read_and_dispatch",
        "call_connect_callback"}},
      {"BaseOneClientServerTestCase",
       {"BaseOneClientServerTestCase", "server_class", "run",
        "assert_next_connected", "connected", "timeout", "connect_callback",
        "create_server", "create_client", "wait_connected", "connect_queue"}},
      {"TestOneClientReadLoopServer",
       {"TestOneClientReadLoopServer", "fail_next_read", "read_and_dispatch",
        "get_next_data"}},
  };
  EXPECT_EQ(missing(porting(), kWanted), Strings());
}

// "Suite.Name" of all, and "Suite".
std::set<std::string> tests_there_are() {
  static const std::regex kTest(
      R"((^|\n)(TEST|TEST_F|TEST_P|TYPED_TEST)\(\s*(\w+),\s*(\w+)\))");
  std::set<std::string> result;
  std::map<std::string, std::string> tests;
  for (const char* const kind : {"unit", "risk", "oracle", "documents"}) {
    tests.merge(files(std::string("tests/") + kind, "_test.cc"));
  }
  for (const auto& [path, text] : tests) {
    for (std::sregex_iterator it(text.begin(), text.end(), kTest), end;
         it != end; ++it) {
      result.insert(it->str(3));
      result.insert(it->str(3) + "." + it->str(4));
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

// --- porting.py, on small documents ---

// A stand-in for porting_prelude.h and the headers.
constexpr char kPrelude[] = R"(
#define final
#include <initializer_list>
#include <stdexcept>
#include <type_traits>
#include <utility>
namespace tcpip {
enum class Colour { kRed, kGreen };
inline constexpr int kDefault = 1;
template <class T> concept Small = sizeof(T) < 8;
template <class T> struct Number {};
struct ClientOptions { int a; int b; };
struct ServerOptions { int b; int c; };
struct ReaderOptions { int limit = 0; struct { int low = 0; } marks; };
class Base {
 public:
  void inherited();
  void inherited(int);
};
class StreamReader final : public Base {
 public:
  struct Part {};
  explicit StreamReader(ReaderOptions);
  int read(int count);
  int read(std::initializer_list<int>);
  static constexpr int kSize = 2;
 protected:
  void shared();
 private:
  void secret();
};
struct ConnectionEvent { int reason; };
void open_reader(int host);
void open_reader(StreamReader& reader);
}
namespace tcpip_testing { class Fixture {}; }
namespace porting {
using namespace tcpip;
using namespace tcpip_testing;
template <class... T> struct Types {};
template <class T, class Other> struct Both : T, Other {};
using AllClasses = Types<StreamReader, ConnectionEvent>;
using AllOptions =
    Types<ReaderOptions, ClientOptions, ServerOptions>;
namespace argument {
extern const int count, host;
extern StreamReader reader;
}
}
)";

// The lines of a document that the compiler finds fault with.
std::set<int> faulty_lines(const std::string& document) {
  const Path directory(testing::TempDir());
  std::ofstream(directory / "PORTING.md") << document;
  std::ofstream(directory / "prelude.h") << kPrelude;
  const auto run = [&](std::vector<std::string> command) {
    command.insert(command.begin(), {"env", "-C", directory.string()});
    Subprocess process(command, Subprocess::Errors::kWithOutput);
    const std::string output = process.read_all();
    return std::pair(process.wait(), output);
  };
  const auto [status, said] =
      run({"python3",
           std::filesystem::absolute(find_file("tests/documents/porting.py"))
               .string(),
           "PORTING.md", "prelude.h", "names.cc"});
  EXPECT_EQ(status, 0) << said;
  const auto [failed, errors] =
      run({"c++", "-std=c++20", "-fsyntax-only", "names.cc"});
  static const std::regex kError("(^|\n)PORTING.md:(\\d+):[^\n]*error: ");
  std::set<int> result;
  for (std::sregex_iterator it(errors.begin(), errors.end(), kError), end;
       it != end; ++it) {
    result.insert(std::stoi(it->str(2)));
  }
  EXPECT_EQ(failed != 0, !result.empty()) << errors;
  return result;
}

// A table with a row for each cell of the column C++, from line 5 on.
std::string table_of(const Strings& cells, const std::string& heading) {
  std::string result =
      "## " + heading + "\n\n| Python | C++ | why |\n|---|---|---|\n";
  for (const std::string& cell : cells) {
    result += "| `python()` | " + cell + " | why |\n";
  }
  return result;
}

std::set<int> lines_from(int first, std::size_t count) {
  std::set<int> result;
  for (std::size_t i = 0; i < count; ++i) {
    result.insert(first + static_cast<int>(i));
  }
  return result;
}

TEST(PortingNamesTest, NamesThatExistCompile) {
  const Strings cells = {"`read(count)`",
                         "`read({count, host})`",
                         "`inherited()`",
                         "`shared()`",
                         "`StreamReader::read`",
                         "`StreamReader::inherited`",
                         "`StreamReader::shared`",
                         "`StreamReader::Part`",
                         "`StreamReader::kSize`",
                         "`StreamReader`, `Small`, `Number`, `open_reader`",
                         "`tcpip::StreamReader`",
                         "`tcpip_testing::Fixture`, `Fixture`",
                         "`Colour::kRed`",
                         "`kDefault`",
                         "`.limit`, `.marks.low`",
                         "`StreamReader({.limit = count})`",
                         "`open_reader(reader)`, `open_reader(host)`",
                         "`std::logic_error`, `//tcpip:json`, none",
                         "read it yourself"};
  EXPECT_EQ(faulty_lines(table_of(cells, "`StreamReader`")), std::set<int>());
}

TEST(PortingNamesTest, EachKindOfNameThatDoesNotExistIsAnErrorInItsLine) {
  const Strings cells = {"`invented()`",
                         "`invented`",
                         "`Invented`",
                         "`read(count)`, `invented(count)`",
                         "`read(invented)`",
                         "`read(count, count, count)`",
                         "`secret()`",
                         "`StreamReader::invented`",
                         "`StreamReader::secret`",
                         "`Invented::read`",
                         "`Colour::kBlue`",
                         "`StreamReader::kInvented`",
                         "`kInvented`",
                         "`kRed`",
                         "`.invented`",
                         "`.limit.invented`",
                         "`.marks.invented`",
                         "`.read`",
                         "`StreamReader({.invented = count})`",
                         "`invented.read()`",
                         "`reader.invented()`",
                         "`count`",
                         "`tcpip::Invented`",
                         "`tcpip_testing::StreamReader`"};
  EXPECT_EQ(faulty_lines(table_of(cells, "`StreamReader`")),
            lines_from(5, cells.size()));
  EXPECT_EQ(faulty_lines(table_of({"`tcpip/invented.h`"}, "x")),
            lines_from(5, 1));
}

// Outside of a class's section there are no members.
TEST(PortingNamesTest, CallsAreOfTheHeadingsClass) {
  EXPECT_EQ(faulty_lines(table_of({"`read(count)`", "`open_reader(host)`"},
                                  "Something else")),
            std::set<int>({5}));
}

TEST(PortingNamesTest, OptionsAreThoseOfTheSection) {
  std::string document;  // six lines a section, the option in the fifth
  for (const auto& [heading, option] :
       Names{{"`Client`", {".a", ".c"}},
             {"`OneClientServer`", {".c", ".a"}},
             {"Text", {".b", ".a"}},
             {"Something else", {".a", ".d"}}}) {
    for (const std::string& each : option) {
      document += table_of({"`" + each + "`"}, heading) + "\n";
    }
  }
  EXPECT_EQ(faulty_lines(document), (std::set<int>{11, 23, 35, 47}));
}

TEST(PortingNamesTest, ADocumentWithoutTablesIsAnError) {
  const std::string path = testing::TempDir() + "/no_tables.md";
  std::ofstream(path) << "`invented()`\n";
  Subprocess process({"python3", find_file("tests/documents/porting.py"), path,
                      "prelude.h", testing::TempDir() + "/names.cc"},
                     Subprocess::Errors::kWithOutput);
  EXPECT_NE(process.read_all().find("no table"), std::string::npos);
  EXPECT_EQ(process.wait(), 1);
}

TEST(PortingNamesTest, ElsewhereOnlyWhatIsNotPythonIsLookedAt) {
  const std::string document =
      "`read_until`, `a.b`, `python()`, `read()`, `except OSError`\n"
      "`StreamReader::read`, `.limit`, `kDefault`, `event.reason`\n"
      "`open_reader(accepted.fd)`, `x = [1].append`, `std::anything`\n"
      "`invented()`\n"
      "`StreamReader::invented`\n"
      "`.invented`\n"
      "`kInvented`\n"
      "`event.invented`\n"
      "`secret_of_nobody(1)`\n\n"
      "```cpp\n`invented()`\n```\n\n"
      "    indented `invented()`\n\n"
      "| Python | C++ | why |\n|---|---|---|\n"
      "| `python()` | `open_reader(host)` | `invented()` |\n";
  EXPECT_EQ(faulty_lines(document), (std::set<int>{4, 5, 6, 7, 8, 9, 19}));
}

// --- The reader of tables ---

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

}  // namespace
}  // namespace tcpip_tests
