// A document with tables of Python's names and ours, and what may be wrong with
// it apart from its C++ names (tests/documents/porting.py has the compiler
// judge those): a Python name that is missing, a row that explains nothing, a
// test that does not exist.
//
// Tables have a column "Python" and a column "C++", and perhaps others. What
// counts are the code spans (`...`) in them.
//
// Threads: one at a time.
#ifndef TESTS_SUPPORT_PORTING_TABLE_H_
#define TESTS_SUPPORT_PORTING_TABLE_H_

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tcpip_tests {

struct PortingCell {
  enum class Column { kPython, kCpp, kOther };
  Column column;
  int line;             // of the document, from 1
  std::string heading;  // without the marks of a code span
  std::string text;
};

class PortingTable {
 public:
  explicit PortingTable(std::string_view document);

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
