// Text as it goes over the wire.
//
// Threads: pure functions.
#ifndef TCPIP_INTERNAL_TEXT_H_
#define TCPIP_INTERNAL_TEXT_H_

#include <cstddef>
#include <optional>
#include <string_view>

namespace tcpip::internal {

// The index of the first byte that does not belong to well-formed UTF-8 (RFC
// 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
std::optional<std::size_t> find_invalid_utf8(std::string_view text) noexcept;

// Without the white space at both ends that Python's bytes.strip() takes off.
std::string_view strip(std::string_view text) noexcept;

}  // namespace tcpip::internal

#endif  // TCPIP_INTERNAL_TEXT_H_
