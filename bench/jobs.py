"""What a job of an engine costs beside the row that it is about: `python -m bench.jobs`, on PostgreSQL with fsync on.

For PgQueuer, for Procrastinate where it is installed, for claiming and settling deliveries themselves, and for a
notice: processor time for each, in batches of 1, 10 and 100; how long it takes from the commit to the beginning of the
work; and what a worker costs that has nothing to do. About five minutes.
"""

import asyncio
import logging
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.settings import DBSettings
from pgqueuer.domain.types import Channel, QueueExecutionMode

from bench.processes import cpu_seconds
from instep.app.scheduler import TABLE_PREFIX, install_tables, make_queries
from instep.core.clock import now
from instep.core.db import Conn, Database
from instep.core.db_url import make_libpq_url
from instep.core.pubsub import NOTIFY_CHANNEL, PostgresRelay, PubSub, connect_unpooled
from instep.core.schema_migrations import migrate_schema
from instep.core.sql import notify_channel
from instep.domain.events import VerifiedDelivery
from instep.operations.repository import claim_due_operation
from instep.sync.repository import find_next_run
from instep.webhooks import repository
from tests.support.postgres import Postgres

try:
    import procrastinate
except ImportError:
    procrastinate = None  # type: ignore[assignment]

JOBS, SAMPLES, IDLE = 2_000, 25, 20.0
BATCHES = (1, 10, 100)
Begun = Callable[[], None]
Ask = Callable[[], Awaitable[Any]]


class Apart(PsycopgDriver):
    """PgQueuer's driver, but it listens on a connection of its own: the shipped one shares its connection."""

    def __init__(self, conn: Any, ears: Any) -> None:
        super().__init__(conn)
        self._ears = PsycopgDriver(ears)

    async def add_listener(self, channel: str, callback: Any) -> None:
        await self._ears.add_listener(channel, callback)

    async def __aexit__(self, *_: object) -> None:
        await self._ears.__aexit__(*_)
        await super().__aexit__(*_)


class PgQueuer:
    """PgQueuer with one entrypoint that does nothing but tell `begun`."""

    def __init__(self, db: Database, *, is_apart: bool) -> None:
        self.db, self.is_apart = db, is_apart

    @asynccontextmanager
    async def manager(self, begun: Begun) -> AsyncIterator[tuple[Any, QueueManager]]:
        conns = [await connect_unpooled(make_libpq_url(self.db.engine.url)) for _ in range(3)]
        asking, queries = make_queries(conns[0]), make_queries(conns[1])
        if self.is_apart:
            queries.driver = Apart(conns[1], conns[2])
        manager = QueueManager(queries, Channel(DBSettings(prefix=TABLE_PREFIX).channel))

        @manager.entrypoint("nothing")
        async def nothing(_: Any) -> None:
            begun()

        yield asking, manager
        for conn in conns:
            await conn.close()

    async def carry(self, count: int, batch: int) -> None:
        async with self.manager(lambda: None) as (asking, manager):
            for _ in range(count // batch):
                await asking.enqueue(["nothing"] * batch, [b"op_0123456789abcdef"] * batch, [0] * batch)
            await manager.run(batch_size=batch, mode=QueueExecutionMode.drain)

    @asynccontextmanager
    async def waiting(self, begun: Begun) -> AsyncIterator[Ask]:
        async with self.manager(begun) as (asking, manager):
            running = asyncio.create_task(manager.run())
            yield lambda: asking.enqueue("nothing", b"op_0123456789abcdef")
            manager.shutdown.set()
            await running


class Procrastinate:
    """Procrastinate with one task that does nothing but tell `begun`."""

    def __init__(self, db: Database) -> None:
        self.url = db.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._has_schema = False

    @asynccontextmanager
    async def app(self, begun: Begun) -> AsyncIterator[tuple[Any, Any]]:
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=self.url))

        @app.task(name="nothing")
        async def nothing(id: str) -> None:
            begun()

        async with app.open_async():
            if not self._has_schema:
                await app.schema_manager.apply_schema_async()
                self._has_schema = True
            yield app, nothing

    async def carry(self, count: int, batch: int) -> None:
        async with self.app(lambda: None) as (app, nothing):
            for _ in range(count // batch):
                await nothing.batch_defer_async(*[{"id": "op_0123456789abcdef"}] * batch)
            await app.run_worker_async(
                wait=False, concurrency=batch, delete_jobs="always", install_signal_handlers=False
            )

    @asynccontextmanager
    async def waiting(self, begun: Begun) -> AsyncIterator[Ask]:
        async with self.app(begun) as (app, nothing):
            running = asyncio.create_task(app.run_worker_async(delete_jobs="always", install_signal_handlers=False))
            yield lambda: nothing.defer_async(id="op_0123456789abcdef")
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class Rows:
    """The rows themselves: deliveries claimed and settled; waiting is looking every second."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def prepare(self, count: int) -> None:
        mark = random.random()
        kept = [
            VerifiedDelivery(id=f"{mark}.{n}", type="user.updated", body=b"{}", received_at=n, instance_id=None)
            for n in range(count)
        ]
        await self.db.write(repository.insert_deliveries, kept)

    async def carry(self, count: int, batch: int) -> None:
        for _ in range(count // batch):
            await self.db.write(self._one, batch)

    def _one(self, conn: Conn, batch: int) -> None:
        claimed = repository.claim_due_deliveries(conn, now=now(), limit=batch)
        repository.mark_processed(conn, {it.id: "changed" for it in claimed}, now=now())

    async def look(self) -> None:
        """What a worker with nothing to do looks at."""
        await self.db.write(repository.claim_due_deliveries, now=now(), limit=200)
        await self.db.write(claim_due_operation, now=now(), until=now())
        await self.db.read(find_next_run, now=now())

    @asynccontextmanager
    async def waiting(self, begun: Begun) -> AsyncIterator[Ask]:
        asked: list[int] = []

        async def look() -> None:
            while True:
                await self.look()
                if asked:
                    asked.clear()
                    begun()
                await asyncio.sleep(1)

        async def ask() -> None:
            asked.append(1)

        looking = asyncio.create_task(look())
        yield ask
        looking.cancel()


class Notices:
    """A notice through the connection that every process has for its open pages."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def carry(self, count: int, batch: int) -> None:
        for _ in range(count // batch):
            await self.db.write(notify_channel, NOTIFY_CHANNEL, ['{"from": "00000000", "topics": ["arrived"]}'])

    @asynccontextmanager
    async def waiting(self, begun: Begun) -> AsyncIterator[Ask]:
        here, there = PubSub(), PubSub()
        relays = [PostgresRelay(self.db, here), PostgresRelay(self.db, there)]
        for it in relays:
            it.start()
            await it.is_listening.wait()

        async def listen() -> None:
            async for _ in there.listen("topic"):
                begun()

        async def ask() -> None:
            here.publish(["topic"])

        listening = asyncio.create_task(listen())
        yield ask
        listening.cancel()
        for it in relays:
            await it.stop()


async def cost(what: str, it: Any, server: int) -> None:
    """Print the processor time that each takes in a batch of so many."""
    for batch in BATCHES:
        if isinstance(it, Rows):
            await it.prepare(JOBS)
        await it.carry(batch, batch)
        ours, theirs = time.process_time(), cpu_seconds(server)
        await it.carry(JOBS, batch)
        ours, theirs = time.process_time() - ours, cpu_seconds(server) - theirs
        each = [f"{1e6 * spent / JOBS:6.0f} us" for spent in (theirs, ours)]
        print(f"{what:34} batch {batch:3}: PostgreSQL {each[0]}, Python {each[1]}", flush=True)


async def delay(what: str, it: Any, server: int) -> None:
    """Print how long it takes from the commit to the beginning of the work, and what an idle worker costs."""
    begun = asyncio.Event()
    took = []
    async with it.waiting(begun.set) as ask:
        await asyncio.sleep(2)
        for _ in range(SAMPLES):
            await asyncio.sleep(random.uniform(0.3, 1.3))
            begun.clear()
            await ask()
            began = time.monotonic()
            await asyncio.wait_for(begun.wait(), 30)
            took.append(1e3 * (time.monotonic() - began))
        await asyncio.sleep(2)
        ours, theirs = time.process_time(), cpu_seconds(server)
        await asyncio.sleep(IDLE)
        idle = [
            1e3 * (it - before) / IDLE for it, before in ((cpu_seconds(server), theirs), (time.process_time(), ours))
        ]
    middle, most = statistics.median(took), max(took)
    told = f"begins after {middle:6.1f} ms (median), {most:6.1f} ms (most)"
    print(f"{what:34} {told}; idle: PostgreSQL {idle[0]:.1f} ms a second, Python {idle[1]:.1f}", flush=True)


async def measure(url: str, server: int) -> None:
    """Everything on one database."""
    db = Database(url)
    migrate_schema(db.engine)
    await install_tables(db)
    apart = PgQueuer(db, is_apart=True)
    engines = [("PgQueuer", apart), *([("Procrastinate", Procrastinate(db))] if procrastinate else [])]
    for what, it in [*engines, ("claim and settle the rows", Rows(db)), ("a notice", Notices(db))]:
        await cost(what, it, server)
    shared = ("PgQueuer, its driver as shipped", PgQueuer(db, is_apart=False))
    for what, waiter in [shared, *engines, ("look every second", Rows(db)), ("a notice", Notices(db))]:
        await delay(what, waiter, server)
    db.close()


def main() -> None:
    """On a server of its own."""
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    postgres = Postgres(durable=True)
    try:
        server = int((postgres.folder / "data" / "postmaster.pid").read_text().split()[0])
        with postgres.database() as url:
            asyncio.run(measure(url, server))
    finally:
        postgres.stop()


if __name__ == "__main__":
    main()
