// The names that C++ headers declare, as far as a reader without a compiler
// gets: enough to tell whether a name in a document still exists.
//
//   CppNames names;
//   names.add_header(text);
//   names.has_member("StreamReader", "read_until");
//
// Reads headers in the style of this project. Comments, literals, bodies of
// functions, namespaces called `internal` and private members do not count; nor
// do declarations without a definition of a class, or deleted functions.
//
// Threads: one at a time.
#ifndef TESTS_SUPPORT_CPP_NAMES_H_
#define TESTS_SUPPORT_CPP_NAMES_H_

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tcpip_tests {

struct CppToken {
  enum class Kind { kIdentifier, kLiteral, kSymbol };
  Kind kind;
  std::string text;  // of a literal: as much as is needed to tell it is one

  bool is(std::string_view symbol) const {
    return kind != Kind::kLiteral && text == symbol;
  }
  bool is_identifier() const { return kind == Kind::kIdentifier; }
};

// The code without comments and preprocessor lines.
std::vector<CppToken> cpp_tokens(std::string_view code);

bool is_cpp_keyword(std::string_view word);

class CppNames {
 public:
  void add_header(std::string_view text);

  // A class, struct or enum, or another name for one.
  bool has_type(const std::string& name) const;
  // Whatever a namespace holds: types, functions, constants, concepts.
  bool has_name(const std::string& name) const;
  // A public or protected member of the class or of one of its bases; an
  // enumerator of the enum.
  bool has_member(const std::string& type, const std::string& name) const;
  // A member of any class.
  bool has_member(const std::string& name) const;
  // A member of a struct that is called ...Options.
  bool has_option(const std::string& name) const;
  // An identifier anywhere in the code, be it a parameter's.
  bool mentions(const std::string& name) const;

 private:
  class Parser;
  struct Type {
    bool internal = false;
    std::set<std::string> members;
    std::vector<std::string> bases;
  };

  std::map<std::string, Type> types_;  // by the last part of their name
  std::set<std::string> names_;
  std::set<std::string> mentioned_;
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_CPP_NAMES_H_
