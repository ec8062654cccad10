"""Commands about users: users, user, edit and user-... for whole accounts."""

from typing import Annotated, Any

import msgspec
import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table

from instep.app.cli_runtime import JsonOption, run_with_services
from instep.app.container import Services
from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from instep.core.errors import PermanentError
from instep.domain.emails import is_same_email
from instep.users.models import USER_STATUSES, EmailChange, UserChanges, UserFilter, UserSearchResult, decode_cursor
from instep.users.schemas import (
    CreateUserRequest,
    EmailChangeResult,
    UpdateUserRequest,
    User,
    make_email_change_result,
    make_user,
    make_user_list,
)

app = typer.Typer()
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="instep's id, Clerk's id, or the address.")]
TextOption = Annotated[str | None, typer.Option()]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", help='JSON, such as \'{"attributes": {"floor": 3}, "public_metadata": {"role": "admin"}}\'.'
    ),
]


@app.command()
def users(
    query: Annotated[str, typer.Option(help="Parts of a name or an address; or an id.")] = "",
    status: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(USER_STATUSES)}; may be repeated.")] = None,
    organization: Annotated[str | None, typer.Option(help="instep's id, Clerk's id or the slug.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on where a page ended.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List people, newest first; without --status all but the deleted. local: without a Clerk account."""
    unknown = sorted(set(status or ()) - set(USER_STATUSES))
    if unknown:
        raise PermanentError(f"{unknown[0]} is none of {', '.join(USER_STATUSES)}.", code="unknown_status")
    statuses: Any = frozenset(status or ())
    start = decode_cursor(cursor) if cursor else None
    ask = UserFilter(limit=limit, query=query, statuses=statuses, organization=organization, cursor=start)
    found = run_with_services(lambda services: services.users.users.list(BREAK_GLASS_PRINCIPAL, ask))
    return _print_json(make_user_list(found)) if as_json else _print_users(found)


@app.command()
def user(person: UserArgument, as_json: JsonOption = False) -> None:
    """Show one person."""

    async def run(services: Services) -> User:
        return make_user(
            await services.users.users.get(BREAK_GLASS_PRINCIPAL, await _resolve_user_id(services, person))
        )

    _print(run_with_services(run), as_json)


@app.command()
def edit(
    person: UserArgument,
    first_name: TextOption = None,
    last_name: TextOption = None,
    username: TextOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Edit a profile, in Clerk and here; an empty text clears a name. The address: user-email."""
    wanted = _parse_data(UpdateUserRequest, data, first_name=first_name, last_name=last_name, username=username).edit()

    async def run(services: Services) -> User | EmailChangeResult:
        done = await services.users.edit(BREAK_GLASS_PRINCIPAL, await _resolve_user_id(services, person), wanted)
        return make_email_change_result(done) if isinstance(done, EmailChange) else make_user(done)

    _print(run_with_services(run), as_json)


@app.command("user-create")
def create(
    email: Annotated[str, typer.Argument()],
    first_name: TextOption = None,
    last_name: TextOption = None,
    data: DataOption = None,
    local: Annotated[bool, typer.Option("--local", help="In the database only, without a Clerk account.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a person, in Clerk and here."""
    profile: UserChanges = _parse_data(
        CreateUserRequest, data, email=email, first_name=first_name, last_name=last_name
    ).profile()

    async def run(services: Services) -> User:
        return make_user(await services.users.manage.create(BREAK_GLASS_PRINCIPAL, profile, in_clerk=not local))

    _print(run_with_services(run), as_json)


@app.command("user-delete")
def delete(
    person: UserArgument,
    clerk: Annotated[str, typer.Option(help="In Clerk: delete, only ban, or keep (and sign out).")] = "delete",
    as_json: JsonOption = False,
) -> None:
    """Delete a person, softly: user-restore brings them back."""
    if clerk not in ("delete", "ban", "keep"):
        raise PermanentError("--clerk is delete, ban or keep.", code="unknown_choice")
    choice: Any = clerk

    async def run(services: Services) -> User:
        ref = await _resolve_user_id(services, person)
        return make_user(await services.users.manage.delete(BREAK_GLASS_PRINCIPAL, ref, clerk=choice))

    _print(run_with_services(run), as_json)


@app.command("user-restore")
def restore(person: UserArgument, as_json: JsonOption = False) -> None:
    """Bring a deleted person back; without a Clerk account where Clerk has deleted theirs."""

    async def run(services: Services) -> User:
        return make_user(
            await services.users.manage.restore(BREAK_GLASS_PRINCIPAL, await _resolve_user_id(services, person))
        )

    _print(run_with_services(run), as_json)


@app.command("user-ban")
def ban(person: UserArgument, as_json: JsonOption = False) -> None:
    """Ban a person; where Clerk's plan has no bans they are deactivated here and signed out everywhere."""

    async def run(services: Services) -> User:
        banned, note = await services.users.manage.ban(
            BREAK_GLASS_PRINCIPAL, await _resolve_user_id(services, person)
        )
        return make_user(banned, note=note)

    _print(run_with_services(run), as_json)


@app.command("user-unban")
def unban(person: UserArgument, as_json: JsonOption = False) -> None:
    """Let a person in again: lifts a ban, and a deactivation of the whole account."""

    async def run(services: Services) -> User:
        return make_user(
            await services.users.manage.unban(BREAK_GLASS_PRINCIPAL, await _resolve_user_id(services, person))
        )

    _print(run_with_services(run), as_json)


@app.command("user-email")
def email(
    person: UserArgument,
    address: Annotated[str, typer.Argument(help="The new address.")],
    yes: Annotated[bool, typer.Option("--yes", help="Invite anew and deactivate, without being asked.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Change an address, by the policy INSTEP_EMAIL_CHANGE; inviting anew asks before it does anything."""

    async def look(services: Services) -> EmailChangeResult | User:
        done = await services.users.edit(
            BREAK_GLASS_PRINCIPAL, await _resolve_user_id(services, person), UserChanges(email=address)
        )
        return make_email_change_result(done) if isinstance(done, EmailChange) else make_user(done)

    async def run(services: Services) -> EmailChangeResult:
        return make_email_change_result(
            await services.users.change_email(
                BREAK_GLASS_PRINCIPAL, await _resolve_user_id(services, person), address
            )
        )

    answer = run_with_services(look)
    if isinstance(answer, EmailChangeResult) and answer.requires_invitation and not as_json:
        for words in answer.consequences:
            typer.echo(words)
        yes = yes or typer.confirm("Go on?")
    if isinstance(answer, EmailChangeResult) and answer.requires_invitation and yes:
        answer = run_with_services(run)
    _print(answer, as_json)


@app.command("user-verify")
def verify(
    person: UserArgument,
    verification: Annotated[str, typer.Argument(help="What user-email answered.")],
    code: Annotated[str, typer.Option(prompt=True, hide_input=True, help="The code that was sent.")],
    as_json: JsonOption = False,
) -> None:
    """Prove a new address by the code that was sent to it."""

    async def run(services: Services) -> EmailChangeResult:
        ref = await _resolve_user_id(services, person)
        return make_email_change_result(
            await services.users.change_email.verify(BREAK_GLASS_PRINCIPAL, ref, verification, code)
        )

    _print(run_with_services(run), as_json)


@app.command("user-password")
def password(
    person: UserArgument,
    secret: Annotated[str, typer.Option("--password", prompt="Password", hide_input=True)],
    as_json: JsonOption = False,
) -> None:
    """Set a password, in Clerk only; it is asked for, and kept nowhere here."""

    async def run(services: Services) -> User:
        return make_user(
            await services.users.set_password(
                BREAK_GLASS_PRINCIPAL, await _resolve_user_id(services, person), secret
            )
        )

    _print(run_with_services(run), as_json)


async def _resolve_user_id(services: Services, text: str) -> str:
    """An id; of an address, that of the one person who has it."""
    if "@" not in text:
        return text
    every: Any = frozenset(USER_STATUSES)
    found = await services.users.users.list(
        BREAK_GLASS_PRINCIPAL, UserFilter(limit=500, query=text.strip(), statuses=every)
    )
    ids = [it.person.id for it in found.rows if is_same_email(it.person.email, text.strip())]
    if len(ids) != 1:
        words = f"Nobody has the address {text}." if not ids else f"Several people have had {text}: {', '.join(ids)}."
        raise PermanentError(words, code="user_not_found")
    return ids[0]


def _parse_data(shape: type[Any], data: str | None, **fields: str | None) -> Any:
    """What the options and --data ask for. Raises PermanentError."""
    try:
        given = msgspec.json.decode(data or "{}", type=dict[str, Any])
        return shape.model_validate(given | {name: value for name, value in fields.items() if value is not None})
    except (msgspec.MsgspecError, ValidationError) as error:
        raise PermanentError(f"--data can't be used: {error}", code="invalid_data") from error


def _print(shown: User | EmailChangeResult, is_json: bool) -> None:
    if is_json:
        return _print_json(shown)
    if isinstance(shown, EmailChangeResult):
        return _print_email_change(shown)
    name = " ".join(part for part in (shown.first_name, shown.last_name) if part) or shown.username or ""
    typer.echo(f"{name} <{shown.email}>: {shown.status}, {shown.id}, {shown.clerk_id or 'without a Clerk account'}")
    for it in shown.organizations:
        typer.echo(f"  {it.name}: {it.role}, {it.status}")
    return typer.echo(shown.note) if shown.note else None


def _print_email_change(shown: EmailChangeResult) -> None:
    typer.echo(f"{shown.email}: {shown.outcome.replace('_', ' ')}")
    for it in shown.organizations:
        typer.echo(f"  {it.name}: {it.state}{f' ({it.detail})' if it.detail else ''}")
    if shown.verification:
        typer.echo(f"A code was sent. Give it to: instep user-verify USER {shown.verification}")
    if shown.note:
        typer.echo(shown.note)


def _print_users(found: UserSearchResult) -> None:
    table = Table("Person", "Role", "Status", "Organizations", "Id")
    for it in found.rows:
        organizations = ", ".join(f"{here.name} ({here.role})" for here in it.memberships)
        table.add_row(f"{it.person.name} <{it.person.email}>", it.role or "", it.status, organizations, it.person.id)
    Console().print(table)
    if found.next_cursor:
        typer.echo(f"More: --cursor {found.next_cursor}")


def _print_json(shown: BaseModel) -> None:
    typer.echo(shown.model_dump_json())
