// Searches received bytes for the separator that ends a message, and remembers
// how far an interrupted search has come.
//
// Threads: the functions may be called from any thread; a SearchMemory belongs
// to the reading thread.
#ifndef TCPIP_STREAM_SEPARATOR_H_
#define TCPIP_STREAM_SEPARATOR_H_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tcpip::internal {

using SeparatorSpan = std::span<const std::string_view>;

[[noreturn]] void throw_empty_separator(const char* operation);

// Throws std::invalid_argument, naming the operation, if there is no separator
// or if one is empty.
inline void check_separators(SeparatorSpan separators, const char* operation) {
  bool ok = !separators.empty();
  for (const std::string_view separator : separators) {
    ok = ok && !separator.empty();
  }
  if (!ok) throw_empty_separator(operation);
}

// Where a separator stands: [start, end).
struct Match {
  std::size_t start = 0;
  std::size_t end = 0;

  bool operator==(const Match&) const = default;
};

// The first occurrence of `separator` in `data` whose last byte has an index of
// at least `from`. The separator has at least one byte.
inline std::optional<Match> find_one(std::string_view data,
                                     std::string_view separator,
                                     std::size_t from) noexcept {
  // Search for the last byte of the separator. A search that resumes where
  // another has stopped then finds a separator that was half received.
  const std::size_t before = separator.size() - 1;
  const char last = separator.back();
  std::size_t i = std::max(from, before);
  while (i < data.size()) {
    const void* hit = std::memchr(data.data() + i, last, data.size() - i);
    if (hit == nullptr) return std::nullopt;
    i = static_cast<std::size_t>(static_cast<const char*>(hit) - data.data());
    if (before == 0 ||
        std::memcmp(data.data() + i - before, separator.data(), before) == 0) {
      return Match{i - before, i + 1};
    }
    ++i;
  }
  return std::nullopt;
}

// The same for several separators: the one that ends first counts; if two end
// at the same byte, the shorter.
inline std::optional<Match> find_any(std::string_view data,
                                     SeparatorSpan separators,
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

// How far the last search has come if it found nothing, so that the next search
// for the same separators need not begin anew.
class SearchMemory {
 public:
  bool empty() const noexcept { return scanned_ == 0; }
  // How many of the first unread bytes contain no end of these separators. 0 if
  // the last search was for others.
  std::size_t recall(SeparatorSpan separators) const;
  // Throws std::bad_alloc; then nothing is remembered.
  void keep(SeparatorSpan separators, std::size_t scanned);
  // To be called when bytes are taken from the front.
  void forget() noexcept { scanned_ = 0; }

 private:
  std::size_t scanned_ = 0;
  std::string separators_;  // the separators of the search, as one key
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_SEPARATOR_H_
