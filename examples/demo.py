"""The Python side of ./examples/run: a client as anybody would write it, with
nothing but asyncio and struct, against the C++ echo_server.

Usage: demo.py PORT ECHO_CLIENT

ECHO_CLIENT is the C++ client, to be turned away while this one is served.
Prints what is exchanged. The exit status is 0 only if all of it was right.
"""

import asyncio
import struct
import sys

HOST = "127.0.0.1"
SAMPLE = struct.Struct(">Id")  # sequence, value
PATIENCE = 10  # seconds


class Wrong(Exception):
    pass


def check(is_right, what):
    if not is_right:
        raise Wrong(what)


async def exchange_text(reader, writer):
    for text in ["hello", "", "grüß dich, 世界 🔭", "x" * 60000]:
        line = text.encode() + b"\r\n"
        writer.write(line)
        await writer.drain()
        reply = await reader.readuntil(b"\n")
        shown = text if len(text) < 40 else f"{text[:8]}... ({len(text)} bytes)"
        print(f'python: text "{shown}" came back')
        check(reply == line, f"got {reply[:80]!r}")


async def exchange_struct(reader, writer):
    for sequence, value in [(0, 0.0), (7, 2.5), (0xFFFFFFFE, -1e300)]:
        writer.write(b"struct\r\n" + SAMPLE.pack(sequence, value))
        await writer.drain()
        reply = SAMPLE.unpack(await reader.readexactly(SAMPLE.size))
        print(f"python: struct {(sequence, value)} came back as {reply}")
        check(reply == (sequence + 1, value), "that is another one")


async def try_to_be_second(port):
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"me too\r\n")
        reply = await reader.read()
    except ConnectionError as e:
        check(False, f"second client: {e!r}")
    print(f"python: second client reads {reply!r}: the end of the stream")
    check(reply == b"", "the second client was served")
    writer.close()


async def try_to_be_second_in_cpp(port, program):
    process = await asyncio.create_subprocess_exec(
        program, "--port", str(port), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    print(f"python: second client, in C++, says: {output.decode().strip()}")
    check(process.returncode == 3, f"its exit status is {process.returncode}")


async def main(port, program):
    reader, writer = await asyncio.open_connection(HOST, port)
    print("python: connected")
    await exchange_text(reader, writer)
    await exchange_struct(reader, writer)
    await try_to_be_second(port)
    await try_to_be_second_in_cpp(port, program)
    await exchange_text(reader, writer)
    writer.close()
    await writer.wait_closed()
    print("python: disconnected")


try:
    asyncio.run(asyncio.wait_for(main(int(sys.argv[1]), sys.argv[2]), PATIENCE))
except (Wrong, OSError, EOFError, asyncio.TimeoutError) as e:
    sys.exit(f"python: WRONG: {e!r}")
