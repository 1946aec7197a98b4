// Fuzzes the text form of recordings: any text is either refused with a line of
// it, or a recording that its own text gives again.
#include <algorithm>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tcpip/testing/recording.h"
#include "tests/fuzz/fuzz.h"

namespace tcpip_fuzz {
namespace {

using tcpip_testing::Recording;

std::optional<Recording> parse(std::string_view text) {
  try {
    return Recording::parse(text, "it");
  } catch (const std::invalid_argument& e) {
    const std::string what = e.what();
    require(what.starts_with("it, line "), "an error without a line");
    const std::size_t line = std::stoul(what.substr(9));
    const auto lines = std::count(text.begin(), text.end(), '\n') + 1;
    require(line >= 1 && line <= static_cast<std::size_t>(lines),
            "an error in a line that there is not");
    return std::nullopt;
  }
}

}  // namespace

void fuzz_one(std::string_view bytes) {
  Input input(bytes);
  // Mostly behind the line that every recording has.
  const std::string text =
      std::string(input.below(8) == 0 ? "" : "tcpip recording 1\n") +
      std::string(input.rest());
  const std::optional<Recording> recording = parse(text);
  if (!recording) return;
  recording->check();
  const std::string again = recording->text();
  const std::optional<Recording> same = parse(again);
  require(same && *same == *recording, "another recording out of its text");
  require_same(same->text(), again, "the text of the same recording");
}

}  // namespace tcpip_fuzz
