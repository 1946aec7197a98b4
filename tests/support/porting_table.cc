#include "tests/support/porting_table.h"

#include <algorithm>
#include <cstddef>
#include <regex>
#include <sstream>
#include <utility>

namespace tcpip_tests {
namespace {

using Column = PortingCell::Column;
using Strings = std::vector<std::string>;

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

// Without string literals.
Strings identifiers(std::string code) {
  static const std::regex kLiteral("\"[^\"]*\"|'[^']*'");
  static const std::regex kIdentifier("[A-Za-z_]\\w*");
  code = std::regex_replace(code, kLiteral, " ");
  Strings result;
  for (std::sregex_iterator it(code.begin(), code.end(), kIdentifier), end;
       it != end; ++it) {
    result.push_back(it->str());
  }
  return result;
}

std::string at_line(int line, const std::string& text) {
  return "line " + std::to_string(line) + ": " + text;
}

}  // namespace

PortingTable::PortingTable(std::string_view document) {
  std::istringstream stream{std::string(document)};
  std::string heading;
  std::vector<Column> columns;  // of the table that the line is in
  bool fenced = false;
  int number = 0;
  const auto cell = [&](Column column, std::string text) {
    return PortingCell{column, number, heading, std::move(text)};
  };
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (line.starts_with("```")) fenced = !fenced;
    if (fenced) continue;
    if (!line.starts_with("|")) columns.clear();
    if (line.starts_with("#")) {
      heading = trimmed(line.substr(line.find_first_not_of('#')));
      std::erase(heading, '`');
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
        for (const std::string& name : identifiers(span)) result.insert(name);
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
