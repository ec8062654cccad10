"""CLI commands of invitations: invite, preview, resend and revoke."""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from instep.app.cli_runtime import JsonOption, OrganizationArgument, get_admin_access, run_with_services
from instep.app.container import Services
from instep.auth.principal import OrganizationAccess
from instep.core.clock import to_iso
from instep.core.errors import PermanentError
from instep.domain.models import ClerkId, ClerkInvitation
from instep.domain.roles import RoleCatalog
from instep.invitations.bulk_service import parse_invitees
from instep.invitations.models import (
    DEFAULT_EXPIRY_DAYS,
    MAX_EXPIRY_DAYS,
    InvitationBatchPreview,
    InvitationBatchProgress,
    InvitationRequest,
    InviteeInput,
)
from instep.invitations.policies import validate_role

app = typer.Typer()
InvitationArgument = Annotated[str, typer.Argument(metavar="INVITATION", help="Clerk's id of it, or its address.")]
EMAILS_HELP = "Addresses; @FILE for a list, or a CSV with email, role, name; - for standard input."
EmailsArgument = Annotated[list[str], typer.Argument(metavar="EMAIL...", help=EMAILS_HELP)]
ROLE_HELP = "Such as org:admin, for those whose role the CSV does not tell; else the instance's default one."
RoleOption = Annotated[str | None, typer.Option(help=ROLE_HELP)]
NoMailOption = Annotated[bool, typer.Option("--no-mail", help="Only make the link, send no mail.")]


@app.command()
def invite(
    organization: OrganizationArgument,
    people: EmailsArgument,
    role: RoleOption = None,
    days: Annotated[
        int, typer.Option(min=1, max=MAX_EXPIRY_DAYS, help="How long it can be accepted.")
    ] = DEFAULT_EXPIRY_DAYS,
    no_mail: NoMailOption = False,
    as_json: JsonOption = False,
) -> None:
    """Invite one person or many; what can't be sent now is sent by the server's worker."""
    texts = _collect_texts(people)
    more: Any = {"expires_in_days": days, "notify": not no_mail}

    async def run(services: Services) -> ClerkInvitation | InvitationBatchProgress:
        access = await get_admin_access(services, organization)
        wishes = _parse_invitees(texts, role, access.roles)
        if len(wishes) > 1:
            return await _send_batch(services, access, wishes, more)
        wanted = InvitationRequest(email=wishes[0].email, role=wishes[0].role, name=wishes[0].name, **more)
        return await services.invitations.invite.send(access, wanted)

    made = run_with_services(run)
    return _print_invitation(made, as_json) if isinstance(made, ClerkInvitation) else _print_batch(made, as_json)


@app.command("preview-invitations")
def preview_invitations(
    organization: OrganizationArgument, people: EmailsArgument, role: RoleOption = None, as_json: JsonOption = False
) -> None:
    """Say what `invite` would do with each; nothing is sent."""
    texts = _collect_texts(people)

    async def run(services: Services) -> InvitationBatchPreview:
        access = await get_admin_access(services, organization)
        return await services.invitations.invite_many.preview(access, _parse_invitees(texts, role, access.roles))

    _print_preview(run_with_services(run), as_json)


@app.command()
def resend(
    organization: OrganizationArgument,
    invitation: InvitationArgument,
    no_mail: NoMailOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send an invitation again; the old link is dead from then on."""

    async def run(services: Services) -> ClerkInvitation:
        access = await get_admin_access(services, organization)
        id = await _find_invitation_id(services, access.organization_clerk_id, invitation)
        return await services.invitations.resend(access, invitation=id, notify=not no_mail)

    _print_invitation(run_with_services(run), as_json)


@app.command()
def revoke(organization: OrganizationArgument, invitation: InvitationArgument, as_json: JsonOption = False) -> None:
    """Take an invitation back."""

    async def run(services: Services) -> ClerkInvitation:
        access = await get_admin_access(services, organization)
        id = await _find_invitation_id(services, access.organization_clerk_id, invitation)
        return await services.invitations.revoke(access, invitation=id)

    _print_invitation(run_with_services(run), as_json)


def _collect_texts(people: list[str]) -> list[str]:
    """What the command line names, and the files that it names."""
    written = " ".join(it for it in people if it != "-" and not it.startswith("@"))
    texts = [_read_file(it) for it in people if it == "-" or it.startswith("@")]
    return ([written] if written else []) + texts


def _parse_invitees(texts: list[str], role: str | None, roles: RoleCatalog) -> list[InviteeInput]:
    wanted = validate_role(roles, roles.key_of(role) if role else None)
    return [wish for text in texts for wish in parse_invitees(text, role=wanted, roles=roles)]


def _read_file(file: str) -> str:
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file[1:]).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"{file[1:]} can't be read: {error}", code="unreadable") from error


async def _find_invitation_id(services: Services, organization: str | None, which: str) -> str:
    """An invitation's id; of an address, that of its newest one."""
    if "@" not in which or organization is None:
        return which
    listed = await services.clerk.list_invitations(
        ClerkId(organization), statuses=("pending", "expired"), email=which.strip()
    )
    if not listed:
        raise PermanentError(f"{which} has no pending or expired invitation.", code="not_invited")
    return listed[0].clerk_id


async def _send_batch(
    services: Services, access: OrganizationAccess, wishes: list[InviteeInput], more: Any
) -> InvitationBatchProgress:
    """Keep the batch, and send at once what is due at once."""
    many = services.invitations.invite_many
    batch = await many.send(access, wishes, **more)
    await services.executor.resume_due()
    return await many.get(access, batch.id)


def _print_invitation(invitation: ClerkInvitation, is_json: bool) -> None:
    shown = {
        "id": invitation.clerk_id,
        "email": invitation.email,
        "role": invitation.role,
        "status": invitation.status,
        "created_at": to_iso(invitation.created_at),
        "expires_at": to_iso(invitation.expires_at),
    }
    if is_json:
        return _print_json(shown)
    return typer.echo(f"{invitation.email}: {invitation.status}, {invitation.role}, until {shown['expires_at']}")


def _print_batch(batch: InvitationBatchProgress, is_json: bool) -> None:
    if is_json:
        return _print_json({"state": "done" if batch.is_done else "queued"} | msgspec.to_builtins(batch))
    table = Table("Person", "Role", "Status", "Why", title=f"{batch.sent} sent, {batch.total - batch.done} queued")
    for row in batch.rows:
        table.add_row(row.email, row.role, row.status, row.reason or "")
    Console().print(table)
    return None if batch.is_done else typer.echo(f"The server's worker sends the rest: GET /v1/batches/{batch.id}")


def _print_preview(preview: InvitationBatchPreview, is_json: bool) -> None:
    if is_json:
        return _print_json(msgspec.to_builtins(preview))
    table = Table("Person", "Role", "Would be", "Why", title=f"{preview.sent} of {len(preview.lines)} would be invited")
    for line in preview.lines:
        table.add_row(line.email, line.role, line.verdict, line.note)
    Console().print(table)
    return typer.echo(preview.refusal, err=True) if preview.refusal else None


def _print_json(shown: Any) -> None:
    typer.echo(msgspec.json.encode(shown))
