// The steps of a connection's life, taken one by one in the test's thread,
// which plays the accept thread: so each comes exactly where the test wants it.
// What servers and clients make of these is in their own tests.
#include "tcpip/endpoint/endpoint_core.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "tcpip/endpoint/make_core.h"
#include "tests/support/loopback.h"
#include "tests/support/raw_client.h"
#include "tests/support/waiting_thread.h"

namespace tcpip::internal {
namespace {

using Admission = EndpointCore::Admission;
using tcpip_tests::Gate;
using tcpip_tests::half_close;
using tcpip_tests::kPatience;
using tcpip_tests::on_destruction;
using tcpip_tests::SocketPair;
using tcpip_tests::soon;
using tcpip_tests::Transport;
using tcpip_tests::WaitingThread;

class EndpointCoreTest : public testing::Test {
 protected:
  EndpointCoreTest() : core(make(/*has_reader=*/false)) {}
  ~EndpointCoreTest() override { core->release(); }

  // A Link to a new peer, and that peer.
  struct Client {
    std::shared_ptr<Link> link;
    UniqueFd peer;
  };
  Client client() const {
    SocketPair pair = tcpip_tests::socket_pair(Transport::kIpv4);
    return {core->make_link(pair.socket, pair.socket->peer_address()),
            std::move(pair.peer)};
  }
  Client admitted() const {
    Client made = client();
    EXPECT_EQ(core->admit(made.link), Admission::kAccepted);
    return made;
  }

  static std::shared_ptr<EndpointCore> make(bool has_reader,
                                            CallbackQueue* queue = nullptr) {
    ServerOptions options;
    options.callbacks = queue;
    options.connect_callback = [](const ConnectionEvent&) {};
    return make_core(options, "OneClientServer", has_reader);
  }

  std::shared_ptr<EndpointCore> core;
};

TEST_F(EndpointCoreTest, ReasonSaysWhatTheErrorMeans) {
  const auto reason = [](int error) {
    return EndpointCore::reason_for({error, std::generic_category()});
  };
  EXPECT_EQ(EndpointCore::reason_for({}), DisconnectReason::kPeerClosed);
  EXPECT_EQ(EndpointCore::reason_for(make_error_code(Errc::kIncompleteRead)),
            DisconnectReason::kPeerClosed);
  EXPECT_EQ(reason(EPIPE), DisconnectReason::kPeerClosed);
  for (const int error :
       {ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN}) {
    EXPECT_EQ(reason(error), DisconnectReason::kTimedOut) << error;
  }
  EXPECT_EQ(reason(ECONNRESET), DisconnectReason::kReset);
  EXPECT_EQ(reason(ECONNABORTED), DisconnectReason::kReset);
}

// --- Threads and callbacks ---

TEST_F(EndpointCoreTest, StartThatCloseHasOvertakenLeavesNothingBehind) {
  core->begin_start();
  core->close();
  core->start_dispatcher();
  EXPECT_FALSE(core->post([] {}));
  EXPECT_THROW(core->start_worker(ThreadRole::kAccept, "late",
                                  [](EndpointCore&) { FAIL() << "ran"; }),
               ConnectionError);
}

TEST_F(EndpointCoreTest, WorkIsDestroyedBeforeItsThreadCountsAsEnded) {
  Gate gate;
  core->start_worker(
      ThreadRole::kReader, "worker",
      [keep = on_destruction(gate.callback())](EndpointCore& c) { c.close(); });
  gate.wait_begun();
  EXPECT_FALSE(core->wait_done(Wait::none()));
  gate.open();
  EXPECT_TRUE(core->wait_done(kPatience));
}

TEST_F(EndpointCoreTest, IsNotDoneWhileWhatACallbackHoldsIsDestroyed) {
  CallbackQueue queue;
  core->release();
  core = make(/*has_reader=*/false, &queue);
  core->begin_start();
  core->start_dispatcher();
  Gate gate;
  core->post(
      [keep = on_destruction(gate.callback()), c = core.get()] { c->close(); });
  WaitingThread drainer([&] { queue.run_pending(); });
  gate.wait_begun();
  EXPECT_FALSE(core->wait_done(Wait::none()));
  WaitingThread waiter([&] { EXPECT_TRUE(core->wait_done({})); });
  EXPECT_TRUE(waiter.is_blocked());
  gate.open();
  waiter.join();
  drainer.join();
}

TEST_F(EndpointCoreTest, IsNotDoneBeforeCloseThoughItHasNoThreads) {
  EXPECT_FALSE(core->wait_done(Wait::none()));
  core->close();
  EXPECT_TRUE(core->wait_done(Wait::none()));
}

TEST_F(EndpointCoreTest, CloseEndsThePauseOfAThread) {
  WaitingThread worker([&] { core->pause({}); });
  EXPECT_TRUE(worker.is_blocked());
  core->close();
  worker.join();
}

TEST_F(EndpointCoreTest, CloseInACallbackWaitsForTheOtherThreads) {
  core->begin_start();
  core->start_dispatcher();
  Gate gate;
  core->start_worker(ThreadRole::kAccept, "worker",
                     [&](EndpointCore&) { gate.callback()(); });
  gate.wait_begun();
  std::atomic<pid_t> dispatcher = 0;
  std::atomic<bool> closed = false;
  core->post([&] {
    dispatcher = ::gettid();
    core->close();
    closed = true;
  });
  EXPECT_TRUE(soon([&] {
    return core->is_closing() && tcpip_tests::is_blocked(dispatcher);
  }));
  EXPECT_FALSE(closed);
  gate.open();
  EXPECT_TRUE(soon([&] { return closed.load(); }));
}

// There is no dispatcher here, so no event is queued.
TEST_F(EndpointCoreTest, EventsThatWereNotQueuedDoNotCountAsWaiting) {
  for (int i = 0; i < 3; ++i) {
    const Client made = admitted();
    core->close_link(*made.link);
  }
  EXPECT_EQ(core->connection_count(), 3u);
}

// --- What comes late for a connection that has ended ---

TEST_F(EndpointCoreTest, NothingThatIsLateForOneConnectionEndsTheNext) {
  const Client first = admitted();
  core->close_link(*first.link);
  const Client second = admitted();
  core->note_hang_up(*first.link, /*broken=*/true);
  core->lose(*first.link, DisconnectReason::kReset);
  core->write_failed(*first.link, {});
  core->read_ended(*first.link, /*lost=*/true);
  core->close_link(*first.link);
  core->finish_serving(*first.link, true);
  EXPECT_FALSE(core->go_on(*first.link));
  EXPECT_TRUE(core->is_current(*second.link));
}

TEST_F(EndpointCoreTest, NothingThatIsLateForAConnectionEndsItTwice) {
  const Client only = admitted();
  core->close_link(*only.link);
  core->note_hang_up(*only.link, /*broken=*/true);
  core->lose(*only.link, DisconnectReason::kReset);
  core->write_failed(*only.link, {});
  core->read_ended(*only.link, /*lost=*/true);
  core->close_link(*only.link);
  core->finish_serving(*only.link, true);
  EXPECT_FALSE(core->go_on(*only.link));
  EXPECT_FALSE(core->connected());
}

// Its Link lives on here, as in a call that is under way.
TEST_F(EndpointCoreTest, RecordOfAnEndedConnectionGivesNoLink) {
  const Client made = admitted();
  EXPECT_EQ(made.link->record->link(), made.link);
  core->close_link(*made.link);
  EXPECT_EQ(made.link->record->link(), nullptr);
}

TEST_F(EndpointCoreTest, NoClientIsAdmittedOnceClosing) {
  const Client late = client();
  core->close();
  EXPECT_EQ(core->admit(late.link), Admission::kClosing);
  EXPECT_EQ(core->admit(late.link, /*force=*/true), Admission::kClosing);
  EXPECT_EQ(core->connection_count(), 0u);
}

TEST_F(EndpointCoreTest, LastMessageIsInHandUntilTheReaderGoesOn) {
  core->release();
  core = make(/*has_reader=*/true);
  const Client made = admitted();
  EXPECT_TRUE(core->go_on(*made.link));
  tcpip_tests::send_all(made.peer, "last\n");
  half_close(made.peer);
  EXPECT_EQ(made.link->receiver->read_line({"read_line", kPatience}), "last\n");
  core->note_hang_up(*made.link, /*broken=*/false);
  EXPECT_TRUE(core->connected());
  EXPECT_FALSE(core->go_on(*made.link));
  EXPECT_FALSE(core->connected());
}

// --- A read that is under way ---

std::atomic<int> held_from{-1};  // the pipe that holds a thread in its handler
std::atomic<bool> is_held{false};

void hold(int /*signal*/) {
  const int error = errno;
  is_held = true;
  char byte = 0;
  while (::read(held_from, &byte, 1) < 0 && errno == EINTR) {
  }
  errno = error;
}

// Holds a thread where it is, between two instructions, in a signal handler.
class Held {
 public:
  explicit Held(pthread_t thread) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    read_ = UniqueFd(ends[0]);
    write_ = UniqueFd(ends[1]);
    held_from = read_.get();
    is_held = false;
    struct sigaction action {};
    action.sa_handler = &hold;
    EXPECT_EQ(::sigaction(SIGUSR1, &action, &before_), 0);
    EXPECT_EQ(::pthread_kill(thread, SIGUSR1), 0);
    EXPECT_TRUE(soon([] { return is_held.load(); }));
  }
  // Once the thread has ended.
  ~Held() { ::sigaction(SIGUSR1, &before_, nullptr); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  void let_go() { write_.reset(); }

 private:
  UniqueFd read_;
  UniqueFd write_;
  struct sigaction before_ {};
};

// The read may have taken bytes from the kernel that are not in the buffer yet.
TEST_F(EndpointCoreTest, HangUpDuringAReadLeavesTheEndToTheRead) {
  const Client made = admitted();
  std::atomic<pthread_t> thread{};
  std::atomic<bool> begun = false;
  WaitingThread reader([&] {
    thread = ::pthread_self();
    begun = true;
    made.link->receiver->read_line({"read_line", {}});
  });
  ASSERT_TRUE(soon([&] { return begun && made.link->receiver->is_reading(); }));
  ASSERT_TRUE(reader.is_blocked());
  Held held(thread);
  half_close(made.peer);
  tcpip_tests::await_hang_up(made.link->socket->native_handle());
  core->note_hang_up(*made.link, /*broken=*/false);
  EXPECT_TRUE(core->is_current(*made.link));
  held.let_go();
  reader.join();
  EXPECT_FALSE(core->connected());
}

TEST_F(EndpointCoreTest, NewClientWaitsForAReadThatTakesTheLastBytes) {
  const Client old = admitted();
  std::atomic<pthread_t> thread{};
  std::atomic<bool> begun = false;
  WaitingThread reader([&] {
    thread = ::pthread_self();
    begun = true;
    old.link->receiver->read_line({"read_line", {}});
  });
  ASSERT_TRUE(soon([&] { return begun && old.link->receiver->is_reading(); }));
  ASSERT_TRUE(reader.is_blocked());
  Held held(thread);
  half_close(old.peer);
  tcpip_tests::await_hang_up(old.link->socket->native_handle());
  const Client next = client();
  EXPECT_EQ(core->admit(next.link), Admission::kReadUnderWay);
  held.let_go();
  reader.join();
  EXPECT_EQ(core->admit(next.link), Admission::kAccepted);
}

}  // namespace
}  // namespace tcpip::internal
