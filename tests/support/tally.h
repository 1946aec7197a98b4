// Counts what one thread calls, by name: system calls, and whatever else is
// caught.
//
//   Tally tally;
//   tally.attach();  // to the calling thread
//   ... work ...
//   Tally::detach();
//   EXPECT_EQ(to_string(tally.counts()), "recv 1, send 1");
//
// A program that depends on //tests/support:faults has the calls counted that
// faults.h names; tests/cost adds more.
//
// Threads: counts() may be called from any thread. One tally may be attached to
// several threads. It must outlive the time during which it is attached.
#ifndef TESTS_SUPPORT_TALLY_H_
#define TESTS_SUPPORT_TALLY_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace tcpip_tests {

// The names that are missing have the count 0.
using Counts = std::map<std::string, std::uint64_t, std::less<>>;
// "recv 1, send 1", and back.
std::string to_string(const Counts& counts);
Counts parse_counts(std::string_view text);

class Tally {
 public:
  Tally() = default;
  Tally(const Tally&) = delete;
  Tally& operator=(const Tally&) = delete;

  // The calling thread's calls count from here on, in this tally alone.
  void attach() noexcept;
  // They count nowhere.
  static void detach() noexcept;

  Counts counts() const;
  // All calls, whatever their names.
  std::uint64_t total() const noexcept;

  // For who catches a call: counts it, if the calling thread has a tally. The
  // name is a string literal. Allocates nothing.
  static void note(std::string_view name) noexcept;

 private:
  struct Entry {
    std::atomic<const char*> name{nullptr};
    std::atomic<std::uint64_t> count{0};
  };
  void add(const char* name) noexcept;

  // More names than all that are caught.
  std::array<Entry, 64> entries_;
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_TALLY_H_
