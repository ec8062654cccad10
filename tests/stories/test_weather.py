"""Edits that arrive at two replicas at once while Clerk is down, limits us, is slow, or keeps its answers to itself.

Whatever became of each, it is said; and when Clerk is well again both sides are equal, and each edit that was not
refused had one effect.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from instep.app.container import Services, make_services
from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries
from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from instep.clerk.client import ClerkClient
from instep.core.clock import HOUR
from instep.core.errors import InstepError
from instep.operations import repository
from instep.operations.executor import LEASE_DURATION
from instep.users.models import UserChanges
from tests.members.firms import ADA, BOB, DAN, EVE, access_of, furnish
from tests.proof.judge import effects_of
from tests.support.compare import clerk_side, mirror_side
from tests.support.world import Firm

pytestmark = pytest.mark.anyio

WEATHER = ("down", "limited", "failing", "slow", "silent before", "silent after")
RETRY_AFTER = 40


class Weather(httpx2.AsyncBaseTransport):
    """The way to Clerk, which is as bad as `now` says for whatever changes something."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self.inner, self.now, self.asked = inner, "", 0
        self.clears = asyncio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.now == "down":
            raise httpx2.ConnectError("no way", request=request)
        if not self.now or request.method == "GET":
            return await self.inner.handle_async_request(request)
        self.asked += 1
        if self.now == "limited":
            return httpx2.Response(429, headers={"retry-after": str(RETRY_AFTER)}, request=request)
        if self.now == "failing":
            return httpx2.Response(503, request=request)
        if self.now == "slow":
            if self.asked == 7:  # all have come but the one that waits for its turn
                self.clears.set()
            await self.clears.wait()
        if self.now == "silent before":
            raise httpx2.ReadTimeout("too slow", request=request)
        response = await self.inner.handle_async_request(request)
        if self.now == "silent after":
            raise httpx2.ReadTimeout("too slow", request=request)
        return response


@asynccontextmanager
async def other_replica(firm: Firm, weather: Weather) -> AsyncIterator[Services]:
    """A second instep on the same database and the same Clerk."""
    client = ClerkClient(firm.emulator.secret_key, api_url=firm.emulator.site.url, transport=weather)
    services = make_services(firm.services.settings, clerk=client, clock=firm.clock)
    yield services
    await services.close()


async def edits(firm: Firm, services: Services, who: str) -> list[Awaitable[Any]]:
    """What an admin asks of one replica: names of two people, one of whom the other replica edits too, a role, and
    an invitation."""
    access = await access_of(firm, None)
    own, role = (BOB, EVE) if who == "A" else (DAN, ADA)
    edit, members = services.users.edit_profile, services.members
    return [
        edit(BREAK_GLASS_PRINCIPAL, firm.user_id(own), UserChanges(first_name=f"Own{who}")),
        edit(BREAK_GLASS_PRINCIPAL, firm.user_id("kim@acme.example"), UserChanges(first_name=f"Both{who}")),
        members.change_role(access, member_id=firm.user_id(role), role="org:admin" if who == "A" else "org:member"),
        services.invitations.invite(access, email=f"{who.lower()}@new.example", role="org:member"),
    ]


@pytest.mark.parametrize("now", WEATHER)
async def test_edits_in_bad_weather_are_done_once_or_not_at_all(
    firm: Firm, now: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instep.operations.executor.TARGET_WAIT_SECONDS", 0.01)
    await furnish(firm)
    weather = Weather(httpx2.ASGITransport(app=firm.emulator))
    firm.services.clerk._backend._http._transport = weather
    async with other_replica(firm, weather) as other:
        weather.now = now
        asked = [*await edits(firm, firm.services, "A"), *await edits(firm, other, "B")]
        said = await asyncio.gather(*asked, return_exceptions=True)
        assert all(not isinstance(it, BaseException) or isinstance(it, InstepError) for it in said), said
        weather.now = ""
        if now == "limited":
            before = len(firm.emulator.request_log.list())
            assert await firm.services.executor.resume_due() == 0, "Clerk said when to come again"
            assert len(firm.emulator.request_log.list()) == before
        for _ in range(6):
            firm.clock.advance(max(LEASE_DURATION, HOUR))
            await asyncio.gather(firm.services.executor.resume_due(), other.executor.resume_due())
        await firm.settle_patiently()
        await require_one_effect(firm, is_all_refused=now == "failing")


async def require_one_effect(firm: Firm, *, is_all_refused: bool) -> None:
    """Both sides are equal, nothing is open, and Clerk remembers each operation that was done once."""
    state = firm.emulator.control.state(limit=1_000)
    assert mirror_side(firm.services.db) == clerk_side(state)
    operations = await firm.services.db.read(repository.list_operations, limit=100)
    assert Counter(it.state for it in operations).keys() <= {"settled", "refused"}, operations
    assert await firm.services.db.read(list_entries, AuditFilter(is_unclosed=True, until=firm.clock())) == []
    assert len(operations) >= 7
    assert not is_all_refused or {it.state for it in operations} == {"refused"}
    messages = [json.loads(it.body) for it in firm.emulator.webhooks.log.messages.values()]
    happened = Counter(effects_of(messages))
    for it in operations:
        entries = await firm.services.db.read(list_entries, AuditFilter(cause=it.id))
        assert [entry.outcome for entry in entries] == ["done" if it.state == "settled" else "refused", "asked"]
        effect: tuple[str, ...]
        if it.kind == "profile.edit":
            effect = ("name", it.intent["clerk_id"], it.intent["profile"]["first_name"])
        elif it.kind.startswith("invitation"):
            effect = ("invited", it.intent["email"])
        else:
            continue
        assert happened[effect] == (it.state == "settled"), (it, effect)
