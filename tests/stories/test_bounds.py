"""Whatever JSON of the right shape comes in, everything can be shown: no 5xx, no export cut off, nobody else lost.

Hostile objects and events go in by signed webhooks, by the sync and by live reads, hostile requests by the API and the
console's forms; then every page, list, export and single thing is read back, on both databases.
"""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.bounds import Probe, make_probe
from tests.support.hostile import SHAPES, Made
from tests.support.hostile_requests import Asked
from tests.support.hostile_strategies import events, objects, requests

EXAMPLES = 5


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One event loop for all examples of a property."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def probe(migrated_url: str, loop: asyncio.AbstractEventLoop) -> Iterator[Probe]:
    """instep on each database, with a Clerk that says what it is told."""
    probe = loop.run_until_complete(make_probe(migrated_url))
    yield probe
    loop.run_until_complete(probe.close())


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # hostile values are large on purpose
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(
    made=st.tuples(*(objects(f"m{n}", kind) for n, kind in enumerate((*SHAPES, "user", "invitation")))),
    sent=st.tuples(*(events(f"e{n}") for n in range(16))),
    asked=st.lists(requests(), min_size=8, max_size=16),
)
def test_whatever_comes_in_everything_can_be_shown(
    probe: Probe,
    loop: asyncio.AbstractEventLoop,
    made: tuple[Made, ...],
    sent: tuple[Made, ...],
    asked: list[Asked],
) -> None:
    async def live() -> None:
        await probe.feed(made, sent)
        await probe.sync()
        await probe.ask(asked)
        await probe.look()

    try:
        loop.run_until_complete(live())
        assert probe.faults == []
    finally:
        probe.clear()
