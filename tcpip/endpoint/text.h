// Text as it goes over the wire: encodings, terminators, heartbeat lines.
//
// A text message is the text in some encoding, and then the terminator's bytes
// as they are, not encoded. The terminator ends the message wherever its bytes
// stand, be it in the middle of a wide code unit: so does lsst.ts.tcpip read,
// and so a message that is no text can never swallow the next one. For the same
// reason a text whose bytes contain the terminator is not sent.
//
// Threads: TextCodec and TextFormat do not change after construction and may be
// used by any number of threads at once.
#ifndef TCPIP_ENDPOINT_TEXT_H_
#define TCPIP_ENDPOINT_TEXT_H_

#include <iconv.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tcpip/address.h"
#include "tcpip/base/mutex.h"

namespace tcpip::internal {

enum class Encoding {
  kUtf8,
  kAscii,
  kLatin1,
  kUtf16,  // with a byte-order mark
  kUtf16Le,
  kUtf16Be,
  kUtf32,  // with a byte-order mark
  kUtf32Le,
  kUtf32Be
};

// The encoding that Python has under that name: names and aliases are those of
// its codecs, in any case, with hyphens, blanks and the like for underscores.
std::optional<Encoding> find_encoding(std::string_view name);

// The index of the first byte that does not belong to well-formed UTF-8 (RFC
// 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
std::optional<std::size_t> find_invalid_utf8(std::string_view text) noexcept;

// iconv() from one encoding to another.
class Converter {
 public:
  // iconv's names. Throws Error if the system's iconv lacks one of them.
  Converter(const char* to, const char* from);
  ~Converter();
  Converter(const Converter&) = delete;
  Converter& operator=(const Converter&) = delete;

  // Appends the converted bytes, at most `room` of them. Returns the index of
  // the first byte that cannot be converted, if there is one.
  std::optional<std::size_t> convert(std::string_view in, std::string& out,
                                     std::size_t room) TCPIP_EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  const ::iconv_t handle_ TCPIP_PT_GUARDED_BY(mutex_);  // it has a state
};

// From UTF-8, which this library's strings are in, to an encoding and back, as
// strict as Python's, with the same rules for byte-order marks: utf-16 and
// utf-32 write one, and take one off, of whichever byte order; the others keep
// U+FEFF as a character.
class TextCodec {
 public:
  // Throws std::invalid_argument if there is no such encoding.
  explicit TextCodec(std::string name);
  ~TextCodec();

  const std::string& name() const noexcept { return name_; }

  // Appends the text to `text`. Returns the index of the first byte that is
  // wrong, if there is one; `text` is then not to be used.
  std::optional<std::size_t> decode(std::string_view bytes,
                                    std::string& text) const;
  // The encoded text: a view of `text` itself or of `storage`. Throws
  // std::invalid_argument if it is not UTF-8, or has a character that the
  // encoding lacks; `operation` begins the message.
  std::string_view encode(std::string_view text, std::string& storage,
                          const char* operation) const;

 private:
  const std::string name_;
  Encoding encoding_ = Encoding::kUtf8;
  std::size_t unit_ = 1;  // bytes of a code unit
  std::string mark_;      // what encode() begins with
  std::string other_mark_;
  // None of them for UTF-8 and ASCII, whose bytes are the text.
  std::unique_ptr<Converter> decoder_;
  std::unique_ptr<Converter> other_decoder_;  // of the other byte order
  std::unique_ptr<Converter> encoder_;
};

// How a connection's text messages look.
class TextFormat {
 public:
  // Throws std::invalid_argument for an empty terminator.
  TextFormat(std::shared_ptr<const TextCodec> codec, std::string terminator);

  const std::shared_ptr<const TextCodec>& codec() const noexcept {
    return codec_;
  }
  const std::string& terminator() const noexcept { return terminator_; }

  // True for the word, not encoded, and the terminator, and nothing else.
  bool is_heartbeat(std::string_view message) const noexcept;
  // The text of a message, which ends with the terminator. Throws DecodeError
  // with `operation` and `peer`.
  std::string decode(std::string_view message, const char* operation,
                     const Address& peer) const;
  // As TextCodec's; and throws std::invalid_argument if the other end would
  // find the terminator before the end of the message.
  std::string_view encode(std::string_view text, std::string& storage,
                          const char* operation) const;

 private:
  const std::shared_ptr<const TextCodec> codec_;
  const std::string terminator_;
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_TEXT_H_
