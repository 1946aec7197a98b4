"""Makes random texts that are, or nearly are, JSON, and says what CPython's
json module makes of them, less what PORTING.md lists as refused in C++.

    json_oracle.py SEED COUNT

Prints, for json_oracle_test.cc, a line each:

    MODE HEX bad syntax INDEX    refused by Python too: the first byte of what is
                                 wrong; "-" if it has no say in where
    MODE HEX bad NAME TOKEN      refused by difference NAME: the hex of the token,
                                 if it is one
    MODE HEX value DUMP          the value, as said by shape(), and the hex of
                                 what json.dumps() makes of it; "-" if it holds
                                 a number that C++ writes in other digits

MODE is `strict`, or `nan` if NaN, Infinity and -Infinity are allowed.
"""

import json
import math
import random
import struct
import sys

MAX_DEPTH = 256
PIECES = [
    *("null", "true", "false", "0", "-0", "1", "-1", "0.5", "-0.0", "1e5"),
    *("1E-7", "123456789012345678", "9223372036854775807", "2.5e-324", "1e400"),
    *("9223372036854775808", "18446744073709551615", "18446744073709551616"),
    *("-9223372036854775808", "-9223372036854775809", "NaN", "Infinity", "01"),
    *("-Infinity", "+1", ".5", "1.", "1e", "--1", "0x1", "tru", "nul", "'a'"),
    *('""', '"a"', '"\\n\\t\\"\\\\\\/\\b\\f\\r"', '"\\u0000"', '"é€😀"', '"\x7f"'),
    *('"\\ud83d\\ude00"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud800x"', '"\\x"'),
    *("NaN", "Infinity", "-Infinity", "[NaN]", "NaNNaN", "1NaN", "-NaN", "nan"),
    *("+Infinity", "--Infinity", "inf", "Infinity5", "Infinitye5", "NaN.5"),
    *("NaN NaN", "Infinity-", "INFINITY", "NaNInfinity", '"NaN, \\"-Infinity"'),
    *("{NaN:1}", '{"a":1,NaN:2}', '{"NaN" NaN}', '{"Infinity":-Infinity}'),
    *('"\\u12"', '"a', '"\x01"', '"\t"', '"\u2028"', '"\\uFEFF"', "/**/1", "// x"),
]


class Refused(Exception):
    pass


def refuse(name, token=""):
    raise Refused(f"{name} {token.encode().hex()}".strip())


def integer(text):
    if len(text) > 25 or not -(2**63) <= int(text) < 2**64:
        refuse("integer-of-more-than-64-bits", text)
    return int(text)


def real(text):
    value = float(text)
    if value in (float("inf"), -float("inf")):
        refuse("number-beyond-double", text)
    return value


def shape(value, depth=0):
    if value is None or isinstance(value, bool):
        return {None: "n", True: "t", False: "f"}[value]
    if isinstance(value, int):
        return f"i{value}"
    if isinstance(value, float):
        return "d" + struct.pack(">d", value).hex()
    if isinstance(value, str):
        try:
            return "s" + value.encode().hex()
        except UnicodeEncodeError:
            refuse("lone-surrogate")
    if depth == MAX_DEPTH:
        refuse("nested-deeper-than-256")
    if isinstance(value, list):
        return "[" + ",".join(shape(each, depth + 1) for each in value) + "]"
    members = [
        f"{shape(key)}:{shape(each, depth + 1)}" for key, each in value.items()
    ]
    return "{" + ",".join(sorted(members)) + "}"


def last_of_each(pairs):
    for key, value in pairs:
        shape([key, value])  # also those that do not count must be fit
    return dict(pairs)


def not_allowed(name):
    refuse("nan-or-infinity", name)


def has_surrogate(text):
    """Then C++ may refuse the text for that, before Python finds a fault."""
    return "\\ud" in text.lower()


def place(text, error):
    """The byte where the text is wrong, in the oldest Python's opinion."""
    newer = error.msg.startswith("Illegal trailing comma")  # there the bracket
    deep = text.count("[") + text.count("{") > MAX_DEPTH
    if newer or has_surrogate(text) or deep:
        return "-"
    return len(text[: error.pos].encode("utf-8", "surrogatepass"))


def written_alike(value):
    """Whether C++ writes every number in the same digits."""
    if isinstance(value, float):
        return not math.isfinite(value) or abs(value) < 1e15
    if isinstance(value, list):
        return all(map(written_alike, value))
    if isinstance(value, dict):
        return all(map(written_alike, value.values()))
    return True


def answer(text, parse_constant):
    try:
        value = json.loads(
            text,
            parse_int=integer,
            parse_float=real,
            object_pairs_hook=last_of_each,
            parse_constant=parse_constant,
        )
        said = shape(value)
    except Refused as e:
        name, *token = str(e).split()
        return " ".join(["bad", name, *([] if has_surrogate(text) else token)])
    except RecursionError:
        return "bad nested-deeper-than-256"
    except json.JSONDecodeError as e:
        return f"bad syntax {place(text, e)}"
    except ValueError:  # an integer of more digits than Python converts
        return "bad syntax -"
    if not written_alike(value):
        return said + " -"
    dump = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return said + " " + dump.encode().hex()


def blank(rng):
    return rng.choice(["", "", "", " ", "\t", "\r", " \n "])


def make(rng, depth):
    choice = rng.random()
    if depth == 0 or choice < 0.5:
        made = rng.choice(PIECES[: rng.choice([15, 19, len(PIECES)])])
    elif choice < 0.75:
        made = "[" + ",".join(make(rng, depth - 1) for _ in range(rng.randint(0, 3))) + "]"
    else:
        members = [
            rng.choice(['"a"', '"b"', '"a"', '""', '"\\u0061"', '"é"'])
            + blank(rng) + ":" + make(rng, depth - 1)
            for _ in range(rng.randint(0, 3))
        ]
        made = "{" + ",".join(members) + "}"
    return blank(rng) + made + blank(rng)


def say(text):
    hex_text = text.encode("utf-8", "surrogatepass").hex() or "-"
    print("strict", hex_text, answer(text, not_allowed))
    print("nan", hex_text, answer(text, float))


def main(seed, count):
    rng = random.Random(seed)
    for depth in (255, 256, 257, 500):
        say("[" * depth + "]" * depth)
        say('{"a":' * depth + "1" + "}" * depth)
        say("[" * depth)
    for text in ("", " ", "\ufeff1", "1\ufeff", "\u00a01", "9" * 5000, "\x001", "NaN\x00"):
        say(text)
    for _ in range(count):
        text = make(rng, rng.randint(0, 4))
        if rng.random() < 0.3:  # one character of it changed, lost or added
            at = rng.randint(0, len(text))
            text = (
                text[:at]
                + rng.choice(["", "", *'[]{}:,"\\0e-. \x00\n', "NaN"])
                + text[at + rng.randint(0, 1) :]
            )
        say(text)


main(int(sys.argv[1]), int(sys.argv[2]))
