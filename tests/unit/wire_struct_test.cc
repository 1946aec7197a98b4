#include "tcpip/wire_struct.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/socket.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/unique_fd.h"
#include "tests/support/wait_until.h"

namespace tcpip {
namespace {

using namespace std::chrono_literals;
using tcpip_testing::kPatience;
using tcpip_tests::wait_until;

struct Header {
  BigEndian<std::uint16_t> id;
  BigEndian<std::uint32_t> size;
  bool operator==(const Header&) const = default;
};
struct Telemetry {
  std::uint64_t time;
  double position[3];
  std::int32_t status;
  float temperature;
};
struct Padded {
  char kind;
  double value;
};
struct Image {
  BigEndian<std::uint32_t> number;
  std::array<std::uint8_t, 1024 * 1024> pixels;
};

}  // namespace

template <>
inline constexpr bool allow_padding<Padded> = true;

namespace {

// A stream's end of the library, and a bare descriptor at the other end.
class WireStructTest : public testing::Test {
 protected:
  WireStructTest() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()),
              0);
    const auto socket = std::make_shared<Socket>(UniqueFd(fds[0]));
    reader_ = StreamReader(socket);
    writer_ = StreamWriter(socket);
    peer_.reset(fds[1]);
  }

  void peer_sends(std::string_view data) const {
    EXPECT_EQ(::send(peer_.get(), data.data(), data.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(data.size()));
  }
  std::string peer_receives(std::size_t size) const {
    std::string result(size, '\0');
    const ssize_t got = ::recv(peer_.get(), result.data(), size, MSG_WAITALL);
    result.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return result;
  }

  StreamReader reader_;
  StreamWriter writer_;
  UniqueFd peer_;
};

TEST_F(WireStructTest, ReadsAStruct) {
  peer_sends(std::string_view("\x12\x34\x00\x00\x01\x00", 6));
  Header header;
  read_into(reader_, header);
  EXPECT_EQ(header, (Header{.id = 0x1234, .size = 256}));
}

TEST_F(WireStructTest, WritesAStruct) {
  write_from(writer_, Header{.id = 0x1234, .size = 256});
  EXPECT_EQ(peer_receives(6), std::string_view("\x12\x34\x00\x00\x01\x00", 6));
}

TEST_F(WireStructTest, WritesSeveralStructsAsOneMessage) {
  const Telemetry telemetry{1, {2, 3, 4}, 5, 6};
  const Header header{.id = 7, .size = sizeof telemetry};
  write_from(writer_, header, telemetry, std::uint8_t{0xff});
  EXPECT_EQ(peer_receives(6 + sizeof telemetry + 1),
            pack(header, telemetry, std::uint8_t{0xff}));
}

TEST_F(WireStructTest, WritesUnderEveryWait) {
  const std::stop_source source;
  const Header header{.id = 1, .size = 2};
  write_from(writer_, header, kPatience);
  write_from(writer_, header, Deadline::after(kPatience));
  write_from(writer_, header, source.get_token());
  write_from(writer_, header, Wait(kPatience, source.get_token()));
  write_from(writer_, header, header, Wait::none());
  std::string expected;
  for (int i = 0; i < 6; ++i) expected += pack(header);
  EXPECT_EQ(peer_receives(expected.size()), expected);
}

TEST_F(WireStructTest, RoundTripsEveryKindOfNumber) {
  struct Numbers {
    double doubles[7];
    float floats[5];
    std::uint8_t bytes[4];
    BigEndian<double> big;
    LittleEndian<float> little;
    BigEndian<std::int64_t> integer;
    BigEndian<bool> flag;
    char text[3];
  };
  using Double = std::numeric_limits<double>;
  using Float = std::numeric_limits<float>;
  const Numbers sent{
      .doubles = {-0.0, Double::denorm_min(), Double::infinity(),
                  -Double::infinity(), Double::quiet_NaN(),
                  std::bit_cast<double>(0xfff8dead0000beefULL), Double::max()},
      .floats = {-0.0f, Float::denorm_min(), Float::infinity(),
                 std::bit_cast<float>(0xffc0beefU), Float::lowest()},
      .bytes = {0, 255, 127, 128},
      .big = std::bit_cast<double>(0x7ff8000000000001ULL),
      .little = -0.0f,
      .integer = std::numeric_limits<std::int64_t>::min(),
      .flag = true,
      .text = {'a', '\0', 'b'}};
  write_from(writer_, sent);
  peer_sends(peer_receives(sizeof sent));
  Numbers got{};
  read_into(reader_, got);
  EXPECT_EQ(std::memcmp(&got, &sent, sizeof sent), 0);
}

TEST_F(WireStructTest, ZeroesPaddingOnTheWay) {
  Padded padded;
  std::memset(static_cast<void*>(&padded), 0xff, sizeof padded);
  padded.value = 0;
  write_from(writer_, padded);
  EXPECT_EQ(peer_receives(sizeof padded), "\xff" + std::string(15, '\0'));
}

TEST_F(WireStructTest, IgnoresPaddingThatComesIn) {
  std::string bytes(sizeof(Padded), '\xee');
  const double value = 2.5;
  std::memcpy(bytes.data() + offsetof(Padded, value), &value, sizeof value);
  peer_sends(bytes);
  Padded padded{};
  read_into(reader_, padded);
  EXPECT_EQ(padded.value, 2.5);
  EXPECT_EQ(padded.kind, '\xee');
}

TEST_F(WireStructTest, ReadsStructsThatCameTogether) {
  std::string bytes;
  for (std::uint16_t i = 0; i < 1000; ++i) {
    bytes += pack(Header{.id = i, .size = 2u * i});
  }
  peer_sends(bytes);
  for (std::uint16_t i = 0; i < 1000; ++i) {
    Header header;
    read_into(reader_, header, kPatience);
    ASSERT_EQ(header, (Header{.id = i, .size = 2u * i}));
  }
}

TEST_F(WireStructTest, ReadsAStructAtAnyOffsetOfTheBuffer) {
  for (std::size_t offset = 0; offset < 17; ++offset) {
    const Telemetry sent{1, {2, 3, 4}, 5, 6};
    peer_sends(std::string(offset, '.') + pack(sent));
    EXPECT_EQ(reader_.read_exactly(offset), std::string(offset, '.'));
    Telemetry got{};
    read_into(reader_, got);
    EXPECT_EQ(std::memcmp(&got, &sent, sizeof sent), 0);
  }
}

TEST_F(WireStructTest, ReadsAStructThatComesByteByByte) {
  const Header sent{.id = 0x0102, .size = 0x03040506};
  const std::string bytes = pack(sent) + "next";
  Header header;
  for (std::size_t i = 0; i < sizeof sent; ++i) {
    EXPECT_THROW(read_into(reader_, header, Wait::none()), TimeoutError);
    EXPECT_EQ(header, Header());
    peer_sends(bytes.substr(i, 1));
  }
  peer_sends(bytes.substr(sizeof sent));
  read_into(reader_, header, Wait::none());
  EXPECT_EQ(header, sent);
  EXPECT_EQ(reader_.read_exactly(4), "next");
}

TEST_F(WireStructTest, ResumesAfterADeadlineOrAStopWithinAStruct) {
  const Header sent{.id = 1, .size = 2};
  const std::string bytes = pack(sent);
  std::stop_source source;
  for (std::size_t split = 0; split <= bytes.size(); ++split) {
    const Header before{.id = 9, .size = 9};
    Header header = before;
    peer_sends(bytes.substr(0, split));
    if (split < bytes.size()) {
      EXPECT_THROW(read_into(reader_, header, 1ms), TimeoutError);
      EXPECT_EQ(header, before);
    }
    source.request_stop();
    EXPECT_EQ(reader_.buffered(), split == bytes.size() ? 0 : split);
    if (split < bytes.size()) {
      EXPECT_THROW(read_into(reader_, header, source.get_token()),
                   CancelledError);
      EXPECT_EQ(header, before);
    }
    peer_sends(bytes.substr(split));
    read_into(reader_, header, kPatience);
    EXPECT_EQ(header, sent);
  }
}

TEST_F(WireStructTest, TryReadsAStructOnceAllOfItIsThere) {
  const Header sent{.id = 0x0102, .size = 0x03040506};
  const std::string bytes = pack(sent) + "next";
  const Header before{.id = 9, .size = 9};
  Header header = before;
  for (std::size_t i = 0; i < sizeof sent; ++i) {
    EXPECT_FALSE(try_read_into(reader_, header));
    EXPECT_EQ(header, before);
    EXPECT_EQ(reader_.buffered(), i);
    peer_sends(bytes.substr(i, 1));
  }
  peer_sends(bytes.substr(sizeof sent));
  EXPECT_TRUE(try_read_into(reader_, header));
  EXPECT_EQ(header, sent);
  EXPECT_EQ(reader_.read_exactly(4), "next");
}

TEST_F(WireStructTest, TryReadsABigStructOnceAllOfItIsThere) {
  const auto sent = std::make_unique<Image>();
  sent->number = 7;
  sent->pixels.back() = 5;
  const std::string bytes = pack(*sent);
  const auto image = std::make_unique<Image>();
  image->number = 3;
  peer_sends(bytes.substr(0, 50'000));
  EXPECT_FALSE(try_read_into(reader_, *image));
  EXPECT_EQ(image->number, 3u);
  std::jthread sender([&] {
    for (std::size_t i = 50'000; i < bytes.size(); i += 50'000) {
      peer_sends(bytes.substr(i, 50'000));
    }
  });
  EXPECT_TRUE(wait_until([&] { return try_read_into(reader_, *image); }));
  EXPECT_EQ(image->number, 7u);
  EXPECT_EQ(image->pixels, sent->pixels);
}

TEST_F(WireStructTest, TryLeavesTheStructWhenTheStreamEndsWithinIt) {
  peer_sends(pack(Header{.id = 1, .size = 2}).substr(0, 4));
  peer_.reset();
  const Header before{.id = 9, .size = 9};
  Header header = before;
  EXPECT_TRUE(wait_until([&] {
    try {
      return try_read_into(reader_, header);
    } catch (const IncompleteReadError& e) {
      EXPECT_EQ(e.partial().size(), 4u);
      EXPECT_EQ(e.expected(), sizeof header);
      return true;
    }
  }));
  EXPECT_EQ(header, before);
  EXPECT_THROW(try_read_into(reader_, header), IncompleteReadError);
}

TEST_F(WireStructTest, ErrorsSayTheNameOfTheCall) {
  Header header;
  try {
    read_into(reader_, header, Wait::none());
    ADD_FAILURE();
  } catch (const TimeoutError& e) {
    EXPECT_EQ(e.operation(), "read_into");
  }
  writer_.close();
  try {
    read_into(reader_, header);
    ADD_FAILURE();
  } catch (const IncompleteReadError& e) {
    EXPECT_EQ(e.operation(), "read_into");
  }
  try {
    try_read_into(reader_, header);
    ADD_FAILURE();
  } catch (const IncompleteReadError& e) {
    EXPECT_EQ(e.operation(), "try_read_into");
  }
  try {
    write_from(writer_, header);
    ADD_FAILURE();
  } catch (const ConnectionAbortedError& e) {
    EXPECT_EQ(e.operation(), "write_from");
  }
}

TEST_F(WireStructTest, NeedsAConnection) {
  StreamReader reader;
  StreamWriter writer;
  Header header;
  for (const auto& call : std::vector<std::function<void()>>{
           [&] { read_into(reader, header); },
           [&] { try_read_into(reader, header); },
           [&] { write_from(writer, header); }}) {
    try {
      call();
      ADD_FAILURE();
    } catch (const ConnectionError& e) {
      EXPECT_EQ(e.code(), std::errc::not_connected) << e.what();
    }
  }
}

TEST_F(WireStructTest, LeavesTheStructWhenTheStreamEndsWithinIt) {
  const std::string bytes = pack(Header{.id = 1, .size = 2});
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    std::array<int, 2> fds{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()),
              0);
    StreamReader reader(std::make_shared<Socket>(UniqueFd(fds[0])));
    peer_.reset(fds[1]);
    peer_sends(bytes.substr(0, size));
    peer_.reset();
    const Header before{.id = 9, .size = 9};
    Header header = before;
    try {
      read_into(reader, header);
      FAIL();
    } catch (const IncompleteReadError& e) {
      EXPECT_EQ(e.partial(), bytes.substr(0, size));
      EXPECT_EQ(e.expected(), sizeof header);
    }
    EXPECT_EQ(header, before);
  }
}

TEST_F(WireStructTest, LeavesABigStructWhenTheStreamEndsWithinIt) {
  const auto image = std::make_unique<Image>();
  image->pixels.fill(7);
  const auto before = std::make_unique<Image>(*image);
  std::jthread peer([this] {
    peer_sends(std::string(sizeof(Image) - 1, 'x'));
    peer_.reset();
  });
  EXPECT_THROW(read_into(reader_, *image, kPatience), IncompleteReadError);
  EXPECT_EQ(std::memcmp(image.get(), before.get(), sizeof(Image)), 0);
}

TEST_F(WireStructTest, CarriesAMegabyte) {
  const auto sent = std::make_unique<Image>();
  sent->number = 5;
  for (std::size_t i = 0; i < sent->pixels.size(); ++i) {
    sent->pixels[i] = static_cast<std::uint8_t>(i * 7 + i / 251);
  }
  std::string echoed;
  std::jthread peer([&] {
    echoed = peer_receives(sizeof(Image));
    peer_sends(echoed);
  });
  write_from(writer_, *sent, kPatience);
  const auto got = std::make_unique<Image>();
  read_into(reader_, *got, kPatience);
  EXPECT_EQ(got->number, 5u);
  EXPECT_EQ(got->pixels, sent->pixels);
}

TEST_F(WireStructTest, KeepsTheMessageWhenADeadlinePassesWithinIt) {
  const auto image = std::make_unique<Image>();
  image->number = 5;
  try {
    write_from(writer_, *image, Header{.id = 6, .size = 7}, 5ms);
    FAIL() << "a megabyte does not fit";
  } catch (const TimeoutError& e) {
    EXPECT_TRUE(e.queued());
  }
  const std::string expected = pack(*image, Header{.id = 6, .size = 7});
  image->number = 8;  // the message must not be read from the struct any more
  std::string got;
  std::jthread peer([&] { got = peer_receives(expected.size()); });
  writer_.drain(kPatience);
  peer.join();
  EXPECT_EQ(got, expected);
}

TEST_F(WireStructTest, NeverMixesTheStructsOfSeveralThreads) {
  struct Body {
    std::array<std::uint8_t, 3000> bytes;
  };
  constexpr int kThreads = 4;
  constexpr int kMessages = 100;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      Body body;
      body.bytes.fill(static_cast<std::uint8_t>(i));
      for (int j = 0; j < kMessages; ++j) {
        write_from(
            writer_,
            Header{.id = static_cast<std::uint16_t>(i), .size = sizeof body},
            body, kPatience);
      }
    });
  }
  for (int i = 0; i < kThreads * kMessages; ++i) {
    const std::string bytes = peer_receives(sizeof(Header) + sizeof(Body));
    Header header;
    unpack(std::string_view(bytes).substr(0, sizeof header), header);
    ASSERT_EQ(header.size, sizeof(Body));
    ASSERT_LT(header.id, kThreads);
    ASSERT_EQ(bytes.substr(sizeof header),
              std::string(sizeof(Body), static_cast<char>(header.id.value())));
  }
}

TEST_F(WireStructTest, AStopThatWasRequestedBeforeSendsNothing) {
  std::stop_source source;
  source.request_stop();
  try {
    write_from(writer_, Header{.id = 1, .size = 2}, source.get_token());
    FAIL() << "it was sent";
  } catch (const CancelledError& e) {
    EXPECT_FALSE(e.queued());
  }
  EXPECT_EQ(writer_.unsent(), 0u);
  const Header header{.id = 3, .size = 4};
  write_from(writer_, header);
  EXPECT_EQ(peer_receives(sizeof header), pack(header));
}

TEST_F(WireStructTest, WritesToALostConnectionFail) {
  writer_.close();
  EXPECT_THROW(write_from(writer_, Header()), ConnectionError);
  EXPECT_THROW(write_from(writer_, Header(), 1s), ConnectionError);
}

}  // namespace
}  // namespace tcpip
