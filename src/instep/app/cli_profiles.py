"""Commands about people of the whole installation: users, edit, and user-... for whole accounts."""

from typing import Annotated, Any

import msgspec
import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table

from instep.access.principal import BREAK_GLASS
from instep.app.cli_run import AsJson, with_services
from instep.app.wiring import Services
from instep.identity.addresses import is_same
from instep.kit.errors import PermanentError
from instep.profiles.profile import STATUSES, Ask, EmailChange, Users, decode_cursor
from instep.profiles.rules import Edit
from instep.profiles.shapes import EmailAnswer, NewUser, ProfileEdit, User, email_answer_of, page_of, user_of

app = typer.Typer()
Person = Annotated[str, typer.Argument(metavar="USER", help="instep's id, Clerk's id, or the address.")]
Text = Annotated[str | None, typer.Option()]
More = Annotated[
    str | None,
    typer.Option(
        "--data", help='JSON, such as \'{"attributes": {"floor": 3}, "public_metadata": {"role": "admin"}}\'.'
    ),
]


@app.command()
def users(
    query: Annotated[str, typer.Option(help="Parts of a name or an address; or an id.")] = "",
    status: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(STATUSES)}; may be repeated.")] = None,
    organization: Annotated[str | None, typer.Option(help="instep's id, Clerk's id or the slug.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on where a page ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List people, newest first; without --status all but the deleted. local: without a Clerk account."""
    unknown = sorted(set(status or ()) - set(STATUSES))
    if unknown:
        raise PermanentError(f"{unknown[0]} is none of {', '.join(STATUSES)}.", code="unknown_status")
    statuses: Any = frozenset(status or ())
    start = decode_cursor(cursor) if cursor else None
    ask = Ask(limit=limit, query=query, statuses=statuses, organization=organization, cursor=start)
    found = with_services(lambda services: services.profiles.users.list(BREAK_GLASS, ask))
    return _echo(page_of(found)) if as_json else _print_page(found)


@app.command()
def user(person: Person, as_json: AsJson = False) -> None:
    """Show one person."""

    async def run(services: Services) -> User:
        return user_of(await services.profiles.users.get(BREAK_GLASS, await _ref(services, person)))

    _print(with_services(run), as_json)


@app.command()
def edit(
    person: Person,
    first_name: Text = None,
    last_name: Text = None,
    username: Text = None,
    data: More = None,
    as_json: AsJson = False,
) -> None:
    """Edit a profile, in Clerk and here; an empty text clears a name. The address: user-email."""
    wanted = _read(ProfileEdit, data, first_name=first_name, last_name=last_name, username=username).edit()

    async def run(services: Services) -> User | EmailAnswer:
        done = await services.profiles.edit(BREAK_GLASS, await _ref(services, person), wanted)
        return email_answer_of(done) if isinstance(done, EmailChange) else user_of(done)

    _print(with_services(run), as_json)


@app.command("user-create")
def create(
    email: Annotated[str, typer.Argument()],
    first_name: Text = None,
    last_name: Text = None,
    data: More = None,
    local: Annotated[bool, typer.Option("--local", help="In the database only, without a Clerk account.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a person, in Clerk and here."""
    profile: Edit = _read(NewUser, data, email=email, first_name=first_name, last_name=last_name).profile()

    async def run(services: Services) -> User:
        return user_of(await services.profiles.manage.create(BREAK_GLASS, profile, in_clerk=not local))

    _print(with_services(run), as_json)


@app.command("user-delete")
def delete(
    person: Person,
    clerk: Annotated[str, typer.Option(help="In Clerk: delete, only ban, or keep (and sign out).")] = "delete",
    as_json: AsJson = False,
) -> None:
    """Delete a person, softly: user-restore brings them back."""
    if clerk not in ("delete", "ban", "keep"):
        raise PermanentError("--clerk is delete, ban or keep.", code="unknown_choice")
    choice: Any = clerk

    async def run(services: Services) -> User:
        ref = await _ref(services, person)
        return user_of(await services.profiles.manage.delete(BREAK_GLASS, ref, clerk=choice))

    _print(with_services(run), as_json)


@app.command("user-restore")
def restore(person: Person, as_json: AsJson = False) -> None:
    """Bring a deleted person back; without a Clerk account where Clerk has deleted theirs."""

    async def run(services: Services) -> User:
        return user_of(await services.profiles.manage.restore(BREAK_GLASS, await _ref(services, person)))

    _print(with_services(run), as_json)


@app.command("user-ban")
def ban(person: Person, as_json: AsJson = False) -> None:
    """Ban a person; where Clerk's plan has no bans they are deactivated here and signed out everywhere."""

    async def run(services: Services) -> User:
        banned, note = await services.profiles.manage.ban(BREAK_GLASS, await _ref(services, person))
        return user_of(banned, note=note)

    _print(with_services(run), as_json)


@app.command("user-unban")
def unban(person: Person, as_json: AsJson = False) -> None:
    """Let a person in again: lifts a ban, and a deactivation of the whole account."""

    async def run(services: Services) -> User:
        return user_of(await services.profiles.manage.unban(BREAK_GLASS, await _ref(services, person)))

    _print(with_services(run), as_json)


@app.command("user-email")
def email(
    person: Person,
    address: Annotated[str, typer.Argument(help="The new address.")],
    yes: Annotated[bool, typer.Option("--yes", help="Invite anew and deactivate, without being asked.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change an address, by the policy INSTEP_EMAIL_CHANGE; inviting anew asks before it does anything."""

    async def look(services: Services) -> EmailAnswer | User:
        done = await services.profiles.edit(BREAK_GLASS, await _ref(services, person), Edit(email=address))
        return email_answer_of(done) if isinstance(done, EmailChange) else user_of(done)

    async def run(services: Services) -> EmailAnswer:
        return email_answer_of(await services.profiles.change_email(BREAK_GLASS, await _ref(services, person), address))

    answer = with_services(look)
    if isinstance(answer, EmailAnswer) and answer.requires_invitation and not as_json:
        for words in answer.consequences:
            typer.echo(words)
        yes = yes or typer.confirm("Go on?")
    if isinstance(answer, EmailAnswer) and answer.requires_invitation and yes:
        answer = with_services(run)
    _print(answer, as_json)


@app.command("user-verify")
def verify(
    person: Person,
    verification: Annotated[str, typer.Argument(help="What user-email answered.")],
    code: Annotated[str, typer.Option(prompt=True, hide_input=True, help="The code that was sent.")],
    as_json: AsJson = False,
) -> None:
    """Prove a new address by the code that was sent to it."""

    async def run(services: Services) -> EmailAnswer:
        ref = await _ref(services, person)
        return email_answer_of(await services.profiles.change_email.verify(BREAK_GLASS, ref, verification, code))

    _print(with_services(run), as_json)


@app.command("user-password")
def password(
    person: Person,
    secret: Annotated[str, typer.Option("--password", prompt="Password", hide_input=True)],
    as_json: AsJson = False,
) -> None:
    """Set a password, in Clerk only; it is asked for, and kept nowhere here."""

    async def run(services: Services) -> User:
        return user_of(await services.profiles.set_password(BREAK_GLASS, await _ref(services, person), secret))

    _print(with_services(run), as_json)


async def _ref(services: Services, text: str) -> str:
    """An id; of an address, that of the one person who has it."""
    if "@" not in text:
        return text
    every: Any = frozenset(STATUSES)
    found = await services.profiles.users.list(BREAK_GLASS, Ask(limit=500, query=text.strip(), statuses=every))
    ids = [it.person.id for it in found.rows if is_same(it.person.email, text.strip())]
    if len(ids) != 1:
        words = f"Nobody has the address {text}." if not ids else f"Several people have had {text}: {', '.join(ids)}."
        raise PermanentError(words, code="user_not_found")
    return ids[0]


def _read(shape: type[Any], data: str | None, **fields: str | None) -> Any:
    """What the options and --data ask for. Raises PermanentError."""
    try:
        given = msgspec.json.decode(data or "{}", type=dict[str, Any])
        return shape.model_validate(given | {name: value for name, value in fields.items() if value is not None})
    except (msgspec.MsgspecError, ValidationError) as error:
        raise PermanentError(f"--data can't be used: {error}", code="invalid_data") from error


def _print(shown: User | EmailAnswer, is_json: bool) -> None:
    if is_json:
        return _echo(shown)
    if isinstance(shown, EmailAnswer):
        return _print_change(shown)
    name = " ".join(part for part in (shown.first_name, shown.last_name) if part) or shown.username or ""
    typer.echo(f"{name} <{shown.email}>: {shown.status}, {shown.id}, {shown.clerk_id or 'without a Clerk account'}")
    for it in shown.organizations:
        typer.echo(f"  {it.name}: {it.role}, {it.status}")
    return typer.echo(shown.note) if shown.note else None


def _print_change(shown: EmailAnswer) -> None:
    typer.echo(f"{shown.email}: {shown.outcome.replace('_', ' ')}")
    for it in shown.organizations:
        typer.echo(f"  {it.name}: {it.state}{f' ({it.detail})' if it.detail else ''}")
    if shown.verification:
        typer.echo(f"A code was sent. Give it to: instep user-verify USER {shown.verification}")
    if shown.note:
        typer.echo(shown.note)


def _print_page(found: Users) -> None:
    table = Table("Person", "Role", "Status", "Organizations", "Id")
    for it in found.rows:
        organizations = ", ".join(f"{here.name} ({here.role})" for here in it.belongings)
        table.add_row(f"{it.person.name} <{it.person.email}>", it.role or "", it.status, organizations, it.person.id)
    Console().print(table)
    if found.next_cursor:
        typer.echo(f"More: --cursor {found.next_cursor}")


def _echo(shown: BaseModel) -> None:
    typer.echo(shown.model_dump_json())
