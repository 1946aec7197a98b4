#include "tcpip/one_client_server.h"

#include <fmt/format.h>

#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>

#include "tcpip/base/mutex.h"
#include "tcpip/endpoint/accept_loop.h"
#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/link.h"
#include "tcpip/endpoint/make_core.h"
#include "tcpip/listener.h"

namespace tcpip {
namespace internal {

// What start() sets and other threads may read.
struct ServerBase::Listening {
  Mutex mutex;
  std::vector<Address> addresses TCPIP_GUARDED_BY(mutex);
  std::weak_ptr<Listener> listener TCPIP_GUARDED_BY(mutex);
};

ServerBase::ServerBase(const ServerOptions& options, const char* what,
                       std::optional<std::string> host, Worker client_reader)
    : BaseClientOrServer(make_core(options, what, client_reader != nullptr)),
      host_(std::move(host)),
      asked_port_(options.port),
      listen_(options.listen),
      client_reader_(std::move(client_reader)),
      listening_(std::make_unique<Listening>()) {}

ServerBase::~ServerBase() {
  if (core().process().is_here()) return;
  // In a child that fork() has made, the accept thread does not exist, which
  // would close the listening sockets.
  if (!listening_->mutex.try_lock()) return;
  const std::shared_ptr<Listener> listener = listening_->listener.lock();
  listening_->mutex.unlock();
  if (listener) listener->close();
}

void ServerBase::start(const Wait& wait) {
  core().begin_start();
  try {
    // Both close() and the caller's stop interrupt the wait.
    std::stop_source starting = starting_;
    const std::stop_callback on_stop(
        wait.stop, [&starting]() noexcept { starting.request_stop(); });
    std::shared_ptr<Listener> listener;
    try {
      listener = std::make_shared<Listener>(
          host_, asked_port_, listen_,
          Wait(wait.deadline, starting.get_token()), core().config().socket);
    } catch (const CancelledError&) {
      if (wait.stop.stop_requested()) throw;
      throw ConnectionAbortedError(
          std::make_error_code(std::errc::connection_aborted), "listen",
          host_and_port(host_.value_or(""), asked_port_),
          "the server was closed");
    }
    for (const Address& address : listener->absent()) {
      core().log().warning(fmt::format(
          "not listening on {}: this machine does not have that address",
          address.host()));
    }
    {
      const MutexLock lock(listening_->mutex);
      listening_->addresses = listener->addresses();
      listening_->listener = listener;
    }
    core().start_dispatcher();
    if (client_reader_) {
      core().start_worker(ThreadRole::kReader, "tcpip-reader", client_reader_);
    }
    core().start_worker(
        ThreadRole::kAccept, "tcpip-accept",
        [listener = std::move(listener)](EndpointCore& core) mutable {
          AcceptLoop(core, std::move(listener)).run();
        });
  } catch (...) {
    close();
    throw;
  }
}

void ServerBase::close_client() { core().close_current_link(); }
void ServerBase::basic_close_client() {
  core().close_current_link(/*keep_should_be_connected=*/true);
}
void ServerBase::close() {
  // In a child that fork() has made, it would wake its parent's threads.
  if (core().process().is_here()) starting_.request_stop();
  core().close();
}

int ServerBase::port() const {
  core().process().check("port");
  const MutexLock lock(listening_->mutex);
  return listening_->addresses.empty()
             ? asked_port_
             : static_cast<int>(listening_->addresses.front().port());
}

std::vector<Address> ServerBase::addresses() const {
  core().process().check("addresses");
  const MutexLock lock(listening_->mutex);
  return listening_->addresses;
}

}  // namespace internal

OneClientServer::OneClientServer(ServerOptions options)
    : ServerBase(options, "OneClientServer", options.host, {}) {
  if (options.begin || options.read_after_callback) {
    throw std::invalid_argument(
        "OneClientServer: begin and read_after_callback are for read-loop "
        "servers");
  }
}

OneClientServer::~OneClientServer() { core().release(); }

std::optional<Connection> OneClientServer::wait_client(const Wait& wait) {
  const auto link = core().hand_out_link(wait);
  if (!link) return std::nullopt;
  return Connection(link->record);
}

}  // namespace tcpip
