// The same names of encodings, bytes and texts for CPython's codecs and for
// ours: what is known, what comes out and where an error lies must agree.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

#include "tcpip/endpoint/text.h"
#include "tests/support/oracle.h"

namespace tcpip_tests {
namespace {

using tcpip::internal::Encoding;
using tcpip::internal::TextCodec;

std::string name_of(std::optional<Encoding> encoding) {
  if (!encoding) return "none";
  switch (*encoding) {
    case Encoding::kUtf8:
      return "utf_8";
    case Encoding::kAscii:
      return "ascii";
    case Encoding::kLatin1:
      return "latin_1";
    case Encoding::kUtf16:
      return "utf_16";
    case Encoding::kUtf16Le:
      return "utf_16_le";
    case Encoding::kUtf16Be:
      return "utf_16_be";
    case Encoding::kUtf32:
      return "utf_32";
    case Encoding::kUtf32Le:
      return "utf_32_le";
    case Encoding::kUtf32Be:
      return "utf_32_be";
  }
  return "?";
}

const TextCodec& codec(const std::string& name) {
  static std::map<std::string, std::unique_ptr<TextCodec>> codecs;
  std::unique_ptr<TextCodec>& codec = codecs[name];
  if (!codec) codec = std::make_unique<TextCodec>(name);
  return *codec;
}

// What ours say, in the oracle's words.
std::string answer(const std::string& what, std::istringstream& line) {
  std::string name;
  std::string hex;
  if (what == "name") {
    line >> hex;
    return name_of(tcpip::internal::find_encoding(bytes_of(hex)));
  }
  line >> name >> hex;
  if (what == "decode") {
    std::string text;
    const auto wrong = codec(name).decode(bytes_of(hex), text);
    return wrong ? "bad " + std::to_string(*wrong) : "text " + hex_of(text);
  }
  try {
    std::string storage;
    return "bytes " +
           hex_of(codec(name).encode(bytes_of(hex), storage, "encode"));
  } catch (const std::invalid_argument&) {
    return "bad";
  }
}

TEST(TextOracle, CodecsAgreeOnRandomNamesBytesAndTexts) {
  std::map<std::string, int> compared;
  compare_with_oracle("text_oracle.py", [&](const std::string& line) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    const std::string ours = answer(what, words);
    std::string theirs;
    std::getline(words >> std::ws, theirs);
    ASSERT_EQ(ours, theirs) << line;
    ++compared[what + " " + theirs.substr(0, theirs.find(' '))];
  });
  for (const char* kind : {"name none", "name utf_16", "decode text",
                           "decode bad", "encode bytes", "encode bad"}) {
    EXPECT_GT(compared[kind], 10) << kind;
  }
}

}  // namespace
}  // namespace tcpip_tests
