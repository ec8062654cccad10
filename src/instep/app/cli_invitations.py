"""Commands about invitations: invite, resend and revoke."""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from instep.access.principal import Access
from instep.app.cli_run import AsJson, Organization, access_to, with_services
from instep.app.wiring import Services
from instep.identity.model import ClerkId, Invitation
from instep.identity.roles import Roles
from instep.invitations.batch import Batch
from instep.invitations.flows import Wanted
from instep.invitations.many import Preview
from instep.invitations.preview import Wish, read
from instep.invitations.rules import EXPIRES_IN_DAYS, MOST_DAYS, checked_role
from instep.kit.clock import to_iso
from instep.kit.errors import PermanentError

app = typer.Typer()
Which = Annotated[str, typer.Argument(metavar="INVITATION", help="Clerk's id of it, or its address.")]
WHOM = "Addresses; @FILE for a list, or a CSV with email, role, name; - for standard input."
People = Annotated[list[str], typer.Argument(metavar="EMAIL...", help=WHOM)]
HOW = "Such as org:admin, for those whose role the CSV does not tell; else the instance's default one."
Role = Annotated[str | None, typer.Option(help=HOW)]
NoMail = Annotated[bool, typer.Option("--no-mail", help="Only make the link, send no mail.")]


@app.command()
def invite(
    organization: Organization,
    people: People,
    role: Role = None,
    days: Annotated[int, typer.Option(min=1, max=MOST_DAYS, help="How long it can be accepted.")] = EXPIRES_IN_DAYS,
    no_mail: NoMail = False,
    as_json: AsJson = False,
) -> None:
    """Invite one person or many; what can't be sent now is sent by the server's worker."""
    texts = _texts(people)
    more: Any = {"expires_in_days": days, "notify": not no_mail}

    async def run(services: Services) -> Invitation | Batch:
        access = await access_to(services, organization)
        wishes = _wishes(texts, role, access.roles)
        if len(wishes) > 1:
            return await _send(services, access, wishes, more)
        wanted = Wanted(email=wishes[0].email, role=wishes[0].role, name=wishes[0].name, **more)
        return await services.invitations.invite.send(access, wanted)

    made = with_services(run)
    return _print(made, as_json) if isinstance(made, Invitation) else _print_batch(made, as_json)


@app.command("preview-invitations")
def preview(organization: Organization, people: People, role: Role = None, as_json: AsJson = False) -> None:
    """Say what `invite` would do with each; nothing is sent."""
    texts = _texts(people)

    async def run(services: Services) -> Preview:
        access = await access_to(services, organization)
        return await services.invitations.invite_many.preview(access, _wishes(texts, role, access.roles))

    _print_preview(with_services(run), as_json)


@app.command()
def resend(organization: Organization, invitation: Which, no_mail: NoMail = False, as_json: AsJson = False) -> None:
    """Send an invitation again; the old link is dead from then on."""

    async def run(services: Services) -> Invitation:
        access = await access_to(services, organization)
        id = await _id(services, access.organization_clerk_id, invitation)
        return await services.invitations.resend(access, invitation=id, notify=not no_mail)

    _print(with_services(run), as_json)


@app.command()
def revoke(organization: Organization, invitation: Which, as_json: AsJson = False) -> None:
    """Take an invitation back."""

    async def run(services: Services) -> Invitation:
        access = await access_to(services, organization)
        id = await _id(services, access.organization_clerk_id, invitation)
        return await services.invitations.revoke(access, invitation=id)

    _print(with_services(run), as_json)


def _texts(people: list[str]) -> list[str]:
    """What the command line names, and the files that it names."""
    written = " ".join(it for it in people if it != "-" and not it.startswith("@"))
    texts = [_read(it) for it in people if it == "-" or it.startswith("@")]
    return ([written] if written else []) + texts


def _wishes(texts: list[str], role: str | None, roles: Roles) -> list[Wish]:
    wanted = checked_role(roles, roles.key_of(role) if role else None)
    return [wish for text in texts for wish in read(text, role=wanted, roles=roles)]


def _read(file: str) -> str:
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file[1:]).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"{file[1:]} can't be read: {error}", code="unreadable") from error


async def _id(services: Services, organization: str | None, which: str) -> str:
    """An invitation's id; of an address, that of its newest one."""
    if "@" not in which or organization is None:
        return which
    listed = await services.clerk.list_invitations(
        ClerkId(organization), statuses=("pending", "expired"), email=which.strip()
    )
    if not listed:
        raise PermanentError(f"{which} has no pending or expired invitation.", code="not_invited")
    return listed[0].clerk_id


async def _send(services: Services, access: Access, wishes: list[Wish], more: Any) -> Batch:
    """Keep the batch, and send at once what is due at once."""
    many = services.invitations.invite_many
    batch = await many.send(access, wishes, **more)
    await services.runner.resume_due()
    return await many.get(access, batch.id)


def _print(invitation: Invitation, is_json: bool) -> None:
    shown = {
        "id": invitation.clerk_id,
        "email": invitation.email,
        "role": invitation.role,
        "status": invitation.status,
        "created_at": to_iso(invitation.created_at),
        "expires_at": to_iso(invitation.expires_at),
    }
    if is_json:
        return _echo(shown)
    return typer.echo(f"{invitation.email}: {invitation.status}, {invitation.role}, until {shown['expires_at']}")


def _print_batch(batch: Batch, is_json: bool) -> None:
    if is_json:
        return _echo({"state": "done" if batch.is_done else "queued"} | msgspec.to_builtins(batch))
    table = Table("Person", "Role", "Status", "Why", title=f"{batch.sent} sent, {batch.total - batch.done} queued")
    for row in batch.rows:
        table.add_row(row.email, row.role, row.status, row.reason or "")
    Console().print(table)
    return None if batch.is_done else typer.echo(f"The server's worker sends the rest: GET /v1/batches/{batch.id}")


def _print_preview(preview: Preview, is_json: bool) -> None:
    if is_json:
        return _echo(msgspec.to_builtins(preview))
    table = Table("Person", "Role", "Would be", "Why", title=f"{preview.sent} of {len(preview.lines)} would be invited")
    for line in preview.lines:
        table.add_row(line.email, line.role, line.verdict, line.note)
    Console().print(table)
    return typer.echo(preview.refusal, err=True) if preview.refusal else None


def _echo(shown: Any) -> None:
    typer.echo(msgspec.json.encode(shown))
