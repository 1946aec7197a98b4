// Refuses a second reader of one stream.
//
// A call that finds another call under way throws std::logic_error and does not
// disturb the other call.
//
// A thread that sees is_reading() return false sees everything that earlier
// calls have done; so does the next call that begins.
//
// Threads: every member may be called from any thread.
#ifndef TCPIP_STREAM_SOLE_READER_H_
#define TCPIP_STREAM_SOLE_READER_H_

#include <atomic>

namespace tcpip::internal {

class SoleReader {
 public:
  // Marks a call as under way, until end(). Throws std::logic_error if one
  // is under way already.
  void begin(const char* operation) {
    if (reading_.exchange(true, std::memory_order_acquire)) {
      throw_second_reader(operation);
    }
  }
  void end() noexcept { reading_.store(false, std::memory_order_release); }
  // The same for a thread that looks at a flag next, where another thread sets
  // the flag, then calls is_reading(). If all four are sequentially consistent,
  // at least one of the two sees what the other has done.
  void end_before_look() noexcept {
    reading_.store(false, std::memory_order_seq_cst);
  }

  bool is_reading() const noexcept {
    return reading_.load(std::memory_order_seq_cst);
  }

 private:
  [[noreturn]] static void throw_second_reader(const char* operation);

  std::atomic<bool> reading_{false};
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_SOLE_READER_H_
