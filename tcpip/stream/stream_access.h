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
  // Throw CancelledError if the call's stop is requested, else ConnectionError
  // without a connection.
  static Receiver& receiver(StreamReader& reader, Call call) {
    return reader.connected(call);
  }
  static Sender& sender(StreamWriter& writer, Call call) {
    return writer.connected(call);
  }
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_STREAM_ACCESS_H_
