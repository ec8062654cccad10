"""Publish and subscribe to topics, within a process and across processes by PostgreSQL."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec
import psycopg
import structlog

from instep.core.db import Database
from instep.core.db_url import make_libpq_url
from instep.core.errors import InstepError, describe_error
from instep.core.sql import notify_channel


class PubSub:
    """Topics of open pages. A listener that is slow misses repetitions, never the fact that something changed.

    `relay`, where there is one, carries what is published to the other processes.
    """

    def __init__(self) -> None:
        self.relay: Callable[[Iterable[str]], None] | None = None
        self._listeners: dict[str, set[asyncio.Event]] = {}

    def publish(self, topics: Iterable[str]) -> None:
        """Say that these changed, here and in every other process."""
        told = list(topics)
        self.tell(told)
        if self.relay is not None:
            self.relay(told)

    def tell(self, topics: Iterable[str]) -> None:
        """Say it to the listeners of this process alone."""
        for topic in topics:
            for event in self._listeners.get(topic, ()):
                event.set()

    async def listen(self, *topics: str) -> AsyncIterator[str]:
        """Yields each time that one of these changed, until the reader goes away."""
        event = asyncio.Event()
        for topic in topics:
            self._listeners.setdefault(topic, set()).add(event)
        try:
            while True:
                await event.wait()
                event.clear()
                yield topics[0]
        finally:
            for topic in topics:
                self._forget(topic, event)

    def _forget(self, topic: str, event: asyncio.Event) -> None:
        listeners = self._listeners[topic]
        listeners.discard(event)
        if not listeners:
            del self._listeners[topic]

    def listeners(self) -> int:
        """How many are listening."""
        return len({event for events in self._listeners.values() for event in events})


log = structlog.get_logger(__name__)
NOTIFY_CHANNEL = "instep_live"
RECONNECT_DELAY = 2.0
MAX_PAYLOAD_BYTES = 7_000


class PostgresRelay:
    """Joins this process's topics with those of every other process on the same PostgreSQL.

    Nothing depends on it: a notice that is lost costs an open page its next refresh, never data. While the connection
    is down it is tried again every two seconds. `listen_url` is a direct address of the same database, for where a
    connection pooler stands before it: through one nothing can be listened to, and then `is_listening` is never set.
    """

    def __init__(self, db: Database, live: PubSub, *, listen_url: str | None = None) -> None:
        self._db, self._live = db, live
        self._address = make_libpq_url(listen_url or db.engine.url)
        self._me = secrets.token_hex(4)
        self._out: set[str] = set()
        self._has_news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.is_listening = asyncio.Event()

    def start(self) -> None:
        """Begin, on the running event loop; `Live.publish` reaches the other processes from now on."""
        self._live.relay = self.send
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._tell())]

    async def stop(self) -> None:
        """End both directions."""
        self._live.relay = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def send(self, topics: Iterable[str]) -> None:
        """Tell the others; many topics at once are one notice."""
        self._out.update(topics)
        if self._out:
            self._has_news.set()

    async def _tell(self) -> None:
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            topics, self._out = sorted(self._out), set()
            try:
                await self._db.write(
                    notify_channel, NOTIFY_CHANNEL, [self._payload(part) for part in _split_topics(topics)]
                )
            except InstepError as error:
                log.warning("relay_not_told", error=describe_error(error))

    def _payload(self, topics: list[str]) -> str:
        return msgspec.json.encode({"from": self._me, "topics": topics}).decode()

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except psycopg.Error as error:
                log.warning("relay_deaf", error=str(error).strip())
            self.is_listening.clear()
            await asyncio.sleep(RECONNECT_DELAY)

    async def _listen_once(self) -> None:
        async with await connect_unpooled(self._address) as conn:
            if await is_behind_pooler(conn):
                log.warning("relay_behind_pooler", hint="set INSTEP_DATABASE_LISTEN_URL to a direct address")
                await asyncio.Event().wait()
            await conn.execute(f"LISTEN {NOTIFY_CHANNEL}")
            self.is_listening.set()
            async for notice in conn.notifies():
                self._hear(notice.payload)

    def _hear(self, payload: str) -> None:
        try:
            said = msgspec.json.decode(payload, type=_RelayMessage)
        except msgspec.MsgspecError:
            return
        if said.sender != self._me:
            self._live.tell(said.topics)


async def connect_unpooled(address: str) -> psycopg.AsyncConnection[Any]:
    """Open a connection of one's own, outside the pool; nothing is prepared on it, so that any pooler carries it."""
    return await psycopg.AsyncConnection.connect(address, autocommit=True, prepare_threshold=None, connect_timeout=5)


async def is_behind_pooler(conn: psycopg.AsyncConnection[Any]) -> bool:
    """Return whether the server's process is another than the one the connection was told of when it began."""
    row = await (await conn.execute("SELECT pg_backend_pid()")).fetchone()
    return row is None or row[0] != conn.info.backend_pid


class _RelayMessage(msgspec.Struct, rename={"sender": "from"}):
    sender: str
    topics: list[str]


def _split_topics(topics: list[str]) -> list[list[str]]:
    """Topics in notices that PostgreSQL takes (8,000 bytes at the most)."""
    parts: list[list[str]] = [[]]
    size = 0
    for topic in topics:
        size += len(topic.encode()) + 4
        if size > MAX_PAYLOAD_BYTES:
            parts.append([])
            size = len(topic.encode()) + 4
        parts[-1].append(topic)
    return parts
