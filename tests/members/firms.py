"""Two firms, for the tests of changing members: Acme with two admins and three members, and Globex, Eve's other one."""

from typing import Any

from instep.auth.principal import BREAK_GLASS_PRINCIPAL, OrganizationAccess, Principal
from instep.auth.repository import find_access, find_principal
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from instep.members import repository
from instep.members.models import MemberRecord
from instep.members.service import MemberService
from instep.operations import repository as operations_repository
from instep.operations.executor import LEASE_DURATION
from instep.operations.workflow import Operation
from tests.support.crash import CrashPoints
from tests.support.world import Firm

SLUG = "acme"
ADA, DAN = "ada@acme.example", "dan@acme.example"
BOB, EVE, KIM, ZOE = "bob@acme.example", "eve@acme.example", "kim@acme.example", "zoe@globex.example"
NAMES = {ADA: "Ada Adams", DAN: "Dan Dorn", BOB: "Bob Brown", EVE: "Eve Eden", KIM: "Kim Koch", ZOE: "Zoe Zane"}
ROLES = {ADA: ADMIN_ROLE, DAN: ADMIN_ROLE, BOB: MEMBER_ROLE, EVE: MEMBER_ROLE, KIM: MEMBER_ROLE}
SEED: dict[str, Any] = {
    "users": [
        {"first_name": name.split()[0], "last_name": name.split()[1], "email_address": email}
        for email, name in NAMES.items()
    ],
    "organizations": [
        {
            "name": "Acme",
            "slug": SLUG,
            "created_by": ADA,
            "max_allowed_memberships": 50,
            "members": [{"user": email, "role": role} for email, role in ROLES.items()],
        },
        {
            "name": "Globex",
            "slug": "globex",
            "created_by": ZOE,
            "members": [{"user": ZOE, "role": ADMIN_ROLE}, {"user": EVE, "role": MEMBER_ROLE}],
        },
    ],
    "events": True,
}


async def furnish(firm: Firm) -> Firm:
    """Everyone, in Clerk and in the mirror."""
    firm.emulator.seed(SEED)
    await firm.settle()
    return firm


def members_of(firm: Firm) -> MemberService:
    """The service under test."""
    return firm.services.members


async def access_of(firm: Firm, email: str | None = ADA, slug: str = SLUG) -> OrganizationAccess:
    """What a person may do in a firm; None: the holder of the break-glass key."""
    found = await firm.services.db.read(find_access, await principal_of(firm, email), slug)
    assert found is not None
    return found


async def principal_of(firm: Firm, email: str | None) -> Principal:
    """Who a person is here."""
    if email is None:
        return BREAK_GLASS_PRINCIPAL
    found = await firm.services.db.read(find_principal, firm.user_id(email), admins=frozenset())
    assert isinstance(found, Principal)
    return found


async def may_enter(firm: Firm, email: str, slug: str = SLUG) -> bool:
    """Whether a person is let into a firm now."""
    found = await firm.services.db.read(find_principal, firm.user_id(email), admins=frozenset())
    return isinstance(found, Principal) and await firm.services.db.read(find_access, found, slug) is not None


async def member(firm: Firm, email: str, slug: str = SLUG) -> MemberRecord:
    """A person's place in a firm, as the mirror has it."""
    access = await access_of(firm, None, slug)
    found = await firm.services.db.read(repository.find_member, access.organization_id, firm.user_id(email))
    assert found is not None
    return found


async def status_and_role(firm: Firm, email: str) -> tuple[str, str]:
    """Return a member's status and role in Acme."""
    found = await member(firm, email)
    return found.status, found.role


def in_clerk(firm: Firm, email: str, slug: str = SLUG) -> str | None:
    """A person's role in Clerk; None: no member there."""
    state, user, organization = firm.emulator.state, firm.user_id(email), firm.organization_id(slug)
    id = state.membership_of.get((organization, user))
    found = state.memberships.find(id) if id else None
    return found.role if found else None


def sign_in(firm: Firm, email: str) -> None:
    """Open a session in Clerk."""
    from clerk_emulator.state import sessions

    user = firm.emulator.state.users.find(firm.user_id(email))
    assert user is not None
    sessions.start(firm.emulator.state, user, sessions.create_client(firm.emulator.state))


def open_sessions(firm: Firm, email: str) -> int:
    """How many sessions a person has in Clerk."""
    from clerk_emulator.state import sessions

    state = firm.emulator.state
    return sum(it.status(state.now) == "active" for it in sessions.list_by_user(state, firm.user_id(email)))


def is_banned(firm: Firm, email: str) -> bool:
    """Whether Clerk keeps a person out of everything."""
    user = firm.emulator.state.users.find(firm.user_id(email))
    assert user is not None
    return user.banned


async def operations(firm: Firm, kind: str = "", *, limit: int = 100) -> list[Operation]:
    """Our operations, newest first."""
    found = await firm.services.db.read(operations_repository.list_operations, limit=limit)
    return [it for it in found if kind in ("", it.kind)]


async def recover(firm: Firm, times: int = 6) -> None:
    """Time goes on, and a worker comes by until nothing is open."""
    for _ in range(times):
        firm.clock.advance(LEASE_DURATION + 1)
        await firm.services.executor.resume_due()


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
