#include "tcpip/client.h"

#include <memory>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "tcpip/address.h"
#include "tcpip/endpoint/connect_loop.h"
#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/make_core.h"
#include "tcpip/error.h"
#include "tcpip/socket.h"

namespace tcpip {
namespace {

[[noreturn]] void throw_closed(const std::string& peer) {
  throw ConnectionAbortedError(
      std::make_error_code(std::errc::connection_aborted), "connect", peer,
      "the client was closed");
}

}  // namespace

namespace internal {

Target ClientBase::target() const {
  return {options_.host.value_or(""), options_.port, options_.connect};
}

ClientBase::ClientBase(ClientOptions options, const char* what,
                       Worker client_reader)
    : BaseClientOrServer(make_core(options, what, client_reader != nullptr)),
      options_(std::move(options)),
      client_reader_(std::move(client_reader)) {
  if (has_no_host()) core().close();
}

ClientBase::~ClientBase() = default;

void ClientBase::release() {
  stop_connecting();
  core().release();
}

void ClientBase::stop_connecting() {
  // In a child that fork() has made, it would wake its parent's threads.
  if (core().process().is_here()) connecting_.request_stop();
}

void ClientBase::start_reader() {
  if (!client_reader_) return;
  core().start_worker(ThreadRole::kReader, "tcpip-reader", client_reader_);
}

void ClientBase::close() {
  stop_connecting();
  core().close();
}

void ClientBase::basic_close() {
  stop_connecting();
  core().close(true);
}

OneConnectionClient::OneConnectionClient(ClientOptions options,
                                         const char* what, Worker client_reader)
    : ClientBase(std::move(options), what, std::move(client_reader)) {}

OneConnectionClient::~OneConnectionClient() = default;

void OneConnectionClient::start(const Wait& wait) {
  if (has_no_host()) return;
  const Target target = this->target();
  core().begin_start();
  try {
    // Both close() and the caller's stop interrupt connecting.
    std::stop_source connecting = this->connecting();
    const std::stop_callback on_stop(
        wait.stop, [&connecting]() noexcept { connecting.request_stop(); });
    const Wait both(wait.deadline, connecting.get_token());
    std::shared_ptr<Socket> socket;
    try {
      RefusedOptions refused;
      socket = connect_to(core(), target, both, refused);
      for (const RefusedOption& option : refused) {
        core().log().warning(option.text());
      }
    } catch (const CancelledError&) {
      if (wait.stop.stop_requested()) throw;
      throw_closed(target.name());
    }
    core().start_dispatcher();
    const Address address = socket->peer_address();
    const auto link = core().make_link(std::move(socket), address);
    // Before admit(), which tells the program of the connection: starting a
    // thread may fail.
    core().start_worker(ThreadRole::kMonitor, "tcpip-monitor",
                        [](EndpointCore& core) {
                          if (const auto made = core.wait_for_link(0, {}))
                            watch(core, *made);
                          linger_until_closed(core);
                        });
    start_reader();
    if (core().admit(link) != EndpointCore::Admission::kAccepted) {
      throw_closed(target.name());
    }
  } catch (const ConnectionError& e) {
    // No thread can be started once close() was called.
    const bool was_closed =
        core().is_closing() && e.code() == std::errc::not_connected;
    close();
    if (was_closed) throw_closed(target.name());
    throw;
  } catch (...) {
    close();
    throw;
  }
}

}  // namespace internal

Client::Client(ClientOptions options)
    : OneConnectionClient(options, "Client", {}) {
  if (options.begin || options.read_after_callback) {
    throw std::invalid_argument(
        "Client: begin and read_after_callback are for a read handler");
  }
}

Client::~Client() { release(); }

}  // namespace tcpip
