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
#include <span>
#include <string_view>

#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/wait.h"
#include "tcpip/wire_type.h"

namespace tcpip {

namespace internal {

void read_struct(StreamReader& reader, std::span<std::byte> out,
                 const Wait& wait);
bool try_read_struct(StreamReader& reader, std::span<std::byte> out);
void write_structs(StreamWriter& writer,
                   std::span<const std::string_view> parts, const Wait& wait);

}  // namespace internal

// Reads sizeof(T) bytes into `data`, which is left untouched on any failure.
// Throws as StreamReader::read_exactly does; after TimeoutError and
// CancelledError the bytes that came are kept, and calling again resumes.
template <class T>
void read_into(StreamReader& reader, T& data, const Wait& wait = {}) {
  internal::read_struct(reader, internal::wire_target(data), wait);
}

// The same without waiting: false, `data` untouched, if the struct is not all
// there yet. The end of the stream and errors are as with read_into(), and then
// too `data` is untouched.
template <class T>
bool try_read_into(StreamReader& reader, T& data) {
  return internal::try_read_struct(reader, internal::wire_target(data));
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
        internal::write_structs(writer, parts, wait);
      },
      structs_and_wait...);
}

}  // namespace tcpip

#endif  // TCPIP_WIRE_STRUCT_H_
