"""What is given away is compiled in one way, whatever the command line says."""

# fmt in a namespace of its own, so that the program may have another fmt, and
# hidden, so that a shared object does not hand ours on. fmt has these macros for
# that.
_PRIVATE_FMT = [
    "-DFMT_BEGIN_NAMESPACE=namespace fmt { inline namespace tcpip_fmt " +
    "__attribute__((visibility(\"hidden\"))) {",
    "-DFMT_END_NAMESPACE=} }",
]

def _release_transition_impl(_settings, _attr):
    return {
        "//command_line_option:compilation_mode": "opt",
        "//command_line_option:copt": ["-O2", "-DNDEBUG"] + _PRIVATE_FMT,
        "//command_line_option:cxxopt": ["-std=c++20"],
        "//command_line_option:features": [],
        "//command_line_option:force_pic": True,
        "//command_line_option:linkopt": [],
        "//command_line_option:per_file_copt": [],
    }

_release_transition = transition(
    implementation = _release_transition_impl,
    inputs = [],
    outputs = [
        "//command_line_option:compilation_mode",
        "//command_line_option:copt",
        "//command_line_option:cxxopt",
        "//command_line_option:features",
        "//command_line_option:force_pic",
        "//command_line_option:linkopt",
        "//command_line_option:per_file_copt",
    ],
)

def _release_files_impl(ctx):
    return [DefaultInfo(files = depset(transitive = [
        target[DefaultInfo].files
        for target in ctx.attr.srcs
    ]))]

release_files = rule(
    doc = "The files of other targets, compiled with -O2, without assertions.",
    implementation = _release_files_impl,
    attrs = {
        "srcs": attr.label_list(cfg = _release_transition),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
)
