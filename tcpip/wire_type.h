// Which types may be sent as the bytes that they have in memory; pack() and
// unpack(). The counterpart of ctypes.Structure.
//
//   struct Header {
//     BigEndian<std::uint32_t> id{};
//     BigEndian<double> tai{};
//     LittleEndian<std::int16_t> axis{};
//   };
//   std::string bytes = pack(Header{.id = 5, .tai = now, .axis = -1});
//
// Exactly the struct's bytes in memory are sent. A plain number is therefore
// sent in this machine's byte order. BigEndian and LittleEndian (byte_order.h)
// have a fixed one; they need no alignment and so make no padding.
//
// The compiler refuses everything else, with a message that says what to do:
// types that are not trivially copyable, pointers and references, unions, and
// padding (the unused bytes before an aligned member, which hold whatever was
// in memory before). See allow_padding and allow_opaque.
//
// Received values are not checked. If the peer may send anything, do not use
//  * bool: using one with a byte other than 0 and 1 is undefined. Use
//    BigEndian<bool>, which reads every byte but 0 as true, or std::uint8_t;
//  * an enum without an underlying type, for the same reason. With one
//    (enum class, or enum E : std::uint8_t) every value is defined, but it may
//    not be one of your enumerators.
//
// Threads: values.
#ifndef TCPIP_WIRE_TYPE_H_
#define TCPIP_WIRE_TYPE_H_

#include "tcpip/version.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tcpip/byte_order.h"
#include "tcpip/error.h"
#include "tcpip/wait.h"

namespace tcpip {

// Set it for a struct that is meant to have padding, as the peer's struct has
// too. Padding is sent as zeros, never as what memory held; received padding is
// ignored. At namespace scope, before the first use:
//   template <>
//   inline constexpr bool tcpip::allow_padding<MyStruct> = true;
template <class T>
inline constexpr bool allow_padding = false;

// Set it for a struct that the compiler cannot look through: one with a union,
// with bit-fields or std::complex (clang), or without a constexpr constructor.
// The struct is sent byte by byte. Only padding that the compiler finds is
// cleared, so clear such an object (std::memset) before you fill it in. You
// must make sure that it holds no pointer.
template <class T>
inline constexpr bool allow_opaque = false;

namespace internal {

template <class T>
struct PlainBytes {
  std::array<std::byte, sizeof(T)> bytes;
};

// Unlike a std::byte, a signed char cannot be made from a byte of padding.
template <class T>
struct DefiniteBytes {
  signed char bytes[sizeof(T)];
};

struct ByteOne {
  unsigned char value = 1;
};
template <class T>
struct BytesOne {
  ByteOne bytes[sizeof(T)];
};

// C++20 cannot list a struct's members, but a std::bit_cast at compile time
// makes the compiler look at each of them. Each of these functions is a
// constant expression only if what its name says is true. They have no loops:
// compilers limit the number of steps, and a struct may have a megabyte.
template <class T>
constexpr bool has_no_pointer() {
  static_cast<void>(std::bit_cast<T>(PlainBytes<T>{}));
  return true;
}
template <class T>
constexpr bool has_no_gap() {
  static_cast<void>(
      std::bit_cast<DefiniteBytes<T>>(std::bit_cast<T>(PlainBytes<T>{})));
  return true;
}
// gcc counts the unused bytes of a long double as definite. But it refuses to
// make a long double from this pattern, which is not a number on x87.
template <class T>
constexpr bool has_no_long_double() {
#if !defined(__clang__)
  static_cast<void>(std::bit_cast<T>(BytesOne<T>{}));
#endif
  return true;
}

template <class T>
concept VisibleBytes = requires {
  typename std::bool_constant<has_no_pointer<T>()>;
};

template <class T>
concept WithoutGap = requires {
  typename std::bool_constant<has_no_gap<T>()>;
};

template <class T>
concept WithoutLongDouble = requires {
  typename std::bool_constant<has_no_long_double<T>()>;
};

template <class T>
concept WithoutPadding = WithoutGap<T> &&
    (std::has_unique_object_representations_v<T> || WithoutLongDouble<T>);

template <class T>
concept StructOrNumber = std::is_class_v<T> || std::is_union_v<T> ||
    std::is_arithmetic_v<T> || std::is_enum_v<T>;

template <class T>
concept IsWait = std::is_convertible_v<const T&, Wait>;

}  // namespace internal

// A type that may be read and written byte by byte: a struct, number, enum or
// std::array, trivially copyable and of definite bytes.
template <class T>
concept WireStruct =
    internal::StructOrNumber<T> && !internal::IsWait<T> &&
    std::is_trivially_copyable_v<T> &&
    (allow_opaque<T> || (internal::VisibleBytes<T> &&
                         (allow_padding<T> || internal::WithoutPadding<T>)));

namespace internal {

template <class T>
inline constexpr bool kNever = false;

// WireStruct<T> with an explanation for the human who reads the compiler's
// output.
template <class T>
constexpr void check_wire_struct() {
  if constexpr (IsWait<T>) {
    static_assert(kNever<T>,
                  "tcpip: a wait (duration, Deadline, stop_token, Wait) is not "
                  "data and must be the last argument. To send a time, put it "
                  "into a struct or send its count().");
  } else if constexpr (!StructOrNumber<T>) {
    static_assert(kNever<T>,
                  "tcpip: this is not a struct, number or enum. Put an array "
                  "into a std::array or a struct; pass the object itself, not "
                  "a pointer to it; send text with write_str or write.");
  } else if constexpr (!std::is_trivially_copyable_v<T>) {
    static_assert(kNever<T>,
                  "tcpip: this type cannot be sent as bytes because it is not "
                  "trivially copyable: it holds a string, a vector, a virtual "
                  "function, a constructor that copies... Use only numbers, "
                  "enums, std::array, and structs of them.");
  } else if constexpr (allow_opaque<T>) {
  } else if constexpr (!VisibleBytes<T>) {
    static_assert(kNever<T>,
                  "tcpip: this type holds a pointer or reference (string_view "
                  "and span do), and what it points to would not be sent: put "
                  "the data itself into the struct. Or the compiler cannot "
                  "look through this type: it holds a union (std::optional) "
                  "or, for clang, a bit-field; or it has constructors and none "
                  "is constexpr: make one constexpr. If there is no pointer "
                  "inside, opt in with 'template <> inline constexpr bool "
                  "tcpip::allow_opaque<MyStruct> = true;'.");
  } else if constexpr (!allow_padding<T> && !WithoutPadding<T>) {
    static_assert(kNever<T>,
                  "tcpip: this struct has padding: bytes that belong to no "
                  "member. Use tcpip::BigEndian or LittleEndian members, which "
                  "need no alignment; or name the gaps, as in "
                  "'std::array<std::uint8_t, 4> spare{};'; or pack the struct. "
                  "If the peer's struct has this padding too, opt in with "
                  "'template <> inline constexpr bool "
                  "tcpip::allow_padding<MyStruct> = true;'.");
  }
}

#if !__has_builtin(__builtin_clear_padding)
// clang's limit of steps allows a constant expression to search this many
// bytes.
inline constexpr std::size_t kMaxPadded = 128 * 1024;

// 0xff for a byte of a member, 0 for a byte of padding. (Only a bit-field could
// share a byte with padding, and these compilers do not look into those.)
template <class T>
constexpr std::array<std::byte, sizeof(T)> find_members() {
  std::array<std::byte, sizeof(T)> result{};
  const auto probe =
      std::bit_cast<PlainBytes<T>>(std::bit_cast<T>(PlainBytes<T>{}));
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    if (__builtin_constant_p(probe.bytes[i])) result[i] = std::byte{0xff};
  }
  return result;
}
template <class T>
inline constexpr std::array<std::byte, sizeof(T)> kMembers = find_members<T>();
#endif

// Zeroes the padding of the T whose bytes these are.
template <class T>
void clear_padding(std::byte* bytes) noexcept {
#if __has_builtin(__builtin_clear_padding)
  __builtin_clear_padding(reinterpret_cast<T*>(bytes));
#else
  if constexpr (VisibleBytes<T>) {
    static_assert(sizeof(T) <= kMaxPadded,
                  "tcpip: with this compiler a struct of more than 128 KiB "
                  "must not have padding: name the gaps, as in "
                  "'std::array<std::uint8_t, 4> spare{};'.");
    if constexpr (sizeof(T) <= kMaxPadded) {
      for (std::size_t i = 0; i < sizeof(T); ++i) bytes[i] &= kMembers<T>[i];
    }
  }
#endif
}

// The bytes of a struct: those of the object itself if it has no padding, else
// those of a copy with the padding cleared.
template <class T, bool = WithoutPadding<T>>
class WireView {
 public:
  std::string_view of(const T& value) noexcept {
    return {reinterpret_cast<const char*>(std::addressof(value)), sizeof(T)};
  }
};

template <class T>
class WireView<T, false> {
 public:
  WireView() noexcept {}  // leaves the copy as it is
  std::string_view of(const T& value) noexcept {
    std::memcpy(copy_, std::addressof(value), sizeof(T));
    clear_padding<T>(copy_);
    return {reinterpret_cast<const char*>(copy_), sizeof(T)};
  }

 private:
  alignas(T) std::byte copy_[sizeof(T)];
};

// Copies of more bytes than this are made on the heap.
inline constexpr std::size_t kMaxStackCopy = 4096;

template <class Send, class... Ts>
void pack_structs(const Send& send, const Wait& wait, const Ts&... structs) {
  static_assert(sizeof...(Ts) > 0, "tcpip: there is no struct to write.");
  (check_wire_struct<Ts>(), ...);
  if constexpr ((WireStruct<Ts> && ...)) {
    using Views = std::tuple<WireView<Ts>...>;
    const auto send_views = [&](auto&... views) {
      const std::array<std::string_view, sizeof...(Ts)> parts{
          views.of(structs)...};
      send(std::span<const std::string_view>(parts), wait);
    };
    if constexpr (sizeof(Views) <= kMaxStackCopy) {
      Views views;
      std::apply(send_views, views);
    } else {
      const auto views = std::make_unique_for_overwrite<Views>();
      std::apply(send_views, *views);
    }
  }
}

// What every write_from() does with its arguments: one or more structs, then
// perhaps a Wait or what converts to one. Makes one call of
//   send(std::span<const std::string_view> parts, const Wait& wait)
// The parts are the bytes of the structs, in order, and valid during that call.
template <class Send, class... Args>
void pack_wire(const Send& send, const Args&... args) {
  static_assert(sizeof...(Args) > 0, "tcpip: there is no struct to write.");
  if constexpr (sizeof...(Args) > 0) {
    const auto all = std::tie(args...);
    constexpr std::size_t kLast = sizeof...(Args) - 1;
    if constexpr (IsWait<std::tuple_element_t<kLast, std::tuple<Args...>>>) {
      const Wait& wait = std::get<kLast>(all);
      [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
        pack_structs(send, wait, std::get<kIndex>(all)...);
      }
      (std::make_index_sequence<kLast>());
    } else {
      pack_structs(send, Wait(), args...);
    }
  }
}

// The memory of a struct, to read into.
template <class T>
std::span<std::byte> wire_target(T& data) noexcept {
  if constexpr (std::is_copy_assignable_v<T>) {
    check_wire_struct<T>();
    return {reinterpret_cast<std::byte*>(std::addressof(data)), sizeof(T)};
  } else {
    static_assert(kNever<T>,
                  "tcpip: this cannot be read into: it is const, or has "
                  "members that cannot be assigned.");
    return {};
  }
}

}  // namespace internal

// The bytes of all structs, one after the other.
template <class... Ts>
std::string pack(const Ts&... structs) {
  std::string result;
  internal::pack_structs(
      [&result](std::span<const std::string_view> parts, const Wait&) {
        result.reserve((sizeof(Ts) + ... + 0));
        for (const std::string_view part : parts) result += part;
      },
      Wait(), structs...);
  return result;
}

// The reverse for one struct: for example for a body whose type the header has
// told, and which was read with read_exactly_view(). Throws
// std::invalid_argument, with `data` untouched, unless there are sizeof(T)
// bytes.
template <class T>
void unpack(std::string_view bytes, T& data) {
  const std::span<std::byte> target = internal::wire_target(data);
  if (bytes.size() != target.size()) {
    throw std::invalid_argument("unpack: " + std::to_string(bytes.size()) +
                                " bytes for a struct of " +
                                std::to_string(target.size()));
  }
  std::memcpy(target.data(), bytes.data(), target.size());
}

}  // namespace tcpip

#endif  // TCPIP_WIRE_TYPE_H_
