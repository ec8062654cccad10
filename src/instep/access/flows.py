"""Console sessions: opened after Clerk's word, checked against Clerk every minute, ended on both sides."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from instep.access import store
from instep.access.limits import BreakGlass
from instep.access.ports import JustInTime, SessionSource
from instep.access.principal import BREAK_GLASS, Asker, Barred, Principal, decide_principal
from instep.access.store import SessionRow
from instep.identity.session import SessionClaims
from instep.kit.clock import HOUR, MINUTE, SECOND, Clock, is_within, monotonic
from instep.kit.clock import now as system_now
from instep.kit.db import Conn, Db
from instep.kit.errors import InstepError
from instep.kit.waits import limit_waits

CHECK_EVERY = MINUTE  # as long as Clerk's own session tokens live: what is revoked there is out here as fast
RETRY_AFTER = 15 * SECOND  # one question at a time for each session, also while Clerk does not answer
GRACE = 10 * MINUTE  # Clerk being down must not stop work that has begun; a revoked person stays no longer than this
ASK_FOR = 3.0  # seconds that a page waits for Clerk's answer; then it counts as down
BREAK_GLASS_FOR = HOUR
TOKEN_BYTES = 32
MOST_UNKEPT = 10_000
ARRIVAL_WAIT = 1.0  # seconds that a request waits for the database so that somebody new may be written down


class UnkeptAnswers:
    """Clerk's answers on sessions that could not be written down, by Clerk's session id, for `RETRY_AFTER`.

    Without them each request would ask Clerk again while the database is locked or full, and an answer that a session
    is over would count once. `claim` keeps the requests of one session from asking side by side.
    """

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._answers: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        self._claimed: OrderedDict[str, int] = OrderedDict()

    def find(self, clerk_session_id: str) -> bool | None:
        """Return whether Clerk called the session active a moment ago; None where nothing is remembered."""
        at, is_active = self._answers.get(clerk_session_id, (None, None))
        return is_active if at is not None and self._clock() - at < RETRY_AFTER else None

    def keep(self, clerk_session_id: str, is_active: bool) -> None:
        """Remember an answer; of too many the oldest is forgotten."""
        _put_newest(self._answers, clerk_session_id, (self._clock(), is_active))

    def claim(self, token_hash: str) -> bool:
        """Return whether nobody has claimed to ask about this session of ours within `RETRY_AFTER`."""
        before, at = self._claimed.get(token_hash), self._clock()
        if before is not None and at - before < RETRY_AFTER:
            return False
        _put_newest(self._claimed, token_hash, at)
        return True


def _put_newest(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept.pop(name, None)
    kept[name] = value
    while len(kept) > MOST_UNKEPT:
        kept.popitem(last=False)


@dataclass(frozen=True)
class Sessions:
    """The sessions of the console. `admins`: Clerk ids and addresses (lower case) of instance admins.

    `noted` writes the audit of a session by key, in the transaction that opens it.
    """

    db: Db
    source: SessionSource
    break_glass: BreakGlass
    admins: frozenset[str] = frozenset()
    clock: Clock = system_now
    just_in_time: JustInTime | None = None
    ask_for: float = ASK_FOR
    noted: Callable[[Conn], None] = lambda conn: None
    unkept: "UnkeptAnswers" = field(default_factory=lambda: UnkeptAnswers())

    async def open(self, claims: SessionClaims) -> str:
        """A new session for the person of a token that was verified just now; our own token, kept only as a hash."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await self.db.write(store.put_session, token_hash=_hash(token), claims=claims, at=self.clock())
        await self._welcome(claims)
        return token

    async def adopt(self, claims: SessionClaims) -> str | None:
        """`open` for a token that lay in a cookie: it may be of before a sign-out, so Clerk is asked first.

        None where the session is over, or Clerk does not say.
        """
        return await self.open(claims) if await self._ask(claims.session, claims.user) else None

    async def open_by_key(self) -> str:
        """A new session for the holder of the break-glass key, for `BREAK_GLASS_FOR`; its token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await self.db.write(self._put_by_key, token_hash=self.break_glass.hash_of(token))
        return token

    def _put_by_key(self, conn: Conn, *, token_hash: str) -> None:
        store.put_session(conn, token_hash=token_hash, claims=None, at=self.clock())
        self.noted(conn)

    async def find(self, token: str) -> Asker:
        """Who holds this session token, None where it is nobody's or over.

        1. One read: the session and the person as the mirror has them now.
        2. A session by key: no older than its hour.
        3. Someone who is barred is out, whatever Clerk says.
        4. Clerk's word on the session is no older than a minute, else ask.
        5. Someone the mirror does not know: have them brought in.
        """
        found = await self.db.read(store.find_session, token_hashes=self._hashes(token))
        if found is None:
            return None
        session, person = found
        if session.clerk_session_id is None or session.clerk_user_id is None:
            is_young = is_within(session.created_at, self.clock(), BREAK_GLASS_FOR)
            is_good = self.break_glass.is_on and is_young
            return BREAK_GLASS if is_good else None
        who = decide_principal(person, session.clerk_user_id, self.admins, actor=session.actor)
        if isinstance(who, Barred):
            return who
        if not await self._is_standing(session, session.clerk_session_id, session.clerk_user_id):
            return None
        return await self._bring_in(who)

    async def find_bearer(self, claims: SessionClaims) -> Principal | Barred:
        """Who a verified session token of Clerk's is here, by the mirror's present state."""
        who = await self.db.read(store.find_principal, claims.user, admins=self.admins, actor=claims.actor)
        if isinstance(who, Principal):
            return await self._bring_in(who)
        return who

    async def name_actor(self, who: Principal) -> Principal:
        """Return somebody with instep's id and the name of the person who acts as them, as far as these are known."""
        found = await self.db.read(store.find_actor, who.actor or "")
        return replace(who, actor=found[0], actor_name=found[1]) if found else who

    async def end(self, token: str) -> bool:
        """Sign out. False where Clerk did not answer, so that its own session may live on.

        1. End our session. 2. With it every other session of ours that hangs on the same one of Clerk's.
        3. Have Clerk revoke its own.
        """
        at = self.clock()
        clerk_session_id = await self.db.write(store.end_session, token_hashes=self._hashes(token), at=at)
        if clerk_session_id is None:
            return True
        await self.db.write(store.end_sessions_of, clerk_session_id, at=at)
        try:
            async with asyncio.timeout(self.ask_for):
                await self.source.revoke_session(clerk_session_id)
        except (InstepError, TimeoutError):
            return False
        return True

    async def _is_standing(self, session: SessionRow, clerk_session_id: str, clerk_user_id: str) -> bool:
        """Whether Clerk's session is still active, as far as can be known.

        1. Asked less than a minute ago: yes.
        2. Asked by this process a moment ago, and the answer could not be kept: that answer.
        3. Take on the question; whoever finds it taken goes in on the last good answer, within the grace.
        4. Ask. Over: end every session of ours on it. Active: note when. No answer: the grace decides.

        Nothing of this needs the database to be writable: what can't be kept is remembered for `RETRY_AFTER`.
        """
        at = self.clock()
        if is_within(session.checked_at, at, CHECK_EVERY):
            return True
        is_in_grace = is_within(session.checked_at, at, GRACE)
        remembered = self.unkept.find(clerk_session_id)
        if remembered is not None:
            return remembered
        if is_in_grace and not await self._take(session, at):
            return True
        is_active = await self._ask(clerk_session_id, clerk_user_id)
        if is_active is None:
            return is_in_grace
        kept: int | None
        if is_active:
            kept = await self.db.write_optional(store.settle_check, token_hash=session.token_hash, at=at)
        else:
            kept = await self.db.write_optional(store.end_sessions_of, clerk_session_id, at=at)
        if kept is None:
            self.unkept.keep(clerk_session_id, is_active)
        return is_active

    async def _take(self, session: SessionRow, at: int) -> bool:
        """Whether this request is to ask: one of all processes, or one of this one where that can't be written."""
        if is_within(session.tried_at, at, RETRY_AFTER):
            return False
        hashed, tried_at = session.token_hash, session.tried_at
        is_taken = await self.db.write_optional(store.claim_check, token_hash=hashed, tried_at=tried_at, at=at)
        return self.unkept.claim(hashed) if is_taken is None else is_taken

    async def _ask(self, clerk_session_id: str, clerk_user_id: str) -> bool | None:
        """Whether Clerk calls this session active; None where it does not say."""
        try:
            async with asyncio.timeout(self.ask_for):
                state = await self.source.find_session(clerk_session_id)
        except (InstepError, TimeoutError):
            return None
        return state is not None and state.status == "active" and state.user_id == clerk_user_id

    async def _welcome(self, claims: SessionClaims) -> None:
        """Someone who is in no organization here may have joined a moment ago: nobody waits for a webhook."""
        who = await self.db.read(store.find_principal, claims.user, admins=self.admins)
        if isinstance(who, Principal) and not await self.db.read(store.list_accesses, who, limit=1):
            await self._read_in(claims.user)

    async def _bring_in(self, who: Principal) -> Principal | Barred:
        if who.user_id is not None or who.clerk_user_id is None or not await self._read_in(who.clerk_user_id):
            return who
        return await self.db.read(store.find_principal, who.clerk_user_id, admins=self.admins, actor=who.actor)

    async def _read_in(self, clerk_user_id: str) -> bool:
        """Have someone read from the provider; whether that was possible."""
        if self.just_in_time is None:
            return False
        try:
            async with asyncio.timeout(self.ask_for):
                with limit_waits(ARRIVAL_WAIT):
                    await self.just_in_time(clerk_user_id)
        except (InstepError, TimeoutError):
            return False
        return True

    def _hashes(self, token: str) -> list[str]:
        return [_hash(token), *([self.break_glass.hash_of(token)] if self.break_glass.is_on else [])]


def _hash(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
