// How a call below the face ended: what the system says, as a value. See
// "Errors" in ARCHITECTURE.md.
//
// Threads: the types are values.
#ifndef TCPIP_IO_RESULT_H_
#define TCPIP_IO_RESULT_H_

#include <cstddef>

namespace tcpip {

enum class IoStatus {
  kOk,
  kTimeout,  // the deadline has passed, or there is nothing without waiting
  kStopped,  // the stop token of the wait was triggered
  kClosed,   // close() was called on this side
  kError     // the errno says why
};

struct IoResult {
  IoStatus status = IoStatus::kOk;
  std::size_t count = 0;  // what was done, where status is kOk
  int error_number = 0;   // an errno, where status is kError
};

}  // namespace tcpip

#endif  // TCPIP_IO_RESULT_H_
