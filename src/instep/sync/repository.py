"""SQL of sync: the lease, runs, findings and freshness."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from instep.core.clock import MAX_CLOCK_SKEW, is_in_future
from instep.core.db import Conn
from instep.core.i18n import lazy_gettext
from instep.core.sql import upsert_rows
from instep.domain.events import Observation, decode_entity_state, encode_entity_state
from instep.domain.models import ClerkId, ClerkMembership, EntityKey, EntityKind
from instep.domain.reconcile import NeedsRefetch
from instep.mirror import snapshot
from instep.sync.models import (
    LEASE_DURATION,
    FindingOutcome,
    FindingRow,
    Freshness,
    Run,
    RunDetails,
    RunState,
    SyncLease,
    SyncLeaseLostError,
    SyncOverview,
    SyncRefusedError,
)
from instep.sync.plan import DELETION_KINDS, FieldDifference, Finding, FindingKind
from instep.sync.tables import UNFINISHED, findings, freshness, leases, runs

DEFAULT_RUN_LIMIT = 20
SYNC_NAME = "sync"
INTERRUPTED_REASON = "It was interrupted."
f, r = findings.c, runs.c
OLDEST_UNFINISHED = sa.select(sa.func.min(r.started_at)).where(UNFINISHED)
_RUN_COLUMNS = tuple(r[name] for name in Run.__struct_fields__)
_FINDING_COLUMNS = (f.number, f.kind, f.thing, f.clerk_id, f.label, f.mend, f.body, f.outcome, f.outcome_reason)
_encode = msgspec.json.Encoder(order="deterministic").encode


def find_run(conn: Conn, run_id: str, *, now: int) -> Run | None:
    """Return a run with its actual state: one in state "running" without a lease was interrupted."""
    has_lease = is_lease_taken(conn, now=now)
    found = find_stored_run(conn, run_id)
    return _with_actual_state(found, has_lease) if found else None


def list_runs(conn: Conn, *, now: int, limit: int = DEFAULT_RUN_LIMIT) -> list[Run]:
    """Return the last runs with their actual state, newest first; see find_run."""
    has_lease = is_lease_taken(conn, now=now)
    return [_with_actual_state(it, has_lease) for it in list_stored_runs(conn, limit=limit)]


def load_overview(conn: Conn, find_newest_event_at: Callable[[Conn], int | None], *, now: int) -> SyncOverview:
    """Return the data of the sync page."""
    runs = list_runs(conn, now=now)
    checks = list_stored_runs(conn, kinds=["check", "plan"], limit=5)
    syncs = list_stored_runs(conn, kinds=["apply", "first", "changed"], limit=5)
    last = next((it for it in runs if it.state not in ("asked", "running")), None)
    return SyncOverview(
        unfinished=_list_active_runs(conn, now),
        runs=runs,
        last_check=next((it for it in checks if it.state == "done"), None),
        last_sync=next((it for it in syncs if it.state == "done"), None),
        suspected_deletions=_count_suspected_deletions(conn, last) if last and last.code == "fuse" else {},
        freshness=find_freshness(conn),
        newest_event_at=find_newest_event_at(conn),
    )


def load_run_details(conn: Conn, run: Run, *, kind: str, after: int, limit: int, now: int) -> RunDetails:
    """Return the data of a run's page. An apply shows the outcomes of its plan's rows."""
    is_apply = run.kind == "apply"
    listing = list_processed_findings if is_apply else list_findings
    plan_id = run.plan_id if is_apply and run.plan_id else run.id
    has_lease = is_lease_taken(conn, now=now)
    apply_run = find_apply_run(conn, run.id) if run.kind == "plan" else None
    counts = count_open_findings(conn, run.id, None) if run.kind == "plan" and run.state == "done" else {}
    return RunDetails(
        rows=listing(conn, plan_id, after=after, limit=limit, kind=kind),
        apply_run=_with_actual_state(apply_run, has_lease) if apply_run else None,
        is_busy=any(it.id != run.id for it in _list_active_runs(conn, now)),
        open_rows=sum(counts.values()),
        suspected_deletions=_count_suspected_deletions(conn, run) if run.code == "fuse" else {},
    )


def _with_actual_state(run: Run, has_lease: bool) -> Run:
    if run.state != "running" or has_lease:
        return run
    return replace(run, state="stopped", ended_at=run.changed_at, reason=INTERRUPTED_REASON, code="interrupted")


def _list_active_runs(conn: Conn, now: int) -> list[Run]:
    """Return the runs that wait or run; those in state "running" without a lease are over."""
    has_lease = is_lease_taken(conn, now=now)
    return [it for it in list_unfinished(conn) if it.state == "asked" or has_lease]


def _count_suspected_deletions(conn: Conn, run: Run) -> dict[str, int]:
    found: dict[str, int] = {}
    owner_id = run.plan_id if run.kind == "apply" and run.plan_id else run.id
    for (kind, thing), count in count_findings(conn, owner_id).items():
        if kind in DELETION_KINDS:
            found[thing] = found.get(thing, 0) + count
    return found


def build_refetches(conn: Conn, found: Sequence[Finding]) -> list[NeedsRefetch]:
    """Build the lookups for these in Clerk: a membership is found by its organization and user only."""
    ids = [it.key.id for it in found if it.key.kind == "membership"]
    pairs = snapshot.find_membership_pairs(conn, ids) if ids else {}
    refetches: list[NeedsRefetch] = []
    for it in found:
        organization, user = pairs.get(it.key.id, (None, None))
        entity = None
        if organization and user:
            entity = ClerkMembership(
                clerk_id=it.key.id, organization=ClerkId(organization), user=ClerkId(user), role=""
            )
        refetches.append(NeedsRefetch(it.key, entity))
    return refetches


def take_lease(conn: Conn, holder: str, *, now: int) -> SyncLease | None:
    """Take the lease; return None where another process holds it. PostgreSQL locks the row in the meantime."""
    query = sa.select(leases.c.fence, leases.c.until).where(leases.c.name == SYNC_NAME).with_for_update()
    row = conn.execute(query).first()
    if row is None:
        conn.execute(sa.insert(leases).values(name=SYNC_NAME, holder=holder, fence=1, until=now + LEASE_DURATION))
        return SyncLease(holder, 1)
    fence, until = row
    if is_in_future(until, now, LEASE_DURATION):
        return None
    taken = {"holder": holder, "fence": fence + 1, "until": now + LEASE_DURATION}
    conn.execute(sa.update(leases).where(leases.c.name == SYNC_NAME).values(**taken))
    return SyncLease(holder, fence + 1)


def renew_lease(conn: Conn, lease: SyncLease, *, now: int) -> None:
    """Extend the lease within the transaction of the work it protects. Raises SyncLeaseLostError."""
    ours = sa.and_(leases.c.name == SYNC_NAME, leases.c.holder == lease.holder, leases.c.fence == lease.fence)
    if conn.execute(sa.update(leases).where(ours).values(until=now + LEASE_DURATION)).rowcount != 1:
        raise SyncLeaseLostError


def release_lease(conn: Conn, lease: SyncLease) -> None:
    """Release the lease if it is still ours."""
    ours = sa.and_(leases.c.name == SYNC_NAME, leases.c.holder == lease.holder, leases.c.fence == lease.fence)
    conn.execute(sa.update(leases).where(ours).values(until=0))


def start_run(conn: Conn, run: Run, lease: SyncLease, *, is_requested: bool = False) -> None:
    """Store a run that starts, and mark runs still in state "running" as interrupted, since we hold the lease.

    `is_requested`: the run is stored already as a request. Raises SyncRefusedError where that was withdrawn meanwhile.
    """
    renew_lease(conn, lease, now=run.started_at)
    left = {"state": "stopped", "ended_at": run.started_at, "reason": INTERRUPTED_REASON, "code": "interrupted"}
    conn.execute(sa.update(runs).where(r.state == "running").values(**left))
    if not is_requested:
        conn.execute(sa.insert(runs).values(**msgspec.structs.asdict(run)))
        return
    started = {name: getattr(run, name) for name in ("state", "started_at", "changed_at", "progress")}
    if conn.execute(sa.update(runs).where(r.id == run.id, r.state == "asked").values(**started)).rowcount != 1:
        raise SyncRefusedError(lazy_gettext("The request was withdrawn before it started."), code="withdrawn")


def request_run(conn: Conn, run: Run) -> None:
    """Store a run for a worker. Raises SyncRefusedError where another is waiting or running.

    Concurrent requests are serialized by locking the lease's row.
    """
    upsert_rows(conn, leases, [{"name": SYNC_NAME, "holder": "", "fence": 0, "until": 0}], key="name")
    conn.execute(sa.select(leases.c.name).where(leases.c.name == SYNC_NAME).with_for_update())
    unfinished = list_unfinished(conn)
    is_waiting = any(it.state == "asked" for it in unfinished)
    if is_waiting or (unfinished and is_lease_taken(conn, now=run.started_at)):
        raise SyncRefusedError(lazy_gettext("Another sync is running. Only one runs at a time."), code="busy")
    conn.execute(sa.insert(runs).values(**msgspec.structs.asdict(run)))


def list_unfinished(conn: Conn) -> list[Run]:
    """Return the runs that wait for a worker or are in state "running", oldest first."""
    query = sa.select(*_RUN_COLUMNS).where(UNFINISHED).order_by(r.started_at)
    return [Run(**row._mapping) for row in conn.execute(query)]


def is_lease_taken(conn: Conn, *, now: int) -> bool:
    """Return whether a process has the lease."""
    until = conn.execute(sa.select(leases.c.until).where(leases.c.name == SYNC_NAME)).scalar_one_or_none()
    return is_in_future(until or 0, now, LEASE_DURATION)


def find_next_run(conn: Conn, *, now: int) -> tuple[Run | None, Run | None]:
    """Return the oldest waiting request, and a worker's backfill that can be resumed since its process is gone."""
    unfinished = list_unfinished(conn)
    requested = next((it for it in unfinished if it.state == "asked"), None)
    if requested is not None or not unfinished or is_lease_taken(conn, now=now):
        return requested, None
    return None, next((it for it in unfinished if it.kind == "first" and "goes_on" in it.wish), None)


def end_requested_run(conn: Conn, run_id: str, state: RunState, *, now: int, reason: str, code: str) -> bool:
    """End a run that has not started; return False where it has, or does not exist."""
    ended = {"state": state, "ended_at": now, "changed_at": now, "reason": reason, "code": code}
    return conn.execute(sa.update(runs).where(r.id == run_id, r.state == "asked").values(**ended)).rowcount == 1


def fail_interrupted_run(conn: Conn, run_id: str, *, now: int, reason: str, code: str) -> None:
    """Fail a run whose process is gone; do nothing while another sync is running."""
    lease = take_lease(conn, run_id, now=now)
    if lease is not None:
        update_run(conn, run_id, lease, {"state": "failed", "ended_at": now, "reason": reason, "code": code}, now=now)
        release_lease(conn, lease)


def save_freshness(conn: Conn, found: Freshness) -> None:
    """Store the result of the freshness check, replacing the previous one."""
    row = {"name": SYNC_NAME, **msgspec.structs.asdict(found)}
    if conn.execute(sa.update(freshness).where(freshness.c.name == SYNC_NAME).values(**row)).rowcount == 0:
        upsert_rows(conn, freshness, [row], key="name")


def find_freshness(conn: Conn) -> Freshness | None:
    """Return the result of the last freshness check of any process."""
    c = freshness.c
    kept = (c[name] for name in Freshness.__struct_fields__)
    row = conn.execute(sa.select(*kept).where(c.name == SYNC_NAME)).first()
    return Freshness(*row) if row else None


def is_synced(conn: Conn) -> bool:
    """Return whether a backfill or an apply has ever completed."""
    ended = sa.select(r.id).where(r.kind.in_(("first", "apply")), r.state == "done").limit(1)
    return conn.execute(ended).first() is not None


def update_run(conn: Conn, run_id: str, lease: SyncLease, values: Mapping[str, Any], *, now: int) -> None:
    """Update columns of a run. Raises SyncLeaseLostError."""
    renew_lease(conn, lease, now=now)
    conn.execute(sa.update(runs).where(r.id == run_id).values(changed_at=now, **values))


def find_stored_run(conn: Conn, run_id: str) -> Run | None:
    """Return a run by its id, as stored."""
    row = conn.execute(sa.select(*_RUN_COLUMNS).where(r.id == run_id)).first()
    return Run(**row._mapping) if row else None


def find_progress(conn: Conn, run_id: str) -> dict[str, Any]:
    """Return the window positions of a backfill."""
    return dict(conn.execute(sa.select(r.progress).where(r.id == run_id)).scalar_one() or {})


def list_stored_runs(conn: Conn, *, kinds: Sequence[str] = (), limit: int = 20, as_of: int | None = None) -> list[Run]:
    """Return the last runs, newest first; with `as_of` without those in its future, which a clock rollback left."""
    query = sa.select(*_RUN_COLUMNS).order_by(r.started_at.desc(), r.id.desc()).limit(limit)
    query = query if as_of is None else query.where(r.started_at <= as_of + MAX_CLOCK_SKEW)
    query = query.where(r.kind.in_(kinds)) if kinds else query
    return [Run(**row._mapping) for row in conn.execute(query)]


def delete_old_findings(conn: Conn, *, before: int) -> int:
    """Delete the findings of runs started before then; the runs and their counts are kept."""
    old = sa.select(r.id).where(r.started_at < before)
    return conn.execute(sa.delete(findings).where(f.run_id.in_(old))).rowcount


def save_findings(conn: Conn, run_id: str, found: Iterable[tuple[int, Finding]]) -> None:
    """Insert findings under their numbers."""
    rows = [
        {
            "run_id": run_id,
            "number": number,
            "kind": it.kind,
            "thing": it.key.kind,
            "clerk_id": it.key.id,
            "label": it.label,
            "mend": it.repair_target,
            "body": _encode_finding(it),
        }
        for number, it in found
    ]
    if rows:
        conn.execute(sa.insert(findings), rows)


def delete_findings(conn: Conn, run_id: str, numbers: Sequence[int]) -> None:
    """Delete findings that turned out to be none, before the plan is sealed."""
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        conn.execute(sa.delete(findings).where(f.run_id == run_id, f.number.in_(some)))


def delete_findings_of_kind(conn: Conn, run_id: str, thing: EntityKind) -> None:
    """Delete the findings about entities of a kind, before these are scanned again."""
    conn.execute(sa.delete(findings).where(f.run_id == run_id, f.thing == thing))


def list_findings(conn: Conn, run_id: str, *, after: int = 0, limit: int = 100, kind: str = "") -> list[FindingRow]:
    """Return findings of a run by number; of one kind if given."""
    query = sa.select(*_FINDING_COLUMNS).where(f.run_id == run_id, f.number > after)
    return _fetch_findings(conn, query.where(f.kind == kind) if kind else query, limit)


def list_processed_findings(
    conn: Conn, run_id: str, *, after: int = 0, limit: int = 100, kind: str = ""
) -> list[FindingRow]:
    """Return findings of a plan that have an outcome."""
    query = sa.select(*_FINDING_COLUMNS).where(f.run_id == run_id, f.number > after, f.outcome.is_not(None))
    return _fetch_findings(conn, query.where(f.kind == kind) if kind else query, limit)


def count_open_findings(conn: Conn, run_id: str, chosen: Sequence[int] | None) -> dict[tuple[str, str], int]:
    """Count the rows of a plan that can still be fixed, by kind and side; of these numbers, or of all."""
    query = sa.select(f.kind, f.mend, sa.func.count()).where(f.run_id == run_id, f.outcome.is_(None))
    query = query.where(f.mend.is_not(None)).group_by(f.kind, f.mend)
    parts = [None] if chosen is None else [chosen[start : start + 500] for start in range(0, len(chosen), 500)]
    found: dict[tuple[str, str], int] = {}
    for part in parts:
        for kind, side, count in conn.execute(query if part is None else query.where(f.number.in_(part))):
            found[kind, side] = found.get((kind, side), 0) + int(count)
    return found


def find_apply_run(conn: Conn, plan_id: str) -> Run | None:
    """Return the last run that applied a plan, or is about to."""
    query = sa.select(*_RUN_COLUMNS).where(
        r.started_at >= sa.select(r.started_at).where(r.id == plan_id).scalar_subquery()
    )
    row = conn.execute(query.where(r.plan_id == plan_id).order_by(r.started_at.desc()).limit(1)).first()
    return Run(**row._mapping) if row else None


def list_open_findings(conn: Conn, run_id: str, thing: EntityKind, *, after: int, limit: int) -> list[FindingRow]:
    """Return the findings about entities of a kind that have no outcome."""
    query = sa.select(*_FINDING_COLUMNS).where(f.run_id == run_id, f.number > after)
    return _fetch_findings(conn, query.where(f.thing == thing, f.outcome.is_(None)), limit)


def list_findings_to_recheck(
    conn: Conn, run_id: str, *, after: int, limit: int, kinds: Sequence[FindingKind] = DELETION_KINDS
) -> list[FindingRow]:
    """Return the findings to be verified: suspected deletions, or other `kinds`."""
    query = sa.select(*_FINDING_COLUMNS).where(f.run_id == run_id, f.number > after, f.kind.in_(kinds))
    return _fetch_findings(conn, query, limit)


def count_open_deletions(conn: Conn, run_id: str, chosen: Sequence[int] | None) -> dict[EntityKind, int]:
    """Count the rows of a plan that would still be deleted here, by kind; of these numbers, or of all."""
    query = sa.select(f.thing, sa.func.count()).where(
        f.run_id == run_id, f.outcome.is_(None), f.kind.in_(DELETION_KINDS)
    )
    found: dict[EntityKind, int] = {}
    parts = [None] if chosen is None else [chosen[start : start + 500] for start in range(0, len(chosen), 500)]
    for part in parts:
        some = query if part is None else query.where(f.number.in_(part))
        for thing, count in conn.execute(some.group_by(f.thing)):
            found[thing] = found.get(thing, 0) + int(count)
    return found


def _fetch_findings(conn: Conn, query: sa.Select[Any], limit: int) -> list[FindingRow]:
    return [_decode_finding(row) for row in conn.execute(query.order_by(f.number).limit(limit))]


def count_findings(conn: Conn, run_id: str) -> dict[tuple[str, EntityKind], int]:
    """Count the findings of a run by kind and by kind of entity."""
    query = sa.select(f.kind, f.thing, sa.func.count()).where(f.run_id == run_id).group_by(f.kind, f.thing)
    return {(kind, thing): int(count) for kind, thing, count in conn.execute(query)}


def set_labels(conn: Conn, run_id: str, labels: Mapping[int, str]) -> None:
    """Set the labels of rows that exist in the mirror only."""
    for number, text in labels.items():
        conn.execute(sa.update(findings).where(f.run_id == run_id, f.number == number).values(label=text))


def set_outcomes(
    conn: Conn, run_id: str, outcomes: Mapping[int, tuple[FindingOutcome, str | None]], *, now: int
) -> None:
    """Set the outcomes of findings by number."""
    numbers_by_outcome: dict[tuple[FindingOutcome, str | None], list[int]] = {}
    for number, outcome_and_reason in outcomes.items():
        numbers_by_outcome.setdefault(outcome_and_reason, []).append(number)
    for (outcome, reason), numbers in numbers_by_outcome.items():
        values = {"outcome": outcome, "outcome_reason": reason, "outcome_at": now}
        conn.execute(sa.update(findings).where(f.run_id == run_id, f.number.in_(numbers)).values(**values))


def hash_plan(conn: Conn, run_id: str) -> str:
    """Return a hash of everything in a plan except the outcomes."""
    total = hashlib.blake2b(digest_size=20)
    for row in _iterate_findings(conn, run_id):
        total.update(_encode([row[name] for name in range(7)]))
    return total.hexdigest()


def _iterate_findings(conn: Conn, run_id: str) -> Iterator[Any]:
    after = 0
    while True:
        query = sa.select(*_FINDING_COLUMNS).where(f.run_id == run_id, f.number > after).order_by(f.number).limit(1_000)
        rows = conn.execute(query).all()
        yield from rows
        if len(rows) < 1_000:
            return
        after = rows[-1][0]


def _encode_finding(finding: Finding) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: getattr(finding, name)
        for name in ("here", "version", "digest", "wrote_last", "wrote_at", "note")
        if getattr(finding, name) is not None
    }
    kept["differences"] = msgspec.to_builtins(list(finding.differences))
    if finding.observation is not None:
        kept["news"] = encode_entity_state(finding.observation)
    return kept


def _decode_finding(row: Any) -> FindingRow:
    number, kind, thing, clerk_id, label, repair_target, body, outcome, reason = row
    plain = {name: value for name, value in body.items() if name not in ("news", "differences")}
    finding = Finding(
        kind=kind,
        key=EntityKey(thing, clerk_id),
        label=label,
        repair_target=repair_target,
        differences=msgspec.convert(body["differences"], list[FieldDifference]),
        observation=_decode_observation(body),
        **plain,
    )
    return FindingRow(number=number, finding=finding, outcome=outcome, outcome_reason=reason)


def _decode_observation(body: dict[str, Any]) -> Observation | None:
    state = decode_entity_state(body["news"]) if "news" in body else None
    return state if isinstance(state, Observation) else None
