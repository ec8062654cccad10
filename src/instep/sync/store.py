"""The SQL of sync: the lease, runs, and findings. Every write of a run names its lease."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from instep.identity.events import Seen, from_json, to_json
from instep.identity.model import Key, Kind
from instep.kit.clock import SKEW, is_ahead
from instep.kit.db import Conn, put_rows
from instep.sync.model import LEASE, Freshness, Lease, Outcome, Overtaken, Run, RunState, SyncRefused
from instep.sync.plan import GONE, Difference, Finding, FindingKind
from instep.sync.tables import UNFINISHED, findings, freshness, leases, runs

NAME = "sync"
INTERRUPTED = "It was interrupted."
f, r = findings.c, runs.c
_encode = msgspec.json.Encoder(order="deterministic").encode


class Row(Struct, frozen=True, kw_only=True):
    """A finding as it is kept, and what became of it."""

    number: int
    finding: Finding
    outcome: Outcome | None
    outcome_reason: str | None


def take_lease(conn: Conn, holder: str, *, now: int) -> Lease | None:
    """Take the right to sync; None where someone has it. On PostgreSQL the row is locked meanwhile."""
    query = sa.select(leases.c.fence, leases.c.until).where(leases.c.name == NAME).with_for_update()
    row = conn.execute(query).first()
    if row is None:
        conn.execute(sa.insert(leases).values(name=NAME, holder=holder, fence=1, until=now + LEASE))
        return Lease(holder, 1)
    fence, until = row
    if is_ahead(until, now, LEASE):
        return None
    taken = {"holder": holder, "fence": fence + 1, "until": now + LEASE}
    conn.execute(sa.update(leases).where(leases.c.name == NAME).values(**taken))
    return Lease(holder, fence + 1)


def hold(conn: Conn, lease: Lease, *, now: int) -> None:
    """Keep the right for a while longer, in the transaction of what it is held for. Raises Overtaken."""
    ours = sa.and_(leases.c.name == NAME, leases.c.holder == lease.holder, leases.c.fence == lease.fence)
    if conn.execute(sa.update(leases).where(ours).values(until=now + LEASE)).rowcount != 1:
        raise Overtaken


def drop_lease(conn: Conn, lease: Lease) -> None:
    """Give the right back, if it is still ours."""
    ours = sa.and_(leases.c.name == NAME, leases.c.holder == lease.holder, leases.c.fence == lease.fence)
    conn.execute(sa.update(leases).where(ours).values(until=0))


def open_run(conn: Conn, run: Run, lease: Lease, *, is_asked: bool = False) -> None:
    """Keep a run that begins; whatever still says that it runs did not survive, since we have the lease.

    `is_asked`: it is kept already, since somebody asked for it. Raises SyncRefused where it was withdrawn meanwhile.
    """
    hold(conn, lease, now=run.started_at)
    left = {"state": "stopped", "ended_at": run.started_at, "reason": INTERRUPTED, "code": "interrupted"}
    conn.execute(sa.update(runs).where(r.state == "running").values(**left))
    if not is_asked:
        conn.execute(sa.insert(runs).values(**msgspec.structs.asdict(run)))
        return
    begun = {name: getattr(run, name) for name in ("state", "started_at", "changed_at", "progress")}
    if conn.execute(sa.update(runs).where(r.id == run.id, r.state == "asked").values(**begun)).rowcount != 1:
        raise SyncRefused("It was withdrawn before it began.", code="withdrawn")


def ask(conn: Conn, run: Run) -> None:
    """Keep a run that a worker shall take on. Raises SyncRefused where another is asked for or under way.

    Of those who ask at once one goes first: the lease's row is locked meanwhile.
    """
    put_rows(conn, leases, [{"name": NAME, "holder": "", "fence": 0, "until": 0}], key="name")
    conn.execute(sa.select(leases.c.name).where(leases.c.name == NAME).with_for_update())
    unfinished = list_unfinished(conn)
    is_asked = any(it.state == "asked" for it in unfinished)
    if is_asked or (unfinished and is_held(conn, now=run.started_at)):
        raise SyncRefused("Another sync is under way. Only one runs at a time.", code="busy")
    conn.execute(sa.insert(runs).values(**msgspec.structs.asdict(run)))


NEXT_DUE = sa.select(sa.func.min(r.started_at)).where(UNFINISHED)


def list_unfinished(conn: Conn) -> list[Run]:
    """Runs that wait for a worker, or say that they run; the oldest first."""
    query = sa.select(*_RUN).where(UNFINISHED).order_by(r.started_at)
    return [Run(**row._mapping) for row in conn.execute(query)]


def is_held(conn: Conn, *, now: int) -> bool:
    """Whether somebody has the right to sync."""
    until = conn.execute(sa.select(leases.c.until).where(leases.c.name == NAME)).scalar_one_or_none()
    return is_ahead(until or 0, now, LEASE)


def find_next(conn: Conn, *, now: int) -> tuple[Run | None, Run | None]:
    """The run that waits longest for a worker; and a first sync of a worker's whose process is gone, to go on with."""
    unfinished = list_unfinished(conn)
    asked = next((it for it in unfinished if it.state == "asked"), None)
    if asked is not None or not unfinished or is_held(conn, now=now):
        return asked, None
    return None, next((it for it in unfinished if it.kind == "first" and "goes_on" in it.wish), None)


def end_asked(conn: Conn, id: str, state: RunState, *, now: int, reason: str, code: str) -> bool:
    """End a run that nobody began; False where it is not one."""
    ended = {"state": state, "ended_at": now, "changed_at": now, "reason": reason, "code": code}
    return conn.execute(sa.update(runs).where(r.id == id, r.state == "asked").values(**ended)).rowcount == 1


def fail_left(conn: Conn, id: str, *, now: int, reason: str, code: str) -> None:
    """End a run whose process is gone; nothing happens where somebody syncs meanwhile."""
    lease = take_lease(conn, id, now=now)
    if lease is not None:
        note(conn, id, lease, {"state": "failed", "ended_at": now, "reason": reason, "code": code}, now=now)
        drop_lease(conn, lease)


def keep_freshness(conn: Conn, found: Freshness) -> None:
    """How the webhook stands, in place of what was kept before."""
    row = {"name": NAME, **msgspec.structs.asdict(found)}
    if conn.execute(sa.update(freshness).where(freshness.c.name == NAME).values(**row)).rowcount == 0:
        put_rows(conn, freshness, [row], key="name")


def find_freshness(conn: Conn) -> Freshness | None:
    """How the webhook stood when it was last looked at, by whichever process."""
    c = freshness.c
    kept = (c[name] for name in Freshness.__struct_fields__)
    row = conn.execute(sa.select(*kept).where(c.name == NAME)).first()
    return Freshness(*row) if row else None


def is_synced(conn: Conn) -> bool:
    """Return whether a first sync or an apply ever came to its end."""
    ended = sa.select(r.id).where(r.kind.in_(("first", "apply")), r.state == "done").limit(1)
    return conn.execute(ended).first() is not None


def note(conn: Conn, run_id: str, lease: Lease, values: Mapping[str, Any], *, now: int) -> None:
    """Keep something about a run. Raises Overtaken."""
    hold(conn, lease, now=now)
    conn.execute(sa.update(runs).where(r.id == run_id).values(changed_at=now, **values))


_RUN = tuple(r[name] for name in Run.__struct_fields__)


def find_run(conn: Conn, id: str) -> Run | None:
    """A run by its id."""
    row = conn.execute(sa.select(*_RUN).where(r.id == id)).first()
    return Run(**row._mapping) if row else None


def find_progress(conn: Conn, id: str) -> dict[str, Any]:
    """Where the windows of a first sync are."""
    return dict(conn.execute(sa.select(r.progress).where(r.id == id)).scalar_one() or {})


def list_runs(conn: Conn, *, kinds: Sequence[str] = (), limit: int = 20, now: int | None = None) -> list[Run]:
    """The last runs, newest first; with `now` without those that began before a clock went back, in its future."""
    query = sa.select(*_RUN).order_by(r.started_at.desc(), r.id.desc()).limit(limit)
    query = query if now is None else query.where(r.started_at <= now + SKEW)
    query = query.where(r.kind.in_(kinds)) if kinds else query
    return [Run(**row._mapping) for row in conn.execute(query)]


def forget_findings(conn: Conn, *, before: int) -> int:
    """Findings of runs that ended before then are not kept for ever; the runs and their counts are."""
    old = sa.select(r.id).where(r.started_at < before)
    return conn.execute(sa.delete(findings).where(f.run_id.in_(old))).rowcount


def keep(conn: Conn, run_id: str, found: Iterable[tuple[int, Finding]]) -> None:
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
            "body": _body(it),
        }
        for number, it in found
    ]
    if rows:
        conn.execute(sa.insert(findings), rows)


def drop(conn: Conn, run_id: str, numbers: Sequence[int]) -> None:
    """These turned out to be none, before the run was sealed."""
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        conn.execute(sa.delete(findings).where(f.run_id == run_id, f.number.in_(some)))


def drop_about(conn: Conn, run_id: str, thing: Kind) -> None:
    """What was found about things of a kind is looked for anew."""
    conn.execute(sa.delete(findings).where(f.run_id == run_id, f.thing == thing))


_FINDING = (f.number, f.kind, f.thing, f.clerk_id, f.label, f.mend, f.body, f.outcome, f.outcome_reason)


def list_findings(conn: Conn, run_id: str, *, after: int = 0, limit: int = 100, kind: str = "") -> list[Row]:
    """Findings of a run in the order of their numbers; of one kind, if it is told."""
    query = sa.select(*_FINDING).where(f.run_id == run_id, f.number > after)
    return _list(conn, query.where(f.kind == kind) if kind else query, limit)


def list_ended(conn: Conn, run_id: str, *, after: int = 0, limit: int = 100, kind: str = "") -> list[Row]:
    """Findings of a plan of which it is known what became of them."""
    query = sa.select(*_FINDING).where(f.run_id == run_id, f.number > after, f.outcome.is_not(None))
    return _list(conn, query.where(f.kind == kind) if kind else query, limit)


def count_open(conn: Conn, run_id: str, chosen: Sequence[int] | None) -> dict[tuple[str, str], int]:
    """How many rows of a plan can be mended yet, by kind and by side; of those with these numbers, or of all."""
    query = sa.select(f.kind, f.mend, sa.func.count()).where(f.run_id == run_id, f.outcome.is_(None))
    query = query.where(f.mend.is_not(None)).group_by(f.kind, f.mend)
    parts = [None] if chosen is None else [chosen[start : start + 500] for start in range(0, len(chosen), 500)]
    found: dict[tuple[str, str], int] = {}
    for part in parts:
        for kind, mend, count in conn.execute(query if part is None else query.where(f.number.in_(part))):
            found[kind, mend] = found.get((kind, mend), 0) + int(count)
    return found


def find_mending(conn: Conn, plan_id: str) -> Run | None:
    """The last run that applied a plan, or that shall."""
    query = sa.select(*_RUN).where(r.started_at >= sa.select(r.started_at).where(r.id == plan_id).scalar_subquery())
    row = conn.execute(query.where(r.plan_id == plan_id).order_by(r.started_at.desc()).limit(1)).first()
    return Run(**row._mapping) if row else None


def list_open(conn: Conn, run_id: str, thing: Kind, *, after: int, limit: int) -> list[Row]:
    """Findings about things of a kind that nobody has done anything about."""
    query = sa.select(*_FINDING).where(f.run_id == run_id, f.number > after)
    return _list(conn, query.where(f.thing == thing, f.outcome.is_(None)), limit)


def list_suspects(conn: Conn, run_id: str, *, after: int, limit: int, kinds: Sequence[FindingKind] = GONE) -> list[Row]:
    """What is looked at a second time: what Clerk did not show, or findings of other `kinds`."""
    query = sa.select(*_FINDING).where(f.run_id == run_id, f.number > after, f.kind.in_(kinds))
    return _list(conn, query, limit)


def count_gone(conn: Conn, run_id: str, chosen: Sequence[int] | None) -> dict[Kind, int]:
    """Return how many rows of a plan would still be deleted here, by kind; of those with these numbers, or of all."""
    query = sa.select(f.thing, sa.func.count()).where(f.run_id == run_id, f.outcome.is_(None), f.kind.in_(GONE))
    found: dict[Kind, int] = {}
    parts = [None] if chosen is None else [chosen[start : start + 500] for start in range(0, len(chosen), 500)]
    for part in parts:
        some = query if part is None else query.where(f.number.in_(part))
        for thing, count in conn.execute(some.group_by(f.thing)):
            found[thing] = found.get(thing, 0) + int(count)
    return found


def _list(conn: Conn, query: sa.Select[Any], limit: int) -> list[Row]:
    return [_row(row) for row in conn.execute(query.order_by(f.number).limit(limit))]


def count_findings(conn: Conn, run_id: str) -> dict[tuple[str, Kind], int]:
    """How many findings a run has, by kind and by what they are about."""
    query = sa.select(f.kind, f.thing, sa.func.count()).where(f.run_id == run_id).group_by(f.kind, f.thing)
    return {(kind, thing): int(count) for kind, thing, count in conn.execute(query)}


def label(conn: Conn, run_id: str, labels: Mapping[int, str]) -> None:
    """What to call rows that only the mirror knew."""
    for number, text in labels.items():
        conn.execute(sa.update(findings).where(f.run_id == run_id, f.number == number).values(label=text))


def end(conn: Conn, run_id: str, ends: Mapping[int, tuple[Outcome, str | None]], *, now: int) -> None:
    """What became of findings, by their numbers."""
    alike: dict[tuple[Outcome, str | None], list[int]] = {}
    for number, ended in ends.items():
        alike.setdefault(ended, []).append(number)
    for (outcome, reason), numbers in alike.items():
        done = {"outcome": outcome, "outcome_reason": reason, "outcome_at": now}
        conn.execute(sa.update(findings).where(f.run_id == run_id, f.number.in_(numbers)).values(**done))


def digest(conn: Conn, run_id: str) -> str:
    """A hash of everything a plan says; what became of its rows is not in it."""
    total = hashlib.blake2b(digest_size=20)
    for row in _walk(conn, run_id):
        total.update(_encode([row[name] for name in range(7)]))
    return total.hexdigest()


def _walk(conn: Conn, run_id: str) -> Iterator[Any]:
    after = 0
    while True:
        query = sa.select(*_FINDING).where(f.run_id == run_id, f.number > after).order_by(f.number).limit(1_000)
        rows = conn.execute(query).all()
        yield from rows
        if len(rows) < 1_000:
            return
        after = rows[-1][0]


def _body(finding: Finding) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: getattr(finding, name)
        for name in ("here", "version", "digest", "wrote_last", "wrote_at", "note")
        if getattr(finding, name) is not None
    }
    kept["differences"] = msgspec.to_builtins(list(finding.differences))
    if finding.news is not None:
        kept["news"] = to_json(finding.news)
    return kept


def _row(row: Any) -> Row:
    number, kind, thing, clerk_id, label_, mend, body, outcome, reason = row
    plain = {name: value for name, value in body.items() if name not in ("news", "differences")}
    finding = Finding(
        kind=kind,
        key=Key(thing, clerk_id),
        label=label_,
        mend=mend,
        differences=msgspec.convert(body["differences"], list[Difference]),
        news=_seen(body),
        **plain,
    )
    return Row(number=number, finding=finding, outcome=outcome, outcome_reason=reason)


def _seen(body: dict[str, Any]) -> Seen | None:
    news = from_json(body["news"]) if "news" in body else None
    return news if isinstance(news, Seen) else None
