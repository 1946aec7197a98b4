// An exchange between a client and a server, as a Recorder records it and a
// ReplayServer plays it.
//
// Its text form is for people to read and to edit:
//
//   tcpip recording 1
//   # seconds, > from the client or < from the server, bytes
//   0.000000 < "ACE Main Box\r\n>"
//   0.251904 > "pos\r"
//   0.263118 < "12.5\xb0\r\n>"
//   1.000000 > end
//
// The first line says what the file is. Every other line is one piece: when it
// passed, counted from the beginning of the connection; who sent it; its bytes,
// or `end` for FIN. Bytes are written \r, \n, \t, \\, \" or \xb0 (always two
// digits) where they are not printable ASCII. Bytes from 0x80 on may stand as
// they are. Empty lines and lines that begin with # are ignored; so are blanks
// between the words.
//
// Threads: values.
#ifndef TCPIP_TESTING_RECORDING_H_
#define TCPIP_TESTING_RECORDING_H_

#include "tcpip/version.h"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "tcpip/testing/direction.h"

namespace tcpip_testing {

struct TCPIP_EXPORT Recording {
  struct Piece {
    Direction direction = Direction::kToServer;
    // Since the beginning of the connection.
    std::chrono::microseconds time{0};
    std::string bytes = {};  // empty: the end of what that side sends
    bool operator==(const Piece&) const = default;
  };

  // In the order in which they passed.
  std::vector<Piece> pieces = {};
  bool operator==(const Recording&) const = default;

  // The text form. Throws as check().
  std::string text() const;
  // Throws std::invalid_argument, naming `name` and the line, for a text that
  // is not a recording: "dome.txt, line 3: ...".
  static Recording parse(std::string_view text,
                         std::string_view name = "recording");

  // Writes and reads a file with the text form. Throw std::system_error, naming
  // the path; load() also throws what parse() does.
  void save(const std::string& path) const;
  static Recording load(const std::string& path);

  // Throws std::invalid_argument, naming the piece, if a time is negative or
  // less than that of the piece before, or if a side sends behind its end.
  void check() const;

  // All bytes of one direction.
  std::string bytes(Direction direction) const;
};

// Bytes in the form that a recording has them in, without the quotes.
TCPIP_EXPORT std::string escaped(std::string_view bytes);

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_RECORDING_H_
