#include "tcpip/one_client_server.h"

#include <stdexcept>
#include <utility>

#include "tcpip/base/mutex.h"
#include "tcpip/endpoint/accept_loop.h"
#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/make_core.h"
#include "tcpip/listener.h"

namespace tcpip {
namespace internal {

// What start() finds out and other threads ask for.
struct ServerBase::Listening {
  Mutex mutex;
  std::vector<Address> addresses TCPIP_GUARDED_BY(mutex);
};

ServerBase::ServerBase(std::shared_ptr<EndpointCore> core,
                       std::optional<std::string> host, int port,
                       ListenOptions listen, Worker client_reader)
    : BaseClientOrServer(std::move(core)),
      host_(std::move(host)),
      asked_port_(port),
      listen_(listen),
      client_reader_(std::move(client_reader)),
      listening_(std::make_unique<Listening>()) {}

ServerBase::~ServerBase() = default;

void ServerBase::start(const Wait& wait) {
  core().begin_start();
  try {
    auto listener =
        std::make_shared<Listener>(host_, asked_port_, listen_, wait);
    {
      const MutexLock lock(listening_->mutex);
      listening_->addresses = listener->addresses();
    }
    core().start_dispatcher();
    if (client_reader_) {
      core().start_worker(
          ThreadRole::kReader, "tcpip-reader",
          [work = client_reader_](EndpointCore& core, const std::stop_token&) {
            work(core);
          });
    }
    core().start_worker(
        ThreadRole::kAccept, "tcpip-accept",
        [listener = std::move(listener)](EndpointCore& core,
                                         const std::stop_token&) mutable {
          AcceptLoop(core, std::move(listener)).run();
        });
  } catch (...) {
    close();
    throw;
  }
}

void ServerBase::close_client() { core().close_link(); }
void ServerBase::basic_close_client() { core().close_link(true); }
void ServerBase::close() { core().close(); }

int ServerBase::port() const {
  const MutexLock lock(listening_->mutex);
  return listening_->addresses.empty()
             ? asked_port_
             : static_cast<int>(listening_->addresses.front().port());
}

std::vector<Address> ServerBase::addresses() const {
  const MutexLock lock(listening_->mutex);
  return listening_->addresses;
}

}  // namespace internal

OneClientServer::OneClientServer(OneClientServerOptions options)
    : ServerBase(
          internal::make_core(options, this, options.socket, "OneClientServer"),
          options.host, options.port, options.listen, {}) {}

OneClientServer::~OneClientServer() { core().release(); }

}  // namespace tcpip
