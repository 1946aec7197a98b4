#include "tcpip/endpoint/accept_loop.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <string>
#include <system_error>
#include <utility>

#include "tcpip/base/log_line.h"
#include "tcpip/base/poller.h"
#include "tcpip/constants.h"
#include "tcpip/net/socket_calls.h"
#include "tcpip/network.h"

namespace tcpip::internal {
namespace {

constexpr std::chrono::milliseconds kFirstPause{5};
// Where poll() cannot tell when to go on.
constexpr std::chrono::milliseconds kBlindWait{1};
// When to look for the first time after a socket that lingers, if no other work
// comes before. With 1 ms, turning clients away was slower than without.
constexpr std::chrono::milliseconds kFirstLook{20};
constexpr std::chrono::milliseconds kLongestPause{1000};
// One now and then is normal: the client has gone again, or another process
// that shares the socket was faster.
constexpr int kFalseAlarms = 100;

// Says what the step means for the next poll.
bool is_over(EndedSocket& ended, Socket::LingerStep step) noexcept {
  const bool spins = ended.ready && step == Socket::LingerStep::kNothing;
  const bool is_told = step != Socket::LingerStep::kWaiting && !spins;
  ended.look_after = is_told ? std::chrono::milliseconds(0) : kBlindWait;
  return step == Socket::LingerStep::kOver;
}

}  // namespace

void AcceptLoop::run() {
  while (!core_.is_closing()) {
    if (core_.close_requested()) {
      core_.close();
      break;
    }
    try {
      // What the last turn has ended signals nothing.
      linger(core_.take_ended());
      const std::shared_ptr<Link> client = core_.link();
      const IoResult polled = wait_for_work(client.get());
      if (polled.status == IoStatus::kError) {
        for (EndedSocket& lingering : lingering_) lingering.ready = true;
        close_ended(false);  // there may be too many for poll()
        rest("poll: " + std::generic_category().message(polled.error_number));
        continue;
      }
      if (hung_up_) core_.note_hang_up(*client, broken_);
      if (core_.is_closing()) break;
      close_ended(false);
      if (newcomer_) admit_newcomer();
      for (std::size_t i = 0; i < acceptable_.size(); ++i) {
        if (acceptable_[i] && !newcomer_) accept(i);
      }
      rest_ = std::chrono::milliseconds(0);
    } catch (const std::exception& e) {
      rest(what_of(e));
    }
  }
  if (newcomer_) turn_away(std::move(newcomer_->link->ended));
  newcomer_.reset();
  listener_->close();
  close_ended(true);
  core_.peer_log().write_rest();
}

// Pauses after a failure for lack of memory. Without a pause run() could become
// a busy loop, since poll() itself may be what fails.
void AcceptLoop::rest(std::string_view why) {
  if (rest_.count() == 0) {
    core_.peer_log().write(PeerLine::kAcceptFailed, LogLevel::kError,
                           [&] { return fmt::format("accept loop: {}", why); });
  }
  rest_ = std::clamp(2 * rest_, kFirstPause, kLongestPause);
  core_.pause(Deadline::after(rest_));
}

// Polls everything that the accept thread watches. kError if the wait was not
// possible.
IoResult AcceptLoop::wait_for_work(Link* client) {
  std::vector<pollfd>& fds = fds_;
  fds.clear();
  fds.push_back({core_.waker().fd(), POLLIN, 0});
  // A connection stays current behind its peer's FIN while the read handler is
  // at work. Then poll() tells only of its end in both directions.
  const bool watch = client && !client->broken;
  if (watch) {
    const short events = client->hung_up ? 0 : POLLRDHUP;
    fds.push_back({client->socket->native_handle(), events, 0});
  }
  if (accept_again_ && accept_again_->has_passed()) accept_again_.reset();
  const std::size_t first_listener = fds.size();
  if (!accept_again_ && !newcomer_) {
    for (const UniqueFd& socket : listener_->sockets()) {
      fds.push_back({socket.get(), POLLIN, 0});
    }
  }
  const std::size_t first_lingering = fds.size();
  for (const EndedSocket& lingering : lingering_) {
    // poll() would report the peer's end whatever the events. -1: skipped.
    const bool is_polled = lingering.look_after.count() == 0;
    const int fd = is_polled ? lingering.socket->native_handle() : -1;
    fds.push_back({fd, POLLIN | POLLRDHUP, 0});
  }
  Deadline deadline = std::min(accept_again_.value_or(Deadline()),
                               core_.peer_log().write_due());
  if (client) deadline = std::min(deadline, core_.tend_heartbeats(*client));
  if (newcomer_) {
    deadline = std::min({deadline, newcomer_->deadline, newcomer_->look_again});
  }
  if (!lingering_.empty()) {
    deadline = std::min(deadline, lingering_.front().deadline);
  }
  for (const EndedSocket& lingering : lingering_) {
    if (lingering.look_after.count() > 0) {
      deadline = std::min(deadline, Deadline::after(lingering.look_after));
    }
  }
  const IoResult polled = poll_until(fds, deadline);
  if (polled.status == IoStatus::kError) return polled;
  // Clear the signal before run() looks at the core's state: a change after
  // that look signals again.
  if (fds.front().revents != 0) core_.waker().clear();
  acceptable_.assign(listener_->sockets().size(), false);
  for (std::size_t i = first_listener; i < first_lingering; ++i) {
    acceptable_[i - first_listener] = fds[i].revents != 0;
  }
  for (std::size_t i = first_lingering; EndedSocket & lingering : lingering_) {
    lingering.ready = fds[i++].revents != 0;
  }
  hung_up_ = watch && fds[1].revents != 0;
  broken_ = watch && (fds[1].revents & (POLLERR | POLLHUP)) != 0;
  return polled;
}

// One client: an accept4() that finds none costs six times as much as the poll
// that tells of the next one.
void AcceptLoop::accept(std::size_t index) {
  Listener::Attempt attempt = listener_->try_accept(index);
  if (attempt.error) back_off(attempt.error.value());
  if (attempt.status == IoStatus::kTimeout && ++false_alarms_ >= kFalseAlarms) {
    back_off(EAGAIN);
  }
  if (attempt.status != IoStatus::kOk) return;
  false_alarms_ = 0;
  pause_ = std::chrono::milliseconds(0);
  receive_client(std::move(attempt.accepted), index);
}

// Looks at the address alone: nothing has been read.
bool AcceptLoop::may_connect(const Address& peer) noexcept {
  const std::vector<Network>& allowed = core_.config().allowed;
  const auto has_peer = [&](const Network& n) { return n.contains(peer); };
  if (!allowed.empty() && std::ranges::none_of(allowed, has_peer)) {
    return false;
  }
  const auto& asked = core_.config().admission.may_connect;
  try {
    return !asked || asked(peer);
  } catch (const std::exception& e) {
    core_.counters().callback_errors.add();
    core_.peer_log().write(PeerLine::kCallbackFailed, LogLevel::kError, [&] {
      return fmt::format("may_connect failed: {}", what_of(e));
    });
  } catch (...) {
    core_.counters().callback_errors.add();
    core_.peer_log().write(PeerLine::kCallbackFailed, LogLevel::kError, [] {
      return "may_connect failed with an unknown exception";
    });
  }
  return false;
}

void AcceptLoop::receive_client(Listener::Accepted accepted,
                                std::size_t index) {
  if (!may_connect(accepted.peer)) {
    core_.counters().not_allowed.add();
    core_.peer_log().write(PeerLine::kNotAllowed, LogLevel::kWarning, [&] {
      return fmt::format("closing the connection from {}: it is not allowed",
                         accepted.peer.to_string());
    });
    return;  // closes it
  }
  if (core_.would_refuse()) {
    // It needs no Link, and nobody asks for its local address.
    EndedSockets client;
    client.emplace_back(std::make_shared<Socket>(
        ConnectedFd{std::move(accepted.fd), Address(), accepted.peer}));
    return reject(accepted.peer, std::move(client));
  }
  const Address local = local_address_of(accepted.fd.get());
  const auto socket = std::make_shared<Socket>(
      ConnectedFd{std::move(accepted.fd), local, accepted.peer});
  const auto link = core_.make_link(socket, accepted.peer);
  // Before the program can see the connection.
  if (!listener_->hands_options_on(index)) set_options(*socket);
  admit(link, /*force=*/false);
}

// If the client has to wait, it is the newcomer.
void AcceptLoop::admit(const std::shared_ptr<Link>& link, bool force) {
  const EndpointCore::Admission admission = core_.admit(link, force);
  if (admission != EndpointCore::Admission::kEventsWaiting) {
    events_wait_ = false;
  }
  const auto wait = [&](Deadline deadline, Deadline look_again) {
    newcomer_ = Newcomer{link, deadline, look_again};
  };
  switch (admission) {
    case EndpointCore::Admission::kAccepted:
      core_.peer_log().write(PeerLine::kConnected, LogLevel::kInfo, [&] {
        return fmt::format("{} connected", link->record->peer.to_string());
      });
      return;
    case EndpointCore::Admission::kRefused:
      return reject(link->record->peer, std::move(link->ended));
    case EndpointCore::Admission::kClosing:
      return;
    case EndpointCore::Admission::kHandlerBusy:
      return wait(Deadline::after(core_.config().reader.finish_time), {});
    case EndpointCore::Admission::kReadUnderWay:
      return wait(Deadline::after(core_.config().reader.finish_time),
                  Deadline::after(kBlindWait));
    case EndpointCore::Admission::kEventsWaiting:
      if (!std::exchange(events_wait_, true)) {
        core_.peer_log().write(
            PeerLine::kEventsWaiting, LogLevel::kWarning, [] {
              return fmt::format(
                  "no client is admitted: more than {} connection events wait "
                  "for the program",
                  kMaxWaitingEvents);
            });
      }
      return wait({}, {});
  }
}

void AcceptLoop::reject(const Address& peer, EndedSockets client) {
  core_.counters().rejected.add();
  core_.peer_log().write(PeerLine::kTurnedAway, LogLevel::kWarning, [&] {
    return fmt::format(
        "rejecting the connection from {}: a client is already connected",
        peer.to_string());
  });
  turn_away(std::move(client));
}

void AcceptLoop::turn_away(EndedSockets client) noexcept {
  client.front().socket->close();
  linger(std::move(client));
}

void AcceptLoop::admit_newcomer() {
  const Newcomer newcomer = std::move(*newcomer_);
  newcomer_.reset();
  const bool force = newcomer.deadline.has_passed();
  admit(newcomer.link, force);
  // It goes on waiting: until when is said once.
  if (newcomer_ && !newcomer.deadline.is_never()) {
    newcomer_->deadline = std::min(newcomer.deadline, newcomer_->deadline);
  }
}

// An option that the kernel refuses is refused for each client: log it once.
void AcceptLoop::set_options(Socket& socket) {
  const RefusedOptions refused = socket.set_options(core_.config().socket);
  // The kernel refuses options on a connection that is already reset. The
  // program is told of such a one as usual: connected, then disconnected.
  if (refused.empty() || socket.peer_hung_up()) return;
  for (const RefusedOption& option : refused) {
    if (refused_options_.insert(option.name).second) {
      core_.log().warning(option.text());
    }
  }
}

// For whatever reason accept4() fails: a lack of descriptors, a firewall, a
// network that is down. The clients stay in the kernel's queue.
void AcceptLoop::back_off(int error_number) {
  if (pause_.count() == 0 && error_number != 0) {
    // Log once for each trouble, not once for each try.
    core_.peer_log().write(PeerLine::kAcceptFailed, LogLevel::kError, [&] {
      return fmt::format("accept: {}; trying again until it works",
                         std::generic_category().message(error_number));
    });
  }
  pause_ = std::clamp(2 * pause_, kFirstPause, kLongestPause);
  accept_again_ = Deadline::after(pause_);
}

void AcceptLoop::linger(EndedSockets sockets) noexcept {
  while (!sockets.empty()) {
    if (is_over(sockets.front(), sockets.front().socket->linger_step())) {
      sockets.pop_front();
      continue;
    }
    // Most peers close at once. Looking a moment later, or when the next client
    // comes, saves waking this thread for each.
    if (sockets.front().look_after.count() == 0) {
      sockets.front().look_after = kFirstLook;
    }
    if (lingering_.size() == kMaxLingering) lingering_.pop_front();
    sockets.front().deadline = Deadline::after(kLingerTime);
    lingering_.splice(lingering_.end(), sockets, sockets.begin());
  }
}

// Drops what ended connections still send, and closes those whose peers have
// closed too or whose time is up. `closing`: lingers for the last time.
void AcceptLoop::close_ended(bool closing) noexcept {
  lingering_.remove_if([](EndedSocket& lingering) {
    if (!lingering.ready && lingering.look_after.count() == 0) return false;
    return is_over(lingering, lingering.socket->linger_step());
  });
  while (!lingering_.empty() && lingering_.front().deadline.has_passed()) {
    lingering_.pop_front();
  }
  linger(core_.take_ended());
  if (!closing) return;
  // A close() right after close_client() must not make the client lose our last
  // bytes.
  const Deadline deadline = Deadline::after(kCloseLingerTime);
  for (const EndedSocket& lingering : lingering_) {
    lingering.socket->linger(deadline);
  }
}

}  // namespace tcpip::internal
