// One connection of a client or server.
//
// A Connection is a handle: copies refer to the same connection. A handle keeps
// no descriptor, and no client or server, alive; the program may keep it
// forever. Once the connection has ended, or its client or server is destroyed,
// connected() is false, and reads and writes throw
// ConnectionError("Not connected"). What is written through a Connection never
// reaches another peer.
//
//   .connect_callback = [&](const tcpip::ConnectionEvent& event) {
//     client = event.connection;  // the one that the control loop answers
//   }
//   [](tcpip::Connection& client, std::stop_token stop) {  // a read handler
//     const std::string line = client.read_str(stop);
//     client.post([=] { obey(client, line); });  // runs in the control loop
//   }
//
// Threads: every member may be called from any thread at any time, also from
// inside callbacks and the read handler; see read_writer.h. But a Connection
// object to which one thread assigns needs a lock if another thread uses that
// same object. Copies need none.
#ifndef TCPIP_CONNECTION_H_
#define TCPIP_CONNECTION_H_

#include "tcpip/version.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>

#include "tcpip/address.h"
#include "tcpip/error.h"
#include "tcpip/read_writer.h"
#include "tcpip/wait.h"

namespace tcpip {

class StreamReader;
class StreamWriter;

class Connection;

namespace internal {

class ConnectionRecord;
class EndpointCore;

// True if it is, or was, one of this client's or server's. For SendQueue.
bool is_of(const Connection& connection,
           const std::weak_ptr<EndpointCore>& core) noexcept;

}  // namespace internal

class TCPIP_EXPORT Connection final : public ReadWriter {
 public:
  // No connection: as one that has ended, with the number 0.
  Connection() noexcept;
  Connection(const Connection&) noexcept;
  Connection& operator=(const Connection&) noexcept;
  ~Connection();

  // --- State ---

  // True until this side ends the connection; or until a loss is noticed and
  // everything that came before the loss is read. Bytes that the peer sent
  // before it left can thus be read, as in asyncio.
  bool connected() const noexcept;
  // True until this side ends the connection: an unexpected loss is
  // `should_be_connected() && !connected()`.
  bool should_be_connected() const noexcept;
  // Numbers the connections of its client or server: 1, 2, 3, ...
  std::uint64_t number() const noexcept;
  // The two ends; known also after the connection has ended.
  Address peer_address() const;
  Address local_address() const;
  // Requested when the connection ends, for whatever reason. Its stop callbacks
  // run in the thread that ends the connection. In one of them close() and
  // the destructor of any client or server do not wait for its threads and
  // callbacks, which may wait for this stop: these end by themselves, after the
  // call has returned.
  std::stop_token stop_token() const;

  // --- Callbacks ---

  // Queues a callback where the client's or server's connect_callback runs,
  // behind this connection's connected event; never blocks. The callback may
  // run after the disconnected event: look at connected() in it. False, and the
  // callback is dropped, if the queue is full or the client or server is closed
  // or destroyed. A close() runs or drops what is queued, as it does with the
  // disconnected event. If the peer may send FIN right behind its message, the
  // callback comes too late to answer: answer in the read handler.
  //
  // Throws std::logic_error if the client or server has neither a queue nor a
  // connect_callback, so that nothing runs callbacks; std::invalid_argument for
  // an empty callback.
  bool post(std::function<void()> callback) const;
  // The same, but waits for room. Throws TimeoutError; CancelledError at the
  // stop and when the client or server is closed or destroyed. In the thread
  // that drains the queue, call it with a deadline or stop only: otherwise it
  // may wait forever.
  void post_wait(std::function<void()> callback, const Wait& wait = {}) const;

  // --- The end ---

  // Ends this connection and no other. A server goes on serving, as after
  // close_client(). A Client has no second connection, but its threads run
  // until Client::close(). Never waits. Idempotent.
  void close() const;

  // --- For what the members of this class do not do ---

  // asyncio's pair, for code that is written for streams; null once the
  // connection has ended. They share the buffers of this connection, but know
  // no text, heartbeats or write_limit. Each keeps the socket's descriptor
  // open, and nothing else of the client or server alive. Keep the pointer as
  // long as you use a view that it gave.
  //
  // To end the connection call close() above: after StreamWriter::close() it
  // counts as connected until the peer closes too, or until a read. Destroying
  // or moving what these return does not close it.
  std::shared_ptr<StreamReader> reader() const;
  std::shared_ptr<StreamWriter> writer() const;
  // The socket's descriptor, for getsockopt() and the like; -1 once the
  // connection has ended. Owned by the socket: do not close it, and keep
  // reader() or writer() while you use it, so that the number stays valid.
  int native_handle() const;

  // True if both refer to the same connection, or both to none.
  friend bool operator==(const Connection& a, const Connection& b) noexcept {
    return a.source() == b.source();
  }

  // For the library itself.
  explicit Connection(
      std::shared_ptr<const internal::ConnectionRecord> record) noexcept;

 private:
  friend bool internal::is_of(
      const Connection& connection,
      const std::weak_ptr<internal::EndpointCore>& core) noexcept;

  const internal::ConnectionRecord* record() const noexcept;
};

}  // namespace tcpip

#endif  // TCPIP_CONNECTION_H_
