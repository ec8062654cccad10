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
BOUND_INSTANCE_FACT = "clerk_instance"
LEGACY_INSTANCE_FACT = "clerk_instance_id"
"""The fact of earlier versions. Kept equal to the bound instance, so that their processes keep working."""

REPLACED_INSTANCE_FACT = "clerk_instance_replaced"
"""The instance that a delivery had set before the secret key was checked, if it was another one."""

REBOUND_AT_FACT = "clerk_instance_rebound_at"
RETRY_INTERVAL = 10 * SECOND


class InstanceSource(Protocol):
    """A source of the instance id; see `domain.ports.ClerkReader`."""

    async def find_instance(self) -> str | None:
        """Return the id of the instance that the secret key belongs to, None if Clerk does not report it."""


class _DeliveryEnvelope(msgspec.Struct):
    instance_id: str | None = None


_decoder = msgspec.json.Decoder(_DeliveryEnvelope)


def parse_instance_id(body: str) -> str | None:
    """Return the instance that a delivery names, None if it names none."""
    try:
        return _decoder.decode(body).instance_id or None
    except (msgspec.MsgspecError, RecursionError):
        return _parse_instance_id_leniently(body)


def _parse_instance_id_leniently(body: str) -> str | None:
    """Read the id from a body that only a lenient parser accepts, as with an unpaired surrogate in a name."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    instance_id = data.get("instance_id") if isinstance(data, dict) else None
    return instance_id if isinstance(instance_id, str) and instance_id else None


def find_bound_instance(conn: Conn) -> str | None:
    """Return the id of the instance that this database is bound to, None if not bound yet."""
    return find_fact(conn, BOUND_INSTANCE_FACT)


def find_rebound_at(conn: Conn) -> int:
    """Return when the database was last bound to another instance, in Unix milliseconds; 0 for never."""
    return int(find_fact(conn, REBOUND_AT_FACT) or 0)


def bind_instance(conn: Conn, instance_id: str, *, now: int) -> str:
    """Bind the database to the instance of the secret key unless bound; return the bound instance."""
    bound = insert_fact_if_absent(conn, BOUND_INSTANCE_FACT, instance_id)
    legacy = find_fact(conn, LEGACY_INSTANCE_FACT)
    if legacy != bound:
        set_fact(conn, LEGACY_INSTANCE_FACT, bound)
        if legacy is not None:
            set_fact(conn, REPLACED_INSTANCE_FACT, legacy)
            set_fact(conn, REBOUND_AT_FACT, str(now))
    return bound


def rebind_instance(conn: Conn, instance_id: str, *, now: int) -> str | None:
    """Bind the database to another instance and change nothing else; return the previous one."""
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
    """Checks once which instance the secret key belongs to, and retries every 10 seconds until Clerk reports it."""

    db: Database
    source: InstanceSource
    clock: Clock
    _checked_at: int | None = None

    async def bind_if_unbound(self) -> bool:
        """Bind the instance if needed; return whether it is bound. Errors of Clerk are logged."""
        now = self.clock()
        if self._checked_at is not None and 0 <= now - self._checked_at < RETRY_INTERVAL:
            return False
        self._checked_at = now
        try:
            return await self.verify() is not None
        except InstepError as error:
            log.warning("instance_unknown", error=str(error))
            return False

    async def verify(self) -> str | None:
        """Compare the bound instance with the secret key's, or bind the latter; return the bound instance.

        A mismatch is logged, and nothing is changed: see `instep instance`. Raises ClerkUnavailableError and
        ClerkRejectedError.
        """
        instance_id = await self.source.find_instance()
        if instance_id is None:
            log.warning("instance_unknown", error="Clerk does not report the instance of the secret key.")
            return await self.db.read(find_bound_instance)
        bound = await self.db.write(_bind_at_clock_time, instance_id, self.clock)
        if bound != instance_id:
            log.warning("instance_mismatch", bound=bound, secret_key=instance_id)
        return bound


def _bind_at_clock_time(conn: Conn, instance_id: str, clock: Callable[[], int]) -> str:
    return bind_instance(conn, instance_id, now=clock())


def find_fact(conn: Conn, name: str) -> str | None:
    """Return a fact of this installation."""
    return conn.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()


def insert_fact_if_absent(conn: Conn, name: str, value: str) -> str:
    """Store a fact unless it exists; return the stored one."""
    upsert_rows(conn, facts, [{"name": name, "value": value}], key="name")
    return find_fact(conn, name) or value


def set_fact(conn: Conn, name: str, value: str) -> None:
    """Store a fact, replacing an existing one."""
    upsert_rows(conn, facts, [{"name": name, "value": value}], key="name", update=["value"])
