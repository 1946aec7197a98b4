#include "tcpip/stream/sole_reader.h"

#include <fmt/format.h>

#include <stdexcept>

namespace tcpip::internal {

void SoleReader::throw_second_reader(const char* operation) {
  throw std::logic_error(fmt::format(
      "{}: another thread is already reading this stream", operation));
}

}  // namespace tcpip::internal
