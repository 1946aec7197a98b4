#include "tests/support/tally.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace tcpip_tests {
namespace {

// constinit: calls are caught before any constructor of a global runs.
constinit thread_local Tally* attached = nullptr;

}  // namespace

std::string to_string(const Counts& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    if (!text.empty()) text += ", ";
    text += name + " " + std::to_string(count);
  }
  return text;
}

Counts parse_counts(std::string_view text) {
  Counts counts;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(", "));
    text.remove_prefix(std::min(text.size(), item.size() + 2));
    const std::size_t space = item.find(' ');
    if (space == std::string_view::npos) {
      throw std::invalid_argument("not a count: " + std::string(item));
    }
    counts.emplace(item.substr(0, space),
                   std::stoull(std::string(item.substr(space + 1))));
  }
  return counts;
}

void Tally::attach() noexcept { attached = this; }

void Tally::detach() noexcept { attached = nullptr; }

void Tally::note(std::string_view name) noexcept {
  if (attached != nullptr) attached->add(name.data());
}

void Tally::add(const char* name) noexcept {
  for (Entry& entry : entries_) {
    const char* there = entry.name.load();
    if (there == nullptr && entry.name.compare_exchange_strong(there, name)) {
      there = name;
    }
    if (there == name || std::strcmp(there, name) == 0) {
      ++entry.count;
      return;
    }
  }
  std::abort();  // a count that is lost would make every test pass
}

Counts Tally::counts() const {
  Counts counts;
  for (const Entry& entry : entries_) {
    const char* const name = entry.name.load();
    if (name != nullptr) counts.emplace(name, entry.count.load());
  }
  return counts;
}

std::uint64_t Tally::total() const noexcept {
  std::uint64_t sum = 0;
  for (const Entry& entry : entries_) sum += entry.count.load();
  return sum;
}

}  // namespace tcpip_tests
