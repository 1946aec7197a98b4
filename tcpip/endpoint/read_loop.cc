#include "tcpip/endpoint/read_loop.h"

#include <fmt/format.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string_view>

#include "tcpip/base/log_line.h"
#include "tcpip/endpoint/link.h"
#include "tcpip/error.h"

namespace tcpip::internal {
namespace {

// How a call of the handler has ended.
enum class Outcome { kReturned, kLost, kFailed };

// A peer that ends its messages otherwise than we expect, and closes, would
// leave no trace.
void log_unfinished(const ConnectionError& end, EndpointCore& core,
                    const Link& link) noexcept {
  const auto* const cut = dynamic_cast<const IncompleteReadError*>(&end);
  if (cut == nullptr || cut->partial().empty()) return;
  core.peer_log().write(PeerLine::kUnreadDropped, LogLevel::kWarning, [&] {
    return fmt::format(
        "an unfinished message from {} is dropped; bytes of it that came: {}",
        link.record->peer.to_string(), cut->partial().size());
  });
}

// Calls the handler. Logs what it throws, unless the end of the connection or
// of the server explains that.
Outcome call(const ReadLoop::Handler& handler, EndpointCore& core,
             const Link& link, Connection& connection,
             const std::stop_token& stop) noexcept {
  const auto log_failure = [&core](std::string_view separator,
                                   std::string_view what) {
    core.counters().callback_errors.add();
    core.peer_log().write(PeerLine::kHandlerFailed, LogLevel::kError, [&] {
      return fmt::format("read handler failed{}{}", separator, what);
    });
  };
  const auto is_explained = [&core, &link] {
    return !core.is_current(link) || core.is_closing() ||
           core.has_lost_peer(link);
  };
  try {
    handler(connection, stop);
    return Outcome::kReturned;
  } catch (const CancelledError& e) {
    if (!is_explained()) log_failure(": ", what_of(e));
  } catch (const ConnectionError& e) {
    if (is_explained()) {
      log_unfinished(e, core, link);
      return Outcome::kLost;
    }
    log_failure(": ", what_of(e));
  } catch (const std::exception& e) {
    log_failure(": ", what_of(e));
  } catch (...) {
    log_failure(" ", "with an unknown exception");
  }
  return Outcome::kFailed;
}

// Calls the handler until it throws or the connection has ended.
void serve(EndpointCore& core, Link& link, const ReadLoop& loop) noexcept {
  if (!core.is_current(link)) return;
  Connection connection(link.record);
  const std::stop_token stop = connection.stop_token();
  // A peer that has sent several messages and closed, without waiting for the
  // replies: each reply may fail, but every message reaches the handler. Each
  // failing call must take something, or this would not come to an end.
  const auto goes_on = [&](Outcome outcome, std::uint64_t consumed) {
    return outcome == Outcome::kReturned ||
           (outcome == Outcome::kLost && link.receiver->consumed() > consumed);
  };
  Outcome outcome = Outcome::kReturned;
  bool served = true;
  if (loop.begin) {
    outcome = call(loop.begin, core, link, connection, stop);
    served = outcome != Outcome::kFailed;
  }
  while (served && core.go_on(link)) {
    const std::uint64_t consumed = link.receiver->consumed();
    outcome = call(loop.handler, core, link, connection, stop);
    served = goes_on(outcome, consumed);
  }
  if (!served) core.finish_serving(link, outcome == Outcome::kFailed);
}

void read_connections(EndpointCore& core, const ReadLoop& loop) {
  std::uint64_t served = 0;
  while (const std::shared_ptr<Link> link = core.wait_for_link(served, {})) {
    served = link->record->number;
    if (loop.read_after_callback) core.wait_until_told(*link);
    serve(core, *link, loop);
  }
}

}  // namespace

std::function<void(EndpointCore&)> client_reader(const char* what,
                                                 ReadLoop loop) {
  if (!loop.handler) {
    throw std::invalid_argument(
        fmt::format("{}: the read handler is empty", what));
  }
  return [loop = std::move(loop)](EndpointCore& core) {
    read_connections(core, loop);
  };
}

}  // namespace tcpip::internal
