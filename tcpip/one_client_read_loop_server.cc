#include "tcpip/one_client_read_loop_server.h"

#include <fmt/format.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/make_core.h"
#include "tcpip/error.h"

namespace tcpip {
namespace {

using Handler = std::function<void(std::stop_token)>;

// Calls the handler until it throws or `link` is over.
void serve(internal::EndpointCore& core,
           const std::shared_ptr<internal::Link>& link,
           const Handler& handler) {
  std::string failure;
  try {
    while (core.is_current(*link)) handler(link->stop.get_token());
    return;
  } catch (const CancelledError& e) {
    failure = e.what();
  } catch (const ConnectionError& e) {
    failure = e.what();
  } catch (const std::exception& e) {
    core.log().error(fmt::format("read handler failed: {}", e.what()));
  } catch (...) {
    core.log().error("read handler failed with an unknown exception");
  }
  // An end that came first explains the exception; nothing to complain of.
  if (!failure.empty() && core.is_current(*link) && !core.is_closing()) {
    core.log().error(fmt::format("read handler failed: {}", failure));
  }
  core.close_link();
}

void read_clients(internal::EndpointCore& core, const Handler& handler,
                  bool read_after_callback) {
  std::uint64_t served = 0;
  while (const std::shared_ptr<internal::Link> link =
             core.wait_for_link(served)) {
    served = link->generation;
    if (read_after_callback) core.wait_until_told(*link);
    const internal::EndpointCore::Binding binding(core, link->generation);
    serve(core, link, handler);
  }
}

}  // namespace

OneClientReadLoopServer::OneClientReadLoopServer(
    OneClientReadLoopServerOptions options, ReadHandler handler)
    : ServerBase(internal::make_core(options, this, options.socket,
                                     "OneClientReadLoopServer"),
                 options.host, options.port, options.listen,
                 [this, handler, after = options.read_after_callback](
                     internal::EndpointCore& core) {
                   read_clients(
                       core,
                       [this, &handler](std::stop_token stop) {
                         handler(*this, std::move(stop));
                       },
                       after);
                 }) {
  if (!handler) {
    throw std::invalid_argument(
        "OneClientReadLoopServer: the read handler is empty");
  }
}

OneClientReadLoopServer::~OneClientReadLoopServer() { core().release(); }

}  // namespace tcpip
