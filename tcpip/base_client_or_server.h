// What Client and the servers have in common: at most one connection, and
// reading from and writing to it.
//
// Threads: every member may be called from any thread at any time, also from
// inside callbacks and the read handler. One thread at a time reads; a second
// read at the same time throws std::logic_error. Any number of threads may
// write; one message's bytes are never mixed with another's.
//
// What reads and writes have in common:
//  * Without a connection they throw ConnectionError("Not connected") at once.
//  * The Wait covers the whole call. TimeoutError at the deadline,
//    CancelledError at a stop; the connection lives and nothing is lost: bytes
//    that came are found by the next read, the unsent rest of a message is sent
//    by the next write or drain().
//  * One that finds the connection lost ends it: connected() is false and the
//    disconnected event is queued before the exception (a ConnectionError) or
//    the empty result reaches the caller.
//
// Heartbeats, if they are expected: a message that is kHeartbeat and the
// terminator and nothing else is taken out by read_str, read_line, read_until
// and their kin (not by those that count bytes), which go on to the next one.
// Each begins a new max_heartbeat_interval, and so does the connection. When
// that is over without, what has come by then is given time to be read, which
// is no more than the same time again unless more keeps coming; then the
// connection ends with DisconnectReason::kHeartbeatLost.
//
// Called in a read handler or a connect_callback, all members speak of the
// connection that the handler serves, or that the event is of: once that is
// over connected() is false, reads and writes throw and close_client() does
// nothing, even if another client has connected meanwhile. bound() gives the
// same to a callback that a handler posts.
#ifndef TCPIP_BASE_CLIENT_OR_SERVER_H_
#define TCPIP_BASE_CLIENT_OR_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tcpip/address.h"
#include "tcpip/log.h"
#include "tcpip/stream_reader.h"
#include "tcpip/wait.h"
#include "tcpip/wire_type.h"

namespace tcpip {

namespace internal {
class EndpointCore;
}

class BaseClientOrServer {
 public:
  using Separators = StreamReader::Separators;

  BaseClientOrServer(const BaseClientOrServer&) = delete;
  BaseClientOrServer& operator=(const BaseClientOrServer&) = delete;

  // --- State ---

  // True from the moment a connection is made until it is closed here, or its
  // loss is noticed and everything that came before has been read: bytes that
  // the peer sent before it left can still be read, as in asyncio.
  bool connected() const;
  // True from connecting until close(), close_client(): an unexpected loss is
  // `should_be_connected() && !connected()`. In a connect_callback it speaks of
  // the event's connection: if a newer one has come, it is what it was when the
  // event happened.
  bool should_be_connected() const;
  // How many connections there have been; the current or last one's number.
  std::uint64_t generation() const;
  // The other end; empty if not connected.
  Address peer_address() const;
  // True once connected; false at the deadline or if closed.
  bool wait_connected(const Wait& wait = {});
  // True once close() is complete; false at the deadline.
  bool wait_done(const Wait& wait = {});
  // A callback that speaks of the connection of which the calling thread does
  // now, whenever and wherever it runs:
  //   server.post_wait(server.bound([&, line] { reply_to(line); }));
  std::function<void()> bound(std::function<void()> callback) const;
  // Posts to the queue of the options, or without one to the thread that runs
  // the connect_callback; behind the events that are queued by now. Dropped
  // once this object is closed. post() never blocks: false if the queue is
  // full, this object is not started, closed, or has neither of the two.
  // post_wait() waits for room; TimeoutError, CancelledError where post() would
  // be false for another reason, also if closed meanwhile. Both throw
  // std::invalid_argument if the callback is empty.
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

  // --- Reading: as StreamReader's members of these names ---

  std::string read(std::size_t n, const Wait& wait = {});
  std::string read_all(const Wait& wait = {});
  std::string read_all(std::size_t max, const Wait& wait = {});
  std::string read_exactly(std::size_t n, const Wait& wait = {});
  void read_exactly(std::span<std::byte> out, const Wait& wait = {});
  std::string read_line(const Wait& wait = {});
  std::string read_until(std::string_view separator = "\n",
                         const Wait& wait = {});
  std::string read_until(Separators separators, const Wait& wait = {});
  // One text message: what stands before the terminator, in UTF-8. Throws
  // DecodeError if it is not text in the encoding: exactly that message is
  // consumed and the connection lives. LimitOverrunError as read_until.
  // UnexpectedHeartbeatError for a heartbeat, if they are not expected.
  std::string read_str(const Wait& wait = {});
  // One struct; `data` is left untouched on failure. See wire_struct.h.
  template <class T>
  void read_into(T& data, const Wait& wait = {}) {
    read_exactly(internal::wire_target(data), wait);
  }

  std::optional<std::string> try_read(std::size_t n);
  std::optional<std::string> try_read_line();
  std::optional<std::string> try_read_until(std::string_view separator = "\n");
  std::optional<std::string> try_read_exactly(std::size_t n);
  std::optional<std::string> try_read_str();

  // Counts as a heartbeat of the peer's, for a protocol in which they look
  // otherwise. Throws UnexpectedHeartbeatError if none are expected,
  // ConnectionError if not connected.
  void handle_received_heartbeat();

  bool wait_readable(const Wait& wait = {});
  std::size_t skip(std::size_t n);
  std::size_t discard();
  std::size_t discard_until(std::string_view separator, const Wait& wait = {});

  // --- Writing: write and drain in one ---
  //
  // They return when the kernel has all bytes. If the peer does not read, they
  // wait; TimeoutError::queued() (CancelledError::queued()) then says whether
  // the message stays queued, to go before any later one: do not write it
  // again, call drain(). What is queued when the connection ends is dropped;
  // nothing is carried over to another connection.

  void write(std::string_view data, const Wait& wait = {});
  // All parts as one message; no terminators are added.
  void write_lines(std::span<const std::string_view> parts,
                   const Wait& wait = {});
  void write_lines(std::initializer_list<std::string_view> parts,
                   const Wait& wait = {});
  // The text, which is in UTF-8, in the encoding, and the terminator. Throws
  // std::invalid_argument, with nothing sent, if the text is not valid UTF-8,
  // has a character that the encoding lacks, or contains, once encoded, the
  // terminator's bytes (it would arrive as two messages).
  void write_str(std::string_view text, const Wait& wait = {});
  // Structs, as one message; a Wait (or what converts to one) may come last.
  template <class... Args>
  void write_from(const Args&... structs_and_wait) {
    internal::pack_wire([this](std::span<const std::string_view> parts,
                               const Wait& wait) { write_lines(parts, wait); },
                        structs_and_wait...);
  }
  // The same without waiting, for a loop that has a newer message next time:
  // false, and nothing taken, if an earlier message is not wholly sent yet.
  // Else the message is sent as far as the kernel takes it, the rest kept, to
  // go before anything else. Throws ConnectionError if not connected.
  bool try_write(std::string_view data);
  bool try_write_str(std::string_view text);
  template <class... Structs>
  bool try_write_from(const Structs&... structs) {
    bool taken = false;
    internal::pack_structs(
        [this, &taken](std::span<const std::string_view> parts, const Wait&) {
          taken = try_write_lines(parts);
        },
        Wait(), structs...);
    return taken;
  }
  bool try_write_lines(std::span<const std::string_view> parts);
  // Waits until nothing is queued.
  void drain(const Wait& wait = {});
  // The bytes that are queued.
  std::size_t unsent() const;

 protected:
  explicit BaseClientOrServer(std::shared_ptr<internal::EndpointCore> core);
  ~BaseClientOrServer();  // not virtual: nobody owns by this base

  internal::EndpointCore& core() const noexcept { return *core_; }

 private:
  const std::shared_ptr<internal::EndpointCore> core_;
};

}  // namespace tcpip

#endif  // TCPIP_BASE_CLIENT_OR_SERVER_H_
