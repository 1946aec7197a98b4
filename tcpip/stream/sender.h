// What a StreamWriter does: sends what the kernel takes at once and queues the
// rest. StreamWriter is the public face of a Sender; ReadWriter uses the Sender
// directly, so that errors name the member that the program has called.
//
// stream_writer.h says what each operation does. Each operation takes its name
// in errors.
//
// Threads: every member may be called from any thread. While a thread waits for
// the socket, it does not hold the mutex. In a child that fork() has made, the
// mutex may be locked for ever: nothing there takes it.
#ifndef TCPIP_STREAM_SENDER_H_
#define TCPIP_STREAM_SENDER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tcpip/base/mutex.h"
#include "tcpip/process_mark.h"
#include "tcpip/send_result.h"
#include "tcpip/socket.h"
#include "tcpip/stream/call.h"
#include "tcpip/stream/meter.h"
#include "tcpip/stream/send_buffer.h"

namespace tcpip::internal {

class Sender {
 public:
  using Parts = std::span<const std::string_view>;

  explicit Sender(std::shared_ptr<Socket> socket, Meter meter = {});
  ~Sender();
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  void write(const char* operation, Parts parts) TCPIP_EXCLUDES(mutex_);
  void write_and_drain(const Call& call, Parts parts, std::size_t max_unsent)
      TCPIP_EXCLUDES(mutex_);
  // Never waits. kBusy, with nothing taken, if more than so many bytes are
  // unsent; never kNotConnected.
  SendResult send(const char* operation, Parts parts, std::size_t max_unsent)
      TCPIP_EXCLUDES(mutex_);
  void drain(const Call& call) TCPIP_EXCLUDES(mutex_);
  void write_eof(const char* operation) TCPIP_EXCLUDES(mutex_);
  // `lost`: the errno of what has ended the connection, if close() is called
  // for that. Calls that are blocked in a write, and later ones, then throw it;
  // with 0 they say that this side has closed. Returns how many bytes were
  // taken and not sent.
  // `wake`: see Socket::close().
  std::size_t close(int lost = 0,
                    Socket::Wake wake = Socket::Wake::kNow) noexcept
      TCPIP_EXCLUDES(mutex_);

  bool is_closing() const noexcept TCPIP_EXCLUDES(mutex_);
  std::size_t unsent() const noexcept TCPIP_EXCLUDES(mutex_);
  Socket& socket() const noexcept { return *socket_; }

 private:
  class Lock;

  std::string peer() const;
  [[noreturn]] void throw_ended(const char* operation) const
      TCPIP_REQUIRES(mutex_);
  [[noreturn]] void throw_timeout(const Call& call, bool queued) const
      TCPIP_REQUIRES(mutex_);
  std::size_t pending() const noexcept TCPIP_REQUIRES(mutex_) {
    return buffer_.size();
  }
  // How many bytes were sent or are queued, all in all.
  std::uint64_t taken() const noexcept TCPIP_REQUIRES(mutex_) {
    return sent_ + pending();
  }
  void check_writable(const char* operation) const TCPIP_REQUIRES(mutex_);
  [[noreturn]] void throw_not_writable(const char* operation) const
      TCPIP_REQUIRES(mutex_);
  void append(const char* operation, Parts parts) TCPIP_REQUIRES(mutex_);
  void copy(Parts parts, std::size_t skip) noexcept TCPIP_REQUIRES(mutex_);
  void send_one(std::string_view part) noexcept TCPIP_REQUIRES(mutex_);
  void gather(Parts parts, std::size_t total) noexcept TCPIP_REQUIRES(mutex_);
  void keep_rest(Parts parts, std::size_t total, std::size_t sent) noexcept
      TCPIP_REQUIRES(mutex_);
  bool note(const IoResult& result) noexcept TCPIP_REQUIRES(mutex_);
  void note_failure(const IoResult& result) noexcept TCPIP_REQUIRES(mutex_);
  void give_up(int error_number) noexcept TCPIP_REQUIRES(mutex_);
  void send_now() noexcept TCPIP_REQUIRES(mutex_);
  void send_eof() TCPIP_REQUIRES(mutex_);
  void send_until(std::uint64_t target, const Call& call, bool queued)
      TCPIP_REQUIRES(mutex_);
  template <class GoOn>
  IoStatus wait_while(const Wait& wait, GoOn go_on) TCPIP_REQUIRES(mutex_);

  const ProcessMark process_;
  const std::shared_ptr<Socket> socket_;
  const Meter meter_;
  mutable Mutex mutex_;
  CondVar changed_;
  SendBuffer buffer_ TCPIP_GUARDED_BY(mutex_);
  // The kernel has not taken the first unsent byte yet.
  bool is_stuck_ TCPIP_GUARDED_BY(mutex_) = false;
  std::uint64_t sent_ TCPIP_GUARDED_BY(mutex_) = 0;   // all in all
  std::size_t dropped_ TCPIP_GUARDED_BY(mutex_) = 0;  // freed unsent
  bool waiting_ TCPIP_GUARDED_BY(mutex_) = false;  // a thread polls the socket
  bool eof_wanted_ TCPIP_GUARDED_BY(mutex_) = false;
  bool eof_sent_ TCPIP_GUARDED_BY(mutex_) = false;
  bool closed_here_ TCPIP_GUARDED_BY(mutex_) = false;  // close(0) was called
  int error_ TCPIP_GUARDED_BY(mutex_) = 0;  // the errno that ended sending
  // False if drain() has something to do or to throw. Changes under mutex_.
  std::atomic<bool> is_drained_{true};
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_SENDER_H_
