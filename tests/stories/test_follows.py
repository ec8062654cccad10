"""What happens in Clerk is in the database: after each step, with every delivery doubled, and with any two swapped."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import httpx2
import pytest
import sqlalchemy as sa

from clerk_emulator.webhooks.delivery_log import WebhookMessage
from instep.clerk import parsing
from instep.clerk.webhook_signature import WebhookVerifier
from instep.core.db import Database
from instep.webhooks import repository
from instep.webhooks.processor import DeliveryProcessor
from instep.webhooks.receiver import WebhookEndpoint, WebhookReceiver
from tests.stories.sdk import STEPS, year_at
from tests.support.compare import clerk_side, counted, graves, mirror_side, transitions
from tests.support.firms import EVERYWHERE
from tests.support.svix import SECRET, signed
from tests.support.world import DOOR, Firm

pytestmark = [
    pytest.mark.anyio,
    EVERYWHERE,
    # The SDK reads fields that it has itself marked as deprecated.
    pytest.mark.filterwarnings(r"ignore:warning. \*\* DEPRECATED:DeprecationWarning"),
]


async def test_after_each_step_the_mirror_has_it(firm: Firm) -> None:
    async with year_at(firm) as year:
        for step in STEPS:
            await step(year)
            await firm.settle()
            assert mirror_side(firm.services.db) == clerk_side(firm.shown_state()), step.__name__
            assert counted(firm.services.db), step.__name__
    assert await firm.services.db.read(repository.count_by_state) == {}, "nothing waits and nothing is parked"


@pytest.mark.parametrize("id", ["the same", "another"])
async def test_with_every_delivery_doubled_the_mirror_is_the_same_and_each_thing_happened_once(
    firm: Firm, id: str
) -> None:
    """Doubled as Svix does (the same message again), and as a copy under another id would be."""
    if id == "the same":
        firm.emulator.faults.add({"event": "*", "do": "double"})
    async with year_at(firm) as year:
        for step in STEPS:
            await step(year)
            await firm.settle()
            if id == "another":
                await send(firm.app, messages(firm), firm.clock.at, suffix="_copy")
                await firm.settle()
            assert mirror_side(firm.services.db) == clerk_side(firm.shown_state()), step.__name__
    deliveries = len(firm.emulator.webhooks.log.deliveries)
    assert deliveries == len(messages(firm)) * (2 if id == "the same" else 1)
    happened = Counter(transitions(firm.services.db))
    made = {what: times for what, times in happened.items() if not what[0].endswith(".changed")}
    assert set(made.values()) == {1}, made


async def test_with_any_two_events_swapped_the_mirror_ends_as_clerk_is(firm: Firm) -> None:
    firm.emulator.state.settings.webhook_loss_percent = 0  # each message arrives
    async with year_at(firm) as year:
        for step in STEPS:
            await step(year)
    await firm.settle()
    told = messages(firm)
    assert len(told) > 25
    hurry(firm.services.db)
    expected = clerk_side(firm.shown_state())
    dead = graves(firm.services.db)
    wrong = []
    for first, second in combinations(range(len(told)), 2):
        order = list(told)
        order[first], order[second] = order[second], order[first]
        blank(firm.services.db)
        lane = Lane(firm)
        for part in (order[:second], order[second:]):
            await lane.deliver(part)
        is_right = mirror_side(firm.services.db) == expected and graves(firm.services.db) == dead
        if not (is_right and counted(firm.services.db)):
            wrong.append(f"{first} {told[first].type} <-> {second} {told[second].type}")
    assert not wrong, "\n".join(wrong)


def messages(firm: Firm) -> list[WebhookMessage]:
    return list(firm.emulator.webhooks.log.messages.values())


class Lane:
    """instep's inbox alone: the door and the worker, on the firm's database and Clerk."""

    def __init__(self, firm: Firm) -> None:
        db, clock = firm.services.db, firm.clock
        self.clock = clock
        self.door = WebhookEndpoint(
            WebhookReceiver(db=db, verifier=WebhookVerifier([SECRET]), clock=clock, wake=lambda: None)
        )
        self.work = DeliveryProcessor(
            db=db, clerk=firm.services.clerk, parse=parsing.parse_webhook, on_change=lambda worked: None, clock=clock
        )

    async def deliver(self, told: Sequence[WebhookMessage]) -> None:
        """Through the door, and worked in one batch."""
        await send(self.door, told, self.clock.at)
        while await self.work.run_once():
            pass


async def send(app: object, told: Sequence[WebhookMessage], at: int, suffix: str = "") -> None:
    """Post these as Svix does."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as client:  # type: ignore[arg-type]

        async def post(it: WebhookMessage) -> None:
            body = it.body.encode()
            response = await client.post(DOOR, content=body, headers=signed(body, at=at, id=it.id + suffix))
            assert response.status_code == 202, response.text

        await asyncio.gather(*[post(it) for it in told])


def hurry(db: Database) -> None:
    """A database that need not outlive the machine."""
    if db.is_sqlite:
        db.engine.dispose()
        sa.event.listen(db.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))


def blank(db: Database) -> None:
    """The database as it was on the first day."""
    tables = "instep_memberships instep_users instep_organizations instep_member_counts instep_deliveries instep_audit"
    with db.engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
        if db.is_sqlite:
            conn.execute(sa.text("DROP TRIGGER IF EXISTS instep_audit_no_delete"))
        else:
            conn.execute(sa.text("ALTER TABLE instep_audit DISABLE TRIGGER USER"))
        for table in tables.split():
            conn.execute(sa.text(f"DELETE FROM {table}"))
