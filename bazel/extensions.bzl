"""What tcpip depends on, for Bazel's MODULE lane: the same as in the other lane.

It comes from the system where that has it, so that the central registry is not
asked.
"""

load(":deps.bzl", "library_dependencies")

dependencies = module_extension(
    implementation = lambda _ctx: library_dependencies(),
)
