// JSON messages: one JSON text in one text message, like read_json and
// write_json of lsst.ts.tcpip. Uses the library nlohmann-json.
//
//   nlohmann::json command = tcpip::read_json(server, stop);
//   tcpip::write_json(server, {{"id", command.at("id")}, {"ok", true}}, 1s);
//
// JSON is what RFC 8259 allows and nothing else, unless JsonOptions says
// otherwise: no NaN or Infinity, no byte-order mark, no comments, no lone
// surrogates.
//
// Controllers written in Python may send NaN: json.dumps() writes it, without a
// warning, for a sensor that is disconnected. To read from such a controller,
// or to send NaN, set allow_nan:
//
//   read_json(client, {.allow_nan = true}, 2s);  // {"temperature": NaN}
//
// A text that a C++ value cannot hold unchanged throws JsonDecodeError too, and
// the connection lives: an integer beyond std::int64_t and std::uint64_t
// (Python's integers have no bound; the nearest double would be another
// number), a number beyond the range of double, and arrays and objects nested
// deeper than kMaxJsonDepth. If an object has the same key twice, the last one
// counts.
//
// Has a target of its own, //tcpip:json, whose users need nlohmann-json's
// headers.
//
// Threads: as ReadWriter's read_str() and write_str().
#ifndef TCPIP_JSON_H_
#define TCPIP_JSON_H_

#include "tcpip/version.h"

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tcpip/error.h"
#include "tcpip/read_writer.h"
#include "tcpip/send_result.h"
#include "tcpip/wait.h"

// Some macros of nlohmann-json change the layout of nlohmann::json, or what its
// inline functions do: JSON_DIAGNOSTICS, JSON_DIAGNOSTIC_POSITIONS,
// JSON_NOEXCEPTION and JSON_THROW_USER with its kin. A program must be compiled
// with the same ones, and the same version of nlohmann-json, as this library.
// The names of everything here hold these settings, so that a program with
// other ones does not link. (Return types alone are not part of a name: without
// this the program would link, and crash.)
#if JSON_DIAGNOSTICS
#define TCPIP_JSON_DIAGNOSTICS _diagnostics
#else
#define TCPIP_JSON_DIAGNOSTICS
#endif
#if defined(JSON_DIAGNOSTIC_POSITIONS) && JSON_DIAGNOSTIC_POSITIONS
#define TCPIP_JSON_POSITIONS _positions
#else
#define TCPIP_JSON_POSITIONS
#endif
#if defined(JSON_NOEXCEPTION) || defined(JSON_THROW_USER) || \
    defined(JSON_TRY_USER) || defined(JSON_CATCH_USER) ||    \
    defined(JSON_INTERNAL_CATCH_USER)
#define TCPIP_JSON_EXCEPTIONS _exceptions
#else
#define TCPIP_JSON_EXCEPTIONS
#endif
#define TCPIP_JSON_JOIN(major, minor, patch, a, b, c) \
  json_##major##_##minor##_##patch##a##b##c
#define TCPIP_JSON_EXPAND(major, minor, patch, a, b, c) \
  TCPIP_JSON_JOIN(major, minor, patch, a, b, c)
#define TCPIP_JSON_NAMESPACE                                                  \
  TCPIP_JSON_EXPAND(NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, \
                    NLOHMANN_JSON_VERSION_PATCH, TCPIP_JSON_DIAGNOSTICS,      \
                    TCPIP_JSON_POSITIONS, TCPIP_JSON_EXCEPTIONS)

namespace tcpip {
inline namespace TCPIP_JSON_NAMESPACE {

// How deep arrays and objects may be nested, in what is read and written.
inline constexpr std::size_t kMaxJsonDepth = 256;

// A text that is not JSON. Exactly that message was consumed; the next read
// starts at the next one.
class TCPIP_EXPORT JsonDecodeError final : public Error {
 public:
  // For the library itself.
  JsonDecodeError(std::string_view operation, std::string_view peer,
                  std::string_view text, std::size_t position,
                  std::string_view reason);
  JsonDecodeError(const JsonDecodeError&) = default;
  JsonDecodeError& operator=(const JsonDecodeError&) = default;
  ~JsonDecodeError() override = default;

  // An excerpt of the text, fit for a log: at most 200 bytes around the
  // position, "..." for the rest, in printable ASCII (\xNN, \" and \\ for all
  // other bytes). what() has it too.
  const std::string& text() const noexcept { return *text_; }
  // The index in the (UTF-8) text of the first byte of what is wrong; the
  // text's length if the text ends too early. As in Python's JSONDecodeError:
  // of a token (word, number, string, bracket, comma) that must not stand there
  // or is none, its first byte; of a string without an end, its opening quote;
  // inside a string, the control character, the backslash of an unknown escape,
  // the u of a wrong \u escape.
  std::size_t position() const noexcept { return position_; }

 private:
  std::shared_ptr<const std::string> text_;
  std::size_t position_;
};

// Python's extensions of JSON; off unless asked for.
struct TCPIP_EXPORT JsonOptions {
  // Reads and writes NaN, Infinity and -Infinity, spelled exactly so, as
  // Python's json module does by default. If false, reading one of them throws
  // JsonDecodeError, and writing one throws std::invalid_argument. A number
  // beyond the range of double (1e400) is refused either way.
  bool allow_nan = false;
};

// Reads one message. Throws what read_str() throws, and JsonDecodeError.
// (`read_json(connection, {})` does not compile, since {} may be either
// argument: leave it out.)
TCPIP_EXPORT nlohmann::json read_json(const ReadWriter& connection,
                                      const Wait& wait = {});
TCPIP_EXPORT nlohmann::json read_json(const ReadWriter& connection,
                                      const JsonOptions& options,
                                      const Wait& wait = {});
// The same without waiting: std::nullopt if not all of it has come yet.
TCPIP_EXPORT std::optional<nlohmann::json> try_read_json(
    const ReadWriter& connection, const JsonOptions& options = {});

// Writes one message, in ASCII (other characters as \u escapes), which every
// encoding has. Throws what write_str() throws; std::invalid_argument, with
// nothing sent, for NaN and infinities (see JsonOptions), strings that are not
// UTF-8, binary values, and values nested deeper than kMaxJsonDepth.
TCPIP_EXPORT void write_json(const ReadWriter& connection,
                             const nlohmann::json& data, const Wait& wait = {});
TCPIP_EXPORT void write_json(const ReadWriter& connection,
                             const nlohmann::json& data,
                             const JsonOptions& options, const Wait& wait = {});
// The same without waiting, as try_write_str().
TCPIP_EXPORT bool try_write_json(const ReadWriter& connection,
                                 const nlohmann::json& data,
                                 const JsonOptions& options = {});

// The same as send_str() and try_send_str().
TCPIP_EXPORT SendResult send_json(const ReadWriter& connection,
                                  const nlohmann::json& data,
                                  const JsonOptions& options = {});
TCPIP_EXPORT SendResult try_send_json(const ReadWriter& connection,
                                      const nlohmann::json& data,
                                      const JsonOptions& options = {});

// The conversions of read_json() and write_json() alone, for programs that get
// the text in another way, from a StreamReader for example. Throw
// JsonDecodeError, and std::invalid_argument.
TCPIP_EXPORT nlohmann::json parse_json(std::string_view text,
                                       const JsonOptions& options = {});
TCPIP_EXPORT std::string format_json(const nlohmann::json& data,
                                     const JsonOptions& options = {});

}  // namespace TCPIP_JSON_NAMESPACE
}  // namespace tcpip

#endif  // TCPIP_JSON_H_
