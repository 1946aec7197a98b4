// Reading from and writing to a connection: what tcpip::Connection has, and
// Client and the servers too, where it means the connection of the moment.
//
// Threads: every member may be called from any thread at any time, also from
// inside callbacks and the read handler. One thread at a time reads; a second
// read at the same time throws std::logic_error. Any number of threads may
// write; one message's bytes are never mixed with another's. All members are
// const, as a pointer's are: they change the connection, not this object.
//
// What reads and writes have in common:
//  * Without a connection they throw ConnectionError("Not connected") at once.
//  * The Wait covers the whole call. TimeoutError at the deadline,
//    CancelledError at a stop; the connection lives and nothing is lost: bytes
//    that came are found by the next read, the unsent rest of a message is sent
//    by the next write or drain().
//  * A call that finds the connection lost ends it: connected() is false and
//    the disconnected event is queued before the exception (a ConnectionError)
//    or the empty result reaches the caller.
//  * what() of an exception begins with the name of the member that was called.
//
// Heartbeats, if they are expected: read_str, read_line, read_until and their
// kin take out a message that is kHeartbeat and the terminator and nothing
// else, and go on to the next one; reads that count bytes do not. Each
// heartbeat begins a new max_interval, and so does the connection. When a
// max_interval has passed without one, the bytes that have come by then are
// given time to be read, at most another max_interval unless more bytes keep
// coming; then the connection ends with DisconnectReason::kHeartbeatLost.
#ifndef TCPIP_READ_WRITER_H_
#define TCPIP_READ_WRITER_H_

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tcpip/wait.h"
#include "tcpip/wire_type.h"

namespace tcpip {

class ReadWriter;

namespace internal {

class LinkSource;

// read_str() and its kin under another name, for read_json().
std::string read_text(const ReadWriter& from, const char* operation,
                      const Wait& wait);
std::optional<std::string> try_read_text(const ReadWriter& from,
                                         const char* operation);
void write_text(const ReadWriter& to, const char* operation,
                std::string_view text, const Wait& wait);
bool try_write_text(const ReadWriter& to, const char* operation,
                    std::string_view text);
// The peer of its connection, or what stands for that; for error messages.
std::string subject_of(const ReadWriter& read_writer);

}  // namespace internal

class ReadWriter {
 public:
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
  // One text message: what stands before the terminator, in UTF-8. Throws
  // DecodeError if it is not text in the encoding: exactly that message is
  // consumed and the connection lives. LimitOverrunError as read_until.
  // UnexpectedHeartbeatError for a heartbeat, if they are not expected.
  std::string read_str(const Wait& wait = {}) const;
  // One struct; `data` is left untouched on failure. See wire_struct.h.
  template <class T>
  void read_into(T& data, const Wait& wait = {}) const {
    read_struct(internal::wire_target(data), wait);
  }

  // The same without waiting: nothing (false) if it is not all there yet.
  std::optional<std::string> try_read(std::size_t n) const;
  std::optional<std::string> try_read_line() const;
  std::optional<std::string> try_read_until(
      std::string_view separator = "\n") const;
  std::optional<std::string> try_read_exactly(std::size_t n) const;
  std::optional<std::string> try_read_str() const;
  template <class T>
  bool try_read_into(T& data) const {
    return try_read_struct(internal::wire_target(data));
  }

  // Counts as a heartbeat of the peer's, for a protocol in which they look
  // otherwise. Throws UnexpectedHeartbeatError if none are expected,
  // ConnectionError if not connected.
  void handle_received_heartbeat() const;

  bool wait_readable(const Wait& wait = {}) const;
  std::size_t skip(std::size_t n) const;
  std::size_t discard() const;
  std::size_t discard_until(std::string_view separator,
                            const Wait& wait = {}) const;

  // --- Writing: write and drain in one ---
  //
  // They return when the kernel has all bytes. If the peer does not read, they
  // wait; TimeoutError::queued() (CancelledError::queued()) then says whether
  // the message stays queued, to go before any later one: do not write it
  // again, call drain(). What is queued when the connection ends is dropped;
  // nothing is carried over to another connection.

  void write(std::string_view data, const Wait& wait = {}) const;
  // All parts as one message; no terminators are added.
  void write_lines(std::span<const std::string_view> parts,
                   const Wait& wait = {}) const;
  void write_lines(std::initializer_list<std::string_view> parts,
                   const Wait& wait = {}) const;
  // The text, which is in UTF-8, in the encoding, and the terminator. Throws
  // std::invalid_argument, with nothing sent, if the text is not valid UTF-8,
  // has a character that the encoding lacks, or contains, once encoded, the
  // terminator's bytes (it would arrive as two messages).
  void write_str(std::string_view text, const Wait& wait = {}) const;
  // Structs, as one message; a Wait (or what converts to one) may come last.
  template <class... Args>
  void write_from(const Args&... structs_and_wait) const {
    internal::pack_wire(
        [this](std::span<const std::string_view> parts, const Wait& wait) {
          write_structs(parts, wait);
        },
        structs_and_wait...);
  }
  // The same without waiting, for a loop that has a newer message next time:
  // false, and nothing taken, if an earlier message is not wholly sent yet.
  // Else the message is sent as far as the kernel takes it, the rest kept, to
  // go before anything else. Throws ConnectionError if not connected.
  bool try_write(std::string_view data) const;
  bool try_write_lines(std::span<const std::string_view> parts) const;
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
  // Waits until nothing is queued.
  void drain(const Wait& wait = {}) const;
  // The bytes that are queued.
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
  friend std::string internal::read_text(const ReadWriter&, const char*,
                                         const Wait&);
  friend std::optional<std::string> internal::try_read_text(const ReadWriter&,
                                                            const char*);
  friend void internal::write_text(const ReadWriter&, const char*,
                                   std::string_view, const Wait&);
  friend bool internal::try_write_text(const ReadWriter&, const char*,
                                       std::string_view);
  friend std::string internal::subject_of(const ReadWriter&);

  void read_struct(std::span<std::byte> out, const Wait& wait) const;
  bool try_read_struct(std::span<std::byte> out) const;
  void write_structs(std::span<const std::string_view> parts,
                     const Wait& wait) const;
  bool try_write_structs(std::span<const std::string_view> parts) const;

  std::shared_ptr<const internal::LinkSource> source_;
};

}  // namespace tcpip

#endif  // TCPIP_READ_WRITER_H_
