"""The other ends of tcpip-monitor, in asyncio, and the person who types.

  monitor_peer.py MONITOR WITHOUT_LIBEDIT ECHO_SERVER [--sanitizer]

reads names of cases from its input, plays each with the program MONITOR, in a
pseudo terminal or in pipes, and says "right" or what was wrong. WITHOUT_LIBEDIT
is the same program, built without a line editor. ECHO_SERVER is an example
program, a server made with the library.

  monitor_peer.py --cases

lists the cases.
"""

import asyncio
import fcntl
import os
import pty
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

HOST = "127.0.0.1"
PATIENCE = 20  # seconds that the monitor may take for what it must do
CASES = {}


class Wrong(Exception):
    pass


def case(function):
    CASES[function.__name__] = function


def check(is_right, what):
    if not is_right:
        raise Wrong(what)


def within(awaitable):
    return asyncio.wait_for(awaitable, PATIENCE)


def environment(**changes):
    result = {**os.environ, "TERM": "xterm", "TZ": "UTC", **changes}
    if "NO_COLOR" not in changes:
        result.pop("NO_COLOR", None)
    return result


class Shown:
    """What the monitor has written, from the place that was last found."""

    def __init__(self):
        self.all = ""
        self.at = 0
        self.changed = asyncio.Event()

    def add(self, data):
        self.all += data.decode("utf-8", "replace")
        self.changed.set()

    async def until(self, pattern):
        """Waits for the pattern; what is before it has then been seen."""
        while True:
            found = re.compile(pattern).search(self.all, self.at)
            if found:
                self.at = found.end()
                return found
            self.changed.clear()
            try:
                await within(self.changed.wait())
            except asyncio.TimeoutError:
                raise Wrong(
                    f"no {pattern!r} in {self.all[self.at:]!r}, "
                    f"behind {self.all[:self.at]!r}"
                ) from None


class Terminal(Shown):
    """The monitor in a pseudo terminal."""

    @classmethod
    async def start(cls, *arguments, program=None, **changes):
        self = cls()
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave  # kept open: the modes can be asked for at the end
        self.process = await asyncio.create_subprocess_exec(
            program or MONITOR,
            *arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=environment(**changes),
        )
        asyncio.get_running_loop().add_reader(self.master, self.read)
        RUNNING.append(self.process)
        return self

    def read(self):
        self.add(os.read(self.master, 65536))

    def type(self, text):
        os.write(self.master, text.encode())

    async def ended(self, status=0):
        """Waits for the end; the terminal must be as it was."""
        got = await within(self.process.wait())
        await asyncio.sleep(0)
        check(got == status, f"status {got}, not {status}: {self.all!r}")
        check(termios.tcgetattr(self.slave) == self.before, "the terminal's modes")
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.slave)
        os.set_blocking(self.master, False)
        try:
            while data := os.read(self.master, 65536):
                self.add(data)
        except OSError:
            pass
        os.close(self.master)


class Pipes(Shown):
    """The monitor in pipes."""

    @classmethod
    async def start(cls, *arguments, program=None, **changes):
        self = cls()
        self.process = await asyncio.create_subprocess_exec(
            program or MONITOR,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment(**changes),
        )
        RUNNING.append(self.process)
        self.reading = asyncio.ensure_future(self.read())
        return self

    async def read(self):
        while data := await self.process.stdout.read(65536):
            self.add(data)

    def type(self, text):
        self.process.stdin.write(text.encode())

    def close_input(self):
        self.process.stdin.close()

    def interrupt(self, number=signal.SIGINT):
        self.process.send_signal(number)

    async def ended(self, status=0):
        got = await within(self.process.wait())
        await within(self.reading)
        check(got == status, f"status {got}, not {status}: {self.all!r}")


class Server:
    """An asyncio server; its clients come from client()."""

    @classmethod
    async def start(cls, **where):
        self = cls()
        self.clients = asyncio.Queue()
        start = asyncio.start_server
        if "path" in where:
            start = asyncio.start_unix_server
        elif not where:
            where = {"host": HOST, "port": 0}
        self.server = await start(
            lambda *streams: self.clients.put_nowait(streams), **where
        )
        self.address = self.server.sockets[0].getsockname()
        self.port = str(self.address[1])
        return self

    def client(self):
        return within(self.clients.get())


async def listening_port(monitor):
    return int((await monitor.until(r"listening on \S*:(\d+)")).group(1))


async def run_to_end(*arguments, status=0, **changes):
    monitor = await Pipes.start(*arguments, **changes)
    monitor.close_input()
    await monitor.ended(status)
    return monitor.all


def lines_of(text):
    """Messages and remarks, without their times."""
    return [line.split(" ", 1)[1] for line in text.splitlines()]


# --- In pipes ---


@case
async def pipe_gets_plain_text(folder):
    server = await Server.start()
    monitor = await Pipes.start(server.port, "--linger", "0.05")
    monitor.type("status\ngrüße\nlast, without an end")
    monitor.close_input()
    reader, writer = await server.client()
    for line in ("status", "grüße", "last, without an end"):
        check(await within(reader.readuntil(b"\r\n")) == f"{line}\r\n".encode(), line)
    writer.write("ok \x1b[2J\x9b\\\r\n".encode() + b"\xff\r\n")
    await monitor.until("not utf-8")
    await monitor.ended()
    check("\x1b" not in monitor.all, "control characters")
    check(re.search(r"^\d\d:\d\d:\d\d\.\d\d\d > grüße$", monitor.all, re.M), "no line")
    check(r"< ok \x1b[2J\xc2\x9b\\" + "\n" in monitor.all, monitor.all)
    check(r"< \xff (not utf-8)" + "\n" in monitor.all, monitor.all)


@case
async def colours_are_for_terminals(folder):
    path = folder + "/recording"
    with open(path, "w", encoding="utf-8") as file:
        file.write('tcpip recording 1\n0.5 > "a\\r\\n"\n')
    replay = ("--replay", path)
    check("\x1b" not in await run_to_end(*replay), "colours in a pipe")
    check("\x1b" in await run_to_end(*replay, "--color", "always"), "no colours")
    for arguments, changes, is_colored in (
        ((), {}, True),
        ((), {"NO_COLOR": "1"}, False),
        ((), {"TERM": "dumb"}, False),
        (("--color", "never"), {}, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
    ):
        terminal = await Terminal.start(*replay, *arguments, **changes)
        await terminal.ended()
        check(("\x1b" in terminal.all) == is_colored, f"{arguments} {changes}")


@case
async def reader_may_go_away(folder):
    server = await Server.start()
    monitor = await asyncio.create_subprocess_shell(
        f"'{MONITOR}' {server.port} < /dev/null | head -n 4; exit ${{PIPESTATUS[0]}}",
        stdout=asyncio.subprocess.PIPE,
        executable="/bin/bash",
    )
    reader, writer = await server.client()
    try:
        while not reader.at_eof():
            writer.write(b"telemetry\r\n")
            await within(writer.drain())
            await asyncio.sleep(0.01)
            if writer.transport.is_closing():
                break
    except ConnectionError:
        pass
    shown, _ = await within(monitor.communicate())
    check(shown.count(b"telemetry") == 2, f"{shown}")
    check(monitor.returncode == 0, f"status {monitor.returncode}")


@case
async def long_input_waits_for_a_slow_peer(folder):
    listener = socket.create_server((HOST, 0))
    # The kernel takes less than there is for a peer that does not read.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    server = await Server.start(sock=listener)
    monitor = await Pipes.start(server.port, "--linger", "0", "--status", "0.05")
    lines = [f"{number:06} " + "x" * 990 for number in range(10000)]
    monitor.type("".join(line + "\n" for line in lines))
    monitor.close_input()
    reader, writer = await server.client()
    # It does not go on: the rest is in no buffer yet.
    await monitor.until(r"> [1-9]\d* bytes \(0/s\)")
    check(f"> {lines[-1]}" not in monitor.all, "the kernel has taken all")
    for line in lines:
        got = await within(reader.readuntil(b"\r\n"))
        check(got == line.encode() + b"\r\n", f"{got} is not {line}")
    check(await within(reader.read()) == b"", "more")
    writer.close()
    await monitor.ended()


@case
async def second_signal_does_not_wait_for_a_slow_peer(folder):
    server = await Server.start()
    for _ in range(5):
        monitor = await Pipes.start(server.port, "--status", "0.05")
        _, writer = await server.client()
        monitor.type(("x" * 1000 + "\n") * 20000)
        await monitor.until(r"> [1-9]\d* bytes \(0/s\)")  # it does not go on
        start = time.monotonic()
        monitor.interrupt()
        monitor.interrupt(signal.SIGTERM)
        await monitor.ended()
        seconds = time.monotonic() - start
        writer.transport.abort()
        check("not sent" in monitor.all, "what was not sent is not told")
        if seconds < 1:  # after one signal it would have waited for 2
            return
    raise Wrong(f"it took {seconds} s")


@case
async def wrong_options_are_explained(folder):
    empty, torn = folder + "/empty", folder + "/torn"
    with open(empty, "w", encoding="utf-8"):
        pass
    with open(torn, "w", encoding="utf-8") as file:
        file.write('tcpip recording 1\n0.5 > "a"\n0.6 < "b')
    for arguments, words in (
        (("--no-such", "4000"), "--no-such: no such option"),
        ((), "say where"),
        (("dome:x",), "no HOST:PORT"),
        (("4000", "--struct", "<Iy"), "'y' is no format character"),
        (("4000", "--encoding", "klingon"), "klingon"),
        (("--replay", folder + "/none"), "none"),
        (("--replay", empty), "/empty, line 1: a recording begins with"),
        (("--listen", "0", "--replay", torn), '/torn, line 3: the bytes have no closing "'),
    ):
        text = await run_to_end(*arguments, status=2)
        check(words in text and text.startswith("tcpip-monitor: "), text)
    text = await run_to_end("--help")
    check(all(len(line) <= 80 for line in text.splitlines()), "too wide")
    check("Exit status" in text, text)
    text = await run_to_end("--version")
    check(re.fullmatch(r"tcpip-monitor \d+\.\d+\.\d+\n", text), text)


def reset(writer):
    socket_of = writer.get_extra_info("socket")
    socket_of.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@case
async def lost_connection_is_told(folder):
    server = await Server.start()
    monitor = await Pipes.start(server.port)
    _, writer = await server.client()
    writer.write(b"telemetry\r\nand a li")
    await monitor.until("< telemetry")
    reset(writer)
    await monitor.ended(1)
    check("lost" in monitor.all or "reset" in monitor.all, monitor.all)


@case
async def refused_connection_is_told(folder):
    server = await Server.start()
    server.server.close()
    await server.server.wait_closed()
    text = await run_to_end(server.port, status=1)
    check("cannot connect to 127.0.0.1:" in text and "refused" in text, text)


# --- In a terminal ---


@case
async def prompt_survives_what_comes(folder):
    server = await Server.start()
    monitor = await Terminal.start(server.port)
    reader, writer = await server.client()
    await monitor.until("connected to")
    monitor.type("mov\u00e9")
    await monitor.until("mov\u00e9")
    writer.write(b"telemetry 1\r\n")
    await monitor.until("< telemetry 1.*\r\n> mov\u00e9")
    monitor.type(" 12\n")
    check(await within(reader.readline()) == "mov\u00e9 12\r\n".encode(), "the line")
    await monitor.until("> mov\u00e9 12")
    monitor.type("\x1b")  # the beginning of a key
    writer.write(b"telemetry 2\r\n")
    await monitor.until("< telemetry 2")
    monitor.type("[A")  # the history
    await monitor.until("> mov\u00e9 12")
    monitor.type("0\n")
    check(await within(reader.readline()) == "mov\u00e9 120\r\n".encode(), "history")
    # Longer than a row of the terminal.
    monitor.type("x" * 200)
    await monitor.until("x{40}")
    writer.write(b"telemetry 3\r\n")
    # The line that was sent may be shown together with it.
    await monitor.until("\x1b\\[2A\x1b\\[J[\\s\\S]*telemetry 3")
    monitor.type("\n")
    check(len(await within(reader.readline())) == 202, "the long line")
    monitor.type("/status\n")
    await monitor.until(r"connected for \S+ s; < 39 bytes .* in 3 messages")
    monitor.type("//slash\n/nonsense\n")
    check(await within(reader.readline()) == b"/slash\r\n", "two slashes")
    await monitor.until("there is no /nonsense")
    monitor.type("/quit\n")
    check(await within(reader.read()) == b"", "no end")
    writer.close()
    await monitor.ended()


@case
async def ctrl_d_delivers_what_was_typed(folder):
    server = await Server.start()
    history = folder + "/history"
    monitor = await Terminal.start(server.port, "--history", history)
    reader, writer = await server.client()
    await monitor.until("connected to")
    monitor.type("one\ntwo\n\x04")
    check(await within(reader.read()) == b"one\r\ntwo\r\n", "what was typed")
    writer.close()
    await monitor.ended()
    check("in all < 0 bytes" in monitor.all, monitor.all)
    check("> 10 bytes in 2 messages" in monitor.all, monitor.all)

    monitor = await Terminal.start(server.port, "--history", history)
    reader, writer = await server.client()
    await monitor.until("connected to")
    monitor.type("\x1b[A\x1b[A\n\x04")
    check(await within(reader.read()) == b"one\r\n", "the history of before")
    writer.close()
    await monitor.ended()
    check("> 5 bytes in 1 message, " in monitor.all, monitor.all)


@case
async def search_does_not_hold_up_what_comes(folder):
    server = await Server.start()
    monitor = await Terminal.start(server.port)
    reader, writer = await server.client()
    await monitor.until("connected to")
    monitor.type("move 1\nstop\n")
    for line in (b"move 1\r\n", b"stop\r\n"):
        check(await within(reader.readline()) == line, "the line")
    await monitor.until("> stop")
    monitor.type("\x12mo")
    await monitor.until("bck")
    for number in (1, 2):
        writer.write(b"telemetry %d\r\n" % number)
        await monitor.until(f"< telemetry {number}.*\r\n> move 1\r\nbck:mo")
    monitor.type("v")  # the search goes on
    await monitor.until("v")
    writer.write(b"telemetry 3\r\n")
    await monitor.until("< telemetry 3.*\r\n> move 1\r\nbck:mov")
    monitor.type("\n")
    check(await within(reader.readline()) == b"move 1\r\n", "what was found")
    # What ends the connection, and what ends the monitor, does not wait either.
    monitor.type("\x12sto")
    await monitor.until("> stop")
    writer.close()
    await monitor.until("peer closed")
    await monitor.ended()


@case
async def whatever_ends_it_the_terminal_is_restored(folder):
    server = await Server.start()

    async def started():
        monitor = await Terminal.start(server.port)
        streams = await server.client()
        await monitor.until("connected to")
        monitor.type("half a line")
        await monitor.until("half a line")
        check(not termios.tcgetattr(monitor.slave)[3] & termios.ICANON, "no editing")
        return monitor, streams

    monitor, _ = await started()
    monitor.type("\x03")
    await monitor.ended()
    for number in (signal.SIGTERM, signal.SIGHUP):
        monitor, _ = await started()
        monitor.process.send_signal(number)
        await monitor.ended()
    monitor, (_, writer) = await started()
    writer.close()
    await monitor.ended()
    if not SANITIZER:  # it handles these signals itself
        for number in (signal.SIGQUIT, signal.SIGABRT):
            monitor, _ = await started()
            monitor.process.send_signal(number)
            await monitor.ended(-number)


async def is_stopped(pid):
    while True:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            if file.read().rsplit(")", 1)[1].split()[0] == "T":
                return
        await asyncio.sleep(0.01)


@case
async def stopped_and_continued(folder):
    server = await Server.start()
    monitor = await Terminal.start(server.port)
    reader, writer = await server.client()
    await monitor.until("connected to")
    monitor.type("half")
    await monitor.until("half")
    pid = monitor.process.pid
    os.kill(pid, signal.SIGTSTP)
    await within(is_stopped(pid))
    check(termios.tcgetattr(monitor.slave)[3] & termios.ICANON, "still raw")
    os.kill(pid, signal.SIGCONT)
    await monitor.until("> half")
    writer.write(b"telemetry\r\n")
    await monitor.until("< telemetry")
    monitor.type(" a line\n\x04")
    got = await within(reader.read())
    check(got == b"half a line\r\n", f"{got}")
    writer.close()
    await monitor.ended()


@case
async def dumb_terminal_has_plain_lines(folder):
    server = await Server.start()
    monitor = await Terminal.start(server.port, TERM="dumb")
    reader, writer = await server.client()
    await monitor.until("connected to")
    monitor.type("hello\n")
    check(await within(reader.readline()) == b"hello\r\n", "the line")
    monitor.type("/quit\n")
    check(await within(reader.read()) == b"", "no end")
    writer.close()
    await monitor.ended()
    check("\x1b" not in monitor.all, "escape sequences")


@case
async def without_libedit_the_terminal_edits(folder):
    server = await Server.start()
    monitor = await Terminal.start(server.port, program=WITHOUT_LIBEDIT)
    reader, writer = await server.client()
    await monitor.until("connected to")
    check(termios.tcgetattr(monitor.slave) == monitor.before, "the terminal's modes")
    monitor.type("helli\x7fo\n")
    check(await within(reader.readline()) == b"hello\r\n", "the line")
    writer.write(b"telemetry\r\n")
    await monitor.until("< telemetry")
    monitor.type("/status\n//slash\n")
    check(await within(reader.readline()) == b"/slash\r\n", "two slashes")
    await monitor.until("; < 11 bytes .* in 1 message ")
    pid = monitor.process.pid
    monitor.type("\x1a")  # Ctrl-Z
    await within(is_stopped(pid))
    os.kill(pid, signal.SIGCONT)
    monitor.type("last\n\x04")
    check(await within(reader.read()) == b"last\r\n", "the last line")
    writer.close()
    await monitor.ended()

    monitor = await Terminal.start(server.port, program=WITHOUT_LIBEDIT)
    reader, writer = await server.client()
    await monitor.until("connected to")
    monitor.type("\x03")
    check(await within(reader.read()) == b"", "no end")
    writer.close()
    await monitor.ended()


@case
async def without_libedit_pipes_are_the_same(folder):
    server = await Server.start()
    monitor = await Pipes.start(
        server.port, "--linger", "0.05", "--time", "none", program=WITHOUT_LIBEDIT
    )
    monitor.type("one\n/two")
    monitor.close_input()
    reader, writer = await server.client()
    check(await within(reader.read()) == b"one\r\n/two\r\n", "the lines")
    writer.close()
    await monitor.ended()
    shown = [line for line in monitor.all.splitlines() if line[0] in "<>"]
    check(shown == ["> one", "> /two"], monitor.all)


# --- What it shows ---


@case
async def heartbeats_become_one_line(folder):
    server = await Server.start()
    monitor = await Pipes.start(server.port, "--status", "100")
    _, writer = await server.client()
    writer.write(b"heartbeat\r\n" * 20 + b"telemetry\r\n" + b"heartbeat\r\n" * 17)
    writer.write(b"last\r\n")
    await monitor.until("< last")
    writer.close()
    await monitor.ended()
    beats = [line for line in lines_of(monitor.all) if "heartbeat" in line]
    check(beats[0] == "< heartbeat", f"{beats}")
    check(beats[1].startswith("< heartbeat (36 more, the last at "), f"{beats}")
    check(len(beats) == 3 and "37 heartbeats" in beats[2], f"{beats}")

    monitor = await Pipes.start(server.port, "--send-heartbeats", "0.01")
    reader, writer = await server.client()
    for _ in range(3):
        check(await within(reader.readline()) == b"heartbeat\r\n", "none was sent")
    writer.close()
    await monitor.ended()


FORMATS = "cbB?hHiIlLqQefd"


def equal(format_, left, right):
    pack = struct.Struct(format_).pack
    return pack(*left) == pack(*right)


@case
async def structs_are_as_in_python(folder):
    chance = random.Random(11)
    server = await Server.start()
    for _ in range(8):
        order = chance.choice("@=<>!")
        codes = "".join(
            chance.choice(("", "2", "3")) + chance.choice(FORMATS) for _ in range(6)
        )
        layout = struct.Struct(order + codes + "x5s" + ("nNP" if order == "@" else ""))
        monitor = await Pipes.start(server.port, "--struct", layout.format)
        _, writer = await server.client()
        sent = []
        for _ in range(20):
            data = chance.randbytes(layout.size)
            sent.append(layout.unpack(data))
            for byte in range(0, len(data), 7):
                writer.write(data[byte : byte + 7])
        writer.close()
        await monitor.ended()
        shown = [
            eval(line[2:], {"nan": float("nan"), "inf": float("inf")})
            for line in lines_of(monitor.all)
            if line.startswith("< ")
        ]
        check(len(shown) == len(sent), f"{len(shown)} structs")
        for got, wanted in zip(shown, sent):
            same = repr(got) == repr(wanted) or (
                "nan" in repr(wanted) or equal(layout.format, got, wanted)
            )
            check(same, f"{layout.format}: {got} is not {wanted}")


@case
async def frames_have_an_id_and_a_length(folder):
    server = await Server.start()
    monitor = await Pipes.start(
        *(server.port, "--header", "<HI", "--id", "1", "--length", "2"),
        *("--struct", "1=<dd:angle,rate", "--struct", "0x2=<I"),
    )
    _, writer = await server.client()
    writer.write(struct.pack("<HIdd", 1, 16, 1.5, -0.25))
    writer.write(struct.pack("<HII", 2, 4, 7))
    writer.write(struct.pack("<HI3s", 9, 3, b"abc"))
    writer.write(struct.pack("<HI", 1, 1 << 30))
    await monitor.until("makes no sense")
    writer.close()
    await monitor.ended()
    shown = [line for line in lines_of(monitor.all) if not line.startswith("-- ")]
    check(shown[0] == "< [1 16] angle=1.5 rate=-0.25", f"{shown}")
    check(shown[1] == "< [2 4] (7,)", f"{shown}")
    check(shown[2:4] == ["< [9 3] (unknown)", "< 3 bytes"], f"{shown}")


@case
async def json_is_shown_digit_by_digit(folder):
    server = await Server.start()
    monitor = await Pipes.start(server.port, "--json", "--time", "none")
    _, writer = await server.client()
    writer.write(b'{"b":1.10,"a":[12345678901234567890123,{}]}\r\n{"x": NaN}\r\n')
    writer.close()
    await monitor.ended()
    check('< {"b": 1.10, "a": [12345678901234567890123, {}]}\n' in monitor.all, monitor.all)
    check('< {"x": NaN} (not JSON)\n' in monitor.all, monitor.all)


# --- Server, proxy, files ---


@case
async def server_serves_one_client_after_the_other(folder):
    monitor = await Pipes.start("--listen", "0")
    port = await listening_port(monitor)
    monitor.type("first\n")  # waits for somebody
    for number in (1, 2):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"client %d\r\n" % number)
        await monitor.until(f"< client {number}")
        if number == 2:
            other, writer_of_other = await asyncio.open_connection(HOST, port)
            check(await within(other.read()) == b"", "no end")
            writer_of_other.close()
            await monitor.until("rejecting the connection")
            monitor.type("second\n")
        word = b"first\r\n" if number == 1 else b"second\r\n"
        check(await within(reader.readline()) == word, "the greeting")
        writer.close()
        await monitor.until("peer closed: ")
    monitor.interrupt()
    await monitor.ended()


@case
async def other_sockets(folder):
    path = folder + "/socket"
    server = await Server.start(path=path)
    monitor = await Pipes.start("unix:" + path, "--terminator", r"\n")
    reader, writer = await server.client()
    monitor.type("hello\n")
    check(await within(reader.readline()) == b"hello\n", "the terminator")
    writer.close()
    await monitor.ended()

    monitor = await Pipes.start("--listen", "[::1]:0", "--encoding", "latin-1")
    port = await listening_port(monitor)
    reader, writer = await asyncio.open_connection("::1", port)
    writer.write("grün\r\n".encode("latin-1"))
    await monitor.until("< grün")
    monitor.type("blau – rot\n")  # not in latin-1
    await monitor.until("not sent: ")
    monitor.type("weiß\n")
    check(await within(reader.readline()) == "weiß\r\n".encode("latin-1"), "latin-1")
    monitor.interrupt(signal.SIGTERM)
    await monitor.ended()
    writer.close()


@case
async def client_connects_again(folder):
    server = await Server.start()
    monitor = await Pipes.start(server.port, "--reconnect")
    for number in (1, 2):
        _, writer = await server.client()
        writer.write(b"telemetry %d\r\n" % number)
        await monitor.until(f"< telemetry {number}")
        writer.close()
    await monitor.until("peer closed")
    monitor.interrupt()
    await monitor.ended()


async def start_echo_server():
    process = await asyncio.create_subprocess_exec(
        ECHO_SERVER, stdout=asyncio.subprocess.PIPE
    )
    RUNNING.append(process)
    line = (await within(process.stdout.readline())).decode()
    return line.rstrip().rsplit(":", 1)[1]


@case
async def proxy_shows_and_records_both_sides(folder):
    recording, pcapng = folder + "/recording", folder + "/dump"
    port = await start_echo_server()
    files = ("--record", recording, "--pcapng", pcapng)
    monitor = await Pipes.start("--listen", "0", "--connect", port, *files)
    own_port = await listening_port(monitor)
    reader, writer = await asyncio.open_connection(HOST, own_port)
    for line in (b"hello\r\n", b"again\r\n"):
        writer.write(line)
        check(await within(reader.readline()) == line, "the echo")
        # Noted after it was sent: what the client sends next must stand behind.
        await monitor.until("< " + line.decode().rstrip())
    monitor.type("not for the server\n")
    await monitor.until("nothing is sent")
    # A client that ends what it sends still gets the last answers.
    writer.write(b"last\r\n")
    writer.write_eof()
    check(await within(reader.read()) == b"last\r\n", "the last answer")
    writer.close()
    await monitor.until("peer closed: ")
    second = await asyncio.open_connection(HOST, own_port)
    second[1].write(b"second\r\n")
    await monitor.until("< second")
    monitor.interrupt()
    check(await within(second[0].read()) == b"second\r\n", "the second client")
    second[1].close()
    await monitor.ended()
    shown = [line for line in lines_of(monitor.all) if line[0] in "<>"]
    for line in ("hello", "again", "last", "second"):
        check(f"> {line}" in shown and f"< {line}" in shown, f"{shown}")
    with open(pcapng, "rb") as file:
        check(file.read().count(b"hello\r\n") == 2, "the pcapng file")

    # The recording plays the server to a client: the right one and a wrong one.
    check(os.path.exists(recording + ".2"), "no recording of the second client")
    shown = await run_to_end("--replay", recording)
    check("> hello\n" in shown and "-- the client has ended" in shown, shown)
    for line, status in ((b"hello\r\n", 0), (b"holla\r\n", 3)):
        monitor = await Pipes.start("--listen", "0", "--replay", recording, "--at-once")
        port = await listening_port(monitor)
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(line)
        if status == 0:
            check(await within(reader.readline()) == line, "the replayed echo")
            writer.write(b"again\r\nlast\r\n")
            writer.write_eof()
            check(await within(reader.read()) == b"again\r\nlast\r\n", "the rest")
        writer.close()
        await monitor.ended(status)
        word = "all of the recording has happened" if status == 0 else "after 1 byte as recorded"
        check(word in monitor.all, monitor.all)

    # Who ends a replay is not told that the peer was wrong.
    monitor = await Pipes.start("--listen", "0", "--replay", recording)
    port = await listening_port(monitor)
    _, writer = await asyncio.open_connection(HOST, port)
    await monitor.until("accepted")
    monitor.interrupt()
    await monitor.ended()
    check("replay:" not in monitor.all, monitor.all)
    writer.close()
    # A peer that breaks off is.
    monitor = await Pipes.start("--listen", "0", "--replay", recording)
    port = await listening_port(monitor)
    _, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"hel")
    await monitor.until("accepted")
    reset(writer)
    await monitor.ended(3)
    check("has ended before all had happened" in monitor.all, monitor.all)

    # And the client to a server, with the pauses.
    port = await start_echo_server()
    text = await run_to_end(port, "--replay", recording)
    check("all of the recording has happened" in text, text)


@case
async def proxy_knows_who_has_sent_what(folder):
    server = await Server.start()
    monitor = await Pipes.start(
        *("--listen", "0", "--connect", server.port, "--time", "none", "--status", "100")
    )
    client, to_server = await asyncio.open_connection(HOST, await listening_port(monitor))
    at_server, to_client = await server.client()
    to_server.write(b"question\r\n")
    check(await within(at_server.readline()) == b"question\r\n", "the question")
    to_client.write(b"yes\r\n")
    check(await within(client.readline()) == b"yes\r\n", "the answer")
    to_client.close()
    check(await within(client.read()) == b"", "no end at the client")
    to_server.close()
    await monitor.until("peer closed: ")
    monitor.interrupt()
    await monitor.ended()
    shown = [line for line in monitor.all.splitlines() if line[0] in "<>"]
    check(shown == ["> question", "< yes"], monitor.all)
    totals = r"in all < 5 bytes in 1 message, .*; > 10 bytes in 1 message, "
    check(re.search(totals, monitor.all), monitor.all)


@case
async def proxy_passes_a_reset_on_as_an_end(folder):
    server = await Server.start()
    monitor = await Pipes.start("--listen", "0", "--connect", server.port)
    port = await listening_port(monitor)
    for resets, talks in ((0, True), (1, True)) + ((1, False),) * 40:
        client, to_server = await asyncio.open_connection(HOST, port)
        at_server, to_client = await server.client()
        if talks:
            to_server.write(b"question\r\n")
            await within(at_server.readline())
            to_client.write(b"yes\r\n")
            await within(client.readline())
        # Without that: right after it was connected to.
        reset((to_server, to_client)[resets])
        got = await within((at_server, client)[resets].read())
        check(got == b"", f"{got}")
        (to_client, to_server)[resets].close()
        await monitor.until("(reset|closed here): ")
    monitor.interrupt()
    await monitor.ended()


@case
async def proxy_without_a_server_turns_the_client_away(folder):
    server = await Server.start()
    server.server.close()
    await server.server.wait_closed()
    monitor = await Pipes.start("--listen", "0", "--connect", server.port)
    port = await listening_port(monitor)
    reader, writer = await asyncio.open_connection(HOST, port)
    check(await within(reader.read()) == b"", "no end")
    writer.close()
    await monitor.until("cannot reach the server: .*refused")
    monitor.interrupt()
    await monitor.ended()


@case
async def full_disk_does_not_end_the_exchange(folder):
    server = await Server.start()
    monitor = await Pipes.start(server.port, "--record", "/dev/full")
    _, writer = await server.client()
    writer.write(b"telemetry 1\r\n")
    await monitor.until("cannot write /dev/full: No space left on device")
    writer.write(b"telemetry 2\r\n")
    await monitor.until("< telemetry 2")
    writer.close()
    await monitor.ended(4)


@case
async def nobody_reads_what_it_writes(folder):
    recording = folder + "/recording"
    server = await Server.start()
    # asyncio would read by itself.
    monitor = subprocess.Popen(
        [MONITOR, server.port, "--hex", "--record", recording],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        await drown(monitor, server, recording)
    finally:
        monitor.kill()
        monitor.wait()
        monitor.stdout.close()


async def drown(monitor, server, recording):
    _, writer = await server.client()
    size = 4_000_000
    writer.write(b"x" * size)
    await within(writer.drain())
    writer.write(b"last\r\n")

    await until_recorded(recording, b"last")
    monitor.send_signal(signal.SIGINT)
    loop = asyncio.get_running_loop()
    status = await loop.run_in_executor(None, monitor.wait, PATIENCE)
    check(status == 0, f"status {status}")
    writer.close()
    with open(recording, "rb") as file:
        check(file.read().count(b"x") == size, "the recording is not complete")


@case
async def resizing_does_not_lose_what_waits_for_a_pipe(folder):
    recording = folder + "/recording"
    server = await Server.start()
    monitor = subprocess.Popen(
        [MONITOR, server.port, "--record", recording],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        _, writer = await server.client()
        writer.write(b"".join(b"line %06d\r\n" % n for n in range(20000)))
        await until_recorded(recording, b"line 019999")
        monitor.send_signal(signal.SIGWINCH)
        writer.close()
        loop = asyncio.get_running_loop()
        shown = await within(loop.run_in_executor(None, monitor.stdout.read))
        count = shown.count(b"< line ")
        check(count == 20000, f"{count} lines shown")
        check(monitor.wait(PATIENCE) == 0, f"status {monitor.returncode}")
    finally:
        monitor.kill()
        monitor.wait()
        monitor.stdout.close()


@case
async def full_disk_behind_the_output_does_not_end_the_proxy(folder):
    server = await Server.start()
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    with open("/dev/full", "w") as full:
        monitor = await asyncio.create_subprocess_exec(
            MONITOR, "--listen", str(port), "--connect", server.port,
            stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
        )
    RUNNING.append(monitor)
    said = await within(monitor.stderr.readline())
    check(b"the standard output: No space left on device" in said, f"{said}")
    reader, writer = await asyncio.open_connection(HOST, port)
    from_client, to_client = await server.client()
    for _ in range(3):
        writer.write(b"question\r\n")
        check(await within(from_client.readline()) == b"question\r\n", "question")
        to_client.write(b"answer\r\n")
        check(await within(reader.readline()) == b"answer\r\n", "answer")
    monitor.send_signal(signal.SIGINT)
    check(await within(monitor.wait()) == 4, f"status {monitor.returncode}")
    writer.close()
    to_client.close()


@case
async def standard_descriptors_may_be_closed(folder):
    server = await Server.start()
    replay = folder + "/replay"
    with open(replay, "w", encoding="utf-8") as file:
        file.write('tcpip recording 1\n0.5 > "a\\r\\n"\n')
    for number, closed in enumerate(("<&-", ">&-", "<&- >&-", "<&- >&- 2>&-")):
        recording = f"{folder}/recording{number}"
        shell = await asyncio.create_subprocess_shell(
            f"exec '{MONITOR}' {server.port} --linger 0.1 --record {recording} "
            + ("" if "<" in closed else "</dev/null ") + closed,
            stdout=subprocess.DEVNULL,
        )
        RUNNING.append(shell)
        _, writer = await server.client()
        writer.write(b"hello\r\n")
        check(await within(shell.wait()) == 0, f"{closed}: status {shell.returncode}")
        writer.close()
        with open(recording, encoding="utf-8") as file:
            lines = file.read().splitlines()
        check(lines[0] == "tcpip recording 1", f"{closed}: {lines}")
        check(all(re.match(r"[#\d]", line) for line in lines[1:]), f"{closed}: {lines}")
        shell = await asyncio.create_subprocess_shell(
            f"exec '{MONITOR}' --replay {replay} {closed}", stdout=subprocess.DEVNULL
        )
        RUNNING.append(shell)
        check(await within(shell.wait()) == 0, f"{closed}: replay")


async def until_recorded(recording, text):
    async def wait():
        while True:
            with open(recording, "rb") as file:
                if text in file.read():
                    return
            await asyncio.sleep(0.01)

    await within(wait())


@case
async def signals_end_it_though_the_terminal_stands_still(folder):
    server = await Server.start()
    for number, (key, signal_) in enumerate(
        (("\x13", signal.SIGTERM), ("", signal.SIGHUP), ("", signal.SIGINT))
    ):
        recording = f"{folder}/recording{number}"
        monitor = await Terminal.start(server.port, "--record", recording)
        _, writer = await server.client()
        await monitor.until("connected to")
        if key:
            monitor.type(key)  # Ctrl-S
        else:
            asyncio.get_running_loop().remove_reader(monitor.master)
        writer.write(b"".join(b"line %06d\r\n" % n for n in range(20000)))
        await until_recorded(recording, b"line 019999")
        monitor.process.send_signal(signal_)
        await monitor.ended()
        writer.close()


@case
async def ctrl_c_does_not_show_all_that_waits(folder):
    recording = folder + "/recording"
    server = await Server.start()
    monitor = await Terminal.start(server.port, "--record", recording)
    _, writer = await server.client()
    await monitor.until("connected to")
    loop = asyncio.get_running_loop()
    loop.remove_reader(monitor.master)
    writer.write(b"".join(b"line %06d\r\n" % n for n in range(60000)))
    await until_recorded(recording, b"line 059999")
    monitor.type("\x03")

    def read_slowly():  # as a person's terminal far away does
        monitor.add(os.read(monitor.master, 1024))

    loop.add_reader(monitor.master, read_slowly)
    await monitor.until("not all that has passed is shown")
    await monitor.ended()
    check("line 059999" not in monitor.all, "all was shown")
    writer.close()


@case
async def recording_is_not_overwritten(folder):
    path = folder + "/recording"
    with open(path, "w", encoding="utf-8") as file:
        file.write("precious\n")
    text = await run_to_end("4000", "--record", path, status=4)
    check("will not overwrite" in text, text)
    with open(path, encoding="utf-8") as file:
        check(file.read() == "precious\n", "it was overwritten")


# --- Files that are none, or are not the monitor's ---


async def type_once(server, history, words):
    """One line typed into a monitor with that history, which says `words`."""
    monitor = await Terminal.start(server.port, "--history", history)
    reader, writer = await server.client()
    await monitor.until("connected to")
    monitor.type("typed\n\x04")
    check(await within(reader.read()) == b"typed\r\n", "what was typed")
    writer.close()
    await monitor.ended()
    count = monitor.all.count("the history is not kept")
    check(count == (1 if words else 0), monitor.all)
    check(words in monitor.all, monitor.all)


@case
async def history_is_kept_in_a_history_only(folder):
    server = await Server.start()
    other, fifo, nowhere = folder + "/other", folder + "/fifo", folder + "/none/file"
    with open(other, "wb") as file:
        file.write(b"precious\n")
    os.mkfifo(fifo)
    await type_once(server, other, "/other: it is no history, and left alone")
    with open(other, "rb") as file:
        check(file.read() == b"precious\n", "it was overwritten")
    await type_once(server, fifo, "/fifo: it is no regular file")
    await type_once(server, "/dev/full", "/dev/full: it is no regular file")
    await type_once(server, folder, "it is no regular file")
    await type_once(server, nowhere, "cannot write it: No such file or directory")
    # An empty one is taken.
    empty = folder + "/empty"
    with open(empty, "wb"):
        pass
    for _ in range(2):
        await type_once(server, empty, "")
    with open(empty, "rb") as file:
        check(file.read() == b"_HiStOrY_V2_\ntyped\n", "the history")


@case
async def fifo_needs_a_reader(folder):
    fifo = folder + "/fifo"
    os.mkfifo(fifo)
    for option, head in (
        ("--record", b"tcpip recording 1\n"),
        ("--pcapng", b"\n\r\r\n"),
    ):
        server = await Server.start()
        text = await run_to_end(server.port, option, fifo, status=4)
        check(fifo in text and "nobody reads it" in text, text)
        # The pieces together are more than a pipe holds.
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reading, True)

        def read_all():
            with open(reading, "rb") as file:
                return file.read()

        loop = asyncio.get_running_loop()
        monitor = await Pipes.start(server.port, option, fifo)
        _, writer = await server.client()
        whole = loop.run_in_executor(None, read_all)
        writer.write(b"x" * 300_000 + b"\r\n")
        writer.close()
        await monitor.ended()
        data = await within(whole)
        check(data.startswith(head), f"{data[:40]}")
        check(data.count(b"x") >= 300_000, f"{len(data)} bytes")


@case
async def replay_may_come_through_a_pipe(folder):
    fifo = folder + "/fifo"
    os.mkfifo(fifo)
    monitor = await Pipes.start("--listen", "0", "--replay", fifo)

    def write_once():
        with open(fifo, "wb") as file:
            file.write(b'tcpip recording 1\n0.0 > "a"\n0.0 < "b"\n')

    await within(asyncio.get_running_loop().run_in_executor(None, write_once))
    reader, writer = await asyncio.open_connection(HOST, await listening_port(monitor))
    writer.write(b"a")
    check(await within(reader.read()) == b"b", "the answer")
    writer.close()
    await monitor.ended()


@case
async def two_monitors_do_not_record_into_one_file(folder):
    path = folder + "/recording"
    monitor = await Pipes.start("--listen", "0", "--record", path)
    await listening_port(monitor)
    text = await run_to_end("--listen", "0", "--record", path, status=4)
    check("another program records into " + path in text, text)
    monitor.interrupt()
    await monitor.ended()
    # Nothing has been written: the file is free again.
    monitor = await Pipes.start("--listen", "0", "--record", path)
    await listening_port(monitor)
    monitor.interrupt()
    await monitor.ended()


@case
async def line_of_the_input_has_a_bound(folder):
    size = 16 * 1024 * 1024
    server = await Server.start()
    arguments = ("--linger", "0", "--hex", "--terminator", r"\n")
    monitor = await Pipes.start(server.port, *arguments)
    reader, writer = await server.client()
    monitor.type("x" * (size + 1) + "\n01 02\n" + "x" * (size + 1))
    monitor.close_input()
    check(await within(reader.read()) == b"\x01\x02", "the line behind it")
    writer.close()
    await monitor.ended()
    count = monitor.all.count("not sent: the line is longer than 16 MiB")
    check(count == 2, monitor.all)
    # The longest one is taken, in a time that is not that of its square.
    monitor = await Pipes.start(server.port, *arguments)
    reader, writer = await server.client()
    monitor.type("00" + " " * (size - 2) + "\n")
    monitor.close_input()
    check(await within(reader.read()) == b"\0", "the longest line")
    writer.close()
    await monitor.ended()


@case
async def recording_too_large_for_the_memory(folder):
    if SANITIZER:  # it takes more addresses than that by itself
        return
    path = folder + "/recording"
    with open(path, "w", encoding="utf-8") as file:
        file.write("tcpip recording 1\n")
        for _ in range(64):
            file.write('0.5 > "' + "x" * 1_000_000 + '"\n')
    for where in ("", "--listen 0"):
        process = await asyncio.create_subprocess_shell(
            f"ulimit -v 150000; exec '{MONITOR}' --replay '{path}' {where}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        RUNNING.append(process)
        text, _ = await within(process.communicate())
        check(text == f"tcpip-monitor: {path}: out of memory\n".encode(), f"{text}")
        check(process.returncode == 4, f"status {process.returncode}")


@case
async def proxy_leaves_a_client_that_has_sent_all_its_answer(folder):
    server = await Server.start()
    arguments = ("--listen", "0", "--connect", server.port, "--status", "0.5")
    monitor = await Pipes.start(*arguments)
    port = await listening_port(monitor)
    reader, writer = await asyncio.open_connection(HOST, port)
    at_server, to_client = await server.client()
    writer.write(b"question\r\n")
    writer.write_eof()
    check(await within(at_server.read()) == b"question\r\n", "the question")
    other, writer_of_other = await asyncio.open_connection(HOST, port)
    # Longer than the library's own servers wait: finish_time is a second.
    for _ in range(5):
        await monitor.until("-- connected for ")
    to_client.write(b"late answer\r\n")
    to_client.close()
    check(await within(reader.read()) == b"late answer\r\n", "the answer")
    writer.close()
    # Then it is the other one's turn.
    _, to_other = await server.client()
    to_other.write(b"hello\r\n")
    check(await within(other.readline()) == b"hello\r\n", "the other client")
    writer_of_other.close()
    to_other.close()
    await monitor.until("peer closed: .*\n(.*\n)*.*peer closed: ")
    monitor.interrupt()
    await monitor.ended()


async def play(name):
    with tempfile.TemporaryDirectory() as folder:
        try:
            await CASES[name](folder)
        finally:
            for process in RUNNING:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            RUNNING.clear()


def main():
    for line in sys.stdin:
        try:
            asyncio.run(play(line.strip()))
            print("right", flush=True)
        except (Wrong, OSError, EOFError, asyncio.TimeoutError, subprocess.TimeoutExpired) as e:
            print(f"WRONG: {e!r}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--cases"]:
        print("\n".join(CASES))
        sys.exit(0)
    RUNNING = []
    MONITOR, WITHOUT_LIBEDIT, ECHO_SERVER = sys.argv[1:4]
    SANITIZER = len(sys.argv) > 4
    main()
