// One connection of a client or server.
//
// A handle: copies speak of the same connection. It keeps neither a descriptor
// nor the client or server alive, and may be kept for ever. Once the connection
// is over, or its client or server gone, connected() is false, reads and writes
// throw ConnectionError("Not connected"), and nothing that is written reaches
// another client.
//
//   .connect_callback = [&](const tcpip::ConnectionEvent& event) {
//     client = event.connection;                  // whom the loop answers
//   }
//   [](tcpip::Connection& client, std::stop_token stop) {  // a read handler
//     const std::string line = client.read_str(stop);
//     client.post([=] { obey(client, line); });   // in the control loop's
//     thread
//   }
//
// Threads: every member may be called from any thread at any time, also from
// inside callbacks and the read handler; see read_writer.h. Two threads that
// use the same Connection object while one of them assigns to it need a lock;
// two copies do not.
#ifndef TCPIP_CONNECTION_H_
#define TCPIP_CONNECTION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>

#include "tcpip/address.h"
#include "tcpip/read_writer.h"
#include "tcpip/wait.h"

namespace tcpip {

class StreamReader;
class StreamWriter;

namespace internal {
class ConnectionRecord;
}

class Connection final : public ReadWriter {
 public:
  Connection() noexcept;  // none: as one that is over, with the number 0
  Connection(const Connection&) noexcept;
  Connection& operator=(const Connection&) noexcept;
  ~Connection();

  // --- State ---

  // True from the moment the connection is made until it is closed here, or its
  // loss is noticed and everything that came before has been read: bytes that
  // the peer sent before it left can still be read, as in asyncio.
  bool connected() const noexcept;
  // True until this side ends the connection: an unexpected loss is
  // `should_be_connected() && !connected()`.
  bool should_be_connected() const noexcept;
  // 1, 2, 3, ...: how many connections its client or server had had then, with
  // this one.
  std::uint64_t number() const noexcept;
  // The two ends; known also when the connection is over.
  Address peer_address() const;
  Address local_address() const;
  // Requested when the connection is over, for whatever reason.
  std::stop_token stop_token() const;

  // --- Callbacks ---

  // Queues a callback where the client's or server's connect_callback runs,
  // behind this connection's connected event; never blocks. It may come behind
  // the disconnected event too: look at connected(). False, and the callback
  // dropped, if the queue is full or the client or server is closed; what is
  // queued when that closes is dropped as its close() says. Throws
  // std::logic_error if the client or server has neither a queue nor a
  // connect_callback, and so no place to run callbacks;
  // std::invalid_argument for an empty callback.
  bool post(std::function<void()> callback) const;
  // The same, but waits for room. Throws TimeoutError; CancelledError at the
  // stop and when the client or server is closed. Do not call it without a
  // deadline or stop from the thread that drains the queue.
  void post_wait(std::function<void()> callback, const Wait& wait = {}) const;

  // --- The end ---

  // Ends this connection and no other: as close_client() of a server, which
  // goes on serving. A Client has no second connection, but its threads end
  // with Client::close() only.
  void close() const;

  // --- For what the members of this class do not do ---

  // asyncio's pair, for code that is written for streams. Null once the
  // connection is over. What is read and written through them is read from and
  // written to the connection like anything else, but knows no text,
  // heartbeats or write_limit. The socket's descriptor stays open for as long
  // as the program keeps one of them. To end the connection call close() above:
  // after StreamWriter::close() the client or server takes the connection for
  // alive until the peer closes too, or something reads.
  std::shared_ptr<StreamReader> reader() const;
  std::shared_ptr<StreamWriter> writer() const;
  // The socket's descriptor, for getsockopt() and the like; -1 once the
  // connection is over. Not yours; hold reader() or writer() while you use it,
  // or it may be closed under you.
  int native_handle() const;

  // Whether both speak of the same connection, or both of none.
  friend bool operator==(const Connection& a, const Connection& b) noexcept {
    return a.source() == b.source();
  }

  // For the library itself.
  explicit Connection(
      std::shared_ptr<const internal::ConnectionRecord> record) noexcept;

 private:
  const internal::ConnectionRecord* record() const noexcept;
};

}  // namespace tcpip

#endif  // TCPIP_CONNECTION_H_
