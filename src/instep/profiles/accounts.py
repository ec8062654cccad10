"""Accounts as operations: made, deleted, restored, banned and unbanned, in Clerk first and then in the database."""

from instep.identity.events import Gone, News, from_json, to_json
from instep.identity.model import ClerkId, Key, NewUser
from instep.identity.ports import Accounts, ProviderRefused
from instep.journal.model import Json, Operation, Procedure, Procedures, Step
from instep.kit.clock import Clock
from instep.kit.db import Conn
from instep.mirror import people
from instep.mirror.apply import take_in
from instep.profiles.reading import read_user, user_of

CREATE, DELETE, RESTORE, BAN, UNBAN = "user.create", "user.delete", "user.restore", "user.ban", "user.unban"
PAYMENT_REQUIRED = 402


def procedures(accounts: Accounts, clock: Clock) -> Procedures:
    """How each of them is carried out. Their intents name `user` (our id) and `clerk_id` (None: not in Clerk)."""
    return {
        CREATE: _create(accounts, clock),
        DELETE: _delete(accounts, clock),
        RESTORE: _restore(accounts, clock),
        BAN: _ban(accounts, clock),
        UNBAN: _unban(accounts, clock),
    }


def _create(accounts: Accounts, clock: Clock) -> Procedure:
    """The intent: `user`, `in_clerk` and `profile`. Our id is Clerk's external id: by it the user is found again."""

    async def write(operation: Operation) -> Json:
        if not operation.intent["in_clerk"]:
            return {}
        wanted = {name: value for name, value in operation.intent["profile"].items() if name != "attributes"}
        return _kept(await accounts.create_user(NewUser(external_id=operation.intent["user"], **wanted)))

    async def find(operation: Operation) -> Json | None:
        if not operation.intent["in_clerk"]:
            return {}
        found = await accounts.find_user_by(external_id=operation.intent["user"])
        return _kept(found) if found else None

    def settle(conn: Conn, operation: Operation) -> None:
        if not (news := _take(conn, operation, clock())):
            return
        attributes = operation.intent["profile"].get("attributes")
        if attributes and (id := people.find_our_id(conn, news.key.id)):
            people.merge_attributes(conn, id, attributes, now=clock())

    return Procedure(steps=[Step("clerk", write, find)], settle=settle)


def _delete(accounts: Accounts, clock: Clock) -> Procedure:
    """The intent's `clerk`: delete the user there, or only ban them, or keep them (and sign them out)."""

    async def write(operation: Operation) -> Json:
        id, choice = _clerk_id(operation), operation.intent["clerk"]
        if id is None:
            return {}
        if choice == "delete":
            return _kept(await accounts.delete_user(id))
        return await _banned(accounts, id) if choice == "ban" else await _signed_out(accounts, id)

    async def find(operation: Operation) -> Json | None:
        id, choice = _clerk_id(operation), operation.intent["clerk"]
        if id is None:
            return {}
        found = await accounts.find_user(id)
        if found is None:
            return _kept(Gone(Key("user", id)))
        return _kept(found) if choice == "ban" and user_of(found).is_banned else None

    def settle(conn: Conn, operation: Operation) -> None:
        _take(conn, operation, clock())
        people.delete(conn, operation.intent["user"], now=clock())

    return Procedure(steps=[Step("clerk", write, find)], settle=settle)


def _restore(accounts: Accounts, clock: Clock) -> Procedure:
    """A ban is lifted; someone whom Clerk has no longer comes back without a Clerk account (see mirror.people)."""

    async def write(operation: Operation) -> Json:
        id = _clerk_id(operation)
        if id is None:
            return {}
        found = await find(operation)
        return found if found is not None else _kept(await accounts.unban_user(id))

    async def find(operation: Operation) -> Json | None:
        id = _clerk_id(operation)
        if id is None:
            return {}
        found = await accounts.find_user(id)
        if found is None:
            return _kept(Gone(Key("user", id)))
        return None if user_of(found).is_banned else _kept(found)

    def settle(conn: Conn, operation: Operation) -> None:
        _take(conn, operation, clock())
        people.restore(conn, operation.intent["user"], now=clock())

    return Procedure(steps=[Step("clerk", write, find)], settle=settle)


def _ban(accounts: Accounts, clock: Clock) -> Procedure:
    """Where the plan has no bans: deactivated here, and signed out everywhere."""

    async def write(operation: Operation) -> Json:
        id = _clerk_id(operation)
        return await _banned(accounts, id) if id is not None else {}

    async def find(operation: Operation) -> Json | None:
        id = _clerk_id(operation)
        if id is None:
            return {}
        found = await read_user(accounts, id)
        return _kept(found) if user_of(found).is_banned else None

    def settle(conn: Conn, operation: Operation) -> None:
        id, now = operation.intent["user"], clock()
        if operation.intent["clerk_id"] is None:
            people.set_banned(conn, id, is_banned=True, now=now)
        elif _take(conn, operation, now) is None:
            people.set_active(conn, id, is_active=False, now=now)

    return Procedure(steps=[Step("clerk", write, find)], settle=settle)


def _unban(accounts: Accounts, clock: Clock) -> Procedure:
    """Lifts a ban, and a deactivation of the whole account: they may come in again."""

    async def write(operation: Operation) -> Json:
        id = _clerk_id(operation)
        if id is None:
            return {}
        found = await read_user(accounts, id)
        return _kept(await accounts.unban_user(id) if user_of(found).is_banned else found)

    async def find(operation: Operation) -> Json | None:
        id = _clerk_id(operation)
        if id is None:
            return {}
        found = await read_user(accounts, id)
        return None if user_of(found).is_banned else _kept(found)

    def settle(conn: Conn, operation: Operation) -> None:
        id, now = operation.intent["user"], clock()
        _take(conn, operation, now)
        if operation.intent["clerk_id"] is None:
            people.set_banned(conn, id, is_banned=False, now=now)
        people.set_active(conn, id, is_active=True, now=now)

    return Procedure(steps=[Step("clerk", write, find)], settle=settle)


def has_no_bans(operation: Operation) -> bool:
    """Whether this ban was refused by the plan, and became a deactivation."""
    return "signed_out" in operation.done.get("clerk", {}) and operation.intent.get("clerk") != "keep"


async def _banned(accounts: Accounts, id: ClerkId) -> Json:
    try:
        return _kept(await accounts.ban_user(id))
    except ProviderRefused as refusal:
        if refusal.status != PAYMENT_REQUIRED:
            raise
        return await _signed_out(accounts, id)


async def _signed_out(accounts: Accounts, id: ClerkId) -> Json:
    return {"signed_out": await accounts.end_sessions(id)}


def _take(conn: Conn, operation: Operation, now: int) -> News | None:
    """What Clerk answered goes into the mirror."""
    kept = operation.done["clerk"].get("news")
    news = from_json(kept) if kept else None
    if news is not None:
        take_in(conn, [news], now=now)
    return news


def _kept(news: News) -> Json:
    return {"news": to_json(news)}


def _clerk_id(operation: Operation) -> ClerkId | None:
    id = operation.intent["clerk_id"]
    return ClerkId(id) if id is not None else None
