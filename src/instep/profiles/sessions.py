"""Ending sessions, as an operation: in Clerk, and with them whatever hangs on them here."""

from dataclasses import dataclass

from msgspec import Struct

from instep.access.principal import Principal
from instep.access.store import end_sessions_of, end_sessions_of_user
from instep.identity.model import ClerkId
from instep.identity.ports import Accounts
from instep.identity.refusals import CONFLICT, FORBIDDEN, NOT_FOUND, Refused
from instep.journal.model import Json, Operation, Procedure, Step
from instep.journal.store import find_repeated
from instep.kit.clock import Clock
from instep.kit.db import Conn
from instep.kit.said import said
from instep.profiles.desk import Desk, Subject, asked_of, clerk_id_of

KIND = "user.sessions"


class Ended(Struct, frozen=True):
    """How many sessions were ended."""

    count: int


def procedure(accounts: Accounts, clock: Clock) -> Procedure:
    """The intent: `user`, `clerk_id`, and `session`: the one to end (Clerk's id), None for all of them."""

    async def end(operation: Operation) -> Json:
        session = operation.intent["session"]
        if session is None:
            return {"ended": await accounts.end_sessions(ClerkId(operation.intent["clerk_id"]))}
        await accounts.revoke_session(session)
        return {"ended": 1}

    async def find(operation: Operation) -> Json | None:
        session = operation.intent["session"]
        active = {it.id for it in await accounts.list_sessions(ClerkId(operation.intent["clerk_id"]))}
        is_over = not active if session is None else session not in active
        return {"ended": 1} if is_over else None

    def settle(conn: Conn, operation: Operation) -> None:
        session, at = operation.intent["session"], clock()
        if session is None:
            end_sessions_of_user(conn, operation.intent["clerk_id"], at=at)
        else:
            end_sessions_of(conn, session, at=at)

    return Procedure(steps=[Step("sessions", end, find)], settle=settle)


@dataclass(frozen=True)
class EndSessions:
    """Ends one session of somebody, or all of them."""

    desk: Desk
    accounts: Accounts

    async def __call__(
        self, principal: Principal, ref: str, session: str | None = None, *, idempotency_key: str | None = None
    ) -> Ended:
        """End them.

        1 the right (an instance admin's, and one's own); 2 one that is named must be theirs, and active; 3 Clerk
        revokes; 4 sessions of the console that hang on it end with it. Raises Refused, Unsettled and Busy.
        """
        subject = await self.desk.find(principal, ref)
        require_sessions(subject)
        person = subject.person
        id = clerk_id_of(person)
        if id is None:
            raise Refused("This person has no Clerk account.", code="no_clerk_account", status=CONFLICT)
        asked = asked_of(KIND, principal, person, idempotency_key, {"session": session})
        if session is not None and await self.desk.db.read(find_repeated, asked) is None:
            await self._require_theirs(id, session)
        operation = await self.desk.carry_out(asked, lambda _conn: None, whom=person.name)
        return Ended(operation.done["sessions"]["ended"])

    async def _require_theirs(self, id: ClerkId, session: str) -> None:
        """Not asked of a repetition: the session that it ended is no active one any more."""
        if session not in {it.id for it in await self.accounts.list_sessions(id)}:
            raise Refused("There is no such active session.", code="session_not_found", status=NOT_FOUND)


def require_sessions(subject: Subject) -> None:
    """Raises Refused (403) for whoever may not see someone's sessions: they tell of devices and places."""
    if not (subject.rights.is_admin or subject.rights.is_self):
        words = said("Only instance admins, and the person, can see sessions.")
        raise Refused(words, code="forbidden", status=FORBIDDEN)
