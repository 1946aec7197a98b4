"""libedit, from the system; //tools uses it where there is one.

Without it, //tools builds all the same: @libedit//:libedit is then empty, and
what would define TCPIP_MONITOR_HAS_LIBEDIT does not.
"""

_WITH = """load("@rules_cc//cc:defs.bzl", "cc_library")

cc_library(
    name = "libedit",
    defines = ["TCPIP_MONITOR_HAS_LIBEDIT=1"],
    linkopts = ["-ledit"],
    visibility = ["//visibility:public"],
)
"""

_WITHOUT = """load("@rules_cc//cc:defs.bzl", "cc_library")

cc_library(
    name = "libedit",
    visibility = ["//visibility:public"],
)
"""

_HEADERS = [
    "/usr/include/histedit.h",
    "/usr/local/include/histedit.h",
]

def _libedit_impl(ctx):
    found = [header for header in _HEADERS if ctx.path(header).exists]
    if ctx.os.environ.get("TCPIP_WITHOUT_LIBEDIT"):
        found = []
    ctx.file("WORKSPACE", "workspace(name = \"{}\")\n".format(ctx.name))
    ctx.file("BUILD.bazel", _WITH if found else _WITHOUT)

libedit = repository_rule(
    doc = "With --repo_env=TCPIP_WITHOUT_LIBEDIT=1 the system's is ignored.",
    implementation = _libedit_impl,
    environ = ["TCPIP_WITHOUT_LIBEDIT"],
    local = True,
)
