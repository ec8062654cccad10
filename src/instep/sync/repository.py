"""SQL of sync: the lease, runs, findings and freshness."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from instep.core.clock import MAX_CLOCK_SKEW, is_in_future
from instep.core.db import Conn
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


def find_run(conn: Conn, id: str, *, now: int) -> Run | None:
    """A run as it is: one that says it runs while nobody holds the right to sync was interrupted."""
    is_held = is_lease_held(conn, now=now)
    found = find_stored_run(conn, id)
    return _with_actual_state(found, is_held) if found else None


def list_runs(conn: Conn, *, now: int, limit: int = DEFAULT_RUN_LIMIT) -> list[Run]:
    """The last runs as they are, newest first; see find_run."""
    is_held = is_lease_held(conn, now=now)
    return [_with_actual_state(it, is_held) for it in list_stored_runs(conn, limit=limit)]


def load_overview(conn: Conn, newest_event: Callable[[Conn], int | None], *, now: int) -> SyncOverview:
    """How sync stands."""
    runs = list_runs(conn, now=now)
    checks = list_stored_runs(conn, kinds=["check", "plan"], limit=5)
    mends = list_stored_runs(conn, kinds=["apply", "first", "changed"], limit=5)
    last = next((it for it in runs if it.state not in ("asked", "running")), None)
    return SyncOverview(
        unfinished=_list_active_runs(conn, now),
        runs=runs,
        check=next((it for it in checks if it.state == "done"), None),
        mend=next((it for it in mends if it.state == "done"), None),
        suspects=_count_suspected_deletions(conn, last) if last and last.code == "fuse" else {},
        freshness=find_freshness(conn),
        newest_event_at=newest_event(conn),
    )


def load_run_details(conn: Conn, run: Run, *, kind: str, after: int, limit: int, now: int) -> RunDetails:
    """What a run's page shows. A mending shows what became of the rows of its plan."""
    is_mending = run.kind == "apply"
    listing = list_processed_findings if is_mending else list_findings
    plan_id = run.plan_id if is_mending and run.plan_id else run.id
    is_held = is_lease_held(conn, now=now)
    mending = find_apply_run(conn, run.id) if run.kind == "plan" else None
    counts = count_open_findings(conn, run.id, None) if run.kind == "plan" and run.state == "done" else {}
    return RunDetails(
        rows=listing(conn, plan_id, after=after, limit=limit, kind=kind),
        mending=_with_actual_state(mending, is_held) if mending else None,
        is_busy=any(it.id != run.id for it in _list_active_runs(conn, now)),
        open_rows=sum(counts.values()),
        suspects=_count_suspected_deletions(conn, run) if run.code == "fuse" else {},
    )


def _with_actual_state(run: Run, is_held: bool) -> Run:
    if run.state != "running" or is_held:
        return run
    return replace(run, state="stopped", ended_at=run.changed_at, reason=INTERRUPTED_REASON, code="interrupted")


def _list_active_runs(conn: Conn, now: int) -> list[Run]:
    """Runs that wait or run: one that says it runs while nobody holds the right to sync is over."""
    is_held = is_lease_held(conn, now=now)
    return [it for it in list_unfinished(conn) if it.state == "asked" or is_held]


def _count_suspected_deletions(conn: Conn, run: Run) -> dict[str, int]:
    found: dict[str, int] = {}
    of = run.plan_id if run.kind == "apply" and run.plan_id else run.id
    for (kind, thing), count in count_findings(conn, of).items():
        if kind in DELETION_KINDS:
            found[thing] = found.get(thing, 0) + count
    return found


def build_refetches(conn: Conn, found: Sequence[Finding]) -> list[NeedsRefetch]:
    """How to look for these in Clerk: a membership only by its organization and its user."""
    ids = [it.key.id for it in found if it.key.kind == "membership"]
    pairs = snapshot.find_membership_pairs(conn, ids) if ids else {}
    asks: list[NeedsRefetch] = []
    for it in found:
        organization, user = pairs.get(it.key.id, (None, None))
        entity = None
        if organization and user:
            entity = ClerkMembership(
                clerk_id=it.key.id, organization=ClerkId(organization), user=ClerkId(user), role=""
            )
        asks.append(NeedsRefetch(it.key, entity))
    return asks


SYNC_NAME = "sync"
INTERRUPTED_REASON = "It was interrupted."
f, r = findings.c, runs.c
_encode = msgspec.json.Encoder(order="deterministic").encode


def take_lease(conn: Conn, holder: str, *, now: int) -> SyncLease | None:
    """Take the right to sync; None where someone has it. On PostgreSQL the row is locked meanwhile."""
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
    """Keep the right for a while longer, in the transaction of what it is held for. Raises Overtaken."""
    ours = sa.and_(leases.c.name == SYNC_NAME, leases.c.holder == lease.holder, leases.c.fence == lease.fence)
    if conn.execute(sa.update(leases).where(ours).values(until=now + LEASE_DURATION)).rowcount != 1:
        raise SyncLeaseLostError


def release_lease(conn: Conn, lease: SyncLease) -> None:
    """Give the right back, if it is still ours."""
    ours = sa.and_(leases.c.name == SYNC_NAME, leases.c.holder == lease.holder, leases.c.fence == lease.fence)
    conn.execute(sa.update(leases).where(ours).values(until=0))


def start_run(conn: Conn, run: Run, lease: SyncLease, *, is_asked: bool = False) -> None:
    """Keep a run that begins; whatever still says that it runs did not survive, since we have the lease.

    `is_asked`: it is kept already, since somebody asked for it. Raises SyncRefusedError where it was withdrawn meanwhile.
    """
    renew_lease(conn, lease, now=run.started_at)
    left = {"state": "stopped", "ended_at": run.started_at, "reason": INTERRUPTED_REASON, "code": "interrupted"}
    conn.execute(sa.update(runs).where(r.state == "running").values(**left))
    if not is_asked:
        conn.execute(sa.insert(runs).values(**msgspec.structs.asdict(run)))
        return
    begun = {name: getattr(run, name) for name in ("state", "started_at", "changed_at", "progress")}
    if conn.execute(sa.update(runs).where(r.id == run.id, r.state == "asked").values(**begun)).rowcount != 1:
        raise SyncRefusedError("It was withdrawn before it began.", code="withdrawn")


def request_run(conn: Conn, run: Run) -> None:
    """Keep a run that a worker shall take on. Raises SyncRefusedError where another is asked for or under way.

    Of those who ask at once one goes first: the lease's row is locked meanwhile.
    """
    upsert_rows(conn, leases, [{"name": SYNC_NAME, "holder": "", "fence": 0, "until": 0}], key="name")
    conn.execute(sa.select(leases.c.name).where(leases.c.name == SYNC_NAME).with_for_update())
    unfinished = list_unfinished(conn)
    is_asked = any(it.state == "asked" for it in unfinished)
    if is_asked or (unfinished and is_lease_held(conn, now=run.started_at)):
        raise SyncRefusedError("Another sync is under way. Only one runs at a time.", code="busy")
    conn.execute(sa.insert(runs).values(**msgspec.structs.asdict(run)))


OLDEST_UNFINISHED = sa.select(sa.func.min(r.started_at)).where(UNFINISHED)


def list_unfinished(conn: Conn) -> list[Run]:
    """Runs that wait for a worker, or say that they run; the oldest first."""
    query = sa.select(*_RUN_COLUMNS).where(UNFINISHED).order_by(r.started_at)
    return [Run(**row._mapping) for row in conn.execute(query)]


def is_lease_held(conn: Conn, *, now: int) -> bool:
    """Whether somebody has the right to sync."""
    until = conn.execute(sa.select(leases.c.until).where(leases.c.name == SYNC_NAME)).scalar_one_or_none()
    return is_in_future(until or 0, now, LEASE_DURATION)


def find_next_run(conn: Conn, *, now: int) -> tuple[Run | None, Run | None]:
    """The run that waits longest for a worker; and a first sync of a worker's whose process is gone, to go on with."""
    unfinished = list_unfinished(conn)
    asked = next((it for it in unfinished if it.state == "asked"), None)
    if asked is not None or not unfinished or is_lease_held(conn, now=now):
        return asked, None
    return None, next((it for it in unfinished if it.kind == "first" and "goes_on" in it.wish), None)


def end_requested_run(conn: Conn, id: str, state: RunState, *, now: int, reason: str, code: str) -> bool:
    """End a run that nobody began; False where it is not one."""
    ended = {"state": state, "ended_at": now, "changed_at": now, "reason": reason, "code": code}
    return conn.execute(sa.update(runs).where(r.id == id, r.state == "asked").values(**ended)).rowcount == 1


def fail_interrupted_run(conn: Conn, id: str, *, now: int, reason: str, code: str) -> None:
    """End a run whose process is gone; nothing happens where somebody syncs meanwhile."""
    lease = take_lease(conn, id, now=now)
    if lease is not None:
        update_run(conn, id, lease, {"state": "failed", "ended_at": now, "reason": reason, "code": code}, now=now)
        release_lease(conn, lease)


def save_freshness(conn: Conn, found: Freshness) -> None:
    """How the webhook stands, in place of what was kept before."""
    row = {"name": SYNC_NAME, **msgspec.structs.asdict(found)}
    if conn.execute(sa.update(freshness).where(freshness.c.name == SYNC_NAME).values(**row)).rowcount == 0:
        upsert_rows(conn, freshness, [row], key="name")


def find_freshness(conn: Conn) -> Freshness | None:
    """How the webhook stood when it was last looked at, by whichever process."""
    c = freshness.c
    kept = (c[name] for name in Freshness.__struct_fields__)
    row = conn.execute(sa.select(*kept).where(c.name == SYNC_NAME)).first()
    return Freshness(*row) if row else None


def is_synced(conn: Conn) -> bool:
    """Return whether a first sync or an apply ever came to its end."""
    ended = sa.select(r.id).where(r.kind.in_(("first", "apply")), r.state == "done").limit(1)
    return conn.execute(ended).first() is not None


def update_run(conn: Conn, run_id: str, lease: SyncLease, values: Mapping[str, Any], *, now: int) -> None:
    """Keep something about a run. Raises Overtaken."""
    renew_lease(conn, lease, now=now)
    conn.execute(sa.update(runs).where(r.id == run_id).values(changed_at=now, **values))


_RUN_COLUMNS = tuple(r[name] for name in Run.__struct_fields__)


def find_stored_run(conn: Conn, id: str) -> Run | None:
    """A run by its id."""
    row = conn.execute(sa.select(*_RUN_COLUMNS).where(r.id == id)).first()
    return Run(**row._mapping) if row else None


def find_progress(conn: Conn, id: str) -> dict[str, Any]:
    """Where the windows of a first sync are."""
    return dict(conn.execute(sa.select(r.progress).where(r.id == id)).scalar_one() or {})


def list_stored_runs(conn: Conn, *, kinds: Sequence[str] = (), limit: int = 20, now: int | None = None) -> list[Run]:
    """The last runs, newest first; with `now` without those that began before a clock went back, in its future."""
    query = sa.select(*_RUN_COLUMNS).order_by(r.started_at.desc(), r.id.desc()).limit(limit)
    query = query if now is None else query.where(r.started_at <= now + MAX_CLOCK_SKEW)
    query = query.where(r.kind.in_(kinds)) if kinds else query
    return [Run(**row._mapping) for row in conn.execute(query)]


def delete_old_findings(conn: Conn, *, before: int) -> int:
    """Findings of runs that ended before then are not kept for ever; the runs and their counts are."""
    old = sa.select(r.id).where(r.started_at < before)
    return conn.execute(sa.delete(findings).where(f.run_id.in_(old))).rowcount


def save_findings(conn: Conn, run_id: str, found: Iterable[tuple[int, Finding]]) -> None:
    """Keep findings under their numbers."""
    rows = [
        {
            "run_id": run_id,
            "number": number,
            "kind": it.kind,
            "thing": it.key.kind,
            "clerk_id": it.key.id,
            "label": it.label,
            "mend": it.mend,
            "body": _encode_finding(it),
        }
        for number, it in found
    ]
    if rows:
        conn.execute(sa.insert(findings), rows)


def delete_findings(conn: Conn, run_id: str, numbers: Sequence[int]) -> None:
    """These turned out to be none, before the run was sealed."""
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        conn.execute(sa.delete(findings).where(f.run_id == run_id, f.number.in_(some)))


def delete_findings_of_kind(conn: Conn, run_id: str, thing: EntityKind) -> None:
    """What was found about things of a kind is looked for anew."""
    conn.execute(sa.delete(findings).where(f.run_id == run_id, f.thing == thing))


_FINDING_COLUMNS = (f.number, f.kind, f.thing, f.clerk_id, f.label, f.mend, f.body, f.outcome, f.outcome_reason)


def list_findings(conn: Conn, run_id: str, *, after: int = 0, limit: int = 100, kind: str = "") -> list[FindingRow]:
    """Findings of a run in the order of their numbers; of one kind, if it is told."""
    query = sa.select(*_FINDING_COLUMNS).where(f.run_id == run_id, f.number > after)
    return _fetch_findings(conn, query.where(f.kind == kind) if kind else query, limit)


def list_processed_findings(
    conn: Conn, run_id: str, *, after: int = 0, limit: int = 100, kind: str = ""
) -> list[FindingRow]:
    """Findings of a plan of which it is known what became of them."""
    query = sa.select(*_FINDING_COLUMNS).where(f.run_id == run_id, f.number > after, f.outcome.is_not(None))
    return _fetch_findings(conn, query.where(f.kind == kind) if kind else query, limit)


def count_open_findings(conn: Conn, run_id: str, chosen: Sequence[int] | None) -> dict[tuple[str, str], int]:
    """How many rows of a plan can be mended yet, by kind and by side; of those with these numbers, or of all."""
    query = sa.select(f.kind, f.mend, sa.func.count()).where(f.run_id == run_id, f.outcome.is_(None))
    query = query.where(f.mend.is_not(None)).group_by(f.kind, f.mend)
    parts = [None] if chosen is None else [chosen[start : start + 500] for start in range(0, len(chosen), 500)]
    found: dict[tuple[str, str], int] = {}
    for part in parts:
        for kind, mend, count in conn.execute(query if part is None else query.where(f.number.in_(part))):
            found[kind, mend] = found.get((kind, mend), 0) + int(count)
    return found


def find_apply_run(conn: Conn, plan_id: str) -> Run | None:
    """The last run that applied a plan, or that shall."""
    query = sa.select(*_RUN_COLUMNS).where(
        r.started_at >= sa.select(r.started_at).where(r.id == plan_id).scalar_subquery()
    )
    row = conn.execute(query.where(r.plan_id == plan_id).order_by(r.started_at.desc()).limit(1)).first()
    return Run(**row._mapping) if row else None


def list_open_findings(conn: Conn, run_id: str, thing: EntityKind, *, after: int, limit: int) -> list[FindingRow]:
    """Findings about things of a kind that nobody has done anything about."""
    query = sa.select(*_FINDING_COLUMNS).where(f.run_id == run_id, f.number > after)
    return _fetch_findings(conn, query.where(f.thing == thing, f.outcome.is_(None)), limit)


def list_findings_to_recheck(
    conn: Conn, run_id: str, *, after: int, limit: int, kinds: Sequence[FindingKind] = DELETION_KINDS
) -> list[FindingRow]:
    """What is looked at a second time: what Clerk did not show, or findings of other `kinds`."""
    query = sa.select(*_FINDING_COLUMNS).where(f.run_id == run_id, f.number > after, f.kind.in_(kinds))
    return _fetch_findings(conn, query, limit)


def count_open_deletions(conn: Conn, run_id: str, chosen: Sequence[int] | None) -> dict[EntityKind, int]:
    """Return how many rows of a plan would still be deleted here, by kind; of those with these numbers, or of all."""
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
    """How many findings a run has, by kind and by what they are about."""
    query = sa.select(f.kind, f.thing, sa.func.count()).where(f.run_id == run_id).group_by(f.kind, f.thing)
    return {(kind, thing): int(count) for kind, thing, count in conn.execute(query)}


def set_labels(conn: Conn, run_id: str, labels: Mapping[int, str]) -> None:
    """What to call rows that only the mirror knew."""
    for number, text in labels.items():
        conn.execute(sa.update(findings).where(f.run_id == run_id, f.number == number).values(label=text))


def set_outcomes(conn: Conn, run_id: str, ends: Mapping[int, tuple[FindingOutcome, str | None]], *, now: int) -> None:
    """What became of findings, by their numbers."""
    alike: dict[tuple[FindingOutcome, str | None], list[int]] = {}
    for number, ended in ends.items():
        alike.setdefault(ended, []).append(number)
    for (outcome, reason), numbers in alike.items():
        done = {"outcome": outcome, "outcome_reason": reason, "outcome_at": now}
        conn.execute(sa.update(findings).where(f.run_id == run_id, f.number.in_(numbers)).values(**done))


def hash_plan(conn: Conn, run_id: str) -> str:
    """A hash of everything a plan says; what became of its rows is not in it."""
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
    if finding.news is not None:
        kept["news"] = encode_entity_state(finding.news)
    return kept


def _decode_finding(row: Any) -> FindingRow:
    number, kind, thing, clerk_id, label_, mend, body, outcome, reason = row
    plain = {name: value for name, value in body.items() if name not in ("news", "differences")}
    finding = Finding(
        kind=kind,
        key=EntityKey(thing, clerk_id),
        label=label_,
        mend=mend,
        differences=msgspec.convert(body["differences"], list[FieldDifference]),
        news=_decode_observation(body),
        **plain,
    )
    return FindingRow(number=number, finding=finding, outcome=outcome, outcome_reason=reason)


def _decode_observation(body: dict[str, Any]) -> Observation | None:
    news = decode_entity_state(body["news"]) if "news" in body else None
    return news if isinstance(news, Observation) else None
