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
    """Topics that open pages subscribe to. Repeated changes are coalesced for slow listeners, but never lost.

    `relay`, if set, sends published topics to the other processes.
    """

    def __init__(self) -> None:
        self.relay: Callable[[Iterable[str]], None] | None = None
        self._listeners: dict[str, set[asyncio.Event]] = {}

    def publish(self, topics: Iterable[str]) -> None:
        """Notify listeners of these topics, here and in every other process."""
        changed = list(topics)
        self.publish_local(changed)
        if self.relay is not None:
            self.relay(changed)

    def publish_local(self, topics: Iterable[str]) -> None:
        """Notify listeners of these topics in this process only."""
        for topic in topics:
            for event in self._listeners.get(topic, ()):
                event.set()

    async def listen(self, *topics: str) -> AsyncIterator[str]:
        """Yield each time one of these topics changes, until the reader closes the iterator."""
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
                self._unsubscribe(topic, event)

    def _unsubscribe(self, topic: str, event: asyncio.Event) -> None:
        listeners = self._listeners[topic]
        listeners.discard(event)
        if not listeners:
            del self._listeners[topic]

    def count_listeners(self) -> int:
        """Return the number of listeners."""
        return len({event for events in self._listeners.values() for event in events})


log = structlog.get_logger(__name__)
NOTIFY_CHANNEL = "instep_live"
RECONNECT_DELAY = 2.0
MAX_PAYLOAD_BYTES = 7_000


class PostgresRelay:
    """Connects this process's topics with those of every other process on the same PostgreSQL database.

    Best effort: a lost notification delays an open page until its next refresh and never loses data. A lost connection
    is reopened every two seconds. `listen_url` is a direct URL of the same database, for use behind a connection
    pooler: LISTEN does not work through one, and `is_listening` is then never set.
    """

    def __init__(self, db: Database, pubsub: PubSub, *, listen_url: str | None = None) -> None:
        self._db, self._pubsub = db, pubsub
        self._url = make_libpq_url(listen_url or db.engine.url)
        self._process_id = secrets.token_hex(4)
        self._outgoing: set[str] = set()
        self._has_outgoing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.is_listening = asyncio.Event()

    def start(self) -> None:
        """Start on the running event loop; from now on `PubSub.publish` reaches the other processes."""
        self._pubsub.relay = self.send
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._notify())]

    async def stop(self) -> None:
        """Stop both directions."""
        self._pubsub.relay = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def send(self, topics: Iterable[str]) -> None:
        """Notify the other processes; many topics at once become one notification."""
        self._outgoing.update(topics)
        if self._outgoing:
            self._has_outgoing.set()

    async def _notify(self) -> None:
        while True:
            await self._has_outgoing.wait()
            self._has_outgoing.clear()
            topics, self._outgoing = sorted(self._outgoing), set()
            try:
                await self._db.write(
                    notify_channel, NOTIFY_CHANNEL, [self._encode_payload(batch) for batch in _batch_topics(topics)]
                )
            except InstepError as error:
                log.warning("relay_notify_failed", error=describe_error(error))

    def _encode_payload(self, topics: list[str]) -> str:
        return msgspec.json.encode({"from": self._process_id, "topics": topics}).decode()

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except psycopg.Error as error:
                log.warning("relay_connection_lost", error=str(error).strip())
            self.is_listening.clear()
            await asyncio.sleep(RECONNECT_DELAY)

    async def _listen_once(self) -> None:
        async with await connect_unpooled(self._url) as conn:
            if await is_behind_pooler(conn):
                log.warning("relay_behind_pooler", hint="set INSTEP_DATABASE_LISTEN_URL to a direct address")
                await asyncio.Event().wait()
            await conn.execute(f"LISTEN {NOTIFY_CHANNEL}")
            self.is_listening.set()
            async for notification in conn.notifies():
                self._receive(notification.payload)

    def _receive(self, payload: str) -> None:
        try:
            message = msgspec.json.decode(payload, type=_RelayMessage)
        except msgspec.MsgspecError:
            return
        if message.sender != self._process_id:
            self._pubsub.publish_local(message.topics)


async def connect_unpooled(url: str) -> psycopg.AsyncConnection[Any]:
    """Open a connection outside the pool; nothing is prepared on it, so that it works through any pooler."""
    return await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None, connect_timeout=5)


async def is_behind_pooler(conn: psycopg.AsyncConnection[Any]) -> bool:
    """Return whether the server's process is not the one that was announced when the connection began."""
    row = await (await conn.execute("SELECT pg_backend_pid()")).fetchone()
    return row is None or row[0] != conn.info.backend_pid


class _RelayMessage(msgspec.Struct, rename={"sender": "from"}):
    sender: str
    topics: list[str]


def _batch_topics(topics: list[str]) -> list[list[str]]:
    """Split topics into notifications within PostgreSQL's limit (8,000 bytes)."""
    batches: list[list[str]] = [[]]
    size = 0
    for topic in topics:
        size += len(topic.encode()) + 4
        if size > MAX_PAYLOAD_BYTES:
            batches.append([])
            size = len(topic.encode()) + 4
        batches[-1].append(topic)
    return batches
