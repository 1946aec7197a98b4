// One call of the user's on a stream, as the layers below the face know it.
//
// Threads: a value.
#ifndef TCPIP_STREAM_CALL_H_
#define TCPIP_STREAM_CALL_H_

#include "tcpip/wait.h"

namespace tcpip::internal {

// To be made in the argument list: receiver.read_line_view({"read_line", wait})
struct Call {
  const char* operation;  // the name by which errors know it; static storage
  const Wait& wait;       // of the caller's, for the time of the call
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_CALL_H_
