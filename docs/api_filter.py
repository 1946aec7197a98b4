"""Makes Doxygen read this project's headers and documents as people do.

  api_filter.py FILE     prints FILE for Doxygen (INPUT_FILTER of docs/Doxyfile)

In a header a comment belongs to what follows it without a blank line:

  // Ends the connection.       of close(), and of basic_close(), which stands
  void close();                 right below it
  void basic_close();
  int size = 0;  // in bytes    of size alone
  // --- State ---              the title of a group of members; with the text
                                below it, of the first of them too

Text that is indented, and not in a list, is code. What is for the library alone
(namespace internal, private members) is left out, but for the base classes of
clients and servers, whose members the program calls.

In a document each heading gets the name that GitHub gives it, so that links to it
lead there.
"""

import html
import os
import re
import sys

# Classes in namespace internal whose public members programs use.
BASES = ("ClientBase", "OneConnectionClient", "ServerBase")

COMMENT = re.compile(r"(\s*)//(?: ?)(.*)$")
SECTION = re.compile(r"--- (.*?) ---$")
SCOPE = re.compile(r"(template\s*<.*>\s*)?(class|struct|union|enum|namespace|inline namespace|extern)\b")
# The name and what it is say all: copies, moves, the end.
SELF_EVIDENT = re.compile(
    r"\s*(~\w+\(\)|\w+\((const )?\w+&&?( \w+)?\)|[\w:]+& operator=\((const )?\w+&&?( \w+)?\))"
    r"( noexcept)?( override)?( = (default|delete))?( noexcept)?;\s*$"
    r"|.*operator(==|<=>)\(.*\) const = default;$"
)


def plain(text, marks=r"([\\@<>#%&])"):
    """Text in which nothing means anything to Doxygen."""
    # In "quotes" nothing does anyway, but for HTML.
    parts = re.split(r'("[^"\n]*")', text)
    for i, part in enumerate(parts):
        if i % 2 == 1:
            parts[i] = html.escape(part, quote=False)
        else:
            part = re.sub(marks, r"\\\1", part).replace("*/", "*\\/")
            parts[i] = re.sub(r"(?<!\w)::", r"\\::", part)
    return "".join(parts)


def code_span(code):
    """What stood in backticks, which Doxygen misreads if there is a ' in them."""
    text = plain(code, r"([\\@<>#%&~])").replace("*", "&lowast;")
    return "<code>" + text + "</code>"


def escape(text, around=plain):
    parts = text.split("`")
    for i, part in enumerate(parts):
        parts[i] = code_span(part) if i % 2 == 1 else around(part)
    return "".join(parts)


def formatted(lines):
    """The lines of a comment, its code marked as such."""
    result = []
    in_code = in_list = False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if re.match(r"\s?[*-] ", line):
            in_list = True
        elif not line:
            in_list = False
        is_code = indent >= 2 and not in_list
        if is_code and not in_code:
            result.append("@verbatim")
        if in_code and not is_code and line:
            result.append("@endverbatim")
        in_code = is_code or (in_code and not line)
        result.append(line[2:] if in_code else escape(line))
    if in_code:
        result.append("@endverbatim")
    return result


def as_doc(lines):
    return ["/**"] + [" " + line for line in formatted(lines)] + [" */"]


class Header:
    def __init__(self, lines, is_kit=False):
        self.lines = lines
        self.is_kit = is_kit
        self.is_enum = False
        self.out = []
        self.comment = []  # the comment right above
        self.last = []  # the comment of the declaration right above
        self.section = []  # of a group of which nothing has come yet
        self.in_group = False
        self.hides_protected = False  # inside of protected:

    def close_group(self):
        if self.in_group:
            self.out.append("///@}")
        self.in_group = False
        self.section = []

    def end_protected(self):
        if self.hides_protected:
            self.out.append("/// @endcond")
        self.hides_protected = False

    def statement(self, index):
        """The end of the declaration that begins there, exclusive."""
        depth = 0
        for i in range(index, len(self.lines)):
            code = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])*\'', '""', self.lines[i])
            code = code.split("//")[0].rstrip()
            depth += len(re.findall(r"[({\[]", code)) - len(re.findall(r"[)}\]]", code))
            if depth < 0:
                return i  # the end of the scope around: the last enumerator
            if depth == 0 and (code.endswith((";", "}")) or (self.is_enum and code.endswith(","))):
                return i + 1
        return len(self.lines)

    def trailing(self, start, end):
        """Makes the comment behind a declaration, if there is one, a ///<."""
        found = False
        i = end - 1
        match = re.match(r"(.*\S)(\s+)// (.*)$", self.lines[i])
        body = self.lines[start:end]
        if match and not match.group(1).lstrip().startswith("//"):
            found = True
            column = len(match.group(1)) + len(match.group(2))
            body[-1] = match.group(1) + "  ///< " + escape(match.group(3))
            while end < len(self.lines) and re.match(" {%d}// " % column, self.lines[end]):
                body.append("///< " + escape(self.lines[end].strip()[3:]))
                end += 1
        return body, end, found

    def declaration(self, index):
        """Prints one declaration with its comment; returns where the next begins."""
        line = self.lines[index]
        end = self.statement(index)
        if end == index:
            end = index + 1
        if SELF_EVIDENT.match(" ".join(l.strip() for l in self.lines[index:end])):
            if not self.comment:
                return end
        if re.search(r"(class|struct) std::", " ".join(self.lines[index:end])):
            self.comment = []
            return end
        body, end, has_trailing = self.trailing(index, end)
        text = self.comment
        alias = re.match(
            r"\s*(using (Options|Stats)|static constexpr [\w:]+ \w+) = ([\w:<>]+);", line
        )
        if alias and not text and not has_trailing:
            text = ["Short for " + alias.group(3) + "."]
        if not text and not has_trailing:
            text = self.last or self.section
        if text:
            self.out += as_doc(text)
        self.last = text or self.last
        self.section = []
        self.comment = []
        # What a function does inside is nobody's business here.
        self.out += [re.sub(r"^(\s*)//(?!/).*", r"\1", l) for l in body]
        return end

    def run(self):
        lines = self.lines
        i = 0
        # The first comment is the file's.
        while i < len(lines) and COMMENT.match(lines[i]):
            self.comment.append(COMMENT.match(lines[i]).group(2))
            i += 1
        of_file = self.comment
        self.out += ["/** @file"] + [" " + l for l in formatted(of_file)] + [" */"]
        self.comment = []
        scopes = []  # (kind, hidden) of each open brace that is not a body's
        while i < len(lines):
            line = lines[i]
            code = line.strip()
            if not code:
                self.comment = []
                self.last = []
                self.out.append("")
                i += 1
                continue
            match = COMMENT.match(line)
            if match:
                block = []
                while i < len(lines) and COMMENT.match(lines[i]):
                    block.append(COMMENT.match(lines[i]).group(2))
                    i += 1
                title = SECTION.match(block[0])
                if title:
                    self.close_group()
                    text = [title.group(1) + "."] + block[1:]
                    follows = i < len(lines) and lines[i].strip() != ""
                    if scopes and scopes[-1][0] in ("class", "struct"):
                        self.out += ["/** @name " + escape(title.group(1))] + [" */", "///@{"]
                        self.in_group = True
                    self.section = [] if follows else text
                    self.comment = [l for l in block[1:]] if follows else []
                else:
                    self.comment = block
                self.last = []
                continue
            if code.startswith("#"):
                # Of the macros only the version's are for programs.
                is_macro = re.match(r"#define TCPIP_VERSION(_[A-Z]+)?\s", code)
                hidden = code.startswith("#define") and not is_macro
                if is_macro:
                    text = self.comment or self.last or ["See TCPIP_VERSION."]
                    self.out += as_doc(text)
                    self.comment, self.last = [], text
                while True:
                    more = lines[i].rstrip().endswith("\\")
                    if not hidden:
                        self.out.append(lines[i])
                    i += 1
                    if not more:
                        break
                continue
            if re.match(r"(public|protected|private):", code):
                self.close_group()
                self.end_protected()
                # In the kit these are for the program's fixtures.
                if code == "protected:" and not self.is_kit:
                    self.out.append("/// @cond internal")
                    self.hides_protected = True
                self.out.append(line)
                self.comment, self.last = [], []
                i += 1
                continue
            if code.startswith("}"):
                if scopes:
                    kind, hidden = scopes.pop()
                    if kind in ("class", "struct"):
                        self.close_group()
                        self.end_protected()
                    self.is_enum = bool(scopes) and scopes[-1][0] == "enum"
                    if kind == "json":
                        line = ""
                    self.out.append(line)
                    if hidden:
                        self.out.append("/// @endcond")
                self.comment, self.last = [], []
                i += 1
                continue
            head = ""
            j = i
            while j < len(lines) and not re.search(r"[;{]", lines[j].split("//")[0]):
                head += lines[j].split("//")[0].strip() + " "
                j += 1
            head += lines[j].split("//")[0].strip() if j < len(lines) else ""
            scope = SCOPE.match(head)
            if scope and head.endswith("{"):
                kind = scope.group(2)
                hidden = False
                if "TCPIP_JSON_NAMESPACE" in head:
                    kind, head = "json", ""
                elif kind == "namespace":
                    hidden = head == "namespace internal {" and not any(
                        "class " + base in l for base in BASES for l in lines
                    )
                    if hidden:
                        self.out.append("/// @cond internal")
                if kind in ("class", "struct", "enum", "union"):
                    # A file begins with what its class is for.
                    hidden = re.search(r"(struct|class) std::", head) is not None
                    if hidden:
                        self.out.append("/// @cond internal")
                    elif self.comment or not any(s[0] in ("class", "struct") for s in scopes):
                        self.out += as_doc(self.comment or of_file)
                self.comment, self.last, self.section = [], [], []
                scopes.append((kind, hidden))
                self.is_enum = kind == "enum"
                self.out += lines[i : j + 1] if head else [""]
                i = j + 1
                continue
            if scope and not head.endswith("}") and re.match(r".*(class|struct) [\w:]+;$", head):
                # It is declared elsewhere.
                self.out += lines[i : j + 1]
                self.comment = []
                i = j + 1
                continue
            i = self.declaration(i)
        return "\n".join(self.out) + "\n"


def anchor(path, heading):
    name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    page = re.sub(r"\W", "_", os.path.splitext(os.path.basename(path))[0]).lower()
    return page + "-" + name if name else page


def document(path, lines):
    """A document with names for its headings, and links to them."""
    out = []
    fence = None
    comment = False
    first = True
    text = []
    for line in lines:
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and fence is None:
            fence = mark.group(1)
            text.append(("code", "@code{.cpp}" if "cpp" in line else "@code{.txt}"))
            continue
        if fence is not None:
            if line.strip() == fence:
                fence = None
                text.append(("code", "@endcode"))
            else:
                text.append(("code", line))
            continue
        if line.startswith("<!--"):
            comment = True
        if comment:
            comment = "-->" not in line
            continue
        heading = re.match(r"(#{1,6}) (.*)$", line)
        if heading:
            name = anchor(path, "" if first else heading.group(2))
            first = False
            title = heading.group(2).replace("`", "")
            line = "{} {} {{#{}}}".format(heading.group(1), escape(title), name)
            text.append(("code", line))
            continue
        text.append(("text", line))
    # A link may be wrapped over two lines.
    joined = "\n".join("\0" + str(i) if kind == "code" else line
                       for i, (kind, line) in enumerate(text))

    def link(match):
        # Doxygen loses its way after a label of two lines.
        label, target = re.sub(r"\s+", " ", match.group(1)), match.group(2)
        if re.match(r"[a-z]+:", target):
            return match.group()
        to, _, name = target.partition("#")
        if to and not to.endswith(".md"):
            return label
        return "[{}](@ref {})".format(label, anchor(to or path, name))

    joined = escape(joined, lambda part: plain(part, r"(\\)(?=\w)"))
    joined = re.sub(r"(?<!!)\[([^\]]+)\]\(\s*([^)\s]+)\s*\)", link, joined)
    joined = re.sub(r"\0(\d+)", lambda m: text[int(m.group(1))][1].replace("\0", ""), joined)
    return joined + "\n"


def main(path):
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    sys.stdout.reconfigure(encoding="utf-8")
    if path.endswith(".md"):
        sys.stdout.write(document(path, lines))
    else:
        lines = [line.replace("TCPIP_EXPORT ", "") for line in lines]
        sys.stdout.write(Header(lines, is_kit="testing" in path).run())


if __name__ == "__main__":
    main(sys.argv[1])
