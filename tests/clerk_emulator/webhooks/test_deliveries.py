"""A soak test: a long generated history with late, duplicate and refused webhooks, and a reader of deliveries only."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx2
import pytest

from clerk_emulator import Emulator
from tests.clerk_emulator.clients import Backend, Json, Receiver

pytestmark = pytest.mark.anyio
STEPS = 500
ROLES = ("org:admin", "org:member")
SILENT = (  # these change without an event
    "last_sign_in_at",
    "last_active_at",
    "members_count",
    "pending_invitations_count",
    "missing_member_with_elevated_permissions",
)
KINDS = ("user", "organization", "organizationMembership", "organizationInvitation")


@dataclass
class Reader:
    """The state known to a reader of deliveries only: the newest version of each record, and the deleted ones."""

    things: dict[str, dict[str, Json]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    gone: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)

    def read(self, headers: dict[str, str], body: str) -> None:
        """Read a delivery in any order."""
        if headers["svix-id"] in self.seen:
            return
        self.seen.add(headers["svix-id"])
        event = json.loads(body)
        kind, _, what = event["type"].partition(".")
        data = event["data"]
        if kind not in KINDS:
            return
        if what == "deleted":
            self.gone.add(data["id"])
        elif data["updated_at"] >= self.things[kind].get(data["id"], data)["updated_at"]:
            self.things[kind][data["id"]] = data

    def all(self, kind: str) -> dict[str, Json]:
        """Return the records of a kind that still exist, without those of deleted owners."""
        return {id_: row for id_, row in self.things[kind].items() if not {id_, *owners(row)} & self.gone}


def owners(row: Json) -> list[str]:
    """Return the user and the organization that a record depends on."""
    found = [row.get("organization_id"), row.get("organization", {}).get("id")]
    return [id_ for id_ in (*found, row.get("public_user_data", {}).get("user_id")) if id_]


def plain_fields(row: Json) -> Json:
    """Return the own fields of a record, without those that change without an event and those of related records."""
    neighbours = ("organization", "public_organization_data", "public_user_data", "public_inviter_data", "scim")
    return {name: value for name, value in row.items() if name not in (*SILENT, *neighbours)}


class Life:
    """A random history; calls that Clerk rejects count as steps too."""

    def __init__(self, emulator: Emulator, backend: Backend, seed: int) -> None:
        self.emulator, self.backend, self.random = emulator, backend, Random(seed)  # noqa: S311 - made up
        self.number = 0

    async def step(self) -> None:
        """Take a random step."""
        steps: list[Callable[[], Awaitable[Any]]] = [self.come, self.change, self.found, self.rename]
        steps += [self.go, self.close, self.invite, self.invite, self.revoke, self.accept, self.accept]
        steps += [self.join, self.join, self.promote, self.leave, self.ban, self.wait]
        await self.random.choice(steps)()

    async def ask(self, method: str, path: str, body: Any = None) -> None:
        response = await self.backend.raw(method, path, body)
        assert response.status_code < 500, response.text

    def pick(self, table: Any) -> str:
        ids = [row.id for row in table]
        return self.random.choice(ids) if ids else "none"

    def person(self) -> str:
        return self.pick(self.emulator.state.users)

    def firm(self) -> str:
        return self.pick(self.emulator.state.organizations)

    async def come(self) -> None:
        self.number += 1
        await self.ask("POST", "/users", {"email_address": [f"u{self.number}@example.com"], "first_name": "New"})

    async def change(self) -> None:
        self.number += 1
        await self.ask("PATCH", f"/users/{self.person()}", {"first_name": f"Name {self.number}"})

    async def go(self) -> None:
        if len(self.emulator.state.users) > 12:
            await self.ask("DELETE", f"/users/{self.person()}")

    async def ban(self) -> None:
        await self.ask("POST", f"/users/{self.person()}/{self.random.choice(('ban', 'unban'))}")

    async def found(self) -> None:
        if len(self.emulator.state.organizations) < 6:
            await self.ask("POST", "/organizations", {"name": "Firm", "created_by": self.person()})

    async def rename(self) -> None:
        self.number += 1
        await self.ask("PATCH", f"/organizations/{self.firm()}", {"name": f"Firm {self.number}"})

    async def close(self) -> None:
        if len(self.emulator.state.organizations) > 4:
            await self.ask("DELETE", f"/organizations/{self.firm()}")

    async def join(self) -> None:
        body = {"user_id": self.person(), "role": self.random.choice(ROLES)}
        await self.ask("POST", f"/organizations/{self.firm()}/memberships", body)

    async def promote(self) -> None:
        found = next((row for row in self.emulator.state.memberships if self.random.random() < 0.3), None)
        if found is not None:
            path = f"/organizations/{found.organization_id}/memberships/{found.user_id}"
            await self.ask("PATCH", path, {"role": self.random.choice(ROLES)})

    async def leave(self) -> None:
        found = next((row for row in self.emulator.state.memberships if self.random.random() < 0.3), None)
        if found is not None:
            await self.ask("DELETE", f"/organizations/{found.organization_id}/memberships/{found.user_id}")

    async def invite(self) -> None:
        people = [row.identifier for row in self.emulator.state.users]
        address = self.random.choice([*people, f"new{self.number}@example.com"])
        await self.backend.raw(
            "POST", f"/organizations/{self.firm()}/invitations", {"email_address": address, "role": "org:member"}
        )

    async def revoke(self) -> None:
        found = self.emulator.state.organization_invitations.find(self.pick(self._invitations()))
        if found is not None:
            await self.ask("POST", f"/organizations/{found.organization_id}/invitations/{found.id}/revoke")

    async def accept(self) -> None:
        found = self.emulator.state.organization_invitations.find(self.pick(self._invitations()))
        if found is not None:
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(self.emulator)) as invitee:
                await invitee.post("http://127.0.0.1:8001/v1/tickets/accept", data={"ticket": found.ticket})

    async def wait(self) -> None:
        self.emulator.clock.advance(hours=self.random.choice((1, 10, 100)))

    def _invitations(self) -> Any:
        return self.emulator.state.organization_invitations


@pytest.mark.parametrize("seed", range(2))
async def test_the_state_can_be_rebuilt_from_the_deliveries(
    emulator: Emulator, backend: Backend, receiver: Receiver, seed: int
) -> None:
    life = Life(emulator, backend, seed)
    for _ in range(STEPS):
        await life.step()
        if life.random.random() < 0.2:
            do = life.random.choice(("double", "delay", "reorder", "bad_signature"))
            emulator.faults.add({"event": "*", "do": do, "count": 1})
        receiver.statuses.append(life.random.choice((204, 204, 204, 500, 429)))
        if life.random.random() < 0.5:
            await emulator.webhooks.drain()
    receiver.statuses.clear()
    emulator.faults.clear()
    for _ in range(10):
        emulator.clock.advance(hours=11)
        await emulator.webhooks.drain()
    assert not list(emulator.webhooks.log.iter_pending())
    reader = Reader()
    for headers, body in receiver.got:
        reader.read(headers, body)
    assert len(reader.seen) < len(receiver.got), "some came more than once"
    assert len(reader.gone) > 10, "it was a life with ends"
    assert all(len(rows) > 10 for rows in reader.things.values())
    for kind, rows in (await state(backend)).items():
        known = {id_: with_expiry(row, emulator.state.now) for id_, row in reader.all(kind).items()}
        found = {row["id"]: plain_fields(row) for row in rows}
        assert known.keys() == found.keys(), kind
        for id_, row in found.items():
            assert {name: known[id_].get(name) for name in row} == row


async def state(backend: Backend) -> dict[str, list[Json]]:
    """Return the whole state through the Backend API."""
    return {
        "user": await backend("GET", "/users", limit=500),
        "organization": (await backend("GET", "/organizations", limit=500))["data"],
        "organizationMembership": (await backend("GET", "/organization_memberships", limit=500))["data"],
        "organizationInvitation": (await backend("GET", "/organization_invitations", limit=500))["data"],
    }


def with_expiry(row: Json, now: int) -> Json:
    """Return an invitation as its reader has to see it: its expiry has no event."""
    is_over = row.get("status") == "pending" and row["expires_at"] <= now
    return {**row, "status": "expired"} if is_over else row
