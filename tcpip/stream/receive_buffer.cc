#include "tcpip/stream/receive_buffer.h"

#include <cstring>
#include <utility>

namespace tcpip::internal {

std::span<char> ReceiveBuffer::make_more_room() {
  const std::string_view unread = this->unread();
  if (unread.empty()) {
    base_ = head();
    if (capacity_ > kKeep) {
      memory_.reset();
      capacity_ = 0;
    }
  }
  const std::size_t used = static_cast<std::size_t>(tail() - base_);
  const std::size_t taken = used - unread.size();
  const std::size_t room = capacity_ - used;
  const bool too_small = capacity_ < kUsual && filled_up_;
  // Half of the buffer is enough room. If moving the unread bytes is expensive,
  // any room is enough.
  const bool cheap_to_move = unread.size() <= capacity_ / 4;
  const bool enough = room > 0 && (room >= capacity_ / 2 || !cheap_to_move);
  if (enough && !too_small) return {memory_.get() + used, room};

  if (!too_small && taken > 0 && (cheap_to_move || taken >= capacity_ / 4)) {
    std::memmove(memory_.get(), unread.data(), unread.size());
  } else {
    const std::size_t larger = capacity_ == 0       ? kFirst
                               : capacity_ < kUsual ? kUsual
                                                    : 2 * capacity_;
    auto memory = std::make_unique_for_overwrite<char[]>(larger);
    if (!unread.empty()) {
      std::memcpy(memory.get(), unread.data(), unread.size());
    }
    memory_ = std::move(memory);
    capacity_ = larger;
  }
  base_ = head();
  return {memory_.get() + unread.size(), capacity_ - unread.size()};
}

void ReceiveBuffer::count_past(std::size_t n) noexcept {
  // The buffer is empty, so the start of the memory may stand for any position.
  base_ = tail() + n;
  tail_.store(base_, std::memory_order_relaxed);
  head_.store(base_, std::memory_order_release);
}

}  // namespace tcpip::internal
