"""Holds the floors of the library.

  layering.py ROOT

reads the cc_library rules of ROOT/tcpip/BUILD.bazel and of
ROOT/tcpip/testing/BUILD.bazel, the table of floors in ROOT/ARCHITECTURE.md, and
every #include of "tcpip/..." in the sources under ROOT/tcpip. It prints, one a
line as FILE:LINE: FAULT,

- a file that includes a file of a floor above its own, or of a target that its
  own target does not list in deps (what those depend on does not count), or one
  that another target keeps to itself (in srcs);
- a public header (one that lies flat in tcpip/) that includes a header of a
  private folder (a folder of tcpip/ other than tcpip/testing), or that no target
  with public visibility lists; a private header that the face lists;
- a source that belongs to no target, or to two; a file of a target that there is
  not;
- targets that stand in another order in BUILD.bazel than in the table, or in one
  of the two alone.

A target that is not in the table, has no srcs, and lists only headers of other
targets is a face; it is no floor.

Ends with status 1 if it has printed anything.
"""

import ast
import os
import re
import sys

PACKAGES = ("tcpip", "tcpip/testing")
PUBLIC_FOLDERS = ("tcpip", "tcpip/testing")
SOURCES = (".h", ".cc", ".inc", ".hpp", ".cpp")

ROW = re.compile(r"\|\s*(\d+)\s*\|([^|]*)\|")
TARGET = re.compile(r"`((?://[\w/.-]*)?(?::[\w.-]+)?)`")
INCLUDE = re.compile(r"\s*#\s*include\s*([\"<])([^\">]+)[\">]")


class Wrong(Exception):
    """What cannot be read at all: "FILE:LINE: what is wrong"."""

    def __init__(self, path, line, what):
        super().__init__("{}:{}: {}".format(path, line, what))


class Library:
    """A cc_library. Its files are paths from the root, each with its line."""

    def __init__(self, label, line):
        self.label = label
        self.line = line
        self.srcs = {}
        self.hdrs = {}
        self.deps = set()
        self.is_public = False

    def files(self):
        return {**self.srcs, **self.hdrs}


def read(root, path):
    try:
        with open(os.path.join(root, path), encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise Wrong(path, 1, error.strerror)


def full_label(text, package):
    """"//tcpip:base" for ":base", "//tcpip/testing:testing" for its short form."""
    if text.startswith(":"):
        return "//" + package + text
    if text.startswith("//") and ":" not in text:
        return text + ":" + text.rsplit("/", 1)[-1]
    return text


def strings(build, node):
    """The strings of a list, with their lines."""
    if not isinstance(node, ast.List):
        raise Wrong(build, node.lineno, "not a plain list of names")
    for item in node.elts:
        if not isinstance(item, ast.Constant) or not isinstance(item.value, str):
            raise Wrong(build, item.lineno, "not a plain name")
        yield item.value, item.lineno


def is_public(build, node):
    return "//visibility:public" in [text for text, _ in strings(build, node)]


def read_libraries(root, package):
    """The cc_library rules of a package, in their order."""
    build = package + "/BUILD.bazel"
    try:
        tree = ast.parse(read(root, build))
    except SyntaxError as error:
        raise Wrong(build, error.lineno, error.msg)
    public_by_default = False
    result = []
    for statement in tree.body:
        call = getattr(statement, "value", None)
        if not isinstance(call, ast.Call):
            continue
        rule = getattr(call.func, "id", "")
        values = {keyword.arg: keyword.value for keyword in call.keywords}
        if rule == "package" and "default_visibility" in values:
            public_by_default = is_public(build, values["default_visibility"])
        if rule != "cc_library":
            continue
        name = values.get("name")
        if not isinstance(name, ast.Constant):
            raise Wrong(build, call.lineno, "a library without a plain name")
        library = Library("//" + package + ":" + name.value, call.lineno)
        for attribute, files in (("srcs", library.srcs), ("hdrs", library.hdrs)):
            if attribute in values:
                for text, line in strings(build, values[attribute]):
                    files[package + "/" + text] = line
        if "deps" in values:
            for text, _ in strings(build, values["deps"]):
                library.deps.add(full_label(text, package))
        library.is_public = public_by_default
        if "visibility" in values:
            library.is_public = is_public(build, values["visibility"])
        result.append(library)
    return result


def read_floors(root):
    """(floor, label, line) for each target of the table, in its order."""
    result = []
    inside = False
    for line, text in enumerate(read(root, "ARCHITECTURE.md").splitlines(), 1):
        if text.startswith("## "):
            inside = text.strip() == "## Floors"
        row = ROW.match(text) if inside else None
        if row:
            for target in TARGET.findall(row.group(2)):
                result.append((int(row.group(1)), full_label(target, "tcpip"), line))
    if not result:
        raise Wrong("ARCHITECTURE.md", 1, "no table of floors")
    return result


def find_sources(root):
    for folder, _, names in os.walk(os.path.join(root, "tcpip"), followlinks=True):
        for name in names:
            if name.endswith(SOURCES):
                yield os.path.relpath(os.path.join(folder, name), root)


def find_includes(root, path):
    """(line, path from the root) for each include of a file of the library."""
    for line, text in enumerate(read(root, path).splitlines(), 1):
        match = INCLUDE.match(text)
        if not match:
            continue
        quote, name = match.groups()
        if name.startswith("tcpip/"):
            yield line, os.path.normpath(name)
        elif quote == '"':
            beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
            if os.path.exists(os.path.join(root, beside)):
                yield line, beside


def check(root):
    """Yields the faults of the tree."""

    def fault(path, line, what, *values):
        return "{}:{}: {}".format(path, line, what.format(*values))

    def build_of(label):
        return label[2:].split(":")[0] + "/BUILD.bazel"

    libraries = {}
    for package in PACKAGES:
        for library in read_libraries(root, package):
            libraries[library.label] = library
    rows = read_floors(root)
    floor_of = {label: floor for floor, label, _ in rows}

    # The table and the build files name the same targets in the same order.
    for (below, _, _), (floor, label, line) in zip(rows, rows[1:]):
        if floor < below:
            yield fault(
                "ARCHITECTURE.md", line, "{} on floor {} stands behind floor {}",
                label, floor, below)
    for _, label, line in rows:
        if label not in libraries:
            yield fault("ARCHITECTURE.md", line, "there is no target {}", label)
    owner_of = {}
    for library in libraries.values():
        if library.label not in floor_of:
            continue
        for path, line in library.files().items():
            if path in owner_of:
                yield fault(
                    build_of(library.label), line, "{} belongs to {} already",
                    path, owner_of[path].label)
            owner_of.setdefault(path, library)
            if not os.path.exists(os.path.join(root, path)):
                yield fault(
                    build_of(library.label), line, "there is no file {}", path)
    for library in libraries.values():
        if library.label in floor_of:
            continue
        if library.srcs or not library.hdrs or any(
                path not in owner_of for path in library.hdrs):
            yield fault(
                build_of(library.label), library.line,
                "{} is not in the table of floors in ARCHITECTURE.md",
                library.label)
    for package in PACKAGES:
        built = [
            library for library in libraries.values()
            if library.label in floor_of
            and library.label.startswith("//" + package + ":")
        ]
        planned = [
            label for _, label, _ in rows
            if label in libraries and label.startswith("//" + package + ":")
        ]
        for library, label in zip(built, planned):
            if library.label != label:
                yield fault(
                    build_of(library.label), library.line,
                    "{} stands where ARCHITECTURE.md has {}", library.label, label)
                break

    # Public headers.
    offered = {}
    for library in libraries.values():
        if library.is_public:
            for path, line in library.hdrs.items():
                offered[path] = (library, line)
    for path, (library, line) in offered.items():
        if os.path.dirname(path) not in PUBLIC_FOLDERS:
            yield fault(
                build_of(library.label), line, "{} is private, {} is a face",
                path, library.label)

    # Sources.
    for path in sorted(find_sources(root)):
        if path not in owner_of:
            yield fault(path, 1, "belongs to no target")
            continue
        own = owner_of[path]
        is_public_header = path in own.hdrs and os.path.dirname(path) == "tcpip"
        if is_public_header and path not in offered:
            yield fault(path, 1, "is public, and no face lists it")
        for line, included in find_includes(root, path):
            if included not in owner_of:
                yield fault(path, line, "{} belongs to no target", included)
                continue
            if (is_public_header
                    and os.path.dirname(included) not in PUBLIC_FOLDERS):
                yield fault(
                    path, line, "a public header includes {}, which is private",
                    included)
            other = owner_of[included]
            if other is own:
                continue
            if floor_of[other.label] > floor_of[own.label]:
                yield fault(
                    path, line, "floor {} includes {} of floor {}",
                    floor_of[own.label], included, floor_of[other.label])
            if other.label not in own.deps:
                yield fault(
                    path, line, "{} includes {}, but does not list {} in deps",
                    own.label, included, other.label)
            if included not in other.hdrs:
                yield fault(
                    path, line, "{} is not among the hdrs of {}", included,
                    other.label)


def run(check_tree, usage, arguments, errors=(Wrong,)):
    """Prints a line for each fault of the tree that is named, or the first of
    the errors that end the search; returns the exit status."""
    if len(arguments) != 1:
        print(usage)
        return 2
    try:
        faults = list(check_tree(arguments[0]))
    except errors as wrong:
        faults = [str(wrong)]
    for text in faults:
        print(text)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(run(check, __doc__, sys.argv[1:]))
