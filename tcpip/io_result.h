// The result of a socket call: a value, so that the lower floors throw nothing.
// See "Errors" in ARCHITECTURE.md.
//
// Threads: values.
#ifndef TCPIP_IO_RESULT_H_
#define TCPIP_IO_RESULT_H_

#include "tcpip/version.h"

#include <cstddef>

namespace tcpip {

enum class IoStatus {
  kOk,
  kTimeout,  // the deadline passed, or the call would have to wait
  kStopped,  // the stop of the wait was requested
  kClosed,   // close() was called on this side
  kError     // the errno says why
};

struct TCPIP_EXPORT IoResult {
  IoStatus status = IoStatus::kOk;
  std::size_t count = 0;  // if kOk: how many bytes, or what the call says
  int error_number = 0;   // if kError: the errno
};

}  // namespace tcpip

#endif  // TCPIP_IO_RESULT_H_
