// What a server's accept thread does: admits one client, turns the others away,
// notices that the client has gone, and lingers for ended connections.
//
// Threads: only the accept thread uses the object. Of the program's code it
// runs the log sink, may_connect, and stop callbacks of a connection that it
// ends.
#ifndef TCPIP_ENDPOINT_ACCEPT_LOOP_H_
#define TCPIP_ENDPOINT_ACCEPT_LOOP_H_

#include <poll.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "tcpip/address.h"
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
  // A client that has connected after one that has hung up, and waits until
  // that one's connection may end. Further ones wait in the kernel's queue.
  struct Newcomer {
    std::shared_ptr<Link> link;
    Deadline deadline;    // then the other's connection ends
    Deadline look_again;  // when to look, if nobody signals it
  };

  IoResult wait_for_work(Link* client);
  void rest(std::string_view why);
  void accept(std::size_t index);
  bool may_connect(const Address& peer) noexcept;
  void receive_client(Listener::Accepted accepted, std::size_t index);
  void set_options(Socket& socket);
  void admit(const std::shared_ptr<Link>& link, bool force);
  void reject(const Address& peer, EndedSockets client);
  void admit_newcomer();
  void back_off(int error_number);
  void turn_away(EndedSockets client) noexcept;
  void linger(EndedSockets sockets) noexcept;
  void close_ended(bool closing) noexcept;

  EndpointCore& core_;
  const std::shared_ptr<Listener> listener_;
  EndedSockets lingering_;  // the earliest deadline first
  std::optional<Newcomer> newcomer_;
  bool events_wait_ = false;  // it was logged that too many events wait
  std::chrono::milliseconds rest_{
      0};  // the last one; 0: the last turn was good
  // Set while accept4() fails: when to accept again.
  std::optional<Deadline> accept_again_;
  std::chrono::milliseconds pause_{0};  // the last back-off; 0: none
  // How often in a row poll() has announced a connection that was not there.
  int false_alarms_ = 0;
  std::set<std::string_view> refused_options_;  // those that were logged
  std::vector<pollfd> fds_;                     // of wait_for_work()
  // What wait_for_work() has found.
  std::vector<bool> acceptable_;  // the listening sockets with a new client
  bool hung_up_ = false;          // the client has hung up
  bool broken_ = false;           // see EndpointCore::note_hang_up()
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_ACCEPT_LOOP_H_
