"""The works of raw.cc with CPython's asyncio, through its streams.

harness.h says what the arguments are and what is printed.
"""

import asyncio
import json
import os
import socket
import sys
import threading
import time

ROLE, WORK, WAY = sys.argv[1:4]
VALUES = dict(argument.split("=", 1) for argument in sys.argv[4:])
PORT = int(VALUES.get("port", 0))
SIZE = int(VALUES.get("size", 32))
COUNT = int(VALUES.get("count", 300))
SECONDS = float(VALUES.get("seconds", 0.25))
LINE = b"x" * (SIZE - 2) + b"\r\n"
BATCH = max(1, 65536 // SIZE)

now = time.monotonic_ns


def set_no_delay(writer):
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def serve(serve_client):
    """Calls serve_client(reader, writer) for each client; returns when it says True."""
    done = asyncio.Event()

    async def connected(reader, writer):
        set_no_delay(writer)
        if await serve_client(reader, writer):
            done.set()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await done.wait()


async def connect():
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT, limit=1 << 20)
    set_no_delay(writer)
    return reader, writer


def report(ops, start, cpu, times=()):
    print(
        json.dumps(
            {
                "ops": ops,
                "ns": now() - start,
                "cpu_ns": time.process_time_ns() - cpu,
                "times": list(times),
            }
        ),
        flush=True,
    )


async def time_turns(turn):
    for _ in range(20):
        await turn()
    times = []
    cpu = time.process_time_ns()
    start = before = now()
    while before < start + SECONDS * 1e9:
        await turn()
        after = now()
        times.append(after - before)
        before = after
    report(len(times), start, cpu, times)


async def time_batches(ops, some):
    done = 0
    cpu = time.process_time_ns()
    start = now()
    while now() < start + SECONDS * 1e9:
        await some()
        done += ops
    report(done, start, cpu)


async def serve_echo(receive):
    async def echo(reader, writer):
        try:
            while True:
                writer.write(await receive(reader))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return True

    await serve(echo)


async def ask(receive):
    reader, writer = await connect()

    async def turn():
        writer.write(LINE)
        await writer.drain()
        await receive(reader)

    await time_turns(turn)


def receive_line(reader):
    return reader.readuntil(b"\n")


def receive_struct(reader):
    return reader.readexactly(SIZE)


async def read_lines():
    reader, _ = await connect()
    batch = min(BATCH, 100)

    async def some():
        for _ in range(batch):
            await reader.readuntil(b"\n")

    await time_batches(batch, some)


async def read_blocks():
    reader, _ = await connect()
    await time_batches(1, lambda: reader.readexactly(SIZE))


async def write_batches():
    _, writer = await connect()
    lines = [LINE] * BATCH

    async def some():
        writer.writelines(lines)
        await writer.drain()

    await time_batches(BATCH, some)


async def write_each():
    _, writer = await connect()

    async def some():
        for _ in range(100):
            writer.write(LINE)
            await writer.drain()

    await time_batches(100, some)


async def serve_connects():
    async def send_away(reader, writer):
        writer.close()

    await serve(send_away)


async def serve_turn_away():
    first = []

    async def send_away(reader, writer):
        if first:
            writer.close()
        else:
            first.append(writer)

    await serve(send_away)


async def serve_notice():
    times = []

    async def notice(reader, writer):
        writer.write(b"x")
        await reader.read(1)
        times.append(now())
        writer.close()
        return len(times) == COUNT

    await serve(notice)
    report(len(times), now(), time.process_time_ns(), times)


def unblock():
    """A thread runs a loop in which a task reads; another thread cancels that."""
    here, there = int(VALUES.get("cpu", 0)), int(VALUES.get("other_cpu", 1))
    os.sched_setaffinity(0, {here})
    times = []
    loop = asyncio.new_event_loop()

    def run_loop():
        os.sched_setaffinity(0, {there})
        loop.run_forever()

    thread = threading.Thread(target=run_loop)
    thread.start()
    ends = socket.socketpair()

    async def open_reader():
        return await asyncio.open_connection(sock=ends[0])

    # Without the writer the connection would be closed.
    reader, writer = asyncio.run_coroutine_threadsafe(open_reader(), loop).result()
    woken = []
    done = threading.Event()

    # A task that is cancelled before it has begun never begins.
    begun = threading.Event()

    async def read():
        begun.set()
        try:
            await reader.read(1)
        except asyncio.CancelledError:
            woken.append(now())
        done.set()

    async def make_task():
        return asyncio.ensure_future(read())

    for _ in range(COUNT):
        begun.clear()
        done.clear()
        task = asyncio.run_coroutine_threadsafe(make_task(), loop).result()
        begun.wait()
        time.sleep(0.0003)
        start = now()
        loop.call_soon_threadsafe(task.cancel)
        done.wait()
        times.append(woken[-1] - start)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    writer.transport.abort()
    report(len(times), now(), time.process_time_ns(), times)


ROLES = {
    "server ping_pong": lambda: serve_echo(receive_line),
    "client ping_pong": lambda: ask(receive_line),
    "server struct": lambda: serve_echo(receive_struct),
    "client struct": lambda: ask(receive_struct),
    "client read": read_lines,
    "client bulk": read_blocks,
    "client write_batches": write_batches,
    "client write_each": write_each,
    "server connect": serve_connects,
    "server turn_away": serve_turn_away,
    "server notice": serve_notice,
}


def main():
    if ROLE == "local" and WORK == "unblock":
        unblock()
        return 0
    role = ROLES.get(ROLE + " " + WORK)
    if role is None:
        return 3
    asyncio.run(role())
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # no tidying up of what the other end has left
