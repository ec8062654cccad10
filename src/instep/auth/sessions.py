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

SESSION_CHECK_INTERVAL = MINUTE  # as long as Clerk's own session tokens live: what is revoked there is out here as fast
SESSION_CHECK_RETRY_INTERVAL = 15 * SECOND  # one question at a time for each session, also while Clerk does not answer
SESSION_CHECK_GRACE = (
    10 * MINUTE
)  # Clerk being down must not stop work that has begun; a revoked person stays no longer than this
CLERK_TIMEOUT_SECONDS = 3.0  # seconds that a page waits for Clerk's answer; then it counts as down
BREAK_GLASS_SESSION_LIFETIME = HOUR
TOKEN_BYTES = 32
MAX_CACHED_CHECKS = 10_000
IMPORT_DATABASE_WAIT_SECONDS = (
    1.0  # seconds that a request waits for the database so that somebody new may be written down
)


class SessionCheckCache:
    """Clerk's answers on sessions that could not be written down, by Clerk's session id, for `RETRY_AFTER`.

    Without them each request would ask Clerk again while the database is locked or full, and an answer that a session
    is over would count once. `claim` keeps the requests of one session from asking side by side.
    """

    def __init__(self, clock: Clock = monotonic_now) -> None:
        self._clock = clock
        self._answers: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        self._claimed: OrderedDict[str, int] = OrderedDict()

    def find(self, clerk_session_id: str) -> bool | None:
        """Return whether Clerk called the session active a moment ago; None where nothing is remembered."""
        at, is_active = self._answers.get(clerk_session_id, (None, None))
        return is_active if at is not None and self._clock() - at < SESSION_CHECK_RETRY_INTERVAL else None

    def keep(self, clerk_session_id: str, is_active: bool) -> None:
        """Remember an answer; of too many the oldest is forgotten."""
        _put_bounded(self._answers, clerk_session_id, (self._clock(), is_active))

    def claim(self, token_hash: str) -> bool:
        """Return whether nobody has claimed to ask about this session of ours within `RETRY_AFTER`."""
        before, at = self._claimed.get(token_hash), self._clock()
        if before is not None and at - before < SESSION_CHECK_RETRY_INTERVAL:
            return False
        _put_bounded(self._claimed, token_hash, at)
        return True


def _put_bounded(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept.pop(name, None)
    kept[name] = value
    while len(kept) > MAX_CACHED_CHECKS:
        kept.popitem(last=False)


UserImporter = Callable[[str], Awaitable[None]]


class SessionsApi(Protocol):
    """The provider's sessions. Each method raises ClerkUnavailableError or ClerkRejectedError."""

    async def find_session(self, id: str) -> ClerkSession | None:
        """A session's present state, None where there is no such session."""

    async def revoke_session(self, id: str) -> None:
        """End a session; one that is over already is fine."""


@dataclass(frozen=True)
class SessionService:
    """The sessions of the console. `admins`: Clerk ids and addresses (lower case) of instance admins.

    `noted` writes the audit of a session by key, in the transaction that opens it.
    """

    db: Database
    source: SessionsApi
    break_glass: BreakGlassKey
    admins: frozenset[str] = frozenset()
    clock: Clock = system_now
    import_user: UserImporter | None = None
    clerk_timeout: float = CLERK_TIMEOUT_SECONDS
    record_audit: Callable[[Conn], None] = lambda conn: None
    check_cache: "SessionCheckCache" = field(default_factory=lambda: SessionCheckCache())

    async def open(self, claims: SessionClaims) -> str:
        """A new session for the person of a token that was verified just now; our own token, kept only as a hash."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await self.db.write(repository.insert_session, token_hash=_hash_token(token), claims=claims, at=self.clock())
        await self._import_if_in_no_organization(claims)
        return token

    async def adopt(self, claims: SessionClaims) -> str | None:
        """`open` for a token that lay in a cookie: it may be of before a sign-out, so Clerk is asked first.

        None where the session is over, or Clerk does not say.
        """
        return await self.open(claims) if await self._ask(claims.session, claims.user) else None

    async def open_break_glass(self) -> str:
        """A new session for the holder of the break-glass key, for `BREAK_GLASS_FOR`; its token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await self.db.write(self._insert_break_glass_session, token_hash=self.break_glass.hash_of(token))
        return token

    def _insert_break_glass_session(self, conn: Conn, *, token_hash: str) -> None:
        repository.insert_session(conn, token_hash=token_hash, claims=None, at=self.clock())
        self.record_audit(conn)

    async def find(self, token: str) -> AuthenticationResult:
        """Who holds this session token, None where it is nobody's or over.

        1. One read: the session and the person as the mirror has them now.
        2. A session by key: no older than its hour.
        3. Someone who is barred is out, whatever Clerk says.
        4. Clerk's word on the session is no older than a minute, else ask.
        5. Someone the mirror does not know: have them brought in.
        """
        found = await self.db.read(repository.find_session, token_hashes=self._hashes(token))
        if found is None:
            return None
        session, person = found
        if session.clerk_session_id is None or session.clerk_user_id is None:
            is_young = is_recent(session.created_at, self.clock(), BREAK_GLASS_SESSION_LIFETIME)
            is_good = self.break_glass.is_on and is_young
            return BREAK_GLASS_PRINCIPAL if is_good else None
        who = resolve_principal(person, session.clerk_user_id, self.admins, actor=session.actor)
        if isinstance(who, DeniedPrincipal):
            return who
        if not await self._is_session_active(session, session.clerk_session_id, session.clerk_user_id):
            return None
        return await self._import_if_unknown(who)

    async def resolve_claims(self, claims: SessionClaims) -> Principal | DeniedPrincipal:
        """Who a verified session token of Clerk's is here, by the mirror's present state."""
        who = await self.db.read(repository.find_principal, claims.user, admins=self.admins, actor=claims.actor)
        if isinstance(who, Principal):
            return await self._import_if_unknown(who)
        return who

    async def add_actor_name(self, who: Principal) -> Principal:
        """Return somebody with instep's id and the name of the person who acts as them, as far as these are known."""
        found = await self.db.read(repository.find_actor, who.actor or "")
        return replace(who, actor=found[0], actor_name=found[1]) if found else who

    async def end(self, token: str) -> bool:
        """Sign out. False where Clerk did not answer, so that its own session may live on.

        1. End our session. 2. With it every other session of ours that hangs on the same one of Clerk's.
        3. Have Clerk revoke its own.
        """
        at = self.clock()
        clerk_session_id = await self.db.write(repository.end_session, token_hashes=self._hashes(token), at=at)
        if clerk_session_id is None:
            return True
        await self.db.write(repository.end_sessions_of_clerk_session, clerk_session_id, at=at)
        try:
            async with asyncio.timeout(self.clerk_timeout):
                await self.source.revoke_session(clerk_session_id)
        except (InstepError, TimeoutError):
            return False
        return True

    async def _is_session_active(self, session: SessionRow, clerk_session_id: str, clerk_user_id: str) -> bool:
        """Whether Clerk's session is still active, as far as can be known.

        1. Asked less than a minute ago: yes.
        2. Asked by this process a moment ago, and the answer could not be kept: that answer.
        3. Take on the question; whoever finds it taken goes in on the last good answer, within the grace.
        4. Ask. Over: end every session of ours on it. Active: note when. No answer: the grace decides.

        Nothing of this needs the database to be writable: what can't be kept is remembered for `RETRY_AFTER`.
        """
        at = self.clock()
        if is_recent(session.checked_at, at, SESSION_CHECK_INTERVAL):
            return True
        is_in_grace = is_recent(session.checked_at, at, SESSION_CHECK_GRACE)
        remembered = self.check_cache.find(clerk_session_id)
        if remembered is not None:
            return remembered
        if is_in_grace and not await self._take(session, at):
            return True
        is_active = await self._ask(clerk_session_id, clerk_user_id)
        if is_active is None:
            return is_in_grace
        kept: int | None
        if is_active:
            kept = await self.db.write_best_effort(
                repository.record_session_check, token_hash=session.token_hash, at=at
            )
        else:
            kept = await self.db.write_best_effort(repository.end_sessions_of_clerk_session, clerk_session_id, at=at)
        if kept is None:
            self.check_cache.keep(clerk_session_id, is_active)
        return is_active

    async def _take(self, session: SessionRow, at: int) -> bool:
        """Whether this request is to ask: one of all processes, or one of this one where that can't be written."""
        if is_recent(session.tried_at, at, SESSION_CHECK_RETRY_INTERVAL):
            return False
        hashed, tried_at = session.token_hash, session.tried_at
        is_taken = await self.db.write_best_effort(
            repository.claim_session_check, token_hash=hashed, tried_at=tried_at, at=at
        )
        return self.check_cache.claim(hashed) if is_taken is None else is_taken

    async def _ask(self, clerk_session_id: str, clerk_user_id: str) -> bool | None:
        """Whether Clerk calls this session active; None where it does not say."""
        try:
            async with asyncio.timeout(self.clerk_timeout):
                state = await self.source.find_session(clerk_session_id)
        except (InstepError, TimeoutError):
            return None
        return state is not None and state.status == "active" and state.user_id == clerk_user_id

    async def _import_if_in_no_organization(self, claims: SessionClaims) -> None:
        """Someone who is in no organization here may have joined a moment ago: nobody waits for a webhook."""
        who = await self.db.read(repository.find_principal, claims.user, admins=self.admins)
        if isinstance(who, Principal) and not await self.db.read(repository.list_accesses, who, limit=1):
            await self._try_import_user(claims.user)

    async def _import_if_unknown(self, who: Principal) -> Principal | DeniedPrincipal:
        if who.user_id is not None or who.clerk_user_id is None or not await self._try_import_user(who.clerk_user_id):
            return who
        return await self.db.read(repository.find_principal, who.clerk_user_id, admins=self.admins, actor=who.actor)

    async def _try_import_user(self, clerk_user_id: str) -> bool:
        """Have someone read from the provider; whether that was possible."""
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
        return [_hash_token(token), *([self.break_glass.hash_of(token)] if self.break_glass.is_on else [])]


def _hash_token(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


"""Brings one user of Clerk, who is signed in and not in the mirror yet, into the mirror."""
