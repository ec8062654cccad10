"""Clerk's emulator, a mirror, and a sync between them; nothing else runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import sqlalchemy as sa

from clerk_emulator import Emulator
from clerk_emulator.state.clock import Clock as EmulatorClock
from instep.clerk import instance_scanner, pagination
from instep.clerk.client import ClerkClient
from instep.core.db import Conn, Database
from instep.mirror.tables import member_counts, memberships, organizations, users
from instep.sync import models, repository
from instep.sync.apply import ClerkWriter
from instep.sync.models import Run
from instep.sync.service import SyncService
from tests.support.clocks import START, Ticking

DAY = 86_400_000


class InterceptingTransport(httpx2.AsyncBaseTransport):
    """Carries calls to the emulator; `before` is told of each one first, and may change things meanwhile."""

    def __init__(self, emulator: Emulator) -> None:
        self._inner = httpx2.ASGITransport(app=emulator)
        self.calls: list[str] = []
        self.before: Callable[[httpx2.Request], None] = lambda _: None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.calls.append(f"{request.method} {request.url.path}")
        self.before(request)
        return await self._inner.handle_async_request(request)


@dataclass
class World:
    """Both sides."""

    emulator: Emulator
    transport: InterceptingTransport
    client: ClerkClient
    db: Database
    clock: Ticking
    sync: SyncService
    changed_organizations: set[str] = field(default_factory=set)

    async def backfill(self) -> Run:
        """The first sync."""
        return await self.sync.backfill(actor="test")

    async def check(self) -> dict[str, int]:
        """What a check says, by kind."""
        return (await self.sync.check(actor="test")).counts

    async def plan(self, **more: Any) -> Run:
        return await self.sync.plan(actor="test", **more)

    async def plan_and_apply(self, **more: Any) -> Run:
        """Make a plan and apply it."""
        return await self.sync.apply((await self.plan(**more)).id, actor="test")

    def findings(self, run: Run) -> list[models.FindingRow]:
        return self.db.read_sync(repository.list_findings, run.id, limit=10_000)

    def outcomes(self, plan: Run) -> list[tuple[str, str | None, str | None]]:
        return [(it.finding.kind, it.outcome, it.outcome_reason) for it in self.findings(plan)]

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        return self.db.read_sync(
            lambda conn: [dict(row._mapping) for row in conn.execute(sa.select(table).order_by(table.c.id))]
        )

    def rows_of_counts(self) -> list[tuple[Any, ...]]:
        """Members per organization, status and role, as they are counted."""
        query = sa.select(member_counts).order_by(member_counts.c.status, member_counts.c.role)
        return self.db.read_sync(lambda conn: [tuple(row) for row in conn.execute(query)])

    def active_ids(self, table: sa.Table) -> set[str]:
        """Clerk's ids of what is alive in the mirror."""
        return {row["clerk_id"] for row in self.rows(table) if row["gone_at"] is None and row["clerk_id"]}

    def execute(self, statement: Any) -> None:
        """Change the database behind instep's back."""
        self.db.write_sync(_execute, statement)

    def ids_in_clerk(self) -> dict[str, set[str]]:
        """Clerk's ids of everything."""
        state = self.emulator.state
        return {
            "user": {it.id for it in state.users},
            "organization": {it.id for it in state.organizations},
            "membership": {it.id for it in state.memberships},
        }

    def ids_in_mirror(self) -> dict[str, set[str]]:
        return {
            "user": self.active_ids(users),
            "organization": self.active_ids(organizations),
            "membership": self.active_ids(memberships),
        }

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Change something in Clerk."""
        headers = {"authorization": f"Bearer {self.emulator.secret_key}", "clerk-api-version": "2026-05-12"}
        transport = httpx2.ASGITransport(app=self.emulator)
        async with httpx2.AsyncClient(transport=transport, base_url="http://clerk/v1", headers=headers) as http:
            answer = await http.request(method, path, json=body)
            assert answer.is_success, answer.text
            return answer.json()


def _execute(conn: Conn, statement: Any) -> None:
    conn.execute(statement)


async def no_pause(_: float) -> None:
    """Waits for nothing."""


def make_world(db: Database, profile: str = "default", **more: Any) -> World:
    clock = Ticking()
    emulator = Emulator(clock=EmulatorClock(wall=clock), id_seed=7, profile=profile)
    transport = InterceptingTransport(emulator)
    client = ClerkClient(emulator.secret_key, api_url=emulator.site.url, transport=transport)
    everything = client.make_scanner()
    everything._pages._sleep = no_pause
    sync = SyncService(db=db, source=everything, writer=ClerkWriter(client), clock=clock, **more)
    world = World(emulator, transport, client, db, clock, sync)
    world.sync = replace(sync, on_organizations_changed=world.changed_organizations.update)
    return world


def seed(count: int, *, organizations: int = 1, start: int = START - 400 * DAY, step: int = 1_000) -> dict[str, Any]:
    """People, each a member of one organization."""
    people = [
        {
            "id": f"user_{n:027d}",
            "email_address": f"p{n}@example.com",
            "first_name": f"First{n}",
            "last_name": f"Last{n}",
            "public_metadata": {"seat": n} if n % 3 else {},
            "created_at": start + n * step,
            "updated_at": start + n * step,
        }
        for n in range(count)
    ]
    firms = [
        {
            "id": f"org_{k:027d}",
            "name": f"Firm {k}",
            "slug": f"firm-{k}",
            "max_allowed_memberships": 100_000,
            "created_at": start + k,
            "updated_at": start + k,
            "members": [
                {
                    "id": f"orgmem_{n:027d}",
                    "user": f"user_{n:027d}",
                    "role": "org:admin" if n == k else "org:member",
                    "created_at": start + n * step + 5,
                    "updated_at": start + n * step + 5,
                }
                for n in range(k, count, organizations)
            ],
        }
        for k in range(organizations)
    ]
    return {"users": people, "organizations": firms}


def small_pages(monkeypatch: Any, size: int, *, overlap: int = 3, window: int | None = None) -> None:
    """Pages of a few rows, so that a small firm is walked as a large one is."""

    monkeypatch.setattr(pagination, "PAGE_SIZE", size)
    monkeypatch.setattr(pagination, "PAGE_SIZE", size)
    monkeypatch.setattr(pagination, "PAGE_SIZE", size)
    monkeypatch.setattr(pagination, "OVERLAP", overlap)
    monkeypatch.setattr(instance_scanner, "MIN_WINDOW_SIZE", window or 4 * size)


def numbers(rows: Sequence[models.FindingRow]) -> list[int]:
    return [it.number for it in rows]
