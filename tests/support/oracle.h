// What tests that compare with another program's answers have in common: bytes
// as hexadecimal words, numbers from the environment.
#ifndef TESTS_SUPPORT_ORACLE_H_
#define TESTS_SUPPORT_ORACLE_H_

#include <cstdlib>
#include <string>
#include <string_view>

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

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_ORACLE_H_
