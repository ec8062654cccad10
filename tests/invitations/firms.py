"""A firm with an admin, two members and seats, for the tests of invitations; and a hand to break Clerk with."""

from typing import Any

from instep.auth.principal import BREAK_GLASS_PRINCIPAL, OrganizationAccess, Principal
from instep.auth.repository import find_access, find_principal
from instep.core.clock import DAY
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from instep.operations import repository
from instep.operations.executor import LEASE_DURATION
from instep.operations.workflow import Operation
from tests.support.crash import CrashPoints
from tests.support.world import Firm

SLUG = "acme"
ADA, BOB = "ada@acme.example", "bob@acme.example"
SEED: dict[str, Any] = {
    "users": [
        {"first_name": "Ada", "last_name": "Adams", "email_address": ADA},
        {"first_name": "Bob", "last_name": "Brown", "email_address": BOB},
    ],
    "organizations": [
        {
            "name": "Acme",
            "slug": SLUG,
            "created_by": ADA,
            "max_allowed_memberships": 50,
            "members": [{"user": ADA, "role": ADMIN_ROLE}, {"user": BOB, "role": MEMBER_ROLE}],
        }
    ],
    "events": True,
}


async def furnish(firm: Firm) -> Firm:
    """Ada and Bob, in Clerk and in the mirror."""
    firm.emulator.seed(SEED)
    await firm.settle()
    return firm


async def access_of(firm: Firm, email: str | None = ADA) -> OrganizationAccess:
    """What a person may do in the firm; None: the holder of the break-glass key."""
    principal = BREAK_GLASS_PRINCIPAL
    if email is not None:
        principal = await _principal(firm, email)
    found = await firm.services.db.read(find_access, principal, SLUG)
    assert found is not None
    return found


async def _principal(firm: Firm, email: str) -> Principal:
    found = await firm.services.db.read(find_principal, firm.user_id(email), admins=frozenset())
    assert isinstance(found, Principal)
    return found


async def recover(firm: Firm, times: int = 12) -> None:
    """Time goes on, and a worker comes by until nothing is open."""
    for _ in range(times):
        firm.clock.advance(LEASE_DURATION + 1)
        await firm.services.executor.resume_due()


def invitations(firm: Firm, email: str | None = None) -> list[tuple[str, str]]:
    """What Clerk has: (id, status) of the invitations, oldest first; of one address where it is given."""
    state = firm.emulator.state
    rows = [it for it in state.organization_invitations.oldest_first() if email in (None, it.email_address)]
    return [(it.id, it.status(state.now)) for it in rows]


def statuses(firm: Firm, email: str | None = None) -> list[str]:
    """How Clerk's invitations stand, oldest first."""
    return [status for _, status in invitations(firm, email)]


async def operations(firm: Firm, kind: str = "") -> list[Operation]:
    """Our operations, newest first."""
    found = await firm.services.db.read(repository.list_operations, limit=500)
    return [it for it in found if kind in ("", it.kind)]


def refuse(firm: Firm, operation: str, code: str, *, status: int = 403, count: int | None = 1) -> None:
    """Clerk refuses this, definitely."""
    body = {"errors": [{"code": code, "message": code, "long_message": f"No: {code}."}]}
    firm.emulator.fail(operation, status=status, body=body, count=count)


def mortal(firm: Firm) -> CrashPoints:
    """From now on the firm can be stopped at every statement, commit and boundary of a call to Clerk."""
    points = CrashPoints()
    points.watch(firm.services.db)
    http = firm.services.clerk._backend._http
    http._transport = points.around(http._transport)
    return points


def next_day(firm: Firm) -> None:
    """The limits of a day start anew."""
    firm.clock.advance(DAY + 1)


async def accept(firm: Firm, url: str) -> int:
    """Somebody opens the link and accepts; the status of Clerk's answer."""
    async with firm.browser() as browser:
        ticket = url.partition("ticket=")[2]
        path = url.partition("?")[0]
        response = await browser.post(path, data={"ticket": ticket})
        return response.status_code
