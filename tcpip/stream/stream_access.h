// Gives the rest of the library the Receiver and the Sender behind the public
// streams.
//
// Threads: the functions may be called from any thread; the Receiver and the
// Sender say who may use them.
#ifndef TCPIP_STREAM_STREAM_ACCESS_H_
#define TCPIP_STREAM_STREAM_ACCESS_H_

#include <memory>
#include <utility>

#include "tcpip/stream/call.h"
#include "tcpip/stream/receiver.h"
#include "tcpip/stream/sender.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"

namespace tcpip::internal {

struct StreamAccess {
  // Streams over what a connection has already. They share it: whoever moves or
  // destroys one of them leaves the connection as it is.
  static std::shared_ptr<StreamReader> reader_of(
      std::shared_ptr<Receiver> receiver) {
    auto reader = std::make_shared<StreamReader>();
    reader->receiver_ = std::move(receiver);
    return reader;
  }
  static std::shared_ptr<StreamWriter> writer_of(
      std::shared_ptr<Sender> sender) {
    auto writer = std::make_shared<StreamWriter>();
    writer->sender_ = std::move(sender);
    writer->closes_ = false;
    return writer;
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
