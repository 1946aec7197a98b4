// The example programs, as processes, with bare sockets for peers.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tcpip/unique_fd.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/subprocess.h"

namespace tcpip_tests {
namespace {

using std::chrono::steady_clock;
using tcpip::UniqueFd;
using Strings = std::vector<std::string>;

Strings command(const std::string& name, Strings arguments) {
  const std::string path = find_file("examples/" + name);
  EXPECT_NE(path, "") << "no program " << name;
  arguments.insert(arguments.begin(), path);
  return arguments;
}

// An example that runs to its end.
struct Outcome {
  int status;
  std::string output;
};
Outcome run(const std::string& name, Strings arguments) {
  Subprocess process(command(name, std::move(arguments)),
                     Subprocess::Errors::kWithOutput);
  std::string output = process.read_all();
  return {process.wait(), std::move(output)};
}

// An example that listens. What it logs can be read too.
class Server : public Subprocess {
 public:
  explicit Server(const std::string& name, Strings arguments = {})
      : Subprocess(command(name, std::move(arguments)), Errors::kWithOutput),
        port_(read_line_after("listening on 127.0.0.1:")) {}

  const std::string& port() const { return port_; }
  UniqueFd connect() const { return connect_to(std::stoi(port_)); }
  int stop(int signal_number = SIGINT) {
    send_signal(signal_number);
    return wait();
  }

 private:
  std::string port_;
};

// The big-endian number of that many bytes at the front, taken off.
std::uint64_t take_number(std::string& bytes, std::size_t size) {
  std::uint64_t result = 0;
  for (std::size_t i = 0; i < size; ++i) {
    result = result << 8 | static_cast<unsigned char>(bytes.at(i));
  }
  bytes.erase(0, size);
  return result;
}

double take_double(std::string& bytes) {
  return std::bit_cast<double>(take_number(bytes, 8));
}

std::string line_from(const UniqueFd& fd) {
  std::string line;
  do {
    const std::string byte = recv_exact(fd, 1);
    if (byte.empty()) return line + "<end>";
    line += byte;
  } while (line.back() != '\n');
  return line;
}

class ExamplesTest : public testing::Test {
 private:
  HangGuard guard_;
};

// --- echo_server ---

using EchoServer = ExamplesTest;

void expect_echo(const UniqueFd& client, const std::string& line) {
  send_all(client, line);
  EXPECT_EQ(recv_exact(client, line.size()), line);
}

TEST_F(EchoServer, EchoesLines) {
  Server server("echo_server");
  const UniqueFd client = server.connect();
  expect_echo(client, "hello\r\n");
  expect_echo(client, "as netcat ends them\n");
  expect_echo(client, "\n");
  expect_echo(client, "one\ntwo\nthree\n");
  expect_echo(client, "gr\xc3\xbc\xc3\x9f dich, \xff too\n");
  expect_echo(client, std::string(65536, 'x') + "\n");
  expect_echo(client, "structure is no struct\n");
  send_all(client, "cut");
  half_close(client);
  EXPECT_EQ(recv_until_eof(client), "");
  EXPECT_EQ(server.stop(), 0);
}

TEST_F(EchoServer, ExchangesStructs) {
  using std::string_literals::operator""s;
  Server server("echo_server");
  const UniqueFd client = server.connect();
  for (const std::string end : {"\n", "\r\n"}) {
    send_all(client, "struct" + end + "\0\0\1\xff\x3f\xf8\0\0\0\0\0\0"s);
    EXPECT_EQ(recv_exact(client, 12), "\0\0\2\0\x3f\xf8\0\0\0\0\0\0"s);
    expect_echo(client, "text again\n");
  }
  EXPECT_EQ(server.stop(), 0);
}

TEST_F(EchoServer, TurnsASecondClientAway) {
  Server server("echo_server");
  const UniqueFd client = server.connect();
  expect_echo(client, "first\n");
  for (int i = 0; i < 5; ++i) {
    const UniqueFd second = server.connect();
    send_all(second, "second\n");
    const Ending ending = recv_ending(second);
    EXPECT_EQ(ending.data, "");
    EXPECT_EQ(ending.error, 0);  // the end of the stream, not a reset
    expect_echo(client, "still served\n");
  }
  EXPECT_EQ(server.stop(), 0);
}

TEST_F(EchoServer, OutlivesItsClients) {
  Server server("echo_server");
  for (int i = 0; i < 10; ++i) {
    UniqueFd rude = server.connect();
    expect_echo(rude, "hello\n");
    send_all(rude, "not read\nnot ended");
    reset(std::move(rude));
    const UniqueFd endless = server.connect();
    send_all(endless, std::string(100'000, 'x'));
    EXPECT_EQ(recv_ending(endless).data, "");
  }
  expect_echo(server.connect(), "hello\n");
  EXPECT_EQ(server.stop(), 0);
}

TEST_F(EchoServer, EndsAtASignal) {
  for (const int signal_number : {SIGINT, SIGTERM}) {
    Server server("echo_server");
    const UniqueFd client = server.connect();
    expect_echo(client, "hello\n");
    const auto seconds =
        seconds_of([&] { EXPECT_EQ(server.stop(signal_number), 0); });
    EXPECT_LT(seconds, 2 * kPrompt);
    const Ending ending = recv_ending(client);
    EXPECT_EQ(ending.data, "");
    EXPECT_EQ(ending.error, 0);
  }
}

TEST_F(EchoServer, SaysWhyItCannotStart) {
  Server server("echo_server");
  const Outcome outcome = run("echo_server", {"--port", server.port()});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("Address already in use"), std::string::npos)
      << outcome.output;
  EXPECT_EQ(run("echo_server", {"--bogus"}).status, 2);
  EXPECT_EQ(run("echo_server", {"--port"}).status, 2);
  EXPECT_EQ(run("echo_server", {"--port", "4000x"}).status, 2);
}

// --- echo_client ---

using EchoClient = ExamplesTest;

TEST_F(EchoClient, ExchangesTextAndAStruct) {
  Server server("echo_server");
  const Outcome outcome =
      run("echo_client", {"--port", server.port(), "hello", "", "two words"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.output,
            "text: hello\ntext: \ntext: two words\n"
            "struct: sequence 42, value -1.5\n");
  EXPECT_EQ(server.stop(), 0);
}

TEST_F(EchoClient, IsTurnedAway) {
  Server server("echo_server");
  const UniqueFd first = server.connect();
  expect_echo(first, "first\n");
  const Outcome outcome = run("echo_client", {"--port", server.port()});
  EXPECT_EQ(outcome.status, 3);
  EXPECT_EQ(outcome.output, "turned away\n");
}

TEST_F(EchoClient, FindsNoServer) {
  const Outcome outcome =
      run("echo_client", {"--port", std::to_string(refusing_port())});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("refused"), std::string::npos)
      << outcome.output;
}

TEST_F(EchoClient, NoticesAWrongEcho) {
  const PlainListener listener = plain_listener(Transport::kIpv4);
  Subprocess client(
      command("echo_client", {"--port", std::to_string(listener.port)}),
      Subprocess::Errors::kWithOutput);
  const UniqueFd connection = accept_one(listener);
  EXPECT_EQ(line_from(connection), "hello\r\n");
  send_all(connection, "hullo\r\n");
  EXPECT_EQ(client.read_line(), "echo_client: got other text: hullo");
  EXPECT_EQ(client.wait(), 1);
}

TEST_F(EchoClient, EndsAtASignal) {
  for (const int signal_number : {SIGINT, SIGTERM}) {
    const PlainListener listener = plain_listener(Transport::kIpv4);
    Subprocess client(
        command("echo_client", {"--port", std::to_string(listener.port)}),
        Subprocess::Errors::kWithOutput);
    const UniqueFd connection = accept_one(listener);
    EXPECT_EQ(line_from(connection), "hello\r\n");
    client.send_signal(signal_number);
    EXPECT_EQ(client.read_line(), "echo_client: interrupted");
    EXPECT_EQ(client.wait(), 1);
    EXPECT_EQ(recv_until_eof(connection), "");
  }
}

// --- struct_telemetry ---

using StructTelemetry = ExamplesTest;

TEST_F(StructTelemetry, SendsBigEndianStructs) {
  Server server("struct_telemetry");
  const UniqueFd client = server.connect();
  for (unsigned i = 0; i < 21; ++i) {
    std::string header = recv_exact(client, 16);
    const std::uint64_t kind = take_number(header, 2);
    const std::uint64_t size = take_number(header, 2);
    EXPECT_EQ(take_number(header, 4), i);
    EXPECT_GT(take_number(header, 8), 1'600'000'000'000'000'000u);
    std::string body = recv_exact(client, size);
    if (i % 10 == 9) {
      EXPECT_EQ(kind, 2u);
      ASSERT_EQ(size, 7u);
      EXPECT_EQ(take_number(body, 1), i == 9 ? 1u : 0u);
      EXPECT_EQ(std::bit_cast<float>(
                    static_cast<std::uint32_t>(take_number(body, 4))),
                -3.25f);
      EXPECT_EQ(static_cast<std::int16_t>(take_number(body, 2)), -90);
    } else {
      EXPECT_EQ(kind, 1u);
      ASSERT_EQ(size, 24u);
      EXPECT_EQ(take_double(body), i);
      EXPECT_EQ(take_double(body), -static_cast<double>(i));
      EXPECT_EQ(take_double(body), i / 4.0);
    }
  }
  EXPECT_EQ(server.stop(), 0);
}

TEST_F(StructTelemetry, ReceivesAndChecksThem) {
  Server server("struct_telemetry");
  const Outcome outcome =
      run("struct_telemetry",
          {"--connect", "--port", server.port(), "--count", "25"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_NE(outcome.output.find("received 25 messages, all right\n"),
            std::string::npos)
      << outcome.output;
  EXPECT_EQ(server.stop(SIGTERM), 0);
}

TEST_F(StructTelemetry, GoesOnWithTheNextClient) {
  Server server("struct_telemetry");
  for (int i = 0; i < 5; ++i) {
    UniqueFd client = server.connect();
    EXPECT_EQ(recv_exact(client, 40).size(), 40u);
    reset(std::move(client));
  }
  EXPECT_EQ(server.stop(), 0);
}

TEST_F(StructTelemetry, EndsWhenAllIsSent) {
  Server server("struct_telemetry", {"--count", "3"});
  const UniqueFd client = server.connect();
  EXPECT_EQ(recv_until_eof(client).size(), 3u * 40);
  EXPECT_EQ(server.read_line(), "sent all");
  EXPECT_EQ(server.wait(), 0);
}

TEST_F(StructTelemetry, NoticesWhatIsWrong) {
  using std::string_literals::operator""s;
  const std::string time(8, '\0');
  const std::string position(24, '\0');
  const auto outcome_of = [](const std::string& bytes) {
    const PlainListener listener = plain_listener(Transport::kIpv4);
    Subprocess client(
        command("struct_telemetry", {"--connect", "--count", "2", "--port",
                                     std::to_string(listener.port)}),
        Subprocess::Errors::kWithOutput);
    {
      const UniqueFd connection = accept_one(listener);
      send_all(connection, bytes);
      half_close(connection);
      recv_until_eof(connection);
    }
    std::string output = client.read_all();
    return Outcome{client.wait(), std::move(output)};
  };
  const std::string first = "\0\1\0\x18\0\0\0\0"s + time + position;
  // The kind after that is not known: the client passes it by.
  EXPECT_EQ(outcome_of(first + "\0\7\0\3\0\0\0\1"s + time + "???").status, 0);
  EXPECT_EQ(outcome_of(first + first).status, 1);  // sequence
  EXPECT_EQ(outcome_of("\0\1\0\x17\0\0\0\0"s + time + position).status, 1);
  EXPECT_EQ(outcome_of("\0\1\0\x18\0\0\0\1"s + time + position).status, 1);
  EXPECT_EQ(outcome_of(first).status, 1);  // no second message
}

// --- control_loop ---

using ControlLoop = ExamplesTest;

// The answer to a command, whatever telemetry comes before it.
std::string answer(const UniqueFd& client, const std::string& text) {
  send_all(client, text + "\n");
  std::string line;
  do {
    line = line_from(client);
  } while (line.starts_with("position "));
  return line;
}

TEST_F(ControlLoop, TakesCommandsAndSendsTelemetry) {
  Server server("control_loop");
  const UniqueFd client = server.connect();
  EXPECT_EQ(line_from(client), "position 0 demand 0\n");
  EXPECT_EQ(answer(client, "move 0.2"), "ok\n");
  for (const std::string at : {"0.05", "0.1", "0.15", "0.2", "0.2"}) {
    EXPECT_EQ(line_from(client), "position " + at + " demand 0.2\n");
  }
  EXPECT_EQ(answer(client, "move -1000\r"), "ok\n");
  EXPECT_EQ(answer(client, "stop"), "ok\n");
  const std::string stopped = line_from(client);
  EXPECT_EQ(line_from(client), stopped);
  EXPECT_EQ(answer(client, "dance"), "error unknown command: dance\n");
  EXPECT_EQ(answer(client, "move"), "error unknown command: move\n");
  EXPECT_EQ(answer(client, ""), "error unknown command: \n");
  EXPECT_EQ(server.stop(SIGTERM), 0);
}

TEST_F(ControlLoop, StandsStillWhenItsClientIsGone) {
  Server server("control_loop");
  EXPECT_EQ(answer(server.connect(), "move 1e9"), "ok\n");
  const UniqueFd next = server.connect();
  const std::string line = line_from(next);
  EXPECT_EQ(line_from(next), line);
  EXPECT_EQ(server.stop(), 0);
}

TEST_F(ControlLoop, AnswersNobodyButTheClientThatAsked) {
  Server server("control_loop");
  for (int i = 0; i < 20; ++i) {
    UniqueFd asks = server.connect();
    send_all(asks, "stop\nstop\nstop\n");
    if (i % 2 == 0) {
      reset(std::move(asks));
    } else {
      asks.reset();
    }
    const UniqueFd next = server.connect();
    for (int lines = 0; lines < 3; ++lines) {
      EXPECT_TRUE(line_from(next).starts_with("position "));
    }
  }
  EXPECT_EQ(server.stop(), 0);
}

struct Summary {
  long periods = 0;
  long missed = 0;
  int clients = 0;
  double worst_ms = 0;
};
Summary summary_of(const std::string& line) {
  Summary result;
  std::string word;
  std::istringstream words(line);
  words >> result.periods >> word >> result.missed >> word >> result.clients >>
      word >> word >> result.worst_ms;
  EXPECT_TRUE(words) << line;
  return result;
}

TEST_F(ControlLoop, RunsForTheTimeItIsGiven) {
  const Outcome outcome = run("control_loop", {"--seconds", "0.5"});
  EXPECT_EQ(outcome.status, 0);
  const std::size_t start = outcome.output.find("periods ");
  ASSERT_NE(start, std::string::npos) << outcome.output;
  const Summary summary = summary_of(outcome.output.substr(start + 8));
  EXPECT_NEAR(static_cast<double>(summary.periods + summary.missed), 50, 2)
      << outcome.output;
}

// Sends as much as goes without waiting.
void flood(const UniqueFd& client, std::string_view bytes) {
  while (::send(client.get(), bytes.data(), bytes.size(),
                MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {
  }
  EXPECT_EQ(errno, EAGAIN);
}

TEST_F(ControlLoop, KeepsItsPeriodWhateverClientsDo) {
  const auto before = steady_clock::now();
  Server server("control_loop");
  const auto started = steady_clock::now();
  int clients = 0;
  const auto connect = [&] {
    ++clients;
    return server.connect();
  };

  // They come and go, with and without a word.
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(answer(connect(), "stop"), "ok\n");
    connect();
    UniqueFd client = connect();
    send_all(client, "move 1\nmove");
    reset(std::move(client));
  }
  // They talk nonsense.
  {
    const UniqueFd client = connect();
    send_all(client, "\xff\xfe\n");
    recv_ending(client);
  }
  {
    const UniqueFd client = connect();
    send_all(client, std::string(100'000, 'x'));
    recv_ending(client);
  }
  // One shouts and does not listen, until it has to go; until then it is in the
  // way of others.
  {
    const UniqueFd client = connect();
    EXPECT_EQ(answer(client, "stop"), "ok\n");
    flood(client, std::string(1000, '?') + "\n");
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(recv_until_eof(server.connect()), "");
    }
    server.read_line_after("WARNING control: the client took no telemetry");
    EXPECT_EQ(answer(connect(), "stop"), "ok\n");
  }
  // One shouts and listens: it gets all its answers.
  {
    const UniqueFd client = connect();
    std::string commands;
    for (int i = 0; i < 500; ++i) commands += "move 0\n";
    send_all(client, commands);
    for (int answers = 0; answers < 500;) {
      if (line_from(client) == "ok\n") ++answers;
    }
  }

  const std::chrono::duration<double> at_least = steady_clock::now() - started;
  server.send_signal(SIGINT);
  const std::string line = server.read_line_after("periods ");
  EXPECT_EQ(server.wait(), 0);
  const std::chrono::duration<double> at_most = steady_clock::now() - before;

  const Summary summary = summary_of(line);
  const auto count = static_cast<double>(summary.periods + summary.missed);
  EXPECT_GE(count, at_least.count() * 100 - 2) << line;
  EXPECT_LE(count, at_most.count() * 100 + 2) << line;
  EXPECT_GT(summary.periods, summary.missed) << line;
  // Had it waited for the one that does not listen, it would be seconds.
  EXPECT_LT(summary.worst_ms, 1000) << line;
  // All but those that were turned away: none waited in vain for its turn.
  EXPECT_EQ(summary.clients, clients) << line;
}

}  // namespace
}  // namespace tcpip_tests
