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
    query: Annotated[str, typer.Option(help="Words, each any part of a name or an address.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Cursor of the next page, as printed by the last one.")] = None,
    as_json_: JsonOption = False,
) -> None:
    """List members and pending invitations of an organization."""
    filters = MemberFilter(limit=limit, query=query, cursor=_decode_cursor_option(cursor) if cursor else None)
    access, page = run_with_services(lambda services: _list_people(services, organization, filters))
    if as_json_:
        typer.echo(dump_page(page))
    else:
        _print_people(access, page)


@app.command()
def role(
    organization: OrganizationArgument,
    person: MemberArgument,
    role_: Annotated[str, typer.Argument(metavar="ROLE", help="Role key, such as org:admin.")],
    as_json_: JsonOption = False,
) -> None:
    """Change a member's role."""
    _change("change_role", organization, person, as_json_, role=role_)


@app.command()
def deactivate(organization: OrganizationArgument, person: MemberArgument, as_json_: JsonOption = False) -> None:
    """Deactivate a member: access ends immediately; the role is remembered."""
    _change("deactivate", organization, person, as_json_)


@app.command()
def reactivate(organization: OrganizationArgument, person: MemberArgument, as_json_: JsonOption = False) -> None:
    """Reactivate a deactivated member with the previous role."""
    _change("reactivate", organization, person, as_json_)


@app.command()
def remove(organization: OrganizationArgument, person: MemberArgument, as_json_: JsonOption = False) -> None:
    """Remove a member."""
    _change("remove", organization, person, as_json_)


@app.command()
def restore(organization: OrganizationArgument, person: MemberArgument, as_json_: JsonOption = False) -> None:
    """Restore a removed member with the previous role."""
    _change("restore", organization, person, as_json_)


def _change(method: str, organization: str, member_id: str, is_json: bool, **options: Any) -> None:
    """Call a method of MemberService by its name, and print the outcome."""

    async def change(services: Services) -> MemberChangeOutcome:
        access = await get_admin_access(services, organization)
        outcome: MemberChangeOutcome = await getattr(services.members, method)(access, member_id=member_id, **options)
        return outcome

    outcome = run_with_services(change)
    if is_json:
        typer.echo(dump_changed_member(outcome))
        return
    member = outcome.member
    typer.echo(f"{member.name}: {member.status}, {member.role}" + ("" if outcome.operation_id else " (unchanged)"))
    for notice in outcome.notices:
        typer.echo(notice, err=True)


def _decode_cursor_option(cursor: str) -> MemberCursor:
    try:
        return decode_cursor(cursor)
    except InvalidMemberCursorError as error:
        raise typer.BadParameter(str(error), param_hint="--cursor") from error


async def _list_people(
    services: Services, organization: str, filters: MemberFilter
) -> tuple[OrganizationAccess, MemberListPage]:
    access = await get_admin_access(services, organization)
    return access, await services.members.list_people(access, filters)


def _print_people(access: OrganizationAccess, page: MemberListPage) -> None:
    console = Console()
    totals = page.totals
    invited = "" if totals.invitations is None else f" · {totals.invitations} invited"
    table = Table(
        "Person", "Role", "Status", "Joined", title=f"{access.organization_name}: {totals.members} members{invited}"
    )
    for row in page.rows:
        if isinstance(row, InvitationRow):
            table.add_row(row.email, row.role, row.status, f"invited {_format_day(row.created_at)}")
        else:
            name = " ".join(part for part in (row.first_name, row.last_name) if part)
            table.add_row(f"{name} <{row.email}>", row.role, row.status, _format_day(row.joined_at))
    console.print(table)
    for warning in page.warnings:
        Console(stderr=True).print(f"Warning: {warning}")
    if page.next_cursor:
        typer.echo(f"More: --cursor {page.next_cursor}")


def _format_day(time_ms: int) -> str:
    return (to_iso(time_ms) or "unknown")[:10]
