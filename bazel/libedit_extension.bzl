"""libedit for MODULE.bazel; Bazel 4 to 6 do not read this file."""

load(":libedit.bzl", "libedit")

def _libedit_extension_impl(_):
    libedit(name = "libedit")

libedit_extension = module_extension(implementation = _libedit_extension_impl)
