#include "tests/support/porting_table.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <optional>
#include <regex>
#include <sstream>

namespace tcpip_tests {
namespace {

using Column = PortingCell::Column;
using Strings = std::vector<std::string>;
using Tokens = std::vector<CppToken>;

std::string trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == text.npos) return {};
  return std::string(
      text.substr(begin, text.find_last_not_of(" \t") + 1 - begin));
}

Strings code_spans(const std::string& text) {
  Strings result;
  for (std::size_t begin = text.find('`'); begin != text.npos;) {
    const std::size_t end = text.find('`', begin + 1);
    if (end == text.npos) break;
    result.push_back(text.substr(begin + 1, end - begin - 1));
    begin = text.find('`', end + 1);
  }
  return result;
}

Strings cells_of(const std::string& line) {
  Strings result;
  std::istringstream stream(line.substr(1));
  for (std::string cell; std::getline(stream, cell, '|');) {
    result.push_back(trimmed(cell));
  }
  return result;
}

Column column_of(const std::string& title) {
  if (title == "Python") return Column::kPython;
  if (title == "C++") return Column::kCpp;
  return Column::kOther;
}

// The headings that a line is under.
class Headings {
 public:
  void add(const std::string& line) {
    const std::size_t level = line.find_first_not_of('#');
    texts_.resize(level);
    texts_[level - 1] = trimmed(line.substr(level));
  }
  // Without the marks of a code span.
  std::string last() const {
    std::string result = texts_.empty() ? "" : texts_.back();
    std::erase(result, '`');
    return result;
  }
  Strings classes() const {
    Strings result;
    for (const std::string& text : texts_) {
      for (const std::string& span : code_spans(text)) result.push_back(span);
    }
    return result;
  }

 private:
  Strings texts_;
};

// What the document calls objects of our classes. "options" is for all structs
// of that name.
const std::map<std::string, std::string>& objects() {
  static const std::map<std::string, std::string> kObjects = {
      {"client", "Client"},
      {"event", "ConnectionEvent"},
      {"queue", "CallbackQueue"},
      {"reader", "StreamReader"},
      {"server", "OneClientReadLoopServer"},
      {"writer", "StreamWriter"},
  };
  return kObjects;
}

// The structs that must all have an option that stands under a heading. Any one
// will do under others.
Strings option_structs(const std::string& heading) {
  static const Strings kBoth = {"ClientOptions", "BasicServerOptions"};
  static const std::map<std::string, Strings> kStructs = {
      {"BaseClientOrServer", kBoth},
      {"Client", {"ClientOptions"}},
      {"Heartbeats", kBoth},
      {"OneClientReadLoopServer", {"BasicServerOptions"}},
      {"OneClientServer", {"BasicServerOptions"}},
      {"Text", kBoth},
      {"open_connection", {"OpenConnectionOptions"}},
      {"start_server", {"BasicServerOptions"}},
  };
  const auto found = kStructs.find(heading);
  return found != kStructs.end() ? found->second : Strings();
}

bool is_constant(std::string_view name) {
  return name.size() > 1 && name[0] == 'k' &&
         std::isupper(static_cast<unsigned char>(name[1])) != 0;
}

// Looks up the names in one code span.
class Checker {
 public:
  Checker(const CppNames& names, const std::set<std::string>& python,
          const PortingCell& cell, const std::string& span)
      : names_(names),
        python_(python),
        cell_(cell),
        tokens_(cpp_tokens(span)),
        all_(cell.column == Column::kCpp) {}

  // The names that are not declared.
  Strings run() {
    int depth = 0;  // in parentheses: arguments
    for (at_ = 0; at_ < tokens_.size(); ++at_) {
      const CppToken& token = tokens_[at_];
      if (token.is("(")) ++depth;
      if (token.is(")")) --depth;
      if (!token.is_identifier() || is_cpp_keyword(token.text)) continue;
      if (is("::", at_ + 1)) {
        qualified();
      } else if (at_ > 0 && (is(".", at_ - 1) || is("->", at_ - 1))) {
        after_dot(token.text);
      } else if (is(".", at_ + 1) || is("->", at_ + 1)) {
        object(token.text);
      } else if (is_constant(token.text)) {
        expect(declared(token.text), token.text);
      } else if (all_) {
        plain(token.text, depth > 0);
      } else if (is("(", at_ + 1) && !python_.contains(token.text)) {
        expect(names_.has_name(token.text) || names_.has_member(token.text),
               token.text);
      }
    }
    return faults_;
  }

 private:
  bool is(std::string_view text, std::size_t index) const {
    return index < tokens_.size() && tokens_[index].is(text);
  }

  void expect(bool right, const std::string& name) {
    if (!right) faults_.push_back(name);
  }

  bool declared(const std::string& name) const {
    return names_.has_name(name) || is_member(name);
  }
  bool is_member(const std::string& name) const {
    return std::any_of(
        cell_.classes.begin(), cell_.classes.end(),
        [&](const std::string& type) { return names_.has_member(type, name); });
  }
  bool in_class() const {
    return std::any_of(
        cell_.classes.begin(), cell_.classes.end(),
        [&](const std::string& type) { return names_.has_type(type); });
  }

  // A::b, from the first part to the last.
  void qualified() {
    Strings parts{tokens_[at_].text};
    while (is("::", at_ + 1) && at_ + 2 < tokens_.size()) {
      at_ += 2;
      parts.push_back(tokens_[at_].text);
    }
    if (parts[0] == "std" || parts[0] == "nlohmann") return;
    if (parts.size() > 1 &&
        (parts[0] == "tcpip" || parts[0] == "tcpip_testing")) {
      parts.erase(parts.begin());
    }
    std::string whole = parts[0];
    bool right = declared(parts[0]);
    for (std::size_t i = 1; i < parts.size(); ++i) {
      whole += "::" + parts[i];
      right = right && names_.has_type(parts[i - 1]) &&
              names_.has_member(parts[i - 1], parts[i]);
    }
    expect(right, whole);
  }

  // The member of an object, or an option.
  void after_dot(const std::string& name) {
    const CppToken* before = at_ > 1 ? &tokens_[at_ - 2] : nullptr;
    if (before != nullptr && (before->is(")") || before->is("]"))) {
      if (all_) expect(names_.has_member(name), name);
    } else if (before != nullptr && before->is_identifier() &&
               before->text != "options" && !names_.has_option(before->text)) {
      if (const auto type = objects().find(before->text);
          type != objects().end() && (all_ || before->text == "event")) {
        expect(names_.has_member(type->second, name),
               type->second + "::" + name);
      }
    } else if (all_ || at_ == 1) {
      // The first of its span; `a .b` in Python is no such thing.
      const bool nested = before != nullptr && before->is_identifier();
      expect(is_option(name, nested), "." + name);
    }
  }

  bool is_option(const std::string& name, bool nested) const {
    const Strings structs = option_structs(cell_.heading);
    if (nested || structs.empty()) return names_.has_option(name);
    return std::all_of(
        structs.begin(), structs.end(),
        [&](const std::string& type) { return names_.has_member(type, name); });
  }

  // What stands before a dot.
  void object(const std::string& name) {
    if (!all_) return;
    expect(name == "options" || objects().contains(name), name);
  }

  void plain(const std::string& name, bool argument) {
    if (argument && !is("(", at_ + 1) && !names_.has_type(name)) {
      expect(
          name.size() == 1 || names_.mentions(name) || objects().contains(name),
          name);
    } else if (in_class() && is("(", at_ + 1) && !names_.has_type(name)) {
      // A member; or a function that takes the object.
      expect(is_member(name) ||
                 (names_.has_name(name) && at_ + 2 < tokens_.size() &&
                  objects().contains(tokens_[at_ + 2].text)),
             name);
    } else {
      expect(declared(name), name);
    }
  }

  const CppNames& names_;
  const std::set<std::string>& python_;
  const PortingCell& cell_;
  const Tokens tokens_;
  const bool all_;  // else only what cannot be Python
  std::size_t at_ = 0;
  Strings faults_;
};

std::string at_line(int line, const std::string& text) {
  return "line " + std::to_string(line) + ": " + text;
}

bool is_header_path(const std::string& span) {
  return span.ends_with(".h") && span.find(' ') == span.npos;
}

}  // namespace

PortingTable::PortingTable(std::string_view document) {
  std::istringstream stream{std::string(document)};
  Headings headings;
  std::vector<Column> columns;  // of the table that the line is in
  bool fenced = false;
  int number = 0;
  const auto cell = [&](Column column, std::string text) {
    return PortingCell{column, number, headings.last(), headings.classes(),
                       std::move(text)};
  };
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (line.starts_with("```")) fenced = !fenced;
    if (fenced) continue;
    if (!line.starts_with("|")) columns.clear();
    if (line.starts_with("#")) {
      headings.add(line);
    } else if (line.starts_with("|---")) {
      continue;
    } else if (line.starts_with("|") && columns.empty()) {
      for (const std::string& title : cells_of(line)) {
        columns.push_back(column_of(title));
      }
    } else if (line.starts_with("|")) {
      std::vector<PortingCell> row;
      const Strings texts = cells_of(line);
      for (std::size_t i = 0; i < texts.size(); ++i) {
        const Column column = i < columns.size() ? columns[i] : Column::kOther;
        row.push_back(cell(column, texts[i]));
      }
      rows_.push_back(std::move(row));
    } else if (!line.starts_with("    ")) {
      rows_.push_back({cell(Column::kOther, line)});
    }
  }
}

std::vector<std::string> PortingTable::undeclared(
    const CppNames& names, const std::set<std::string>& headers) const {
  const std::set<std::string> python = python_names("");
  Strings result;
  for (const auto& row : rows_) {
    for (const PortingCell& cell : row) {
      if (cell.column == Column::kPython) continue;
      for (const std::string& span : code_spans(cell.text)) {
        if (span.starts_with("//") || span == "none") continue;
        if (is_header_path(span)) {
          if (!headers.contains(span)) {
            result.push_back(at_line(cell.line, "no header " + span));
          }
          continue;
        }
        for (const std::string& name :
             Checker(names, python, cell, span).run()) {
          result.push_back(at_line(
              cell.line, "`" + span + "`: " + name + " is not declared"));
        }
      }
    }
  }
  return result;
}

std::vector<std::string> PortingTable::unexplained() const {
  Strings result;
  for (const auto& row : rows_) {
    const auto cpp = std::find_if(
        row.begin(), row.end(),
        [](const PortingCell& cell) { return cell.column == Column::kCpp; });
    if (cpp == row.end()) continue;
    const bool why =
        std::any_of(row.begin(), row.end(), [](const PortingCell& cell) {
          return cell.column == Column::kOther && !cell.text.empty();
        });
    if (cpp->text.empty() || (cpp->text == "none" && !why)) {
      result.push_back(at_line(cpp->line, row.front().text));
    }
  }
  return result;
}

std::set<std::string> PortingTable::python_names(
    const std::string& heading) const {
  std::set<std::string> result;
  for (const auto& row : rows_) {
    for (const PortingCell& cell : row) {
      if (cell.column != Column::kPython) continue;
      if (!heading.empty() && cell.heading != heading) continue;
      for (const std::string& span : code_spans(cell.text)) {
        for (const CppToken& token : cpp_tokens(span)) {
          if (token.is_identifier()) result.insert(token.text);
        }
      }
    }
  }
  return result;
}

std::set<std::string> PortingTable::tests() const {
  static const std::regex kTest(
      "UpstreamDefect\\d+(\\.\\w+)?|[A-Z]\\w*Test\\.[A-Z]\\w+");
  std::set<std::string> result;
  for (const auto& row : rows_) {
    for (const PortingCell& cell : row) {
      for (const std::string& span : code_spans(cell.text)) {
        if (std::regex_match(span, kTest)) result.insert(span);
      }
    }
  }
  return result;
}

}  // namespace tcpip_tests
