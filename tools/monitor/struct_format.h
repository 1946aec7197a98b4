// Structs as Python's module struct describes them: "<Ihd".
//
// All of Python's format characters and byte orders are known. Values are shown
// as Python shows them, so that a line can be pasted into Python; a float ("f")
// has no more digits than it needs.
//
// Threads: values.
#ifndef TOOLS_MONITOR_STRUCT_FORMAT_H_
#define TOOLS_MONITOR_STRUCT_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tcpip_monitor {

struct StructValue {
  std::string text;
  // If it is an integer that is not negative.
  std::optional<std::uint64_t> number = {};
};

class StructFormat {
 public:
  // Throws std::invalid_argument, which says what is wrong.
  explicit StructFormat(std::string_view format);

  // In bytes; as Python's calcsize().
  std::size_t size() const { return size_; }
  // How many values unpack() gives.
  std::size_t count() const { return count_; }
  // `bytes` has size() bytes.
  std::vector<StructValue> unpack(std::string_view bytes) const;

 private:
  struct Item {
    char code;
    std::size_t size;    // of one value, in bytes
    std::size_t repeat;  // how many values follow each other
    std::size_t offset;
  };

  bool is_little_;
  std::vector<Item> items_;
  std::size_t size_ = 0;
  std::size_t count_ = 0;
};

// A struct with what the command line says of it: "[ID=]FORMAT[:NAME,NAME...]".
struct StructSpec {
  StructFormat format;
  std::optional<std::uint64_t> id = {};
  std::vector<std::string> names = {};

  // Throws std::invalid_argument.
  static StructSpec parse(std::string_view text);
  // "(7, -1, 2.5)", or "counter=7 state=-1 angle=2.5" if there are names.
  std::string show(std::string_view bytes) const;
};

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_STRUCT_FORMAT_H_
