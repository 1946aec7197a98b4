// The components json and testing of the installed library.
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <stop_token>

#include "tcpip/json.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/testing/one_client_server_test_case.h"

namespace {

using namespace std::chrono_literals;

class JsonServer {
 public:
  using Options = tcpip::ServerOptions;
  explicit JsonServer(Options options)
      : server_(options, [](tcpip::Connection& client, std::stop_token stop) {
          tcpip::write_json(client, tcpip::read_json(client, stop), stop);
        }) {}
  void start() { server_.start(); }
  int port() const { return server_.port(); }
  bool connected() const { return server_.connected(); }
  void close() { server_.close(); }

 private:
  tcpip::OneClientReadLoopServer server_;
};

using JsonServerTest = tcpip_testing::BaseOneClientServerTestCase<JsonServer>;

TEST_F(JsonServerTest, SendsBack) {
  tcpip::Client& client = create_client(create_server());
  tcpip::write_json(client, {{"axis", 1}}, 5s);
  EXPECT_EQ(tcpip::read_json(client, 5s), (nlohmann::json{{"axis", 1}}));
}

}  // namespace
