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


"""The fact that names the Clerk instance which this database belongs to; see inbox.instance."""


class ClaimedDelivery(Struct, frozen=True):
    """A delivery that is ours to work until its lease ends. `bound`: the instance that this database belongs to."""

    id: str
    type: str
    body: str
    attempts: int
    missing: dict[str, int] | None = None
    bound: str | None = None


def insert_deliveries(conn: Conn, batch: Sequence[VerifiedDelivery]) -> None:
    """Keep each delivery once, whatever how often it comes; the first copy stays."""
    rows = {
        it.id: {
            "id": it.id,
            "type": it.type,
            "body": it.body.decode(),
            "received_at": it.received_at,
            "state": "new",
            "due_at": it.received_at,
            "user_id": it.user,
            "organization_id": it.organization,
        }
        for it in batch
    }
    upsert_rows(conn, deliveries, list(rows.values()), key="id")


_BOUND_INSTANCE = sa.select(facts.c.value).where(facts.c.name == BOUND_INSTANCE_FACT).scalar_subquery()
_CLAIMED_COLUMNS = (
    *(deliveries.c[name] for name in ClaimedDelivery.__struct_fields__ if name != "bound"),
    _BOUND_INSTANCE,
)


def claim_due_deliveries(conn: Conn, *, now: int, limit: int) -> list[ClaimedDelivery]:
    """Deliveries that are due, oldest first; other workers leave these alone until this transaction ends."""
    query = sa.select(*_CLAIMED_COLUMNS).where(deliveries.c.due_at <= now).order_by(deliveries.c.due_at).limit(limit)
    return [ClaimedDelivery(*row) for row in conn.execute(query.with_for_update(skip_locked=True))]


def claim_deliveries(conn: Conn, ids: Sequence[str]) -> list[ClaimedDelivery]:
    """These deliveries, if they still wait to be worked."""
    query = sa.select(*_CLAIMED_COLUMNS).where(is_one_of(conn, deliveries.c.id, ids), deliveries.c.due_at.is_not(None))
    return [ClaimedDelivery(*row) for row in conn.execute(query.with_for_update(skip_locked=True))]


def list_due_ids(conn: Conn, *, now: int, limit: int) -> list[str]:
    """The ids of deliveries that are due, oldest first."""
    query = sa.select(deliveries.c.id).where(deliveries.c.due_at <= now).order_by(deliveries.c.due_at).limit(limit)
    return list(conn.execute(query).scalars())


def lease_deliveries(conn: Conn, ids: Sequence[str], *, until: int) -> None:
    """Keep these to ourselves until then; if we die meanwhile, another worker takes them."""
    if ids:
        conn.execute(sa.update(deliveries).where(is_one_of(conn, deliveries.c.id, ids)).values(due_at=until))


def clamp_due_times(conn: Conn, *, now: int, lease: int, delays: Sequence[int]) -> int:
    """Make deliveries due at `now` that wait for longer than they can have been put off; how many there were.

    A new one waits for a lease at the most, one that was tried n times for the n-th of `delays` or, where Clerk asked
    for it, an hour. Whatever waits longer was put off before a clock went back.
    """
    c = deliveries.c
    tried = {n: max(delay, HOUR) for n, delay in enumerate(delays, 1)}
    longest = sa.case((c.state == "new", lease), *((c.attempts == n, it) for n, it in tried.items()), else_=lease)
    is_late = sa.and_(c.due_at > now + lease, c.due_at - longest > now + MINUTE)
    return conn.execute(sa.update(deliveries).where(is_late).values(due_at=now)).rowcount


def mark_processed(conn: Conn, outcomes: Mapping[str, str], *, now: int) -> None:
    """These are done: what each did, in a word or two."""
    by_outcome: dict[str, list[str]] = {}
    for id, outcome in outcomes.items():
        by_outcome.setdefault(outcome, []).append(id)
    for outcome, ids in by_outcome.items():
        done = {"state": "settled", "due_at": None, "outcome": outcome, "settled_at": now}
        conn.execute(sa.update(deliveries).where(is_one_of(conn, deliveries.c.id, ids)).values(**done))


def reschedule_deliveries(
    conn: Conn, ids: Sequence[str], *, until: int, reason: str, missing: Mapping[str, int] | None = None
) -> None:
    """Try these again at `until`. `missing`: what they need and Clerk does not show, and since when."""
    later = {"state": "waiting", "due_at": until, "outcome": reason, "attempts": deliveries.c.attempts + 1}
    later["missing"] = missing or sa.null()
    conn.execute(sa.update(deliveries).where(is_one_of(conn, deliveries.c.id, ids)).values(**later))


def mark_failed(conn: Conn, ids: Sequence[str], *, now: int, reason: str) -> None:
    """These need a person; they are shown with the reason and can be replayed."""
    parked = {"state": "parked", "due_at": None, "outcome": reason, "settled_at": now}
    conn.execute(sa.update(deliveries).where(is_one_of(conn, deliveries.c.id, ids)).values(**parked))


NEXT_DUE_AT_QUERY = sa.select(sa.func.min(deliveries.c.due_at)).where(deliveries.c.due_at.is_not(None))


def find_next_due_at(conn: Conn) -> int | None:
    """When the next delivery is due, None when nothing waits."""
    due: int | None = conn.execute(NEXT_DUE_AT_QUERY).scalar_one()
    return due


def count_by_state(conn: Conn) -> dict[str, int]:
    """How many deliveries are waiting, parked, and foreign (settled ones are not counted: there can be millions).

    Foreign ones are of another Clerk instance: kept, and not applied.
    """
    c = deliveries.c
    query = sa.select(c.state, sa.func.count()).where(c.due_at.is_not(None)).group_by(c.state)
    found = {str(state): int(count) for state, count in conn.execute(query)}
    few = {"parked": count_failed(conn), "foreign": count_foreign(conn)}
    return found | {name: count for name, count in few.items() if count}


def count_failed(conn: Conn) -> int:
    """How many deliveries need a person: by an index of those alone."""
    return int(conn.execute(sa.select(sa.func.count()).select_from(deliveries).where(IS_FAILED)).scalar_one())


def count_foreign(conn: Conn) -> int:
    """Return how many deliveries of another Clerk instance are kept: by an index of those alone."""
    return int(conn.execute(sa.select(sa.func.count()).select_from(deliveries).where(IS_FOREIGN)).scalar_one())


def find_newest_applied_at(conn: Conn) -> int | None:
    """When the newest delivery came that was worked to its end; those of another instance are none."""
    c = deliveries.c
    is_ours = sa.or_(c.outcome.is_(None), c.outcome != "foreign")
    query = sa.select(c.received_at).where(c.state == "settled", is_ours)
    return conn.execute(query.order_by(deliveries.c.received_at.desc()).limit(1)).scalar_one_or_none()


def find_first_received_at(conn: Conn) -> int | None:
    """Return when the oldest delivery came that is kept, in Unix milliseconds."""
    return conn.execute(sa.select(sa.func.min(deliveries.c.received_at))).scalar_one_or_none()


class DeliveryRow(Struct, frozen=True, kw_only=True):
    """A delivery as it is shown; its body may hold personal data and is not part of this."""

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
    conn: Conn, wanted: DeliveryFilter = ANY_DELIVERY, *, before: tuple[int, str] | None = None, limit: int = 50
) -> list[DeliveryRow]:
    """Deliveries, newest first; `before` is the time and the id of the last one of the page before."""
    c = deliveries.c
    query = sa.select(*_ROW_COLUMNS).order_by(c.received_at.desc(), c.id.desc()).limit(limit)
    for condition in _filter_conditions(conn, wanted):
        query = query.where(condition)
    if before is not None:
        at, id = before
        query = query.where(sa.or_(c.received_at < at, sa.and_(c.received_at == at, c.id < id)))
    return [DeliveryRow(**row._mapping) for row in conn.execute(query)]


def _filter_conditions(conn: Conn, wanted: DeliveryFilter) -> list[sa.ColumnElement[bool] | sa.TextClause]:
    """The states that few rows have are told literally: their indexes hold those rows alone."""
    c = deliveries.c
    found: list[sa.ColumnElement[bool] | sa.TextClause] = []
    if wanted.id is not None:
        found.append(c.id == wanted.id)
    if wanted.is_foreign:
        found.append(IS_FOREIGN)
    if set(wanted.states) == {"parked"}:
        found.append(IS_FAILED)
    elif wanted.states:
        found.append(c.state.in_(wanted.states))
        if set(wanted.states) <= {"new", "waiting"}:
            found.append(c.due_at.is_not(None))
    if wanted.type is not None:
        is_whole = "." in wanted.type
        found.append(c.type == wanted.type if is_whole else c.type.startswith(f"{wanted.type}.", autoescape=True))
    if wanted.users is not None:
        found.append(is_one_of(conn, c.user_id, wanted.users))
    if wanted.organization is not None:
        found.append(c.organization_id == wanted.organization)
    if wanted.since is not None:
        found.append(c.received_at >= wanted.since)
    if wanted.until is not None:
        found.append(c.received_at < wanted.until)
    return found


def find_body(conn: Conn, id: str) -> str | None:
    """What a delivery said, as it came."""
    return conn.execute(sa.select(deliveries.c.body).where(deliveries.c.id == id)).scalar_one_or_none()


def find_delivery(conn: Conn, id: str) -> DeliveryRow | None:
    """A delivery by its svix-id."""
    row = conn.execute(sa.select(*_ROW_COLUMNS).where(deliveries.c.id == id)).first()
    return DeliveryRow(**row._mapping) if row else None


def reset_for_replay(conn: Conn, id: str, *, now: int) -> bool:
    """Have a delivery that has ended worked once more; False where it still waits to be worked, or is not known."""
    ended = sa.and_(deliveries.c.id == id, deliveries.c.state.in_(("settled", "parked")))
    again = {"state": "new", "due_at": now, "attempts": 0, "outcome": "replayed", "settled_at": None}
    again["missing"] = sa.null()
    return conn.execute(sa.update(deliveries).where(ended).values(**again)).rowcount == 1


def probe_write(conn: Conn, *, at: int) -> None:
    """Keep that something can be kept; fails as the next delivery would.

    On SQLite room for a delivery is taken and given back in the same transaction: changing a short row alone needs no
    room, and succeeds on a full disk.
    """
    values = [str(at)] if conn.dialect.name == "postgresql" else ["-" * WRITE_PROBE_SIZE, str(at)]
    for value in values:
        upsert_rows(conn, facts, [{"name": WRITE_PROBE_FACT, "value": value}], key="name", update=("value",))


def delete_processed_before(conn: Conn, *, before: int, limit: int) -> int:
    """Delete up to `limit` deliveries that were settled before this time; how many there were."""
    old = sa.select(deliveries.c.id).where(deliveries.c.received_at < before, deliveries.c.state == "settled")
    some = old.order_by(deliveries.c.received_at).limit(limit)
    return conn.execute(sa.delete(deliveries).where(deliveries.c.id.in_(some))).rowcount
