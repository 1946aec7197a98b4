#include "tcpip/stream/separator.h"

#include <fmt/format.h>

#include <stdexcept>

namespace tcpip::internal {
namespace {

// A size precedes the bytes of each separator, so that no two lists have the
// same key.
std::string key_of(SeparatorSpan separators) {
  std::string key;
  for (const std::string_view separator : separators) {
    key += fmt::format("{}:", separator.size());
    key += separator;
  }
  return key;
}

}  // namespace

void throw_empty_separator(const char* operation) {
  throw std::invalid_argument(
      fmt::format("{}: a separator must have at least one byte", operation));
}

std::size_t SearchMemory::recall(SeparatorSpan separators) const {
  return scanned_ != 0 && separators_ == key_of(separators) ? scanned_ : 0;
}

void SearchMemory::keep(SeparatorSpan separators, std::size_t scanned) {
  scanned_ = 0;  // if key_of() throws, nothing is remembered
  separators_ = key_of(separators);
  scanned_ = scanned;
}

}  // namespace tcpip::internal
