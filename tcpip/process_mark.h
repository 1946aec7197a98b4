// Which process an object belongs to. A child that fork() makes has copies of
// the objects of its parent, but none of their threads; a lock that one of
// those held is locked for ever; and the sockets are the same as the parent's.
// So the child may destroy the objects, which closes the child's descriptors
// and does nothing else. Using them throws std::logic_error.
//
// Threads: every function may be called from any thread.
#ifndef TCPIP_PROCESS_MARK_H_
#define TCPIP_PROCESS_MARK_H_

#include "tcpip/version.h"

#include <atomic>

namespace tcpip::internal {

// How many fork()s there are between the first process and this one.
extern TCPIP_EXPORT std::atomic<unsigned> process_number;

// A member of an object that must not be used in a child of its process.
class TCPIP_EXPORT ProcessMark {
 public:
  ProcessMark() noexcept;

  // False in a child.
  bool is_here() const noexcept {
    return number_ == process_number.load(std::memory_order_relaxed);
  }
  // Throws std::logic_error in a child.
  void check(const char* operation) const {
    if (!is_here()) [[unlikely]] {
      fail(operation);
    }
  }

 private:
  [[noreturn]] static void fail(const char* operation);

  unsigned number_;
};

}  // namespace tcpip::internal

#endif  // TCPIP_PROCESS_MARK_H_
