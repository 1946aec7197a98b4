"""Makes random scripts of reads and says what CPython's StreamReader does.

    asyncio_oracle.py SEED COUNT

Prints the scripts for asyncio_oracle_test.cc, a step a line:

    new LIMIT
    feed HEX
    eof
    read N | exactly N | line | until HEX [HEX ...] | at_eof

and after each read what came of it:

    = data HEX          the bytes it returned
    = pending           it would wait
    = true | false      at_eof
    = incomplete HEX EXPECTED|none
    = overrun CONSUMED
"""

import asyncio
import random
import sys

ALPHABET = b"ab\r\n;"
SEPARATORS = [b"\n", b"\r\n", b"ab", b"aba", b"abab", b";", b"\n\n", b"aab"]


def random_bytes(rng, most):
    return bytes(rng.choice(ALPHABET) for _ in range(rng.randint(1, most)))


def has_ended(reader):
    return reader._eof


def multiple(reader, separators):
    """readuntil() for several separators, by Python 3.13's rules.

    Older versions take one only; the rules are written down here from the
    documentation, over the reader's own buffer.
    """
    longest = max(map(len, separators))
    best = None
    for separator in separators:
        start = bytes(reader._buffer).find(separator)
        if start >= 0:
            end = start + len(separator)
            if best is None or (end, -start) < best:
                best = (end, -start)
    if best is not None:
        end, start = best[0], -best[1]
        if start > reader._limit:
            return f"overrun {start}"
        data = bytes(reader._buffer[:end])
        del reader._buffer[:end]
        return f"data {data.hex()}"
    offset = max(0, len(reader._buffer) + 1 - longest)
    if offset > reader._limit:
        return f"overrun {offset}"
    if has_ended(reader):
        data = bytes(reader._buffer)
        reader._buffer.clear()
        return f"incomplete {data.hex()} none"
    return "pending"


async def attempt(coroutine):
    task = asyncio.ensure_future(coroutine)
    # Once to start it; what can be done at once is then done.
    await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return "pending"
    try:
        return f"data {task.result().hex()}"
    except asyncio.IncompleteReadError as e:
        expected = "none" if e.expected is None else e.expected
        return f"incomplete {e.partial.hex()} {expected}"
    except asyncio.LimitOverrunError as e:
        return f"overrun {e.consumed}"
    except ValueError:
        return "overrun"  # readline() does not say how far it got


async def script(rng):
    limit = rng.choice([1, 3, 7, 16, 40])
    reader = asyncio.StreamReader(limit=limit)
    print("new", limit)
    ended = False
    fed = 0
    for _ in range(rng.randint(5, 40)):
        choice = rng.random()
        if choice < 0.4 and not ended:
            # Beyond twice its limit a real reader is not fed any more.
            if len(reader._buffer) > 2 * limit:
                continue
            data = random_bytes(rng, rng.choice([2, 5, 30]))
            fed += len(data)
            reader.feed_data(data)
            print("feed", data.hex())
            continue
        if choice < 0.44 and not ended:
            reader.feed_eof()
            ended = True
            print("eof")
            continue
        if choice < 0.55:
            n = rng.choice([0, 1, 2, 5, 50])
            print("read", n)
            result = await attempt(reader.read(n))
        elif choice < 0.65:
            n = rng.choice([0, 1, 2, 5, 50])
            print("exactly", n)
            result = await attempt(reader.readexactly(n))
        elif choice < 0.72:
            print("line")
            result = await attempt(reader.readline())
        elif choice < 0.77:
            print("at_eof")
            result = str(reader.at_eof()).lower()
        elif choice < 0.9:
            separator = rng.choice(SEPARATORS)
            print("until", separator.hex())
            result = await attempt(reader.readuntil(separator))
        else:
            separators = rng.sample(SEPARATORS, rng.randint(2, 3))
            print("until", *[s.hex() for s in separators])
            if sys.version_info >= (3, 13):
                result = await attempt(reader.readuntil(tuple(separators)))
            else:
                result = multiple(reader, separators)
        print("=", result)


async def main():
    rng = random.Random(int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        await script(rng)


asyncio.run(main())
