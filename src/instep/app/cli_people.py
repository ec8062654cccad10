"""Commands about the people of an organization: people, role, deactivate, reactivate, remove and restore."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from instep.access.principal import Access
from instep.app.cli_run import AsJson, Organization, access_to, with_services
from instep.app.wiring import Services
from instep.kit.clock import to_iso
from instep.people.answers import changed_as_json
from instep.people.changes import Changed
from instep.people.merge import Ask, BadCursor, Cursor, InvitationRow, People, decode_cursor
from instep.people.shapes import as_json

app = typer.Typer()
Person = Annotated[str, typer.Argument(metavar="USER", help="instep's id or Clerk's id.")]


@app.command()
def people(
    organization: Organization,
    query: Annotated[str, typer.Option(help="Any part of a name or an address.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on where a page ended.")] = None,
    as_json_: AsJson = False,
) -> None:
    """List members and pending invitations of an organization, as the page does."""
    ask = Ask(limit=limit, query=query, cursor=_decoded(cursor) if cursor else None)
    access, found = with_services(lambda services: _list(services, organization, ask))
    if as_json_:
        typer.echo(as_json(found))
    else:
        _print(access, found)


@app.command()
def role(
    organization: Organization,
    person: Person,
    role_: Annotated[str, typer.Argument(metavar="ROLE", help="Such as org:admin.")],
    as_json_: AsJson = False,
) -> None:
    """Change a member's role."""
    _change("set_role", organization, person, as_json_, role=role_)


@app.command()
def deactivate(organization: Organization, person: Person, as_json_: AsJson = False) -> None:
    """Put a member out, at once; the role is remembered."""
    _change("deactivate", organization, person, as_json_)


@app.command()
def reactivate(organization: Organization, person: Person, as_json_: AsJson = False) -> None:
    """Let a deactivated member in again, with the remembered role."""
    _change("reactivate", organization, person, as_json_)


@app.command()
def remove(organization: Organization, person: Person, as_json_: AsJson = False) -> None:
    """Remove a member."""
    _change("remove", organization, person, as_json_)


@app.command()
def restore(organization: Organization, person: Person, as_json_: AsJson = False) -> None:
    """Make a former member one again, with the remembered role."""
    _change("restore", organization, person, as_json_)


def _change(name: str, organization: str, person: str, is_json: bool, **more: Any) -> None:
    async def change(services: Services) -> Changed:
        access = await access_to(services, organization)
        flow = getattr(services.members.changes, name)
        changed: Changed = await flow(access, member=person, **more)
        return changed

    changed = with_services(change)
    if is_json:
        typer.echo(changed_as_json(changed))
        return
    member = changed.member
    typer.echo(f"{member.name}: {member.status}, {member.role}" + ("" if changed.operation_id else " (as before)"))
    for notice in changed.notices:
        typer.echo(notice, err=True)


def _decoded(cursor: str) -> Cursor:
    try:
        return decode_cursor(cursor)
    except BadCursor as error:
        raise typer.BadParameter(str(error), param_hint="--cursor") from error


async def _list(services: Services, ref: str, ask: Ask) -> tuple[Access, People]:
    access = await access_to(services, ref)
    return access, await services.members.list_people(access, ask)


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
    return (to_iso(at) or "unknown")[:10]
