// The way from the public streams to what is behind them, for the rest of the
// library.
//
// Threads: as the streams'.
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
  // Without a connection they throw ConnectionError (receiver() CancelledError
  // if the call's stop is requested).
  static Receiver& receiver(StreamReader& reader, const Call& call) {
    return reader.connected(call.operation, call.wait);
  }
  static Sender& sender(StreamWriter& writer, const char* operation) {
    return writer.connected(operation);
  }
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_STREAM_ACCESS_H_
