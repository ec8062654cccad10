"""Test data of auth: users and organizations in the mirror, a Clerk that can fail, a clock."""

from typing import Any

from instep.auth.break_glass import BreakGlassKey
from instep.auth.rate_limits import FailedAttemptCounter
from instep.auth.sessions import SessionService
from instep.core.clock import Millis
from instep.core.db import Conn, Database
from instep.domain.models import ClerkSession, SessionClaims
from instep.mirror.tables import memberships, organizations, users

NOW = 1_795_219_200_000
KEY = "a key of more than twenty characters"


class FakeClock:
    """A clock that is advanced by hand."""

    def __init__(self, at: int = NOW) -> None:
        self.at = at

    def __call__(self) -> Millis:
        return Millis(self.at)

    def advance(self, milliseconds: int) -> None:
        self.at += milliseconds


class FakeClerk:
    """Has sessions; `failure` is raised instead of an answer."""

    def __init__(self) -> None:
        self.sessions = {"sess_1": ClerkSession("sess_1", "user_1", "active")}
        self.failure: Exception | None = None
        self.asked: list[str] = []
        self.revoked: list[str] = []

    async def find_session(self, session_id: str) -> ClerkSession | None:
        self.asked.append(session_id)
        if self.failure:
            raise self.failure
        return self.sessions.get(session_id)

    async def revoke_session(self, session_id: str) -> None:
        if self.failure:
            raise self.failure
        self.revoked.append(session_id)


def claims(n: int = 1, **changes: Any) -> SessionClaims:
    """Build the claims of user `n` in session `n`."""
    return SessionClaims(**({"user": f"user_{n}", "session": f"sess_{n}"} | changes))


def sessions(db: Database, clerk: FakeClerk, clock: FakeClock) -> SessionService:
    """Create the service under test."""
    return SessionService(db, clerk, BreakGlassKey(KEY, FailedAttemptCounter(clock)), clock=clock)


def put_user(conn: Conn, /, n: int = 1, **changes: Any) -> None:
    """Insert user `n`: `usr_n` here, `user_n` in Clerk."""
    row = {
        "id": f"usr_{n}",
        "clerk_id": f"user_{n}",
        "email": f"person{n}@example.com",
        "is_email_verified": True,
        "first_name": f"First{n}",
        "last_name": f"Last{n}",
        "sort_name": f"first{n} last{n}",
        "search_text": "",
        "joined_at": n,
        "changed_at": n,
    }
    conn.execute(users.insert().values(**(row | changes)))


def change_user(conn: Conn, /, n: int = 1, **changes: Any) -> None:
    """Change the mirror's row of user `n`."""
    conn.execute(users.update().where(users.c.id == f"usr_{n}").values(**changes))


def put_organization(conn: Conn, /, n: int = 1, **changes: Any) -> None:
    """Insert organization `n`: `orn_n` here, `org_n` in Clerk, slug `firm-n`."""
    row = {
        "id": f"orn_{n}",
        "clerk_id": f"org_{n}",
        "name": f"Firm {n}",
        "slug": f"firm-{n}",
        "joined_at": n,
        "changed_at": n,
    }
    conn.execute(organizations.insert().values(**(row | changes)))


def put_membership(conn: Conn, /, user: int = 1, organization: int = 1, **changes: Any) -> None:
    """Insert the membership of a user in an organization."""
    row = {
        "id": f"mem_{user}_{organization}",
        "clerk_id": f"orgmem_{user}_{organization}",
        "organization_id": f"orn_{organization}",
        "user_id": f"usr_{user}",
        "role": "org:member",
        "status": "active",
        "sort_name": "",
        "search_text": "",
        "joined_at": 1,
        "changed_at": 1,
    }
    conn.execute(memberships.insert().values(**(row | changes)))
