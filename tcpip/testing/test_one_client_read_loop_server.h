// A read-loop server for tests of clients: keeps the text messages that come
// and hands them to the test; the counterpart of lsst.ts.tcpip's class of that
// name.
//
//   TestOneClientReadLoopServer server;  // on 127.0.0.1, on any free port
//   server.start();
//   MyClient client(server.port());
//   client.move_to(180);
//   EXPECT_EQ(server.get_next_data(), "move 180");
//   server.connection().write_str("ok");
//
// Threads: every member may be called from any thread at any time. start()
// makes the threads of a tcpip::OneClientReadLoopServer.
#ifndef TCPIP_TESTING_TEST_ONE_CLIENT_READ_LOOP_SERVER_H_
#define TCPIP_TESTING_TEST_ONE_CLIENT_READ_LOOP_SERVER_H_

#include "tcpip/version.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "tcpip/connection.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/options.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/wait.h"

namespace tcpip_testing {

namespace internal {
template <class T>
class WaitableQueue;
}

class TCPIP_EXPORT TestOneClientReadLoopServer final {
 public:
  using Options = tcpip::ServerOptions;

  // What the client gets for each message: nothing, as in Python, so that it
  // reads what the test writes and nothing else; or the message.
  enum class Reply { kNone, kEcho };

  // As OneClientReadLoopServer's.
  explicit TestOneClientReadLoopServer(Options options = {},
                                       Reply reply = Reply::kNone);
  ~TestOneClientReadLoopServer();  // close()
  TestOneClientReadLoopServer(const TestOneClientReadLoopServer&) = delete;
  TestOneClientReadLoopServer& operator=(const TestOneClientReadLoopServer&) =
      delete;

  // As OneClientReadLoopServer's members of these names.
  void start(const tcpip::Wait& wait = {}) { server_->start(wait); }
  int port() const { return server_->port(); }
  bool connected() const { return server_->connected(); }
  std::uint64_t connection_count() const { return server_->connection_count(); }
  tcpip::Connection connection() const { return server_->connection(); }
  bool wait_connected(const tcpip::Wait& wait = kPatience) {
    return server_->wait_connected(wait);
  }
  void close_client() { server_->close_client(); }
  // As there; and get_next_data() waits no longer.
  void close();

  // For everything else: writing, options. Do not read from it.
  tcpip::OneClientReadLoopServer& server() noexcept { return *server_; }

  // The oldest message that was not handed out yet, as read_str() gives it;
  // waits for it. They are kept from client to client, and after close().
  // Throws tcpip::TimeoutError; tcpip::CancelledError, also if there is none
  // and the server is closed.
  std::string get_next_data(const tcpip::Wait& wait = kPatience);
  // How many messages wait to be handed out.
  std::size_t data_count() const;

  // When the next message has come and is queued for get_next_data(), the read
  // handler throws, as if the message could not be dealt with: the server logs
  // that and ends the connection. Holds for one message, whichever client it
  // comes from.
  void fail_next_read() noexcept { fail_next_read_ = true; }

 private:
  void read_and_dispatch(const tcpip::Connection& client,
                         const std::stop_token& stop);

  const Reply reply_;
  std::atomic<bool> fail_next_read_{false};
  const std::unique_ptr<internal::WaitableQueue<std::string>> data_;
  // Last: its threads use the others.
  const std::unique_ptr<tcpip::OneClientReadLoopServer> server_;
};

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_TEST_ONE_CLIENT_READ_LOOP_SERVER_H_
