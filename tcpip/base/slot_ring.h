// A bounded queue of messages for threads that must not wait: the heart of a
// SendQueue.
//
// All memory is taken by the constructor. push() takes no lock, makes no system
// call and allocates nothing. Several threads may push at once, and what one
// thread pushes is popped in that order. A thread that pushes into a full ring
// may drop the oldest message, with pop() at work in another thread.
//
// How it works: each message has a position (0, 1, 2, ...) and lies in the slot
// `position % count`. The slot's `turn` says whose it is:
//
//   turn                   the slot
//   ---------------------  --------------------------------------------------
//   position               is free for the message of that position. Whoever
//                          moves tail_ from position to position + 1 fills it
//   position + 1           has that message. Whoever moves head_ from position
//                          to position + 1 takes it: pop(), which copies it, or
//                          a push() that drops it
//   position + count       is free for the next one
//
// A thread that is preempted while it fills or copies keeps one slot. So that a
// push() is not refused for that at once, there are at least twice as many
// slots as messages may wait.
//
// Threads: one thread pops. Every other member may be called from any thread.
#ifndef TCPIP_BASE_SLOT_RING_H_
#define TCPIP_BASE_SLOT_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace tcpip::internal {

class SlotRing {
 public:
  using Parts = std::span<const std::string_view>;

  enum class WhenFull { kRefuse, kDropOldest };
  struct Pushed {
    bool taken = false;
    std::uint64_t outdated = 0;  // how many with another tag were dropped
    std::uint64_t oldest = 0;    // how many others were dropped for room
  };
  struct Message {
    std::uint64_t position = 0;
    std::uint64_t tag = 0;
    std::size_t size = 0;
  };

  // For `limit` waiting messages of at most max_size bytes each; both at least
  // 1. Throws std::bad_alloc, also for more than memory can hold.
  SlotRing(std::size_t limit, std::size_t max_size);
  SlotRing(const SlotRing&) = delete;
  SlotRing& operator=(const SlotRing&) = delete;

  std::size_t max_size() const noexcept { return max_size_; }

  // Puts a message of all parts, max_size bytes at most, behind the others. If
  // the ring is full, drops from its front what has another tag, and then, with
  // kDropOldest, the oldest message. Not taken if there is still no room: the
  // oldest message is still being pushed, or pop() has been copying for as long
  // as the ring took to fill.
  Pushed push(std::uint64_t tag, Parts parts, WhenFull when_full) noexcept;

  // Takes out the oldest message and copies its bytes to `out`, which has room
  // for max_size bytes. Nothing if there is none, or it is still being pushed.
  std::optional<Message> pop(char* out) noexcept;
  // True if pop() would take one. For a thread that is about to sleep: it sets
  // a flag first, then calls this; and others look at the flag when push() has
  // returned. All these are sequentially consistent, so either this sees the
  // message or the other thread sees the flag.
  bool has_next() const noexcept;

  // The position of the next message to be pushed, and of the next one to be
  // taken or dropped.
  std::uint64_t tail() const noexcept { return tail_.load(); }
  std::uint64_t head() const noexcept { return head_.load(); }
  // How many messages wait.
  std::size_t size() const noexcept {
    const std::uint64_t first = head();  // tail_ never falls behind it
    return static_cast<std::size_t>(tail() - first);
  }

 private:
  struct Slot {
    std::atomic<std::uint64_t> turn{0};
    // A push() reads the tag of a message that it does not own yet.
    std::atomic<std::uint64_t> tag{0};
    std::size_t size = 0;
    char* data = nullptr;
  };
  enum class Dropped { kNone, kOutdated, kOldest, kChanged };

  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  Slot& slot(std::uint64_t position) const noexcept {
    return slots_[position & (count_ - 1)];
  }
  Dropped drop_front(std::uint64_t tag, WhenFull when_full) noexcept;

  const std::size_t limit_;
  const std::size_t max_size_;
  const std::size_t count_;  // a power of two
  const std::unique_ptr<char[]> bytes_;
  const std::unique_ptr<Slot[]> slots_;
  // Each on a cache line of its own. Not alignas(64): g++ with ASan does not
  // keep that on the stack.
  static constexpr std::size_t kCacheLine = 64;
  [[maybe_unused]] char before_[kCacheLine] = {};
  std::atomic<std::uint64_t> tail_{0};
  [[maybe_unused]] char between_[kCacheLine] = {};
  std::atomic<std::uint64_t> head_{0};
  [[maybe_unused]] char behind_[kCacheLine] = {};
};

}  // namespace tcpip::internal

#endif  // TCPIP_BASE_SLOT_RING_H_
