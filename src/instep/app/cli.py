"""The command line: serve, demo, migrate, doctor and people.

Exit codes: 0 done, 1 failed (one line on standard error says why), 2 the command was not understood.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from instep import __version__
from instep.access.principal import BREAK_GLASS, Access
from instep.access.store import find_access
from instep.app import demo as demo_
from instep.app.config import load_demo_settings, load_settings
from instep.app.doctor import examine
from instep.app.server import Server, make_server, work_until_told
from instep.app.wiring import Services, make_services
from instep.kit import log
from instep.kit.clock import to_datetime
from instep.kit.errors import InstepError, PermanentError
from instep.kit.schema import check
from instep.kit.schema import migrate as migrate_
from instep.people.api import as_json
from instep.people.merge import Ask, InvitationRow, People, decode_cursor

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command; a failure that instep knows is one line, never a traceback."""
    try:
        app()
    except InstepError as error:
        typer.echo(f"instep: {error}", err=True)
        sys.exit(1)


@app.callback()
def instep() -> None:
    """Keeps Clerk and your own database in step."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def serve() -> None:
    """Serve the console, the API and the webhooks, with the worker inside."""
    settings = load_settings()
    log.configure(is_json=settings.instep_log_json)
    services = make_services(settings)
    check(services.db.engine)
    server = make_server(services, host=settings.instep_host, port=settings.instep_port)
    asyncio.run(_serve(server, services))


async def _serve(server: Server, services: Services) -> None:
    try:
        await server.serve()
    finally:
        await services.close()


@app.command()
def work() -> None:
    """Work the inbox and open operations, without serving: as many beside each other as you like, on PostgreSQL."""
    settings = load_settings()
    log.configure(is_json=settings.instep_log_json)
    services = make_services(settings)
    check(services.db.engine)
    asyncio.run(work_until_told(services))


@app.command()
def migrate() -> None:
    """Bring the database's schema to this version."""
    services = make_services(load_settings())
    typer.echo(f"The schema is at version {migrate_(services.db.engine)}.")
    services.db.close()


@app.command()
def doctor() -> None:
    """Say what is missing or wrong, one line each, and try each connection. Exit 1 if anything is."""
    findings = asyncio.run(examine(load_settings()))
    for finding in findings:
        typer.echo(f"{'ok   ' if finding.is_good else 'WRONG'}  {finding.what}: {finding.text}")
    if not all(finding.is_good for finding in findings):
        raise typer.Exit(1)


@app.command()
def demo(fresh: Annotated[bool, typer.Option("--fresh", help="Start over with an empty data folder.")] = False) -> None:
    """Start a Clerk stand-in and instep with a made-up firm; Ctrl-C stops both."""
    wanted = load_demo_settings()
    place = demo_.Place(wanted.instep_data_dir, wanted.instep_port, wanted.clerk_emulator_port)
    log.configure(is_json=False)
    asyncio.run(demo_.run(place, is_fresh=fresh))


@app.command()
def people(
    organization: Annotated[str, typer.Argument(help="instep's id, Clerk's id or the slug.")],
    query: Annotated[str, typer.Option(help="Any part of a name or an address.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on where a page ended.")] = None,
    as_json_: AsJson = False,
) -> None:
    """List members and pending invitations of an organization, as the page does."""
    ask = Ask(limit=limit, query=query, cursor=decode_cursor(cursor) if cursor else None)
    access, found = _run(lambda services: _list(services, organization, ask))
    if as_json_:
        typer.echo(as_json(found))
    else:
        _print(access, found)


async def _list(services: Services, ref: str, ask: Ask) -> tuple[Access, People]:
    access = await services.db.read(find_access, BREAK_GLASS, ref)
    if access is None:
        raise PermanentError(f"There is no organization {ref}.", code="not_found")
    return access, await services.list_people(access, ask)


def _run(use: Callable[[Services], Coroutine[Any, Any, Any]]) -> Any:
    """Run something with services made from the settings, and close them."""

    async def run() -> Any:
        services = make_services(load_settings())
        try:
            check(services.db.engine)
            return await use(services)
        finally:
            await services.close()

    return asyncio.run(run())


def _print(access: Access, people: People) -> None:
    console = Console()
    totals = people.totals
    invited = "" if totals.invitations is None else f" · {totals.invitations} invited"
    table = Table(
        "Person", "Role", "Status", "Joined", title=f"{access.organization_name}: {totals.members} members{invited}"
    )
    for row in people.rows:
        if isinstance(row, InvitationRow):
            table.add_row(row.email, row.role, row.status, f"invited {_day(row.created_at)}")
        else:
            name = " ".join(part for part in (row.first_name, row.last_name) if part)
            table.add_row(f"{name} <{row.email}>", row.role, row.status, _day(row.joined_at))
    console.print(table)
    for warning in people.warnings:
        Console(stderr=True).print(f"Warning: {warning}")
    if people.next_cursor:
        typer.echo(f"More: --cursor {people.next_cursor}")


def _day(at: int) -> str:
    return to_datetime(at).date().isoformat()
