"""The project's tests."""

load("@rules_cc//cc:defs.bzl", "cc_test")

# Tests look behind the face, so they name the floors (layering_check).
FLOORS = [
    "//tcpip:base",
    "//tcpip:callback",
    "//tcpip:endpoint",
    "//tcpip:net",
    "//tcpip:patterns",
    "//tcpip:read_loop",
    "//tcpip:stream",
]

# Only these need the JSON library.
JSON = [
    "//tcpip:json",
    "@nlohmann_json//:json",
]

# The tests that need these have their system calls, threads and operator new
# pass through tests/support/faults.cc.
FAULTS = ["//tests/support:faults"]

def tcpip_test(name, size = "small", deps = [], **kwargs):
    """One GoogleTest program, made of NAME.cc.

    Args:
      name: of the test and of its source file.
      size: says how long it may take; see --test_timeout in .bazelrc.
      deps: what it needs beside the library and GoogleTest.
      **kwargs: as in cc_test.
    """
    cc_test(
        name = name,
        size = size,
        srcs = [name + ".cc"],
        features = ["layering_check"],
        deps = deps + FLOORS + [
            "//tcpip/testing",
            "//tcpip/testing:main",
            "//tests/support",
            "//tests/support:hang_guard",
            "@googletest//:gtest",
        ],
        **kwargs
    )

def tcpip_tests(sources, special, one_thread = []):
    """A tcpip_test for each source file.

    Args:
      sources: the files, NAME.cc.
      special: NAME -> further arguments of its tcpip_test.
      one_thread: the NAMEs of those that start no thread: ThreadSanitizer would
        find nothing in them.
    """
    names = [source[:-len(".cc")] for source in sources]
    for name in names:
        arguments = dict(special.get(name, {}))
        if name in one_thread:
            arguments["tags"] = ["one_thread"]
        tcpip_test(name = name, **arguments)
