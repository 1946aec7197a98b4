// The parts of tcpip-monitor, by tables: its options, and how it shows what
// passes. monitor_recording_test.cc has recordings, monitor_program_test.cc the
// program as a whole.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/monitor/json_text.h"
#include "tools/monitor/options.h"
#include "tools/monitor/struct_format.h"
#include "tools/monitor/view.h"

namespace tcpip_monitor {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using Strings = std::vector<std::string>;

// --- Options ---

TEST(MonitorOptionsTest, KnowsPlaces) {
  const std::pair<std::string, Place> kPlaces[] = {
      {"4000", {"127.0.0.1", 4000}},
      {"dome:4000", {"dome", 4000}},
      {"[::1]:4000", {"::1", 4000}},
      {"unix:/run/dome.sock", {"unix:/run/dome.sock", 0}},
      {"unix:@dome", {"unix:@dome", 0}},
  };
  for (const auto& [text, place] : kPlaces) {
    EXPECT_EQ(parse_options({text}).connect, place) << text;
    EXPECT_EQ(parse_options({"--connect", text}).connect, place) << text;
    EXPECT_EQ(parse_options({"--listen=" + text}).listen, place) << text;
  }
  EXPECT_EQ(parse_options({"--listen", "*:0"}).listen, (Place{"", 0}));
  const Options proxy = parse_options({"--listen", "1", "dome:2"});
  EXPECT_TRUE(proxy.is_proxy());
}

TEST(MonitorOptionsTest, ExplainsWhatMakesNoSense) {
  const std::pair<Strings, std::string> kWrong[] = {
      {{}, "say where: HOST:PORT to connect, or --listen PORT"},
      {{"0"}, "HOST:PORT: \"0\" is no HOST:PORT"},
      {{"dome"}, "HOST:PORT: \"dome\" is no HOST:PORT"},
      {{"dome:65536"}, "HOST:PORT: \"dome:65536\" is no HOST:PORT"},
      {{":1"},
       "HOST:PORT: \":1\" has no host; a port alone means this machine"},
      {{"*:1"}, "HOST:PORT: \"*\" is no host to connect to"},
      {{"::1:1"}, "HOST:PORT: write [ADDRESS]:PORT for an IPv6 address"},
      {{"unix:"}, "HOST:PORT: \"unix:\" has no path"},
      {{"1", "2"}, "\"2\": one place to connect to is enough"},
      {{"1", "--frob"}, "--frob: no such option, or not all of its name"},
      {{"1", "--st"}, "--st: no such option, or not all of its name"},
      {{"1", "--status"}, "--status: needs a value"},
      {{"1", "--json", "--hex"},
       "--lines, --json, --hex and --struct exclude each other"},
      {{"1", "--indent", "2"}, "--indent is for --json"},
      {{"1", "--terminator", R"(\q)"},
       R"("\q": known escapes are \r \n \t \0 \\ \xNN)"},
      {{"1", "--terminator="}, "--terminator: is empty"},
      {{"1", "--color", "red"},
       "--color: \"red\" is none of auto, always, never"},
      {{"1", "--linger", "-1"},
       "--linger: \"-1\" is no number of seconds from 0 to 1000000"},
      {{"1", "--id", "1"}, "--id and --length need a --header"},
      {{"1", "--header", "<HH"}, "--header needs a --struct or a --length"},
      {{"1", "--header", "<HH", "--id", "3", "--struct", "1=<I"},
       "--id: the header has 2 values"},
      {{"1", "--header", "<H", "--length", "2"},
       "--length: the header has 1 value"},
      {{"1", "--struct", "1=<I"}, "--struct: an id needs a --header and --id"},
      {{"1", "--struct", "<I", "--struct", "<H"},
       "--struct: more than one, so each needs an id: 7=FORMAT"},
      {{"1", "--header", "<H", "--id", "1", "--struct", "1=<I", "--struct",
        "1=<H"},
       "--struct: the id 1 is there twice"},
      {{"1", "--struct", "<Ih:a"},
       "--struct: struct \"<Ih:a\": 1 name for 2 values"},
      {{"1", "--reconnect", "--listen", "2"},
       "--reconnect is for --connect alone"},
      {{"1", "--listen", "2", "--replay", "x"},
       "--replay takes the place of one side; it does not go with a proxy"},
      {{"1", "--at-once"}, "--at-once is for --replay"},
      {{"--replay", "x", "--record", "y"},
       "--record and --pcapng need a connection"},
  };
  for (const auto& [arguments, complaint] : kWrong) {
    try {
      parse_options(arguments);
      ADD_FAILURE() << complaint;
    } catch (const UsageError& e) {
      EXPECT_EQ(e.what(), complaint);
    }
  }
}

TEST(MonitorOptionsTest, HelpAndVersionNeedNoPlace) {
  EXPECT_TRUE(parse_options({"--help"}).help);
  EXPECT_TRUE(parse_options({"-h"}).help);
  EXPECT_TRUE(parse_options({"--version"}).version);
  for (const char* const option : {"--help", "--version"}) {
    EXPECT_NE(help_text().find(option), std::string_view::npos) << option;
  }
}

TEST(MonitorOptionsTest, Unescapes) {
  EXPECT_EQ(unescape(R"(a\r\n\t\0\\\x1b)"), "a\r\n\t\0\\\x1b"s);
  for (const char* const wrong : {R"(\)", R"(\x)", R"(\x1)", R"(\xg0)"}) {
    EXPECT_THROW(unescape(wrong), UsageError) << wrong;
  }
}

// --- Structs (more: monitor_peer.py, against Python) ---

TEST(MonitorStructTest, RefusesWhatIsNoStruct) {
  for (const char* const wrong : {"", "<", "<3", "<y", "<n", "!P", "x<I",
                                  "99999999999999999999B", "0s"}) {
    EXPECT_THROW(StructFormat{wrong}, std::invalid_argument) << wrong;
  }
}

TEST(MonitorStructTest, HasPythonsSizes) {
  const std::pair<const char*, std::size_t> kSizes[] = {
      {"<Ihd", 14}, {"@Ihd", 16}, {"Ihd", 16},     {"=bq", 9},
      {"bq", 16},   {"b0q", 8},   {"< 3x 2s ", 5}, {"!10p", 10}};
  for (const auto& [format, size] : kSizes) {
    EXPECT_EQ(StructFormat(format).size(), size) << format;
  }
}

TEST(MonitorStructTest, ShowsValuesAsPythonDoes) {
  EXPECT_EQ(StructSpec::parse("<h").show("\xfe\xff"), "(-2,)");
  EXPECT_EQ(StructSpec::parse(">Hb").show("\x01\x02\xff"), "(258, -1)");
  EXPECT_EQ(StructSpec::parse("<2?").show("\1\0"s), "(True, False)");
  EXPECT_EQ(StructSpec::parse("<4s").show("a'\\\n"), R"((b'a\'\\\x0a',))");
  EXPECT_EQ(StructSpec::parse("<4p").show("\x02"
                                          "abc"),
            "(b'ab',)");
  EXPECT_EQ(StructSpec::parse("<f").show("\xcd\xcc\xcc\x3d"), "(0.1,)");
  EXPECT_EQ(StructSpec::parse("<e").show("\x00\x3c"s), "(1.0,)");
  EXPECT_EQ(StructSpec::parse("<e").show("\x00\xfc"s), "(-inf,)");
  EXPECT_EQ(StructSpec::parse("<bb:a,b").show("\1\2"), "a=1 b=2");
}

// --- JSON ---

TEST(MonitorJsonTest, ChangesBlanksOnly) {
  const std::pair<const char*, const char*> kTexts[] = {
      {"1", "1"},
      {" [ ] ", "[]"},
      {"{\"a\":1.50,\"b\":[1,2]}", "{\"a\": 1.50, \"b\": [1, 2]}"},
      {"{\"a\\\"}\": \"{,:\\\\\"}", "{\"a\\\"}\": \"{,:\\\\\"}"},
  };
  for (const auto& [text, shown] : kTexts) {
    EXPECT_EQ(format_json(text, 0), shown);
  }
  EXPECT_EQ(format_json("{\"a\":{},\"b\":[1,{\"c\":2}]}", 2),
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    {\n      \"c\": 2\n"
            "    }\n  ]\n}");
  EXPECT_EQ(format_json("{\"a\":\"b\"}", 0, "<", ">"), "{<\"a\">: \"b\"}");
  for (const char* const wrong : {"", "{", "nan", "{'a':1}", "1 2"}) {
    EXPECT_EQ(format_json(wrong, 0), std::nullopt) << wrong;
  }
}

// --- The view ---

// Without times. Feeds bytes, and reads what is shown.
class MonitorViewTest : public testing::Test {
 protected:
  explicit MonitorViewTest(ViewOptions options = {}) { make(options); }

  void make(ViewOptions options) {
    options.time = TimeStyle::kNone;
    view_.emplace(std::move(options), false);
    view_->begin(now_);
    position_ = 0;
  }
  std::string show(std::string_view bytes, std::uint64_t skipped = 0) {
    position_ += skipped;
    view_->show({.way = Way::kIn,
                 .time = now_,
                 .bytes = std::string(bytes),
                 .position = position_,
                 .skipped = skipped});
    position_ += bytes.size();
    return view_->take();
  }
  std::string after(std::chrono::milliseconds time) {
    now_ += time;
    view_->tick(now_);
    return view_->take();
  }
  std::string end() {
    view_->end(now_);
    return view_->take();
  }

  TimePoint now_{1h};
  std::uint64_t position_ = 0;
  std::optional<View> view_;
};

TEST_F(MonitorViewTest, ALineIsShownWhenItsTerminatorHasCome) {
  EXPECT_EQ(show("one\r\ntw"), "< one\n");
  EXPECT_EQ(show("o\r"), "");
  EXPECT_EQ(show("\n\r\n"), "< two\n<\n");
  EXPECT_EQ(view_->counts(Way::kIn).messages, 3);
  EXPECT_EQ(view_->next_tick(), std::nullopt);
}

TEST_F(MonitorViewTest, DirectionsAreSeparate) {
  EXPECT_EQ(show("on"), "");
  view_->show({.way = Way::kOut, .time = now_, .bytes = "out\r\n"});
  EXPECT_EQ(view_->take(), "> out\n");
  EXPECT_EQ(show("e\r\n"), "< one\n");
}

TEST_F(MonitorViewTest, ANewlineAloneEndsALineUnlessThereIsATerminator) {
  EXPECT_EQ(show("one\ntwo\r\nheartbeat\n"), "< one \\n\n< two\n< heartbeat\n");
  make({.terminator = "\n", .takes_newline = false});
  EXPECT_EQ(show("one\ntwo\r\n"), "< one\n< two\\r\n");
  make({.terminator = ">>", .takes_newline = false});
  EXPECT_EQ(show("one\n>"), "");
  EXPECT_EQ(show(">"), "< one\\n\n");
  make({.show = Show::kJson});
  EXPECT_EQ(show("[1]\n[2]\r\n"), "< [1] \\n\n< [2]\n");
}

TEST_F(MonitorViewTest, ALineWithoutEndIsShownWhenItDoesNotGoOn) {
  EXPECT_EQ(show("login: "), "");
  ASSERT_NE(view_->next_tick(), std::nullopt);
  EXPECT_EQ(after(100ms), "");
  now_ = *view_->next_tick();
  EXPECT_EQ(after(0ms), "< login:  (no end so far)\n");
  EXPECT_EQ(show("a\tb"), "");
  EXPECT_EQ(end(), "< a\\tb (unfinished)\n");
}

TEST_F(MonitorViewTest, NothingReachesTheTerminalThatItWouldObey) {
  EXPECT_EQ(show("\x1b[2J\a\x7f\xc2\x9b\xe2\x80\xae\xe2\x81\xa6 \xc3\xbc\r\n"),
            "< \\x1b[2J\\x07\\x7f\\xc2\\x9b\\xe2\\x80\\xae\\xe2\\x81\\xa6 "
            "\xc3\xbc\n");
  EXPECT_EQ(show("\x9b \xff\r\n"), "< \\x9b \\xff (not utf-8)\n");
  make({.show = Show::kJson});
  EXPECT_EQ(show("\"\x7f\xc2\x9b\xe2\x80\xae\xc3\xbc\"\r\n"),
            "< \"\\u007f\\u009b\\u202e\xc3\xbc\"\n");
  EXPECT_EQ(show("\"\x1b\"\r\n"), "< \"\\x1b\" (not JSON)\n");
}

TEST_F(MonitorViewTest, TextIsDecoded) {
  make({.encoding = "utf-16-le"});
  EXPECT_EQ(show("\xfc\0\n\0\r\n"s), "< \xc3\xbc\\n\n");
}

TEST_F(MonitorViewTest, AGapIsTold) {
  EXPECT_EQ(show("on"), "");
  EXPECT_EQ(show("o\r\n", 7),
            "< on (unfinished)\n< (7 bytes not shown)\n< o\n");
}

TEST_F(MonitorViewTest, HeartbeatsAreToldOnceAMinute) {
  EXPECT_EQ(show("heartbeat\r\n"), "< heartbeat\n");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(show("heartbeat\r\n"), "");
  EXPECT_EQ(after(59s), "");
  const std::string folded = after(1s);
  EXPECT_TRUE(folded.starts_with("< heartbeat (5 more, the last at "))
      << folded;
  EXPECT_EQ(show("heartbeat\r\n"), "");
  EXPECT_EQ(show("text\r\n"), "< text\n");
  EXPECT_TRUE(end().starts_with("< heartbeat (1 more, the last at "));
  EXPECT_EQ(view_->counts(Way::kIn).heartbeats, 7);
  EXPECT_EQ(view_->counts(Way::kIn).messages, 1);
  // After a silent minute the next one is shown at once.
  EXPECT_EQ(show("heartbeat\r\n"), "< heartbeat\n");
  EXPECT_EQ(after(60s), "");
  EXPECT_EQ(show("heartbeat\r\n"), "< heartbeat\n");
  make({.heartbeats = ShowHeartbeats::kNone});
  EXPECT_EQ(show("heartbeat\r\nheartbeats\r\n"), "< heartbeats\n");
  make({.heartbeats = ShowHeartbeats::kAll});
  EXPECT_EQ(show("heartbeat\r\nheartbeat\r\n"), "< heartbeat\n< heartbeat\n");
}

TEST_F(MonitorViewTest, HexHasTheBytesAndTheirPlace) {
  make({.show = Show::kHex});
  EXPECT_EQ(show("abc\r\n"),
            "< 5 bytes\n"
            "00000000  61 62 63 0d 0a" +
                std::string(35, ' ') + "|abc..|\n");
  EXPECT_EQ(show("0123456789abcdefg"),
            "< 17 bytes\n"
            "00000005  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  "
            "|0123456789abcdef|\n"
            "00000015  67" +
                std::string(47, ' ') + "|g|\n");
}

TEST_F(MonitorViewTest, AStructIsShownWhenItIsComplete) {
  make({.show = Show::kStructs, .structs = {StructSpec::parse("<h")}});
  EXPECT_EQ(show("\1\0\2"s), "< (1,)\n");
  EXPECT_EQ(after(10s), "");
  EXPECT_EQ(show("\0\3\0\4"s), "< (2,)\n< (3,)\n");
  EXPECT_EQ(end(), "< 1 byte (unfinished)\n00000006  04" +
                       std::string(47, ' ') + "|.|\n");
}

TEST_F(MonitorViewTest, BehindAGapStructsOfOneSizeAreFoundAgain) {
  make({.show = Show::kStructs, .structs = {StructSpec::parse("<h")}});
  EXPECT_EQ(show("\1\0"s), "< (1,)\n");
  EXPECT_EQ(show("\7\2\0"s, 3),
            "< (3 bytes not shown)\n< 1 byte (the rest of a struct)\n"
            "00000005  07" +
                std::string(47, ' ') + "|.|\n< (2,)\n");
}

TEST_F(MonitorViewTest, BehindAGapFramesAreBytes) {
  make({.show = Show::kStructs,
        .header = StructFormat("<B"),
        .length_field = 0});
  EXPECT_EQ(show("\1a\0"s), "< [1] (unknown)\n< 1 byte\n00000001  61" +
                                std::string(47, ' ') +
                                "|a|\n< [0] (unknown)\n");
  const std::string shown = show("\1a"s, 1);
  EXPECT_NE(shown.find("(where a struct begins is not known)"), shown.npos);
  EXPECT_EQ(shown.find("[1]"), shown.npos);
}

TEST_F(MonitorViewTest, AFrameOfAnUnknownLengthIsTold) {
  make({.show = Show::kStructs,
        .structs = {StructSpec::parse("1=<B")},
        .header = StructFormat("<B"),
        .id_field = 0});
  EXPECT_EQ(show("\1\7"), "< [1] (7,)\n");
  const std::string shown = show("\2\7");
  EXPECT_NE(shown.find("no --struct has the id in the header"), shown.npos);
}

}  // namespace
}  // namespace tcpip_monitor
