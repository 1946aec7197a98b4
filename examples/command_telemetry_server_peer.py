"""The clients of command_telemetry_server: one that commands it and reads its
telemetry, one that is lost while the rotator moves, one that falls silent. See
peer.py.
"""

import asyncio
import socket
import struct

from peer import HOST, Program, check, run, say, within

# As in rotator.h.
HEADER = struct.Struct("<HHIqI")
CONFIG = struct.Struct("<ddd")
TELEMETRY = struct.Struct("<Hdd")
ACK = struct.Struct("<IH")
COMMAND = struct.Struct("<IHd")
CONFIG_ID, TELEMETRY_ID, ACK_ID = 1, 2, 3
SAFE, ENABLED = 0, 1
ALIVE, ENABLE, MOVE, STOP = range(4)
DONE, NOT_ENABLED, OUT_OF_RANGE, UNKNOWN = range(4)


class Client:
    """Reads all frames, and checks what is true of each."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.command_counter = 0
        self.counters = {}  # of the last frame of each kind

    @classmethod
    async def connect(cls, port):
        client = cls(*await within(asyncio.open_connection(HOST, port)))
        try:
            check(await client.frame() == (CONFIG_ID, (-90, 90, 5)), "no config")
        except EOFError:
            client.writer.close()  # it was turned away
            raise
        return client

    @classmethod
    async def connect_after(cls, port):
        """The same, if the client before may still be in the place."""

        async def try_again():
            while True:
                try:
                    return await cls.connect(port)
                except asyncio.IncompleteReadError as e:
                    check(e.partial == b"", "it was turned away with a frame")
                    await asyncio.sleep(0.05)

        return await within(try_again())

    async def frame(self):
        """The kind and the body of the next frame."""
        header = await within(self.reader.readexactly(HEADER.size))
        kind, size, counter, self.seconds, self.nanoseconds = HEADER.unpack(header)
        last = self.counters.get(kind)
        check(last is None or counter == last + 1, f"frame {counter} after {last}")
        self.counters[kind] = counter
        body = {CONFIG_ID: CONFIG, TELEMETRY_ID: TELEMETRY, ACK_ID: ACK}[kind]
        check(size == body.size, f"the size of frame {kind} is {size}")
        return kind, body.unpack(await within(self.reader.readexactly(size)))

    async def telemetry(self):
        """State, angle and demand."""
        kind, body = await self.frame()
        check(kind == TELEMETRY_ID, "that is no telemetry")
        return body

    async def telemetry_until(self, is_right):
        async def look():
            while not is_right(*(body := await self.telemetry())):
                pass
            return body

        return await within(look())

    def command(self, kind, value=0.0):
        """The bytes of a command."""
        self.command_counter += 1
        return COMMAND.pack(self.command_counter, kind, value)

    async def result(self, counter):
        """That of the command, which is the first that is acknowledged now."""

        async def look():
            while True:
                kind, body = await self.frame()
                if kind == ACK_ID:
                    check(body[0] == counter, f"{body} is no ack of {counter}")
                    return body[1]

        return await within(look())

    async def tell(self, kind, value, expected):
        self.writer.write(self.command(kind, value))
        result = await self.result(self.command_counter)
        say(f"command {kind} {value}: result {result}")
        check(result == expected, f"it should be {expected}")

    async def read_to_the_end(self):
        """For a silent client: what comes until the rotator has closed."""
        await within(self.reader.read(-1))


async def commands(client):
    say("commands")
    state, angle, demand = await client.telemetry()
    check((state, angle, demand) == (SAFE, 0, 0), "it is not in its safe state")
    await client.tell(MOVE, 1, NOT_ENABLED)
    await client.tell(ENABLE, 0, DONE)
    for value in (90.5, -1e300, float("inf"), float("nan")):
        await client.tell(MOVE, value, OUT_OF_RANGE)
    await client.tell(99, 0, UNKNOWN)
    await client.tell(MOVE, 0.5, DONE)
    body = await client.telemetry_until(lambda state, angle, demand: angle == 0.5)
    check(body == (ENABLED, 0.5, 0.5), f"telemetry {body}")
    await client.tell(MOVE, -90, DONE)
    await client.telemetry_until(lambda state, angle, demand: angle < 0.25)
    await client.tell(STOP, 0, DONE)
    # Telemetry of the time before may come behind the ack.
    body = await client.telemetry_until(lambda state, angle, demand: angle == demand)
    check(body[1] > -90, "it did not stop")
    check(await client.telemetry() == body, "it moves")


async def pieces(client):
    say("commands in pieces, and several in one")
    for byte in client.command(STOP):
        client.writer.write(bytes([byte]))
        await client.writer.drain()
        await asyncio.sleep(0.001)
    check(await client.result(client.command_counter) == DONE, "not obeyed")
    # More than may wait for the control loop at a time.
    first = client.command_counter + 1
    client.writer.write(b"".join(client.command(STOP) for _ in range(100)))
    for counter in range(first, first + 100):
        check(await client.result(counter) == DONE, "not obeyed")


async def rate(client):
    async def now():
        client.writer.write(client.command(ALIVE))
        await client.telemetry()
        return client.seconds + client.nanoseconds / 1e9

    start = await now()
    for _ in range(20):
        end = await now()
    say(f"20 frames of telemetry in {end - start:.2f} s")
    check(0.5 < end - start < 10, "it should be one second")


async def moving(client):
    """Commands a long way, and waits until the rotator is on it."""
    await client.tell(ENABLE, 0, DONE)
    await client.tell(MOVE, 90, DONE)
    _, start, _ = await client.telemetry()
    await client.telemetry_until(lambda state, angle, demand: angle > start)


async def stands_still(client):
    state, angle, demand = await client.telemetry()
    check(state == SAFE and angle == demand < 90, "it is not in its safe state")
    check(await client.telemetry() == (SAFE, angle, angle), "it moves")
    await client.tell(MOVE, 0, NOT_ENABLED)


async def lost_client(client, port):
    await moving(client)
    say("is lost while the rotator moves")
    client.writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    client.writer.transport.abort()  # sends a reset
    client = await Client.connect_after(port)
    await stands_still(client)
    return client


async def silent_client(client, port, program):
    say("a second client is turned away")
    await moving(client)
    second = await within(asyncio.open_connection(HOST, port))
    check(await within(second[0].read()) == b"", "it was served")
    second[1].close()
    await client.tell(STOP, 0, DONE)
    await moving(client)

    say("the first falls silent, and has to make way")
    reading = asyncio.ensure_future(client.read_to_the_end())
    second = await Client.connect_after(port)
    await reading
    await program.lines_to("ended: replaced")
    await stands_still(second)
    return second


async def nobody_in_command(client, port, program):
    await moving(client)
    say("falls silent, and nobody else comes")
    await client.read_to_the_end()
    await program.lines_to("ended: heartbeat lost")
    client = await Client.connect_after(port)
    await stands_still(client)
    return client


async def main(path):
    program = await Program.start(path)
    try:
        line = (await program.lines_to("listening on "))[-1]
        port = int(line.rsplit(":", 1)[1])
        client = await Client.connect(port)
        await commands(client)
        await pieces(client)
        await rate(client)
        client = await lost_client(client, port)
        client = await silent_client(client, port, program)
        client = await nobody_in_command(client, port, program)
        await program.stop()
    finally:
        await program.kill()


run(main)
