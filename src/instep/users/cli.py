"""Commands about users: users, user, edit and user-... for whole accounts."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

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
from instep.users.models import (
    USER_STATUSES,
    EmailChange,
    UserChanges,
    UserFilter,
    UserProfile,
    UserSearchResult,
    decode_cursor,
)
from instep.users.schemas import (
    CreateUserRequest,
    EmailChangeResult,
    UpdateUserRequest,
    User,
    make_email_change_result,
    make_user,
    make_user_list,
)
from instep.users.service import UserService

Result = TypeVar("Result")
app = typer.Typer()
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="instep's ID, Clerk's ID, or the email address.")]
TextOption = Annotated[str | None, typer.Option()]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", help='JSON, such as \'{"attributes": {"floor": 3}, "public_metadata": {"role": "admin"}}\'.'
    ),
]


@app.command()
def users(
    query: Annotated[str, typer.Option(help="Parts of a name or an email address, or an ID.")] = "",
    status: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(USER_STATUSES)}; may be repeated.")
    ] = None,
    organization: Annotated[str | None, typer.Option(help="instep's ID, Clerk's ID or the slug.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Continue after the previous page.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List users, newest first; without --status all but the deleted. local: without a Clerk account."""
    unknown = sorted(set(status or ()) - set(USER_STATUSES))
    if unknown:
        raise PermanentError(f"{unknown[0]} is none of {', '.join(USER_STATUSES)}.", code="unknown_status")
    statuses: Any = frozenset(status or ())
    start = decode_cursor(cursor) if cursor else None
    user_filter = UserFilter(limit=limit, query=query, statuses=statuses, organization=organization, cursor=start)
    result = run_with_services(lambda services: services.users.list(BREAK_GLASS_PRINCIPAL, user_filter))
    return _print_json(make_user_list(result)) if as_json else _print_users(result)


@app.command()
def user(user_ref: UserArgument, as_json: JsonOption = False) -> None:
    """Show one user."""
    profile = _run_on_user(user_ref, lambda service, user_id: service.get(BREAK_GLASS_PRINCIPAL, user_id))
    _print(make_user(profile), as_json)


@app.command()
def edit(
    user_ref: UserArgument,
    first_name: TextOption = None,
    last_name: TextOption = None,
    username: TextOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Edit a profile, in Clerk and here; an empty text clears a name. For the email address see user-email."""
    body = _parse_data(UpdateUserRequest, data, first_name=first_name, last_name=last_name, username=username)
    _print(_edit_profile(user_ref, body.to_changes()), as_json)


@app.command("user-create")
def create(
    email: Annotated[str, typer.Argument()],
    first_name: TextOption = None,
    last_name: TextOption = None,
    data: DataOption = None,
    local: Annotated[bool, typer.Option("--local", help="In the database only, without a Clerk account.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Create a user, in Clerk and here."""
    body = _parse_data(CreateUserRequest, data, email=email, first_name=first_name, last_name=last_name)
    changes: UserChanges = body.to_changes()
    profile = run_with_services(
        lambda services: services.users.create(BREAK_GLASS_PRINCIPAL, changes, in_clerk=not local)
    )
    _print(make_user(profile), as_json)


@app.command("user-delete")
def delete(
    user_ref: UserArgument,
    clerk: Annotated[
        str, typer.Option(help="In Clerk: delete, only ban, or keep (and end their sessions).")
    ] = "delete",
    as_json: JsonOption = False,
) -> None:
    """Soft-delete a user; user-restore restores them."""
    if clerk not in ("delete", "ban", "keep"):
        raise PermanentError("--clerk is delete, ban or keep.", code="unknown_choice")
    choice: Any = clerk
    profile = _run_on_user(
        user_ref, lambda service, user_id: service.delete(BREAK_GLASS_PRINCIPAL, user_id, clerk=choice)
    )
    _print(make_user(profile), as_json)


@app.command("user-restore")
def restore(user_ref: UserArgument, as_json: JsonOption = False) -> None:
    """Restore a deleted user; without a Clerk account where Clerk has deleted it."""
    profile = _run_on_user(user_ref, lambda service, user_id: service.restore(BREAK_GLASS_PRINCIPAL, user_id))
    _print(make_user(profile), as_json)


@app.command("user-ban")
def ban(user_ref: UserArgument, as_json: JsonOption = False) -> None:
    """Ban a user; where Clerk's plan has no bans they are deactivated here and signed out everywhere."""
    profile, note = _run_on_user(user_ref, lambda service, user_id: service.ban(BREAK_GLASS_PRINCIPAL, user_id))
    _print(make_user(profile, note=note), as_json)


@app.command("user-unban")
def unban(user_ref: UserArgument, as_json: JsonOption = False) -> None:
    """Unban a user; lifts a deactivation of the whole account, too."""
    profile = _run_on_user(user_ref, lambda service, user_id: service.unban(BREAK_GLASS_PRINCIPAL, user_id))
    _print(make_user(profile), as_json)


@app.command("user-email")
def email(
    user_ref: UserArgument,
    address: Annotated[str, typer.Argument(help="The new email address.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Send new invitations and deactivate the old account without confirmation.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Change an email address by the policy INSTEP_EMAIL_CHANGE; asks before it sends new invitations."""
    result = _edit_profile(user_ref, UserChanges(email=address))
    if isinstance(result, EmailChangeResult) and result.requires_invitation:
        if not as_json:
            for consequence in result.consequences:
                typer.echo(consequence)
            yes = yes or typer.confirm("Continue?")
        if yes:
            change = _run_on_user(
                user_ref, lambda service, user_id: service.change_email(BREAK_GLASS_PRINCIPAL, user_id, address)
            )
            result = make_email_change_result(change)
    _print(result, as_json)


@app.command("user-verify")
def verify(
    user_ref: UserArgument,
    verification: Annotated[str, typer.Argument(help="The verification that user-email printed.")],
    code: Annotated[str, typer.Option(prompt=True, hide_input=True, help="The code that was sent.")],
    as_json: JsonOption = False,
) -> None:
    """Verify a new email address by the code that was sent to it."""
    change = _run_on_user(
        user_ref, lambda service, user_id: service.verify_email(BREAK_GLASS_PRINCIPAL, user_id, verification, code)
    )
    _print(make_email_change_result(change), as_json)


@app.command("user-password")
def password(
    user_ref: UserArgument,
    secret: Annotated[str, typer.Option("--password", prompt="Password", hide_input=True)],
    as_json: JsonOption = False,
) -> None:
    """Set a password, in Clerk only; prompts for it and never stores it here."""
    profile = _run_on_user(
        user_ref, lambda service, user_id: service.set_password(BREAK_GLASS_PRINCIPAL, user_id, secret)
    )
    _print(make_user(profile), as_json)


def _run_on_user(user_ref: str, call: Callable[[UserService, str], Awaitable[Result]]) -> Result:
    """Call the service with the id of a user who is given by id or email address."""

    async def run(services: Services) -> Result:
        return await call(services.users, await _resolve_user_id(services.users, user_ref))

    result: Result = run_with_services(run)
    return result


def _edit_profile(user_ref: str, changes: UserChanges) -> User | EmailChangeResult:
    result: UserProfile | EmailChange = _run_on_user(
        user_ref, lambda service, user_id: service.edit_profile(BREAK_GLASS_PRINCIPAL, user_id, changes)
    )
    return make_email_change_result(result) if isinstance(result, EmailChange) else make_user(result)


async def _resolve_user_id(service: UserService, text: str) -> str:
    """Return an id unchanged; for an email address the id of the only user who has it."""
    if "@" not in text:
        return text
    address = text.strip()
    user_filter = UserFilter(limit=500, query=address, statuses=frozenset(USER_STATUSES))
    result = await service.list(BREAK_GLASS_PRINCIPAL, user_filter)
    user_ids = [profile.user.id for profile in result.rows if is_same_email(profile.user.email, address)]
    if not user_ids:
        raise PermanentError(f"No user has the email address {text}.", code="user_not_found")
    if len(user_ids) > 1:
        raise PermanentError(f"Several users have had {text}: {', '.join(user_ids)}.", code="user_not_found")
    return user_ids[0]


def _parse_data(model: type[Any], data: str | None, **fields: str | None) -> Any:
    """Merge --data and the options into a request. Raises PermanentError."""
    try:
        values = msgspec.json.decode(data or "{}", type=dict[str, Any])
        return model.model_validate(values | {name: value for name, value in fields.items() if value is not None})
    except (msgspec.MsgspecError, ValidationError) as error:
        raise PermanentError(f"--data is not valid: {error}", code="invalid_data") from error


def _print(result: User | EmailChangeResult, is_json: bool) -> None:
    if is_json:
        return _print_json(result)
    if isinstance(result, EmailChangeResult):
        return _print_email_change(result)
    name = " ".join(part for part in (result.first_name, result.last_name) if part) or result.username or ""
    account = result.clerk_id or "without a Clerk account"
    typer.echo(f"{name} <{result.email}>: {result.status}, {result.id}, {account}")
    for organization in result.organizations:
        typer.echo(f"  {organization.name}: {organization.role}, {organization.status}")
    return typer.echo(result.note) if result.note else None


def _print_email_change(result: EmailChangeResult) -> None:
    typer.echo(f"{result.email}: {result.outcome.replace('_', ' ')}")
    for organization in result.organizations:
        detail = f" ({organization.detail})" if organization.detail else ""
        typer.echo(f"  {organization.name}: {organization.state}{detail}")
    if result.verification:
        typer.echo(f"A code was sent. Verify it with: instep user-verify USER {result.verification}")
    if result.note:
        typer.echo(result.note)


def _print_users(result: UserSearchResult) -> None:
    table = Table("User", "Role", "Status", "Organizations", "ID")
    for profile in result.rows:
        found = profile.user
        organizations = ", ".join(f"{it.name} ({it.role})" for it in profile.memberships)
        table.add_row(f"{found.name} <{found.email}>", profile.role or "", profile.status, organizations, found.id)
    Console().print(table)
    if result.next_cursor:
        typer.echo(f"More: --cursor {result.next_cursor}")


def _print_json(result: BaseModel) -> None:
    typer.echo(result.model_dump_json())
