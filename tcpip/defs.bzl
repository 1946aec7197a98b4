"""How the library is compiled."""

# A shared object with the library in it shows what TCPIP_EXPORT marks
# (version.h). Here and not in .bazelrc, which other projects do not read.
COPTS = [
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
]
