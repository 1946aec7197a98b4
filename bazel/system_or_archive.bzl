"""A repository taken from the system where it has it, else from an archive."""

def _run(ctx, *command):
    result = ctx.execute([str(word) for word in command])
    if result.return_code != 0:
        fail("{}: {}".format(command, result.stderr))

def _find_on_system(ctx):
    """Maps each wanted directory to where the system has it, or returns None."""

    # In the MODULE lane the name has those of module and extension before it.
    name = ctx.name.split("~")[-1].split("+")[-1]
    if name in ctx.os.environ.get("TCPIP_ARCHIVES", "").split(","):
        return None
    found = {}
    for wanted, places in ctx.attr.system.items():
        for place in places:
            if wanted not in found and ctx.path(place).exists:
                found[wanted] = place
        if wanted not in found:
            return None
    return found

def _system_or_archive_impl(ctx):
    found = _find_on_system(ctx)
    if found == None:
        ctx.download_and_extract(
            url = ctx.attr.url,
            sha256 = ctx.attr.sha256,
            stripPrefix = ctx.attr.strip_prefix,
        )

        # Both sources get the BUILD file from here.
        for name in ["BUILD", "BUILD.bazel", "MODULE.bazel", "WORKSPACE", "WORKSPACE.bazel"]:
            ctx.delete(name)
    else:
        for wanted, place in found.items():
            # A copy, not a link: clang knows files by inode, and would take
            # linked headers for the system's own, exempt from layering_check.
            _run(ctx, "mkdir", "-p", ctx.path(wanted).dirname)
            _run(ctx, "cp", "-rL", place, ctx.path(wanted))
        fits = False
        for path, texts in ctx.attr.system_version.items():
            if ctx.path(path).exists:
                content = ctx.read(path)
                fits = fits or any([text in content for text in texts])
        if fits:
            for label, target in ctx.attr.system_sources.items():
                ctx.symlink(label, target)

    ctx.file("WORKSPACE", "workspace(name = \"{}\")\n".format(ctx.name))
    ctx.symlink(ctx.attr.build_file, "BUILD.bazel")

system_or_archive = repository_rule(
    doc = "With --repo_env=TCPIP_ARCHIVES=fmt,googletest,nlohmann_json the system's are ignored.",
    implementation = _system_or_archive_impl,
    attrs = {
        "build_file": attr.label(mandatory = True, allow_single_file = True),
        "sha256": attr.string(mandatory = True),
        "strip_prefix": attr.string(mandatory = True),
        "system": attr.string_list_dict(
            doc = "Directory here -> where systems may have it; all or none.",
            mandatory = True,
        ),
        "system_sources": attr.label_keyed_string_dict(
            doc = "Files that the system's package lacks -> path here.",
            allow_files = True,
        ),
        "system_version": attr.string_list_dict(
            doc = "File here -> texts, one of which it has in a version that " +
                  "system_sources fit.",
        ),
        "url": attr.string(mandatory = True),
    },
    environ = ["TCPIP_ARCHIVES"],
)
