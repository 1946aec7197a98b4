#include "tcpip/stream/separator.h"

#include <fmt/format.h>

#include <stdexcept>

namespace tcpip::internal {
namespace {

// The sizes stand before the bytes, so that no two lists have the same key.
std::string key_of(SeparatorSpan separators) {
  std::string key;
  for (const std::string_view separator : separators) {
    key += fmt::format("{}:", separator.size());
    key += separator;
  }
  return key;
}

}  // namespace

void check_separators(SeparatorSpan separators, const char* operation) {
  bool ok = !separators.empty();
  for (const std::string_view separator : separators) {
    ok = ok && !separator.empty();
  }
  if (!ok) {
    throw std::invalid_argument(
        fmt::format("{}: a separator must have at least one byte", operation));
  }
}

std::optional<Match> find_any(std::string_view data, SeparatorSpan separators,
                              std::size_t from) noexcept {
  if (separators.size() == 1) return find_one(data, separators.front(), from);
  std::optional<Match> best;
  for (const std::string_view separator : separators) {
    const std::optional<Match> match = find_one(data, separator, from);
    if (!match) continue;
    if (!best || match->end < best->end ||
        (match->end == best->end && match->start > best->start)) {
      best = match;
      data = data.substr(0, match->end);  // a later end would not count
    }
  }
  return best;
}

std::size_t SearchMemory::recall(SeparatorSpan separators) const {
  return scanned_ != 0 && separators_ == key_of(separators) ? scanned_ : 0;
}

void SearchMemory::keep(SeparatorSpan separators, std::size_t scanned) {
  scanned_ = 0;  // what was remembered of other separators is of no use
  separators_ = key_of(separators);
  scanned_ = scanned;
}

}  // namespace tcpip::internal
