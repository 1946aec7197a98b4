#include "tcpip/connect.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <stdexcept>
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

// How often try_connect() begins again.
constexpr int kMaxTries = 16;

// The result of trying one address.
struct Attempt {
  UniqueFd fd;
  IoStatus status = IoStatus::kOk;
  std::error_code error = {};
};

Attempt failed(int error_number) {
  return {{}, IoStatus::kError, internal::system_error(error_number)};
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
  UniqueFd fd = internal::adopt_descriptor(
      ::socket(internal::raw(peer)->sa_family,
               SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return failed(errno);
  if (!locals.empty()) {
    const std::optional<Address> local = local_address_for(peer, locals);
    if (!local) return failed(EAFNOSUPPORT);
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(fd.get(), internal::raw(*local), internal::raw_size(*local)) !=
        0) {
      return failed(errno);
    }
  }
  if (::connect(fd.get(), internal::raw(peer), internal::raw_size(peer)) != 0) {
    // EINTR leaves the attempt running, as EINPROGRESS does.
    if (errno != EINPROGRESS && errno != EINTR) return failed(errno);
  }
  internal::Waker waker;
  for (int tries = 1;; ++tries) {
    const IoResult ready = internal::wait_ready(fd.get(), POLLOUT, wait, waker);
    if (ready.status == IoStatus::kError) return failed(ready.error_number);
    if (ready.status != IoStatus::kOk) return {{}, ready.status};
    int error_number = 0;
    socklen_t size = sizeof error_number;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error_number, &size) !=
        0) {
      return failed(errno);
    }
    if (error_number != 0) return failed(error_number);
    const Address connected = internal::peer_address_of(fd.get());
    if (connected.empty()) {
      // Writable, without an error, but not connected: a signal interrupted
      // connect() before it began. Begin again; but a poll that is ready each
      // time must neither outlast the deadline nor become a busy loop.
      if (wait.deadline.has_passed()) return {{}, IoStatus::kTimeout};
      if (tries == kMaxTries) return failed(ENOTCONN);
      if (::connect(fd.get(), internal::raw(peer), internal::raw_size(peer)) !=
              0 &&
          errno != EINPROGRESS && errno != EALREADY && errno != EINTR &&
          errno != EISCONN) {
        return failed(errno);
      }
      continue;
    }
    // If nobody listens on a port of the ephemeral range, the kernel may give
    // the socket that very port: it then connects to itself (TCP's simultaneous
    // open).
    if (connected == internal::local_address_of(fd.get())) {
      // Reset it. A normal close would keep the port in TIME_WAIT for a minute,
      // and the server that should listen there could not bind.
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

// What each address said, for messages.
class Answers {
 public:
  void add(const Address& address, const Attempt& attempt) {
    const bool silent = attempt.status == IoStatus::kTimeout;
    const std::error_code error =
        silent ? std::make_error_code(std::errc::timed_out) : attempt.error;
    differ_ = differ_ || (!text_.empty() && (silent || error != last_));
    last_ = error;
    text_ += fmt::format(
        "{}{}: {}", text_.empty() ? "" : "; ", address.to_string(),
        silent ? std::string("no answer (timed out)") : error.message());
  }

  // Throws for the last one.
  [[noreturn]] void raise(std::string_view peer) const {
    throw_connect_error(last_, peer, differ_ ? text_ : std::string_view());
  }

 private:
  std::error_code last_;
  bool differ_ = false;
  std::string text_;
};

}  // namespace

std::shared_ptr<Socket> connect_socket(std::span<const Address> addresses,
                                       const ConnectOptions& connect,
                                       const SocketOptions& options,
                                       const Wait& wait, std::string_view peer,
                                       RefusedOptions* refused) {
  if (addresses.empty()) {
    throw std::invalid_argument("connect_socket: no address to connect to");
  }
  internal::check(options, "connect_socket");
  // Before the peer sees a connection.
  if (wait.stop.stop_requested()) throw CancelledError("connect", peer);
  std::vector<Address> locals;
  if (!connect.local_host.empty() || connect.local_port != 0) {
    locals = resolve(connect.local_host, connect.local_port, wait,
                     connect.family, EmptyHost::kAllInterfaces);
  }
  Answers answers;
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
      const RefusedOptions all = socket->set_options(options);
      // On a connection that is already lost the kernel refuses every option;
      // the first read tells the program about that.
      if (refused != nullptr) {
        *refused = socket->peer_hung_up() ? RefusedOptions() : all;
      }
      return socket;
    }
    answers.add(addresses[i], attempt);
  }
  answers.raise(peer);
}

}  // namespace tcpip
