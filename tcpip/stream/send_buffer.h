// The bytes that a Sender has taken and the kernel has not.
//
//   memory                                    memory + capacity
//   |<-- sent -->|<----- unsent() ----->|<------ room ------>|
//                ^ head                 ^ tail
//
// Not a std::string: its append() checks and branches more than copying a short
// line costs.
//
// Threads: one at a time, as the mutex of the Sender ensures.
#ifndef TCPIP_STREAM_SEND_BUFFER_H_
#define TCPIP_STREAM_SEND_BUFFER_H_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

namespace tcpip::internal {

class SendBuffer {
 public:
  // An empty buffer of at most so many bytes is kept for the next message.
  static constexpr std::size_t kKeep = 256 * 1024;

  std::string_view unsent() const noexcept {
    return {memory_.get() + head_, tail_ - head_};
  }
  std::size_t size() const noexcept { return tail_ - head_; }
  bool empty() const noexcept { return head_ == tail_; }

  // Makes room for that many bytes more. Throws std::bad_alloc; then nothing
  // has changed.
  void make_room(std::size_t size) {
    if (empty()) head_ = tail_ = 0;
    if (size > capacity_ - tail_ || (empty() && capacity_ > kKeep))
        [[unlikely]] {
      grow(size);
    }
  }
  // There is room for them.
  void append(std::string_view bytes) noexcept {
    if (bytes.empty()) return;
    std::memcpy(memory_.get() + tail_, bytes.data(), bytes.size());
    tail_ += bytes.size();
  }
  // The first n unsent bytes are sent.
  void drop(std::size_t n) noexcept { head_ += n; }
  void free() noexcept {
    memory_.reset();
    capacity_ = head_ = tail_ = 0;
  }
  // Frees the memory of an empty buffer that has become too large to keep.
  void free_if_large() noexcept {
    if (empty() && capacity_ > kKeep) free();
  }

 private:
  void grow(std::size_t size) {
    free_if_large();
    const std::string_view unsent = this->unsent();
    const std::size_t needed = unsent.size() + size;
    // Moving less than is free then costs little for each byte.
    if (needed > capacity_ || unsent.size() > capacity_ / 2) {
      const std::size_t larger = std::max({needed, 2 * capacity_, kFirst});
      auto memory = std::make_unique_for_overwrite<char[]>(larger);
      if (!unsent.empty()) {
        std::memcpy(memory.get(), unsent.data(), unsent.size());
      }
      memory_ = std::move(memory);
      capacity_ = larger;
    } else if (!unsent.empty()) {
      std::memmove(memory_.get(), unsent.data(), unsent.size());
    }
    tail_ = unsent.size();
    head_ = 0;
  }

  static constexpr std::size_t kFirst = 512;

  std::unique_ptr<char[]> memory_;
  std::size_t capacity_ = 0;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_SEND_BUFFER_H_
