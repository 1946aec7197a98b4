"""The repositories of rules that Bazel 7 itself asks for in the WORKSPACE lane.

Debian has them beside its Bazel, which is meant for use without a network.
Elsewhere they are the archives that Bazel 7 names for itself.
"""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")

_ON_DEBIAN = "/usr/share/bazel/"

def _rules_repository_impl(ctx):
    installed = ctx.path(_ON_DEBIAN + ctx.attr.installed)
    if installed.exists:
        for entry in installed.readdir():
            ctx.symlink(entry, entry.basename)
    elif ctx.attr.url:
        ctx.download_and_extract(
            url = ctx.attr.url,
            sha256 = ctx.attr.sha256,
            stripPrefix = ctx.attr.strip_prefix,
        )
    else:
        fail("There is no {}".format(installed))

_rules_repository = repository_rule(
    implementation = _rules_repository_impl,
    attrs = {
        "installed": attr.string(mandatory = True),
        "sha256": attr.string(),
        "strip_prefix": attr.string(),
        "url": attr.string(),
    },
)

_GITHUB = "https://github.com/bazelbuild/"

def rules_of_bazel():
    """Declares them, except for those that are declared already."""
    maybe(
        _rules_repository,
        name = "bazel_skylib",
        installed = "tools/skylib",
        sha256 = "9f38886a40548c6e96c106b752f242130ee11aaa068a56ba7e56f4511f33e4f2",
        url = _GITHUB + "bazel-skylib/releases/download/1.6.1/bazel-skylib-1.6.1.tar.gz",
    )
    maybe(
        _rules_repository,
        name = "rules_cc",
        installed = "rules/cc",
        sha256 = "2037875b9a4456dce4a79d112a8ae885bbc4aad968e6587dca6e64f3a0900cdf",
        strip_prefix = "rules_cc-0.0.9",
        url = _GITHUB + "rules_cc/releases/download/0.0.9/rules_cc-0.0.9.tar.gz",
    )
    maybe(
        _rules_repository,
        name = "rules_java",
        installed = "rules/java",
        sha256 = "f8ae9ed3887df02f40de9f4f7ac3873e6dd7a471f9cddf63952538b94b59aeb3",
        url = _GITHUB + "rules_java/releases/download/7.6.1/rules_java-7.6.1.tar.gz",
    )
    maybe(
        _rules_repository,
        name = "rules_license",
        installed = "rules/license",
        sha256 = "4531deccb913639c30e5c7512a054d5d875698daeb75d8cf90f284375fe7c360",
        url = _GITHUB + "rules_license/releases/download/0.0.7/rules_license-0.0.7.tar.gz",
    )
    maybe(
        _rules_repository,
        name = "rules_proto",
        installed = "rules/proto",
        sha256 = "dc3fb206a2cb3441b485eb1e423165b231235a1ea9b031b4433cf7bc1fa460dd",
        strip_prefix = "rules_proto-5.3.0-21.7",
        url = _GITHUB + "rules_proto/archive/refs/tags/5.3.0-21.7.tar.gz",
    )
    maybe(
        _rules_repository,
        name = "rules_python",
        installed = "rules/python",
        sha256 = "0a8003b044294d7840ac7d9d73eef05d6ceb682d7516781a4ec62eeb34702578",
        strip_prefix = "rules_python-0.24.0",
        url = _GITHUB + "rules_python/releases/download/0.24.0/rules_python-0.24.0.tar.gz",
    )
