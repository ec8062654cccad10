"""CLI command `instance`: show or change the bound Clerk instance."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Struct

from instep.app.sync_services import SyncServices, open_sync_services
from instep.audit.repository import NewAuditEntry, record_entries
from instep.core.db import Conn
from instep.core.errors import InstepError
from instep.domain.errors import CONFLICT, ChangeRejectedError
from instep.mirror import instance_binding
from instep.sync.models import Run
from instep.sync.plan import DELETION_KINDS
from instep.sync.service import hold_lease
from instep.webhooks import repository

app = typer.Typer()
ACTOR = "cli"
INSTANCE_UNKNOWN_MESSAGE = "Clerk does not report the instance of the secret key. Nothing was changed."
INSTANCE_MISMATCH_MESSAGE = "The secret key belongs to {theirs}, not to {wanted}. Nothing was changed."


class InstanceStatus(Struct, frozen=True, kw_only=True):
    """Output of `instep instance`. `bound` is the database's instance, `secret_key` the one of the secret key.

    `reason` says why the latter is unknown; `foreign` counts stored deliveries of other instances.
    """

    bound: str | None
    secret_key: str | None
    reason: str | None
    foreign: int


class RebindResult(Struct, frozen=True, kw_only=True):
    """Result of a rebinding. `unknown_rows`: rows the instance does not know; None if a check failed (`reason`)."""

    before: str | None
    bound: str
    unknown_rows: int | None
    check: str | None
    reason: str | None


@app.command("instance")
def show_instance(
    instance_id: Annotated[
        str | None, typer.Argument(metavar="INSTANCE", help="With --rebind: the expected instance ID.")
    ] = None,
    rebind: Annotated[bool, typer.Option("--rebind", help="Bind the database to the secret key's instance.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the Clerk instance of this database; with --rebind, bind it to the secret key's instance."""
    if instance_id is not None and not rebind:
        raise typer.BadParameter("INSTANCE can only be given together with --rebind.")
    found = _run_with_sync_services(
        lambda sync_services: _rebind_and_check(sync_services, instance_id) if rebind else _load_status(sync_services)
    )
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    elif isinstance(found, RebindResult):
        _print_rebind_result(found)
    else:
        _print_status(found)


def _run_with_sync_services(
    use: Callable[[SyncServices], Coroutine[Any, Any, InstanceStatus | RebindResult]],
) -> InstanceStatus | RebindResult:
    async def run() -> InstanceStatus | RebindResult:
        async with open_sync_services() as sync_services:
            return await use(sync_services)

    return asyncio.run(run())


async def _load_status(sync_services: SyncServices) -> InstanceStatus:
    bound, foreign = await sync_services.sync.db.read(
        lambda conn: (instance_binding.find_bound_instance(conn), repository.count_foreign(conn))
    )
    theirs, reason = None, None
    try:
        theirs = await sync_services.sync.source.find_instance()
    except InstepError as error:
        reason = str(error)
    return InstanceStatus(bound=bound, secret_key=theirs, reason=reason, foreign=foreign)


async def _rebind_and_check(sync_services: SyncServices, wanted: str | None) -> RebindResult:
    """Bind the database to the secret key's instance, then check for rows that the instance does not know.

    1. Take the sync lease. 2. Read the secret key's instance; it must be the given one. 3. Write the binding and its
    audit entry in one transaction. 4. Count by a check, which deletes nothing.

    Raises ChangeRejectedError, SyncBusyError, ClerkUnavailableError.
    """
    sync = sync_services.sync
    async with hold_lease(sync.db, sync.clock):
        theirs = await sync.source.find_instance()
        if theirs is None:
            raise ChangeRejectedError(INSTANCE_UNKNOWN_MESSAGE, code="instance_unknown", status=CONFLICT)
        if wanted is not None and wanted != theirs:
            text = INSTANCE_MISMATCH_MESSAGE.format(theirs=theirs, wanted=wanted)
            raise ChangeRejectedError(text, code="wrong_instance", status=CONFLICT)
        before = await sync.db.write(_write_binding, theirs, now=sync.clock())
    run: Run | None = None
    reason = None
    try:
        run = await sync.check(actor=ACTOR)
    except InstepError as error:
        reason = str(error)
    unknown = sum(run.counts.get(kind, 0) for kind in DELETION_KINDS) if run else None
    return RebindResult(before=before, bound=theirs, unknown_rows=unknown, check=run.id if run else None, reason=reason)


def _write_binding(conn: Conn, theirs: str, *, now: int) -> str | None:
    before = instance_binding.rebind_instance(conn, theirs, now=now)
    if before != theirs:
        details = {"before": before, "after": theirs}
        record_entries(
            conn, [NewAuditEntry(actor=ACTOR, action="instance.rebind", target=theirs, details=details)], now=now
        )
    return before


def _print_status(found: InstanceStatus) -> None:
    typer.echo(f"Database:   {found.bound or 'not bound yet; the secret key determines the instance'}")
    typer.echo(f"Secret key: {found.secret_key or found.reason or INSTANCE_UNKNOWN_MESSAGE.partition(' Nothing')[0]}")
    typer.echo(f"Deliveries of other instances, stored but not applied: {found.foreign:,}")
    if found.bound and found.secret_key and found.bound != found.secret_key:
        typer.echo(
            "They differ, so no sync runs. Set the key of the database's instance, use another database, or bind"
        )
        typer.echo("this one to the key's instance: instep instance --rebind")


def _print_rebind_result(found: RebindResult) -> None:
    if found.before == found.bound:
        typer.echo(f"The database already belongs to {found.bound}. Nothing was changed.")
    else:
        typer.echo(f"The database now belongs to {found.bound}; it belonged to {found.before or 'none'}.")
    if found.unknown_rows is None:
        typer.echo(f"Rows that {found.bound} does not know could not be counted: {found.reason}")
    elif found.unknown_rows:
        typer.echo(f"Rows that {found.bound} does not know: {found.unknown_rows:,}. None was changed.")
        typer.echo("To see what a sync would change: instep sync plan")
    else:
        typer.echo(f"{found.bound} knows every row.")
