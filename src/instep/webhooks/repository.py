"""SQL of deliveries: insert, claim, settle, reschedule, replay."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from msgspec import Struct

from instep.core.clock import HOUR, MINUTE
from instep.core.db import Conn
from instep.core.sql import is_one_of, upsert_rows
from instep.domain.events import VerifiedDelivery
from instep.mirror.instance_binding import BOUND_INSTANCE_FACT
from instep.mirror.tables import facts
from instep.webhooks.filters import ANY_DELIVERY, DeliveryFilter
from instep.webhooks.tables import IS_FAILED, IS_FOREIGN, deliveries

WRITE_PROBE_FACT = "last_write_test"
WRITE_PROBE_SIZE = 64 * 1024  # characters
NEXT_DUE_AT_QUERY = sa.select(sa.func.min(deliveries.c.due_at)).where(deliveries.c.due_at.is_not(None))


class ClaimedDelivery(Struct, frozen=True):
    """A delivery to process. `bound`: the instance that the database is bound to; `missing`: unconfirmed absences."""

    id: str
    type: str
    body: str
    attempts: int
    missing: dict[str, int] | None = None
    bound: str | None = None


def insert_deliveries(conn: Conn, batch: Sequence[VerifiedDelivery]) -> None:
    """Store deliveries. A repeated one is ignored: the first copy stays."""
    rows = {
        delivery.id: {
            "id": delivery.id,
            "type": delivery.type,
            "body": delivery.body.decode(),
            "received_at": delivery.received_at,
            "state": "new",
            "due_at": delivery.received_at,
            "user_id": delivery.user,
            "organization_id": delivery.organization,
        }
        for delivery in batch
    }
    upsert_rows(conn, deliveries, list(rows.values()), key="id")


_BOUND_INSTANCE = sa.select(facts.c.value).where(facts.c.name == BOUND_INSTANCE_FACT).scalar_subquery()
_CLAIMED_COLUMNS = (
    *(deliveries.c[name] for name in ClaimedDelivery.__struct_fields__ if name != "bound"),
    _BOUND_INSTANCE,
)


def claim_due_deliveries(conn: Conn, *, now: int, limit: int) -> list[ClaimedDelivery]:
    """Lock and return due deliveries, oldest first; other workers skip them until this transaction ends."""
    query = sa.select(*_CLAIMED_COLUMNS).where(deliveries.c.due_at <= now).order_by(deliveries.c.due_at).limit(limit)
    return [ClaimedDelivery(*row) for row in conn.execute(query.with_for_update(skip_locked=True))]


def claim_deliveries(conn: Conn, ids: Sequence[str]) -> list[ClaimedDelivery]:
    """Lock and return the deliveries among these that are still to be processed."""
    query = sa.select(*_CLAIMED_COLUMNS).where(is_one_of(conn, deliveries.c.id, ids), deliveries.c.due_at.is_not(None))
    return [ClaimedDelivery(*row) for row in conn.execute(query.with_for_update(skip_locked=True))]


def list_due_ids(conn: Conn, *, now: int, limit: int) -> list[str]:
    """Return the ids of due deliveries, oldest first."""
    query = sa.select(deliveries.c.id).where(deliveries.c.due_at <= now).order_by(deliveries.c.due_at).limit(limit)
    return list(conn.execute(query).scalars())


def lease_deliveries(conn: Conn, ids: Sequence[str], *, until: int) -> None:
    """Lease deliveries until a time; if this process dies, another worker claims them afterwards."""
    if ids:
        conn.execute(sa.update(deliveries).where(is_one_of(conn, deliveries.c.id, ids)).values(due_at=until))


def clamp_due_times(conn: Conn, *, now: int, lease: int, delays: Sequence[int]) -> int:
    """Make deliveries due now that wait longer than any schedule allows. Return their number.

    A new delivery waits for at most a lease, one with n attempts for the n-th of `delays`, or for an hour if Clerk
    asked for it. A longer wait stems from before the clock was set back.
    """
    c = deliveries.c
    longest_waits = {attempts: max(delay, HOUR) for attempts, delay in enumerate(delays, 1)}
    cases = [(c.attempts == attempts, wait) for attempts, wait in longest_waits.items()]
    longest = sa.case((c.state == "new", lease), *cases, else_=lease)
    is_late = sa.and_(c.due_at > now + lease, c.due_at - longest > now + MINUTE)
    return conn.execute(sa.update(deliveries).where(is_late).values(due_at=now)).rowcount


def mark_processed(conn: Conn, outcomes: Mapping[str, str], *, now: int) -> None:
    """Mark deliveries as processed, each with its outcome."""
    by_outcome: dict[str, list[str]] = {}
    for delivery_id, outcome in outcomes.items():
        by_outcome.setdefault(outcome, []).append(delivery_id)
    for outcome, ids in by_outcome.items():
        done = {"state": "settled", "due_at": None, "outcome": outcome, "settled_at": now}
        conn.execute(sa.update(deliveries).where(is_one_of(conn, deliveries.c.id, ids)).values(**done))


def reschedule_deliveries(
    conn: Conn, ids: Sequence[str], *, until: int, reason: str, missing: Mapping[str, int] | None = None
) -> None:
    """Schedule the next attempt at `until`. `missing`: entities that Clerk does not have, and since when."""
    values = {"state": "waiting", "due_at": until, "outcome": reason, "attempts": deliveries.c.attempts + 1}
    values["missing"] = missing or sa.null()
    conn.execute(sa.update(deliveries).where(is_one_of(conn, deliveries.c.id, ids)).values(**values))


def mark_failed(conn: Conn, ids: Sequence[str], *, now: int, reason: str) -> None:
    """Mark deliveries as failed, with the reason. They can be replayed."""
    values = {"state": "parked", "due_at": None, "outcome": reason, "settled_at": now}
    conn.execute(sa.update(deliveries).where(is_one_of(conn, deliveries.c.id, ids)).values(**values))


def find_next_due_at(conn: Conn) -> int | None:
    """Return the time when the next delivery is due, None if there is none."""
    due: int | None = conn.execute(NEXT_DUE_AT_QUERY).scalar_one()
    return due


def count_by_state(conn: Conn) -> dict[str, int]:
    """Return the numbers of deliveries by state, without processed ones, which can be millions.

    `foreign` counts those of another Clerk instance, which are not applied.
    """
    c = deliveries.c
    query = sa.select(c.state, sa.func.count()).where(c.due_at.is_not(None)).group_by(c.state)
    found = {str(state): int(count) for state, count in conn.execute(query)}
    indexed = {"parked": count_failed(conn), "foreign": count_foreign(conn)}
    return found | {name: count for name, count in indexed.items() if count}


def count_failed(conn: Conn) -> int:
    """Return the number of failed deliveries, from a partial index."""
    return int(conn.execute(sa.select(sa.func.count()).select_from(deliveries).where(IS_FAILED)).scalar_one())


def count_foreign(conn: Conn) -> int:
    """Return the number of deliveries of another Clerk instance, from a partial index."""
    return int(conn.execute(sa.select(sa.func.count()).select_from(deliveries).where(IS_FOREIGN)).scalar_one())


def find_newest_applied_at(conn: Conn) -> int | None:
    """Return the time when the newest processed delivery of the bound instance was received."""
    c = deliveries.c
    is_bound_instance = sa.or_(c.outcome.is_(None), c.outcome != "foreign")
    query = sa.select(c.received_at).where(c.state == "settled", is_bound_instance)
    return conn.execute(query.order_by(deliveries.c.received_at.desc()).limit(1)).scalar_one_or_none()


def find_first_received_at(conn: Conn) -> int | None:
    """Return the time when the oldest stored delivery was received, in Unix ms."""
    return conn.execute(sa.select(sa.func.min(deliveries.c.received_at))).scalar_one_or_none()


class DeliveryRow(Struct, frozen=True, kw_only=True):
    """A stored delivery without its body, which may contain personal data."""

    id: str
    type: str
    received_at: int
    state: str
    attempts: int
    outcome: str | None
    due_at: int | None
    settled_at: int | None
    user_id: str | None
    organization_id: str | None


_ROW_COLUMNS = tuple(deliveries.c[name] for name in DeliveryRow.__struct_fields__)


def list_deliveries(
    conn: Conn, criteria: DeliveryFilter = ANY_DELIVERY, *, before: tuple[int, str] | None = None, limit: int = 50
) -> list[DeliveryRow]:
    """Return deliveries, newest first; `before` is time and id of the last one of the previous page."""
    c = deliveries.c
    query = sa.select(*_ROW_COLUMNS).order_by(c.received_at.desc(), c.id.desc()).limit(limit)
    for condition in _filter_conditions(conn, criteria):
        query = query.where(condition)
    if before is not None:
        received_at, delivery_id = before
        is_older = sa.and_(c.received_at == received_at, c.id < delivery_id)
        query = query.where(sa.or_(c.received_at < received_at, is_older))
    return [DeliveryRow(**row._mapping) for row in conn.execute(query)]


def _filter_conditions(conn: Conn, criteria: DeliveryFilter) -> list[sa.ColumnElement[bool] | sa.TextClause]:
    """Return the conditions. Rare states are literals, so that the partial indexes apply."""
    c = deliveries.c
    conditions: list[sa.ColumnElement[bool] | sa.TextClause] = []
    if criteria.id is not None:
        conditions.append(c.id == criteria.id)
    if criteria.is_foreign:
        conditions.append(IS_FOREIGN)
    if set(criteria.states) == {"parked"}:
        conditions.append(IS_FAILED)
    elif criteria.states:
        conditions.append(c.state.in_(criteria.states))
        if set(criteria.states) <= {"new", "waiting"}:
            conditions.append(c.due_at.is_not(None))
    if criteria.type is not None:
        is_whole = "." in criteria.type
        conditions.append(
            c.type == criteria.type if is_whole else c.type.startswith(f"{criteria.type}.", autoescape=True)
        )
    if criteria.users is not None:
        conditions.append(is_one_of(conn, c.user_id, criteria.users))
    if criteria.organization is not None:
        conditions.append(c.organization_id == criteria.organization)
    if criteria.since is not None:
        conditions.append(c.received_at >= criteria.since)
    if criteria.until is not None:
        conditions.append(c.received_at < criteria.until)
    return conditions


def find_body(conn: Conn, delivery_id: str) -> str | None:
    """Return the body of a delivery."""
    return conn.execute(sa.select(deliveries.c.body).where(deliveries.c.id == delivery_id)).scalar_one_or_none()


def find_delivery(conn: Conn, delivery_id: str) -> DeliveryRow | None:
    """Return a delivery by its svix-id."""
    row = conn.execute(sa.select(*_ROW_COLUMNS).where(deliveries.c.id == delivery_id)).first()
    return DeliveryRow(**row._mapping) if row else None


def reset_for_replay(conn: Conn, delivery_id: str, *, now: int) -> bool:
    """Make a processed or failed delivery due again. Return False if it is unknown or not processed yet."""
    ended = sa.and_(deliveries.c.id == delivery_id, deliveries.c.state.in_(("settled", "parked")))
    values = {"state": "new", "due_at": now, "attempts": 0, "outcome": "replayed", "settled_at": None}
    values["missing"] = sa.null()
    return conn.execute(sa.update(deliveries).where(ended).values(**values)).rowcount == 1


def probe_write(conn: Conn, *, at: int) -> None:
    """Store a probe; fails if the next delivery could not be stored.

    On SQLite the space of a delivery is allocated and freed in the same transaction: an update of a short row needs no
    space, and succeeds on a full disk.
    """
    values = [str(at)] if conn.dialect.name == "postgresql" else ["-" * WRITE_PROBE_SIZE, str(at)]
    for value in values:
        upsert_rows(conn, facts, [{"name": WRITE_PROBE_FACT, "value": value}], key="name", update=("value",))


def delete_processed_before(conn: Conn, *, before: int, limit: int) -> int:
    """Delete up to `limit` processed deliveries received before this time. Return their number."""
    expired = sa.select(deliveries.c.id).where(deliveries.c.received_at < before, deliveries.c.state == "settled")
    batch = expired.order_by(deliveries.c.received_at).limit(limit)
    return conn.execute(sa.delete(deliveries).where(deliveries.c.id.in_(batch))).rowcount
