// What tests that compare with another program's answers have in common: the
// program, bytes as hexadecimal words, numbers from the environment.
#ifndef TESTS_SUPPORT_ORACLE_H_
#define TESTS_SUPPORT_ORACLE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>
#include <string_view>

#include "tests/support/subprocess.h"

namespace tcpip_tests {

// "-" for no bytes, so that it is a word.
inline std::string hex_of(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string result;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    result += kDigits[byte >> 4];
    result += kDigits[byte & 15];
  }
  return result.empty() ? "-" : result;
}

inline std::string bytes_of(std::string_view hex) {
  std::string result;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    result += static_cast<char>(
        std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return result;
}

inline int from_environment(const char* name, int otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr ? std::atoi(value) : otherwise;
}

// Calls compare(line) for what tests/oracle/SCRIPT has to say of random texts,
// until a comparison fails. TCPIP_ORACLE_TEXTS says how many texts,
// TCPIP_ORACLE_SEED where they begin.
template <class Compare>
void compare_with_oracle(const std::string& script, const Compare& compare) {
  const int count = from_environment("TCPIP_ORACLE_TEXTS", 20000);
  const int seed = from_environment("TCPIP_ORACLE_SEED", 1);
  constexpr int kBatch = 20000;  // what one process says within its time
  for (int done = 0; done < count; done += kBatch) {
    Subprocess oracle({"python3", find_file("tests/oracle/" + script),
                       std::to_string(seed + done),
                       std::to_string(std::min(kBatch, count - done))});
    std::istringstream output(oracle.read_all());
    ASSERT_EQ(oracle.wait(), 0);
    for (std::string line; std::getline(output, line);) {
      compare(line);
      if (testing::Test::HasFailure()) return;
    }
  }
}

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_ORACLE_H_
