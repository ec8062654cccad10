"""What pages, API and commands of sync read of the database, in one go: runs as they are, not as they say."""

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from instep.kit.db import Conn
from instep.sync import store
from instep.sync.model import Freshness, Run
from instep.sync.plan import GONE
from instep.sync.store import INTERRUPTED, Row

RUNS = 20


class Look(Struct, frozen=True, kw_only=True):
    """How sync stands. `check` and `mend` are the last that came to their end, `suspects` what the last run found
    gone, by kind of thing; `newest_at` when the newest event came that was applied."""

    unfinished: Sequence[Run]
    runs: Sequence[Run]
    check: Run | None
    mend: Run | None
    suspects: dict[str, int]
    freshness: Freshness | None
    newest_at: int | None


class Shown(Struct, frozen=True, kw_only=True):
    """What a run's page shows: rows of it (or of its plan), what mends or mended it, what else is under way."""

    rows: Sequence[Row]
    mending: Run | None
    is_busy: bool
    open_rows: int
    suspects: dict[str, int]


def find_run(conn: Conn, id: str, *, now: int) -> Run | None:
    """A run as it is: one that says it runs while nobody holds the right to sync was interrupted."""
    is_held = store.is_held(conn, now=now)
    found = store.find_run(conn, id)
    return _as_it_is(found, is_held) if found else None


def list_runs(conn: Conn, *, now: int, limit: int = RUNS) -> list[Run]:
    """The last runs as they are, newest first; see find_run."""
    is_held = store.is_held(conn, now=now)
    return [_as_it_is(it, is_held) for it in store.list_runs(conn, limit=limit)]


def look_around(conn: Conn, newest_event: Callable[[Conn], int | None], *, now: int) -> Look:
    """How sync stands."""
    runs = list_runs(conn, now=now)
    checks = store.list_runs(conn, kinds=["check", "plan"], limit=5)
    mends = store.list_runs(conn, kinds=["apply", "first", "changed"], limit=5)
    last = next((it for it in runs if it.state not in ("asked", "running")), None)
    return Look(
        unfinished=_under_way(conn, now),
        runs=runs,
        check=next((it for it in checks if it.state == "done"), None),
        mend=next((it for it in mends if it.state == "done"), None),
        suspects=_suspects(conn, last) if last and last.code == "fuse" else {},
        freshness=store.find_freshness(conn),
        newest_at=newest_event(conn),
    )


def look_at(conn: Conn, run: Run, *, kind: str, after: int, limit: int, now: int) -> Shown:
    """What a run's page shows. A mending shows what became of the rows of its plan."""
    is_mending = run.kind == "apply"
    listing = store.list_ended if is_mending else store.list_findings
    plan_id = run.plan_id if is_mending and run.plan_id else run.id
    is_held = store.is_held(conn, now=now)
    mending = store.find_mending(conn, run.id) if run.kind == "plan" else None
    counts = store.count_open(conn, run.id, None) if run.kind == "plan" and run.state == "done" else {}
    return Shown(
        rows=listing(conn, plan_id, after=after, limit=limit, kind=kind),
        mending=_as_it_is(mending, is_held) if mending else None,
        is_busy=any(it.id != run.id for it in _under_way(conn, now)),
        open_rows=sum(counts.values()),
        suspects=_suspects(conn, run) if run.code == "fuse" else {},
    )


def _as_it_is(run: Run, is_held: bool) -> Run:
    if run.state != "running" or is_held:
        return run
    return replace(run, state="stopped", ended_at=run.changed_at, reason=INTERRUPTED, code="interrupted")


def _under_way(conn: Conn, now: int) -> list[Run]:
    """Runs that wait or run: one that says it runs while nobody holds the right to sync is over."""
    is_held = store.is_held(conn, now=now)
    return [it for it in store.list_unfinished(conn) if it.state == "asked" or is_held]


def _suspects(conn: Conn, run: Run) -> dict[str, int]:
    found: dict[str, int] = {}
    of = run.plan_id if run.kind == "apply" and run.plan_id else run.id
    for (kind, thing), count in store.count_findings(conn, of).items():
        if kind in GONE:
            found[thing] = found.get(thing, 0) + count
    return found
