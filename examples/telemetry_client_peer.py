"""The rotator that telemetry_client listens to. See peer.py.

It sends frames that the client knows and others, in pieces of one byte, and
goes away in the middle of a frame.
"""

import asyncio
import socket
import struct

from peer import HOST, Program, check, run, say, within

# As in rotator.h.
HEADER = struct.Struct("<HHIqI")
CONFIG = struct.Struct("<ddd")
TELEMETRY = struct.Struct("<Hdd")
COMMAND = struct.Struct("<IHd")
CONFIG_ID, TELEMETRY_ID, ACK_ID = 1, 2, 3
SAFE, ENABLED = 0, 1
ALIVE = 0

SIZES = (1000, 1, 2, 3, 7, 19, 20, 21)  # of the pieces, in bytes


def frame(number, counter, body):
    return HEADER.pack(number, len(body), counter, 1700000000, 5000000) + body


def telemetry(counter, state=ENABLED, angle=1.5, demand=-2.25):
    return frame(TELEMETRY_ID, counter, TELEMETRY.pack(state, angle, demand))


def shown(counter, state="enabled"):
    return f"telemetry {counter} at 1700000000.005000000: {state}, at 1.5 of -2.25"


class Rotator:
    def __init__(self):
        self.clients = asyncio.Queue()
        self.port = 0

    async def start(self):
        """On the same port as before."""
        self.server = await asyncio.start_server(
            lambda *streams: self.clients.put_nowait(streams), HOST, self.port
        )
        self.port = self.server.sockets[0].getsockname()[1]

    async def client(self):
        reader, writer = await within(self.clients.get())
        writer.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        return reader, writer


async def send(writer, data, size):
    """In pieces of that size, a millisecond apart."""
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await writer.drain()
        await asyncio.sleep(0.001)


async def expect(program, *lines):
    for line in lines:
        check(await within(program.line()) == line, f"it should have said: {line}")


async def pieces(program, writer):
    """Eight times: four frames that are shown, three unknown ones, and two of
    another length.
    """
    for index, size in enumerate(SIZES):
        say(f"sends frames in pieces, bytes in each: {size}")
        counter = 10 * index
        data = (
            frame(CONFIG_ID, 1, CONFIG.pack(-90, 90, 5))
            + telemetry(counter + 1)
            + frame(ACK_ID, 1, b"unknown")
            + frame(99, 1, b"")
            + telemetry(counter + 2, SAFE)
            + frame(TELEMETRY_ID, counter + 3, b"of another length")
            + frame(CONFIG_ID, 2, b"")
            + frame(0xFFFF, 1, TELEMETRY.pack(ENABLED, 0, 0))
            + telemetry(counter + 4, state=9)
        )
        await send(writer, data, size)
        await expect(program, "config 1: -90 to 90 at 5")
        if index > 0:
            await expect(program, "missed 6")
        await expect(
            program,
            shown(counter + 1),
            shown(counter + 2, "safe"),
            "missed 1",
            shown(counter + 4, "state 9"),
        )


async def alive(reader):
    command = COMMAND.unpack(await within(reader.readexactly(COMMAND.size)))
    check(command == (0, ALIVE, 0), f"it said {command}")


async def main(path):
    rotator = Rotator()
    await rotator.start()
    program = await Program.start(path, "--port", str(rotator.port))
    try:
        reader, writer = await rotator.client()
        await program.lines_to(f"connected to {HOST}:{rotator.port}")
        await pieces(program, writer)
        for _ in range(2):
            await alive(reader)

        say("goes away in the middle of a frame")
        rotator.server.close()
        await send(writer, telemetry(500) + telemetry(501)[:-1], 1000)
        writer.close()
        rounds = len(SIZES)
        await program.lines_to(
            f"peer closed (frames {4 * rounds + 1}, unknown {3 * rounds}, "
            f"of a wrong length {2 * rounds})"
        )
        await program.lines_to("connect failed: Connection refused")
        say("is back")
        await rotator.start()
        reader, writer = await rotator.client()
        await program.lines_to(f"connected to {HOST}:{rotator.port}")
        await send(writer, telemetry(1), 1)
        await expect(program, shown(1))
        await alive(reader)

        say("falls silent")
        await program.lines_to("silent")
        reader, writer = await rotator.client()
        await program.lines_to(f"connected to {HOST}:{rotator.port}")
        await send(writer, telemetry(1), 1000)
        await expect(program, shown(1))
        check("closed here" in await program.stop(), "no last event")
    finally:
        await program.kill()


run(main)
