// A queue of messages for a loop that must not wait: a thread of the queue
// writes them to the connection of the moment of a client or server.
//
//   tcpip::SendQueue telemetry(server, {.slots = 100, .max_size = 512});
//   while (running) {
//     wait_for_next_tick();
//     telemetry.post_from(state());  // never waits
//   }
//
// A message is for the connection that is current when it is posted, or for the
// one that the post names: name it in answers, and where the loop has composed
// the message for the client that it knows. If that ends before the message is
// sent, the message is dropped and counted; so is an answer to a client that
// sends FIN right behind its command. It never reaches the next one. With
// the option `begin` a connection counts as current here once that has
// returned.
//
// What a post costs: it copies the message into a slot that the constructor has
// made. It takes no lock, allocates nothing and never waits. If the writer
// thread sleeps, because the queue was empty, it also makes one system call, a
// write() to an eventfd, which wakes that thread. (post_str() allocates if the
// encoding is not UTF-8 or ASCII, post_from() if structs with padding have more
// than 4 KiB.)
//
// If the peer does not read, the writer thread waits and the queue fills. What
// becomes of further messages then, WhenFull says.
//
// Threads: every member may be called from any thread at any time; any number
// of threads may post. Messages of one thread are sent in the order in which it
// posted them, and the bytes of one message are never mixed with another's. The
// queue and its client or server may be destroyed in either order. In a child
// that fork() has made, close() and the destructor do nothing, and post and
// flush() throw std::logic_error.
#ifndef TCPIP_SEND_QUEUE_H_
#define TCPIP_SEND_QUEUE_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tcpip/base_client_or_server.h"
#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/send_result.h"
#include "tcpip/thread_hook.h"
#include "tcpip/wait.h"
#include "tcpip/wire_type.h"

namespace tcpip {

// What a post does that finds the queue full.
enum class WhenFull {
  kDropNewest,  // does not take the message
  // Takes the message and drops the oldest one instead. (If the writer thread
  // or another post is kept from running in the middle of copying a message,
  // for as long as the queue takes to fill, does not take the message.)
  kDropOldest,
  // Does not take the message. The writer thread closes the connection, within
  // 20 ms or so: the peer gets every message up to some point and none behind
  // it, never a gap.
  kClose
};

struct TCPIP_EXPORT SendQueueOptions {
  // How many messages may wait; and the bytes of the longest one, a text with
  // its terminator. Memory for twice as many messages is taken at once.
  std::size_t slots = 64;                      // 1 to 2^20
  std::size_t max_size = 1024;                 // 1 to 2^30
  WhenFull when_full = WhenFull::kDropNewest;  // what then becomes of messages
  // If a message cannot be sent within this time, the connection is closed.
  // 0: it is not closed for that, but see SocketOptions::user_timeout.
  std::chrono::milliseconds write_timeout{0};
  ThreadStartHook thread_start_hook = {};  // see thread_hook.h
};

// Counted since the queue was made. Once nothing waits and no thread posts:
// posted == sent + dropped_full + dropped_stale.
struct TCPIP_EXPORT SendQueueStats {
  std::uint64_t posted = 0;         // while there was a connection
  std::uint64_t sent = 0;           // the connection has taken them
  std::uint64_t dropped_full = 0;   // for lack of room
  std::uint64_t dropped_stale = 0;  // the connection or the queue had ended
  std::size_t waiting = 0;          // as size()
};

// One line.
TCPIP_EXPORT std::string to_string(const SendQueueStats& stats);

class TCPIP_EXPORT SendQueue final {
 public:
  using Options = SendQueueOptions;
  using Stats = SendQueueStats;

  // Takes all memory and starts the writer thread, "tcpip-send". The text
  // format is that which the client or server has now: a later set_encoding()
  // or set_terminator() does not concern the queue. Throws
  // std::invalid_argument for options out of range; std::bad_alloc; Error if
  // there can be no thread or descriptor.
  explicit SendQueue(const BaseClientOrServer& endpoint, Options options = {});
  ~SendQueue();  // close()
  SendQueue(const SendQueue&) = delete;
  SendQueue& operator=(const SendQueue&) = delete;

  // Post one message for the connection of the moment: bytes as they are; a
  // text, given in UTF-8, in the
  // encoding and with the terminator; structs (wire_struct.h). Returns
  //   kQueued        it is taken
  //   kBusy          it is not, since the queue is full: see WhenFull
  //   kNotConnected  there is no connection, or the queue is closed
  // and never kSent. Throws std::length_error for more than max_size bytes,
  // std::invalid_argument as write_str(); then nothing has changed.
  SendResult post(std::string_view data) { return post_parts({&data, 1}); }
  SendResult post_str(std::string_view text);
  template <class... Structs>
  SendResult post_from(const Structs&... structs) {
    SendResult result = SendResult::kNotConnected;
    internal::pack_structs([&](std::span<const std::string_view> parts,
                               const Wait&) { result = post_parts(parts); },
                           Wait(), structs...);
    return result;
  }

  // The same for one certain connection, such as an answer to a command: with
  // kNotConnected once another one has come. Throw std::invalid_argument if it
  // is none of the queue's client or server.
  SendResult post(const Connection& to, std::string_view data) {
    return post_parts({&data, 1}, &to);
  }
  SendResult post_str(const Connection& to, std::string_view text);
  template <class... Structs>
  SendResult post_from(const Connection& to, const Structs&... structs) {
    SendResult result = SendResult::kNotConnected;
    internal::pack_structs(
        [&](std::span<const std::string_view> parts, const Wait&) {
          result = post_parts(parts, &to);
        },
        Wait(), structs...);
    return result;
  }

  // Waits until every message that was posted before is sent or dropped. Throws
  // TimeoutError; CancelledError at the stop, and if the queue is closed before
  // that.
  void flush(const Wait& wait = {});

  // What there was so far.
  Stats stats() const noexcept;
  // How many messages wait, without the one that the writer thread is sending.
  std::size_t size() const noexcept;

  // Drops what waits, ends and joins the writer thread. A message of which a
  // part is sent stays queued in the connection, which sends the rest before
  // any later message. To send all first, call flush(). Idempotent. Never waits
  // for the peer, nor for the calling thread: it may be called in a stop
  // callback of the connection and in the start hook.
  void close();

 private:
  class Impl;

  // `to`: null for the connection of the moment.
  SendResult post_parts(std::span<const std::string_view> parts,
                        const Connection* to = nullptr);

  const std::shared_ptr<Impl> impl_;
};

}  // namespace tcpip

#endif  // TCPIP_SEND_QUEUE_H_
