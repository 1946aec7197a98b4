// Recordings of tcpip-monitor: what is in the file at each moment, and how one
// side of it is played. monitor_program_test.cc has both in the program.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <sstream>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/callback_queue.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/testing/direction.h"
#include "tcpip/testing/recording.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/unique_fd.h"
#include "tests/support/hang_guard.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/socket_files.h"
#include "tools/monitor/options.h"
#include "tools/monitor/recorder.h"
#include "tools/monitor/replay.h"
#include "tools/monitor/session.h"

namespace tcpip_monitor {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using std::chrono::steady_clock;
using tcpip_testing::Direction;
using tcpip_testing::kPatience;
using tcpip_testing::Recording;
using tcpip_tests::recv_exact;
using tcpip_tests::recv_until_eof;
using tcpip_tests::send_all;
using Strings = std::vector<std::string>;

constexpr Direction kToServer = Direction::kToServer;
constexpr Direction kToClient = Direction::kToClient;
constexpr char kHead[] =
    "tcpip recording 1\n"
    "# seconds, > from the client or < from the server, bytes\n";

std::string content_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// --- The recorder ---

class MonitorRecorderTest : public testing::Test {
 protected:
  std::string path(const std::string& name = "file") const {
    return folder_.path() + "/" + name;
  }
  Recorder::Report report() {
    return [this](const std::string& what) { reports_.push_back(what); };
  }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(path(name), std::ios::binary) << text;
  }

  const tcpip_tests::TemporaryFolder folder_;
  const TimePoint began_{1h};
  Strings reports_;

 private:
  tcpip_tests::HangGuard guard_;
};

TEST_F(MonitorRecorderTest, WhatHasPassedIsInTheFileAtOnce) {
  Recorder recorder(path(), report());
  EXPECT_EQ(content_of(path()), "");
  std::string expected = kHead;
  recorder.begin(began_);
  EXPECT_EQ(content_of(path()), expected);
  recorder.add(kToServer, began_ + 1500ms, "move 1\r\n");
  expected += "1.500000 > \"move 1\\r\\n\"\n";
  EXPECT_EQ(content_of(path()), expected);
  recorder.add(kToClient, began_ + 1501ms, "ok \"\\\0\xb0\x1b\n"s);
  expected += "1.501000 < \"ok \\\"\\\\\\x00\\xb0\\x1b\\n\"\n";
  EXPECT_EQ(content_of(path()), expected);
  recorder.add_end(kToServer, began_ + 2s);
  expected += "2.000000 > end\n";
  EXPECT_EQ(content_of(path()), expected);
  recorder.add(kToClient, began_ + 3s, "late");
  recorder.add_end(kToClient, began_ + 4s);
  expected += "3.000000 < \"late\"\n4.000000 < end\n";
  EXPECT_EQ(content_of(path()), expected);
  EXPECT_EQ(reports_, Strings{});

  const std::vector<Recording::Piece> pieces = {
      {kToServer, 1500ms, "move 1\r\n"},
      {kToClient, 1501ms, "ok \"\\\0\xb0\x1b\n"s},
      {kToServer, 2s, ""},
      {kToClient, 3s, "late"},
      {kToClient, 4s, ""}};
  EXPECT_EQ(Recording::load(path()).pieces, pieces);
}

TEST_F(MonitorRecorderTest, ASideEndsOnceAndSendsNothingBehindIt) {
  Recorder recorder(path(), report());
  recorder.begin(began_);
  recorder.add_end(kToServer, began_);
  recorder.add_end(kToServer, began_);
  recorder.add(kToServer, began_, "x");
  EXPECT_EQ(content_of(path()), kHead + "0.000000 > end\n"s);
}

TEST_F(MonitorRecorderTest, EachConnectionHasAFileOfItsOwn) {
  Recorder recorder(path(), report());
  recorder.begin(began_);
  recorder.add(kToServer, began_ + 5s, "one");
  recorder.add_end(kToServer, began_ + 5s);
  recorder.begin(began_ + 10s);
  recorder.add(kToServer, began_ + 11s, "two");
  recorder.begin(began_ + 20s);
  recorder.add(kToClient, began_ + 20s, "three");
  EXPECT_EQ(content_of(path()),
            kHead + "5.000000 > \"one\"\n5.000000 > end\n"s);
  EXPECT_EQ(content_of(path("file.2")), kHead + "1.000000 > \"two\"\n"s);
  EXPECT_EQ(content_of(path("file.3")), kHead + "0.000000 < \"three\"\n"s);
  EXPECT_EQ(reports_, Strings{});
}

TEST_F(MonitorRecorderTest, AFileThatHasSomethingInItIsLeftAlone) {
  write("file", "precious");
  try {
    const Recorder recorder(path(), report());
    ADD_FAILURE() << "it was taken";
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code().value(), EEXIST);
    EXPECT_TRUE(
        std::string(e.what()).starts_with("will not overwrite " + path() + ":"))
        << e.what();
  }
  EXPECT_EQ(content_of(path()), "precious");
  write("empty", "");
  EXPECT_NO_THROW(Recorder(path("empty"), report()));
  EXPECT_THROW(Recorder(path("none/file"), report()), std::system_error);
}

TEST_F(MonitorRecorderTest, AnEmptyFileOfAnotherRecorderIsLeftAlone) {
  std::optional<Recorder> first(std::in_place, path(), report());
  EXPECT_THROW(Recorder(path(), report()), std::system_error);
  first.reset();
  EXPECT_NO_THROW(Recorder(path(), report()));
  first.emplace(path(), report());
  first->begin(began_);
  EXPECT_THROW(Recorder(path(), report()), std::system_error);
  EXPECT_EQ(content_of(path()), kHead);
}

TEST_F(MonitorRecorderTest, AFifoThatNobodyReadsIsAnError) {
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  try {
    const Recorder recorder(path(), report());
    ADD_FAILURE() << "it was taken";
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code().value(), ENXIO);
  }
}

TEST_F(MonitorRecorderTest, TheSecondFileMayFailAndTheFirstIsKept) {
  write("file.2", "precious");
  Recorder recorder(path(), report());
  recorder.begin(began_);
  recorder.add(kToServer, began_, "one");
  recorder.begin(began_);
  recorder.add(kToServer, began_, "two");
  recorder.begin(began_);
  EXPECT_EQ(content_of(path()), kHead + "0.000000 > \"one\"\n"s);
  EXPECT_EQ(content_of(path("file.2")), "precious");
  EXPECT_FALSE(std::filesystem::exists(path("file.3")));
  ASSERT_EQ(reports_.size(), 1u);
  EXPECT_TRUE(reports_[0].starts_with("will not overwrite " + path("file.2")))
      << reports_[0];
  EXPECT_TRUE(reports_[0].ends_with("; recording has ended")) << reports_[0];
}

TEST_F(MonitorRecorderTest, OnAFullDiskTheFileEndsWithAWholeLine) {
  Recorder recorder(path(), report());
  recorder.begin(began_);
  recorder.add(kToServer, began_, "one");
  const std::string whole = content_of(path());
  ::rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ::rlimit small = before;
  small.rlim_cur = whole.size() + 20;  // the next line begins, and no more
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  recorder.add(kToClient, began_, std::string(100, 'x'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  recorder.add(kToServer, began_, "two");
  recorder.begin(began_);
  EXPECT_EQ(content_of(path()), whole);
  EXPECT_FALSE(std::filesystem::exists(path("file.2")));
  EXPECT_EQ(reports_,
            Strings{"cannot write " + path() +
                    ": File too large; recording has ended, the exchange "
                    "goes on"});
}

TEST_F(MonitorRecorderTest, ARecordingWithAGapEndsThere) {
  Recorder recorder(path(), report());
  recorder.begin(began_);
  recorder.add(kToServer, began_ + 2ms, "a\n");
  // The system's clock was set back.
  recorder.add(kToClient, began_ + 1ms, "b");
  const std::string whole = kHead + "0.002000 > \"a\\n\"\n0.002000 < \"b\"\n"s;
  EXPECT_EQ(content_of(path()), whole);
  recorder.give_up("7 bytes missing here");
  recorder.add(kToServer, began_ + 3ms, "c");
  recorder.begin(began_ + 4ms);
  EXPECT_EQ(content_of(path()), whole + "# 7 bytes missing here\n");
  EXPECT_EQ(Recording::load(path()).pieces.size(), 2u);
  EXPECT_EQ(reports_,
            Strings{path() + ": 7 bytes missing here; recording has ended"});
}

// --- The session: what the recording of a busy machine lacks ---

class MonitorSessionTest : public MonitorRecorderTest {
 protected:
  // Collects what the session tells.
  SessionEvents events() {
    return {
        .begun = [](TimePoint, const std::string&) {},
        .passed =
            [this](const Passed& passed) {
              told_.push_back(passed.bytes.substr(0, 20));
              passed_bytes_ += passed.bytes.size();
            },
        .ended = [this](const tcpip::ConnectionEvent&) { ended_ = true; },
        .file_fault =
            [this](const std::string& text) { faults_.push_back(text); },
        .remark = [this](const std::string& text) { told_.push_back(text); },
        .replayed = [](const std::string&) {}};
  }
  static Options server() {
    Options options;
    options.listen = Place{"127.0.0.1", 0};
    return options;
  }
  // What stands in the pipe, up to the line "stop".
  static std::string read_until_stop(const tcpip::UniqueFd& pipe) {
    std::string all;
    std::string piece(1 << 20, '\0');
    while (!all.ends_with("stop\n")) {
      const ::ssize_t n = ::read(pipe.get(), piece.data(), piece.size());
      if (n <= 0) break;
      all.append(piece, 0, static_cast<std::size_t>(n));
    }
    return all;
  }
  // A pipe at path() that nobody reads is a slow disk: what has passed waits
  // for it.
  tcpip::UniqueFd slow_disk() const {
    EXPECT_EQ(::mkfifo(path().c_str(), 0600), 0);
    return tcpip::UniqueFd(::open(path().c_str(), O_RDWR | O_CLOEXEC));
  }
  static Options recording_to(const std::string& file) {
    Options options = server();
    options.record = file;
    return options;
  }
  // Ends the session while the disk is read again; what was written to it.
  static std::string close_and_read(Session& session,
                                    const tcpip::UniqueFd& disk) {
    std::string recorded;
    std::thread reader([&] { recorded = read_until_stop(disk); });
    session.close();
    EXPECT_EQ(::write(disk.get(), "stop\n", 5), 5);
    reader.join();
    return recorded;
  }
  // More than the tap keeps.
  static constexpr std::size_t kFlood = 40'000'000;
  static void flood(const tcpip::UniqueFd& peer) {
    const std::string piece(1'000'000, 'x');
    for (std::size_t n = 0; n < kFlood; n += piece.size()) {
      send_all(peer, piece);
    }
  }
  static int port_in(const std::string& where) {
    return std::stoi(where.substr(where.rfind(':') + 1));
  }

  tcpip::CallbackQueue queue_;
  Strings told_;
  std::size_t passed_bytes_ = 0;
  Strings faults_;
  bool ended_ = false;
};

TEST_F(MonitorSessionTest, WhatNobodyTakesIsCountedAlsoAtTheEnd) {
  Session session(server(), queue_, events());
  const int port = port_in(session.start());
  while (queue_.size() + 100 < tcpip::kDefaultQueueSize) queue_.post([] {});
  {
    const tcpip::UniqueFd peer = tcpip_tests::connect_to(port);
    send_all(peer, "not shown");
    tcpip_tests::half_close(peer);
    EXPECT_EQ(recv_until_eof(peer), "");
  }
  while (!ended_) queue_.run_one(kPatience);
  EXPECT_EQ(told_, Strings{"(9 bytes not shown before the end)"});
}

TEST_F(MonitorSessionTest, CloseHandsOnAllThatHasPassed) {
  const tcpip::UniqueFd disk = slow_disk();
  Session session(recording_to(path()), queue_, events());
  const int port = port_in(session.start());
  const tcpip::UniqueFd peer = tcpip_tests::connect_to(port);
  constexpr std::size_t kSize = 1'000'000;
  send_all(peer, std::string(kSize, 'x'));
  ASSERT_TRUE(tcpip_testing::wait_until(
      [&] { return session.stats().bytes_received == kSize; }));
  close_and_read(session, disk);
  queue_.run_pending();
  EXPECT_EQ(passed_bytes_, kSize);
  EXPECT_EQ(faults_, Strings{});
}

TEST_F(MonitorSessionTest, ClosedHereIsAnEndOfThisSideAlone) {
  Session session(recording_to(path()), queue_, events());
  const int port = port_in(session.start());
  const tcpip::UniqueFd peer = tcpip_tests::connect_to(port);
  send_all(peer, "hello");
  while (told_.empty()) queue_.run_one(kPatience);
  session.close();
  const std::string text = content_of(path());
  EXPECT_NE(text.find(" > \"hello\"\n"), text.npos) << text;
  EXPECT_TRUE(text.ends_with(" < end\n")) << text;
  EXPECT_EQ(text.find("> end"), text.npos) << text;
}

TEST_F(MonitorSessionTest, WhatIsMissingAtTheEndIsToldInTheRecording) {
  const tcpip::UniqueFd disk = slow_disk();
  Session session(recording_to(path()), queue_, events());
  const int port = port_in(session.start());
  const tcpip::UniqueFd peer = tcpip_tests::connect_to(port);
  flood(peer);
  ASSERT_TRUE(tcpip_testing::wait_until(
      [&] { return session.stats().bytes_received == kFlood; }));
  const std::string recorded = close_and_read(session, disk);
  queue_.run_pending();
  EXPECT_LT(recorded.size(), kFlood);
  EXPECT_TRUE(recorded.ends_with(" bytes missing here\nstop\n"))
      << recorded.substr(recorded.size() - 70);
  EXPECT_EQ(faults_.size(), 1u);
}

TEST_F(MonitorSessionTest, ARecordingOnASlowDiskSaysThatItIsNotComplete) {
  const tcpip::UniqueFd disk = slow_disk();
  Session session(recording_to(path()), queue_, events());
  const int port = port_in(session.start());
  {
    const tcpip::UniqueFd peer = tcpip_tests::connect_to(port);
    flood(peer);
    tcpip_tests::half_close(peer);
    EXPECT_EQ(recv_until_eof(peer), "");  // nobody waits for the disk
  }
  const std::string recorded = close_and_read(session, disk);
  queue_.run_pending();
  EXPECT_LT(recorded.size(), kFlood);
  // Not: "end".
  const std::string end = recorded.substr(recorded.size() - 70);
  EXPECT_TRUE(end.ends_with("is missing\nstop\n") ||
              end.ends_with(" bytes missing here\nstop\n"))
      << end;
  ASSERT_EQ(faults_.size(), 1u);
  EXPECT_TRUE(faults_[0].ends_with("; recording has ended")) << faults_[0];
}

// --- Replay ---

// A server that plays one side to its client, which is the test.
class MonitorReplayTest : public testing::Test {
 protected:
  // Plays what stands in `lines`: TIME ARROW BYTES, as in a file.
  void play(const std::string& lines, Direction ours = kToClient,
            bool at_once = true) {
    replay_ = std::make_unique<Replay>(
        Recording::parse("tcpip recording 1\n" + lines), ours, at_once);
    server_ = std::make_unique<tcpip::OneClientReadLoopServer>(
        tcpip::ServerOptions{
            .host = "127.0.0.1",
            .begin = [this](tcpip::Connection& peer,
                            std::stop_token stop) { run(peer, stop); }},
        [](tcpip::Connection& peer, std::stop_token) { peer.close(); });
    server_->start(kPatience);
    peer_ = tcpip_tests::connect_to(server_->port());
  }
  // How run() has ended: "done", or what it has thrown.
  std::string outcome() {
    std::future<std::string> outcome = outcome_.get_future();
    if (outcome.wait_for(kPatience) != std::future_status::ready) {
      return "no end";
    }
    return outcome.get();
  }

  tcpip::UniqueFd peer_;
  std::unique_ptr<tcpip::OneClientReadLoopServer> server_;

 private:
  void run(tcpip::Connection& peer, const std::stop_token& stop) {
    std::string outcome = "done";
    try {
      replay_->run(peer, stop);
    } catch (const ReplayMismatch& e) {
      outcome = e.what();
    } catch (const tcpip::ConnectionError&) {
      outcome = "ConnectionError";
    } catch (const tcpip::CancelledError&) {
      outcome = "CancelledError";
    }
    outcome_.set_value(outcome);
  }

  tcpip_tests::HangGuard guard_;
  std::unique_ptr<Replay> replay_;
  std::promise<std::string> outcome_;
};

TEST_F(MonitorReplayTest, SaysItsPartInTheRecordedOrder) {
  play(R"(0 < "welcome\r\n"
1 > "move 1\r\n"
2 < "moving\r\n"
2 < "ok\r\n"
3 > "stop\r\n"
4 < "stopped\xb0\x00\r\n")");
  EXPECT_EQ(recv_exact(peer_, 9), "welcome\r\n");
  send_all(peer_, "move 1\r\n");
  EXPECT_EQ(recv_exact(peer_, 12), "moving\r\nok\r\n");
  send_all(peer_, "stop\r\n");
  EXPECT_EQ(recv_until_eof(peer_), "stopped\xb0\0\r\n"s);
  EXPECT_EQ(outcome(), "done");
}

TEST_F(MonitorReplayTest, PlaysTheClientToo) {
  play("0 < \"welcome\\n\"\n1 > \"move 1\\n\"\n2 < \"ok\\n\"\n", kToServer);
  send_all(peer_, "welcome\n");
  EXPECT_EQ(recv_exact(peer_, 7), "move 1\n");
  send_all(peer_, "ok\n");
  EXPECT_EQ(recv_until_eof(peer_), "");
  EXPECT_EQ(outcome(), "done");
}

TEST_F(MonitorReplayTest, HowThePeerDividesItsBytesDoesNotMatter) {
  play("0 > \"ab\"\n1 > \"cd\"\n2 < \"1\"\n3 > \"efg\"\n4 < \"2\"\n");
  send_all(peer_, "abcd");
  EXPECT_EQ(recv_exact(peer_, 1), "1");
  for (const char* const byte : {"e", "f", "g"}) send_all(peer_, byte);
  EXPECT_EQ(recv_until_eof(peer_), "2");
  EXPECT_EQ(outcome(), "done");
}

TEST_F(MonitorReplayTest, NothingIsSaidBeforeThePeerHasSaidItsPart) {
  play("0 > \"hello\"\n0 < \"answer\"\n");
  send_all(peer_, "hellO");
  EXPECT_EQ(recv_until_eof(peer_), "");
  EXPECT_EQ(outcome(),
            "replay: after 4 bytes as recorded the recording has \"o\", but "
            "the peer sent \"O\"");
}

TEST_F(MonitorReplayTest, AnEndIsPlayedAndExpected) {
  play("0 > \"bye\"\n0 > end\n1 < \"late\"\n2 < end\n");
  send_all(peer_, "bye");
  tcpip_tests::half_close(peer_);
  EXPECT_EQ(recv_until_eof(peer_), "late");
  EXPECT_EQ(outcome(), "done");
}

TEST_F(MonitorReplayTest, OurEndLeavesTheOtherDirectionOpen) {
  play("0 < \"bye\"\n0 < end\n1 > \"late\"\n2 > end\n");
  EXPECT_EQ(recv_until_eof(peer_), "bye");
  send_all(peer_, "late");
  tcpip_tests::half_close(peer_);
  EXPECT_EQ(outcome(), "done");
}

TEST_F(MonitorReplayTest, WhatComesBehindTheRecordingIsNotLookedAt) {
  play("0 > \"a\"\n1 < \"b\"\n");
  send_all(peer_, "ac");
  EXPECT_EQ(recv_exact(peer_, 1), "b");
  EXPECT_EQ(outcome(), "done");
}

TEST_F(MonitorReplayTest, AnEmptyRecordingIsOverAtOnce) {
  play("");
  EXPECT_EQ(recv_until_eof(peer_), "");
  EXPECT_EQ(outcome(), "done");
}

struct Difference {
  const char* name;
  std::string recording;
  std::string sent;
  bool ends;  // the peer sends FIN behind it
  std::string outcome;
};

class MonitorReplayDifference : public MonitorReplayTest,
                                public testing::WithParamInterface<Difference> {
};

TEST_P(MonitorReplayDifference, IsToldWithItsPlace) {
  play(GetParam().recording);
  send_all(peer_, GetParam().sent);
  if (GetParam().ends) tcpip_tests::half_close(peer_);
  EXPECT_EQ(outcome(), "replay: after " + GetParam().outcome);
}

INSTANTIATE_TEST_SUITE_P(
    Of, MonitorReplayDifference,
    testing::Values(
        Difference{"AtTheFirstByte", "0 > \"ab\"\n", "x", false,
                   "0 bytes as recorded the recording has \"ab\", but the "
                   "peer sent \"x\""},
        Difference{"AfterOneByte", "0 > \"a\\r\\n\"\n", "a\x1b\n", false,
                   "1 byte as recorded the recording has \"\\r\\n\", but the "
                   "peer sent \"\\x1b\\n\""},
        Difference{"InTheSecondPiece", "0 > \"ab\"\n0 > \"cd\"\n", "abcx",
                   false,
                   "3 bytes as recorded the recording has \"d\", but the peer "
                   "sent \"x\""},
        Difference{"TooLittle", "0 > \"hello\"\n", "he", true,
                   "2 bytes as recorded the recording has \"llo\", but the "
                   "peer has closed"},
        Difference{"TooMuch", "0 > \"he\"\n0 > end\n", "hello", false,
                   "2 bytes as recorded the recording has the end, but the "
                   "peer sent \"llo\""},
        Difference{"ALongText", "0 > \"" + std::string(200, 'a') + "\"\n",
                   std::string(200, 'b'), false,
                   "0 bytes as recorded the recording has \"" +
                       std::string(60, 'a') + "\", but the peer sent \"" +
                       std::string(60, 'b') + "\""}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(MonitorReplayTest, APeerThatBreaksOffIsAConnectionError) {
  play("0 < \"welcome\"\n1 > \"hello\"\n");
  EXPECT_EQ(recv_exact(peer_, 7), "welcome");
  tcpip_tests::reset(std::move(peer_));
  EXPECT_EQ(outcome(), "ConnectionError");
}

TEST_F(MonitorReplayTest, KeepsThePausesBehindWhatStandsBefore) {
  // The peer had waited for an hour. The answer came 0.2 s later.
  const auto start = steady_clock::now();
  play("3600 > \"hello\"\n3600.2 < \"a\"\n3600.3 < \"b\"\n3600.3 < end\n",
       kToClient, false);
  send_all(peer_, "hello");
  EXPECT_EQ(recv_exact(peer_, 1), "a");
  EXPECT_GE(steady_clock::now() - start, 200ms);
  EXPECT_EQ(recv_until_eof(peer_), "b");
  EXPECT_GE(steady_clock::now() - start, 300ms);
  EXPECT_EQ(outcome(), "done");
}

TEST_F(MonitorReplayTest, AtOnceLeavesThePausesOut) {
  play("3600 < \"a\"\n7200 > \"hello\"\n9000 < \"b\"\n");
  EXPECT_EQ(recv_exact(peer_, 1), "a");
  send_all(peer_, "hello");
  EXPECT_EQ(recv_until_eof(peer_), "b");
  EXPECT_EQ(outcome(), "done");
}

TEST_F(MonitorReplayTest, AStopEndsThePause) {
  play("0 < \"a\"\n3600 < \"b\"\n", kToClient, false);
  EXPECT_EQ(recv_exact(peer_, 1), "a");
  server_->close();
  EXPECT_EQ(outcome(), "CancelledError");
}

TEST_F(MonitorReplayTest, AStopEndsWaitingForThePeer) {
  play("0 < \"a\"\n1 > \"b\"\n");
  EXPECT_EQ(recv_exact(peer_, 1), "a");
  server_->close();
  EXPECT_EQ(outcome(), "CancelledError");
}

TEST_F(MonitorReplayTest, ClosedHereIsNotAnEndOfThePeers) {
  play("0 < \"a\"\n1 > end\n");
  EXPECT_EQ(recv_exact(peer_, 1), "a");
  server_->close_client();
  EXPECT_EQ(outcome(), "CancelledError");
}

}  // namespace
}  // namespace tcpip_monitor
