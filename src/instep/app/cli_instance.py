"""The command `instep instance`: which Clerk instance this database belongs to, and binding it to another.

Exit codes: 0 shown, or bound; 1 failed or refused (one line on standard error says why); 2 not understood.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import msgspec
import typer
from msgspec import Struct

from instep.app.syncing import Syncing, open_syncing
from instep.audit.store import Entry, record
from instep.identity.refusals import CONFLICT, Refused
from instep.inbox import instance, store
from instep.kit.db import Conn
from instep.kit.errors import InstepError
from instep.sync.lease import alone
from instep.sync.model import Run
from instep.sync.plan import GONE

app = typer.Typer()
ACTOR = "cli"
UNKNOWN = "Clerk does not tell which instance the secret key belongs to. Nothing was changed."
NOT_THE_KEYS = "The secret key belongs to {theirs}, and not to {wanted}. Nothing was changed."


class Shown(Struct, frozen=True, kw_only=True):
    """What the command shows. `bound` is the database's instance, `secret_key` the one that Clerk names for the key.

    `reason` says why Clerk did not name one; `foreign` counts deliveries of other instances that are kept.
    """

    bound: str | None
    secret_key: str | None
    reason: str | None
    foreign: int


class Rebound(Struct, frozen=True, kw_only=True):
    """What a rebinding did. `unknown_rows`: rows of this database that the instance does not know, None where a check
    failed for `reason`."""

    before: str | None
    bound: str
    unknown_rows: int | None
    check: str | None
    reason: str | None


@app.command("instance")
def show_instance(
    id: Annotated[str | None, typer.Argument(metavar="INSTANCE", help="With --rebind: the id that is meant.")] = None,
    rebind: Annotated[bool, typer.Option("--rebind", help="Bind the database to the secret key's instance.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which Clerk instance this database belongs to; with --rebind, make it the secret key's."""
    if id is not None and not rebind:
        raise typer.BadParameter("an instance is only named together with --rebind.")
    found = _with_syncing(lambda syncing: _rebind(syncing, id) if rebind else _show(syncing))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    elif isinstance(found, Rebound):
        _print_rebound(found)
    else:
        _print_shown(found)


def _with_syncing(use: Callable[[Syncing], Coroutine[Any, Any, Shown | Rebound]]) -> Shown | Rebound:
    async def run() -> Shown | Rebound:
        async with open_syncing() as syncing:
            return await use(syncing)

    return asyncio.run(run())


async def _show(syncing: Syncing) -> Shown:
    bound, foreign = await syncing.sync.db.read(lambda conn: (instance.find_bound(conn), store.count_foreign(conn)))
    theirs, reason = None, None
    try:
        theirs = await syncing.sync.source.find_instance()
    except InstepError as error:
        reason = str(error)
    return Shown(bound=bound, secret_key=theirs, reason=reason, foreign=foreign)


async def _rebind(syncing: Syncing, wanted: str | None) -> Rebound:
    """Bind the database to the secret key's instance, then check what that instance does not know.

    1 no sync runs meanwhile; 2 the key's instance is asked for, and must be the one that is meant; 3 the id and the
    audit's entry are written together; 4 a check counts, and deletes nothing. Raises Refused, Busy, ProviderDown.
    """
    sync = syncing.sync
    async with alone(sync.db, sync.clock):
        theirs = await sync.source.find_instance()
        if theirs is None:
            raise Refused(UNKNOWN, code="instance_unknown", status=CONFLICT)
        if wanted is not None and wanted != theirs:
            words = NOT_THE_KEYS.format(theirs=theirs, wanted=wanted)
            raise Refused(words, code="wrong_instance", status=CONFLICT)
        before = await sync.db.write(_write, theirs, now=sync.clock())
    run: Run | None = None
    reason = None
    try:
        run = await sync.check(actor=ACTOR)
    except InstepError as error:
        reason = str(error)
    unknown = sum(run.counts.get(kind, 0) for kind in GONE) if run else None
    return Rebound(before=before, bound=theirs, unknown_rows=unknown, check=run.id if run else None, reason=reason)


def _write(conn: Conn, theirs: str, *, now: int) -> str | None:
    before = instance.rebind(conn, theirs, now=now)
    if before != theirs:
        details = {"before": before, "after": theirs}
        record(conn, [Entry(actor=ACTOR, action="instance.rebind", target=theirs, details=details)], now=now)
    return before


def _print_shown(found: Shown) -> None:
    typer.echo(f"Database:   {found.bound or 'not bound yet; the secret key says which instance it is'}")
    typer.echo(f"Secret key: {found.secret_key or found.reason or UNKNOWN.partition(' Nothing')[0]}")
    typer.echo(f"Deliveries of other instances, kept and not applied: {found.foreign:,}")
    if found.bound and found.secret_key and found.bound != found.secret_key:
        typer.echo("They differ: no sync runs. Set the key of the database's instance, use another database, or bind")
        typer.echo("this one to the key's instance: instep instance --rebind")


def _print_rebound(found: Rebound) -> None:
    if found.before == found.bound:
        typer.echo(f"The database belongs to {found.bound} already. Nothing was changed.")
    else:
        typer.echo(f"The database belongs to {found.bound} now; it belonged to {found.before or 'none'}.")
    if found.unknown_rows is None:
        typer.echo(f"How many rows {found.bound} does not know could not be counted: {found.reason}")
    elif found.unknown_rows:
        typer.echo(f"Rows that {found.bound} does not know: {found.unknown_rows:,}. None was changed.")
        typer.echo("See what a sync would do about them: instep sync plan")
    else:
        typer.echo(f"{found.bound} knows every row.")
