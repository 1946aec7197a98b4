#include "tcpip/testing/test_one_client_read_loop_server.h"

#include <stdexcept>
#include <utility>

#include "tcpip/connection_event.h"
#include "tcpip/testing/waitable_queue.h"

namespace tcpip_testing {
namespace {

tcpip::OneClientReadLoopServerOptions inner_options(
    TestOneClientReadLoopServer& outer,
    TestOneClientReadLoopServer::Options&& options) {
  tcpip::OneClientReadLoopServerOptions result{
      .host = std::move(options.host),
      .port = options.port,
      .name = std::move(options.name),
      .log = std::move(options.log),
      .callbacks = options.callbacks,
      .connect_callback = {},
      .encoding = std::move(options.encoding),
      .terminator = std::move(options.terminator),
      .send_heartbeats = options.send_heartbeats,
      .heartbeat_interval = options.heartbeat_interval,
      .expect_heartbeats = options.expect_heartbeats,
      .max_heartbeat_interval = options.max_heartbeat_interval,
      .limit = options.limit,
      .write_limit = options.write_limit,
      .listen = options.listen,
      .socket = options.socket,
      .read_after_callback = options.read_after_callback,
      .thread_start_hook = std::move(options.thread_start_hook),
  };
  if (options.connect_callback) {
    result.connect_callback =
        [&outer, callback = std::move(options.connect_callback)](
            tcpip::OneClientReadLoopServer& /*server*/,
            const tcpip::ConnectionEvent& event) { callback(outer, event); };
  }
  return result;
}

}  // namespace

TestOneClientReadLoopServer::TestOneClientReadLoopServer(Options options,
                                                         Reply reply)
    : reply_(reply),
      data_(std::make_unique<internal::WaitableQueue<std::string>>()),
      server_(std::make_unique<tcpip::OneClientReadLoopServer>(
          inner_options(*this, std::move(options)),
          [this](tcpip::OneClientReadLoopServer& server, std::stop_token stop) {
            read_and_dispatch(server, stop);
          })) {}

TestOneClientReadLoopServer::~TestOneClientReadLoopServer() { close(); }

void TestOneClientReadLoopServer::close() {
  server_->close();
  data_->close();
}

std::string TestOneClientReadLoopServer::get_next_data(
    const tcpip::Wait& wait) {
  return data_->pop("get_next_data", wait);
}

std::size_t TestOneClientReadLoopServer::data_count() const {
  return data_->size();
}

void TestOneClientReadLoopServer::read_and_dispatch(
    tcpip::OneClientReadLoopServer& server, const std::stop_token& stop) {
  std::string message = server.read_str(stop);
  if (fail_next_read_.exchange(false)) {
    throw std::runtime_error("fail_next_read() asked for it");
  }
  data_->push(message);
  if (reply_ == Reply::kEcho) server.write_str(message, stop);
}

}  // namespace tcpip_testing
