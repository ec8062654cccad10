"""A first sync of a Clerk that never rests: people come, change and go, and webhooks are lost and sent twice."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import httpx2
import pytest

from instep.clerk.client import ClerkClient
from instep.core.db import Database
from instep.mirror.tables import memberships, users
from instep.sync.apply import ClerkWriter
from instep.sync.service import SyncService
from tests.support.world import Firm, make_firm
from tests.sync.world import World, no_pause, seed, small_pages

pytestmark = pytest.mark.anyio

PEOPLE, FIRMS = 150, 3


@dataclass
class Restless(httpx2.AsyncBaseTransport):
    """Carries sync's calls to Clerk; before each of them something else happens there, by a schedule from a seed."""

    firm: Firm
    chance: Random
    changes: int = 0
    _made: int = 0
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        async with self._one:
            for _ in range(self.chance.randint(0, 3)):
                await self._change()
            if self.chance.random() < 0.2:
                await self.firm.settle()
        return await httpx2.ASGITransport(app=self.firm.emulator).handle_async_request(request)

    async def _change(self) -> None:
        people = list(self.firm.emulator.state.users)
        members = list(self.firm.emulator.state.memberships)
        person, member = self.chance.choice(people).id, self.chance.choice(members)
        place = f"/organizations/{member.organization_id}/memberships"
        fate = self.chance.choice(("drop", "double", "", "", ""))
        what, method, path, body = self.chance.choice(
            [
                ("user.created", "POST", "/users", {"email_address": [f"new{self._made}@example.com"]}),
                ("user.updated", "PATCH", f"/users/{person}", {"first_name": f"Changed{self._made}"}),
                ("user.deleted", "DELETE", f"/users/{person}", None),
                ("organizationMembership.created", "POST", place, {"user_id": person, "role": "org:member"}),
                ("organizationMembership.updated", "PATCH", f"{place}/{member.user_id}", {"role": "org:admin"}),
                ("organizationMembership.deleted", "DELETE", f"{place}/{member.user_id}", None),
            ]
        )
        self._made += 1
        if fate:
            self.firm.emulator.faults.add({"event": what, "do": fate, "count": 1})
        answer = await self.firm.clerk().request(method, f"/v1{path}", json=body)
        assert answer.status_code < 500
        self.changes += answer.is_success


@pytest.fixture
async def firm(db: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Firm]:
    small_pages(monkeypatch, 10)
    monkeypatch.setattr("instep.clerk.instance_scanner.TARGET_WINDOWS", 4)
    monkeypatch.setattr("instep.sync.backfill.MAX_CONCURRENT_WINDOWS", 3)
    made = make_firm(db.engine.url.render_as_string(hide_password=False))
    made.emulator.seed(seed(PEOPLE, organizations=FIRMS))
    yield made
    await made.close()


def untold(firm: Firm, world: World) -> set[str]:
    """Clerk's ids of what only a lost webhook was about; with a person go their memberships, of which none tells."""
    log: Any = firm.emulator.webhooks.log
    lost = {json.loads(it.message.body)["data"]["id"] for it in log.deliveries.values() if it.fault == "drop"}
    people = {row["id"] for row in world.rows(users) if row["clerk_id"] in lost}
    return lost | {row["clerk_id"] for row in world.rows(memberships) if row["user_id"] in people}


@pytest.mark.parametrize("number", range(4))
async def test_a_first_sync_misses_nobody_and_adds_nobody_while_everything_changes(firm: Firm, number: int) -> None:
    """What only a lost webhook could have told is mended by the sync after it; nothing else is left for that."""
    restless = Restless(firm, Random(number))  # noqa: S311 (a schedule)
    client = ClerkClient(firm.emulator.secret_key, api_url=firm.emulator.site.url, transport=restless)
    everything = client.make_scanner()
    everything._pages._sleep = no_pause
    sync: SyncService = replace(firm.services.sync_services.sync, source=everything, writer=ClerkWriter(client))
    await sync.backfill(actor="test")
    await firm.settle_patiently()
    assert restless.changes > 30

    calm = firm.services.sync_services.sync
    world = World(firm.emulator, None, client, firm.services.db, firm.clock, calm)  # type: ignore[arg-type]
    there, here = world.ids_in_clerk(), world.ids_in_mirror()
    assert {id for kind in there for id in there[kind] ^ here[kind]} <= untold(firm, world)

    await world.plan_and_apply()
    assert world.ids_in_mirror() == world.ids_in_clerk()
    assert await world.check() == {}
    await client.close()
