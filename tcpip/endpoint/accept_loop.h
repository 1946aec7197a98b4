// What a server's accept thread does: admits one client, turns the others away,
// notices that the client has gone, and lingers for ended connections.
//
// Threads: only the accept thread uses the object. Of the program's code it
// runs the log sink, and stop callbacks of a connection that it ends.
#ifndef TCPIP_ENDPOINT_ACCEPT_LOOP_H_
#define TCPIP_ENDPOINT_ACCEPT_LOOP_H_

#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/io_result.h"
#include "tcpip/listener.h"
#include "tcpip/socket.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

class AcceptLoop {
 public:
  AcceptLoop(EndpointCore& core, std::shared_ptr<Listener> listener)
      : core_(core), listener_(std::move(listener)) {}

  // Returns when the core is closing.
  void run();

 private:
  struct Lingering {
    std::shared_ptr<Socket> socket;
    Deadline deadline;
  };

  IoResult wait_for_work(Link* client);
  void rest(std::string_view why);
  void accept_all(std::size_t index);
  void admit(Listener::Accepted accepted);
  void set_options(Socket& socket);
  void back_off(int error_number);
  void linger(std::shared_ptr<Socket> socket);
  void close_ended(bool closing);

  EndpointCore& core_;
  const std::shared_ptr<Listener> listener_;
  std::deque<Lingering> lingering_;  // the earliest deadline first
  // Set while accept4() or poll() fails: when to accept again.
  std::optional<Deadline> accept_again_;
  std::chrono::milliseconds pause_{0};  // the last back-off; 0: none
  // How often in a row poll() has announced a connection that was not there.
  int false_alarms_ = 0;
  std::set<std::string_view> refused_options_;  // those that were logged
  // What wait_for_work() has found.
  std::vector<bool> acceptable_;  // the listening sockets with a new client
  bool hung_up_ = false;          // the client has hung up
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_ACCEPT_LOOP_H_
