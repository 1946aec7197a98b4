"""What documents_test.cc needs to know of the documents.

  documents.py extract --out FILES... --from DOCUMENTS...

writes the C++ of the documents (every ```cpp block) to files that the compiler
then judges; #line makes it name the document and the line. A comment just
before a block, which readers do not see, says what the block is:

  <!-- program: NAME -->         a whole program; goes to NAME.cc. The same
                                 program may stand in two documents.
  <!-- declarations -->          at namespace scope; what follows in the same
                                 document may use them.
  <!-- snippet: PARAMETERS -->   statements: the body of a function with these
                                 parameters (none: <!-- snippet -->).

All but programs go to snippets.cc.

  documents.py check ROOT

prints, one a line, the links and the paths in backticks that lead nowhere, of
all documents under ROOT. So for the tests in backticks that do not exist:
`risk/fork_test: ForkTest.ChildMayExit`, `risk/fork_test: ForkTest.*`.

Either ends with status 1 if something is wrong.
"""

import os
import re
import sys

# Documents that are worth little without C++ in them.
MUST_HAVE_CPP = ("README.md", "PORTING.md", "docs/user_guide.md")

# What statements and declarations may use without an #include.
PRELUDE = """\
#include <gtest/gtest.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

#include "examples/dome_controller.h"
#include "tcpip/callback_queue.h"
#include "tcpip/client.h"
#include "tcpip/connection_event.h"
#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/frame_dispatcher.h"
#include "tcpip/inherited_descriptors.h"
#include "tcpip/json.h"
#include "tcpip/log.h"
#include "tcpip/one_client_read_loop_server.h"
#include "tcpip/one_client_server.h"
#include "tcpip/open_connection.h"
#include "tcpip/open_metrics.h"
#include "tcpip/pending_replies.h"
#include "tcpip/read_loop_client.h"
#include "tcpip/reconnecting_client.h"
#include "tcpip/periodic_sender.h"
#include "tcpip/send_queue.h"
#include "tcpip/realtime.h"
#include "tcpip/stats.h"
#include "tcpip/tap.h"
#include "tcpip/tcpip.h"
#include "tcpip/testing/fault.h"
#include "tcpip/testing/faulty_proxy.h"
#include "tcpip/testing/one_client_server_test_case.h"
#include "tcpip/testing/recording.h"
#include "tcpip/testing/replay_server.h"
#include "tcpip/testing/test_one_client_read_loop_server.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/transactor.h"
#include "tcpip/version.h"
#include "tcpip/wait.h"
#include "tcpip/wire_struct.h"

using namespace std::chrono_literals;
"""

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})\s*([^`]*?)\s*$")
COMMENT = re.compile(r"<!--\s*(program|declarations|snippet)\b:?\s*(.*?)\s*-->", re.S)
TEST = re.compile(r"(\w+/\w+_test): (\w+)\.(\w+|\*)")


class Wrong(Exception):
    """A document that breaks the rules: "DOCUMENT:LINE: what is wrong"."""

    def __init__(self, document, line, what):
        super().__init__("{}:{}: {}".format(document, line, what))


def read(document):
    with open(document, encoding="utf-8") as file:
        return file.read().splitlines()


def fences(document, lines):
    """Yields (index of the opening line, index of the closing one, language)."""
    opening = None
    for index, line in enumerate(lines):
        fence = FENCE.match(line)
        if not fence:
            continue
        if opening is None:
            opening = index, fence.group(1), fence.group(2)
        elif fence.group(1).startswith(opening[1]) and not fence.group(2):
            yield opening[0], index, opening[2]
            opening = None
    if opening is not None:
        raise Wrong(document, opening[0] + 1, "this block is not closed")


def comment_before(lines, index):
    """The comment that ends on the line before `index`, and its first line."""
    first = index - 1
    if first < 0 or not lines[first].rstrip().endswith("-->"):
        return None, index
    while first > 0 and "<!--" not in lines[first]:
        first -= 1
    return COMMENT.fullmatch("\n".join(lines[first:index]).strip()), first


def blocks(document):
    """Yields (kind, argument, line number, text) of every block of C++."""
    lines = read(document)
    used = set()
    inside = set()
    for opening, closing, language in fences(document, lines):
        inside.update(range(opening, closing + 1))
        if language in ("c++", "C++", "cc", "cxx"):
            raise Wrong(document, opening + 1, "call the language cpp")
        if language != "cpp":
            continue
        comment, first = comment_before(lines, opening)
        if comment is None:
            raise Wrong(
                document,
                opening + 1,
                "no comment before this block says what it is, such as "
                "<!-- snippet: int parameter -->",
            )
        used.add(first)
        kind, argument = comment.groups()
        text = "\n".join(lines[opening + 1 : closing]) + "\n"
        if not text.strip():
            raise Wrong(document, opening + 1, "this block is empty")
        if kind == "program" and not re.fullmatch(r"\w+", argument):
            raise Wrong(document, first + 1, "a program needs a name")
        yield kind, argument, opening + 2, text
    for index, line in enumerate(lines):
        if index not in used and index not in inside:
            if re.match(r"<!--\s*(program|declarations|snippet)\b", line):
                raise Wrong(document, index + 1, "no block of cpp follows")


def line_directive(document, line):
    return '#line {} "{}"\n'.format(line, document)


def extract(outs, documents):
    statements = [PRELUDE]
    programs = {}  # name -> (document, line, text)
    count = 0
    for document in documents:
        found = False
        scope = re.sub(r"\W", "_", os.path.splitext(document)[0])
        statements.append("namespace snippets_of_{} {{\n".format(scope))
        for kind, argument, line, text in blocks(document):
            found = True
            if kind == "program":
                here = document, line, text
                there = programs.setdefault(argument, here)
                if there[2] != text:
                    raise Wrong(
                        document,
                        line,
                        "the program {} is another one than in {}:{}".format(
                            argument, there[0], there[1]
                        ),
                    )
                continue
            count += 1
            if kind == "snippet":
                parameters = " ".join(argument.split())
                statements.append(line_directive(document, line - 1))
                statements.append("void in_line_{}({}) {{\n".format(line, parameters))
            statements.append(line_directive(document, line) + text)
            if kind == "snippet":
                statements.append("}\n")
        statements.append("}}  // namespace snippets_of_{}\n".format(scope))
        if not found and document in MUST_HAVE_CPP:
            raise Wrong(document, 1, "no block of cpp in it")
    statements.append(
        "extern const int kDocumentSnippets;\n"
        "const int kDocumentSnippets = {};\n".format(count)
    )

    wanted = {os.path.splitext(os.path.basename(out))[0]: out for out in outs}
    snippets = wanted.pop("snippets")
    for name in sorted(set(programs) - set(wanted)):
        document, line, _ = programs[name]
        raise Wrong(document, line, "tests/documents/BUILD.bazel does not list " + name)
    for name in sorted(set(wanted) - set(programs)):
        raise Wrong("tests/documents/BUILD.bazel", 1, "no document has the program " + name)
    with open(snippets, "w", encoding="utf-8") as file:
        file.write("".join(statements))
    for name, (document, line, text) in programs.items():
        with open(wanted[name], "w", encoding="utf-8") as file:
            file.write(line_directive(document, line) + text)


def anchors(document):
    """The names that GitHub gives to the headings."""
    result = set()
    for line, text in prose(document):
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", text)
        if heading:
            name = re.sub(r"[^\w\- ]", "", heading.group(1).lower())
            result.add(name.replace(" ", "-"))
    return result


def prose(document):
    """Yields (line number, text) of what is in no fenced block."""
    lines = read(document)
    inside = set()
    for opening, closing, _ in fences(document, lines):
        inside.update(range(opening, closing + 1))
    for index, line in enumerate(lines):
        if index not in inside:
            yield index + 1, line


def wrong_links(root, document):
    text = ""
    starts = []  # (offset in text, line number): a link's text may be wrapped
    for line, content in prose(document):
        starts.append((len(text), line))
        text += content + "\n"

    def line_at(offset):
        return max(line for start, line in starts if start <= offset)

    code = r"`[^`]*`"
    for link in re.finditer(r"\]\(\s*([^)\s]+)[^)]*\)", re.sub(code, mask, text)):
        target = text[link.start(1) : link.end(1)]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        to = document
        if path:
            to = os.path.normpath(os.path.join(os.path.dirname(document), path))
        if not os.path.exists(to):
            yield line_at(link.start()), "no file for the link " + target
        elif anchor and anchor not in anchors(to):
            yield line_at(link.start()), "no heading for the link " + target
    for span in re.finditer(code, text):
        words = span.group()[1:-1].split()
        path = re.fullmatch(
            r"(?:\./)?((?:docs|examples|tcpip|tests)/[\w./-]+)", words[0] if words else ""
        )
        if path and not os.path.exists(os.path.join(root, path.group(1))):
            yield line_at(span.start()), "no file " + path.group(1)
        test = TEST.fullmatch(span.group()[1:-1])
        if test and not has_test(root, *test.groups()):
            yield line_at(span.start()), "no test " + span.group()[1:-1]


def has_test(root, path, suite, name):
    """Whether tests/PATH.cc has that test, or that suite if the name is *."""
    source = os.path.join(root, "tests", path + ".cc")
    if not os.path.exists(source):
        return False
    with open(source, encoding="utf-8") as file:
        text = file.read()
    name = r"\w+" if name == "*" else name
    pattern = r"^(TYPED_)?TEST(_[FP])?\(\s*{},\s*{}\s*\)".format(suite, name)
    return re.search(pattern, text, re.M) is not None


def mask(match):
    return "`" * len(match.group())


def check(root):
    wrong = 0
    documents = 0
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            if not name.endswith(".md"):
                continue
            documents += 1
            document = os.path.join(folder, name)
            for line, what in wrong_links(root, document):
                wrong += 1
                print("{}:{}: {}".format(os.path.relpath(document, root), line, what))
    if documents == 0:
        raise Wrong(root, 0, "no documents")
    return wrong


def main(arguments):
    try:
        if arguments[0] == "check":
            return 1 if check(arguments[1]) else 0
        split = arguments.index("--from")
        extract(arguments[2:split], arguments[split + 1 :])
        return 0
    except Wrong as wrong:
        print(wrong)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
