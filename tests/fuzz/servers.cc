#include "tests/fuzz/servers.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tcpip/testing/wait_until.h"
#include "tests/fuzz/fuzz.h"

namespace tcpip_fuzz {
namespace {

using tcpip_testing::kPatience;

using Servers =
    std::map<std::string, std::unique_ptr<tcpip::OneClientServer>, std::less<>>;

Servers& servers() {
  static Servers all;
  return all;
}

tcpip::UniqueFd connect_to(int port) {
  tcpip::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  require(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                    sizeof address) == 0,
          "cannot connect");
  return fd;
}

}  // namespace

tcpip::OneClientServer& server_for(std::string_view key,
                                   const tcpip::ServerOptions& options) {
  const auto known = servers().find(key);
  if (known != servers().end()) return *known->second;
  auto server = std::make_unique<tcpip::OneClientServer>(options);
  server->start(kPatience);
  return *(servers()[std::string(key)] = std::move(server));
}

void close_servers() { servers().clear(); }

Served::Served(tcpip::OneClientServer& server)
    : peer_(connect_to(server.port())) {
  std::optional<tcpip::Connection> connection = server.wait_client(kPatience);
  require(connection.has_value(), "not accepted");
  connection_ = *std::move(connection);
}

Served::~Served() {
  connection_.close();
  reset();
}

void Served::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count =
        ::send(peer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    require(count > 0, "cannot send to the server");
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void Served::half_close() { ::shutdown(peer_.get(), SHUT_WR); }

void Served::reset() {
  if (!peer_) return;
  const linger option{1, 0};
  ::setsockopt(peer_.get(), SOL_SOCKET, SO_LINGER, &option, sizeof option);
  peer_.reset();
}

}  // namespace tcpip_fuzz
