"""Changes in one replica update the open pages of another; a lost connection only delays them."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from instep.core.db import Database
from instep.core.pubsub import MAX_PAYLOAD_BYTES, NOTIFY_CHANNEL, PostgresRelay, PubSub, _batch_topics

pytestmark = pytest.mark.anyio
PATIENCE = 20


class Replica:
    def __init__(self, url: str) -> None:
        self.db, self.live = Database(url), PubSub()
        self.relay = PostgresRelay(self.db, self.live)

    async def start(self) -> None:
        self.relay.start()
        async with asyncio.timeout(PATIENCE):
            await self.relay.is_listening.wait()

    async def stop(self) -> None:
        await self.relay.stop()
        self.db.close()

    async def hears(self, topic: str) -> asyncio.Task[str]:
        """Listening begins before this returns."""
        task = asyncio.ensure_future(anext(aiter(self.live.listen(topic))))
        await asyncio.sleep(0)
        assert self.live.count_listeners() == 1
        return task


@pytest.fixture
async def replicas(postgres_url: str) -> AsyncIterator[list[Replica]]:
    replicas = [Replica(postgres_url), Replica(postgres_url)]
    for it in replicas:
        await it.start()
    yield replicas
    for it in replicas:
        await it.stop()


async def test_pages_of_another_replica_are_notified(replicas: list[Replica]) -> None:
    here, there = replicas
    heard = await there.hears("ogn_1")
    here.live.publish(["ogn_1", "ogn_2"])
    async with asyncio.timeout(PATIENCE):
        assert await heard == "ogn_1"


async def test_a_lost_connection_is_reopened(replicas: list[Replica], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instep.core.pubsub.RECONNECT_DELAY", 0)
    here, there = replicas
    cut = sa.text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE :listening")
    for it in replicas:
        it.relay.is_listening.clear()
    here.db.write_sync(lambda conn: conn.execute(cut, {"listening": f"LISTEN {NOTIFY_CHANNEL}%"}).scalar_one())
    async with asyncio.timeout(PATIENCE):
        await there.relay.is_listening.wait()
    heard = await there.hears("ogn_1")
    here.live.publish(["ogn_1"])
    async with asyncio.timeout(PATIENCE):
        assert await heard == "ogn_1"


async def test_unknown_payloads_are_ignored(replicas: list[Replica]) -> None:
    here, there = replicas
    heard = await there.hears("ogn_1")
    here.db.write_sync(lambda conn: conn.execute(sa.select(sa.func.pg_notify(NOTIFY_CHANNEL, "noise"))).all())
    here.live.publish(["ogn_1"])
    async with asyncio.timeout(PATIENCE):
        assert await heard == "ogn_1"


def test_many_topics_are_split_and_none_is_lost() -> None:
    topics = [f"ogn_{n:026d}" for n in range(1_000)]
    parts = _batch_topics(topics)
    assert [topic for part in parts for topic in part] == topics
    assert all(sum(len(topic) + 4 for topic in part) <= MAX_PAYLOAD_BYTES for part in parts)
