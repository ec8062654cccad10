"""Reading the list: both sources side by side, and the members whatever becomes of the invitations."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from instep.access.principal import BREAK_GLASS, Access
from instep.clerk.fake import FakeClerk
from instep.identity.events import News
from instep.identity.model import MEMBER, ClerkId, Invitation, NewInvitation, Organization
from instep.identity.ports import ProviderDown, ProviderRefused
from instep.kit.clock import DAY
from instep.kit.db import Conn, DatabaseDown, Db
from instep.mirror.apply import apply
from instep.mirror.ledger import open_ledger
from instep.mirror.store import find_organization
from instep.people.flows import ListPeople
from instep.people.merge import UNAVAILABLE, Ask, Cursor
from tests.support.clocks import Ticking
from tests.support.faults import failing
from tests.support.people import membership, organization, user

pytestmark = pytest.mark.anyio

FIRM = ClerkId("org_1")


class Desk:
    """A firm with one member in the mirror, and a Clerk in memory."""

    def __init__(self, db: Db) -> None:
        self.db, self.clock = db, Ticking()
        self.clerk = FakeClerk(self.clock)
        self.clerk.put_organization(Organization(clerk_id=FIRM, name="Firm 1"))
        self.access = db.writing(_furnish)

    def list(self, ask: Ask | None = None, *, directory: Any = None, patience: float = 5.0, **changes: Any) -> Any:
        list_people = ListPeople(self.db, directory or self.clerk, self.clock, patience)
        access = Access(**{name: getattr(self.access, name) for name in Access.__struct_fields__} | changes)
        return list_people(access, ask or Ask())

    async def invite(self, email: str) -> Invitation:
        return await self.clerk.invite(FIRM, NewInvitation(email=email, role=MEMBER, expires_in_days=7))


def _furnish(conn: Conn) -> Access:
    news: list[News] = [organization(1), user(1), membership(1)]
    ledger = open_ledger(conn, news)
    for it in news:
        ledger.take(it)
    apply(conn, ledger, now=1)
    found = find_organization(conn, "org_1")
    assert found is not None
    return Access(
        principal=BREAK_GLASS,
        organization_id=found.id,
        organization_clerk_id=found.clerk_id,
        organization_name=found.name,
        organization_slug=found.slug,
        role=None,
    )


@pytest.fixture
def desk(db: Db) -> Desk:
    return Desk(db)


def ids(people: Any) -> list[str]:
    return [getattr(row, "clerk_id", None) or row.id for row in people.rows]


async def test_members_from_here_and_invitations_from_clerk(desk: Desk) -> None:
    made = await desk.invite("ada@example.com")
    assert ids(await desk.list()) == [made.clerk_id, "orgmem_1"]


async def test_clerk_is_not_asked_where_no_invitation_can_be_shown(desk: Desk) -> None:
    await desk.list(Ask(statuses=frozenset({"active"})))
    await desk.list(Ask(cursor=Cursor(None, ("active", "a", "b"))))
    assert desk.clerk.calls == []


async def test_an_organization_that_is_not_in_clerk_has_no_invitations_and_no_warning(desk: Desk) -> None:
    people = await desk.list(organization_clerk_id=None)
    assert (ids(people), people.warnings, people.totals.invitations) == (["orgmem_1"], (), 0)
    assert desk.clerk.calls == []


@pytest.mark.parametrize(
    "failure",
    [
        ProviderDown("Clerk did not answer."),
        ProviderRefused("No.", code="clerk_key_invalid", status=401),
        ZeroDivisionError("nobody thought of this"),
    ],
)
async def test_whatever_is_wrong_with_the_invitations_the_members_are_shown(desk: Desk, failure: Any) -> None:
    desk.clerk.failure = failure
    people = await desk.list()
    assert (ids(people), people.warnings) == (["orgmem_1"], (UNAVAILABLE,))


class Slow:
    """A Clerk that never answers, and knows whether it is still waited for."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.is_left = asyncio.Event()

    async def list_invitations(self, organization: ClerkId, *, statuses: Sequence[str]) -> list[Invitation]:
        self.is_asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.is_left.set()
        return []


async def test_clerk_is_waited_for_no_longer_than_patience_lasts_and_then_left_alone(desk: Desk) -> None:
    clerk = Slow()
    people = await desk.list(directory=clerk, patience=0.01)
    assert (ids(people), people.warnings) == (["orgmem_1"], (UNAVAILABLE,))
    assert clerk.is_left.is_set()


async def test_without_the_database_nobody_waits_for_clerk(desk: Desk) -> None:
    clerk = Slow()
    with failing(desk.db), pytest.raises(DatabaseDown):
        await desk.list(directory=clerk)
    await asyncio.sleep(0)
    assert not clerk.is_asked.is_set() or clerk.is_left.is_set()


async def test_both_sources_are_asked_at_the_same_time(desk: Desk) -> None:
    clerk = Slow()
    listing = asyncio.create_task(desk.list(directory=clerk))
    await asyncio.wait_for(clerk.is_asked.wait(), 10)
    assert not listing.done()
    listing.cancel()
    await asyncio.gather(listing, return_exceptions=True)
    await asyncio.wait_for(clerk.is_left.wait(), 10)


async def test_an_expired_invitation_of_somebody_who_joined_is_left_out(desk: Desk) -> None:
    await desk.invite("Person1@Example.com")
    other = await desk.invite("ada@example.com")
    desk.clock.advance(8 * DAY)
    assert ids(await desk.list()) == [other.clerk_id, "orgmem_1"]
