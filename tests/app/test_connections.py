"""Connections that are not finished are ended, and others are not."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from instep.app import connections
from instep.app.connections import BoundedProtocol, ConnectionLimits, limit_to_open_files, make_protocol
from tests.support.flood import ask
from tests.support.world import QuietServer

pytestmark = pytest.mark.anyio

GUARD = 30.0  # seconds after which a test has failed that waits for an end
QUICK = ConnectionLimits(head=0.2, body=0.2, idle=1, connections=50)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
App = Callable[[Any, Any, Any], Awaitable[None]]


async def start(send: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def finish(send: Any, body: bytes = b"ok") -> None:
    await send({"type": "http.response.body", "body": body})


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """Answers without a look at the body."""
    await start(send, 200, (b"content-length", b"2"))
    await finish(send)


async def reading(scope: Any, receive: Any, send: Any) -> None:
    """Answers once it has the body, and says how much it was."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await start(send)
    await finish(send, str(size).encode())


@dataclass
class Served:
    """A server, and the connections that a test has to it."""

    port: int
    protocol: type[BoundedProtocol]
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(
        self, sent: bytes = b"", limit: int = 65_536
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        self.writers.append(writer)
        writer.write(sent)
        return reader, writer


@contextlib.asynccontextmanager
async def serving(app: App, limits: ConnectionLimits = QUICK) -> AsyncIterator[Served]:
    """A server with these limits."""
    protocol = make_protocol(limits)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=protocol, lifespan="off", ws="none", log_level="critical")
    server = QuietServer(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    served = Served(listener.getsockname()[1], protocol)
    try:
        async with asyncio.timeout(GUARD):
            yield served
    finally:
        for writer in served.writers:
            writer.close()
        await asyncio.gather(*(it.wait_closed() for it in served.writers), return_exceptions=True)
        server.should_exit = server.force_exit = True
        await task
        listener.close()


async def until(holds: Callable[[], object]) -> None:
    """Wait for something that has no event of its own."""
    for _ in range(int(GUARD / 0.01)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


async def end_of(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server ends the connection, however it does."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65_536):
            received += piece
    return received


async def test_a_silent_connection_is_closed() -> None:
    async with serving(plain) as served:
        assert await end_of((await served.connect())[0]) == b""


async def test_an_incomplete_head_gets_408() -> None:
    async with serving(plain) as served:
        reader, writer = await served.connect(b"GET / HTTP/1.1\r\nX-A: ")
        end = asyncio.create_task(end_of(reader))
        while not end.done():
            writer.write(b"a")
            await asyncio.sleep(0.02)
        assert (await end).startswith(b"HTTP/1.1 408 ")


async def test_a_slow_body_gets_408_and_the_application_sees_a_disconnect() -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            pass
        heard.put_nowait(message["type"])

    async with serving(app) as served:
        reader, writer = await served.connect(POST)
        end = asyncio.create_task(end_of(reader))
        while not end.done():
            writer.write(b"a")
            await asyncio.sleep(0.02)
        assert (await end).startswith(b"HTTP/1.1 408 ")
        assert await heard.get() == "http.disconnect"


async def test_a_body_that_comes_fast_enough_may_take_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MIN_BODY_RATE", 1_000)
    async with serving(reading) as served:
        reader, writer = await served.connect(POST.replace(b"1000", b"4000"))
        for _ in range(40):
            writer.write(b"a" * 100)
            await asyncio.sleep(0.02)
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")


async def test_a_body_that_waits_for_the_application_is_not_ended() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(1)
        await reading(scope, receive, send)

    async with serving(app) as served:
        length = 1_000_000
        reader, writer = await served.connect(POST.replace(b"1000", str(length).encode()))
        writer.write(b"a" * length)
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        assert str(length).encode() in await reader.readuntil(str(length).encode())


async def test_an_application_that_takes_its_time_is_waited_for() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(1)
        await plain(scope, receive, send)

    async with serving(app) as served:
        reader, _ = await served.connect(GET)
        assert b"200 OK" in await reader.readuntil(b"ok")


async def test_a_stream_lives_longer_than_every_time_out() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        for n in range(6):
            await asyncio.sleep(0.3)
            await send({"type": "http.response.body", "body": b"tick %d;" % n, "more_body": True})
        await finish(send, b"")

    async with serving(app) as served:
        reader, _ = await served.connect(GET)
        assert b"tick 5;" in await reader.readuntil(b"tick 5;")


async def test_an_idle_connection_is_ended_and_can_be_used_until_then() -> None:
    async with serving(plain) as served:
        reader, writer = await served.connect()
        for _ in range(3):
            writer.write(GET)
            await reader.readuntil(b"ok")
            await asyncio.sleep(0.3)
        assert await end_of(reader) == b""


async def test_requests_on_one_connection_are_answered_in_turn_however_they_are_cut() -> None:
    async with serving(reading) as served:
        reader, writer = await served.connect()
        sent = (POST.replace(b"1000", b"3") + b"abc" + GET) * 3
        for n in range(0, len(sent), 7):
            writer.write(sent[n : n + 7])
            await asyncio.sleep(0.001)
        for size in (b"3", b"0") * 3:
            assert size in await reader.readuntil(b"\r\n" + size + b"\r\n0\r\n\r\n")


async def test_a_head_without_an_end_is_refused() -> None:
    async with serving(plain, ConnectionLimits(head=20)) as served:
        reader, writer = await served.connect(b"GET / HTTP/1.1\r\n")
        end = asyncio.create_task(end_of(reader))
        sent = 0
        while not end.done():
            writer.write(b"X-A: " + b"a" * 1_000 + b"\r\n")
            sent += 1_000
            await asyncio.sleep(0.001)
        assert sent < 1_000_000
        assert b"200 OK" not in await end


async def test_an_unread_body_is_not_read_indefinitely() -> None:
    async with serving(plain, ConnectionLimits()) as served:
        reader, writer = await served.connect(POST.replace(b"1000", b"200000000"))
        assert b"200 OK" in await reader.readuntil(b"ok")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 200_000_000:
                writer.write(b"a" * 100_000)
                await writer.drain()
                sent += 100_000
        assert sent < 50_000_000


async def test_a_client_that_sends_everything_first_still_gets_the_response() -> None:
    async with serving(plain, ConnectionLimits()) as served:
        reader, writer = await served.connect(POST.replace(b"1000", b"2000000"))
        writer.write(b"a" * 2_000_000)
        await writer.drain()
        assert b"200 OK" in await end_of(reader)


async def big(scope: Any, receive: Any, send: Any) -> None:
    """Twenty megabytes."""
    await start(send)
    for _ in range(200):
        await send({"type": "http.response.body", "body": b"a" * 100_000, "more_body": True})
    await finish(send, b"")


async def test_a_slow_reader_gets_everything_and_one_that_stalls_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_TIMEOUT", 0.3)
    async with serving(big) as served:
        reader, _ = await served.connect(GET, limit=10_000)
        received = 0
        while received < 20_000_000:
            received += len(await reader.readexactly(100_000))
            await asyncio.sleep(0.005)
        stalled, _ = await served.connect(GET, limit=10_000)
        await until(lambda: served.protocol.stalled)
        await until(lambda: not served.protocol.stalled)
        assert len(await end_of(stalled)) < 20_000_000


async def test_at_the_limit_the_connection_waited_for_longest_is_closed() -> None:
    async with serving(plain, ConnectionLimits(head=20, connections=10)) as served:
        held = [await served.connect(b"GET / HT") for _ in range(10)]
        await until(lambda: len(served.protocol.waiting) == 10)
        answer = await ask(served.port, GET.replace(b"Host: a", b"Host: a\r\nConnection: close"))
        assert b"200 OK" in answer
        assert await end_of(held[0][0]) == b""
        for _, writer in held[1:]:
            writer.write(b"TP/1.1\r\nConnection: close\r\n\r\n")
        assert all([b"200 OK" in await end_of(reader) for reader, _ in held[1:]])


async def test_a_new_connection_is_refused_only_where_every_other_is_being_answered() -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await plain(scope, receive, send)

    async with serving(app, ConnectionLimits(connections=3)) as served:
        held = [await served.connect(GET.replace(b"Host", b"Connection: close\r\nHost")) for _ in range(3)]
        await until(lambda: not served.protocol.waiting)
        assert (await end_of((await served.connect())[0])).startswith(b"HTTP/1.1 503 ")
        go_on.set()
        assert all([b"200 OK" in await end_of(reader) for reader, _ in held])


async def test_nothing_of_a_connection_is_kept_when_it_has_ended() -> None:
    async with serving(plain) as served:
        for sent in (b"", b"GET / H", GET, POST, b"nonsense\r\n\r\n"):
            _, writer = await served.connect(sent)
            writer.transport.abort()
        await until(lambda: not served.protocol.waiting and not served.protocol.stalled)


@pytest.mark.parametrize(("files", "connections"), [(256, 160), (1_024, 800), (20_000, 2_000), (64, 13)])
def test_the_limit_leaves_descriptors_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, files: int, connections: int
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))
    assert limit_to_open_files(2_000) == connections
