// What the soak's clients and servers say to each other. A request has the
// nonce of its connection, a number (1, 2, 3, ...) and bytes that follow from
// the two; the reply has the same. So whoever gets a message can tell whether
// it is whole, in order, and from the right connection.
//
// Threads: values and functions without state.
#ifndef TESTS_ENDURANCE_EXCHANGE_H_
#define TESTS_ENDURANCE_EXCHANGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tcpip/read_writer.h"
#include "tcpip/wait.h"

namespace tcpip_tests {

enum class Format { kText, kJson, kStruct };

struct Message {
  std::uint64_t nonce = 0;
  std::uint64_t number = 0;
  std::string data;
  friend bool operator==(const Message&, const Message&) = default;
};

// A peer that sends what is no message. Servers end its connection.
class GarbageError : public std::runtime_error {
 public:
  GarbageError() : std::runtime_error("garbage") {}
};
// A message whose bytes are not those that were sent.
class CorruptError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The message of that number, with its bytes. A struct always has 40.
Message message_of(Format format, std::uint64_t nonce, std::uint64_t number);
// As it stands on the wire, terminator and all.
std::string on_the_wire(Format format, const Message& message);
// Bytes that no reader takes for a message.
std::string garbage(Format format, std::size_t size);

// Throw what the read throws; GarbageError; CorruptError if the bytes do not
// follow from nonce and number.
Message read_message(const tcpip::ReadWriter& connection, Format format,
                     const tcpip::Wait& wait);
std::optional<Message> try_read_message(const tcpip::ReadWriter& connection,
                                        Format format);
Message text_message(std::string_view text);
// Throws what the write throws.
void write_message(const tcpip::ReadWriter& connection, Format format,
                   const Message& message, const tcpip::Wait& wait);

// Takes messages out of what a bare socket has received. Skips heartbeats.
class MessageSplitter {
 public:
  explicit MessageSplitter(Format format) : format_(format) {}
  void add(std::string_view bytes) { bytes_ += bytes; }
  // Throws as read_message().
  std::optional<Message> next();
  bool empty() const { return bytes_.empty(); }

 private:
  const Format format_;
  std::string bytes_;
};

}  // namespace tcpip_tests

#endif  // TESTS_ENDURANCE_EXCHANGE_H_
