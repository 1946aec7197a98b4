// What Client and the servers have in common: at most one connection at a time.
//
// Reads and writes (read_writer.h), connected() and close_client() use the
// current connection, whichever that is. To reach one certain peer, as with an
// answer, use the Connection of that peer. You get it from connection(), from a
// connection event and in the read handler. What you write through it reaches
// that peer or nobody, even if another peer has connected meanwhile.
//
// Threads: every member may be called from any thread at any time, also from
// inside callbacks and the read handler.
#ifndef TCPIP_BASE_CLIENT_OR_SERVER_H_
#define TCPIP_BASE_CLIENT_OR_SERVER_H_

#include "tcpip/version.h"

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
#include "tcpip/stats.h"
#include "tcpip/wait.h"

namespace tcpip {

class BaseClientOrServer;

namespace internal {
class EndpointCore;

// For SendQueue and PeriodicSender, which may outlive a client or server.
std::shared_ptr<EndpointCore> core_of(const BaseClientOrServer& endpoint);

}  // namespace internal

class TCPIP_EXPORT BaseClientOrServer : public ReadWriter {
 public:
  BaseClientOrServer(const BaseClientOrServer&) = delete;
  BaseClientOrServer& operator=(const BaseClientOrServer&) = delete;

  // The current connection; Connection() if not connected.
  Connection connection() const;
  // As Connection's members of these names, for the current connection.
  bool connected() const;
  Address peer_address() const;  // empty if not connected
  // True from connecting until this side ends the connection: an unexpected
  // loss is `should_be_connected() && !connected()`. A server may have accepted
  // the next client already: in a callback, ask event.is_unexpected() or
  // event.connection instead.
  bool should_be_connected() const;
  // How many connections there have been: the number() of the newest.
  std::uint64_t connection_count() const;
  // What there was so far; see stats.h.
  EndpointStats stats() const;
  // True as soon as connected; false at the deadline, and when closed. Throws
  // CancelledError at the stop.
  bool wait_connected(const Wait& wait = {});
  // True once close() was called and everything that it ends has ended; false
  // at the deadline. Throws CancelledError at the stop.
  bool wait_done(const Wait& wait = {});
  // Asks for close(): a thread of the client's or server's own then ends the
  // connection and the threads. Nothing waits; wait_done() tells the end. What
  // is queued in the program's queue stays there, the last event too, until it
  // runs, or until close() or the destructor. The one member that a signal
  // handler may call (it is async-signal-safe), if the object lives until it
  // has returned, also where the handler interrupts another thread. Before
  // start() it makes start() throw; during start() it ends connecting, but not
  // a server's wait for its address.
  void request_close() noexcept;
  // As Connection's members of these names, for callbacks that belong to no
  // certain connection. Refused before start() as after close().
  bool post(std::function<void()> callback);
  void post_wait(std::function<void()> callback, const Wait& wait = {});
  // The name of the options; and their log, under that name.
  const std::string& name() const noexcept;
  const Log& log() const noexcept;
  // The format of text messages. It may be changed at any time: the change
  // applies to calls that begin later. The setters throw as the constructor;
  // then nothing has changed.
  std::string terminator() const;
  std::string encoding() const;
  void set_terminator(std::string terminator);
  void set_encoding(std::string encoding);

 protected:
  explicit BaseClientOrServer(std::shared_ptr<internal::EndpointCore> core);
  ~BaseClientOrServer();  // not virtual: nobody deletes through this base

  internal::EndpointCore& core() const noexcept { return *core_; }

 private:
  friend std::shared_ptr<internal::EndpointCore> internal::core_of(
      const BaseClientOrServer& endpoint);

  const std::shared_ptr<internal::EndpointCore> core_;
};

}  // namespace tcpip

#endif  // TCPIP_BASE_CLIENT_OR_SERVER_H_
