"""Makes the archive that is installed where there is no Bazel.

  make_dist.py VERSION OUT FILES...

Each of FILES goes where its name says. The same files give the same bytes.
"""

import gzip
import io
import os
import re
import sys
import tarfile

DOC = "share/doc/tcpip/"
CMAKE = "lib/cmake/tcpip/"

# What the templates in cmake/ leave open; CMakeLists.txt has its own values.
PLACES = {
    "TCPIP_CONFIG_TO_PREFIX": "../../..",
    "TCPIP_PC_TO_PREFIX": "../..",
    "TCPIP_LIBDIR": "lib",
    "TCPIP_INCLUDEDIR": "include",
}


def place(path):
    """Where a file goes, below the folder of the archive; None: nowhere."""
    name = os.path.basename(path)
    if name.endswith(".h"):
        return "include/" + path[path.rindex("tcpip/", 0, path.rindex("/") + 1) :]
    if name.endswith(".pic.a") or name.endswith(".a"):
        # Bazel's names of the testing kit's archives.
        kit = {"libtesting.a": "tcpip_testing", "libmain.a": "tcpip_testing_main"}
        return "lib/lib{}.a".format(kit[name]) if name in kit else "lib/" + name
    if name == "tcpip.pc.in":
        return "lib/pkgconfig/tcpip.pc"
    if name.endswith(".cmake.in"):
        return CMAKE + name[: -len(".in")]
    if name == "LICENSE" or name.endswith(".txt"):
        return DOC + name
    if name == "install":
        return name
    if name == "tcpip-monitor":
        return "bin/" + name
    return None


def main(version, out, *paths):
    values = dict(PLACES, PROJECT_VERSION=version)
    values["PROJECT_VERSION_MAJOR"], values["PROJECT_VERSION_MINOR"], _ = (
        version.split(".")
    )

    files = {}
    for path in paths:
        to = place(path)
        if to is None:
            continue
        with open(path, "rb") as file:
            content = file.read()
        if path.endswith(".in"):
            text = content.decode("utf-8")
            text = re.sub(r"@(\w+)@", lambda match: values[match.group(1)], text)
            content = text.encode("utf-8")
        if files.setdefault(to, content) != content:
            sys.exit("make_dist.py: two files are to be {}".format(to))
    # What `install` copies, and what it removes again.
    listed = sorted(set(files) - {"install"} | {"share/tcpip/manifest.txt"})
    files["share/tcpip/manifest.txt"] = "".join(
        name + "\n" for name in listed
    ).encode("utf-8")

    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo("tcpip-{}/{}".format(version, name))
            entry.size = len(files[name])
            is_program = name == "install" or name.startswith("bin/")
            entry.mode = 0o755 if is_program else 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    with open(out, "wb") as file:
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            packed.write(tar_bytes.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
