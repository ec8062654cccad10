"""Commands about sync and deliveries: sync check, plan, apply, changed, status; deliveries and replay.

Exit codes of sync: 0 equal, or everything was mended; 2 there are differences, or rows were left; 3 refused as a
whole (`check` only by the key of another instance); 1 failed.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from instep.app.syncing import Syncing, open_syncing
from instep.app.turns import quick_turns
from instep.identity.model import Kind
from instep.identity.whole import KINDS
from instep.inbox.review import Deliveries
from instep.inbox.store import Filter
from instep.kit.clock import to_iso
from instep.kit.errors import InstepError, described
from instep.sync import ports, store
from instep.sync.answers import finding_as_json, run_as_json
from instep.sync.look import list_runs
from instep.sync.model import Run, SyncRefused
from instep.sync.run import Sync

app = typer.Typer()
sync = typer.Typer(no_args_is_help=True, help="Compare everything with Clerk, and mend what differs.")


app.add_typer(sync, name="sync")


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DIFFERS, REFUSED = 2, 3
SHOWN = 50
ACTOR = "cli"


@sync.command()
def check(as_json: AsJson = False) -> None:
    """Say what differs between Clerk and the database, however much it is; change nothing."""
    run, rows = _refusable(lambda sync, told: _with_rows(sync, sync.check(actor=ACTOR, told=told)))
    _print_run(run, rows, as_json)
    raise typer.Exit(DIFFERS if run.differences else 0)


@sync.command()
def plan(
    out: Annotated[Path | None, typer.Option(help="Write the plan to this file, as JSON.")] = None,
    allow_gone: Annotated[int | None, typer.Option(min=0, help="Allow so many deletions of each kind.")] = None,
    as_json: AsJson = False,
) -> None:
    """Keep what would be changed, with the reasons; good for 15 minutes."""
    run, rows = _refusable(
        lambda sync, told: _with_rows(sync, sync.plan(actor=ACTOR, allow_gone=allow_gone, told=told))
    )
    if out is not None:
        everything = {"plan": run_as_json(run), "findings": [finding_as_json(it) for it in rows]}
        out.write_bytes(msgspec.json.format(msgspec.json.encode(everything)) + b"\n")
    _print_run(run, rows, as_json)
    if not as_json:
        typer.echo(f"Plan {run.id}, good until {to_iso(run.expires_at)}. Apply it: instep sync apply {run.id}")
        if run.code == "fuse":
            typer.echo(f"As it is, that is refused: {run.reason}")
    raise typer.Exit(DIFFERS if run.differences else 0)


@sync.command()
def apply(
    plan: Annotated[str | None, typer.Argument(help="A plan's id; without one, a plan is made and applied.")] = None,
    first: Annotated[bool, typer.Option("--first", help="Take everything in at once; deletes nothing.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="With --first: user, organization, membership.")] = None,
    rows: Annotated[list[int] | None, typer.Option("--row", help="Only this row of the plan; can be repeated.")] = None,
    allow_gone: Annotated[int | None, typer.Option(min=0, help="Allow so many deletions of each kind.")] = None,
    as_json: AsJson = False,
) -> None:
    """Mend what differs. On an empty database: the first sync, which goes on where it was stopped."""
    kinds = _kinds(only)

    async def run(sync: Sync, told: ports.Told) -> tuple[Run, list[store.Row]]:
        if plan is None and (first or await sync.is_empty()):
            return await sync.first(actor=ACTOR, kinds=kinds, told=told), []
        plan_id = plan or (await sync.plan(actor=ACTOR, allow_gone=allow_gone, told=told)).id
        applied = await sync.apply(plan_id, actor=ACTOR, chosen=rows, allow_gone=allow_gone, told=told)
        left = [it for it in await _rows(sync, plan_id) if it.outcome != "applied"]
        return applied, [it for it in left if rows is None or it.number in rows]

    ended, left = _refusable(run)
    _print_run(ended, left, as_json)
    raise typer.Exit(DIFFERS if left or ended.counts.get("left") or ended.counts.get("unreadable") else 0)


@sync.command()
def changed(as_json: AsJson = False) -> None:
    """Take in the users whom Clerk changed since the newest webhook that was applied."""

    async def run(sync: Sync, _: ports.Told) -> tuple[Run, list[store.Row]]:
        return await sync.changed(actor=ACTOR), []

    ended, _ = _refusable(run)
    _print_run(ended, [], as_json)


@sync.command()
def status(as_json: AsJson = False) -> None:
    """The last runs, and whether the webhook has gone quiet."""

    async def run(syncing: Syncing) -> tuple[list[Run], str | None]:
        fresh = await syncing.fresh.look()
        return await syncing.sync.db.read(list_runs, now=syncing.sync.clock(), limit=10), fresh.words

    runs, words = _with_syncing(run)
    if as_json:
        _echo({"runs": [run_as_json(it) for it in runs], "warning": words})
        return
    table = Table("Run", "What", "State", "Started", "By", "Found or done")
    for it in runs:
        table.add_row(it.id, it.kind, it.state, to_iso(it.started_at), it.actor, it.reason or _counts(it.counts))
    Console().print(table)
    if words:
        Console(stderr=True).print(f"Warning: {words}")


@app.command()
def deliveries(
    parked: Annotated[bool, typer.Option("--parked", help="Only those that need a person.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: AsJson = False,
) -> None:
    """What Clerk sent, newest first: what it did, and how often it was tried."""
    wanted = Filter(states=("parked",) if parked else ())
    found = _with_syncing(lambda syncing: _deliveries(syncing).list(wanted, limit=limit))
    if as_json:
        _echo([msgspec.to_builtins(it) for it in found.rows])
        return
    table = Table("Delivery", "What", "Received", "State", "Tries", "What it did")
    for it in found.rows:
        table.add_row(it.id, it.type, to_iso(it.received_at), it.state, str(it.attempts), it.outcome or "")
    Console().print(table)


@app.command()
def replay(id: Annotated[str, typer.Argument(metavar="DELIVERY")], as_json: AsJson = False) -> None:
    """Have a delivery worked once more; it touches nothing but the mirror."""

    async def run(syncing: Syncing) -> Any:
        flow = _deliveries(syncing)
        await flow.replay(id, actor=ACTOR)
        while await syncing.work.run_once():
            pass
        return await flow.get(id)

    found = _with_syncing(run)
    if as_json:
        _echo(msgspec.to_builtins(found))
    else:
        typer.echo(f"{found.state}: {found.outcome}")


Using = Callable[[Sync, ports.Told], Coroutine[Any, Any, tuple[Run, list[store.Row]]]]


def _with_syncing(use: Callable[[Syncing], Coroutine[Any, Any, Any]]) -> Any:
    """Run something with what sync needs, made from the settings, and close it. The rest of instep stays out: a
    command that begins at once is half of a quick sync."""

    async def run() -> Any:
        async with open_syncing() as syncing:
            return await use(syncing)

    return asyncio.run(run())


def _refusable(use: Using) -> tuple[Run, list[store.Row]]:
    """Run it with a progress bar; a refusal is exit 3, with its reason."""
    with _Bar() as bar, quick_turns():
        try:
            found: tuple[Run, list[store.Row]] = _with_syncing(lambda syncing: use(syncing.sync, bar))
        except SyncRefused as refused:
            typer.echo(f"instep: {refused}", err=True)
            raise typer.Exit(REFUSED) from None
    return found


def _deliveries(syncing: Syncing) -> Deliveries:
    return Deliveries(syncing.sync.db, syncing.sync.clock)


async def _with_rows(sync: Sync, running: Coroutine[Any, Any, Run]) -> tuple[Run, list[store.Row]]:
    run = await running
    return run, await _rows(sync, run.id)


async def _rows(sync: Sync, run_id: str) -> list[store.Row]:
    return await sync.db.read(store.list_findings, run_id, limit=1_000_000)


class _Bar:
    """A progress bar on a terminal: how many of how many, how fast, and how long it will take."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        rate = TextColumn("{task.fields[rate]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, told: ports.Progress) -> None:
        task = self._tasks.get(told.kind)
        if task is None:
            task = self._progress.add_task(f"{told.kind}s", total=told.total, rate="")
            self._tasks[told.kind] = task
        speed = self._progress.tasks[task].speed
        self._progress.update(task, completed=told.done, rate=f"{speed:,.0f}/s" if speed else "")

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _kinds(only: list[str] | None) -> tuple[Kind, ...]:
    wanted = [it.removesuffix("s") for it in only or KINDS]
    if bad := set(wanted) - set(KINDS):
        raise typer.BadParameter(f"{', '.join(sorted(bad))}: give user, organization or membership.")
    return tuple(kind for kind in KINDS if kind in wanted)


def _print_run(run: Run, rows: list[store.Row], as_json: bool) -> None:
    if as_json:
        _echo({"run": run_as_json(run), "findings": [finding_as_json(it) for it in rows]})
        return
    for kind, total in run.totals.items():
        unreadable = f", {total['unreadable']} unreadable" if total.get("unreadable") else ""
        typer.echo(f"{kind}s: {total['fetched']:,} read, Clerk has {total['after']:,}{unreadable}")
    if rows:
        Console().print(_table(rows[:SHOWN]))
    if len(rows) > SHOWN:
        typer.echo(f"... and {len(rows) - SHOWN:,} more; --json shows all.")
    typer.echo(_counts(run.counts) or "Equal.")


def _table(rows: list[store.Row]) -> Table:
    table = Table("#", "What", "Who", "Here", "In Clerk", "Belongs to", "Mend")
    for row in rows:
        it = row.finding
        here = "\n".join(f"{d.field}: {d.here}" for d in it.differences)
        there = "\n".join(f"{d.field}: {d.clerk}" for d in it.differences)
        owner = "\n".join(d.owner for d in it.differences)
        mend = row.outcome_reason or it.note or (f"in {it.mend}" if it.mend == "clerk" else it.mend or "by a person")
        table.add_row(str(row.number), it.kind, it.label or it.key.id, here, there, owner, mend)
    return table


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count)


def _echo(value: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


if __name__ == "__main__":  # the commands of sync alone, for a start without the rest
    try:
        sync()
    except InstepError as error:
        typer.echo(f"instep: {described(error)}", err=True)
        sys.exit(1)
