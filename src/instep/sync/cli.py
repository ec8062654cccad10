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
from instep.sync import repository
from instep.sync.models import (
    FindingRow,
    ProgressCallback,
    Run,
    SyncProgress,
    SyncRefusedError,
    finding_to_dict,
    run_to_dict,
)
from instep.sync.repository import list_runs
from instep.sync.service import SyncService
from instep.webhooks.filters import DeliveryFilter
from instep.webhooks.service import DeliveryService

app = typer.Typer()
sync = typer.Typer(no_args_is_help=True, help="Compare everything in Clerk with the database, and fix the differences.")
app.add_typer(sync, name="sync")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllowGone = Annotated[int | None, typer.Option(min=0, help="Allow up to this many deletions of each kind.")]
EXIT_DIFFERENCES, EXIT_REFUSED = 2, 3
MAX_PRINTED_ROWS = 50
ACTOR = "cli"
RunResult = tuple[Run, list[FindingRow]]
SyncCommand = Callable[[SyncService, ProgressCallback], Coroutine[Any, Any, RunResult]]


@sync.command()
def check(as_json: AsJson = False) -> None:
    """Report every difference between Clerk and the database; change nothing."""

    async def run(sync: SyncService, on_progress: ProgressCallback) -> RunResult:
        ended = await sync.check(actor=ACTOR, on_progress=on_progress)
        return ended, await _list_findings(sync, ended.id)

    ended, rows = _run_or_refuse(run)
    _print_run(ended, rows, as_json)
    raise typer.Exit(EXIT_DIFFERENCES if ended.differences else 0)


@sync.command()
def plan(
    out: Annotated[Path | None, typer.Option(help="Write the plan to this file, as JSON.")] = None,
    allow_gone: AllowGone = None,
    as_json: AsJson = False,
) -> None:
    """Create a plan: the changes that would be applied, with reasons. It is valid for 15 minutes."""

    async def run(sync: SyncService, on_progress: ProgressCallback) -> RunResult:
        ended = await sync.plan(actor=ACTOR, allow_gone=allow_gone, on_progress=on_progress)
        return ended, await _list_findings(sync, ended.id)

    ended, rows = _run_or_refuse(run)
    if out is not None:
        everything = {"plan": run_to_dict(ended), "findings": [finding_to_dict(it) for it in rows]}
        out.write_bytes(msgspec.json.format(msgspec.json.encode(everything)) + b"\n")
    _print_run(ended, rows, as_json)
    if not as_json:
        typer.echo(f"Plan {ended.id}, valid until {to_iso(ended.expires_at)}. Apply it: instep sync apply {ended.id}")
        if ended.code == "fuse":
            typer.echo(f"It can't be applied as it is: {ended.reason}")
    raise typer.Exit(EXIT_DIFFERENCES if ended.differences else 0)


@sync.command()
def apply(
    plan: Annotated[str | None, typer.Argument(help="Plan id. Without it a plan is created and applied.")] = None,
    first: Annotated[bool, typer.Option("--first", help="Import everything in bulk; deletes nothing.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="With --first: user, organization, membership.")] = None,
    rows: Annotated[list[int] | None, typer.Option("--row", help="Apply only this row. Can be repeated.")] = None,
    allow_gone: AllowGone = None,
    as_json: AsJson = False,
) -> None:
    """Fix the differences. On an empty database run the first sync, which resumes where it was interrupted."""
    kinds = _parse_kinds(only)

    async def run(sync: SyncService, on_progress: ProgressCallback) -> RunResult:
        if plan is None and (first or await sync.needs_backfill()):
            return await sync.backfill(actor=ACTOR, kinds=kinds, on_progress=on_progress), []
        plan_id = plan or (await sync.plan(actor=ACTOR, allow_gone=allow_gone, on_progress=on_progress)).id
        applied = await sync.apply(plan_id, actor=ACTOR, chosen=rows, allow_gone=allow_gone, on_progress=on_progress)
        left = [it for it in await _list_findings(sync, plan_id) if it.outcome != "applied"]
        return applied, [it for it in left if rows is None or it.number in rows]

    ended, left = _run_or_refuse(run)
    _print_run(ended, left, as_json)
    raise typer.Exit(EXIT_DIFFERENCES if left or ended.counts.get("left") or ended.counts.get("unreadable") else 0)


@sync.command()
def changed(as_json: AsJson = False) -> None:
    """Apply the users that Clerk changed since the newest applied webhook."""

    async def run(sync: SyncService, _: ProgressCallback) -> RunResult:
        return await sync.apply_recent_changes(actor=ACTOR), []

    ended, _ = _run_or_refuse(run)
    _print_run(ended, [], as_json)


@sync.command()
def status(as_json: AsJson = False) -> None:
    """Show the last runs, and a warning if webhooks are missing."""

    async def run(sync_services: SyncServices) -> tuple[list[Run], str | None]:
        freshness = await sync_services.freshness.check()
        sync = sync_services.sync
        return await sync.db.read(list_runs, now=sync.clock(), limit=10), freshness.warning

    runs, warning = _run_with_sync_services(run)
    if as_json:
        _print_json({"runs": [run_to_dict(it) for it in runs], "warning": warning})
        return
    table = Table("Run", "Kind", "State", "Started", "By", "Result")
    for it in runs:
        table.add_row(it.id, it.kind, it.state, to_iso(it.started_at), it.actor, it.reason or _format_counts(it.counts))
    Console().print(table)
    if warning:
        Console(stderr=True).print(f"Warning: {warning}")


@app.command()
def deliveries(
    failed: Annotated[bool, typer.Option("--parked", help="List only failed deliveries.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Maximum number of deliveries.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List webhook deliveries, newest first, with their attempts and result."""
    wanted = DeliveryFilter(states=("parked",) if failed else ())
    found = _run_with_sync_services(
        lambda sync_services: _make_delivery_service(sync_services).list(wanted, limit=limit)
    )
    if as_json:
        _print_json([msgspec.to_builtins(it) for it in found.rows])
        return
    table = Table("Delivery", "Type", "Received", "State", "Attempts", "Result")
    for it in found.rows:
        table.add_row(it.id, it.type, to_iso(it.received_at), it.state, str(it.attempts), it.outcome or "")
    Console().print(table)


@app.command()
def replay(
    delivery_id: Annotated[str, typer.Argument(metavar="DELIVERY", help="Delivery id (svix-id).")],
    as_json: AsJson = False,
) -> None:
    """Process a webhook delivery again. Only the mirror is changed."""

    async def run(sync_services: SyncServices) -> Any:
        service = _make_delivery_service(sync_services)
        await service.replay(delivery_id, actor=ACTOR)
        while await sync_services.delivery_processor.run_once():
            pass
        return await service.get(delivery_id)

    found = _run_with_sync_services(run)
    if as_json:
        _print_json(msgspec.to_builtins(found))
    else:
        typer.echo(f"{found.state}: {found.outcome}")


def _run_with_sync_services(use: Callable[[SyncServices], Coroutine[Any, Any, Any]]) -> Any:
    """Run with the services of sync, built from the settings, and close them.

    The rest of instep is not imported: start-up is half of the time of a short sync.
    """

    async def run() -> Any:
        async with open_sync_services() as sync_services:
            return await use(sync_services)

    return asyncio.run(run())


def _run_or_refuse(command: SyncCommand) -> RunResult:
    """Run with a progress bar; a refusal prints its reason and exits with 3."""
    with _ProgressBar() as bar, tune_interpreter():
        try:
            found: RunResult = _run_with_sync_services(
                lambda sync_services: command(sync_services.sync, bar.show_progress)
            )
        except SyncRefusedError as refused:
            typer.echo(f"instep: {refused}", err=True)
            raise typer.Exit(EXIT_REFUSED) from None
    return found


def _make_delivery_service(sync_services: SyncServices) -> DeliveryService:
    return DeliveryService(sync_services.sync.db, sync_services.sync.clock)


async def _list_findings(sync: SyncService, run_id: str) -> list[FindingRow]:
    return await sync.db.read(repository.list_findings, run_id, limit=1_000_000)


class _ProgressBar:
    """Progress bar on a terminal: done, total, rate and remaining time."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        rate = TextColumn("{task.fields[rate]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def show_progress(self, progress: SyncProgress) -> None:
        """Update the bar of the entity kind."""
        task = self._tasks.get(progress.kind)
        if task is None:
            task = self._progress.add_task(f"{progress.kind}s", total=progress.total, rate="")
            self._tasks[progress.kind] = task
        speed = self._progress.tasks[task].speed
        self._progress.update(task, completed=progress.done, rate=f"{speed:,.0f}/s" if speed else "")

    def __enter__(self) -> "_ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _parse_kinds(only: list[str] | None) -> tuple[EntityKind, ...]:
    wanted = [it.removesuffix("s") for it in only or ENTITY_KINDS]
    if bad := set(wanted) - set(ENTITY_KINDS):
        raise typer.BadParameter(f"{', '.join(sorted(bad))}: use user, organization or membership.")
    return tuple(kind for kind in ENTITY_KINDS if kind in wanted)


def _print_run(run: Run, rows: list[FindingRow], as_json: bool) -> None:
    if as_json:
        _print_json({"run": run_to_dict(run), "findings": [finding_to_dict(it) for it in rows]})
        return
    for kind, total in run.totals.items():
        unreadable = f", {total['unreadable']} unreadable" if total.get("unreadable") else ""
        typer.echo(f"{kind}s: {total['fetched']:,} read, Clerk has {total['after']:,}{unreadable}")
    if rows:
        Console().print(_build_findings_table(rows[:MAX_PRINTED_ROWS]))
    if len(rows) > MAX_PRINTED_ROWS:
        typer.echo(f"... and {len(rows) - MAX_PRINTED_ROWS:,} more; --json prints all.")
    typer.echo(_format_counts(run.counts) or "In sync.")


def _build_findings_table(rows: list[FindingRow]) -> Table:
    table = Table("#", "Difference", "Who", "Here", "In Clerk", "Source of truth", "Fix")
    for row in rows:
        finding, differences = row.finding, row.finding.differences
        here = "\n".join(f"{it.field}: {it.here}" for it in differences)
        there = "\n".join(f"{it.field}: {it.clerk}" for it in differences)
        owner = "\n".join(it.owner for it in differences)
        target = {"clerk": "in Clerk", "here": "here"}.get(finding.repair_target or "", "manually")
        fix = row.outcome_reason or finding.note or target
        table.add_row(str(row.number), finding.kind, finding.label or finding.key.id, here, there, owner, fix)
    return table


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count)


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


if __name__ == "__main__":  # `python -m instep.sync.cli`: the commands of sync without importing the rest
    try:
        sync()
    except InstepError as error:
        typer.echo(f"instep: {describe_error(error)}", err=True)
        sys.exit(1)
