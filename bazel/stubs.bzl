"""Just enough of the repositories that Bazel 4 itself asks for.

They re-export what Bazel 4 has built in, so that nothing is fetched.
"""

_CPUS = [
    "arm",
    "arm64",
    "arm64_32",
    "arm64e",
    "armv6-m",
    "armv7",
    "armv7-m",
    "armv7e-m",
    "armv7e-mf",
    "armv7k",
    "armv8-m",
    "i386",
    "mips64",
    "ppc",
    "ppc32",
    "ppc64le",
    "riscv32",
    "riscv64",
    "s390x",
    "wasm32",
    "wasm64",
    "x86_32",
    "x86_64",
]

_SYSTEMS = [
    "android",
    "chromiumos",
    "emscripten",
    "freebsd",
    "fuchsia",
    "haiku",
    "ios",
    "linux",
    "netbsd",
    "nixos",
    "none",
    "openbsd",
    "osx",
    "qnx",
    "tvos",
    "visionos",
    "vxworks",
    "wasi",
    "watchos",
    "windows",
]

_CC = [
    "cc_binary",
    "cc_import",
    "cc_library",
    "cc_proto_library",
    "cc_test",
    "cc_toolchain",
    "cc_toolchain_suite",
    "objc_import",
    "objc_library",
]

_JAVA = [
    "java_binary",
    "java_import",
    "java_library",
    "java_lite_proto_library",
    "java_package_configuration",
    "java_plugin",
    "java_proto_library",
    "java_runtime",
    "java_test",
    "java_toolchain",
]

_PROTO = [
    "proto_lang_toolchain",
    "proto_library",
]

_PUBLIC = "package(default_visibility = [\"//visibility:public\"])\n"

def _constraints(setting, values, aliases):
    lines = [_PUBLIC, "constraint_setting(name = \"{}\")".format(setting)]
    for value in values:
        lines.append(
            "constraint_value(name = \"{}\", constraint_setting = \":{}\")".format(value, setting),
        )
    for name, actual in aliases.items():
        lines.append("alias(name = \"{}\", actual = \":{}\")".format(name, actual))
    return "\n".join(lines) + "\n"

def _reexport(names):
    return "\n".join(["{0} = native.{0}".format(name) for name in names]) + "\n"

_FILES = {
    "platforms": {
        "cpu/BUILD": _constraints("cpu", _CPUS, {"aarch64": "arm64"}),
        "os/BUILD": _constraints("os", _SYSTEMS, {"macos": "osx"}),
    },
    "remote_coverage_tools": {
        "BUILD": _PUBLIC + """
filegroup(name = "coverage_report_generator")
filegroup(name = "lcov_merger")
""",
    },
    "rules_cc": {
        "cc/BUILD": _PUBLIC,
        "cc/defs.bzl": _reexport(_CC),
    },
    "rules_java": {
        "java/BUILD": _PUBLIC,
        "java/defs.bzl": _reexport(_JAVA),
    },
    "rules_proto": {
        "proto/BUILD": _PUBLIC,
        "proto/defs.bzl": "load(\":info.bzl\", \"Info\")\nProtoInfo = Info\n" + _reexport(_PROTO),
        "proto/info.bzl": "Info = ProtoInfo\n",
    },
}

def _stub_repository_impl(ctx):
    ctx.file("WORKSPACE", "workspace(name = \"{}\")\n".format(ctx.name))
    for path, content in _FILES[ctx.name].items():
        ctx.file(path, content)

stub_repository = repository_rule(
    implementation = _stub_repository_impl,
)
