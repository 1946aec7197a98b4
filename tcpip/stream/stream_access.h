// Gives the rest of the library the Receiver and the Sender behind the public
// streams.
//
// Threads: the functions may be called from any thread; the Receiver and the
// Sender say who may use them.
#ifndef TCPIP_STREAM_STREAM_ACCESS_H_
#define TCPIP_STREAM_STREAM_ACCESS_H_

#include "tcpip/stream/call.h"
#include "tcpip/stream/receiver.h"
#include "tcpip/stream/sender.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"

namespace tcpip::internal {

struct StreamAccess {
  // Null without a connection.
  static Receiver* receiver(StreamReader& reader) noexcept {
    return reader.receiver_.get();
  }
  static Sender* sender(StreamWriter& writer) noexcept {
    return writer.sender_.get();
  }
  // These throw ConnectionError without a connection; receiver() throws
  // CancelledError instead if the stop of the call is requested.
  static Receiver& receiver(StreamReader& reader, const Call& call) {
    return reader.connected(call.operation, call.wait);
  }
  static Sender& sender(StreamWriter& writer, const char* operation) {
    return writer.connected(operation);
  }
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_STREAM_ACCESS_H_
