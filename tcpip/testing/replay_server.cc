#include "tcpip/testing/replay_server.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <stop_token>
#include <string_view>
#include <utility>
#include <vector>

#include "tcpip/base/mutex.h"
#include "tcpip/base/poller.h"
#include "tcpip/base/workers.h"
#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/io_result.h"
#include "tcpip/listener.h"
#include "tcpip/net/socket_calls.h"
#include "tcpip/options.h"
#include "tcpip/process_mark.h"
#include "tcpip/socket.h"
#include "tcpip/testing/close_with_reset.h"

namespace tcpip_testing {
namespace {

using tcpip::Deadline;
using tcpip::IoResult;
using tcpip::IoStatus;
using tcpip::Socket;
using tcpip::internal::MutexLock;
using tcpip::internal::WaitResult;
using Clock = Deadline::Clock;
using Time = Clock::time_point;
using Piece = Recording::Piece;

constexpr const char* kReplayServer = "ReplayServer";
constexpr const char* kWaitDone = "wait_done";
// How much a mismatch shows of each text.
constexpr std::size_t kShown = 32;
// Between two tries of a call that the kernel refuses for lack of memory.
constexpr std::chrono::milliseconds kShortagePause{10};

std::string shown(std::string_view bytes, const char* if_empty) {
  return bytes.empty() ? if_empty : "\"" + escaped(bytes) + "\"";
}

// `expected` and `got` are all of what follows. `end` is what has come if there
// is nothing in `got`.
ReplayMismatch mismatch_at(std::string_view before, std::string_view expected,
                           std::string_view got, const char* end) {
  const std::size_t offset = before.size();
  expected = expected.substr(0, kShown);
  got = got.substr(0, kShown);
  before.remove_prefix(before.size() - std::min(before.size(), kShown));
  std::string what = "the client differs from the recording at byte " +
                     std::to_string(offset) + ": expected " +
                     shown(expected, "nothing more") + ", got " +
                     shown(got, end);
  if (!before.empty()) what += ", behind " + shown(before, "");
  return {offset, std::string(expected), std::string(got), what};
}

}  // namespace

ReplayMismatch::ReplayMismatch(std::uint64_t offset, std::string expected,
                               std::string got, const std::string& what)
    : std::runtime_error(what),
      offset_(offset),
      texts_(std::make_shared<const Texts>(
          Texts{std::move(expected), std::move(got)})) {}

class ReplayServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  explicit Impl(Options options)
      : options_(std::move(options)),
        expected_(options_.recording.bytes(Direction::kToServer)) {
    options_.recording.check();
  }

  void start();
  int port() const {
    process_.check("port");
    const MutexLock lock(mutex_);
    return port_;
  }
  void close();
  void wait_done(const tcpip::Wait& wait) const;
  void check() const {
    process_.check("check");
    const MutexLock lock(mutex_);
    rethrow();
  }

 private:
  // Of the thread.
  struct Play {
    std::shared_ptr<Socket> socket;
    std::size_t next = 0;      // piece
    std::size_t sent = 0;      // of it
    std::size_t received = 0;  // how many bytes, all of them right
    std::size_t required = 0;  // how many the pieces before `next` have
    bool client_ended = false;
    bool blocked = false;  // the client's kernel takes nothing
    Time last_done{};      // when the piece before `next` was due
    Deadline wake = {};
  };

  void run(tcpip::Listener& listener);
  void play(Play& play);
  std::optional<ReplayMismatch> receive(Play& play);
  std::optional<ReplayMismatch> compare(Play& play, std::string_view got);
  void advance(Play& play);
  bool is_done_with(Play& play, const Piece& piece);
  void wait_for_more(const Play& play);
  // What is left is not played: the client has gone.
  [[noreturn]] static void fail_lost(const Play& play, int error_number) {
    tcpip::throw_connection_error(error_number, "replay",
                                  play.socket->peer_address().to_string());
  }
  void rethrow() const TCPIP_REQUIRES(mutex_) {
    if (mismatch_) throw ReplayMismatch(*mismatch_);
    if (lost_) throw tcpip::ConnectionError(*lost_);
    if (error_) throw tcpip::Error(*error_);
  }
  std::string progress() const TCPIP_REQUIRES(mutex_) {
    const std::size_t pieces = options_.recording.pieces.size();
    return std::to_string(done_pieces_) + " of " + std::to_string(pieces) +
           " pieces have happened, " + std::to_string(received_) + " of " +
           std::to_string(expected_.size()) + " bytes have come";
  }

  const tcpip::internal::ProcessMark process_;
  const Options options_;
  const std::string expected_;  // all that the client is to send
  std::stop_source stop_;
  tcpip::internal::Waker waker_;
  mutable tcpip::internal::Mutex mutex_;
  mutable tcpip::internal::CondVar changed_;
  bool started_ TCPIP_GUARDED_BY(mutex_) = false;
  bool closed_ TCPIP_GUARDED_BY(mutex_) = false;
  int port_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::size_t done_pieces_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::size_t received_ TCPIP_GUARDED_BY(mutex_) = 0;
  bool done_ TCPIP_GUARDED_BY(mutex_) = false;
  std::optional<ReplayMismatch> mismatch_ TCPIP_GUARDED_BY(mutex_);
  std::optional<tcpip::ConnectionError> lost_ TCPIP_GUARDED_BY(mutex_);
  std::optional<tcpip::Error> error_ TCPIP_GUARDED_BY(mutex_);
  // Last: its thread uses the others.
  tcpip::internal::Workers workers_;
};

void ReplayServer::Impl::start() {
  process_.check("start");
  {
    const MutexLock lock(mutex_);
    if (started_ || closed_) {
      throw std::logic_error(std::string(kReplayServer) +
                             ": start() or close() was called before");
    }
    started_ = true;
  }
  try {
    if (const std::error_code error = waker_.open()) {
      tcpip::throw_os_error(error.value(), "start", kReplayServer);
    }
    auto listener = std::make_shared<tcpip::Listener>(
        std::string(tcpip::kLocalhostIpv4), 0);
    {
      const MutexLock lock(mutex_);
      port_ = listener->port();
    }
    if (!workers_.start({.name = "tcpip-replay"},
                        [self = shared_from_this(),
                         listener = std::move(listener)]() mutable {
                          self->run(*listener);
                        })) {
      throw tcpip::CancelledError("start", kReplayServer);  // by close()
    }
  } catch (...) {
    close();
    throw;
  }
}

void ReplayServer::Impl::close() {
  // In a child that fork() has made, another thread of the parent may have held
  // the mutex. The child's descriptors are closed by the destructors.
  if (!process_.is_here()) return;
  stop_.request_stop();
  waker_.signal();
  workers_.refuse();
  workers_.join();
  const MutexLock lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

void ReplayServer::Impl::wait_done(const tcpip::Wait& wait) const {
  process_.check(kWaitDone);
  const MutexLock lock(mutex_);
  const WaitResult result =
      changed_.wait(mutex_, wait, [this]() TCPIP_REQUIRES(mutex_) {
        return done_ || closed_ || mismatch_ || lost_ || error_;
      });
  if (result == WaitResult::kStopped) throw tcpip::CancelledError(kWaitDone);
  rethrow();
  if (result == WaitResult::kTimeout) {
    throw tcpip::TimeoutError(kWaitDone, kReplayServer, false, progress());
  }
  if (!done_) throw tcpip::CancelledError(kWaitDone, kReplayServer);
}

void ReplayServer::Impl::run(tcpip::Listener& listener) {
  Play state;
  try {
    tcpip::Listener::Accepted accepted = listener.accept(stop_.get_token());
    listener.close();
    state.socket = std::make_shared<Socket>(std::move(accepted.fd));
    state.socket->set_options({.keepalive = false, .user_timeout = {}});
    play(state);
  } catch (const ReplayMismatch& e) {
    {
      const MutexLock lock(mutex_);
      mismatch_.emplace(e);
    }
    internal::close_with_reset(state.socket);
  } catch (const tcpip::CancelledError&) {
    // By close().
  } catch (const tcpip::ConnectionError& e) {
    const MutexLock lock(mutex_);
    lost_.emplace(e);
  } catch (const tcpip::Error& e) {
    const MutexLock lock(mutex_);
    error_.emplace(e);
  }
  changed_.notify_all();
}

void ReplayServer::Impl::play(Play& play) {
  play.last_done = Clock::now();
  for (;;) {
    // Before the look at the state: see Waker.
    waker_.clear();
    if (stop_.stop_requested()) throw tcpip::CancelledError("replay");
    play.wake = Deadline();
    const std::optional<ReplayMismatch> found = receive(play);
    // Also if a mismatch was found: what came before it is answered.
    advance(play);
    if (found) throw ReplayMismatch(*found);
    const bool done = play.next == options_.recording.pieces.size();
    {
      const MutexLock lock(mutex_);
      done_pieces_ = play.next;
      received_ = play.received;
      done_ = done;
    }
    if (done) {
      changed_.notify_all();
      if (play.client_ended) return;
    }
    wait_for_more(play);
  }
}

void ReplayServer::Impl::wait_for_more(const Play& play) {
  std::vector<pollfd> fds{{waker_.fd(), POLLIN, 0}};
  short events = 0;
  if (!play.client_ended) events |= POLLIN;
  if (play.blocked) events |= POLLOUT;
  if (events != 0) fds.push_back({play.socket->native_handle(), events, 0});
  if (tcpip::internal::poll_until(fds, play.wake).status == IoStatus::kError) {
    tcpip::internal::sleep_until(Deadline::after(kShortagePause));
  }
}

std::optional<ReplayMismatch> ReplayServer::Impl::receive(Play& play) {
  if (play.client_ended) return std::nullopt;
  std::array<char, 16384> buffer;  // NOLINT: it is written before
  const IoResult result =
      play.socket->receive_now(buffer.data(), buffer.size());
  if (result.status == IoStatus::kTimeout) return std::nullopt;
  if (result.status == IoStatus::kError &&
      tcpip::internal::is_shortage(result.error_number)) {
    tcpip::internal::sleep_until(Deadline::after(kShortagePause));
    return std::nullopt;
  }
  const std::string_view expected = expected_;
  if (result.status == IoStatus::kOk && result.count > 0) {
    return compare(play, {buffer.data(), result.count});
  }
  play.client_ended = true;
  if (play.received < expected.size()) {
    return mismatch_at(
        expected.substr(0, play.received), expected.substr(play.received), {},
        result.status == IoStatus::kError ? "a reset" : "the end");
  }
  return std::nullopt;
}

std::optional<ReplayMismatch> ReplayServer::Impl::compare(
    Play& play, std::string_view got) {
  const std::string_view expected =
      std::string_view(expected_).substr(play.received);
  const std::size_t same = static_cast<std::size_t>(
      std::mismatch(got.begin(), got.end(), expected.begin(), expected.end())
          .first -
      got.begin());
  play.received += same;
  if (same == got.size()) return std::nullopt;
  return mismatch_at(std::string_view(expected_).substr(0, play.received),
                     expected.substr(same), got.substr(same), "");
}

// Plays every piece that is due.
void ReplayServer::Impl::advance(Play& play) {
  const std::vector<Piece>& pieces = options_.recording.pieces;
  play.blocked = false;
  while (play.next < pieces.size() && is_done_with(play, pieces[play.next])) {
    ++play.next;
    play.sent = 0;
  }
}

bool ReplayServer::Impl::is_done_with(Play& play, const Piece& piece) {
  if (piece.direction == Direction::kToServer) {
    if (piece.bytes.empty()) {
      if (!play.client_ended) return false;
    } else if (play.received < play.required + piece.bytes.size()) {
      return false;
    }
    play.required += piece.bytes.size();
    play.last_done = Clock::now();
    return true;
  }
  Time due = play.last_done;
  if (options_.timing == ReplayTiming::kRecorded) {
    const auto before = play.next == 0
                            ? std::chrono::microseconds(0)
                            : options_.recording.pieces[play.next - 1].time;
    due += piece.time - before;
    if (Clock::now() < due) {
      play.wake = Deadline(due);
      return false;
    }
  }
  if (piece.bytes.empty()) {
    play.socket->shutdown_send();
  }
  while (play.sent < piece.bytes.size()) {
    const Socket::Piece rest{piece.bytes.data() + play.sent,
                             piece.bytes.size() - play.sent};
    const IoResult result = play.socket->send_now(rest);
    if (result.status == IoStatus::kTimeout) {
      play.blocked = true;
      return false;
    }
    if (result.status != IoStatus::kOk) {
      if (!tcpip::internal::is_shortage(result.error_number)) {
        fail_lost(play, result.error_number);
      }
      play.wake = Deadline::after(kShortagePause);
      return false;
    }
    play.sent += result.count;
  }
  play.last_done = due;
  return true;
}

ReplayServer::ReplayServer(Options options)
    : impl_(std::make_shared<Impl>(std::move(options))) {}
ReplayServer::~ReplayServer() { close(); }

void ReplayServer::start() { impl_->start(); }
int ReplayServer::port() const { return impl_->port(); }
void ReplayServer::close() { impl_->close(); }
void ReplayServer::wait_done(const tcpip::Wait& wait) const {
  impl_->wait_done(wait);
}
void ReplayServer::check() const { impl_->check(); }

}  // namespace tcpip_testing
