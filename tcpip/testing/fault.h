// What a FaultyProxy does to the bytes that pass: the steps of a script.
//
//   {Fault::delay(20ms),
//    Fault::stall(1s).after_bytes(100),
//    Fault::reset().after(5s)}
//
// A script is for one direction of a connection; every connection begins its
// scripts anew. The steps are taken in their order, each as soon as its
// conditions hold: at the beginning of the connection, if it has none. Bytes
// are counted exactly: the step is taken between byte n and byte n + 1. While
// the direction is stalled no step is taken.
//
// A delay stays until the next delay or pass(); so does a split or drip until
// the next split, drip or pass().
//
// Threads: values.
#ifndef TCPIP_TESTING_FAULT_H_
#define TCPIP_TESTING_FAULT_H_

#include "tcpip/version.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tcpip/testing/direction.h"

namespace tcpip_testing {

class TCPIP_EXPORT Fault {
 public:
  // --- What happens ---
  //
  // These throw std::invalid_argument for a negative time, one of more than a
  // day, a piece without bytes, a rate of 0.

  // Bytes pass as they come: ends delay, split and drip.
  static Fault pass();
  // Each byte passes so long after it has come.
  static Fault delay(std::chrono::microseconds time);
  // Bytes pass in pieces of at most so many, each with a packet of its own, and
  // at least `gap` apart. (The receiver may find several of them at once, if it
  // does not read in between.)
  static Fault split(std::size_t bytes, std::chrono::microseconds gap =
                                            std::chrono::milliseconds(1));
  // Bytes pass at this rate at most.
  static Fault drip(std::size_t bytes_per_second);
  // Nothing passes, neither bytes nor the end of the stream, until the proxy's
  // resume(), or for so long.
  static Fault stall();
  static Fault stall(std::chrono::microseconds time);
  // The receiver gets FIN; what else comes in this direction is dropped. The
  // other direction goes on.
  static Fault cut();
  // Both ends get a reset.
  static Fault reset();
  // Both ends get FIN, and the proxy closes the connection. A peer that goes on
  // sending is reset after a second.
  static Fault drop();

  // --- When: once all that is said here holds ---

  // So many bytes of the connection have passed in this direction.
  Fault after_bytes(std::uint64_t count) const;
  // The connection to the server has existed for so long. Throws
  // std::invalid_argument as above.
  Fault after(std::chrono::microseconds time) const;

  // What was made: pass() and the like; and its details.
  enum class Kind { kPass, kDelay, kSplit, kDrip, kStall, kCut, kReset, kDrop };
  Kind kind() const noexcept { return kind_; }
  // Of delay, split (the gap) and stall; nothing: until resume().
  std::optional<std::chrono::microseconds> time() const noexcept {
    return time_;
  }
  // Of split and drip.
  std::size_t size() const noexcept { return size_; }
  // What after_bytes() and after() were given.
  std::uint64_t condition_bytes() const noexcept { return condition_bytes_; }
  std::chrono::microseconds condition_time() const noexcept {
    return condition_time_;
  }
  bool operator==(const Fault&) const = default;

 private:
  explicit Fault(Kind kind) : kind_(kind) {}

  Kind kind_;
  std::optional<std::chrono::microseconds> time_ = {};
  std::size_t size_ = 0;
  std::uint64_t condition_bytes_ = 0;
  std::chrono::microseconds condition_time_{0};
};

// "after 100 bytes: stall for 1000 ms".
TCPIP_EXPORT std::string to_string(const Fault& fault);

// Throws std::invalid_argument for a script of which a step is never taken in
// its place: a condition that is less than one before it, a step behind reset()
// or drop().
TCPIP_EXPORT void check_script(std::span<const Fault> script);

// Scripts of steps that are chosen at random, always the same for one seed.
struct TCPIP_EXPORT RandomFaults {
  std::uint64_t seed = 0;  // which scripts
  // Half of the scripts end with cut(), reset() or drop(). If false, none does:
  // whatever is sent arrives.
  bool ends = true;
};

// The script of a proxy's nth connection (from 1) for one direction. All of its
// steps are taken within the first few thousand bytes.
TCPIP_EXPORT std::vector<Fault> random_script(const RandomFaults& random,
                                              std::uint64_t connection,
                                              Direction direction);

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_FAULT_H_
