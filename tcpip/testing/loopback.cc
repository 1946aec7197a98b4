#include "tcpip/testing/loopback.h"

#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/listener.h"
#include "tcpip/socket.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"

namespace tcpip_testing {
namespace {

using tcpip::UniqueFd;

ConnectionPair unix_pair(std::size_t limit) {
  int fds[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    tcpip::throw_os_error(errno, "socketpair");
  }
  UniqueFd first(fds[0]);
  UniqueFd second(fds[1]);
  return {tcpip::open_connection(std::move(first), limit),
          tcpip::open_connection(std::move(second), limit)};
}

ConnectionPair tcp_pair(std::string_view host, std::size_t limit) {
  const tcpip::Wait wait(kPatience);
  tcpip::Listener listener(std::string(host), 0, {}, wait);
  tcpip::Streams first =
      tcpip::open_connection(host, listener.port(), {.limit = limit}, wait);
  tcpip::Listener::Accepted accepted = listener.accept(wait);
  // Anybody on this machine might have connected first.
  while (accepted.peer != first.writer.local_address()) {
    accepted = listener.accept(wait);
  }
  const auto socket = std::make_shared<tcpip::Socket>(std::move(accepted.fd));
  socket->set_options({});
  return {std::move(first),
          {tcpip::StreamReader(socket, limit), tcpip::StreamWriter(socket)}};
}

}  // namespace

const char* name_of(Transport transport) {
  switch (transport) {
    case Transport::kUnix:
      return "Unix";
    case Transport::kIpv4:
      return "Ipv4";
    case Transport::kIpv6:
      return "Ipv6";
  }
  return "?";
}

std::ostream& operator<<(std::ostream& out, Transport transport) {
  return out << name_of(transport);
}

ConnectionPair connection_pair(Transport transport, std::size_t limit) {
  if (transport == Transport::kUnix) return unix_pair(limit);
  return tcp_pair(transport == Transport::kIpv4 ? tcpip::kLocalhostIpv4
                                                : tcpip::kLocalhostIpv6,
                  limit);
}

}  // namespace tcpip_testing
