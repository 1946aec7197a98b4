// Stands for a program that was compiled with other settings of nlohmann-json
// than the library. NAME says which: links_..., a function that returns whether
// the library has the functions of json.h that such a program calls.
//
// The references are weak: where the linker of such a program would fail, they
// are null here. (Not of overloaded functions: clang 14 takes the address of
// the declaration that is not weak. That those have the settings in their names
// too is asserted.)
#include "tcpip/json.h"

namespace tcpip {
inline namespace TCPIP_JSON_NAMESPACE {

[[gnu::weak]] std::optional<nlohmann::json> try_read_json(
    const ReadWriter& connection, const JsonOptions& options);
[[gnu::weak]] bool try_write_json(const ReadWriter& connection,
                                  const nlohmann::json& data,
                                  const JsonOptions& options);
[[gnu::weak]] nlohmann::json parse_json(std::string_view text,
                                        const JsonOptions& options);
[[gnu::weak]] std::string format_json(const nlohmann::json& data,
                                      const JsonOptions& options);

}  // namespace TCPIP_JSON_NAMESPACE
}  // namespace tcpip

namespace tcpip_tests {

namespace {

namespace settings = tcpip::TCPIP_JSON_NAMESPACE;
using nlohmann::json;
using tcpip::JsonOptions;
using tcpip::ReadWriter;
using tcpip::Wait;

template <class Function>
constexpr bool is_named_by_settings(Function*) {
  return true;
}
static_assert(is_named_by_settings<json(const ReadWriter&, const Wait&)>(
    &settings::read_json));
static_assert(is_named_by_settings<json(const ReadWriter&, const JsonOptions&,
                                        const Wait&)>(&settings::read_json));
static_assert(is_named_by_settings<void(const ReadWriter&, const json&,
                                        const Wait&)>(&settings::write_json));
static_assert(is_named_by_settings<void(const ReadWriter&, const json&,
                                        const JsonOptions&, const Wait&)>(
    &settings::write_json));

}  // namespace

bool NAME();

bool NAME() {
  return &tcpip::try_read_json != nullptr ||
         &tcpip::try_write_json != nullptr || &tcpip::parse_json != nullptr ||
         &tcpip::format_json != nullptr;
}

}  // namespace tcpip_tests
