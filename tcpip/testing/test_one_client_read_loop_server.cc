#include "tcpip/testing/test_one_client_read_loop_server.h"

#include <stdexcept>
#include <utility>

#include "tcpip/testing/waitable_queue.h"

namespace tcpip_testing {

TestOneClientReadLoopServer::TestOneClientReadLoopServer(Options options,
                                                         Reply reply)
    : reply_(reply),
      data_(std::make_unique<internal::WaitableQueue<std::string>>()),
      server_(std::make_unique<tcpip::OneClientReadLoopServer>(
          std::move(options),
          [this](tcpip::Connection& client, std::stop_token stop) {
            read_and_dispatch(client, stop);
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
    const tcpip::Connection& client, const std::stop_token& stop) {
  const std::string message = client.read_str(stop);
  data_->push(message);
  if (fail_next_read_.exchange(false)) {
    throw std::runtime_error("fail_next_read() asked for it");
  }
  if (reply_ == Reply::kEcho) client.write_str(message, stop);
}

}  // namespace tcpip_testing
