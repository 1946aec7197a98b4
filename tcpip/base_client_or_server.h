// What Client and the servers have in common: at most one connection at a time.
//
// Reads and writes (read_writer.h), connected() and close_client() mean the
// connection of the moment. Whatever is meant for one certain peer, an answer
// above all, goes through that peer's Connection, which connection(), the
// connect_callback's events and the read handler give: it reaches that peer or
// nobody, even if another one has connected meanwhile.
//
// Threads: every member may be called from any thread at any time, also from
// inside callbacks and the read handler.
#ifndef TCPIP_BASE_CLIENT_OR_SERVER_H_
#define TCPIP_BASE_CLIENT_OR_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "tcpip/address.h"
#include "tcpip/callback_queue.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/read_writer.h"
#include "tcpip/wait.h"

namespace tcpip {

namespace internal {
class EndpointCore;
}

class BaseClientOrServer : public ReadWriter {
 public:
  BaseClientOrServer(const BaseClientOrServer&) = delete;
  BaseClientOrServer& operator=(const BaseClientOrServer&) = delete;

  // The connection of the moment; none if not connected.
  Connection connection() const;
  // As Connection's members of these names, for the connection of the moment.
  bool connected() const;
  Address peer_address() const;  // empty if not connected
  // True from connecting until close(), close_client(): an unexpected loss is
  // `should_be_connected() && !connected()`. A server takes the next client at
  // any time: a callback that wants to know whether its connection was lost
  // asks event.connection, or event.is_unexpected().
  bool should_be_connected() const;
  // How many connections there have been: the number() of the newest.
  std::uint64_t connection_count() const;
  // True once connected; false at the deadline or if closed.
  bool wait_connected(const Wait& wait = {});
  // True once all has ended that close() ends: see there; false at the
  // deadline.
  bool wait_done(const Wait& wait = {});
  // As Connection's members of these names, for callbacks that are about no
  // connection in particular. Before start() they are as after close().
  bool post(std::function<void()> callback);
  void post_wait(std::function<void()> callback, const Wait& wait = {});
  const std::string& name() const noexcept;
  const Log& log() const noexcept;
  // How text messages look. A change, which may come at any time, counts from
  // the next message on that is read or written; a call that is under way goes
  // on with what it began with. Throw std::invalid_argument for what the
  // constructor would refuse, and then nothing has changed.
  std::string terminator() const;
  std::string encoding() const;
  void set_terminator(std::string terminator);
  void set_encoding(std::string encoding);

 protected:
  explicit BaseClientOrServer(std::shared_ptr<internal::EndpointCore> core);
  ~BaseClientOrServer();  // not virtual: nobody owns by this base

  internal::EndpointCore& core() const noexcept { return *core_; }

 private:
  const std::shared_ptr<internal::EndpointCore> core_;
};

}  // namespace tcpip

#endif  // TCPIP_BASE_CLIENT_OR_SERVER_H_
