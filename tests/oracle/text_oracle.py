"""Makes random names of encodings, bytes and texts, and says what CPython's
codecs make of them.

    text_oracle.py SEED COUNT

Prints, for text_oracle_test.cc, a line each:

    name HEX CODEC|none          the codec that the name stands for
    decode CODEC HEX text HEX    the text, in UTF-8
    decode CODEC HEX bad INDEX   the first byte that is wrong
    encode CODEC HEX bytes HEX
    encode CODEC HEX bad
"""

import codecs
import encodings.aliases
import random
import sys

CODECS = {
    "utf-8": "utf_8",
    "ascii": "ascii",
    "iso8859-1": "latin_1",
    "utf-16": "utf_16",
    "utf-16-le": "utf_16_le",
    "utf-16-be": "utf_16_be",
    "utf-32": "utf_32",
    "utf-32-le": "utf_32_le",
    "utf-32-be": "utf_32_be",
}
# No aliases where older versions of Python have none yet.
NEWER = {"cp65001"}
POINTS = [
    *(0, 9, 0x0A, 0x0D, 0x20, 0x61, 0x7F, 0x80, 0xFF, 0x100, 0x10A, 0x7FF),
    *(0x800, 0xA0D, 0xD05, 0x2020, 0xD7FF, 0xE000, 0xFEFF, 0xFFFE, 0xFFFF),
    *(0x10000, 0x1F600, 0xE0001, 0xE007F, 0x10FFFF),
]
UNITS = POINTS + [0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0x110000, 0x7FFFFFFF]


def codec_of(name):
    try:
        return CODECS.get(codecs.lookup(name).name, "none")
    except (LookupError, ValueError, UnicodeError):
        return "none"


def say_name(name):
    print("name", name.encode().hex() or "-", codec_of(name))


def names(rng, count):
    known = sorted(
        {alias for alias, name in encodings.aliases.aliases.items()} - NEWER
    )
    known += list(CODECS) + list(CODECS.values())
    known += ["utf-8-sig", "utf-7", "cp1252", "idna", "hex", "mbcs", "x" * 200]
    for name in known:
        say_name(name)
        say_name(name.upper().replace("_", "-"))
    for name in ("", " ", "-", ".", "utf 8", "utf\0008", "utf.8", "iso.8859.1"):
        say_name(name)
    for _ in range(count):
        name = list(rng.choice(known))
        for _ in range(rng.randint(1, 3)):
            at = rng.randint(0, len(name))
            name[at : at + rng.randint(0, 1)] = rng.choice(
                ["-", "_", " ", ".", "--", "+", "8", "e", "\n", ""]
            )
        say_name("".join(c.upper() if rng.random() < 0.3 else c for c in name))


def decode(codec, raw):
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError as e:
        result = f"bad {e.start}"
    else:
        result = f"text {text.encode().hex() or '-'}"
    print("decode", codec, raw.hex() or "-", result)


def encode(codec, text):
    try:
        raw = text.encode(codec)
    except UnicodeEncodeError:
        result = "bad"
    else:
        result = f"bytes {raw.hex() or '-'}"
    print("encode", codec, text.encode().hex() or "-", result)


def unit(rng, codec, value):
    """One code unit or character, not always a valid one."""
    order = "big" if codec.endswith("be") else "little"
    if "32" in codec:
        return value.to_bytes(4, order)
    if "16" in codec:
        if value > 0xFFFF:
            return chr(min(value, 0x10FFFF)).encode(
                "utf-16-be" if order == "big" else "utf-16-le"
            )
        return value.to_bytes(2, order)
    if codec == "utf_8":
        return chr(min(value, 0x10FFFF)).encode("utf-8", "surrogatepass")
    return bytes([value & 0xFF])


def main(seed, count):
    rng = random.Random(seed)
    names(rng, count)
    for _ in range(count):
        codec = rng.choice(list(CODECS.values()))
        text = "".join(
            chr(rng.choice(POINTS)) for _ in range(rng.randint(0, 6))
        )
        encode(codec, text)
        raw = b"".join(
            unit(rng, codec, rng.choice(UNITS)) for _ in range(rng.randint(0, 6))
        )
        if rng.random() < 0.3:  # a mark in front, of either order
            raw = rng.choice([b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"]) + raw
            if "32" in codec:
                raw = (raw[:2] + b"\0\0" + raw[2:], b"\0\0" + raw)[raw[0] == 0xFE]
        if rng.random() < 0.3 and raw:  # cut short
            raw = raw[: rng.randrange(len(raw))]
        if rng.random() < 0.2 and raw:  # one byte of it wrong
            at = rng.randrange(len(raw))
            raw = raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
        decode(codec, raw)


main(int(sys.argv[1]), int(sys.argv[2]))
