#include "tcpip/open_connection.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/base/descriptor.h"
#include "tcpip/connect.h"
#include "tcpip/error.h"
#include "tcpip/net/socket_options.h"
#include "tcpip/socket.h"

namespace tcpip {
namespace {

Streams streams(const std::shared_ptr<Socket>& socket, std::size_t limit) {
  return {StreamReader(socket, limit), StreamWriter(socket)};
}

}  // namespace

Streams open_connection(std::string_view host, int port,
                        const OpenConnectionOptions& options,
                        const Wait& wait) {
  if (options.limit == 0) {
    throw std::invalid_argument("open_connection: the limit must be positive");
  }
  internal::check(options.socket, "open_connection");
  const std::vector<Address> addresses =
      resolve(host, port, wait, options.connect.family);
  return streams(connect_socket(addresses, options.connect, options.socket,
                                wait, host_and_port(host, port)),
                 options.limit);
}

Streams open_connection(std::string_view host, int port, const Wait& wait) {
  return open_connection(host, port, OpenConnectionOptions{}, wait);
}

Streams open_connection(UniqueFd fd, std::size_t limit) {
  return streams(std::make_shared<Socket>(std::move(fd)), limit);
}

std::pair<Streams, Streams> connected_pair(std::size_t limit) {
  std::array<int, 2> fds{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    throw_os_error(errno, "connected_pair");
  }
  UniqueFd here = internal::adopt_descriptor(fds[0]);
  const int error_number = here ? 0 : errno;
  UniqueFd there = internal::adopt_descriptor(fds[1]);
  if (!here || !there) {
    throw_os_error(here ? errno : error_number, "connected_pair");
  }
  Streams first = open_connection(std::move(here), limit);
  return {std::move(first), open_connection(std::move(there), limit)};
}

}  // namespace tcpip
