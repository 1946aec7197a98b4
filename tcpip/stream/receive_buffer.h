// The bytes that have come from the kernel and were not read yet.
//
//   memory                                                memory + capacity
//   |<-- taken -->|<----- unread() ----->|<------ room ------>|
//   +-------------+----------------------+--------------------+
//   | a line\n    | the next line\nand t |                    |
//   +-------------+----------------------+--------------------+
//                 ^ head                 ^ tail
//
// take() moves head to the right, received() moves tail to the right. Only
// make_room() moves bytes, so that a view that take() has returned stays valid
// until then.
//
// Threads: not synchronised. It belongs to the reading thread.
#ifndef TCPIP_STREAM_RECEIVE_BUFFER_H_
#define TCPIP_STREAM_RECEIVE_BUFFER_H_

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace tcpip::internal {

class ReceiveBuffer {
 public:
  // The memory is taken when the first bytes are to come: 8 KiB, then 64 KiB as
  // soon as a receive has filled those, then twice as much whenever a message
  // needs it. A buffer of more than kKeep bytes is given back once it is empty.
  static constexpr std::size_t kFirst = 8 * 1024;
  static constexpr std::size_t kUsual = 64 * 1024;
  static constexpr std::size_t kKeep = 4 * 1024 * 1024;

  std::string_view unread() const noexcept {
    return {memory_.get() + head_, tail_ - head_};
  }
  std::size_t size() const noexcept { return tail_ - head_; }
  bool empty() const noexcept { return head_ == tail_; }
  std::size_t capacity() const noexcept { return capacity_; }

  // Removes the first n unread bytes, or all if there are fewer, and returns
  // them. The view is valid until the next make_room().
  std::string_view take(std::size_t n) noexcept {
    const std::size_t count = std::min(n, size());
    const std::string_view taken(memory_.get() + head_, count);
    head_ += count;
    if (head_ == tail_) head_ = tail_ = 0;
    return taken;
  }

  // The memory for the next receive, at least one byte. Views are invalid
  // afterwards. Throws std::bad_alloc; then nothing has changed.
  std::span<char> make_room();
  // That many bytes were received into what make_room() has returned.
  void received(std::size_t n) noexcept;

 private:
  std::unique_ptr<char[]> memory_;
  std::size_t capacity_ = 0;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
  bool filled_up_ = false;  // the last receive used all the room it had
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_RECEIVE_BUFFER_H_
