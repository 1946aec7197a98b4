// JSON messages: one JSON text in one text message, as read_json and write_json
// of lsst.ts.tcpip have it, over the library nlohmann-json.
//
//   nlohmann::json command = tcpip::read_json(server, stop);
//   tcpip::write_json(server, {{"id", command.at("id")}, {"ok", true}}, 1s);
//
// Unless JsonOptions says otherwise, JSON is what RFC 8259 says and nothing
// beyond it: no NaN or Infinity, no byte-order mark, no comments, no lone
// surrogates.
//
// Controllers written in Python send NaN: json.dumps() writes it for a sensor
// that is disconnected, and gives no warning. To read from such a controller,
// and to answer in kind, take allow_nan:
//
//   read_json(client, {.allow_nan = true}, 2s);  // {"temperature": NaN}
//
// Values that would change on the way into a C++ value are refused too, with
// JsonDecodeError, and the connection lives: an integer that neither
// std::int64_t nor std::uint64_t can hold (Python sends those as well: its
// integers have no bound, and the nearest double would be another number), a
// number beyond the range of double, and arrays and objects nested deeper than
// kMaxJsonDepth. Of two equal keys in an object the last counts.
//
// A target of its own, //tcpip:json. Its users need nlohmann-json's headers.
//
// Threads: as ReadWriter's read_str() and write_str().
#ifndef TCPIP_JSON_H_
#define TCPIP_JSON_H_

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tcpip/error.h"
#include "tcpip/read_writer.h"
#include "tcpip/wait.h"

namespace tcpip {

// How deep arrays and objects may be nested, in what is read and written.
inline constexpr std::size_t kMaxJsonDepth = 256;

// A text that is not JSON. Exactly that message was consumed; the next read
// starts at the next one.
class JsonDecodeError final : public Error {
 public:
  JsonDecodeError(std::string_view operation, std::string_view peer,
                  std::string_view text, std::size_t position,
                  std::string_view reason);
  JsonDecodeError(const JsonDecodeError&) = default;
  JsonDecodeError& operator=(const JsonDecodeError&) = default;
  ~JsonDecodeError() override = default;

  // The text, or what of it is fit for a log: at most 200 bytes around the
  // position, with "..." for what is left out, as printable ASCII alone: \xNN,
  // \" and \\ for all else. what() has it too.
  const std::string& text() const noexcept { return *text_; }
  // The index in the (UTF-8) text of the first byte that is wrong; the text's
  // length if it ended too early.
  std::size_t position() const noexcept { return position_; }

 private:
  std::shared_ptr<const std::string> text_;
  std::size_t position_;
};

// Python's extensions of JSON; off unless asked for.
struct JsonOptions {
  // Reads NaN, Infinity and -Infinity as values, and writes them, in exactly
  // these spellings, as Python's json module does by default. Without it a text
  // with one of them throws JsonDecodeError when read, and such a number throws
  // std::invalid_argument when written. A number beyond the range of double
  // (1e400) is refused either way.
  bool allow_nan = false;
};

// Reads one message. Throws what read_str() throws, and JsonDecodeError.
nlohmann::json read_json(const ReadWriter& connection, const Wait& wait = {});
nlohmann::json read_json(const ReadWriter& connection,
                         const JsonOptions& options, const Wait& wait = {});
// The same without waiting: nothing if it is not all there yet.
std::optional<nlohmann::json> try_read_json(const ReadWriter& connection,
                                            const JsonOptions& options = {});

// Writes one message, of ASCII alone (all else as \u escapes), so that it can
// be in any encoding. Throws what write_str() throws; std::invalid_argument,
// with nothing sent, for what is not JSON: NaN and infinities (see
// JsonOptions), strings that are not UTF-8, binary values, what is nested
// deeper than kMaxJsonDepth.
void write_json(const ReadWriter& connection, const nlohmann::json& data,
                const Wait& wait = {});
void write_json(const ReadWriter& connection, const nlohmann::json& data,
                const JsonOptions& options, const Wait& wait = {});
// The same without waiting, as try_write_str().
bool try_write_json(const ReadWriter& connection, const nlohmann::json& data,
                    const JsonOptions& options = {});

// What read_json() makes of a text, and write_json() of a value; for programs
// that have the text from elsewhere, a StreamReader for one.
nlohmann::json parse_json(std::string_view text,
                          const JsonOptions& options = {});
std::string format_json(const nlohmann::json& data,
                        const JsonOptions& options = {});

}  // namespace tcpip

#endif  // TCPIP_JSON_H_
