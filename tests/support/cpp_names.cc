#include "tests/support/cpp_names.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <utility>

namespace tcpip_tests {
namespace {

using Tokens = std::vector<CppToken>;
using Kind = CppToken::Kind;

bool starts_word(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_';
}
bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}
bool continues_word(char c) { return starts_word(c) || is_digit(c); }

// Where the literal ends that begins at `begin` with a quotation mark.
std::size_t end_of_literal(std::string_view code, std::size_t begin) {
  std::size_t i = begin + 1;
  while (i < code.size() && code[i] != code[begin]) {
    i += code[i] == '\\' ? 2 : 1;
  }
  return std::min(i + 1, code.size());
}

// Where the preprocessor line ends, with its continuations.
std::size_t end_of_directive(std::string_view code, std::size_t i) {
  while (i < code.size() && code[i] != '\n') i += code[i] == '\\' ? 2 : 1;
  return std::min(i, code.size());
}

}  // namespace

std::vector<CppToken> cpp_tokens(std::string_view code) {
  // Longest first. A ">>" is two tokens: it may close two templates.
  static constexpr std::array<std::string_view, 9> kSymbols = {
      "...", "<=>", "::", "->", "<=", ">=", "==", "!=", "&&"};
  Tokens result;
  bool line_begins = true;
  for (std::size_t i = 0; i < code.size();) {
    const char c = code[i];
    const std::string_view rest = code.substr(i);
    if (c == '\n' || c == ' ' || c == '\t') {
      if (c == '\n') line_begins = true;
      ++i;
      continue;
    }
    if (rest.starts_with("//")) {
      i = std::min(code.find('\n', i), code.size());
      continue;
    }
    if (rest.starts_with("/*")) {
      i = std::min(code.find("*/", i + 2), code.size() - 2) + 2;
      continue;
    }
    if (c == '#' && line_begins) {
      i = end_of_directive(code, i);
      continue;
    }
    line_begins = false;
    if (c == '"' || c == '\'') {
      result.push_back({Kind::kLiteral, "\"\""});
      i = end_of_literal(code, i);
    } else if (is_digit(c)) {
      std::size_t end = i + 1;
      while (end < code.size() &&
             (continues_word(code[end]) || code[end] == '.' ||
              (code[end] == '\'' && continues_word(code[end - 1])))) {
        ++end;
      }
      result.push_back({Kind::kLiteral, "0"});
      i = end;
    } else if (starts_word(c)) {
      std::size_t end = i + 1;
      while (end < code.size() && continues_word(code[end])) ++end;
      result.push_back({Kind::kIdentifier, std::string(code, i, end - i)});
      i = end;
    } else {
      std::string_view symbol = rest.substr(0, 1);
      for (const std::string_view each : kSymbols) {
        if (rest.starts_with(each)) {
          symbol = each;
          break;
        }
      }
      result.push_back({Kind::kSymbol, std::string(symbol)});
      i += symbol.size();
    }
  }
  return result;
}

bool is_cpp_keyword(std::string_view word) {
  static const std::set<std::string_view> kWords = {
      "alignas",  "auto",     "bool",     "break",    "case",      "catch",
      "char",     "class",    "concept",  "const",    "constexpr", "continue",
      "decltype", "default",  "delete",   "double",   "else",      "enum",
      "explicit", "false",    "final",    "float",    "for",       "friend",
      "if",       "inline",   "int",      "long",     "namespace", "new",
      "noexcept", "nullptr",  "operator", "override", "private",   "protected",
      "public",   "requires", "return",   "short",    "signed",    "sizeof",
      "static",   "struct",   "switch",   "template", "this",      "throw",
      "true",     "try",      "typename", "union",    "unsigned",  "using",
      "virtual",  "void",     "while"};
  return kWords.contains(word);
}

// Goes through one header and notes what it declares.
class CppNames::Parser {
 public:
  Parser(CppNames& names, Tokens tokens)
      : names_(names), tokens_(std::move(tokens)) {}

  void run() {
    while (!done()) parse_scope({});
  }

 private:
  struct Scope {
    Type* type = nullptr;  // none in a namespace
    bool hidden = false;   // private members, internal namespaces
  };

  bool done() const { return at_ >= tokens_.size(); }
  const CppToken& peek(std::size_t ahead = 0) const {
    static const CppToken kEnd{Kind::kSymbol, ""};
    return at_ + ahead < tokens_.size() ? tokens_[at_ + ahead] : kEnd;
  }
  const CppToken& take() {
    const CppToken& token = peek();
    ++at_;
    return token;
  }

  // Past the bracket that closes the one just taken.
  void skip_to(std::string_view open, std::string_view close) {
    for (int depth = 1; !done() && depth > 0;) {
      const CppToken& token = take();
      if (token.is(open)) ++depth;
      if (token.is(close)) --depth;
      // Inside a template's arguments "(a > b)" closes nothing.
      if (open == "<" && token.is("(")) skip_to("(", ")");
    }
  }

  // Up to the end of the scope that has been entered.
  void parse_scope(Scope scope) {
    while (!done()) {
      if (peek().is("}")) {
        take();
        return;
      }
      if (peek().is(";")) {
        take();
      } else if (scope.type != nullptr && peek(1).is(":") &&
                 (peek().is("public") || peek().is("protected") ||
                  peek().is("private"))) {
        scope.hidden = take().is("private");
        take();
      } else {
        parse_declaration(scope);
      }
    }
  }

  // `statement` gets the tokens outside of brackets, and one opening bracket
  // for each that was skipped.
  void parse_declaration(const Scope& scope) {
    Tokens statement;
    bool assigned = false;
    bool called = false;  // has parentheses: a function's, maybe
    const auto last_is = [&](std::string_view text) {
      return !statement.empty() && statement.back().is(text);
    };
    while (!done() && !peek().is("}")) {
      const CppToken token = take();
      if (token.is(";")) break;
      if (token.is("operator")) {
        statement.push_back(token);
        while (!done() && !peek().is("(")) take();
        if (peek(1).is(")") && peek(2).is("(")) at_ += 2;  // operator()
      } else if (token.is("(")) {
        skip_to("(", ")");
        if (last_is("alignas") || last_is("decltype") || last_is("explicit")) {
          continue;
        }
        called = true;
        statement.push_back(token);
      } else if (token.is("[")) {
        skip_to("[", "]");
        if (!statement.empty()) statement.push_back(token);
      } else if (token.is("<") && !assigned && !statement.empty() &&
                 statement.back().is_identifier()) {
        skip_to("<", ">");
      } else if (token.is("{")) {
        if (!assigned && !called && parse_block(scope, statement)) return;
        if (assigned || !called || last_is("requires")) {
          skip_to("{", "}");  // an initialiser
          statement.push_back(token);
          continue;
        }
        skip_to("{", "}");  // a body, or a member's initialiser before it
        if (!peek().is(",") && !peek().is("{")) break;
      } else {
        if (token.is("=")) assigned = true;
        statement.push_back(token);
      }
    }
    note(scope, statement);
  }

  // Namespaces, classes and enums, whose opening brace has been taken. False if
  // it is none.
  bool parse_block(const Scope& scope, const Tokens& statement) {
    const auto keyword = std::find_if(
        statement.begin(), statement.end(), [](const CppToken& token) {
          return token.is("namespace") || token.is("class") ||
                 token.is("struct") || token.is("union") || token.is("enum");
        });
    if (keyword == statement.end()) return false;
    if (keyword->is("namespace")) {
      const bool internal = std::any_of(
          keyword, statement.end(),
          [](const CppToken& token) { return token.is("internal"); });
      parse_scope({.hidden = scope.hidden || internal});
      return true;
    }
    // The name is what stands last before the bases.
    const auto colon =
        std::find_if(keyword, statement.end(),
                     [](const CppToken& token) { return token.is(":"); });
    std::string name;
    for (auto token = keyword; token != colon; ++token) {
      if (token->is_identifier() && !is_cpp_keyword(token->text)) {
        name = token->text;
      }
    }
    Type& type = names_.types_[name];
    type.internal = scope.hidden;
    add(scope, name);
    if (keyword->is("enum")) {
      parse_enumerators(type);
    } else {
      for (auto token = colon; token != statement.end(); ++token) {
        const auto next = token + 1;
        if (token->is_identifier() && !is_cpp_keyword(token->text) &&
            (next == statement.end() || !next->is("::"))) {
          type.bases.push_back(token->text);
        }
      }
      parse_scope({.type = &type, .hidden = keyword->is("class")});
    }
    while (!done() && !peek().is(";") && !peek().is("}")) take();
    return true;
  }

  void parse_enumerators(Type& type) {
    bool begins = true;
    while (!done()) {
      const CppToken token = take();
      if (token.is("}")) return;
      if (begins && token.is_identifier()) type.members.insert(token.text);
      begins = token.is(",");
    }
  }

  // What the statement declares, if anything.
  void note(const Scope& scope, const Tokens& statement) {
    if (statement.empty()) return;
    const CppToken& first = statement.front();
    if (first.is("friend") || first.is("static_assert") || first.is("class") ||
        first.is("struct") || first.is("enum") || first.is("namespace")) {
      return;
    }
    if (statement.back().is("delete")) return;
    std::string name;
    std::size_t i = 0;
    for (; i < statement.size(); ++i) {
      const CppToken& token = statement[i];
      if (token.is("(") || token.is("=") || token.is("{") || token.is("[")) {
        break;
      }
      if (token.is("operator")) return;
      if (token.is_identifier() && !is_cpp_keyword(token.text)) {
        name = token.text;
      }
    }
    const bool equals = i < statement.size() && statement[i].is("=");
    const bool alias =
        std::any_of(statement.begin(), statement.end(),
                    [](const CppToken& token) { return token.is("using"); });
    if (alias) {
      if (!equals) return;  // brings in another's name
      Type& type = names_.types_[name];
      type.internal = scope.hidden;
      // The last part of the first name.
      for (++i; i < statement.size(); ++i) {
        if (is_cpp_keyword(statement[i].text)) continue;
        if (i + 1 < statement.size() && statement[i + 1].is("::")) {
          ++i;
          continue;
        }
        type.bases.push_back(statement[i].text);
        break;
      }
    }
    add(scope, name);
  }

  void add(const Scope& scope, const std::string& name) {
    if (scope.hidden || name.empty()) return;
    if (scope.type != nullptr) {
      scope.type->members.insert(name);
    } else {
      names_.names_.insert(name);
    }
  }

  CppNames& names_;
  const Tokens tokens_;
  std::size_t at_ = 0;
};

void CppNames::add_header(std::string_view text) {
  Tokens tokens = cpp_tokens(text);
  for (const CppToken& token : tokens) {
    if (token.is_identifier()) mentioned_.insert(token.text);
  }
  Parser(*this, std::move(tokens)).run();
}

bool CppNames::has_type(const std::string& name) const {
  const auto found = types_.find(name);
  return found != types_.end() && !found->second.internal;
}

bool CppNames::has_name(const std::string& name) const {
  return names_.contains(name);
}

bool CppNames::has_member(const std::string& type,
                          const std::string& name) const {
  const auto found = types_.find(type);
  if (found == types_.end()) return false;
  if (found->second.members.contains(name)) return true;
  return std::any_of(found->second.bases.begin(), found->second.bases.end(),
                     [&](const std::string& base) {
                       return base != type && has_member(base, name);
                     });
}

bool CppNames::has_member(const std::string& name) const {
  return std::any_of(types_.begin(), types_.end(), [&](const auto& each) {
    return each.second.members.contains(name);
  });
}

bool CppNames::has_option(const std::string& name) const {
  return std::any_of(types_.begin(), types_.end(), [&](const auto& each) {
    return each.first.ends_with("Options") &&
           each.second.members.contains(name);
  });
}

bool CppNames::mentions(const std::string& name) const {
  return mentioned_.contains(name);
}

}  // namespace tcpip_tests
