#include "tcpip/base/slot_ring.h"

#include <bit>
#include <limits>
#include <new>

namespace tcpip::internal {
namespace {

constexpr std::size_t kMostBytes = std::numeric_limits<std::size_t>::max() / 4;

std::size_t checked_count(std::size_t limit, std::size_t max_size) {
  if (limit > kMostBytes) throw std::bad_alloc();
  const std::size_t count = std::bit_ceil(2 * limit);
  if (max_size > kMostBytes / count) throw std::bad_alloc();
  return count;
}

// a - b, for positions of which either may be ahead.
std::int64_t distance(std::uint64_t a, std::uint64_t b) noexcept {
  return static_cast<std::int64_t>(a - b);
}

}  // namespace

SlotRing::SlotRing(std::size_t limit, std::size_t max_size)
    : limit_(limit),
      max_size_(max_size),
      count_(checked_count(limit, max_size)),
      bytes_(std::make_unique<char[]>(count_ * max_size)),
      slots_(std::make_unique<Slot[]>(count_)) {
  for (std::size_t i = 0; i < count_; ++i) {
    slots_[i].turn = i;
    slots_[i].data = bytes_.get() + i * max_size;
  }
}

SlotRing::Pushed SlotRing::push(std::uint64_t tag, Parts parts,
                                WhenFull when_full) noexcept {
  Pushed pushed;
  // Each round but the last follows a change that this or another thread made.
  for (;;) {
    std::uint64_t position = tail_.load(std::memory_order_relaxed);
    if (distance(position, head_.load()) >= static_cast<std::int64_t>(limit_)) {
      switch (drop_front(tag, when_full)) {
        case Dropped::kNone:
          return pushed;
        case Dropped::kOutdated:
          ++pushed.outdated;
          break;
        case Dropped::kOldest:
          ++pushed.oldest;
          break;
        case Dropped::kChanged:
          break;
      }
      continue;
    }
    Slot& free = slot(position);
    const std::int64_t turn =
        distance(free.turn.load(std::memory_order_acquire), position);
    if (turn < 0) return pushed;  // the message before it is being copied
    if (turn > 0) continue;       // another thread has moved tail_
    if (!tail_.compare_exchange_weak(position, position + 1,
                                     std::memory_order_relaxed)) {
      continue;
    }
    free.tag.store(tag, std::memory_order_relaxed);
    free.size = 0;
    for (const std::string_view part : parts) {
      free.size += part.copy(free.data + free.size, part.size());
    }
    free.turn.store(position + 1);
    pushed.taken = true;
    return pushed;
  }
}

// Makes room in a full ring.
SlotRing::Dropped SlotRing::drop_front(std::uint64_t tag,
                                       WhenFull when_full) noexcept {
  std::uint64_t position = head_.load();
  Slot& front = slot(position);
  const std::int64_t turn =
      distance(front.turn.load(std::memory_order_acquire), position + 1);
  if (turn < 0) return Dropped::kNone;     // it is being pushed
  if (turn > 0) return Dropped::kChanged;  // another thread has moved head_
  // This may be the tag of a later message, if another thread has moved head_
  // meanwhile; head_ does not move below then.
  const bool is_outdated = front.tag.load(std::memory_order_relaxed) != tag;
  if (!is_outdated && when_full == WhenFull::kRefuse) {
    return head_.load() == position ? Dropped::kNone : Dropped::kChanged;
  }
  if (!head_.compare_exchange_strong(position, position + 1)) {
    return Dropped::kChanged;
  }
  front.turn.store(position + count_, std::memory_order_release);
  return is_outdated ? Dropped::kOutdated : Dropped::kOldest;
}

std::optional<SlotRing::Message> SlotRing::pop(char* out) noexcept {
  for (;;) {
    std::uint64_t position = head_.load();
    Slot& front = slot(position);
    const std::int64_t turn =
        distance(front.turn.load(std::memory_order_acquire), position + 1);
    if (turn < 0) return std::nullopt;
    if (turn > 0) continue;  // a push() has dropped it meanwhile
    if (!head_.compare_exchange_weak(position, position + 1)) continue;
    const Message message{position, front.tag.load(std::memory_order_relaxed),
                          front.size};
    std::string_view(front.data, front.size).copy(out, front.size);
    front.turn.store(position + count_, std::memory_order_release);
    return message;
  }
}

bool SlotRing::has_next() const noexcept {
  for (;;) {
    const std::uint64_t position = head_.load();
    const std::int64_t turn =
        distance(slot(position).turn.load(), position + 1);
    if (turn <= 0) return turn == 0;
  }
}

}  // namespace tcpip::internal
