// Reading from and writing to a connection: the base of tcpip::Connection, and
// of Client and the servers, which use their current connection.
//
// Threads: every member may be called from any thread at any time, also from
// inside callbacks and the read handler. One thread at a time reads; a second
// read at the same time throws std::logic_error, see stream_reader.h. Any
// number of threads may write; the bytes of one message are never mixed with
// another's. All members are const, as a pointer's are: they change the
// connection, not this object.
//
// What reads and writes have in common:
//  * Without a connection they throw ConnectionError("Not connected") at once,
//    also if the stop of the Wait is requested.
//  * The Wait covers the whole call. The call throws TimeoutError at the
//    deadline and CancelledError at a stop. The connection lives and nothing is
//    lost: the next read finds the bytes that came, and the next write or
//    drain() sends the unsent rest of a message.
//  * A call that finds the connection lost ends the connection. Before the
//    exception (a ConnectionError) or the empty result reaches the caller,
//    connected() is false and the disconnected event is queued.
//  * what() of an exception begins with the name of the member that was called.
//
// Heartbeats, if they are expected: read_str, read_line, read_until and their
// try_ forms take out a message that consists of kHeartbeat and the terminator
// alone, and go on with the next message. Reads that count bytes do not.
//
// A heartbeat is overdue once max_interval has passed since the last one came
// (whenever it was read), or since the connection was made. It may still be
// among the bytes that came before and that the program has not read. So the
// connection ends (DisconnectReason::kHeartbeatLost) only when those bytes are
// read without a heartbeat, or when no more bytes have come for another
// max_interval.
#ifndef TCPIP_READ_WRITER_H_
#define TCPIP_READ_WRITER_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/send_result.h"
#include "tcpip/wait.h"
#include "tcpip/wire_type.h"

namespace tcpip {

class ReadWriter;

namespace internal {

class LinkSource;
class Receiver;

// read_str(), write_str(), send_str() and their try_ forms under another name
// in errors, for json.h. The reads set `text`, then call `use()`, if there is
// one; if that throws std::bad_alloc, the message stays where it is.
// try_read_text() returns false if there is no message.
using UseText = std::function<void()>;
void read_text(const ReadWriter& from, const char* operation, const Wait& wait,
               std::string& text, const UseText& use = nullptr);
bool try_read_text(const ReadWriter& from, const char* operation,
                   std::string& text, const UseText& use = nullptr);
void write_text(const ReadWriter& to, const char* operation,
                std::string_view text, const Wait& wait);
bool try_write_text(const ReadWriter& to, const char* operation,
                    std::string_view text);
SendResult send_text(const ReadWriter& to, const char* operation,
                     std::string_view text);
SendResult try_send_text(const ReadWriter& to, const char* operation,
                         std::string_view text);
// read_until(), try_read_until(), write() and discard() under another name in
// errors, for transactor.h.
std::string read_bytes_until(const ReadWriter& from, const char* operation,
                             std::string_view separator, const Wait& wait);
std::optional<std::string> try_read_bytes_until(const ReadWriter& from,
                                                const char* operation,
                                                std::string_view separator);
void write_bytes(const ReadWriter& to, const char* operation,
                 std::string_view data, const Wait& wait);
// write() and drain() for a caller that waits piece by piece.
void write_piece(const ReadWriter& to, const char* operation,
                 std::string_view data, const Wait& wait);
void drain_piece(const ReadWriter& to, const char* operation, const Wait& wait);
std::size_t discard_bytes(const ReadWriter& from, const char* operation);
// What reads from its connection, for frame_dispatcher.h: it goes on to the end
// of the stream also when the connection has ended meanwhile. Throws
// ConnectionError without a connection.
std::shared_ptr<Receiver> receiver_of(const ReadWriter& read_writer,
                                      const char* operation);
// The peer of its connection, or else the name of the client or server; for
// error messages.
std::string subject_of(const ReadWriter& read_writer);

}  // namespace internal

class TCPIP_EXPORT ReadWriter {
 public:
  // As StreamReader::Separators.
  using Separators = std::initializer_list<std::string_view>;

  // --- Reading: as StreamReader's members of these names ---

  std::string read(std::size_t n, const Wait& wait = {}) const;
  std::string read_all(const Wait& wait = {}) const;
  std::string read_all(std::size_t max, const Wait& wait = {}) const;
  std::string read_exactly(std::size_t n, const Wait& wait = {}) const;
  void read_exactly(std::span<std::byte> out, const Wait& wait = {}) const;
  std::string read_line(const Wait& wait = {}) const;
  std::string read_until(std::string_view separator = "\n",
                         const Wait& wait = {}) const;
  std::string read_until(Separators separators, const Wait& wait = {}) const;
  std::string read_until_silence(std::chrono::microseconds silence,
                                 std::size_t max, const Wait& wait = {}) const;
  // One text message without its terminator, in UTF-8. Throws as read_until();
  // DecodeError if the message is not text in the encoding;
  // UnexpectedHeartbeatError for a heartbeat if heartbeats are not expected.
  // After these two exactly that message is consumed, and the connection lives.
  std::string read_str(const Wait& wait = {}) const;
  // One struct; `data` is untouched after any failure. See wire_struct.h.
  template <class T>
  void read_into(T& data, const Wait& wait = {}) const {
    read_struct(internal::wire_target(data), wait);
  }

  // The same without waiting: std::nullopt (false) if not all of it has come
  // yet.
  std::optional<std::string> try_read(std::size_t n) const;
  std::optional<std::string> try_read_line() const;
  std::optional<std::string> try_read_until(
      std::string_view separator = "\n") const;
  std::optional<std::string> try_read_exactly(std::size_t n) const;
  std::optional<std::string> try_read_until_silence(
      std::chrono::microseconds silence, std::size_t max) const;
  std::optional<std::string> try_read_str() const;
  template <class T>
  bool try_read_into(T& data) const {
    return try_read_struct(internal::wire_target(data));
  }

  // Tells that the peer has sent a heartbeat, for a protocol in which
  // heartbeats look otherwise. Throws UnexpectedHeartbeatError if heartbeats
  // are not expected, ConnectionError if not connected.
  void handle_received_heartbeat() const;

  // As StreamReader's members of these names.
  bool wait_readable(const Wait& wait = {}) const;
  std::size_t skip(std::size_t n) const;
  std::size_t discard() const;
  std::size_t discard_until(std::string_view separator = "\n",
                            const Wait& wait = {}) const;

  // --- Writing: write and drain in one ---
  //
  // A write returns when the kernel has all bytes of its message, whatever
  // other threads write meanwhile. If the peer does not read, a write waits.
  // TimeoutError::queued() and CancelledError::queued() tell whether the
  // message stays queued: then do not write it again, but call drain(); it is
  // sent before any later message. When the connection ends, its queued
  // messages are dropped; they never go to another connection.

  void write(std::string_view data, const Wait& wait = {}) const;
  // Writes all parts as one message; adds no terminators.
  void write_lines(std::span<const std::string_view> parts,
                   const Wait& wait = {}) const;
  void write_lines(std::initializer_list<std::string_view> parts,
                   const Wait& wait = {}) const;
  void write_lines(std::span<const std::string> parts,
                   const Wait& wait = {}) const {
    write_lines(std::vector<std::string_view>(parts.begin(), parts.end()),
                wait);
  }
  // Writes a text, given in UTF-8, in the encoding, and the terminator. Throws
  // std::invalid_argument, with nothing sent, if the text is not valid UTF-8,
  // has a character that the encoding lacks, or contains the terminator's bytes
  // once it is encoded (the peer would read two messages).
  void write_str(std::string_view text, const Wait& wait = {}) const;
  // Writes structs as one message. The last argument may be a Wait or what
  // converts to one.
  template <class... Args>
  void write_from(const Args&... structs_and_wait) const {
    internal::pack_wire(
        [this](std::span<const std::string_view> parts, const Wait& wait) {
          write_structs(parts, wait);
        },
        structs_and_wait...);
  }
  // The same without waiting, for a loop that will have a newer message next
  // time. False, and nothing is taken, if an earlier message is not completely
  // sent yet. Else sends what the kernel takes and queues the rest.
  bool try_write(std::string_view data) const;
  bool try_write_lines(std::span<const std::string_view> parts) const;
  bool try_write_lines(std::span<const std::string> parts) const {
    return try_write_lines(
        std::vector<std::string_view>(parts.begin(), parts.end()));
  }
  bool try_write_str(std::string_view text) const;
  template <class... Structs>
  bool try_write_from(const Structs&... structs) const {
    bool taken = false;
    internal::pack_structs(
        [this, &taken](std::span<const std::string_view> parts, const Wait&) {
          taken = try_write_structs(parts);
        },
        Wait(), structs...);
    return taken;
  }

  // --- Sending without a wait and without exceptions ---
  //
  // For loops. What a loop must expect is a result (send_result.h), not an
  // exception. A send takes a message as a write does that does not wait: it
  // sends what the kernel takes, and queues the rest, also behind other
  // messages; kBusy while more than write_limit bytes are unsent. A try_send is
  // for what will be out of date soon: as a try_write, it is kBusy while an
  // earlier message is not completely sent.
  //
  // kNotConnected also tells of a loss that this call has met: the connection
  // has then ended, as after a write that throws, and the peer may have got a
  // part of the message. After StreamWriter::write_eof() it is kNotConnected
  // too.
  //
  // What the caller does wrong still throws, with nothing sent:
  // std::invalid_argument as write_str(), std::logic_error in a child that
  // fork() has made. So does a lack of memory: std::bad_alloc.
  SendResult send(std::string_view data) const;
  SendResult send_lines(std::span<const std::string_view> parts) const;
  SendResult send_lines(std::span<const std::string> parts) const {
    return send_lines(
        std::vector<std::string_view>(parts.begin(), parts.end()));
  }
  SendResult send_str(std::string_view text) const;
  template <class... Structs>
  SendResult send_from(const Structs&... structs) const {
    return send_packed(&ReadWriter::send_structs, structs...);
  }
  SendResult try_send(std::string_view data) const;
  SendResult try_send_lines(std::span<const std::string_view> parts) const;
  SendResult try_send_lines(std::span<const std::string> parts) const {
    return try_send_lines(
        std::vector<std::string_view>(parts.begin(), parts.end()));
  }
  SendResult try_send_str(std::string_view text) const;
  template <class... Structs>
  SendResult try_send_from(const Structs&... structs) const {
    return send_packed(&ReadWriter::try_send_structs, structs...);
  }

  // Waits until what is queued now is sent.
  void drain(const Wait& wait = {}) const;
  // How many bytes are queued.
  std::size_t unsent() const;

 protected:
  ReadWriter() noexcept;  // without a connection
  explicit ReadWriter(
      std::shared_ptr<const internal::LinkSource> source) noexcept;
  ReadWriter(const ReadWriter&) noexcept;
  ReadWriter& operator=(const ReadWriter&) noexcept;
  ~ReadWriter();

  const std::shared_ptr<const internal::LinkSource>& source() const noexcept {
    return source_;
  }

 private:
  friend void internal::read_text(const ReadWriter&, const char*, const Wait&,
                                  std::string&, const internal::UseText&);
  friend bool internal::try_read_text(const ReadWriter&, const char*,
                                      std::string&, const internal::UseText&);
  friend void internal::write_text(const ReadWriter&, const char*,
                                   std::string_view, const Wait&);
  friend bool internal::try_write_text(const ReadWriter&, const char*,
                                       std::string_view);
  friend SendResult internal::send_text(const ReadWriter&, const char*,
                                        std::string_view);
  friend SendResult internal::try_send_text(const ReadWriter&, const char*,
                                            std::string_view);
  friend std::string internal::read_bytes_until(const ReadWriter&, const char*,
                                                std::string_view, const Wait&);
  friend std::optional<std::string> internal::try_read_bytes_until(
      const ReadWriter&, const char*, std::string_view);
  friend void internal::write_bytes(const ReadWriter&, const char*,
                                    std::string_view, const Wait&);
  friend void internal::write_piece(const ReadWriter&, const char*,
                                    std::string_view, const Wait&);
  friend void internal::drain_piece(const ReadWriter&, const char*,
                                    const Wait&);
  friend std::size_t internal::discard_bytes(const ReadWriter&, const char*);
  friend std::shared_ptr<internal::Receiver> internal::receiver_of(
      const ReadWriter&, const char*);
  friend std::string internal::subject_of(const ReadWriter&);

  void read_struct(std::span<std::byte> out, const Wait& wait) const;
  bool try_read_struct(std::span<std::byte> out) const;
  void write_structs(std::span<const std::string_view> parts,
                     const Wait& wait) const;
  bool try_write_structs(std::span<const std::string_view> parts) const;
  SendResult send_structs(std::span<const std::string_view> parts) const;
  SendResult try_send_structs(std::span<const std::string_view> parts) const;
  using SendParts =
      SendResult (ReadWriter::*)(std::span<const std::string_view>) const;
  template <class... Structs>
  SendResult send_packed(SendParts send_parts,
                         const Structs&... structs) const {
    SendResult result = SendResult::kNotConnected;
    internal::pack_structs(
        [&](std::span<const std::string_view> parts, const Wait&) {
          result = (this->*send_parts)(parts);
        },
        Wait(), structs...);
    return result;
  }

  std::shared_ptr<const internal::LinkSource> source_;
};

}  // namespace tcpip

#endif  // TCPIP_READ_WRITER_H_
