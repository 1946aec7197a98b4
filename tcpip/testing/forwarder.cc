#include "tcpip/testing/forwarder.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <span>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "tcpip/base/descriptor.h"
#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/io_result.h"
#include "tcpip/net/socket_calls.h"
#include "tcpip/options.h"
#include "tcpip/socket.h"
#include "tcpip/testing/close_with_reset.h"

namespace tcpip_testing::internal {
namespace {

using tcpip::Address;
using tcpip::Deadline;
using tcpip::IoResult;
using tcpip::IoStatus;
using tcpip::Socket;
using tcpip::UniqueFd;
using tcpip::internal::MutexLock;
using Clock = Deadline::Clock;
using Time = Clock::time_point;

// What a direction holds back at most, and what one call reads.
constexpr std::size_t kMostHeld = 65536;
constexpr std::size_t kReadSize = 16384;
// Between two tries of a call that the kernel refuses for lack of memory or
// descriptors.
constexpr std::chrono::milliseconds kShortagePause{10};
// A reset waits so long for the peer to acknowledge the bytes before it.
constexpr std::chrono::seconds kResetPatience{1};
// drop() reads and drops what peers still send for so long.
constexpr std::chrono::seconds kDropTime{1};

constexpr std::size_t index_of(Direction direction) {
  return static_cast<std::size_t>(direction);
}
constexpr Direction kDirections[] = {Direction::kToServer,
                                     Direction::kToClient};

// Only what forwarding needs: a peer may be stalled for as long as a test
// wants, and a keepalive or user time-out must not end the connection.
const tcpip::SocketOptions kSocketOptions{
    .keepalive = false, .user_timeout = std::chrono::milliseconds(0)};

}  // namespace

// What one poll waits for. Keeps the descriptors open until the poll is over,
// whatever another thread closes meanwhile.
struct Forwarder::Polled {
  struct Watched {
    Relay* relay;
    std::size_t side;
  };

  void clear() {
    fds.clear();
    watched.clear();
    sockets.clear();
    listener.reset();
    deadline = Deadline();
  }
  void wake_at(Time time) { deadline = std::min(deadline, Deadline(time)); }

  std::vector<pollfd> fds = {};
  // Beside fds: whose an entry is, if only its failure is of interest.
  std::vector<Watched> watched = {};
  std::vector<std::shared_ptr<Socket>> sockets = {};
  std::shared_ptr<tcpip::Listener> listener = {};
  Deadline deadline = {};
};

// One client, and its connection to the server. Line d goes from side d to the
// other one: side 0 is the client, 1 the server.
class Forwarder::Relay {
 public:
  struct Shared {
    const std::vector<Address>& servers;
    std::array<std::uint64_t, 2>& bytes_passed;
  };

  Relay(Shared shared, std::shared_ptr<Socket> client,
        std::array<std::vector<Fault>, 2> scripts,
        const std::array<bool, 2>& stalled, Recording* recording)
      : shared_(shared), recording_(recording) {
    sockets_[0] = std::move(client);
    for (std::size_t d = 0; d < 2; ++d) {
      lines_[d].script = std::move(scripts[d]);
      lines_[d].held_up = stalled[d];
    }
  }

  bool is_over() const { return over_; }
  // Why the server could not be reached; once.
  std::optional<std::string> take_error() {
    return std::exchange(error_, std::nullopt);
  }

  // Does what can be done without waiting.
  void advance(Time now) {
    wake_ = Deadline();
    if (over_) return;
    if (!sockets_[1]) connect(now);
    if (over_ || !sockets_[1]) return;
    for (std::size_t d = 0; d < 2 && !over_; ++d) take_steps(d, now);
    for (std::size_t d = 0; d < 2 && !over_; ++d) read(d, now);
    // The server's first, so that its greeting is recorded before what a client
    // has sent without waiting for it.
    if (!over_) write(1, now);
    if (!over_) write(0, now);
    if (!over_) look_for_the_end();
  }

  void add_to(Polled& polled, Time now) {
    if (over_) return;
    polled.deadline = std::min(polled.deadline, wake_);
    if (!sockets_[1]) {
      if (connecting_) add(polled, connecting_.get(), POLLOUT, nullptr, 0);
      return;
    }
    for (std::size_t side = 0; side < 2; ++side) {
      const Line& from = lines_[side];
      const Line& to = lines_[1 - side];
      short events = 0;
      if (wants_to_read(from, now)) events |= POLLIN;
      if (to.blocked) events |= POLLOUT;
      // Nothing is read from this side any more, so nothing else would tell
      // that it has been reset.
      const bool is_watched = from.got_end && !to.sent_end && !to.broken;
      if (events == 0 && !is_watched) continue;
      polled.sockets.push_back(sockets_[side]);
      add(polled, sockets_[side]->native_handle(), events,
          is_watched ? this : nullptr, side);
    }
  }
  // A side that is watched has failed.
  void note_failure(std::size_t side) {
    if (!over_) break_line(lines_[1 - side]);
  }

  void stall(Direction direction) {
    lines_[index_of(direction)].held_up = true;
  }
  void resume(Direction direction) {
    Line& line = lines_[index_of(direction)];
    line.held_up = false;
    line.stalled_until = Time::min();
  }
  void cut(Direction direction) {
    if (sockets_[1] && !over_) cut(index_of(direction));
  }
  void drop(Time now) {
    if (!sockets_[1]) reset();
    if (over_) return;
    cut(0);
    cut(1);
    if (over_at_.is_never()) over_at_ = Deadline(now + kDropTime);
  }
  void reset() {
    close_with_reset(sockets_[0]);
    close_with_reset(sockets_[1]);
    connecting_.reset();
    over_ = true;
  }

 private:
  struct Chunk {
    Time came;
    std::string bytes;
    std::size_t passed = 0;
  };

  struct Line {
    // What has come and not passed.
    std::deque<Chunk> held = {};
    std::size_t held_bytes = 0;
    std::uint64_t passed = 0;
    bool got_end = false;  // the sender's FIN or reset was read,
    Time end_came{};       // at this time
    bool was_reset = false;
    bool sent_end = false;          // FIN was sent; what still comes is dropped
    bool broken = false;            // the receiver has gone
    bool blocked = false;           // the receiver's kernel takes nothing
    Time read_again = Time::min();  // after a shortage
    Time reset_by = Time::max();    // a reset waits no longer than this

    std::vector<Fault> script = {};
    std::size_t next_step = 0;
    bool held_up = false;  // by the proxy's stall()
    Time stalled_until = Time::min();
    std::chrono::nanoseconds delay{0};
    std::size_t piece = 0;  // at most; 0: any
    std::chrono::nanoseconds gap{0};
    Time next_piece = Time::min();

    bool is_over() const { return got_end && sent_end; }
  };

  static void add(Polled& polled, int fd, short events, Relay* relay,
                  std::size_t side) {
    polled.fds.push_back({fd, events, 0});
    polled.watched.push_back({relay, side});
  }

  void wake_at(Time time) { wake_ = std::min(wake_, Deadline(time)); }

  // --- Connecting to the server ---

  void connect(Time now) {
    while (!over_) {
      if (!connecting_ && !begin_to_connect()) return;
      pollfd ready{connecting_.get(), POLLOUT, 0};
      const IoResult polled =
          tcpip::internal::poll_until({&ready, 1}, Deadline(Time::min()));
      if (polled.status == IoStatus::kTimeout) return;
      if (polled.status == IoStatus::kError) {
        wake_at(now + kShortagePause);
        return;
      }
      int error_number = 0;
      socklen_t size = sizeof error_number;
      ::getsockopt(connecting_.get(), SOL_SOCKET, SO_ERROR, &error_number,
                   &size);
      if (error_number == 0 && adopt_server(now)) return;
      try_next_server(error_number == 0 ? ECONNREFUSED : error_number);
    }
  }
  // False if it is given up.
  bool begin_to_connect() {
    while (!over_) {
      const Address& address = shared_.servers[server_];
      connecting_ = tcpip::internal::adopt_descriptor(
          ::socket(tcpip::internal::raw(address)->sa_family,
                   SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      // A signal leaves the attempt under way.
      if (connecting_ &&
          (::connect(connecting_.get(), tcpip::internal::raw(address),
                     tcpip::internal::raw_size(address)) == 0 ||
           errno == EINPROGRESS || errno == EINTR)) {
        return true;
      }
      try_next_server(errno);
    }
    return false;
  }
  bool adopt_server(Time now) {
    try {
      auto server = std::make_shared<Socket>(std::move(connecting_));
      // A port on which nobody listens may be the one that the kernel has given
      // to this socket itself.
      if (server->local_address() == server->peer_address()) return false;
      server->set_options(kSocketOptions);
      sockets_[1] = std::move(server);
      begin_ = now;
      return true;
    } catch (const tcpip::Error&) {
      return false;  // it has gone already
    }
  }
  void try_next_server(int error_number) {
    connecting_.reset();
    if (++server_ < shared_.servers.size()) return;
    error_ = "cannot connect to " + shared_.servers.back().to_string() + ": " +
             std::generic_category().message(error_number);
    reset();
  }

  // --- The script ---

  bool is_stalled(const Line& line, Time now) {
    if (line.held_up) return true;
    if (now >= line.stalled_until) return false;
    if (line.stalled_until != Time::max()) wake_at(line.stalled_until);
    return true;
  }

  void take_steps(std::size_t d, Time now) {
    Line& line = lines_[d];
    while (!over_ && line.next_step < line.script.size()) {
      if (is_stalled(line, now)) return;
      const Fault& step = line.script[line.next_step];
      if (line.passed < step.condition_bytes()) return;
      const Time when = begin_ + step.condition_time();
      if (now < when) {
        wake_at(when);
        return;
      }
      ++line.next_step;
      take(step, d, now);
    }
  }

  void take(const Fault& step, std::size_t d, Time now) {
    Line& line = lines_[d];
    switch (step.kind()) {
      case Fault::Kind::kPass:
        line.delay = {};
        set_pace(line, 0, {});
        break;
      case Fault::Kind::kDelay:
        line.delay = *step.time();
        break;
      case Fault::Kind::kSplit:
        set_pace(line, step.size(), *step.time());
        break;
      case Fault::Kind::kDrip: {
        // Pieces for a thousandth of a second, since a poll is not more exact.
        const std::size_t piece = std::max<std::size_t>(1, step.size() / 1000);
        const std::chrono::duration<double> gap(
            static_cast<double>(piece) / static_cast<double>(step.size()));
        set_pace(line, piece, std::chrono::ceil<std::chrono::nanoseconds>(gap));
        break;
      }
      case Fault::Kind::kStall:
        line.stalled_until =
            step.time() ? Clock::now() + *step.time() : Time::max();
        break;
      case Fault::Kind::kCut:
        cut(d);
        break;
      case Fault::Kind::kReset:
        reset();
        break;
      case Fault::Kind::kDrop:
        drop(now);
        break;
    }
  }

  static void set_pace(Line& line, std::size_t piece,
                       std::chrono::nanoseconds gap) {
    line.piece = piece;
    line.gap = gap;
    line.next_piece = Time::min();  // not that of the pace before
  }

  // --- Passing on ---

  static bool wants_to_read(const Line& line, Time now) {
    if (line.got_end || line.broken || now < line.read_again) return false;
    return line.sent_end || (line.held_bytes < kMostHeld && !line.held_up &&
                             now >= line.stalled_until);
  }

  void read(std::size_t d, Time now) {
    Line& line = lines_[d];
    is_stalled(line, now);  // for the wake-up at its end
    if (now < line.read_again) wake_at(line.read_again);
    if (!wants_to_read(line, now)) return;
    std::array<char, kReadSize> buffer;  // NOLINT: it is written before
    const std::size_t room =
        line.sent_end ? kReadSize : kMostHeld - line.held_bytes;
    const IoResult result =
        sockets_[d]->receive_now(buffer.data(), std::min(buffer.size(), room));
    // Not `now`: it may lie well before the arrival of what was read.
    const Time came = Clock::now();
    if (result.status == IoStatus::kOk && result.count > 0) {
      if (line.sent_end) return;
      line.held.push_back({came, std::string(buffer.data(), result.count)});
      line.held_bytes += result.count;
    } else if (result.status == IoStatus::kOk) {
      line.got_end = true;
      line.end_came = came;
    } else if (result.status == IoStatus::kError) {
      if (tcpip::internal::is_shortage(result.error_number)) {
        line.read_again = now + kShortagePause;
        wake_at(line.read_again);
        return;
      }
      line.got_end = true;
      line.end_came = came;
      line.was_reset = true;
      // Nobody is left to get what comes the other way.
      break_line(lines_[1 - d]);
    }
  }

  void write(std::size_t d, Time now) {
    Line& line = lines_[d];
    line.blocked = false;
    while (!line.sent_end && !line.broken && !is_stalled(line, now)) {
      if (line.held.empty()) {
        if (line.got_end) pass_end(d, now);
        return;
      }
      if (!pass_piece(d, now)) return;
      take_steps(d, now);
      if (over_) return;
    }
  }

  static Time due_after(const Line& line, Time came) {
    return line.delay.count() > 0 ? came + line.delay : Time::min();
  }

  // False if nothing can be passed on now.
  bool pass_piece(std::size_t d, Time now) {
    Line& line = lines_[d];
    Chunk& chunk = line.held.front();
    const Time due = std::max(due_after(line, chunk.came), line.next_piece);
    if (now < due) {
      wake_at(due);
      return false;
    }
    std::size_t size = chunk.bytes.size() - chunk.passed;
    if (line.piece > 0) size = std::min(size, line.piece);
    if (line.next_step < line.script.size()) {
      const std::uint64_t at = line.script[line.next_step].condition_bytes();
      // No further than to the byte behind which the next step is taken.
      if (at > line.passed)
        size = std::min<std::uint64_t>(size, at - line.passed);
    }
    const Socket::Piece piece{chunk.bytes.data() + chunk.passed, size};
    const IoResult result = sockets_[1 - d]->send_now(piece);
    if (result.status == IoStatus::kTimeout) {
      line.blocked = true;
      return false;
    }
    if (result.status != IoStatus::kOk) {
      if (tcpip::internal::is_shortage(result.error_number)) {
        wake_at(now + kShortagePause);
      } else {
        break_line(line);
      }
      return false;
    }
    record(d, now,
           std::string_view(chunk.bytes).substr(chunk.passed, result.count));
    line.passed += result.count;
    shared_.bytes_passed[d] += result.count;
    chunk.passed += result.count;
    line.held_bytes -= result.count;
    if (chunk.passed == chunk.bytes.size()) line.held.pop_front();
    if (line.piece > 0) line.next_piece = Clock::now() + line.gap;
    return true;
  }

  void pass_end(std::size_t d, Time now) {
    Line& line = lines_[d];
    const Time due = due_after(line, line.end_came);
    if (now < due) {
      wake_at(due);
      return;
    }
    if (!line.was_reset) {
      record(d, now, {});
      sockets_[1 - d]->shutdown_send();
      line.sent_end = true;
      return;
    }
    // The kernel would drop with the reset what it has not delivered.
    line.reset_by = std::min(line.reset_by, now + kResetPatience);
    if (sockets_[1 - d]->unacknowledged() == 0 || now >= line.reset_by) {
      record(d, now, {});
      reset();
    } else {
      wake_at(now + std::chrono::milliseconds(1));
    }
  }

  void cut(std::size_t d) {
    Line& line = lines_[d];
    line.held.clear();
    line.held_bytes = 0;
    if (line.sent_end) return;
    sockets_[1 - d]->shutdown_send();
    line.sent_end = true;
  }

  void break_line(Line& line) {
    line.held.clear();
    line.held_bytes = 0;
    line.broken = true;
  }

  void look_for_the_end() {
    for (std::size_t d = 0; d < 2; ++d) {
      // The receiver has gone, and the line that comes from there has told all
      // that it had to tell; but it could not tell the sender of this one.
      const Line& back = lines_[1 - d];
      if (lines_[d].broken && (back.is_over() || back.broken)) {
        reset();
        return;
      }
    }
    if (!over_at_.is_never()) wake_at(over_at_.when());
    if ((lines_[0].is_over() && lines_[1].is_over()) || over_at_.has_passed()) {
      sockets_ = {};
      over_ = true;
    }
  }

  void record(std::size_t d, Time now, std::string_view bytes) {
    if (recording_ == nullptr) return;
    recording_->pieces.push_back(
        {kDirections[d],
         std::chrono::duration_cast<std::chrono::microseconds>(now - begin_),
         std::string(bytes)});
  }

  const Shared shared_;
  Recording* const recording_;
  std::array<std::shared_ptr<Socket>, 2>
      sockets_;  // the server's: when connected
  UniqueFd connecting_;
  std::size_t server_ = 0;  // which address is tried
  std::optional<std::string> error_;
  Time begin_{};
  std::array<Line, 2> lines_;
  bool over_ = false;
  Deadline over_at_;  // after drop()
  Deadline wake_;     // of the last advance()
};

Forwarder::Forwarder(ForwarderOptions options) : options_(std::move(options)) {
  if (options_.server_port < 1 || options_.server_port > 65535) {
    throw std::invalid_argument(options_.name + ": port " +
                                std::to_string(options_.server_port) +
                                " is not in 1...65535");
  }
}

Forwarder::~Forwarder() { close(); }

void Forwarder::start(const tcpip::Wait& wait) {
  check_here("start");
  {
    const MutexLock lock(mutex_);
    if (started_ || closing_) {
      throw std::logic_error(options_.name +
                             ": start() or close() was called before");
    }
    started_ = true;
  }
  try {
    std::vector<Address> servers =
        tcpip::resolve(options_.server_host, options_.server_port, wait);
    if (const std::error_code error = waker_.open()) {
      tcpip::throw_os_error(error.value(), "start", options_.name);
    }
    {
      const MutexLock lock(mutex_);
      servers_ = std::move(servers);
      if (!closing_) listen(0);
    }
    if (!workers_.start({.name = options_.thread_name, .log = options_.log},
                        [self = shared_from_this()] { self->run(); })) {
      throw tcpip::CancelledError("start", options_.name);  // by close()
    }
  } catch (...) {
    close();
    throw;
  }
}

// The port is taken by a socket that does not listen, and then by the one that
// does. Linux allows that to sockets with SO_REUSEADDR of which none listens
// yet.
void Forwarder::listen(int port) {
  const std::string host(tcpip::kLocalhostIpv4);
  if (!reserved_) {
    Address address = tcpip::resolve(host, port).front();
    reserved_ = tcpip::internal::adopt_descriptor(
        ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!reserved_ ||
        tcpip::internal::set_option(reserved_.get(), SOL_SOCKET, SO_REUSEADDR,
                                    1) ||
        ::bind(reserved_.get(), tcpip::internal::raw(address),
               tcpip::internal::raw_size(address)) != 0) {
      tcpip::throw_os_error(errno, "bind", address.to_string());
    }
    port_ = tcpip::internal::local_address_of(reserved_.get()).port();
  }
  listener_ = std::make_shared<tcpip::Listener>(host, port_);
}

int Forwarder::port() const {
  check_here("port");
  const MutexLock lock(mutex_);
  return port_;
}

void Forwarder::close() {
  // In a child that fork() has made, another thread of the parent may have held
  // the mutex. The child's descriptors are closed by the destructors.
  if (!process_.is_here()) return;
  {
    const MutexLock lock(mutex_);
    closing_ = true;
  }
  waker_.signal();
  workers_.refuse();
  workers_.join();
  end();
}

void Forwarder::end() {
  const MutexLock lock(mutex_);
  closing_ = true;
  for (const std::unique_ptr<Relay>& relay : relays_) relay->drop(Clock::now());
  relays_.clear();
  if (listener_) listener_->close();
  listener_.reset();
  reserved_.reset();
}

void Forwarder::run() {
  try {
    Polled polled;
    std::vector<std::string> lines;
    while (advance(polled, lines)) {
      for (const std::string& line : lines) options_.log.warning(line);
      lines.clear();
      const IoResult result =
          tcpip::internal::poll_until(polled.fds, polled.deadline);
      if (result.status == IoStatus::kError) {
        tcpip::internal::sleep_until(Deadline::after(kShortagePause));
      }
    }
  } catch (...) {
    end();
    throw;
  }
  end();
}

// False when it is closed.
bool Forwarder::advance(Polled& polled, std::vector<std::string>& lines) {
  // Before the look at the state: see Waker.
  waker_.clear();
  const MutexLock lock(mutex_);
  // Before the look at what was polled: end() has destroyed that.
  if (closing_) {
    polled.clear();
    return false;
  }
  for (std::size_t i = 0; i < polled.fds.size(); ++i) {
    const Polled::Watched& watched = polled.watched[i];
    if (watched.relay != nullptr &&
        (polled.fds[i].revents & (POLLERR | POLLHUP)) != 0) {
      watched.relay->note_failure(watched.side);
    }
  }
  polled.clear();
  polled.fds.push_back({waker_.fd(), POLLIN, 0});
  polled.watched.push_back({nullptr, 0});
  accept_clients(polled, lines);
  const Time now = Clock::now();
  for (auto place = relays_.begin(); place != relays_.end();) {
    Relay& relay = **place;
    relay.advance(now);
    if (auto error = relay.take_error()) lines.push_back(std::move(*error));
    if (relay.is_over()) {
      place = relays_.erase(place);
    } else {
      relay.add_to(polled, now);
      ++place;
    }
  }
  return true;
}

void Forwarder::accept_clients(Polled& polled,
                               std::vector<std::string>& lines) {
  if (!listener_) return;
  if (Clock::now() < accept_again_) {
    polled.wake_at(accept_again_);
    return;
  }
  for (;;) {
    tcpip::Listener::Attempt attempt = listener_->try_accept(0);
    if (attempt.status == IoStatus::kTimeout) break;
    if (attempt.status == IoStatus::kError) {
      if (!accept_fails_) {
        lines.push_back("cannot accept: " + attempt.error.message());
      }
      accept_fails_ = true;
      accept_again_ = Clock::now() + kShortagePause;
      polled.wake_at(accept_again_);
      return;
    }
    accept_fails_ = false;
    std::shared_ptr<Socket> client;
    try {
      client = std::make_shared<Socket>(std::move(attempt.accepted.fd));
    } catch (const tcpip::Error& e) {
      lines.push_back(e.what());
      continue;
    }
    client->set_options(kSocketOptions);
    ++connection_count_;
    std::array<std::vector<Fault>, 2> scripts;
    if (options_.script) {
      for (const Direction direction : kDirections) {
        scripts[index_of(direction)] =
            options_.script(connection_count_, direction);
      }
    }
    Recording* recording = nullptr;
    if (options_.records) recording = &recordings_.emplace_back();
    relays_.push_back(std::make_unique<Relay>(
        Relay::Shared{servers_, bytes_passed_}, std::move(client),
        std::move(scripts), stalled_, recording));
  }
  polled.listener = listener_;
  polled.fds.push_back({listener_->sockets().front().get(), POLLIN, 0});
  polled.watched.push_back({nullptr, 0});
}

void Forwarder::stall(Direction direction) {
  check_here("stall");
  const MutexLock lock(mutex_);
  stalled_[index_of(direction)] = true;
  for (const auto& relay : relays_) relay->stall(direction);
}

void Forwarder::resume(Direction direction) {
  check_here("resume");
  const MutexLock lock(mutex_);
  stalled_[index_of(direction)] = false;
  for (const auto& relay : relays_) relay->resume(direction);
  waker_.signal();
}

void Forwarder::cut(Direction direction) {
  check_here("cut");
  const MutexLock lock(mutex_);
  for (const auto& relay : relays_) relay->cut(direction);
  waker_.signal();
}

void Forwarder::reset() {
  check_here("reset");
  const MutexLock lock(mutex_);
  for (const auto& relay : relays_) relay->reset();
  waker_.signal();
}

void Forwarder::drop() {
  check_here("drop");
  const MutexLock lock(mutex_);
  for (const auto& relay : relays_) relay->drop(Clock::now());
  waker_.signal();
}

void Forwarder::refuse_connections() {
  check_here("refuse_connections");
  const MutexLock lock(mutex_);
  if (!listener_) return;
  listener_->close();
  listener_.reset();
  waker_.signal();
}

void Forwarder::accept_connections() {
  check_here("accept_connections");
  const MutexLock lock(mutex_);
  if (listener_ || closing_ || port_ == 0) return;
  listen(port_);
  waker_.signal();
}

std::uint64_t Forwarder::bytes_passed(Direction direction) const {
  check_here("bytes_passed");
  const MutexLock lock(mutex_);
  return bytes_passed_[index_of(direction)];
}

std::uint64_t Forwarder::connection_count() const {
  check_here("connection_count");
  const MutexLock lock(mutex_);
  return connection_count_;
}

std::size_t Forwarder::open_connections() const {
  check_here("open_connections");
  const MutexLock lock(mutex_);
  return static_cast<std::size_t>(
      std::count_if(relays_.begin(), relays_.end(),
                    [](const auto& relay) { return !relay->is_over(); }));
}

Recording Forwarder::recording(std::uint64_t connection) const {
  check_here("recording");
  const MutexLock lock(mutex_);
  if (connection == 0 || connection > recordings_.size()) {
    throw std::out_of_range("no connection " + std::to_string(connection) +
                            " was recorded; there were " +
                            std::to_string(recordings_.size()));
  }
  return recordings_[connection - 1];
}

}  // namespace tcpip_testing::internal
