"""What tcpip depends on; tcpip_dependencies() is for Bazel's WORKSPACE lane.

A project that embeds tcpip calls tcpip_dependencies() from its WORKSPACE; what
it has declared before, under the same names, is kept.
"""

load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load(":libedit.bzl", "libedit")
load(":rules_of_bazel.bzl", "rules_of_bazel")
load(":stubs.bzl", "stub_repository")
load(":system_or_archive.bzl", "system_or_archive")

def library_dependencies():
    """Declares the libraries that tcpip is compiled with."""
    maybe(
        system_or_archive,
        name = "fmt",
        build_file = Label("//bazel:fmt.BUILD"),
        system = {"include/fmt": ["/usr/include/fmt", "/usr/local/include/fmt"]},
        system_sources = {Label("//bazel:fmt.cc"): "src/format.cc"},
        system_version = {
            "include/fmt/base.h": ["#define FMT_VERSION 11"],
            "include/fmt/core.h": ["#define FMT_VERSION 9", "#define FMT_VERSION 10"],
        },
        url = "https://github.com/fmtlib/fmt/archive/refs/tags/9.1.0.tar.gz",
        sha256 = "5dea48d1fcddc3ec571ce2058e13910a0d4a6bab4cc09a809d8b1dd1c88ae6f2",
        strip_prefix = "fmt-9.1.0",
    )
    maybe(
        system_or_archive,
        name = "googletest",
        build_file = Label("//bazel:googletest.BUILD"),
        system = {
            "googlemock": ["/usr/src/googletest/googlemock"],
            "googletest": ["/usr/src/googletest/googletest"],
        },
        url = "https://github.com/google/googletest/archive/refs/tags/release-1.12.1.tar.gz",
        sha256 = "81964fe578e9bd7c94dfdb09c8e4d6e6759e19967e397dbea48d1c10e45d0df2",
        strip_prefix = "googletest-release-1.12.1",
    )

    maybe(
        system_or_archive,
        name = "nlohmann_json",
        build_file = Label("//bazel:nlohmann_json.BUILD"),
        system = {"include/nlohmann": ["/usr/include/nlohmann", "/usr/local/include/nlohmann"]},
        url = "https://github.com/nlohmann/json/archive/refs/tags/v3.11.2.tar.gz",
        sha256 = "d69f9deb6a75e2580465c6c4c5111b89c4dc2fa94e3a85fcd2ffcd9a143d9273",
        strip_prefix = "json-3.11.2",
    )

    # For //tools alone, and optional there.
    maybe(libedit, name = "libedit")

def tcpip_dependencies():
    """Declares the repositories that tcpip needs."""
    library_dependencies()

    # Debian's builds of Bazel have no version, and are meant for use without a
    # network. Bazel 6 brought what is looked for here.
    version = native.bazel_version
    if version == "":
        version = "7." if hasattr(native, "package_relative_label") else "4."

    # Bazel 4 wants these from the network for the simplest cc_library. Later
    # versions have what they need, or fetch what fits them.
    if version.startswith("4."):
        for name in [
            "platforms",
            "remote_coverage_tools",
            "rules_cc",
            "rules_java",
            "rules_proto",
        ]:
            maybe(stub_repository, name = name)
    elif version.startswith("7."):
        rules_of_bazel()
