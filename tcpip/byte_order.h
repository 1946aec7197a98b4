// Numbers with a fixed byte order in memory: the members of a binary protocol's
// structs.
//
//   struct Header {
//     BigEndian<std::uint32_t> id{};
//     BigEndian<double> tai{};
//   };
//   Header header{.id = 5};  // tai is 0
//
// A member is zero with and without the `{}` behind its name. The `{}` avoids a
// warning: with -Wextra, g++ warns of every member that an initialiser such as
// {.id = 5} leaves out, unless the struct itself initialises that member.
// (clang warns only of {5}.)
//
// Threads: values.
#ifndef TCPIP_BYTE_ORDER_H_
#define TCPIP_BYTE_ORDER_H_

#include "tcpip/version.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <type_traits>

namespace tcpip {
namespace internal {

template <std::size_t kSize>
struct UnsignedOf;
template <>
struct UnsignedOf<1> {
  using Type = std::uint8_t;
};
template <>
struct UnsignedOf<2> {
  using Type = std::uint16_t;
};
template <>
struct UnsignedOf<4> {
  using Type = std::uint32_t;
};
template <>
struct UnsignedOf<8> {
  using Type = std::uint64_t;
};

constexpr std::uint8_t swap_bytes(std::uint8_t x) noexcept { return x; }
constexpr std::uint16_t swap_bytes(std::uint16_t x) noexcept {
  return __builtin_bswap16(x);
}
constexpr std::uint32_t swap_bytes(std::uint32_t x) noexcept {
  return __builtin_bswap32(x);
}
constexpr std::uint64_t swap_bytes(std::uint64_t x) noexcept {
  return __builtin_bswap64(x);
}

}  // namespace internal

// A number, enum or bool with that byte order in memory. It has alignment 1, is
// zero unless initialised, and converts from and to T, so that it computes and
// compares as a T does. Bits are kept exactly: NaN payloads, -0. A bool is one
// byte; every value but 0 reads as true.
//
// Two things that a T can do this cannot, because it converts to a T and from
// one: `c ? number : 0` and std::max(number, 0) are ambiguous. Write
// `c ? number.value() : 0` and std::max<T>(number, 0).
template <class T, std::endian kOrder>
class TCPIP_EXPORT WireNumber {
  static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>,
                "tcpip: BigEndian and LittleEndian are for numbers and enums.");
  static_assert(!std::is_same_v<T, long double>,
                "tcpip: long double has padding and differs between machines; "
                "use double.");

 public:
  // The number's type in the program.
  using value_type = T;

  constexpr WireNumber() noexcept = default;
  // That number.
  constexpr WireNumber(T value) noexcept : bytes_(store(value)) {}
  // That number from now on.
  constexpr WireNumber& operator=(T value) noexcept {
    bytes_ = store(value);
    return *this;
  }

  // The number as a T.
  constexpr operator T() const noexcept { return value(); }
  constexpr T value() const noexcept {
    const Raw raw = in_order(std::bit_cast<Raw>(bytes_));
    if constexpr (std::is_same_v<T, bool>) {
      return raw != 0;
    } else {
      return std::bit_cast<T>(raw);
    }
  }

  // As those of T.
  template <class Other>
  constexpr WireNumber& operator+=(Other other) noexcept {
    return *this = static_cast<T>(value() + other);
  }
  template <class Other>
  constexpr WireNumber& operator-=(Other other) noexcept {
    return *this = static_cast<T>(value() - other);
  }
  template <class Other>
  constexpr WireNumber& operator*=(Other other) noexcept {
    return *this = static_cast<T>(value() * other);
  }
  template <class Other>
  constexpr WireNumber& operator/=(Other other) noexcept {
    return *this = static_cast<T>(value() / other);
  }
  template <class Other>
  constexpr WireNumber& operator%=(Other other) noexcept {
    return *this = static_cast<T>(value() % other);
  }
  template <class Other>
  constexpr WireNumber& operator&=(Other other) noexcept {
    return *this = static_cast<T>(value() & other);
  }
  template <class Other>
  constexpr WireNumber& operator|=(Other other) noexcept {
    return *this = static_cast<T>(value() | other);
  }
  template <class Other>
  constexpr WireNumber& operator^=(Other other) noexcept {
    return *this = static_cast<T>(value() ^ other);
  }
  template <class Other>
  constexpr WireNumber& operator<<=(Other other) noexcept {
    return *this = static_cast<T>(value() << other);
  }
  template <class Other>
  constexpr WireNumber& operator>>=(Other other) noexcept {
    return *this = static_cast<T>(value() >> other);
  }
  constexpr WireNumber& operator++() noexcept {
    return *this += static_cast<T>(1);
  }
  constexpr WireNumber& operator--() noexcept {
    return *this -= static_cast<T>(1);
  }
  constexpr WireNumber operator++(int) noexcept {
    const WireNumber before = *this;
    ++*this;
    return before;
  }
  constexpr WireNumber operator--(int) noexcept {
    const WireNumber before = *this;
    --*this;
    return before;
  }

  // For fmt::format("{}", number), with fmt 10 and later.
  friend constexpr T format_as(const WireNumber& number) noexcept {
    return number.value();
  }

 private:
  using Raw = typename internal::UnsignedOf<sizeof(T)>::Type;
  using Bytes = std::array<std::byte, sizeof(T)>;

  static constexpr Raw in_order(Raw raw) noexcept {
    return kOrder == std::endian::native ? raw : internal::swap_bytes(raw);
  }
  static constexpr Bytes store(T value) noexcept {
    return std::bit_cast<Bytes>(in_order(std::bit_cast<Raw>(value)));
  }

  Bytes bytes_{};
};

// Network byte order: the most significant byte first.
template <class T>
using BigEndian = WireNumber<T, std::endian::big>;
// The least significant byte first.
template <class T>
using LittleEndian = WireNumber<T, std::endian::little>;

}  // namespace tcpip

// Those of T.
template <class T, std::endian kOrder>
struct std::hash<tcpip::WireNumber<T, kOrder>> {
  std::size_t operator()(
      const tcpip::WireNumber<T, kOrder>& number) const noexcept {
    return std::hash<T>()(number.value());
  }
};
template <class T, std::endian kOrder>
class std::numeric_limits<tcpip::WireNumber<T, kOrder>>
    : public std::numeric_limits<T> {};

#endif  // TCPIP_BYTE_ORDER_H_
