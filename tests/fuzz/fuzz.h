// What the fuzzers share: the bytes of an input, taken one after the other as
// the numbers and pieces that a script is made of, and what a finding is.
//
// A fuzzer is one source file that defines fuzz_one(). It throws Finding if
// the library did something wrong. Two programs are made of it: an ordinary
// test (driver_test.cc), and a libFuzzer program (libfuzzer_main.cc).
//
// Threads: for the thread that calls fuzz_one().
#ifndef TESTS_FUZZ_FUZZ_H_
#define TESTS_FUZZ_FUZZ_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace tcpip_fuzz {

// Runs one input. Each fuzzer defines it.
void fuzz_one(std::string_view input);

// Not a std::exception: no code under test may take it for an error of its own.
struct Finding {
  std::string what;
};

inline void require(bool ok, const char* what) {
  if (!ok) throw Finding{what};
}

// Printable, and not too long.
inline std::string shown(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result = std::to_string(bytes.size()) + " bytes \"";
  for (const char c : bytes.substr(0, 200)) {
    if (c >= ' ' && c <= '~' && c != '"' && c != '\\') {
      result += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      result += "\\x";
      result += kDigits[byte >> 4];
      result += kDigits[byte & 15];
    }
  }
  return result + (bytes.size() > 200 ? "...\"" : "\"");
}

inline void require_same(std::string_view ours, std::string_view wanted,
                         const std::string& what) {
  if (ours == wanted) return;
  throw Finding{what + ": " + shown(ours) + " instead of " + shown(wanted)};
}

inline void require_same_size(std::size_t ours, std::size_t wanted,
                              const std::string& what) {
  if (ours == wanted) return;
  throw Finding{what + ": " + std::to_string(ours) + " instead of " +
                std::to_string(wanted)};
}

// Hands out the bytes of an input from the front. At the end all numbers are 0
// and all pieces empty.
class Input {
 public:
  explicit Input(std::string_view bytes) : rest_(bytes) {}

  bool empty() const { return rest_.empty(); }
  std::size_t byte() {
    if (rest_.empty()) return 0;
    const auto result = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    return result;
  }
  bool flag() { return (byte() & 1) != 0; }
  // Less than `end`, which is at most 2^24.
  std::size_t below(std::size_t end) {
    std::size_t value = byte();
    if (end > 0x100) value = value << 8 | byte();
    if (end > 0x10000) value = value << 8 | byte();
    return value % end;
  }
  std::string_view piece(std::size_t size) {
    const std::string_view result = rest_.substr(0, size);
    rest_.remove_prefix(result.size());
    return result;
  }
  std::string_view rest() { return std::exchange(rest_, {}); }

 private:
  std::string_view rest_;
};

}  // namespace tcpip_fuzz

#endif  // TESTS_FUZZ_FUZZ_H_
