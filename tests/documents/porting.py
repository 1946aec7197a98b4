"""Has the compiler judge the C++ names in PORTING.md.

    porting.py DOCUMENT PRELUDE OUT

writes to OUT a C++ source that includes PRELUDE and uses every C++ name of the
document. If a name no longer exists, the source does not compile, and #line
makes the compiler name the document's line. PRELUDE (porting_prelude.h) says
which classes there are and what the words are that stand for arguments.

What counts are the code spans (`...`).

In the column "C++" of a table:

    `Type`, `kConstant`, `function`    a name of the namespaces
    `Type::member`                     a member, overloaded or not; or a type
    `.option`, `.option.part`          of the options that the heading stands
                                       for (OPTIONS below), else of any
    `call(argument)`                   compiled as it stands: inside the class
                                       that is the heading (CLASSES below), so
                                       that members are found before functions
                                       of the namespaces. An argument is a word
                                       that PRELUDE declares.
    `tcpip/header.h`                   is included

In other columns and outside of tables, only what cannot be Python is looked at:
`Type::member`, `.option`, `kConstant`, `event.member`, `tcpip/header.h`; and
`function()`, unless the column "Python" has that name, or the column "C++"
calls it: it must be a member of one of PRELUDE's classes.

Ends with status 1 if the document has no tables.
"""

import re
import sys

# The headings that are a class of ours, and what to derive from for it.
CLASSES = {
    "BaseClientOrServer": "BaseClientOrServer",
    "BaseOneClientServerTestCase": "BaseOneClientServerTestCase<OneClientServer>",
    "Client": "Client",
    "Connection": "Connection",
    "OneClientReadLoopServer": "OneClientReadLoopServer",
    "OneClientServer": "OneClientServer",
    "StreamReader": "StreamReader",
    "StreamWriter": "StreamWriter",
    "TestOneClientReadLoopServer": "TestOneClientReadLoopServer",
}

# The structs that must all have an option that stands under the heading. Under
# other headings any struct of PRELUDE's AllOptions will do.
BOTH = ["ClientOptions", "ServerOptions"]
OPTIONS = {
    "BaseClientOrServer": BOTH,
    "Client": ["ClientOptions"],
    "Heartbeats": BOTH,
    "OneClientReadLoopServer": ["ServerOptions"],
    "OneClientServer": ["ServerOptions"],
    "Subclasses": BOTH,
    "Text": BOTH,
    "open_connection": ["OpenConnectionOptions"],
    "start_server": ["ServerOptions"],
}

NAMESPACES = ("tcpip", "tcpip_testing")
FOREIGN = ("std", "nlohmann")  # their names are not looked at
WORDS = ("true", "false", "nullptr", "this", "sizeof", "auto")


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def spans(document):
    """Yields (line number, heading, column, span); column is "" for prose."""
    heading = ""
    columns = None
    fenced = False
    for number, line in enumerate(document.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        if fenced or line.startswith("    "):
            continue
        if not line.startswith("|"):
            columns = None
        if line.startswith("#"):
            heading = line.lstrip("#").strip().replace("`", "")
        elif line.startswith("|---"):
            continue
        elif line.startswith("|") and columns is None:
            columns = cells(line)
            continue
        texts = [("", line)]
        if columns is not None:
            texts = list(zip(columns, cells(line)))
        for column, text in texts:
            for span in re.findall(r"`([^`]+)`", text):
                yield number, heading, column, span


def called_in(span):
    """The names that are called and do not stand behind a dot or `::`."""
    return re.findall(r"(?<![\w.:>])([a-z_]\w*)\(", span)


def with_arguments(call):
    """The call, with the words that are arguments looked up in `argument`."""
    name, bracket, rest = call.partition("(")
    parts = re.split(r'("[^"]*")', rest)  # string literals have odd indices

    def qualify(match):
        word = match.group()
        return word if word in WORDS else "argument::" + word

    for index in range(0, len(parts), 2):
        parts[index] = re.sub(
            r"(?<![\w.:>])[a-z_]\w*(?![\w(]|::)", qualify, parts[index]
        )
    return name + bracket + "".join(parts)


class Source:
    """The C++ that is being written."""

    def __init__(self, prelude, document_name):
        self.headers = []
        self.checks = []
        self.document_name = document_name
        self.prelude = prelude

    def line(self, number):
        return '#line {} "{}"\n'.format(number, self.document_name)

    def add(self, number, code):
        """`code` may use {id}, a name that occurs once."""
        code = code.replace("{id}", "check_{}".format(len(self.checks)))
        self.checks.append(self.line(number) + code + "\n")

    def statement(self, number, code):
        self.add(number, "inline void {id}() { " + code + " }")

    def header(self, number, path):
        self.headers.append('{}#include "{}"\n'.format(self.line(number), path))

    def text(self):
        return "".join(
            ['#include "{}"\n'.format(self.prelude)]
            + self.headers
            + ["namespace porting {\n"]
            + self.checks
            + ["}  // namespace porting\n"]
        )

    def qualified(self, number, name):
        parts = name.split("::")
        if parts[0] in FOREIGN:
            return
        scope, member = "::".join(parts[:-1]), parts[-1]
        if scope in NAMESPACES:
            self.statement(number, "using {}::{};".format(scope, member))
        elif re.match(r"k[A-Z]", member):  # of an enum or of a class
            self.statement(number, "static_cast<void>({});".format(name))
        else:
            # A using-declaration takes types and overloaded functions alike.
            self.add(
                number,
                "struct {id} : %s { using %s; };" % (scope, name),
            )

    def plain(self, number, name):
        if re.match(r"k[A-Z]", name):
            self.statement(number, "static_cast<void>(porting::{});".format(name))
        else:
            self.statement(number, "using porting::{};".format(name))

    def call(self, number, heading, call):
        use = "static_cast<void>(noexcept({}));".format(with_arguments(call))
        if heading in CLASSES:
            self.add(
                number,
                "struct {id} : %s { void use() { %s } };" % (CLASSES[heading], use),
            )
        else:
            self.statement(number, use)

    def option(self, number, structs, option):
        for struct in structs:
            self.statement(
                number,
                "static_cast<void>(noexcept(std::declval<{}&>(){}));".format(
                    struct, option
                ),
            )
        if not structs:
            self.add(
                number,
                "template <class... T> constexpr bool {id}(Types<T...>) "
                "{ return (requires { std::declval<T&>()%s; } || ...); } "
                'static_assert({id}(AllOptions()), "no option %s");'
                % (option, option),
            )

    def member_of_any(self, number, name):
        # Both<T, X> has two things of that name if T has one.
        self.add(
            number,
            "struct {id}_named { int %s; }; "
            "template <class... T> constexpr bool {id}(Types<T...>) "
            "{ return (!requires { &Both<T, {id}_named>::%s; } || ...); } "
            'static_assert({id}(AllClasses()), "no member %s");' % (name, name, name),
        )


def generate(document, document_name, prelude):
    all_spans = list(spans(document))
    python = set()
    calls = set()
    for _, _, column, span in all_spans:
        if column == "Python":
            python.update(re.findall(r"[A-Za-z_]\w*", span))
        elif column == "C++":
            calls.update(called_in(span))
    source = Source(prelude, document_name)
    for number, heading, column, span in all_spans:
        if column == "Python" or span.startswith("//") or span == "none":
            continue
        if re.fullmatch(r"[\w/]+\.h", span):
            source.header(number, span)
            continue
        option = re.match(r"(\.[a-z]\w*)+", span)
        if column == "C++":
            if option:
                source.option(number, OPTIONS.get(heading, []), option.group())
            elif re.fullmatch(r"\w+", span):
                source.plain(number, span)
            elif re.fullmatch(r"\w+(::\w+)+", span):
                source.qualified(number, span)
            else:
                source.call(number, heading, span)
            continue
        if option:
            source.option(number, [], option.group())
        for name in re.findall(r"(?<![\w:.])\w+(?:::\w+)+", span):
            source.qualified(number, name)
        for name in re.findall(r"(?<![\w:.])k[A-Z]\w*", span):
            source.plain(number, name)
        for member in re.findall(r"(?<![\w.])event\.(\w+)", span):
            source.qualified(number, "ConnectionEvent::" + member)
        for name in called_in(span):
            if name not in python and name not in calls:
                source.member_of_any(number, name)
    return source.text()


def main(arguments):
    document_name, prelude, out = arguments
    with open(document_name, encoding="utf-8") as file:
        document = file.read()
    if not any(column == "C++" for _, _, column, _ in spans(document)):
        print("{}: no table has a column C++".format(document_name))
        return 1
    with open(out, "w", encoding="utf-8") as file:
        file.write(generate(document, document_name, prelude))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
