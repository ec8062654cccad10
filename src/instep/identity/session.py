"""Being signed in: what a session token says, what Clerk says of a session, and how a sign-in ends."""

from msgspec import Struct

from instep.kit.errors import PermanentError


class SessionClaims(Struct, frozen=True, kw_only=True):
    """What a verified session token says, whichever version it is written in.

    `role` has its prefix (`org:admin`), `permissions` are whole (`org:invoices:create`); both speak of
    `organization`, the one that is active in the session. `actor` is who acts as this user (impersonation).
    `expires_at` is in Unix milliseconds.
    """

    user: str
    session: str
    organization: str | None = None
    role: str | None = None
    permissions: frozenset[str] = frozenset()
    expires_at: int = 0
    actor: str | None = None


class SessionRefused(PermanentError):
    """A token, or the end of a sign-in, that can't be believed. `code` says why; `clerk.session` lists them."""


class SessionState(Struct, frozen=True):
    """A session as Clerk has it now. Only `status` "active" is a person who is signed in."""

    id: str
    user_id: str
    status: str
    last_active_organization_id: str | None = None


class OpenSession(Struct, frozen=True, kw_only=True):
    """An active session, for people to know it by. Times are Unix milliseconds; `device` and `place` may be empty."""

    id: str
    created_at: int
    last_active_at: int
    device: str = ""
    place: str = ""
    ip_address: str = ""


class SignedIn(Struct, frozen=True, kw_only=True):
    """A sign-in ended well. `dev_browser` is the browser's token at a development instance, to be kept."""

    claims: SessionClaims
    dev_browser: str | None = None


class SignedOut(Struct, frozen=True, kw_only=True):
    """The provider says that nobody is signed in in this browser."""

    dev_browser: str | None = None
