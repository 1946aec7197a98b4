#include "tcpip/stream/sole_reader.h"

#include <fmt/format.h>

namespace tcpip::internal {

SecondReaderError::SecondReaderError(const char* operation)
    : std::logic_error(fmt::format(
          "{}: another thread is already reading this stream", operation)) {}

}  // namespace tcpip::internal
