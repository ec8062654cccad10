"""E10: a live channel ends once its reader has signed out, was removed, or may not see the page any more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from instep.auth.authenticator import SESSION_COOKIE
from instep.console import responses
from instep.domain.models import SessionClaims
from instep.mirror.tables import users
from tests.support.town import SEED
from tests.support.world import OURS, Firm

pytestmark = pytest.mark.anyio

PING = 0.05
PATIENCE = 20
MEMBERS, ATTENTION = "/organizations/northwind/members/live", "/organizations/northwind/attention/live"


@pytest.fixture(autouse=True)
def frequent_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ping often."""
    monkeypatch.setattr(responses, "PING_SECONDS", PING)


class Channel:
    """An open channel: what came, and whether it has ended."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.status = 0
        self.begun, self.changed = asyncio.Event(), asyncio.Event()

    async def send(self, message: Any) -> None:
        """Receive a part."""
        self.status = message.get("status", self.status)
        self.parts.append(message.get("body", b""))
        if b"ready" in self.parts[-1]:
            self.begun.set()
        if b"event: change" in self.parts[-1]:
            self.changed.set()


@asynccontextmanager
async def opened(firm: Firm, path: str, cookie: str) -> AsyncIterator[tuple[Channel, asyncio.Task[None]]]:
    """Open a channel; it is closed at the end, whatever it did."""
    channel, gone = Channel(), asyncio.Event()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"cookie", cookie.encode()), (b"accept", b"text/event-stream")],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8000),
    }

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    task = asyncio.create_task(firm.app(scope, receive, channel.send))
    try:
        await asyncio.wait_for(channel.begun.wait(), PATIENCE)
        yield channel, task
    finally:
        gone.set()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), PATIENCE)


async def cookie_of(firm: Firm, email: str) -> str:
    claims = SessionClaims(user=firm.user_id(email), session="sess_1")
    return f"{SESSION_COOKIE}={await firm.services.authenticator.sessions.open(claims)}"


async def settled(firm: Firm) -> None:
    firm.emulator.seed(SEED)
    await firm.settle()


async def member(firm: Firm, email: str) -> str:
    people = (await firm.api().get("/v1/organizations/northwind/people")).json()["data"]
    (found,) = [it["member"]["user_id"] for it in people if it["kind"] == "member" and it["member"]["email"] == email]
    return str(found)


async def sign_out(firm: Firm, cookie: str) -> None:
    answer = await firm.api(None, cookie=cookie, origin=OURS).post("/sign-out")
    assert answer.status_code == 303


async def remove(firm: Firm, _cookie: str) -> None:
    rhea = await member(firm, "rhea@example.com")
    assert (await firm.api().delete(f"/v1/organizations/northwind/members/{rhea}")).status_code == 200


async def deactivate(firm: Firm, _cookie: str) -> None:
    rhea = await member(firm, "rhea@example.com")
    assert (await firm.api().post(f"/v1/organizations/northwind/members/{rhea}/deactivate")).status_code == 200


async def demote(firm: Firm, _cookie: str) -> None:
    rhea = await member(firm, "rhea@example.com")
    answer = await firm.api().patch(f"/v1/organizations/northwind/members/{rhea}", json={"role": "org:member"})
    assert answer.status_code == 200


async def bar(firm: Firm, _cookie: str) -> None:
    barred = sa.update(users).where(users.c.email == "rhea@example.com").values(is_banned=True)
    firm.services.db.write_sync(lambda conn: conn.execute(barred))


@pytest.mark.parametrize(
    ("path", "what"),
    [
        (MEMBERS, sign_out),
        (MEMBERS, remove),
        (MEMBERS, deactivate),
        (MEMBERS, bar),
        (ATTENTION, sign_out),
        (ATTENTION, demote),
    ],
)
async def test_e10_the_channel_of_a_reader_who_may_not_read_any_more_ends(
    sqlite_firm: Firm, path: str, what: Callable[[Firm, str], Any]
) -> None:
    firm = sqlite_firm
    await settled(firm)
    joined = {"user_id": firm.user_id("rhea@example.com"), "role": "org:admin"}
    northwind = firm.organization_id("northwind")
    assert (await firm.clerk().post(f"/v1/organizations/{northwind}/memberships", json=joined)).status_code == 200
    await firm.settle()
    cookie = await cookie_of(firm, "rhea@example.com")
    async with opened(firm, path, cookie) as (channel, task):
        assert channel.status == 200
        await what(firm, cookie)
        await asyncio.wait_for(asyncio.shield(task), PATIENCE)


async def test_e10_the_channel_of_a_reader_in_good_standing_goes_on(sqlite_firm: Firm) -> None:
    firm = sqlite_firm
    await settled(firm)
    cookie = await cookie_of(firm, "dana@example.com")
    checks, enough = 0, asyncio.Event()
    find = firm.services.authenticator.sessions.db.read

    async def counted(fn: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal checks
        checks += fn.__name__ == "find_session"
        if checks >= 4:
            enough.set()
        return await find(fn, *args, **kwargs)

    firm.services.authenticator.sessions.db.read = counted  # type: ignore[method-assign]  # it only counts
    async with opened(firm, MEMBERS, cookie) as (channel, task):
        await asyncio.wait_for(enough.wait(), PATIENCE)
        assert not task.done()
        firm.services.pubsub.publish([await northwind_of(firm)])
        await asyncio.wait_for(channel.changed.wait(), PATIENCE)
    assert firm.services.pubsub.count_listeners() == 0


async def northwind_of(firm: Firm) -> str:
    """Return instep's id of Northwind."""
    from instep.mirror.repository import find_organization

    found = await firm.services.db.read(find_organization, "northwind")
    assert found is not None
    return found.id
