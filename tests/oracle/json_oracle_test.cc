// The same random texts for CPython's json module and for parse_json(): what is
// refused, and the value of what is not, must agree, but for the differences
// that PORTING.md lists, which the oracle knows by name.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/json.h"
#include "tests/support/oracle.h"

namespace tcpip_tests {
namespace {

using nlohmann::json;

std::string bare_hex(std::string_view bytes) {
  return bytes.empty() ? "" : hex_of(bytes);
}

std::string joined(const std::vector<std::string>& parts) {
  std::string result;
  for (const std::string& part : parts) {
    result += (result.empty() ? "" : ",") + part;
  }
  return result;
}

// The oracle's shape().
std::string shape(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "n";
    case json::value_t::boolean:
      return value.get<bool>() ? "t" : "f";
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
      return "i" + value.dump();
    case json::value_t::number_float: {
      const auto bits = std::bit_cast<std::uint64_t>(value.get<double>());
      std::string bytes;
      for (int shift = 56; shift >= 0; shift -= 8) {
        bytes += static_cast<char>(bits >> shift);
      }
      return "d" + hex_of(bytes);
    }
    case json::value_t::string:
      return "s" + bare_hex(value.get_ref<const std::string&>());
    case json::value_t::array: {
      std::vector<std::string> parts;
      for (const json& each : value) parts.push_back(shape(each));
      return "[" + joined(parts) + "]";
    }
    case json::value_t::object: {
      std::vector<std::string> parts;
      for (const auto& [key, each] : value.items()) {
        parts.push_back("s" + bare_hex(key) + ":" + shape(each));
      }
      std::sort(parts.begin(), parts.end());
      return "{" + joined(parts) + "}";
    }
    default:
      return "?";
  }
}

// Whether Python, too, finds the fault at that byte.
bool is_place(const std::string& text, std::size_t position,
              const std::string& reason, const std::string& place) {
  if (place.empty() || place == "-") return true;
  if (reason == "syntax") return place == std::to_string(position);
  // Python takes the integer out of "99999999999999999999.x"; we do not.
  const std::string token = bytes_of(place);
  return text.substr(position).starts_with(token) ||
         (position < text.size() && text.substr(0, position).ends_with(token) &&
          std::string_view(".eE").find(text[position]) != std::string::npos);
}

TEST(JsonOracle, ValuesAgreeOnRandomTexts) {
  std::map<std::string, int> compared;
  compare_with_oracle("json_oracle.py", [&](const std::string& line) {
    std::istringstream words(line);
    std::string mode;
    std::string text;
    std::string theirs;
    std::string rest;   // what Python writes, or why it is refused
    std::string place;  // the index of what is wrong, or the token
    words >> mode >> text >> theirs >> rest >> place;
    text = bytes_of(text);
    const tcpip::JsonOptions options{.allow_nan = mode == "nan"};
    std::string ours;
    try {
      const json value = tcpip::parse_json(text, options);
      ours = shape(value);
      const std::string written = tcpip::format_json(value, options);
      EXPECT_EQ(shape(tcpip::parse_json(written, options)), ours) << written;
      if (theirs != "bad" && rest != "-") {
        EXPECT_EQ(written, bytes_of(rest)) << line;
        ++compared["written"];
        if (rest.find(hex_of("NaN")) != rest.npos) ++compared["NaN written"];
      }
    } catch (const tcpip::JsonDecodeError& e) {
      ours = "bad";
      EXPECT_LE(e.position(), text.size());
      EXPECT_TRUE(is_place(text, e.position(), rest, place)) << e.what() << "\n"
                                                             << line;
      if (!place.empty() && place != "-") ++compared["places"];
    }
    ASSERT_EQ(ours, theirs) << text << "\n" << line;
    ++compared[theirs == "bad" ? mode + " " + rest : mode + " value"];
  });
  // Each of the differences has been met.
  for (const char* name :
       {"strict value", "strict syntax", "strict nan-or-infinity",
        "strict number-beyond-double", "strict integer-of-more-than-64-bits",
        "strict lone-surrogate", "strict nested-deeper-than-256", "nan value",
        "nan syntax", "nan number-beyond-double",
        "nan integer-of-more-than-64-bits", "written", "NaN written",
        "places"}) {
    EXPECT_GT(compared[name], 2) << name;
  }
}

}  // namespace
}  // namespace tcpip_tests
