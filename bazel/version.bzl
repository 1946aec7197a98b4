"""The number of tcpip/version.h; a test holds the two together."""

VERSION = "0.1.0"
