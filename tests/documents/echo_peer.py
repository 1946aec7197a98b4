"""The other end of the user guide's programs: asyncio streams as they come.

  echo_peer.py client PORT TEXT...   sends each text as a line, prints the
                                     answers as Python writes bytes
  echo_peer.py server                prints "port N"; sends each line back to
                                     one client, and prints what it got
"""

import asyncio
import sys

PATIENCE = 20  # seconds


async def client(port, *texts):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    for text in texts:
        writer.write(text.encode() + b"\r\n")
        await writer.drain()
        print(await reader.readuntil(b"\r\n"), flush=True)
    writer.close()
    await writer.wait_closed()


async def server():
    ended = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        try:
            while line := await reader.readline():
                print(line, flush=True)
                writer.write(line)
                await writer.drain()
            writer.close()
            ended.set_result(None)
        except Exception as e:
            ended.set_exception(e)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    print("port", listener.sockets[0].getsockname()[1], flush=True)
    await ended
    listener.close()


if __name__ == "__main__":
    role = {"client": client, "server": server}[sys.argv[1]]
    asyncio.run(asyncio.wait_for(role(*sys.argv[2:]), PATIENCE))
