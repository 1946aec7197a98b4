// Stands for a program that was compiled with other settings of nlohmann-json
// than the library. NAME says which: links_..., a function that returns whether
// the library has the functions of json.h that such a program calls.
//
// The references are weak: where the linker of such a program would fail, they
// are null here.
#include "tcpip/json.h"

namespace tcpip {
inline namespace TCPIP_JSON_NAMESPACE {

[[gnu::weak]] nlohmann::json read_json(const ReadWriter& connection,
                                       const Wait& wait);
[[gnu::weak]] nlohmann::json read_json(const ReadWriter& connection,
                                       const JsonOptions& options,
                                       const Wait& wait);
[[gnu::weak]] std::optional<nlohmann::json> try_read_json(
    const ReadWriter& connection, const JsonOptions& options);
[[gnu::weak]] nlohmann::json parse_json(std::string_view text,
                                        const JsonOptions& options);

}  // namespace TCPIP_JSON_NAMESPACE
}  // namespace tcpip

namespace tcpip_tests {

bool NAME();

bool NAME() {
  using tcpip::JsonOptions;
  using tcpip::ReadWriter;
  using tcpip::Wait;
  nlohmann::json (*const read)(const ReadWriter&, const Wait&) =
      &tcpip::read_json;
  nlohmann::json (*const read_with)(const ReadWriter&, const JsonOptions&,
                                    const Wait&) = &tcpip::read_json;
  std::optional<nlohmann::json> (*const try_read)(
      const ReadWriter&, const JsonOptions&) = &tcpip::try_read_json;
  nlohmann::json (*const parse)(std::string_view, const JsonOptions&) =
      &tcpip::parse_json;
  return read != nullptr || read_with != nullptr || try_read != nullptr ||
         parse != nullptr;
}

}  // namespace tcpip_tests
