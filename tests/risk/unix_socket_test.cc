// Servers and clients on Unix-domain sockets: the same as on TCP, but for the
// address, and for the file that must neither stay behind nor be taken from
// another server.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <vector>

#include "tcpip/client.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/testing/connection_events.h"
#include "tcpip/testing/log_recorder.h"
#include "tests/support/blocked_call.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/socket_files.h"
#include "tests/support/subprocess.h"
#include "tests/support/thrown.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using tcpip_testing::ConnectionEvents;
using tcpip_testing::LogRecorder;
using tcpip_tests::BlockedCall;
using tcpip_tests::bound_to;
using tcpip_tests::eventually;
using tcpip_tests::exists;
using tcpip_tests::HangGuard;
using tcpip_tests::inode_of;
using tcpip_tests::kPatience;
using tcpip_tests::kPrompt;
using tcpip_tests::leave_socket_file;
using tcpip_tests::seconds_of;
using tcpip_tests::Subprocess;
using tcpip_tests::TemporaryFolder;
using tcpip_tests::Thrown;
using tcpip_tests::thrown_by;

const Thrown kInUse{"Error", EADDRINUSE};

class UnixSocketTest : public testing::Test {
 protected:
  const std::string& path() const { return path_; }
  const std::string& host() const { return host_; }

 private:
  const HangGuard guard_;
  const TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/socket";
  const std::string host_ = "unix:" + path_;
};

void echo(Connection& client, std::stop_token stop) {
  client.write_str(client.read_str(stop), stop);
}

// --- Exchange ---

TEST_F(UnixSocketTest, ServerAndClientExchangeMessages) {
  for (const std::string& where :
       {host(), "unix:@tcpip-test-" + std::to_string(::getpid())}) {
    const LogRecorder lines;
    ConnectionEvents events;
    OneClientServer server({.host = where,
                            .log = lines.log(LogLevel::kWarning),
                            .connect_callback = events.callback()});
    server.start(kPatience);
    EXPECT_EQ(server.port(), 0);
    EXPECT_EQ("unix:" + server.addresses().front().to_string(), where);
    Client client({.host = where, .log = lines.log(LogLevel::kWarning)});
    client.start(kPatience);
    EXPECT_EQ("unix:" + client.peer_address().to_string(), where);
    EXPECT_EQ(client.peer_address().family(), AddressFamily::kUnix);
    const auto accepted = server.wait_client(kPatience);
    ASSERT_TRUE(accepted.has_value());
    client.write_str("hello", kPatience);
    EXPECT_EQ(accepted->read_str(kPatience), "hello");
    accepted->write_str("good day", kPatience);
    EXPECT_EQ(client.read_str(kPatience), "good day");
    client.close();
    EXPECT_TRUE(eventually([&] { return events.size() == 2; }));
    EXPECT_EQ(events.values().back().reason, DisconnectReason::kPeerClosed);
    EXPECT_EQ(lines.text(), "") << "no option of TCP is missed";
  }
}

TEST_F(UnixSocketTest, ReadLoopServerServesStreams) {
  OneClientReadLoopServer server({.host = host()}, echo);
  server.start(kPatience);
  for (int i = 0; i < 20; ++i) {
    auto [reader, writer] = open_connection(host(), 0, kPatience);
    writer.write("hello\r\n");
    writer.drain(kPatience);
    EXPECT_EQ(reader.read_line(kPatience), "hello\r\n");
  }
}

TEST_F(UnixSocketTest, SecondClientReadsACleanEnd) {
  OneClientServer server({.host = host()});
  server.start(kPatience);
  Client first({.host = host()});
  first.start(kPatience);
  ASSERT_TRUE(server.wait_connected(kPatience));
  auto [reader, writer] = open_connection(host(), 0, kPatience);
  writer.write("not read");
  EXPECT_EQ(reader.read(100, kPatience), "");
}

TEST_F(UnixSocketTest, HeartbeatsKeepAConnectionAndTheirLackEndsIt) {
  ConnectionEvents events;
  OneClientServer server(
      {.host = host(),
       .connect_callback = events.callback(),
       .heartbeats = {.expect = true, .max_interval = 300ms}});
  server.start(kPatience);
  {
    Client client(
        {.host = host(), .heartbeats = {.send = true, .interval = 20ms}});
    client.start(kPatience);
    ASSERT_TRUE(server.wait_connected(kPatience));
    // Longer than max_interval.
    EXPECT_THROW(server.read_str(700ms), TimeoutError);
    EXPECT_TRUE(server.connected());
    client.write_str("still here", kPatience);
    EXPECT_EQ(server.read_str(kPatience), "still here");
  }
  // Takes out a heartbeat behind the text, and meets the end.
  EXPECT_THROW(server.read_str(kPatience), Error);
  ASSERT_TRUE(eventually([&] { return events.size() == 2; }));
  Client silent({.host = host()});
  silent.start(kPatience);
  ASSERT_TRUE(eventually([&] { return events.size() == 4; }));
  EXPECT_EQ(events.values().back().reason, DisconnectReason::kHeartbeatLost);
}

TEST_F(UnixSocketTest, StockPythonIsClientAndServer) {
  OneClientReadLoopServer server({.host = host()}, echo);
  server.start(kPatience);
  Subprocess client({"python3", "-c",
                     "import socket, sys\n"
                     "s = socket.socket(socket.AF_UNIX)\n"
                     "s.connect(sys.argv[1])\n"
                     "s.sendall(b'from Python\\r\\n')\n"
                     "print(s.makefile('rb').readline().decode().strip())\n",
                     path()});
  EXPECT_EQ(client.read_line(), "from Python");
  EXPECT_EQ(client.wait(), 0);

  const std::string there = path() + ".python";
  Subprocess peer({"python3", "-c",
                   "import socket, sys\n"
                   "s = socket.socket(socket.AF_UNIX)\n"
                   "s.bind(sys.argv[1])\n"
                   "s.listen()\n"
                   "print('listening', flush=True)\n"
                   "c, _ = s.accept()\n"
                   "f = c.makefile('rwb')\n"
                   "f.write(b'you said: ' + f.readline())\n"
                   "f.flush()\n",
                   there});
  EXPECT_EQ(peer.read_line(), "listening");
  Client to_python({.host = "unix:" + there});
  to_python.start(kPatience);
  to_python.write_str("hello", kPatience);
  EXPECT_EQ(to_python.read_str(kPatience), "you said: hello");
  EXPECT_EQ(peer.wait(), 0);
}

// --- The file ---

TEST_F(UnixSocketTest, FileIsThereFromStartToClose) {
  OneClientServer server({.host = host()});
  EXPECT_FALSE(exists(path()));
  server.start(kPatience);
  EXPECT_TRUE(exists(path()));
  server.close();
  EXPECT_FALSE(exists(path()));
}

TEST_F(UnixSocketTest, CloseRemovesTheFileAtOnce) {
  Listener listener(host(), 0);
  listener.close();
  EXPECT_FALSE(exists(path()));
}

TEST_F(UnixSocketTest, ListenerRemovesItsFileWithoutAClose) {
  { const Listener listener(host(), 0); }
  EXPECT_FALSE(exists(path()));
}

TEST_F(UnixSocketTest, FileOfAServerThatWasKilledIsReplaced) {
  const pid_t child = ::fork();
  if (child == 0) {
    const Listener listener(host(), 0);
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(exists(path()));
  EXPECT_EQ(thrown_by([&] { open_connection(host(), 0, kPatience); }),
            (Thrown{"ConnectionRefusedError", ECONNREFUSED}));
  OneClientReadLoopServer server({.host = host()}, echo);
  server.start(kPatience);
  Client client({.host = host()});
  client.start(kPatience);
  client.write_str("hello", kPatience);
  EXPECT_EQ(client.read_str(kPatience), "hello");
}

TEST_F(UnixSocketTest, ServerThatListensKeepsItsFileAndItsClient) {
  ConnectionEvents events;
  OneClientServer server(
      {.host = host(), .connect_callback = events.callback()});
  server.start(kPatience);
  const ino_t file = inode_of(path());
  for (int i = 0; i < 2; ++i) {
    OneClientServer second({.host = host()});
    try {
      second.start(kPatience);
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), std::errc::address_in_use);
      EXPECT_EQ(std::string(e.what()),
                "listen [" + path() +
                    "]: Address already in use: a process is listening there");
    }
  }
  EXPECT_EQ(inode_of(path()), file);
  EXPECT_EQ(events.size(), 0u) << "it saw nobody";
  Client client({.host = host()});
  client.start(kPatience);
  EXPECT_TRUE(server.wait_connected(kPatience));
}

TEST_F(UnixSocketTest, WhatIsNotASocketStays) {
  std::ofstream(path()) << "precious" << std::flush;
  EXPECT_EQ(thrown_by([&] { Listener(host(), 0); }), kInUse);
  std::string content;
  std::ifstream(path()) >> content;
  EXPECT_EQ(content, "precious");
}

TEST_F(UnixSocketTest, FileOfASuccessorStays) {
  Listener first(host(), 0);
  ASSERT_EQ(::rename(path().c_str(), (path() + "2").c_str()), 0);
  const Listener second(host(), 0);
  first.close();
  EXPECT_TRUE(exists(path()));
  EXPECT_NO_THROW(open_connection(host(), 0, kPatience));
}

TEST_F(UnixSocketTest, AbstractNameThatIsInUseIsAnError) {
  const std::string name = "unix:@tcpip-test-" + std::to_string(::getpid());
  const Listener first(name, 0);
  EXPECT_EQ(thrown_by([&] { Listener(name, 0); }), kInUse);
}

TEST_F(UnixSocketTest, FolderThatIsMissingIsAnError) {
  EXPECT_EQ(thrown_by([&] { Listener(host() + "/none/socket", 0); }),
            (Thrown{"Error", ENOENT}));
  EXPECT_EQ(thrown_by([&] { open_connection(host(), 0, kPatience); }),
            (Thrown{"Error", ENOENT}));
}

TEST_F(UnixSocketTest, FileHasThePermissionsOfTheOptions) {
  const mode_t before = ::umask(022);
  for (const int mode : {0600, 0660, 0666}) {
    const Listener listener(host(), 0, {.mode = mode});
    struct stat status {};
    ASSERT_EQ(::lstat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, static_cast<mode_t>(mode));
  }
  {
    const Listener listener(host(), 0);
    struct stat status {};
    ASSERT_EQ(::lstat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0755u);
  }
  ::umask(before);
  EXPECT_THROW(Listener(host(), 0, {.mode = 01000}), std::invalid_argument);
  EXPECT_THROW(Listener(host(), 0, {.mode = -1}), std::invalid_argument);
}

TEST_F(UnixSocketTest, ChildThatClosesOrExitsLeavesTheFile) {
  auto listener = std::make_unique<Listener>(host(), 0);
  auto server =
      std::make_unique<OneClientServer>(ServerOptions{.host = host() + "2"});
  server->start(kPatience);
  const pid_t child = ::fork();
  if (child == 0) {
    listener->close();
    listener.reset();
    server->close();
    server.reset();
    ::_exit(0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(exists(path()));
  EXPECT_TRUE(exists(path() + "2"));
  EXPECT_NO_THROW(open_connection(host() + "2", 0, kPatience));
}

// --- Connecting ---

TEST_F(UnixSocketTest, ClientWaitsForAServerWhoseQueueIsFull) {
  const UniqueFd fd = bound_to(path());
  ASSERT_EQ(::listen(fd.get(), 0), 0);
  const Streams first = open_connection(host(), 0, kPatience);
  EXPECT_EQ(thrown_by([&] { open_connection(host(), 0, 60ms); }),
            (Thrown{"TimeoutError", ETIMEDOUT}));
  EXPECT_EQ(thrown_by([&] { open_connection(host(), 0, Wait::none()); }),
            (Thrown{"TimeoutError", ETIMEDOUT}));
  Client client({.host = host()});
  BlockedCall start([&] { return thrown_by([&] { client.start(); }); });
  ASSERT_TRUE(start.await_blocked());
  EXPECT_LE(seconds_of([&] { client.close(); }), kPrompt);
  EXPECT_EQ(start.get(), (Thrown{"ConnectionAbortedError", ECONNABORTED}));
  BlockedCall second([&] {
    return thrown_by([&] { open_connection(host(), 0, kPatience); });
  });
  ASSERT_TRUE(second.await_blocked());
  const UniqueFd accepted(::accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_EQ(second.get(), Thrown());
}

TEST_F(UnixSocketTest, HostsThatMakeNoSenseAreRefused) {
  const std::string longest(108, 'p');
  EXPECT_NO_THROW(resolve("unix:" + longest, 0));
  for (const auto& [bad, port] :
       std::vector<std::pair<std::string, int>>{{"unix:", 0},
                                                {"unix:@", 0},
                                                {"unix:" + longest + "p", 0},
                                                {"unix:@" + longest, 0},
                                                {"unix:/a\0b"s, 0},
                                                {host(), 4000}}) {
    SCOPED_TRACE(bad);
    EXPECT_THROW(open_connection(bad, port, kPatience), std::invalid_argument);
    EXPECT_THROW(Client({.host = bad, .port = port}).start(kPatience),
                 std::invalid_argument);
    EXPECT_THROW(Listener(bad, port), std::invalid_argument);
  }
  EXPECT_THROW(
      open_connection(host(), 0, {.connect = {.family = AddressFamily::kIpv4}}),
      std::invalid_argument);
  EXPECT_THROW(Listener("127.0.0.1", 0, {.family = AddressFamily::kUnix}),
               std::invalid_argument);
  EXPECT_THROW(
      open_connection("127.0.0.1", 1, {.connect = {.local_host = host()}}),
      std::invalid_argument);
  const Listener listener(host(), 0, {.family = AddressFamily::kUnix});
  EXPECT_EQ(thrown_by([&] {
              open_connection(host(), 0,
                              {.connect = {.local_host = "127.0.0.1"}});
            }),
            (Thrown{"Error", EAFNOSUPPORT}));
}

}  // namespace
}  // namespace tcpip
