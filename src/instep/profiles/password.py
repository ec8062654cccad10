"""Setting a password, as an operation: in Clerk only, and kept nowhere, so that it can't be tried again by itself."""

from instep.identity.events import from_json, to_json
from instep.identity.model import ClerkId
from instep.identity.ports import Accounts, ProviderDown, ProviderRefused
from instep.journal.model import Json, Operation, Procedure, Step, Unknowable
from instep.kit.clock import Clock
from instep.kit.db import Conn
from instep.kit.said import said
from instep.mirror.apply import take_in
from instep.profiles.held import Held
from instep.profiles.rules import PASSWORD_UNKNOWN

KIND = "user.password"
CODE = "password_unknown"


def procedure(accounts: Accounts, held: Held, clock: Clock) -> Procedure:
    """How a password is set. The intent: `user`, `clerk_id`, and `secret`, the name under which it is held."""

    async def write(operation: Operation) -> Json:
        password = held.find(operation.intent["secret"])
        if password is None:
            raise Unknowable(PASSWORD_UNKNOWN, code=CODE)
        try:
            return {"news": to_json(await accounts.set_password(ClerkId(operation.intent["clerk_id"]), password))}
        except ProviderDown as silence:
            if not silence.is_harmless:
                raise
            words = said("%(silence)s The password was not changed; set it again.", silence=silence)
            raise ProviderRefused(words, code="password_not_set", status=503) from silence

    async def find(_operation: Operation) -> Json | None:
        raise Unknowable(PASSWORD_UNKNOWN, code=CODE)

    def settle(conn: Conn, operation: Operation) -> None:
        take_in(conn, [from_json(operation.done["password"]["news"])], now=clock())

    return Procedure(steps=[Step("password", write, find)], settle=settle)
