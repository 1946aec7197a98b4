#include "tcpip/socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tests/support/private_network.h"
#include "tests/support/signal_storm.h"
#include "tests/support/wait_until.h"

namespace tcpip {

// For GoogleTest's messages.
void PrintTo(IoStatus status, std::ostream* out) {
  constexpr std::array kNames{"kOk", "kTimeout", "kStopped", "kClosed",
                              "kError"};
  *out << kNames[static_cast<std::size_t>(status)];
}

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using tcpip_tests::is_blocked_in_poll;
using tcpip_tests::is_blocked_in_receive;
using tcpip_tests::SignalStorm;
using tcpip_tests::this_thread_id;
using tcpip_tests::wait_until;
using tcpip_tests::write_setting;

enum class Kind { kUnix, kTcp };

struct Ends {
  std::shared_ptr<Socket> here;
  std::shared_ptr<Socket> there;
};

Address address_of(const Listener& listener) {
  return resolve("127.0.0.1", listener.port()).front();
}

std::shared_ptr<Socket> connect_to(const Address& address,
                                   const Wait& wait = 30s,
                                   const ConnectOptions& options = {}) {
  return connect_socket({&address, 1}, options, wait, address.to_string());
}

Ends connected(Kind kind) {
  if (kind == Kind::kUnix) {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()),
              0);
    return {std::make_shared<Socket>(UniqueFd(fds[0])),
            std::make_shared<Socket>(UniqueFd(fds[1]))};
  }
  Listener listener("127.0.0.1", 0);
  auto here = connect_to(address_of(listener));
  auto there = std::make_shared<Socket>(listener.accept(30s).fd);
  return {std::move(here), std::move(there)};
}

// What receive() came to, in one comparable value.
struct Got {
  IoStatus status = IoStatus::kOk;
  std::string data;
  int error_number = 0;
  bool operator==(const Got&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Got& got) {
    PrintTo(got.status, &out);
    return out << " '" << got.data << "' " << got.error_number;
  }
};

const Got kEnd{};
Got bytes(std::string data) { return {IoStatus::kOk, std::move(data), 0}; }
Got failure(int error_number) { return {IoStatus::kError, "", error_number}; }
Got ended(IoStatus status) { return {status, "", 0}; }

Got receive(Socket& socket, const Wait& wait = {}, std::size_t size = 1000) {
  std::string buffer(size, '\0');
  const IoResult result = socket.receive(buffer.data(), size, wait);
  buffer.resize(result.count);
  return {result.status, std::move(buffer), result.error_number};
}

std::string receive_all(Socket& socket, std::size_t size) {
  std::string result;
  while (result.size() < size) {
    const Got got = receive(socket, 30s, 256 * 1024);
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
  return socket.send_now({&piece, 1});
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
    if (socket.wait_sendable(20ms) == IoStatus::kTimeout) return sent;
  }
}

// Closes the connection with a reset.
void reset(std::shared_ptr<Socket>& socket) {
  const linger option{1, 0};
  ::setsockopt(socket->native_handle(), SOL_SOCKET, SO_LINGER, &option,
               sizeof option);
  socket.reset();
}

// Runs a call in a thread of its own.
template <class Result>
class Call {
 public:
  explicit Call(std::function<Result()> function)
      : thread_([this, function = std::move(function)] {
          thread_id_ = this_thread_id();
          result_ = function();
          done_ = true;
        }) {}

  // In the kernel, in one way or the other: a receive with neither stop nor
  // near deadline is a recv, every other wait a poll.
  bool blocks() {
    return wait_until([this] {
      return thread_id_ != 0 && (is_blocked_in_receive(thread_id_) ||
                                 is_blocked_in_poll(thread_id_));
    });
  }
  bool done() const { return done_; }
  Result result() {
    thread_.join();
    return *result_;
  }

 private:
  std::atomic<pid_t> thread_id_{0};
  std::atomic<bool> done_{false};
  std::optional<Result> result_;
  std::jthread thread_;
};

template <class T>
T option_of(int fd, int level, int name) {
  T value{};
  socklen_t size = sizeof value;
  EXPECT_EQ(::getsockopt(fd, level, name, &value, &size), 0);
  return value;
}

bool is_close_on_exec(int fd) { return ::fcntl(fd, F_GETFD) == FD_CLOEXEC; }

// While it lives, this process can open no descriptor.
class NoMoreDescriptors {
 public:
  NoMoreDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &saved_);
    const UniqueFd first_free(::dup(0));
    rlimit limit = saved_;
    limit.rlim_cur = static_cast<rlim_t>(first_free.get());
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  ~NoMoreDescriptors() { ::setrlimit(RLIMIT_NOFILE, &saved_); }
  NoMoreDescriptors(const NoMoreDescriptors&) = delete;
  NoMoreDescriptors& operator=(const NoMoreDescriptors&) = delete;

 private:
  rlimit saved_{};
};

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
    ASSERT_EQ(here_.wait_receivable(30s), IoStatus::kOk);
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
  EXPECT_EQ(receive(here_, 30s), bytes("x")) << "a stop loses nothing";
}

TEST_P(SocketOf, ARequestedStopWinsOverBytesAndDeadline) {
  std::stop_source source;
  source.request_stop();
  must_send(there_, "x");
  EXPECT_EQ(receive(here_, source.get_token()), ended(IoStatus::kStopped));
  EXPECT_EQ(receive(here_, {0s, source.get_token()}),
            ended(IoStatus::kStopped));
  EXPECT_EQ(here_.wait_sendable(source.get_token()), IoStatus::kStopped);
  EXPECT_EQ(here_.wait_receivable(source.get_token()), IoStatus::kStopped);
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
  Call<IoStatus> sending([&] { return here_.wait_sendable({}); });
  EXPECT_TRUE(sending.blocks());
  Call<IoStatus> receiving([&] { return here_.wait_receivable(1h); });
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
  EXPECT_EQ(here_.wait_sendable({}), IoStatus::kClosed);
  EXPECT_EQ(here_.wait_receivable(1h), IoStatus::kClosed);
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
  EXPECT_EQ(there_.shutdown_send(), 0);
  EXPECT_EQ(receive(here_, 1h), bytes("last"));
  EXPECT_EQ(receive(here_), kEnd);
  EXPECT_EQ(receive(here_, 1h), kEnd);
  EXPECT_EQ(receive(here_, Wait::none()), kEnd);
  EXPECT_EQ(here_.lost_error(), 0);
}

TEST_P(SocketOf, ReceivesAfterItsOwnHalfClose) {
  EXPECT_EQ(here_.shutdown_send(), 0);
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
  EXPECT_EQ(here_.wait_sendable(5ms), IoStatus::kTimeout);
  Call<IoStatus> call([&] { return here_.wait_sendable({}); });
  EXPECT_TRUE(call.blocks());
  receive_all(there_, sent);
  EXPECT_EQ(call.result(), IoStatus::kOk);
  must_send(here_, "x");
}

TEST_P(SocketOf, AStopWakesAWaitToSend) {
  fill(here_);
  std::stop_source source;
  Call<IoStatus> call([&] {
    return here_.wait_sendable({1h, source.get_token()});
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

TEST_P(SocketOf, ALackOfDescriptorsLosesNothing) {
  const std::stop_source source;
  must_send(there_, "x");
  const NoMoreDescriptors none;
  try {
    receive(here_, source.get_token());  // needs an eventfd
    FAIL();
  } catch (const ConnectionError& e) {
    FAIL() << "the connection lives: " << e.what();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::too_many_files_open);
  }
  EXPECT_EQ(receive(here_), bytes("x"));
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
  EXPECT_TRUE(here_.linger_step());
  there_.shutdown_send();
  EXPECT_TRUE(wait_until([&] { return !here_.linger_step(); }));
  here_.linger(Deadline::after(1h));
}

TEST_P(SocketOf, SetsOptionsThatItsKindHas) {
  EXPECT_NO_THROW(here_.set_options({}));
  EXPECT_NO_THROW(here_.set_options({.send_buffer = 10'000}));
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
  Call<IoStatus> call([&] { return ends.here->wait_sendable({}); });
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
  ends.here->linger(Deadline::after(30s));
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
  ends.here->set_options({.keepalive = false, .user_timeout = 0ms});
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(option_of<int>(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
}

TEST(TcpSocket, TellsWhichOptionWasRefused) {
  const Ends ends = connected(Kind::kTcp);
  try {
    ends.here->set_options({.keepalive_probes = 1000});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::invalid_argument);
    EXPECT_EQ(e.operation(), "TCP_KEEPCNT");
  }
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

TEST(SocketAdoption, TakesAConnectionWhosePeerIsGoneAlready) {
  Listener listener("127.0.0.1", 0);
  auto client = connect_to(address_of(listener));
  const Address client_address = client->local_address();
  reset(client);
  Listener::Accepted accepted = listener.accept(30s);
  EXPECT_EQ(accepted.peer, client_address);
  Socket socket(std::move(accepted.fd));
  EXPECT_EQ(receive(socket), failure(ECONNRESET));
}

// connect_socket
// ---------------------------------------------------------------

// The ports that the kernel may choose from, in a private network.
void use_ports(const std::string& range) {
  if (!write_setting("/proc/sys/net/ipv4/ip_local_port_range", range)) {
    tcpip_tests::leave_as_not_permitted();
  }
}

// An address that nobody listens on and nobody else can take.
class RefusingAddress {
 public:
  RefusingAddress() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(
        ::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&in), sizeof in),
        0);
    socklen_t size = sizeof in;
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&in), &size);
    address_ = Address(&in, size);
  }
  const Address& address() const { return address_; }

 protected:
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  Address address_;
};

// An address that drops every SYN, as a host does that is switched off: its
// queue of connections is full.
class SilentAddress : public RefusingAddress {
 public:
  SilentAddress() {
    EXPECT_EQ(::listen(fd(), 0), 0);
    for (int i = 0; i < 10; ++i) {
      waiting_.emplace_back(
          ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      ::connect(waiting_.back().get(),
                static_cast<const sockaddr*>(address().data()),
                static_cast<socklen_t>(address().size()));
      pollfd fd{waiting_.back().get(), POLLOUT, 0};
      if (::poll(&fd, 1, 20) == 0) return;
    }
    ADD_FAILURE() << "the queue is never full";
  }

 private:
  std::vector<UniqueFd> waiting_;
};

std::shared_ptr<Socket> connect_to_first_of(
    const std::vector<Address>& addresses, const Wait& wait = 30s) {
  return connect_socket(addresses, {}, wait, "telescope:4000");
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST(ConnectSocket, ConnectsUnderEveryWait) {
  const std::stop_source source;
  Listener listener("127.0.0.1", 0);
  for (const Wait& wait : {Wait(), Wait(30s), Wait(source.get_token()),
                           Wait(30s, source.get_token())}) {
    const auto socket = connect_to(address_of(listener), wait);
    EXPECT_EQ(socket->peer_address(), address_of(listener));
    EXPECT_EQ(listener.accept(30s).peer, socket->local_address());
  }
}

TEST(ConnectSocket, SetsTheOptionsByDefault) {
  const Ends ends = connected(Kind::kTcp);
  const int fd = ends.here->native_handle();
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(option_of<int>(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_KEEPIDLE),
            kKeepaliveTime.count());
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
            std::chrono::milliseconds(kUserTimeout).count());
  EXPECT_TRUE(is_close_on_exec(fd));
  EXPECT_EQ(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
}

TEST(ConnectSocket, SetsTheOptionsOfTheCaller) {
  Listener listener("127.0.0.1", 0);
  ConnectOptions options;
  options.socket.no_delay = false;
  options.socket.user_timeout = 12'345ms;
  const auto socket = connect_to(address_of(listener), 30s, options);
  const int fd = socket->native_handle();
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_EQ(option_of<int>(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 12'345);
}

TEST(ConnectSocket, ReportsOptionsThatAreRefused) {
  Listener listener("127.0.0.1", 0);
  ConnectOptions options;
  options.socket.keepalive_probes = 1000;
  EXPECT_THROW(connect_to(address_of(listener), 30s, options), Error);
}

TEST(ConnectSocket, ReportsARefusal) {
  const RefusingAddress refusing;
  try {
    connect_to_first_of({refusing.address()});
    FAIL();
  } catch (const ConnectionRefusedError& e) {
    EXPECT_EQ(e.code(), std::errc::connection_refused);
    EXPECT_EQ(e.operation(), "connect");
    EXPECT_EQ(e.peer(), "telescope:4000");
  }
}

TEST(ConnectSocket, GoesOnToTheNextAddress) {
  const RefusingAddress refusing;
  const RefusingAddress refusing_too;
  Listener listener("127.0.0.1", 0);
  const auto socket =
      connect_to_first_of({refusing.address(), refusing_too.address(),
                           address_of(listener), refusing.address()});
  EXPECT_EQ(socket->peer_address(), address_of(listener));
}

TEST(ConnectSocket, KeepsTimeForTheNextAddress) {
  const SilentAddress silent;
  Listener listener("127.0.0.1", 0);
  const Clock::time_point start = Clock::now();
  const auto socket =
      connect_to_first_of({silent.address(), address_of(listener)}, 600ms);
  EXPECT_EQ(socket->peer_address(), address_of(listener));
  EXPECT_GE(Clock::now() - start, 250ms) << "the first had its share";
}

TEST(ConnectSocket, NamesEveryAddressThatFailedInItsOwnWay) {
  const SilentAddress silent;
  const RefusingAddress refusing;
  try {
    connect_to_first_of({silent.address(), refusing.address()}, 60ms);
    FAIL();
  } catch (const ConnectionRefusedError& e) {
    EXPECT_TRUE(contains(e.what(), silent.address().to_string())) << e.what();
    EXPECT_TRUE(contains(e.what(), refusing.address().to_string()));
    EXPECT_TRUE(contains(e.what(), "timed out"));
    EXPECT_TRUE(contains(e.what(), "refused"));
  }
}

TEST(ConnectSocket, EndsAtItsDeadline) {
  const SilentAddress silent;
  const std::stop_source source;
  for (const std::stop_token& stop : {std::stop_token(), source.get_token()}) {
    const Deadline deadline = Deadline::after(40ms);
    EXPECT_THROW(connect_to_first_of({silent.address()}, {deadline, stop}),
                 TimeoutError);
    EXPECT_TRUE(deadline.has_passed());
    EXPECT_LT(Clock::now(), deadline.when() + 10s);
  }
  EXPECT_THROW(connect_to_first_of({silent.address(), silent.address()}, 20ms),
               TimeoutError);
  EXPECT_THROW(connect_to_first_of({silent.address()}, Wait::none()),
               TimeoutError);
}

TEST(ConnectSocket, IsWokenByAStop) {
  const SilentAddress silent;
  for (const Deadline deadline : {Deadline(), Deadline::after(1h)}) {
    std::stop_source source;
    Call<std::string> call([&]() -> std::string {
      try {
        connect_to_first_of({silent.address(), silent.address()},
                            {deadline, source.get_token()});
        return "connected";
      } catch (const CancelledError& e) {
        return e.what();
      }
    });
    EXPECT_TRUE(call.blocks());
    source.request_stop();
    EXPECT_EQ(call.result(), "connect [telescope:4000]: stop requested");
  }
}

TEST(ConnectSocket, DoesNotConnectOnceStopped) {
  Listener listener("127.0.0.1", 0);
  std::stop_source source;
  source.request_stop();
  EXPECT_THROW(connect_to(address_of(listener), source.get_token()),
               CancelledError);
}

TEST(ConnectSocket, KeepsItsDeadlineUnderASignalStorm) {
  const SilentAddress silent;
  const SignalStorm storm(::pthread_self());
  const Deadline deadline = Deadline::after(50ms);
  EXPECT_THROW(connect_to_first_of({silent.address()}, deadline), TimeoutError);
  EXPECT_TRUE(deadline.has_passed());
  EXPECT_LT(Clock::now(), deadline.when() + 5s);
}

TEST(ConnectSocket, ConnectsUnderASignalStorm) {
  Listener listener("127.0.0.1", 0);
  const SignalStorm storm(::pthread_self());
  for (int i = 0; i < 50; ++i) {
    EXPECT_NE(connect_to(address_of(listener)), nullptr);
    listener.accept(30s);
  }
}

TEST(ConnectSocket, BindsToALocalAddress) {
  Listener listener("127.0.0.1", 0);
  std::uint16_t port = 0;
  {
    const RefusingAddress free_port;
    port = free_port.address().port();
  }
  const auto socket =
      connect_to(address_of(listener), 30s,
                 {.local_host = "127.0.0.2", .local_port = port});
  EXPECT_EQ(socket->local_address().to_string(),
            host_and_port("127.0.0.2", port));
  EXPECT_EQ(listener.accept(30s).peer, socket->local_address());
}

TEST(ConnectSocket, BindsToALocalPortAlone) {
  Listener listener("127.0.0.1", 0);
  std::uint16_t port = 0;
  {
    const RefusingAddress free_port;
    port = free_port.address().port();
  }
  const auto socket =
      connect_to(address_of(listener), 30s, {.local_port = port});
  EXPECT_EQ(socket->local_address().port(), port);
}

TEST(ConnectSocket, ReportsALocalAddressThatIsNotOurs) {
  Listener listener("127.0.0.1", 0);
  try {
    connect_to(address_of(listener), 30s, {.local_host = "192.0.2.1"});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_not_available);
  }
}

TEST(ConnectSocket, ReportsALocalAddressOfTheOtherFamily) {
  Listener listener("127.0.0.1", 0);
  try {
    connect_to(address_of(listener), 30s, {.local_host = "::1"});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_family_not_supported);
  }
}

TEST(ConnectSocket, ReportsALackOfDescriptors) {
  Listener listener("127.0.0.1", 0);
  const Address address = address_of(listener);
  const NoMoreDescriptors none;
  try {
    connect_to(address);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::too_many_files_open);
  }
}

TEST(ConnectSocket, ReportsAnUnreachableNetwork) {
  TEST_IN_PRIVATE_NETWORK([] {
    try {
      connect_to(resolve("192.0.2.1", 4000).front());
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), std::errc::network_unreachable);
      EXPECT_STREQ(e.what(),
                   "connect [192.0.2.1:4000]: Network is unreachable");
    }
    Listener listener("127.0.0.1", 0);
    const auto socket = connect_to_first_of(
        {resolve("192.0.2.1", 4000).front(), address_of(listener)});
    EXPECT_EQ(socket->peer_address(), address_of(listener));
  });
}

TEST(ConnectSocket, NeverConnectsToItself) {
  TEST_IN_PRIVATE_NETWORK([] {
    // The only port that the kernel can choose is that of the address itself.
    use_ports("7000 7000");
    try {
      connect_to(resolve("127.0.0.1", 7000).front());
      ADD_FAILURE() << "connected";
    } catch (const Error& e) {
      // The second, if the first try has left the port in TIME_WAIT.
      EXPECT_TRUE(e.code() == Errc::kSelfConnect ||
                  e.code() == std::errc::address_not_available)
          << e.what();
    }
  });
}

TEST(ConnectSocket, TriesAnotherPortRatherThanConnectToItself) {
  TEST_IN_PRIVATE_NETWORK([] {
    // Two ports, of which one is the address itself: every other attempt or so
    // would meet itself.
    use_ports("7000 7001");
    for (int i = 0; i < 20; ++i) {
      EXPECT_THROW(connect_to(resolve("127.0.0.1", 7000).front()),
                   ConnectionRefusedError);
    }
  });
}

// Listener
// ---------------------------------------------------------------------

TEST(Listener, TakesOneFreePortForAllItsSockets) {
  const Listener listener(std::nullopt, 0);
  ASSERT_FALSE(listener.addresses().empty());
  EXPECT_EQ(listener.addresses().size(), listener.sockets().size());
  EXPECT_NE(listener.port(), 0);
  std::set<AddressFamily> families;
  for (const Address& address : listener.addresses()) {
    EXPECT_EQ(address.port(), listener.port());
    families.insert(address.family());
  }
  EXPECT_EQ(families.size(), listener.addresses().size());
  EXPECT_TRUE(families.contains(AddressFamily::kIpv4));
}

TEST(Listener, TakesAnEmptyHostForAllInterfaces) {
  const Listener listener("", 0, {.family = AddressFamily::kIpv4});
  EXPECT_EQ(listener.addresses().front().host(), "0.0.0.0");
}

TEST(Listener, AcceptsOnEverySocket) {
  Listener listener(std::nullopt, 0);
  for (const Address& address : listener.addresses()) {
    const bool six = address.family() == AddressFamily::kIpv6;
    const auto client =
        connect_to(resolve(six ? "::1" : "127.0.0.1", listener.port()).front());
    EXPECT_EQ(listener.accept(30s).peer, client->local_address());
  }
}

TEST(Listener, KeepsToOneFamilyIfAsked) {
  const Listener listener(std::nullopt, 0, {.family = AddressFamily::kIpv4});
  ASSERT_EQ(listener.addresses().size(), 1u);
  EXPECT_EQ(listener.addresses().front().family(), AddressFamily::kIpv4);
}

TEST(Listener, ListensOnTheGivenPort) {
  std::uint16_t port = 0;
  {
    const RefusingAddress free_port;
    port = free_port.address().port();
  }
  const Listener listener("127.0.0.1", port);
  EXPECT_EQ(listener.port(), port);
}

TEST(Listener, NamesTheAddressThatIsInUse) {
  const Listener listener("127.0.0.1", 0);
  try {
    const Listener second("127.0.0.1", listener.port());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_in_use);
    EXPECT_EQ(std::string(e.what()),
              "listen [127.0.0.1:" + std::to_string(listener.port()) +
                  "]: Address already in use");
  }
}

TEST(Listener, NamesTheAddressThatIsNotOurs) {
  try {
    const Listener listener("192.0.2.1", 4000);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), std::errc::address_not_available);
    EXPECT_TRUE(contains(e.what(), "192.0.2.1:4000")) << e.what();
  }
}

TEST(Listener, RefusesBadArguments) {
  EXPECT_THROW(Listener("127.0.0.1", -1), std::invalid_argument);
  EXPECT_THROW(Listener("127.0.0.1", 65536), std::invalid_argument);
  EXPECT_THROW(Listener("127.0.0.1", 0, {.backlog = 0}), std::invalid_argument);
  EXPECT_THROW(Listener("127.0.0.1", 0, {.backlog = -1}),
               std::invalid_argument);
  EXPECT_THROW(Listener("127.0.0.1", 0, {.family = AddressFamily::kIpv6}),
               ResolveError);
}

TEST(Listener, TakesAPortOfAnEndedConnection) {
  std::uint16_t port = 0;
  {
    Listener listener("127.0.0.1", 0);
    port = listener.port();
    const auto client = connect_to(address_of(listener));
    // The side that closes first is the one that stays in TIME_WAIT.
    listener.accept(30s).fd.reset();
    EXPECT_EQ(receive(*client), kEnd);
  }
  EXPECT_TRUE(wait_until([&] {
    try {
      const Listener listener("127.0.0.1", port);
      return true;
    } catch (const Error&) {
      return false;  // the client's FIN is still under way
    }
  }));
  EXPECT_THROW(Listener("127.0.0.1", port, {.reuse_address = false}), Error);
}

TEST(Listener, SharesAPortOnlyIfAsked) {
  const Listener first("127.0.0.1", 0, {.reuse_port = true});
  EXPECT_NO_THROW(Listener("127.0.0.1", first.port(), {.reuse_port = true}));
  EXPECT_THROW(Listener("127.0.0.1", first.port()), Error);
}

TEST(Listener, AcceptsWhatWaits) {
  const std::stop_source source;
  Listener listener("127.0.0.1", 0);
  for (const Wait& wait :
       {Wait(), Wait(30s), Wait(source.get_token()), Wait::none()}) {
    const auto client = connect_to(address_of(listener));
    const Listener::Accepted accepted = listener.accept(wait);
    EXPECT_EQ(accepted.peer, client->local_address());
    EXPECT_TRUE(is_close_on_exec(accepted.fd.get()));
    EXPECT_EQ(::fcntl(accepted.fd.get(), F_GETFL) & O_NONBLOCK, 0);
  }
  for (const UniqueFd& fd : listener.sockets()) {
    EXPECT_TRUE(is_close_on_exec(fd.get()));
  }
}

TEST(Listener, AcceptsInTheOrderOfArrival) {
  Listener listener("127.0.0.1", 0);
  std::vector<std::shared_ptr<Socket>> clients;
  for (int i = 0; i < 20; ++i)
    clients.push_back(connect_to(address_of(listener)));
  for (const auto& client : clients) {
    EXPECT_EQ(listener.accept(30s).peer, client->local_address());
  }
}

Call<std::string> accept_call(Listener& listener, const Wait& wait) {
  return Call<std::string>([&listener, wait]() -> std::string {
    try {
      return listener.accept(wait).peer.host();
    } catch (const CancelledError&) {
      return "CancelledError";
    } catch (const ConnectionAbortedError&) {
      return "ConnectionAbortedError";
    }
  });
}

TEST(Listener, AcceptWaitsForAConnection) {
  const std::stop_source source;
  Listener listener("127.0.0.1", 0);
  for (const Wait& wait : {Wait(), Wait(1h), Wait(source.get_token())}) {
    Call<std::string> call = accept_call(listener, wait);
    EXPECT_TRUE(call.blocks());
    const auto client = connect_to(address_of(listener));
    EXPECT_EQ(call.result(), "127.0.0.1");
  }
}

TEST(Listener, AcceptEndsAtItsDeadline) {
  Listener listener("127.0.0.1", 0);
  const Deadline deadline = Deadline::after(20ms);
  EXPECT_THROW(listener.accept(deadline), TimeoutError);
  EXPECT_TRUE(deadline.has_passed());
  EXPECT_THROW(listener.accept(Wait::none()), TimeoutError);
}

TEST(Listener, AcceptIsWokenByAStop) {
  Listener listener(std::nullopt, 0);
  for (const Deadline deadline : {Deadline(), Deadline::after(1h)}) {
    std::stop_source source;
    Call<std::string> call =
        accept_call(listener, {deadline, source.get_token()});
    EXPECT_TRUE(call.blocks());
    source.request_stop();
    EXPECT_EQ(call.result(), "CancelledError");
  }
  EXPECT_THROW(listener.accept(1ms), TimeoutError) << "the stop is over";
}

TEST(Listener, AcceptIsWokenByClose) {
  for (const Wait& wait : {Wait(), Wait(1h)}) {
    Listener listener("127.0.0.1", 0);
    Call<std::string> call = accept_call(listener, wait);
    EXPECT_TRUE(call.blocks());
    listener.close();
    EXPECT_EQ(call.result(), "ConnectionAbortedError");
  }
}

TEST(Listener, NeverMissesACloseThatComesAtTheSameTime) {
  for (int i = 0; i < 100; ++i) {
    std::stop_source source;
    Listener listener("127.0.0.1", 0);
    Call<std::string> call = accept_call(listener, source.get_token());
    // Both at once: one of them is seen, neither is lost.
    source.request_stop();
    listener.close();
    call.result();
    ASSERT_THROW(listener.accept(), ConnectionAbortedError);
  }
}

TEST(Listener, RefusesAndResetsAfterClose) {
  Listener listener("127.0.0.1", 0);
  const Address address = address_of(listener);
  const auto waiting = connect_to(address);
  listener.close();
  listener.close();
  EXPECT_THROW(listener.accept(), ConnectionAbortedError);
  EXPECT_THROW(listener.accept(Wait::none()), ConnectionAbortedError);
  EXPECT_THROW(connect_to(address), ConnectionRefusedError);
  EXPECT_EQ(receive(*waiting), failure(ECONNRESET));
}

TEST(Listener, TryAcceptDoesNotWait) {
  Listener listener("127.0.0.1", 0);
  int error_number = -1;
  EXPECT_FALSE(listener.try_accept(0, error_number));
  EXPECT_EQ(error_number, 0);
  const auto client = connect_to(address_of(listener));
  const std::optional<Listener::Accepted> accepted =
      listener.try_accept(0, error_number);
  ASSERT_TRUE(accepted);
  EXPECT_EQ(accepted->peer, client->local_address());
}

TEST(Listener, ALackOfDescriptorsLosesNoConnection) {
  Listener listener("127.0.0.1", 0);
  const auto client = connect_to(address_of(listener));
  {
    const NoMoreDescriptors none;
    try {
      listener.accept(30s);
      FAIL();
    } catch (const ConnectionError& e) {
      FAIL() << "no connection is lost: " << e.what();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), std::errc::too_many_files_open);
    }
    int error_number = 0;
    EXPECT_FALSE(listener.try_accept(0, error_number));
    EXPECT_EQ(error_number, EMFILE);
  }
  EXPECT_EQ(listener.accept(30s).peer, client->local_address());
}

TEST(Listener, KeepsItsDeadlineUnderASignalStorm) {
  Listener listener("127.0.0.1", 0);
  const SignalStorm storm(::pthread_self());
  const Deadline deadline = Deadline::after(50ms);
  EXPECT_THROW(listener.accept(deadline), TimeoutError);
  EXPECT_TRUE(deadline.has_passed());
  EXPECT_LT(Clock::now(), deadline.when() + 5s);
}

TEST(Listener, DoesWithoutIpv6WhereThereIsNone) {
  TEST_IN_PRIVATE_NETWORK([] {
    if (!write_setting("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")) return;
    Listener listener(std::nullopt, 0);
    const auto client = connect_to(address_of(listener));
    EXPECT_EQ(listener.accept(30s).peer, client->local_address());
    try {
      const Listener six("::1", 0);
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), std::errc::address_not_available);
      EXPECT_TRUE(contains(e.what(), "[::1]:0")) << e.what();
    }
    EXPECT_NE(connect_to_first_of({resolve("::1", listener.port()).front(),
                                   address_of(listener)}),
              nullptr);
  });
}

TEST(Listener, TakesAPortThatIsFreeOnEveryAddress) {
  TEST_IN_PRIVATE_NETWORK([] {
    // Of these the kernel gives the odd ones of the lower half, one in two of
    // which is taken on IPv6.
    use_ports("7000 7063");
    std::vector<std::unique_ptr<Listener>> taken;
    try {
      for (int port = 7001; port < 7032; port += 4) {
        taken.push_back(std::make_unique<Listener>("::", port));
      }
    } catch (const Error&) {
      return;  // no IPv6
    }
    for (int i = 0; i < 10; ++i) {
      const Listener listener(std::nullopt, 0);
      EXPECT_EQ(listener.addresses().size(), 2u);
      for (const auto& other : taken) EXPECT_NE(listener.port(), other->port());
    }
  });
}

}  // namespace
}  // namespace tcpip
