"""The Python half of python_interop_test.cc: asyncio streams as they come, with
nothing of ours. Each function below is one test's; it raises if the C++ half
does anything else than a Python peer would.

Usage: python_peer.py NAME [PORT]

With the test it talks over standard input and output, line by line. The exit
status is 0 only if nothing was wrong.
"""

import asyncio
import ctypes
import hashlib
import json
import os
import random
import signal
import socket
import struct
import sys

HOST = "127.0.0.1"
MIB = 1024 * 1024
LINE_SIZES = (0, 1, 2, 63, 1000, 4095, 4096, 65534, 65535, 65536, 65537, MIB)

told_reader = None  # made by main()


def say(text):
    print(text, flush=True)


async def told():
    """The next line from the test; empty when the test has closed."""
    return (await told_reader.readline()).decode().rstrip("\n")


def same(actual, expected):
    if actual != expected:
        raise AssertionError(f"{actual!r:.300} is not {expected!r:.300}")


async def connect(port, limit=2 * MIB):
    return await asyncio.open_connection(HOST, port, limit=limit)


async def close(writer):
    writer.close()
    await writer.wait_closed()


async def exchange(reader, writer, line):
    writer.write(line)
    await writer.drain()
    same(await reader.readuntil(b"\r\n"), line)


def text_of(size):
    """That many bytes of UTF-8, characters of all sizes, without line ends."""
    cut = ("aé€😀" * (size // 10 + 1)).encode()[:size]
    return cut.decode(errors="ignore").encode().ljust(size, b"z")


def abort(writer):
    """Has the connection end in a reset, whatever was read."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


# --- A Python client ---


async def lines(port):
    reader, writer = await connect(port)
    for size in LINE_SIZES:
        await exchange(reader, writer, text_of(size) + b"\r\n")
    await exchange(reader, writer, b"lone \r and \n and \r\r\n")
    # Many in one piece.
    many = b"".join(b"%d\r\n" % i for i in range(10000))
    writer.write(many)
    same(await reader.readexactly(len(many)), many)
    # One in many pieces.
    for i in range(len(b"pieces\r\n")):
        writer.write(b"pieces\r\n"[i : i + 1])
        await writer.drain()
    same(await reader.readuntil(b"\r\n"), b"pieces\r\n")
    await close(writer)


async def too_long(port):
    reader, writer = await connect(port)
    for size, reply in [
        (65536, None),
        (65537, b"too long\r\n"),
        (MIB, b"too long\r\n"),
        (65536, None),
    ]:
        line = b"x" * size + b"\r\n"
        writer.write(line)
        await writer.drain()
        same(await reader.readuntil(b"\r\n"), reply or line)
    await close(writer)


async def text(port):
    reader, writer = await connect(port)
    messages = [
        "",
        "plain",
        "  spaces around \t",
        "\v\f odd spaces \r",
        "\u00a0 no-break spaces stay \u00a0",
        "grüß dich",
        "日本語 العربية עברית ไทย",
        "e\u0301 \u200d \ufeff \u2028 \x00 \x85",
        "👩‍🚀🏳️‍🌈",
        "\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff",
    ]
    raw = [message.encode() for message in messages]
    raw += [
        b"\x80",
        b"ok \xff",
        b"\xc0\x80",  # overlong
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xed\xa0\x80",  # a surrogate
        b"\xf4\x90\x80\x80",  # above U+10FFFF
        b"cut \xe2\x82",
        b"cut \xf0\x9f\x94",
        "utf-16".encode("utf-16"),
    ]
    rng = random.Random(1)
    for _ in range(2000):
        message = rng.choice(raw) + bytes(
            rng.choice((*b"az \t", *range(0x80, 0x100))) for _ in range(3)
        )
        raw.append(message)
    for message in raw:
        writer.write(message + b"\r\n")
    await writer.drain()
    for message in raw:
        try:
            expected = message.decode().encode()
        except UnicodeDecodeError as e:
            expected = b"bad at %d" % e.start
        same((await reader.readuntil(b"\r\n"))[:-2], expected)
    await close(writer)


# Every width that the struct module and C++ have in common.
FIELDS = "bBhHiIqQfd?"
BIG = struct.Struct(">" + FIELDS)
LITTLE = struct.Struct("<" + FIELDS)
NUMBERS = [
    (0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, False),
    (-1, 1, -1, 1, -1, 1, -1, 1, -1.5, -1.5, True),
    (
        *(-128, 255, -32768, 65535, -(2**31), 2**32 - 1, -(2**63), 2**64 - 1),
        *(-3.4028234663852886e38, -1.7976931348623157e308, True),
    ),
    (
        *(127, 128, 32767, 32768, 2**31 - 1, 2**31, 2**63 - 1, 2**63),
        *(1.401298464324817e-45, 5e-324, True),
    ),
    (*range(1, 9), float("inf"), float("-inf"), False),
    (1, 2, 258, 772, 16909060, 84281096, 2**53 + 1, 2**56, 0.1, 0.1, True),
]
NUMBERS = [BIG.unpack(BIG.pack(*values)) for values in NUMBERS]


async def numbers(port):
    """Sends big-endian numbers, gets them little-endian and as text."""
    reader, writer = await connect(port)
    for values in NUMBERS:
        writer.write(BIG.pack(*values))
        same(LITTLE.unpack(await reader.readexactly(LITTLE.size)), values)
        words = (await reader.readuntil(b"\r\n")).decode().split()
        ints, floats, flag = words[:8], words[8:10], words[10]
        same(tuple(int(word) for word in ints), values[:8])
        same(tuple(float(word) for word in floats), values[8:10])
        same(bool(int(flag)), values[10])
    # Any bits: NaNs keep theirs, a bool is one byte of which 0 is false.
    rng = random.Random(2)
    for _ in range(200):
        raw = rng.randbytes(BIG.size)
        expected, start = b"", 0
        for field in FIELDS[:-1]:
            size = struct.calcsize("<" + field)
            expected += raw[start : start + size][::-1]
            start += size
        expected += b"\1" if raw[-1] else b"\0"
        writer.write(raw)
        same(await reader.readexactly(LITTLE.size), expected)
        await reader.readuntil(b"\r\n")
    await close(writer)


class Padded(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_uint8),
        ("value", ctypes.c_double),
        ("counts", ctypes.c_int16 * 3),
    ]


class Packed(ctypes.Structure):
    _pack_ = 1
    _fields_ = Padded._fields_


class Reply(ctypes.BigEndianStructure):
    _pack_ = 1
    _fields_ = [("size", ctypes.c_uint16), ("value", ctypes.c_double)]


async def ctypes_structs(port):
    """Structs as ctypes has them; the three of the reply are one message."""
    reader, writer = await connect(port)
    padded = Padded(1, 2.5, (1, -2, 3))
    packed = Packed(2, -2.5, (-1, 2, -3))
    writer.write(bytes(padded) + bytes(packed))
    raw = await reader.readexactly(ctypes.sizeof(Reply))
    reply = Reply.from_buffer_copy(raw)
    same((reply.size, reply.value), (ctypes.sizeof(Padded), 0.25))
    raw = await reader.readexactly(ctypes.sizeof(Padded))
    echoed = Padded.from_buffer_copy(raw)
    same((echoed.kind, echoed.value, echoed.counts[:]), (1, 2.5, [1, -2, 3]))
    same(raw, bytes(padded))  # the padding too: zeros
    same(await reader.readexactly(ctypes.sizeof(Packed)), bytes(packed))
    await close(writer)


async def half_close(port):
    reader, writer = await connect(port)
    writer.write(b"one\r\ntwo\r\nthree\r\npar")
    writer.write_eof()
    same(await reader.read(), b"")
    await close(writer)


async def reset(port):
    reader, writer = await connect(port)
    writer.write(b"one\r\ntwo\r\nthree\r\npar")
    await writer.drain()
    abort(writer)
    try:
        await writer.wait_closed()
    except ConnectionError:
        pass
    say("aborted")
    await told()


async def second(port):
    reader, writer = await connect(port)
    await exchange(reader, writer, b"first\r\n")
    for i in range(20):
        reader2, writer2 = await connect(port)
        # One that says nothing, one that speaks first, one that never stops.
        writer2.write((b"", b"hello\r\n", b"x" * MIB)[i % 3])
        same(await reader2.read(), b"")
        writer2.close()
        await exchange(reader, writer, b"still served\r\n")
    await close(writer)
    # The place is free at once.
    reader, writer = await connect(port)
    await exchange(reader, writer, b"next\r\n")
    await close(writer)


async def reconnect(port):
    for i in range(100):
        reader, writer = await connect(port)
        await exchange(reader, writer, b"%d\r\n" % i)
        if i % 4 == 0:
            abort(writer)
        elif i % 4 == 1:
            writer.write_eof()
            same(await reader.read(), b"")
        # The last descriptor is closed when this returns, not before.
        await close(writer)


async def closed_while_sending(port):
    """Reads last words and the end of the stream, though it never stopped."""
    reader, writer = await connect(port)

    async def send():
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            # The server waits for a second; what reads must get its turns.
            await asyncio.sleep(0.005)

    sending = asyncio.create_task(send())
    same(await reader.readuntil(b"\r\n"), b"last words\r\n")
    same(await reader.read(), b"")
    sending.cancel()
    writer.transport.abort()


async def server_closed_while_sending(port):
    """The server is no more: sending fails in the end, and soon."""
    reader, writer = await connect(port)
    try:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            if reader.at_eof():
                break
    except ConnectionError:
        pass
    writer.transport.abort()


async def large(port):
    reader, writer = await connect(port)
    data = random.Random(3).randbytes(16 * MIB)

    async def send():
        for start in range(0, len(data), 1000003):
            writer.write(data[start : start + 1000003])
            await writer.drain()

    sending = asyncio.create_task(send())
    got = await reader.readexactly(len(data))
    await sending
    same(hashlib.sha256(got).digest(), hashlib.sha256(data).digest())
    await close(writer)


# --- Messages in every format ---

BASE = "utf-8", b"\r\n"
ENCODINGS = (
    *("utf-8", "utf-16", "utf-16-le", "utf-16-be"),
    *("utf-32", "utf-32-le", "utf-32-be", "latin-1", "ascii"),
)
TERMINATORS = (
    *(b"\r\n", b"\n", b"\0", b";", b"END", b"\xff\xff", b"\r\n\r\n"),
    *(b"\0\n", b"aba", b" "),
)
TEXTS = (
    *("", "plain", "  blanks around \t", "heartbeats", "a;b", "a\nb", "a\rb"),
    *("a\r\nb", "EN", "END", "x\0y", "ab", "grüß dich", "\xff\xfe\x80"),
    *("日本語 ไทย", "\u010a\u0a0d\u0d0a", "\u0d05\u010a hi", "👩‍🚀", "\ufeffmark"),
    *("\u2020", "\ud7ff\ue000\uffff\U00010000\U0010ffff", "ab" * 2000),
)
VALUES = (
    *(None, True, 0, -1, 2**63, 2**64 - 1, -(2**63), 0.1, -0.0, 5e-324, 1e300),
    *("", "é€😀", "\r\n\0\u2028", [], {}, [[], [1, [2.5, None]]]),
    {"id": 7, "é": {"nested": ["x" * 1000, False]}, "": 1},
)


def is_whole(raw, terminator):
    """Whether a reader would find the terminator at the end and not before."""
    return raw.find(terminator) == len(raw) - len(terminator)


def encoded(text, encoding, terminator):
    """The message, or None if there can be none."""
    try:
        raw = text.encode(encoding) + terminator
    except UnicodeEncodeError:
        return None
    return raw if is_whole(raw, terminator) else None


async def command(reader, writer, *words):
    """Tells the test's end what is to come, in the format to begin with."""
    encoding, terminator = BASE
    writer.write(" ".join(words).encode(encoding) + terminator)
    await writer.drain()
    return (await reader.readuntil(terminator)).decode(encoding).strip()


async def exchange_messages(reader, writer):
    refused = 0
    for encoding in ENCODINGS:
        for terminator in TERMINATORS:
            form = encoding, terminator.hex()
            sent = [encoded(text, encoding, terminator) for text in TEXTS]
            for text, raw in zip(TEXTS, sent):
                if raw is None:
                    refused += 1
                    answer = await command(
                        reader, writer, "refuse", *form, "-" + text.encode().hex()
                    )
                    same((answer, text), ("refused", text))
            sent = [raw for raw in sent if raw is not None]
            answers = list(sent)
            if encoding in ("utf-16", "utf-32"):
                # In the other byte order, and in this one with no mark.
                for other in ("-be", "-le"):
                    body = "\ufeffmark".encode(encoding + other)
                    for raw in (body, body[int(encoding[-2:]) // 8 :]):
                        whole = is_whole(raw + terminator, terminator)
                        answer = encoded("mark", encoding, terminator)
                        if whole and answer and (raw is body or other == "-le"):
                            sent.append(raw + terminator)
                            answers.append(answer)
            same(await command(reader, writer, "text", *form, str(len(sent))), "go")
            writer.write(b"".join(sent))
            await writer.drain()
            for raw in answers:
                same(await reader.readuntil(terminator), raw)

            dumped = [(value, json.dumps(value)) for value in VALUES]
            dumped += [(value, json.dumps(value, ensure_ascii=False)) for value in VALUES]
            dumped = [
                (value, encoded(text, encoding, terminator)) for value, text in dumped
            ]
            # What is written back is ASCII, with no blanks.
            dumped = [
                (value, raw)
                for value, raw in dumped
                if raw is not None
                and encoded(
                    json.dumps(value, separators=(",", ":"), sort_keys=True),
                    encoding,
                    terminator,
                )
            ]
            same(await command(reader, writer, "json", *form, str(len(dumped))), "go")
            writer.write(b"".join(raw for value, raw in dumped))
            await writer.drain()
            for value, _ in dumped:
                raw = await reader.readuntil(terminator)
                got = json.loads(raw[: -len(terminator)].decode(encoding))
                same(repr(got), repr(sort_keys(value)))
    if refused < 100:
        raise AssertionError(f"only {refused} texts were refused")


def sort_keys(value):
    if isinstance(value, dict):
        return {key: sort_keys(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [sort_keys(each) for each in value]
    return value


async def messages(port):
    reader, writer = await connect(port)
    await exchange_messages(reader, writer)
    await close(writer)


# --- Heartbeats ---

BEAT = b"heartbeat\r\n"
BEAT_INTERVAL = 0.05


async def beat(writer):
    while True:
        writer.write(BEAT)
        await writer.drain()
        await asyncio.sleep(BEAT_INTERVAL)


async def exchange_heartbeats(reader, writer):
    """Both ends send them; then we no longer do."""
    beating = asyncio.create_task(beat(writer))
    beats = lines = 0
    writer.write(b"line\r\n")
    while beats < 20:
        line = await reader.readuntil(b"\r\n")
        if line == BEAT:
            beats += 1
            continue
        same(line, b"line\r\n")
        lines += 1
        writer.write(line)
        await asyncio.sleep(0.002)
    if lines < 20:
        raise AssertionError(f"{beats} heartbeats and only {lines} lines")
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    # We are given up, with a clean end.
    while line := await reader.readline():
        same(line in (BEAT, b"line\r\n"), True)


async def heartbeats(port):
    reader, writer = await connect(port)
    await exchange_heartbeats(reader, writer)
    await close(writer)


async def stop_the_other_end(port):
    """Stops the test's process for a while; the heartbeats come all the same."""
    reader, writer = await connect(port)
    beating = asyncio.create_task(beat(writer))
    await exchange(reader, writer, b"before\r\n")
    for _ in range(2):
        os.kill(os.getppid(), signal.SIGSTOP)
        await asyncio.sleep(1.5)
        os.kill(os.getppid(), signal.SIGCONT)
        await exchange(reader, writer, b"after\r\n")
    beating.cancel()
    await close(writer)


async def storm(port):
    """Many clients come and go at once, each in its own way."""
    served = turned_away = 0

    async def client(number):
        nonlocal served, turned_away
        rng = random.Random(number)
        for i in range(150):
            reader, writer = await connect(port)
            line = b"%d %d\r\n" % (number, i)
            try:
                writer.write(line)
                got = await reader.readline()
            except ConnectionError:
                got = b""
            if got:
                same(got, line)
                served += 1
            else:
                turned_away += 1
            ending = rng.randrange(3)
            if ending == 0:
                abort(writer)
            elif ending == 1 and got:
                writer.write(b"half a li")
            writer.close()
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.003)

    await asyncio.gather(*(client(number) for number in range(4)))
    same(served + turned_away, 600)
    if served < 50:
        raise AssertionError(f"only {served} were served")
    while True:
        reader, writer = await connect(port)
        writer.write(b"last\r\n")
        if await reader.readline():
            break
    await close(writer)


# --- A Python server ---


async def serve(handle):
    """Serves until the test closes our standard input."""
    failures = []

    async def connected(reader, writer):
        try:
            await handle(reader, writer)
        except Exception as e:
            failures.append(e)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, HOST, 0, limit=2 * MIB)
    say(f"port {server.sockets[0].getsockname()[1]}")
    await told()
    server.close()
    if failures:
        raise failures[0]


async def echo_server():
    async def handle(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    await serve(handle)


async def text_server():
    """Answers each line in capital letters."""

    async def handle(reader, writer):
        while line := await reader.readline():
            writer.write(line.decode().upper().encode())

    await serve(handle)


async def numbers_server():
    """Sends numbers big-endian, checks that they come back little-endian."""

    async def handle(reader, writer):
        writer.write(struct.pack(">H", len(NUMBERS)))
        for values in NUMBERS:
            writer.write(BIG.pack(*values))
            same(LITTLE.unpack(await reader.readexactly(LITTLE.size)), values)
        writer.write(b"all right\r\n")

    await serve(handle)


async def half_close_server():
    """Reads all, then answers; and the other way round."""

    async def handle(reader, writer):
        if await reader.readline() == b"you first\r\n":
            data = await reader.read()
            writer.write(data[::-1])
        else:
            writer.write(b"that was all of mine\r\n")
            writer.write_eof()
            data = await reader.read()
            say(f"got {len(data)} {hashlib.sha256(data).hexdigest()}")

    await serve(handle)


async def reset_server():
    async def handle(reader, writer):
        await reader.readline()  # a reset while it connects is none of this
        writer.write(b"one\r\ntwo\r\nthree\r\npar")
        await writer.drain()
        abort(writer)
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass
        say("aborted")

    await serve(handle)


async def messages_server():
    await serve(exchange_messages)


async def heartbeats_server():
    await serve(exchange_heartbeats)


async def busy_server():
    """Turns everybody away."""

    async def handle(reader, writer):
        pass

    await serve(handle)


async def flood_server():
    """Sends and sends; says what it reads meanwhile."""

    async def handle(reader, writer):
        async def send():
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

        sending = asyncio.create_task(send())
        say((await reader.readuntil(b"\r\n")).decode().strip())
        try:
            same(await reader.read(), b"")
        except ConnectionError:
            pass
        sending.cancel()
        say("ended")

    await serve(handle)


async def main(name, *arguments):
    global told_reader
    told_reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(told_reader), sys.stdin
    )
    await globals()[name](*(int(argument) for argument in arguments))


asyncio.run(main(*sys.argv[1:]))
