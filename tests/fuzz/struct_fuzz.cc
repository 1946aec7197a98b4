// Fuzzes structs read from any bytes: nothing of a struct changes before all of
// it has come, its bytes are kept bit by bit, and each member has the value
// that its bytes mean.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "tcpip/byte_order.h"
#include "tcpip/error.h"
#include "tcpip/socket.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/unique_fd.h"
#include "tcpip/wait.h"
#include "tcpip/wire_struct.h"
#include "tcpip/wire_type.h"
#include "tests/fuzz/fuzz.h"

namespace tcpip_fuzz {

enum class Narrow : std::uint8_t { kZero, kOne };
enum class Wide : std::int64_t { kNone, kSome };
enum Old : std::uint16_t { kOld };

struct Padded {
  std::uint8_t kind = 0;
  std::uint32_t value = 0;
  std::uint16_t count = 0;
};

}  // namespace tcpip_fuzz

template <>
inline constexpr bool tcpip::allow_padding<tcpip_fuzz::Padded> = true;

namespace tcpip_fuzz {
namespace {

using tcpip::BigEndian;
using tcpip::LittleEndian;

// A member of each kind in one byte order.
template <template <class> class Order>
struct Numbers {
  Order<std::int8_t> i8{};
  Order<std::uint8_t> u8{};
  Order<std::int16_t> i16{};
  Order<std::uint16_t> u16{};
  Order<std::int32_t> i32{};
  Order<std::uint32_t> u32{};
  Order<std::int64_t> i64{};
  Order<std::uint64_t> u64{};
  Order<float> f32{};
  Order<double> f64{};
  Order<bool> flag{};
  Order<char> letter{};
  Order<Narrow> narrow{};
  Order<Wide> wide{};
  Order<Old> old{};

  template <class Visit>
  void visit(Visit visit) {
    visit(i8);
    visit(u8);
    visit(i16);
    visit(u16);
    visit(i32);
    visit(u32);
    visit(i64);
    visit(u64);
    visit(f32);
    visit(f64);
    visit(flag);
    visit(letter);
    visit(narrow);
    visit(wide);
    visit(old);
  }
};

template <class T>
using Big = BigEndian<T>;
template <class T>
using Little = LittleEndian<T>;

struct Everything {
  Numbers<Big> big;
  std::uint8_t plain = 0;
  std::array<Narrow, 3> array{};
  std::array<BigEndian<std::uint16_t>, 5> many{};
  Numbers<Little> little;
};

// The bits of a value.
template <class T>
std::uint64_t bits_of(T value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);  // on a little-endian machine
  return bits;
}

std::uint64_t number_in(std::string_view bytes, std::endian order) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::size_t k = order == std::endian::big ? i : bytes.size() - 1 - i;
    value = value << 8 | static_cast<unsigned char>(bytes[k]);
  }
  return value;
}

template <class Number>
std::string_view bytes_of(const Number& number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

void check_numbers(auto& numbers, std::string_view bytes, std::endian order) {
  std::size_t at = 0;
  numbers.visit([&](auto& number) {
    using Value =
        typename std::remove_reference_t<decltype(number)>::value_type;
    const std::string_view own = bytes.substr(at, sizeof number);
    at += sizeof number;
    require_same(bytes_of(number), own, "a member's bytes");
    const Value value = number.value();
    const std::uint64_t wanted = number_in(own, order);
    if constexpr (std::is_same_v<Value, bool>) {
      require(value == (wanted != 0), "a bool's value");
      number = value;
      require(number_in(bytes_of(number), order) == (value ? 1u : 0u),
              "a bool's bytes");
      std::memcpy(&number, own.data(), own.size());
    } else {
      require(bits_of(value) == wanted, "a member's value");
      number = Value();
      number = value;
      require_same(bytes_of(number), own, "a member written back");
    }
  });
  require(at == sizeof numbers, "the members are not all");
}

// Reads one struct, whose bytes come in pieces.
template <class T>
class Reading {
 public:
  Reading() {
    std::array<int, 2> fds{};
    require(
        ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0,
        "no socketpair");
    peer_.reset(fds[1]);
    auto socket = std::make_shared<tcpip::Socket>(tcpip::UniqueFd(fds[0]));
    reader_ = tcpip::StreamReader(socket);
    writer_ = tcpip::StreamWriter(std::move(socket));
    std::memset(static_cast<void*>(&data_), 0x5a, sizeof data_);
  }

  void run(Input& input, std::string_view bytes) {
    const std::string before(sizeof(T), '\x5a');
    while (!bytes.empty()) {
      require(!tcpip::try_read_into(reader_, data_), "a struct out of nothing");
      require_same(image(), before, "a struct that has not come");
      const std::string_view piece = bytes.substr(0, 1 + input.below(64));
      bytes.remove_prefix(piece.size());
      require(::send(peer_.get(), piece.data(), piece.size(), MSG_NOSIGNAL) ==
                  static_cast<ssize_t>(piece.size()),
              "cannot send");
    }
    tcpip::read_into(reader_, data_, tcpip::Wait::none());
    require(reader_.buffered() == 0, "too much has come");
  }
  // What cannot be completed leaves the struct alone.
  void cut(std::string_view bytes) {
    const std::string before = image();
    require(::send(peer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(bytes.size()),
            "cannot send");
    peer_.reset();
    try {
      tcpip::read_into(reader_, data_);
      throw Finding{"a struct out of half its bytes"};
    } catch (const tcpip::IncompleteReadError& e) {
      require_same(e.partial(), bytes, "partial()");
      require(e.expected() == sizeof(T), "expected()");
    }
    require_same(image(), before, "a struct that was cut");
  }
  std::string written() {
    tcpip::write_from(writer_, data_, tcpip::Wait::none());
    std::string result(sizeof(T) + 1, '\0');
    const ssize_t count =
        ::recv(peer_.get(), result.data(), result.size(), MSG_DONTWAIT);
    result.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return result;
  }
  T& data() { return data_; }

 private:
  std::string image() const {
    return {reinterpret_cast<const char*>(&data_), sizeof(T)};
  }

  tcpip::UniqueFd peer_;
  tcpip::StreamReader reader_;
  tcpip::StreamWriter writer_;
  T data_;
};

void fuzz_everything(Input& input, std::string_view bytes) {
  Reading<Everything> reading;
  reading.run(input, bytes);
  Everything& data = reading.data();
  constexpr std::size_t kHalf = sizeof(Numbers<Big>);
  constexpr std::size_t kPlain = kHalf;
  check_numbers(data.big, bytes.substr(0, kHalf), std::endian::big);
  check_numbers(data.little, bytes.substr(sizeof data - kHalf),
                std::endian::little);
  require(data.plain == number_in(bytes.substr(kPlain, 1), std::endian::big),
          "a plain byte");
  for (std::size_t i = 0; i < data.array.size(); ++i) {
    require(static_cast<std::uint64_t>(data.array[i]) ==
                number_in(bytes.substr(kPlain + 1 + i, 1), std::endian::big),
            "an enum in an array");
  }
  for (std::size_t i = 0; i < data.many.size(); ++i) {
    require(
        data.many[i].value() ==
            number_in(bytes.substr(kPlain + 4 + 2 * i, 2), std::endian::big),
        "a number in an array");
  }
  require_same(tcpip::pack(data), bytes, "pack()");
  require_same(reading.written(), bytes, "what write_from() sends");
  Everything again;
  tcpip::unpack(bytes, again);
  require_same(tcpip::pack(again), bytes, "unpack() and pack()");
  const std::size_t size = input.below(300);
  const std::string wrong(size, 'x');
  if (size != bytes.size()) {
    try {
      tcpip::unpack(wrong, again);
      throw Finding{"unpack() takes a wrong size"};
    } catch (const std::invalid_argument&) {
    }
    require_same(tcpip::pack(again), bytes, "after unpack() of a wrong size");
  }
  reading.cut(bytes.substr(0, input.below(sizeof data)));
}

// Padding is sent as zeros, whatever came.
void fuzz_padded(Input& input, std::string bytes) {
  Reading<Padded> reading;
  reading.run(input, bytes);
  std::fill_n(bytes.begin() + 1, 3, '\0');
  std::fill_n(bytes.begin() + 10, 2, '\0');
  require_same(tcpip::pack(reading.data()), bytes, "pack() of padding");
  require_same(reading.written(), bytes, "what write_from() sends of padding");
}

}  // namespace

void fuzz_one(std::string_view bytes) {
  Input input(bytes);
  const bool padded = input.flag();
  std::string image(input.piece(padded ? sizeof(Padded) : sizeof(Everything)));
  image.resize(padded ? sizeof(Padded) : sizeof(Everything), '\xa5');
  if (padded) {
    fuzz_padded(input, image);
  } else {
    fuzz_everything(input, image);
  }
}

}  // namespace tcpip_fuzz
