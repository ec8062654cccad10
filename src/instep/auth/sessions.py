"""Console sessions: opened from a Clerk session, rechecked every minute, ended on both sides."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from msgspec.structs import replace

from instep.auth import repository
from instep.auth.break_glass import BreakGlassKey
from instep.auth.principal import (
    BREAK_GLASS_PRINCIPAL,
    AuthenticationResult,
    DeniedPrincipal,
    Principal,
    resolve_principal,
)
from instep.auth.repository import SessionRow
from instep.core.clock import HOUR, MINUTE, SECOND, Clock, is_recent, monotonic_now
from instep.core.clock import now as system_now
from instep.core.db import Conn, Database, limit_database_waits
from instep.core.errors import InstepError
from instep.domain.models import ClerkSession, SessionClaims

SESSION_CHECK_INTERVAL = MINUTE  # the lifetime of Clerk's session tokens
SESSION_CHECK_RETRY_INTERVAL = 15 * SECOND  # also while Clerk does not answer
SESSION_CHECK_GRACE = 10 * MINUTE  # longest use of a session while Clerk is down
CLERK_TIMEOUT_SECONDS = 3.0  # seconds that a page waits for Clerk; then it counts as down
BREAK_GLASS_SESSION_LIFETIME = HOUR
TOKEN_BYTES = 32
MAX_CACHED_CHECKS = 10_000
IMPORT_DATABASE_WAIT_SECONDS = 1.0  # seconds that a request waits for the database to import its user


class SessionCheckCache:
    """Clerk's answers that could not be stored, by Clerk session id, for SESSION_CHECK_RETRY_INTERVAL.

    Without it each request would ask Clerk again while the database is locked or full, and the end of a session would
    take effect only once. `claim` prevents concurrent checks of one session.
    """

    def __init__(self, clock: Clock = monotonic_now) -> None:
        self._clock = clock
        self._answers: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        self._claimed: OrderedDict[str, int] = OrderedDict()

    def find(self, clerk_session_id: str) -> bool | None:
        """Return the last answer about a session; None if there is none."""
        checked_at, is_active = self._answers.get(clerk_session_id, (None, None))
        return (
            is_active if checked_at is not None and self._clock() - checked_at < SESSION_CHECK_RETRY_INTERVAL else None
        )

    def keep(self, clerk_session_id: str, is_active: bool) -> None:
        """Store an answer; if there are too many, the oldest is dropped."""
        _put_bounded(self._answers, clerk_session_id, (self._clock(), is_active))

    def claim(self, token_hash: str) -> bool:
        """Claim the check of a console session; False if it was claimed within SESSION_CHECK_RETRY_INTERVAL."""
        claimed_at, now = self._claimed.get(token_hash), self._clock()
        if claimed_at is not None and now - claimed_at < SESSION_CHECK_RETRY_INTERVAL:
            return False
        _put_bounded(self._claimed, token_hash, now)
        return True


def _put_bounded(entries: OrderedDict[str, Any], key: str, value: Any) -> None:
    entries.pop(key, None)
    entries[key] = value
    while len(entries) > MAX_CACHED_CHECKS:
        entries.popitem(last=False)


UserImporter = Callable[[str], Awaitable[None]]  # imports a signed-in Clerk user who is not in the mirror yet


class SessionsApi(Protocol):
    """Sessions of the provider. Each method raises ClerkUnavailableError or ClerkRejectedError."""

    async def find_session(self, session_id: str) -> ClerkSession | None:
        """Return the current state of a session; None if there is none."""

    async def revoke_session(self, session_id: str) -> None:
        """Revoke a session; one that has ended is not an error."""


@dataclass(frozen=True)
class SessionService:
    """Console sessions. `admins`: Clerk ids and lower-case addresses of instance admins.

    `record_audit` writes the audit entry of a break-glass session in the transaction that opens it.
    """

    db: Database
    sessions_api: SessionsApi
    break_glass: BreakGlassKey
    admins: frozenset[str] = frozenset()
    clock: Clock = system_now
    import_user: UserImporter | None = None
    clerk_timeout: float = CLERK_TIMEOUT_SECONDS
    record_audit: Callable[[Conn], None] = lambda conn: None
    check_cache: SessionCheckCache = field(default_factory=SessionCheckCache)

    async def open(self, claims: SessionClaims) -> str:
        """Open a session for a verified session token; return its token, of which only a hash is stored."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await self.db.write(repository.insert_session, token_hash=_hash_token(token), claims=claims, at=self.clock())
        await self._import_if_in_no_organization(claims)
        return token

    async def adopt(self, claims: SessionClaims) -> str | None:
        """Open a session for a token from a cookie, after checking with Clerk: it may precede a sign-out.

        Return None if the session has ended or Clerk does not answer.
        """
        return await self.open(claims) if await self._fetch_is_active(claims.session, claims.user) else None

    async def open_break_glass(self) -> str:
        """Open a session for the break-glass key, valid for BREAK_GLASS_SESSION_LIFETIME; return its token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await self.db.write(self._insert_break_glass_session, token_hash=self.break_glass.hash_token(token))
        return token

    def _insert_break_glass_session(self, conn: Conn, *, token_hash: str) -> None:
        repository.insert_session(conn, token_hash=token_hash, claims=None, at=self.clock())
        self.record_audit(conn)

    async def find(self, token: str) -> AuthenticationResult:
        """Return the principal of a session token; None if it is unknown or the session has ended.

        1. Read the session and the user's row of the mirror.
        2. A break-glass session is valid for BREAK_GLASS_SESSION_LIFETIME.
        3. Deny a denied user, whatever Clerk says.
        4. Check the session with Clerk unless it was checked less than a minute ago.
        5. Import a user who is not in the mirror.
        """
        found = await self.db.read(repository.find_session, token_hashes=self._hashes(token))
        if found is None:
            return None
        session, person = found
        if session.clerk_session_id is None or session.clerk_user_id is None:
            is_young = is_recent(session.created_at, self.clock(), BREAK_GLASS_SESSION_LIFETIME)
            is_good = self.break_glass.is_configured and is_young
            return BREAK_GLASS_PRINCIPAL if is_good else None
        principal = resolve_principal(person, session.clerk_user_id, self.admins, actor=session.actor)
        if isinstance(principal, DeniedPrincipal):
            return principal
        if not await self._is_session_active(session, session.clerk_session_id, session.clerk_user_id):
            return None
        return await self._import_if_unknown(principal)

    async def resolve_claims(self, claims: SessionClaims) -> Principal | DeniedPrincipal:
        """Return the principal of a verified session token by the mirror's current state."""
        principal = await self.db.read(repository.find_principal, claims.user, admins=self.admins, actor=claims.actor)
        if isinstance(principal, Principal):
            return await self._import_if_unknown(principal)
        return principal

    async def add_actor_name(self, principal: Principal) -> Principal:
        """Add instep's id and the name of the impersonating user, as far as known."""
        found = await self.db.read(repository.find_actor, principal.actor or "")
        return replace(principal, actor=found[0], actor_name=found[1]) if found else principal

    async def end(self, token: str) -> bool:
        """Sign out. Return False if Clerk did not answer, so that its session may still be active.

        1. End the console session. 2. End all other console sessions of the same Clerk session. 3. Revoke it in Clerk.
        """
        now = self.clock()
        clerk_session_id = await self.db.write(repository.end_session, token_hashes=self._hashes(token), at=now)
        if clerk_session_id is None:
            return True
        await self.db.write(repository.end_sessions_of_clerk_session, clerk_session_id, at=now)
        try:
            async with asyncio.timeout(self.clerk_timeout):
                await self.sessions_api.revoke_session(clerk_session_id)
        except (InstepError, TimeoutError):
            return False
        return True

    async def _is_session_active(self, session: SessionRow, clerk_session_id: str, clerk_user_id: str) -> bool:
        """Return whether Clerk's session is still active, as far as can be known.

        1. Checked less than a minute ago: yes.
        2. Checked by this process a moment ago and not stored: that answer.
        3. Claim the check; if another request has it, use the last answer within the grace period.
        4. Ask Clerk. Ended: end its console sessions. Active: record the time. No answer: the grace period decides.

        None of this needs a writable database: what can't be stored is cached for SESSION_CHECK_RETRY_INTERVAL.
        """
        now = self.clock()
        if is_recent(session.checked_at, now, SESSION_CHECK_INTERVAL):
            return True
        is_in_grace = is_recent(session.checked_at, now, SESSION_CHECK_GRACE)
        remembered = self.check_cache.find(clerk_session_id)
        if remembered is not None:
            return remembered
        if is_in_grace and not await self._claim_check(session, now):
            return True
        is_active = await self._fetch_is_active(clerk_session_id, clerk_user_id)
        if is_active is None:
            return is_in_grace
        saved: int | None
        if is_active:
            saved = await self.db.write_best_effort(
                repository.record_session_check, token_hash=session.token_hash, at=now
            )
        else:
            saved = await self.db.write_best_effort(repository.end_sessions_of_clerk_session, clerk_session_id, at=now)
        if saved is None:
            self.check_cache.keep(clerk_session_id, is_active)
        return is_active

    async def _claim_check(self, session: SessionRow, now: int) -> bool:
        """Claim the check: once among all processes, or once in this one if the database is not writable."""
        if is_recent(session.tried_at, now, SESSION_CHECK_RETRY_INTERVAL):
            return False
        hashed, tried_at = session.token_hash, session.tried_at
        is_taken = await self.db.write_best_effort(
            repository.claim_session_check, token_hash=hashed, tried_at=tried_at, at=now
        )
        return self.check_cache.claim(hashed) if is_taken is None else is_taken

    async def _fetch_is_active(self, clerk_session_id: str, clerk_user_id: str) -> bool | None:
        """Return whether Clerk's session is active; None if Clerk does not answer."""
        try:
            async with asyncio.timeout(self.clerk_timeout):
                state = await self.sessions_api.find_session(clerk_session_id)
        except (InstepError, TimeoutError):
            return None
        return state is not None and state.status == "active" and state.user_id == clerk_user_id

    async def _import_if_in_no_organization(self, claims: SessionClaims) -> None:
        """Import a user without organizations, who may have joined just now, before a webhook arrives."""
        principal = await self.db.read(repository.find_principal, claims.user, admins=self.admins)
        if isinstance(principal, Principal) and not await self.db.read(repository.list_accesses, principal, limit=1):
            await self._try_import_user(claims.user)

    async def _import_if_unknown(self, principal: Principal) -> Principal | DeniedPrincipal:
        if (
            principal.user_id is not None
            or principal.clerk_user_id is None
            or not await self._try_import_user(principal.clerk_user_id)
        ):
            return principal
        return await self.db.read(
            repository.find_principal, principal.clerk_user_id, admins=self.admins, actor=principal.actor
        )

    async def _try_import_user(self, clerk_user_id: str) -> bool:
        """Import a user from the provider; return whether that worked."""
        if self.import_user is None:
            return False
        try:
            async with asyncio.timeout(self.clerk_timeout):
                with limit_database_waits(IMPORT_DATABASE_WAIT_SECONDS):
                    await self.import_user(clerk_user_id)
        except (InstepError, TimeoutError):
            return False
        return True

    def _hashes(self, token: str) -> list[str]:
        return [_hash_token(token), *([self.break_glass.hash_token(token)] if self.break_glass.is_configured else [])]


def _hash_token(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
