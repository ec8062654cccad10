"""CLI commands of members: people, role, deactivate, reactivate, remove and restore."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from instep.app.cli_runtime import JsonOption, OrganizationArgument, get_admin_access, run_with_services
from instep.app.container import Services
from instep.auth.principal import OrganizationAccess
from instep.core.clock import to_iso
from instep.members.listing import decode_cursor
from instep.members.models import (
    InvalidMemberCursorError,
    InvitationRow,
    MemberChangeOutcome,
    MemberCursor,
    MemberFilter,
    MemberListPage,
)
from instep.members.schemas import dump_changed_member, dump_page

app = typer.Typer()
MemberArgument = Annotated[str, typer.Argument(metavar="USER", help="instep's id or Clerk's id.")]


@app.command()
def people(
    organization: OrganizationArgument,
    query: Annotated[str, typer.Option(help="Any part of a name or an address.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on where a page ended.")] = None,
    as_json_: JsonOption = False,
) -> None:
    """List members and pending invitations of an organization, as the page does."""
    ask = MemberFilter(limit=limit, query=query, cursor=_decode_cursor_option(cursor) if cursor else None)
    access, found = run_with_services(lambda services: _list_people(services, organization, ask))
    if as_json_:
        typer.echo(dump_page(found))
    else:
        _print_people(access, found)


@app.command()
def role(
    organization: OrganizationArgument,
    person: MemberArgument,
    role_: Annotated[str, typer.Argument(metavar="ROLE", help="Such as org:admin.")],
    as_json_: JsonOption = False,
) -> None:
    """Change a member's role."""
    _change("set_role", organization, person, as_json_, role=role_)


@app.command()
def deactivate(organization: OrganizationArgument, person: MemberArgument, as_json_: JsonOption = False) -> None:
    """Put a member out, at once; the role is remembered."""
    _change("deactivate", organization, person, as_json_)


@app.command()
def reactivate(organization: OrganizationArgument, person: MemberArgument, as_json_: JsonOption = False) -> None:
    """Let a deactivated member in again, with the remembered role."""
    _change("reactivate", organization, person, as_json_)


@app.command()
def remove(organization: OrganizationArgument, person: MemberArgument, as_json_: JsonOption = False) -> None:
    """Remove a member."""
    _change("remove", organization, person, as_json_)


@app.command()
def restore(organization: OrganizationArgument, person: MemberArgument, as_json_: JsonOption = False) -> None:
    """Make a former member one again, with the remembered role."""
    _change("restore", organization, person, as_json_)


def _change(name: str, organization: str, person: str, is_json: bool, **more: Any) -> None:
    async def change(services: Services) -> MemberChangeOutcome:
        access = await get_admin_access(services, organization)
        flow = getattr(services.members.changes, name)
        changed: MemberChangeOutcome = await flow(access, member=person, **more)
        return changed

    changed = run_with_services(change)
    if is_json:
        typer.echo(dump_changed_member(changed))
        return
    member = changed.member
    typer.echo(f"{member.name}: {member.status}, {member.role}" + ("" if changed.operation_id else " (as before)"))
    for notice in changed.notices:
        typer.echo(notice, err=True)


def _decode_cursor_option(cursor: str) -> MemberCursor:
    try:
        return decode_cursor(cursor)
    except InvalidMemberCursorError as error:
        raise typer.BadParameter(str(error), param_hint="--cursor") from error


async def _list_people(services: Services, ref: str, ask: MemberFilter) -> tuple[OrganizationAccess, MemberListPage]:
    access = await get_admin_access(services, ref)
    return access, await services.members.list_people(access, ask)


def _print_people(access: OrganizationAccess, people: MemberListPage) -> None:
    console = Console()
    totals = people.totals
    invited = "" if totals.invitations is None else f" · {totals.invitations} invited"
    table = Table(
        "Person", "Role", "Status", "Joined", title=f"{access.organization_name}: {totals.members} members{invited}"
    )
    for row in people.rows:
        if isinstance(row, InvitationRow):
            table.add_row(row.email, row.role, row.status, f"invited {_format_day(row.created_at)}")
        else:
            name = " ".join(part for part in (row.first_name, row.last_name) if part)
            table.add_row(f"{name} <{row.email}>", row.role, row.status, _format_day(row.joined_at))
    console.print(table)
    for warning in people.warnings:
        Console(stderr=True).print(f"Warning: {warning}")
    if people.next_cursor:
        typer.echo(f"More: --cursor {people.next_cursor}")


def _format_day(at: int) -> str:
    return (to_iso(at) or "unknown")[:10]
