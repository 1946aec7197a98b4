"""What the peers of the example programs have in common: NAME_peer.py PROGRAM
runs the program NAME, plays the other end, and prints what both say. Its exit
status is 0 only if the program did all that it must do.

The peers use nothing but Python's standard library.
"""

import asyncio
import os
import signal
import sys

HOST = "127.0.0.1"
PATIENCE = 20  # seconds that the program may take for what it must do


class Wrong(Exception):
    pass


def check(is_right, what):
    if not is_right:
        raise Wrong(what)


def say(text):
    print(f"python: {text}")


def within(awaitable, seconds=PATIENCE):
    return asyncio.wait_for(awaitable, seconds)


class Program:
    """An example program; prints each of its lines when it is read."""

    def __init__(self, path, process):
        self.name = os.path.basename(path)
        self.process = process

    @classmethod
    async def start(cls, path, *arguments):
        process = await asyncio.create_subprocess_exec(
            path,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return cls(path, process)

    async def line(self):
        line = (await self.process.stdout.readline()).decode()
        check(line.endswith("\n"), f"{self.name} has ended")
        print(f"{self.name}: {line.rstrip()}")
        return line.rstrip("\n")

    async def lines_to(self, text):
        """The lines up to the next one that has that text."""
        lines = []

        async def collect():
            while not lines or text not in lines[-1]:
                lines.append(await self.line())

        try:
            await within(collect())
        except asyncio.TimeoutError:
            raise Wrong(f'{self.name} does not say "{text}"') from None
        return lines

    async def stop(self):
        """Ends it as Ctrl-C would; returns what it still had to say."""
        self.process.send_signal(signal.SIGINT)
        rest = (await within(self.process.stdout.read())).decode()
        status = await within(self.process.wait())
        for line in rest.splitlines():
            print(f"{self.name}: {line}")
        check(status == 0, f"{self.name} ended with status {status}")
        return rest

    async def kill(self):
        """If it still runs."""
        if self.process.returncode is None:
            self.process.kill()
            await within(self.process.communicate())


def run(main):
    """Runs main(path of the program), and turns what went wrong into words."""
    try:
        asyncio.run(main(sys.argv[1]))
        say("all of it was right")
    except (Wrong, OSError, EOFError, asyncio.TimeoutError) as e:
        sys.exit(f"python: WRONG: {e!r}")
