#include "tcpip/client.h"

#include <poll.h>

#include <array>
#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tcpip/address.h"
#include "tcpip/base/log_line.h"
#include "tcpip/base/poller.h"
#include "tcpip/connect.h"
#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/make_core.h"
#include "tcpip/error.h"
#include "tcpip/io_result.h"
#include "tcpip/socket.h"

namespace tcpip {
namespace {

// The work of the monitor thread: notices that the server has gone, and tends
// the heartbeats.
void watch(internal::EndpointCore& core, internal::Link& link) {
  std::array<pollfd, 2> fds{pollfd{core.waker().fd(), POLLIN, 0},
                            pollfd{link.socket->native_handle(), POLLRDHUP, 0}};
  bool failed = false;
  // Pauses after a failure for lack of memory, then tries again.
  const auto rest = [&](const std::string& why) {
    if (!std::exchange(failed, true)) core.log().error(why);
    core.pause(Deadline::after(std::chrono::milliseconds(100)));
  };
  while (core.is_current(link)) {
    IoResult polled;
    try {
      const Deadline look_again = core.tend_heartbeats(link);
      if (!core.is_current(link)) return;
      polled = internal::poll_until(fds, look_again);
    } catch (const std::exception& e) {
      rest(internal::what_of(e));
      continue;
    }
    if (polled.status == IoStatus::kError) {
      rest("poll: " + std::generic_category().message(polled.error_number));
      continue;
    }
    if (fds[1].revents != 0) {
      core.note_hang_up(link, /*broken=*/false);
      return;
    }
    core.waker().clear();
  }
}

[[noreturn]] void throw_closed(const std::string& peer) {
  throw ConnectionAbortedError(
      std::make_error_code(std::errc::connection_aborted), "connect", peer,
      "the client was closed");
}

}  // namespace

Client::Client(ClientOptions options)
    : BaseClientOrServer(internal::make_core(options)),
      options_(std::move(options)) {
  if (has_no_host()) core().close();
}

Client::~Client() {
  stop_connecting();
  core().release();
}

void Client::start(const Wait& wait) {
  if (has_no_host()) return;
  const std::string host = options_.host.value_or("");
  const std::string peer =
      host_and_port(host.empty() ? "localhost" : host, options_.port);
  core().begin_start();
  try {
    // Both close() and the caller's stop interrupt connecting.
    std::stop_source connecting = connecting_;
    const std::stop_callback on_stop(
        wait.stop, [&connecting]() noexcept { connecting.request_stop(); });
    const Wait both(wait.deadline, connecting.get_token());
    std::shared_ptr<Socket> socket;
    try {
      const std::vector<Address> addresses =
          resolve(host, options_.port, both, options_.connect.family);
      RefusedOptions refused;
      socket = connect_socket(addresses, options_.connect, options_.socket,
                              both, peer, &refused);
      for (const RefusedOption& option : refused) {
        core().log().warning(option.text());
      }
    } catch (const CancelledError&) {
      if (wait.stop.stop_requested()) throw;
      throw_closed(peer);
    }
    core().start_dispatcher();
    const Address address = socket->peer_address();
    const auto link = core().make_link(std::move(socket), address);
    // Before admit(), which tells the program of the connection: starting a
    // thread may fail.
    core().start_worker(ThreadRole::kMonitor, "tcpip-monitor",
                        [](internal::EndpointCore& core) {
                          if (const auto made = core.wait_for_link(0, {}))
                            watch(core, *made);
                          core.linger_for_ended();
                        });
    if (core().admit(link) != internal::EndpointCore::Admission::kAccepted) {
      throw_closed(peer);
    }
  } catch (const ConnectionError& e) {
    // No thread can be started once close() was called.
    const bool was_closed =
        core().is_closing() && e.code() == std::errc::not_connected;
    close();
    if (was_closed) throw_closed(peer);
    throw;
  } catch (...) {
    close();
    throw;
  }
}

void Client::stop_connecting() {
  // In a child that fork() has made, it would wake its parent's threads.
  if (core().process().is_here()) connecting_.request_stop();
}

void Client::close() {
  stop_connecting();
  core().close();
}

void Client::basic_close() {
  stop_connecting();
  core().close(true);
}

}  // namespace tcpip
