#include "tcpip/byte_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <sstream>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>

namespace tcpip {
namespace {

enum class Mode : std::uint16_t { kOff = 0, kTracking = 0x1234 };

struct Endian {
  BigEndian<std::uint16_t> id;
  LittleEndian<double> value;
  BigEndian<Mode> mode;
  std::uint8_t spare = 0;
};

template <class T>
std::string memory_of(const T& value) {
  std::string result(sizeof(T), '\0');
  std::memcpy(result.data(), &value, sizeof(T));
  return result;
}

template <class T>
std::string hex_of(const T& value) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string result;
  for (const char c : memory_of(value)) {
    const auto byte = static_cast<unsigned char>(c);
    result += kDigits[byte >> 4];
    result += kDigits[byte & 15];
  }
  return result;
}

static_assert(alignof(BigEndian<double>) == 1);
static_assert(sizeof(BigEndian<double>) == 8);
static_assert(sizeof(Endian) == 2 + 8 + 2 + 1);
static_assert(std::is_trivially_copyable_v<BigEndian<double>>);
static_assert(std::is_standard_layout_v<Endian>);
static_assert(BigEndian<int>() == 0);
static_assert(BigEndian<int>(-5) == -5 && BigEndian<int>(5) > 4);
static_assert(BigEndian<int>(7).value() == LittleEndian<int>(7).value());
static_assert(BigEndian<Mode>(Mode::kTracking) == Mode::kTracking);

template <class T>
void expect_round_trip(T value) {
  const BigEndian<T> big = value;
  const LittleEndian<T> little = value;
  const T from_big = big;
  const T from_little = little;
  EXPECT_EQ(memory_of(from_big), memory_of(value));
  EXPECT_EQ(memory_of(from_little), memory_of(value));
  const std::string bytes = memory_of(big);
  EXPECT_EQ(std::string(bytes.rbegin(), bytes.rend()), memory_of(little));
}

TEST(WireNumber, BigEndianPutsTheHighestByteFirst) {
  EXPECT_EQ(hex_of(BigEndian<std::uint8_t>(0x12)), "12");
  EXPECT_EQ(hex_of(BigEndian<std::uint16_t>(0x1234)), "1234");
  EXPECT_EQ(hex_of(BigEndian<std::uint32_t>(0x12345678)), "12345678");
  EXPECT_EQ(hex_of(BigEndian<std::uint64_t>(0x123456789abcdef0)),
            "123456789abcdef0");
  EXPECT_EQ(hex_of(BigEndian<std::int8_t>(-2)), "fe");
  EXPECT_EQ(hex_of(BigEndian<std::int16_t>(-2)), "fffe");
  EXPECT_EQ(hex_of(BigEndian<std::int32_t>(-2)), "fffffffe");
  EXPECT_EQ(hex_of(BigEndian<std::int64_t>(-2)), "fffffffffffffffe");
  EXPECT_EQ(hex_of(BigEndian<float>(1.5f)), "3fc00000");
  EXPECT_EQ(hex_of(BigEndian<double>(-1.5)), "bff8000000000000");
  EXPECT_EQ(hex_of(BigEndian<char16_t>(u'\u20ac')), "20ac");
  EXPECT_EQ(hex_of(BigEndian<Mode>(Mode::kTracking)), "1234");
  EXPECT_EQ(hex_of(BigEndian<bool>(true)), "01");
}

TEST(WireNumber, LittleEndianPutsTheLowestByteFirst) {
  EXPECT_EQ(hex_of(LittleEndian<std::uint8_t>(0x12)), "12");
  EXPECT_EQ(hex_of(LittleEndian<std::uint16_t>(0x1234)), "3412");
  EXPECT_EQ(hex_of(LittleEndian<std::uint32_t>(0x12345678)), "78563412");
  EXPECT_EQ(hex_of(LittleEndian<std::uint64_t>(0x123456789abcdef0)),
            "f0debc9a78563412");
  EXPECT_EQ(hex_of(LittleEndian<std::int16_t>(-2)), "feff");
  EXPECT_EQ(hex_of(LittleEndian<float>(1.5f)), "0000c03f");
  EXPECT_EQ(hex_of(LittleEndian<double>(-1.5)), "000000000000f8bf");
  EXPECT_EQ(hex_of(LittleEndian<Mode>(Mode::kTracking)), "3412");
}

template <class T>
class WireNumberOf : public testing::Test {};
using Numbers =
    testing::Types<char, signed char, unsigned char, char8_t, char16_t,
                   char32_t, wchar_t, short, unsigned short, int, unsigned,
                   long, unsigned long, long long, unsigned long long, float,
                   double>;
TYPED_TEST_SUITE(WireNumberOf, Numbers);

TYPED_TEST(WireNumberOf, KeepsEveryValue) {
  using Limits = std::numeric_limits<TypeParam>;
  for (const TypeParam value :
       {TypeParam{}, TypeParam{1}, Limits::lowest(), Limits::max(),
        Limits::min(), static_cast<TypeParam>(Limits::max() / 3)}) {
    expect_round_trip(value);
  }
}

TEST(WireNumber, KeepsTheBitsOfUnusualFloats) {
  using Double = std::numeric_limits<double>;
  const double payload = std::bit_cast<double>(0x7ff8dead0000beefULL);
  for (const double value :
       {-0.0, payload, -payload, Double::infinity(), -Double::infinity(),
        Double::denorm_min(), Double::quiet_NaN()}) {
    expect_round_trip(value);
  }
  const float float_payload = std::bit_cast<float>(0xffc0beefU);
  for (const float value :
       {-0.0f, float_payload, std::numeric_limits<float>::denorm_min()}) {
    expect_round_trip(value);
  }
}

TEST(WireNumber, BoolReadsEveryByteButZeroAsTrue) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto flag =
        std::bit_cast<BigEndian<bool>>(static_cast<unsigned char>(byte));
    EXPECT_EQ(flag, byte != 0) << byte;
  }
}

TEST(WireNumber, TakesEveryValueOfAnEnumWithUnderlyingType) {
  const auto mode =
      std::bit_cast<BigEndian<Mode>>(std::array<std::uint8_t, 2>{0xab, 0xcd});
  EXPECT_EQ(static_cast<std::uint16_t>(mode.value()), 0xabcd);
}

TEST(WireNumber, BehavesAsTheNumber) {
  BigEndian<int> x = 40;
  x += 2;
  EXPECT_EQ(x, 42);
  ++x;
  x -= 3;
  EXPECT_EQ(x, 40);
  x |= 3;
  x &= 0xfe;
  EXPECT_EQ(x, 42);
  EXPECT_EQ(x / 2 + 1, 22);
  EXPECT_TRUE(x < 43 && 41 < x && x != 41);
  switch (x) {
    case 42:
      break;
    default:
      FAIL();
  }
  LittleEndian<int> y = 1;
  y = x;
  EXPECT_EQ(y, x);
  x = {};
  EXPECT_EQ(x, 0);
  const BigEndian<double> angle = 0.5;
  EXPECT_EQ(2 * angle, 1.0);
}

// Does the same to a number and to a WireNumber.
template <class T, class Change>
void expect_same(T start, Change change) {
  T number = start;
  BigEndian<T> big = start;
  LittleEndian<T> little = start;
  change(number);
  change(big);
  change(little);
  EXPECT_EQ(big, number);
  EXPECT_EQ(little, number);
}

TEST(WireNumber, IsChangedAsTheNumberIs) {
  for (const int start : {0, 1, -40, 41, 70'000}) {
    expect_same(start, [](auto& x) { x += 7; });
    expect_same(start, [](auto& x) { x -= 7; });
    expect_same(start, [](auto& x) { x *= 3; });
    expect_same(start, [](auto& x) { x /= 3; });
    expect_same(start, [](auto& x) { x %= 7; });
    expect_same(start, [](auto& x) { x &= 0xf0f0; });
    expect_same(start, [](auto& x) { x |= 0xf0f0; });
    expect_same(start, [](auto& x) { x ^= 0xf0f0; });
    expect_same(start, [](auto& x) { x <<= 3; });
    expect_same(start, [](auto& x) { x >>= 3; });
    expect_same(start, [](auto& x) { ++x; });
    expect_same(start, [](auto& x) { --x; });
    expect_same(start, [start](auto& x) {
      EXPECT_EQ(x++, start);
      EXPECT_EQ(x--, start + 1);
      EXPECT_EQ(x--, start);
    });
    expect_same(start, [](auto& x) { (x += 2) *= 3; });
  }
  BigEndian<std::uint16_t> small = 1000;
  small *= 1.5;  // 1.5 does not become 1 first
  EXPECT_EQ(small, 1500);
  small -= 1501;
  EXPECT_EQ(small, 0xffff);
  ++small;
  EXPECT_EQ(small, 0);
  expect_same(2.5, [](auto& x) { x *= 3; });
  expect_same(2.5, [](auto& x) { x /= 2; });
  expect_same(2.5, [](auto& x) { EXPECT_EQ(x--, 2.5); });
  expect_same(true, [](auto& x) { x &= false; });
  LittleEndian<int> other = 6;
  BigEndian<int> x = 7;
  x *= other;
  EXPECT_EQ(x, 42);
}

TEST(WireNumber, IsUsedWhereANumberIs) {
  const BigEndian<std::uint32_t> id = 42;
  const BigEndian<std::uint32_t> larger = 43;
  EXPECT_EQ(std::max(id, larger), 43u);
  EXPECT_EQ(std::max<std::uint32_t>(id, 50), 50u);
  const bool has_id = id != 0;
  EXPECT_EQ(has_id ? id.value() : 0, 42u);
  EXPECT_EQ(has_id ? id : larger, 42u);
  EXPECT_EQ(std::to_string(id), "42");
  std::ostringstream text;
  text << id << ' ' << LittleEndian<double>(1.5) << ' '
       << BigEndian<std::int16_t>(-7);
  EXPECT_EQ(text.str(), "42 1.5 -7");
  EXPECT_EQ(format_as(id), 42u);
  static_assert(std::is_same_v<decltype(format_as(id)), std::uint32_t>);
}

TEST(WireNumber, IsAKeyOfAHashTable) {
  std::unordered_map<BigEndian<std::uint32_t>, std::string> names;
  names[42] = "dome";
  names[BigEndian<std::uint32_t>(42)] += " drive";
  EXPECT_EQ(names.at(42), "dome drive");
  EXPECT_EQ(std::unordered_set<LittleEndian<Mode>>({Mode::kOff}).size(), 1u);
  EXPECT_EQ(std::hash<BigEndian<double>>()(0.0),
            std::hash<BigEndian<double>>()(-0.0));
}

// Without limits of its own, max() would be 0 and say nothing.
TEST(WireNumber, HasTheLimitsOfTheNumber) {
  using Limits = std::numeric_limits<BigEndian<std::int16_t>>;
  static_assert(Limits::is_specialized && Limits::is_integer);
  EXPECT_EQ(Limits::max(), 32767);
  EXPECT_EQ(Limits::lowest(), -32768);
  EXPECT_TRUE(std::numeric_limits<LittleEndian<double>>::has_quiet_NaN);
}

TEST(WireNumber, ComparesWithinADefaultedComparison) {
  struct Version {
    BigEndian<std::uint16_t> major;
    BigEndian<std::uint16_t> minor;
    bool operator==(const Version&) const = default;
    auto operator<=>(const Version&) const = default;
  };
  EXPECT_EQ((Version{.major = 1, .minor = 2}), (Version{1, 2}));
  EXPECT_LT((Version{1, 255}), (Version{1, 256}));
}

TEST(WireNumber, WorksInConstantExpressions) {
  constexpr Endian kHeader{.id = 5, .value = 1.5, .mode = Mode::kTracking};
  static_assert(kHeader.id == 5 && kHeader.value == 1.5);
  EXPECT_EQ(hex_of(kHeader), "0005000000000000f83f123400");
}

// That this compiles is the test: the project compiles with -Wextra, and
// --config=ci makes an error of each warning.
TEST(WireNumber, MembersThatAnInitialiserLeavesOutAreZeroAndMakeNoWarning) {
  struct Header {
    BigEndian<std::uint32_t> id{};
    BigEndian<double> tai{};
    std::array<LittleEndian<std::int16_t>, 2> axes{};
    BigEndian<Mode> mode{};
  };
  const Header first{.id = 5};
  EXPECT_EQ(hex_of(first), "00000005" + std::string(2 * (8 + 4 + 2), '0'));
  const Header inner{.tai = 1.5, .mode = Mode::kTracking};
  EXPECT_EQ(inner.id, 0u);
  EXPECT_EQ(inner.tai, 1.5);
  EXPECT_EQ(inner.axes[1], 0);
  EXPECT_EQ(inner.mode, Mode::kTracking);
  const Header positional{5};
  EXPECT_EQ(positional.tai, 0.0);
}

TEST(WireNumber, IsZeroUnlessInitialised) {
  alignas(Endian) unsigned char memory[sizeof(Endian)];
  std::memset(memory, 0xff, sizeof memory);
  const auto* const endian = new (memory) Endian;
  EXPECT_EQ(hex_of(*endian), std::string(2 * sizeof(Endian), '0'));
}

}  // namespace
}  // namespace tcpip
