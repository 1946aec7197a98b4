#include "tcpip/endpoint/read_loop.h"

#include <fmt/format.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>

#include "tcpip/endpoint/link.h"
#include "tcpip/error.h"

namespace tcpip::internal {
namespace {

// Calls the handler until it throws or the connection has ended.
void serve(EndpointCore& core, const Link& link, const ReadLoop& loop) {
  Connection connection(link.record);
  const std::stop_token stop = connection.stop_token();
  const auto log_failure = [&core](const std::string& why) {
    core.peer_log().write(PeerLine::kHandlerFailed, LogLevel::kError,
                          "read handler failed" + why);
  };
  std::string failure;
  try {
    if (loop.begin) loop.begin(connection, stop);
    while (core.is_current(link)) loop.handler(connection, stop);
    return;
  } catch (const CancelledError& e) {
    failure = e.what();
  } catch (const ConnectionError& e) {
    failure = e.what();
  } catch (const std::exception& e) {
    log_failure(fmt::format(": {}", e.what()));
  } catch (...) {
    log_failure(" with an unknown exception");
  }
  // If the connection had already ended, that explains the exception.
  if (!failure.empty() && core.is_current(link) && !core.is_closing()) {
    log_failure(": " + failure);
  }
  core.close_link(link);
}

}  // namespace

void read_connections(EndpointCore& core, const ReadLoop& loop) {
  std::uint64_t served = 0;
  while (const std::shared_ptr<Link> link = core.wait_for_link(served, {})) {
    served = link->record->number;
    if (loop.read_after_callback) core.wait_until_told(*link);
    serve(core, *link, loop);
  }
}

}  // namespace tcpip::internal
