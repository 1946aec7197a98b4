// How a connection tells a Tap what passes over it.
//
// Threads: one thread at a time calls received(), one at a time begin_send() to
// end_send(), and one at a time the rest; these may be different threads. Takes
// a lock of its own and that of the Tap, under which nothing else is taken: so
// it may be called under any lock.
#ifndef TCPIP_STREAM_TAP_LINE_H_
#define TCPIP_STREAM_TAP_LINE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tcpip/address.h"
#include "tcpip/base/mutex.h"
#include "tcpip/socket.h"
#include "tcpip/tap.h"

namespace tcpip::internal {

class TapLine {
 public:
  using Pieces = std::span<const Socket::Piece>;

  TapLine(const Tap& tap, std::string name, const Address& local,
          const Address& peer);
  ~TapLine();
  TapLine(const TapLine&) = delete;
  TapLine& operator=(const TapLine&) = delete;

  // Before anything passes.
  void began(TapEvent event, std::uint64_t connection) noexcept;
  void ended() noexcept;
  void received(std::string_view bytes) noexcept;
  // Around giving bytes to the kernel and sent(): what is received meanwhile is
  // shown behind them. So no reply is shown before what it replies to.
  void begin_send() noexcept TCPIP_ACQUIRE(sending_) { sending_.lock(); }
  void end_send() noexcept TCPIP_RELEASE(sending_) { sending_.unlock(); }
  // The first `count` bytes of the pieces were sent.
  void sent(Pieces pieces, std::size_t count) noexcept TCPIP_REQUIRES(sending_);

 private:
  struct Direction {
    std::uint64_t position = 0;
    std::uint64_t skipped = 0;  // right before that
  };

  void pass(TapEvent event, Direction& direction, Pieces pieces,
            std::size_t count) noexcept;

  const std::shared_ptr<Tap::Impl> tap_;
  const std::string name_;
  const Address local_;
  const Address peer_;
  const std::uint64_t id_;
  std::uint64_t connection_ = 0;
  Direction received_;
  Mutex sending_;
  Direction sent_ TCPIP_GUARDED_BY(sending_);
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_TAP_LINE_H_
