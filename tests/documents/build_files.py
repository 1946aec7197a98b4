"""Holds what stands in several build files, and the public headers, together.

  build_files.py ROOT

reads the cc_library rules of ROOT/tcpip, CMakeLists.txt, the files that have the
version, and the #include lines of the public headers. It prints one fault a line:

- a source or public header that CMakeLists.txt does not list, or that Bazel does
  not have;
- a version other than that of tcpip/version.h;
- a public header whose first #include is not tcpip/version.h; one that has calls
  that wait (it includes tcpip/wait.h) and does not bring error.h; one that
  tcpip/tcpip.h does not include;
- a class or function of a public header that is not marked TCPIP_EXPORT.

Ends with status 1 if it has printed anything.
"""

import os
import re
import sys

import layering

KIT = "//tcpip/testing:"


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def cmake_list(text, name):
    match = re.search(r"^set\({}\s([^)]*)\)".format(name), text, re.M)
    return set(match.group(1).split()) if match else set()


def sources(libraries):
    return {
        path for library in libraries for path in library.files() if path.endswith(".cc")
    }


def same(name, cmake, bazel):
    for path in sorted(bazel - cmake):
        yield "CMakeLists.txt: {} lacks {}".format(name, path)
    for path in sorted(cmake - bazel):
        yield "CMakeLists.txt: {} has {}, Bazel has not".format(name, path)


def lists(root, libraries):
    text = read(root, "CMakeLists.txt")
    main = [
        library for label, library in libraries.items()
        if label.startswith("//tcpip") and label != "//tcpip:json"
        and (not label.startswith(KIT) or label == KIT + "recording")
    ]
    json = libraries["//tcpip:json"]
    kit = libraries[KIT + "testing"]
    for name, bazel in (
            ("TCPIP_SOURCES", sources(main)),
            ("TCPIP_HEADERS", set(libraries["//tcpip:tcpip"].hdrs)),
            ("TCPIP_RECORDING_HEADERS", set(libraries[KIT + "recording"].hdrs)),
            ("TCPIP_JSON_SOURCES", sources([json])),
            ("TCPIP_JSON_HEADERS", set(json.hdrs)),
            ("TCPIP_TESTING_SOURCES", sources([kit])),
            ("TCPIP_TESTING_HEADERS", set(kit.hdrs)),
            ("TCPIP_TESTING_MAIN_SOURCES", sources([libraries[KIT + "main"]])),
    ):
        yield from same(name, cmake_list(text, name), bazel)


def versions(root):
    numbers = re.findall(
        r"^#define TCPIP_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$",
        read(root, "tcpip/version.h"), re.M)
    version = ".".join(numbers)
    if len(numbers) != 3:
        yield "tcpip/version.h: no version"
        return
    for path, pattern in (
            ("MODULE.bazel", r'module\(\s*name = "tcpip",\s*version = "([^"]*)"'),
            ("bazel/version.bzl", r'^VERSION = "([^"]*)"'),
            ("CHANGELOG.md", r"^## \[([^]]*)\] - (?:unreleased|\d{4}-\d\d-\d\d)$"),
            ("README.md", r'bazel_dep\(name = "tcpip", version = "([^"]*)"'),
    ):
        match = re.search(pattern, read(root, path), re.M)
        found = match.group(1) if match else "none"
        if found != version:
            yield "{}: version {}, not {}".format(path, found, version)


def headers(root, libraries):
    public = set()
    for label in ("//tcpip:tcpip", "//tcpip:json", KIT + "recording",
                  KIT + "testing"):
        public |= set(libraries[label].hdrs)
    public.discard("tcpip/version.h")
    includes = {
        path: [
            match.group(2)
            for match in map(layering.INCLUDE.match, read(root, path).splitlines())
            if match
        ]
        for path in public
    }
    for path in sorted(public):
        if includes[path][:1] != ["tcpip/version.h"]:
            yield path + ": the first #include is not tcpip/version.h"
        if "tcpip/wait.h" in includes[path]:
            reached = set()
            left = [path]
            while left:
                for name in includes.get(left.pop(), []):
                    if name not in reached:
                        reached.add(name)
                        left.append(name)
            if "tcpip/error.h" not in reached:
                yield path + ": has no error.h"
    umbrella = "tcpip/tcpip.h"
    wanted = set(libraries["//tcpip:tcpip"].hdrs) - {umbrella}
    for path in sorted(wanted - set(includes[umbrella])):
        yield "{}: lacks {}".format(umbrella, path)
    yield from exports(root, public)


def declarations(text):
    """What a header declares in a namespace: line, namespace, text up to { or ;."""
    text = re.sub(r"//.*", "", text)
    text = re.sub(r"^#.*(?:\\\n.*)*", lambda m: "\n" * m.group().count("\n"), text,
                  flags=re.M)
    spaces, parentheses, braces, head = [], 0, 0, ""
    for i, c in enumerate(text):
        parentheses += (c == "(") - (c == ")")
        if parentheses > 0 or c not in "{};":
            head += c if braces == 0 else ""
        elif c == "}":
            if braces > 0:
                braces -= 1
            elif spaces:
                spaces.pop()
            head = ""
        elif braces > 0:
            braces += c == "{"
        else:
            name = re.match(r"\s*(?:inline )?namespace([\w: ]*)$", head)
            if c == "{" and name:
                spaces.append(name.group(1).strip())
            else:
                if head.strip():
                    yield (text.count("\n", 0, i) + 1, "::".join(spaces),
                           " ".join(head.split()) + c)
                braces += c == "{"
            head = ""


# Compiled by the user, or nothing to call.
UNMARKED = re.compile(
    r"(using|inline|constexpr|enum|static_assert|extern template)\b"
    r"|template <.*> (?!(class|struct) \w+ )"
    r"|(template <.*> )?(class|struct) ([\w:]+;|std::|[\w]+::)")


def exports(root, paths):
    for path in sorted(paths):
        for line, space, code in declarations(read(root, path)):
            if not space.startswith("tcpip") or "internal" in space:
                continue
            if not UNMARKED.match(code) and "TCPIP_EXPORT" not in code:
                yield "{}:{}: not TCPIP_EXPORT: {}".format(path, line, code)


def check(root):
    libraries = {
        library.label: library
        for package in layering.PACKAGES
        for library in layering.read_libraries(root, package)
    }
    yield from lists(root, libraries)
    yield from versions(root)
    yield from headers(root, libraries)


if __name__ == "__main__":
    sys.exit(layering.run(check, __doc__, sys.argv[1:], (layering.Wrong, OSError)))
