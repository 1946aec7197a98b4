#include "tcpip/stream/separator.h"

#include <fmt/format.h>

#include <stdexcept>

namespace tcpip::internal {

void throw_empty_separator(const char* operation) {
  throw std::invalid_argument(
      fmt::format("{}: a separator must have at least one byte", operation));
}

SeparatorSearch::Long::Long(std::string_view bytes)
    : separator(bytes), fallback(bytes.size()) {
  std::size_t length = 0;
  for (std::size_t i = 1; i < separator.size(); ++i) {
    while (length > 0 && separator[i] != separator[length]) {
      length = fallback[length - 1];
    }
    if (separator[i] == separator[length]) ++length;
    fallback[i] = length;
  }
}

// The bytes before `from` were given to the calls before.
std::optional<Match> SeparatorSearch::Long::find(std::string_view data,
                                                 std::size_t from) {
  for (std::size_t i = from; i < data.size(); ++i) {
    if (matched == 0) {
      i = data.find(separator.front(), i);
      if (i == data.npos) return std::nullopt;
    }
    while (matched > 0 && data[i] != separator[matched]) {
      matched = fallback[matched - 1];
    }
    if (data[i] == separator[matched]) ++matched;
    if (matched == separator.size()) {
      return Match{i + 1 - separator.size(), i + 1};
    }
  }
  return std::nullopt;
}

std::optional<Match> SeparatorSearch::find(std::string_view data,
                                           SeparatorSpan separators) {
  const bool at_once = empty() && are_short(separators);
  if (at_once) {
    // What is found here is not worth remembering: it is taken next.
    const std::optional<Match> match = find_any(data, separators, 0);
    if (match || data.empty()) return match;
  }
  if (!is_for(separators)) begin(separators);
  if (at_once) {
    scanned_ = data.size();
    return std::nullopt;
  }
  if (found_) return found_;
  if (separators.size() == 1 && long_.empty()) {
    found_ = find_one(data, separators.front(), scanned_);
  } else {
    found_ = find_in_steps(
        data, scanned_, [&](std::string_view begin, std::size_t from) {
          std::optional<Match> best;
          auto next_long = long_.begin();
          for (const std::string_view separator : separators) {
            const std::optional<Match> match =
                separator.size() <= kShort ? find_one(begin, separator, from)
                                           : (next_long++)->find(begin, from);
            if (!match || (best && !is_better(*match, *best))) continue;
            best = match;
            begin = begin.substr(0, match->end);
          }
          return best;
        });
  }
  scanned_ = found_ ? found_->end : data.size();
  return found_;
}

void SeparatorSearch::took(std::size_t n) noexcept {
  // Behind a match, the state of the long separators is not known.
  if (n >= scanned_ || (found_ && n > found_->start)) {
    forget();
    return;
  }
  scanned_ = scanned_ - n;
  if (found_) {
    found_ = Match{found_->start - n, found_->end - n};
    return;
  }
  for (Long& each : long_) {
    // What began with a byte that is gone does not count.
    while (each.matched > scanned_) {
      each.matched = each.fallback[each.matched - 1];
    }
  }
}

bool SeparatorSearch::is_for(SeparatorSpan separators) const noexcept {
  if (separators.size() != sizes_.size()) return false;
  std::string_view rest = bytes_;
  for (std::size_t i = 0; i < sizes_.size(); ++i) {
    if (separators[i] != rest.substr(0, sizes_[i])) return false;
    rest.remove_prefix(sizes_[i]);
  }
  return true;
}

void SeparatorSearch::begin(SeparatorSpan separators) {
  forget();
  sizes_.clear();  // for nothing, if there is no memory for the rest
  bytes_.clear();
  long_.clear();
  sizes_.reserve(separators.size());
  for (const std::string_view separator : separators) {
    bytes_ += separator;
    if (separator.size() > kShort) long_.emplace_back(separator);
  }
  for (const std::string_view separator : separators) {
    sizes_.push_back(separator.size());
  }
}

void SeparatorSearch::forget() noexcept {
  scanned_ = 0;
  found_.reset();
  for (Long& each : long_) each.matched = 0;
}

}  // namespace tcpip::internal
