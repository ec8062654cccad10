"""Senders that never finish: half a request's head, or a body a byte a second; and what others see meanwhile.

`python -m tests.support.flood PORT` runs the whole attack of 60 seconds on a server on this machine.
"""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

HOST = "127.0.0.1"
HALF = b"GET /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: "
SLOW = b"POST /webhooks/clerk HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n{"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
PAUSE = 1.0
PATIENCE = 10.0


@dataclass
class Seen:
    """What came of it, in seconds.

    `answers`: how long `/health/live` took over a new connection; `lives`: how long the server let each held connection
    live; `failures`: what came instead of a 200.
    """

    answers: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    lives: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        slowest, longest = max(self.answers, default=0.0), max(self.lives, default=0.0)
        return (
            f"/health/live: {len(self.answers)} answers, the slowest after {slowest:.3f} s, "
            f"{len(self.failures)} failed {self.failures[:3]}; "
            f"{len(self.lives)} connections held, the longest for {longest:.1f} s"
        )


async def ask(port: int, request: bytes) -> bytes:
    """Send one request over a new connection; all that comes back until the server ends it.

    On a thread: as every client it sends its request as soon as it is connected, whatever else this process does.
    """
    return await asyncio.to_thread(_ask, port, request)


def _ask(port: int, request: bytes) -> bytes:
    answer = b""
    with socket.create_connection((HOST, port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        while piece := connection.recv(65_536):
            answer += piece
    return answer


async def hold(port: int, start: bytes, *, drip: bool, seen: Seen, until: float) -> None:
    """Begin a request, add a byte each second if `drip`, and begin anew a second after the server has ended it."""
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(PAUSE)
            continue
        began = time.monotonic()
        with contextlib.suppress(OSError):
            writer.write(start)
            ended = asyncio.create_task(reader.read(-1))
            while not ended.done():
                await asyncio.wait([ended], timeout=1.0)
                if drip and not ended.done():
                    writer.write(b"a")
            await ended
        seen.lives.append(time.monotonic() - began)
        writer.close()
        await asyncio.sleep(PAUSE)


@contextlib.asynccontextmanager
async def holding(port: int, *, half_open: int, slow_bodies: int, seconds: float) -> AsyncIterator[Seen]:
    """Hold so many connections for `seconds`; on leaving, wait until the server has ended the last of them."""
    seen, until = Seen(), time.monotonic() + seconds
    kinds = [(HALF, n % 2 == 0) for n in range(half_open)] + [(SLOW, True)] * slow_bodies
    holders = [asyncio.create_task(hold(port, start, drip=drip, seen=seen, until=until)) for start, drip in kinds]
    try:
        yield seen
        await asyncio.gather(*holders)
    finally:
        for holder in holders:
            holder.cancel()
        await asyncio.gather(*holders, return_exceptions=True)


async def flood(port: int, *, half_open: int = 1_500, slow_bodies: int = 200, seconds: float = 60.0) -> Seen:
    """Attack a server, and ask it all the while whether it lives, each time over a new connection."""
    until = time.monotonic() + seconds
    async with holding(port, half_open=half_open, slow_bodies=slow_bodies, seconds=seconds) as seen:
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                answer = await ask(port, LIVE)
            except (OSError, TimeoutError) as error:
                answer = repr(error).encode()
            if answer.startswith(OK):
                seen.answers.append(time.monotonic() - began)
            else:
                seen.failures.append(f"after {time.monotonic() - until + seconds:.3f} s: {answer[:80]!r}")
            await asyncio.sleep(0.1)
    return seen


if __name__ == "__main__":
    found = asyncio.run(flood(int(sys.argv[1])))
    sys.stdout.write(f"{found}\n")
    sys.exit(bool(found.failures or max(found.answers) > 1.0 or max(found.lives) > 15.0))
