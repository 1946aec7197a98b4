// What has come of a message that a loop has sent without waiting: see
// ReadWriter::send().
//
// Threads: a value.
#ifndef TCPIP_SEND_RESULT_H_
#define TCPIP_SEND_RESULT_H_

#include "tcpip/version.h"

#include <string_view>

namespace tcpip {

// What has become of the message.
enum class SendResult {
  kSent,         // the kernel has all of it
  kQueued,       // taken; the rest is sent before any later message
  kBusy,         // not taken: too much is not sent yet
  kNotConnected  // no connection, or the connection was lost meanwhile
};

// "sent", "queued", "busy", "not connected".
TCPIP_EXPORT std::string_view to_string(SendResult result) noexcept;

}  // namespace tcpip

#endif  // TCPIP_SEND_RESULT_H_
