// The documents: their C++ compiles (or this test does not build), the user
// guide's programs do what it says, links and paths lead somewhere. What the
// comments before their blocks mean stands in documents.py.
#include <gtest/gtest.h>
#include <signal.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tcpip/byte_order.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wire_type.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/subprocess.h"

// In the file that is made from the documents.
extern const int kDocumentSnippets;

namespace tcpip_tests {
namespace {

using tcpip::UniqueFd;
using Strings = std::vector<std::string>;

struct Outcome {
  int status;
  std::string output;
};

Outcome run(Strings arguments) {
  Subprocess process(std::move(arguments), Subprocess::Errors::kWithOutput);
  process.close_input();
  std::string output = process.read_all();
  return {process.wait(), std::move(output)};
}

Strings python(const std::string& script, Strings arguments) {
  const Strings start = {"python3", "-X", "utf8",
                         find_file("tests/documents/" + script)};
  arguments.insert(arguments.begin(), start.begin(), start.end());
  return arguments;
}

Strings program(const std::string& name, Strings arguments) {
  const std::string path = find_file("tests/documents/extracted/" + name);
  EXPECT_NE(path, "") << "no program " << name;
  arguments.insert(arguments.begin(), path);
  return arguments;
}

std::string new_folder() {
  std::string folder = testing::TempDir() + "/documents.XXXXXX";
  EXPECT_NE(::mkdtemp(folder.data()), nullptr);
  return folder;
}

// --- The blocks ---

TEST(DocumentsTest, EveryBlockOfCppCompiles) {
  EXPECT_GT(kDocumentSnippets, 10);
}

class ExtractTest : public testing::Test {
 protected:
  // What documents.py makes of a document with this text.
  Outcome extract(const std::string& text) {
    const std::string folder = new_folder();
    const std::string document = folder + "/document.md";
    std::ofstream(document) << text;
    Outcome outcome = run(
        python("documents.py", {"extract", "--out", folder + "/snippets.cc",
                                folder + "/greeter.cc", "--from", document}));
    if (outcome.output.starts_with(document)) {
      outcome.output.erase(0, document.size());
    }
    return outcome;
  }

  const std::string greeter_ =
      "<!-- program: greeter -->\n```cpp\nint main() {}\n```\n";

 private:
  HangGuard guard_;
};

TEST_F(ExtractTest, TakesWhatKeepsTheRules) {
  const Outcome outcome =
      extract(greeter_ +
              "```sh\nls\n```\n<!-- declarations -->\n```cpp\nint f();\n```\n"
              "<!-- snippet: int a,\n     int b -->\n```cpp\na + b;\n```\n" +
              greeter_);
  EXPECT_EQ(outcome.output, "");
  EXPECT_EQ(outcome.status, 0);
}

TEST_F(ExtractTest, RefusesWhatWouldGoUnseen) {
  const std::pair<std::string, std::string> kWrong[] = {
      {"```cpp\nf();\n```\n", ":6: no comment before this block"},
      {"<!-- snippet -->\n\n```cpp\nf();\n```\n", ":8: no comment before"},
      {"<!-- remark -->\n```cpp\nf();\n```\n", ":7: no comment before"},
      {"```c++\nf();\n```\n", ":6: call the language cpp"},
      {"<!-- snippet -->\n```cpp\n```\n", ":7: this block is empty"},
      {"<!-- snippet -->\n```cpp\nf();\n", ":7: this block is not closed"},
      {"```python\nf()\n````cpp\n", ":6: this block is not closed"},
      {"<!-- snippet -->\nNothing.\n", ":6: no block of cpp follows"},
      {"<!-- program -->\n```cpp\nf();\n```\n", ":6: a program needs a name"},
      {"<!-- program: other -->\n```cpp\nf();\n```\n",
       ":8: tests/documents/BUILD.bazel does not list other"},
      {"<!-- program: greeter -->\n```cpp\nf();\n```\n",
       ":8: the program greeter is another one than in "},
  };
  for (const auto& [text, complaint] : kWrong) {
    const Outcome outcome = extract(greeter_ + "\n" + text);
    EXPECT_EQ(outcome.status, 1) << text;
    EXPECT_TRUE(outcome.output.starts_with(complaint))
        << text << "gives " << outcome.output;
  }
  EXPECT_EQ(
      extract("").output,
      "tests/documents/BUILD.bazel:1: no document has the program greeter\n");
}

// --- Links ---

std::string workspace() {
  const std::string readme = find_file("README.md");
  return readme == "README.md" ? "." : readme.substr(0, readme.rfind('/'));
}

TEST(LinksTest, EachLeadsToWhatIsThere) {
  const HangGuard guard;
  const Outcome outcome = run(python("documents.py", {"check", workspace()}));
  EXPECT_EQ(outcome.output, "");
  EXPECT_EQ(outcome.status, 0);
}

TEST(LinksTest, WhatLeadsNowhereIsFound) {
  const HangGuard guard;
  const std::string folder = new_folder();
  std::ofstream(folder + "/there.md") << "# What is it?\n";
  std::filesystem::create_directories(folder + "/tests/risk");
  std::ofstream(folder + "/tests/risk/some_test.cc")
      << "TEST_F(SomeTest, IsThere) {\n}\n";
  std::ofstream(folder + "/document.md")
      << "[a](there.md), [b](there.md#what-is-it), [c](https://e.org/x),\n"
         "`[d](not-a-link)`\n"
         "[e](gone.md) [f\ng](there.md#gone)\n"
         "`tcpip/gone.h` `./examples/gone NAME` `other/gone.h`\n"
         "`risk/some_test: SomeTest.IsThere` `risk/some_test: SomeTest.*`\n"
         "`risk/some_test: SomeTest.IsGone` `risk/gone_test: SomeTest.*`\n"
         "`risk/some_test: GoneTest.*`\n"
         "```\n[h](gone.md) `tcpip/gone.h`\n```\n";
  const Outcome outcome = run(python("documents.py", {"check", folder}));
  EXPECT_EQ(outcome.output,
            "document.md:3: no file for the link gone.md\n"
            "document.md:4: no heading for the link there.md#gone\n"
            "document.md:5: no file tcpip/gone.h\n"
            "document.md:5: no file examples/gone\n"
            "document.md:7: no test risk/some_test: SomeTest.IsGone\n"
            "document.md:7: no test risk/gone_test: SomeTest.*\n"
            "document.md:8: no test risk/some_test: GoneTest.*\n");
  EXPECT_EQ(outcome.status, 1);
}

// --- What Doxygen reads ---

class ApiFilterTest : public testing::Test {
 protected:
  // What docs/api_filter.py makes of a file of that name and text.
  std::string filtered(const std::string& name, const std::string& text) {
    const std::string path = new_folder() + "/" + name;
    std::ofstream(path) << text;
    const Outcome outcome =
        run({"python3", "-B", find_file("docs/api_filter.py"), path});
    EXPECT_EQ(outcome.status, 0);
    return outcome.output;
  }

 private:
  HangGuard guard_;
};

TEST_F(ApiFilterTest, GivesACommentToAllThatFollowsWithoutAnEmptyLine) {
  EXPECT_EQ(filtered("thing.h",
                     "// A thing.\n"
                     "class Thing {\n"
                     " public:\n"
                     "  Thing(const Thing&) = delete;\n"
                     "  // Ends it; \"\\r\" & @.\n"
                     "  void close();\n"
                     "  void basic_close();\n"
                     "  int size = 0;  // in bytes\n"
                     "\n"
                     "  void forgotten();\n"
                     " protected:\n"
                     "  int inner();\n"
                     "};\n"),
            "/** @file\n A thing.\n */\n"
            "/**\n A thing.\n */\n"
            "class Thing {\n"
            " public:\n"
            "/**\n Ends it; \"\\r\" \\& \\@.\n */\n"
            "  void close();\n"
            "/**\n Ends it; \"\\r\" \\& \\@.\n */\n"
            "  void basic_close();\n"
            "  int size = 0;  ///< in bytes\n"
            "\n"
            "  void forgotten();\n"
            "/// @cond internal\n"
            " protected:\n"
            "  int inner();\n"
            "/// @endcond\n"
            "};\n");
}

TEST_F(ApiFilterTest, MakesTheLinksOfADocumentLeadToItsHeadings) {
  EXPECT_EQ(
      filtered("guide.md",
               "# Guide\n## What `is` it?\n<!-- snippet -->\n"
               "```cpp\nf(\"\\r\");\n```\n"
               "[a](#what-is-it) [b\nc](other.md#d) [e](https://e.org)\n"),
      "# Guide {#guide}\n## What is it? {#guide-what-is-it}\n"
      "@code{.cpp}\nf(\"\\r\");\n@endcode\n"
      "[a](@ref guide-what-is-it) [b c](@ref other-d) "
      "[e](https://e.org)\n");
}

// --- The user guide's programs ---

class GuideTest : public testing::Test {
 private:
  HangGuard guard_;
};

// What the guide's client prints if all comes back as it was sent.
constexpr const char* kAllBack = "[hello]\n[ two  words ]\n[12.5 \xc2\xb5m]\n";

class EchoServer : public Subprocess {
 public:
  EchoServer()
      : Subprocess(program("echo_server", {"0"}), Errors::kWithOutput),
        port_(read_line_after("listening on port ")) {}

  const std::string& port() const { return port_; }
  UniqueFd connect() const { return connect_to(std::stoi(port_)); }
  int end() {
    send_signal(SIGTERM);
    return wait();
  }
  // The next line, without the client's address, which must be the last
  // one's unless it is about a new client.
  std::string news() {
    const std::string line = read_line();
    const std::size_t blank = line.find(' ');
    const std::string news = line.substr(blank + 1);
    if (news == "connected") client_ = line.substr(0, blank);
    EXPECT_EQ(line.substr(0, blank), client_);
    return news;
  }

 private:
  const std::string port_;
  std::string client_;
};

using GuideEchoServerTest = GuideTest;

TEST_F(GuideEchoServerTest, SendsLinesBackToAPythonClient) {
  EchoServer server;
  for (int i = 0; i < 3; ++i) {
    const Outcome outcome =
        run(python("echo_peer.py", {"client", server.port(), "hello",
                                    " two  words ", "", "gr\xc3\xbc\xc3\x9f"}));
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.output,
              "b'hello\\r\\n'\nb' two  words \\r\\n'\nb'\\r\\n'\n"
              "b'gr\\xc3\\xbc\\xc3\\x9f\\r\\n'\n");
    EXPECT_EQ(server.news(), "connected");
    EXPECT_EQ(server.news(), "gone: peer closed");
  }
  EXPECT_EQ(server.end(), -SIGTERM);
}

TEST_F(GuideEchoServerTest, TurnsASecondClientAway) {
  EchoServer server;
  const UniqueFd first = server.connect();
  EXPECT_EQ(server.news(), "connected");
  EXPECT_EQ(recv_until_eof(server.connect()), "");
  send_all(first, "still here\r\n");
  EXPECT_EQ(recv_exact(first, 12), "still here\r\n");
}

TEST_F(GuideEchoServerTest, GoesOnAfterARudeClient) {
  EchoServer server;
  {
    const UniqueFd client = server.connect();
    EXPECT_EQ(server.news(), "connected");
    send_all(client, "no text: \xff\r\n");
    EXPECT_EQ(recv_until_eof(client), "");
    EXPECT_NE(server.read_line().find("WARNING"), std::string::npos);
    EXPECT_EQ(server.news(), "gone: closed here");
  }
  UniqueFd client = server.connect();
  EXPECT_EQ(server.news(), "connected");
  reset(std::move(client));
  EXPECT_EQ(server.news(), "gone: reset");
  server.connect();
  EXPECT_EQ(server.news(), "connected");
}

// --- The README's programs ---

class FirstServer : public Subprocess {
 public:
  FirstServer()
      : Subprocess(program("first_server", {"0"}), Errors::kWithOutput),
        port_(read_line_after("listening on port ")) {}

  const std::string& port() const { return port_; }

 private:
  const std::string port_;
};

using FirstServerTest = GuideTest;

TEST_F(FirstServerTest, EndsInAnOrderlyWay) {
  for (const int number : {SIGINT, SIGTERM}) {
    FirstServer server;
    const UniqueFd client = connect_to(std::stoi(server.port()));
    send_all(client, "hello\r\n");
    EXPECT_EQ(recv_exact(client, 17), "you said: hello\r\n");
    EXPECT_TRUE(server.read_line().starts_with("connected: 127.0.0.1:"));
    server.send_signal(number);
    EXPECT_EQ(recv_until_eof(client), "");
    EXPECT_TRUE(server.read_line().starts_with("closed here: 127.0.0.1:"));
    EXPECT_EQ(server.read_line(), "ended by signal " + std::to_string(number));
    EXPECT_EQ(server.wait(), 0);
  }
}

TEST_F(FirstServerTest, SaysWhyItCannotStart) {
  FirstServer server;
  const Outcome second = run(program("first_server", {server.port()}));
  EXPECT_NE(second.output.find("Address already in use"), std::string::npos)
      << second.output;
  EXPECT_EQ(second.status, 1);
}

TEST_F(FirstServerTest, AnswersTheFirstClient) {
  FirstServer server;
  const Outcome outcome = run(program("first_client", {server.port()}));
  EXPECT_EQ(outcome.output, "you said: hello\n");
  EXPECT_EQ(outcome.status, 0);
}

// --- The guide's poller ---

using GuidePollerTest = GuideTest;

// The next line that is no connection event; those may come before or after.
std::string next_reading(Subprocess& poller) {
  for (;;) {
    std::string line = poller.read_line();
    if (!line.starts_with("connected: ") && !line.starts_with("closed here")) {
      return line;
    }
  }
}

TEST_F(GuidePollerTest, TakesNoLateAnswerForTheNextOne) {
  const PlainListener thermometer = plain_listener(Transport::kIpv4);
  Subprocess poller(program("poller", {std::to_string(thermometer.port)}),
                    Subprocess::Errors::kWithOutput);
  const std::string question = "temperature?\r\n";
  {
    const UniqueFd connection = accept_one(thermometer);
    EXPECT_EQ(recv_exact(connection, question.size()), question);
    send_all(connection, "20.5\r\n");
    EXPECT_EQ(next_reading(poller), "20.5");
    EXPECT_EQ(recv_exact(connection, question.size()), question);
    EXPECT_NE(next_reading(poller).find("timed out"), std::string::npos);
    EXPECT_EQ(recv_until_eof(connection), "");
    send_all(connection, "too late\r\n");
  }
  const UniqueFd connection = accept_one(thermometer);
  EXPECT_EQ(recv_exact(connection, question.size()), question);
  send_all(connection, "21.5\r\n");
  EXPECT_EQ(next_reading(poller), "21.5");
  poller.send_signal(SIGTERM);
  EXPECT_EQ(poller.wait(), 0);
}

// --- The guide's table of formats ---

// A member of each type of the table, in its order.
struct AllFormats {
  std::int8_t b{};
  std::uint8_t u{};
  std::uint8_t truth{};
  char c{};
  tcpip::BigEndian<std::int16_t> h{};
  tcpip::BigEndian<std::uint16_t> uh{};
  tcpip::BigEndian<std::int32_t> i{};
  tcpip::BigEndian<std::uint32_t> ui{};
  tcpip::BigEndian<std::int64_t> q{};
  tcpip::BigEndian<std::uint64_t> uq{};
  tcpip::BigEndian<float> f{};
  tcpip::BigEndian<double> d{};
  std::array<char, 10> s{};
  std::array<tcpip::BigEndian<std::int16_t>, 3> three{};
  std::array<std::uint8_t, 4> spare{};
  tcpip::LittleEndian<std::int32_t> little{};
};

TEST(GuideFormatsTest, HaveTheBytesOfPython) {
  const HangGuard guard;
  const Outcome outcome = run(
      {"python3", "-c",
       "import struct\n"
       "data = struct.pack('>bB?chHlLqQfd10s3h4x', -2, 200, True, b'k', -300,\n"
       "    60000, -70000, 4000000000, -5000000000, 2**63 + 1, 0.5, -1.25,\n"
       "    b'dome', 1, 2, -3) + struct.pack('<i', -70000)\n"
       "print(data.hex())"});
  const std::string bytes = tcpip::pack(
      AllFormats{.b = -2,
                 .u = 200,
                 .truth = 1,
                 .c = 'k',
                 .h = std::int16_t{-300},
                 .uh = std::uint16_t{60000},
                 .i = -70000,
                 .ui = 4000000000u,
                 .q = std::int64_t{-5000000000},
                 .uq = (std::uint64_t{1} << 63) + 1,
                 .f = 0.5f,
                 .d = -1.25,
                 .s = {'d', 'o', 'm', 'e'},
                 .three = {std::int16_t{1}, std::int16_t{2}, std::int16_t{-3}},
                 .little = -70000});
  std::ostringstream hex;
  for (const char byte : bytes) {
    hex << std::hex << std::setw(2) << std::setfill('0')
        << static_cast<unsigned>(static_cast<unsigned char>(byte));
  }
  EXPECT_EQ(hex.str() + "\n", outcome.output);
}

using GuideEchoClientTest = GuideTest;

TEST_F(GuideEchoClientTest, TalksToTheEchoServer) {
  EchoServer server;
  const Outcome outcome = run(program("echo_client", {server.port()}));
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.output, kAllBack);
  EXPECT_EQ(server.news(), "connected");
  EXPECT_EQ(server.news(), "gone: peer closed");
}

TEST_F(GuideEchoClientTest, TalksToAPythonServer) {
  Subprocess server(python("echo_peer.py", {"server"}),
                    Subprocess::Errors::kWithOutput);
  const std::string port = server.read_line_after("port ");
  const Outcome outcome = run(program("echo_client", {port}));
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.output, kAllBack);
  EXPECT_EQ(
      server.read_all(),
      "b'hello\\r\\n'\nb' two  words \\r\\n'\nb'12.5 \\xc2\\xb5m\\r\\n'\n");
  EXPECT_EQ(server.wait(), 0);
}

TEST_F(GuideEchoClientTest, SaysWhyItCannotConnect) {
  const Outcome outcome =
      run(program("echo_client", {std::to_string(refusing_port())}));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("refused"), std::string::npos)
      << outcome.output;
}

}  // namespace
}  // namespace tcpip_tests
