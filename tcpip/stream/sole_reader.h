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
#include <stdexcept>

namespace tcpip::internal {

class SecondReaderError final : public std::logic_error {
 public:
  explicit SecondReaderError(const char* operation);
};

class SoleReader {
 public:
  // Marks a call as under way, until end(). Throws SecondReaderError if one is
  // under way already.
  void begin(const char* operation) {
    if (reading_.exchange(true, std::memory_order_acquire)) {
      throw SecondReaderError(operation);
    }
  }
  // Must not be called by a thread that Receiving has refused: the call under
  // way is then the other thread's.
  void end() noexcept { reading_.store(false, std::memory_order_release); }

  bool is_reading() const noexcept {
    return reading_.load(std::memory_order_acquire) ||
           receiving_.load(std::memory_order_acquire);
  }

  // While it lives, its thread is the only one that receives or waits for it.
  // The constructor throws SecondReaderError if another thread does.
  class Receiving {
   public:
    Receiving(SoleReader& reader, const char* operation) : reader_(reader) {
      if (reader.receiving_.exchange(true)) throw SecondReaderError(operation);
    }
    ~Receiving() { reader_.receiving_.store(false); }
    Receiving(const Receiving&) = delete;
    Receiving& operator=(const Receiving&) = delete;

   private:
    SoleReader& reader_;
  };

 private:
  std::atomic<bool> reading_{false};
  std::atomic<bool> receiving_{false};
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_SOLE_READER_H_
