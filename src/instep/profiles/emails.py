"""A new address as an operation: replaced by an admin, or proven by a code first and then made the primary one."""

from instep.identity.addresses import is_same
from instep.identity.events import from_json, to_json
from instep.identity.model import ClerkId, EmailAddress
from instep.identity.ports import Accounts, ProviderRefused
from instep.journal.model import Json, Operation, Procedure, Procedures, Step
from instep.kit.clock import Clock
from instep.kit.db import Conn
from instep.mirror.apply import take_in
from instep.profiles.held import Held
from instep.profiles.reading import read_user, user_of

REPLACE, CODE, VERIFY = "profile.email", "profile.email.code", "profile.email.verify"
NOT_PRIMARY = "The new address is proven and added in Clerk, and is not the primary one yet; the old one still works."
CODE_LOST = "The code was not tried. Enter it again."
WRONG = {
    "unverified": ("wrong_code", "That is not the code."),
    "expired": ("code_expired", "This code is too old. Have a new one sent."),
    "failed": ("code_failed", "There were too many tries. Have a new code sent."),
}


def procedures(accounts: Accounts, held: Held, clock: Clock) -> Procedures:
    """How each of them is carried out. Their intents name `user` (our id), `clerk_id` and `email`."""
    return {
        REPLACE: _replace(accounts, clock),
        CODE: _send_code(accounts),
        VERIFY: Procedure(
            steps=[_try_code(accounts, held), _make_primary(accounts), _forget(accounts)],
            settle=lambda conn, operation: _settle(conn, operation, "old", clock),
            lost=NOT_PRIMARY,
        ),
    }


def _replace(accounts: Accounts, clock: Clock) -> Procedure:
    """Someone without a Clerk account got the address when the operation was opened."""

    async def write(operation: Operation) -> Json:
        id = operation.intent["clerk_id"]
        if id is None:
            return {}
        return {"news": to_json(await accounts.replace_email(ClerkId(id), operation.intent["email"]))}

    async def find(operation: Operation) -> Json | None:
        id = operation.intent["clerk_id"]
        return await _find_primary(accounts, operation) if id is not None else {}

    step = Step("replace", write, find)
    return Procedure(steps=[step], settle=lambda conn, operation: _settle(conn, operation, "replace", clock))


def _send_code(accounts: Accounts) -> Procedure:
    """Adds the address, not verified, and has a code sent to it. Nothing is mirrored before it is proven."""

    async def add(operation: Operation) -> Json:
        found = await find(operation)
        return found or _kept(await accounts.add_email(_clerk_id(operation), operation.intent["email"]))

    async def find(operation: Operation) -> Json | None:
        found = await _find_address(accounts, operation)
        return _kept(found) if found else None

    async def send(operation: Operation) -> Json:
        sent = await accounts.send_code(ClerkId(operation.done["address"]["id"]))
        return {"verification": sent.verification, "expires_at": sent.expires_at}

    async def find_sent(_operation: Operation) -> Json | None:
        return None  # another code does no harm

    steps = [Step("address", add, find), Step("code", send, find_sent)]
    lost = "The new address is added in Clerk, and no code was sent to it. The old address still works."
    return Procedure(steps=steps, settle=lambda _conn, _operation: None, lost=lost)


def _try_code(accounts: Accounts, held: Held) -> Step:
    """The intent also names `address`, `verification` and `secret`, the name under which the code is held."""

    async def write(operation: Operation) -> Json:
        intent = operation.intent
        code = held.find(intent["secret"])
        if code is None:
            raise ProviderRefused(CODE_LOST, code="code_lost", status=409)
        status = await accounts.try_code(ClerkId(intent["address"]), intent["verification"], code)
        if status != "verified":
            refused, words = WRONG.get(status, WRONG["failed"])
            raise ProviderRefused(words, code=refused, status=422, param="code")
        return {"status": status}

    async def find(operation: Operation) -> Json | None:
        found = await _find_address(accounts, operation)
        return {"status": "verified"} if found and found.is_verified else None

    return Step("code", write, find)


def _make_primary(accounts: Accounts) -> Step:
    async def write(operation: Operation) -> Json:
        news = await accounts.make_primary(_clerk_id(operation), ClerkId(operation.intent["address"]))
        return {"news": to_json(news)}

    async def find(operation: Operation) -> Json | None:
        return await _find_primary(accounts, operation)

    return Step("primary", write, find)


def _forget(accounts: Accounts) -> Step:
    """The old address goes; one that Clerk keeps (a connected account hangs on it) stays beside the new one."""

    async def write(operation: Operation) -> Json:
        addresses = await accounts.list_emails(_clerk_id(operation))
        kept = ""
        for old in (it for it in addresses if is_same(it.email, operation.intent["old"]) and not it.is_primary):
            try:
                await accounts.remove_email(old.clerk_id)
            except ProviderRefused as refusal:
                kept = str(refusal)
        return {"news": to_json(await read_user(accounts, _clerk_id(operation))), "kept": kept}

    async def find(_operation: Operation) -> Json | None:
        return None  # an address that is gone already is fine

    return Step("old", write, find)


async def _find_primary(accounts: Accounts, operation: Operation) -> Json | None:
    found = await read_user(accounts, _clerk_id(operation))
    user = user_of(found)
    is_done = is_same(user.email, operation.intent["email"]) and user.is_email_verified
    return {"news": to_json(found)} if is_done else None


async def _find_address(accounts: Accounts, operation: Operation) -> EmailAddress | None:
    addresses = await accounts.list_emails(_clerk_id(operation))
    return next((it for it in addresses if is_same(it.email, operation.intent["email"])), None)


def _kept(address: EmailAddress) -> Json:
    return {"id": address.clerk_id}


def _clerk_id(operation: Operation) -> ClerkId:
    return ClerkId(operation.intent["clerk_id"])


def _settle(conn: Conn, operation: Operation, step: str, clock: Clock) -> None:
    if kept := operation.done[step].get("news"):
        take_in(conn, [from_json(kept)], now=clock())
