// The bytes that have come from the kernel and are not read yet.
//
//   memory                                                memory + capacity
//   |<-- taken -->|<----- unread() ----->|<------ room ------>|
//   +-------------+----------------------+--------------------+
//   | a line\n    | the next line\nand t |                    |
//   +-------------+----------------------+--------------------+
//   ^ base        ^ head                 ^ tail
//
// base, head and tail are positions in the stream: head is the number of bytes
// taken so far, tail the number received. take() moves head to the right, add()
// moves tail. Only make_room() moves bytes, so a view that take() has returned
// stays valid until then.
//
// Threads: received() and consumed() may be called from any thread, everything
// else from the reading thread.
#ifndef TCPIP_STREAM_RECEIVE_BUFFER_H_
#define TCPIP_STREAM_RECEIVE_BUFFER_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace tcpip::internal {

class ReceiveBuffer {
 public:
  // The memory is allocated for the first receive: 8 KiB; 64 KiB as soon as a
  // receive has filled those; then twice as much whenever a message needs it. A
  // buffer of more than kKeep bytes is freed once it is empty.
  static constexpr std::size_t kFirst = 8 * 1024;
  static constexpr std::size_t kUsual = 64 * 1024;
  static constexpr std::size_t kKeep = 4 * 1024 * 1024;

  std::string_view unread() const noexcept {
    const std::uint64_t head = this->head();
    return {memory_.get() + (head - base_),
            static_cast<std::size_t>(tail() - head)};
  }
  std::size_t size() const noexcept {
    return static_cast<std::size_t>(tail() - head());
  }
  bool empty() const noexcept { return head() == tail(); }
  std::size_t capacity() const noexcept { return capacity_; }

  // Takes the first n unread bytes, or all if there are fewer, and returns
  // them. The view is valid until the next make_room().
  std::string_view take(std::size_t n) noexcept {
    const std::uint64_t head = this->head();
    const std::size_t count =
        std::min(n, static_cast<std::size_t>(tail() - head));
    // Release: a thread that sees these bytes as consumed sees them as received
    // too, so that received() - consumed() is never negative.
    head_.store(head + count, std::memory_order_release);
    return {memory_.get() + (head - base_), count};
  }

  // The memory for the next receive, at least one byte. Invalidates views.
  // Throws std::bad_alloc; then nothing is lost.
  std::span<char> make_room() {
    // Mostly all was taken, and the memory has the right size.
    if (empty() && !filled_up_ && capacity_ - 1 < kKeep) [[likely]] {
      base_ = head();
      return {memory_.get(), capacity_};
    }
    return make_more_room();
  }
  // Call it after n bytes were received into the memory from make_room().
  void add(std::size_t n) noexcept {
    filled_up_ = n == capacity_ - static_cast<std::size_t>(tail() - base_);
    tail_.store(tail() + n, std::memory_order_relaxed);
  }
  // Counts n bytes as received and consumed that never were in the buffer. Only
  // while the buffer is empty.
  void count_past(std::size_t n) noexcept;

  // From any thread: how many bytes were received, and taken, so far.
  std::uint64_t received() const noexcept { return tail(); }
  std::uint64_t consumed() const noexcept {
    return head_.load(std::memory_order_acquire);
  }

 private:
  std::span<char> make_more_room();
  std::uint64_t head() const noexcept {
    return head_.load(std::memory_order_relaxed);
  }
  std::uint64_t tail() const noexcept {
    return tail_.load(std::memory_order_relaxed);
  }

  std::unique_ptr<char[]> memory_;
  std::size_t capacity_ = 0;
  std::uint64_t base_ = 0;
  // Atomic, since any thread reads them. Only the reading thread writes them,
  // so it changes them by a load and a store.
  std::atomic<std::uint64_t> head_{0};
  std::atomic<std::uint64_t> tail_{0};
  bool filled_up_ = false;  // the last receive has used all the room
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_RECEIVE_BUFFER_H_
