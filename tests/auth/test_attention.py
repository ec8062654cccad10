"""Attention badges and the notice of an open page are kept up to date."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from anyio import wait_all_tasks_blocked

from instep.core.clock import HOUR
from instep.core.db import Conn
from instep.operations.tables import operations
from instep.sync import repository
from instep.sync.models import Freshness
from instep.webhooks.tables import deliveries
from tests.support.console import HOME, console_of
from tests.support.svix import signed
from tests.support.town import Town
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pages(sqlite_firm: Firm) -> AsyncIterator[httpx2.AsyncClient]:
    async with console_of(sqlite_firm) as client:
        yield client


def badges(page: httpx2.Response) -> dict[str, int]:
    """The badges that are not empty."""
    found = re.findall(r'badge-(\w+)"[^>]*>\s*<span class="side-badge">(\d+)', page.text)
    return {key: int(count) for key, count in found}


def add_failed_delivery(firm: Firm) -> None:
    def write(conn: Conn) -> None:
        one = conn.execute(sa.select(deliveries.c.id).limit(1)).scalar_one()
        conn.execute(sa.update(deliveries).where(deliveries.c.id == one).values(state="parked", outcome="no"))

    firm.services.db.write_sync(write)


def add_pending_operation(firm: Firm, organization_id: str) -> None:
    """An operation that needs a person."""
    row = {"id": "op_1", "kind": "member.role", "target": "membership:x", "actor": "usr_1", "state": "attention"}
    more = {"intent": {}, "asked_at": 1, "changed_at": 1, "organization_id": organization_id}
    firm.services.db.write_sync(lambda conn: conn.execute(sa.insert(operations).values(**row, **more)))


async def test_every_page_counts_what_needs_a_person(sqlite_firm: Firm, pages: httpx2.AsyncClient) -> None:
    assert badges(await pages.get(f"{HOME}/members")) == {}
    add_failed_delivery(sqlite_firm)
    add_pending_operation(sqlite_firm, "ogn_elsewhere")
    assert badges(await pages.get(f"{HOME}/members")) == {"everywhere": 1, "parked": 1}
    assert badges(await pages.get("/users")) == {"everywhere": 1, "parked": 1}


async def test_an_open_page_refreshes_the_badges_and_the_notice(sqlite_firm: Firm, pages: httpx2.AsyncClient) -> None:
    add_failed_delivery(sqlite_firm)
    now = sqlite_firm.services.clock()
    await sqlite_firm.services.db.write(repository.save_freshness, Freshness(now, now - 26 * HOUR, 1))
    for path in ("/attention", f"{HOME}/attention"):
        pieces = await pages.get(path)
        assert badges(pieces) == {"parked": 1}
        assert 'hx-target="#notice"' in pieces.text
        assert "No webhook for 26 h while Clerk changed 1 person." in pieces.text
        assert "<html" not in pieces.text


async def test_an_organizations_admin_sees_counts_of_that_organization_only(town: Town) -> None:
    add_failed_delivery(town.firm)
    add_pending_operation(town.firm, "ogn_elsewhere")
    now = town.firm.services.clock()
    await town.firm.services.db.write(repository.save_freshness, Freshness(now, now - 26 * HOUR, 2))
    for who, is_told in (("admin", True), ("member", False)):
        page = await town.firm.api(None, **town.keys[who]).get("/organizations/northwind/members")
        assert badges(page) == {}
        assert ("No webhook for 26 h" in page.text) is is_told
        assert "/sync" not in page.text, "nothing that they can't do"


@pytest.mark.parametrize(
    ("follows", "topic", "is_heard"),
    [
        ("", "attention", True),
        ("sync", "sync", True),
        ("deliveries", "deliveries", True),
        ("", "sync", False),
        ("ogn_1", "ogn_1", False),
    ],
)
async def test_a_page_receives_only_the_topics_it_follows(
    sqlite_firm: Firm, pages: httpx2.AsyncClient, follows: str, topic: str, is_heard: bool
) -> None:
    heard = asyncio.Event()
    sent: list[str] = []
    token = pages.headers["cookie"]
    path = "/attention/live"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": f"follows={follows}".encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"cookie", token.encode())],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8000),
    }

    async def send(message: Any) -> None:
        body = message.get("body", b"").decode()
        if "event: " in body:
            sent.append(body)
            heard.set()

    listening = asyncio.create_task(sqlite_firm.app(scope, lambda: asyncio.Event().wait(), send))
    await heard.wait()
    assert "ready" in sent[0]
    heard.clear()
    await wait_all_tasks_blocked()
    assert (topic in sqlite_firm.services.pubsub._listeners) is is_heard
    if is_heard:
        sqlite_firm.services.pubsub.publish([topic])
        await heard.wait()
        assert "change" in sent[1]
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_changes_are_published(sqlite_firm: Firm, pages: httpx2.AsyncClient) -> None:
    """Parked by the worker, replayed, given up: each is said to the pages that are open."""
    said: list[list[str]] = []
    sqlite_firm.services.pubsub.relay = lambda topics: said.append(list(topics))
    bad = {"type": "user.created", "data": {"id": 7}, "instance_id": None}
    body = json.dumps(bad).encode()
    await sqlite_firm.api(None).post("/webhooks/clerk", content=body, headers=signed(body, at=sqlite_firm.clock()))
    await sqlite_firm.settle()
    assert ["deliveries", "attention"] in said
    said.clear()
    parked = re.findall(r'id="row-([^"]+)"', (await pages.get("/deliveries?state=parked")).text)[0]
    await pages.post(f"/deliveries/{parked}/replay")
    assert ["deliveries", "attention"] in said
    said.clear()
    add_pending_operation(sqlite_firm, "ogn_elsewhere")
    await pages.post("/operations/op_1/give-up")
    assert ["attention"] in said
