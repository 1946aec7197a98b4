// Binary messages: reads and writes structs as the bytes that they have in
// memory. wire_type.h says which types are allowed; byte_order.h, which it
// includes, has BigEndian and LittleEndian.
//
//   Header header;
//   read_into(reader, header, 2s);
//   write_from(writer, header, body);
//
// Threads: as the reader's and the writer's.
#ifndef TCPIP_WIRE_STRUCT_H_
#define TCPIP_WIRE_STRUCT_H_

#include "tcpip/version.h"

#include <cstddef>
#include <span>
#include <string_view>

#include "tcpip/error.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/wait.h"
#include "tcpip/wire_type.h"

namespace tcpip {

namespace internal {

TCPIP_EXPORT void read_struct(StreamReader& reader, std::span<std::byte> out,
                              const Wait& wait);
TCPIP_EXPORT bool try_read_struct(StreamReader& reader,
                                  std::span<std::byte> out);
TCPIP_EXPORT void write_structs(StreamWriter& writer,
                                std::span<const std::string_view> parts,
                                const Wait& wait);

}  // namespace internal

// Reads sizeof(T) bytes into `data`, which is untouched after any failure.
// Throws as StreamReader::read_exactly().
template <class T>
void read_into(StreamReader& reader, T& data, const Wait& wait = {}) {
  internal::read_struct(reader, internal::wire_target(data), wait);
}

// The same without waiting: false, with `data` untouched, if not all of the
// struct has come yet.
template <class T>
bool try_read_into(StreamReader& reader, T& data) {
  return internal::try_read_struct(reader, internal::wire_target(data));
}

// Writes the bytes of all structs as one message, which no other thread's bytes
// interrupt, and drains. The last argument may be a Wait, or what converts to
// one:
//   write_from(writer, header, body, 2s);
//   write_from(writer, header, body, Wait(2s, stop));
// Throws as StreamWriter::write() and drain(). After TimeoutError and
// CancelledError the message stays queued, and drain() sends the rest. If the
// stop was requested before the call, the writer has taken nothing; queued()
// tells.
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
