// Binary messages: structs read from and written to a connection as they lie in
// memory. wire_type.h says which types may be; byte_order.h, which it includes,
// has BigEndian and LittleEndian.
//
//   Header header;
//   read_into(reader, header, 2s);
//   write_from(writer, header, body);
//
// Threads: as the reader's and the writer's.
#ifndef TCPIP_WIRE_STRUCT_H_
#define TCPIP_WIRE_STRUCT_H_

#include <cstddef>
#include <limits>
#include <span>
#include <string_view>

#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/wait.h"
#include "tcpip/wire_type.h"

namespace tcpip {

// Reads sizeof(T) bytes into `data`, which is left untouched on any failure.
// Throws as StreamReader::read_exactly does; after TimeoutError and
// CancelledError the bytes that came are kept, and calling again resumes.
template <class T>
void read_into(StreamReader& reader, T& data, const Wait& wait = {}) {
  reader.read_exactly(internal::wire_target(data), wait);
}

// Writes the bytes of all structs as one message, contiguous whoever else
// writes, and drains. The last argument may be a Wait, or what converts to one:
//   write_from(writer, header, body, 2s);
//   write_from(writer, header, body, Wait(2s, stop));
// Throws as StreamWriter::write and drain do. After TimeoutError and
// CancelledError the message stays queued, and drain() sends the rest; unless
// the stop was requested before the call: then nothing of it was taken.
template <class... Args>
void write_from(StreamWriter& writer, const Args&... structs_and_wait) {
  internal::pack_wire(
      [&writer](std::span<const std::string_view> parts, const Wait& wait) {
        // Whatever is unsent; but nothing of it if a stop is requested already.
        writer.write_and_drain(parts, std::numeric_limits<std::size_t>::max(),
                               wait);
      },
      structs_and_wait...);
}

}  // namespace tcpip

#endif  // TCPIP_WIRE_STRUCT_H_
