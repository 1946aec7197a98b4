#include "tcpip/listener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
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
#include "tcpip/net/socket_options.h"

namespace tcpip {
namespace {

using internal::system_error;

// See Listener::wait_and_accept().
constexpr int kFalseAlarms = 100;
constexpr std::chrono::milliseconds kFalseAlarmPause{5};
// How often one looks for an address that is not there yet.
constexpr std::chrono::milliseconds kLookForAddress{100};

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

// An int option of SOL_SOCKET; the errno.
int option_of(int fd, int name, int& value) noexcept {
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? 0 : errno;
}

// A listening socket; or the error, and the operation that failed.
struct Listening {
  UniqueFd fd = {};
  Address address = {};
  std::error_code error = {};
  const char* operation = "listen";
  const char* detail = "";
  std::unique_ptr<internal::SocketFile> file = {};  // of a Unix-domain socket
  bool hands_options_on = false;
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

Listening listen_on(const Address& address, const ListenOptions& options,
                    const SocketOptions* inherited) {
  UniqueFd fd = internal::adopt_descriptor(
      ::socket(internal::raw(address)->sa_family,
               SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return {.error = system_error(errno)};
  if (options.prepare) options.prepare(fd.get());
  struct Option {
    bool wanted;
    int level;
    int name;
    const char* text;
  };
  const bool four = address.family() == AddressFamily::kIpv4;
  const bool six = address.family() == AddressFamily::kIpv6;
  const bool internet = four || six;
  for (const Option& option :
       {Option{options.reuse_address && internet, SOL_SOCKET, SO_REUSEADDR,
               "SO_REUSEADDR"},
        Option{options.reuse_port && internet, SOL_SOCKET, SO_REUSEPORT,
               "SO_REUSEPORT"},
        Option{options.free_bind && four, IPPROTO_IP, IP_FREEBIND,
               "IP_FREEBIND"},
        Option{options.free_bind && six, IPPROTO_IPV6, IPV6_FREEBIND,
               "IPV6_FREEBIND"},
        Option{six, IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY"}}) {
    if (!option.wanted) continue;
    if (const std::error_code error =
            internal::set_option(fd.get(), option.level, option.name, 1)) {
      return {.error = error, .operation = option.text};
    }
  }
  // Before listen(): a connection may come at once.
  const bool hands_options_on =
      inherited != nullptr && internet &&
      internal::set_options(fd.get(), /*tcp=*/true, *inherited).empty();
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
  return {.fd = std::move(fd),
          .address = chosen,
          .file = std::move(file),
          .hands_options_on = hands_options_on};
}

// A listening socket for each address, and the addresses that they have. After
// a failure: the sockets made before it, the error, and the address that was
// refused.
struct Bound {
  std::vector<UniqueFd> sockets = {};
  std::vector<bool> hand_options_on = {};
  std::vector<Address> addresses = {};
  std::unique_ptr<internal::SocketFile> file = {};
  std::error_code error = {};
  const char* operation = "";
  std::string detail = {};
  Address refused = {};
  std::vector<Address> absent = {};  // that this machine does not have
};

Bound bind_all(std::vector<Address> addresses, bool any_port,
               const ListenOptions& options, const SocketOptions* inherited) {
  Bound bound;
  for (Address& address : addresses) {
    if (any_port && !bound.addresses.empty()) {
      address.set_port(bound.addresses.front().port());
    }
    Listening listening = listen_on(address, options, inherited);
    if (!listening.error) {
      bound.addresses.push_back(listening.address);
      bound.sockets.push_back(std::move(listening.fd));
      bound.hand_options_on.push_back(listening.hands_options_on);
      bound.file = std::move(listening.file);
      continue;
    }
    // This machine lacks the address or its family: use the other addresses.
    const bool absent = listening.error == std::errc::address_not_available;
    const bool no_family =
        absent || listening.error == std::errc::address_family_not_supported;
    if (absent) bound.absent.push_back(address);
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

// bind_all(). If the first socket got a port that is in use on another address,
// tries again with another one.
Bound bind_on_one_port(const std::vector<Address>& addresses, bool any_port,
                       const ListenOptions& options,
                       const SocketOptions* inherited) {
  constexpr int kTries = 20;
  for (int i = 1;; ++i) {
    Bound bound = bind_all(addresses, any_port, options, inherited);
    const bool again = any_port && !bound.sockets.empty() &&
                       bound.error == std::errc::address_in_use;
    if (!again) return bound;
    if (i == kTries) {
      bound.refused = {};  // no single one is to blame
      bound.detail = "no port is free on every address";
      return bound;
    }
  }
}

}  // namespace

Listener::Listener(const std::optional<std::string>& host, int port,
                   const ListenOptions& options, const Wait& wait)
    : Listener(host, port, options, wait, nullptr) {}

Listener::Listener(const std::optional<std::string>& host, int port,
                   const ListenOptions& options, const Wait& wait,
                   const SocketOptions& inherited)
    : Listener(host, port, options, wait, &inherited) {}

Listener::Listener(const std::optional<std::string>& host, int port,
                   const ListenOptions& options, const Wait& wait,
                   const SocketOptions* inherited)
    : waker_(std::make_unique<internal::Waker>()) {
  if (options.backlog < 1) {
    throw std::invalid_argument(
        fmt::format("Listener: backlog {} is not positive", options.backlog));
  }
  if (options.mode < 0 || options.mode > 0777) {
    throw std::invalid_argument(fmt::format(
        "Listener: mode {:o} is not in 0...777 (octal)", options.mode));
  }
  if (options.descriptors.empty()) {
    open(host, port, options, wait, inherited);
  } else {
    adopt(options.descriptors);
  }
}

// For the constructor.
void Listener::open(const std::optional<std::string>& host, int port,
                    const ListenOptions& options, const Wait& wait,
                    const SocketOptions* inherited) {
  const std::vector<Address> addresses = resolve(
      host.value_or(""), port, wait, options.family, EmptyHost::kAllInterfaces);
  Bound bound = bind_on_one_port(addresses, port == 0, options, inherited);
  while (options.wait_for_address &&
         bound.error == std::errc::address_not_available) {
    wait_for_address(bound.refused.to_string(), wait);
    bound = bind_on_one_port(addresses, port == 0, options, inherited);
  }
  if (bound.error) {
    throw_os_error(bound.error.value(), bound.operation,
                   bound.refused.empty()
                       ? host_and_port(host.value_or(""), port)
                       : bound.refused.to_string(),
                   bound.detail);
  }
  file_ = std::move(bound.file);
  absent_ = std::move(bound.absent);
  sockets_ = std::move(bound.sockets);
  hand_options_on_ = std::move(bound.hand_options_on);
  addresses_ = std::move(bound.addresses);
  name_ = addresses_.front().to_string();
  if (const std::error_code error = waker_->open()) {
    throw_os_error(error.value(), "listen", name_);
  }
}

// For the constructor.
void Listener::adopt(const std::vector<int>& descriptors) {
  for (const int fd : descriptors) {
    const std::string name = fmt::format("descriptor {}", fd);
    const auto refuse = [&](int error_number, const char* detail = "") {
      throw_os_error(error_number, "listen", name, detail);
    };
    int type = 0;
    int listens = 0;
    if (const int error = option_of(fd, SO_TYPE, type)) refuse(error);
    if (type != SOCK_STREAM) refuse(EPROTOTYPE, "not a stream socket");
    if (option_of(fd, SO_ACCEPTCONN, listens) != 0 || listens == 0) {
      refuse(EINVAL, "the socket does not listen");
    }
    UniqueFd mine = internal::adopt_descriptor(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!mine) refuse(errno);
    const int flags = ::fcntl(mine.get(), F_GETFL);
    if (flags < 0 || ::fcntl(mine.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
      refuse(errno);
    }
    addresses_.push_back(internal::local_address_of(mine.get()));
    sockets_.push_back(std::move(mine));
    hand_options_on_.push_back(false);
  }
  is_adopted_ = true;
  name_ = addresses_.front().to_string();
  if (const std::error_code error = waker_->open()) {
    throw_os_error(error.value(), "listen", name_);
  }
}

Listener::~Listener() = default;

// Pauses; throws at the end of the wait.
void Listener::wait_for_address(const std::string& address, const Wait& wait) {
  if (!wait.stop.stop_requested() && wait.deadline.has_passed()) {
    throw TimeoutError("listen", address, /*queued=*/false,
                       system_error(EADDRNOTAVAIL).message());
  }
  const Deadline until =
      std::min(wait.deadline, Deadline::after(kLookForAddress));
  const IoResult result =
      internal::wait_ready(-1, 0, {until, wait.stop}, *waker_);
  if (result.status == IoStatus::kStopped) {
    throw CancelledError("listen", address);
  }
  if (result.status == IoStatus::kError) {
    throw_os_error(result.error_number, "listen", address);
  }
}

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
    if (!is_adopted_) ::shutdown(socket.get(), SHUT_RDWR);
  }
  waker_->signal();
}

}  // namespace tcpip
