"""Makes random scripts and says what CPython's streams do with them.

    asyncio_oracle.py SEED READER_SCRIPTS WRITER_SCRIPTS

Prints the scripts for asyncio_oracle_test.cc, a step a line. Of a reader:

    reader LIMIT                begins a script
    limit N                     makes a reader with that limit
    feed HEX | eof | reset      what the peer does; eof.close if it closes
    read.FORM N | all.FORM | exactly.FORM N | line.FORM
    until.FORM HEX | any.FORM [HEX ...]         one separator, several
    at_eof | exception
    two HEX READ                READ while another read waits that got HEX

FORM says which of our calls with the same meaning is to be used. Of a writer:

    writer | small              begins a script; small: with small buffers
    write HEX | writelines [HEX ...] | fill N
    drain | write_eof | can_write_eof | is_closing | close | wait_closed
    sends HEX | gone            what the peer does
    read                        everything that has come
    received                    what the peer has got, and if that is the end
    through                     drain while the peer reads
    received_of N               whether the peer has got all of N bytes

Empty bytes are "-". After each step comes

    = RESULT

which is "ok", "pending" if it would wait, "data HEX", or an exception with its
fields; with a reader's buffered bytes behind it: "[3]". Where our library is
known to differ there is a line before that, which gives the difference a name
and says what is to be expected instead:

    ~ NAME RESULT
    ? NAME RESULT               this or what asyncio does
"""

import asyncio
import contextlib
import io
import logging
import random
import socket
import sys

ALPHABET = b"ab\r\n;"
SEPARATORS = [b"\n", b"\r\n", b"ab", b"aba", b"abab", b";", b"\n\n", b"aab"]
ALL = 1000000  # more than any script has


def hexed(data):
    return bytes(data).hex() or "-"


def random_bytes(rng, most):
    return bytes(rng.choices(ALPHABET, k=rng.randint(1, most)))


def report(result, ours=None, name=""):
    if ours is not None and ours != result:
        print("~", name, ours)
    print("=", result)


async def read_until_any(reader, separators):
    """readuntil() for several separators.

    Python before 3.13 takes one only; what 3.13 does is written down here from
    the documentation, over the reader's own buffer.
    """
    if sys.version_info >= (3, 13):
        return await reader.readuntil(tuple(separators))
    if not separators or b"" in separators:
        raise ValueError
    if reader.exception() is not None:
        raise reader.exception()
    longest = max(map(len, separators))
    data = bytes(reader._buffer)
    found = []
    for separator in separators:
        start = data.find(separator)
        if start >= 0:
            # The earliest end, and of those the shortest separator.
            found.append((start + len(separator), -start))
    if found:
        end, minus_start = min(found)
        if -minus_start > reader._limit:
            raise asyncio.LimitOverrunError("", -minus_start)
        return await reader.readexactly(end)
    offset = max(0, len(data) + 1 - longest)
    if offset > reader._limit:
        raise asyncio.LimitOverrunError("", offset)
    if reader._eof:
        raise asyncio.IncompleteReadError(await reader.read(ALL), None)
    return await asyncio.get_running_loop().create_future()


async def settle():
    """Lets the loop do all that it can do now.

    The sockets are local, so that what one end has done is there for the other
    at once. A loss takes asyncio some rounds to tell everybody.
    """
    for _ in range(4):
        await asyncio.sleep(0)


async def attempt(coroutine, turn=settle):
    """What comes of it at once, in words; and the exception, if any."""
    task = asyncio.ensure_future(coroutine)
    await turn()
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return "pending", None
    error = task.exception()
    if error is None:
        result = task.result()
        return ("ok" if result is None else f"data {hexed(result)}"), None
    words = type(error).__name__
    if isinstance(error, asyncio.IncompleteReadError):
        expected = "none" if error.expected is None else error.expected
        words += f" {hexed(error.partial)} {expected}"
    elif isinstance(error, asyncio.LimitOverrunError):
        words += f" {error.consumed}"
    return words, error


class ReaderScript:
    """asyncio's reader, and beside it what ours has after a reset."""

    FORMS = {
        "read": ["block", "try", "view"],
        "all": ["block", "max"],
        "exactly": ["block", "try", "view", "span"],
        "line": ["block", "try", "view"],
        "until": ["block", "try", "view", "span"],
        "any": ["block", "try", "view", "span"],
    }

    def __init__(self, rng):
        self.rng = rng
        # Now and then amounts for which reading goes other ways: only in reads
        # of so and so many bytes, as read() may return any part of them.
        self.large = rng.random() < 0.01
        self.limit = 30000 if self.large else rng.choice([1, 3, 7, 16, 40])
        self.reader = asyncio.StreamReader(limit=self.limit)
        # A reader that has the bytes and does not know of the reset.
        self.rest = None
        self.met = False  # one of our reads has thrown for the reset
        # readline() has dropped the beginning of a line that was too long: ours
        # drops the rest of that line too, when it comes.
        self.in_dropped_line = False

    @property
    def ours(self):
        return self.rest or self.reader

    def buffered(self, reader):
        return f" [{len(reader._buffer)}]"

    def ok(self):
        report("ok" + self.buffered(self.reader))

    async def run(self):
        print("reader", self.limit)
        steps = self.rng.randint(5, 40)
        for _ in range(steps):
            await self.step()

    async def step(self):
        rng = self.rng
        choice = rng.random()
        ended = self.reader._eof or self.rest
        if choice < 0.4 and not ended:
            # Beyond twice its limit a real reader is not fed any more.
            if len(self.reader._buffer) <= 2 * self.limit:
                most = 30000 if self.large else rng.choice([2, 5, 30])
                data = random_bytes(rng, most)
                print("feed", hexed(data))
                self.reader.feed_data(data)
                self.ok()
        elif choice < 0.425 and not ended:
            print(rng.choice(["eof", "eof.close"]))
            self.reader.feed_eof()
            self.ok()
        elif choice < 0.45 and not ended:
            print("reset")
            self.rest = asyncio.StreamReader(limit=self.limit)
            self.rest.feed_data(bytes(self.reader._buffer))
            self.reader.set_exception(ConnectionResetError())
            self.ok()
        elif choice < 0.46 and not ended:
            await self.two()
        elif choice < 0.47:
            n = rng.choice([0, 1, 5])
            print("limit", n)
            try:
                asyncio.StreamReader(limit=n)
                result = "ok"
            except ValueError:
                result = "ValueError"
            report(result)
        elif choice < 0.51:
            self.exception()
        elif choice < 0.55:
            print("at_eof")
            at_eof = str(self.reader.at_eof()).lower()
            ours = at_eof + self.buffered(self.ours)
            result = at_eof + self.buffered(self.reader)
            report(result, ours, "reset-delivers-first")
        else:
            await self.read(*self.random_read())

    def random_read(self):
        rng = self.rng
        if self.large:
            method = rng.choice(["exactly"] * 5 + ["all"])
            all_there = len(self.ours._buffer)
            n = rng.choice([1, 8000, 16384, all_there, all_there + 1, 60000])
            return method, [] if method == "all" else [n]
        choice = rng.random()
        if choice < 0.25:
            return "read", [rng.choice([0, 1, 1, 2, 2, 5, 5, 50, 50, -3, -1])]
        if choice < 0.45:
            return "exactly", [rng.choice([0, 1, 1, 2, 2, 5, 5, 50, -3, -1])]
        if choice < 0.6:
            return "line", []
        if choice < 0.65:
            return "all", []
        # Now and then what is no separator.
        choices = SEPARATORS + ([b""] if rng.random() < 0.05 else [])
        if choice < 0.85:
            return "until", [rng.choice(choices)]
        return "any", rng.sample(choices, rng.choice([0, 1, 2, 2, 3, 3, 3]))

    def print_read(self, method, arguments, before=""):
        forms = self.FORMS[method]
        if method == "exactly" and arguments[0] < 0:
            forms = forms[:-1]  # no span has a negative size
        form = self.rng.choice(forms)
        words = [hexed(a) if isinstance(a, bytes) else a for a in arguments]
        print(f"{before}{method}.{form}", *words)

    async def read_from(self, reader, method, arguments):
        calls = {
            "read": lambda: reader.read(*arguments),
            "all": lambda: reader.read(),
            "exactly": lambda: reader.readexactly(*arguments),
            "line": lambda: reader.readline(),
            "until": lambda: reader.readuntil(*arguments),
            "any": lambda: read_until_any(reader, arguments),
        }
        # One turn starts it; what needs no socket is then done.
        return await attempt(calls[method](), lambda: asyncio.sleep(0))

    async def readline_of_asyncio(self):
        """What asyncio would say, with its buffer's size; changes nothing."""
        reader = asyncio.StreamReader(limit=self.limit)
        reader.feed_data(bytes(self.reader._buffer))
        if self.reader._eof:
            reader.feed_eof()
        if self.reader.exception() is not None:
            reader.set_exception(self.reader.exception())
        result, _ = await self.read_from(reader, "line", [])
        return result, self.buffered(reader)

    def drop_rest_of_line(self):
        buffer = self.ours._buffer
        del buffer[: buffer.find(b"\n") + 1 or len(buffer)]

    def note_dropped_line(self, method, before, error):
        """Whether the next byte is one of a line that was dropped."""
        after = len(self.ours._buffer)
        if method == "line" and isinstance(error, ValueError):
            at = error.__context__.consumed
            self.in_dropped_line = before[at : at + 1] != b"\n"
        elif b"\n" in before[: len(before) - after]:
            self.in_dropped_line = False

    async def read(self, method, arguments):
        self.print_read(method, arguments)
        name = ""
        asyncio_says = None
        if method == "line" and self.in_dropped_line:
            name = "rest-of-a-dropped-line-is-dropped"
            asyncio_says = await self.readline_of_asyncio()
            self.in_dropped_line = b"\n" not in self.ours._buffer
            self.drop_rest_of_line()
        before = bytes(self.ours._buffer)
        result, error = await self.read_from(self.reader, method, arguments)
        ours = result
        real_after = self.buffered(self.reader)
        if asyncio_says is not None:
            result, real_after = asyncio_says
        if method == "read" and arguments[0] < 0:
            name = "negative-read-throws"
            ours = "ValueError"
            self.ours._buffer[:] = before
        elif self.rest:
            name = "reset-delivers-first"
            if method == "all":
                ours = "pending"
            else:
                ours, error = await self.read_from(self.rest, method, arguments)
            if ours == "pending":
                ours = "ConnectionResetError"
                self.met = True
        elif method == "all" and result == "pending":
            name = "interrupted-read-all-keeps-bytes"
            self.reader._buffer[:] = before
        if method == "line" and isinstance(error, ValueError):
            # readline() itself does not say how far it got.
            ours = f"LimitOverrunError {error.__context__.consumed}"
            name = name or "readline-over-limit-is-LimitOverrunError"
        self.note_dropped_line(method, before, error)
        report(result + real_after, ours + self.buffered(self.ours), name)

    def exception(self):
        print("exception")
        # Without the buffer, which it has nothing to do with.
        error = self.reader.exception()
        result = "none" if error is None else type(error).__name__
        if self.rest and not self.met:
            # Ours may have met it: what it reads ahead is its own affair.
            print("? error-once-a-read-has-met-it none")
        print("=", result)

    async def two(self):
        """A second read while one waits, with bytes that are not enough."""
        data = random_bytes(self.rng, 5)
        first = asyncio.ensure_future(self.reader.readexactly(ALL))
        await settle()
        self.reader.feed_data(data)
        await settle()
        before = bytes(self.reader._buffer)
        method = self.rng.choice(["read", "exactly"])
        arguments = [5 if method == "read" else ALL]
        self.print_read(method, arguments, f"two {hexed(data)} ")
        result, _ = await self.read_from(self.reader, method, arguments)
        result += self.buffered(self.reader)
        self.reader._buffer[:] = before
        ours = "RuntimeError" + self.buffered(self.reader)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        report(result, ours, "second-reader-always-throws")


class WriterScript:
    """asyncio's streams over a socket, and the state that ours are in."""

    def __init__(self, rng):
        self.rng = rng
        self.closed = False
        self.eof = False
        self.gone = False  # the peer has closed
        self.reset = False  # with bytes of ours unread
        self.met = False  # one of our reads has thrown for that
        self.lost = False  # one of our writes has met the loss
        self.unread = 0  # what the peer has not read
        self.unread_by_us = b""

    async def open(self):
        mine, self.peer = socket.socketpair()
        if self.small:
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        mine.setblocking(False)
        self.peer.setblocking(False)
        self.reader, self.writer = await asyncio.open_connection(sock=mine)

    async def run(self):
        self.small = self.rng.random() < 0.1
        await self.open()
        if self.small:
            print("small")
            await self.fill()
        else:
            print("writer")
            for _ in range(self.rng.randint(3, 15)):
                await self.step()
            if not self.gone:
                await self.received()
        self.writer.close()
        await attempt(self.writer.wait_closed())
        self.peer.close()

    async def step(self):
        choice = self.rng.random()
        if choice < 0.25:
            parts = [self.random_part()]
            print("write", hexed(parts[0]))
            await self.write(parts, lambda: self.writer.write(parts[0]))
        elif choice < 0.4:
            parts = [self.random_part() for _ in range(self.rng.randint(0, 4))]
            print("writelines", *map(hexed, parts))
            await self.write(parts, lambda: self.writelines(parts))
        elif choice < 0.55:
            await self.drain()
        elif choice < 0.6:
            print("write_eof")
            result = await self.call(self.writer.write_eof)
            ours = "ok"
            if self.closed and not self.eof:
                ours = "ConnectionAbortedError"
            else:
                self.eof = True
            report(result, ours, "write-eof-after-close-throws")
        elif choice < 0.64:
            print("can_write_eof")
            result = str(self.writer.can_write_eof()).lower()
            report(result)
        elif choice < 0.74:
            self.is_closing()
        elif choice < 0.78:
            print("close")
            self.closed = True
            result = await self.call(self.writer.close)
            report(result, "ok")
        elif choice < 0.82:
            print("wait_closed")
            self.closed = True
            self.writer.close()
            result, _ = await attempt(self.writer.wait_closed())
            report(result, "ok", "wait-closed-ignores-a-loss")
        elif choice < 0.86 and not self.gone and not self.closed:
            data = random_bytes(self.rng, 10)
            print("sends", hexed(data))
            self.peer.send(data)
            self.unread_by_us += data
            await settle()
            report("ok")
        elif choice < 0.91 or self.gone:
            await self.read()
        elif choice < 0.95:
            await self.received()
        else:
            print("gone")
            self.gone = True
            self.reset = self.unread > 0
            self.peer.close()
            await settle()
            report("ok")

    def is_closing(self):
        print("is_closing")
        result = str(self.writer.is_closing()).lower()
        ours = str(self.closed or self.lost or self.met).lower()
        report(result, ours, "loss-is-known-once-met")

    def random_part(self):
        if self.rng.random() < 0.1:
            return b""
        return random_bytes(self.rng, self.rng.choice([3, 300]))

    def writelines(self, parts):
        if sys.version_info >= (3, 12):
            # It never gets past an empty part, and on a closed transport it
            # fails in an internal way.
            parts = [part for part in parts if part]
            if self.writer.is_closing():
                self.writer.write(b"".join(parts))
                return
        self.writer.writelines(parts)

    async def call(self, function):
        result = "ok"
        try:
            function()
        except Exception as e:
            result = type(e).__name__
        await settle()
        return result

    async def write(self, parts, function):
        result = await self.call(function)
        size = sum(map(len, parts))
        ours = "ok"
        name = "write-after-loss-throws"
        if self.closed:
            ours = "ConnectionAbortedError"
            name = "write-after-close-throws"
        elif self.lost:
            ours = "BrokenPipeError"
        elif self.eof:
            ours = "BrokenPipeError"
            name = "write-after-eof-is-BrokenPipeError"
        elif self.gone and size > 0:
            ours = "BrokenPipeError"
            self.lost = True
        else:
            self.unread += size
        report(result, ours, name)

    async def drain(self):
        print("drain")
        result, _ = await attempt(self.writer.drain())
        ours = "ok"
        name = "drain-with-nothing-unsent-is-no-error"
        if self.lost:
            ours = "BrokenPipeError"
            if self.closed:
                ours = "ConnectionAbortedError"
            name = "drain-throws-what-ended-the-writing"
        report(result, ours, name)

    async def read(self):
        print("read")
        result, _ = await attempt(self.reader.read(ALL))
        name = "failed-write-does-not-end-reading"
        if self.met:
            ours = "ConnectionResetError"
        elif self.closed:
            ours = "data -"
            name = "close-ends-reading"
        elif self.unread_by_us:
            ours = f"data {hexed(self.unread_by_us)}"
            self.unread_by_us = b""
            if self.reset:
                name = "reset-delivers-first"
        elif self.reset:
            ours = "ConnectionResetError"
            self.met = True
        else:
            ours = "data -" if self.gone else "pending"
        report(result, ours, name)
        if self.met:
            self.is_closing()

    async def peer_reads(self):
        """Everything that comes; and whether that is the end."""
        data = b""
        while True:
            try:
                more = self.peer.recv(ALL)
            except BlockingIOError:
                return data, "open"
            if not more:
                return data, "eof"
            data += more
            await settle()

    async def received(self):
        print("received")
        data, end = await self.peer_reads()
        self.unread = 0
        result = f"data {hexed(data)} {end}"
        report(result)

    async def fill(self):
        """More than the kernel takes, and less than makes asyncio wait."""
        rng = self.rng
        size = rng.randint(30000, 60000)
        print("fill", size)
        result = await self.call(lambda: self.writer.write(b"x" * size))
        report(result, "ok")
        if rng.random() < 0.7:
            print("drain")
            result, _ = await attempt(self.writer.drain())
            report(result, "pending", "drain-waits-for-all")
        if rng.random() < 0.3:
            print("write_eof")
            result = await self.call(self.writer.write_eof)
            report(result, "ok")
        through = rng.random() < 0.5
        got = b""
        if through:
            print("through")
            got, _ = await self.peer_reads()
            result, _ = await attempt(self.writer.drain())
            report(result, "ok")
        if not through or rng.random() < 0.5:
            print("close")
            result = await self.call(self.writer.close)
            report(result, "ok")
        print("received_of", size)
        more, end = await self.peer_reads()
        result = "all" if len(got + more) == size else "part"
        ours = "all" if through else "part"
        report(f"{result} {end}", f"{ours} {end}", "close-drops-unsent")


async def main():
    logging.disable(logging.CRITICAL)  # of writes after a loss
    rng = random.Random(int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        await ReaderScript(rng).run()
    for _ in range(int(sys.argv[3])):
        await WriterScript(rng).run()


# All at once: where Python does not buffer its output, a line at a time would
# take longer than the scripts themselves.
output = io.StringIO()
with contextlib.redirect_stdout(output):
    asyncio.run(main())
sys.stdout.write(output.getvalue())
