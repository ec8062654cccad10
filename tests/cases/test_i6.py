"""A test that resets the emulator and names its endpoint begins with that one endpoint and nothing else."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from clerk_emulator.pytest_plugin import Clerk
from tests.support.emulated import asking, emulated

pytestmark = pytest.mark.anyio
HERE = "http://127.0.0.1:9/webhooks"
ELSEWHERE = "http://127.0.0.1:9/others"
SECRET = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0"


@pytest.fixture
def clerk() -> Iterator[Clerk]:
    """Return an emulator in process."""
    with emulated() as clerk:
        yield clerk


async def desk(clerk: Clerk, method: str, path: str, body: Any = None) -> Any:
    """Ask the control API."""
    async with asking(clerk) as http:
        answer = await http.request(method, f"/_emulator{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def endpoints(clerk: Clerk) -> list[Any]:
    """Return the endpoints that there are."""
    found: list[Any] = (await desk(clerk, "GET", "/endpoints"))["data"]
    return found


async def test_i6_an_endpoint_with_the_same_address_replaces_the_earlier_one(clerk: Clerk) -> None:
    await desk(clerk, "POST", "/endpoints", {"url": HERE, "events": ["user.created"]})
    other = await desk(clerk, "POST", "/endpoints", {"url": ELSEWHERE})
    again = await desk(clerk, "POST", "/endpoints", {"url": HERE, "secret": SECRET})
    assert sorted(await endpoints(clerk), key=lambda one: one["url"]) == [other, again]
    assert (again["secret"], again["events"]) == (SECRET, [])


async def test_i6_what_is_on_its_way_goes_to_the_endpoint_that_replaces(clerk: Clerk) -> None:
    first = await desk(clerk, "POST", "/endpoints", {"url": HERE})
    clerk.seed(users=[{"email_address": "ada@example.com"}], events=True)
    again = await desk(clerk, "POST", "/endpoints", {"url": HERE})
    assert again == first  # whoever says nothing of a secret keeps the one that their application has
    assert [one["status"] for one in clerk.deliveries] == ["pending"]


async def test_i6_a_seed_replaces_endpoints_too(clerk: Clerk) -> None:
    for _ in range(3):
        await desk(clerk, "POST", "/seed", {"endpoints": [{"url": HERE, "secret": SECRET}]})
    assert [one["url"] for one in await endpoints(clerk)] == [HERE]


async def test_i6_an_endpoint_in_process_replaces_the_one_at_its_address(clerk: Clerk) -> None:
    got: list[str] = []
    for name in ("first", "second"):

        def answer(request: httpx2.Request, name: str = name) -> httpx2.Response:
            got.append(name)
            return httpx2.Response(204)

        transport = httpx2.MockTransport(answer)
        clerk.emulator.webhooks.connect("http://app.test/webhooks", transport=transport)
        clerk.seed(users=[{"email_address": f"{name}@example.com"}], events=True)
        await clerk.drain()
    assert got == ["first", "second"]


async def test_i6_a_reset_takes_everything_away_unless_it_is_told_to_keep_endpoints(clerk: Clerk) -> None:
    await desk(clerk, "POST", "/endpoints", {"url": HERE})
    clerk.seed(users=[{"email_address": "ada@example.com"}], events=True)
    await desk(clerk, "POST", "/settings", {"rate_limits": "production"})
    await desk(clerk, "POST", "/faults", {"operation": "GetUser", "status": 500})
    await desk(clerk, "POST", "/clock/advance", {"days": 3})
    await desk(clerk, "POST", "/reset", {"endpoints": True})
    assert [one["url"] for one in await endpoints(clerk)] == [HERE]
    await desk(clerk, "POST", "/reset")
    assert await endpoints(clerk) == []
    totals = (await desk(clerk, "GET", "/state"))["totals"]
    assert set(totals.values()) == {0}
    assert (await desk(clerk, "GET", "/faults"))["data"] == []
    assert (await desk(clerk, "GET", "/settings"))["rate_limits"] == "off"
    clock = await desk(clerk, "GET", "/clock")
    assert abs(clock["now"] - clock["wall"]) < 86_400_000


async def test_i6_nothing_from_before_a_reset_is_delivered_after_it(clerk: Clerk) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()
    got: list[str] = []

    async def receive(request: httpx2.Request) -> httpx2.Response:
        got.append(request.headers["svix-id"])
        begun.set()
        await goes_on.wait()
        return httpx2.Response(204)

    clerk.emulator.webhooks.connect("http://app.test/webhooks", transport=httpx2.MockTransport(receive))
    clerk.seed(users=[{"email_address": "ada@example.com"}, {"email_address": "bo@example.com"}], events=True)
    draining = asyncio.create_task(clerk.drain())
    await begun.wait()
    await desk(clerk, "POST", "/reset", {"endpoints": True})
    goes_on.set()
    await draining
    assert len(got) == 1
