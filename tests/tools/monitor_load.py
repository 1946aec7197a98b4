"""What tcpip-monitor costs as a proxy, and whether it loses anything.

  monitor_load.py MONITOR [--seconds N]

An asyncio server and an asyncio client, each a process of its own, talk with
each other over two connections: directly, and through MONITOR, which records.
Prints figures. Ends with status 1 if anything was lost, doubled or put in the
wrong order: on the way, in the recording, or in what the monitor has shown.

1. For N seconds (120): JSON commands both ways, and telemetry at 100 Hz.
2. Lines at a rate that rises, for 4 seconds each; then as fast as they go.
"""

import argparse
import asyncio
import concurrent.futures
import json
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HOST = "127.0.0.1"
RATES = (1000, 3000, 10000, 30000, 60000)
RAMP_SECONDS = 4
PATIENCE = 60


def check(is_right, what):
    if not is_right:
        sys.exit("WRONG: " + what)


def line_of(**values):
    return json.dumps(values).encode() + b"\r\n"


# --- The server, in a process of its own ---


async def send_telemetry(send):
    start = time.monotonic()
    for number in range(10**9):
        send(line_of(telemetry=number, position=number * 0.01, state="moving"))
        if number % 5 == 0:
            send(line_of(command="report", ask=number))
        await asyncio.sleep(max(0, start + number * 0.01 - time.monotonic()))


async def serve_exchange(reader, writer, log):
    def send(line):
        log["sent"] += line
        writer.write(line)

    telemetry = asyncio.ensure_future(send_telemetry(send))
    while line := await reader.readline():
        log["received"] += line
        message = json.loads(line)
        if "id" in message:
            send(line_of(id=message["id"], done=True))
    telemetry.cancel()
    await writer.drain()


async def serve_load(reader, writer, order, log):
    rate, seconds, block = order["rate"], order["seconds"], order["block"]
    start = time.monotonic()
    number = 0
    while (now := time.monotonic() - start) < seconds:
        count = block if rate is None else int(now * rate) - number
        lines = []
        for _ in range(count):
            lines.append(b"%012d %.6f %s\r\n" % (number, time.monotonic(), b"x" * 160))
            number += 1
        writer.write(b"".join(lines))
        await writer.drain()
        if rate is not None:
            await asyncio.sleep(0.001)
    log["lines"] = number


def run_server(pipe):
    async def serve(reader, writer):
        log = {"sent": bytearray(), "received": bytearray()}
        order = json.loads(await reader.readline())
        if order["what"] == "exchange":
            await serve_exchange(reader, writer, log)
        else:
            await serve_load(reader, writer, order, log)
        writer.close()
        # The parent reads it later.
        await asyncio.get_running_loop().run_in_executor(sender, pipe.send, log)

    sender = concurrent.futures.ThreadPoolExecutor(1)

    async def main():
        server = await asyncio.start_server(serve, HOST, 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(main())


# --- The monitor ---


class Monitor:
    def __init__(self, program, port, *options):
        self.folder = tempfile.TemporaryDirectory()
        self.shown_path = self.folder.name + "/shown"
        with open(self.shown_path, "wb") as shown:
            self.process = subprocess.Popen(
                [program, "--listen", "0", "--connect", str(port), *options],
                stdin=subprocess.DEVNULL,
                stdout=shown,
            )
        while not (found := re.search(r"listening on \S*:(\d+)", self.shown())):
            time.sleep(0.01)
        self.port = int(found.group(1))

    def shown(self):
        with open(self.shown_path, encoding="utf-8") as file:
            return file.read()

    def messages(self, arrow):
        """The messages of one direction that were shown."""
        lines = (line.split(" ", 2) for line in self.shown().splitlines())
        return [line[2] for line in lines if line[1] == arrow]

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, name="VmRSS"):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            kilobytes = re.search(name + r":\s+(\d+)", file.read()).group(1)
        return int(kilobytes) / 1024

    def close(self, status=0):
        self.process.send_signal(signal.SIGINT)
        got = self.process.wait(PATIENCE)
        check(got == status, f"the monitor's status is {got}")


PIECE = re.compile(rb'^([0-9.]+) ([<>]) (?:end|"((?:[^"\\]|\\.)*)")$')
ESCAPE = re.compile(rb"\\(?:x(..)|(.))", re.S)
ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\", b'"': b'"'}


def unescaped(text):
    def one(match):
        if match.group(1):
            return bytes([int(match.group(1), 16)])
        return ESCAPES[match.group(2)]

    return ESCAPE.sub(one, text)


def read_recording(path):
    """Pieces (arrow, bytes); b"" is the end."""
    pieces = []
    before = 0.0
    with open(path, "rb") as file:
        for line in file:
            if line.startswith((b"#", b"tcpip")):
                check(b"missing" not in line, "the recording has a gap")
                continue
            match = PIECE.match(line.rstrip(b"\n"))
            check(match, f"the recording has {line!r}")
            check(float(match.group(1)) >= before, "the recording goes back in time")
            before = float(match.group(1))
            pieces.append((match.group(2).decode(), unescaped(match.group(3) or b"")))
    return pieces


def bytes_of(pieces, arrow):
    return b"".join(data for sign, data in pieces if sign == arrow)


def check_order(pieces):
    """No answer stands before its question."""
    asked = {"id": set(), "answer": set()}
    rest = {"<": b"", ">": b""}
    answers = 0
    for arrow, data in pieces:
        *lines, rest[arrow] = (rest[arrow] + data).split(b"\r\n")
        for line in lines:
            message = json.loads(line)
            if "ask" in message:
                asked["answer"].add(message["ask"])
            elif arrow == ">" and "id" in message:
                asked["id"].add(message["id"])
            elif "id" in message or "answer" in message:
                name = "id" if "id" in message else "answer"
                check(message[name] in asked[name], f"{line} before its question")
                answers += 1
    return answers


# --- The client ---


class Talk:
    """One connection of the exchange."""

    @classmethod
    async def start(cls, port, order):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection(HOST, port)
        self.sent, self.received = bytearray(), bytearray()
        self.replies = {}
        self.answers = True  # until it ends
        self.first = line_of(**order)
        self.writer.write(self.first)
        self.reading = asyncio.ensure_future(self.read())
        return self

    def send(self, line):
        self.sent += line
        self.writer.write(line)

    async def read(self):
        while line := await self.reader.readline():
            self.received += line
            message = json.loads(line)
            if "ask" in message:
                if self.answers:
                    self.send(line_of(answer=message["ask"]))
            elif "id" in message:
                self.replies.pop(message["id"]).set_result(None)

    async def round_trip(self, number):
        reply = asyncio.get_running_loop().create_future()
        self.replies[number] = reply
        start = time.monotonic()
        self.send(line_of(id=number, command="move", to=number * 0.5))
        await asyncio.wait_for(reply, PATIENCE)
        return time.monotonic() - start

    async def end(self):
        self.answers = False
        self.writer.write_eof()
        await asyncio.wait_for(self.reading, PATIENCE)
        self.writer.close()


async def exchange(ways, seconds):
    """Round trips in turn, so that the machine is the same for both."""
    talks = {way: await Talk.start(port, {"what": "exchange"}) for way, port in ways}
    times = {way: [] for way in talks}
    start = time.monotonic()
    number = 0
    while time.monotonic() < start + seconds:
        for way in talks:
            times[way].append(await talks[way].round_trip(number))
            number += 1
            await asyncio.sleep(0.02)
    for talk in talks.values():
        await talk.end()
    return talks, times


async def load(port, order):
    """Returns lines, bytes, seconds, and how long lines were under way."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(line_of(what="load", **order))
    delays = []
    number = size = 0
    rest = b""
    start = time.monotonic()
    while data := await reader.read(1 << 18):
        *lines, rest = (rest + data).split(b"\r\n")
        now = time.monotonic()
        size += len(data)
        for line in lines:
            check(int(line[:12]) == number, f"line {number} is {line[:40]}")
            number += 1
        if lines:
            delays.append(now - float(lines[0].split()[1]))
    seconds = time.monotonic() - start
    check(rest == b"", "the last line has no end")
    writer.close()
    return number, size, seconds, statistics.median(delays)


def measure_exchange(program, port, pipe, seconds):
    folder = tempfile.TemporaryDirectory()
    recording = folder.name + "/recording"
    monitor = Monitor(program, port, "--record", recording)
    cpu, memory, start = monitor.cpu(), monitor.memory(), time.monotonic()
    ways = [("directly", port), ("through the monitor", monitor.port)]
    talks, times = asyncio.run(exchange(ways, seconds))
    cpu = (monitor.cpu() - cpu) / (time.monotonic() - start)
    after = monitor.memory()
    logs = [pipe.recv(), pipe.recv()]
    for way, talk in talks.items():
        log = next((log for log in logs if log["received"] == talk.sent), None)
        check(log, way + ": the server has not received what was sent")
        check(log["sent"] == talk.received, way + ": the client has not received all")
    talk = talks["through the monitor"]
    monitor.close()
    pieces = read_recording(recording)
    check(bytes_of(pieces, ">") == talk.first + talk.sent, "the recording of >")
    check(bytes_of(pieces, "<") == talk.received, "the recording of <")
    answers = check_order(pieces)
    for arrow, data in ((">", talk.first + talk.sent), ("<", talk.received)):
        lines = data.decode().split("\r\n")[:-1]
        check(monitor.messages(arrow) == lines, "what was shown of " + arrow)
    medians = [statistics.median(times[way]) * 1e6 for way, _ in ways]
    tails = [statistics.quantiles(times[way], n=100)[98] * 1e6 for way, _ in ways]
    print(f"exchange of {seconds} s, {len(times['directly'])} round trips each way:")
    for (way, _), median, tail in zip(ways, medians, tails):
        print(f"  {way}: median {median:.0f} us, 99 % {tail:.0f} us")
    print(f"  added: {medians[1] - medians[0]:.0f} us")
    print(f"  > {len(talk.sent)} bytes, < {len(talk.received)} bytes, {answers} answers:")
    print("  none lost, none doubled, in order; recording and screen the same")
    print(f"  the monitor: {cpu * 100:.1f} % of a core, {memory:.1f} MB, then {after:.1f} MB")


def measure_load(program, port, pipe):
    print("lines of some 186 bytes, from the server to the client:")
    orders = [(f"{rate}/s", rate, 0) for rate in RATES]
    orders += [("one a write", None, 1), ("300 a write", None, 300)]
    for name, rate, block in orders:
        order = {"rate": rate, "seconds": RAMP_SECONDS, "block": block}
        results = []
        for options in (None, (), ("--record",)):
            monitor, way = None, "directly"
            with tempfile.TemporaryDirectory() as folder:
                if options is not None:
                    recording = folder + "/recording"
                    files = (*options, recording) if options else ()
                    way = " ".join(("monitor", *options))
                    monitor = Monitor(program, port, *files)
                cpu = monitor.cpu() if monitor else 0
                number, size, seconds, delay = asyncio.run(
                    load(monitor.port if monitor else port, order)
                )
                check(number == pipe.recv()["lines"], "lines are lost")
                text = f"{number / seconds:.0f}/s, {size / seconds / 1e6:.1f} MB/s"
                text += f", under way {delay * 1000:.2f} ms"
                if monitor:
                    cpu = (monitor.cpu() - cpu) / seconds
                    memory = monitor.memory("VmHWM"), monitor.memory()
                    monitor.close(0)
                    missing = sum(map(int, re.findall(r"\((\d+) bytes? not", monitor.shown())))
                    # A line that stood still on the way is shown in two parts.
                    shown = monitor.messages("<")
                    parts = sum(line.endswith("(no end so far)") for line in shown)
                    check(
                        missing or len(shown) - parts == number,
                        f"of {number} lines {len(shown)} - {parts} are shown",
                    )
                    text += f", {cpu * 100:.0f} % CPU, {memory[0]:.0f} MB at most"
                    text += f", then {memory[1]:.0f} MB, {missing / 1e6:.1f} MB not shown"
                    if options:
                        data = bytes_of(read_recording(recording), "<")
                        check(data.count(b"\r\n") == number, "the recording")
                results.append((way, text))
        for way, text in results:
            print(f"  {name:12} {way:16} {text}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("monitor")
    parser.add_argument("--seconds", type=float, default=120)
    arguments = parser.parse_args()
    pipe, far_pipe = multiprocessing.Pipe()
    server = multiprocessing.Process(target=run_server, args=(far_pipe,), daemon=True)
    server.start()
    port = pipe.recv()
    measure_exchange(arguments.monitor, port, pipe, arguments.seconds)
    measure_load(arguments.monitor, port, pipe)


if __name__ == "__main__":
    main()
