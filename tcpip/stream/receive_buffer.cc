#include "tcpip/stream/receive_buffer.h"

#include <cstring>
#include <utility>

namespace tcpip::internal {

std::span<char> ReceiveBuffer::make_room() {
  const std::size_t size = this->size();
  if (size == 0) {
    head_ = tail_ = 0;
    if (capacity_ > kKeep) {
      memory_.reset();
      capacity_ = 0;
    }
  }
  const bool too_small = capacity_ < kUsual && filled_up_;
  const std::size_t room = capacity_ - tail_;
  // Half of the buffer is room enough, or any room while moving the unread
  // bytes would be expensive.
  const bool cheap_to_move = size <= capacity_ / 4;
  const bool enough =
      room > 0 && (room >= capacity_ / 2 || !cheap_to_move) && !too_small;
  if (!enough) {
    if (!too_small && head_ > 0 && (cheap_to_move || head_ >= capacity_ / 4)) {
      std::memmove(memory_.get(), memory_.get() + head_, size);
    } else {
      const std::size_t larger = capacity_ == 0       ? kFirst
                                 : capacity_ < kUsual ? kUsual
                                                      : 2 * capacity_;
      auto memory = std::make_unique_for_overwrite<char[]>(larger);
      if (size > 0) std::memcpy(memory.get(), memory_.get() + head_, size);
      memory_ = std::move(memory);
      capacity_ = larger;
    }
    head_ = 0;
    tail_ = size;
  }
  return {memory_.get() + tail_, capacity_ - tail_};
}

void ReceiveBuffer::received(std::size_t n) noexcept {
  filled_up_ = n == capacity_ - tail_;
  tail_ += n;
}

}  // namespace tcpip::internal
