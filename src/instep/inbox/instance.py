"""The Clerk instance that this database belongs to: what Clerk says for the secret key, kept among the facts.

No delivery sets it: whoever may send one may also send one of another instance ("Send example" in Clerk's dashboard
does). Earlier versions took the instance of the first delivery; what they kept stands beside, and gives way.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog

from instep.inbox import store
from instep.kit.clock import SECOND, Clock
from instep.kit.db import Conn, Db
from instep.kit.errors import InstepError

log = structlog.get_logger(__name__)
FROM_A_DELIVERY = "clerk_instance_id"


"""The fact of earlier versions. It follows what is bound, so that their processes go on beside ours."""


REPLACED = "clerk_instance_replaced"


"""What a delivery had set before the secret key was asked, where that was another instance."""


REBOUND_AT = "clerk_instance_rebound_at"
ASK_EVERY = 10 * SECOND


class InstanceSource(Protocol):
    """Whoever can ask Clerk; see identity.ports.Directory."""

    async def find_instance(self) -> str | None:
        """The id of the instance that the secret key belongs to, None where Clerk does not tell it."""


class _Envelope(msgspec.Struct):
    instance_id: str | None = None


_decoder = msgspec.json.Decoder(_Envelope)


def instance_of(body: str) -> str | None:
    """Return the instance that a delivery names, None where it names none."""
    try:
        return _decoder.decode(body).instance_id or None
    except (msgspec.MsgspecError, RecursionError):
        return _lenient_instance_of(body)


def _lenient_instance_of(body: str) -> str | None:
    """Read the id from a body that only a lenient parser takes: half of a surrogate pair in a name, say."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    named = found.get("instance_id") if isinstance(found, dict) else None
    return named if isinstance(named, str) and named else None


def find_bound(conn: Conn) -> str | None:
    """Return the id of the instance that this database belongs to, None while no secret key was asked."""
    return store.find_fact(conn, store.BOUND)


def find_rebound_at(conn: Conn) -> int:
    """Return when the instance last became another one, in Unix milliseconds; 0 for never."""
    return int(store.find_fact(conn, REBOUND_AT) or 0)


def bind(conn: Conn, instance_id: str, *, now: int) -> str:
    """Keep what the secret key says unless an instance is bound; return the one that is bound afterwards."""
    bound = store.keep_fact(conn, store.BOUND, instance_id)
    earlier = store.find_fact(conn, FROM_A_DELIVERY)
    if earlier != bound:
        store.set_fact(conn, FROM_A_DELIVERY, bound)
        if earlier is not None:
            store.set_fact(conn, REPLACED, earlier)
            store.set_fact(conn, REBOUND_AT, str(now))
    return bound


def rebind(conn: Conn, instance_id: str, *, now: int) -> str | None:
    """Bind the database to this instance, and change nothing else; return the one that was bound before."""
    before = find_bound(conn)
    if before == instance_id:
        return before
    for name, value in ((store.BOUND, instance_id), (FROM_A_DELIVERY, instance_id), (REBOUND_AT, str(now))):
        store.set_fact(conn, name, value)
    return before


@dataclass
class Binding:
    """Asks Clerk once which instance the secret key belongs to, and again every 10 seconds while it does not say."""

    db: Db
    source: InstanceSource
    clock: Clock
    _asked_at: int | None = None

    async def learn(self) -> bool:
        """Return whether the instance is bound now; ask Clerk where it is not. A failure of Clerk's is logged."""
        now = self.clock()
        if self._asked_at is not None and 0 <= now - self._asked_at < ASK_EVERY:
            return False
        self._asked_at = now
        try:
            return await self.verify() is not None
        except InstepError as error:
            log.warning("instance_unknown", error=str(error))
            return False

    async def verify(self) -> str | None:
        """Return the bound instance after comparing it with the secret key's, which is bound where none was.

        Two that differ are logged, and nothing is changed: see `instep instance`. Raises ProviderDown and
        ProviderRefused.
        """
        theirs = await self.source.find_instance()
        if theirs is None:
            log.warning("instance_unknown", error="Clerk does not tell which instance the secret key belongs to.")
            return await self.db.read(find_bound)
        bound = await self.db.write(_bind, theirs, self.clock)
        if bound != theirs:
            log.warning("instance_differs", bound=bound, secret_key=theirs)
        return bound


def _bind(conn: Conn, instance_id: str, clock: Callable[[], int]) -> str:
    return bind(conn, instance_id, now=clock())
