"""MemberService.list_people: both sources are read concurrently; members are shown even without invitations."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from instep.auth.principal import BREAK_GLASS_PRINCIPAL, OrganizationAccess
from instep.clerk.fake import FakeClerk
from instep.core.clock import DAY
from instep.core.db import Conn, Database
from instep.core.db_errors import DatabaseUnavailableError
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError
from instep.domain.events import EntityState
from instep.domain.models import MEMBER_ROLE, ClerkId, ClerkInvitation, ClerkOrganization, NewClerkInvitation
from instep.members.listing import INVITATIONS_UNAVAILABLE
from instep.members.models import MemberCursor, MemberFilter
from instep.members.service import MemberService
from instep.mirror.apply import apply_unit_of_work
from instep.mirror.repository import find_organization
from instep.mirror.unit_of_work import open_unit_of_work
from tests.support.clocks import Ticking
from tests.support.faults import failing
from tests.support.people import membership, organization, user

pytestmark = pytest.mark.anyio

FIRM = ClerkId("org_1")


class PeopleList:
    """A firm with one member in the mirror, and a Clerk in memory."""

    def __init__(self, db: Database) -> None:
        self.db, self.clock = db, Ticking()
        self.clerk = FakeClerk(self.clock)
        self.clerk.put_organization(ClerkOrganization(clerk_id=FIRM, name="Firm 1"))
        self.access = db.write_sync(_furnish)

    def list(
        self, filters: MemberFilter | None = None, *, clerk: Any = None, timeout: float = 5.0, **changes: Any
    ) -> Any:
        executor: Any = None  # only changes need one
        service = MemberService(self.db, cast(Any, clerk or self.clerk), executor, self.clock, clerk_timeout=timeout)
        access = OrganizationAccess(
            **{name: getattr(self.access, name) for name in OrganizationAccess.__struct_fields__} | changes
        )
        return service.list_people(access, filters or MemberFilter())

    async def invite(self, email: str) -> ClerkInvitation:
        return await self.clerk.create_invitation(
            FIRM, NewClerkInvitation(email=email, role=MEMBER_ROLE, expires_in_days=7)
        )


def _furnish(conn: Conn) -> OrganizationAccess:
    observations: list[EntityState] = [organization(1), user(1), membership(1)]
    unit_of_work = open_unit_of_work(conn, observations)
    for it in observations:
        unit_of_work.reconcile(it)
    apply_unit_of_work(conn, unit_of_work, now=1)
    found = find_organization(conn, "org_1")
    assert found is not None
    return OrganizationAccess(
        principal=BREAK_GLASS_PRINCIPAL,
        organization_id=found.id,
        organization_clerk_id=found.clerk_id,
        organization_name=found.name,
        organization_slug=found.slug,
        role=None,
    )


@pytest.fixture
def people_list(db: Database) -> PeopleList:
    return PeopleList(db)


def ids(people: Any) -> list[str]:
    return [getattr(row, "clerk_id", None) or row.id for row in people.rows]


async def test_members_from_here_and_invitations_from_clerk(people_list: PeopleList) -> None:
    made = await people_list.invite("ada@example.com")
    assert ids(await people_list.list()) == [made.clerk_id, "orgmem_1"]


async def test_clerk_is_not_called_where_no_invitation_can_be_shown(people_list: PeopleList) -> None:
    await people_list.list(MemberFilter(statuses=frozenset({"active"})))
    await people_list.list(MemberFilter(cursor=MemberCursor(None, ("active", "a", "b"))))
    assert people_list.clerk.calls == []


async def test_an_organization_that_is_not_in_clerk_has_no_invitations_and_no_warning(people_list: PeopleList) -> None:
    people = await people_list.list(organization_clerk_id=None)
    assert (ids(people), people.warnings, people.totals.invitations) == (["orgmem_1"], (), 0)
    assert people_list.clerk.calls == []


@pytest.mark.parametrize(
    "failure",
    [
        ClerkUnavailableError("Clerk did not answer."),
        ClerkRejectedError("No.", code="clerk_key_invalid", status=401),
        ZeroDivisionError("nobody thought of this"),
    ],
)
async def test_members_are_shown_despite_any_failure_of_invitations(people_list: PeopleList, failure: Any) -> None:
    people_list.clerk.failure = failure
    people = await people_list.list()
    assert (ids(people), people.warnings) == (["orgmem_1"], (INVITATIONS_UNAVAILABLE,))


class Slow:
    """A Clerk that never answers, and knows whether it is still waited for."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.is_left = asyncio.Event()

    async def list_invitations(self, organization: ClerkId, *, statuses: Sequence[str]) -> list[ClerkInvitation]:
        self.is_asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.is_left.set()
        return []


async def test_clerk_is_waited_for_until_the_timeout_and_then_cancelled(people_list: PeopleList) -> None:
    clerk = Slow()
    people = await people_list.list(clerk=clerk, timeout=0.01)
    assert (ids(people), people.warnings) == (["orgmem_1"], (INVITATIONS_UNAVAILABLE,))
    assert clerk.is_left.is_set()


async def test_without_the_database_the_call_to_clerk_is_cancelled(people_list: PeopleList) -> None:
    clerk = Slow()
    with failing(people_list.db), pytest.raises(DatabaseUnavailableError):
        await people_list.list(clerk=clerk)
    await asyncio.sleep(0)
    assert not clerk.is_asked.is_set() or clerk.is_left.is_set()


async def test_both_sources_are_read_concurrently(people_list: PeopleList) -> None:
    clerk = Slow()
    listing = asyncio.create_task(people_list.list(clerk=clerk))
    await asyncio.wait_for(clerk.is_asked.wait(), 10)
    assert not listing.done()
    listing.cancel()
    await asyncio.gather(listing, return_exceptions=True)
    await asyncio.wait_for(clerk.is_left.wait(), 10)


async def test_an_expired_invitation_of_a_member_is_left_out(people_list: PeopleList) -> None:
    await people_list.invite("Person1@Example.com")
    other = await people_list.invite("ada@example.com")
    people_list.clock.advance(8 * DAY)
    assert ids(await people_list.list()) == [other.clerk_id, "orgmem_1"]
