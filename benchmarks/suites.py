"""What is measured: the suites, their works, and the ways of doing each.

The targets are ratios to plain POSIX in the same run; their numbers are those of
the table in docs/performance.md.
"""

import collections

# One way of doing a work. `program` is raw, ours or a peer. Each role is
# (program, work, way), the way being what that program calls it; a work within
# one process has a client only.
Way = collections.namedtuple("Way", "label program server client targets number")

# `measures` are those of which a row is made; the first has the targets.
Work = collections.namedtuple("Work", "suite title placement parameters x measures raw ways")

# The peers, with what they need.
PEERS = ("asio", "poco", "libuv", "rust", "go", "asyncio")

TIME = "time"
RATE = "rate"
BYTE_RATE = "byte rate"
READER_CPU = "reader CPU"
WRITER_CPU = "writer CPU"
NOTICE = "p50 until noticed"
WAKE = "p50 until awake"

# measure -> (unit, better)
MEASURES = {
    TIME: ("ns", "less"),
    RATE: ("1/s", "more"),
    BYTE_RATE: ("B/s", "more"),
    READER_CPU: ("ns", "less"),
    WRITER_CPU: ("ns", "less"),
    NOTICE: ("ns", "less"),
    WAKE: ("ns", "less"),
}

LABELS = {
    "client": "Client",
    "read_loop": "read-loop server",
    "callback": "OneClientServer, dispatcher",
    "queue": "OneClientServer, queue",
    "reading": "read-loop server, dispatcher",
}


def label_of(way):
    """ "client_stop" -> "Client, stop"."""
    first, _, rest = way.partition("_")
    if way in LABELS:
        return LABELS[way]
    return LABELS.get(first, first) + (", " + rest if rest else "")


def both_ends(program, work, way, targets=(), number=None, label=None):
    role = program, work, way
    return Way(label or label_of(way), program, role, role, targets, number)


def client_only(program, work, way, server_work, targets=(), number=None):
    """The server is plain POSIX."""
    label = label_of(way) if program == "ours" else program_label(program, way)
    return Way(label, program, ("raw", server_work, "raw"), (program, work, way), targets, number)


def server_only(program, work, way, targets=(), number=None):
    label = label_of(way) if program == "ours" else program_label(program, way)
    return Way(label, program, (program, work, way), ("raw", work, "raw"), targets, number)


def program_label(program, way):
    return program if way in ("raw", "plain") else "{}, {}".format(program, way)


def raw_and_peers(make, work, *more):
    """The plain way of raw (compared with itself: the noise) and of the peers."""
    raw = make("raw", work, "raw", *more)
    return raw, [raw._replace(label="raw again (noise)")], [
        make(peer, work, "plain", *more) for peer in PEERS
    ]


def plain_ends(program, work, way):
    return both_ends(program, work, way, label=program)


def ping_pong():
    def ours(ways):
        return [both_ends("ours", "ping_pong", way, (t,) if t else (), n) for way, t, n in ways]

    raw, noise, peers = raw_and_peers(plain_ends, "ping_pong")
    same = ours(
        [
            ("streams", 1.02, 1),
            ("streams_deadline", 1.05, 3),
            ("streams_stop", 1.15, 3),
            ("streams_both", 1.15, 3),
            ("streams_spin", 1.05, 5),
            ("client", 1.04, 2),
            ("client_deadline", 1.05, 3),
            ("client_stop", 1.15, 3),
            ("client_both", 1.15, 3),
            ("client_spin", 1.05, 5),
            ("read_loop", 1.04, 2),
        ]
    )
    split = ours(
        [
            ("streams", None, None),
            ("streams_spin", 0.16, 4),
            ("client", None, None),
            ("client_spin", 0.16, 4),
            ("client_both", None, None),
            ("read_loop", None, None),
        ]
    )
    parameters = {"size": 32}
    title = "line ping-pong 32 B"
    yield Work(
        "ping_pong", title, "same", parameters, None, [TIME], raw, noise + same + peers
    )
    yield Work(
        "ping_pong", title, "split", parameters, None, [TIME], raw, noise + split + peers
    )


def struct():
    raw, noise, peers = raw_and_peers(plain_ends, "struct")
    for size in (64, 512, 4096):
        ours = [both_ends("ours", "struct", way, (1.02,), 6) for way in ("streams", "client")]
        yield Work(
            "struct",
            "struct ping-pong {} B".format(size),
            "same",
            {"size": size},
            (size, "bytes"),
            [TIME],
            raw,
            noise + ours + peers,
        )


def read():
    raw, noise, peers = raw_and_peers(client_only, "read", "feed")
    peers += [client_only("asio", "read", "view", "feed")]
    for size, view, string in ((40, 0.90, 0.55), (200, 0.95, 0.70), (2000, 1.00, 0.95)):
        ours = [
            client_only("ours", "read", "streams_view", "feed", (view,), 7),
            client_only("ours", "read", "streams_string", "feed", (string,), 8),
            client_only("ours", "read", "client", "feed"),
        ]
        yield Work(
            "read",
            "lines of {} B, reader alone".format(size),
            "split",
            {"size": size},
            (size, "bytes"),
            [RATE, READER_CPU],
            raw,
            noise + ours + peers,
        )


def batched():
    def way(program, name, reader, targets=(), number=None, label=None):
        return Way(
            label or label_of(name),
            program,
            (program, "feed_batches", name),
            (program, "read", reader),
            targets,
            number,
        )

    raw = way("raw", "raw", "raw")
    for size, target in ((40, 0.5), (200, 0.6), (2000, 0.9)):
        yield Work(
            "batched",
            "lines of {} B, both ends batched".format(size),
            "split",
            {"size": size},
            (size, "bytes"),
            [RATE, READER_CPU],
            raw,
            [
                raw._replace(label="raw again (noise)"),
                way("ours", "streams", "streams_view"),
                way("ours", "client", "client", (target,), "new"),
            ],
        )


def write_batches():
    raw, noise, peers = raw_and_peers(client_only, "write_batches", "drain")
    for size, target in ((40, 0.90), (200, None), (2000, 1.15)):
        targets = (target,) if target else ()
        ours = [
            client_only("ours", "write_batches", way, "drain", targets, "8b")
            for way in ("streams", "client")
        ]
        yield Work(
            "write_batches",
            "write_lines of {} B in batches".format(size),
            "split",
            {"size": size},
            (size, "bytes"),
            [RATE, WRITER_CPU],
            raw,
            noise + ours + peers,
        )


def write_each():
    raw, noise, peers = raw_and_peers(client_only, "write_each", "drain")
    ours = [
        client_only("ours", "write_each", way, "drain", (0.98,), 9)
        for way in ("streams", "client")
    ]
    yield Work(
        "write_each",
        "lines of 40 B, one write each",
        "same",
        {"size": 40},
        None,
        [RATE],
        raw,
        noise + ours + peers,
    )


def bulk():
    raw, noise, peers = raw_and_peers(client_only, "bulk", "feed")
    ours = [
        client_only("ours", "bulk", way, "feed", (0.98, 1.02), 10) for way in ("streams", "client")
    ]
    yield Work(
        "bulk",
        "read_exactly of 64 KiB",
        "split",
        {"size": 65536},
        None,
        [BYTE_RATE, READER_CPU],
        raw,
        noise + ours + peers,
    )


def connect():
    raw, noise, peers = raw_and_peers(server_only, "connect")
    ours = [server_only("ours", "connect", way, (0.70,), 11) for way in ("callback", "queue")]
    for placement in ("same", "split"):
        yield Work(
            "connect",
            "connect, accept, announce, close",
            placement,
            {},
            None,
            [RATE],
            raw,
            noise + ours + peers,
        )


def turn_away():
    raw, noise, peers = raw_and_peers(server_only, "turn_away")
    ours = [server_only("ours", "turn_away", "client", (0.85,), 12)]
    ours[0] = ours[0]._replace(label="OneClientServer")
    for placement in ("same", "split"):
        yield Work(
            "turn_away",
            "turning a client away",
            placement,
            {},
            None,
            [RATE],
            raw,
            noise + ours + peers,
        )


def notice():
    raw, noise, peers = raw_and_peers(server_only, "notice")
    ours = [
        server_only("ours", "notice", way, (1.5,), 13) for way in ("callback", "queue", "reading")
    ]
    yield Work(
        "notice",
        "the peer's close to the callback",
        "split",
        {},
        None,
        [NOTICE],
        raw,
        noise + ours + peers,
    )


def unblock():
    def alone(program, work, way, targets=(), number=None):
        label = label_of(way) if program == "ours" else program
        return Way(label, program, None, (program, work, way), targets, number)

    raw, noise, peers = raw_and_peers(alone, "unblock")
    ours = [
        alone("ours", "unblock", way, (1.0,), 14)
        for way in ("streams_stop", "streams_close", "client_stop", "client_close")
    ]
    yield Work(
        "unblock",
        "unblocking a blocked read",
        "one process",
        {},
        None,
        [WAKE],
        raw,
        noise + ours + peers,
    )


SUITES = {
    "ping_pong": ping_pong,
    "struct": struct,
    "read": read,
    "batched": batched,
    "write_batches": write_batches,
    "write_each": write_each,
    "bulk": bulk,
    "connect": connect,
    "turn_away": turn_away,
    "notice": notice,
    "unblock": unblock,
}
