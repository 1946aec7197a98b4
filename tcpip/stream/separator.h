// Searches received bytes for the separator that ends a message, and remembers
// how far an interrupted search has come. The time is linear in the bytes,
// whatever the bytes and the separators are: the peer chooses the bytes.
//
// Threads: the functions may be called from any thread; a SeparatorSearch
// belongs to the reading thread.
#ifndef TCPIP_STREAM_SEPARATOR_H_
#define TCPIP_STREAM_SEPARATOR_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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

// A separator is short if comparing it at every byte of a message costs little.
constexpr std::size_t kShort = 32;
inline bool are_short(SeparatorSpan separators) noexcept {
  return std::all_of(
      separators.begin(), separators.end(),
      [](std::string_view separator) { return separator.size() <= kShort; });
}

// The first occurrence of `separator` in `data` whose last byte has an index of
// at least `from`. The separator has at least one byte, and is short.
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

// True if `match` is to be preferred to `other`: the one that ends first; if
// two end at the same byte, the shorter.
inline bool is_better(const Match& match, const Match& other) noexcept {
  return match.end < other.end ||
         (match.end == other.end && match.start > other.start);
}

// Calls find(begin of data, from) for longer and longer beginnings, until it
// returns a match. A find() that looks for one separator after the other thus
// reads little behind a match, and the same bytes are not read again and again
// for a separator that is not among them.
template <class Find>
std::optional<Match> find_in_steps(std::string_view data, std::size_t from,
                                   Find find) {
  for (std::size_t step = 16; from < data.size(); step *= 2) {
    const std::size_t end = from + std::min(step, data.size() - from);
    if (const std::optional<Match> match = find(data.substr(0, end), from)) {
      return match;
    }
    from = end;
  }
  return std::nullopt;
}

// As find_one() for several separators: the one that is_better().
inline std::optional<Match> find_any(std::string_view data,
                                     SeparatorSpan separators,
                                     std::size_t from) noexcept {
  if (separators.size() == 1) return find_one(data, separators.front(), from);
  return find_in_steps(
      data, from, [separators](std::string_view begin, std::size_t start) {
        std::optional<Match> best;
        for (const std::string_view separator : separators) {
          const std::optional<Match> match = find_one(begin, separator, start);
          if (!match || (best && !is_better(*match, *best))) continue;
          best = match;
          begin = begin.substr(0, match->end);  // a later end would not count
        }
        return best;
      });
}

// A search in the unread bytes that goes on where it has stopped, when more
// bytes have come.
class SeparatorSearch {
 public:
  // True if the next find() begins with the first unread byte. May be called
  // while another thread is inside find().
  bool empty() const noexcept {
    return scanned_.load(std::memory_order_relaxed) == 0;
  }
  // The first of these separators in `data`, which is all that is unread. Goes
  // on where the call before has stopped if that was for the same separators.
  // Throws std::bad_alloc; then nothing is remembered.
  std::optional<Match> find(std::string_view data, SeparatorSpan separators);
  // To be called when n bytes are taken from the front of the unread ones,
  // unless empty().
  void took(std::size_t n) noexcept;

 private:
  // A separator that is not short, with what the algorithm of Knuth, Morris and
  // Pratt needs. It looks at each byte once.
  struct Long {
    explicit Long(std::string_view bytes);

    std::optional<Match> find(std::string_view data, std::size_t from);

    std::string separator;
    // fallback[i]: how many bytes of the beginning of the separator are also
    // the end of its first i + 1 bytes, not counting all of these.
    std::vector<std::size_t> fallback;
    // How many bytes at the end of those scanned begin the separator.
    std::size_t matched = 0;
  };

  bool is_for(SeparatorSpan separators) const noexcept;
  void begin(SeparatorSpan separators);
  void forget() noexcept;

  // No separator ends in so many unread bytes; if there is a match, its end.
  std::atomic<std::size_t> scanned_{0};
  std::optional<Match> found_;
  // What was searched for: all bytes, one separator behind the other.
  std::string bytes_;
  std::vector<std::size_t> sizes_;
  std::vector<Long> long_;
};

}  // namespace tcpip::internal

#endif  // TCPIP_STREAM_SEPARATOR_H_
