// A document with tables of Python's names and ours, and what may be wrong with
// it: a C++ name that is not declared (any more), a Python name that is
// missing.
//
// Tables have a column "Python" and a column "C++", and perhaps others. What
// counts are the code spans (`...`) in them. In the column "C++" every name
// must be declared:
//   `Type::member`, `kConstant`, `function(argument)`
//   `.option`               of the section's options; or of any struct that is
//                           called ...Options
//   `object.member`         of the class that the object's name stands for
//   `member`                of the classes in the headings above the table
//   `function(object)`      of the namespace
//   `tcpip/header.h`        the header itself
// An argument is any word that the headers use, an object's name, or a single
// letter. In other columns and outside of tables only what is not Python is
// looked at: `Type::member`, `.option`, `kConstant`, `event.member`, and
// `function()` unless it is a name in the column "Python".
//
// Threads: one at a time.
#ifndef TESTS_SUPPORT_PORTING_TABLE_H_
#define TESTS_SUPPORT_PORTING_TABLE_H_

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/cpp_names.h"

namespace tcpip_tests {

struct PortingCell {
  enum class Column { kPython, kCpp, kOther };
  Column column;
  int line;  // of the document, from 1
  std::string heading;
  std::vector<std::string> classes;  // in the headings above, as in `Class`
  std::string text;
};

class PortingTable {
 public:
  explicit PortingTable(std::string_view document);

  // Rows, and a cell for each line outside of tables.
  const std::vector<std::vector<PortingCell>>& rows() const { return rows_; }

  // One line for each name that is not declared, with the line's number.
  // `headers` are the paths of those that were read into `names`.
  std::vector<std::string> undeclared(
      const CppNames& names, const std::set<std::string>& headers) const;
  // Rows in which the column "C++" says nothing, or says `none` and no other
  // column says why.
  std::vector<std::string> unexplained() const;
  // All in code spans of the column "Python", in the tables under that heading;
  // under any if it is empty.
  std::set<std::string> python_names(const std::string& heading) const;
  // What stands in code spans and looks like the name of a test: "Suite.Test",
  // and "UpstreamDefect1".
  std::set<std::string> tests() const;

 private:
  std::vector<std::vector<PortingCell>> rows_;
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_PORTING_TABLE_H_
