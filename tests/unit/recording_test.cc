#include "tcpip/testing/recording.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "tcpip/testing/direction.h"

namespace tcpip_testing {
namespace {

using namespace std::literals;  // NOLINT(google-build-using-namespace)
using Piece = Recording::Piece;

constexpr Direction kToServer = Direction::kToServer;
constexpr Direction kToClient = Direction::kToClient;

// What parse() says of a text behind the first line; "" if it takes it.
std::string fault_of(std::string_view lines) {
  try {
    Recording::parse("tcpip recording 1\n" + std::string(lines), "dome.txt");
    return "";
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
}

Recording parse(std::string_view lines) {
  return Recording::parse("tcpip recording 1\n" + std::string(lines));
}

TEST(RecordingTest, HasATextThatPeopleCanRead) {
  const Recording recording{
      {{kToClient, 0us, "ACE \"Main\" Box\r\n>"},
       {kToServer, 251904us, "pos\t\\\r"},
       {kToClient, 12s + 7us, std::string("\0\x7f\xb0", 3)},
       {kToServer, 13s, ""}}};
  EXPECT_EQ(recording.text(),
            "tcpip recording 1\n"
            "# seconds, > from the client or < from the server, bytes\n"
            "0.000000 < \"ACE \\\"Main\\\" Box\\r\\n>\"\n"
            "0.251904 > \"pos\\t\\\\\\r\"\n"
            "12.000007 < \"\\x00\\x7f\\xb0\"\n"
            "13.000000 > end\n");
  EXPECT_EQ(Recording::parse(recording.text()), recording);
}

TEST(RecordingTest, TakesWhatAPersonHasWritten) {
  const Recording recording = parse(
      "\n"
      "# a comment\n"
      "   # another\n"
      "0 > \"pos\\x0D\\x0a\"\r\n"
      "\t1.5\t<\t\"21 °C\"   \n"
      "1.50<\"more\"\n"
      "2 < end");
  const Recording expected{{{kToServer, 0us, "pos\r\n"},
                            {kToClient, 1500ms, "21 °C"},
                            {kToClient, 1500ms, "more"},
                            {kToClient, 2s, ""}}};
  EXPECT_EQ(recording, expected);
  EXPECT_EQ(recording.bytes(kToClient), "21 °Cmore");
  EXPECT_EQ(recording.bytes(kToServer), "pos\r\n");
}

TEST(RecordingTest, EmptyOneIsARecording) {
  EXPECT_EQ(Recording::parse("tcpip recording 1"), Recording());
  EXPECT_EQ(Recording::parse(Recording().text()), Recording());
}

TEST(RecordingTest, MalformedTextIsRefusedWithItsLine) {
  for (const std::string text : {"", "\n", "tcpip recording 2\n", "pcap"}) {
    try {
      Recording::parse(text, "dome.txt");
      ADD_FAILURE() << text;
    } catch (const std::invalid_argument& e) {
      EXPECT_EQ(e.what(),
                "dome.txt, line 1: a recording begins with the line "
                "\"tcpip recording 1\""s);
    }
  }
  const struct {
    std::string_view lines;
    std::string_view fault;
  } kCases[] = {
      {"x > \"a\"",
       "line 2: expected a time in seconds, not \"x > \\\"a\\\"\""},
      {"\n\n. > \"a\"", "line 4: expected a time in seconds, not"},
      {"1. > \"a\"", "line 2: expected a time in seconds, not"},
      {"-1 > \"a\"", "line 2: expected a time in seconds, not"},
      {"1234567890 > \"a\"", "line 2: a time has at most 9 digits"},
      {"0.1234567 > \"a\"", "line 2: a time has at most 9 digits"},
      {"0 - \"a\"", "line 2: expected > or <, not \"- \\\"a\\\"\""},
      {"0", "line 2: expected > or <, not the end of the line"},
      {"0 >", "line 2: expected \"bytes\" or end, not the end of the line"},
      {"0 > a", "line 2: expected \"bytes\" or end, not \"a\""},
      {"0 > \"a", "line 2: the bytes have no closing \""},
      {"0 > \"a\\", "line 2: unknown escape \\"},
      {"0 > \"a\\\"", "line 2: the bytes have no closing \""},
      {"0 > \"\"", "line 2: there are no bytes between the quotes"},
      {"0 > \"\\q\"", "line 2: unknown escape \\q"},
      {"0 > \"\\x\"", "line 2: unknown escape \\x"},
      {"0 > \"\\x1\"", "line 2: unknown escape \\x1"},
      {"0 > \"\\x1g\"", "line 2: unknown escape \\x1g"},
      {"0 > \"\\xg1\"", "line 2: unknown escape \\xg1"},
      {"0 > \"a\tb\"", "line 2: a control character must be written as \\x09"},
      {"0 > \"a\" b", "line 2: expected the end of the line, not \"b\""},
      {"0 > ending", "line 2: expected the end of the line, not \"ing\""},
      {"1 > \"a\"\n# that was good\n0.9 > \"b\"",
       "line 4: the time is less than the one before"},
      {"0 > end\n0 < \"a\"\n0 > \"b\"", "line 4: that side has ended before"},
      {"0 > end\n0 > end", "line 3: that side has ended before"},
  };
  for (const auto& one : kCases) {
    const std::string fault = fault_of(one.lines);
    EXPECT_TRUE(fault.starts_with("dome.txt, " + std::string(one.fault)))
        << one.lines << "\n  " << fault << "\n  " << one.fault;
  }
  EXPECT_NE(fault_of("0 > \"a\0b\""sv), "");
}

TEST(RecordingTest, CheckRefusesWhatNoExchangeCanBe) {
  EXPECT_NO_THROW(
      (Recording{{{kToServer, 0us, ""}, {kToClient, 0us, "a"}}}).check());
  for (const Recording& bad :
       {Recording{{{kToServer, -1us, "a"}}},
        Recording{{{kToServer, 2us, "a"}, {kToClient, 1us, "b"}}},
        Recording{{{kToServer, 0us, ""}, {kToServer, 0us, "b"}}}}) {
    EXPECT_THROW(bad.check(), std::invalid_argument);
    EXPECT_THROW(bad.text(), std::invalid_argument);
  }
}

TEST(RecordingTest, FileKeepsEveryByte) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const Recording recording{{{kToServer, 1us, all}, {kToClient, 2us, ""}}};
  const std::string path = testing::TempDir() + "/every_byte.txt";
  recording.save(path);
  EXPECT_EQ(Recording::load(path), recording);
}

TEST(RecordingTest, FileErrorsNameTheFile) {
  const auto expect_names = [](const std::string& path, auto function) {
    try {
      function();
      ADD_FAILURE() << path;
    } catch (const std::system_error& e) {
      EXPECT_NE(std::string(e.what()).find(path), std::string::npos)
          << e.what();
      EXPECT_NE(e.code().value(), 0);
    }
  };
  const std::string missing = testing::TempDir() + "/missing/file.txt";
  expect_names(missing, [&] { Recording::load(missing); });
  expect_names(missing, [&] { Recording().save(missing); });
  const std::string folder = testing::TempDir();
  expect_names(folder, [&] { Recording::load(folder); });
  expect_names("/dev/full", [&] { Recording().save("/dev/full"); });
  const std::string path = testing::TempDir() + "/malformed.txt";
  std::ofstream(path) << "tcpip recording 1\n0 > x\n";
  try {
    Recording::load(path);
    ADD_FAILURE();
  } catch (const std::invalid_argument& e) {
    EXPECT_TRUE(std::string(e.what()).starts_with(path + ", line 2: "))
        << e.what();
  }
}

// Whatever stands in a file: a recording whose text is read as the same one
// again, or an error that names a line of the file.
TEST(RecordingTest, ParserStandsAnyText) {
  std::mt19937_64 engine(20261126);
  const auto below = [&engine](std::size_t end) {
    return static_cast<std::size_t>(engine() % end);
  };
  const std::string_view words[] = {"0",
                                    "0.000001",
                                    "12",
                                    ".",
                                    " ",
                                    ">",
                                    "<",
                                    "\"",
                                    "end",
                                    "\\x",
                                    "\\xb0",
                                    "\\",
                                    "\\n",
                                    "\n",
                                    "\r\n",
                                    "#",
                                    "\"a\"",
                                    " < \"b\"\n",
                                    "1 > \"c\\r\"\n",
                                    "\0"sv,
                                    "\xff",
                                    "9999999999"};
  int good = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = "tcpip recording 1\n";
    if (below(2) == 0) {
      for (std::size_t n = below(12); n > 0; --n) {
        text += words[below(std::size(words))];
      }
    } else {
      Recording recording;
      std::chrono::microseconds time{0};
      for (std::size_t n = below(5); n > 0; --n) {
        std::string bytes(1 + below(6), '\0');
        for (char& byte : bytes) byte = static_cast<char>(engine());
        time += std::chrono::microseconds(below(3'000'000));
        recording.pieces.push_back(
            {below(2) == 0 ? kToServer : kToClient, time, bytes});
      }
      text = recording.text();
      for (std::size_t n = below(3); n > 0; --n) {
        const std::size_t place = below(text.size());
        switch (below(3)) {
          case 0:
            text[place] = static_cast<char>(engine());
            break;
          case 1:
            text.erase(place, 1);
            break;
          default:
            text.insert(place, words[below(std::size(words))]);
            break;
        }
      }
    }
    SCOPED_TRACE(round);
    std::optional<Recording> recording;
    try {
      recording = Recording::parse(text, "it");
    } catch (const std::invalid_argument& e) {
      const std::string what = e.what();
      ASSERT_TRUE(what.starts_with("it, line ")) << what;
      const long line = std::stol(what.substr(9));
      ASSERT_GE(line, 1);
      ASSERT_LE(line, 1 + std::count(text.begin(), text.end(), '\n'));
    }
    if (!recording) continue;
    ++good;
    ASSERT_EQ(Recording::parse(recording->text()), *recording) << text;
  }
  EXPECT_GT(good, 1'000) << "too few of the texts were recordings";
  EXPECT_LT(good, 19'000);
}

}  // namespace
}  // namespace tcpip_testing
