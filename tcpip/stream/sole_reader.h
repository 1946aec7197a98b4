// Refuses a second reader of one stream.
//
// A call that finds another one under way throws std::logic_error and leaves
// the other alone. Two calls that begin in the same instant may miss each
// other, since begin() is a plain load and a plain store: a line that is
// already buffered costs little more than these. Only one of the two gets to
// the socket; the other one is refused there, before it touches the socket or
// the room for what comes. So two calls that have to wait never both wait. What
// is left to the program is not to let two threads take bytes that are already
// buffered in the same instant.
//
// Whoever has seen is_reading() return false sees everything that the calls
// before have done; so does the next call that begins.
//
// Threads: any.
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
  // Throws SecondReaderError if a call is under way; else one is, until end().
  void begin(const char* operation) {
    if (reading_.load(std::memory_order_acquire)) {
      throw SecondReaderError(operation);
    }
    reading_.store(true, std::memory_order_relaxed);
  }
  // Not to be called by whom Receiving has refused: the call under way is then
  // the other thread's.
  void end() noexcept { reading_.store(false, std::memory_order_release); }

  bool is_reading() const noexcept {
    return reading_.load(std::memory_order_acquire);
  }

  // While it lives, its thread is the only one that receives. Its constructor
  // throws SecondReaderError if another thread does.
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
