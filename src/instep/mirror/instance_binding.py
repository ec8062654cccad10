"""The Clerk instance that this database is bound to."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec
import sqlalchemy as sa
import structlog

from instep.core.clock import SECOND, Clock
from instep.core.db import Conn, Database
from instep.core.errors import InstepError
from instep.core.sql import upsert_rows
from instep.mirror.tables import facts

log = structlog.get_logger(__name__)
LEGACY_INSTANCE_FACT = "clerk_instance_id"


"""The fact of earlier versions. It follows what is bound, so that their processes go on beside ours."""


REPLACED_INSTANCE_FACT = "clerk_instance_replaced"


"""What a delivery had set before the secret key was asked, where that was another instance."""


REBOUND_AT_FACT = "clerk_instance_rebound_at"
RETRY_INTERVAL = 10 * SECOND


class InstanceSource(Protocol):
    """Whoever can ask Clerk; see identity.ports.Directory."""

    async def find_instance(self) -> str | None:
        """The id of the instance that the secret key belongs to, None where Clerk does not tell it."""


class _DeliveryEnvelope(msgspec.Struct):
    instance_id: str | None = None


_decoder = msgspec.json.Decoder(_DeliveryEnvelope)


def parse_instance_id(body: str) -> str | None:
    """Return the instance that a delivery names, None where it names none."""
    try:
        return _decoder.decode(body).instance_id or None
    except (msgspec.MsgspecError, RecursionError):
        return _parse_instance_id_leniently(body)


def _parse_instance_id_leniently(body: str) -> str | None:
    """Read the id from a body that only a lenient parser takes: half of a surrogate pair in a name, say."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    named = found.get("instance_id") if isinstance(found, dict) else None
    return named if isinstance(named, str) and named else None


def find_bound_instance(conn: Conn) -> str | None:
    """Return the id of the instance that this database belongs to, None while no secret key was asked."""
    return find_fact(conn, BOUND_INSTANCE_FACT)


def find_rebound_at(conn: Conn) -> int:
    """Return when the instance last became another one, in Unix milliseconds; 0 for never."""
    return int(find_fact(conn, REBOUND_AT_FACT) or 0)


def bind_instance(conn: Conn, instance_id: str, *, now: int) -> str:
    """Keep what the secret key says unless an instance is bound; return the one that is bound afterwards."""
    bound = insert_fact_if_absent(conn, BOUND_INSTANCE_FACT, instance_id)
    earlier = find_fact(conn, LEGACY_INSTANCE_FACT)
    if earlier != bound:
        set_fact(conn, LEGACY_INSTANCE_FACT, bound)
        if earlier is not None:
            set_fact(conn, REPLACED_INSTANCE_FACT, earlier)
            set_fact(conn, REBOUND_AT_FACT, str(now))
    return bound


def rebind_instance(conn: Conn, instance_id: str, *, now: int) -> str | None:
    """Bind the database to this instance, and change nothing else; return the one that was bound before."""
    before = find_bound_instance(conn)
    if before == instance_id:
        return before
    for name, value in (
        (BOUND_INSTANCE_FACT, instance_id),
        (LEGACY_INSTANCE_FACT, instance_id),
        (REBOUND_AT_FACT, str(now)),
    ):
        set_fact(conn, name, value)
    return before


@dataclass
class InstanceBinder:
    """Asks Clerk once which instance the secret key belongs to, and again every 10 seconds while it does not say."""

    db: Database
    source: InstanceSource
    clock: Clock
    _asked_at: int | None = None

    async def bind_if_unbound(self) -> bool:
        """Return whether the instance is bound now; ask Clerk where it is not. A failure of Clerk's is logged."""
        now = self.clock()
        if self._asked_at is not None and 0 <= now - self._asked_at < RETRY_INTERVAL:
            return False
        self._asked_at = now
        try:
            return await self.verify() is not None
        except InstepError as error:
            log.warning("instance_unknown", error=str(error))
            return False

    async def verify(self) -> str | None:
        """Return the bound instance after comparing it with the secret key's, which is bound where none was.

        Two that differ are logged, and nothing is changed: see `instep instance`. Raises ClerkUnavailableError and
        ClerkRejectedError.
        """
        theirs = await self.source.find_instance()
        if theirs is None:
            log.warning("instance_unknown", error="Clerk does not tell which instance the secret key belongs to.")
            return await self.db.read(find_bound_instance)
        bound = await self.db.write(_bind_at_clock_time, theirs, self.clock)
        if bound != theirs:
            log.warning("instance_differs", bound=bound, secret_key=theirs)
        return bound


def _bind_at_clock_time(conn: Conn, instance_id: str, clock: Callable[[], int]) -> str:
    return bind_instance(conn, instance_id, now=clock())


BOUND_INSTANCE_FACT = "clerk_instance"


def find_fact(conn: Conn, name: str) -> str | None:
    """A single fact of this installation."""
    return conn.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()


def insert_fact_if_absent(conn: Conn, name: str, value: str) -> str:
    """Keep a fact unless it is known already; gives what is known afterwards."""
    upsert_rows(conn, facts, [{"name": name, "value": value}], key="name")
    return find_fact(conn, name) or value


def set_fact(conn: Conn, name: str, value: str) -> None:
    """Keep a fact in the place of what was known before."""
    upsert_rows(conn, facts, [{"name": name, "value": value}], key="name", update=["value"])
