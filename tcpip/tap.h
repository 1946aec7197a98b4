// Shows the bytes that pass over the connections of clients and servers, to
// find out what was really said:
//
//   auto tap = std::make_shared<tcpip::Tap>(tcpip::pcapng_sink("dome.pcapng"));
//   tcpip::OneClientServer server({.port = 4010, .name = "dome", .tap = tap});
//
// The thread that reads or writes only copies the bytes into memory of the tap.
// A thread of the tap, "tcpip-tap", gives them to the sink. So a sink that
// blocks, on a full disk for example, holds up nobody. What comes while the
// memory is full is not shown, and counted.
//
// The bytes are shown as the kernel gives and takes them, whatever the program
// makes of them: text before it is decoded, heartbeats, what no read has taken.
// They are shown in the order in which they passed: no reply stands before what
// it replies to.
//
// Threads: every member may be called from any thread at any time; any number
// of clients and servers may share a tap (but not both ends of a connection one
// pcapng file: it would have each byte twice). The sink is called by one thread
// at a time, never under a lock. In a child that fork() has made, close() and
// the destructor do nothing, and flush() throws std::logic_error.
#ifndef TCPIP_TAP_H_
#define TCPIP_TAP_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tcpip/address.h"
#include "tcpip/log.h"
#include "tcpip/thread_hook.h"
#include "tcpip/wait.h"

namespace tcpip {

// What a record is about.
enum class TapEvent {
  kAccepted,   // a server has let a client in
  kConnected,  // a client has connected
  kReceived,
  kSent,
  kEnded  // the connection; reads that were under way may still receive
};

// What a sink is given. The views are valid during the call only.
struct TCPIP_EXPORT TapRecord {
  // What has happened.
  TapEvent event = TapEvent::kReceived;
  // When the bytes were taken from the kernel or given to it.
  std::chrono::system_clock::time_point time = {};
  std::string_view name = {};    // of the client or server
  std::uint64_t connection = 0;  // its number, as Connection::number()
  // Tells connections apart, also those of different clients and servers that
  // share the tap: 1, 2, 3, ...
  std::uint64_t id = 0;
  // The two ends of the connection.
  Address local = {};
  Address peer = {};
  // What was received or sent; empty for the other events.
  std::string_view bytes = {};
  // How many bytes of the connection have passed in this direction before
  // these; and how many of those, right before these, were not shown. (What is
  // missing at the end of a direction stands in no record.)
  std::uint64_t position = 0;
  std::uint64_t skipped = 0;
};

struct TCPIP_EXPORT TapOptions {
  // The memory in bytes for what the sink has not seen yet; twice that is
  // taken, as it is needed. 1024 to 2^30.
  std::size_t buffer = 1024 * 1024;
  Log log = {};  // what the sink throws is logged, once
  // See thread_hook.h.
  ThreadStartHook thread_start_hook = {};
};

namespace internal {
class TapLine;
}

class TCPIP_EXPORT Tap final {
 public:
  using Options = TapOptions;
  // What it throws is logged and counted; the next record is given to it all
  // the same.
  using Sink = std::function<void(const TapRecord& record)>;

  // Starts the thread. Throws std::invalid_argument for an empty sink or a
  // buffer out of range; Error if there can be no thread.
  explicit Tap(Sink sink) : Tap(std::move(sink), Options{}) {}
  Tap(Sink sink, Options options);
  ~Tap();  // close(); safe inside the sink
  Tap(const Tap&) = delete;
  Tap& operator=(const Tap&) = delete;

  // Waits until the sink has returned for everything that has passed before.
  // Throws TimeoutError; CancelledError at the stop. Not to be called in the
  // sink.
  void flush(const Wait& wait = {});
  // How many bytes were not shown for lack of memory; and how often the sink
  // has thrown.
  std::uint64_t skipped_bytes() const noexcept;
  std::uint64_t sink_errors() const noexcept;

  // Shows what has passed so far, and nothing that comes later; then ends and
  // joins the thread. Waits for the sink, unless it is called in the sink: that
  // call is then the last. Idempotent.
  void close();

 private:
  friend class internal::TapLine;
  class Impl;
  std::shared_ptr<Impl> impl_;
};

// --- Sinks ---
//
// Each appends to a file, which it makes if there is none, and writes every
// record at once. Throws Error if the file cannot be opened, and if it is a
// FIFO that nobody reads (ENXIO); the sink throws Error if it cannot be
// written.

// A line for each line of text that passes, or for what has come of it:
//
//   2026-11-26 12:10:03.123456Z dome#1 accepted 10.0.0.7:50123
//   2026-11-26 12:10:03.125001Z dome#1 < move 120\r\n
//   2026-11-26 12:10:03.125321Z dome#1 > ok\r\n
//
// "<" is received, ">" is sent. Bytes that are not printable ASCII, and the
// backslash, are written as in C.
TCPIP_EXPORT Tap::Sink text_sink(const std::string& path);
// The same with bytes in hexadecimal and as text, sixteen in a line behind
// their position in the stream.
TCPIP_EXPORT Tap::Sink hex_sink(const std::string& path);
// A pcapng file for Wireshark and tshark. The packets are made up: each piece
// of a stream as one TCP segment (or several, if it is long) between the real
// addresses, with a handshake before and a FIN behind. For a Unix-domain
// socket the addresses are made up too, in 127.0.0.0/8; a comment on the first
// packet has the real ones.
TCPIP_EXPORT Tap::Sink pcapng_sink(const std::string& path);

}  // namespace tcpip

#endif  // TCPIP_TAP_H_
