"""The controller that reconnecting_client talks to: a server that answers late,
goes away, comes back, and falls silent. See peer.py.
"""

import asyncio
import json
import re

from peer import HOST, Program, check, run, say

SPEAKS, ANSWERS_LATE, SILENT = range(3)


class Dome:
    """Answers commands, and says its status twice a second."""

    def __init__(self):
        self.mode = SPEAKS
        self.writers = set()
        self.port = 0

    async def start(self):
        """On the same port as before."""
        self.server = await asyncio.start_server(self.serve, HOST, self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    def go_away(self):
        self.server.close()
        for writer in self.writers:
            writer.close()

    async def serve(self, reader, writer):
        self.mode = SPEAKS
        self.writers.add(writer)
        status = asyncio.ensure_future(self.say_status(writer))
        held = None
        try:
            while line := await reader.readline():
                number = self.number_of(line)
                if self.mode == SILENT:
                    continue
                if self.mode == ANSWERS_LATE and held is None:
                    held = number
                    continue
                # A late answer comes just before the next one.
                if held is not None:
                    self.mode = SPEAKS
                    self.answer(writer, held)
                    held = None
                self.answer(writer, number)
        except ConnectionError:
            pass  # it has closed, and read no more
        finally:
            status.cancel()
            self.writers.discard(writer)
            writer.close()

    def number_of(self, line):
        check(line.endswith(b"\r\n"), f"a part of a command: {line}")
        command = json.loads(line)
        check(command["command"] == "position", f"the command is {command}")
        return command["id"]

    def answer(self, writer, number):
        # Each answer is another one: none can be taken for the next unnoticed.
        self.send(writer, {"id": number, "position": number + 0.5})

    async def say_status(self, writer):
        while True:
            if self.mode != SILENT:
                self.send(writer, {"status": "tracking", "wind": float("nan")})
            await asyncio.sleep(0.5)

    def send(self, writer, message):
        writer.write(json.dumps(message).encode() + b"\r\n")


async def lines_to(program, text):
    """The lines up to one with that text. No answer is that of another."""
    lines = await program.lines_to(text)
    for line in lines:
        match = re.match(r"#(\d+) position: ({.*)", line)
        if match:
            number, answer = int(match.group(1)), json.loads(match.group(2))
            check(
                answer == {"id": number, "position": number + 0.5},
                "that is the answer to another command",
            )
    return lines


async def answered(program):
    await lines_to(program, '"position":')


async def late_answer(dome, program):
    say("keeps an answer until the client has given it up")
    dome.mode = ANSWERS_LATE
    lines = await lines_to(program, "too late: ")
    number = json.loads(lines[-1].split(": ", 1)[1])["id"]
    given_up = [line for line in lines if line.startswith(f"#{number} position: ")]
    check(len(given_up) == 1 and "timed out" in given_up[0], "it was not late")
    await answered(program)


async def outage(dome, program):
    say("goes away")
    dome.go_away()
    await lines_to(program, "peer closed")
    await lines_to(program, "connect failed: Connection refused")
    say("is back")
    await dome.start()
    await lines_to(program, f"connected to {HOST}:{dome.port}")
    await answered(program)


async def silence(dome, program):
    say("falls silent, as a program that hangs")
    dome.mode = SILENT
    await lines_to(program, "silent")
    await lines_to(program, f"connected to {HOST}:{dome.port}")
    await answered(program)


async def main(path):
    dome = Dome()
    await dome.start()
    program = await Program.start(
        path, "--port", str(dome.port), "--period", "0.2", "--silence", "2"
    )
    try:
        await lines_to(program, f"connected to {HOST}:{dome.port}")
        await lines_to(program, 'status: {"status":"tracking","wind":null}')
        await answered(program)
        await late_answer(dome, program)
        await outage(dome, program)
        await outage(dome, program)
        await silence(dome, program)
        check("closed here" in await program.stop(), "the last event is missing")
    finally:
        await program.kill()


run(main)
