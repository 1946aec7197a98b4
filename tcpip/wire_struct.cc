#include "tcpip/wire_struct.h"

#include <limits>

#include "tcpip/stream/receiver.h"
#include "tcpip/stream/sender.h"
#include "tcpip/stream/stream_access.h"

namespace tcpip::internal {

void read_struct(StreamReader& reader, std::span<std::byte> out,
                 const Wait& wait) {
  const Call call{"read_into", wait};
  StreamAccess::receiver(reader, call).read_exactly(call, out);
}

bool try_read_struct(StreamReader& reader, std::span<std::byte> out) {
  const char* const operation = "try_read_into";
  return StreamAccess::receiver(reader, {operation, {}})
      .try_read_exactly(operation, out);
}

void write_structs(StreamWriter& writer,
                   std::span<const std::string_view> parts, const Wait& wait) {
  // No limit of unsent bytes: the message is taken unless the stop is already
  // requested.
  const Call call{"write_from", wait};
  StreamAccess::sender(writer, call.operation)
      .write_and_drain(call, parts, std::numeric_limits<std::size_t>::max());
}

}  // namespace tcpip::internal
