#include "tcpip/listener.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

#include "tcpip/base/descriptor.h"
#include "tcpip/base/poller.h"
#include "tcpip/error.h"
#include "tcpip/net/socket_calls.h"
#include "tcpip/net/socket_file.h"

namespace tcpip {
namespace {

using internal::system_error;

// See Listener::wait_and_accept().
constexpr int kFalseAlarms = 100;
constexpr std::chrono::milliseconds kFalseAlarmPause{5};

// True for a signal, and for an errno with which accept4() reports what
// happened to one connection that waited. Linux passes on what the network
// said, too; see accept(2).
bool says_nothing_of_the_next(int error_number) noexcept {
  switch (error_number) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

// A listening socket; or the error, and the operation that failed.
struct Listening {
  UniqueFd fd = {};
  Address address = {};
  std::error_code error = {};
  const char* operation = "listen";
  const char* detail = "";
  std::unique_ptr<internal::SocketFile> file = {};  // of a Unix-domain socket
};

// bind(), once more where a Unix-domain server that has ended left its file.
// Returns why that was not possible, too.
std::pair<std::error_code, const char*> bind_to(const Address& address,
                                                int fd) noexcept {
  const auto bind_once = [&] {
    return ::bind(fd, internal::raw(address), internal::raw_size(address)) == 0
               ? std::error_code()
               : system_error(errno);
  };
  const std::error_code error = bind_once();
  if (error != std::errc::address_in_use ||
      address.family() != AddressFamily::kUnix) {
    return {error, ""};
  }
  const char* const obstacle = internal::remove_stale_file(address);
  if (*obstacle != '\0') return {error, obstacle};
  return {bind_once(), ""};
}

Listening listen_on(const Address& address, const ListenOptions& options) {
  UniqueFd fd = internal::adopt_descriptor(
      ::socket(internal::raw(address)->sa_family,
               SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return {.error = system_error(errno)};
  struct Option {
    bool wanted;
    int level;
    int name;
    const char* text;
  };
  const bool is_unix = address.family() == AddressFamily::kUnix;
  const bool six = address.family() == AddressFamily::kIpv6;
  for (const Option& option :
       {Option{options.reuse_address, SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR"},
        Option{options.reuse_port, SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT"},
        Option{six, IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY"}}) {
    if (!option.wanted || is_unix) continue;
    if (const std::error_code error =
            internal::set_option(fd.get(), option.level, option.name, 1)) {
      return {.error = error, .operation = option.text};
    }
  }
  std::unique_ptr<internal::SocketFile> file;
  if (std::string path = internal::path_of(address); !path.empty()) {
    file = std::make_unique<internal::SocketFile>(std::move(path));
  }
  const auto [error, detail] = bind_to(address, fd.get());
  if (error) return {.error = error, .detail = detail};
  if (file) file->note_made();
  // Before listen(): until then nobody can connect.
  if (file && options.mode != 0 &&
      ::chmod(file->path().c_str(), static_cast<mode_t>(options.mode)) != 0) {
    return {.error = system_error(errno), .operation = "chmod"};
  }
  if (::listen(fd.get(), options.backlog) != 0) {
    return {.error = system_error(errno)};
  }
  // With port 0 the kernel has chosen one.
  const Address chosen = internal::local_address_of(fd.get());
  if (chosen.empty()) {
    return {.error = system_error(errno), .operation = "getsockname"};
  }
  return {.fd = std::move(fd), .address = chosen, .file = std::move(file)};
}

// A listening socket for each address, and the addresses that they have. After
// a failure: the sockets made before it, the error, and the address that was
// refused.
struct Bound {
  std::vector<UniqueFd> sockets = {};
  std::vector<Address> addresses = {};
  std::unique_ptr<internal::SocketFile> file = {};
  std::error_code error = {};
  const char* operation = "";
  std::string detail = {};
  Address refused = {};
};

Bound bind_all(std::vector<Address> addresses, bool any_port,
               const ListenOptions& options) {
  Bound bound;
  for (Address& address : addresses) {
    if (any_port && !bound.addresses.empty()) {
      address.set_port(bound.addresses.front().port());
    }
    Listening listening = listen_on(address, options);
    if (!listening.error) {
      bound.addresses.push_back(listening.address);
      bound.sockets.push_back(std::move(listening.fd));
      bound.file = std::move(listening.file);
      continue;
    }
    // This machine lacks the address family: use the other addresses.
    const bool no_family =
        listening.error == std::errc::address_family_not_supported ||
        listening.error == std::errc::address_not_available;
    const bool last_chance =
        bound.sockets.empty() && &address == &addresses.back();
    if (no_family && !last_chance) continue;
    bound.error = listening.error;
    bound.operation = listening.operation;
    if (*listening.detail != '\0') {
      bound.detail =
          fmt::format("{}: {}", bound.error.message(), listening.detail);
    }
    bound.refused = address;
    break;
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
  if (options.mode < 0 || options.mode > 0777) {
    throw std::invalid_argument(fmt::format(
        "Listener: mode {:o} is not in 0...777 (octal)", options.mode));
  }
  const std::vector<Address> addresses = resolve(
      host.value_or(""), port, wait, options.family, EmptyHost::kAllInterfaces);
  constexpr int kTries = 20;
  Bound bound;
  bool again = true;
  for (int i = 0; i < kTries && again; ++i) {
    bound = {};  // first frees the port of the last try
    bound = bind_all(addresses, port == 0, options);
    // The first socket got a port that is in use on another address: try again.
    again = port == 0 && !bound.sockets.empty() &&
            bound.error == std::errc::address_in_use;
  }
  if (bound.error) {
    throw_os_error(bound.error.value(), bound.operation,
                   again ? host_and_port(host.value_or(""), port)
                         : bound.refused.to_string(),
                   again ? "no port is free on every address" : bound.detail);
  }
  file_ = std::move(bound.file);
  sockets_ = std::move(bound.sockets);
  addresses_ = std::move(bound.addresses);
  name_ = addresses_.front().to_string();
  if (const std::error_code error = waker_->open()) {
    throw_os_error(error.value(), "listen", name_);
  }
}

Listener::~Listener() = default;

Listener::Attempt Listener::try_accept(std::size_t index) noexcept {
  // A connection that died in the queue says nothing about the next one. But a
  // firewall or a network that is down may refuse all of them for good.
  constexpr int kTries = 64;
  int error_number = 0;
  for (int i = 0; i < kTries; ++i) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    UniqueFd fd = internal::adopt_descriptor(
        ::accept4(sockets_[index].get(), reinterpret_cast<sockaddr*>(&storage),
                  &size, SOCK_CLOEXEC));
    if (fd) {
      // Not getpeername(): that fails if the peer has already gone.
      return {
          .accepted = {std::move(fd), internal::address_from(storage, size)}};
    }
    error_number = errno;
    if (internal::would_block(error_number)) {
      return {.status = IoStatus::kTimeout};
    }
    // close() has shut the socket down.
    if (error_number == EINVAL && closed_.load()) {
      return {.status = IoStatus::kTimeout};
    }
    if (!says_nothing_of_the_next(error_number)) break;
  }
  return {.status = IoStatus::kError, .error = system_error(error_number)};
}

Listener::Attempt Listener::wait_and_accept(const Wait& wait) {
  std::vector<pollfd> fds;
  fds.push_back({waker_->fd(), POLLIN, 0});
  for (const UniqueFd& socket : sockets_) {
    fds.push_back({socket.get(), POLLIN, 0});
  }
  for (int false_alarms = 0;; ++false_alarms) {
    if (wait.stop.stop_requested()) return {.status = IoStatus::kStopped};
    if (closed_.load()) return {.status = IoStatus::kClosed};
    for (std::size_t i = 0; i < sockets_.size(); ++i) {
      Attempt attempt = try_accept(i);
      if (attempt.status != IoStatus::kTimeout) return attempt;
    }
    // A poll may be ready each time and accept4() find nothing, for instance if
    // another process that shares the socket is always faster. That must
    // neither outlast the deadline nor become a busy loop: after some of these,
    // poll the waker alone for a while.
    if (wait.deadline.has_passed()) return {.status = IoStatus::kTimeout};
    const bool pause = false_alarms >= kFalseAlarms;
    const std::stop_callback on_stop(wait.stop,
                                     [this]() noexcept { waker_->signal(); });
    const IoResult ready =
        pause ? internal::poll_until(
                    std::span(fds).first(1),
                    std::min(wait.deadline, Deadline::after(kFalseAlarmPause)))
              : internal::poll_until(fds, wait.deadline);
    if (ready.status == IoStatus::kTimeout && pause) continue;
    if (ready.status != IoStatus::kOk) {
      return {.status = ready.status,
              .error = system_error(ready.error_number)};
    }
    if (!closed_.load()) waker_->clear();
  }
}

Listener::Accepted Listener::accept(const Wait& wait) {
  process_.check("accept");
  Attempt attempt = wait_and_accept(wait);
  switch (attempt.status) {
    case IoStatus::kOk:
      break;
    case IoStatus::kTimeout:
      throw TimeoutError("accept", name_);
    case IoStatus::kStopped:
      throw CancelledError("accept", name_);
    case IoStatus::kClosed:
      throw_os_error(ECONNABORTED, "accept", name_, "the listener is closed");
    case IoStatus::kError:
      // Not throw_os_error(): ECONNABORTED would look like close().
      throw Error(attempt.error, "accept", name_);
  }
  return std::move(attempt.accepted);
}

void Listener::close() noexcept {
  if (closed_.exchange(true)) return;
  if (!process_.is_here()) {
    for (UniqueFd& socket : sockets_) socket.reset();
    return;
  }
  // While this one still counts as bound: nobody else replaces the file.
  if (file_) file_->remove();
  for (const UniqueFd& socket : sockets_) {
    ::shutdown(socket.get(), SHUT_RDWR);
  }
  waker_->signal();
}

}  // namespace tcpip
