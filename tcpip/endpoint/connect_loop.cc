#include "tcpip/endpoint/connect_loop.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <new>
#include <system_error>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/base/log_line.h"
#include "tcpip/base/poller.h"
#include "tcpip/connect.h"
#include "tcpip/connection_event.h"
#include "tcpip/error.h"
#include "tcpip/io_result.h"

namespace tcpip::internal {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// After a failure for lack of memory.
constexpr milliseconds kRest{100};
// How often one that waits for a name server looks whether close() is
// requested.
constexpr milliseconds kLookForRequest{100};

std::error_code code_of(const std::exception& e) noexcept {
  if (const auto* error = dynamic_cast<const std::system_error*>(&e)) {
    return error->code();
  }
  if (dynamic_cast<const std::bad_alloc*>(&e) != nullptr) {
    return std::make_error_code(std::errc::not_enough_memory);
  }
  return {};
}

// Different for clients that start at the same time on different machines, and
// for those of one process. std::random_device may throw.
std::minstd_rand::result_type seed(const void* client) noexcept {
  const auto now = steady_clock::now().time_since_epoch().count();
  const auto mixed = static_cast<std::uint64_t>(now) ^
                     (static_cast<std::uint64_t>(::getpid()) << 32) ^
                     reinterpret_cast<std::uintptr_t>(client);
  return static_cast<std::minstd_rand::result_type>(mixed ^ (mixed >> 32));
}

// In pieces: only a poll() can be woken out of a signal handler.
std::vector<Address> look_up(const EndpointCore& core, const Target& target,
                             const Wait& wait) {
  for (;;) {
    if (core.close_requested()) throw CancelledError("resolve", target.name());
    const Deadline piece =
        std::min(wait.deadline, Deadline::after(kLookForRequest));
    try {
      return resolve(target.host, target.port, Wait(piece, wait.stop),
                     target.connect.family);
    } catch (const TimeoutError&) {
      if (wait.deadline.has_passed()) throw;
    }
  }
}

bool is_over(const EndpointCore& core) {
  return core.close_requested() || core.is_closing();
}

// Waits until done(), the deadline, or the end of the core: on the waker, which
// a signal handler can signal.
template <class Done>
void wait_until(EndpointCore& core, Deadline deadline, Done done) {
  for (;;) {
    core.waker().clear();
    if (is_over(core) || done() || deadline.has_passed()) return;
    pollfd poll{core.waker().fd(), POLLIN, 0};
    if (poll_until({&poll, 1}, deadline).status == IoStatus::kError) {
      core.pause(std::min(deadline, Deadline::after(kRest)));
    }
  }
}

}  // namespace

std::string Target::name() const {
  return host_and_port(host.empty() ? "localhost" : host, port);
}

std::shared_ptr<Socket> connect_to(EndpointCore& core, const Target& target,
                                   const Wait& wait, RefusedOptions& refused) {
  try {
    return connect_socket(look_up(core, target, wait), target.connect,
                          core.config().socket, wait, target.name(), &refused,
                          {core.waker(), core.close_requested()});
  } catch (const CancelledError&) {
    throw;
  } catch (...) {
    core.counters().failed_connects.add();
    throw;
  }
}

bool Silence::is_too_long(TimePoint now, std::uint64_t arrived) noexcept {
  if (limit_.count() == 0) return false;
  if (arrived != arrived_) {
    arrived_ = arrived;
    since_ = now;
  }
  return now - since_ >= limit_;
}

Deadline Silence::look_again() const noexcept {
  if (limit_.count() == 0) return {};
  return Deadline::after(std::max(limit_ / 8, milliseconds(1)));
}

void watch(EndpointCore& core, Link& link, milliseconds silence_timeout) {
  std::array<pollfd, 2> fds{pollfd{core.waker().fd(), POLLIN, 0},
                            pollfd{link.socket->native_handle(), POLLRDHUP, 0}};
  Silence silence(silence_timeout, steady_clock::now());
  bool failed = false;
  // Pauses after a failure for lack of memory, then tries again.
  const auto rest = [&](const std::string& why) {
    if (!std::exchange(failed, true)) core.log().error(why);
    core.pause(Deadline::after(kRest));
  };
  while (core.is_current(link) && !core.close_requested()) {
    IoResult polled;
    try {
      Deadline look_again =
          std::min(core.tend_heartbeats(link), core.peer_log().write_due());
      if (silence.is_too_long(
              steady_clock::now(),
              link.socket->arrived(link.receiver->received()))) {
        core.peer_log().write(PeerLine::kSilent, LogLevel::kWarning, [&] {
          return fmt::format("nothing came from {} for {} ms",
                             link.record->peer.to_string(),
                             silence_timeout.count());
        });
        core.lose(link, DisconnectReason::kSilent);
      }
      if (!core.is_current(link)) return;
      look_again = std::min(look_again, silence.look_again());
      polled = poll_until(fds, look_again);
    } catch (const std::exception& e) {
      rest(what_of(e));
      continue;
    }
    if (polled.status == IoStatus::kError) {
      rest("poll: " + std::generic_category().message(polled.error_number));
      continue;
    }
    if (fds[1].revents != 0) {
      core.note_hang_up(link, /*broken=*/false);
      return;
    }
    core.waker().clear();
  }
}

void linger_until_closed(EndpointCore& core) {
  // The connection may end long after its hang-up: when its last byte is read.
  wait_until(core, {}, [&core] {
    core.linger_for_ended();
    return false;
  });
  if (core.close_requested()) core.close();
  core.linger_for_ended();
}

ConnectLoop::ConnectLoop(EndpointCore& core, Target target,
                         ReconnectOptions options, std::stop_token closing)
    : core_(core),
      target_(std::move(target)),
      options_(options),
      closing_(std::move(closing)),
      random_(seed(&core)) {}

void ConnectLoop::run() {
  for (;;) {
    wait_until(core_, {}, [this] { return core_.has_room_for_events(); });
    if (is_over(core_)) break;
    if (const std::shared_ptr<Link> link = try_once()) serve(*link);
    core_.peer_log().write_due();
    wait_until(core_, next_try(), [] { return false; });
  }
  if (core_.close_requested()) core_.close();
  core_.linger_for_ended();
  core_.peer_log().write_rest();
}

// Null if there is no connection.
std::shared_ptr<Link> ConnectLoop::try_once() {
  try {
    RefusedOptions refused;
    std::shared_ptr<Socket> socket = connect_to(
        core_, target_,
        Wait(Deadline::after(options_.connect_timeout), closing_), refused);
    // Once for each option, not once for each connection.
    for (const RefusedOption& option : refused) {
      if (refused_options_.insert(option.name).second) {
        core_.log().warning(option.text());
      }
    }
    const Address address = socket->peer_address();
    auto link = core_.make_link(std::move(socket), address);
    if (core_.admit(link) != EndpointCore::Admission::kAccepted) {
      return nullptr;  // closing
    }
    failed_ = 0;
    told_ = false;
    core_.peer_log().write(PeerLine::kConnected, LogLevel::kInfo, [&] {
      return fmt::format("connected to {}", address.to_string());
    });
    return link;
  } catch (const CancelledError&) {
    return nullptr;  // closing
  } catch (const std::exception& e) {
    note_failure(e);
    return nullptr;
  }
}

void ConnectLoop::serve(Link& link) {
  const auto begin = steady_clock::now();
  watch(core_, link, options_.silence_timeout);
  const auto lasted = steady_clock::now() - begin;
  // The server has gone. What it has sent before can be read for a while.
  wait_until(core_, Deadline::after(options_.finish_time),
             [&] { return !core_.is_current(link); });
  if (is_over(core_)) return;
  core_.finish_hung_up(link);
  // A server that turns its clients away gets fewer and fewer tries. Not
  // arrived(): the kernel counts the FIN as a byte.
  const bool has_spoken =
      link.receiver->received() > 0 || link.socket->receivable() > 0;
  const milliseconds enough =
      has_spoken ? std::max(pause_, options_.first) : options_.longest;
  if (std::chrono::floor<milliseconds>(lasted) >= enough) {
    pause_ = milliseconds(0);
  }
  core_.linger_for_ended();
}

void ConnectLoop::note_failure(const std::exception& failure) noexcept {
  ++failed_;
  const bool gives_up = options_.tries > 0 && failed_ >= options_.tries;
  try {
    if (gives_up || !told_) {
      core_.peer_log().write(PeerLine::kConnectFailed, LogLevel::kWarning, [&] {
        return fmt::format(
            "{}; {}", what_of(failure),
            gives_up ? "giving up" : "trying again until it works");
      });
      core_.tell_failure(gives_up ? DisconnectReason::kGaveUp
                                  : DisconnectReason::kConnectFailed,
                         code_of(failure));
      told_ = true;
    }
  } catch (const std::bad_alloc&) {
    // The next failure tells it. There is none if the client gives up.
  }
  if (gives_up) core_.close();
}

// Exponential back-off, of which a part is left to chance, so that the clients
// of a server that restarts do not all come at once.
Deadline ConnectLoop::next_try() {
  pause_ = pause_ > options_.longest / 2 ? options_.longest
                                         : std::max(2 * pause_, options_.first);
  std::uniform_int_distribution<milliseconds::rep> chance(pause_.count() / 2,
                                                          pause_.count());
  return Deadline::after(milliseconds(chance(random_)));
}

}  // namespace tcpip::internal
