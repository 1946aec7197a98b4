// The bytes of text messages: encodings, terminators, heartbeats.
//
// A text message is the encoded text and then the terminator's bytes, which are
// not encoded. The terminator ends the message wherever its bytes stand, even
// in the middle of a wide code unit. lsst.ts.tcpip reads in the same way, and a
// message that is not text can thus never swallow the next message. For the
// same reason a text whose bytes contain the terminator is not sent.
//
// Threads: TextCodec and TextFormat do not change after construction and may be
// used by any number of threads at once.
#ifndef TCPIP_ENDPOINT_TEXT_H_
#define TCPIP_ENDPOINT_TEXT_H_

#include <bit>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tcpip/address.h"

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

// The encoding that has this name in Python: the names and aliases of its
// codecs, in upper or lower case, with hyphens or blanks for underscores.
std::optional<Encoding> find_encoding(std::string_view name);

// The index of the first byte that does not belong to well-formed UTF-8 (RFC
// 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
std::optional<std::size_t> find_invalid_utf8(std::string_view text) noexcept;

// Converts between UTF-8, the encoding of this library's strings, and another
// encoding. As strict as Python, and with Python's rules for byte-order marks:
// utf-16 and utf-32 write one in this machine's byte order, and remove one of
// either byte order; the other encodings keep U+FEFF as a character. Needs
// nothing of the system: no iconv and no locale.
class TextCodec {
 public:
  // Throws std::invalid_argument if there is no such encoding.
  explicit TextCodec(std::string name);

  const std::string& name() const noexcept { return name_; }

  // True if the bytes are ASCII, and the text that they encode has the same
  // ones.
  bool is_plain(std::string_view bytes) const noexcept;
  // Appends the decoded bytes to `text`. Returns the index of the first wrong
  // byte, if there is one; the content of `text` is then undefined.
  std::optional<std::size_t> decode(std::string_view bytes,
                                    std::string& text) const;
  // The encoded text: a view of `text` itself or of `storage`. Throws
  // std::invalid_argument if `text` is not UTF-8 or has a character that the
  // encoding lacks; what() begins with `operation`.
  std::string_view encode(std::string_view text, std::string& storage,
                          const char* operation) const;

 private:
  const std::string name_;
  Encoding encoding_ = Encoding::kUtf8;
  std::size_t unit_ = 1;  // bytes of a code unit
  // Of a code unit; for utf-16 and utf-32, unless a mark says otherwise.
  std::endian order_ = std::endian::native;
  std::string mark_;        // the byte-order mark that encode() writes, or ""
  std::string other_mark_;  // the mark of the other byte order
};

// The format of a connection's text messages: encoding and terminator.
class TextFormat {
 public:
  // Throws std::invalid_argument for an empty terminator.
  TextFormat(std::shared_ptr<const TextCodec> codec, std::string terminator);

  const std::shared_ptr<const TextCodec>& codec() const noexcept {
    return codec_;
  }
  const std::string& terminator() const noexcept { return terminator_; }

  // True if the message is kHeartbeat, not encoded, and the terminator.
  bool is_heartbeat(std::string_view message) const noexcept;
  // Throws std::invalid_argument if the terminator would end a heartbeat early,
  // so that the peer would read something else.
  void check_heartbeats() const;
  // Sets `text` to that of `message`, which must end with the terminator.
  // Throws DecodeError with `operation` and `peer`; the content of `text` is
  // then undefined.
  void decode(std::string_view message, std::string& text,
              const char* operation, const Address& peer) const;
  // As TextCodec::encode(). Also throws std::invalid_argument if the peer would
  // find the terminator before the end of the message.
  std::string_view encode(std::string_view text, std::string& storage,
                          const char* operation) const;

 private:
  bool ends_early(std::string_view bytes) const noexcept;

  const std::shared_ptr<const TextCodec> codec_;
  const std::string terminator_;
  const bool can_overlap_;  // a part of a message, and the terminator
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_TEXT_H_
