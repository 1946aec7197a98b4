// What the layers below the face know of the program's call.
//
// Threads: a value.
#ifndef TCPIP_STREAM_CALL_H_
#define TCPIP_STREAM_CALL_H_

#include "tcpip/wait.h"

namespace tcpip::internal {

// Made in the argument list: receiver.read_line_view({"read_line", wait})
struct Call {
  const char* operation;  // its name in errors; static storage
  const Wait& wait;       // the caller's; valid during the call
  // The caller waits piece by piece: a deadline that passes is no time-out.
  bool is_piece = false;
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_CALL_H_
