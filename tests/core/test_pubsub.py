"""Every open page is notified at least once of changes of its topics, and only of these."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from instep.core.pubsub import PubSub

pytestmark = pytest.mark.anyio


class Page:
    """One open page."""

    def __init__(self, live: PubSub, *topics: str) -> None:
        self.heard = 0
        self._news: AsyncIterator[str] = live.listen(*topics)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for _ in self._news:
            self.heard += 1

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


async def turn() -> None:
    """Let everyone who is awake go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_only_listeners_of_a_topic_are_notified() -> None:
    live = PubSub()
    ours, theirs, both = Page(live, "a"), Page(live, "b"), Page(live, "a", "b")
    await turn()
    live.publish(["a"])
    await turn()
    assert (ours.heard, theirs.heard, both.heard) == (1, 0, 1)
    for page in (ours, theirs, both):
        await page.close()


async def test_a_slow_page_misses_repetitions_but_never_the_last_change() -> None:
    live = PubSub()
    news = live.listen("a")
    first = asyncio.ensure_future(anext(news))
    await turn()
    for _ in range(10):
        live.publish(["a"])
    await first
    live.publish(["a"])
    live.publish(["a"])
    await anext(news)
    waiting = asyncio.ensure_future(anext(news))
    await turn()
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_closed_page_is_unsubscribed() -> None:
    live = PubSub()
    pages = [Page(live, "a", "b"), Page(live, "a")]
    await turn()
    assert live.count_listeners() == 2
    for page in pages:
        await page.close()
    assert live.count_listeners() == 0
    live.publish(["a", "b", "nobody listens"])


async def test_local_changes_are_relayed_and_relayed_ones_are_not() -> None:
    live, carried = PubSub(), list[list[str]]()

    def relay(topics: Iterable[str]) -> None:
        carried.append(list(topics))

    live.relay = relay
    page = Page(live, "a")
    await turn()
    live.publish(topic for topic in ("a", "b"))
    live.publish_local(["a"])
    await turn()
    assert carried == [["a", "b"]]
    assert page.heard >= 1
    await page.close()
