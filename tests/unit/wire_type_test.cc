#include "tcpip/wire_type.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <bitset>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace tcpip {
namespace {

using std::string_literals::operator""s;

enum class Mode : std::uint16_t { kOff = 0, kTracking = 0x1234 };
enum Old { kOldA, kOldB };

struct Native {
  std::int32_t id;
  float angle;
  double tai;
};
struct Arrays {
  double position[3];
  std::array<std::int16_t, 4> counts;
  char name[8];
};
struct Nested {
  Native native;
  Arrays arrays[2];
};
struct Flags {
  bool on;
  bool ready;
  Mode mode;
  Old old;
};
struct Derived : Native {
  double more;
};
struct __attribute__((packed)) PackedByAttribute {
  char kind;
  double value;
};
#pragma pack(push, 1)
struct PackedByPragma {
  std::uint8_t kind;
  std::uint32_t count;
  long long value;
};
#pragma pack(pop)
struct Endian {
  BigEndian<std::uint16_t> id;
  LittleEndian<double> value;
  BigEndian<Mode> mode;
  std::uint8_t spare = 0;
};
struct WithBits {
  std::bitset<64> bits;
  std::array<std::byte, 8> bytes;
};
struct WithTime {
  std::chrono::nanoseconds time;
};
class WithConstructor {
 public:
  constexpr explicit WithConstructor(int value) : value_(value) {}
  int value() const { return value_; }

 private:
  int value_;
};

struct GapInside {
  std::int32_t id;
  double tai;
};
struct GapBehind {
  double tai;
  char kind;
};
struct GapNested {
  GapInside inner;
  double more;
};
struct GapInArray {
  GapBehind items[3];
};
struct GapInBase : GapBehind {
  std::uint64_t more;
};
struct Empty {};
struct LongDouble {
  long double value;
};
struct __attribute__((packed)) PackedLongDouble {
  char kind;
  long double value;
};

struct WithPointer {
  const char* text;
};
struct WithReference {
  int& target;
};
struct WithMemberPointer {
  int Native::*member;
};
struct WithFunction {
  void (*function)();
};
struct WithView {
  std::string_view text;
};
struct WithSpan {
  std::span<const int> items;
};
struct PointerBehindGap {
  char kind;
  void* pointer;
};
union Union {
  std::int32_t whole;
  std::int16_t halves[2];
};
struct WithUnion {
  Union u;
  std::int32_t id;
};
struct WithOptional {
  std::optional<int> maybe;
};
struct BitFields {
  unsigned a : 12;
  unsigned b : 20;
};
struct BitFieldsWithGap {
  unsigned a : 3;
  unsigned b : 20;
};
struct WithRuntimeConstructor {
  WithRuntimeConstructor() { value = 5; }
  int value;
};
struct WithString {
  std::string text;
};
struct WithVirtual {
  virtual ~WithVirtual() = default;
  int value = 0;
};
struct WithCopyConstructor {
  WithCopyConstructor() = default;
  WithCopyConstructor(const WithCopyConstructor& other) : value(other.value) {}
  int value = 0;
};

static_assert(WireStruct<Native>);
static_assert(WireStruct<Arrays>);
static_assert(WireStruct<Nested>);
static_assert(WireStruct<Flags>);
static_assert(WireStruct<Derived>);
static_assert(WireStruct<PackedByAttribute>);
static_assert(WireStruct<PackedByPragma>);
static_assert(WireStruct<Endian>);
static_assert(WireStruct<WithBits>);
static_assert(WireStruct<WithTime>);
static_assert(WireStruct<WithConstructor>);
static_assert(WireStruct<int> && WireStruct<double> && WireStruct<bool>);
static_assert(WireStruct<Mode> && WireStruct<std::byte>);
static_assert(WireStruct<std::array<float, 5>>);
static_assert(WireStruct<BigEndian<float>>);

static_assert(!WireStruct<GapInside>);
static_assert(!WireStruct<GapBehind>);
static_assert(!WireStruct<GapNested>);
static_assert(!WireStruct<GapInArray>);
static_assert(!WireStruct<GapInBase>);
static_assert(!WireStruct<Empty>);
static_assert(!WireStruct<std::array<GapInside, 2>>);
#if defined(__x86_64__) || defined(__i386__)
static_assert(!WireStruct<LongDouble>);
static_assert(!WireStruct<PackedLongDouble>);
static_assert(!WireStruct<long double>);
#endif

static_assert(!WireStruct<WithPointer>);
static_assert(!WireStruct<WithReference>);
static_assert(!WireStruct<WithMemberPointer>);
static_assert(!WireStruct<WithFunction>);
static_assert(!WireStruct<WithView>);
static_assert(!WireStruct<WithSpan>);
static_assert(!WireStruct<Union>);
static_assert(!WireStruct<WithUnion>);
static_assert(!WireStruct<WithOptional>);
static_assert(!WireStruct<BitFieldsWithGap>);
#if defined(__clang__)
static_assert(!WireStruct<BitFields>);
#else
static_assert(WireStruct<BitFields>);
#endif
static_assert(!WireStruct<WithRuntimeConstructor>);
static_assert(!WireStruct<int*>);
static_assert(!WireStruct<std::nullptr_t>);
static_assert(!WireStruct<char[4]>);

static_assert(!WireStruct<WithString>);
static_assert(!WireStruct<WithVirtual>);
static_assert(!WireStruct<WithCopyConstructor>);
static_assert(!WireStruct<std::vector<int>>);

// These end a list of structs; they are no data.
static_assert(!WireStruct<std::chrono::seconds>);
static_assert(!WireStruct<Deadline>);
static_assert(!WireStruct<std::stop_token>);
static_assert(!WireStruct<Wait>);

// Compilers limit the steps of a constant expression; an image must do.
struct Image {
  BigEndian<std::uint32_t> width;
  std::array<std::uint8_t, 1024 * 1024> pixels;
};
static_assert(WireStruct<Image>);

// The same as those above, but with their padding or opacity allowed.
struct Padded {
  char kind;
  double value;
  std::int16_t count;
  float angle[2];
  std::uint8_t last;
};
struct PaddedNested {
  std::uint8_t first;
  Padded items[2];
  LongDouble wide;
};
struct PaddedWithPointer {
  char kind;
  void* pointer;
};
struct BigPadded {
  std::uint8_t kind;
  std::array<double, 1024> values;
};
struct OpaqueUnion {
  Union u;
  std::int32_t id;
};
struct OpaqueBits {
  unsigned a : 3;
  unsigned b : 20;
};

}  // namespace

template <>
inline constexpr bool allow_padding<Padded> = true;
template <>
inline constexpr bool allow_padding<PaddedNested> = true;
template <>
[[maybe_unused]] inline constexpr bool allow_padding<PaddedWithPointer> = true;
template <>
inline constexpr bool allow_padding<BigPadded> = true;
template <>
inline constexpr bool allow_opaque<OpaqueUnion> = true;
template <>
inline constexpr bool allow_opaque<OpaqueBits> = true;

namespace {

static_assert(WireStruct<Padded>);
static_assert(WireStruct<PaddedNested>);
static_assert(WireStruct<BigPadded>);
static_assert(WireStruct<OpaqueUnion>);
static_assert(WireStruct<OpaqueBits>);
static_assert(!WireStruct<PaddedWithPointer>, "a pointer is no padding");

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    result += kDigits[byte >> 4];
    result += kDigits[byte & 15];
  }
  return result;
}

template <class T>
std::string hex_of(const T& value) {
  return hex(pack(value));
}

// An object of which every bit that is nobody's is set: what a struct on a used
// stack looks like.
template <class T>
struct Dirty {
  Dirty() { std::memset(bytes, 0xff, sizeof bytes); }
  T& value() { return *std::launder(reinterpret_cast<T*>(bytes)); }
  alignas(T) std::byte bytes[sizeof(T)];
};

static_assert(sizeof(Endian) == 2 + 8 + 2 + 1);

// pack and unpack ------------------------------------------------------------

TEST(Pack, IsTheMemoryOfAStructWithoutPadding) {
  const Native native{-7, 1.5f, 2.5};
  const std::string bytes = pack(native);
  ASSERT_EQ(bytes.size(), sizeof native);
  EXPECT_EQ(std::memcmp(bytes.data(), &native, sizeof native), 0);
}

TEST(Pack, PutsStructsOneAfterTheOther) {
  EXPECT_EQ(hex(pack(BigEndian<std::uint16_t>(1), PackedByPragma{2, 0, 0},
                     std::uint8_t{3}, BigEndian<std::uint16_t>(4))),
            "0001"
            "02000000000000000000000000"
            "03"
            "0004");
}

TEST(Pack, TakesAStructAtAnyAddress) {
  // As the member of a packed struct, or in a buffer.
  alignas(8) std::array<std::byte, sizeof(PackedByAttribute) + 8> memory{};
  for (std::size_t offset = 0; offset < 8; ++offset) {
    const PackedByAttribute source{'k', 1.25};
    std::memcpy(memory.data() + offset, &source, sizeof source);
    const auto* unaligned =
        reinterpret_cast<const PackedByAttribute*>(memory.data() + offset);
    EXPECT_EQ(pack(*unaligned), pack(source));
  }
}

TEST(Pack, ZeroesPadding) {
  Dirty<Padded> dirty;
  dirty.value().kind = 'k';
  dirty.value().value = 1.5;
  dirty.value().count = -1;
  dirty.value().angle[0] = 2;
  dirty.value().angle[1] = 3;
  dirty.value().last = 0xee;
  if (std::endian::native == std::endian::little) {
    EXPECT_EQ(hex_of(dirty.value()),
              "6b00000000000000"
              "000000000000f83f"
              "ffff0000"
              "00000040"
              "00004040"
              "ee000000");
  }
}

TEST(Pack, LeavesNoStaleByteWhateverTheValues) {
  Dirty<PaddedNested> dirty;
  PaddedNested& all_ones = dirty.value();
  const std::string bytes = pack(all_ones);
  // Every byte of a member is 0xff (a long double has ten), every other 0.
  std::string expected;
  const auto add = [&expected](std::size_t members, std::size_t padding) {
    expected.append(members, '\xff').append(padding, '\0');
  };
  add(1, 7);
  for (int i = 0; i < 2; ++i) {
    add(1, 7);
    add(8, 0);
    add(2, 2);
    add(8, 0);
    add(1, 3);
  }
  add(0, (16 - expected.size() % 16) % 16);
#if defined(__x86_64__)
  add(10, 6);
#else
  add(sizeof(long double), 0);
#endif
  EXPECT_EQ(hex(bytes), hex(expected));
}

TEST(Pack, ZeroesPaddingOfAStructTooBigForTheStack) {
  static_assert(sizeof(BigPadded) > internal::kMaxStackCopy);
  const auto dirty = std::make_unique<Dirty<BigPadded>>();
  const std::string bytes = pack(dirty->value(), std::uint8_t{1});
  EXPECT_EQ(bytes, "\xff"s + std::string(7, '\0') +
                       std::string(8 * 1024, '\xff') + "\x01");
}

TEST(Pack, SendsAnOpaqueStructAsItIs) {
  OpaqueUnion value{};
  value.u.whole = 0x01020304;
  value.id = 5;
  EXPECT_EQ(pack(value), pack(std::int32_t{0x01020304}, std::int32_t{5}));
  OpaqueBits bits{};
  std::memset(&bits, 0, sizeof bits);
  bits.a = 5;
  bits.b = 0xfffff;
  OpaqueBits back{};
  unpack(pack(bits), back);
  EXPECT_EQ(back.a, 5u);
  EXPECT_EQ(back.b, 0xfffffu);
}

TEST(Unpack, FillsAStruct) {
  Endian header;
  unpack(std::string_view("\x00\x05\x00\x00\x00\x00\x00\x00\xf8\x3f"
                          "\x12\x34\x07",
                          13),
         header);
  EXPECT_EQ(header.id, 5);
  EXPECT_EQ(header.value, 1.5);
  EXPECT_EQ(header.mode, Mode::kTracking);
  EXPECT_EQ(header.spare, 7);
}

TEST(Unpack, IgnoresWhatThePaddingHolds) {
  std::string bytes(sizeof(Padded), '\xff');
  const double value = 2.5;
  std::memcpy(bytes.data() + offsetof(Padded, value), &value, sizeof value);
  Padded padded{};
  unpack(bytes, padded);
  EXPECT_EQ(padded.value, 2.5);
  EXPECT_EQ(padded.last, 0xff);
  EXPECT_NE(pack(padded), bytes);
}

TEST(Unpack, RefusesAnotherSizeAndLeavesTheStruct) {
  BigEndian<std::uint32_t> value = 7;
  EXPECT_THROW(unpack("abc", value), std::invalid_argument);
  EXPECT_THROW(unpack("abcde", value), std::invalid_argument);
  EXPECT_THROW(unpack("", value), std::invalid_argument);
  EXPECT_EQ(value, 7u);
}

// internal::pack_wire, which every write_from() goes through -----------------

struct Sent {
  std::vector<std::string> parts;
  Wait wait;
};

template <class... Args>
Sent sent(const Args&... args) {
  Sent result;
  int calls = 0;
  internal::pack_wire(
      [&](std::span<const std::string_view> parts, const Wait& wait) {
        ++calls;
        result.parts.assign(parts.begin(), parts.end());
        result.wait = wait;
      },
      args...);
  EXPECT_EQ(calls, 1);
  return result;
}

TEST(PackWire, TakesWhateverIsAWaitAsTheLastArgument) {
  const std::uint8_t one = 1;
  std::stop_source source;
  const Deadline deadline = Deadline::after(std::chrono::hours(1));
  EXPECT_TRUE(sent(one).wait.is_forever());
  EXPECT_EQ(sent(one, deadline).wait.deadline, deadline);
  EXPECT_EQ(sent(one, source.get_token()).wait.stop, source.get_token());
  EXPECT_TRUE(sent(one, std::chrono::seconds(0)).wait.deadline.has_passed());
  EXPECT_FALSE(sent(one, one, std::chrono::hours(1)).wait.deadline.is_never());
  const Wait both(deadline, source.get_token());
  EXPECT_EQ(sent(one, both).wait.deadline, deadline);
  EXPECT_EQ(sent(one, both).wait.stop, source.get_token());
  EXPECT_EQ(sent(one, both).parts, std::vector{"\x01"s});
}

TEST(PackWire, DoesNotCopyAStructWithoutPadding) {
  const Native native{1, 2, 3};
  internal::pack_wire(
      [&](std::span<const std::string_view> parts, const Wait&) {
        ASSERT_EQ(parts.size(), 1u);
        EXPECT_EQ(static_cast<const void*>(parts[0].data()), &native);
      },
      native);
}

TEST(PackWire, KeepsTheOrderOfCopiedAndUncopiedStructs) {
  Padded padded{};
  padded.kind = 'a';
  Padded other{};
  other.kind = 'b';
  const BigEndian<std::uint16_t> id = 3;
  EXPECT_EQ(sent(padded, id, other).parts,
            (std::vector{pack(padded), pack(id), pack(other)}));
}

}  // namespace
}  // namespace tcpip
