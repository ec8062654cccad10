"""Commands of sync (check, plan, apply, changed, status) and of deliveries (deliveries, replay)."""

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

from instep.app.sync_services import SyncServices, open_sync_services, tune_interpreter
from instep.core.clock import to_iso
from instep.core.errors import InstepError, describe_error
from instep.domain.models import ENTITY_KINDS, EntityKind
from instep.sync import models, repository
from instep.sync.models import Run, SyncRefusedError, finding_to_dict, run_to_dict
from instep.sync.repository import list_runs
from instep.sync.service import SyncService
from instep.webhooks.filters import DeliveryFilter
from instep.webhooks.service import DeliveryService

app = typer.Typer()
sync = typer.Typer(no_args_is_help=True, help="Compare everything with Clerk, and mend what differs.")


app.add_typer(sync, name="sync")


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EXIT_DIFFERENCES, EXIT_REFUSED = 2, 3
MAX_PRINTED_ROWS = 50
ACTOR = "cli"


@sync.command()
def check(as_json: AsJson = False) -> None:
    """Say what differs between Clerk and the database, however much it is; change nothing."""
    run, rows = _run_or_refuse(lambda sync, told: _load_run_with_findings(sync, sync.check(actor=ACTOR, told=told)))
    _print_run(run, rows, as_json)
    raise typer.Exit(EXIT_DIFFERENCES if run.differences else 0)


@sync.command()
def plan(
    out: Annotated[Path | None, typer.Option(help="Write the plan to this file, as JSON.")] = None,
    allow_gone: Annotated[int | None, typer.Option(min=0, help="Allow so many deletions of each kind.")] = None,
    as_json: AsJson = False,
) -> None:
    """Keep what would be changed, with the reasons; good for 15 minutes."""
    run, rows = _run_or_refuse(
        lambda sync, told: _load_run_with_findings(sync, sync.plan(actor=ACTOR, allow_gone=allow_gone, told=told))
    )
    if out is not None:
        everything = {"plan": run_to_dict(run), "findings": [finding_to_dict(it) for it in rows]}
        out.write_bytes(msgspec.json.format(msgspec.json.encode(everything)) + b"\n")
    _print_run(run, rows, as_json)
    if not as_json:
        typer.echo(f"Plan {run.id}, good until {to_iso(run.expires_at)}. Apply it: instep sync apply {run.id}")
        if run.code == "fuse":
            typer.echo(f"As it is, that is refused: {run.reason}")
    raise typer.Exit(EXIT_DIFFERENCES if run.differences else 0)


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
    kinds = _parse_kinds(only)

    async def run(sync: SyncService, told: models.ProgressCallback) -> tuple[Run, list[models.FindingRow]]:
        if plan is None and (first or await sync.is_empty()):
            return await sync.first(actor=ACTOR, kinds=kinds, told=told), []
        plan_id = plan or (await sync.plan(actor=ACTOR, allow_gone=allow_gone, told=told)).id
        applied = await sync.apply(plan_id, actor=ACTOR, chosen=rows, allow_gone=allow_gone, told=told)
        left = [it for it in await _list_findings(sync, plan_id) if it.outcome != "applied"]
        return applied, [it for it in left if rows is None or it.number in rows]

    ended, left = _run_or_refuse(run)
    _print_run(ended, left, as_json)
    raise typer.Exit(EXIT_DIFFERENCES if left or ended.counts.get("left") or ended.counts.get("unreadable") else 0)


@sync.command()
def changed(as_json: AsJson = False) -> None:
    """Take in the users whom Clerk changed since the newest webhook that was applied."""

    async def run(sync: SyncService, _: models.ProgressCallback) -> tuple[Run, list[models.FindingRow]]:
        return await sync.changed(actor=ACTOR), []

    ended, _ = _run_or_refuse(run)
    _print_run(ended, [], as_json)


@sync.command()
def status(as_json: AsJson = False) -> None:
    """The last runs, and whether the webhook has gone quiet."""

    async def run(syncing: SyncServices) -> tuple[list[Run], str | None]:
        fresh = await syncing.fresh.look()
        return await syncing.sync.db.read(list_runs, now=syncing.sync.clock(), limit=10), fresh.words

    runs, words = _with_syncing(run)
    if as_json:
        _print_json({"runs": [run_to_dict(it) for it in runs], "warning": words})
        return
    table = Table("Run", "What", "State", "Started", "By", "Found or done")
    for it in runs:
        table.add_row(it.id, it.kind, it.state, to_iso(it.started_at), it.actor, it.reason or _format_counts(it.counts))
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
    wanted = DeliveryFilter(states=("parked",) if parked else ())
    found = _with_syncing(lambda syncing: _make_delivery_service(syncing).list(wanted, limit=limit))
    if as_json:
        _print_json([msgspec.to_builtins(it) for it in found.rows])
        return
    table = Table("Delivery", "What", "Received", "State", "Tries", "What it did")
    for it in found.rows:
        table.add_row(it.id, it.type, to_iso(it.received_at), it.state, str(it.attempts), it.outcome or "")
    Console().print(table)


@app.command()
def replay(id: Annotated[str, typer.Argument(metavar="DELIVERY")], as_json: AsJson = False) -> None:
    """Have a delivery worked once more; it touches nothing but the mirror."""

    async def run(syncing: SyncServices) -> Any:
        flow = _make_delivery_service(syncing)
        await flow.replay(id, actor=ACTOR)
        while await syncing.work.run_once():
            pass
        return await flow.get(id)

    found = _with_syncing(run)
    if as_json:
        _print_json(msgspec.to_builtins(found))
    else:
        typer.echo(f"{found.state}: {found.outcome}")


SyncCommand = Callable[[SyncService, models.ProgressCallback], Coroutine[Any, Any, tuple[Run, list[models.FindingRow]]]]


def _with_syncing(use: Callable[[SyncServices], Coroutine[Any, Any, Any]]) -> Any:
    """Run something with what sync needs, made from the settings, and close it. The rest of instep stays out: a
    command that begins at once is half of a quick sync."""

    async def run() -> Any:
        async with open_sync_services() as syncing:
            return await use(syncing)

    return asyncio.run(run())


def _run_or_refuse(use: SyncCommand) -> tuple[Run, list[models.FindingRow]]:
    """Run it with a progress bar; a refusal is exit 3, with its reason."""
    with _ProgressBar() as bar, tune_interpreter():
        try:
            found: tuple[Run, list[models.FindingRow]] = _with_syncing(lambda syncing: use(syncing.sync, bar))
        except SyncRefusedError as refused:
            typer.echo(f"instep: {refused}", err=True)
            raise typer.Exit(EXIT_REFUSED) from None
    return found


def _make_delivery_service(syncing: SyncServices) -> DeliveryService:
    return DeliveryService(syncing.sync.db, syncing.sync.clock)


async def _load_run_with_findings(
    sync: SyncService, running: Coroutine[Any, Any, Run]
) -> tuple[Run, list[models.FindingRow]]:
    run = await running
    return run, await _list_findings(sync, run.id)


async def _list_findings(sync: SyncService, run_id: str) -> list[models.FindingRow]:
    return await sync.db.read(repository.list_findings, run_id, limit=1_000_000)


class _ProgressBar:
    """A progress bar on a terminal: how many of how many, how fast, and how long it will take."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        rate = TextColumn("{task.fields[rate]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, told: models.SyncProgress) -> None:
        task = self._tasks.get(told.kind)
        if task is None:
            task = self._progress.add_task(f"{told.kind}s", total=told.total, rate="")
            self._tasks[told.kind] = task
        speed = self._progress.tasks[task].speed
        self._progress.update(task, completed=told.done, rate=f"{speed:,.0f}/s" if speed else "")

    def __enter__(self) -> "_ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _parse_kinds(only: list[str] | None) -> tuple[EntityKind, ...]:
    wanted = [it.removesuffix("s") for it in only or ENTITY_KINDS]
    if bad := set(wanted) - set(ENTITY_KINDS):
        raise typer.BadParameter(f"{', '.join(sorted(bad))}: give user, organization or membership.")
    return tuple(kind for kind in ENTITY_KINDS if kind in wanted)


def _print_run(run: Run, rows: list[models.FindingRow], as_json: bool) -> None:
    if as_json:
        _print_json({"run": run_to_dict(run), "findings": [finding_to_dict(it) for it in rows]})
        return
    for kind, total in run.totals.items():
        unreadable = f", {total['unreadable']} unreadable" if total.get("unreadable") else ""
        typer.echo(f"{kind}s: {total['fetched']:,} read, Clerk has {total['after']:,}{unreadable}")
    if rows:
        Console().print(_build_findings_table(rows[:MAX_PRINTED_ROWS]))
    if len(rows) > MAX_PRINTED_ROWS:
        typer.echo(f"... and {len(rows) - MAX_PRINTED_ROWS:,} more; --json shows all.")
    typer.echo(_format_counts(run.counts) or "Equal.")


def _build_findings_table(rows: list[models.FindingRow]) -> Table:
    table = Table("#", "What", "Who", "Here", "In Clerk", "Belongs to", "Mend")
    for row in rows:
        it = row.finding
        here = "\n".join(f"{d.field}: {d.here}" for d in it.differences)
        there = "\n".join(f"{d.field}: {d.clerk}" for d in it.differences)
        owner = "\n".join(d.owner for d in it.differences)
        mend = row.outcome_reason or it.note or (f"in {it.mend}" if it.mend == "clerk" else it.mend or "by a person")
        table.add_row(str(row.number), it.kind, it.label or it.key.id, here, there, owner, mend)
    return table


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count)


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


if __name__ == "__main__":  # the commands of sync alone, for a start without the rest
    try:
        sync()
    except InstepError as error:
        typer.echo(f"instep: {describe_error(error)}", err=True)
        sys.exit(1)
