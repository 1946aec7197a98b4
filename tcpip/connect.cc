#include "tcpip/connect.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tcpip/base/descriptor.h"
#include "tcpip/base/poller.h"
#include "tcpip/error.h"
#include "tcpip/net/socket_calls.h"
#include "tcpip/net/socket_options.h"
#include "tcpip/unique_fd.h"

namespace tcpip {
namespace {

using internal::Interrupt;

// How long one address is tried alone before the next one is tried too: RFC
// 8305's Connection Attempt Delay.
constexpr std::chrono::milliseconds kAttemptDelay{250};
// How often one looks whether a Unix-domain server whose queue is full has
// room: there is no poll() for that.
constexpr std::chrono::milliseconds kLookForRoom{10};
// How often one attempt calls connect().
constexpr int kMaxConnects = 16;
// How often one attempt begins again after it has met itself.
constexpr int kMaxSelfConnects = 3;

// RFC 8305's order: the families by turns, each in the order given, so that a
// family that does not work costs one delay and not one for each address.
std::vector<Address> interleaved(std::span<const Address> addresses) {
  std::vector<Address> order(addresses.begin(), addresses.end());
  for (auto next = order.begin() + 1; next < order.end(); ++next) {
    const AddressFamily before = std::prev(next)->family();
    const auto other = std::find_if(next, order.end(), [&](const Address& a) {
      return a.family() != before;
    });
    if (other != order.end()) std::rotate(next, other, other + 1);
  }
  return order;
}

std::optional<Address> local_address_for(const Address& peer,
                                         const std::vector<Address>& locals) {
  for (const Address& local : locals) {
    if (local.family() == peer.family()) return local;
  }
  return std::nullopt;
}

[[noreturn]] void throw_connect_error(std::error_code error,
                                      std::string_view peer,
                                      std::string_view detail) {
  if (error == Errc::kSelfConnect) {
    throw ConnectionRefusedError(error, "connect", peer, detail);
  }
  throw_os_error(error.value(), "connect", peer, detail);
}

// Makes close() reset the connection.
void reset_at_close(int fd) noexcept {
  const linger at_once{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

// One address that is tried.
struct Attempt {
  Address peer;
  Address local = {};          // once it is connected; `peer`, then, too
  UniqueFd fd = {};            // while it is pending
  std::error_code error = {};  // once it has failed
  Deadline connect_at = {};  // when to call connect() again, instead of a poll
  int connects = 0;
  int self_connects = 0;
};

// RFC 8305's attempts: each begins kAttemptDelay behind the one before, or as
// soon as one has failed; all go on until one connects.
class Race {
 public:
  Race(std::span<const Address> addresses, const std::vector<Address>& locals,
       const ConnectOptions& options, const Interrupt& interrupt)
      : locals_(locals), options_(options), interrupt_(interrupt) {
    for (Address& address : interleaved(addresses)) {
      attempts_.push_back({std::move(address)});
    }
  }
  ~Race();
  Race(const Race&) = delete;
  Race& operator=(const Race&) = delete;

  // The first that connects, in blocking mode.
  internal::ConnectedFd run(const Wait& wait, std::string_view peer);

 private:
  void begin(Attempt& attempt);
  void begin_next(Deadline deadline);
  void fail(Attempt& attempt, std::error_code error);
  bool is_connected(Attempt& attempt);
  void connect(Attempt& attempt);
  IoResult wait_for_any(Deadline until, const std::stop_token& stop);
  [[noreturn]] void raise(std::string_view peer) const;

  const std::vector<Address>& locals_;
  const ConnectOptions& options_;
  std::vector<Attempt> attempts_;  // in the order in which they begin
  std::size_t begun_ = 0;
  Deadline next_at_ = Deadline::after(std::chrono::seconds(0));
  std::vector<pollfd> fds_;  // of all that have begun; then the waker's
  const Interrupt& interrupt_;
};

// One that has connected a moment too late is reset: a normal close would keep
// its port, which may be the program's local_port, in TIME_WAIT for a minute.
Race::~Race() {
  for (const Attempt& attempt : attempts_) {
    if (attempt.fd) reset_at_close(attempt.fd.get());
  }
}

internal::ConnectedFd Race::run(const Wait& wait, std::string_view peer) {
  for (;;) {
    if (wait.stop.stop_requested() || interrupt_.requested) {
      throw CancelledError("connect", peer);
    }
    if (begun_ < attempts_.size() && next_at_.has_passed()) {
      begin_next(wait.deadline);
    }
    const bool all_have_begun = begun_ == attempts_.size();
    // Look before the poll: so a deadline that has passed still gets one.
    const bool is_last_look = all_have_begun && wait.deadline.has_passed();
    const bool some_are_pending =
        std::any_of(attempts_.begin(), attempts_.end(),
                    [](const Attempt& attempt) { return bool(attempt.fd); });
    if (!some_are_pending && all_have_begun) raise(peer);
    if (!some_are_pending) continue;  // begins the next one
    const Deadline until =
        all_have_begun ? wait.deadline : std::min(wait.deadline, next_at_);
    const IoResult ready = wait_for_any(until, wait.stop);
    if (ready.status == IoStatus::kError) {
      for (Attempt& attempt : attempts_) {
        if (attempt.fd) {
          fail(attempt, internal::system_error(ready.error_number));
        }
      }
    }
    if (ready.status == IoStatus::kOk) {
      for (std::size_t i = 0; i < begun_; ++i) {
        if (fds_[i].revents != 0 && is_connected(attempts_[i])) {
          Attempt& winner = attempts_[i];
          return {std::move(winner.fd), winner.local, winner.peer};
        }
      }
    }
    for (Attempt& attempt : attempts_) {
      if (attempt.fd && attempt.connect_at.has_passed()) connect(attempt);
    }
    if (is_last_look) raise(peer);
  }
}

IoResult Race::wait_for_any(Deadline until, const std::stop_token& stop) {
  fds_.clear();
  for (std::size_t i = 0; i < begun_; ++i) {
    const Attempt& attempt = attempts_[i];
    const bool polls = attempt.connect_at.is_never();
    fds_.push_back({polls ? attempt.fd.get() : -1, POLLOUT, 0});  // -1: skipped
    if (attempt.fd) until = std::min(until, attempt.connect_at);
  }
  fds_.push_back({});
  const IoResult result =
      internal::wait_any_ready(fds_, {until, stop}, interrupt_.waker);
  // Before run() looks whether it was requested.
  if (fds_.back().revents != 0) interrupt_.waker.clear();
  return result;
}

// Each that is still to begin is sure to do so before the deadline.
void Race::begin_next(Deadline deadline) {
  const auto left =
      static_cast<Deadline::Clock::rep>(attempts_.size() - begun_);
  next_at_ = Deadline::after(std::min<Deadline::Clock::duration>(
      kAttemptDelay, deadline.remaining() / left));
  begin(attempts_[begun_++]);
}

void Race::fail(Attempt& attempt, std::error_code error) {
  attempt.fd.reset();
  attempt.error = error;
  next_at_ = Deadline::after(std::chrono::seconds(0));
}

void Race::begin(Attempt& attempt) {
  attempt.fd = internal::adopt_descriptor(
      ::socket(internal::raw(attempt.peer)->sa_family,
               SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int fd = attempt.fd.get();
  if (fd < 0) return fail(attempt, internal::system_error(errno));
  if (options_.prepare) options_.prepare(fd);
  if (!locals_.empty()) {
    const auto local = local_address_for(attempt.peer, locals_);
    if (!local) return fail(attempt, internal::system_error(EAFNOSUPPORT));
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(fd, internal::raw(*local), internal::raw_size(*local)) != 0) {
      return fail(attempt, internal::system_error(errno));
    }
  }
  attempt.connects = 0;
  connect(attempt);
}

void Race::connect(Attempt& attempt) {
  ++attempt.connects;
  attempt.connect_at = {};
  if (::connect(attempt.fd.get(), internal::raw(attempt.peer),
                internal::raw_size(attempt.peer)) == 0) {
    return;
  }
  switch (errno) {
    case EINPROGRESS:
    case EINTR:  // leaves the attempt running, as EINPROGRESS does
    case EALREADY:
    case EISCONN:
      return;
    case EAGAIN:
      // Of TCP it means that there is no port: an error.
      if (attempt.peer.family() == AddressFamily::kUnix) {
        --attempt.connects;  // bounded by the deadline alone
        attempt.connect_at = Deadline::after(kLookForRoom);
        return;
      }
      [[fallthrough]];
    default:
      fail(attempt, internal::system_error(errno));
  }
}

// For an attempt that poll() calls ready. If this is false, it has failed or is
// still pending.
bool Race::is_connected(Attempt& attempt) {
  const int fd = attempt.fd.get();
  int error_number = 0;
  socklen_t size = sizeof error_number;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error_number, &size) != 0) {
    error_number = errno;
  }
  if (error_number != 0) {
    fail(attempt, internal::system_error(error_number));
    return false;
  }
  const Address connected = internal::peer_address_of(fd);
  if (connected.empty()) {
    // Writable, without an error, but not connected: a signal interrupted
    // connect() before it began. Begin again; but a poll that is ready each
    // time must not become a busy loop.
    if (attempt.connects == kMaxConnects) {
      fail(attempt, internal::system_error(ENOTCONN));
    } else {
      connect(attempt);
    }
    return false;
  }
  // If nobody listens on a port of the ephemeral range, the kernel may give the
  // socket that very port: it then connects to itself (TCP's simultaneous
  // open).
  const Address local = internal::local_address_of(fd);
  if (connected == local) {
    // Reset it: in TIME_WAIT it would keep the server that should listen there
    // from binding.
    reset_at_close(fd);
    attempt.fd.reset();
    if (++attempt.self_connects == kMaxSelfConnects) {
      fail(attempt, Errc::kSelfConnect);
    } else {
      begin(attempt);
    }
    return false;
  }
  // The program's function may have set flags of its own.
  const int flags = options_.prepare ? ::fcntl(fd, F_GETFL) : 0;
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0) {
    fail(attempt, internal::system_error(errno));
    return false;
  }
  attempt.local = local;
  attempt.peer = connected;
  return true;
}

// Throws for the last one, with what each has said if they differ.
void Race::raise(std::string_view peer) const {
  const auto silence = std::make_error_code(std::errc::timed_out);
  const auto error_of = [&](const Attempt& attempt) {
    return attempt.fd ? silence : attempt.error;
  };
  std::string answers;
  bool differ = false;
  for (const Attempt& attempt : attempts_) {
    differ = differ || attempt.fd || attempt.error != attempts_.front().error;
    answers += fmt::format(
        "{}{}: {}", answers.empty() ? "" : "; ", attempt.peer.to_string(),
        attempt.fd ? "no answer (timed out)" : attempt.error.message());
  }
  if (attempts_.size() == 1 || !differ) answers.clear();
  throw_connect_error(error_of(attempts_.back()), peer, answers);
}

}  // namespace

std::shared_ptr<Socket> connect_socket(std::span<const Address> addresses,
                                       const ConnectOptions& connect,
                                       const SocketOptions& options,
                                       const Wait& wait, std::string_view peer,
                                       RefusedOptions* refused) {
  internal::Waker waker;
  const std::atomic<bool> never{false};
  return internal::connect_socket(addresses, connect, options, wait, peer,
                                  refused, {waker, never});
}

std::shared_ptr<Socket> internal::connect_socket(
    std::span<const Address> addresses, const ConnectOptions& connect,
    const SocketOptions& options, const Wait& wait, std::string_view peer,
    RefusedOptions* refused, const Interrupt& interrupt) {
  if (addresses.empty()) {
    throw std::invalid_argument("connect_socket: no address to connect to");
  }
  internal::check(options, "connect_socket");
  // Before the peer sees a connection.
  if (wait.stop.stop_requested()) throw CancelledError("connect", peer);
  std::vector<Address> locals;
  if (connect.local_host.starts_with("unix:")) {
    // Its file would stay behind.
    throw std::invalid_argument(
        "connect_socket: local_host cannot be a Unix-domain socket");
  }
  if (!connect.local_host.empty() || connect.local_port != 0) {
    locals = resolve(connect.local_host, connect.local_port, wait,
                     connect.family, EmptyHost::kAllInterfaces);
  }
  auto socket = std::make_shared<Socket>(
      Race(addresses, locals, connect, interrupt).run(wait, peer));
  const RefusedOptions all = socket->set_options(options);
  // On a connection that is already lost the kernel refuses every option; the
  // first read tells the program about that.
  if (refused != nullptr) {
    *refused = all.empty() || socket->peer_hung_up() ? RefusedOptions() : all;
  }
  return socket;
}

}  // namespace tcpip
