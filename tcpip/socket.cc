#include "tcpip/socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <utility>

#include "tcpip/base/poller.h"
#include "tcpip/error.h"

namespace tcpip {
namespace {

using internal::WaitResult;

const sockaddr* raw(const Address& address) noexcept {
  return static_cast<const sockaddr*>(address.data());
}

template <class Call>  // getsockname or getpeername
Address ask_address(int fd, Call call) noexcept {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (call(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  return Address(&storage, size);
}

void set_option(int fd, int level, int name, int value, const char* text) {
  if (::setsockopt(fd, level, name, &value, sizeof value) != 0) {
    throw_os_error(errno, text);
  }
}

// A wait that is shorter is polled for: see Socket::receive.
constexpr std::chrono::milliseconds kCoarse{50};

bool would_block(int error_number) noexcept {
  return error_number == EAGAIN || error_number == EWOULDBLOCK;
}

bool is_shortage(int error_number) noexcept {
  return error_number == EMFILE || error_number == ENFILE ||
         error_number == ENOBUFS || error_number == ENOMEM;
}

}  // namespace

Socket::Socket(UniqueFd fd)
    : fd_(std::move(fd)),
      receive_waker_(std::make_unique<internal::Waker>()),
      send_waker_(std::make_unique<internal::Waker>()) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
    throw_os_error(errno, "adopt socket");
  }
  if (type != SOCK_STREAM) {
    throw_os_error(EPROTOTYPE, "adopt socket", {}, "not a stream socket");
  }
  // Not by getpeername(): a connection that was reset has no peer any more.
  int listens = 0;
  size = sizeof listens;
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) ==
          0 &&
      listens != 0) {
    throw_os_error(EINVAL, "adopt socket", {}, "a listening socket");
  }
  local_ = ask_address(fd_.get(), ::getsockname);
  peer_ = ask_address(fd_.get(), ::getpeername);
}

Socket::~Socket() = default;

void Socket::set_options(const SocketOptions& options) {
  const int fd = fd_.get();
  if (options.send_buffer > 0) {
    set_option(fd, SOL_SOCKET, SO_SNDBUF, options.send_buffer, "SO_SNDBUF");
  }
  if (options.receive_buffer > 0) {
    set_option(fd, SOL_SOCKET, SO_RCVBUF, options.receive_buffer, "SO_RCVBUF");
  }
  if (local_.family() == AddressFamily::kAny) return;  // not TCP
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, options.no_delay, "TCP_NODELAY");
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, options.keepalive, "SO_KEEPALIVE");
  if (options.keepalive) {
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE,
               static_cast<int>(options.keepalive_time.count()),
               "TCP_KEEPIDLE");
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL,
               static_cast<int>(options.keepalive_interval.count()),
               "TCP_KEEPINTVL");
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, options.keepalive_probes,
               "TCP_KEEPCNT");
  }
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
             static_cast<int>(options.user_timeout.count()),
             "TCP_USER_TIMEOUT");
}

IoResult Socket::receive(void* data, std::size_t size, const Wait& wait) {
  if (wait.stop.stop_requested()) return {IoStatus::kStopped};
  if (is_closed()) return {IoStatus::kClosed};
  if (!wait.stop.stop_possible()) {
    const Deadline::Clock::duration left = wait.deadline.remaining();
    if (left == Deadline::Clock::duration::zero()) {
      return receive_now(data, size);
    }
    // A receive time-out that the kernel keeps saves the poll. It is coarse and
    // costs a call to change, so any will do that ends before the deadline but
    // not much: what is left then is polled for.
    if (wait.deadline.is_never()) return receive_plain(data, size, {});
    if (left >= kCoarse) {
      const auto limit =
          std::chrono::duration_cast<std::chrono::microseconds>(left);
      const bool fits =
          receive_timeout_ <= limit && receive_timeout_ >= limit / 2;
      const IoResult result =
          receive_plain(data, size, fits ? receive_timeout_ : limit * 3 / 4);
      if (result.status != IoStatus::kTimeout) return result;
    }
  } else if (wait.deadline.has_passed()) {
    return receive_now(data, size);
  }
  for (;;) {
    // Poll before recv: in request and reply the bytes are not there yet nine
    // times in ten, and the failed recv would cost more than the poll.
    const IoStatus status = wait_for(POLLIN, wait, *receive_waker_);
    if (status != IoStatus::kOk) return {status};
    const IoResult result = receive_now(data, size);
    if (result.status != IoStatus::kTimeout) return result;
  }
}

// What a recv() of nothing means: the end of the stream, unless the other
// direction has been told of an error that this one was not.
IoResult Socket::ended() const noexcept {
  const int lost = lost_error();
  return lost == 0 ? IoResult{} : IoResult{IoStatus::kError, 0, lost};
}

IoResult Socket::failed(int error_number) noexcept {
  if (!is_shortage(error_number)) lost_error_ = error_number;
  return {IoStatus::kError, 0, error_number};
}

IoResult Socket::receive_now(void* data, std::size_t size) noexcept {
  for (;;) {
    const ssize_t got = ::recv(fd_.get(), data, size, MSG_DONTWAIT);
    if (got > 0) return {IoStatus::kOk, static_cast<std::size_t>(got)};
    if (got == 0) return ended();
    if (errno == EINTR) continue;
    if (would_block(errno)) return {IoStatus::kTimeout};
    return failed(errno);
  }
}

// One recv() without a poll, for `timeout` at most, or forever if that is 0.
IoResult Socket::receive_plain(void* data, std::size_t size,
                               std::chrono::microseconds timeout) {
  if (timeout != receive_timeout_) {
    const auto whole =
        std::chrono::duration_cast<std::chrono::seconds>(timeout);
    const timeval value{static_cast<time_t>(whole.count()),
                        static_cast<suseconds_t>((timeout - whole).count())};
    if (::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &value,
                     sizeof value) != 0) {
      return {IoStatus::kError, 0, errno};
    }
    receive_timeout_ = timeout;
  }
  for (;;) {
    // Either close() sees the flag and wakes the recv, or this sees the mark.
    in_plain_receive_.store(true);
    if (is_closed()) {
      in_plain_receive_.store(false);
      return {IoStatus::kClosed};
    }
    const ssize_t got = ::recv(fd_.get(), data, size, 0);
    const int error_number = errno;
    in_plain_receive_.store(false);
    if (got > 0) return {IoStatus::kOk, static_cast<std::size_t>(got)};
    if (is_closed()) return {IoStatus::kClosed};
    if (got == 0) return ended();
    // The kernel's time-out begins anew with each recv: signals must not
    // stretch the deadline.
    if (timeout.count() > 0 &&
        (error_number == EINTR || would_block(error_number))) {
      return {IoStatus::kTimeout};
    }
    if (error_number == EINTR) continue;
    if (would_block(error_number)) {
      // The program has put the descriptor into non-blocking mode.
      const IoStatus status = wait_for(POLLIN, {}, *receive_waker_);
      if (status != IoStatus::kOk) return {status};
      continue;
    }
    return failed(error_number);
  }
}

IoStatus Socket::wait_for(short events, const Wait& wait,
                          internal::Waker& waker) {
  waker.open();  // before the look at closed_, see Waker::signal
  if (is_closed()) return IoStatus::kClosed;
  switch (internal::wait_ready(fd_.get(), events, wait, waker)) {
    case WaitResult::kStopped:
      return IoStatus::kStopped;
    case WaitResult::kTimeout:
      return is_closed() ? IoStatus::kClosed : IoStatus::kTimeout;
    case WaitResult::kReady:
      break;
  }
  return is_closed() ? IoStatus::kClosed : IoStatus::kOk;
}

IoStatus Socket::wait_sendable(const Wait& wait) {
  return wait_for(POLLOUT, wait, *send_waker_);
}

IoStatus Socket::wait_receivable(const Wait& wait) {
  return wait_for(POLLIN, wait, *receive_waker_);
}

IoResult Socket::send_now(std::span<const Piece> pieces) noexcept {
  // As many as the kernel takes in one call; the caller sends the rest.
  constexpr std::size_t kMaxPieces = 1024;
  std::array<iovec, 16> few;
  std::vector<iovec> many;
  const std::size_t count = std::min(pieces.size(), kMaxPieces);
  iovec* vector = few.data();
  std::size_t used = std::min(count, few.size());
  if (count > few.size()) {
    try {
      many.resize(count);
      vector = many.data();
      used = count;
    } catch (const std::bad_alloc&) {
      // The first few will do.
    }
  }
  for (std::size_t i = 0; i < used; ++i) {
    vector[i].iov_base = const_cast<void*>(pieces[i].data);
    vector[i].iov_len = pieces[i].size;
  }
  msghdr message{};
  message.msg_iov = vector;
  message.msg_iovlen = used;
  for (;;) {
    if (is_closed()) return {IoStatus::kClosed};
    const ssize_t sent =
        used == 1 ? ::send(fd_.get(), vector[0].iov_base, vector[0].iov_len,
                           MSG_NOSIGNAL | MSG_DONTWAIT)
                  : ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return {IoStatus::kOk, static_cast<std::size_t>(sent)};
    if (errno == EINTR) continue;
    if (would_block(errno)) return {IoStatus::kTimeout};
    if (is_closed()) return {IoStatus::kClosed};
    if (!is_shortage(errno) && errno != EPIPE) lost_error_ = errno;
    return {IoStatus::kError, 0, errno};
  }
}

int Socket::shutdown_send() noexcept {
  return ::shutdown(fd_.get(), SHUT_WR) == 0 ? 0 : errno;
}

void Socket::close() noexcept {
  if (closed_.exchange(true)) return;
  // Only our direction: shutting the other too would answer what the peer still
  // sends with a reset, and the peer would lose our last bytes.
  ::shutdown(fd_.get(), SHUT_WR);
  receive_waker_->signal();
  send_waker_->signal();
  if (in_plain_receive_.load()) ::shutdown(fd_.get(), SHUT_RD);
}

bool Socket::linger_step() noexcept {
  // Bounded, so that a flood cannot keep the caller here.
  for (int i = 0; i < 16; ++i) {
    // With MSG_TRUNC, TCP drops the bytes without copying them.
    std::array<char, 64 * 1024> dropped;
    const ssize_t got = ::recv(fd_.get(), dropped.data(), dropped.size(),
                               MSG_DONTWAIT | MSG_TRUNC);
    if (got > 0 || (got < 0 && errno == EINTR)) continue;
    return got < 0 && would_block(errno);
  }
  return true;
}

void Socket::linger(Deadline deadline) noexcept {
  // Nothing tells when the last byte is acknowledged, so look now and then. The
  // FIN counts as one byte, but there is no need to wait for it.
  constexpr std::chrono::milliseconds kLook{2};
  while (linger_step() && unacknowledged() > 1 && !deadline.has_passed()) {
    pollfd fd{fd_.get(), POLLIN, 0};
    try {
      internal::poll_until({&fd, 1},
                           std::min(deadline, Deadline::after(kLook)));
    } catch (const Error&) {
      return;
    }
  }
}

std::size_t Socket::receivable() const noexcept {
  int count = 0;
  return ::ioctl(fd_.get(), FIONREAD, &count) == 0 && count > 0
             ? static_cast<std::size_t>(count)
             : 0;
}

std::size_t Socket::unacknowledged() const noexcept {
  int count = 0;
  return ::ioctl(fd_.get(), SIOCOUTQ, &count) == 0 && count > 0
             ? static_cast<std::size_t>(count)
             : 0;
}

bool Socket::peer_hung_up() const noexcept {
  pollfd fd{fd_.get(), POLLRDHUP, 0};
  int ready = 0;
  do {
    ready = ::poll(&fd, 1, 0);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

bool Socket::at_end() noexcept {
  if (is_closed()) return true;
  char byte = 0;
  ssize_t got = 0;
  do {
    got = ::recv(fd_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && !would_block(errno)) lost_error_ = errno;
  return got == 0 || (got < 0 && !would_block(errno));
}

namespace {

// What trying one address came to.
struct Attempt {
  UniqueFd fd;
  IoStatus status = IoStatus::kOk;
  std::error_code error = {};
};

Attempt failed(int error_number) {
  return {{},
          IoStatus::kError,
          std::error_code(error_number, std::generic_category())};
}

std::optional<Address> local_address_for(const Address& peer,
                                         const std::vector<Address>& locals) {
  for (const Address& local : locals) {
    if (local.family() == peer.family()) return local;
  }
  return std::nullopt;
}

Attempt try_connect(const Address& peer, const std::vector<Address>& locals,
                    const Wait& wait) {
  UniqueFd fd(::socket(raw(peer)->sa_family,
                       SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return failed(errno);
  if (!locals.empty()) {
    const std::optional<Address> local = local_address_for(peer, locals);
    if (!local) return failed(EAFNOSUPPORT);
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(fd.get(), raw(*local), static_cast<socklen_t>(local->size())) !=
        0) {
      return failed(errno);
    }
  }
  if (::connect(fd.get(), raw(peer), static_cast<socklen_t>(peer.size())) !=
      0) {
    // EINTR leaves the attempt running, as EINPROGRESS does.
    if (errno != EINPROGRESS && errno != EINTR) return failed(errno);
  }
  internal::Waker waker;
  for (;;) {
    switch (internal::wait_ready(fd.get(), POLLOUT, wait, waker)) {
      case WaitResult::kStopped:
        return {{}, IoStatus::kStopped};
      case WaitResult::kTimeout:
        return {{}, IoStatus::kTimeout};
      case WaitResult::kReady:
        break;
    }
    int error_number = 0;
    socklen_t size = sizeof error_number;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error_number, &size) !=
        0) {
      return failed(errno);
    }
    if (error_number != 0) return failed(error_number);
    const Address connected = ask_address(fd.get(), ::getpeername);
    if (connected.empty()) {
      // Writable without error and yet not connected: an interrupted connect
      // that never got started. Start it.
      if (::connect(fd.get(), raw(peer), static_cast<socklen_t>(peer.size())) !=
              0 &&
          errno != EINPROGRESS && errno != EALREADY && errno != EINTR &&
          errno != EISCONN) {
        return failed(errno);
      }
      continue;
    }
    // A connect to a free port of the ephemeral range can meet itself: TCP's
    // simultaneous open with one socket as both ends.
    if (connected == ask_address(fd.get(), ::getsockname)) {
      // Closed normally it would keep the port in TIME_WAIT for a minute, in
      // the way of the server that belongs there.
      const linger at_once{1, 0};
      ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
      return {{}, IoStatus::kError, Errc::kSelfConnect};
    }
    break;
  }
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return failed(errno);
  }
  return {std::move(fd)};
}

Attempt try_connect_elsewhere(const Address& peer,
                              const std::vector<Address>& locals,
                              const Wait& wait) {
  constexpr int kTries = 3;
  for (int i = 1;; ++i) {
    Attempt attempt = try_connect(peer, locals, wait);
    if (i == kTries || attempt.error != Errc::kSelfConnect) return attempt;
  }
}

[[noreturn]] void throw_connect_error(std::error_code error,
                                      std::string_view peer,
                                      std::string_view detail) {
  if (error == Errc::kSelfConnect) {
    throw ConnectionRefusedError(error, "connect", peer, detail);
  }
  throw_os_error(error.value(), "connect", peer, detail);
}

}  // namespace

std::shared_ptr<Socket> connect_socket(std::span<const Address> addresses,
                                       const ConnectOptions& options,
                                       const Wait& wait,
                                       std::string_view peer) {
  if (addresses.empty()) {
    throw std::invalid_argument("connect_socket: no address to connect to");
  }
  // Before a peer sees anything of it.
  if (wait.stop.stop_requested()) throw CancelledError("connect", peer);
  std::vector<Address> locals;
  if (!options.local_host.empty() || options.local_port != 0) {
    locals = resolve(options.local_host, options.local_port, wait,
                     options.family, EmptyHost::kAllInterfaces);
  }
  std::error_code first;
  std::error_code last;
  bool same = true;
  std::string detail;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    Wait share = wait;
    if (!wait.deadline.is_never() && !wait.deadline.has_passed()) {
      share.deadline = Deadline::after(
          wait.deadline.remaining() /
          static_cast<Deadline::Clock::rep>(addresses.size() - i));
    }
    Attempt attempt = try_connect_elsewhere(addresses[i], locals, share);
    if (attempt.status == IoStatus::kStopped) {
      throw CancelledError("connect", peer);
    }
    if (attempt.status == IoStatus::kOk) {
      auto socket = std::make_shared<Socket>(std::move(attempt.fd));
      try {
        socket->set_options(options.socket);
        return socket;
      } catch (const Error& e) {
        // The kernel refuses options (EINVAL) on a connection that is already
        // gone; which it is, the first read will tell. Others are ours.
        if (!socket->peer_hung_up()) throw;
        return socket;
      }
    }
    last = attempt.status == IoStatus::kTimeout
               ? std::make_error_code(std::errc::timed_out)
               : attempt.error;
    if (i == 0) first = last;
    same = same && last == first;
    detail += fmt::format("{}{}: {}", detail.empty() ? "" : "; ",
                          addresses[i].to_string(), last.message());
  }
  throw_connect_error(last, peer, same ? std::string_view() : detail);
}

namespace {

struct Bound {
  std::vector<UniqueFd> sockets;
  std::vector<Address> addresses;
};

// Binds every address, or throws. Returns nothing if the port that the first
// socket was given is taken on another address, so that the caller tries anew.
std::optional<Bound> bind_all(std::vector<Address> addresses, bool any_port,
                              const ListenOptions& options) {
  Bound bound;
  int skipped = 0;
  for (Address& address : addresses) {
    if (any_port && !bound.addresses.empty()) {
      address.set_port(bound.addresses.front().port());
    }
    UniqueFd fd(::socket(raw(address)->sa_family,
                         SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const bool last_chance =
        bound.sockets.empty() && &address == &addresses.back();
    if (!fd) {
      const int error_number = errno;
      // A kernel without that family; the others will do.
      if (error_number == EAFNOSUPPORT && !last_chance) {
        skipped = error_number;
        continue;
      }
      throw_os_error(error_number, "listen", address.to_string());
    }
    if (options.reuse_address) {
      set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    }
    if (options.reuse_port) {
      set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
    }
    if (address.family() == AddressFamily::kIpv6) {
      set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
    }
    if (::bind(fd.get(), raw(address),
               static_cast<socklen_t>(address.size())) != 0 ||
        ::listen(fd.get(), options.backlog) != 0) {
      const int error_number = errno;
      if (error_number == EADDRNOTAVAIL && !last_chance) {
        skipped = error_number;
        continue;
      }
      if (error_number == EADDRINUSE && any_port && !bound.sockets.empty()) {
        return {};
      }
      throw_os_error(error_number, "listen", address.to_string());
    }
    bound.addresses.push_back(ask_address(fd.get(), ::getsockname));
    bound.sockets.push_back(std::move(fd));
  }
  if (bound.sockets.empty()) {
    throw_os_error(skipped, "listen", addresses.back().to_string());
  }
  return bound;
}

}  // namespace

Listener::Listener(const std::optional<std::string>& host, int port,
                   const ListenOptions& options, const Wait& wait)
    : waker_(std::make_unique<internal::Waker>()) {
  if (options.backlog < 1) {
    throw std::invalid_argument(
        fmt::format("Listener: backlog {} is not positive", options.backlog));
  }
  const std::vector<Address> addresses = resolve(
      host.value_or(""), port, wait, options.family, EmptyHost::kAllInterfaces);
  constexpr int kTries = 20;
  std::optional<Bound> bound;
  for (int i = 0; i < kTries && !bound; ++i) {
    bound = bind_all(addresses, port == 0, options);
  }
  if (!bound) {
    throw_os_error(EADDRINUSE, "listen", host_and_port(host.value_or(""), port),
                   "no port is free on every address");
  }
  sockets_ = std::move(bound->sockets);
  addresses_ = std::move(bound->addresses);
  name_ = addresses_.front().to_string();
  waker_->open();
}

Listener::~Listener() = default;

std::optional<Listener::Accepted> Listener::try_accept(std::size_t index,
                                                       int& error_number) {
  error_number = 0;
  // As many failures in a row as a flood of dying connections may cause.
  for (int i = 0; i < 64; ++i) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    UniqueFd fd(::accept4(sockets_[index].get(),
                          reinterpret_cast<sockaddr*>(&storage), &size,
                          SOCK_CLOEXEC));
    if (fd) {
      // Not asked of the socket: a peer that is already gone has none there.
      return Accepted{std::move(fd), Address(&storage, size)};
    }
    if (would_block(errno) || errno == EINVAL) return std::nullopt;
    if (is_shortage(errno)) {
      error_number = errno;
      return std::nullopt;
    }
    // EINTR, or the error of a connection that died in the queue: the next.
  }
  return std::nullopt;
}

Listener::Accepted Listener::accept(const Wait& wait) {
  std::vector<pollfd> fds;
  fds.push_back({waker_->open(), POLLIN, 0});
  for (const UniqueFd& socket : sockets_) {
    fds.push_back({socket.get(), POLLIN, 0});
  }
  for (;;) {
    if (wait.stop.stop_requested()) throw CancelledError("accept", name_);
    if (closed_.load()) {
      throw_os_error(ECONNABORTED, "accept", name_, "the listener is closed");
    }
    for (std::size_t i = 0; i < sockets_.size(); ++i) {
      int error_number = 0;
      std::optional<Accepted> accepted = try_accept(i, error_number);
      if (accepted) return std::move(*accepted);
      if (error_number != 0) throw_os_error(error_number, "accept", name_);
    }
    const std::stop_callback on_stop(wait.stop,
                                     [this]() noexcept { waker_->signal(); });
    if (internal::poll_until(fds, wait.deadline) == 0) {
      throw TimeoutError("accept", name_);
    }
    if (!closed_.load()) waker_->clear();
  }
}

void Listener::close() noexcept {
  if (closed_.exchange(true)) return;
  for (const UniqueFd& socket : sockets_) {
    ::shutdown(socket.get(), SHUT_RDWR);
  }
  waker_->signal();
}

}  // namespace tcpip
