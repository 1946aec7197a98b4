#include "tcpip/socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <latch>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/net/socket_calls.h"
#include "tcpip/testing/wait_until.h"
#include "tests/support/sanitizers.h"
#include "tests/support/signal_storm.h"
#include "tests/support/sockets.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using tcpip_testing::kPatience;
using tcpip_tests::address_of;
using tcpip_tests::bytes;
using tcpip_tests::Call;
using tcpip_tests::connect_to;
using tcpip_tests::connected;
using tcpip_tests::ended;
using tcpip_tests::Ends;
using tcpip_tests::failure;
using tcpip_tests::Got;
using tcpip_tests::kEnd;
using tcpip_tests::Kind;
using tcpip_tests::NoMoreDescriptors;
using tcpip_tests::option_of;
using tcpip_tests::receive;
using tcpip_tests::reset;
using tcpip_tests::SignalStorm;
using tcpip_tests::wait_until;

std::string receive_all(Socket& socket, std::size_t size) {
  std::string result;
  while (result.size() < size) {
    const Got got = receive(socket, kPatience, 256 * 1024);
    if (got.status != IoStatus::kOk || got.data.empty()) {
      ADD_FAILURE() << got << " after " << result.size();
      break;
    }
    result += got.data;
  }
  return result;
}

IoResult send(Socket& socket, std::string_view data) {
  const Socket::Piece piece{data.data(), data.size()};
  return socket.send_now(piece);
}

void must_send(Socket& socket, std::string_view data) {
  const IoResult result = send(socket, data);
  EXPECT_EQ(result.status, IoStatus::kOk);
  EXPECT_EQ(result.count, data.size());
}

std::string pattern(std::size_t size) {
  std::string result(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    result[i] = static_cast<char>(i * 7 + i / 251);
  }
  return result;
}

// Sends until the kernel takes no more; returns how many bytes that were.
std::size_t fill(Socket& socket) {
  const std::string data = pattern(256 * 1024);
  std::size_t sent = 0;
  for (;;) {
    const IoResult result = send(socket, data);
    if (result.status == IoStatus::kOk) {
      sent += result.count;
      continue;
    }
    EXPECT_EQ(result.status, IoStatus::kTimeout);
    // TCP's buffers move to the peer for a while yet.
    if (socket.wait_sendable(20ms).status == IoStatus::kTimeout) return sent;
  }
}

// Socket, of both kinds -------------------------------------------------------

class SocketOf : public testing::TestWithParam<Kind> {
 protected:
  Ends ends_ = connected(GetParam());
  Socket& here_ = *ends_.here;
  Socket& there_ = *ends_.there;
};

INSTANTIATE_TEST_SUITE_P(Kinds, SocketOf,
                         testing::Values(Kind::kUnix, Kind::kTcp),
                         [](const auto& test) {
                           return test.param == Kind::kUnix ? "Unix" : "Tcp";
                         });

TEST_P(SocketOf, ReceivesWhatIsThereUnderEveryWait) {
  const std::stop_source source;
  const std::stop_token stop = source.get_token();
  for (const Wait& wait : {Wait(), Wait(1h), Wait(stop), Wait(1h, stop),
                           Wait(0s), Wait::none(), Wait(0s, stop)}) {
    must_send(there_, "abc");
    ASSERT_EQ(here_.wait_receivable(kPatience).status, IoStatus::kOk);
    EXPECT_EQ(receive(here_, wait), bytes("abc"));
  }
}

TEST_P(SocketOf, ReceivesAsMuchAsFits) {
  must_send(there_, "abcdef");
  EXPECT_EQ(receive(here_, {}, 2), bytes("ab"));
  EXPECT_EQ(receive(here_, 1h, 3), bytes("cde"));
  EXPECT_EQ(receive(here_, Wait::none(), 3), bytes("f"));
}

TEST_P(SocketOf, ReceiveWaitsForBytesUnderEveryWait) {
  const std::stop_source source;
  const std::stop_token stop = source.get_token();
  for (const Wait& wait : {Wait(), Wait(1h), Wait(stop), Wait(1h, stop)}) {
    Call<Got> call([&] { return receive(here_, wait); });
    EXPECT_TRUE(call.blocks());
    must_send(there_, "x");
    EXPECT_EQ(call.result(), bytes("x"));
  }
}

TEST_P(SocketOf, ReceiveEndsAtItsDeadline) {
  const std::stop_source source;
  EXPECT_EQ(receive(here_, Wait::none()), ended(IoStatus::kTimeout));
  for (const std::stop_token& stop : {std::stop_token(), source.get_token()}) {
    for (const auto duration : {1ms, 20ms, 120ms}) {
      const Deadline deadline = Deadline::after(duration);
      EXPECT_EQ(receive(here_, {deadline, stop}), ended(IoStatus::kTimeout));
      EXPECT_TRUE(deadline.has_passed());
      EXPECT_LT(Clock::now(), deadline.when() + 10s);
    }
  }
}

TEST_P(SocketOf, ReceiveIsNotMuchLaterThanItsDeadline) {
  for (const auto duration : {3ms, 60ms}) {
    auto best = Clock::duration::max();  // of a machine that has other work
    for (int i = 0; i < 5; ++i) {
      const Deadline deadline = Deadline::after(duration);
      EXPECT_EQ(receive(here_, deadline), ended(IoStatus::kTimeout));
      best = std::min(best, Clock::now() - deadline.when());
    }
    EXPECT_LT(best, 20ms);
  }
}

// The kernel rounds the time-out of a recv() up, of this one to the next
// multiple of up to 256 ms: the calls begin at different places between two.
TEST_P(SocketOf, ReceiveIsNotLateIfBytesComeShortlyBeforeItsDeadline) {
  constexpr auto kLength = 2800ms;
  constexpr std::size_t kCalls = 6;
  std::vector<Ends> ends;
  for (std::size_t i = 0; i < kCalls; ++i) {
    ends.push_back(connected(GetParam()));
  }
  std::vector<Clock::duration> late(kCalls);
  {
    std::vector<std::jthread> threads;
    const Clock::time_point begin = Clock::now();
    for (std::size_t i = 0; i < kCalls; ++i) {
      const Clock::time_point start = begin + i * 50ms;
      threads.emplace_back([&, i, start] {
        std::this_thread::sleep_until(start);
        const Deadline deadline(start + kLength);
        EXPECT_EQ(receive(*ends[i].here, deadline), bytes("x"));
        EXPECT_EQ(receive(*ends[i].here, deadline), ended(IoStatus::kTimeout));
        late[i] = Clock::now() - deadline.when();
      });
      threads.emplace_back([&, i, start] {
        std::this_thread::sleep_until(start + kLength * 247 / 1000);
        must_send(*ends[i].there, "x");
      });
    }
  }
  // Some may be late because the machine is busy.
  std::sort(late.begin(), late.end());
  EXPECT_GE(late.front(), Clock::duration::zero());
  EXPECT_LT(late[2], 20ms);
}

TEST_P(SocketOf, ADeadlineIsOverWithItsCall) {
  EXPECT_EQ(receive(here_, 80ms), ended(IoStatus::kTimeout));
  Call<Got> call([&] { return receive(here_); });
  EXPECT_TRUE(call.blocks());
  // Longer than the deadline of the call before.
  EXPECT_FALSE(wait_until([&] { return call.done(); }, 150ms));
  must_send(there_, "x");
  EXPECT_EQ(call.result(), bytes("x"));
}

TEST_P(SocketOf, ReceiveIsWokenByAStop) {
  for (const Deadline deadline : {Deadline(), Deadline::after(1h)}) {
    std::stop_source source;
    Call<Got> call([&] {
      return receive(here_, {deadline, source.get_token()});
    });
    EXPECT_TRUE(call.blocks());
    source.request_stop();
    EXPECT_EQ(call.result(), ended(IoStatus::kStopped));
  }
  must_send(there_, "x");
  EXPECT_EQ(receive(here_, kPatience), bytes("x")) << "a stop loses nothing";
}

TEST_P(SocketOf, ARequestedStopWinsOverBytesAndDeadline) {
  std::stop_source source;
  source.request_stop();
  must_send(there_, "x");
  EXPECT_EQ(receive(here_, source.get_token()), ended(IoStatus::kStopped));
  EXPECT_EQ(receive(here_, {0s, source.get_token()}),
            ended(IoStatus::kStopped));
  EXPECT_EQ(here_.wait_sendable(source.get_token()).status, IoStatus::kStopped);
  EXPECT_EQ(here_.wait_receivable(source.get_token()).status,
            IoStatus::kStopped);
  EXPECT_EQ(receive(here_), bytes("x"));
}

TEST_P(SocketOf, CloseWakesAReceiveUnderEveryWait) {
  const std::stop_source source;
  const std::stop_token stop = source.get_token();
  for (const Wait& wait : {Wait(), Wait(1h), Wait(stop), Wait(1h, stop)}) {
    const Ends ends = connected(GetParam());
    Call<Got> call([&] { return receive(*ends.here, wait); });
    EXPECT_TRUE(call.blocks());
    ends.here->close();
    EXPECT_EQ(call.result(), ended(IoStatus::kClosed));
  }
}

TEST_P(SocketOf, CloseWakesEveryWait) {
  fill(here_);
  Call<IoStatus> sending([&] { return here_.wait_sendable({}).status; });
  EXPECT_TRUE(sending.blocks());
  Call<IoStatus> receiving([&] { return here_.wait_receivable(1h).status; });
  EXPECT_TRUE(receiving.blocks());
  here_.close();
  EXPECT_EQ(sending.result(), IoStatus::kClosed);
  EXPECT_EQ(receiving.result(), IoStatus::kClosed);
}

TEST_P(SocketOf, NeverMissesACloseThatComesAtTheSameTime) {
  const std::stop_source source;
  for (int i = 0; i < 100; ++i) {
    for (const Wait& wait : {Wait(), Wait(1h), Wait(source.get_token())}) {
      const Ends ends = connected(GetParam());
      Call<Got> call([&] { return receive(*ends.here, wait); });
      ends.here->close();
      ASSERT_EQ(call.result(), ended(IoStatus::kClosed));
    }
  }
}

TEST_P(SocketOf, AfterCloseEverythingSaysSo) {
  EXPECT_FALSE(here_.is_closed());
  must_send(there_, "unread");
  here_.close();
  here_.close();
  EXPECT_TRUE(here_.is_closed());
  EXPECT_TRUE(here_.at_end());
  EXPECT_EQ(receive(here_), ended(IoStatus::kClosed));
  EXPECT_EQ(receive(here_, Wait::none()), ended(IoStatus::kClosed));
  EXPECT_EQ(send(here_, "x").status, IoStatus::kClosed);
  EXPECT_EQ(here_.wait_sendable({}).status, IoStatus::kClosed);
  EXPECT_EQ(here_.wait_receivable(1h).status, IoStatus::kClosed);
  EXPECT_EQ(receive(there_), kEnd);
}

TEST_P(SocketOf, CloseMayComeFromManyThreadsDuringTransfers) {
  Call<int> sending([&] {
    while (send(here_, "some bytes").status != IoStatus::kClosed) {
      here_.wait_sendable(1ms);
    }
    return 0;
  });
  Call<Got> receiving([&] { return receive(here_); });
  std::vector<std::jthread> closing;
  for (int i = 0; i < 4; ++i) closing.emplace_back([&] { here_.close(); });
  EXPECT_EQ(receiving.result(), ended(IoStatus::kClosed));
  sending.result();
}

TEST_P(SocketOf, EndOfStreamIsAnEmptySuccess) {
  must_send(there_, "last");
  EXPECT_FALSE(there_.shutdown_send());
  EXPECT_EQ(receive(here_, 1h), bytes("last"));
  EXPECT_EQ(receive(here_), kEnd);
  EXPECT_EQ(receive(here_, 1h), kEnd);
  EXPECT_EQ(receive(here_, Wait::none()), kEnd);
  EXPECT_EQ(here_.lost_error(), 0);
}

TEST_P(SocketOf, ReceivesAfterItsOwnHalfClose) {
  EXPECT_FALSE(here_.shutdown_send());
  EXPECT_EQ(receive(there_), kEnd);
  must_send(there_, "reply");
  EXPECT_EQ(receive(here_), bytes("reply"));
}

TEST_P(SocketOf, ThePeersEndWakesAReceive) {
  for (const Wait& wait : {Wait(), Wait(1h)}) {
    Ends ends = connected(GetParam());
    Call<Got> call([&] { return receive(*ends.here, wait); });
    EXPECT_TRUE(call.blocks());
    ends.there.reset();
    EXPECT_EQ(call.result(), kEnd);
  }
}

TEST_P(SocketOf, SendsAPartOfWhatDoesNotFit) {
  const std::string data = pattern(32 * 1024 * 1024);
  const IoResult result = send(here_, data);
  EXPECT_EQ(result.status, IoStatus::kOk);
  EXPECT_GT(result.count, 0u);
  ASSERT_LT(result.count, data.size());
  EXPECT_EQ(receive_all(there_, result.count), data.substr(0, result.count));
  EXPECT_EQ(receive(there_, Wait::none()), ended(IoStatus::kTimeout));
}

TEST_P(SocketOf, SendingToAFullPeerWaits) {
  const std::size_t sent = fill(here_);
  EXPECT_EQ(send(here_, "x").status, IoStatus::kTimeout);
  EXPECT_EQ(here_.wait_sendable(5ms).status, IoStatus::kTimeout);
  Call<IoStatus> call([&] { return here_.wait_sendable({}).status; });
  EXPECT_TRUE(call.blocks());
  receive_all(there_, sent);
  EXPECT_EQ(call.result(), IoStatus::kOk);
  must_send(here_, "x");
}

TEST_P(SocketOf, AStopWakesAWaitToSend) {
  fill(here_);
  std::stop_source source;
  Call<IoStatus> call([&] {
    return here_.wait_sendable({1h, source.get_token()}).status;
  });
  EXPECT_TRUE(call.blocks());
  source.request_stop();
  EXPECT_EQ(call.result(), IoStatus::kStopped);
}

TEST_P(SocketOf, SendsPiecesInOrder) {
  for (const std::size_t count : {0u, 1u, 2u, 16u, 17u, 1024u, 1025u, 3000u}) {
    std::string expected;
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < count; ++i) {
      // Some of them empty.
      texts.push_back(i % 5 == 4 ? "" : std::to_string(i) + ",");
      expected += texts.back();
    }
    std::vector<Socket::Piece> pieces;
    for (const std::string& text : texts) {
      pieces.push_back({text.data(), text.size()});
    }
    const IoResult result = here_.send_now(pieces);
    EXPECT_EQ(result.status, IoStatus::kOk);
    EXPECT_TRUE(count > 1024 || result.count == expected.size()) << count;
    EXPECT_EQ(receive_all(there_, result.count),
              expected.substr(0, result.count));
  }
}

TEST_P(SocketOf, SendingToAPeerThatIsGoneFailsWithoutASignal) {
  ends_.there.reset();
  IoResult result;
  EXPECT_TRUE(wait_until([&] {
    result = send(here_, "x");
    return result.status != IoStatus::kOk;
  }));
  EXPECT_EQ(result.status, IoStatus::kError);
  EXPECT_TRUE(result.error_number == EPIPE ||
              result.error_number == ECONNRESET);
}

TEST_P(SocketOf, KnowsWhetherThePeerHungUpAndWhetherThatIsNext) {
  EXPECT_FALSE(here_.peer_hung_up());
  EXPECT_FALSE(here_.at_end());
  must_send(there_, "last");
  EXPECT_TRUE(wait_until([&] { return here_.receivable() == 4; }));
  EXPECT_FALSE(here_.peer_hung_up());
  EXPECT_FALSE(here_.at_end());
  there_.shutdown_send();
  EXPECT_TRUE(wait_until([&] { return here_.peer_hung_up(); }));
  EXPECT_FALSE(here_.at_end()) << "there are bytes before the end";
  EXPECT_EQ(receive(here_), bytes("last"));
  EXPECT_TRUE(here_.at_end());
  EXPECT_EQ(here_.receivable(), 0u);
}

TEST_P(SocketOf, SignalsDoNotEndAReceive) {
  for (const Wait& wait : {Wait(), Wait(1h)}) {
    const SignalStorm storm(::pthread_self());
    std::jthread sender([&] {
      EXPECT_TRUE(wait_until([&] { return storm.count() > 10; }));
      must_send(there_, "x");
    });
    EXPECT_EQ(receive(here_, wait), bytes("x"));
  }
}

TEST_P(SocketOf, SignalsDoNotExtendADeadline) {
  const SignalStorm storm(::pthread_self());
  for (const auto duration : {30ms, 150ms}) {
    const Deadline deadline = Deadline::after(duration);
    EXPECT_EQ(receive(here_, deadline), ended(IoStatus::kTimeout));
    EXPECT_TRUE(deadline.has_passed());
    EXPECT_LT(Clock::now(), deadline.when() + 5s);
  }
  EXPECT_GT(storm.count(), 2);
}

TEST_P(SocketOf, TakesADescriptorInNonBlockingMode) {
  ::fcntl(here_.native_handle(), F_SETFL, O_NONBLOCK);
  for (const Wait& wait : {Wait(), Wait(1h)}) {
    Call<Got> call([&] { return receive(here_, wait); });
    EXPECT_TRUE(call.blocks());
    must_send(there_, "x");
    EXPECT_EQ(call.result(), bytes("x"));
  }
  EXPECT_EQ(receive(here_, 60ms), ended(IoStatus::kTimeout));
  Call<Got> closed([&] { return receive(here_); });
  EXPECT_TRUE(closed.blocks());
  here_.close();
  EXPECT_EQ(closed.result(), ended(IoStatus::kClosed));
}

TEST_P(SocketOf, NeedsNoDescriptorToWait) {
  const std::stop_source source;
  must_send(there_, "x");
  const NoMoreDescriptors none;
  EXPECT_EQ(here_.wait_receivable(kPatience).status, IoStatus::kOk);
  EXPECT_EQ(here_.wait_sendable(kPatience).status, IoStatus::kOk);
  EXPECT_EQ(receive(here_, source.get_token()), bytes("x"));
  EXPECT_EQ(here_.wait_receivable(30ms).status, IoStatus::kTimeout);
  const Deadline deadline = Deadline::after(30ms);
  EXPECT_EQ(receive(here_, {deadline, source.get_token()}),
            ended(IoStatus::kTimeout));
  EXPECT_TRUE(deadline.has_passed());
  fill(here_);
  EXPECT_EQ(here_.wait_sendable(30ms).status, IoStatus::kTimeout);
}

TEST_P(SocketOf, WaitsWithoutADescriptorEndWithBytesStopAndClose) {
  std::stop_source source;
  fill(here_);
  const NoMoreDescriptors none;
  {
    std::latch begun(1);
    Call<Got> call([&] {
      begun.count_down();
      return receive(here_, source.get_token());
    });
    begun.wait();
    must_send(there_, "x");
    EXPECT_EQ(call.result(), bytes("x"));
  }
  Call<Got> reading([&] { return receive(here_, source.get_token()); });
  Call<IoStatus> sending(
      [&] { return here_.wait_sendable(source.get_token()).status; });
  source.request_stop();
  EXPECT_EQ(reading.result(), ended(IoStatus::kStopped));
  EXPECT_EQ(sending.result(), IoStatus::kStopped);

  Call<IoStatus> readable([&] { return here_.wait_receivable({}).status; });
  Call<IoStatus> sendable([&] { return here_.wait_sendable({}).status; });
  here_.close();
  EXPECT_EQ(readable.result(), IoStatus::kClosed);
  EXPECT_EQ(sendable.result(), IoStatus::kClosed);
}

// With a limit of 0, poll() itself is refused.
TEST_P(SocketOf, WaitsEvenIfPollIsRefused) {
  if (tcpip_tests::kNeedsDescriptors) GTEST_SKIP() << "UBSan needs one";
  const std::stop_source source;
  const Wait wait(kPatience, source.get_token());
  rlimit saved{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &saved), 0);
  const rlimit zero{0, saved.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &zero), 0);
  EXPECT_EQ(receive(here_, {20ms, source.get_token()}),
            ended(IoStatus::kTimeout));
  EXPECT_EQ(here_.wait_receivable(20ms).status, IoStatus::kTimeout);
  must_send(there_, "x");
  EXPECT_EQ(here_.wait_receivable(wait).status, IoStatus::kOk);
  EXPECT_EQ(receive(here_, wait), bytes("x"));
  EXPECT_EQ(here_.wait_sendable(wait).status, IoStatus::kOk);
  there_.close();
  EXPECT_EQ(here_.wait_receivable(wait).status, IoStatus::kOk);
  EXPECT_EQ(receive(here_, wait), kEnd);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &saved), 0);
}

TEST_P(SocketOf, LingerEndsWhenThePeerHasEverything) {
  must_send(here_, "last");
  if (GetParam() == Kind::kUnix) receive_all(there_, 4);
  here_.close();
  here_.linger(Deadline::after(1h));
  // All but the FIN, which counts as one byte.
  EXPECT_LE(here_.unacknowledged(), 1u);
  if (GetParam() == Kind::kTcp) {
    EXPECT_EQ(there_.receivable(), 4u);
  }
}

TEST_P(SocketOf, LingerEndsAtItsDeadline) {
  fill(here_);
  here_.close();
  const Deadline deadline = Deadline::after(30ms);
  here_.linger(deadline);
  EXPECT_TRUE(deadline.has_passed());
  EXPECT_LT(Clock::now(), deadline.when() + 10s);
  EXPECT_GT(here_.unacknowledged(), 0u);
}

TEST_P(SocketOf, LingerEndsWhenThePeerIsDone) {
  fill(here_);
  here_.close();
  EXPECT_EQ(here_.linger_step(), Socket::LingerStep::kNothing);
  there_.shutdown_send();
  EXPECT_TRUE(wait_until(
      [&] { return here_.linger_step() == Socket::LingerStep::kOver; }));
  here_.linger(Deadline::after(1h));
}

TEST_P(SocketOf, SetsOptionsThatItsKindHas) {
  EXPECT_TRUE(here_.set_options({}).empty());
  EXPECT_TRUE(here_.set_options({.send_buffer = 10'000}).empty());
  EXPECT_EQ(option_of<int>(here_.native_handle(), SOL_SOCKET, SO_SNDBUF),
            20'000);
}

// Socket, what TCP alone does -------------------------------------------------

TEST(TcpSocket, DeliversWhatCameBeforeAReset) {
  Ends ends = connected(Kind::kTcp);
  must_send(*ends.there, "last");
  EXPECT_TRUE(wait_until([&] { return ends.here->receivable() == 4; }));
  reset(ends.there);
  EXPECT_TRUE(wait_until([&] { return ends.here->peer_hung_up(); }));
  EXPECT_FALSE(ends.here->at_end());
  EXPECT_EQ(receive(*ends.here), bytes("last"));
  EXPECT_EQ(receive(*ends.here), failure(ECONNRESET));
  EXPECT_EQ(ends.here->lost_error(), ECONNRESET);
}

TEST(TcpSocket, AResetWakesAReceive) {
  for (const Wait& wait : {Wait(), Wait(1h)}) {
    Ends ends = connected(Kind::kTcp);
    Call<Got> call([&] { return receive(*ends.here, wait); });
    EXPECT_TRUE(call.blocks());
    reset(ends.there);
    EXPECT_EQ(call.result(), failure(ECONNRESET));
  }
}

TEST(TcpSocket, AResetWakesAWaitToSend) {
  Ends ends = connected(Kind::kTcp);
  fill(*ends.here);
  Call<IoStatus> call([&] { return ends.here->wait_sendable({}).status; });
  EXPECT_TRUE(call.blocks());
  reset(ends.there);
  EXPECT_EQ(call.result(), IoStatus::kOk) << "for send_now() to tell";
  EXPECT_EQ(send(*ends.here, "x").error_number, ECONNRESET);
}

TEST(TcpSocket, TellsTheReceiverOfAResetThatTheSenderMet) {
  for (const Wait& wait : {Wait(), Wait(1h), Wait::none()}) {
    Ends ends = connected(Kind::kTcp);
    reset(ends.there);
    EXPECT_TRUE(wait_until([&] { return ends.here->peer_hung_up(); }));
    const IoResult sent = send(*ends.here, "x");
    EXPECT_EQ(sent.status, IoStatus::kError);
    EXPECT_EQ(sent.error_number, ECONNRESET);
    EXPECT_EQ(send(*ends.here, "x").error_number, EPIPE);
    EXPECT_EQ(receive(*ends.here, wait), failure(ECONNRESET));
    EXPECT_EQ(receive(*ends.here, wait), failure(ECONNRESET));
  }
}

TEST(TcpSocket, KeepsAResetThatAtEndMet) {
  Ends ends = connected(Kind::kTcp);
  reset(ends.there);
  EXPECT_TRUE(wait_until([&] { return ends.here->at_end(); }));
  EXPECT_EQ(ends.here->lost_error(), ECONNRESET);
  EXPECT_EQ(receive(*ends.here), failure(ECONNRESET));
}

// The peer has its answer and leaves while the send is still returning. Else a
// server would now and then turn away the next client.
TEST(TcpSocket, SeesThatThePeerHungUpWhileAnotherThreadIsInsideACall) {
  for (int i = 0; i < 3000; ++i) {
    Ends ends = connected(Kind::kTcp);
    std::jthread sender([&] { send(*ends.here, "x"); });
    char answer = 0;
    ASSERT_EQ(ends.there->receive(&answer, 1, kPatience).count, 1u);
    ends.there.reset();
    ASSERT_TRUE(ends.here->peer_hung_up()) << i;
  }
}

// The kernel tells one of them only.
TEST(TcpSocket, TellsTheReceiverOfAResetThatAnotherThreadMeetsAtTheSameTime) {
  for (int i = 0; i < 2000; ++i) {
    Ends ends = connected(Kind::kTcp);
    reset(ends.there);
    ASSERT_TRUE(wait_until([&] { return ends.here->peer_hung_up(); }));
    std::latch together(2);
    std::jthread other([&] {
      together.arrive_and_wait();
      if (i % 2 == 0) {
        EXPECT_TRUE(ends.here->at_end());
      } else {
        EXPECT_EQ(send(*ends.here, "x").status, IoStatus::kError);
      }
    });
    together.arrive_and_wait();
    ASSERT_EQ(receive(*ends.here, Wait::none()), failure(ECONNRESET)) << i;
  }
}

TEST(TcpSocket, AnOrderlyEndStaysOneWhenALaterSendFails) {
  Ends ends = connected(Kind::kTcp);
  ends.there.reset();
  EXPECT_TRUE(wait_until(
      [&] { return send(*ends.here, "x").status == IoStatus::kError; }));
  EXPECT_EQ(receive(*ends.here), kEnd);
}

TEST(TcpSocket, LingerSavesTheLastBytesFromAReset) {
  Ends ends = connected(Kind::kTcp);
  must_send(*ends.there, "nobody reads this");
  EXPECT_TRUE(wait_until([&] { return ends.here->receivable() > 0; }));
  must_send(*ends.here, "last words");
  ends.here->close();
  must_send(*ends.there, "nor this");
  EXPECT_TRUE(wait_until([&] {
    ends.here->linger(Deadline::after(1ms));
    return ends.there->unacknowledged() == 0;
  }));
  ends.here->linger(Deadline::after(kPatience));
  ends.here.reset();
  EXPECT_EQ(receive(*ends.there), bytes("last words"));
  EXPECT_EQ(receive(*ends.there), kEnd);
}

TEST(TcpSocket, CloseDoesNotResetThePeerThatStillSends) {
  const std::stop_source source;
  const Ends ends = connected(Kind::kTcp);
  Call<Got> blocked([&] { return receive(*ends.here, source.get_token()); });
  EXPECT_TRUE(blocked.blocks());
  must_send(*ends.here, "last words");
  ends.here->close();
  EXPECT_EQ(blocked.result(), ended(IoStatus::kClosed));
  for (int i = 0; i < 3; ++i) must_send(*ends.there, "still talking");
  EXPECT_TRUE(wait_until([&] { return ends.there->unacknowledged() == 0; }));
  EXPECT_EQ(receive(*ends.there), bytes("last words"));
  EXPECT_EQ(receive(*ends.there), kEnd);
}

// A thread in recv can only be woken by shutting that direction too, and then
// the kernel answers what the peer still sends with a reset.
TEST(TcpSocket, CloseUnderARecvDeliversTheLastBytesAllTheSame) {
  for (const Wait& wait : {Wait(1h), Wait()}) {
    const Ends ends = connected(Kind::kTcp);
    Call<Got> blocked([&] { return receive(*ends.here, wait); });
    EXPECT_TRUE(blocked.blocks());
    must_send(*ends.here, "last words");
    ends.here->close();
    EXPECT_EQ(blocked.result(), ended(IoStatus::kClosed));
    send(*ends.there, "still talking");
    EXPECT_EQ(receive(*ends.there), bytes("last words"));
    const Got last = receive(*ends.there);
    EXPECT_TRUE(last == kEnd || last == failure(ECONNRESET)) << last;
  }
}

TEST(TcpSocket, KnowsBothAddresses) {
  const Ends ends = connected(Kind::kTcp);
  EXPECT_EQ(ends.here->local_address(), ends.there->peer_address());
  EXPECT_EQ(ends.here->peer_address(), ends.there->local_address());
  EXPECT_EQ(ends.here->peer_address().host(), "127.0.0.1");
  EXPECT_NE(ends.here->peer_address().port(), 0);
}

TEST(TcpSocket, SetsEveryOption) {
  const Ends ends = connected(Kind::kTcp);
  ends.here->set_options({.no_delay = false,
                          .keepalive = true,
                          .keepalive_time = 11s,
                          .keepalive_interval = 12s,
                          .keepalive_probes = 13,
                          .user_timeout = 14'015ms,
                          .send_buffer = 20'000,
                          .receive_buffer = 30'000});
  const int fd = ends.here->native_handle();
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_EQ(option_of<int>(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPIDLE), 11);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPINTVL), 12);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPCNT), 13);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 14'015);
  EXPECT_EQ(option_of<int>(fd, SOL_SOCKET, SO_SNDBUF), 40'000);
  EXPECT_EQ(option_of<int>(fd, SOL_SOCKET, SO_RCVBUF), 60'000);
}

TEST(TcpSocket, LeavesOptionsThatAreZeroAsTheyAre) {
  const Ends ends = connected(Kind::kTcp);
  const int fd = ends.here->native_handle();
  EXPECT_TRUE(ends.here
                  ->set_options({.no_delay = false,
                                 .keepalive_time = 11s,
                                 .keepalive_interval = 12s,
                                 .keepalive_probes = 13,
                                 .user_timeout = 14'015ms})
                  .empty());
  EXPECT_TRUE(ends.here
                  ->set_options({.keepalive_time = 0s,
                                 .keepalive_interval = 0s,
                                 .keepalive_probes = 0,
                                 .user_timeout = 0ms})
                  .empty());
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPIDLE), 11);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPINTVL), 12);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPCNT), 13);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 14'015);
  ends.here->set_options({.keepalive = false});
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(option_of<int>(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
}

TEST(TcpSocket, TellsWhichOptionsWereRefusedAndSetsTheOthers) {
  const Ends ends = connected(Kind::kTcp);
  const RefusedOptions refused = ends.here->set_options(
      {.keepalive_time = 40'000s,
       .keepalive_interval = std::chrono::seconds((1LL << 32) + 60),
       .keepalive_probes = 1000,
       .user_timeout = 12'345ms});
  std::vector<std::string> names;
  for (const RefusedOption& option : refused) {
    EXPECT_EQ(option.error, std::errc::invalid_argument);
    names.emplace_back(option.name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"TCP_KEEPIDLE", "TCP_KEEPINTVL",
                                             "TCP_KEEPCNT"}));
  EXPECT_EQ(refused.begin()->text(),
            "TCP_KEEPIDLE cannot be set: Invalid argument");
  const int fd = ends.here->native_handle();
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPINTVL),
            kKeepaliveInterval.count());
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 12'345);
}

// A10. The kernel says that this address is a byte longer than a sockaddr_un.
TEST(UnixSocket, HasAnAddressAsLongAsCanBe) {
  std::string folder = "/tmp/tcpip.XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  std::string path = folder + "/s";
  path.insert(folder.size(), sizeof un.sun_path - path.size(), '/');
  std::memcpy(un.sun_path, path.data(), path.size());
  const auto* const raw = reinterpret_cast<const sockaddr*>(&un);
  const UniqueFd listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(listening.get(), raw, sizeof un), 0);
  ASSERT_EQ(::listen(listening.get(), 1), 0);
  UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(client.get(), raw, sizeof un), 0);
  UniqueFd server(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_EQ(Socket(std::move(client)).peer_address().to_string(), path);
  EXPECT_EQ(Socket(std::move(server)).local_address().to_string(), path);
  ::unlink(path.c_str());
  ::rmdir(folder.c_str());
}

// Adopting a descriptor
// --------------------------------------------------------

void expect_refused(int fd, std::errc code) {
  try {
    const Socket socket{UniqueFd(fd)};
    ADD_FAILURE() << "taken";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code);
  }
  EXPECT_LT(::fcntl(fd, F_GETFD), 0) << "not closed";
}

TEST(SocketAdoption, RefusesWhatIsNoStreamSocketAndClosesIt) {
  expect_refused(-1, std::errc::bad_file_descriptor);
  expect_refused(::open("/dev/null", O_RDONLY | O_CLOEXEC),
                 std::errc::not_a_socket);
  expect_refused(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
                 std::errc::wrong_protocol_type);
}

TEST(SocketAdoption, RefusesAListeningSocket) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::listen(fd, 1), 0);
  expect_refused(fd, std::errc::invalid_argument);
}

TEST(SocketAdoption, RefusesASocketThatIsNotConnected) {
  expect_refused(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
                 std::errc::not_connected);
  expect_refused(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0),
                 std::errc::not_connected);
  expect_refused(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                 std::errc::not_connected);
}

// Urgent bytes of TCP are another matter: see stream_reader_test.cc.
TEST(SocketAdoption, KeepsOutOfBandBytesOfAUnixSocketAmongTheOthers) {
  Ends ends = connected(Kind::kUnix);
  must_send(*ends.there, "ab");
  ASSERT_EQ(::send(ends.there->native_handle(), "!", 1, MSG_OOB), 1);
  must_send(*ends.there, "cd");
  EXPECT_EQ(ends.here->receivable(), 5u);
  EXPECT_EQ(receive_all(*ends.here, 5), "ab!cd");
}

TEST(SocketAdoption, TakesWhatIsKnownAndAsksForNothing) {
  Ends ends = connected(Kind::kTcp);
  const Address here = resolve("127.0.0.2", 2).front();
  const Address there = resolve("127.0.0.3", 3).front();
  Socket socket(internal::ConnectedFd{
      UniqueFd(::dup(ends.here->native_handle())), here, there});
  EXPECT_EQ(socket.local_address(), here);
  EXPECT_EQ(socket.peer_address(), there);
  must_send(*ends.there, "ab");
  EXPECT_EQ(receive(socket, kPatience), bytes("ab"));
}

TEST(SocketAdoption, KeepsOutOfBandBytesOfAUnixSocketThatItKnows) {
  Ends ends = connected(Kind::kUnix);
  const Address unnamed = resolve("unix:/x", 0).front();
  Socket socket(internal::ConnectedFd{
      UniqueFd(::dup(ends.here->native_handle())), unnamed, {}});
  EXPECT_EQ(option_of<int>(socket.native_handle(), SOL_SOCKET, SO_OOBINLINE),
            1);
}

TEST(SocketAdoption, TakesAConnectionWhosePeerIsGoneAlready) {
  Listener listener("127.0.0.1", 0);
  auto client = connect_to(address_of(listener));
  const Address client_address = client->local_address();
  reset(client);
  Listener::Accepted accepted = listener.accept(kPatience);
  EXPECT_EQ(accepted.peer, client_address);
  EXPECT_EQ(internal::local_address_of(accepted.fd.get()),
            address_of(listener));
  Socket socket(std::move(accepted.fd));
  EXPECT_EQ(receive(socket), failure(ECONNRESET));
}

}  // namespace
}  // namespace tcpip
