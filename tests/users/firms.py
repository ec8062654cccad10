"""Two organizations and a user without a Clerk account, and failures of Clerk, for the tests of users."""

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import httpx2
import sqlalchemy as sa

from clerk_emulator.state.models import User
from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries
from instep.auth.principal import BREAK_GLASS_PRINCIPAL, Principal
from instep.auth.repository import find_principal
from instep.core.db import Conn
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from instep.mirror.tables import memberships, users
from instep.mirror.user_repository import UserRow, find_user
from instep.operations import repository
from instep.operations.executor import LEASE_DURATION
from instep.operations.workflow import Operation
from instep.users.models import EmailChangePolicy, UserChanges
from instep.users.service import UserService
from tests.support.crash import CrashPoints, seconds
from tests.support.world import Firm

ADA, BOB, CLEO = "ada@acme.example", "bob@acme.example", "cleo@beta.example"
LOU = "lou@example.com"
SEED: dict[str, Any] = {
    "users": [
        {"first_name": "Ada", "last_name": "Adams", "email_address": ADA},
        {"first_name": "Bob", "last_name": "Brown", "email_address": BOB, "username": "bobby"},
        {"first_name": "Cleo", "last_name": "Clark", "email_address": CLEO},
    ],
    "organizations": [
        {
            "name": "Acme",
            "slug": "acme",
            "created_by": ADA,
            "max_allowed_memberships": 0,
            "members": [{"user": ADA, "role": ADMIN_ROLE}, {"user": BOB, "role": MEMBER_ROLE}],
        },
        {
            "name": "Beta",
            "slug": "beta",
            "created_by": CLEO,
            "max_allowed_memberships": 0,
            "members": [{"user": CLEO, "role": ADMIN_ROLE}, {"user": BOB, "role": MEMBER_ROLE}],
        },
    ],
    "events": True,
}


async def furnish(firm: Firm, *, policy: EmailChangePolicy | None = None) -> Firm:
    """Everybody of SEED, in Clerk and in the mirror, and Lou in the mirror alone."""
    firm.emulator.seed(SEED)
    await firm.settle()
    service = users_of(firm)
    await service.create(BREAK_GLASS_PRINCIPAL, UserChanges(email=LOU, first_name="Lou"), in_clerk=False)
    if policy is not None:
        object.__setattr__(service.emails, "policy", policy)
    return firm


def users_of(firm: Firm) -> UserService:
    """Return the service under test."""
    return firm.services.users


async def principal_of(firm: Firm, email: str) -> Principal:
    """Somebody of Clerk's, as they ask here."""
    found = await firm.services.db.read(find_principal, firm.user_id(email), admins=frozenset())
    assert isinstance(found, Principal)
    return found


async def person(firm: Firm, ref: str) -> UserRow:
    """Somebody as the mirror has them, by id or by address."""
    found = await firm.services.db.read(_find, ref)
    assert found is not None, ref
    return found


def _find(conn: Conn, ref: str) -> UserRow | None:
    by_email = sa.select(users.c.id).where(users.c.email == ref).order_by(users.c.id.desc()).limit(1)
    return find_user(conn, conn.execute(by_email).scalar() or ref)


async def standing(firm: Firm, ref: str) -> list[tuple[str, str]]:
    """(role, status) of somebody's memberships."""
    id = (await person(firm, ref)).id
    query = sa.select(memberships.c.role, memberships.c.status).where(memberships.c.user_id == id)
    rows = await firm.services.db.read(lambda conn: conn.execute(query.order_by(memberships.c.id)).all())
    return [(role, status) for role, status in rows]


async def count_rows(firm: Firm) -> int:
    """How many people the mirror has, graves not counted."""
    query = sa.select(sa.func.count()).where(users.c.sort_name != "")
    return await firm.services.db.read(lambda conn: int(conn.execute(query).scalar_one()))


def clerk_user(firm: Firm, id: str | None) -> User | None:
    """A user as Clerk has it."""
    return firm.emulator.state.users.find(id)


def addresses_of(firm: Firm, id: str | None) -> list[tuple[str, bool]]:
    """(address, is it proven) of a user in Clerk, oldest first."""
    user = clerk_user(firm, id)
    assert user is not None
    return [(it.email_address, it.status == "verified") for it in user.email_addresses]


async def require_equal(firm: Firm, where: str = "") -> None:
    """Both sides say the same of everyone whom Clerk has, and nobody lives here on a Clerk id that Clerk lacks."""
    listed = {user.id: user for user in firm.emulator.state.users.oldest_first()}
    rows = await firm.services.db.read(lambda conn: conn.execute(sa.select(users)).mappings().all())
    ours = {row["clerk_id"]: row for row in rows if row["clerk_id"] and row["gone_at"] is None}
    assert set(ours) == set(listed), where
    for id, user in listed.items():
        row, primary = ours[id], user.primary_email
        theirs = (user.first_name or None, user.last_name or None, user.username, user.banned, user.public_metadata)
        assert theirs == (
            row["first_name"],
            row["last_name"],
            row["username"],
            row["is_banned"],
            row["public_metadata"],
        ), where
        assert (primary.email_address if primary else None) == row["email"], where


async def recover(firm: Firm, times: int = 4) -> None:
    """Time goes on, and a worker comes by."""
    for _ in range(times):
        firm.clock.advance(LEASE_DURATION + 1)
        await firm.services.executor.resume_due()


async def operations(firm: Firm, kind: str = "") -> list[Operation]:
    """Our operations, newest first."""
    found = await firm.services.db.read(repository.list_operations, limit=500)
    return [it for it in found if kind in ("", it.kind)]


async def latest(firm: Firm) -> list[Operation]:
    """The newest few of our operations."""
    return await firm.services.db.read(repository.list_operations, limit=4)


async def outcomes(firm: Firm, operation: Operation) -> list[str]:
    """What the audit says of an operation, newest first."""
    return [it.outcome for it in await firm.services.db.read(list_entries, AuditFilter(cause=operation.id))]


def refuse(firm: Firm, operation: str, code: str, *, status: int = 422, param: str | None = None) -> None:
    """Clerk refuses this once, definitely."""
    error = {"code": code, "message": code, "long_message": f"No: {code}.", "meta": {"param_name": param}}
    body = {"errors": [error], "clerk_trace_id": "trace_1"}
    firm.emulator.fail(operation, status=status, body=body, count=1)


class Silence(httpx2.AsyncBaseTransport):
    """A network on which an answer gets lost, before or after the effect."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self.inner = inner
        self.wanted: list[tuple[str, str, bool]] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        hit = next((it for it in self.wanted if it[0] == request.method and it[1] in request.url.path), None)
        if hit is None:
            return await self.inner.handle_async_request(request)
        self.wanted.remove(hit)
        if hit[2]:
            await self.inner.handle_async_request(request)
        raise httpx2.ReadTimeout("too slow", request=request)


def silence(firm: Firm, method: str, path: str, *, after: bool) -> None:
    """The next call like this is never answered; `after`: although it had its effect."""
    http = firm.services.clerk._backend._http
    if not isinstance(http._transport, Silence):
        http._transport = Silence(http._transport)
    http._transport.wanted.append((method, path, after))


def mortal(firm: Firm) -> CrashPoints:
    """From now on the firm can be stopped at every statement, commit and boundary of a call to Clerk."""
    points = CrashPoints()
    points.watch(firm.services.db)
    http = firm.services.clerk._backend._http
    http._transport = points.around(http._transport)
    return points


Act = Callable[[int], Awaitable[object]]
Hold = Callable[[int, bool], Awaitable[None]]


async def stop_everywhere(firm: Firm, act: Act, hold: Hold, *, kind: str, prepare: Act | None = None) -> int:
    """Do `act(n)` again and again, stopped at each place in turn, and stopped once more while it is recovered.

    `hold(n, was_kept)` checks what came of it; `was_kept`: the intent was committed before the stop. Gives how many
    places there are.
    """
    points, runs = mortal(firm), count(1)
    for at in count(1):
        for second in seconds(points, at, span=11):
            if not await _stop_once(firm, points, (act, hold, prepare), kind, (next(runs), at, second)):
                return at
    raise AssertionError("it never came to its end")


async def _stop_once(
    firm: Firm, points: CrashPoints, what: tuple[Act, Hold, Act | None], kind: str, numbers: tuple[int, int, int]
) -> bool:
    """One run, stopped at `at` and, while it is recovered, at `second`; whether there was such a place as `at`."""
    (act, hold, prepare), (n, at, second) = what, numbers
    if prepare is not None:
        await prepare(n)
    before = {it.id for it in await latest(firm)}
    with points.armed(at):
        await act(n)
    where = points.where
    with points.armed(second):
        await recover(firm, times=1)
    is_reached = points.where
    for _ in range(3):
        ours = [it for it in await latest(firm) if it.id not in before and it.kind == kind]
        if all(it.state != "open" for it in ours):
            break
        await recover(firm, times=1)
    await firm.settle()
    ours = [it for it in await latest(firm) if it.id not in before and it.kind == kind]
    assert len(ours) <= 1, where
    for operation in ours:
        assert operation.state == "settled", f"{where}: {operation.reason}"
        assert await outcomes(firm, operation) == ["done", "asked"], where
    try:
        await hold(n, bool(ours))
    except AssertionError as error:
        raise AssertionError(f"stopped {where}: {error}") from error
    points.last_where = is_reached
    return bool(where)
